//! Which upstream a route's requests go to by weight, and who gets copies of them.

use std::{
    collections::HashMap,
    thread,
    time::{Duration, Instant},
};

use edgeway_tests::{
    Authority, Break, Connection, Dns, Endpoint, Gateway, PATIENCE, Reaction, Received, Request,
    Upstream, eventually, load,
};

/// A gateway with the upstreams `stable` and `canary`, and one route that shares its requests out.
fn split(stable: &Endpoint, canary: &Endpoint, split: &str) -> Gateway {
    Gateway::start(&splitting(stable, canary, split))
}

fn splitting(stable: &Endpoint, canary: &Endpoint, split: &str) -> String {
    format!(
        "
        upstreams:
          stable: {{ endpoints: [{stable}] }}
          canary: {{ endpoints: [{canary}] }}
        routes:
          - split: {split}
        "
    )
}

/// Both upstreams with these weights.
fn weights(stable: u16, canary: u16) -> String {
    format!("[{{ upstream: stable, weight: {stable} }}, {{ upstream: canary, weight: {canary} }}]")
}

fn pair() -> (Endpoint, Endpoint) {
    (Endpoint::start("stable"), Endpoint::start("canary"))
}

fn get(connection: &mut Connection) -> Request<'_> {
    connection.request("GET", "/")
}

/// Who has answered.
#[track_caller]
fn who(request: Request<'_>) -> String {
    let answer = request.send();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-endpoint").unwrap().to_owned()
}

// ---- split --------------------------------------------------------------------------------------

#[test]
fn each_upstream_gets_the_share_of_its_weight() {
    for (weight, expected) in [(5, 50), (95, 950)] {
        let (stable, canary) = pair();
        let gateway = split(&stable, &canary, &weights(100 - weight, weight));
        load(gateway.address(), 4, 1000, get).expect_all(200);
        assert_eq!(stable.requests() + canary.requests(), 1000);
        // Chance strays this far once in more than a million runs.
        let share = f64::from(weight) / 100.0;
        let far = 5.0 * (1000.0 * share * (1.0 - share)).sqrt();
        let off = canary.requests().abs_diff(expected) as f64;
        assert!(off <= far, "{weight} %: {}", canary.requests());
    }
}

#[test]
fn a_weight_of_zero_gets_nothing_with_and_without_a_value_to_go_by() {
    let (stable, canary) = pair();
    for by in [None, Some("{header.x-user}")] {
        let to = weights(1, 0);
        let gateway = match by {
            None => split(&stable, &canary, &to),
            Some(by) => split(&stable, &canary, &format!("{{ by: '{by}', to: {to} }}")),
        };
        let mut connection = gateway.connect();
        for user in 0..200 {
            who(connection.request("GET", "/").header("X-User", user));
        }
    }
    assert_eq!((stable.requests(), canary.requests()), (400, 0));
}

/// Who serves each of so many users.
fn placed(gateway: &Gateway, users: usize) -> HashMap<usize, String> {
    let mut connection = gateway.connect();
    let mut ask = |user: usize| {
        let request = connection.request("GET", "/");
        who(request.header("Cookie", format!("a=b; user=u{user}; c=d")))
    };
    (0..users).map(|user| (user, ask(user))).collect()
}

