//! Handshakes without a network.

use std::{fs, path::Path};

use rcgen::{
    CertificateParams, CertificateRevocationListParams, DnType, KeyIdMethod, RevokedCertParams,
    SanType, SerialNumber, date_time_ymd,
};
use rustls::{
    NamedGroup,
    crypto::aws_lc_rs::{cipher_suite, kx_group},
    version::{TLS12, TLS13},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::{
    testing::{Authority, Client, GOOD, Wanted, answer, rules, spec, terminator},
    *,
};
use crate::config::tls::{CipherSuite, DefaultCertificate, Group, TlsVersion};

#[tokio::test]
async fn the_certificate_is_the_one_for_the_name_then_a_wildcard_then_the_default() {
    let authority = Authority::new();
    let exact = authority.certificate("exact", &["a.example.com"]);
    let wildcard = authority.certificate("wildcard", &["*.example.com"]);
    let other = authority.certificate("other", &["other.test"]);
    let terminator = terminator(rules(vec![other.clone(), wildcard.clone(), exact.clone()]));
    let client = Client::of(&authority);
    let cases = [
        ("a.example.com", &exact),
        ("A.Example.COM", &exact),
        ("b.example.com", &wildcard),
        ("x.b.example.com", &other),
        ("example.com", &other),
        ("other.test", &other),
        ("unknown.test", &other),
    ];
    for (name, files) in cases {
        let made = client.connect(&terminator, name).await.unwrap();
        assert!(made.is_of(files), "{name}");
    }
    let nameless = client.without_sni();
    let made = nameless
        .connect(&terminator, "a.example.com")
        .await
        .unwrap();
    assert!(made.is_of(&other));
    assert_eq!(made.secured.tls.sni, None);
}

#[tokio::test]
async fn another_default_than_the_first_can_be_chosen_or_none() {
    let authority = Authority::new();
    let first = authority.certificate("first", &["first.test"]);
    let second = authority.certificate("second", &["*.second.test"]);
    let mut rules = rules(vec![first.clone(), second.clone()]);
    rules.default = Some("a.second.test".parse().unwrap());
    let client = Client::of(&authority);
    let made = client.connect(&terminator(rules.clone()), "x.test").await;
    assert!(made.unwrap().is_of(&second));
    rules.default = Some(DefaultCertificate::None);
    let strict = terminator(rules);
    assert!(client.connect(&strict, "first.test").await.is_ok());
    let (seen, why) = client.connect(&strict, "x.test").await.unwrap_err();
    assert!(seen.contains("UnrecognisedName"), "{seen}");
    assert!(why.contains("no name that is served"), "{why}");
    let nameless = client.without_sni();
    assert!(nameless.connect(&strict, "first.test").await.is_err());
}

#[tokio::test]
async fn of_two_certificates_for_a_name_each_client_is_shown_what_it_can_use() {
    let authority = Authority::new();
    let rsa = authority.write("rsa", &["a.test"], &Wanted::rsa());
    let ecdsa = authority.certificate("ecdsa", &["a.test"]);
    let terminator = terminator(rules(vec![rsa.clone(), ecdsa.clone()]));
    let made = Client::of(&authority).connect(&terminator, "a.test").await;
    assert!(made.unwrap().is_of(&ecdsa));
    // A client of TLS 1.2 says by its suites what it can use.
    let mut old = pem::provider();
    old.cipher_suites = vec![cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256];
    let old = Client::with(&authority, old, &[&TLS12], None);
    let made = old.connect(&terminator, "a.test").await.unwrap();
    assert!(made.is_of(&rsa));
}

#[tokio::test]
async fn a_version_that_is_not_permitted_is_refused() {
    let authority = Authority::new();
    let files = authority.certificate("a", &["a.test"]);
    let new = Rules {
        min_version: TlsVersion::V1_3,
        ..rules(vec![files.clone()])
    };
    let old = Rules {
        max_version: TlsVersion::V1_2,
        ..rules(vec![files])
    };
    let (new, old) = (terminator(new), terminator(old));
    let client = |version| Client::with(&authority, pem::provider(), &[version], None);
    let (tls12, tls13) = (client(&TLS12), client(&TLS13));
    let made = tls13.connect(&new, "a.test").await.unwrap();
    assert_eq!(made.secured.tls.version, "TLSv1.3");
    let made = tls12.connect(&old, "a.test").await.unwrap();
    assert_eq!(made.secured.tls.version, "TLSv1.2");
    for (client, terminator) in [(&tls12, &new), (&tls13, &old)] {
        let (seen, _) = client.connect(terminator, "a.test").await.unwrap_err();
        assert!(seen.contains("ProtocolVersion"), "{seen}");
    }
}

#[tokio::test]
async fn suites_that_are_written_are_preferred_in_their_order() {
    let authority = Authority::new();
    let files = authority.certificate("a", &["a.test"]);
    let written = ["TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_256_GCM_SHA384"];
    let written = Rules {
        min_version: TlsVersion::V1_3,
        cipher_suites: Some(written.map(|name| name.parse().unwrap()).to_vec()),
        ..rules(vec![files.clone()])
    };
    let client = Client::of(&authority);
    let made = client
        .connect(&terminator(written), "a.test")
        .await
        .unwrap();
    assert_eq!(made.secured.tls.suite, "TLS_CHACHA20_POLY1305_SHA256");
    // Nobody can agree on another one.
    let one: CipherSuite = "ECDHE-ECDSA-AES256-GCM-SHA384".parse().unwrap();
    let only = Rules {
        max_version: TlsVersion::V1_2,
        cipher_suites: Some(vec![one]),
        ..rules(vec![files])
    };
    let only = terminator(only);
    let made = client.connect(&only, "a.test").await.unwrap();
    let suite = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";
    assert_eq!(made.secured.tls.suite, suite);
    let mut other = pem::provider();
    other.cipher_suites = vec![cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256];
    let other = Client::with(&authority, other, &[&TLS12], None);
    assert!(other.connect(&only, "a.test").await.is_err());
}

#[tokio::test]
async fn keys_are_exchanged_as_the_client_prefers_among_what_is_permitted() {
    let authority = Authority::new();
    let files = authority.certificate("a", &["a.test"]);
    let mut new = pem::provider();
    new.kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519];
    let new = Client::with(&authority, new, &[&TLS13], None);
    let usual = terminator(rules(vec![files.clone()]));
    let made = new.connect(&usual, "a.test").await.unwrap();
    assert_eq!(made.group, Some(NamedGroup::X25519MLKEM768));
    let classic = Rules {
        groups: vec!["X25519".parse().unwrap()],
        ..rules(vec![files.clone()])
    };
    let made = new.connect(&terminator(classic), "a.test").await.unwrap();
    assert_eq!(made.group, Some(NamedGroup::X25519));
    let resistant: Group = "X25519MLKEM768".parse().unwrap();
    let resistant = Rules {
        groups: vec![resistant],
        min_version: TlsVersion::V1_3,
        ..rules(vec![files])
    };
    let mut old = pem::provider();
    old.kx_groups = vec![kx_group::X25519];
    let old = Client::with(&authority, old, &[&TLS13], None);
    assert!(old.connect(&terminator(resistant), "a.test").await.is_err());
}

