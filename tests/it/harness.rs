//! The harness itself: what other tests believe of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use edgeway_tests::{
    Authority, Break, Connection, Echo, Endpoint, Gateway, GrpcHealth, Health, Http2, PATIENCE,
    Reaction, Tornado, eventually, load, pace, pace_during,
};
use serde_json::json;

#[test]
fn an_endpoint_over_tls_tells_what_the_client_has_shown() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let certificate = servers.certificate(&["app.test", "127.0.0.1"]);
    let endpoint = Endpoint::setup("a")
        .mutual_tls(&certificate, &clients)
        .start();
    let shown = clients.client_certificate("gateway");
    let client = Http2::secure(endpoint.address(), "app.test", &servers, Some(&shown)).unwrap();
    let report = client.get("/users/7?x=1").json();
    assert_eq!(report["endpoint"], "a");
    assert_eq!(report["target"], "/users/7?x=1");
    assert_eq!(report["host"], "app.test");
    assert_eq!(report["sni"], "app.test");
    assert_eq!(report["client"], "gateway");
    assert_eq!(report["protocol"], "h2");
    assert_eq!(report["version"], "HTTP/2.0");
    let inbound = endpoint.inbound();
    assert_eq!(inbound.len(), 1);
    assert_eq!(inbound[0].client.as_deref(), Some("gateway"));
}

#[test]
fn an_endpoint_over_tls_refuses_those_who_show_nothing_or_something_of_others() {
    let (servers, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let certificate = servers.certificate(&["app.test"]);
    let endpoint = Endpoint::setup("a")
        .mutual_tls(&certificate, &clients)
        .start();
    let stranger = strangers.client_certificate("gateway");
    for shown in [None, Some(&stranger)] {
        // With TLS 1.3 the client learns of the refusal with its first request.
        let client = Http2::secure(endpoint.address(), "app.test", &servers, shown);
        let answer = client.and_then(|client| client.send(client.request("GET", "/", "")));
        assert!(answer.is_err(), "{answer:?}");
    }
    eventually(PATIENCE, || endpoint.failed_handshakes().len() == 2);
    assert_eq!(endpoint.requests(), 0);
}

#[test]
fn a_client_trusts_neither_another_authority_nor_another_name_nor_an_old_certificate() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let endpoint = Endpoint::https("a", &authority.certificate(&["app.test"]));
    let old = Endpoint::https("a", &authority.expired(&["app.test"]));
    let open =
        |endpoint: &Endpoint, name, trusted| Http2::secure(endpoint.address(), name, trusted, None);
    assert!(open(&endpoint, "app.test", &authority).is_ok());
    let refused = [
        (&endpoint, "app.test", &stranger, "UnknownIssuer"),
        (&endpoint, "other.test", &authority, "not valid for name"),
        (&old, "app.test", &authority, "expired"),
    ];
    for (endpoint, name, trusted, reason) in refused {
        let refusal = open(endpoint, name, trusted).unwrap_err();
        assert!(refusal.contains(reason), "{refusal}");
    }
}

#[test]
fn an_authority_writes_its_certificates_and_keys_into_files() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["app.test"]);
    let read = |path| std::fs::read_to_string(path).unwrap();
    assert_eq!(read(authority.ca()), authority.pem());
    assert_eq!(read(certificate.folder().join("ca.pem")), authority.pem());
    assert!(read(certificate.chain()).starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(read(certificate.key()).starts_with("-----BEGIN PRIVATE KEY-----"));
}

#[test]
fn an_endpoint_over_tls_offers_only_the_protocols_that_it_is_told_to() {
    let authority = Authority::new();
    let endpoint = Endpoint::setup("a")
        .tls(&authority.certificate(&["app.test"]))
        .alpn(&["http/1.1"])
        .start();
    let refusal = Http2::secure(endpoint.address(), "app.test", &authority, None).unwrap_err();
    assert!(refusal.contains("NoApplicationProtocol"), "{refusal}");
}

