//! Every key of a cache does what it says, and a few lines are enough to have one.

use std::{sync::Mutex, thread};

use edgeway_tests::{
    Answer, Endpoint, Gateway, PATIENCE, Reaction, Received, Request, eventually, load_during,
};
use serde_json::{Value, json};

use super::{
    cache_surge::{before, ms, told},
    jwt::tokens::{SECRET, token},
};

// ---- what is stored, and for how long ------------------------------------------------------------

#[test]
fn a_few_lines_make_a_cache_of_an_application_that_knows_of_none() {
    // #97, #103, #106
    let site = pages();
    let gateway = Gateway::start(&format!(
        "upstreams:\n  app: {{ endpoints: [{site}] }}\n\
         routes:\n  - upstream: app\n    cache: {{ ttl: 1m }}\n"
    ));
    let first = gateway.get("/");
    let second = gateway.get("/");
    assert_eq!(
        (told(&first), second.text()),
        ("edgeway; fwd=uri-miss; stored", "page 1")
    );
    assert_eq!(told(&second), "edgeway; hit; ttl=59");
    assert_eq!(site.requests(), 1);
}

#[test]
fn a_ttl_is_for_status_200_alone() {
    // #101
    let site = Site::start("{ ttl: 1m }");
    for status in [203, 204, 301, 404, 410, 500, 503] {
        let path = format!("/{status}");
        for number in 1..3 {
            site.app.status_next(1, status);
            assert_eq!(site.get(&path).status, status);
            assert_eq!(site.app.requests_to(&path), number, "{status}");
        }
    }
}

#[test]
fn a_ttl_by_status_is_for_those_alone() {
    let site = Site::start("{ ttl: { 404: 1m, 301: 1h, 500: 10s } }");
    for (status, ttl) in [(404, 59), (301, 3599), (500, 9)] {
        let path = format!("/{status}");
        site.app.status_next(1, status);
        site.get(&path);
        let second = site.get(&path);
        assert_eq!(second.status, status);
        assert_eq!(told(&second), format!("edgeway; hit; ttl={ttl}"));
    }
    site.misses(&["/200", "/200"]);
}

#[test]
fn what_a_page_says_counts_more_than_the_ttl_of_the_route() {
    let site = Site::start("{ ttl: 1h }");
    for (path, says, hit) in [
        ("/a", "Cache-Control: max-age=10", Some(9)),
        ("/b", "Cache-Control: no-store", None),
        ("/c", "Expires: 0", None),
        ("/d", "X-A: 1", Some(3599)),
    ] {
        let ask = || site.ask(path, &[("X-Say", says)]);
        ask();
        let second = ask();
        let hit = hit.map(|ttl| format!("edgeway; hit; ttl={ttl}"));
        match hit {
            Some(hit) => assert_eq!(told(&second), hit, "{says}"),
            None => assert!(!told(&second).contains("hit"), "{says} {second:?}"),
        }
    }
}

#[test]
fn a_guess_is_a_share_of_the_time_since_the_last_change_but_no_longer_than_is_said() {
    // A hundred days ago.
    let changed = httpdate::fmt_http_date(std::time::SystemTime::now() - 8_640_000 * ms(1000));
    let say = format!("Last-Modified: {changed}");
    for (heuristic, ttl) in [
        ("1%", 86_400),
        ("10%", 86_400),
        ("{ share: 1%, longest: 30d }", 86_400),
        ("{ share: 2%, longest: 30d }", 172_800),
        ("{ share: 10%, longest: 1m }", 60),
    ] {
        let site = Site::start(&format!("{{ heuristic: {heuristic} }}"));
        site.ask("/", &[("X-Say", &say)]);
        let second = site.ask("/", &[("X-Say", &say)]);
        let left = told(&second).rsplit_once("hit; ttl=").unwrap().1;
        let left: u64 = left.parse().unwrap();
        assert!((ttl - 5..=ttl).contains(&left), "{heuristic}: {left}");
    }
    let site = Site::start("{}");
    site.ask("/", &[("X-Say", &say)]);
    let second = site.ask("/", &[("X-Say", &say)]);
    assert!(!told(&second).contains("hit"), "{second:?}");
}

// ---- the key -------------------------------------------------------------------------------------

