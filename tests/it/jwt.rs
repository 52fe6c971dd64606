//! The filter `jwt`: only requests with a valid token pass.

mod claims;
mod detours;
mod hostile;
mod keys;
mod published;
pub(crate) mod tokens;

use edgeway_tests::{Answer, Gateway};
use serde_json::json;

use self::tokens::{SECRET, token};

/// A gateway whose only route echoes, behind `jwt` with HS256 and these keys besides.
fn gateway(echo: &impl std::fmt::Display, more: &str) -> Gateway {
    let keys = format!("algorithms: [HS256], secret: {SECRET}");
    let comma = if more.is_empty() { "" } else { ", " };
    Gateway::start(&behind(echo, &format!("{keys}{comma}{more}")))
}

/// A configuration whose only route echoes, behind `jwt` with these keys.
fn behind(echo: &impl std::fmt::Display, jwt: &str) -> String {
    format!(
        "
        upstreams:
          echo: {{ endpoints: [{echo}] }}
        filters: [access_log]
        routes:
          - filters:
              - jwt: {{ {jwt} }}
            upstream: echo
        "
    )
}

/// What the gateway says to a request with this token and no body.
#[track_caller]
fn with(gateway: &Gateway, token: &str) -> Answer {
    gateway.request("GET", "/").bearer(token).send()
}

#[track_caller]
fn challenge(answer: &Answer) -> &str {
    answer.header("WWW-Authenticate").expect("a challenge")
}

#[test]
fn a_challenge_is_of_the_form_that_rfc_6750_wants() {
    let echo = edgeway_tests::Echo::start();
    let gateway = gateway(&echo, "realm: shop, require: { role: admin }");

    let missing = gateway.get("/");
    assert_eq!(missing.status, 401);
    assert_eq!(challenge(&missing), r#"Bearer realm="shop""#);

    let invalid = with(&gateway, "x.y.z");
    assert_eq!(invalid.status, 401);
    let wanted =
        r#"Bearer realm="shop", error="invalid_token", error_description="the token is not valid""#;
    assert_eq!(challenge(&invalid), wanted);

    let expired = with(&gateway, &token(json!({ "exp": tokens::now() - 1 })));
    assert_eq!(expired.status, 401);
    let wanted =
        r#"Bearer realm="shop", error="invalid_token", error_description="the token has expired""#;
    assert_eq!(challenge(&expired), wanted);

    let weak = with(&gateway, &token(json!({ "role": "gues" })));
    assert_eq!(weak.status, 403);
    let wanted = r#"Bearer realm="shop", error="insufficient_scope", error_description="the token does not allow this""#;
    assert_eq!(challenge(&weak), wanted);

    assert_eq!(echo.stats().requests, 0);
}

#[test]
fn a_refusal_keeps_the_connection() {
    let echo = edgeway_tests::Echo::start();
    let gateway = gateway(&echo, "");
    let mut connection = gateway.connect();
    for _ in 0..3 {
        assert_eq!(connection.get("/").status, 401);
        let posted = connection.request("POST", "/").body("name=value").send();
        assert_eq!((posted.status, posted.reusable), (401, true));
        let good = connection
            .request("GET", "/")
            .bearer(&token(json!({})))
            .send();
        assert_eq!(good.status, 200);
    }
    assert_eq!(echo.stats().requests, 3);
}

#[test]
fn a_refusal_does_not_wait_for_a_large_body() {
    let echo = edgeway_tests::Echo::start();
    let gateway = gateway(&echo, "");
    let refused = gateway
        .request("POST", "/")
        .body("x".repeat(1 << 20))
        .send();
    assert_eq!((refused.status, refused.reusable), (401, false));
    let refused = gateway.request("POST", "/").chunks(["a", "b"]).send();
    assert_eq!((refused.status, refused.reusable), (401, false));
    let request = gateway
        .request("POST", "/")
        .header("Expect", "100-continue");
    let refused = request.body("x").send();
    assert_eq!((refused.status, refused.interim.len()), (401, 0));
    assert_eq!(echo.stats().requests, 0);
}

#[test]
fn the_realm_is_edgeway_if_not_given() {
    let echo = edgeway_tests::Echo::start();
    let gateway = gateway(&echo, "");
    assert_eq!(challenge(&gateway.get("/")), r#"Bearer realm="edgeway""#);
}

#[test]
fn a_short_secret_is_warned_about_at_the_start() {
    // T17
    let yaml = "
        routes:
          - filters:
              - jwt: { algorithms: [HS256], secret: env:SECRET }
            respond: { text: in }
    ";
    let weak = Gateway::setup(yaml).env("SECRET", "supersecretkey").start();
    let line =
        weak.wait_for_log("a secret of 14 bytes is easier to guess than the 32 that `HS256` wants");
    assert!(line.starts_with("warning"), "{line}");
    assert!(!weak.log().contains("supersecretkey"));

    let strong = Gateway::setup(yaml).env("SECRET", SECRET).start();
    assert!(!strong.log().contains("warning"), "{}", strong.log());
}
