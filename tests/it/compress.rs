//! Responses that are compressed on their way: which, how, how soon, and what the cache keeps of them.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::Bytes;
use edgeway_tests::{
    Answer, Connection, Endpoint, Gateway, Http2, PATIENCE, Reaction, Received, Request, Trailed,
    Upstream, eventually,
};
use http::HeaderMap;

use crate::cache_surge::{ms, told};

/// What a body was before its coding. Panics if it is not whole.
#[track_caller]
fn decode(coding: Option<&str>, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let read = match coding {
        None => return body.to_vec(),
        Some("gzip") => flate2::read::GzDecoder::new(body).read_to_end(&mut out),
        Some("br") => brotli_decompressor::Decompressor::new(body, 4096).read_to_end(&mut out),
        Some("zstd") => zstd::stream::read::Decoder::new(body)
            .unwrap()
            .read_to_end(&mut out),
        Some(other) => panic!("coded in {other}"),
    };
    read.unwrap_or_else(|error| panic!("{error}, after {} bytes", out.len()));
    out
}

#[track_caller]
fn text(answer: &Answer) -> String {
    let plain = decode(answer.header("content-encoding"), &answer.body);
    String::from_utf8(plain).unwrap()
}

fn vary(answer: &Answer) -> String {
    answer.header_all("vary").join(", ").to_lowercase()
}

/// A page of so many lines, of which no two are the same.
fn page(lines: usize) -> String {
    (0..lines)
        .map(|line| format!("This is line {line} of a page.\n"))
        .collect()
}

/// Text of words that come in no order.
fn prose() -> String {
    const WORDS: [&str; 12] = [
        "gateway",
        "which",
        "header",
        "is",
        "compressed",
        "then",
        "of",
        "page",
        "length",
        "a",
        "the",
        "client",
    ];
    let words = noise(4_000).into_iter();
    let words = words.map(|byte| WORDS[usize::from(byte) % WORDS.len()]);
    format!("This {}", words.collect::<Vec<_>>().join(" "))
}

fn html(body: impl Into<Bytes>) -> Reaction {
    Reaction::status(200)
        .header("Content-Type", "text/html")
        .body(body)
}

fn endpoint(answer: impl Fn(&Received) -> Reaction + Send + Sync + 'static) -> Endpoint {
    Endpoint::setup("pages").answers(answer).start()
}

fn pages() -> Endpoint {
    endpoint(|_| html(page(100)))
}

/// A gateway with this filter before an upstream.
fn before(endpoint: &Endpoint, filter: &str, route: &str) -> Gateway {
    gateway(&format!("endpoints: [{endpoint}]"), filter, route)
}

fn gateway(upstream: &str, filter: &str, route: &str) -> Gateway {
    Gateway::start(&format!(
        "
        listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}
        upstreams: {{ pool: {{ {upstream} }} }}
        routes: [{{ filters: [{filter}], upstream: pool {route} }}]
        "
    ))
}

fn get(gateway: &Gateway, target: &str, accepts: &str) -> Answer {
    gateway
        .request("GET", target)
        .header("Accept-Encoding", accepts)
        .send()
}

fn get2(gateway: &Gateway, method: &str, target: &str, accepts: &str) -> Trailed {
    let connection = Http2::open(gateway.address());
    let mut request = connection.request(method, target, "");
    let headers: &mut HeaderMap = request.headers_mut();
    headers.insert("accept-encoding", accepts.parse().unwrap());
    connection.send(request).unwrap()
}

/// The coding of an answer over HTTP/2.
fn coding2(answer: &Trailed) -> Option<&str> {
    let coding = answer.headers.get("content-encoding")?;
    Some(coding.to_str().unwrap())
}

const ALL: &str = "gzip, deflate, br, zstd";

#[test]
fn the_client_says_which_coding_and_gets_the_page_back_whole() {
    let endpoint = pages();
    let gateway = before(&endpoint, "compress", "");
    for (accepts, coding) in [
        (ALL, Some("zstd")),
        ("gzip, br", Some("br")),
        ("gzip", Some("gzip")),
        ("x-gzip", Some("gzip")),
        ("GZIP", Some("gzip")),
        ("zstd;q=0.5, br;q=0.8, gzip;q=0.7", Some("br")),
        ("zstd;q=0, *;q=0.1", Some("br")),
        ("gzip;q=0.001", Some("gzip")),
        ("gzip;q=0", None),
        ("identity, gzip", Some("gzip")),
        ("identity;q=1, gzip;q=0.5", None),
        ("identity;q=0, deflate", None),
        ("deflate", None),
        ("gzip;q=2", None),
        ("", None),
    ] {
        let answer = get(&gateway, "/", accepts);
        assert_eq!(answer.header("content-encoding"), coding, "{accepts}");
        assert_eq!(text(&answer), page(100), "{accepts}");
        assert_eq!(answer.header("vary"), Some("Accept-Encoding"), "{accepts}");
        let is_small = answer.body.len() * 3 < page(100).len();
        assert_eq!(is_small, coding.is_some(), "{accepts}");
        let answer = get2(&gateway, "GET", "/", accepts);
        assert_eq!(coding2(&answer), coding, "{accepts}");
        assert_eq!(
            decode(coding, &answer.body),
            page(100).into_bytes(),
            "{accepts}"
        );
    }
    let answer = gateway.get("/");
    assert_eq!(
        (answer.header("content-encoding"), answer.text()),
        (None, &*page(100))
    );
}

