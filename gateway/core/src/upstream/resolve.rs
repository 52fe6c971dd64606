//! From names of endpoints to their addresses.
//!
//! A name that does not resolve is an endpoint that is down, with a warning; it is never a reason
//! not to start. An address that is known stays through a failure to resolve.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use log::{info, warn};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{
    discovery::{Addresses, Found, Resolver, Source, addresses, follow},
    endpoint::State,
};

/// How long start and reload wait for endpoints and their addresses, before they go on without.
pub(super) const FIRST_WAIT: Duration = Duration::from_secs(3);

/// An endpoint that has a name to resolve.
#[derive(Clone)]
pub(crate) struct Named {
    pub(crate) upstream: Arc<str>,
    /// As it is written: `product-1:8080`.
    pub(crate) endpoint: Arc<str>,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Where the address is kept.
    pub(crate) state: Arc<State>,
}

impl Named {
    /// Asks once.
    pub(crate) async fn resolve(&self, resolver: &Resolver) {
        if let Ok(look) = self.source(resolver).look().await {
            self.found(&look.endpoints);
        }
    }

    /// Asks again whenever the answer is too old, for as long as it is polled.
    pub(crate) async fn follow(self, resolver: Resolver) {
        let source = Arc::new(self.source(&resolver));
        follow(source, |found| self.found(&found)).await;
    }

    fn source(&self, resolver: &Resolver) -> Addresses {
        let described = format!("upstream={} endpoint={}", self.upstream, self.endpoint);
        Addresses::new(described, &self.host, self.port, resolver.clone())
    }

    fn found(&self, found: &[Found]) {
        let mut found = addresses(found);
        found.sort_by_key(SocketAddr::is_ipv6);
        let Some(address) = choose(self.state.address(), &found) else {
            return;
        };
        if self.state.found(address) {
            moved(&self.upstream, &self.endpoint, address);
        }
        self.state.may_be_at(found);
    }
}

/// Tells the log where an endpoint is from now on.
pub(super) fn moved(upstream: &str, endpoint: &str, address: SocketAddr) {
    info!("endpoint has an address: upstream={upstream} endpoint={endpoint} address={address}");
}

/// The address to use, of those that a name has.
fn choose(known: Option<SocketAddr>, found: &[SocketAddr]) -> Option<SocketAddr> {
    // An address that still is among the answers stays, so that connections to it are kept.
    let stays = known.filter(|known| found.contains(known));
    // Servers that bind to all of IPv4 only are common where names have addresses of both families.
    let first = || found.iter().find(|address| address.is_ipv4());
    stays
        .or_else(|| first().copied())
        .or_else(|| found.first().copied())
}

/// Asks for all names once, waits for the answers until `due`, and warns of those that have no address.
pub(super) async fn first_answers(resolver: &Resolver, all: &[Named], due: Instant) {
    if timeout_at(due, answers(resolver, all)).await.is_err() {
        warn!("names of endpoints are still being resolved: starting without them");
    }
    for named in all.iter().filter(|named| named.state.address().is_none()) {
        warn!(
            "endpoint is down: upstream={} endpoint={} reason=its name does not resolve",
            named.upstream, named.endpoint
        );
    }
}

/// Asks for all names once.
pub(super) async fn answers(resolver: &Resolver, all: &[Named]) {
    let mut lookups = JoinSet::new();
    for named in all {
        let (named, resolver) = (named.clone(), resolver.clone());
        lookups.spawn(async move { named.resolve(&resolver).await });
    }
    while lookups.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ResolverConfig;

    fn parsed(addresses: &[&str]) -> Vec<SocketAddr> {
        let parse = |address: &&str| address.parse().expect("an address");
        addresses.iter().map(parse).collect()
    }

    #[test]
    fn an_address_that_is_still_among_the_answers_stays() {
        let found = parsed(&["10.0.0.1:80", "10.0.0.2:80", "[::1]:80"]);
        for known in &found {
            assert_eq!(choose(Some(*known), &found), Some(*known));
        }
    }

    #[test]
    fn an_address_that_is_gone_gives_way_to_one_of_ipv4() {
        let gone = parsed(&["10.0.0.9:80"]);
        let found = parsed(&["[::1]:80", "10.0.0.1:80", "10.0.0.2:80"]);
        assert_eq!(choose(Some(gone[0]), &found), Some(found[1]));
        assert_eq!(choose(None, &found), Some(found[1]));
        assert_eq!(
            choose(None, &found[..1]),
            Some(found[0]),
            "better than none"
        );
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_keeps_the_address_that_it_had() {
        let known = "10.0.0.9:80".parse().expect("an address");
        let named = Named {
            upstream: "app".into(),
            endpoint: "no..name:80".into(),
            host: "no..name".to_owned(),
            port: 80,
            state: Arc::default(),
        };
        let resolver = Resolver::new(&ResolverConfig::default());
        named.resolve(&resolver).await;
        assert_eq!(named.state.address(), None);
        named.state.found(known);
        named.resolve(&resolver).await;
        assert_eq!(named.state.address(), Some(known));
    }

    #[tokio::test]
    async fn an_endpoint_on_this_machine_is_found_at_once() {
        let named = Named {
            upstream: "app".into(),
            endpoint: "localhost:80".into(),
            host: "localhost".to_owned(),
            port: 80,
            state: Arc::default(),
        };
        let resolver = Resolver::new(&ResolverConfig::default());
        let due = Instant::now() + FIRST_WAIT;
        first_answers(&resolver, std::slice::from_ref(&named), due).await;
        let found = named.state.address().expect("every machine has one");
        assert!(found.ip().is_loopback() && found.port() == 80, "{found}");
    }
}
