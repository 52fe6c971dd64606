//! What is going on: `GET /v1/live`, the page that shows it, and `edgeway top`.

mod browser;
mod page;
mod top;

use std::time::Duration;

use edgeway_tests::{Answer, Connection, Echo, Gateway, Request, eventually};
use serde_json::Value;

/// What there is to see: a route to two endpoints of which one is down, one that refuses, and one that answers itself.
fn configuration(echo: &Echo) -> String {
    format!(
        "
        listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}
        admin: {{ bind: '127.0.0.1:0' }}
        upstreams:
          shop:
            endpoints: [{echo}, '127.0.0.1:1']
            health: {{ path: /, interval: 100ms, unhealthy_after: 1, healthy_after: 1 }}
        routes:
          - name: shop
            match: {{ path: /shop/ }}
            cache: {{ ttl: 60s }}
            upstream: shop
          - name: closed
            match: {{ path: /closed/ }}
            filters: [{{ ip_access: {{ deny: [127.0.0.0/8] }} }}]
            respond: {{ text: never }}
          - name: <i>hello</i>
            match: {{ path: /hello }}
            respond: {{ text: hello }}
        "
    )
}

fn admin(gateway: &Gateway, target: &str) -> Answer {
    Request::to(gateway.address_of("admin"), "GET", target).send()
}

/// What is going on in a second.
fn once(gateway: &Gateway) -> Value {
    let answer = admin(gateway, "/v1/live?once=true");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let found = list
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["name"] == name);
    found.unwrap_or_else(|| panic!("no `{name}` in {list}"))
}

/// Waits until the endpoint that nobody listens at is known to be down.
fn wait_for_health(gateway: &Gateway) {
    eventually(Duration::from_secs(10), || {
        let shop = admin(gateway, "/v1/upstreams/shop").json();
        named(&shop["endpoints"], "127.0.0.1:1")["status"] == "unhealthy"
    });
}

#[test]
fn figures_are_those_of_the_last_second() {
    let echo = Echo::start();
    let gateway = Gateway::start(&configuration(&echo));
    wait_for_health(&gateway);
    let quiet = once(&gateway);
    assert_eq!(quiet["total"]["requests_per_s"], 0.0);
    assert_eq!(quiet["total"]["p99_ms"], Value::Null);
    let live = std::thread::scope(|scope| {
        let asked = scope.spawn(|| once(&gateway));
        // It takes its first reading when it is asked.
        while !asked.is_finished() {
            gateway.get("/shop/1");
            gateway.get("/hello");
            gateway.get("/closed/");
        }
        asked.join().unwrap()
    });
    let total = &live["total"];
    assert!(total["requests_per_s"].as_f64().unwrap() > 3.0, "{total}");
    assert!(total["classes"]["4xx"].as_f64().unwrap() > 0.5, "{total}");
    assert!(total["p50_ms"].as_f64().unwrap() <= total["p99_ms"].as_f64().unwrap());
    let hello = named(&live["routes"], "<i>hello</i>");
    assert!(hello["sent_bytes_per_s"].as_f64().unwrap() > 1.0, "{hello}");
    assert_eq!(hello["match"], "/hello[/*]");
    let cache = &live["caches"][0];
    assert!(cache["hit_ratio"].as_f64().unwrap() > 0.4, "{cache}");
    let refused = named(&live["filters"], "ip_access");
    assert!(
        refused["rules"][0]["refused_per_s"].as_f64().unwrap() > 0.5,
        "{refused}"
    );
    assert_eq!(live["refusals"][0]["filter"], "ip_access");
    assert_eq!(live["refused_clients"][0]["client"], "127.0.0.1");
    assert!(live["process"]["rss_bytes"].as_u64().unwrap() > 1 << 20);
    assert_eq!(live["configuration"]["revision"], 1);
    assert_eq!(live["serving"], "serving");
}

