//! HTTP/2 to endpoints, with TLS and in the clear, from clients of HTTP/1.1.

use std::{
    collections::HashSet,
    thread,
    time::{Duration, Instant},
};

use edgeway_tests::{
    Answer, Authority, Break, Connection, Endpoint, Framing, Gateway, PATIENCE, Reaction, Request,
    Upstream, eventually, load,
};

/// A gateway with one upstream of HTTP/2 in the clear, which every request goes to.
fn gateway(upstream: &str) -> Gateway {
    Gateway::start(&configuration(&format!("protocol: http2, {upstream}")))
}

fn configuration(upstream: &str) -> String {
    format!(
        "filters: [{{ access_log: {{ format: '{{status}} {{reason}}' }} }}]\n\
         upstreams: {{ pool: {{ {upstream} }} }}\nroutes: [{{ upstream: pool }}]\n"
    )
}

fn get(connection: &mut Connection) -> Request<'_> {
    connection.request("GET", "/")
}

/// The values of a header as the endpoint has seen it.
fn seen(answer: &Answer, name: &str) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let headers = answer.json()["headers"].clone();
    let lines = headers.as_array().unwrap().iter();
    let wanted = lines.filter(|line| line[0] == name);
    wanted
        .map(|line| line[1].as_str().unwrap().to_owned())
        .collect()
}

/// A handshake of WebSocket.
fn handshake(gateway: &Gateway) -> Request<'static> {
    let request = gateway.request("GET", "/socket");
    request
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
}

/// Sends so many requests, each while those before are still under way, and waits for all answers. Not
/// all in one moment: two threads that find the one connection in each other's hands open another.
fn send_together(gateway: &Gateway, requests: usize) {
    let mut clients: Vec<_> = (0..requests).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        thread::sleep(Duration::from_millis(10));
    }
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
    }
}

// ---- connections --------------------------------------------------------------------------------

#[test]
fn many_requests_at_once_share_few_connections() {
    let endpoint = Endpoint::h2c("a");
    let gateway = gateway(&format!("endpoints: [{endpoint}]"));
    assert_eq!(gateway.get("/").json()["version"], "HTTP/2.0");
    endpoint.slow(Duration::from_secs(1));
    send_together(&gateway, 50);
    assert!(
        endpoint.most_in_flight() >= 25,
        "{}",
        endpoint.most_in_flight()
    );
    let connections = endpoint.inbound();
    assert!(connections.len() <= 10, "{connections:?}");
    let streams = connections.iter().map(|inbound| inbound.streams).max();
    assert!(streams.unwrap() >= 10, "{connections:?}");
    for inbound in connections {
        assert_eq!((inbound.protocol, inbound.sni), (None, None));
    }
}

#[test]
fn no_more_requests_share_a_connection_than_the_endpoint_permits() {
    let endpoint = Endpoint::setup("a").h2c().max_streams(3).start();
    let gateway = gateway(&format!("endpoints: [{endpoint}]"));
    gateway.get("/");
    endpoint.slow(Duration::from_millis(300));
    load(gateway.address(), 12, 36, get).expect_all(200);
    let connections = endpoint.inbound();
    assert!(connections.len() >= 3, "{connections:?}");
    for inbound in &connections {
        assert!(inbound.streams <= 3, "{inbound:?}");
    }
    assert!(
        connections.iter().any(|inbound| inbound.streams > 1),
        "{connections:?}"
    );
}

#[test]
fn a_connection_that_is_closed_between_requests_costs_none() {
    let mut endpoint = Endpoint::h2c("a");
    let gateway = gateway(&format!("endpoints: [{endpoint}], fail_timeout: 1h"));
    for round in 0..10 {
        assert_eq!(gateway.get("/").status, 200, "{round}");
        endpoint.close_connections();
        if round % 3 == 0 {
            endpoint.down();
            endpoint.up();
        }
    }
    assert!(!gateway.log().contains("left out"), "{}", gateway.log());
}

