//! The filter `introspect`: the issuer of a token is asked whether it is good.

use std::{thread::sleep, time::Duration};

use edgeway_tests::{Answer, Echo, Gateway, PATIENCE, Provider, Wrong, eventually};
use serde_json::{Value, json};

use crate::jwt::tokens::now;

/// A gateway whose only route echoes, behind `introspect` with these keys besides.
fn gateway(provider: &Provider, echo: &Echo, more: &str) -> Gateway {
    Gateway::start(&behind(provider, echo, more))
}

fn behind(provider: &Provider, echo: &Echo, more: &str) -> String {
    let comma = if more.is_empty() { "" } else { ", " };
    format!(
        "
        upstreams:
          echo: {{ endpoints: [{echo}] }}
        filters: [access_log]
        routes:
          - filters:
              - introspect: {{ url: {}/introspect, client_id: \"{}\", client_secret: \"{}\"{comma}{more} }}
              - headers: {{ request: {{ set: {{ X-Seen: \"{{subject}} {{claim.scope}}\" }} }} }}
            upstream: echo
        ",
        provider.issuer(),
        Provider::CLIENT,
        Provider::SECRET,
    )
}

#[track_caller]
fn with(gateway: &Gateway, token: &str) -> Answer {
    gateway.request("GET", "/").bearer(token).send()
}

fn good(more: Value) -> Value {
    let mut said = json!({ "active": true, "sub": "ann", "scope": "read write" });
    let (Value::Object(said_of), Value::Object(more)) = (&mut said, more) else {
        unreachable!("both are objects")
    };
    said_of.extend(more);
    said
}

#[test]
fn a_good_token_passes_and_others_do_not() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let gateway = gateway(
        &provider,
        &echo,
        "forward: { sub: X-Auth-User }, realm: shop",
    );
    let token = provider.token(good(json!({})));
    let answer = with(&gateway, &token);
    assert_eq!(answer.received("x-auth-user"), ["ann"]);
    assert_eq!(answer.received("x-seen"), ["ann read write"]);

    let missing = gateway.get("/");
    assert_eq!(missing.status, 401);
    assert_eq!(
        missing.header("WWW-Authenticate"),
        Some("Bearer realm=\"shop\"")
    );
    let bad = with(&gateway, "unknown");
    assert_eq!(bad.status, 401);
    assert!(
        bad.header("WWW-Authenticate")
            .unwrap()
            .contains("invalid_token")
    );
    let forged = gateway
        .request("GET", "/")
        .header("X-Auth-User", "root")
        .send();
    assert_eq!(forged.status, 401);
    assert_eq!(echo.stats().requests, 1);
}

#[test]
fn a_good_token_is_asked_about_once_in_a_while() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let gateway = gateway(&provider, &echo, "cache: { ttl: 4s }");
    let token = provider.token(good(json!({})));
    for _ in 0..5 {
        assert_eq!(with(&gateway, &token).status, 200);
    }
    assert_eq!(provider.asked("/introspect"), 1);
    provider.withdraw(&token);
    eventually(PATIENCE, || with(&gateway, &token).status == 401);
}

#[test]
fn without_a_cache_every_request_is_asked_about() {
    let (provider, echo) = (Provider::start(), Echo::start());
    for cache in ["{ ttl: 0s, refused_ttl: 0s }", "{ size: 0 }"] {
        let before = provider.asked("/introspect");
        let gateway = gateway(&provider, &echo, &format!("cache: {cache}"));
        let token = provider.token(good(json!({})));
        for _ in 0..3 {
            with(&gateway, &token);
            with(&gateway, "bad");
        }
        assert_eq!(provider.asked("/introspect") - before, 6, "{cache}");
    }
}

#[test]
fn a_bad_token_is_asked_about_again_soon() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let gateway = gateway(&provider, &echo, "cache: { refused_ttl: 3s }");
    for _ in 0..3 {
        assert_eq!(with(&gateway, "token-1").status, 401);
    }
    assert_eq!(provider.asked("/introspect"), 1);
    eventually(PATIENCE, || {
        with(&gateway, "token-1");
        provider.asked("/introspect") == 2
    });
}

#[test]
fn nothing_is_remembered_past_the_end_of_the_token() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let gateway = gateway(&provider, &echo, "cache: { ttl: 1h }");
    let token = provider.token(good(json!({ "exp": now() + 4 })));
    assert_eq!(with(&gateway, &token).status, 200);
    eventually(PATIENCE, || with(&gateway, &token).status == 401);
    let over = provider.token(good(json!({ "exp": now() - 1 })));
    assert_eq!(with(&gateway, &over).status, 401);
    let early = provider.token(good(json!({ "nbf": now() + 60 })));
    assert_eq!(with(&gateway, &early).status, 401);
}

#[test]
fn an_issuer_that_fails_lets_nobody_pass() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let gateway = gateway(&provider, &echo, "timeout: 300ms");
    let known = provider.token(good(json!({})));
    assert_eq!(with(&gateway, &known).status, 200);
    let new = provider.token(good(json!({})));
    for wrong in [Wrong::Away, Wrong::Silent, Wrong::Unwell, Wrong::Rubbish] {
        provider.begin(wrong);
        let answer = with(&gateway, &new);
        assert_eq!(answer.status, 503, "{wrong:?}");
        assert!(answer.header("Retry-After").is_some(), "{wrong:?}");
        // What was remembered is not forgotten.
        assert_eq!(with(&gateway, &known).status, 200, "{wrong:?}");
        provider.end(wrong);
    }
    assert_eq!(with(&gateway, &new).status, 200);
    assert_eq!(echo.stats().requests, 6);
}

#[test]
fn an_issuer_that_does_not_know_us_lets_nobody_pass() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let token = provider.token(good(json!({})));
    let yaml = behind(&provider, &echo, "");
    let id = format!(
        "client_id: \"{}\", client_secret: \"{}\"",
        Provider::CLIENT,
        Provider::SECRET
    );
    for other in ["client_id: other, client_secret: other", "bearer: other"] {
        let gateway = Gateway::start(&yaml.replace(&id, other));
        assert_eq!(with(&gateway, &token).status, 503);
        gateway.wait_for_output("401");
    }
}

#[test]
fn issuer_and_audience_must_fit_if_they_are_given() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let more = "issuer: [one, two], audience: api, subject: client_id";
    let gateway = gateway(&provider, &echo, more);
    for (said, status) in [
        (
            json!({ "iss": "one", "aud": "api", "client_id": "robot" }),
            200,
        ),
        (
            json!({ "iss": "two", "aud": ["x", "api"], "client_id": "robot" }),
            200,
        ),
        (json!({ "iss": "three", "aud": "api" }), 401),
        (json!({ "iss": "one", "aud": "other" }), 401),
        (json!({ "aud": "api" }), 401),
        (json!({ "iss": "one" }), 401),
    ] {
        let token = provider.token(good(said.clone()));
        let answer = with(&gateway, &token);
        assert_eq!(answer.status, status, "{said}");
        if status == 200 {
            assert_eq!(answer.received("x-seen"), ["robot read write"]);
        }
    }
}

#[test]
fn the_token_may_stand_in_another_header_and_be_kept_from_the_upstream() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let token = provider.token(good(json!({})));
    let other = gateway(&provider, &echo, "header: X-Token, strip_token: true");
    let answer = other.request("GET", "/").header("X-Token", &token).send();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.received("x-token"), [""; 0]);
    assert_eq!(with(&other, &token).status, 401);
    let twice = other
        .request("GET", "/")
        .header("X-Token", &token)
        .header("X-Token", "x");
    assert_eq!(twice.send().status, 400);

    let usual = gateway(&provider, &echo, "max_size: 10B");
    assert_eq!(with(&usual, &token).status, 401);
    let usual = gateway(&provider, &echo, "");
    assert_eq!(with(&usual, &token).received("authorization").len(), 1);
}

