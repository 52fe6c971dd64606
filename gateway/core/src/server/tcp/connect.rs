//! A connection to an endpoint of an upstream, for a connection of a client.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use edgeway_sdk::Exchange;
use http::{Request, StatusCode};
use pingora::{
    Error,
    connectors::{ConnectorOptions, TransportConnector},
    protocols::{ALPN, Stream, TcpKeepalive, l4::socket},
    upstreams::peer::{HttpPeer, Peer, PeerOptions},
    utils::tls::CertKey,
};
use tokio::time::{Instant, sleep};

use crate::{
    config::Condition,
    proxy::introduction,
    telemetry::meter::Event,
    upstream::{Admitted, Cluster, Lease, Members, Picked, Tried, Turned, Want, clock},
};

/// Makes connections. None is kept: each belongs to one client.
pub(in crate::server) struct Connector {
    options: ConnectorOptions,
    /// Made for the first connection: it holds the certificates of all authorities that the system trusts.
    inner: OnceLock<TransportConnector>,
}

/// A connection to an endpoint, with the place that it takes there.
pub(super) struct Connected {
    pub(super) stream: Stream,
    lease: Lease,
}

/// For whom a connection is made.
#[derive(Clone, Copy)]
pub(super) struct For {
    pub(super) peer: SocketAddr,
    /// Where it has come to, if that is an address.
    pub(super) local: Option<SocketAddr>,
}

impl Connector {
    pub(in crate::server) fn new(options: ConnectorOptions) -> Self {
        Self {
            options,
            inner: OnceLock::new(),
        }
    }

    /// Connects a client: to another endpoint if the first is not there, as often as the upstream retries. Where
    /// all have as many connections as they may, it waits in the queue of the upstream.
    ///
    /// # Errors
    ///
    /// Why there is none, for the log.
    pub(super) async fn connect(
        &self,
        cluster: &Arc<Cluster>,
        client: For,
    ) -> Result<Connected, String> {
        let admitted = Admitted::to(cluster, clock::now());
        let mut admitted = admitted.map_err(|_| "the breaker of the upstream is open")?;
        let mut tries = Tries::new(cluster, client.peer);
        loop {
            let lease = tries.place().await?;
            let began = clock::now();
            let introduction = introduction(&tries.exchange, || client.local, cluster);
            let Some(to) = lease.peer(introduction.as_ref()) else {
                return Err("an endpoint has lost its address".to_owned());
            };
            let at = to._address.as_inet().copied();
            match self.inner().new_stream(&Endpoint::new(*to)).await {
                Ok(stream) => {
                    // What it says is between the two: a client that says nothing proves nothing.
                    admitted.went(true);
                    cluster.answered(&lease, began, StatusCode::OK);
                    return Ok(Connected { stream, lease });
                }
                Err(error) => {
                    admitted.went(false);
                    tries.failed(&lease, at, began, &error);
                    drop(lease);
                    if !tries.may_go_on() {
                        return Err(error.to_string());
                    }
                }
            }
            tries.pause().await;
        }
    }

    fn inner(&self) -> &TransportConnector {
        let make = || TransportConnector::new(Some(self.options.clone()));
        self.inner.get_or_init(make)
    }
}

impl Connected {
    pub(super) fn endpoint(&self) -> &str {
        &self.lease.endpoint().name
    }
}

/// What was tried for a client.
struct Tries<'a> {
    cluster: &'a Arc<Cluster>,
    /// The endpoints that there were at the first try: the numbers of those that were tried are theirs.
    members: Arc<Members>,
    exchange: Exchange,
    /// What the balancing goes by.
    key: Option<u64>,
    tried: Tried,
    count: u32,
}

impl<'a> Tries<'a> {
    fn new(cluster: &'a Arc<Cluster>, peer: SocketAddr) -> Self {
        let exchange = Exchange::new(peer);
        let (nothing, ()) = Request::new(()).into_parts();
        let key = cluster.settings.balance_key(&(&nothing, &exchange));
        Self {
            cluster,
            members: cluster.members(),
            exchange,
            key,
            tried: Tried::new(),
            count: 0,
        }
    }

