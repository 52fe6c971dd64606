//! The filter `expires`: how long browsers keep what they get.

use std::time::SystemTime;

use edgeway_tests::{Answer, Endpoint, Gateway, PATIENCE, Reaction, Received, eventually_some};

/// An application whose answers are as the path says, and which says nothing of caches unless asked to.
fn application() -> Endpoint {
    Endpoint::setup("app").answers(answer).start()
}

fn answer(request: &Received) -> Reaction {
    let etag = "\"v1\"";
    if request.header_all("if-none-match") == [etag] {
        return Reaction::status(304).header("ETag", etag);
    }
    let tail = request.path.rsplit('/').next().unwrap_or_default();
    let (status, content_type) = match tail {
        "a.css" => (200, "text/css; charset=utf-8"),
        "a.png" => (200, "image/png"),
        "a.js" => (200, "text/javascript"),
        "moved" => (301, "text/html"),
        "login" => (302, "text/html"),
        "gone" => (404, "text/html"),
        "broken" => (500, "text/html"),
        _ => (200, "text/html"),
    };
    let plain = Reaction::status(status)
        .header("Content-Type", content_type)
        .header("ETag", etag)
        .header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        .body("hello");
    let asked = request.header_all("x-say");
    let lines = asked.iter().filter_map(|line| line.split_once(": "));
    lines.fold(plain, |answer, (name, value)| answer.header(name, value))
}

fn yaml(app: &Endpoint, expires: &str) -> String {
    format!(
        "
        upstreams:
          app: {{ endpoints: [{app}] }}
        filters:
          - expires: {expires}
        routes:
          - upstream: app
          - match: {{ path: /own }}
            respond: {{ text: own }}
          - match: {{ path: /own/said }}
            respond: {{ text: own, headers: {{ Cache-Control: no-store }} }}
          - match: {{ path: /away }}
            redirect: {{ status: 308, path: /own }}
          - match: {{ path: /users }}
            filters: [jwt: {{ algorithms: [HS256], secret: 0123456789abcdef0123456789abcdef }}]
            upstream: app
          - match: {{ path: /silent }}
            filters: [expires: off]
            upstream: app
          - match: {{ path: /short }}
            filters: [expires: 1s]
            upstream: app
        "
    )
}

fn gateway(app: &Endpoint, expires: &str) -> Gateway {
    Gateway::start(&yaml(app, expires))
}

/// An answer of the application with these headers besides.
fn saying(gateway: &Gateway, target: &str, lines: &[&str]) -> Answer {
    let request = gateway.request("GET", target);
    let add = |request: edgeway_tests::Request<'static>, line: &&str| request.header("X-Say", line);
    lines.iter().fold(request, add).send()
}

fn said(answer: &Answer) -> (Option<&str>, Option<&str>) {
    (answer.header("Cache-Control"), answer.header("Expires"))
}

/// How long an answer lives by the older of the two headers, in seconds.
fn life(answer: &Answer) -> u64 {
    let moment = |name| httpdate::parse_http_date(answer.header(name).unwrap()).unwrap();
    let life = moment("Expires").duration_since(moment("Date"));
    life.unwrap_or_default().as_secs()
}

#[test]
fn both_headers_say_the_same() {
    // #25, #26
    let app = application();
    let gateway = gateway(&app, "1h");
    let answer = gateway.get("/");
    assert_eq!(answer.header_all("Cache-Control"), ["max-age=3600"]);
    // The second may change between the two.
    assert!((3_599..=3_601).contains(&life(&answer)), "{answer:?}");
    assert_eq!(answer.header("ETag"), Some("\"v1\""));
    let modified = Some("Thu, 01 Jan 2026 00:00:00 GMT");
    assert_eq!(answer.header("Last-Modified"), modified);
    assert_eq!(answer.text(), "hello");

    let head = gateway.request("HEAD", "/").send();
    assert_eq!(head.header("Cache-Control"), Some("max-age=3600"));
    assert_eq!(head.body.len(), 0);
    assert_eq!(said(&gateway.request("POST", "/").send()), (None, None));
}

