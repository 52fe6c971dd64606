//! Bodies in both directions, and connections that stay right whatever happens to them.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use edgeway_tests::{Connection, Echo, Gateway, PATIENCE, Upstream, eventually};

const LARGE: usize = 10 * 1024 * 1024;

fn in_front_of(endpoint: impl std::fmt::Display) -> Gateway {
    Gateway::start(&format!(
        "
        upstreams: {{ app: {{ endpoints: ['{endpoint}'], max_fails: 0 }} }}
        routes:
          - match: {{ path: /app }}
            upstream: app
          - match: {{ path: /fixed, method: GET }}
            respond: {{ text: fixed }}
        "
    ))
}

/// A signal between the test and a closure that may be called more than once.
fn signal() -> (Sender<()>, Mutex<Receiver<()>>) {
    let (sender, receiver) = channel();
    (sender, Mutex::new(receiver))
}

fn wait(receiver: &Mutex<Receiver<()>>) {
    receiver.lock().unwrap().recv_timeout(PATIENCE).unwrap();
}

#[test]
fn large_uploads_arrive_whole() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo);
    let mut connection = gateway.connect();
    let body = vec![b'a'; LARGE];
    let answer = connection.request("POST", "/app").body(body.clone()).send();
    assert_eq!(answer.json()["body_bytes"], LARGE);
    assert_eq!(answer.received("content-length"), [LARGE.to_string()]);
    let chunks = body.chunks(100_000);
    let answer = connection.request("PUT", "/app").chunks(chunks).send();
    assert_eq!(answer.json()["body_bytes"], LARGE);
    assert_eq!(answer.received("content-length"), [""; 0]);
    assert_eq!(connection.get("/fixed").text(), "fixed");
}

#[test]
fn large_downloads_arrive_whole() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo);
    let mut connection = gateway.connect();
    for target in [
        format!("/app?size={LARGE}"),
        format!("/app?size={LARGE}&chunked=1"),
    ] {
        let answer = connection.get(&target);
        assert_eq!(answer.body.len(), LARGE, "{target}");
        assert!(answer.body.iter().all(|byte| *byte == b'x'), "{target}");
        assert!(answer.reusable, "{target}");
    }
    assert_eq!(echo.stats().connections, 1);
}

/// The second piece is only sent when the first has arrived.
#[test]
fn an_upload_is_passed_on_as_it_comes() {
    let (arrived, has_arrived) = signal();
    let arrived = Mutex::new(arrived);
    let upstream = Upstream::raw(move |mut caller| {
        caller.head();
        assert_eq!(caller.body(5).unwrap(), b"first");
        arrived.lock().unwrap().send(()).unwrap();
        assert_eq!(caller.body(6).unwrap(), b"second");
        caller.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nboth");
    });
    let gateway = in_front_of(&upstream);
    let mut connection = gateway.connect();
    connection.send("POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nfirst");
    wait(&has_arrived);
    connection.send("second");
    assert_eq!(connection.answer().text(), "both");
}