#[test]
fn an_endpoint_may_restart_under_load_while_there_is_another() {
    let (mut one, two) = (Endpoint::h2c("one"), Endpoint::h2c("two"));
    let gateway = gateway(&format!("endpoints: [{one}, {two}], fail_timeout: 200ms"));
    let outcomes = edgeway_tests::load_during(gateway.address(), 6, get, || {
        for _ in 0..2 {
            let before = one.requests();
            eventually(PATIENCE, || one.requests() > before + 20);
            one.down();
            let before = two.requests();
            eventually(PATIENCE, || two.requests() > before + 50);
            one.up();
        }
        let before = one.requests();
        eventually(PATIENCE, || one.requests() > before + 20);
    });
    outcomes.expect_all(200);
}

/// A stream is given up alone: others on the connection go on.
#[test]
fn a_client_that_leaves_gives_up_its_request_and_no_other() {
    let endpoint = Endpoint::h2c("a");
    let gateway = gateway(&format!("endpoints: [{endpoint}]"));
    gateway.get("/");
    endpoint.slow(Duration::from_secs(2));
    let staying = thread::spawn({
        let address = gateway.address();
        move || Request::to(address, "GET", "/staying").send().status
    });
    eventually(PATIENCE, || endpoint.in_flight() == 1);
    let mut leaving = gateway.connect();
    leaving.send("GET /leaving HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually(PATIENCE, || endpoint.in_flight() == 2);
    drop(leaving);
    assert_eq!(staying.join().unwrap(), 200);
    eventually(PATIENCE, || endpoint.in_flight() == 0);
    endpoint.behave();
    assert_eq!(gateway.get("/").status, 200);
    assert!(!gateway.log().contains("left out"), "{}", gateway.log());
}

/// Its answer must not take the room of those that share its connection.
#[test]
fn a_client_that_does_not_read_does_not_hold_up_others() {
    let endpoint = Endpoint::setup("a")
        .h2c()
        .answers(|request| match &*request.path {
            "/large" => Reaction::status(200).body(vec![b'x'; 64 << 20]),
            _ => Reaction::status(200).body("small"),
        })
        .start();
    let gateway = gateway(&format!("endpoints: [{endpoint}]"));
    gateway.get("/");
    let mut deaf: Vec<_> = (0..3).map(|_| gateway.connect()).collect();
    for connection in &mut deaf {
        connection.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(connection.head().status, 200);
    }
    // Time for the windows to fill.
    thread::sleep(Duration::from_millis(500));
    let start = Instant::now();
    for _ in 0..20 {
        assert_eq!(gateway.get("/").text(), "small");
    }
    assert!(start.elapsed() < Duration::from_secs(5));
}

// ---- bodies ---------------------------------------------------------------------------------------

#[test]
fn bodies_of_all_sizes_arrive_whole_both_ways() {
    let endpoint = Endpoint::setup("a")
        .h2c()
        .answers(|request| Reaction::status(200).body(request.body.clone()))
        .start();
    let gateway = gateway(&format!("endpoints: [{endpoint}]"));
    for size in [0, 1, 65_535, 65_536, 200_000, 12 << 20] {
        let body: Vec<u8> = (0..251).cycle().take(size).collect();
        let whole = gateway.request("POST", "/").body(body.clone());
        let in_chunks = gateway.request("PUT", "/").chunks(body.chunks(70_001));
        for request in [whole, in_chunks] {
            let answer = request.send();
            assert_eq!(answer.status, 200);
            assert!(answer.body == body, "{size}: {}", answer.body.len());
        }
    }
    for request in endpoint.received() {
        assert!(request.header_all("transfer-encoding").is_empty());
        assert_eq!(request.version, "HTTP/2.0");
    }
}

#[test]
fn an_upload_is_passed_on_as_it_comes() {
    let endpoint = Endpoint::h2c("a");
    let gateway = gateway(&format!("endpoints: [{endpoint}]"));
    let mut connection = gateway.connect();
    connection.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    connection.send("3\r\nabc\r\n");
    eventually(PATIENCE, || endpoint.inbound().len() == 1);
    connection.send("3\r\ndef\r\n0\r\n\r\n");
    assert_eq!(connection.answer().json()["body"], "abcdef");
}

/// It must not wait for ever: endpoints of HTTP/2 rarely say 100 (RFC 9110, 10.1.1).
#[test]
fn a_client_that_asks_whether_to_go_on_gets_its_answer() {
    let endpoint = Endpoint::h2c("a");
    let gateway = gateway(&format!("endpoints: [{endpoint}]"));
    let mut connection = gateway.connect();
    connection
        .send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    eventually(PATIENCE, || endpoint.inbound().len() == 1);
    connection.send("hello");
    assert_eq!(connection.answer().json()["body"], "hello");
}

#[test]
fn answers_without_a_body_stay_without() {
    let endpoint = Endpoint::setup("a")
        .h2c()
        .answers(|request| match &*request.path {
            "/204" => Reaction::status(204),
            "/304" => Reaction::status(304).header("ETag", "\"a\""),
            "/empty" => Reaction::status(200),
            // The length of what there would be.
            _ if request.method == "HEAD" => Reaction::status(200).header("Content-Length", 5),
            _ => Reaction::status(200).body("hello"),
        })
        .start();
    let gateway = gateway(&format!("endpoints: [{endpoint}]"));
    let mut connection = gateway.connect();
    for _ in 0..3 {
        let head = connection.request("HEAD", "/").send();
        assert_eq!(
            (head.status, head.header("content-length")),
            (200, Some("5"))
        );
        assert_eq!(head.body, b"");
        for status in [204, 304] {
            let answer = connection.get(&format!("/{status}"));
            assert_eq!((answer.status, answer.framing), (status, Framing::Bodiless));
        }
        assert_eq!(connection.get("/empty").body, b"");
        assert_eq!(connection.get("/").text(), "hello");
    }
    assert_eq!(endpoint.connections(), 1);
}

// ---- heads ------------------------------------------------------------------------------------------

#[test]
fn the_host_becomes_the_authority() {
    let endpoint = Endpoint::h2c("a");
    for (host, authority) in [
        ("", "shop.example.com:8080".to_owned()),
        ("host: api.internal, ", "api.internal".to_owned()),
        ("host: endpoint, ", endpoint.to_string()),
    ] {
        let gateway = gateway(&format!("{host}endpoints: [{endpoint}]"));
        let request = gateway.request("GET", "/a?b=c");
        let answer = request.host("shop.example.com:8080").send();
        assert_eq!(answer.json()["host"], authority);
        assert_eq!(answer.json()["target"], "/a?b=c");
        assert!(seen(&answer, "host").is_empty(), "{}", answer.text());
        assert_eq!(seen(&answer, "x-forwarded-host"), ["shop.example.com:8080"]);
    }
    // A client of HTTP/1.0 need not name one, but HTTP/2 wants one.
    let gateway = gateway(&format!("endpoints: [{endpoint}]"));
    let mut old = gateway.connect();
    old.send("GET / HTTP/1.0\r\n\r\n");
    let answer = old.answer();
    assert_eq!(answer.json()["host"], endpoint.to_string());
}

#[test]
fn headers_pass_in_lower_case_and_cookies_are_not_lost() {
    let endpoint = Endpoint::h2c("a");
    let gateway = gateway(&format!("endpoints: [{endpoint}]"));
    let mut request = gateway.request("GET", "/");
    for number in 0..80 {
        request = request.header(&format!("X-Many-{number}"), format!("{number} äöü"));
    }
    let answer = request
        .header("Cookie", "a=1; b=2")
        .header("cookie", "c=3")
        .header("X-Twice", "one")
        .header("x-TWICE", "two")
        .send();
    let names: HashSet<String> = answer.json()["headers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line[0].as_str().unwrap().to_owned())
        .collect();
    for name in &names {
        assert_eq!(*name, name.to_lowercase());
    }
    for number in 0..80 {
        assert!(names.contains(&format!("x-many-{number}")));
    }
    assert_eq!(seen(&answer, "x-many-7"), ["7 äöü"]);
    assert_eq!(seen(&answer, "x-twice"), ["one", "two"]);
    // Several lines mean what one line does (RFC 9113, 8.2.3).
    assert_eq!(seen(&answer, "cookie").join("; "), "a=1; b=2; c=3");
}

#[test]
fn headers_of_the_connection_never_arrive() {
    let endpoint = Endpoint::h2c("a");
    let gateway = gateway(&format!("endpoints: [{endpoint}]"));
    let answer = gateway
        .request("POST", "/")
        .header("Connection", "keep-alive, X-Mine")
        .header("Keep-Alive", "timeout=5")
        .header("Proxy-Connection", "keep-alive")
        .header("TE", "gzip, trailers")
        .header("X-Mine", "mine")
        .header("X-Else", "else")
        .chunks(["abc"])
        .send();
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "x-mine",
        "upgrade",
    ] {
        assert!(seen(&answer, name).is_empty(), "{name}: {}", answer.text());
    }
    assert_eq!(seen(&answer, "x-else"), ["else"]);
}

#[test]
fn headers_of_the_answer_reach_the_client() {
    let endpoint = Endpoint::setup("a")
        .h2c()
        .answers(|_| {
            Reaction::status(201)
                .header("Set-Cookie", "a=1; Path=/")
                .header("Set-Cookie", "b=2")
                .header("Server", "secret/1.0")
                .header("X-App", "yes")
                .body("made")
        })
        .start();
    let gateway = gateway(&format!("endpoints: [{endpoint}]"));
    let answer = gateway.get("/");
    assert_eq!((answer.status, answer.text()), (201, "made"));
    assert_eq!(answer.header_all("set-cookie"), ["a=1; Path=/", "b=2"]);
    assert_eq!(answer.header("x-app"), Some("yes"));
    assert_eq!(answer.header("server"), None);
    assert_eq!(answer.header("content-length"), Some("4"));
}

/// What a client of HTTP/1.1 gets of gRPC: the message, and no trailers that it has not asked for.
#[test]
fn an_answer_with_trailers_reaches_a_client_of_http_1_1_whole() {
    let endpoint = Endpoint::setup("a")
        .h2c()
        .answers(|request| match &*request.path {
            "/shop.Cart/Refuse" => Reaction::grpc(None, 7),
            _ => Reaction::grpc(Some(b"message"), 0),
        })
        .start();
    let gateway = gateway(&format!("endpoints: [{endpoint}]"));
    let mut connection = gateway.connect();
    for _ in 0..5 {
        let call = connection
            .request("POST", "/shop.Cart/Add")
            .header("Content-Type", "application/grpc")
            .header("TE", "trailers")
            .body([0, 0, 0, 0, 0]);
        let answer = call.send();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("application/grpc"));
        assert_eq!(answer.body, b"\0\0\0\0\x07message");
        let answer = connection.get("/shop.Cart/Refuse");
        assert_eq!(answer.header("grpc-status"), Some("7"));
        assert_eq!(answer.body, b"");
    }
    let call = &endpoint.received()[0];
    assert_eq!(&*call.body, [0, 0, 0, 0, 0]);
    // The client would not get them.
    assert!(call.header_all("te").is_empty());
    assert_eq!(endpoint.connections(), 1);
}

