//! Requests to an authority.

use std::{
    fmt, io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, Uri,
    header::{CONTENT_TYPE, HOST, RETRY_AFTER},
    response::Parts,
    uri::{Authority as HostPort, PathAndQuery},
};
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::{
    body::{Body, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::spec::Authority;
use crate::server::tls::pem;

/// How long one request may take in all.
const PATIENCE: Duration = Duration::from_secs(30);

/// The largest answer. Chains of certificates have some kilobytes.
const LARGEST: usize = 1 << 20;

/// Asks one authority. Clones have the same connection rules and the same memory.
///
/// Each request has a connection of its own: there are a dozen of them every two months.
#[derive(Clone)]
pub(super) struct Client(Arc<Inner>);

struct Inner {
    tls: TlsConnector,
    directory: String,
    /// What the last answer has said of this. Only one request is made at a time.
    retry_after: Mutex<Option<Duration>>,
}

/// Why there is no answer, or none that can be understood.
#[derive(Debug)]
pub(super) struct NoAnswer(String);

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoAnswer {}

impl Client {
    /// Reads what the system trusts, if nothing else is to be trusted: to be called where waiting is no harm.
    ///
    /// # Errors
    ///
    /// A sentence for the operator.
    pub(super) fn new(authority: &Authority) -> Result<Self, String> {
        let roots = match &authority.ca {
            Some(ca) => pem::authorities(ca)?,
            None => system()?,
        };
        let config = ClientConfig::builder_with_provider(Arc::new(pem::provider()));
        let config = config.with_safe_default_protocol_versions();
        let config = config.map_err(|error| error.to_string())?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Self(Arc::new(Inner {
            tls: TlsConnector::from(Arc::new(config)),
            directory: authority.directory.clone(),
            retry_after: Mutex::default(),
        })))
    }

    /// How long the authority has asked to be left alone, in its last answer.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        *self.note()
    }

    fn note(&self) -> std::sync::MutexGuard<'_, Option<Duration>> {
        self.0
            .retry_after
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, NoAnswer> {
        *self.note() = None;
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let asked = timeout(PATIENCE, self.exchange(request)).await;
        let asked = asked.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
        let (parts, body) = asked.map_err(|reason| NoAnswer(format!("{uri}: {reason}")))?;
        *self.note() = retry_after(&parts.headers, SystemTime::now());
        self.understandable(&method, &uri, &parts)?;
        Ok(BytesResponse::from(Response::from_parts(
            parts,
            Full::new(body),
        )))
    }

    /// Refuses what would be taken for something else.
    fn understandable(&self, method: &Method, uri: &Uri, parts: &Parts) -> Result<(), NoAnswer> {
        let status = parts.status;
        let directory = *method == Method::GET && *uri == *self.0.directory;
        // An error is a JSON document, but not if a proxy in between has made it.
        if status.is_success() || (!directory && is_json(&parts.headers)) {
            return Ok(());
        }
        Err(NoAnswer(format!("{uri}: answered {}", status.as_u16())))
    }

    async fn exchange(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Result<(Parts, Bytes), String> {
        let stream = self.connect(request.uri()).await?;
        let said = |error: hyper::Error| format!("no answer: {error}");
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(said)?;
        let request = relative(request)?;
        let answering = async {
            let response = sender.send_request(request).await.map_err(said)?;
            whole(response).await
        };
        let (mut answering, connection) = (pin!(answering), pin!(connection));
        tokio::select! {
            answer = &mut answering => return answer,
            // The other side may close it before the answer was read here.
            _ = connection => {}
        }
        answering.await
    }

    async fn connect(&self, uri: &Uri) -> Result<TlsStream<TcpStream>, String> {
        let host = uri.host().filter(|_| uri.scheme_str() == Some("https"));
        let host = host.ok_or("the authority has named an address that is not `https`")?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned());
        let name = name.map_err(|_| format!("`{bare}` is no name of a host"))?;
        let tcp = connect(bare, uri.port_u16().unwrap_or(443)).await;
        let tcp = tcp.map_err(|error| format!("no connection: {error}"))?;
        let secured = self.0.tls.connect(name, tcp).await;
        secured.map_err(|error: io::Error| format!("no TLS: {error}"))
    }
}

/// Connects to the first address of a host that answers: one that does not must not take the time of the others.
async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let mut failed = "the name has no address".to_owned();
    let addresses = lookup_host((host, port)).await;
    for address in addresses.map_err(|error| error.to_string())? {
        match timeout(EACH, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => failed = error.to_string(),
            Err(_) => failed = format!("{address} does not answer"),
        }
    }
    Err(failed)
}

/// How long one address has.
const EACH: Duration = Duration::from_secs(5);

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let asked = self.clone().ask(request);
        Box::pin(async move {
            let answer = asked.await;
            answer.map_err(|error| instant_acme::Error::Other(Box::new(error)))
        })
    }
}

/// Those whom the system trusts.
fn system() -> Result<RootCertStore, String> {
    let loaded = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(loaded.certs);
    if usable > 0 {
        return Ok(roots);
    }
    let why = loaded.errors.first().map(|error| format!(": {error}"));
    Err(format!(
        "the system trusts nobody who could vouch for the authority: install `ca-certificates`, or write `directory_ca`{}",
        why.unwrap_or_default()
    ))
}

/// The same request as a server reads it.
fn relative<B>(request: Request<B>) -> Result<Request<B>, String> {
    let (mut parts, body) = request.into_parts();
    let host = parts.uri.authority().map_or("", HostPort::as_str);
    let host = HeaderValue::from_str(host);
    let host = host.map_err(|_| "the authority has named an address that is none")?;
    parts.headers.insert(HOST, host);
    let path = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let path = path.parse::<Uri>();
    parts.uri = path.map_err(|_| "the authority has named a path that is none")?;
    Ok(Request::from_parts(parts, body))
}

async fn whole(response: Response<Incoming>) -> Result<(Parts, Bytes), String> {
    let (parts, body) = response.into_parts();
    if body.size_hint().lower() > LARGEST as u64 {
        return Err("the answer is too large".to_owned());
    }
    let body = Limited::new(body, LARGEST).collect().await;
    let body = body.map(Collected::to_bytes);
    let body = body.map_err(|error| format!("no complete answer: {error}"))?;
    Ok((parts, body))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| {
        kind.starts_with(b"application/problem+json") || kind.starts_with(b"application/json")
    })
}

/// As seconds or as a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_to_wait_is_a_number_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            retry_after(&headers, now).map(|wait| wait.as_secs())
        };
        assert_eq!(of("120"), Some(120));
        assert_eq!(of("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(of("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(of("soon"), None);
        assert_eq!(of("-1"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_request_names_the_host_with_its_port() {
        let request = Request::get("https://acme.test:14000/dir?a=b").body(());
        let request = relative(request.unwrap()).unwrap();
        assert_eq!(request.uri(), "/dir?a=b");
        assert_eq!(request.headers()[HOST], "acme.test:14000");
    }
}
