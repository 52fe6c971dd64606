//! The filter `csrf`: what pages of other sites make browsers do.

use edgeway_tests::{Answer, Echo, Gateway, Request, Upstream};
use serde_json::json;

use crate::jwt::tokens::{SECRET, token};

fn gateway(echo: &Echo, csrf: &str, more: &str) -> Gateway {
    Gateway::start(&format!(
        "
        trusted_proxies: [127.0.0.1]
        upstreams: {{ echo: {{ endpoints: [{echo}] }} }}
        filters:
          - csrf: {csrf}
            {more}
        routes:
          - match: {{ path: /echo }}
            upstream: echo
          - match: {{ path: /members }}
            upstream: echo
        "
    ))
}

fn post(gateway: &Gateway, headers: &[(&str, &str)]) -> Answer {
    let request = gateway.request("POST", "/echo").host("shop.example");
    with(request, headers).send()
}

fn with<'a>(request: Request<'a>, headers: &[(&str, &str)]) -> Request<'a> {
    headers.iter().fold(request, |request, (name, value)| {
        request.header(name, value)
    })
}

const EVIL: (&str, &str) = ("Origin", "https://evil.example");

#[test]
fn a_change_must_come_from_a_page_of_this_site() {
    let echo = Echo::start();
    let gateway = gateway(
        &echo,
        "{ trusted: [https://app.example, 'https://*.shop.test'] }",
        "",
    );
    for (headers, status) in [
        (&[("Sec-Fetch-Site", "same-origin")][..], 200),
        (&[("Sec-Fetch-Site", "cross-site"), EVIL], 403),
        (
            &[
                ("Sec-Fetch-Site", "same-site"),
                ("Origin", "https://x.shop.example"),
            ],
            403,
        ),
        (
            &[
                ("Sec-Fetch-Site", "cross-site"),
                ("Origin", "https://app.example"),
            ],
            200,
        ),
        (&[("Origin", "https://a.shop.test")], 200),
        (&[("Origin", "https://shop.test")], 403),
        (&[("Origin", "http://shop.example")], 200),
        (&[("Origin", "null")], 403),
        (&[("Referer", "https://shop.example/cart")], 200),
        (&[("Referer", "https://evil.example/")], 403),
        (&[], 200),
    ] {
        assert_eq!(post(&gateway, headers).status, status, "{headers:?}");
    }
    let passed = echo.stats().requests;
    assert_eq!(passed, 6);
    let refused = post(&gateway, &[EVIL]);
    assert_eq!(
        refused.json()["detail"],
        "This request does not come from a page of this site."
    );
    assert!(!refused.text().contains("evil"));
    let read = gateway.request("GET", "/echo").host("shop.example");
    assert_eq!(
        with(read, &[("Sec-Fetch-Site", "cross-site"), EVIL])
            .send()
            .status,
        200
    );
}

/// Whoever comes over https does not take http for the same.
#[test]
fn the_scheme_counts_where_it_is_known() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "{}", "");
    let secure = ("X-Forwarded-Proto", "https");
    assert_eq!(
        post(&gateway, &[secure, ("Origin", "https://shop.example")]).status,
        200
    );
    assert_eq!(
        post(&gateway, &[secure, ("Origin", "http://shop.example")]).status,
        403
    );
    let public = ("X-Forwarded-Host", "public.example");
    assert_eq!(
        post(&gateway, &[public, ("Origin", "https://public.example")]).status,
        200
    );
}

#[test]
fn who_says_nothing_can_be_refused_and_others_let_off() {
    let echo = Echo::start();
    let gateway = gateway(
        &echo,
        "{ unknown: refuse }",
        "unless: { headers: { X-Api-Key: secret } }",
    );
    assert_eq!(post(&gateway, &[]).status, 403);
    assert_eq!(post(&gateway, &[("X-Api-Key", "secret")]).status, 200);
    assert_eq!(post(&gateway, &[("X-Api-Key", "secret"), EVIL]).status, 200);
}

