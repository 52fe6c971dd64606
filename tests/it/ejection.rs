//! Which endpoints are left out because requests fail there, how many, and for how long.

use std::thread;
use std::time::{Duration, Instant};

use edgeway_tests::{
    Break, Echo, Endpoint, Gateway, PATIENCE, Upstream, eventually, eventually_some, pace,
    pace_during,
};

/// A gateway with one upstream, which every request goes to.
fn gateway(upstream: &str) -> Gateway {
    Gateway::start(&configuration(upstream))
}

fn configuration(upstream: &str) -> String {
    format!("upstreams: {{ pool: {{ {upstream} }} }}\nroutes: [{{ upstream: pool }}]\n")
}

fn breaking(name: &str) -> Endpoint {
    let endpoint = Endpoint::start(name);
    endpoint.breaks(Break::BeforeAnswer);
    endpoint
}

fn failing(name: &str, status: u16) -> Endpoint {
    let endpoint = Endpoint::start(name);
    endpoint.status(status);
    endpoint
}

/// How often a gateway has said this.
fn told(gateway: &Gateway, text: &str) -> usize {
    gateway.log().matches(text).count()
}

const LEFT_OUT: &str = "endpoint is left out";
const BACK: &str = "endpoint is back";

fn ask(gateway: &Gateway, requests: usize) -> Vec<u16> {
    (0..requests).map(|_| gateway.get("/").status).collect()
}

// ---- what counts ------------------------------------------------------------------------------

#[test]
fn answers_count_as_failures_only_if_their_statuses_are_named() {
    let out = |status: u16, ejection: &str| {
        let (ill, good) = (failing("ill", status), Endpoint::start("good"));
        let gateway = gateway(&format!(
            "endpoints: [{ill}, {good}], max_fails: 2, fail_timeout: 1h {ejection}"
        ));
        ask(&gateway, 12);
        assert_eq!(
            ill.requests() + good.requests(),
            12,
            "nothing is tried again"
        );
        match ill.requests() {
            2 => true,
            6 => false,
            other => panic!("{other} requests"),
        }
    };
    for status in [500, 404] {
        assert!(!out(status, ""), "{status}");
        assert!(
            out(status, &format!(", ejection: {{ statuses: [{status}] }}")),
            "{status}"
        );
        assert!(
            !out(status, ", ejection: { statuses: [504-599] }"),
            "{status}"
        );
    }
    assert!(out(502, ", ejection: { statuses: [404, 500-503] }"));
}

/// Failures in a row: a success in between begins anew.
#[test]
fn an_endpoint_that_fails_now_and_then_stays() {
    let endpoint = Endpoint::start("a");
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], max_fails: 3, fail_timeout: 1h, ejection: {{ statuses: [500] }}"
    ));
    for _ in 0..5 {
        endpoint.status_next(2, 500);
        assert_eq!(ask(&gateway, 3), [500, 500, 200]);
    }
    assert_eq!(told(&gateway, LEFT_OUT), 0, "{}", gateway.log());
    endpoint.status_next(3, 500);
    assert_eq!(ask(&gateway, 3), [500, 500, 500]);
    gateway.wait_for_log(LEFT_OUT);
}

#[test]
fn an_endpoint_that_fails_too_often_is_left_out_though_never_in_a_row() {
    for (above, out) in [("40%", true), ("60%", false)] {
        let (shaky, good) = (Endpoint::start("shaky"), Endpoint::start("good"));
        let gateway = gateway(&format!(
            "endpoints: [{shaky}, {{ address: {good}, backup: true }}], max_fails: 0, fail_timeout: 1m, \
             ejection: {{ statuses: [500], error_rate: {{ above: {above}, min_requests: 10 }} }}"
        ));
        for _ in 0..10 {
            shaky.status_next(1, 500);
            ask(&gateway, 2);
            if shaky.requests() < 10 {
                assert_eq!(
                    good.requests(),
                    0,
                    "{above}: after {} requests",
                    shaky.requests()
                );
            }
        }
        // With the eleventh request it has failed more often than permitted.
        assert_eq!(good.requests() > 0, out, "{above}: {}", good.requests());
        assert_eq!(told(&gateway, LEFT_OUT), usize::from(out), "{above}");
    }
}

