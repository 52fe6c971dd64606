//! A body that is read by many while it still comes: each gets all of it as it comes, or is told that it broke
//! off, and a part of it is never stored.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use edgeway_tests::{Answer, Gateway, PATIENCE, Request, Upstream, eventually};
use serde_json::Value;

use crate::cache_surge::{
    Asked, all, at_once, before, configuration, gateway, ms, nothing_is_left, pages, slowest, told,
};

/// An endpoint that sends what it is told to, when it is told: each text as it is, an empty one for the end of
/// the connection. Only the first request to it is answered like this, later ones with `later` at once.
struct Dripping {
    upstream: Upstream,
    sends: Sender<String>,
    requests: Arc<AtomicUsize>,
}

impl Dripping {
    fn start(later: &'static str) -> Self {
        let (sends, told): (Sender<String>, Receiver<String>) = channel();
        let (told, requests) = (Mutex::new(told), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&requests);
        let upstream = Upstream::raw(move |mut caller| {
            while caller.request().is_some() {
                if counted.fetch_add(1, Ordering::SeqCst) > 0 {
                    caller.send(later);
                    continue;
                }
                let told = told.lock().unwrap();
                while let Ok(text) = told.recv() {
                    if text.is_empty() {
                        return;
                    }
                    caller.send(text);
                }
            }
        });
        Self {
            upstream,
            sends,
            requests,
        }
    }

    fn send(&self, text: &str) {
        self.sends.send(text.to_owned()).unwrap();
    }

