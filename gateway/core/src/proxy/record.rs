//! The end of a request.

use edgeway_sdk::{Hooks, Record};
use pingora::Error;
use pingora_proxy::Session;

use super::{attempt::Tries, ctx::Ctx};

/// Tells the filters that have seen the request what became of it.
pub(super) fn write(session: &Session, error: Option<&Error>, ctx: &Ctx) {
    let chain = &ctx.route.chain;
    let links = chain.links.get(..ctx.entered).unwrap_or_default();
    if links.is_empty() || !chain.hooks.has(Hooks::LOG) {
        return;
    }
    let text = error.map(ToString::to_string);
    let head = session.response_written();
    let asked = ctx.tries.as_ref().filter(|tries| tries.count > 0);
    let endpoint = asked
        .and_then(Tries::lease)
        .map(|lease| &*lease.endpoint().name);
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
        duration: ctx.exchange.started.elapsed(),
        upstream_duration: ctx.answered,
        error: text.as_deref(),
    };
    for (place, link) in links.iter().enumerate() {
        if link.hooks.has(Hooks::LOG) && !ctx.passed_by.contains(place) {
            link.filter.log(&record);
        }
    }
}
