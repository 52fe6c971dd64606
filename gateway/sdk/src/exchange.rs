//! One request and what becomes of it, apart from the two heads.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, SocketAddr},
    num::NonZeroU64,
    sync::{Arc, OnceLock},
    time::Instant,
};

use bytes::Bytes;
use http::StatusCode;

use crate::{
    Trace, Values,
    body::{Caller, Edit},
};

/// How a client reached the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS, here or at a trusted proxy in front.
    Https,
}

impl Scheme {
    /// As it is written in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One request and what becomes of it: what all hooks of it share.
///
/// The gateway makes one for each request. Filters see it through their views; unit tests get one
/// from [`test`](crate::test).
pub struct Exchange {
    /// What filters tell each other.
    pub values: Values,
    /// The address of the connection: the client's, or that of a proxy in front of us.
    pub peer: SocketAddr,
    /// The address of the client, as far as trusted proxies tell.
    pub client: IpAddr,
    /// How the client reached the edge.
    pub scheme: Scheme,
    /// The host that was asked for: lower case, no port, no trailing dot.
    pub host: String,
    /// The path as routes match it, where normalising has changed it.
    pub normalised: Option<Box<str>>,
    /// The name of the route.
    pub route: Arc<str>,
    /// When the head had arrived.
    pub started: Instant,
    /// Edits of the request's body, in the order of the chain.
    pub request_edits: Vec<Edit>,
    /// Edits of the response's body, in the order they were asked for: from the end of the chain up.
    pub response_edits: Vec<Edit>,
    /// Who has written the response's body.
    pub content: Content,
    /// The body that takes the place of the response's, before the edits.
    pub replacement: Option<Bytes>,
    /// The filter whose hook is being called.
    pub caller: Caller,
    /// The reason of a refusal or a failure, for the log.
    pub reason: Option<String>,
    /// The filter that replied.
    pub decided_by: Option<Arc<str>>,
    /// What filters have refused, or would have refused if they did not only report.
    pub refusals: Vec<Refusal>,
    /// How fast the response's body may go out, if a filter has said so.
    pub speed: Option<Speed>,
    /// What the cache did for the request, on routes that have one.
    pub cached: Option<Cached>,
    /// The trace that the request is part of, if a filter follows it.
    pub trace: Option<Trace>,
    id: OnceLock<Box<str>>,
}

/// Who has written the body of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Content {
    /// Whoever has made the response: an endpoint, a target, a filter.
    #[default]
    Given,
    /// The gateway, for a refusal or a failure that has none of its own, with what the client may read of it.
    Standard(Option<Cow<'static, str>>),
    /// A filter, in the place of another one ([`Response::replace_body`](crate::Response::replace_body)).
    Replaced,
}

/// What a filter has decided against a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The filter, as its place in the configuration is called.
    pub filter: Arc<str>,
    /// The status that the client has seen, or would have.
    pub status: StatusCode,
    /// Which of the filter's rules has decided, if it has several.
    pub rule: Option<Box<str>>,
    /// Whom or what it was about.
    pub key: Option<Box<str>>,
    /// Why, for the operator.
    pub reason: Option<Box<str>>,
    /// Whether it was only reported, and the request has gone on.
    pub reported: bool,
}

/// How fast a body may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speed {
    /// In bytes per second.
    pub rate: NonZeroU64,
    /// How many bytes go out as fast as they can before that.
    pub after: u64,
}

/// What the cache did for a request, in words for logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cached {
    /// `hit`, `stale`, `miss`, `expired`, `revalidated` or `bypass`.
    pub outcome: &'static str,
    /// Why the response was not stored, or not served from the cache, if there is more to say.
    pub reason: Option<&'static str>,
}

impl Exchange {
    /// An exchange that begins now, with a client that is the peer itself.
    pub fn new(peer: SocketAddr) -> Self {
        Self {
            values: Values::default(),
            peer,
            client: peer.ip(),
            scheme: Scheme::Http,
            host: String::new(),
            normalised: None,
            route: Arc::default(),
            started: Instant::now(),
            request_edits: Vec::new(),
            response_edits: Vec::new(),
            content: Content::default(),
            replacement: None,
            caller: Caller::default(),
            reason: None,
            decided_by: None,
            refusals: Vec::new(),
            speed: None,
            cached: None,
            trace: None,
            id: OnceLock::new(),
        }
    }

    /// The id of the request: the one that was set, or one of 128 random bits made up on first use.
    pub fn id(&self) -> &str {
        self.id
            .get_or_init(|| format!("{:032x}", rand::random::<u128>()).into())
    }

    /// Gives the request an id, for example that of a trusted proxy in front. The first id stays:
    /// log lines that were written with it must not lose their request.
    pub fn set_id(&self, id: &str) {
        self.id.get_or_init(|| id.into());
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("client", &self.client)
            .field("host", &self.host)
            .field("route", &self.route)
            .finish_non_exhaustive()
    }
}