#[test]
fn the_query_counts_as_the_route_says() {
    let queries = ["?a=1&b=2", "?b=2&a=1", "?a=1", "?a=1&c=3", "?a=2", "?", ""];
    for (rule, pages) in [
        ("as_sent", [1, 2, 3, 4, 5, 6, 7]),
        ("sorted", [1, 1, 2, 3, 4, 5, 6]),
        ("{ only: [a, b] }", [1, 1, 2, 2, 3, 4, 4]),
        ("{ without: [b, c] }", [1, 1, 1, 1, 2, 3, 4]),
        ("none", [1, 1, 1, 1, 1, 1, 1]),
    ] {
        let site = Site::start(&format!("{{ ttl: 1m, query: {rule} }}"));
        for _ in 0..2 {
            for (query, page) in queries.iter().zip(pages) {
                let answer = site.get(&format!("/{query}"));
                assert_eq!(answer.text(), format!("page {page}"), "{rule} {query}");
            }
        }
    }
}

#[test]
fn each_value_of_by_has_pages_of_its_own() {
    let jwt = format!("[{{ jwt: {{ algorithms: [HS256], secret: {SECRET} }} }}]");
    let bearer = |user: &str, role: &Value| {
        let claims = json!({ "sub": user, "role": role });
        format!("Bearer {}", token(claims))
    };
    let tokens = [
        bearer("ann", &json!("a")),
        bearer("ann", &json!("b")),
        bearer("bob", &json!("a")),
        bearer("bob", &json!(["a", "b"])),
    ];
    let authorized = |cache: &str, pages: [usize; 4]| {
        let site = Site::behind(
            &jwt,
            &format!("{{ ttl: 1m, despite: authorization, by: {cache} }}"),
        );
        for _ in 0..2 {
            for (token, page) in tokens.iter().zip(pages) {
                let answer = site.ask("/", &[("Authorization", token)]);
                assert_eq!(answer.text(), format!("page {page}"), "{cache}");
            }
        }
    };
    authorized("'{claim.role}'", [1, 2, 1, 3]);
    authorized("'{subject}'", [1, 1, 2, 2]);
    authorized("['{subject}', '{claim.role}']", [1, 2, 3, 4]);
    authorized("'{header.x-none}'", [1, 1, 1, 1]);

    let site = Site::start("{ ttl: 1m, by: ['{header.X-A}', '{cookie.c}'], despite: cookie }");
    for _ in 0..2 {
        for (lines, page) in [
            (&[][..], 1),
            (&[("X-A", "1")], 2),
            (&[("x-a", "2")], 3),
            (&[("X-A", "1"), ("Cookie", "c=1; d=1")], 4),
            (&[("X-A", "1"), ("Cookie", "d=2; c=1")], 4),
            (&[("X-A", "1"), ("Cookie", "c=2")], 5),
            (&[("X-B", "1")], 1),
        ] {
            assert_eq!(
                site.ask("/", lines).text(),
                format!("page {page}"),
                "{lines:?}"
            );
        }
    }
}

#[test]
fn what_passes_the_cache_by_is_neither_answered_from_it_nor_kept() {
    let bypass = "['{header.x-preview}', '{cookie.admin}', '{query.debug}']";
    let site = Site::start(&format!(
        "{{ ttl: 1m, bypass: {bypass}, query: none, despite: cookie }}"
    ));
    let by = |target: &str, lines: &[(&str, &str)]| {
        let answer = site.ask(target, lines);
        assert_eq!(
            told(&answer),
            "edgeway; fwd=bypass; detail=rule",
            "{target} {lines:?}"
        );
        answer.text().to_owned()
    };
    assert_eq!(by("/", &[("X-Preview", "1")]), "page 1");
    assert_eq!(site.get("/").text(), "page 2");
    assert_eq!(by("/", &[("X-Preview", "yes")]), "page 3");
    assert_eq!(by("/", &[("Cookie", "admin=1")]), "page 4");
    assert_eq!(by("/?debug=1", &[]), "page 5");
    // Neither nothing nor 0 is a reason.
    for (target, lines) in [
        ("/", &[("X-Preview", "0")][..]),
        ("/", &[("X-Preview", "")]),
        ("/", &[("Cookie", "admin=0")]),
        ("/", &[("Cookie", "user=1")]),
        ("/?debug=0", &[]),
        ("/?debug", &[]),
    ] {
        assert_eq!(
            site.ask(target, lines).text(),
            "page 2",
            "{target} {lines:?}"
        );
    }
}

