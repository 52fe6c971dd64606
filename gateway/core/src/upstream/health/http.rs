//! Checks by a request over HTTP/1 or HTTP/2.

use std::sync::Arc;

use async_trait::async_trait;
use http::{
    HeaderName, HeaderValue, Method, StatusCode, Uri,
    header::{ACCEPT, CONNECTION, CONTENT_LENGTH, HOST, USER_AGENT},
    uri::{PathAndQuery, Scheme},
};
use memchr::memmem;
use pingora::{
    OrErr, Result, http::RequestHeader, protocols::http::client::HttpSession,
    upstreams::peer::HttpPeer,
};
use pingora_load_balancing::{Backend, health_check::HealthCheck};

use super::{Connectors, Target, reason};
use crate::config::{BodyTest, Statuses};

/// How much of a body is read.
const MOST_BODY: usize = 64 << 10;

/// What endpoints see as the client, so that their access logs can leave checks out.
pub(super) const AGENT: HeaderValue = HeaderValue::from_static("edgeway-health-check");

/// A request, and what the answer to it must be.
pub(super) struct HttpCheck {
    pub(super) connectors: Arc<Connectors>,
    pub(super) method: Method,
    pub(super) path: PathAndQuery,
    pub(super) headers: Box<[(HeaderName, HeaderValue)]>,
    pub(super) status: Statuses,
    pub(super) body: Option<BodyTest>,
}

#[async_trait]
impl HealthCheck for HttpCheck {
    async fn check(&self, backend: &Backend) -> Result<()> {
        let Target {
            peer,
            host,
            deadline,
        } = Target::of(backend)?;
        let connecting = self.connectors.http.get_http_session(peer);
        let (mut session, _) = deadline.within("no connection", connecting).await?;
        let answering = self.status_of(&mut session, peer, host);
        let status = deadline.within("no answer", answering).await?;
        self.judge_status(status)?;
        let reading = body_of(&mut session);
        let body = deadline.within("no complete answer", reading).await?;
        self.judge_body(&body)
    }

    /// Not asked for: endpoints count.
    fn health_threshold(&self, _success: bool) -> usize {
        1
    }
}

impl HttpCheck {
    async fn status_of(
        &self,
        session: &mut HttpSession,
        peer: &HttpPeer,
        host: &str,
    ) -> Result<StatusCode> {
        let request = self.request(session, peer, host)?;
        session.write_request_header(Box::new(request)).await?;
        session.finish_request_body().await?;
        loop {
            session.read_response_header().await?;
            let head = session.response_header();
            let head = head.ok_or_else(|| reason::because("the answer has no head"))?;
            let interim = head.status.is_informational()
                && head.status != StatusCode::SWITCHING_PROTOCOLS
                && session.as_http1().is_some();
            if !interim {
                return Ok(head.status);
            }
        }
    }

    fn request(&self, session: &HttpSession, peer: &HttpPeer, host: &str) -> Result<RequestHeader> {
        let path = self.path.as_str();
        let mut request = RequestHeader::build(self.method.clone(), path.as_bytes(), None)?;
        if session.as_http1().is_some() {
            request.insert_header(HOST, host)?;
            request.insert_header(CONNECTION, HeaderValue::from_static("close"))?;
        } else {
            request.set_uri(absolute(peer, host, &self.path)?);
        }
        request.insert_header(USER_AGENT, AGENT)?;
        request.insert_header(ACCEPT, HeaderValue::from_static("*/*"))?;
        if self.method == Method::POST {
            request.insert_header(CONTENT_LENGTH, HeaderValue::from_static("0"))?;
        }
        for (name, value) in &self.headers {
            request.insert_header(name, value)?;
        }
        Ok(request)
    }

    fn judge_status(&self, status: StatusCode) -> Result<()> {
        if self.status.contain(status) {
            return Ok(());
        }
        Err(reason::because(format!(
            "answered {}, expected {}",
            status.as_u16(),
            self.status
        )))
    }

    fn judge_body(&self, body: &[u8]) -> Result<()> {
        match &self.body {
            None => Ok(()),
            Some(BodyTest::Contains(text)) => {
                let found = memmem::find(body, text.as_bytes()).is_some();
                found
                    .then_some(())
                    .ok_or_else(|| reason::because(format!("the body does not contain `{text}`")))
            }
            Some(BodyTest::Matches(regex)) => regex
                .is_match(body)
                .then_some(())
                .ok_or_else(|| reason::because(format!("the body does not match `{regex}`"))),
        }
    }
}

