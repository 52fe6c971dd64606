use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::io::{AsyncWriteExt, duplex};

use super::*;

const VERSIONS: [ProxyVersion; 2] = [ProxyVersion::V1, ProxyVersion::V2];

fn from(source: &str, destination: &str) -> Header {
    Header::Client {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    }
}

/// A header of the second version.
fn v2(command: u8, kind: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [v2::SIGNATURE, &[command, kind], &length, rest].concat()
}

/// A record of the second version.
fn record(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind], &length[..], value].concat()
}

/// 192.0.2.1:258 to 198.51.100.2:443.
const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 1, 2, 1, 187];

fn whole(bytes: &[u8]) -> Result<Header, Malformed> {
    let parsed = parse(bytes)?;
    let (header, length) = parsed.expect("the header is complete");
    assert_eq!(length, bytes.len());
    Ok(header)
}

#[test]
fn what_is_encoded_is_what_is_parsed() {
    let headers = [
        from("192.0.2.1:49152", "198.51.100.1:443"),
        from("[2001:db8::1]:1", "[2001:db8::ffff]:65535"),
        from("255.255.255.255:65535", "0.0.0.0:0"),
        from(
            "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
            "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
        ),
        Header::Unknown,
    ];
    for version in VERSIONS {
        for header in headers {
            assert_eq!(whole(&encode(version, &header)), Ok(header));
        }
    }
    let local = |version| whole(&encode(version, &Header::Local));
    assert_eq!(local(ProxyVersion::V2), Ok(Header::Local));
    // A line has no word for it.
    assert_eq!(local(ProxyVersion::V1), Ok(Header::Unknown));
}

/// By hand after the document.
#[test]
fn what_is_encoded_is_what_the_specification_says() {
    let v4 = from("192.0.2.1:258", "198.51.100.2:443");
    let line = b"PROXY TCP4 192.0.2.1 198.51.100.2 258 443\r\n";
    assert_eq!(encode(ProxyVersion::V1, &v4).as_slice(), line);
    let bytes = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", &V4[..]].concat();
    assert_eq!(encode(ProxyVersion::V2, &v4).as_slice(), bytes);
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    assert_eq!(encode(ProxyVersion::V2, &Header::Local).as_slice(), local);
    let unknown = b"PROXY UNKNOWN\r\n";
    assert_eq!(
        encode(ProxyVersion::V1, &Header::Unknown).as_slice(),
        unknown
    );
}

#[test]
fn addresses_of_two_families_are_told_in_one() {
    for (source, destination, line) in [
        (
            "[::ffff:192.0.2.1]:1",
            "198.51.100.1:2",
            "TCP4 192.0.2.1 198.51.100.1 1 2",
        ),
        (
            "[2001:db8::1]:1",
            "198.51.100.1:2",
            "TCP6 2001:db8::1 ::ffff:198.51.100.1 1 2",
        ),
    ] {
        let told = encode(ProxyVersion::V1, &from(source, destination));
        assert_eq!(told.as_slice(), format!("PROXY {line}\r\n").as_bytes());
    }
}

#[test]
fn a_line_may_say_nothing_of_addresses() {
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(91));
    assert_eq!(longest.len(), 107);
    for line in [
        "PROXY UNKNOWN\r\n",
        "PROXY UNKNOWN ffff:f...f:ffff 65535 65535\r\n",
        &longest,
    ] {
        assert_eq!(whole(line.as_bytes()), Ok(Header::Unknown), "{line}");
    }
}

#[test]
fn a_line_that_is_not_as_it_should_be_is_refused() {
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(200));
    for line in [
        "PROXY TCP4 192.0.2.1 198.51.100.2 258\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 258 443 1\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 258 443 \r\n",
        "PROXY TCP4  192.0.2.1 198.51.100.2 258 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 258 65536\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 +58 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 058 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 258 \r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.2 258 443\r\n",
        "PROXY TCP4 2001:db8::1 2001:db8::2 258 443\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.2 258 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 258 443\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 258 443\rx",
        "PROXY TCP4\t192.0.2.1 198.51.100.2 258 443\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.2 258 443\r\n",
        "PROXY \r\n",
        "proxy UNKNOWN\r\n",
        "GET / HTTP/1.1\r\n",
        "\r\n\r\nGET",
        "\x16\x03\x01",
        &long,
        &endless,
    ] {
        assert!(parse(line.as_bytes()).is_err(), "{line}");
    }
    // It is seen at the first wrong byte.
    assert!(parse(b"G").is_err());
    assert!(parse(b"\r\n\r\n\0\r\nQUIT\n\x31").is_err());
}

