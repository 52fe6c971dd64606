//! Requests to what is closed for maintenance.

use std::sync::Arc;

use edgeway_sdk::Reply;
use http::header::{CACHE_CONTROL, RETRY_AFTER};
use pingora::http::RequestHeader;
use pingora_proxy::Session;

use super::{ctx::Ctx, reply};
use crate::snapshot::Maintenance;

/// What a request comes to for which this verdict was reached before. What is wrong with it is told as ever.
pub(super) fn judge(session: &Session, ctx: &mut Ctx, verdict: Option<Reply>) -> Option<Reply> {
    match verdict {
        Some(reply) if reply.status().as_u16() >= 400 => Some(reply),
        verdict => close(session, ctx).or(verdict),
    }
}

/// Refuses a request if everything, or its route, is closed to it. It goes on without the filters that guard the
/// route: it does not matter who may pass when nobody may.
fn close(session: &Session, ctx: &mut Ctx) -> Option<Reply> {
    let reply = closed(session, ctx)?;
    let to = Arc::clone(&ctx.route.closing.as_ref()?.to);
    ctx.turn_to(&to);
    Some(reply)
}

/// The reply to a request to which everything, or its route, is closed.
pub(super) fn closed(session: &Session, ctx: &Ctx) -> Option<Reply> {
    let own = ctx.route.closing.as_ref()?.own.as_deref();
    let all = &ctx.gateway.maintenance;
    if !all.is_on() && !own.is_some_and(Maintenance::is_on) {
        return None;
    }
    let request = session.req_header();
    let refuses = |maintenance: &&Maintenance| {
        maintenance.refuses(request.as_ref(), &ctx.exchange, &ctx.listener)
    };
    let maintenance = [Some(all), own].into_iter().flatten().find(refuses)?;
    maintenance.count();
    Some(refusal(maintenance, request))
}

fn refusal(maintenance: &Maintenance, request: &RequestHeader) -> Reply {
    let plan = &maintenance.plan;
    let mut reply = Reply::new(plan.status.as_u16())
        .header(CACHE_CONTROL, "no-store")
        .because("closed for maintenance");
    if let Some(time) = maintenance.retry_after() {
        // Rounded up: who comes too early comes in vain.
        let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
        reply = reply.header(RETRY_AFTER, seconds);
    }
    match &plan.page {
        Some(page) if reply::wants_page(request) => {
            reply.body("text/html; charset=utf-8", page.clone())
        }
        _ => match &plan.detail {
            Some(detail) => reply.detail(detail.to_string()),
            None => reply.detail("Closed for maintenance."),
        },
    }
}
