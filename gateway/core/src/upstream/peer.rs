//! How Pingora is told to reach an endpoint.

use std::{
    hash::{Hash, Hasher},
    net::Ipv4Addr,
    path::Path,
    sync::Arc,
};

use ahash::AHasher;
use pingora::{
    protocols::{l4::socket::SocketAddr, tls::CaType},
    upstreams::peer::HttpPeer,
    utils::tls::CertKey,
};

use super::roster::Location;
use crate::config::{Protocol, Timeouts};

/// How all endpoints of an upstream are reached.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    pub(crate) protocol: Protocol,
    pub(crate) tls: Option<Tls>,
    pub(crate) timeouts: Timeouts,
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

impl Transport {
    /// The peer of an endpoint, of which only the address is still to be filled in.
    pub(super) fn template(&self, location: &Location) -> HttpPeer {
        let sni = self.tls.as_ref().map(|tls| tls.sni(location));
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
        let handshake = if self.tls.is_some() {
            timeouts.handshake.0
        } else {
            std::time::Duration::ZERO
        };
        options.connection_timeout = Some(timeouts.connect.0);
        options.total_connection_timeout = Some(timeouts.connect.0.saturating_add(handshake));
        options.read_timeout = Some(timeouts.read.0);
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
    }

    fn group(&self) -> u64 {
        let mut hasher = AHasher::default();
        (self.protocol as u8).hash(&mut hasher);
        self.tls
            .as_ref()
            .map(|tls| tls.fingerprint)
            .hash(&mut hasher);
        hasher.finish()
    }
}

impl Tls {
    fn sni(&self, location: &Location) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        match location {
            Location::Name { host, .. } => host.clone(),
            Location::Address(address) => address.ip().to_string(),
            Location::Unix(_) => String::new(),
        }
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
