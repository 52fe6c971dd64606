//! How long is waited for what, and how it ends.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use edgeway_tests::{
    Answer, Authority, Break, Connection, Endpoint, Gateway, PATIENCE, Reaction, Upstream,
    eventually,
};

/// A gateway with one upstream, which every request goes to.
fn gateway(upstream: &str) -> Gateway {
    routed(upstream, "")
}

fn routed(upstream: &str, route: &str) -> Gateway {
    Gateway::start(&format!(
        "upstreams: {{ pool: {{ {upstream} }} }}\nroutes: [{{ upstream: pool {route} }}]\n"
    ))
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Asserts that an answer with this status comes after this time, and long before any default.
#[track_caller]
fn expect_after(time: Duration, status: u16, ask: impl FnOnce() -> Answer) {
    let start = Instant::now();
    let answer = ask();
    let taken = start.elapsed();
    assert_eq!(answer.status, status, "after {taken:?}: {}", answer.text());
    assert!(
        taken + ms(10) >= time && taken < time + ms(3000),
        "{taken:?} instead of {time:?}"
    );
}

/// Asserts that an answer begins and then breaks off, after this time.
#[track_caller]
fn expect_cut(time: Duration, gateway: &Gateway, target: &str) {
    let start = Instant::now();
    let broken = gateway.request("GET", target).attempt();
    let taken = start.elapsed();
    let broken = match broken {
        Err(broken) => broken,
        Ok(answer) => panic!("{target}: whole after {taken:?}: {}", answer.text()),
    };
    let partial = broken
        .partial
        .unwrap_or_else(|| panic!("{target}: {}", broken.reason));
    assert_eq!(partial.status, 200, "{target}");
    assert!(
        taken + ms(10) >= time && taken < time + ms(3000),
        "{target}: {taken:?} instead of {time:?}"
    );
}

/// An endpoint that sends a piece of its answer each 100 ms, for long, framed in one of three ways
/// by the path; `/still` sends one and then nothing.
fn trickling() -> Upstream {
    Upstream::raw(|mut caller| {
        let Some(head) = caller.request() else { return };
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let framing = match target.trim_start_matches("/still") {
            "/length" => "Content-Length: 1000\r\n",
            "/chunked" => "Transfer-Encoding: chunked\r\n",
            _ => "Connection: close\r\n",
        };
        caller.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n"));
        let piece = if target.ends_with("/chunked") {
            "5\r\npiece\r\n"
        } else {
            "piece"
        };
        caller.send(piece);
        if target.starts_with("/still") {
            return caller.wait_for_close();
        }
        for _ in 0..60 {
            thread::sleep(ms(100));
            caller.send(piece);
        }
    })
}

/// Passes the bytes of connections on, the first ones so much later. Ends with the test's process.
fn relay(target: SocketAddr, delay: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let here = stream.unwrap();
            thread::sleep(delay);
            let there = TcpStream::connect(target).unwrap();
            for (mut from, mut to) in [
                (here.try_clone().unwrap(), there.try_clone().unwrap()),
                (there, here),
            ] {
                thread::spawn(move || std::io::copy(&mut from, &mut to).ok());
            }
        }
    });
    address
}

const FRAMINGS: [&str; 3] = ["/length", "/chunked", "/close"];

// ---- connecting -------------------------------------------------------------------------------

/// T3
#[test]
fn an_endpoint_that_does_not_answer_at_all_costs_its_connect_timeout_and_no_request() {
    let (nowhere, good) = (Upstream::unreachable(), Endpoint::start("good"));
    let gateway = gateway(&format!(
        "endpoints: [{nowhere}, {good}], fail_timeout: 1h, timeouts: {{ connect: 300ms }}"
    ));
    // Nothing was sent, so a POST goes on as well.
    expect_after(ms(300), 200, || {
        gateway.request("POST", "/").body("order").send()
    });
    for _ in 0..4 {
        expect_after(Duration::ZERO, 200, || gateway.get("/"));
    }
    gateway.wait_for_log("endpoint is left out");
    assert_eq!(good.requests(), 5);
}

