//! WebSockets: from the handshake, which is a request like others, to the last frame, which is none of HTTP.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use edgeway_tests::{Caller, Connection, Echo, Gateway, PATIENCE, Upstream, eventually};

const ASKED: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A frame of RFC 6455, 5.2, as clients send it.
fn masked(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = header(kind, payload.len(), 0x80);
    frame.extend(mask);
    let keys = mask.iter().cycle();
    frame.extend(payload.iter().zip(keys).map(|(byte, key)| byte ^ key));
    frame
}

/// A frame as endpoints send it.
fn plain(kind: u8, payload: &[u8]) -> Vec<u8> {
    [header(kind, payload.len(), 0), payload.to_vec()].concat()
}

fn header(kind: u8, length: usize, masked: u8) -> Vec<u8> {
    let mut header = vec![0x80 | kind];
    match length {
        0..=125 => header.push(masked | length as u8),
        126..=0xffff => {
            header.push(masked | 126);
            header.extend((length as u16).to_be_bytes());
        }
        _ => {
            header.push(masked | 127);
            header.extend((length as u64).to_be_bytes());
        }
    }
    header
}

/// Reads a frame from whatever gives bytes; none at its end.
fn read(mut bytes: impl FnMut(usize) -> Option<Vec<u8>>) -> Option<(u8, Vec<u8>)> {
    let start = bytes(2)?;
    let more = match start[1] & 0x7f {
        126 => bytes(2)?,
        127 => bytes(8)?,
        length => vec![length],
    };
    let length = more
        .iter()
        .fold(0, |length, byte| length << 8 | usize::from(*byte));
    let mask = match start[1] & 0x80 {
        0 => vec![0],
        _ => bytes(4)?,
    };
    let payload = bytes(length)?;
    let unmasked = payload
        .iter()
        .zip(mask.iter().cycle())
        .map(|(byte, key)| byte ^ key);
    Some((start[0] & 0x0f, unmasked.collect()))
}

/// Sends back what it gets, answers pings, and closes when it is asked to.
fn echo(caller: &mut Caller) {
    while let Some((kind, payload)) = read(|size| caller.body(size)) {
        let answer = if kind == PING { PONG } else { kind };
        caller.send(plain(answer, &payload));
        if kind == CLOSE {
            return;
        }
    }
}

/// An endpoint whose WebSockets echo.
pub(super) fn echoing() -> Upstream {
    Upstream::raw(|mut caller| {
        caller.head();
        caller.send(AGREED);
        echo(&mut caller);
    })
}

fn in_front_of(endpoint: impl std::fmt::Display, more: &str) -> Gateway {
    Gateway::start(&yaml(endpoint, more))
}

fn yaml(endpoint: impl std::fmt::Display, more: &str) -> String {
    format!(
        "
        upstreams: {{ app: {{ endpoints: ['{endpoint}'] {more} }} }}
        routes:
          - match: {{ path: /fixed }}
            respond: {{ text: fixed }}
          - upstream: app
        "
    )
}

