//! What is sent to a second endpoint as well, who wins, and what never is.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use edgeway_tests::{
    Answer, Authority, Break, Connection, Echo, Endpoint, Gateway, PATIENCE, Reaction, Request,
    Upstream, eventually, pace_during,
};
use serde_json::Value;

/// A time after which a second endpoint is asked, for tests where it is; and one far below any time that
/// an answer is late by here.
const AFTER: Duration = ms(50);

/// Nobody waits for so long unless nobody else was asked.
const LONG: Duration = Duration::from_secs(10);

/// A gateway with one upstream, which every request goes to, an access log, and an admin listener. Of two
/// endpoints the first one is asked first, since the other is a backup.
fn gateway(upstream: &str) -> Gateway {
    Gateway::start(&configuration(upstream))
}

fn configuration(upstream: &str) -> String {
    format!(
        "listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}\n\
         admin: {{ bind: '127.0.0.1:0' }}\n\
         upstreams: {{ pool: {{ {upstream} }} }}\n\
         filters: [request_id, access_log]\n\
         routes: [{{ upstream: pool }}]\n"
    )
}

/// Two endpoints of which the first is asked first, with what else is said of retries.
fn pair(one: &dyn std::fmt::Display, two: &dyn std::fmt::Display, retries: &str) -> String {
    format!(
        "endpoints: ['{one}', {{ address: '{two}', backup: true }}], \
         retries: {{ hedge_after: 50ms {retries} }}"
    )
}

fn two() -> (Endpoint, Endpoint) {
    (Endpoint::start("one"), Endpoint::start("two"))
}

#[track_caller]
fn expect(answer: &Answer, endpoint: &str) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("X-Endpoint"), Some(endpoint));
}

/// What the access log says of the request to a path.
fn entry(gateway: &Gateway, path: &str) -> Value {
    serde_json::from_str(&gateway.wait_for_output(path)).unwrap()
}

#[track_caller]
fn expect_entry(gateway: &Gateway, path: &str, endpoint: &str, attempts: u32) {
    let entry = entry(gateway, path);
    assert_eq!(entry["endpoint"], endpoint, "{entry}");
    assert_eq!(entry["attempts"], attempts, "{entry}");
}

/// What the admin listener says of an endpoint.
fn view(gateway: &Gateway, endpoint: &Endpoint) -> Value {
    let admin = gateway.address_of("admin");
    let pool = Request::to(admin, "GET", "/v1/upstreams/pool")
        .send()
        .json();
    let all = pool["endpoints"].as_array().unwrap();
    let own = all
        .iter()
        .find(|seen| seen["address"] == endpoint.address().to_string());
    own.unwrap_or_else(|| panic!("{pool}")).clone()
}

/// Waits until nothing is under way at an endpoint, as it and as the gateway sees it.
#[track_caller]
fn wait_for_rest(gateway: &Gateway, endpoint: &Endpoint) {
    eventually(PATIENCE, || endpoint.in_flight() == 0);
    eventually(PATIENCE, || view(gateway, endpoint)["active"] == 0);
}

