//! Checks that find out what is wrong with an endpoint before a client does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use edgeway_tests::{
    Authority, Break, Connection, Echo, Endpoint, Gateway, GrpcHealth, Health, PATIENCE, Reaction,
    Received, Request, Upstream, eventually, pace_during,
};

/// A gateway with one upstream, which every request goes to.
fn gateway(upstream: &str) -> Gateway {
    Gateway::start(&configuration(upstream))
}

fn configuration(upstream: &str) -> String {
    format!("upstreams: {{ pool: {{ {upstream} }} }}\nroutes: [{{ upstream: pool }}]\n")
}

/// A gateway with these upstreams, called `p0`, `p1` and so on; `/p0/` leads to the first.
fn several(upstreams: &[String]) -> Gateway {
    let mut text = "upstreams:\n".to_owned();
    for (number, upstream) in upstreams.iter().enumerate() {
        text += &format!("  p{number}: {{ {upstream} }}\n");
    }
    text += "routes:\n";
    for number in 0..upstreams.len() {
        text += &format!("  - {{ match: {{ path: /p{number}/ }}, upstream: p{number} }}\n");
    }
    Gateway::start(&text)
}

/// How many of so many requests each endpoint has answered; all must be answered well.
fn shares(gateway: &Gateway, requests: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..requests {
        let answer = gateway.get("/");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let name = answer.header("x-endpoint").unwrap().to_owned();
        *shares.entry(name).or_default() += 1;
    }
    shares
}

fn only(name: &str, requests: usize) -> BTreeMap<String, usize> {
    BTreeMap::from([(name.to_owned(), requests)])
}

fn get(connection: &mut Connection, _: usize) -> Request<'_> {
    connection.request("GET", "/")
}

/// How often a gateway has said this.
fn told(gateway: &Gateway, text: &str) -> usize {
    gateway.log().matches(text).count()
}

fn wait_until_told(gateway: &Gateway, text: &str, times: usize) {
    eventually(PATIENCE, || told(gateway, text) >= times);
}

fn healthy(endpoint: impl std::fmt::Display) -> String {
    format!("endpoint is healthy: upstream=pool endpoint={endpoint}")
}

fn unhealthy(endpoint: impl std::fmt::Display) -> String {
    format!("endpoint is unhealthy: upstream=pool endpoint={endpoint} reason=")
}

/// Waits for so many more checks.
fn checked(endpoint: &Endpoint, times: usize) {
    let before = endpoint.requests_to("/healthz");
    eventually(PATIENCE, || {
        endpoint.requests_to("/healthz") >= before + times
    });
}

/// Waits until there was a check.
fn was_checked(endpoint: &Endpoint) {
    eventually(PATIENCE, || endpoint.requests_to("/healthz") > 0);
}

/// A check that is quick to find out.
const QUICK: &str =
    "path: /healthz, interval: 30ms, timeout: 5s, healthy_after: 1, unhealthy_after: 1";

// ---- in and out of the rotation ---------------------------------------------------------------

/// #49, #50
#[test]
fn an_endpoint_that_says_it_is_ill_gets_no_request_until_it_is_well_and_no_client_notices() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let gateway = gateway(&format!("endpoints: [{a}, {b}], health: {{ {QUICK} }}"));
    let outcomes = pace_during(gateway.address(), 100, get, || {
        eventually(PATIENCE, || a.requests() > 10);
        a.health(Health::Down);
        gateway.wait_for_log(&unhealthy(&a));
        // Some may be on their way to it; then none comes while the other has many.
        eventually(PATIENCE, || {
            let (at_a, at_b) = (a.requests(), b.requests());
            eventually(PATIENCE, || b.requests() > at_b + 40);
            a.requests() == at_a
        });
        a.health(Health::Up);
        gateway.wait_for_log(&healthy(&a));
        let at_a = a.requests();
        eventually(PATIENCE, || a.requests() > at_a + 10);
    });
    outcomes.expect_all(200);
}

/// #49. Nothing but the checks may leave it out: `max_fails: 0`.
#[test]
fn a_process_that_ends_leaves_the_rotation_and_comes_back() {
    let (mut a, b) = (Echo::named("a"), Echo::named("b"));
    let gateway = gateway(&format!(
        "endpoints: [{a}, {b}], max_fails: 0, health: {{ {QUICK} }}"
    ));
    let outcomes = pace_during(gateway.address(), 100, get, || {
        a.kill();
        gateway.wait_for_log(&unhealthy(&a));
        a.restart();
        gateway.wait_for_log(&healthy(&a));
        eventually(PATIENCE, || a.stats().requests > 10);
    });
    outcomes.expect_all(200);
}