// ---- failures ---------------------------------------------------------------------------------------

#[test]
fn a_stream_that_is_reset_is_tried_again_where_that_is_safe() {
    let (bad, good) = (Endpoint::h2c("bad"), Endpoint::h2c("good"));
    bad.breaks(Break::BeforeAnswer);
    let alone = gateway(&format!("endpoints: [{bad}], max_fails: 0"));
    assert_eq!(alone.get("/").status, 502);
    assert_eq!(alone.request("POST", "/").body("order").send().status, 502);
    let before = bad.requests();
    let both = gateway(&format!("endpoints: [{bad}, {good}], max_fails: 0"));
    for _ in 0..4 {
        assert_eq!(both.get("/").json()["endpoint"], "good");
        let put = both.request("PUT", "/").body("x".repeat(40_000)).send();
        assert_eq!(put.json()["body"], "x".repeat(40_000));
    }
    assert!(bad.requests() > before);
    let post = || both.request("POST", "/").body("order").send().status;
    let statuses = [post(), post(), post(), post()];
    assert!(statuses.contains(&502), "{statuses:?}");
    assert!(statuses.contains(&200), "{statuses:?}");
    assert_eq!(alone.get("/").status, 502, "still there");
}

#[test]
fn an_answer_that_breaks_off_reaches_the_client_broken() {
    let endpoint = Endpoint::h2c("a");
    endpoint.breaks(Break::AfterHead);
    let gateway = gateway(&format!("endpoints: [{endpoint}], max_fails: 0"));
    for _ in 0..3 {
        let broken = gateway.request("GET", "/").attempt().unwrap_err();
        let partial = broken.partial.expect("the head has come");
        assert_eq!(partial.status, 200);
    }
    endpoint.behave();
    assert_eq!(gateway.get("/").status, 200);
}

