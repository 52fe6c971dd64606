//! Asks the services that help filters to decide: an authentication service, an issuer of tokens.
//!
//! An answer comes from where the configuration says or not at all: redirects are not followed, no
//! proxy of the environment is used, and what begins with TLS does not go on without. It comes in time
//! and is not too large, or it is a failure.

use std::{error::Error as _, net::IpAddr, path::PathBuf, sync::OnceLock, time::Duration};

use bytes::Bytes;
use edgeway_sdk::{Build, BuildError};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use reqwest::{Request, redirect};
use tokio::{sync::Semaphore, time::timeout};

pub(crate) use reqwest::Url;

/// A client for one service. Its connections are kept for the next question.
pub(crate) struct Client {
    /// Made late: checking a configuration must not load certificates.
    made: OnceLock<reqwest::Client>,
    /// One for each question that may be under way.
    turns: Semaphore,
    security: Security,
    version: Version,
    socket: Option<PathBuf>,
}

/// Which HTTP a service is asked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

/// Whether a service is asked over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Security {
    Tls,
    Clear,
}

/// How long an answer may take, and how large its body may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) timeout: Duration,
    /// In bytes.
    pub(crate) largest: usize,
}

/// What a service has answered, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Client {
    /// A client for the service at this URL.
    pub(crate) fn new(url: &Url) -> Self {
        Self {
            made: OnceLock::new(),
            turns: Semaphore::new(MOST),
            security: match url.scheme() {
                "https" => Security::Tls,
                _ => Security::Clear,
            },
            version: Version::Http1,
            socket: None,
        }
    }

    /// The same, by HTTP/2 alone, also without TLS.
    pub(crate) fn over_http2(mut self) -> Self {
        self.version = Version::Http2;
        self
    }

    /// The same, by a unix socket: the URL tells `Host` and path then.
    pub(crate) fn by_socket(mut self, socket: Option<PathBuf>) -> Self {
        self.socket = socket;
        self
    }

    /// The answer to a request. The error tells an operator why there is none: a service that has too many
    /// questions to answer already is not asked.
    pub(crate) async fn ask(&self, request: Request, limits: Limits) -> Result<Answer, String> {
        let turn = self.turns.try_acquire();
        let _turn = turn.map_err(|_| format!("{MOST} questions wait for an answer already"))?;
        let client = self.client()?;
        let answer = timeout(limits.timeout, answer(client, request, limits.largest));
        let in_time = answer.await;
        in_time.unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }

    /// What asks. If it can't be made, it is tried again for the next question.
    fn client(&self) -> Result<&reqwest::Client, String> {
        if let Some(client) = self.made.get() {
            return Ok(client);
        }
        let client = self.make()?;
        Ok(self.made.get_or_init(|| client))
    }

    /// What has no TLS needs no certificates of authorities either: a system without any, such as a
    /// small container, would be refused by the platform's verifier.
    fn make(&self) -> Result<reqwest::Client, String> {
        let client = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .pool_idle_timeout(IDLE)
            .user_agent("edgeway");
        let client = match self.security {
            Security::Tls => client.https_only(true),
            Security::Clear => client.tls_certs_only([]),
        };
        let client = match self.version {
            Version::Http1 => client.http1_only(),
            Version::Http2 => client.http2_prior_knowledge(),
        };
        let client = match &self.socket {
            Some(socket) => client.unix_socket(socket.as_path()),
            None => client,
        };
        client.build().map_err(|error| chain(&error))
    }
}

async fn answer(
    client: &reqwest::Client,
    request: Request,
    largest: usize,
) -> Result<Answer, String> {
    let sent = client.execute(request).await;
    let response = sent.map_err(|error| chain(&error))?;
    let (head, mut rest) = http::Response::from(response).into_parts();
    let (mut body, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = rest.frame().await {
        let piece = match frame.map_err(|error| chain(&error))?.into_data() {
            Ok(piece) => piece,
            Err(other) => {
                trailers = other.into_trailers().unwrap_or_default();
                continue;
            }
        };
        if body.len() + piece.len() > largest {
            return Err(format!("the answer is larger than {largest} bytes"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body: body.into(),
        trailers,
    })
}

/// The error with its causes: the outermost alone says no more than that something went wrong. Without the
/// URL: its query may be somebody's.
fn chain(error: &reqwest::Error) -> String {
    let mut text = match error.url() {
        Some(url) => error
            .to_string()
            .replace(url.as_str(), url.host_str().unwrap_or_default()),
        None => error.to_string(),
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A URL that a service can be asked at.
pub(crate) fn url(key: &str, text: &str) -> Result<Url, BuildError> {
    let wrong = |what: &str| BuildError::at(key, format!("`{text}` {what}"));
    let url = Url::parse(text).map_err(|error| wrong(&format!("is not a URL: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        // Not quoted: it holds a password.
        let message = "a URL with a user name or password in it would end up in logs";
        return Err(BuildError::at(key, message));
    }
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(wrong("is neither an `https` nor an `http` URL"));
    }
    Ok(url)
}

/// Warns of a service that is asked over a network without TLS: `what` can be changed on the way.
pub(crate) fn warn_of_clear_text(key: &str, url: &Url, what: &str, build: &mut Build<'_>) {
    if is_clear_text(url) {
        let message = format!("{what} without TLS can be replaced on the way");
        build.warn(BuildError::at(key, message).help("use `https`"));
    }
}

/// Whether what is sent there can be read on the way: without TLS, and not to this machine.
pub(crate) fn is_clear_text(url: &Url) -> bool {
    url.scheme() == "http" && !is_loopback(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address: Option<IpAddr> = host.parse().ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

/// So many questions may be under way to one service, those that nobody waits for any more among them.
const MOST: usize = 256;
/// Shorter than services keep connections, so that they seldom close one that is just being used.
const IDLE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Method;
    use tokio::{
        net::TcpListener,
        task::{self, JoinSet},
    };

    use super::*;

    #[tokio::test]
    async fn a_service_that_does_not_answer_is_asked_so_much_and_no_more() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap();
        let url = Url::parse(&format!("http://{address}/")).unwrap();
        let client = Arc::new(Client::new(&url));
        let ask = || {
            let (client, request) = (Arc::clone(&client), Request::new(Method::GET, url.clone()));
            let limits = Limits {
                timeout: Duration::from_secs(600),
                largest: 1,
            };
            async move { client.ask(request, limits).await }
        };
        let mut waiting = JoinSet::new();
        for _ in 0..MOST {
            waiting.spawn(ask());
        }
        while client.turns.available_permits() > 0 {
            task::yield_now().await;
        }
        let error = ask().await.err().unwrap();
        assert!(error.contains("256 questions"), "{error}");
        // Those that are given up make room.
        waiting.shutdown().await;
        assert_eq!(client.turns.available_permits(), MOST);
    }
}
