//! Looking whether a name is there (RFC 8555, 8.3, and RFC 8737).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use http::{Request, header::HOST};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use x509_parser::{
    extensions::GeneralName,
    oid_registry::Oid,
    prelude::{FromDer, X509Certificate},
};

use crate::authority::provider;

const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked of whoever has a name.
pub(super) struct Question {
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) token: String,
    /// What only the owner of the account can know.
    pub(super) answer: String,
}

impl Question {
    /// Looks, where ports 80 and 443 of the name are. What is wrong is a kind of problem, and a sentence.
    pub(super) async fn ask(
        &self,
        (http, tls): (SocketAddr, SocketAddr),
    ) -> Result<(), (&'static str, String)> {
        let asked = async {
            match self.kind {
                "http-01" => self.over_http(http).await,
                "tls-alpn-01" => self.over_tls(tls).await,
                kind => Err(("malformed", format!("nobody looks by {kind}"))),
            }
        };
        let late = || ("connection", "no answer in time".to_owned());
        timeout(PATIENCE, asked).await.map_err(|_| late())?
    }

    async fn over_http(&self, at: SocketAddr) -> Result<(), (&'static str, String)> {
        let io = |error: std::io::Error| ("connection", error.to_string());
        let said = |error: hyper::Error| ("connection", error.to_string());
        let stream = TcpStream::connect(at).await.map_err(io)?;
        let made = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = made.map_err(said)?;
        tokio::spawn(connection);
        let path = format!("/.well-known/acme-challenge/{}", self.token);
        let request = Request::get(path)
            .header(HOST, &self.name)
            .body(Empty::<Bytes>::new());
        let request = request.expect("a token is part of a path");
        let response = sender.send_request(request).await.map_err(said)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(said)?;
        let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        if status != 200 || body.trim_end() != self.answer {
            let reason = format!("{status}, and not the answer but {body:?}");
            return Err(("unauthorized", reason));
        }
        Ok(())
    }

    async fn over_tls(&self, at: SocketAddr) -> Result<(), (&'static str, String)> {
        let io = |error: std::io::Error| ("connection", error.to_string());
        let stream = TcpStream::connect(at).await.map_err(io)?;
        let name = ServerName::try_from(self.name.clone());
        let name = name.expect("names that are ordered are names of hosts");
        let connector = TlsConnector::from(Arc::new(client()));
        let made = connector.connect(name, stream).await;
        let stream = made.map_err(|error| ("tls", error.to_string()))?;
        let (_, session) = stream.get_ref();
        if session.alpn_protocol() != Some(PROTOCOL) {
            return Err(("unauthorized", "`acme-tls/1` is not spoken".to_owned()));
        }
        let leaf = session.peer_certificates().and_then(<[_]>::first);
        let leaf = leaf.ok_or_else(|| ("unauthorized", "no certificate".to_owned()))?;
        self.judge(leaf)
            .map_err(|reason| ("unauthorized", reason.to_owned()))
    }

    fn judge(&self, leaf: &CertificateDer<'_>) -> Result<(), &'static str> {
        let parsed = X509Certificate::from_der(leaf);
        let (_, certificate) = parsed.map_err(|_| "the certificate can't be read")?;
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.map_or(&[][..], |names| &names.value.general_names);
        match names {
            [GeneralName::DNSName(name)] if *name == self.name => {}
            _ => return Err("the certificate is not for this name alone"),
        }
        let identifier = Oid::from(&[1, 3, 6, 1, 5, 5, 7, 1, 31]).expect("an OID");
        let extension = certificate.get_extension_unique(&identifier).ok().flatten();
        let extension = extension.ok_or("the certificate has no `acmeIdentifier`")?;
        let expected = digest(&SHA256, self.answer.as_bytes());
        if !extension.critical || *extension.value != [&[4, 32], expected.as_ref()].concat() {
            return Err("the `acmeIdentifier` is another, or not critical");
        }
        Ok(())
    }
}

const PROTOCOL: &[u8] = b"acme-tls/1";

fn client() -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider());
    let mut config = builder
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has this version")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider())))
        .with_no_client_auth();
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config
}

/// Believes any certificate, but not that somebody has its key who has not.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let parsed = X509Certificate::from_der(certificate);
        let (_, parsed) = parsed.map_err(|error| Error::General(error.to_string()))?;
        let key = SubjectPublicKeyInfoDer::from(parsed.public_key().raw);
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
