//! Endpoints that are found: by name, by service, in a file; and followed when they change.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::os::unix::fs::symlink;
use std::thread;
use std::time::{Duration, Instant};

use edgeway_tests::{
    Authority, Connection, Dns, Endpoint, EndpointSetup, Gateway, Health, PATIENCE, Request, Setup,
    Upstream, eventually, pace_during,
};

/// Endpoints called `1`, `2` and so on that have one port, at 127.0.0.1, 127.0.0.2 and so on.
fn neighbours<const N: usize>() -> [Endpoint; N] {
    neighbours_with(|setup| setup)
}

fn neighbours_with<const N: usize>(kind: impl Fn(EndpointSetup) -> EndpointSetup) -> [Endpoint; N] {
    let first = kind(Endpoint::setup("1")).start();
    let port = first.address().port();
    let mut first = Some(first);
    std::array::from_fn(|number| {
        first.take().unwrap_or_else(|| {
            let number = number + 1;
            let setup = kind(Endpoint::setup(&number.to_string()));
            setup.at(&format!("127.0.0.{number}:{port}")).start()
        })
    })
}

fn port(endpoint: &Endpoint) -> u16 {
    endpoint.address().port()
}

/// Answers hold for so short a time that a change is seen at once.
fn resolver(dns: &Dns) -> String {
    format!("resolver: {{ nameservers: [{dns}], timeout: 200ms, min_ttl: 20ms, max_ttl: 50ms }}")
}

/// One upstream, which every request goes to.
fn configuration(resolver: &str, upstream: &str) -> String {
    format!("{resolver}\nupstreams: {{ pool: {{ {upstream} }} }}\nroutes: [{{ upstream: pool }}]\n")
}

fn gateway(dns: &Dns, upstream: &str) -> Gateway {
    Gateway::start(&configuration(&resolver(dns), upstream))
}

/// A gateway whose endpoints are in `endpoints.yaml`, which is looked at often.
fn filed(content: impl Display) -> Gateway {
    Gateway::setup(&configuration("", FILE))
        .file("endpoints.yaml", content.to_string())
        .start()
}

const FILE: &str = "discover: { file: endpoints.yaml, interval: 20ms }";

/// How many of so many requests each endpoint has answered; all must be answered well.
fn shares(gateway: &Gateway, requests: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..requests {
        let answer = gateway.get("/");
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), gateway.log());
        let name = answer.header("x-endpoint").unwrap().to_owned();
        *shares.entry(name).or_default() += 1;
    }
    shares
}

/// Who answers: `["1", "3"]`.
fn who(gateway: &Gateway) -> Vec<String> {
    shares(gateway, 12).into_keys().collect()
}

/// Waits until these endpoints answer, and no others. Each request must be answered well, also
/// meanwhile.
#[track_caller]
fn expect(gateway: &Gateway, names: &[&str]) {
    let start = Instant::now();
    loop {
        let seen = who(gateway);
        if seen == names {
            return;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "{seen:?}, not {names:?}\n{}",
            gateway.log()
        );
    }
}

fn status(gateway: &Gateway) -> u16 {
    gateway.get("/").status
}

fn told(gateway: &Gateway, text: &str) -> usize {
    gateway.log().matches(text).count()
}

fn get(connection: &mut Connection, _: usize) -> Request<'_> {
    connection.request("GET", "/")
}

/// Waits for so many more questions.
fn asked(dns: &Dns, name: &str, times: usize) {
    let before = dns.questions(name);
    eventually(PATIENCE, || dns.questions(name) >= before + times);
}

const LOST: &str = "endpoints can't be discovered, those that are known stay";
const AGAIN: &str = "endpoints are discovered again";

// ---- every address of a name ------------------------------------------------------------------

/// #53
#[test]
fn every_address_of_a_name_is_an_endpoint_and_changes_are_followed() {
    let [a, _b, _c] = &neighbours();
    let dns = Dns::start();
    dns.set_a("app.test", &["127.0.0.1", "127.0.0.2", "127.0.0.3"], 300);
    let gateway = gateway(
        &dns,
        &format!("discover: {{ dns: 'app.test:{}' }}", port(a)),
    );
    let all = shares(&gateway, 30);
    assert_eq!(all.values().collect::<Vec<_>>(), [&10, &10, &10]);
    dns.set_a("app.test", &["127.0.0.2"], 300);
    expect(&gateway, &["2"]);
    dns.set_a("app.test", &["127.0.0.3", "127.0.0.1"], 300);
    expect(&gateway, &["1", "3"]);
}

/// #53. By the answers' own time to live, and default settings but for who is asked.
#[test]
fn a_change_is_followed_within_the_time_to_live() {
    let [a, _b] = &neighbours();
    let dns = Dns::start();
    dns.set_a("app.test", &["127.0.0.1"], 1);
    let nameservers = format!("resolver: {{ nameservers: [{dns}] }}");
    let discover = format!("discover: {{ dns: 'app.test:{}' }}", port(a));
    let gateway = Gateway::start(&configuration(&nameservers, &discover));
    assert_eq!(who(&gateway), ["1"]);
    dns.set_a("app.test", &["127.0.0.2"], 3600);
    let start = Instant::now();
    expect(&gateway, &["2"]);
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
    // The next answer is good for an hour, or five minutes at most.
    let questions = dns.questions("app.test");
    dns.set_a("app.test", &["127.0.0.1"], 3600);
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(who(&gateway), ["2"]);
    assert!(dns.questions("app.test") <= questions + 2);
}

