//! The calls about logs: what is logged, and opening the files again.

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
    calls::{Answer, Shared},
    described::{Calls, Described},
    problem::{Problem, json},
};
use crate::telemetry::log as diagnostics;

/// Adds the calls of this file.
pub(super) fn add(calls: Calls) -> Calls {
    calls
        .add(LEVEL, level)
        .add(SET, set)
        .add(RESET, reset)
        .add(REOPEN, reopen)
}

const LEVEL: Described = Described::get("/v1/log-level", "Shows what is logged for diagnosis.")
    .gives::<Level>(r#"{ "level": "info" }"#);
const SET: Described = Described::put(
    "/v1/log-level",
    "Changes what is logged, until the process ends.",
)
.takes::<Level>(r#"{ "level": "info,edgeway::proxy=debug" }"#)
.gives::<Level>(r#"{ "level": "info,edgeway::proxy=debug" }"#);
const RESET: Described =
    Described::delete("/v1/log-level", "Logs what was logged at the start again.")
        .gives::<Level>(r#"{ "level": "info" }"#);
const REOPEN: Described = Described::post(
    "/v1/logs/reopen",
    "Opens the files of access logs again, as SIGUSR1 does: after they were moved.",
);

/// What is logged, as `RUST_LOG` has it.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LogLevel")]
struct Level {
    level: String,
}

async fn level(_: State<Shared>, call: Call<()>) -> Answer {
    call.names()?;
    shown()
}

async fn set(_: State<Shared>, call: Call<()>) -> Answer {
    let Level { level } = call.only_json()?;
    // A logger that is not ours takes no orders, whatever they are.
    shown()?;
    diagnostics::set(&level).map_err(Problem::bad)?;
    info!("log level: level={level} by={}", call.caller);
    shown()
}

async fn reset(_: State<Shared>, call: Call<()>) -> Answer {
    call.nothing_else()?;
    diagnostics::reset();
    info!("log level: as at the start by={}", call.caller);
    shown()
}

fn shown() -> Result<Response, Problem> {
    let level = diagnostics::level().ok_or_else(|| {
        Problem::conflict("the program that the gateway is part of has a logger of its own")
    })?;
    let level = level.to_string();
    Ok(json(StatusCode::OK, &Level { level }))
}

async fn reopen(State(desk): State<Shared>, call: Call<()>) -> Answer {
    call.nothing_else()?;
    edgeway_filters::reopen_logs(&desk.resources);
    info!("access logs reopened: by={}", call.caller);
    Ok(StatusCode::NO_CONTENT.into_response())
}