#[test]
fn a_silent_endpoint_is_504_after_its_time_and_others_on_the_connection_go_on() {
    for times in ["read: 400ms", "first_byte: 400ms", "total: 400ms"] {
        let endpoint = Endpoint::setup("a")
            .h2c()
            .answers(|request| match &*request.path {
                "/hang" => Reaction::hang(),
                "/slow" => {
                    let pieces = ["a", "b", "c", "d", "e", "f"];
                    Reaction::status(200).pieces(pieces, Duration::from_millis(50))
                }
                _ => Reaction::status(200).body("ok"),
            })
            .start();
        let gateway = gateway(&format!(
            "endpoints: [{endpoint}], timeouts: {{ {times} }}, max_fails: 0"
        ));
        gateway.get("/");
        let start = Instant::now();
        let hanging = thread::spawn({
            let address = gateway.address();
            move || Request::to(address, "GET", "/hang").send().status
        });
        eventually(PATIENCE, || endpoint.requests_to("/hang") == 1);
        if !times.starts_with("total") {
            assert_eq!(gateway.get("/slow").text(), "abcdef", "{times}");
        }
        assert_eq!(hanging.join().unwrap(), 504, "{times}");
        let taken = start.elapsed();
        assert!(taken >= Duration::from_millis(390), "{times}: {taken:?}");
        assert!(taken < Duration::from_secs(5), "{times}: {taken:?}");
        assert_eq!(gateway.get("/").text(), "ok", "{times}");
        assert!(endpoint.connections() <= 2, "{times}");
        eventually(PATIENCE, || endpoint.in_flight() == 0);
    }
}