#[test]
fn an_endpoint_that_does_not_speak_tls_is_given_up_after_the_handshake_timeout() {
    let silent = Upstream::silent();
    for connect in ["", ", connect: 100ms"] {
        let gateway = gateway(&format!(
            "endpoints: [{silent}], tls: {{ verify: false }}, timeouts: {{ handshake: 500ms {connect} }}"
        ));
        expect_after(ms(500), 504, || gateway.get("/"));
    }
}

#[test]
fn an_endpoint_with_tls_that_does_not_answer_at_all_costs_its_connect_timeout() {
    let nowhere = Upstream::unreachable();
    let gateway = gateway(&format!(
        "endpoints: [{nowhere}], tls: {{ verify: false }}, timeouts: {{ connect: 300ms }}"
    ));
    expect_after(ms(300), 504, || gateway.get("/"));
}

#[test]
fn a_handshake_that_is_in_time_is_not_cut_by_a_shorter_connect_timeout() {
    let authority = Authority::new();
    let endpoint = Endpoint::https("a", &authority.certificate(&["app.test"]));
    let late = relay(endpoint.address(), ms(400));
    let gateway = Gateway::setup(&format!(
        "
        upstreams:
          pool:
            endpoints: [{late}]
            tls: {{ ca: ca.pem, name: app.test }}
            timeouts: {{ connect: 150ms, handshake: 5s }}
        routes: [{{ upstream: pool }}]
        "
    ))
    .file("ca.pem", authority.pem())
    .start();
    expect_after(ms(400), 200, || gateway.get("/"));
}

// ---- the answer -------------------------------------------------------------------------------

#[test]
fn the_first_byte_has_its_own_time_and_pieces_have_another() {
    let endpoint = Endpoint::setup("a")
        .answers(|request| match request.path.as_str() {
            "/late" => Reaction::status(200).after(ms(3000)),
            _ => Reaction::status(200).pieces(["a", "b", "c"], ms(600)),
        })
        .start();
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], max_fails: 0, timeouts: {{ first_byte: 300ms, read: 5s }}"
    ));
    expect_after(ms(300), 504, || gateway.get("/late"));
    expect_after(ms(1200), 200, || gateway.get("/pieces"));
    assert_eq!(gateway.get("/pieces").text(), "abc");
}

/// The time of the first byte begins when the request is sent, whatever was on the connection
/// before.
#[test]
fn the_first_byte_is_awaited_anew_for_each_request_of_a_connection() {
    let endpoint = Endpoint::start("a");
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], max_fails: 0, timeouts: {{ first_byte: 400ms }}"
    ));
    let mut connection = gateway.connect();
    for _ in 0..4 {
        assert_eq!(connection.get("/").status, 200);
        thread::sleep(ms(200));
    }
    assert_eq!(endpoint.connections(), 1);
    endpoint.breaks(Break::Hang);
    expect_after(ms(400), 504, || connection.get("/"));
}

#[test]
fn a_first_byte_may_take_longer_than_a_pause() {
    let endpoint = Endpoint::setup("a")
        .answers(|request| match request.path.as_str() {
            "/late" => Reaction::status(200).after(ms(700)).body("late"),
            _ => Reaction::hang(),
        })
        .start();
    let trickling = trickling();
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          late: {{ endpoints: [{endpoint}], max_fails: 0, timeouts: {{ first_byte: 1500ms, read: 300ms }} }}
          still: {{ endpoints: [{trickling}], max_fails: 0, timeouts: {{ first_byte: 600ms, read: 200ms }} }}
        routes:
          - {{ match: {{ path: /still/ }}, upstream: still }}
          - {{ upstream: late }}
        "
    ));
    expect_after(ms(700), 200, || gateway.get("/late"));
    expect_after(ms(1500), 504, || gateway.get("/never"));
    // Pingora has one time for both, so a pause may be as long.
    for framing in FRAMINGS {
        expect_cut(ms(600), &gateway, &format!("/still{framing}"));
    }
}

#[test]
fn an_answer_whose_next_piece_does_not_come_is_cut_and_never_looks_whole() {
    let trickling = trickling();
    let gateway = gateway(&format!(
        "endpoints: [{trickling}], max_fails: 0, timeouts: {{ read: 300ms }}"
    ));
    for framing in FRAMINGS {
        expect_cut(ms(300), &gateway, &format!("/still{framing}"));
    }
}

