//! A request that nobody has made, and what endpoints answer to it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use edgeway_sdk::Identity;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use log::debug;
use pingora::{
    ErrorType, OrErr, Result,
    connectors::L4Connect,
    protocols::l4::{socket::SocketAddr, stream::Stream},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::Explanation;

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) method: Method,
    pub(crate) https: bool,
    /// With the port, if one was written.
    pub(crate) authority: String,
    /// Path and query.
    pub(crate) target: String,
    /// In the order in which they are sent; without `Host`, unless that is another one.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
    pub(crate) client: IpAddr,
    /// The listener, if it is not to be chosen by the URL.
    pub(crate) listener: Option<String>,
    /// Who is calling, if the filters that would find out can't be asked.
    pub(crate) identity: Option<Identity>,
}

impl Question {
    /// A request for a URL, with nothing but that.
    pub(crate) fn of_url(method: Method, url: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{url}` is no URL of a request: {why}");
        let uri: Uri = url
            .parse()
            .map_err(|_| wrong("write `https://example.com/path`"))?;
        let https = match uri.scheme_str() {
            Some("https" | "wss") => true,
            Some("http" | "ws") => false,
            Some(_) => return Err(wrong("the scheme is `http` or `https`")),
            None => return Err(wrong("write `https://` or `http://` before it")),
        };
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        if authority.contains('@') {
            return Err(wrong(
                "browsers send no name and password of a URL; send `Authorization`",
            ));
        }
        // As it is written: what is odd about a path is of interest.
        let target = url.split_once("://").map_or("", |(_, rest)| rest);
        let target = target.find(['/', '?']).and_then(|at| target.get(at..));
        let target = target
            .and_then(|target| target.split('#').next())
            .unwrap_or("/");
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self {
            method,
            https,
            authority,
            target: format!("{slash}{target}"),
            headers: Vec::new(),
            body: Bytes::new(),
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            listener: None,
            identity: None,
        })
    }
}

/// What endpoints answer.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
}

impl Default for Made {
    fn default() -> Self {
        Self {
            status: StatusCode::OK,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }
}

/// A request that nobody has made, on its way through the proxy.
pub(crate) struct Rehearsal {
    pub(crate) identity: Option<Identity>,
    endpoint: Arc<Endpoint>,
    told: Mutex<Option<Box<Explanation>>>,
}

impl Rehearsal {
    pub(crate) fn new(identity: Option<Identity>, answer: &Made) -> Self {
        Self {
            identity,
            endpoint: Arc::new(Endpoint::new(answer)),
            told: Mutex::new(None),
        }
    }

    /// What takes the place of a connection to an endpoint.
    pub(crate) fn endpoint(&self) -> Arc<dyn L4Connect + Send + Sync> {
        Arc::clone(&self.endpoint) as _
    }

    /// Tells what has become of the request.
    pub(crate) fn tell(&self, explanation: Box<Explanation>) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(explanation);
    }

    /// What was told; nothing if the request has not come as far as the proxy.
    pub(crate) fn take(&self) -> Option<Box<Explanation>> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.take()
    }
}

impl fmt::Debug for Rehearsal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rehearsal")
    }
}

/// An endpoint that speaks HTTP/1.1, and answers the same to everybody.
#[derive(Debug)]
struct Endpoint {
    head: Bytes,
    body: Bytes,
}

impl Endpoint {
    fn new(answer: &Made) -> Self {
        let mut head = format!("HTTP/1.1 {}\r\n", answer.status).into_bytes();
        let framed =
            |name: &HeaderName| [header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(name);
        for (name, value) in answer.headers.iter().filter(|(name, _)| !framed(name)) {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.extend_from_slice(part);
            }
        }
        let silent = answer.status.is_informational()
            || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&answer.status);
        if !silent {
            head.extend_from_slice(format!("content-length: {}\r\n", answer.body.len()).as_bytes());
        }
        head.extend_from_slice(b"\r\n");
        Self {
            head: head.into(),
            body: if silent {
                Bytes::new()
            } else {
                answer.body.clone()
            },
        }
    }

    /// Reads a request to its end, and answers.
    async fn answer(self: Arc<Self>, mut stream: UnixStream) -> std::io::Result<()> {
        let mut read = BytesMut::new();
        let end = loop {
            if stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
            if let Some(end) = memchr::memmem::find(&read, b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = read.split_to(end);
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let field = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(':'));
            let found = lines.find(|(known, _)| *known == name);
            found.map(|(_, value)| value.trim().to_owned())
        };
        let length = field("content-length").and_then(|length| length.parse::<usize>().ok());
        let chunked = field("transfer-encoding").is_some();
        // Chunks that would look like the last one within a body are no matter: nobody looks at it.
        while (chunked && !read.ends_with(b"0\r\n\r\n")) || read.len() < length.unwrap_or_default()
        {
            if stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        }
        stream.write_all(&self.head).await?;
        if !head.starts_with("head ") {
            stream.write_all(&self.body).await?;
        }
        // Until nobody wants to know more.
        while stream.read_buf(&mut read).await? > 0 {
            read.clear();
        }
        Ok(())
    }
}

/// Connections to it are sockets of this process.
#[async_trait]
impl L4Connect for Endpoint {
    async fn connect(&self, _: &SocketAddr) -> Result<Stream> {
        let (ours, theirs) = UnixStream::pair().or_err(
            ErrorType::InternalError,
            "a socket of this process can't be had",
        )?;
        let endpoint = Arc::new(Self {
            head: self.head.clone(),
            body: self.body.clone(),
        });
        tokio::spawn(async move {
            if let Err(error) = endpoint.answer(theirs).await {
                debug!("a made-up endpoint has ended: {error}");
            }
        });
        Ok(ours.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_asked_for_as_it_is_written() {
        let of = |url: &str| {
            let question = Question::of_url(Method::GET, url).unwrap();
            (question.https, question.authority, question.target)
        };
        let all =
            |https, authority: &str, target: &str| (https, authority.to_owned(), target.to_owned());
        assert_eq!(of("http://a.org"), all(false, "a.org", "/"));
        assert_eq!(
            of("https://A.org:8443/a//../%2e?x=/y#z"),
            all(true, "A.org:8443", "/a//../%2e?x=/y")
        );
        assert_eq!(of("http://a.org?x"), all(false, "a.org", "/?x"));
        for wrong in ["/a", "a.org/x", "ftp://a.org/", "http://me@a.org/", ""] {
            assert!(Question::of_url(Method::GET, wrong).is_err(), "{wrong}");
        }
    }
}
