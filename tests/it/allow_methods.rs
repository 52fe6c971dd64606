//! The filter `allow_methods`: requests pass by their method, and by no other word for one.

use edgeway_tests::{Answer, Echo, Gateway};

fn gateway(echo: &Echo, filters: &str) -> Gateway {
    Gateway::start(&format!(
        "
        upstreams: {{ echo: {{ endpoints: [{echo}] }} }}
        routes:
          - filters: [{filters}]
            upstream: echo
        "
    ))
}

fn asked(gateway: &Gateway, method: &str) -> Answer {
    gateway.request(method, "/").send()
}

#[test]
fn a_method_that_is_not_allowed_is_405_and_never_seen_by_the_upstream() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "allow_methods: { methods: [GET, POST] }");
    for method in ["PUT", "DELETE", "PATCH", "PURGE"] {
        let answer = asked(&gateway, method);
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("Allow"), Some("GET, POST, HEAD, OPTIONS"));
        assert_eq!(answer.json()["title"], "Method Not Allowed");
    }
    let options = asked(&gateway, "OPTIONS");
    assert_eq!((options.status, options.body.len()), (204, 0));
    assert_eq!(options.header("Allow"), Some("GET, POST, HEAD, OPTIONS"));
    assert_eq!(echo.stats().requests, 0);
    for method in ["GET", "HEAD", "POST"] {
        assert_eq!(asked(&gateway, method).status, 200, "{method}");
    }
    assert_eq!(echo.stats().requests, 3);
}

#[test]
fn other_words_for_a_method_are_dropped_or_judged() {
    let echo = Echo::start();
    let names = [
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
    ];
    let ask = |gateway: &Gateway, name: &str, target: &str| {
        let request = gateway.request("POST", target).header(name, "DELETE");
        request.body("x").send()
    };
    let dropping = gateway(&echo, "allow_methods: { methods: [POST] }");
    for name in names {
        let answer = ask(&dropping, name, "/?a=1&_method=DELETE&b=2");
        assert_eq!(answer.received(name), [""; 0], "{name}");
        assert_eq!(answer.json()["target"], "/?a=1&b=2");
    }
    let seen = echo.stats().requests;
    let judging = gateway(&echo, "allow_methods: { methods: [POST], override: judge }");
    for name in names {
        assert_eq!(ask(&judging, name, "/").status, 405, "{name}");
    }
    assert_eq!(ask(&judging, "X-None", "/?_method=delete").status, 405);
    assert_eq!(echo.stats().requests, seen);
    let both = gateway(
        &echo,
        "allow_methods: { methods: [POST, DELETE], override: judge }",
    );
    let answer = ask(&both, "X-HTTP-Method-Override", "/");
    assert_eq!(answer.received("x-http-method-override"), ["DELETE"]);
}

#[test]
fn what_browsers_ask_before_a_request_is_answered_above() {
    let echo = Echo::start();
    let gateway = gateway(
        &echo,
        "cors: { origins: [https://app.example.com], methods: [PUT] }, allow_methods: { methods: [PUT] }",
    );
    let request = gateway
        .request("OPTIONS", "/")
        .header("Access-Control-Request-Method", "PUT");
    let answer = request.header("Origin", "https://app.example.com").send();
    assert_eq!(answer.header("Access-Control-Allow-Methods"), Some("PUT"));
}

#[test]
fn other_spellings_of_the_same_words_are_no_way_around() {
    let echo = Echo::start();
    let gateway = |filter: &str| {
        Gateway::start(&format!(
            "
            requests: {{ underscore_headers: keep }}
            upstreams: {{ echo: {{ endpoints: [{echo}] }} }}
            routes: [{{ filters: [allow_methods: {{ {filter} }}], upstream: echo }}]
            "
        ))
    };
    let dropping = gateway("methods: [POST]");
    let judging = gateway("methods: [POST], override: judge");
    let post = |gateway: &Gateway, header: &str, target: &str| {
        let request = gateway.request("POST", target).header(header, "DELETE");
        request.body("x").send()
    };
    for header in [
        "X_HTTP_Method_Override",
        "X-HTTP_Method",
        "X_Method_Override",
    ] {
        let answer = post(&dropping, header, "/");
        assert_eq!(answer.received(header), [""; 0], "{header}");
        assert_eq!(post(&judging, header, "/").status, 405, "{header}");
    }
    for name in [".method", "%20_method", "+_method", "_method[]"] {
        let target = format!("/?a=1&{name}=DELETE&b=2");
        let answer = post(&dropping, "X_None", &target);
        assert_eq!(answer.json()["target"], "/?a=1&b=2", "{name}");
        assert_eq!(post(&judging, "X_None", &target).status, 405, "{name}");
    }
    // The last one counts for some.
    let twice = "/?_method=POST&_method=DELETE";
    assert_eq!(post(&judging, "X_None", twice).status, 405);
    let seen = echo.stats().requests;
    let pair = "/?a=1;_method=DELETE";
    assert_eq!(post(&dropping, "X_None", pair).status, 400);
    assert_eq!(post(&judging, "X_None", pair).status, 405);
    assert_eq!(echo.stats().requests, seen);
}

#[test]
fn one_that_only_reports_drops_nothing_and_says_what_it_would_have_dropped() {
    let echo = Echo::start();
    let gateway = gateway(
        &echo,
        "{ allow_methods: { methods: [POST] }, mode: report }",
    );
    let request = gateway.request("POST", "/?a=1&_method=DELETE");
    let answer = request.header("X-HTTP-Method-Override", "PUT").send();
    assert_eq!(answer.json()["target"], "/?a=1&_method=DELETE");
    assert_eq!(answer.received("X-HTTP-Method-Override"), ["PUT"]);
    gateway.wait_for_log("would refuse: filter=allow_methods status=400 rule=override");
}