fn handshake(fields: &str) -> String {
    format!("GET /chat HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

/// A client that is at one with the endpoint.
#[track_caller]
pub(super) fn opened(gateway: &Gateway) -> Connection {
    let mut connection = gateway.connect();
    connection.send(handshake(ASKED));
    assert_eq!(connection.head().status, 101);
    connection
}

#[track_caller]
pub(super) fn expect_echo(connection: &mut Connection, payload: &[u8]) {
    connection.send(masked(TEXT, payload));
    assert_eq!(frame(connection), Some((TEXT, payload.to_vec())));
}

fn frame(connection: &mut Connection) -> Option<(u8, Vec<u8>)> {
    read(|size| connection.read(size).ok())
}

/// A signal between the test and a closure that may be called more than once.
fn signal() -> (Mutex<Sender<()>>, Mutex<Receiver<()>>) {
    let (sender, receiver) = channel();
    (Mutex::new(sender), Mutex::new(receiver))
}

fn wait(receiver: &Mutex<Receiver<()>>) {
    receiver.lock().unwrap().recv_timeout(PATIENCE).unwrap();
}

fn go_on(sender: &Mutex<Sender<()>>) {
    sender.lock().unwrap().send(()).unwrap();
}

/// #78
#[test]
fn frames_go_both_ways_with_pings_until_one_side_closes() {
    let upstream = echoing();
    let gateway = in_front_of(&upstream, "");
    let mut connection = gateway.connect();
    connection.send(handshake(ASKED));
    let agreed = connection.head();
    assert_eq!(agreed.status, 101);
    assert_eq!(agreed.header("Upgrade"), Some("websocket"));
    let nominated = agreed.header("Connection").map(str::to_ascii_lowercase);
    assert_eq!(nominated.as_deref(), Some("upgrade"));
    assert_eq!(
        agreed.header("Sec-WebSocket-Accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    let asked = upstream.heads().remove(0).to_ascii_lowercase();
    for line in [
        "upgrade: websocket",
        "connection: upgrade",
        "sec-websocket-version: 13",
        "x-forwarded-for: 127.0.0.1",
    ] {
        assert!(
            asked.lines().any(|known| known == line),
            "{line} in {asked}"
        );
    }
    expect_echo(&mut connection, b"hello");
    connection.send(masked(PING, b"there?"));
    assert_eq!(frame(&mut connection), Some((PONG, b"there?".to_vec())));
    // What looks like HTTP is none any more.
    expect_echo(&mut connection, b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n");
    let large = vec![b'x'; 3_000_000];
    connection.send(masked(TEXT, &large));
    assert!(
        frame(&mut connection) == Some((TEXT, large)),
        "the large frame"
    );
    connection.send(masked(CLOSE, &[3, 232]));
    assert_eq!(frame(&mut connection), Some((CLOSE, vec![3, 232])));
    connection.expect_close();
    assert_eq!(upstream.heads().len(), 1);
}

#[test]
fn an_endpoint_may_speak_first_and_last() {
    let (told, may_tell) = signal();
    let upstream = Upstream::raw(move |mut caller| {
        caller.head();
        // The first frame together with the head.
        caller.send([AGREED.as_bytes(), &plain(TEXT, b"welcome")].concat());
        wait(&may_tell);
        caller.send(plain(PING, b"there?"));
        let pong = read(|size| caller.body(size));
        caller.send(plain(TEXT, &pong.unwrap().1));
        caller.send(plain(CLOSE, b""));
    });
    let gateway = in_front_of(&upstream, "");
    let mut connection = opened(&gateway);
    assert_eq!(frame(&mut connection), Some((TEXT, b"welcome".to_vec())));
    go_on(&told);
    assert_eq!(frame(&mut connection), Some((PING, b"there?".to_vec())));
    connection.send(masked(PONG, b"here"));
    assert_eq!(frame(&mut connection), Some((TEXT, b"here".to_vec())));
    assert_eq!(frame(&mut connection), Some((CLOSE, vec![])));
    connection.expect_close();
}

#[test]
fn whoever_leaves_takes_the_other_side_along() {
    let (left, has_left) = signal();
    let upstream = Upstream::raw(move |mut caller| {
        let leaves = caller.head().is_some_and(|head| head.contains("leave"));
        caller.send(AGREED);
        if !leaves {
            caller.wait_for_close();
            go_on(&left);
        }
    });
    let gateway = in_front_of(&upstream, "");
    let mut connection = gateway.connect();
    connection.send(handshake(&format!("X: leave\r\n{ASKED}")));
    assert_eq!(connection.head().status, 101);
    connection.expect_close();
    drop(opened(&gateway));
    wait(&has_left);
    assert_eq!(gateway.get("/fixed").text(), "fixed");
}

/// T5
#[test]
fn no_protocol_changes_that_nobody_has_asked_to() {
    let (upstream, heads) = {
        let upstream = Upstream::raw(|mut caller| {
            while let Some(head) = caller.request() {
                let change = head.contains("change");
                caller.send(if change {
                    AGREED
                } else {
                    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                });
            }
        });
        let upstream = Arc::new(upstream);
        (Arc::clone(&upstream), move || upstream.heads())
    };
    let gateway = in_front_of(&upstream, ", max_fails: 0");
    for fields in [
        "",
        "Upgrade: websocket\r\n",
        "Connection: Upgrade\r\n",
        "Connection: Upgrade\r\nUpgrade: h2c\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n",
        "Connection: Upgrade\r\nUpgrade: TLS/1.2, websocket\r\n",
    ] {
        let mut connection = gateway.connect();
        connection.send(format!("GET /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!(connection.answer().text(), "ok", "{fields}");
        let seen = heads().pop().unwrap().to_ascii_lowercase();
        assert!(
            !seen.contains("upgrade") && !seen.contains("http2-settings"),
            "{fields}: {seen}"
        );
        assert_eq!(connection.get("/fixed").text(), "fixed", "{fields}");
        connection.send(format!("GET /change HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        let answer = connection.answer();
        assert_eq!(answer.status, 502, "{fields}");
        match answer.reusable {
            true => assert_eq!(connection.get("/a").text(), "ok", "{fields}"),
            false => connection.expect_close(),
        }
        assert_eq!(gateway.get("/a").text(), "ok", "{fields}");
    }
    for request in [
        "GET /change HTTP/1.0\r\nHost: a\r\n",
        "POST /change HTTP/1.1\r\nHost: a\r\n",
        "PUT /change HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n",
    ] {
        let mut connection = gateway.connect();
        connection.send(format!("{request}{ASKED}\r\n"));
        assert_eq!(connection.answer().status, 502, "{request}");
    }
    let mut connection = gateway.connect();
    connection.send(format!(
        "GET /change HTTP/1.1\r\nHost: a\r\n{ASKED}Content-Length: 5\r\n\r\nhello"
    ));
    assert_eq!(connection.answer().status, 502, "with a body");
}

/// Pingora would take the end of the request for that of the WebSocket, if the answer is there before the thread
/// that has sent the request has looked again.
#[test]
fn no_answer_is_too_fast() {
    let endpoint = echoing();
    let gateway = in_front_of(endpoint.address(), "");
    let many = || {
        for _ in 0..250 {
            let mut connection = opened(&gateway);
            expect_echo(&mut connection, b"still there");
        }
    };
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(many);
        }
    });
}

#[test]
fn an_endpoint_may_refuse_as_it_likes() {
    for answer in [
        "200 OK\r\nContent-Length: 2\r\n\r\nno",
        "403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
        "426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nno",
        "404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
    ] {
        let upstream = Upstream::raw(move |mut caller| {
            while caller.request().is_some() {
                caller.send(format!("HTTP/1.1 {answer}"));
            }
        });
        let gateway = in_front_of(&upstream, "");
        let mut connection = gateway.connect();
        for _ in 0..2 {
            connection.send(handshake(ASKED));
            let got = connection.answer();
            assert_eq!(
                got.status,
                answer.split(' ').next().unwrap().parse::<u16>().unwrap()
            );
            assert_eq!(got.text(), "no", "{answer}");
            assert!(got.reusable, "{answer}");
            assert_eq!(connection.get("/fixed").text(), "fixed", "{answer}");
        }
        assert_eq!(upstream.connections(), 1, "{answer}");
    }
}

/// CVE-2026-2833: until the endpoint has agreed, what comes is HTTP.
#[test]
fn what_a_client_sends_before_the_101_is_neither_lost_nor_smuggled() {
    let (agree, may_agree) = signal();
    let upstream = Upstream::raw(move |mut caller| {
        while let Some(head) = caller.request() {
            if !head.to_ascii_lowercase().contains("upgrade: websocket") {
                let line = head.lines().next().unwrap_or_default();
                caller.send(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{line}",
                    line.len()
                ));
                continue;
            }
            wait(&may_agree);
            if head.contains("refuse") {
                caller.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
            } else {
                caller.send(AGREED);
                return echo(&mut caller);
            }
        }
    });
    let gateway = in_front_of(&upstream, "");
    let asked = |how: &str| handshake(&format!("X: {how}\r\n{ASKED}")).into_bytes();
    for pieces in [1, 2] {
        let mut connection = gateway.connect();
        let early = [masked(TEXT, b"early"), masked(TEXT, &[b'x'; 2000])].concat();
        match pieces {
            1 => connection.send([asked("agree"), early].concat()),
            _ => {
                connection.send(asked("agree"));
                early.chunks(300).for_each(|piece| connection.send(piece));
            }
        }
        go_on(&agree);
        assert_eq!(connection.head().status, 101);
        assert_eq!(frame(&mut connection), Some((TEXT, b"early".to_vec())));
        assert_eq!(frame(&mut connection).unwrap().1.len(), 2000);
        expect_echo(&mut connection, b"late");
    }
    // It is the next request if there is no WebSocket, and if it is none it is refused.
    for (early, status, seen) in [
        (&b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"[..], 200, 2),
        (&masked(TEXT, b"early\r\n\r\n"), 400, 1),
    ] {
        let before = upstream.heads().len();
        let mut connection = gateway.connect();
        connection.send([asked("refuse"), early.to_vec()].concat());
        go_on(&agree);
        assert_eq!(connection.answer().status, 403);
        assert_eq!(connection.answer().status, status);
        assert_eq!(upstream.heads().len(), before + seen);
        assert_eq!(gateway.get("/after").text(), "GET /after HTTP/1.1");
    }
}

#[test]
fn filters_judge_the_handshake() {
    let upstream = echoing();
    // bcrypt of `open sesame`, as cheap as can be.
    let gateway = Gateway::start(&format!(
        "
        upstreams: {{ app: {{ endpoints: [{upstream}] }} }}
        filters: [request_id, access_log]
        routes:
          - match: {{ path: /basic }}
            filters:
              - basic_auth: {{ users: {{ ann: '$2b$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy' }} }}
            upstream: app
          - match: {{ path: /jwt }}
            filters:
              - jwt: {{ algorithms: [HS256], secret: 0123456789abcdef0123456789abcdef }}
            upstream: app
        "
    ));
    for path in ["/basic", "/jwt"] {
        let mut connection = gateway.connect();
        connection.send(handshake(ASKED).replace("/chat", path));
        let answer = connection.answer();
        assert_eq!((answer.status, answer.reusable), (401, true), "{path}");
        connection.send(
            handshake(&format!("Authorization: Basic bm86bm8=\r\n{ASKED}")).replace("/chat", path),
        );
        assert_eq!(connection.answer().status, 401, "{path}");
        assert_eq!(upstream.connections(), 0, "{path}");
    }
    let mut connection = gateway.connect();
    let allowed = format!("Authorization: Basic YW5uOm9wZW4gc2VzYW1l\r\n{ASKED}");
    connection.send(handshake(&allowed).replace("/chat", "/basic"));
    let agreed = connection.head();
    assert_eq!(agreed.status, 101);
    assert!(agreed.header("X-Request-ID").is_some());
    expect_echo(&mut connection, b"hello");
    drop(connection);
    let line = gateway.wait_for_output(r#""status":101"#);
    assert!(line.contains(r#""subject":"ann""#), "{line}");
}

#[test]
fn a_silent_websocket_is_closed_after_its_time_and_nobody_is_blamed() {
    let upstream = echoing();
    let gateway = in_front_of(
        &upstream,
        ", max_fails: 1, fail_timeout: 1h, timeouts: { websocket_idle: 500ms, read: 5s }",
    );
    for _ in 0..4 {
        let mut connection = opened(&gateway);
        expect_echo(&mut connection, b"hello");
        let silent = Instant::now();
        connection.expect_close();
        let passed = silent.elapsed().as_millis();
        assert!((400..4000).contains(&passed), "{passed} ms");
    }
    assert!(!gateway.log().contains("left out"), "{}", gateway.log());
    assert_eq!(upstream.connections(), 4);
}

#[test]
fn a_websocket_lives_as_long_as_one_side_speaks() {
    const SPEECHES: u32 = 12;
    let pause = || thread::sleep(Duration::from_millis(150));
    let (heard, has_heard) = signal();
    let upstream = Upstream::raw(move |mut caller| {
        let head = caller.head().unwrap_or_default();
        caller.send(AGREED);
        if head.contains("listen") {
            for _ in 0..SPEECHES {
                caller.send(plain(TEXT, b"news"));
                pause();
            }
        } else {
            for _ in 0..SPEECHES {
                read(|size| caller.body(size)).unwrap();
            }
            go_on(&heard);
        }
    });
    let gateway = in_front_of(&upstream, ", timeouts: { websocket_idle: 700ms }");
    let mut listening = gateway.connect();
    listening.send(handshake(&format!("X: listen\r\n{ASKED}")));
    assert_eq!(listening.head().status, 101);
    for _ in 0..SPEECHES {
        assert_eq!(frame(&mut listening), Some((TEXT, b"news".to_vec())));
    }
    let mut speaking = opened(&gateway);
    for _ in 0..SPEECHES {
        speaking.send(masked(TEXT, b"news"));
        pause();
    }
    wait(&has_heard);
}

/// So many clients send and get back, before, while and after the configuration is replaced.
fn survive_a_reload(count: usize) {
    let upstream = echoing();
    let gateway = in_front_of(&upstream, "");
    let mut connections: Vec<_> = (0..count).map(|_| gateway.connect()).collect();
    for connection in &mut connections {
        connection.send(handshake(ASKED));
    }
    for connection in &mut connections {
        assert_eq!(connection.head().status, 101);
    }
    let other = Echo::start();
    thread::scope(|scope| {
        for part in connections.chunks_mut(count.div_ceil(4)) {
            scope.spawn(|| {
                for round in 0..10 {
                    for (number, connection) in part.iter_mut().enumerate() {
                        expect_echo(connection, format!("{round} of {number}").as_bytes());
                    }
                }
            });
        }
        for _ in 0..3 {
            assert!(gateway.reload(&yaml(&other, "")));
            assert!(gateway.reload(&yaml(&other, ", balance: random_two")));
        }
    });
    assert_eq!(
        gateway.get("/app").json()["path"],
        "/app",
        "the new configuration is in force"
    );
    for connection in &mut connections {
        expect_echo(connection, b"still here");
        connection.send(masked(CLOSE, b""));
        assert_eq!(frame(connection), Some((CLOSE, vec![])));
    }
    assert_eq!(upstream.connections(), count, "nobody had to come again");
}

#[test]
fn websockets_survive_a_reload() {
    survive_a_reload(100);
}

#[test]
#[ignore = "it takes a while, and four thousand descriptors"]
fn a_thousand_websockets_survive_a_reload() {
    survive_a_reload(1000);
}

#[test]
fn an_endpoint_that_is_gone_is_a_502_and_one_that_breaks_off_too() {
    let gateway = in_front_of(Upstream::refusing(), ", max_fails: 0");
    let mut connection = gateway.connect();
    connection.send(handshake(ASKED));
    assert_eq!(connection.answer().status, 502);
    for half in [
        "",
        "HTTP/1.0 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        "HTTP/1.1 101 Swi",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n",
    ] {
        let upstream = Upstream::answers(half);
        let gateway = in_front_of(&upstream, ", max_fails: 0");
        let mut connection = gateway.connect();
        connection.send(handshake(ASKED));
        assert_eq!(connection.answer().status, 502, "{half}");
        eventually(PATIENCE, || upstream.connections() >= 1);
        assert_eq!(gateway.get("/fixed").text(), "fixed");
    }
}

/// The client would not know that the endpoint at the other end is another one.
#[test]
fn a_websocket_that_breaks_is_not_begun_again_elsewhere() {
    let breaking = || {
        Upstream::raw(|mut caller| {
            caller.head();
            caller.send(AGREED);
            caller.body(7);
            caller.reset();
        })
    };
    let (one, two) = (breaking(), breaking());
    let gateway = Gateway::start(&format!(
        "
        upstreams: {{ app: {{ endpoints: [{one}, {two}], max_fails: 1, fail_timeout: 1h, retries: {{ tries: 2 }} }} }}
        routes: [{{ upstream: app }}]
        "
    ));
    for count in 1..=6 {
        let mut connection = opened(&gateway);
        connection.send(masked(TEXT, b"x"));
        connection.expect_close();
        assert_eq!(one.connections() + two.connections(), count);
    }
    assert!(!gateway.log().contains("left out"), "{}", gateway.log());
}
