//! When an upstream as a whole is not asked, and how it comes back.

use std::thread;
use std::time::{Duration, Instant};

use edgeway_tests::{Break, Endpoint, Gateway, PATIENCE, Reaction, eventually, pace_during};

/// A gateway with one upstream, which every request goes to, whose endpoints are never left out.
fn gateway(upstream: &str) -> Gateway {
    Gateway::start(&configuration(upstream))
}

fn configuration(upstream: &str) -> String {
    format!(
        "upstreams: {{ pool: {{ max_fails: 0, {upstream} }} }}\nroutes: [{{ upstream: pool }}]\n"
    )
}

fn failing(status: u16) -> Endpoint {
    let endpoint = Endpoint::start("a");
    endpoint.status(status);
    endpoint
}

fn ask(gateway: &Gateway, requests: usize) -> Vec<u16> {
    (0..requests).map(|_| gateway.get("/").status).collect()
}

/// Asks until the breaker has opened, which must be after so many requests. The last outcome is noted
/// when its client may have its answer already.
#[track_caller]
fn open(gateway: &Gateway, requests: usize) {
    assert!(ask(gateway, requests).iter().all(|status| *status != 503));
    gateway.wait_for_log(OPENED);
}

fn told(gateway: &Gateway, text: &str) -> usize {
    gateway.log().matches(text).count()
}

const OPENED: &str = "breaker has opened";
const CLOSED: &str = "breaker has closed";

// ---- opening ----------------------------------------------------------------------------------

#[test]
fn an_upstream_that_fails_is_not_asked_and_clients_are_told_at_once_when_to_come_back() {
    let endpoint = failing(500);
    endpoint.slow(Duration::from_millis(20));
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], breaker: {{ min_requests: 5, open_for: 90s }}"
    ));
    assert_eq!(ask(&gateway, 5), [500; 5]);
    gateway.wait_for_log(OPENED);
    endpoint.slow(Duration::from_secs(60));
    for _ in 0..10 {
        let answer = gateway.get("/");
        assert_eq!(answer.status, 503);
        let after: u64 = answer.header("Retry-After").unwrap().parse().unwrap();
        assert!((60..=90).contains(&after), "{after}");
        assert_eq!(
            answer.header("Content-Type"),
            Some("application/problem+json")
        );
        assert!(
            !answer.text().contains("breaker") && !answer.text().contains("pool"),
            "{}",
            answer.text()
        );
    }
    assert_eq!(endpoint.requests(), 5);
    assert_eq!(told(&gateway, OPENED), 1);
}

#[test]
fn the_breaker_opens_at_its_rate_and_not_before_there_are_enough_requests() {
    // (rate, least number, failures of 20 requests, whether it opens)
    for (rate, least, failures, opens) in [
        ("50%", 20, 10, true),
        ("50%", 20, 9, false),
        ("25%", 20, 5, true),
        ("100%", 20, 19, false),
        ("100%", 20, 20, true),
        ("50%", 21, 20, false),
    ] {
        let endpoint = Endpoint::start("a");
        let gateway = gateway(&format!(
            "endpoints: [{endpoint}], breaker: {{ error_rate: {rate}, min_requests: {least}, window: 1m }}"
        ));
        // The failures last, so that it does not open before the last of them.
        assert_eq!(ask(&gateway, 20 - failures), vec![200; 20 - failures]);
        thread::sleep(Duration::from_millis(30));
        endpoint.status(500);
        assert_eq!(
            ask(&gateway, failures),
            vec![500; failures],
            "{rate} {least}"
        );
        if opens {
            gateway.wait_for_log(OPENED);
        } else {
            thread::sleep(Duration::from_millis(30));
        }
        let refused = gateway.get("/").status == 503;
        assert_eq!(
            refused, opens,
            "{rate} of {least} after {failures} failures"
        );
    }
}

