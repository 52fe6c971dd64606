//! TLS between the gateway and endpoints: who is trusted, what is shown, and who shares connections.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use edgeway_tests::{
    Answer, Authority, Certificate, Dns, Endpoint, Gateway, PATIENCE, Upstream, eventually,
};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::{TLS12, TLS13},
};

/// A gateway with one upstream, which every request goes to. It tells on standard output what came of
/// each.
fn gateway(upstream: &str) -> Gateway {
    Gateway::start(&configuration(upstream))
}

fn configuration(upstream: &str) -> String {
    format!(
        "filters: [{{ access_log: {{ format: '{{status}} {{reason}}' }} }}]\n\
         upstreams: {{ pool: {{ {upstream} }} }}\nroutes: [{{ upstream: pool }}]\n"
    )
}

/// `ca: …` for an upstream.
fn ca(authority: &Authority) -> String {
    format!("ca: {}", authority.ca().display())
}

/// `certificate: …, key: …` for an upstream.
fn shows(certificate: &Certificate) -> String {
    let (chain, key) = (certificate.chain(), certificate.key());
    format!("certificate: {}, key: {}", chain.display(), key.display())
}

/// Asserts that the client is told that the endpoint can't be asked, and nothing of why.
#[track_caller]
fn expect_refused(answer: &Answer) {
    assert_eq!(answer.status, 502, "{}", answer.text());
    let said = format!("{:?} {}", answer.headers, answer.text()).to_lowercase();
    for word in [
        "certificate",
        "tls",
        "handshake",
        "issuer",
        "127.0.0.1",
        "pool",
    ] {
        assert!(!said.contains(word), "`{word}` in {said}");
    }
}

// ---- the name ---------------------------------------------------------------------------------

/// #17, T3
#[test]
fn the_host_of_the_endpoint_is_asked_for_and_the_host_of_the_client_is_kept() {
    let authority = Authority::new();
    let endpoint = Endpoint::https("a", &authority.certificate(&["localhost"]));
    let port = endpoint.address().port();
    let tls = ca(&authority);
    for (host, seen) in [
        ("", "shop.example.com".to_owned()),
        ("host: endpoint, ", format!("localhost:{port}")),
        ("host: api.test, ", "api.test".to_owned()),
    ] {
        let gateway = gateway(&format!(
            "{host}endpoints: ['localhost:{port}'], tls: {{ {tls} }}"
        ));
        let answer = gateway.request("GET", "/").host("shop.example.com").send();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["sni"], "localhost");
        assert_eq!(answer.json()["host"], seen);
        assert_eq!(answer.json()["version"], "HTTP/1.1");
        assert_eq!(answer.json()["protocol"], "http/1.1");
    }
}

#[test]
fn a_name_that_is_resolved_is_the_name_that_is_asked_for() {
    let authority = Authority::new();
    let dns = Dns::start();
    dns.set_a("app.test", &["127.0.0.1"], 60);
    let endpoint = Endpoint::https("a", &authority.certificate(&["app.test"]));
    let gateway = Gateway::start(&format!(
        "resolver: {{ nameservers: ['{dns}'] }}\n{}",
        configuration(&format!(
            "endpoints: ['app.test:{}'], tls: {{ {} }}",
            endpoint.address().port(),
            ca(&authority)
        ))
    ));
    eventually(PATIENCE, || gateway.get("/").status == 200);
    assert_eq!(gateway.get("/").json()["sni"], "app.test");
}

#[test]
fn the_name_may_be_another_than_that_of_the_endpoint() {
    let authority = Authority::new();
    let endpoint = Endpoint::https("a", &authority.certificate(&["api.internal"]));
    let tls = ca(&authority);
    let named = gateway(&format!(
        "endpoints: [{endpoint}], tls: {{ {tls}, name: api.internal }}"
    ));
    assert_eq!(named.get("/").json()["sni"], "api.internal");
    let other = gateway(&format!(
        "endpoints: [{endpoint}], tls: {{ {tls}, name: other.internal }}"
    ));
    expect_refused(&other.get("/"));
}

