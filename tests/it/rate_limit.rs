//! The filter `rate_limit`: how many requests pass.
//!
//! Most limits here are so slow that it does not matter how long a test takes. Where time matters, what
//! passes is compared with the time that it took.

mod store;

use std::{
    thread,
    time::{Duration, Instant},
};

use edgeway_tests::{Answer, Gateway, Outcomes, load};
use serde_json::json;

use crate::jwt::tokens::{SECRET, token};

/// A gateway with this limit, which believes what this machine says of its clients.
fn gateway(limit: &str) -> Gateway {
    Gateway::start(&yaml(limit))
}

fn yaml(limit: &str) -> String {
    format!(
        "
        trusted_proxies: [127.0.0.1]
        filters: [access_log]
        routes:
          - match: {{ path: / }}
            filters:
              - rate_limit: {{ {limit} }}
            respond: {{ text: hello }}
        "
    )
}

/// A request of the client at this address.
fn ask(gateway: &Gateway, client: &str) -> Answer {
    let request = gateway.request("GET", "/");
    request.header("X-Forwarded-For", client).send()
}

fn statuses(gateway: &Gateway, client: &str, times: usize) -> Vec<u16> {
    (0..times).map(|_| ask(gateway, client).status).collect()
}

/// How many of so many requests of one client pass.
fn passed(gateway: &Gateway, client: &str, times: usize) -> usize {
    let statuses = statuses(gateway, client, times);
    statuses.into_iter().filter(|status| *status == 200).count()
}

#[test]
fn one_and_the_burst_pass_at_once_and_the_next_does_not() {
    // #56, with a rate at which the test is done before one more passes.
    let gateway = gateway("rate: 10/h, burst: 20");
    let statuses = statuses(&gateway, "192.0.2.1", 22);
    assert_eq!(statuses[..21], [200; 21]);
    assert_eq!(statuses[21], 429);
}

#[test]
fn in_the_long_run_as_many_pass_as_the_rate_allows() {
    // #55, #56
    for (limit, burst) in [("rate: 20/s", 0), ("rate: 20/s, burst: 20", 20)] {
        let gateway = gateway(limit);
        let mut connection = gateway.connect();
        let (began, mut last, mut passed) = (Instant::now(), Instant::now(), 0);
        let first_answer = connection.get("/").status;
        let after_first = Instant::now();
        assert_eq!(first_answer, 200);
        let mut pauses = Duration::ZERO;
        while began.elapsed() < Duration::from_secs(2) {
            pauses = pauses.max(last.elapsed());
            last = Instant::now();
            passed += u32::from(connection.get("/").status == 200);
        }
        let most = burst + 1 + (began.elapsed().as_secs_f64() * 20.0) as u32;
        assert!(passed < most, "{passed} of {most}");
        // What sinks while nobody asks is not lost if there is a burst.
        if burst > 0 || pauses < Duration::from_millis(20) {
            let least = ((last - after_first).as_secs_f64() * 20.0 * 0.7) as u32 + burst;
            assert!(passed >= least, "{passed} of {least}");
        }
    }
}

