//! The sockets of an endpoint.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use super::reaction::{Cut, Script};
use super::state::{Connection, HEALTH, Received, State};
use crate::authority::common_name;
use crate::client::Address;

/// Where an endpoint listens.
#[derive(Debug)]
pub(super) enum Place {
    Port(SocketAddr),
    /// The folder of a unix socket, which goes with this value.
    Socket(TempDir),
}

impl Place {
    pub(super) fn any_port() -> Self {
        Self::Port(([127, 0, 0, 1], 0).into())
    }

    pub(super) fn new_socket() -> Self {
        Self::Socket(tempfile::tempdir().expect("a temporary folder can be made"))
    }

    pub(super) fn address(&self) -> Address {
        match self {
            Self::Port(address) => Address::Port(*address),
            Self::Socket(folder) => Address::Socket(folder.path().join("endpoint.sock")),
        }
    }

    /// Learns the port that the system has chosen.
    pub(super) fn settle(&mut self, listener: &Listener) {
        if let (Self::Port(address), Listener::Port(port)) = (self, listener) {
            *address = port.local_addr().expect("a listener has an address");
        }
    }
}

/// What an endpoint speaks.
#[derive(Clone)]
pub(super) enum Protocol {
    Http1,
    Http2,
    /// As ALPN has it.
    Tls(Arc<ServerConfig>),
}

pub(super) enum Listener {
    Port(TcpListener),
    Socket(UnixListener),
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Listener {
    pub(super) async fn open(place: &Place) -> io::Result<Self> {
        match place.address() {
            Address::Port(address) => Ok(Self::Port(TcpListener::bind(address).await?)),
            Address::Socket(path) => {
                // The one of before the endpoint was down, if any.
                std::fs::remove_file(&path).ok();
                Ok(Self::Socket(UnixListener::bind(path)?))
            }
        }
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Port(listener) => {
                let (stream, _) = listener.accept().await?;
                // Without it the only harm is that a test takes longer.
                stream.set_nodelay(true).ok();
                Ok(Box::new(stream))
            }
            Self::Socket(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

/// Accepts until it is dropped; the connections end then, too.
pub(super) async fn accept(listener: Listener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok(stream) = accepted else { continue };
                let (number, open) = state.accepted();
                let state = Arc::clone(&state);
                connections.spawn(async move {
                    let _open = open;
                    let mut closing = state.closing();
                    tokio::select! {
                        () = serve(stream, number, &state) => {}
                        _ = closing.changed() => {}
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: Box<dyn Stream>, number: usize, state: &Arc<State>) {
    let mut connection = Connection {
        number,
        ..Connection::default()
    };
    match state.protocol.clone() {
        Protocol::Http1 => http1(stream, connection, state).await,
        Protocol::Http2 => http2(stream, connection, state).await,
        Protocol::Tls(config) => {
            let secured = TlsAcceptor::from(config).accept(stream).await;
            let stream = match secured {
                Ok(stream) => stream,
                Err(error) => return state.handshake_failed(error.to_string()),
            };
            let (_, session) = stream.get_ref();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            connection.protocol = session.alpn_protocol().map(text);
            connection.sni = session.server_name().map(str::to_owned);
            let chain = session.peer_certificates().unwrap_or_default();
            connection.client = chain.first().and_then(common_name);
            if connection.protocol.as_deref() == Some("h2") {
                http2(Box::new(stream), connection, state).await;
            } else {
                http1(Box::new(stream), connection, state).await;
            }
        }
    }
}

async fn http1(stream: Box<dyn Stream>, connection: Connection, state: &Arc<State>) {
    let link = Link::new(connection, state);
    let service = service_fn(|request| link.answer(request));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    // That the other side breaks off is nothing that the endpoint has to mind.
    served.await.ok();
}

async fn http2(stream: Box<dyn Stream>, connection: Connection, state: &Arc<State>) {
    let link = Arc::new(Link::new(connection, state));
    let service = service_fn(|request| {
        let link = Arc::clone(&link);
        async move { link.answer(request).await }
    });
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(state.max_streams.unwrap_or(1_000))
        .serve_connection(TokioIo::new(stream), service);
    served.await.ok();
}

/// A connection and the endpoint it belongs to.
struct Link {
    connection: Arc<Connection>,
    state: Arc<State>,
}

impl Link {
    fn new(connection: Connection, state: &Arc<State>) -> Self {
        let connection = Arc::new(connection);
        state.add(&connection);
        Self {
            connection,
            state: Arc::clone(state),
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Script>, Cut> {
        let _here = self.connection.in_flight.enter();
        let counted = request.uri().path() != HEALTH;
        let _everywhere = counted.then(|| self.state.in_flight.enter());
        self.connection.requests.fetch_add(1, SeqCst);
        if counted && self.state.relays {
            let within = self.state.in_flight.enter();
            let mut relayed = Response::new(Script::relay(request.into_body(), within));
            let kind = HeaderValue::from_static("application/grpc");
            relayed.headers_mut().insert(CONTENT_TYPE, kind);
            return Ok(relayed);
        }
        let request = receive(request, &self.connection).await?;
        let reaction = self.state.react(request);
        if !reaction.delay.is_zero() {
            sleep(reaction.delay).await;
        }
        if reaction.silent {
            return Err(Cut);
        }
        Ok(reaction.into_response())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.connection.closed.store(1, SeqCst);
    }
}

/// Reads the whole request. An error means that it broke off.
async fn receive(request: Request<Incoming>, connection: &Connection) -> Result<Received, Cut> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Cut)?;
    let trailers = body.trailers().map(lines).unwrap_or_default();
    let headers = lines(&parts.headers);
    let host = || headers.iter().find(|(name, _)| name == "host");
    let uri = parts.uri;
    Ok(Received {
        number: 0,
        method: parts.method.to_string(),
        target: uri
            .path_and_query()
            .map_or_else(|| uri.to_string(), ToString::to_string),
        path: uri.path().to_owned(),
        host: match uri.authority() {
            Some(authority) => authority.to_string(),
            None => host().map(|(_, value)| value.clone()).unwrap_or_default(),
        },
        version: format!("{:?}", parts.version),
        headers,
        body: body.to_bytes(),
        trailers,
        connection: connection.look(),
    })
}

fn lines(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let pairs = headers.iter();
    pairs
        .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
        .collect()
}
