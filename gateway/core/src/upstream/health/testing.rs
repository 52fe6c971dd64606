//! Endpoints for the tests of checks: what a check asks, and sockets that answer.

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use pingora::upstreams::peer::HttpPeer;
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::{Check, Checked, Connectors, Outcome};
use crate::config::{
    Health,
    deserialize::salvage,
    diagnostic::{Look, Problems},
    document::Document,
};

/// What is written under `health`, compiled; or everything that is said of it, with places that are
/// a line and two columns further.
pub(super) fn compiled(text: &str) -> Result<Check, String> {
    #[derive(Deserialize)]
    struct Upstream {
        health: Option<Health>,
    }

    let text = format!("health:\n  {}", text.replace('\n', "\n  "));
    let mut problems = Problems::default();
    let document = Document::from_text("e.yaml", &text, &mut problems);
    let upstream: Option<Upstream> = salvage(&document, document.root(), &mut problems);
    let health = upstream.and_then(|upstream| upstream.health);
    let check = health.map(|health| Check::compile(&health, &CONNECTORS));
    match check {
        Some(Ok(check)) if !problems.has_errors() => return Ok(check),
        Some(Err(wrong)) => problems.extend(wrong),
        Some(Ok(_)) | None => {}
    }
    Err(problems.render(&document, Look::Plain))
}

/// Made once: to read the certificates of the system takes a while.
static CONNECTORS: LazyLock<Arc<Connectors>> = LazyLock::new(|| Arc::new(Connectors::new()));

/// The check that is written.
pub(super) fn check(text: &str) -> Check {
    compiled(text).unwrap_or_else(|said| panic!("{said}"))
}

/// An endpoint that collects what it is told.
pub(super) struct Endpoint {
    name: String,
    peer: Option<HttpPeer>,
    told: mpsc::UnboundedSender<Outcome>,
}

/// What an endpoint was told.
pub(super) type Told = mpsc::UnboundedReceiver<Outcome>;

pub(super) fn endpoint(name: &str, peer: Option<HttpPeer>) -> (Arc<Endpoint>, Told) {
    let (told, outcomes) = mpsc::unbounded_channel();
    let name = name.to_owned();
    (Arc::new(Endpoint { name, peer, told }), outcomes)
}

impl Checked for Endpoint {
    fn name(&self) -> &str {
        &self.name
    }

    fn peer(&self) -> Option<HttpPeer> {
        self.peer.clone()
    }

    fn checked(&self, outcome: Outcome) {
        // A test may have heard enough.
        drop(self.told.send(outcome));
    }
}

/// What a check says of a peer that is called `app:8080`.
pub(super) async fn outcome(check: &Check, peer: HttpPeer) -> Outcome {
    let (endpoint, _) = endpoint("app:8080", Some(peer));
    check.examine(&*endpoint).await
}

/// The same, for what is written and an address.
pub(super) async fn verdict(text: &str, address: SocketAddr) -> Result<(), String> {
    outcome(&check(text), plain(address)).await.result
}

pub(super) fn plain(address: SocketAddr) -> HttpPeer {
    HttpPeer::new(address, false, String::new())
}

/// Answers every connection by this function, on an address of the system's choice.
pub(super) async fn serve<F>(answer: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    address
}

/// Answers every request with these bytes, and closes.
pub(super) async fn answering(answer: &'static str) -> SocketAddr {
    serve(move |mut stream| async move {
        head(&mut stream).await;
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await
}

/// The head of a request over HTTP/1.
pub(super) async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// A connection that nobody writes to and that is never closed from this side; ends with it.
pub(super) async fn silent(mut stream: impl AsyncRead + Unpin) {
    tokio::io::copy(&mut stream, &mut tokio::io::sink())
        .await
        .ok();
}

/// The answer to a request over HTTP/2: a head, a body, trailers.
pub(super) type Answer = (Response<()>, Bytes, Option<HeaderMap>);

/// Answers requests of a connection over HTTP/2.
pub(super) async fn serve_h2(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: impl Fn(Request<()>, Bytes) -> Answer,
) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let (head, mut body) = request.into_parts();
        let mut asked = Vec::new();
        // The frames of the body come only if somebody drives the connection meanwhile.
        while !body.is_end_stream() {
            tokio::select! {
                chunk = body.data() => match chunk {
                    Some(Ok(chunk)) => asked.extend(chunk),
                    Some(Err(_)) | None => break,
                },
                _ = connection.accept() => {}
            }
        }
        let (response, body, trailers) = answer(Request::from_parts(head, ()), asked.into());
        let alone = body.is_empty() && trailers.is_none();
        let mut sending = respond.send_response(response, alone).unwrap();
        if !alone {
            sending.send_data(body, trailers.is_none()).unwrap();
        }
        if let Some(trailers) = trailers {
            sending.send_trailers(trailers).unwrap();
        }
    }
}

/// Long enough for whatever is not to be waited for.
pub(super) const LONG: Duration = Duration::from_secs(20);
