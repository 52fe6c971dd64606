//! Requests that somebody might read otherwise than we do. Each is refused, or reaches the endpoint in one
//! clear form; and whatever comes next, on the same connections, is what its sender meant.

use std::sync::{Arc, Mutex};

use edgeway_tests::{Connection, Gateway, Upstream};

use crate::wire::{self, Seen};

/// What is hidden in the cases. No endpoint may ever see it.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";

/// A gateway before an endpoint that notes what it is sent, with one connection between them.
struct Noted {
    gateway: Gateway,
    upstream: Upstream,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Noted {
    fn start() -> Self {
        let (upstream, seen) = wire::noting();
        let gateway = Gateway::start(&format!(
            "
            threads: 1
            upstreams: {{ app: {{ endpoints: ['{upstream}'], max_fails: 0 }} }}
            routes:
              - match: {{ path: /fixed }}
                respond: {{ text: fixed }}
              - upstream: app
            "
        ));
        Self {
            gateway,
            upstream,
            seen,
        }
    }

    /// What the endpoint has seen since the last time it was asked.
    fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    /// Asks over this connection, and sees that the endpoint is asked that, and nothing else.
    #[track_caller]
    fn expect_right(&self, connection: &mut Connection, after: &str) {
        let answer = connection.request("PUT", "/next?a=b").body("next").send();
        assert_eq!(
            answer.text(),
            "PUT /next?a=b HTTP/1.1: next",
            "after {after}"
        );
        let seen = self.seen();
        let lines: Vec<_> = seen.iter().map(Seen::line).collect();
        assert_eq!(lines, ["PUT /next?a=b HTTP/1.1"], "after {after}");
        assert_eq!(seen[0].body, b"next", "after {after}");
        assert_eq!(seen[0].all("content-length"), ["4"], "after {after}");
    }

    /// Sends bytes that are to be refused, at once and one by one.
    #[track_caller]
    fn expect_refused(&self, bytes: &[u8], status: u16) {
        let shown = bytes.escape_ascii().to_string();
        for one_by_one in [false, true] {
            let mut connection = self.gateway.connect();
            if one_by_one {
                for byte in bytes {
                    // It may be refused before its end.
                    if connection.write(&[*byte]).is_err() {
                        break;
                    }
                }
            } else {
                connection.send(bytes);
            }
            let answer = connection.answer();
            assert_eq!(answer.status, status, "{shown}");
            assert_eq!(answer.json()["status"], status, "{shown}");
            assert_eq!(answer.header("server"), None, "{shown}");
            assert!(!answer.reusable, "{shown}");
            connection.expect_close();
            let seen = self.seen();
            assert!(seen.is_empty(), "{shown}: the endpoint has seen {seen:?}");
        }
        self.expect_right(&mut self.gateway.connect(), &shown);
        assert_eq!(self.upstream.connections(), 1, "{shown}");
    }

    /// Sends bytes that are one request. Tells what the endpoint has seen of it.
    #[track_caller]
    fn expect_one(&self, bytes: &[u8]) -> Seen {
        let shown = bytes.escape_ascii().to_string();
        let mut connection = self.gateway.connect();
        connection.send(bytes);
        let answer = connection.answer();
        assert_eq!(answer.status, 200, "{shown}");
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "{shown}: {seen:?}");
        assert_eq!(answer.text(), seen[0].told(), "{shown}");
        if answer.reusable {
            self.expect_right(&mut connection, &shown);
        } else {
            connection.expect_close();
        }
        self.expect_right(&mut self.gateway.connect(), &shown);
        assert_eq!(self.upstream.connections(), 1, "{shown}");
        seen.remove(0)
    }
}

fn post(fields: &str) -> Vec<u8> {
    format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}").into_bytes()
}

