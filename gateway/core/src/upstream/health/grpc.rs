//! Checks by the health service that gRPC defines: `grpc.health.v1.Health/Check` over HTTP/2.
//!
//! Its two messages have one field each, so they are written and read by hand.

use std::{borrow::Cow, sync::Arc};

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{CONTENT_TYPE, TE, USER_AGENT},
    uri::PathAndQuery,
};
use pingora::{
    Result,
    http::RequestHeader,
    protocols::http::{client::HttpSession, v2::client::Http2Session},
    upstreams::peer::HttpPeer,
};
use pingora_load_balancing::{Backend, health_check::HealthCheck};

use super::{
    Connectors, Target,
    http::{AGENT, absolute},
    reason,
};

const METHOD: &str = "/grpc.health.v1.Health/Check";

/// The longest answer; one has two bytes.
const MOST_ANSWER: usize = 4 << 10;

/// The flag and the length before each message.
const PREFIX: usize = 5;

/// The words of `HealthCheckResponse.ServingStatus`, by their numbers.
const SERVING_STATUS: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
const SERVING: u64 = 1;

/// The words of the status codes of gRPC, by their numbers.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The question whether a service is served.
pub(super) struct GrpcCheck {
    connectors: Arc<Connectors>,
    question: Bytes,
    headers: Box<[(HeaderName, HeaderValue)]>,
}

impl GrpcCheck {
    /// Asks for a service by its full name, or for the whole endpoint if the name is empty.
    pub(super) fn new(
        connectors: Arc<Connectors>,
        service: &str,
        headers: Box<[(HeaderName, HeaderValue)]>,
    ) -> Self {
        Self {
            connectors,
            question: question(service),
            headers,
        }
    }

    fn request(&self, peer: &HttpPeer, host: &str) -> Result<RequestHeader> {
        let mut request = RequestHeader::build(Method::POST, METHOD.as_bytes(), None)?;
        request.set_uri(absolute(peer, host, &PathAndQuery::from_static(METHOD))?);
        request.insert_header(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))?;
        request.insert_header(TE, HeaderValue::from_static("trailers"))?;
        request.insert_header(USER_AGENT, AGENT)?;
        for (name, value) in &self.headers {
            request.insert_header(name, value)?;
        }
        Ok(request)
    }

    async fn answer(&self, session: &mut Http2Session, request: RequestHeader) -> Result<Bytes> {
        session.write_request_header(Box::new(request), false)?;
        session
            .write_request_body(self.question.clone(), true)
            .await?;
        session.read_response_header().await?;
        let head = session.response_header();
        let head = head.ok_or_else(|| reason::because("the answer has no head"))?;
        is_grpc(head.status, &head.headers)?;
        // An answer without a body may have its trailers in its head.
        let only_trailers = judge_status(&head.headers)?;
        let body = body_of(session).await?;
        let trailers = session.read_trailers().await?.unwrap_or_default();
        let ended = judge_status(&trailers)?;
        if only_trailers.or(ended).is_none() {
            return Err(reason::because("the answer has no `grpc-status`"));
        }
        Ok(body)
    }
}

#[async_trait]
impl HealthCheck for GrpcCheck {
    async fn check(&self, backend: &Backend) -> Result<()> {
        let target = Target::of(backend)?;
        let deadline = target.deadline;
        let mut peer = target.peer.clone();
        peer.options.set_http_version(2, 2);
        let request = self.request(&peer, &target.host)?;
        let connecting = self.connectors.http.get_http_session(&peer);
        let (session, _) = deadline.within("no connection", connecting).await?;
        let HttpSession::H2(mut session) = session else {
            return Err(reason::because("does not speak HTTP/2, which gRPC needs"));
        };
        let answering = self.answer(&mut session, request);
        let answer = deadline.within("no complete answer", answering).await?;
        judge(serving_status(&answer)?)
    }

    /// Not asked for: endpoints count.
    fn health_threshold(&self, _success: bool) -> usize {
        1
    }
}

/// A `HealthCheckRequest` with its prefix.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(field(1, LENGTH_DELIMITED));
        put_varint(&mut message, service.len());
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put(message);
    framed.freeze()
}

const VARINT: u8 = 0;
const FIXED_64: u8 = 1;
const LENGTH_DELIMITED: u8 = 2;
const FIXED_32: u8 = 5;

const fn field(number: u8, kind: u8) -> u8 {
    number << 3 | kind
}

