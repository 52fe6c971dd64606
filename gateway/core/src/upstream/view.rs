//! An upstream as it is shown to an operator.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    BalanceBy, Cluster, Endpoint, Location, Origin, balance::Policy, breaker, clock,
    endpoint::Status,
};
use crate::config::Mode;

/// An upstream at one moment.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Upstream")]
pub(crate) struct UpstreamView {
    #[serde(flatten)]
    about: UpstreamAbout,
    endpoints: Vec<EndpointView>,
}

/// All that is not said of one of its endpoints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct UpstreamAbout {
    name: String,
    balance: &'static str,
    /// None if it has none.
    breaker: Option<BreakerView>,
    /// None if it has none.
    queue: Option<QueueView>,
    /// Where endpoints come from that are not written down.
    source: Option<String>,
    /// Whether somebody has changed it since the configuration was read.
    changed: bool,
    /// The endpoints that somebody has removed here. They stay away until they are added again, or the changes
    /// are forgotten.
    removed: Vec<String>,
}

impl UpstreamView {
    pub(crate) fn parts(self) -> (UpstreamAbout, Vec<EndpointView>) {
        (self.about, self.endpoints)
    }
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Breaker")]
struct BreakerView {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_s: Option<f64>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Queue")]
struct QueueView {
    /// How many requests wait.
    waiting: u32,
    /// How many may.
    size: u32,
}

/// What an endpoint may be.
pub(crate) const STATUSES: [&str; 8] = [
    "up",
    "slow_start",
    "left_out",
    "unhealthy",
    "unchecked",
    "draining",
    "maintenance",
    "unresolved",
];

/// An endpoint at one moment.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Endpoint")]
pub(crate) struct EndpointView {
    pub(crate) name: String,
    /// None while its name is not resolved.
    address: Option<String>,
    origin: Origin,
    weight: u16,
    backup: bool,
    /// None if there is no limit.
    max_connections: Option<u32>,
    /// What the operator wants.
    state: Mode,
    /// What it is.
    status: &'static str,
    /// How long it will be left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out_s: Option<f64>,
    pub(crate) active: u32,
    requests: u64,
    failures: u64,
    /// None if nothing is known, or what was known is very old.
    latency_ms: Option<f64>,
    /// The part of its share that it gets: less than 1 while it starts slowly.
    ease: f64,
    /// None if there was no check.
    check: Option<CheckView>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Check")]
struct CheckView {
    ok: bool,
    /// None if it went well.
    reason: Option<String>,
    took_ms: f64,
    ago_s: f64,
}

impl Cluster {
    /// All that is known of it.
    pub(crate) fn view(&self) -> UpstreamView {
        let settings = &self.settings;
        let endpoints = self.members();
        let about = UpstreamAbout {
            name: self.name.to_string(),
            balance: self.balance(),
            breaker: self.breaker(),
            queue: settings.queue.map(|(size, _)| QueueView {
                waiting: self.queue.len(),
                size,
            }),
            source: self.described().map(|described| {
                let own = format!("upstream={} ", self.name);
                described
                    .strip_prefix(&own)
                    .unwrap_or(&described)
                    .to_owned()
            }),
            changed: self.is_changed(),
            removed: self.removed(),
        };
        UpstreamView {
            about,
            endpoints: endpoints
                .endpoints
                .iter()
                .map(|endpoint| self.view_of(endpoint))
                .collect(),
        }
    }

    /// The endpoint of this name.
    pub(crate) fn view_endpoint(&self, name: &str) -> Option<EndpointView> {
        let members = self.members();
        let number = members.of_name(name)?;
        Some(self.view_of(members.endpoint(number)))
    }