#[test]
fn a_reload_changes_what_is_said() {
    let app = application();
    let gateway = gateway(&app, "max");
    let epoch = "Thu, 01 Jan 1970 00:00:01 GMT";
    for (expires, control, moment) in [
        (
            "max",
            Some("max-age=315360000"),
            Some("Thu, 31 Dec 2037 23:55:55 GMT"),
        ),
        ("epoch", Some("no-cache"), Some(epoch)),
        ("no_cache", Some("no-cache"), Some(epoch)),
        ("no_store", Some("no-store"), None),
        ("off", None, None),
        (
            "{ for: no_cache, scope: private }",
            Some("private, no-cache"),
            Some(epoch),
        ),
        (
            "{ for: max, scope: public, immutable: true }",
            Some("public, max-age=315360000, immutable"),
            Some("Thu, 31 Dec 2037 23:55:55 GMT"),
        ),
    ] {
        assert!(gateway.reload(&yaml(&app, expires)), "{expires}");
        assert_eq!(said(&gateway.get("/")), (control, moment), "{expires}");
    }
    for (expires, control, seconds) in [
        (
            "{ for: 1h, shared_for: 1m, stale_while_revalidate: 10s, stale_if_error: 1d }",
            "max-age=3600, s-maxage=60, stale-while-revalidate=10, stale-if-error=86400",
            3_600,
        ),
        (
            "{ for: 0s, must_revalidate: true }",
            "max-age=0, must-revalidate",
            0,
        ),
    ] {
        assert!(gateway.reload(&yaml(&app, expires)), "{expires}");
        let answer = gateway.get("/");
        assert_eq!(answer.header("Cache-Control"), Some(control));
        assert!(life(&answer).abs_diff(seconds) <= 1, "{answer:?}");
    }
    assert!(!gateway.reload(&yaml(&app, "soon")));
    let kept = gateway.get("/");
    assert_eq!(
        kept.header("Cache-Control"),
        Some("max-age=0, must-revalidate")
    );
}

const RULES: &str = "[ \
     { types: [image/*, text/css], for: 30d, immutable: true }, \
     { paths: ['*.js', /static/], for: max }, \
     { statuses: [404], for: 10s }, \
     { types: text/html, for: no_cache }, \
     { for: 5m } ]";

#[test]
fn the_first_rule_that_fits_decides() {
    let app = application();
    let gateway = gateway(&app, RULES);
    for (target, control) in [
        ("/a.png", Some("max-age=2592000, immutable")),
        ("/static/a.css?v=2", Some("max-age=2592000, immutable")),
        ("/x/a.js", Some("max-age=315360000")),
        ("/static/page", Some("max-age=315360000")),
        ("/static/../page", Some("no-cache")),
        ("/%73tatic/page", Some("max-age=315360000")),
        ("/page?a.js", Some("no-cache")),
        ("/moved", Some("no-cache")),
        ("/login", None),
        ("/gone", Some("max-age=10")),
        ("/broken", None),
        ("/own", Some("max-age=300")),
        ("/own/said", Some("no-store")),
        ("/away", Some("max-age=300")),
        ("/silent/a.png", None),
        ("/short/a.png", Some("max-age=1")),
    ] {
        let answer = gateway.get(target);
        assert_eq!(answer.header("Cache-Control"), control, "{target}");
    }
    assert_eq!(gateway.get("/users").status, 401);
    assert_eq!(said(&gateway.get("/users")), (None, None));
}

#[test]
fn a_304_of_the_application_passes_with_the_same_words() {
    // #26
    let app = application();
    let gateway = gateway(&app, RULES);
    let again = |target: &str| {
        let request = gateway.request("GET", target);
        request.header("If-None-Match", "\"v1\"").send()
    };
    let answer = again("/own");
    assert_eq!((answer.status, answer.text()), (200, "own"));
    for (target, control) in [
        ("/short", Some("max-age=1")),
        // The first rule asks for the type, which a 304 does not tell. What came with the 200 holds on.
        ("/a.css", None),
        ("/static/page", None),
    ] {
        let answer = again(target);
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{target}");
        assert_eq!(answer.header("Cache-Control"), control, "{target}");
        assert_eq!(answer.header("ETag"), Some("\"v1\""));
    }
    let rules = "[{ paths: '*.css', for: max }, { for: 5m }]";
    assert!(gateway.reload(&yaml(&app, rules)));
    for (target, control) in [("/a.css", "max-age=315360000"), ("/a", "max-age=300")] {
        let answer = again(target);
        assert_eq!(answer.status, 304);
        assert_eq!(answer.header("Cache-Control"), Some(control), "{target}");
    }
}

#[test]
fn what_the_application_says_stays_unless_it_is_to_be_replaced() {
    let app = application();
    let keeping = gateway(&app, "{ for: 1h, scope: public }");
    for line in [
        "Cache-Control: no-store",
        "Cache-Control: private",
        "Cache-Control: max-age=5",
        "Expires: 0",
        "Pragma: no-cache",
    ] {
        let answer = saying(&keeping, "/", &[line]);
        let (name, value) = line.split_once(": ").unwrap();
        for said in ["Cache-Control", "Expires", "Pragma"] {
            let expected = (said == name).then_some(value);
            assert_eq!(answer.header(said), expected, "{line}");
        }
    }
    let replacing = gateway(&app, "{ for: 1h, scope: public, override: true }");
    for (lines, control) in [
        (
            &["Cache-Control: max-age=5", "Expires: 0"][..],
            "public, max-age=3600",
        ),
        (
            &["Cache-Control: no-cache", "Pragma: no-cache"],
            "public, max-age=3600",
        ),
        (
            &["Cache-Control: max-age=5", "Cache-Control: private"],
            "private, max-age=3600",
        ),
        (
            &["Cache-Control: no-cache, no-store", "Expires: 0"],
            "no-cache, no-store",
        ),
    ] {
        let answer = saying(&replacing, "/", lines);
        assert_eq!(answer.header_all("Cache-Control"), [control], "{lines:?}");
        let is_new = control.contains("3600");
        assert_eq!(answer.header("Expires") != Some("0"), is_new, "{lines:?}");
        assert_eq!(answer.header("Pragma"), None);
    }
    assert_eq!(
        said(&saying(&replacing, "/silent", &["Expires: 0"])),
        (None, Some("0"))
    );
}