fn took<T>(action: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    (action(), start.elapsed())
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

// ---- who wins ---------------------------------------------------------------------------------

#[test]
fn the_second_endpoint_answers_when_the_first_is_silent() {
    let (one, two) = two();
    one.breaks(Break::Hang);
    let gateway = gateway(&pair(&one, &two, ""));
    let (answer, time) = took(|| gateway.get("/silent"));
    expect(&answer, "two");
    assert!(time >= AFTER - ms(5) && time < LONG, "{time:?}");
    expect_entry(&gateway, "/silent", &two.to_string(), 2);
    // The first one is given up, and not blamed.
    wait_for_rest(&gateway, &one);
    eventually(PATIENCE, || one.open_connections() == 0);
    wait_for_rest(&gateway, &two);
    let view = view(&gateway, &one);
    assert_eq!(view["state"], "up");
    assert_eq!(view["failures"], 0, "{view}");
    // But it is known that it is slow.
    assert!(view["latency_ms"].as_f64().unwrap() >= 45.0, "{view}");
}

#[test]
fn the_first_endpoint_wins_if_its_answer_is_the_first_after_all() {
    let (one, two) = two();
    one.slow(ms(300));
    two.breaks(Break::Hang);
    let gateway = gateway(&pair(&one, &two, ""));
    expect(&gateway.get("/late"), "one");
    expect_entry(&gateway, "/late", &one.to_string(), 2);
    assert_eq!((one.requests(), two.requests()), (1, 1));
    wait_for_rest(&gateway, &two);
    eventually(PATIENCE, || two.open_connections() == 0);
    assert_eq!(view(&gateway, &two)["failures"], 0);
    // The connection to the first one is still good.
    one.slow(ms(0));
    expect(&gateway.get("/again"), "one");
    assert_eq!(one.connections(), 1);
}

#[test]
fn who_answers_in_time_is_the_only_one_that_is_asked() {
    let (one, two) = two();
    let gateway = gateway(&format!(
        "endpoints: [{one}, {{ address: '{two}', backup: true }}], retries: {{ hedge_after: 5s }}"
    ));
    expect(&gateway.get("/usual"), "one");
    expect_entry(&gateway, "/usual", &one.to_string(), 1);
    assert_eq!(two.requests(), 0);
}

#[test]
fn without_it_nobody_else_is_asked() {
    let (one, two) = two();
    one.slow(ms(400));
    let gateway = gateway(&format!(
        "endpoints: [{one}, {{ address: '{two}', backup: true }}]"
    ));
    expect(&gateway.get("/"), "one");
    assert_eq!(two.requests(), 0);
}

#[test]
fn the_second_endpoint_is_sent_what_the_first_is_sent() {
    let (one, two) = two();
    one.breaks(Break::Hang);
    let gateway = gateway(&pair(&one, &two, ""));
    let request = gateway.request("GET", "/a/../b%20c?d=e");
    let answer = request.header("X-Mine", "1").host("name.test").send();
    expect(&answer, "two");
    eventually(PATIENCE, || !one.received().is_empty());
    let (first, second) = (one.received().remove(0), two.received().remove(0));
    assert_eq!(first.target, second.target);
    assert_eq!(first.headers, second.headers);
    assert_eq!(second.host, "name.test");
}

#[test]
fn a_bad_answer_of_the_second_endpoint_is_no_reason_not_to_wait_for_the_first() {
    let (one, two) = two();
    one.slow(ms(400));
    two.status(503);
    let gateway = gateway(&pair(&one, &two, ""));
    expect(&gateway.get("/patient"), "one");
    assert_eq!(two.requests(), 1);
    expect_entry(&gateway, "/patient", &one.to_string(), 2);
    wait_for_rest(&gateway, &two);
}

#[test]
fn a_bad_answer_is_better_than_none() {
    let (one, two) = (
        Upstream::raw(|mut caller| {
            caller.request();
            thread::sleep(ms(400));
        }),
        Endpoint::start("two"),
    );
    two.status(503);
    let gateway = gateway(&pair(&one, &two, ", on: [connect]"));
    let answer = gateway.get("/any");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("X-Endpoint"), Some("two"));
    expect_entry(&gateway, "/any", &two.to_string(), 2);
}

#[test]
fn when_the_first_breaks_the_second_is_asked_already() {
    let one = Upstream::raw(|mut caller| {
        caller.request();
        thread::sleep(ms(200));
    });
    let two = Endpoint::start("two");
    two.slow(ms(500));
    // Without hedging a request would not be tried again for this.
    let gateway = gateway(&pair(&one, &two, ", on: [connect]"));
    expect(&gateway.get("/broken"), "two");
    assert_eq!(two.requests(), 1);
    expect_entry(&gateway, "/broken", &two.to_string(), 2);
}

#[test]
fn when_both_break_there_is_no_answer() {
    let breaks = |after| {
        Upstream::raw(move |mut caller| {
            caller.request();
            thread::sleep(after);
        })
    };
    let (one, two) = (breaks(ms(200)), breaks(ms(400)));
    let gateway = gateway(&pair(&one, &two, ", on: [connect]"));
    assert_eq!(gateway.get("/neither").status, 502);
    let entry = entry(&gateway, "/neither");
    assert_eq!(entry["attempts"], 2, "{entry}");
}