#[test]
fn answers_are_kept_at_least_and_at_most_as_long_as_configured() {
    let [a, _b] = &neighbours();
    let dns = Dns::start();
    let upstream = |name: &str| format!("discover: {{ dns: '{name}.test:{}' }}", port(a));
    let start = |name: &str, ttl: u32, limits: &str| {
        dns.set_a(&format!("{name}.test"), &["127.0.0.1"], ttl);
        let resolver = format!("resolver: {{ nameservers: [{dns}], {limits} }}");
        Gateway::start(&configuration(&resolver, &upstream(name)))
    };
    let long = start("long", 0, "min_ttl: 1m");
    let short = start("short", 3600, "max_ttl: 100ms, min_ttl: 100ms");
    let often = start("often", 0, "min_ttl: 100ms");
    asked(&dns, "short.test", 10);
    asked(&dns, "often.test", 10);
    // Two families, when it starts and when it begins to follow.
    assert!(
        dns.questions("long.test") <= 4,
        "{}",
        dns.questions("long.test")
    );
    let before = dns.questions("often.test");
    thread::sleep(Duration::from_millis(1000));
    let questions = dns.questions("often.test") - before;
    assert!(questions <= 22, "{questions} in a second, 20 are meant");
    for name in ["long.test", "short.test", "often.test"] {
        dns.set_a(name, &["127.0.0.2"], 3600);
    }
    expect(&short, &["2"]);
    expect(&often, &["2"]);
    assert_eq!(who(&long), ["1"]);
}

#[test]
fn addresses_of_both_families_are_endpoints() {
    // A machine may be without IPv6.
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let six = Endpoint::setup("six").at("[::1]:0").start();
    let four = Endpoint::setup("four")
        .at(&format!("127.0.0.1:{}", port(&six)))
        .start();
    let dns = Dns::start();
    dns.set_a("app.test", &["127.0.0.1"], 1);
    dns.set_aaaa("app.test", &["::1"], 1);
    let gateway = gateway(
        &dns,
        &format!("discover: {{ dns: 'app.test:{}' }}", port(&four)),
    );
    assert_eq!(who(&gateway), ["four", "six"]);
}

// ---- when the name server fails ---------------------------------------------------------------

/// T18
#[test]
fn what_was_found_last_stays_while_the_name_server_fails() {
    let [a, _b] = &neighbours();
    let dns = Dns::start();
    let both = ["127.0.0.1", "127.0.0.2"];
    dns.set_a("app.test", &both, 1);
    let gateway = gateway(
        &dns,
        &format!("discover: {{ dns: 'app.test:{}' }}", port(a)),
    );
    type Outage<'a> = (&'a dyn Fn(&Dns), &'a str);
    let outages: [Outage<'_>; 4] = [
        (&|dns| dns.fail(true), "the name server says: "),
        (&|dns| dns.remove("app.test"), "there is no such name"),
        (
            &|dns| dns.set_a("app.test", &[], 1),
            "the name has no addresses",
        ),
        (
            &|dns| dns.silent(true),
            "no name server has answered in time",
        ),
    ];
    for (number, (outage, reason)) in outages.into_iter().enumerate() {
        let outages = number + 1;
        outage(&dns);
        eventually(PATIENCE, || told(&gateway, LOST) >= outages);
        let line = gateway.log();
        let line = line
            .lines()
            .rfind(|line| line.contains(LOST))
            .unwrap()
            .to_owned();
        assert!(line.contains(&format!(" reason={reason}")), "{line}");
        assert!(line.contains("upstream=pool dns=app.test:"), "{line}");
        asked(&dns, "app.test", 2);
        assert_eq!(who(&gateway), ["1", "2"], "{reason}");
        dns.fail(false);
        dns.silent(false);
        dns.set_a("app.test", &both, 1);
        eventually(PATIENCE, || told(&gateway, AGAIN) >= outages);
        assert_eq!(told(&gateway, LOST), outages, "{}", gateway.log());
    }
    drop(dns);
    eventually(PATIENCE, || told(&gateway, LOST) > 4);
    assert_eq!(who(&gateway), ["1", "2"]);
}

/// T18
#[test]
fn what_was_found_stays_through_a_reload_during_an_outage() {
    let [a, b] = &neighbours();
    let dns = Dns::start();
    dns.set_a("app.test", &["127.0.0.1", "127.0.0.2"], 1);
    dns.set_a("one.test", &["127.0.0.1"], 1);
    let text = |more: &str| {
        format!(
            "{}
upstreams:
  pool: {{ discover: {{ dns: 'app.test:{port}' }}, {more} }}
  named: {{ endpoints: ['one.test:{port}'], {more} }}
routes: [{{ upstream: pool }}, {{ match: {{ path: /named }}, upstream: named }}]
",
            resolver(&dns),
            port = port(a)
        )
    };
    let gateway = Gateway::start(&text(""));
    assert_eq!(who(&gateway), ["1", "2"]);
    dns.fail(true);
    gateway.wait_for_log(LOST);
    assert!(gateway.reload(&text("timeouts: { read: 7s }")));
    assert_eq!(who(&gateway), ["1", "2"]);
    assert_eq!(gateway.get("/named").status, 200);
    dns.silent(true);
    assert!(gateway.reload(&text("timeouts: { read: 8s }")));
    assert_eq!(who(&gateway), ["1", "2"]);
    assert_eq!(gateway.get("/named").status, 200);
    assert!(b.requests() > 0);
}

