//! What is noted on the way of a request that is to be explained.
//!
//! Other requests have no [`Trail`], and none of this costs them more than a look whether they have.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use edgeway_sdk::{
    Flow, Identity, Offline, Origin, Request, exchange::Exchange, message::ResponseHead as _,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use pingora::{
    Error,
    http::{RequestHeader, ResponseHeader},
    protocols::ALPN,
    upstreams::peer::{HttpPeer, Scheme},
};
use pingora_proxy::Session;

use super::{
    cache,
    ctx::Ctx,
    head::{Answered, Arriving},
};
use crate::{
    explain::{
        Answer, Asked as AskedFor, Changes, Explanation, Near, Sent, Step, Taken, Try, Verdict,
        live::{HEADER, host_of},
        rehearsal::Rehearsal,
    },
    route::{Miss, RouteRequest},
    server::Entrance,
    snapshot::{Link, Route},
    upstream::{BalanceBy, Cluster, Members, balance::Policy},
};

/// The notes on one request.
pub(super) struct Trail {
    /// Nothing if a client has sent it.
    rehearsal: Option<Arc<Rehearsal>>,
    /// The headers as they came.
    came: HeaderMap,
    told: Explanation,
}

/// A head before a filter has seen it.
pub(super) struct Before {
    headers: HeaderMap,
    first_line: String,
    began: Instant,
}

/// Begins the notes, if the request is to be explained. Called before anything of it is changed.
pub(super) fn begin(session: &mut Session, ctx: &mut Ctx) {
    let rehearsal = Entrance::of(session).and_then(|entrance| entrance.rehearsal.clone());
    if !is_asked(session, ctx) && rehearsal.is_none() {
        return;
    }
    ctx.trail = Some(Box::new(Trail {
        rehearsal,
        came: session.req_header().headers.clone(),
        told: Explanation::default(),
    }));
}

/// Whether a client may know what becomes of its request. That it has asked is nobody else's affair.
fn is_asked(session: &mut Session, ctx: &Ctx) -> bool {
    let head = session.req_header_mut();
    let Some(token) = head.remove_header(&HEADER) else {
        return false;
    };
    let (Some(key), Ok(token)) = (&ctx.gateway.explained.key, token.to_str()) else {
        return false;
    };
    let (host, path) = (host_of(&head.headers), head.uri.path());
    key.permits(token, &head.method, host, path, SystemTime::now())
}

/// Tells a client that its request is explained, and by which name.
pub(super) fn announce(response: &mut ResponseHeader, ctx: &Ctx) {
    let asked = ctx
        .trail
        .as_ref()
        .is_some_and(|trail| trail.rehearsal.is_none());
    if asked && let Ok(id) = HeaderValue::from_str(ctx.exchange.id()) {
        Answered(response).set(HEADER, id);
    }
}

/// Whether nobody has made this request.
pub(super) fn is_rehearsal(ctx: &Ctx) -> bool {
    let trail = ctx.trail.as_ref();
    trail.is_some_and(|trail| trail.rehearsal.is_some())
}

/// Notes the request as the chain is going to see it.
pub(super) fn arrived(session: &Session, ctx: &mut Ctx) {
    let Some(trail) = &mut ctx.trail else { return };
    let head = session.req_header();
    let left = |name: &str| !head.headers.contains_key(name);
    trail.told.request = AskedFor {
        method: head.method.to_string(),
        scheme: ctx.exchange.scheme.as_str().into(),
        target: String::from_utf8_lossy(head.raw_path()).into_owned(),
        listener: ctx.listener.to_string(),
        client: ctx.exchange.client.to_string(),
        trusted_proxy: ctx.trusted,
        removed: trail
            .came
            .keys()
            .map(|name| name.as_str())
            .filter(|name| left(name))
            .map(Into::into)
            .collect(),
        ..AskedFor::default()
    };
}

/// Notes which routes the request is not for.
pub(super) fn routed(request: &RouteRequest<'_>, taken: Option<usize>, ctx: &mut Ctx) {
    let Some(trail) = &mut ctx.trail else { return };
    request.path.clone_into(&mut trail.told.request.path);
    let near = ctx.gateway.router.near(request, taken);
    let winner: &str = &ctx.route.pattern;
    let near = near.into_iter().map(|(_, route, miss)| Near {
        name: route.name.to_string(),
        pattern: route.pattern.clone(),
        why: why_not(&miss, request, winner),
    });
    trail.told.route.not = near.collect();
}

fn why_not(miss: &Miss, request: &RouteRequest<'_>, winner: &str) -> String {
    match miss {
        Miss::Host => match request.host {
            Some(host) => format!("it is not for the host {}", host.as_str()),
            None => "it is for a host, and the request names none".to_owned(),
        },
        Miss::Path => format!("it is not for the path {}", request.path),
        Miss::Method => format!("it is not for {}", request.method),
        Miss::Later => format!("it is for this, too, but {winner} comes first"),
        Miss::Predicate(predicate, values) if values.is_empty() => {
            format!("it wants {predicate}, which is not there")
        }
        Miss::Predicate(predicate, values) => {
            format!("it wants {predicate}, and finds `{}`", values.join("`, `"))
        }
    }
}