fn put_varint(message: &mut BytesMut, mut number: usize) {
    while number > 0x7f {
        message.put_u8((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    message.put_u8(number as u8);
}

fn is_grpc(status: StatusCode, headers: &HeaderMap) -> Result<()> {
    if status != StatusCode::OK {
        return Err(reason::because(format!(
            "answered {}, expected an answer of gRPC",
            status.as_u16()
        )));
    }
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    if kind.is_some_and(|kind| kind.starts_with("application/grpc")) {
        return Ok(());
    }
    Err(reason::because("the answer is not `application/grpc`"))
}

/// The `grpc-status` among these headers, if there is one: an error unless it is OK.
fn judge_status(headers: &HeaderMap) -> Result<Option<()>> {
    let Some(status) = headers.get("grpc-status") else {
        return Ok(None);
    };
    let text = status.to_str().unwrap_or("no text");
    let word: Cow<'_, str> = match text
        .parse::<usize>()
        .ok()
        .map(|code| (code, CODES.get(code)))
    {
        Some((0, _)) => return Ok(Some(())),
        Some((_, Some(word))) => Cow::Borrowed(*word),
        Some((_, None)) | None => format!("the unknown status `{text}`").into(),
    };
    let message = headers
        .get("grpc-message")
        .and_then(|message| message.to_str().ok())
        .map(|message| format!(": {message}"));
    Err(reason::because(format!(
        "answered {word}{}",
        message.unwrap_or_default()
    )))
}

async fn body_of(session: &mut Http2Session) -> Result<Bytes> {
    let mut body = BytesMut::new();
    while let Some(chunk) = session.read_response_body().await? {
        if body.len() + chunk.len() > MOST_ANSWER {
            return Err(reason::because("the answer is far too long"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The status in a `HealthCheckResponse` with its prefix.
fn serving_status(answer: &[u8]) -> Result<u64> {
    let broken = || reason::because("the answer is not a `HealthCheckResponse`");
    let (prefix, message) = answer.split_at_checked(PREFIX).ok_or_else(broken)?;
    let [0, length @ ..] = prefix else {
        return Err(reason::because("the answer is compressed"));
    };
    let length = length
        .iter()
        .fold(0, |all, byte| all << 8 | u64::from(*byte));
    if length != message.len() as u64 {
        return Err(broken());
    }
    status_field(message).ok_or_else(broken)
}

/// The number in field 1, or 0 as for every field that is left out; none if it is no message.
fn status_field(mut message: &[u8]) -> Option<u64> {
    let mut status = 0;
    while !message.is_empty() {
        let key = varint(&mut message)?;
        match (key >> 3, (key & 7) as u8) {
            (0, _) => return None,
            (1, VARINT) => status = varint(&mut message)?,
            (_, VARINT) => drop(varint(&mut message)?),
            (_, FIXED_64) => message = message.get(8..)?,
            (_, LENGTH_DELIMITED) => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            (_, FIXED_32) => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn judge(status: u64) -> Result<()> {
    if status == SERVING {
        return Ok(());
    }
    let word = usize::try_from(status)
        .ok()
        .and_then(|status| SERVING_STATUS.get(status));
    Err(reason::because(match word {
        Some(word) => format!("answered {word}"),
        None => format!("answered the unknown serving status {status}"),
    }))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use http::Response;

    use super::super::testing::{Answer, answering, serve, serve_h2, verdict};
    use super::*;

    fn head() -> http::response::Builder {
        Response::builder().header(CONTENT_TYPE, "application/grpc+proto")
    }

    fn trailers(status: &'static str) -> Option<HeaderMap> {
        let status = HeaderValue::from_static(status);
        Some(HeaderMap::from_iter([(
            HeaderName::from_static("grpc-status"),
            status,
        )]))
    }

    /// An answer with this serving status.
    fn serving(status: u8) -> Answer {
        let message = Bytes::from(vec![0, 0, 0, 0, 2, 8, status]);
        (head().body(()).unwrap(), message, trailers("0"))
    }

    async fn grpc(answer: impl Fn() -> Answer + Clone + Send + Sync + 'static) -> SocketAddr {
        serve(move |stream| {
            let answer = answer.clone();
            async move { serve_h2(stream, |_, _| answer()).await }
        })
        .await
    }

    /// What a check says of an endpoint that answers so.
    async fn said_of(answer: impl Fn() -> Answer + Clone + Send + Sync + 'static) -> String {
        let address = grpc(answer).await;
        match verdict("{ type: grpc, timeout: 10s }", address).await {
            Ok(()) => "well".to_owned(),
            Err(reason) => reason,
        }
    }

    #[tokio::test]
    async fn only_serving_is_well() {
        assert_eq!(said_of(|| serving(1)).await, "well");
        assert_eq!(said_of(|| serving(0)).await, "answered UNKNOWN");
        assert_eq!(said_of(|| serving(2)).await, "answered NOT_SERVING");
        assert_eq!(said_of(|| serving(3)).await, "answered SERVICE_UNKNOWN");
        assert_eq!(
            said_of(|| serving(9)).await,
            "answered the unknown serving status 9"
        );
    }

    #[tokio::test]
    async fn a_status_that_is_left_out_is_unknown() {
        let empty = || {
            let message = Bytes::from_static(&[0; PREFIX]);
            (head().body(()).unwrap(), message, trailers("0"))
        };
        assert_eq!(said_of(empty).await, "answered UNKNOWN");
    }

    #[tokio::test]
    async fn a_status_of_grpc_in_head_or_trailers_fails_the_check() {
        let only_trailers = || {
            let head = head().header("grpc-status", "12");
            let head = head.header("grpc-message", "no health here").body(());
            (head.unwrap(), Bytes::new(), None)
        };
        assert_eq!(
            said_of(only_trailers).await,
            "answered UNIMPLEMENTED: no health here"
        );
        let late = || {
            let (head, message, _) = serving(1);
            (head, message, trailers("14"))
        };
        assert_eq!(said_of(late).await, "answered UNAVAILABLE");
        let strange = || (head().body(()).unwrap(), Bytes::new(), trailers("99"));
        assert_eq!(said_of(strange).await, "answered the unknown status `99`");
    }

    #[tokio::test]
    async fn an_answer_that_is_not_of_grpc_fails() {
        let web = || {
            let head = Response::builder().header(CONTENT_TYPE, "text/html");
            (head.body(()).unwrap(), Bytes::from_static(b"hello"), None)
        };
        assert_eq!(said_of(web).await, "the answer is not `application/grpc`");
        let missing = || (head().status(404).body(()).unwrap(), Bytes::new(), None);
        assert_eq!(
            said_of(missing).await,
            "answered 404, expected an answer of gRPC"
        );
        let no_status = || {
            let (head, message, _) = serving(1);
            (head, message, None)
        };
        assert_eq!(said_of(no_status).await, "the answer has no `grpc-status`");
        let broken = || {
            let (head, _, trailers) = serving(1);
            (head, Bytes::from_static(&[0, 0, 0, 0, 9, 8, 1]), trailers)
        };
        assert_eq!(
            said_of(broken).await,
            "the answer is not a `HealthCheckResponse`"
        );
        let long = || {
            let (head, _, trailers) = serving(1);
            (head, vec![0; 2 * MOST_ANSWER].into(), trailers)
        };
        assert_eq!(said_of(long).await, "the answer is far too long");
    }

    #[tokio::test]
    async fn an_endpoint_of_http_1_is_no_endpoint_of_grpc() {
        let address = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let said = verdict("grpc", address).await.unwrap_err();
        assert!(said.starts_with("no valid HTTP/2: "), "{said}");
    }

    #[tokio::test]
    async fn the_service_is_asked_for_as_the_protocol_says() {
        let address = serve(|stream| {
            serve_h2(stream, |request, asked| {
                let (head, _) = request.into_parts();
                let right = head.uri == "http://app.internal/grpc.health.v1.Health/Check"
                    && head.method == Method::POST
                    && head.headers["content-type"] == "application/grpc"
                    && head.headers["te"] == "trailers"
                    && head.headers["x-check"] == "1"
                    && asked == b"\0\0\0\0\x0b\x0a\x09shop.Cart".as_slice();
                serving(if right { 1 } else { 2 })
            })
        })
        .await;
        let text =
            "{ type: grpc, service: shop.Cart, host: app.internal, headers: { x-check: 1 } }";
        assert_eq!(verdict(text, address).await, Ok(()));
    }

    #[test]
    fn a_question_for_the_whole_endpoint_is_an_empty_message() {
        assert_eq!(question(""), [0; PREFIX].as_slice());
        let long = question(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 0x2f, 0x0a, 0xac, 0x02]);
        assert_eq!(long.len(), PREFIX + 0x12f);
    }

    #[test]
    fn the_status_is_found_among_other_fields_and_nothing_panics() {
        let cases: [(&[u8], Option<u64>); 10] = [
            (&[], Some(0)),
            (&[8, 1], Some(1)),
            (&[0x12, 2, 8, 2, 8, 1], Some(1)),
            (&[0x19, 0, 0, 0, 0, 0, 0, 0, 0, 8, 1], Some(1)),
            (&[0x1d, 0, 0, 0, 0, 8, 1], Some(1)),
            (&[8], None),
            (&[0, 1], None),
            (&[0x12, 9, 1], None),
            (&[0x0b], None),
            (
                &[
                    8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                ],
                None,
            ),
        ];
        for (message, status) in cases {
            assert_eq!(status_field(message), status, "{message:?}");
        }
        for length in 0..PREFIX {
            assert!(serving_status(&vec![0; length]).is_err());
        }
        assert!(serving_status(&[1, 0, 0, 0, 0]).is_err(), "compressed");
    }
}
