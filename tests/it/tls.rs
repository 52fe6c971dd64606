//! TLS towards clients.

mod client;
mod metrics;

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::Duration,
};

use edgeway_tests::{
    Authority, Certificate, Connection, Echo, Gateway, Http2, PATIENCE, eventually,
};
use rustls::version::{TLS12, TLS13};
use tempfile::TempDir;

use self::client::Client;

/// A listener `https` with one certificate, more lines for its `tls`, and a route for all.
fn listening(certificate: &Certificate, tls: &str, route: &str) -> String {
    let files = files(certificate);
    format!(
        "
        listeners:
          https: {{ bind: '127.0.0.1:0', tls: {{ certificates: [{files}], {tls} }} }}
        routes: [{route}]
        "
    )
}

const HELLO: &str = "{ respond: { text: hello } }";

fn files(certificate: &Certificate) -> String {
    let (chain, key) = (certificate.chain(), certificate.key());
    format!("{{ chain: {}, key: {} }}", chain.display(), key.display())
}

/// #70, #76
#[test]
fn tls_ends_here_and_the_endpoint_is_told_that_there_was_some() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["shop.test"]);
    let echo = Echo::start();
    let route = "{ upstream: app }";
    let yaml = listening(&certificate, "", route);
    let gateway = Gateway::start(&format!(
        "{yaml}\n        upstreams: {{ app: {{ endpoints: ['{echo}'] }} }}"
    ));
    let client = Client::trusting(&authority);
    let mut visit = client.visit(gateway.address(), "shop.test").unwrap();
    for _ in 0..2 {
        let answer = visit.get("/basket?a=b");
        assert_eq!(answer.received("x-forwarded-proto"), "https");
        assert_eq!(answer.received("host"), "shop.test");
        assert!(answer.text.contains("/basket?a=b"), "{}", answer.text);
    }
}

/// #72, #77
#[test]
fn http2_is_agreed_on_and_carries_many_requests() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["shop.test"]);
    let gateway = Gateway::start(&listening(&certificate, "", HELLO));
    let http2 = Http2::secure(gateway.address(), "shop.test", &authority, None).unwrap();
    for _ in 0..20 {
        assert_eq!(http2.get("/").status, 200);
    }
    let yaml = listening(&certificate, "", HELLO);
    let gateway = Gateway::start(&yaml.replace("bind:", "http2: false, bind:"));
    assert!(Http2::secure(gateway.address(), "shop.test", &authority, None).is_err());
    let client = Client::trusting(&authority).alpn(&["h2", "http/1.1"]);
    let mut visit = client.visit(gateway.address(), "shop.test").unwrap();
    assert_eq!(visit.alpn().as_deref(), Some("http/1.1"));
    assert_eq!(visit.get("/").status, 200);
}

#[test]
fn what_is_large_arrives_as_it_was_sent() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["shop.test"]);
    let folder = tempfile::tempdir().unwrap();
    let large: Vec<u8> = (0..900_000_u32)
        .map(|at| (at % 251) as u8 % 26 + b'a')
        .collect();
    fs::write(folder.path().join("large"), &large).unwrap();
    let file = folder.path().join("large");
    let route = format!("{{ respond: {{ file: {} }} }}", file.display());
    let gateway = Gateway::start(&listening(&certificate, "", &route));
    let client = Client::trusting(&authority);
    let mut visit = client.visit(gateway.address(), "shop.test").unwrap();
    for _ in 0..3 {
        let answer = visit.get("/");
        assert!(answer.text.as_bytes() == large, "{}", answer.text.len());
    }
}

#[test]
fn each_name_has_its_certificate_and_who_asks_for_none_has_the_default() {
    let authority = Authority::new();
    let [one, two] = ["one.test", "*.two.test"].map(|name| authority.certificate(&[name]));
    let start = |default: &str| {
        Gateway::start(&format!(
            "
            listeners:
              https:
                bind: '127.0.0.1:0'
                tls: {{ certificates: [{}, {}], {default} }}
            routes: [{HELLO}]
            ",
            files(&one),
            files(&two)
        ))
    };
    let shown = |gateway: &Gateway, name: &str| {
        let visit = Client::trusting(&authority)
            .any_name()
            .visit(gateway.address(), name);
        visit.map(|visit| visit.is_shown(&one))
    };
    let gateway = start("");
    assert_eq!(shown(&gateway, "one.test"), Ok(true));
    assert_eq!(shown(&gateway, "a.two.test"), Ok(false));
    assert_eq!(shown(&gateway, "unknown.test"), Ok(true));
    let gateway = start("default: b.two.test");
    assert_eq!(shown(&gateway, "unknown.test"), Ok(false));
    let gateway = start("default: none");
    assert_eq!(shown(&gateway, "one.test"), Ok(true));
    let refused = shown(&gateway, "unknown.test").unwrap_err();
    assert!(refused.contains("UnrecognisedName"), "{refused}");
}