/// The second piece is only sent when the first has arrived.
#[test]
fn a_download_is_passed_on_as_it_comes() {
    for (head, first, second) in [
        ("Content-Length: 11\r\n\r\n", "first", "second"),
        (
            "Transfer-Encoding: chunked\r\n\r\n",
            "5\r\nfirst\r\n",
            "6\r\nsecond\r\n0\r\n\r\n",
        ),
    ] {
        let (go_on, may_go_on) = signal();
        let upstream = Upstream::raw(move |mut caller| {
            caller.request();
            caller.send(format!("HTTP/1.1 200 OK\r\n{head}"));
            wait(&may_go_on);
            caller.send(first);
            wait(&may_go_on);
            caller.send(second);
        });
        let gateway = in_front_of(&upstream);
        let mut connection = gateway.connect();
        connection.send("GET /app HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(connection.head().status, 200, "{head}");
        go_on.send(()).unwrap();
        assert_eq!(connection.read(first.len()).unwrap(), first.as_bytes());
        go_on.send(()).unwrap();
        assert_eq!(connection.read(second.len()).unwrap(), second.as_bytes());
        assert_eq!(connection.get("/fixed").text(), "fixed");
    }
}

#[test]
fn empty_bodies_are_bodies() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo);
    let mut connection = gateway.connect();
    for _ in 0..3 {
        let none: [&str; 0] = [];
        let chunked = connection.request("POST", "/app").chunks(none).send();
        assert_eq!(chunked.json()["body_bytes"], 0);
        let length = connection.request("POST", "/app").body("").send();
        assert_eq!(length.json()["body_bytes"], 0);
        assert_eq!(connection.get("/app").json()["body_bytes"], 0);
    }
    let stats = echo.stats();
    assert_eq!((stats.requests, stats.connections), (9, 1));
}

/// A trailer belongs to the body, not to the next message.
#[test]
fn trailers_do_not_disturb_the_next_message() {
    let upstream = Upstream::raw(|mut caller| {
        while caller.request().is_some() {
            let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            caller.send(answer);
            caller.send("2;ext=1\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n");
        }
    });
    let gateway = in_front_of(&upstream);
    let mut connection = gateway.connect();
    for _ in 0..3 {
        connection.send(
            "POST /app HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
             3;x=y\r\nabc\r\n0\r\nX-Sum: 2\r\n\r\n",
        );
        assert_eq!(connection.answer().text(), "ok");
    }
}

#[test]
fn a_client_that_asks_first_is_told_to_continue() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo);
    let mut connection = gateway.connect();
    let head = "POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    connection.send(head);
    let go_on = connection.read(b"HTTP/1.1 100 Continue\r\n".len()).unwrap();
    assert_eq!(go_on, b"HTTP/1.1 100 Continue\r\n");
    while connection.read(1).unwrap() != b"\n" {}
    connection.send("hello");
    let answer = connection.answer();
    assert_eq!(answer.json()["body"], "hello");
    assert!(answer.interim.is_empty());
    assert_eq!(connection.get("/fixed").text(), "fixed");
}

/// It will not send the body, so nobody may wait for it.
#[test]
fn a_client_that_asks_first_may_be_refused_at_once() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo);
    for (path, status) in [("/missing", 404), ("/fixed", 405)] {
        let mut connection = gateway.connect();
        connection.send(format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        ));
        let answer = connection.answer();
        assert_eq!(
            (answer.status, answer.interim.as_slice()),
            (status, &[][..])
        );
        assert!(!answer.reusable, "the body may come all the same");
        connection.expect_close();
    }
}

/// The body of a refused request must never be taken for a request.
#[test]
fn a_refused_body_is_not_taken_for_the_next_request() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo);
    let smuggled = "GET /app?smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for (method, path, status) in [("POST", "/missing", 404), ("PUT", "/fixed", 405)] {
        let mut connection = gateway.connect();
        let answer = connection.request(method, path).body(smuggled).send();
        assert_eq!(answer.status, status);
        assert!(
            answer.reusable,
            "a small body is read for the sake of the connection"
        );
        assert_eq!(connection.get("/fixed").text(), "fixed");
        let answer = connection.request(method, path).chunks([smuggled]).send();
        assert_eq!(answer.status, status);
        if answer.reusable {
            assert_eq!(connection.get("/fixed").text(), "fixed");
        } else {
            connection.expect_close();
        }
    }
    assert_eq!(echo.stats().requests, 0);
}

#[test]
fn a_large_body_that_nobody_wants_does_not_keep_the_client_from_the_answer() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo);
    for size in [100_000, 1_000_000, LARGE] {
        let mut connection = gateway.connect();
        let body = vec![b'a'; size];
        let answer = connection.request("POST", "/missing").body(body).send();
        assert_eq!(answer.status, 404, "{size}");
        if answer.reusable {
            assert_eq!(connection.get("/fixed").text(), "fixed", "{size}");
        }
    }
}

