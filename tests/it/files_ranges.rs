//! Ranges of files: the rules of RFC 9110, section 14, row by row.

use std::ops::Range;

use edgeway_tests::{Answer, Connection, Gateway, Http2};

/// As long as the one in the examples of the standard.
const LENGTH: usize = 10_000;
/// More than is kept in memory, and more than is sent at once.
const LARGE: usize = 3_000_000;

fn content(length: usize) -> Vec<u8> {
    let byte = |at: usize| ((at * 31 + at / 251) % 256).to_le_bytes()[0];
    (0..length).map(byte).collect()
}

fn gateway() -> Gateway {
    Gateway::setup("routes: [{ files: site }]")
        .file("site/a.bin", content(LENGTH))
        .file("site/large.bin", content(LARGE))
        .file("site/empty.bin", "")
        .start()
}

fn ranged(gateway: &Gateway, path: &str, range: &str) -> Answer {
    gateway.request("GET", path).header("Range", range).send()
}

/// What a request gets.
enum Gets {
    Whole,
    Part(Range<usize>),
    Parts(&'static [Range<usize>]),
    Nothing,
}

use Gets::{Nothing, Part, Parts, Whole};

const TABLE: &[(&str, Gets)] = &[
    // 14.1.2: the examples of the standard.
    ("bytes=0-499", Part(0..500)),
    ("bytes=500-999", Part(500..1000)),
    ("bytes=-500", Part(9500..10_000)),
    ("bytes=9500-", Part(9500..10_000)),
    ("bytes=0-0,-1", Parts(&[0..1, 9999..10_000])),
    (
        "bytes= 0-999, 4500-5499, -1000",
        Parts(&[0..1000, 4500..5500, 9000..10_000]),
    ),
    ("bytes=500-600,601-999", Part(500..1000)),
    ("bytes=500-700,601-999", Part(500..1000)),
    // What is beyond the end is cut.
    ("bytes=9000-99999", Part(9000..10_000)),
    ("bytes=9999-", Part(9999..10_000)),
    ("bytes=-20000", Part(0..10_000)),
    ("bytes=0-", Part(0..10_000)),
    ("bytes=0-18446744073709551616", Part(0..10_000)),
    ("bytes=-99999999999999999999999", Part(0..10_000)),
    // What is not there is left out, and nothing is left of some.
    ("bytes=0-9, 20000-", Part(0..10)),
    ("bytes=10000-", Nothing),
    ("bytes=10000-10001", Nothing),
    ("bytes=-0", Nothing),
    ("bytes=20000-30000, -0", Nothing),
    ("bytes=18446744073709551615-", Nothing),
    ("bytes=99999999999999999999999-", Nothing),
    // 14.2: what cannot be read is ignored.
    ("bytes=", Whole),
    ("bytes=-", Whole),
    ("bytes=1", Whole),
    ("bytes=a-b", Whole),
    ("bytes=9-0", Whole),
    ("bytes=0-9,x", Whole),
    ("bytes=0-9-10", Whole),
    ("bytes=0x0-0x9", Whole),
    ("bytes 0-9", Whole),
    ("bytes", Whole),
    ("0-9", Whole),
    // 14.1: units have no case, and others than bytes are not known.
    ("BYTES=0-9", Part(0..10)),
    ("items=0-9", Whole),
    ("bytesx=0-9", Whole),
    // Lists have empty members, and spaces.
    ("bytes=,0-9,, ,", Part(0..10)),
    ("bytes=0-9\t,\t5000-5009", Parts(&[0..10, 5000..5010])),
    // In the order of the request.
    ("bytes=5000-5009,0-9", Parts(&[5000..5010, 0..10])),
    ("bytes=-10,0-9", Parts(&[9990..10_000, 0..10])),
    // Ranges that overlap, or lie close together, are one.
    ("bytes=0-0,1-1,2-2,3-3", Part(0..4)),
    ("bytes=0-9,20-29", Part(0..30)),
    ("bytes=0-,0-,0-,0-,-1", Part(0..10_000)),
    ("bytes=5000-5009,0-9,5005-5019", Parts(&[5000..5020, 0..10])),
];

#[test]
fn ranges_have_the_outcome_of_the_standard() {
    let gateway = gateway();
    let content = content(LENGTH);
    for (range, gets) in TABLE {
        let answer = ranged(&gateway, "/a.bin", range);
        check(&answer, gets, &content, range);
    }
}

fn check(answer: &Answer, gets: &Gets, content: &[u8], range: &str) {
    let length = content.len();
    match gets {
        Whole => {
            assert_eq!(answer.status, 200, "{range}");
            assert_eq!(answer.header("content-range"), None, "{range}");
            assert!(answer.body == content, "{range}");
        }
        Part(part) => {
            assert_eq!(answer.status, 206, "{range}");
            let expected = format!("bytes {}-{}/{length}", part.start, part.end - 1);
            assert_eq!(answer.header("content-range"), Some(&*expected), "{range}");
            assert!(answer.body == content[part.clone()], "{range}");
        }
        Parts(parts) => {
            assert_eq!(answer.status, 206, "{range}");
            assert_eq!(answer.header("content-range"), None, "{range}");
            let found = multipart(answer.header("content-type").unwrap(), &answer.body);
            let expected: Vec<_> = parts
                .iter()
                .map(|part| {
                    let span = format!("bytes {}-{}/{length}", part.start, part.end - 1);
                    (span, content[part.clone()].to_vec())
                })
                .collect();
            assert!(
                found == expected,
                "{range}: {:?}",
                found.iter().map(|part| &part.0)
            );
        }
        Nothing => {
            assert_eq!(answer.status, 416, "{range}");
            let expected = format!("bytes */{length}");
            assert_eq!(answer.header("content-range"), Some(&*expected), "{range}");
            assert_eq!(answer.header("etag"), None, "{range}");
        }
    }
}

/// The parts of a `multipart/byteranges`, each with its `Content-Range`, read as RFC 2046 has it.
fn multipart(content_type: &str, body: &[u8]) -> Vec<(String, Vec<u8>)> {
    let boundary = content_type
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap();
    let mut rest = body
        .strip_prefix(format!("--{boundary}").as_bytes())
        .unwrap();
    let delimiter = format!("\r\n--{boundary}");
    let mut parts = Vec::new();
    while let Some(part) = rest.strip_prefix(b"\r\n") {
        let end = find(part, b"\r\n\r\n").unwrap();
        let head = str::from_utf8(&part[..end]).unwrap();
        let lines: Vec<_> = head.split("\r\n").collect();
        let [of, range] = lines.as_slice() else {
            panic!("{head}");
        };
        assert_eq!(*of, "Content-Type: application/octet-stream");
        let range = range.strip_prefix("Content-Range: ").unwrap();
        let content = &part[end + 4..];
        let end = find(content, delimiter.as_bytes()).unwrap();
        parts.push((range.to_owned(), content[..end].to_vec()));
        rest = &content[end + delimiter.len()..];
    }
    assert_eq!(rest, b"--\r\n");
    parts
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[test]
fn ranges_have_the_same_outcome_over_http2() {
    let gateway = gateway();
    let http2 = Http2::open(gateway.address());
    let content = content(LENGTH);
    for (range, gets) in TABLE {
        let mut request = http2.request("GET", "/a.bin", "");
        request
            .headers_mut()
            .insert("range", range.parse().unwrap());
        let answer = http2.send(request).unwrap();
        match gets {
            Whole => assert!(answer.status == 200 && answer.body == content, "{range}"),
            Part(part) => {
                assert!(
                    answer.status == 206 && answer.body == content[part.clone()],
                    "{range}"
                );
            }
            Parts(parts) => {
                let of = answer
                    .headers
                    .get("content-type")
                    .unwrap()
                    .to_str()
                    .unwrap();
                let found = multipart(of, &answer.body);
                let found: Vec<_> = found.into_iter().map(|(_, content)| content).collect();
                let expected: Vec<_> = parts
                    .iter()
                    .map(|part| content[part.clone()].to_vec())
                    .collect();
                assert!(answer.status == 206 && found == expected, "{range}");
            }
            Nothing => assert_eq!(answer.status, 416, "{range}"),
        }
    }
}

#[test]
fn parts_of_a_large_file_come_whole_over_one_connection() {
    let gateway = gateway();
    let content = content(LARGE);
    let mut connection = gateway.connect();
    let mut random = Random(7);
    for _ in 0..60 {
        let specs: Vec<_> = (0..1 + random.below(4))
            .map(|_| {
                let first = random.below(LARGE);
                let most = [10, 5000, LARGE][random.below(3)];
                let length = 1 + random.below(most);
                format!("{first}-{}", first + length - 1)
            })
            .collect();
        let range = format!("bytes={}", specs.join(","));
        let answer = over(&mut connection, &range);
        assert_eq!(answer.status, 206, "{range}");
        assert!(answer.reusable, "{range}");
        // As it says of itself.
        let parts = match answer.header("content-range") {
            Some(range) => vec![(range.to_owned(), answer.body.clone())],
            None => multipart(answer.header("content-type").unwrap(), &answer.body),
        };
        let spans: Vec<_> = parts.iter().map(|(range, _)| span(range)).collect();
        for ((_, found), span) in parts.iter().zip(&spans) {
            assert!(*found == content[span.clone()], "{range}: {span:?}");
        }
        // Every byte that was asked for is there, and only those and gaps that are not worth a part.
        for spec in specs {
            let (first, last) = spec.split_once('-').unwrap();
            let first: usize = first.parse().unwrap();
            let last = last.parse::<usize>().unwrap().min(LARGE - 1);
            assert!(
                spans
                    .iter()
                    .any(|span| span.contains(&first) && span.contains(&last)),
                "{range}"
            );
        }
    }
}

fn over(connection: &mut Connection, range: &str) -> Answer {
    connection
        .request("GET", "/large.bin")
        .header("Range", range)
        .send()
}

/// The bytes of `bytes 0-9/10`.
fn span(range: &str) -> Range<usize> {
    let (range, length) = range
        .strip_prefix("bytes ")
        .unwrap()
        .split_once('/')
        .unwrap();
    assert_eq!(length, LARGE.to_string());
    let (first, last) = range.split_once('-').unwrap();
    first.parse().unwrap()..last.parse::<usize>().unwrap() + 1
}

/// The same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// RFC 9110, section 17.15.
#[test]
fn many_tiny_ranges_cost_no_more_than_the_file() {
    let gateway = gateway();
    let tiny: Vec<_> = (0..200).map(|at| format!("{0}-{0}", at * 200)).collect();
    let answer = ranged(&gateway, "/large.bin", &format!("bytes={}", tiny.join(",")));
    assert_eq!((answer.status, answer.body.len()), (200, LARGE));
    let same = "0-,".repeat(60);
    let answer = ranged(&gateway, "/large.bin", &format!("bytes={same}"));
    assert_eq!((answer.status, answer.body.len()), (206, LARGE));
    let backwards: Vec<_> = (0..60)
        .map(|at| format!("{}-", LARGE - 1 - at * 1000))
        .collect();
    let answer = ranged(
        &gateway,
        "/large.bin",
        &format!("bytes={}", backwards.join(",")),
    );
    assert_eq!((answer.status, answer.body.len()), (206, 59_001));
}

#[test]
fn only_a_get_of_a_file_has_ranges() {
    let gateway = gateway();
    let head = gateway
        .request("HEAD", "/a.bin")
        .header("Range", "bytes=0-9")
        .send();
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("10000"))
    );
    assert_eq!(head.header("content-range"), None);
    assert_eq!(head.header("accept-ranges"), Some("bytes"));
    for range in ["bytes=0-9", "bytes=-1", "bytes=5-"] {
        let empty = ranged(&gateway, "/empty.bin", range);
        assert_eq!((empty.status, empty.body.len()), (200, 0), "{range}");
        assert_eq!(
            ranged(&gateway, "/missing.bin", range).status,
            404,
            "{range}"
        );
    }
    // Two lines are no range.
    let twice = gateway
        .request("GET", "/a.bin")
        .header("Range", "bytes=0-9")
        .header("Range", "bytes=0-9");
    let twice = twice.send();
    assert!(
        twice.status == 200 || twice.status == 400,
        "{}",
        twice.status
    );
    assert_ne!(twice.body.len(), 10);
}
