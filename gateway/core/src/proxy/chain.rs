//! Filters down and up.
//!
//! Requests go down a route's list, responses come up it. Every filter that saw the request sees the
//! response once, wherever that came from; and before the cache, unless it came from there.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use edgeway_sdk::{
    Filter, Flow, Hooks, Reply, Request, Response, Upstream, body::Caller, exchange::Refusal,
    message::ResponseHead,
};
use http::header::STRICT_TRANSPORT_SECURITY;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use smallvec::SmallVec;

use super::{
    attempt::gone,
    body::Failed,
    ctx::Ctx,
    head::{Answered, Arriving, Asked},
    reply, trail,
};
use crate::{
    explain::Verdict,
    snapshot::{Chain, Link, Target},
};

/// Runs the chain and tells what the request comes to, if it does not go on to the target: a filter's reply, or the
/// verdict that was reached before.
///
/// Filters that have seen the request before are not asked again.
pub(super) async fn down(
    session: &mut Session,
    ctx: &mut Ctx,
    verdict: Option<Reply>,
) -> pingora::Result<Option<Reply>> {
    let refused = ask(session, ctx).await?;
    if ctx.route.chain.hooks.has(Hooks::REQUEST) {
        ctx.filtered = Some(ctx.exchange.started.elapsed());
    }
    Ok(refused.or(verdict))
}

/// Asks one filter after the other, until one replies.
async fn ask(session: &mut Session, ctx: &mut Ctx) -> pingora::Result<Option<Reply>> {
    let route = Arc::clone(&ctx.route);
    for (place, link) in route.chain.links.iter().enumerate().skip(ctx.entered) {
        ctx.entered += 1;
        ctx.unanswered += 1;
        if !is_for(link, session, ctx) {
            ctx.passed_by.insert(place);
            trail::pass_by(link, Verdict::NotForIt, ctx);
            continue;
        }
        if !link.hooks.has(Hooks::REQUEST) {
            trail::pass_by(link, Verdict::NoOpinion, ctx);
            continue;
        }
        if trail::leaves_out(link, session, ctx) {
            continue;
        }
        let before = trail::before(session, ctx);
        let caller = caller(link, place);
        ctx.exchange.caller = caller;
        let mut head = Arriving {
            session,
            torn: &mut ctx.torn,
        };
        let flow = link
            .filter
            .request(&mut Request::new(&mut head, &mut ctx.exchange))
            .await;
        trail::decided(link, before, &flow, session, ctx);
        let reply = match flow {
            Ok(Flow::Continue) => continue,
            Ok(Flow::Delay(_)) if link.reports || trail::is_rehearsal(ctx) => continue,
            Ok(Flow::Delay(time)) => {
                delay(session, time).await?;
                continue;
            }
            Ok(Flow::Respond(reply)) => reply,
            Err(error) => Reply::from(error),
        };
        if let Some(reply) = judge(ctx, caller, reply) {
            return Ok(Some(reply));
        }
    }
    Ok(None)
}

