//! The filter `client_certificate`: who may come in, by the certificate that the client shows.

use std::process::Command;

use edgeway_tests::{Authority, Certificate, Echo, Gateway, Http2};

/// A gateway at `shop.test`, whose clients may show certificates.
struct Shop {
    authority: Authority,
    clients: Authority,
    certificate: Certificate,
    echo: Echo,
}

impl Shop {
    fn new() -> Self {
        let authority = Authority::new();
        Self {
            certificate: authority.certificate(&["shop.test"]),
            authority,
            clients: Authority::new(),
            echo: Echo::start(),
        }
    }

    fn start(&self, filter: &str) -> Gateway {
        let (chain, key) = (self.certificate.chain(), self.certificate.key());
        Gateway::start(&format!(
            "
            listeners:
              https:
                bind: '127.0.0.1:0'
                tls:
                  certificates: [{{ chain: {}, key: {} }}]
                  client_certificates: {{ ca: {}, required: false }}
            upstreams: {{ echo: {{ endpoints: [{}] }} }}
            filters: [access_log]
            routes:
              - filters:
                  - client_certificate: {{ {filter} }}
                  - headers: {{ request: {{ set: {{ X-Subject: '{{subject}}' }} }} }}
                upstream: echo
            ",
            chain.display(),
            key.display(),
            self.clients.ca().display(),
            self.echo
        ))
    }

    fn visit(&self, gateway: &Gateway, shown: Option<&Certificate>) -> Http2 {
        Http2::secure(gateway.address(), "shop.test", &self.authority, shown).unwrap()
    }
}

#[test]
fn only_clients_with_a_certificate_that_is_allowed_pass() {
    let shop = Shop::new();
    let [billing, orders] = ["billing", "orders"].map(|name| shop.clients.client_certificate(name));
    let gateway = shop.start("subjects: [CN=bill*, CN=other]");
    for (shown, expected) in [(Some(&billing), 200), (Some(&orders), 403), (None, 403)] {
        let http2 = shop.visit(&gateway, shown);
        // The second time it may be remembered.
        for _ in 0..2 {
            assert_eq!(http2.get("/").status, expected);
        }
    }
    assert_eq!(shop.echo.stats().requests, 2);
    let line = gateway.wait_for_output(r#""rule":"subjects""#);
    assert!(line.contains(r#""key":"CN=orders""#), "{line}");
    gateway.wait_for_output("the client has shown no certificate");
}

#[test]
fn issuers_and_fingerprints_decide_too() {
    let shop = Shop::new();
    let [billing, orders] = ["billing", "orders"].map(|name| shop.clients.client_certificate(name));
    // As an operator would find it.
    let chain = billing.chain();
    let shown = Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(&chain)
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let (_, fingerprint) = shown.trim().split_once('=').unwrap();
    let gateway = shop.start(&format!(
        "fingerprints: '{fingerprint}', issuers: 'CN=Authority of *'"
    ));
    assert_eq!(shop.visit(&gateway, Some(&billing)).get("/").status, 200);
    assert_eq!(shop.visit(&gateway, Some(&orders)).get("/").status, 403);
    let gateway = shop.start("issuers: CN=Somebody");
    assert_eq!(shop.visit(&gateway, Some(&billing)).get("/").status, 403);
    gateway.wait_for_output(r#""rule":"issuers""#);
    let gateway = shop.start("names: 'DNS:*'");
    assert_eq!(
        shop.visit(&gateway, Some(&billing)).get("/").status,
        403,
        "it has no other names"
    );
}

#[test]
fn the_upstream_learns_who_it_is_by_the_gateway_alone() {
    let shop = Shop::new();
    let billing = shop.clients.client_certificate("billing");
    let gateway =
        shop.start("subject: subject, optional: true, forward: { common_name: X-Client }");
    let seen = |shown| {
        let http2 = shop.visit(&gateway, shown);
        let mut request = http2.request("GET", "/", "");
        request
            .headers_mut()
            .insert("x-client", "root".parse().unwrap());
        let answer = http2.send(request).unwrap();
        assert_eq!(answer.status, 200);
        let headers = answer.json()["headers"].clone();
        let received = |name: &str| {
            let headers = headers.as_array().unwrap().iter();
            let mut values = headers.filter(|pair| pair[0] == name);
            values
                .next()
                .map(|pair| pair[1].as_str().unwrap().to_owned())
        };
        (received("x-client"), received("x-subject"))
    };
    let known = (Some("billing".to_owned()), Some("CN=billing".to_owned()));
    assert_eq!(seen(Some(&billing)), known);
    assert_eq!(seen(None).0, None);
}

#[test]
fn a_listener_without_tls_lets_nobody_pass() {
    let gateway = Gateway::start(
        "
        filters: [access_log]
        routes:
          - filters: [client_certificate]
            respond: { text: welcome }
        ",
    );
    assert_eq!(gateway.get("/").status, 403);
    gateway.wait_for_output("the connection has no TLS of this gateway");
}

#[test]
fn what_is_wrong_is_shown_where_it_stands() {
    let said = Gateway::refused(
        "
        routes:
          - filters: [{ client_certificate: { fingerprints: ab, forward: { role: X-Role } } }]
            respond: { text: welcome }
        ",
    );
    assert!(said.contains("expected 64 hexadecimal digits"), "{said}");
}
