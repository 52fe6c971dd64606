use std::io::Write;

use edgeway_sdk::{
    Exchange,
    test::{self, Outcome, Trial},
};
use flate2::{
    Compression,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};

use super::*;

fn of(json: &str) -> BodyLimit {
    test::build(json, build).unwrap()
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn zlib(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn bare(body: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn zstd(body: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(body, 19).unwrap()
}

/// Brotli without an encoder: the body in pieces that are not packed (RFC 7932, 9.2).
fn brotli(body: &[u8]) -> Vec<u8> {
    // A window of 64 KiB is one bit, 0.
    let mut bits = Bits::default();
    bits.put(0, 1);
    for piece in body.chunks(1 << 16) {
        bits.put(0, 1); // not the last one
        bits.put(0, 2); // four nibbles of length
        bits.put(piece.len() as u32 - 1, 16);
        bits.put(1, 1); // not packed
        bits.align();
        bits.bytes.extend_from_slice(piece);
    }
    bits.put(0b11, 2); // the last one, and empty
    bits.align();
    bits.bytes
}

/// Bits, the lowest first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        for bit in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let last = self.bytes.last_mut().unwrap();
            *last |= u8::try_from(value >> bit & 1).unwrap() << (self.used % 8);
            self.used += 1;
        }
    }

    fn align(&mut self) {
        self.used = 0;
    }
}

/// What becomes of a body that comes in pieces of this size: what was passed on, or the refusal.
fn pass(filter: &BodyLimit, coding: &str, body: &[u8], size: usize) -> Result<Vec<u8>, Box<Reply>> {
    let mut exchange = Exchange::new(([192, 0, 2, 1], 1).into());
    let request = http::Request::post("/").header("transfer-encoding", "chunked");
    let request = request.header("content-encoding", coding).body(()).unwrap();
    let (mut head, ()) = request.into_parts();
    let flow = {
        let mut request = Request::new(&mut head, &mut exchange);
        now(filter.request(&mut request)).unwrap()
    };
    if let Flow::Respond(reply) = flow {
        return Err(reply.into());
    }
    let mut passed = Vec::new();
    for piece in body.chunks(size) {
        for edit in &mut exchange.request_edits {
            let edited = edit.edit.edit(Bytes::copy_from_slice(piece), false);
            passed.extend_from_slice(&edited.map_err(|error| Box::new(error.into()))?);
        }
    }
    for edit in &mut exchange.request_edits {
        edit.edit
            .edit(Bytes::new(), true)
            .map_err(|error| Box::new(error.into()))?;
    }
    match exchange.request_edits.is_empty() {
        true => Ok(body.to_vec()),
        false => Ok(passed),
    }
}

/// What a future that does not wait becomes.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut task = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut task) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("the filter waits"),
    }
}

#[track_caller]
fn refused(passed: Result<Vec<u8>, Box<Reply>>) -> (u16, String) {
    let reply = passed.expect_err("it passed");
    (
        reply.status().as_u16(),
        reply.decided_by_rule().unwrap().to_owned(),
    )
}

