//! Conditional requests for files: the rules of RFC 9110, section 13, row by row.

use std::{
    fs::{self, File},
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use edgeway_tests::{Answer, Gateway, Http2, PATIENCE, Request, eventually_some};

const CONTENT: &str = "0123456789";
const CHANGED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

/// A gateway with files of 1994.
fn gateway(options: &str) -> Gateway {
    let routes = format!("routes: [{{ files: {{ root: site{options} }} }}]");
    let setup = Gateway::setup(&routes).file("site/a.txt", CONTENT);
    let setup = setup
        .file("site/b.css", "plain")
        .file("site/b.css.br", "of br");
    let setup = setup.file("site/b.css.gz", "of gzip");
    for name in ["a.txt", "b.css", "b.css.br", "b.css.gz"] {
        date(&setup.folder().join("site").join(name));
    }
    setup.start()
}

/// Dates a file as it is in the examples of the standard.
fn date(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    let changed = UNIX_EPOCH + Duration::from_secs(784_111_777);
    file.set_modified(changed).unwrap();
}

/// The tag of a file, as soon as it cannot change unseen any more.
fn strong(gateway: &Gateway, path: &str) -> String {
    eventually_some(PATIENCE, || {
        let answer = gateway.get(path);
        let tag = answer.header("etag").unwrap().to_owned();
        tag.starts_with('"').then_some(tag)
    })
}

fn asked(gateway: &Gateway, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request = gateway.request(method, path);
    let add = |request: Request<'static>, (name, value): &(&str, &str)| request.header(name, value);
    headers.iter().fold(request, add).send()
}

/// Each with the status that it must get, where the tag of the file stands for `TAG`.
const TABLE: &[(&[(&str, &str)], u16)] = &[
    // 13.1.1, If-Match: strong comparison, lists, and any.
    (&[("If-Match", "TAG")], 200),
    (&[("If-Match", "\"x\", TAG, \"y\"")], 200),
    (&[("If-Match", "*")], 200),
    (&[("If-Match", "\"x\"")], 412),
    (&[("If-Match", "W/TAG")], 412),
    (&[("If-Match", "")], 412),
    // 13.1.2, If-None-Match: weak comparison.
    (&[("If-None-Match", "TAG")], 304),
    (&[("If-None-Match", "W/TAG")], 304),
    (&[("If-None-Match", "\"x\", TAG")], 304),
    (&[("If-None-Match", "\"x\",W/TAG , \"y\"")], 304),
    (&[("If-None-Match", "*")], 304),
    (&[("If-None-Match", "\"x\"")], 200),
    (&[("If-None-Match", "x")], 200),
    (&[("If-None-Match", "\"x\""), ("If-None-Match", "TAG")], 304),
    // 13.1.3, If-Modified-Since: all three forms of a date; what is none is no condition.
    (&[("If-Modified-Since", CHANGED)], 304),
    (&[("If-Modified-Since", AFTER)], 304),
    (&[("If-Modified-Since", BEFORE)], 200),
    (
        &[("If-Modified-Since", "Sunday, 06-Nov-94 08:49:37 GMT")],
        304,
    ),
    (&[("If-Modified-Since", "Sun Nov  6 08:49:37 1994")], 304),
    (&[("If-Modified-Since", "Sun Nov  6 08:49:36 1994")], 200),
    (&[("If-Modified-Since", "yesterday")], 200),
    (&[("If-Modified-Since", "784111777")], 200),
    // 13.1.4, If-Unmodified-Since.
    (&[("If-Unmodified-Since", CHANGED)], 200),
    (&[("If-Unmodified-Since", AFTER)], 200),
    (&[("If-Unmodified-Since", BEFORE)], 412),
    (&[("If-Unmodified-Since", "Sun Nov  6 08:49:36 1994")], 412),
    (&[("If-Unmodified-Since", "yesterday")], 200),
    // 13.1.5, If-Range: no range without it, and none of another version.
    (&[("Range", "bytes=0-1"), ("If-Range", "TAG")], 206),
    (&[("Range", "bytes=0-1"), ("If-Range", "W/TAG")], 200),
    (&[("Range", "bytes=0-1"), ("If-Range", "\"x\"")], 200),
    (&[("Range", "bytes=0-1"), ("If-Range", "*")], 200),
    (&[("Range", "bytes=0-1"), ("If-Range", CHANGED)], 206),
    (&[("Range", "bytes=0-1"), ("If-Range", BEFORE)], 200),
    (&[("Range", "bytes=0-1"), ("If-Range", AFTER)], 200),
    (&[("Range", "bytes=90-"), ("If-Range", "TAG")], 416),
    (&[("Range", "bytes=90-"), ("If-Range", "\"x\"")], 200),
    (&[("If-Range", "TAG")], 200),
    // 13.2.2, step 1 before step 2: the date does not count beside the tag.
    (&[("If-Match", "TAG"), ("If-Unmodified-Since", BEFORE)], 200),
    (
        &[("If-Match", "\"x\""), ("If-Unmodified-Since", AFTER)],
        412,
    ),
    // Steps 1 and 2 before 3 and 4.
    (&[("If-Match", "\"x\""), ("If-None-Match", "TAG")], 412),
    (&[("If-Match", "TAG"), ("If-None-Match", "TAG")], 304),
    (&[("If-Match", "TAG"), ("If-None-Match", "\"x\"")], 200),
    (
        &[
            ("If-Unmodified-Since", BEFORE),
            ("If-Modified-Since", AFTER),
        ],
        412,
    ),
    (
        &[("If-Unmodified-Since", AFTER), ("If-Modified-Since", AFTER)],
        304,
    ),
    // Step 3 before step 4.
    (
        &[("If-None-Match", "\"x\""), ("If-Modified-Since", AFTER)],
        200,
    ),
    (
        &[("If-None-Match", "TAG"), ("If-Modified-Since", BEFORE)],
        304,
    ),
    // Step 5 comes last.
    (&[("If-None-Match", "TAG"), ("Range", "bytes=0-1")], 304),
    (&[("If-None-Match", "\"x\""), ("Range", "bytes=0-1")], 206),
    (&[("If-Modified-Since", AFTER), ("Range", "bytes=0-1")], 304),
    (&[("If-Match", "\"x\""), ("Range", "bytes=90-")], 412),
    (
        &[
            ("If-Match", "TAG"),
            ("Range", "bytes=0-1"),
            ("If-Range", "\"x\""),
        ],
        200,
    ),
];

#[test]
fn conditions_have_the_outcome_of_the_standard() {
    let gateway = gateway("");
    let tag = strong(&gateway, "/a.txt");
    for (row, status) in TABLE {
        let headers: Vec<_> = row
            .iter()
            .map(|(name, value)| (*name, value.replace("TAG", &tag)))
            .collect();
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        for method in ["GET", "HEAD"] {
            // A range is of a GET only.
            let ranged = |status: u16| matches!(status, 206 | 416);
            let expected = if method == "HEAD" && ranged(*status) {
                200
            } else {
                *status
            };
            let answer = asked(&gateway, method, "/a.txt", &headers);
            assert_eq!(answer.status, expected, "{method} {headers:?}");
            if !matches!(expected, 412 | 416) {
                assert_eq!(answer.header("etag"), Some(&*tag), "{method} {headers:?}");
            }
            let body = match (method, expected) {
                ("HEAD", _) | (_, 304) => "",
                (_, 206) => "01",
                (_, 200) => CONTENT,
                _ => continue,
            };
            assert_eq!(answer.text(), body, "{method} {headers:?}");
        }
    }
}

#[test]
fn conditions_have_the_same_outcome_over_http2() {
    let gateway = gateway("");
    let tag = strong(&gateway, "/a.txt");
    let http2 = Http2::open(gateway.address());
    for (row, status) in TABLE {
        let mut request = http2.request("GET", "/a.txt", "");
        for (name, value) in *row {
            let name: http::HeaderName = name.parse().unwrap();
            request
                .headers_mut()
                .append(name, value.replace("TAG", &tag).parse().unwrap());
        }
        let answer = http2.send(request).unwrap();
        assert_eq!(answer.status, *status, "{row:?}");
        if *status == 304 {
            assert!(answer.body.is_empty());
            assert!(
                !answer.headers.contains_key("content-length"),
                "{:?}",
                answer.headers
            );
        }
    }
}

#[test]
fn the_answer_to_who_has_the_file_says_what_caches_need_and_no_more() {
    let gateway = gateway(", precompressed: [br]");
    let tag = strong(&gateway, "/a.txt");
    let answer = asked(&gateway, "GET", "/a.txt", &[("If-None-Match", &tag)]);
    assert_eq!(answer.status, 304);
    assert_eq!(answer.header("etag"), Some(&*tag));
    assert_eq!(answer.header("vary"), Some("accept-encoding"));
    assert!(answer.header("date").is_some());
    for name in [
        "content-length",
        "content-type",
        "content-encoding",
        "content-range",
        "accept-ranges",
        "last-modified",
        "transfer-encoding",
    ] {
        assert_eq!(answer.header(name), None, "{name}");
    }
}

#[test]
fn the_whole_says_all_there_is_to_say() {
    let gateway = gateway("");
    let tag = strong(&gateway, "/a.txt");
    for method in ["GET", "HEAD"] {
        let answer = asked(&gateway, method, "/a.txt", &[]);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("etag"), Some(&*tag));
        assert_eq!(answer.header("last-modified"), Some(CHANGED));
        assert_eq!(answer.header("content-length"), Some("10"));
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        assert_eq!(answer.header("accept-ranges"), Some("bytes"));
        assert_eq!(answer.header("vary"), None);
        assert_eq!(answer.header("content-encoding"), None);
    }
}

