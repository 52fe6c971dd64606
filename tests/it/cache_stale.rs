//! Stale responses: served while a newer one is fetched, or when none can be had, and never where that is
//! forbidden.

use std::cell::Cell;
use std::thread;
use std::time::Instant;

use edgeway_tests::{Answer, Break, Endpoint, Gateway, Health, PATIENCE, Reaction, eventually};

use crate::cache_surge::{
    all, at_once, before, configuration, gateway, gets, ms, nothing_is_left, pages, slowest, told,
};
use crate::jwt::tokens::{SECRET, token};

/// Pages that say this of themselves.
fn saying(cache_control: &'static str) -> Endpoint {
    pages(move |_, page| page.header("Cache-Control", cache_control))
}

/// Asks, and asserts that it is served at once whatever the endpoint does.
#[track_caller]
fn at_once_from(gateway: &Gateway, target: &str) -> Answer {
    let start = Instant::now();
    let answer = gateway.get(target);
    assert!(start.elapsed() < ms(1500), "{:?}", start.elapsed());
    answer
}

#[track_caller]
fn says(gateway: &Gateway, body: &str) {
    let answer = gateway.get("/");
    assert_eq!((answer.status, answer.text()), (200, body), "{answer:?}");
}

/// Waits until the page is this one.
#[track_caller]
fn becomes(gateway: &Gateway, body: &str) {
    eventually(PATIENCE, || gateway.get("/").text() == body);
}

#[test]
fn a_page_is_served_for_as_long_again_while_a_newer_one_is_fetched_once() {
    let endpoint = pages(|_, page| page);
    let gateway = before(&endpoint, "{ ttl: 1s }");
    says(&gateway, "page 1");
    endpoint.slow(ms(4000));
    thread::sleep(ms(1100));
    let asked = gets(&gateway, "/");
    for answer in all(&asked, 200) {
        assert_eq!(answer.text(), "page 1");
        assert!(told(answer).contains("hit"), "{answer:?}");
    }
    assert!(slowest(&asked) < ms(2500), "{:?}", slowest(&asked));
    eventually(PATIENCE, || endpoint.requests() == 2);
    let again = at_once(&gateway, 50, |_, connection| connection.request("GET", "/"));
    all(&again, 200);
    assert_eq!(endpoint.requests(), 2);
    becomes(&gateway, "page 2");
    nothing_is_left(&gateway, &endpoint);
}

#[test]
fn after_that_the_next_client_waits_for_a_new_one() {
    let endpoint = pages(|_, page| page);
    let gateway = before(&endpoint, "{ ttl: 200ms, stale_while_revalidate: 200ms }");
    says(&gateway, "page 1");
    thread::sleep(ms(600));
    says(&gateway, "page 2");
}

#[test]
fn no_time_at_all_has_every_client_wait_for_a_new_one() {
    let endpoint = pages(|_, page| page);
    let gateway = before(&endpoint, "{ ttl: 300ms, stale_while_revalidate: 0s }");
    says(&gateway, "page 1");
    thread::sleep(ms(350));
    says(&gateway, "page 2");
}

#[test]
fn a_response_says_itself_for_how_long_it_may_be_served_meanwhile() {
    let endpoint = saying("max-age=1, stale-while-revalidate=30");
    let gateway = before(&endpoint, "{}");
    says(&gateway, "page 1");
    thread::sleep(ms(1500));
    endpoint.slow(ms(3000));
    assert_eq!(at_once_from(&gateway, "/").text(), "page 1");
    eventually(PATIENCE, || endpoint.requests() == 2);
    endpoint.behave();
    becomes(&gateway, "page 2");
}

#[test]
fn what_must_be_validated_is_never_served_stale() {
    for forbids in [
        "must-revalidate",
        "proxy-revalidate",
        "s-maxage=1",
        "no-cache",
    ] {
        let said = format!("max-age=1, stale-while-revalidate=60, stale-if-error=60, {forbids}");
        let mut endpoint = Endpoint::setup("pages")
            .answers(move |request| {
                let page = Reaction::status(200).body(format!("page {}", request.number));
                page.header("Cache-Control", &said).header("ETag", "\"a\"")
            })
            .start();
        let gateway = before(&endpoint, "{ ttl: 1m, stale_if_error: 1m }");
        says(&gateway, "page 1");
        thread::sleep(ms(1100));
        says(&gateway, "page 2");
        thread::sleep(ms(1100));
        endpoint.status(503);
        assert_eq!(gateway.get("/").status, 503, "{forbids}");
        // By what it says of itself the failure is stored as well.
        thread::sleep(ms(1100));
        endpoint.down();
        assert_eq!(gateway.get("/").status, 502, "{forbids}");
        // Nor to many at once, who learn of each other's failures.
        let asked = at_once(&gateway, 20, |_, connection| connection.request("GET", "/"));
        all(&asked, 502);
    }
}