#[tokio::test]
async fn http2_is_agreed_on_where_the_listener_speaks_it() {
    let authority = Authority::new();
    let files = authority.certificate("a", &["a.test"]);
    let client = Client::of(&authority);
    let both = client.clone().alpn(&[b"http/1.1", b"h2"]);
    let with = terminator(rules(vec![files.clone()]));
    assert!(both.connect(&with, "a.test").await.unwrap().is_http2());
    let without = Rules {
        protocols: &["http/1.1"],
        ..rules(vec![files])
    };
    let without = terminator(without);
    let made = both.connect(&without, "a.test").await.unwrap();
    assert_eq!(made.alpn.as_deref(), Some(&b"http/1.1"[..]));
    assert!(!client.connect(&with, "a.test").await.unwrap().is_http2());
    let only = client.alpn(&[b"h2"]);
    let (seen, _) = only.connect(&without, "a.test").await.unwrap_err();
    assert!(seen.contains("NoApplicationProtocol"), "{seen}");
}

#[tokio::test]
async fn where_anything_may_be_spoken_nobody_is_refused_for_what_it_speaks() {
    let authority = Authority::new();
    let rules = Rules {
        protocols: &[],
        ..rules(vec![authority.certificate("a", &["a.test"])])
    };
    let terminator = terminator(rules);
    let client = Client::of(&authority);
    for asking in [client.clone().alpn(&[b"imap"]), client] {
        let made = asking.connect(&terminator, "a.test").await.unwrap();
        assert_eq!(made.alpn, None);
    }
}

