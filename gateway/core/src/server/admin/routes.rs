//! The calls about routes: which requests they are for, what is done with these, and what has come of it.

use std::{sync::Arc, time::Duration};

use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    call::Call,
    calls::{Answer, Shared},
    described::{Calls, Described},
    problem::{Problem, json},
};
use crate::{
    config::diagnostic::nearest,
    snapshot::{Gateway, Route},
    telemetry::meter::{RequestFigures, Spread},
};

macro_rules! route_example {
    () => {
        r#"{ "name": "shop", "match": "example.com /shop/*", "filters": ["request_id", "jwt", "rate_limit (report)"],
             "target": "upstream shop", "closed": false,
             "requests": { "total": 18402, "in_flight": 4, "received_bytes": 120400, "sent_bytes": 90211840,
                           "none": 3, "1xx": 0, "2xx": 18300, "3xx": 12, "4xx": 80, "5xx": 7,
                           "mean_ms": 4.1, "p50_ms": 3.2, "p95_ms": 9.8, "p99_ms": 24.0 } }"#
    };
}

/// Adds the calls of this file.
pub(super) fn add(calls: Calls) -> Calls {
    calls.add(LIST, routes).add(ONE, route)
}

const LIST: Described = Described::get(
    "/v1/routes",
    "Shows all routes, in the order in which they are looked at, and last what becomes of requests without one.",
)
.gives::<Routes>(concat!(r#"{ "routes": ["#, route_example!(), "] }"));
const ONE: Described =
    Described::get("/v1/routes/{route}", "Shows one route.").gives::<View>(route_example!());

#[derive(Serialize, JsonSchema)]
struct Routes {
    routes: Vec<View>,
}

/// A route.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Route")]
struct View {
    name: String,
    /// Which requests it is for.
    r#match: String,
    /// In the order in which they see a request. `(report)`: it only tells what it would refuse; `(sometimes)`: it is
    /// for some requests only.
    filters: Vec<String>,
    target: String,
    /// Whether it is closed for maintenance, or everything is.
    closed: bool,
    requests: Figures,
}

/// What has come of requests since the process has started.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RequestFigures")]
struct Figures {
    total: u64,
    in_flight: u64,
    /// Of bodies, as they were sent.
    received_bytes: u64,
    sent_bytes: u64,
    /// The client has left before there was an answer.
    none: u64,
    #[serde(rename = "1xx")]
    informational: u64,
    #[serde(rename = "2xx")]
    success: u64,
    #[serde(rename = "3xx")]
    redirection: u64,
    #[serde(rename = "4xx")]
    client_error: u64,
    #[serde(rename = "5xx")]
    server_error: u64,
    mean_ms: Option<f64>,
    /// The half of them took at most so long.
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
}

async fn routes(State(desk): State<Shared>, call: Call<()>) -> Answer {
    call.names()?;
    let gateway = desk.gateway();
    let routes = all(&gateway);
    let routes = routes.map(|route| View::of(route, &gateway)).collect();
    Ok(json(StatusCode::OK, &Routes { routes }))
}

async fn route(State(desk): State<Shared>, call: Call<String>) -> Answer {
    let name = call.names()?;
    let gateway = desk.gateway();
    if let Some(route) = all(&gateway).find(|route| *route.name == *name) {
        return Ok(json(StatusCode::OK, &View::of(route, &gateway)));
    }
    let near = nearest(&name, all(&gateway).map(|route| &*route.name));
    Err(Problem::absent(format!("there is no route `{name}`"), near))
}

fn all(gateway: &Gateway) -> impl Iterator<Item = &Arc<Route>> {
    gateway.router.routes().chain([&gateway.fallback])
}

impl View {
    fn of(route: &Route, gateway: &Gateway) -> Self {
        let own = route
            .closing
            .as_ref()
            .and_then(|closing| closing.own.as_ref());
        Self {
            name: route.name.to_string(),
            r#match: route.pattern.clone(),
            filters: route.chain.links.iter().map(ToString::to_string).collect(),
            target: route.destination(),
            closed: gateway.maintenance.is_on() || own.is_some_and(|own| own.is_on()),
            requests: Figures::of(&route.meter.figures()),
        }
    }
}

impl Figures {
    fn of(figures: &RequestFigures) -> Self {
        let [
            none,
            informational,
            success,
            redirection,
            client_error,
            server_error,
        ] = figures.replies.classes();
        let took = &figures.took;
        Self {
            total: figures.replies.total(),
            in_flight: figures.in_flight(),
            received_bytes: figures.received,
            sent_bytes: figures.sent,
            none,
            informational,
            success,
            redirection,
            client_error,
            server_error,
            mean_ms: took.mean().map(milliseconds),
            p50_ms: quantile(took, 0.5),
            p95_ms: quantile(took, 0.95),
            p99_ms: quantile(took, 0.99),
        }
    }
}

fn quantile(took: &Spread, share: f64) -> Option<f64> {
    took.quantile(share).map(milliseconds)
}

/// To three digits: more are noise to whoever reads them.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
