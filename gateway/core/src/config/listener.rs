//! Listeners and connections, as they are written.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use edgeway_sdk::types::Size;
use serde::Deserialize;

use super::{
    At, Backlog, Entries, FileMode, ListenAddress, MaybeHttp2, Network, TcpKeepalive, scalar::Span,
    tls::ListenerTls,
};

/// `http: { bind: "0.0.0.0:80" }`
#[derive(Debug, Deserialize)]
pub(crate) struct Listener {
    pub(crate) bind: At<ListenAddress>,
    /// Who may connect to a unix socket; its owner alone if not given.
    pub(crate) mode: Option<At<FileMode>>,
    /// How many connections may wait to be accepted.
    pub(crate) backlog: Option<At<Backlog>>,
    /// Whether other sockets may have the same address, and the kernel shares connections out.
    pub(crate) reuse_port: Option<At<bool>>,
    /// Whether clients that were here before may send with their first packet.
    pub(crate) fast_open: Option<At<bool>>,
    /// When clients that are silent are asked whether they are still there.
    pub(crate) tcp_keepalive: Option<At<TcpKeepalive>>,
    /// Whether HTTP/2 is spoken beside HTTP/1.1, and how much of it.
    #[serde(default)]
    pub(crate) http2: MaybeHttp2,
    /// Where connections are passed on as they are, instead of HTTP.
    pub(crate) tcp: Option<At<Tcp>>,
    /// The certificates it shows, and how.
    pub(crate) tls: Option<At<ListenerTls>>,
    /// Connections at once.
    pub(crate) max_connections: Option<NonZeroUsize>,
    /// Peers that say first for whom they connect.
    pub(crate) proxy_protocol: Option<At<Vec<Network>>>,
}

/// `tcp: { upstream: mail }`
#[derive(Debug, Deserialize)]
pub(crate) struct Tcp {
    /// Where connections go; of those that ask by TLS for a name, the others.
    pub(crate) upstream: Option<At<String>>,
    /// Upstreams by the names that clients ask for by TLS, which is not ended here.
    #[serde(default)]
    pub(crate) sni: Entries<At<String>>,
    /// How long nothing may pass in either direction.
    #[serde(default = "Tcp::idle_timeout")]
    pub(crate) idle_timeout: Span,
}

impl Tcp {
    fn idle_timeout() -> Span {
        Span(Duration::from_secs(3600))
    }
}

/// Limits of all connections of clients together.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(crate) struct Connections {
    /// At once; as many as there are descriptors for if not given.
    pub(crate) max: Option<At<NonZeroUsize>>,
    /// At once of one address, or of one /64 of IPv6. Trusted proxies may have any number.
    pub(crate) per_client: NonZeroU32,
    /// After so many requests a connection is closed.
    pub(crate) max_requests: NonZeroU32,
    /// How much memory the process may have before connections have to go; what its control group may have if
    /// not given.
    pub(crate) memory_limit: Option<Size>,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            max: None,
            per_client: NonZeroU32::MIN.saturating_add(1_023),
            max_requests: NonZeroU32::MIN.saturating_add(9_999),
            memory_limit: None,
        }
    }
}
