//! HTTP/2 from clients, in the clear: what it is recognised by, what requests become of it, what a
//! client may ask of one connection, and its end.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use edgeway_tests::{
    Echo, Endpoint, Frame, Frames, Gateway, Http2, PATIENCE, Trailed, Upstream, asking, block,
    eventually, frame,
};

const END: u8 = Frames::END_STREAM;

// What `code` of a frame tells (RFC 9113, 7).
const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// Less than any default that a test could be mistaken for, and more than any machine needs.
const SOON: Duration = Duration::from_secs(15);

/// A gateway that answers itself below `/fixed`, and sends all else to an endpoint.
fn gateway(settings: &str, endpoint: impl std::fmt::Display) -> Gateway {
    Gateway::start(&format!(
        "
        {settings}
        filters: [{{ access_log: {{ format: '{{method}} {{target}} {{protocol}} {{status}} {{attempts}}' }} }}]
        upstreams:
          app:
            endpoints: ['{endpoint}']
            max_fails: 0
        routes:
          - match: {{ path: /fixed }}
            respond: {{ text: fixed }}
          - match: {{ host: only.example, path: /host }}
            respond: {{ text: by host }}
          - match: {{ path: / }}
            upstream: app
        "
    ))
}

/// The same with a listener of HTTP/2 that is limited so, in front of nothing.
fn limited(limits: &str) -> Gateway {
    let listener = format!("{{ bind: '127.0.0.1:0', http2: {limits} }}");
    gateway(&format!("listeners: {{ http: {listener} }}"), "127.0.0.1:9")
}

fn is(kind: u8, stream: u32) -> impl Fn(&Frame) -> bool {
    move |frame| frame.kind == kind && frame.stream == stream
}

fn ends(stream: u32) -> impl Fn(&Frame) -> bool {
    move |frame| frame.stream == stream && frame.ends()
}

/// Gives room for as much as there can be.
fn wide(frames: &mut Frames) {
    const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];
    let setting = [&INITIAL_WINDOW_SIZE[..], &(1_u32 << 30).to_be_bytes()].concat();
    frames.send(Frames::SETTINGS, 0, 0, &setting);
    frames.widen(0, 1 << 30);
}