    fn close(&self) {
        self.send("");
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn gateway(&self, cache: &str) -> Gateway {
        gateway(&format!("endpoints: ['{}']", self.upstream), cache)
    }
}

const LATER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nlater";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

fn length(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")
}

/// What the admin listener tells of the zone that is there without being named.
fn zone(gateway: &Gateway) -> Value {
    let view = Request::to(gateway.address_of("admin"), "GET", "/v1/caches").send();
    assert_eq!(view.status, 200, "{}", view.text());
    view.json()["caches"][0].clone()
}

#[track_caller]
fn is_stored(gateway: &Gateway, target: &str, body: &[u8]) {
    eventually(PATIENCE, || told(&gateway.get(target)).contains("hit"));
    let answer = gateway.get(target);
    assert!(answer.body == body, "{} bytes", answer.body.len());
}

#[test]
fn bytes_come_to_all_readers_before_the_endpoint_has_sent_the_last() {
    for (head, first, last) in [
        (length(10), "first", "/last"),
        (
            CHUNKED.to_owned(),
            "5\r\nfirst\r\n",
            "5\r\n/last\r\n0\r\n\r\n",
        ),
    ] {
        let endpoint = Dripping::start(LATER);
        let gateway = endpoint.gateway("{ ttl: 1m }");
        let mut readers: Vec<_> = (0..10).map(|_| gateway.connect()).collect();
        for reader in &mut readers[..5] {
            reader.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        }
        endpoint.send(&head);
        endpoint.send(first);
        let chunked = head.contains("chunked");
        let read = |reader: &mut edgeway_tests::Connection| match chunked {
            true => reader.chunk().unwrap(),
            false => reader.read(5).unwrap(),
        };
        for (number, reader) in readers.iter_mut().enumerate() {
            if number >= 5 {
                reader.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
            }
            assert_eq!(reader.head().status, 200);
            assert_eq!(read(reader), b"first", "reader {number}");
        }
        endpoint.send(last);
        for reader in &mut readers {
            assert_eq!(read(reader), b"/last");
            if chunked {
                assert_eq!(reader.chunk().unwrap(), b"");
            }
        }
        assert_eq!(endpoint.requests(), 1);
        let again = || gateway.request("GET", "/").host("a.test").send();
        eventually(PATIENCE, || told(&again()).contains("hit"));
        assert_eq!(again().text(), "first/last");
    }
}

#[test]
fn a_body_that_breaks_off_is_broken_for_all_and_stored_for_none() {
    let breaks: [(&str, String, &str); 4] = [
        ("too short", length(20), "first"),
        ("no last chunk", CHUNKED.to_owned(), "5\r\nfirst\r\n"),
        ("half a chunk", CHUNKED.to_owned(), "f\r\nfirst"),
        ("no chunk", CHUNKED.to_owned(), "5\r\nfirst\r\nzz\r\n"),
    ];
    for (what, head, first) in breaks {
        let endpoint = Dripping::start(LATER);
        let gateway = endpoint.gateway("{ ttl: 1m }");
        thread::scope(|scope| {
            let crowd = scope
                .spawn(|| at_once(&gateway, 20, |_, connection| connection.request("GET", "/")));
            eventually(PATIENCE, || endpoint.requests() == 1);
            endpoint.send(&head);
            endpoint.send(first);
            thread::sleep(ms(300));
            endpoint.close();
            for Asked { outcome, .. } in crowd.join().unwrap() {
                match outcome {
                    Err(broken) => {
                        let partial = broken.partial.map(|answer| answer.status);
                        assert_eq!(partial, Some(200), "{what}: {}", broken.reason);
                    }
                    // Who was late has been given another.
                    Ok(answer) => assert!(answer.text() == "later" || answer.status == 502),
                }
            }
        });
        let answer = gateway.get("/");
        assert_eq!(answer.text(), "later", "{what}");
    }
}

#[test]
fn a_body_without_a_length_ends_with_the_connection_and_is_whole() {
    let endpoint = Dripping::start(LATER);
    let gateway = endpoint.gateway("{ ttl: 1m }");
    let mut reader = gateway.connect();
    reader.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    endpoint.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    endpoint.send("first");
    endpoint.close();
    assert_eq!(reader.answer().text(), "first");
    // Whether it is all of it nobody can tell (RFC 9112, section 8): what is stored is what has come.
    let answer = gateway.request("GET", "/").host("a.test").send();
    assert!(["first", "later"].contains(&answer.text()), "{answer:?}");
}

/// 4 MiB in which every place can be told.
fn large() -> Vec<u8> {
    let numbers = 0..(4_u32 << 20) / 4;
    numbers.flat_map(u32::to_be_bytes).collect()
}

#[test]
fn a_fetch_goes_on_for_the_others_and_the_store_when_the_first_client_leaves() {
    let body = large();
    let pieces: Vec<_> = body.chunks(64 << 10).map(<[u8]>::to_vec).collect();
    let endpoint = pages(move |_, page| page.pieces(pieces.clone(), ms(10)));
    let gateway = before(&endpoint, "{ ttl: 1m }");
    let mut first = gateway.connect();
    first.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(first.head().status, 200);
    let ask = || gateway.request("GET", "/").host("a.test").send();
    thread::scope(|scope| {
        let others: Vec<_> = (0..5).map(|_| scope.spawn(ask)).collect();
        thread::sleep(ms(100));
        drop(first);
        for other in others {
            let answer = other.join().unwrap();
            assert!(answer.body == body, "{} bytes", answer.body.len());
        }
    });
    assert_eq!(endpoint.requests(), 1);
    eventually(PATIENCE, || told(&ask()).contains("hit"));
    assert!(ask().body == body);
    nothing_is_left(&gateway, &endpoint);
}

#[test]
fn a_client_that_does_not_read_slows_nobody_down() {
    let body = large();
    let whole = body.clone();
    let endpoint = pages(move |_, page| page.body(whole.clone()).after(ms(100)));
    let gateway = before(&endpoint, "{ ttl: 1m }");
    let mut first = gateway.connect();
    first.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    eventually(PATIENCE, || endpoint.in_flight() == 1);
    let asked = at_once(&gateway, 20, |_, connection| {
        connection.request("GET", "/").host("a.test")
    });
    for answer in all(&asked, 200) {
        assert!(answer.body == body, "{} bytes", answer.body.len());
    }
    assert!(slowest(&asked) < ms(8000), "{:?}", slowest(&asked));
    assert_eq!(endpoint.requests(), 1);
    // And in the end it gets all that it has not read.
    let answer = first.answer();
    assert!(answer.body == body, "{} bytes", answer.body.len());
    nothing_is_left(&gateway, &endpoint);
}

#[test]
fn what_is_too_large_passes_through_whole_and_is_not_stored() {
    let body = large();
    for (limits, known) in [
        ("max_object: 1MiB", true),
        ("max_object: 1MiB", false),
        ("memory: 2MiB, max_object: 1900KiB", true),
        ("memory: 2MiB, max_object: 1900KiB", false),
    ] {
        let whole = body.clone();
        let endpoint = pages(move |_, page| match known {
            true => page.body(whole.clone()),
            false => page
                .pieces(whole.chunks(100_000).map(<[u8]>::to_vec), ms(0))
                .header("Transfer-Encoding", "chunked"),
        });
        let configuration = configuration(&format!("endpoints: [{endpoint}]"), "{ ttl: 1m }");
        let gateway = Gateway::start(&format!(
            "{configuration}\n        caches: {{ default: {{ {limits} }} }}\n"
        ));
        for _ in 0..2 {
            let asked = at_once(&gateway, 10, |_, connection| connection.request("GET", "/"));
            for answer in all(&asked, 200) {
                assert!(answer.body == body, "{} bytes: {limits}", answer.body.len());
            }
        }
        let asked = endpoint.requests();
        let answer = gateway.get("/");
        assert!(answer.body == body, "{} bytes: {limits}", answer.body.len());
        assert_eq!(endpoint.requests(), asked + 1, "{limits}");
        nothing_is_left(&gateway, &endpoint);
    }
}

#[test]
fn nobody_queues_for_what_is_too_large() {
    let endpoint = pages(|_, page| page.body(vec![b'x'; 200_000]).after(ms(400)));
    let configuration = configuration(&format!("endpoints: [{endpoint}]"), "{ ttl: 1m }");
    let gateway = Gateway::start(&format!(
        "{configuration}\n        caches: {{ default: {{ max_object: 100KiB }} }}\n"
    ));
    let crowd = || {
        let asked = at_once(&gateway, 100, |_, connection| {
            connection.request("GET", "/")
        });
        for answer in all(&asked, 200) {
            assert_eq!(answer.body.len(), 200_000);
        }
        slowest(&asked)
    };
    let first = crowd();
    assert!(first < ms(3000), "{first:?}");
    let collapsed = gateway.get("/");
    assert!(!told(&collapsed).contains("collapsed"), "{collapsed:?}");
    assert!(told(&collapsed).contains("too-large"), "{collapsed:?}");
    assert_eq!(endpoint.requests(), 101);
}

#[test]
fn many_objects_stay_within_the_memory_of_their_zone() {
    let endpoint = pages(|_, page| page.body(vec![b'x'; 50_000]));
    let configuration = configuration(&format!("endpoints: [{endpoint}]"), "{ ttl: 1m }");
    let gateway = Gateway::start(&format!(
        "{configuration}\n        caches: {{ default: {{ memory: 2MiB }} }}\n"
    ));
    let limit = 2_u64 << 20;
    thread::scope(|scope| {
        for client in 0..4 {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut connection = gateway.connect();
                for number in 0..100 {
                    let answer = connection.get(&format!("/{client}/{number}"));
                    assert_eq!(answer.body.len(), 50_000);
                }
            });
        }
        for _ in 0..20 {
            let bytes = zone(&gateway)["bytes"].as_u64();
            let bytes = bytes.unwrap_or_else(|| panic!("{}", zone(&gateway)));
            assert!(bytes <= limit, "{bytes}");
            thread::sleep(ms(20));
        }
    });
    let zone = zone(&gateway);
    let objects = zone["objects"].as_u64().unwrap();
    assert!((10..=41).contains(&objects), "{zone}");
}

