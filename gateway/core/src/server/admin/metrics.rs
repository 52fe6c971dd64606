//! Metrics, as Prometheus reads them.
//!
//! Labels are bounded: routes, upstreams and filters by their names in the configuration, endpoints up to a number,
//! methods and statuses up to a number; never hosts, paths or clients. Counters go on over reloads; what is no
//! longer in the configuration is no longer told.
//!
//! * [`mod@text`]: how they are written.
//! * [`requests`], [`upstreams`], [`connections`], [`caches`], [`telling`], [`process`]: what is told.

mod caches;
mod connections;
mod process;
mod requests;
mod telling;
mod text;
mod upstreams;

use axum::{extract::State, response::IntoResponse as _};
use http::{
    HeaderMap,
    header::{ACCEPT, CONTENT_TYPE},
};

use self::text::Format;
pub(super) use self::text::{Metrics, Type};
use super::{
    call::Call,
    calls::{Answer, Desk, Shared},
    described::{Calls, Described},
    filters, maintenance,
};

/// Adds the call of this file.
pub(super) fn add(calls: Calls) -> Calls {
    calls.add(METRICS, metrics)
}

const METRICS: Described = Described::get(
    "/metrics",
    "Shows counts as Prometheus reads them; as OpenMetrics to who accepts that.",
)
.gives_text("text/plain; version=0.0.4; charset=utf-8");

async fn metrics(State(desk): State<Shared>, headers: HeaderMap, call: Call<()>) -> Answer {
    call.names()?;
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::of(accept.unwrap_or_default());
    let text = text(&desk, format);
    Ok(([(CONTENT_TYPE, format.content_type())], text).into_response())
}

fn text(desk: &Desk, format: Format) -> String {
    let (gateway, mut metrics) = (desk.gateway(), Metrics::new(format));
    requests::measure(&gateway, &mut metrics);
    upstreams::measure(&gateway, &mut metrics);
    connections::measure(&desk.listeners, &mut metrics);
    caches::measure(&gateway, &mut metrics);
    filters::measure(&gateway, &mut metrics);
    maintenance::measure(&gateway, &mut metrics);
    telling::measure(&desk.resources, &mut metrics);
    process::configuration(&gateway, &desk.history, &mut metrics);
    process::measure(&mut metrics);
    metrics.finish()
}