/// #74, #75
#[test]
fn versions_and_suites_are_those_that_are_written() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["shop.test"]);
    let start = |tls: &str| Gateway::start(&listening(&certificate, tls, HELLO));
    let client = |version| Client::with(&authority, &[version], None);
    let gateway = start("min_version: 1.3");
    let address = gateway.address();
    assert!(client(&TLS12).visit(address, "shop.test").is_err());
    assert!(client(&TLS13).visit(address, "shop.test").is_ok());
    let gateway = start("max_version: '1.2', cipher_suites: [ECDHE-ECDSA-AES256-GCM-SHA384]");
    let address = gateway.address();
    assert!(client(&TLS13).visit(address, "shop.test").is_err());
    let visit = client(&TLS12).visit(address, "shop.test").unwrap();
    assert_eq!(visit.suite(), "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384");
}

/// A certificate as an operator keeps it: renewed in place.
struct Renewed {
    folder: TempDir,
}

impl Renewed {
    fn new(certificate: &Certificate) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let renewed = Self { folder };
        renewed.with(certificate);
        renewed
    }

    fn with(&self, certificate: &Certificate) {
        fs::copy(certificate.key(), self.folder.path().join("key.pem")).unwrap();
        fs::copy(certificate.chain(), self.folder.path().join("chain.pem")).unwrap();
    }

    fn yaml(&self, tls: &str) -> String {
        let folder = self.folder.path().display();
        format!(
            "
            listeners:
              https:
                bind: '127.0.0.1:0'
                tls: {{ certificates: [{{ chain: {folder}/chain.pem, key: {folder}/key.pem }}], {tls} }}
            routes: [{HELLO}]
            "
        )
    }
}

/// #73
#[test]
fn a_renewed_certificate_is_shown_without_a_restart_and_broken_ones_never_are() {
    let authority = Authority::new();
    let [old, new] = [(); 2].map(|()| authority.certificate(&["shop.test"]));
    let renewed = Renewed::new(&old);
    let gateway = Gateway::start(&renewed.yaml("watch_interval: 20ms"));
    let address = gateway.address();
    let visit = || {
        Client::trusting(&authority)
            .visit(address, "shop.test")
            .unwrap()
    };
    let mut before = visit();
    assert!(before.is_shown(&old));
    // The key of another one.
    fs::copy(new.key(), renewed.folder.path().join("key.pem")).unwrap();
    gateway.wait_for_log("certificate kept");
    assert!(visit().is_shown(&old));
    renewed.with(&new);
    gateway.wait_for_log("certificate replaced");
    eventually(PATIENCE, || visit().is_shown(&new));
    // Whoever was here before does not notice.
    assert_eq!(before.get("/").status, 200);
    fs::write(renewed.folder.path().join("chain.pem"), "rubbish").unwrap();
    gateway.wait_for_log("holds no certificate");
    assert!(visit().is_shown(&new));
}

#[test]
fn a_reload_reads_the_files_again_and_sessions_go_on() {
    let authority = Authority::new();
    let [old, new] = [(); 2].map(|()| authority.certificate(&["shop.test"]));
    let renewed = Renewed::new(&old);
    let yaml = renewed.yaml("watch_interval: 1d");
    let gateway = Gateway::start(&yaml);
    let address = gateway.address();
    let returning = Client::trusting(&authority);
    let again = || {
        let mut visit = returning.visit(address, "shop.test").unwrap();
        assert_eq!(visit.get("/").status, 200);
        visit.resumed()
    };
    assert!(!again());
    assert!(again());
    renewed.with(&new);
    assert!(gateway.reload_files());
    assert!(again());
    let fresh = Client::trusting(&authority);
    assert!(fresh.visit(address, "shop.test").unwrap().is_shown(&new));
    // Other rules, other keys for tickets.
    assert!(gateway.reload(&yaml.replace("1d", "23h")));
    assert!(!again());
}