fn packed(body: &[u8]) -> [(&'static str, Vec<u8>); 6] {
    [
        ("gzip", gzip(body)),
        ("x-gzip", gzip(body)),
        ("deflate", zlib(body)),
        ("Deflate", bare(body)),
        ("br", brotli(body)),
        ("zstd", zstd(body)),
    ]
}

#[test]
fn a_body_of_any_coding_passes_as_it_came_up_to_what_it_may_unpack_to() {
    let body: Vec<u8> = (0..100_000_u32)
        .map(|number| (number % 251) as u8)
        .collect();
    let fits = of(r#"{"decompressed": "100000", "ratio": 10000}"#);
    let exceeds = of(r#"{"decompressed": "99999", "ratio": 10000}"#);
    for (coding, packed) in packed(&body) {
        for size in [1, 7, 1000, 1 << 20] {
            let passed = pass(&fits, coding, &packed, size);
            assert_eq!(passed.unwrap(), packed, "{coding} {size}");
            let refusal = refused(pass(&exceeds, coding, &packed, size));
            assert_eq!(refusal, (413, "decompressed".to_owned()), "{coding} {size}");
        }
    }
}

#[test]
fn a_bomb_is_told_by_its_ratio() {
    let body = vec![0; 4 << 20];
    let strict = of(r#"{"ratio": 20}"#);
    let loose = of(r#"{"ratio": 100000}"#);
    for (coding, packed) in packed(&body) {
        if coding == "br" {
            continue;
        }
        let refusal = refused(pass(&strict, coding, &packed, 4096));
        assert_eq!(refusal, (413, "ratio".to_owned()), "{coding}");
        assert!(pass(&loose, coding, &packed, 4096).is_ok(), "{coding}");
        // A hundred times is what is allowed if nothing is said.
        assert!(pass(&of("{}"), coding, &packed, 4096).is_err(), "{coding}");
    }
    // What is small may be dense.
    let small = gzip(&vec![0; 60_000]);
    assert!(pass(&of(r#"{"ratio": 1}"#), "gzip", &small, 4096).is_ok());
}

#[test]
fn a_bomb_of_bombs_is_stopped_without_unpacking_it_all() {
    let one = gzip(&vec![0; 8 << 20]);
    // Many members, one after the other.
    let many: Vec<u8> = one.iter().copied().cycle().take(one.len() * 40).collect();
    let filter = of(r#"{"ratio": 2000, "decompressed": "20MiB"}"#);
    let refusal = refused(pass(&filter, "gzip", &many, many.len()));
    assert_eq!(refusal, (413, "decompressed".to_owned()));
    let frames: Vec<u8> = [zstd(&vec![0; 8 << 20]), zstd(&vec![0; 8 << 20])].concat();
    let filter = of(r#"{"ratio": 100000, "decompressed": "12MiB"}"#);
    assert!(pass(&filter, "zstd", &frames, 100).is_err());
}

#[test]
fn what_breaks_the_rules_of_its_coding_is_400() {
    let filter = of("{}");
    for (coding, packed) in packed(b"hello, hello, hello, hello, hello") {
        let mut broken = packed.clone();
        let refusal = pass(
            &filter,
            coding,
            b"\x1f\x8b\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            4096,
        );
        assert_eq!(refused(refusal), (400, "broken".to_owned()), "{coding}");
        broken.extend_from_slice(b"behind the end");
        for size in [1, 4096] {
            let refusal = refused(pass(&filter, coding, &broken, size));
            assert_eq!(refusal, (400, "broken".to_owned()), "{coding} {size}");
        }
    }
}

#[test]
fn a_window_that_is_larger_than_bodies_may_have_is_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(25).unwrap();
    encoder.include_contentsize(false).unwrap();
    encoder.write_all(b"hello").unwrap();
    let body = encoder.finish().unwrap();
    let refusal = refused(pass(&of("{}"), "zstd", &body, 4096));
    assert_eq!(refusal, (400, "broken".to_owned()));
}

#[test]
fn a_coding_that_is_not_known_is_415_or_passes() {
    let filter = of("{}");
    for coding in [
        "compress",
        "gzip, gzip",
        "gzip, br",
        "zstd , identity, x",
        "dcb",
        "*",
    ] {
        let reply = pass(&filter, coding, b"x", 1).unwrap_err();
        assert_eq!(reply.status(), 415, "{coding}");
        assert_eq!(
            reply.headers()[header::ACCEPT_ENCODING],
            "gzip, deflate, br, zstd"
        );
        assert!(pass(&of(r#"{"unknown": "pass"}"#), coding, b"x", 1).is_ok());
    }
    for coding in ["identity", "", "identity, IDENTITY"] {
        assert!(pass(&filter, coding, b"x", 1).is_ok(), "{coding}");
    }
    // The brackets of several lines are no way around.
    assert!(pass(&filter, "identity, GZIP", &gzip(b"x"), 1).is_ok());
    assert!(pass(&filter, "identity, GZIP", b"this is no gzip", 1).is_err());
    let off = of(r#"{"max": "100", "decompressed": "off"}"#);
    assert!(pass(&off, "compress", b"x", 1).is_ok());
    assert!(pass(&off, "gzip", b"this is no gzip", 1).is_ok());
}

async fn told(filter: &BodyLimit, length: &str) -> Outcome {
    let trial = Trial::new(Method::POST, "/").header("content-length", length);
    trial.body("x").run(filter).await
}

#[tokio::test]
async fn a_body_that_says_it_is_too_large_is_refused_before_it_is_read() {
    let filter = of(r#"{"max": "1KiB"}"#);
    let refused = told(&filter, "1025").await;
    assert_eq!(refused.status(), 413);
    assert_eq!(refused.reply.unwrap().decided_by_rule(), Some("max"));
    let passed = told(&filter, "1024").await;
    assert!(passed.passed() && passed.exchange.request_edits.is_empty());
}

#[test]
fn a_body_that_does_not_say_how_large_it_is_is_counted() {
    let filter = of(r#"{"max": "1000"}"#);
    assert!(pass(&filter, "identity", &[0; 1000], 99).is_ok());
    assert_eq!(
        refused(pass(&filter, "identity", &[0; 1001], 99)),
        (413, "max".to_owned())
    );
    // What is packed is counted as it comes.
    let body: Vec<u8> = (0..2000_u32)
        .map(|number| (number * 7919 % 256) as u8)
        .collect();
    let packed = gzip(&body);
    let all = of(&format!(r#"{{"max": "{}"}}"#, packed.len()));
    assert!(pass(&all, "gzip", &packed, 100).is_ok());
    let less = of(&format!(r#"{{"max": "{}"}}"#, packed.len() - 1));
    assert_eq!(
        refused(pass(&less, "gzip", &packed, 100)),
        (413, "max".to_owned())
    );
}

#[test]
fn the_piece_that_was_refused_can_go_on_if_it_is_only_reported() {
    let unpacking = Unpacking::new(Coding::Gzip).unwrap();
    let limits = Limits {
        size: 10,
        ratio: 100,
    };
    let mut edit = Watched {
        max: None,
        received: 0,
        unpacking: Some((limits, unpacking)),
        held: Bytes::new(),
    };
    assert!(edit.keeps_length());
    let body = Bytes::from(gzip(&[0; 1000]));
    let first = body.slice(..10);
    assert_eq!(edit.edit(first.clone(), false).unwrap(), first);
    assert!(edit.edit(body.slice(10..), true).is_err());
    assert_eq!(edit.held(), body.slice(10..));
}

#[tokio::test]
async fn a_request_without_a_body_may_say_what_it_likes() {
    let trial = Trial::get("/").header("content-encoding", "compress");
    let outcome = trial.run(&of(r#"{"max": "1"}"#)).await;
    assert!(outcome.passed() && outcome.exchange.request_edits.is_empty());
}

#[test]
fn what_has_no_effect_is_refused_at_its_key() {
    for (json, key) in [
        (r#"{"decompressed": "off"}"#, "decompressed"),
        (
            r#"{"decompressed": "off", "max": "1", "ratio": 10}"#,
            "ratio",
        ),
        (
            r#"{"decompressed": "off", "max": "1", "unknown": "pass"}"#,
            "unknown",
        ),
    ] {
        let error = test::build(json, build).err().expect(json);
        assert_eq!(error.key.as_deref(), Some(key), "{json}");
    }
    for json in [
        r#"{"ratio": 0}"#,
        r#"{"ratio": "10"}"#,
        r#"{"decompressed": "large"}"#,
        r#"{"unknown": "drop"}"#,
        r#"{"max": "1Mi"}"#,
    ] {
        assert!(serde_json::from_str::<Config>(json).is_err(), "{json}");
    }
}
