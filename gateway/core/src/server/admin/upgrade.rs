//! The call that has another program take the place of the process.

use std::time::Duration;

use axum::extract::State;
use edgeway_sdk::Period;
use http::StatusCode;
use log::info;
use serde::Deserialize;

use super::{
    call::Call,
    calls::{Answer, Shared},
    described::{Calls, Described, Parameter},
    problem::{Problem, json},
};
use crate::server::upgrade::{Done, PATIENCE};

/// Adds the calls of this file.
pub(super) fn add(calls: Calls) -> Calls {
    calls.add(UPGRADE, upgrade)
}

const UPGRADE: Described = Described::post(
    "/v1/upgrade",
    "Has the program that is at the path of the running one now take its place, without a lost connection: 409 with \
     the reason if it does not come to serve; nothing has changed then.",
)
.with(&[Parameter {
    name: "timeout",
    about: "How long the new process may take until it serves, at most `60s`.",
    example: "20s",
}])
.gives::<Done>(
    r#"{ "pid": 4711, "version": "0.2.0", "program": "/usr/bin/edgeway", "took_ms": 180 }"#,
);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    timeout: Option<Period>,
}

async fn upgrade(State(desk): State<Shared>, call: Call<()>) -> Answer {
    call.no_body()?;
    let asked: Asked = call.asked()?;
    let patience = asked.timeout.map_or(PATIENCE, Duration::from);
    if patience > PATIENCE {
        return Err(Problem::bad(format!("`timeout` is at most {PATIENCE:?}")));
    }
    info!("an upgrade is asked for: by={}", call.caller);
    match desk.orders.upgrade(patience).await {
        Ok(Ok(done)) => Ok(json(StatusCode::OK, &done)),
        Ok(Err(reason)) => Err(Problem::conflict(reason)),
        Err(_) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the gateway is stopping",
        )),
    }
}
