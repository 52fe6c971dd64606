//! Tells Pingora's cache what to do with a request that goes on to the upstream.

use std::{sync::Arc, time::SystemTime};

use http::{
    Method, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, SET_COOKIE},
    response,
};
use pingora::{
    Error, ErrorSource, ErrorType, Result,
    cache::{
        CacheKey, CacheMeta, CacheOptionOverrides, CachePhase, ForcedFreshness, HitHandler,
        NoCacheReason, RespCacheable, key::HashBinary,
    },
    http::{RequestHeader, ResponseHeader},
};
use pingora_proxy::{MultiRangeInfo, RangeType, Session};

use super::{Caching, Ctx, FAILED, deliver::Part, fallback::is_failure, plan};
use crate::{
    cache::{
        head::{Head, Notes, meta},
        key::variant,
        memory::Object,
        plan::Plan,
        policy::{
            condition::{Precondition, Stored, precondition},
            directives::ResponseDirectives,
            fields::excluded,
            freshness::{Freshness, Timing},
            range::{Span, Wanted, content_range, unsatisfied, wanted},
            request::Use,
            storable::{Asked, Reason, Verdict, storable},
            tags::tags,
            update::{freshen, selects},
        },
        purges::Turn,
        storage::{Hit, TOO_LARGE, freshness},
    },
    proxy::{
        attempt,
        body::{self, content_length},
    },
};

/// Has Pingora's cache take part, if the response may be stored.
pub(in crate::proxy) fn enable(session: &mut Session, ctx: &Ctx) {
    let (Some(plan), Some(caching)) = (plan(&ctx.route), &ctx.caching) else {
        return;
    };
    if !caching.fetches {
        return;
    }
    // Who gets a page of his own neither waits for another's, nor has others wait.
    let personal = caching.credentials.are_personal(&plan.rules);
    let lock = (!personal).then(|| plan.zone.lock());
    // What is stored is asked about, and served if the upstream fails, although its last answer could not be
    // stored.
    let known = caching.stored.is_some() || caching.claim.is_some();
    let predictor = (!personal && !known).then(|| plan.zone.predictor());
    let mut overrides = CacheOptionOverrides::default();
    overrides.wait_timeout = Some(plan.wait);
    overrides.max_lock_retries = Some(LOCKS);
    let cache = &mut session.cache;
    cache.enable(plan.zone, None, predictor, lock, Some(overrides));
    // A client that reads slowly does not hold up what others wait for.
    session.set_proxy_tasks_enabled(true);
}

/// What the response is stored under.
pub(in crate::proxy) fn key(ctx: &Ctx) -> Result<CacheKey> {
    let Some(caching) = &ctx.caching else {
        return Error::e_explain(ErrorType::InternalError, "no cache for this request");
    };
    let mut key = CacheKey::new(caching.name.bytes(), "");
    key.set_primary_bin_override(caching.name.hash().to_ne_bytes());
    Ok(key)
}

/// Which variant of a response with this meta data a request wants.
pub(in crate::proxy) fn variance(
    meta: &CacheMeta,
    request: &RequestHeader,
    ctx: &Ctx,
) -> Option<HashBinary> {
    let plan = plan(&ctx.route)?;
    variant(
        &(request.as_ref(), &ctx.exchange),
        meta.headers(),
        &plan.key,
    )
}

/// What is to be done with what Pingora has found.
pub(in crate::proxy) fn hit(
    session: &mut Session,
    handler: &HitHandler,
    ctx: &mut Ctx,
) -> Option<ForcedFreshness> {
    let route = Arc::clone(&ctx.route);
    let plan = plan(&route)?;
    let Some(found) = handler.as_any().downcast_ref::<Hit>() else {
        return Some(ForcedFreshness::ForceMiss);
    };
    let object = found.object();
    let source = (session.req_header().as_ref(), &ctx.exchange);
    let wanted = variant(&source, &object.head().header().headers, &plan.key);
    let caching = ctx.caching.as_mut()?;
    // Pingora does not look when a response varies by nothing any more.
    if object.head().variant() != wanted.as_ref() {
        return Some(ForcedFreshness::ForceMiss);
    }
    let freshness = freshness(object);
    let now = SystemTime::now();
    if caching
        .claim
        .as_ref()
        .is_some_and(|claim| claim.is_for(object))
    {
        caching.stored = Some(Arc::clone(object));
        return Some(ForcedFreshness::ForceExpiredServeStale { expired_at: None });
    }
    Some(match caching.judge(&freshness, plan, now) {
        Some(Use::Serve) => {
            caching.served_stale = false;
            ForcedFreshness::ForceFresh
        }
        Some(Use::ServeStale | Use::Refresh) => {
            caching.served_stale = true;
            ForcedFreshness::ForceFresh
        }
        Some(Use::Validate { why, or_stored }) => {
            let in_vain = caching.has_waited_in_vain(session, object);
            if in_vain && or_stored {
                (caching.served_stale, caching.reason) = (true, Some(FAILED));
                return Some(ForcedFreshness::ForceFresh);
            }
            if in_vain {
                // One after the other would fail.
                session.cache.set_cache_lock(None, None);
            }
            caching.validate(Arc::clone(object), why, or_stored);
            ForcedFreshness::ForceExpiredServeStale { expired_at: None }
        }
        Some(Use::Refuse) => {
            caching.validate(Arc::clone(object), super::Why::Stale, false);
            ForcedFreshness::ForceExpiredServeStale { expired_at: None }
        }
        None => ForcedFreshness::ForceMiss,
    })
}