/// T1: half of the pool has a port where nobody is.
#[test]
fn a_wrong_port_in_the_pool_is_hidden_from_clients_and_named_once() {
    let a = Endpoint::start("a");
    let wrong = Upstream::refusing();
    let gateway = gateway(&format!("endpoints: [{a}, {wrong}], health: {{ {QUICK} }}"));
    let outcomes = pace_during(gateway.address(), 100, get, || {
        let line = gateway.wait_for_log(&unhealthy(&wrong));
        assert!(line.contains(" warn "), "{line}");
        checked(&a, 10);
    });
    outcomes.expect_all(200);
    assert_eq!(told(&gateway, &unhealthy(&wrong)), 1, "{}", gateway.log());
    assert_eq!(shares(&gateway, 20), only("a", 20));
}

#[test]
fn each_change_is_told_once_with_the_endpoint_and_the_reason() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let gateway = gateway(&format!("endpoints: [{a}, {b}], health: {{ {QUICK} }}"));
    checked(&a, 3);
    assert_eq!(told(&gateway, "endpoint is"), 0, "{}", gateway.log());
    for round in 1..=2 {
        a.health(Health::Down);
        wait_until_told(&gateway, &unhealthy(&a), round);
        checked(&a, 5);
        a.health(Health::Up);
        wait_until_told(&gateway, &healthy(&a), round);
        checked(&a, 5);
    }
    let log = gateway.log();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("endpoint is "))
        .collect();
    assert_eq!(lines.len(), 4, "{log}");
    let ill = format!("{}answered 503, expected 200-399", unhealthy(&a));
    assert!(lines[0].ends_with(&ill), "{log}");
    assert!(lines[1].ends_with(&healthy(&a)), "{log}");
}

#[test]
fn so_many_results_in_a_row_change_what_an_endpoint_is() {
    const ILL: usize = 5;
    const WELL: usize = 11;
    let number = AtomicUsize::new(0);
    let a = Endpoint::setup("a")
        .answers(move |request| {
            if request.path != "/check" {
                return Reaction::status(200);
            }
            // A single failure, the two that are enough; two successes, and then the three.
            let script = [200, 503, 200, 503, 503, 200, 200, 503, 200, 200, 200];
            let at = number.fetch_add(1, SeqCst);
            Reaction::status(script.get(at).copied().unwrap_or(200))
        })
        .start();
    let gateway = gateway(&format!(
        "endpoints: [{a}], health: {{ path: /check, interval: 150ms, healthy_after: 3, unhealthy_after: 2 }}"
    ));
    gateway.wait_for_log(&unhealthy(&a));
    assert!(a.requests_to("/check") >= ILL);
    gateway.wait_for_log(&healthy(&a));
    assert!(a.requests_to("/check") >= WELL);
    assert_eq!(told(&gateway, &unhealthy(&a)), 1);
}

#[test]
fn without_health_nothing_is_checked() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let _gateway = several(&[
        format!("endpoints: [{a}], health: {{ {QUICK} }}"),
        format!("endpoints: [{b}]"),
    ]);
    // First checks come within a second.
    thread::sleep(Duration::from_millis(1100));
    checked(&a, 3);
    assert_eq!(b.connections(), 0);
}