#[test]
fn a_refusal_tells_the_client_when_to_come_back_and_the_operator_why() {
    let gateway = gateway("rate: 6/h, burst: 1, name: login");
    assert_eq!(ask(&gateway, "192.0.2.1").status, 200);
    let passed = ask(&gateway, "192.0.2.1");
    assert_eq!(
        passed.header("RateLimit-Policy"),
        Some("\"login\";q=2;w=1200")
    );
    assert_eq!(passed.header("RateLimit"), Some("\"login\";r=0;t=600"));
    assert_eq!(passed.header("Retry-After"), None);

    let refused = ask(&gateway, "192.0.2.1");
    assert_eq!(refused.status, 429);
    let wait: u32 = refused.header("Retry-After").unwrap().parse().unwrap();
    assert!((590..=600).contains(&wait), "{wait}");
    assert_eq!(
        refused.header("RateLimit-Policy"),
        Some("\"login\";q=2;w=1200")
    );
    let left = refused.header("RateLimit").unwrap();
    assert!(left.starts_with("\"login\";r=0;t="), "{left}");
    assert_eq!(
        refused.header("Content-Type"),
        Some("application/problem+json")
    );
    let problem = refused.json();
    assert_eq!(problem["title"], "Too Many Requests");
    let text = problem.to_string();
    assert!(
        !text.contains("192.0.2.1") && !text.contains("6/h"),
        "{text}"
    );

    let line = gateway.wait_for_output(r#""status":429"#);
    assert!(line.contains(r#""filter":"rate_limit""#), "{line}");
    assert!(line.contains("more than 6/h with a burst of 1"), "{line}");
    assert!(
        line.contains("login") && line.contains("192.0.2.1"),
        "{line}"
    );
}

#[test]
fn every_client_has_a_limit_of_its_own_and_an_ipv6_client_is_a_network() {
    let gateway = gateway("rate: 1/h");
    for (client, status) in [
        ("192.0.2.1", 200),
        ("192.0.2.1", 429),
        ("192.0.2.2", 200),
        ("2001:db8:0:1::1", 200),
        ("2001:db8:0:1::2", 429),
        ("2001:db8:0:2::1", 200),
        ("::ffff:192.0.2.2", 429),
    ] {
        assert_eq!(ask(&gateway, client).status, status, "{client}");
    }
}

#[test]
fn how_much_of_an_ipv6_address_counts_may_be_told() {
    let gateway = gateway("rate: 1/h, ipv6_prefix: 48");
    for (client, status) in [
        ("2001:db8:0:1::1", 200),
        ("2001:db8:0:2::1", 429),
        ("2001:db8:1:2::1", 200),
    ] {
        assert_eq!(ask(&gateway, client).status, status, "{client}");
    }
}

#[test]
fn a_key_may_be_a_header_a_cookie_a_value_of_the_query_or_the_path() {
    let cases = [
        (
            "{header.x-tenant}",
            "/",
            [("X-Tenant", "red"), ("X-Tenant", "blue")],
        ),
        (
            "{cookie.sid}",
            "/",
            [("Cookie", "a=1; sid=7"), ("Cookie", "sid=8")],
        ),
        (
            "{header.x-tenant}{path}",
            "/a",
            [("X-Tenant", "red"), ("X-Tenant", "blue")],
        ),
    ];
    for (key, path, headers) in cases {
        let gateway = gateway(&format!("rate: 1/h, key: '{key}'"));
        for (name, value) in headers {
            for status in [200, 429] {
                let request = gateway.request("GET", path).header(name, value);
                assert_eq!(request.send().status, status, "{key} {value}");
            }
        }
        // Without such a value it is the client that counts.
        for (client, status) in [("192.0.2.1", 200), ("192.0.2.1", 429), ("192.0.2.2", 200)] {
            let request = gateway.request("GET", path);
            let answer = request.header("X-Forwarded-For", client).send();
            assert_eq!(answer.status, status, "{key} {client}");
        }
    }
    let gateway = gateway("rate: 1/h, key: '{query.api_key}{path}'");
    for (target, status) in [
        ("/?api_key=1", 200),
        ("/?api_key=1&x", 429),
        ("/?api_key=2", 200),
        ("/a?api_key=1", 200),
    ] {
        assert_eq!(gateway.get(target).status, status, "{target}");
    }
}

#[test]
fn a_secret_that_is_a_key_is_not_written_to_the_log() {
    let gateway = gateway("rate: 1/h, key: '{header.x-api-key}'");
    for status in [200, 429] {
        let request = gateway.request("GET", "/");
        let answer = request.header("X-Api-Key", "sk-0123456789-secret").send();
        assert_eq!(answer.status, status);
    }
    let line = gateway.wait_for_output(r#""status":429"#);
    assert!(line.contains("sk-0") && !line.contains("sk-01"), "{line}");
}

#[test]
fn a_key_may_be_who_a_filter_before_has_found_to_be_calling() {
    let gateway = Gateway::setup(
        "
        routes:
          - filters:
              - jwt: { algorithms: [HS256], secret: env:SECRET }
              - rate_limit: { rate: 1/h, key: '{claim.team}', name: teams }
              - rate_limit: { rate: 2/h, burst: 1, key: '{subject}', name: people }
            respond: { text: hello }
        ",
    )
    .env("SECRET", SECRET)
    .start();
    for (who, team, status) in [
        ("ann", "red", 200),
        ("bob", "red", 429),
        ("bob", "blue", 200),
        ("ann", "green", 200),
        ("ann", "white", 429),
    ] {
        let token = token(json!({ "sub": who, "team": team }));
        let answer = gateway.request("GET", "/").bearer(&token).send();
        assert_eq!(answer.status, status, "{who} {team}");
    }
}

#[test]
fn who_is_allowed_is_not_limited() {
    let gateway = gateway("rate: 1/h, allow: [10.0.0.0/8, '2001:db8::1']");
    assert_eq!(statuses(&gateway, "10.1.2.3", 5), [200; 5]);
    assert_eq!(statuses(&gateway, "2001:db8::1", 5), [200; 5]);
    assert_eq!(ask(&gateway, "10.1.2.3").header("RateLimit"), None);
    assert_eq!(passed(&gateway, "11.1.2.3", 5), 1);
    assert_eq!(passed(&gateway, "2001:db8::2", 5), 1);
}

#[test]
fn a_request_may_count_for_several() {
    let gateway = gateway("rate: 10/h, burst: 9, cost: 3");
    assert_eq!(passed(&gateway, "192.0.2.1", 10), 3);
}

#[test]
fn the_status_of_a_refusal_may_be_another_one() {
    // #58
    let gateway = gateway("rate: 1/h, status: 503");
    assert_eq!(statuses(&gateway, "192.0.2.1", 2), [200, 503]);
    assert!(ask(&gateway, "192.0.2.1").header("Retry-After").is_some());
}

#[test]
fn clients_are_told_nothing_if_that_is_wanted() {
    let gateway = gateway("rate: 1/h, headers: false");
    for status in [200, 429] {
        let answer = ask(&gateway, "192.0.2.1");
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("RateLimit"), None);
        assert_eq!(answer.header("RateLimit-Policy"), None);
    }
}

#[test]
fn all_of_several_limits_count_a_request_or_none() {
    let limits =
        "limits: [{ rate: 10/h, burst: 9, key: all, name: all }, { rate: 10/h, burst: 2 }]";
    let gateway = gateway(limits);
    assert_eq!(passed(&gateway, "192.0.2.1", 30), 3);
    assert_eq!(passed(&gateway, "192.0.2.2", 30), 3);
    assert_eq!(passed(&gateway, "192.0.2.3", 2), 2);
    let last = ask(&gateway, "192.0.2.4");
    assert_eq!(
        last.header("RateLimit-Policy"),
        Some("\"all\";q=10;w=3600, \"10/h\";q=3;w=1080")
    );
    let left = last.header("RateLimit").unwrap();
    assert!(left.starts_with("\"all\";r=1;t="), "{left}");
    assert_eq!(passed(&gateway, "192.0.2.5", 30), 1);
    let refused = ask(&gateway, "192.0.2.6");
    let left = refused.header("RateLimit").unwrap();
    assert!(
        refused.status == 429 && left.starts_with("\"all\";r=0;t="),
        "{left}"
    );
}

#[test]
fn several_filters_tell_of_the_tightest_limit() {
    let gateway = Gateway::start(
        "
        filters:
          - rate_limit: { rate: 10/h, burst: 9, name: everywhere }
        routes:
          - match: { path: /login }
            filters:
              - rate_limit: { rate: 5/h, burst: 2, name: login }
            respond: { text: welcome }
          - match: { path: / }
            respond: { text: hello }
        ",
    );
    let login = gateway.get("/login");
    assert_eq!(login.header_all("RateLimit-Policy").len(), 2);
    assert_eq!(login.header_all("RateLimit"), ["\"login\";r=2;t=720"]);
    let page = gateway.get("/");
    assert_eq!(
        page.header_all("RateLimit-Policy"),
        ["\"everywhere\";q=10;w=3600"]
    );
    assert!(
        page.header("RateLimit")
            .unwrap()
            .starts_with("\"everywhere\";r=8;")
    );
}

#[test]
fn limits_of_one_name_count_together_and_others_do_not() {
    let gateway = Gateway::start(
        "
        routes:
          - match: { path: /a }
            filters: [{ rate_limit: { rate: 1/h } }]
            respond: { text: a }
          - match: { path: /b }
            filters: [{ rate_limit: { rate: 1/h } }]
            respond: { text: b }
          - match: { path: /c }
            filters: [{ rate_limit: { rate: 1/h, name: shared } }]
            respond: { text: c }
          - match: { path: /d }
            filters: [{ rate_limit: { rate: 1/h, name: shared } }]
            respond: { text: d }
        ",
    );
    let statuses = ["/a", "/b", "/c", "/d"].map(|path| gateway.get(path).status);
    assert_eq!(statuses, [200, 200, 200, 429]);
}

#[test]
fn a_limit_of_all_routes_counts_them_together() {
    let gateway = Gateway::start(
        "
        filters:
          - rate_limit: { rate: 1/h, burst: 1 }
        routes:
          - match: { path: /a }
            respond: { text: a }
          - match: { path: /b }
            respond: { text: b }
        ",
    );
    let statuses = ["/a", "/b", "/a", "/b", "/nowhere"].map(|path| gateway.get(path).status);
    assert_eq!(statuses, [200, 200, 429, 429, 429]);
}

#[test]
fn counts_survive_a_reload_that_changes_the_limit() {
    let first = "rate: 10/h, burst: 9";
    let gateway = gateway(first);
    assert_eq!(passed(&gateway, "192.0.2.1", 7), 7);
    for changed in [
        first,
        "rate: 10/h, burst: 9, memory: 64KiB",
        "rate: 20/h, burst: 9, status: 503",
    ] {
        assert!(gateway.reload(&yaml(changed)));
        assert_eq!(passed(&gateway, "192.0.2.1", 1), 1, "{changed}");
    }
    assert_eq!(passed(&gateway, "192.0.2.1", 5), 0);
    assert_eq!(passed(&gateway, "192.0.2.2", 20), 10);
}

#[test]
fn what_may_not_pass_at_once_waits_for_its_turn() {
    let gateway = gateway("rate: 10/s, burst: 9, at_once: 2");
    let began = Instant::now();
    let times: Vec<_> = thread::scope(|scope| {
        let ask = || {
            let answer = ask(&gateway, "192.0.2.1");
            (answer.status, began.elapsed())
        };
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect()
    });
    assert!(times.iter().all(|(status, _)| *status == 200), "{times:?}");
    let mut times: Vec<_> = times.into_iter().map(|(_, time)| time).collect();
    times.sort();
    // Three at once, then one in each tenth of a second: that much at least.
    for (number, time) in times.iter().enumerate().skip(3) {
        let least = Duration::from_millis((number as u64 - 2) * 100);
        assert!(*time >= least, "{number}: {time:?}");
    }
}

#[test]
fn who_waits_does_not_hold_up_others() {
    let gateway = gateway("rate: 1/h, burst: 1, at_once: 0");
    assert_eq!(ask(&gateway, "192.0.2.1").status, 200);
    // One of these has a place, and an hour to wait.
    let mut clients: Vec<_> = (0..3).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n");
        client.patience(Duration::from_secs(3));
    }
    let answered = thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter_mut()
            .map(|client| scope.spawn(|| client.try_answer().ok()))
            .collect();
        let answers = threads.into_iter().map(|thread| thread.join().unwrap());
        answers
            .flatten()
            .map(|answer| answer.status)
            .collect::<Vec<_>>()
    });
    assert_eq!(answered, [429, 429]);
    assert_eq!(ask(&gateway, "192.0.2.2").status, 200);
}

