//! The filter `substitute`: texts in pages are replaced as they pass.

use std::io::{Read, Write};

use bytes::Bytes;
use edgeway_tests::{Answer, Endpoint, Framing, Gateway, Http2, Reaction, Received};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};

use crate::cache_surge::{ms, told};

const PAGE: &str =
    "<a href=\"http://old.example.com/a\">a</a> <script src=\"/v12/app.js\"></script>";
const EDITED: &str =
    "<a href=\"https://new.test/a\">a</a> <script src=\"/v12/app.min.js\"></script>";

const REPLACE: &str = "
    - { from: 'http://old.example.com', to: 'https://{host}' }
    - { pattern: '/v([0-9]+)/app\\.js', to: '/v{1}/app.min.js' }
    ";

/// A page that comes in pieces which end in the middle of all that is looked for.
fn in_pieces(page: Reaction) -> Reaction {
    let cuts = [0, 10, 11, 24, 50, 62, 70, PAGE.len()];
    let pieces = cuts.windows(2).map(|cut| &PAGE.as_bytes()[cut[0]..cut[1]]);
    page.pieces(pieces.collect::<Vec<_>>(), ms(5))
        .header("Transfer-Encoding", "chunked")
}

fn page(request: &Received) -> Reaction {
    let page = Reaction::status(200).header("Content-Type", "text/html; charset=utf-8");
    match request.path.as_str() {
        "/pieces" => in_pieces(page),
        path if path.ends_with(".css") => Reaction::status(200)
            .header("Content-Type", "text/css")
            .body(PAGE),
        path if path.ends_with(".js") => Reaction::status(200)
            .header("Content-Type", "text/javascript")
            .body(PAGE),
        _ => page
            .header("ETag", "\"a\"")
            .header("Accept-Ranges", "bytes")
            .body(PAGE),
    }
}

fn yaml(endpoint: &Endpoint, options: &str, route: &str) -> String {
    format!(
        "
        upstreams: {{ pool: {{ endpoints: [{endpoint}] }} }}
        routes:
          - filters: [substitute: {{ {options} }}]
            upstream: pool
            {route}
        "
    )
}

/// A gateway with the two replacements before an endpoint.
fn before(endpoint: &Endpoint, route: &str) -> Gateway {
    let replace = REPLACE.replace('\n', " ");
    let list: Vec<_> = replace
        .split("- {")
        .skip(1)
        .map(|one| format!("{{{one}"))
        .collect();
    Gateway::start(&yaml(
        endpoint,
        &format!("replace: [{}]", list.join(", ")),
        route,
    ))
}

fn with(endpoint: &Endpoint, options: &str) -> Gateway {
    Gateway::start(&yaml(endpoint, options, ""))
}

fn asked(gateway: &Gateway, target: &str) -> Answer {
    gateway.request("GET", target).host("new.test").send()
}

#[test]
fn a_text_is_replaced_wherever_the_pieces_of_a_page_end() {
    let endpoint = Endpoint::setup("pages").answers(page).start();
    let gateway = before(&endpoint, "");
    for target in ["/", "/pieces"] {
        let answer = asked(&gateway, target);
        assert_eq!((answer.status, answer.text()), (200, EDITED), "{target}");
        assert_eq!(answer.framing, Framing::Chunked);
        let http2 = Http2::open(gateway.address());
        let request = http::Request::get(format!("http://new.test{target}")).body(Bytes::new());
        let answer = http2.send(request.unwrap()).unwrap();
        assert_eq!(answer.body, EDITED, "{target}");
    }
    let answer = asked(&gateway, "/");
    assert_eq!(answer.header("etag"), Some("W/\"a\""));
    assert_eq!(answer.header("accept-ranges"), None);
    let head = gateway.request("HEAD", "/").host("new.test").send();
    assert_eq!((head.status, head.header("etag")), (200, Some("W/\"a\"")));
    assert_eq!(head.header("content-length"), None);
}

