//! The PROXY protocol: what is said of clients before anything else, to endpoints and to us.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use edgeway_tests::{Authority, Connection, Endpoint, Gateway, PATIENCE, eventually};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use socket2::{Domain, SockAddr, Socket, Type};

/// What stands before an endpoint, takes the header from every connection, and passes on what follows.
struct Gate {
    address: String,
    headers: Arc<Mutex<Vec<String>>>,
}

impl Gate {
    /// Before an endpoint at a port.
    fn before(endpoint: &Endpoint) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let inner = endpoint.address();
        Self::open(listener.into(), address, Domain::IPV4, inner.into())
    }

    /// Before an endpoint at a unix socket, and at one itself.
    fn before_socket(endpoint: &Endpoint, path: &Path) -> Self {
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(path).unwrap()).unwrap();
        listener.listen(16).unwrap();
        let inner = endpoint.to_string();
        let inner = SockAddr::unix(inner.strip_prefix("unix:").unwrap()).unwrap();
        let address = format!("unix:{}", path.display());
        Self::open(listener, address, Domain::UNIX, inner)
    }

    fn open(listener: Socket, address: String, domain: Domain, inner: SockAddr) -> Self {
        let headers = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&headers);
        thread::spawn(move || {
            while let Ok((outer, _)) = listener.accept() {
                let (told, inner) = (Arc::clone(&told), inner.clone());
                thread::spawn(move || {
                    // A connection that says nothing is one, too.
                    let header = header(&outer).unwrap_or_else(|_| "nothing".to_owned());
                    told.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(header);
                    let socket = Socket::new(domain, Type::STREAM, None).unwrap();
                    if socket.connect(&inner).is_ok() {
                        pass_on(outer, socket);
                    }
                });
            }
        });
        Self { address, headers }
    }

    /// The headers so far, in the order of their connections.
    fn headers(&self) -> Vec<String> {
        self.headers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn pass_on(outer: Socket, inner: Socket) {
    let (back_out, back_in) = (outer.try_clone().unwrap(), inner.try_clone().unwrap());
    let copy = |from: Socket, to: Socket| {
        io::copy(&mut &from, &mut &to).ok();
        to.shutdown(Shutdown::Write).ok();
    };
    thread::spawn(move || copy(back_in, back_out));
    copy(outer, inner);
}

/// The header that a connection begins with, in words: `v2 192.0.2.1:5 to 198.51.100.1:80`.
fn header(mut connection: &Socket) -> io::Result<String> {
    let mut read = |size: usize| {
        let mut bytes = vec![0; size];
        connection.read_exact(&mut bytes).map(|()| bytes)
    };
    let mut start = read(8)?;
    if start.starts_with(b"PROXY ") {
        while !start.ends_with(b"\r\n") {
            start.extend(read(1)?);
        }
        return Ok(in_words(&String::from_utf8(start).unwrap()));
    }
    assert_eq!(start, b"\r\n\r\n\0\r\nQ");
    assert_eq!(read(4)?, b"UIT\n");
    let fixed = read(4)?;
    let rest = read(usize::from(u16::from_be_bytes([fixed[2], fixed[3]])))?;
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    let v4 = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&rest[at..at + 4]).unwrap());
    let v6 = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&rest[at..at + 16]).unwrap());
    Ok(match (fixed[0], fixed[1], rest.len()) {
        (0x20, 0, 0) => "v2 local".to_owned(),
        (0x21, 0, 0) => "v2 unknown".to_owned(),
        (0x21, 0x11, 12) => {
            let (source, destination) = ((v4(0), port(8)), (v4(4), port(10)));
            told("v2", source.into(), destination.into())
        }
        (0x21, 0x21, 36) => {
            let (source, destination) = ((v6(0), port(32)), (v6(16), port(34)));
            told("v2", source.into(), destination.into())
        }
        other => panic!("{other:?}"),
    })
}

fn in_words(line: &str) -> String {
    let words: Vec<_> = line.trim_end_matches("\r\n").split(' ').collect();
    match words[..] {
        ["PROXY", "UNKNOWN"] => "v1 unknown".to_owned(),
        ["PROXY", "TCP4" | "TCP6", from, to, from_port, to_port] => told(
            "v1",
            SocketAddr::new(from.parse().unwrap(), from_port.parse().unwrap()),
            SocketAddr::new(to.parse().unwrap(), to_port.parse().unwrap()),
        ),
        _ => panic!("{line}"),
    }
}

fn told(version: &str, source: SocketAddr, destination: SocketAddr) -> String {
    format!("{version} {source} to {destination}")
}

