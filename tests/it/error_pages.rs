//! The filter `error_pages`: errors with pages of our own, whoever has made them and however they come.

use std::fs;
use std::time::{Duration, Instant};

use edgeway_tests::{Answer, Endpoint, Gateway, Http2, PATIENCE, Reaction, eventually};

use crate::cache_surge::ms;

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// Asks as somebody who likes these types.
fn ask(gateway: &Gateway, method: &str, target: &str, accept: &str) -> Answer {
    let request = gateway.request(method, target);
    request.header("Accept", accept).send()
}

/// A page for everything, of everybody.
const EVERYBODY: &str = "error_pages: { pages: [{ statuses: all, html: '<p>{status} {path} {detail}</p>', \
                         text: 'sorry: {status}' }], of: [replies, upstream] }";

/// An endpoint whose path says how its error is written.
fn failing(http2: bool) -> Endpoint {
    let setup = Endpoint::setup("failing").answers(|request| {
        let page = Reaction::status(500)
            .header("ETag", "\"a\"")
            .header("Content-Encoding", "gzip")
            .header("Retry-After", 7)
            .header("X-Connection", request.connection.number);
        match request.target.split('/').nth(1).unwrap_or_default() {
            "length" => page.body("Traceback: secret"),
            "empty" => page.body(""),
            "long" => page.pieces(vec![vec![b's'; 100_000]; 5], ms(1)),
            "chunks" => page
                .pieces(["Trace", "back"], ms(20))
                .header("Transfer-Encoding", "chunked"),
            "stream" => page.pieces(["Trace", "back"], ms(20)),
            "cut" => page.pieces(vec![vec![b's'; 100]; 5], ms(20)).cut(),
            "hangs" => page.pieces(["Trace", "back"], ms(60_000)),
            "kept" => page
                .header("Cache-Control", "max-age=60")
                .header("Expires", "Thu, 31 Dec 2037 23:55:55 GMT")
                .body("kept"),
            _ => Reaction::status(200).body("fine"),
        }
    });
    match http2 {
        true => setup.h2c().start(),
        false => setup.start(),
    }
}

fn before(endpoint: &Endpoint, upstream: &str, route: &str) -> Gateway {
    Gateway::start(&format!(
        "
        upstreams: {{ app: {{ endpoints: [{endpoint}], {upstream} }} }}
        filters:
          - {EVERYBODY}
        routes: [{{ upstream: app {route} }}]
        "
    ))
}

