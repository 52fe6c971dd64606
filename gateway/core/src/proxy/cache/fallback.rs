//! Serves what is stored in place of a failure.
//!
//! Pingora's cache does that as well, but only for a failure of the endpoint itself, and for a request that it
//! has not sent on without a place in the cache.

use std::{sync::Arc, time::SystemTime};

use http::StatusCode;
use pingora::{
    Error, ErrorSource, ErrorType, Result,
    cache::{CachePhase, NoCacheReason},
};
use pingora_proxy::Session;

use super::{Ctx, Served, plan, serve};
use crate::cache::{policy::request::Use, storage::freshness};

/// Serves what is stored to a request that has waited for another one too long: the upstream is slow. Tells
/// whether that was done.
pub(in crate::proxy) async fn overdue(session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
    use NoCacheReason::{CacheLockRetryLimit, CacheLockTimeout};
    match session.cache.phase() {
        CachePhase::Disabled(CacheLockTimeout | CacheLockRetryLimit) => {
            serve_stored(session, ctx, WAITED).await
        }
        _ => Ok(false),
    }
}

/// Whether an answer of the endpoint is a failure that is not passed on, since what is stored is better.
pub(in crate::proxy) fn hides(status: StatusCode, ctx: &Ctx) -> bool {
    let refreshes = ctx
        .caching
        .as_ref()
        .is_some_and(|caching| caching.claim.is_some());
    // Nobody is told of a refresh, and that it has failed says nothing of what can be stored.
    is_failure(status) && (refreshes || stored(ctx, SystemTime::now()).is_some())
}

/// Serves what is stored instead of telling of this error. Tells whether that was done, or at least begun.
pub(in crate::proxy) async fn instead(session: &mut Session, ctx: &mut Ctx, error: &Error) -> bool {
    // What filters have seen the head of can't be replaced any more.
    if !is_of_upstream(error) || ctx.exchange.cached.is_some() {
        return false;
    }
    let reason = ctx.verdict.as_ref().and_then(|reply| reply.reason());
    let reason = reason.map_or_else(|| error.to_string(), str::to_owned);
    let served = serve_stored(session, ctx, super::FAILED).await;
    let begun = served.unwrap_or_else(|_| session.response_written().is_some());
    if begun {
        ctx.verdict = None;
        ctx.exchange.reason = Some(reason);
    }
    begun
}

/// Whether no good answer could be had of the upstream: endpoints fail, or none may be asked.
fn is_of_upstream(error: &Error) -> bool {
    match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, _) => false,
        (_, ErrorType::HTTPStatus(status)) => StatusCode::from_u16(*status).is_ok_and(is_failure),
        (source, _) => *source == ErrorSource::Upstream,
    }
}

/// RFC 5861, section 4.
pub(super) fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

async fn serve_stored(session: &mut Session, ctx: &mut Ctx, reason: &'static str) -> Result<bool> {
    let now = SystemTime::now();
    let Some(served) = stored(ctx, now) else {
        return Ok(false);
    };
    if let Some(caching) = &mut ctx.caching {
        (caching.served_stale, caching.reason) = (true, Some(reason));
    }
    serve::serve(session, ctx, &served, now).await
}

/// What is stored for a request of a client, if it may be served at this time although no newer one can be had.
fn stored(ctx: &Ctx, now: SystemTime) -> Option<Served> {
    let caching = ctx.caching.as_ref()?;
    let object = caching.stored.as_ref()?;
    if caching.claim.is_some() || !caching.or_stored {
        return None;
    }
    let freshness = freshness(object);
    let verdict = caching.judge(&freshness, plan(&ctx.route)?, now)?;
    let good = match verdict {
        Use::Serve | Use::ServeStale | Use::Refresh => true,
        Use::Validate { or_stored, .. } => or_stored,
        Use::Refuse => false,
    };
    good.then(|| Served::new(Arc::clone(object), freshness, false))
}

const WAITED: &str = "waited in vain";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_of_the_upstream_and_not_of_the_client() {
        for (error, is) in [
            (Error::new_up(ErrorType::ConnectRefused), true),
            (Error::new_up(ErrorType::ReadTimedout), true),
            (Error::new_up(ErrorType::HTTPStatus(502)), true),
            (Error::new_in(ErrorType::HTTPStatus(503)), true),
            (Error::new_in(ErrorType::HTTPStatus(501)), false),
            (Error::new_up(ErrorType::HTTPStatus(404)), false),
            (Error::new_down(ErrorType::HTTPStatus(500)), false),
            (Error::new_down(ErrorType::ReadError), false),
            (Error::new_in(ErrorType::InternalError), false),
        ] {
            assert_eq!(is_of_upstream(&error), is, "{error}");
        }
    }
}
