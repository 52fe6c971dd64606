//! The calls about the gateway as a whole: how it is, whether it serves, taking it out and stopping it.

use std::{
    collections::HashSet,
    process,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
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
    described::{Calls, Described, Parameter},
    problem::{Problem, json},
};
use crate::{
    server::reload::since_1970,
    snapshot::{Gateway, Route},
    upstream::Cluster,
};

/// Adds the calls of this file.
pub(super) fn add(calls: Calls) -> Calls {
    calls
        .add(LIVEZ, livez)
        .add(READYZ, readyz)
        .add(HEALTHZ, readyz)
        .add(STATUS, status)
        .add(DRAIN, drain)
        .add(UNDRAIN, undrain)
        .add(STOP, stop)
}

const LIVEZ: Described = Described::get("/livez", "Tells whether the process works.")
    .gives::<Probe>(r#"{ "status": "serving" }"#)
    .for_everybody();
const READYZ: Described = Described::get(
    "/readyz",
    "Tells whether requests are welcome: 503 while it drains or stops.",
)
.with(VERBOSE)
.gives::<Probe>(r#"{ "status": "serving" }"#)
.for_everybody();
const HEALTHZ: Described = Described::get("/healthz", "The same as /readyz.")
    .with(VERBOSE)
    .gives::<Probe>(r#"{ "status": "serving" }"#)
    .for_everybody();
const STATUS: Described = Described::get("/v1/status", "Shows how the gateway is.").gives::<Status>(
    r#"{ "version": "0.1.0", "pid": 4711, "state": "serving", "started_at_ms": 1763784000000, "uptime_s": 86400,
         "revision": 7, "hash": "9f86d081884c", "loaded_at_ms": 1763870000000, "files": ["/etc/edgeway/edgeway.yaml"],
         "maintenance": false, "requests": { "total": 1840221, "failed": 12, "refused": 318, "in_flight": 41 },
         "connections": 812,
         "listeners": [{ "name": "https", "bind": "0.0.0.0:443", "connections": 812 }],
         "upstreams": [{ "name": "shop", "endpoints": 3, "up": 2 }] }"#,
);
const DRAIN: Described = Described::post(
    "/v1/drain",
    "Has balancers in front go elsewhere: /readyz fails, connections end after their answers, nothing is refused.",
)
.with(&[Parameter {
    name: "stop",
    about: "`true` stops the process as well, as `POST /v1/stop` does.",
    example: "true",
}])
.gives::<Probe>(r#"{ "status": "draining" }"#);
const UNDRAIN: Described =
    Described::delete("/v1/drain", "Takes that back: the gateway is ready again.")
        .gives::<Probe>(r#"{ "status": "serving" }"#);
const STOP: Described = Described::post(
    "/v1/stop",
    "Stops the process as SIGTERM does: when the requests under way have ended.",
)
.gives_with::<Probe>(202, r#"{ "status": "stopping" }"#);

const VERBOSE: &[Parameter] = &[Parameter {
    name: "verbose",
    about: "Shows what was looked at. Needs the token.",
    example: "true",
}];

/// What the gateway does with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    Serving,
    /// All is answered, but it would rather not be asked.
    Draining,
    /// Nothing new is taken.
    Stopping,
}

impl Phase {
    pub(super) fn of(desk: &Desk) -> Self {
        if desk.drain.has_begun() {
            return Self::Stopping;
        }
        if desk.drain.is_withdrawn() {
            return Self::Draining;
        }
        Self::Serving
    }
}

/// What a probe is told.
#[derive(Serialize, JsonSchema)]
struct Probe {
    status: Phase,
    /// What was looked at, if the probe wants to know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checks: Vec<Check>,
}

/// Something that was looked at.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Probed")]
struct Check {
    name: String,
    ok: bool,
    /// Whether the gateway is not ready without.
    needed: bool,
    reason: Option<String>,
}

impl From<Phase> for Probe {
    fn from(status: Phase) -> Self {
        let checks = Vec::new();
        Self { status, checks }
    }
}

/// What answers this is the thread that reads configurations and runs checks of health.
async fn livez(State(desk): State<Shared>, call: Call<()>) -> Answer {
    call.names()?;
    Ok(json(StatusCode::OK, &Probe::from(Phase::of(&desk))))
}

/// `?verbose`, with whatever value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Verbose {
    verbose: Option<String>,
}

/// The admin listener answers from the first round of checks of health on, and so does this.
async fn readyz(State(desk): State<Shared>, call: Call<()>) -> Answer {
    let Verbose { verbose } = call.asked()?;
    call.no_body()?;
    let phase = Phase::of(&desk);
    if verbose.is_some() {
        let status = match phase {
            Phase::Serving => StatusCode::OK,
            Phase::Draining | Phase::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        };
        let checks = checks(&desk, phase);
        let probe = Probe {
            status: phase,
            checks,
        };
        return Ok(json(status, &probe));
    }
    match phase {
        Phase::Serving => Ok(json(StatusCode::OK, &Probe::from(phase))),
        Phase::Draining => Err(unavailable(
            "the gateway is draining: `DELETE /v1/drain` ends that",
        )),
        Phase::Stopping => Err(unavailable("the gateway is stopping")),
    }
}

fn unavailable(detail: &str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
}

/// An upstream without endpoints is told, but the gateway serves the others.
fn checks(desk: &Desk, phase: Phase) -> Vec<Check> {
    let needed = |name: &str, fails: Option<&str>| Check {
        name: name.to_owned(),
        ok: fails.is_none(),
        needed: true,
        reason: fails.map(str::to_owned),
    };
    let draining = (phase == Phase::Draining).then_some("`POST /v1/drain` was called");
    let stopping = (phase == Phase::Stopping).then_some("the process has been told to stop");
    let mut checks = vec![
        needed("not draining", draining),
        needed("not stopping", stopping),
    ];
    let gateway = desk.gateway();
    checks.extend(gateway.clusters.iter().map(|cluster| {
        let (up, all) = up(cluster);
        Check {
            name: format!("upstream {}", cluster.name),
            ok: up > 0,
            needed: false,
            reason: (up == 0).then(|| format!("none of its {all} endpoints is up")),
        }
    }));
    checks
}

/// How the gateway is.
#[derive(Serialize, JsonSchema)]
struct Status {
    version: &'static str,
    pid: u32,
    state: Phase,
    started_at_ms: u64,
    uptime_s: u64,
    /// Of the configuration: it grows by one with every reload, from 1 at the start.
    revision: u64,
    hash: String,
    loaded_at_ms: u64,
    files: Vec<String>,
    /// Whether everything is closed.
    maintenance: bool,
    requests: Requests,
    /// Those of clients that are open.
    connections: usize,
    listeners: Vec<Listener>,
    upstreams: Vec<Upstream>,
}

/// Since the process has started.
#[derive(Default, Serialize, JsonSchema)]
#[schemars(rename = "RequestTotals")]
struct Requests {
    total: u64,
    /// Answered with 5xx.
    failed: u64,
    /// Answered with 4xx.
    refused: u64,
    in_flight: u64,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ListenerSummary")]
struct Listener {
    name: String,
    bind: String,
    connections: usize,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "UpstreamSummary")]
struct Upstream {
    name: String,
    endpoints: usize,
    /// How many of them get requests.
    up: usize,
}

async fn status(State(desk): State<Shared>, call: Call<()>) -> Answer {
    call.names()?;
    let gateway = desk.gateway();
    let uptime = desk.started.elapsed();
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        pid: process::id(),
        state: Phase::of(&desk),
        started_at_ms: since_1970(begun(uptime)),
        uptime_s: uptime.as_secs(),
        revision: gateway.revision,
        hash: gateway.written.hash.clone(),
        loaded_at_ms: since_1970(gateway.loaded_at),
        files: shown_files(&gateway),
        maintenance: gateway.maintenance.is_on(),
        requests: requests(&gateway),
        connections: desk.drain.connections(),
        listeners: listeners(&desk),
        upstreams: gateway.clusters.iter().map(Upstream::of).collect(),
    };
    Ok(json(StatusCode::OK, &status))
}

fn begun(uptime: Duration) -> SystemTime {
    SystemTime::now()
        .checked_sub(uptime)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

fn shown_files(gateway: &Gateway) -> Vec<String> {
    let files = gateway.written.files.iter();
    files.map(|file| file.display().to_string()).collect()
}

fn listeners(desk: &Desk) -> Vec<Listener> {
    let running = desk.listeners.running();
    let listeners = running.iter().map(|listener| {
        let settings = listener.settings();
        Listener {
            name: settings.spec.name.clone(),
            bind: settings.spec.bind.to_string(),
            connections: listener.connections.load(Ordering::Relaxed),
        }
    });
    listeners.collect()
}

impl Upstream {
    fn of(cluster: &Arc<Cluster>) -> Self {
        let (up, endpoints) = up(cluster);
        Self {
            name: cluster.name.to_string(),
            endpoints,
            up,
        }
    }
}

/// How many endpoints get requests, and how many there are.
fn up(cluster: &Cluster) -> (usize, usize) {
    let members = cluster.members();
    let serves = |status| matches!(status, "up" | "slow_start" | "unchecked");
    let statuses = members
        .endpoints
        .iter()
        .map(|endpoint| cluster.status_of(endpoint));
    let up = statuses.filter(|status| serves(*status)).count();
    (up, members.endpoints.len())
}

fn requests(gateway: &Gateway) -> Requests {
    let mut sum = Requests::default();
    for route in routes(gateway) {
        let figures = route.meter.figures();
        let [_, _, _, _, refused, failed] = figures.replies.classes();
        sum.total += figures.replies.total();
        sum.failed += failed;
        sum.refused += refused;
        sum.in_flight += figures.in_flight();
    }
    sum
}

/// All routes, the one for what has none as well; of those that share a meter one.
pub(super) fn routes(gateway: &Gateway) -> impl Iterator<Item = &Arc<Route>> {
    let mut seen = HashSet::new();
    let all = gateway.router.routes().chain([&gateway.fallback]);
    all.filter(move |route| seen.insert(Arc::as_ptr(&route.meter)))
}

/// `?stop=true`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Also {
    #[serde(default)]
    stop: bool,
}

async fn drain(State(desk): State<Shared>, call: Call<()>) -> Answer {
    let Also { stop } = call.asked()?;
    call.no_body()?;
    desk.drain.withdraw(true);
    info!("draining: by={}", call.caller);
    if stop {
        return Ok(end(&desk, &call));
    }
    Ok(json(StatusCode::OK, &Probe::from(Phase::of(&desk))))
}

async fn undrain(State(desk): State<Shared>, call: Call<()>) -> Answer {
    call.nothing_else()?;
    if desk.drain.has_begun() {
        return Err(Problem::conflict("the gateway is stopping: it is too late"));
    }
    desk.drain.withdraw(false);
    info!("no longer draining: by={}", call.caller);
    Ok(json(StatusCode::OK, &Probe::from(Phase::of(&desk))))
}

async fn stop(State(desk): State<Shared>, call: Call<()>) -> Answer {
    call.nothing_else()?;
    Ok(end(&desk, &call))
}

fn end(desk: &Desk, call: &Call<()>) -> Response {
    info!("stopping: by={}", call.caller);
    desk.drain.begin();
    let stopping = Probe::from(Phase::Stopping);
    json(StatusCode::ACCEPTED, &stopping).into_response()
}