/// T18, and #53
#[test]
fn names_that_do_not_resolve_yet_are_served_when_they_do() {
    let [a, _b] = &neighbours();
    let dns = Dns::start();
    let text = format!(
        "{}
upstreams:
  pool: {{ discover: {{ dns: 'app.test:{port}' }} }}
  named: {{ endpoints: ['one.test:{port}'] }}
  listed: {{ discover: {{ srv: _http._tcp.test }} }}
routes:
  - upstream: pool
  - {{ match: {{ path: /named }}, upstream: named }}
  - {{ match: {{ path: /listed }}, upstream: listed }}
",
        resolver(&dns),
        port = port(a)
    );
    let gateway = Gateway::start(&text);
    for path in ["/", "/named", "/listed"] {
        assert_eq!(gateway.get(path).status, 503, "{path}");
    }
    gateway.wait_for_log("endpoint is down: upstream=named endpoint=one.test:");
    gateway.wait_for_log(&format!("{LOST}: upstream=pool dns=app.test:"));
    gateway.wait_for_log(&format!("{LOST}: upstream=listed srv=_http._tcp.test"));
    dns.set_a("app.test", &["127.0.0.1"], 1);
    dns.set_a("one.test", &["127.0.0.2"], 1);
    dns.set_srv("_http._tcp.test", &[(0, 0, port(a), "one.test")], 1);
    for (path, name) in [("/", "1"), ("/named", "2"), ("/listed", "2")] {
        // Asked for again after 1 s, 2 s, 4 s.
        eventually(2 * PATIENCE, || gateway.get(path).status == 200);
        assert_eq!(gateway.get(path).header("x-endpoint"), Some(name));
    }
}

#[test]
fn another_name_server_is_asked_when_the_first_does_not_answer() {
    let [a] = &neighbours();
    let (silent, dns) = (Dns::start(), Dns::start());
    silent.silent(true);
    dns.set_a("app.test", &["127.0.0.1"], 1);
    let resolver =
        format!("resolver: {{ nameservers: [{silent}, {dns}], timeout: 100ms, max_ttl: 1s }}");
    let gateway = Gateway::start(&configuration(
        &resolver,
        &format!("discover: {{ dns: 'app.test:{}' }}", port(a)),
    ));
    eventually(PATIENCE, || status(&gateway) == 200);
    assert_eq!(who(&gateway), ["1"]);
}

