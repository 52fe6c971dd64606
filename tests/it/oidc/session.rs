//! How long a session lasts, and how it is refreshed.

use std::{
    thread::{self, sleep},
    time::Duration,
};

use edgeway_tests::{Echo, PATIENCE, Provider, Wrong, eventually};
use serde_json::json;

use super::{Browser, behind, gateway};

/// The provider gives tokens that are due at once, but good for a while: half of a token's time is left when
/// it is refreshed at the earliest.
fn short() -> Provider {
    let provider = Provider::start();
    provider.lasting(6);
    provider
}

#[test]
fn a_session_is_refreshed_before_its_access_token_ends() {
    let (provider, echo) = (short(), Echo::start());
    let gateway = gateway(
        &provider,
        &echo,
        "forward_tokens: { access_token: X-Token }",
    );
    let mut browser = Browser::new(&gateway, &provider);
    let first = browser.log_in("/").received("x-token");
    assert_eq!(provider.asked("/token"), 1);
    eventually(PATIENCE, || browser.fetch("/").received("x-token") != first);
    assert_eq!(provider.asked("/token"), 2);
    // And the next one with the new refresh token.
    let second = browser.fetch("/").received("x-token");
    eventually(PATIENCE, || {
        browser.fetch("/").received("x-token") != second
    });
    assert_eq!(provider.asked("/token"), 3);
}

#[test]
fn requests_that_come_at_the_same_time_refresh_once() {
    let (provider, echo) = (Provider::start(), Echo::start());
    provider.lasting(10);
    let gateway = gateway(
        &provider,
        &echo,
        "forward_tokens: { access_token: X-Token }",
    );
    let mut browser = Browser::new(&gateway, &provider);
    browser.log_in("/");
    sleep(Duration::from_millis(5_200));
    let all: Vec<_> = (0..12)
        .map(|_| {
            let mut tab = browser.copy();
            thread::spawn(move || {
                let answer = tab.fetch("/");
                (answer.received("x-token"), tab)
            })
        })
        .collect();
    let mut all: Vec<_> = all.into_iter().map(|tab| tab.join().unwrap()).collect();
    assert!(
        all.iter()
            .all(|(token, _)| *token == all[0].0 && token.len() == 1)
    );
    assert_eq!(provider.asked("/token"), 2);
    // A request that was slow brings the old cookie once more.
    assert_eq!(browser.copy().fetch("/").status, 200);
    assert_eq!(provider.asked("/token"), 2);
    // With what they were given all can go on.
    sleep(Duration::from_millis(5_200));
    for (_, tab) in &mut all {
        assert_eq!(tab.fetch("/").status, 200);
    }
    assert_eq!(provider.asked("/token"), 3);
}

#[test]
fn a_provider_may_leave_a_refresh_token_good() {
    let (provider, echo) = (short(), Echo::start());
    provider.begin(Wrong::NoRotation);
    let gateway = gateway(
        &provider,
        &echo,
        "forward_tokens: { access_token: X-Token }",
    );
    let mut browser = Browser::new(&gateway, &provider);
    let mut token = browser.log_in("/").received("x-token");
    let mut forgotten = browser.copy();
    for refreshes in 1..3 {
        eventually(PATIENCE, || browser.fetch("/").received("x-token") != token);
        assert_eq!(provider.asked("/token"), 1 + refreshes);
        token = browser.fetch("/").received("x-token");
    }
    // A tab that has not heard of any catches up.
    assert_eq!(forgotten.fetch("/").received("x-token"), token);
    assert_eq!(provider.asked("/token"), 3);
}

#[test]
fn without_the_provider_a_session_lasts_as_long_as_its_access_token() {
    let (provider, echo) = (short(), Echo::start());
    let gateway = gateway(&provider, &echo, "timeout: 300ms");
    let mut browser = Browser::new(&gateway, &provider);
    browser.log_in("/");
    for wrong in [Wrong::Away, Wrong::Silent] {
        provider.begin(wrong);
        sleep(Duration::from_millis(3_200));
        // It is due, and can't be refreshed.
        assert_eq!(browser.fetch("/").status, 200, "{wrong:?}");
        eventually(PATIENCE, || browser.fetch("/").status == 503);
        let answer = browser.get("/");
        assert_eq!(answer.status, 503, "{wrong:?}");
        assert!(answer.header("Retry-After").is_some());
        provider.end(wrong);
        eventually(PATIENCE, || browser.fetch("/").status == 200);
    }
    assert_eq!(provider.asked("/authorize"), 1);
}