/// A connection that the endpoint has closed while it was idle is no failure, however often.
#[test]
fn connections_that_are_closed_while_idle_are_no_failures() {
    let endpoint = Endpoint::start("a");
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], max_fails: 1, fail_timeout: 1h, retries: {{ tries: 1, on: [] }}"
    ));
    let mut connection = gateway.connect();
    for round in 0..20 {
        assert_eq!(connection.get("/").status, 200, "{round}");
        endpoint.close_connections();
        if round % 2 == 0 {
            eventually(PATIENCE, || endpoint.open_connections() == 0);
        }
    }
    assert_eq!(told(&gateway, LEFT_OUT), 0, "{}", gateway.log());
    assert!(endpoint.connections() >= 10);
}

/// Several are closed at once, at the very moment at which they are used.
#[test]
fn an_endpoint_that_closes_connections_at_any_time_is_not_left_out_for_it() {
    let endpoint = Endpoint::start("a");
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], max_fails: 1, fail_timeout: 1h"
    ));
    let idle_closing = Upstream::raw(|mut caller| {
        for _ in 0..3 {
            if caller.request().is_none() {
                return;
            }
            // It does not say that it will close.
            caller.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let other = self::gateway(&format!(
        "endpoints: [{idle_closing}], max_fails: 1, fail_timeout: 1h"
    ));
    let second = Duration::from_secs(1);
    for gateway in [&gateway, &other] {
        let outcomes = pace(gateway.address(), 200, second, |connection, _| {
            connection.request("GET", "/")
        });
        outcomes.expect_all(200);
        assert_eq!(told(gateway, LEFT_OUT), 0, "{}", gateway.log());
    }
}

#[test]
fn what_clients_do_is_no_failure_of_an_endpoint() {
    let endpoint = Endpoint::start("a");
    endpoint.slow(Duration::from_millis(300));
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], max_fails: 1, fail_timeout: 1h"
    ));
    for _ in 0..3 {
        let before = endpoint.requests();
        let mut leaving = gateway.connect();
        leaving.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        eventually(PATIENCE, || endpoint.requests() > before);
        drop(leaving);
        let mut torn = gateway.connect();
        torn.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\nhalf");
        drop(torn);
        eventually(PATIENCE, || endpoint.in_flight() == 0);
    }
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(told(&gateway, LEFT_OUT), 0, "{}", gateway.log());
}

// ---- for how long -----------------------------------------------------------------------------

/// The times of the requests at an endpoint that breaks each.
fn trials(gateway: &Gateway, endpoint: &Endpoint, wanted: usize) -> Vec<Duration> {
    let (start, mut times) = (Instant::now(), Vec::new());
    let deadline = Duration::from_secs(20);
    while times.len() < wanted {
        assert_eq!(gateway.get("/").status, 200);
        for _ in times.len()..endpoint.requests() {
            times.push(start.elapsed());
        }
        assert!(start.elapsed() < deadline, "{times:?}");
        thread::sleep(Duration::from_millis(5));
    }
    times
}

#[test]
fn an_endpoint_that_fails_again_and_again_is_tried_less_and_less_often() {
    let (bad, good) = (breaking("bad"), Endpoint::start("good"));
    let gateway = gateway(&format!(
        "endpoints: [{bad}, {good}], fail_timeout: 150ms, ejection: {{ max_fail_timeout: 600ms }}"
    ));
    let times = trials(&gateway, &bad, 6);
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (gap, least) in gaps.iter().zip([150, 300, 600, 600, 600]) {
        let least = Duration::from_millis(least);
        assert!(*gap + Duration::from_millis(20) >= least, "{gaps:?}");
        assert!(*gap < least + Duration::from_millis(550), "{gaps:?}");
    }
}

#[test]
fn without_a_longest_time_an_endpoint_is_tried_at_a_steady_pace() {
    let (bad, good) = (breaking("bad"), Endpoint::start("good"));
    let gateway = gateway(&format!("endpoints: [{bad}, {good}], fail_timeout: 150ms"));
    let times = trials(&gateway, &bad, 6);
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        gaps.iter().all(|gap| *gap >= Duration::from_millis(130)),
        "{gaps:?}"
    );
    assert!(
        times[5] - times[0] < Duration::from_millis(2400),
        "{gaps:?}"
    );
}