#[test]
fn nothing_is_asked_about_an_empty_token() {
    let (provider, echo) = (Provider::start(), Echo::start());
    for more in ["", "optional: true"] {
        let usual = gateway(&provider, &echo, more);
        for empty in ["Bearer", "Bearer ", "bearer \t"] {
            let request = usual.request("GET", "/").header("Authorization", empty);
            let answer = request.send();
            assert_eq!(answer.status, 401, "{empty}");
            let challenge = answer.header("WWW-Authenticate").unwrap();
            assert!(challenge.contains("invalid_token"), "{challenge}");
        }
    }
    let other = gateway(&provider, &echo, "header: X-Token");
    let request = other.request("GET", "/").header("X-Token", "");
    assert_eq!(request.send().status, 401);
    assert_eq!(provider.asked("/introspect"), 0);
}

#[test]
fn a_token_that_names_nobody_is_refused() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let gateway = gateway(&provider, &echo, "");
    let token = |said| with(&gateway, &provider.token(said));
    let robot = token(good(json!({ "sub": null, "client_id": "robot" })));
    assert_eq!(robot.received("x-seen"), ["robot read write"]);
    assert_eq!(token(json!({ "active": true })).status, 401);
    assert_eq!(token(good(json!({ "sub": "" }))).status, 401);
    gateway.wait_for_output("names nobody");
}

#[test]
fn requests_without_a_token_pass_as_nobody_if_they_may() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let gateway = gateway(
        &provider,
        &echo,
        "optional: true, forward: { sub: X-Auth-User }",
    );
    let answer = gateway
        .request("GET", "/")
        .header("X-Auth-User", "root")
        .send();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.received("x-auth-user"), [""; 0]);
    assert_eq!(with(&gateway, "bad").status, 401);
}

#[test]
fn requests_with_one_token_at_the_same_time_ask_once() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let gateway = gateway(&provider, &echo, "timeout: 10s");
    let token = provider.token(good(json!({})));
    provider.begin(Wrong::Silent);
    let address = gateway.address();
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let token = token.clone();
            std::thread::spawn(move || {
                edgeway_tests::Request::to(address, "GET", "/")
                    .bearer(&token)
                    .send()
                    .status
            })
        })
        .collect();
    // All have come; those that come later would find the answer.
    sleep(Duration::from_millis(500));
    assert_eq!(provider.connections(), 1);
    provider.end(Wrong::Silent);
    let all: Vec<_> = waiting.into_iter().map(|one| one.join().unwrap()).collect();
    // The one question was given up by the provider.
    assert_eq!(all, [503; 8]);
    assert_eq!(with(&gateway, &token).status, 200);
}

#[test]
fn mistakes_are_told_where_they_are() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let yaml = behind(&provider, &echo, "");
    let id = format!(
        "client_id: \"{}\", client_secret: \"{}\"",
        Provider::CLIENT,
        Provider::SECRET
    );
    for (keys, message) in [
        ("client_id: x", "no `client_secret`"),
        ("client_secret: x", "no `client_id`"),
        ("bearer: x, client_id: x, client_secret: y", "not both"),
        ("realm: x", "answers nobody it does not know"),
        (
            "bearer: x, cache: { size: 99999999 }",
            "can't be remembered",
        ),
        ("bearer: x, timeout: 0s", "longer than nothing"),
        ("bearer: x, audience: []", "no token could match"),
        (
            "bearer: x, forward: { sub: Authorization }",
            "where tokens stand",
        ),
    ] {
        let said = Gateway::refused(&yaml.replace(&id, keys));
        assert!(said.contains(message), "{keys}: {said}");
    }
}
