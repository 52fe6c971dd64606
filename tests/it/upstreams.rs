//! Which endpoint serves a request, and what becomes of one whose endpoint fails.

use std::collections::HashSet;
use std::fs;
use std::time::{Duration, Instant};

use edgeway_tests::{
    Answer, Connection, Echo, Gateway, PATIENCE, Product, Request, Upstream, eventually, load,
    load_during,
};

/// A gateway with one upstream, which every request goes to.
fn gateway(upstream: &str) -> Gateway {
    Gateway::start(&configuration(upstream))
}

fn configuration(upstream: &str) -> String {
    format!("upstreams: {{ pool: {{ {upstream} }} }}\nroutes: [{{ upstream: pool }}]\n")
}

fn source(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["source"].as_str().unwrap().to_owned()
}

/// Who answers so many requests, one after the other.
fn sources(gateway: &Gateway, requests: usize) -> Vec<String> {
    (0..requests).map(|_| source(&gateway.get("/"))).collect()
}

fn count(sources: &[String], wanted: &str) -> usize {
    sources.iter().filter(|source| *source == wanted).count()
}

fn get(connection: &mut Connection) -> Request<'_> {
    connection.request("GET", "/")
}

/// How often a gateway has said this.
fn told(gateway: &Gateway, text: &str) -> usize {
    gateway.log().matches(text).count()
}

/// Reads a request and closes without an answer.
fn closing() -> Upstream {
    Upstream::answers("")
}

// ---- who serves -------------------------------------------------------------------------------

/// #31
#[test]
fn endpoints_get_equal_shares_in_turn() {
    let [a, b, c] = ["a", "b", "c"].map(Echo::named);
    let gateway = gateway(&format!("endpoints: [{a}, {b}, {c}]"));
    assert_eq!(sources(&gateway, 6), ["a", "b", "c", "a", "b", "c"]);
    load(gateway.address(), 4, 300, get).expect_all(200);
    for echo in [a, b, c] {
        assert!(
            echo.stats().requests.abs_diff(102) <= 1,
            "{:?}",
            echo.stats()
        );
    }
}

/// #36
#[test]
fn weights_are_exact_and_evenly_spread() {
    let [a, b, c] = ["a", "b", "c"].map(Echo::named);
    let gateway = gateway(&format!(
        "endpoints: [{{ address: {a}, weight: 5 }}, {b}, {{ address: {c}, weight: 2 }}]"
    ));
    let all = sources(&gateway, 40);
    for window in all.windows(8) {
        let shares = ["a", "b", "c"].map(|name| count(window, name));
        assert_eq!(shares, [5, 1, 2], "{window:?}");
    }
    let runs = all.chunk_by(|one, next| one == next).map(<[String]>::len);
    assert!(runs.max().unwrap() <= 3, "{all:?}");
}

/// #44
#[test]
fn five_requests_to_five_instances_are_answered_by_five_processes() {
    let instances: [_; 5] = std::array::from_fn(|_| Echo::start());
    let endpoints = instances.each_ref().map(ToString::to_string).join(", ");
    let gateway = gateway(&format!("endpoints: [{endpoints}]"));
    let seen: HashSet<_> = (0..5)
        .map(|_| gateway.get("/").json()["pid"].as_u64().unwrap())
        .collect();
    assert_eq!(
        seen,
        instances.iter().map(|echo| u64::from(echo.pid())).collect()
    );
}

/// #47, #31
#[test]
fn two_instances_of_an_application_answer_as_one() {
    let instance = || {
        Upstream::raw(|mut caller| {
            while caller.request().is_some() {
                caller.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n{\"message\":\"Hello, World!\"}");
            }
        })
    };
    let (one, two) = (instance(), instance());
    let gateway = gateway(&format!("endpoints: [{one}, {two}]"));
    for _ in 0..10 {
        assert_eq!(gateway.get("/").json()["message"], "Hello, World!");
    }
    assert_eq!((one.heads().len(), two.heads().len()), (5, 5));
}

