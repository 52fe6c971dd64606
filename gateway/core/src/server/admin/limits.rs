//! The call about limits: what they are at, and who is held back.

use std::{collections::HashMap, net::IpAddr};

use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    call::Call,
    calls::{Answer, Shared},
    described::{Calls, Described},
    filters::links,
    problem::json,
};
use crate::{
    snapshot::{Gateway, Link},
    telemetry::{
        refused::Offender,
        tally::{Count, Recent},
    },
};

/// Adds the call of this file.
pub(super) fn add(calls: Calls) -> Calls {
    calls.add(LIST, limits)
}

const LIST: Described = Described::get(
    "/v1/limits",
    "Shows the filters that limit how much is let through: what they are at, and whom they have held back of late.",
)
.gives::<Limits>(
    r#"{ "limits": [{ "route": "shop", "filter": "adaptive_concurrency", "refused": 12, "reported": 0,
         "rules": [{ "rule": "", "refused": 12, "reported": 0 }],
         "state": { "limit": 47, "in_flight": 31 },
         "held_back": [{ "client": "192.0.2.7", "key": "192.0.2.7", "times": 3, "last_ms": 1763784000000 }] }],
         "clients": [{ "client": "192.0.2.7", "count": 220, "error": 1, "filter": "rate_limit" }] }"#,
);

/// How many clients are shown that are refused most.
const CLIENTS: usize = 20;

#[derive(Serialize, JsonSchema)]
struct Limits {
    limits: Vec<View>,
    /// Those that filters of all kinds refuse most; the first one the most.
    clients: Vec<Client>,
}

/// A filter that limits how much is let through.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Limit")]
struct View {
    /// `*` for the filters of all routes.
    route: String,
    filter: String,
    refused: u64,
    /// What it would have refused, were it not only to report.
    reported: u64,
    /// The same by its rules.
    rules: Vec<Rule>,
    /// What it is at now, in the words of the filter.
    state: serde_json::Map<String, serde_json::Value>,
    /// Of its last refusals: whom, the latest first.
    held_back: Vec<HeldBack>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LimitRule")]
struct Rule {
    /// Empty for a filter that has one only.
    rule: String,
    refused: u64,
    reported: u64,
}

#[derive(Serialize, JsonSchema)]
struct HeldBack {
    client: IpAddr,
    /// What it was counted by, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    times: u64,
    last_ms: u64,
}

#[derive(Serialize, JsonSchema)]
struct Client {
    client: IpAddr,
    /// How often; what is older than five minutes counts half, and so on.
    count: u64,
    /// By how much that may be too large.
    error: u64,
    /// Which filter has refused it last.
    filter: String,
}

async fn limits(State(desk): State<Shared>, call: Call<()>) -> Answer {
    call.names()?;
    let gateway = desk.gateway();
    let limits = Limits {
        limits: links(&gateway).filter_map(View::of).collect(),
        clients: clients(&gateway),
    };
    Ok(json(StatusCode::OK, &limits))
}

fn clients(gateway: &Gateway) -> Vec<Client> {
    let most = gateway.refused.most(CLIENTS).into_iter();
    let client = |offender: Offender| Client {
        client: offender.client,
        count: offender.count,
        error: offender.error,
        filter: offender.filter.to_string(),
    };
    most.map(client).collect()
}

impl View {
    /// None for a filter that limits nothing.
    fn of(link: &Link) -> Option<Self> {
        let state = link.filter.limit()?;
        let tally = &link.tally;
        let counts = tally.counts();
        let state = state
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into()));
        Some(Self {
            route: tally.route.to_string(),
            filter: tally.filter.to_string(),
            refused: counts.iter().map(|count| count.refused).sum(),
            reported: counts.iter().map(|count| count.reported).sum(),
            rules: counts.into_iter().map(Rule::from).collect(),
            state: state.collect(),
            held_back: held_back(&tally.recent()),
        })
    }
}

impl From<Count> for Rule {
    fn from(count: Count) -> Self {
        Self {
            rule: count.rule.into(),
            refused: count.refused,
            reported: count.reported,
        }
    }
}

/// Each client and key once, the latest first.
fn held_back(recent: &[Recent]) -> Vec<HeldBack> {
    let mut places = HashMap::new();
    let mut held: Vec<HeldBack> = Vec::new();
    for refusal in recent {
        let key = refusal.refusal.key.as_deref();
        let place = *places.entry((refusal.client, key)).or_insert_with(|| {
            held.push(HeldBack {
                client: refusal.client,
                key: key.map(str::to_owned),
                times: 0,
                last_ms: refusal.at,
            });
            held.len() - 1
        });
        if let Some(held) = held.get_mut(place) {
            held.times += 1;
        }
    }
    held
}
