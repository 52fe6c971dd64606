//! A configuration that takes the place of another while requests are served.

use std::{fs, thread};

use edgeway_tests::{Echo, Gateway, PATIENCE, Upstream, eventually, load_during};

/// Every request goes to this endpoint, and every response says which configuration it was.
fn to(endpoint: impl std::fmt::Display, version: u32) -> String {
    format!(
        "
        upstreams: {{ app: {{ endpoints: [{endpoint}] }} }}
        routes:
          - filters: [{{ headers: {{ response: {{ set: {{ X-Version: '{version}' }} }} }} }}]
            upstream: app
        "
    )
}

/// #12, #109
#[test]
fn a_service_moves_and_its_clients_need_not_know() {
    let [old, new] = ["old", "new"].map(Echo::named);
    let gateway = Gateway::start(&to(&old, 1));
    let mut connection = gateway.connect();
    assert_eq!(connection.get("/").json()["source"], "old");
    assert!(gateway.reload(&to(&new, 2)));
    let answer = connection.get("/");
    assert_eq!(answer.json()["source"], "new");
    assert_eq!(answer.header("x-version"), Some("2"));
    assert_eq!(gateway.get("/").json()["source"], "new");
}

/// #13
#[test]
fn a_new_route_works_and_a_removed_one_is_gone() {
    let [one, two] = ["one", "two"].map(Echo::named);
    let first = format!(
        "
        upstreams:
          one: {{ endpoints: [{one}] }}
        routes:
          - match: {{ path: /one }}
            upstream: one
        "
    );
    let both = format!(
        "
        upstreams:
          one: {{ endpoints: [{one}] }}
          two: {{ endpoints: [{two}] }}
        routes:
          - match: {{ path: /one }}
            upstream: one
          - match: {{ path: /two }}
            upstream: two
        "
    );
    let gateway = Gateway::start(&first);
    let statuses = || [gateway.get("/one").status, gateway.get("/two").status];
    assert_eq!(statuses(), [200, 404]);
    assert!(gateway.reload(&both));
    assert_eq!(statuses(), [200, 200]);
    assert!(gateway.reload(&first));
    assert_eq!(statuses(), [200, 404]);
    assert_eq!(two.stats().requests, 1);
}

