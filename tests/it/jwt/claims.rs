//! What a token must say, and what upstreams are told of it.

use edgeway_tests::{Echo, Gateway};
use serde_json::{Value, json};

use super::{gateway, tokens::token, with};

#[test]
fn claims_become_headers_nested_ones_and_lists_too() {
    let echo = Echo::start();
    let forward = "forward: { username: X-Auth-User, 'address.country': X-Country, roles: X-Roles, \
                   admin: X-Admin, level: X-Level, org: X-Org, nickname: X-Nickname, \
                   'https://example.com/plan': X-Plan }";
    let gateway = gateway(&echo, forward);
    let claims = json!({
        "username": "José", "address": { "country": "DE" }, "roles": ["reader", "writer"],
        "admin": true, "level": 7, "org": { "id": 1 }, "https://example.com/plan": "gold",
    });
    let request = gateway.request("GET", "/").bearer(&token(claims));
    let answer = request.header("X-Nickname", "root").send();
    assert_eq!(answer.received("x-auth-user"), ["José"]);
    assert_eq!(answer.received("x-country"), ["DE"]);
    assert_eq!(answer.received("x-roles"), ["reader,writer"]);
    assert_eq!(answer.received("x-admin"), ["true"]);
    assert_eq!(answer.received("x-level"), ["7"]);
    assert_eq!(answer.received("x-org"), [r#"{"id":1}"#]);
    assert_eq!(answer.received("x-plan"), ["gold"]);
    // The token says nothing about it, so nobody else does.
    assert_eq!(answer.received("x-nickname"), [""; 0]);
}

#[test]
fn claims_that_upstreams_could_take_for_others_are_refused() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "forward: { sub: X-Auth-User, roles: X-Roles }");
    for claims in [
        json!({ "sub": "gues\r\nX-Auth-Role: admin" }),
        json!({ "sub": "gues\nadmin" }),
        json!({ "sub": " admin" }),
        json!({ "roles": ["gues,admin"] }),
        json!({ "roles": ["gues", " admin"] }),
    ] {
        assert_eq!(
            with(&gateway, &token(claims.clone())).status,
            401,
            "{claims}"
        );
    }
    assert_eq!(echo.stats().requests, 0);
}

#[test]
fn a_caller_who_is_not_as_required_is_told_403() {
    let echo = Echo::start();
    let gateway = gateway(
        &echo,
        "require: { role: [admin, editor], scope: write, 'org.id': 7, active: true }",
    );
    let claims = json!({
        "role": "editor", "scope": "read write", "org": { "id": 7 }, "active": true,
    });
    let with_claim = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        with(&gateway, &token(claims)).status
    };
    assert_eq!(with(&gateway, &token(claims.clone())).status, 200);
    assert_eq!(with_claim("role", json!("admin")), 200);
    assert_eq!(with_claim("role", json!(["gues", "admin"])), 200);
    assert_eq!(with_claim("role", json!("gues")), 403);
    assert_eq!(with_claim("role", json!("Admin")), 403);
    assert_eq!(with_claim("role", json!("admin editor")), 403);
    assert_eq!(with_claim("role", json!(null)), 403);
    assert_eq!(with_claim("scope", json!("read writer")), 403);
    assert_eq!(with_claim("org", json!({ "id": "7" })), 403);
    assert_eq!(with_claim("active", json!("true")), 403);
    // First of all it must be valid.
    assert_eq!(with_claim("exp", json!(1)), 401);
    assert_eq!(echo.stats().requests, 3);
}

#[test]
fn any_of_several_issuers_and_audiences_will_do() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "issuer: [us, them], audience: [shop, desk]");
    let status = |claims| with(&gateway, &token(claims)).status;
    assert_eq!(status(json!({ "iss": "them", "aud": "desk" })), 200);
    assert_eq!(status(json!({ "iss": "us", "aud": ["x", "shop"] })), 200);
    assert_eq!(status(json!({ "iss": "others", "aud": "desk" })), 401);
    assert_eq!(status(json!({ "iss": "us", "aud": [] })), 401);
    assert_eq!(status(json!({ "iss": "us" })), 401);
    assert_eq!(status(json!({ "aud": "shop" })), 401);
}

#[test]
fn a_guest_is_let_in_where_a_token_is_optional() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "optional: true, forward: { sub: X-Auth-User }");
    let guest = gateway
        .request("GET", "/")
        .header("X-Auth-User", "admin")
        .send();
    assert_eq!(guest.status, 200);
    assert_eq!(guest.received("x-auth-user"), [""; 0]);
    let user = with(&gateway, &token(json!({ "sub": "ann" })));
    assert_eq!(user.received("x-auth-user"), ["ann"]);
    // Who shows a bad one is no guest.
    assert_eq!(with(&gateway, "x.y.z").status, 401);
    // Credentials of another kind are none.
    let basic = gateway
        .request("GET", "/")
        .header("Authorization", "Basic YTpi")
        .send();
    assert_eq!(basic.status, 200);
}

#[test]
fn the_caller_has_the_name_that_the_configuration_says() {
    let echo = Echo::start();
    let yaml = format!(
        "
        upstreams:
          echo: {{ endpoints: [{echo}] }}
        routes:
          - filters:
              - jwt: {{ algorithms: [HS256], secret: {secret}, subject: ['user.mail', sub] }}
              - headers: {{ request: {{ set: {{ X-Caller: '{{subject}}', X-Plan: '{{claim.plan}}' }} }} }}
            upstream: echo
        ",
        secret = super::SECRET
    );
    let gateway = Gateway::start(&yaml);
    let named = with(
        &gateway,
        &token(json!({ "user": { "mail": "a@b.example" }, "sub": "x", "plan": "gold" })),
    );
    assert_eq!(named.received("x-caller"), ["a@b.example"]);
    assert_eq!(named.received("x-plan"), ["gold"]);
    let numbered = with(&gateway, &token(json!({ "sub": 17 })));
    assert_eq!(numbered.received("x-caller"), ["17"]);
    assert_eq!(numbered.received("x-plan"), [""; 0]);
}
