//! Connections that are passed on as they are.

mod mail;
mod peers;

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::net::UnixListener,
    thread,
    time::Instant,
};

use edgeway_tests::{Authority, Certificate, Endpoint, Gateway, PATIENCE, Upstream, eventually};
use socket2::SockRef;

use self::peers::{Peer, connect, expect_echo, expect_end, gateway, hear, ms, passing_on, secure};

/// What a line of the log says of this.
#[track_caller]
fn field<'l>(line: &'l str, name: &str) -> &'l str {
    let mut words = line.split(' ');
    let value = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no `{name}` in {line}"))
}

fn port_of(stream: &TcpStream) -> String {
    stream.local_addr().unwrap().to_string()
}

fn tls_of(certificate: &Certificate) -> String {
    let (chain, key) = (certificate.chain(), certificate.key());
    let files = format!("{{ chain: {}, key: {} }}", chain.display(), key.display());
    format!(", tls: {{ certificates: [{files}] }}")
}

// ---- passing on -------------------------------------------------------------------------------

#[test]
fn bytes_pass_as_they_are_and_one_line_tells_of_them() {
    let echo = Peer::echo("");
    let gateway = gateway(&format!("endpoints: ['{echo}']"));
    let mut client = connect(gateway.address());
    for words in ["EHLO a\r\n", "\0\u{1}\n\n", "GET / HTTP/1.1\r\n\r\n"] {
        expect_echo(&mut client, words);
    }
    let name = port_of(&client);
    assert!(!gateway.log().contains("passed on"), "it goes on");
    drop(client);
    let line = gateway.wait_for_log("connection passed on");
    assert_eq!(field(&line, "listener"), "mail");
    assert_eq!(field(&line, "client"), name);
    assert_eq!(field(&line, "upstream"), "app");
    assert_eq!(field(&line, "endpoint"), echo.to_string());
    assert_eq!(
        (field(&line, "sent"), field(&line, "received")),
        ("30", "30")
    );
    assert_eq!(field(&line, "end"), "closed");
    assert!(field(&line, "duration_ms").parse::<u64>().is_ok(), "{line}");
}

#[test]
fn an_endpoint_may_speak_first_with_and_without_tls() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["mail.test"]);
    let endpoint = Peer::echo("220 ready\r\n");
    let endpoints = format!("endpoints: ['{endpoint}']");
    let plain = gateway(&endpoints);
    let mut client = connect(plain.address());
    assert_eq!(hear(&mut client, 11), "220 ready\r\n");
    expect_echo(&mut client, "QUIT\r\n");
    let gateway = Gateway::start(&passing_on(&tls_of(&certificate), &endpoints));
    // What is offered inside TLS is between the two.
    for alpn in [&[][..], &["imap"], &["h2", "http/1.1"]] {
        let mut client = secure(gateway.address(), "mail.test", &authority, alpn).unwrap();
        assert_eq!(hear(&mut client, 11), "220 ready\r\n");
        expect_echo(&mut client, "QUIT\r\n");
        assert_eq!(client.conn.alpn_protocol(), None);
        client.conn.send_close_notify();
        client.flush().unwrap();
        client.sock.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        assert_eq!(client.read_to_end(&mut rest).unwrap(), 0, "a proper end");
    }
}

#[test]
fn who_has_said_all_still_hears_the_other() {
    let patient = Peer::new(|mut stream| {
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        write!(stream, "heard {heard}").unwrap();
    });
    let brief = Peer::new(|mut stream| {
        stream.write_all(b"all").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "more");
    });
    let first = gateway(&format!("endpoints: ['{patient}']"));
    let mut client = connect(first.address());
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut heard = String::new();
    client.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "heard question");
    let second = gateway(&format!("endpoints: ['{brief}']"));
    let mut client = connect(second.address());
    let mut heard = String::new();
    client.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "all");
    client.write_all(b"more").unwrap();
    drop(client);
    let line = second.wait_for_log("connection passed on");
    assert_eq!((field(&line, "sent"), field(&line, "end")), ("4", "closed"));
}