#[test]
fn checks_come_at_their_interval() {
    let a = Endpoint::start("a");
    let _gateway = gateway(&format!(
        "endpoints: [{a}], health: {{ path: /healthz, interval: 200ms }}"
    ));
    checked(&a, 1);
    let start = Instant::now();
    checked(&a, 10);
    // At most a tenth earlier, each.
    assert!(
        start.elapsed() >= Duration::from_millis(1600),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn checks_are_not_in_the_access_log() {
    let a = Endpoint::start("a");
    let pool = configuration(&format!("endpoints: [{a}], health: {{ {QUICK} }}"));
    let gateway = Gateway::start(&format!(
        "filters: [access_log: {{ format: '{{target}}' }}]\n{pool}"
    ));
    checked(&a, 5);
    gateway.get("/of-a-client");
    gateway.wait_for_output("/of-a-client");
    assert_eq!(gateway.output().trim(), "/of-a-client");
}

// ---- before the first check, and when none is well --------------------------------------------

#[test]
fn who_starts_unhealthy_is_served_after_the_first_success_and_not_before() {
    let a = Endpoint::start("a");
    a.health(Health::Down);
    let gateway = gateway(&format!(
        "endpoints: [{a}],
         health: {{ path: /healthz, interval: 50ms, start: unhealthy, healthy_after: 2 }}"
    ));
    for _ in 0..5 {
        assert_eq!(gateway.get("/").status, 503);
        checked(&a, 1);
    }
    // Also not as a last resort when enough checks have failed.
    gateway.wait_for_log(&unhealthy(&a));
    assert_eq!(gateway.get("/").status, 503);
    assert_eq!(a.requests(), 0);
    a.health(Health::Up);
    gateway.wait_for_log(&healthy(&a));
    assert_eq!(shares(&gateway, 3), only("a", 3));
    // Whoever was seen to serve is a last resort.
    a.health(Health::Down);
    wait_until_told(&gateway, &unhealthy(&a), 2);
    assert_eq!(shares(&gateway, 3), only("a", 3));
}

#[test]
fn who_starts_unhealthy_is_not_asked_before_its_first_check_is_over() {
    let a = Endpoint::start("a");
    a.health(Health::Hanging);
    let gateway = gateway(&format!(
        "endpoints: [{a}], health: {{ path: /healthz, timeout: 1m, start: unhealthy }}"
    ));
    was_checked(&a);
    let answer = gateway.get("/");
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
    assert_eq!(a.requests(), 0);
}

#[test]
fn who_starts_healthy_is_served_before_its_first_check_is_over() {
    let a = Endpoint::start("a");
    a.health(Health::Hanging);
    let gateway = gateway(&format!(
        "endpoints: [{a}], health: {{ path: /healthz, timeout: 1m, start: healthy }}"
    ));
    assert_eq!(shares(&gateway, 5), only("a", 5));
    was_checked(&a);
    assert_eq!(shares(&gateway, 5), only("a", 5));
}

#[test]
fn when_none_is_well_all_are_asked_or_none_as_last_resort_says() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let pool = |last_resort: bool| {
        configuration(&format!(
            "endpoints: [{a}, {b}], health: {{ {QUICK} }}, ejection: {{ last_resort: {last_resort} }}"
        ))
    };
    a.health(Health::Down);
    b.health(Health::Down);
    let gateway = Gateway::start(&pool(true));
    gateway.wait_for_log(&unhealthy(&a));
    gateway.wait_for_log(&unhealthy(&b));
    let both = shares(&gateway, 10);
    assert_eq!((both["a"], both["b"]), (5, 5));
    assert!(gateway.reload(&pool(false)));
    let asked = a.requests() + b.requests();
    let answer = gateway.get("/");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(a.requests() + b.requests(), asked);
    b.health(Health::Up);
    gateway.wait_for_log(&healthy(&b));
    assert_eq!(shares(&gateway, 5), only("b", 5));
}

#[test]
fn backups_are_checked_while_they_have_nothing_to_do() {
    let [mut a, b, c] = ["a", "b", "c"].map(Endpoint::start);
    let gateway = gateway(&format!(
        "endpoints: [{a}, {{ address: {b}, backup: true }}, {{ address: {c}, backup: true }}],
         health: {{ {QUICK} }}"
    ));
    assert_eq!(shares(&gateway, 5), only("a", 5));
    b.health(Health::Down);
    gateway.wait_for_log(&unhealthy(&b));
    a.down();
    gateway.wait_for_log(&unhealthy(&a));
    assert_eq!(shares(&gateway, 10), only("c", 10));
    b.health(Health::Up);
    gateway.wait_for_log(&healthy(&b));
    assert_eq!(shares(&gateway, 10).len(), 2);
    a.up();
    gateway.wait_for_log(&healthy(&a));
    assert_eq!(shares(&gateway, 5), only("a", 5));
}

// ---- checks that hang -------------------------------------------------------------------------

#[test]
fn a_check_that_hangs_is_a_failure_and_delays_no_other() {
    let [a, b, c] = ["a", "b", "c"].map(Endpoint::start);
    let gateway = gateway(&format!(
        "endpoints: [{a}, {b}, {c}],
         health: {{ path: /healthz, interval: 30ms, timeout: 3s, unhealthy_after: 1 }}"
    ));
    checked(&a, 2);
    a.health(Health::Hanging);
    let before = (b.requests_to("/healthz"), a.requests_to("/healthz"));
    checked(&b, 10);
    c.health(Health::Down);
    gateway.wait_for_log(&unhealthy(&c));
    // One may have been answered just before.
    assert!(a.requests_to("/healthz") <= before.1 + 1, "{before:?}");
    assert_eq!(told(&gateway, &unhealthy(&a)), 0, "{}", gateway.log());
    let line = gateway.wait_for_log(&unhealthy(&a));
    assert!(line.ends_with("reason=no answer within 3s"), "{line}");
    assert_eq!(shares(&gateway, 10), only("b", 10));
}

/// The kernel accepts its connections.
#[test]
fn a_stopped_process_is_found_out_and_comes_back_when_it_goes_on() {
    let (a, b) = (Echo::named("a"), Echo::named("b"));
    let gateway = gateway(&format!(
        "endpoints: [{a}, {b}], retries: {{ timeout: 300ms }}, max_fails: 0,
         health: {{ path: /healthz, interval: 50ms, timeout: 300ms, unhealthy_after: 1, healthy_after: 1 }}"
    ));
    let outcomes = pace_during(gateway.address(), 100, get, || {
        eventually(PATIENCE, || a.stats().requests > 5);
        a.pause();
        let line = gateway.wait_for_log(&unhealthy(&a));
        assert!(line.contains("within 300ms"), "{line}");
        a.resume();
        gateway.wait_for_log(&healthy(&a));
    });
    outcomes.expect_all(200);
}

#[test]
fn a_check_that_hangs_does_not_hold_up_the_end_of_the_gateway() {
    let a = Endpoint::start("a");
    a.health(Health::Hanging);
    let mut gateway = gateway(&format!(
        "endpoints: [{a}], health: {{ path: /healthz, timeout: 1h }}"
    ));
    was_checked(&a);
    let start = Instant::now();
    assert!(gateway.stop().success());
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
}

// ---- what a check asks ------------------------------------------------------------------------

#[test]
fn a_check_asks_as_it_is_written() {
    let a = Endpoint::start("a");
    let _gateway = several(&[
        format!(
            "endpoints: [{a}], health: {{ path: '/check?of=p0', interval: 100ms, method: POST,
             host: 'app.internal:81', headers: {{ X-Check: '7', Accept: text/plain, User-Agent: probe }} }}"
        ),
        format!("endpoints: [{a}], health: {{ path: '/check?of=p1', interval: 100ms }}"),
        format!("endpoints: [{a}], health: {{ path: '/check?of=p2', interval: 100ms, method: HEAD }}"),
        format!("endpoints: [{a}], health: {{ path: '/check?of=p3', interval: 100ms, method: OPTIONS }}"),
    ]);
    let request = |of: &str| -> Received {
        let target = format!("/check?of={of}");
        let mut found = None;
        eventually(PATIENCE, || {
            found = a
                .received()
                .into_iter()
                .find(|request| request.target == target);
            found.is_some()
        });
        found.unwrap()
    };
    let written = request("p0");
    assert_eq!(written.method, "POST");
    assert_eq!(written.host, "app.internal:81");
    assert_eq!(written.header_all("x-check"), ["7"]);
    assert_eq!(written.header_all("accept"), ["text/plain"]);
    assert_eq!(written.header_all("user-agent"), ["probe"]);
    let plain = request("p1");
    assert_eq!((&*plain.method, &*plain.host), ("GET", &*a.to_string()));
    assert_eq!(plain.header_all("user-agent"), ["edgeway-health-check"]);
    assert_eq!(request("p2").method, "HEAD");
    assert_eq!(request("p3").method, "OPTIONS");
}