#[test]
fn what_a_route_says_does_not_matter_keeps_nothing_from_being_stored() {
    let (cookie, authorization) = (("Cookie", "a=1"), ("Authorization", "Basic YTpi"));
    for (despite, line, stored) in [
        ("", cookie, false),
        (", despite: cookie", cookie, true),
        (", despite: authorization", cookie, false),
        ("", authorization, false),
        (", despite: authorization", authorization, true),
        (", despite: [cookie, set_cookie]", authorization, false),
    ] {
        let site = Site::start(&format!("{{ ttl: 1m{despite} }}"));
        site.ask("/", &[line]);
        let second = site.ask("/", &[line]);
        assert_eq!(told(&second).contains("hit"), stored, "{despite} {line:?}");
    }
    for (despite, line, stored) in [
        ("", "public, max-age=60", false),
        ("despite: set_cookie", "public, max-age=60", true),
        ("despite: set_cookie", "max-age=60", false),
        ("despite: cookie", "public, max-age=60", false),
    ] {
        let app = Endpoint::setup("app")
            .answers(move |_| {
                let page = Reaction::status(200).header("Set-Cookie", "a=1");
                page.header("Cache-Control", line)
            })
            .start();
        let gateway = before(&app, &format!("{{ {despite} }}"));
        gateway.get("/");
        let second = gateway.get("/");
        assert_eq!(told(&second).contains("hit"), stored, "{despite} {line}");
        assert_eq!(second.header("set-cookie"), Some("a=1"));
    }
}

// ---- what requests may ask -----------------------------------------------------------------------

#[test]
fn only_those_wishes_are_obeyed_that_the_route_honours() {
    let wishes = [
        ("no_store", "no-store"),
        ("reload", "no-cache"),
        ("reload", "max-age=0"),
        ("reload", "min-fresh=3600"),
        ("only_if_cached", "only-if-cached"),
        ("stale", "max-stale=60"),
    ];
    for honour in ["none", "no_store", "[reload]", "[only_if_cached, stale]"] {
        let site = Site::start(&format!(
            "{{ ttl: 1m, stale_while_revalidate: 0s, honour: {honour} }}"
        ));
        for (number, (wish, directive)) in wishes.into_iter().enumerate() {
            let path = format!("/{number}");
            let ask = || site.ask(&path, &[("Cache-Control", directive)]);
            let obeyed = match wish {
                "no_store" => {
                    ask();
                    told(&site.get(&path)).contains("uri-miss")
                }
                "reload" => {
                    site.ask(&path, &[("X-Say", "Age: 1")]);
                    told(&ask()).contains("fwd=request")
                }
                "only_if_cached" => ask().status == 504,
                _ => {
                    let stale = "Cache-Control: max-age=0|ETag: \"1\"";
                    site.ask(&path, &[("X-Say", stale)]);
                    told(&ask()).contains("hit")
                }
            };
            assert_eq!(obeyed, honour.contains(wish), "{honour} {directive}");
        }
    }
}

#[test]
fn the_headers_that_count_more_than_cache_control_are_those_of_the_route() {
    for (targets, said, hit) in [
        ("", "CDN-Cache-Control: max-age=60", true),
        (
            ", targets: Edge-Control",
            "CDN-Cache-Control: max-age=60",
            false,
        ),
        (
            ", targets: [A-Control, B-Control]",
            "B-Control: max-age=60",
            true,
        ),
        (
            ", targets: [A-Control, B-Control]",
            "B-Control: max-age=60\nA-Control: no-store",
            false,
        ),
        (
            ", targets: [B-Control, A-Control]",
            "B-Control: max-age=60\nA-Control: no-store",
            true,
        ),
        (", targets: []", "CDN-Cache-Control: max-age=60", false),
    ] {
        let site = Site::start(&format!("{{ honour: none{targets} }}"));
        let say = format!("{said}\nCache-Control: no-store");
        site.ask("/", &[("X-Say", &say.replace('\n', "|"))]);
        let second = site.ask("/", &[("X-Say", &say.replace('\n', "|"))]);
        assert_eq!(told(&second).contains("hit"), hit, "{targets} {said}");
    }
}

