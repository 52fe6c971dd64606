//! Bodies that filters edit, wherever they come from: `gateway/core/examples/mask.rs` puts stars in the place
//! of a word, and holds back what may be its beginning.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;
use edgeway_tests::{Answer, Endpoint, Gateway, Http2, PATIENCE, Reaction, Upstream, eventually};

use crate::cache_surge::{Asked, all, at_once, ms, pages, told};

/// Ends with what may be the beginning of the word, so that the last bytes come with the end alone.
const PAGE: &str = "a secret, and half a secre";
const MASKED: &str = "a ******, and half a secre";

/// A gateway with the filter before an upstream.
fn masking(upstream: &str, route: &str) -> Gateway {
    let yaml = format!(
        "
        upstreams: {{ pool: {{ {upstream} }} }}
        routes: [{{ filters: [mask: {{ word: secret }}], upstream: pool {route} }}]
        "
    );
    Gateway::setup(&yaml).program("examples/mask").start()
}

fn before(endpoint: &Endpoint, route: &str) -> Gateway {
    masking(&format!("endpoints: [{endpoint}]"), route)
}

/// Asks over both protocols, each for a path of its own, and asserts what comes.
#[track_caller]
fn both_get(gateway: &Gateway, path: &str, body: &str, cache_status: &str) {
    let answer = gateway.get(&format!("/1{path}"));
    assert_eq!((answer.status, answer.text()), (200, body), "{answer:?}");
    assert!(told(&answer).contains(cache_status), "{answer:?}");
    let answer = Http2::open(gateway.address()).get(&format!("/2{path}"));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, body, "{answer:?}");
    let told = answer.headers["cache-status"].to_str().unwrap();
    assert!(told.contains(cache_status), "{told}");
}

fn in_chunks(page: Reaction) -> Reaction {
    page.pieces(["a sec", "ret, and half", " a secre"], ms(20))
        .header("Transfer-Encoding", "chunked")
}

#[test]
fn an_edited_body_is_the_same_from_the_endpoint_and_from_the_cache() {
    let endpoint = pages(|request, page| match request.target.ends_with("chunks") {
        true => in_chunks(page),
        false => page.body(PAGE),
    });
    let gateway = before(&endpoint, ", cache: { ttl: 1m }");
    for path in ["/length", "/chunks"] {
        for cache_status in ["fwd=uri-miss", "hit", "hit"] {
            both_get(&gateway, path, MASKED, cache_status);
        }
    }
    let plain = before(&endpoint, "");
    for path in ["/length", "/chunks"] {
        assert_eq!(plain.get(path).text(), MASKED, "{path}");
    }
}

#[test]
fn an_edited_body_is_whole_when_what_is_stored_is_asked_about() {
    let cache = ", cache: { ttl: 200ms, stale_while_revalidate: 0s, stale_if_error: 1m }";
    for (tag, second) in [("expired", 200), ("revalidated", 304), ("stale", 503)] {
        let endpoint = pages(move |request, page| {
            let page = page.body(PAGE).header("ETag", "\"a\"");
            match request.header_all("if-none-match").is_empty() {
                true => page,
                false if second == 304 => Reaction::status(304).header("ETag", "\"a\""),
                false => page.with_status(second),
            }
        });
        let gateway = before(&endpoint, cache);
        both_get(&gateway, "/", MASKED, "fwd=uri-miss");
        thread::sleep(ms(300));
        let status = match second {
            304 => "fwd-status=304",
            503 => "upstream failed",
            _ => "fwd=stale",
        };
        both_get(&gateway, "/", MASKED, status);
        assert!(endpoint.requests() >= 4, "{tag}");
    }
}

#[test]
fn an_edited_body_is_whole_for_all_who_wait_for_it() {
    let endpoint = pages(|_, page| in_chunks(page).after(ms(300)));
    let gateway = before(&endpoint, ", cache: { ttl: 1m }");
    let asked = at_once(&gateway, 20, |_, connection| connection.request("GET", "/"));
    for answer in all(&asked, 200) {
        assert_eq!(answer.text(), MASKED);
    }
    assert_eq!(endpoint.requests(), 1);
}

#[test]
fn an_edited_body_with_trailers_behind_it_is_whole() {
    let endpoint = Endpoint::setup("trailers")
        .h2c()
        .answers(|_| {
            Reaction::status(200)
                .body(PAGE)
                .trailer("x-sum", "12")
                .trailer("grpc-status", 0)
        })
        .start();
    let upstream = format!("protocol: http2, endpoints: [{endpoint}]");
    let gateway = masking(&upstream, "");
    assert_eq!(gateway.get("/").text(), MASKED);
    let answer = Http2::open(gateway.address()).get("/");
    assert_eq!(answer.body, MASKED);
}

