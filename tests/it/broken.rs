//! Endpoints that send what they should not, and clients that leave when they should not: each time the next
//! request is right, on whichever connection it comes.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use edgeway_tests::{Answer, Broken, Connection, Gateway, PATIENCE, Upstream, eventually};

use crate::wire::{self, Seen};

fn in_front_of(endpoint: impl std::fmt::Display, more: &str) -> Gateway {
    Gateway::start(&format!(
        "
        threads: 1
        upstreams: {{ app: {{ endpoints: ['{endpoint}'], max_fails: 0, timeouts: {{ read: 700ms }} }} }}
        routes:
          - match: {{ path: /fixed }}
            respond: {{ text: fixed }}
          - match: {{ path: /cached }}
            cache: {{ ttl: 1m }}
            upstream: app
          - upstream: app
        {more}
        "
    ))
}

/// An endpoint that answers with these bytes, but under `/right` as it should.
fn answering(bytes: impl AsRef<[u8]>) -> Upstream {
    let bytes = bytes.as_ref().to_vec();
    Upstream::raw(move |mut caller| {
        while let Some(head) = caller.request() {
            if head.contains(" /right ") {
                caller.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright");
            } else {
                caller.send(&bytes);
            }
        }
    })
}

/// Whatever has become of the last request, the connection is closed or the next one is right; and so is one of
/// another client.
#[track_caller]
fn expect_right(
    gateway: &Gateway,
    connection: &mut Connection,
    got: &Result<Answer, Broken>,
    case: &str,
) {
    if got.as_ref().is_ok_and(|answer| answer.reusable) {
        assert_eq!(connection.get("/right").text(), "right", "{case}");
        assert_eq!(connection.get("/fixed").text(), "fixed", "{case}");
    } else {
        connection.expect_close();
    }
    for _ in 0..2 {
        assert_eq!(gateway.get("/right").text(), "right", "{case}");
    }
}

/// What comes of an answer, by `GET` and twice, since the second may find what the first has left. The client is
/// strict: it takes no framing that may be read in two ways.
#[track_caller]
fn expect(bytes: &str, expected: impl Fn(&Result<Answer, Broken>) -> bool) {
    let upstream = answering(bytes);
    let gateway = in_front_of(&upstream, "");
    let case = bytes.escape_debug().to_string();
    for _ in 0..2 {
        let mut connection = gateway.connect();
        let got = connection.request("GET", "/a").attempt();
        assert!(expected(&got), "{case}: {got:?}");
        expect_right(&gateway, &mut connection, &got, &case);
    }
    let mut connection = gateway.connect();
    let head = connection.request("HEAD", "/a").send();
    assert_eq!(head.body, b"", "{case}");
    expect_right(&gateway, &mut connection, &Ok(head), &case);
}

fn is(got: &Result<Answer, Broken>, status: u16, text: &str) -> bool {
    let right = |answer: &Answer| answer.status == status && answer.body == text.as_bytes();
    got.as_ref().is_ok_and(right)
}

#[test]
fn an_answer_that_may_be_read_in_two_ways_is_a_502() {
    for head in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding:",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 3",
        "HTTP/1.1 200 OK\r\nContent-Length: +2",
        "HTTP/1.1 200 OK\r\nContent-Length: 0x2",
        "HTTP/1.1 200 OK\r\nContent-Length:",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999",
        "HTTP/1.1 200 OK\r\n Content-Length: 2",
        "HTTP/1.1 200 OK\r\nX Y: z\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\nX\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2",
        "HTTP/1.1 200 O\0K\r\nContent-Length: 2",
        "HTTP/1.1 200 O\rK\r\nContent-Length: 2",
        "HTTP/1.2 200 OK\r\nContent-Length: 2",
        "HTTP/2 200 OK\r\nContent-Length: 2",
        "http/1.1 200 OK\r\nContent-Length: 2",
        "HTTP/1.1 099 OK\r\nContent-Length: 2",
        "HTTP/1.1 20 OK\r\nContent-Length: 2",
        "HTTP/1.1 1000 OK\r\nContent-Length: 2",
        "HTTP/1.1  200 OK\r\nContent-Length: 2",
        "HTTP/1.1 101 Switching Protocols",
        "HTTP/1.0 101 Switching Protocols",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket",
        "HTTP/1.1 103 Early\r\nContent-Length: x",
        "ICY 200 OK\r\nContent-Length: 2",
        "OK",
    ] {
        expect(&format!("{head}\r\n\r\n2\r\nok\r\n0\r\n\r\n"), |got| {
            got.as_ref().is_ok_and(|answer| answer.status == 502)
        });
    }
}

