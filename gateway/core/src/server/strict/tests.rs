use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;

/// What a head comes to, however it is cut, and the status that it is answered with.
#[track_caller]
fn judged(head: &[u8]) -> (Verdict, u16) {
    let mut scan = Scan::default();
    let whole = (scan.feed(head), scan.status());
    for size in [1, 2, 3, 7] {
        let cut = in_pieces(head, || size);
        assert_eq!(cut, whole, "pieces of {size}: {}", head.escape_ascii());
    }
    whole
}

fn in_pieces(head: &[u8], mut size: impl FnMut() -> usize) -> (Verdict, u16) {
    let mut scan = Scan::default();
    let mut before = 0;
    while before < head.len() {
        let end = (before + size().max(1)).min(head.len());
        match scan.feed(&head[before..end]) {
            Verdict::More => before = end,
            Verdict::End(here) => {
                assert_eq!(scan.length(), before + here);
                return (Verdict::End(before + here), scan.status());
            }
            Verdict::Malformed => return (Verdict::Malformed, scan.status()),
        }
    }
    assert_eq!(scan.length(), head.len());
    (Verdict::More, scan.status())
}

/// It is a head with nothing behind it, and with anything, and no part of it is one.
#[track_caller]
fn expect_whole(head: &str) {
    let bytes = head.as_bytes();
    let end = (Verdict::End(bytes.len()), 400);
    assert_eq!(judged(bytes), end, "{head:?}");
    assert_eq!(judged(&[bytes, b"\0more"].concat()), end, "{head:?}");
    for length in 0..bytes.len() {
        assert_eq!(
            judged(&bytes[..length]).0,
            Verdict::More,
            "{length} of {head:?}"
        );
    }
}

#[track_caller]
fn expect_refused(head: &str, status: u16) {
    assert_eq!(
        judged(head.as_bytes()),
        (Verdict::Malformed, status),
        "{head:?}"
    );
}

fn with(fields: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")
}

#[test]
fn a_head_ends_with_its_empty_line() {
    for head in [
        "GET / HTTP/1.1\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS * HTTP/1.0\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
        "M-SEARCH http://a/?b={|}\"<>\\^` HTTP/1.1\r\nHost:\r\n\r\n",
        "GET /\u{e9}?\u{fc} HTTP/1.1\r\n\r\n",
        "GET /%zz//../ HTTP/1.1\r\nX-A:\tb \t c\t\r\nX_B: \u{e9}\r\n\r\n",
        "GET / HTTP/1.1\r\nX-Transfer-Encoding: gzip\r\nContent-Lengths: x\r\n\r\n",
    ] {
        expect_whole(head);
    }
    for fields in [
        "Content-Length: 0",
        "content-LENGTH:5",
        "Content-Length: \t007 ",
        "Content-Length: 999999999999999999",
        "transfer-encoding:\tChunked \t",
    ] {
        expect_whole(&with(fields));
    }
}

#[test]
fn a_line_that_others_read_otherwise_is_refused() {
    for line in [
        "",
        "\r\n",
        "\n",
        " GET / HTTP/1.1\r\n",
        "GET\t/ HTTP/1.1\r\n",
        "GET  / HTTP/1.1\r\n",
        "GET /  HTTP/1.1\r\n",
        "GET / HTTP/1.1 \r\n",
        "GET / HTTP/1.1\n",
        "GET / HTTP/1.1\r\r\n",
        "GET /a b HTTP/1.1\r\n",
        "GET /\r\n",
        "GET /\n",
        "GET / \r\n",
        "GET / http/1.1\r\n",
        "GET / HTTP/1.1x\r\n",
        "GET / HTTP/11.1\r\n",
        "GET / HTTP/1,1\r\n",
        "GET / HTTP/+1.1\r\n",
        "GET / HTTPS/1.1\r\n",
        "G(T / HTTP/1.1\r\n",
        "G\u{e9}T / HTTP/1.1\r\n",
        "\0GET / HTTP/1.1\r\n",
        "\x16\x03\x01\x02\0\x01\0\x01\r\n",
    ] {
        expect_refused(&format!("\r\n{line}\r\n\r\n"), 400);
    }
    for target in ["/a\tb", "/a\0", "/a\x7f", "/a#b", "/a\x0bHTTP/1.1"] {
        expect_refused(&format!("GET {target} HTTP/1.1\r\n\r\n"), 400);
    }
    for version in [
        "HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3.7", "HTTP/9.1", "HTTP/0.0",
    ] {
        expect_refused(&format!("GET / {version}\r\n\r\n"), 505);
    }
}