/// The whole URI, from which HTTP/2 takes scheme and authority.
pub(super) fn absolute(peer: &HttpPeer, host: &str, path: &PathAndQuery) -> Result<Uri> {
    let scheme = if peer.is_tls() {
        Scheme::HTTPS
    } else {
        Scheme::HTTP
    };
    Uri::builder()
        .scheme(scheme)
        .authority(host)
        .path_and_query(path.clone())
        .build()
        .or_err_with(pingora::ErrorType::InvalidHTTPHeader, || {
            format!("`{host}` is not a host")
        })
}

/// The body, up to the limit.
async fn body_of(session: &mut HttpSession) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while body.len() < MOST_BODY {
        let Some(chunk) = session.read_response_body().await? else {
            break;
        };
        body.extend(chunk.iter().take(MOST_BODY - body.len()));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use bytes::Bytes;
    use http::Response;
    use pingora::utils::tls::{WrappedX509, parse_x509};
    use tokio::{io::AsyncWriteExt, net::UnixListener, sync::mpsc, time::timeout};

    use super::super::testing::{
        LONG, answering, check, endpoint, head, outcome, plain, serve, serve_h2, silent, verdict,
    };
    use super::*;

    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n";

    fn because(reason: &str) -> std::result::Result<(), String> {
        Err(reason.to_owned())
    }

    #[tokio::test]
    async fn an_answer_of_200_passes() {
        let address = answering(OK).await;
        assert_eq!(verdict("path: /healthz", address).await, Ok(()));
    }

    #[tokio::test]
    async fn another_status_fails_with_what_was_expected() {
        let address = answering("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(
            verdict("path: /healthz", address).await,
            because("answered 500, expected 200-399")
        );
        let text = "{ path: /healthz, expect: { status: [200-299, 304] } }";
        assert_eq!(
            verdict(text, address).await,
            because("answered 500, expected 200-299, 304")
        );
        let text = "{ path: /healthz, expect: { status: 500 } }";
        assert_eq!(verdict(text, address).await, Ok(()));
    }

    #[tokio::test]
    async fn the_body_must_be_what_is_expected() {
        let address = answering(OK).await;
        let cases = [
            ("ok", Ok(())),
            ("\"{ok}\"", because("the body does not contain `{ok}`")),
            ("{ regex: '^[ok]+\\n$' }", Ok(())),
            ("{ regex: '^k' }", because("the body does not match `^k`")),
        ];
        for (body, expected) in cases {
            let text = format!("{{ path: /, expect: {{ body: {body} }} }}");
            assert_eq!(verdict(&text, address).await, expected, "{body}");
        }
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_64_kib() {
        let address = serve(|mut stream| async move {
            head(&mut stream).await;
            let mut body = vec![b'.'; MOST_BODY - 4];
            body.extend(b"edge");
            body.extend(b"far");
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            stream.write_all(&body).await.unwrap();
            // It never ends, which does not matter.
            silent(stream).await;
        })
        .await;
        let edge = "{ path: /, timeout: 10s, expect: { body: .edge } }";
        assert_eq!(verdict(edge, address).await, Ok(()));
        let far = "{ path: /, timeout: 10s, expect: { body: edgef } }";
        assert_eq!(
            verdict(far, address).await,
            because("the body does not contain `edgef`")
        );
    }

    #[tokio::test]
    async fn a_body_that_is_cut_off_fails() {
        let address = answering("HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\nok\n").await;
        assert_eq!(
            verdict("path: /", address).await,
            because("closed the connection before its answer was complete")
        );
    }

    #[tokio::test]
    async fn a_body_that_drips_forever_is_ended_by_the_timeout() {
        let address = serve(|mut stream| async move {
            head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            while stream.write_all(b".").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        let began = Instant::now();
        let said = verdict("{ path: /, timeout: 300ms }", address).await;
        assert_eq!(said, because("no complete answer within 300ms"));
        assert!(began.elapsed() >= Duration::from_millis(300));
        assert!(began.elapsed() < LONG);
    }

    #[tokio::test]
    async fn an_endpoint_that_accepts_and_never_answers_fails_and_is_let_go() {
        let (ended, mut end) = mpsc::unbounded_channel();
        let address = serve(move |stream| {
            let ended = ended.clone();
            async move {
                silent(stream).await;
                ended.send(()).unwrap();
            }
        })
        .await;
        let text = "{ path: /, timeout: 200ms }";
        assert_eq!(
            verdict(text, address).await,
            because("no answer within 200ms")
        );
        timeout(LONG, end.recv()).await.unwrap().unwrap();

        let mut peer = plain(address);
        peer.options.set_http_version(2, 2);
        let said = outcome(&check(text), peer).await;
        assert_eq!(said.result, because("no answer within 200ms"));
        assert!(said.took >= Duration::from_millis(200) && said.took < LONG);
        timeout(LONG, end.recv()).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn every_check_has_a_connection_of_its_own() {
        let (ended, mut end) = mpsc::unbounded_channel();
        let address = serve(move |mut stream| {
            let ended = ended.clone();
            async move {
                head(&mut stream).await;
                stream.write_all(OK.as_bytes()).await.unwrap();
                silent(stream).await;
                ended.send(()).unwrap();
            }
        })
        .await;
        let check = check("path: /");
        for _ in 0..3 {
            assert_eq!(outcome(&check, plain(address)).await.result, Ok(()));
            timeout(LONG, end.recv()).await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn a_refused_connection_fails() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        for text in ["path: /", "tcp", "grpc"] {
            let said = verdict(text, address).await;
            assert_eq!(said, because("connection refused"), "{text}");
        }
    }

    #[tokio::test]
    async fn an_endpoint_without_an_address_fails() {
        let (unresolved, _) = endpoint("app:8080", None);
        let said = check("path: /").examine(&*unresolved).await;
        assert_eq!(said.result, because("not resolved"));
    }

    /// What a check sends to an endpoint called `app:8080`.
    async fn request_of(text: &str) -> String {
        let (sent, mut request) = mpsc::unbounded_channel();
        let address = serve(move |mut stream| {
            let sent = sent.clone();
            async move {
                sent.send(head(&mut stream).await).unwrap();
                let no_body = b"HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\n";
                stream.write_all(no_body).await.unwrap();
            }
        })
        .await;
        verdict(text, address).await.ok();
        request.recv().await.unwrap()
    }

    #[tokio::test]
    async fn method_path_host_and_headers_are_sent() {
        let plain = request_of("path: /healthz?deep=1").await;
        assert!(
            plain.starts_with("GET /healthz?deep=1 HTTP/1.1\r\n"),
            "{plain}"
        );
        let plain = plain.to_lowercase();
        for line in [
            "host: app:8080",
            "connection: close",
            "user-agent: edgeway-health-check",
            "accept: */*",
        ] {
            assert_eq!(
                plain.matches(&format!("\r\n{line}\r\n")).count(),
                1,
                "{plain}"
            );
        }
        assert!(!plain.contains("content-length"), "{plain}");

        let full = "{ path: /, method: POST, host: app.internal, \
                    headers: { X-Check: 1, User-Agent: me } }";
        let full = request_of(full).await;
        assert!(full.starts_with("POST / HTTP/1.1\r\n"), "{full}");
        let full = full.to_lowercase();
        for line in [
            "host: app.internal",
            "x-check: 1",
            "user-agent: me",
            "content-length: 0",
        ] {
            assert_eq!(
                full.matches(&format!("\r\n{line}\r\n")).count(),
                1,
                "{full}"
            );
        }
        assert!(!full.contains("edgeway"), "{full}");
    }

    #[tokio::test]
    async fn the_answer_to_head_needs_no_body() {
        let address = answering("HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\n").await;
        let text = "{ path: /, method: HEAD }";
        assert_eq!(verdict(text, address).await, Ok(()));
        assert!(request_of(text).await.starts_with("HEAD / "));
    }

    #[tokio::test]
    async fn an_interim_answer_is_not_the_answer() {
        let address = answering(
            "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n",
        )
        .await;
        assert_eq!(
            verdict("path: /", address).await,
            because("answered 503, expected 200-399")
        );
    }

    #[tokio::test]
    async fn what_is_not_http_fails() {
        let address = answering("SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
        let said = verdict("path: /", address).await.unwrap_err();
        assert!(said.starts_with("no valid HTTP: "), "{said}");
    }

    #[tokio::test]
    async fn a_check_goes_over_http_2_where_requests_do() {
        let (connected, mut connections) = mpsc::unbounded_channel();
        let address = serve(move |stream| {
            connected.send(()).unwrap();
            serve_h2(stream, |request, _| {
                let right = request.uri() == "http://app:8080/healthz"
                    && !request.headers().contains_key("host");
                let status = if right { 200 } else { 400 };
                let response = Response::builder().status(status).body(()).unwrap();
                (response, Bytes::from_static(b"ok"), None)
            })
        })
        .await;
        let mut peer = plain(address);
        peer.options.set_http_version(2, 2);
        peer.options.max_h2_streams = 100;
        let check = check("{ path: /healthz, expect: { body: ok } }");
        for _ in 0..2 {
            assert_eq!(outcome(&check, peer.clone()).await.result, Ok(()));
        }
        assert_eq!(connections.len(), 2, "no connection is shared or kept");
        connections.close();
    }

    #[tokio::test]
    async fn a_unix_socket_is_checked_under_the_host_localhost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let asked = head(&mut stream).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
            let (probe, _) = listener.accept().await.unwrap();
            drop(probe);
            asked
        });
        let path = path.to_str().unwrap();
        let peer = HttpPeer::new_uds(path, false, String::new()).unwrap();
        let name = format!("unix:{path}");
        let (endpoint, _) = endpoint(&name, Some(peer));
        assert_eq!(check("path: /").examine(&*endpoint).await.result, Ok(()));
        assert_eq!(check("tcp").examine(&*endpoint).await.result, Ok(()));
        let asked = asked.await.unwrap().to_lowercase();
        assert!(asked.contains("\r\nhost: localhost\r\n"), "{asked}");
    }

    #[tokio::test]
    async fn a_check_goes_to_the_port_that_is_written() {
        let address = answering(OK).await;
        let elsewhere = std::net::SocketAddr::new(address.ip(), 1);
        let text = format!("{{ path: /, port: {} }}", address.port());
        assert_eq!(verdict(&text, elsewhere).await, Ok(()));
        let text = format!("{{ type: tcp, port: {} }}", address.port());
        assert_eq!(verdict(&text, elsewhere).await, Ok(()));
    }

    #[tokio::test]
    async fn a_tcp_check_needs_nothing_but_a_connection() {
        let address = serve(silent).await;
        assert_eq!(verdict("tcp", address).await, Ok(()));
    }

    /// Answers over TLS as a host called `app.internal`, with HTTP/2 where that is chosen, and the
    /// certificate that has to be trusted.
    async fn serve_tls() -> (std::net::SocketAddr, Vec<u8>) {
        let signed = rcgen::generate_simple_self_signed(["app.internal".to_owned()]).unwrap();
        let certificate = signed.cert.der().to_vec();
        let key = signed.signing_key.serialize_der().try_into().unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider().into();
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![signed.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let address = serve(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                    head(&mut stream).await;
                    stream.write_all(OK.as_bytes()).await.unwrap();
                    return silent(stream).await;
                }
                serve_h2(stream, |request, _| {
                    let head = Response::builder()
                        .header("content-type", "application/grpc")
                        .header("x-scheme", request.uri().scheme_str().unwrap_or_default())
                        .header("grpc-status", "0");
                    let serving = Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]);
                    (head.body(()).unwrap(), serving, None)
                })
                .await;
            }
        })
        .await;
        (address, certificate)
    }

    #[tokio::test]
    async fn a_check_over_tls_trusts_whom_requests_trust() {
        let (address, certificate) = serve_tls().await;
        let mut peer = HttpPeer::new(address, true, "app.internal".to_owned());
        for text in ["{ path: /, timeout: 10s }", "{ type: grpc, timeout: 10s }"] {
            let check = check(text);
            let said = outcome(&check, peer.clone()).await.result.unwrap_err();
            assert_eq!(
                said,
                "the TLS handshake failed: invalid peer certificate: UnknownIssuer, SNI: app.internal"
            );

            let trusted = WrappedX509::new(certificate.clone(), parse_x509);
            let mut trusting = peer.clone();
            trusting.options.ca = Some(vec![trusted].into());
            for _ in 0..2 {
                assert_eq!(
                    outcome(&check, trusting.clone()).await.result,
                    Ok(()),
                    "{text}"
                );
            }
            trusting.options.set_http_version(2, 1);
            assert_eq!(outcome(&check, trusting).await.result, Ok(()), "{text}");
        }
        peer.options.verify_cert = false;
        assert_eq!(outcome(&check("path: /"), peer).await.result, Ok(()));
    }

    #[tokio::test]
    async fn an_endpoint_without_tls_fails_where_requests_use_tls() {
        let address = serve(|mut stream| async move {
            stream.write_all(OK.as_bytes()).await.unwrap();
            silent(stream).await;
        })
        .await;
        let peer = HttpPeer::new(address, true, "app.internal".to_owned());
        let said = outcome(&check("path: /"), peer).await.result.unwrap_err();
        assert!(said.starts_with("the TLS handshake failed: "), "{said}");
    }
}