#[test]
fn an_answer_must_be_as_expected() {
    let a = Endpoint::setup("a")
        .answers(|request| {
            let last = request.path.rsplit('/').next().unwrap();
            match last.parse() {
                Ok(status) => Reaction::status(status),
                Err(_) => Reaction::status(200).body("all is well: load=12\n"),
            }
        })
        .start();
    let body = "the body does not";
    // A path, what is expected, and why that is not so.
    let cases = [
        ("/200", "", ""),
        ("/302", "", ""),
        ("/404", "", "answered 404, expected 200-399"),
        ("/404", "status: 404", ""),
        ("/200", "status: 404", "answered 200, expected 404"),
        (
            "/200",
            "status: '201-299'",
            "answered 200, expected 201-299",
        ),
        ("/503", "status: [200-299, 503]", ""),
        (
            "/500",
            "status: [200-299, 503]",
            "answered 500, expected 200-299, 503",
        ),
        ("/text", "body: is well", ""),
        ("/text", "body: is ill", body),
        ("/text", "body: { regex: 'load=[0-9]{2}\\n$' }", ""),
        ("/text", "body: { regex: 'load=[0-9]{3}' }", body),
        (
            "/text",
            "body: is well, status: 201",
            "answered 200, expected 201",
        ),
    ];
    let upstreams = cases.map(|(path, expect, _)| {
        let expect = if expect.is_empty() { String::new() } else { format!("expect: {{ {expect} }},") };
        format!(
            "endpoints: [{a}], ejection: {{ last_resort: false }},
             health: {{ path: {path}, {expect} interval: 100ms, start: unhealthy, unhealthy_after: 1 }}"
        )
    });
    let gateway = several(&upstreams);
    for (number, (path, expect, wrong)) in cases.into_iter().enumerate() {
        let line = gateway.wait_for_log(&format!(" upstream=p{number} endpoint={a}"));
        let case = format!("{path} {expect}: {line}");
        assert_eq!(
            line.contains("endpoint is healthy"),
            wrong.is_empty(),
            "{case}"
        );
        assert!(
            wrong.is_empty() || line.contains(&format!("reason={wrong}")),
            "{case}"
        );
        let status = gateway.get(&format!("/p{number}/200")).status;
        assert_eq!(status, if wrong.is_empty() { 200 } else { 503 }, "{case}");
    }
}

