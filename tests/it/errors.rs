//! Refusals and failures: what clients are told, and what not.

use std::time::Instant;

use edgeway_tests::{Answer, Echo, Gateway, Upstream};
use serde_json::json;

fn in_front_of(endpoint: impl std::fmt::Display, timeouts: &str) -> Gateway {
    Gateway::start(&format!(
        "
        upstreams:
          secret-name:
            endpoints: ['{endpoint}']
            timeouts: {{ {timeouts} }}
        filters: [request_id]
        routes:
          - match: {{ path: /app }}
            upstream: secret-name
          - match: {{ path: /only, method: GET }}
            respond: {{ text: x }}
        "
    ))
}

#[track_caller]
fn assert_problem(answer: &Answer, status: u16, title: &str) {
    assert_eq!(answer.status, status);
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    assert_eq!(problem["title"], title);
    assert_eq!(problem["type"], "about:blank");
    let id = answer.header("x-request-id").unwrap();
    assert_eq!(problem["request_id"], id);
}

#[test]
fn refusals_are_problem_details_with_the_request_id() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo, "");
    assert_problem(&gateway.get("/missing"), 404, "Not Found");
    let wrong = gateway.request("DELETE", "/only").send();
    assert_problem(&wrong, 405, "Method Not Allowed");
    let bad = gateway.get("/..");
    assert_problem(&bad, 400, "Bad Request");
    assert_eq!(bad.json()["detail"], "The path is not valid.");
}

#[test]
fn browsers_are_shown_a_page() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo, "");
    for (accept, page) in [
        (
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            true,
        ),
        ("text/html", true),
        ("application/json, text/html", false),
        ("*/*", false),
        ("application/json", false),
        ("", false),
    ] {
        let answer = gateway
            .request("GET", "/missing")
            .header("Accept", accept)
            .send();
        assert_eq!(answer.status, 404);
        let kind = answer.header("content-type").unwrap();
        assert_eq!(kind == "text/html; charset=utf-8", page, "{accept}: {kind}");
        let id = answer.header("x-request-id").unwrap();
        assert!(answer.text().contains(id), "{accept}");
        assert!(answer.text().contains("Not Found"), "{accept}");
    }
}

/// What the client has sent is in the page as text, never as markup.
#[test]
fn a_page_holds_no_markup_of_the_client() {
    let gateway = Gateway::start(
        "
        filters: [request_id: { trust: always }]
        routes: [{ match: { path: /a }, respond: {} }]
        ",
    );
    let request = gateway
        .request("GET", "/<script>")
        .header("Accept", "text/html");
    let answer = request
        .header("X-Request-ID", "<script>alert(1)</script>")
        .send();
    assert!(!answer.text().contains("<script>"), "{}", answer.text());
}

#[test]
fn an_endpoint_that_refuses_is_502() {
    let upstream = Upstream::refusing();
    let gateway = in_front_of(&upstream, "");
    assert_problem(&gateway.get("/app"), 502, "Bad Gateway");
}

/// T18
#[test]
fn an_endpoint_whose_name_does_not_resolve_is_503_and_no_reason_not_to_start() {
    let gateway = in_front_of("no-such-host.invalid:80", "");
    assert_problem(&gateway.get("/app"), 503, "Service Unavailable");
    assert_eq!(gateway.get("/only").text(), "x");
    let line = gateway.wait_for_log("no-such-host.invalid:80");
    assert!(line.contains("warn"), "{line}");
}

/// #40
#[test]
fn an_endpoint_that_does_not_answer_is_504_after_its_time() {
    let upstream = Upstream::silent();
    let gateway = in_front_of(&upstream, "read: 300ms");
    let start = Instant::now();
    assert_problem(&gateway.get("/app"), 504, "Gateway Timeout");
    let passed = start.elapsed().as_millis();
    assert!((300..5000).contains(&passed), "{passed}");
    assert_eq!(
        upstream.connections(),
        1,
        "a busy endpoint is not asked again"
    );
}

/// #40
#[test]
fn an_endpoint_that_can_not_be_reached_is_504_after_its_time() {
    let upstream = Upstream::unreachable();
    let gateway = in_front_of(&upstream, "connect: 300ms");
    let start = Instant::now();
    assert_problem(&gateway.get("/app"), 504, "Gateway Timeout");
    let passed = start.elapsed().as_millis();
    assert!((300..4000).contains(&passed), "{passed}");
}

/// Its answer is waited for all the same: it may have refused the upload.
#[test]
fn an_endpoint_that_does_not_read_is_504_after_its_time() {
    let (gone, is_gone) = std::sync::mpsc::channel::<()>();
    let is_gone = std::sync::Mutex::new(is_gone);
    let upstream = Upstream::raw(move |mut caller| {
        caller.head();
        // Holds the connection and reads nothing until the test is over.
        is_gone.lock().unwrap().recv().ok();
    });
    let gateway = in_front_of(&upstream, "write: 300ms, read: 300ms");
    let start = Instant::now();
    let upload = gateway.request("POST", "/app").body(vec![b'a'; 30_000_000]);
    let answer = upload.send();
    assert_problem(&answer, 504, "Gateway Timeout");
    assert!(!answer.reusable);
    let passed = start.elapsed().as_millis();
    assert!((600..10_000).contains(&passed), "{passed}");
    drop(gone);
}

