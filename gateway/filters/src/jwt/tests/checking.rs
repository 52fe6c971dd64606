//! What valid tokens open, and what they tell upstreams.

use super::*;

#[tokio::test]
async fn a_valid_token_passes_with_its_claims_as_headers() {
    let jwt = built(with(json!({
        "forward": { "username": "X-Auth-User", "role": "X-Auth-Role" }
    })));
    let token = token(json!({ "username": "admin", "role": "administrator" }));
    for _ in 0..2 {
        let request = Trial::get("/").bearer(&token).header("x-auth-user", "root");
        let outcome = jwt.run(request).await;
        assert!(outcome.passed());
        assert_eq!(outcome.sent_header("x-auth-user"), Some("admin"));
        assert_eq!(outcome.sent_header("x-auth-role"), Some("administrator"));
        let identity: &Identity = outcome.exchange.values.get().unwrap();
        assert_eq!(identity.subject(), "admin");
        assert_eq!(identity.claim("role"), Some(&json!("administrator")));
    }
    assert_eq!(jwt.reserved, ["x-auth-role", "x-auth-user"]);
    assert_eq!(jwt.warnings, [""; 0]);
}

#[tokio::test]
async fn every_algorithm_verifies_with_a_key_of_its_family() {
    let keys = [
        ("HS256 HS384 HS512", SECRET, json!({ "secret": SECRET })),
        (
            "RS256 RS384 RS512 PS256 PS384 PS512",
            RSA,
            json!({ "public_keys": ["rsa.pub.pem"] }),
        ),
        ("RS256", RSA, json!({ "public_keys": ["rsa.cert.pem"] })),
        ("PS256", RSA, json!({ "public_keys": ["rsa.pkcs1.pem"] })),
        ("ES256", P256, json!({ "public_keys": ["p256.pub.pem"] })),
        ("ES384", P384, json!({ "public_keys": ["p384.pub.pem"] })),
        (
            "EdDSA",
            ED25519,
            json!({ "public_keys": ["ed25519.pub.pem"] }),
        ),
    ];
    for (algorithms, pem, config) in keys {
        for name in algorithms.split(' ') {
            let mut config = config.clone();
            config["algorithms"] = json!([name]);
            let algorithm: Algorithm = name.parse().unwrap();
            let token = by_key(algorithm, pem, None, json!({}));
            assert_eq!(built(config).status(&token).await, 200, "{name}");
        }
    }
}

