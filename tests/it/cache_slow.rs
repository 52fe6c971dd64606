//! Clients that take their time, do not read at all or leave while a body is fetched: what that costs the
//! others, the endpoint and the gateway.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use edgeway_tests::{Endpoint, Frame, Frames, Gateway, PATIENCE, Upstream, eventually};

use crate::cache_surge::{
    all, at_once, before, configuration, gateway, ms, nothing_is_left, pages, slowest, told,
};

/// What all clients here ask for, so that it is one page.
const HOST: &str = "a.test";
const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// Bytes in which every place can be told.
fn numbers(mebibytes: u32) -> Vec<u8> {
    let numbers = 0..(mebibytes << 20) / 4;
    numbers.flat_map(u32::to_be_bytes).collect()
}

/// A request over a connection of HTTP/2 whose client gives room for 64 KiB, and no more.
fn over_http2(gateway: &Gateway) -> Frames {
    let mut frames = Frames::open(gateway.address());
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", HOST),
    ];
    frames.head(1, &fields, Frames::END_STREAM);
    frames
}

/// Reads a body to its end, and gives room for each piece that has come, after `pause`.
fn rest(frames: &mut Frames, body: &mut Vec<u8>, pause: u64) {
    loop {
        let of_body = |frame: &Frame| frame.kind == Frames::DATA || frame.kind == Frames::RESET;
        let frame = frames.until(of_body);
        assert_eq!(frame.kind, Frames::DATA, "after {} bytes", body.len());
        body.extend_from_slice(&frame.payload);
        if frame.ends() {
            return;
        }
        thread::sleep(ms(pause));
        let room = u32::try_from(frame.payload.len()).unwrap();
        if room > 0 {
            frames.widen(0, room);
            frames.widen(1, room);
        }
    }
}