#[test]
fn an_endpoint_that_is_down_and_what_failed_there_have_their_reasons() {
    let gateway = Gateway::start(
        "
        listeners: { http: { bind: '127.0.0.1:0' } }
        admin: { bind: '127.0.0.1:0' }
        filters: [request_id]
        upstreams: { shop: { endpoints: ['127.0.0.1:1'], health: { path: /, interval: 100ms } } }
        routes: [{ name: all, match: { path: / }, upstream: shop }]
        ",
    );
    wait_for_health(&gateway);
    let answer = gateway.get("/");
    assert_eq!(answer.status, 502);
    let live = once(&gateway);
    let endpoint = &named(&live["upstreams"], "shop")["endpoints"][0];
    assert_eq!(endpoint["status"], "unhealthy");
    let reason = endpoint["check"]["reason"].as_str().unwrap();
    assert!(reason.contains("refused"), "{reason}");
    let failure = &live["failures"][0];
    assert_eq!(
        (&failure["status"], &failure["route"]),
        (&502.into(), &"all".into())
    );
    assert_eq!(
        failure["request_id"],
        answer.header("x-request-id").unwrap()
    );
    assert_ne!(failure["reason"], "");
}

#[test]
fn a_reload_shows_what_it_has_changed() {
    let echo = Echo::start();
    let gateway = Gateway::start(&configuration(&echo));
    assert!(gateway.reload(&configuration(&echo).replace("ttl: 60s", "ttl: 5s")));
    assert!(!gateway.reload("routes: 7"));
    let held = &once(&gateway)["configuration"];
    assert_eq!(
        (&held["revision"], &held["by"]),
        (&2.into(), &"signal".into())
    );
    assert_eq!(held["changes"][0]["path"], "routes[shop].cache.ttl");
    let attempts = held["attempts"].as_array().unwrap();
    let ok: Vec<_> = attempts
        .iter()
        .map(|one| one["ok"].as_bool().unwrap())
        .collect();
    assert_eq!(ok, [false, true, true]);
    assert_ne!(attempts[0]["reason"], Value::Null);
}

#[test]
fn all_who_look_are_told_once_a_second() {
    let gateway = Gateway::start(
        "
        listeners: { http: { bind: '127.0.0.1:0' } }
        admin: { bind: '127.0.0.1:0' }
        routes: [{ match: { path: / }, respond: { text: a } }]
        ",
    );
    let mut lookers = [(); 2].map(|()| {
        let mut connection = Connection::open(gateway.address_of("admin"));
        connection.send("GET /v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let head = connection.head();
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        (connection, String::new())
    });
    let moments = lookers.each_mut().map(|(connection, said)| {
        while said.matches("data: ").count() < 3 || !said.ends_with("\n\n") {
            said.push_str(&String::from_utf8(connection.chunk().unwrap()).unwrap());
        }
        let events = said.lines().filter_map(|line| line.strip_prefix("data: "));
        let moment = |event| {
            serde_json::from_str::<Value>(event).unwrap()["at_ms"]
                .as_u64()
                .unwrap()
        };
        events.map(moment).collect::<Vec<_>>()
    });
    let [one, other] = moments;
    assert!(
        one.windows(2).all(|pair| pair[0] + 500 < pair[1]),
        "{one:?}"
    );
    // They share what was read.
    assert!(
        one.iter().any(|moment| other.contains(moment)),
        "{one:?} {other:?}"
    );
}

#[test]
fn what_is_asked_wrongly_is_told() {
    let gateway = Gateway::start(&configuration(&Echo::start()));
    for (target, told) in [
        ("/v1/live?interval=10ms", "from `1s` to `60s`"),
        ("/v1/live?interval=2m", "from `1s` to `60s`"),
        ("/v1/live?every=2s", "unknown field `every`"),
        ("/page/mian.js", "did you mean `main.js`?"),
    ] {
        let answer = admin(&gateway, target);
        assert!(
            matches!(answer.status, 400 | 404),
            "{target}: {}",
            answer.status
        );
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(told), "{detail}");
    }
}

/// Has requests come for as long as something else is done.
fn under_load<T>(gateway: &Gateway, doing: impl FnOnce() -> T) -> T {
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                for target in ["/shop/1", "/shop/2?a", "/hello", "/closed/"] {
                    gateway.get(target);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let result = doing();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        result
    })
}