#[test]
fn a_question_may_take_as_long_as_configured() {
    let dns = Dns::start();
    dns.silent(true);
    let text = |timeout: &str| {
        let resolver = format!("resolver: {{ nameservers: [{dns}], timeout: {timeout} }}");
        configuration(&resolver, "discover: { dns: 'app.test:80' }")
    };
    let quick = Gateway::start(&text("50ms"));
    let slow = Gateway::start(&text("1h"));
    let start = Instant::now();
    let line = quick.wait_for_log(LOST);
    assert!(
        line.ends_with("reason=no name server has answered in time"),
        "{line}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(told(&slow, LOST), 0);
}

// ---- services ---------------------------------------------------------------------------------

/// #53
#[test]
fn services_have_their_weights_their_ports_and_their_priorities() {
    let [mut a, b, c] = ["a", "b", "c"].map(Endpoint::start);
    let dns = Dns::start();
    dns.set_a("host.test", &["127.0.0.1"], 1);
    dns.set_a("other.test", &["127.0.0.1"], 1);
    let name = "_http._tcp.app.test";
    let services = [
        (10, 3, port(&a), "host.test"),
        (10, 1, port(&b), "other.test"),
        (20, 1, port(&c), "host.test"),
    ];
    dns.set_srv(name, &services, 1);
    let gateway = gateway(
        &dns,
        &format!("discover: {{ srv: {name} }}, fail_timeout: 200ms"),
    );
    eventually(PATIENCE, || status(&gateway) == 200);
    let all = shares(&gateway, 40);
    assert_eq!((all["a"], all["b"], all.get("c")), (30, 10, None));
    // Those of the next priority serve when the others are down.
    a.down();
    expect(&gateway, &["b"]);
    dns.set_srv(name, &[services[0], services[2]], 1);
    eventually(PATIENCE, || who(&gateway) == ["c"]);
    a.up();
    expect(&gateway, &["a"]);
    // A new port of the same host, as after a restart somewhere.
    dns.set_srv(name, &[(10, 1, port(&b), "host.test")], 1);
    expect(&gateway, &["b"]);
    // A root as the target says that there is no such service; what is known stays.
    dns.set_srv(name, &[(0, 0, 0, ".")], 1);
    gateway.wait_for_log(LOST);
    assert_eq!(who(&gateway), ["b"]);
}

#[test]
fn the_hosts_of_services_are_followed_too() {
    let [a, _b] = &neighbours();
    let dns = Dns::start();
    dns.set_a("host.test", &["127.0.0.1"], 1);
    dns.set_srv("_http._tcp.test", &[(0, 0, port(a), "host.test")], 300);
    let gateway = gateway(&dns, "discover: { srv: _http._tcp.test }");
    expect(&gateway, &["1"]);
    dns.set_a("host.test", &["127.0.0.2"], 1);
    expect(&gateway, &["2"]);
}

// ---- endpoints with names ---------------------------------------------------------------------

/// #54: a container that comes back has another address.
#[test]
fn an_endpoint_that_is_listed_by_name_is_followed_to_its_new_address() {
    let [mut a, mut b] = neighbours();
    b.down();
    let dns = Dns::start();
    dns.set_a("app.test", &["127.0.0.1"], 1);
    let gateway = gateway(
        &dns,
        &format!("endpoints: ['app.test:{}'], fail_timeout: 100ms", port(&a)),
    );
    assert_eq!(who(&gateway), ["1"]);
    a.down();
    assert_eq!(status(&gateway), 502);
    b.up();
    dns.set_a("app.test", &["127.0.0.2"], 1);
    eventually(PATIENCE, || status(&gateway) == 200);
    assert_eq!(who(&gateway), ["2"]);
}

/// #54, where the old address still answers and connections to it are kept.
#[test]
fn requests_leave_an_address_that_a_name_does_not_have_any_more() {
    let [a, b] = &neighbours();
    let dns = Dns::start();
    dns.set_a("app.test", &["127.0.0.1"], 1);
    let gateway = gateway(&dns, &format!("endpoints: ['app.test:{}']", port(a)));
    let outcomes = pace_during(gateway.address(), 100, get, || {
        eventually(PATIENCE, || a.requests() > 10);
        dns.set_a("app.test", &["127.0.0.2"], 1);
        let line = gateway.wait_for_log(&format!("address=127.0.0.2:{}", port(b)));
        assert!(line.contains("upstream=pool endpoint=app.test:"), "{line}");
        eventually(PATIENCE, || {
            let (at_a, at_b) = (a.requests(), b.requests());
            eventually(PATIENCE, || b.requests() > at_b + 20);
            a.requests() == at_a
        });
    });
    outcomes.expect_all(200);
}

#[test]
fn an_endpoint_whose_first_address_refuses_is_tried_at_its_next_one() {
    let [mut a, mut b, _c] = neighbours();
    let dns = Dns::start();
    dns.set_a("app.test", &["127.0.0.1", "127.0.0.2", "127.0.0.3"], 300);
    let gateway = gateway(
        &dns,
        &format!("endpoints: ['app.test:{}'], fail_timeout: 100ms", port(&a)),
    );
    assert_eq!(who(&gateway), ["1"]);
    a.down();
    b.down();
    for _ in 0..4 {
        assert_eq!(who(&gateway), ["3"], "{}", gateway.log());
    }
    assert!(!gateway.log().contains("left out"), "{}", gateway.log());
    // The order of later answers does not lead back.
    asked(&dns, "app.test", 4);
    assert_eq!(who(&gateway), ["3"]);
}

#[test]
fn a_check_finds_the_address_of_a_name_that_answers() {
    let [mut a, _b] = neighbours();
    let dns = Dns::start();
    dns.set_a("app.test", &["127.0.0.1", "127.0.0.2"], 300);
    let gateway = gateway(
        &dns,
        &format!(
            "endpoints: ['app.test:{}'], max_fails: 0,
             health: {{ path: /healthz, interval: 50ms, start: unhealthy, unhealthy_after: 1 }}",
            port(&a)
        ),
    );
    eventually(PATIENCE, || status(&gateway) == 200);
    a.down();
    gateway.wait_for_log("endpoint has an address: upstream=pool endpoint=app.test");
    eventually(PATIENCE, || status(&gateway) == 200);
    assert_eq!(who(&gateway), ["2"]);
}

#[test]
fn an_endpoint_without_an_address_fails_its_checks_and_passes_them_when_it_has_one() {
    let [a] = &neighbours();
    let dns = Dns::start();
    let gateway = gateway(
        &dns,
        &format!(
            "endpoints: ['app.test:{}'],
             health: {{ path: /healthz, interval: 50ms, start: unhealthy, unhealthy_after: 1 }}",
            port(a)
        ),
    );
    let line = gateway.wait_for_log("endpoint is unhealthy: upstream=pool endpoint=app.test:");
    assert!(line.ends_with("reason=not resolved"), "{line}");
    assert_eq!(status(&gateway), 503);
    dns.set_a("app.test", &["127.0.0.1"], 1);
    eventually(PATIENCE, || status(&gateway) == 200);
}

// ---- TLS, and what endpoints see --------------------------------------------------------------

#[test]
fn discovered_endpoints_show_a_certificate_for_the_name_that_was_asked_for() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["app.test"]);
    let [a, b] = &neighbours_with(|setup| setup.tls(&certificate));
    let dns = Dns::start();
    dns.set_a("app.test", &["127.0.0.1", "127.0.0.2"], 1);
    dns.set_srv("_https._tcp.test", &[(0, 0, port(a), "app.test")], 1);
    let tls = format!("tls: {{ ca: {} }}", authority.ca().display());
    for discover in [
        format!("dns: 'app.test:{}'", port(a)),
        "srv: _https._tcp.test".to_owned(),
    ] {
        let gateway = gateway(&dns, &format!("discover: {{ {discover} }}, {tls}"));
        eventually(PATIENCE, || status(&gateway) != 503);
        who(&gateway);
    }
    for endpoint in [a, b] {
        assert!(
            endpoint
                .inbound()
                .iter()
                .all(|inbound| inbound.sni.as_deref() == Some("app.test"))
        );
    }
}