#[test]
fn a_hanging_endpoint_costs_the_time_of_one_try() {
    let (hanging, good) = (Endpoint::h2c("hanging"), Endpoint::h2c("good"));
    hanging.breaks(Break::Hang);
    let gateway = gateway(&format!(
        "endpoints: [{hanging}, {good}], retries: {{ timeout: 300ms }}, fail_timeout: 1h"
    ));
    for _ in 0..4 {
        let start = Instant::now();
        assert_eq!(gateway.get("/").json()["endpoint"], "good");
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    assert_eq!(hanging.requests(), 1);
}

#[test]
fn statuses_are_tried_again_as_over_http_1() {
    let (bad, good) = (Endpoint::h2c("bad"), Endpoint::h2c("good"));
    bad.status(503);
    let gateway = gateway(&format!(
        "endpoints: [{bad}, {good}], retries: {{ on: [503] }}, max_fails: 0"
    ));
    for _ in 0..6 {
        assert_eq!(gateway.get("/").json()["endpoint"], "good");
    }
    assert!(bad.requests() >= 2);
    // The streams of the answers that were not wanted are given up, and no connection.
    assert!(bad.connections() <= 2, "{}", bad.connections());
}

#[test]
fn an_endpoint_that_does_not_speak_http_2_is_no_endpoint() {
    let plain = Endpoint::start("plain");
    let closing = Upstream::raw(drop);
    let speaking = Upstream::raw(|mut caller| {
        caller.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    });
    for endpoint in [plain.to_string(), closing.to_string(), speaking.to_string()] {
        let gateway = gateway(&format!("endpoints: ['{endpoint}']"));
        assert_eq!(gateway.get("/").status, 502, "{endpoint}");
        assert_eq!(gateway.get("/").status, 502, "{endpoint}");
    }
    assert_eq!(plain.requests(), 0);
    let silent = Upstream::silent();
    let gateway = gateway(&format!(
        "endpoints: [{silent}], timeouts: {{ connect: 500ms, read: 500ms }}"
    ));
    let start = Instant::now();
    let status = gateway.get("/").status;
    assert!(matches!(status, 502 | 504), "{status}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

// ---- the choice of protocol ---------------------------------------------------------------------------

#[test]
fn with_tls_the_protocol_is_http_2_if_both_speak_it() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["127.0.0.1"]);
    let tls = format!("tls: {{ ca: {} }}", authority.ca().display());
    let both: &[&str] = &["h2", "http/1.1"];
    // What is configured, what the endpoint offers, and what is spoken then: its version, and by ALPN.
    for (protocol, offered, spoken) in [
        ("auto", both, Some(("HTTP/2.0", Some("h2")))),
        ("auto", &["h2"][..], Some(("HTTP/2.0", Some("h2")))),
        (
            "auto",
            &["http/1.1"][..],
            Some(("HTTP/1.1", Some("http/1.1"))),
        ),
        ("auto", &[][..], Some(("HTTP/1.1", None))),
        ("http2", both, Some(("HTTP/2.0", Some("h2")))),
        ("http2", &["http/1.1"][..], None),
        ("http1", both, Some(("HTTP/1.1", Some("http/1.1")))),
        ("http1", &["h2"][..], None),
    ] {
        let endpoint = Endpoint::setup("a").tls(&certificate).alpn(offered).start();
        let gateway = Gateway::start(&configuration(&format!(
            "protocol: {protocol}, {tls}, endpoints: [{endpoint}], max_fails: 0"
        )));
        for _ in 0..3 {
            let answer = gateway.get("/");
            let Some((version, chosen)) = spoken else {
                assert_eq!(answer.status, 502, "{protocol} {offered:?}");
                continue;
            };
            assert_eq!(answer.status, 200, "{protocol} {offered:?}");
            let said = answer.json();
            assert_eq!(said["version"], version, "{protocol} {offered:?}");
            assert_eq!(said["protocol"].as_str(), chosen, "{protocol} {offered:?}");
        }
        if spoken.is_some() {
            assert!(endpoint.connections() <= 2, "{protocol} {offered:?}");
        }
    }
}

#[test]
fn many_requests_at_once_share_few_secure_connections() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["127.0.0.1"]);
    let endpoint = Endpoint::https("a", &certificate);
    let tls = format!("tls: {{ ca: {} }}", authority.ca().display());
    let gateway = Gateway::start(&configuration(&format!(
        "protocol: auto, {tls}, endpoints: [{endpoint}]"
    )));
    gateway.get("/");
    endpoint.slow(Duration::from_secs(1));
    send_together(&gateway, 30);
    assert!(endpoint.connections() <= 10, "{}", endpoint.connections());
    for request in endpoint.received() {
        assert_eq!(request.version, "HTTP/2.0");
    }
}