#[test]
fn a_second_endpoint_that_can_not_be_asked_does_no_harm() {
    let one = Endpoint::start("one");
    one.slow(ms(300));
    for two in [
        Upstream::refusing(),
        Upstream::answers(""),
        Upstream::answers("no HTTP at all"),
    ] {
        let gateway = gateway(&pair(&one, &two, ""));
        expect(&gateway.get("/"), "one");
    }
}

#[test]
fn a_third_endpoint_is_tried_when_two_have_failed() {
    let one = Upstream::raw(|mut caller| {
        caller.request();
        thread::sleep(ms(300));
    });
    let (two, three) = (Upstream::answers(""), Endpoint::start("three"));
    let gateway = gateway(&format!(
        "endpoints: [{one}, {{ address: '{two}', backup: true }}, {{ address: '{three}', backup: true }}], \
         retries: {{ hedge_after: 50ms }}"
    ));
    expect(&gateway.get("/both"), "three");
    assert_eq!(two.connections(), 1);
    expect_entry(&gateway, "/both", &three.to_string(), 3);
}

// ---- answers ----------------------------------------------------------------------------------

#[test]
fn answers_of_every_kind_arrive_whole() {
    let large: Vec<u8> = (0..=u8::MAX).cycle().take(700_000).collect();
    let sent = large.clone();
    let two = Endpoint::setup("two")
        .answers(move |request| match &*request.path {
            "/large" => Reaction::status(200).body(sent.clone()),
            "/chunked" => Reaction::status(200).pieces(vec!["one ", "two ", "three"], ms(60)),
            "/none" => Reaction::status(204),
            "/unchanged" => Reaction::status(304).header("ETag", "\"a\""),
            "/headers" => (0..200).fold(Reaction::status(200), |answer, number| {
                answer.header(&format!("X-Number-{number}"), "v".repeat(number % 60))
            }),
            _ => Reaction::status(200).body("body"),
        })
        .start();
    let one = Endpoint::start("one");
    one.breaks(Break::Hang);
    let gateway = gateway(&pair(&one, &two, ", budget: 100%"));
    let mut connection = gateway.connect();
    assert_eq!(connection.get("/large").body, large);
    assert_eq!(connection.get("/chunked").text(), "one two three");
    assert_eq!(connection.get("/none").status, 204);
    assert_eq!(connection.get("/unchanged").header("ETag"), Some("\"a\""));
    let many = connection.get("/headers");
    assert_eq!(many.header("X-Number-199").map(str::len), Some(199 % 60));
    let head = connection.request("HEAD", "/large").send();
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("Content-Length"), Some("700000"));
    assert_eq!(connection.get("/").text(), "body");
    // One connection was good for all of them.
    assert_eq!(two.connections(), 1);
    wait_for_rest(&gateway, &one);
}

#[test]
fn an_answer_that_breaks_off_is_not_taken_for_a_whole_one() {
    let (one, two) = two();
    one.breaks(Break::Hang);
    two.breaks(Break::AfterHead);
    let gateway = gateway(&pair(&one, &two, ""));
    let broken = gateway.request("GET", "/").attempt().unwrap_err();
    assert_eq!(broken.partial.unwrap().status, 200);
    wait_for_rest(&gateway, &two);
}

#[test]
fn the_time_for_the_whole_request_holds_for_the_second_endpoint_too() {
    let one = Endpoint::start("one");
    one.breaks(Break::Hang);
    let two = Upstream::raw(|mut caller| {
        caller.request();
        caller.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegin");
        caller.wait_for_close();
    });
    let upstream = format!("{}, timeouts: {{ total: 600ms }}", pair(&one, &two, ""));
    let gateway = gateway(&upstream);
    let (answer, time) = took(|| gateway.request("GET", "/").attempt());
    assert!(answer.is_err());
    assert!(time >= ms(590) && time < LONG, "{time:?}");
}

