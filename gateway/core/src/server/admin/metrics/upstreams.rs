//! What is told of upstreams and their endpoints.

use std::sync::Arc;

use super::text::{Metrics, Type};
use crate::{
    snapshot::Gateway,
    telemetry::meter::{Event, TryFigures},
    upstream::{Cluster, Endpoint, Members, STATUSES},
};

/// So many endpoints of an upstream are told of each for itself, in the order in which they are found. What is told of
/// the upstream is of all.
const MOST: usize = 200;

/// An upstream at one moment.
struct Seen<'g> {
    cluster: &'g Cluster,
    figures: TryFigures,
    members: Arc<Members>,
}

/// What was counted of each upstream, and of its endpoints.
pub(super) fn measure(gateway: &Gateway, metrics: &mut Metrics) {
    let clusters = gateway.clusters.iter();
    let seen: Vec<_> = clusters
        .map(|cluster| Seen {
            cluster,
            figures: cluster.meter().figures(),
            members: cluster.members(),
        })
        .collect();
    times(&seen, metrics);
    retries(&seen, metrics);
    admission(&seen, metrics);
    health(&seen, metrics);
    let endpoints: Vec<_> = seen.iter().flat_map(Seen::endpoints).collect();
    tries(&endpoints, metrics);
    states(&endpoints, metrics);
}

impl Seen<'_> {
    fn name(&self) -> &str {
        &self.cluster.name
    }

    fn endpoints(&self) -> impl Iterator<Item = One<'_>> {
        let endpoints = self.members.endpoints.iter().take(MOST);
        endpoints.map(|endpoint| One {
            upstream: self,
            endpoint,
            figures: endpoint.state.meter.figures(),
        })
    }
}

