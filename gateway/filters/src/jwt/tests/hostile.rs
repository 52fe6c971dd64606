//! Tokens that somebody made who may not.

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::*;

const RSA_PUBLIC: &str = include_str!("../testdata/rsa.pub.pem");

fn hs(header: &str, payload: impl AsRef<[u8]>) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    signed(header, payload, Algorithm::HS256, &key)
}

/// Each is signed with the right secret, if at all it is signed.
#[expect(clippy::too_many_lines, reason = "a table")]
fn hostile() -> Vec<(&'static str, String)> {
    let header = r#"{"alg":"HS256"}"#;
    let good = claims(json!({ "sub": "a" })).to_string();
    let exp = soon();
    let unsigned = |alg: &str| {
        let header = format!("{{\"alg\":\"{alg}\"}}");
        format!("{}.{}.", b64(header), b64(&good))
    };
    let valid = hs(header, &good);
    let (message, signature) = valid.rsplit_once('.').unwrap();
    let deep = format!(
        "{{\"exp\":{exp},\"a\":{}{}}}",
        "[".repeat(2000),
        "]".repeat(2000)
    );
    vec![
        ("alg none", unsigned("none")),
        ("alg None", unsigned("None")),
        ("alg empty", unsigned("")),
        ("alg HS256 without signature", unsigned("HS256")),
        ("alg none with a signature", hs(r#"{"alg":"none"}"#, &good)),
        ("no alg", hs("{}", &good)),
        ("alg is no text", hs(r#"{"alg":["HS256"]}"#, &good)),
        ("alg in lower case", hs(r#"{"alg":"hs256"}"#, &good)),
        ("another algorithm", hs(r#"{"alg":"HS512"}"#, &good)),
        (
            "crit",
            hs(r#"{"alg":"HS256","crit":["exp"],"exp":1}"#, &good),
        ),
        (
            "crit that is empty",
            hs(r#"{"alg":"HS256","crit":[]}"#, &good),
        ),
        ("alg twice", hs(r#"{"alg":"none","alg":"HS256"}"#, &good)),
        ("kid is no text", hs(r#"{"alg":"HS256","kid":1}"#, &good)),
        ("header is a list", hs("[]", &good)),
        ("header is not UTF-8", {
            let header = b64(b"{\"alg\":\"HS256\",\"x\":\"\xff\"}");
            format!("{header}.{}.{signature}", b64(&good))
        }),
        (
            "claims twice",
            hs(
                header,
                format!("{{\"exp\":{exp},\"sub\":\"a\",\"sub\":\"b\"}}"),
            ),
        ),
        (
            "nested claims twice",
            hs(
                header,
                format!("{{\"exp\":{exp},\"a\":{{\"b\":1,\"b\":2}}}}"),
            ),
        ),
        ("payload is a list", hs(header, "[]")),
        ("payload is text", hs(header, "\"x\"")),
        ("payload is empty", hs(header, "")),
        ("payload is not JSON", hs(header, "{\"exp\":")),
        (
            "payload is not UTF-8",
            hs(
                header,
                [b"{\"a\":\"\xff\"," as &[u8], &good.as_bytes()[1..]].concat(),
            ),
        ),
        ("payload goes on", hs(header, format!("{good} {{}}"))),
        ("deep", hs(header, deep)),
        (
            "expired by a second",
            hs256(&json!({ "exp": now() as u64 - 1 })),
        ),
        ("not valid yet", token(json!({ "nbf": now() as u64 + 60 }))),
        ("exp is text", token(json!({ "exp": exp.to_string() }))),
        ("exp is negative", token(json!({ "exp": -1 }))),
        ("exp is null", token(json!({ "exp": null }))),
        ("exp is a list", token(json!({ "exp": [exp] }))),
        ("nbf is text", token(json!({ "nbf": "0" }))),
        ("exp is beyond numbers", hs(header, "{\"exp\":1e999}")),
        ("huge", token(json!({ "x": "x".repeat(100_000) }))),
        ("truncated", valid.chars().take(valid.len() - 1).collect()),
        ("truncated to the message", message.to_owned()),
        ("truncated to the message with a dot", format!("{message}.")),
        ("padded", format!("{valid}=")),
        ("four parts", format!("{valid}.x")),
        ("JWE", format!("{valid}.x.y")),
        ("JWE of empty parts", "....".to_owned()),
        ("two dots", "..".to_owned()),
        ("a dot first", format!(".{valid}")),
        ("two tokens", format!("{valid} {valid}")),
        (
            "signature of another message",
            format!("{}.{}.{signature}", b64(header), b64("{}")),
        ),
        ("standard base64", valid.replace(['-', '_'], "+") + "+"),
        ("nothing", String::new()),
    ]
}

#[tokio::test]
async fn hostile_tokens_are_refused() {
    for optional in [false, true] {
        let jwt = built(with(json!({ "optional": optional })));
        for (name, token) in hostile() {
            assert_eq!(jwt.status(&token).await, 401, "{name}");
        }
    }
}

#[tokio::test]
async fn a_public_key_is_never_a_secret() {
    let only_rsa = json!({ "algorithms": ["RS256"], "public_keys": ["rsa.pub.pem"] });
    let both = json!({
        "algorithms": ["RS256", "HS256"], "public_keys": ["rsa.pub.pem"], "secret": SECRET
    });
    let lines: String = RSA_PUBLIC
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    let der = base64::prelude::BASE64_STANDARD.decode(&lines).unwrap();
    let (pem, trimmed) = (RSA_PUBLIC.as_bytes(), RSA_PUBLIC.trim().as_bytes());
    // PKCS#1 is what follows the name of the algorithm within the DER.
    let secrets = [pem, trimmed, lines.as_bytes(), &der, &der[24..], b""];
    for config in [only_rsa, both] {
        let jwt = built(config);
        assert_eq!(
            jwt.status(&by_key(Algorithm::RS256, RSA, None, json!({})))
                .await,
            200
        );
        for secret in secrets {
            let key = EncodingKey::from_secret(secret);
            for algorithm in ["HS256", "RS256"] {
                let header = json!({ "alg": algorithm }).to_string();
                let text = claims(json!({})).to_string();
                let token = signed(&header, text, Algorithm::HS256, &key);
                assert_eq!(jwt.status(&token).await, 401);
            }
        }
    }
}

#[tokio::test]
async fn a_key_of_another_family_curve_or_owner_verifies_nothing() {
    let config =
        |algorithms: &[&str], key: &str| json!({ "algorithms": algorithms, "public_keys": [key] });
    let all = ["RS256", "PS256", "ES256", "ES384", "EdDSA"];
    let cases = [
        ("rsa.pub.pem", RSA_OTHER, Algorithm::RS256),
        ("rsa.pub.pem", P256, Algorithm::ES256),
        ("p256.pub.pem", P384, Algorithm::ES384),
        ("p384.pub.pem", P256, Algorithm::ES256),
        ("p256.pub.pem", ED25519, Algorithm::EdDSA),
        ("ed25519.pub.pem", P256, Algorithm::ES256),
        ("p256.pub.pem", RSA, Algorithm::PS256),
    ];
    for (public, private, algorithm) in cases {
        let jwt = built(config(&all, public));
        let token = by_key(algorithm, private, None, json!({}));
        assert_eq!(jwt.status(&token).await, 401, "{public} {algorithm:?}");
    }
    // The right key, but an algorithm that is not allowed.
    let jwt = built(config(&["PS256"], "rsa.pub.pem"));
    assert_eq!(
        jwt.status(&by_key(Algorithm::RS256, RSA, None, json!({})))
            .await,
        401
    );
}

#[tokio::test]
async fn keys_that_a_token_brings_along_mean_nothing() {
    let jwt = built(json!({ "algorithms": ["RS256"], "public_keys": ["rsa.pub.pem"] }));
    let key = signing_key(Algorithm::RS256, RSA_OTHER);
    let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&key, Algorithm::RS256).unwrap();
    for more in [
        json!({ "jwk": jwk }),
        json!({ "jku": "http://127.0.0.1:9/keys" }),
        json!({ "x5u": "http://127.0.0.1:9/cert" }),
        json!({ "kid": "../../../../dev/null" }),
    ] {
        let mut header = more;
        header["alg"] = "RS256".into();
        let text = claims(json!({})).to_string();
        let token = signed(&header.to_string(), text, Algorithm::RS256, &key);
        assert_eq!(jwt.status(&token).await, 401, "{header}");
    }
}

#[tokio::test]
async fn no_mutation_of_a_valid_token_passes() {
    let mut random = StdRng::seed_from_u64(7);
    let alphabet: Vec<char> = "ABCXYZabcxyz0189-_.=+/%~\"".chars().collect();
    let rsa = by_key(Algorithm::RS256, RSA, None, json!({ "sub": "a" }));
    let ec = by_key(Algorithm::ES256, P256, None, json!({ "sub": "a" }));
    let public = json!({
        "algorithms": ["RS256", "ES256"], "public_keys": ["rsa.pub.pem", "p256.pub.pem"]
    });
    let cases = [
        (with(json!({})), token(json!({ "sub": "a" }))),
        (public.clone(), rsa),
        (public, ec),
    ];
    for (config, valid) in cases {
        let jwt = built(config);
        assert_eq!(jwt.status(&valid).await, 200);
        for _ in 0..1500 {
            let mutated = mutated(&valid, &alphabet, &mut random);
            if mutated != valid {
                assert_eq!(jwt.status(&mutated).await, 401, "{mutated}");
            }
        }
        assert_eq!(jwt.status(&valid).await, 200);
    }
}

fn mutated(token: &str, alphabet: &[char], random: &mut StdRng) -> String {
    let mut text: Vec<char> = token.chars().collect();
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..text.len());
        let letter = alphabet[random.random_range(0..alphabet.len())];
        match random.random_range(0..4) {
            0 => text[at] = letter,
            1 => text.insert(at, letter),
            2 => drop(text.remove(at)),
            _ => text.swap(at, token.len() / 2),
        }
    }
    text.into_iter().collect()
}

#[tokio::test]
async fn no_signed_payload_brings_the_filter_down() {
    let mut random = StdRng::seed_from_u64(11);
    let jwt = built(with(json!({
        "forward": { "sub": "X-User", "a.b": "X-B" },
        "require": { "scope": "x" }, "issuer": "i", "audience": "a", "subject": "a.b"
    })));
    let good = claims(json!({
        "sub": "s", "a": { "b": [1, "x"] }, "scope": "x y", "iss": "i", "aud": ["a"], "nbf": 0
    }));
    let good = good.to_string().into_bytes();
    assert_eq!(jwt.status(&hs("{\"alg\":\"HS256\"}", &good)).await, 200);
    for _ in 0..3000 {
        let mut payload = good.clone();
        for _ in 0..random.random_range(1..6) {
            let at = random.random_range(0..payload.len());
            payload[at] = random.random();
        }
        let status = jwt.status(&hs("{\"alg\":\"HS256\"}", &payload)).await;
        assert!(matches!(status, 200 | 401 | 403), "{status}");
    }
}