#[test]
fn a_file_that_was_changed_just_now_has_a_weak_tag() {
    let gateway = gateway("");
    let path = gateway.folder().join("site/a.txt");
    let strong = strong(&gateway, "/a.txt");
    // A long time ago, as far as its date goes: it has been changed all the same.
    fs::write(&path, "9876543210").unwrap();
    date(&path);
    let answer = gateway.get("/a.txt");
    assert_eq!(answer.text(), "9876543210");
    assert_eq!(answer.header("last-modified"), Some(CHANGED));
    let weak = answer.header("etag").unwrap();
    assert!(weak.starts_with("W/\""), "{weak}");
    assert_ne!(weak, format!("W/{strong}"));
    for (name, value, status) in [
        ("If-None-Match", weak, 304),
        ("If-None-Match", &strong, 200),
        ("If-Match", weak, 412),
        ("If-Match", "*", 200),
    ] {
        assert_eq!(
            asked(&gateway, "GET", "/a.txt", &[(name, value)]).status,
            status,
            "{name}"
        );
    }
    let range = [("Range", "bytes=0-1"), ("If-Range", weak)];
    assert_eq!(asked(&gateway, "GET", "/a.txt", &range).status, 200);
}

#[test]
fn without_tags_dates_decide() {
    let gateway = gateway(", etag: none");
    for (name, value, status) in [
        ("If-None-Match", "*", 304),
        ("If-None-Match", "\"x\"", 200),
        ("If-Match", "*", 200),
        ("If-Match", "\"x\"", 412),
        ("If-Modified-Since", CHANGED, 304),
        ("If-Modified-Since", BEFORE, 200),
        ("If-Unmodified-Since", BEFORE, 412),
    ] {
        let answer = asked(&gateway, "GET", "/a.txt", &[(name, value)]);
        assert_eq!(answer.status, status, "{name}: {value}");
        assert_eq!(answer.header("etag"), None);
        if status == 304 {
            // A cache has nothing else to go by.
            assert_eq!(answer.header("last-modified"), Some(CHANGED));
        }
    }
}