/// #37, #38
#[test]
fn a_backup_serves_while_the_primaries_are_out_and_hands_back() {
    let [mut a, b, c] = ["a", "b", "c"].map(Echo::named);
    let gateway = gateway(&format!(
        "endpoints: [{a}, {{ address: {b}, backup: true }}, {{ address: {c}, backup: true }}], fail_timeout: 200ms"
    ));
    assert_eq!(count(&sources(&gateway, 10), "a"), 10);
    a.kill();
    let meanwhile = sources(&gateway, 10);
    assert_eq!(
        (count(&meanwhile, "b"), count(&meanwhile, "c")),
        (5, 5),
        "{meanwhile:?}"
    );
    a.restart();
    eventually(PATIENCE, || source(&gateway.get("/")) == "a");
    assert_eq!(count(&sources(&gateway, 10), "a"), 10);
}

#[test]
fn the_share_of_an_endpoint_that_is_out_is_spread_evenly() {
    let [a, c, d] = ["a", "c", "d"].map(Echo::named);
    let b = Upstream::refusing();
    let gateway = gateway(&format!(
        "endpoints: [{a}, {b}, {c}, {d}], fail_timeout: 1h"
    ));
    let all = sources(&gateway, 63);
    for name in ["a", "c", "d"] {
        assert!(count(&all, name).abs_diff(21) <= 1, "{all:?}");
    }
}

// ---- connections and time-outs ----------------------------------------------------------------

/// #39
#[test]
fn many_requests_share_few_connections_to_an_endpoint() {
    let echo = Echo::start();
    let gateway = gateway(&format!("endpoints: [{echo}]"));
    load(gateway.address(), 4, 400, get).expect_all(200);
    let stats = echo.stats();
    assert_eq!(stats.requests, 400);
    assert!(stats.connections <= 8, "{stats:?}");
    let version = gateway.get("/").json()["version"].clone();
    assert_eq!(version, "HTTP/1.1");
}

#[test]
fn no_more_idle_connections_are_kept_than_configured() {
    let [a, b] = ["a", "b"].map(Echo::named);
    let pool = configuration(&format!("endpoints: [{a}, {b}]"));
    let connections = |keepalive: &str| {
        let before = a.stats().connections + b.stats().connections;
        let gateway = Gateway::start(&format!("threads: 1\n{keepalive}{pool}"));
        sources(&gateway, 20);
        a.stats().connections + b.stats().connections - before
    };
    let many = connections("upstream_keepalive: 1\n");
    assert!(
        many > 10,
        "{many} connections, though only one may be kept for two endpoints"
    );
    let few = connections("");
    assert!(few <= 8, "{few} connections");
}

/// Asserts that the gateway gives up with a 504 soon after its time-out, which is 300 ms in these
/// tests: long before the defaults, which are seconds.
#[track_caller]
fn expect_timeout(request: Request<'_>) {
    let start = Instant::now();
    let answer = request.send();
    let taken = start.elapsed();
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(taken >= Duration::from_millis(290), "{taken:?}");
    assert!(taken < Duration::from_secs(4), "{taken:?}");
}

/// #40
#[test]
fn an_endpoint_that_can_not_be_reached_is_504_after_the_connect_timeout() {
    let nowhere = Upstream::unreachable();
    let gateway = gateway(&format!(
        "endpoints: [{nowhere}], timeouts: {{ connect: 300ms }}"
    ));
    expect_timeout(gateway.request("GET", "/"));
}

/// #40
#[test]
fn a_silent_endpoint_is_504_after_the_read_timeout_and_no_other_is_asked() {
    let (one, two) = (Upstream::silent(), Upstream::silent());
    let gateway = gateway(&format!(
        "endpoints: [{one}, {two}], timeouts: {{ read: 300ms }}"
    ));
    expect_timeout(gateway.request("GET", "/"));
    assert_eq!(one.connections() + two.connections(), 1);
}

/// #40. Before it gives up, the gateway looks for an answer that came without reading, such as a
/// 413: this takes a read timeout, too.
#[test]
fn an_endpoint_that_does_not_read_is_504_after_the_write_timeout() {
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let deaf = Upstream::raw(move |mut caller| {
        caller.head();
        // Until the test is over.
        wait.lock().unwrap().recv().ok();
    });
    let gateway = gateway(&format!(
        "endpoints: [{deaf}], timeouts: {{ write: 150ms, read: 150ms }}"
    ));
    expect_timeout(gateway.request("PUT", "/").body(vec![b'x'; 16 << 20]));
    drop(release);
}