/// The reply of the route's target. None means that an upstream is asked.
pub(super) fn target(session: &Session, ctx: &Ctx) -> Option<Reply> {
    match &ctx.route.target {
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

/// Whether a filter is for this request.
fn is_for(link: &Link, session: &Session, ctx: &Ctx) -> bool {
    let head = session.req_header().as_ref();
    let applies = link.applies.as_ref();
    applies.is_none_or(|applies| applies.to(head, &ctx.exchange, &ctx.listener))
}

fn caller(link: &Link, place: usize) -> Caller {
    Caller {
        place,
        reports: link.reports,
    }
}

/// Holds a request, as long as its client is there.
async fn delay(session: &mut Session, time: Duration) -> pingora::Result<()> {
    tokio::select! {
        () = tokio::time::sleep(time) => Ok(()),
        gone = gone(session) => Err(gone),
    }
}

/// Takes note of what a filter has replied instead of letting the request pass. Gives the reply back, unless the
/// filter is only to report.
fn judge(ctx: &mut Ctx, caller: Caller, reply: Reply) -> Option<Reply> {
    let route = Arc::clone(&ctx.route);
    let link = route.chain.links.get(caller.place)?;
    let refuses = reply.status().as_u16() >= 400 || reply.decided_by_rule().is_some();
    // What has lost a part of its body can't go on.
    let reports = link.reports && !ctx.torn;
    if refuses {
        let refusal = Refusal {
            filter: Arc::clone(&link.name),
            status: reply.status(),
            rule: reply.decided_by_rule().map(Into::into),
            key: reply.about().map(Into::into),
            reason: reply.reason().map(Into::into),
            reported: reports,
        };
        link.tally.note(&refusal, &ctx.exchange);
        ctx.gateway.refused.note(ctx.exchange.client, &link.name);
        ctx.exchange.refusals.push(refusal);
    }
    if reports {
        return None;
    }
    ctx.exchange.decided_by = Some(Arc::clone(&link.name));
    Some(reply)
}

/// What the failure of an edit comes to, and of those before it that only report.
pub(super) fn edited(
    ctx: &mut Ctx,
    reported: Vec<Failed>,
    edited: Result<Bytes, Failed>,
) -> Result<Bytes, Box<Reply>> {
    for Failed { caller, error } in reported {
        failed(ctx, caller, error);
    }
    edited.map_err(|Failed { caller, error }| {
        // An edit that only reports is none of those that end a body.
        let reply = failed(ctx, caller, error);
        Box::new(reply.unwrap_or_else(|| Reply::new(500)))
    })
}

/// What the failure of a hook comes to. None if the filter is only to report.
fn failed(ctx: &mut Ctx, caller: Caller, error: edgeway_sdk::Error) -> Option<Reply> {
    judge(ctx, caller, Reply::from(error))
}

/// The filters that a request has passed by, as it is none that they are for: by their places in the chain.
#[derive(Clone, Debug, Default)]
pub(super) struct PassedBy(SmallVec<[u64; 1]>);

impl PassedBy {
    fn insert(&mut self, place: usize) {
        let word = place / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (place % 64);
    }

    pub(super) fn contains(&self, place: usize) -> bool {
        let word = self.0.get(place / 64);
        word.is_some_and(|word| word & (1 << (place % 64)) != 0)
    }
}

/// Shows every filter the head that is about to be sent to an endpoint.
pub(super) fn attempt(request: &mut RequestHeader, ctx: &mut Ctx) -> pingora::Result<()> {
    if !ctx.route.chain.hooks.has(Hooks::UPSTREAM) {
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
    for (place, link) in route.chain.links.iter().enumerate() {
        if !link.hooks.has(Hooks::UPSTREAM) || ctx.passed_by.contains(place) {
            continue;
        }
        let mut head = Asked(request);
        let mut view = Upstream::new(&mut head, &mut ctx.exchange, endpoint, count);
        let result = link.filter.upstream(&mut view);
        let caller = caller(link, place);
        if let Err(error) = result
            && let Some(reply) = failed(ctx, caller, error)
        {
            return Err(ctx.refuse(reply));
        }
    }
    Ok(())
}

/// Shows a response, where it comes to be, to the filters that have seen the request, from the last one up. The edits
/// that they ask for stand behind those that were there. After an error the filters above have still to see the
/// reply that takes its place.
pub(super) fn fetched(
    response: &mut ResponseHeader,
    request: &RequestHeader,
    ctx: &mut Ctx,
) -> Result<(), Box<Reply>> {
    if !ctx.route.chain.hooks.has(Hooks::FETCHED) {
        return Ok(());
    }
    let route = Arc::clone(&ctx.route);
    let seen = ctx.entered.max(ctx.seen_before);
    let before = ctx.exchange.response_edits.len();
    while let Some(above) = ctx.unfetched.unwrap_or(seen).checked_sub(1) {
        ctx.unfetched = Some(above);
        let Some(link) = concerned(&route.chain, above, Hooks::FETCHED, ctx) else {
            continue;
        };
        let shown = show(link, above, response, request, ctx, |filter, view| {
            filter.fetched(view)
        });
        if let Err(reply) = shown {
            ctx.exchange.response_edits.truncate(before);
            return Err(reply);
        }
    }
    Ok(())
}

/// The filter at this place, if it has a use for the hook and the request has not passed it by.
fn concerned<'c>(chain: &'c Chain, place: usize, hook: Hooks, ctx: &Ctx) -> Option<&'c Link> {
    let link = chain.links.get(place)?;
    (link.hooks.has(hook) && !ctx.passed_by.contains(place)).then_some(link)
}

/// Calls a hook of this filter with the response. The error is the reply that takes the response's place.
fn show(
    link: &Link,
    place: usize,
    response: &mut ResponseHeader,
    request: &RequestHeader,
    ctx: &mut Ctx,
    hook: impl FnOnce(&dyn Filter, &mut Response<'_>) -> edgeway_sdk::Result<()>,
) -> Result<(), Box<Reply>> {
    let caller = caller(link, place);
    ctx.exchange.caller = caller;
    let before = trail::before_answer(response, ctx);
    let mut head = Answered(response);
    let mut view = Response::new(&mut head, request.as_ref(), &mut ctx.exchange, ctx.origin);
    let shown = hook(&*link.filter, &mut view);
    trail::shown(place, before, response, ctx);
    let Err(error) = shown else {
        return Ok(());
    };
    failed(ctx, caller, error).map_or(Ok(()), |reply| Err(Box::new(reply)))
}

/// Shows the response to the filters that have not seen it, from the last one up. After an error the
/// filters above have still to see the reply that takes its place.
pub(super) fn up(
    response: &mut ResponseHeader,
    request: &RequestHeader,
    ctx: &mut Ctx,
) -> Result<(), Box<Reply>> {
    trail::announce(response, ctx);
    // Before the filters, which may know better.
    if let Some(hsts) = &ctx.hsts
        && !response.headers.contains_key(STRICT_TRANSPORT_SECURITY)
    {
        Answered(response).set(STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    if !ctx.route.chain.hooks.has(Hooks::RESPONSE) {
        ctx.unanswered = 0;
        return Ok(());
    }
    let route = Arc::clone(&ctx.route);
    while let Some(above) = ctx.unanswered.checked_sub(1) {
        ctx.unanswered = above;
        let Some(link) = concerned(&route.chain, above, Hooks::RESPONSE, ctx) else {
            continue;
        };
        let shown = show(link, above, response, request, ctx, |filter, view| {
            filter.response(view)
        });
        if let Err(reply) = shown {
            // What takes the place of the response is new to the filters above, and other bytes.
            ctx.unfetched = Some(above);
            ctx.exchange.response_edits.clear();
            return Err(reply);
        }
    }
    Ok(())
}