    /// A place at an endpoint. A client that leaves while it waits for one is not missed before it is its turn.
    async fn place(&mut self) -> Result<Lease, &'static str> {
        let cluster = Arc::clone(self.cluster);
        self.count += 1;
        let waits = cluster.settings.queue.is_some() && !cluster.queue.is_empty();
        match waits {
            true => self.wait(&cluster).await,
            false => match self.pick() {
                Picked::Endpoint(lease) => Ok(lease),
                Picked::Nobody => Err("none of its endpoints may be asked now"),
                Picked::Full => self.wait(&cluster).await,
            },
        }
    }

    async fn wait(&mut self, cluster: &Cluster) -> Result<Lease, &'static str> {
        let Some((size, patience)) = cluster.settings.queue else {
            return Err("its endpoints have as many connections as they may");
        };
        let free = || {
            if self.tried.is_empty() {
                self.members = cluster.members();
            }
            match self.pick() {
                Picked::Endpoint(lease) => Some(lease),
                Picked::Full | Picked::Nobody => None,
            }
        };
        let lease = cluster
            .queue
            .wait(size, Instant::now() + patience, free)
            .await;
        lease.map_err(|turned| match turned {
            Turned::Full => {
                "its endpoints have as many connections as they may, and its queue is full"
            }
            Turned::TooLong => "no endpoint had room for the connection in time",
        })
    }

    fn pick(&self) -> Picked {
        let want = Want {
            tried: &self.tried,
            key: self.key,
            session_key: None,
            session: None,
            now: clock::now(),
        };
        self.members.pick(&self.cluster.settings, want)
    }

    /// Notes that there was no connection. A name may have another address, which is not tried yet.
    fn failed(&mut self, lease: &Lease, at: Option<SocketAddr>, began: u64, error: &Error) {
        if at.is_some_and(|at| self.cluster.unreachable(lease.endpoint(), at)) {
            return;
        }
        let reason = error.etype().as_str();
        self.cluster.lost(lease, began, Event::Unconnected, &reason);
        self.tried.push(lease.number());
    }

    /// Whether one more try is worth it. Takes it from the budget.
    fn may_go_on(&self) -> bool {
        let settings = &self.cluster.settings;
        settings.retries.on(Condition::Connect)
            && self.count < settings.retries.tries
            && self.members.has_untried(settings, &self.tried)
            && self.cluster.may_retry(clock::now())
    }

    async fn pause(&self) {
        let pause = self.cluster.settings.retries.pause(self.count);
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }
}

/// How an endpoint is reached with which nobody speaks HTTP.
#[derive(Clone)]
struct Endpoint(HttpPeer);

/// Connections may be silent for long, and one whose other end has gone would stay until its time is over.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(60),
    interval: Duration::from_secs(15),
    count: 4,
    user_timeout: Duration::ZERO,
};

impl Endpoint {
    fn new(mut peer: HttpPeer) -> Self {
        peer.options.tcp_keepalive = Some(KEEPALIVE);
        Self(peer)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Peer for Endpoint {
    fn address(&self) -> &socket::SocketAddr {
        self.0.address()
    }

    fn tls(&self) -> bool {
        self.0.tls()
    }

    fn sni(&self) -> &str {
        self.0.sni()
    }

    fn reuse_hash(&self) -> u64 {
        self.0.reuse_hash()
    }

    fn get_peer_options(&self) -> Option<&PeerOptions> {
        self.0.get_peer_options()
    }

    fn get_client_cert_key(&self) -> Option<&Arc<CertKey>> {
        self.0.get_client_cert_key()
    }

    /// No protocol is offered by TLS: it would be HTTP, which endpoints that know the extension refuse.
    fn get_alpn(&self) -> Option<&ALPN> {
        None
    }
}
