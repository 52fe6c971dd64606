//! What the user wrote.
//!
//! [`document`] reads YAML files into a tree that knows its places, [`deserialize`] reads a part of
//! the tree into any `serde` type and finds all problems in one run, [`diagnostic`] tells them. The
//! types below are the configuration itself; what they mean together is for
//! [`snapshot`](crate::snapshot) to say.

pub(crate) mod acme;
pub(crate) mod admin;
mod cache;
mod condition;
pub(crate) mod deserialize;
pub(crate) mod diagnostic;
pub(crate) mod diff;
mod discovery;
pub(crate) mod document;
pub(crate) mod files;
mod health;
mod http2;
mod listen;
mod listener;
mod maintenance;
pub(crate) mod matching;
mod requests;
pub(crate) mod scalar;
pub(crate) mod schema;
mod shaping;
mod sticky;
pub(crate) mod tests;
pub(crate) mod tls;
mod upstream;

use std::{
    num::{NonZeroU16, NonZeroUsize},
    time::Duration,
};

use edgeway_sdk::{
    Period, Secret, Template,
    types::{FilePath, Size},
};
use serde::{Deserialize, de::IgnoredAny};

pub(crate) use self::{
    admin::Admin,
    cache::{
        BypassValue, Cache, CacheZone, DEFAULT_ZONE, Despite, Inactive, KeyValue, Parameter, Query,
        Several, Wish,
    },
    condition::{ConditionConfig, Enforcement},
    deserialize::{At, BESIDE, Entries, Named, NodeRef},
    discovery::{Discover, ResolverConfig},
    health::{BodyTest, FullHealth, Health, HealthKind, Start, Statuses},
    http2::{Http2, MaybeHttp2},
    listen::{Backlog, FileMode, ListenAddress, SocketOptions, TcpKeepalive},
    listener::{Connections, Listener, Tcp},
    maintenance::Maintenance,
    matching::MatchConfig,
    requests::{MaxBody, Requests, Underscores},
    scalar::{EndpointAddress, HostPolicy, Network, OneOrMany, Percent, Status, StatusRange},
    shaping::{By, Mirror, Split},
    sticky::{SameSite, Signing, Sticky, StickyCookie},
    upstream::{
        Balance, Breaker, Condition, Ejection, Endpoint, LiveChanges, Mode, Protocol, ProxyVersion,
        Retries, Timeouts, Upstream, UpstreamTls, tell_repeated,
    },
};

/// The whole file, with its includes.
#[derive(Debug, Deserialize)]
pub(crate) struct Config {
    /// The [`document`] has read it before: it is here so that a key like it can be told what it
    /// should be.
    #[serde(default, rename = "include")]
    _include: IgnoredAny,
    /// Threads that serve requests; as many as there are cores if not given.
    pub(crate) threads: Option<NonZeroUsize>,
    pub(crate) listeners: Entries<Listener>,
    /// Proxies in front of us whose `X-Forwarded-*` are believed.
    #[serde(default)]
    pub(crate) trusted_proxies: Vec<Network>,
    #[serde(default)]
    pub(crate) requests: Requests,
    #[serde(default)]
    pub(crate) connections: Connections,
    /// Idle connections to endpoints that are kept, in all.
    #[serde(default = "Config::upstream_keepalive")]
    pub(crate) upstream_keepalive: NonZeroUsize,
    /// How long a graceful stop waits for running requests.
    #[serde(default = "Config::shutdown_timeout")]
    pub(crate) shutdown_timeout: Period,
    /// When the files are read again.
    #[serde(default)]
    pub(crate) reload: Reload,
    /// Who is asked for names.
    #[serde(default)]
    pub(crate) resolver: ResolverConfig,
    #[serde(default)]
    pub(crate) upstreams: Entries<Upstream>,
    /// Where routes store responses.
    #[serde(default)]
    pub(crate) caches: Entries<CacheZone>,
    /// Where the running gateway is looked at and changed.
    pub(crate) admin: Option<Admin>,
    /// Who may ask what becomes of requests that clients send.
    pub(crate) explain: Option<ExplainConfig>,
    /// Closes everything.
    pub(crate) maintenance: Option<At<Maintenance>>,
    #[serde(default)]
    pub(crate) filters: Vec<Named>,
    /// Needed where a listener speaks HTTP.
    #[serde(default)]
    pub(crate) routes: Vec<At<Route>>,
    /// Read by those who run them: see [`tests`].
    #[serde(default)]
    pub(crate) tests: Vec<NodeRef>,
}