#[test]
fn one_request_tries_an_endpoint_and_not_all_that_wait_for_it() {
    let (bad, good) = (Endpoint::start("bad"), Endpoint::start("good"));
    bad.breaks(Break::Hang);
    let gateway = gateway(&format!(
        "endpoints: [{bad}, {good}], fail_timeout: 500ms, retries: {{ timeout: 400ms, budget: 100% }}"
    ));
    let outcomes = pace(
        gateway.address(),
        100,
        Duration::from_secs(2),
        |connection, _| connection.request("GET", "/"),
    );
    outcomes.expect_all(200);
    // Those that came before the first has failed, and one in each half of a second.
    assert!(bad.requests() <= 45, "{}", bad.requests());
    let late = outcomes.between(Duration::from_millis(600), Duration::from_secs(2));
    assert!(
        late.slower_than(Duration::from_millis(350)) <= 6,
        "{}",
        late.summary()
    );
    bad.behave();
    let before = bad.requests();
    eventually(PATIENCE, || {
        gateway.get("/");
        bad.requests() >= before + 3
    });
    gateway.wait_for_log(BACK);
}

#[test]
fn a_flapping_endpoint_costs_no_request_and_gets_traffic_while_it_is_up() {
    let mut flapping = Endpoint::start("flapping");
    let good = Endpoint::start("good");
    let gateway = gateway(&format!(
        "endpoints: [{flapping}, {good}], fail_timeout: 50ms"
    ));
    let outcomes = pace_during(
        gateway.address(),
        200,
        |connection, _| connection.request("GET", "/"),
        || {
            for _ in 0..6 {
                thread::sleep(Duration::from_millis(200));
                flapping.down();
                thread::sleep(Duration::from_millis(200));
                flapping.up();
            }
            let before = flapping.requests();
            eventually(PATIENCE, || flapping.requests() > before + 20);
        },
    );
    outcomes.expect_all(200);
    assert!(told(&gateway, LEFT_OUT) >= 3, "{}", gateway.log());
}

// ---- how many ---------------------------------------------------------------------------------

#[test]
fn no_more_endpoints_are_left_out_than_may_be() {
    for (share, out) in [("0%", 1), ("25%", 1), ("50%", 2), ("74%", 2), ("100%", 4)] {
        let bad = ["a", "b", "c", "d"].map(breaking);
        let [a, b, c, d] = &bad;
        let gateway = gateway(&format!(
            "endpoints: [{a}, {b}, {c}, {d}], fail_timeout: 1h, retries: {{ tries: 1 }}, ejection: {{ max_ejected: {share} }}"
        ));
        ask(&gateway, 24);
        eventually(PATIENCE, || told(&gateway, LEFT_OUT) >= out);
        assert_eq!(told(&gateway, LEFT_OUT), out, "{share}: {}", gateway.log());
        if out < 4 {
            let asked = bad.iter().filter(|bad| bad.requests() > 1).count();
            assert_eq!(asked, 4 - out, "{share}");
        }
    }
}

#[test]
fn all_are_asked_when_too_few_are_well() {
    for (share, all) in [("0%", false), ("25%", false), ("60%", true)] {
        let (bad, good) = (["a", "b", "c"].map(breaking), Endpoint::start("good"));
        let [a, b, c] = &bad;
        let gateway = gateway(&format!(
            "endpoints: [{a}, {b}, {c}, {good}], fail_timeout: 1h, retries: {{ tries: 1 }}, ejection: {{ panic_below: {share} }}"
        ));
        ask(&gateway, 8);
        bad.iter().for_each(Endpoint::behave);
        // What is well is counted now and then, not for each request.
        thread::sleep(Duration::from_millis(300));
        let before: usize = bad.iter().map(Endpoint::requests).sum();
        assert_eq!(ask(&gateway, 8), [200; 8]);
        let after: usize = bad.iter().map(Endpoint::requests).sum();
        assert_eq!(after > before, all, "{share}: {before} and then {after}");
    }
}