// ---- zones ---------------------------------------------------------------------------------------

#[test]
fn routes_store_where_they_say() {
    let app = pages();
    let gateway = Gateway::start(&format!(
        "
        listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}
        admin: {{ bind: '127.0.0.1:0' }}
        caches: {{ small: {{ memory: 1MiB }}, large: {{ memory: 32MiB, max_object: 4MiB }} }}
        upstreams: {{ app: {{ endpoints: [{app}] }} }}
        routes:
          - {{ match: {{ path: /a }}, upstream: app, cache: {{ ttl: 1m, zone: small }} }}
          - {{ match: {{ path: /b }}, upstream: app, cache: {{ ttl: 1m, zone: large }} }}
          - {{ match: {{ path: /c }}, upstream: app, cache: {{ ttl: 1m }} }}
        "
    ));
    for path in ["/a", "/a/1", "/b", "/c", "/c/1", "/c/2"] {
        gateway.get(path);
    }
    let [default, large, small] = ["default", "large", "small"].map(|name| zone(&gateway, name));
    assert_eq!(default, (3, 64 << 20));
    assert_eq!(large, (1, 32 << 20));
    assert_eq!(small, (2, 1 << 20));
}

/// How many objects a zone has, and what it may take of the memory.
fn zone(gateway: &Gateway, name: &str) -> (u64, u64) {
    let path = format!("/v1/caches/{name}");
    let zone = Request::to(gateway.address_of("admin"), "GET", &path).send();
    let number = |key: &str| zone.json()[key].as_u64().unwrap();
    (number("objects"), number("limit"))
}

#[test]
fn what_nobody_asks_for_in_time_is_dropped_though_it_is_fresh() {
    let app = pages();
    let gateway = Gateway::start(&format!(
        "
        listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}
        admin: {{ bind: '127.0.0.1:0' }}
        caches: {{ short: {{ inactive: 1s }}, long: {{ inactive: 1h }} }}
        upstreams: {{ app: {{ endpoints: [{app}] }} }}
        routes:
          - {{ match: {{ path: /short }}, upstream: app, cache: {{ ttl: 1h, zone: short }} }}
          - {{ match: {{ path: /long }}, upstream: app, cache: {{ ttl: 1h, zone: long }} }}
        "
    ));
    gateway.get("/short");
    gateway.get("/long");
    assert_eq!(
        (zone(&gateway, "short").0, zone(&gateway, "long").0),
        (1, 1)
    );
    eventually(PATIENCE, || zone(&gateway, "short").0 == 0);
    assert!(!told(&gateway.get("/short")).contains("hit"));
    assert!(told(&gateway.get("/long")).contains("hit"));
}

// ---- what others are told ------------------------------------------------------------------------

#[test]
fn caches_behind_the_gateway_are_told_what_the_application_says() {
    // #104
    let site = Site::start("{ ttl: 1m }");
    let say = "Cache-Control: max-age=60, stale-while-revalidate=5|Vary: Accept, X-A|ETag: \"1\"";
    for round in 0..2 {
        let answer = site.ask("/", &[("X-Say", say), ("Accept", "text/html")]);
        let lines = [
            ("cache-control", "max-age=60, stale-while-revalidate=5"),
            ("vary", "Accept, X-A"),
            ("etag", "\"1\""),
        ];
        for (name, value) in lines {
            assert_eq!(answer.header(name), Some(value), "{answer:?}");
        }
        // Else they would keep it for too long.
        assert_eq!(answer.header("age").is_some(), round > 0, "{answer:?}");
    }
    // What the route grants is between it and its upstream.
    site.get("/plain");
    let plain = site.get("/plain");
    assert!(told(&plain).contains("hit"));
    assert_eq!(
        (plain.header("cache-control"), plain.header("expires")),
        (None, None)
    );
}

// ---- load ----------------------------------------------------------------------------------------

