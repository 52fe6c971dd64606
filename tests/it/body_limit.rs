//! The filter `body_limit`: how large bodies are, and how large they get.

use std::io::Write;

use edgeway_tests::{Answer, Broken, Echo, Gateway, PATIENCE, eventually};
use flate2::{Compression, write::GzEncoder};

fn gateway(echo: &Echo, limit: &str) -> Gateway {
    Gateway::start(&format!(
        "
        upstreams: {{ echo: {{ endpoints: [{echo}], max_fails: 0 }} }}
        routes:
          - filters:
              - body_limit: {limit}
            upstream: echo
        "
    ))
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn post(gateway: &Gateway, coding: &str, body: &[u8]) -> Answer {
    let request = gateway
        .request("POST", "/")
        .header("Content-Encoding", coding);
    request.body(body).send()
}

fn chunked(gateway: &Gateway, coding: &str, body: &[u8]) -> Result<Answer, Broken> {
    let request = gateway
        .request("POST", "/")
        .header("Content-Encoding", coding);
    request.chunks(body.chunks(1000)).attempt()
}

#[test]
fn a_body_that_says_it_is_too_large_never_reaches_the_upstream() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "{ max: 1KiB }");
    let answer = gateway.request("POST", "/").body(vec![b'x'; 1025]).send();
    assert_eq!(answer.status, 413);
    assert_eq!(answer.json()["detail"], "The body is too large.");
    assert_eq!(echo.stats().requests, 0);
    let answer = gateway.request("POST", "/").body(vec![b'x'; 1024]).send();
    assert_eq!(answer.json()["body_bytes"], 1024);
    assert_eq!(answer.received("content-length"), ["1024"]);
}

#[test]
fn a_body_that_does_not_say_it_is_refused_when_it_gets_too_large() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "{ max: 10KiB }");
    let answer = chunked(&gateway, "identity", &[b'x'; 10 << 10]).unwrap();
    assert_eq!(answer.json()["body_bytes"], 10 << 10);
    let refused = chunked(&gateway, "identity", &[b'x'; 200 << 10]);
    assert!(refused.is_err() || refused.is_ok_and(|answer| answer.status == 413));
    assert_eq!(
        gateway.request("POST", "/").body("small").send().status,
        200
    );
}

#[test]
fn a_packed_body_goes_on_as_it_came() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "{}");
    let body: Vec<u8> = (0..100_000_u32)
        .flat_map(|number| number.to_le_bytes())
        .collect();
    let packed = gzip(&body);
    let answer = post(&gateway, "gzip", &packed);
    assert_eq!(answer.json()["body_bytes"], packed.len());
    assert_eq!(
        answer.received("content-length"),
        [packed.len().to_string()]
    );
    assert_eq!(answer.received("content-encoding"), ["gzip"]);
}

/// A bomb: one in a thousand.
#[test]
fn a_body_that_unpacks_to_too_much_is_refused() {
    let echo = Echo::start();
    let bomb = gzip(&vec![0; 5 << 20]);
    for limit in [
        "{ decompressed: 1MiB, ratio: 10000 }",
        "{ decompressed: 100MiB, ratio: 50 }",
        "{}",
    ] {
        let gateway = gateway(&echo, limit);
        for attempt in [
            Ok(post(&gateway, "gzip", &bomb)),
            chunked(&gateway, "gzip", &bomb),
        ] {
            let answer = attempt.unwrap();
            assert_eq!(answer.status, 413, "{limit}");
            assert_eq!(
                answer.json()["detail"],
                "The body is too large when it is unpacked."
            );
        }
    }
    for limit in [
        "{ decompressed: 5MiB, ratio: 10000 }",
        "{ max: 1MiB, decompressed: off }",
    ] {
        let gateway = gateway(&echo, limit);
        assert_eq!(
            post(&gateway, "gzip", &bomb).json()["body_bytes"],
            bomb.len(),
            "{limit}"
        );
    }
}

#[test]
fn what_can_not_be_judged_is_refused_or_passes() {
    let echo = Echo::start();
    let strict = gateway(&echo, "{}");
    for coding in ["compress", "gzip, gzip"] {
        let answer = post(&strict, coding, b"x");
        assert_eq!(answer.status, 415, "{coding}");
        assert_eq!(
            answer.header("Accept-Encoding"),
            Some("gzip, deflate, br, zstd")
        );
    }
    assert_eq!(post(&strict, "gzip", b"this is no gzip at all").status, 400);
    assert_eq!(
        post(
            &strict,
            "gzip",
            &[gzip(b"x"), b"behind the end".to_vec()].concat()
        )
        .status,
        400
    );
    let get = strict
        .request("GET", "/")
        .header("Content-Encoding", "compress");
    assert_eq!(get.send().status, 200);
    let lenient = gateway(&echo, "{ unknown: pass }");
    assert_eq!(post(&lenient, "gzip, gzip", b"x").json()["body_bytes"], 1);
}

#[test]
fn what_is_only_reported_arrives_whole() {
    let echo = Echo::start();
    let bomb = gzip(&vec![0; 5 << 20]);
    let gateway = gateway(&echo, "{ ratio: 50 }\n                mode: report");
    let gateway_log = |gateway: &Gateway| gateway.log().contains("unpacks to more than");
    for _ in 0..2 {
        assert_eq!(
            post(&gateway, "gzip", &bomb).json()["body_bytes"],
            bomb.len()
        );
        let answer = chunked(&gateway, "gzip", &bomb).unwrap();
        assert_eq!(answer.json()["body_bytes"], bomb.len());
    }
    eventually(PATIENCE, || gateway_log(&gateway));
}