fn configuration(upstream: &str) -> String {
    format!(
        "listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}\n\
         trusted_proxies: [127.0.0.1]\n\
         upstreams: {{ pool: {{ {upstream} }} }}\n\
         routes: [{{ upstream: pool }}]\n"
    )
}

/// A gateway with one upstream, which every request goes to, and which believes its clients.
fn gateway(upstream: &str) -> Gateway {
    Gateway::start(&configuration(upstream))
}

/// The gateway's answer to a client, who may come by a proxy.
#[track_caller]
fn ask(connection: &mut Connection, client: Option<&str>) -> serde_json::Value {
    let mut request = connection.request("GET", "/");
    if let Some(client) = client {
        request = request.header("X-Forwarded-For", client);
    }
    let answer = request.send();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

// ---- out --------------------------------------------------------------------------------------

#[test]
fn an_endpoint_is_told_who_the_client_is_and_where_it_has_come_to() {
    for version in ["v1", "v2"] {
        let endpoint = Endpoint::start("a");
        let gate = Gate::before(&endpoint);
        let upstream = format!("endpoints: ['{}'], proxy_protocol: {version}", gate.address);
        let gateway = gateway(&upstream);
        let mut client = gateway.connect();
        ask(&mut client, None);
        let expected = told(version, client.local(), gateway.address());
        assert_eq!(gate.headers(), [expected]);
    }
}

#[test]
fn a_client_behind_a_trusted_proxy_is_told_without_a_port() {
    for version in ["v1", "v2"] {
        let endpoint = Endpoint::start("a");
        let gate = Gate::before(&endpoint);
        let upstream = format!("endpoints: ['{}'], proxy_protocol: {version}", gate.address);
        let gateway = gateway(&upstream);
        let mut proxy = gateway.connect();
        ask(&mut proxy, Some("192.0.2.7"));
        ask(&mut proxy, Some("2001:db8::7"));
        let here = gateway.address();
        // Both addresses are of one family.
        let mapped = format!("[::ffff:127.0.0.1]:{}", here.port());
        let expected = [
            format!("{version} 192.0.2.7:0 to {here}"),
            format!("{version} [2001:db8::7]:0 to {mapped}"),
        ];
        assert_eq!(gate.headers(), expected);
    }
}

#[test]
fn a_connection_to_an_endpoint_is_one_clients_for_as_long_as_it_lives() {
    for (endpoint, protocol) in [
        (Endpoint::start("one"), "http1"),
        (Endpoint::h2c("two"), "http2"),
    ] {
        let gate = Gate::before(&endpoint);
        let gateway = gateway(&format!(
            "protocol: {protocol}, endpoints: ['{}'], proxy_protocol: v2",
            gate.address
        ));
        let mut proxies = [gateway.connect(), gateway.connect()];
        let mut connections = Vec::new();
        for _ in 0..3 {
            for (proxy, client) in [
                (0, Some("192.0.2.1")),
                (0, Some("192.0.2.2")),
                (1, Some("192.0.2.1")),
                (0, None),
                (1, None),
            ] {
                let answer = ask(&mut proxies[proxy], client);
                connections.push(answer["connection"].as_u64().unwrap());
            }
        }
        let (first, later) = connections.split_at(5);
        // The same client by two ways is the same client, and nobody else is.
        assert_eq!(first[0], first[2], "{connections:?}");
        let mut different = first.to_vec();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), 4, "{connections:?}");
        assert_eq!(later, [first, first].concat(), "{connections:?}");
        assert_eq!(gate.headers().len(), 4);
    }
}

#[test]
fn clients_that_come_at_once_are_not_mixed_up_either() {
    let endpoint = Endpoint::start("a");
    let gate = Gate::before(&endpoint);
    let gateway = gateway(&format!(
        "endpoints: ['{}'], proxy_protocol: v1",
        gate.address
    ));
    let clients: Vec<_> = (1..=8).map(|number| format!("192.0.2.{number}")).collect();
    let seen: Vec<Vec<u64>> = thread::scope(|scope| {
        let asking = clients.iter().map(|client| {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut proxy = gateway.connect();
                let number = |_| {
                    ask(&mut proxy, Some(client))["connection"]
                        .as_u64()
                        .unwrap()
                };
                (0..20).map(number).collect()
            })
        });
        let asking: Vec<_> = asking.collect();
        asking
            .into_iter()
            .map(|asking| asking.join().unwrap())
            .collect()
    });
    for (client, own) in clients.iter().zip(&seen) {
        let others = seen.iter().filter(|other| !std::ptr::eq(*other, own));
        for other in others.flatten() {
            assert!(!own.contains(other), "{client} shares a connection");
        }
    }
}