// ---- a file -----------------------------------------------------------------------------------

/// `[127.0.0.1:80, ...]`
fn list(endpoints: &[&Endpoint]) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
    format!("endpoints: [{}]\n", endpoints.join(", "))
}

#[test]
fn a_file_of_endpoints_is_followed() {
    let [mut a, b, c] = ["a", "b", "c"].map(Endpoint::start);
    let gateway = filed(list(&[&a]));
    assert_eq!(who(&gateway), ["a"]);
    gateway.write("endpoints.yaml", list(&[&a, &b]));
    expect(&gateway, &["a", "b"]);
    let weighted = format!(
        "endpoints:\n  - {{ address: {a}, weight: 3 }}\n  - {b}\n  - {{ address: {c}, backup: true }}\n"
    );
    gateway.write("endpoints.yaml", &weighted);
    eventually(PATIENCE, || {
        let shares = shares(&gateway, 40);
        shares.get("a") == Some(&30) && shares.get("b") == Some(&10)
    });
    // Out for maintenance; sessions only.
    gateway.write(
        "endpoints.yaml",
        weighted.replace(
            &format!("- {b}"),
            &format!("- {{ address: {b}, state: maintenance }}"),
        ),
    );
    expect(&gateway, &["a"]);
    a.down();
    expect(&gateway, &["c"]);
    a.up();
    gateway.write(
        "endpoints.yaml",
        format!("endpoints: [{{ address: {a}, state: drain }}, {b}]\n"),
    );
    expect(&gateway, &["b"]);
    // Somebody wants that.
    gateway.write("endpoints.yaml", "endpoints: []\n");
    eventually(PATIENCE, || status(&gateway) == 503);
    gateway.write("endpoints.yaml", list(&[&c]));
    eventually(PATIENCE, || status(&gateway) == 200);
    assert_eq!(who(&gateway), ["c"]);
}

#[test]
fn a_file_limits_the_requests_of_its_endpoints() {
    let a = Endpoint::start("a");
    let gateway = filed(format!(
        "endpoints: [{{ address: {a}, max_connections: 1 }}]\n"
    ));
    a.slow(Duration::from_secs(2));
    let mut busy = gateway.connect();
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(PATIENCE, || a.in_flight() == 1);
    assert_eq!(status(&gateway), 503);
    assert_eq!(busy.answer().status, 200);
}

#[test]
fn a_file_may_be_renamed_over_or_be_a_link_that_is_turned() {
    let [a, b, c] = &["a", "b", "c"].map(Endpoint::start);
    let gateway = filed(list(&[a]));
    let folder = gateway.folder();
    let file = folder.join("endpoints.yaml");
    gateway.write("next.yaml", list(&[b]));
    fs::rename(folder.join("next.yaml"), &file).unwrap();
    expect(&gateway, &["b"]);
    // As Kubernetes does: endpoints.yaml -> data/endpoints.yaml, data -> v1.
    for (version, endpoint) in [("v1", a), ("v2", c)] {
        fs::create_dir(folder.join(version)).unwrap();
        gateway.write(&format!("{version}/endpoints.yaml"), list(&[endpoint]));
    }
    symlink("v1", folder.join("data")).unwrap();
    symlink("data/endpoints.yaml", folder.join("link")).unwrap();
    fs::rename(folder.join("link"), &file).unwrap();
    expect(&gateway, &["a"]);
    symlink("v2", folder.join("data2")).unwrap();
    fs::rename(folder.join("data2"), folder.join("data")).unwrap();
    expect(&gateway, &["c"]);
}