/// How many connections of clients a gateway has.
fn sockets_of(gateway: &Gateway) -> usize {
    let port = format!(":{:04X}", gateway.address().port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let lines = table
        .lines()
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    // Those that belong to a process have an inode; 0A is the listener.
    let open =
        |fields: &Vec<&str>| fields[1].ends_with(&port) && fields[3] != "0A" && fields[9] != "0";
    lines.filter(open).count()
}

/// Sends bytes that are no HTTP/2, and reads to the end of the connection.
fn exchange(address: SocketAddr, pieces: &[&str]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        stream.write_all(piece.as_bytes()).unwrap();
        thread::sleep(Duration::from_millis(20));
    }
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

// ---- what it is recognised by -------------------------------------------------------------------

#[test]
fn one_port_speaks_both_versions() {
    let endpoint = Endpoint::start("a");
    let gateway = gateway("", &endpoint);
    assert_eq!(gateway.get("/fixed").text(), "fixed");
    let client = Http2::open(gateway.address());
    assert_eq!(client.get("/fixed").body, "fixed");
    assert_eq!(gateway.get("/a").json()["path"], "/a");
    assert_eq!(client.get("/b").json()["path"], "/b");
}

#[test]
fn a_short_request_of_http1_is_answered_before_more_comes() {
    let gateway = limited("true");
    let short = "GET /fixed HTTP/1.0\r\n\r\n";
    assert!(short.len() < Frames::PREFACE.len());
    assert!(exchange(gateway.address(), &[short]).contains(" 200 "));
    let slow = ["P", "OST /fixed", " HTTP/1.0\r\n", "\r\n"];
    assert!(exchange(gateway.address(), &slow).contains(" 200 "));
    // As far as the preface of HTTP/2 begins, and no further.
    let other = ["PR", "I * HTTP/2.0\r\n\r\n", "no", "\r\n\r\n"];
    assert!(exchange(gateway.address(), &other).contains(" 505 "));
}

#[test]
fn pipelined_requests_of_http1_are_all_answered() {
    let gateway = limited("true");
    let request = "GET /fixed HTTP/1.1\r\nHost: a\r\n\r\n";
    // The second one is longer than what is looked at for the preface.
    let long = format!(
        "GET /fixed HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n",
        "x".repeat(9000)
    );
    let last = "GET /fixed HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let text = exchange(gateway.address(), &[&[request, &long, last].concat()]);
    assert_eq!(text.matches(" 200 ").count(), 3, "{text}");
}

#[test]
fn the_preface_may_come_in_pieces() {
    let gateway = limited("true");
    let mut frames = Frames::bare(gateway.address());
    for byte in Frames::PREFACE {
        frames.write(&[*byte]);
        thread::sleep(Duration::from_millis(5));
    }
    frames.send(Frames::SETTINGS, 0, 0, &[]);
    frames.ask(1, "/fixed", END);
    assert_eq!(frames.until(is(Frames::DATA, 1)).payload, b"fixed");
}

#[test]
fn a_listener_can_do_without() {
    let gateway = limited("false");
    assert_eq!(gateway.get("/fixed").text(), "fixed");
    let preface = str::from_utf8(Frames::PREFACE).unwrap();
    let answer = exchange(gateway.address(), &[preface]);
    assert!(answer.starts_with("HTTP/1.1 505 "), "{answer}");
}

/// Nobody asks for it in this way any more (RFC 9113, 3.1), but curl does.
#[test]
fn a_request_to_change_to_http2_is_answered_in_http1() {
    let gateway = limited("true");
    let request = gateway
        .request("GET", "/fixed")
        .header("Connection", "Upgrade, HTTP2-Settings")
        .header("Upgrade", "h2c")
        .header("HTTP2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA");
    assert_eq!(request.send().text(), "fixed");
}

#[test]
fn curl_and_h2load_are_served() {
    let endpoint = Endpoint::start("a");
    let gateway = gateway("", &endpoint);
    let url = format!("http://{gateway}");
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let fixed = format!("{url}/fixed");
    if let Some(said) = run("curl", &["-s", "-i", "--http2-prior-knowledge", &fixed]) {
        assert!(said.starts_with("HTTP/2 200"), "{said}");
        assert!(said.ends_with("fixed"), "{said}");
    }
    let load = ["-n", "500", "-c", "5", "-m", "20", &url];
    if let Some(said) = run("h2load", &load) {
        assert!(said.contains("500 succeeded, 0 failed"), "{said}");
    }
}

// ---- what requests become of it -----------------------------------------------------------------

#[test]
fn an_endpoint_is_sent_what_it_would_be_over_http1() {
    let endpoint = Endpoint::start("a");
    let gateway = gateway("", &endpoint);
    let client = Http2::open(gateway.address());
    let mut request = client.request("PUT", "/a%20b?c=d&c=e", "body");
    let lines = request.headers_mut();
    lines.append("cookie", "a=b".parse().unwrap());
    lines.append("cookie", "c=d".parse().unwrap());
    lines.insert("te", "trailers".parse().unwrap());
    lines.insert("x-forwarded-for", "1.2.3.4".parse().unwrap());
    assert_eq!(client.send(request).unwrap().status, 200);
    let seen = &endpoint.received()[0];
    let address = gateway.address().to_string();
    assert_eq!((&*seen.method, &*seen.target), ("PUT", "/a%20b?c=d&c=e"));
    assert_eq!((&*seen.host, &*seen.version), (&*address, "HTTP/1.1"));
    assert_eq!(seen.body, "body");
    assert_eq!(seen.header_all("host"), [&*address]);
    assert_eq!(seen.header_all("cookie"), ["a=b; c=d"]);
    assert_eq!(seen.header_all("content-length"), ["4"]);
    assert_eq!(seen.header_all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.header_all("x-forwarded-host"), [&*address]);
    assert_eq!(seen.header_all("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.header_all("te"), [""; 0]);
    let via = seen.header_all("via");
    assert!(via[0].starts_with("2.0 edgeway-"), "{via:?}");
    gateway.wait_for_output("PUT /a%20b?c=d&c=e HTTP/2.0 200 1");
}

#[test]
fn the_authority_is_the_host_that_routes_look_at() {
    let gateway = limited("true");
    let mut frames = Frames::open(gateway.address());
    let mut fields = asking("GET", "/host");
    fields[2].1 = "ONLY.example:8080";
    frames.head(1, &fields, END);
    assert_eq!(frames.until(is(Frames::DATA, 1)).payload, b"by host");
    // `Host` is as good where there is no authority (RFC 9113, 8.3.1).
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/host"),
        ("host", "only.example"),
    ];
    frames.head(3, &fields, END);
    assert_eq!(frames.until(is(Frames::DATA, 3)).payload, b"by host");
}

#[test]
fn an_answer_to_head_has_a_length_and_no_body() {
    let endpoint = Endpoint::start("a");
    let gateway = gateway("", &endpoint);
    let client = Http2::open(gateway.address());
    for target in ["/fixed", "/a"] {
        let answer = client.send(client.request("HEAD", target, "")).unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{target}");
        assert_ne!(answer.headers["content-length"], "0", "{target}");
        assert_eq!(client.get(target).status, 200);
    }
}

#[test]
fn what_belongs_to_a_connection_of_http1_does_not_reach_clients() {
    let endpoint = Upstream::answers(
        "HTTP/1.1 200 OK\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n\
         Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    );
    let gateway = gateway("", &endpoint);
    let answer = Http2::open(gateway.address()).get("/a");
    assert_eq!(answer.body, "body");
    for name in ["connection", "x-mine", "keep-alive", "transfer-encoding"] {
        assert!(!answer.headers.contains_key(name), "{answer:?}");
    }
}

#[test]
fn what_is_not_found_is_told_as_a_problem() {
    let gateway = Gateway::start("routes: [{ match: { path: /a }, respond: { text: a } }]");
    let client = Http2::open(gateway.address());
    for _ in 0..3 {
        let answer = client.get("/b");
        assert_eq!(answer.status, 404);
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(answer.json()["status"], 404);
        assert_eq!(client.get("/a").body, "a");
    }
}

#[test]
fn a_head_that_breaks_the_rules_ends_its_stream_alone() {
    let gateway = limited("true");
    let mut frames = Frames::open(gateway.address());
    let mut stream = 1;
    for (name, value) in [
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("content-length", "1, 2"),
    ] {
        let fields = [&asking("GET", "/fixed")[..], &[(name, value)]].concat();
        frames.head(stream, &fields, END);
        let reset = frames.until(|frame| frame.stream == stream);
        assert_eq!(reset.code(), Some(PROTOCOL_ERROR), "{name}: {reset:?}");
        frames.ask(stream + 2, "/fixed", END);
        frames.until(ends(stream + 2));
        stream += 4;
    }
}

#[test]
fn a_target_that_leads_astray_is_refused() {
    let gateway = limited("true");
    let mut frames = Frames::open(gateway.address());
    let mut stream = 1;
    for (field, value) in [
        (1, "http"),
        (2, "user@frames.example"),
        (3, "http://other.example/fixed"),
        (3, "fixed"),
        (3, "/a b"),
        (3, "/a\r\nX: y"),
    ] {
        let mut fields = asking("GET", "/fixed");
        fields[field].1 = value;
        frames.head(stream, &fields, END);
        let answer = frames.until(|frame| frame.stream == stream);
        let data = (field == 1).then(|| frames.until(is(Frames::DATA, stream)));
        assert_eq!(
            data.is_some(),
            answer.kind == Frames::HEADERS && !answer.ends() && field == 1
        );
        if field != 1 {
            // Reset, or answered with 400: 0x8c in the table of HPACK.
            let refused = answer.code() == Some(PROTOCOL_ERROR) || answer.payload[0] == 0x8c;
            assert!(refused, "{value}: {answer:?}");
        }
        stream += 2;
    }
}

#[test]
fn nobody_is_tunnelled() {
    let gateway = limited("true");
    let mut frames = Frames::open(gateway.address());
    let fields = [(":method", "CONNECT"), (":authority", "a.example:443")];
    frames.head(1, &fields, 0);
    let head = frames.until(is(Frames::HEADERS, 1));
    assert!(head.ends(), "{head:?}");
    // 405 has no place in the table of HPACK, so it is said in full: `405` by Huffman's code.
    let said = head.payload.windows(2).any(|bytes| bytes == [0x68, 0x0d]);
    assert!(said, "{head:?}");
    frames.ask(3, "/fixed", END);
    frames.until(ends(3));
    let trace = asking("TRACE", "/fixed");
    frames.head(5, &trace, END);
    let head = frames.until(is(Frames::HEADERS, 5));
    assert_eq!(head.kind, Frames::HEADERS);
    gateway.wait_for_output("TRACE /fixed HTTP/2.0 405");
}

#[test]
fn a_client_that_goes_on_breaking_the_rules_is_cut_off() {
    let gateway = limited("true");
    let mut frames = Frames::open(gateway.address());
    for request in 0..100 {
        let mut fields = asking("GET", "/fixed");
        fields[2].1 = "user@frames.example";
        frames.head(request * 2 + 1, &fields, END);
    }
    let answered = frames
        .rest()
        .into_iter()
        .filter(|frame| frame.kind == Frames::HEADERS);
    let answered = answered.count();
    assert!((16..=40).contains(&answered), "{answered}");
}

#[test]
fn what_is_under_way_is_answered_though_another_stream_breaks_the_rules() {
    let endpoint = Endpoint::start("slow");
    endpoint.slow(Duration::from_millis(500));
    let gateway = gateway("", &endpoint);
    let mut frames = Frames::open(gateway.address());
    frames.ask(1, "/slow", END);
    eventually(PATIENCE, || endpoint.in_flight() == 1);
    for request in 1..=40 {
        let mut fields = asking("GET", "/fixed");
        fields[2].1 = "user@frames.example";
        frames.head(request * 2 + 1, &fields, END);
    }
    let slow = frames.rest().into_iter().filter(|frame| frame.stream == 1);
    let slow: Vec<_> = slow.collect();
    assert!(slow.last().is_some_and(Frame::ends), "{slow:?}");
}

// ---- bodies -------------------------------------------------------------------------------------

/// An empty last piece must not be written as a second end of the body (Pingora's issue 935): the
/// next answer on that connection would be another request's.
#[test]
fn an_empty_last_piece_leaves_the_connection_to_the_endpoint_right() {
    let endpoint = Endpoint::start("a");
    let gateway = gateway("", &endpoint);
    let mut frames = Frames::open(gateway.address());
    for round in 0..5 {
        let stream = round * 4 + 1;
        frames.ask(stream, &format!("/post/{round}"), 0);
        frames.data(stream, "body", 0);
        thread::sleep(Duration::from_millis(20));
        frames.data(stream, "", END);
        frames.until(ends(stream));
        // The connection is kept a moment after that.
        thread::sleep(Duration::from_millis(20));
        frames.ask(stream + 2, &format!("/get/{round}"), END);
        frames.until(ends(stream + 2));
    }
    let received = endpoint.received();
    let seen: Vec<_> = received
        .iter()
        .map(|request| (&*request.method, &*request.path, &*request.body))
        .collect();
    let paths: Vec<_> = (0..5)
        .map(|round| (format!("/post/{round}"), format!("/get/{round}")))
        .collect();
    let sent = paths
        .iter()
        .flat_map(|(post, get)| [("POST", &**post, &b"body"[..]), ("GET", &**get, &b""[..])]);
    assert_eq!(seen, sent.collect::<Vec<_>>());
    // Else nothing has been shown.
    assert!(endpoint.connections() < 10, "{}", endpoint.connections());
}

#[test]
fn large_bodies_pass_both_ways_at_once() {
    const LARGE: usize = 3_000_000;
    let endpoint = Echo::start();
    let gateway = gateway("", &endpoint);
    let client = Http2::open(gateway.address());
    let requests = (0..8).map(|number: u8| {
        let body = vec![b'a' + number; LARGE + usize::from(number)];
        client.request("POST", &format!("/a?size={LARGE}"), body)
    });
    for answer in client.send_all(requests) {
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, LARGE));
    }
    let requests =
        (0..4).map(|number: u8| client.request("POST", "/a", vec![b'a' + number; LARGE]));
    for answer in client.send_all(requests) {
        assert_eq!(answer.unwrap().json()["body_bytes"], LARGE);
    }
}

#[test]
fn a_client_that_does_not_read_one_answer_gets_the_others() {
    let echo = Echo::start();
    let gateway = gateway("", &echo);
    let mut frames = Frames::open(gateway.address());
    // 64 KiB for the stream, and plenty for the connection.
    frames.widen(0, 10_000_000);
    frames.ask(1, "/a?size=1000000", END);
    let mut read = 0;
    while read < 65_535 {
        read += frames.until(is(Frames::DATA, 1)).payload.len();
    }
    for stream in [3, 5, 7] {
        frames.ask(stream, "/fixed", END);
        frames.until(ends(stream));
    }
    frames.widen(1, 1_000_000);
    while read < 1_000_000 {
        read += frames.until(is(Frames::DATA, 1)).payload.len();
    }
    assert_eq!(read, 1_000_000);
}

#[test]
fn bodies_are_passed_on_as_they_come() {
    let endpoint = Endpoint::setup("a").h2c().relays().start();
    let gateway = Gateway::start(&format!(
        "upstreams: {{ a: {{ protocol: http2, endpoints: [{endpoint}] }} }}\nroutes: [{{ upstream: a }}]"
    ));
    let client = Http2::open(gateway.address());
    let mut exchange = client.begin(client.request("POST", "/a", ""));
    for piece in ["one", "two", "three"] {
        exchange.send(piece);
        assert_eq!(exchange.piece().unwrap().unwrap(), piece);
    }
    exchange.end();
    assert_eq!(exchange.piece().unwrap(), None);
    assert_eq!(exchange.trailers().unwrap()["grpc-status"], "0");
}

#[test]
fn who_resets_a_stream_frees_the_endpoint() {
    let plain = Endpoint::start("plain");
    let relay = Endpoint::setup("relay").h2c().relays().start();
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          plain: {{ endpoints: [{plain}] }}
          relay: {{ protocol: http2, endpoints: [{relay}] }}
        routes:
          - match: {{ path: /plain }}
            upstream: plain
          - match: {{ path: /relay }}
            upstream: relay
          - match: {{ path: /fixed }}
            respond: {{ text: fixed }}
        "
    ));
    plain.slow(Duration::from_secs(60));
    let mut frames = Frames::open(gateway.address());
    frames.ask(1, "/plain", END);
    frames.ask(3, "/plain", 0);
    frames.data(3, "part", END);
    frames.ask(5, "/relay", 0);
    frames.data(5, "part", 0);
    eventually(PATIENCE, || {
        plain.in_flight() == 2 && relay.in_flight() == 1
    });
    for stream in [1, 3, 5] {
        frames.reset(stream);
    }
    eventually(PATIENCE, || {
        plain.in_flight() == 0 && relay.in_flight() == 0
    });
    frames.ask(7, "/fixed", END);
    frames.until(ends(7));
}