#[test]
fn another_program_reads_what_is_gzipped() {
    let Some(python) = edgeway_tests::python("gzip") else {
        return;
    };
    let endpoint = pages();
    let gateway = before(&endpoint, "compress", "");
    let script = format!(
        "import gzip, urllib.request as u\n\
         r = u.urlopen(u.Request('http://{}/', headers={{'Accept-Encoding': 'gzip'}}))\n\
         assert r.headers['Content-Encoding'] == 'gzip'\n\
         print(gzip.decompress(r.read()).decode(), end='')",
        gateway.address()
    );
    let said = std::process::Command::new(python)
        .args(["-c", &script])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(said.stdout).unwrap(), page(100));
}

#[test]
fn every_option_is_heeded() {
    let endpoint = endpoint(|request| match &*request.target {
        "/small" => html(page(10)),
        "/svg" => html(page(100)).header("X-Type", "svg"),
        _ => html(prose()),
    });
    let size = |filter: &str, target: &str, accepts: &str| {
        let answer = get(&before(&endpoint, filter, ""), target, accepts);
        assert!(text(&answer).starts_with("This "), "{filter}");
        let coding = answer.header("content-encoding").map(str::to_owned);
        (coding, answer.body.len())
    };
    let coding = |filter: &str, target: &str| size(filter, target, ALL).0;
    assert_eq!(
        coding("compress: { codings: [br, zstd] }", "/").as_deref(),
        Some("br")
    );
    assert_eq!(
        coding("compress: { codings: gzip }", "/").as_deref(),
        Some("gzip")
    );
    assert_eq!(
        coding("compress: { types: [text/css, image/*] }", "/"),
        None
    );
    assert_eq!(
        coding("compress: { types: text/html }", "/").as_deref(),
        Some("zstd")
    );
    assert_eq!(coding("compress", "/small"), None);
    assert_eq!(
        coding("compress: { min_size: 100B }", "/small").as_deref(),
        Some("zstd")
    );
    assert_eq!(coding("compress: { min_size: 1MiB }", "/"), None);
    for (coding, low, high) in [("zstd", 1, 9), ("br", 0, 6), ("gzip", 1, 9)] {
        let at = |level| {
            size(
                &format!("compress: {{ levels: {{ {coding}: {level} }} }}"),
                "/",
                coding,
            )
        };
        let (low, high) = (at(low), at(high));
        assert_eq!(
            (low.0.as_deref(), high.0.as_deref()),
            (Some(coding), Some(coding))
        );
        assert!(high.1 < low.1, "{coding}: {} and {}", high.1, low.1);
    }
    let asked = |filter: &str| {
        let gateway = before(&endpoint, filter, "");
        let request = gateway
            .request("GET", "/")
            .header("Accept-Encoding", "gzip");
        let request = request
            .header("Cookie", "sid=1")
            .header("Sec-Fetch-Site", "cross-site");
        request.send().header("content-encoding").map(str::to_owned)
    };
    assert_eq!(asked("compress"), None);
    assert_eq!(
        asked("compress: { cross_site: true }").as_deref(),
        Some("gzip")
    );
}

#[test]
fn with_its_memory_taken_bodies_go_out_as_they_are() {
    let endpoint = endpoint(|_| {
        let slow = html("").pieces([page(10), page(10)], ms(3_000));
        slow.header("Transfer-Encoding", "chunked")
    });
    let gateway = before(&endpoint, "compress: { memory: 16MiB, codings: br }", "");
    let open: Vec<_> = (0..5).map(|_| begun(&gateway, "br")).collect();
    let codings = open.iter().map(|(_, head)| head.header("content-encoding"));
    let coded = codings.filter(|coding| *coding == Some("br")).count();
    assert_eq!(coded, 4);
    drop(open);
    eventually(PATIENCE, || {
        let (_, head) = begun(&gateway, "br");
        head.header("content-encoding") == Some("br")
    });
}

/// A connection on which a page has begun to come.
fn begun(gateway: &Gateway, accepts: &str) -> (Connection, Answer) {
    let mut connection = gateway.connect();
    connection.send(format!(
        "GET / HTTP/1.1\r\nHost: a.test\r\nAccept-Encoding: {accepts}\r\n\r\n"
    ));
    let head = connection.head();
    (connection, head)
}