#[tokio::test]
async fn a_session_is_resumed_in_both_versions_unless_tickets_are_off() {
    let authority = Authority::new();
    let files = authority.certificate("a", &["a.test"]);
    for version in [&TLS12, &TLS13] {
        for tickets in [true, false] {
            let rules = Rules {
                tickets,
                ..rules(vec![files.clone()])
            };
            let terminator = terminator(rules);
            let client = Client::with(&authority, pem::provider(), &[version], None);
            let first = client.connect(&terminator, "a.test").await.unwrap();
            assert!(!first.resumed && !first.secured.tls.resumed);
            for _ in 0..3 {
                let next = client.connect(&terminator, "a.test").await.unwrap();
                assert_eq!(next.resumed, tickets, "{version:?}");
                assert_eq!(next.secured.tls.resumed, tickets);
            }
        }
    }
}

#[tokio::test]
async fn no_listener_resumes_what_another_has_begun() {
    let authority = Authority::new();
    let files = authority.certificate("a", &["a.test"]);
    let [one, other] = [(); 2].map(|()| terminator(rules(vec![files.clone()])));
    let client = Client::of(&authority);
    client.connect(&one, "a.test").await.unwrap();
    let made = client.connect(&other, "a.test").await.unwrap();
    assert!(!made.resumed);
}

/// Rules that ask clients for certificates of the authority.
fn for_clients(authority: &Authority, required: bool) -> Rules {
    let files = authority.certificate("a", &["a.test"]);
    Rules {
        clients: Some(ClientAuthority {
            ca: authority.path("ca.pem"),
            crl: None,
            required,
        }),
        ..rules(vec![files])
    }
}

fn billing() -> CertificateParams {
    let mut params = CertificateParams::new(vec!["billing.test".to_owned()]).unwrap();
    params.serial_number = Some(SerialNumber::from(vec![0x0a, 0xbc]));
    params
}