/// Notes that a filter has nothing to say on a request.
pub(super) fn pass_by(link: &Link, verdict: Verdict, ctx: &mut Ctx) {
    if let Some(trail) = &mut ctx.trail {
        trail.told.filters.push(step(link, verdict));
    }
}

fn step(link: &Link, verdict: Verdict) -> Step {
    Step {
        name: link.name.to_string(),
        verdict,
        status: None,
        rule: None,
        reason: None,
        identity: None,
        request: Changes::default(),
        response: Changes::default(),
        took: None,
    }
}

/// Passes a filter by that can't be asked about a request that nobody has made. Whether it did so.
pub(super) fn leaves_out(link: &Link, session: &mut Session, ctx: &mut Ctx) -> bool {
    let Some(Trail {
        rehearsal: Some(rehearsal),
        told,
        ..
    }) = ctx.trail.as_deref_mut()
    else {
        return false;
    };
    let mut head = Arriving {
        session,
        torn: &mut ctx.torn,
    };
    let why = match link
        .filter
        .offline(&Request::new(&mut head, &mut ctx.exchange))
    {
        Offline::Decides => return false,
        Offline::Needs(whom) => format!("needs {whom}"),
        Offline::Unknown => "it does not say whether it can be asked offline".to_owned(),
    };
    let mut step = step(link, Verdict::NotAsked);
    step.reason = Some(why);
    if let Some(identity) = &rehearsal.identity
        && ctx.exchange.values.get::<Identity>().is_none()
    {
        step.identity = Some(identity.subject().to_owned());
        ctx.exchange.values.insert(identity.clone());
    }
    told.filters.push(step);
    true
}

/// The request before a filter sees it; nothing if nobody wants to know.
pub(super) fn before(session: &Session, ctx: &Ctx) -> Option<Before> {
    ctx.trail.as_ref()?;
    let head = session.req_header();
    Some(Before {
        headers: head.headers.clone(),
        first_line: head.uri.to_string(),
        began: Instant::now(),
    })
}

/// Notes what a filter has made of a request.
pub(super) fn decided(
    link: &Link,
    before: Option<Before>,
    flow: &edgeway_sdk::Result<Flow>,
    session: &Session,
    ctx: &mut Ctx,
) {
    let (Some(trail), Some(before)) = (&mut ctx.trail, before) else {
        return;
    };
    let mut step = step(link, Verdict::Pass);
    step.took = micros(before.began);
    let refusal = match flow {
        Ok(Flow::Continue) => None,
        Ok(Flow::Delay(_)) => {
            step.verdict = Verdict::Delay;
            None
        }
        Ok(Flow::Respond(reply)) => {
            step.rule = reply.decided_by_rule().map(Into::into);
            Some((reply.status(), reply.reason()))
        }
        Err(error) => Some((error.code(), Some(error.reason()))),
    };
    if let Some((status, reason)) = refusal {
        step.verdict = match link.reports {
            true => Verdict::Report,
            false => Verdict::Reply,
        };
        step.status = Some(status.as_u16());
        step.reason = reason.filter(|reason| !reason.is_empty()).map(Into::into);
    }
    let head = session.req_header();
    step.request = Changes::between(&before.headers, &head.headers);
    let target = head.uri.to_string();
    step.request.first_line = (target != before.first_line).then_some(target);
    step.identity = newly_known(&trail.told, &ctx.exchange);
    trail.told.filters.push(step);
}

/// Who is calling, if no filter has told before.
fn newly_known(told: &Explanation, exchange: &Exchange) -> Option<String> {
    let identity: &Identity = exchange.values.get()?;
    let known = told.filters.iter().any(|step| step.identity.is_some());
    (!known).then(|| identity.subject().to_owned())
}

/// The response before a filter sees it; nothing if nobody wants to know.
pub(super) fn before_answer(
    response: &ResponseHeader,
    ctx: &Ctx,
) -> Option<(StatusCode, HeaderMap)> {
    ctx.trail.as_ref()?;
    Some((response.status, response.headers.clone()))
}

/// Notes what the filter of this place has made of a response.
pub(super) fn shown(
    place: usize,
    before: Option<(StatusCode, HeaderMap)>,
    response: &ResponseHeader,
    ctx: &mut Ctx,
) {
    let (Some(trail), Some((status, headers))) = (&mut ctx.trail, before) else {
        return;
    };
    let Some(step) = trail.told.filters.get_mut(place) else {
        return;
    };
    let changes = Changes::between(&headers, &response.headers);
    step.response.set.0.extend(changes.set.0);
    step.response.removed.extend(changes.removed);
    if status != response.status {
        step.response.first_line = Some(response.status.as_u16().to_string());
    }
}