/// Whether a response is stored, and how.
pub(in crate::proxy) fn response(
    session: &Session,
    response: &ResponseHeader,
    ctx: &mut Ctx,
) -> RespCacheable {
    let route = Arc::clone(&ctx.route);
    let (Some(plan), Some(mut caching)) = (plan(&route), ctx.caching.take()) else {
        return RespCacheable::Uncacheable(NoCacheReason::NeverEnabled);
    };
    let verdict = match caching.still_good.take() {
        Some(news) => caching.revalidated(session, &news, plan),
        None => caching.fetched(session, response, plan),
    };
    let cacheable = match verdict {
        Ok(meta) => RespCacheable::Cacheable(meta),
        Err(reason) => {
            caching.reason = Some(reason);
            RespCacheable::Uncacheable(NoCacheReason::Custom(reason))
        }
    };
    ctx.caching = Some(caching);
    cacheable
}

impl Caching {
    /// Whether another request was to fetch something newer than this, and has not.
    fn has_waited_in_vain(&self, session: &Session, object: &Arc<Object<Head>>) -> bool {
        let same = |stored: &Arc<Object<Head>>| Arc::ptr_eq(stored, object);
        session.cache.lock_duration().is_some() && self.stored.as_ref().is_some_and(same)
    }

    /// Notes when the request is sent, which is what a purge is held against.
    pub(in crate::proxy) fn departs(&mut self) {
        (self.requested, self.turn) = (SystemTime::now(), Turn::now());
    }

    /// Notes the head of the upstream's answer.
    pub(in crate::proxy) fn arrived(&mut self, response: &ResponseHeader) {
        self.received = SystemTime::now();
        self.upstream_status = Some(response.status);
    }

    /// Notes that the body passes edits before it is stored.
    pub(in crate::proxy) fn edits(&mut self) {
        self.edited = true;
    }

    /// Notes what the filters have made of the head.
    pub(in crate::proxy) fn shown(&mut self, response: &ResponseHeader) {
        let still_good = response.status == StatusCode::NOT_MODIFIED && self.stored.is_some();
        self.still_good = still_good.then(|| Box::new(response.clone()));
    }

