//! The calls.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::{delete, get, patch, post},
};
use http::{HeaderValue, StatusCode, header::LOCATION};
use log::info;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use pingora::server::ShutdownWatch;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    task::JoinError,
};

use super::{
    caches::{cache, caches, purge, purge_all},
    call::Call,
    doors,
    edit::word,
    filters::{filters, metrics},
    maintenance,
    problem::{Problem, json},
    write::{Writing, write},
};
use crate::{
    config::{self, diagnostic::nearest},
    server::listeners::Listeners,
    snapshot::{Live, Pinned},
    upstream::{Change, Cluster, Endpoint, Listed, Location, MOST, Origin, Tls, UpstreamView},
};

/// What the calls look at and change.
pub(super) struct Desk {
    live: Live,
    pub(super) listeners: Arc<Listeners>,
    stopping: ShutdownWatch,
    /// Held from looking to the end of a change, so that of two each sees what the other did.
    changing: Arc<Mutex<()>>,
    pub(super) said: maintenance::Sayings,
}

pub(super) type Answer = Result<Response, Problem>;

type Names = (String, String);

/// All calls.
pub(super) fn calls(live: Live, listeners: Arc<Listeners>, stopping: ShutdownWatch) -> Router {
    let desk = Desk {
        live,
        listeners,
        stopping,
        changing: Arc::default(),
        said: maintenance::Sayings::default(),
    };
    let maintenance_of_all = get(maintenance::all)
        .put(maintenance::switch_all)
        .delete(maintenance::forget_all);
    let maintenance_of_one = get(maintenance::one)
        .put(maintenance::switch_one)
        .delete(maintenance::forget_one);
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(healthz))
        .route("/listeners", get(doors::listeners))
        .route("/filters", get(filters))
        .route("/maintenance", maintenance_of_all)
        .route("/maintenance/{route}", maintenance_of_one)
        .route("/metrics", get(metrics))
        .route("/upstreams", get(upstreams))
        .route("/upstreams/{upstream}", get(upstream))
        .route("/upstreams/{upstream}/endpoints", post(add))
        .route(
            "/upstreams/{upstream}/endpoints/{endpoint}",
            patch(change).delete(remove),
        )
        .route("/upstreams/{upstream}/changes", delete(forget))
        .route("/caches", get(caches))
        .route("/caches/{cache}", get(cache))
        .route("/caches/{cache}/purge", post(purge))
        .route("/purge", post(purge_all))
        .fallback(unknown)
        .method_not_allowed_fallback(not_so)
        .with_state(Arc::new(desk))
}

async fn index(call: Call<()>) -> Answer {
    call.names()?;
    let calls = CALLS.map(
        |(method, path, does)| serde_json::json!({ "method": method, "path": path, "does": does }),
    );
    let version = env!("CARGO_PKG_VERSION");
    Ok(json(
        StatusCode::OK,
        &serde_json::json!({ "edgeway": version, "calls": calls }),
    ))
}

