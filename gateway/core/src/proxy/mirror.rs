//! Copies of requests, sent to another upstream while the client is served.
//!
//! A copy is collected beside its request and sent when that has been read to its end. What becomes of
//! it is told to whoever counts, and to nobody else: no client waits for a mirror, or sees that there
//! is one.

use std::{fmt, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{
    Method, StatusCode, Uri, Version,
    header::{self, CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
    uri::Authority,
};
use pingora::{
    Error, ErrorType, OrErr, Result,
    connectors::{ConnectorOptions, http::Connector},
    http::RequestHeader,
    protocols::http::client::HttpSession,
    upstreams::peer::{HttpPeer, Peer},
};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::body::content_length;
use crate::{snapshot::shaping::Mirror, upstream::Introduction};

/// Connections to mirrors, one pool for the process.
pub(super) struct Connections(Connector);

/// A request on its way to a mirror, and as much of its body as has been seen.
pub(super) struct Copy {
    head: RequestHeader,
    body: Body,
    pub(super) keys: Keys,
    /// Who the mirror is told the client is.
    pub(super) client: Option<Introduction>,
}

/// What of the request decides about the endpoint of its copy.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Keys {
    pub(super) balance: Option<u64>,
    pub(super) session: Option<u64>,
}

/// A copy that is whole, and may be sent.
pub(super) struct Ready {
    request: Request,
    permit: OwnedSemaphorePermit,
    limit: Duration,
}

enum Body {
    /// Up to `limit` bytes.
    Kept {
        bytes: BytesMut,
        limit: usize,
    },
    TooLarge,
}

/// What became of a copy: the status of the mirror's answer, if there was one.
pub(super) type Outcome = Result<StatusCode, Lost>;

/// Why there was no answer.
#[derive(Debug)]
pub(super) enum Lost {
    /// The body is larger than the mirror takes; nothing was sent.
    TooLarge,
    /// The body is not as long as its request said; nothing was sent.
    Incomplete,
    /// As many copies are under way as may be; nothing was sent.
    Busy,
    /// The time was over.
    TimedOut,
    /// There was no connection; nothing was sent.
    Unconnected(Box<Error>),
    Failed(Box<Error>),
}

impl Lost {
    /// Whether the endpoint is to blame.
    pub(super) fn is_failure(&self) -> bool {
        matches!(
            self,
            Self::TimedOut | Self::Unconnected(_) | Self::Failed(_)
        )
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("body too large"),
            Self::Incomplete => f.write_str("body incomplete"),
            Self::Busy => f.write_str("too many under way"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Unconnected(error) | Self::Failed(error) => f.write_str(error.etype().as_str()),
        }
    }
}

impl Copy {
    /// A copy of the request with this head, which is the one that the endpoint is sent. None of a
    /// request that turns the connection into something else: what is said there can't be copied. None
    /// of one without a host, as HTTP/1.0 has it: over HTTP/2 it could not be sent, and the mirror would
    /// be blamed.
    pub(super) fn new(head: RequestHeader, mirror: &Mirror) -> Option<Self> {
        let hostless = !head.headers.contains_key(HOST) && head.uri.authority().is_none();
        if hostless || head.method == Method::CONNECT || head.headers.contains_key(header::UPGRADE)
        {
            return None;
        }
        let limit = mirror.max_body;
        let announced = content_length(&head.headers).unwrap_or_default();
        let body = if announced > limit as u64 {
            Body::TooLarge
        } else {
            let bytes = BytesMut::new();
            Body::Kept { bytes, limit }
        };
        Some(Self {
            head,
            body,
            keys: Keys::default(),
            client: None,
        })
    }

    /// The same copy with what decides about its endpoint, and what that is told.
    pub(super) fn with(self, keys: Keys, client: Option<Introduction>) -> Self {
        Self {
            keys,
            client,
            ..self
        }
    }

    /// Keeps a piece of the body; all of it is given up when it gets too large.
    ///
    /// The bytes are copied: a piece of few bytes may hold a buffer of many, and with a client that
    /// sends such pieces `max_body` would be no limit.
    pub(super) fn body(&mut self, piece: &Bytes) {
        let Body::Kept { bytes, limit } = &mut self.body else {
            return;
        };
        if bytes.len().saturating_add(piece.len()) > *limit {
            self.body = Body::TooLarge;
            return;
        }
        bytes.extend_from_slice(piece);
    }

    /// Takes a place among the copies under way. To be called when the body has come to its end: a copy
    /// that is dropped before is never seen by the mirror.
    ///
    /// # Errors
    ///
    /// It can't be sent whatever the mirror's endpoints say.
    pub(super) fn ready(self, mirror: &Mirror) -> Result<Ready, Lost> {
        let request = Request::of(self)?;
        let permit = Arc::clone(&mirror.permits).try_acquire_owned();
        Ok(Ready {
            request,
            permit: permit.map_err(|_| Lost::Busy)?,
            limit: mirror.timeout,
        })
    }
}

impl Ready {
    /// The head as the mirror is sent it.
    pub(super) fn head(&mut self) -> &mut RequestHeader {
        &mut self.request.head
    }

    /// Sends the copy, beside what is under way, and tells the outcome.
    pub(super) fn send(
        self,
        connections: &Arc<Connections>,
        peer: Box<HttpPeer>,
        tell: impl FnOnce(Outcome) + Send + 'static,
    ) {
        let connections = Arc::clone(connections);
        let Self {
            request,
            permit,
            limit,
        } = self;
        tokio::spawn(async move {
            // The time-out drops the exchange, and with it the connection.
            let exchange = timeout(limit, connections.exchange(&request, &peer)).await;
            let outcome = exchange.unwrap_or(Err(Lost::TimedOut));
            drop(permit);
            tell(outcome);
        });
    }
}

/// A whole request.
struct Request {
    head: RequestHeader,
    body: Bytes,
}

impl Request {
    /// The request, with the length of its body instead of whatever framed it before.
    fn of(copy: Copy) -> Result<Self, Lost> {
        let Copy { mut head, body, .. } = copy;
        let Body::Kept { bytes, .. } = body else {
            return Err(Lost::TooLarge);
        };
        let framed = head.remove_header(&TRANSFER_ENCODING).is_some();
        let announced = content_length(&head.headers);
        if !framed && announced.is_some_and(|length| length != bytes.len() as u64) {
            return Err(Lost::Incomplete);
        }
        // The body is here: there is nothing to ask for first.
        head.remove_header(&header::EXPECT);
        head.remove_header(&CONTENT_LENGTH);
        if framed || announced.is_some() || !bytes.is_empty() {
            head.insert_header(CONTENT_LENGTH, bytes.len())
                .map_err(Lost::Failed)?;
        }
        Ok(Self {
            head,
            body: bytes.freeze(),
        })
    }

    /// The head as this connection speaks it.
    fn head_for(&self, session: &HttpSession, peer: &HttpPeer) -> Result<Box<RequestHeader>> {
        let mut head = Box::new(self.head.clone());
        match session {
            HttpSession::H1(_) | HttpSession::Custom(()) => for_http1(&mut head)?,
            HttpSession::H2(_) => for_http2(&mut head, peer.is_tls())?,
        }
        Ok(head)
    }
}

/// HTTP/1 tells the host in a header.
fn for_http1(head: &mut RequestHeader) -> Result<()> {
    head.set_version(Version::HTTP_11);
    let authority = head.uri.authority().cloned();
    match authority {
        Some(authority) if !head.headers.contains_key(HOST) => {
            head.insert_header(HOST, authority.as_str())
        }
        _ => Ok(()),
    }
}

/// HTTP/2 tells the host in the target.
fn for_http2(head: &mut RequestHeader, tls: bool) -> Result<()> {
    head.set_version(Version::HTTP_2);
    let host = head.remove_header(&HOST);
    let authority = match host {
        Some(host) => Authority::try_from(host.as_bytes()).or_err(
            ErrorType::InvalidHTTPHeader,
            "a host that can't stand in a target",
        )?,
        None => head.uri.authority().cloned().ok_or_else(|| {
            Error::explain(ErrorType::InvalidHTTPHeader, "a request without a host")
        })?,
    };
    let target = head
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let uri = Uri::builder()
        .scheme(if tls { "https" } else { "http" })
        .authority(authority)
        .path_and_query(target)
        .build();
    head.set_uri(uri.or_err(ErrorType::InvalidHTTPHeader, "no target of HTTP/2")?);
    Ok(())
}

/// How much of an answer is read, in bytes, to keep its connection. A longer one costs less cut off.
const MAX_ANSWER: usize = 1 << 20;

impl Connections {
    pub(super) fn new(options: ConnectorOptions) -> Self {
        Self(Connector::new(Some(options)))
    }

    /// Sends a request, and reads the answer to its end.
    ///
    /// A kept connection may have been closed by the other side just now, which says nothing about it:
    /// then the request is sent again over another, if it may be repeated.
    async fn exchange(&self, request: &Request, peer: &HttpPeer) -> Outcome {
        loop {
            let connected = self.0.get_http_session(peer).await;
            let (mut session, reused) = connected.map_err(Lost::Unconnected)?;
            match converse(&mut session, request, peer).await {
                Ok(status) => {
                    self.release(session, peer).await;
                    return Ok(status);
                }
                Err(error) => {
                    session.shutdown().await;
                    let unanswered = session.response_header().is_none();
                    if !(reused && unanswered && request.head.method.is_idempotent()) {
                        return Err(Lost::Failed(error));
                    }
                }
            }
        }
    }

    /// Keeps a connection for the next copy, unless there is still something to come.
    async fn release(&self, mut session: HttpSession, peer: &HttpPeer) {
        if session.response_done() {
            let idle = peer.idle_timeout();
            self.0.release_http_session(session, peer, idle).await;
        } else {
            session.shutdown().await;
        }
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connections")
    }
}

async fn converse(
    session: &mut HttpSession,
    request: &Request,
    peer: &HttpPeer,
) -> Result<StatusCode> {
    let head = request.head_for(session, peer)?;
    session.write_request_header(head).await?;
    if !request.body.is_empty() {
        session
            .write_request_body(request.body.clone(), true)
            .await?;
    }
    session.finish_request_body().await?;
    let status = final_status(session).await?;
    let mut rest = MAX_ANSWER;
    while status != StatusCode::SWITCHING_PROTOCOLS && rest > 0 {
        let Some(piece) = session.read_response_body().await? else {
            break;
        };
        rest = rest.saturating_sub(piece.len());
    }
    Ok(status)
}

async fn final_status(session: &mut HttpSession) -> Result<StatusCode> {
    loop {
        session.read_response_header().await?;
        let status = session.response_header().map(|head| head.status);
        match status {
            // Nothing was asked for that could be switched to, and nothing else will come.
            Some(StatusCode::SWITCHING_PROTOCOLS) => return Ok(StatusCode::SWITCHING_PROTOCOLS),
            Some(status) if !status.is_informational() => return Ok(status),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Instant};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        sync::{mpsc, oneshot},
    };

    use super::*;
    use crate::config;

    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

    /// A mirror that answers each request by `answer`, and tells what it was sent and on which of its
    /// connections.
    async fn mirror_that_says(
        answer: &'static str,
    ) -> (SocketAddr, mpsc::UnboundedReceiver<(usize, String)>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer_all(stream, number, answer, seen.clone()));
            }
        });
        (address, requests)
    }

    async fn answer_all(
        mut stream: TcpStream,
        number: usize,
        answer: &'static str,
        seen: mpsc::UnboundedSender<(usize, String)>,
    ) {
        while let Some(request) = read_request(&mut stream).await {
            if seen.send((number, request)).is_err() {
                return;
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            if answer.contains("Connection: close") || answer.is_empty() {
                return;
            }
        }
    }

    /// One request with as much body as its head says; none at the end of the connection.
    async fn read_request(stream: &mut TcpStream) -> Option<String> {
        let mut text = String::new();
        let mut buffer = [0; 4096];
        loop {
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| {
                    line.to_ascii_lowercase()
                        .strip_prefix("content-length: ")?
                        .parse()
                        .ok()
                });
                if body.len() == length.unwrap_or(0) {
                    return Some(text);
                }
            }
            let count = stream
                .read(&mut buffer)
                .await
                .ok()
                .filter(|count| *count > 0)?;
            text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
    }

    fn settings(yaml: &str) -> Mirror {
        let mut problems = config::diagnostic::Problems::default();
        let text = format!("{{ upstream: shadow, {yaml} }}");
        let document = config::document::Document::from_text("e.yaml", &text, &mut problems);
        let root = document.root();
        let config: Option<config::Mirror> =
            config::deserialize::salvage(&document, root, &mut problems);
        assert_eq!(problems.errors(), 0, "{yaml}");
        Mirror::new(&config.unwrap())
    }

    fn connections() -> Arc<Connections> {
        Arc::new(Connections::new(ConnectorOptions::new(16)))
    }

    fn head(method: &str, headers: &[(&'static str, &str)]) -> RequestHeader {
        let mut head = RequestHeader::build(method, b"/a?b=c", None).unwrap();
        head.insert_header("Host", "shop.example.com").unwrap();
        for (name, value) in headers {
            head.insert_header(*name, *value).unwrap();
        }
        head
    }

    fn copy(head: RequestHeader, mirror: &Mirror, pieces: &[&'static str]) -> Copy {
        let mut copy = Copy::new(head, mirror).expect("the request can be copied");
        for piece in pieces {
            copy.body(&Bytes::from_static(piece.as_bytes()));
        }
        copy
    }

    fn send(
        copy: Copy,
        mirror: &Mirror,
        connections: &Arc<Connections>,
        address: SocketAddr,
    ) -> oneshot::Receiver<Outcome> {
        let (tell, told) = oneshot::channel();
        let peer = Box::new(HttpPeer::new(address, false, String::new()));
        let tell = |outcome| assert!(tell.send(outcome).is_ok(), "the test waits for it");
        match copy.ready(mirror) {
            Ok(ready) => ready.send(connections, peer, tell),
            Err(lost) => tell(Err(lost)),
        }
        told
    }

    #[tokio::test]
    async fn a_get_is_copied_as_the_endpoint_sees_it() {
        let (address, mut requests) = mirror_that_says(OK).await;
        let mirror = settings("timeout: 30s");
        let copy = copy(head("GET", &[("X-Tenant", "acme")]), &mirror, &[]);
        let outcome = send(copy, &mirror, &connections(), address).await.unwrap();
        assert_eq!(outcome.unwrap(), 200);
        let (_, request) = requests.recv().await.unwrap();
        assert_eq!(
            request,
            "GET /a?b=c HTTP/1.1\r\nHost: shop.example.com\r\nX-Tenant: acme\r\n\r\n"
        );
    }

    #[tokio::test]
    async fn a_body_is_copied_with_its_length_however_it_was_framed() {
        let (address, mut requests) = mirror_that_says(OK).await;
        let mirror = settings("max_body: 11B");
        let connections = connections();
        let framings = [
            ("Content-Length", "11", "11"),
            ("Transfer-Encoding", "chunked", "11"),
        ];
        for (name, value, length) in framings {
            let head = head("POST", &[(name, value), ("Expect", "100-continue")]);
            let copy = copy(head, &mirror, &["hello", " ", "", "world"]);
            let outcome = send(copy, &mirror, &connections, address).await.unwrap();
            assert_eq!(outcome.unwrap(), 200);
            let (_, request) = requests.recv().await.unwrap();
            assert!(request.ends_with("\r\n\r\nhello world"), "{request}");
            assert!(
                request.contains(&format!("Content-Length: {length}\r\n")),
                "{request}"
            );
            assert!(
                !request.contains("chunked") && !request.contains("Expect"),
                "{request}"
            );
        }
        let empty = copy(head("POST", &[("Content-Length", "0")]), &mirror, &[]);
        send(empty, &mirror, &connections, address)
            .await
            .unwrap()
            .unwrap();
        let (_, request) = requests.recv().await.unwrap();
        assert!(request.contains("Content-Length: 0\r\n"), "{request}");
    }

    #[tokio::test]
    async fn a_connection_is_used_again() {
        let (address, mut requests) = mirror_that_says(OK).await;
        let mirror = settings("");
        let connections = connections();
        for _ in 0..3 {
            let copy = copy(head("GET", &[]), &mirror, &[]);
            send(copy, &mirror, &connections, address)
                .await
                .unwrap()
                .unwrap();
            let (number, _) = requests.recv().await.unwrap();
            assert_eq!(number, 0);
        }
    }

    #[tokio::test]
    async fn nothing_is_sent_of_a_body_that_is_too_large_or_incomplete() {
        let (address, mut requests) = mirror_that_says(OK).await;
        let mirror = settings("max_body: 4B");
        let connections = connections();
        let chunked = ("Transfer-Encoding", "chunked");
        let cases = [
            (
                head("POST", &[("Content-Length", "5")]),
                vec![],
                "body too large",
            ),
            (
                head("POST", &[chunked]),
                vec!["abc", "de"],
                "body too large",
            ),
            (
                head("POST", &[chunked]),
                vec!["abcde", "f"],
                "body too large",
            ),
            (
                head("POST", &[("Content-Length", "4")]),
                vec!["abc"],
                "body incomplete",
            ),
        ];
        for (head, pieces, reason) in cases {
            let copy = copy(head, &mirror, &pieces);
            let lost = send(copy, &mirror, &connections, address).await.unwrap();
            assert_eq!(lost.unwrap_err().to_string(), reason, "{pieces:?}");
        }
        // A client that leaves: the copy is dropped with all else that was kept for the request.
        drop(copy(head("POST", &[chunked]), &mirror, &["ab"]));
        let last = copy(head("POST", &[chunked]), &mirror, &["ab", "cd"]);
        send(last, &mirror, &connections, address)
            .await
            .unwrap()
            .unwrap();
        let (_, request) = requests.recv().await.unwrap();
        assert!(
            request.ends_with("\r\n\r\nabcd"),
            "it is the first: {request}"
        );
        assert_eq!(mirror.permits.available_permits(), 256);
    }

    #[tokio::test]
    async fn what_turns_into_another_protocol_is_not_copied() {
        let mirror = settings("");
        assert!(Copy::new(head("GET", &[("Upgrade", "websocket")]), &mirror).is_none());
        assert!(Copy::new(head("CONNECT", &[]), &mirror).is_none());
    }

    #[tokio::test]
    async fn a_mirror_that_hangs_is_dropped_when_the_time_is_over() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mirror = settings("timeout: 100ms, max_requests: 1");
        let connections = connections();
        let began = Instant::now();
        let first = send(
            copy(head("GET", &[]), &mirror, &[]),
            &mirror,
            &connections,
            address,
        );
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(read_request(&mut stream).await.is_some());
        let next = send(
            copy(head("GET", &[]), &mirror, &[]),
            &mirror,
            &connections,
            address,
        );
        assert!(matches!(next.await.unwrap(), Err(Lost::Busy)));
        assert!(matches!(first.await.unwrap(), Err(Lost::TimedOut)));
        assert!(began.elapsed() >= Duration::from_millis(100));
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "it is closed");
        assert_eq!(mirror.permits.available_permits(), 1, "the next may go");
    }

    #[tokio::test]
    async fn the_time_is_over_too_for_a_mirror_that_never_stops_answering() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mirror = settings("timeout: 100ms, max_requests: 1");
        let told = send(
            copy(head("GET", &[]), &mirror, &[]),
            &mirror,
            &connections(),
            address,
        );
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await.unwrap();
        let endless = "HTTP/1.1 103 Early Hints\r\n\r\n";
        while stream.write_all(endless.as_bytes()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(matches!(told.await.unwrap(), Err(Lost::TimedOut)));
        assert_eq!(mirror.permits.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_long_answer_is_cut_off_and_its_connection_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mirror = settings("timeout: 30s");
        let told = send(
            copy(head("GET", &[]), &mirror, &[]),
            &mirror,
            &connections(),
            address,
        );
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n")
            .await
            .unwrap();
        let mut sent = 0;
        while stream.write_all(&[b'x'; 8192]).await.is_ok() {
            sent += 8192;
        }
        assert!((MAX_ANSWER..100 << 20).contains(&sent), "{sent}");
        assert_eq!(told.await.unwrap().unwrap(), 200);
    }

    #[tokio::test]
    async fn a_mirror_that_refuses_or_breaks_off_is_a_failure() {
        let mirror = settings("timeout: 30s");
        let connections = connections();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nobody = listener.local_addr().unwrap();
        drop(listener);
        let (silent, _requests) = mirror_that_says("").await;
        let (garbage, _more) = mirror_that_says("SSH-2.0-x\r\n\r\n").await;
        for address in [nobody, silent, garbage] {
            let copy = copy(head("GET", &[]), &mirror, &[]);
            let outcome = send(copy, &mirror, &connections, address).await.unwrap();
            let lost = outcome.unwrap_err();
            assert!(lost.is_failure());
            let unconnected = matches!(lost, Lost::Unconnected(_));
            assert_eq!(unconnected, address == nobody, "{lost:?}");
        }
        assert_eq!(mirror.permits.available_permits(), 256);
    }

    #[tokio::test]
    async fn a_kept_connection_that_is_closed_under_us_is_no_failure_of_a_get() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mirror = settings("timeout: 30s");
        let connections = connections();
        let first = send(
            copy(head("GET", &[]), &mirror, &[]),
            &mirror,
            &connections,
            address,
        );
        let (mut kept, _) = listener.accept().await.unwrap();
        read_request(&mut kept).await.unwrap();
        kept.write_all(OK.as_bytes()).await.unwrap();
        first.await.unwrap().unwrap();
        let second = send(
            copy(head("GET", &[]), &mirror, &[]),
            &mirror,
            &connections,
            address,
        );
        read_request(&mut kept)
            .await
            .expect("it comes over the kept connection");
        drop(kept);
        let (mut fresh, _) = listener.accept().await.unwrap();
        read_request(&mut fresh).await.unwrap();
        fresh.write_all(OK.as_bytes()).await.unwrap();
        assert_eq!(second.await.unwrap().unwrap(), 200);
    }

    #[tokio::test]
    async fn interim_answers_are_passed_over() {
        let said = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
        let (address, _requests) = mirror_that_says(said).await;
        let mirror = settings("");
        let copy = copy(head("GET", &[]), &mirror, &[]);
        let outcome = send(copy, &mirror, &connections(), address).await.unwrap();
        assert_eq!(outcome.unwrap(), 204);
    }

    #[test]
    fn each_version_is_told_the_host_in_its_own_way() {
        let mut two = head("GET", &[]);
        for_http2(&mut two, true).unwrap();
        assert_eq!(two.version, Version::HTTP_2);
        assert_eq!(two.uri, "https://shop.example.com/a?b=c");
        assert!(!two.headers.contains_key(HOST));
        for_http1(&mut two).unwrap();
        assert_eq!(two.version, Version::HTTP_11);
        assert_eq!(two.headers[HOST], "shop.example.com");
        assert_eq!(two.raw_path(), b"/a?b=c");
        let mut none = RequestHeader::build("GET", b"/", None).unwrap();
        assert!(for_http2(&mut none, false).is_err());
    }
}