fn times(seen: &[Seen<'_>], metrics: &mut Metrics) {
    let help = "From choosing the first endpoint for a request to the end of the response, with all tries.";
    metrics.family("edgeway_upstream_duration_seconds", help, Type::Histogram);
    for upstream in seen {
        metrics.histogram(&[("upstream", upstream.name())], &upstream.figures.took);
    }
    let help = "From asking an endpoint to the head of its answer, by try.";
    metrics.family("edgeway_upstream_first_byte_seconds", help, Type::Histogram);
    for upstream in seen {
        let labels = [("upstream", upstream.name())];
        metrics.histogram(&labels, &upstream.figures.first_byte);
    }
}

fn retries(seen: &[Seen<'_>], metrics: &mut Metrics) {
    let mut counted = |name, help, event| {
        metrics.family(name, help, Type::Counter);
        for upstream in seen {
            let labels = [("upstream", upstream.name())];
            metrics.sample(&labels, upstream.figures.events(event));
        }
    };
    let help = "Tries after the first of a request.";
    counted("edgeway_upstream_retries_total", help, Event::Retried);
    let help = "Retries that were not made, since too many others are.";
    let name = "edgeway_upstream_retries_over_budget_total";
    counted(name, help, Event::OverBudget);
    let help = "Requests that a second endpoint was sent as well, since the first was silent.";
    counted("edgeway_upstream_hedges_total", help, Event::Hedged);
    let help = "Of these, those that the second one has answered.";
    counted("edgeway_upstream_hedges_won_total", help, Event::HedgeWon);
    let help = "How often the breaker has opened.";
    let name = "edgeway_upstream_breaker_opened_total";
    counted(name, help, Event::BreakerOpened);
}

fn admission(seen: &[Seen<'_>], metrics: &mut Metrics) {
    let help = "Requests that were not sent to any endpoint, by the reason.";
    metrics.family("edgeway_upstream_refusals_total", help, Type::Counter);
    for upstream in seen {
        for (event, reason) in Event::REFUSALS {
            let labels = [("upstream", upstream.name()), ("reason", reason)];
            metrics.sample(&labels, upstream.figures.events(event));
        }
    }
    let queues = || {
        seen.iter().filter_map(|upstream| {
            let (size, _) = upstream.cluster.settings.queue?;
            Some((upstream, size))
        })
    };
    let help = "Requests that wait for an endpoint.";
    metrics.family("edgeway_upstream_queue_length", help, Type::Gauge);
    for (upstream, _) in queues() {
        let labels = [("upstream", upstream.name())];
        metrics.sample(&labels, upstream.cluster.queue.len());
    }
    let help = "How many may wait.";
    metrics.family("edgeway_upstream_queue_size", help, Type::Gauge);
    for (upstream, size) in queues() {
        metrics.sample(&[("upstream", upstream.name())], size);
    }
    let help = "What the breaker is: 1 for one of `closed`, `open`, `half_open`.";
    metrics.family("edgeway_upstream_breaker_state", help, Type::Gauge);
    for upstream in seen {
        let Some(now) = upstream.cluster.breaker_state() else {
            continue;
        };
        for state in ["closed", "open", "half_open"] {
            let labels = [("upstream", upstream.name()), ("state", state)];
            metrics.sample(&labels, u8::from(state == now));
        }
    }
}

fn health(seen: &[Seen<'_>], metrics: &mut Metrics) {
    let help = "Endpoints, by what they are.";
    metrics.family("edgeway_upstream_endpoints", help, Type::Gauge);
    for upstream in seen {
        let statuses = upstream.members.endpoints.iter();
        let statuses: Vec<_> = statuses
            .map(|endpoint| upstream.cluster.status_of(endpoint))
            .collect();
        for status in STATUSES {
            let count = statuses.iter().filter(|known| **known == status).count();
            let labels = [("upstream", upstream.name()), ("status", status)];
            metrics.sample(&labels, count);
        }
    }
}

/// An endpoint at one moment.
struct One<'s> {
    upstream: &'s Seen<'s>,
    endpoint: &'s Endpoint,
    figures: TryFigures,
}

impl One<'_> {
    fn labels(&self) -> [(&'static str, &str); 2] {
        [
            ("upstream", self.upstream.name()),
            ("endpoint", &self.endpoint.name),
        ]
    }

    fn labels_with<'a>(
        &'a self,
        name: &'static str,
        value: &'a str,
    ) -> [(&'static str, &'a str); 3] {
        let [upstream, endpoint] = self.labels();
        [upstream, endpoint, (name, value)]
    }
}

fn tries(endpoints: &[One<'_>], metrics: &mut Metrics) {
    let help = "Answers of an endpoint, by the class of their status.";
    metrics.family("edgeway_endpoint_answers_total", help, Type::Counter);
    for one in endpoints {
        let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        for (class, count) in classes.into_iter().zip(&one.figures.answers[1..]) {
            metrics.sample(&one.labels_with("code", class), count);
        }
    }
    let help = "Tries that an endpoint has not answered, by the reason.";
    metrics.family("edgeway_endpoint_failures_total", help, Type::Counter);
    for one in endpoints {
        for (event, reason) in Event::FAILURES {
            let count = one.figures.events(event);
            metrics.sample(&one.labels_with("reason", reason), count);
        }
    }
    let help = "From asking an endpoint to the head of its answer.";
    metrics.family("edgeway_endpoint_first_byte_seconds", help, Type::Summary);
    for one in endpoints {
        metrics.summary(&one.labels(), &one.figures.first_byte);
    }
    let help = "How often an endpoint was left out, since requests have failed there.";
    metrics.family("edgeway_endpoint_ejections_total", help, Type::Counter);
    for one in endpoints {
        metrics.sample(&one.labels(), one.figures.events(Event::LeftOut));
    }
    let help = "Checks of an endpoint, by whether they went well.";
    metrics.family("edgeway_endpoint_checks_total", help, Type::Counter);
    let checked = endpoints.iter();
    for one in checked.filter(|one| one.upstream.cluster.check.is_some()) {
        for (event, ok) in [(Event::Checked, "true"), (Event::CheckFailed, "false")] {
            metrics.sample(&one.labels_with("ok", ok), one.figures.events(event));
        }
    }
}

fn states(endpoints: &[One<'_>], metrics: &mut Metrics) {
    let help = "Requests and connections that are under way at an endpoint.";
    metrics.family("edgeway_endpoint_active", help, Type::Gauge);
    for one in endpoints {
        metrics.sample(&one.labels(), one.endpoint.state.load.active());
    }
    let help = "Whether an endpoint is sent requests.";
    metrics.family("edgeway_endpoint_up", help, Type::Gauge);
    for one in endpoints {
        let status = one.upstream.cluster.status_of(one.endpoint);
        let up = status == "up" || status == "slow_start";
        metrics.sample(&one.labels(), u8::from(up));
    }
}
