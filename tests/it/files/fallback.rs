//! What becomes of requests that no file answers.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use edgeway_tests::{Echo, Gateway};

use super::{outcome, site, told};

/// #27.
#[test]
fn an_application_never_sees_what_a_file_answers() {
    let echo = Echo::start();
    let gateway = site(&format!(
        "
        upstreams: {{ app: {{ endpoints: [{echo}] }} }}
        routes:
          - match: {{ path: /static/ }}
            files: {{ alias: site }}
          - upstream: app
        "
    ))
    .start();
    for _ in 0..3 {
        assert_eq!(told(&gateway.get("/static/style.css")), (200, "a{}"));
        assert_eq!(gateway.get("/static/other.css").status, 404);
        let post = gateway.request("POST", "/static/style.css").body("x");
        assert_eq!(post.send().status, 405);
    }
    assert_eq!(echo.stats().requests, 0);
    assert_eq!(gateway.get("/page").status, 200);
    assert_eq!(echo.stats().requests, 1);
}

/// #22: `try_files $uri $uri/ /index.php?$args`.
#[test]
fn a_front_controller_gets_what_is_no_file_with_its_query() {
    let echo = Echo::start();
    let gateway = site(&format!(
        "
        upstreams: {{ php: {{ endpoints: [{echo}] }} }}
        routes:
          - files: site
            rewrite: {{ pattern: '^.*$', to: /index.php }}
            upstream: php
        "
    ))
    .start();
    assert_eq!(told(&gateway.get("/style.css?v=1")), (200, "a{}"));
    assert_eq!(told(&gateway.get("/docs/")), (200, "docs"));
    assert_eq!(gateway.get("/docs").status, 301);
    assert_eq!(echo.stats().requests, 0);
    let page = gateway.get("/product/7?a=b&c=%20d").json();
    assert_eq!(page["path"], "/index.php");
    assert_eq!(page["query"], "a=b&c=%20d");
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let asked = gateway.request(method, "/style.css").send();
        assert_eq!(asked.json()["method"], method);
    }
    let head = gateway.request("HEAD", "/product/7").send();
    assert_eq!(head.status, 200);
    assert_eq!(echo.stats().requests, 6);
}

/// #23: `try_files $uri =404`.
#[test]
fn a_status_can_be_said_for_what_is_not_found() {
    let gateway = site(
        "
        routes:
          - match: { path: /gone/ }
            files: { alias: site, fallback: 410 }
          - files: { root: site, fallback: 404 }
        ",
    )
    .start();
    assert_eq!(told(&gateway.get("/gone/style.css")), (200, "a{}"));
    assert_eq!(gateway.get("/gone/nothing").status, 410);
    assert_eq!(gateway.get("/nothing").status, 404);
    assert_eq!(gateway.request("POST", "/gone/nothing").send().status, 405);
}

#[test]
fn an_application_of_one_page_is_that_page_for_every_path() {
    let gateway = site(
        "
        routes:
          - match: { path: /lost/ }
            files: { alias: site, fallback: /not-there.html }
          - match: { path: /app/ }
            files: { alias: site, fallback: /docs/guide.html }
          - files: { root: site, fallback: /index.html }
        ",
    )
    .start();
    for path in ["/", "/users/7?tab=a", "/docs/x/y", "/empty/", "/.env"] {
        let answer = gateway.get(path);
        assert_eq!(told(&answer), (200, "home"), "{path}");
        assert_eq!(
            answer.header("content-type"),
            Some("text/html; charset=utf-8")
        );
    }
    assert_eq!(told(&gateway.get("/docs/guide.html")), (200, "guide"));
    assert_eq!(told(&gateway.get("/app/other")), (200, "guide"));
    assert_eq!(gateway.get("/lost/other").status, 404);
    let tag = gateway.get("/users/7").header("etag").unwrap().to_owned();
    let again = gateway
        .request("GET", "/users/8")
        .header("If-None-Match", tag);
    assert_eq!(again.send().status, 304);
    assert_eq!(gateway.request("HEAD", "/users/8").send().status, 200);
    assert_eq!(gateway.request("POST", "/users/8").send().status, 405);
}

#[test]
fn methods_that_no_file_knows_are_answered_with_those_it_knows() {
    let gateway = site("routes: [{ files: site }]").start();
    for (method, status) in [
        ("POST", 405),
        ("PUT", 405),
        ("DELETE", 405),
        ("OPTIONS", 204),
    ] {
        for path in ["/style.css", "/nothing"] {
            let answer = gateway.request(method, path).send();
            assert_eq!(answer.status, status, "{method} {path}");
            assert_eq!(
                answer.header("allow"),
                Some("GET, HEAD, OPTIONS"),
                "{method}"
            );
        }
    }
}

#[test]
fn files_come_before_a_fixed_reply_and_a_redirect() {
    let gateway = site(
        "
        routes:
          - match: { path: /fixed/ }
            files: { alias: site }
            respond: { status: 203, text: 'no {path}' }
          - match: { path: /moved/ }
            files: { alias: site }
            redirect: { host: other.test }
        ",
    )
    .start();
    assert_eq!(told(&gateway.get("/fixed/style.css")), (200, "a{}"));
    assert_eq!(told(&gateway.get("/fixed/x")), (203, "no /fixed/x"));
    assert_eq!(
        gateway.request("POST", "/fixed/style.css").send().status,
        203
    );
    assert_eq!(told(&gateway.get("/moved/style.css")), (200, "a{}"));
    assert_eq!(
        gateway.get("/moved/x").header("location"),
        Some("http://other.test/moved/x")
    );
}