#[tokio::test]
async fn a_base64_secret_may_be_in_either_alphabet() {
    let key = EncodingKey::from_secret(&[0xfb; 32]);
    let text = claims(json!({})).to_string();
    let token = signed(r#"{"alg":"HS256"}"#, text, Algorithm::HS256, &key);
    let standard = "+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=";
    let url_safe = "-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s";
    for secret in [standard, url_safe] {
        let config = json!({ "algorithms": ["HS256"], "secret_base64": secret });
        assert_eq!(built(config).status(&token).await, 200, "{secret}");
    }
}

#[tokio::test]
async fn without_a_token_the_challenge_names_no_error() {
    let jwt = built(with(json!({ "realm": "shop" })));
    let requests = [
        Trial::get("/"),
        Trial::get("/%70rotected"),
        Trial::new(http::Method::OPTIONS, "/"),
        Trial::get("/")
            .header("connection", "upgrade")
            .header("upgrade", "websocket"),
        Trial::get("/").header("authorization", "Basic YTpi"),
        Trial::get("/").header("cookie", "token=x"),
        Trial::get("/?access_token=x"),
    ];
    for request in requests {
        let outcome = jwt.run(request).await;
        assert_eq!(outcome.status(), 401);
        assert_eq!(
            outcome.header("www-authenticate"),
            Some("Bearer realm=\"shop\"")
        );
    }
}

#[tokio::test]
async fn an_invalid_token_learns_nothing_but_that() {
    let jwt = built(with(json!({})));
    let request = Trial::get("/").bearer(&(token(json!({})) + "x"));
    let outcome = jwt.run(request).await;
    assert_eq!(
        outcome.header("www-authenticate"),
        Some(
            "Bearer realm=\"edgeway\", error=\"invalid_token\", \
             error_description=\"the token is not valid\""
        )
    );
    let reply = outcome.reply.unwrap();
    assert_eq!(reply.client_detail(), None);
    assert_eq!(reply.reason(), Some("no key verifies the signature"));
}

#[tokio::test]
async fn several_authorization_headers_are_a_bad_request() {
    let jwt = built(with(json!({ "optional": true })));
    let token = token(json!({}));
    let outcome = jwt.run(Trial::get("/").bearer(&token).bearer(&token)).await;
    assert_eq!(outcome.status(), 400);
}

#[tokio::test]
async fn the_scheme_is_read_in_any_case() {
    let jwt = built(with(json!({})));
    for scheme in ["bearer ", "BEARER  ", "BeArEr\t"] {
        let value = format!("{scheme}{}", token(json!({})));
        let outcome = jwt
            .run(Trial::get("/").header("authorization", &value))
            .await;
        assert!(outcome.passed(), "{scheme}");
    }
}

#[tokio::test]
async fn a_token_is_found_in_the_first_place_that_has_one() {
    let jwt = built(with(json!({
        "from": ["header", { "cookie": "session" }, { "query": "access_token" }]
    })));
    let (good, bad) = (token(json!({})), "bad");
    let query = |token: &str| Trial::get(&format!("/?access_token={token}"));
    let cookie =
        |trial: Trial, token: &str| trial.header("cookie", &format!("a=b; session={token}"));
    let cases = [
        (query(&good), true),
        (query(&good.replace('.', "%2E")), true),
        (cookie(Trial::get("/"), &good), true),
        (cookie(query(bad), &good), true),
        (cookie(query(&good), ""), true),
        (cookie(query(&good), bad), false),
        (cookie(query(bad), bad).bearer(&good), true),
        (cookie(query(&good), &good).bearer(bad), false),
        (cookie(query(""), ""), false),
    ];
    for (index, (request, passes)) in cases.into_iter().enumerate() {
        assert_eq!(jwt.run(request).await.passed(), passes, "case {index}");
    }
}

#[tokio::test]
async fn a_stripped_token_is_hidden_from_upstreams() {
    let jwt = built(with(json!({
        "from": ["header", { "cookie": "session" }], "strip_token": true
    })));
    let token = token(json!({}));
    let request = Trial::get("/")
        .bearer(&token)
        .header("cookie", "a=b; session=x; sessions=y")
        .header("cookie", "session=z;c=d");
    let outcome = jwt.run(request).await;
    assert_eq!(outcome.sent_header("authorization"), None);
    assert_eq!(outcome.sent_header("cookie"), Some("a=b; sessions=y; c=d"));

    let request = Trial::get("/")
        .header("authorization", "Basic YTpi")
        .header("cookie", &format!("session={token}"));
    let outcome = jwt.run(request).await;
    assert_eq!(outcome.sent_header("authorization"), Some("Basic YTpi"));
    assert_eq!(outcome.sent_header("cookie"), None);

    let request = Trial::get("/")
        .bearer(&token)
        .header("cookie", "session=x\u{e9}; c=d");
    let outcome = jwt.run(request).await;
    assert_eq!(outcome.sent_header("cookie"), Some("c=d"));

    let plain = built(with(json!({})));
    let outcome = plain.run(Trial::get("/").bearer(&token)).await;
    assert!(outcome.sent_header("authorization").is_some());
}

#[tokio::test]
async fn with_an_optional_token_guests_pass_as_nobody() {
    let jwt = built(with(
        json!({ "optional": true, "forward": { "sub": "X-Auth-User" } }),
    ));
    // Said by a filter before: clients can't send it.
    let outcome = jwt.run(Trial::get("/").header("x-auth-user", "bob")).await;
    assert!(outcome.passed());
    assert_eq!(outcome.sent_header("x-auth-user"), Some("bob"));
    assert!(outcome.exchange.values.get::<Identity>().is_none());

    let outcome = jwt
        .run(Trial::get("/").bearer(&token(json!({ "sub": "ann" }))))
        .await;
    assert_eq!(outcome.sent_header("x-auth-user"), Some("ann"));
    for invalid in ["x", "", &token(json!({ "exp": 1 }))] {
        assert_eq!(jwt.status(invalid).await, 401, "{invalid}");
    }
}

#[tokio::test]
async fn a_token_is_valid_from_nbf_until_before_exp() {
    let filter: &'static Jwt = &Box::leak(Box::new(built(with(json!({}))))).filter;
    let lenient = with(json!({ "leeway": "5s" }));
    let lenient: &'static Jwt = &Box::leak(Box::new(built(lenient))).filter;
    let start = now() as u64;
    let token = token(json!({ "nbf": start - 100, "exp": start + 100 }));
    let cases = [
        (filter, -102.0, 401),
        (filter, -98.0, 200),
        (filter, 98.0, 200),
        (filter, 101.0, 401),
        (filter, 98.0, 200),
        (lenient, -107.0, 401),
        (lenient, -103.0, 200),
        (lenient, 103.0, 200),
        (lenient, 106.0, 401),
    ];
    for (filter, offset, status) in cases {
        let outcome = Trial::get("/")
            .bearer(&token)
            .run(&At(filter, offset))
            .await;
        assert_eq!(outcome.status(), status, "{offset}");
    }
}

#[tokio::test]
async fn an_expired_token_of_ours_is_told_so() {
    let jwt = built(with(json!({})));
    let token = token(json!({ "exp": now() as u64 - 1 }));
    let outcome = jwt.run(Trial::get("/").bearer(&token)).await;
    assert_eq!(outcome.status(), 401);
    let challenge = outcome.header("www-authenticate").unwrap();
    assert!(challenge.contains("error_description=\"the token has expired\""));
    let outcome = jwt.run(Trial::get("/").bearer(&(token + "x"))).await;
    assert!(
        !outcome
            .header("www-authenticate")
            .unwrap()
            .contains("expired")
    );
}

#[tokio::test]
async fn a_token_without_exp_passes_only_where_that_is_allowed() {
    let token = hs256(&json!({ "sub": "ann" }));
    assert_eq!(built(with(json!({}))).status(&token).await, 401);
    let jwt = built(with(json!({ "require_exp": false })));
    assert_eq!(jwt.status(&token).await, 200);
    assert_eq!(jwt.status(&token).await, 200);
    assert_eq!(jwt.status(&hs256(&json!({ "exp": 1 }))).await, 401);
    assert_eq!(jwt.status(&hs256(&json!({ "exp": "never" }))).await, 401);
}

#[tokio::test]
async fn issuer_and_audience_must_be_ours_where_they_are_configured() {
    let cases = [
        (json!({}), json!({ "iss": "a", "aud": "x" }), 200),
        (json!({ "issuer": "a" }), json!({ "iss": "a" }), 200),
        (json!({ "issuer": "a" }), json!({ "iss": "b" }), 401),
        (json!({ "issuer": "a" }), json!({ "iss": ["a"] }), 401),
        (json!({ "issuer": "a" }), json!({}), 401),
        (json!({ "issuer": ["a", "b"] }), json!({ "iss": "b" }), 200),
        (json!({ "audience": "x" }), json!({ "aud": "x" }), 200),
        (
            json!({ "audience": "x" }),
            json!({ "aud": ["w", "x"] }),
            200,
        ),
        (
            json!({ "audience": ["x", "y"] }),
            json!({ "aud": ["w", "y"] }),
            200,
        ),
        (json!({ "audience": "x" }), json!({ "aud": "xx" }), 401),
        (json!({ "audience": "x" }), json!({ "aud": [] }), 401),
        (
            json!({ "audience": "x" }),
            json!({ "aud": { "x": "x" } }),
            401,
        ),
        (json!({ "audience": "x" }), json!({}), 401),
    ];
    for (config, claims, status) in cases {
        let jwt = built(with(config.clone()));
        assert_eq!(
            jwt.status(&token(claims.clone())).await,
            status,
            "{config} {claims}"
        );
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn a_claim_that_is_not_as_required_is_forbidden() {
    let cases = [
        (json!({ "role": "admin" }), json!({ "role": "admin" }), 200),
        (json!({ "role": "admin" }), json!({ "role": "gues" }), 403),
        (
            json!({ "role": "admin" }),
            json!({ "role": "admin guest" }),
            403,
        ),
        (json!({ "role": "admin" }), json!({}), 403),
        (json!({ "role": "admin" }), json!({ "role": null }), 403),
        (
            json!({ "role": "admin" }),
            json!({ "role": ["x", "admin"] }),
            200,
        ),
        (
            json!({ "role": ["admin", "root"] }),
            json!({ "role": "root" }),
            200,
        ),
        (
            json!({ "scope": ["read", "write"] }),
            json!({ "scope": "list write" }),
            200,
        ),
        (
            json!({ "scope": "read" }),
            json!({ "scope": "reader" }),
            403,
        ),
        (json!({ "scp": "read" }), json!({ "scp": "list read" }), 200),
        (
            json!({ "realm.roles": "a" }),
            json!({ "realm": { "roles": ["a"] } }),
            200,
        ),
        (
            json!({ "realm.roles": "a" }),
            json!({ "realm": { "roles": { "a": 1 } } }),
            403,
        ),
        (json!({ "level": 3 }), json!({ "level": 3 }), 200),
        (json!({ "level": 3 }), json!({ "level": "3" }), 403),
        (json!({ "level": -1.5 }), json!({ "level": -1.5 }), 200),
        (json!({ "level": [-3] }), json!({ "level": -3 }), 200),
        (
            json!({ "verified": true }),
            json!({ "verified": true }),
            200,
        ),
        (
            json!({ "verified": true }),
            json!({ "verified": "true" }),
            403,
        ),
        (json!({ "a": 1, "b": 1 }), json!({ "a": 1 }), 403),
    ];
    for (require, claims, status) in cases {
        let jwt = built(with(json!({ "require": require.clone() })));
        let token = token(claims.clone());
        for _ in 0..2 {
            assert_eq!(jwt.status(&token).await, status, "{require} {claims}");
        }
    }
    let jwt = built(with(json!({ "require": { "role": "admin" } })));
    let outcome = jwt
        .run(Trial::get("/").bearer(&token(json!({ "role": "gues" }))))
        .await;
    let challenge = outcome.header("www-authenticate").unwrap();
    assert!(
        challenge.contains("error=\"insufficient_scope\""),
        "{challenge}"
    );
    let reason = outcome
        .reply
        .as_ref()
        .and_then(|reply| reply.reason().map(str::to_owned));
    assert_eq!(
        reason.as_deref(),
        Some("the claim `role` is not as required")
    );
}

#[tokio::test]
async fn claims_of_any_shape_are_forwarded() {
    let jwt = built(with(json!({ "forward": { "a.b": "X-Claim" } })));
    let cases = [
        (json!("text"), Some("text")),
        (json!(5), Some("5")),
        (json!(1.5), Some("1.5")),
        (json!(true), Some("true")),
        (json!(""), Some("")),
        (json!(["x", 1, false]), Some("x,1,false")),
        (json!([]), Some("")),
        (json!({ "c": [1, "ü"] }), Some("{\"c\":[1,\"ü\"]}")),
        (json!([{ "c": 1 }, "x"]), Some("[{\"c\":1},\"x\"]")),
        (json!("Jürgen, 東京"), Some("Jürgen, 東京")),
        (json!(null), None),
    ];
    for (claim, header) in cases {
        let token = token(json!({ "a": { "b": claim.clone() } }));
        let request = Trial::get("/").bearer(&token).header("x-claim", "forged");
        let outcome = jwt.run(request).await;
        assert!(outcome.passed(), "{claim}");
        let sent = outcome.sent.headers.get("x-claim");
        assert_eq!(
            sent.map(|value| value.as_bytes()),
            header.map(str::as_bytes),
            "{claim}"
        );
    }
}

#[tokio::test]
async fn claims_that_upstreams_could_misread_are_refused() {
    let jwt = built(with(json!({ "forward": { "sub": "X-Auth-User" } })));
    for claim in [
        json!("a\r\nX-Auth-Role: admin"),
        json!("a\nb"),
        json!("a\tb"),
        json!("a\0"),
        json!("a\u{7f}"),
        json!("a\u{85}"),
        json!(" admin"),
        json!("admin "),
        json!("admin\u{a0}"),
        json!(["user,admin"]),
        json!(["user", " admin"]),
        json!(["a\nb"]),
        json!({ "a": "\u{7f}" }),
    ] {
        assert_eq!(
            jwt.status(&token(json!({ "sub": claim.clone() }))).await,
            401,
            "{claim}"
        );
    }
}

#[tokio::test]
async fn the_subject_is_the_first_claim_that_has_a_name() {
    let cases = [
        (json!({}), json!({ "sub": "a", "username": "b" }), "a"),
        (json!({}), json!({ "username": "b" }), "b"),
        (json!({}), json!({}), ""),
        (json!({}), json!({ "sub": null, "username": "b" }), "b"),
        (json!({}), json!({ "sub": " ", "username": "b" }), "b"),
        (json!({}), json!({ "sub": ["a"], "username": "b" }), "b"),
        (
            json!({ "subject": "user.id" }),
            json!({ "sub": "a", "user": { "id": 7 } }),
            "7",
        ),
        (
            json!({ "subject": ["x", "sub"] }),
            json!({ "sub": "a" }),
            "a",
        ),
    ];
    for (config, claims, subject) in cases {
        let jwt = built(with(config));
        let outcome = jwt.run(Trial::get("/").bearer(&token(claims))).await;
        let identity: &Identity = outcome.exchange.values.get().unwrap();
        assert_eq!(identity.subject(), subject);
    }
}

#[tokio::test]
async fn a_token_is_remembered_unless_it_is_long_or_that_is_turned_off() {
    let keeps = |jwt: &Built, token: &str| jwt.filter.remembered.find(token, 0, now()).is_some();
    let (jwt, off) = (
        built(with(json!({}))),
        built(with(json!({ "remember": 0 }))),
    );
    let short = token(json!({}));
    let long = token(json!({ "long": "x".repeat(2048) }));
    for token in [&short, &long] {
        assert!(!keeps(&jwt, token));
        assert_eq!(jwt.status(token).await, 200);
        assert_eq!(jwt.status(token).await, 200);
        assert_eq!(off.status(token).await, 200);
        assert!(!keeps(&off, token));
    }
    assert!(keeps(&jwt, &short));
    assert!(!keeps(&jwt, &long));
    assert!(!keeps(&jwt, &(short + "x")));
}

#[tokio::test]
async fn more_tokens_than_slots_are_still_told_apart() {
    let jwt = built(with(
        json!({ "remember": 3, "forward": { "sub": "X-User" } }),
    ));
    let tokens: Vec<_> = (0..32)
        .map(|n| (n.to_string(), token(json!({ "sub": n }))))
        .collect();
    for _ in 0..3 {
        for (user, token) in &tokens {
            let outcome = jwt.run(Trial::get("/").bearer(token)).await;
            assert_eq!(outcome.sent_header("x-user"), Some(user.as_str()));
        }
    }
}

#[tokio::test]
async fn a_token_larger_than_the_limit_is_refused() {
    let big = token(json!({ "x": "x".repeat(8 << 10) }));
    assert_eq!(built(with(json!({}))).status(&big).await, 401);
    assert_eq!(
        built(with(json!({ "max_size": "16KiB" })))
            .status(&big)
            .await,
        200
    );
    let small = built(with(json!({ "max_size": "16B" })));
    assert_eq!(small.status(&token(json!({}))).await, 401);
}