#[test]
fn nobody_waits_longer_than_for_the_whole_request_if_both_are_silent() {
    let (one, two) = two();
    one.breaks(Break::Hang);
    two.breaks(Break::Hang);
    let upstream = format!("{}, timeouts: {{ total: 600ms }}", pair(&one, &two, ""));
    let gateway = gateway(&upstream);
    let (answer, time) = took(|| gateway.get("/"));
    assert_eq!(answer.status, 504);
    assert!(time >= ms(590) && time < LONG, "{time:?}");
    wait_for_rest(&gateway, &one);
    wait_for_rest(&gateway, &two);
}

#[test]
fn the_time_of_a_try_may_be_over_while_the_second_endpoint_is_still_awaited() {
    let (one, two) = two();
    one.breaks(Break::Hang);
    two.slow(ms(1000));
    let upstream = pair(&one, &two, ", timeout: 1500ms, on: [connect]");
    let gateway = gateway(
        &upstream
            .replace("50ms,", "1s,")
            .replace("hedge_after: 50ms", "hedge_after: 1s"),
    );
    expect(&gateway.get("/"), "two");
    assert_eq!(two.requests(), 1);
}

// ---- what is never sent twice -----------------------------------------------------------------

#[test]
fn only_idempotent_requests_without_a_body_are_sent_twice() {
    let (one, two) = two();
    one.slow(ms(250));
    let gateway = gateway(&pair(&one, &two, ", budget: 100%"));
    let cases = [
        ("GET", None, true),
        ("HEAD", None, true),
        ("OPTIONS", None, true),
        ("DELETE", None, true),
        ("POST", None, false),
        ("PATCH", None, false),
        ("POST", Some("body"), false),
        ("PUT", Some("body"), false),
        ("GET", Some("body"), false),
    ];
    for (number, (method, body, twice)) in cases.into_iter().enumerate() {
        let path = format!("/case/{number}");
        let mut request = gateway.request(method, &path);
        if let Some(body) = body {
            request = request.body(body);
        }
        two.breaks(Break::Hang);
        expect(&request.send(), "one");
        let second = two.requests_to(&path);
        assert_eq!(second, usize::from(twice), "{method} {body:?}");
    }
    let path = "/chunks";
    let chunks = gateway.request("PUT", path).chunks(["a", "b"]);
    expect(&chunks.send(), "one");
    assert_eq!(two.requests_to(path), 0);
    let upgrade = gateway.request("GET", "/socket");
    let upgrade = upgrade
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket");
    expect(&upgrade.send(), "one");
    assert_eq!(two.requests_to("/socket"), 0);
}

#[test]
fn nobody_is_asked_twice_for_one_request() {
    let one = Endpoint::start("one");
    one.slow(ms(300));
    let gateway = gateway(&format!(
        "endpoints: [{one}], retries: {{ hedge_after: 50ms }}"
    ));
    expect(&gateway.get("/alone"), "one");
    assert_eq!(one.requests(), 1);
    expect_entry(&gateway, "/alone", &one.to_string(), 1);
}

#[test]
fn an_endpoint_that_is_not_well_or_has_no_room_is_not_asked() {
    let (one, busy, out) = (
        Endpoint::start("one"),
        Endpoint::start("busy"),
        Endpoint::start("out"),
    );
    one.slow(ms(400));
    busy.breaks(Break::Hang);
    let gateway = gateway(&format!(
        "balance: {{ hash: '{{header.x-key}}' }}, \
         endpoints: [{one}, {{ address: '{out}', state: maintenance }}, \
         {{ address: '{busy}', max_connections: 1, backup: true }}], \
         retries: {{ hedge_after: 50ms, budget: 100% }}"
    ));
    let address = gateway.address();
    let hanging = thread::spawn(move || {
        let mut first = Connection::open(address);
        first.get("/first")
    });
    eventually(PATIENCE, || busy.requests() == 1);
    // The place at `busy` is taken, as long as `one` has not answered.
    let second = gateway.get("/second");
    expect(&hanging.join().unwrap(), "one");
    expect(&second, "one");
    assert_eq!(busy.requests_to("/second"), 0);
    assert_eq!(out.requests(), 0);
}