#[test]
fn statuses_are_failures_only_if_they_are_named() {
    for (statuses, status, opens) in [
        ("", 500, true),
        ("", 599, true),
        ("", 404, false),
        (", statuses: [502-504]", 500, false),
        (", statuses: [502-504]", 503, true),
        (", statuses: [404, 429]", 429, true),
        (", statuses: []", 500, false),
    ] {
        let endpoint = failing(status);
        let gateway = gateway(&format!(
            "endpoints: [{endpoint}], breaker: {{ min_requests: 4 {statuses} }}"
        ));
        ask(&gateway, 4);
        if opens {
            eventually(PATIENCE, || told(&gateway, OPENED) == 1);
        }
        ask(&gateway, 2);
        assert_eq!(
            endpoint.requests(),
            if opens { 4 } else { 6 },
            "{status} with `{statuses}`"
        );
    }
}

#[test]
fn no_answer_is_a_failure_whatever_is_said_of_statuses() {
    for how in [Break::BeforeAnswer, Break::Hang] {
        let endpoint = Endpoint::start("a");
        endpoint.breaks(how);
        let gateway = gateway(&format!(
            "endpoints: [{endpoint}], timeouts: {{ read: 100ms }}, breaker: {{ min_requests: 4, statuses: [] }}"
        ));
        for _ in 0..4 {
            gateway.request("GET", "/").attempt().ok();
        }
        gateway.wait_for_log(OPENED);
        assert_eq!(ask(&gateway, 3), [503; 3], "{how:?}");
        assert_eq!(endpoint.requests(), 4, "{how:?}");
    }
}

/// What counts is what the client gets.
#[test]
fn a_request_that_succeeds_at_its_second_try_is_a_success() {
    let (bad, good) = (Endpoint::start("bad"), Endpoint::start("good"));
    bad.breaks(Break::BeforeAnswer);
    let gateway = gateway(&format!(
        "endpoints: [{bad}, {good}], breaker: {{ min_requests: 4 }}"
    ));
    assert_eq!(ask(&gateway, 12), [200; 12]);
    assert_eq!(told(&gateway, OPENED), 0);
}

#[test]
fn failures_that_are_long_ago_are_forgotten() {
    let endpoint = failing(500);
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], breaker: {{ min_requests: 6, window: 300ms }}"
    ));
    for _ in 0..3 {
        ask(&gateway, 3);
        thread::sleep(Duration::from_millis(400));
    }
    assert_eq!(endpoint.requests(), 9);
}

#[test]
fn clients_that_leave_open_no_breaker() {
    let endpoint = Endpoint::start("a");
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], breaker: {{ min_requests: 3 }}"
    ));
    for _ in 0..6 {
        let before = endpoint.requests();
        endpoint.slow(Duration::from_secs(30));
        let mut leaving = gateway.connect();
        leaving.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        eventually(PATIENCE, || endpoint.requests() > before);
        drop(leaving);
        eventually(PATIENCE, || endpoint.in_flight() == 0);
    }
    endpoint.behave();
    assert_eq!(gateway.get("/").status, 200);
}

// ---- closing ----------------------------------------------------------------------------------

#[test]
fn after_a_while_a_few_requests_try_and_all_others_follow_when_they_succeed() {
    let endpoint = failing(500);
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], breaker: {{ min_requests: 4, open_for: 400ms, probes: 2 }}"
    ));
    open(&gateway, 4);
    let opened = Instant::now();
    endpoint.behave();
    endpoint.slow(Duration::from_millis(400));
    eventually(PATIENCE, || {
        let mut trial = gateway.connect();
        trial.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        trial.patience(Duration::from_millis(100));
        // No answer yet: it is with the endpoint.
        let waits = trial.try_answer().is_err();
        drop(trial);
        waits
    });
    assert!(
        opened.elapsed() >= Duration::from_millis(350),
        "{:?}",
        opened.elapsed()
    );
    endpoint.behave();
    eventually(PATIENCE, || {
        ask(&gateway, 1);
        told(&gateway, CLOSED) == 1
    });
    assert_eq!(ask(&gateway, 10), [200; 10]);
    assert_eq!((told(&gateway, OPENED), told(&gateway, CLOSED)), (1, 1));
}

