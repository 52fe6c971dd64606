//! Requests, seen as they end.

use super::*;

/// A gateway with two routes, one of which hides a parameter of its own in its log.
fn watched() -> Gateway {
    Gateway::start(
        "listeners: { http: { bind: '127.0.0.1:0' } }\n\
         admin: { bind: '127.0.0.1:0' }\n\
         routes:\n\
         \x20 - name: shop\n\
         \x20   match: { path: /shop/ }\n\
         \x20   filters: [{ access_log: { secrets: [pin], to: { file: a.log } } }]\n\
         \x20   respond: { text: hello }\n\
         \x20 - { name: tea, match: { path: /tea }, respond: { status: 418, text: no } }\n",
    )
}

/// Begins to watch.
fn tail(gateway: &Gateway, query: &str) -> Connection {
    let mut connection = Connection::open(gateway.address_of("admin"));
    connection.send(format!(
        "GET /v1/tail{query} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    ));
    let head = connection.head();
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    connection
}

/// The next event: its type, if it has one, and its data.
fn event(connection: &mut Connection) -> (Option<String>, Value) {
    loop {
        let text = String::from_utf8(connection.chunk().unwrap()).unwrap();
        let event = text.lines().find_map(|line| line.strip_prefix("event: "));
        let data = text.lines().find_map(|line| line.strip_prefix("data: "));
        if let Some(data) = data {
            return (
                event.map(str::to_owned),
                serde_json::from_str(data).unwrap(),
            );
        }
    }
}

#[test]
fn a_request_is_shown_as_an_access_log_has_it_without_secrets() {
    let gateway = watched();
    let mut seen = tail(&gateway, "");
    gateway.get("/shop/1?token=abc&pin=1234&b=2");
    let (kind, request) = event(&mut seen);
    assert_eq!(kind, None);
    assert_eq!(request["target"], "/shop/1?token=***&pin=***&b=2");
    assert_eq!(
        (&request["method"], &request["status"]),
        (&json!("GET"), &json!(200))
    );
    assert_eq!(
        (&request["route"], &request["client"]),
        (&json!("shop"), &json!("127.0.0.1"))
    );
    assert!(request["duration_ms"].as_f64().unwrap() >= 0.0);
}

#[test]
fn only_what_was_asked_for_is_shown() {
    let gateway = watched();
    let queries = [
        "?route=tea",
        "?status=404,410-418",
        "?path=/t*",
        "?method=PUT&client=127.0.0.0/8",
    ];
    let mut all = queries.map(|query| tail(&gateway, query));
    gateway.get("/shop/1");
    gateway.request("PUT", "/tea").send();
    for (seen, query) in all.iter_mut().zip(queries) {
        assert_eq!(event(seen).1["target"], "/tea", "{query}");
    }
}

#[test]
fn what_is_more_than_the_rate_is_counted() {
    let gateway = watched();
    let mut seen = tail(&gateway, "?rate=1");
    for _ in 0..20 {
        gateway.get("/tea");
    }
    let (mut shown, mut missed) = (0, 0);
    while shown + missed < 20 {
        let (kind, data) = event(&mut seen);
        match kind.as_deref() {
            None => shown += 1,
            Some("missed") => missed += data["missed"].as_u64().unwrap(),
            Some(other) => panic!("{other}"),
        }
    }
    assert!(shown < 20 && missed > 0, "{shown} {missed}");
}

#[test]
fn what_makes_no_sense_is_told() {
    let gateway = watched();
    for (query, status, says) in [
        ("?status=6xx", 400, "expected a status such as `5xx`"),
        ("?client=here", 400, "expected a network"),
        ("?slower_than=fast", 400, "slower_than"),
        ("?rate=0", 400, "a rate is from 1 to 1000"),
        ("?rat=1", 400, "unknown field `rat`"),
        ("?method=a%20b", 400, "method"),
        ("?route=te", 404, "no route `te`: did you mean `tea`?"),
    ] {
        let answer = ask(&gateway, "GET", &format!("/v1/tail{query}")).send();
        problem(&answer, status, says);
    }
}

#[test]
fn who_watches_holds_up_nobody_who_asks_and_too_many_are_told() {
    let gateway = watched();
    let watching: Vec<_> = (0..32).map(|_| tail(&gateway, "")).collect();
    let more = ask(&gateway, "GET", "/v1/tail").send();
    problem(&more, 503, "32 are watching already");
    for _ in 0..100 {
        assert_eq!(ask(&gateway, "GET", "/livez").send().status, 200);
    }
    drop(watching);
    gateway.get("/tea");
    eventually(PATIENCE, || {
        let mut connection = Connection::open(gateway.address_of("admin"));
        connection.send("GET /v1/tail HTTP/1.1\r\nHost: localhost\r\n\r\n");
        connection.head().status == 200
    });
}