#[test]
fn every_option_does_what_it_says() {
    let endpoint = Endpoint::setup("pages").answers(page).start();
    let page_of = |options: &str, target: &str| {
        let gateway = with(&endpoint, options);
        let answer = asked(&gateway, target);
        answer.text().to_owned()
    };
    let styles = page_of(
        "replace: [{ from: script, to: x }], types: [text/css]",
        "/a.css",
    );
    assert_eq!(styles, PAGE.replace("script", "x"));
    assert_eq!(
        page_of("replace: [{ from: script, to: x }]", "/a.css"),
        PAGE
    );
    let once = page_of("replace: [{ from: script, to: x }], once: true", "/");
    assert_eq!(once, PAGE.replacen("script", "x", 1));
    let long =
        "replace: [{ pattern: 'http:[^<]+<', to: '{0}' }, { pattern: 'old[^<]*<', to: '[{0}]' }]";
    // Where the bound is shorter than what would fit, the next one is looked for from there on.
    let near = page_of(
        "replace: [{ pattern: 'a.+t', to: '!' }], max_match: 3B",
        "/",
    );
    let far = page_of(
        "replace: [{ pattern: 'a.+t', to: '!' }], max_match: 2KiB",
        "/",
    );
    assert_eq!((near.as_str(), far.as_str()), (PAGE, "<!>"));
    assert!(page_of(long, "/").starts_with("<a href=\"http://old.example.com/a\">a<"));
    let escaped = page_of(
        "replace: [{ from: '</a>', to: '{query.x}' }]",
        "/?x=%3Cb%3E%22",
    );
    assert!(escaped.contains(">a&lt;b&gt;&quot; <script"), "{escaped}");
    let raw = page_of(
        "replace: [{ from: '</a>', to: '{query.x}', raw: true }]",
        "/?x=%3Cb%3E%22",
    );
    assert!(raw.contains(">a<b>\" <script"), "{raw}");
    let script = page_of(
        "replace: [{ from: '</a>', to: '{query.x}' }], types: text/javascript",
        "/a.js?x=%3Cb%3E%22",
    );
    assert!(
        script.contains(r">a\u003cb\u003e\u0022 <script"),
        "{script}"
    );
}

#[test]
fn a_stored_page_is_made_for_each_client_by_itself() {
    let endpoint = Endpoint::setup("pages").answers(page).start();
    let options = "replace: [{ from: '</a>', to: '{header.x-name}' }]";
    let gateway = Gateway::start(&yaml(&endpoint, options, "cache: { ttl: 1m }"));
    let named = |name: &str| {
        gateway
            .request("GET", "/pieces")
            .header("X-Name", name)
            .send()
    };
    for (name, status) in [("ann", "fwd=uri-miss"), ("bob", "hit"), ("<i>", "hit")] {
        let answer = named(name);
        let name = name.replace('<', "&lt;").replace('>', "&gt;");
        assert_eq!(answer.text(), PAGE.replace("</a>", &name));
        assert!(told(&answer).contains(status), "{answer:?}");
    }
    assert_eq!(endpoint.requests(), 1);
}

#[test]
fn what_the_gateway_replies_itself_is_searched_as_well() {
    let gateway = Gateway::start(
        "
        filters: [substitute: { replace: [{ from: closed, to: 'shut for {host}' }] }]
        routes:
          - respond: { status: 503, text: '<p>closed', headers: { Content-Type: text/html } }
          - { match: { path: /plain }, respond: { text: closed } }
        ",
    );
    let answer = asked(&gateway, "/");
    assert_eq!(
        (answer.status, answer.text()),
        (503, "<p>shut for new.test")
    );
    let length = answer.text().len() as u64;
    assert_eq!(answer.framing, Framing::Length(length));
    assert_eq!(asked(&gateway, "/plain").text(), "closed");
}

#[test]
fn an_endpoint_is_asked_for_pages_that_can_be_read_and_what_is_packed_stays_as_it_is() {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(PAGE.as_bytes()).unwrap();
    let packed = packer.finish().unwrap();
    let body = packed.clone();
    let endpoint = Endpoint::setup("packs")
        .answers(move |request| {
            let accepts = !request.header_all("accept-encoding").is_empty();
            let page = Reaction::status(200).header("Content-Type", "text/html");
            match accepts || request.path == "/always" {
                true => page
                    .header("Content-Encoding", "gzip")
                    .header("ETag", "\"z\"")
                    .body(body.clone()),
                false => page.body(PAGE),
            }
        })
        .start();
    let gateway = before(&endpoint, "");
    let get = |target: &str| {
        let request = gateway.request("GET", target).host("new.test");
        request.header("Accept-Encoding", "gzip, br").send()
    };
    assert_eq!(get("/").text(), EDITED);
    let always = get("/always");
    assert_eq!(always.body, packed);
    assert_eq!(always.header("etag"), Some("\"z\""));
    assert_eq!(always.framing, Framing::Length(packed.len() as u64));
}

