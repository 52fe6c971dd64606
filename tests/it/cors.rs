//! The filter `cors`: which pages of other origins may call.

use edgeway_tests::{Answer, Echo, Gateway};

fn gateway(echo: &Echo, cors: &str) -> Gateway {
    Gateway::start(&format!(
        "
        upstreams:
          echo: {{ endpoints: [{echo}] }}
        filters:
          - cors: {{ {cors} }}
        routes:
          - match: {{ path: /echo }}
            upstream: echo
          - match: {{ path: /in }}
            filters:
              - jwt: {{ algorithms: [HS256], secret: 0123456789abcdef0123456789abcdef }}
            upstream: echo
        "
    ))
}

const APP: &str = "https://app.example.com";

fn from(gateway: &Gateway, target: &str, origin: &str) -> Answer {
    gateway
        .request("GET", target)
        .header("Origin", origin)
        .send()
}

fn preflight(gateway: &Gateway, target: &str, origin: &str) -> Answer {
    let request = gateway.request("OPTIONS", target).header("Origin", origin);
    request
        .header("Access-Control-Request-Method", "PUT")
        .send()
}

fn allowed(answer: &Answer) -> Option<&str> {
    answer.header("Access-Control-Allow-Origin")
}

#[test]
fn a_preflight_is_answered_with_what_is_allowed() {
    let echo = Echo::start();
    let gateway = gateway(
        &echo,
        "origins: [https://app.example.com], methods: [GET, PUT, DELETE], headers: [Content-Type, X-Shop], \
         expose: [X-Total], credentials: true, max_age: 2h",
    );
    let answer = preflight(&gateway, "/echo", APP);
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    assert_eq!(allowed(&answer), Some(APP));
    assert_eq!(
        answer.header("Access-Control-Allow-Methods"),
        Some("GET, PUT, DELETE")
    );
    assert_eq!(
        answer.header("Access-Control-Allow-Headers"),
        Some("Content-Type, X-Shop")
    );
    assert_eq!(
        answer.header("Access-Control-Allow-Credentials"),
        Some("true")
    );
    assert_eq!(answer.header("Access-Control-Max-Age"), Some("7200"));
    assert_eq!(echo.stats().requests, 0);
}

#[test]
fn what_is_not_configured_is_the_least() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "origins: [https://app.example.com]");
    let answer = preflight(&gateway, "/echo", APP);
    assert_eq!(
        answer.header("Access-Control-Allow-Methods"),
        Some("GET, HEAD, POST")
    );
    assert_eq!(answer.header("Access-Control-Allow-Headers"), None);
    assert_eq!(answer.header("Access-Control-Allow-Credentials"), None);
    assert_eq!(answer.header("Access-Control-Max-Age"), Some("600"));
    assert_eq!(
        from(&gateway, "/echo", APP).header("Access-Control-Expose-Headers"),
        None
    );
}

#[test]
fn a_response_says_what_a_page_may_read() {
    let echo = Echo::start();
    let gateway = gateway(
        &echo,
        "origins: [https://app.example.com], expose: [X-Total, X-Page], credentials: true",
    );
    let answer = from(&gateway, "/echo?header=Vary:Accept-Encoding", APP);
    assert_eq!(answer.status, 200);
    assert_eq!(allowed(&answer), Some(APP));
    assert_eq!(
        answer.header("Access-Control-Expose-Headers"),
        Some("X-Total, X-Page")
    );
    assert_eq!(
        answer.header("Access-Control-Allow-Credentials"),
        Some("true")
    );
    assert_eq!(answer.header("Access-Control-Allow-Methods"), None);
    assert_eq!(answer.header_all("Vary"), ["Accept-Encoding", "Origin"]);
}

#[test]
fn a_refusal_of_the_gateway_can_be_read_by_a_page() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "origins: [https://app.example.com]");
    for (target, status) in [("/in", 401), ("/nowhere", 404)] {
        let answer = from(&gateway, target, APP);
        assert_eq!(answer.status, status);
        assert_eq!(allowed(&answer), Some(APP), "{target}");
        assert_eq!(answer.header("Vary"), Some("Origin"), "{target}");
    }
    // A preflight carries no token, and needs none.
    assert_eq!(preflight(&gateway, "/in", APP).status, 204);
    assert_eq!(echo.stats().requests, 0);
}

#[test]
fn other_origins_are_not_allowed() {
    let echo = Echo::start();
    let gateway = gateway(
        &echo,
        "origins: [https://app.example.com, 'https://*.example.org'], credentials: true",
    );
    for origin in [
        "https://evil.example",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://app.example.com.evil.example",
        "https://evil-app.example.com",
        "https://example.org",
        "https://evilexample.org",
        "https://evil.example/.example.org",
        "null",
    ] {
        let answer = from(&gateway, "/echo", origin);
        assert_eq!((answer.status, allowed(&answer)), (200, None), "{origin}");
        assert_eq!(
            answer.header("Access-Control-Allow-Credentials"),
            None,
            "{origin}"
        );
        assert_eq!(answer.header("Vary"), Some("Origin"), "{origin}");
        let answer = preflight(&gateway, "/echo", origin);
        assert_eq!((answer.status, allowed(&answer)), (403, None), "{origin}");
    }
    for origin in [APP, "https://a.example.org", "https://a.b.example.org"] {
        assert_eq!(allowed(&from(&gateway, "/echo", origin)), Some(origin));
        assert_eq!(preflight(&gateway, "/echo", origin).status, 204, "{origin}");
    }
}