/// What endpoints have got wrong for decades without harm is put right.
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn an_answer_that_can_be_put_right_is() {
    for (bytes, status, text) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            200,
            "ok",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            200,
            "ok",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
            200,
            "ok",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
            200,
            "ok",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", 200, "ok"),
        ("HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 200, "ok"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\nX: y\r\n\r\nok",
            200,
            "ok",
        ),
        (
            "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\tc\r\nContent-Length: 2\r\n\r\nok",
            200,
            "ok",
        ),
        (
            "HTTP/1.1 200 OK\r\nX: a\r\n \r\n b\r\nContent-Length: 2\r\n\r\nok",
            200,
            "ok",
        ),
        ("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", 200, "ok"),
        (
            "HTTP/1.1 200 \u{e9}\r\nContent-Length: 2\r\n\r\nok",
            200,
            "ok",
        ),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok"),
        (
            "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            200,
            "ok",
        ),
        ("HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nok", 999, "ok"),
        ("HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\nok", 204, ""),
        (
            "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            204,
            "",
        ),
        ("HTTP/1.1 304 No\r\nContent-Length: 2\r\n\r\nok", 304, ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nok", 200, ""),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
            200,
            "ok",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a\nb\r\nok\r\n0 \r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
            200,
            "ok",
        ),
        (
            "HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            200,
            "ok",
        ),
        (
            "HTTP/1.1 103 E\r\nTransfer-Encoding: chunked\r\nX: a\r\n b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            200,
            "ok",
        ),
        (
            "HTTP/1.1 199 P\r\n\r\nHTTP/1.1 102 P\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            200,
            "ok",
        ),
    ] {
        expect(bytes, |got| {
            let whole = is(got, status, text);
            let plain = got.as_ref().is_ok_and(|answer| {
                let bodyless = status == 204 && answer.header("content-length").is_some();
                answer
                    .header("transfer-encoding")
                    .is_none_or(|coding| coding == "chunked")
                    && !bodyless
            });
            whole && plain
        });
    }
}

#[test]
fn what_is_spoken_to_clients_is_http_1_1_whatever_endpoints_speak() {
    for (framing, body) in [
        ("Content-Length: 2\r\n", "ok"),
        ("", "2\r\nok\r\n0\r\n\r\n"),
    ] {
        let upstream = Upstream::answers(format!("HTTP/1.0 200 OK\r\n{framing}\r\nok"));
        let gateway = in_front_of(&upstream, "");
        let mut connection = gateway.connect();
        connection.send("GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let all = String::from_utf8(connection.rest().unwrap()).unwrap();
        assert!(all.starts_with("HTTP/1.1 200 OK\r\n"), "{all}");
        assert!(all.ends_with(&format!("\r\n\r\n{body}")), "{all}");
    }
}

/// A client must be able to see that it has not got everything, and nobody gets the rest.
#[test]
fn a_chunked_answer_that_breaks_off_is_seen_to() {
    for body in [
        "0x2\r\nok\r\n0\r\n\r\n",
        "2\nok\n0\n\n",
        "2\r\nok0\r\n\r\n",
        "2\r\noktoo much\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nok\r\n0\r\n\r\n",
        "10000000000000002\r\nok\r\n0\r\n\r\n",
        "2\r\nok\r\n0\r\nX: y\n\n",
        "2\r\nok\r\n",
        "-2\r\nok\r\n0\r\n\r\n",
    ] {
        expect(
            &format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}"),
            |got| match got {
                Ok(answer) => answer.status == 502 || answer.status == 504,
                Err(broken) => broken
                    .partial
                    .as_ref()
                    .is_some_and(|answer| answer.body.len() <= 10),
            },
        );
    }
}

#[test]
fn a_head_without_an_end_is_a_502() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(1000));
    expect(&many, |got| {
        got.as_ref().is_ok_and(|answer| answer.status == 502)
    });
    for piece in ["X: y\r\n", "xxxxxxxxxxxxxxxxxxxxxxxxxxxx", "\r\n"] {
        let upstream = Upstream::raw(move |mut caller| {
            caller.head();
            caller.send("HTTP/1.1 200 OK\r\nX: ");
            // More than anybody may keep.
            (0..200_000).for_each(|_| caller.send(piece));
        });
        let gateway = in_front_of(&upstream, "");
        let got = gateway.request("GET", "/a").attempt();
        if piece != "\r\n" {
            assert_eq!(got.unwrap().status, 502, "{piece:?}");
        }
        assert_eq!(gateway.get("/fixed").text(), "fixed", "{piece:?}");
    }
}

