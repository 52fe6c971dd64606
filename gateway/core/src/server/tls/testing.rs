//! Certificates and clients for the tests of this module.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, SignatureAlgorithm,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, HandshakeKind, NamedGroup, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    Challenges, Files, Material, Protocol, Rules, Secured, Source, Terminator, TlsSpec, der, now,
    pem,
};
use crate::config::tls::{Group, TlsVersion};

/// An authority of a test, and the folder in which its certificates are.
pub(super) struct Authority {
    pub(super) issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// What a certificate is to be like.
pub(super) struct Wanted {
    pub(super) algorithm: &'static SignatureAlgorithm,
    /// In days from now.
    pub(super) valid: (i64, i64),
    /// Where the authority answers.
    pub(super) responder: Option<String>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            algorithm: &PKCS_ECDSA_P256_SHA256,
            valid: (-1, 90),
            responder: None,
        }
    }
}

impl Wanted {
    pub(super) fn rsa() -> Self {
        Self {
            algorithm: &PKCS_RSA_SHA256,
            ..Self::default()
        }
    }

    fn params(&self, names: &[&str]) -> CertificateParams {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let (start, end) = self.valid;
        params.not_before = days(start).into();
        params.not_after = days(end).into();
        params.use_authority_key_identifier_extension = true;
        if let Some(uri) = &self.responder {
            let uri = der::element(0x86, &[uri.as_bytes()]);
            let kind = [der::OID, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 1];
            let one = der::element(der::SEQUENCE, &[&kind, &uri]);
            let access = der::element(der::SEQUENCE, &[&one]);
            let kind = [1, 3, 6, 1, 5, 5, 7, 1, 1];
            params
                .custom_extensions
                .push(CustomExtension::from_oid_content(&kind, access));
        }
        params
    }
}

fn days(days: i64) -> SystemTime {
    let distance = Duration::from_secs(days.unsigned_abs() * 86_400);
    let now = SystemTime::now();
    if days < 0 {
        now - distance
    } else {
        now + distance
    }
}

impl Authority {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        let name = format!("Authority of {}", folder.path().display());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes `FILE.pem`, with the authority's behind it, and `FILE.key`.
    pub(super) fn write(&self, file: &str, names: &[&str], wanted: &Wanted) -> Files {
        let key = KeyPair::generate_for(wanted.algorithm).unwrap();
        let signed = wanted.params(names).signed_by(&key, &self.issuer).unwrap();
        let files = self.files(file);
        fs::write(&files.chain, signed.pem() + &self.issuer.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    pub(super) fn files(&self, file: &str) -> Files {
        Files {
            chain: self.path(&format!("{file}.pem")),
            key: self.path(&format!("{file}.key")),
            ocsp: None,
            names: None,
        }
    }

    /// An ordinary certificate for these names.
    pub(super) fn certificate(&self, file: &str, names: &[&str]) -> Files {
        self.write(file, names, &Wanted::default())
    }

    /// The certificate of a client.
    pub(super) fn client(&self, params: &CertificateParams) -> ClientIdentity {
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        (vec![signed.der().clone()], key)
    }

    pub(super) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        roots
    }
}

pub(super) type ClientIdentity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Rules with nothing written but these files.
pub(super) fn rules(files: Vec<Files>) -> Rules {
    Rules {
        certificates: Source::Files(files),
        default: None,
        clients: None,
        min_version: TlsVersion::V1_2,
        max_version: TlsVersion::V1_3,
        cipher_suites: None,
        groups: Group::usual(),
        tickets: true,
        protocols: &["h2", "http/1.1"],
        stapling: true,
        handshake_timeout: Duration::from_secs(10),
        watch_interval: Duration::from_secs(10),
        hsts: None,
    }
}

pub(super) fn spec(rules: Rules) -> TlsSpec {
    let files: &[Files] = match &rules.certificates {
        Source::Files(files) => files,
        Source::Development(_) => &[],
    };
    let identities = files.iter().map(|files| files.load().unwrap()).collect();
    let verifier = rules
        .clients
        .as_ref()
        .map(|clients| clients.load().unwrap());
    TlsSpec {
        material: Arc::new(Material::new(identities, verifier)),
        acme: Vec::new(),
        rules,
    }
}

pub(super) fn terminator(rules: Rules) -> Arc<Terminator> {
    let challenges = Challenges::default();
    Arc::new(Terminator::new("https", &spec(rules), challenges).unwrap())
}

/// A client that trusts the authority.
#[derive(Clone)]
pub(super) struct Client {
    config: ClientConfig,
    staple: Arc<Mutex<Vec<u8>>>,
}

/// What a client has seen, and what the terminator has.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) leaf: CertificateDer<'static>,
    pub(super) staple: Vec<u8>,
    pub(super) group: Option<NamedGroup>,
    pub(super) resumed: bool,
    pub(super) alpn: Option<Vec<u8>>,
    pub(super) secured: Secured,
}

impl Client {
    pub(super) fn of(authority: &Authority) -> Self {
        Self::with(authority, pem::provider(), rustls::ALL_VERSIONS, None)
    }

