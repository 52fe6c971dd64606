//! Says what the cache did: to the client, in the log, and by counting.

use std::{sync::Arc, time::SystemTime};

use edgeway_sdk::{Origin, exchange::Cached};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{AGE, DATE},
};
use pingora::{
    Result,
    cache::{CachePhase, NoCacheReason},
    http::{RequestHeader, ResponseHeader},
};
use pingora_proxy::Session;

use super::{Caching, Ctx, FAILED, plan};
use crate::{
    cache::{
        count::Event,
        head::Head,
        memory::Object,
        policy::{
            date::{header_value, parse},
            freshness::Freshness,
            status::{CACHE_STATUS, CacheStatus, Forward, Outcome},
        },
        storage::{Hit, freshness},
    },
    explain::CacheSaid,
    proxy::client::connection,
};

/// Tells of a response that is served without Pingora's cache.
pub(super) fn served(
    session: &Session,
    headers: &mut HeaderMap,
    ctx: &mut Ctx,
    freshness: &Freshness,
    now: SystemTime,
) {
    headers.insert(AGE, freshness.age_value(now));
    let collapsed = session.cache.lock_duration().is_some();
    let (mut event, mut outcome, mut reason) = (Event::Hit, Outcome::Hit, None);
    if let Some(caching) = ctx.caching.as_ref().filter(|caching| caching.served_stale) {
        (event, reason) = (Event::Stale, caching.reason);
        if reason.is_some() {
            outcome = Outcome::Forwarded {
                why: caching.why,
                status: caching.upstream_status,
                stored: false,
                collapsed,
            };
        }
    }
    if collapsed && let Some(plan) = plan(&ctx.route) {
        plan.zone.counters.count(Event::Coalesced);
    }
    count(ctx, event, reason);
    let status = status(outcome, Some(freshness.ttl(now)), reason);
    headers.append(CACHE_STATUS, status);
}

/// Tells of a response that has come through Pingora's cache, or past it.
pub(in crate::proxy) fn add(
    session: &mut Session,
    head: &mut ResponseHeader,
    ctx: &mut Ctx,
) -> Result<()> {
    let Some(mut caching) = ctx.caching.take() else {
        return Ok(());
    };
    let told = through(session, head, ctx, &mut caching);
    ctx.caching = Some(caching);
    told
}

fn through(
    session: &mut Session,
    head: &mut ResponseHeader,
    ctx: &mut Ctx,
    caching: &mut Caching,
) -> Result<()> {
    let now = SystemTime::now();
    let collapsed = session.cache.lock_duration().is_some();
    let phase = session.cache.phase();
    let forwarded = |why, status, stored| Outcome::Forwarded {
        why,
        status,
        stored,
        collapsed,
    };
    if collapsed && let Some(plan) = plan(&ctx.route) {
        plan.zone.counters.count(Event::Coalesced);
    }
    let (event, outcome, ttl) = match phase {
        CachePhase::Hit | CachePhase::Stale | CachePhase::StaleUpdating => {
            ctx.origin = Origin::Cache;
            let freshness = hit(session).map(|object| freshness(&object));
            if let Some(freshness) = &freshness {
                head.insert_header(AGE, freshness.age_value(now))?;
            }
            let (event, outcome) = of_stored(phase, collapsed, caching);
            (
                event,
                outcome,
                freshness.map(|freshness| freshness.ttl(now)),
            )
        }
        CachePhase::Revalidated | CachePhase::RevalidatedNoCache(_) => {
            let status = Some(StatusCode::NOT_MODIFIED);
            let stored = phase == CachePhase::Revalidated;
            (
                Event::Revalidated,
                forwarded(caching.why, status, stored),
                None,
            )
        }
        CachePhase::Miss => (Event::Miss, forwarded(caching.why, None, true), None),
        CachePhase::Expired => (Event::Expired, forwarded(caching.why, None, true), None),
        CachePhase::Disabled(reason) => {
            explain(caching, reason);
            (event(caching), forwarded(caching.why, None, false), None)
        }
        CachePhase::Bypass | CachePhase::Uninit | CachePhase::CacheKey => {
            (event(caching), forwarded(caching.why, None, false), None)
        }
    };
    for (name, value) in caching.withheld.drain(..) {
        head.append_header(name, value)?;
    }
    count(ctx, event, caching.reason);
    write(head, outcome, ttl, caching.reason)
}

/// What a request comes to that Pingora answers with what is stored.
fn of_stored(phase: CachePhase, collapsed: bool, caching: &mut Caching) -> (Event, Outcome) {
    let forwarded = |why, status| Outcome::Forwarded {
        why,
        status,
        stored: false,
        collapsed,
    };
    if phase != CachePhase::Hit {
        caching.reason = Some(FAILED);
        let outcome = forwarded(Forward::Stale, caching.upstream_status);
        return (Event::Stale, outcome);
    }
    let event = match caching.served_stale {
        true => Event::Stale,
        false => Event::Hit,
    };
    let outcome = match collapsed {
        true => forwarded(caching.why, None),
        false => Outcome::Hit,
    };
    (event, outcome)
}

