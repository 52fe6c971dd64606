//! The filter `adaptive_concurrency`: an upstream that is sent more than it can serve.

use std::cell::Cell;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use edgeway_tests::{
    Endpoint, Gateway, Outcomes, PATIENCE, Upstream, eventually, load, pace, pace_during,
};

/// Serves four requests at once in 20 ms each, which are 200 a second; others wait for their turn.
fn four_at_once() -> Upstream {
    let free = Arc::new((Mutex::new(4), Condvar::new()));
    Upstream::raw(move |mut caller| {
        while caller.request().is_some() {
            let (count, freed) = &*free;
            let mut left = freed
                .wait_while(count.lock().unwrap(), |left| *left == 0)
                .unwrap();
            *left -= 1;
            drop(left);
            sleep(Duration::from_millis(20));
            *count.lock().unwrap() += 1;
            freed.notify_one();
            caller.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    })
}

fn yaml(endpoint: impl std::fmt::Display, filters: &str) -> String {
    format!(
        "
        upstreams: {{ app: {{ endpoints: ['{endpoint}'], max_fails: 0 }} }}
        routes:
          - match: {{ path: /a }}
            filters: [{filters}]
            upstream: app
          - match: {{ path: /b }}
            filters: [{filters}]
            upstream: app
        "
    )
}

/// What becomes of 400 requests a second in the end, of which half can be served.
fn overrun(filters: &str) -> Outcomes {
    let endpoint = four_at_once();
    let gateway = Gateway::start(&yaml(&endpoint, filters));
    let all = pace(
        gateway.address(),
        400,
        Duration::from_secs(4),
        |connection, _| connection.request("GET", "/a"),
    );
    all.between(Duration::from_secs(2), Duration::from_secs(4))
}

fn served(outcomes: &Outcomes) -> Outcomes {
    let is_served = |sample: &&edgeway_tests::Sample| {
        sample
            .result
            .as_ref()
            .is_ok_and(|answer| answer.status == 200)
    };
    Outcomes {
        samples: outcomes.samples.iter().filter(is_served).cloned().collect(),
    }
}

#[test]
fn an_upstream_that_is_overrun_stays_fast_for_those_who_are_let_through() {
    let limited = overrun("adaptive_concurrency: { name: app }");
    let fast = served(&limited);
    assert_eq!(
        fast.total() + limited.with_status(503),
        limited.total(),
        "{}",
        limited.summary()
    );
    assert!(limited.with_status(503) > 0, "{}", limited.summary());
    assert!(fast.total() > 150, "{}", limited.summary());
    // Without a limit they wait for all who have come before: a second and more by now.
    let free = served(&overrun(""));
    assert!(
        free.p50() > 3 * fast.p50(),
        "{}\n{}",
        free.summary(),
        fast.summary()
    );
    let refused = limited
        .answers()
        .find(|answer| answer.status == 503)
        .unwrap();
    assert_eq!(refused.header("Retry-After"), Some("1"));
    assert_eq!(
        refused.json()["detail"],
        "There are too many requests at the moment."
    );
}

/// While it is not known how long an answer takes, about half of the limit is let through.
#[test]
fn the_limit_is_what_is_configured_and_one_for_each_name() {
    let endpoint = Endpoint::start("app");
    endpoint.slow(Duration::from_secs(600));
    for (bounds, through) in [
        ("initial: 25, min: 25, max: 25", 11),
        ("initial: 49, min: 49, max: 49", 23),
        ("initial: 49, min: 49, max: 49, buffer: 1", 14),
        ("initial: 1, min: 1, max: 100", 1),
    ] {
        let filter = format!("adaptive_concurrency: {{ name: app, {bounds}, retry_after: 3s }}");
        let gateway = Gateway::start(&yaml(&endpoint, &filter));
        let mut connections = Vec::new();
        for _ in 0..through {
            let mut connection = gateway.connect();
            connection.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
            connections.push(connection);
        }
        eventually(PATIENCE, || endpoint.in_flight() == through);
        // The name makes one limit of two routes, and of two configurations.
        assert_eq!(gateway.get("/b").status, 503, "{bounds}");
        assert!(gateway.reload(&yaml(&endpoint, &filter)));
        let refused = gateway.get("/b");
        assert_eq!(
            (refused.status, refused.header("Retry-After")),
            (503, Some("3")),
            "{bounds}"
        );
        // Whoever leaves makes room.
        connections.pop();
        eventually(PATIENCE, || endpoint.in_flight() < through);
        let mut next = gateway.connect();
        eventually(PATIENCE, || {
            next = gateway.connect();
            next.send("GET /b HTTP/1.1\r\nHost: a\r\n\r\n");
            next.patience(Duration::from_millis(200));
            next.try_answer().is_err()
        });
        drop((next, connections));
        eventually(PATIENCE, || endpoint.in_flight() == 0);
    }
}

/// The limit grows as answers come: by its root in each window.
#[test]
fn the_limit_grows_with_each_window_when_there_is_no_queue() {
    let endpoint = Endpoint::start("app");
    endpoint.slow(Duration::from_millis(5));
    let most = |window: &str| {
        let before = endpoint.most_in_flight();
        let filter = format!(
            "adaptive_concurrency: {{ name: app, initial: 3, measure: 1h, window: {window} }}"
        );
        let gateway = Gateway::start(&yaml(&endpoint, &filter));
        let outcomes = load(gateway.address(), 40, 4000, |connection| {
            connection.request("GET", "/a")
        });
        assert!(outcomes.with_status(200) > 0, "{before}");
        outcomes.with_status(503)
    };
    let (quick, never) = (most("10ms"), most("1h"));
    assert!(
        quick < never,
        "{quick} were refused, {never} with a limit that does not grow"
    );
}

/// The work itself has become harder. Taken for load, it would keep the limit at four for ever.
#[test]
fn how_long_an_answer_takes_without_load_is_measured_anew() {
    let endpoint = Endpoint::start("app");
    let filter =
        |measure| format!("adaptive_concurrency: {{ name: app, min: 2, measure: {measure} }}");
    let gateway = Gateway::start(&yaml(&endpoint, &filter("1h")));
    let warm = load(gateway.address(), 5, 500, |connection| {
        connection.request("GET", "/a")
    });
    assert!(warm.with_status(200) > 0);
    endpoint.slow(Duration::from_millis(200));
    // Whether so few are under way for a second is seen by the clock, since at no moment it can be.
    let few_since = Cell::new(Instant::now());
    let stays_low = || {
        if endpoint.in_flight() > 5 {
            few_since.set(Instant::now());
        }
        few_since.get().elapsed() > Duration::from_secs(1)
    };
    let during = |meanwhile: &dyn Fn()| {
        pace_during(
            gateway.address(),
            100,
            |connection, _| connection.request("GET", "/a"),
            meanwhile,
        );
    };
    during(&|| {
        few_since.set(Instant::now());
        eventually(3 * PATIENCE, stays_low);
    });
    assert!(gateway.reload(&yaml(&endpoint, &filter("1s"))));
    during(&|| eventually(3 * PATIENCE, || endpoint.in_flight() >= 10));
}

/// A path that is answered out of memory, or a crowd that finds nothing. Taken for the usual state, it would keep
/// nearly all others out until the next measurement.
#[test]
fn a_burst_of_fast_answers_does_not_shut_the_upstream() {
    let endpoint = Endpoint::start("app");
    let filter = "adaptive_concurrency: { name: app, initial: 60, measure: 1h }";
    let gateway = Gateway::start(&yaml(&endpoint, filter));
    let during = |per_second, seconds| {
        let time = Duration::from_secs(seconds);
        pace(gateway.address(), per_second, time, |connection, _| {
            connection.request("GET", "/a")
        })
    };
    endpoint.slow(Duration::from_millis(100));
    during(200, 2);
    endpoint.slow(Duration::ZERO);
    during(400, 1);
    endpoint.slow(Duration::from_millis(100));
    let after = during(200, 3);
    assert!(
        served(&after).total() > after.total() / 2,
        "{}",
        after.summary()
    );
}
