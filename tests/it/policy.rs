//! What may stand beside any filter: for which requests it is, whether it enforces or only reports, how it is
//! called; and what is told of refusals.

use aws_lc_rs::hmac;
use edgeway_tests::{Echo, Gateway, Http2, Request, Setup};
use serde_json::{Value, json};

use crate::jwt::tokens::{SECRET, token};

/// bcrypt of `open sesame`, as cheap as can be.
const ANN: &str = "$2b$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy";

/// A gateway with a filter that refuses who has no password, as `beside` says.
fn setup(beside: &str) -> Setup {
    let yaml = format!(
        "
        listeners:
          http: {{ bind: '127.0.0.1:0' }}
          inner: {{ bind: '127.0.0.1:0' }}
        admin: {{ bind: '127.0.0.1:0' }}
        trusted_proxies: [127.0.0.1]
        filters: [access_log]
        routes:
          - name: all
            filters:
              - basic_auth: {{ users: {{ ann: '{ANN}' }} }}
                {beside}
            respond: {{ text: hello }}
        "
    );
    Gateway::setup(&yaml)
}

fn gateway(beside: &str) -> Gateway {
    setup(beside).start()
}

fn filters(gateway: &Gateway) -> Vec<Value> {
    let shown = Request::to(gateway.address_of("admin"), "GET", "/v1/filters").send();
    assert_eq!(shown.status, 200, "{}", shown.text());
    shown.json()["filters"].as_array().unwrap().clone()
}

fn filter(gateway: &Gateway, name: &str) -> Value {
    let all = filters(gateway);
    let found = all.iter().find(|filter| filter["name"] == name);
    found
        .unwrap_or_else(|| panic!("no {name} in {all:?}"))
        .clone()
}

fn metrics(gateway: &Gateway) -> String {
    let shown = Request::to(gateway.address_of("admin"), "GET", "/metrics").send();
    let kind = shown.header("content-type");
    assert_eq!(kind, Some("text/plain; version=0.0.4; charset=utf-8"));
    shown.text().to_owned()
}

/// The line of the access log for this target.
fn line(gateway: &Gateway, target: &str) -> Value {
    let log = gateway.wait_for_output(&format!("\"target\":\"{target}\""));
    let mut lines = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    lines.find(|line: &Value| line["target"] == target).unwrap()
}

/// The status of the answer to what is written as `GET /path` or `GET /path name: value`.
fn asked(gateway: &Gateway, request: &str) -> u16 {
    let mut parts = request.splitn(3, ' ');
    let (method, target) = (parts.next().unwrap(), parts.next().unwrap());
    let request = gateway.request(method, target);
    let header = parts.next().map(|header| header.split_once(": ").unwrap());
    let request = match header {
        Some(("host", host)) => request.host(host),
        Some((name, value)) => request.header(name, value),
        None => request,
    };
    request.send().status
}

/// Whom a condition holds for, and whom not.
#[track_caller]
fn tells_apart(condition: &str, inside: &[&str], outside: &[&str]) {
    let when = gateway(&format!("when: {{ {condition} }}"));
    let unless = gateway(&format!("unless: {{ {condition} }}"));
    let statuses = |request: &&str| (asked(&when, request), asked(&unless, request));
    for request in inside {
        assert_eq!(statuses(request), (401, 200), "{condition}: {request}");
    }
    for request in outside {
        assert_eq!(statuses(request), (200, 401), "{condition}: {request}");
    }
}

#[test]
fn a_filter_is_for_the_paths_of_its_condition_only() {
    let below = ["GET /admin", "GET /admin/x?y", "GET /%61dmin"];
    tells_apart("path: /admin", &below, &["GET /", "GET /administrator"]);
    tells_apart("path: { exact: /a }", &["GET /a"], &["GET /a/b"]);
    let several = "path: [/a, { exact: /b }, { regex: '[.]php$' }]";
    tells_apart(
        several,
        &["GET /a/b", "GET /b", "GET /x.php"],
        &["GET /b/c"],
    );
}

