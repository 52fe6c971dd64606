//! All calls, and what they work on.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{Request, State},
    response::Response,
};
use edgeway_sdk::Resources;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    task::JoinError,
};

use super::{
    caches,
    call::Call,
    certificates, config,
    described::{Calls, Described},
    doors, explanations, filters, limits, live, logs, maintenance, metrics, openapi,
    problem::{Problem, json},
    routes, status, tail, upgrade, upstreams,
};
use crate::{
    server::{control::Orders, drain::Drain, listeners::Listeners, reload::History},
    snapshot::{Live, Pinned},
};

/// What the calls look at and change.
pub(super) struct Desk {
    pub(super) live: Live,
    pub(super) listeners: Arc<Listeners>,
    pub(super) drain: Drain,
    pub(super) orders: Orders,
    pub(super) history: Arc<History>,
    pub(super) resources: Resources,
    /// When the first call could be made.
    pub(super) started: Instant,
    /// Held from looking to the end of a change, so that of two each sees what the other did.
    changing: Arc<Mutex<()>>,
    pub(super) said: maintenance::Sayings,
    pub(super) readers: live::Readers,
    pub(super) described: Vec<Described>,
}

/// Those parts of the process that calls have to do with.
pub(in crate::server) struct Parts {
    pub(in crate::server) live: Live,
    pub(in crate::server) listeners: Arc<Listeners>,
    pub(in crate::server) drain: Drain,
    pub(in crate::server) orders: Orders,
    pub(in crate::server) history: Arc<History>,
    pub(in crate::server) resources: Resources,
}

/// The desk, as calls get it.
pub(super) type Shared = Arc<Desk>;

pub(super) type Answer = Result<Response, Problem>;

/// All calls, and those of them that need no token.
pub(super) fn calls(parts: Parts) -> (Router, Vec<&'static str>) {
    let calls = added(Calls::default());
    let open = calls.described.iter().filter(|call| call.open);
    let open = open.map(|call| call.path).collect();
    let desk = Desk {
        live: parts.live,
        listeners: parts.listeners,
        drain: parts.drain,
        orders: parts.orders,
        history: parts.history,
        resources: parts.resources,
        started: Instant::now(),
        changing: Arc::default(),
        said: maintenance::Sayings::default(),
        readers: live::Readers::default(),
        described: calls.described,
    };
    let router = calls
        .router
        .fallback(unknown)
        .method_not_allowed_fallback(not_so)
        .with_state(Arc::new(desk));
    (router, open)
}

/// Every file with calls adds its own, in the order in which they are shown.
pub(super) fn added(calls: Calls) -> Calls {
    let calls = calls.add(INDEX, index);
    let calls = status::add(calls);
    let calls = config::add(calls);
    let calls = openapi::add(calls);
    let calls = metrics::add(calls);
    let calls = live::add(calls);
    let calls = doors::add(calls);
    let calls = certificates::add(calls);
    let calls = routes::add(calls);
    let calls = upstreams::add(calls);
    let calls = caches::add(calls);
    let calls = filters::add(calls);
    let calls = limits::add(calls);
    let calls = upgrade::add(calls);
    let calls = explanations::add(calls);
    let calls = maintenance::add(calls);
    let calls = logs::add(calls);
    tail::add(calls)
}

const INDEX: Described = Described::get("/", "Lists the calls.").gives::<Index>(
    r#"{ "edgeway": "0.1.0", "calls": [{ "method": "GET", "path": "/livez", "does": "Tells whether the process works." }] }"#,
);

/// The calls that there are.
#[derive(Serialize, JsonSchema)]
struct Index {
    /// The version of the gateway.
    edgeway: &'static str,
    calls: Vec<Listed>,
}

#[derive(Serialize, JsonSchema)]
struct Listed {
    method: &'static str,
    path: &'static str,
    does: &'static str,
}

/// Browsers get a page.
async fn index(State(desk): State<Shared>, call: Call<()>) -> Answer {
    if call.browser {
        return Ok(live::page());
    }
    if call.browser {
        return Ok(live::page());
    }
    call.names()?;
    let listed = |call: &Described| Listed {
        method: call.method.as_str(),
        path: call.path,
        does: call.summary,
    };
    let index = Index {
        edgeway: env!("CARGO_PKG_VERSION"),
        calls: desk.described.iter().map(listed).collect(),
    };
    Ok(json(StatusCode::OK, &index))
}

async fn unknown(request: Request) -> Problem {
    let path = request.uri().path();
    Problem::absent(
        format!("there is no `{path}`; `GET /` lists the calls"),
        None,
    )
}

async fn not_so(request: Request) -> Problem {
    let (method, path) = (request.method(), request.uri().path());
    let detail = format!("`{path}` knows no {method}; `GET /` lists the calls");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

impl Desk {
    /// The configuration in force.
    pub(super) fn gateway(&self) -> Pinned {
        self.live.pin()
    }

    /// `serving`, `draining` or `stopping`.
    pub(super) fn serving(&self) -> &'static str {
        if self.drain.has_begun() {
            "stopping"
        } else if self.drain.is_withdrawn() {
            "draining"
        } else {
            "serving"
        }
    }

    /// Waits until no other change is under way.
    pub(super) async fn change(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.changing).lock_owned().await
    }
}

pub(super) fn panicked(error: &JoinError) -> Problem {
    let detail = format!("writing has failed: {error}");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
}
