//! The end of a request.

use std::time::Duration;

use edgeway_sdk::{Hooks, Record};
use pingora::{Error, ErrorSource};
use pingora_proxy::Session;

use super::{attempt::Tries, ctx::Ctx};
use crate::telemetry::{failures::Asked, meter::Outcome};

/// Counts a request, and tells the filters that have seen the request what became of it, and who watches.
pub(super) fn write(session: &Session, error: Option<&Error>, ctx: &mut Ctx) {
    let took = ctx.exchange.started.elapsed();
    if ctx.end() {
        measure(session, error, took, ctx);
    }
    let ctx = &*ctx;
    let chain = &ctx.route.chain;
    let links = chain.links.get(..ctx.entered).unwrap_or_default();
    let watched = ctx.gateway.tail.is_watched();
    if !watched && (links.is_empty() || !chain.hooks.has(Hooks::LOG)) {
        return;
    }
    let text = error.map(ToString::to_string);
    let head = session.response_written();
    let asked = ctx.tries.as_ref().filter(|tries| tries.count > 0);
    let endpoint = asked
        .and_then(Tries::lease)
        .map(|lease| &*lease.endpoint().name);
    let tries = asked.map(|tries| tries.history.told(&tries.members));
    let record = Record {
        request: session.req_header().as_ref(),
        exchange: &ctx.exchange,
        status: head.map(|head| head.status),
        response_headers: head.map(|head| &head.headers),
        origin: ctx.origin,
        bytes_received: session.body_bytes_read() as u64,
        bytes_sent: session.body_bytes_sent() as u64,
        upstream: asked.map(|tries| &*tries.cluster.name),
        endpoint,
        attempts: asked.map_or(0, |tries| tries.count),
        tries: tries.as_deref().unwrap_or_default(),
        listener: &ctx.listener,
        filtered: ctx.filtered,
        duration: took,
        upstream_duration: ctx.answered,
        error: text.as_deref(),
    };
    if watched {
        ctx.gateway.tail.tell(&record);
    }
    for (place, link) in links.iter().enumerate() {
        if link.hooks.has(Hooks::LOG) && !ctx.passed_by.contains(place) {
            link.filter.log(&record);
        }
    }
}

/// Counts what became of a request.
fn measure(session: &Session, error: Option<&Error>, took: Duration, ctx: &Ctx) {
    let status = session.response_written().map(|head| head.status);
    ctx.route.meter.note(&Outcome {
        method: &session.req_header().method,
        status,
        took,
        received: session.body_bytes_read() as u64,
        sent: session.body_bytes_sent() as u64,
    });
    if let Some(tries) = &ctx.tries
        && let Some(chosen) = tries.history.first()
    {
        tries.cluster.meter().done(took.saturating_sub(chosen));
    }
    let failed = status.is_some_and(|status| status.is_server_error());
    let cut = error.is_some_and(|error| *error.esource() == ErrorSource::Upstream);
    if failed || cut {
        let asked = ctx.tries.as_ref().map_or_else(Asked::default, Tries::asked);
        let answered = status.map(|status| format!("the answer is {}", status.as_u16()));
        let told = ctx.exchange.reason.as_deref();
        let text = error.map(ToString::to_string).or(answered);
        let why = told.or(text.as_deref()).unwrap_or_default();
        let status = status.map(|status| status.as_u16());
        ctx.gateway.failures.note(&ctx.exchange, asked, status, why);
    }
}