#[test]
fn a_value_stays_with_its_upstream_and_moves_only_when_weights_say_so() {
    let (stable, canary) = pair();
    let with = |to: &str| {
        let by = format!("{{ by: '{{cookie.user}}', to: {to} }}");
        splitting(&stable, &canary, &by)
    };
    let gateway = Gateway::start(&with(&weights(80, 20)));
    let before = placed(&gateway, 400);
    assert_eq!(placed(&gateway, 400), before);
    let on_canary =
        |placed: &HashMap<usize, String>| placed.values().filter(|name| *name == "canary").count();
    assert!(
        (40..=120).contains(&on_canary(&before)),
        "{}",
        on_canary(&before)
    );

    // Neither another order nor the same proportion moves anybody.
    let turned = "[{ upstream: canary, weight: 1 }, { upstream: stable, weight: 4 }]".to_owned();
    assert!(gateway.reload(&with(&turned)));
    assert_eq!(placed(&gateway, 400), before);

    assert!(gateway.reload(&with(&weights(60, 40))));
    let after = placed(&gateway, 400);
    assert!(on_canary(&after) > on_canary(&before));
    for (user, name) in &before {
        let moved = &after[user] != name;
        assert!(!moved || name == "stable", "{user} has left the canary");
    }
    assert!(gateway.reload(&with(&weights(80, 20))));
    assert_eq!(placed(&gateway, 400), before, "all are back");
}

#[test]
fn requests_without_the_value_go_by_chance() {
    let (stable, canary) = pair();
    let to = weights(50, 50);
    let gateway = split(
        &stable,
        &canary,
        &format!("{{ by: '{{cookie.user}}', to: {to} }}"),
    );
    let mut connection = gateway.connect();
    for _ in 0..60 {
        who(connection.request("GET", "/"));
    }
    assert!(stable.requests() > 5 && canary.requests() > 5);
}

#[test]
fn an_upstream_that_is_down_is_not_replaced_by_another() {
    let (stable, mut canary) = pair();
    canary.down();
    let gateway = split(&stable, &canary, &weights(1, 9));
    let statuses: Vec<_> = (0..60).map(|_| gateway.get("/").status).collect();
    assert!(
        statuses.contains(&200) && statuses.contains(&502),
        "{statuses:?}"
    );
}

#[test]
fn a_canary_may_be_chosen_by_a_header_or_a_cookie() {
    let (stable, canary) = pair();
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          stable: {{ endpoints: [{stable}] }}
          canary: {{ endpoints: [{canary}] }}
        routes:
          - {{ match: {{ path: /, headers: {{ X-Canary: always }} }}, upstream: canary }}
          - {{ match: {{ path: /, cookies: {{ beta: {{ present: true }} }} }}, upstream: canary }}
          - match: {{ path: / }}
            split: {}
        ",
        weights(1, 0)
    ));
    let ask = |name: &str, value: &str| who(gateway.request("GET", "/x").header(name, value));
    assert_eq!(ask("X-Canary", "always"), "canary");
    assert_eq!(ask("X-Canary", "never"), "stable");
    assert_eq!(ask("Cookie", "a=b; beta=1"), "canary");
    assert_eq!(ask("Cookie", "alphabeta=1"), "stable");
}

// ---- mirror: what arrives -------------------------------------------------------------------------

/// A gateway that copies what it sends to `main` to `shadow`.
fn mirrored(main: &str, shadow: &str, options: &str) -> Gateway {
    Gateway::start(&mirroring(main, shadow, options))
}

fn mirroring(main: &str, shadow: &str, options: &str) -> String {
    format!(
        "
        upstreams:
          main: {{ {main} }}
          shadow: {{ {shadow} }}
        routes:
          - upstream: main
            mirror: {{ upstream: shadow{options} }}
        "
    )
}

fn at(endpoint: impl std::fmt::Display) -> String {
    format!("endpoints: ['{endpoint}'], fail_timeout: 1h, max_fails: 0")
}

fn mirror_pair() -> (Endpoint, Endpoint) {
    (Endpoint::start("main"), Endpoint::start("shadow"))
}

/// The lines of a request but for those that frame its body, in any order.
fn lines(request: &Received) -> Vec<(String, String)> {
    let framing = ["content-length", "transfer-encoding"];
    let lines = request.headers.iter();
    let mut lines: Vec<_> = lines
        .filter(|(name, _)| !framing.contains(&&**name))
        .cloned()
        .collect();
    lines.sort();
    lines
}

