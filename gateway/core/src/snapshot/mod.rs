//! What runs: one configuration, compiled.
//!
//! `Config -> Gateway` is one pure function ([`load`]) that `check`, start and reload share: there is
//! no second validation. The [`Gateway`] in force sits behind one [`Live`]; a request pins it once and
//! keeps it to its end. What must outlive a configuration is a resource.

mod compile;
mod condition;
mod limits;
mod live;
mod maintenance;
mod route;
pub(crate) mod serving;
pub(crate) mod shaping;
mod written;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use edgeway_sdk::{Secret, filters::Background};
use http::HeaderName;
use ipnet::IpNet;

pub(crate) use self::{
    compile::{Case, Expected, ExpectedSent, Loaded, load},
    condition::{Applies, Condition},
    limits::{ConnectionLimits, RequestLimits},
    live::{Live, Pinned},
    maintenance::{Closing, Maintenance, Plan, Said, Switch},
    route::{
        Chain, Destination, Fixed, FixedBody, Forward, Link, Redirection, Rewriting, Route, Target,
    },
    serving::{Otherwise, Serving},
    written::Written,
};
use crate::{
    cache::zone::{ZoneSpec, Zones},
    config::tls::{CertificateName, parent},
    config::{Http2, ListenAddress, Network, SocketOptions},
    explain,
    route::Router,
    server::tls::TlsSpec,
    telemetry::{failures::Failures, refused::Refused, tail::Tail},
    upstream::{Cluster, discovery::Resolver},
};

/// One configuration, compiled, immutable.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) threads: Option<usize>,
    pub(crate) listeners: Vec<ListenerSpec>,
    pub(crate) trusted: Networks,
    pub(crate) requests: RequestLimits,
    pub(crate) connections: ConnectionLimits,
    pub(crate) upstream_keepalive: usize,
    pub(crate) shutdown_timeout: Duration,
    /// Request headers that filters set for upstreams: clients may not send them.
    pub(crate) reserved: Box<[HeaderName]>,
    pub(crate) router: Router<Arc<Route>>,
    /// For a request that no route matches: the global filters, then 404.
    pub(crate) fallback: Arc<Route>,
    /// Whether everything is closed.
    pub(crate) maintenance: Maintenance,
    pub(crate) clusters: Vec<Arc<Cluster>>,
    pub(crate) resolver: Resolver,
    pub(crate) admin: Option<Admin>,
    pub(crate) zones: Arc<Zones>,
    pub(crate) explained: Explained,
    /// The zones that this configuration has a use for.
    pub(crate) caches: Box<[ZoneSpec]>,
    /// How often the files are looked at, if they are.
    pub(crate) watch: Option<Duration>,
    pub(crate) written: Arc<Written>,
    /// From 1 at the start of the process; one more with each that takes the place of another.
    pub(crate) revision: u64,
    /// Since when it is in force.
    pub(crate) loaded_at: SystemTime,
    /// What has gone wrong last.
    pub(crate) failures: Arc<Failures>,
    /// The clients that filters refuse.
    pub(crate) refused: Arc<Refused>,
    /// Who watches requests.
    pub(crate) tail: Arc<Tail>,
}

/// Requests that are to be explained.
#[derive(Debug)]
pub(crate) struct Explained {
    /// What signs them; nobody may ask if there is none.
    pub(crate) key: Option<explain::live::Key>,
    pub(crate) kept: Arc<explain::live::Kept>,
}

/// Where the running gateway is looked at and changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Admin {
    pub(crate) bind: ListenAddress,
    /// What callers must show, if anything.
    pub(crate) token: Option<Secret>,
}

impl Gateway {
    /// Takes the place of the configuration before, which holds for what both share.
    pub(crate) fn enter_service(&self) {
        for cluster in &self.clusters {
            cluster.enter_service();
        }
        self.zones.configure(&self.caches);
        self.maintenance.tell("*");
        for route in self.router.routes() {
            let closing = route.closing.as_ref();
            if let Some(own) = closing.and_then(|closing| closing.own.as_ref()) {
                own.tell(&route.name);
            }
        }
    }
}

/// What filters run beside the requests. Not part of the gateway, which can't be changed: it is
/// handed over once, to whoever puts the gateway to use.
pub(crate) type Tasks = Vec<Background>;

/// An address to listen on.
#[derive(Clone, Debug)]
pub(crate) struct ListenerSpec {
    pub(crate) name: String,
    pub(crate) bind: ListenAddress,
    pub(crate) socket: SocketOptions,
    /// How HTTP/2 is spoken there, if it is.
    pub(crate) http2: Option<Http2>,
    /// How TLS is spoken there, if it is.
    pub(crate) tls: Option<TlsSpec>,
    /// Where connections are passed on as they are, instead of HTTP.
    pub(crate) tcp: Option<Arc<TcpSpec>>,
    /// Connections at once.
    pub(crate) max_connections: Option<usize>,
    /// Peers that say first for whom they connect.
    pub(crate) proxy_protocol: Networks,
}

/// Where connections go that are passed on as they are.
#[derive(Clone, Debug)]
pub(crate) struct TcpSpec {
    pub(crate) upstream: Option<Arc<Cluster>>,
    /// By what clients ask for by TLS.
    pub(crate) names: Vec<(CertificateName, Arc<Cluster>)>,
    /// How long nothing may pass.
    pub(crate) idle: Duration,
}

impl TcpSpec {
    /// Whether clients have to say first whom they want.
    pub(crate) fn goes_by_name(&self) -> bool {
        !self.names.is_empty()
    }

    /// The upstream for who asks for a name, in lower case.
    pub(crate) fn upstream_of(&self, name: &str) -> Option<&Arc<Cluster>> {
        let of = |host: Option<&str>, wildcard| {
            let fits =
                |known: &CertificateName| known.wildcard == wildcard && Some(&*known.host) == host;
            let found = self.names.iter().find(|(known, _)| fits(known));
            found.map(|(_, cluster)| cluster)
        };
        let own = of(Some(name), false).or_else(|| of(parent(name), true));
        own.or(self.upstream.as_ref())
    }
}

/// Networks that something is said of, such as the proxies in front of us whose word counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Networks(Vec<IpNet>);

impl Networks {
    pub(crate) fn new(networks: &[Network]) -> Self {
        Self(networks.iter().map(|network| network.0).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, IpNet> {
        self.0.iter()
    }

    /// Whether this address is one of them.
    pub(crate) fn contains(&self, address: std::net::IpAddr) -> bool {
        self.0
            .iter()
            .any(|network| network.contains(&address.to_canonical()))
    }
}
