//! How Pingora is told to reach an endpoint.

use std::{
    hash::{Hash, Hasher},
    net::Ipv4Addr,
    path::Path,
    sync::Arc,
    time::Duration,
};

use ahash::AHasher;
use async_trait::async_trait;
use pingora::{
    Error, ErrorType, OrErr, Result,
    connectors::L4Connect,
    protocols::{
        l4::{
            ext::{connect, connect_uds},
            socket::SocketAddr,
            stream::Stream,
        },
        tls::CaType,
    },
    upstreams::peer::HttpPeer,
    utils::tls::CertKey,
};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::roster::Location;
use crate::{
    config::{Protocol, ProxyVersion, Timeouts},
    server::proxy_protocol::{Header, encode},
};

/// How all endpoints of an upstream are reached.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    pub(crate) protocol: Protocol,
    pub(crate) tls: Option<Tls>,
    /// How they are told first who the client is, if they are.
    pub(crate) proxy_protocol: Option<ProxyVersion>,
    pub(crate) timeouts: Timeouts,
}

/// Who an endpoint is told the client is, before anything else is said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Introduction {
    greeting: Greeting,
    /// How long a connection may take.
    connect: Duration,
}

/// What a connection begins with.
#[derive(Clone, Copy, Debug, Hash)]
struct Greeting {
    version: ProxyVersion,
    header: Header,
}

/// What an endpoint must show, and what we show of ourselves.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// The name that a certificate must be for; the host of the endpoint if not given.
    pub(crate) name: Option<String>,
    pub(crate) verify: bool,
    pub(crate) ca: Option<Arc<CaType>>,
    pub(crate) identity: Option<Arc<CertKey>>,
    /// Stands for everything above, with the content of the files.
    pub(crate) fingerprint: u64,
}

/// Where nobody answers.
const NOWHERE: (Ipv4Addr, u16) = (Ipv4Addr::UNSPECIFIED, 0);

/// How many requests share an HTTP/2 connection. Servers allow a hundred or more (RFC 9113, 6.5.2).
const STREAMS: usize = 100;

/// How many bytes of an answer an endpoint may send ahead of a client that does not read.
const AHEAD: u32 = 512 << 10;

impl Introduction {
    /// Has connections to a peer made for this client, and shared with no other.
    pub(super) fn put_into(&self, peer: &mut HttpPeer) {
        let Self { greeting, connect } = *self;
        let mut hasher = AHasher::default();
        (peer.group_key, greeting).hash(&mut hasher);
        peer.group_key = hasher.finish();
        peer.options.custom_l4 = Some(Arc::new(Dial {
            timeout: connect,
            greeting: Some(greeting),
        }));
    }
}

impl Transport {
    /// What endpoints are told of a client; nothing if they are not told who it is.
    pub(crate) fn introduction(&self, client: impl FnOnce() -> Header) -> Option<Introduction> {
        self.proxy_protocol.map(|version| Introduction {
            greeting: Greeting {
                version,
                header: client(),
            },
            connect: self.timeouts.connect.0,
        })
    }

    /// The peer of an endpoint, of which only the address is still to be filled in. `host` is whose
    /// address it is, if it was found by that. Nothing is asked for a client, unless it is introduced.
    pub(super) fn template(&self, location: &Location, host: Option<&str>) -> HttpPeer {
        let sni = self.tls.as_ref().map(|tls| tls.sni(location, host));
        let mut peer = match location {
            Location::Unix(path) => unix(path, sni.is_some()),
            Location::Address(address) => HttpPeer::new(address, sni.is_some(), String::new()),
            Location::Name { .. } => HttpPeer::new(NOWHERE, sni.is_some(), String::new()),
        };
        peer.sni = sni.unwrap_or_default();
        // Else connections would be shared by upstreams that trust others, or are trusted otherwise:
        // Pingora's own key leaves the authority and the protocol out.
        peer.group_key = self.group();
        self.set_timeouts(&mut peer);
        self.set_protocol(&mut peer);
        if let Some(tls) = &self.tls {
            peer.options.verify_cert = tls.verify;
            peer.options.verify_hostname = tls.verify;
            peer.options.ca.clone_from(&tls.ca);
            peer.client_cert_key.clone_from(&tls.identity);
        }
        peer
    }