#[test]
fn a_refresh_that_fails_leaves_the_old_page_and_is_tried_again_after_a_pause() {
    for fails in [
        |endpoint: &Endpoint| endpoint.status(500),
        |endpoint: &Endpoint| endpoint.breaks(Break::BeforeAnswer),
        |endpoint: &Endpoint| endpoint.breaks(Break::AfterHead),
    ] {
        let endpoint = pages(|_, page| page.header("ETag", "\"a\""));
        let cache = "{ ttl: 200ms, stale_while_revalidate: 1m }";
        let gateway = before(&endpoint, cache);
        says(&gateway, "page 1");
        fails(&endpoint);
        thread::sleep(ms(300));
        let start = Instant::now();
        while start.elapsed() < ms(1700) {
            let answer = at_once_from(&gateway, "/");
            assert_eq!((answer.status, answer.text()), (200, "page 1"));
            thread::sleep(ms(5));
        }
        let tried = endpoint.requests() - 1;
        // One of them may have been sent once more, since its connection might just have been an old one.
        assert!((1..=3).contains(&tried), "tried {tried} times");
        endpoint.behave();
        eventually(PATIENCE, || gateway.get("/").text() != "page 1");
        nothing_is_left(&gateway, &endpoint);
    }
}

#[test]
fn a_refresh_that_hangs_holds_up_neither_clients_nor_the_next_one_for_ever() {
    let endpoint = pages(|_, page| page);
    let upstream = format!("endpoints: [{endpoint}], timeouts: {{ read: 700ms }}");
    let gateway = gateway(&upstream, "{ ttl: 200ms, stale_while_revalidate: 1m }");
    says(&gateway, "page 1");
    endpoint.breaks(Break::Hang);
    thread::sleep(ms(300));
    let start = Instant::now();
    while start.elapsed() < ms(500) {
        assert_eq!(at_once_from(&gateway, "/").text(), "page 1");
    }
    assert_eq!(endpoint.requests(), 2);
    endpoint.behave();
    eventually(PATIENCE, || {
        let answer = at_once_from(&gateway, "/");
        assert_eq!(answer.status, 200);
        answer.text() != "page 1"
    });
}

#[test]
fn behind_a_refresh_that_hangs_nobody_waits_longer_than_the_route_says() {
    let endpoint = pages(|_, page| page);
    let upstream = format!("endpoints: [{endpoint}], timeouts: {{ read: 8s }}");
    let gateway = gateway(
        &upstream,
        "{ ttl: 200ms, stale_while_revalidate: 400ms, wait: 300ms }",
    );
    says(&gateway, "page 1");
    endpoint.breaks(Break::Hang);
    thread::sleep(ms(300));
    says(&gateway, "page 1");
    eventually(PATIENCE, || endpoint.requests() == 2);
    thread::sleep(ms(500));
    // The upstream is slow, which what is stored hides for a minute.
    let asked = at_once(&gateway, 50, |_, connection| connection.request("GET", "/"));
    for answer in all(&asked, 200) {
        assert_eq!(answer.text(), "page 1");
        let told = told(answer);
        assert!(told.contains("fwd=stale"), "{told}");
        assert!(told.contains("collapsed"), "{told}");
        assert!(!told.contains("ttl=0"), "{told}");
    }
    assert!(slowest(&asked) < ms(3000), "{:?}", slowest(&asked));
    assert_eq!(endpoint.requests(), 2);
}