/// A copy comes after its request; no more come after a moment.
#[track_caller]
fn expect_copies(shadow: &Endpoint, copies: usize) {
    eventually(PATIENCE, || shadow.requests() >= copies);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(shadow.requests(), copies);
}

#[test]
fn a_copy_is_what_the_endpoint_is_sent() {
    let (main, shadow) = mirror_pair();
    let gateway = Gateway::start(&format!(
        "
        filters:
          - request_id
          - headers: {{ request: {{ set: {{ X-Auth-User: ann }} }} }}
        upstreams:
          main: {{ endpoints: [{main}], host: api.internal }}
          shadow: {{ endpoints: [{shadow}], host: api.internal }}
        routes:
          - match: {{ path: /shop/ }}
            strip_prefix: /shop
            upstream: main
            mirror: {{ upstream: shadow }}
        "
    ));
    let requests = [
        gateway.request("GET", "/shop/a?b=c"),
        gateway
            .request("POST", "/shop/orders")
            .header("X-Auth-User", "eve")
            .header("Cookie", "a=1")
            .header("X-Twice", "one")
            .header("X-Twice", "two")
            .body("an order"),
        gateway
            .request("PUT", "/shop/x")
            .chunks(["in ", "several ", "chunks"]),
        gateway.request("DELETE", "/shop/x").body(""),
        gateway.request("HEAD", "/shop/"),
    ];
    for request in requests {
        assert_eq!(request.send().header("x-endpoint"), Some("main"));
    }
    expect_copies(&shadow, 5);
    let mut copies = shadow.received();
    for original in main.received() {
        let same = |copy: &Received| {
            copy.method == original.method
                && copy.target == original.target
                && copy.host == original.host
                && lines(copy) == lines(&original)
                && copy.body == original.body
        };
        let found = copies.iter().position(same);
        let found = found.unwrap_or_else(|| panic!("no copy of {original:?} in {copies:?}"));
        let copy = copies.remove(found);
        assert_eq!(copy.header_all("x-auth-user"), ["ann"]);
        assert_eq!(copy.host, "api.internal");
        assert_eq!(copy.header_all("x-request-id").len(), 1);
    }
}

#[test]
fn a_copy_names_the_host_as_its_own_upstream_wants_it() {
    let (main, shadow) = (Endpoint::start("main"), Endpoint::start("shadow"));
    let own = shadow.address().to_string();
    for (at_main, at_shadow, expected) in [
        ("endpoint", "keep", "shop.test"),
        ("keep", "shadow.test", "shadow.test"),
        ("keep", "endpoint", own.as_str()),
    ] {
        let gateway = Gateway::start(&format!(
            "
            upstreams:
              main: {{ endpoints: [{main}], host: {at_main} }}
              shadow: {{ endpoints: [{shadow}], host: {at_shadow} }}
            routes:
              - upstream: main
                mirror: {{ upstream: shadow }}
            "
        ));
        let before = shadow.requests();
        let answer = gateway.request("GET", "/").host("shop.test").send();
        assert_eq!(answer.status, 200);
        eventually(PATIENCE, || shadow.requests() > before);
        let copy = shadow.received().pop().unwrap();
        assert_eq!(copy.host, expected, "{at_main}, {at_shadow}");
    }
}

#[test]
fn as_many_requests_are_copied_as_the_share_says() {
    for (share, few, many) in [("0%", 0, 0), ("50%", 140, 260), ("100%", 400, 400)] {
        let (main, shadow) = mirror_pair();
        let options = format!(", share: {share}, max_requests: 60000");
        let gateway = mirrored(&at(&main), &at(&shadow), &options);
        load(gateway.address(), 2, 400, get).expect_all(200);
        if few > 0 {
            eventually(PATIENCE, || shadow.requests() >= few);
        }
        thread::sleep(Duration::from_millis(200));
        let copies = shadow.requests();
        assert!((few..=many).contains(&copies), "{share}: {copies}");
    }
}

