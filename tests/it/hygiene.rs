//! What a client may not say, whatever filters there are: who calls, what only servers say to programs, what can
//! be said once only; and what of a request no log may hold (T6, T10, T11, #87).

use edgeway_tests::{Answer, Echo, Gateway, Http2, Request};
use serde_json::json;

use crate::jwt::tokens::{SECRET, token};

/// bcrypt of `open sesame`, as cheap as can be.
const ANN: &str = "$2b$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy";

fn gateway(echo: &Echo, more: &str) -> Gateway {
    Gateway::start(&format!(
        "
        upstreams: {{ echo: {{ endpoints: [{echo}], max_fails: 0 }} }}
        routes:
          - match: {{ path: /jwt }}
            filters:
              - jwt:
                  algorithms: [HS256]
                  secret: {SECRET}
                  forward: {{ username: X-Auth-User, role: X-Auth-Role }}
            upstream: echo
          - match: {{ path: /basic }}
            filters:
              - basic_auth: {{ users: {{ ann: '{ANN}' }}, header: X-Basic-User }}
            upstream: echo
          - match: {{ path: /csrf }}
            filters:
              - csrf: {{ token: {{ secret: {SECRET}, forward: X-Form-Token }} }}
            upstream: echo
          - match: {{ path: /key }}
            filters:
              - api_key:
                  keys: [{{ id: acme, hash: 'sha256:{key}' }}]
                  forward: {{ id: X-Caller }}
            upstream: echo
          - match: {{ path: /asked }}
            filters:
              - forward_auth: {{ url: 'http://127.0.0.1:9/', response_headers: [X-Asked-User] }}
            upstream: echo
          - match: {{ path: /introspected }}
            filters:
              - introspect:
                  url: http://127.0.0.1:9/
                  client_id: gateway
                  client_secret: {SECRET}
                  forward: {{ scope: X-Scope }}
            upstream: echo
          - match: {{ path: /oidc }}
            filters:
              - oidc:
                  issuer: http://127.0.0.1:9
                  client_id: gateway
                  secret: {SECRET}
                  forward: {{ email: X-Auth-Email }}
            upstream: echo
          - match: {{ path: /plain }}
            upstream: echo
        {more}
        ",
        key = "0".repeat(64),
    ))
}

/// Headers by which the filters of [`gateway`] tell the upstream something.
const TOLD: [&str; 8] = [
    "X-Auth-User",
    "X-Auth-Role",
    "X-Basic-User",
    "X-Form-Token",
    "X-Caller",
    "X-Asked-User",
    "X-Scope",
    "X-Auth-Email",
];

/// Ways to write a name that some application takes for the same.
fn twins(name: &str) -> Vec<String> {
    let underscored = name.replace('-', "_");
    let first = name.replacen('-', "_", 1);
    vec![
        name.to_owned(),
        name.to_uppercase(),
        underscored.to_lowercase(),
        underscored,
        first,
    ]
}

/// What arrived under a name that WSGI and CGI make the same of.
fn arrived(answer: &Answer, name: &str) -> Vec<String> {
    let cgi = |name: &str| name.to_uppercase().replace('-', "_");
    let report = answer.json();
    let pairs = report["headers"].as_array().unwrap();
    let pairs = pairs
        .iter()
        .map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap()));
    let same = pairs.filter(|(known, _)| cgi(known) == cgi(name));
    same.map(|(_, value)| value.to_owned()).collect()
}

