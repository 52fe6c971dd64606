//! The calls about upstreams: what their endpoints are, and changing those.

use std::sync::Arc;

use axum::{extract::State, response::IntoResponse};
use http::{HeaderValue, StatusCode, header::LOCATION};
use log::info;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;

use super::{
    call::{Call, PERSIST},
    calls::{Answer, Desk, Shared, panicked},
    described::{Calls, Described},
    edit::word,
    problem::{Problem, json},
    write::{Writing, write},
};
use crate::{
    config::{self, Mode, diagnostic::nearest},
    upstream::{
        Change, Cluster, Endpoint, EndpointView, Listed, Location, MOST, Origin, Tls, UpstreamView,
    },
};

type Names = (String, String);

macro_rules! endpoint_example {
    () => {
        r#"{ "name": "10.0.0.7:8080", "address": "10.0.0.7:8080", "origin": "configuration", "weight": 5,
             "backup": false, "max_connections": null, "state": "drain", "status": "draining", "active": 3,
             "requests": 1840, "failures": 2, "latency_ms": 4.2, "ease": 1.0,
             "check": { "ok": true, "reason": null, "took_ms": 1.3, "ago_s": 0.7 } }"#
    };
}

macro_rules! upstream_example {
    () => {
        concat!(
            r#"{ "name": "shop", "balance": "round_robin", "breaker": { "state": "closed" }, "queue": null,
                 "source": null, "changed": true, "removed": [], "endpoints": ["#,
            endpoint_example!(),
            "] }"
        )
    };
}

#[derive(Serialize, JsonSchema)]
struct Upstreams {
    upstreams: Vec<UpstreamView>,
}

/// Adds the calls of this file.
pub(super) fn add(calls: Calls) -> Calls {
    calls
        .add(LIST, upstreams)
        .add(ONE, upstream)
        .add(ADD, add_endpoint)
        .add(CHANGE, change)
        .add(REMOVE, remove)
        .add(FORGET, forget)
}

const LIST: Described = Described::get("/v1/upstreams", "Shows all upstreams and their endpoints.")
    .gives::<Upstreams>(UPSTREAMS);
const ONE: Described = Described::get("/v1/upstreams/{upstream}", "Shows one upstream.")
    .gives::<UpstreamView>(UPSTREAM);
const ADD: Described = Described::post(
    "/v1/upstreams/{upstream}/endpoints",
    "Adds an endpoint, as the configuration has it.",
)
.with(PERSIST)
.takes::<NewEndpoint>(r#"{ "address": "10.0.0.7:8080", "weight": 5 }"#)
.gives_with::<EndpointView>(201, ENDPOINT);
const CHANGE: Described = Described::patch(
    "/v1/upstreams/{upstream}/endpoints/{endpoint}",
    "Changes an endpoint: what is not given stays.",
)
.with(PERSIST)
.takes::<Change>(r#"{ "state": "drain" }"#)
.gives::<EndpointView>(ENDPOINT);
const REMOVE: Described = Described::delete(
    "/v1/upstreams/{upstream}/endpoints/{endpoint}",
    "Removes an endpoint; its requests under way end normally.",
)
.with(PERSIST);
const FORGET: Described = Described::delete(
    "/v1/upstreams/{upstream}/changes",
    "Forgets all changes that were made here and not written to a file.",
);

const UPSTREAMS: &str = concat!(r#"{ "upstreams": ["#, upstream_example!(), "] }");
const UPSTREAM: &str = upstream_example!();
const ENDPOINT: &str = endpoint_example!();

/// An endpoint as a call adds it.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "it is read as the configuration's own; this only says what that looks like"
)]
struct NewEndpoint {
    /// `HOST:PORT` or `unix:/path`.
    address: String,
    /// Its share, compared with those of the others; 1 if not given.
    #[schemars(range(min = 1))]
    weight: Option<u16>,
    /// Whether it serves only when no other can.
    backup: Option<bool>,
    /// Requests at once; that of the upstream if not given.
    #[schemars(range(min = 1))]
    max_connections: Option<u32>,
    state: Option<Mode>,
}

async fn upstreams(State(desk): State<Shared>, call: Call<()>) -> Answer {
    call.names()?;
    let gateway = desk.live.pin();
    let upstreams = gateway
        .clusters
        .iter()
        .map(|cluster| cluster.view())
        .collect();
    Ok(json(StatusCode::OK, &Upstreams { upstreams }))
}

async fn upstream(State(desk): State<Shared>, call: Call<String>) -> Answer {
    let cluster = desk.cluster(&call.names()?)?;
    Ok(json(StatusCode::OK, &cluster.view()))
}

async fn add_endpoint(State(desk): State<Shared>, call: Call<String>) -> Answer {
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
    if call.persist()? {
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

async fn change(State(desk): State<Shared>, call: Call<Names>) -> Answer {
    let (upstream, name) = &call.names;
    let changing = desk.change().await;
    let cluster = desk.cluster(upstream)?;
    let origin = origin(&cluster, name)?;
    let change: Change = call.json()?;
    if change == Change::default() {
        let message = "nothing would change: give a `weight`, a `state` or `max_connections`";
        return Err(Problem::bad(message));
    }
    if call.persist()? {
        written_in_file(&cluster, name, origin)?;
        let writing = Writing::Change(name.clone(), change);
        desk.write(changing, cluster, writing).await?;
    } else {
        cluster.update(|book| book.change(name, change));
    }
    told("changed", &call, upstream, name, &shown(change));
    desk.endpoint(upstream, name, StatusCode::OK)
}

async fn remove(State(desk): State<Shared>, call: Call<Names>) -> Answer {
    call.no_body()?;
    let (upstream, name) = &call.names;
    let changing = desk.change().await;
    let cluster = desk.cluster(upstream)?;
    let origin = origin(&cluster, name)?;
    if call.persist()? {
        written_in_file(&cluster, name, origin)?;
        let writing = Writing::Remove(name.clone());
        desk.write(changing, cluster, writing).await?;
    } else {
        cluster.update(|book| book.remove(name));
    }
    told("removed", &call, upstream, name, "");
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn forget(State(desk): State<Shared>, call: Call<String>) -> Answer {
    call.nothing_else()?;
    let _changing = desk.change().await;
    let cluster = desk.cluster(&call.names)?;
    cluster.update(|book| book.forget_changes());
    info!(
        "changes forgotten: upstream={} by={}",
        call.names, call.caller
    );
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl Desk {
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
    let persist = call.persist().unwrap_or_default();
    info!(
        "endpoint {done}: upstream={upstream} endpoint={endpoint}{what} persist={persist} by={}",
        call.caller
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
        "/v1/upstreams/{}/endpoints/{}",
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
            "/v1/upstreams/a%2Fb/endpoints/unix%3A%2Frun%2F%C3%A4.sock"
        );
    }
}