#[test]
fn a_body_that_is_too_large_is_not_copied() {
    let (main, shadow) = mirror_pair();
    let gateway = mirrored(&at(&main), &at(&shadow), ", max_body: 1KiB");
    for (size, copied) in [(1024, true), (1025, false), (300_000, false)] {
        let body = vec![b'x'; size];
        for request in [
            gateway.request("POST", "/").body(body.clone()),
            gateway.request("POST", "/").chunks(body.chunks(1000)),
        ] {
            let before = shadow.requests();
            assert_eq!(request.send().json()["body"].as_str().unwrap().len(), size);
            expect_copies(&shadow, before + usize::from(copied));
        }
    }
    assert!(shadow.received().iter().all(|copy| copy.body.len() == 1024));
    // None at all.
    let none = mirrored(&at(&main), &at(&shadow), ", max_body: 0");
    none.request("POST", "/").body("x").send();
    none.get("/");
    expect_copies(&shadow, 3);
}

#[test]
fn copies_go_over_every_protocol() {
    let authority = Authority::new();
    let secure = Endpoint::https("shadow", &authority.certificate(&["127.0.0.1"]));
    let clear = Endpoint::h2c("shadow");
    let main = Endpoint::start("main");
    let tls = format!("tls: {{ ca: {} }}", authority.ca().display());
    for (shadow, how, version) in [
        (&clear, "protocol: http2".to_owned(), "HTTP/2.0"),
        (&secure, format!("protocol: auto, {tls}"), "HTTP/2.0"),
        (&secure, tls, "HTTP/1.1"),
    ] {
        let before = shadow.requests();
        let gateway = mirrored(&at(&main), &format!("{how}, {}", at(shadow)), "");
        let post = gateway
            .request("POST", "/a")
            .host("shop.test")
            .body("order");
        assert_eq!(post.send().status, 200);
        assert_eq!(
            gateway.request("GET", "/b").host("shop.test").send().status,
            200
        );
        // A client of HTTP/1.0 that names no host is not copied, and the mirror not blamed for it.
        let mut old = gateway.connect();
        old.send("GET / HTTP/1.0\r\n\r\n");
        assert!(old.answer().status < 500);
        expect_copies(shadow, before + 2);
        let copies = shadow.received();
        let post = copies.iter().rev().find(|copy| copy.path == "/a").unwrap();
        assert_eq!((&*post.host, &*post.body), ("shop.test", &b"order"[..]));
        assert_eq!(post.version, version);
    }
    // And from endpoints of HTTP/2 to a mirror of HTTP/1.1.
    let (main, shadow) = (Endpoint::h2c("main"), Endpoint::start("shadow"));
    let gateway = mirrored(&format!("protocol: http2, {}", at(&main)), &at(&shadow), "");
    gateway
        .request("POST", "/a")
        .host("shop.test")
        .chunks(["ord", "er"])
        .send();
    gateway.request("GET", "/b").host("shop.test").send();
    expect_copies(&shadow, 2);
    for copy in shadow.received() {
        assert_eq!((&*copy.host, &*copy.version), ("shop.test", "HTTP/1.1"));
        assert_eq!(copy.body.len(), if copy.path == "/a" { 5 } else { 0 });
    }
}