#[test]
fn an_answer_that_breaks_off_is_none() {
    let a = Endpoint::start("a");
    let gateway = several(&[
        format!("endpoints: [{a}], health: {{ path: /a, interval: 100ms, unhealthy_after: 1 }}"),
        format!(
            "endpoints: [{a}], health: {{ path: /b, interval: 100ms, unhealthy_after: 1, expect: {{ body: endpoint }} }}"
        ),
    ]);
    a.breaks(Break::AfterHead);
    let closed = "reason=closed the connection before its answer was complete";
    for upstream in ["p0", "p1"] {
        let line = gateway.wait_for_log(&format!("endpoint is unhealthy: upstream={upstream}"));
        assert!(line.ends_with(closed), "{line}");
    }
}

#[test]
fn a_check_by_tcp_wants_a_connection_and_no_more() {
    let mut a = Endpoint::start("a");
    a.health(Health::Down);
    let gateway = gateway(&format!(
        "endpoints: [{a}], health: {{ type: tcp, interval: 50ms, unhealthy_after: 1, healthy_after: 1 }},
         max_fails: 0, ejection: {{ last_resort: false }}"
    ));
    eventually(PATIENCE, || a.connections() > 3);
    assert_eq!(shares(&gateway, 3), only("a", 3));
    assert_eq!(a.requests_to("/healthz"), 0);
    a.down();
    let line = gateway.wait_for_log(&unhealthy(&a));
    assert!(line.ends_with("reason=connection refused"), "{line}");
    assert_eq!(gateway.get("/").status, 503);
    a.up();
    gateway.wait_for_log(&healthy(&a));
    assert_eq!(shares(&gateway, 3), only("a", 3));
}

#[test]
fn a_check_may_go_to_another_port() {
    let (a, of_a) = (Endpoint::start("a"), Endpoint::start("of a"));
    let port = of_a.address().port();
    let gateway = gateway(&format!(
        "endpoints: [{a}], health: {{ {QUICK}, port: {port} }}, ejection: {{ last_resort: false }}"
    ));
    checked(&of_a, 2);
    assert_eq!(shares(&gateway, 3), only("a", 3));
    of_a.health(Health::Down);
    gateway.wait_for_log(&unhealthy(&a));
    assert_eq!(gateway.get("/").status, 503);
    assert_eq!((a.requests_to("/healthz"), of_a.requests()), (0, 0));
}