    /// Every timeout is set: Pingora's own default is to wait forever.
    fn set_timeouts(&self, peer: &mut HttpPeer) {
        let options = &mut peer.options;
        let timeouts = &self.timeouts;
        let connect = timeouts.connect.0;
        let greeting = self.proxy_protocol.map(|version| Greeting {
            version,
            header: Header::Local,
        });
        if self.tls.is_some() || greeting.is_some() {
            options.custom_l4 = Some(Arc::new(Dial {
                timeout: connect,
                greeting,
            }));
        }
        if self.tls.is_some() {
            let handshake = timeouts.handshake.0;
            options.connection_timeout = Some(handshake);
            options.total_connection_timeout = Some(connect.saturating_add(handshake));
        } else {
            options.connection_timeout = Some(connect);
            options.total_connection_timeout = Some(connect);
        }
        // A shorter time for the first byte is seen to elsewhere; a longer one has to be the time here.
        let first = timeouts.first_byte.map_or(timeouts.read.0, |first| first.0);
        options.read_timeout = Some(timeouts.read.0.max(first));
        options.write_timeout = Some(timeouts.write.0);
        options.idle_timeout = Some(timeouts.idle.0);
    }

    fn set_protocol(&self, peer: &mut HttpPeer) {
        let (max, min) = match self.protocol {
            Protocol::Http1 => return,
            Protocol::Http2 => (2, 2),
            Protocol::Auto => (2, 1),
        };
        peer.options.set_http_version(max, min);
        peer.options.max_h2_streams = STREAMS;
        peer.options.h2_stream_window_size = Some(AHEAD);
        // Room for all: else one client that does not read would hold up those that share its connection.
        peer.options.h2_connection_window_size = u32::try_from(STREAMS)
            .ok()
            .map(|streams| AHEAD.saturating_mul(streams));
    }

    fn group(&self) -> u64 {
        let mut hasher = AHasher::default();
        (self.protocol as u8, self.proxy_protocol).hash(&mut hasher);
        self.tls
            .as_ref()
            .map(|tls| tls.fingerprint)
            .hash(&mut hasher);
        hasher.finish()
    }
}

impl Tls {
    fn sni(&self, location: &Location, host: Option<&str>) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        // The dot at the end of a complete name is no part of it (RFC 6066, 3).
        let complete = |host: &str| host.trim_end_matches('.').to_owned();
        match (location, host) {
            (Location::Address(_), Some(host)) => complete(host),
            (Location::Name { host, .. }, _) => complete(host),
            (Location::Address(address), None) => address.ip().to_string(),
            (Location::Unix(_), _) => String::new(),
        }
    }
}

/// Makes connections that begin with a greeting, if there is one; and those for TLS in a time of their own:
/// Pingora has one that holds for the connection and for the handshake, each.
#[derive(Debug)]
struct Dial {
    timeout: Duration,
    greeting: Option<Greeting>,
}

impl Dial {
    async fn greet(&self, stream: &mut (impl AsyncWrite + Unpin)) -> Result<()> {
        let Some(Greeting { version, header }) = &self.greeting else {
            return Ok(());
        };
        let greeting = encode(*version, header);
        let greeted = stream.write_all(&greeting).await;
        greeted.or_err(ErrorType::ConnectError, "the PROXY header can't be sent")
    }
}

#[async_trait]
impl L4Connect for Dial {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let connecting = async {
            match address {
                SocketAddr::Inet(address) => {
                    let mut tcp = connect(address, None).await?;
                    self.greet(&mut tcp).await?;
                    Ok(Stream::from(tcp))
                }
                // The configuration knows only sockets with a path.
                SocketAddr::Unix(address) => {
                    let path = address.as_pathname().unwrap_or_else(|| Path::new(""));
                    let mut unix = connect_uds(path).await?;
                    self.greet(&mut unix).await?;
                    Ok(Stream::from(unix))
                }
            }
        };
        let Ok(connected) = tokio::time::timeout(self.timeout, connecting).await else {
            let why = format!("no connection within {:?}", self.timeout);
            return Error::e_explain(ErrorType::ConnectTimedout, why);
        };
        connected
    }
}

/// The configuration has refused paths that can't be.
fn unix(path: &Path, tls: bool) -> HttpPeer {
    let shown = path.to_string_lossy();
    HttpPeer::new_uds(&shown, tls, String::new())
        .unwrap_or_else(|_| HttpPeer::new(NOWHERE, tls, String::new()))
}

/// A template with an address in it.
pub(super) fn at(template: &HttpPeer, address: std::net::SocketAddr) -> HttpPeer {
    HttpPeer {
        _address: SocketAddr::Inet(address),
        ..template.clone()
    }
}