#[test]
fn nobody_but_the_gateway_says_who_calls() {
    let echo = Echo::start();
    for underscores in ["", "requests: { underscore_headers: keep }"] {
        let gateway = gateway(&echo, underscores);
        let forged = |target: &str| {
            let request = gateway.request("GET", target);
            let names = TOLD.into_iter().flat_map(twins);
            names.fold(request, |request, name| request.header(&name, "forged"))
        };
        let answer = forged("/plain").send();
        for name in TOLD {
            assert_eq!(arrived(&answer, name), [""; 0], "{name} {underscores}");
        }
        let answer = forged("/jwt")
            .bearer(&token(json!({ "username": "bob" })))
            .send();
        assert_eq!(arrived(&answer, "X-Auth-User"), ["bob"]);
        assert_eq!(
            arrived(&answer, "X-Auth-Role"),
            [""; 0],
            "the token says nothing of a role"
        );
        let answer = forged("/basic")
            .header("Authorization", "Basic YW5uOm9wZW4gc2VzYW1l")
            .send();
        assert_eq!(arrived(&answer, "X-Basic-User"), ["ann"]);
        let answer = forged("/csrf").send();
        assert_eq!(arrived(&answer, "X-Form-Token").len(), 1);
        assert_ne!(arrived(&answer, "X-Form-Token"), ["forged"]);
    }
}

/// T10: what a server tells a program is not for clients to say. CGI and WSGI make `HTTP_PROXY` of `Proxy`
/// (httpoxy), and some servers take `SCRIPT_NAME` from a header (gunicorn, 2650).
#[test]
fn what_only_a_server_says_to_a_program_is_dropped() {
    let echo = Echo::start();
    let names = [
        "Proxy",
        "Script-Name",
        "Path-Info",
        "Path-Translated",
        "Remote-User",
        "Remote-Addr",
    ];
    for underscores in ["", "requests: { underscore_headers: keep }"] {
        let gateway = gateway(&echo, underscores);
        for name in names {
            for twin in twins(name) {
                let request = gateway.request("GET", "/plain").header(&twin, "/admin");
                let answer = request.header("X-Kept", "1").send();
                assert_eq!(arrived(&answer, name), [""; 0], "{twin} {underscores}");
                assert_eq!(answer.received("x-kept"), ["1"]);
            }
        }
    }
}

/// RFC 9110, 5.3: of two lines, one reader takes the first, the other the last.
#[test]
fn what_can_be_said_once_only_is_refused_when_it_is_said_twice() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "");
    for (name, values) in [
        ("Authorization", ["Basic YTpi", "Bearer x"]),
        ("Content-Type", ["text/plain", "application/json"]),
        ("Origin", ["https://a.example", "https://b.example"]),
        ("Referer", ["https://a.example/", "https://b.example/"]),
        ("From", ["a@example.com", "b@example.com"]),
        ("Max-Forwards", ["1", "2"]),
        (
            "If-Modified-Since",
            [
                "Sat, 01 Jan 2022 00:00:00 GMT",
                "Sun, 02 Jan 2022 00:00:00 GMT",
            ],
        ),
        ("Host", ["a.example", "b.example"]),
    ] {
        let mut connection = gateway.connect();
        let lines: String = values
            .iter()
            .map(|value| format!("{name}: {value}\r\n"))
            .collect();
        let host = if name == "Host" { "" } else { "Host: a\r\n" };
        connection.send(format!("GET /plain HTTP/1.1\r\n{host}{lines}\r\n"));
        assert_eq!(connection.answer().status, 400, "{name}");
    }
    assert_eq!(echo.stats().requests, 0);
    // Lists may be in several lines, and one line is one.
    let request = gateway
        .request("GET", "/plain")
        .header("Accept", "a")
        .header("Accept", "b");
    let request = request.header("X-Own", "1").header("X-Own", "2");
    let answer = request
        .header("Cookie", "a=1")
        .header("Cookie", "b=2")
        .send();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.received("accept"), ["a", "b"]);
}

#[test]
fn the_same_holds_over_http2() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "");
    let client = Http2::open(gateway.address());
    let ask = |headers: &[(&'static str, &str)]| {
        let mut request = client.request("GET", "/plain", "");
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        client.send(request).unwrap()
    };
    assert_eq!(
        ask(&[("authorization", "a"), ("authorization", "b")]).status,
        400
    );
    let answer = ask(&[("proxy", "x"), ("x-auth-user", "forged"), ("x-kept", "1")]);
    assert_eq!(answer.status, 200);
    let report = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(
        report.contains("x-kept") && !report.contains("forged") && !report.contains("\"proxy\""),
        "{report}"
    );
}

