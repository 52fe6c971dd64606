//! Both ends of a connection that is passed on.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use edgeway_tests::{Authority, Gateway, PATIENCE};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

/// An endpoint of any protocol, until the test ends.
pub(super) struct Peer {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Peer {
    /// Calls `serve` for each connection, in a thread of its own.
    pub(super) fn new(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (serve, counted) = (Arc::new(serve), Arc::clone(&connections));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, SeqCst);
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(stream));
            }
        });
        Self {
            address,
            connections,
        }
    }

    /// Says this first, and then repeats all that it hears.
    pub(super) fn echo(greeting: &str) -> Self {
        let greeting = greeting.to_owned();
        Self::new(move |mut stream| {
            stream.write_all(greeting.as_bytes()).ok();
            let mut back = stream.try_clone().unwrap();
            io::copy(&mut stream, &mut back).ok();
            back.shutdown(Shutdown::Write).ok();
        })
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// A gateway whose only listener passes on to the upstream `app`.
pub(super) fn gateway(upstream: &str) -> Gateway {
    Gateway::start(&passing_on("", upstream))
}

/// The configuration of it, with more keys for the listener.
pub(super) fn passing_on(listener: &str, upstream: &str) -> String {
    format!(
        "listeners: {{ mail: {{ bind: '127.0.0.1:0', tcp: {{ upstream: app }}{listener} }} }}\n\
         upstreams: {{ app: {{ {upstream} }} }}\n"
    )
}

pub(super) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads exactly so much text.
#[track_caller]
pub(super) fn hear(stream: &mut impl Read, size: usize) -> String {
    let mut heard = vec![0; size];
    stream.read_exact(&mut heard).unwrap();
    String::from_utf8(heard).unwrap()
}

/// Asserts that both sides hear each other over a connection to something that repeats.
#[track_caller]
pub(super) fn expect_echo(stream: &mut (impl Read + Write), words: &str) {
    stream.write_all(words.as_bytes()).unwrap();
    assert_eq!(hear(stream, words.len()), words);
}

/// Asserts that the other side ends the connection, or breaks it off, without a word more.
#[track_caller]
pub(super) fn expect_end(stream: &mut impl Read) {
    let mut heard = Vec::new();
    match stream.read_to_end(&mut heard) {
        Ok(_) => {}
        Err(error) => assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "it is still open"),
    }
    assert_eq!(String::from_utf8_lossy(&heard), "");
}

pub(super) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A connection over TLS.
pub(super) type Secure = StreamOwned<ClientConnection, TcpStream>;

/// Makes a handshake with who has a certificate for this name.
///
/// # Errors
///
/// Why there is none.
pub(super) fn secure(
    address: SocketAddr,
    name: &str,
    authority: &Authority,
    alpn: &[&str],
) -> io::Result<Secure> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.pem().as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = connect(address);
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(connection, stream))
}