#[test]
fn requests_of_http2_share_a_connection_at_the_same_time() {
    let endpoint = Endpoint::h2c("a");
    endpoint.slow(Duration::from_millis(300));
    let client = Http2::open(endpoint.address());
    let requests = (0..20).map(|number| client.request("GET", &format!("/{number}"), ""));
    let start = Instant::now();
    for (number, answer) in client.send_all(requests).into_iter().enumerate() {
        assert_eq!(answer.unwrap().json()["path"], format!("/{number}"));
    }
    assert!(start.elapsed() < Duration::from_secs(3));
    assert_eq!(endpoint.most_in_flight(), 20);
    let inbound = endpoint.inbound();
    assert_eq!((inbound.len(), inbound[0].streams), (1, 20));
}

#[test]
fn an_endpoint_limits_the_streams_of_a_connection() {
    let endpoint = Endpoint::setup("a").h2c().max_streams(3).start();
    let client = Http2::open(endpoint.address());
    // The limit comes with the first answer at the latest.
    client.get("/");
    endpoint.slow(Duration::from_millis(50));
    let requests = (0..9).map(|_| client.request("GET", "/", ""));
    assert!(client.send_all(requests).iter().all(Result::is_ok));
    assert_eq!(endpoint.most_in_flight(), 3);
}

#[test]
fn an_endpoint_answers_with_trailers_as_grpc_does() {
    let endpoint = Endpoint::setup("a")
        .h2c()
        .answers(|request| match request.path.as_str() {
            "/shop.Shop/Buy" => Reaction::grpc(Some(&request.body[5..]), 0),
            _ => Reaction::grpc(None, 12),
        })
        .start();
    let client = Http2::open(endpoint.address());
    let answer = client.call("/shop.Shop/Buy", b"apple");
    assert_eq!(answer.message(), Some(&b"apple"[..]));
    assert_eq!(answer.trailers["grpc-status"], "0");
    let answer = client.call("/shop.Shop/Sell", b"apple");
    assert!(answer.trailers.is_empty());
    assert_eq!(answer.grpc_status(), Some(12));
    assert_eq!(endpoint.received()[0].header_all("te"), ["trailers"]);
}

#[test]
fn the_health_of_grpc_is_what_the_test_says() {
    const CHECK: &str = "/grpc.health.v1.Health/Check";
    let mut health = GrpcHealth::start();
    let client = Http2::open(health.address());
    assert_eq!(client.call(CHECK, b"").message(), Some(&[0x08, 1][..]));
    health.set(Health::Down);
    let answer = client.call(CHECK, b"\x0a\x04shop");
    assert_eq!(
        (answer.message(), answer.grpc_status()),
        (Some(&[0x08, 2][..]), Some(0))
    );
    health.set(Health::Unknown);
    assert_eq!(client.call(CHECK, b"").grpc_status(), Some(5));
    assert_eq!(client.call("/shop.Shop/Buy", b"").grpc_status(), Some(12));
    assert_eq!(client.call(CHECK, b"nonsense").grpc_status(), Some(3));
    assert_eq!(health.asked(), ["", "shop", ""]);
    health.endpoint().down();
    assert!(client.send(client.request("GET", "/", "")).is_err());
}

#[test]
fn services_and_endpoints_listen_on_unix_sockets() {
    let mut echo = Echo::start_unix();
    assert!(echo.to_string().starts_with("unix:/"), "{echo}");
    assert_eq!(echo.get("/a").json()["client"], "unix");
    assert_eq!(echo.stats().requests, 1);
    // One that is killed leaves its socket behind, and one that is stopped does not.
    echo.restart();
    assert!(echo.stop().success());
    echo.restart();
    assert_eq!(echo.get("/b").json()["target"], "/b");

    let mut endpoint = Endpoint::setup("a").unix().start();
    assert!(endpoint.to_string().starts_with("unix:/"), "{endpoint}");
    for _ in 0..2 {
        assert_eq!(endpoint.request("GET", "/").send().json()["endpoint"], "a");
        endpoint.down();
        assert!(endpoint.request("GET", "/").attempt().is_err());
        endpoint.up();
    }
}

