//! What has become of a try, and whether there is another.

use std::sync::Arc;

use edgeway_sdk::Reply;
use http::{StatusCode, header};
use pingora::{Error, ErrorSource, ErrorType, upstreams::peer::HttpPeer};
use pingora_proxy::Session;

use super::{Ctx, OVER, Tries};
use crate::{
    config::Condition, proxy::reply::has_begun, snapshot::Target, telemetry::meter::Event,
};

/// Whether an answer with this status is the last one, when something else is going to be served in its
/// place; if so, it is counted. If not, it is to come to [`answered`].
pub(in crate::proxy) fn gives_up(session: &mut Session, status: StatusCode, ctx: &mut Ctx) -> bool {
    let repeatable = is_repeatable(session, ctx);
    let Some(tries) = &ctx.tries else {
        return true;
    };
    // It has come there before: no more tries are left.
    if tries.answered {
        return true;
    }
    let retries = &tries.cluster.settings.retries;
    if retries.on_status(status) && repeatable && tries.count < retries.tries {
        return false;
    }
    answered(session, status, ctx)
}

/// An endpoint has answered. Whether the answer is one to pass on; if not, another endpoint is asked.
pub(in crate::proxy) fn answered(session: &mut Session, status: StatusCode, ctx: &mut Ctx) -> bool {
    let repeatable = is_repeatable(session, ctx);
    let Some(tries) = &mut ctx.tries else {
        return true;
    };
    tries.answered(status == StatusCode::SWITCHING_PROTOCOLS);
    let at = tries.history.answered(status);
    let cluster = Arc::clone(&tries.cluster);
    let settings = &cluster.settings;
    if let Some(lease) = &tries.lease {
        cluster.answered(lease, tries.began, status);
    }
    tries.admitted.went(!settings.breaks(status));
    tries.rejected = settings.retries.on_status(status) && repeatable && tries.is_not_last();
    tries.rejected = tries.rejected || !tries.wins();
    if tries.rejected {
        tries.history.ends_with_answer();
        let why = format!("the endpoint has answered {}", status.as_u16());
        let (failures, asked) = (&ctx.gateway.failures, tries.asked());
        failures.note(&ctx.exchange, asked, None, &why);
    } else {
        ctx.answered.get_or_insert(at);
        // Now, and not at the end of what may be an endless body.
        tries.admitted.settle();
    }
    !tries.rejected
}

/// Nothing was sent, so another endpoint may be tried whatever the method; or the same one, if its name
/// has another address.
pub(in crate::proxy) fn not_connected(
    ctx: &mut Ctx,
    peer: &HttpPeer,
    mut error: Box<Error>,
) -> Box<Error> {
    error.set_retry(false);
    if let Some(tries) = &mut ctx.tries {
        let at = peer._address.as_inet();
        let elsewhere = tries
            .lease
            .as_ref()
            .zip(at)
            .is_some_and(|(lease, at)| tries.cluster.unreachable(lease.endpoint(), *at));
        let reason = error.etype().as_str();
        tries.history.failed(reason);
        if elsewhere {
            tries.untry();
        } else {
            tries.failed(Event::Unconnected, reason);
            let (failures, asked) = (&ctx.gateway.failures, tries.asked());
            failures.note(&ctx.exchange, asked, None, reason);
        }
        let retries = &tries.cluster.settings.retries;
        let again = (retries.on(Condition::Connect) || tries.has_run_out()) && tries.may_go_on();
        error.set_retry(again);
    }
    error
}