#[test]
fn what_never_reaches_an_endpoint_is_not_copied() {
    let (main, shadow) = mirror_pair();
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          main: {{ endpoints: [{main}] }}
          shadow: {{ endpoints: [{shadow}] }}
        routes:
          - match: {{ path: /closed/ }}
            filters: [{{ jwt: {{ algorithms: [HS256], secret: a-secret-of-enough-bytes-for-everybody }} }}]
            upstream: main
            mirror: {{ upstream: shadow }}
          - match: {{ path: /open/ }}
            upstream: main
            mirror: {{ upstream: shadow }}
        "
    ));
    assert_eq!(gateway.get("/closed/").status, 401);
    assert_eq!(gateway.get("/elsewhere").status, 404);
    // What is said over an upgraded connection can't be copied.
    let upgrade = gateway
        .request("GET", "/open/socket")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(upgrade.send().status, 200);
    assert_eq!(gateway.get("/open/x").status, 200);
    expect_copies(&shadow, 1);
    assert_eq!(shadow.received()[0].path, "/open/x");
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_request_leaves_no_copy() {
    let (main, shadow) = mirror_pair();
    let gateway = mirrored(&at(&main), &at(&shadow), "");
    for head in [
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nno size\r\n",
    ] {
        let connections = main.connections();
        let mut connection = gateway.connect();
        connection.send(head);
        eventually(PATIENCE, || main.connections() > connections);
        drop(connection);
        eventually(PATIENCE, || main.open_connections() == 0);
    }
    gateway.get("/whole");
    expect_copies(&shadow, 1);
    assert_eq!(shadow.received()[0].path, "/whole");
}

#[test]
fn a_client_that_does_not_wait_for_its_answer_has_been_copied() {
    let (main, shadow) = mirror_pair();
    main.slow(Duration::from_secs(5));
    let gateway = mirrored(&at(&main), &at(&shadow), "");
    let mut connection = gateway.connect();
    connection.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody");
    eventually(PATIENCE, || main.requests() == 1);
    drop(connection);
    expect_copies(&shadow, 1);
}

// ---- mirror: retries --------------------------------------------------------------------------------

#[test]
fn a_request_that_is_tried_again_is_copied_once() {
    let shadow = Endpoint::start("shadow");
    let (bad, good) = (Endpoint::start("bad"), Endpoint::start("good"));
    bad.breaks(Break::BeforeAnswer);
    let refusing = Upstream::refusing();
    for (first, tried) in [
        (bad.to_string(), true),
        // Nothing was sent to it, and the copy must not be forgotten.
        (refusing.to_string(), false),
    ] {
        let before = (bad.requests(), shadow.requests());
        let gateway = mirrored(
            &format!("endpoints: ['{first}', '{good}'], max_fails: 0"),
            &at(&shadow),
            "",
        );
        for _ in 0..5 {
            assert_eq!(gateway.get("/").status, 200);
            let put = gateway.request("PUT", "/").body("once");
            assert_eq!(put.send().status, 200);
        }
        expect_copies(&shadow, before.1 + 10);
        assert_eq!(bad.requests() > before.0, tried);
    }
    for copy in shadow.received() {
        assert_eq!(
            &*copy.body,
            if copy.method == "PUT" {
                &b"once"[..]
            } else {
                b""
            }
        );
    }
}

/// The connection was kept, and turns out to be closed when the next request is on its way.
#[test]
fn a_request_that_meets_a_stale_connection_is_copied_once() {
    let fickle = Upstream::raw(|mut caller| {
        caller.request();
        caller.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        caller.request();
    });
    let shadow = Endpoint::start("shadow");
    let gateway = mirrored(&at(&fickle), &at(&shadow), "");
    let mut requests = 0;
    // Some of them come over a connection of before.
    eventually(PATIENCE, || {
        requests += 1;
        assert_eq!(gateway.get("/").status, 200);
        fickle.heads().len() >= requests + 3
    });
    expect_copies(&shadow, requests);
}

// ---- mirror: the client does not notice ---------------------------------------------------------------

