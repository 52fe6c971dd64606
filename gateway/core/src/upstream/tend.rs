//! What runs beside the requests of an upstream: discovery, names, checks.

use std::{collections::HashMap, sync::Arc};

use log::{info, warn};
use pingora::upstreams::peer::HttpPeer;
use tokio::{
    join,
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{Instant, timeout_at},
};

use super::{
    Cluster, clock,
    discovery::{Resolver, follow},
    endpoint::{self, Thresholds, Turned, Verdict},
    health::{Check, Checked, Checks, Outcome},
    members::{Endpoint, Members},
    resolve::{FIRST_WAIT, Named, answers, first_answers},
};

/// Finds endpoints and their addresses, as far as that takes no long time.
pub(crate) async fn first_pass(clusters: &[Arc<Cluster>], resolver: &Resolver) {
    let due = Instant::now() + FIRST_WAIT;
    let written = named(clusters);
    let (looked, _) = join!(
        timeout_at(due, looks(clusters)),
        timeout_at(due, answers(resolver, &written)),
    );
    if looked.is_err() {
        warn!("endpoints are still being discovered: starting without them");
    }
    // Those that were just found may have names, too.
    let mut missing = named(clusters);
    missing.retain(|named| named.state.address().is_none());
    first_answers(resolver, &missing, due).await;
}

fn named(clusters: &[Arc<Cluster>]) -> Vec<Named> {
    let named = clusters.iter().flat_map(|cluster| cluster.named());
    named.collect()
}

/// Looks for the endpoints of all clusters once.
async fn looks(clusters: &[Arc<Cluster>]) {
    let mut looks: JoinSet<()> = clusters
        .iter()
        .filter(|cluster| cluster.source.is_some())
        .map(|cluster| {
            let cluster = Arc::clone(cluster);
            async move { cluster.look().await }
        })
        .collect();
    while looks.join_next().await.is_some() {}
}

/// Looks after an upstream, for as long as it is polled.
pub(crate) async fn tend(cluster: Arc<Cluster>, resolver: Resolver) {
    join!(
        discover(&cluster, &resolver),
        resolve(&cluster, &resolver),
        check(&cluster)
    );
}

async fn discover(cluster: &Cluster, resolver: &Resolver) {
    let Some(source) = &cluster.source else {
        return;
    };
    let (tell, mut told) = mpsc::unbounded_channel();
    let following = follow(Arc::clone(source), move |found| {
        // The other end is right here.
        tell.send(found).ok();
    });
    let taking = async {
        while let Some(found) = told.recv().await {
            info!(
                "endpoints discovered: upstream={} number={}",
                cluster.name,
                found.len()
            );
            // Those that are there serve until it is known where the new ones are.
            let unresolved = cluster.unresolved(&found);
            first_answers(resolver, &unresolved, Instant::now() + FIRST_WAIT).await;
            cluster.found(found);
        }
    };
    join!(following, taking);
}

/// Follows the names of the endpoints that there are.
async fn resolve(cluster: &Cluster, resolver: &Resolver) {
    let mut changes = cluster.changes();
    let mut running: HashMap<Arc<str>, Running> = HashMap::new();
    loop {
        let mut before = std::mem::take(&mut running);
        for named in cluster.named() {
            let name = Arc::clone(&named.endpoint);
            let start = || Running(tokio::spawn(named.follow(resolver.clone())).abort_handle());
            let task = before.remove(&name).unwrap_or_else(start);
            running.insert(name, task);
        }
        drop(before);
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// A task that ends when this is dropped.
struct Running(AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Checks the endpoints that there are.
async fn check(cluster: &Arc<Cluster>) {
    let Some(check) = &cluster.check else { return };
    let mut changes = cluster.changes();
    let mut checks = Checks::default();
    loop {
        let members = cluster.members();
        let numbers = (0..).take(members.endpoints.len());
        let endpoints = numbers.map(|number| {
            Arc::new(Patient {
                cluster: Arc::clone(cluster),
                check: Arc::clone(check),
                members: Arc::clone(&members),
                number,
            }) as Arc<dyn Checked>
        });
        checks.update(check, endpoints);
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// An endpoint that is checked.
struct Patient {
    cluster: Arc<Cluster>,
    check: Arc<Check>,
    members: Arc<Members>,
    number: u16,
}

impl Patient {
    fn endpoint(&self) -> &Endpoint {
        self.members.endpoint(self.number)
    }
}

impl Checked for Patient {
    fn name(&self) -> &str {
        &self.endpoint().name
    }

    fn peer(&self) -> Option<HttpPeer> {
        self.endpoint().peer()
    }

    fn checked(&self, outcome: Outcome) {
        let thresholds = Thresholds {
            well_after: self.check.healthy_after.get(),
            ill_after: self.check.unhealthy_after.get(),
        };
        let reason = outcome.result.err();
        let failed = reason.is_some();
        let found = endpoint::Check {
            ok: reason.is_none(),
            took: outcome.took,
            reason: reason.clone().unwrap_or_default(),
            at: clock::now(),
        };
        let (upstream, name) = (&self.cluster.name, self.name());
        match self.endpoint().state.probed(found, thresholds) {
            Some(Turned::Well) => info!("endpoint is healthy: upstream={upstream} endpoint={name}"),
            Some(Turned::Ill) => warn!(
                "endpoint is unhealthy: upstream={upstream} endpoint={name} reason={}",
                reason.unwrap_or_default()
            ),
            None => {}
        }
        let state = &self.endpoint().state;
        // It may be well at another address of its name.
        if failed
            && matches!(state.verdict(), Verdict::Ill | Verdict::Doubted)
            && let Some(address) = state.address()
        {
            self.cluster.unreachable(self.endpoint(), address);
        }
    }
}
