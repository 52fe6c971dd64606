//! Key sets and lists of revoked tokens that are fetched.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jsonwebtoken::jwk::Jwk;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;

const NEVER: &str = "1000h";

/// A service that publishes documents.
struct Service {
    address: String,
    answer: Arc<Mutex<(u16, String)>>,
    requests: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Service {
    async fn new(status: u16, body: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new((status, body.to_string())));
        let requests = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Arc::clone(&answer), Arc::clone(&requests)));
        Self {
            address,
            answer,
            requests,
            _tasks: tasks,
        }
    }

    fn publish(&self, status: u16, body: &Value) {
        *self.answer.lock().unwrap() = (status, body.to_string());
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Waits until so many more requests were answered.
    async fn asked(&self, more: usize) {
        let wanted = self.requests() + more;
        until(|| self.requests() >= wanted).await;
    }
}

async fn serve(
    listener: TcpListener,
    answer: Arc<Mutex<(u16, String)>>,
    requests: Arc<AtomicUsize>,
) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let path = head(&mut stream).await;
        let (status, body) = answer.lock().unwrap().clone();
        let own = format!("http://{}", listener.local_addr().unwrap());
        // The issuer's configuration is told apart by its path.
        let body = if path.starts_with("/.well-known/openid-configuration") {
            json!({ "issuer": own, "jwks_uri": format!("{own}/keys") }).to_string()
        } else {
            body
        };
        requests.fetch_add(1, Ordering::SeqCst);
        let text = format!(
            "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nlocation: /x\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        drop(stream.write_all(text.as_bytes()).await);
    }
}

async fn head(stream: &mut TcpStream) -> String {
    let (mut text, mut piece) = (Vec::new(), [0; 1024]);
    while !text.ends_with(b"\r\n\r\n") {
        let size = stream.read(&mut piece).await.unwrap_or(0);
        if size == 0 {
            break;
        }
        text.extend_from_slice(&piece[..size]);
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    text.split(' ').nth(1).unwrap_or_default().to_owned()
}

async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(20), wait).await;
    done.expect("the condition comes true");
}

fn jwk(algorithm: Algorithm, pem: &str, id: &str) -> Value {
    let key = signing_key(algorithm, pem);
    let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap();
    jwk["kid"] = id.into();
    jwk
}

fn rsa_set(id: &str) -> Value {
    json!({ "keys": [jwk(Algorithm::RS256, RSA, id)] })
}

fn rsa_token(id: &str) -> String {
    by_key(Algorithm::RS256, RSA, Some(id), json!({}))
}

fn config(service: &Service, interval: &str, refetch: &str) -> Value {
    json!({
        "algorithms": ["RS256"],
        "jwks": {
            "url": format!("{}/keys", service.address),
            "interval": interval, "timeout": "10s", "refetch_interval": refetch
        }
    })
}

/// The filter, once it has its keys.
async fn fetched(config: Value) -> Built {
    let jwt = built(config);
    until(|| jwt.filter.keys.edition() > 0).await;
    jwt
}

#[tokio::test]
async fn published_keys_verify_by_their_names() {
    let set = json!({ "keys": [
        jwk(Algorithm::RS256, RSA_OTHER, "other"),
        jwk(Algorithm::RS256, RSA, "rsa"),
        jwk(Algorithm::ES256, P256, "p256"),
        jwk(Algorithm::ES384, P384, "p384"),
        jwk(Algorithm::EdDSA, ED25519, "ed"),
    ]});
    let service = Service::new(200, &set).await;
    let mut config = config(&service, NEVER, NEVER);
    config["algorithms"] = json!(["RS256", "PS256", "ES256", "ES384", "EdDSA"]);
    let jwt = fetched(config).await;
    let cases = [
        (Algorithm::RS256, RSA, Some("rsa"), 200),
        (Algorithm::RS256, RSA, None, 200),
        (Algorithm::RS256, RSA, Some("other"), 401),
        // The key is published for RS256 only.
        (Algorithm::PS256, RSA, Some("rsa"), 401),
        (Algorithm::ES256, P256, Some("p256"), 200),
        (Algorithm::ES384, P384, Some("p384"), 200),
        (Algorithm::EdDSA, ED25519, Some("ed"), 200),
        (Algorithm::EdDSA, ED25519, Some("p256"), 401),
    ];
    for (algorithm, pem, id, status) in cases {
        let token = by_key(algorithm, pem, id, json!({}));
        assert_eq!(jwt.status(&token).await, status, "{algorithm:?} {id:?}");
    }
    assert_eq!(service.requests(), 1);
}

