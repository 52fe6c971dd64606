//! How many requests an endpoint gets at a time, and what becomes of those that are too many.

use std::{
    thread,
    time::{Duration, Instant},
};

use edgeway_tests::{
    Answer, Break, Connection, Endpoint, Gateway, PATIENCE, Request, eventually, load,
};

use crate::balancing::{configuration, endpoint, endpoints, gateway};

/// Long enough for a machine that is busy, short enough to wait for it.
const A_WHILE: Duration = Duration::from_millis(400);

/// A queue that no test overruns by chance.
const QUEUE: &str = "queue: { size: 50, timeout: 15s }";

fn get(connection: &mut Connection) -> Request<'_> {
    connection.request("GET", "/")
}

/// A request whose answer is waited for later.
fn begin(gateway: &Gateway, target: &str) -> Connection {
    let mut connection = gateway.connect();
    let host = gateway.address();
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    connection
}

/// A gateway in front of one endpoint that gets one request at a time, and is at work on one that
/// was sent over this connection.
fn occupied(endpoint: &Endpoint, more: &str) -> (Gateway, Connection) {
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], max_connections: 1, {more}"
    ));
    let first = begin(&gateway, "/first");
    eventually(PATIENCE, || endpoint.in_flight() == 1);
    (gateway, first)
}

#[track_caller]
fn expect_refusal(answer: &Answer, endpoint: &Endpoint) {
    assert_eq!(answer.status, 503, "{}", answer.text());
    let retry: u32 = answer.header("Retry-After").unwrap().parse().unwrap();
    assert!(retry >= 1);
    let address = endpoint.address();
    for secret in [
        address.to_string(),
        address.port().to_string(),
        "pool".to_owned(),
    ] {
        assert!(!answer.text().contains(&secret), "#46: {}", answer.text());
    }
}

// ---- how many ---------------------------------------------------------------------------------

/// #48
#[test]
fn no_endpoint_has_more_requests_than_it_may_and_all_are_answered() {
    let all: [Endpoint; 2] = endpoints();
    let gateway = gateway(&format!(
        "endpoints: [{}, {}], max_connections: 2, {QUEUE}",
        all[0], all[1]
    ));
    all.iter()
        .for_each(|endpoint| endpoint.slow(Duration::from_millis(20)));
    load(gateway.address(), 12, 120, get).expect_all(200);
    for endpoint in &all {
        assert_eq!(endpoint.most_in_flight(), 2);
        assert!(endpoint.requests() >= 40, "{}", endpoint.requests());
    }
}

#[test]
fn the_limit_holds_for_every_policy() {
    for policy in ["least_connections", "least_time", "random_two", "ip_hash"] {
        let all: [Endpoint; 2] = endpoints();
        let gateway = gateway(&format!(
            "balance: {policy}, endpoints: [{}, {}], max_connections: 3, {QUEUE}",
            all[0], all[1]
        ));
        all.iter()
            .for_each(|endpoint| endpoint.slow(Duration::from_millis(20)));
        load(gateway.address(), 12, 60, get).expect_all(200);
        for endpoint in &all {
            assert_eq!(endpoint.most_in_flight(), 3, "{policy}");
        }
    }
}

#[test]
fn the_limit_of_an_endpoint_counts_more_than_that_of_its_upstream() {
    let [a, b, c] = endpoints();
    let gateway = gateway(&format!(
        "endpoints: [{{ address: {a}, max_connections: 4 }}, {b}, {{ address: {c}, max_connections: 1 }}],
         max_connections: 2, {QUEUE}"
    ));
    for endpoint in [&a, &b, &c] {
        endpoint.slow(Duration::from_millis(50));
    }
    load(gateway.address(), 14, 100, get).expect_all(200);
    let most = [&a, &b, &c].map(Endpoint::most_in_flight);
    assert_eq!(most, [4, 2, 1]);
}

/// What is under way when the configuration is replaced counts under the new one.
#[test]
fn a_limit_that_is_changed_by_a_reload_holds_at_once() {
    let a = Endpoint::start("a");
    let limited = |most: u32| configuration(&format!("endpoints: [{a}], max_connections: {most}"));
    a.slow(Duration::from_secs(30));
    let gateway = Gateway::start(&limited(3));
    let held: Vec<_> = (0..2).map(|_| begin(&gateway, "/")).collect();
    eventually(PATIENCE, || a.in_flight() == 2);
    assert!(gateway.reload(&limited(2)));
    assert_eq!(gateway.get("/").status, 503);
    assert!(gateway.reload(&limited(4)));
    let more: Vec<_> = (0..2).map(|_| begin(&gateway, "/")).collect();
    eventually(PATIENCE, || a.in_flight() == 4);
    assert_eq!(gateway.get("/").status, 503);
    a.behave();
    drop((held, more));
    eventually(PATIENCE, || gateway.get("/").status == 200);
}