#[test]
fn a_filter_is_for_what_its_condition_says_of_the_head_only() {
    for (condition, inside, outside) in [
        ("method: [POST, PUT]", "PUT /", "GET /"),
        (
            "headers: { X-Tier: free }",
            "GET / x-tier: free",
            "GET / x-tier: gold",
        ),
        (
            "headers: { X-Key: { present: false } }",
            "GET /",
            "GET / x-key: 1",
        ),
        (
            "query: { debug: { present: true } }",
            "GET /?debug",
            "GET /?d=debug",
        ),
        (
            "cookies: { beta: { regex: '^[0-9]+$' } }",
            "GET / cookie: a=b; beta=7",
            "GET / cookie: beta=x",
        ),
        (
            "host: ['*.a.test', b.test]",
            "GET / host: x.a.test",
            "GET / host: a.test",
        ),
        (
            "host: ['*.a.test', b.test]",
            "GET / host: B.test:80",
            "GET / host: c.test",
        ),
        ("scheme: https", "GET / x-forwarded-proto: https", "GET /"),
        ("path: /a, method: POST", "POST /a", "GET /a"),
        ("path: /a, method: POST", "POST /a/b", "POST /b"),
    ] {
        tells_apart(condition, &[inside], &[outside]);
    }
}

#[test]
fn a_filter_is_for_the_clients_of_its_condition_only() {
    let inside = [
        "GET / x-forwarded-for: 10.1.2.3",
        "GET / x-forwarded-for: 2001:db8::1",
    ];
    let outside = ["GET /", "GET / x-forwarded-for: 11.1.2.3"];
    tells_apart("clients: [10.0.0.0/8, '2001:db8::/32']", &inside, &outside);
}

#[test]
fn a_condition_may_ask_for_the_listener() {
    let gateway = gateway("when: { listener: http }");
    let inner = Request::to(gateway.address_of("inner"), "GET", "/").send();
    assert_eq!((gateway.get("/").status, inner.status), (401, 200));
}

#[test]
fn when_and_unless_must_both_let_a_filter_be() {
    let gateway = gateway("when: { path: /a }\n                unless: { method: POST }");
    let statuses = ["GET /a", "POST /a", "GET /b"].map(|request| asked(&gateway, request));
    assert_eq!(statuses, [401, 200, 200]);
}

#[test]
fn a_condition_knows_what_filters_before_have_found_out_of_the_caller() {
    let yaml = format!(
        "
        routes:
          - filters:
              - jwt: {{ algorithms: [HS256], secret: {SECRET} }}
              - basic_auth: {{ users: {{ ann: '{ANN}' }} }}
                unless: {{ claims: {{ roles: admin, level: '3' }} }}
            respond: {{ text: hello }}
        "
    );
    let gateway = Gateway::start(&yaml);
    let ask = |claims: Value| {
        let token = token(claims);
        asked(&gateway, &format!("GET / authorization: Bearer {token}"))
    };
    let exp = json!(4_000_000_000_u32);
    assert_eq!(
        ask(json!({ "exp": exp, "roles": ["user", "admin"], "level": 3 })),
        200
    );
    assert_eq!(
        ask(json!({ "exp": exp, "roles": ["user"], "level": 3 })),
        401
    );
    assert_eq!(
        ask(json!({ "exp": exp, "roles": "admin", "level": 2 })),
        401
    );
}

#[test]
fn a_path_that_may_be_read_in_two_ways_gets_around_no_filter() {
    let gateway_when = gateway("when: { path: /admin }");
    let gateway_unless = gateway("unless: { path: /public }");
    for target in ["/x/..%2fadmin", "/admin;a=b/c", "/x%2f..%2f..%2fadmin"] {
        let status = asked(&gateway_when, &format!("GET {target}"));
        assert!([400, 401].contains(&status), "{target}: {status}");
    }
    for target in ["/public/..%2fadmin", "/public%2f..%2fadmin"] {
        let status = asked(&gateway_unless, &format!("GET {target}"));
        assert!([400, 401].contains(&status), "{target}: {status}");
    }
}

#[test]
fn a_filter_that_its_condition_keeps_out_sees_neither_the_response_nor_the_end() {
    let yaml = "
        filters:
          - access_log
          - headers: { response: { set: { X-Seen: 'yes' } } }
            when: { path: /seen }
          - access_log: { format: 'short {path}' }
            unless: { path: /quiet }
        routes: [respond: { text: hello }]
    ";
    let gateway = Gateway::start(yaml);
    for (target, seen) in [("/quiet", None), ("/seen", Some("yes"))] {
        assert_eq!(gateway.get(target).header("x-seen"), seen, "{target}");
    }
    for line in ["\"target\":\"/quiet\"", "short /seen"] {
        gateway.wait_for_output(line);
    }
    // It would stand right behind the other line of its request.
    assert!(!gateway.output().contains("short /quiet"));
}