/// T6: see also `forwarding.rs`.
#[test]
fn what_strangers_say_of_the_way_counts_for_no_decision() {
    let echo = Echo::start();
    let gateway = Gateway::start(&format!(
        "
        upstreams: {{ echo: {{ endpoints: [{echo}] }} }}
        routes:
          - filters:
              - security_headers
              - csrf: {{}}
              - headers: {{ response: {{ set: {{ X-Client: '{{client_ip}} {{scheme}} {{host}}' }} }} }}
            upstream: echo
        "
    ));
    let claims = |method: &str| {
        let request = gateway.request(method, "/").host("shop.example");
        let request = request
            .header("X-Forwarded-For", "203.0.113.9")
            .header("X-Real-IP", "203.0.113.9");
        let request = request.header("X-Forwarded-Proto", "https");
        request
            .header("X-Forwarded-Host", "evil.example")
            .header("Forwarded", "for=203.0.113.9")
    };
    let answer = claims("GET").send();
    assert_eq!(
        answer.header("X-Client"),
        Some("127.0.0.1 http shop.example")
    );
    assert_eq!(answer.header("Strict-Transport-Security"), None);
    let cross = claims("POST")
        .header("Origin", "https://evil.example")
        .send();
    assert_eq!(cross.status, 403);
}

#[test]
fn what_proxies_of_all_kinds_say_is_not_believed_of_strangers() {
    let echo = Echo::start();
    let names = [
        "X-Original-URL",
        "X-Rewrite-URL",
        "True-Client-IP",
        "X-Client-IP",
        "X-Cluster-Client-IP",
        "CF-Connecting-IP",
        "X-Original-Forwarded-For",
    ];
    for (trusted, arrive) in [("", false), ("trusted_proxies: [127.0.0.1]", true)] {
        let gateway = gateway(&echo, trusted);
        for name in names {
            let answer = gateway.request("GET", "/plain").header(name, "7").send();
            let seen = !arrived(&answer, name).is_empty();
            assert_eq!(seen, arrive, "{name}");
        }
    }
}

/// T11: neither in the log of requests nor in that of the gateway, whatever becomes of the request.
#[test]
fn no_secret_of_a_request_is_in_a_log() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "filters: [access_log]");
    let good = token(json!({ "username": "ann" }));
    let bad = format!("{good}tampered");
    let secrets = [
        good.as_str(),
        bad.as_str(),
        "YW5uOm9wZW4gc2VzYW1l",
        "c2VjcmV0OnNlY3JldA",
        "s3cret-cookie",
        "s3cret-query",
    ];
    let query = "access_token=s3cret-query&token=s3cret-query&code=s3cret-query&password=s3cret-query&api_key=s3cret-query";
    let mut number = 0;
    let mut ask = |request: Request<'static>| {
        number += 1;
        let request = request.header("User-Agent", format!("agent-{number}"));
        request
            .header("Cookie", "session=s3cret-cookie; __Host-csrf=s3cret-cookie")
            .send()
    };
    for target in ["/jwt", "/plain", "/nowhere", "/basic"] {
        let target = format!("{target}?{query}");
        for authorization in [
            format!("Bearer {good}"),
            format!("Bearer {bad}"),
            "Basic YW5uOm9wZW4gc2VzYW1l".to_owned(),
            "Basic c2VjcmV0OnNlY3JldA".to_owned(),
        ] {
            ask(gateway
                .request("GET", &target)
                .header("Authorization", authorization));
        }
    }
    ask(gateway
        .request("POST", "/csrf")
        .header("X-CSRF-Token", "s3cret-cookie"));
    ask(gateway
        .request("POST", "/csrf")
        .header("Referer", format!("https://evil.example/?{query}")));
    gateway.wait_for_output(&format!("agent-{number}\""));
    let logs = format!("{}{}", gateway.output(), gateway.log());
    for secret in secrets {
        assert!(!logs.contains(secret), "{secret} in\n{logs}");
    }
    assert!(logs.contains("access_token=***"), "{logs}");
}
