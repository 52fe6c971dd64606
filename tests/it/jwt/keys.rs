//! What signatures are verified with: secrets, PEM files, a key set in a file.

use edgeway_tests::{Answer, Echo, Gateway};
use jsonwebtoken::Algorithm;
use serde_json::json;

use super::{
    behind,
    tokens::{
        ED25519, ED25519_PUBLIC, P256, P256_PUBLIC, P384, RSA, RSA_PUBLIC, SECRET, by_key, key_set,
        lasting, raw,
    },
    with,
};

fn status(gateway: &Gateway, token: &str) -> u16 {
    with(gateway, token).status
}

#[test]
fn every_algorithm_of_a_secret_verifies() {
    let echo = Echo::start();
    let jwt = format!("algorithms: [HS256, HS384, HS512], secret: {SECRET}");
    let gateway = Gateway::start(&behind(&echo, &jwt));
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        assert_eq!(
            status(&gateway, &by_key(algorithm, SECRET, None, json!({}))),
            200,
            "{algorithm:?}"
        );
    }
}

#[test]
fn a_secret_may_be_written_in_base64() {
    let echo = Echo::start();
    let jwt = "algorithms: [HS256], secret_base64: env:SECRET";
    let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, SECRET);
    let gateway = Gateway::setup(&behind(&echo, jwt))
        .env("SECRET", &encoded)
        .start();
    assert_eq!(
        status(&gateway, &by_key(Algorithm::HS256, SECRET, None, json!({}))),
        200
    );
    assert_eq!(
        status(
            &gateway,
            &by_key(Algorithm::HS256, &encoded, None, json!({}))
        ),
        401
    );
}

#[test]
fn keys_in_pem_files_verify() {
    let echo = Echo::start();
    let jwt = "algorithms: [RS256, PS256, ES256, EdDSA], public_keys: [keys/rsa.pem, keys/ec.pem, keys/ed.pem]";
    let gateway = Gateway::setup(&behind(&echo, jwt))
        .file("keys/rsa.pem", RSA_PUBLIC)
        .file("keys/ec.pem", P256_PUBLIC)
        .file("keys/ed.pem", ED25519_PUBLIC)
        .start();
    let keys = [
        (Algorithm::RS256, RSA),
        (Algorithm::PS256, RSA),
        (Algorithm::ES256, P256),
        (Algorithm::EdDSA, ED25519),
    ];
    for (algorithm, key) in keys {
        let token = by_key(algorithm, key, None, json!({ "sub": "ann" }));
        assert_eq!(status(&gateway, &token), 200, "{algorithm:?}");
        // Remembered, it passes as well.
        assert_eq!(status(&gateway, &token), 200, "{algorithm:?}");
    }
}

#[test]
fn keys_in_a_key_set_file_verify_the_tokens_that_name_them() {
    let echo = Echo::start();
    let jwt = "algorithms: [RS256, ES256, ES384, EdDSA], jwks_file: keys.json";
    let keys = [
        (Algorithm::RS256, RSA, "rsa"),
        (Algorithm::ES256, P256, "p256"),
        (Algorithm::ES384, P384, "p384"),
        (Algorithm::EdDSA, ED25519, "ed"),
    ];
    let gateway = Gateway::setup(&behind(&echo, jwt))
        .file("keys.json", key_set(&keys))
        .start();
    for (algorithm, key, id) in keys {
        assert_eq!(
            status(&gateway, &by_key(algorithm, key, Some(id), json!({}))),
            200,
            "{id}"
        );
        assert_eq!(
            status(&gateway, &by_key(algorithm, key, None, json!({}))),
            200,
            "{id}"
        );
        assert_eq!(
            status(&gateway, &by_key(algorithm, key, Some("x"), json!({}))),
            401,
            "{id}"
        );
    }
}

#[test]
fn other_keys_take_effect_at_a_reload() {
    let echo = Echo::start();
    let first = format!("algorithms: [HS256], secret: {SECRET}");
    let second = "algorithms: [HS256], secret: another-secret-that-is-long-enough-for-it";
    let gateway = Gateway::start(&behind(&echo, &first));
    let token = by_key(Algorithm::HS256, SECRET, None, json!({}));
    assert_eq!(status(&gateway, &token), 200);
    assert!(gateway.reload(&behind(&echo, second)));
    // What was remembered went with the old keys.
    assert_eq!(status(&gateway, &token), 401);
}

