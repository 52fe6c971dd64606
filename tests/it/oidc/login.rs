//! To the provider and back.

use std::time::Duration;

use edgeway_tests::{Echo, Gateway, PATIENCE, Provider, Wrong, eventually};
use serde_json::json;

use super::{
    Browser, behind,
    browser::{location, path_of},
    gateway,
};

#[test]
fn only_pages_are_sent_to_the_login() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let gateway = gateway(&provider, &echo, "");
    let mut browser = Browser::new(&gateway, &provider);
    let navigate = ("Sec-Fetch-Mode", "navigate");
    let html = ("Accept", "text/html");
    for (method, headers, status) in [
        ("GET", [html].as_slice(), 302),
        ("HEAD", &[html], 302),
        ("GET", &[navigate], 302),
        ("GET", &[], 401),
        ("GET", &[("Accept", "application/json")], 401),
        ("GET", &[html, ("Sec-Fetch-Mode", "cors")], 401),
        ("GET", &[html, ("X-Requested-With", "XMLHttpRequest")], 401),
        ("POST", &[html, navigate], 401),
        ("DELETE", &[html], 401),
    ] {
        let answer = browser.ask(method, "/", headers);
        assert_eq!(answer.status, status, "{method} {headers:?}");
        assert_eq!(answer.header("Cache-Control"), Some("no-store"));
        let challenge = answer.header("WWW-Authenticate");
        assert_eq!(challenge.is_some(), status == 401, "{method} {headers:?}");
    }
    assert_eq!(echo.stats().requests, 0);
}

#[test]
fn two_tabs_log_in_at_the_same_time() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let gateway = gateway(&provider, &echo, "");
    let mut browser = Browser::new(&gateway, &provider);
    let (first, second) = (browser.begin("/first"), browser.begin("/second"));
    assert_eq!(browser.logins().len(), 2);
    assert_eq!(browser.come_back(&second).json()["path"], "/second");
    assert_eq!(browser.come_back(&first).json()["path"], "/first");
    assert_eq!(browser.logins(), [""; 0]);
}

#[test]
fn logins_that_are_never_finished_do_not_pile_up() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let gateway = gateway(&provider, &echo, "");
    let mut browser = Browser::new(&gateway, &provider);
    browser
        .jar
        .insert("edgeway_session_login_rubbish".into(), "x".into());
    for _ in 0..12 {
        browser.begin("/");
    }
    assert_eq!(browser.logins().len(), 5);
    assert_eq!(browser.log_in("/last").json()["path"], "/last");
}

#[test]
fn a_login_leads_nowhere_but_to_its_own_origin() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let gateway = gateway(&provider, &echo, "");
    for target in [
        "//evil.example/x",
        "/\\evil.example",
        "/%2f%2fevil.example",
        "/?//evil",
    ] {
        let mut browser = Browser::new(&gateway, &provider);
        let sent = browser.get(target);
        if sent.status == 400 {
            continue;
        }
        let back = browser.at_provider(location(&sent));
        let answer = browser.get(&back);
        let own = format!("http://{gateway}/");
        assert!(location(&answer).starts_with(&own), "{}", location(&answer));
    }
}

#[test]
fn a_target_that_no_cookie_could_hold_is_forgotten() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let gateway = gateway(&provider, &echo, "");
    let mut browser = Browser::new(&gateway, &provider);
    let page = browser.log_in(&format!("/x?{}", "y".repeat(3_000)));
    assert_eq!(page.json()["target"], "/");
}

#[test]
fn what_the_provider_refuses_is_told_on_a_page() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let gateway = gateway(&provider, &echo, "");
    let mut browser = Browser::new(&gateway, &provider);
    provider.begin(Wrong::Denies);
    let answer = browser.log_in("/");
    assert_eq!(answer.status, 403);
    assert!(
        answer
            .header("Content-Type")
            .unwrap()
            .starts_with("text/html")
    );
    assert!(
        answer.text().contains("The login was refused."),
        "{}",
        answer.text()
    );
    assert_eq!(browser.jar.len(), 0, "{:?}", browser.jar);
    gateway.wait_for_output("access_denied");

    provider.end(Wrong::Denies);
    assert_eq!(browser.log_in("/").status, 200);
}