#[test]
fn a_choice_of_protocol_needs_tls() {
    let said = Gateway::refused(&configuration("protocol: auto, endpoints: [a:80]"));
    assert!(said.contains("`protocol: auto` needs `tls`"), "{said}");
    let said = Gateway::refused(&configuration("protocol: http3, endpoints: [a:80]"));
    assert!(said.contains("did you mean `http1`?"), "{said}");
    let said = Gateway::refused(&configuration("protocol: [http2], endpoints: [a:80]"));
    assert!(said.contains("protocol"), "{said}");
}

#[test]
fn a_reload_with_another_protocol_holds_at_once() {
    let authority = Authority::new();
    let endpoint = Endpoint::https("a", &authority.certificate(&["127.0.0.1"]));
    let with = |protocol: &str| {
        let ca = authority.ca();
        configuration(&format!(
            "protocol: {protocol}, tls: {{ ca: {} }}, endpoints: [{endpoint}]",
            ca.display()
        ))
    };
    let gateway = Gateway::start(&with("http1"));
    for (protocol, version) in [
        ("auto", "HTTP/2.0"),
        ("http1", "HTTP/1.1"),
        ("http2", "HTTP/2.0"),
        ("http1", "HTTP/1.1"),
    ] {
        assert!(gateway.reload(&with(protocol)));
        for _ in 0..3 {
            assert_eq!(gateway.get("/").json()["version"], version, "{protocol}");
        }
    }
}