#[test]
fn whatever_the_mirror_does_the_client_does_not_notice() {
    let main = Endpoint::start("main");
    let (shadow, mut down) = (Endpoint::start("shadow"), Endpoint::start("down"));
    down.down();
    let huge = Endpoint::setup("huge")
        .answers(|_| {
            Reaction::status(200)
                .header("Set-Cookie", "shadow=1")
                .header("Connection", "close")
                .body(vec![b'x'; 32 << 20])
        })
        .start();
    let silent = Upstream::silent();
    let nowhere = Upstream::unreachable();
    let garbage = Upstream::answers("SSH-2.0\r\n\r\n");
    let slow = Endpoint::start("slow");
    slow.slow(Duration::from_secs(3));
    let failing = Endpoint::start("failing");
    failing.status(500);
    let cut = Endpoint::start("cut");
    cut.breaks(Break::AfterHead);
    let gone = "surely-not.invalid:80".to_owned();
    for mirror in [
        shadow.to_string(),
        down.to_string(),
        huge.to_string(),
        silent.to_string(),
        nowhere.to_string(),
        garbage.to_string(),
        slow.to_string(),
        failing.to_string(),
        cut.to_string(),
        gone,
    ] {
        let gateway = mirrored(&at(&main), &at(&mirror), ", max_requests: 5");
        let mut connection = gateway.connect();
        let start = Instant::now();
        for number in 0..20 {
            let target = format!("/{number}");
            let request = connection.request("POST", &target).body("order");
            let answer = request.send();
            assert_eq!(answer.status, 200, "{mirror}");
            assert_eq!(answer.header("x-endpoint"), Some("main"), "{mirror}");
            assert_eq!(answer.header("set-cookie"), None, "{mirror}");
            assert_eq!(answer.json()["target"], target, "{mirror}");
            assert!(answer.reusable, "{mirror}");
        }
        let taken = start.elapsed();
        assert!(taken < Duration::from_secs(2), "{mirror}: {taken:?}");
    }
}

#[test]
fn copies_go_by_the_values_that_their_upstream_goes_by() {
    let (main, one) = mirror_pair();
    let two = Endpoint::start("two");
    for by in [
        "balance: { hash: '{header.x-user}' }",
        "sticky: { hash: '{header.x-user}' }",
    ] {
        let shadow = format!("endpoints: [{one}, {two}], {by}");
        let gateway = mirrored(&at(&main), &shadow, "");
        let homes: Vec<_> = (0..20)
            .map(|user| {
                let before = (one.requests(), two.requests());
                for _ in 0..4 {
                    gateway.request("GET", "/").header("X-User", user).send();
                }
                let came = || (one.requests() - before.0, two.requests() - before.1);
                eventually(PATIENCE, || came().0 + came().1 == 4);
                came()
            })
            .collect();
        assert!(
            homes.contains(&(4, 0)) && homes.contains(&(0, 4)),
            "{by}: {homes:?}"
        );
        assert!(homes.iter().all(|home| home.0 % 4 == 0), "{by}: {homes:?}");
    }
}

#[test]
fn the_breaker_of_a_mirror_ends_its_copies() {
    let (main, shadow) = mirror_pair();
    shadow.status(500);
    let breaker = "breaker: { min_requests: 3, open_for: 90s }";
    let gateway = mirrored(&at(&main), &format!("{}, {breaker}", at(&shadow)), "");
    for _ in 0..3 {
        gateway.get("/");
    }
    let line = gateway.wait_for_log("breaker has opened");
    assert!(line.contains("upstream=shadow"), "{line}");
    for _ in 0..5 {
        assert_eq!(gateway.get("/").status, 200);
    }
    expect_copies(&shadow, 3);
}

#[test]
fn a_copy_that_is_lost_is_no_trial_of_an_endpoint_that_was_left_out() {
    let (main, shadow) = mirror_pair();
    shadow.breaks_next(1, Break::BeforeAnswer);
    let out = "fail_timeout: 500ms, ejection: { last_resort: false }";
    let gateway = mirrored(
        &at(&main),
        &format!("endpoints: [{shadow}], {out}"),
        ", max_body: 4B",
    );
    gateway.request("POST", "/").body("abc").send();
    gateway.wait_for_log("endpoint is left out");
    thread::sleep(Duration::from_millis(700));
    gateway.request("POST", "/").body("abcde").send();
    gateway.get("/");
    expect_copies(&shadow, 2);
}

