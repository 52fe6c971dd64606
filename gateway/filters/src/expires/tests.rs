//! What is said about which response.

use std::time::UNIX_EPOCH;

use edgeway_sdk::{
    Exchange,
    test::{self, Outcome, Trial},
};

use super::{written::Config, *};

async fn run(json: &str, trial: Trial) -> Outcome {
    let filter = test::build(json, build).expect(json);
    trial.run(&filter).await
}

async fn cache_control(json: &str, trial: Trial) -> Option<String> {
    let outcome = run(json, trial).await;
    outcome.header("cache-control").map(str::to_owned)
}

fn page() -> Trial {
    Trial::get("/").answer_header("content-type", "text/html; charset=utf-8")
}

fn seconds_from_now(moment: &str) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let moment = httpdate::parse_http_date(moment).unwrap();
    moment.duration_since(UNIX_EPOCH).unwrap().as_secs_f64() - now.as_secs_f64()
}

#[tokio::test]
async fn a_lifetime_is_said_in_both_headers() {
    let outcome = run("\"1h\"", page()).await;
    assert_eq!(outcome.header("cache-control"), Some("max-age=3600"));
    let left = seconds_from_now(outcome.header("expires").unwrap());
    assert!((3_540.0..=3_600.0).contains(&left), "{left}");
}

#[tokio::test]
async fn every_lifetime_has_its_words() {
    let cases = [
        (
            "max",
            Some("max-age=315360000"),
            Some("Thu, 31 Dec 2037 23:55:55 GMT"),
        ),
        (
            "no_cache",
            Some("no-cache"),
            Some("Thu, 01 Jan 1970 00:00:01 GMT"),
        ),
        (
            "epoch",
            Some("no-cache"),
            Some("Thu, 01 Jan 1970 00:00:01 GMT"),
        ),
        ("no_store", Some("no-store"), None),
        ("off", None, None),
    ];
    for (lifetime, control, expires) in cases {
        let outcome = run(&format!("\"{lifetime}\""), page()).await;
        assert_eq!(outcome.header("cache-control"), control, "{lifetime}");
        assert_eq!(outcome.header("expires"), expires, "{lifetime}");
    }
    let outcome = run("\"0s\"", page()).await;
    assert_eq!(outcome.header("cache-control"), Some("max-age=0"));
    assert!(seconds_from_now(outcome.header("expires").unwrap()) <= 0.0);
}

#[tokio::test]
async fn every_option_is_a_directive() {
    let cases = [
        (
            r#"{"for": "1h", "immutable": true}"#,
            "max-age=3600, immutable",
        ),
        (
            r#"{"for": "max", "scope": "public", "immutable": true}"#,
            "public, max-age=315360000, immutable",
        ),
        (
            r#"{"for": "1h", "scope": "private"}"#,
            "private, max-age=3600",
        ),
        (
            r#"{"for": "no_cache", "scope": "private"}"#,
            "private, no-cache",
        ),
        (
            r#"{"for": "0s", "shared_for": "10m", "must_revalidate": true}"#,
            "max-age=0, s-maxage=600, must-revalidate",
        ),
        (
            r#"{"for": "1m", "stale_while_revalidate": "30s", "stale_if_error": "1d"}"#,
            "max-age=60, stale-while-revalidate=30, stale-if-error=86400",
        ),
    ];
    for (json, expected) in cases {
        assert_eq!(
            cache_control(json, page()).await.as_deref(),
            Some(expected),
            "{json}"
        );
    }
}

const RULES: &str = r#"[
    {"types": ["image/*", "text/css"], "for": "30d", "immutable": true},
    {"paths": ["*.js", "/static/"], "for": "max"},
    {"types": "text/html", "paths": "/docs", "for": "no_cache"},
    {"paths": "/live/", "for": "off"},
    {"statuses": 404, "for": "10s"},
    {"for": "5m"}
]"#;