#[test]
fn who_leaves_in_the_middle_of_an_upload_frees_the_endpoint() {
    let upstream = Upstream::raw(|mut caller| {
        caller.head();
        caller.wait_for_close();
    });
    let gateway = gateway("", &upstream);
    let mut frames = Frames::open(gateway.address());
    frames.ask(1, "/a", 0);
    frames.data(1, "part", 0);
    eventually(PATIENCE, || upstream.connections() == 1);
    drop(frames);
    gateway.wait_for_output("POST /a HTTP/2.0");
}

#[test]
fn a_request_is_tried_again_with_its_body() {
    let broken = Upstream::raw(|mut caller| drop(caller.request()));
    let endpoint = Endpoint::start("a");
    let hanging = Upstream::silent();
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          app:
            endpoints: [{broken}, {endpoint}]
            max_fails: 0
          slow:
            endpoints: [{hanging}, {endpoint}]
            max_fails: 0
            retries: {{ on: [timeout], timeout: 200ms }}
        routes:
          - match: {{ path: /app }}
            upstream: app
          - match: {{ path: /slow }}
            upstream: slow
        "
    ));
    let client = Http2::open(gateway.address());
    for path in ["/app", "/slow"] {
        for _ in 0..4 {
            let body = "x".repeat(10_000);
            let answer = client
                .send(client.request("PUT", path, body.clone()))
                .unwrap();
            assert_eq!(answer.status, 200, "{path}");
            assert_eq!(answer.json()["body"], body, "{path}");
        }
    }
    assert!(broken.connections() > 0 && hanging.connections() > 0);
}

