//! What an attacker, or a provider that is wrong, can't do.

use edgeway_tests::{Echo, Gateway, Provider, Wrong};

use super::{Browser, gateway};

struct Site {
    provider: Provider,
    echo: Echo,
    gateway: Gateway,
}

impl Site {
    fn start() -> Self {
        let (provider, echo) = (Provider::start(), Echo::start());
        let gateway = gateway(&provider, &echo, "");
        Self {
            provider,
            echo,
            gateway,
        }
    }

    fn browser(&self) -> Browser {
        Browser::new(&self.gateway, &self.provider)
    }
}

#[test]
fn a_callback_can_not_be_replayed() {
    let site = Site::start();
    let mut browser = site.browser();
    let back = browser.begin("/");
    let mut thief = browser.copy();
    assert_eq!(browser.come_back(&back).status, 200);
    let again = browser.get(&back);
    assert_eq!(again.status, 400);
    assert!(again.text().contains("or is over"), "{}", again.text());
    assert!(
        again
            .header("Content-Type")
            .unwrap()
            .starts_with("text/html")
    );
    // Not even with the cookies of before.
    assert_eq!(thief.come_back(&back).status, 400);
    // Who was logged in still is.
    assert_eq!(browser.fetch("/").status, 200);
}

#[test]
fn a_login_that_another_browser_has_begun_is_refused() {
    let site = Site::start();
    let back = site.browser().begin("/");
    let mut victim = site.browser();
    assert_eq!(victim.come_back(&back).status, 400);
    // Nor does it help that the victim has a login of its own under way.
    victim.begin("/");
    assert_eq!(victim.come_back(&back).status, 400);
    assert_eq!(site.provider.asked("/token"), 0);
}

#[test]
fn the_code_of_another_login_is_refused() {
    let site = Site::start();
    let mut browser = site.browser();
    let (ours, theirs) = (browser.begin("/"), site.browser().begin("/"));
    let code = |back: &str| {
        back.split("code=")
            .nth(1)
            .unwrap()
            .split('&')
            .next()
            .unwrap()
            .to_owned()
    };
    let mixed = ours.replace(&code(&ours), &code(&theirs));
    assert_eq!(browser.come_back(&mixed).status, 400);
    assert_eq!(browser.fetch("/").status, 401);
}

#[test]
fn a_state_with_the_cookie_of_another_is_refused() {
    let site = Site::start();
    let mut browser = site.browser();
    let (first, second) = (browser.begin("/"), browser.begin("/"));
    let names = browser.logins();
    let values: Vec<_> = names.iter().map(|name| browser.jar[name].clone()).collect();
    browser.jar.insert(names[0].clone(), values[1].clone());
    browser.jar.insert(names[1].clone(), values[0].clone());
    assert_eq!(browser.come_back(&first).status, 400);
    assert_eq!(browser.come_back(&second).status, 400);
    assert_eq!(site.provider.asked("/token"), 0);
}

#[test]
fn a_callback_that_says_too_little_or_rubbish_is_refused() {
    let site = Site::start();
    let mut browser = site.browser();
    let back = browser.begin("/");
    let state = back
        .split("state=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap();
    let issuer = site.provider.issuer();
    for query in [
        String::new(),
        "?code=x".to_owned(),
        "?code=x&state=".to_owned(),
        "?code=x&state=short".to_owned(),
        format!("?code=x&state={}", "é".repeat(12)),
        format!("?code=x&state={}x", state.get(..12).unwrap()),
        format!("?code=x&state={state}&iss=http://evil.example"),
        format!("?code=&state={state}&iss={issuer}"),
    ] {
        // A login that was tried in vain is over.
        let answer = browser.copy().get(&format!("/oidc/callback{query}"));
        assert_eq!(answer.status, 400, "{query}");
    }
    for method in ["POST", "HEAD", "PUT"] {
        assert_eq!(
            browser.copy().ask(method, &back, &[]).status,
            405,
            "{method}"
        );
    }
    let odd = format!(
        "/oidc/callback?error=%0d%0aevil%22{}&state={state}&iss={issuer}",
        "x".repeat(500)
    );
    assert_eq!(browser.get(&odd).status, 502);
    assert_eq!(site.echo.stats().requests, 0);
}

#[test]
fn an_id_token_that_is_not_right_logs_nobody_in() {
    let site = Site::start();
    for (wrong, reason) in [
        (Wrong::Nonce, "nonce"),
        (Wrong::Issuer, "another issuer"),
        (Wrong::Audience, "another audience"),
        (Wrong::Party, "another client"),
        (Wrong::Expired, "expired"),
        (Wrong::Forged, "no key verifies the signature"),
        (Wrong::Unsigned, "the algorithm"),
    ] {
        site.provider.begin(wrong);
        let mut browser = site.browser();
        let answer = browser.log_in("/");
        assert_eq!(answer.status, 403, "{wrong:?}");
        assert_eq!(browser.jar.len(), 0, "{wrong:?}");
        site.gateway.wait_for_output(reason);
        assert!(!answer.text().contains(reason), "{}", answer.text());
        site.provider.end(wrong);
    }
    assert_eq!(site.echo.stats().requests, 0);
    assert_eq!(site.browser().log_in("/").status, 200);
}

#[test]
fn a_provider_that_is_mixed_up_with_another_is_not_given_the_code() {
    let site = Site::start();
    for wrong in [Wrong::MixedUp, Wrong::Nameless] {
        site.provider.begin(wrong);
        assert_eq!(site.browser().log_in("/").status, 400, "{wrong:?}");
        site.provider.end(wrong);
    }
    assert_eq!(site.provider.asked("/token"), 0);
}

#[test]
fn a_forged_session_is_none() {
    let site = Site::start();
    let mut browser = site.browser();
    browser.log_in("/");
    let (name, real) = browser.jar.pop_first().unwrap();
    let half = real.len() / 2;
    let (start, end) = real.split_at(half);
    for forged in [
        String::new(),
        "1.".to_owned(),
        "1.AAAA".to_owned(),
        "0.AAAA".to_owned(),
        "99999999999999999999.AAAA".to_owned(),
        real.replacen("1.", "2.", 1),
        real.replacen("1.", "", 1),
        start.to_owned(),
        format!("{start}A{end}"),
        format!("{}{}", start, end.to_uppercase()),
        format!("\"{real}"),
    ] {
        browser.jar.insert(name.clone(), forged.clone());
        assert_eq!(browser.fetch("/").status, 401, "{forged}");
    }
    browser.jar.insert(name.clone(), real);
    assert_eq!(browser.fetch("/").status, 200);
    // A login is no session.
    let mut other = site.browser();
    other.begin("/");
    let login = other.jar.pop_first().unwrap().1;
    other.jar.insert(name, format!("1.{login}"));
    assert_eq!(other.fetch("/").status, 401);
}

#[test]
fn an_upgrade_is_no_way_around() {
    let site = Site::start();
    let mut browser = site.browser();
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    assert_eq!(browser.ask("GET", "/", &headers).status, 401);
    assert_eq!(site.echo.stats().requests, 0);
}