#[test]
fn head_and_parts_are_answered_while_the_body_still_comes() {
    let endpoint = Dripping::start(LATER);
    let gateway = endpoint.gateway("{ ttl: 1m }");
    let mut first = gateway.connect();
    first.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    endpoint.send(&length(10));
    endpoint.send("first");
    assert_eq!(first.head().status, 200);
    assert_eq!(first.read(5).unwrap(), b"first");
    let ask = |method: &str| gateway.request(method, "/").host("a.test");
    // While the rest is still to come.
    let start = Instant::now();
    let head = ask("HEAD").send();
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("10"))
    );
    let part = |range: &str| ask("GET").header("Range", format!("bytes={range}"));
    let begin = part("0-4").send();
    assert_eq!((begin.status, begin.text()), (206, "first"));
    assert_eq!(begin.header("content-range"), Some("bytes 0-4/10"));
    let beyond = part("10-").send();
    assert_eq!(beyond.status, 416);
    assert!(start.elapsed() < ms(5000), "{:?}", start.elapsed());
    thread::scope(|scope| {
        let end = scope.spawn(|| part("-3").send());
        let both = scope.spawn(|| part("0-1,8-9").send());
        thread::sleep(ms(200));
        assert!(!end.is_finished(), "the end was answered before it came");
        endpoint.send("/last");
        let end = end.join().unwrap();
        assert_eq!((end.status, end.text()), (206, "ast"));
        let both = both.join().unwrap();
        assert!(
            both.text().contains("fi") && both.text().contains("st"),
            "{both:?}"
        );
    });
    assert_eq!(first.read(5).unwrap(), b"/last");
    assert_eq!(endpoint.requests(), 1);
}