/// A body that stops in the middle is seen as such: the head is gone already.
#[test]
fn an_endpoint_that_stops_in_the_middle_leaves_a_broken_answer_after_its_time() {
    let upstream = Upstream::raw(|mut caller| {
        caller.request();
        caller.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        caller.wait_for_close();
    });
    let gateway = in_front_of(&upstream, "read: 300ms");
    let broken = gateway.request("GET", "/app").attempt().unwrap_err();
    let partial = broken.partial.unwrap();
    assert_eq!((partial.status, partial.text()), (200, "abc"));
}

/// #46
#[test]
fn a_failure_tells_the_client_nothing_of_the_inside_and_the_operator_everything() {
    let upstream = Upstream::refusing();
    let port = upstream.address().port().to_string();
    let gateway = Gateway::start(&format!(
        "
        upstreams: {{ secret-name: {{ endpoints: ['{upstream}'] }} }}
        filters: [request_id, access_log: {{ format: json }}]
        routes: [{{ upstream: secret-name }}]
        "
    ));
    for accept in ["*/*", "text/html"] {
        let answer = gateway.request("GET", "/").header("Accept", accept).send();
        assert_eq!(answer.status, 502);
        let shown = format!("{:?} {}", answer.headers, answer.text()).to_lowercase();
        for inside in [
            "127.0.0.1",
            &port,
            "secret-name",
            "refused",
            "pingora",
            "edgeway",
        ] {
            assert!(!shown.contains(inside), "{inside}: {shown}");
        }
        let id = answer.header("x-request-id").unwrap();
        let line = gateway.wait_for_output(id);
        assert!(
            line.contains("secret-name") && line.contains(&port),
            "{line}"
        );
    }
}

#[test]
fn malformed_requests_are_400_and_end_the_connection() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo, "");
    let head = |lines: &str| format!("GET /app HTTP/1.1\r\n{lines}\r\n\r\n");
    let post = |lines: &str| format!("POST /app HTTP/1.1\r\nHost: a\r\n{lines}");
    for bytes in [
        "garbage\r\n\r\n".to_owned(),
        "GET /app\r\n\r\n".to_owned(),
        "G\u{e9}T /app HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        head("X-A: b"),
        head("Host: a\r\nHost: b"),
        head("Host: a/b"),
        head("Host: a b"),
        head("Host: user@a"),
        head("Host:"),
        head("Host: a\r\nBad Name: x"),
        head("Host: a\r\nX-A : x"),
        head("Host: a\r\nNoColon"),
        head("Host: a\r\nX-A: b\0c"),
        head("Host: a\r\nX-A: b\r\n folded"),
        post("Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        post("Content-Length: -1\r\n\r\n"),
        post("Content-Length: +3\r\n\r\nabc"),
        post("Content-Length: 3, 4\r\n\r\nabc"),
        post("Content-Length: 0x3\r\n\r\nabc"),
        post("Transfer-Encoding: gzip\r\n\r\nabc"),
        post("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n"),
    ] {
        let mut connection = gateway.connect();
        connection.send(&bytes);
        connection.finish();
        let answer = connection.try_answer();
        let answer = answer.unwrap_or_else(|broken| panic!("{bytes:?}: {broken}"));
        assert_eq!(answer.status, 400, "{bytes:?}");
        assert_eq!(answer.header("server"), None, "{bytes:?}");
        assert_eq!(answer.json()["status"], 400, "{bytes:?}");
        connection.rest().unwrap();
    }
    assert_eq!(gateway.get("/app").status, 200);
}

#[test]
fn a_version_that_is_not_spoken_is_505() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo, "");
    let mut connection = gateway.connect();
    connection.send("GET /app HTTP/3.7\r\nHost: a\r\n\r\n");
    let answer = connection.answer();
    assert_eq!(
        (answer.status, &answer.json()["status"]),
        (505, &json!(505))
    );
    connection.expect_close();
}

/// Two readings of where a body ends make one request two (RFC 9112, 11.2).
#[test]
fn a_request_with_both_framings_is_never_two_requests() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo, "");
    let smuggled = "GET /app?smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for framing in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\nContent-Length: 100\r\n\r\n0\r\n\r\n".to_owned(),
    ] {
        let before = echo.stats().requests;
        let mut connection = gateway.connect();
        connection.send(format!(
            "POST /app HTTP/1.1\r\nHost: a\r\n{framing}{smuggled}"
        ));
        let answer = connection.answer();
        assert!([200, 400].contains(&answer.status), "{framing}");
        connection.expect_close();
        assert!(echo.stats().requests <= before + 1, "{framing}");
    }
}

#[test]
fn a_tunnel_is_refused() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo, "");
    let mut connection = gateway.connect();
    connection.send("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n");
    let answer = connection.answer();
    assert_eq!((answer.status, answer.header("server")), (405, None));
    assert_eq!(answer.json()["title"], "Method Not Allowed");
    assert_eq!(echo.stats().requests, 0);
}

#[test]
fn too_many_headers_are_refused_and_many_are_not() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo, "");
    let with = |count: usize| {
        let request = gateway.request("GET", "/app");
        (0..count).fold(request, |request, number| {
            request.header(&format!("X-{number}"), number)
        })
    };
    let answer = with(90).send();
    assert_eq!(answer.received("x-89"), ["89"]);
    assert_eq!(with(1000).send().status, 431);
    assert_eq!(gateway.get("/app").status, 200);
}