/// An endpoint may refuse without reading (413): its answer counts.
#[test]
fn an_answer_that_comes_before_the_end_of_the_upload_arrives() {
    let upstream = Upstream::raw(|mut caller| {
        caller.head();
        caller.send("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig");
        caller.wait_for_close();
    });
    let gateway = in_front_of(&upstream);
    let answer = gateway
        .request("POST", "/app")
        .body(vec![b'a'; 1_000_000])
        .send();
    assert_eq!((answer.status, answer.text()), (413, "big"));
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo);
    let mut connection = gateway.connect();
    let one = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    let upload = "POST /app?1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let all = [
        &one("/app?0"),
        upload,
        &one("/fixed"),
        &one("/missing"),
        &one("/app?4"),
    ];
    connection.send(all.concat());
    assert_eq!(connection.answer().json()["query"], "0");
    assert_eq!(connection.answer().json()["body"], "abc");
    assert_eq!(connection.answer().text(), "fixed");
    assert_eq!(connection.answer().status, 404);
    assert_eq!(connection.answer().json()["query"], "4");
}

#[test]
fn a_request_that_comes_in_single_bytes_is_a_request() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo);
    let mut connection = gateway.connect();
    for byte in
        b"POST /app HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    {
        connection.send([*byte]);
    }
    assert_eq!(connection.answer().json()["body"], "hi");
}

/// Half an upload must not look like a whole one.
#[test]
fn a_client_that_leaves_in_the_middle_of_an_upload_leaves_a_broken_one() {
    let (seen, was_seen) = channel();
    let seen = Mutex::new(seen);
    let upstream = Upstream::raw(move |mut caller| {
        let whole = caller.request().is_some();
        seen.lock().unwrap().send(whole).unwrap();
    });
    let gateway = in_front_of(&upstream);
    for head in [
        "Content-Length: 100\r\n\r\nhalf",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let mut connection = gateway.connect();
        connection.send(format!("POST /app HTTP/1.1\r\nHost: a\r\n{head}"));
        eventually(PATIENCE, || !upstream.heads().is_empty());
        drop(connection);
        assert!(!was_seen.recv_timeout(PATIENCE).unwrap(), "{head}");
    }
    assert_eq!(gateway.get("/fixed").text(), "fixed");
}

#[test]
fn a_client_that_leaves_before_the_answer_frees_the_endpoint() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo);
    let mut connection = gateway.connect();
    connection.send("GET /app?delay=60s HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(PATIENCE, || echo.stats().open_connections == 1);
    drop(connection);
    eventually(PATIENCE, || echo.stats().open_connections == 0);
    assert_eq!(gateway.get("/app").status, 200);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_download_does_no_harm() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo);
    for _ in 0..5 {
        let mut connection = gateway.connect();
        connection.send("GET /app?size=100000000 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(connection.head().status, 200);
        connection.read(1000).unwrap();
    }
    eventually(PATIENCE, || echo.stats().open_connections == 0);
    assert_eq!(gateway.get("/app?size=5").text(), "xxxxx");
}

/// What an endpoint sends that is no answer is a 502; the same request is right a moment later.
#[test]
fn an_upstream_that_does_not_speak_http_is_502() {
    for bytes in [
        &b""[..],
        b"garbage\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\n: nothing\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
    ] {
        let upstream = Upstream::answers(bytes);
        let gateway = in_front_of(&upstream);
        let mut connection = gateway.connect();
        let answer = connection.get("/app");
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(answer.status, 502, "{shown}");
        assert_eq!(answer.json()["title"], "Bad Gateway", "{shown}");
        if answer.reusable {
            assert_eq!(connection.get("/fixed").text(), "fixed", "{shown}");
        } else {
            connection.expect_close();
        }
    }
}

