//! The filter `bandwidth`: how fast bodies go out.

use std::time::{Duration, Instant};

use edgeway_tests::{Echo, Gateway, Http2};

fn gateway(echo: &Echo, bandwidth: &str) -> Gateway {
    Gateway::start(&format!(
        "
        upstreams: {{ echo: {{ endpoints: [{echo}] }} }}
        routes:
          - match: {{ path: /slow }}
            filters: [bandwidth: {{ {bandwidth} }}]
            upstream: echo
          - match: {{ path: /fixed }}
            filters: [bandwidth: {{ {bandwidth} }}]
            respond: {{ text: '{text}' }}
          - upstream: echo
        ",
        text = "x".repeat(60_000),
    ))
}

/// How long a body of so many bytes takes.
fn time(gateway: &Gateway, target: &str, bytes: usize) -> Duration {
    let start = Instant::now();
    assert_eq!(gateway.get(target).body.len(), bytes);
    start.elapsed()
}

#[test]
fn a_body_does_not_go_out_faster_than_is_said() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "rate: 100kB/s");
    // What is sent first is sent at once: a tenth of a second's bytes.
    let least = Duration::from_millis(400);
    for target in ["/slow?size=60000", "/slow?size=60000&chunked=1", "/fixed"] {
        let taken = time(&gateway, target, 60_000);
        assert!(taken >= least, "{target} took {taken:?}");
    }
}

#[test]
fn the_first_bytes_go_out_as_fast_as_they_can() {
    let echo = Echo::start();
    // What is behind them would take 100 seconds.
    let gateway = gateway(&echo, "rate: 60kB/min, after: 100kB");
    assert!(time(&gateway, "/slow?size=100000", 100_000) < Duration::from_secs(15));
    let mut connection = gateway.connect();
    connection.send("GET /slow?size=200000 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(connection.head().status, 200);
    assert_eq!(connection.read(100_000).unwrap().len(), 100_000);
    let start = Instant::now();
    assert_eq!(connection.read(3_000).unwrap().len(), 3_000);
    let taken = start.elapsed();
    assert!(
        taken >= Duration::from_millis(1_500),
        "the rest came as fast: {taken:?}"
    );
}

#[test]
fn a_slow_response_holds_no_other_up() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "rate: 1kB/s");
    let mut slow = gateway.connect();
    slow.send("GET /slow?size=100000 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(slow.head().status, 200);
    for _ in 0..20 {
        assert!(time(&gateway, "/other?size=100000", 100_000) < Duration::from_secs(5));
    }
}

#[test]
fn a_reply_of_the_gateway_comes_whole_however_slowly() {
    let gateway = Gateway::setup(
        "
        requests: { write_timeout: 1s }
        routes:
          - filters: [bandwidth: { rate: 100kB/s }]
            respond: { file: large.txt }
        ",
    );
    let gateway = gateway.file("large.txt", vec![b'x'; 250_000]).start();
    assert!(time(&gateway, "/", 250_000) >= Duration::from_secs(2));
}

#[test]
fn a_body_is_slowed_down_over_http2_as_well() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "rate: 100kB/s");
    let http2 = Http2::open(gateway.address());
    for target in ["/slow?size=150000", "/fixed"] {
        let start = Instant::now();
        let answer = http2.get(target);
        assert_eq!(answer.status, 200);
        let (bytes, taken) = (answer.body.len(), start.elapsed());
        // The last piece goes at once.
        let least = bytes.saturating_sub(64 * 1024) as u64 / 100;
        let least = Duration::from_millis(least.max(if target == "/fixed" { 400 } else { 0 }));
        assert!(taken >= least, "{target}: {bytes} bytes took {taken:?}");
    }
}
