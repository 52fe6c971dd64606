//! The gateway as a whole: how it is, probes, taking it out and stopping it, logs, routes, limits, certificates.

use super::*;

fn look(gateway: &Gateway, path: &str) -> Value {
    let answer = ask(gateway, "GET", path).send();
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// POST without a body: it says that it is JSON all the same, which no form can.
fn post(gateway: &Gateway, path: &str) -> Answer {
    let request = ask(gateway, "POST", path);
    request.header("Content-Type", "application/json").send()
}

fn serving(more: &str) -> Gateway {
    Gateway::start(&format!(
        "listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}\n\
         admin: {{ bind: '127.0.0.1:0' }}\n{more}"
    ))
}

const HELLO: &str =
    "routes: [{ name: hello, match: { path: /hello }, respond: { text: hello } }]\n";

#[test]
fn the_status_tells_what_has_come_of_requests_and_who_is_up() {
    let a = Endpoint::start("a");
    let gateway = gateway(&format!(
        "endpoints: ['{a}', '127.0.0.1:1'], health: {{ path: /healthz, interval: 50ms, unhealthy_after: 1 }}"
    ));
    eventually(PATIENCE, || {
        look(&gateway, "/v1/status")["upstreams"][0]["up"] == 1
    });
    for _ in 0..3 {
        assert_eq!(gateway.get("/").status, 200);
    }
    eventually(PATIENCE, || {
        look(&gateway, "/v1/status")["requests"]["total"] == 3
    });
    let status = look(&gateway, "/v1/status");
    assert_eq!(status["state"], "serving");
    assert_eq!(status["pid"], gateway.pid());
    assert_eq!(status["revision"], 1);
    assert_eq!(status["maintenance"], false);
    assert_eq!(status["requests"]["failed"], 0);
    assert_eq!(
        status["upstreams"][0],
        json!({ "name": "pool", "endpoints": 2, "up": 1 })
    );
    assert_eq!(status["listeners"][0]["name"], "http");
    let file = status["files"][0].as_str().unwrap();
    assert!(file.ends_with("/edgeway.yaml"), "{file}");
}

#[test]
fn a_gateway_that_drains_answers_all_but_is_not_ready_until_that_is_taken_back() {
    let gateway = serving(HELLO);
    let closes = |answer: &Answer| {
        assert_eq!(answer.status, 200);
        answer.header("connection") == Some("close")
    };
    let mut kept = gateway.connect();
    assert!(!closes(&kept.get("/hello")));
    assert_eq!(look(&gateway, "/readyz"), json!({ "status": "serving" }));
    let drained = post(&gateway, "/v1/drain");
    assert_eq!(
        (drained.status, drained.json()),
        (200, json!({ "status": "draining" }))
    );
    for probe in ["/readyz", "/healthz"] {
        problem(&ask(&gateway, "GET", probe).send(), 503, "draining");
    }
    let verbose = ask(&gateway, "GET", "/readyz?verbose").send();
    assert_eq!(verbose.status, 503);
    let checks = verbose.json()["checks"].clone();
    let failed = checks
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["ok"] == false);
    assert_eq!(failed.unwrap()["name"], "not draining");
    assert_eq!(look(&gateway, "/livez")["status"], "draining");
    // Who was here before and who comes now is answered once more, and told to go.
    assert!(closes(&kept.get("/hello")));
    kept.expect_close();
    let mut new = gateway.connect();
    assert!(closes(&new.get("/hello")));
    let back = ask(&gateway, "DELETE", "/v1/drain").send();
    assert_eq!(
        (back.status, back.json()),
        (200, json!({ "status": "serving" }))
    );
    assert_eq!(look(&gateway, "/readyz")["status"], "serving");
    let mut again = gateway.connect();
    for _ in 0..2 {
        assert!(!closes(&again.get("/hello")));
    }
}

#[test]
fn a_call_stops_the_gateway_as_a_signal_does() {
    let a = Endpoint::start("a");
    let mut gateway = gateway(&format!("endpoints: [{a}]"));
    a.slow(Duration::from_secs(1));
    let slow = under_way(&gateway, &a);
    let answer = post(&gateway, "/v1/drain?stop=true");
    assert_eq!(
        (answer.status, answer.json()),
        (202, json!({ "status": "stopping" }))
    );
    assert_eq!(slow.join().unwrap().status, 200);
    assert!(gateway.wait().success());
}

#[test]
fn what_is_logged_can_be_changed_and_forgotten() {
    let gateway = serving(HELLO);
    let level = |gateway: &Gateway| look(gateway, "/v1/log-level")["level"].clone();
    let before = level(&gateway);
    let wish = json!({ "level": "warn,edgeway::server=debug" });
    let set = send(&gateway, "PUT", "/v1/log-level", &wish);
    assert_eq!((set.status, set.json()), (200, wish.clone()));
    assert_eq!(level(&gateway), wish["level"]);
    let wrong = send(
        &gateway,
        "PUT",
        "/v1/log-level",
        &json!({ "level": "info,edgeway=loud" }),
    );
    problem(&wrong, 400, "loud");
    problem(
        &send(&gateway, "PUT", "/v1/log-level", &json!({})),
        400,
        "missing field `level`",
    );
    assert_eq!(level(&gateway), wish["level"]);
    let reset = ask(&gateway, "DELETE", "/v1/log-level").send();
    assert_eq!((reset.status, &reset.json()["level"]), (200, &before));
}