/// Notes which endpoint is asked.
pub(super) fn tried(session: &Session, ctx: &mut Ctx) {
    let (Some(trail), Some(tries)) = (&mut ctx.trail, &ctx.tries) else {
        return;
    };
    let Some(lease) = tries.lease() else { return };
    let endpoint = lease.endpoint();
    let own = tries.session.endpoint == Some(lease.number());
    let source = (session.req_header().as_ref(), &ctx.exchange);
    trail.told.tries.push(Try {
        upstream: tries.cluster.name.to_string(),
        endpoint: endpoint.name.to_string(),
        chosen_by: match own {
            true => "its session is there".to_owned(),
            false => chosen_by(&tries.cluster, &source),
        },
        of: candidates(&tries.members),
        at: micros(ctx.exchange.started),
    });
}

/// How an upstream chooses an endpoint for a request.
fn chosen_by(cluster: &Cluster, source: &(&http::request::Parts, &Exchange)) -> String {
    let settings = &cluster.settings;
    let policy = match settings.policy {
        Policy::RoundRobin => "round_robin",
        Policy::LeastConnections => "least_connections",
        Policy::LeastTime => "least_time",
        Policy::RandomTwo => "random_two",
        Policy::Hash { .. } => "hash",
    };
    match &settings.balance_by {
        BalanceBy::Nothing => policy.to_owned(),
        BalanceBy::ClientAddress => format!("{policy} of {}", source.1.client),
        BalanceBy::Value(template) => format!("{policy} of `{}`", template.render(source)),
    }
}

/// The endpoints as they are listed, with what is special of them.
fn candidates(members: &Members) -> Vec<String> {
    let shown = members.endpoints.iter().map(|endpoint| {
        let mut text = endpoint.name.to_string();
        if endpoint.weight != 1 {
            text.push_str(&format!(" weight {}", endpoint.weight));
        }
        if endpoint.backup {
            text.push_str(" backup");
        }
        text
    });
    shown.collect()
}

/// Has a made-up endpoint take the place of a real one, if nobody has made the request.
pub(super) fn redirect(peer: &mut HttpPeer, ctx: &Ctx) {
    let Some(Trail {
        rehearsal: Some(rehearsal),
        ..
    }) = ctx.trail.as_deref()
    else {
        return;
    };
    peer.options.custom_l4 = Some(rehearsal.endpoint());
    peer.options.alpn = ALPN::H1;
    peer.scheme = Scheme::HTTP;
    peer.group_key = rand::random();
}

/// Notes the head that an endpoint is sent.
pub(super) fn sent(request: &RequestHeader, ctx: &mut Ctx) {
    let Some(trail) = &mut ctx.trail else { return };
    trail.told.sent = Some(Sent {
        method: request.method.to_string(),
        target: String::from_utf8_lossy(request.raw_path()).into_owned(),
        headers: request.headers.iter().collect(),
    });
}

/// Ends the notes, and tells them. Whether nobody has made the request: then there is nothing to log.
pub(super) fn end(session: &Session, error: Option<&Error>, ctx: &mut Ctx) -> bool {
    let Some(mut trail) = ctx.trail.take() else {
        return false;
    };
    let told = &mut trail.told;
    told.request.id = ctx.exchange.id().to_owned();
    ctx.exchange.host.clone_into(&mut told.request.host);
    taken(&ctx.route, &mut told.route);
    let rest = ctx.route.chain.links.iter().skip(told.filters.len());
    told.filters
        .extend(rest.map(|link| step(link, Verdict::NotReached)));
    told.response = answer(session, error, ctx);
    let status = told
        .response
        .headers
        .get("cache-status")
        .map(ToOwned::to_owned);
    told.cache = cache::said(session.req_header(), ctx, status);
    match trail.rehearsal {
        Some(rehearsal) => {
            rehearsal.tell(Box::new(trail.told));
            true
        }
        None => {
            trail.told.mask();
            ctx.gateway.explained.kept.keep(Box::new(trail.told));
            false
        }
    }
}

fn taken(route: &Route, told: &mut Taken) {
    route.name.as_ref().clone_into(&mut told.name);
    route.pattern.clone_into(&mut told.pattern);
    told.target = route.destination();
}

fn answer(session: &Session, error: Option<&Error>, ctx: &Ctx) -> Answer {
    let head = session.response_written();
    let exchange = &ctx.exchange;
    Answer {
        status: head.map(|head| head.status.as_u16()),
        from: match ctx.origin {
            Origin::Upstream => "upstream",
            Origin::Reply => "reply",
            Origin::Cache => "cache",
        }
        .into(),
        decided_by: exchange.decided_by.as_deref().map(Into::into),
        reason: exchange
            .reason
            .clone()
            .or_else(|| error.map(ToString::to_string)),
        headers: head
            .map(|head| head.headers.iter().collect())
            .unwrap_or_default(),
        took: micros(exchange.started),
    }
}

fn micros(since: Instant) -> Option<u64> {
    u64::try_from(since.elapsed().as_micros()).ok()
}
