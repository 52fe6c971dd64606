//! Hooks without a socket, for unit tests.

use std::{
    any::Any,
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request, response};
use serde::de::DeserializeOwned;

use crate::{
    Build, BuildError, Error, Filter, Flow, Hooks, Identity, Origin, Record, Reply, Request,
    Resources, Response, Result, Upstream, exchange::Exchange, message::RequestHead,
};

/// One request to a filter under test.
///
/// ```
/// use edgeway_sdk::{prelude::*, test::Trial};
///
/// struct Teapot;
///
/// #[async_trait]
/// impl Filter for Teapot {
///     async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
///         Ok(if request.path() == "/coffee" { Reply::new(418).into() } else { Flow::Continue })
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// assert_eq!(Trial::get("/coffee").run(&Teapot).await.status(), 418);
/// assert!(Trial::get("/tea").run(&Teapot).await.passed());
/// # })
/// ```
#[derive(Debug)]
pub struct Trial {
    head: Asked,
    exchange: Exchange,
    answer: response::Parts,
    delay: Duration,
}

impl Trial {
    /// A `GET` of this target, from 192.0.2.1, answered by an upstream with 200 and no headers.
    pub fn get(target: &str) -> Self {
        Self::new(Method::GET, target)
    }

    /// A request with this method.
    ///
    /// # Panics
    ///
    /// If `target` is no request target.
    pub fn new(method: Method, target: &str) -> Self {
        let request = http::Request::builder().method(method).uri(target).body(());
        let (parts, ()) = request.expect("a request target").into_parts();
        let head = Asked {
            parts,
            body: Bytes::new(),
        };
        let mut exchange = Exchange::new(([192, 0, 2, 1], 40_000).into());
        "test.example".clone_into(&mut exchange.host);
        exchange.route = "test".into();
        let (answer, ()) = http::Response::new(()).into_parts();
        Self {
            head,
            exchange,
            answer,
            delay: Duration::ZERO,
        }
    }

    /// Adds a header to the request.
    ///
    /// # Panics
    ///
    /// If that is no header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let (name, value) = header_of(name, value);
        self.head.parts.headers.append(name, value);
        self
    }

    /// Has this body follow, for [`Request::body`].
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.head.body = body.into();
        self
    }

    /// Has a filter before this one, or the gateway, have set a value.
    #[must_use]
    pub fn value<T: Any + Send + Sync>(mut self, value: T) -> Self {
        self.exchange.values.insert(value);
        self
    }

    /// Adds `Authorization: Bearer` and the token.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header(header::AUTHORIZATION.as_str(), &format!("Bearer {token}"))
    }

    /// Has the request come from this address.
    #[must_use]
    pub fn client(mut self, address: impl Into<IpAddr>) -> Self {
        self.exchange.client = address.into();
        self
    }

    /// Has the connection come from this address: the client's, or that of a proxy in front. The
    /// client stays 192.0.2.1 unless [`client`](Self::client) says otherwise.
    #[must_use]
    pub fn peer(mut self, address: impl Into<SocketAddr>) -> Self {
        self.exchange.peer = address.into();
        self
    }

    /// Has a filter before this one have found out who is calling.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.exchange.values.insert(identity);
        self
    }

    /// Has the upstream answer with this status.
    #[must_use]
    pub fn answer(mut self, status: StatusCode) -> Self {
        self.answer.status = status;
        self
    }

    /// Adds a header to the upstream's answer.
    ///
    /// # Panics
    ///
    /// If that is no header.
    #[must_use]
    pub fn answer_header(mut self, name: &str, value: &str) -> Self {
        let (name, value) = header_of(name, value);
        self.answer.headers.append(name, value);
        self
    }

    /// Runs those of the filter's hooks that it says it has, in the order that the gateway calls them, but for the
    /// log hook: call that with [`Outcome::record`]. Edits of bodies are asked for and not run.
    pub async fn run(mut self, filter: &impl Filter) -> Outcome {
        let hooks = filter.hooks();
        let mut request = Request::new(&mut self.head, &mut self.exchange);
        let flow = match hooks.has(Hooks::REQUEST) {
            true => filter.request(&mut request).await,
            false => Ok(Flow::Continue),
        };
        let mut reply = match flow {
            Ok(Flow::Continue) => None,
            Ok(Flow::Delay(time)) => {
                self.delay = time;
                None
            }
            Ok(Flow::Respond(reply)) => Some(reply),
            Err(error) => Some(Reply::from(error)),
        };
        let mut sent = self.head.parts.clone();
        if reply.is_none() && hooks.has(Hooks::UPSTREAM) {
            let result =
                filter.upstream(&mut Upstream::new(&mut sent, &mut self.exchange, "test", 1));
            reply = result.err().map(Reply::from);
        }
        let origin = if reply.is_some() {
            Origin::Reply
        } else {
            Origin::Upstream
        };
        if let Some(reply) = &reply {
            self.answer.status = reply.status();
            self.answer.headers = reply.headers().clone();
        }
        let mut response = Response::new(
            &mut self.answer,
            &self.head.parts,
            &mut self.exchange,
            origin,
        );
        let mut shown = Ok(());
        if hooks.has(Hooks::FETCHED) {
            shown = filter.fetched(&mut response);
        }
        if shown.is_ok() && hooks.has(Hooks::RESPONSE) {
            shown = filter.response(&mut response);
        }
        Outcome {
            request: self.head.parts,
            sent,
            exchange: self.exchange,
            answer: self.answer,
            reply,
            failure: shown.err(),
            origin,
            delay: self.delay,
        }
    }
}