#[test]
fn a_connection_of_the_proxy_itself_says_nothing_of_a_client() {
    for rest in [&b""[..], &V4, b"whatever it says"] {
        for kind in [0, 0x11, 0xff] {
            assert_eq!(whole(&v2(0x20, kind, rest)), Ok(Header::Local));
        }
    }
}

#[test]
fn what_is_no_tcp_over_ip_is_unknown_but_has_to_be_whole() {
    for (kind, size) in [
        (0x12, 12),
        (0x22, 36),
        (0x31, 216),
        (0x32, 216),
        (0, 0),
        (0, 9),
    ] {
        let header = v2(0x21, kind, &vec![0; size]);
        assert_eq!(whole(&header), Ok(Header::Unknown), "{kind:x}");
    }
    for (kind, size) in [(0x11, 11), (0x12, 11), (0x21, 35), (0x31, 215)] {
        let header = v2(0x21, kind, &vec![0; size]);
        assert_eq!(parse(&header), Err(v2::SHORT), "{kind:x}");
    }
    for kind in [0x41, 0x13, 0x33, 0xff] {
        assert!(parse(&v2(0x21, kind, &[0; 300])).is_err(), "{kind:x}");
    }
}

#[test]
fn records_are_skipped_as_long_as_they_are_within_the_header() {
    let client = Ok(from("192.0.2.1:258", "198.51.100.2:443"));
    let with = |records: &[u8]| whole(&v2(0x21, 0x11, &[&V4[..], records].concat()));
    let ssl = [&[1, 0, 0, 0, 0][..], &record(0x21, b"TLSv1.3")].concat();
    let records = [
        record(0x01, b"h2"),
        record(0x02, b"example.com"),
        record(0x04, b""),
        record(0x20, &ssl),
        record(0xea, b"\x01vpce-08d2bf15fac5001c9"),
    ];
    assert_eq!(with(&records.concat()), client);
    for cut in [1, 2, 4] {
        let record = record(0x02, b"ab");
        assert_eq!(with(&record[..cut]), Err(v2::SHORT), "{cut}");
    }
    let mut long = record(0x02, b"ab");
    long[2] = 3;
    assert_eq!(with(&long), Err(v2::SHORT));
}

#[test]
fn a_checksum_that_is_there_has_to_be_right() {
    let name = record(0x02, b"example.com");
    for (before, after) in [(&name[..], &b""[..]), (b"", &name), (b"", b"")] {
        let place = 16 + V4.len() + before.len() + 3;
        let rest = [&V4[..], before, &record(0x03, &[0; 4]), after].concat();
        let mut header = v2(0x21, 0x11, &rest);
        let mut sum = crc32c::Crc32c::default();
        sum.update(&header);
        header[place..place + 4].copy_from_slice(&sum.finish().to_be_bytes());
        assert!(whole(&header).is_ok());
        for wrong in [13 + 3, place, place + 3] {
            let mut header = header.clone();
            header[wrong] ^= 1;
            assert_eq!(
                parse(&header),
                Err(Malformed("its checksum is wrong")),
                "{wrong}"
            );
        }
    }
    let short = v2(0x21, 0x11, &[&V4[..], &record(0x03, &[0; 3])].concat());
    assert_eq!(parse(&short), Err(v2::SHORT));
}

#[test]
fn nobody_has_to_read_more_than_four_kibibytes() {
    let most = v2(0x20, 0, &[0; 4096 - 16]);
    assert_eq!(whole(&most), Ok(Header::Local));
    let more = v2(0x20, 0, &[0; 4096 - 15]);
    assert_eq!(parse(&more[..16]), Err(Malformed("it is too long")));
}