#[test]
fn a_filter_that_only_reports_lets_pass_and_says_what_it_would_have_refused() {
    let gateway = gateway("mode: report\n                name: who");
    let answer = gateway.get("/a");
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    assert_eq!(answer.header("www-authenticate"), None);
    let line = line(&gateway, "/a");
    let reported = json!([{ "filter": "who", "status": 401, "rule": "missing", "reason": "no name and password" }]);
    assert_eq!(line["reported"], reported);
    assert_eq!(
        (&line["filter"], &line["reason"]),
        (&Value::Null, &Value::Null)
    );
    gateway.wait_for_log("would refuse: filter=who status=401 rule=missing reason=no name and password route=all client=127.0.0.1 request_id=");
    let who = filter(&gateway, "who");
    let counts = ["refused", "reported", "failed"].map(|name| &who[name]);
    assert_eq!(counts, [0, 1, 0], "{who}");
    assert_eq!(
        (&who["mode"], &who["route"]),
        (&json!("report"), &json!("all"))
    );
    let sample =
        r#"edgeway_filter_refusals_total{route="all",filter="who",rule="missing",mode="report"} 1"#;
    assert!(metrics(&gateway).contains(sample), "{}", metrics(&gateway));
}

#[test]
fn a_filter_that_is_told_to_enforce_does() {
    let gateway = gateway("mode: enforce");
    assert_eq!(gateway.get("/").status, 401);
    assert_eq!(filter(&gateway, "basic_auth")["mode"], "enforce");
}

#[test]
fn refusals_are_counted_and_the_last_ones_shown_over_reloads() {
    let setup = setup("name: door\n                unless: { path: /open }");
    let gateway = setup.file("note.txt", "").start();
    assert_eq!(gateway.get("/open").status, 200);
    let answer = gateway.get("/b");
    assert_eq!(answer.status, 401);
    assert!(gateway.reload_files());
    for _ in 0..30 {
        gateway.get("/c");
    }
    let door = filter(&gateway, "door");
    assert_eq!(
        (&door["refused"], &door["conditional"]),
        (&json!(31), &json!(true))
    );
    assert_eq!(
        door["rules"],
        json!([{ "rule": "missing", "refused": 31, "reported": 0 }])
    );
    let recent = door["recent"].as_array().unwrap();
    assert_eq!(recent.len(), 20);
    let last = &recent[0];
    assert_eq!(
        (&last["route"], &last["client"]),
        (&json!("all"), &json!("127.0.0.1"))
    );
    assert_eq!(
        (&last["status"], &last["reported"]),
        (&json!(401), &json!(false))
    );
    assert_eq!(last["reason"], "no name and password");
    assert!(
        last["request_id"].as_str().unwrap().len() == 32
            && last["at_ms"].as_u64() > Some(1_700_000_000_000)
    );
    assert!(
        metrics(&gateway)
            .contains(r#"{route="all",filter="door",rule="missing",mode="enforce"} 31"#)
    );
    let line = line(&gateway, "/b");
    assert_eq!(
        (&line["filter"], &line["reason"]),
        (&json!("door"), &json!("no name and password"))
    );
}

#[test]
fn filters_of_all_routes_are_shown_once_and_first() {
    let gateway = gateway("");
    let names: Vec<_> = filters(&gateway)
        .iter()
        .map(|filter| (filter["route"].clone(), filter["name"].clone()))
        .collect();
    assert_eq!(
        names,
        [
            (json!("*"), json!("access_log")),
            (json!("all"), json!("basic_auth"))
        ]
    );
}

#[test]
fn the_table_of_routes_shows_what_is_conditional_and_what_only_reports() {
    let shown = setup("mode: report\n                when: { path: /a }").run("routes");
    assert!(
        shown
            .output
            .contains("access_log > basic_auth (sometimes, report)"),
        "{}",
        shown.output
    );
}

/// A gateway that lets in what is signed with the key `key`, as `gateway/core/examples/webhook.rs` does.
fn webhook(echo: &Echo, more: &str, beside: &str) -> Gateway {
    let yaml = format!(
        "
        listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}
        admin: {{ bind: '127.0.0.1:0' }}
        upstreams: {{ echo: {{ endpoints: [{echo}] }} }}
        routes: [{{ filters: [{{ webhook: {{ secret: key{more} }} {beside} }}], upstream: echo }}]
        "
    );
    Gateway::setup(&yaml).program("examples/webhook").start()
}

fn signature(body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
    let digits = hmac::sign(&key, body);
    let digits = digits.as_ref().iter().map(|byte| format!("{byte:02x}"));
    format!("sha256={}", digits.collect::<String>())
}

