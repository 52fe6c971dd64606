//! Tests of the filter as a whole, at rates that are so slow that the time it takes does not matter.

use std::{path::Path, time::Duration};

use edgeway_sdk::{
    Resources,
    test::{self, Outcome, Trial},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

use super::*;

fn filter(json: &str) -> RateLimit {
    test::build(json, build).unwrap()
}

/// The filter on this route, with what others have counted.
fn on_route(resources: &Resources, route: Option<&str>, json: &str) -> RateLimit {
    let stage = Build::new(resources, Path::new("."));
    let mut stage = match route {
        Some(route) => stage.on_route(route),
        None => stage,
    };
    build(serde_json::from_str(json).unwrap(), &mut stage).unwrap()
}

async fn ask(filter: &RateLimit) -> Outcome {
    Trial::get("/").run(filter).await
}

/// How many of so many requests pass.
async fn passed(filter: &RateLimit, times: u32) -> u32 {
    let mut passed = 0;
    for _ in 0..times {
        passed += u32::from(ask(filter).await.passed());
    }
    passed
}

#[tokio::test]
async fn one_more_than_the_burst_passes_and_the_next_is_told_when_to_come_back() {
    let filter = filter(r#"{"rate": "6/h", "burst": 2}"#);
    assert_eq!(passed(&filter, 3).await, 3);
    let refused = ask(&filter).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.header("retry-after"), Some("600"));
    let reply = refused.reply.unwrap();
    assert_eq!(reply.decided_by_rule(), Some("6/h"));
    assert_eq!(reply.about(), Some("192.0.2.1"));
    assert_eq!(reply.reason(), Some("more than 6/h with a burst of 2"));
    assert_eq!(
        reply.client_detail(),
        Some("Too many requests: try again in 600 s.")
    );
}

#[tokio::test]
async fn every_client_has_a_limit_of_its_own() {
    let filter = filter(r#"{"rate": "1/h"}"#);
    assert!(ask(&filter).await.passed());
    assert!(!ask(&filter).await.passed());
    let other = Trial::get("/").client([192, 0, 2, 2]);
    assert!(other.run(&filter).await.passed());
}

#[tokio::test]
async fn the_client_is_told_the_policy_and_what_is_left() {
    let filter = filter(r#"{"rate": "6/h", "burst": 1, "name": "login"}"#);
    for (left, status) in [
        ("\"login\";r=1;t=600", 200),
        ("\"login\";r=0;t=600", 200),
        ("\"login\";r=0;t=600", 429),
    ] {
        let outcome = ask(&filter).await;
        assert_eq!(outcome.status(), status);
        assert_eq!(outcome.header("ratelimit"), Some(left));
        assert_eq!(
            outcome.header("ratelimit-policy"),
            Some("\"login\";q=2;w=1200")
        );
    }
}

#[tokio::test]
async fn nothing_is_told_if_that_is_not_wanted_or_the_limit_only_reports() {
    let filter = filter(r#"{"rate": "1/h", "headers": false}"#);
    for status in [200, 429] {
        let outcome = ask(&filter).await;
        assert_eq!(outcome.status(), status);
        assert_eq!(outcome.header("ratelimit"), None);
        assert_eq!(outcome.header("ratelimit-policy"), None);
    }
    let resources = Resources::default();
    let mut stage = Build::new(&resources, Path::new(".")).reporting(true);
    let config = serde_json::from_str(r#"{"rate": "1/h"}"#).unwrap();
    let reporting = build(config, &mut stage).unwrap();
    assert_eq!(ask(&reporting).await.header("ratelimit"), None);
    assert_eq!(ask(&reporting).await.status(), 429);
}

#[tokio::test]
async fn a_refusal_has_the_status_that_was_asked_for() {
    let filter = filter(r#"{"rate": "1/h", "status": 503}"#);
    ask(&filter).await;
    assert_eq!(ask(&filter).await.status(), 503);
}

#[tokio::test]
async fn who_is_allowed_is_neither_limited_nor_counted_nor_told() {
    let filter = filter(
        r#"{"rate": "1/h", "key": "all", "allow": ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"]}"#,
    );
    for client in ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1", "192.0.2.7"] {
        for _ in 0..3 {
            let client: std::net::IpAddr = client.parse().unwrap();
            let outcome = Trial::get("/").client(client).run(&filter).await;
            assert!(outcome.passed(), "{client}");
            assert_eq!(outcome.header("ratelimit"), None);
        }
    }
    assert_eq!(passed(&filter, 3).await, 1);
}

#[tokio::test]
async fn a_key_is_what_the_template_makes_of_the_request() {
    let filter = filter(r#"{"rate": "1/h", "key": "{claim.team}{path}", "name": "team"}"#);
    let ask = async |team: &str, path: &str| {
        let claims = json!({ "team": team }).as_object().unwrap().clone();
        let identity = Identity::with_claims("ann", Arc::new(claims));
        Trial::get(path)
            .identity(identity)
            .run(&filter)
            .await
            .passed()
    };
    assert!(ask("red", "/a").await);
    assert!(!ask("red", "/a").await);
    assert!(ask("red", "/b").await);
    assert!(ask("blue", "/a").await);
}

#[tokio::test]
async fn an_empty_key_is_no_way_around() {
    let filter = filter(r#"{"rate": "1/h", "key": "{header.x-tenant}"}"#);
    assert!(ask(&filter).await.passed());
    assert!(!ask(&filter).await.passed());
    let empty = Trial::get("/").header("x-tenant", "");
    assert!(!empty.run(&filter).await.passed());
}

#[tokio::test]
async fn the_prefix_of_an_ipv6_address_is_what_counts() {
    let refused = async |prefix: u8| {
        let filter = filter(&format!(r#"{{"rate": "1/h", "ipv6_prefix": {prefix}}}"#));
        for (client, passes) in [("2001:db8:0:1::1", true), ("2001:db8:0:1::2", prefix > 64)] {
            let client: std::net::IpAddr = client.parse().unwrap();
            assert_eq!(
                Trial::get("/").client(client).run(&filter).await.passed(),
                passes
            );
        }
        let client: std::net::IpAddr = "2001:db8:0:2::1".parse().unwrap();
        !Trial::get("/").client(client).run(&filter).await.passed()
    };
    assert!(!refused(64).await);
    assert!(!refused(128).await);
    assert!(refused(56).await);
}

#[tokio::test]
async fn a_request_may_count_for_several() {
    let filter = filter(r#"{"rate": "6/h", "burst": 9, "cost": 4}"#);
    assert_eq!(passed(&filter, 5).await, 2);
    let refused = ask(&filter).await;
    assert_eq!(refused.header("retry-after"), Some("1200"));
    assert_eq!(refused.header("ratelimit"), Some("\"6/h\";r=2;t=600"));
}

#[tokio::test]
async fn what_does_not_pass_at_once_waits_for_its_turn() {
    let filter = filter(r#"{"rate": "6/h", "burst": 3, "at_once": 1}"#);
    let mut waits = Vec::new();
    for _ in 0..4 {
        let outcome = ask(&filter).await;
        assert!(outcome.passed());
        waits.push(outcome.delay.as_secs_f64().round() as u64);
    }
    assert_eq!(waits, [0, 0, 600, 1200]);
    assert_eq!(ask(&filter).await.status(), 429);
}

#[tokio::test]
async fn of_several_limits_all_count_a_request_or_none() {
    let filter = filter(
        r#"{"limits": [
            {"rate": "6/h", "burst": 9, "name": "all", "key": "all"},
            {"rate": "6/h", "burst": 1, "name": "client"}
        ]}"#,
    );
    let ask = async |last: u8| Trial::get("/").client([192, 0, 2, last]).run(&filter).await;
    assert_eq!(
        ask(1).await.header("ratelimit"),
        Some("\"client\";r=1;t=600")
    );
    assert!(ask(1).await.passed());
    // These must not use up what is for all.
    for _ in 0..20 {
        let outcome = ask(1).await;
        assert_eq!(outcome.status(), 429);
        assert_eq!(outcome.header("ratelimit"), Some("\"client\";r=0;t=600"));
        let rule = outcome.reply.as_ref().unwrap().decided_by_rule();
        assert_eq!(rule, Some("client"));
    }
    let mut passed = 0;
    for last in 2..=20 {
        passed += u32::from(ask(last).await.passed());
    }
    assert_eq!(passed, 8);
    let refused = ask(30).await;
    assert_eq!(refused.header("ratelimit"), Some("\"all\";r=0;t=600"));
    let policies = "\"all\";q=10;w=6000, \"client\";q=2;w=1200";
    assert_eq!(refused.header("ratelimit-policy"), Some(policies));
    assert_eq!(refused.reply.unwrap().about(), Some("all"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_that_come_at_once_are_counted_by_all_limits_or_none() {
    let filter = Arc::new(filter(
        r#"{"headers": false, "limits": [
            {"rate": "1/h", "burst": 999, "name": "wide"},
            {"rate": "2/h", "burst": 499, "name": "narrow"}
        ]}"#,
    ));
    let tasks = (0..4).map(|_| {
        let filter = Arc::clone(&filter);
        tokio::spawn(async move { passed(&filter, 1_000).await })
    });
    let mut all = 0;
    for task in tasks.collect::<Vec<_>>() {
        all += task.await.unwrap();
    }
    assert_eq!(all, 500);
    let wide = &filter.limits[0];
    let hash = filter.hashes(&Request::new(
        &mut http::Request::new(()).into_parts().0,
        &mut edgeway_sdk::Exchange::new(([192, 0, 2, 1], 1).into()),
    ))[0];
    let (left, _) = wide.gcra.left(wide.table.find(hash), wide.counts.now());
    assert_eq!(left, 500);
}

#[tokio::test]
async fn the_tightest_limit_of_a_chain_is_told_with_all_policies() {
    let resources = Resources::default();
    let wide = on_route(&resources, None, r#"{"rate": "6/h", "burst": 9}"#);
    let tight = on_route(&resources, Some("a"), r#"{"rate": "60/h", "burst": 1}"#);
    for chain in [[&wide, &tight], [&tight, &wide]] {
        let (mut head, ()) = http::Request::new(()).into_parts();
        let mut exchange = edgeway_sdk::Exchange::new(([192, 0, 2, 1], 1).into());
        for filter in chain {
            let flow = filter
                .request(&mut Request::new(&mut head, &mut exchange))
                .await;
            assert!(matches!(flow, Ok(Flow::Continue)));
        }
        let (mut answer, ()) = http::Response::new(()).into_parts();
        for filter in chain.iter().rev() {
            let origin = Origin::Upstream;
            let mut response = Response::new(&mut answer, &head, &mut exchange, origin);
            filter.response(&mut response).unwrap();
        }
        let all = |name| answer.headers.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(all("ratelimit-policy").len(), 2);
        let [left] = all("ratelimit")[..] else {
            panic!("{answer:?}");
        };
        assert!(
            left.to_str().unwrap().starts_with("\"60/h\";r="),
            "{left:?}"
        );
    }
}

#[tokio::test]
async fn each_limit_of_each_route_counts_for_itself_unless_they_have_one_name() {
    let resources = Resources::default();
    let limit = r#"{"rate": "1/h"}"#;
    let routes = [None, Some("a"), Some("b")];
    let filters = routes.map(|route| on_route(&resources, route, limit));
    for filter in &filters {
        assert_eq!(passed(filter, 2).await, 1);
    }
    let by_path = on_route(&resources, Some("a"), r#"{"rate": "1/h", "key": "{path}"}"#);
    assert_eq!(passed(&by_path, 2).await, 1);

    let named = r#"{"rate": "1/h", "name": "n"}"#;
    let filters = routes.map(|route| on_route(&resources, route, named));
    assert_eq!(passed(&filters[0], 1).await, 1);
    assert_eq!(passed(&filters[1], 1).await, 0);
    assert_eq!(passed(&filters[2], 1).await, 0);
}

#[tokio::test]
async fn counts_survive_a_reload_also_one_that_changes_the_limit() {
    let resources = Resources::default();
    let mut filter = on_route(&resources, Some("a"), r#"{"rate": "6/h", "burst": 9}"#);
    assert_eq!(passed(&filter, 4).await, 4);
    for (json, left) in [
        (r#"{"rate": "6/h", "burst": 9}"#, 6),
        (r#"{"rate": "6/h", "burst": 9, "memory": "1MiB"}"#, 6),
        (r#"{"rate": "60/h", "burst": 9, "memory": "2KiB"}"#, 6),
        (r#"{"rate": "60/h", "burst": 4}"#, 1),
        (r#"{"rate": "6/h", "burst": 4, "status": 503}"#, 1),
    ] {
        let next = on_route(&resources, Some("a"), json);
        filter = next;
        let hash = filter.limits[0].key.hash(
            &Request::new(
                &mut http::Request::new(()).into_parts().0,
                &mut edgeway_sdk::Exchange::new(([192, 0, 2, 1], 1).into()),
            ),
            filter.limits[0].counts.random(),
        );
        let limit = &filter.limits[0];
        let found = limit
            .gcra
            .left(limit.table.find(hash), limit.counts.now())
            .0;
        assert_eq!(found, left, "{json}");
    }
    assert_eq!(passed(&filter, 5).await, 1);
}

#[test]
fn what_makes_no_sense_is_refused_at_its_key() {
    let cases = [
        ("{}", ""),
        (r#"{"limits": []}"#, "limits"),
        (r#"{"rate": "1/s", "limits": [{"rate": "1/s"}]}"#, "rate"),
        (r#"{"burst": 2, "limits": [{"rate": "1/s"}]}"#, "burst"),
        (r#"{"at_once": 2, "limits": [{"rate": "1/s"}]}"#, "at_once"),
        (r#"{"cost": 2, "limits": [{"rate": "1/s"}]}"#, "cost"),
        (r#"{"key": "a", "limits": [{"rate": "1/s"}]}"#, "key"),
        (r#"{"name": "a", "limits": [{"rate": "1/s"}]}"#, "name"),
        (r#"{"rate": "1/s", "cost": 2}"#, "cost"),
        (
            r#"{"limits": [{"rate": "1/s"}, {"rate": "1/s", "cost": 2}]}"#,
            "limits.1.cost",
        ),
        (
            r#"{"limits": [{"rate": "1/s"}, {"rate": "1/s", "burst": 9}]}"#,
            "limits.1",
        ),
        (
            r#"{"limits": [{"rate": "1/s", "name": "a"}, {"rate": "2/s", "name": "a"}]}"#,
            "limits.1",
        ),
        (r#"{"rate": "1/s", "burst": 2, "at_once": 3}"#, "at_once"),
        (r#"{"rate": "1/400d", "burst": 99}"#, "rate"),
        (r#"{"rate": "1/s", "memory": "1000"}"#, "memory"),
        (r#"{"rate": "1/s", "memory": "65GiB"}"#, "memory"),
        (r#"{"rate": "1/s", "store_timeout": "1s"}"#, "store_timeout"),
        (
            r#"{"rate": "1/s", "on_store_error": "open"}"#,
            "on_store_error",
        ),
        (
            r#"{"rate": "1/s", "store": "redis://a", "store_timeout": "0s"}"#,
            "store_timeout",
        ),
        (r#"{"rate": "1/s", "store": "http://a"}"#, "store"),
        (r#"{"rate": "1/s", "store": "redis:a"}"#, "store"),
        (
            r#"{"rate": "1/s", "store": "rediss://a/#insecure"}"#,
            "store",
        ),
    ];
    for (json, key) in cases {
        let error = test::build(json, build).err().expect(json);
        assert_eq!(
            error.key.as_deref().unwrap_or_default(),
            key,
            "{json}: {error}"
        );
    }
}

#[test]
fn what_is_no_such_value_is_refused_when_it_is_read() {
    for json in [
        r#"{"rate": "10"}"#,
        r#"{"rate": "1/s", "cost": 0}"#,
        r#"{"rate": "1/s", "status": 200}"#,
        r#"{"rate": "1/s", "ipv6_prefix": 0}"#,
        r#"{"rate": "1/s", "allow": ["10.0.0.0/33"]}"#,
        r#"{"rate": "1/s", "name": ""}"#,
        r#"{"rate": "1/s", "name": "a b"}"#,
        r#"{"rate": "1/s", "name": "a\"b"}"#,
        r#"{"rate": "1/s", "on_store_error": "maybe"}"#,
        r#"{"rate": "1/s", "bust": 1}"#,
    ] {
        assert!(serde_json::from_str::<Config>(json).is_err(), "{json}");
    }
}

#[test]
fn the_password_of_a_store_is_in_no_error() {
    let error = |url: &str| {
        let json = format!(r#"{{"rate": "1/s", "store": "{url}"}}"#);
        test::build(&json, build).err().expect(url)
    };
    for url in [
        "redis://u:hunter2@",
        "rediss://u:hunter2@a/#insecure",
        "redis://u:hunter2@a:99999",
    ] {
        let error = error(url);
        let said = format!("{error} {:?}", error.help);
        assert!(!said.contains("hunter2"), "{said}");
    }
}

/// A store that answers with what `answer` makes of each thing that it is told.
async fn store(answer: fn(&str) -> Option<&'static str>) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(serve(connection, answer));
        }
    });
    format!("redis://{address}")
}

async fn serve(mut connection: TcpStream, answer: fn(&str) -> Option<&'static str>) {
    let mut piece = [0; 65_536];
    while let Ok(length @ 1..) = connection.read(&mut piece).await {
        let said = String::from_utf8_lossy(&piece[..length]).into_owned();
        // What comes in one piece, and has several commands in it.
        for command in said.split("\r\n*").map(str::to_owned) {
            let Some(text) = answer(&command) else {
                continue;
            };
            if connection.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

const SHA: &str = "$40\r\n0123456789012345678901234567890123456789\r\n";

/// As a store that counts, and lets everything pass.
fn right(command: &str) -> Option<&'static str> {
    Some(match command {
        load if load.contains("LOAD") => SHA,
        count if count.contains("EVALSHA") => "*2\r\n:1\r\n:0\r\n",
        _ => "+OK\r\n",
    })
}

fn with_store(url: &str, more: &str) -> RateLimit {
    filter(&format!(
        r#"{{"rate": "6/h", "burst": 1, "store": "{url}"{more}}}"#
    ))
}

#[tokio::test]
async fn the_store_decides_if_it_answers() {
    let filter = with_store(&store(right).await, "");
    assert_eq!(passed(&filter, 20).await, 20);

    let full = |command: &str| match command {
        count if count.contains("EVALSHA") && !count.contains("trial") => {
            Some("*2\r\n:0\r\n:1500000\r\n")
        }
        other => right(other),
    };
    let filter = with_store(&store(full).await, "");
    let refused = ask(&filter).await;
    assert_eq!(refused.status(), 429);
    // One and a half of two are taken.
    assert_eq!(refused.header("retry-after"), Some("300"));
    assert_eq!(refused.header("ratelimit"), Some("\"6/h\";r=0;t=300"));
}

#[tokio::test]
async fn a_store_that_lies_or_is_silent_is_done_without() {
    let stores: [fn(&str) -> Option<&'static str>; 9] = [
        |_| None,
        |_| Some("HTTP/1.1 400 Bad Request\r\n\r\n"),
        |_| Some("-NOAUTH Authentication required.\r\n"),
        |_| Some("+OK\r\n"),
        |_| Some("\0\0\0\0"),
        |_| Some("*1000000000\r\n"),
        |command| {
            let lie = command.contains("EVALSHA") && !command.contains("trial");
            if lie {
                Some("*1\r\n:1\r\n")
            } else {
                right(command)
            }
        },
        |command| {
            let lie = command.contains("EVALSHA") && !command.contains("trial");
            if lie {
                Some("*2\r\n:1\r\n:-5\r\n")
            } else {
                right(command)
            }
        },
        |command| {
            let silent = command.contains("EVALSHA") && !command.contains("trial");
            if silent { None } else { right(command) }
        },
    ];
    for (number, answer) in stores.into_iter().enumerate() {
        let url = store(answer).await;
        for (rule, expected) in [
            ("local", [200, 200, 429]),
            ("open", [200; 3]),
            ("closed", [503; 3]),
        ] {
            let more = format!(r#", "store_timeout": "50ms", "on_store_error": "{rule}""#);
            let filter = with_store(&url, &more);
            for status in expected {
                let asked = timeout(Duration::from_secs(5), ask(&filter)).await.unwrap();
                assert_eq!(asked.status(), status, "{number} {rule}");
            }
        }
    }
}

#[tokio::test]
async fn only_the_first_waits_for_a_store_that_is_silent() {
    let silent = |command: &str| {
        let is_count = command.contains("EVALSHA") && !command.contains("trial");
        if is_count { None } else { right(command) }
    };
    let filter = with_store(&store(silent).await, r#", "store_timeout": "3s""#);
    let began = Instant::now();
    assert_eq!(passed(&filter, 20).await, 2);
    let time = began.elapsed();
    assert!((3..6).contains(&time.as_secs()), "{time:?}");
}

#[tokio::test]
async fn what_a_store_says_of_another_limit_makes_nobody_wait_for_long() {
    let odd = |command: &str| match command {
        count if count.contains("EVALSHA") && !count.contains("trial") => {
            Some("*2\r\n:1\r\n:999000000\r\n")
        }
        other => right(other),
    };
    let filter = with_store(&store(odd).await, r#", "at_once": 0"#);
    let outcome = ask(&filter).await;
    assert!(outcome.passed());
    assert_eq!(outcome.delay, Duration::from_secs(600));
}

#[tokio::test]
async fn a_store_that_is_not_there_is_done_without() {
    for url in [
        "redis://127.0.0.1:1",
        "unix:///nowhere/redis.sock",
        "rediss://127.0.0.1:1",
    ] {
        let filter = with_store(url, "");
        assert_eq!(passed(&filter, 5).await, 2, "{url}");
        let filter = with_store(url, r#", "on_store_error": "closed""#);
        let refused = ask(&filter).await;
        assert_eq!(
            (refused.status().as_u16(), refused.header("retry-after")),
            (503, Some("1"))
        );
        assert_eq!(refused.reply.unwrap().decided_by_rule(), Some("store"));
    }
}
