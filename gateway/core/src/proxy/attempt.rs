//! Which endpoint, and whether to try another.

use std::{sync::Arc, time::Duration};

use edgeway_sdk::Reply;
use http::{Method, header};
use pingora::{Error, ErrorSource, ErrorType, Result, upstreams::peer::HttpPeer};
use pingora_proxy::Session;

use super::ctx::Ctx;
use crate::{
    snapshot::Target,
    upstream::{Cluster, clock},
};

/// How long an upgraded connection may be silent.
const UPGRADED_IDLE: Duration = Duration::from_secs(3600);

/// The endpoint for the next attempt.
pub(super) fn peer(session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
    let Some(cluster) = cluster(ctx) else {
        return Err(ctx.refuse(Reply::new(500).because("the route has no upstream")));
    };
    let picked = cluster.pick(&ctx.tried);
    let address = picked.and_then(|number| cluster.endpoint(number).state.address());
    let (Some(number), Some(address)) = (picked, address) else {
        let reason = format!(
            "no endpoint of the upstream `{}` has an address yet",
            cluster.name
        );
        return Err(ctx.refuse(Reply::new(503).because(reason)));
    };
    ctx.attempts += 1;
    ctx.endpoint = Some(number);
    ctx.attempt_began = clock::now();
    ctx.tried.push(number);
    let mut peer = cluster.peer(address);
    if wants_websocket(session) {
        peer.options.read_timeout = Some(UPGRADED_IDLE);
        session.set_read_timeout(Some(UPGRADED_IDLE));
    }
    Ok(peer)
}

/// Nothing was sent, so another endpoint may be tried whatever the method.
pub(super) fn not_connected(ctx: &mut Ctx, mut error: Box<Error>) -> Box<Error> {
    let Some(cluster) = cluster(ctx) else {
        return error;
    };
    if let Some(number) = ctx.endpoint {
        cluster.failed(number, &error.etype().as_str());
    }
    error.set_retry(may_go_on(ctx, &cluster));
    error
}

/// The connection broke after the request, or some of it, was sent.
///
/// Another endpoint is tried if the method is idempotent (RFC 9110, 9.2.2), the whole body can be
/// sent again, and the client has seen nothing. Not after a time-out: the endpoint is most likely
/// busy with the request, and others would be next. An old connection from the pool that turns out
/// to be closed says nothing about the endpoint, and is no attempt if there is another.
pub(super) fn broken(
    session: &mut Session,
    ctx: &mut Ctx,
    mut error: Box<Error>,
    reused: bool,
) -> Box<Error> {
    error.set_retry(false);
    let (Some(cluster), Some(number)) = (cluster(ctx), ctx.endpoint) else {
        return error;
    };
    if *error.esource() != ErrorSource::Upstream || ctx.verdict.is_some() {
        return error;
    }
    let timed_out = matches!(
        error.etype(),
        ErrorType::ReadTimedout | ErrorType::WriteTimedout
    );
    let unseen = session
        .response_written()
        .is_none_or(|head| head.status.is_informational());
    let stale = reused && unseen && !timed_out;
    if !stale {
        cluster.failed(number, &error.etype().as_str());
    }
    let repeatable = session.req_header().method.is_idempotent()
        && !session.as_ref().retry_buffer_truncated()
        && ctx.exchange.request_edits.is_empty();
    let again = unseen && repeatable && !timed_out && (stale || may_go_on(ctx, &cluster));
    if again && stale {
        ctx.attempts -= 1;
        ctx.tried.pop();
    }
    error.set_retry(again);
    error
}

fn may_go_on(ctx: &Ctx, cluster: &Cluster) -> bool {
    ctx.attempts < cluster.settings.tries && cluster.has_untried(&ctx.tried)
}

fn cluster(ctx: &Ctx) -> Option<Arc<Cluster>> {
    match &ctx.route.target {
        Target::Upstream(cluster) => Some(Arc::clone(cluster)),
        Target::Redirect(_) | Target::Respond(_) | Target::NotFound => None,
    }
}

/// A handshake is a GET without a body (RFC 6455, 4.1): an upload that calls itself one is no reason
/// to wait longer for it.
fn wants_websocket(session: &mut Session) -> bool {
    if !session.is_body_empty() || session.req_header().method != Method::GET {
        return false;
    }
    let upgrade = session.req_header().headers.get(header::UPGRADE);
    upgrade.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}