#[test]
fn codes_and_states_do_not_stand_in_the_log() {
    // T11
    let (provider, echo) = (Provider::start(), Echo::start());
    let gateway = gateway(&provider, &echo, "");
    let mut browser = Browser::new(&gateway, &provider);
    let back = browser.begin("/");
    browser.come_back(&back);
    let line = gateway.wait_for_output("/oidc/callback");
    assert!(
        !line.contains("code=") && !line.contains("state="),
        "{line}"
    );
    let code = back
        .split("code=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap();
    assert!(!gateway.output().contains(code) && !gateway.log().contains(code));
}

#[test]
fn a_login_waits_for_the_provider_to_be_known_and_does_not_pass_without() {
    let (provider, echo) = (Provider::start(), Echo::start());
    provider.begin(Wrong::Away);
    let gateway = gateway(&provider, &echo, "");
    let mut browser = Browser::new(&gateway, &provider);
    let answer = browser.get("/");
    assert_eq!(answer.status, 503);
    assert!(answer.header("Retry-After").is_some());
    assert_eq!(browser.fetch("/").status, 401);
    provider.end(Wrong::Away);
    eventually(PATIENCE, || browser.get("/").status == 302);
    assert_eq!(browser.log_in("/").status, 200);
    assert!(
        gateway.log().contains("is fetched again"),
        "{}",
        gateway.log()
    );
}

#[test]
fn a_provider_that_goes_away_during_a_login_can_be_tried_again() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let gateway = gateway(&provider, &echo, "timeout: 500ms");
    let mut browser = Browser::new(&gateway, &provider);
    let back = browser.begin("/");
    for wrong in [Wrong::Away, Wrong::Silent, Wrong::Unwell] {
        provider.begin(wrong);
        assert_eq!(browser.come_back(&back).status, 503, "{wrong:?}");
        provider.end(wrong);
    }
    assert_eq!(browser.come_back(&back).status, 200);
}

#[test]
fn a_login_that_takes_too_long_is_over() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let gateway = gateway(&provider, &echo, "login_timeout: 1s");
    let mut browser = Browser::new(&gateway, &provider);
    let back = browser.begin("/");
    // The cookie would be gone from a browser; this one has kept it.
    std::thread::sleep(Duration::from_millis(2_100));
    let answer = browser.come_back(&back);
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().contains("has taken too long"),
        "{}",
        answer.text()
    );
    assert_eq!(provider.asked("/token"), 0);
}

#[test]
fn a_new_key_of_the_provider_is_found() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let gateway = gateway(&provider, &echo, "");
    Browser::new(&gateway, &provider).log_in("/");
    provider.change_key();
    let mut browser = Browser::new(&gateway, &provider);
    assert_eq!(browser.log_in("/").status, 200);
}

#[test]
fn who_has_logged_in_is_known_to_other_filters() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let yaml = behind(&provider, &echo, "subject: [email, sub]").replace(
        "            upstream: echo",
        "              - headers: { request: { set: { X-Seen: \"{subject} {claim.team}\" } } }\n            upstream: echo",
    );
    let gateway = Gateway::start(&yaml);
    provider.allow(&format!("http://{gateway}/oidc/callback"));
    provider.user(json!({ "sub": "ann", "email": "ann@example.com", "team": ["a", "b"] }));
    let page = Browser::new(&gateway, &provider).log_in("/");
    assert_eq!(page.received("x-seen"), ["ann@example.com a,b"]);
}

#[test]
fn over_https_the_cookies_are_bound_to_the_host_and_to_https() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let gateway = Gateway::start(&format!(
        "trusted_proxies: [127.0.0.1]\n{}",
        behind(&provider, &echo, "").replace("\n        ", "\n")
    ));
    provider.allow(&format!("https://{gateway}/oidc/callback"));
    let mut browser = Browser::new(&gateway, &provider);
    browser.headers.push(("X-Forwarded-Proto", "https".into()));
    let back = browser.begin("/");
    let answer = browser.get(&back);
    let own = format!("https://{gateway}/");
    assert!(location(&answer).starts_with(&own), "{}", location(&answer));
    for line in answer.header_all("Set-Cookie") {
        assert!(line.starts_with("__Host-edgeway_session"), "{line}");
        for attribute in ["Path=/", "HttpOnly", "SameSite=Lax", "Secure"] {
            assert!(line.contains(attribute), "{line}");
        }
        assert!(!line.contains("Domain"), "{line}");
    }
    assert_eq!(browser.get(path_of(location(&answer))).status, 200);
    // What may have been set without TLS counts for nothing over TLS.
    browser.jar = browser
        .jar
        .iter()
        .map(|(name, value)| (name.replace("__Host-", ""), value.clone()))
        .collect();
    assert_eq!(browser.fetch("/").status, 401);
}
