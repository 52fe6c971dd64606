//! Keys and revoked tokens that a service publishes.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use edgeway_tests::{Echo, Gateway, PATIENCE, Upstream, eventually};
use jsonwebtoken::Algorithm;
use serde_json::json;

use super::{
    behind, gateway,
    tokens::{P256, RSA, RSA_OTHER, by_key, key_set, token},
    with,
};

/// A service that publishes documents, and may stop to do so.
struct Publisher {
    upstream: Upstream,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// By path. There is no document: the answer is 503.
    documents: Mutex<Vec<(String, String)>>,
    fetches: AtomicUsize,
}

impl Publisher {
    fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let served = Arc::clone(&shared);
        let upstream = Upstream::raw(move |mut caller| {
            while let Some(head) = caller.request() {
                served.fetches.fetch_add(1, Ordering::SeqCst);
                let path = head.split(' ').nth(1).unwrap_or_default();
                caller.send(served.answer(path));
            }
        });
        Self { upstream, shared }
    }

    fn publish(&self, path: &str, text: impl Into<String>) {
        let mut documents = self.shared.documents.lock().unwrap();
        documents.retain(|(known, _)| known != path);
        documents.push((path.to_owned(), text.into()));
    }

    /// Tells that the issuer `/realm` has its keys at `/keys`.
    fn discoverable(&self) {
        let place = json!({ "issuer": self.url("/realm"), "jwks_uri": self.url("/keys") });
        self.publish("/realm/.well-known/openid-configuration", place.to_string());
    }

    fn fail(&self) {
        self.shared.documents.lock().unwrap().clear();
    }

    fn fetches(&self) -> usize {
        self.shared.fetches.load(Ordering::SeqCst)
    }

    /// How often `/keys` was asked for.
    fn key_fetches(&self) -> usize {
        let heads = self.upstream.heads();
        heads
            .iter()
            .filter(|head| head.starts_with("GET /keys "))
            .count()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.upstream)
    }
}

impl Shared {
    fn answer(&self, path: &str) -> String {
        let documents = self.documents.lock().unwrap();
        match documents.iter().find(|(known, _)| known == path) {
            Some((_, text)) => format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            ),
            None => "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_owned(),
        }
    }
}

fn ours(id: &str) -> String {
    by_key(Algorithm::RS256, RSA, Some(id), json!({ "sub": "ann" }))
}

#[test]
fn published_keys_outlive_an_outage_of_their_issuer() {
    let (echo, issuer) = (Echo::start(), Publisher::start());
    issuer.publish("/keys", key_set(&[(Algorithm::RS256, RSA, "one")]));
    let jwks = format!(
        "algorithms: [RS256], jwks: {{ url: '{}', interval: 50ms }}",
        issuer.url("/keys")
    );
    let gateway = Gateway::start(&behind(&echo, &jwks));
    eventually(PATIENCE, || with(&gateway, &ours("one")).status == 200);

    issuer.fail();
    let before = issuer.fetches();
    eventually(PATIENCE, || issuer.fetches() >= before + 2);
    gateway.wait_for_log("can't fetch the key set");
    // A new token, so that it is not one that was remembered.
    let new = by_key(Algorithm::RS256, RSA, Some("one"), json!({ "sub": "bob" }));
    assert_eq!(with(&gateway, &new).status, 200);

    drop(issuer.upstream);
    let newer = by_key(Algorithm::RS256, RSA, Some("one"), json!({ "sub": "cid" }));
    assert_eq!(with(&gateway, &newer).status, 200);
}

#[test]
fn what_has_no_tls_needs_no_authorities() {
    let (echo, issuer) = (Echo::start(), Publisher::start());
    issuer.publish("/keys", key_set(&[(Algorithm::RS256, RSA, "one")]));
    let jwks = format!(
        "algorithms: [RS256], jwks: {{ url: '{}' }}",
        issuer.url("/keys")
    );
    // As in a small container.
    let none = tempfile::tempdir().unwrap();
    let gateway = Gateway::setup(&behind(&echo, &jwks))
        .env("SSL_CERT_FILE", "/dev/null")
        .env("SSL_CERT_DIR", none.path().to_str().unwrap())
        .start();
    eventually(PATIENCE, || with(&gateway, &ours("one")).status == 200);
}