#[test]
fn a_file_from_the_future_is_not_dated_so() {
    let gateway = gateway("");
    let path = gateway.folder().join("site/a.txt");
    let file = File::options().write(true).open(&path).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(4_000_000_000))
        .unwrap();
    let answer = gateway.get("/a.txt");
    let time = |name| httpdate::parse_http_date(answer.header(name).unwrap()).unwrap();
    assert!(
        time("last-modified") <= time("date"),
        "{:?}",
        answer.headers
    );
}

#[test]
fn each_coding_is_a_representation_of_its_own() {
    let gateway = gateway(", precompressed: [br, gzip]");
    let plain = strong(&gateway, "/b.css");
    let get = |accept: &str, more: &[(&str, &str)]| {
        let headers = [&[("Accept-Encoding", accept)], more].concat();
        asked(&gateway, "GET", "/b.css", &headers)
    };
    let mut tags = vec![plain.clone()];
    for (accept, coding, body) in [("br", "br", "of br"), ("gzip, br;q=0.5", "gzip", "of gzip")] {
        let answer = get(accept, &[]);
        assert_eq!((answer.status, answer.text()), (200, body));
        assert_eq!(answer.header("content-encoding"), Some(coding));
        assert_eq!(
            answer.header("content-type"),
            Some("text/css; charset=utf-8")
        );
        assert_eq!(answer.header("vary"), Some("accept-encoding"));
        let tag = answer.header("etag").unwrap();
        assert!(tag.ends_with(&format!("-{coding}\"")), "{tag}");
        tags.push(tag.to_owned());
    }
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 3);
    let brotli = tags.iter().find(|tag| tag.ends_with("-br\"")).unwrap();
    assert_eq!(get("br", &[("If-None-Match", brotli)]).status, 304);
    assert_eq!(get("gzip", &[("If-None-Match", brotli)]).text(), "of gzip");
    assert_eq!(
        get("identity", &[("If-None-Match", brotli)]).text(),
        "plain"
    );
    assert_eq!(get("br", &[("If-None-Match", &plain)]).text(), "of br");
    let part = get("br", &[("Range", "bytes=3-"), ("If-Range", brotli)]);
    assert_eq!((part.status, part.text()), (206, "br"));
    assert_eq!(part.header("content-range"), Some("bytes 3-4/5"));
    assert_eq!(part.header("content-encoding"), Some("br"));
    let other = get("gzip", &[("Range", "bytes=3-"), ("If-Range", brotli)]);
    assert_eq!((other.status, other.text()), (200, "of gzip"));
}