#[test]
fn an_endpoint_does_what_it_is_told_while_it_runs() {
    let endpoint = Endpoint::start("a");
    let get = || endpoint.request("GET", "/").attempt();
    let answer = get().unwrap();
    assert_eq!(answer.json()["endpoint"], "a");
    assert_eq!(answer.header("X-Endpoint"), Some("a"));

    endpoint.status(503);
    assert_eq!(get().unwrap().status, 503);
    endpoint.breaks(Break::BeforeAnswer);
    assert!(get().unwrap_err().partial.is_none());
    endpoint.breaks(Break::AfterHead);
    let partial = get().unwrap_err().partial.unwrap();
    assert_eq!(partial.status, 503);
    assert!(!partial.body.is_empty());

    endpoint.behave();
    endpoint.slow(Duration::from_millis(200));
    let start = Instant::now();
    assert_eq!(get().unwrap().status, 200);
    assert!(start.elapsed() >= Duration::from_millis(200));

    endpoint.behave();
    endpoint.status_next(1, 500);
    endpoint.breaks_next(2, Break::BeforeAnswer);
    let now: Vec<_> = (0..4)
        .map(|_| get().map(|answer| answer.status).ok())
        .collect();
    assert_eq!(now, [None, None, Some(200), Some(200)]);
    assert_eq!(endpoint.requests(), 9);
}

#[test]
fn an_endpoint_that_hangs_sees_when_the_client_gives_up() {
    let endpoint = Endpoint::start("a");
    endpoint.breaks(Break::Hang);
    let mut connection = Connection::open(endpoint.address());
    connection.patience(Duration::from_millis(100));
    assert!(connection.request("GET", "/").attempt().is_err());
    assert_eq!(endpoint.in_flight(), 1);
    drop(connection);
    eventually(PATIENCE, || {
        endpoint.in_flight() == 0 && endpoint.open_connections() == 0
    });
}

#[test]
fn the_health_of_an_endpoint_is_apart_from_its_answers() {
    let endpoint = Endpoint::start("a");
    endpoint.status(500);
    let check = || endpoint.request("GET", "/healthz").send().status;
    assert_eq!(check(), 200);
    endpoint.health(Health::Down);
    assert_eq!(check(), 503);
    endpoint.health(Health::Unknown);
    assert_eq!(check(), 404);
    endpoint.health(Health::Hanging);
    let mut connection = Connection::open(endpoint.address());
    connection.patience(Duration::from_millis(100));
    assert!(connection.request("GET", "/healthz").attempt().is_err());
    assert_eq!((endpoint.requests(), endpoint.in_flight()), (0, 0));
    assert_eq!(endpoint.requests_to("/healthz"), 4);
}

#[test]
fn an_endpoint_goes_down_with_its_connections_and_comes_up_on_its_port() {
    let mut endpoint = Endpoint::start("a");
    let mut kept = Connection::open(endpoint.address());
    kept.get("/");
    endpoint.close_connections();
    kept.expect_close();
    let mut kept = Connection::open(endpoint.address());
    kept.get("/");
    assert_eq!(endpoint.open_connections(), 1);
    endpoint.down();
    kept.expect_close();
    assert!(Connection::try_open(endpoint.address()).is_err());
    endpoint.up();
    assert_eq!(endpoint.request("GET", "/x").send().status, 200);
    assert_eq!(endpoint.requests_to("/x"), 1);
    assert_eq!(endpoint.connections(), 3);
}

#[test]
fn an_endpoint_serves_hundreds_of_connections_at_once() {
    let endpoint = Endpoint::start("a");
    endpoint.slow(Duration::from_millis(300));
    load(endpoint.address(), 200, 400, |connection| {
        connection.request("GET", "/")
    })
    .expect_all(200);
    assert_eq!(endpoint.connections(), 200);
    assert_eq!(endpoint.requests(), 400);
    assert!(endpoint.most_in_flight() > 50);
}