#[test]
fn a_refresh_is_the_request_that_filters_made_and_counts_for_no_client() {
    let endpoint = saying("public, max-age=1, stale-while-revalidate=60");
    let gateway = Gateway::start(&format!(
        "
        upstreams: {{ pool: {{ endpoints: [{endpoint}] }} }}
        filters: [access_log]
        routes:
          - match: {{ path: /shop/ }}
            strip_prefix: /shop
            upstream: pool
            cache: {{}}
            filters:
              - jwt: {{ algorithms: [HS256], secret: {SECRET}, forward: {{ sub: X-Auth-User }} }}
              - headers: {{ request: {{ set: {{ X-Stage: test }}, remove: [X-Secret] }} }}
        "
    ));
    let token = token(serde_json::json!({ "sub": "ada" }));
    let asked = Cell::new(0);
    let ask = || {
        asked.set(asked.get() + 1);
        let request = gateway.request("GET", "/shop/list?page=2");
        request.bearer(&token).header("X-Secret", "s").send()
    };
    assert_eq!(ask().text(), "page 1");
    thread::sleep(ms(1100));
    assert_eq!(ask().text(), "page 1");
    eventually(PATIENCE, || {
        endpoint.requests() == 2 && endpoint.in_flight() == 0
    });
    eventually(PATIENCE, || ask().text() == "page 2");
    let received = endpoint.received();
    for request in &received[..2] {
        assert_eq!(request.target, "/list?page=2");
        assert_eq!(request.method, "GET");
        assert_eq!(request.header_all("x-auth-user"), ["ada"]);
        assert_eq!(request.header_all("x-stage"), ["test"]);
        assert!(request.header_all("x-secret").is_empty());
    }
    // The log has a line for each request of a client, and none for the refresh.
    let lines = || gateway.output().lines().count();
    eventually(PATIENCE, || lines() >= asked.get());
    thread::sleep(ms(200));
    assert_eq!(lines(), asked.get(), "{}", gateway.output());
}

#[test]
fn a_refresh_that_finds_the_page_gone_ends_it() {
    let endpoint = pages(|_, page| page.header("ETag", "\"a\""));
    let gateway = before(&endpoint, "{ ttl: 200ms, stale_while_revalidate: 1m }");
    says(&gateway, "page 1");
    endpoint.status(404);
    thread::sleep(ms(300));
    eventually(PATIENCE, || gateway.get("/").status == 404);
}

/// What may become of an upstream.
type Misfortune = fn(&mut Endpoint);

#[test]
fn a_failure_of_the_endpoint_is_hidden_while_something_stored_may_be_served() {
    let misfortunes: [(&str, Misfortune); 8] = [
        ("is down", Endpoint::down),
        ("answers 500", |endpoint| endpoint.status(500)),
        ("answers 502", |endpoint| endpoint.status(502)),
        ("answers 503", |endpoint| endpoint.status(503)),
        ("answers 504", |endpoint| endpoint.status(504)),
        ("closes", |endpoint| endpoint.breaks(Break::BeforeAnswer)),
        ("hangs", |endpoint| endpoint.breaks(Break::Hang)),
        ("is slow", |endpoint| endpoint.slow(ms(5000))),
    ];
    for (what, befalls) in misfortunes {
        for says_it in [true, false] {
            let mut endpoint = pages(move |_, page| match says_it {
                true => page.header("Cache-Control", "max-age=1, stale-if-error=60"),
                false => page,
            });
            let upstream = format!("endpoints: [{endpoint}], timeouts: {{ read: 400ms }}");
            let cache = match says_it {
                true => "{}",
                false => "{ ttl: 1s, stale_while_revalidate: 0s }",
            };
            let gateway = gateway(&upstream, cache);
            says(&gateway, "page 1");
            thread::sleep(ms(1100));
            befalls(&mut endpoint);
            for _ in 0..3 {
                let answer = at_once_from(&gateway, "/");
                assert_eq!((answer.status, answer.text()), (200, "page 1"), "{what}");
                let told = told(&answer);
                assert!(told.contains("fwd=stale"), "{what}: {told}");
                assert!(told.contains("upstream failed"), "{what}: {told}");
                if let Some(status) = what.strip_prefix("answers ") {
                    let status = format!("fwd-status={status}");
                    assert!(told.contains(&status), "{what}: {told}");
                }
            }
        }
    }
}