#[test]
fn a_microcache_asks_once_a_second_whatever_the_load() {
    // #98
    let site = pages();
    let gateway = before(&site, "{ ttl: 1s }");
    let outcomes = load_during(
        gateway.address(),
        20,
        |connection| connection.request("GET", "/"),
        || thread::sleep(ms(2500)),
    );
    outcomes.expect_all(200);
    assert!(outcomes.total() > 250, "{}", outcomes.summary());
    assert!(
        (2..=4).contains(&site.requests()),
        "{} requests",
        site.requests()
    );
}

#[test]
fn an_application_that_does_one_thing_at_a_time_becomes_a_fast_one() {
    // #107
    let rate = |cache: &str| {
        let one_at_a_time = Mutex::new(());
        let app = Endpoint::setup("slow")
            .answers(move |_| {
                let _turn = one_at_a_time.lock();
                thread::sleep(ms(20));
                Reaction::status(200).body("page")
            })
            .start();
        let gateway = Gateway::start(&format!(
            "upstreams: {{ app: {{ endpoints: [{app}] }} }}\nroutes: [{{ upstream: app{cache} }}]"
        ));
        let outcomes = load_during(
            gateway.address(),
            10,
            |connection| connection.request("GET", "/"),
            || thread::sleep(ms(1000)),
        );
        outcomes.expect_all(200);
        outcomes.total()
    };
    let (without, with) = (rate(""), rate(", cache: { ttl: 1s }"));
    println!("{without} answers without a cache, {with} with one");
    assert!(
        with > 10 * without,
        "{without} without a cache, {with} with one"
    );
}

#[test]
fn a_change_of_the_configuration_counts_from_the_next_request_on() {
    let app = pages();
    let yaml = |cache: &str| {
        format!(
            "upstreams: {{ app: {{ endpoints: [{app}] }} }}\nroutes: [{{ upstream: app{cache} }}]"
        )
    };
    let gateway = Gateway::start(&yaml(", cache: { ttl: 1h }"));
    gateway.get("/");
    assert_eq!(gateway.get("/").text(), "page 1");
    assert!(gateway.reload(&yaml("")));
    let without = gateway.get("/");
    assert_eq!(
        (without.text(), without.header("cache-status")),
        ("page 2", None)
    );
    assert!(gateway.reload(&yaml(", cache: { ttl: 1h, by: '{header.x-a}' }")));
    eventually(PATIENCE, || told(&gateway.get("/")).contains("hit"));
    // What was stored by another key is not for this one.
    assert_eq!(gateway.get("/").text(), "page 3");
}

// ---- the site ------------------------------------------------------------------------------------

/// Numbers its pages, and says what it is told to, line by line between `|`.
fn pages() -> Endpoint {
    Endpoint::setup("app").answers(page).start()
}

fn page(request: &Received) -> Reaction {
    let page = Reaction::status(200).body(format!("page {}", request.number));
    let said = request.header_all("x-say");
    let lines = said.iter().flat_map(|said| said.split('|'));
    let lines = lines.filter_map(|line| line.split_once(": "));
    { lines }.fold(page, |page, (name, value)| page.header(name, value))
}

struct Site {
    app: Endpoint,
    gateway: Gateway,
}

impl Site {
    fn start(cache: &str) -> Self {
        Self::behind("[]", cache)
    }

    fn behind(filters: &str, cache: &str) -> Self {
        let app = pages();
        let gateway = Gateway::start(&format!(
            "upstreams: {{ app: {{ endpoints: [{app}], max_fails: 0, retries: {{ tries: 1 }} }} }}\n\
             routes: [{{ upstream: app, filters: {filters}, cache: {cache} }}]"
        ));
        Self { app, gateway }
    }

    #[track_caller]
    fn get(&self, target: &str) -> Answer {
        self.ask(target, &[])
    }

    #[track_caller]
    fn ask(&self, target: &str, lines: &[(&str, &str)]) -> Answer {
        let request = self.gateway.request("GET", target);
        let lines = lines.iter();
        { lines }
            .fold(request, |request, (name, value)| {
                request.header(name, value)
            })
            .send()
    }

    #[track_caller]
    fn misses(&self, targets: &[&str]) {
        for target in targets {
            let answer = self.get(target);
            assert!(!told(&answer).contains("hit"), "{target} {answer:?}");
        }
    }
}