/// #40
#[test]
fn an_idle_connection_to_an_endpoint_is_closed_after_the_idle_timeout() {
    let echo = Echo::start();
    let gateway = gateway(&format!("endpoints: [{echo}], timeouts: {{ idle: 300ms }}"));
    gateway.get("/");
    let start = Instant::now();
    eventually(PATIENCE, || echo.stats().open_connections == 0);
    assert!(
        start.elapsed() >= Duration::from_millis(200),
        "{:?}",
        start.elapsed()
    );
}

/// The kernel still accepts its connections.
#[test]
fn a_process_that_hangs_is_504_until_it_goes_on() {
    let echo = Echo::start();
    let gateway = gateway(&format!("endpoints: [{echo}], timeouts: {{ read: 300ms }}"));
    gateway.get("/");
    echo.pause();
    eventually(PATIENCE, || is_stopped(echo.pid()));
    expect_timeout(gateway.request("GET", "/"));
    echo.resume();
    assert_eq!(gateway.get("/").status, 200);
}

/// Whether all threads of a process have taken notice of a SIGSTOP.
fn is_stopped(pid: u32) -> bool {
    let mut threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.all(|thread| {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        status.contains("State:\tT")
    })
}

// ---- failover ---------------------------------------------------------------------------------

/// #41, #42, #43, #48
#[test]
fn one_of_two_services_is_killed_and_started_again_and_no_client_notices() {
    let [mut one, two] = ["product-1", "product-2"].map(Product::start);
    let gateway = gateway(&format!("endpoints: [{one}, {two}], fail_timeout: 200ms"));
    let seen = |product: &Product, more: u64| {
        let before = product.requests();
        eventually(PATIENCE, || product.requests() >= before + more);
    };
    let outcomes = load_during(
        gateway.address(),
        8,
        |connection| connection.request("GET", "/product/all"),
        || {
            seen(&one, 100);
            one.kill();
            seen(&two, 500);
            gateway.wait_for_log("endpoint is left out");
            one.restart();
            gateway.wait_for_log("endpoint is back");
            seen(&one, 100);
        },
    );
    outcomes.expect_all(200);
    let by = |name: &str| outcomes.count(|answer| answer.json()["source"] == name);
    assert!(by("product-1") >= 200 && by("product-2") >= 500);
    assert_eq!(
        told(&gateway, "endpoint is left out"),
        1,
        "{}",
        gateway.log()
    );
    assert_eq!(told(&gateway, "endpoint is back"), 1, "{}", gateway.log());
    let line = gateway.wait_for_log("endpoint is left out");
    assert!(
        line.contains("upstream=pool") && line.contains(&one.to_string()),
        "{line}"
    );
}

/// #41
#[test]
fn all_requests_go_to_the_other_endpoint_while_one_is_left_out() {
    let [mut a, b] = ["a", "b"].map(Echo::named);
    let gateway = gateway(&format!("endpoints: [{a}, {b}], fail_timeout: 1h"));
    sources(&gateway, 4);
    a.kill();
    assert_eq!(count(&sources(&gateway, 20), "b"), 20);
    a.restart();
    assert_eq!(
        count(&sources(&gateway, 20), "b"),
        20,
        "an hour is not over"
    );
    assert_eq!(a.stats().requests, 0);
}

#[test]
fn an_endpoint_is_left_out_after_as_many_failures_as_are_permitted() {
    for (max_fails, asked) in [(1, 1), (3, 3), (0, 10)] {
        let (bad, good) = (closing(), Echo::start());
        let gateway = gateway(&format!(
            "endpoints: [{bad}, {good}], max_fails: {max_fails}, fail_timeout: 1h"
        ));
        assert_eq!(sources(&gateway, 20).len(), 20);
        // Without a limit it is asked as often as its turn comes; a retry takes a turn as well.
        let enough = if max_fails == 0 {
            bad.connections() >= asked
        } else {
            bad.connections() == asked
        };
        assert!(enough, "max_fails: {max_fails}: {}", bad.connections());
        if max_fails > 0 {
            gateway.wait_for_log("endpoint is left out");
        }
        let told = told(&gateway, "endpoint is left out");
        assert_eq!(told, usize::from(max_fails > 0), "max_fails: {max_fails}");
    }
}

