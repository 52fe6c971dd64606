//! Looking at the running gateway and changing it, through its admin listener.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use edgeway_tests::{
    Answer, Authority, Connection, Endpoint, Gateway, PATIENCE, Request, eventually,
    eventually_some,
};
use serde_json::{Value, json};

mod commands;
mod description;
mod files;
mod guarding;
mod operating;
mod socket;
mod tailing;

/// A configuration with an admin listener and one upstream, which every request goes to.
fn configuration(upstream: &str) -> String {
    format!(
        "listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}\n\
         admin: {{ bind: '127.0.0.1:0' }}\n\
         upstreams: {{ pool: {{ {upstream} }} }}\n\
         routes: [{{ upstream: pool }}]\n"
    )
}

fn gateway(upstream: &str) -> Gateway {
    Gateway::start(&configuration(upstream))
}

fn ask(gateway: &Gateway, method: &str, path: &str) -> Request<'static> {
    Request::to(gateway.address_of("admin"), method, path)
}

fn send(gateway: &Gateway, method: &str, path: &str, body: &Value) -> Answer {
    let request = ask(gateway, method, path).header("Content-Type", "application/json");
    request.body(body.to_string()).send()
}

/// Asserts that the answer is this problem, and that its detail says something.
#[track_caller]
fn problem(answer: &Answer, status: u16, says: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let kind = answer.header("content-type");
    assert_eq!(kind, Some("application/problem+json"));
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(says), "{detail}");
}

#[track_caller]
fn done(answer: &Answer) {
    assert_eq!((answer.status, answer.text()), (204, ""));
}

