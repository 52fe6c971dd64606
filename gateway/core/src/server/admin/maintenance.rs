//! The calls about maintenance: what is closed, and closing and opening it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use log::info;
use serde::{Deserialize, Serialize};

use super::{
    call::Call,
    calls::{Answer, Desk},
    metrics::{Metrics, Type},
    problem::{Problem, json},
};
use crate::{
    config::{Network, diagnostic::nearest, scalar::Span},
    snapshot::{Gateway, Maintenance, Networks, Said, Switch},
};

/// The switches of which calls have said something: it holds, though the route be gone for a while.
#[derive(Default)]
pub(super) struct Sayings(Mutex<HashMap<String, Arc<Switch>>>);

impl Sayings {
    fn hold(&self, route: &str, switch: &Arc<Switch>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(route.to_owned(), Arc::clone(switch));
    }

    fn forget(&self, route: &str) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(route);
    }
}

/// What is closed.
#[derive(Serialize)]
struct All {
    all: View,
    /// Those of which the configuration or a call says something.
    routes: Vec<View>,
}

/// Whether everything, or a route, is closed.
#[derive(Serialize)]
struct View {
    /// `*` for everything.
    route: String,
    on: bool,
    /// Who has said so.
    said_by: &'static str,
    /// What the configuration says.
    configured: bool,
    allow: Vec<String>,
    retry_after_s: Option<u64>,
    refused: u64,
    /// When a call has said something.
    #[serde(skip_serializing_if = "Option::is_none")]
    said_at_ms: Option<u64>,
}

impl View {
    fn of(route: &str, maintenance: &Maintenance) -> Self {
        let said = maintenance.switch.said();
        let allow = said.as_ref().and_then(|said| said.allow.as_ref());
        let allow = allow.unwrap_or(&maintenance.plan.allow);
        let said_at = said.as_ref().map(|said| said.at);
        Self {
            route: route.to_owned(),
            on: maintenance.is_on(),
            said_by: match (&said, maintenance.plan.written) {
                (Some(_), _) => "call",
                (None, true) => "configuration",
                (None, false) => "default",
            },
            configured: maintenance.plan.on,
            allow: allow.iter().map(ToString::to_string).collect(),
            retry_after_s: maintenance.retry_after().map(|time| time.as_secs()),
            refused: maintenance.switch.refused(),
            said_at_ms: said_at.map(|at| {
                let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            }),
        }
    }
}

/// `{ "on": true, "allow": ["10.0.0.0/8"], "retry_after": "10m" }`: what is not given is as the configuration has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    on: bool,
    allow: Option<Vec<Network>>,
    retry_after: Option<Span>,
}

pub(super) async fn all(State(desk): State<Arc<Desk>>, call: Call<()>) -> Answer {
    call.names()?;
    let gateway = desk.gateway();
    let of_note = routes(&gateway).filter(|(_, maintenance)| maintenance.is_of_note());
    let all = All {
        all: View::of(EVERYTHING, &gateway.maintenance),
        routes: of_note
            .map(|(route, maintenance)| View::of(route, maintenance))
            .collect(),
    };
    Ok(json(StatusCode::OK, &all))
}

pub(super) async fn one(State(desk): State<Arc<Desk>>, call: Call<String>) -> Answer {
    let route = call.names()?;
    let gateway = desk.gateway();
    Ok(shown(&route, named(&gateway, &route)?))
}

pub(super) async fn switch_all(State(desk): State<Arc<Desk>>, call: Call<()>) -> Answer {
    switch(&desk, &call, EVERYTHING, &desk.gateway().maintenance)
}

pub(super) async fn switch_one(State(desk): State<Arc<Desk>>, call: Call<String>) -> Answer {
    let gateway = desk.gateway();
    switch(&desk, &call, &call.names, named(&gateway, &call.names)?)
}

pub(super) async fn forget_all(State(desk): State<Arc<Desk>>, call: Call<()>) -> Answer {
    forget(&desk, &call, EVERYTHING, &desk.gateway().maintenance)
}

pub(super) async fn forget_one(State(desk): State<Arc<Desk>>, call: Call<String>) -> Answer {
    let gateway = desk.gateway();
    forget(&desk, &call, &call.names, named(&gateway, &call.names)?)
}

/// What stands for all routes, and for what has none.
const EVERYTHING: &str = "*";

fn switch<N>(desk: &Desk, call: &Call<N>, route: &str, maintenance: &Maintenance) -> Answer {
    let wish: Wish = call.only_json()?;
    desk.said.hold(route, &maintenance.switch);
    maintenance.switch.say(Said {
        on: wish.on,
        allow: wish.allow.as_deref().map(Networks::new),
        retry_after: wish.retry_after.map(|span| span.0),
        at: SystemTime::now(),
    });
    info!(
        "maintenance: route={route} on={} by={}",
        wish.on, call.caller.0
    );
    Ok(shown(route, maintenance))
}

fn forget<N>(desk: &Desk, call: &Call<N>, route: &str, maintenance: &Maintenance) -> Answer {
    call.nothing_else()?;
    desk.said.forget(route);
    maintenance.switch.forget();
    let on = maintenance.is_on();
    info!(
        "maintenance: route={route} as configured, on={on} by={}",
        call.caller.0
    );
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn shown(route: &str, maintenance: &Maintenance) -> Response {
    json(StatusCode::OK, &View::of(route, maintenance))
}

/// The routes that can be closed, by their names.
fn routes(gateway: &Gateway) -> impl Iterator<Item = (&str, &Maintenance)> {
    let routes = gateway.router.routes();
    routes.filter_map(|route| Some((&*route.name, &**route.closing.as_ref()?.own.as_ref()?)))
}

fn named<'g>(gateway: &'g Gateway, name: &str) -> Result<&'g Maintenance, Problem> {
    if let Some((_, maintenance)) = routes(gateway).find(|(route, _)| *route == name) {
        return Ok(maintenance);
    }
    let near = nearest(name, routes(gateway).map(|(route, _)| route));
    Err(Problem::absent(format!("there is no route `{name}`"), near))
}

/// What is closed, as Prometheus reads it.
pub(super) fn measure(gateway: &Gateway, metrics: &mut Metrics) {
    let of_note = || {
        let routes = routes(gateway).filter(|(_, maintenance)| maintenance.is_of_note());
        [(EVERYTHING, &gateway.maintenance)]
            .into_iter()
            .chain(routes)
    };
    let closed = "Whether everything (*) or a route is closed for maintenance.";
    metrics.family("edgeway_maintenance", closed, Type::Gauge);
    for (route, maintenance) in of_note() {
        metrics.sample(&[("route", route)], u8::from(maintenance.is_on()));
    }
    let refused = "Requests that were refused for maintenance.";
    metrics.family("edgeway_maintenance_refusals_total", refused, Type::Counter);
    for (route, maintenance) in of_note() {
        metrics.sample(&[("route", route)], maintenance.switch.refused());
    }
}
