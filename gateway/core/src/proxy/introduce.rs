//! What endpoints are told of the client before anything else, where they are (the PROXY protocol).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use edgeway_sdk::Exchange;
use pingora_proxy::Session;

use super::client::here;
use crate::{
    server::proxy_protocol::Header,
    upstream::{Cluster, Introduction},
};

/// Who the endpoints of an upstream are told the client of a request is; nothing if they are not told.
pub(super) fn client(
    session: &Session,
    exchange: &Exchange,
    cluster: &Cluster,
) -> Option<Introduction> {
    introduction(exchange, || here(session), cluster)
}

/// The same for whatever it has come for.
pub(crate) fn introduction(
    exchange: &Exchange,
    here: impl FnOnce() -> Option<SocketAddr>,
    cluster: &Cluster,
) -> Option<Introduction> {
    let transport = &cluster.settings.transport;
    transport.introduction(|| header(exchange.client, exchange.peer, here()))
}

/// The client, as trusted proxies tell, and where it has come to.
fn header(client: IpAddr, peer: SocketAddr, here: Option<SocketAddr>) -> Header {
    // The gateway asks by itself.
    if client.is_unspecified() {
        return Header::Unknown;
    }
    // Nobody tells the port of a client behind another proxy.
    let own = peer.ip().to_canonical() == client.to_canonical();
    let port = if own { peer.port() } else { 0 };
    let nowhere = match client {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    Header::Client {
        source: SocketAddr::new(client, port),
        destination: here.unwrap_or_else(|| SocketAddr::new(nowhere, 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(client: &str, peer: &str, here: Option<&str>) -> (String, String) {
        let here = here.map(|here| here.parse().unwrap());
        match header(client.parse().unwrap(), peer.parse().unwrap(), here) {
            Header::Client {
                source,
                destination,
            } => (source.to_string(), destination.to_string()),
            header => (format!("{header:?}"), String::new()),
        }
    }

    #[test]
    fn a_port_is_told_if_it_is_the_clients_own() {
        let here = Some("198.51.100.1:443");
        let pair = |source: &str, destination: &str| (source.to_owned(), destination.to_owned());
        assert_eq!(
            told("192.0.2.1", "192.0.2.1:5", here),
            pair("192.0.2.1:5", "198.51.100.1:443")
        );
        assert_eq!(
            told("192.0.2.1", "[::ffff:192.0.2.1]:5", here),
            pair("192.0.2.1:5", "198.51.100.1:443")
        );
        assert_eq!(
            told("192.0.2.9", "192.0.2.1:5", here),
            pair("192.0.2.9:0", "198.51.100.1:443")
        );
        assert_eq!(
            told("2001:db8::1", "[2001:db8::1]:5", None),
            pair("[2001:db8::1]:5", "[::]:0")
        );
        assert_eq!(told("0.0.0.0", "0.0.0.0:0", here), pair("Unknown", ""));
    }
}