#[test]
fn the_last_words_of_an_endpoint_arrive_though_it_has_not_listened() {
    let rude = Peer::new(|mut stream| {
        assert_eq!(hear(&mut stream, 1), "x");
        stream.write_all(b"554 go away\r\n").unwrap();
    });
    let gateway = gateway(&format!("endpoints: ['{rude}']"));
    let mut client = connect(gateway.address());
    client.write_all(&vec![b'x'; 100_000]).unwrap();
    assert_eq!(hear(&mut client, 13), "554 go away\r\n");
    drop(client);
    gateway.wait_for_log("connection passed on");
}

#[test]
fn who_has_broken_off_is_told() {
    let endpoint = Peer::new(|mut stream| {
        stream.write_all(b"hello").unwrap();
        if hear(&mut stream, 4) == "quit" {
            SockRef::from(&stream).set_linger(Some(ms(0))).unwrap();
        } else {
            stream.read_to_end(&mut Vec::new()).ok();
        }
    });
    let gateway = gateway(&format!("endpoints: ['{endpoint}']"));
    let open = |word: &[u8]| {
        let mut client = connect(gateway.address());
        assert_eq!(hear(&mut client, 5), "hello");
        client.write_all(word).unwrap();
        client
    };
    let mut left = open(b"quit");
    expect_end(&mut left);
    gateway.wait_for_log("end=endpoint_broke_off");
    let leaving = open(b"stay");
    SockRef::from(&leaving).set_linger(Some(ms(0))).unwrap();
    drop(leaving);
    gateway.wait_for_log("end=client_broke_off");
}

#[test]
fn much_passes_both_ways_at_once() {
    const SIZE: usize = 64 << 20;
    let byte = |at: usize| (at % 251) as u8;
    let words: Vec<u8> = (0..SIZE).map(byte).collect();
    let authority = Authority::new();
    let certificate = authority.certificate(&["data.test"]);
    let echo = Peer::echo("");
    let endpoints = format!("endpoints: ['{echo}']");
    let plain = gateway(&endpoints);
    let mut client = connect(plain.address());
    let mut speaking = client.try_clone().unwrap();
    let said = words.clone();
    let speaker = thread::spawn(move || {
        speaking.write_all(&said).unwrap();
        speaking.shutdown(Shutdown::Write).unwrap();
    });
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).unwrap();
    speaker.join().unwrap();
    assert!(heard == words, "{}", heard.len());
    let line = plain.wait_for_log("connection passed on");
    let size = SIZE.to_string();
    assert_eq!(
        (field(&line, "sent"), field(&line, "received")),
        (&*size, &*size)
    );
    // A piece at a time over TLS: one thread speaks and hears.
    let secured = Gateway::start(&passing_on(&tls_of(&certificate), &endpoints));
    let mut client = secure(secured.address(), "data.test", &authority, &[]).unwrap();
    for piece in words[..8 << 20].chunks(100_000) {
        client.write_all(piece).unwrap();
        let mut heard = vec![0; piece.len()];
        client.read_exact(&mut heard).unwrap();
        assert!(heard == piece);
    }
}

#[test]
fn a_connection_on_which_nothing_passes_is_closed_and_any_other_is_not() {
    let echo = Peer::echo("");
    let yaml = passing_on("", &format!("endpoints: ['{echo}']"));
    let yaml = yaml.replace("upstream: app", "upstream: app, idle_timeout: 2s");
    let gateway = Gateway::start(&yaml);
    let mut client = connect(gateway.address());
    let began = Instant::now();
    while began.elapsed() < ms(2_500) {
        expect_echo(&mut client, "a");
        thread::sleep(ms(20));
    }
    let silent = Instant::now();
    expect_end(&mut client);
    assert!(silent.elapsed() >= ms(1_900), "{:?}", silent.elapsed());
    gateway.wait_for_log("end=idle");
}