#[test]
fn a_field_that_others_read_otherwise_is_refused() {
    for field in [
        "Content-Length : 5",
        "Transfer-Encoding : chunked",
        " Transfer-Encoding: chunked",
        "X-A: b\r\n folded",
        "X-A: b\r\n\tfolded",
        "X-A: b\r\n ",
        "Transfer-Encoding\r\n: chunked",
        ": nameless",
        "nothing",
        "X A: b",
        "X-A\0: b",
        "X-\u{e9}: b",
        "X(A): b",
        "X-A: b\nX-B: c",
        "X-A: b\n\nGET / HTTP/1.1",
        "X-A: b\rX-B: c",
        "X-A: b\r\rX-B: c",
        "X-A: b\0c",
        "X-A: b\x0bc",
        "X-A: b\x7fc",
        "X-A: b\x1b[2J",
        "\n",
    ] {
        expect_refused(&with(field), 400);
    }
}

#[test]
fn a_body_without_one_clear_end_is_refused() {
    for length in [
        "",
        "+5",
        "-5",
        "5, 5",
        "5,6",
        "0x5",
        "5 5",
        "5.0",
        "5;",
        "\"5\"",
        "five",
        "\u{ff15}",
        "1000000000000000000",
        "18446744073709551621",
        "000000000000000000000000000005",
        "5\r\nContent-Length: 5",
        "5\r\nX-A: b\r\ncontent-length: 6",
        "5\r\nTransfer-Encoding: chunked",
    ] {
        expect_refused(&with(&format!("Content-Length: {length}")), 400);
    }
    for coding in [
        "",
        "gzip",
        "identity",
        "chunked, identity",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "chunked;q=1",
        "xchunked",
        "chunkedx",
        "\"chunked\"",
        "'chunked'",
        "chunked\u{a0}",
        "\x0bchunked",
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: identity",
        "chunked\r\nContent-Length: 5",
        "x, chunked",
        "chun ked",
        "\r\n chunked",
        "chunked                         ",
    ] {
        expect_refused(&with(&format!("Transfer-Encoding: {coding}")), 400);
    }
    expect_refused(&with("Transfer-Encoding: gzip, chunked"), 501);
    expect_refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400);
}

#[test]
fn how_long_the_target_is_and_the_head_is_known_as_they_come() {
    let mut scan = Scan::default();
    for (piece, target, length) in [
        ("GE", 0, 2),
        ("T /a", 2, 6),
        ("bc HTTP", 4, 13),
        ("/1.1\r\nX:", 4, 21),
    ] {
        assert_eq!(scan.feed(piece.as_bytes()), Verdict::More);
        assert_eq!(
            (scan.target_length(), scan.length()),
            (target, length),
            "{piece}"
        );
    }
    assert_eq!(scan.feed(b"\r\n\r\nmore"), Verdict::End(4));
    assert_eq!((scan.target_length(), scan.length()), (4, 25));
    assert_eq!(scan.feed(b"more"), Verdict::End(0));
}

#[test]
fn a_refusal_is_the_last_word() {
    let mut scan = Scan::default();
    assert_eq!(scan.feed(b"GET /\n"), Verdict::Malformed);
    assert_eq!(scan.feed(b"GET / HTTP/1.1\r\n\r\n"), Verdict::Malformed);
}

/// Random pieces of heads one behind the other, cut at random places.
#[test]
fn no_cut_changes_the_verdict() {
    let mut random = SmallRng::seed_from_u64(5);
    let pieces = [
        "GET / HTTP/1.1\r\n",
        "POST /a HTTP/1.0\r\n",
        "Host: a\r\n",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "\r\n",
        "\n",
        "\r",
        " ",
        "\0",
        "X-A: b\r\n",
        ":",
        "GET",
        "X-Long: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n",
        "HTTP/1.1",
        "\u{e9}",
        "\t",
        "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "5",
    ];
    let mut seen = std::collections::HashMap::new();
    for _ in 0..60_000 {
        let mut head = pieces[random.random_range(0..2)].to_owned();
        for _ in 0..random.random_range(0..10) {
            head.push_str(pieces[random.random_range(0..pieces.len())]);
        }
        let mut scan = Scan::default();
        let whole = (scan.feed(head.as_bytes()), scan.status());
        let cut = in_pieces(head.as_bytes(), || random.random_range(1..12));
        assert_eq!(cut, whole, "{head:?}");
        *seen.entry(std::mem::discriminant(&whole.0)).or_insert(0) += 1;
    }
    assert!(
        seen.len() == 3 && seen.values().all(|count| *count > 500),
        "{seen:?}"
    );
}

#[test]
fn a_connection_pays_little_for_it() {
    assert!(size_of::<Scan>() <= 72, "{}", size_of::<Scan>());
}