#[tokio::test]
async fn the_first_rule_that_fits_decides() {
    let cases = [
        (
            "/a.png",
            200,
            "image/png",
            Some("max-age=2592000, immutable"),
        ),
        (
            "/static/a.css",
            200,
            "Text/CSS;charset=utf-8",
            Some("max-age=2592000, immutable"),
        ),
        ("/a/b.js", 200, "text/javascript", Some("max-age=315360000")),
        ("/static/x", 200, "text/html", Some("max-age=315360000")),
        ("/docs/x", 200, "text/html", Some("no-cache")),
        ("/docs/x", 200, "application/json", Some("max-age=300")),
        ("/docs/x", 200, "", Some("max-age=300")),
        ("/live/x", 200, "text/html", None),
        ("/x", 404, "text/html", Some("max-age=10")),
        ("/a.png", 404, "image/png", Some("max-age=10")),
        ("/x?a.js", 200, "text/html", Some("max-age=300")),
    ];
    for (target, status, content_type, expected) in cases {
        let trial = Trial::get(target)
            .answer(StatusCode::from_u16(status).unwrap())
            .answer_header("content-type", content_type);
        let found = cache_control(RULES, trial).await;
        assert_eq!(
            found.as_deref(),
            expected,
            "{target} {status} {content_type}"
        );
    }
}

#[tokio::test]
async fn only_what_may_be_kept_without_harm_is_spoken_of() {
    for (status, spoken) in [
        (200, true),
        (203, true),
        (204, true),
        (206, true),
        (301, true),
        (304, true),
        (308, true),
        (201, false),
        (302, false),
        (303, false),
        (307, false),
        (401, false),
        (404, false),
        (500, false),
        (503, false),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let said = cache_control("\"1h\"", page().answer(status)).await;
        assert_eq!(said.is_some(), spoken, "{status}");
    }
    for (method, spoken) in [
        (Method::HEAD, true),
        (Method::POST, false),
        (Method::OPTIONS, false),
    ] {
        let said = cache_control("\"1h\"", Trial::new(method.clone(), "/")).await;
        assert_eq!(said.is_some(), spoken, "{method}");
    }
    let json = r#"{"statuses": ["302-303", 200], "for": "1h"}"#;
    for (status, spoken) in [(302, true), (304, true), (206, false), (301, false)] {
        let status = StatusCode::from_u16(status).unwrap();
        let said = cache_control(json, page().answer(status)).await;
        assert_eq!(said.is_some(), spoken, "{status}");
    }
}

#[tokio::test]
async fn what_a_response_says_itself_stays() {
    for (name, value) in [
        ("cache-control", "max-age=5"),
        ("cache-control", "private"),
        ("cache-control", "no-store"),
        ("expires", "0"),
        ("pragma", "no-cache"),
    ] {
        let outcome = run("\"1h\"", page().answer_header(name, value)).await;
        assert_eq!(outcome.header(name), Some(value));
        let said = ["cache-control", "expires", "pragma"];
        let there = said.iter().filter(|name| outcome.header(name).is_some());
        assert_eq!(there.count(), 1, "{name}: {value}");
    }
}

#[tokio::test]
async fn what_is_replaced_is_not_made_more_public_than_it_was() {
    let json = r#"{"for": "1h", "scope": "public", "override": true}"#;
    let cases = [
        (&["max-age=5, must-revalidate"][..], "public, max-age=3600"),
        (&["no-cache"], "public, max-age=3600"),
        (&["max-age=5", "Private = \"x-a\""], "private, max-age=3600"),
        (&["no-cache,PRIVATE"], "private, max-age=3600"),
        (&["private, No-Store"], "private, No-Store"),
        (&["no-store-please"], "public, max-age=3600"),
    ];
    for (lines, expected) in cases {
        let trial = page()
            .answer_header("expires", "Thu, 01 Jan 1970 00:00:00 GMT")
            .answer_header("pragma", "no-cache");
        let add = |trial: Trial, line: &&str| trial.answer_header("cache-control", line);
        let outcome = run(json, lines.iter().fold(trial, add)).await;
        assert_eq!(outcome.header("cache-control"), Some(expected), "{lines:?}");
        let values = outcome.headers().get_all("cache-control").iter();
        assert_eq!(values.count(), 1);
        let expires = outcome.header("expires").unwrap();
        let replaced = seconds_from_now(expires) > 3_000.0;
        assert_eq!(replaced, !expected.contains("No-Store"), "{lines:?}");
        assert_eq!(outcome.header("pragma").is_none(), replaced, "{lines:?}");
    }
    let json = r#"{"for": "no_store", "override": true}"#;
    let outcome = run(json, page().answer_header("expires", "0")).await;
    assert_eq!(outcome.header("cache-control"), Some("no-store"));
    assert_eq!(outcome.header("expires"), None);
}