/// The connection broke, or was too slow, after the request, or some of it, was sent.
///
/// Another endpoint is tried if the method is idempotent (RFC 9110, 9.2.2) or the route says that it
/// does not matter, the whole body can be sent again, and the client has seen nothing. After a
/// time-out only if the upstream says so: the endpoint may be busy with the request, and others would
/// be next. A connection from the pool that turns out to be closed says nothing about the endpoint, and
/// is no try; but only once, since an endpoint may also close connections because of the request.
pub(in crate::proxy) fn broken(
    session: &mut Session,
    ctx: &mut Ctx,
    mut error: Box<Error>,
    reused: bool,
) -> Box<Error> {
    if session.was_upgraded() {
        // It is no request any more: there is nothing to ask again, and nobody to blame.
        error.set_retry(false);
        return error;
    }
    let uploading = !session.is_body_done();
    let bitten = bitten(ctx);
    if uploading && !awaits_permission(session) && bitten.is_none() && is_silence(&error) {
        // The endpoint waits for the client, as we do.
        let why = "the client has paused in its body for longer than the endpoint may be silent";
        return ctx.refuse(Reply::new(408).because(why));
    }
    let mut error = bitten.unwrap_or(error);
    error.set_retry(false);
    let unseen = !has_begun(session);
    let repeatable = is_repeatable(session, ctx) && unseen;
    let Some(tries) = &mut ctx.tries else {
        return error;
    };
    if tries.rejected {
        error.set_retry(true);
        return error;
    }
    if *error.esource() != ErrorSource::Upstream || ctx.verdict.is_some() {
        return error;
    }
    if tries.hedging.is_lost() {
        error.set_retry(unseen);
        return error;
    }
    let timed_out = matches!(
        error.etype(),
        ErrorType::ReadTimedout | ErrorType::WriteTimedout
    );
    let stale = reused && unseen && !timed_out && !tries.renewed;
    if stale && repeatable {
        tries.count -= 1;
        tries.history.forget();
        tries.untry();
        tries.renewed = true;
        error.set_retry(true);
        return error;
    }
    // An answer that came in time may be long, and who sends or takes slowly is the client's affair.
    let client_is_slow = tries.is_over() && (uploading || !unseen);
    let reason = error.etype().as_str();
    tries.history.failed(reason);
    if !stale && !client_is_slow {
        tries.failed(lost(timed_out), reason);
        let (failures, asked) = (&ctx.gateway.failures, tries.asked());
        failures.note(&ctx.exchange, asked, None, reason);
    }
    let condition = tries.wants_another(timed_out);
    tries.hedging.hope(!condition);
    let under_way = tries.hedging.is_under_way();
    let again = repeatable && (under_way || (condition && tries.may_go_on()));
    error.set_retry(again);
    error
}

impl Tries {
    /// Whether the upstream has another endpoint asked after a connection that broke, or was too slow.
    fn wants_another(&self, timed_out: bool) -> bool {
        let retries = &self.cluster.settings.retries;
        match timed_out {
            true => retries.on(Condition::Timeout) || self.has_run_out(),
            false => retries.on(Condition::Reset),
        }
    }
}

/// Whether the client waits for `100 Continue` before it sends its body (RFC 9110, 10.1.1), which is for
/// the endpoint to say.
fn awaits_permission(session: &Session) -> bool {
    session.body_bytes_read() == 0 && session.req_header().headers.contains_key(header::EXPECT)
}

/// How the connection of a try was lost.
fn lost(timed_out: bool) -> Event {
    match timed_out {
        true => Event::TimedOut,
        false => Event::Broken,
    }
}

/// Whether an endpoint has said nothing for too long.
fn is_silence(error: &Error) -> bool {
    *error.esource() == ErrorSource::Upstream && *error.etype() == ErrorType::ReadTimedout
}

/// The error in place of the one that comes of a connection that we have ended ourselves.
fn bitten(ctx: &Ctx) -> Option<Box<Error>> {
    let tries = ctx.tries.as_ref()?;
    tries
        .watchdog
        .as_ref()
        .filter(|watchdog| watchdog.has_bitten())?;
    let why = if tries.is_over() {
        OVER
    } else {
        "the endpoint has not answered in time"
    };
    let mut error = Error::explain(ErrorType::ReadTimedout, why);
    error.as_up();
    Some(error)
}

/// Whether the request can be sent once more: the client can't tell, and the body is still there.
fn is_repeatable(session: &mut Session, ctx: &Ctx) -> bool {
    let route = &ctx.route;
    let unsafe_too = matches!(&route.target, Target::Upstream(forward) if forward.retry_unsafe);
    (unsafe_too || session.req_header().method.is_idempotent())
        && !session.as_ref().retry_buffer_truncated()
        && ctx.exchange.request_edits.is_empty()
}
