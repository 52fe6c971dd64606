//! One log line per request, and an answer for those that no route wants.

use std::time::Instant;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use log::{Level, log};

use crate::Problem;

/// Answers unknown paths and methods with a [`Problem`]; called after the last route was added.
pub fn with_problems<S: Clone + Send + Sync + 'static>(routes: Router<S>) -> Router<S> {
    routes
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path does not take this method",
            )
        })
}

pub(crate) fn logged(routes: Router) -> Router {
    routes.layer(from_fn(log_request))
}

/// The query stays out of the log: it may carry a token.
async fn log_request(request: Request, next: Next) -> Response {
    let start = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    log!(
        level(&path),
        "request method={method} path={path} status={} duration_us={}",
        response.status().as_u16(),
        start.elapsed().as_micros(),
    );
    response
}

/// Health checks come every second or so and would drown the rest.
fn level(path: &str) -> Level {
    if path == "/healthz" {
        Level::Debug
    } else {
        Level::Info
    }
}