#[test]
fn a_check_by_grpc_asks_the_health_service() {
    let grpc = GrpcHealth::start();
    let authority = Authority::new();
    let secure =
        GrpcHealth::with(Endpoint::setup("secure").tls(&authority.certificate(&["127.0.0.1"])));
    let check = "interval: 50ms, timeout: 300ms, unhealthy_after: 1, healthy_after: 1";
    let gateway = several(&[
        format!(
            "endpoints: [{grpc}], protocol: http2,
             health: {{ type: grpc, service: shop.Cart, start: unhealthy, {check} }}"
        ),
        format!(
            "endpoints: [{secure}], protocol: http2, tls: {{ ca: {} }},
             health: {{ type: grpc, start: unhealthy, {check} }}",
            authority.ca().display()
        ),
    ]);
    let cases = [("p0", &grpc, "shop.Cart"), ("p1", &secure, "")];
    for (upstream, grpc, service) in cases {
        let healthy = format!("endpoint is healthy: upstream={upstream}");
        let unhealthy = format!("endpoint is unhealthy: upstream={upstream}");
        gateway.wait_for_log(&healthy);
        let asked = grpc.asked();
        assert!(asked.iter().all(|name| name == service), "{asked:?}");
        for (health, reason) in [
            (Health::Down, "NOT_SERVING"),
            (Health::Unknown, "NOT_FOUND"),
            (Health::Hanging, "within 300ms"),
        ] {
            let ill = told(&gateway, &unhealthy) + 1;
            grpc.set(health);
            wait_until_told(&gateway, &unhealthy, ill);
            let log = gateway.log();
            let line = log
                .lines()
                .filter(|line| line.contains(&unhealthy))
                .nth(ill - 1)
                .unwrap();
            assert!(line.contains(reason), "{line}");
            let well = told(&gateway, &healthy) + 1;
            grpc.set(Health::Up);
            wait_until_told(&gateway, &healthy, well);
        }
    }
}

#[test]
fn grpc_is_asked_in_http2_also_where_requests_go_in_http1() {
    let grpc = GrpcHealth::start();
    let plain = Endpoint::start("plain");
    let gateway = several(&[
        format!("endpoints: [{grpc}], health: {{ type: grpc, interval: 50ms, start: unhealthy }}"),
        format!(
            "endpoints: [{plain}], health: {{ type: grpc, interval: 50ms, unhealthy_after: 1 }}"
        ),
    ]);
    gateway.wait_for_log("endpoint is healthy: upstream=p0");
    gateway.wait_for_log("endpoint is unhealthy: upstream=p1");
}

#[test]
fn a_check_takes_the_way_of_requests() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["app.test"]);
    let clients = Authority::new();
    let client = clients.client_certificate("edgeway");
    let tls = Endpoint::https("tls", &certificate);
    let mutual = Endpoint::setup("mutual")
        .mutual_tls(&certificate, &clients)
        .start();
    let h2c = Endpoint::h2c("h2c");
    let unix = Endpoint::setup("unix").unix().start();
    let ca = authority.ca().display().to_string();
    let check = format!("health: {{ {QUICK}, start: unhealthy }}");
    let gateway = several(&[
        format!("endpoints: [{tls}], tls: {{ ca: {ca}, name: app.test }}, {check}"),
        format!(
            "endpoints: [{tls}], protocol: http2, tls: {{ ca: {ca}, name: app.test }}, {check}"
        ),
        format!(
            "endpoints: [{mutual}], tls: {{ ca: {ca}, name: app.test, certificate: {}, key: {} }}, {check}",
            client.chain().display(),
            client.key().display()
        ),
        format!("endpoints: [{h2c}], protocol: http2, {check}"),
        format!("endpoints: [\"{unix}\"], {check}"),
        format!(
            "endpoints: [\"{unix}\"], health: {{ type: tcp, interval: 50ms, start: unhealthy }}"
        ),
        // And these can't be reached.
        format!("endpoints: [{tls}], tls: {{ ca: {ca}, name: other.test }}, {check}"),
        format!("endpoints: [{tls}], tls: {{ name: app.test }}, {check}"),
        format!("endpoints: [{mutual}], tls: {{ ca: {ca}, name: app.test }}, {check}"),
    ]);
    for (number, name) in ["tls", "tls", "mutual", "h2c", "unix", "unix"]
        .iter()
        .enumerate()
    {
        gateway.wait_for_log(&format!("endpoint is healthy: upstream=p{number} "));
        let answer = gateway.get(&format!("/p{number}/"));
        assert_eq!(
            answer.header("x-endpoint"),
            Some(*name),
            "{}",
            answer.text()
        );
    }
    for number in 6..9 {
        let line = gateway.wait_for_log(&format!("endpoint is unhealthy: upstream=p{number} "));
        assert!(
            number == 8 || line.contains("reason=the TLS handshake failed: "),
            "{line}"
        );
    }
    assert!(
        tls.inbound()
            .iter()
            .all(|inbound| inbound.sni.as_deref() == Some("app.test"))
    );
    for endpoint in [&h2c, &unix] {
        endpoint.health(Health::Down);
        gateway.wait_for_log(&format!("endpoint={endpoint} reason=answered 503"));
    }
}

