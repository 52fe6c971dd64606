//! gRPC through the gateway: calls of all kinds, with what stands behind their answers, and what
//! callers are told when there is no answer.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use edgeway_tests::{
    Break, Endpoint, Gateway, GrpcHealth, Http2, PATIENCE, Reaction, Trailed, eventually, python,
};

fn gateway(endpoint: impl std::fmt::Display) -> Gateway {
    Gateway::start(&format!(
        "
        upstreams:
          app:
            protocol: http2
            endpoints: ['{endpoint}']
            max_fails: 0
            timeouts: {{ read: 2s }}
        routes:
          - match: {{ path: / }}
            upstream: app
        "
    ))
}

fn calls(react: impl Fn(&[u8]) -> Reaction + Send + Sync + 'static) -> Endpoint {
    let setup = Endpoint::setup("calls").h2c();
    setup.answers(move |request| react(&request.body)).start()
}

/// A message as it is sent.
fn message(text: &str) -> Bytes {
    let length = u32::try_from(text.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), text.as_bytes()]
        .concat()
        .into()
}

fn grpc_message(answer: &Trailed) -> Option<&str> {
    let behind = answer.trailers.get("grpc-message");
    behind
        .or_else(|| answer.headers.get("grpc-message"))?
        .to_str()
        .ok()
}

// ---- calls --------------------------------------------------------------------------------------

#[test]
fn the_answer_to_a_call_arrives_with_its_trailers() {
    let endpoint = calls(|_| {
        let answer = Reaction::grpc(Some(b"hello"), 0);
        answer.trailer("grpc-message", "fine").trailer("x-cost", 7)
    });
    let gateway = gateway(&endpoint);
    let client = Http2::open(gateway.address());
    let answer = client.call("/shop.Cart/Add", b"item");
    assert_eq!((answer.status, answer.grpc_status()), (200, Some(0)));
    assert_eq!(answer.message(), Some(&b"hello"[..]));
    assert_eq!(answer.trailers["x-cost"], "7");
    assert_eq!(grpc_message(&answer), Some("fine"));
    assert_eq!(answer.headers["content-type"], "application/grpc");
    let seen = &endpoint.received()[0];
    assert_eq!(
        (&*seen.path, &*seen.body),
        ("/shop.Cart/Add", &message("item")[..])
    );
    assert_eq!(seen.header_all("te"), ["trailers"]);
    assert_eq!(seen.header_all("content-type"), ["application/grpc"]);
    assert_eq!(seen.host, gateway.address().to_string());
}

#[test]
fn an_error_without_a_message_arrives_as_it_is() {
    let endpoint = calls(|_| Reaction::grpc(None, 5).header("grpc-message", "no such item"));
    let gateway = gateway(&endpoint);
    let answer = Http2::open(gateway.address()).call("/shop.Cart/Add", b"item");
    assert_eq!((answer.status, answer.grpc_status()), (200, Some(5)));
    assert_eq!(grpc_message(&answer), Some("no such item"));
    assert!(answer.trailers.is_empty() && answer.body.is_empty());
}

#[test]
fn an_error_after_messages_arrives_after_them() {
    let endpoint = calls(|_| Reaction::grpc(Some(b"half"), 13));
    let gateway = gateway(&endpoint);
    let answer = Http2::open(gateway.address()).call("/shop.Cart/List", b"");
    assert_eq!(answer.message(), Some(&b"half"[..]));
    assert_eq!(answer.trailers["grpc-status"], "13");
}

#[test]
fn messages_flow_both_ways_at_once() {
    let endpoint = Endpoint::setup("relay").h2c().relays().start();
    let gateway = gateway(&endpoint);
    let client = Http2::open(gateway.address());
    let request = client.request("POST", "/chat.Room/Talk", "");
    let mut one = client.begin(request.clone());
    let mut two = client.begin(request);
    for number in 0..50 {
        let text = message(&format!("message {number}"));
        for call in [&mut one, &mut two] {
            call.send(text.clone());
            assert_eq!(call.piece().unwrap().unwrap(), text);
        }
    }
    one.end();
    assert_eq!(one.trailers().unwrap()["grpc-status"], "0");
    // The other call goes on.
    two.send(message("still here"));
    assert_eq!(two.piece().unwrap().unwrap(), message("still here"));
    two.reset();
    eventually(PATIENCE, || endpoint.in_flight() == 0);
}