#[test]
fn sockets_in_the_file_system_are_as_good_as_ports() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let listener = UnixListener::bind(path("database")).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            io::copy(&mut &stream, &mut &stream).ok();
            stream.shutdown(Shutdown::Write).ok();
        }
    });
    let upstream = format!("endpoints: ['unix:{}']", path("database").display());
    let yaml = passing_on("", &upstream);
    let front = format!("unix:{}", path("front").display());
    let gateway = Gateway::start(&yaml.replace("127.0.0.1:0", &front));
    let mut client = std::os::unix::net::UnixStream::connect(path("front")).unwrap();
    expect_echo(&mut client, "SELECT 1;");
    drop(client);
    let line = gateway.wait_for_log("connection passed on");
    assert_eq!(field(&line, "client"), "127.0.0.1:0");
}

// ---- where to ---------------------------------------------------------------------------------

/// Asks an endpoint of HTTPS for its name, through whatever is between.
fn asked(address: SocketAddr, name: &str, authority: &Authority) -> io::Result<String> {
    let mut stream = secure(address, name, authority, &[])?;
    let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard)?;
    let name = heard
        .lines()
        .find_map(|line| line.strip_prefix("x-endpoint: "));
    Ok(name.unwrap_or_else(|| panic!("{heard}")).to_owned())
}

#[test]
fn who_asks_by_tls_for_a_name_is_passed_on_to_whom_has_it() {
    let authority = Authority::new();
    let https = |name, host: &str| Endpoint::https(name, &authority.certificate(&[host]));
    let shop = https("shop", "shop.test");
    let tenants = https("tenants", "*.tenant.test");
    let other = https("other", "other.test");
    let configuration = |fallback: &str| {
        format!(
            "
            listeners:
              https:
                bind: '127.0.0.1:0'
                tcp:
                  sni: {{ Shop.test: shop, '*.tenant.test': tenants }}
                  {fallback}
            upstreams:
              shop: {{ endpoints: ['{shop}'] }}
              tenants: {{ endpoints: ['{tenants}'] }}
              other: {{ endpoints: ['{other}'] }}
            "
        )
    };
    let gateway = Gateway::start(&configuration("upstream: other"));
    let ask = |gateway: &Gateway, name| asked(gateway.address(), name, &authority);
    assert_eq!(ask(&gateway, "shop.test").unwrap(), "shop");
    assert_eq!(ask(&gateway, "a.tenant.test").unwrap(), "tenants");
    assert_eq!(ask(&gateway, "other.test").unwrap(), "other");
    let line = gateway.wait_for_log("connection passed on");
    assert_eq!(field(&line, "sni"), "shop.test");
    // An address is no name: the other one is asked, whose certificate is not for it.
    let refused = ask(&gateway, "127.0.0.1").unwrap_err().to_string();
    assert!(refused.contains("not valid for name"), "{refused}");
    let without = configuration("").replace("other: {", "# other: {");
    let gateway = Gateway::start(&without);
    assert_eq!(ask(&gateway, "shop.test").unwrap(), "shop");
    for name in ["other.test", "a.b.tenant.test", "127.0.0.1"] {
        let refused = ask(&gateway, name).unwrap_err().to_string();
        assert!(refused.contains("UnrecognisedName"), "{name}: {refused}");
    }
    let mut plain = connect(gateway.address());
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    expect_end(&mut plain);
}

#[test]
fn who_does_not_say_whom_it_wants_is_waited_for_as_long_as_for_a_request() {
    let echo = Peer::echo("");
    let gateway = Gateway::start(&format!(
        "
        listeners: {{ https: {{ bind: '127.0.0.1:0', tcp: {{ sni: {{ a.test: app }} }} }} }}
        upstreams: {{ app: {{ endpoints: ['{echo}'] }} }}
        requests: {{ header_timeout: 300ms }}
        "
    ));
    for begin in [&b""[..], &[22, 3, 1]] {
        let began = Instant::now();
        let mut client = connect(gateway.address());
        client.write_all(begin).unwrap();
        expect_end(&mut client);
        assert!(began.elapsed() >= ms(250), "{:?}", began.elapsed());
    }
    assert_eq!(echo.connections(), 0);
}