#[test]
fn the_head_says_nothing_that_is_not_true_any_more() {
    let endpoint = endpoint(|_| {
        html(page(100))
            .header("ETag", "\"a\"")
            .header("Accept-Ranges", "bytes")
            .header("Vary", "Cookie")
    });
    let gateway = before(&endpoint, "compress", "");
    let answer = get(&gateway, "/", "gzip");
    assert_eq!(answer.header("etag"), Some("W/\"a\""));
    assert_eq!(answer.header("accept-ranges"), None);
    assert_eq!(answer.header("content-length"), None);
    assert_eq!(answer.header_all("vary"), ["Cookie", "Accept-Encoding"]);
    let plain = get(&gateway, "/", "deflate");
    assert_eq!(plain.header("etag"), Some("\"a\""));
    assert_eq!(
        plain.header("content-length"),
        Some(&*page(100).len().to_string())
    );
    assert_eq!(plain.header_all("vary"), ["Cookie", "Accept-Encoding"]);
}

#[test]
fn a_head_request_is_told_what_a_get_would_be() {
    let endpoint = endpoint(|_| html(page(100)).header("ETag", "\"a\""));
    for cache in ["", ", cache: { ttl: 1m }"] {
        let gateway = before(&endpoint, "compress", cache);
        for _ in 0..2 {
            let mut heads = ["GET", "HEAD"].map(|method| {
                let request = gateway.request(method, "/");
                request.header("Accept-Encoding", "gzip").send()
            });
            for head in &mut heads {
                assert_eq!(head.status, 200);
                assert_eq!(head.header("content-encoding"), Some("gzip"), "{head:?}");
                assert_eq!(head.header("etag"), Some("W/\"a\""));
                assert_eq!(head.header("vary"), Some("Accept-Encoding"));
            }
            assert!(heads[1].body.is_empty());
        }
        let answer = get2(&gateway, "HEAD", "/", "gzip");
        assert_eq!(coding2(&answer), Some("gzip"));
        assert!(answer.body.is_empty());
    }
}

#[test]
fn what_is_to_stay_as_it_is_does() {
    let endpoint = endpoint(|request| {
        let page = html(page(100));
        match &*request.target {
            "/coded" => page.header("Content-Encoding", "x-own"),
            "/no-transform" => page.header("Cache-Control", "public, no-transform"),
            "/part" => page
                .with_status(206)
                .header("Content-Range", "bytes 0-9/20"),
            "/digest" => page.header("Repr-Digest", "sha-256=:eA==:"),
            "/image" => Reaction::status(200)
                .header("Content-Type", "image/png")
                .body("x".repeat(5000)),
            "/events" => Reaction::status(200)
                .header("Content-Type", "text/event-stream")
                .body("x".repeat(5000)),
            "/grpc" => Reaction::status(200)
                .header("Content-Type", "application/grpc+json")
                .body("x".repeat(5000)),
            "/nothing" => Reaction::status(204),
            "/untyped" => Reaction::status(200).body("x".repeat(5000)),
            _ => page,
        }
    });
    let gateway = before(&endpoint, "compress", "");
    assert_eq!(
        get(&gateway, "/", ALL).header("content-encoding"),
        Some("zstd")
    );
    for target in [
        "/no-transform",
        "/part",
        "/digest",
        "/image",
        "/events",
        "/grpc",
        "/nothing",
        "/untyped",
    ] {
        let answer = get(&gateway, target, ALL);
        assert_eq!(answer.header("content-encoding"), None, "{target}");
        if answer.status != 204 {
            assert!(answer.body.len() > 2000, "{target}");
            assert_eq!(
                answer.header("content-length"),
                Some(&*answer.body.len().to_string())
            );
        }
    }
    let coded = get(&gateway, "/coded", ALL);
    assert_eq!(coded.header("content-encoding"), Some("x-own"));
    assert_eq!(coded.body, page(100).into_bytes());
}

#[test]
fn the_endpoint_is_asked_for_the_one_coding_and_may_compress_itself() {
    let endpoint = endpoint(|request| {
        let asked = request.header_all("accept-encoding").join("|");
        let page = html(format!("{asked} {}", page(100)));
        match asked == "br" {
            true => page.header("Content-Encoding", "br"),
            false => page,
        }
    });
    let gateway = before(&endpoint, "compress", "");
    for (accepts, asked) in [
        (ALL, "zstd"),
        ("gzip;q=0.5", "gzip"),
        ("deflate", "identity"),
    ] {
        assert!(
            text(&get(&gateway, "/", accepts)).starts_with(&format!("{asked} ")),
            "{accepts}"
        );
    }
    // It says that it is brotli, and is left alone.
    let answer = get(&gateway, "/", "gzip;q=0.1, br");
    assert_eq!(answer.header("content-encoding"), Some("br"));
    assert!(answer.text().starts_with("br This"));
    assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
}