#[test]
fn failures_that_are_longer_apart_than_the_timeout_do_not_add_up() {
    let (bad, good) = (closing(), Echo::start());
    let gateway = gateway(&format!(
        "endpoints: [{bad}, {good}], max_fails: 2, fail_timeout: 50ms"
    ));
    for failures in 1..=4 {
        eventually(PATIENCE, || {
            source(&gateway.get("/"));
            bad.connections() == failures
        });
        let failed = Instant::now();
        eventually(PATIENCE, || failed.elapsed() > Duration::from_millis(100));
    }
    assert_eq!(
        told(&gateway, "endpoint is left out"),
        0,
        "{}",
        gateway.log()
    );
}

#[test]
fn a_request_is_tried_on_as_many_endpoints_as_are_permitted() {
    for (tries, failed) in [(1, 8..=8), (2, 1..=8), (3, 0..=0)] {
        let (one, two) = (closing(), closing());
        let good = Echo::start();
        let gateway = gateway(&format!(
            "endpoints: [{one}, {two}, {good}], max_fails: 0, retries: {{ tries: {tries} }}"
        ));
        let statuses: Vec<_> = (0..12).map(|_| gateway.get("/").status).collect();
        let bad = statuses.iter().filter(|status| **status == 502).count();
        assert!(failed.contains(&bad), "tries: {tries}: {statuses:?}");
        let asked = one.connections() + two.connections();
        assert!(
            asked >= bad * tries && asked <= 12 * tries,
            "tries: {tries}: {asked}"
        );
    }
}

/// An endpoint is left out to spare clients its errors; when none is left, that serves nobody.
#[test]
fn the_only_endpoint_is_asked_again_as_soon_as_it_is_back() {
    for endpoints in [1, 2] {
        let mut echoes: Vec<_> = (0..endpoints).map(|_| Echo::start()).collect();
        let list: Vec<_> = echoes.iter().map(ToString::to_string).collect();
        let gateway = gateway(&format!(
            "endpoints: [{}], fail_timeout: 1h",
            list.join(", ")
        ));
        gateway.get("/");
        echoes.iter_mut().for_each(Echo::kill);
        for _ in 0..5 {
            assert_eq!(gateway.get("/").status, 502);
        }
        echoes.iter_mut().for_each(Echo::restart);
        for _ in 0..5 {
            assert_eq!(gateway.get("/").status, 200);
        }
    }
}

/// T1
#[test]
fn a_wrong_port_of_half_of_the_pool_costs_one_warning_and_no_request() {
    let (dead, good) = (Upstream::refusing(), Echo::start());
    let gateway = gateway(&format!("endpoints: [{good}, {dead}], fail_timeout: 1h"));
    load(gateway.address(), 4, 100, get).expect_all(200);
    gateway.wait_for_log("endpoint is left out");
    let warnings: Vec<_> = gateway
        .log()
        .lines()
        .filter(|line| line.contains(" warn "))
        .map(str::to_owned)
        .collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains(&dead.to_string()), "{warnings:?}");
}

/// T18
#[test]
fn a_name_that_does_not_resolve_is_an_endpoint_that_is_down() {
    let echo = Echo::start();
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          half: {{ endpoints: [surely-not.invalid:8080, {echo}] }}
          none: {{ endpoints: [surely-not.invalid:8080] }}
        routes:
          - match: {{ path: /half }}
            upstream: half
          - match: {{ path: /none }}
            upstream: none
        "
    ));
    for _ in 0..10 {
        assert_eq!(gateway.get("/half").status, 200);
        assert_eq!(gateway.get("/none").status, 503);
    }
    for upstream in ["half", "none"] {
        let line = gateway.wait_for_log(&format!(
            "upstream={upstream} endpoint=surely-not.invalid:8080"
        ));
        assert!(line.contains("warn") && line.contains("resolve"), "{line}");
    }
}