#[test]
fn a_file_that_can_not_be_read_changes_nothing_and_is_told_with_the_place() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let gateway = filed(list(&[&a]));
    let mistakes = [
        (
            format!("endpoints:\n  - {b}\n  - {{ address: {b}x }}\n"),
            "endpoints.yaml:3:",
        ),
        (format!("endpoints: [{b}, {b}]\n"), "is written twice"),
        (
            format!("endpoints: [{{ address: {b}, wieght: 3 }}]\n"),
            "`weight`",
        ),
        (
            format!("endpoints: [{{ address: {b}, weight: 0 }}]\n"),
            "endpoints.yaml:1:",
        ),
        (
            format!("endpoints: [{{ address: {b}, state: off }}]\n"),
            "endpoints.yaml:1:",
        ),
        (format!("endpoints: [{b}\n"), "endpoints.yaml:"),
        (
            format!("endpoints: [{{ address: {b}, backup: true }}]\n"),
            "all endpoints are backups",
        ),
        (format!("endpoint: [{b}]\n"), "`endpoints`"),
        (String::new(), "endpoints.yaml"),
    ];
    for (number, (content, wanted)) in mistakes.into_iter().enumerate() {
        let before = told(&gateway, LOST);
        gateway.write("endpoints.yaml", &content);
        eventually(PATIENCE, || told(&gateway, LOST) > before);
        let log = gateway.log();
        let (_, said) = log.rsplit_once(LOST).unwrap();
        assert!(said.contains(wanted), "{number}: {content}{said}");
        assert_eq!(who(&gateway), ["a"], "{content}");
    }
    // Not a word more while nothing changes.
    let before = told(&gateway, LOST);
    thread::sleep(Duration::from_millis(200));
    assert_eq!(told(&gateway, LOST), before);
    fs::remove_file(gateway.folder().join("endpoints.yaml")).unwrap();
    eventually(PATIENCE, || told(&gateway, LOST) > before);
    assert_eq!(who(&gateway), ["a"]);
    gateway.write("endpoints.yaml", list(&[&b]));
    expect(&gateway, &["b"]);
    assert_eq!(told(&gateway, AGAIN), 1);
}

#[test]
fn a_file_may_come_later() {
    let a = Endpoint::start("a");
    let setup = Gateway::setup(&configuration("", FILE));
    let checked = setup.run("check");
    assert_eq!(checked.code, Some(0), "{}", checked.log);
    assert!(checked.log.contains("there is no file"), "{}", checked.log);
    assert!(checked.log.contains("edgeway.yaml:1:"), "{}", checked.log);
    let gateway = setup.start();
    assert_eq!(status(&gateway), 503);
    gateway.wait_for_log(LOST);
    gateway.write("endpoints.yaml", list(&[&a]));
    eventually(PATIENCE, || status(&gateway) == 200);
}

#[test]
fn a_file_is_looked_at_once_in_its_interval() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let start = |interval: &str| {
        let discover = format!("discover: {{ file: endpoints.yaml, {interval} }}");
        let setup = Gateway::setup(&configuration("", &discover));
        setup.file("endpoints.yaml", list(&[&a])).start()
    };
    let rarely = start("interval: 1h");
    let seldom = start("interval: 1s");
    // The first look of those that run beside the requests.
    for gateway in [&rarely, &seldom] {
        gateway.wait_for_log("endpoints discovered: upstream=pool number=1");
        gateway.write("endpoints.yaml", list(&[&b]));
    }
    expect(&seldom, &["b"]);
    assert_eq!(who(&rarely), ["a"]);
    // A reload looks at once.
    assert!(rarely.reload_files());
    assert_eq!(who(&rarely), ["b"]);
}

#[test]
fn check_tells_what_is_wrong_in_the_file_and_where() {
    let setup = || Gateway::setup(&configuration("", FILE));
    let wrong: Setup = setup().file(
        "endpoints.yaml",
        "endpoints:\n  - app:80\n  - { address: app:81, wieght: 2 }\n  - nowhere\n",
    );
    for command in ["check", "run"] {
        let said = wrong.run(command);
        assert_eq!(said.code, Some(2), "{}", said.log);
        for wanted in [
            "edgeway.yaml:1:",
            "endpoints.yaml:3:",
            "endpoints.yaml:4:",
            "`weight`",
        ] {
            assert!(said.log.contains(wanted), "{wanted}\n{}", said.log);
        }
    }
    let right = setup()
        .file("endpoints.yaml", "endpoints: [app:80]\n")
        .run("check");
    assert_eq!((right.code, &*right.log), (Some(0), ""));
}

#[test]
fn a_reload_with_a_broken_file_is_refused_and_what_was_found_stays() {
    let a = Endpoint::start("a");
    let gateway = filed(list(&[&a]));
    gateway.write("endpoints.yaml", "endpoints: [oops]\n");
    assert!(!gateway.reload_files());
    assert_eq!(who(&gateway), ["a"]);
    fs::remove_file(gateway.folder().join("endpoints.yaml")).unwrap();
    // It may come back.
    assert!(gateway.reload_files());
    assert_eq!(who(&gateway), ["a"]);
}

// ---- endpoints that come and go ---------------------------------------------------------------

#[test]
fn listed_endpoints_serve_beside_those_that_are_found() {
    let [a, b, c] = ["a", "b", "c"].map(Endpoint::start);
    let text = configuration("", &format!("endpoints: [{a}], {FILE}"));
    let setup = Gateway::setup(&text).file("endpoints.yaml", list(&[&a, &b]));
    let gateway = setup.start();
    // One that is listed and found is one.
    let all = shares(&gateway, 12);
    assert_eq!((all["a"], all["b"]), (6, 6));
    gateway.write("endpoints.yaml", list(&[&c]));
    expect(&gateway, &["a", "c"]);
    gateway.write("endpoints.yaml", "endpoints: []\n");
    expect(&gateway, &["a"]);
    // Without `discover` nothing is left of what was found.
    gateway.write("endpoints.yaml", list(&[&b]));
    expect(&gateway, &["a", "b"]);
    assert!(gateway.reload(&configuration("", &format!("endpoints: [{a}]"))));
    assert_eq!(who(&gateway), ["a"]);
}

