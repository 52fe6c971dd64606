//! The calls about filters: what they have refused.

use std::collections::HashSet;

use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    call::Call,
    calls::{Answer, Shared},
    described::{Calls, Described},
    metrics::{Metrics, Type},
    problem::json,
};
use crate::{
    snapshot::{Gateway, Link},
    telemetry::tally::{Count, Recent, Tally},
};

#[derive(Serialize, JsonSchema)]
struct Filters {
    filters: Vec<View>,
}

/// A filter of a chain.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Filter")]
struct View {
    /// `*` for the filters of all routes.
    route: Box<str>,
    name: Box<str>,
    mode: &'static str,
    /// Whether it is for some requests only.
    conditional: bool,
    refused: u64,
    reported: u64,
    failed: u64,
    rules: Vec<Rule>,
    recent: Vec<Shown>,
}

#[derive(Serialize, JsonSchema)]
struct Rule {
    rule: Box<str>,
    refused: u64,
    reported: u64,
}

/// A refusal that was not long ago.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Refusal")]
pub(super) struct Shown {
    pub(super) at_ms: u64,
    request_id: Box<str>,
    client: String,
    route: Box<str>,
    status: u16,
    reported: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Box<str>>,
}

/// Adds the calls of this file.
pub(super) fn add(calls: Calls) -> Calls {
    calls.add(LIST, filters)
}

const LIST: Described = Described::get("/v1/filters", "Shows what filters have refused, and why.")
    .gives::<Filters>(
        r#"{ "filters": [{ "route": "shop", "name": "rate_limit", "mode": "enforce", "conditional": false,
             "refused": 12, "reported": 0, "failed": 0,
             "rules": [{ "rule": "10/s", "refused": 12, "reported": 0 }],
             "recent": [{ "at_ms": 1763784000000, "request_id": "0f3b", "client": "192.0.2.7", "route": "shop",
                          "status": 429, "reported": false, "rule": "10/s" }] }] }"#,
    );

async fn filters(State(desk): State<Shared>, call: Call<()>) -> Answer {
    call.names()?;
    let gateway = desk.gateway();
    let filters = links(&gateway).map(View::of).collect();
    Ok(json(StatusCode::OK, &Filters { filters }))
}

/// What filters have refused, as Prometheus reads it.
pub(super) fn measure(gateway: &Gateway, metrics: &mut Metrics) {
    let refused = "Requests that a filter has refused (enforce), or would have (report).";
    metrics.family("edgeway_filter_refusals_total", refused, Type::Counter);
    for tally in tallies(gateway) {
        for Count {
            rule,
            refused,
            reported,
        } in tally.counts()
        {
            for (mode, count) in [("enforce", refused), ("report", reported)] {
                let labels = [
                    ("route", &*tally.route),
                    ("filter", &*tally.filter),
                    ("rule", &*rule),
                    ("mode", mode),
                ];
                metrics.sample(&labels, count);
            }
        }
    }
    let failed = "Requests for which a filter could not decide, and that were refused for that.";
    metrics.family("edgeway_filter_failures_total", failed, Type::Counter);
    for tally in tallies(gateway) {
        let labels = [("route", &*tally.route), ("filter", &*tally.filter)];
        metrics.sample(&labels, tally.failed());
    }
}

/// The tallies of all filters that may refuse something, each once: routes that look the same share them.
fn tallies(gateway: &Gateway) -> impl Iterator<Item = &Tally> {
    let mut seen = HashSet::new();
    links(gateway)
        .filter(|link| link.filter.refuses())
        .map(|link| &*link.tally)
        .filter(move |tally| seen.insert(std::ptr::from_ref(*tally)))
}

/// The same, each with its mode.
pub(super) fn watching(gateway: &Gateway) -> impl Iterator<Item = (&'static str, &Tally)> {
    let mut seen = HashSet::new();
    links(gateway)
        .filter(|link| link.filter.refuses())
        .map(|link| (mode(link), &*link.tally))
        .filter(move |(_, tally)| seen.insert(std::ptr::from_ref(*tally)))
}

fn mode(link: &Link) -> &'static str {
    if link.reports { "report" } else { "enforce" }
}

/// Every filter of every chain once: those of all routes, then those of each.
pub(super) fn links(gateway: &Gateway) -> impl Iterator<Item = &Link> {
    let global = &gateway.fallback.chain.links;
    let own = gateway
        .router
        .routes()
        .flat_map(|route| route.chain.links.iter().skip(global.len()));
    global.iter().chain(own)
}

impl View {
    fn of(link: &Link) -> Self {
        let tally = &link.tally;
        let counts = tally.counts();
        Self {
            route: tally.route.clone(),
            name: tally.filter.clone(),
            mode: mode(link),
            conditional: link.applies.is_some(),
            refused: counts.iter().map(|count| count.refused).sum(),
            reported: counts.iter().map(|count| count.reported).sum(),
            failed: tally.failed(),
            rules: counts.into_iter().map(Rule::from).collect(),
            recent: tally.recent().into_iter().map(Shown::from).collect(),
        }
    }
}

impl From<Count> for Rule {
    fn from(count: Count) -> Self {
        Self {
            rule: count.rule,
            refused: count.refused,
            reported: count.reported,
        }
    }
}

impl From<Recent> for Shown {
    fn from(recent: Recent) -> Self {
        let refusal = recent.refusal;
        Self {
            at_ms: recent.at,
            request_id: recent.request_id,
            client: recent.client.to_string(),
            route: (*recent.route).into(),
            status: refusal.status.as_u16(),
            reported: refusal.reported,
            rule: refusal.rule,
            key: refusal.key,
            reason: refusal.reason,
        }
    }
}