#[test]
fn trailers_pass_behind_an_edited_body_of_which_nothing_is_left() {
    let endpoint = Endpoint::setup("trailers")
        .h2c()
        .answers(|_| Reaction::status(200).body("a secret").trailer("x-sum", 12))
        .start();
    let upstream = format!("protocol: http2, endpoints: [{endpoint}]");
    let gateway = masking(&upstream, "");
    let answer = Http2::open(gateway.address()).get("/");
    assert_eq!(answer.body, "a ******");
    assert_eq!(answer.trailers["x-sum"], "12");
}

#[test]
fn what_has_no_body_gets_none_by_an_edit() {
    let endpoint = pages(|request, page| match request.target.as_str() {
        "/none" => Reaction::status(204),
        _ => page.body(PAGE).header("ETag", "\"a\""),
    });
    for route in ["", ", cache: { ttl: 1m }"] {
        let gateway = before(&endpoint, route);
        let mut connection = gateway.connect();
        for _ in 0..2 {
            let head = connection.request("HEAD", "/").send();
            assert_eq!((head.status, head.text()), (200, ""));
            assert_eq!(connection.get("/none").status, 204);
            let known = connection.request("GET", "/other");
            let known = known.header("If-None-Match", "\"a\"").send();
            assert!([200, 304].contains(&known.status), "{known:?}");
            assert_eq!(connection.get("/").text(), MASKED);
        }
    }
}

#[test]
fn an_edit_that_fails_ends_the_body_for_its_client_alone() {
    let endpoint = pages(|request, page| match request.target.as_str() {
        "/late" => page.pieces(["a secret", "\0"], ms(200)),
        _ => page.body("\0"),
    });
    let plain = "
        upstreams: { pool: { endpoints: ['ENDPOINT'] } }
        filters: [access_log]
        routes:
          - { match: { path: /plain/ }, upstream: pool }
          - { filters: [mask: { word: secret }], upstream: pool CACHE }
        ";
    for cache in ["", ", cache: { ttl: 1m }"] {
        let yaml = plain
            .replace("ENDPOINT", &endpoint.to_string())
            .replace("CACHE", cache);
        let gateway = Gateway::setup(&yaml).program("examples/mask").start();
        for _ in 0..2 {
            let broken = gateway.request("GET", "/late").attempt().unwrap_err();
            let partial = broken.partial.map(|answer| answer.status);
            assert_eq!(partial, Some(200), "{cache}: {}", broken.reason);
            let http2 = Http2::open(gateway.address());
            let request = http2.request("GET", "/late", Bytes::new());
            assert!(http2.send(request).is_err(), "{cache}");
        }
        let asked = endpoint.requests();
        gateway.request("GET", "/late").attempt().unwrap_err();
        let fetched = endpoint.requests() - asked;
        // What fails for one is no reason to fetch it again.
        assert_eq!(fetched, usize::from(cache.is_empty()));
        gateway.wait_for_output("the body is no text");
    }
}

#[test]
fn an_edited_body_is_served_whole_although_a_part_is_asked_for() {
    let endpoint = pages(|_, page| {
        page.body(PAGE)
            .header("ETag", "\"a\"")
            .header("Accept-Ranges", "bytes")
    });
    let gateway = before(&endpoint, ", cache: { ttl: 1m }");
    let whole = |answer: &Answer| {
        assert_eq!((answer.status, answer.text()), (200, MASKED), "{answer:?}");
        assert_eq!(answer.header("content-range"), None);
        assert_eq!(answer.header("accept-ranges"), None);
        assert_eq!(answer.header("etag"), Some("W/\"a\""));
    };
    for (number, range) in ["0-3", "-4", "0-1,8-9", "99-"].iter().enumerate() {
        let path = format!("/{number}");
        let part = || {
            let request = gateway.request("GET", &path);
            request.header("Range", format!("bytes={range}")).send()
        };
        whole(&part());
        whole(&part());
        whole(&gateway.get(&path));
        let known = gateway.request("GET", &path);
        let known = known.header("If-None-Match", "W/\"a\"").send();
        assert_eq!(known.status, 304);
        assert_eq!(known.header("etag"), Some("W/\"a\""));
    }
    // Also of what is asked about, or just being fetched.
    let asked = at_once(&gateway, 10, |_, connection| {
        let request = connection.request("GET", "/many");
        request.header("Range", "bytes=0-1,8-9")
    });
    for answer in all(&asked, 200) {
        whole(answer);
    }
    let again = gateway.request("GET", "/0");
    let again = again.header("Cache-Control", "no-cache");
    whole(&again.header("Range", "bytes=0-3").send());
}

#[test]
fn a_part_that_an_endpoint_sends_is_not_edited_by_itself() {
    let endpoint = pages(
        |request, page| match request.header_all("range").is_empty() {
            true => page.body(PAGE),
            false => page
                .body("a secr")
                .with_status(206)
                .header("Content-Range", "bytes 0-5/26"),
        },
    );
    let gateway = before(&endpoint, "");
    let part = gateway.request("GET", "/").header("Range", "bytes=0-5");
    let part = part.send();
    assert_eq!(part.status, 416, "{part:?}");
    assert!(!part.text().contains("secr"), "{part:?}");
    assert_eq!(part.header("content-range"), None);
    assert_eq!(gateway.get("/").text(), MASKED);
}