#[test]
fn without_a_last_resort_nobody_is_asked_while_nobody_is_well() {
    let bad = ["a", "b"].map(breaking);
    let [a, b] = &bad;
    let gateway = gateway(&format!(
        "endpoints: [{a}, {b}], fail_timeout: 700ms, ejection: {{ last_resort: false }}"
    ));
    assert_eq!(gateway.get("/").status, 502);
    bad.iter().for_each(Endpoint::behave);
    let start = Instant::now();
    let answer = gateway.get("/");
    if start.elapsed() < Duration::from_millis(300) {
        assert_eq!(
            (answer.status, answer.header("Retry-After")),
            (503, Some("1"))
        );
        assert_eq!(bad.each_ref().map(Endpoint::requests), [1, 1]);
    }
    eventually(PATIENCE, || gateway.get("/").status == 200);
    assert!(
        start.elapsed() >= Duration::from_millis(500),
        "{:?}",
        start.elapsed()
    );
    eventually(PATIENCE, || {
        gateway.get("/");
        told(&gateway, BACK) == 2
    });
}

#[test]
fn an_upstream_whose_only_endpoint_fails_gives_its_own_errors_not_ours() {
    let endpoint = failing("a", 500);
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], ejection: {{ statuses: [500] }}, fail_timeout: 1h"
    ));
    for _ in 0..5 {
        assert_eq!(gateway.get("/").header("X-Endpoint"), Some("a"));
    }
}

// ---- reload -----------------------------------------------------------------------------------

#[test]
fn an_endpoint_that_is_left_out_stays_so_through_reloads_under_load() {
    let mut bad = Echo::named("bad");
    let good = Echo::named("good");
    let yaml = |number: usize| {
        configuration(&format!(
            "endpoints: [{bad}, {good}], fail_timeout: 1h, retries: {{ backoff: {number}ms }}",
        ))
    };
    let yamls: Vec<_> = (1..=8).map(yaml).collect();
    let gateway = Gateway::start(&yamls[0]);
    let outcomes = pace_during(
        gateway.address(),
        200,
        |connection, _| connection.request("GET", "/"),
        || {
            thread::sleep(Duration::from_millis(200));
            bad.kill();
            for yaml in &yamls {
                assert!(gateway.reload(yaml));
                thread::sleep(Duration::from_millis(50));
            }
            bad.restart();
            for yaml in &yamls {
                assert!(gateway.reload(yaml));
            }
        },
    );
    outcomes.expect_all(200);
    assert_eq!(told(&gateway, LEFT_OUT), 1, "{}", gateway.log());
    assert_eq!(bad.stats().requests, 0, "an hour is not over");
}

#[test]
fn what_can_not_be_meant_is_refused() {
    for (wrong, named) in [
        (
            "fail_timeout: 10s, ejection: { max_fail_timeout: 5s }",
            "max_fail_timeout",
        ),
        ("ejection: { error_rate: { above: 100% } }", "100%"),
        ("ejection: { error_rate: { above: 120% } }", "120%"),
        ("ejection: { error_rate: { min_requests: 10 } }", "above"),
        (
            "ejection: { error_rate: { above: 10%, min_requests: 0 } }",
            "min_requests",
        ),
        ("ejection: { max_ejected: 2 }", "max_ejected"),
        ("ejection: { panic_below: -1% }", "-1%"),
        ("ejection: { statuses: [5xx] }", "5xx"),
        ("ejection: { last_resort: maybe }", "last_resort"),
        ("ejection: { max_eject: 10% }", "max_ejected"),
        ("max_fails: -1", "max_fails"),
        ("fail_timeout: often", "often"),
    ] {
        let said = Gateway::refused(&configuration(&format!(
            "endpoints: [127.0.0.1:1], {wrong}"
        )));
        assert!(
            said.contains(named) && said.contains("edgeway.yaml:1"),
            "{wrong}: {said}"
        );
    }
}

#[test]
fn an_endpoint_that_is_back_is_told_once_and_serves_its_share_at_once() {
    let mut a = Endpoint::start("a");
    let b = Endpoint::start("b");
    let gateway = gateway(&format!("endpoints: [{a}, {b}], fail_timeout: 100ms"));
    a.down();
    ask(&gateway, 4);
    a.up();
    let before = eventually_some(PATIENCE, || {
        gateway.get("/");
        (told(&gateway, BACK) == 1).then(|| a.requests())
    });
    ask(&gateway, 20);
    assert!(
        (9..=11).contains(&(a.requests() - before)),
        "{}",
        a.requests() - before
    );
    assert_eq!((told(&gateway, LEFT_OUT), told(&gateway, BACK)), (1, 1));
}
