//! Clients that ask one thing after the other, also over TLS.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

use crate::contestant::Bench;
use crate::fault::{Fault, Result};
use crate::http;

/// A connection on which one thing after the other is asked.
pub(crate) enum Client {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Client {
    pub(crate) fn connect(
        address: SocketAddr,
        tls: Option<&Arc<ClientConfig>>,
    ) -> io::Result<Self> {
        let tcp = TcpStream::connect(address)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
        let Some(tls) = tls else {
            return Ok(Self::Plain(tcp));
        };
        let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
        let session = ClientConnection::new(Arc::clone(tls), name).map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(StreamOwned::new(session, tcp))))
    }

    /// Asks once. Anything but the right answer is a fault.
    pub(crate) fn ask(&mut self, who: &str, path: &str, body: &[u8]) -> Result<()> {
        let asked = match self {
            Self::Plain(tcp) => ask(tcp, path, body),
            Self::Tls(tls) => ask(&mut **tls, path, body),
        };
        asked.map_err(|error| Fault::Answer(format!("{who}, asked by a client: {error}")))
    }
}

fn ask(stream: &mut (impl Read + Write), path: &str, body: &[u8]) -> io::Result<()> {
    stream.write_all(&http::get(path, &[]))?;
    stream.flush()?;
    let mut bytes = Vec::new();
    let mut piece = [0; 64 * 1024];
    loop {
        if let Some(answer) = http::parse(&bytes).map_err(io::Error::other)? {
            let right = answer.status == 200 && answer.body == body;
            let wrong = || {
                let head = bytes.get(..bytes.len().min(1_000)).unwrap_or_default();
                io::Error::other(format!("`{}`", head.escape_ascii()))
            };
            return if right { Ok(()) } else { Err(wrong()) };
        }
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => bytes.extend(piece.iter().take(read)),
        }
    }
}

impl Client {
    /// Whether the handshake has resumed a session.
    pub(crate) fn has_resumed(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.conn.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}

/// A certificate and its key, as everyone wants them.
pub(crate) struct Identity {
    certificate: CertificateDer<'static>,
    pub(crate) chain: String,
    pub(crate) key: String,
    /// Both in one, for HAProxy.
    pub(crate) both: String,
}

impl Identity {
    pub(crate) fn make(bench: &Bench) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])
            .map_err(|error| Fault::Setup(format!("cannot make a certificate: {error}")))?;
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let file = |name, text: &str| Ok(bench.file(name, text)?.display().to_string());
        Ok(Self {
            certificate: made.cert.der().clone(),
            both: file("both.pem", &format!("{chain}{key}"))?,
            chain: file("chain.pem", &chain)?,
            key: file("key.pem", &key)?,
        })
    }

    /// A client that trusts it.
    pub(crate) fn client(&self, resumption: Resumption) -> Result<Arc<ClientConfig>> {
        let setup = |error: rustls::Error| Fault::Setup(format!("no client of TLS: {error}"));
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).map_err(setup)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder
            .with_safe_default_protocol_versions()
            .map_err(setup)?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.resumption = resumption;
        Ok(Arc::new(config))
    }
}

const NAME: &str = "localhost";