#[test]
fn the_client_chooses_the_coding_and_our_order_decides_what_is_equal() {
    let gateway = gateway(", precompressed: [br, gzip]");
    for (accept, body) in [
        (None, "plain"),
        (Some("gzip, br, zstd"), "of br"),
        (Some("zstd, gzip"), "of gzip"),
        (Some("zstd"), "plain"),
        (Some("x-gzip"), "of gzip"),
        (Some("br;q=0.1, gzip;q=0.2"), "of gzip"),
        (Some("br;q=0, gzip;q=0"), "plain"),
        (Some("*"), "of br"),
        (Some("*;q=0.1, br;q=0"), "of gzip"),
        (Some("identity"), "plain"),
        (Some("identity, gzip;q=0.5"), "plain"),
        (Some("gzip, identity;q=0"), "of gzip"),
        // There is nothing else to send.
        (Some("zstd, identity;q=0"), "plain"),
        (Some("br;q=7"), "plain"),
        (Some(""), "plain"),
    ] {
        let mut request = gateway.request("GET", "/b.css");
        if let Some(accept) = accept {
            request = request.header("Accept-Encoding", accept);
        }
        let answer = request.send();
        assert_eq!(answer.text(), body, "{accept:?}");
        assert_eq!(answer.header("vary"), Some("accept-encoding"), "{accept:?}");
    }
    // By itself a sibling is a file like others.
    let answer = asked(&gateway, "GET", "/b.css.gz", &[("Accept-Encoding", "gzip")]);
    assert_eq!(answer.text(), "of gzip");
    assert_eq!(answer.header("content-encoding"), None);
    assert_eq!(answer.header("content-type"), Some("application/gzip"));
}