#[test]
fn an_address_must_be_in_the_certificate_and_is_no_name_to_ask_for() {
    let authority = Authority::new();
    let right = Endpoint::https("a", &authority.certificate(&["127.0.0.1"]));
    let tls = ca(&authority);
    let trusting = gateway(&format!("endpoints: [{right}], tls: {{ {tls} }}"));
    let answer = trusting.get("/");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.json()["sni"].is_null(), "{}", answer.text());
    for names in [&["127.0.0.2"], &["localhost"]] {
        let wrong = Endpoint::https("a", &authority.certificate(names));
        let gateway = gateway(&format!("endpoints: [{wrong}], tls: {{ {tls} }}"));
        expect_refused(&gateway.get("/"));
    }
}

// ---- trust ------------------------------------------------------------------------------------

/// T3
#[test]
fn an_endpoint_that_is_not_trusted_is_502_and_the_log_says_why() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let tls = ca(&ours);
    let cases = [
        (theirs.certificate(&["localhost"]), &*tls, "UnknownIssuer"),
        // Nobody but the test trusts it.
        (ours.certificate(&["localhost"]), "", "UnknownIssuer"),
        (ours.certificate(&["other.test"]), &*tls, "not valid for"),
        (ours.expired(&["localhost"]), &*tls, "expired"),
        // Not made for those who serve.
        (ours.client_certificate("localhost"), &*tls, "certificate"),
    ];
    for (certificate, tls, why) in cases {
        let endpoint = Endpoint::https("a", &certificate);
        let port = endpoint.address().port();
        let gateway = gateway(&format!(
            "endpoints: ['localhost:{port}'], tls: {{ {tls} }}, fail_timeout: 1h"
        ));
        for method in ["GET", "POST"] {
            expect_refused(&gateway.request(method, "/").send());
        }
        let line = gateway.wait_for_output("502");
        assert!(line.contains(why), "`{why}` is not in {line}");
        let line = gateway.wait_for_log("endpoint is left out");
        assert!(line.contains("TLS"), "{line}");
        assert_eq!(endpoint.requests(), 0);
        eventually(PATIENCE, || endpoint.failed_handshakes().len() >= 2);
    }
}

#[test]
fn an_endpoint_that_is_not_trusted_costs_no_request_while_there_is_another() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let wrong = Endpoint::https("wrong", &theirs.certificate(&["127.0.0.1"]));
    let right = Endpoint::https("right", &ours.certificate(&["127.0.0.1"]));
    let gateway = gateway(&format!(
        "endpoints: [{wrong}, {right}], tls: {{ {} }}, fail_timeout: 1h",
        ca(&ours)
    ));
    for _ in 0..10 {
        // Nothing was sent to the wrong one, so what can't be repeated goes to the other, too.
        let answer = gateway.request("POST", "/").body("order").send();
        assert_eq!(answer.json()["endpoint"], "right");
    }
    gateway.wait_for_log("endpoint is left out");
    assert_eq!(wrong.connections(), 1);
    assert_eq!(wrong.requests(), 0);
}

#[test]
fn any_certificate_is_believed_without_verification() {
    let authority = Authority::new();
    for certificate in [
        authority.certificate(&["other.test"]),
        authority.expired(&["other.test"]),
    ] {
        let endpoint = Endpoint::https("a", &certificate);
        let port = endpoint.address().port();
        for (address, sni) in [("localhost", Some("localhost")), ("127.0.0.1", None)] {
            let gateway = gateway(&format!(
                "endpoints: ['{address}:{port}'], tls: {{ verify: false }}"
            ));
            let answer = gateway.get("/");
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(answer.json()["sni"].as_str(), sni);
        }
    }
}

// ---- what we show -----------------------------------------------------------------------------

#[test]
fn an_endpoint_that_wants_a_certificate_sees_ours() {
    let (ours, clients, others) = (Authority::new(), Authority::new(), Authority::new());
    let server = ours.certificate(&["127.0.0.1"]);
    let endpoint = Endpoint::setup("a").mutual_tls(&server, &clients).start();
    let tls = ca(&ours);
    let with = |more: &str| gateway(&format!("endpoints: [{endpoint}], tls: {{ {tls}{more} }}"));

    let known = clients.client_certificate("edge-1");
    let answer = with(&format!(", {}", shows(&known))).get("/");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["client"], "edge-1");
    let before = endpoint.requests();
    let strange = others.client_certificate("edge-1");
    for gateway in [with(""), with(&format!(", {}", shows(&strange)))] {
        expect_refused(&gateway.get("/"));
        expect_refused(&gateway.request("POST", "/").body("order").send());
    }
    assert_eq!(endpoint.requests(), before);
}