#[test]
fn a_websocket_of_another_site_is_refused() {
    let endpoint = Upstream::answers(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    );
    let gateway = Gateway::start(&format!(
        "
        upstreams: {{ app: {{ endpoints: [{endpoint}] }} }}
        routes: [{{ filters: [csrf: {{ trusted: [https://app.example] }}], upstream: app }}]
        "
    ));
    let shake = |origin: &str| {
        let mut connection = gateway.connect();
        connection.send(format!(
            "GET /chat HTTP/1.1\r\nHost: shop.example\r\nOrigin: {origin}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ));
        connection.head().status
    };
    assert_eq!(shake("https://evil.example"), 403);
    assert_eq!(endpoint.connections(), 0);
    assert_eq!(shake("http://shop.example"), 101);
    assert_eq!(shake("https://app.example"), 101);
}

/// The token that a visitor is given.
fn given(answer: &Answer, name: &str) -> String {
    let cookie = answer.header("Set-Cookie").unwrap();
    let (known, rest) = cookie.split_once('=').unwrap();
    assert_eq!(known, name);
    rest.split(';').next().unwrap().to_owned()
}

#[test]
fn a_token_goes_round_by_cookie_header_and_form() {
    let echo = Echo::start();
    let gateway = gateway(&echo, &format!("{{ token: {{ secret: {SECRET} }} }}"), "");
    let first = gateway.get("/echo?header=Cache-Control:public");
    let cookie = first.header("Set-Cookie").unwrap();
    assert!(
        cookie.ends_with("; Path=/; SameSite=Lax; Secure"),
        "{cookie}"
    );
    assert_eq!(first.header_all("Cache-Control"), ["public", "private"]);
    let token = given(&first, "__Host-csrf");
    let cookie = format!("theme=dark; __Host-csrf={token}");
    let kept = ("Cookie", cookie.as_str());
    let again = with(gateway.request("GET", "/echo"), &[kept]).send();
    assert_eq!(again.header("Set-Cookie"), None);

    assert_eq!(post(&gateway, &[kept]).status, 403);
    assert_eq!(post(&gateway, &[("X-CSRF-Token", &token)]).status, 403);
    assert_eq!(
        post(&gateway, &[kept, ("X-CSRF-Token", "wrong")]).status,
        403
    );
    let seen = echo.stats().requests;
    assert_eq!(
        post(&gateway, &[kept, ("X-CSRF-Token", &token)]).status,
        200
    );
    assert_eq!(
        post(&gateway, &[kept, ("X-CSRF-Token", &token), EVIL]).status,
        403
    );
    assert_eq!(echo.stats().requests, seen + 1);

    let form = |kind: &str, body: String| {
        let request = with(
            gateway.request("POST", "/echo"),
            &[kept, ("Content-Type", kind)],
        );
        request.body(body).send()
    };
    let urlencoded = "application/x-www-form-urlencoded";
    let body = format!("name=O%27Brien&csrf_token={token}");
    let answer = form(urlencoded, body.clone());
    // The upstream is sent the form all the same.
    assert_eq!(answer.json()["body_bytes"], body.len());
    let part = format!(
        "--x\r\nContent-Disposition: form-data; name=\"csrf_token\"\r\n\r\n{token}\r\n--x--\r\n"
    );
    let answer = form("multipart/form-data; boundary=x", part.clone());
    assert_eq!(answer.json()["body_bytes"], part.len());
    assert_eq!(form(urlencoded, "csrf_token=wrong".to_owned()).status, 403);
    let long = format!("a={}&csrf_token={token}", "x".repeat(70_000));
    assert_eq!(form(urlencoded, long).status, 413);
}

#[test]
fn the_names_can_be_others_and_only_the_gateway_tells_the_application() {
    let echo = Echo::start();
    let csrf = format!(
        "{{ token: {{ secret: {SECRET}, cookie: xsrf, header: X-XSRF, field: _csrf, forward: X-Form-Token }} }}"
    );
    let gateway = gateway(&echo, &csrf, "");
    let first = with(
        gateway.request("GET", "/echo"),
        &[("X-Form-Token", "forged"), ("X_Form_Token", "forged")],
    )
    .send();
    let token = given(&first, "xsrf");
    assert_eq!(first.received("x-form-token"), [&*token]);
    assert_eq!(first.received("x_form_token"), [""; 0]);
    let cookie = format!("xsrf={token}");
    let answer = post(&gateway, &[("Cookie", &cookie), ("X-XSRF", &token)]);
    assert_eq!(answer.received("x-form-token"), [&*token]);
    let request = gateway.request("POST", "/echo").header("Cookie", &cookie);
    let request = request.header("Content-Type", "application/x-www-form-urlencoded");
    assert_eq!(request.body(format!("_csrf={token}")).send().status, 200);
}

#[test]
fn the_token_of_one_is_no_token_of_another() {
    let echo = Echo::start();
    let gateway = Gateway::start(&format!(
        "
        upstreams: {{ echo: {{ endpoints: [{echo}] }} }}
        routes:
          - filters:
              - jwt: {{ algorithms: [HS256], secret: {SECRET} }}
              - csrf: {{ token: {{ secret: {SECRET}, cookie: xsrf }} }}
            upstream: echo
        "
    ));
    let of = |name: &str| token(json!({ "username": name, "sub": name }));
    let first = gateway.request("GET", "/").bearer(&of("ann")).send();
    let given = given(&first, "xsrf");
    let cookie = format!("xsrf={given}");
    let ask = |name: &str| {
        let request = gateway.request("POST", "/").bearer(&of(name));
        with(request, &[("Cookie", &cookie), ("X-CSRF-Token", &given)])
            .send()
            .status
    };
    assert_eq!(ask("ann"), 200);
    assert_eq!(ask("bob"), 403);
}

/// What is stored is for all, and the cookie is not.
#[test]
fn visitors_of_a_cached_page_are_given_tokens_of_their_own() {
    let echo = Echo::start();
    let gateway = Gateway::start(&format!(
        "
        upstreams: {{ echo: {{ endpoints: [{echo}] }} }}
        routes:
          - filters: [csrf: {{ token: {{ secret: {SECRET} }} }}]
            cache: {{ ttl: 1h }}
            upstream: echo
        "
    ));
    let tokens = [(); 3].map(|()| given(&gateway.get("/page"), "__Host-csrf"));
    assert_eq!(echo.stats().requests, 1);
    assert!(
        tokens[0] != tokens[1] && tokens[1] != tokens[2],
        "{tokens:?}"
    );
    let ask = |cookie: &str, token: &str| {
        let cookie = format!("__Host-csrf={cookie}");
        let request = gateway.request("POST", "/page");
        with(request, &[("Cookie", &cookie), ("X-CSRF-Token", token)])
            .send()
            .status
    };
    assert_eq!(ask(&tokens[1], &tokens[1]), 200);
    assert_eq!(ask(&tokens[1], &tokens[0]), 403);
}
