//! How many connections there may be, how long each may take, and where its requests end.

use std::{
    io::{ErrorKind, Read},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use edgeway_tests::{
    Address, Connection, Endpoint, Gateway, Http2, PATIENCE, Upstream, eventually,
};

/// A gateway that answers by itself, and with these further keys.
fn gateway(keys: &str) -> Gateway {
    Gateway::start(&configuration(keys))
}

fn configuration(keys: &str) -> String {
    format!("{keys}\nroutes: [{{ respond: {{ text: fixed }} }}]\n")
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Whether a connection is served: its first request is answered.
fn is_served(connection: &mut Connection) -> bool {
    let served = connection.request("GET", "/").attempt();
    served.is_ok_and(|answer| answer.status == 200)
}

/// Another connection, and whether it is served.
fn another(gateway: &Gateway) -> (Connection, bool) {
    let mut connection = gateway.connect();
    let served = is_served(&mut connection);
    (connection, served)
}

// ---- how many ---------------------------------------------------------------------------------

#[test]
fn a_client_has_so_many_connections_and_another_when_one_of_them_has_gone() {
    let gateway = gateway("connections: { per_client: 2 }");
    let (one, served) = another(&gateway);
    assert!(served);
    let (_two, served) = another(&gateway);
    assert!(served);
    assert!(!another(&gateway).1);
    let log = gateway.wait_for_log("connections are refused");
    assert!(log.contains("limit=connections.per_client"), "{log}");
    drop(one);
    eventually(PATIENCE, || another(&gateway).1);
}

#[test]
fn a_trusted_proxy_has_any_number_of_connections() {
    let gateway = gateway("trusted_proxies: [127.0.0.1]\nconnections: { per_client: 2 }");
    let all: Vec<_> = (0..5).map(|_| another(&gateway)).collect();
    assert!(all.iter().all(|(_, served)| *served));
}

#[test]
fn a_listener_has_so_many_connections_and_others_have_their_own() {
    let gateway = gateway(
        "listeners: { small: { bind: '127.0.0.1:0', max_connections: 1 }, large: { bind: '127.0.0.1:0' } }",
    );
    let open = |listener| {
        let mut connection = Connection::open(gateway.address_of(listener));
        let served = is_served(&mut connection);
        (connection, served)
    };
    let (_one, served) = open("small");
    assert!(served);
    assert!(!open("small").1);
    let log = gateway.wait_for_log("connections are refused");
    assert!(log.contains("limit=max_connections"), "{log}");
    assert!(open("large").1 && open("large").1);
}

#[test]
fn the_connection_that_has_waited_longest_makes_room_for_a_new_one() {
    let gateway = gateway("connections: { max: 3 }");
    let mut old: Vec<_> = (0..3).map(|_| another(&gateway)).collect();
    assert!(old.iter().all(|(_, served)| *served));
    assert!(another(&gateway).1);
    let mut left = old
        .drain(..)
        .map(|(mut connection, _)| !is_served(&mut connection));
    assert!(left.next().unwrap());
}

#[test]
fn nobody_who_is_being_served_makes_room() {
    let endpoint = Endpoint::start("a");
    let gateway = Gateway::start(&format!(
        "
        connections: {{ max: 2 }}
        upstreams: {{ pool: {{ endpoints: [{endpoint}] }} }}
        routes: [{{ upstream: pool }}]
        "
    ));
    endpoint.slow(ms(1_500));
    let address = gateway.address();
    let busy: Vec<_> = (0..2)
        .map(|_| thread::spawn(move || Connection::open(address).get("/").status))
        .collect();
    eventually(PATIENCE, || endpoint.in_flight() == 2);
    assert!(!another(&gateway).1);
    for served in busy {
        assert_eq!(served.join().unwrap(), 200);
    }
}

#[test]
fn a_connection_is_closed_after_so_many_requests_and_says_so() {
    let gateway = gateway("connections: { max_requests: 3 }");
    let mut connection = gateway.connect();
    for _ in 0..2 {
        assert_eq!(connection.get("/").header("connection"), Some("keep-alive"));
    }
    assert_eq!(connection.get("/").header("connection"), Some("close"));
    connection.expect_close();
}

#[test]
fn a_connection_of_http2_ends_after_so_many_requests_too() {
    let gateway = gateway("connections: { max_requests: 2 }");
    let client = Http2::open(gateway.address());
    assert_eq!(client.get("/").status, 200);
    assert_eq!(client.get("/").status, 200);
    let third = client.send(client.request("GET", "/", ""));
    assert!(third.is_err(), "{third:?}");
    assert_eq!(Http2::open(gateway.address()).get("/").status, 200);
}

#[test]
fn idle_connections_of_http2_make_room_too() {
    let gateway = gateway("connections: { max: 2 }");
    let old: Vec<_> = (0..2)
        .map(|_| {
            let client = Http2::open(gateway.address());
            assert_eq!(client.get("/").status, 200);
            client
        })
        .collect();
    eventually(PATIENCE, || another(&gateway).1);
    drop(old);
}

#[test]
fn without_memory_no_connection_is_accepted_and_idle_ones_are_closed() {
    let gateway = gateway("");
    let (mut idle, served) = another(&gateway);
    assert!(served);
    assert!(gateway.reload(&configuration("connections: { memory_limit: 1MiB }")));
    gateway.wait_for_log("memory is short");
    idle.expect_close();
    assert!(!another(&gateway).1);
    assert!(gateway.reload(&configuration("")));
    gateway.wait_for_log("memory is no longer short");
    eventually(PATIENCE, || another(&gateway).1);
}

#[test]
fn when_memory_gets_short_no_connection_is_kept() {
    let gateway = gateway("");
    // A reload needs some memory itself, so that the first guess may be wrong.
    eventually(PATIENCE, || {
        let limit = private_memory(gateway.pid()) * 100 / 88;
        let keys = format!("connections: {{ memory_limit: {limit} }}");
        assert!(gateway.reload(&configuration(&keys)));
        thread::sleep(ms(1_500));
        let log = gateway.log();
        let last = log.lines().rfind(|line| line.contains("memory "));
        last.is_some_and(|line| line.contains("memory gets short"))
    });
    let mut connection = gateway.connect();
    assert_eq!(connection.get("/").header("connection"), Some("close"));
    connection.expect_close();
}

/// The memory of a process that no file holds, in bytes.
fn private_memory(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    let pages: Vec<u64> = text
        .split(' ')
        .filter_map(|number| number.trim().parse().ok())
        .collect();
    (pages[1] - pages[2]) * 4096
}

// ---- how long ---------------------------------------------------------------------------------

/// How long it takes until a connection is closed that sends this again and again.
fn lasts(mut connection: TcpStream, piece: &[u8], each: Duration) -> (Duration, Vec<u8>) {
    let start = Instant::now();
    connection.set_read_timeout(Some(each)).unwrap();
    let mut seen = Vec::new();
    while start.elapsed() < ms(60_000) {
        let mut bytes = [0; 4096];
        match connection.read(&mut bytes) {
            Ok(0) => break,
            Ok(read) => seen.extend_from_slice(&bytes[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                drop(std::io::Write::write(&mut connection, piece));
            }
            Err(_) => break,
        }
    }
    (start.elapsed(), seen)
}

fn open(address: SocketAddr, first: &[u8]) -> TcpStream {
    let mut connection = TcpStream::connect(address).unwrap();
    std::io::Write::write_all(&mut connection, first).unwrap();
    connection
}

#[test]
fn a_head_has_to_be_complete_in_time_the_first_one_and_each_later_one() {
    let gateway = gateway("requests: { header_timeout: 1s }");
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let begun = b"GET / HTTP/1.1\r\nHost: a\r\nX-A: ";
    let later = [&request[..], begun].concat();
    for (bytes, answers) in [(&begun[..], 0), (&later, 1)] {
        let (lasted, seen) = lasts(open(gateway.address(), bytes), b"a", ms(50));
        let seen = String::from_utf8(seen).unwrap();
        assert!(lasted >= ms(900) && lasted < ms(5_000), "{lasted:?}");
        assert_eq!(seen.matches("HTTP/1.1 200").count(), answers, "{seen}");
        assert_eq!(
            seen.matches("HTTP/1.1 408 Request Timeout").count(),
            1,
            "{seen}"
        );
        assert!(!seen.contains("Pingora"), "{seen}");
    }
}

#[test]
fn who_says_nothing_is_told_nothing() {
    let gateway = gateway("requests: { header_timeout: 1s }");
    let (lasted, seen) = lasts(open(gateway.address(), b""), b"", ms(50));
    assert!(lasted >= ms(900) && lasted < ms(5_000), "{lasted:?}");
    assert!(seen.is_empty());
}

#[test]
fn a_connection_waits_for_its_next_request_longer_than_a_head_may_take() {
    let gateway = gateway("requests: { header_timeout: 500ms, keepalive: 60s }");
    let mut connection = gateway.connect();
    assert_eq!(connection.get("/").status, 200);
    thread::sleep(ms(1_500));
    assert_eq!(connection.get("/").status, 200);
}

/// Below the least rate for the 20 seconds that are looked at.
#[test]
fn who_sends_a_body_too_slowly_is_told_408_and_who_is_fast_enough_may_take_any_time() {
    let upstream = Upstream::raw(|mut caller| {
        caller.request();
        caller.wait_for_close();
    });
    let endpoint = Endpoint::start("a");
    let gateway = Gateway::start(&format!(
        "
        requests: {{ min_rate: 100B/s }}
        upstreams:
          silent: {{ endpoints: ['{}'] }}
          pool: {{ endpoints: [{endpoint}] }}
        routes:
          - {{ match: {{ path: /silent }}, upstream: silent }}
          - upstream: pool
        ",
        upstream.address()
    ));
    let post = |target: &str, length: usize| {
        format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")
            .into_bytes()
    };
    let slow = open(gateway.address(), &post("/silent", 1 << 20));
    let fast = open(gateway.address(), &post("/", 200 * 25 * 10));
    let slow = thread::spawn(move || lasts(slow, b"a", ms(100)));
    let fast = thread::spawn(move || lasts(fast, &[b'a'; 200], ms(100)));
    let (lasted, seen) = slow.join().unwrap();
    let seen = String::from_utf8(seen).unwrap();
    assert!(lasted >= ms(19_000) && lasted < ms(45_000), "{lasted:?}");
    assert!(seen.starts_with("HTTP/1.1 408"), "{seen}");
    let (lasted, seen) = fast.join().unwrap();
    let seen = String::from_utf8(seen).unwrap();
    assert!(lasted >= ms(24_000), "{lasted:?}: {seen}");
    assert!(seen.starts_with("HTTP/1.1 200"), "{seen}");
}

/// What the kernels of both sides hold is not much of it.
#[test]
fn who_takes_an_answer_too_slowly_gets_no_more_of_it() {
    let endpoint = Upstream::raw(|mut caller| {
        caller.request();
        caller.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            64 << 20
        ));
        caller.send(vec![b'x'; 64 << 20]);
        caller.wait_for_close();
    });
    let gateway = Gateway::start(&format!(
        "
        requests: {{ min_rate: 100kB/s, write_timeout: 10m }}
        upstreams: {{ pool: {{ endpoints: ['{}'] }} }}
        routes: [{{ upstream: pool }}]
        ",
        endpoint.address()
    ));
    let mut client = open(gateway.address(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let start = Instant::now();
    let mut read = 0;
    let mut bytes = [0; 1000];
    // A tenth of what it should take.
    while start.elapsed() < ms(90_000) {
        match client.read(&mut bytes) {
            Ok(0) | Err(_) => break,
            Ok(some) => read += some,
        }
        // As fast as that at the end, to find it.
        if start.elapsed() < ms(50_000) {
            thread::sleep(ms(100));
        }
    }
    let lasted = start.elapsed();
    assert!(read < 64 << 20, "all of it has come, after {lasted:?}");
    assert!(lasted >= ms(19_000) && lasted < ms(60_000), "{lasted:?}");
}

// ---- how large --------------------------------------------------------------------------------

#[test]
fn heads_are_refused_that_are_too_long_too_large_or_of_too_many_lines() {
    let gateway = gateway("requests: { max_target: 1KiB, max_header_size: 4KiB, max_headers: 20 }");
    let long = |length: usize| format!("/{}", "a".repeat(length - 1));
    assert_eq!(gateway.get(&long(1_024)).status, 200);
    let refused = gateway.get(&long(1_025));
    assert_eq!(refused.status, 414, "{}", refused.text());
    assert_eq!(refused.json()["title"], "URI Too Long");
    let with = |value: usize| {
        gateway
            .request("GET", "/")
            .header("X-A", "v".repeat(value))
            .send()
    };
    assert_eq!(with(3_900).status, 200);
    assert_eq!(with(4_100).status, 431);
    let lines = |count: usize| {
        let request = gateway.request("GET", "/");
        let request = (0..count).fold(request, |request, number| {
            request.header(&format!("X-{number}"), number)
        });
        request.send().status
    };
    assert_eq!((lines(15), lines(25)), (200, 431));
    // More than the parser takes.
    assert_eq!(lines(300), 431);
    let client = Http2::open(gateway.address());
    assert_eq!(client.get(&long(1_025)).status, 414);
    let request = (0..25).fold(client.request("GET", "/", ""), |mut request, number| {
        let name = http::HeaderName::try_from(format!("x-{number}")).unwrap();
        request.headers_mut().insert(name, number.into());
        request
    });
    assert_eq!(client.send(request).unwrap().status, 431);
}

#[test]
fn an_endless_head_is_refused_while_it_comes() {
    let gateway = gateway("requests: { max_header_size: 4KiB }");
    let mut connection = gateway.connect();
    connection.send(format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX-A: {}",
        "v".repeat(5_000)
    ));
    assert_eq!(connection.answer().status, 431);
    connection.expect_close();
}

#[test]
fn a_body_is_refused_that_is_larger_than_its_route_takes_before_it_comes_or_while_it_does() {
    let endpoint = Endpoint::start("a");
    let gateway = Gateway::start(&format!(
        "
        requests: {{ max_body: 10KiB }}
        upstreams: {{ pool: {{ endpoints: [{endpoint}] }} }}
        routes:
          - {{ match: {{ path: /large }}, max_body: 20KiB, upstream: pool }}
          - {{ match: {{ path: /any }}, max_body: none, upstream: pool }}
          - upstream: pool
        "
    ));
    let post = |target: &str, size: usize| {
        let request = gateway.request("POST", target);
        request.body(vec![b'x'; size]).send().status
    };
    let chunked = |target: &str, size: usize| {
        let request = gateway.request("POST", target);
        request
            .chunks([vec![b'x'; size / 2], vec![b'x'; size / 2]])
            .send()
            .status
    };
    for (target, most) in [("/", 10 << 10), ("/large", 20 << 10)] {
        for send in [&post as &dyn Fn(&str, usize) -> u16, &chunked] {
            assert_eq!(send(target, most), 200, "{target}");
            let before = endpoint.received().len();
            assert_eq!(send(target, most + 2), 413, "{target}");
            eventually(PATIENCE, || endpoint.in_flight() == 0);
            let whole = endpoint.received().len() - before;
            assert_eq!(whole, 0, "{target}");
        }
    }
    assert_eq!(post("/any", 1 << 20), 200);
    // Who asks first need not send it.
    let mut connection = gateway.connect();
    connection.send(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(connection.answer().status, 413);
    let client = Http2::open(gateway.address());
    let large = client.request("POST", "/", vec![b'x'; 11 << 10]);
    assert_eq!(client.send(large).unwrap().status, 413);
}

// ---- one after the other ----------------------------------------------------------------------

#[test]
fn requests_that_come_together_are_answered_one_by_one_and_with_their_own_bodies() {
    let endpoint = Endpoint::start("a");
    let gateway = Gateway::start(&format!(
        "upstreams: {{ pool: {{ endpoints: [{endpoint}] }} }}\nroutes: [{{ upstream: pool }}]\n"
    ));
    let all = [
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nworld\r\n0\r\n\r\n",
        "GET /4 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /5 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ]
    .concat();
    // At once, byte by byte, and cut anywhere.
    for size in [all.len(), 1, 7, 64] {
        let before = endpoint.received().len();
        let mut connection = gateway.connect();
        for piece in all.as_bytes().chunks(size) {
            connection.send(piece);
        }
        for _ in 0..5 {
            assert_eq!(connection.answer().status, 200);
        }
        connection.expect_close();
        let received = endpoint.received();
        let seen: Vec<_> = received[before..]
            .iter()
            .map(|request| (request.path.as_str(), &request.body[..]))
            .collect();
        let expected: [(&str, &[u8]); 5] = [
            ("/1", b""),
            ("/2", b"hello"),
            ("/3", b"world"),
            ("/4", b""),
            ("/5", b""),
        ];
        assert_eq!(seen, expected, "{size}");
    }
}

#[test]
fn a_client_that_has_sent_its_requests_and_says_no_more_gets_all_answers() {
    let endpoint = Endpoint::start("a");
    endpoint.slow(ms(100));
    let gateway = Gateway::start(&format!(
        "upstreams: {{ pool: {{ endpoints: [{endpoint}] }} }}\nroutes: [{{ upstream: pool }}]\n"
    ));
    let mut connection = gateway.connect();
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    connection.send([request, request].concat());
    assert_eq!(connection.answer().status, 200);
    assert_eq!(connection.answer().status, 200);
}

// ---- listeners that come and go ---------------------------------------------------------------

fn listeners(names: &[(&str, u16)]) -> String {
    let list: Vec<_> = names
        .iter()
        .map(|(name, port)| format!("{name}: {{ bind: '127.0.0.1:{port}' }}"))
        .collect();
    configuration(&format!("listeners: {{ {} }}", list.join(", ")))
}

/// Where a listener waits that has come by a reload.
fn address_in_log(gateway: &Gateway, name: &str) -> SocketAddr {
    let line = gateway.wait_for_log(&format!("listening: listener={name} "));
    let address = line.split("address=").nth(1).unwrap();
    address.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_reload_opens_new_listeners_and_closes_those_that_are_gone_and_keeps_connections() {
    let gateway = Gateway::start(&listeners(&[("one", 0), ("two", 0)]));
    let (one, two) = (gateway.address_of("one"), gateway.address_of("two"));
    let mut old = Connection::open(two);
    assert_eq!(old.get("/").status, 200);
    assert!(gateway.reload(&listeners(&[("one", 0), ("three", 0)])));
    let three = address_in_log(&gateway, "three");
    assert_eq!(Connection::open(three).get("/").status, 200);
    assert_eq!(Connection::open(one).get("/").status, 200);
    eventually(PATIENCE, || {
        Connection::try_open(Address::from(two)).is_err()
    });
    assert_eq!(old.get("/").status, 200);
}

#[test]
fn a_listener_that_can_not_be_had_keeps_the_old_configuration() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = Gateway::start(&listeners(&[("one", 0)]));
    let port = taken.local_addr().unwrap().port();
    let wanted = listeners(&[("new", 0), ("other", port)]);
    assert!(!gateway.reload(&wanted.replace("fixed", "changed")));
    let log = gateway.log();
    assert!(
        log.contains("the listener `other` can't have 127.0.0.1:"),
        "{log}"
    );
    assert_eq!(gateway.get("/").text(), "fixed");
    drop(taken);
    assert!(gateway.reload(&wanted.replace("fixed", "changed")));
    let other = SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(Connection::open(other).get("/").text(), "changed");
}
