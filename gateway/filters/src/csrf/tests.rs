use std::path::Path;

use edgeway_sdk::{
    Resources,
    test::{self, Outcome, Trial},
};

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const TRUSTING: &str = r#"{"trusted": ["https://app.example", "https://*.trusted.example"]}"#;

fn of(json: &str) -> Csrf {
    test::build(json, build).unwrap()
}

fn with_tokens(more: &str) -> Csrf {
    of(&format!(r#"{{"token": {{"secret": "{SECRET}"{more}}}}}"#))
}

fn post(headers: &[(&str, &str)]) -> Trial {
    trial(Method::POST, headers)
}

fn trial(method: Method, headers: &[(&str, &str)]) -> Trial {
    let trial = Trial::new(method, "/").header("host", "shop.example");
    headers
        .iter()
        .fold(trial, |trial, (name, value)| trial.header(name, value))
}

async fn passes(filter: &Csrf, headers: &[(&str, &str)]) -> bool {
    let outcome = post(headers).run(filter).await;
    assert!(outcome.passed() || outcome.status() == 403);
    outcome.passed()
}

#[tokio::test]
async fn a_browser_says_by_sec_fetch_site_where_a_request_comes_from() {
    let filter = of(TRUSTING);
    let evil = ("origin", "https://evil.example");
    let own = ("origin", "https://shop.example");
    for (site, origin, allowed) in [
        ("same-origin", own, true),
        ("same-origin", evil, true),
        ("none", evil, true),
        ("cross-site", evil, false),
        ("cross-site", own, false),
        ("same-site", ("origin", "https://blog.shop.example"), false),
        ("cross-site", ("origin", "https://app.example"), true),
        ("same-site", ("origin", "https://a.trusted.example"), true),
        ("cross-site", ("origin", "https://trusted.example"), false),
        ("cross-site", ("origin", "null"), false),
        ("whatever", own, false),
        ("", own, false),
    ] {
        let headers = [("sec-fetch-site", site), origin];
        assert_eq!(passes(&filter, &headers).await, allowed, "{headers:?}");
    }
    let twice = [
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-site", "cross-site"),
    ];
    assert!(!passes(&filter, &twice).await);
}

#[tokio::test]
async fn an_older_browser_says_it_by_its_origin() {
    let filter = of(TRUSTING);
    for (origin, allowed) in [
        ("http://shop.example", true),
        ("https://shop.example", true),
        ("https://app.example", true),
        ("https://shop.example:8443", false),
        ("https://shop.example.evil.example", false),
        ("https://evil.example", false),
        ("null", false),
        ("", false),
    ] {
        assert_eq!(
            passes(&filter, &[("origin", origin)]).await,
            allowed,
            "{origin}"
        );
    }
    let two = [
        ("origin", "https://shop.example"),
        ("origin", "https://evil.example"),
    ];
    assert!(!passes(&filter, &two).await);
}

#[tokio::test]
async fn the_last_to_say_it_is_the_referer() {
    let filter = of(TRUSTING);
    for (referer, allowed) in [
        ("https://shop.example/cart?x=1", true),
        ("https://app.example/", true),
        ("https://evil.example/shop.example", false),
        ("https://shop.example@evil.example/", false),
        ("about:blank", false),
    ] {
        assert_eq!(
            passes(&filter, &[("referer", referer)]).await,
            allowed,
            "{referer}"
        );
    }
    // An origin counts more.
    let both = [
        ("origin", "https://evil.example"),
        ("referer", "https://shop.example/"),
    ];
    assert!(!passes(&filter, &both).await);
}

#[tokio::test]
async fn who_says_nothing_passes_unless_that_is_refused() {
    assert!(passes(&of("{}"), &[]).await);
    let strict = of(r#"{"unknown": "refuse"}"#);
    let outcome = post(&[]).run(&strict).await;
    assert_eq!(outcome.status(), 403);
    assert_eq!(
        outcome.reply.unwrap().decided_by_rule(),
        Some("unknown_origin")
    );
    assert!(passes(&strict, &[("origin", "https://shop.example")]).await);
}

#[tokio::test]
async fn a_proxy_that_is_trusted_may_have_been_asked_by_another_name() {
    // One that is not has its header removed before any filter runs.
    let headers = [
        ("x-forwarded-host", "public.example"),
        ("origin", "https://public.example"),
    ];
    assert!(passes(&of("{}"), &headers).await);
}

#[tokio::test]
async fn only_what_may_change_something_is_judged() {
    let filter = of("{}");
    let cross = [
        ("sec-fetch-site", "cross-site"),
        ("origin", "https://evil.example"),
    ];
    for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
        assert!(trial(method, &cross).run(&filter).await.passed());
    }
    for method in ["POST", "PUT", "PATCH", "DELETE", "PROPFIND", "CONNECT"] {
        let outcome = trial(method.parse().unwrap(), &cross).run(&filter).await;
        assert_eq!(outcome.status(), 403, "{method}");
        let reply = outcome.reply.unwrap();
        assert_eq!(reply.decided_by_rule(), Some("cross_origin"));
        assert_eq!(reply.about(), Some("https://evil.example"));
    }
}

#[tokio::test]
async fn a_websocket_of_another_site_is_refused() {
    for filter in [of("{}"), with_tokens("")] {
        for (headers, allowed) in [
            (("origin", "https://evil.example"), false),
            (("sec-fetch-site", "same-site"), false),
            (("origin", "https://shop.example"), true),
            (("x-none", ""), true),
        ] {
            let handshake = [("upgrade", "WebSocket"), headers];
            let outcome = trial(Method::GET, &handshake).run(&filter).await;
            assert_eq!(outcome.passed(), allowed, "{handshake:?}");
        }
    }
}

/// What a visitor is given: the text of the cookie.
async fn visit(filter: &Csrf, trial: Trial) -> Option<String> {
    let outcome = trial.run(filter).await;
    assert!(outcome.passed());
    let cookie = outcome.header("set-cookie")?;
    let (value, attributes) = cookie.split_once('=')?.1.split_once(';')?;
    assert_eq!(attributes, " Path=/; SameSite=Lax; Secure");
    assert_eq!(outcome.header("cache-control"), Some("private"));
    Some(value.to_owned())
}

async fn brings(filter: &Csrf, cookie: &str, headers: &[(&str, &str)], body: &str) -> Outcome {
    let trial = post(headers).header("cookie", &format!("a=b; __Host-csrf={cookie}"));
    trial.body(body.to_owned()).run(filter).await
}

#[tokio::test]
async fn a_visitor_is_given_a_token_once() {
    let filter = with_tokens("");
    let token = visit(&filter, Trial::get("/")).await.unwrap();
    let again = Trial::get("/").header("cookie", &format!("__Host-csrf={token}"));
    assert_eq!(visit(&filter, again).await, None);
    let forged = Trial::get("/").header("cookie", "__Host-csrf=x.y");
    assert!(visit(&filter, forged).await.is_some());
    assert_eq!(visit(&of("{}"), Trial::get("/")).await, None);
}

#[tokio::test]
async fn a_change_must_bring_the_token_of_the_cookie() {
    let filter = with_tokens("");
    let token = visit(&filter, Trial::get("/")).await.unwrap();
    let other = visit(&filter, Trial::get("/")).await.unwrap();
    let form = ("content-type", "application/x-www-form-urlencoded");
    let parts = ("content-type", "multipart/form-data; boundary=x");
    let part = format!(
        "--x\r\nContent-Disposition: form-data; name=\"csrf_token\"\r\n\r\n{token}\r\n--x--"
    );
    for (headers, body, allowed) in [
        (&[("x-csrf-token", &*token)][..], String::new(), true),
        (&[("x-csrf-token", &other)], String::new(), false),
        (&[("x-csrf-token", "")], String::new(), false),
        (&[], String::new(), false),
        (&[form], format!("a=1&csrf_token={token}"), true),
        (&[form], format!("csrf_token={other}"), false),
        (&[form], "a=1".to_owned(), false),
        (&[parts], part, true),
        (
            &[("content-type", "application/json")],
            format!("csrf_token={token}"),
            false,
        ),
        // What the header says counts, whatever the form says.
        (
            &[("x-csrf-token", "x"), form],
            format!("csrf_token={token}"),
            false,
        ),
    ] {
        let outcome = brings(&filter, &token, headers, &body).await;
        assert_eq!(outcome.passed(), allowed, "{headers:?} {body}");
        if !allowed {
            assert_eq!(outcome.status(), 403);
            assert_eq!(outcome.reply.unwrap().decided_by_rule(), Some("token"));
        }
    }
    // Without the cookie, the token of the header is worth nothing.
    let outcome = post(&[("x-csrf-token", &token)]).run(&filter).await;
    assert_eq!(outcome.status(), 403);
    // A body that can't be looked at is refused.
    let long = format!("a={}&csrf_token={token}", "x".repeat(WHOLE_BODY));
    assert_eq!(brings(&filter, &token, &[form], &long).await.status(), 413);
}

#[tokio::test]
async fn a_token_comes_on_top_of_the_origin() {
    let filter = with_tokens("");
    let token = visit(&filter, Trial::get("/")).await.unwrap();
    let headers = [
        ("x-csrf-token", &*token),
        ("origin", "https://evil.example"),
    ];
    let outcome = brings(&filter, &token, &headers, "").await;
    assert_eq!(
        outcome.reply.unwrap().decided_by_rule(),
        Some("cross_origin")
    );
}

#[tokio::test]
async fn a_token_is_bound_to_who_is_logged_in() {
    let filter = with_tokens("");
    let ann = || Identity::new("ann");
    let token = visit(&filter, Trial::get("/").identity(ann()))
        .await
        .unwrap();
    let cookie = format!("__Host-csrf={token}");
    let ask = || post(&[("x-csrf-token", &token), ("cookie", &cookie)]);
    assert!(ask().identity(ann()).run(&filter).await.passed());
    assert!(
        !ask()
            .identity(Identity::new("bob"))
            .run(&filter)
            .await
            .passed()
    );
    assert!(!ask().run(&filter).await.passed());
    // Whoever logs in is given another.
    let anonymous = visit(&filter, Trial::get("/")).await.unwrap();
    let login = Trial::get("/").header("cookie", &format!("__Host-csrf={anonymous}"));
    assert!(visit(&filter, login.identity(ann())).await.is_some());
}

#[tokio::test]
async fn the_names_can_be_others_and_the_application_is_told() {
    let filter = with_tokens(
        r#", "cookie": "xsrf", "header": "X-XSRF", "field": "_csrf", "forward": "X-Form-Token""#,
    );
    let outcome = Trial::get("/").run(&filter).await;
    let cookie = outcome.header("set-cookie").unwrap();
    // In the clear, a cookie of this name would not be kept if it were for https only.
    let token = cookie
        .strip_prefix("xsrf=")
        .and_then(|rest| rest.strip_suffix("; Path=/; SameSite=Lax"));
    let token = token.unwrap().to_owned();
    assert_eq!(outcome.sent_header("x-form-token"), Some(&*token));
    let ask = |headers: &[(&str, &str)]| post(headers).header("cookie", &format!("xsrf={token}"));
    let outcome = ask(&[("x-xsrf", &token)]).run(&filter).await;
    assert!(outcome.passed());
    assert_eq!(outcome.sent_header("x-form-token"), Some(&*token));
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let outcome = ask(&form).body(format!("_csrf={token}")).run(&filter).await;
    assert!(outcome.passed());
    let outcome = ask(&[]).run(&filter).await;
    assert_eq!(
        (outcome.passed(), outcome.sent_header("x-form-token")),
        (false, None)
    );
}

#[test]
fn what_is_dangerous_or_has_no_sense_is_refused_at_its_key() {
    for (json, key) in [
        (r#"{"trusted": ["https://a.example", "*"]}"#, "trusted.1"),
        (r#"{"trusted": ["null"]}"#, "trusted.0"),
        (r#"{"token": {"secret": "short"}}"#, "token.secret"),
        (
            r#"{"token": {"secret": "0123456789abcdef0123456789abcdef", "field": ""}}"#,
            "token.field",
        ),
        (
            r#"{"token": {"secret": "0123456789abcdef0123456789abcdef", "forward": "X-CSRF-Token"}}"#,
            "token.forward",
        ),
    ] {
        let error = test::build(json, build).err().expect(json);
        assert_eq!(error.key.as_deref(), Some(key), "{json}");
    }
    for json in [
        r#"{"token": {}}"#,
        r#"{"unknown": "report"}"#,
        r#"{"trusted": ["app.example"]}"#,
        r#"{"token": {"secret": "0123456789abcdef0123456789abcdef", "cookie": "a b"}}"#,
    ] {
        assert!(serde_json::from_str::<Config>(json).is_err(), "{json}");
    }
}

#[test]
fn clients_may_not_send_what_the_application_is_told_and_open_pages_are_warned_of() {
    let resources = Resources::default();
    let mut stage = Build::new(&resources, Path::new("."));
    let json = r#"{"trusted": ["http://a.example"],
                   "token": {"secret": "0123456789abcdef0123456789abcdef", "forward": "X-Form-Token"}}"#;
    assert!(build(serde_json::from_str(json).unwrap(), &mut stage).is_ok());
    assert_eq!(stage.reserved, ["x-form-token"]);
    assert_eq!(stage.warnings[0].key.as_deref(), Some("trusted.0"));
}