/// #53
#[test]
fn no_request_is_lost_while_endpoints_come_and_go() {
    let [a, b, c, d] = ["a", "b", "c", "d"].map(Endpoint::start);
    for endpoint in [&a, &b, &c, &d] {
        endpoint.slow(Duration::from_millis(20));
    }
    let gateway = filed(list(&[&a, &b]));
    let lists = [
        list(&[&b, &c]),
        list(&[&d]),
        list(&[&a, &b, &c, &d]),
        list(&[&a]),
    ];
    let outcomes = pace_during(gateway.address(), 200, get, || {
        for number in 0..20 {
            let told_before = told(&gateway, "endpoints discovered");
            gateway.write("next.yaml", &lists[number % lists.len()]);
            let folder = gateway.folder();
            fs::rename(folder.join("next.yaml"), folder.join("endpoints.yaml")).unwrap();
            eventually(PATIENCE, || {
                told(&gateway, "endpoints discovered") > told_before
            });
        }
    });
    outcomes.expect_all(200);
    assert_eq!(outcomes.endpoints().len(), 4, "{}", outcomes.summary());
}

#[test]
fn what_is_known_of_an_endpoint_stays_while_others_come_and_go() {
    let [a, b, c, d] = ["a", "b", "c", "d"].map(Endpoint::start);
    let dead = Upstream::refusing();
    let text = configuration(
        "",
        &format!(
            "{FILE}, fail_timeout: 1h,
             health: {{ path: /healthz, interval: 50ms, unhealthy_after: 1, timeout: 1h }}"
        ),
    );
    let content = |more: &[&Endpoint]| {
        let more: Vec<_> = more
            .iter()
            .map(|endpoint| format!("- {endpoint}\n"))
            .collect();
        format!("endpoints:\n- {a}\n- {b}\n- {dead}\n{}", more.concat())
    };
    a.health(Health::Down);
    let gateway = Gateway::setup(&text)
        .file("endpoints.yaml", content(&[]))
        .start();
    gateway.wait_for_log(&format!(
        "endpoint is unhealthy: upstream=pool endpoint={a}"
    ));
    gateway.wait_for_log(&format!(
        "endpoint is unhealthy: upstream=pool endpoint={dead}"
    ));
    // No check ends any more.
    for endpoint in [&a, &b, &c, &d] {
        endpoint.health(Health::Hanging);
    }
    expect(&gateway, &["b"]);
    gateway.write("endpoints.yaml", content(&[&c]));
    expect(&gateway, &["b", "c"]);
    gateway.write("endpoints.yaml", content(&[&d]));
    expect(&gateway, &["b", "d"]);
    assert!(gateway.reload_files());
    expect(&gateway, &["b", "d"]);
    assert_eq!(a.requests(), 0);
    assert_eq!(
        told(&gateway, "endpoint is unhealthy"),
        2,
        "{}",
        gateway.log()
    );
}

#[test]
fn who_is_found_at_the_start_has_its_share_at_once() {
    let [a, b] = ["a", "b"].map(Endpoint::start);
    let text = configuration("", &format!("endpoints: [{a}], slow_start: 1h, {FILE}"));
    let gateway = Gateway::setup(&text)
        .file("endpoints.yaml", list(&[&b]))
        .start();
    assert_eq!(shares(&gateway, 40)["b"], 20);
}

/// A name server keeps the reload waiting.
#[test]
fn a_reload_that_is_not_done_yet_changes_nothing() {
    let [a, b] = ["a", "b"].map(Endpoint::start);
    let dns = Dns::start();
    dns.silent(true);
    let config = |endpoints: &str| {
        format!(
            "
            resolver: {{ nameservers: [{dns}], timeout: 10s }}
            upstreams:
              pool: {{ endpoints: {endpoints}, {FILE} }}
              other: {{ discover: {{ dns: 'other.test:80' }} }}
            routes: [{{ upstream: pool }}]
            "
        )
    };
    let gateway = Gateway::setup(&config(&format!("[{a}]")))
        .file("endpoints.yaml", "endpoints: []\n")
        .start();
    let next = config(&format!("[{{ address: {a}, state: maintenance }}, {b}]"));
    let outcomes = pace_during(gateway.address(), 100, get, || {
        let started = Instant::now();
        assert!(gateway.reload(&next));
        assert!(started.elapsed() > Duration::from_secs(2), "it has waited");
    });
    outcomes.expect_all(200);
    assert_eq!(who(&gateway), ["b"]);
}

#[test]
fn an_endpoint_that_has_failed_stays_out_when_others_are_found() {
    let [a, b] = ["a", "b"].map(Endpoint::start);
    let dead = Upstream::refusing();
    let text = configuration("", &format!("{FILE}, fail_timeout: 1h"));
    let gateway = Gateway::setup(&text)
        .file("endpoints.yaml", format!("endpoints: [{dead}, {a}]\n"))
        .start();
    expect(&gateway, &["a"]);
    gateway.write("endpoints.yaml", format!("endpoints: [{b}, {dead}, {a}]\n"));
    expect(&gateway, &["a", "b"]);
    assert!(gateway.reload_files());
    assert_eq!(who(&gateway), ["a", "b"]);
    assert_eq!(
        told(&gateway, "endpoint is left out"),
        1,
        "{}",
        gateway.log()
    );
}