#[test]
fn an_answer_that_moves_may_take_longer_than_any_pause() {
    let endpoint = Endpoint::setup("a")
        .answers(|_| Reaction::status(200).pieces(["0123456789"; 12], ms(100)))
        .start();
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], timeouts: {{ first_byte: 500ms, read: 500ms, write: 500ms }}"
    ));
    expect_after(ms(1100), 200, || gateway.get("/"));
}

// ---- the request ------------------------------------------------------------------------------

/// Sends a body in so many pieces with a pause between them.
fn upload(connection: &mut Connection, pieces: usize, pause: Duration) {
    let size = pieces * 30_000;
    connection.send(format!(
        "PUT /upload HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
    ));
    for _ in 0..pieces {
        thread::sleep(pause);
        // It may have been cut.
        connection.write(&[b'x'; 30_000]).ok();
    }
}

/// #40
#[test]
fn a_large_upload_that_moves_is_not_cut_though_it_takes_longer_than_every_time() {
    let endpoint = Endpoint::start("a");
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], timeouts: {{ first_byte: 400ms, read: 400ms, write: 400ms }}, retries: {{ timeout: 400ms }}"
    ));
    let mut connection = gateway.connect();
    upload(&mut connection, 15, ms(100));
    let answer = connection.answer();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(endpoint.received()[0].body.len(), 15 * 30_000);
}

/// The endpoint waits for the client as we do: that is no silence of its own.
#[test]
fn a_client_that_pauses_in_its_upload_is_no_failure_of_the_endpoint() {
    let endpoint = Endpoint::start("a");
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], fail_timeout: 1h, timeouts: {{ first_byte: 300ms, read: 300ms, write: 300ms }}"
    ));
    let mut connection = gateway.connect();
    upload(&mut connection, 2, ms(900));
    // The gateway closes while the client sends: then it may not see the answer.
    if let Ok(answer) = connection.try_answer() {
        assert_eq!(answer.status, 408, "{}", answer.text());
    }
    assert_eq!(gateway.get("/").status, 200);
    assert!(!gateway.log().contains("left out"), "{}", gateway.log());
}

#[test]
fn an_endpoint_that_is_silent_after_an_upload_has_no_more_time_than_after_a_get() {
    let endpoint = Endpoint::start("a");
    endpoint.breaks(Break::Hang);
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], max_fails: 0, timeouts: {{ first_byte: 400ms, read: 10s }}"
    ));
    let mut connection = gateway.connect();
    upload(&mut connection, 5, ms(100));
    expect_after(ms(300), 504, || connection.answer());
}

// ---- everything -------------------------------------------------------------------------------

#[test]
fn the_whole_time_is_shared_by_all_tries() {
    let stuck = ["a", "b", "c", "d"].map(|name| {
        let endpoint = Endpoint::start(name);
        endpoint.breaks(Break::Hang);
        endpoint
    });
    let [a, b, c, d] = &stuck;
    let gateway = gateway(&format!(
        "endpoints: [{a}, {b}, {c}, {d}], max_fails: 0, retries: {{ tries: 4, timeout: 400ms }}, timeouts: {{ total: 900ms }}"
    ));
    expect_after(ms(900), 504, || gateway.get("/"));
    let asked: usize = stuck.iter().map(Endpoint::requests).sum();
    assert_eq!(asked, 3);
}

#[test]
fn the_time_of_a_route_takes_the_place_of_that_of_its_upstream() {
    let endpoint = Endpoint::start("a");
    endpoint.slow(ms(700));
    let gateway = Gateway::start(&format!(
        "
        upstreams: {{ pool: {{ endpoints: [{endpoint}], max_fails: 0, timeouts: {{ total: 400ms }} }} }}
        routes:
          - {{ match: {{ path: /long }}, upstream: pool, timeout: 10s }}
          - {{ match: {{ path: /short }}, upstream: pool, timeout: 200ms }}
          - {{ upstream: pool }}
        "
    ));
    expect_after(ms(700), 200, || gateway.get("/long"));
    expect_after(ms(200), 504, || gateway.get("/short"));
    expect_after(ms(400), 504, || gateway.get("/"));
}