/// Nobody listens at the first address.
#[test]
fn copies_leave_an_address_of_a_name_that_nobody_answers_at() {
    let main = Endpoint::start("main");
    let shadow = Endpoint::setup("shadow").at("127.0.0.2:0").start();
    let dns = Dns::start();
    dns.set_a("shadow.test", &["127.0.0.1", "127.0.0.2"], 60);
    let name = format!("shadow.test:{}", shadow.address().port());
    let gateway = Gateway::start(&format!(
        "resolver: {{ nameservers: [{dns}] }}\n{}",
        mirroring(&at(&main), &at(name), "").replace("\n        ", "\n")
    ));
    eventually(PATIENCE, || {
        gateway.get("/");
        shadow.requests() > 0
    });
}

/// A mirror that is out has no part in what becomes of the route.
#[test]
fn a_mirror_that_fails_does_not_take_the_upstream_of_the_route_with_it() {
    let (main, shadow) = mirror_pair();
    shadow.breaks(Break::BeforeAnswer);
    let gateway = mirrored(
        &format!("endpoints: [{main}], fail_timeout: 1h"),
        &format!("endpoints: [{shadow}], fail_timeout: 1h, ejection: {{ last_resort: false }}"),
        "",
    );
    gateway.get("/");
    let line = gateway.wait_for_log("endpoint is left out");
    assert!(line.contains("upstream=shadow"), "{line}");
    let copies = shadow.requests();
    for _ in 0..5 {
        assert_eq!(gateway.get("/").status, 200);
    }
    expect_copies(&shadow, copies);
}

#[test]
fn a_copy_is_given_up_after_its_time() {
    let (main, shadow) = mirror_pair();
    shadow.breaks(Break::Hang);
    let gateway = mirrored(&at(&main), &at(&shadow), ", timeout: 400ms");
    gateway.get("/");
    eventually(PATIENCE, || shadow.in_flight() == 1);
    let start = Instant::now();
    eventually(PATIENCE, || shadow.open_connections() == 0);
    assert!(start.elapsed() < Duration::from_secs(4));
    assert_eq!(shadow.requests(), 1, "a copy is not tried again");
}

#[test]
fn no_more_copies_are_under_way_than_permitted() {
    let (main, shadow) = mirror_pair();
    shadow.breaks(Break::Hang);
    let gateway = mirrored(&at(&main), &at(&shadow), ", max_requests: 3");
    for _ in 0..12 {
        assert_eq!(gateway.get("/").status, 200);
    }
    expect_copies(&shadow, 3);
    assert_eq!(shadow.most_in_flight(), 3);
    // The places are free again.
    shadow.close_connections();
    shadow.behave();
    eventually(PATIENCE, || {
        gateway.get("/free");
        shadow.requests_to("/free") > 0
    });
}

#[test]
fn a_reload_puts_mirrors_in_and_takes_them_away() {
    let (main, shadow) = mirror_pair();
    let with = mirroring(&at(&main), &at(&shadow), "");
    let without = format!(
        "
        upstreams: {{ main: {{ {} }} }}
        routes: [{{ upstream: main }}]
        ",
        at(&main)
    );
    let gateway = Gateway::start(&without);
    gateway.get("/");
    assert!(gateway.reload(&with));
    gateway.get("/");
    expect_copies(&shadow, 1);
    assert!(gateway.reload(&without));
    gateway.get("/");
    expect_copies(&shadow, 1);
    assert_eq!(main.requests(), 3);
}

#[test]
fn a_split_may_have_a_mirror() {
    let (stable, canary) = pair();
    let shadow = Endpoint::start("shadow");
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          stable: {{ endpoints: [{stable}] }}
          canary: {{ endpoints: [{canary}] }}
          shadow: {{ endpoints: [{shadow}] }}
        routes:
          - split: {}
            mirror: {{ upstream: shadow }}
        ",
        weights(1, 1)
    ));
    for _ in 0..40 {
        assert_eq!(gateway.get("/").status, 200);
    }
    expect_copies(&shadow, 40);
    assert_eq!(stable.requests() + canary.requests(), 40);
}