/// RFC 9113, 8.1: an answer may be complete before its request is; then the client is told to stop.
#[test]
fn who_is_answered_before_a_long_upload_has_ended_is_told_to_stop() {
    let endpoint = Endpoint::start("a");
    let gateway = gateway("", &endpoint);
    let mut frames = Frames::open(gateway.address());
    // There is no more room for all streams together before that.
    frames.until(is(Frames::WINDOW_UPDATE, 0));
    frames.ask(1, "/fixed", 0);
    for _ in 0..5 {
        frames.data(1, [b'x'; 16_384], 0);
    }
    let answer = frames.until(ends(1));
    assert_eq!(answer.payload, b"fixed");
    let reset = frames.until(is(Frames::RESET, 1));
    assert_eq!(reset.code(), Some(NO_ERROR));
    frames.ask(3, "/a", END);
    frames.until(ends(3));
}

#[test]
fn who_is_answered_before_a_short_upload_has_ended_may_finish_it() {
    let gateway = limited("true");
    let mut frames = Frames::open(gateway.address());
    frames.ask(1, "/fixed", 0);
    frames.until(ends(1));
    frames.data(1, "all of it", END);
    frames.ask(3, "/fixed", END);
    let mut seen = Vec::new();
    loop {
        let frame = frames.frame().unwrap();
        assert_ne!(frame.kind, Frames::RESET, "{seen:?}");
        if ends(3)(&frame) {
            return;
        }
        seen.push(frame);
    }
}

