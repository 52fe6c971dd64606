//! Tests of the filter as a whole.

use std::sync::Arc;

use edgeway_sdk::test::{self, Trial};
use serde_json::{Value, json};

use super::*;

fn filter(json: &str) -> Authorize {
    test::build(json, build).unwrap()
}

fn ann(claims: Value) -> Trial {
    let Value::Object(claims) = claims else {
        panic!("{claims}")
    };
    Trial::get("/").identity(Identity::with_claims("ann", Arc::new(claims)))
}

/// Whether Ann passes with these claims.
async fn check(json: &str, cases: &[(Value, bool)]) {
    let filter = filter(json);
    for (claims, passes) in cases {
        let outcome = ann(claims.clone()).run(&filter).await;
        let expected = if *passes { 200 } else { 403 };
        assert_eq!(outcome.status(), expected, "{json} {claims}");
    }
}

#[tokio::test]
async fn one_of_the_roles_is_enough() {
    check(
        r#"{"roles": ["admin", "operator"]}"#,
        &[
            (json!({"roles": ["user", "operator"]}), true),
            (json!({"roles": "admin"}), true),
            (json!({"roles": ["user"]}), false),
            (json!({"roles": ["administrator"]}), false),
            (json!({"roles": "admin operator"}), false),
            (json!({"roles": "Admin"}), false),
            (json!({"roles": []}), false),
            (json!({"roles": null}), false),
            (json!({"roles": {"admin": true}}), false),
            (json!({"roles": [["admin"]]}), false),
            (json!({"role": "admin"}), false),
            (json!({}), false),
        ],
    )
    .await;
    check(
        r#"{"roles": "admin", "roles_claim": "realm_access.roles"}"#,
        &[
            (json!({"realm_access": {"roles": ["admin"]}}), true),
            (json!({"roles": ["admin"]}), false),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_scope_is_a_word_or_stands_in_a_list() {
    check(
        r#"{"scopes": "orders:read"}"#,
        &[
            (json!({"scope": "profile orders:read"}), true),
            (json!({"scp": ["orders:read"]}), true),
            (json!({"scp": "orders:read"}), true),
            (json!({"scope": "a", "scp": ["orders:read"]}), true),
            (json!({"scope": "orders:readall"}), false),
            (json!({"scope": ["a orders:read"]}), false),
            (json!({"scopes": "orders:read"}), false),
        ],
    )
    .await;
    check(
        r#"{"all": [{"scopes": "a"}, {"scopes": "b"}]}"#,
        &[
            (json!({"scope": "a b"}), true),
            (json!({"scope": "b a c"}), true),
            (json!({"scope": "a"}), false),
        ],
    )
    .await;
}

#[tokio::test]
async fn claims_are_all_as_required() {
    check(
        r#"{"claims": {"tenant": "acme", "plan.name": ["gold", "platinum"], "level": 3, "staff": true}}"#,
        &[
            (json!({"tenant": "acme", "plan": {"name": "gold"}, "level": 3, "staff": true}), true),
            (json!({"tenant": ["x", "acme"], "plan.name": "gold", "level": 3, "staff": true}), true),
            (json!({"tenant": "acme", "plan": {"name": "gold"}, "level": "3", "staff": true}), false),
            (json!({"tenant": "acme", "plan": {"name": "gold"}, "level": 3, "staff": "true"}), false),
            (json!({"tenant": "acme", "plan": {"name": "free"}, "level": 3, "staff": true}), false),
            (json!({"tenant": "acme", "level": 3, "staff": true}), false),
        ],
    )
    .await;
}

#[tokio::test]
async fn names_may_have_stars() {
    for (names, passes) in [
        (r#""ann""#, true),
        (r#"["bob", "a*"]"#, true),
        (r#"["bob", "Ann"]"#, false),
        (r#""an""#, false),
    ] {
        let filter = filter(&format!(r#"{{"subjects": {names}}}"#));
        assert_eq!(
            ann(json!({})).run(&filter).await.passed(),
            passes,
            "{names}"
        );
    }
}

#[tokio::test]
async fn rules_are_joined_by_any_and_all() {
    let json = r#"{"claims": {"tenant": "acme"}, "any": [
        {"roles": "admin"},
        {"roles": "auditor", "scopes": "reports:read"},
        {"all": [{"scopes": "x"}, {"any": [{"scopes": "y"}, {"subjects": "ann"}]}]}
    ]}"#;
    check(
        json,
        &[
            (json!({"tenant": "acme", "roles": "admin"}), true),
            (json!({"roles": "admin"}), false),
            (json!({"tenant": "acme"}), false),
            (json!({"tenant": "acme", "roles": "auditor"}), false),
            (
                json!({"tenant": "acme", "roles": "auditor", "scope": "reports:read"}),
                true,
            ),
            (json!({"tenant": "acme", "scope": "x"}), true),
            (json!({"tenant": "acme", "scope": "y"}), false),
        ],
    )
    .await;
}

#[tokio::test]
async fn nobody_is_asked_who_they_are() {
    let outcome = Trial::get("/").run(&filter(r#"{"roles": "a"}"#)).await;
    assert_eq!(outcome.status(), 401);
    let challenge = outcome.header("www-authenticate");
    assert_eq!(challenge, Some("Bearer realm=\"edgeway\""));
    let filter = filter(r#"{"roles": "a", "challenge": "Basic realm=\"x\""}"#);
    let outcome = Trial::get("/").run(&filter).await;
    assert_eq!(
        outcome.header("www-authenticate"),
        Some("Basic realm=\"x\"")
    );
}

#[tokio::test]
async fn the_operator_learns_what_is_missing_and_the_client_does_not() {
    for (json, rule, reason) in [
        (
            r#"{"roles": ["a", "b"]}"#,
            "roles",
            "has none of the roles `a`, `b`",
        ),
        (r#"{"scopes": "s"}"#, "scopes", "has none of the scopes `s`"),
        (r#"{"subjects": "svc-*"}"#, "subjects", "is none of `svc-*`"),
        (
            r#"{"claims": {"tenant": "secret"}}"#,
            "claims",
            "the claim `tenant` is not as required",
        ),
        (
            r#"{"subjects": "ann", "roles": "a"}"#,
            "roles",
            "has none of the roles `a`",
        ),
        (
            r#"{"any": [{"roles": "a"}, {"scopes": "s"}]}"#,
            "any",
            "has none of the roles `a`; has none of the scopes `s`",
        ),
    ] {
        let outcome = ann(json!({})).run(&filter(json)).await;
        assert_eq!(outcome.status(), 403);
        let reply = outcome.reply.unwrap();
        assert_eq!(reply.reason(), Some(reason), "{json}");
        assert_eq!(
            (reply.decided_by_rule(), reply.about()),
            (Some(rule), Some("ann"))
        );
        assert_eq!(
            reply.client_detail(),
            Some("You are not allowed to do this.")
        );
    }
}

#[test]
fn a_rule_that_lets_everybody_pass_is_refused() {
    let nested = |depth| {
        format!(
            "{}{{\"roles\":\"a\"}}{}",
            "{\"any\":[".repeat(depth),
            "]}".repeat(depth)
        )
    };
    assert!(test::build(&nested(8), build).is_ok());
    for (json, key) in [
        ("{}", None),
        (r#"{"roles_claim": "groups"}"#, None),
        (r#"{"any": []}"#, Some("any")),
        (r#"{"all": [{}]}"#, Some("all.0")),
        (
            r#"{"roles": "a", "any": [{"roles": "a"}, {"all": []}]}"#,
            Some("any.1.all"),
        ),
        (r#"{"claims": {}}"#, Some("claims")),
        (
            &nested(9),
            Some("any.0.any.0.any.0.any.0.any.0.any.0.any.0.any.0.any"),
        ),
    ] {
        let error = test::build(json, build).err().expect(json);
        assert_eq!(error.key.as_deref(), key, "{json}");
    }
    for json in [
        r#"{"roles": []}"#,
        r#"{"any": [{"role": "a"}]}"#,
        r#"{"claims": {"a": []}}"#,
        r#"{"subjects": ""}"#,
        r#"{"roles": "a", "challenge": ""}"#,
        r#"{"roles": "a", "challenge": "Bea\nrer"}"#,
    ] {
        assert!(test::build(json, build).is_err(), "{json}");
    }
}
