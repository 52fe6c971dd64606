//! A request that is really made, and what has become of it.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{Method, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;

use crate::{
    cli::remote::{Client, Failure, segment},
    explain::{
        Explanation,
        live::{HEADER, Key},
        rehearsal::Question,
    },
};

/// How long the whole response may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often, and how many times, the explanation is asked for, which is there when the request has ended.
const PAUSE: Duration = Duration::from_millis(50);
const TIMES: usize = 20;

/// Makes a request that is to be explained. Gives its id.
///
/// # Errors
///
/// Nobody answers, or does not know the key: a sentence.
pub(super) async fn send(question: &Question, key: &Key) -> Result<String, String> {
    let answer = timeout(PATIENCE, exchange(question, key)).await;
    let answer = answer.map_err(|_| format!("there is no answer after {PATIENCE:?}"))??;
    let id = answer.headers().get(HEADER).and_then(|id| id.to_str().ok());
    let id = id.map(ToOwned::to_owned).ok_or_else(|| {
        format!(
            "the answer ({}) does not say that it is explained: the gateway has no `explain` in its configuration, or \
             another key, or something before it has answered",
            answer.status()
        )
    });
    // The request ends with its response.
    let mut body = answer.into_body();
    while let Some(Ok(_)) = timeout(PATIENCE, body.frame()).await.ok().flatten() {}
    id
}

async fn exchange(question: &Question, key: &Key) -> Result<Response<Incoming>, String> {
    let port = if question.https { 443 } else { 80 };
    let (host, port) = match question.authority.rsplit_once(':') {
        Some((host, own)) if !own.ends_with(']') => (host, own.parse().unwrap_or(port)),
        _ => (question.authority.as_str(), port),
    };
    let address = (host.trim_matches(['[', ']']), port);
    let unreachable =
        |error: io::Error| format!("{} can't be reached: {error}", question.authority);
    let tcp = TcpStream::connect(address).await.map_err(unreachable)?;
    let request = request(question, key)?;
    if !question.https {
        return over(tcp, request).await;
    }
    let name = ServerName::try_from(address.0.to_owned());
    let name = name.map_err(|_| format!("no certificate can be for `{}`", address.0))?;
    let tls = TlsConnector::from(Arc::new(trust()?));
    over(tls.connect(name, tcp).await.map_err(unreachable)?, request).await
}

/// Whom the system trusts.
fn trust() -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Ok(ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn request(question: &Question, key: &Key) -> Result<Request<Full<bytes::Bytes>>, String> {
    let host = question
        .headers
        .iter()
        .find(|(name, _)| *name == header::HOST);
    let host = host
        .and_then(|(_, value)| value.to_str().ok())
        .unwrap_or(&question.authority);
    let path = question.target.split('?').next().unwrap_or_default();
    let token = key.sign(&question.method, host, path, SystemTime::now());
    let mut request = Request::builder()
        .method(&question.method)
        .uri(&question.target)
        .version(Version::HTTP_11)
        .header(HEADER, token);
    if !question
        .headers
        .iter()
        .any(|(name, _)| *name == header::HOST)
    {
        request = request.header(header::HOST, &question.authority);
    }
    for (name, value) in &question.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(question.body.clone()));
    request.map_err(|error| format!("this is no request: {error}"))
}

async fn over<S>(
    stream: S,
    request: Request<Full<bytes::Bytes>>,
) -> Result<Response<Incoming>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| format!("the connection broke: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(broken)
}

/// What has become of the request of this id.
pub(super) fn fetch(
    client: &Client,
    id: &str,
    runtime: &tokio::runtime::Runtime,
) -> Result<Explanation, Failure> {
    let path = format!("/v1/explanations/{}", segment(id));
    let mut answer = client.call(Method::GET, &path, "")?;
    for _ in 0..TIMES {
        if answer.status != StatusCode::NOT_FOUND {
            break;
        }
        runtime.block_on(sleep(PAUSE));
        answer = client.call(Method::GET, &path, "")?;
    }
    answer.accepted()?.json()
}