#[test]
fn a_star_allows_all_and_is_the_same_for_all() {
    let echo = Echo::start();
    let gateway = gateway(
        &echo,
        "origins: ['*'], methods: ['*'], headers: ['*'], expose: ['*']",
    );
    for origin in [APP, "https://other.example", "null"] {
        let answer = from(&gateway, "/echo", origin);
        assert_eq!(allowed(&answer), Some("*"));
        assert_eq!(answer.header("Vary"), None);
        assert_eq!(answer.header("Access-Control-Expose-Headers"), Some("*"));
    }
    let answer = preflight(&gateway, "/echo", APP);
    assert_eq!(answer.header("Access-Control-Allow-Methods"), Some("*"));
    assert_eq!(answer.header("Access-Control-Allow-Headers"), Some("*"));
    assert_eq!(allowed(&gateway.get("/echo")), Some("*"));
}

#[test]
fn what_the_upstream_says_about_cors_is_replaced() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "origins: [https://app.example.com]");
    let target =
        "/echo?header=Access-Control-Allow-Origin:*&header=Access-Control-Allow-Credentials:true";
    let answer = from(&gateway, target, APP);
    assert_eq!(allowed(&answer), Some(APP));
    assert_eq!(answer.header("Access-Control-Allow-Credentials"), None);
    let answer = from(&gateway, target, "https://evil.example");
    assert_eq!(allowed(&answer), None);
    assert_eq!(answer.header("Access-Control-Allow-Credentials"), None);
}

#[test]
fn any_other_options_is_for_the_upstream() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "origins: [https://app.example.com]");
    let plain = gateway.request("OPTIONS", "/echo").send();
    assert_eq!(plain.json()["method"], "OPTIONS");
    let no_preflight = gateway
        .request("OPTIONS", "/echo")
        .header("Origin", APP)
        .send();
    assert_eq!(no_preflight.json()["method"], "OPTIONS");
    assert_eq!(echo.stats().requests, 2);
}

#[test]
fn pages_in_a_sandbox_are_allowed_by_their_name_and_never_with_credentials() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "origins: ['null', https://app.example.com]");
    for (origin, seen) in [
        ("null", Some("null")),
        (APP, Some(APP)),
        ("https://b.example", None),
    ] {
        assert_eq!(allowed(&from(&gateway, "/echo", origin)), seen);
    }
}

#[test]
fn a_private_network_is_opened_only_where_that_is_said() {
    const ALLOWS: &str = "Access-Control-Allow-Private-Network";
    let echo = Echo::start();
    let asks = |gateway: &Gateway, origin: &str| {
        let request = gateway.request("OPTIONS", "/echo").header("Origin", origin);
        let request = request.header("Access-Control-Request-Method", "PUT");
        request
            .header("Access-Control-Request-Private-Network", "true")
            .send()
    };
    let open = gateway(
        &echo,
        "origins: [https://app.example.com], private_network: true",
    );
    let answer = asks(&open, APP);
    assert_eq!(answer.header(ALLOWS), Some("true"));
    let vary = answer.header_all("Vary").join(", ");
    assert!(
        vary.contains("access-control-request-private-network"),
        "{vary}"
    );
    assert_eq!(asks(&open, "https://evil.example").header(ALLOWS), None);
    assert_eq!(preflight(&open, "/echo", APP).header(ALLOWS), None);
    let target = format!("/echo?header={ALLOWS}:true");
    assert_eq!(from(&open, &target, APP).header(ALLOWS), None);
    let shut = gateway(&echo, "origins: [https://app.example.com]");
    assert_eq!(asks(&shut, APP).header(ALLOWS), None);
}

#[test]
fn what_would_open_a_site_to_everybody_is_refused_at_start() {
    for (cors, word) in [
        ("origins: ['*'], credentials: true", "credentials"),
        ("origins: ['null'], credentials: true", "`null`"),
        ("origins: ['*'], private_network: true", "private network"),
        ("origins: ['https://*.com']", "half of the world"),
        ("origins: ['https://*']", "expected an origin"),
    ] {
        let said = Gateway::refused(&format!(
            "
            routes:
              - filters: [cors: {{ {cors} }}]
                respond: {{ text: hello }}
            "
        ));
        assert!(said.contains(word), "{said}");
    }
}

/// It keeps nobody out, and would go on setting headers.
#[test]
fn it_can_not_be_told_to_only_report() {
    let said = Gateway::refused(
        "
        routes:
          - filters: [{ cors: { origins: ['*'] }, mode: report }]
            respond: { text: hello }
        ",
    );
    assert!(
        said.contains("`mode: report` has no effect on `cors`: it refuses nothing"),
        "{said}"
    );
}