#[test]
fn the_whole_time_counts_while_connecting_and_shaking_hands() {
    let (nowhere, silent) = (Upstream::unreachable(), Upstream::silent());
    for upstream in [
        format!("endpoints: [{nowhere}]"),
        format!("endpoints: [{silent}], tls: {{ verify: false }}"),
        format!("endpoints: [{silent}], protocol: http2"),
    ] {
        let gateway = gateway(&format!("{upstream}, timeouts: {{ total: 400ms }}"));
        expect_after(ms(400), 504, || gateway.get("/"));
    }
}

#[test]
fn the_whole_time_counts_in_the_queue() {
    let endpoint = Endpoint::start("a");
    endpoint.slow(ms(1800));
    let gateway = Gateway::start(&format!(
        "
        upstreams: {{ pool: {{ endpoints: [{endpoint}], max_connections: 1, queue: {{ timeout: 20s }} }} }}
        routes:
          - {{ match: {{ path: /short }}, upstream: pool, timeout: 300ms }}
          - {{ upstream: pool }}
        "
    ));
    let mut first = gateway.connect();
    first.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually(PATIENCE, || endpoint.in_flight() == 1);
    expect_after(ms(300), 503, || gateway.get("/short"));
    assert_eq!(endpoint.requests_to("/short"), 0);
    assert_eq!(first.answer().status, 200);
}

/// An endpoint that could not have answered in what was left of the time has not failed.
#[test]
fn the_whole_time_counts_in_a_pause_and_nobody_is_asked_when_it_is_over() {
    let (bad, good) = (Endpoint::start("bad"), Endpoint::start("good"));
    bad.breaks(Break::BeforeAnswer);
    good.slow(ms(100));
    let gateway = gateway(&format!(
        "endpoints: [{bad}, {good}], retries: {{ backoff: 20s, max_backoff: 20s }}, timeouts: {{ total: 400ms }}"
    ));
    let start = Instant::now();
    let answer = gateway.get("/");
    assert!(matches!(answer.status, 502 | 504), "{}", answer.status);
    assert!(start.elapsed() < ms(3400), "{:?}", start.elapsed());
    assert_eq!((bad.requests(), good.requests()), (1, 0));
    assert_eq!(
        gateway.log().matches("endpoint is left out").count(),
        1,
        "{}",
        gateway.log()
    );
}

#[test]
fn an_answer_that_takes_longer_than_the_whole_time_is_cut_and_never_looks_whole() {
    let trickling = trickling();
    let gateway = gateway(&format!(
        "endpoints: [{trickling}], max_fails: 0, timeouts: {{ total: 450ms }}"
    ));
    for framing in FRAMINGS {
        expect_cut(ms(450), &gateway, framing);
    }
}

/// It has answered in time, and is no worse for having much to say.
#[test]
fn an_endpoint_is_not_left_out_for_answers_that_are_longer_than_the_whole_time() {
    let trickling = trickling();
    let gateway = gateway(&format!(
        "endpoints: [{trickling}], timeouts: {{ total: 300ms }}"
    ));
    for framing in FRAMINGS {
        expect_cut(ms(300), &gateway, framing);
    }
    assert!(!gateway.log().contains("left out"), "{}", gateway.log());
}

#[test]
fn the_whole_time_holds_over_http2_too() {
    let endpoint = Endpoint::setup("a")
        .h2c()
        .answers(|request| match request.path.as_str() {
            "/never" => Reaction::hang(),
            "/quick" => Reaction::status(200).body("quick"),
            _ => Reaction::status(200).pieces(["piece"; 60], ms(100)),
        })
        .start();
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], protocol: http2, max_fails: 0, timeouts: {{ total: 450ms }}"
    ));
    expect_cut(ms(450), &gateway, "/slow");
    expect_after(ms(450), 504, || gateway.get("/never"));
    assert_eq!(gateway.get("/quick").text(), "quick");
    // What was given up ends there as well.
    eventually(PATIENCE, || endpoint.in_flight() == 0);
}

