//! The same with Pebble, an authority by who runs the one that most use. Debian has it as `pebble`.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
};

use edgeway_tests::{Authority, Gateway, eventually, eventually_some};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tempfile::TempDir;

use super::SOON;

/// Pebble, with the name server of its own that knows every name. Dropping it ends both.
struct Pebble {
    authority: Authority,
    folder: TempDir,
    directory: u16,
    children: [Child; 2],
}

impl Pebble {
    fn start(http: u16, tls: u16) -> Self {
        let [directory, management, dns, tests] = [(); 4].map(|()| free_port());
        let authority = Authority::new();
        let certificate = authority.certificate(&["localhost"]);
        let folder = tempfile::tempdir().unwrap();
        let configuration = folder.path().join("pebble.json");
        let (chain, key) = (certificate.chain(), certificate.key());
        let text = format!(
            r#"{{ "pebble": {{ "listenAddress": "127.0.0.1:{directory}",
                "managementListenAddress": "127.0.0.1:{management}",
                "certificate": {chain:?}, "privateKey": {key:?},
                "httpPort": {http}, "tlsPort": {tls}, "ocspResponderURL": "" }} }}"#
        );
        fs::write(&configuration, text).unwrap();
        let names = spawn(Command::new("pebble-challtestsrv").args([
            "-defaultIPv4",
            "127.0.0.1",
            "-defaultIPv6",
            "",
            "-dns01",
            &format!("127.0.0.1:{dns}"),
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
            "-management",
            &format!("127.0.0.1:{tests}"),
        ]));
        let pebble = spawn(
            Command::new("pebble")
                .env("PEBBLE_VA_NOSLEEP", "1")
                .env("PEBBLE_WFE_NONCEREJECT", "20")
                .arg("-config")
                .arg(&configuration)
                .args(["-dnsserver", &format!("127.0.0.1:{dns}")]),
        );
        eventually(SOON, || {
            std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, directory)).is_ok()
        });
        Self {
            authority,
            folder,
            directory,
            children: [names, pebble],
        }
    }

    fn yaml(&self, http: u16, tls: u16, challenge: &str) -> String {
        let state = self.folder.path().join("state");
        format!(
            "
            listeners:
              http: {{ bind: '127.0.0.1:{http}' }}
              https:
                bind: '127.0.0.1:{tls}'
                tls:
                  acme:
                    email: ops@a.test
                    domains: [[a.{challenge}.test, b.{challenge}.test], [c.{challenge}.test]]
                    directory: https://localhost:{}/dir
                    directory_ca: {}
                    challenge: {challenge}
                    state: {}
            routes: [{{ respond: {{ text: hello }} }}]
            ",
            self.directory,
            self.authority.ca().display(),
            state.display()
        )
    }

    fn certificates(&self) -> usize {
        let folders = fs::read_dir(self.folder.path().join("state"));
        let files = folders.into_iter().flatten().flatten();
        let files = files.flat_map(|folder| fs::read_dir(folder.path()).unwrap());
        let files = files.map(|file| file.unwrap().path());
        files.filter(|file| is_certificate(file)).count()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for child in &mut self.children {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn is_certificate(file: &Path) -> bool {
    let pem = file.extension().is_some_and(|ending| ending == "pem");
    pem && CertificateDer::from_pem_file(file).is_ok()
}

fn spawn(command: &mut Command) -> Child {
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("`apt-get install pebble`")
}

/// Pebble is told before the gateway has them.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
#[ignore = "it needs `pebble`, and ports that are still free when it has started"]
fn pebble_makes_certificates_by_both_challenges() {
    let (http, tls) = (free_port(), free_port());
    let pebble = Pebble::start(http, tls);
    let mut seen = 0;
    for challenge in ["http-01", "tls-alpn-01"] {
        let gateway = Gateway::start(&pebble.yaml(http, tls, challenge));
        seen += 2;
        eventually_some(3 * SOON, || (pebble.certificates() == seen).then_some(()));
        eventually(SOON, || {
            gateway.log().matches("certificate received").count() == 2
        });
    }
}
