//! The filter `headers`: what upstreams and clients see.

use edgeway_tests::{Answer, Echo, Gateway};

/// A gateway whose route `/echo` has these filters, in the flow style.
fn gateway(echo: &Echo, filters: &str) -> Gateway {
    Gateway::start(&format!(
        "
        upstreams:
          echo: {{ endpoints: [{echo}] }}
        routes:
          - name: echoing
            match: {{ path: /echo }}
            filters: [{filters}]
            upstream: echo
          - match: {{ path: /here }}
            filters: [{filters}]
            respond: {{ text: here, headers: {{ X-Own: here, X-Internal-Own: here }} }}
        "
    ))
}

fn ask(gateway: &Gateway, headers: &[(&str, &str)]) -> Answer {
    let request = gateway.request("GET", "/echo");
    let add = |request: edgeway_tests::Request<'static>, (name, value): &(&str, &str)| {
        request.header(name, value)
    };
    headers.iter().fold(request, add).send()
}

#[test]
fn request_headers_are_removed_set_and_appended() {
    // #7, #9
    let echo = Echo::start();
    let gateway = gateway(
        &echo,
        "headers: { request: { \
           remove: [X-Debug, X-Internal-*], \
           set: { X-Tier: gold, X-New: here }, \
           set_if_absent: { Accept-Language: de, X-Lack: filled }, \
           append: { X-Trail: gateway } } }",
    );
    let answer = ask(
        &gateway,
        &[
            ("X-Debug", "1"),
            ("x-internal-a", "1"),
            ("X-INTERNAL-", "1"),
            ("X-Internals", "kept"),
            ("X-Tier", "silver"),
            ("X-Tier", "bronze"),
            ("Accept-Language", "fr"),
            ("X-Trail", "client"),
        ],
    );
    for gone in ["x-debug", "x-internal-a", "x-internal-"] {
        assert_eq!(answer.received(gone), [""; 0], "{gone}");
    }
    assert_eq!(answer.received("x-internals"), ["kept"]);
    assert_eq!(answer.received("x-tier"), ["gold"]);
    assert_eq!(answer.received("x-new"), ["here"]);
    assert_eq!(answer.received("accept-language"), ["fr"]);
    assert_eq!(answer.received("x-lack"), ["filled"]);
    assert_eq!(answer.received("x-trail"), ["client", "gateway"]);
    // Nothing of it is for the client.
    assert_eq!(answer.header("X-New"), None);
}

#[test]
fn response_headers_are_removed_set_and_appended() {
    let echo = Echo::start();
    let gateway = gateway(
        &echo,
        "headers: { response: { \
           remove: [X-Gone, X-Internal-*], \
           set: { X-Frame-Options: DENY, X-Set: ours }, \
           set_if_absent: { Cache-Control: no-store, X-There: ours }, \
           append: { Set-Cookie: b=2 } } }",
    );
    let target = "/echo?header=X-Gone:1&header=X-Internal-A:1&header=X-Internals:kept&header=X-Set:theirs\
                  &header=X-There:theirs&header=Set-Cookie:a=1";
    let answer = gateway.get(target);
    assert_eq!(answer.header("X-Gone"), None);
    assert_eq!(answer.header("X-Internal-A"), None);
    assert_eq!(answer.header("X-Internals"), Some("kept"));
    assert_eq!(answer.header("X-Frame-Options"), Some("DENY"));
    assert_eq!(answer.header("X-Set"), Some("ours"));
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    assert_eq!(answer.header("X-There"), Some("theirs"));
    assert_eq!(answer.header_all("Set-Cookie"), ["a=1", "b=2"]);
    assert_eq!(answer.received("x-frame-options"), [""; 0]);
}

#[test]
fn replies_of_the_gateway_are_edited_too() {
    let echo = Echo::start();
    let gateway = gateway(
        &echo,
        "headers: { response: { remove: [X-Internal-*], set: { X-Own: edited } } }",
    );
    let answer = gateway.get("/here");
    assert_eq!(answer.text(), "here");
    assert_eq!(answer.header("X-Own"), Some("edited"));
    assert_eq!(answer.header("X-Internal-Own"), None);
}