#[tokio::test]
async fn what_is_for_one_visitor_is_private() {
    let plain = r#"{"for": "1h", "shared_for": "2h", "immutable": true}"#;
    let public = r#"{"for": "1h", "scope": "public"}"#;
    let private = "private, max-age=3600, immutable";
    let cases: [(fn() -> Trial, _, _); 5] = [
        (
            page,
            "max-age=3600, s-maxage=7200, immutable",
            "public, max-age=3600",
        ),
        (
            || page().header("authorization", "Basic eA=="),
            private,
            "public, max-age=3600",
        ),
        (
            || page().header("cookie", "sid=1"),
            private,
            "public, max-age=3600",
        ),
        (
            || page().identity(Identity::new("ann")),
            private,
            "public, max-age=3600",
        ),
        (
            || page().answer_header("set-cookie", "sid=1"),
            private,
            "private, max-age=3600",
        ),
    ];
    for (trial, with_plain, with_public) in cases {
        let said = cache_control(plain, trial()).await;
        assert_eq!(said.as_deref(), Some(with_plain));
        let said = cache_control(public, trial()).await;
        assert_eq!(said.as_deref(), Some(with_public));
    }
}

#[tokio::test]
async fn the_age_of_a_response_does_not_shorten_its_life() {
    let json = r#"{"for": "1h", "shared_for": "2h"}"#;
    let cases = [
        ("0", "max-age=3600, s-maxage=7200"),
        ("40", "max-age=3640, s-maxage=7240"),
        ("86400", "max-age=90000, s-maxage=93600"),
        ("-4", "max-age=3600, s-maxage=7200"),
        ("soon", "max-age=3600, s-maxage=7200"),
        ("99999999999999999999", "max-age=3600, s-maxage=7200"),
        ("9999999999999", "max-age=2147483647, s-maxage=2147483647"),
    ];
    for (age, expected) in cases {
        let outcome = run(json, page().answer_header("age", age)).await;
        assert_eq!(outcome.header("cache-control"), Some(expected), "{age}");
        let left = seconds_from_now(outcome.header("expires").unwrap());
        assert!((3_540.0..=3_600.0).contains(&left), "{left}");
        assert_eq!(outcome.header("age"), Some(age));
    }
    for (lifetime, expected) in [
        ("0s", "max-age=0"),
        ("max", "max-age=315360000"),
        ("no_cache", "no-cache"),
    ] {
        let json = format!("\"{lifetime}\"");
        let said = cache_control(&json, page().answer_header("age", "40")).await;
        assert_eq!(said.as_deref(), Some(expected));
    }
    let personal = page().answer_header("age", "40").header("cookie", "sid=1");
    assert_eq!(
        cache_control(json, personal).await.as_deref(),
        Some("private, max-age=3640")
    );
}

#[tokio::test]
async fn a_304_says_the_same_as_the_200_or_nothing() {
    let not_modified = |target| Trial::get(target).answer(StatusCode::NOT_MODIFIED);
    assert_eq!(
        cache_control("\"1h\"", not_modified("/")).await.as_deref(),
        Some("max-age=3600")
    );
    let by_path =
        r#"[{"paths": "*.js", "for": "1d"}, {"types": "text/css", "for": "1h"}, {"for": "1m"}]"#;
    assert_eq!(
        cache_control(by_path, not_modified("/a.js"))
            .await
            .as_deref(),
        Some("max-age=86400")
    );
    // It may be the style sheet, which a browser must not forget after a minute.
    let outcome = run(by_path, not_modified("/a")).await;
    assert_eq!(outcome.header("cache-control"), None);
    assert_eq!(outcome.header("expires"), None);
    let typed = not_modified("/a").answer_header("content-type", "text/html");
    assert_eq!(
        cache_control(by_path, typed).await.as_deref(),
        Some("max-age=60")
    );
}

#[tokio::test]
async fn several_ranges_do_not_tell_their_type() {
    let ranges = |status, content_type| {
        Trial::get("/a")
            .answer(status)
            .answer_header("content-type", content_type)
    };
    let json = r#"[{"types": "video/*", "for": "1d"}, {"for": "1m"}]"#;
    let cases = [
        (
            StatusCode::PARTIAL_CONTENT,
            "video/mp4",
            Some("max-age=86400"),
        ),
        (
            StatusCode::PARTIAL_CONTENT,
            "Multipart/ByteRanges; boundary=x",
            None,
        ),
        (StatusCode::OK, "multipart/byteranges", Some("max-age=60")),
    ];
    for (status, content_type, expected) in cases {
        let said = cache_control(json, ranges(status, content_type)).await;
        assert_eq!(said.as_deref(), expected, "{content_type}");
    }
}