#[test]
fn who_leaves_is_not_waited_for() {
    let gateway = gateway("rate: 1/h, burst: 1, at_once: 0");
    assert_eq!(ask(&gateway, "192.0.2.1").status, 200);
    let mut client = gateway.connect();
    client.send("GET /left HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n");
    client.patience(Duration::from_millis(300));
    assert!(
        client.try_answer().is_err(),
        "it is not its turn for an hour"
    );
    drop(client);
    let line = gateway.wait_for_output("\"target\":\"/left\"");
    assert!(!line.contains("\"status\":200"), "{line}");
}

#[test]
fn many_at_once_get_exactly_what_there_is() {
    let gateway = gateway("rate: 1/h, burst: 99");
    let outcomes: Outcomes = load(gateway.address(), 16, 400, |connection| {
        connection
            .request("GET", "/")
            .header("X-Forwarded-For", "192.0.2.1")
    });
    assert_eq!(
        (outcomes.with_status(200), outcomes.with_status(429)),
        (100, 300)
    );
}

#[test]
fn many_clients_do_not_make_an_active_one_be_forgotten() {
    // 4 096 clients have room, and all but one are idle after a hundredth of a second.
    let gateway = gateway(
        "limits: [{ rate: 100/s, name: quick }, \
                  { rate: 1/h, key: '{header.x-user}', name: slow }], memory: 64KiB",
    );
    let user = |name: &str| {
        let request = gateway.request("GET", "/").header("X-User", name);
        request
            .header("X-Forwarded-For", format!("198.51.100.{}", name.len()))
            .send()
            .status
    };
    assert_eq!(user("ann"), 200);
    let outcomes = edgeway_tests::pace(
        gateway.address(),
        1_000,
        Duration::from_secs(2),
        |connection, number| {
            let client = format!("10.0.{}.{}", number / 256, number % 256);
            connection
                .request("GET", "/")
                .header("X-Forwarded-For", client)
                .header("X-User", number)
        },
    );
    assert_eq!(outcomes.with_status(200), outcomes.total());
    assert_eq!(user("ann"), 429);
}