// ---- connections ------------------------------------------------------------------------------

#[test]
fn many_requests_need_few_handshakes() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["127.0.0.1"]);
    let endpoint = Endpoint::https("a", &certificate);
    let gateway = gateway(&format!(
        "endpoints: [{endpoint}], tls: {{ {} }}",
        ca(&authority)
    ));
    let mut client = gateway.connect();
    for _ in 0..100 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(endpoint.requests(), 100);
    // The next request may come before the connection is back in the pool.
    assert!(endpoint.connections() <= 5, "{}", endpoint.connections());
}

/// Two upstreams with one address, and a gateway that has connections of the first one idle.
fn two_upstreams(endpoint: &Endpoint, first: &str, second: &str) -> Gateway {
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          first: {{ endpoints: [{endpoint}], tls: {{ {first} }} }}
          second: {{ endpoints: [{endpoint}], tls: {{ {second} }} }}
        routes:
          - {{ match: {{ path: /first }}, upstream: first }}
          - {{ match: {{ path: /second }}, upstream: second }}
        "
    ));
    for _ in 0..5 {
        let answer = gateway.get("/first");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert!(endpoint.open_connections() > 0);
    gateway
}

#[test]
fn a_connection_that_one_upstream_trusts_is_not_for_one_that_does_not() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let endpoint = Endpoint::https("a", &ours.certificate(&["127.0.0.1", "a.test"]));
    let strangers = [
        ca(&theirs),
        // What the system trusts.
        "verify: true".to_owned(),
        format!("{}, name: b.test", ca(&ours)),
    ];
    let trusting = [
        ca(&ours),
        "verify: false".to_owned(),
        format!("{}, name: a.test", ca(&ours)),
    ];
    for stranger in &strangers {
        for trusting in &trusting {
            let gateway = two_upstreams(&endpoint, trusting, stranger);
            for _ in 0..3 {
                expect_refused(&gateway.get("/second"));
                assert_eq!(gateway.get("/first").status, 200);
            }
        }
    }
}

#[test]
fn a_connection_with_one_certificate_of_ours_is_not_for_another() {
    let (ours, clients) = (Authority::new(), Authority::new());
    let server = ours.certificate(&["127.0.0.1"]);
    let endpoint = Endpoint::setup("a").mutual_tls(&server, &clients).start();
    let identity = |name: &str| clients.client_certificate(name);
    let (alice, bob) = (identity("alice"), identity("bob"));
    let with = |shown: &Certificate| format!("{}, {}", ca(&ours), shows(shown));
    for protocol in ["http1", "auto"] {
        let gateway = Gateway::start(&format!(
            "
            upstreams:
              alice: {{ protocol: {protocol}, endpoints: [{endpoint}], tls: {{ {} }} }}
              bob: {{ protocol: {protocol}, endpoints: [{endpoint}], tls: {{ {} }} }}
              nobody: {{ protocol: {protocol}, endpoints: [{endpoint}], tls: {{ {} }} }}
            routes:
              - {{ match: {{ path: /alice }}, upstream: alice }}
              - {{ match: {{ path: /bob }}, upstream: bob }}
              - {{ match: {{ path: /nobody }}, upstream: nobody }}
            ",
            with(&alice),
            with(&bob),
            ca(&ours),
        ));
        for _ in 0..5 {
            assert_eq!(gateway.get("/alice").json()["client"], "alice");
            assert_eq!(gateway.get("/bob").json()["client"], "bob");
            expect_refused(&gateway.get("/nobody"));
        }
    }
}

#[test]
fn a_secure_connection_is_not_for_an_upstream_without_tls_nor_the_other_way_round() {
    let ours = Authority::new();
    let endpoint = Endpoint::https("a", &ours.certificate(&["127.0.0.1"]));
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          secure: {{ endpoints: [{endpoint}], tls: {{ {} }} }}
          clear: {{ endpoints: [{endpoint}], timeouts: {{ read: 2s }} }}
        routes:
          - {{ match: {{ path: /secure }}, upstream: secure }}
          - {{ match: {{ path: /clear }}, upstream: clear }}
        ",
        ca(&ours)
    ));
    for _ in 0..3 {
        assert_eq!(gateway.get("/secure").status, 200);
        expect_refused(&gateway.get("/clear"));
    }
}