/// What `GET /` tells.
const CALLS: [(&str, &str, &str); 20] = [
    ("GET", "/healthz", "tells whether the gateway serves"),
    (
        "GET",
        "/listeners",
        "shows all listeners: connections, and until when certificates are valid",
    ),
    (
        "GET",
        "/filters",
        "shows what filters have refused, and why",
    ),
    (
        "GET",
        "/maintenance",
        "shows what is closed for maintenance: everything, or routes",
    ),
    (
        "PUT",
        "/maintenance",
        "closes or opens everything: { on, allow, retry_after }",
    ),
    (
        "DELETE",
        "/maintenance",
        "forgets that: what the configuration says holds again",
    ),
    ("GET", "/maintenance/{route}", "shows one route"),
    ("PUT", "/maintenance/{route}", "closes or opens it"),
    ("DELETE", "/maintenance/{route}", "forgets that"),
    ("GET", "/metrics", "shows counts as Prometheus reads them"),
    (
        "GET",
        "/upstreams",
        "shows all upstreams and their endpoints",
    ),
    ("GET", "/upstreams/{upstream}", "shows one"),
    (
        "POST",
        "/upstreams/{upstream}/endpoints",
        "adds an endpoint: { address, weight, backup, max_connections, state }",
    ),
    (
        "PATCH",
        "/upstreams/{upstream}/endpoints/{endpoint}",
        "changes one: { weight, max_connections, state: up, drain or maintenance }",
    ),
    (
        "DELETE",
        "/upstreams/{upstream}/endpoints/{endpoint}",
        "removes one; its requests under way end normally",
    ),
    (
        "DELETE",
        "/upstreams/{upstream}/changes",
        "forgets all changes that were made here and not written to a file",
    ),
    (
        "GET",
        "/caches",
        "shows all caches: what is in them, and what has come of requests",
    ),
    ("GET", "/caches/{cache}", "shows one"),
    (
        "POST",
        "/caches/{cache}/purge",
        "purges { url, prefix, host, tags or all }, with soft: true to have it stale",
    ),
    ("POST", "/purge", "the same in all caches"),
];

async fn healthz(State(desk): State<Arc<Desk>>, call: Call<()>) -> Answer {
    call.names()?;
    if *desk.stopping.borrow() {
        let detail = "the gateway is stopping";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    }
    Ok(json(
        StatusCode::OK,
        &serde_json::json!({ "status": "serving" }),
    ))
}

#[derive(Serialize)]
struct Upstreams {
    upstreams: Vec<UpstreamView>,
}

async fn upstreams(State(desk): State<Arc<Desk>>, call: Call<()>) -> Answer {
    call.names()?;
    let gateway = desk.live.pin();
    let upstreams = gateway
        .clusters
        .iter()
        .map(|cluster| cluster.view())
        .collect();
    Ok(json(StatusCode::OK, &Upstreams { upstreams }))
}

async fn upstream(State(desk): State<Arc<Desk>>, call: Call<String>) -> Answer {
    let cluster = desk.cluster(&call.names()?)?;
    Ok(json(StatusCode::OK, &cluster.view()))
}

async fn add(State(desk): State<Arc<Desk>>, call: Call<String>) -> Answer {
    let upstream = &call.names;
    let changing = desk.change().await;
    let cluster = desk.cluster(upstream)?;
    let endpoint = new_endpoint(&call, &cluster)?;
    let listed = Listed::written(&endpoint, Origin::Admin);
    let name = listed.name.clone();
    let members = cluster.members();
    if members.endpoints.iter().any(|known| *known.name == *name) {
        let message = format!("the upstream `{upstream}` has the endpoint `{name}` already");
        return Err(Problem::conflict(message));
    }
    if members.endpoints.len() >= MOST {
        let message = format!("the upstream `{upstream}` has {MOST} endpoints, which are the most");
        return Err(Problem::conflict(message));
    }
    if call.persist() {
        let writing = Writing::Add(endpoint.into());
        desk.write(changing, cluster, writing).await?;
    } else {
        cluster.update(|book| book.add(listed));
    }
    told("added", &call, upstream, &name, "");
    let mut answer = desk.endpoint(upstream, &name, StatusCode::CREATED)?;
    if let Ok(location) = HeaderValue::try_from(location(upstream, &name)) {
        answer.headers_mut().insert(LOCATION, location);
    }
    Ok(answer)
}

async fn change(State(desk): State<Arc<Desk>>, call: Call<Names>) -> Answer {
    let (upstream, name) = &call.names;
    let changing = desk.change().await;
    let cluster = desk.cluster(upstream)?;
    let origin = origin(&cluster, name)?;
    let change: Change = call.json()?;
    if change == Change::default() {
        let message = "nothing would change: give a `weight`, a `state` or `max_connections`";
        return Err(Problem::bad(message));
    }
    if call.persist() {
        written_in_file(&cluster, name, origin)?;
        let writing = Writing::Change(name.clone(), change);
        desk.write(changing, cluster, writing).await?;
    } else {
        cluster.update(|book| book.change(name, change));
    }
    told("changed", &call, upstream, name, &shown(change));
    desk.endpoint(upstream, name, StatusCode::OK)
}

