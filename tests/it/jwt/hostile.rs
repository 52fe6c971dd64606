//! Tokens that somebody made who may not.

use edgeway_tests::{Echo, Gateway};
use jsonwebtoken::Algorithm;
use serde_json::json;

use super::{
    behind, gateway,
    tokens::{
        P256, P256_PUBLIC, P384, RSA, RSA_OTHER, RSA_PUBLIC, SECRET, base64, by_key, lasting, now,
        raw, signed, token,
    },
    with,
};

/// Each is signed with the right secret, if it is signed at all.
fn hostile() -> Vec<(&'static str, String)> {
    let good = lasting(json!({ "sub": "admin", "iss": "us", "aud": "shop" })).to_string();
    let unsigned = |algorithm: &str| {
        let header = json!({ "alg": algorithm }).to_string();
        format!("{}.{}.", base64(header), base64(&good))
    };
    let header = |header: &str| raw(header, &good, Algorithm::HS256, SECRET);
    let ours = |claim: &str, value: serde_json::Value| {
        let mut claims = json!({ "sub": "admin", "iss": "us", "aud": "shop" });
        claims[claim] = value;
        token(claims)
    };
    let payload = |payload: String| raw(r#"{"alg":"HS256"}"#, payload, Algorithm::HS256, SECRET);
    let valid = header(r#"{"alg":"HS256"}"#);
    let (message, _) = valid.rsplit_once('.').unwrap();
    let end = now() + 600;
    vec![
        ("alg none", unsigned("none")),
        ("alg nOnE", unsigned("nOnE")),
        ("no signature", unsigned("HS256")),
        ("alg none, signed", header(r#"{"alg":"none"}"#)),
        ("alg that is not allowed", header(r#"{"alg":"HS512"}"#)),
        ("alg twice", header(r#"{"alg":"none","alg":"HS256"}"#)),
        ("no alg", header("{}")),
        ("crit", header(r#"{"alg":"HS256","crit":["exp"],"exp":1}"#)),
        (
            "sub twice",
            payload(format!(
                r#"{{"exp":{end},"iss":"us","aud":"shop","sub":"a","sub":"admin"}}"#
            )),
        ),
        (
            "exp twice",
            payload(format!(
                r#"{{"exp":1,"exp":{end},"iss":"us","aud":"shop"}}"#
            )),
        ),
        ("payload is a list", payload("[]".to_owned())),
        ("huge", ours("x", "x".repeat(20_000).into())),
        ("truncated", valid.chars().take(valid.len() - 1).collect()),
        ("truncated to the message", message.to_owned()),
        ("JWE", format!("{valid}.x.y")),
        ("JWE of empty parts", "....".to_owned()),
        ("expired by a second", ours("exp", (now() - 1).into())),
        ("expired now", ours("exp", now().into())),
        ("exp is a text", ours("exp", end.to_string().into())),
        ("exp is null", ours("exp", json!(null))),
        ("not valid yet", ours("nbf", (now() + 60).into())),
        ("another issuer", ours("iss", "them".into())),
        ("no issuer", ours("iss", json!(null))),
        ("another audience", ours("aud", "bank".into())),
        ("other audiences", ours("aud", json!(["bank", "shops"]))),
        ("two tokens", format!("{valid} {valid}")),
        ("nothing", String::new()),
    ]
}

#[test]
fn hostile_tokens_are_refused_and_the_gateway_goes_on() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "issuer: us, audience: shop");
    for (name, token) in hostile() {
        let answer = with(&gateway, &token);
        assert_eq!(answer.status, 401, "{name}");
        assert_eq!(answer.json()["status"], 401, "{name}");
    }
    assert_eq!(echo.stats().requests, 0);
    let good = token(json!({ "iss": "us", "aud": ["bank", "shop"] }));
    assert_eq!(with(&gateway, &good).status, 200);
}

#[test]
fn hostile_tokens_are_refused_also_where_a_token_is_optional() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "issuer: us, audience: shop, optional: true");
    for (name, token) in hostile() {
        assert_eq!(with(&gateway, &token).status, 401, "{name}");
    }
    assert_eq!(echo.stats().requests, 0);
    assert_eq!(gateway.get("/").status, 200);
}

#[test]
fn a_token_that_does_not_fit_into_a_head_is_refused() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "");
    let huge = token(json!({ "x": "x".repeat(400_000) }));
    // Where the head as a whole is too large, nobody has looked for a token yet.
    if let Ok(answer) = gateway.request("GET", "/").bearer(&huge).attempt() {
        assert!((400..500).contains(&answer.status), "{}", answer.status);
    }
    assert_eq!(echo.stats().requests, 0);
    assert_eq!(with(&gateway, &token(json!({}))).status, 200);
}

#[test]
fn two_authorization_headers_are_refused() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "");
    let good = token(json!({}));
    for second in [good.as_str(), "x.y.z"] {
        let answer = gateway
            .request("GET", "/")
            .bearer(&good)
            .bearer(second)
            .send();
        // RFC 6750, 3.1: not an invalid token, but an invalid request. No filter sees one.
        assert_eq!(answer.status, 400);
    }
    assert_eq!(echo.stats().requests, 0);
}

#[test]
fn a_public_key_is_never_a_secret() {
    let echo = Echo::start();
    let only = "algorithms: [RS256], public_keys: [rsa.pub.pem]".to_owned();
    let both = format!("algorithms: [RS256, HS256], public_keys: [rsa.pub.pem], secret: {SECRET}");
    let lines = RSA_PUBLIC.lines().filter(|line| !line.starts_with('-'));
    let secrets = [RSA_PUBLIC, RSA_PUBLIC.trim(), &lines.collect::<String>()].map(str::to_owned);
    for config in [only, both] {
        let gateway = Gateway::setup(&behind(&echo, &config))
            .file("rsa.pub.pem", RSA_PUBLIC)
            .start();
        for secret in &secrets {
            for claimed in ["HS256", "RS256"] {
                let header = json!({ "alg": claimed }).to_string();
                let payload = lasting(json!({})).to_string();
                let token = raw(&header, payload, Algorithm::HS256, secret);
                assert_eq!(with(&gateway, &token).status, 401, "{claimed}");
            }
        }
        assert_eq!(
            with(&gateway, &by_key(Algorithm::RS256, RSA, None, json!({}))).status,
            200
        );
    }
    assert_eq!(echo.stats().requests, 2);
}

#[test]
fn a_key_of_another_owner_curve_or_family_verifies_nothing() {
    let echo = Echo::start();
    let jwt = "algorithms: [RS256, ES256, ES384], public_keys: [rsa.pub.pem, p256.pub.pem]";
    let gateway = Gateway::setup(&behind(&echo, jwt))
        .file("rsa.pub.pem", RSA_PUBLIC)
        .file("p256.pub.pem", P256_PUBLIC)
        .start();
    let cases = [
        ("another owner", Algorithm::RS256, RSA_OTHER),
        ("another curve", Algorithm::ES384, P384),
        ("an algorithm that is not allowed", Algorithm::RS512, RSA),
        ("a padding that is not allowed", Algorithm::PS256, RSA),
    ];
    for (name, algorithm, key) in cases {
        let token = by_key(algorithm, key, None, json!({}));
        assert_eq!(with(&gateway, &token).status, 401, "{name}");
    }
    // The curve of the key, the name of another one.
    let header = json!({ "alg": "ES384" }).to_string();
    let confused = raw(
        &header,
        lasting(json!({})).to_string(),
        Algorithm::ES256,
        P256,
    );
    assert_eq!(with(&gateway, &confused).status, 401);
    assert_eq!(echo.stats().requests, 0);
    assert_eq!(
        with(&gateway, &by_key(Algorithm::ES256, P256, None, json!({}))).status,
        200
    );
}

#[test]
fn keys_that_a_token_brings_along_mean_nothing() {
    let echo = Echo::start();
    let theirs = edgeway_tests::Upstream::answers("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    let jwt = "algorithms: [RS256], public_keys: [rsa.pub.pem]";
    let gateway = Gateway::setup(&behind(&echo, jwt))
        .file("rsa.pub.pem", RSA_PUBLIC)
        .start();
    let set = super::tokens::key_set(&[(Algorithm::RS256, RSA_OTHER, "theirs")]);
    let set: serde_json::Value = serde_json::from_str(&set).unwrap();
    for brought in [
        json!({ "alg": "RS256", "jwk": set["keys"][0] }),
        json!({ "alg": "RS256", "jku": format!("http://{theirs}/keys") }),
        json!({ "alg": "RS256", "x5u": format!("http://{theirs}/certificate") }),
        json!({ "alg": "RS256", "kid": "../../../../dev/null" }),
    ] {
        let payload = lasting(json!({ "sub": "admin" })).to_string();
        let token = raw(&brought.to_string(), payload, Algorithm::RS256, RSA_OTHER);
        assert_eq!(with(&gateway, &token).status, 401, "{brought}");
    }
    assert_eq!((echo.stats().requests, theirs.connections()), (0, 0));
}

#[test]
fn a_remembered_token_still_expires() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "");
    let short = signed(&json!({ "alg": "HS256" }), json!({ "exp": now() + 3 }));
    assert_eq!(with(&gateway, &short).status, 200);
    edgeway_tests::eventually(edgeway_tests::PATIENCE, || {
        with(&gateway, &short).status == 401
    });
    assert!(echo.stats().requests >= 1);
}