#[test]
fn a_reload_with_another_authority_holds_at_once() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let endpoint = Endpoint::https("a", &ours.certificate(&["127.0.0.1"]));
    let with = |tls: &str| {
        configuration(&format!(
            "endpoints: [{endpoint}], tls: {{ {tls} }}, max_fails: 0"
        ))
    };
    let gateway = Gateway::start(&with(&ca(&ours)));
    for _ in 0..3 {
        for _ in 0..3 {
            assert_eq!(gateway.get("/").status, 200);
        }
        assert!(gateway.reload(&with(&ca(&theirs))));
        expect_refused(&gateway.get("/"));
        assert!(gateway.reload(&with(&ca(&ours))));
    }
}

#[test]
fn files_are_read_again_at_a_reload_and_what_they_say_holds_at_once() {
    let (ours, theirs, clients) = (Authority::new(), Authority::new(), Authority::new());
    let server = ours.certificate(&["127.0.0.1"]);
    let endpoint = Endpoint::setup("a").mutual_tls(&server, &clients).start();
    let put = |gateway: &Gateway, certificate: &Certificate| {
        gateway.write("shown.pem", fs::read(certificate.chain()).unwrap());
        gateway.write("key.pem", fs::read(certificate.key()).unwrap());
    };
    let alice = clients.client_certificate("alice");
    let gateway = Gateway::setup(&configuration(&format!(
        "endpoints: [{endpoint}], max_fails: 0, \
         tls: {{ ca: ca.pem, certificate: shown.pem, key: key.pem }}"
    )))
    .file("ca.pem", ours.pem())
    .file("shown.pem", fs::read(alice.chain()).unwrap())
    .file("key.pem", fs::read(alice.key()).unwrap())
    .start();
    assert_eq!(gateway.get("/").json()["client"], "alice");

    let bob = clients.client_certificate("bob");
    put(&gateway, &bob);
    assert_eq!(gateway.get("/").json()["client"], "alice", "not yet");
    assert!(gateway.reload_files());
    assert_eq!(gateway.get("/").json()["client"], "bob");

    // Two authorities in one file: as it is while one is replaced by the other.
    gateway.write("ca.pem", format!("{}{}", theirs.pem(), ours.pem()));
    assert!(gateway.reload_files());
    assert_eq!(gateway.get("/").status, 200);
    gateway.write("ca.pem", theirs.pem());
    assert!(gateway.reload_files());
    expect_refused(&gateway.get("/"));

    // A key that does not fit: the old ones stay in force.
    gateway.write("ca.pem", ours.pem());
    gateway.write("key.pem", fs::read(alice.key()).unwrap());
    assert!(!gateway.reload_files());
    expect_refused(&gateway.get("/"));
    put(&gateway, &alice);
    assert!(gateway.reload_files());
    assert_eq!(gateway.get("/").json()["client"], "alice");
}

// ---- endpoints that do not speak it well --------------------------------------------------------

#[test]
fn an_endpoint_that_does_not_speak_tls_is_502() {
    let plain = Endpoint::start("plain");
    let closing = Upstream::raw(drop);
    let resetting = Upstream::raw(|caller| caller.reset());
    let http = Upstream::raw(|mut caller| {
        caller.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        caller.wait_for_close();
    });
    let garbage = Upstream::raw(|mut caller| caller.send([0x16, 3, 3, 0xff, 0xff, 1, 2, 3]));
    let all = [
        plain.to_string(),
        closing.to_string(),
        resetting.to_string(),
        http.to_string(),
        garbage.to_string(),
    ];
    for endpoint in all {
        let gateway = gateway(&format!(
            "endpoints: ['{endpoint}'], tls: {{ verify: false }}, timeouts: {{ handshake: 5s }}"
        ));
        expect_refused(&gateway.get("/"));
        gateway.wait_for_log("endpoint is left out");
    }
    assert_eq!(plain.requests(), 0);
}