#[test]
fn a_part_of_a_page_is_all_of_it_and_a_part_of_a_film_is_a_part() {
    let endpoint = Endpoint::setup("parts")
        .answers(|request| {
            let content_type = match request.path.ends_with(".mp4") {
                true => "video/mp4",
                false => "text/html",
            };
            let answer = Reaction::status(200).header("Content-Type", content_type);
            match request.header_all("range").first() {
                Some(_) => answer
                    .with_status(206)
                    .header("Content-Range", "bytes 0-3/80")
                    .body("<a h"),
                None => answer.body(PAGE),
            }
        })
        .start();
    let gateway = before(&endpoint, "");
    let part = |target: &str| {
        let request = gateway.request("GET", target).host("new.test");
        request
            .header("Range", "bytes=0-3")
            .header("If-Range", "\"a\"")
            .send()
    };
    for target in ["/", "/a.html"] {
        let answer = part(target);
        assert_eq!((answer.status, answer.text()), (200, EDITED));
    }
    let film = part("/a.mp4");
    assert_eq!((film.status, film.text()), (206, "<a h"));
    // Taken for something else by its name: better none than one with what is to be replaced in it.
    assert_eq!(part("/page.bin").status, 416);
}

#[test]
fn a_client_is_told_of_no_change_under_the_tag_that_it_knows() {
    let endpoint = Endpoint::setup("known")
        .answers(
            |request| match request.header_all("if-none-match").is_empty() {
                true => page(request),
                false => Reaction::status(304).header("ETag", "\"a\""),
            },
        )
        .start();
    for route in ["", "cache: { ttl: 1m }"] {
        let gateway = before(&endpoint, route);
        let tag = asked(&gateway, "/").header("etag").unwrap().to_owned();
        assert_eq!(tag, "W/\"a\"");
        let known = gateway
            .request("GET", "/")
            .header("If-None-Match", &tag)
            .send();
        assert_eq!(
            (known.status, known.header("etag")),
            (304, Some(tag.as_str()))
        );
    }
}

#[test]
fn a_page_reaches_its_client_piece_by_piece() {
    let endpoint = Endpoint::setup("slow")
        .answers(|_| {
            let page = Reaction::status(200).header("Content-Type", "text/html");
            let page = page.header("Transfer-Encoding", "chunked");
            page.pieces(["<p>first</p> http:/", "/old.example.com", "/x"], ms(700))
        })
        .start();
    let gateway = with(
        &endpoint,
        "replace: [{ from: 'http://old.example.com', to: 'https://{host}' }]",
    );
    let mut connection = gateway.connect();
    connection.send("GET / HTTP/1.1\r\nHost: new.test\r\n\r\n");
    connection.head();
    let began = std::time::Instant::now();
    assert_eq!(connection.chunk().unwrap(), b"<p>first</p> ");
    let first = began.elapsed();
    assert_eq!(connection.chunk().unwrap(), b"https://new.test");
    // The second piece had not come when the first went on.
    assert!(
        first + ms(300) < began.elapsed(),
        "{first:?} of {:?}",
        began.elapsed()
    );
    assert_eq!(connection.chunk().unwrap(), b"/x");
}

#[test]
fn a_page_that_breaks_off_does_not_look_whole() {
    let endpoint = Endpoint::setup("cut")
        .answers(|request| match request.path.as_str() {
            "/pieces" => in_pieces(Reaction::status(200).header("Content-Type", "text/html")).cut(),
            _ => page(request).cut(),
        })
        .start();
    let gateway = before(&endpoint, "");
    for target in ["/", "/pieces"] {
        gateway
            .request("GET", target)
            .host("new.test")
            .attempt()
            .unwrap_err();
        let http2 = Http2::open(gateway.address());
        assert!(
            http2
                .send(http2.request("GET", target, Bytes::new()))
                .is_err(),
            "{target}"
        );
    }
}