#[test]
fn without_a_queue_a_request_too_many_is_refused_at_once() {
    let a = Endpoint::start("a");
    a.slow(Duration::from_secs(30));
    let gateway = gateway(&format!("endpoints: [{a}], max_connections: 1"));
    let first = begin(&gateway, "/");
    eventually(PATIENCE, || a.in_flight() == 1);
    let start = Instant::now();
    for _ in 0..5 {
        expect_refusal(&gateway.get("/"), &a);
    }
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    assert_eq!((a.requests(), a.in_flight()), (1, 1));
    a.behave();
    drop(first);
    eventually(PATIENCE, || gateway.get("/").status == 200);
}

/// A place that is not given back is lost for ever.
#[test]
fn failures_give_their_places_back() {
    let [a, b] = endpoints();
    let gateway = gateway(&format!(
        "endpoints: [{a}, {b}], max_connections: 1, max_fails: 0, timeouts: {{ read: 100ms }}"
    ));
    for how in [Break::BeforeAnswer, Break::AfterHead, Break::Hang] {
        a.breaks_next(4, how);
        b.status_next(2, 500);
        for _ in 0..12 {
            let result = gateway.request("GET", "/").attempt();
            let status = result.map(|answer| answer.status);
            assert!(!matches!(status, Ok(503)), "{how:?}: all places are taken");
        }
        a.behave();
    }
    for _ in 0..4 {
        endpoint(&gateway.get("/"));
    }
}

/// #48
#[test]
fn a_client_that_leaves_gives_its_place_back() {
    let a = Endpoint::start("a");
    a.slow(Duration::from_secs(30));
    let (gateway, first) = occupied(&a, "timeouts: { read: 60s }");
    drop(first);
    eventually(PATIENCE, || a.in_flight() == 0);
    a.behave();
    eventually(PATIENCE, || gateway.get("/").status == 200);
}

// ---- who waits --------------------------------------------------------------------------------

#[test]
fn who_waits_is_served_when_there_is_room() {
    let a = Endpoint::start("a");
    a.slow(A_WHILE);
    let (gateway, mut first) = occupied(&a, QUEUE);
    let start = Instant::now();
    // A body waits as well as none.
    let posted = gateway
        .request("POST", "/")
        .body("x".repeat(100_000))
        .send();
    assert_eq!(posted.json()["body"].as_str().unwrap().len(), 100_000);
    assert!(start.elapsed() >= A_WHILE, "{:?}", start.elapsed());
    endpoint(&first.answer());
    assert_eq!((a.requests(), a.most_in_flight()), (2, 1));
}

#[test]
fn a_queue_that_is_full_turns_away_at_once_and_keeps_who_waits() {
    let a = Endpoint::start("a");
    a.slow(Duration::from_secs(30));
    let (gateway, first) = occupied(&a, "queue: { size: 2, timeout: 20s }");
    let mut waiting = [begin(&gateway, "/1"), begin(&gateway, "/2")];
    // Once both are there, or a probe in the place of one.
    let mut probes = Vec::new();
    eventually(PATIENCE, || {
        let mut probe = begin(&gateway, "/probe");
        probe.patience(Duration::from_millis(100));
        let turned = probe.try_answer();
        if let Ok(answer) = &turned {
            expect_refusal(answer, &a);
        }
        let done = turned.is_ok();
        probes.push(probe);
        done
    });
    let start = Instant::now();
    expect_refusal(&gateway.get("/"), &a);
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(a.in_flight(), 1);
    a.behave();
    drop(first);
    let served = waiting.iter_mut().filter_map(|connection| {
        connection.patience(PATIENCE);
        connection.try_answer().ok()
    });
    assert!(served.filter(|answer| answer.status == 200).count() >= 1);
}

#[test]
fn who_waits_too_long_is_turned_away_after_the_timeout() {
    let a = Endpoint::start("a");
    a.slow(Duration::from_secs(4));
    let (gateway, _first) = occupied(&a, "queue: { size: 5, timeout: 300ms }");
    let start = Instant::now();
    expect_refusal(&gateway.get("/"), &a);
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(290), "{waited:?}");
    assert!(waited < Duration::from_secs(3), "{waited:?}");
    assert_eq!(a.requests(), 1, "it was never sent");
}