#[test]
fn names_are_resolved() {
    let echo = Echo::start();
    let gateway = gateway(&format!("endpoints: [localhost:{}]", echo.address().port()));
    assert_eq!(gateway.get("/").status, 200);
}

/// `edgeway` is a client of its own clients, too: what it announces must hold.
#[test]
fn a_client_may_go_on_after_a_502_unless_told_otherwise() {
    let gateway = gateway(&format!("endpoints: [{}]", Upstream::refusing()));
    let mut connection = gateway.connect();
    for _ in 0..3 {
        let answer = connection.get("/");
        assert_eq!(answer.status, 502);
        if !answer.reusable {
            connection.expect_close();
            connection = gateway.connect();
        }
    }
}

// ---- what is tried again ----------------------------------------------------------------------

#[test]
fn nothing_was_sent_to_an_endpoint_that_refuses_so_any_request_goes_elsewhere() {
    let (dead, good) = (Upstream::refusing(), Echo::start());
    let gateway = gateway(&format!("endpoints: [{dead}, {good}], max_fails: 0"));
    let body = "x".repeat(200 * 1024);
    for _ in 0..4 {
        let answer = gateway.request("POST", "/").body(body.clone()).send();
        assert_eq!(answer.json()["body_bytes"], body.len());
    }
    assert_eq!(good.stats().requests, 4);
}

#[test]
fn a_post_is_not_repeated_once_an_endpoint_has_read_of_it() {
    for answer in ["", "HTTP/1.1 200 OK\r\nConte"] {
        let (bad, good) = (Upstream::answers(answer), Echo::start());
        let gateway = gateway(&format!("endpoints: [{bad}, {good}], max_fails: 0"));
        let post = || gateway.request("POST", "/").body("order").send().status;
        let statuses = [post(), post(), post(), post()];
        assert_eq!(statuses, [502, 200, 502, 200], "{answer:?}");
        assert_eq!(good.stats().requests, 2);
    }
}

#[test]
fn a_get_is_repeated_as_long_as_its_client_has_seen_nothing() {
    let expect_repeated = |bad: &Upstream, how: &str| {
        let good = Echo::start();
        let gateway = gateway(&format!("endpoints: [{bad}, {good}], max_fails: 0"));
        for _ in 0..4 {
            assert_eq!(gateway.get("/").status, 200, "{how}");
        }
        assert!(bad.connections() >= 2, "{how}");
        assert_eq!(good.stats().requests, 4, "{how}");
    };
    for answer in [
        "",
        "HTTP/1.1",
        "HTTP/1.1 200 OK\r\nContent-Len",
        "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200",
        "SSH-2.0\r\n\r\n",
    ] {
        expect_repeated(&Upstream::answers(answer), answer);
    }
    let resetting = Upstream::raw(|mut caller| {
        caller.request();
        caller.reset();
    });
    expect_repeated(&resetting, "a reset");
}

/// Two halves of two answers are worse than one half.
#[test]
fn nothing_is_repeated_once_the_client_has_seen_the_head() {
    let halves = [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ];
    for half in halves {
        let (bad, good) = (Upstream::answers(half), Echo::start());
        let gateway = gateway(&format!("endpoints: [{bad}, {good}], max_fails: 0"));
        let broken = gateway.request("GET", "/").attempt().unwrap_err();
        let partial = broken
            .partial
            .unwrap_or_else(|| panic!("{half:?}: {}", broken.reason));
        assert_eq!(partial.status, 200);
        assert!("half".starts_with(partial.text()), "{half:?}");
        assert_eq!(good.stats().requests, 0, "{half:?}");
    }
}

/// An endpoint that breaks off its answers fails, also on connections that have served before.
#[test]
fn an_endpoint_that_breaks_off_its_answers_is_left_out() {
    let bad = Upstream::raw(|mut caller| {
        caller.request();
        caller.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        caller.request();
        caller.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    });
    let gateway = gateway(&format!("endpoints: [{bad}], fail_timeout: 1h"));
    assert_eq!(gateway.get("/").text(), "ok");
    // The answer may be with the client before the connection is back in the pool.
    eventually(PATIENCE, || gateway.request("GET", "/").attempt().is_err());
    gateway.wait_for_log("endpoint is left out");
}