#[test]
fn an_endpoint_that_closes_in_the_handshake_costs_no_request_while_there_is_another() {
    let authority = Authority::new();
    let good = Endpoint::https("good", &authority.certificate(&["127.0.0.1"]));
    let closing = Upstream::raw(drop);
    let gateway = gateway(&format!(
        "endpoints: [{closing}, {good}], tls: {{ {} }}, max_fails: 0",
        ca(&authority)
    ));
    for _ in 0..6 {
        let answer = gateway.request("POST", "/").body("order").send();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(good.requests(), 6);
    assert!(closing.connections() >= 2, "{}", closing.connections());
}

#[test]
fn an_endpoint_that_does_not_answer_in_the_handshake_is_504_after_its_time() {
    let silent = Upstream::silent();
    let gateway = gateway(&format!(
        "endpoints: [{silent}], tls: {{ verify: false }}, \
         timeouts: {{ connect: 20s, handshake: 300ms }}"
    ));
    let start = Instant::now();
    let answer = gateway.get("/");
    let taken = start.elapsed();
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(taken >= Duration::from_millis(290), "{taken:?}");
    assert!(taken < Duration::from_secs(5), "{taken:?}");
}

#[test]
fn a_handshake_may_take_longer_than_a_connection() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["127.0.0.1"]);
    let behind = Endpoint::https("a", &certificate);
    let slow = delayed(behind.address(), Duration::from_millis(600));
    let tls = ca(&authority);
    let gateway = gateway(&format!(
        "endpoints: ['{slow}'], tls: {{ {tls} }}, \
         timeouts: {{ connect: 200ms, handshake: 20s }}"
    ));
    let answer = gateway.get("/");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_secure_endpoint_that_can_not_be_reached_is_504_after_the_time_to_connect() {
    let nowhere = Upstream::unreachable();
    let gateway = gateway(&format!(
        "endpoints: [{nowhere}], tls: {{ verify: false }}, \
         timeouts: {{ connect: 300ms, handshake: 20s }}"
    ));
    let start = Instant::now();
    let answer = gateway.get("/");
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_secure_endpoint_that_refuses_is_502_at_once() {
    let gateway = gateway(&format!(
        "endpoints: [{}], tls: {{ verify: false }}",
        Upstream::refusing()
    ));
    expect_refused(&gateway.get("/"));
    let line = gateway.wait_for_output("502");
    assert!(line.to_lowercase().contains("refused"), "{line}");
}

#[test]
fn both_versions_of_tls_are_spoken() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["127.0.0.1"]);
    for version in [&TLS12, &TLS13] {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth();
        let (chain, key) = parts(&certificate);
        let address = serve_tls(builder.with_single_cert(chain, key).unwrap());
        let tls = ca(&authority);
        let gateway = gateway(&format!("endpoints: ['{address}'], tls: {{ {tls} }}"));
        let answer = gateway.get("/");
        assert_eq!((answer.status, answer.text()), (200, "secure"));
    }
}

#[test]
fn a_chain_may_be_long_but_not_without_end() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["127.0.0.1"]);
    let useless = CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap();
    for (more, status) in [(20, 200), (1000, 502)] {
        let (mut chain, key) = parts(&certificate);
        chain.extend(std::iter::repeat_n(useless.clone(), more));
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth();
        let address = serve_tls(builder.with_single_cert(chain, key).unwrap());
        let tls = ca(&authority);
        let gateway = gateway(&format!("endpoints: ['{address}'], tls: {{ {tls} }}"));
        assert_eq!(gateway.get("/").status, status, "{more} more certificates");
    }
}

// ---- what is refused ----------------------------------------------------------------------------

const BOTH: &str = "belong together";

/// What stands in `tls`, the place of its problem, and what is said of it.
const WRONG: &[(&str, &str, &str)] = &[
    ("ca: none.pem", "1:60", "can't read"),
    ("ca: .", "1:60", "can't read"),
    ("ca: empty.pem", "1:60", "no certificate in PEM form"),
    ("ca: key.pem", "1:60", "no certificate in PEM form"),
    ("ca: broken.pem", "1:60", "broken.pem"),
    ("ca: nonsense.pem", "1:60", "can't be read"),
    ("verify: false, ca: ca.pem", "1:75", "`ca` has no effect"),
    ("certificate: chain.pem", "1:69", BOTH),
    ("key: key.pem", "1:61", BOTH),
    (
        "certificate: chain.pem, key: none.pem",
        "1:85",
        "can't read",
    ),
    (
        "certificate: chain.pem, key: chain.pem",
        "1:85",
        "no private key",
    ),
    (
        "certificate: chain.pem, key: other.pem",
        "1:85",
        "does not fit",
    ),
    (
        "certificate: key.pem, key: key.pem",
        "1:69",
        "no certificate",
    ),
    ("name: 'not a name'", "1:62", "not a name"),
    ("name: ''", "1:62", "expected the name"),
    ("verify: maybe", "1:64", "expected"),
    ("nmae: a.test", "1:56", "did you mean `name`?"),
    ("true", "1:54", "expected"),
];