/// The time for everything includes the wait.
#[test]
fn who_waits_does_not_wait_longer_than_everything_may_take() {
    let a = Endpoint::start("a");
    a.slow(Duration::from_secs(4));
    let yaml = |total: &str| {
        configuration(&format!(
            "endpoints: [{a}], max_connections: 1, {QUEUE}{total}"
        ))
    };
    let gateway = Gateway::start(&yaml(""));
    let _first = begin(&gateway, "/");
    eventually(PATIENCE, || a.in_flight() == 1);
    assert!(gateway.reload(&yaml(", timeouts: { total: 300ms }")));
    let start = Instant::now();
    let answer = gateway.get("/");
    assert!([503, 504].contains(&answer.status), "{}", answer.status);
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
}

/// Also when the wait is long.
#[test]
fn who_came_first_is_served_first() {
    let a = Endpoint::start("a");
    a.slow(Duration::from_millis(150));
    let (gateway, mut first) = occupied(&a, QUEUE);
    let mut waiting = Vec::new();
    for number in 1..=8 {
        waiting.push(begin(&gateway, &format!("/{number}")));
        // So that there is an order.
        thread::sleep(Duration::from_millis(30));
    }
    endpoint(&first.answer());
    for connection in &mut waiting {
        endpoint(&connection.answer());
    }
    let order: Vec<_> = a
        .received()
        .into_iter()
        .map(|request| request.path)
        .collect();
    let wanted = ["/first", "/1", "/2", "/3", "/4", "/5", "/6", "/7", "/8"];
    assert_eq!(order, wanted);
}

/// Nobody who comes at the right moment gets past those who wait.
#[test]
fn who_comes_later_does_not_overtake() {
    let a = Endpoint::start("a");
    a.slow(Duration::from_millis(30));
    let (gateway, mut first) = occupied(&a, QUEUE);
    let waiting: Vec<_> = (0..10).map(|_| begin(&gateway, "/early")).collect();
    endpoint(&first.answer());
    let late = load(gateway.address(), 3, 9, |connection| {
        connection.request("GET", "/late")
    });
    late.expect_all(200);
    for mut connection in waiting {
        endpoint(&connection.answer());
    }
    let order: Vec<_> = a
        .received()
        .into_iter()
        .map(|request| request.path)
        .collect();
    let last_early = order.iter().rposition(|path| path == "/early").unwrap();
    let overtaken = order[..last_early]
        .iter()
        .filter(|path| *path == "/late")
        .count();
    // They were sent while connections were still being accepted.
    assert!(overtaken <= 3, "{order:?}");
}

#[test]
fn a_client_that_leaves_while_it_waits_frees_its_place_in_the_queue() {
    let a = Endpoint::start("a");
    a.slow(Duration::from_secs(30));
    let (gateway, first) = occupied(&a, "queue: { size: 1, timeout: 30s }");
    let mut waiting = begin(&gateway, "/leaves");
    waiting.patience(Duration::from_millis(300));
    assert!(waiting.try_answer().is_err(), "it waits");
    eventually(PATIENCE, || {
        let mut probe = begin(&gateway, "/probe");
        probe.patience(Duration::from_millis(200));
        probe.try_answer().is_ok_and(|answer| answer.status == 503)
    });
    drop(waiting);
    // Whoever comes now may wait; it would be refused if the place were taken.
    let mut next = begin(&gateway, "/stays");
    next.patience(Duration::from_millis(300));
    let mut answer = next.try_answer();
    let start = Instant::now();
    while answer.as_ref().is_ok_and(|answer| answer.status == 503) {
        assert!(start.elapsed() < PATIENCE, "the place is still taken");
        next = begin(&gateway, "/stays");
        next.patience(Duration::from_millis(300));
        answer = next.try_answer();
    }
    assert!(answer.is_err(), "it waits");
    a.behave();
    drop(first);
    next.patience(PATIENCE);
    endpoint(&next.answer());
    let paths: Vec<_> = a
        .received()
        .into_iter()
        .map(|request| request.path)
        .collect();
    assert!(!paths.contains(&"/leaves".to_owned()), "{paths:?}");
}

/// What the client sends meanwhile is its next request, and not lost.
#[test]
fn a_request_that_waits_may_have_another_one_behind_it() {
    let a = Endpoint::start("a");
    a.slow(A_WHILE);
    let (gateway, mut first) = occupied(&a, QUEUE);
    let mut connection = begin(&gateway, "/one");
    thread::sleep(Duration::from_millis(100));
    let host = gateway.address();
    for target in ["/two", "/three"] {
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    }
    endpoint(&first.answer());
    for target in ["/one", "/two", "/three"] {
        assert_eq!(connection.answer().json()["path"], target);
    }
    assert_eq!(a.most_in_flight(), 1);
}

