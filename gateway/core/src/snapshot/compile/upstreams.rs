//! Upstreams, from what is written of them.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use edgeway_sdk::Resources;

use super::{Clusters, Compiler};
use crate::{
    config::{
        At, Balance, Endpoint, Entries, Upstream,
        diagnostic::{Diagnostic, Problems},
    },
    upstream::{self, Cluster, Settings, Share, Turns, endpoint::Patience},
};

pub(super) fn compile(
    compiler: Compiler<'_>,
    upstreams: &Entries<Upstream>,
    problems: &mut Problems,
) -> Clusters {
    let mut clusters = Clusters::new();
    for (name, upstream) in upstreams {
        // Endpoints that are wrong were left out, which has been told then.
        let written = compiler.document.elements(upstream.endpoints.node).len();
        if written == upstream.endpoints.value.len() {
            enough(name, &upstream.endpoints.value, problems);
        }
        differ(&upstream.endpoints.value, problems);
        clusters.insert(
            name.value.clone(),
            Arc::new(cluster(&name.value, upstream, compiler.resources)),
        );
    }
    clusters
}

/// How many endpoints an upstream can have. They are numbered by 16 bits.
const MOST: usize = 10_000;

fn enough(name: &At<String>, endpoints: &[At<Endpoint>], problems: &mut Problems) {
    if endpoints.is_empty() {
        let message = format!("the upstream `{}` has no endpoints", name.value);
        problems.push(Diagnostic::error(message).at(name));
    }
    if endpoints.len() > MOST {
        let message = format!(
            "the upstream `{}` has {} endpoints, {MOST} are the most",
            name.value,
            endpoints.len()
        );
        problems.push(Diagnostic::error(message).at(name));
    }
    if !endpoints.is_empty() && endpoints.iter().all(|endpoint| endpoint.value.backup) {
        let message = format!("all endpoints of the upstream `{}` are backups", name.value);
        problems.push(
            Diagnostic::error(message)
                .at(name)
                .help("a backup serves when the others can't"),
        );
    }
}

fn differ(endpoints: &[At<Endpoint>], problems: &mut Problems) {
    let mut known = HashMap::new();
    for endpoint in endpoints {
        let address = endpoint.value.address.to_string();
        let message = format!("the endpoint `{address}` is written twice");
        if let Some(first) = known.insert(address, endpoint) {
            let again = Diagnostic::error(message)
                .at(endpoint)
                .help("give it a `weight` instead");
            problems.push(again.also(first, "here first"));
        }
    }
}

fn cluster(name: &str, upstream: &Upstream, resources: &Resources) -> Cluster {
    let Balance::RoundRobin = upstream.balance;
    let endpoints = upstream
        .endpoints
        .value
        .iter()
        .take(MOST)
        .map(|endpoint| member(name, &endpoint.value, resources))
        .collect();
    let settings = Settings {
        patience: Patience {
            max_fails: upstream.max_fails,
            fail_timeout: upstream.fail_timeout.0,
        },
        tries: upstream.tries.get(),
        timeouts: upstream.timeouts.clone(),
        host: upstream.host.clone(),
        hide_headers: upstream
            .hide_headers
            .iter()
            .map(|header| header.0.clone())
            .collect(),
    };
    let turn = |tier: &str| resources.shared(&format!("{name}/{tier}"), Default::default);
    let turns = Turns {
        primary: turn("primary"),
        backup: turn("backup"),
    };
    Cluster::new(name.into(), endpoints, settings, turns)
}

fn member(
    upstream: &str,
    endpoint: &Endpoint,
    resources: &Resources,
) -> (upstream::Endpoint, Share) {
    let name = endpoint.address.to_string();
    let state = resources.shared(
        &format!("{upstream}/{name}"),
        upstream::endpoint::State::default,
    );
    if let Ok(address) = endpoint.address.host.parse() {
        state.found(SocketAddr::new(address, endpoint.address.port));
    }
    let member = upstream::Endpoint {
        name: name.into(),
        host: endpoint.address.host.clone(),
        port: endpoint.address.port,
        state,
    };
    (
        member,
        Share {
            weight: endpoint.weight.get(),
            backup: endpoint.backup,
        },
    )
}
