//! Ways around the check that there must not be.

use edgeway_tests::{Echo, Gateway};
use serde_json::json;

use super::tokens::{SECRET, token};

/// A tree that needs a token beside one that does not, as the tutorials have them.
fn two_trees(echo: &Echo) -> Gateway {
    Gateway::start(&format!(
        "
        upstreams:
          echo: {{ endpoints: [{echo}] }}
        routes:
          - match: {{ path: /protected/ }}
            filters:
              - jwt: {{ algorithms: [HS256], secret: {SECRET}, forward: {{ role: X-Auth-Role }} }}
            upstream: echo
          - match: {{ path: /public/ }}
            upstream: echo
        "
    ))
}

#[test]
fn no_spelling_of_a_path_gets_around_the_check() {
    let echo = Echo::start();
    let gateway = two_trees(&echo);
    // Those that are the protected path, as every server reads them.
    for target in [
        "/protected/x",
        "/protected",
        "/%70rotected/x",
        "//protected/x",
        "///protected//x",
        "/./protected/x",
        "/x/../protected/x",
        "/public/../protected/x",
        "/public/%2e%2e/protected/x",
        "/public/%2E%2E/protected/x",
        "/public/.%2e/protected/x",
        "/protected/x?/public/",
    ] {
        assert_eq!(gateway.get(target).status, 401, "{target}");
    }
    // Those that some servers read so.
    for target in [
        "/%50rotected/x",
        "/public/..%2fprotected/x",
        "/public/..%2Fprotected/x",
        "/public/%2e%2e%2fprotected/x",
        "/public/..%5cprotected/x",
        r"/public/..\protected/x",
        "/public/..;/protected/x",
        "/protected%2fx",
        "/protected%00/x",
        "/protected/x#/public/",
        "/public/x#/../../protected/x",
    ] {
        let status = gateway.get(target).status;
        assert!([400, 401, 404].contains(&status), "{target}: {status}");
    }
    assert_eq!(echo.stats().requests, 0);
    let good = gateway
        .request("GET", "/%70rotected/x")
        .bearer(&token(json!({})));
    assert_eq!(good.send().status, 200);
}

#[test]
fn what_is_encoded_twice_is_not_decoded_on_the_way() {
    let echo = Echo::start();
    let gateway = two_trees(&echo);
    let answer = gateway.get("/public/%252e%252e/protected/x");
    assert_eq!(answer.json()["path"], "/public/%252e%252e/protected/x");
}

#[test]
fn a_target_in_absolute_form_is_no_way_around() {
    let echo = Echo::start();
    let gateway = two_trees(&echo);
    let answer = gateway
        .request("GET", "http://x.example/protected/x")
        .host("x.example")
        .send();
    assert_eq!(answer.status, 401);
    assert_eq!(echo.stats().requests, 0);
}

#[test]
fn no_method_and_no_upgrade_gets_around_the_check() {
    let echo = Echo::start();
    let gateway = two_trees(&echo);
    for method in [
        "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "get",
    ] {
        let answer = gateway.request(method, "/protected/x").send();
        assert_eq!(answer.status, 401, "{method}");
    }
    for protocol in ["x", "websocket", "h2c", "TLS/1.0"] {
        let request = gateway
            .request("GET", "/protected/x")
            .header("Connection", "Upgrade");
        let answer = request.header("Upgrade", protocol).send();
        assert_eq!(answer.status, 401, "{protocol}");
        let answer = gateway
            .request("GET", "/protected/x")
            .header("Upgrade", protocol)
            .send();
        assert_eq!(answer.status, 401, "{protocol}");
    }
    let preflight = gateway
        .request("OPTIONS", "/protected/x")
        .header("Origin", "https://app.example.com")
        .header("Access-Control-Request-Method", "GET")
        .send();
    assert_eq!(preflight.status, 401);
    assert_eq!(echo.stats().requests, 0);
}

#[test]
fn headers_that_rewrite_a_request_elsewhere_do_nothing_here() {
    let echo = Echo::start();
    let gateway = two_trees(&echo);
    for (name, value) in [
        ("X-Original-URL", "/public/x"),
        ("X-Rewrite-URL", "/public/x"),
        ("X-HTTP-Method-Override", "OPTIONS"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Auth-Role", "admin"),
    ] {
        let answer = gateway
            .request("GET", "/protected/x")
            .header(name, value)
            .send();
        assert_eq!(answer.status, 401, "{name}");
    }
    assert_eq!(echo.stats().requests, 0);
}

#[test]
fn a_client_can_not_nominate_a_forwarded_header_away() {
    let echo = Echo::start();
    let gateway = two_trees(&echo);
    let good = token(json!({ "role": "gues" }));
    for connection in [
        "X-Auth-Role",
        "keep-alive, x-auth-role",
        "close, X-Auth-Role",
    ] {
        let request = gateway.request("GET", "/protected/x").bearer(&good);
        let answer = request.header("Connection", connection).send();
        assert_eq!(answer.received("x-auth-role"), ["gues"], "{connection}");
    }
    // Nor the token itself, to be taken for a guest.
    let request = gateway.request("GET", "/protected/x").bearer("x.y.z");
    assert_eq!(
        request.header("Connection", "Authorization").send().status,
        401
    );
}

#[test]
fn a_chain_that_answers_preflights_answers_nothing_else() {
    let echo = Echo::start();
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          echo: {{ endpoints: [{echo}] }}
        routes:
          - filters:
              - cors: {{ origins: [https://app.example.com] }}
              - jwt: {{ algorithms: [HS256], secret: {SECRET} }}
            upstream: echo
        "
    ));
    let options = |more: &[(&str, &str)]| {
        let request = gateway.request("OPTIONS", "/");
        let add = |request: edgeway_tests::Request<'static>, (name, value): &(&str, &str)| {
            request.header(name, value)
        };
        more.iter().fold(request, add).send().status
    };
    let origin = ("Origin", "https://app.example.com");
    assert_eq!(
        options(&[origin, ("Access-Control-Request-Method", "PUT")]),
        204
    );
    assert_eq!(options(&[origin]), 401);
    assert_eq!(options(&[("Access-Control-Request-Method", "PUT")]), 401);
    assert_eq!(options(&[]), 401);
    assert_eq!(echo.stats().requests, 0);
}