#[test]
fn an_upload_that_takes_longer_than_the_whole_time_is_504() {
    let endpoint = Endpoint::start("a");
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], timeouts: {{ total: 400ms }}"
    ));
    let mut connection = gateway.connect();
    let start = Instant::now();
    upload(&mut connection, 8, ms(100));
    // The gateway closes while the client sends: then it may not see the answer.
    if let Ok(answer) = connection.try_answer() {
        assert_eq!(answer.status, 504, "{}", answer.text());
    }
    assert!(start.elapsed() < ms(3400), "{:?}", start.elapsed());
    assert_eq!(
        endpoint.requests(),
        0,
        "it has not seen the end of the body"
    );
    assert!(!gateway.log().contains("left out"), "{}", gateway.log());
}

#[test]
fn a_connection_serves_on_after_requests_with_a_whole_time() {
    let endpoint = Endpoint::start("a");
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], timeouts: {{ total: 300ms, first_byte: 300ms }}, retries: {{ timeout: 300ms }}"
    ));
    let mut connection = gateway.connect();
    for _ in 0..6 {
        assert_eq!(connection.get("/").status, 200);
        thread::sleep(ms(130));
    }
    assert_eq!(
        endpoint.connections(),
        1,
        "no connection is ended for a request that is over"
    );
}

// ---- other protocols --------------------------------------------------------------------------

#[test]
fn a_websocket_is_not_cut_by_any_of_these_times() {
    let endpoint = Upstream::raw(|mut caller| {
        caller.head();
        caller.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
        while let Some(message) = caller.body(4) {
            caller.send(message);
        }
    });
    let gateway = routed(
        &format!(
            "endpoints: [{endpoint}], timeouts: {{ total: 300ms, first_byte: 300ms, read: 300ms, write: 300ms }}, retries: {{ timeout: 300ms }}"
        ),
        ", timeout: 300ms",
    );
    let mut connection = gateway.connect();
    connection.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    assert_eq!(connection.head().status, 101);
    for pause in [0, 700, 400] {
        thread::sleep(ms(pause));
        connection.send("ping");
        assert_eq!(connection.read(4).unwrap(), b"ping", "after {pause} ms");
    }
}

#[test]
fn a_handshake_of_a_websocket_that_is_not_answered_ends_in_time() {
    let silent = Upstream::silent();
    let gateway = gateway(&format!(
        "endpoints: [{silent}], max_fails: 0, timeouts: {{ first_byte: 400ms }}"
    ));
    let upgrade = gateway
        .request("GET", "/")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    expect_after(ms(400), 504, || upgrade.send());
}

// ---- what clients are told --------------------------------------------------------------------

/// Asserts that a problem of this status comes, and no word of where it comes from.
#[track_caller]
fn expect_discreet(gateway: &Gateway, path: &str, status: u16) {
    let answer = gateway.get(path);
    assert_eq!(answer.status, status, "{path}");
    let kind = answer.header("Content-Type");
    assert_eq!(kind, Some("application/problem+json"), "{path}");
    assert_eq!(answer.json()["status"], status, "{path}");
    let all = format!("{:?} {}", answer.headers, answer.text());
    let all = all.replace(&gateway.address().to_string(), "");
    for word in [
        "inside",
        "127.0.0.1",
        "ingora",
        "Timedout",
        "refused",
        "upstream",
        "endpoint",
        "os error",
    ] {
        assert!(!all.contains(word), "{path}: `{word}` in {all}");
    }
    let retry = answer.header("Retry-After").is_some();
    assert_eq!(retry, status == 503, "{path}");
}

#[test]
fn clients_are_told_which_kind_of_failure_it_is_and_nothing_of_the_inside() {
    let (refusing, silent, trickling) = (
        Upstream::refusing(),
        Upstream::silent(),
        Upstream::answers("nonsense"),
    );
    let (release, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let busy = Upstream::raw(move |mut caller| {
        caller.head();
        wait.lock().unwrap().recv().ok();
    });
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          inside_refusing: {{ endpoints: [{refusing}] }}
          inside_silent: {{ endpoints: [{silent}], timeouts: {{ read: 200ms }} }}
          inside_total: {{ endpoints: [{silent}], timeouts: {{ total: 200ms }} }}
          inside_nonsense: {{ endpoints: [{trickling}] }}
          inside_busy: {{ endpoints: [{{ address: {busy}, max_connections: 1 }}] }}
          inside_name: {{ endpoints: ['inside-host.invalid:80'] }}
        routes:
          - {{ match: {{ path: /refusing }}, upstream: inside_refusing }}
          - {{ match: {{ path: /silent }}, upstream: inside_silent }}
          - {{ match: {{ path: /total }}, upstream: inside_total }}
          - {{ match: {{ path: /nonsense }}, upstream: inside_nonsense }}
          - {{ match: {{ path: /busy }}, upstream: inside_busy }}
          - {{ match: {{ path: /name }}, upstream: inside_name }}
        "
    ));
    let mut first = gateway.connect();
    first.send("GET /busy HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually(PATIENCE, || busy.heads().len() == 1);
    for (path, status) in [
        ("/refusing", 502),
        ("/nonsense", 502),
        ("/silent", 504),
        ("/total", 504),
        ("/busy", 503),
        ("/name", 503),
    ] {
        expect_discreet(&gateway, path, status);
    }
    drop(release);
}