#[test]
fn checks_keep_no_connection() {
    let kinds = [
        (Endpoint::start("http1"), "http1"),
        (Endpoint::h2c("h2c"), "http2"),
    ];
    for (endpoint, protocol) in kinds {
        let _gateway = gateway(&format!(
            "endpoints: [{endpoint}], protocol: {protocol}, health: {{ {QUICK} }}"
        ));
        checked(&endpoint, 5);
        let (checks, connections) = (endpoint.requests_to("/healthz"), endpoint.connections());
        assert!(connections + 1 >= checks, "{connections} for {checks}");
        eventually(PATIENCE, || endpoint.open_connections() <= 1);
    }
}

// ---- reload -----------------------------------------------------------------------------------

#[test]
fn what_checks_have_found_outlives_a_reload_also_when_they_are_others_then() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let pool =
        |health: &str| configuration(&format!("endpoints: [{a}, {b}], health: {{ {health} }}"));
    let gateway = Gateway::start(&pool(QUICK));
    a.health(Health::Down);
    gateway.wait_for_log(&unhealthy(&a));
    // No check ends after these reloads.
    a.health(Health::Hanging);
    b.health(Health::Hanging);
    for other in [
        "path: /healthz, timeout: 1h",
        "path: /healthz, timeout: 1h, start: unhealthy, unhealthy_after: 7",
        "type: tcp, port: 9, timeout: 1h, interval: 1h, unhealthy_after: 100",
        "path: /healthz, timeout: 1h, start: healthy",
    ] {
        assert!(gateway.reload(&pool(other)));
        assert_eq!(shares(&gateway, 10), only("b", 10), "{other}");
    }
    assert_eq!(told(&gateway, "endpoint is"), 1, "{}", gateway.log());
    a.behave();
    b.behave();
    assert!(gateway.reload(&pool(QUICK)));
    gateway.wait_for_log(&healthy(&a));
    assert_eq!(shares(&gateway, 10).len(), 2);
}

#[test]
fn an_endpoint_is_served_again_when_checks_are_removed() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let endpoints = format!("endpoints: [{a}, {b}]");
    let with = configuration(&format!("{endpoints}, health: {{ {QUICK} }}"));
    let gateway = Gateway::start(&with);
    a.health(Health::Down);
    gateway.wait_for_log(&unhealthy(&a));
    assert!(gateway.reload(&configuration(&endpoints)));
    assert_eq!(shares(&gateway, 10).len(), 2);
    let checks = a.requests_to("/healthz");
    // And they are found ill again when there are checks again.
    assert!(gateway.reload(&with));
    wait_until_told(&gateway, &unhealthy(&a), 2);
    assert!(a.requests_to("/healthz") > checks);
    assert_eq!(shares(&gateway, 10), only("b", 10));
}

#[test]
fn reloads_leave_no_checks_behind() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    // Slow enough that a check is under way at each reload.
    let check = "health: { path: /healthz, interval: 100ms }";
    let text = |upstreams: &[(&str, &Endpoint)]| {
        let mut text = "upstreams:\n".to_owned();
        for (name, endpoint) in upstreams {
            text += &format!("  {name}: {{ endpoints: [{endpoint}], {check} }}\n");
        }
        text += "routes:\n";
        for (name, _) in upstreams {
            text += &format!("  - {{ match: {{ path: /{name}/ }}, upstream: {name} }}\n");
        }
        text
    };
    let gateway = Gateway::start(&text(&[("a", &a), ("b", &b)]));
    for _ in 0..30 {
        assert!(gateway.reload_files());
    }
    let before = a.requests_to("/healthz");
    thread::sleep(Duration::from_secs(1));
    let rate = a.requests_to("/healthz") - before;
    assert!(rate <= 15, "{rate} checks in a second, 10 are meant");
    // An upstream that is gone is not checked, nor one that takes its name.
    assert!(gateway.reload(&text(&[("a", &a)])));
    let after = b.requests_to("/healthz");
    checked(&a, 5);
    assert!(b.requests_to("/healthz") <= after + 1);
    assert!(gateway.reload(&text(&[("a", &b)])));
    let after = a.requests_to("/healthz");
    checked(&b, 5);
    assert!(a.requests_to("/healthz") <= after + 1);
}