#[test]
fn the_filter_nearest_to_the_target_decides() {
    let built = |json: &str| test::build(json, build).unwrap();
    let global = built(r#"{"for": "1h", "override": true}"#);
    let up = |inner: &str| {
        let (request, ()) = http::Request::get("/").body(()).unwrap().into_parts();
        let (mut head, ()) = http::Response::new(()).into_parts();
        let mut exchange = Exchange::new(([192, 0, 2, 1], 1).into());
        for filter in [&built(inner), &global] {
            let mut view = Response::new(&mut head, &request, &mut exchange, Origin::Upstream);
            filter.response(&mut view).unwrap();
        }
        head.headers.remove("cache-control")
    };
    assert_eq!(up("\"off\""), None);
    assert_eq!(up("\"1m\"").unwrap(), "max-age=60");
    assert_eq!(
        up(r#"{"paths": "/elsewhere", "for": "1m"}"#).unwrap(),
        "max-age=3600"
    );
}

#[tokio::test]
async fn what_else_a_response_has_stays() {
    let outcome = run(
        RULES,
        page()
            .answer_header("etag", "\"a\"")
            .answer_header("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            .answer_header("vary", "Accept"),
    )
    .await;
    let names: Vec<_> = outcome.headers().keys().map(HeaderName::as_str).collect();
    assert_eq!(
        names,
        [
            "content-type",
            "etag",
            "last-modified",
            "vary",
            "cache-control",
            "expires"
        ]
    );
}

#[test]
fn what_would_have_no_effect_is_refused_at_its_key() {
    let cases = [
        ("[]", None),
        (
            r#"[{"for": "1h"}, {"types": "a/b", "for": "1m"}]"#,
            Some("1"),
        ),
        (
            r#"[{"for": "1h"}, {"statuses": 404, "for": "1m"}, {"for": "2h"}]"#,
            Some("2"),
        ),
        (r#"{"for": "off", "override": true}"#, Some("override")),
        (r#"[{"for": "off", "scope": "private"}]"#, Some("0.scope")),
        (r#"{"for": "no_store", "scope": "private"}"#, Some("scope")),
        (
            r#"{"for": "no_cache", "immutable": true}"#,
            Some("immutable"),
        ),
        (
            r#"{"for": "no_cache", "shared_for": "1h"}"#,
            Some("shared_for"),
        ),
        (r#"{"for": "0s", "immutable": true}"#, Some("immutable")),
        (
            r#"{"for": "1h", "scope": "private", "shared_for": "1h"}"#,
            Some("shared_for"),
        ),
        (
            r#"{"for": "1h", "must_revalidate": true, "stale_if_error": "1h"}"#,
            Some("stale_if_error"),
        ),
    ];
    for (json, key) in cases {
        let error = test::build(json, build).err().expect(json);
        assert_eq!(error.key.as_deref(), key, "{json}");
    }
    for json in [
        r#"[{"for": "1h"}, {"statuses": 404, "for": "1m"}]"#,
        r#"{"for": "0s", "immutable": false, "override": true, "scope": "public"}"#,
        r#"{"for": "no_store", "override": true}"#,
        r#"{"for": "max", "must_revalidate": true, "immutable": true}"#,
        "\"3650d\"",
    ] {
        assert!(test::build(json, build).is_ok(), "{json}");
    }
}

#[test]
fn what_is_no_lifetime_is_not_read() {
    for json in [
        "\"\"",
        "\"1\"",
        "3600",
        "0",
        "\"-1s\"",
        "\"1.5s\"",
        "\"500ms\"",
        "\"3651d\"",
        "\"Max\"",
        "true",
        "null",
        "{}",
        "[\"1h\"]",
        r#"{"for": []}"#,
        r#"{"for": "1h", "stray": 1}"#,
        r#"[{"for": "1h", "stray": 1}]"#,
        r#"{"for": "1h", "scope": "shared"}"#,
        r#"{"for": "1h", "shared_for": "max"}"#,
    ] {
        assert!(serde_json::from_str::<Config>(json).is_err(), "{json}");
    }
}