/// Who comes is told to the endpoint by headers that nobody else can set.
const IDENTITY: &str = "{
    filters: [{ headers: { request: { set: {
        X-Subject: '{tls.client.subject}', X-San: '{tls.client.san}', X-Tls: '{tls.version} {tls.sni}' } } } }],
    upstream: app }";

#[test]
fn what_a_client_certificate_says_reaches_the_endpoint() {
    let [authority, clients] = [Authority::new(), Authority::new()];
    let certificate = authority.certificate(&["shop.test"]);
    let billing = clients.client_certificate("billing");
    let echo = Echo::start();
    let start = |required: bool| {
        let ca = clients.ca();
        let asked = format!(
            "client_certificates: {{ ca: {}, required: {required} }}",
            ca.display()
        );
        let yaml = listening(&certificate, &asked, &IDENTITY.replace('\n', " "));
        Gateway::start(&format!(
            "{yaml}\n        upstreams: {{ app: {{ endpoints: ['{echo}'] }} }}"
        ))
    };
    let known = Client::with(&authority, &[&TLS13], Some(&billing));
    let unknown = Client::trusting(&authority);
    let gateway = start(true);
    let mut visit = known.visit(gateway.address(), "shop.test").unwrap();
    let forged = "X-Subject: CN=admin\r\nx_subject: CN=admin\r\n";
    let answer = visit.get_with("/", forged);
    assert_eq!(answer.received("x-subject"), "CN=billing");
    assert_eq!(answer.received("x-tls"), "TLSv1.3 shop.test");
    assert!(!answer.text.contains("admin"), "{}", answer.text);
    // In TLS 1.3 a client hears of it when it reads.
    let refused = unknown.visit(gateway.address(), "shop.test");
    let refused = refused.and_then(|mut visit| visit.try_get("/"));
    assert!(refused.unwrap_err().contains("CertificateRequired"));
    let gateway = start(false);
    let mut visit = unknown.visit(gateway.address(), "shop.test").unwrap();
    let answer = visit.get_with("/", forged);
    assert!(!answer.text.contains("CN=admin"), "{}", answer.text);
    let stranger = authority.client_certificate("stranger");
    let stranger = Client::with(&authority, &[&TLS13], Some(&stranger));
    let refused = stranger.visit(gateway.address(), "shop.test");
    assert!(refused.and_then(|mut visit| visit.try_get("/")).is_err());
}

#[test]
fn browsers_are_told_to_stay_with_tls_only_where_it_is_wanted() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["shop.test"]);
    let hsts = |tls: &str, route: &str| {
        let gateway = Gateway::start(&listening(&certificate, tls, route));
        let client = Client::trusting(&authority);
        let mut visit = client.visit(gateway.address(), "shop.test").unwrap();
        visit.get("/").header("strict-transport-security")
    };
    assert_eq!(hsts("", HELLO), None);
    let year = hsts("hsts: true", HELLO);
    assert_eq!(year.as_deref(), Some("max-age=31536000"));
    let written = "hsts: { max_age: 1h, include_subdomains: true }";
    let preset = "{ filters: [security_headers], respond: { text: hello } }";
    for route in [HELLO, preset] {
        let value = hsts(written, route);
        assert_eq!(value.as_deref(), Some("max-age=3600; includeSubDomains"));
    }
}

#[test]
fn a_certificate_for_development_needs_one_word_and_is_kept() {
    let state = tempfile::tempdir().unwrap();
    let yaml = format!(
        "
        listeners: {{ https: {{ bind: '127.0.0.1:0', tls: development }} }}
        routes: [{HELLO}]
        "
    );
    let file = state.path().join("edgeway/development.pem");
    let visit = || {
        let setup = Gateway::setup(&yaml);
        let gateway = setup
            .env("XDG_STATE_HOME", state.path().to_str().unwrap())
            .start();
        gateway.wait_for_log("browsers will not trust it");
        let pem = fs::read_to_string(&file).unwrap();
        let client = Client::trusting_file(&pem);
        for name in ["localhost", "127.0.0.1"] {
            let mut visit = client.visit(gateway.address(), name).unwrap();
            assert_eq!(visit.get("/").text, "hello");
        }
        pem
    };
    assert_eq!(visit(), visit());
}