#[test]
fn what_is_for_one_visitor_is_private() {
    // T8
    let app = application();
    let gateway = gateway(&app, "{ for: 1h, shared_for: 2h }");
    let with = |name: &str, value: &str| gateway.request("GET", "/").header(name, value).send();
    let answers = [
        with("Cookie", "sid=1"),
        with("Authorization", "Basic eDp5"),
        saying(&gateway, "/", &["Set-Cookie: sid=1"]),
    ];
    for answer in answers {
        assert_eq!(
            answer.header("Cache-Control"),
            Some("private, max-age=3600")
        );
    }
    let plain = gateway.get("/");
    assert_eq!(
        plain.header("Cache-Control"),
        Some("max-age=3600, s-maxage=7200")
    );

    assert!(gateway.reload(&yaml(&app, "{ for: 1h, scope: public }")));
    let with_cookie = with("Cookie", "sid=1");
    assert_eq!(
        with_cookie.header("Cache-Control"),
        Some("public, max-age=3600")
    );
    let setting = saying(&gateway, "/", &["Set-Cookie: sid=1"]);
    assert_eq!(
        setting.header("Cache-Control"),
        Some("private, max-age=3600")
    );
    assert_eq!(setting.header("Set-Cookie"), Some("sid=1"));
}

#[test]
fn what_comes_out_of_a_cache_lives_as_long_as_what_is_new() {
    // #104
    let app = application();
    let gateway = gateway(&app, "1h");
    let answer = saying(&gateway, "/", &["Age: 7200"]);
    assert_eq!(answer.header("Age"), Some("7200"));
    assert_eq!(answer.header("Cache-Control"), Some("max-age=10800"));
    assert!(life(&answer).abs_diff(3_600) <= 1, "{answer:?}");
}

#[test]
fn the_gateways_own_cache_does_not_shorten_what_is_said() {
    // #104
    let app = application();
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          app: {{ endpoints: [{app}] }}
        filters: [expires: [{{ types: text/css, for: 2h }}, {{ for: 1h }}]]
        routes: [{{ upstream: app, cache: {{ ttl: 1h }} }}]
        "
    ));
    for (target, seconds) in [("/", 3_600), ("/a.css", 7_200)] {
        let first = gateway.get(target);
        let control = format!("max-age={seconds}");
        assert_eq!(first.header("Cache-Control"), Some(&*control));
        let age = |answer: &Answer| -> u64 { answer.header("Age").unwrap().parse().unwrap() };
        let hit = eventually_some(PATIENCE, || {
            let answer = gateway.get(target);
            (age(&answer) > 0).then_some(answer)
        });
        for answer in [hit, gateway.request("HEAD", target).send()] {
            let control = format!("max-age={}", seconds + age(&answer));
            assert_eq!(answer.header("Cache-Control"), Some(&*control));
            let expires = httpdate::parse_http_date(answer.header("Expires").unwrap()).unwrap();
            let left = expires.duration_since(SystemTime::now()).unwrap().as_secs();
            assert!((seconds - 60..=seconds).contains(&left), "{answer:?}");
        }
    }
    assert_eq!(app.requests(), 2);
    let not_modified = gateway
        .request("GET", "/")
        .header("If-None-Match", "\"v1\"")
        .send();
    assert_eq!(not_modified.status, 304);
    assert_eq!(app.requests(), 2);
}

#[test]
fn static_files_have_no_line_in_the_log() {
    // #25
    let app = application();
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          app: {{ endpoints: [{app}] }}
        filters:
          - access_log:
              format: '{{status}} {{path}}'
              skip: [{{ paths: ['*.png', /static/], statuses: [200-399, 404] }}, {{ paths: /healthz }}]
        routes:
          - upstream: app
        "
    ));
    let targets = [
        "/static/gone",
        "/a.png",
        "/static/a.css",
        "/healthz",
        "/static/broken",
        "/page",
        "/last",
    ];
    // On one connection a request is told before the next one is read.
    let mut connection = gateway.connect();
    for target in targets {
        connection.get(target);
    }
    gateway.wait_for_output("/last");
    assert_eq!(gateway.output(), "500 /static/broken\n200 /page\n200 /last");
}
