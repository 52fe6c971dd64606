//! Who is calling, as upstreams are told: by the gateway and by nobody else (#86, #87, T10).

use edgeway_tests::{Echo, Gateway};
use serde_json::json;

use crate::jwt::tokens::{SECRET, token};

fn gateway(echo: &Echo, more: &str) -> Gateway {
    Gateway::start(&format!(
        "
        upstreams:
          echo: {{ endpoints: [{echo}] }}
        routes:
          - match: {{ path: /protected/ }}
            filters:
              - jwt:
                  algorithms: [HS256]
                  secret: {SECRET}
                  forward: {{ username: X-Auth-User, role: X-Auth-Role }}
            upstream: echo
          - match: {{ path: /public/ }}
            upstream: echo
        {more}
        "
    ))
}

/// Ways to write a header so that some application takes it for `X-Auth-Role`.
const TWINS: [&str; 8] = [
    "X-Auth-Role",
    "x-auth-role",
    "X-AUTH-ROLE",
    "X_Auth_Role",
    "x_auth_role",
    "X-Auth_Role",
    "X_Auth-Role",
    "X_AUTH_ROLE",
];

/// What the upstream got under a name that WSGI makes `HTTP_X_AUTH_ROLE`.
fn roles(answer: &edgeway_tests::Answer) -> Vec<String> {
    let report = answer.json();
    let headers = report["headers"].as_array().unwrap();
    let pairs = headers
        .iter()
        .map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap()));
    let as_wsgi = |name: &str| name.to_uppercase().replace('-', "_");
    let twins = pairs.filter(|(name, _)| as_wsgi(name) == "X_AUTH_ROLE");
    twins.map(|(_, value)| value.to_owned()).collect()
}

fn forged(gateway: &Gateway, target: &str) -> Vec<String> {
    let request = gateway.request("GET", target);
    let request = TWINS
        .iter()
        .fold(request, |request, twin| request.header(twin, "admin"));
    roles(
        &request
            .bearer(&token(json!({ "username": "g", "role": "gues" })))
            .send(),
    )
}

#[test]
fn the_upstream_is_told_who_calls() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "");
    let token = token(json!({ "username": "ann", "role": "editor" }));
    let answer = gateway.request("GET", "/protected/x").bearer(&token).send();
    assert_eq!(answer.received("x-auth-user"), ["ann"]);
    assert_eq!(answer.received("x-auth-role"), ["editor"]);
}

#[test]
fn no_twin_of_an_identity_header_gets_through() {
    let echo = Echo::start();
    for underscores in [
        "",
        "requests: { underscore_headers: drop }",
        "requests: { underscore_headers: keep }",
    ] {
        let gateway = gateway(&echo, underscores);
        assert_eq!(forged(&gateway, "/protected/x"), ["gues"], "{underscores}");
        // Also where no token is asked for.
        assert_eq!(forged(&gateway, "/public/x"), [""; 0], "{underscores}");
    }
}

#[test]
fn one_forged_header_alone_does_not_get_through_either() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "");
    for twin in TWINS {
        let answer = gateway
            .request("GET", "/public/x")
            .header(twin, "admin")
            .send();
        assert_eq!(roles(&answer), [""; 0], "{twin}");
        let good = token(json!({ "username": "g" }));
        let answer = gateway
            .request("GET", "/protected/x")
            .header(twin, "admin")
            .bearer(&good)
            .send();
        // The token says nothing of a role.
        assert_eq!(roles(&answer), [""; 0], "{twin}");
    }
}

#[test]
fn other_headers_with_underscores_are_dropped_or_kept_as_configured() {
    let echo = Echo::start();
    let seen = |more: &str| {
        let gateway = gateway(&echo, more);
        gateway
            .request("GET", "/public/x")
            .header("X_Other", "1")
            .send()
            .received("x_other")
    };
    assert_eq!(seen(""), [""; 0]);
    assert_eq!(seen("requests: { underscore_headers: keep }"), ["1"]);
}