#[tokio::test]
async fn before_any_keys_were_fetched_nothing_can_be_told() {
    let service = Service::new(500, &json!({})).await;
    let jwt = built(config(&service, "10ms", NEVER));
    service.asked(1).await;
    let outcome = jwt.run(Trial::get("/").bearer(&rsa_token("a"))).await;
    assert_eq!(outcome.status(), 503);
    assert_eq!(outcome.header("retry-after"), Some("5"));
    assert_eq!(jwt.run(Trial::get("/")).await.status(), 401);
    assert_eq!(jwt.status("x.y.z").await, 401);

    service.publish(200, &rsa_set("a"));
    until(|| jwt.filter.keys.edition() > 0).await;
    assert_eq!(jwt.status(&rsa_token("a")).await, 200);
}

#[tokio::test]
async fn an_outage_leaves_the_last_good_keys_in_use() {
    let service = Service::new(200, &rsa_set("a")).await;
    let jwt = fetched(config(&service, "10ms", NEVER)).await;
    let large = json!({ "keys": [], "x": "x".repeat(1 << 20) });
    let outages = [
        (500, json!({})),
        (302, rsa_set("b")),
        (200, json!("no key set")),
        (200, json!({ "keys": "x" })),
        (200, large),
    ];
    for (status, body) in outages {
        service.publish(status, &body);
        service.asked(2).await;
        assert_eq!(jwt.filter.keys.edition(), 1);
        assert_eq!(
            jwt.status(&by_key(
                Algorithm::RS256,
                RSA,
                Some("a"),
                json!({ "n": status })
            ))
            .await,
            200
        );
    }
}

#[tokio::test]
async fn a_key_that_is_no_longer_published_ends_remembered_tokens() {
    let service = Service::new(200, &rsa_set("a")).await;
    let jwt = fetched(config(&service, "10ms", NEVER)).await;
    let token = rsa_token("a");
    assert_eq!(jwt.status(&token).await, 200);
    service.asked(2).await;
    assert_eq!(
        jwt.filter.keys.edition(),
        1,
        "what has not changed is no edition"
    );
    assert!(jwt.filter.remembered.find(&token, 1, now()).is_some());

    service.publish(
        200,
        &json!({ "keys": [jwk(Algorithm::RS256, RSA_OTHER, "b")] }),
    );
    until(|| jwt.filter.keys.edition() == 2).await;
    assert_eq!(jwt.status(&token).await, 401);
}

#[tokio::test]
async fn an_unknown_key_id_causes_one_fetch_for_all() {
    let service = Service::new(200, &rsa_set("a")).await;
    let jwt = Arc::new(fetched(config(&service, NEVER, NEVER)).await);
    let mut all = JoinSet::new();
    for n in 0..20 {
        let jwt = Arc::clone(&jwt);
        all.spawn(async move { jwt.status(&rsa_token(&format!("unknown {n}"))).await });
    }
    assert!(all.join_all().await.into_iter().all(|status| status == 401));
    assert_eq!(service.requests(), 2);
    assert_eq!(jwt.status(&rsa_token("unknown")).await, 401);
    assert_eq!(service.requests(), 2);
    assert_eq!(jwt.status(&rsa_token("a")).await, 200);
}