    /// A response that has come whole.
    fn fetched(
        &mut self,
        session: &Session,
        response: &ResponseHeader,
        plan: &Plan,
    ) -> std::result::Result<CacheMeta, &'static str> {
        let freshness = self.judge_response(session, response, plan)?;
        // Those who wait for it would become the next to fetch it, one after the other.
        let length = content_length(&response.headers);
        let length = length.and_then(|length| usize::try_from(length).ok());
        if length.is_some_and(|length| length > plan.zone.store().max_object()) {
            return Err(TOO_LARGE);
        }
        // It was before, and may be again: nobody knows until it has come.
        if length.is_none() && was_too_large(session) {
            return Err(TOO_LARGE);
        }
        self.storing(response.clone(), freshness, plan)
    }

    /// What is stored, with what a 304 says of it.
    fn revalidated(
        &mut self,
        session: &Session,
        news: &ResponseHeader,
        plan: &Plan,
    ) -> std::result::Result<CacheMeta, &'static str> {
        let Some(stored) = self.stored.clone() else {
            return Err(NOT_STORED);
        };
        let old = stored.head().header();
        self.edited = stored.head().edited();
        let mut recast = None;
        if self.edited {
            // What it says is of the body as it was before the edits.
            let news = recast.insert(news.clone());
            body::recast(news).map_err(|_| NOT_STORED)?;
        }
        let news = recast.as_ref().unwrap_or(news);
        if !selects(&old.headers, &news.headers) {
            return Err("another was validated");
        }
        let directives = ResponseDirectives::of(&news.headers, &plan.rules.targets);
        let mut headers = old.headers.clone();
        freshen(&mut headers, &news.headers, &directives, self.received);
        let header = with_headers(old, &headers).map_err(|_| NOT_STORED)?;
        let freshness = self.judge_response(session, &header, plan)?;
        let meta = self.storing(header, freshness, plan)?;
        // What was not stored with the page is not now either, but it is for the client who has asked.
        if !old.headers.contains_key(SET_COOKIE) {
            let cookies = news.headers.get_all(SET_COOKIE).iter();
            let cookies = cookies.map(|cookie| (SET_COOKIE, cookie.clone()));
            self.withheld.extend(cookies);
        }
        Ok(meta)
    }

    fn judge_response(
        &self,
        session: &Session,
        response: &response::Parts,
        plan: &Plan,
    ) -> std::result::Result<Freshness, &'static str> {
        // Pingora asks for all of it when the client wants the head alone, unless it expects not to
        // store it.
        let asked = match session.cache.phase() {
            CachePhase::Bypass => &session.req_header().method,
            _ => &Method::GET,
        };
        let asked = Asked {
            method: asked,
            headers: &session.req_header().headers,
            credentials: self.credentials,
        };
        let timing = Timing {
            requested: self.requested,
            received: self.received,
        };
        match storable(asked, response, timing, &plan.rules) {
            Verdict::Store(freshness) => Ok(freshness),
            Verdict::Not(reason) => Err(Reason::as_str(reason)),
        }
    }

    /// The meta data of a response that is stored, without what is for this client alone.
    fn storing(
        &mut self,
        mut header: ResponseHeader,
        freshness: Freshness,
        plan: &Plan,
    ) -> std::result::Result<CacheMeta, &'static str> {
        let filing = self.name.filing(tagged(&header, plan)?);
        self.withhold(&mut header, plan);
        let mut meta = meta(&freshness, self.received, header);
        meta.extensions_mut().insert(Notes {
            freshness,
            filing,
            requested: self.turn,
            // Until a refresh is whole, and if it breaks off, others have what is stored.
            shared: self.claim.is_none(),
            edited: self.edited,
        });
        Ok(meta)
    }

    /// Takes out what is not stored. The client who has asked gets it all the same, if it is not of the
    /// connection.
    fn withhold(&mut self, header: &mut ResponseHeader, plan: &Plan) {
        let directives = ResponseDirectives::of(&header.headers, &plan.rules.targets);
        for name in excluded(&header.headers, &directives) {
            let named = directives.withheld(&header.headers);
            let for_this_client =
                { named }.any(|named| named.eq_ignore_ascii_case(name.as_str().as_bytes()));
            if for_this_client {
                let values = header.headers.get_all(&name).iter();
                let values = values.map(|value| (name.clone(), value.clone()));
                self.withheld.extend(values);
            }
            header.remove_header(&name);
        }
    }
}

/// Whether what was last fetched under this name was larger than may be stored.
fn was_too_large(session: &Session) -> bool {
    let phase = session.cache.phase();
    phase == CachePhase::Bypass
        && session.cache.predicted_uncacheable_reason() == Some(NoCacheReason::Custom(TOO_LARGE))
}

/// Notes that a response has come whole which was thought too large, and was not.
pub(in crate::proxy) fn has_come(session: &Session, ctx: &Ctx) {
    let (Some(plan), Some(caching)) = (plan(&ctx.route), &ctx.caching) else {
        return;
    };
    let received = session.upstream_body_bytes_received();
    let small = received > 0 && received <= plan.zone.store().max_object();
    let thought = session.cache.predicted_uncacheable_reason().is_some();
    if thought && caching.reason == Some(TOO_LARGE) && small {
        session.cache.response_became_cacheable();
    }
}

/// The tags of a response, with spaces between them.
fn tagged(response: &ResponseHeader, plan: &Plan) -> std::result::Result<Box<str>, &'static str> {
    let Some(name) = &plan.tags else {
        return Ok(Box::default());
    };
    let tags = tags(&response.headers, name).map_err(|_| "tags")?;
    let tags = tags.iter().map(|tag| String::from_utf8_lossy(tag));
    Ok(tags.collect::<Vec<_>>().join(" ").into())
}

/// The same response with other headers.
fn with_headers(old: &ResponseHeader, headers: &http::HeaderMap) -> Result<ResponseHeader> {
    let mut new = ResponseHeader::build_no_case(old.status, Some(headers.len()))?;
    new.set_version(old.version);
    for (name, value) in headers {
        new.append_header(name, value)?;
    }
    Ok(new)
}

/// Whether a client gets 304 instead of this response, because it has it.
pub(in crate::proxy) fn not_modified(
    session: &Session,
    response: &ResponseHeader,
    ctx: &Ctx,
) -> bool {
    precondition(session.req_header(), stored(response, ctx)) == Precondition::NotModified
}