#[test]
fn an_endpoint_that_only_announces_its_answer_is_a_502() {
    let some = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(100);
    let whole = format!("{some}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    expect(&whole, |got| is(got, 200, "ok"));
    let upstream = Upstream::raw(move |mut caller| {
        caller.head();
        for _ in 0..100_000 {
            caller.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
            thread::sleep(Duration::from_millis(1));
        }
    });
    let gateway = in_front_of(&upstream, "");
    let answer = gateway.get("/a");
    assert_eq!(answer.status, 502);
    assert!(answer.interim.len() <= 100, "{}", answer.interim.len());
    assert_eq!(gateway.get("/fixed").text(), "fixed");
}

/// RFC 9110, 15.2
#[test]
fn http_1_0_is_told_nothing_before_the_answer() {
    let upstream = answering(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let gateway = in_front_of(&upstream, "");
    let mut connection = gateway.connect();
    connection.send("POST /a HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi");
    let answer = connection.answer();
    assert_eq!((answer.text(), answer.interim.as_slice()), ("ok", &[][..]));
    assert!(!upstream.heads()[0].to_ascii_lowercase().contains("expect"));
    assert_eq!(connection.get("/right").text(), "right");
}

/// Each event is only sent when the one before it was received.
#[test]
fn server_sent_events_flow_at_once() {
    for framing in ["Transfer-Encoding: chunked\r\n", "Connection: close\r\n"] {
        let (sender, receiver) = channel::<()>();
        let receiver = Mutex::new(receiver);
        let upstream = Upstream::raw(move |mut caller| {
            if caller.request().is_none() {
                return;
            }
            caller.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{framing}\r\n"
            ));
            for number in 0..5 {
                receiver.lock().unwrap().recv_timeout(PATIENCE).unwrap();
                let event = format!("data: {number}\n\n");
                match framing.contains("chunked") {
                    true => caller.send(format!("{:x}\r\n{event}\r\n", event.len())),
                    false => caller.send(event),
                }
            }
            if framing.contains("chunked") {
                caller.send("0\r\n\r\n");
            }
        });
        let gateway = in_front_of(&upstream, "");
        let mut connection = gateway.connect();
        connection.send("GET /a HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n");
        assert_eq!(
            connection.head().header("content-type"),
            Some("text/event-stream")
        );
        for number in 0..5 {
            sender.send(()).unwrap();
            let event = connection.chunk().unwrap();
            assert_eq!(event, format!("data: {number}\n\n").as_bytes(), "{framing}");
        }
        assert!(connection.chunk().unwrap().is_empty());
        assert_eq!(connection.get("/fixed").text(), "fixed");
    }
}

/// Whole requests, and how many connections have ended.
type Noted = (Arc<Mutex<Vec<Seen>>>, Arc<Mutex<usize>>);

/// An endpoint that notes whole requests, and connections that have ended.
fn counting() -> (Upstream, Noted) {
    let (whole, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
    let noted = (Arc::clone(&whole), Arc::clone(&ended));
    let upstream = Upstream::raw(move |mut caller| {
        while let Some(seen) = wire::receive(&mut caller) {
            let told = seen.told();
            noted.0.lock().unwrap().push(seen);
            let length = told.len();
            caller.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{told}"
            ));
        }
        *noted.1.lock().unwrap() += 1;
    });
    (upstream, (whole, ended))
}

#[test]
fn half_an_upload_ends_the_connection_to_the_endpoint_and_no_other() {
    let (upstream, (whole, ended)) = counting();
    let gateway = in_front_of(&upstream, "");
    assert_eq!(gateway.get("/first").text(), "GET /first HTTP/1.1: ");
    for (count, body) in [
        "Content-Length: 100\r\n\r\nhalf",
        "Content-Length: 100\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "Transfer-Encoding: chunked\r\n\r\n40\r\nhalf",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let heads = upstream.heads().len();
        let mut connection = gateway.connect();
        connection.send(format!("POST /half HTTP/1.1\r\nHost: a\r\n{body}"));
        eventually(PATIENCE, || upstream.heads().len() > heads);
        drop(connection);
        eventually(PATIENCE, || *ended.lock().unwrap() == count + 1);
        let answer = gateway.request("PUT", "/next").body("next").send();
        assert_eq!(answer.text(), "PUT /next HTTP/1.1: next", "{body}");
    }
    let whole: Vec<_> = whole
        .lock()
        .unwrap()
        .iter()
        .map(|seen| seen.line().to_owned())
        .collect();
    assert!(
        !whole.iter().any(|line| line.contains("/half")),
        "{whole:?}"
    );
}

