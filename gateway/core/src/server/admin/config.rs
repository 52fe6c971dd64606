//! The calls about the configuration: what it is, what it was, and reading it again.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use log::info;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    call::Call,
    calls::{Answer, Shared},
    described::{Calls, Described},
    problem::{Problem, json},
};
use crate::{
    config::{diagnostic::Told, document::Tree},
    server::reload::{Attempt, By, Kept, Outcome, Replaced, since_1970},
};

/// Adds the calls of this file.
pub(super) fn add(calls: Calls) -> Calls {
    calls
        .add(RELOAD, reload)
        .add(SHOW, show)
        .add(HISTORY, history)
}

const RELOAD: Described = Described::post(
    "/v1/reload",
    "Reads the configuration again: 422 with what is wrong with it, if it is refused; the old one stays then.",
)
.gives::<Replaced>(
    r#"{ "revision": 7, "hash": "3f9a0c71e2b4", "changes": [{ "kind": "changed", "path": "routes[shop].cache.ttl",
         "what": "route", "name": "shop", "key": "cache.ttl", "before": "1s", "after": "5s" }],
         "warnings": [], "next_start": ["threads"], "took_ms": 12 }"#,
);

const SHOW: Described = Described::get(
    "/v1/config",
    "Shows the configuration in force, with `***` for secrets that are written out.",
)
.gives::<Shown<'_>>(
    r#"{ "revision": 7, "hash": "3f9a0c71e2b4", "secrets": "a1b2c3", "loaded_at_ms": 1790000000000,
         "files": ["/etc/edgeway/edgeway.yaml"], "config": { "routes": [{ "respond": { "text": "hello" } }] } }"#,
);

const HISTORY: Described = Described::get(
    "/v1/config/history",
    "Shows the last 20 times that the configuration was read, the last one first.",
)
.gives::<Past>(
    r#"{ "attempts": [{ "at_ms": 1790000000000, "by": "signal", "ok": false, "revision": null, "hash": null,
         "changes": [], "reason": "the new one has errors", "diagnostics": [{ "severity": "error",
         "message": "unknown upstream `shpo`", "file": "/etc/edgeway/edgeway.yaml", "line": 7, "column": 15,
         "path": "routes[0].upstream", "help": "did you mean `shop`?" }] }] }"#,
);

/// The configuration in force.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Configuration")]
struct Shown<'a> {
    revision: u64,
    /// The same for what says the same, on whatever machine.
    hash: &'a str,
    /// The same for the same secrets; null if none is written out.
    secrets: Option<&'a str>,
    loaded_at_ms: u64,
    /// The main file first.
    files: Vec<String>,
    /// All files as one, without anchors and merges.
    #[schemars(with = "serde_json::Value")]
    config: &'a Tree,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ConfigurationHistory")]
struct Past {
    attempts: Vec<Attempt>,
}

/// What is told of a configuration that was refused, beside what every problem has.
#[derive(Serialize)]
struct Refusal<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    diagnostics: &'a [Told],
    /// The same as `edgeway check` tells it.
    report: &'a str,
}

async fn reload(State(desk): State<Shared>, call: Call<()>) -> Answer {
    call.nothing_else()?;
    info!("the configuration is read again: by={}", call.caller);
    match desk.orders.reload(By::Call).await {
        Ok(Outcome::Replaced(replaced)) => Ok(json(StatusCode::OK, &replaced)),
        Ok(Outcome::Kept(kept)) => Ok(refused(&kept)),
        Err(_) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the gateway is stopping",
        )),
    }
}

fn refused(kept: &Kept) -> Response {
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    let refusal = Refusal {
        kind: "about:blank",
        title: "The configuration is refused",
        status: status.as_u16(),
        detail: format!("the old configuration stays: {}", kept.reason),
        diagnostics: &kept.diagnostics,
        report: &kept.report,
    };
    let mut response = json(status, &refusal).into_response();
    let kind = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

async fn show(State(desk): State<Shared>, call: Call<()>) -> Answer {
    call.names()?;
    let gateway = desk.gateway();
    let written = &gateway.written;
    let files = written.files.iter().map(|path| path.display().to_string());
    let shown = Shown {
        revision: gateway.revision,
        hash: &written.hash,
        secrets: written.secrets.as_deref(),
        loaded_at_ms: since_1970(gateway.loaded_at),
        files: files.collect(),
        config: &written.tree,
    };
    Ok(json(StatusCode::OK, &shown))
}

async fn history(State(desk): State<Shared>, call: Call<()>) -> Answer {
    call.names()?;
    let attempts = desk.history.attempts();
    Ok(json(StatusCode::OK, &Past { attempts }))
}