#[test]
fn a_filter_may_read_the_whole_body_and_the_endpoint_gets_it_all_the_same() {
    let echo = Echo::start();
    let gateway = webhook(&echo, "", "");
    for length in [0, 1, 5_000, 64 * 1024] {
        let body = vec![b'x'; length];
        let signed = |method| {
            let request = gateway.request(method, "/app");
            request.header("X-Signature-256", signature(&body))
        };
        let answers = [
            signed("POST").body(body.clone()).send(),
            signed("PUT").chunks(body.chunks(1_000)).send(),
            signed("POST")
                .header("Expect", "100-continue")
                .body(body.clone())
                .send(),
        ];
        for answer in answers {
            assert_eq!(answer.status, 200, "{length}: {}", answer.text());
            assert_eq!(answer.json()["body_bytes"], length);
        }
        let http2 = Http2::open(gateway.address());
        let mut request = http2.request("POST", "/app", body.clone());
        let signature = signature(&body).parse().unwrap();
        request.headers_mut().insert("x-signature-256", signature);
        let answer = http2.send(request).unwrap();
        assert_eq!(answer.json()["body_bytes"], length);
    }
}

#[test]
fn a_body_that_a_filter_does_not_like_never_reaches_the_endpoint() {
    let echo = Echo::start();
    let gateway = webhook(&echo, ", max_body: 10B", "");
    let ask = || {
        let request = gateway.request("POST", "/app");
        request.header("X-Signature-256", signature(b"hello"))
    };
    let statuses = [
        ask().body("hello").send().status,
        ask().body("hallo").send().status,
        ask().body("more than ten").send().status,
        ask()
            .chunks([b"more".as_slice(), b" than ten"])
            .send()
            .status,
    ];
    assert_eq!(statuses, [200, 401, 413, 413]);
    assert_eq!(echo.stats().requests, 1);
    let rules = json!([
        { "rule": "forged", "refused": 1, "reported": 0 },
        { "rule": "", "refused": 2, "reported": 0 },
    ]);
    assert_eq!(filter(&gateway, "webhook")["rules"], rules);
}

#[test]
fn a_body_that_only_a_part_was_read_of_goes_nowhere_even_if_the_filter_only_reports() {
    let echo = Echo::start();
    let gateway = webhook(&echo, "", ", mode: report");
    let unsigned = |length: usize| {
        let request = gateway
            .request("POST", "/app")
            .header("X-Signature-256", signature(b""));
        request.chunks(vec![b'x'; length].chunks(10_000)).send()
    };
    let answer = unsigned(60_000);
    assert_eq!(
        (answer.status, &answer.json()["body_bytes"]),
        (200, &json!(60_000))
    );
    assert_eq!(unsigned(100_000).status, 413);
    assert_eq!(echo.stats().requests, 1);
    // One with a length was not touched.
    let request = gateway
        .request("POST", "/app")
        .header("X-Signature-256", signature(b""));
    let answer = request.body(vec![b'x'; 100_000]).send();
    assert_eq!(
        (answer.status, &answer.json()["body_bytes"]),
        (200, &json!(100_000))
    );
}

#[test]
fn filters_of_one_name_are_counted_each_for_itself() {
    let door = |mode: &str| {
        format!("{{ basic_auth: {{ users: {{ ann: '{ANN}' }} }}, name: door, mode: {mode} }}")
    };
    let (report, enforce) = (door("report"), door("enforce"));
    let gateway = Gateway::start(&format!(
        "
        listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}
        admin: {{ bind: '127.0.0.1:0' }}
        routes: [{{ name: all, filters: [request_id, {report}, {enforce}], respond: {{ text: hello }} }}]
        "
    ));
    assert_eq!(gateway.get("/").status, 401);
    let counts = |name| ["refused", "reported"].map(|key| filter(&gateway, name)[key].clone());
    assert_eq!(
        (counts("door"), counts("door#2")),
        ([json!(0), json!(1)], [json!(1), json!(0)])
    );
    let metrics = metrics(&gateway);
    let mut series: Vec<_> = metrics
        .lines()
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(series, _)| series)
        .collect();
    let all = series.len();
    series.sort_unstable();
    series.dedup();
    assert_eq!(series.len(), all, "{metrics}");
    assert!(
        !metrics.contains("request_id"),
        "it refuses nothing: {metrics}"
    );
}

#[test]
fn an_answer_that_is_no_refusal_is_not_counted_as_one() {
    let gateway = Gateway::start(
        "
        listeners: { http: { bind: '127.0.0.1:0' } }
        admin: { bind: '127.0.0.1:0' }
        routes: [{ filters: [{ allow_methods: { methods: [GET] }, mode: report }], respond: { text: hello } }]
        ",
    );
    assert_eq!(asked(&gateway, "OPTIONS /"), 200);
    assert_eq!(filter(&gateway, "allow_methods")["reported"], 0);
    assert_eq!(asked(&gateway, "DELETE /"), 200);
    assert_eq!(filter(&gateway, "allow_methods")["reported"], 1);
}