#[test]
fn a_page_of_whatever_length_and_framing_comes_whole() {
    let endpoint = |setup: bool| {
        let setup_ = Endpoint::setup("pages");
        let setup_ = if setup { setup_.h2c() } else { setup_ };
        setup_
            .answers(|request| {
                let lines = request
                    .target
                    .trim_start_matches('/')
                    .split('?')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap();
                let whole = html(page(lines));
                match request.target.ends_with("?pieces") {
                    true => {
                        let body = page(lines).into_bytes();
                        let pieces = body.chunks(1000).map(<[u8]>::to_vec);
                        whole.pieces(pieces.collect::<Vec<_>>(), ms(0))
                    }
                    false => whole,
                }
            })
            .start()
    };
    for (http2, protocol) in [(false, ""), (true, "protocol: http2, ")] {
        let endpoint = endpoint(http2);
        for cache in ["", ", cache: { ttl: 1m }"] {
            let gateway = gateway(
                &format!("{protocol}endpoints: [{endpoint}]"),
                "compress: { min_size: 0B }",
                cache,
            );
            for target in ["/0", "/1", "/40", "/40?pieces", "/20000", "/20000?pieces"] {
                let lines = target
                    .trim_start_matches('/')
                    .split('?')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap();
                for coding in ["gzip", "br", "zstd"] {
                    let tag = format!("{target} {coding} {cache} {protocol}");
                    for _ in 0..2 {
                        let answer = get(&gateway, target, coding);
                        assert_eq!(text(&answer), page(lines), "{tag}");
                        let answer = get2(&gateway, "GET", target, coding);
                        let body = decode(coding2(&answer), &answer.body);
                        assert_eq!(body, page(lines).into_bytes(), "{tag}");
                    }
                    let old = old_client(&gateway, target, coding);
                    assert_eq!(old, page(lines).into_bytes(), "{tag}");
                }
            }
        }
    }
}

/// The page that a client of HTTP/1.0 gets, which knows no chunks.
#[track_caller]
fn old_client(gateway: &Gateway, target: &str, accepts: &str) -> Vec<u8> {
    let mut connection = gateway.connect();
    connection.send(format!(
        "GET {target} HTTP/1.0\r\nHost: a.test\r\nAccept-Encoding: {accepts}\r\n\r\n"
    ));
    let head = connection.head();
    assert_eq!(head.header("transfer-encoding"), None);
    let body = connection.rest().unwrap();
    decode(head.header("content-encoding"), &body)
}

#[test]
fn a_page_with_trailers_behind_it_is_whole() {
    let endpoint = Endpoint::setup("trailers")
        .h2c()
        .answers(|_| html(page(100)).trailer("x-sum", 12))
        .start();
    for cache in ["", ", cache: { ttl: 1m }"] {
        let gateway = gateway(
            &format!("protocol: http2, endpoints: [{endpoint}]"),
            "compress",
            cache,
        );
        for _ in 0..2 {
            let answer = get(&gateway, "/", "br");
            assert_eq!(text(&answer), page(100), "{cache}");
            let answer = get2(&gateway, "GET", "/", "gzip");
            assert_eq!(
                decode(coding2(&answer), &answer.body),
                page(100).into_bytes()
            );
        }
    }
}

#[test]
fn a_page_that_breaks_off_never_looks_whole_and_is_not_kept() {
    let whole = Arc::new(AtomicBool::new(false));
    let mended = Arc::clone(&whole);
    let endpoint = endpoint(move |_| match mended.load(Ordering::Relaxed) {
        true => html(page(500)),
        false => html(page(500)).cut(),
    });
    for cache in ["", ", cache: { ttl: 1m }"] {
        let gateway = before(&endpoint, "compress", cache);
        whole.store(false, Ordering::Relaxed);
        for _ in 0..2 {
            let request = gateway.request("GET", "/");
            let broken = request.header("Accept-Encoding", "gzip").attempt();
            assert!(broken.is_err() || broken.is_ok_and(|reply| reply.status == 502));
        }
        whole.store(true, Ordering::Relaxed);
        eventually(PATIENCE, || get(&gateway, "/", "gzip").status == 200);
        assert_eq!(text(&get(&gateway, "/", "gzip")), page(500));
    }

    let cut = Upstream::answers(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
    );
    for coding in ["gzip", "br", "zstd"] {
        let gateway = gateway_of(&cut);
        let mut connection = gateway.connect();
        connection.send(format!(
            "GET / HTTP/1.1\r\nHost: a.test\r\nAccept-Encoding: {coding}\r\n\r\n"
        ));
        connection.try_answer().unwrap_err();
        let http2 = Http2::open(gateway.address());
        let mut request = http2.request("GET", "/", "");
        request
            .headers_mut()
            .insert("accept-encoding", coding.parse().unwrap());
        http2.send(request).unwrap_err();
    }
}

fn gateway_of(upstream: &Upstream) -> Gateway {
    gateway(
        &format!("endpoints: [{}]", upstream.address()),
        "compress",
        "",
    )
}