/// Makes a response the part of it that a client asks for.
pub(in crate::proxy) fn range(
    session: &Session,
    response: &mut ResponseHeader,
    ctx: &mut Ctx,
) -> RangeType {
    let Some(length) = content_length(&response.headers) else {
        return RangeType::None;
    };
    let (part, range) = match wanted(session.req_header(), stored(response, ctx), length) {
        Wanted::Whole => return RangeType::None,
        Wanted::Unsatisfiable => (Part::Nothing, unsatisfiable(response, length)),
        Wanted::Single(span) => {
            let range = single(response, &span, length);
            (Part::Span(span), range)
        }
        Wanted::Many(spans) => (Part::Many, several(response, &spans, length)),
    };
    let Ok(range) = range else {
        return RangeType::None;
    };
    if let Some(caching) = &mut ctx.caching {
        caching.part = part;
    }
    range
}

fn stored<'a>(response: &'a ResponseHeader, ctx: &Ctx) -> Stored<'a> {
    let received = ctx.caching.as_ref().map(|caching| caching.received);
    Stored {
        status: response.status,
        headers: &response.headers,
        received: received.unwrap_or_else(SystemTime::now),
    }
}

fn unsatisfiable(response: &mut ResponseHeader, length: u64) -> Result<RangeType> {
    narrow_to_nothing(response, length)?;
    Ok(RangeType::Invalid)
}

fn single(response: &mut ResponseHeader, span: &Span, length: u64) -> Result<RangeType> {
    let range = in_memory(span)?;
    narrow(response, span, length)?;
    Ok(RangeType::Single(range))
}

/// Makes a head that of a part.
pub(super) fn narrow(response: &mut ResponseHeader, span: &Span, length: u64) -> Result<()> {
    response.set_status(StatusCode::PARTIAL_CONTENT)?;
    response.insert_header(CONTENT_RANGE, content_range(span, length))?;
    response.insert_header(CONTENT_LENGTH, span.end - span.start)
}

/// Makes a head that of a part that is not there.
pub(super) fn narrow_to_nothing(response: &mut ResponseHeader, length: u64) -> Result<()> {
    response.set_status(StatusCode::RANGE_NOT_SATISFIABLE)?;
    response.remove_header(&CONTENT_TYPE);
    response.remove_header(&CONTENT_ENCODING);
    response.insert_header(CONTENT_RANGE, unsatisfied(length))?;
    response.insert_header(CONTENT_LENGTH, 0)
}

/// Pingora sends them in the order of the body.
fn several(response: &mut ResponseHeader, spans: &[Span], length: u64) -> Result<RangeType> {
    let ranges: Result<Vec<_>> = spans.iter().map(in_memory).collect();
    let mut ranges = ranges?;
    ranges.sort_by_key(|range| range.start);
    let mut parts = MultiRangeInfo::new(ranges);
    parts.set_total_length(in_memory(&(0..length))?.end);
    let of_parts = response.headers.get(CONTENT_TYPE);
    if let Some(of_parts) = of_parts.and_then(|of_parts| of_parts.to_str().ok()) {
        parts.set_content_type(of_parts.to_owned());
    }
    let of_all = format!("multipart/byteranges; boundary={}", parts.boundary);
    response.set_status(StatusCode::PARTIAL_CONTENT)?;
    response.insert_header(CONTENT_LENGTH, parts.calculate_multipart_length())?;
    response.insert_header(CONTENT_TYPE, of_all)?;
    Ok(RangeType::Multi(parts))
}

fn in_memory(span: &Span) -> Result<std::ops::Range<usize>> {
    let place = |place: u64| {
        usize::try_from(place)
            .map_err(|_| Error::explain(ErrorType::InternalError, "too large for this machine"))
    };
    Ok(place(span.start)?..place(span.end)?)
}

/// Whether what is stored is served after this error.
pub(in crate::proxy) fn serves_stale(
    session: &mut Session,
    error: Option<&Error>,
    ctx: &mut Ctx,
) -> bool {
    let Some(error) = error else {
        // What may be served while a newer one is fetched has been, before Pingora was asked.
        return false;
    };
    let allowed = ctx
        .caching
        .as_ref()
        .is_some_and(|caching| caching.or_stored);
    if !allowed || *error.esource() != ErrorSource::Upstream {
        return false;
    }
    let ErrorType::HTTPStatus(status) = error.etype() else {
        // Pingora keeps no connection after this: the client must know before its next request.
        session.set_keepalive(None);
        return true;
    };
    let Ok(status) = StatusCode::from_u16(*status) else {
        return false;
    };
    if let Some(caching) = &mut ctx.caching {
        caching.upstream_status = Some(status);
    }
    // RFC 5861, section 4.
    is_failure(status) && attempt::gives_up(session, status, ctx)
}

const NOT_STORED: &str = "not stored";
/// How often a request waits for another, which may fail or turn out to be for somebody else.
const LOCKS: usize = 3;