/// Over what is left of a download nobody else's answer may come.
#[test]
fn half_a_download_ends_the_connection_to_the_endpoint() {
    for large in [
        "Content-Length: 50000000\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n2faf080\r\n",
    ] {
        let (sender, receiver) = channel();
        let sender = Mutex::new(sender);
        let upstream = Upstream::raw(move |mut caller| {
            while let Some(head) = caller.request() {
                if head.contains(" /right ") {
                    caller.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright");
                    continue;
                }
                caller.send(format!("HTTP/1.1 200 OK\r\n{large}"));
                (0..50).for_each(|_| caller.send(vec![b'x'; 1_000_000]));
                caller.wait_for_close();
                sender.lock().unwrap().send(()).unwrap();
            }
        });
        let gateway = in_front_of(&upstream, "");
        for _ in 0..3 {
            assert_eq!(gateway.get("/right").text(), "right");
            let mut connection = gateway.connect();
            connection.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(connection.head().status, 200);
            connection.read(1000).unwrap();
            drop(connection);
            receiver.recv_timeout(PATIENCE).unwrap();
            assert_eq!(gateway.get("/right").text(), "right", "{large}");
        }
    }
}

#[test]
fn the_body_of_a_refused_request_is_not_the_next_request() {
    let (upstream, (whole, _)) = counting();
    let gateway = Gateway::start(&format!(
        "
        threads: 1
        upstreams: {{ app: {{ endpoints: [{upstream}] }} }}
        routes:
          - match: {{ path: /private }}
            filters: [jwt: {{ algorithms: [HS256], secret: 0123456789abcdef0123456789abcdef }}]
            upstream: app
          - match: {{ path: /get, method: GET }}
            upstream: app
          - match: {{ path: /app }}
            upstream: app
        "
    ));
    let hidden = "GET /app?hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    for (path, status) in [
        ("/private", 401),
        ("/missing", 404),
        ("/get", 405),
        ("/..", 400),
    ] {
        for size in [1, 100, 3000] {
            let body = hidden.repeat(size);
            for chunked in [false, true] {
                let mut connection = gateway.connect();
                let request = connection.request("POST", path);
                let got = match chunked {
                    false => request.body(body.clone()).attempt(),
                    true => request.chunks(body.as_bytes().chunks(1000)).attempt(),
                };
                let case = format!("{path} {size} {chunked}");
                let answer = got.unwrap_or_else(|broken| panic!("{case}: {broken}"));
                assert_eq!(answer.status, status, "{case}");
                if answer.reusable {
                    assert_eq!(
                        connection.get("/app?next").text(),
                        "GET /app?next HTTP/1.1: ",
                        "{case}"
                    );
                }
                assert_eq!(
                    gateway.get("/app?other").text(),
                    "GET /app?other HTTP/1.1: ",
                    "{case}"
                );
            }
        }
    }
    let hidden = whole
        .lock()
        .unwrap()
        .iter()
        .any(|seen| seen.line().contains("hidden"));
    assert!(!hidden);
}

#[test]
fn an_answer_before_the_end_of_an_upload_does_not_make_the_rest_a_request() {
    let upstream = Upstream::raw(|mut caller| {
        while let Some(head) = caller.head() {
            if head.contains(" /right ") {
                caller.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright");
                continue;
            }
            // Without the body, and without a word of closing.
            caller.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        }
    });
    let gateway = in_front_of(&upstream, "requests: { read_timeout: 3s }");
    let hidden = "GET /right HTTP/1.1\r\nHost: hidden\r\n\r\n";
    for body in [
        format!("Content-Length: {}\r\n\r\n{hidden}", hidden.len() + 1),
        format!(
            "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{hidden}",
            hidden.len()
        ),
    ] {
        let mut connection = gateway.connect();
        connection.send(format!("POST /a HTTP/1.1\r\nHost: a\r\n{body}"));
        let answer = connection.answer();
        assert_eq!((answer.status, answer.reusable), (403, false), "{body}");
        connection.expect_close();
        assert_eq!(gateway.get("/right").text(), "right", "{body}");
        assert_eq!(gateway.get("/right").text(), "right", "{body}");
    }
}

/// What is stored for all must not come from what one endpoint has garbled.
#[test]
fn a_garbled_answer_is_not_stored() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: identity\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2, 3\r\n\r\nok",
    ] {
        let garbled = Mutex::new(true);
        let upstream = Upstream::raw(move |mut caller| {
            while caller.request().is_some() {
                if std::mem::take(&mut *garbled.lock().unwrap()) {
                    caller.send(bytes);
                    return;
                }
                caller.send("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 5\r\n\r\nright");
            }
        });
        let gateway = in_front_of(&upstream, "");
        match gateway.request("GET", "/cached").attempt() {
            Ok(answer) => assert!(
                answer.status == 502 || answer.body == b"right",
                "{bytes}: {answer:?}"
            ),
            Err(broken) => assert!(broken.partial.is_some(), "{bytes}"),
        }
        for _ in 0..2 {
            assert_eq!(gateway.get("/cached").text(), "right", "{bytes}");
        }
    }
}
