//! Which name a client asks for by TLS, from the first message of the handshake (RFC 6066, 3).

use std::io;

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest first message that is read: more than any client sends, with keys that resist quantum computers.
const LONGEST: usize = 64 * 1024;

/// Reads so much at once.
const PIECE: usize = 4096;

/// The name in lower case; none if the client asks for none. All that was read is in `early`.
///
/// # Errors
///
/// The connection has ended, or is none of TLS.
pub(super) async fn name(
    stream: &mut (impl AsyncRead + Unpin),
    early: &mut Vec<u8>,
) -> io::Result<Option<String>> {
    let mut acceptor = Acceptor::default();
    let mut seen = 0;
    loop {
        while seen < early.len() {
            let mut rest = early.get(seen..).unwrap_or_default();
            seen += acceptor.read_tls(&mut rest)?;
            match acceptor.accept() {
                Ok(Some(accepted)) => {
                    let hello = accepted.client_hello();
                    return Ok(hello.server_name().map(str::to_ascii_lowercase));
                }
                Ok(None) => {}
                Err((error, _)) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
        if early.len() > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        early.reserve(PIECE);
        if stream.read_buf(early).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{ClientConfig, ClientConnection, RootCertStore, pki_types::ServerName};

    use super::*;

    fn hello(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[tokio::test]
    async fn the_name_is_found_however_the_bytes_come_and_all_of_them_are_kept() {
        for (asked, found) in [("Mail.Example", Some("mail.example")), ("192.0.2.1", None)] {
            let bytes = [&hello(asked), &b"more"[..]].concat();
            for size in [1, 100, bytes.len()] {
                let mut pieces = in_pieces(&bytes, size);
                let mut early = Vec::new();
                let name = name(&mut pieces, &mut early).await.unwrap();
                assert_eq!(name.as_deref(), found);
                assert!(bytes.starts_with(&early) && early.len() + 5 > bytes.len() - size);
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_handshake_has_no_name() {
        for bytes in [&b"EHLO a\r\n"[..], &hello("a")[..20], b""] {
            let mut stream = bytes;
            assert!(name(&mut stream, &mut Vec::new()).await.is_err());
        }
    }

    /// These bytes, so many at a time.
    fn in_pieces(bytes: &[u8], size: usize) -> impl AsyncRead + Unpin {
        struct Pieces(Vec<u8>, usize);

        impl AsyncRead for Pieces {
            fn poll_read(
                mut self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
                buf: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<io::Result<()>> {
                let size = self.1.min(self.0.len()).min(buf.remaining());
                let piece: Vec<u8> = self.0.drain(..size).collect();
                buf.put_slice(&piece);
                std::task::Poll::Ready(Ok(()))
            }
        }

        Pieces(bytes.to_vec(), size)
    }
}