fn pool(gateway: &Gateway) -> Value {
    let answer = ask(gateway, "GET", "/v1/upstreams/pool").send();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn shown(gateway: &Gateway, endpoint: &Endpoint) -> Value {
    let pool = pool(gateway);
    let mut endpoints = pool["endpoints"].as_array().unwrap().iter();
    let found = endpoints.find(|one| one["name"] == endpoint.to_string());
    found
        .unwrap_or_else(|| panic!("no {endpoint} in {pool}"))
        .clone()
}

fn names(gateway: &Gateway) -> Vec<String> {
    let pool = pool(gateway);
    let endpoints = pool["endpoints"].as_array().unwrap().iter();
    endpoints
        .map(|one| one["name"].as_str().unwrap().to_owned())
        .collect()
}

fn path_of(endpoint: &Endpoint) -> String {
    let encoded = endpoint.to_string().replace('/', "%2F").replace(':', "%3A");
    format!("/v1/upstreams/pool/endpoints/{encoded}")
}

const ENDPOINTS: &str = "/v1/upstreams/pool/endpoints";

#[track_caller]
fn add(gateway: &Gateway, endpoint: &Endpoint) {
    let answer = send(
        gateway,
        "POST",
        ENDPOINTS,
        &json!({ "address": endpoint.to_string() }),
    );
    assert_eq!(answer.status, 201, "{}", answer.text());
}

#[track_caller]
fn patch(gateway: &Gateway, endpoint: &Endpoint, change: &Value) -> Value {
    let answer = send(gateway, "PATCH", &path_of(endpoint), change);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// How many of so many requests each endpoint has answered.
fn shares(gateway: &Gateway, requests: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..requests {
        let answer = gateway.get("/");
        assert_eq!(answer.status, 200, "{}", answer.text());
        *shares
            .entry(answer.header("x-endpoint").unwrap().to_owned())
            .or_default() += 1;
    }
    shares
}

fn are(expected: &[(&str, usize)]) -> BTreeMap<String, usize> {
    expected
        .iter()
        .map(|(name, number)| ((*name).to_owned(), *number))
        .collect()
}

fn two() -> [Endpoint; 2] {
    ["a", "b"].map(Endpoint::start)
}

// ---- looking ----------------------------------------------------------------------------------

#[test]
fn the_index_lists_the_calls_and_health_is_told() {
    let [a, _] = two();
    let gateway = gateway(&format!("endpoints: [{a}]"));
    let index = ask(&gateway, "GET", "/").send();
    assert_eq!(index.header("content-type"), Some("application/json"));
    let index = index.json();
    let calls = index["calls"].as_array().unwrap();
    let known = json!({ "method": "GET", "path": "/v1/upstreams/{upstream}", "does": "Shows one upstream." });
    assert!(calls.contains(&known), "{index}");
    let health = ask(&gateway, "GET", "/healthz").send();
    assert_eq!(
        (health.status, &health.json()["status"]),
        (200, &json!("serving"))
    );
}

#[test]
fn an_upstream_is_shown_as_it_is() {
    let a = Endpoint::start("a");
    let gateway = gateway(&format!(
        "endpoints: [{{ address: {a}, weight: 3, max_connections: 5 }}, {{ address: localhost:1, backup: true }}],
         balance: {{ hash: '{{path}}' }}, breaker: {{}}, queue: {{ size: 9 }}"
    ));
    assert_eq!(shares(&gateway, 3), are(&[("a", 3)]));
    let shown_pool = pool(&gateway);
    assert_eq!(shown_pool["name"], "pool");
    assert_eq!(shown_pool["balance"], "hash");
    assert_eq!(shown_pool["breaker"], json!({ "state": "closed" }));
    assert_eq!(shown_pool["queue"], json!({ "waiting": 0, "size": 9 }));
    assert_eq!(shown_pool["source"], Value::Null);
    assert_eq!(shown_pool["changed"], false);
    let mut endpoint = shown(&gateway, &a);
    let latency = endpoint
        .as_object_mut()
        .unwrap()
        .remove("latency_ms")
        .unwrap();
    assert!(latency.as_f64().unwrap() > 0.0, "{latency}");
    assert_eq!(
        endpoint,
        json!({
            "name": a.to_string(), "address": a.to_string(), "origin": "configuration",
            "weight": 3, "backup": false, "max_connections": 5, "state": "up", "status": "up",
            "active": 0, "requests": 3, "failures": 0, "ease": 1.0, "check": null,
        })
    );
    let backup = &shown_pool["endpoints"][1];
    assert_eq!(
        (&backup["backup"], &backup["name"]),
        (&json!(true), &json!("localhost:1"))
    );
    assert!(
        backup["address"].as_str().unwrap().ends_with(":1"),
        "{backup}"
    );
    let all = ask(&gateway, "GET", "/v1/upstreams").send().json();
    assert_eq!(all["upstreams"][0]["name"], "pool");
}

#[test]
fn an_endpoint_is_left_out_when_it_is_down_and_up_when_it_is_back() {
    let [mut a, b] = two();
    let gateway = gateway(&format!("endpoints: [{a}, {b}], fail_timeout: 1s"));
    a.down();
    eventually(PATIENCE, || {
        gateway.get("/");
        let endpoint = shown(&gateway, &a);
        let left = endpoint["left_out_s"].as_f64().unwrap_or_default();
        endpoint["status"] == "left_out" && left > 0.0 && left <= 1.0
    });
    assert!(shown(&gateway, &a)["failures"].as_u64() >= Some(1));
    assert_eq!(shown(&gateway, &b)["status"], "up");
    a.up();
    eventually(PATIENCE, || {
        gateway.get("/");
        shown(&gateway, &a)["status"] == "up"
    });
}

#[test]
fn a_failed_check_is_shown_with_its_reason() {
    let [mut a, b] = two();
    let gateway = gateway(&format!(
        "endpoints: [{a}, {b}], health: {{ path: /healthz, interval: 50ms, unhealthy_after: 1, healthy_after: 1 }}"
    ));
    let check = eventually_some(PATIENCE, || {
        let check = shown(&gateway, &a)["check"].clone();
        (!check.is_null()).then_some(check)
    });
    assert_eq!(
        (&check["ok"], &check["reason"]),
        (&json!(true), &Value::Null)
    );
    assert!(check["took_ms"].as_f64().unwrap() > 0.0, "{check}");
    assert!(check["ago_s"].as_f64().unwrap() < 5.0, "{check}");
    a.down();
    eventually(PATIENCE, || shown(&gateway, &a)["status"] == "unhealthy");
    assert_eq!(shown(&gateway, &a)["check"]["reason"], "connection refused");
    a.up();
    eventually(PATIENCE, || shown(&gateway, &a)["status"] == "up");
}

#[test]
fn a_name_without_an_address_is_unresolved() {
    let a = Endpoint::start("a");
    let gateway = gateway(&format!("endpoints: [{a}, 'nowhere.invalid:80']"));
    let nowhere = &pool(&gateway)["endpoints"][1];
    assert_eq!(nowhere["status"], "unresolved");
    assert_eq!(nowhere["address"], Value::Null);
}

#[test]
fn what_is_not_there_names_what_is() {
    let a = Endpoint::start("a");
    let gateway = gateway(&format!("endpoints: [{a}]"));
    let get = |path: &str| ask(&gateway, "GET", path).send();
    problem(
        &get("/v1/upstreams/pol"),
        404,
        "no upstream `pol`: did you mean `pool`?",
    );
    problem(&get("/upstream"), 404, "`GET /` lists the calls");
    problem(
        &get("/v1/upstreams/pool?verbose"),
        400,
        "`?verbose` is not understood",
    );
    problem(&get("/v1/upstreams/%ff"), 400, "UTF-8");
    let wrong = send(&gateway, "PUT", "/v1/upstreams", &json!({}));
    problem(&wrong, 405, "knows no PUT");
    assert_eq!(wrong.header("allow"), Some("GET,HEAD"));
    let near = format!("{}0", path_of(&a));
    let wrong = send(&gateway, "PATCH", &near, &json!({ "weight": 1 }));
    problem(&wrong, 404, &format!("did you mean `{a}`?"));
    let wrong = ask(&gateway, "DELETE", "/v1/upstreams/pool/endpoints/zzz").send();
    problem(&wrong, 404, "the upstream `pool` has no endpoint `zzz`");
}

// ---- changing ---------------------------------------------------------------------------------

#[test]
fn an_added_endpoint_gets_its_share_and_a_removed_one_nothing() {
    let [a, b] = two();
    let gateway = gateway(&format!("endpoints: [{a}]"));
    let answer = send(
        &gateway,
        "POST",
        ENDPOINTS,
        &json!({ "address": b.to_string(), "weight": 3, "max_connections": 50 }),
    );
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.header("location"), Some(&*path_of(&b)));
    let added = answer.json();
    assert_eq!(
        (&added["origin"], &added["weight"]),
        (&json!("admin"), &json!(3))
    );
    assert_eq!(shares(&gateway, 8), are(&[("a", 2), ("b", 6)]));
    assert_eq!(pool(&gateway)["changed"], true);
    let again = send(
        &gateway,
        "POST",
        ENDPOINTS,
        &json!({ "address": b.to_string() }),
    );
    problem(&again, 409, "already");
    done(&ask(&gateway, "DELETE", &path_of(&b)).send());
    assert_eq!(shares(&gateway, 4), are(&[("a", 4)]));
    done(&ask(&gateway, "DELETE", &path_of(&a)).send());
    assert_eq!(gateway.get("/").status, 503);
    add(&gateway, &b);
    assert_eq!(shares(&gateway, 4), are(&[("b", 4)]));
    done(&ask(&gateway, "DELETE", "/v1/upstreams/pool/changes").send());
    assert_eq!(shares(&gateway, 4), are(&[("a", 4)]));
    assert_eq!(pool(&gateway)["changed"], false);
    let log = gateway.wait_for_log("endpoint added");
    assert!(
        log.contains(&format!("upstream=pool endpoint={b}")) && log.contains("by=127.0.0.1:"),
        "{log}"
    );
    gateway.wait_for_log("changes forgotten");
}

#[test]
fn a_written_endpoint_that_is_added_again_is_as_it_was_added() {
    let [a, b] = two();
    let gateway = gateway(&format!("endpoints: [{{ address: {a}, weight: 5 }}, {b}]"));
    done(&ask(&gateway, "DELETE", &path_of(&a)).send());
    add(&gateway, &a);
    assert_eq!(shown(&gateway, &a)["weight"], 1);
    assert_eq!(shares(&gateway, 4), are(&[("a", 2), ("b", 2)]));
}

#[test]
fn an_added_name_is_resolved() {
    let [a, b] = two();
    let gateway = gateway(&format!("endpoints: [{a}]"));
    let address = format!("localhost:{}", b.address().port());
    let answer = send(&gateway, "POST", ENDPOINTS, &json!({ "address": address }));
    assert_eq!(answer.status, 201, "{}", answer.text());
    eventually(PATIENCE, || {
        pool(&gateway)["endpoints"][1]["status"] == "up"
    });
    eventually(PATIENCE, || {
        gateway.get("/").header("x-endpoint") == Some("b")
    });
}

#[test]
fn a_changed_weight_changes_the_ratio() {
    let [a, b] = two();
    let gateway = gateway(&format!("endpoints: [{a}, {b}]"));
    assert_eq!(shares(&gateway, 8), are(&[("a", 4), ("b", 4)]));
    assert_eq!(patch(&gateway, &b, &json!({ "weight": 3 }))["weight"], 3);
    assert_eq!(shares(&gateway, 8), are(&[("a", 2), ("b", 6)]));
}

/// Sends a request that takes a moment, and waits until the endpoint has it.
fn under_way(gateway: &Gateway, endpoint: &Endpoint) -> thread::JoinHandle<Answer> {
    let before = endpoint.in_flight();
    let request = gateway.request("GET", "/slow");
    let answer = thread::spawn(move || request.send());
    eventually(PATIENCE, || endpoint.in_flight() > before);
    answer
}

#[test]
fn a_drained_endpoint_gets_nothing_new_while_what_is_under_way_ends_well() {
    let [a, b] = two();
    a.slow(Duration::from_millis(700));
    let gateway = gateway(&format!(
        "endpoints: [{a}, {{ address: {b}, backup: true }}]"
    ));
    let slow = under_way(&gateway, &a);
    assert_eq!(shown(&gateway, &a)["active"], 1);
    let drained = patch(&gateway, &a, &json!({ "state": "drain" }));
    assert_eq!(
        (&drained["state"], &drained["status"]),
        (&json!("drain"), &json!("draining"))
    );
    assert_eq!(shares(&gateway, 10), are(&[("b", 10)]));
    let answer = slow.join().unwrap();
    assert_eq!(
        (answer.status, answer.header("x-endpoint")),
        (200, Some("a"))
    );
    assert_eq!(a.requests(), 1);
    a.behave();
    assert_eq!(
        patch(&gateway, &a, &json!({ "state": "up" }))["status"],
        "up"
    );
    assert_eq!(shares(&gateway, 4), are(&[("a", 4)]));
}

#[test]
fn an_endpoint_in_maintenance_gets_nothing_even_if_no_other_is_left() {
    let a = Endpoint::start("a");
    let gateway = gateway(&format!("endpoints: [{a}]"));
    let endpoint = patch(&gateway, &a, &json!({ "state": "maintenance" }));
    assert_eq!(endpoint["status"], "maintenance");
    assert_eq!(gateway.get("/").status, 503);
    assert_eq!(a.requests(), 0);
    patch(&gateway, &a, &json!({ "state": "up" }));
    assert_eq!(gateway.get("/").status, 200);
}

#[test]
fn a_request_at_an_endpoint_that_is_removed_ends_well() {
    let [a, b] = two();
    a.slow(Duration::from_millis(500));
    let gateway = gateway(&format!(
        "endpoints: [{a}, {{ address: {b}, backup: true }}]"
    ));
    let slow = under_way(&gateway, &a);
    done(&ask(&gateway, "DELETE", &path_of(&a)).send());
    assert_eq!(names(&gateway), [b.to_string()]);
    assert_eq!(pool(&gateway)["removed"], json!([a.to_string()]));
    assert_eq!(shares(&gateway, 3), are(&[("b", 3)]));
    let answer = slow.join().unwrap();
    assert_eq!(
        (answer.status, answer.header("x-endpoint")),
        (200, Some("a"))
    );
}

#[test]
fn a_limit_is_set_and_lifted_while_requests_run() {
    let [a, b] = two();
    a.slow(Duration::from_millis(500));
    let gateway = gateway(&format!("endpoints: [{a}]"));
    let limited = patch(&gateway, &a, &json!({ "max_connections": 1 }));
    assert_eq!(limited["max_connections"], 1);
    let slow = under_way(&gateway, &a);
    assert_eq!(gateway.get("/").status, 503);
    let free = patch(&gateway, &a, &json!({ "max_connections": 0 }));
    assert_eq!(free["max_connections"], Value::Null);
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(slow.join().unwrap().status, 200);
    drop(b);
}

#[test]
fn checks_follow_what_is_added_and_removed() {
    let [a, b] = two();
    let gateway = gateway(&format!(
        "endpoints: [{a}], health: {{ path: /healthz, interval: 30ms }}"
    ));
    add(&gateway, &b);
    eventually(PATIENCE, || b.requests_to("/healthz") >= 3);
    eventually(PATIENCE, || shown(&gateway, &b)["check"]["ok"] == true);
    done(&ask(&gateway, "DELETE", &path_of(&b)).send());
    // One may be under way; then others have to come and go without one here.
    let mut seen = b.requests_to("/healthz");
    eventually(PATIENCE, || {
        let others = a.requests_to("/healthz");
        eventually(PATIENCE, || a.requests_to("/healthz") >= others + 5);
        let before = std::mem::replace(&mut seen, b.requests_to("/healthz"));
        before == seen
    });
}

#[test]
fn a_unix_socket_is_added_shown_and_removed() {
    let [a, b] = [Endpoint::start("a"), Endpoint::setup("b").unix().start()];
    let gateway = gateway(&format!("endpoints: [{a}]"));
    add(&gateway, &b);
    assert_eq!(shares(&gateway, 4), are(&[("a", 2), ("b", 2)]));
    let endpoint = shown(&gateway, &b);
    assert_eq!(
        (&endpoint["status"], &endpoint["address"]),
        (&json!("up"), &json!(b.to_string()))
    );
    assert!(path_of(&b).contains("%2Fendpoint.sock"));
    patch(&gateway, &b, &json!({ "state": "drain" }));
    assert_eq!(shown(&gateway, &b)["status"], "draining");
    done(&ask(&gateway, "DELETE", &path_of(&b)).send());
    assert_eq!(names(&gateway), [a.to_string()]);
    // A colon may stand for itself.
    done(&ask(&gateway, "DELETE", &format!("{ENDPOINTS}/{a}")).send());
}

#[test]
fn a_unix_socket_can_not_be_added_where_its_certificate_would_need_a_name() {
    let authority = Authority::new();
    let a = Endpoint::https("a", &authority.certificate(&["localhost"]));
    let gateway = gateway(&format!("endpoints: [{a}], tls: {{ verify: false }}"));
    let answer = send(
        &gateway,
        "POST",
        ENDPOINTS,
        &json!({ "address": "unix:/run/app.sock" }),
    );
    problem(&answer, 409, "which name must the certificate");
}

#[test]
fn a_body_that_makes_no_sense_is_refused_and_changes_nothing() {
    let a = Endpoint::start("a");
    let gateway = gateway(&format!("endpoints: [{a}]"));
    for (body, says) in [
        (
            json!({ "address": "b:1", "wieght": 2 }),
            "unknown field `wieght`",
        ),
        (json!({ "address": "b:1", "weight": 0 }), "nonzero"),
        (
            json!({ "address": "b:1", "state": "off" }),
            "`up`, `drain`, `maintenance`",
        ),
        (json!({ "address": "b" }), "a host and a port such as"),
        (json!({ "weight": 2 }), "missing field `address`"),
        (
            json!({ "address": "env:HOME" }),
            "without `env:` or `file:`",
        ),
        (
            json!({ "address": "file:/etc/passwd" }),
            "without `env:` or `file:`",
        ),
        (json!({ "address": "unix:/run/a\nb" }), "control characters"),
        (json!([]), "an address such as"),
    ] {
        problem(&send(&gateway, "POST", ENDPOINTS, &body), 400, says);
    }
    for (body, says) in [
        (json!({}), "nothing would change"),
        (json!({ "weight": 0 }), "nonzero"),
        (json!({ "weight": 65536 }), "65536"),
        (json!({ "backup": true }), "unknown field `backup`"),
        (json!({ "state": "down" }), "unknown variant `down`"),
    ] {
        problem(&send(&gateway, "PATCH", &path_of(&a), &body), 400, says);
    }
    let json = |body: &str| {
        ask(&gateway, "POST", ENDPOINTS)
            .header("Content-Type", "application/json")
            .body(body)
            .send()
    };
    problem(&json("{"), 400, "EOF");
    problem(
        &json(&format!("\"{}\"", "x".repeat(70_000))),
        413,
        "65536 bytes",
    );
    problem(
        &send(&gateway, "DELETE", &path_of(&a), &json!({})),
        400,
        "no body",
    );
    let forget = "/v1/upstreams/pool/changes?persist=true";
    problem(&ask(&gateway, "DELETE", forget).send(), 400, "no meaning");
    assert_eq!(pool(&gateway)["changed"], false);
    assert_eq!(names(&gateway), [a.to_string()]);
}

#[test]
fn two_gateways_have_nothing_to_do_with_each_other() {
    let [a, b] = two();
    let upstream = format!("endpoints: [{a}]");
    let [one, other] = [gateway(&upstream), gateway(&upstream)];
    add(&one, &b);
    patch(&one, &a, &json!({ "state": "drain" }));
    assert_eq!(shares(&one, 4), are(&[("b", 4)]));
    assert_eq!(shares(&other, 4), are(&[("a", 4)]));
    assert_eq!(names(&other), [a.to_string()]);
}

// ---- reload -----------------------------------------------------------------------------------

#[test]
fn changes_are_kept_over_a_reload() {
    let [a, b] = two();
    let c = Endpoint::start("c");
    let gateway = gateway(&format!("endpoints: [{a}, {b}]"));
    add(&gateway, &c);
    patch(&gateway, &c, &json!({ "weight": 3 }));
    done(&ask(&gateway, "DELETE", &path_of(&b)).send());
    let next = configuration(&format!("endpoints: [{a}, {b}], balance: round_robin"));
    assert!(gateway.reload(&next));
    assert_eq!(names(&gateway), [a.to_string(), c.to_string()]);
    assert_eq!(shares(&gateway, 8), are(&[("a", 2), ("c", 6)]));
    assert!(!gateway.log().contains("`admin` has changed"));
}

#[test]
fn changes_are_forgotten_at_a_reload_where_the_upstream_says_so() {
    let [a, b] = two();
    let upstream = format!("endpoints: [{a}], live_changes: forget");
    let gateway = gateway(&upstream);
    add(&gateway, &b);
    patch(&gateway, &a, &json!({ "state": "drain" }));
    assert_eq!(shares(&gateway, 4), are(&[("b", 4)]));
    assert!(gateway.reload(&configuration(&upstream)));
    assert_eq!(shares(&gateway, 4), are(&[("a", 4)]));
    assert_eq!(pool(&gateway)["changed"], false);
}

#[test]
fn calls_see_the_configuration_in_force() {
    let [a, b] = two();
    let gateway = gateway(&format!("endpoints: [{a}]"));
    let next = configuration(&format!("endpoints: [{b}]")).replace("pool", "other");
    assert!(gateway.reload(&next));
    problem(
        &ask(&gateway, "GET", "/v1/upstreams/pool").send(),
        404,
        "no upstream `pool`",
    );
    let other = ask(&gateway, "GET", "/v1/upstreams/other").send().json();
    assert_eq!(other["endpoints"][0]["name"], b.to_string());
}

// ---- the listener -----------------------------------------------------------------------------

#[test]
fn a_port_that_is_taken_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = configuration("endpoints: ['127.0.0.1:1']");
    let text = text.replace(
        "admin: { bind: '127.0.0.1:0'",
        &format!("admin: {{ bind: '127.0.0.1:{port}'"),
    );
    let finished = Gateway::setup(&text).run("run");
    assert_eq!(finished.code, Some(1), "{}", finished.log);
    let says = format!("the listener `admin` can't have 127.0.0.1:{port}: process");
    assert!(finished.log.contains(&says), "{}", finished.log);
}

