//! The end of a session.

use std::{
    thread::{self, sleep},
    time::Duration,
};

use edgeway_tests::{Echo, PATIENCE, Provider, Wrong, eventually};

use super::{Browser, behind, browser::location, gateway};

const HERE: (&str, &str) = ("Sec-Fetch-Site", "same-origin");

#[test]
fn who_logs_out_is_logged_out_here_and_at_the_provider() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let gateway = gateway(&provider, &echo, "after_logout: /bye?x=1");
    for method in ["GET", "POST"] {
        let mut browser = Browser::new(&gateway, &provider);
        browser.log_in("/");
        let answer = browser.ask(method, "/oidc/logout", &[HERE]);
        assert_eq!(answer.status, 303, "{method}");
        let place = location(&answer);
        let start = format!("{}/end?lang=en&id_token_hint=ey", provider.issuer());
        assert!(place.starts_with(&start), "{place}");
        let after = format!(
            "http%3A%2F%2F{}%2Fbye%3Fx%3D1",
            gateway.address().to_string().replace(':', "%3A")
        );
        assert!(
            place.ends_with(&format!(
                "&client_id=edge%3Away&post_logout_redirect_uri={after}"
            )),
            "{place}"
        );
        assert_eq!(browser.cookies(), "");
        assert_eq!(browser.fetch("/").status, 401);
    }
    eventually(PATIENCE, || provider.asked("/revoke") == 2);
}

#[test]
fn a_response_that_was_under_way_does_not_bring_the_session_back() {
    let (provider, echo) = (Provider::start(), Echo::start());
    provider.lasting(6);
    let gateway = gateway(&provider, &echo, "");
    let mut browser = Browser::new(&gateway, &provider);
    for (number, leaves) in [false, true].into_iter().enumerate() {
        browser.log_in("/");
        sleep(Duration::from_millis(3_200));
        let mut tab = browser.copy();
        let slow = thread::spawn(move || tab.fetch("/?delay=3s"));
        // It is refreshed, and on its way to the application.
        eventually(PATIENCE, || provider.asked("/token") == 2 * (number + 1));
        if leaves {
            browser.ask("POST", "/oidc/logout", &[HERE]);
        }
        let answer = slow.join().unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("Set-Cookie").is_none(), leaves);
        browser.jar.clear();
    }
}

#[test]
fn a_copy_is_of_no_use_after_the_logout() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let more = "after_logout: /";
    let gateway = gateway(&provider, &echo, more);
    let (mut browser, mut other) = (
        Browser::new(&gateway, &provider),
        Browser::new(&gateway, &provider),
    );
    browser.log_in("/");
    other.log_in("/");
    let mut copy = browser.copy();
    browser.ask("POST", "/oidc/logout", &[HERE]);
    assert_eq!(copy.fetch("/").status, 401);
    assert!(gateway.reload(&behind(&provider, &echo, more)));
    assert_eq!(copy.fetch("/").status, 401);
    // Another session of the same user goes on.
    assert_eq!(other.fetch("/").status, 200);
}

#[test]
fn a_late_response_prolongs_a_session_only_if_no_other_may() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let gateway = gateway(&provider, &echo, "session: { idle: 10s }");
    let mut browser = Browser::new(&gateway, &provider);
    browser.log_in("/");
    let mut prolongs = |after: u64, target: &str| {
        sleep(Duration::from_millis(after));
        browser.fetch(target).header("Set-Cookie").is_some()
    };
    assert!(!prolongs(2_200, "/?delay=1500ms"));
    assert!(prolongs(0, "/"));
    assert!(prolongs(5_200, "/?delay=1500ms"));
}

#[test]
fn another_site_can_not_log_users_out() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let gateway = gateway(&provider, &echo, "");
    let mut browser = Browser::new(&gateway, &provider);
    browser.log_in("/");
    for headers in [
        [("Sec-Fetch-Site", "cross-site")].as_slice(),
        &[("Sec-Fetch-Site", "same-site")],
        &[("Origin", "http://evil.example")],
        &[("Origin", "null")],
        &[("Referer", "http://evil.example/")],
        &[],
        &[HERE, ("Sec-Purpose", "prefetch;prerender")],
    ] {
        for method in ["GET", "POST"] {
            assert_eq!(
                browser.ask(method, "/oidc/logout", headers).status,
                403,
                "{headers:?}"
            );
        }
    }
    assert_eq!(browser.ask("DELETE", "/oidc/logout", &[HERE]).status, 405);
    assert_eq!(browser.fetch("/").status, 200);

    let origin = format!("http://{gateway}");
    let answer = browser.ask("POST", "/oidc/logout", &[("Origin", &origin)]);
    assert_eq!(answer.status, 303);
    assert_eq!(browser.fetch("/").status, 401);
}

#[test]
fn one_can_log_out_without_the_provider_and_without_a_session() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let away = gateway(&provider, &echo, "after_logout: https://example.com/bye");
    let mut browser = Browser::new(&away, &provider);
    let answer = browser.ask("GET", "/oidc/logout", &[HERE]);
    assert_eq!(
        (answer.status, location(&answer)),
        (303, "https://example.com/bye")
    );

    provider.begin(Wrong::Away);
    let plain = gateway(&provider, &echo, "");
    let mut browser = Browser::new(&plain, &provider);
    let answer = browser.ask("GET", "/oidc/logout", &[HERE]);
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("logged out"), "{}", answer.text());
}
