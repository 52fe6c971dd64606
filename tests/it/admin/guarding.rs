//! Who may call.

use super::*;

/// A gateway whose admin listener wants the token `t0ken`.
fn with_token() -> Gateway {
    let text = "
        listeners: { http: { bind: '127.0.0.1:0' } }
        admin: { bind: '0.0.0.0:0', token: env:ADMIN_TOKEN }
        upstreams: { pool: { endpoints: ['127.0.0.1:1'] } }
        routes: [{ upstream: pool }]
    ";
    Gateway::setup(text).env("ADMIN_TOKEN", "t0ken").start()
}

fn at(gateway: &Gateway) -> SocketAddr {
    ([127, 0, 0, 1], gateway.address_of("admin").port()).into()
}

#[test]
fn a_listener_for_others_needs_a_token() {
    let text = configuration("endpoints: ['127.0.0.1:1']");
    let told = Gateway::refused(
        &text.replace("admin: { bind: '127.0.0.1:0'", "admin: { bind: '0.0.0.0:0'"),
    );
    assert!(
        told.contains("everybody who can reach 0.0.0.0:0 could change the gateway"),
        "{told}"
    );
    assert!(told.contains("token"), "{told}");
}

#[test]
fn with_a_token_every_call_must_show_it() {
    let gateway = with_token();
    let call = |path: &str| Request::to(at(&gateway), "GET", path);
    for path in [
        "/",
        "/readyz?verbose",
        "/metrics",
        "/v1/upstreams",
        "/nowhere",
    ] {
        let answer = call(path).send();
        problem(&answer, 401, "Authorization: Bearer");
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Bearer"), "{challenge}");
    }
    for probe in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(call(probe).send().status, 200, "{probe}");
    }
    problem(
        &call("/v1/upstreams").bearer("t0keN").send(),
        401,
        "not the token",
    );
    problem(
        &call("/v1/upstreams").bearer("t0ken2").send(),
        401,
        "not the token",
    );
    let answer = call("/v1/upstreams")
        .bearer("t0ken")
        .host("gateway.example")
        .send();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let change = Request::to(at(&gateway), "POST", ENDPOINTS)
        .header("Content-Type", "application/json")
        .body("{\"address\":\"127.0.0.1:2\"}");
    problem(&change.send(), 401, "Authorization");
    let shown = call("/v1/upstreams/pool").bearer("t0ken").send().json();
    assert_eq!(shown["changed"], false);
    assert!(!gateway.log().contains("t0ken"), "the token is in the log");
}

#[test]
fn without_a_token_a_name_that_leads_here_is_not_enough() {
    let a = Endpoint::start("a");
    let gateway = gateway(&format!("endpoints: [{a}]"));
    let call = |host: &str| ask(&gateway, "GET", "/v1/upstreams").host(host).send();
    problem(&call("rebound.example"), 403, "localhost");
    problem(&call("rebound.example:9901"), 403, "localhost");
    assert_eq!(call("localhost:9901").status, 200);
    let answer = ask(&gateway, "GET", "/v1/upstreams").no_host().send();
    problem(&answer, 403, "localhost");
}

#[test]
fn a_page_in_a_browser_changes_nothing() {
    let a = Endpoint::start("a");
    let gateway = gateway(&format!("endpoints: [{a}]"));
    let body = "{\"address\":\"127.0.0.1:2\"}";
    let post = || ask(&gateway, "POST", ENDPOINTS).body(body);
    let form = post().header("Content-Type", "text/plain").send();
    problem(&form, 415, "application/json");
    problem(&post().send(), 415, "application/json");
    let foreign = post()
        .header("Content-Type", "application/json")
        .header("Origin", "http://evil.example");
    problem(&foreign.send(), 403, "another origin");
    let foreign = ask(&gateway, "DELETE", &path_of(&a)).header("Origin", "null");
    problem(&foreign.send(), 403, "another origin");
    assert_eq!(ask(&gateway, "OPTIONS", ENDPOINTS).send().status, 405);
    assert_eq!(names(&gateway), [a.to_string()]);
    let own = format!("http://{}", gateway.address_of("admin"));
    let own = post()
        .header("Content-Type", "application/json")
        .header("Origin", own);
    assert_eq!(own.send().status, 201);
}

#[test]
fn answers_are_kept_by_nobody_and_are_what_they_say() {
    let gateway = with_token();
    let answer = Request::to(at(&gateway), "GET", "/").send();
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}
