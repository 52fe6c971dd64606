//! The call about requests that were to be explained.

use axum::extract::State;
use http::StatusCode;

use super::{
    call::Call,
    calls::{Answer, Shared},
    described::{Calls, Described},
    problem::{Problem, json},
};

/// Adds the calls of this file.
pub(super) fn add(calls: Calls) -> Calls {
    calls.add(EXPLANATION, explanation)
}

const EXPLANATION: Described = Described::get(
    "/v1/explanations/{request}",
    "Tells what became of a request that was signed to be explained, for a minute: `edgeway explain --live`.",
)
.gives::<serde_json::Value>(
    r#"{ "request": { "id": "5f2c", "method": "GET", "host": "example.com", "target": "/" },
         "route": { "name": "shop", "match": "/*", "target": "upstream shop", "not": [] },
         "filters": [{ "name": "jwt", "verdict": "pass", "microseconds": 41 }],
         "tries": [{ "upstream": "shop", "endpoint": "shop-1:8000", "chosen_by": "round_robin", "of": ["shop-1:8000"] }],
         "response": { "status": 200, "from": "upstream", "headers": [["content-type", "text/html"]] } }"#,
);

async fn explanation(State(desk): State<Shared>, call: Call<String>) -> Answer {
    let request = call.names()?;
    let kept = desk.live.pin().explained.kept.of(&request);
    match kept {
        Some(explanation) => Ok(json(StatusCode::OK, &explanation)),
        None => Err(Problem::absent(
            "no explanation of a request of this id is kept".to_owned(),
            None,
        )),
    }
}