#[test]
fn a_session_that_the_provider_has_ended_is_over() {
    let (provider, echo) = (short(), Echo::start());
    let (here, other) = (gateway(&provider, &echo, ""), gateway(&provider, &echo, ""));
    let mut browser = Browser::new(&here, &provider);
    browser.log_in("/");
    let mut copy = Browser::new(&other, &provider);
    copy.jar = browser.jar.clone();
    browser.ask("POST", "/oidc/logout", &[("Sec-Fetch-Site", "same-origin")]);
    eventually(PATIENCE, || provider.asked("/revoke") == 1);
    // At a gateway that has not heard of it the copy ends with its access token.
    eventually(PATIENCE, || copy.fetch("/").status == 401);
    assert_eq!(copy.get("/").status, 302);
}

#[test]
fn without_a_refresh_token_a_session_ends_with_the_access_token() {
    let (provider, echo) = (Provider::start(), Echo::start());
    provider.lasting(2);
    provider.begin(Wrong::NoRefresh);
    let gateway = gateway(&provider, &echo, "");
    let mut browser = Browser::new(&gateway, &provider);
    assert_eq!(browser.log_in("/").status, 200);
    eventually(PATIENCE, || browser.fetch("/").status == 401);
    assert_eq!(provider.asked("/token"), 1);
    assert_eq!(browser.log_in("/again").json()["path"], "/again");
}

#[test]
fn a_refresh_for_somebody_else_ends_the_session() {
    let (provider, echo) = (short(), Echo::start());
    let gateway = gateway(&provider, &echo, "forward: { sub: X-Auth-User }");
    let mut browser = Browser::new(&gateway, &provider);
    browser.log_in("/");
    provider.begin(Wrong::SomebodyElse);
    eventually(PATIENCE, || browser.fetch("/").status == 401);
    gateway.wait_for_output("somebody else");
}

#[test]
fn a_session_ends_after_its_time_and_when_it_is_idle() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let old = gateway(&provider, &echo, "session: { lifetime: 4s }");
    let mut browser = Browser::new(&old, &provider);
    browser.log_in("/");
    assert!(browser.fetch("/").status == 200);
    eventually(PATIENCE, || browser.fetch("/").status == 401);

    let idle = gateway(&provider, &echo, "session: { idle: 3s }");
    let mut browser = Browser::new(&idle, &provider);
    browser.log_in("/");
    let mut forgotten = browser.copy();
    // In use it goes on for longer than that.
    for _ in 0..10 {
        assert_eq!(browser.fetch("/").status, 200);
        sleep(Duration::from_millis(400));
    }
    assert_eq!(browser.fetch("/").status, 200);
    assert_eq!(forgotten.fetch("/").status, 401);
}

#[test]
fn a_session_survives_a_restart_and_another_gateway_knows_it() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let one = gateway(&provider, &echo, "");
    let mut browser = Browser::new(&one, &provider);
    browser.log_in("/");
    drop(one);
    provider.begin(Wrong::Away);
    let other = gateway(&provider, &echo, "");
    let mut same = Browser::new(&other, &provider);
    same.jar = browser.jar;
    assert_eq!(same.fetch("/").status, 200, "without asking the provider");
}

#[test]
fn a_session_of_many_claims_is_kept_in_several_cookies() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let groups: Vec<_> = (0..600).map(|number| format!("group-{number}")).collect();
    provider.user(json!({ "sub": "ann", "groups": groups, "team": "a" }));
    let gateway = gateway(&provider, &echo, "forward: { team: X-Team }");
    let mut browser = Browser::new(&gateway, &provider);
    browser.jar.insert("theme".into(), "dark".into());
    let page = browser.log_in("/");
    assert_eq!(page.received("x-team"), ["a"]);
    assert!(browser.jar.len() > 3, "{}", browser.jar.len());
    // None of them is the application's business.
    assert_eq!(page.received("cookie"), ["theme=dark"]);

    browser.ask("POST", "/oidc/logout", &[("Sec-Fetch-Site", "same-origin")]);
    assert_eq!(browser.cookies(), "theme=dark");

    provider.user(json!({ "sub": "ann", "groups": vec!["x".repeat(100); 1_000] }));
    let answer = browser.log_in("/");
    assert_eq!(answer.status, 502, "too large for a browser");
}

#[test]
fn secrets_can_be_changed_one_after_the_other() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let old = "the old secret of at least 32 bytes";
    let new = "the new secret of at least 32 bytes";
    let gateway = gateway(&provider, &echo, &format!("secret: {old}"));
    let mut browser = Browser::new(&gateway, &provider);
    browser.log_in("/");
    assert!(gateway.reload(&behind(
        &provider,
        &echo,
        &format!("secret: [{new}, {old}]")
    )));
    assert_eq!(browser.fetch("/").status, 200);
    let mut later = Browser::new(&gateway, &provider);
    later.log_in("/");
    assert!(gateway.reload(&behind(&provider, &echo, &format!("secret: {new}"))));
    assert_eq!(browser.fetch("/").status, 401);
    assert_eq!(later.fetch("/").status, 200);
}