/// The endpoint has answered, and the rest of the body never comes.
#[test]
fn an_upload_does_not_outlive_its_answer_for_long() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndone\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        let upstream = Upstream::raw(move |mut caller| {
            caller.head();
            caller.send(answer);
            caller.wait_for_close();
        });
        let gateway = gateway("requests: { read_timeout: 1s }", &upstream);
        let mut frames = Frames::open(gateway.address());
        frames.ask(1, "/a", 0);
        frames.data(1, "part", 0);
        frames.until(ends(1));
        let start = Instant::now();
        let reset = frames.until(is(Frames::RESET, 1));
        assert_eq!(reset.code(), Some(NO_ERROR));
        let waited = start.elapsed();
        assert!(
            waited > Duration::from_millis(700) && waited < SOON,
            "{waited:?}"
        );
    }
}

#[test]
fn an_upload_that_pauses_for_too_long_is_answered_with_408() {
    let endpoint = Endpoint::start("a");
    let gateway = Gateway::start(&format!(
        "
        upstreams: {{ a: {{ endpoints: [{endpoint}], timeouts: {{ read: 500ms }} }} }}
        routes: [{{ upstream: a }}]
        "
    ));
    let client = Http2::open(gateway.address());
    let mut exchange = client.begin(client.request("POST", "/a", ""));
    exchange.send("part");
    assert_eq!(exchange.head().unwrap().0, 408);
}