#[test]
fn one_token_serves_every_place_that_it_may_be_in() {
    let echo = Echo::start();
    let jwt = format!(
        "algorithms: [HS256], secret: {SECRET}, from: [{{ cookie: session }}, {{ query: jwt }}]"
    );
    let gateway = Gateway::start(&behind(&echo, &jwt));
    let good = super::token(json!({}));
    let by_cookie = |value: &str| -> Answer {
        let cookie = format!("theme=dark; session={value}; lang=en");
        gateway.request("GET", "/").header("Cookie", cookie).send()
    };
    assert_eq!(by_cookie(&good).status, 200);
    assert_eq!(by_cookie("x.y.z").status, 401);
    assert_eq!(by_cookie("").status, 401);
    assert_eq!(gateway.get(&format!("/?jwt={good}&x=1")).status, 200);
    assert_eq!(gateway.get("/?jwt=x.y.z").status, 401);
    // `header` is not among the places.
    assert_eq!(status(&gateway, &good), 401);
    // A bad token in the first place is not made good by one in the next.
    let both = gateway
        .request("GET", &format!("/?jwt={good}"))
        .header("Cookie", "session=x.y.z")
        .send();
    assert_eq!(both.status, 401);
}

#[test]
fn a_stripped_token_is_not_seen_by_the_upstream() {
    let echo = Echo::start();
    let from = "from: [header, { cookie: session }]";
    let jwt = format!("algorithms: [HS256], secret: {SECRET}, {from}");
    let good = super::token(json!({}));
    let seen = |jwt: &str| {
        let gateway = Gateway::start(&behind(&echo, jwt));
        let request = gateway.request("GET", "/").bearer(&good);
        let answer = request.header("Cookie", "a=1; session=x; b=2").send();
        (
            answer.received("authorization").len(),
            answer.received("cookie"),
        )
    };
    assert_eq!(seen(&jwt), (1, vec!["a=1; session=x; b=2".to_owned()]));
    assert_eq!(
        seen(&format!("{jwt}, strip_token: true")),
        (0, vec!["a=1; b=2".to_owned()])
    );
}

#[test]
fn a_token_is_as_long_as_it_may_be_and_no_longer() {
    let echo = Echo::start();
    let good = super::token(json!({ "sub": "ann" }));
    let limited = |size: usize| {
        let jwt = format!("algorithms: [HS256], secret: {SECRET}, max_size: {size}B");
        status(&Gateway::start(&behind(&echo, &jwt)), &good)
    };
    assert_eq!(limited(good.len()), 200);
    assert_eq!(limited(good.len() - 1), 401);
}

#[test]
fn a_token_need_not_expire_if_that_is_said() {
    let echo = Echo::start();
    let eternal = raw(r#"{"alg":"HS256"}"#, "{}", Algorithm::HS256, SECRET);
    assert_eq!(status(&super::gateway(&echo, ""), &eternal), 401);
    assert_eq!(
        status(&super::gateway(&echo, "require_exp: false"), &eternal),
        200
    );
}

#[test]
fn clocks_may_differ_by_the_leeway() {
    let echo = Echo::start();
    let gateway = super::gateway(&echo, "leeway: 1m");
    let now = super::tokens::now();
    let token = |claims| {
        raw(
            r#"{"alg":"HS256"}"#,
            lasting(claims).to_string(),
            Algorithm::HS256,
            SECRET,
        )
    };
    assert_eq!(status(&gateway, &token(json!({ "exp": now - 30 }))), 200);
    assert_eq!(status(&gateway, &token(json!({ "exp": now - 61 }))), 401);
    assert_eq!(status(&gateway, &token(json!({ "nbf": now + 30 }))), 200);
    assert_eq!(status(&gateway, &token(json!({ "nbf": now + 90 }))), 401);
}

#[test]
fn nothing_changes_when_no_token_is_remembered() {
    let echo = Echo::start();
    let gateway = super::gateway(&echo, "remember: 0");
    let good = super::token(json!({}));
    for _ in 0..3 {
        assert_eq!(status(&gateway, &good), 200);
        assert_eq!(status(&gateway, &format!("{good}x")), 401);
    }
}