#[tokio::test]
async fn a_new_key_is_fetched_by_the_first_token_that_needs_it() {
    let service = Service::new(200, &rsa_set("a")).await;
    let jwt = Arc::new(fetched(config(&service, NEVER, NEVER)).await);
    service.publish(200, &rsa_set("b"));
    let mut all = JoinSet::new();
    for n in 0..10 {
        let jwt = Arc::clone(&jwt);
        let token = by_key(Algorithm::RS256, RSA, Some("b"), json!({ "n": n }));
        all.spawn(async move { jwt.status(&token).await });
    }
    assert!(all.join_all().await.into_iter().all(|status| status == 200));
    assert_eq!(service.requests(), 2);
}

#[tokio::test]
async fn after_the_interval_an_unknown_key_id_is_asked_for_again() {
    let service = Service::new(200, &rsa_set("a")).await;
    let jwt = fetched(config(&service, NEVER, "1us")).await;
    for requests in 2..5 {
        assert_eq!(jwt.status(&rsa_token("unknown")).await, 401);
        assert_eq!(service.requests(), requests);
    }
}

#[tokio::test]
async fn what_could_not_come_from_the_issuer_causes_no_fetch() {
    let service = Service::new(200, &rsa_set("a")).await;
    let mut config = config(&service, NEVER, "1us");
    config["algorithms"] = json!(["RS256", "HS256"]);
    config["secret"] = SECRET.into();
    let jwt = fetched(config).await;
    let forged = by_key(Algorithm::RS256, RSA_OTHER, Some("a"), json!({}));
    let nameless = by_key(Algorithm::RS256, RSA_OTHER, None, json!({}));
    let symmetric = by_key(Algorithm::HS256, "guessed", Some("b"), json!({}));
    for token in [forged, nameless, symmetric] {
        assert_eq!(jwt.status(&token).await, 401);
    }
    assert_eq!(jwt.status(&token(json!({}))).await, 200);
    assert_eq!(service.requests(), 1);
}