    pub(super) fn with(
        authority: &Authority,
        provider: CryptoProvider,
        versions: &[&'static rustls::SupportedProtocolVersion],
        identity: Option<ClientIdentity>,
    ) -> Self {
        let provider = Arc::new(provider);
        let staple = Arc::default();
        let roots = Arc::new(authority.roots());
        let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
        let verifier = Recorder {
            inner: inner.build().unwrap(),
            staple: Arc::clone(&staple),
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        Self { config, staple }
    }

    pub(super) fn alpn(mut self, protocols: &[&[u8]]) -> Self {
        let protocols = protocols.iter().map(|protocol| protocol.to_vec());
        self.config.alpn_protocols = protocols.collect();
        self
    }

    pub(super) fn without_sni(mut self) -> Self {
        self.config.enable_sni = false;
        self
    }

    /// Makes a handshake, and reads one byte over it.
    ///
    /// # Errors
    ///
    /// What the client says of it, and what the terminator says.
    pub(super) async fn connect(
        &self,
        terminator: &Terminator,
        name: &str,
    ) -> Result<Made, (String, String)> {
        let (ours, theirs) = duplex(64 << 10);
        let connector = TlsConnector::from(Arc::new(self.config.clone()));
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let client = async {
            let mut stream = connector.connect(name, ours).await?;
            let mut byte = [0];
            stream.read_exact(&mut byte).await?;
            Ok::<_, std::io::Error>(stream)
        };
        let server = async {
            let (mut stream, secured) = terminator.accept(theirs).await?;
            stream.write_all(b"x").await?;
            stream.flush().await?;
            Ok::<_, std::io::Error>((stream, secured))
        };
        let said = |result: &Result<(), String>| result.clone().err().unwrap_or_default();
        match tokio::join!(client, server) {
            (Ok(stream), Ok((_, secured))) => Ok(self.made(&stream, secured)),
            (client, server) => {
                let [client, server] = [
                    client.map(drop).map_err(|error| error.to_string()),
                    server.map(drop).map_err(|error| error.to_string()),
                ];
                Err((said(&client), said(&server)))
            }
        }
    }

    /// The certificate that is shown over this connection, on which nothing else is said.
    pub(super) async fn leaf(&self, io: DuplexStream, name: &str) -> CertificateDer<'static> {
        let connector = TlsConnector::from(Arc::new(self.config.clone()));
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let stream = connector.connect(name, io).await.unwrap();
        let (_, connection) = stream.get_ref();
        connection.peer_certificates().unwrap()[0].clone()
    }

    fn made(&self, stream: &TlsStream<DuplexStream>, secured: Secured) -> Made {
        let (_, connection) = stream.get_ref();
        let group = connection.negotiated_key_exchange_group();
        Made {
            leaf: connection.peer_certificates().unwrap()[0].clone(),
            staple: std::mem::take(&mut self.staple.lock().unwrap()),
            group: group.map(|group| group.name()),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            secured,
        }
    }
}

impl Made {
    /// The leaf as a file has it.
    pub(super) fn is_of(&self, files: &Files) -> bool {
        pem::read_certificates(&files.chain).unwrap()[0] == self.leaf
    }

    pub(super) fn is_http2(&self) -> bool {
        let agreed = self.alpn.as_deref() == Some(b"h2");
        assert_eq!(agreed, self.secured.protocol == Protocol::Http2);
        agreed
    }
}

/// Verifies as usual, and keeps the proof that came along.
#[derive(Debug)]
struct Recorder {
    inner: Arc<WebPkiServerVerifier>,
    staple: Arc<Mutex<Vec<u8>>>,
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        staple: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.staple.lock().unwrap() = staple.to_vec();
        // The name is what a test looks at itself.
        drop(
            self.inner
                .verify_server_cert(leaf, chain, name, staple, now),
        );
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// A proof that the only certificate of a file is as `status` says, from now on for a day.
pub(super) fn answer(authority: &Authority, id: &[u8], status: &[u8], until: i64) -> Vec<u8> {
    use der::{BIT_STRING, ENUMERATED, GENERALIZED_TIME, OCTETS, OID, SEQUENCE, element, explicit};
    use rcgen::SigningKey;

    let time = |seconds: i64| {
        let time = x509_parser::time::ASN1Time::from_timestamp(seconds).unwrap();
        let time = time.to_datetime();
        let text = format!(
            "{:04}{:02}{:02}{:02}{:02}{:02}Z",
            time.year(),
            u8::from(time.month()),
            time.day(),
            time.hour(),
            time.minute(),
            time.second()
        );
        element(GENERALIZED_TIME, &[text.as_bytes()])
    };
    let since = time(now() - 60);
    let next = element(explicit(0), &[&time(until)]);
    let single = element(SEQUENCE, &[id, status, &since, &next]);
    let singles = element(SEQUENCE, &[&single]);
    let who = element(explicit(2), &[&element(OCTETS, &[&[7; 20]])]);
    let data = element(SEQUENCE, &[&who, &since, &singles]);
    let algorithm = element(
        SEQUENCE,
        &[&[OID, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]],
    );
    let signature = authority.issuer.key().sign(&data).unwrap();
    let signature = element(BIT_STRING, &[&[0], &signature]);
    let basic = element(SEQUENCE, &[&data, &algorithm, &signature]);
    let kind = [OID, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
    let bytes = element(SEQUENCE, &[&kind, &element(OCTETS, &[&basic])]);
    let status = element(ENUMERATED, &[&[0]]);
    element(SEQUENCE, &[&status, &element(explicit(0), &[&bytes])])
}

/// The statuses of an answer.
pub(super) const GOOD: &[u8] = &[0x80, 0];