// ---- what is refused, what is shown -------------------------------------------------------------------

/// A route, the place of its problem, and what is said of it.
const WRONG: &[(&str, &str, &str)] = &[
    (
        "split: [{ upstream: stabel, weight: 1 }, { upstream: canary, weight: 1 }]",
        "5:25",
        "did you mean `stable`?",
    ),
    (
        "split: [{ upstream: stable, weight: 1 }]",
        "5:12",
        "one alone is written `upstream`",
    ),
    (
        "split: [{ upstream: stable, weight: 1 }, { upstream: stable, weight: 1 }]",
        "5:12",
        "`stable` is written twice",
    ),
    (
        "split: [{ upstream: stable, weight: 0 }, { upstream: canary, weight: 0 }]",
        "5:12",
        "all weights are 0",
    ),
    (
        "split: { by: user, to: [{ upstream: stable, weight: 1 }, { upstream: canary, weight: 1 }] }",
        "5:18",
        "the same for every request",
    ),
    (
        "{ upstream: stable, split: [{ upstream: stable, weight: 1 }, { upstream: canary, weight: 1 }] }",
        "5:5",
        "more than one target",
    ),
    (
        "{ upstream: stable, mirror: { upstream: canery } }",
        "5:45",
        "did you mean `canary`?",
    ),
    ("{ upstream: stable, mirror: canary }", "5:33", "expected"),
    (
        "{ respond: { text: hi }, mirror: { upstream: canary } }",
        "5:38",
        "`mirror` has no effect on a route that leads to no upstream",
    ),
    (
        "{ respond: { text: hi }, timeout: 1s }",
        "5:39",
        "`timeout` has no effect on a route that leads to no upstream",
    ),
    (
        "{ redirect: { path: /x }, retry_unsafe: true }",
        "5:45",
        "`retry_unsafe` has no effect on a route that leads to no upstream",
    ),
];

#[test]
fn what_can_not_be_meant_is_refused_with_its_place() {
    for (route, place, says) in WRONG {
        let said = Gateway::refused(&format!(
            "upstreams:\n  stable: {{ endpoints: ['a:1'] }}\n  canary: {{ endpoints: ['b:1'] }}\n\
             routes:\n  - {route}\n"
        ));
        assert!(said.contains(says), "{route}: `{says}` is not in\n{said}");
        assert!(
            said.contains(&format!("edgeway.yaml:{place}\n")),
            "{route}: {place} is not in\n{said}"
        );
    }
}

#[test]
fn the_table_of_routes_shows_where_requests_and_copies_go() {
    let shown = Gateway::setup(
        "
        upstreams:
          stable: { endpoints: ['a:1'] }
          canary: { endpoints: ['b:1'] }
          shadow: { endpoints: ['c:1'] }
        routes:
          - name: all
            split: [{ upstream: stable, weight: 95 }, { upstream: canary, weight: 5 }]
            mirror: { upstream: shadow, share: 10% }
          - name: users
            match: { path: /users }
            split: { by: '{cookie.user}', to: [{ upstream: stable, weight: 1 }, { upstream: canary, weight: 0 }] }
          - name: copied
            match: { path: /copied }
            upstream: stable
            mirror: { upstream: shadow }
        ",
    )
    .run("routes");
    assert_eq!(shown.code, Some(0), "{}", shown.log);
    for text in [
        "split stable 95, canary 5; 10% copied to shadow",
        "split by a value: stable 1, canary 0",
        "upstream stable; copied to shadow",
    ] {
        assert!(shown.output.contains(text), "{text}:\n{}", shown.output);
    }
}
