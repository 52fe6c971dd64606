//! What is counted of handshakes.

use std::{io::Write, net::TcpStream};

use edgeway_tests::{Authority, Gateway, PATIENCE, eventually};
use rustls::version::{TLS12, TLS13};

use super::{Client, HELLO, listening};
use crate::metrics::scrape::Scrape;

fn count(gateway: &Gateway, series: &str) -> f64 {
    Scrape::of(gateway).get(series)
}

fn gateway(authority: &Authority) -> Gateway {
    let certificate = authority.certificate(&["shop.test", "www.shop.test"]);
    let yaml = listening(&certificate, "", HELLO);
    Gateway::start(&format!("{yaml}\n        admin: {{ bind: '127.0.0.1:0' }}"))
}

#[test]
fn handshakes_are_counted_by_version_and_whether_they_were_resumed() {
    let authority = Authority::new();
    let gateway = gateway(&authority);
    let made = |version: &str, resumed: bool| {
        let labels = format!("listener=\"https\",version=\"{version}\",resumed=\"{resumed}\"");
        count(
            &gateway,
            &format!("edgeway_tls_handshakes_total{{{labels}}}"),
        )
    };
    for (versions, version) in [(&TLS12, "TLSv1.2"), (&TLS13, "TLSv1.3")] {
        let client = Client::with(&authority, &[versions], None);
        for resumed in [false, true] {
            let mut visit = client.visit(gateway.address(), "shop.test").unwrap();
            assert_eq!(visit.get("/").status, 200);
            assert_eq!(visit.resumed(), resumed);
            assert_eq!(made(version, resumed), 1.0);
        }
    }
}

#[test]
fn handshakes_that_fail_are_counted_by_the_reason() {
    let authority = Authority::new();
    let gateway = gateway(&authority);
    let failed = |reason: &str| {
        let labels = format!("listener=\"https\",reason=\"{reason}\"");
        count(
            &gateway,
            &format!("edgeway_tls_handshake_failures_total{{{labels}}}"),
        )
    };
    let say = |bytes: &[u8]| {
        let mut client = TcpStream::connect(gateway.address()).unwrap();
        client.write_all(bytes).unwrap();
    };
    say(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(PATIENCE, || failed("plain") == 1.0);
    // A record of a handshake that is none.
    say(&[22, 3, 1, 0, 4, 99, 99, 99, 99]);
    eventually(PATIENCE, || failed("protocol") == 1.0);
    // Half of a record.
    say(&[22, 3, 1, 0, 200, 1]);
    eventually(PATIENCE, || failed("closed") == 1.0);
    let reasons = ["plain", "timeout", "refused", "closed", "protocol"].map(failed);
    assert_eq!(reasons, [1.0, 0.0, 0.0, 1.0, 1.0]);
}

#[test]
fn the_end_of_a_certificate_is_told_by_its_first_name() {
    let authority = Authority::new();
    let gateway = gateway(&authority);
    let ends =
        "edgeway_certificate_expiry_timestamp_seconds{listener=\"https\",name=\"shop.test\"}";
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    assert!(count(&gateway, ends) > now.unwrap().as_secs_f64());
    assert!(!Scrape::of(&gateway).has("www.shop.test"));
}