    fn view_of(&self, endpoint: &Endpoint) -> EndpointView {
        let (state, now) = (&endpoint.state, clock::now());
        let status = self.status(endpoint, now);
        let left_out_s = match status {
            Status::LeftOut { until } => Some(seconds(until.saturating_sub(now))),
            _ => None,
        };
        let latency = state.load.latency.get(now);
        EndpointView {
            name: endpoint.name.to_string(),
            address: endpoint.address(),
            origin: endpoint.origin,
            weight: endpoint.weight,
            backup: endpoint.backup,
            max_connections: (endpoint.max_connections > 0).then_some(endpoint.max_connections),
            state: endpoint.mode,
            status: status.as_str(),
            left_out_s,
            active: state.load.active(),
            requests: state.load.requests(),
            failures: state.load.failures(),
            latency_ms: (latency > 0.0).then(|| rounded(latency / 1e3)),
            ease: rounded(state.ease(now, self.settings.slow_start)),
            check: state.last_check().map(|check| CheckView {
                ok: check.ok,
                reason: (!check.ok).then(|| check.reason.clone()),
                took_ms: rounded(check.took.as_secs_f64() * 1e3),
                ago_s: seconds(now.saturating_sub(check.at)),
            }),
        }
    }

    /// Whether one of its endpoints serves, as far as is known.
    pub(crate) fn is_up(&self) -> bool {
        let now = clock::now();
        let members = self.members();
        members
            .endpoints
            .iter()
            .any(|endpoint| matches!(self.status(endpoint, now), Status::Up | Status::SlowStart))
    }

    /// The strongest reason of an endpoint not to serve. One whose name is not resolved serves
    /// nothing, whatever else is known of it, but an operator who has taken it out knows better.
    fn status(&self, endpoint: &Endpoint, now: u64) -> Status {
        let settings = &self.settings;
        if endpoint.mode == Mode::Up && !endpoint.is_reachable() {
            return Status::Unresolved;
        }
        endpoint
            .state
            .status(&settings.patience, settings.slow_start, now)
    }

    fn balance(&self) -> &'static str {
        match (self.settings.policy, &self.settings.balance_by) {
            (Policy::RoundRobin, _) => "round_robin",
            (Policy::LeastConnections, _) => "least_connections",
            (Policy::LeastTime, _) => "least_time",
            (Policy::RandomTwo, _) => "random_two",
            (Policy::Hash { .. }, BalanceBy::ClientAddress) => "ip_hash",
            (Policy::Hash { .. }, BalanceBy::Nothing | BalanceBy::Value(_)) => "hash",
        }
    }

    /// What an endpoint is, in a word: one of [`STATUSES`].
    pub(crate) fn status_of(&self, endpoint: &Endpoint) -> &'static str {
        self.status(endpoint, clock::now()).as_str()
    }

    /// What the breaker is: `closed`, `open` or `half_open`; none if there is none.
    pub(crate) fn breaker_state(&self) -> Option<&'static str> {
        self.breaker().map(|breaker| breaker.state)
    }

    fn breaker(&self) -> Option<BreakerView> {
        let breaking = self.settings.breaker.as_ref()?;
        let (state, retry_after) = match self.shared.breaker.state(&breaking.rules, clock::now()) {
            breaker::State::Closed => ("closed", None),
            breaker::State::Open { retry_after } => ("open", Some(retry_after)),
            breaker::State::HalfOpen => ("half_open", None),
        };
        Some(BreakerView {
            state,
            retry_after_s: retry_after.map(|time: Duration| rounded(time.as_secs_f64())),
        })
    }
}

impl Endpoint {
    /// Where it is, as people write it; none while its name is not resolved.
    fn address(&self) -> Option<String> {
        match &self.location {
            Location::Unix(path) => Some(format!("unix:{}", path.display())),
            Location::Address(address) => Some(address.to_string()),
            Location::Name { .. } => self.state.address().map(|address| address.to_string()),
        }
    }
}

fn seconds(micros: u64) -> f64 {
    rounded(micros as f64 / 1e6)
}

/// To three digits: more are noise to whoever reads them.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}
