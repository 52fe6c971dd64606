//! What the user wrote.
//!
//! [`document`] reads YAML files into a tree that knows its places, [`deserialize`] reads a part of
//! the tree into any `serde` type and finds all problems in one run, [`diagnostic`] tells them. The
//! types below are the configuration itself; what they mean together is for
//! [`snapshot`](crate::snapshot) to say.

pub(crate) mod deserialize;
pub(crate) mod diagnostic;
pub(crate) mod document;
pub(crate) mod matching;
pub(crate) mod scalar;

use std::{
    num::{NonZeroU16, NonZeroU32, NonZeroUsize},
    time::Duration,
};

use edgeway_sdk::{
    Period, Template,
    types::{FilePath, Size},
};
use serde::{Deserialize, de::IgnoredAny};

pub(crate) use self::{
    deserialize::{At, Entries, Named},
    matching::MatchConfig,
    scalar::{EndpointAddress, HeaderKey, HostPolicy, ListenAddress, Network, OneOrMany, Status},
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
    /// Idle connections to endpoints that are kept, in all.
    #[serde(default = "Config::upstream_keepalive")]
    pub(crate) upstream_keepalive: NonZeroUsize,
    /// How long a graceful stop waits for running requests.
    #[serde(default = "Config::shutdown_timeout")]
    pub(crate) shutdown_timeout: Period,
    #[serde(default)]
    pub(crate) upstreams: Entries<Upstream>,
    #[serde(default)]
    pub(crate) filters: Vec<Named>,
    pub(crate) routes: Vec<At<Route>>,
}

impl Config {
    fn upstream_keepalive() -> NonZeroUsize {
        NonZeroUsize::MIN.saturating_add(511)
    }

    fn shutdown_timeout() -> Period {
        Period(Duration::from_secs(30))
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Listener {
    pub(crate) bind: At<ListenAddress>,
}

/// What holds for every request, whatever its route.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(crate) struct Requests {
    pub(crate) underscore_headers: Underscores,
    /// How long a connection may wait for its next request.
    pub(crate) keepalive: Period,
    /// How long a client may pause within a body.
    pub(crate) read_timeout: Period,
    /// How long a client may take no byte of a response.
    pub(crate) write_timeout: Period,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            underscore_headers: Underscores::Drop,
            keepalive: Period(Duration::from_secs(75)),
            read_timeout: Period(Duration::from_secs(60)),
            write_timeout: Period(Duration::from_secs(60)),
        }
    }
}

/// What becomes of request headers with `_` in their names. WSGI and CGI applications can't tell
/// `X_Auth_Role` from `X-Auth-Role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Underscores {
    Drop,
    Keep,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Upstream {
    #[serde(default)]
    pub(crate) balance: Balance,
    pub(crate) endpoints: At<Vec<At<Endpoint>>>,
    /// Failures within `fail_timeout` after which an endpoint is left out; 0 never leaves one out.
    #[serde(default = "Upstream::max_fails")]
    pub(crate) max_fails: u32,
    /// For how long, and the time in which failures are counted.
    #[serde(default = "Upstream::fail_timeout")]
    pub(crate) fail_timeout: Period,
    /// How many endpoints a request is tried on at most.
    #[serde(default = "Upstream::tries")]
    pub(crate) tries: NonZeroU32,
    #[serde(default)]
    pub(crate) timeouts: Timeouts,
    /// The `Host` that endpoints see.
    #[serde(default)]
    pub(crate) host: HostPolicy,
    /// Response headers that clients don't see.
    #[serde(default = "Upstream::hide_headers")]
    pub(crate) hide_headers: Vec<HeaderKey>,
}

impl Upstream {
    fn max_fails() -> u32 {
        1
    }

    fn fail_timeout() -> Period {
        Period(Duration::from_secs(10))
    }

    fn tries() -> NonZeroU32 {
        NonZeroU32::MIN.saturating_add(2)
    }

    fn hide_headers() -> Vec<HeaderKey> {
        vec![
            HeaderKey(http::header::SERVER),
            HeaderKey(http::HeaderName::from_static("x-powered-by")),
        ]
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Balance {
    #[default]
    RoundRobin,
}

/// `product-1:8080`, or `{ address: product-1:8080, weight: 5 }`.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: EndpointAddress,
    pub(crate) weight: NonZeroU16,
    pub(crate) backup: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub(crate) struct Timeouts {
    pub(crate) connect: Period,
    pub(crate) read: Period,
    pub(crate) write: Period,
    pub(crate) idle: Period,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Period(Duration::from_secs(5)),
            read: Period(Duration::from_secs(30)),
            write: Period(Duration::from_secs(30)),
            idle: Period(Duration::from_secs(60)),
        }
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Route {
    /// For logs and tables; the pattern if not given.
    pub(crate) name: Option<At<String>>,
    #[serde(rename = "match", default)]
    pub(crate) matching: MatchConfig,
    #[serde(default)]
    pub(crate) filters: Vec<Named>,
    pub(crate) strip_prefix: Option<At<String>>,
    pub(crate) add_prefix: Option<At<String>>,
    pub(crate) rewrite: Option<At<Rewrite>>,
    pub(crate) upstream: Option<At<String>>,
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