#[test]
fn the_header_comes_before_tls() {
    let authority = Authority::new();
    let endpoint = Endpoint::https("a", &authority.certificate(&["127.0.0.1"]));
    for (version, protocol) in [("v1", "http1"), ("v2", "auto")] {
        let gate = Gate::before(&endpoint);
        let gateway = gateway(&format!(
            "endpoints: ['{}'], proxy_protocol: {version}, protocol: {protocol}, tls: {{ ca: {} }}",
            gate.address,
            authority.ca().display()
        ));
        let mut client = gateway.connect();
        for _ in 0..2 {
            assert_eq!(ask(&mut client, None)["endpoint"], "a");
        }
        let expected = told(version, client.local(), gateway.address());
        assert_eq!(gate.headers(), [expected]);
    }
}

#[test]
fn an_endpoint_at_a_unix_socket_is_told_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::setup("a").unix().start();
    let gate = Gate::before_socket(&endpoint, &folder.path().join("gate.sock"));
    let gateway = gateway(&format!(
        "endpoints: ['{}'], proxy_protocol: v2",
        gate.address
    ));
    let mut client = gateway.connect();
    ask(&mut client, None);
    let expected = told("v2", client.local(), gateway.address());
    assert_eq!(gate.headers(), [expected]);
}

#[test]
fn checks_are_made_in_nobodys_name() {
    for (version, kind, header) in [
        ("v1", "{ path: /healthz, interval: 50ms }", "v1 unknown"),
        ("v2", "{ path: /healthz, interval: 50ms }", "v2 local"),
        ("v2", "{ type: tcp, interval: 50ms }", "v2 local"),
    ] {
        let endpoint = Endpoint::start("a");
        let gate = Gate::before(&endpoint);
        let gateway = gateway(&format!(
            "endpoints: ['{}'], proxy_protocol: {version}, health: {kind}",
            gate.address
        ));
        eventually(PATIENCE, || gate.headers().len() >= 3);
        let headers = gate.headers();
        assert!(headers.iter().all(|told| told == header), "{headers:?}");
        assert_eq!(gateway.get("/").status, 200);
    }
}

#[test]
fn whoever_else_is_sent_the_request_is_told_too() {
    let (one, two, mirror) = (
        Endpoint::start("one"),
        Endpoint::start("two"),
        Endpoint::start("m"),
    );
    one.slow(std::time::Duration::from_secs(10));
    let gates = [&one, &two, &mirror].map(Gate::before);
    let [first, second, third] = &gates;
    let gateway = Gateway::start(&format!(
        "
        trusted_proxies: [127.0.0.1]
        upstreams:
          pool:
            proxy_protocol: v1
            endpoints: ['{}', {{ address: '{}', backup: true }}]
            retries: {{ hedge_after: 50ms }}
          mirror: {{ proxy_protocol: v2, endpoints: ['{}'] }}
        routes: [{{ upstream: pool, mirror: {{ upstream: mirror }} }}]
        ",
        first.address, second.address, third.address
    ));
    let mut proxy = gateway.connect();
    assert_eq!(ask(&mut proxy, Some("192.0.2.7"))["endpoint"], "two");
    let here = gateway.address();
    assert_eq!(first.headers(), [format!("v1 192.0.2.7:0 to {here}")]);
    assert_eq!(second.headers(), [format!("v1 192.0.2.7:0 to {here}")]);
    eventually(PATIENCE, || {
        third.headers() == [format!("v2 192.0.2.7:0 to {here}")]
    });
}

#[test]
fn connections_that_have_told_it_otherwise_are_not_used_after_a_reload() {
    let endpoint = Endpoint::start("a");
    let gate = Gate::before(&endpoint);
    let upstream = |version: &str| {
        configuration(&format!(
            "endpoints: ['{}'], proxy_protocol: {version}",
            gate.address
        ))
    };
    let gateway = Gateway::start(&upstream("v1"));
    let mut client = gateway.connect();
    ask(&mut client, None);
    assert!(gateway.reload(&upstream("v2")));
    ask(&mut client, None);
    ask(&mut client, None);
    let headers = ["v1", "v2"].map(|version| told(version, client.local(), gateway.address()));
    assert_eq!(gate.headers(), headers);
}

// ---- in ---------------------------------------------------------------------------------------

/// A gateway that tells a client who it is, at a listener that believes these peers.
fn telling(believed: &str) -> Gateway {
    Gateway::start(&telling_text("127.0.0.1:0", believed, ""))
}