#[test]
fn a_reply_without_a_body_gets_a_page_in_the_form_that_the_client_likes() {
    let gateway = Gateway::start(
        "
        filters:
          - error_pages:
              pages:
                - statuses: 404
                  html: '<h1>{title}</h1><p>{host}{path} {request_id}</p>'
                  json: { code: '{status}', path: '{path}', list: [1, '{title}'] }
                - statuses: [5xx, 403]
                  text: '{status}: {detail}'
                  status: 200
        routes:
          - match: { path: /closed }
            filters: [ip_access: { deny: [127.0.0.0/8] }]
            respond: { text: never }
          - match: { path: /empty }
            respond: { status: 404 }
          - match: { path: /own }
            respond: { status: 404, text: my own page }
          - match: { path: /unused }
            respond: { status: 410 }
        ",
    );
    let page = ask(&gateway, "GET", "/none/%3Cscript%3E'", BROWSER);
    assert_eq!(page.status, 404);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let text = page.text();
    assert!(
        text.starts_with("<h1>Not Found</h1><p>127.0.0.1/none/%3Cscript%3E&#39;"),
        "{text}"
    );
    assert!(!text.contains("<script") && !text.contains('"'), "{text}");
    assert_eq!(page.header("vary"), Some("Accept"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    let json = ask(&gateway, "GET", "/empty/a\"b", "application/json");
    assert_eq!(json.header("content-type"), Some("application/json"));
    assert_eq!(
        json.text(),
        r#"{"code":404,"path":"/empty/a%22b","list":[1,"Not Found"]}"#
    );
    let head = ask(&gateway, "HEAD", "/empty", "application/json");
    assert_eq!((head.status, head.text()), (404, ""));
    let length = r#"{"code":404,"path":"/empty","list":[1,"Not Found"]}"#.len();
    assert_eq!(head.header("content-length"), Some(&*length.to_string()));
    let other = ask(&gateway, "GET", "/closed", "text/plain");
    assert_eq!(
        (other.status, other.text()),
        (200, "403: Access from your address is not allowed.")
    );
    assert_eq!(gateway.get("/own").text(), "my own page");
    let plain = ask(&gateway, "GET", "/unused", "application/json").json();
    assert_eq!(plain["title"], "Gone", "{plain}");
    // What has no route and no path has a page all the same.
    let mut connection = gateway.connect();
    connection.send("GET /../a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(connection.answer().status, 400);
}

#[test]
fn a_failure_to_reach_the_upstream_has_a_page_and_the_connection_is_kept() {
    let gateway = Gateway::start(
        "
        upstreams: { gone: { endpoints: ['127.0.0.1:1'] } }
        filters:
          - error_pages: { pages: [{ statuses: 502, html: 'Back soon. {detail}' }] }
        routes: [{ upstream: gone }]
        ",
    );
    let page = ask(&gateway, "GET", "/", BROWSER);
    assert_eq!((page.status, page.text()), (502, "Back soon. "));
    let problem = ask(&gateway, "GET", "/", "application/json");
    assert_eq!(
        problem.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(problem.json()["status"], 502);
    assert!(problem.json()["request_id"].is_string());
}

#[test]
fn errors_of_an_upstream_are_left_alone_unless_they_are_named() {
    let endpoint = failing(false);
    let gateway = Gateway::start(&format!(
        "
        upstreams: {{ app: {{ endpoints: [{endpoint}] }} }}
        filters:
          - error_pages: {{ pages: [{{ statuses: all, html: page }}] }}
        routes: [{{ upstream: app }}]
        "
    ));
    assert_eq!(
        ask(&gateway, "GET", "/length", BROWSER).text(),
        "Traceback: secret"
    );
}

/// Asserts that this is the page, and nothing else.
#[track_caller]
fn is_page(answer: &Answer, path: &str) {
    let page = format!("<p>500 {path} </p>");
    assert_eq!((answer.status, answer.text()), (500, &*page), "{answer:?}");
    assert_eq!(
        answer.header("content-length"),
        Some(&*page.len().to_string())
    );
    assert_eq!(answer.header("transfer-encoding"), None);
    assert_eq!(answer.header("content-encoding"), None);
    assert_eq!(answer.header("etag"), None);
    assert_eq!(answer.header("retry-after"), Some("7"));
}

const KINDS: [&str; 5] = ["/length", "/empty", "/chunks", "/stream", "/long"];

#[test]
fn the_error_of_an_endpoint_is_replaced_however_it_comes() {
    for (http2, upstream) in [(false, ""), (true, "protocol: http2, max_fails: 0")] {
        let endpoint = failing(http2);
        for route in ["", ", cache: { ttl: { 500: 1m } }"] {
            let gateway = before(&endpoint, upstream, route);
            let mut connection = gateway.connect();
            for path in KINDS.iter().flat_map(|path| [path, path]) {
                if *path == "/stream" && !http2 {
                    continue;
                }
                let request = connection.request("GET", path).header("Accept", BROWSER);
                is_page(&request.send(), path);
                let head = ask(&gateway, "HEAD", path, "text/plain");
                assert_eq!((head.status, head.text()), (500, ""), "{path}");
                assert_eq!(head.header("content-length"), Some("10"), "{path}");
                assert_eq!(connection.get("/fine").text(), "fine", "{path}");
                let two = Http2::open(gateway.address());
                let mut request = two.request("GET", path, "");
                let accept = BROWSER.parse().unwrap();
                request.headers_mut().insert("accept", accept);
                let answer = two.send(request).unwrap();
                let page = format!("<p>500 {path} </p>");
                assert_eq!(
                    (answer.status, &*answer.body),
                    (500, page.as_bytes()),
                    "{path} {route}"
                );
                assert_eq!(answer.headers["content-length"], &*page.len().to_string());
                assert_eq!(two.get("/fine").body, "fine", "{path}");
            }
        }
    }
}

#[test]
fn nobody_waits_for_an_error_that_is_replaced_nor_misses_its_end() {
    let endpoint = failing(false);
    let gateway = before(&endpoint, "", "");
    for path in ["/cut", "/hangs"] {
        let request = gateway.request("GET", path).header("Accept", BROWSER);
        let started = Instant::now();
        is_page(&request.send(), path);
        assert!(started.elapsed() < Duration::from_secs(30), "{path}");
    }
}

#[test]
fn a_part_that_is_not_there_is_still_told_how_long_the_whole_is() {
    let gateway = Gateway::setup(
        "
        filters: [error_pages: { pages: [{ statuses: 416, text: 'no such part' }] }]
        routes: [{ files: site }]
        ",
    )
    .file("site/a.txt", "123456")
    .start();
    let request = gateway
        .request("GET", "/a.txt")
        .header("Accept", "text/plain");
    let answer = request.header("Range", "bytes=9-").send();
    assert_eq!((answer.status, answer.text()), (416, "no such part"));
    assert_eq!(answer.header("content-range"), Some("bytes */6"));
}

#[test]
fn what_an_endpoint_says_of_its_error_does_not_have_a_page_kept() {
    let endpoint = failing(false);
    for route in ["", ", cache: { ttl: { 500: 1m } }"] {
        let gateway = before(&endpoint, "", route);
        for _ in 0..2 {
            let page = ask(&gateway, "GET", "/kept", BROWSER);
            is_page(&page, "/kept");
            assert_eq!(page.header_all("cache-control"), ["no-store"]);
            assert_eq!(page.header("expires"), None);
        }
    }
}

#[test]
fn a_connection_to_an_endpoint_outlives_errors_that_are_replaced() {
    let endpoint = failing(false);
    let gateway = before(&endpoint, "", "");
    let mut connection = gateway.connect();
    for path in ["/length", "/empty", "/length", "/long"] {
        let answer = connection
            .request("GET", path)
            .header("Accept", BROWSER)
            .send();
        is_page(&answer, path);
        assert_eq!(answer.header("x-connection"), Some("1"), "{path}");
    }
}

#[test]
fn a_stored_error_has_the_page_of_who_asks_for_it() {
    let endpoint = failing(false);
    let gateway = before(&endpoint, "", ", cache: { ttl: { 500: 1m } }");
    for (accept, page) in [
        (BROWSER, "<p>500 /length </p>"),
        ("text/plain", "sorry: 500"),
        (BROWSER, "<p>500 /length </p>"),
    ] {
        let answer = ask(&gateway, "GET", "/length", accept);
        assert_eq!((answer.status, answer.text()), (500, page));
    }
    assert_eq!(endpoint.requests(), 1);
}

#[test]
fn an_upload_to_who_answers_with_an_error_is_answered_by_the_page() {
    let endpoint = failing(false);
    let gateway = before(&endpoint, "", "");
    for path in ["/length", "/empty"] {
        let request = gateway.request("POST", path).header("Accept", BROWSER);
        is_page(&request.body(vec![b'x'; 1 << 20]).send(), path);
        let two = Http2::open(gateway.address());
        let request = two.request("POST", path, vec![b'x'; 100_000]);
        let answer = two.send(request).unwrap();
        assert_eq!(
            (answer.status, &*answer.body),
            (500, format!("<p>500 {path} </p>").as_bytes())
        );
    }
}

#[test]
fn the_page_of_a_route_comes_before_that_of_all_and_both_before_filters_above() {
    let endpoint = failing(false);
    let gateway = Gateway::setup(&format!(
        "
        upstreams: {{ app: {{ endpoints: [{endpoint}] }} }}
        filters:
          - mask: {{ word: secret }}
          - error_pages: {{ pages: [{{ statuses: all, text: 'the secret of all' }}], of: [replies, upstream] }}
        routes:
          - match: {{ path: /own }}
            filters:
              - error_pages: {{ pages: [{{ statuses: 404, text: 'a secret of my own' }}] }}
            respond: {{ status: 404 }}
          - upstream: app
        "
    ))
    .program("examples/mask")
    .start();
    assert_eq!(
        ask(&gateway, "GET", "/own", "text/plain").text(),
        "a ****** of my own"
    );
    for path in ["/length", "/empty", "/chunks"] {
        let answer = ask(&gateway, "GET", path, "text/plain");
        assert_eq!(answer.text(), "the ****** of all");
        assert_eq!(answer.header("content-length"), Some("17"));
    }
}

#[test]
fn headers_that_say_what_to_do_about_an_error_stay() {
    let gateway = Gateway::start(
        "
        filters:
          - error_pages: { pages: [{ statuses: 4xx, text: '{title}. {detail}' }] }
        routes:
          - match: { path: /login }
            filters:
              - cors: { origins: [https://app.example.com] }
              - jwt: { algorithms: [HS256], secret: a-secret-of-enough-bytes-for-everybody }
            respond: { text: in }
          - match: { path: /limited }
            filters: [rate_limit: { rate: 1/h }]
            respond: { text: in }
        ",
    );
    let request = gateway
        .request("GET", "/login")
        .header("Accept", "text/plain");
    let refused = request.header("Origin", "https://app.example.com").send();
    assert_eq!(refused.status, 401);
    assert!(
        refused.text().starts_with("Unauthorized. "),
        "{}",
        refused.text()
    );
    assert!(
        refused
            .header("www-authenticate")
            .unwrap()
            .starts_with("Bearer")
    );
    assert_eq!(
        refused.header("access-control-allow-origin"),
        Some("https://app.example.com")
    );
    assert_eq!(gateway.get("/limited").status, 200);
    let refused = ask(&gateway, "GET", "/limited", "text/plain");
    assert_eq!(refused.status, 429);
    assert!(
        refused.text().starts_with("Too Many Requests."),
        "{}",
        refused.text()
    );
    assert!(refused.header("retry-after").is_some());
}

#[test]
fn a_page_in_a_file_follows_the_file() {
    let gateway = Gateway::setup(
        "
        filters:
          - error_pages:
              pages:
                - { statuses: 404, file: [pages/404.html, pages/404.json] }
                - { statuses: 5xx, file: pages/5xx.txt }
        routes:
          - match: { path: /broken }
            respond: { status: 500 }
        ",
    )
    .file("pages/404.html", "<style>p{margin:0}</style><p>{path}</p>")
    .file("pages/404.json", r#"{ "code": "{status}" }"#)
    .file("pages/5xx.txt", "{title}")
    .start();
    let html = || ask(&gateway, "GET", "/x", "text/html").text().to_owned();
    assert_eq!(html(), "<style>p{margin:0}</style><p>/x</p>");
    let json = ask(&gateway, "GET", "/x", "application/json");
    assert_eq!(json.text(), r#"{"code":404}"#);
    assert_eq!(
        ask(&gateway, "GET", "/broken", "*/*").text(),
        "Internal Server Error"
    );
    gateway.write("pages/404.html", "new: {status}");
    eventually(PATIENCE, || html() == "new: 404");
    gateway.write("pages/404.html", "wrong: {statsu}");
    gateway.wait_for_log("did you mean `{status}`?");
    assert_eq!(html(), "new: 404");
    fs::remove_file(gateway.folder().join("pages/404.html")).unwrap();
    gateway.wait_for_log("can't read");
    assert_eq!(html(), "new: 404");
}

#[test]
fn a_call_of_grpc_is_told_by_headers() {
    let gateway = Gateway::start(
        "
        upstreams: { gone: { endpoints: ['127.0.0.1:1'] } }
        filters:
          - error_pages: { pages: [{ statuses: all, text: page }], of: [replies, upstream] }
        routes: [{ upstream: gone }]
        ",
    );
    let two = Http2::open(gateway.address());
    let answer = two.call("/a.B/C", b"");
    assert_eq!(answer.headers["grpc-status"], "14");
    assert!(answer.body.is_empty());
}