/// A client must be able to see that it has not got everything.
#[test]
fn a_body_that_breaks_off_never_looks_whole() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    ] {
        let upstream = Upstream::answers(bytes);
        let gateway = in_front_of(&upstream);
        match gateway.request("GET", "/app").attempt() {
            Ok(answer) => assert_eq!(answer.status, 502, "{bytes}: {answer:?}"),
            Err(broken) => {
                let partial = broken
                    .partial
                    .unwrap_or_else(|| panic!("{bytes}: no answer"));
                assert_eq!(partial.status, 200, "{bytes}");
                assert!(partial.body.len() < 10, "{bytes}");
            }
        }
        assert_eq!(gateway.get("/fixed").text(), "fixed", "{bytes}");
    }
}

#[test]
fn a_reset_in_the_middle_of_a_body_is_seen() {
    let upstream = Upstream::raw(|mut caller| {
        caller.request();
        caller.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        caller.reset();
    });
    let gateway = in_front_of(&upstream);
    match gateway.request("GET", "/app").attempt() {
        Ok(answer) => assert_eq!(answer.status, 502),
        Err(broken) => assert_eq!(broken.partial.unwrap().status, 200),
    }
}

/// What is beyond the announced end is nobody's: neither this client's nor the next one's.
#[test]
fn what_an_upstream_sends_too_much_reaches_no_client() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\
         Content-Length: 4\r\n\r\nevil",
    ] {
        let upstream = Upstream::raw(move |mut caller| {
            while caller.request().is_some() {
                caller.send(bytes);
            }
        });
        let gateway = in_front_of(&upstream);
        for _ in 0..5 {
            let mut connection = gateway.connect();
            assert_eq!(connection.get("/app").text(), "ok", "{bytes}");
            assert_eq!(connection.get("/fixed").text(), "fixed", "{bytes}");
            assert_eq!(connection.get("/app").text(), "ok", "{bytes}");
        }
    }
}

#[test]
fn a_body_that_ends_with_its_connection_arrives_whole() {
    let upstream = Upstream::answers("HTTP/1.0 200 OK\r\n\r\neverything");
    let gateway = in_front_of(&upstream);
    let mut connection = gateway.connect();
    for _ in 0..2 {
        let answer = connection.get("/app");
        assert_eq!(answer.text(), "everything");
        assert!(answer.reusable);
    }
}