#[test]
fn who_waits_for_an_endpoint_that_dies_is_served_by_the_backup() {
    let [mut a, b] = endpoints();
    let gateway = gateway(&format!(
        "endpoints: [{a}, {{ address: {b}, backup: true }}], max_connections: 1, {QUEUE}, fail_timeout: 1h"
    ));
    a.slow(Duration::from_secs(30));
    let mut first = begin(&gateway, "/");
    eventually(PATIENCE, || a.in_flight() == 1);
    let mut waiting: Vec<_> = (0..3).map(|_| begin(&gateway, "/")).collect();
    a.down();
    for connection in waiting.iter_mut().chain([&mut first]) {
        assert_eq!(endpoint(&connection.answer()), "b");
    }
    assert_eq!(b.most_in_flight(), 1);
}

#[test]
fn requests_wait_for_their_own_upstream_only() {
    let [a, b] = endpoints();
    a.slow(Duration::from_secs(30));
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          a: {{ endpoints: [{a}], max_connections: 1, {QUEUE} }}
          b: {{ endpoints: [{b}], max_connections: 1, {QUEUE} }}
        routes:
          - {{ match: {{ path: /a }}, upstream: a }}
          - {{ match: {{ path: /b }}, upstream: b }}
        "
    ));
    let waiting = [begin(&gateway, "/a"), begin(&gateway, "/a")];
    eventually(PATIENCE, || a.in_flight() == 1);
    for _ in 0..10 {
        assert_eq!(endpoint(&gateway.get("/b")), "b");
    }
    assert_eq!((a.requests(), a.in_flight()), (1, 1));
    drop(waiting);
}

// ---- what is written wrong --------------------------------------------------------------------

#[test]
fn a_queue_that_nobody_would_ever_wait_in_is_refused() {
    let endpoint = "endpoints: ['127.0.0.1:9']";
    for (upstream, said) in [
        (
            format!("{endpoint}, queue: {{ size: 5 }}"),
            "`queue` has no effect",
        ),
        (format!("{endpoint}, max_connections: 0"), "max_connections"),
        (
            format!("{endpoint}, max_connections: -1"),
            "max_connections",
        ),
        (
            format!("{endpoint}, max_connections: 1, queue: {{ size: 0 }}"),
            "size",
        ),
        (
            format!("{endpoint}, max_connections: 1, queue: {{ length: 5 }}"),
            "length",
        ),
        (
            format!("{endpoint}, max_connections: 1, queue: {{ timeout: 5 }}"),
            "timeout",
        ),
        (
            format!("{endpoint}, max_connections: 1, queue: {{ timeout: 0s }}"),
            "from `1ms` to `1d`",
        ),
        (format!("{endpoint}, max_connections: 1, queue: 5"), "queue"),
        (
            "endpoints: [{ address: '127.0.0.1:9', max_connections: 0 }]".to_owned(),
            "max_connections",
        ),
    ] {
        let log = Gateway::refused(&configuration(&upstream));
        assert!(log.contains(said), "{upstream}: {log}");
    }
}

#[test]
fn a_queue_is_good_when_one_endpoint_has_a_limit() {
    let a = Endpoint::start("a");
    a.slow(A_WHILE);
    let gateway = gateway(&format!(
        "endpoints: [{{ address: {a}, max_connections: 1 }}], {QUEUE}"
    ));
    load(gateway.address(), 3, 3, get).expect_all(200);
    assert_eq!(a.most_in_flight(), 1);
}

/// Who waits for endpoints that were replaced by a reload must not hold up those who come after it.
#[test]
fn who_comes_after_a_reload_does_not_wait_behind_those_from_before() {
    let (busy, idle) = (Endpoint::start("busy"), Endpoint::start("idle"));
    busy.slow(Duration::from_secs(3));
    let yaml = |endpoint: &Endpoint| {
        format!(
            "upstreams: {{ pool: {{ endpoints: [{endpoint}], max_connections: 1, queue: {{ timeout: 20s }} }} }}\n\
             routes: [{{ upstream: pool }}]\n"
        )
    };
    let gateway = Gateway::start(&yaml(&busy));
    let mut before: Vec<_> = (0..2).map(|_| gateway.connect()).collect();
    for client in &mut before {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    eventually(PATIENCE, || busy.in_flight() == 1);
    gateway.reload(&yaml(&idle));
    let start = Instant::now();
    assert_eq!(gateway.get("/").header("x-endpoint"), Some("idle"));
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    for client in &mut before {
        assert_eq!(client.answer().header("x-endpoint"), Some("busy"));
    }
}