#[test]
fn a_backup_is_not_asked_while_another_is_left() {
    let (one, two) = two();
    let backup = Endpoint::start("backup");
    one.breaks(Break::Hang);
    let gateway = gateway(&format!(
        "endpoints: [{one}, {two}, {{ address: '{backup}', backup: true }}], \
         retries: {{ hedge_after: 50ms, budget: 100% }}"
    ));
    for _ in 0..4 {
        expect(&gateway.get("/"), "two");
    }
    assert_eq!(backup.requests(), 0);
}

#[test]
fn a_session_is_not_moved_by_an_endpoint_that_is_slow() {
    let (one, two) = two();
    let gateway = gateway(&format!(
        "endpoints: [{one}, {two}], retries: {{ hedge_after: 50ms, budget: 100% }}, \
         sticky: {{ cookie: {{ name: sid, secret: a-secret-that-nobody-guesses }} }}"
    ));
    let (cookie, home) = loop {
        let answer = gateway.get("/");
        if answer.header("X-Endpoint") == Some("one") {
            let line = answer.header("Set-Cookie").unwrap();
            break (line.split(';').next().unwrap().to_owned(), &one);
        }
    };
    home.slow(ms(300));
    let before = two.requests();
    let request = || gateway.request("GET", "/").header("Cookie", &cookie);
    expect(&request().send(), "one");
    assert_eq!(two.requests(), before);
    // Who has none yet belongs to the endpoint that was faster.
    let new = loop {
        let answer = gateway.get("/new");
        if one.requests_to("/new") > 0 {
            break answer;
        }
    };
    expect(&new, "two");
    assert!(new.header("Set-Cookie").is_some());
}

#[test]
fn the_budget_of_retries_is_that_of_second_requests() {
    let (one, two) = two();
    one.slow(ms(300));
    two.breaks(Break::Hang);
    let retries = ", budget: 0%, min_per_second: 1";
    let gateway = gateway(&pair(&one, &two, retries));
    for _ in 0..12 {
        expect(&gateway.get("/"), "one");
    }
    assert_eq!(two.requests(), 10);
    // Nothing is left of it for retries.
    one.breaks(Break::BeforeAnswer);
    assert_eq!(gateway.get("/").status, 502);
}

#[test]
fn no_more_endpoints_are_asked_than_there_may_be_tries() {
    let one = Upstream::raw(|mut caller| {
        caller.request();
        thread::sleep(ms(300));
    });
    let others = ["two", "three"].map(|_| Upstream::answers(""));
    let [two, three] = &others;
    let gateway = gateway(&format!(
        "endpoints: [{one}, {{ address: '{two}', backup: true }}, {{ address: '{three}', backup: true }}], \
         max_fails: 0, retries: {{ hedge_after: 50ms, tries: 2 }}"
    ));
    assert_eq!(gateway.get("/twice").status, 502);
    assert_eq!(two.connections() + three.connections(), 1);
    assert_eq!(entry(&gateway, "/twice")["attempts"], 2);
}

#[test]
fn a_request_is_sent_beside_another_once() {
    let [one, two, three] = ["one", "two", "three"].map(Endpoint::start);
    for silent in [&one, &two, &three] {
        silent.breaks(Break::Hang);
    }
    let gateway = gateway(&format!(
        "endpoints: [{one}, {two}, {three}], retries: {{ hedge_after: 50ms, tries: 5 }}, timeouts: {{ total: 700ms }}"
    ));
    assert_eq!(gateway.get("/").status, 504);
    assert_eq!(one.requests() + two.requests() + three.requests(), 2);
}

// ---- connections ------------------------------------------------------------------------------

#[test]
fn connections_are_kept_as_without_it() {
    let [one, two] = ["one", "two"].map(Endpoint::start);
    let gateway = gateway(&format!(
        "endpoints: [{one}, {two}], retries: {{ hedge_after: 5s }}"
    ));
    let mut connection = gateway.connect();
    for _ in 0..40 {
        assert_eq!(connection.get("/").status, 200);
    }
    assert_eq!((one.requests(), two.requests()), (20, 20));
    assert_eq!((one.connections(), two.connections()), (1, 1));
}