#[test]
fn who_is_silent_or_slow_in_a_handshake_has_to_go() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["shop.test"]);
    let gateway = Gateway::start(&listening(&certificate, "handshake_timeout: 100ms", HELLO));
    let mut slow = TcpStream::connect(gateway.address()).unwrap();
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    // The beginning of a record that never ends.
    slow.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
    // Closed, or reset: it ends before we lose patience.
    if let Err(error) = slow.read_to_end(&mut Vec::new()) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    let client = Client::trusting(&authority);
    let mut visit = client.visit(gateway.address(), "shop.test").unwrap();
    // It held for the handshake alone.
    std::thread::sleep(Duration::from_millis(150));
    assert_eq!(visit.get("/").status, 200);
}

#[test]
fn who_speaks_in_the_clear_is_told_that_it_should_not() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["shop.test"]);
    let gateway = Gateway::start(&listening(&certificate, "", HELLO));
    let mut connection = Connection::open(gateway.address());
    assert_eq!(connection.get("/").status, 400);
    connection.expect_close();
}

/// #71
#[test]
fn who_comes_to_the_other_port_is_sent_here_with_path_and_query() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["shop.test"]);
    let files = files(&certificate);
    let gateway = Gateway::start(&format!(
        "
        listeners:
          http: {{ bind: '127.0.0.1:0' }}
          https: {{ bind: '127.0.0.1:0', tls: {{ certificates: [{files}] }} }}
        routes:
          - {{ match: {{ listener: http }}, redirect: {{ status: 301, scheme: https }} }}
          - {{ match: {{ scheme: https, path: /secure }}, respond: {{ text: secure }} }}
          - {{ match: {{ scheme: http, path: /secure }}, respond: {{ text: never }} }}
          - {{ match: {{ listener: https }}, respond: {{ text: all }} }}
        "
    ));
    let mut plain = Connection::open(gateway.address_of("http"));
    let sent = plain
        .request("GET", "/a%20b?c=d&e")
        .host("shop.test")
        .send();
    assert_eq!(sent.status, 301);
    assert_eq!(
        sent.header("location"),
        Some("https://shop.test/a%20b?c=d&e")
    );
    let client = Client::trusting(&authority);
    let mut visit = client
        .visit(gateway.address_of("https"), "shop.test")
        .unwrap();
    assert_eq!(visit.get("/secure").text, "secure");
    assert_eq!(visit.get("/other").text, "all");
}

#[test]
fn the_operator_sees_who_is_connected_and_until_when_certificates_hold() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["shop.test"]);
    let yaml = listening(&certificate, "", HELLO);
    let gateway = Gateway::start(&format!("{yaml}\n        admin: {{ bind: '127.0.0.1:0' }}"));
    let client = Client::trusting(&authority);
    let mut visit = client
        .visit(gateway.address_of("https"), "shop.test")
        .unwrap();
    assert_eq!(visit.get("/").text, "hello");
    let mut admin = Connection::open(gateway.address_of("admin"));
    let seen = admin.get("/v1/listeners").json();
    let https = &seen["listeners"][0];
    assert_eq!(
        (&https["name"], &https["connections"]),
        (&"https".into(), &1.into())
    );
    let certificate = &https["certificates"][0];
    assert_eq!(certificate["names"], serde_json::json!(["shop.test"]));
    let left = certificate["expires_in_s"].as_i64().unwrap();
    assert!(left > 3_600, "{left}");
}

/// What has been deciphered with the end of the handshake is not on the socket any more.
#[test]
fn a_request_that_comes_with_the_end_of_the_handshake_is_answered() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["shop.test"]);
    for http2 in [true, false] {
        let yaml = listening(&certificate, "", HELLO);
        let yaml = yaml.replace("tls: {", &format!("http2: {http2}, tls: {{"));
        let gateway = Gateway::start(&yaml);
        for _ in 0..10 {
            let request = b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n";
            let seen = client::in_one_go(&authority, gateway.address(), request);
            assert!(seen.starts_with("HTTP/1.1 200"), "{seen}");
        }
    }
}

#[test]
fn who_has_agreed_on_http2_and_says_nothing_has_to_go() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["shop.test"]);
    let yaml = listening(&certificate, "", HELLO);
    let gateway = Gateway::start(&format!(
        "{yaml}\n        requests: {{ header_timeout: 1s }}"
    ));
    let client = Client::trusting(&authority).alpn(&["h2"]);
    let mut visit = client.visit(gateway.address(), "shop.test").unwrap();
    let start = std::time::Instant::now();
    assert!(visit.is_closed_by_the_other_side());
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
}