#[test]
fn an_endpoint_may_have_tls_of_its_own() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["db.test"]);
    // One that knows of ALPN, and would refuse who wants HTTP.
    let endpoint = Endpoint::setup("db")
        .tls(&certificate)
        .alpn(&["postgresql"])
        .start();
    let ca = authority.ca();
    let tls = |name: &str| {
        let ca = ca.display();
        format!("endpoints: ['{endpoint}'], tls: {{ ca: {ca}, name: {name} }}")
    };
    let gateway = gateway(&tls("db.test"));
    let mut client = connect(gateway.address());
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    client.write_all(request).unwrap();
    let mut heard = String::new();
    client.read_to_string(&mut heard).unwrap();
    assert!(heard.contains("x-endpoint: db"), "{heard}");
    assert!(gateway.reload(&passing_on("", &tls("other.test"))));
    let mut client = connect(gateway.address());
    expect_end(&mut client);
    let line = gateway.wait_for_log("no endpoint");
    assert!(line.contains("invalid peer certificate"), "{line}");
}

#[test]
fn proxies_say_for_whom_they_come_and_endpoints_are_told() {
    let echo = Peer::echo("");
    let upstream = |version| format!("endpoints: ['{echo}'], proxy_protocol: {version}");
    let ours = gateway(&upstream("v1"));
    let mut client = connect(ours.address());
    let mut told = format!(
        "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n",
        client.local_addr().unwrap().port(),
        ours.address().port()
    );
    assert_eq!(hear(&mut client, told.len()), told);
    let trusting = |version| {
        Gateway::start(&passing_on(
            ", proxy_protocol: [127.0.0.1]",
            &upstream(version),
        ))
    };
    let one = trusting("v1");
    let mut proxy = connect(one.address());
    told = "PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n".to_owned();
    expect_echo(&mut proxy, &told);
    expect_echo(&mut proxy, "EHLO a\r\n");
    drop(proxy);
    let line = one.wait_for_log("connection passed on");
    assert_eq!(field(&line, "client"), "192.0.2.7:4711");
    let two = trusting("v2");
    let mut proxy = connect(two.address());
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([192, 0, 2, 7, 198, 51, 100, 1, 18, 103, 0, 25]);
    proxy.write_all(&header).unwrap();
    let mut heard = vec![0; header.len()];
    proxy.read_exact(&mut heard).unwrap();
    assert_eq!(heard, header);
    let mut liar = connect(two.address());
    liar.write_all(b"EHLO without a header\r\n").unwrap();
    expect_end(&mut liar);
}

#[test]
fn a_client_is_led_to_one_endpoint_where_its_address_decides() {
    let peers = ["a", "b", "c", "d"].map(Peer::echo);
    let list: Vec<_> = peers.iter().map(|peer| format!("'{peer}'")).collect();
    let upstream = format!("endpoints: [{}], balance: ip_hash", list.join(", "));
    let gateway = Gateway::start(&passing_on(", proxy_protocol: [127.0.0.1]", &upstream));
    let endpoint_of = |client: usize| {
        let mut proxy = connect(gateway.address());
        let header = format!("PROXY TCP4 192.0.{client}.7 198.51.100.1 4711 25\r\n");
        proxy.write_all(header.as_bytes()).unwrap();
        hear(&mut proxy, 1)
    };
    let first: Vec<_> = (0..16).map(endpoint_of).collect();
    let again: Vec<_> = (0..16).map(endpoint_of).collect();
    assert_eq!(first, again);
    assert!(first.iter().any(|endpoint| *endpoint != first[0]));
}

// ---- endpoints that are not there -------------------------------------------------------------

/// The names of the endpoints of so many connections, one after the other.
fn served_by(gateway: &Gateway, connections: usize) -> String {
    let name = |_| hear(&mut connect(gateway.address()), 1);
    (0..connections).map(name).collect()
}

#[test]
fn endpoints_take_turns_and_one_that_is_down_costs_no_connection() {
    let (a, b) = (Peer::echo("a"), Peer::echo("b"));
    let both = gateway(&format!("endpoints: ['{a}', '{b}']"));
    let served = served_by(&both, 6);
    assert!(["ababab", "bababa"].contains(&&*served), "{served}");
    let down = Upstream::refusing();
    let endpoints = format!("endpoints: ['{down}', '{b}']");
    let gateway = gateway(&endpoints);
    assert_eq!(served_by(&gateway, 10), "b".repeat(10));
    gateway.wait_for_log(&format!(
        "endpoint is left out: upstream=app endpoint={down}"
    ));
    assert!(!gateway.log().contains("no endpoint"), "{}", gateway.log());
}