/// #108
#[test]
fn a_file_that_is_dropped_into_the_folder_of_includes_is_in_force_after_a_reload() {
    let echo = Echo::start();
    let gateway = Gateway::start(
        "
        include: [sites-enabled/*.yaml]
        routes:
          - match: { path: /main }
            respond: { text: main }
        ",
    );
    let site = format!(
        "upstreams: {{ shop: {{ endpoints: [{echo}] }} }}\nroutes: [{{ match: {{ path: /shop }}, upstream: shop }}]\n"
    );
    gateway.write("sites-enabled/shop.yaml", site);
    assert_eq!(gateway.get("/shop").status, 404, "not before the reload");
    assert!(gateway.reload_files());
    assert_eq!(gateway.get("/shop").status, 200);
    assert_eq!(gateway.get("/main").text(), "main");
    fs::remove_file(gateway.folder().join("sites-enabled/shop.yaml")).unwrap();
    assert!(gateway.reload_files());
    assert_eq!(gateway.get("/shop").status, 404);
}

#[test]
fn a_wrong_configuration_is_refused_with_its_places_and_the_old_one_stays() {
    let gateway = Gateway::start("routes: [{ respond: { text: old } }]");
    for (wrong, told) in [
        (
            "routes: [{ respond: { text: new }, upstraem: x }]",
            "upstream",
        ),
        ("routes: [{ upstream: nowhere }]", "nowhere"),
        ("routes: [", "edgeway.yaml:"),
        (
            "routes: [{ respond: { text: new } }]\nthreads: many",
            "threads",
        ),
    ] {
        assert!(!gateway.reload(wrong), "{wrong}");
        // The report is more than one line, and they come one by one.
        eventually(PATIENCE, || {
            let log = gateway.log();
            let (_, report) = log.rsplit_once("configuration kept").unwrap();
            report.contains("edgeway.yaml:") && report.contains(told)
        });
        assert_eq!(gateway.get("/").text(), "old", "{wrong}");
    }
    fs::remove_file(gateway.folder().join("edgeway.yaml")).unwrap();
    assert!(!gateway.reload_files());
    assert_eq!(gateway.get("/").text(), "old");
    assert!(gateway.reload("routes: [{ respond: { text: new } }]"));
    assert_eq!(gateway.get("/").text(), "new");
}

/// #109
#[test]
fn a_request_ends_with_the_configuration_that_it_began_with() {
    let [old, new] = ["old", "new"].map(Echo::named);
    let gateway = Gateway::start(&to(&old, 1));
    thread::scope(|scope| {
        let slow = scope.spawn(|| gateway.get("/?delay=1s"));
        eventually(PATIENCE, || old.stats().requests == 1);
        assert!(gateway.reload(&to(&new, 2)));
        assert_eq!(gateway.get("/").header("x-version"), Some("2"));
        assert!(!slow.is_finished());
        let answer = slow.join().unwrap();
        assert_eq!(answer.json()["source"], "old");
        assert_eq!(answer.header("x-version"), Some("1"));
    });
}

/// #110
#[test]
fn no_request_fails_while_the_configuration_is_replaced_again_and_again() {
    let [a, b] = ["a", "b"].map(Echo::named);
    let gateway = Gateway::start(&to(&a, 0));
    let outcomes = load_during(
        gateway.address(),
        8,
        |connection| connection.request("GET", "/"),
        || {
            for version in 1..=20 {
                let endpoint = if version % 2 == 0 { &a } else { &b };
                let before = endpoint.stats().requests;
                assert!(gateway.reload(&to(endpoint, version)));
                eventually(PATIENCE, || endpoint.stats().requests > before + 20);
            }
        },
    );
    outcomes.expect_all(200);
    assert_eq!(
        outcomes.count(|answer| !answer.reusable),
        0,
        "a connection was closed"
    );
}

/// A reload must not send every client into an endpoint that is known to be down.
#[test]
fn an_endpoint_that_is_left_out_stays_left_out() {
    let (bad, good) = (Upstream::answers(""), Echo::start());
    let with = |route: &str| {
        format!(
            "
            upstreams: {{ pool: {{ endpoints: [{bad}, {good}], fail_timeout: 1h }} }}
            routes:
              - match: {{ path: /{route} }}
                upstream: pool
            "
        )
    };
    let gateway = Gateway::start(&with("one"));
    assert_eq!(gateway.get("/one").status, 200);
    gateway.wait_for_log("endpoint is left out");
    for _ in 0..3 {
        assert!(gateway.reload(&with("two")));
        for _ in 0..4 {
            assert_eq!(gateway.get("/two").status, 200);
        }
    }
    assert_eq!(bad.connections(), 1);
    assert_eq!(gateway.log().matches("endpoint is left out").count(), 1);
}

#[test]
fn what_a_reload_can_not_change_is_told() {
    let listeners = |bind: &str| format!("listeners: {{ http: {{ bind: \"{bind}\" }} }}\n");
    let rest = "routes: [{ respond: { text: x } }]\n";
    let before = format!("{}{rest}", listeners("127.0.0.1:0"));
    let gateway = Gateway::start(&before);
    assert!(gateway.reload(&before));
    assert!(!gateway.log().contains("next start"), "{}", gateway.log());
    let after = format!(
        "{}threads: 3\nupstream_keepalive: 7\n{rest}",
        listeners("127.0.0.1:0")
    );
    assert!(gateway.reload(&after));
    for key in ["threads", "upstream_keepalive"] {
        assert!(
            gateway.log().contains(&format!(
                "`{key}` has changed: it takes effect at the next start"
            )),
            "{key}"
        );
    }
    let told = || gateway.log().matches("next start").count();
    let before_revert = told();
    assert!(gateway.reload(&before));
    assert_eq!(
        told(),
        before_revert,
        "what is in force again has not changed"
    );
    assert_eq!(gateway.get("/").status, 200);
}

#[test]
fn a_reload_does_not_begin_the_round_of_endpoints_anew() {
    let [a, b] = ["a", "b"].map(Echo::named);
    let pool = format!(
        "upstreams: {{ pool: {{ endpoints: [{a}, {b}] }} }}\nroutes: [{{ upstream: pool }}]"
    );
    let gateway = Gateway::start(&pool);
    for _ in 0..6 {
        assert_eq!(gateway.get("/").status, 200);
        assert!(gateway.reload(&pool));
    }
    assert_eq!((a.stats().requests, b.stats().requests), (3, 3));
}

#[test]
fn memory_does_not_grow_with_the_number_of_reloads() {
    let echo = Echo::start();
    let routes = |version: u32| {
        let route =
            |number| format!("  - match: {{ path: /{version}/{number} }}\n    upstream: app\n");
        let routes: String = (0..100).map(route).collect();
        format!("upstreams: {{ app: {{ endpoints: [{echo}] }} }}\nroutes:\n{routes}")
    };
    let gateway = Gateway::start(&routes(0));
    let reload = |versions: std::ops::Range<u32>| {
        for version in versions {
            assert!(gateway.reload(&routes(version)));
            assert_eq!(gateway.get(&format!("/{version}/99")).status, 200);
        }
        resident_kib(gateway.pid())
    };
    let warm = reload(1..40);
    let after = reload(40..240);
    assert!(
        after < warm + 12 * 1024,
        "{warm} KiB, after 200 more reloads {after} KiB"
    );
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