/// The service has said its last word, and the caller has more to say: that is the end of the call.
#[test]
fn a_call_ends_with_its_answer() {
    let endpoint = Endpoint::h2c("refuses");
    let gateway = Gateway::start(&format!(
        "
        requests: {{ read_timeout: 1s }}
        upstreams: {{ app: {{ protocol: http2, endpoints: [{endpoint}], timeouts: {{ first_byte: 300ms }} }} }}
        routes: [{{ upstream: app }}]
        "
    ));
    let client = Http2::open(gateway.address());
    let mut call = client.begin(client.request("POST", "/shop.Cart/Fill", ""));
    call.send(message("item"));
    // The endpoint wants all of it first, and there is no more.
    let (status, _) = call.head().unwrap();
    assert_eq!(status, 408);
    eventually(PATIENCE, || endpoint.in_flight() == 0);
}

#[test]
fn a_health_check_passes_like_any_call() {
    let endpoint = GrpcHealth::start();
    let gateway = gateway(&endpoint);
    let answer = Http2::open(gateway.address()).call("/grpc.health.v1.Health/Check", b"");
    assert_eq!(answer.grpc_status(), Some(0));
    // SERVING.
    assert_eq!(answer.message(), Some(&[8, 1][..]));
}

// ---- what callers are told when there is no answer ------------------------------------------------

/// The status of HTTP is what any client would get. That of gRPC stands beside it, by its own table.
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn a_call_that_the_gateway_refuses_has_both_statuses() {
    let endpoint = calls(|_| Reaction::grpc(Some(b"hello"), 0));
    let hash =
        "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$Gpl2vK3bPAeYZ6HGLdTHUkDZ1pFYcOJyVzqv5IpBhqU";
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          app: {{ protocol: http2, endpoints: ['{endpoint}'] }}
          gone: {{ protocol: http2, endpoints: ['127.0.0.1:1'] }}
        routes:
          - match: {{ path: /secret.S/ }}
            filters: [{{ basic_auth: {{ users: {{ ann: '{hash}' }} }} }}]
            upstream: app
          - match: {{ path: /gone.S/ }}
            upstream: gone
          - match: {{ path: /busy.S/ }}
            respond: {{ status: 503 }}
          - match: {{ path: /denied.S/ }}
            respond: {{ status: 403 }}
          - match: {{ path: /much.S/ }}
            respond: {{ status: 429 }}
          - match: {{ path: /open.S/ }}
            upstream: app
        "
    ));
    let client = Http2::open(gateway.address());
    for (method, status, grpc) in [
        ("/secret.S/M", 401, 16),
        ("/nowhere.S/M", 404, 12),
        ("/gone.S/M", 502, 14),
        ("/busy.S/M", 503, 14),
        ("/denied.S/M", 403, 7),
        ("/much.S/M", 429, 14),
        ("/open.S/%00", 400, 13),
        ("/open.S/M", 200, 0),
    ] {
        let answer = client.call(method, b"");
        assert_eq!(
            (answer.status, answer.grpc_status()),
            (status, Some(grpc)),
            "{method}"
        );
        if status != 200 {
            assert_eq!(
                answer.headers["content-type"], "application/grpc",
                "{method}"
            );
            assert!(
                answer.body.is_empty() && answer.trailers.is_empty(),
                "{method}"
            );
            assert!(
                grpc_message(&answer).is_some_and(|text| !text.is_empty()),
                "{method}"
            );
        }
    }
    assert!(
        client
            .call("/secret.S/M", b"")
            .headers
            .contains_key("www-authenticate")
    );
}

#[test]
fn who_does_not_call_is_told_as_ever() {
    let gateway = Gateway::start("routes: [{ match: { path: /a }, respond: { text: a } }]");
    let client = Http2::open(gateway.address());
    let mut request = client.request("POST", "/b", "");
    let kind = "application/grpc-web+proto".parse().unwrap();
    request.headers_mut().insert("content-type", kind);
    let answer = client.send(request).unwrap();
    assert_eq!(answer.json()["status"], 404);
    assert_eq!(answer.grpc_status(), None);
}