#[test]
fn who_asks_before_a_body_is_answered_before_it() {
    let upstream = Upstream::raw(|mut caller| {
        caller.head();
        caller.send(
            "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
    });
    let gateway = gateway("", &upstream);
    let client = Http2::open(gateway.address());
    let mut request = client.request("POST", "/a", "");
    request
        .headers_mut()
        .insert("expect", "100-continue".parse().unwrap());
    let mut exchange = client.begin(request);
    assert_eq!(exchange.head().unwrap().0, 417);
    // Who is told to go on is not waited for either.
    let upstream = Upstream::raw(|mut caller| {
        caller.head();
        caller.send("HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(caller.body(4).unwrap(), b"body");
        caller.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    let gateway = self::gateway("", &upstream);
    let client = Http2::open(gateway.address());
    let mut request = client.request("POST", "/a", "body");
    request
        .headers_mut()
        .insert("expect", "100-continue".parse().unwrap());
    assert_eq!(client.send(request).unwrap().body, "ok");
}

#[test]
fn an_answer_that_breaks_off_is_not_taken_for_whole() {
    let upstream = Upstream::answers("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome");
    let gateway = gateway("", &upstream);
    let client = Http2::open(gateway.address());
    let answer = client.send(client.request("GET", "/a", ""));
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(client.get("/fixed").body, "fixed");
}

#[test]
fn many_requests_share_a_connection() {
    let endpoint = Endpoint::start("a");
    let gateway = gateway("", &endpoint);
    endpoint.slow(Duration::from_secs(1));
    let client = Http2::open(gateway.address());
    client.get("/fixed");
    let start = Instant::now();
    let requests = (0..80).map(|number| client.request("GET", &format!("/{number}"), ""));
    let answers = client.send_all(requests);
    for (number, answer) in answers.into_iter().enumerate() {
        let answer: Trailed = answer.unwrap();
        assert_eq!(answer.json()["path"], format!("/{number}"));
    }
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert!(
        endpoint.most_in_flight() > 20,
        "{}",
        endpoint.most_in_flight()
    );
}

// ---- what a client may ask of one connection ------------------------------------------------------

#[test]
fn a_client_is_told_how_much_it_may_ask() {
    const MAX_CONCURRENT_STREAMS: u16 = 3;
    const INITIAL_WINDOW_SIZE: u16 = 4;
    const MAX_HEADER_LIST_SIZE: u16 = 6;
    for (limits, streams, header, stream_window, window) in [
        ("true", 100, 65_536, 262_144, 1_048_576),
        (
            "{ max_streams: 7, max_header_size: 8KiB, stream_window: 128KiB, connection_window: 2MiB }",
            7,
            8_192,
            131_072,
            2_097_152,
        ),
    ] {
        let gateway = limited(limits);
        let mut frames = Frames::open(gateway.address());
        let told = frames.told();
        assert_eq!(told.setting(MAX_CONCURRENT_STREAMS), Some(streams));
        assert_eq!(told.setting(MAX_HEADER_LIST_SIZE), Some(header));
        assert_eq!(told.setting(INITIAL_WINDOW_SIZE), Some(stream_window));
        let widened = frames.until(is(Frames::WINDOW_UPDATE, 0));
        assert_eq!(widened.payload, u32::to_be_bytes(window - 65_535));
    }
}

#[test]
fn one_request_too_many_is_refused_and_may_come_again() {
    let endpoint = Endpoint::start("a");
    let gateway = gateway(
        "listeners: { http: { bind: '127.0.0.1:0', http2: { max_streams: 3 } } }",
        &endpoint,
    );
    endpoint.slow(Duration::from_secs(60));
    let mut frames = Frames::open(gateway.address());
    for stream in [1, 3, 5, 7] {
        frames.ask(stream, "/a", END);
    }
    let reset = frames.until(|frame| frame.kind == Frames::RESET);
    assert_eq!((reset.stream, reset.code()), (7, Some(REFUSED_STREAM)));
    frames.reset(1);
    eventually(PATIENCE, || endpoint.in_flight() == 2);
    frames.ask(9, "/fixed", END);
    frames.until(ends(9));
}

#[test]
fn a_head_that_is_too_large_is_answered_with_431() {
    let gateway = limited("{ max_header_size: 8KiB }");
    let mut frames = Frames::open(gateway.address());
    let large = "x".repeat(9_000);
    let fields = [&asking("GET", "/fixed")[..], &[("x-large", &large)]].concat();
    frames.head(1, &fields, END);
    let head = frames.until(is(Frames::HEADERS, 1));
    // `431` by Huffman's code.
    let said = head.payload.windows(2).any(|bytes| bytes == [0x69, 0x90]);
    assert!(said, "{head:?}");
    let fits = "x".repeat(7_000);
    let fields = [&asking("GET", "/fixed")[..], &[("x-large", &fits)]].concat();
    frames.head(3, &fields, END);
    frames.until(ends(3));
}

#[test]
fn more_than_the_window_is_an_error() {
    let silent = Upstream::raw(|mut caller| caller.wait_for_close());
    let listeners =
        |limits: &str| format!("listeners: {{ http: {{ bind: '127.0.0.1:0', http2: {limits} }} }}");
    // Of a stream: nobody takes what is sent, since the endpoint does not.
    let gateway = gateway(&listeners("{ stream_window: 64KiB }"), &silent);
    let mut frames = Frames::open(gateway.address());
    frames.ask(1, "/fixed", 0);
    for _ in 0..200 {
        frames.data(1, [b'x'; 16_384], 0);
    }
    let error = frames.until(|frame| frame.code().is_some_and(|code| code != NO_ERROR));
    assert_eq!(error.code(), Some(FLOW_CONTROL_ERROR), "{error:?}");
}

/// CVE-2023-44487: every request is taken back at once, and so never counts among those at once.
#[test]
fn who_takes_back_requests_by_the_thousand_is_cut_off() {
    let endpoint = Endpoint::start("a");
    let gateway = gateway("", &endpoint);
    endpoint.slow(Duration::from_secs(60));
    let mut frames = Frames::open(gateway.address());
    let mut bytes = Vec::new();
    for number in 0..5_000 {
        let stream = number * 2 + 1;
        let block = block(&asking("GET", "/a"));
        bytes.extend(frame(
            Frames::HEADERS,
            END | Frames::END_HEADERS,
            stream,
            &block,
        ));
        bytes.extend(frame(Frames::RESET, 0, stream, &[0, 0, 0, 8]));
    }
    frames.write(&bytes);
    let goodbye = frames
        .rest()
        .into_iter()
        .find(|frame| frame.kind == Frames::GOAWAY);
    assert!(
        goodbye.is_none_or(|frame| frame.code() == Some(ENHANCE_YOUR_CALM)),
        "cut off for another reason"
    );
    assert!(endpoint.requests() <= 200, "{}", endpoint.requests());
    eventually(PATIENCE, || endpoint.in_flight() == 0);
    assert_eq!(Http2::open(gateway.address()).get("/fixed").body, "fixed");
}

/// Requests that were taken back are still being cleaned up where they wait for a name to resolve or
/// a connection to open. Until then they count.
#[test]
fn requests_that_were_taken_back_count_until_they_have_ended() {
    let unreachable = Upstream::unreachable();
    let gateway = Gateway::start(&format!(
        "
        listeners: {{ http: {{ bind: '127.0.0.1:0', http2: {{ max_streams: 4 }} }} }}
        upstreams:
          app:
            endpoints: [{unreachable}]
            timeouts: {{ connect: 2s }}
            retries: {{ tries: 1 }}
        routes:
          - match: {{ path: /fixed }}
            respond: {{ text: fixed }}
          - match: {{ path: / }}
            upstream: app
        "
    ));
    let mut frames = Frames::open(gateway.address());
    for stream in [1, 3, 5, 7] {
        frames.ask(stream, "/a", END);
    }
    // All four are under way once this has been answered.
    frames.send(Frames::PING, 0, 0, &[7; 8]);
    frames.until(|frame| frame.kind == Frames::PING);
    thread::sleep(Duration::from_millis(200));
    for stream in [1, 3, 5, 7] {
        frames.reset(stream);
    }
    let start = Instant::now();
    frames.ask(9, "/fixed", END);
    frames.until(ends(9));
    let waited = start.elapsed();
    assert!(waited > Duration::from_millis(800), "{waited:?}");
    // Who goes on is cut off: these wait behind the others, and are taken back there.
    for number in 0..4 {
        frames.ask(number * 2 + 11, "/a", END);
    }
    thread::sleep(Duration::from_millis(200));
    for number in 0..4 {
        frames.reset(number * 2 + 11);
    }
    for number in 4..100 {
        frames.ask(number * 2 + 11, "/a", END);
        frames.reset(number * 2 + 11);
    }
    let goodbye = frames.until(|frame| frame.kind == Frames::GOAWAY);
    assert_eq!(goodbye.code(), Some(ENHANCE_YOUR_CALM));
}

/// CVE-2025-8671 (MadeYouReset): the client has the gateway take back its own requests.
#[test]
fn who_has_requests_reset_by_the_hundred_is_cut_off() {
    let gateway = limited("true");
    let mut frames = Frames::open(gateway.address());
    for number in 0..1_000 {
        let stream = number * 2 + 1;
        frames.ask(stream, "/a", 0);
        // More room than there can be is an error of the stream.
        frames.widen(stream, 0x7fff_ffff);
    }
    let seen = frames.rest();
    let goodbye = seen.iter().find(|frame| frame.kind == Frames::GOAWAY);
    assert_eq!(goodbye.and_then(Frame::code), Some(ENHANCE_YOUR_CALM));
    let resets = seen.iter().filter(|frame| frame.kind == Frames::RESET);
    assert!(resets.count() <= 400);
    assert_eq!(Http2::open(gateway.address()).get("/fixed").body, "fixed");
}

/// CVE-2024-27316 and others: a head without an end.
#[test]
fn a_head_in_too_many_pieces_is_not_read_on() {
    let gateway = limited("true");
    let mut frames = Frames::open(gateway.address());
    frames.send(Frames::HEADERS, END, 1, &block(&asking("GET", "/fixed")));
    for number in 0..1_000 {
        let fields = block(&[(&format!("x-{number}"), "y")]);
        frames.send(Frames::CONTINUATION, 0, 1, &fields);
    }
    let goodbye = frames
        .rest()
        .into_iter()
        .find(|frame| frame.kind == Frames::GOAWAY);
    let code = goodbye.as_ref().and_then(Frame::code);
    assert!(
        code.is_none_or(|code| code == ENHANCE_YOUR_CALM),
        "{goodbye:?}"
    );
    assert_eq!(Http2::open(gateway.address()).get("/fixed").body, "fixed");
}

/// CVE-2019-9518: frames that cost the sender nothing.
#[test]
fn pieces_without_content_are_not_taken_forever() {
    let silent = Upstream::silent();
    let gateway = gateway("", &silent);
    let mut frames = Frames::open(gateway.address());
    frames.ask(1, "/a", 0);
    for _ in 0..2_000 {
        frames.data(1, "", 0);
    }
    let goodbye = frames
        .rest()
        .into_iter()
        .find(|frame| frame.kind == Frames::GOAWAY);
    let code = goodbye.as_ref().and_then(Frame::code);
    assert!(
        code.is_none_or(|code| code == ENHANCE_YOUR_CALM),
        "{goodbye:?}"
    );
}

#[test]
fn pings_are_answered() {
    let gateway = limited("true");
    let mut frames = Frames::open(gateway.address());
    for number in 0..100 {
        frames.send(Frames::PING, 0, 0, &[number; 8]);
        let pong = frames.until(|frame| frame.kind == Frames::PING);
        assert_eq!((pong.flags, pong.payload), (Frames::ACK, vec![number; 8]));
    }
}

// ---- its end --------------------------------------------------------------------------------------

#[test]
fn a_connection_that_nobody_uses_is_closed_whatever_it_says() {
    let gateway = gateway(
        "requests: { keepalive: 1s, header_timeout: 1s }",
        "127.0.0.1:9",
    );
    let half = Frames::PREFACE.len() / 2;
    let mut frames = Frames::bare(gateway.address());
    let start = Instant::now();
    frames.write(&Frames::PREFACE[..half]);
    assert_eq!(frames.rest(), []);
    let mut silent = Frames::bare(gateway.address());
    assert_eq!(silent.rest(), []);
    // After the preface alone, and after a request.
    for requests in 0..2 {
        let mut frames = Frames::open(gateway.address());
        if requests > 0 {
            frames.ask(1, "/fixed", END);
            frames.until(ends(1));
        }
        let last = thread::spawn(move || {
            let mut seen = Vec::new();
            while let Some(frame) = frames.frame() {
                // It answers, which is no use of the connection.
                frames.send(Frames::PING, 0, 0, &[1; 8]);
                thread::sleep(Duration::from_millis(50));
                seen.push(frame);
            }
            seen
        });
        let seen = last.join().unwrap();
        let goodbye = seen.iter().find(|frame| frame.kind == Frames::GOAWAY);
        assert_eq!(goodbye.and_then(Frame::code), Some(NO_ERROR), "{seen:?}");
    }
    assert!(start.elapsed() < SOON * 2, "{:?}", start.elapsed());
}

#[test]
fn a_connection_is_not_idle_while_a_request_is_under_way() {
    let endpoint = Endpoint::start("a");
    let gateway = gateway("requests: { keepalive: 1s }", &endpoint);
    endpoint.slow(Duration::from_secs(3));
    let client = Http2::open(gateway.address());
    assert_eq!(client.get("/a").status, 200);
}

#[test]
fn who_gives_no_room_for_an_answer_is_cut_off() {
    let echo = Echo::start();
    let settings = "requests: { keepalive: 1s, write_timeout: 1s }";
    let gateway = gateway(settings, &echo);
    for size in [100_000, 1_000_000] {
        let mut frames = Frames::open(gateway.address());
        frames.ask(1, &format!("/a?size={size}"), END);
        let mut read = 0;
        while read < 65_535 {
            read += frames.until(is(Frames::DATA, 1)).payload.len();
        }
        let rest = frames.rest();
        assert!(!rest.iter().any(ends(1)), "{rest:?}");
        assert!(rest.iter().any(is(Frames::RESET, 1)), "{rest:?}");
    }
}

/// There is room, but nobody reads.
#[test]
fn who_does_not_read_an_answer_is_cut_off() {
    let echo = Echo::start();
    let settings = "requests: { keepalive: 1s, write_timeout: 1s }";
    let gateway = gateway(settings, &echo);
    let mut frames = Frames::open(gateway.address());
    wide(&mut frames);
    frames.ask(1, "/a?size=50000000", END);
    gateway.wait_for_output("GET /a?size=50000000 HTTP/2.0");
    // What the two systems keep between them is less than that.
    eventually(PATIENCE, || sockets_of(&gateway) == 0);
    let rest = frames.rest();
    assert!(!rest.iter().any(ends(1)));
}

/// Answers wait in the gateway for longer than a connection may be idle.
#[test]
fn who_reads_late_gets_all_answers() {
    // Each fits into the gateway, and all together are more than the two systems keep between them.
    const SIZE: usize = 60_000;
    let echo = Echo::start();
    let settings = "requests: { keepalive: 1s, write_timeout: 8s }";
    let gateway = gateway(settings, &echo);
    let mut frames = Frames::open(gateway.address());
    frames.widen(0, 1 << 30);
    let streams = (0..100).map(|number| number * 2 + 1);
    for stream in streams.clone() {
        frames.ask(stream, &format!("/a?size={SIZE}"), END);
    }
    let answered = || gateway.output().matches("GET /a?size=").count();
    eventually(PATIENCE, || answered() == 100);
    thread::sleep(Duration::from_secs(4));
    let (mut read, mut ended) = (0, 0);
    while ended < streams.len() {
        let frame = frames.until(|frame| frame.stream > 0);
        assert_ne!(frame.kind, Frames::RESET, "{frame:?}");
        if frame.kind == Frames::DATA {
            read += frame.payload.len();
        }
        ended += usize::from(frame.ends());
    }
    assert_eq!(read, SIZE * 100);
}

#[test]
fn running_requests_end_before_the_gateway_does() {
    let endpoint = Endpoint::start("a");
    let mut gateway = gateway("", &endpoint);
    let (idle, fresh) = (
        Http2::open(gateway.address()),
        Frames::open(gateway.address()),
    );
    let mut open = Frames::bare(gateway.address());
    idle.get("/fixed");
    endpoint.slow(Duration::from_secs(2));
    let mut frames = Frames::open(gateway.address());
    frames.ask(1, "/a", END);
    eventually(PATIENCE, || endpoint.in_flight() == 1);
    gateway.ask_to_stop();
    let goodbye = frames.until(|frame| frame.kind == Frames::GOAWAY);
    assert_eq!(goodbye.code(), Some(NO_ERROR));
    assert_eq!(open.rest(), []);
    // Whether the client has seen that is asked by a ping.
    let ping = frames.until(|frame| frame.kind == Frames::PING);
    frames.send(Frames::PING, Frames::ACK, 0, &ping.payload);
    frames.until(ends(1));
    let start = Instant::now();
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    drop((idle, fresh));
}

#[test]
fn a_reload_does_not_disturb_connections() {
    let endpoint = Endpoint::start("a");
    let configuration = |text: &str| {
        format!(
            "
            upstreams: {{ a: {{ endpoints: [{endpoint}] }} }}
            routes:
              - match: {{ path: /fixed }}
                respond: {{ text: {text} }}
              - match: {{ path: / }}
                upstream: a
            "
        )
    };
    let gateway = Gateway::start(&configuration("old"));
    endpoint.slow(Duration::from_secs(1));
    let mut frames = Frames::open(gateway.address());
    frames.ask(1, "/a", END);
    eventually(PATIENCE, || endpoint.in_flight() == 1);
    assert!(gateway.reload(&configuration("new")));
    frames.ask(3, "/fixed", END);
    assert_eq!(frames.until(is(Frames::DATA, 3)).payload, b"new");
    frames.until(ends(1));
}

#[test]
fn a_change_of_http2_holds_for_connections_from_the_reload_on() {
    let listener = |http2: &str| {
        format!(
            "
            listeners: {{ http: {{ bind: '127.0.0.1:0', http2: {http2} }} }}
            routes: [{{ respond: {{ text: fixed }} }}]
            "
        )
    };
    let gateway = Gateway::start(&listener("true"));
    let old = Frames::open(gateway.address());
    assert!(gateway.reload(&listener("{ max_streams: 5 }")));
    let new = Frames::open(gateway.address());
    const MAX_CONCURRENT_STREAMS: u16 = 3;
    let most = [old, new].map(|frames| frames.told().setting(MAX_CONCURRENT_STREAMS));
    assert_eq!(most, [Some(100), Some(5)]);
}