#[test]
fn a_part_of_a_body_that_breaks_off_is_broken_too() {
    let endpoint = Dripping::start(LATER);
    let gateway = endpoint.gateway("{ ttl: 1m }");
    let mut first = gateway.connect();
    first.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    endpoint.send(&length(20));
    endpoint.send("0123456789");
    assert_eq!(first.head().status, 200);
    assert_eq!(first.read(10).unwrap(), b"0123456789");
    let part = |range: &'static str| {
        let request = gateway.request("GET", "/").host("a.test");
        request.header("Range", range).attempt()
    };
    thread::scope(|scope| {
        let across = scope.spawn(move || part("bytes=5-15"));
        let within = scope.spawn(move || part("bytes=5-9"));
        assert_eq!(within.join().unwrap().unwrap().text(), "56789");
        thread::sleep(ms(200));
        endpoint.close();
        let broken = across.join().unwrap().unwrap_err();
        assert_eq!(broken.partial.map(|answer| answer.status), Some(206));
    });
}

#[test]
fn a_reload_in_the_middle_breaks_nothing_off() {
    let endpoint = Dripping::start(LATER);
    let gateway = endpoint.gateway("{ ttl: 1m }");
    let mut readers: Vec<_> = (0..5).map(|_| gateway.connect()).collect();
    for reader in &mut readers {
        reader.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    }
    endpoint.send(&length(15));
    endpoint.send("first");
    for reader in &mut readers {
        assert_eq!(reader.head().status, 200);
        assert_eq!(reader.read(5).unwrap(), b"first");
    }
    let upstream = format!(
        "endpoints: ['{}'], timeouts: {{ read: 9s }}",
        endpoint.upstream
    );
    assert!(gateway.reload(&configuration(&upstream, "{ ttl: 2m }")));
    endpoint.send("-then");
    for reader in &mut readers {
        assert_eq!(reader.read(5).unwrap(), b"-then");
    }
    // Also one after which nothing is stored any more.
    let plain = configuration(&upstream, "{ ttl: 2m }").replace(", cache: { ttl: 2m }", "");
    assert!(gateway.reload(&plain));
    endpoint.send("-last");
    for reader in &mut readers {
        assert_eq!(reader.read(5).unwrap(), b"-last");
    }
    endpoint.close();
    assert!(gateway.reload(&configuration(&upstream, "{ ttl: 2m }")));
    let answer: Answer = gateway.request("GET", "/").host("a.test").send();
    assert!(
        ["later", "first-then-last"].contains(&answer.text()),
        "{answer:?}"
    );
}

#[test]
fn an_answer_in_two_pieces_is_the_same_for_a_client_of_http_1_0() {
    let endpoint = pages(|_, page| page.pieces(["one", "two"], ms(100)));
    let gateway = before(&endpoint, "{ ttl: 1m }");
    for _ in 0..2 {
        let mut old = gateway.connect();
        old.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
        assert_eq!(old.answer().text(), "onetwo");
    }
    let answer = gateway.request("GET", "/").host("a.test").send();
    is_stored(&gateway, "/other", b"onetwo");
    assert_eq!(answer.text(), "onetwo");
}
