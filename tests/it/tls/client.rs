//! A client over TLS that tells what it has seen.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use edgeway_tests::{Authority, Certificate, PATIENCE};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind,
    RootCertStore, SignatureScheme, StreamOwned, SupportedProtocolVersion,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

/// A client with its own memory of sessions.
pub(super) struct Client {
    config: ClientConfig,
    roots: Arc<RootCertStore>,
}

/// A connection after its handshake.
pub(super) struct Visit {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
    name: String,
}

/// An answer over HTTP/1.1 with a `Content-Length`.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    head: String,
    pub(super) text: String,
}

impl Visit {
    /// Reads until there is no more.
    pub(super) fn is_closed_by_the_other_side(&mut self) -> bool {
        let mut rest = Vec::new();
        let read = self.stream.read_to_end(&mut rest);
        // Whether with a goodbye or without one; but not because this side has waited for too long.
        !read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

impl Client {
    pub(super) fn trusting(authority: &Authority) -> Self {
        Self::with(authority, rustls::ALL_VERSIONS, None)
    }

    /// What trusts the certificates of a file.
    pub(super) fn trusting_file(pem: &str) -> Self {
        Self::new(pem, rustls::ALL_VERSIONS, None)
    }

    pub(super) fn with(
        authority: &Authority,
        versions: &[&'static SupportedProtocolVersion],
        shown: Option<&Certificate>,
    ) -> Self {
        Self::new(&authority.pem(), versions, shown)
    }

    fn new(
        pem: &str,
        versions: &[&'static SupportedProtocolVersion],
        shown: Option<&Certificate>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(Arc::clone(&roots));
        let config = match shown {
            Some(shown) => {
                let key = PrivateKeyDer::from_pem_file(shown.key()).unwrap();
                builder
                    .with_client_auth_cert(vec![leaf(shown)], key)
                    .unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        Self { config, roots }
    }

    /// Whatever name a certificate is for, as long as it is signed by the authority.
    pub(super) fn any_name(mut self) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots = Arc::clone(&self.roots);
        let inner = WebPkiServerVerifier::builder_with_provider(roots, provider);
        let verifier = Arc::new(AnyName(inner.build().unwrap()));
        self.config.dangerous().set_certificate_verifier(verifier);
        self
    }

    pub(super) fn alpn(mut self, protocols: &[&str]) -> Self {
        let protocols = protocols.iter().map(|name| name.as_bytes().to_vec());
        self.config.alpn_protocols = protocols.collect();
        self
    }

    /// Connects and makes a handshake.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(super) fn visit(&self, address: SocketAddr, name: &str) -> Result<Visit, String> {
        let text = |error: std::io::Error| error.to_string();
        let server = ServerName::try_from(name.to_owned()).unwrap();
        let config = Arc::new(self.config.clone());
        let mut connection = ClientConnection::new(config, server).unwrap();
        let mut tcp = TcpStream::connect(address).map_err(text)?;
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut tcp).map_err(text)?;
        }
        Ok(Visit {
            stream: BufReader::new(StreamOwned::new(connection, tcp)),
            name: name.to_owned(),
        })
    }
}

impl Visit {
    #[track_caller]
    pub(super) fn get(&mut self, target: &str) -> Answer {
        self.get_with(target, "")
    }

    /// With more lines in the head, each with its end.
    #[track_caller]
    pub(super) fn get_with(&mut self, target: &str, lines: &str) -> Answer {
        let answer = self.exchange(target, lines);
        answer.unwrap_or_else(|error| panic!("GET {target}: {error}"))
    }

    /// # Errors
    ///
    /// Why there is no answer.
    pub(super) fn try_get(&mut self, target: &str) -> Result<Answer, String> {
        self.exchange(target, "").map_err(|error| error.to_string())
    }

    fn exchange(&mut self, target: &str, lines: &str) -> std::io::Result<Answer> {
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {}\r\n{lines}\r\n",
            self.name
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        let mut answer = Answer {
            status: head
                .get(9..12)
                .and_then(|status| status.parse().ok())
                .unwrap(),
            head,
            text: String::new(),
        };
        let length = answer.header("content-length").expect("a length");
        let mut body = vec![0; length.parse().unwrap()];
        self.stream.read_exact(&mut body)?;
        answer.text = String::from_utf8(body).unwrap();
        Ok(answer)
    }

    pub(super) fn is_shown(&self, certificate: &Certificate) -> bool {
        let shown = self.connection().peer_certificates().unwrap();
        shown.first() == Some(&leaf(certificate))
    }

    pub(super) fn alpn(&self) -> Option<String> {
        let protocol = self.connection().alpn_protocol()?;
        Some(String::from_utf8_lossy(protocol).into_owned())
    }

    pub(super) fn suite(&self) -> &'static str {
        let suite = self.connection().negotiated_cipher_suite().unwrap();
        suite.suite().as_str().unwrap()
    }

    pub(super) fn resumed(&self) -> bool {
        self.connection().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    fn connection(&self) -> &ClientConnection {
        &self.stream.get_ref().conn
    }
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<String> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let (_, value) = lines.find(|(found, _)| found.eq_ignore_ascii_case(name))?;
        Some(value.to_owned())
    }

    /// The only header of this name that an echo has received.
    #[track_caller]
    pub(super) fn received(&self, name: &str) -> String {
        let echo: serde_json::Value = serde_json::from_str(&self.text).unwrap();
        let headers = echo["headers"].as_array().unwrap();
        let mut values = headers
            .iter()
            .filter(|header| header[0].as_str().unwrap().eq_ignore_ascii_case(name));
        let value = values.next().unwrap_or_else(|| panic!("no {name}: {echo}"));
        assert!(values.next().is_none(), "{echo}");
        value[1].as_str().unwrap().to_owned()
    }
}

fn leaf(certificate: &Certificate) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(certificate.chain()).unwrap()
}

/// Verifies all but the name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        staple: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        match self.0.verify_server_cert(leaf, chain, name, staple, now) {
            Err(Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// A connection whose first bytes of a request leave together with the end of the handshake, as those of many
/// clients do. What it gets within some seconds.
pub(super) fn in_one_go(authority: &Authority, address: SocketAddr, request: &[u8]) -> String {
    let client = Client::trusting(authority);
    let name = ServerName::try_from("shop.test").unwrap();
    let mut session = ClientConnection::new(Arc::new(client.config), name).unwrap();
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    while session.is_handshaking() {
        while session.wants_write() && session.is_handshaking() {
            session.write_tls(&mut tcp).unwrap();
        }
        session.read_tls(&mut tcp).unwrap();
        session.process_new_packets().unwrap();
    }
    session.writer().write_all(request).unwrap();
    let mut last = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut last).unwrap();
    }
    tcp.write_all(&last).unwrap();
    let mut seen = [0; 4096];
    let read = StreamOwned::new(session, tcp).read(&mut seen).unwrap();
    String::from_utf8_lossy(&seen[..read]).into_owned()
}