/// RFC 9112, 6.3 and 11.2
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn a_body_whose_end_may_be_read_in_two_ways_is_refused() {
    let noted = Noted::start();
    for (fields, status) in [
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 100\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        ("Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: \r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked\x0c\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked\u{a0}\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding:\n chunked\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding\r\n: chunked\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", 400),
        ("\0Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (" Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("X: x\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("X: x\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("X: x\r\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
        ("Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
        ("Content-Length: 5, 5\r\n\r\nhello", 400),
        ("Content-Length: 5,6\r\n\r\nhello", 400),
        ("Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello", 400),
        ("Content-Length: +5\r\n\r\nhello", 400),
        ("Content-Length: -5\r\n\r\nhello", 400),
        ("Content-Length: 5 0\r\n\r\nhello", 400),
        ("Content-Length: 0x5\r\n\r\nhello", 400),
        ("Content-Length: 5e0\r\n\r\nhello", 400),
        ("Content-Length: 5.0\r\n\r\nhello", 400),
        ("Content-Length: \r\n\r\nhello", 400),
        ("Content-Length: five\r\n\r\nhello", 400),
        ("Content-Length: \u{ff15}\r\n\r\nhello", 400),
        ("Content-Length: 18446744073709551621\r\n\r\nhello", 400),
        (
            "Content-Length: 99999999999999999999999999\r\n\r\nhello",
            400,
        ),
        ("Content-Length : 5\r\n\r\nhello", 400),
        ("Content-Length\x0b: 5\r\n\r\nhello", 400),
        ("Content-Length:\r\n 5\r\n\r\nhello", 400),
    ] {
        let bytes = [&post(fields), HIDDEN.as_bytes()].concat();
        noted.expect_refused(&bytes, status);
    }
    let old = "POST /a HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n";
    noted.expect_refused(format!("{old}0\r\n\r\n{HIDDEN}").as_bytes(), 400);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn a_head_that_may_be_read_in_two_ways_is_refused() {
    let noted = Noted::start();
    let ends = "Host: a\r\n\r\n";
    for head in [
        format!("GET /a HTTP/1.1\n{ends}"),
        "GET /a HTTP/1.1\r\nHost: a\n\r\n".to_owned(),
        "GET /a HTTP/1.1\r\nHost: a\r\n\n".to_owned(),
        "GET /a HTTP/1.1\r\nHost: a\n\n".to_owned(),
        "GET /a HTTP/1.1\nHost: a\n\n".to_owned(),
        "\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        format!("\r\n\r\nGET /a HTTP/1.1\r\n{ends}"),
        format!("GET /a HTTP/1.1\r{ends}"),
        format!("GET /a HTTP/1.1\r\r\n{ends}"),
        format!("GET /a HTTP/1.1\r\n X: y\r\n{ends}"),
        "GET /a HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n".to_owned(),
        "GET /a HTTP/1.1\r\nHost: a\r\n\tfolded\r\n\r\n".to_owned(),
        "GET /a HTTP/1.1\r\nHost: a\r\n \r\n\r\n".to_owned(),
        format!("GET /a HTTP/1.1\r\n: x\r\n{ends}"),
        format!("GET /a HTTP/1.1\r\nX\r\n{ends}"),
        format!("GET /a HTTP/1.1\r\nX : y\r\n{ends}"),
        format!("GET /a HTTP/1.1\r\nX Y: z\r\n{ends}"),
        format!("GET /a HTTP/1.1\r\nX\0: y\r\n{ends}"),
        format!("GET /a HTTP/1.1\r\nX\u{e9}: y\r\n{ends}"),
        format!("GET /a HTTP/1.1\r\nX[Y]: z\r\n{ends}"),
        format!("GET /a HTTP/1.1\r\nX: a\0b\r\n{ends}"),
        format!("GET /a HTTP/1.1\r\nX: a\x01b\r\n{ends}"),
        format!("GET /a HTTP/1.1\r\nX: a\x08b\r\n{ends}"),
        format!("GET /a HTTP/1.1\r\nX: a\x7fb\r\n{ends}"),
        format!("GET /a HTTP/1.1\r\nX: a\rb\r\n{ends}"),
        // Request lines.
        format!("GET /a b HTTP/1.1\r\n{ends}"),
        format!("GET /a HTTP/1.1 HTTP/1.1\r\n{ends}"),
        format!("GET  /a HTTP/1.1\r\n{ends}"),
        format!("GET /a  HTTP/1.1\r\n{ends}"),
        format!("GET /a HTTP/1.1 \r\n{ends}"),
        format!(" GET /a HTTP/1.1\r\n{ends}"),
        format!("GET\t/a HTTP/1.1\r\n{ends}"),
        format!("GET /a\tHTTP/1.1\r\n{ends}"),
        format!("GET /a\x0bHTTP/1.1\r\n{ends}"),
        format!("GET /a\0 HTTP/1.1\r\n{ends}"),
        format!("GET /a\x7f HTTP/1.1\r\n{ends}"),
        format!("GET /a#/../b HTTP/1.1\r\n{ends}"),
        format!("GET HTTP/1.1\r\n{ends}"),
        format!("GET  HTTP/1.1\r\n{ends}"),
        "GET /a\r\n".to_owned(),
        "GET /a\r\n\r\n".to_owned(),
        format!("GET /a HTTP/1.1x\r\n{ends}"),
        format!("GET /a HTTP/1.01\r\n{ends}"),
        format!("GET /a http/1.1\r\n{ends}"),
        format!("GET /a Http/1.1\r\n{ends}"),
        format!("GET /a HTTP/1,1\r\n{ends}"),
        format!("GET /a HTTP /1.1\r\n{ends}"),
        format!("GET /a HTTP1.1\r\n{ends}"),
        format!("GET /a ICAP/1.0\r\n{ends}"),
        format!("G(T /a HTTP/1.1\r\n{ends}"),
        format!("G\"T /a HTTP/1.1\r\n{ends}"),
        format!("G\u{e9}T /a HTTP/1.1\r\n{ends}"),
        format!("GET,POST /a HTTP/1.1\r\n{ends}"),
        format!(":GET /a HTTP/1.1\r\n{ends}"),
    ] {
        noted.expect_refused(format!("{head}{HIDDEN}").as_bytes(), 400);
    }
    // A target that is no text.
    let mut connection = noted.gateway.connect();
    connection.send([b"GET /\xe9 HTTP/1.1\r\n", ends.as_bytes()].concat());
    assert_eq!(connection.answer().status, 400);
    assert!(noted.seen().is_empty());
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3.0", "HTTP/01.1"] {
        noted.expect_refused(format!("GET /a {version}\r\n{ends}").as_bytes(), 505);
    }
}

/// RFC 9112, 3.2
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn a_request_names_one_host() {
    let noted = Noted::start();
    for head in [
        "GET /a HTTP/1.1\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost:\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a?b\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a#b\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\\b\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: user@a\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a:b\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a:80:90\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a:99999\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: [::1\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: \u{e9}\r\n\r\n",
        "GET http://b/a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a@b/a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a@b/a HTTP/1.1\r\nHost: a@b\r\n\r\n",
        "GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http:/a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http:\\\\a/a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http:a/a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET ?a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a/a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    ] {
        for one_by_one in [false, true] {
            let mut connection = noted.gateway.connect();
            match one_by_one {
                false => connection.send(head),
                true => head.bytes().for_each(|byte| connection.send([byte])),
            }
            let answer = connection.answer();
            assert_eq!(answer.status, 400, "{head}");
            assert!(noted.seen().is_empty(), "{head}");
            match answer.reusable {
                true => noted.expect_right(&mut connection, head),
                false => connection.expect_close(),
            }
        }
    }
    for (head, line) in [
        (
            "GET http://a/a?b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a?b HTTP/1.1",
        ),
        (
            "GET HTTP://a/a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a HTTP/1.1",
        ),
        ("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1"),
        (
            "GET http://a?b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /?b HTTP/1.1",
        ),
    ] {
        let seen = noted.expect_one(head.as_bytes());
        assert_eq!(seen.line(), line, "{head}");
        assert_eq!(seen.all("host"), ["a"], "{head}");
    }
}

/// RFC 9112, 7.1. What has been passed on of such a body has no end, so that it can't be taken for whole.
#[test]
fn a_chunk_that_may_be_read_in_two_ways_is_refused() {
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(2000));
    let endless = format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(5000));
    let trailer = format!("0\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    for body in [
        "x\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "\r\n\r\n",
        ";x\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "5_\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello\r\n\r\n0\r\n\r\n",
        "5;\nhello\r\n0\r\n\r\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;a\0\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffb\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "100000000000000000000000000000005\r\nhello\r\n0\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\n\n",
        "0\n\n",
        "0\n\r\n",
        &long,
        &endless,
        &trailer,
    ] {
        for before in ["", "3\r\nabc\r\n"] {
            let noted = Noted::start();
            let mut connection = noted.gateway.connect();
            let head = String::from_utf8(post("Transfer-Encoding: chunked\r\n\r\n")).unwrap();
            let bytes = format!("{head}{before}{body}{HIDDEN}");
            let shown = bytes.chars().take(150).collect::<String>();
            connection.write(bytes.as_bytes()).ok();
            let answer = connection.answer();
            assert!([400, 431].contains(&answer.status), "{shown:?}: {answer:?}");
            assert!(!answer.reusable, "{shown:?}");
            connection.expect_close();
            let whole: Vec<_> = noted.seen().iter().map(Seen::told).collect();
            assert!(whole.is_empty(), "{shown:?}: {whole:?}");
            noted.expect_right(&mut noted.gateway.connect(), &shown);
        }
    }
}

#[test]
fn a_body_reaches_the_endpoint_in_its_plain_form() {
    let noted = Noted::start();
    for (fields, body, framing) in [
        ("Content-Length: 5\r\n\r\nhello", "hello", "5"),
        ("content-length:5\r\n\r\nhello", "hello", "5"),
        ("Content-Length: \t5 \t\r\n\r\nhello", "hello", "5"),
        ("Content-Length: 0\r\n\r\n", "", "0"),
        (
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "hello",
            "chunked",
        ),
        (
            "tRANSFER-eNCODING: \tCHUNKED\t\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "hello",
            "chunked",
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n0005;a=b;c\r\nhello\r\n000\r\n\r\n",
            "hello",
            "chunked",
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0;x\r\nX: y\r\nContent-Length: 9\r\n\
             Transfer-Encoding: gzip\r\n\r\n",
            "hello",
            "chunked",
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
            "0123456789",
            "chunked",
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n",
            "\r\n0\r\n\r\n",
            "chunked",
        ),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "", "chunked"),
    ] {
        let seen = noted.expect_one(&post(fields));
        let shown = fields.escape_debug();
        assert_eq!(seen.body, body.as_bytes(), "{shown}");
        let (length, coding) = (seen.all("content-length"), seen.all("transfer-encoding"));
        let expected = match framing {
            "chunked" => (vec![], vec!["chunked"]),
            length => (vec![length], vec![]),
        };
        assert_eq!((length, coding), expected, "{shown}");
        assert!(seen.all("x").is_empty(), "{shown}");
    }
    let letters = noted.expect_one("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n".as_bytes());
    assert_eq!(letters.line(), "GET /\u{e9} HTTP/1.1");
    let empty = noted.expect_one(b"\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(empty.line(), "GET /a HTTP/1.1");
    assert!(empty.all("content-length").is_empty());
    assert!(empty.all("transfer-encoding").is_empty());
}

#[test]
fn what_belongs_to_the_connection_ends_with_it() {
    let noted = Noted::start();
    for (fields, gone) in [
        ("Connection: x, close\r\nX: y\r\n", "x"),
        ("Connection: X\r\nConnection: Y\r\nX: y\r\nY: z\r\n", "y"),
        (
            "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n",
            "keep-alive",
        ),
        ("Proxy-Connection: keep-alive\r\n", "proxy-connection"),
        ("Proxy-Authorization: Basic YTpi\r\n", "proxy-authorization"),
        ("TE: trailers\r\nConnection: TE\r\n", "te"),
        ("Trailer: X\r\n", "trailer"),
        (
            "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n",
            "http2-settings",
        ),
        ("Upgrade: h2c\r\nConnection: Upgrade\r\n", "upgrade"),
        (
            "Upgrade: TLS/1.0, websocket\r\nConnection: Upgrade\r\n",
            "upgrade",
        ),
        ("Upgrade: websocket\r\n", "upgrade"),
        (
            "Connection: X-Forwarded-For\r\nX-Forwarded-For: 1.2.3.4\r\n",
            "connection",
        ),
        ("Connection: \"x\", :path, @, x y\r\n", "connection"),
        (
            "Connection: a, b, c, d, e, f, g, h, i, j, k, l, m, n\r\nA: 1\r\n",
            "a",
        ),
    ] {
        let seen =
            noted.expect_one(format!("GET /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes());
        assert_eq!(seen.all(gone), [""; 0], "{fields}");
        assert_eq!(seen.all("connection"), [""; 0], "{fields}");
        assert_eq!(seen.all("upgrade"), [""; 0], "{fields}");
        assert_eq!(seen.all("host"), ["a"], "{fields}");
        assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"], "{fields}");
    }
    for nominated in [
        "Host",
        "Content-Length",
        "content-length, close",
        "Transfer-Encoding",
    ] {
        let fields = format!("Connection: {nominated}\r\nContent-Length: 5\r\n\r\nhello");
        let seen = noted.expect_one(&post(&fields));
        assert_eq!(
            (seen.body.as_slice(), seen.all("host")),
            (&b"hello"[..], vec!["a"])
        );
    }
}

#[test]
fn a_client_that_wants_no_other_request_gets_its_wish() {
    let noted = Noted::start();
    for (version, connection, kept) in [
        ("1.1", "", true),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: CLOSE\r\n", false),
        ("1.1", "Connection: close, x\r\n", false),
        ("1.1", "Connection: x, close\r\n", false),
        ("1.1", "Connection: keep-alive, close\r\n", false),
        ("1.1", "Connection: x\r\nConnection: close\r\n", false),
        (
            "1.1",
            "Connection: keep-alive\r\nConnection: close\r\n",
            false,
        ),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
        ("1.0", "Connection: close\r\n", false),
    ] {
        let shown = format!("{version} {connection:?}");
        let mut client = noted.gateway.connect();
        client.send(format!(
            "GET /a HTTP/{version}\r\nHost: a\r\n{connection}\r\n"
        ));
        let answer = client.answer();
        assert_eq!(answer.status, 200, "{shown}");
        assert_eq!(answer.reusable, kept, "{shown}");
        assert_eq!(noted.seen().len(), 1, "{shown}");
        match kept {
            true => noted.expect_right(&mut client, &shown),
            false => client.expect_close(),
        }
    }
}

/// RFC 9112, 9.3.2
#[test]
fn requests_that_come_at_once_are_as_many_as_they_are() {
    let noted = Noted::start();
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    let chunked = "POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n0\r\nX: y\r\n\r\n";
    let length = format!(
        "POST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{HIDDEN}",
        HIDDEN.len()
    );
    let all = [
        get("/1"),
        chunked.to_owned(),
        length,
        get("/fixed"),
        get("/5"),
    ]
    .concat();
    // However they are cut.
    for piece in [1, 2, 7, 30, 64, 100, 1000] {
        let mut connection = noted.gateway.connect();
        for piece in all.as_bytes().chunks(piece) {
            connection.send(piece);
        }
        let texts: Vec<_> = (0..5)
            .map(|_| connection.answer().text().to_owned())
            .collect();
        let hidden = format!("POST /3 HTTP/1.1: {HIDDEN}");
        let expected = [
            "GET /1 HTTP/1.1: ",
            "POST /2 HTTP/1.1: abc",
            &hidden,
            "fixed",
            "GET /5 HTTP/1.1: ",
        ];
        assert_eq!(texts, expected, "{piece}");
        assert_eq!(noted.seen().len(), 4, "{piece}");
        noted.expect_right(&mut connection, "all");
    }
}

#[test]
fn a_request_behind_others_is_looked_at_as_well() {
    let noted = Noted::start();
    let good = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok";
    for (bad, status) in [
        ("GET /b HTTP/1.1\nHost: a\r\n\r\n", 400),
        ("GET /b c HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /b HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("\r\n\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (
            "POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
            400,
        ),
        // And then nothing.
        ("hello", 400),
        ("hello\r\n\r\n", 400),
    ] {
        let mut connection = noted.gateway.connect();
        connection.send(format!("{good}{bad}"));
        assert_eq!(connection.answer().text(), "POST /a HTTP/1.1: ok", "{bad}");
        if bad == "hello" {
            connection.finish();
        }
        assert_eq!(connection.answer().status, status, "{bad}");
        connection.expect_close();
        assert_eq!(noted.seen().len(), 1, "{bad}");
        noted.expect_right(&mut noted.gateway.connect(), bad);
    }
}

#[test]
fn what_was_sent_behind_a_refused_request_is_never_read() {
    let noted = Noted::start();
    for (refused, status) in [
        ("GET /..  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405),
        (
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
            400,
        ),
    ] {
        let mut connection = noted.gateway.connect();
        connection.send(format!("{refused}{HIDDEN}{HIDDEN}"));
        let answer = connection.answer();
        assert_eq!(
            (answer.status, answer.reusable),
            (status, false),
            "{refused}"
        );
        connection.expect_close();
        assert_eq!(noted.seen().len(), 0, "{refused}");
    }
}

#[test]
fn methods_that_lead_elsewhere_are_refused() {
    let noted = Noted::start();
    for (request, status) in [
        ("TRACE /a HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (
            "TRACE /a HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n",
            405,
        ),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405),
        ("CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nContent-Length: 5\r\n\r\nhello",
            405,
        ),
    ] {
        let mut connection = noted.gateway.connect();
        connection.send(request);
        let answer = connection.answer();
        assert_eq!(answer.status, status, "{request}");
        if answer.reusable {
            noted.expect_right(&mut connection, request);
        } else {
            connection.expect_close();
        }
        assert!(noted.seen().is_empty(), "{request}");
    }
    // Methods are told apart by their letters' case.
    let seen = noted.expect_one(b"trace /a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(seen.line(), "trace /a HTTP/1.1");
}

/// RFC 9110, 10.1.1
#[test]
fn expectations_are_met_or_refused() {
    let noted = Noted::start();
    let post =
        |fields: &str| format!("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n{fields}\r\n");
    for expectation in [
        "Expect: other\r\n",
        "Expect: 100-continue, other\r\n",
        "Expect: 100-continue\r\nExpect: x\r\n",
    ] {
        let mut connection = noted.gateway.connect();
        connection.send(post(expectation));
        let answer = connection.answer();
        assert_eq!(
            (answer.status, answer.interim.len()),
            (417, 0),
            "{expectation}"
        );
        assert!(!answer.reusable, "{expectation}");
        connection.expect_close();
        assert!(noted.seen().is_empty(), "{expectation}");
    }
    // Without waiting.
    for version in ["1.1", "1.0"] {
        let request = post("Expect: 100-Continue\r\n").replace("1.1", version);
        let mut connection = noted.gateway.connect();
        connection.send(format!("{request}hello"));
        assert_eq!(
            connection.answer().text(),
            format!("POST /a HTTP/{version}: hello").replace("1.0", "1.1")
        );
        noted.seen();
    }
    let mut connection = noted.gateway.connect();
    connection.send(post("Expect: 100-continue\r\n"));
    let told = b"HTTP/1.1 100 Continue\r\n\r\n";
    assert_eq!(connection.read(told.len()).unwrap(), told);
    connection.send(format!("hello{}", "GET /b HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(connection.answer().text(), "POST /a HTTP/1.1: hello");
    assert_eq!(connection.answer().text(), "GET /b HTTP/1.1: ");
    assert_eq!(noted.seen().len(), 2);
    noted.expect_right(&mut connection, "expectations");
}

#[test]
fn a_request_that_comes_round_is_stopped() {
    let echo = edgeway_tests::Echo::start();
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          echo: {{ endpoints: [{echo}] }}
        routes:
          - match: {{ path: /app }}
            upstream: echo
        "
    ));
    let via = gateway.get("/app").received("via");
    assert_eq!(via.len(), 1);
    for line in [
        via[0].clone(),
        format!("1.0 other, {}", via[0]),
        format!("{} (comment)", via[0]),
    ] {
        let mut connection = gateway.connect();
        let request = connection.request("GET", "/app").header("Via", "1.1 first");
        let answer = request.header("Via", line).send();
        assert_eq!(answer.status, 508);
        assert_eq!(connection.get("/app").status, 200);
    }
    let others = gateway
        .request("GET", "/app")
        .header("Via", "1.1 edgeway-00000000")
        .send();
    assert_eq!(others.status, 200);
}