#[test]
fn a_response_that_a_filter_refuses_has_the_same_reply_from_everywhere() {
    let endpoint = pages(|request, page| {
        let page = page.header("Content-Encoding", "gzip").body("coded");
        let slow = request.target == "/crowd";
        page.after(if slow { ms(400) } else { ms(0) })
    });
    let gateway = before(&endpoint, ", cache: { ttl: 1m }");
    let refused = |answer: &Answer| {
        assert_eq!(answer.status, 502, "{answer:?}");
        let kind = answer.header("content-type");
        assert_eq!(kind, Some("application/problem+json"));
        assert_eq!(answer.json()["title"], "Bad Gateway");
        assert_eq!(answer.header("content-encoding"), None);
        assert_ne!(answer.header("server"), Some("Pingora"));
    };
    refused(&gateway.get("/"));
    refused(&gateway.get("/"));
    let asked = at_once(&gateway, 20, |_, connection| {
        connection.request("GET", "/crowd")
    });
    for Asked { outcome, .. } in &asked {
        refused(outcome.as_ref().unwrap());
    }
    // Several parts are Pingora's affair.
    let parts = gateway.request("GET", "/crowd");
    refused(&parts.header("Range", "bytes=0-1,3-4").send());
    let http2 = Http2::open(gateway.address());
    let mut request = http2.request("GET", "/crowd", Bytes::new());
    let ranges = "bytes=0-1,3-4".parse().unwrap();
    request.headers_mut().insert("range", ranges);
    let answer = http2.send(request).unwrap();
    assert_eq!(answer.status, 502);
    assert_eq!(answer.json()["title"], "Bad Gateway");
}

// ---- bodies that are cut ----------------------------------------------------------------------

/// Answers the first request of each path with a half page whose end is that of the connection, and later
/// ones with a whole one.
fn half_at_first() -> Upstream {
    let requests = AtomicUsize::new(0);
    Upstream::raw(move |mut caller| {
        while caller.request().is_some() {
            if requests.fetch_add(1, Ordering::SeqCst) > 0 {
                caller.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole");
                continue;
            }
            caller.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf");
            caller.wait_for_close();
            return;
        }
    })
}

#[test]
fn a_body_that_we_have_cut_ourselves_is_not_whole_and_not_stored() {
    for cache in ["", ", cache: { ttl: 1m }"] {
        for http2 in [false, true] {
            let upstream = half_at_first();
            let gateway = Gateway::start(&format!(
                "
                upstreams: {{ pool: {{ endpoints: ['{upstream}'] }} }}
                routes: [{{ upstream: pool, timeout: 1s {cache} }}]
                "
            ));
            if http2 {
                let client = Http2::open(gateway.address());
                let request = client.request("GET", "/", Bytes::new());
                let answer = client.send(request);
                assert!(answer.is_err(), "{cache}: {answer:?}");
            } else {
                let answer = gateway.request("GET", "/").attempt();
                let broken = answer.expect_err("half a page is no answer");
                assert!(broken.partial.is_some(), "{cache}: {}", broken.reason);
            }
            assert_eq!(gateway.get("/").text(), "whole", "{cache}");
        }
    }
}

#[test]
fn a_connection_is_not_cut_when_its_answer_is_whole_and_the_client_slow() {
    let body = vec![b'x'; 8 << 20];
    let endpoint = pages(move |request, page| match request.target.as_str() {
        "/large" => page.body(body.clone()),
        _ => page,
    });
    let gateway = Gateway::start(&format!(
        "
        upstreams: {{ pool: {{ endpoints: [{endpoint}] }} }}
        routes: [{{ upstream: pool, timeout: 1500ms, cache: {{ ttl: 1m }} }}]
        "
    ));
    let mut slow = gateway.connect();
    slow.send("GET /large HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(slow.head().status, 200);
    eventually(PATIENCE, || endpoint.in_flight() == 0);
    thread::sleep(ms(2000));
    assert_eq!(slow.read(8 << 20).unwrap().len(), 8 << 20);
    assert_eq!(slow.get("/small").status, 200);
    assert_eq!(endpoint.connections(), 1);
}

#[test]
fn a_websocket_that_begins_with_its_answer_is_no_body() {
    let endpoint = Upstream::raw(|mut caller| {
        caller.head();
        caller.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nsecret");
        while let Some(message) = caller.body(6) {
            caller.send(message);
        }
    });
    let gateway = masking(
        &format!("endpoints: ['{endpoint}'], timeouts: {{ read: 1500ms }}"),
        ", timeout: 1500ms",
    );
    let mut connection = gateway.connect();
    connection.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    assert_eq!(connection.head().status, 101);
    assert_eq!(connection.read(6).unwrap(), b"secret");
    for pause in [0, 2500] {
        thread::sleep(ms(pause));
        connection.send("secret");
        assert_eq!(connection.read(6).unwrap(), b"secret", "after {pause} ms");
    }
}