#[test]
fn what_comes_bit_by_bit_is_read_bit_by_bit() {
    for cache in ["", ", cache: { ttl: 1m }"] {
        for coding in ["gzip", "br", "zstd"] {
            let (says, heard) = std::sync::mpsc::channel::<()>();
            let heard = std::sync::Mutex::new(heard);
            let upstream = Upstream::raw(move |mut caller| {
                if caller.request().is_none() {
                    return;
                }
                caller.send("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n");
                caller.send("5\r\nfirst\r\n");
                // The second piece is not sent before the first was read.
                let heard = heard.lock().unwrap();
                if heard.recv_timeout(PATIENCE).is_ok() {
                    caller.send("6\r\nsecond\r\n0\r\n\r\n");
                }
            });
            let gateway = gateway(
                &format!("endpoints: [{}]", upstream.address()),
                "compress",
                cache,
            );
            let (mut connection, head) = begun(&gateway, coding);
            assert_eq!(head.header("content-encoding"), Some(coding));
            let mut coded = Vec::new();
            while so_far(coding, &coded) != b"first" {
                coded.extend(connection.chunk().unwrap());
            }
            says.send(()).unwrap();
            loop {
                match connection.chunk().unwrap() {
                    chunk if chunk.is_empty() => break,
                    chunk => coded.extend(chunk),
                }
            }
            assert_eq!(
                decode(Some(coding), &coded),
                b"firstsecond",
                "{coding} {cache}"
            );
        }
    }
}

/// As much of a body as can be read of what has come.
fn so_far(coding: &str, coded: &[u8]) -> Vec<u8> {
    let mut out = [0; 64];
    let mut reader: Box<dyn Read + '_> = match coding {
        "gzip" => Box::new(flate2::read::GzDecoder::new(coded)),
        "br" => Box::new(brotli_decompressor::Decompressor::new(coded, 64)),
        _ => Box::new(zstd::stream::read::Decoder::new(coded).unwrap()),
    };
    let mut length = 0;
    while let Ok(read @ 1..) = reader.read(&mut out[length..]) {
        length += read;
    }
    out[..length].to_vec()
}

