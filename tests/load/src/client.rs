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

impl Client {
    /// Asks once, and hands the body over in pieces as they come, with or without a length. Anything but a whole
    /// answer with the status 200 is a fault. Tells the `Content-Encoding`.
    pub(crate) fn download(
        &mut self,
        who: &str,
        request: &[u8],
        mut take: impl FnMut(&[u8]),
    ) -> Result<Option<String>> {
        let downloaded = match self {
            Self::Plain(tcp) => download(tcp, request, &mut take),
            Self::Tls(tls) => download(&mut **tls, request, &mut take),
        };
        downloaded.map_err(|error| Fault::Answer(format!("{who}, asked by a client: {error}")))
    }
}

fn download(
    stream: &mut (impl Read + Write),
    request: &[u8],
    take: &mut impl FnMut(&[u8]),
) -> io::Result<Option<String>> {
    stream.write_all(request)?;
    stream.flush()?;
    let (mut received, mut piece) = (Vec::new(), vec![0; 256 * 1024]);
    let mut more = |received: &mut Vec<u8>| match stream.read(&mut piece)? {
        0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        read => {
            received.extend_from_slice(piece.get(..read).unwrap_or_default());
            Ok(())
        }
    };
    let head = loop {
        match http::Head::parse(&received).map_err(io::Error::other)? {
            Some(head) => break head,
            None => more(&mut received)?,
        }
    };
    received.drain(..head.bytes);
    if head.status != 200 {
        return Err(io::Error::other(format!("status {}", head.status)));
    }
    let mut left = match head.length {
        Some(length) => length,
        None => chunk(&mut received, &mut more)?,
    };
    loop {
        while left > 0 {
            if received.is_empty() {
                more(&mut received)?;
            }
            let here = received
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            take(received.get(..here).unwrap_or_default());
            received.drain(..here);
            left -= here as u64;
        }
        if head.length.is_some() {
            return Ok(head.coding);
        }
        line(&mut received, &mut more)?;
        left = chunk(&mut received, &mut more)?;
        if left == 0 {
            // Nobody sends trailers here.
            line(&mut received, &mut more)?;
            return Ok(head.coding);
        }
    }
}

/// The length of the chunk that begins here.
fn chunk(
    received: &mut Vec<u8>,
    more: &mut impl FnMut(&mut Vec<u8>) -> io::Result<()>,
) -> io::Result<u64> {
    let line = line(received, more)?;
    u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)
}

fn line(
    received: &mut Vec<u8>,
    more: &mut impl FnMut(&mut Vec<u8>) -> io::Result<()>,
) -> io::Result<String> {
    loop {
        if let Some(end) = received.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = received.drain(..=end).collect();
            return String::from_utf8(line).map_err(io::Error::other);
        }
        more(received)?;
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers with these bytes, a few at a time.
    fn answering(bytes: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            assert!(stream.read(&mut [0; 1_024]).unwrap() > 0);
            for piece in bytes.as_bytes().chunks(3) {
                stream.write_all(piece).unwrap();
            }
        });
        address
    }

    fn downloaded(bytes: &'static str) -> Result<(Option<String>, Vec<u8>)> {
        let mut client = Client::connect(answering(bytes), None).unwrap();
        let mut body = Vec::new();
        let coding = client.download("it", &http::get("/", &[]), |piece| body.extend(piece))?;
        Ok((coding, body))
    }

    #[test]
    fn a_body_is_downloaded_whole_with_a_length_and_in_chunks() {
        let told = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        assert_eq!(downloaded(told).unwrap(), (None, b"hello".to_vec()));
        let head = "HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ntransfer-encoding: chunked\r\n\r\n";
        let chunks = format!("{head}4\r\nhell\r\n1\r\no\r\n0\r\n\r\n").leak();
        let (coding, body) = downloaded(chunks).unwrap();
        assert_eq!((coding.as_deref(), &*body), (Some("br"), &b"hello"[..]));
    }

    #[test]
    fn a_body_that_is_cut_is_a_fault() {
        for cut in [
            "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        ] {
            assert!(matches!(downloaded(cut), Err(Fault::Answer(_))), "{cut}");
        }
    }
}
