//! What is tried again, how often, and what never is.

use std::time::{Duration, Instant};

use edgeway_tests::{Break, Endpoint, Gateway, PATIENCE, Reaction, Upstream, eventually, load};
use serde_json::{Value, json};

/// A gateway with one upstream, which every request goes to, and an access log.
fn gateway(upstream: &str) -> Gateway {
    Gateway::start(&configuration(upstream, ""))
}

fn configuration(upstream: &str, route: &str) -> String {
    format!(
        "upstreams: {{ pool: {{ {upstream} }} }}\n\
         filters: [access_log]\n\
         routes: [{{ upstream: pool {route} }}]\n"
    )
}

/// An endpoint that reads requests and closes.
fn breaking(name: &str) -> Endpoint {
    doing(name, Break::BeforeAnswer)
}

fn hanging(name: &str) -> Endpoint {
    doing(name, Break::Hang)
}

fn doing(name: &str, how: Break) -> Endpoint {
    let endpoint = Endpoint::start(name);
    endpoint.breaks(how);
    endpoint
}

fn failing(name: &str, status: u16) -> Endpoint {
    let endpoint = Endpoint::start(name);
    endpoint.status(status);
    endpoint
}

/// Every byte there is, so long that it does not end where a buffer does.
fn bytes(size: usize) -> Vec<u8> {
    (0..=u8::MAX)
        .cycle()
        .map(|byte| byte.wrapping_mul(7))
        .take(size)
        .collect()
}

/// The entry of the access log that contains a text.
fn entry(gateway: &Gateway, text: &str) -> Value {
    serde_json::from_str(&gateway.wait_for_output(text)).unwrap()
}