#[test]
fn no_more_requests_try_at_once_than_are_permitted() {
    let endpoint = failing(500);
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], breaker: {{ min_requests: 4, open_for: 1s, probes: 3 }}"
    ));
    open(&gateway, 4);
    endpoint.behave();
    endpoint.slow(Duration::from_millis(900));
    eventually(PATIENCE, || {
        let trying = (0..12).map(|_| {
            let mut trial = gateway.connect();
            trial.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
            trial
        });
        let trying: Vec<_> = trying.collect();
        let statuses: Vec<_> = trying
            .into_iter()
            .map(|mut trial| trial.answer().status)
            .collect();
        let tried = statuses.iter().filter(|status| **status == 200).count();
        assert!(tried == 0 || tried == 3, "{statuses:?}");
        tried == 3
    });
    assert_eq!((endpoint.requests(), endpoint.most_in_flight()), (7, 3));
    gateway.wait_for_log(CLOSED);
}

#[test]
fn a_trial_that_fails_opens_the_breaker_again() {
    let endpoint = failing(500);
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], breaker: {{ min_requests: 4, open_for: 300ms, probes: 1 }}"
    ));
    open(&gateway, 4);
    for round in 1..=3 {
        eventually(PATIENCE, || gateway.get("/").status == 500);
        assert_eq!(endpoint.requests(), 4 + round);
        assert_eq!(gateway.get("/").status, 503);
        eventually(PATIENCE, || told(&gateway, OPENED) == 1 + round);
    }
    endpoint.behave();
    eventually(PATIENCE, || ask(&gateway, 4) == [200; 4]);
    assert_eq!(told(&gateway, CLOSED), 1);
}

#[test]
fn clients_that_leave_in_trials_do_not_keep_the_breaker_open() {
    let endpoint = failing(500);
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], breaker: {{ min_requests: 4, open_for: 200ms, probes: 1 }}"
    ));
    open(&gateway, 4);
    endpoint.behave();
    endpoint.slow(Duration::from_secs(60));
    for _ in 0..5 {
        let before = endpoint.requests();
        eventually(PATIENCE, || {
            let mut leaving = gateway.connect();
            leaving.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
            thread::sleep(Duration::from_millis(60));
            endpoint.requests() > before
        });
    }
    endpoint.behave();
    eventually(PATIENCE, || ask(&gateway, 3) == [200; 3]);
}

/// A request that waits for nothing but a place is no trial that goes on for ever.
#[test]
fn trials_that_find_no_endpoint_do_not_keep_the_breaker_open() {
    let endpoint = Endpoint::start("a");
    endpoint.breaks(Break::BeforeAnswer);
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          pool:
            endpoints: [{endpoint}]
            fail_timeout: 1s
            ejection: {{ last_resort: false }}
            breaker: {{ min_requests: 1, open_for: 100ms, probes: 1 }}
        routes: [{{ upstream: pool }}]
        "
    ));
    assert_eq!(gateway.get("/").status, 502);
    endpoint.behave();
    eventually(PATIENCE, || ask(&gateway, 3) == [200; 3]);
    assert!(endpoint.requests() >= 4);
}

// ---- together ---------------------------------------------------------------------------------

#[test]
fn a_breaker_that_is_open_stays_open_through_a_reload_and_closes_after_it() {
    let endpoint = failing(500);
    let yaml = |open_for: &str| {
        configuration(&format!(
            "endpoints: [{endpoint}], breaker: {{ min_requests: 4, open_for: {open_for} }}"
        ))
    };
    let gateway = Gateway::start(&yaml("1h"));
    open(&gateway, 4);
    endpoint.behave();
    assert!(gateway.reload(&yaml("2h")));
    assert_eq!(ask(&gateway, 3), [503; 3]);
    assert_eq!(endpoint.requests(), 4);
    assert!(gateway.reload(&yaml("100ms")));
    eventually(PATIENCE, || ask(&gateway, 3) == [200; 3]);
    gateway.wait_for_log(CLOSED);
}