#[test]
fn endpoints_that_are_gone_are_not_checked_any_more() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let check = "health: { path: /healthz, interval: 30ms }";
    let gateway = Gateway::setup(&configuration("", &format!("{FILE}, {check}")))
        .file("endpoints.yaml", list(&[&a, &b]))
        .start();
    eventually(PATIENCE, || b.requests_to("/healthz") > 3);
    gateway.write("endpoints.yaml", list(&[&a]));
    expect(&gateway, &["a"]);
    let before = (a.requests_to("/healthz"), b.requests_to("/healthz"));
    eventually(PATIENCE, || a.requests_to("/healthz") > before.0 + 5);
    assert!(b.requests_to("/healthz") <= before.1 + 1);
}

#[test]
fn names_that_no_upstream_has_any_more_are_not_asked_for() {
    let [a] = &neighbours();
    let dns = Dns::start();
    for name in ["app.test", "one.test", "stays.test"] {
        dns.set_a(name, &["127.0.0.1"], 1);
    }
    let port = port(a);
    let gateway = gateway(
        &dns,
        &format!("discover: {{ dns: 'app.test:{port}' }}, endpoints: ['one.test:{port}']"),
    );
    asked(&dns, "app.test", 3);
    asked(&dns, "one.test", 3);
    let text = configuration(
        &resolver(&dns),
        &format!("endpoints: ['stays.test:{port}']"),
    );
    for _ in 0..20 {
        assert!(gateway.reload(&text));
    }
    let before = dns.questions("app.test") + dns.questions("one.test");
    let stays = dns.questions("stays.test");
    thread::sleep(Duration::from_secs(1));
    assert!(dns.questions("app.test") + dns.questions("one.test") <= before + 4);
    // Twice in 50 ms for two families; a leak would be twenty times as much.
    let stays = dns.questions("stays.test") - stays;
    assert!((10..=60).contains(&stays), "{stays}");
}

// ---- mistakes ---------------------------------------------------------------------------------

#[test]
fn discovery_that_makes_no_sense_is_refused_where_it_is_written() {
    let upstreams = [
        ("discover: { dns: app.test }", "such as `app.internal:8080`"),
        (
            "discover: { dns: '127.0.0.1:80' }",
            "an address is written under `endpoints`",
        ),
        (
            "discover: { dns: 'app.test:0' }",
            "such as `app.internal:8080`",
        ),
        (
            "discover: { srv: 'app.test:80' }",
            "the records tell the port",
        ),
        ("discover: { dns: 'a:1', srv: b }", "exclude each other"),
        ("discover: {}", "expected one of `dns`, `srv`, `file`"),
        (
            "discover: { dns: 'a:1', interval: 1s }",
            "`interval` belongs to `file`",
        ),
        (
            "discover: { file: a, interval: 1ms }",
            "`interval` is at least",
        ),
        ("discover: { file: '' }", "expected the path of a file"),
        ("discover: { fiel: a }", "`file`"),
        ("endpoints: []", "has no endpoints"),
    ];
    for (upstream, wanted) in upstreams {
        let text = format!("upstreams:\n  pool:\n    {upstream}\nroutes: [{{ upstream: pool }}]\n");
        let said = Gateway::refused(&text);
        assert!(said.contains(wanted), "{upstream}\n{said}");
        assert!(
            said.contains("edgeway.yaml:3:") || said.contains("edgeway.yaml:2:"),
            "{said}"
        );
    }
    let resolvers = [
        ("{ nameservers: [] }", "nobody to ask"),
        (
            "{ nameservers: [ns.test] }",
            "expected the address of a name server",
        ),
        (
            "{ nameservers: ['127.0.0.1:0'] }",
            "expected the address of a name server",
        ),
        ("{ timeout: 0s }", "zero"),
        ("{ min_ttl: 0s }", "`min_ttl` is at least"),
        ("{ min_ttl: 10m }", "is longer than `max_ttl`"),
        ("{ max_tll: 10m }", "`max_ttl`"),
        ("{ max_ttl: 5 }", "max_ttl"),
    ];
    for (resolver, wanted) in resolvers {
        let text = format!("resolver: {resolver}\nroutes: [{{ respond: {{ text: a }} }}]\n");
        let said = Gateway::refused(&text);
        assert!(said.contains(wanted), "{resolver}\n{said}");
        assert!(said.contains("edgeway.yaml:1:"), "{said}");
    }
}

#[test]
fn an_address_that_is_answered_twice_is_one_endpoint() {
    let [a] = &neighbours();
    let dns = Dns::start();
    dns.set_a("app.test", &["127.0.0.1", "127.0.0.1"], 1);
    let gateway = gateway(
        &dns,
        &format!("discover: {{ dns: 'app.test:{}' }}", port(a)),
    );
    gateway.wait_for_log("endpoints discovered: upstream=pool number=1");
    assert_eq!(who(&gateway), ["1"]);
}