#[test]
fn nobody_is_tried_again_where_the_upstream_does_not_want_it() {
    let b = Peer::echo("b");
    for retries in ["tries: 1", "on: [reset]", "budget: 0%, min_per_second: 0"] {
        let down = Upstream::refusing();
        let gateway = gateway(&format!(
            "endpoints: ['{down}', '{b}'], max_fails: 0, retries: {{ {retries} }}"
        ));
        let mut lost = 0;
        for _ in 0..4 {
            let mut client = connect(gateway.address());
            let mut heard = [0];
            lost += usize::from(client.read(&mut heard).unwrap() == 0);
        }
        assert_eq!(lost, 2, "{retries}");
    }
}

#[test]
fn a_client_for_whom_nobody_is_there_is_closed_and_the_log_says_why() {
    let down = [Upstream::refusing(), Upstream::refusing()];
    let gateway = gateway(&format!("endpoints: ['{}', '{}']", down[0], down[1]));
    let mut client = connect(gateway.address());
    expect_end(&mut client);
    let line = gateway.wait_for_log("no endpoint");
    assert_eq!(field(&line, "client"), port_of(&client));
    assert_eq!(field(&line, "upstream"), "app");
    assert!(line.contains("refused"), "{line}");
    // Also who has spoken already.
    let mut client = connect(gateway.address());
    client.write_all(b"EHLO a\r\n").ok();
    expect_end(&mut client);
}

#[test]
fn the_breaker_opens_for_connections_too_and_silence_is_no_failure() {
    let down = Upstream::refusing();
    let breaker = "breaker: { min_requests: 2, open_for: 1h }, max_fails: 0";
    let broken = gateway(&format!("endpoints: ['{down}'], {breaker}"));
    for _ in 0..3 {
        expect_end(&mut connect(broken.address()));
    }
    broken.wait_for_log("breaker has opened: upstream=app");
    let open = || {
        broken
            .log()
            .contains("reason=the breaker of the upstream is open")
    };
    eventually(PATIENCE, || {
        expect_end(&mut connect(broken.address()));
        open()
    });
    let silent = Peer::new(|mut stream| {
        stream.read_to_end(&mut Vec::new()).ok();
    });
    let well = gateway(&format!("endpoints: ['{silent}'], {breaker}"));
    for _ in 0..5 {
        drop(connect(well.address()));
    }
    eventually(PATIENCE, || {
        well.log().matches("connection passed on").count() == 5
    });
    assert!(!well.log().contains("breaker"), "{}", well.log());
}

#[test]
fn checks_find_out_who_is_down_before_a_client_does() {
    let (down, b) = (Upstream::refusing(), Peer::echo("b"));
    let health = "health: { type: tcp, interval: 100ms, unhealthy_after: 1 }";
    let gateway = gateway(&format!(
        "endpoints: ['{down}', '{b}'], max_fails: 0, retries: {{ tries: 1 }}, {health}"
    ));
    gateway.wait_for_log(&format!(
        "endpoint is unhealthy: upstream=app endpoint={down}"
    ));
    assert_eq!(served_by(&gateway, 6), "b".repeat(6));
}

#[test]
fn an_endpoint_has_its_time_for_a_connection_and_for_a_handshake() {
    let slow = Upstream::unreachable();
    let silent = Upstream::silent();
    let tls = "tls: { verify: false }, timeouts: { handshake: 300ms, connect: 1h }";
    let cases = [
        format!("endpoints: ['{slow}'], timeouts: {{ connect: 300ms }}"),
        format!("endpoints: ['{silent}'], {tls}"),
    ];
    for upstream in cases {
        let gateway = gateway(&upstream);
        let began = Instant::now();
        expect_end(&mut connect(gateway.address()));
        assert!(began.elapsed() >= ms(250), "{:?}", began.elapsed());
        let line = gateway.wait_for_log("no endpoint");
        assert!(line.contains("ConnectTimedout"), "{line}");
    }
}