/// A gateway whose files fall back on a route with filters and an upstream of its own.
fn joined(echo: &Echo) -> Gateway {
    site(&format!(
        "
        upstreams: {{ app: {{ endpoints: [{echo}] }} }}
        filters:
          - access_log: {{ format: '{{route}} {{target}} {{status}}' }}
          - headers: {{ response: {{ append: {{ X-Ran: all }} }} }}
        routes:
          - name: app
            match: {{ path: /app/ }}
            filters:
              - headers: {{ response: {{ append: {{ X-Ran: app }} }} }}
              - basic_auth: {{ users: {{ ann: env:ANN_HASH }} }}
            strip_prefix: /app
            add_prefix: /v1
            max_body: 2KiB
            upstream: app
          - name: site
            filters:
              - headers: {{ response: {{ append: {{ X-Ran: site }} }} }}
            files: {{ root: site, fallback: {{ route: app }} }}
        "
    ))
    .env("ANN_HASH", HASH)
    .start()
}

/// Of `open sesame`.
const HASH: &str = "$2b$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy";

#[test]
fn what_falls_back_on_a_route_passes_its_filters_once_and_those_before_no_more() {
    let echo = Echo::start();
    let gateway = joined(&echo);
    let file = gateway.get("/style.css");
    assert_eq!(told(&file), (200, "a{}"));
    assert_eq!(file.header_all("x-ran"), ["site", "all"]);
    let refused = gateway.get("/page");
    assert_eq!(
        refused.status, 401,
        "the other route still wants a password"
    );
    assert_eq!(refused.header_all("x-ran"), ["app", "site", "all"]);
    assert_eq!(gateway.request("POST", "/style.css").send().status, 401);
    assert_eq!(echo.stats().requests, 0);
    gateway.wait_for_output("site /style.css 200");
    gateway.wait_for_output("app /page 401");
}

#[test]
fn the_other_route_has_the_request_as_if_it_were_its_own() {
    let echo = Echo::start();
    let gateway = joined(&echo);
    let ann = |request: edgeway_tests::Request<'static>| {
        let token = BASE64_STANDARD.encode("ann:open sesame");
        request.header("Authorization", format!("Basic {token}"))
    };
    let page = ann(gateway.request("GET", "/page?a=b")).send();
    assert_eq!(page.status, 200);
    assert_eq!(page.json()["target"], "/v1/page?a=b");
    assert_eq!(page.header_all("x-ran"), ["app", "site", "all"]);
    let post = |bytes: usize| ann(gateway.request("POST", "/style.css")).body(vec![b'x'; bytes]);
    assert_eq!(post(2_000).send().json()["body_bytes"], 2_000);
    assert_eq!(post(3_000).send().status, 413, "its own limit");
    // And for whom it is itself, nothing has changed.
    let own = ann(gateway.request("GET", "/app/page")).send();
    assert_eq!(own.json()["target"], "/v1/page");
    assert_eq!(own.header_all("x-ran"), ["app", "all"]);
}

#[test]
fn fallbacks_may_have_fallbacks() {
    let echo = Echo::start();
    let gateway = site(&format!(
        "
        upstreams: {{ app: {{ endpoints: [{echo}] }} }}
        caches: {{ pages: {{}} }}
        routes:
          - name: app
            match: {{ path: /never }}
            filters: [headers: {{ response: {{ append: {{ X-Ran: app }} }} }}]
            cache: {{ ttl: 1m, zone: pages }}
            upstream: app
          - name: second
            match: {{ path: /second }}
            filters: [headers: {{ response: {{ append: {{ X-Ran: second }} }} }}]
            files: {{ root: site/docs, fallback: {{ route: app }} }}
          - filters: [headers: {{ response: {{ append: {{ X-Ran: first }} }} }}]
            files: {{ root: site, fallback: {{ route: second }} }}
        "
    ))
    .start();
    for (path, ran) in [
        ("/style.css", &["first"][..]),
        ("/guide.html", &["second", "first"]),
        ("/page", &["app", "second", "first"]),
    ] {
        let answer = gateway.get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header_all("x-ran"), ran, "{path}");
    }
    let before = echo.stats().requests;
    let again = gateway.get("/page");
    assert_eq!(outcome(&again).0, 200);
    assert_eq!(echo.stats().requests, before, "the last one has a cache");
    // Whose answer nobody else may have, whichever way it has come.
    let secret = |token: &str| gateway.request("GET", "/own").bearer(token).send();
    let (ann, bob) = (secret("ann"), secret("bob"));
    assert!(ann.text().contains("ann") && bob.text().contains("bob"));
}

#[test]
fn a_limit_for_bodies_holds_before_the_route_that_reads_them() {
    let echo = Echo::start();
    let gateway = site(&format!(
        "
        upstreams: {{ app: {{ endpoints: [{echo}] }} }}
        routes:
          - match: {{ path: /site/ }}
            files: {{ alias: site, fallback: {{ route: app }} }}
            max_body: 10B
          - name: app
            match: {{ path: /app/ }}
            upstream: app
        "
    ))
    .start();
    let post = |body: &'static str| gateway.request("POST", "/site/").body(body).send().status;
    assert_eq!([post("short"), post("longer than ten")], [200, 413]);
}
