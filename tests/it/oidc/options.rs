//! Keys with values that are not their defaults.

use edgeway_tests::{Answer, ClientBy, Echo, Gateway, Provider, Wrong};
use serde_json::json;

use super::{Browser, behind, browser::location, gateway};

/// What a gateway with these keys asks of the provider.
fn sent(more: &str) -> Answer {
    let (provider, echo) = (Provider::start(), Echo::start());
    let gateway = gateway(&provider, &echo, more);
    Browser::new(&gateway, &provider).get("/")
}

#[test]
fn scopes_and_parameters_are_asked_for() {
    let answer = sent("scopes: [openid, email], parameters: { prompt: login, x: a&b }");
    let place = location(&answer);
    assert!(place.contains("&scope=openid+email&"), "{place}");
    assert!(place.contains("&prompt=login&x=a%26b"), "{place}");
    assert!(location(&sent("")).contains("&scope=openid&"));
}

#[test]
fn the_public_url_is_where_the_provider_sends_browsers_back_to() {
    let answer = sent("public_url: https://app.example.com");
    let place = location(&answer);
    let back = "redirect_uri=https%3A%2F%2Fapp.example.com%2Foidc%2Fcallback&";
    assert!(place.contains(back), "{place}");
    let cookie = answer.header("Set-Cookie").unwrap();
    assert!(cookie.starts_with("__Host-"), "{cookie}");
}

#[test]
fn paths_and_the_cookie_have_other_names() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let more = "callback_path: /in, logout_path: /out, cookie: who";
    let gateway = gateway(&provider, &echo, more);
    provider.allow(&format!("http://{gateway}/in"));
    let mut browser = Browser::new(&gateway, &provider);
    let back = browser.begin("/");
    assert!(back.starts_with("/in?"), "{back}");
    assert_eq!(browser.come_back(&back).status, 200);
    assert!(
        browser.cookies().starts_with("who=1."),
        "{}",
        browser.cookies()
    );
    let answer = browser.ask("GET", "/out", &[("Sec-Fetch-Site", "none")]);
    assert_eq!(answer.status, 303);
    assert_eq!(browser.cookies(), "");
}

#[test]
fn userinfo_is_believed_if_it_is_about_the_same_user() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let more = "userinfo: true, forward: { email: X-Email }";
    let gateway = gateway(&provider, &echo, more);
    let page = Browser::new(&gateway, &provider).log_in("/");
    assert_eq!(page.received("x-email"), ["by-userinfo@example.com"]);
    // The ID token has the last word.
    provider.user(json!({ "sub": "ann", "email": "by-token@example.com" }));
    let page = Browser::new(&gateway, &provider).log_in("/");
    assert_eq!(page.received("x-email"), ["by-token@example.com"]);
    provider.begin(Wrong::OtherUserinfo);
    assert_eq!(Browser::new(&gateway, &provider).log_in("/").status, 400);
}

#[test]
fn the_tokens_themselves_are_told_to_the_upstream() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let more = "forward_tokens: { access_token: Authorization, id_token: X-Id-Token }";
    let gateway = gateway(&provider, &echo, more);
    let mut browser = Browser::new(&gateway, &provider);
    browser.log_in("/");
    let forged = [
        ("Authorization", "Bearer forged"),
        ("X-Id-Token", "forged"),
        ("X_Id_Token", "x"),
    ];
    let page = browser.ask("GET", "/", &forged);
    let token = page.received("authorization");
    assert!(
        token.len() == 1 && token[0].starts_with("Bearer access-"),
        "{token:?}"
    );
    let token = page.received("x-id-token");
    assert!(token.len() == 1 && token[0].starts_with("ey"), "{token:?}");
    assert_eq!(page.received("x_id_token"), [""; 0]);
}

#[test]
fn an_id_token_must_be_signed_as_configured_and_may_be_a_little_late() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let strict = gateway(&provider, &echo, "algorithms: [RS256]");
    assert_eq!(Browser::new(&strict, &provider).log_in("/").status, 403);
    provider.begin(Wrong::Expired);
    let lenient = gateway(&provider, &echo, "leeway: 2h");
    assert_eq!(Browser::new(&lenient, &provider).log_in("/").status, 200);
}

#[test]
fn a_claim_that_can_not_be_told_to_the_upstream_logs_nobody_in() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let gateway = gateway(&provider, &echo, "forward: { roles: X-Roles }");
    provider.user(json!({ "sub": "ann", "roles": ["user, admin"] }));
    assert_eq!(Browser::new(&gateway, &provider).log_in("/").status, 403);
}

#[test]
fn sessions_are_refreshed_so_long_before_the_end() {
    let (provider, echo) = (Provider::start(), Echo::start());
    // Due at half of their time at the earliest: after five seconds, but not with this.
    provider.lasting(10);
    let gateway = gateway(&provider, &echo, "session: { refresh_before: 1s }");
    let mut browser = Browser::new(&gateway, &provider);
    browser.log_in("/");
    std::thread::sleep(std::time::Duration::from_millis(6_500));
    assert_eq!(browser.fetch("/").status, 200);
    assert_eq!(provider.asked("/token"), 1);
}

#[test]
fn the_gateway_shows_who_it_is_as_the_provider_wants_it() {
    let (provider, echo) = (Provider::start(), Echo::start());
    provider.client_by(ClientBy::Post);
    let gateway = gateway(&provider, &echo, "");
    assert_eq!(Browser::new(&gateway, &provider).log_in("/").status, 200);

    provider.client_by(ClientBy::Name);
    let secret = format!(", client_secret: \"{}\"", Provider::SECRET);
    let yaml = behind(&provider, &echo, "").replace(&secret, "");
    let gateway = Gateway::start(&yaml);
    provider.allow(&format!("http://{gateway}/oidc/callback"));
    let mut browser = Browser::new(&gateway, &provider);
    assert_eq!(browser.log_in("/").status, 200);

    // A password that is wrong, or missing, is our own fault and no user's.
    provider.client_by(ClientBy::Basic);
    assert_eq!(Browser::new(&gateway, &provider).log_in("/").status, 503);
    gateway.wait_for_output("invalid_client");
}

#[test]
fn mistakes_are_told_where_they_are() {
    for (keys, place, message) in [
        ("secret: short", "secret", "can be guessed"),
        ("scopes: [email]", "scopes", "without `openid`"),
        ("algorithms: [HS256]", "algorithms", "no public key"),
        ("parameters: { state: x }", "state", "set by the filter"),
        ("callback_path: in", "callback_path", "expected a path"),
        (
            "callback_path: /x, logout_path: /x",
            "logout_path",
            "where one logs out",
        ),
        (
            "public_url: https://a.example/x",
            "public_url",
            "expected an origin",
        ),
        ("cookie: \"a b\"", "cookie", "expected letters"),
        ("forward: { sub: Cookie }", "forward", "where tokens stand"),
        (
            "forward_tokens: { id_token: Cookie }",
            "forward_tokens",
            "where the session stands",
        ),
        ("session: { idle: 0s }", "idle", "a second or more"),
        ("timeout: 0s", "timeout", "longer than nothing"),
    ] {
        let (provider, echo) = (Provider::start(), Echo::start());
        let said = Gateway::refused(&behind(&provider, &echo, keys));
        assert!(
            said.contains(message) && said.contains(place),
            "{keys}: {said}"
        );
        assert!(!said.contains(super::SECRET), "{said}");
    }
}