// ---- how many ---------------------------------------------------------------------------------

/// Whether a connection is passed on to something that repeats.
fn is_served(stream: &mut TcpStream) -> bool {
    let said = stream.write_all(b"x").is_ok();
    said && matches!(stream.read(&mut [0]), Ok(1))
}

#[test]
fn a_listener_and_a_client_have_so_many_connections() {
    let echo = Peer::echo("");
    let endpoints = format!("endpoints: ['{echo}']");
    let small = Gateway::start(&passing_on(", max_connections: 1", &endpoints));
    let few = passing_on("", &endpoints) + "connections: { per_client: 1 }\n";
    let few = Gateway::start(&few);
    for (gateway, limit) in [(small, "max_connections"), (few, "connections.per_client")] {
        let mut first = connect(gateway.address());
        assert!(is_served(&mut first));
        assert!(!is_served(&mut connect(gateway.address())));
        let line = gateway.wait_for_log("connections are refused");
        assert_eq!(field(&line, "limit"), limit);
        assert!(is_served(&mut first));
        drop(first);
        eventually(PATIENCE, || is_served(&mut connect(gateway.address())));
    }
}

#[test]
fn an_endpoint_has_so_many_connections_and_who_is_too_many_waits_where_there_is_a_queue() {
    let echo = Peer::echo("");
    let limited = format!("endpoints: ['{echo}'], max_connections: 1");
    let strict = gateway(&limited);
    let mut first = connect(strict.address());
    assert!(is_served(&mut first));
    assert!(!is_served(&mut connect(strict.address())));
    let line = strict.wait_for_log("no endpoint");
    assert!(
        line.ends_with("reason=its endpoints have as many connections as they may"),
        "{line}"
    );
    let queue = |timeout: &str| format!("{limited}, queue: {{ size: 1, timeout: {timeout} }}");
    let patient = gateway(&queue("1h"));
    let mut first = connect(patient.address());
    assert!(is_served(&mut first));
    // One of these waits, and for the other there is no room.
    let mut both = [(); 2].map(|()| connect(patient.address()));
    patient.wait_for_log("and its queue is full");
    assert!(is_served(&mut first));
    drop(first);
    let served = both
        .iter_mut()
        .filter_map(|one| is_served(one).then_some(()));
    assert_eq!(served.count(), 1);
    let hasty = gateway(&queue("100ms"));
    let mut first = connect(hasty.address());
    assert!(is_served(&mut first));
    assert!(!is_served(&mut connect(hasty.address())));
    hasty.wait_for_log("no endpoint had room for the connection in time");
}

// ---- changes and the end ----------------------------------------------------------------------

#[test]
fn a_reload_is_for_new_connections_and_leaves_the_old_ones_alone() {
    let (a, b) = (Peer::echo("a"), Peer::echo("b"));
    let to = |peer: &Peer| passing_on("", &format!("endpoints: ['{peer}']"));
    // With port 0, so that it is the same listener as before.
    let gateway = Gateway::start(&to(&a));
    let mut old = connect(gateway.address());
    assert_eq!(hear(&mut old, 1), "a");
    assert!(gateway.reload(&to(&b)));
    expect_echo(&mut old, "still here");
    assert_eq!(served_by(&gateway, 2), "bb");
    // Not even without the listener.
    let none = "listeners: { http: { bind: '127.0.0.1:0' } }\nroutes: [{ respond: { text: a } }]";
    assert!(gateway.reload(none));
    expect_echo(&mut old, "still here");
    eventually(PATIENCE, || TcpStream::connect(gateway.address()).is_err());
    // What was HTTP may become a connection, and the other way round.
    let turned = format!(
        "listeners: {{ http: {{ bind: '127.0.0.1:0', tcp: {{ upstream: app }} }} }}\n\
         upstreams: {{ app: {{ endpoints: ['{b}'] }} }}"
    );
    assert!(gateway.reload(&turned));
    expect_echo(&mut old, "still here");
    drop(old);
    assert_eq!(a.connections(), 1);
}