// ---- upgrades -----------------------------------------------------------------------------------------

#[test]
fn a_websocket_goes_over_http_1_where_there_is_a_choice() {
    let authority = Authority::new();
    let endpoint = Endpoint::https("a", &authority.certificate(&["127.0.0.1"]));
    let tls = format!("tls: {{ ca: {} }}", authority.ca().display());
    let gateway = Gateway::start(&configuration(&format!(
        "protocol: auto, {tls}, endpoints: [{endpoint}]"
    )));
    for _ in 0..3 {
        assert_eq!(gateway.get("/").json()["version"], "HTTP/2.0");
        let answer = handshake(&gateway).send();
        assert_eq!(answer.json()["version"], "HTTP/1.1");
        assert_eq!(seen(&answer, "upgrade"), ["websocket"]);
    }
    assert_eq!(gateway.get("/").json()["version"], "HTTP/2.0");
}

#[test]
fn a_websocket_is_501_where_endpoints_speak_nothing_but_http_2() {
    let authority = Authority::new();
    let secure = Endpoint::https("a", &authority.certificate(&["127.0.0.1"]));
    let clear = Endpoint::h2c("a");
    let tls = format!("tls: {{ ca: {} }}, ", authority.ca().display());
    for (endpoint, tls) in [(&secure, &*tls), (&clear, "")] {
        let gateway = gateway(&format!("{tls}endpoints: [{endpoint}], fail_timeout: 1h"));
        assert_eq!(gateway.get("/").status, 200);
        for _ in 0..3 {
            let answer = handshake(&gateway).send();
            assert_eq!(answer.status, 501, "{}", answer.text());
            assert!(!answer.text().contains("pool"), "{}", answer.text());
        }
        let line = gateway.wait_for_output("501");
        assert!(line.contains("pool") && line.contains("HTTP/2"), "{line}");
        // A stranger who asks for what there is not does no harm.
        assert_eq!(gateway.get("/").status, 200);
        assert_eq!(endpoint.requests(), 2);
        assert_eq!(endpoint.connections(), 1);
        assert!(!gateway.log().contains("left out"), "{}", gateway.log());
    }
}

/// As curl asks with `--http2`. Whoever does not want to upgrade goes on as before (RFC 9110, 7.8).
#[test]
fn an_offer_to_speak_http_2_is_passed_over() {
    let endpoint = Endpoint::h2c("a");
    let gateway = gateway(&format!("endpoints: [{endpoint}]"));
    let answer = gateway
        .request("GET", "/")
        .header("Connection", "Upgrade, HTTP2-Settings")
        .header("Upgrade", "h2c")
        .header("HTTP2-Settings", "AAMAAABkAAQAAP__")
        .send();
    assert_eq!(answer.json()["version"], "HTTP/2.0");
    assert!(seen(&answer, "upgrade").is_empty());
}
