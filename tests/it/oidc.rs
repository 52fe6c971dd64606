//! The filter `oidc`: users log in at a provider, and browsers keep who they are.

mod browser;
mod hostile;
mod login;
mod logout;
mod options;
mod session;

use edgeway_tests::{Echo, Gateway, Provider};

use self::browser::Browser;

/// Secrets that cookies are encrypted with.
const SECRET: &str = "a secret for cookies of enough bytes";

/// A gateway whose only route echoes, behind `oidc` with these keys besides. The provider knows it.
fn gateway(provider: &Provider, echo: &Echo, more: &str) -> Gateway {
    let gateway = Gateway::start(&behind(provider, echo, more));
    provider.allow(&format!("http://{gateway}/oidc/callback"));
    gateway
}

fn behind(provider: &Provider, echo: &Echo, more: &str) -> String {
    let comma = if more.is_empty() { "" } else { ", " };
    let secret = if more.contains(" secret:") || more.starts_with("secret:") {
        String::new()
    } else {
        format!(", secret: {SECRET}")
    };
    format!(
        "
        upstreams:
          echo: {{ endpoints: [{echo}] }}
        filters: [access_log]
        routes:
          - filters:
              - oidc: {{ issuer: \"{}\", client_id: \"{}\", client_secret: \"{}\"{secret}{comma}{more} }}
            upstream: echo
        ",
        provider.issuer(),
        Provider::CLIENT,
        Provider::SECRET,
    )
}

#[test]
fn who_has_logged_in_sees_the_page_that_was_wanted() {
    let (provider, echo) = (Provider::start(), Echo::start());
    let gateway = gateway(&provider, &echo, "forward: { sub: X-Auth-User }");
    let mut browser = Browser::new(&gateway, &provider);
    let page = browser.log_in("/orders/7?sort=up&q=a%20b");
    assert_eq!(page.status, 200);
    assert_eq!(page.json()["target"], "/orders/7?sort=up&q=a%20b");
    assert_eq!(page.received("x-auth-user"), ["ann"]);

    let again = browser.get("/other");
    assert_eq!(again.received("x-auth-user"), ["ann"]);
    assert_eq!(provider.asked("/authorize"), 1);
}