#[test]
fn a_gateway_that_stops_waits_for_connections_until_its_time_is_over() {
    let echo = Peer::echo("");
    let start = |timeout: &str| {
        let yaml = passing_on("", &format!("endpoints: ['{echo}']"));
        Gateway::start(&format!("{yaml}shutdown_timeout: {timeout}\n"))
    };
    let mut short = start("2s");
    let mut client = connect(short.address());
    expect_echo(&mut client, "a");
    let began = Instant::now();
    short.ask_to_stop();
    eventually(PATIENCE, || TcpStream::connect(short.address()).is_err());
    expect_echo(&mut client, "still served");
    expect_end(&mut client);
    assert!(began.elapsed() >= ms(1_900), "{:?}", began.elapsed());
    assert_eq!(short.wait().code(), Some(0));
    let mut long = start("1h");
    let mut client = connect(long.address());
    expect_echo(&mut client, "a");
    long.ask_to_stop();
    eventually(PATIENCE, || TcpStream::connect(long.address()).is_err());
    drop(client);
    assert_eq!(long.wait().code(), Some(0));
}

#[test]
fn routes_are_for_listeners_that_speak_http() {
    let echo = Peer::echo("");
    let endpoints = format!("endpoints: ['{echo}']");
    let tcp = Gateway::setup(&passing_on("", &endpoints)).run("check");
    assert_eq!((tcp.code, &*tcp.log), (Some(0), ""));
    let both = passing_on(" }, http: { bind: '127.0.0.1:0'", &endpoints);
    let checked = Gateway::setup(&both).run("check");
    assert!(
        checked.log.contains("missing key `routes`"),
        "{}",
        checked.log
    );
    let gateway = Gateway::start(&(both + "routes: [{ respond: { text: hello } }]"));
    let mut client = connect(gateway.address_of("mail"));
    expect_echo(&mut client, "a");
    let http = gateway.address_of("http");
    let answer = edgeway_tests::Request::to(http, "GET", "/").send();
    assert_eq!(answer.text(), "hello");
}

/// A database in a few lines: its protocol is in order however the pieces come (RESP2).
#[test]
fn a_database_is_asked_and_answers() {
    let database = Peer::new(|stream| {
        let mut lines = io::BufRead::lines(io::BufReader::new(&stream));
        let mut next = || lines.next()?.ok();
        let mut kept = std::collections::HashMap::new();
        while let Some(count) = next().and_then(|line| line.strip_prefix('*')?.parse().ok()) {
            let word = |_: usize| next().and_then(|_| next());
            let words: Option<Vec<String>> = (0..count).map(word).collect();
            let words = words.unwrap();
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            let answer = match words[..] {
                ["SET", key, value] => {
                    kept.insert(key.to_owned(), value.to_owned());
                    "+OK\r\n".to_owned()
                }
                ["GET", key] => match kept.get(key) {
                    Some(value) => format!("${}\r\n{value}\r\n", value.len()),
                    None => "$-1\r\n".to_owned(),
                },
                _ => "-ERR\r\n".to_owned(),
            };
            (&stream).write_all(answer.as_bytes()).unwrap();
        }
    });
    let gateway = gateway(&format!("endpoints: ['{database}']"));
    let mut client = connect(gateway.address());
    let command = |words: &[&str]| {
        let parts = words
            .iter()
            .map(|word| format!("${}\r\n{word}\r\n", word.len()));
        format!("*{}\r\n{}", words.len(), parts.collect::<String>())
    };
    let mut ask = |asked: String, answer: &str| {
        client.write_all(asked.as_bytes()).unwrap();
        assert_eq!(hear(&mut client, answer.len()), answer);
    };
    ask(command(&["SET", "a", "7"]), "+OK\r\n");
    ask(command(&["GET", "a"]), "$1\r\n7\r\n");
    // Several at once.
    let many = command(&["GET", "a"]) + &command(&["GET", "b"]) + &command(&["PING"]);
    ask(many, "$1\r\n7\r\n$-1\r\n-ERR\r\n");
}