#[test]
fn keys_that_never_came_are_503_and_not_the_fault_of_the_client() {
    let (echo, issuer) = (Echo::start(), Publisher::start());
    let url = issuer.url("/keys");
    let jwks = format!("algorithms: [RS256], jwks: {{ url: '{url}', refetch_interval: 50ms }}");
    let gateway = Gateway::start(&behind(&echo, &jwks));
    let refused = with(&gateway, &ours("one"));
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("Retry-After"), Some("5"));
    assert_eq!(refused.json()["status"], 503);
    assert!(!refused.text().contains("keys"), "{}", refused.text());
    // Without a token nobody needs a key.
    assert_eq!(gateway.get("/").status, 401);
    assert_eq!(echo.stats().requests, 0);

    issuer.publish("/keys", key_set(&[(Algorithm::RS256, RSA, "one")]));
    eventually(PATIENCE, || with(&gateway, &ours("one")).status == 200);
}

#[test]
fn an_unknown_key_id_fetches_the_keys_once_per_interval() {
    let issuer = Publisher::start();
    issuer.discoverable();
    let (url, name) = (issuer.url("/keys"), issuer.url("/realm"));
    let pace = "interval: 1h, refetch_interval: 1s";
    for source in [
        format!("jwks: {{ url: '{url}', {pace} }}"),
        format!("oidc: {{ issuer: '{name}', {pace} }}"),
    ] {
        fetches_once_per_second(&issuer, &name, &source);
    }
}

fn fetches_once_per_second(issuer: &Publisher, name: &str, source: &str) {
    let echo = Echo::start();
    let named = |pem, id: &str| by_key(Algorithm::RS256, pem, Some(id), json!({ "iss": name }));
    issuer.publish("/keys", key_set(&[(Algorithm::RS256, RSA, "one")]));
    let gateway = Gateway::start(&behind(&echo, &format!("algorithms: [RS256], {source}")));
    eventually(PATIENCE, || {
        with(&gateway, &named(RSA, "one")).status == 200
    });
    let (before, started) = (issuer.key_fetches(), Instant::now());

    // The issuer has a new key: a token that names it has it fetched, long before an hour is over.
    let both = [
        (Algorithm::RS256, RSA, "one"),
        (Algorithm::RS256, RSA_OTHER, "two"),
    ];
    issuer.publish("/keys", key_set(&both));
    eventually(PATIENCE, || {
        with(&gateway, &named(RSA_OTHER, "two")).status == 200
    });
    assert!(issuer.key_fetches() > before);

    // Made-up names can't have it fetched again and again.
    for number in 0..100 {
        let forged = named(RSA, &format!("x{number}"));
        assert_eq!(with(&gateway, &forged).status, 401);
    }
    let seconds = started.elapsed().as_secs_f64();
    let fetches = issuer.key_fetches() - before;
    // One more at each end: the last one asked for before may have come after.
    assert!(
        fetches as f64 <= seconds + 2.0,
        "{fetches} fetches in {seconds} seconds"
    );
}

#[test]
fn a_key_that_is_no_longer_published_verifies_no_longer() {
    let (echo, issuer) = (Echo::start(), Publisher::start());
    issuer.publish("/keys", key_set(&[(Algorithm::RS256, RSA, "one")]));
    let jwks = format!(
        "algorithms: [RS256], jwks: {{ url: '{}', interval: 50ms }}",
        issuer.url("/keys")
    );
    let gateway = Gateway::start(&behind(&echo, &jwks));
    eventually(PATIENCE, || with(&gateway, &ours("one")).status == 200);
    issuer.publish("/keys", key_set(&[(Algorithm::RS256, RSA_OTHER, "two")]));
    // Also the token that was remembered.
    eventually(PATIENCE, || with(&gateway, &ours("one")).status == 401);
}