/// An endpoint that sends a body in chunks as fast as it is taken, and tells how much was.
struct Pouring {
    upstream: Upstream,
    sent: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Pouring {
    fn start(body: Vec<u8>) -> Self {
        let counters = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (sent, requests) = (Arc::clone(&counters.0), Arc::clone(&counters.1));
        let upstream = Upstream::raw(move |mut caller| {
            while caller.request().is_some() {
                requests.fetch_add(1, Ordering::SeqCst);
                caller.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                for piece in body.chunks(64 << 10) {
                    let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
                    chunk.extend_from_slice(piece);
                    chunk.extend_from_slice(b"\r\n");
                    caller.send(chunk);
                    sent.fetch_add(piece.len(), Ordering::SeqCst);
                }
                caller.send("0\r\n\r\n");
            }
        });
        Self {
            upstream,
            sent: counters.0,
            requests: counters.1,
        }
    }

    /// A gateway that stores bodies of 1 MiB.
    fn gateway(&self) -> Gateway {
        let upstream = format!("endpoints: ['{}']", self.upstream);
        let configuration = configuration(&upstream, "{ ttl: 1m }");
        Gateway::start(&format!(
            "{configuration}\n        caches: {{ default: {{ max_object: 1MiB }} }}\n"
        ))
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    /// Waits until it can send no more, and tells how much was sent.
    fn settles(&self) -> usize {
        eventually(PATIENCE, || self.sent() > 0);
        loop {
            let before = self.sent();
            thread::sleep(ms(500));
            if self.sent() == before {
                return before;
            }
        }
    }
}

#[test]
fn a_client_of_http2_that_does_not_read_slows_nobody_down() {
    let body = numbers(4);
    let whole = body.clone();
    let endpoint = pages(move |_, page| page.body(whole.clone()).after(ms(300)));
    let gateway = before(&endpoint, "{ ttl: 1m }");
    let mut first = over_http2(&gateway);
    eventually(PATIENCE, || endpoint.in_flight() == 1);
    let asked = at_once(&gateway, 20, |_, connection| {
        connection.request("GET", "/").host(HOST)
    });
    for answer in all(&asked, 200) {
        assert!(answer.body == body, "{} bytes", answer.body.len());
    }
    assert!(slowest(&asked) < ms(8000), "{:?}", slowest(&asked));
    assert_eq!(endpoint.requests(), 1);
    // And in the end it gets all that it has not read.
    let mut read = Vec::new();
    rest(&mut first, &mut read, 0);
    assert!(read == body, "{} bytes", read.len());
    nothing_is_left(&gateway, &endpoint);
}

#[test]
fn a_slow_client_gets_all_of_what_turns_out_too_large_and_it_is_not_held_in_memory() {
    let body = numbers(64);
    let endpoint = Pouring::start(body.clone());
    let gateway = endpoint.gateway();
    let mut slow = gateway.connect();
    slow.send(GET);
    // Sockets hold some of it.
    let sent = endpoint.settles();
    assert!(
        sent < 40 << 20,
        "{sent} bytes were taken for a client that reads none"
    );
    let answer = slow.answer();
    assert!(answer.body == body, "{} bytes", answer.body.len());
    assert_eq!(endpoint.requests.load(Ordering::SeqCst), 1);
    // The connection is as good as any other.
    slow.send("GET /other HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert!(slow.answer().body == body);
}

#[test]
fn a_slow_client_of_http2_gets_all_of_what_turns_out_too_large() {
    let body = numbers(64);
    let endpoint = Pouring::start(body.clone());
    let gateway = endpoint.gateway();
    let mut slow = over_http2(&gateway);
    let sent = endpoint.settles();
    assert!(
        sent < 40 << 20,
        "{sent} bytes were taken for a client that reads none"
    );
    let mut read = Vec::new();
    rest(&mut slow, &mut read, 0);
    assert!(read == body, "{} bytes", read.len());
}

#[test]
fn who_does_not_read_what_is_too_large_does_not_hold_up_the_others_for_long() {
    let body = numbers(64);
    let endpoint = Pouring::start(body.clone());
    let gateway = endpoint.gateway();
    let mut stuck = gateway.connect();
    stuck.send(GET);
    let start = Instant::now();
    let mut other = gateway.connect();
    other.send(GET);
    let answer = other.answer();
    assert!(answer.body == body, "{} bytes", answer.body.len());
    assert!(start.elapsed() < ms(25_000), "{:?}", start.elapsed());
}

#[test]
fn the_next_request_for_what_was_too_large_passes_the_cache_by() {
    let body = numbers(4);
    let endpoint = Pouring::start(body.clone());
    let gateway = endpoint.gateway();
    assert_eq!(gateway.get("/").body.len(), body.len());
    for _ in 0..3 {
        let answer = gateway.get("/");
        assert!(told(&answer).contains("too-large"), "{}", told(&answer));
        assert!(answer.body == body);
    }
}

/// An endpoint that sends a piece from time to time, for ever.
struct Dripping {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    /// How many answers nobody takes any more.
    left: Arc<AtomicUsize>,
}

impl Dripping {
    fn start(field: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let dripping = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            left: Arc::default(),
        };
        let (requests, left) = (Arc::clone(&dripping.requests), Arc::clone(&dripping.left));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (requests, left) = (Arc::clone(&requests), Arc::clone(&left));
                thread::spawn(move || {
                    drip(stream.unwrap(), field, &requests);
                    left.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        dripping
    }

    fn gateway(&self) -> Gateway {
        gateway(&format!("endpoints: ['{}']", self.address), "{ ttl: 1m }")
    }
}

fn drip(mut stream: TcpStream, field: &str, requests: &AtomicUsize) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.extend_from_slice(&byte);
    }
    requests.fetch_add(1, Ordering::SeqCst);
    let head = format!("HTTP/1.1 200 OK\r\n{field}Transfer-Encoding: chunked\r\n\r\n");
    let mut sent = stream.write_all(head.as_bytes());
    while sent.is_ok() {
        sent = stream.write_all(b"4\r\ndrop\r\n");
        thread::sleep(ms(50));
    }
}

#[test]
fn a_fetch_that_its_client_has_left_ends_after_some_time() {
    for http2 in [false, true] {
        let endpoint = Dripping::start("");
        let gateway = endpoint.gateway();
        if http2 {
            let mut client = over_http2(&gateway);
            client.until(|frame| frame.kind == Frames::DATA);
        } else {
            let mut client = gateway.connect();
            client.send(GET);
            assert_eq!(client.head().status, 200);
            assert_eq!(client.chunk().unwrap(), b"drop");
        }
        eventually(ms(30_000), || endpoint.left.load(Ordering::SeqCst) == 1);
    }
}

#[test]
fn nobody_is_given_the_stream_of_events_of_another() {
    let endpoint = Dripping::start("Content-Type: text/event-stream\r\n");
    let gateway = endpoint.gateway();
    let mut clients: Vec<_> = (0..3).map(|_| gateway.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(GET);
        let head = client.head();
        assert!(told(&head).contains("stream"), "{}", told(&head));
        assert_eq!(client.chunk().unwrap(), b"drop");
        assert_eq!(endpoint.requests.load(Ordering::SeqCst), number + 1);
    }
}

#[test]
fn a_hit_over_http2_goes_on_as_long_as_some_of_it_is_taken() {
    let body = numbers(1)[..256 << 10].to_vec();
    let whole = body.clone();
    let endpoint: Endpoint = pages(move |_, page| page.body(whole.clone()));
    let upstream = format!("endpoints: [{endpoint}]");
    let gateway = Gateway::start(&format!(
        "{}\n        requests: {{ write_timeout: 1s }}\n",
        configuration(&upstream, "{ ttl: 1m }")
    ));
    let get = || gateway.request("GET", "/").host(HOST).send();
    eventually(PATIENCE, || told(&get()).contains("hit"));
    // 16 KiB each 200 milliseconds.
    let mut slow = over_http2(&gateway);
    let mut read = Vec::new();
    rest(&mut slow, &mut read, 200);
    assert!(read == body, "{} bytes", read.len());
}