#[test]
fn refusals_below_and_unknown_paths_are_edited_too() {
    let gateway = Gateway::start(
        "
        filters:
          - headers: { response: { set: { X-Frame-Options: DENY } } }
        routes:
          - match: { path: /in }
            filters:
              - jwt: { algorithms: [HS256], secret: 0123456789abcdef0123456789abcdef }
            respond: { text: in }
        ",
    );
    for (target, status) in [("/in", 401), ("/elsewhere", 404), ("/%zz", 400)] {
        let answer = gateway.get(target);
        assert_eq!(answer.status, status, "{target}");
        assert_eq!(answer.header("X-Frame-Options"), Some("DENY"), "{target}");
    }
}

#[test]
fn values_come_from_the_request() {
    let echo = Echo::start();
    let values = [
        "client_ip",
        "peer_ip",
        "scheme",
        "host",
        "authority",
        "method",
        "path",
        "query",
        "target",
        "route",
        "header.x-in",
        "cookie.theme",
        "query.page",
    ];
    let set: Vec<_> = values
        .iter()
        .enumerate()
        .map(|(number, value)| format!("X-V{number}: '<{{{value}}}>'"))
        .collect();
    let gateway = gateway(
        &echo,
        &format!(
            "headers: {{ request: {{ set: {{ {} }} }} }}",
            set.join(", ")
        ),
    );
    let answer = gateway
        .request("GET", "//echo?page=a%20b&x=1")
        .host("shop.example:8080")
        .header("X-In", "given")
        .header("Cookie", "a=b; theme=dark")
        .send();
    let seen: Vec<_> = (0..values.len())
        .map(|number| answer.received(&format!("x-v{number}")).join("|"))
        .collect();
    let wanted = [
        "<127.0.0.1>",
        "<127.0.0.1>",
        "<http>",
        "<shop.example>",
        "<shop.example:8080>",
        "<GET>",
        "</echo>",
        "<page=a%20b&x=1>",
        "<//echo?page=a%20b&x=1>",
        "<echoing>",
        "<given>",
        "<dark>",
        "<a b>",
    ];
    assert_eq!(seen, wanted);
}

#[test]
fn a_header_can_be_renamed() {
    let echo = Echo::start();
    let gateway = gateway(
        &echo,
        "headers: { request: { remove: [X-Old], set: { X-New: '{header.x-old}' } } }",
    );
    let answer = ask(&gateway, &[("X-Old", "value"), ("X-New", "forged")]);
    assert_eq!(answer.received("x-old"), [""; 0]);
    assert_eq!(answer.received("x-new"), ["value"]);
    // Without a value there is no header, and the client's own does not survive.
    let answer = ask(&gateway, &[("X-New", "forged")]);
    assert_eq!(answer.received("x-new"), [""; 0]);
}

#[test]
fn a_value_can_not_break_out_of_its_header() {
    let echo = Echo::start();
    let gateway = gateway(
        &echo,
        "headers: { request: { set: { X-Page: '{query.page}' } }, response: { set: { X-Page: '{query.page}' } } }",
    );
    for target in [
        "/echo?page=a%0d%0aX-Admin:%201",
        "/echo?page=a%0aX-Admin:%201",
        "/echo?page=a%00b",
    ] {
        let answer = gateway.get(target);
        assert_eq!(answer.header("X-Admin"), None, "{target}");
        assert_eq!(answer.received("x-admin"), [""; 0], "{target}");
        assert_eq!(answer.received("x-page"), [""; 0], "{target}");
    }
}

#[test]
fn what_a_filter_sets_is_seen_by_those_below() {
    let echo = Echo::start();
    let gateway = gateway(
        &echo,
        "headers: { request: { set: { X-A: one } } }, headers: { request: { set: { X-B: '{header.x-a}' } } }",
    );
    assert_eq!(ask(&gateway, &[]).received("x-b"), ["one"]);
}

#[test]
fn responses_come_up_the_chain() {
    let echo = Echo::start();
    let gateway = gateway(
        &echo,
        "headers: { response: { append: { X-Trail: first } } }, headers: { response: { append: { X-Trail: second } } }",
    );
    for target in ["/echo", "/here"] {
        assert_eq!(
            gateway.get(target).header_all("X-Trail"),
            ["second", "first"],
            "{target}"
        );
    }
}