#[test]
fn the_connection_of_a_second_request_that_has_won_is_kept_for_the_next() {
    let (one, two) = two();
    one.breaks(Break::Hang);
    let gateway = gateway(&pair(&one, &two, ", budget: 100%"));
    let mut connection = gateway.connect();
    for path in ["/", "/a", "/b", "/c", "/d"] {
        expect(&connection.get(path), "two");
        expect(&connection.request("HEAD", path).send(), "two");
    }
    assert_eq!(two.requests(), 10);
    assert_eq!(two.connections(), 1);
}

#[test]
fn a_kept_connection_that_was_closed_is_not_held_against_the_second_endpoint() {
    let (one, two) = two();
    one.breaks(Break::Hang);
    let gateway = gateway(&pair(&one, &two, ", budget: 100%"));
    expect(&gateway.get("/"), "two");
    two.close_connections();
    expect(&gateway.get("/"), "two");
    assert_eq!(view(&gateway, &two)["failures"], 0);
}

#[test]
fn a_client_that_leaves_takes_both_requests_with_it() {
    let (one, two) = two();
    one.breaks(Break::Hang);
    two.breaks(Break::Hang);
    let gateway = gateway(&pair(&one, &two, ""));
    let mut connection = gateway.connect();
    connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(PATIENCE, || two.requests() == 1);
    drop(connection);
    wait_for_rest(&gateway, &one);
    wait_for_rest(&gateway, &two);
}

#[test]
fn it_works_over_tls_and_over_unix_sockets() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["localhost"]);
    let secure = ["one", "two"].map(|name| Endpoint::https(name, &certificate));
    let local = ["one", "two"].map(|name| Endpoint::setup(name).unix().start());
    let tls = format!(
        "tls: {{ name: localhost, ca: {} }}",
        authority.ca().display()
    );
    for ([one, two], more) in [(secure, &*tls), (local, "slow_start: 0s")] {
        one.breaks(Break::Hang);
        let gateway = gateway(&format!("{}, {more}", pair(&one, &two, ", budget: 100%")));
        let mut connection = gateway.connect();
        for _ in 0..3 {
            expect(&connection.get("/"), "two");
        }
        assert_eq!(two.connections(), 1);
        eventually(PATIENCE, || one.open_connections() == 0);
    }
}

// ---- a process that is stopped ----------------------------------------------------------------

/// Whether all threads of a process have taken notice of a SIGSTOP.
fn is_stopped(pid: u32) -> bool {
    let mut threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.all(|thread| {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        status.contains("State:\tT")
    })
}

#[test]
fn nobody_waits_for_a_process_that_is_stopped() {
    let [one, two] = ["one", "two"].map(Echo::named);
    let gateway = Gateway::start(&format!(
        "upstreams:\n  pool:\n    endpoints: [{one}, {two}]\n    retries: {{ hedge_after: 100ms, budget: 100% }}\n\
         routes: [{{ upstream: pool }}]\n"
    ));
    let outcomes = pace_during(
        gateway.address(),
        100,
        |connection: &mut Connection, _| connection.request("GET", "/?delay=10ms"),
        || {
            thread::sleep(ms(700));
            one.pause();
            eventually(PATIENCE, || is_stopped(one.pid()));
            thread::sleep(ms(1500));
            one.resume();
            thread::sleep(ms(300));
        },
    );
    eprintln!("{}", outcomes.summary());
    outcomes.expect_all(200);
    // Half of them for more than a second were sent to the one that was stopped.
    let hedged = outcomes.slower_than(ms(100));
    assert!(hedged > 50, "{}", outcomes.summary());
    // The time-out is 30 s. An answer takes 10 ms, and a busy machine some more.
    assert!(outcomes.slowest() < ms(1500), "{}", outcomes.summary());
    assert!(outcomes.p50() < ms(300), "{}", outcomes.summary());
}

// ---- configuration ----------------------------------------------------------------------------

#[test]
fn what_is_written_of_it_must_be_a_time() {
    for (written, named) in [
        ("soon", "soon"),
        ("0s", "from `1ms` to `1d`"),
        ("50", "hedge_after"),
    ] {
        let upstream = format!("endpoints: [127.0.0.1:1], retries: {{ hedge_after: {written} }}");
        let said = Gateway::refused(&configuration(&upstream));
        assert!(said.contains(named), "{said}");
    }
}
