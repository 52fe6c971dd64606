//! Certificates from authorities.

mod pebble;

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use edgeway_tests::{Acme, AcmeFault, Authority, Gateway, PATIENCE, eventually, eventually_some};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tempfile::TempDir;
use x509_parser::prelude::{FromDer, X509Certificate};

/// How long a certificate may take that comes without a failure, or after one that is repeated soon.
const SOON: Duration = Duration::from_secs(20);

/// An authority, and a folder for what is kept of it.
struct Lab {
    acme: Acme,
    state: TempDir,
}

impl Lab {
    fn new() -> Self {
        Self {
            acme: Acme::start(),
            state: tempfile::tempdir().unwrap(),
        }
    }

    /// The keys of `acme` for these domains, in YAML's short form, and more of them.
    fn keys(&self, domains: &str, more: &str) -> String {
        let (directory, ca) = (self.acme.directory(), self.acme.ca());
        format!(
            "domains: {domains}, directory: '{directory}', directory_ca: {}, state: {}, {more}",
            ca.display(),
            self.state.path().display()
        )
    }

    /// A configuration with listeners `http` and `https`.
    fn yaml(&self, domains: &str, more: &str) -> String {
        let keys = self.keys(domains, more);
        format!(
            "
            listeners:
              http: {{ bind: '127.0.0.1:0' }}
              https: {{ bind: '127.0.0.1:0', tls: {{ acme: {{ {keys} }} }} }}
            routes:
              - respond: {{ text: hello }}
            "
        )
    }

    /// Starts a gateway, and tells the authority where it is.
    fn start(&self, yaml: &str) -> Gateway {
        self.start_with(Gateway::setup(yaml))
    }

    fn start_with(&self, setup: edgeway_tests::Setup) -> Gateway {
        self.acme.looks_nowhere();
        let gateway = setup.start();
        let (http, https) = (gateway.address_of("http"), gateway.address_of("https"));
        self.acme.looks_at(http, https);
        gateway
    }

    /// The certificate that is shown for a name, as soon as there is one.
    #[track_caller]
    fn awaited(&self, gateway: &Gateway, name: &str) -> Shown {
        eventually_some(SOON, || self.shown(gateway, name).ok())
    }

    /// The certificate that is shown for a name, which must be signed by the authority.
    fn shown(&self, gateway: &Gateway, name: &str) -> Result<Shown, String> {
        visit(gateway.address_of("https"), name, self.acme.authority()).map(|visit| visit.shown)
    }

    /// The one file in the folder of the account with this ending.
    fn file(&self, ending: &str) -> PathBuf {
        let folders = fs::read_dir(self.state.path()).unwrap();
        let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
        let mut files = files.map(|file| file.unwrap().path());
        let found = files.find(|file| file.to_str().unwrap().ends_with(ending));
        found.unwrap()
    }
}

/// What is to be known of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    der: Vec<u8>,
    /// Seconds since 1970.
    end: i64,
}

struct Visit {
    shown: Shown,
    stream: StreamOwned<ClientConnection, TcpStream>,
}

/// Makes a handshake.
fn visit(address: SocketAddr, name: &str, authority: &Authority) -> Result<Visit, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(
        CertificateDer::pem_slice_iter(authority.pem().as_bytes()).flatten(),
    );
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = ServerName::try_from(name.to_owned()).unwrap();
    let mut session = ClientConnection::new(Arc::new(config), server).unwrap();
    let mut tcp = TcpStream::connect(address).map_err(|error| error.to_string())?;
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    while session.is_handshaking() {
        session
            .complete_io(&mut tcp)
            .map_err(|error| error.to_string())?;
    }
    let der = session.peer_certificates().unwrap()[0].to_vec();
    let (_, parsed) = X509Certificate::from_der(&der).unwrap();
    let end = parsed.validity().not_after.timestamp();
    let stream = StreamOwned::new(session, tcp);
    Ok(Visit {
        shown: Shown { der, end },
        stream,
    })
}