fn client(authority: &Authority, params: &CertificateParams) -> Client {
    let identity = authority.client(params);
    Client::with(authority, pem::provider(), &[&TLS13], Some(identity))
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_only_where_one_is_required() {
    let authority = Authority::new();
    let (without, with) = (Client::of(&authority), client(&authority, &billing()));
    for required in [true, false] {
        let terminator = terminator(for_clients(&authority, required));
        let made = with.connect(&terminator, "a.test").await.unwrap();
        assert!(made.secured.tls.client.is_some());
        match without.connect(&terminator, "a.test").await {
            Ok(made) => assert!(!required && made.secured.tls.client.is_none()),
            Err((seen, _)) => assert!(required && seen.contains("CertificateRequired"), "{seen}"),
        }
    }
}

#[tokio::test]
async fn a_client_of_another_authority_is_refused_even_where_none_is_required() {
    let [authority, stranger] = [Authority::new(), Authority::new()];
    let terminator = terminator(for_clients(&authority, false));
    let identity = stranger.client(&billing());
    let forged = Client::with(&authority, pem::provider(), &[&TLS13], Some(identity));
    let (_, why) = forged.connect(&terminator, "a.test").await.unwrap_err();
    assert!(why.contains("UnknownIssuer"), "{why}");
}

#[tokio::test]
async fn what_is_known_of_a_client_can_not_be_mistaken_for_something_else() {
    let authority = Authority::new();
    let mut params = billing();
    let name = &mut params.distinguished_name;
    *name = rcgen::DistinguishedName::new();
    name.push(DnType::OrganizationName, "Acme");
    name.push(DnType::CommonName, " x,O=admin+\"\\\u{e4}\r\n#;");
    let uri = SanType::URI("spiffe://acme/a,b=c".try_into().unwrap());
    params.subject_alt_names.push(uri);
    params
        .subject_alt_names
        .push(SanType::IpAddress([10, 0, 0, 7].into()));
    let identity = authority.client(&params);
    let der = identity.0[0].clone();
    let client = Client::with(&authority, pem::provider(), &[&TLS13], Some(identity));
    let terminator = terminator(for_clients(&authority, true));
    for resumed in [false, true] {
        let made = client.connect(&terminator, "a.test").await.unwrap();
        assert_eq!(made.resumed, resumed);
        let shown = made.secured.tls.client.clone().unwrap();
        let common = r"\20x\2CO=admin\2B\22\5C\C3\A4\0D\0A#\3B";
        assert_eq!(&*shown.common_name, common);
        assert_eq!(*shown.subject, format!("CN={common},O=Acme"));
        assert_eq!(
            shown.joined_names(),
            r"DNS:billing.test,URI:spiffe://acme/a\2Cb=c,IP:10.0.0.7"
        );
        assert_eq!(&*shown.serial, "0ABC");
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
        let digits: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(*shown.fingerprint, digits);
        assert!(shown.issuer.starts_with("CN=Authority of "), "{shown:?}");
    }
}

/// Writes the list of what the authority has revoked.
fn revoke(authority: &Authority, serials: &[u64]) {
    let revoked = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: date_time_ymd(2024, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(2124, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&authority.issuer).unwrap();
    fs::write(authority.path("crl.pem"), list.pem().unwrap()).unwrap();
}

#[tokio::test]
async fn who_is_revoked_while_the_gateway_runs_is_refused_and_can_not_resume() {
    let authority = Authority::new();
    revoke(&authority, &[1]);
    let mut rules = for_clients(&authority, true);
    rules.clients.as_mut().unwrap().crl = Some(authority.path("crl.pem"));
    let terminator = terminator(rules);
    let client = client(&authority, &billing());
    client.connect(&terminator, "a.test").await.unwrap();
    let made = client.connect(&terminator, "a.test").await.unwrap();
    assert!(made.resumed);
    revoke(&authority, &[1, 0x0abc]);
    assert!(terminator.look());
    assert!(!terminator.look());
    let (_, why) = client.connect(&terminator, "a.test").await.unwrap_err();
    assert!(why.contains("Revoked"), "{why}");
    // What can't be read changes nothing.
    fs::write(authority.path("crl.pem"), "rubbish").unwrap();
    terminator.look();
    terminator.look();
    let (_, why) = client.connect(&terminator, "a.test").await.unwrap_err();
    assert!(why.contains("Revoked"), "{why}");
}

#[tokio::test]
async fn a_new_certificate_is_shown_when_its_files_have_settled_and_fit() {
    let authority = Authority::new();
    let files = authority.certificate("a", &["a.test"]);
    let terminator = terminator(rules(vec![files.clone()]));
    let client = Client::of(&authority);
    let leaf = |made: testing::Made| made.leaf;
    let old = leaf(client.connect(&terminator, "a.test").await.unwrap());
    assert!(!terminator.look());
    // Another certificate, and still the old key.
    let new = authority.certificate("new", &["a.test"]);
    fs::copy(&new.chain, &files.chain).unwrap();
    assert!(terminator.look());
    assert!(!terminator.look());
    assert_eq!(
        leaf(client.connect(&terminator, "a.test").await.unwrap()),
        old
    );
    fs::copy(&new.key, &files.key).unwrap();
    assert!(terminator.look());
    assert_eq!(
        leaf(client.connect(&terminator, "a.test").await.unwrap()),
        old
    );
    assert!(!terminator.look());
    let fresh = Client::of(&authority);
    let made = fresh.connect(&terminator, "a.test").await.unwrap();
    assert!(made.is_of(&new));
    // Half a file, and none at all.
    let whole = fs::read(&new.chain).unwrap();
    fs::write(&files.chain, &whole[..whole.len() / 4]).unwrap();
    terminator.look();
    terminator.look();
    fs::remove_file(&files.chain).unwrap();
    terminator.look();
    terminator.look();
    let made = fresh.connect(&terminator, "a.test").await.unwrap();
    assert!(made.is_of(&new));
}

#[tokio::test]
async fn one_broken_certificate_does_not_hold_up_another() {
    let authority = Authority::new();
    let one = authority.certificate("one", &["one.test"]);
    let two = authority.certificate("two", &["two.test"]);
    let terminator = terminator(rules(vec![one.clone(), two.clone()]));
    fs::write(&one.key, "rubbish").unwrap();
    let new = authority.certificate("two", &["two.test", "three.test"]);
    terminator.look();
    terminator.look();
    let client = Client::of(&authority);
    let made = client.connect(&terminator, "three.test").await.unwrap();
    assert!(made.is_of(&new));
    let made = client.connect(&terminator, "one.test").await.unwrap();
    assert!(made.is_of(&one));
}

#[tokio::test]
async fn sessions_outlive_a_new_certificate_and_a_reload_of_the_same_rules() {
    let authority = Authority::new();
    let files = authority.certificate("a", &["a.test"]);
    let rules = rules(vec![files]);
    let terminator = terminator(rules.clone());
    let client = Client::of(&authority);
    client.connect(&terminator, "a.test").await.unwrap();
    let new = authority.certificate("a", &["a.test"]);
    let compiled = spec(rules.clone());
    assert_eq!(compiled, spec(rules));
    terminator.renew(&compiled);
    let made = client.connect(&terminator, "a.test").await.unwrap();
    assert!(made.resumed);
    let made = Client::of(&authority).connect(&terminator, "a.test").await;
    assert!(made.unwrap().is_of(&new));
}

#[tokio::test]
async fn a_proof_from_a_file_is_sent_along_for_as_long_as_it_holds() {
    let authority = Authority::new();
    let mut files = authority.certificate("a", &["a.test"]);
    files.ocsp = Some(authority.path("a.der"));
    let chain = pem::read_certificates(&files.chain).unwrap();
    let question = ocsp::Question::about_nobody_to_ask(&chain).unwrap();
    let proof = answer(&authority, question.id(), GOOD, now() + 3600);
    fs::write(authority.path("a.der"), &proof).unwrap();
    let client = Client::of(&authority);
    let terminator = terminator(rules(vec![files.clone()]));
    let made = client.connect(&terminator, "a.test").await.unwrap();
    assert_eq!(made.staple, proof);
    let newer = answer(&authority, question.id(), GOOD, now() + 7200);
    fs::write(authority.path("a.der"), &newer).unwrap();
    terminator.look();
    terminator.look();
    let made = Client::of(&authority).connect(&terminator, "a.test").await;
    assert_eq!(made.unwrap().staple, newer);
    let old = answer(&authority, question.id(), GOOD, now() - 1);
    fs::write(authority.path("a.der"), &old).unwrap();
    let terminator = self::terminator(rules(vec![files]));
    let made = Client::of(&authority).connect(&terminator, "a.test").await;
    assert_eq!(made.unwrap().staple, b"");
}

/// Answers one question over HTTP, whatever it is.
async fn authority_answers(listener: tokio::net::TcpListener, body: Vec<u8>) -> Vec<u8> {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut question = Vec::new();
    let is_whole = |question: &[u8]| {
        let text = String::from_utf8_lossy(question).to_lowercase();
        let (head, _) = text.split_once("\r\n\r\n")?;
        let (_, length) = head.split_once("content-length: ")?;
        let length: usize = length.lines().next()?.parse().ok()?;
        Some(question.len() == head.len() + 4 + length)
    };
    while is_whole(&question) != Some(true) {
        assert_ne!(stream.read_buf(&mut question).await.unwrap(), 0);
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    question
}

#[tokio::test]
async fn the_authority_is_asked_for_a_proof_unless_stapling_is_off() {
    let authority = Authority::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let wanted = Wanted {
        responder: Some(format!("http://{}/ocsp", listener.local_addr().unwrap())),
        ..Wanted::default()
    };
    let files = authority.write("a", &["a.test"], &wanted);
    let off = Rules {
        stapling: false,
        ..rules(vec![files.clone()])
    };
    assert!(terminator(off).next_question().is_none());
    let terminator = terminator(rules(vec![files.clone()]));
    let (_, question) = terminator.next_question().unwrap();
    let proof = answer(&authority, question.id(), GOOD, now() + 3600);
    let answering = authority_answers(listener, proof.clone());
    let tending = tokio::spawn(Arc::clone(&terminator).tend());
    let asked = answering.await;
    let text = String::from_utf8_lossy(&asked);
    assert!(text.starts_with("POST /ocsp HTTP/1.1\r\n"), "{text}");
    let id = question.id();
    assert!(asked.windows(id.len()).any(|part| part == id));
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let client = Client::of(&authority);
        let made = client.connect(&terminator, "a.test").await.unwrap();
        if made.staple == proof {
            break;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "no proof came along"
        );
        tokio::task::yield_now().await;
    }
    assert!(terminator.next_question().is_none());
    tending.abort();
}

#[tokio::test]
async fn who_comes_to_check_a_name_is_shown_the_challenge_and_nothing_else() {
    let authority = Authority::new();
    let usual = authority.certificate("a", &["a.test"]);
    let challenge = authority.certificate("challenge", &["a.test"]);
    let challenges = Challenges::default();
    let mut rules = for_clients(&authority, true);
    rules.certificates = Source::Files(vec![usual.clone()]);
    let spec = spec(rules);
    let terminator = Terminator::new("https", &spec, challenges.clone()).unwrap();
    let checking = Client::of(&authority).alpn(&[b"acme-tls/1"]);
    assert!(checking.connect(&terminator, "a.test").await.is_err());
    challenges.put("A.test", &challenge.load().unwrap().certified);
    let (ours, theirs) = duplex(64 << 10);
    let leaf = checking.leaf(ours, "a.test");
    let (leaf, refused) = tokio::join!(leaf, terminator.accept(theirs));
    assert_eq!(leaf, pem::read_certificates(&challenge.chain).unwrap()[0]);
    assert!(refused.unwrap_err().to_string().contains("has seen it"));
    // Others are served as always.
    let client = client(&authority, &billing()).alpn(&[b"acme-tls/1", b"http/1.1"]);
    let made = client.connect(&terminator, "a.test").await.unwrap();
    assert!(made.is_of(&usual));
    challenges.remove("a.test");
    assert!(checking.connect(&terminator, "a.test").await.is_err());
}

#[tokio::test]
async fn what_is_no_tls_and_who_is_silent_does_not_get_far() {
    let authority = Authority::new();
    let mut rules = rules(vec![authority.certificate("a", &["a.test"])]);
    rules.handshake_timeout = std::time::Duration::from_millis(50);
    let terminator = terminator(rules);
    let (mut ours, theirs) = duplex(1024);
    ours.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let error = terminator.accept(theirs).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let (_silent, theirs) = duplex(1024);
    let error = terminator.accept(theirs).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[test]
fn a_certificate_for_development_is_kept_and_made_again_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("state/edgeway");
    let day = 86_400;
    let now = now();
    let leaf = |now| {
        let identity = development::identity(Some(&folder), now).unwrap();
        let names: Vec<_> = identity.names.iter().map(ToString::to_string).collect();
        assert!(names.contains(&"localhost".to_owned()), "{names:?}");
        identity.certified.cert[0].clone()
    };
    let first = leaf(now);
    assert_eq!(leaf(now + 363 * day), first);
    let mode = |path: &Path| {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join("development.key")), 0o600);
    let second = leaf(now + 364 * day + 1);
    assert_ne!(second, first);
    // A key that was lost.
    fs::remove_file(folder.join("development.key")).unwrap();
    assert_ne!(leaf(now + 364 * day + 1), second);
    // Nowhere to keep it.
    assert!(development::identity(None, now).is_ok());
    assert!(development::identity(Some(Path::new("/proc/nowhere")), now).is_ok());
}

#[test]
fn the_end_of_each_certificate_is_known() {
    let authority = Authority::new();
    let wanted = Wanted {
        valid: (-80, 10),
        ..Wanted::default()
    };
    let one = authority.write("one", &["one.test", "*.one.test"], &wanted);
    let terminator = terminator(rules(vec![one]));
    let [Expiry { names, not_after }] = terminator.expiry().try_into().unwrap();
    assert_eq!(names, ["one.test", "*.one.test"]);
    let days = (not_after - now()) as f64 / 86_400.0;
    assert!((9.9..=10.1).contains(&days), "{days}");
}

#[test]
fn files_that_can_not_be_used_are_told_apart() {
    let authority = Authority::new();
    let good = authority.certificate("good", &["a.test"]);
    let other = authority.certificate("other", &["a.test"]);
    let flaw = |change: &dyn Fn(&mut Files)| {
        let mut files = good.clone();
        change(&mut files);
        let flaw = files.load().unwrap_err();
        (flaw.part, flaw.message)
    };
    let encrypted = authority.path("encrypted.key");
    let text = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMA==\n-----END ENCRYPTED PRIVATE KEY-----\n";
    fs::write(&encrypted, text).unwrap();
    fs::write(authority.path("rubbish"), "rubbish").unwrap();
    type Case<'a> = (&'a dyn Fn(&mut Files), Part, &'a str);
    let cases: [Case<'_>; 6] = [
        (
            &|files| files.chain = "/nowhere".into(),
            Part::Chain,
            "can't read `/nowhere`",
        ),
        (
            &|files| files.chain = authority.path("rubbish"),
            Part::Chain,
            "no certificate in PEM",
        ),
        (
            &|files| files.key = other.key.clone(),
            Part::Key,
            "belongs to another one",
        ),
        (
            &|files| files.key = good.chain.clone(),
            Part::Key,
            "no private key in PEM",
        ),
        (
            &|files| files.key = encrypted.clone(),
            Part::Key,
            "is encrypted",
        ),
        (
            &|files| files.ocsp = Some(authority.path("rubbish")),
            Part::Ocsp,
            "can't be read",
        ),
    ];
    for (change, part, why) in cases {
        let (found, message) = flaw(change);
        assert_eq!(found, part, "{message}");
        assert!(message.contains(why), "{message}");
    }
}

#[test]
fn no_key_is_shown_by_what_is_written_to_logs() {
    let authority = Authority::new();
    let files = authority.certificate("a", &["a.test"]);
    let spec = spec(rules(vec![files.clone()]));
    let identity = files.load().unwrap();
    let shown = format!("{spec:?} {identity:?} {:?}", spec.material);
    assert!(!shown.contains("PRIVATE") && shown.len() < 4096, "{shown}");
    assert!(authority.folder().exists());
}
