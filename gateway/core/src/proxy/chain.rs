//! Filters down and up.
//!
//! Requests go down a route's list, responses come up it. Every filter that saw the request sees the
//! response once, wherever that came from.

use std::sync::Arc;

use edgeway_sdk::{Flow, Reply, Request, Response, Result, Upstream, message::ResponseHead};
use http::header::STRICT_TRANSPORT_SECURITY;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::{
    ctx::Ctx,
    head::{Answered, Asked},
    reply,
};
use crate::snapshot::Target;

/// Runs the chain and tells what the request comes to: a filter's reply, the verdict that was
/// reached before, or that of the target. None means that the upstream is asked.
pub(super) async fn down(
    session: &mut Session,
    ctx: &mut Ctx,
    verdict: Option<Reply>,
) -> Option<Reply> {
    let route = Arc::clone(&ctx.route);
    for link in &route.chain.0 {
        ctx.entered += 1;
        ctx.unanswered += 1;
        let mut head = Asked(session.req_header_mut());
        let flow = link
            .filter
            .request(&mut Request::new(&mut head, &mut ctx.exchange))
            .await;
        let reply = match flow {
            Ok(Flow::Continue) => continue,
            Ok(Flow::Respond(reply)) => reply,
            Err(error) => Reply::from(error),
        };
        ctx.exchange.decided_by = Some(Arc::clone(&link.name));
        return Some(reply);
    }
    if verdict.is_some() {
        return verdict;
    }
    match &route.target {
        Target::Upstream(_) => None,
        Target::Redirect(redirection) => Some(reply::redirect(
            redirection,
            session.req_header(),
            &ctx.exchange,
        )),
        Target::Respond(fixed) => Some(reply::fixed(fixed, session.req_header(), &ctx.exchange)),
        Target::NotFound => Some(Reply::new(404)),
    }
}

/// Shows every filter the head that is about to be sent to an endpoint.
pub(super) fn attempt(request: &mut RequestHeader, ctx: &mut Ctx) -> pingora::Result<()> {
    if ctx.route.chain.0.is_empty() {
        return Ok(());
    }
    let route = Arc::clone(&ctx.route);
    let Some(tries) = &ctx.tries else {
        return Ok(());
    };
    let endpoint = tries
        .lease()
        .map(|lease| Arc::clone(&lease.endpoint().name));
    let (endpoint, count) = (endpoint.as_deref().unwrap_or_default(), tries.count);
    for link in &route.chain.0 {
        let mut head = Asked(request);
        let mut view = Upstream::new(&mut head, &mut ctx.exchange, endpoint, count);
        if let Err(error) = link.filter.upstream(&mut view) {
            ctx.exchange.decided_by = Some(Arc::clone(&link.name));
            return Err(ctx.refuse(Reply::from(error)));
        }
    }
    Ok(())
}

/// Shows the response to the filters that have not seen it, from the last one up. After an error the
/// filters above have still to see the reply that takes its place.
pub(super) fn up(
    response: &mut ResponseHeader,
    request: &RequestHeader,
    ctx: &mut Ctx,
) -> Result<()> {
    let route = Arc::clone(&ctx.route);
    while let Some(above) = ctx.unanswered.checked_sub(1) {
        ctx.unanswered = above;
        let Some(link) = route.chain.0.get(above) else {
            continue;
        };
        let mut head = Answered(response);
        let mut view = Response::new(&mut head, request.as_ref(), &mut ctx.exchange, ctx.origin);
        if let Err(error) = link.filter.response(&mut view) {
            ctx.exchange.decided_by = Some(Arc::clone(&link.name));
            return Err(error);
        }
    }
    if let Some(hsts) = ctx.hsts.take()
        && !response.headers.contains_key(STRICT_TRANSPORT_SECURITY)
    {
        Answered(response).set(STRICT_TRANSPORT_SECURITY, hsts);
    }
    Ok(())
}