fn telling_text(bind: &str, believed: &str, more: &str) -> String {
    format!(
        "
        listeners:
          http: {{ bind: '{bind}', proxy_protocol: [{believed}]{more} }}
        trusted_proxies: [192.0.2.0/24]
        requests: {{ header_timeout: 1s }}
        routes:
          - respond: {{ text: '{{client_ip}} by {{peer_ip}}:{{peer_port}}' }}
        "
    )
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

const V1: &[u8] = b"PROXY TCP4 198.51.100.7 203.0.113.1 4711 443\r\n";

/// The second version with this command, family and address block.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [
        b"\r\n\r\n\0\r\nQUIT\n",
        &[command, family][..],
        &length,
        block,
    ]
    .concat()
}

/// 2001:db8::7, port 258, to 2001:db8::1, port 443, with a record of no importance.
fn v6() -> Vec<u8> {
    let address = |last: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).octets();
    let ports = [1, 2, 1, 187];
    let block = [&address(7)[..], &address(1), &ports, b"\x02\0\x03abc"].concat();
    v2(0x21, 0x21, &block)
}

/// The answer to a request behind a header, and the connection.
#[track_caller]
fn announced(gateway: &Gateway, header: &[u8]) -> (String, Connection) {
    let mut connection = gateway.connect();
    connection.send([header, GET].concat());
    let answer = connection.answer();
    assert_eq!(answer.status, 200, "{}", answer.text());
    (answer.text().to_owned(), connection)
}

#[test]
fn a_proxy_that_is_believed_says_who_the_client_is() {
    let gateway = telling("127.0.0.0/8");
    for (header, client) in [
        (V1.to_vec(), "198.51.100.7 by 198.51.100.7:4711"),
        (v6(), "2001:db8::7 by 2001:db8::7:258"),
        (
            b"PROXY TCP6 2001:db8::8 2001:db8::1 1 2\r\n".to_vec(),
            "2001:db8::8 by 2001:db8::8:1",
        ),
    ] {
        let (said, mut connection) = announced(&gateway, &header);
        assert_eq!(said, client);
        // It holds for all requests of the connection, and no other.
        assert_eq!(connection.get("/").text(), client);
        let (other, _) = announced(&gateway, b"PROXY TCP4 203.0.113.9 203.0.113.1 1 443\r\n");
        assert_eq!(other, "203.0.113.9 by 203.0.113.9:1");
        assert_eq!(connection.get("/").text(), client);
    }
}

#[test]
fn a_proxy_may_speak_for_itself_or_of_somebody_unknown() {
    let gateway = telling("127.0.0.1");
    for header in [
        v2(0x20, 0, b""),
        v2(0x20, 0x11, &[1; 12]),
        v2(0x21, 0, b""),
        v2(0x21, 0x31, &[0; 216]),
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN ffff::1 ffff::1 1 1\r\n".to_vec(),
    ] {
        let (said, connection) = announced(&gateway, &header);
        let own = connection.local();
        assert_eq!(said, format!("127.0.0.1 by {own}"));
    }
}

/// Only those who are meant to may say who somebody is.
#[test]
fn a_header_of_somebody_else_is_not_believed() {
    let gateway = telling("192.0.2.0/24");
    for header in [V1.to_vec(), v6()] {
        let mut connection = gateway.connect();
        connection.send([&header, GET].concat());
        let answer = connection.answer();
        assert_eq!(answer.status, 400);
        assert!(!answer.text().contains("198.51.100.7"));
        connection.expect_close();
    }
    let mut connection = gateway.connect();
    let own = connection.local();
    assert_eq!(connection.get("/").text(), format!("127.0.0.1 by {own}"));
}