#[tokio::test]
async fn unusable_keys_are_left_out_of_a_set() {
    let weak = b64([0xff; 128]);
    let mut encrypting = jwk(Algorithm::RS256, RSA, "enc");
    encrypting["use"] = "enc".into();
    let mut signing = jwk(Algorithm::RS256, RSA, "sign");
    signing["key_ops"] = json!(["sign"]);
    let set = json!({ "keys": [
        { "kty": "oct", "k": b64(SECRET), "alg": "HS256", "kid": "oct" },
        { "kty": "RSA", "n": weak, "e": "AQAB", "kid": "weak" },
        { "kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "curve" },
        { "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "short" },
        { "kty": "OKP", "crv": "X25519", "x": b64([1; 32]) },
        { "kty": "AKP", "alg": "ML-DSA-44", "pub": "x" },
        { "kty": "RSA" },
        { "kty": 5 },
        "x",
        encrypting,
        signing,
        jwk(Algorithm::RS256, RSA, "good"),
    ]});
    let parsed = jwks::KeySet::parse(set.to_string().as_bytes()).unwrap();
    assert_eq!(parsed.keys.len(), 1);
    let skipped = parsed.skipped_text().unwrap();
    assert_eq!(skipped.split("; ").count(), 11, "{skipped}");
    assert!(!skipped.contains(&b64(SECRET)));

    let service = Service::new(200, &set).await;
    let mut config = config(&service, NEVER, "1us");
    config["algorithms"] = json!(["RS256", "HS256"]);
    config["secret"] = "x".repeat(32).into();
    let jwt = fetched(config).await;
    assert_eq!(jwt.status(&rsa_token("good")).await, 200);
    assert_eq!(jwt.status(&rsa_token("enc")).await, 401);
    assert_eq!(
        jwt.status(&by_key(Algorithm::HS256, SECRET, Some("oct"), json!({})))
            .await,
        401
    );
}

#[tokio::test]
async fn a_key_set_may_be_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    std::fs::write(&file, rsa_set("a").to_string()).unwrap();
    let jwt = built(json!({ "algorithms": ["RS256"], "jwks_file": file }));
    assert_eq!(jwt.status(&rsa_token("a")).await, 200);
    assert_eq!(jwt.status(&rsa_token("b")).await, 401);
    let other = try_built(
        json!({ "algorithms": ["ES256"], "jwks_file": file }),
        &Resources::default(),
    );
    assert_eq!(other.err().unwrap().key.as_deref(), Some("jwks_file"));
}

#[tokio::test]
async fn an_issuer_tells_where_its_keys_are() {
    let service = Service::new(200, &rsa_set("a")).await;
    let issuer = service.address.clone();
    let oidc = |issuer: &str| {
        json!({ "algorithms": ["RS256"], "oidc": {
            "issuer": issuer, "interval": "10ms", "timeout": "10s", "refetch_interval": NEVER
        }})
    };
    let jwt = fetched(oidc(&issuer)).await;
    let token = |issuer: &str| by_key(Algorithm::RS256, RSA, Some("a"), json!({ "iss": issuer }));
    assert_eq!(jwt.status(&token(&issuer)).await, 200);
    assert_eq!(jwt.status(&token("https://evil.example")).await, 401);
    assert_eq!(jwt.status(&rsa_token("a")).await, 401);

    // Its configuration names an issuer without the slash: that is another one.
    drop(jwt);
    let jwt = built(oidc(&format!("{issuer}/")));
    service.asked(3).await;
    assert_eq!(jwt.filter.keys.edition(), 0);
    assert_eq!(jwt.status(&token(&issuer)).await, 503);
}

#[tokio::test]
async fn filters_and_reloads_share_a_key_set_and_its_fetches() {
    let service = Service::new(200, &rsa_set("a")).await;
    let resources = Resources::default();
    let first = try_built(config(&service, NEVER, NEVER), &resources).unwrap();
    until(|| first.filter.keys.edition() > 0).await;
    let second = try_built(config(&service, NEVER, NEVER), &resources).unwrap();
    assert_eq!(second.status(&rsa_token("a")).await, 200);
    drop(first);
    assert_eq!(second.status(&rsa_token("unknown")).await, 401);
    assert_eq!(service.requests(), 2);
}

fn revocations(service: &Service, on_unavailable: &str) -> Value {
    with(json!({ "revocations": {
        "url": format!("{}/revocations", service.address),
        "interval": "10ms", "timeout": "10s", "on_unavailable": on_unavailable
    }}))
}

#[tokio::test]
async fn a_revoked_token_is_refused_though_it_is_remembered() {
    let service = Service::new(200, &json!({ "revoked": ["x"] })).await;
    let jwt = built(revocations(&service, "refuse"));
    service.asked(2).await;
    let [a, b] = ["a", "b"].map(|id| token(json!({ "jti": id })));
    assert_eq!(jwt.status(&a).await, 200);
    assert_eq!(jwt.status(&b).await, 200);
    assert_eq!(jwt.status(&token(json!({ "jti": "x" }))).await, 401);
    assert_eq!(
        jwt.status(&token(json!({}))).await,
        401,
        "what has no id can't be revoked"
    );

    service.publish(200, &json!({ "revoked": ["a"] }));
    service.asked(2).await;
    assert_eq!(jwt.status(&a).await, 401);
    assert_eq!(jwt.status(&b).await, 200);

    service.publish(500, &json!({}));
    service.asked(1).await;
    assert_eq!(jwt.status(&a).await, 401, "an outage brings no token back");
    assert_eq!(jwt.status(&b).await, 200);
}

#[tokio::test]
async fn before_any_list_was_fetched_the_configuration_decides() {
    let service = Service::new(500, &json!({})).await;
    let token = token(json!({ "jti": "a" }));
    assert_eq!(
        built(revocations(&service, "refuse")).status(&token).await,
        503
    );
    assert_eq!(
        built(revocations(&service, "allow")).status(&token).await,
        200
    );
    assert_eq!(
        built(revocations(&service, "refuse")).status("x").await,
        401
    );
}
