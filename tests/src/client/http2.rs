//! HTTP/2, in the clear or over TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Connection, SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::streaming::{Answer, Sent, Streaming};
use crate::authority::{Authority, Certificate, provider};

/// A connection of HTTP/2.
#[derive(Debug)]
pub struct Http2 {
    sender: SendRequest<Sent>,
    base: String,
    runtime: Runtime,
}

impl Http2 {
    /// Connects in the clear, as those do who know that HTTP/2 is spoken there.
    ///
    /// # Panics
    ///
    /// When it is not.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        let runtime = runtime();
        let opened = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.map_err(text)?;
            start(stream).await
        });
        let sender = opened.unwrap_or_else(|error| panic!("no HTTP/2 with {address}: {error}"));
        Self {
            sender,
            base: format!("http://{address}"),
            runtime,
        }
    }

    /// Connects over TLS to the host of this name, trusting an authority, and showing a certificate
    /// if there is one.
    ///
    /// # Errors
    ///
    /// When the other side is not trusted, does not trust us, or does not choose HTTP/2.
    pub fn secure(
        address: SocketAddr,
        name: &str,
        trusted: &Authority,
        shown: Option<&Certificate>,
    ) -> Result<Self, String> {
        let runtime = runtime();
        let connector = TlsConnector::from(Arc::new(config(trusted, shown)));
        let sni = ServerName::try_from(name.to_owned()).map_err(text)?;
        let sender = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.map_err(text)?;
            let stream = connector.connect(sni, stream).await.map_err(text)?;
            if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                return Err("the other side has not chosen HTTP/2".to_owned());
            }
            start(stream).await
        })?;
        Ok(Self {
            sender,
            base: format!("https://{name}"),
            runtime,
        })
    }

    /// Asks for a path.
    ///
    /// # Panics
    ///
    /// When no whole answer comes.
    #[track_caller]
    pub fn get(&self, target: &str) -> Trailed {
        let answer = self.send(self.request("GET", target, Bytes::new()));
        answer.unwrap_or_else(|error| panic!("GET {target}: {error}"))
    }

    /// Calls a method of gRPC, `/package.Service/Method`, with one message.
    ///
    /// # Panics
    ///
    /// When no whole answer comes.
    #[track_caller]
    pub fn call(&self, method: &str, message: &[u8]) -> Trailed {
        let length = u32::try_from(message.len()).expect("a message of a test is small");
        let frame = [&[0][..], &length.to_be_bytes(), message].concat();
        let mut request = self.request("POST", method, frame);
        let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
        for (name, value) in grpc {
            let value = value.parse().expect("a value of a header");
            request.headers_mut().insert(name, value);
        }
        let answer = self.send(request);
        answer.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// A request to this host, to be added to and then sent.
    ///
    /// # Panics
    ///
    /// When method or target are none.
    pub fn request(&self, method: &str, target: &str, body: impl Into<Bytes>) -> Request<Bytes> {
        let request = Request::builder().method(method);
        let request = request.uri(format!("{}{target}", self.base));
        request.body(body.into()).expect("a method and a target")
    }

    /// Sends a request.
    ///
    /// # Errors
    ///
    /// When no whole answer comes.
    pub fn send(&self, request: Request<Bytes>) -> Result<Trailed, String> {
        let mut answers = self.send_all([request]);
        answers.pop().expect("an answer to each request")
    }

    /// Begins a request whose body is still to be sent, piece by piece; the one it has is passed over.
    pub fn begin(&self, request: Request<Bytes>) -> Streaming<'_> {
        let (pieces, body) = tokio::sync::mpsc::unbounded_channel();
        let request = request.map(|_| Sent::Pieces(body));
        let mut sender = self.sender.clone();
        let exchange = async move {
            sender.ready().await.map_err(text)?;
            sender.send_request(request).await.map_err(chain)
        };
        Streaming {
            runtime: &self.runtime,
            pieces: Some(pieces),
            answer: Answer::Awaited(self.runtime.spawn(exchange)),
            trailers: HeaderMap::new(),
        }
    }

    /// Sends requests at once on this one connection; the answers are in the order of the requests.
    pub fn send_all(
        &self,
        requests: impl IntoIterator<Item = Request<Bytes>>,
    ) -> Vec<Result<Trailed, String>> {
        let exchanges = requests.into_iter().map(|request| {
            let exchange = exchange(self.sender.clone(), request.map(whole));
            self.runtime
                .spawn(async { timeout(SILENCE, exchange).await })
        });
        let exchanges: Vec<_> = exchanges.collect();
        self.runtime.block_on(async {
            let mut answers = Vec::new();
            for exchange in exchanges {
                let done = exchange.await.map_err(text);
                answers.push(done.and_then(|done| done.map_err(text)?));
            }
            answers
        })
    }
}

fn whole(body: Bytes) -> Sent {
    Sent::Whole(Full::new(body))
}

/// An answer with what came behind it.
#[derive(Clone, Debug)]
pub struct Trailed {
    /// The status.
    pub status: u16,
    /// The head.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// What came behind the body; empty if nothing did.
    pub trailers: HeaderMap,
}

impl Trailed {
    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// When it is something else.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The status of gRPC, from the trailers, or else from the head.
    pub fn grpc_status(&self) -> Option<u8> {
        let trailer = self.trailers.get("grpc-status");
        let status = trailer.or_else(|| self.headers.get("grpc-status"))?;
        status.to_str().ok()?.parse().ok()
    }

    /// The message of gRPC; none if there is none.
    pub fn message(&self) -> Option<&[u8]> {
        self.body.get(5..)
    }
}

async fn exchange(
    mut sender: SendRequest<Sent>,
    request: Request<Sent>,
) -> Result<Trailed, String> {
    sender.ready().await.map_err(text)?;
    let response: Response<Incoming> = sender.send_request(request).await.map_err(chain)?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(chain)?;
    Ok(Trailed {
        status: head.status.as_u16(),
        headers: head.headers,
        trailers: body.trailers().cloned().unwrap_or_default(),
        body: body.to_bytes(),
    })
}

async fn start<S>(stream: S) -> Result<SendRequest<Sent>, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let started = handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection): (_, Connection<_, Sent, _>) = started.map_err(text)?;
    tokio::spawn(async move {
        // Each request is told of the end by itself.
        connection.await.ok();
    });
    Ok(sender)
}

fn config(trusted: &Authority, shown: Option<&Certificate>) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider knows the usual versions")
        .with_root_certificates(trusted.roots());
    let mut config = match shown.map(Certificate::parts) {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let config = builder.with_client_auth_cert(chain, key);
            config.expect("a certificate and its own key")
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    runtime.expect("a runtime can be made")
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` calls it")]
fn text(error: impl ToString) -> String {
    error.to_string()
}

/// An error of the library with its cause, which it does not tell by itself.
#[expect(clippy::needless_pass_by_value, reason = "as `map_err` calls it")]
fn chain(error: hyper::Error) -> String {
    match std::error::Error::source(&error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// How long an answer may take.
const SILENCE: Duration = Duration::from_secs(20);