#[test]
fn a_connection_that_should_begin_with_a_header_and_does_not_is_closed() {
    let gateway = telling("127.0.0.1");
    for bytes in [
        GET.to_vec(),
        b"PROXY TCP4 198.51.100.7 203.0.113.1 4711 99999\r\n".to_vec(),
        b"PROXY TCP4 198.51.100.7 203.0.113.1 4711 443\n".to_vec(),
        b"proxy unknown\r\n".to_vec(),
        [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(),
        v2(0x31, 0x11, &[0; 12]),
        v2(0x21, 0x11, &[0; 11]),
        v2(0x20, 0, &[0; 5000]),
        b"\x16\x03\x01\x02\x00\x01".to_vec(),
        b"\r\n\r\n\0\r\nQUIT \n\x21".to_vec(),
    ] {
        let mut connection = gateway.connect();
        connection.send([&bytes, GET].concat());
        connection.expect_close();
    }
    let (said, _) = announced(&gateway, V1);
    assert!(said.starts_with("198.51.100.7"), "{said}");
}

#[test]
fn a_header_may_come_byte_by_byte() {
    let gateway = telling("127.0.0.1");
    for header in [V1.to_vec(), v6()] {
        let mut connection = gateway.connect();
        for byte in header {
            connection.send([byte]);
        }
        connection.send(GET);
        assert_eq!(connection.answer().status, 200);
    }
}

#[test]
fn a_header_that_does_not_end_costs_its_time_and_no_more() {
    let gateway = telling("127.0.0.1");
    let unfinished = [&b""[..], b"P", b"PROXY TCP4 198.51", &v6()[..20]];
    let mut waiting: Vec<_> = unfinished
        .iter()
        .map(|part| {
            let mut connection = gateway.connect();
            connection.send(part);
            connection
        })
        .collect();
    // Others are served meanwhile.
    assert_eq!(announced(&gateway, V1).1.get("/").status, 200);
    for connection in &mut waiting {
        connection.expect_close();
    }
}

#[test]
fn the_client_that_is_told_may_be_a_trusted_proxy_itself() {
    let gateway = telling("127.0.0.1");
    for (proxy, client) in [
        ("192.0.2.9", "203.0.113.5"),
        ("198.51.100.7", "198.51.100.7"),
    ] {
        let mut connection = gateway.connect();
        connection.send(format!("PROXY TCP4 {proxy} 203.0.113.1 4711 443\r\n"));
        let request = connection.request("GET", "/");
        let answer = request.header("X-Forwarded-For", "203.0.113.5").send();
        assert_eq!(answer.text(), format!("{client} by {proxy}:4711"));
    }
}

#[test]
fn a_proxy_at_a_unix_socket_is_believed_as_one_on_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let bind = format!("unix:{}", folder.path().join("edge.sock").display());
    let gateway = Gateway::start(&telling_text(&bind, "127.0.0.1", ", mode: 0600"));
    for header in [V1.to_vec(), v6()] {
        let (said, mut connection) = announced(&gateway, &header);
        assert!(said.ends_with(":4711") || said.ends_with(":258"), "{said}");
        assert_eq!(connection.get("/").text(), said);
    }
}

#[test]
fn http2_may_follow_a_header() {
    let gateway = telling("127.0.0.1");
    let mut connection = gateway.connect();
    connection.send([V1, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"].concat());
    // Its settings.
    assert_eq!(connection.read(9).unwrap()[3], 4);
}

#[test]
fn tls_may_follow_a_header() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["localhost"]);
    let tls = format!(
        ", tls: {{ certificates: [{{ chain: {}, key: {} }}] }}",
        certificate.chain().display(),
        certificate.key().display()
    );
    let gateway = Gateway::start(&telling_text("127.0.0.1:0", "127.0.0.1", &tls));
    for (header, client) in [
        (V1.to_vec(), "198.51.100.7 by 198.51.100.7:4711"),
        (v6(), "2001:db8::7 by 2001:db8::7:258"),
    ] {
        let mut connection = TcpStream::connect(gateway.address()).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        connection.write_all(&header).unwrap();
        let name = "localhost".try_into().unwrap();
        let session = rustls::ClientConnection::new(trusting(&authority), name).unwrap();
        let mut tls = rustls::StreamOwned::new(session, connection);
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        tls.write_all(request).unwrap();
        let mut answer = String::new();
        tls.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with(client), "{answer}");
    }
}

fn trusting(authority: &Authority) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.pem().as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    Arc::new(config)
}

#[test]
fn what_one_proxy_says_the_next_one_is_told() {
    for version in ["v1", "v2"] {
        let endpoint = Endpoint::start("a");
        let gate = Gate::before(&endpoint);
        let gateway = Gateway::start(&format!(
            "
            listeners: {{ http: {{ bind: '127.0.0.1:0', proxy_protocol: [127.0.0.1] }} }}
            upstreams: {{ pool: {{ endpoints: ['{}'], proxy_protocol: {version} }} }}
            routes: [{{ upstream: pool }}]
            ",
            gate.address
        ));
        announced(&gateway, V1);
        announced(&gateway, &v6());
        let expected = [
            format!("{version} 198.51.100.7:4711 to 203.0.113.1:443"),
            format!("{version} [2001:db8::7]:258 to [2001:db8::1]:443"),
        ];
        assert_eq!(gate.headers(), expected);
    }
}
