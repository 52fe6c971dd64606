//! How Pingora is told to reach an endpoint.

use std::net::SocketAddr;

use pingora::upstreams::peer::HttpPeer;

use crate::config::Timeouts;

/// A peer in the clear over HTTP/1.1. Every timeout is set: Pingora's own default is to wait forever.
pub(super) fn plain(address: SocketAddr, timeouts: &Timeouts) -> Box<HttpPeer> {
    let mut peer = HttpPeer::new(address, false, String::new());
    let options = &mut peer.options;
    options.connection_timeout = Some(timeouts.connect.0);
    options.total_connection_timeout = Some(timeouts.connect.0);
    options.read_timeout = Some(timeouts.read.0);
    options.write_timeout = Some(timeouts.write.0);
    options.idle_timeout = Some(timeouts.idle.0);
    Box::new(peer)
}
