//! Who is at the other end: the peer, and the client as far as trusted proxies tell.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use edgeway_sdk::exchange::Scheme;
use http::{HeaderMap, HeaderName};
use pingora::protocols::http::ServerSession;
use pingora_proxy::Session;

use super::ctx::Ctx;
use crate::{
    server::{Connection, Entrance},
    snapshot::Networks,
};

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Fills in the peer, the client and the scheme.
pub(super) fn identify(session: &Session, ctx: &mut Ctx) {
    if let Some(peer) = peer(session) {
        ctx.exchange.peer = peer;
    }
    if let Some(entrance) = Entrance::of(session) {
        ctx.exchange.scheme = entrance.scheme();
        ctx.listener = Arc::clone(&entrance.listener);
        ctx.hsts.clone_from(&entrance.hsts);
        if let Some(tls) = &entrance.tls {
            ctx.exchange.values.share(Arc::clone(tls));
        }
    }
    let peer = ctx.exchange.peer.ip().to_canonical();
    ctx.exchange.client = peer;
    ctx.trusted = ctx.gateway.trusted.contains(peer);
    if ctx.trusted {
        let headers = &session.req_header().headers;
        ctx.exchange.client = forwarded_for(headers, &ctx.gateway.trusted).unwrap_or(peer);
        ctx.exchange.scheme = forwarded_scheme(headers).unwrap_or(ctx.exchange.scheme);
    }
}

/// The address of the other end.
pub(super) fn peer(session: &ServerSession) -> Option<SocketAddr> {
    match connection(session) {
        Some(connection) => Some(connection.peer()),
        None => session.client_addr()?.as_inet().copied(),
    }
}

/// The address that the client has come to.
pub(super) fn here(session: &ServerSession) -> Option<SocketAddr> {
    match connection(session) {
        Some(connection) => connection.local(),
        None => session.server_addr()?.as_inet().copied(),
    }
}

/// The connection to the client, if it is one of HTTP/1.1.
pub(super) fn connection(session: &ServerSession) -> Option<&Connection> {
    session.stream()?.as_any().downcast_ref()
}

/// Whether the connection to the client is to end with the response: the end of the gateway may have begun since the
/// request came.
pub(super) fn is_parting(session: &ServerSession) -> bool {
    connection(session).is_some_and(Connection::is_parting)
}

/// The last address that no trusted proxy has: the one before it only claims to be somebody.
fn forwarded_for(headers: &HeaderMap, trusted: &Networks) -> Option<IpAddr> {
    let mut client = None;
    let lines: Vec<_> = headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .collect();
    for token in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        let Some(address) = address(token.trim()) else {
            break;
        };
        client = Some(address);
        if !trusted.contains(address) {
            break;
        }
    }
    client
}

/// An address, with or without the port that some proxies add.
fn address(token: &str) -> Option<IpAddr> {
    let bare = token
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(token);
    let plain = bare.parse::<IpAddr>().ok();
    plain
        .or_else(|| {
            token
                .parse::<SocketAddr>()
                .ok()
                .map(|with_port| with_port.ip())
        })
        .map(|ip| ip.to_canonical())
}

fn forwarded_scheme(headers: &HeaderMap) -> Option<Scheme> {
    let last = headers
        .get_all(X_FORWARDED_PROTO)
        .iter()
        .next_back()?
        .to_str()
        .ok()?;
    match last.rsplit(',').next()?.trim() {
        proto if proto.eq_ignore_ascii_case("https") || proto.eq_ignore_ascii_case("wss") => {
            Some(Scheme::Https)
        }
        _ => Some(Scheme::Http),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(lines: &[&str]) -> Option<String> {
        let trusted = Networks::new(&["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, line.parse().unwrap());
        }
        forwarded_for(&headers, &trusted).map(|address| address.to_string())
    }

    #[test]
    fn the_client_is_the_last_address_that_no_trusted_proxy_has() {
        assert_eq!(client(&["203.0.113.9"]).as_deref(), Some("203.0.113.9"));
        assert_eq!(
            client(&["1.1.1.1, 203.0.113.9, 10.1.2.3"]).as_deref(),
            Some("203.0.113.9")
        );
        assert_eq!(
            client(&["1.1.1.1", "203.0.113.9, fd00::1"]).as_deref(),
            Some("203.0.113.9")
        );
        assert_eq!(client(&["10.0.0.1, 10.0.0.2"]).as_deref(), Some("10.0.0.1"));
        assert_eq!(
            client(&["203.0.113.9:4711"]).as_deref(),
            Some("203.0.113.9")
        );
        assert_eq!(
            client(&["[2001:db8::1]:4711"]).as_deref(),
            Some("2001:db8::1")
        );
        assert_eq!(
            client(&["203.0.113.9, rubbish, 10.0.0.1"]).as_deref(),
            Some("10.0.0.1")
        );
        assert_eq!(client(&["unknown"]), None);
        assert_eq!(client(&[]), None);
    }
}