fn took(action: impl FnOnce()) -> Duration {
    let start = Instant::now();
    action();
    start.elapsed()
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

// ---- conditions -------------------------------------------------------------------------------

#[test]
fn a_request_is_tried_again_for_what_is_named_and_nothing_else() {
    let (refusing, good) = (Upstream::refusing(), Endpoint::start("good"));
    let (closing, hanging, ill) = (breaking("closing"), hanging("hanging"), failing("ill", 503));
    let failures = [
        (refusing.to_string(), "connect", 502),
        (closing.to_string(), "reset", 502),
        (hanging.to_string(), "timeout", 504),
        (ill.to_string(), "503", 503),
    ];
    let conditions = [
        "",
        "connect",
        "reset",
        "timeout",
        "503",
        "500-599",
        "504",
        "200-502",
        "connect, reset, timeout, 503",
    ];
    let cases: Vec<_> = (0..conditions.len())
        .flat_map(|on| (0..failures.len()).map(move |failure| (on, failure)))
        .collect();
    let name = |(on, failure): (usize, usize)| format!("u{on}x{failure}");
    let mut yaml = "upstreams:\n".to_owned();
    for case in &cases {
        yaml += &format!(
            "  {}: {{ endpoints: [{}, {good}], max_fails: 0, timeouts: {{ read: 150ms }}, retries: {{ on: [{}] }} }}\n",
            name(*case),
            failures[case.1].0,
            conditions[case.0],
        );
    }
    yaml += "routes:\n";
    for case in &cases {
        let name = name(*case);
        yaml += &format!("  - {{ match: {{ path: {{ exact: /{name} }} }}, upstream: {name} }}\n");
    }
    let gateway = Gateway::start(&yaml);
    for case in cases {
        let ((_, kind, status), on) = (&failures[case.1], conditions[case.0]);
        let named = on.contains(kind) || (*kind == "503" && on == "500-599");
        let path = format!("/{}", name(case));
        let answer = gateway.get(&path);
        let wanted = if named { 200 } else { *status };
        assert_eq!(answer.status, wanted, "{kind} with `on: [{on}]`");
        assert_eq!(
            good.requests_to(&path),
            usize::from(named),
            "{kind} with `on: [{on}]`"
        );
    }
}

#[test]
fn what_can_not_be_meant_is_refused() {
    let wrong = [
        ("tries: 0", "tries"),
        ("tries: -1", "tries"),
        ("on: [refused]", "refused"),
        ("on: [99]", "99"),
        ("on: [600]", "600"),
        ("on: [504-502]", "504-502"),
        ("on: connect", "on"),
        ("timeout: soon", "soon"),
        ("timeout: 0s", "from `1ms` to `1d`"),
        ("backoff: 2d", "from `0s` to `1d`"),
        ("max_backoff: 10000000000000000000s", "from `0s` to `1d`"),
        ("backoff: -1s", "-1s"),
        ("max_backoff: 5", "max_backoff"),
        ("budget: 101%", "101%"),
        ("budget: 20", "budget"),
        ("min_per_second: -1", "min_per_second"),
        ("max_tries: 3", "max_tries"),
    ];
    for (retries, named) in wrong {
        let yaml = configuration(
            &format!("endpoints: [127.0.0.1:1], retries: {{ {retries} }}"),
            "",
        );
        let said = Gateway::refused(&yaml);
        assert!(
            said.contains(named) && said.contains("edgeway.yaml:1"),
            "{retries}: {said}"
        );
    }
    let text = Gateway::refused("routes: [{ respond: { text: x }, retry_unsafe: true }]");
    assert!(text.contains("retry_unsafe"), "{text}");
}

// ---- which endpoint ---------------------------------------------------------------------------

#[test]
fn no_endpoint_is_asked_twice_while_another_is_left() {
    for balance in [
        "round_robin",
        "least_connections",
        "least_time",
        "random_two",
        "ip_hash",
        "{ hash: '{path}' }",
    ] {
        let bad = ["a", "b", "c"].map(breaking);
        let good = Endpoint::start("good");
        let [a, b, c] = &bad;
        let gateway = gateway(&format!(
            "endpoints: [{a}, {b}, {c}, {good}], balance: {balance}, max_fails: 0, retries: {{ tries: 9 }}"
        ));
        for request in 1..=8 {
            let before = bad.each_ref().map(Endpoint::requests);
            assert_eq!(gateway.get("/").status, 200, "{balance}");
            assert_eq!(good.requests(), request, "{balance}");
            for (bad, before) in bad.iter().zip(before) {
                assert!(
                    bad.requests() <= before + 1,
                    "{balance}: {}",
                    bad.requests()
                );
            }
        }
    }
}

#[test]
fn a_request_ends_when_every_endpoint_has_failed_it_once() {
    let bad = ["a", "b", "c"].map(breaking);
    let [a, b, c] = &bad;
    let gateway = gateway(&format!(
        "endpoints: [{a}, {b}, {c}], max_fails: 0, retries: {{ tries: 9 }}"
    ));
    assert_eq!(gateway.get("/").status, 502);
    assert_eq!(bad.each_ref().map(Endpoint::requests), [1, 1, 1]);
    assert_eq!(entry(&gateway, "502")["attempts"], 3);
}

/// A second request to the only one that may be asked would be the same one again.
#[test]
fn an_answer_is_passed_on_when_nobody_else_may_be_asked() {
    for (other, ejection) in [
        ("state: maintenance", ""),
        ("state: drain", ""),
        ("state: maintenance", ", ejection: { last_resort: false }"),
    ] {
        let (ill, spare) = (failing("ill", 503), Endpoint::start("spare"));
        let gateway = gateway(&format!(
            "endpoints: [{ill}, {{ address: {spare}, {other} }}], max_fails: 0, retries: {{ on: [503] }} {ejection}"
        ));
        let answer = gateway.get("/");
        assert_eq!(answer.status, 503, "{other}");
        assert_eq!(
            answer.header("X-Endpoint"),
            Some("ill"),
            "{other} {ejection}"
        );
        assert_eq!(
            (ill.requests(), spare.requests()),
            (1, 0),
            "{other} {ejection}"
        );
    }
}

#[test]
fn an_answer_is_passed_on_when_all_others_are_left_out_and_must_not_be_asked() {
    let (ill, bad) = (failing("ill", 503), breaking("bad"));
    let gateway = gateway(&format!(
        "endpoints: [{bad}, {ill}], fail_timeout: 1h, retries: {{ on: [reset, 503] }}, ejection: {{ last_resort: false }}"
    ));
    for _ in 0..3 {
        let answer = gateway.get("/");
        assert_eq!(
            (answer.status, answer.header("X-Endpoint")),
            (503, Some("ill")),
            "{}",
            answer.text()
        );
    }
    assert_eq!((ill.requests(), bad.requests()), (3, 1));
}

/// The other endpoint could serve, but has as many requests as it may.
#[test]
fn an_answer_is_better_than_a_word_that_all_others_are_busy() {
    let (ill, busy) = (failing("ill", 503), Endpoint::start("busy"));
    busy.slow(ms(1500));
    let gateway = gateway(&format!(
        "endpoints: [{{ address: {busy}, max_connections: 1 }}, {ill}], max_fails: 0, retries: {{ on: [503] }}"
    ));
    let mut first = gateway.connect();
    first.send("GET /first HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually(PATIENCE, || busy.in_flight() == 1);
    let answer = gateway.get("/second");
    assert_eq!(
        (answer.status, answer.header("X-Endpoint")),
        (503, Some("ill")),
        "{}",
        answer.text()
    );
    assert_eq!(first.answer().status, 200);
}

// ---- time -------------------------------------------------------------------------------------

#[test]
fn an_endpoint_that_hangs_is_given_up_after_the_time_of_a_try() {
    let (stuck, good) = (hanging("stuck"), Endpoint::start("good"));
    let gateway = gateway(&format!(
        "endpoints: [{stuck}, {good}], max_fails: 0, retries: {{ timeout: 300ms }}"
    ));
    for _ in 0..2 {
        let time = took(|| assert_eq!(gateway.get("/").status, 200));
        assert!(time >= ms(290) && time < ms(3000), "{time:?}");
    }
    assert_eq!((stuck.requests(), good.requests()), (2, 2));
    assert_eq!(stuck.in_flight(), 0, "what was given up is ended");
}

/// Over HTTP/2 other requests use the same connection.
#[test]
fn a_try_that_is_given_up_over_http2_takes_no_other_request_along() {
    let answers = |request: &edgeway_tests::Received| match request.path.as_str() {
        "/stuck" => Reaction::hang(),
        _ => Reaction::json(&json!({})).pieces(["one", "two", "three"], ms(250)),
    };
    let stuck = Endpoint::setup("stuck").h2c().answers(answers).start();
    let good = Endpoint::h2c("good");
    let gateway = gateway(&format!(
        "endpoints: [{stuck}, {good}], max_fails: 0, protocol: http2, retries: {{ timeout: 400ms }}"
    ));
    let mut slow = gateway.connect();
    slow.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually(PATIENCE, || stuck.requests() == 1);
    // The turn of the other.
    assert_eq!(gateway.get("/").header("X-Endpoint"), Some("good"));
    let time = took(|| assert_eq!(gateway.get("/stuck").header("X-Endpoint"), Some("good")));
    assert!(time >= ms(390) && time < ms(3000), "{time:?}");
    assert!(slow.answer().text().ends_with("onetwothree"));
    assert_eq!(stuck.requests(), 2);
}

#[test]
fn the_time_of_a_try_counts_while_it_connects_whatever_is_tried_again() {
    for on in ["connect, reset", "timeout", ""] {
        let (nowhere, good) = (Upstream::unreachable(), Endpoint::start("good"));
        let gateway = gateway(&format!(
            "endpoints: [{nowhere}, {good}], max_fails: 0, retries: {{ timeout: 300ms, on: [{on}] }}"
        ));
        let time = took(|| assert_eq!(gateway.get("/").status, 200, "on: [{on}]"));
        assert!(time >= ms(290) && time < ms(3000), "{time:?}");
    }
}

#[test]
fn each_try_has_its_own_time() {
    let stuck = ["a", "b", "c"].map(hanging);
    let [a, b, c] = &stuck;
    let gateway = gateway(&format!(
        "endpoints: [{a}, {b}, {c}], max_fails: 0, retries: {{ timeout: 200ms }}"
    ));
    let time = took(|| assert_eq!(gateway.get("/").status, 504));
    assert!(time >= ms(590) && time < ms(4000), "{time:?}");
    assert_eq!(stuck.each_ref().map(Endpoint::requests), [1, 1, 1]);
}

/// The head has come in time; how long the body takes is no matter of retries.
#[test]
fn the_time_of_a_try_ends_with_the_head_of_its_answer() {
    let slow = Endpoint::setup("slow")
        .answers(|_| Reaction::status(200).pieces(["a", "b", "c", "d"], ms(200)))
        .start();
    let gateway = gateway(&format!(
        "endpoints: [{slow}], retries: {{ timeout: 250ms }}"
    ));
    assert_eq!(gateway.get("/").text(), "abcd");
}

#[test]
fn pauses_between_tries_double() {
    let bad = ["a", "b", "c"].map(breaking);
    let (good, [a, b, c]) = (Endpoint::start("good"), &bad);
    let gateway = gateway(&format!(
        "endpoints: [{a}, {b}, {c}, {good}], max_fails: 0, retries: {{ tries: 4, backoff: 200ms }}"
    ));
    // At least a half of 200, 400 and 800 ms, at most all of it.
    let time = took(|| assert_eq!(gateway.get("/").status, 200));
    assert!(time >= ms(690) && time < ms(4200), "{time:?}");
}

#[test]
fn no_pause_between_tries_is_longer_than_the_longest() {
    let bad = ["a", "b", "c"].map(breaking);
    let (good, [a, b, c]) = (Endpoint::start("good"), &bad);
    let gateway = gateway(&format!(
        "endpoints: [{a}, {b}, {c}, {good}], max_fails: 0, retries: {{ tries: 4, backoff: 1h, max_backoff: 150ms }}"
    ));
    let time = took(|| assert_eq!(gateway.get("/").status, 200));
    assert!(time >= ms(215) && time < ms(4000), "{time:?}");
}

#[test]
fn pauses_differ_so_that_what_failed_together_does_not_come_again_together() {
    let (bad, good) = (breaking("bad"), Endpoint::start("good"));
    let gateway = gateway(&format!(
        "endpoints: [{bad}, {{ address: {good}, backup: true }}], max_fails: 0, retries: {{ backoff: 200ms }}"
    ));
    let mut times: Vec<_> = (0..8)
        .map(|_| took(|| assert_eq!(gateway.get("/").status, 200)))
        .collect();
    times.sort_unstable();
    assert!(times[0] >= ms(95), "{times:?}");
    assert!(times[7] - times[0] > ms(5), "{times:?}");
}

/// A place at an endpoint is not kept during a pause, nor for a client that has gone.
#[test]
fn a_client_that_leaves_in_a_pause_leaves_no_trace() {
    let (bad, good) = (Endpoint::start("bad"), Endpoint::start("good"));
    bad.breaks_next(1, Break::BeforeAnswer);
    let gateway = gateway(&format!(
        "endpoints: [{bad}, {good}], max_connections: 1, max_fails: 0, retries: {{ backoff: 600ms }}"
    ));
    let mut leaving = gateway.connect();
    leaving.send("GET /left HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually(PATIENCE, || bad.requests() == 1);
    drop(leaving);
    // Both are free while the pause lasts.
    for _ in 0..4 {
        assert_eq!(gateway.get("/").status, 200);
    }
    gateway.wait_for_output("/left");
    for _ in 0..4 {
        assert_eq!(gateway.get("/").status, 200);
    }
    assert_eq!(bad.in_flight() + good.in_flight(), 0);
}

// ---- how many ---------------------------------------------------------------------------------

/// How many requests arrive at two endpoints that fail, when so many are sent.
fn arrived(retries: &str, requests: usize) -> usize {
    let (one, two) = (failing("one", 503), failing("two", 503));
    let gateway = gateway(&format!(
        "endpoints: [{one}, {two}], retries: {{ on: [503], {retries} }}"
    ));
    let mut connection = gateway.connect();
    for _ in 0..requests {
        assert_eq!(connection.get("/").status, 503);
    }
    one.requests() + two.requests()
}

#[test]
fn an_outage_is_multiplied_by_no_more_than_the_budget() {
    // Of the first 100 requests within ten seconds 20 pay for a retry.
    let share = arrived("budget: 20%, min_per_second: 0", 100);
    assert!((118..=121).contains(&share), "{share}");
    let few = arrived("budget: 0%, min_per_second: 2", 100);
    assert!((118..=124).contains(&few), "{few}");
    assert_eq!(arrived("budget: 0%, min_per_second: 0", 20), 20);
    let all = arrived("budget: 100%, min_per_second: 0", 50);
    assert!((99..=100).contains(&all), "{all}");
}

#[test]
fn a_reload_grants_no_fresh_budget() {
    let (one, two) = (failing("one", 503), failing("two", 503));
    let yaml = |more: &str| {
        configuration(
            &format!(
                "endpoints: [{one}, {two}], retries: {{ on: [503], budget: 0%, min_per_second: 1 {more} }}"
            ),
            "",
        )
    };
    let gateway = Gateway::start(&yaml(""));
    for _ in 0..15 {
        gateway.get("/");
    }
    assert_eq!(one.requests() + two.requests(), 25);
    assert!(gateway.reload(&yaml(", backoff: 1ms")));
    for _ in 0..5 {
        gateway.get("/");
    }
    let asked = one.requests() + two.requests();
    // A second may have gone by, and brought one back.
    assert!((30..=33).contains(&asked), "{asked}");
}

// ---- which requests ---------------------------------------------------------------------------

#[test]
fn an_unsafe_request_is_repeated_only_if_its_route_says_so() {
    let kinds = [
        ("reset", 502, doing("reset", Break::BeforeAnswer)),
        ("timeout", 504, doing("timeout", Break::Hang)),
        ("status", 503, failing("status", 503)),
    ];
    for (kind, status, bad) in kinds {
        let good = Endpoint::start("good");
        let gateway = Gateway::start(&format!(
            "
            upstreams:
              careful: {{ endpoints: [{bad}, {good}], max_fails: 0, retries: {{ on: [reset, 503], timeout: 200ms }} }}
              bold: {{ endpoints: [{bad}, {good}], max_fails: 0, retries: {{ on: [reset, 503], timeout: 200ms }} }}
            routes:
              - {{ match: {{ path: /careful }}, upstream: careful }}
              - {{ match: {{ path: /bold }}, upstream: bold, retry_unsafe: true }}
            "
        ));
        let careful = gateway.request("POST", "/careful").body("order").send();
        assert_eq!(careful.status, status, "{kind}");
        assert_eq!(good.requests(), 0, "{kind}");
        let bold = gateway.request("POST", "/bold").body("order").send();
        assert_eq!(
            (bold.status, &bold.json()["body"]),
            (200, &json!("order")),
            "{kind}"
        );
        let patch = gateway.request("PATCH", "/careful").body("order").send();
        assert_eq!(patch.status, 200, "{kind}: the turn of the other");
        let patch = gateway.request("PATCH", "/careful").body("order").send();
        assert_eq!(patch.status, status, "{kind}");
        let others = ["PUT", "DELETE", "OPTIONS", "HEAD"];
        for method in others {
            for _ in 0..2 {
                assert_eq!(
                    gateway.request(method, "/careful").send().status,
                    200,
                    "{kind}: {method}"
                );
            }
        }
    }
}

#[test]
fn a_head_that_was_tried_again_has_no_body_and_keeps_its_connection() {
    let (ill, good) = (failing("ill", 503), Endpoint::start("good"));
    let gateway = gateway(&format!(
        "endpoints: [{ill}, {good}], max_fails: 0, retries: {{ on: [503] }}"
    ));
    let mut connection = gateway.connect();
    for _ in 0..3 {
        let answer = connection.request("HEAD", "/").send();
        assert_eq!(
            (answer.status, answer.body.len(), answer.reusable),
            (200, 0, true)
        );
        assert_eq!(connection.get("/").header("X-Endpoint"), Some("good"));
    }
}

// ---- bodies -----------------------------------------------------------------------------------

#[test]
fn a_body_of_up_to_64_kib_is_sent_again_byte_by_byte() {
    for how in ["reset", "status", "timeout"] {
        let bad = match how {
            "reset" => breaking("bad"),
            "status" => failing("bad", 503),
            _ => hanging("bad"),
        };
        let good = Endpoint::start("good");
        let gateway = gateway(&format!(
            "endpoints: [{bad}, {{ address: {good}, backup: true }}], max_fails: 0, retries: {{ on: [reset, 503], timeout: 300ms }}"
        ));
        let sizes = [0, 1, 4096, 65_535, 65_536];
        // Each takes the time of a try.
        let sizes = if how == "timeout" {
            &sizes[4..]
        } else {
            &sizes
        };
        for (round, size) in sizes.iter().copied().enumerate() {
            for chunked in [false, true] {
                let body = bytes(size);
                let request = gateway.request("PUT", &format!("/{round}"));
                let request = if chunked {
                    request.chunks(body.chunks(9_999))
                } else {
                    request.body(body.clone())
                };
                assert_eq!(request.send().status, 200, "{how}: {size}");
                let last = good.received().pop().unwrap();
                assert!(
                    last.body == body,
                    "{how}: {size}: {} bytes",
                    last.body.len()
                );
                assert_eq!(
                    last.header_all("content-length").len(),
                    usize::from(!chunked),
                    "{how}: {size}"
                );
                assert!(bad.received().pop().unwrap().body == body, "{how}: {size}");
            }
        }
        let sent = 2 * sizes.len();
        assert_eq!((bad.requests(), good.requests()), (sent, sent), "{how}");
    }
}

#[test]
fn a_body_of_more_than_64_kib_is_never_sent_again_and_never_cut_short() {
    for (how, status) in [("reset", 502), ("status", 503), ("timeout", 504)] {
        let bad = match how {
            "reset" => breaking("bad"),
            "status" => failing("bad", 503),
            _ => hanging("bad"),
        };
        let good = Endpoint::start("good");
        let gateway = gateway(&format!(
            "endpoints: [{bad}, {{ address: {good}, backup: true }}], max_fails: 0, retries: {{ on: [reset, timeout, 503], timeout: 300ms }}"
        ));
        for size in [65_537, 300_000] {
            let body = bytes(size);
            let answer = gateway.request("PUT", "/").body(body.clone()).send();
            assert_eq!(answer.status, status, "{how}: {size}");
            let answer = gateway
                .request("PUT", "/")
                .chunks(body.chunks(20_000))
                .send();
            assert_eq!(answer.status, status, "{how}: {size}");
            assert!(
                bad.received()
                    .iter()
                    .rev()
                    .take(2)
                    .all(|request| request.body == body)
            );
        }
        assert_eq!((bad.requests(), good.requests()), (4, 0), "{how}");
    }
}

/// The first endpoint refuses at the head, when the body has hardly begun.
#[test]
fn a_body_that_is_still_under_way_is_whole_at_the_next_endpoint_after_a_status() {
    let hasty = Upstream::raw(|mut caller| {
        caller.head();
        caller.send("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\nX-Hasty: 1\r\n\r\nbusy");
        caller.wait_for_close();
    });
    let good = Endpoint::start("good");
    for size in [50_000, 200_000] {
        let gateway = gateway(&format!(
            "endpoints: [{hasty}, {good}], max_fails: 0, retries: {{ on: [503] }}"
        ));
        let before = good.connections();
        let body = bytes(size);
        let mut connection = gateway.connect();
        connection.send(format!(
            "PUT /{size} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
        ));
        connection.send(&body[..1000]);
        eventually(PATIENCE, || good.connections() > before);
        connection.send(&body[1000..]);
        let answer = connection.answer();
        assert_eq!(
            (answer.status, answer.header("X-Hasty")),
            (200, None),
            "{size}"
        );
        assert!(good.received().pop().unwrap().body == body, "{size}");
    }
}

/// At the first failure it can be sent again, at the second no longer.
#[test]
fn a_body_that_outgrows_the_buffer_between_two_failures_is_not_cut_short() {
    let first = Upstream::raw(|mut caller| {
        caller.head();
        caller.body(1000);
    });
    let second = Upstream::raw(|mut caller| {
        caller.head();
        caller.body(150_000);
    });
    let good = Endpoint::start("good");
    let gateway = gateway(&format!(
        "endpoints: [{first}, {second}, {good}], max_fails: 0"
    ));
    let body = bytes(200_000);
    let mut connection = gateway.connect();
    connection.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n");
    connection.send(&body[..1000]);
    eventually(PATIENCE, || second.heads().len() == 1);
    // The gateway may close before all is sent.
    connection.write(&body[1000..]).ok();
    if let Ok(answer) = connection.try_answer() {
        assert_eq!(answer.status, 502);
    }
    assert_eq!(good.requests(), 0);
}

// ---- what the client sees ---------------------------------------------------------------------

#[test]
fn the_last_answer_is_passed_on_as_it_is() {
    let teapot = |name: &'static str| {
        Endpoint::setup(name)
            .answers(move |_| {
                Reaction::status(503)
                    .header("Retry-After", "7")
                    .header("X-Why", name)
                    .body(name)
            })
            .start()
    };
    let (one, two) = (teapot("one"), teapot("two"));
    let gateway = gateway(&format!(
        "endpoints: [{one}, {two}], retries: {{ on: [500-599] }}"
    ));
    let answer = gateway.get("/");
    assert_eq!((answer.status, answer.text()), (503, "two"));
    assert_eq!(answer.header_all("X-Why"), ["two"]);
    assert_eq!(answer.header("Retry-After"), Some("7"));
    assert_eq!((one.requests(), two.requests()), (1, 1));
    let entry = entry(&gateway, "503");
    assert_eq!(
        (&entry["attempts"], &entry["endpoint"]),
        (&json!(2), &json!(two.to_string()))
    );
    assert_eq!(entry["origin"], "upstream");
}

#[test]
fn nothing_of_an_answer_that_was_not_wanted_is_in_the_one_that_was() {
    let first = Endpoint::setup("first")
        .answers(|_| {
            Reaction::status(503)
                .header("Set-Cookie", "who=first")
                .header("X-First", "1")
                .header("Content-Type", "text/first")
                .header("Cache-Control", "max-age=99")
                .pieces(["a long", " story"], ms(50))
        })
        .start();
    let second = Endpoint::setup("second")
        .answers(|_| Reaction::status(200).header("X-Second", "2").body("good"))
        .start();
    let gateway = gateway(&format!(
        "endpoints: [{first}, {second}], retries: {{ on: [503] }}"
    ));
    let answer = gateway.get("/");
    assert_eq!((answer.status, answer.text()), (200, "good"));
    let mut names: Vec<_> = answer
        .headers
        .iter()
        .map(|(name, _)| name.to_lowercase())
        .collect();
    names.sort_unstable();
    for name in [
        "set-cookie",
        "x-first",
        "content-type",
        "cache-control",
        "transfer-encoding",
    ] {
        assert!(!names.iter().any(|known| known == name), "{names:?}");
    }
    assert_eq!(answer.header_all("X-Endpoint"), ["second"]);
    assert_eq!(answer.header_all("X-Second"), ["2"]);
    let entry = entry(&gateway, "\"attempts\":2");
    assert_eq!(
        (&entry["status"], &entry["endpoint"]),
        (&json!(200), &json!(second.to_string()))
    );
    assert_eq!(
        (&entry["reason"], &entry["error"]),
        (&Value::Null, &Value::Null),
        "{entry}"
    );
}

#[test]
fn the_connection_of_a_client_outlives_retries() {
    let (ill, shut, good) = (
        failing("ill", 503),
        breaking("shut"),
        Endpoint::start("good"),
    );
    let gateway = gateway(&format!(
        "endpoints: [{ill}, {shut}, {good}], max_fails: 0, retries: {{ on: [reset, 503] }}"
    ));
    let mut connection = gateway.connect();
    for round in 0..6 {
        let answer = connection.get("/");
        assert_eq!((answer.status, answer.reusable), (200, true), "{round}");
        let body = bytes(20_000);
        let answer = connection.request("PUT", "/").body(body.clone()).send();
        assert_eq!((answer.status, answer.reusable), (200, true), "{round}");
        assert!(good.received().pop().unwrap().body == body);
    }
    assert_eq!(good.requests(), 12);
}

/// What the first endpoint has said of the way to it is of no concern to the next one.
#[test]
fn each_try_is_sent_the_same_head() {
    let (bad, good) = (breaking("bad"), Endpoint::start("good"));
    let gateway = gateway(&format!("endpoints: [{bad}, {good}], max_fails: 0"));
    let answer = gateway
        .request("GET", "/a?b=c")
        .header("X-Mine", "1")
        .send();
    assert_eq!(answer.status, 200);
    let (one, two) = (&bad.received()[0], &good.received()[0]);
    assert_eq!((&one.target, &one.headers), (&two.target, &two.headers));
}

/// A kept connection may be closed at any time, which says nothing. But an endpoint that closes because of a
/// request must not be sent it again on every connection that is kept.
#[test]
fn a_request_that_closes_connections_is_not_sent_on_all_of_them() {
    for (setup, options) in [
        (Endpoint::setup("a"), ""),
        (Endpoint::setup("a").h2c(), ", protocol: http2"),
    ] {
        let endpoint = setup
            .answers(|request| {
                if request.path == "/poison" {
                    return Reaction::close();
                }
                Reaction::status(200).after(Duration::from_millis(50))
            })
            .start();
        let gateway = gateway(&format!("endpoints: [{endpoint}]{options}"));
        load(gateway.address(), 10, 40, |connection| {
            connection.request("GET", "/")
        })
        .expect_all(200);
        assert_eq!(gateway.get("/poison").status, 502);
        // On a kept connection, and on a new one.
        let sent = endpoint.requests_to("/poison");
        assert!((1..=2).contains(&sent), "{sent}{options}");
    }
}