#[test]
fn access_logs_are_opened_again() {
    let gateway = serving(&format!(
        "filters: [{{ access_log: {{ format: '{{path}}', to: {{ file: access.log }} }} }}]\n{HELLO}"
    ));
    let log = gateway.folder().join("access.log");
    let has = |path: &std::path::Path, text: &str| {
        fs::read_to_string(path).is_ok_and(|content| content.contains(text))
    };
    gateway.get("/hello");
    eventually(PATIENCE, || has(&log, "/hello"));
    let old = gateway.folder().join("access.log.1");
    fs::rename(&log, &old).unwrap();
    done(&post(&gateway, "/v1/logs/reopen"));
    gateway.get("/after");
    eventually(PATIENCE, || has(&log, "/after"));
    assert!(!has(&old, "/after"));
}

#[test]
fn routes_are_shown_with_what_they_do_and_what_has_come_of_it() {
    let a = Endpoint::start("a");
    let gateway = serving(&format!(
        "upstreams: {{ pool: {{ endpoints: ['{a}'] }} }}\n\
         filters: [request_id]\n\
         routes:\n\
         \x20 - {{ name: shop, match: {{ path: /shop/ }}, filters: [{{ allow_methods: {{ methods: [GET] }} }}], upstream: pool }}\n\
         \x20 - {{ name: hello, match: {{ path: /hello }}, respond: {{ text: hello }} }}\n"
    ));
    gateway.get("/shop/");
    assert_eq!(gateway.request("DELETE", "/shop/").send().status, 405);
    assert_eq!(gateway.get("/nowhere").status, 404);
    let shop = || look(&gateway, "/v1/routes/shop");
    eventually(PATIENCE, || shop()["requests"]["total"] == 2);
    let route = shop();
    assert_eq!(route["filters"], json!(["request_id", "allow_methods"]));
    assert_eq!(
        (&route["requests"]["2xx"], &route["requests"]["4xx"]),
        (&json!(1), &json!(1))
    );
    assert!(route["requests"]["p50_ms"].as_f64().unwrap() > 0.0);
    assert!(route["target"].as_str().unwrap().contains("pool"));
    let all = look(&gateway, "/v1/routes")["routes"].clone();
    let names: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|route| route["name"].clone())
        .collect();
    assert_eq!(names, ["shop", "hello", "(no route)"]);
    assert_eq!(all[2]["requests"]["4xx"], 1);
    let wrong = ask(&gateway, "GET", "/v1/routes/shp").send();
    problem(&wrong, 404, "no route `shp`: did you mean `shop`?");
}

#[test]
fn who_is_held_back_by_limits_is_shown() {
    let gateway = serving(
        "filters: [request_id]\n\
         routes:\n\
         \x20 - { name: few, match: { path: /few }, filters: [{ rate_limit: { rate: 1/h } }], respond: { text: a } }\n\
         \x20 - { name: one, match: { path: /one }, filters: [{ concurrency: { max: 7 } }], respond: { text: a } }\n",
    );
    assert_eq!(gateway.get("/few").status, 200);
    for _ in 0..3 {
        assert_eq!(gateway.get("/few").status, 429);
    }
    let limits = look(&gateway, "/v1/limits");
    let [few, one] = limits["limits"].as_array().unwrap().as_slice() else {
        panic!("{limits}");
    };
    assert_eq!(
        (&few["route"], &few["filter"]),
        (&json!("few"), &json!("rate_limit"))
    );
    assert_eq!(few["refused"], 3);
    assert_eq!(few["held_back"][0]["client"], "127.0.0.1");
    assert_eq!(few["held_back"][0]["times"], 3);
    assert_eq!(one["state"], json!({ "max": 7.0 }));
    assert_eq!(
        (&one["refused"], &one["held_back"]),
        (&json!(0), &json!([]))
    );
    let client = &limits["clients"][0];
    assert_eq!(
        (&client["client"], &client["filter"]),
        (&json!("127.0.0.1"), &json!("rate_limit"))
    );
    assert_eq!(client["count"], 3);
}

#[test]
fn certificates_are_shown_with_their_issuer_and_their_file() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["a.example"]);
    let gateway = Gateway::start(&format!(
        "listeners:\n\
         \x20 https:\n\
         \x20   bind: '127.0.0.1:0'\n\
         \x20   tls: {{ certificates: [{{ chain: '{}', key: '{}' }}] }}\n\
         \x20 http: {{ bind: '127.0.0.1:0' }}\n\
         admin: {{ bind: '127.0.0.1:0' }}\n\
         routes: [{{ respond: {{ text: hello }} }}]\n",
        certificate.chain().display(),
        certificate.key().display()
    ));
    let shown = look(&gateway, "/v1/certificates");
    let [one] = shown["certificates"].as_array().unwrap().as_slice() else {
        panic!("{shown}");
    };
    assert_eq!(
        (&one["listener"], &one["names"]),
        (&json!("https"), &json!(["a.example"]))
    );
    assert_eq!(
        (&one["source"], &one["ocsp"]),
        (&json!("file"), &Value::Null)
    );
    assert_eq!(one["file"], certificate.chain().display().to_string());
    assert!(!one["issuer"].as_str().unwrap().is_empty());
    let (since, until) = (
        one["not_before"].as_i64().unwrap(),
        one["not_after"].as_i64().unwrap(),
    );
    assert!(since < until && one["days_left"].as_i64().unwrap() <= (until - since) / 86_400);
    assert_eq!(shown["awaited"], json!([]));
}