#[test]
fn an_endpoint_that_is_added_by_a_reload_is_checked_too() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    b.health(Health::Down);
    let pool = |endpoints: &str| {
        configuration(&format!(
            "endpoints: [{endpoints}], health: {{ {QUICK}, start: unhealthy }}"
        ))
    };
    let gateway = Gateway::start(&pool(&a.to_string()));
    gateway.wait_for_log(&healthy(&a));
    assert!(gateway.reload(&pool(&format!("{a}, {b}"))));
    // Never asked before a check has said that it may be.
    assert_eq!(shares(&gateway, 10), only("a", 10));
    gateway.wait_for_log(&unhealthy(&b));
    b.health(Health::Up);
    gateway.wait_for_log(&healthy(&b));
    assert_eq!(shares(&gateway, 10).len(), 2);
}

// ---- mistakes ---------------------------------------------------------------------------------

#[test]
fn checks_that_make_no_sense_are_refused_where_they_are_written() {
    let cases = [
        ("{ interval: 2s }", "a check over HTTP needs a `path`"),
        ("{ path: healthz }", "expected a path such as `/healthz`"),
        (
            "{ type: tcp, path: / }",
            "`path` has no effect on a check of type `tcp`",
        ),
        (
            "{ path: /, service: a }",
            "`service` has no effect on a check of type `http`",
        ),
        (
            "{ type: tcp, expect: { status: 200 } }",
            "`expect` has no effect",
        ),
        ("{ path: /, healthy_after: 0 }", "healthy_after"),
        ("{ path: /, interval: 0s }", "from `1ms` to `1d`"),
        ("{ path: /, timeout: soon }", "timeout"),
        ("{ path: /, port: 65536 }", "port"),
        ("{ path: /, start: maybe }", "`healthy`"),
        (
            "{ path: /, method: DELETE }",
            "expected `GET`, `HEAD`, `POST` or `OPTIONS`",
        ),
        (
            "{ path: /, expect: { body: { regex: '(' } } }",
            "is not a valid regex",
        ),
        ("{ path: /, expect: { status: [] } }", "no status would do"),
        (
            "{ path: /, headers: { Host: a } }",
            "write `host:` beside `headers:`",
        ),
        ("{ path: /, intervall: 1s }", "`interval`"),
        ("udp", "expected `tcp`, `grpc`, or a map"),
    ];
    for (health, wanted) in cases {
        let text = format!(
            "upstreams:\n  pool:\n    endpoints: [127.0.0.1:9]\n    health: {health}\nroutes: [{{ upstream: pool }}]\n"
        );
        let said = Gateway::refused(&text);
        assert!(said.contains(wanted), "{health}\n{said}");
        assert!(said.contains("edgeway.yaml:4:"), "{health}\n{said}");
    }
}

#[test]
fn a_port_is_no_help_where_an_endpoint_is_a_socket() {
    let said = Gateway::refused(
        "upstreams:\n  pool:\n    endpoints: ['127.0.0.1:9', 'unix:/run/app.sock']\n    health: { path: /, port: 9000 }\nroutes: [{ upstream: pool }]\n",
    );
    assert!(said.contains("`port` of `health` has no effect"), "{said}");
    assert!(said.contains("edgeway.yaml:3:"), "{said}");
}

#[test]
fn a_check_that_may_take_longer_than_the_pause_is_warned_of() {
    let warned = |health: &str| {
        let text = format!(
            "upstreams: {{ pool: {{ endpoints: ['127.0.0.1:9'], health: {{ type: tcp, {health} }} }} }}\nroutes: [{{ upstream: pool }}]\n"
        );
        let gateway = Gateway::start(&text);
        gateway
            .log()
            .contains("`timeout` is longer than `interval`")
    };
    assert!(warned("interval: 1s, timeout: 2s"));
    assert!(warned("timeout: 6s"));
    assert!(!warned("interval: 2s, timeout: 2s"));
}