/// Headers, right and spoilt.
fn any(random: &mut StdRng) -> Vec<u8> {
    let seeds = [
        encode(
            ProxyVersion::V1,
            &from("192.0.2.1:49152", "198.51.100.1:443"),
        ),
        encode(ProxyVersion::V1, &from("[2001:db8::1]:1", "[::1]:65535")),
        encode(ProxyVersion::V2, &from("[2001:db8::1]:1", "[::1]:65535")),
        encode(ProxyVersion::V1, &Header::Unknown),
        encode(ProxyVersion::V2, &Header::Local),
        v2(
            0x21,
            0x11,
            &[&V4[..], &record(2, b"a"), &record(3, b"abcd")].concat(),
        ),
    ];
    let mut bytes = seeds[random.random_range(0..seeds.len())].clone();
    bytes.extend((0..random.random_range(0..40)).map(|_| random.random::<u8>()));
    for _ in 0..random.random_range(0..3) {
        let place = random.random_range(0..bytes.len());
        match random.random_range(0..3) {
            0 => bytes[place] = random.random(),
            1 => drop(bytes.remove(place)),
            _ => bytes.insert(place, bytes[place]),
        }
    }
    bytes
}

/// Whatever comes after them changes nothing about what some bytes are, and what is missing is never
/// more than there is.
#[test]
fn a_verdict_stands_whatever_follows() {
    let mut random = StdRng::seed_from_u64(5);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..20_000 {
        let bytes = any(&mut random);
        let all = parse(&bytes);
        let mut decided = None;
        for length in 0..=bytes.len() {
            let known = parse(&bytes[..length]);
            if known == Ok(None) {
                assert_eq!(decided, None, "{bytes:?} at {length}");
                if let Ok(Some((_, end))) = all {
                    let sure = length + missing(&bytes[..length]);
                    assert!(length < sure && sure <= end, "{bytes:?} at {length}");
                }
            } else {
                let first = *decided.get_or_insert(known);
                assert_eq!(first, known, "{bytes:?} at {length}");
            }
        }
        match all {
            Ok(Some(_)) => good += 1,
            Err(_) => bad += 1,
            Ok(None) => {}
        }
    }
    assert!(good > 5_000 && bad > 1_000, "{good} {bad}");
}

/// Not only those that begin well.
#[test]
fn rubbish_is_no_header() {
    let mut random = StdRng::seed_from_u64(6);
    for _ in 0..100_000 {
        let bytes: Vec<u8> = (0..random.random_range(0..80))
            .map(|_| random.random())
            .collect();
        assert!(!matches!(parse(&bytes), Ok(Some(_))), "{bytes:?}");
    }
}

#[tokio::test]
async fn a_header_is_read_and_nothing_of_what_follows() {
    let mut random = StdRng::seed_from_u64(7);
    for version in VERSIONS {
        for header in [
            from("192.0.2.1:49152", "198.51.100.1:443"),
            from("1.1.1.1:1", "1.1.1.1:1"),
            from("[2001:db8::1]:1", "[::1]:65535"),
            from("[::]:1", "[::]:1"),
            Header::Unknown,
        ] {
            for _ in 0..50 {
                let bytes = [&encode(version, &header), &b"GET / HTTP/1.1\r\n"[..]].concat();
                let (mut ours, mut theirs) = duplex(4096);
                let mut rest = &bytes[..];
                let pieces = async {
                    while !rest.is_empty() {
                        let (piece, others) = rest.split_at(random.random_range(1..=rest.len()));
                        theirs.write_all(piece).await.unwrap();
                        tokio::task::yield_now().await;
                        rest = others;
                    }
                    drop(theirs);
                };
                let reading = async {
                    let read = read(&mut ours).await.unwrap();
                    let mut rest = String::new();
                    ours.read_to_string(&mut rest).await.unwrap();
                    (read, rest)
                };
                let ((read, rest), ()) = tokio::join!(reading, pieces);
                assert_eq!(read, header);
                assert_eq!(rest, "GET / HTTP/1.1\r\n");
            }
        }
    }
}

#[tokio::test]
async fn a_header_that_is_none_or_breaks_off_is_an_error() {
    for (bytes, kind) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], io::ErrorKind::InvalidData),
        (b"PROXY TCP4 192.0.2.1", io::ErrorKind::UnexpectedEof),
        (b"\r\n\r\n\0\r\nQUIT\n\x21", io::ErrorKind::UnexpectedEof),
        (b"", io::ErrorKind::UnexpectedEof),
    ] {
        let mut stream = bytes;
        assert_eq!(read(&mut stream).await.unwrap_err().kind(), kind);
    }
}