/// The request of a trial.
#[derive(Debug)]
struct Asked {
    parts: request::Parts,
    body: Bytes,
}

#[async_trait]
impl RequestHead for Asked {
    fn parts(&self) -> &request::Parts {
        &self.parts
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.parts.set(name, value);
    }

    fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.parts.append(name, value);
    }

    fn remove(&mut self, name: &HeaderName) {
        RequestHead::remove(&mut self.parts, name);
    }

    fn set_query(&mut self, query: Option<&str>) {
        self.parts.set_query(query);
    }

    fn has_body(&mut self) -> bool {
        !self.body.is_empty()
    }

    async fn body(&mut self, max: usize) -> Result<Bytes> {
        if self.body.len() > max {
            return Err(Error::status(413));
        }
        Ok(self.body.clone())
    }
}

/// What a filter made of a [`Trial`].
#[derive(Debug)]
pub struct Outcome {
    /// The request as later filters see it.
    pub request: request::Parts,
    /// The request as the endpoint sees it; without meaning if the filter replied.
    pub sent: request::Parts,
    /// All that belongs to the request but the heads.
    pub exchange: Exchange,
    /// The response as the client sees it.
    pub answer: response::Parts,
    /// The reply, if the filter made one or failed.
    pub reply: Option<Reply>,
    /// The failure of a hook for responses.
    pub failure: Option<Error>,
    /// Where the response came from.
    pub origin: Origin,
    /// For how long the filter would hold the request. A trial does not wait.
    pub delay: Duration,
}

impl Outcome {
    /// The record that a log hook is given, with figures that a test may change: 1.5 seconds, one
    /// attempt, no bytes.
    pub fn record(&self) -> Record<'_> {
        let upstream = self.passed().then_some("test");
        Record {
            request: &self.request,
            exchange: &self.exchange,
            status: Some(self.answer.status),
            response_headers: Some(&self.answer.headers),
            origin: self.origin,
            bytes_received: 0,
            bytes_sent: 0,
            upstream,
            endpoint: upstream,
            attempts: u32::from(self.passed()),
            tries: &[],
            listener: "http",
            filtered: None,
            duration: Duration::from_millis(1_500),
            upstream_duration: upstream.map(|_| Duration::from_millis(1_250)),
            error: None,
        }
    }

    /// The status that the client sees.
    pub fn status(&self) -> StatusCode {
        self.answer.status
    }

    /// Whether the filter let the request pass.
    pub fn passed(&self) -> bool {
        self.reply.is_none()
    }

    /// The headers that the client sees.
    pub fn headers(&self) -> &HeaderMap {
        &self.answer.headers
    }

    /// A header that the client sees.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.answer.headers.get(name)?.to_str().ok()
    }

    /// A header that the endpoint sees.
    pub fn sent_header(&self, name: &str) -> Option<&str> {
        self.sent.headers.get(name)?.to_str().ok()
    }
}

/// A filter built from this JSON (which is YAML too) by the function that
/// [`Filters::add`](crate::Filters::add) is given. What it asks for beside that is dropped.
///
/// # Errors
///
/// What `build` finds wrong, or `serde` before it.
pub fn build<C: DeserializeOwned, F>(
    json: &str,
    build: impl FnOnce(C, &mut Build<'_>) -> Result<F, BuildError>,
) -> Result<F, BuildError> {
    let config = serde_json::from_str(json).map_err(BuildError::new)?;
    build(
        config,
        &mut Build::new(&Resources::default(), Path::new(".")),
    )
}

fn header_of(name: &str, value: &str) -> (HeaderName, HeaderValue) {
    (
        name.parse().expect("a header name"),
        value.parse().expect("a header value"),
    )
}