impl Visit {
    fn get(mut self, target: &str) -> String {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        self.stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        self.stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

/// How long the gateway wants to wait after a failure, as it says.
#[track_caller]
fn pause(line: &str) -> u64 {
    let (_, seconds) = line.split_once("retry_in=").unwrap();
    seconds.split('s').next().unwrap().parse().unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_certificate_is_got_by_http_whatever_filters_and_routes_say() {
    let lab = Lab::new();
    let keys = lab.keys("[b.test, a.test]", "email: ops@a.test, challenge: http-01");
    let gateway = lab.start(&format!(
        "
        listeners:
          http: {{ bind: '127.0.0.1:0' }}
          https: {{ bind: '127.0.0.1:0', tls: {{ acme: {{ {keys} }} }} }}
        filters:
          - jwt: {{ algorithms: [HS256], secret: a-secret-of-enough-bytes-for-everybody }}
        routes:
          - redirect: {{ scheme: https }}
        "
    ));
    let shown = lab.awaited(&gateway, "a.test");
    assert_eq!(lab.shown(&gateway, "b.test").unwrap(), shown);
    let counts = lab.acme.counts();
    assert_eq!((counts.accounts, counts.orders, counts.looks), (1, 1, 2));
    assert_eq!(counts.contacts, ["mailto:ops@a.test"]);
    assert_eq!(lab.acme.complaints(), [""; 0]);
    // The name that nobody has ordered.
    assert!(visit(gateway.address_of("https"), "c.test", lab.acme.authority()).is_err());
    // What nobody was told to ask for, or any more.
    let answer = gateway.get("/.well-known/acme-challenge/token-_1");
    assert_eq!(answer.status, 401);
}

/// Without a listener at port 80 this is the usual way.
#[test]
fn a_certificate_is_got_by_a_handshake() {
    let lab = Lab::new();
    let gateway = lab.start(&lab.yaml("[a.test, b.test]", ""));
    lab.awaited(&gateway, "b.test");
    let visit = visit(gateway.address_of("https"), "a.test", lab.acme.authority()).unwrap();
    let answer = visit.get("/");
    assert!(answer.ends_with("hello"), "{answer}");
    assert_eq!(lab.acme.counts().looks, 2);
    assert_eq!(lab.acme.complaints(), [""; 0]);
}

#[test]
fn each_list_of_domains_has_a_certificate_and_all_one_account() {
    let lab = Lab::new();
    let gateway = lab.start(&lab.yaml("[[a.test, b.test], [c.test]]", ""));
    let [a, b, c] = ["a.test", "b.test", "c.test"].map(|name| lab.awaited(&gateway, name));
    assert_eq!(a, b);
    assert_ne!(a, c);
    let counts = lab.acme.counts();
    assert_eq!((counts.accounts, counts.orders), (1, 2));
}

#[test]
fn until_there_is_a_certificate_its_names_are_refused_and_others_are_served() {
    let lab = Lab::new();
    let other = lab
        .acme
        .authority()
        .certificate(&["other.test", "*.wild.test"]);
    let files = format!(
        "{{ chain: {}, key: {} }}",
        other.chain().display(),
        other.key().display()
    );
    let keys = lab.keys("[a.test, x.wild.test]", "");
    lab.acme.slow(Duration::from_millis(100));
    let gateway = Gateway::start(&format!(
        "
        listeners:
          http: {{ bind: '127.0.0.1:0' }}
          https: {{ bind: '127.0.0.1:0', tls: {{ certificates: [{files}], acme: {{ {keys} }} }} }}
        routes: [{{ respond: {{ text: hello }} }}]
        "
    ));
    gateway.wait_for_log(
        "no certificate yet, handshakes are refused until there is one: names=a.test,x.wild.test",
    );
    let refused = lab.shown(&gateway, "a.test").unwrap_err();
    assert!(refused.contains("UnrecognisedName"), "{refused}");
    let wildcard = lab.shown(&gateway, "x.wild.test").unwrap();
    assert_eq!(lab.shown(&gateway, "other.test").unwrap(), wildcard);
    // The authority looks only now.
    lab.acme
        .looks_at(gateway.address_of("http"), gateway.address_of("https"));
    let own = lab.awaited(&gateway, "a.test");
    assert_eq!(lab.shown(&gateway, "x.wild.test").unwrap(), own);
    assert_eq!(lab.shown(&gateway, "other.test").unwrap(), wildcard);
}

#[test]
fn nothing_is_ordered_again_after_a_restart() {
    let lab = Lab::new();
    let yaml = lab.yaml("[a.test]", "email: ops@a.test");
    let mut gateway = lab.start(&yaml);
    let before = lab.awaited(&gateway, "a.test");
    for file in [".pem", "account.json"] {
        assert_eq!(mode(&lab.file(file)), 0o600, "{file}");
        assert_eq!(mode(lab.file(file).parent().unwrap()), 0o700, "{file}");
    }
    gateway.stop();
    let mut gateway = lab.start(&yaml);
    // At once.
    assert_eq!(lab.shown(&gateway, "a.test").unwrap(), before);
    gateway.stop();
    let counts = lab.acme.counts();
    assert_eq!((counts.accounts, counts.orders), (1, 1));

    // What can't be read is ordered anew, by the same account.
    fs::write(lab.file(".pem"), "half of a certi").unwrap();
    let gateway = lab.start(&yaml);
    gateway.wait_for_log("certificate can't be used");
    assert_ne!(lab.awaited(&gateway, "a.test"), before);
    let counts = lab.acme.counts();
    assert_eq!((counts.accounts, counts.orders), (1, 2));
}

#[test]
fn a_certificate_is_renewed_before_its_end_and_nobody_notices() {
    let lab = Lab::new();
    lab.acme.signs_for(Duration::from_secs(30));
    let gateway = lab.start(&lab.yaml("[a.test]", "renew_before: 27s"));
    let first = lab.awaited(&gateway, "a.test");
    let next = eventually_some(SOON, || {
        let shown = lab.shown(&gateway, "a.test").unwrap();
        (shown != first).then_some(shown)
    });
    assert!(next.end > first.end);
    let kept = CertificateDer::from_pem_file(lab.file(".pem")).unwrap();
    assert_eq!(kept.to_vec(), next.der);
    assert_eq!(lab.acme.counts().accounts, 1);
}

#[test]
fn a_certificate_is_not_renewed_again_and_again_if_it_is_shorter_than_its_reserve() {
    let lab = Lab::new();
    lab.acme.signs_for(Duration::from_secs(60));
    let gateway = lab.start(&lab.yaml("[a.test]", "renew_before: 30d"));
    lab.awaited(&gateway, "a.test");
    gateway.wait_for_log("`renew_before` is too long");
    thread::sleep(Duration::from_secs(2));
    assert_eq!(lab.acme.counts().orders, 1);
}

#[test]
fn bad_nonces_and_slow_answers_are_no_failure() {
    let lab = Lab::new();
    lab.acme.slow(Duration::from_millis(50));
    for kind in [
        "new-account",
        "new-order",
        "new-order",
        "challenge",
        "finalize",
        "certificate",
    ] {
        lab.acme.next(kind, AcmeFault::BadNonce);
    }
    lab.acme.next(
        "finalize",
        AcmeFault::Later(Duration::from_millis(1_500), 1),
    );
    let gateway = lab.start(&lab.yaml("[a.test]", ""));
    lab.awaited(&gateway, "a.test");
    assert!(!gateway.log().contains("retry_in"), "{}", gateway.log());
    let counts = lab.acme.counts();
    assert_eq!((counts.accounts, counts.orders, counts.signed), (1, 1, 1));
    // As often as it was told to look, not more.
    let signing = counts
        .requests
        .iter()
        .rev()
        .take_while(|request| *request != "POST finalize");
    let looks = signing.filter(|request| *request == "POST order").count();
    assert!((1..=3).contains(&looks), "{:?}", counts.requests);
}

#[test]
fn an_authority_that_fails_is_asked_again_with_the_reason_told() {
    for (kind, fault, reason) in [
        ("directory", AcmeFault::Page(502), "answered 502"),
        ("new-order", AcmeFault::Hangup, "no answer"),
        (
            "finalize",
            AcmeFault::Problem("serverInternal"),
            "serverInternal: as the test wants it",
        ),
    ] {
        let lab = Lab::new();
        lab.acme.next(kind, fault);
        let gateway = lab.start(&lab.yaml("[a.test]", ""));
        let line = gateway.wait_for_log("no certificate: names=a.test");
        assert!(
            line.contains(reason) && (5..7).contains(&pause(&line)),
            "{line}"
        );
        lab.awaited(&gateway, "a.test");
        let failures = gateway.log().matches("retry_in").count();
        assert_eq!(failures, 1, "{}", gateway.log());
    }
}

#[test]
fn an_authority_that_is_away_disturbs_nobody() {
    let lab = Lab::new();
    let yaml = lab.yaml("[a.test]", "");
    let mut gateway = lab.start(&yaml);
    let before = lab.awaited(&gateway, "a.test");
    gateway.stop();
    // As if it had to be renewed: nobody is there to do it.
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let away = format!("https://localhost:{}/directory", closed.port());
    let other = yaml.replace(&lab.acme.directory(), &away);
    let other = other.replace("[a.test]", "[b.test]");
    let gateway = lab.start(&other);
    gateway.wait_for_log("no certificate: names=b.test");
    assert_eq!(gateway.get("/").text(), "hello");
    assert!(gateway.reload(&yaml));
    assert_eq!(lab.shown(&gateway, "a.test").unwrap(), before);
    assert_eq!(lab.acme.counts().orders, 1);
}

#[test]
fn a_renewal_that_fails_leaves_the_last_good_certificate() {
    let lab = Lab::new();
    lab.acme.signs_for(Duration::from_secs(30));
    let gateway = lab.start(&lab.yaml("[a.test]", "renew_before: 27s"));
    let first = lab.awaited(&gateway, "a.test");
    lab.acme.next("new-order", AcmeFault::RateLimited(600));
    let line = gateway.wait_for_log("certificate not renewed: names=a.test");
    assert!(line.contains("rateLimited: too many"), "{line}");
    assert!(pause(&line) >= 600, "{line}");
    assert_eq!(lab.shown(&gateway, "a.test").unwrap(), first);
}

/// The names are ordered together, so that it is another certificate that is missing.
#[test]
fn a_name_that_is_added_takes_no_other_away() {
    let lab = Lab::new();
    let gateway = lab.start(&lab.yaml("[a.test]", ""));
    let before = lab.awaited(&gateway, "a.test");
    lab.acme.next("new-order", AcmeFault::RateLimited(6));
    assert!(gateway.reload(&lab.yaml("[a.test, b.test]", "")));
    gateway.wait_for_log("no certificate: names=a.test,b.test");
    assert_eq!(lab.shown(&gateway, "a.test").unwrap(), before);
    lab.shown(&gateway, "b.test").unwrap_err();
    let after = lab.awaited(&gateway, "b.test");
    assert_eq!(lab.shown(&gateway, "a.test").unwrap(), after);
}

#[test]
fn an_authority_is_left_alone_for_as_long_as_it_asks() {
    let lab = Lab::new();
    lab.acme.next("new-order", AcmeFault::RateLimited(7));
    let gateway = lab.start(&lab.yaml("[a.test]", ""));
    let begun = Instant::now();
    let line = gateway.wait_for_log("no certificate: names=a.test");
    assert!((7..9).contains(&pause(&line)), "{line}");
    lab.awaited(&gateway, "a.test");
    assert!(begun.elapsed() >= Duration::from_secs(6));
}

#[test]
fn a_name_that_is_not_here_is_told_and_not_looked_for_again_at_once() {
    let lab = Lab::new();
    let gateway = Gateway::start(&lab.yaml("[a.test]", "challenge: http-01"));
    let elsewhere = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    lab.acme.looks_at(elsewhere, elsewhere);
    let line = gateway.wait_for_log("no certificate: names=a.test");
    assert!(
        line.contains("`a.test` could not be checked: connection: "),
        "{line}"
    );
    assert!((60..73).contains(&pause(&line)), "{line}");
    assert_eq!(lab.acme.counts().orders, 1);
}

#[test]
fn a_challenge_that_the_authority_does_not_offer_is_told() {
    let lab = Lab::new();
    lab.acme.offers_only("dns-01");
    let gateway = lab.start(&lab.yaml("[a.test]", "challenge: http-01"));
    let line = gateway.wait_for_log("no certificate: names=a.test");
    assert!(
        line.contains("does not check `a.test` by `http-01`"),
        "{line}"
    );
}

#[test]
fn a_certificate_that_is_not_what_was_ordered_is_not_kept() {
    for (fault, reason) in [
        (AcmeFault::Foreign, "it is not for `a.test`"),
        (AcmeFault::Expired, "it has expired"),
    ] {
        let lab = Lab::new();
        lab.acme.next("finalize", fault);
        let gateway = lab.start(&lab.yaml("[a.test]", ""));
        let line = gateway.wait_for_log("no certificate: names=a.test");
        assert!(line.contains(reason), "{line}");
        assert!(lab.shown(&gateway, "a.test").is_err());
        let folder = lab.file("account.json");
        let kept = fs::read_dir(folder.parent().unwrap()).unwrap();
        let mut kept = kept.map(|file| file.unwrap().file_name().into_string().unwrap());
        assert!(!kept.any(|file| file.ends_with(".pem")));
    }
}

#[test]
fn an_account_is_bound_to_one_that_was_made_otherwise() {
    let lab = Lab::new();
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    lab.acme.demands("kid-1", key);
    let gateway = lab.start(&lab.yaml("[a.test]", ""));
    let line = gateway.wait_for_log("no certificate: names=a.test");
    assert!(
        line.contains("externalAccountRequired") && line.contains("write `external_account`"),
        "{line}"
    );

    let bound = "external_account: { key_id: kid-1, key: 'env:ACME_KEY' }";
    let wrong = "external_account: { key_id: kid-2, key: 'env:ACME_KEY' }";
    let setup = |more: &str| Gateway::setup(&lab.yaml("[a.test]", more)).env("ACME_KEY", key);
    let gateway = lab.start_with(setup(wrong));
    let line = gateway.wait_for_log("no certificate: names=a.test");
    assert!(line.contains("is not bound rightly"), "{line}");
    let gateway = lab.start_with(setup(bound));
    lab.awaited(&gateway, "a.test");
    assert_eq!(lab.acme.counts().accounts, 1);
    assert!(!gateway.log().contains(key));
}

#[test]
fn an_account_that_the_authority_has_forgotten_is_made_again() {
    let mut lab = Lab::new();
    let gateway = lab.start(&lab.yaml("[a.test]", ""));
    let before = lab.awaited(&gateway, "a.test");
    lab.acme = lab.acme.forgetful();
    lab.acme
        .looks_at(gateway.address_of("http"), gateway.address_of("https"));
    assert!(gateway.reload(&lab.yaml("[[a.test], [b.test]]", "")));
    let line = gateway.wait_for_log("no certificate: names=b.test");
    assert!(line.contains("accountDoesNotExist"), "{line}");
    lab.awaited(&gateway, "b.test");
    assert_eq!(lab.shown(&gateway, "a.test").unwrap(), before);
    assert_eq!(lab.acme.counts().accounts, 1);
}

#[test]
fn the_authority_is_told_of_another_address() {
    let lab = Lab::new();
    let gateway = lab.start(&lab.yaml("[a.test]", "email: one@a.test"));
    lab.awaited(&gateway, "a.test");
    assert!(gateway.reload(&lab.yaml("[b.test]", "email: other@a.test")));
    lab.awaited(&gateway, "b.test");
    let counts = lab.acme.counts();
    assert_eq!((counts.accounts, counts.updates), (1, 1));
    assert_eq!(counts.contacts, ["mailto:other@a.test"]);
}

#[test]
fn a_reload_disturbs_no_order_and_ends_those_that_are_not_wanted_any_more() {
    let lab = Lab::new();
    let yaml = lab.yaml("[a.test]", "");
    let gateway = Gateway::start(&yaml);
    // It does not look yet: the order is under way.
    eventually(SOON, || lab.acme.counts().looks == 1);
    assert!(gateway.reload(&yaml.replace("hello", "hello again")));
    lab.acme
        .looks_at(gateway.address_of("http"), gateway.address_of("https"));
    let shown = lab.awaited(&gateway, "a.test");
    assert_eq!(lab.acme.counts().orders, 1);

    // Of this one there is no more than a failure, which would be repeated.
    lab.acme.next("new-order", AcmeFault::Page(503));
    assert!(gateway.reload(&lab.yaml("[[a.test], [b.test]]", "")));
    gateway.wait_for_log("no certificate: names=b.test");
    assert!(gateway.reload(&yaml));
    thread::sleep(Duration::from_secs(7));
    let requests = lab.acme.counts().requests;
    let orders = requests.iter().filter(|kind| *kind == "POST new-order");
    assert_eq!(orders.count(), 2, "{requests:?}");
    assert_eq!(lab.shown(&gateway, "a.test").unwrap(), shown);
}

#[test]
fn two_gateways_with_one_folder_order_once() {
    let lab = Lab::new();
    let yaml = lab.yaml("[a.test]", "");
    let first = Gateway::start(&yaml);
    eventually(SOON, || lab.acme.counts().looks == 1);
    let second = Gateway::start(&yaml);
    second.wait_for_log("certificate is ordered by another gateway: names=a.test");
    lab.acme
        .looks_at(first.address_of("http"), first.address_of("https"));
    let shown = lab.awaited(&first, "a.test");
    assert_eq!(lab.awaited(&second, "a.test"), shown);
    let counts = lab.acme.counts();
    assert_eq!((counts.accounts, counts.orders), (1, 1));
}

#[test]
fn a_certificate_is_replaced_when_the_authority_would_like_it_and_only_once() {
    let lab = Lab::new();
    let yaml = lab.yaml("[a.test]", "");
    let mut gateway = lab.start(&yaml);
    let first = lab.awaited(&gateway, "a.test");
    gateway.stop();
    let ago = |hours: u64| SystemTime::now() - Duration::from_secs(hours * 3_600);
    lab.acme.suggests(ago(48), ago(24));
    let gateway = lab.start(&yaml);
    let next = eventually_some(SOON, || {
        let shown = lab.shown(&gateway, "a.test").unwrap();
        (shown != first).then_some(shown)
    });
    // It suggests the same of the new one.
    let asked = |counts: &edgeway_tests::AcmeCounts| {
        let asked = counts.requests.iter();
        asked
            .filter(|request| *request == "GET renewal-info")
            .count()
    };
    eventually(SOON, || asked(&lab.acme.counts()) == 2);
    thread::sleep(Duration::from_secs(1));
    let counts = lab.acme.counts();
    assert_eq!((counts.orders, counts.replaced), (2, 1));
    assert_eq!(lab.shown(&gateway, "a.test").unwrap(), next);
    assert_eq!(lab.acme.complaints(), [""; 0]);
}

#[test]
fn a_check_asks_nobody_and_makes_nothing() {
    let lab = Lab::new();
    let setup = Gateway::setup(&lab.yaml("[a.test]", ""));
    let checked = setup.run("check");
    assert_eq!((checked.code, &*checked.log), (Some(0), ""));
    assert_eq!(lab.acme.counts().requests, [""; 0]);
    assert_eq!(fs::read_dir(lab.state.path()).unwrap().count(), 0);
}

#[test]
fn certificates_are_kept_where_systemd_says_unless_another_folder_is_written() {
    let lab = Lab::new();
    let folder = tempfile::tempdir().unwrap();
    let yaml = lab.yaml("[a.test]", "");
    let written = format!("state: {},", lab.state.path().display());
    let setup = Gateway::setup(&yaml.replace(&written, ""));
    let gateway = lab.start_with(setup.env("STATE_DIRECTORY", folder.path().to_str().unwrap()));
    lab.awaited(&gateway, "a.test");
    assert_eq!(fs::read_dir(folder.path().join("acme")).unwrap().count(), 1);
    let setup = Gateway::setup(&yaml.replace(&written, ""));
    let refused = setup.refused();
    assert!(
        refused.contains("there is no folder for the certificates"),
        "{refused}"
    );
}

#[test]
fn a_folder_that_can_not_be_written_to_is_told_before_anybody_is_asked() {
    let lab = Lab::new();
    let file = lab.state.path().join("a-file");
    fs::write(&file, "").unwrap();
    let yaml = lab.yaml("[a.test]", "");
    let state = lab.state.path().display().to_string();
    let gateway = lab.start(&yaml.replace(
        &format!("state: {state}"),
        &format!("state: {}", file.display()),
    ));
    let line = gateway.wait_for_log("no certificate: names=a.test");
    assert!(line.contains("can't write to"), "{line}");
    assert_eq!(lab.acme.counts().requests, [""; 0]);
    assert_eq!(gateway.get("/").status, 200);
}
