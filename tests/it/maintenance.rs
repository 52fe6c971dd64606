//! Closing everything, or a route, for maintenance: by the configuration, and while the gateway runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use edgeway_tests::{Answer, Echo, Gateway, Http2, Request};
use serde_json::{Value, json};

/// Two routes, one of them for those with a token alone, and what is said of maintenance.
fn configuration(all: &str, shop: &str) -> String {
    format!(
        "
        listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}
        admin: {{ bind: '127.0.0.1:0' }}
        trusted_proxies: [127.0.0.1]
        {all}
        filters: [request_id]
        routes:
          - name: shop
            match: {{ path: /shop/ }}
            filters:
              - cors: {{ origins: [https://app.example.com] }}
              - jwt: {{ algorithms: [HS256], secret: a-secret-of-enough-bytes-for-everybody }}
            respond: {{ text: shop }}
            {shop}
          - match: {{ path: /open/ }}
            respond: {{ text: open }}
        "
    )
}

fn gateway(all: &str, shop: &str) -> Gateway {
    Gateway::start(&configuration(all, shop))
}

fn call(gateway: &Gateway, method: &str, path: &str, body: &Value) -> Answer {
    let request = Request::to(gateway.address_of("admin"), method, path);
    if body.is_null() {
        return request.send();
    }
    request
        .header("Content-Type", "application/json")
        .body(body.to_string())
        .send()
}

#[track_caller]
fn say(gateway: &Gateway, path: &str, body: &Value) -> Value {
    let answer = call(gateway, "PUT", path, body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn look(gateway: &Gateway, path: &str) -> Value {
    let answer = call(gateway, "GET", path, &Value::Null);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[track_caller]
fn forget(gateway: &Gateway, path: &str) {
    assert_eq!(call(gateway, "DELETE", path, &Value::Null).status, 204);
}

/// The status for a client behind a proxy that is trusted.
fn status_for(gateway: &Gateway, path: &str, client: &str) -> u16 {
    let request = gateway.request("GET", path);
    request.header("X-Forwarded-For", client).send().status
}

fn statuses(gateway: &Gateway) -> [u16; 3] {
    ["/shop/", "/open/", "/none"].map(|path| gateway.get(path).status)
}

#[test]
fn everything_is_closed_by_the_configuration() {
    let gateway = gateway(
        "maintenance: { retry_after: 90s, detail: 'Back at noon.' }",
        "",
    );
    assert_eq!(statuses(&gateway), [503, 503, 503]);
    let mut connection = gateway.connect();
    for path in ["/open/", "/open/a?b", "/open/"] {
        let closed = connection.get(path);
        assert_eq!(closed.status, 503);
        assert_eq!(closed.header("retry-after"), Some("90"));
        assert_eq!(closed.header("cache-control"), Some("no-store"));
        assert_eq!(closed.json()["detail"], "Back at noon.");
        assert!(closed.header("x-request-id").is_some(), "{closed:?}");
    }
    let answer = Http2::open(gateway.address()).get("/open/");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.headers["retry-after"], "90");
    let call = Http2::open(gateway.address()).call("/a.B/C", b"");
    assert_eq!(call.headers["grpc-status"], "14");
    let said = "closed for maintenance: route=* said_by=configuration";
    gateway.wait_for_log(said);
    // What is wrong with a request is told as ever.
    let mut connection = gateway.connect();
    connection.send("GET /../a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(connection.answer().status, 400);
}

#[test]
fn what_is_kept_ready_closes_nothing() {
    let gateway = gateway(
        "maintenance: { on: false, status: 500 }",
        "maintenance: { on: false }",
    );
    assert_eq!(statuses(&gateway), [401, 200, 404]);
    say(&gateway, "/v1/maintenance", &json!({ "on": true }));
    assert_eq!(statuses(&gateway), [500, 500, 500]);
}

#[test]
fn a_route_is_closed_by_itself_and_its_guards_are_not_asked() {
    let gateway = gateway("", "maintenance: { status: 418 }");
    assert_eq!(statuses(&gateway), [418, 200, 404]);
    let request = gateway.request("GET", "/shop/");
    let closed = request.header("Origin", "https://app.example.com").send();
    assert_eq!(closed.status, 418);
    assert_eq!(closed.header("www-authenticate"), None);
    assert_eq!(
        closed.header("access-control-allow-origin"),
        Some("https://app.example.com")
    );
    assert_eq!(closed.json()["detail"], "Closed for maintenance.");
    assert_eq!(closed.header("retry-after"), None);
    assert_eq!(gateway.get("/shop").status, 418);
}

#[test]
fn clients_of_the_list_pass_and_nobody_who_only_claims_to_be_one() {
    let all = "maintenance: { allow: [192.0.2.0/24, '2001:db8::7'] }";
    let closed = gateway(all, "");
    for (client, status) in [
        ("192.0.2.9", 200),
        ("2001:db8::7", 200),
        ("2001:db8::8", 503),
        ("192.0.3.1", 503),
        ("192.0.2.9, 198.51.100.1", 503),
    ] {
        assert_eq!(status_for(&closed, "/open/", client), status, "{client}");
    }
    assert_eq!(closed.get("/open/").status, 503);
    let untrusted = configuration(all, "").replace("trusted_proxies: [127.0.0.1]", "");
    let untrusted = Gateway::start(&untrusted);
    assert_eq!(status_for(&untrusted, "/open/", "192.0.2.9"), 503);
}

#[test]
fn paths_that_are_excepted_stay_open_in_whatever_spelling_they_are_sent() {
    let closed = gateway(
        "maintenance: { except: [/open/health, { exact: /open/a }] }",
        "",
    );
    for (path, status) in [
        ("/open/health", 200),
        ("/open/health/x", 200),
        ("/open/%68ealth", 200),
        ("/open/healthy", 503),
        ("/open/a", 200),
        ("/open/a/b", 503),
        ("/open/health/../x", 503),
        ("/open/", 503),
    ] {
        assert_eq!(closed.get(path).status, status, "{path}");
    }
}

#[test]
fn a_route_that_is_closed_is_closed_for_what_falls_back_on_it() {
    let gateway = Gateway::setup(
        "
        listeners: { http: { bind: '127.0.0.1:0' } }
        admin: { bind: '127.0.0.1:0' }
        routes:
          - match: { path: /site/ }
            files: { alias: site, fallback: { route: app } }
          - name: app
            match: { path: /app/ }
            filters: [jwt: { algorithms: [HS256], secret: a-secret-of-enough-bytes-for-everybody }]
            respond: { text: app }
        ",
    )
    .file("site/page.html", "page")
    .start();
    let ask = || ["/site/page.html", "/site/other", "/app/"].map(|path| gateway.get(path).status);
    assert_eq!(ask(), [200, 401, 401]);
    say(&gateway, "/v1/maintenance/app", &json!({ "on": true }));
    assert_eq!(ask(), [200, 503, 503]);
    forget(&gateway, "/v1/maintenance/app");
    assert_eq!(ask(), [200, 401, 401]);
}

#[test]
fn a_page_is_for_browsers_and_error_pages_for_who_has_none() {
    let gateway = Gateway::setup(
        "
        maintenance: { page: closed.html }
        filters:
          - error_pages: { pages: [{ statuses: 503, html: 'general', text: '{detail}' }] }
        routes: [{ respond: { text: open } }]
        ",
    )
    .file("closed.html", "<h1>Closed {today}</h1>")
    .start();
    let ask = |accept: &str| {
        let request = gateway.request("GET", "/").header("Accept", accept);
        let answer = request.send();
        assert_eq!(answer.status, 503);
        answer.text().to_owned()
    };
    assert_eq!(ask("text/html, */*;q=0.1"), "<h1>Closed {today}</h1>");
    assert_eq!(ask("text/plain"), "Closed for maintenance.");
}

#[test]
fn a_call_closes_and_opens_everything_at_once() {
    let gateway = gateway("", "");
    let shown = look(&gateway, "/v1/maintenance");
    let expected = json!({ "route": "*", "on": false, "said_by": "default", "configured": false,
        "allow": [], "retry_after_s": null, "refused": 0 });
    assert_eq!(shown, json!({ "all": expected, "routes": [] }));
    let wish = json!({ "on": true, "allow": ["192.0.2.0/24"], "retry_after": "10m" });
    let said = say(&gateway, "/v1/maintenance", &wish);
    assert_eq!(
        (&said["on"], &said["said_by"]),
        (&json!(true), &json!("call"))
    );
    assert_eq!(statuses(&gateway), [503, 503, 503]);
    assert_eq!(gateway.get("/").header("retry-after"), Some("600"));
    assert_eq!(status_for(&gateway, "/open/", "192.0.2.1"), 200);
    let shown = look(&gateway, "/v1/maintenance");
    assert_eq!(shown["all"]["refused"], 4);
    assert_eq!(shown["all"]["allow"], json!(["192.0.2.0/24"]));
    assert_eq!(shown["all"]["retry_after_s"], 600);
    assert!(shown["all"]["said_at_ms"].is_u64(), "{shown}");
    gateway.wait_for_log("maintenance: route=* on=true by=127.0.0.1:");
    say(&gateway, "/v1/maintenance", &json!({ "on": false }));
    assert_eq!(statuses(&gateway), [401, 200, 404]);
    say(&gateway, "/v1/maintenance", &json!({ "on": true }));
    assert_eq!(status_for(&gateway, "/open/", "192.0.2.1"), 503);
    forget(&gateway, "/v1/maintenance");
    assert_eq!(statuses(&gateway), [401, 200, 404]);
    assert_eq!(
        look(&gateway, "/v1/maintenance")["all"]["said_by"],
        "default"
    );
}

#[test]
fn a_call_closes_one_route_and_wins_over_the_configuration() {
    let gateway = gateway("", "maintenance: { on: true, retry_after: 5s }");
    assert_eq!(statuses(&gateway), [503, 200, 404]);
    say(&gateway, "/v1/maintenance/shop", &json!({ "on": false }));
    assert_eq!(statuses(&gateway), [401, 200, 404]);
    let shown = look(&gateway, "/v1/maintenance/shop");
    assert_eq!(
        (&shown["on"], &shown["configured"]),
        (&json!(false), &json!(true))
    );
    say(
        &gateway,
        "/v1/maintenance/%2Fopen%2F*",
        &json!({ "on": true }),
    );
    assert_eq!(statuses(&gateway), [401, 503, 404]);
    let routes = look(&gateway, "/v1/maintenance")["routes"].clone();
    let names: Vec<_> = routes
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["route"])
        .collect();
    assert_eq!(names, ["shop", "/open/*"]);
    // What the call does not say is as it was written.
    say(&gateway, "/v1/maintenance/shop", &json!({ "on": true }));
    assert_eq!(gateway.get("/shop/").header("retry-after"), Some("5"));
    forget(&gateway, "/v1/maintenance/shop");
    forget(&gateway, "/v1/maintenance/%2Fopen%2F*");
    assert_eq!(statuses(&gateway), [503, 200, 404]);
    assert_eq!(
        look(&gateway, "/v1/maintenance/shop")["said_by"],
        "configuration"
    );
}

#[test]
fn what_a_call_has_said_outlives_a_reload() {
    let gateway = gateway("", "");
    say(
        &gateway,
        "/v1/maintenance",
        &json!({ "on": true, "retry_after": "7s" }),
    );
    say(&gateway, "/v1/maintenance/shop", &json!({ "on": true }));
    assert!(gateway.reload(&configuration("maintenance: { on: false }", "")));
    assert_eq!(statuses(&gateway), [503, 503, 503]);
    assert_eq!(gateway.get("/").header("retry-after"), Some("7"));
    gateway.wait_for_log("closed for maintenance: route=* said_by=call");
    forget(&gateway, "/v1/maintenance");
    assert_eq!(statuses(&gateway), [503, 200, 404]);
    // The route may be gone for a while.
    let elsewhere = configuration("", "").replace("name: shop", "name: other");
    assert!(gateway.reload(&elsewhere));
    assert_eq!(statuses(&gateway), [401, 200, 404]);
    assert!(gateway.reload(&configuration("", "")));
    assert_eq!(statuses(&gateway), [503, 200, 404]);
    let written = configuration("maintenance: { on: true }", "");
    forget(&gateway, "/v1/maintenance/shop");
    assert!(gateway.reload(&written));
    assert_eq!(statuses(&gateway), [503, 503, 503]);
    assert!(gateway.reload(&configuration("", "")));
    assert_eq!(statuses(&gateway), [401, 200, 404]);
}

#[test]
fn a_call_that_makes_no_sense_changes_nothing() {
    let gateway = gateway("", "");
    for (path, body, status, says) in [
        ("/v1/maintenance", "{}", 400, "missing field `on`"),
        ("/v1/maintenance", r#"{"on": "yes"}"#, 400, "boolean"),
        (
            "/v1/maintenance",
            r#"{"on": true, "allow": ["x"]}"#,
            400,
            "expected a network",
        ),
        (
            "/v1/maintenance",
            r#"{"on": true, "allow": ["file:/etc/passwd"]}"#,
            400,
            "expected a network",
        ),
        (
            "/v1/maintenance",
            r#"{"on": true, "retry_after": "5"}"#,
            400,
            "length of time",
        ),
        (
            "/v1/maintenance",
            r#"{"on": true, "retry": "5s"}"#,
            400,
            "unknown field `retry`",
        ),
        (
            "/v1/maintenance?persist=true",
            r#"{"on": true}"#,
            400,
            "`persist` has no meaning",
        ),
        (
            "/v1/maintenance/shpo",
            r#"{"on": true}"#,
            404,
            "there is no route `shpo`",
        ),
    ] {
        let request = Request::to(gateway.address_of("admin"), "PUT", path);
        let request = request.header("Content-Type", "application/json");
        let answer = request.body(body).send();
        assert_eq!(answer.status, status, "{body}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(says), "{body}: {detail}");
    }
    assert_eq!(
        call(&gateway, "POST", "/v1/maintenance", &json!({ "on": true })).status,
        405
    );
    assert_eq!(
        call(&gateway, "DELETE", "/v1/maintenance/none", &Value::Null).status,
        404
    );
    assert_eq!(statuses(&gateway), [401, 200, 404]);
}

#[test]
fn metrics_tell_what_is_closed() {
    let gateway = gateway("", "maintenance: {}");
    assert_eq!(statuses(&gateway), [503, 200, 404]);
    let request = Request::to(gateway.address_of("admin"), "GET", "/metrics");
    let text = request.send().text().to_owned();
    for line in [
        "# TYPE edgeway_maintenance gauge\n",
        "\nedgeway_maintenance{route=\"*\"} 0\n",
        "\nedgeway_maintenance{route=\"shop\"} 1\n",
        "\nedgeway_maintenance_refusals_total{route=\"shop\"} 1\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(
        !text.contains("edgeway_maintenance{route=\"/open/*\""),
        "{text}"
    );
}

#[test]
fn while_it_is_closed_and_opened_every_request_is_answered_one_way_or_the_other() {
    let echo = Echo::start();
    let gateway = Gateway::start(&format!(
        "
        listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}
        admin: {{ bind: '127.0.0.1:0' }}
        upstreams: {{ echo: {{ endpoints: [{echo}] }} }}
        routes: [{{ upstream: echo }}]
        "
    ));
    let stop = AtomicBool::new(false);
    let (open, closed) = thread::scope(|scope| {
        scope.spawn(|| {
            let mut on = false;
            while !stop.load(Ordering::Relaxed) {
                on = !on;
                say(&gateway, "/v1/maintenance", &json!({ "on": on }));
            }
        });
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = gateway.connect();
                    let ask = || {
                        connection
                            .request("POST", "/")
                            .body("some body")
                            .send()
                            .status
                    };
                    let statuses: Vec<_> = std::iter::repeat_with(ask).take(250).collect();
                    statuses
                })
            })
            .collect();
        let statuses = clients.into_iter().map(|client| client.join());
        let statuses: Vec<_> = statuses.collect();
        stop.store(true, Ordering::Relaxed);
        let statuses: Vec<_> = statuses.into_iter().flat_map(Result::unwrap).collect();
        let count = |status| statuses.iter().filter(|one| **one == status).count();
        (count(200), count(503))
    });
    assert_eq!(open + closed, 1000);
    assert!(open > 0 && closed > 0, "{open} {closed}");
    assert_eq!(echo.stats().requests, open as u64);
}