#[test]
fn callers_that_say_nothing_hold_up_nobody_for_long() {
    let a = Endpoint::start("a");
    let gateway = gateway(&format!("endpoints: [{a}]"));
    let address = gateway.address_of("admin");
    let mut silent: Vec<_> = (0..64)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    // Requests of the proxy are served meanwhile.
    assert_eq!(shares(&gateway, 4), are(&[("a", 4)]));
    let answer = eventually_some(Duration::from_secs(25), || {
        ask(&gateway, "GET", "/healthz").attempt().ok()
    });
    assert_eq!(answer.status, 200);
    let first = &mut silent[0];
    first.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut said = Vec::new();
    first.read_to_end(&mut said).unwrap();
    assert!(
        said.is_empty() || said.starts_with(b"HTTP/1.1 408"),
        "{said:?}"
    );
}

#[test]
fn every_call_has_a_connection_of_its_own() {
    let a = Endpoint::start("a");
    let gateway = gateway(&format!("endpoints: [{a}]"));
    let mut connection = TcpStream::connect(gateway.address_of("admin")).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(
        answer.to_lowercase().contains("\r\nconnection: close\r\n"),
        "{answer}"
    );
}

#[test]
fn while_the_gateway_stops_it_is_not_healthy() {
    let a = Endpoint::start("a");
    let mut gateway = gateway(&format!("endpoints: [{a}]"));
    a.slow(Duration::from_secs(2));
    let slow = under_way(&gateway, &a);
    gateway.ask_to_stop();
    eventually(PATIENCE, || {
        ask(&gateway, "GET", "/healthz").send().status == 503
    });
    assert_eq!(slow.join().unwrap().status, 200);
    assert!(gateway.wait().success());
}