#[test]
fn times_that_can_not_be_meant_are_refused() {
    for (timeouts, named) in [
        ("total: soon", "soon"),
        ("total: -1s", "-1s"),
        ("connect: 5", "connect"),
        ("frist_byte: 1s", "first_byte"),
        ("all: 1s", "all"),
        ("total: 10000000000000000000s", "from `1ms` to `1d`"),
        ("total: 25h", "from `1ms` to `1d`"),
        ("connect: 0s", "from `1ms` to `1d`"),
        ("handshake: 0s", "from `1ms` to `1d`"),
        ("first_byte: 0s", "from `1ms` to `1d`"),
        ("read: 0s", "from `1ms` to `1d`"),
        ("write: 0s", "from `1ms` to `1d`"),
        ("idle: 0s", "from `1ms` to `1d`"),
    ] {
        let said = Gateway::refused(&format!(
            "upstreams: {{ pool: {{ endpoints: [127.0.0.1:1], timeouts: {{ {timeouts} }} }} }}\nroutes: [{{ upstream: pool }}]\n"
        ));
        assert!(
            said.contains(named) && said.contains("edgeway.yaml:1"),
            "{timeouts}: {said}"
        );
    }
    for timeout in ["0s", "10000000000000000000s"] {
        let said = Gateway::refused(&format!(
            "upstreams: {{ pool: {{ endpoints: [127.0.0.1:1] }} }}\nroutes: [{{ upstream: pool, timeout: {timeout} }}]\n"
        ));
        assert!(said.contains("from `1ms` to `1d`"), "{timeout}: {said}");
    }
    let said = Gateway::refused("routes: [{ respond: { text: x }, timeout: 1s }]");
    assert!(said.contains("timeout"), "{said}");
}

// ---- who is waited for ------------------------------------------------------------------------

/// The answer has begun before the upload has ended: the time up to its first byte is over and done with.
#[test]
fn an_answer_that_began_during_the_upload_is_not_cut_after_it() {
    let endpoint = Upstream::raw(|mut caller| {
        caller.head();
        caller.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
        caller.body(5);
        thread::sleep(ms(900));
        caller.send("done");
    });
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], timeouts: {{ first_byte: 300ms }}, retries: {{ timeout: 300ms }}"
    ));
    let mut connection = gateway.connect();
    connection.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(connection.head().status, 200);
    connection.send("hello");
    assert_eq!(connection.read(4).unwrap(), b"done");
}

/// Whether to go on is for the endpoint to say.
#[test]
fn an_endpoint_that_hangs_is_to_blame_when_the_client_waits_for_permission() {
    let silent = Upstream::silent();
    let gateway = gateway(&format!(
        "endpoints: [{silent}], timeouts: {{ read: 300ms }}"
    ));
    let mut connection = gateway.connect();
    connection
        .send("PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(connection.answer().status, 504);
    gateway.wait_for_log("endpoint is left out");
}

/// Or a stalled endpoint would keep the place of whoever says so for an hour.
#[test]
fn who_only_pretends_to_want_a_websocket_waits_no_longer_for_an_answer() {
    let endpoint = Upstream::raw(|mut caller| {
        caller.head();
        caller.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        caller.wait_for_close();
    });
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], timeouts: {{ read: 300ms }}"
    ));
    let start = Instant::now();
    let broken = gateway
        .request("GET", "/")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .attempt();
    assert!(broken.is_err());
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
}