async fn remove(State(desk): State<Arc<Desk>>, call: Call<Names>) -> Answer {
    call.no_body()?;
    let (upstream, name) = &call.names;
    let changing = desk.change().await;
    let cluster = desk.cluster(upstream)?;
    let origin = origin(&cluster, name)?;
    if call.persist() {
        written_in_file(&cluster, name, origin)?;
        let writing = Writing::Remove(name.clone());
        desk.write(changing, cluster, writing).await?;
    } else {
        cluster.update(|book| book.remove(name));
    }
    told("removed", &call, upstream, name, "");
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn forget(State(desk): State<Arc<Desk>>, call: Call<String>) -> Answer {
    call.nothing_else()?;
    let _changing = desk.change().await;
    let cluster = desk.cluster(&call.names)?;
    cluster.update(|book| book.forget_changes());
    info!(
        "changes forgotten: upstream={} by={}",
        call.names, call.caller.0
    );
    Ok(StatusCode::NO_CONTENT.into_response())
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

    /// The upstream of this name, in the configuration in force.
    fn cluster(&self, name: &str) -> Result<Arc<Cluster>, Problem> {
        let gateway = self.live.pin();
        let mut clusters = gateway.clusters.iter();
        if let Some(cluster) = clusters.find(|cluster| *cluster.name == *name) {
            return Ok(Arc::clone(cluster));
        }
        let names = gateway.clusters.iter().map(|cluster| &*cluster.name);
        let near = nearest(name, names);
        Err(Problem::absent(
            format!("there is no upstream `{name}`"),
            near,
        ))
    }

    /// An endpoint after a change.
    fn endpoint(&self, upstream: &str, name: &str, status: StatusCode) -> Answer {
        let endpoint = self.cluster(upstream)?.view_endpoint(name);
        let endpoint = endpoint.ok_or_else(|| {
            Problem::conflict(format!(
                "the endpoint `{name}` was there for a moment only: somebody else has changed the upstream"
            ))
        })?;
        Ok(json(status, &endpoint))
    }

    /// Waits until no other change is under way.
    async fn change(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.changing).lock_owned().await
    }

    /// Writes a change to the file of the endpoints, and waits until it is in force. Goes to its end
    /// though its caller may leave.
    async fn write(
        self: &Arc<Self>,
        changing: OwnedMutexGuard<()>,
        cluster: Arc<Cluster>,
        writing: Writing,
    ) -> Result<(), Problem> {
        let desk = Arc::clone(self);
        let task = tokio::spawn(async move {
            let written = desk.write_through(&cluster, writing).await;
            drop(changing);
            written
        });
        task.await.map_err(|error| panicked(&error))?
    }

    async fn write_through(&self, cluster: &Cluster, writing: Writing) -> Result<(), Problem> {
        let Some(path) = cluster.source.as_ref().and_then(|source| source.file()) else {
            return Err(Problem::conflict(format!(
                "the upstream `{}` has no `discover: {{ file: ... }}` that the change could be written to",
                cluster.name
            )));
        };
        let path = path.to_owned();
        // A disk may take its time.
        let written = tokio::task::spawn_blocking(move || (write(&path, &writing), writing)).await;
        let (written, writing) = written.map_err(|error| panicked(&error))?;
        written?;
        // The configuration may have been replaced meanwhile.
        let cluster = self.cluster(&cluster.name)?;
        cluster.look().await;
        // What was said here before holds no more: the file says otherwise.
        cluster.update(|book| match &writing {
            Writing::Add(endpoint) => book.forget(&endpoint.name),
            Writing::Remove(name) => book.forget(name),
            Writing::Change(name, change) => book.forget_change(name, *change),
        });
        Ok(())
    }
}