#[test]
fn the_pace_is_kept_and_the_endpoints_are_counted() {
    let endpoint = Endpoint::start("a");
    let start = Instant::now();
    let second = Duration::from_secs(1);
    let outcomes = pace(endpoint.address(), 1_000, second, |connection, number| {
        connection.request("GET", &format!("/{number}"))
    });
    assert!(start.elapsed() >= second - Duration::from_millis(1));
    outcomes.expect_all(200);
    assert_eq!(outcomes.total(), 1_000);
    assert_eq!(outcomes.endpoints()["a"], 1_000);
    let half = outcomes.between(Duration::ZERO, second / 2);
    assert_eq!(half.total(), 500);
    let mut paths: Vec<_> = endpoint
        .received()
        .into_iter()
        .map(|request| request.path)
        .collect();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), 1_000);
}

#[test]
fn a_gateway_before_two_endpoints_keeps_up_with_the_pace() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let gateway = Gateway::start(&format!(
        "
        upstreams: {{ app: {{ endpoints: [{a}, {b}] }} }}
        routes: [{{ upstream: app }}]
        "
    ));
    let second = Duration::from_secs(1);
    let outcomes = pace(gateway.address(), 1_000, second, |connection, _| {
        connection.request("GET", "/")
    });
    outcomes.expect_all(200);
    let counted = outcomes.endpoints();
    assert_eq!(counted["a"] + counted["b"], 1_000);
    assert_eq!(a.requests() + b.requests(), 1_000);
}

#[test]
fn requests_that_wait_hold_no_others_up_and_count_from_their_time() {
    let stuck = Duration::from_secs(1);
    let endpoint = Endpoint::setup("a")
        .answers(move |request| match request.path.as_str() {
            "/slow" => Reaction::json(&json!({})).after(stuck),
            _ => Reaction::status(204),
        })
        .start();
    let outcomes = pace(
        endpoint.address(),
        200,
        Duration::from_secs(2),
        |connection, number| {
            let target = if number % 4 == 0 { "/slow" } else { "/" };
            connection.request("GET", target)
        },
    );
    assert_eq!(
        outcomes.statuses().into_iter().collect::<Vec<_>>(),
        [(200, 100), (204, 300)]
    );
    assert_eq!(outcomes.broken().count(), 0);
    assert!(outcomes.p50() < stuck / 2, "{}", outcomes.summary());
    assert!(outcomes.slower_than(stuck - Duration::from_millis(1)) >= 100);
    assert!(outcomes.percentile(0.9) >= stuck && outcomes.slowest() >= outcomes.p99());
}

#[test]
fn a_load_at_a_pace_lasts_as_long_as_what_it_accompanies() {
    let endpoint = Arc::new(Endpoint::start("a"));
    let outcomes = pace_during(
        endpoint.address(),
        200,
        |connection, _| connection.request("GET", "/"),
        || {
            eventually(PATIENCE, || endpoint.requests() >= 20);
            endpoint.breaks_next(3, Break::BeforeAnswer);
            eventually(PATIENCE, || endpoint.requests() >= 60);
        },
    );
    assert!(
        outcomes.total() >= 60 && outcomes.total() < 2_000,
        "{}",
        outcomes.summary()
    );
    assert_eq!(outcomes.broken().count(), 3);
    assert_eq!(outcomes.failures().values().sum::<usize>(), 3);
}

#[test]
fn tornado_stops_when_the_requests_in_flight_are_answered() {
    let Some(mut tornado) = Tornado::start() else {
        return;
    };
    assert_eq!(tornado.get("/").text().trim(), tornado.pid().to_string());
    let mut idle = Connection::open(tornado.address());
    idle.get("/");
    let mut busy = Connection::open(tornado.address());
    busy.send("GET /?delay=0.3 HTTP/1.1\r\nHost: x\r\n\r\n");
    // Answered after the other has arrived.
    tornado.get("/healthz");
    tornado.ask_to_stop();
    let first = tornado.pid();
    assert_eq!(busy.answer().text().trim(), first.to_string());
    assert!(tornado.stop().success(), "{}", tornado.log());
    idle.expect_close();
    tornado.restart();
    assert_ne!(tornado.pid(), first);
    assert_eq!(tornado.get("/").text().trim(), tornado.pid().to_string());
}