#[test]
fn an_empty_page_and_one_without_any_text_to_replace_come_as_they_are() {
    let endpoint = Endpoint::setup("plain")
        .answers(|request| {
            let page = Reaction::status(200).header("Content-Type", "text/html");
            match request.path.as_str() {
                "/empty" => page,
                "/none" => Reaction::status(204),
                _ => page.body("x".repeat(200_000)),
            }
        })
        .start();
    let gateway = before(&endpoint, "");
    let mut connection = gateway.connect();
    assert_eq!(connection.get("/empty").text(), "");
    assert_eq!(connection.get("/none").status, 204);
    assert_eq!(connection.get("/").text(), "x".repeat(200_000));
}

#[test]
fn a_file_is_edited_whole_and_a_part_of_it_is_not_given() {
    let gateway = Gateway::setup(
        "
        routes:
          - filters: [substitute: { replace: [{ from: 'http://old.example.com', to: 'https://{host}' }] }]
            files: { root: www }
        ",
    )
    .file("www/index.html", PAGE)
    .file("www/page.data", PAGE)
    .file("www/film.mp4", PAGE)
    .start();
    let expected = PAGE.replace("http://old.example.com", "https://new.test");
    let part = |target: &str| {
        let request = gateway.request("GET", target).host("new.test");
        request.header("Range", "bytes=0-3").send()
    };
    for answer in [
        asked(&gateway, "/"),
        asked(&gateway, "/index.html"),
        part("/"),
        part("/index.html"),
    ] {
        assert_eq!((answer.status, answer.text()), (200, &*expected));
        assert!(
            answer.header("etag").unwrap().starts_with("W/"),
            "{answer:?}"
        );
        assert_eq!(answer.header("accept-ranges"), None);
    }
    let tag = asked(&gateway, "/").header("etag").unwrap().to_owned();
    let known = gateway
        .request("GET", "/")
        .header("If-None-Match", &tag)
        .send();
    assert_eq!(
        (known.status, known.header("etag")),
        (304, Some(tag.as_str()))
    );
    let film = part("/film.mp4");
    assert_eq!((film.status, film.text()), (206, "<a h"));
    let head = gateway.request("HEAD", "/").send();
    assert_eq!((head.status, head.header("content-length")), (200, None));
}

#[test]
fn a_page_is_compressed_after_its_texts_were_replaced() {
    let endpoint = Endpoint::setup("pages")
        .answers(|request| {
            let page = page(request);
            match request.path.as_str() {
                "/pieces" => page,
                _ => page.body(PAGE.repeat(30)),
            }
        })
        .start();
    for (route, fetches) in [("", 8), ("cache: { ttl: 1m }", 2)] {
        let asked_before = endpoint.requests();
        let gateway = Gateway::start(&format!(
            "
            upstreams: {{ pool: {{ endpoints: [{endpoint}] }} }}
            routes:
              - filters:
                  - compress: {{ min_size: 1B }}
                  - substitute: {{ replace: [{{ from: 'http://old.example.com', to: 'https://{{host}}' }}] }}
                upstream: pool
                {route}
            "
        ));
        for target in ["/", "/pieces"] {
            for host in ["new.test", "other.test"] {
                // With the cache, the name of the host is a part of what is asked for.
                let host = if route.is_empty() { host } else { "new.test" };
                for coding in ["gzip", "identity"] {
                    let request = gateway.request("GET", target).host(host);
                    let answer = request.header("Accept-Encoding", coding).send();
                    let packed = answer.header("content-encoding") == Some("gzip");
                    assert_eq!(packed, coding == "gzip", "{route} {target} {answer:?}");
                    let body = match packed {
                        true => unpacked(&answer.body),
                        false => answer.text().to_owned(),
                    };
                    let times = if target == "/" { 30 } else { 1 };
                    let expected = PAGE.repeat(times);
                    let expected =
                        expected.replace("http://old.example.com", &format!("https://{host}"));
                    assert_eq!(body, expected, "{route} {target} {coding}");
                }
            }
        }
        assert_eq!(endpoint.requests() - asked_before, fetches, "{route}");
    }
}

fn unpacked(body: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(body).read_to_string(&mut text).unwrap();
    text
}