#[test]
fn the_breaker_of_one_upstream_is_none_of_another() {
    let (ill, good) = (failing(500), Endpoint::start("good"));
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          ill: {{ endpoints: [{ill}], breaker: {{ min_requests: 4, open_for: 1h }} }}
          good: {{ endpoints: [{good}], breaker: {{ min_requests: 4, open_for: 1h }} }}
        routes:
          - {{ match: {{ path: /ill }}, upstream: ill }}
          - {{ upstream: good }}
        "
    ));
    for _ in 0..4 {
        assert_eq!(gateway.get("/ill").status, 500);
    }
    gateway.wait_for_log(OPENED);
    for _ in 0..4 {
        assert_eq!(gateway.get("/ill").status, 503);
        assert_eq!(gateway.get("/").status, 200);
    }
    assert_eq!(ill.requests(), 4);
}

#[test]
fn an_upstream_that_recovers_under_load_is_asked_again() {
    let endpoint = Endpoint::start("a");
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], breaker: {{ min_requests: 10, window: 1s, open_for: 200ms }}"
    ));
    let outcomes = pace_during(
        gateway.address(),
        100,
        |connection, _| connection.request("GET", "/"),
        || {
            for _ in 0..3 {
                let opened = told(&gateway, OPENED);
                endpoint.status(500);
                eventually(PATIENCE, || told(&gateway, OPENED) > opened);
                let closed = told(&gateway, CLOSED);
                endpoint.behave();
                eventually(PATIENCE, || told(&gateway, CLOSED) > closed);
            }
            let before = endpoint.requests();
            eventually(PATIENCE, || endpoint.requests() > before + 30);
        },
    );
    assert_eq!(outcomes.broken().count(), 0, "{}", outcomes.summary());
    let statuses: Vec<_> = outcomes.statuses().into_keys().collect();
    assert_eq!(statuses, [200, 500, 503]);
    assert_eq!(
        endpoint.requests(),
        outcomes.with_status(200) + outcomes.with_status(500)
    );
}

#[test]
fn what_can_not_be_meant_is_refused() {
    for (breaker, named) in [
        ("error_rate: 101%", "101%"),
        ("error_rate: half", "half"),
        ("min_requests: 0", "min_requests"),
        ("probes: 0", "probes"),
        ("probes: 101", "expected at most 100, found 101"),
        ("window: 0s", "from `1ms` to `1d`"),
        ("open_for: 2d", "from `1ms` to `1d`"),
        ("window: long", "long"),
        ("open_for: 5", "open_for"),
        ("statuses: [oops]", "oops"),
        ("probe: 3", "probes"),
    ] {
        let yaml = configuration(&format!(
            "endpoints: [127.0.0.1:1], breaker: {{ {breaker} }}"
        ));
        let said = Gateway::refused(&yaml);
        assert!(
            said.contains(named) && said.contains("edgeway.yaml:1"),
            "{breaker}: {said}"
        );
    }
}

/// An answer may have no end. What it says of the upstream is known when it begins.
#[test]
fn answers_that_go_on_and_on_do_not_keep_the_breaker_open() {
    let endpoint = Endpoint::setup("a")
        .answers(|request| match request.path.as_str() {
            "/bad" => Reaction::status(500),
            _ => Reaction::status(200).pieces((0..1000).map(|_| "tick"), Duration::from_millis(50)),
        })
        .start();
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], breaker: {{ min_requests: 2, probes: 2, open_for: 200ms }}"
    ));
    for _ in 0..2 {
        assert_eq!(gateway.get("/bad").status, 500);
    }
    gateway.wait_for_log(OPENED);
    thread::sleep(Duration::from_millis(300));
    let mut streams: Vec<_> = (0..6).map(|_| gateway.connect()).collect();
    for stream in &mut streams {
        stream.send("GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(stream.head().status, 200);
    }
    assert_eq!(told(&gateway, CLOSED), 1);
}