#[test]
fn what_can_not_be_meant_is_refused_with_its_place() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["a.test"]);
    let other = authority.certificate(&["b.test"]);
    let text = |path: &Path| fs::read_to_string(path).unwrap();
    for &(tls, place, says) in WRONG {
        let tls = if tls == "true" {
            tls.to_owned()
        } else {
            format!("{{ {tls} }}")
        };
        let said = Gateway::setup(&format!(
            "upstreams: {{ pool: {{ endpoints: ['a.test:443'], tls: {tls} }} }}\n\
             routes: [{{ upstream: pool }}]"
        ))
        .file("empty.pem", "")
        .file(
            "broken.pem",
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
        )
        .file(
            "nonsense.pem",
            "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n",
        )
        .file("ca.pem", authority.pem())
        .file("chain.pem", text(&certificate.chain()))
        .file("key.pem", text(&certificate.key()))
        .file("other.pem", text(&other.key()))
        .refused();
        assert!(said.contains(says), "{tls}: `{says}` is not in\n{said}");
        assert!(
            said.contains(&format!("edgeway.yaml:{place}\n")),
            "{tls}: {place} is not in\n{said}"
        );
        let problems = said.lines().filter(|line| line.starts_with("error: "));
        assert_eq!(problems.count(), 1, "{tls}:\n{said}");
        assert!(!said.contains("PRIVATE"), "{said}");
    }
}

#[test]
fn a_socket_needs_a_name_for_its_certificate() {
    let said = Gateway::refused(
        "upstreams: { pool: { endpoints: ['unix:/run/app.sock'], tls: {} } }\n\
         routes: [{ upstream: pool }]",
    );
    assert!(said.contains("which name must the certificate"), "{said}");
    assert!(said.contains("`name` in `tls`"), "{said}");
}

/// A check of the configuration does not see it coming. Nobody is believed who is not known by name.
#[test]
fn a_socket_that_is_discovered_is_not_believed_without_a_name() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["a.test"]);
    let endpoint = Endpoint::setup("a").tls(&certificate).unix().start();
    let with = |name: &str| {
        let tls = ca(&authority);
        configuration(&format!(
            "discover: {{ file: endpoints.yaml }}, tls: {{ {tls}{name} }}"
        ))
    };
    let file = format!("endpoints: ['{endpoint}']");
    let unnamed = Gateway::setup(&with(""))
        .file("endpoints.yaml", &file)
        .start();
    eventually(PATIENCE, || unnamed.get("/").status == 502);
    expect_refused(&unnamed.get("/"));
    assert_eq!(endpoint.requests(), 0);
    let named = Gateway::setup(&with(", name: a.test"))
        .file("endpoints.yaml", &file)
        .start();
    eventually(PATIENCE, || named.get("/").status == 200);
    assert_eq!(named.get("/").json()["sni"], "a.test");
}

// ---- endpoints of this file's own -----------------------------------------------------------------

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn parts(certificate: &Certificate) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let open = |path: &Path| BufReader::new(File::open(path).unwrap());
    let chain = CertificateDer::pem_reader_iter(open(&certificate.chain()));
    let key = PrivateKeyDer::from_pem_reader(open(&certificate.key()));
    (chain.map(Result::unwrap).collect(), key.unwrap())
}

/// Answers one request on each connection, until the test ends.
fn serve_tls(config: ServerConfig) -> SocketAddr {
    let config = Arc::new(config);
    accept_all(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecure",
        )?;
        stream.conn.send_close_notify();
        stream.flush()
    })
}

/// Accepts at once, and passes everything on to another address only after some time.
fn delayed(to: SocketAddr, delay: Duration) -> SocketAddr {
    accept_all(move |mut here| {
        thread::sleep(delay);
        let mut there = TcpStream::connect(to)?;
        let (mut answers, mut back) = (there.try_clone()?, here.try_clone()?);
        thread::spawn(move || io::copy(&mut answers, &mut back));
        io::copy(&mut here, &mut there).map(drop)
    })
}

fn accept_all(serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            // That the gateway breaks off is for the test to see on the other side.
            thread::spawn(move || serve(stream).ok());
        }
    });
    address
}