#[test]
fn an_issuer_tells_where_its_keys_are() {
    let (echo, issuer) = (Echo::start(), Publisher::start());
    issuer.discoverable();
    issuer.publish("/keys", key_set(&[(Algorithm::ES256, P256, "one")]));
    let name = issuer.url("/realm");
    let oidc = format!("algorithms: [ES256], oidc: {{ issuer: '{name}', interval: 50ms }}");
    let gateway = Gateway::start(&behind(&echo, &oidc));
    let of = |claims| by_key(Algorithm::ES256, P256, Some("one"), claims);
    eventually(PATIENCE, || {
        with(&gateway, &of(json!({ "iss": name }))).status == 200
    });
    // Its keys are for its own tokens.
    assert_eq!(
        with(&gateway, &of(json!({ "iss": "https://evil.example" }))).status,
        401
    );
    assert_eq!(with(&gateway, &of(json!({}))).status, 401);
    // They are fetched again and again.
    issuer.publish("/keys", key_set(&[(Algorithm::ES256, P256, "two")]));
    eventually(PATIENCE, || {
        with(&gateway, &of(json!({ "iss": name }))).status == 401
    });
}

#[test]
fn a_revoked_token_is_refused_and_others_are_not() {
    let (echo, list) = (Echo::start(), Publisher::start());
    list.publish("/revoked", r#"{ "revoked": [] }"#);
    let url = list.url("/revoked");
    let gateway = gateway(
        &echo,
        &format!("revocations: {{ url: '{url}', interval: 50ms }}"),
    );
    let (ann, bob) = (token(json!({ "jti": "a" })), token(json!({ "jti": "b" })));
    eventually(PATIENCE, || with(&gateway, &ann).status == 200);
    // It could never be revoked.
    assert_eq!(with(&gateway, &token(json!({ "sub": "x" }))).status, 401);

    list.publish("/revoked", r#"{ "revoked": ["a"] }"#);
    eventually(PATIENCE, || with(&gateway, &ann).status == 401);
    assert_eq!(with(&gateway, &bob).status, 200);

    // The list outlives an outage, and the reload of the configuration.
    list.fail();
    let before = list.fetches();
    eventually(PATIENCE, || list.fetches() >= before + 2);
    assert_eq!(with(&gateway, &ann).status, 401);
    assert!(gateway.reload_files());
    assert_eq!(with(&gateway, &ann).status, 401);
    assert_eq!(with(&gateway, &bob).status, 200);
}

#[test]
fn what_happens_without_a_list_of_revoked_tokens_is_configured() {
    let (echo, list) = (Echo::start(), Publisher::start());
    let url = list.url("/revoked");
    let ann = token(json!({ "jti": "a" }));
    let strict = gateway(&echo, &format!("revocations: {{ url: '{url}' }}"));
    assert_eq!(with(&strict, &ann).status, 503);
    let lenient = gateway(
        &echo,
        &format!("revocations: {{ url: '{url}', on_unavailable: allow }}"),
    );
    assert_eq!(with(&lenient, &ann).status, 200);
}

#[test]
fn a_publisher_that_is_silent_is_given_up_after_the_timeout() {
    let (echo, silent) = (Echo::start(), Upstream::silent());
    let jwks = format!("jwks: {{ url: 'http://{silent}/keys', timeout: 100ms }}");
    let oidc = format!("oidc: {{ issuer: 'http://{silent}', timeout: 100ms }}");
    for source in [jwks, oidc] {
        let gateway = Gateway::start(&behind(&echo, &format!("algorithms: [RS256], {source}")));
        assert_eq!(with(&gateway, &ours("one")).status, 503);
        gateway.wait_for_log("no answer in time");
    }
    let list = format!("revocations: {{ url: 'http://{silent}/revoked', timeout: 100ms }}");
    let gateway = gateway(&echo, &list);
    gateway.wait_for_log("no answer in time");
    assert_eq!(with(&gateway, &token(json!({ "jti": "a" }))).status, 503);
}