impl Config {
    fn upstream_keepalive() -> NonZeroUsize {
        NonZeroUsize::MIN.saturating_add(511)
    }

    fn shutdown_timeout() -> Period {
        Period(Duration::from_secs(30))
    }
}

/// `reload: { watch: 1s }`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Reload {
    /// How often the files are looked at; they are not if not given.
    pub(crate) watch: Option<scalar::Interval>,
}

/// `explain: { key: env:EDGEWAY_EXPLAIN_KEY }`
#[derive(Debug, Deserialize)]
pub(crate) struct ExplainConfig {
    /// What signs such requests.
    pub(crate) key: At<Secret>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Route {
    /// For logs and tables; the pattern if not given.
    pub(crate) name: Option<At<String>>,
    #[serde(rename = "match", default)]
    pub(crate) matching: MatchConfig,
    /// Closes this route.
    pub(crate) maintenance: Option<At<Maintenance>>,
    #[serde(default)]
    pub(crate) filters: Vec<Named>,
    pub(crate) strip_prefix: Option<At<String>>,
    pub(crate) add_prefix: Option<At<String>>,
    pub(crate) rewrite: Option<At<Rewrite>>,
    pub(crate) upstream: Option<At<String>>,
    /// Several upstreams, by weight.
    pub(crate) split: Option<At<Split>>,
    /// An upstream that gets copies of requests.
    pub(crate) mirror: Option<At<Mirror>>,
    /// How long everything may take with all tries; instead of the `total` of the upstream.
    pub(crate) timeout: Option<At<scalar::Span>>,
    /// The largest body of a request; instead of that of `requests`.
    pub(crate) max_body: Option<At<MaxBody>>,
    /// Whether requests that are not idempotent may be tried again after something of them was sent.
    pub(crate) retry_unsafe: Option<At<bool>>,
    /// Whether calls of gRPC-Web are made calls of gRPC.
    pub(crate) grpc_web: Option<At<bool>>,
    /// Whether and how responses of the upstream are stored.
    pub(crate) cache: Option<At<Cache>>,
    /// Looked at before another target, if there is one.
    pub(crate) files: Option<At<files::Files>>,
    pub(crate) redirect: Option<At<Redirect>>,
    pub(crate) respond: Option<At<Respond>>,
}

/// `rewrite: { pattern: "^/old/(.*)$", to: "/new/$1" }`
#[derive(Debug, Deserialize)]
pub(crate) struct Rewrite {
    pub(crate) pattern: At<String>,
    pub(crate) to: At<String>,
}

/// `redirect: { status: 301, scheme: https }`; what is not given stays as the client sent it.
#[derive(Debug, Deserialize)]
pub(crate) struct Redirect {
    pub(crate) status: Option<At<u16>>,
    /// The whole new location. Excludes the others.
    pub(crate) to: Option<Template>,
    pub(crate) scheme: Option<scalar::SchemeName>,
    pub(crate) host: Option<Template>,
    pub(crate) port: Option<NonZeroU16>,
    pub(crate) path: Option<Template>,
    /// Whether the query goes along; it does if not given.
    pub(crate) keep_query: Option<bool>,
}

/// `respond: { status: 200, json: { message: Hello world } }`
#[derive(Debug, Deserialize)]
pub(crate) struct Respond {
    #[serde(default)]
    pub(crate) status: Status,
    #[serde(default)]
    pub(crate) headers: Entries<Template>,
    pub(crate) text: Option<Template>,
    pub(crate) json: Option<At<scalar::Json>>,
    pub(crate) file: Option<At<FilePath>>,
}

/// The largest file that a fixed reply may hold: it is kept in memory.
pub(crate) const MAX_FIXED_FILE: Size = Size(1 << 20);
