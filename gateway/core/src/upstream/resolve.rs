//! From names of endpoints to their addresses.
//!
//! A name that does not resolve is an endpoint that is down, with a warning; it is never a reason
//! not to start. An address that is known stays through a failure to resolve.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use log::{info, warn};
use tokio::{net::lookup_host, task::JoinSet, time::timeout};

use super::{Cluster, endpoint::Endpoint};

/// How long start and reload wait for names, before they go on without.
const FIRST_WAIT: Duration = Duration::from_secs(3);

/// How long one question may take.
const LOOKUP: Duration = Duration::from_secs(5);

/// How soon a name is asked again that did not resolve.
const RETRY: Duration = Duration::from_secs(1);

/// How soon a name is asked again that did.
const REFRESH: Duration = Duration::from_secs(10);

/// Asks for all names once, and waits a little for the answers.
pub(crate) async fn first_pass(clusters: &[Arc<Cluster>]) {
    let mut lookups = JoinSet::new();
    for (cluster, number) in named(clusters) {
        lookups.spawn(async move { lookup(&cluster, number).await });
    }
    let all = async { while lookups.join_next().await.is_some() {} };
    if timeout(FIRST_WAIT, all).await.is_err() {
        warn!("names of endpoints are still being resolved: starting without them");
    }
    for (cluster, number) in named(clusters) {
        let endpoint = cluster.endpoint(number);
        if endpoint.state.address().is_none() {
            warn!(
                "endpoint is down: upstream={} endpoint={} reason=its name does not resolve",
                cluster.name, endpoint.name
            );
        }
    }
}

/// Asks again and again, for as long as it is polled.
pub(crate) async fn keep_resolving(clusters: Vec<Arc<Cluster>>) {
    let mut lookups = JoinSet::new();
    for (cluster, number) in named(&clusters) {
        lookups.spawn(async move {
            loop {
                let known = cluster.endpoint(number).state.address().is_some();
                tokio::time::sleep(if known { REFRESH } else { RETRY }).await;
                lookup(&cluster, number).await;
            }
        });
    }
    while lookups.join_next().await.is_some() {}
}

/// The endpoints that have a name to resolve.
fn named(clusters: &[Arc<Cluster>]) -> impl Iterator<Item = (Arc<Cluster>, u16)> {
    clusters.iter().flat_map(|cluster| {
        let numbers = cluster
            .endpoints
            .iter()
            .zip(0..)
            .filter(|(endpoint, _)| is_name(endpoint));
        numbers.map(|(_, number)| (Arc::clone(cluster), number))
    })
}

fn is_name(endpoint: &Endpoint) -> bool {
    endpoint.host.parse::<std::net::IpAddr>().is_err()
}

async fn lookup(cluster: &Cluster, number: u16) {
    let endpoint = cluster.endpoint(number);
    let answer = timeout(LOOKUP, lookup_host((endpoint.host.as_str(), endpoint.port))).await;
    let Ok(Ok(addresses)) = answer else { return };
    let addresses: Vec<SocketAddr> = addresses.collect();
    let known = endpoint.state.address();
    // An address that still is among the answers stays, so that connections to it are kept.
    if known.is_some_and(|known| addresses.contains(&known)) {
        return;
    }
    // Servers that bind to all of IPv4 only are common where names have addresses of both families.
    let first = addresses
        .iter()
        .find(|address| address.is_ipv4())
        .or_else(|| addresses.first());
    if let Some(address) = first
        && endpoint.state.found(*address)
    {
        info!(
            "endpoint has an address: upstream={} endpoint={} address={address}",
            cluster.name, endpoint.name
        );
    }
}