#[test]
fn early_hints_do_not_disturb_the_answer() {
    let upstream = Upstream::answers(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let gateway = in_front_of(&upstream);
    let mut connection = gateway.connect();
    let answer = connection.get("/app");
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    assert_eq!(answer.interim, [103]);
    assert_eq!(connection.get("/fixed").text(), "fixed");
}

fn patient(setting: &str) -> (Echo, Gateway) {
    let echo = Echo::start();
    let gateway = Gateway::start(&format!(
        "
        requests: {{ {setting} }}
        upstreams: {{ app: {{ endpoints: ['{echo}'] }} }}
        routes: [{{ upstream: app }}]
        "
    ));
    (echo, gateway)
}

#[test]
fn a_connection_without_a_next_request_is_closed_after_its_time() {
    let (_echo, gateway) = patient("keepalive: 1s");
    let mut connection = gateway.connect();
    assert_eq!(connection.get("/?size=2").text(), "xx");
    connection.patience(PATIENCE);
    connection.expect_close();
}

#[test]
fn a_client_that_pauses_within_a_body_is_given_up_after_its_time() {
    let (_echo, gateway) = patient("read_timeout: 300ms");
    let mut connection = gateway.connect();
    connection.patience(PATIENCE);
    connection.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
    let answer = connection.answer();
    assert_eq!(answer.status, 408);
    assert!(!answer.reusable);
    connection.expect_close();
}

#[test]
fn a_client_that_takes_no_byte_is_given_up_after_its_time() {
    let (echo, gateway) = patient("write_timeout: 300ms");
    let mut connection: Connection = gateway.connect();
    connection.send("GET /?size=100000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(PATIENCE, || echo.stats().requests == 1);
    eventually(PATIENCE, || echo.stats().open_connections == 0);
    let got = connection.rest().map_or(0, |bytes| bytes.len());
    assert!(got < 100_000_000);
}

#[test]
fn a_client_can_not_nominate_away_what_frames_its_request() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo);
    let smuggled = "GET /app?smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let size = smuggled.len();
    for nomination in ["Content-Length", "content-length, close"] {
        let mut connection = gateway.connect();
        connection.send(format!(
            "POST /missing HTTP/1.1\r\nHost: a\r\nConnection: {nomination}\r\n\
             Content-Length: {size}\r\n\r\n{smuggled}"
        ));
        let answer = connection.answer();
        assert_eq!(answer.status, 404, "{nomination}");
        if answer.reusable {
            assert_eq!(connection.get("/fixed").text(), "fixed", "{nomination}");
        } else {
            connection.expect_close();
        }
        assert_eq!(echo.stats().requests, 0, "{nomination}");
    }
    for (nomination, body) in [
        ("Content-Length", "Content-Length: 5\r\n\r\nhello"),
        (
            "Transfer-Encoding",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
    ] {
        let mut connection = gateway.connect();
        connection.send(format!(
            "POST /app HTTP/1.1\r\nHost: a\r\nConnection: {nomination}\r\n{body}"
        ));
        assert_eq!(connection.answer().json()["body_bytes"], 5, "{nomination}");
        assert_eq!(connection.get("/fixed").text(), "fixed", "{nomination}");
    }
}

#[test]
fn an_endpoint_can_not_nominate_away_what_frames_its_response() {
    for framed in [
        "Connection: Content-Length\r\nContent-Length: 2\r\n\r\nok",
        "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ] {
        let upstream = Upstream::answers(format!("HTTP/1.1 200 OK\r\n{framed}"));
        let gateway = in_front_of(&upstream);
        let mut connection = gateway.connect();
        let answer = connection.get("/app");
        assert_eq!(answer.text(), "ok", "{framed}");
        assert!(answer.reusable, "{framed}");
        let length = framed.contains("Length").then_some("2");
        assert_eq!(answer.header("Content-Length"), length, "{framed}");
        assert_eq!(connection.get("/fixed").text(), "fixed", "{framed}");
    }
}

#[test]
fn a_body_that_reads_like_a_refusal_is_passed_on_as_it_is() {
    let body = "HTTP/1.1 400 Bad Request\r\nServer: Pingora\r\nDate: today\r\nContent-Length: 0\r\n\
                Cache-Control: private, no-store\r\nConnection: close\r\n\r\n";
    let size = body.len();
    let upstream = Upstream::answers(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n{body}"
    ));
    let gateway = in_front_of(&upstream);
    let mut connection = gateway.connect();
    for _ in 0..2 {
        assert_eq!(connection.get("/app").text(), body);
        assert_eq!(connection.get("/fixed").text(), "fixed");
    }
    connection.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    let refused = connection.answer();
    assert_eq!(refused.status, 400);
    assert_eq!(refused.header("Server"), None);
}

#[test]
fn an_upload_that_calls_itself_a_websocket_is_not_waited_for_longer() {
    let upstream = Upstream::silent();
    let gateway = Gateway::start(&format!(
        "
        requests: {{ read_timeout: 1s }}
        upstreams: {{ app: {{ endpoints: [{upstream}] }} }}
        routes: [{{ upstream: app }}]
        "
    ));
    for method in ["GET", "POST"] {
        let mut connection = gateway.connect();
        connection.send(format!(
            "{method} / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Content-Length: 5\r\n\r\n"
        ));
        assert_eq!(connection.answer().status, 408, "{method}");
    }
}
