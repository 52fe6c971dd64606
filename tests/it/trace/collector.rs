//! Somebody who takes spans, over HTTP or gRPC, and reads them with the types that OpenTelemetry publishes.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use edgeway_tests::{PATIENCE, eventually};
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message;
use tokio::{net::TcpListener, runtime::Runtime};

/// A collector on a port of its own. Dropping it closes the port.
pub(super) struct Collector {
    address: SocketAddr,
    state: Arc<State>,
    _runtime: Runtime,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http,
    Grpc,
}

#[derive(Default)]
struct State {
    batches: Mutex<Vec<Batch>>,
    /// What is answered instead of taking them.
    refuses: Mutex<Option<u16>>,
    refused: Mutex<usize>,
}

/// Spans that came together.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) resource: BTreeMap<String, String>,
    pub(super) spans: Vec<Span>,
}

impl Collector {
    pub(super) fn start(protocol: Protocol) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<State>::default();
        runtime.spawn(accept(listener, protocol, Arc::clone(&state)));
        Self {
            address,
            state,
            _runtime: runtime,
        }
    }

    /// Answers with this status, of HTTP or gRPC, from now on; or takes spans again.
    pub(super) fn refuse(&self, status: Option<u16>) {
        *self.state.refuses.lock().unwrap() = status;
    }

    /// How many batches were not taken.
    pub(super) fn refused(&self) -> usize {
        *self.state.refused.lock().unwrap()
    }

    pub(super) fn batches(&self) -> Vec<Batch> {
        self.state.batches.lock().unwrap().clone()
    }

    pub(super) fn spans(&self) -> Vec<Span> {
        let batches = self.batches();
        batches.into_iter().flat_map(|batch| batch.spans).collect()
    }

    /// Waits for so many spans, and returns all.
    pub(super) fn wait_for(&self, count: usize) -> Vec<Span> {
        eventually(PATIENCE, || self.spans().len() >= count);
        self.spans()
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.address)
    }
}

async fn accept(listener: TcpListener, protocol: Protocol, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        let service = service_fn(move |request| {
            let state = Arc::clone(&state);
            async move { Ok::<_, Infallible>(state.answer(request, protocol).await) }
        });
        let stream = TokioIo::new(stream);
        tokio::spawn(async move {
            // A client that leaves is no failure of the test.
            match protocol {
                Protocol::Http => {
                    let connection = http1::Builder::new().serve_connection(stream, service);
                    drop(connection.await);
                }
                Protocol::Grpc => {
                    let connection = http2::Builder::new(TokioExecutor::new());
                    drop(connection.serve_connection(stream, service).await);
                }
            }
        });
    }
}

impl State {
    async fn answer(
        &self,
        request: Request<Incoming>,
        protocol: Protocol,
    ) -> Response<BoxBody<Bytes, Infallible>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let refuses = *self.refuses.lock().unwrap();
        if refuses.is_some() {
            *self.refused.lock().unwrap() += 1;
        } else {
            let message = match protocol {
                Protocol::Http => body,
                Protocol::Grpc => unframed(&body),
            };
            let request = ExportTraceServiceRequest::decode(message).unwrap();
            let batches = request.resource_spans.into_iter().map(|told| Batch {
                path: head.uri.path().to_owned(),
                headers: head.headers.clone(),
                resource: values(&told.resource.unwrap().attributes),
                spans: told
                    .scope_spans
                    .into_iter()
                    .flat_map(|scope| scope.spans)
                    .collect(),
            });
            self.batches.lock().unwrap().extend(batches);
        }
        match protocol {
            Protocol::Http => over_http(refuses),
            Protocol::Grpc => over_grpc(refuses.unwrap_or(0)),
        }
    }
}

/// The message that gRPC has put into a frame.
fn unframed(frame: &Bytes) -> Bytes {
    let (prefix, message) = frame.split_at(5);
    assert_eq!(prefix[0], 0, "it is packed");
    let length = u32::from_be_bytes(prefix[1..].try_into().unwrap());
    assert_eq!(message.len(), length as usize);
    frame.slice(5..)
}

fn over_http(refuses: Option<u16>) -> Response<BoxBody<Bytes, Infallible>> {
    Response::builder()
        .status(refuses.unwrap_or(200))
        .header(CONTENT_TYPE, "application/x-protobuf")
        .body(Full::default().boxed())
        .unwrap()
}

/// An empty message, and the status behind it.
fn over_grpc(status: u16) -> Response<BoxBody<Bytes, Infallible>> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(status));
    let body = Full::new(Bytes::from_static(&[0; 5]));
    Response::builder()
        .header(CONTENT_TYPE, "application/grpc")
        .body(body.with_trailers(async { Some(Ok(trailers)) }).boxed())
        .unwrap()
}

/// What attributes say, as text.
pub(super) fn values(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(truth) => truth.to_string(),
        other => panic!("{other:?}"),
    };
    let value = |pair: &KeyValue| text(pair.value.as_ref().unwrap().value.as_ref().unwrap());
    attributes
        .iter()
        .map(|pair| (pair.key.clone(), value(pair)))
        .collect()
}
