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
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    call::Call,
    calls::{Answer, Desk, Shared},
    described::{Calls, Described},
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

macro_rules! closing_example {
    () => {
        r#"{ "route": "*", "on": true, "said_by": "call", "configured": false, "allow": ["10.0.0.0/8"],
             "retry_after_s": 600, "refused": 31, "said_at_ms": 1763784000000 }"#
    };
}

/// What is closed.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Closings")]
pub(super) struct All {
    all: View,
    /// Those of which the configuration or a call says something.
    routes: Vec<View>,
}

/// Whether everything, or a route, is closed.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Closing")]
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
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Maintenance")]
struct Wish {
    on: bool,
    #[schemars(with = "Option<Vec<String>>")]
    allow: Option<Vec<Network>>,
    #[schemars(with = "Option<String>")]
    retry_after: Option<Span>,
}

/// Adds the calls of this file.
pub(super) fn add(calls: Calls) -> Calls {
    calls
        .add(ALL, all)
        .add(SWITCH_ALL, switch_all)
        .add(FORGET_ALL, forget_all)
        .add(ONE, one)
        .add(SWITCH_ONE, switch_one)
        .add(FORGET_ONE, forget_one)
}

const ALL: Described = Described::get(
    "/v1/maintenance",
    "Shows what is closed for maintenance: everything, or routes.",
)
.gives::<All>(concat!(
    r#"{ "all": "#,
    closing_example!(),
    r#", "routes": [] }"#
));
const SWITCH_ALL: Described = Described::put("/v1/maintenance", "Closes or opens everything.")
    .takes::<Wish>(WISH)
    .gives::<View>(closing_example!());
const FORGET_ALL: Described = Described::delete(
    "/v1/maintenance",
    "Forgets that: what the configuration says holds again.",
);
const ONE: Described = Described::get(
    "/v1/maintenance/{route}",
    "Shows whether a route is closed.",
)
.gives::<View>(closing_example!());
const SWITCH_ONE: Described = Described::put("/v1/maintenance/{route}", "Closes or opens a route.")
    .takes::<Wish>(WISH)
    .gives::<View>(closing_example!());
const FORGET_ONE: Described = Described::delete(
    "/v1/maintenance/{route}",
    "Forgets what was said of a route: what the configuration says holds again.",
);

const WISH: &str = r#"{ "on": true, "allow": ["10.0.0.0/8"], "retry_after": "10m" }"#;

async fn all(State(desk): State<Shared>, call: Call<()>) -> Answer {
    call.names()?;
    Ok(json(StatusCode::OK, &all_of(&desk.gateway())))
}

/// Everything, and the routes of which something is said.
pub(super) fn all_of(gateway: &Gateway) -> All {
    let of_note = routes(gateway).filter(|(_, maintenance)| maintenance.is_of_note());
    All {
        all: View::of(EVERYTHING, &gateway.maintenance),
        routes: of_note
            .map(|(route, maintenance)| View::of(route, maintenance))
            .collect(),
    }
}

async fn one(State(desk): State<Shared>, call: Call<String>) -> Answer {
    let route = call.names()?;
    let gateway = desk.gateway();
    Ok(shown(&route, named(&gateway, &route)?))
}

async fn switch_all(State(desk): State<Shared>, call: Call<()>) -> Answer {
    switch(&desk, &call, EVERYTHING, &desk.gateway().maintenance)
}

async fn switch_one(State(desk): State<Shared>, call: Call<String>) -> Answer {
    let gateway = desk.gateway();
    switch(&desk, &call, &call.names, named(&gateway, &call.names)?)
}

async fn forget_all(State(desk): State<Shared>, call: Call<()>) -> Answer {
    forget(&desk, &call, EVERYTHING, &desk.gateway().maintenance)
}

async fn forget_one(State(desk): State<Shared>, call: Call<String>) -> Answer {
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
        wish.on, call.caller
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
        call.caller
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