#[test]
fn that_no_endpoint_may_be_asked_is_hidden_too() {
    // The breaker is open, no endpoint is healthy, or none has room.
    let breaker = "breaker: { min_requests: 1, open_for: 90s }";
    let health = "health: { path: /healthz, interval: 100ms }, ejection: { last_resort: false }";
    let cache = "{ ttl: 1s, stale_while_revalidate: 0s }";
    for extra in [breaker, health] {
        let endpoint = pages(|_, page| page);
        let gateway = gateway(&format!("endpoints: [{endpoint}], {extra}"), cache);
        says(&gateway, "page 1");
        endpoint.status(503);
        endpoint.health(Health::Down);
        let without = || gateway.request("GET", "/other").send();
        eventually(PATIENCE, || without().header("retry-after").is_some());
        thread::sleep(ms(1100));
        let asked = endpoint.requests();
        let answer = gateway.get("/");
        assert_eq!((answer.status, answer.text()), (200, "page 1"), "{extra}");
        assert!(told(&answer).contains("upstream failed"), "{answer:?}");
        assert_eq!(endpoint.requests(), asked, "{extra}");
        let head = gateway.request("HEAD", "/").send();
        assert_eq!((head.status, head.text()), (200, ""));
        let part = gateway.request("GET", "/").header("Range", "bytes=0-3");
        let part = part.send();
        assert_eq!((part.status, part.text()), (206, "page"));
    }
    let endpoint = pages(|_, page| page);
    let upstream = format!("endpoints: [{{ address: '{endpoint}', max_connections: 1 }}]");
    let gateway = gateway(&upstream, cache);
    says(&gateway, "page 1");
    thread::sleep(ms(1100));
    endpoint.slow(ms(3000));
    thread::scope(|scope| {
        scope.spawn(|| gateway.get("/other"));
        eventually(PATIENCE, || endpoint.in_flight() == 1);
        let answer = at_once_from(&gateway, "/");
        assert_eq!((answer.status, answer.text()), (200, "page 1"));
    });
}

#[test]
fn many_at_once_are_all_served_what_is_stored_when_the_endpoint_fails() {
    let cache = "{ ttl: 1s, stale_while_revalidate: 0s }";
    let misfortunes: [Misfortune; 4] = [
        |endpoint| endpoint.status(500),
        |endpoint| endpoint.breaks(Break::BeforeAnswer),
        |endpoint| endpoint.breaks(Break::Hang),
        Endpoint::down,
    ];
    for befalls in misfortunes {
        let mut endpoint = pages(|_, page| page);
        let upstream = format!("endpoints: [{endpoint}], timeouts: {{ read: 400ms }}");
        let gateway = gateway(&upstream, cache);
        says(&gateway, "page 1");
        thread::sleep(ms(1100));
        endpoint.slow(ms(200));
        befalls(&mut endpoint);
        let asked = gets(&gateway, "/");
        for answer in all(&asked, 200) {
            assert_eq!(answer.text(), "page 1");
        }
        assert!(slowest(&asked) < ms(2500), "{:?}", slowest(&asked));
        // Those who have waited for one that has failed ask no more themselves.
        assert!(endpoint.requests() < 20, "{}", endpoint.requests());
        let view = || endpoint.in_flight() == 0;
        endpoint.behave();
        endpoint.close_connections();
        eventually(PATIENCE, view);
    }
}

#[test]
fn a_failure_is_told_when_the_time_for_what_is_stored_is_over() {
    let mut endpoint = pages(|_, page| page);
    let cache = "{ ttl: 200ms, stale_while_revalidate: 0s, stale_if_error: 1s }";
    let gateway = before(&endpoint, cache);
    says(&gateway, "page 1");
    thread::sleep(ms(300));
    endpoint.status(503);
    says(&gateway, "page 1");
    thread::sleep(ms(1100));
    assert_eq!(gateway.get("/").status, 503);
    endpoint.down();
    assert_eq!(gateway.get("/").status, 502);
    let never = "{ ttl: 200ms, stale_while_revalidate: 0s, stale_if_error: 0s }";
    let mut endpoint = pages(|_, page| page);
    let gateway = before(&endpoint, never);
    says(&gateway, "page 1");
    thread::sleep(ms(300));
    endpoint.down();
    assert_eq!(gateway.get("/").status, 502);
}

#[test]
fn that_a_page_is_gone_is_no_failure() {
    let endpoint = pages(|_, page| page);
    let gateway = before(&endpoint, "{ ttl: 200ms, stale_while_revalidate: 0s }");
    for status in [404, 410, 403, 501] {
        endpoint.behave();
        thread::sleep(ms(250));
        assert_eq!(gateway.get("/").status, 200);
        thread::sleep(ms(250));
        endpoint.status(status);
        assert_eq!(gateway.get("/").status, status);
    }
}