/// Pingora keeps 64 KiB of a body to send it again, and would forget the rest.
#[test]
fn a_large_body_arrives_whole_or_not_at_all() {
    let size = 200 * 1024;
    for cut in [0, 1000, 60_000, size / 2, size] {
        let bad = Upstream::raw(move |mut caller| {
            caller.head();
            caller.body(cut);
        });
        let good = Echo::start();
        let gateway = gateway(&format!("endpoints: [{bad}, {good}], max_fails: 0"));
        let mut arrived = 0;
        for round in 0..12 {
            let body = vec![b'x'; size];
            let request = gateway.request("PUT", "/");
            let request = if round % 3 == 0 {
                request.chunks(body.chunks(7000))
            } else {
                request.body(body)
            };
            match request.attempt() {
                Ok(answer) if answer.status == 200 => {
                    arrived += 1;
                    assert_eq!(answer.json()["body_bytes"], size, "cut: {cut}");
                }
                Ok(answer) => assert_eq!(answer.status, 502, "cut: {cut}"),
                // The gateway closes while the client still sends: then it may not see the answer.
                Err(broken) => assert!(broken.partial.is_none(), "cut: {cut}: {broken}"),
            }
        }
        assert!(arrived >= 6, "cut: {cut}: {arrived}");
        assert_eq!(good.stats().requests, arrived, "cut: {cut}");
    }
}

#[test]
fn a_body_that_can_be_sent_again_is_sent_again_whole() {
    let bad = Upstream::raw(|mut caller| {
        caller.head();
        caller.body(10);
    });
    let good = Echo::start();
    let gateway = gateway(&format!("endpoints: [{bad}, {good}], max_fails: 0"));
    let body: String = ('a'..='z').cycle().take(40_000).collect();
    for _ in 0..4 {
        let answer = gateway.request("PUT", "/").body(body.clone()).send();
        assert_eq!(answer.json()["body"], body);
    }
}

/// The rest of the body comes after the first endpoint has failed.
#[test]
fn a_body_that_is_still_under_way_reaches_the_next_endpoint_from_its_beginning() {
    let bad = Upstream::raw(|mut caller| {
        caller.head();
        caller.body(1000);
    });
    let good = Upstream::raw(|mut caller| {
        let head = caller.head().unwrap();
        assert!(head.to_ascii_lowercase().contains("content-length: 150000"));
        caller.send("HTTP/1.1 100 Continue\r\n\r\n");
        let body = caller.body(150_000).unwrap();
        let right = body[..1000].iter().all(|byte| *byte == b'a')
            && body[1000..].iter().all(|byte| *byte == b'b');
        caller.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{right}",
            right.to_string().len()
        ));
    });
    let gateway = gateway(&format!("endpoints: [{bad}, {good}], max_fails: 0"));
    let mut connection = gateway.connect();
    connection.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 150000\r\n\r\n");
    connection.send(vec![b'a'; 1000]);
    eventually(PATIENCE, || good.heads().len() == 1);
    connection.send(vec![b'b'; 149_000]);
    assert_eq!(connection.answer().text(), "true");
}

/// One that was closed while it was idle says nothing about the endpoint.
#[test]
fn a_stale_connection_is_no_failure_and_no_client_sees_it() {
    let mut echo = Echo::start();
    let restarted = gateway(&format!("endpoints: [{echo}], fail_timeout: 1h"));
    for _ in 0..3 {
        assert_eq!(restarted.get("/").status, 200);
        echo.restart();
    }
    // This one closes only when the next request is on its way.
    let fickle = Upstream::raw(|mut caller| {
        caller.request();
        caller.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        caller.request();
    });
    let other = gateway(&format!(
        "endpoints: [{fickle}], fail_timeout: 1h, retries: {{ tries: 1 }}"
    ));
    for _ in 0..4 {
        assert_eq!(other.get("/").status, 200);
    }
    for gateway in [&restarted, &other] {
        assert_eq!(
            told(gateway, "endpoint is left out"),
            0,
            "{}",
            gateway.log()
        );
    }
}