pub(super) fn panicked(error: &JoinError) -> Problem {
    let detail = format!("writing has failed: {error}");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
}

/// The endpoint that is to be added, by the rules of the configuration.
fn new_endpoint(call: &Call<String>, cluster: &Cluster) -> Result<config::Endpoint, Problem> {
    /// What must be looked at before it is taken for an address.
    #[derive(Deserialize)]
    struct Text {
        address: String,
    }
    if let Ok(Text { address }) = call.json() {
        // Else whoever may call could read the files and variables of the gateway.
        if address.starts_with("env:") || address.starts_with("file:") {
            return Err(Problem::bad(
                "an `address` is written out here, without `env:` or `file:`",
            ));
        }
        if address.contains(char::is_control) {
            return Err(Problem::bad("an `address` has no control characters"));
        }
    }
    let endpoint: config::Endpoint = call.json()?;
    let unnamed = |tls: &Tls| tls.name.is_none();
    let needs_name = cluster.settings.transport.tls.as_ref().is_some_and(unnamed);
    if needs_name && matches!(Location::of(&endpoint.address), Location::Unix(_)) {
        return Err(Problem::conflict(format!(
            "which name must the certificate of this endpoint have? The `tls` of the upstream `{}` has no `name`",
            cluster.name
        )));
    }
    Ok(endpoint)
}

/// Where the endpoint of this name comes from.
fn origin(cluster: &Cluster, name: &str) -> Result<Origin, Problem> {
    let members = cluster.members();
    let known = |endpoint: &&Endpoint| *endpoint.name == *name;
    if let Some(endpoint) = members.endpoints.iter().find(known) {
        return Ok(endpoint.origin);
    }
    let near = nearest(
        name,
        members.endpoints.iter().map(|endpoint| &*endpoint.name),
    );
    let message = format!("the upstream `{}` has no endpoint `{name}`", cluster.name);
    Err(Problem::absent(message, near))
}

/// Whether an endpoint is one of those that a file holds, as far as this can be said here.
fn written_in_file(cluster: &Cluster, name: &str, origin: Origin) -> Result<(), Problem> {
    let elsewhere = match origin {
        Origin::Discovery => return Ok(()),
        Origin::Configuration => "is written in the configuration",
        Origin::Admin => "was added without `persist`",
    };
    if cluster
        .source
        .as_ref()
        .and_then(|source| source.file())
        .is_none()
    {
        // This is told by who writes.
        return Ok(());
    }
    Err(Problem::conflict(format!(
        "the endpoint `{name}` {elsewhere}: it is not in the file"
    )))
}

fn told<N>(done: &str, call: &Call<N>, upstream: &str, endpoint: &str, what: &str) {
    info!(
        "endpoint {done}: upstream={upstream} endpoint={endpoint}{what} persist={} by={}",
        call.persist(),
        call.caller.0
    );
}

fn shown(change: Change) -> String {
    let weight = change.weight.map(|weight| format!(" weight={weight}"));
    let state = change.state.map(|state| format!(" state={}", word(state)));
    let most = change
        .max_connections
        .map(|most| format!(" max_connections={most}"));
    [weight, state, most].into_iter().flatten().collect()
}

fn location(upstream: &str, endpoint: &str) -> String {
    let encoded = |text| utf8_percent_encode(text, SEGMENT);
    format!(
        "/upstreams/{}/endpoints/{}",
        encoded(upstream),
        encoded(endpoint)
    )
}

/// What can't stand for itself between two `/`.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b':')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b']')
    .add(b'`')
    .add(b'{')
    .add(b'}');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_one_segment_for_each_name() {
        assert_eq!(
            location("a/b", "unix:/run/ä.sock"),
            "/upstreams/a%2Fb/endpoints/unix%3A%2Frun%2F%C3%A4.sock"
        );
    }
}