#[test]
fn the_gateways_own_replies_are_compressed() {
    let gateway = Gateway::start(
        "
        routes:
          - match: { path: /fixed }
            filters: [compress]
            respond: { json: { text: 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' } }
          - match: { path: /small }
            filters: [compress: { min_size: 10B }]
            respond: { json: { text: 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' } }
        ",
    );
    assert_eq!(
        get(&gateway, "/fixed", ALL).header("content-encoding"),
        None
    );
    for coding in ["gzip", "br", "zstd"] {
        let answer = get(&gateway, "/small", coding);
        assert_eq!(answer.header("content-encoding"), Some(coding));
        let length = answer.body.len().to_string();
        assert_eq!(answer.header("content-length"), Some(&*length));
        assert!(text(&answer).contains("aaaa"));
        let head = gateway
            .request("HEAD", "/small")
            .header("Accept-Encoding", coding)
            .send();
        assert_eq!(head.header("content-length"), Some(&*length));
        let answer = get2(&gateway, "GET", "/small", coding);
        assert_eq!(answer.headers["content-length"], *length);
    }
    // A reply that another filter makes, and one in the place of a response.
    let endpoint = endpoint(|_| html(page(100)));
    let gateway = before(
        &endpoint,
        "compress: { min_size: 1B }, allow_methods: { methods: [GET] }",
        "",
    );
    let refused = gateway
        .request("DELETE", "/")
        .header("Accept-Encoding", "gzip")
        .send();
    assert_eq!(
        (refused.status, refused.header("content-encoding")),
        (405, Some("gzip"))
    );
    assert!(text(&refused).contains("405"), "{}", text(&refused));
}

/// Pages of a folder, one of which was compressed beforehand.
fn files() -> Gateway {
    let yaml = "
        routes:
          - match: { path: / }
            filters: [compress]
            files: { root: www, precompressed: [gzip] }
        ";
    Gateway::setup(yaml)
        .file("www/page.html", page(100))
        .file("www/large.css", page(20_000))
        .file("www/ready.js", page(100))
        .file("www/ready.js.gz", "as it is")
        .file("www/image.png", page(100))
        .start()
}

#[test]
fn files_are_compressed_unless_they_are_there_compressed() {
    let gateway = files();
    for (name, length) in [("page.html", 100), ("large.css", 20_000)] {
        for coding in ["gzip", "br", "zstd"] {
            let answer = get(&gateway, &format!("/{name}"), coding);
            assert_eq!(answer.header("content-encoding"), Some(coding), "{name}");
            assert_eq!(text(&answer), page(length), "{name} {coding}");
            assert_eq!(vary(&answer), "accept-encoding");
            assert!(
                answer
                    .header("etag")
                    .is_some_and(|tag| tag.starts_with("W/"))
            );
            let answer = get2(&gateway, "GET", &format!("/{name}"), coding);
            assert_eq!(
                decode(coding2(&answer), &answer.body),
                page(length).into_bytes()
            );
        }
        let plain = gateway.get(&format!("/{name}"));
        assert_eq!(plain.text(), page(length));
    }
    let ready = get(&gateway, "/ready.js", "gzip");
    assert_eq!(
        (ready.header("content-encoding"), ready.text()),
        (Some("gzip"), "as it is")
    );
    assert_eq!(vary(&ready), "accept-encoding");
    let image = get(&gateway, "/image.png", "gzip");
    assert_eq!(
        (image.header("content-encoding"), image.text()),
        (None, &*page(100))
    );
}

#[test]
fn a_compressed_file_has_no_parts_and_is_known_by_its_weak_tag() {
    let gateway = files();
    let part = |accepts: &str| {
        let request = gateway.request("GET", "/page.html");
        let request = request.header("Accept-Encoding", accepts);
        request.header("Range", "bytes=5-14").send()
    };
    let whole = part("gzip");
    assert_eq!((whole.status, text(&whole)), (200, page(100)));
    let plain = part("identity");
    assert_eq!(
        (plain.status, plain.text()),
        (206, page(100).get(5..15).unwrap())
    );
    let whole = get(&gateway, "/page.html", "gzip");
    let tag = whole.header("etag").unwrap();
    let asked = gateway
        .request("GET", "/page.html")
        .header("Accept-Encoding", "gzip");
    let asked = asked.header("If-None-Match", tag).send();
    assert_eq!((asked.status, asked.header("etag")), (304, Some(tag)));
    assert_eq!(vary(&asked), vary(&whole));
}

#[test]
fn the_cache_keeps_what_is_compressed_for_each_coding_once() {
    let endpoint = pages();
    let gateway = before(&endpoint, "compress", ", cache: { ttl: 1m }");
    let ways = ["zstd", "br", "gzip", "deflate"];
    let first: Vec<_> = ways.iter().map(|way| get(&gateway, "/", way)).collect();
    assert_eq!(endpoint.requests(), 4);
    // However they say it.
    for (accepts, first) in [
        (ALL, &first[0]),
        ("br, gzip;q=0.9", &first[1]),
        ("gzip;q=0.3, deflate, br;q=0", &first[2]),
        ("gzip, compress", &first[2]),
        ("identity", &first[3]),
        ("", &first[3]),
    ] {
        for answer in [get(&gateway, "/", accepts), get(&gateway, "/", accepts)] {
            assert!(told(&answer).contains("hit"), "{accepts}: {answer:?}");
            assert_eq!(answer.body, first.body, "{accepts}");
            // What is kept has a length, and the head of what it is.
            let length = answer.body.len().to_string();
            assert_eq!(answer.header("content-length"), Some(&*length));
            assert_eq!(
                answer.header("content-encoding"),
                first.header("content-encoding")
            );
            assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
        }
        let answer = get2(&gateway, "GET", "/", accepts);
        assert_eq!(answer.body, first.body, "{accepts}");
    }
    assert_eq!(endpoint.requests(), 4);
    // Without the filter nothing compresses what comes out: it was kept so.
    let yaml = |filters: &str| {
        format!(
            "
            listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}
            upstreams: {{ pool: {{ endpoints: [{endpoint}] }} }}
            routes: [{{ {filters} upstream: pool, cache: {{ ttl: 1m }} }}]
            "
        )
    };
    assert!(gateway.reload(&yaml("")), "{}", gateway.log());
    let kept = get(&gateway, "/", "gzip");
    assert!(told(&kept).contains("hit"), "{kept:?}");
    assert_eq!(kept.body, first[2].body);
    let plain = gateway.get("/");
    assert_eq!(text(&plain), page(100));
}

#[test]
fn a_part_of_what_is_compressed_is_given_to_nobody() {
    let endpoint = endpoint(|_| html(page(100)).header("ETag", "\"a\""));
    let gateway = before(&endpoint, "compress", ", cache: { ttl: 1m }");
    let part = |accepts: &str| {
        let request = gateway
            .request("GET", "/")
            .header("Accept-Encoding", accepts);
        request.header("Range", "bytes=5-14").send()
    };
    for cache_status in ["fwd=uri-miss", "hit", "hit"] {
        let answer = part("gzip");
        assert!(told(&answer).contains(cache_status), "{answer:?}");
        assert_eq!((answer.status, text(&answer)), (200, page(100)));
        assert_eq!(answer.header("accept-ranges"), None);
    }
    for _ in 0..2 {
        let answer = part("identity");
        assert_eq!(
            (answer.status, answer.text()),
            (206, page(100).get(5..15).unwrap())
        );
    }
}

#[test]
fn what_the_endpoint_says_still_holds_stays_compressed() {
    let endpoint = endpoint(|request| {
        let page = html(page(100))
            .header("ETag", "\"a\"")
            .header("Accept-Ranges", "bytes")
            .header("Vary", "Cookie");
        match request.header_all("if-none-match").as_slice() {
            [] => page,
            ["W/\"a\""] => {
                let still = Reaction::status(304)
                    .header("ETag", "\"a\"")
                    .header("X-Round", request.number);
                still
                    .header("Accept-Ranges", "bytes")
                    .header("Vary", "Cookie")
            }
            other => panic!("asked about {other:?}"),
        }
    });
    let cache = ", cache: { ttl: 100ms, stale_while_revalidate: 0s, stale_if_error: 1m }";
    let gateway = before(&endpoint, "compress", cache);
    let first = get(&gateway, "/", "gzip");
    assert_eq!(text(&first), page(100));
    let mut round = None;
    for _ in 0..3 {
        thread::sleep(ms(200));
        let answer = get(&gateway, "/", "gzip");
        assert!(told(&answer).contains("fwd-status=304"), "{answer:?}");
        assert_eq!(answer.body, first.body);
        assert_eq!(answer.header("content-encoding"), Some("gzip"));
        assert_eq!(answer.header("etag"), Some("W/\"a\""));
        assert_eq!(
            answer.header_all("vary").join(", "),
            "Cookie, Accept-Encoding"
        );
        let now = answer.header("x-round").map(str::to_owned);
        assert!(
            now.is_some() && now != round,
            "the head is the new one: {answer:?}"
        );
        round = now;
        // It was taken over, not just passed on.
        let hit = get(&gateway, "/", "gzip");
        assert!(told(&hit).contains("hit"), "{hit:?}");
        assert_eq!(
            (&hit.body, hit.header("etag")),
            (&first.body, Some("W/\"a\""))
        );
    }
    // For those who take no coding it is another one.
    let plain = get(&gateway, "/", "identity");
    assert_eq!(
        (plain.header("content-encoding"), plain.text()),
        (None, &*page(100))
    );
}

#[test]
fn a_client_that_asks_about_what_it_has_is_told_by_the_tag_that_it_knows() {
    let endpoint = endpoint(
        |request| match request.header_all("if-none-match").is_empty() {
            true => html(page(100)).header("ETag", "\"a\""),
            false => Reaction::status(304)
                .header("ETag", "\"a\"")
                .header("Vary", "Cookie"),
        },
    );
    let asked = |gateway: &Gateway| {
        let request = gateway
            .request("GET", "/")
            .header("Accept-Encoding", "gzip");
        request.header("If-None-Match", "W/\"a\"").send()
    };
    let plain = asked(&before(&endpoint, "compress", ""));
    assert_eq!((plain.status, plain.header("etag")), (304, Some("W/\"a\"")));
    assert_eq!(plain.header_all("vary"), ["Cookie", "Accept-Encoding"]);
    let cached = before(&endpoint, "compress", ", cache: { ttl: 1m }");
    get(&cached, "/", "gzip");
    let answer = asked(&cached);
    assert!(told(&answer).contains("hit"), "{answer:?}");
    assert_eq!(
        (answer.status, answer.header("etag")),
        (304, Some("W/\"a\""))
    );
    assert_eq!(answer.header("content-encoding"), None);
}

#[test]
fn what_one_client_knows_a_page_by_is_no_matter_of_others() {
    let endpoint = endpoint(
        |request| match request.header_all("if-none-match").is_empty() {
            true => html(page(100)).header("ETag", "\"a\""),
            false => Reaction::status(304).header("ETag", "\"a\""),
        },
    );
    let cache = ", cache: { ttl: 100ms, stale_while_revalidate: 0s }";
    let gateway = before(&endpoint, "compress", cache);
    let tag = |answer: &Answer| answer.header("etag").map(str::to_owned);
    assert_eq!(tag(&gateway.get("/")), Some("\"a\"".to_owned()));
    thread::sleep(ms(200));
    let request = gateway.request("GET", "/");
    let asked = request.header("If-None-Match", "W/\"a\"").send();
    assert_eq!(asked.status, 304);
    let part = gateway.request("GET", "/").header("Range", "bytes=0-9");
    let part = part.header("If-Range", "\"a\"").send();
    assert_eq!((part.status, tag(&part)), (206, Some("\"a\"".to_owned())));
}

#[test]
fn what_is_fetched_anew_beside_a_request_is_compressed_too() {
    let endpoint = endpoint(|request| html(format!("{:03} {}", request.number, page(100))));
    let cache = ", cache: { ttl: 100ms, stale_while_revalidate: 1m }";
    // The second is not for these requests, and has no part in the refresh either.
    let filters = "compress, { compress: { codings: gzip }, when: { headers: { x-other: { present: true } } } }";
    let gateway = before(&endpoint, filters, cache);
    let first = get(&gateway, "/", "br");
    thread::sleep(ms(200));
    let stale = get(&gateway, "/", "br");
    assert_eq!(stale.body, first.body);
    let mut newer = None;
    eventually(PATIENCE, || {
        let answer = get(&gateway, "/", "br");
        let changed = answer.body != first.body;
        newer = changed.then_some(answer);
        changed
    });
    let newer = newer.unwrap();
    assert_eq!(newer.header("content-encoding"), Some("br"));
    assert_eq!(newer.header("vary"), Some("Accept-Encoding"));
    assert!(text(&newer).ends_with(&page(100)));
}

#[test]
fn those_who_wait_for_one_fetch_get_it_in_their_own_coding() {
    let endpoint = endpoint(|_| html(page(2000)).after(ms(300)));
    let gateway = before(&endpoint, "compress", ", cache: { ttl: 1m }");
    let codings = ["gzip", "br", "zstd", "identity"];
    let asked = crate::cache_surge::at_once(&gateway, 40, |number, connection| {
        connection
            .request("GET", "/")
            .header("Accept-Encoding", codings[number % 4])
    });
    for (number, answer) in crate::cache_surge::all(&asked, 200).into_iter().enumerate() {
        let coding = Some(codings[number % 4]).filter(|coding| *coding != "identity");
        assert_eq!(answer.header("content-encoding"), coding);
        assert_eq!(text(answer), page(2000));
    }
    assert_eq!(endpoint.requests(), 4);
}

#[test]
fn what_a_filter_further_down_edits_is_compressed_after_that() {
    let secret = format!("a secret {}", page(100));
    let endpoint = endpoint(move |_| html(secret.clone()));
    for (filters, coding) in [
        ("compress, { mask: { word: secret } }", Some("gzip")),
        // Above it nothing could be found in what is compressed: it has seen to that.
        ("{ mask: { word: secret } }, compress", None),
    ] {
        for cache in ["", ", cache: { ttl: 1m }"] {
            let yaml = format!(
                "
                listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}
                upstreams: {{ pool: {{ endpoints: [{endpoint}] }} }}
                routes: [{{ filters: [{filters}], upstream: pool {cache} }}]
                "
            );
            let gateway = Gateway::setup(&yaml).program("examples/mask").start();
            for _ in 0..2 {
                let answer = get(&gateway, "/", "gzip");
                assert_eq!(
                    answer.header("content-encoding"),
                    coding,
                    "{filters} {cache}"
                );
                assert_eq!(text(&answer), format!("a ****** {}", page(100)));
                let plain = gateway.get("/");
                assert_eq!(plain.text(), format!("a ****** {}", page(100)));
                let answer = get2(&gateway, "GET", "/", "gzip");
                let body = decode(coding2(&answer), &answer.body);
                assert_eq!(body, format!("a ****** {}", page(100)).into_bytes());
            }
        }
    }
}

#[test]
fn a_reply_in_the_place_of_a_compressed_response_is_not_compressed_by_its_edits() {
    // `mask` refuses what is coded, when the response has been compressed on its way up.
    let endpoint = endpoint(|_| html(page(100)).header("Content-Encoding", "x-own"));
    let yaml = format!(
        "
        upstreams: {{ pool: {{ endpoints: [{endpoint}] }} }}
        routes:
          - filters: [compress: {{ min_size: 1B }}, mask: {{ word: secret }}]
            upstream: pool
        "
    );
    let gateway = Gateway::setup(&yaml).program("examples/mask").start();
    let answer = get(&gateway, "/", "gzip");
    assert_eq!(
        (answer.status, answer.header("content-encoding")),
        (502, Some("gzip"))
    );
    assert!(text(&answer).contains("502"), "{}", text(&answer));
}

#[test]
fn two_of_them_on_a_route_never_mix_up_what_the_cache_keeps() {
    let endpoint = endpoint(|request| match &*request.target {
        "/css" => Reaction::status(200)
            .header("Content-Type", "text/css")
            .body(page(100)),
        _ => html(page(100)),
    });
    let filters = "compress, { compress: { codings: gzip, types: text/html } }";
    let gateway = before(&endpoint, filters, ", cache: { ttl: 1m }");
    for target in ["/html", "/css"] {
        for _ in 0..2 {
            for accepts in ["zstd, gzip", "gzip", "zstd", "deflate"] {
                let answer = get(&gateway, target, accepts);
                let coding = answer.header("content-encoding");
                assert!(
                    coding.is_none_or(|coding| accepts.contains(coding)),
                    "{target} {accepts}"
                );
                assert_eq!(text(&answer), page(100), "{target} {accepts}");
            }
        }
    }
}

#[test]
fn a_slow_client_of_a_huge_page_holds_little_of_it() {
    // Sent as fast as it is taken, which is not at all.
    let upstream = Upstream::raw(|mut caller| {
        if caller.request().is_some() {
            caller.send(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n",
            );
            let piece = noise(65_536);
            for _ in 0..3_000 {
                caller
                    .send([format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat());
            }
        }
    });
    let gateway = gateway_of(&upstream);
    let (connection, _) = begun(&gateway, "gzip");
    thread::sleep(ms(1_500));
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 150_000, "{line}");
    drop(connection);
}

/// Bytes that don't shrink.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[test]
fn a_client_that_leaves_in_the_middle_takes_its_memory_along() {
    let endpoint = endpoint(|_| {
        html("")
            .pieces([page(10), page(10)], ms(60_000))
            .header("Transfer-Encoding", "chunked")
    });
    let gateway = before(&endpoint, "compress: { memory: 16MiB, codings: br }", "");
    for _ in 0..12 {
        let (connection, head) = begun(&gateway, "br");
        assert_eq!(head.status, 200);
        drop(connection);
    }
    eventually(PATIENCE, || {
        let (_, head) = begun(&gateway, "br");
        head.header("content-encoding") == Some("br")
    });
    Request::to(gateway.address(), "GET", "/nowhere")
        .attempt()
        .ok();
}