/// Tells of a reply of our own, in place of the response that was asked for.
pub(in crate::proxy) fn reply(head: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    let Some(caching) = &ctx.caching else {
        return Ok(());
    };
    let (event, reason) = (event(caching), caching.reason);
    let outcome = Outcome::Forwarded {
        why: caching.why,
        status: None,
        stored: false,
        collapsed: false,
    };
    if ctx.exchange.cached.is_none() {
        count(ctx, event, reason);
    }
    write(head, outcome, None, reason)
}

/// What a request comes to whose response is not stored.
fn event(caching: &Caching) -> Event {
    match caching.why {
        Forward::Bypass | Forward::Method | Forward::Request => Event::Bypass,
        Forward::UriMiss | Forward::VaryMiss => Event::Miss,
        Forward::Stale => Event::Expired,
    }
}

/// Has the client see when a response was made that has come through Pingora's cache, or past it.
pub(in crate::proxy) fn date(session: &mut Session, head: &ResponseHeader, ctx: &Ctx) {
    let Some(caching) = &ctx.caching else {
        return;
    };
    let object = match ctx.origin {
        Origin::Cache => hit(session),
        Origin::Upstream | Origin::Reply => None,
    };
    let received = object.as_deref().map(|object| freshness(object).received);
    date_of(session, head, received.unwrap_or(caching.received));
    if let Some(object) = &object {
        pass_on_promptly(session, object);
    }
}

/// Has the client see when a response was made, as it says, or else when it came (RFC 9110, 6.6.1).
///
/// Over HTTP/2 it sees the time of sending: there is no way past Pingora.
pub(super) fn date_of(session: &Session, head: &ResponseHeader, received: SystemTime) {
    if let Some(connection) = connection(session) {
        connection.made(made(&head.headers, received));
    }
}

/// Has a body that is still arriving go on to the client piece by piece.
pub(super) fn pass_on_promptly(session: &Session, object: &Object<Head>) {
    if object.chunks().is_none()
        && let Some(connection) = connection(session)
    {
        connection.be_prompt();
    }
}

/// The date of a response, in the form in which dates are written.
fn made(headers: &HeaderMap, received: SystemTime) -> HeaderValue {
    let Some(date) = headers.get(DATE) else {
        return header_value(received);
    };
    match parse(date.as_bytes(), received) {
        Some(_) if date.len() == FIXDATE => date.clone(),
        Some(other) => header_value(other),
        None => header_value(received),
    }
}

/// The length of `Sun, 06 Nov 1994 08:49:37 GMT`.
const FIXDATE: usize = 29;

/// Notes why a response was not stored, if nothing has been noted before.
fn explain(caching: &mut Caching, reason: NoCacheReason) {
    let word = match reason {
        NoCacheReason::NeverEnabled => return,
        NoCacheReason::Custom(word) => word,
        NoCacheReason::CacheLockGiveUp => "not storable",
        NoCacheReason::CacheLockTimeout | NoCacheReason::CacheLockRetryLimit => "waited in vain",
        NoCacheReason::UpstreamError => FAILED,
        NoCacheReason::Deferred => "not yet",
        NoCacheReason::OriginNotCache
        | NoCacheReason::ResponseTooLarge
        | NoCacheReason::PredictedResponseTooLarge
        | NoCacheReason::StorageError
        | NoCacheReason::InternalError
        | NoCacheReason::DeclinedToUpstream => "not stored",
    };
    caching.reason.get_or_insert(word);
}

/// What Pingora serves of what is stored.
fn hit(session: &mut Session) -> Option<Arc<Object<Head>>> {
    let hit = session.cache.hit_handler().as_any().downcast_ref::<Hit>()?;
    Some(Arc::clone(hit.object()))
}

fn count(ctx: &mut Ctx, event: Event, reason: Option<&'static str>) {
    ctx.exchange.cached = Some(Cached {
        outcome: event.as_str(),
        reason,
    });
    if let Some(plan) = plan(&ctx.route) {
        plan.zone.counters.count(event);
    }
}

fn write(
    head: &mut ResponseHeader,
    outcome: Outcome,
    ttl: Option<i64>,
    detail: Option<&str>,
) -> Result<()> {
    head.append_header(CACHE_STATUS, status(outcome, ttl, detail))
        .map(drop)
}

fn status(outcome: Outcome, ttl: Option<i64>, detail: Option<&str>) -> HeaderValue {
    let status = CacheStatus {
        outcome,
        ttl,
        key: None,
        detail,
    };
    status.header_value()
}

/// What there is to explain of a request; nothing on routes without a cache, or if it has not come so far.
pub(in crate::proxy) fn said(
    request: &RequestHeader,
    ctx: &Ctx,
    status: Option<String>,
) -> Option<CacheSaid> {
    let (plan, cached) = (plan(&ctx.route)?, ctx.exchange.cached?);
    let source = (request.as_ref(), &ctx.exchange);
    let path = ctx.exchange.normalised.as_deref();
    let mut key = vec![
        format!("{}://{}", ctx.exchange.scheme, ctx.exchange.host),
        path.unwrap_or_else(|| request.uri.path()).to_owned(),
    ];
    key.extend(plan.key.query.of(request.uri.query()));
    key.extend(
        plan.key
            .by
            .iter()
            .map(|value| format!("`{}`", value.render(&source))),
    );
    Some(CacheSaid {
        outcome: cached.outcome.into(),
        reason: cached.reason.map(Into::into),
        status,
        zone: plan.zone.name().to_owned(),
        key,
    })
}
