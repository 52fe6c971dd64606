//! Gateways that count together in a Redis.

use std::{
    thread,
    time::{Duration, Instant},
};

use edgeway_tests::{
    Authority, Gateway, Outcomes, PATIENCE, Redis, Setup, eventually, load, pace, pace_during,
};

fn setup(store: &str, limit: &str) -> Setup {
    Gateway::setup(&format!(
        "
        trusted_proxies: [127.0.0.1]
        routes:
          - filters:
              - rate_limit: {{ {limit}, store: '{store}' }}
            respond: {{ text: hello }}
        "
    ))
}

fn gateway(redis: &Redis, limit: &str) -> Gateway {
    setup(&redis.url(), limit).start()
}

fn passed(gateway: &Gateway, times: usize) -> usize {
    let statuses = (0..times).map(|_| gateway.get("/").status);
    statuses.filter(|status| *status == 200).count()
}

/// Waits until the store was asked, and says what it knows.
fn keys(redis: &Redis) -> Vec<String> {
    let keys = redis.ask(&["KEYS", "*"]);
    keys.lines()
        .filter(|key| !key.contains("(trial)"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn two_gateways_let_as_many_pass_as_one_would() {
    let Some(redis) = Redis::start(&[]) else {
        return;
    };
    // More generous with time than what a store takes under load.
    let limit = "rate: 50/min, burst: 99, store_timeout: 10s";
    let gateways = [gateway(&redis, limit), gateway(&redis, limit)];
    let began = Instant::now();
    let outcomes: Vec<Outcomes> = thread::scope(|scope| {
        let threads = gateways.each_ref().map(|gateway| {
            scope.spawn(|| {
                load(gateway.address(), 8, 300, |connection| {
                    connection.request("GET", "/")
                })
            })
        });
        threads.map(|thread| thread.join().unwrap()).into()
    });
    let passed: usize = outcomes.iter().map(|one| one.with_status(200)).sum();
    let refused: usize = outcomes.iter().map(|one| one.with_status(429)).sum();
    assert_eq!(passed + refused, 600);
    let most = 100 + (began.elapsed().as_secs_f64() * 50.0 / 60.0) as usize;
    assert!((100..=most).contains(&passed), "{passed} of {most}");
    assert!(
        outcomes.iter().all(|one| one.with_status(200) > 0),
        "{outcomes:?}"
    );
}

#[test]
fn what_the_client_is_told_is_what_all_gateways_have_counted() {
    let Some(redis) = Redis::start(&[]) else {
        return;
    };
    let limit = "limits: [{ rate: 6/h, burst: 2 }, { rate: 6/h, burst: 9, key: all, name: all }]";
    let (one, other) = (gateway(&redis, limit), gateway(&redis, limit));
    let left = |gateway: &Gateway| {
        let answer = gateway.get("/");
        let left = answer.header("RateLimit").unwrap();
        (answer.status, left.split(";t=").next().unwrap().to_owned())
    };
    assert_eq!(left(&one), (200, "\"6/h\";r=2".to_owned()));
    assert_eq!(left(&other), (200, "\"6/h\";r=1".to_owned()));
    assert_eq!(left(&one), (200, "\"6/h\";r=0".to_owned()));
    assert_eq!(left(&other), (429, "\"6/h\";r=0".to_owned()));
    let wait: u32 = one.get("/").header("Retry-After").unwrap().parse().unwrap();
    assert!((500..=600).contains(&wait), "{wait}");
    // What one limit has refused the other has not counted.
    for client in 1..=7 {
        let request = other.request("GET", "/");
        let answer = request
            .header("X-Forwarded-For", format!("192.0.2.{client}"))
            .send();
        assert_eq!(answer.status, 200, "{client}");
    }
    let request = one
        .request("GET", "/")
        .header("X-Forwarded-For", "192.0.2.8");
    assert!(
        request
            .send()
            .header("RateLimit")
            .unwrap()
            .starts_with("\"all\";r=0")
    );
}

#[test]
fn what_is_shared_waits_for_its_turn_too() {
    let Some(redis) = Redis::start(&[]) else {
        return;
    };
    let limit = "rate: 10/s, burst: 9, at_once: 0, store_timeout: 10s";
    let (one, other) = (gateway(&redis, limit), gateway(&redis, limit));
    let began = Instant::now();
    thread::scope(|scope| {
        for gateway in [&one, &other] {
            for _ in 0..3 {
                scope.spawn(|| assert_eq!(gateway.get("/").status, 200));
            }
        }
    });
    assert!(began.elapsed() >= Duration::from_millis(500));
}

#[test]
fn a_store_learns_nothing_of_clients_and_forgets_who_is_idle() {
    let Some(redis) = Redis::start(&[]) else {
        return;
    };
    let gateway = gateway(&redis, "rate: 1/h, key: '{header.x-api-key}', name: by-key");
    let request = gateway.request("GET", "/").header("X-Api-Key", "sk-secret");
    assert_eq!(request.send().status, 200);
    let keys = keys(&redis);
    let [key] = &keys[..] else {
        panic!("{keys:?}");
    };
    assert!(
        key.starts_with("edgeway:limit:by-key:") && !key.contains("sk-secret"),
        "{key}"
    );
    let life = redis.ask(&["PTTL", key]);
    let life: u64 = life.trim_start_matches(':').parse().unwrap();
    assert!((3_500_000..=3_600_001).contains(&life), "{life}");
}

#[test]
fn limits_with_a_name_count_together_in_a_store_and_others_by_route() {
    let Some(redis) = Redis::start(&[]) else {
        return;
    };
    let url = redis.url();
    let route = |path: &str, limit: &str| {
        format!(
            "\n          - match: {{ path: {path} }}
            filters: [{{ rate_limit: {{ rate: 1/h, store: '{url}'{limit} }} }}]
            respond: {{ text: hello }}"
        )
    };
    let routes =
        route("/a", "") + &route("/b", "") + &route("/c", ", name: n") + &route("/d", ", name: n");
    let gateway = Gateway::start(&format!("\n        routes:{routes}\n        "));
    let statuses = ["/a", "/b", "/c", "/d"].map(|path| gateway.get(path).status);
    assert_eq!(statuses, [200, 200, 200, 429]);
    assert_eq!(keys(&redis).len(), 3);
}

#[test]
fn a_store_may_be_at_a_port_with_a_password_and_in_a_database() {
    let Some(redis) = Redis::start_tcp(&["requirepass hunter2"]) else {
        return;
    };
    let address = redis.address();
    let gateway = setup(&format!("redis://:hunter2@{address}/3"), "rate: 1/h").start();
    assert_eq!(passed(&gateway, 3), 1);
    // A gateway that begins anew knows what was counted, so it was the store.
    let other = setup("env:STORE", "rate: 1/h")
        .env("STORE", &format!("redis://:hunter2@{address}/3"))
        .start();
    assert_eq!(passed(&other, 3), 0);
    let elsewhere = setup(&format!("redis://:hunter2@{address}/4"), "rate: 1/h").start();
    assert_eq!(passed(&elsewhere, 3), 1);
}

#[test]
fn a_store_that_does_not_let_us_in_is_done_without_and_its_password_is_not_told() {
    let Some(redis) = Redis::start_tcp(&["requirepass hunter2"]) else {
        return;
    };
    let address = redis.address();
    let gateway = setup(&format!("redis://:hunter3@{address}"), "rate: 1/h").start();
    assert_eq!(passed(&gateway, 3), 1);
    let line = gateway.wait_for_log("can't be asked");
    assert!(line.contains(&address.to_string()), "{line}");
    assert!(!gateway.log().contains("hunter"), "{}", gateway.log());
}

#[test]
fn a_store_may_be_behind_tls_and_its_certificate_is_verified() {
    let authority = Authority::new();
    let Some(redis) = Redis::start_tls(&authority.certificate(&["127.0.0.1"])) else {
        return;
    };
    let url = format!("rediss://{}", redis.address());
    let limit = "rate: 1/h, store_timeout: 5s, on_store_error: closed";
    let trusting = setup(&url, limit).env("SSL_CERT_FILE", &authority.ca().display().to_string());
    assert_eq!(passed(&trusting.start(), 3), 1);

    let stranger = Authority::new();
    let doubting = setup(&url, limit).env("SSL_CERT_FILE", &stranger.ca().display().to_string());
    let doubting = doubting.start();
    assert_eq!(doubting.get("/").status, 503);
    doubting.wait_for_log("can't be asked");
}

#[test]
fn without_its_store_a_gateway_counts_alone_lets_all_pass_or_none() {
    let nowhere = "unix:///nowhere/redis.sock";
    for (rule, expected) in [
        ("", [200, 200, 429]),
        (", on_store_error: local", [200, 200, 429]),
        (", on_store_error: open", [200; 3]),
        (", on_store_error: closed", [503; 3]),
    ] {
        let gateway = setup(nowhere, &format!("rate: 1/h, burst: 1{rule}")).start();
        let answers = [(); 3].map(|()| gateway.get("/"));
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, expected, "{rule}");
        if expected[0] == 503 {
            assert_eq!(answers[0].header("Retry-After"), Some("1"));
        }
    }
}

#[test]
fn a_store_that_is_killed_and_started_again_under_load_costs_no_request() {
    let Some(mut redis) = Redis::start(&[]) else {
        return;
    };
    let gateway = gateway(&redis, "rate: 1/h, burst: 49");
    let outcomes = pace_during(
        gateway.address(),
        200,
        |connection, number| {
            let client = format!("192.0.2.{}", number % 4);
            connection
                .request("GET", "/")
                .header("X-Forwarded-For", client)
        },
        || {
            eventually(PATIENCE, || keys(&redis).len() == 4);
            redis.kill();
            gateway.wait_for_log("can't be asked");
            thread::sleep(Duration::from_secs(1));
            redis.restart();
            gateway.wait_for_log("answers again");
            eventually(PATIENCE, || keys(&redis).len() == 4);
            thread::sleep(Duration::from_secs(1));
        },
    );
    assert_eq!(outcomes.broken().count(), 0, "{}", outcomes.summary());
    let (passed, refused) = (outcomes.with_status(200), outcomes.with_status(429));
    assert_eq!(passed + refused, outcomes.total(), "{}", outcomes.summary());
    // Each client has its 50 of the first store, no more while it was away, and 50 of the empty new one.
    assert!(passed <= 4 * 100, "{passed}");
    assert!(refused > 0, "{}", outcomes.summary());
    let told = gateway.log().matches("can't be asked").count();
    assert_eq!(told, 1, "once, not for every request");
}

#[test]
fn a_store_that_stops_answering_holds_up_nobody_for_long() {
    let Some(redis) = Redis::start(&[]) else {
        return;
    };
    let gateway = gateway(&redis, "rate: 1/h, burst: 9, store_timeout: 200ms");
    assert_eq!(passed(&gateway, 4), 4);
    redis.freeze();
    let outcomes = pace(
        gateway.address(),
        50,
        Duration::from_secs(3),
        |connection, _| connection.request("GET", "/"),
    );
    assert_eq!(outcomes.broken().count(), 0, "{}", outcomes.summary());
    // The six that are left, as this gateway has counted too.
    assert_eq!(outcomes.with_status(200), 6, "{}", outcomes.summary());
    assert_eq!(outcomes.with_status(429), outcomes.total() - 6);
    // Those that came before the first was given up have waited, the others have not.
    assert!(
        outcomes.slower_than(Duration::from_millis(190)) < 30,
        "{}",
        outcomes.summary()
    );
    redis.thaw();
    eventually(PATIENCE, || {
        gateway.get("/");
        gateway.log().contains("answers again")
    });
}

#[test]
fn a_store_that_was_emptied_of_scripts_is_told_again() {
    let Some(redis) = Redis::start(&[]) else {
        return;
    };
    let gateway = gateway(
        &redis,
        "rate: 1/h, burst: 2, on_store_error: closed, store_timeout: 10s",
    );
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(redis.ask(&["SCRIPT", "FLUSH"]), "+OK");
    assert_eq!(passed(&gateway, 5), 2);
    assert!(
        !gateway.log().contains("can't be asked"),
        "{}",
        gateway.log()
    );
}

#[test]
fn a_connection_that_the_store_has_closed_is_replaced_unnoticed() {
    let Some(redis) = Redis::start(&[]) else {
        return;
    };
    let gateway = gateway(
        &redis,
        "rate: 1/h, burst: 2, on_store_error: closed, store_timeout: 10s",
    );
    assert_eq!(gateway.get("/").status, 200);
    // One that has served for no longer than a second is suspect.
    thread::sleep(Duration::from_millis(1_100));
    redis.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    assert_eq!(passed(&gateway, 5), 2);
    assert!(
        !gateway.log().contains("can't be asked"),
        "{}",
        gateway.log()
    );
}

#[test]
fn a_store_that_refuses_to_count_is_done_without() {
    let Some(redis) = Redis::start(&[]) else {
        return;
    };
    let gateway = gateway(&redis, "rate: 1/h, burst: 4, store_timeout: 10s");
    assert_eq!(passed(&gateway, 2), 2);
    // It takes connections, and writes nothing.
    redis.ask(&["CONFIG", "SET", "min-replicas-to-write", "3"]);
    assert_eq!(passed(&gateway, 9), 3);
    gateway.wait_for_log("can't be asked");
    redis.ask(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    eventually(PATIENCE, || {
        gateway.get("/");
        gateway.log().contains("answers again")
    });
}

#[test]
fn a_reload_keeps_the_store_and_its_counts() {
    let Some(redis) = Redis::start(&[]) else {
        return;
    };
    let url = redis.url();
    let yaml = |rate: &str| {
        format!(
            "
            routes:
              - filters:
                  - rate_limit: {{ rate: {rate}, burst: 4, name: n, store: '{url}', store_timeout: 10s }}
                respond: {{ text: hello }}
            "
        )
    };
    let gateway = Gateway::start(&yaml("1/h"));
    assert_eq!(passed(&gateway, 2), 2);
    for rate in ["1/h", "2/h"] {
        assert!(gateway.reload(&yaml(rate)));
        assert_eq!(passed(&gateway, 1), 1);
    }
    assert_eq!(passed(&gateway, 5), 1);
    let clients = redis.ask(&["CLIENT", "LIST", "TYPE", "normal"]);
    // Ours, and the one that asks.
    assert_eq!(clients.lines().count(), 2, "{clients}");
}