#[test]
fn a_limit_that_only_reports_lets_pass_and_says_what_it_would_have_done() {
    let gateway = Gateway::start(
        "
        filters: [access_log]
        routes:
          - filters:
              - rate_limit: { rate: 1/h, burst: 1, at_once: 0 }
                mode: report
            respond: { text: hello }
        ",
    );
    for _ in 0..4 {
        let answer = gateway.get("/");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("RateLimit"), None);
    }
    gateway.wait_for_output("more than 1/h with a burst of 1");
}

#[test]
fn a_limit_may_be_for_some_requests_only() {
    let gateway = Gateway::start(
        "
        routes:
          - filters:
              - rate_limit: { rate: 1/h }
                unless: { path: /healthz }
            respond: { text: hello }
        ",
    );
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(gateway.get("/healthz").status, 200);
    assert_eq!(gateway.get("/").status, 429);
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (limit, wrong, said) in [
        ("burst: 3", "rate_limit", "there is no limit"),
        ("rate: 10", "10", "a rate such as"),
        ("rate: 1/s, cost: 5", "5", "would never pass"),
        (
            "rate: 1/s, burst: 1, at_once: 4",
            "4",
            "no more than the burst",
        ),
        ("rate: 1/s, bust: 4", "bust", "did you mean `burst`?"),
        ("rate: 1/s, key: '{heder.x}'", "'{heder.x}'", "{header.x}"),
        ("rate: 1/s, store: 'http://a'", "'http://a'", "redis://"),
        ("rate: 1/s, on_store_error: open", "open", "has no effect"),
        ("limits: [{ rate: 1/s, cost: 7 }]", "7", "would never pass"),
    ] {
        let yaml = yaml(limit);
        let log = Gateway::refused(&yaml);
        assert!(log.contains(said), "{limit}: {log}");
        // The test's indentation is taken away.
        let line = yaml
            .lines()
            .find(|line| line.contains("rate_limit"))
            .unwrap();
        let column = line.rfind(wrong).unwrap() + 1 - 8;
        let place = format!("edgeway.yaml:6:{column}");
        assert!(log.contains(&place), "{place} is not in {log}");
    }
}