#[test]
fn a_client_may_take_what_is_stale_for_longer() {
    let mut endpoint = pages(|request, page| match request.number {
        1 => page.header("Cache-Control", "max-age=1"),
        _ => page,
    });
    let gateway = before(&endpoint, "{}");
    says(&gateway, "page 1");
    thread::sleep(ms(1100));
    let tolerant = || {
        let request = gateway.request("GET", "/");
        request.header("Cache-Control", "stale-if-error=60").send()
    };
    endpoint.status(503);
    assert_eq!(gateway.get("/").status, 503);
    let answer = tolerant();
    assert_eq!((answer.status, answer.text()), (200, "page 1"));
    endpoint.down();
    assert_eq!(tolerant().text(), "page 1");
    assert_eq!(gateway.get("/").status, 502);
}

#[test]
fn another_endpoint_is_asked_before_what_is_stored_is_served() {
    let (bad, good) = (pages(|_, page| page), pages(|_, page| page.body("good")));
    bad.status(503);
    let upstream = format!("endpoints: [{bad}, {good}], retries: {{ on: [503] }}");
    let gateway = gateway(&upstream, "{ ttl: 100ms, stale_while_revalidate: 0s }");
    for _ in 0..6 {
        let answer = gateway.get("/");
        assert_eq!((answer.status, answer.text()), (200, "good"));
        assert!(!told(&answer).contains("upstream failed"), "{answer:?}");
        thread::sleep(ms(120));
    }
    assert!(bad.requests() >= 2, "{}", bad.requests());
    let before = (bad.requests(), good.requests());
    good.status(503);
    let answer = gateway.get("/");
    assert_eq!((answer.status, answer.text()), (200, "good"));
    assert!(told(&answer).contains("upstream failed"), "{answer:?}");
    assert_eq!(
        (bad.requests(), good.requests()),
        (before.0 + 1, before.1 + 1)
    );
}

#[test]
fn hidden_failures_count_for_the_breaker_all_the_same() {
    let endpoint = pages(|_, page| page);
    let upstream =
        format!("endpoints: [{endpoint}], breaker: {{ min_requests: 4, open_for: 90s }}");
    let gateway = gateway(&upstream, "{ ttl: 100ms, stale_while_revalidate: 0s }");
    says(&gateway, "page 1");
    endpoint.status(500);
    thread::sleep(ms(150));
    for _ in 0..20 {
        says(&gateway, "page 1");
    }
    let asked = endpoint.requests();
    assert!((4..=8).contains(&asked), "{asked}");
}

#[test]
fn a_page_is_fresh_again_as_soon_as_the_endpoint_is_back() {
    let mut endpoint = pages(|_, page| page);
    let gateway = before(&endpoint, "{ ttl: 500ms, stale_while_revalidate: 0s }");
    says(&gateway, "page 1");
    thread::sleep(ms(600));
    endpoint.down();
    says(&gateway, "page 1");
    endpoint.up();
    eventually(PATIENCE, || gateway.get("/").text() == "page 2");
    assert!(told(&gateway.get("/")).contains("hit"));
}

#[test]
fn a_connection_that_was_served_something_stale_is_closed_or_good_for_more() {
    let mut endpoint = pages(|_, page| page.body("x".repeat(100_000)));
    let gateway = before(&endpoint, "{ ttl: 200ms, stale_while_revalidate: 0s }");
    assert_eq!(gateway.get("/").body.len(), 100_000);
    thread::sleep(ms(300));
    endpoint.down();
    let mut connection = gateway.connect();
    for _ in 0..5 {
        let answer = connection.get("/");
        assert_eq!((answer.status, answer.body.len()), (200, 100_000));
        if !answer.reusable {
            connection.expect_close();
            connection = gateway.connect();
        }
    }
}

#[test]
fn what_is_stale_survives_a_reload_that_changes_nothing_of_it() {
    let mut endpoint = pages(|_, page| page);
    let cache = "{ ttl: 200ms, stale_while_revalidate: 0s }";
    let upstream = format!("endpoints: [{endpoint}]");
    let gateway = gateway(&upstream, cache);
    says(&gateway, "page 1");
    let longer = format!("{upstream}, timeouts: {{ read: 5s }}");
    assert!(gateway.reload(&configuration(&longer, cache)));
    thread::sleep(ms(300));
    endpoint.down();
    says(&gateway, "page 1");
}