#[test]
fn a_service_that_breaks_off_is_unavailable_and_one_that_is_silent_too() {
    let endpoint = calls(|_| Reaction::grpc(Some(b"hello"), 0));
    let gateway = gateway(&endpoint);
    let client = Http2::open(gateway.address());
    for (how, status) in [(Break::BeforeAnswer, 502), (Break::Hang, 504)] {
        endpoint.breaks(how);
        let answer = client.call("/shop.Cart/Add", b"item");
        assert_eq!(
            (answer.status, answer.grpc_status()),
            (status, Some(14)),
            "{how:?}"
        );
    }
    endpoint.behave();
    assert_eq!(
        client.call("/shop.Cart/Add", b"item").grpc_status(),
        Some(0)
    );
}

#[test]
fn a_call_that_was_not_begun_is_tried_elsewhere() {
    let endpoint = calls(|_| Reaction::grpc(Some(b"hello"), 0));
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          app: {{ protocol: http2, endpoints: ['127.0.0.1:1', '{endpoint}'], max_fails: 0 }}
        routes: [{{ upstream: app }}]
        "
    ));
    let client = Http2::open(gateway.address());
    for _ in 0..4 {
        assert_eq!(
            client.call("/shop.Cart/Add", b"item").grpc_status(),
            Some(0)
        );
    }
    assert_eq!(endpoint.requests(), 4);
}

// ---- a real service and real callers --------------------------------------------------------------

/// `tests/python/grpc_app.py` as a service, and as its caller through the gateway.
#[test]
fn the_library_of_grpc_calls_itself_through_the_gateway() {
    let Some(python) = python("grpc") else { return };
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/grpc_app.py");
    let (service, address) = Service::start(&python, &program);
    let hash =
        "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$Gpl2vK3bPAeYZ6HGLdTHUkDZ1pFYcOJyVzqv5IpBhqU";
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          app: {{ protocol: http2, endpoints: ['{address}'] }}
          gone: {{ protocol: http2, endpoints: ['127.0.0.1:1'] }}
        routes:
          - match: {{ path: /test.Calls/ }}
            upstream: app
          - match: {{ path: /test.Secret/ }}
            filters: [{{ basic_auth: {{ users: {{ ann: '{hash}' }} }} }}]
            upstream: app
          - match: {{ path: /test.Gone/ }}
            upstream: gone
        "
    ));
    let mut caller = Command::new(&python);
    let caller = caller
        .arg(&program)
        .arg("call")
        .arg(gateway.address().to_string());
    let said = caller.output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    let errors = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{text}\n{errors}");
    assert!(text.ends_with("all as expected\n"), "{text}\n{errors}");
    drop(service);
}

/// A service that ends with this value.
struct Service(Child);

impl Service {
    fn start(python: &Path, program: &Path) -> (Self, SocketAddr) {
        let mut command = Command::new(python);
        let child = command
            .arg(program)
            .arg("serve")
            .stdout(Stdio::piped())
            .spawn();
        let mut service = Self(child.unwrap());
        let output = service.0.stdout.take().unwrap();
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap();
        let address = address.parse().unwrap();
        (service, address)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_call_may_pause_for_longer_than_a_body() {
    let endpoint = Endpoint::setup("relay").h2c().relays().start();
    let gateway = Gateway::start(&format!(
        "
        requests: {{ read_timeout: 500ms, keepalive: 1s, write_timeout: 500ms }}
        upstreams: {{ app: {{ protocol: http2, endpoints: ['{endpoint}'] }} }}
        routes: [{{ upstream: app }}]
        "
    ));
    let client = Http2::open(gateway.address());
    let mut call = client.begin(client.request("POST", "/chat.Room/Talk", ""));
    for _ in 0..2 {
        call.send(message("hello"));
        assert_eq!(call.piece().unwrap().unwrap(), message("hello"));
        std::thread::sleep(Duration::from_secs(2));
    }
    call.end();
    assert_eq!(call.trailers().unwrap()["grpc-status"], "0");
}
