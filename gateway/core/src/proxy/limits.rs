//! What requests and their connections are held to.

use edgeway_sdk::Reply;
use http::{HeaderMap, StatusCode, header::TRANSFER_ENCODING};
use pingora::{
    Result,
    http::{RequestHeader, ResponseHeader},
};
use pingora_proxy::Session;

use super::{body::content_length, client::connection, ctx::Ctx};
use crate::{
    server::{Framing, Level},
    snapshot::Gateway,
};

/// Sets the limits of this connection. Each must be set at every request: Pingora would wait forever
/// for the next one, and for a client that does not read.
pub(super) fn hold(session: &mut Session, ctx: &Ctx, level: Level) {
    let gateway = &ctx.gateway;
    session.set_read_timeout(Some(gateway.requests.read_timeout));
    session.set_write_timeout(Some(gateway.requests.write_timeout));
    session.set_total_drain_timeout(Some(gateway.requests.read_timeout));
    // Pingora would do so at `100 Continue` already; we do at the final head.
    session.set_close_on_response_before_downstream_finish(false);
    let mut last = level >= Level::Tight;
    if let Some(connection) = connection(session) {
        connection.announce(framing(&session.req_header().headers));
        last |= connection.requests() >= gateway.connections.max_requests;
    }
    if last {
        session.set_keepalive(None);
    }
}

/// What follows a head that Pingora has found valid.
fn framing(headers: &HeaderMap) -> Framing {
    if headers.contains_key(TRANSFER_ENCODING) {
        return Framing::Chunked;
    }
    Framing::Length(content_length(headers).unwrap_or_default())
}

/// Refuses a head with more lines than allowed.
pub(super) fn head(head: &RequestHeader, gateway: &Gateway) -> Result<(), Box<Reply>> {
    // Over HTTP/1.1 it has not come so far.
    if head.raw_path().len() > gateway.requests.max_target {
        let why = "The request target is too long.";
        return Err(Box::new(Reply::new(414).detail(why)));
    }
    if head.headers.len() > gateway.requests.max_headers {
        let why = "The request has too many headers.";
        return Err(Box::new(Reply::new(431).detail(why)));
    }
    Ok(())
}

/// Refuses a body that says of itself that it is too large, before anything of it is read.
pub(super) fn announced_body(head: &RequestHeader, ctx: &Ctx) -> Option<Reply> {
    let length = content_length(&head.headers)?;
    (length > most(ctx)).then(too_large)
}

/// Refuses a body as soon as it is larger than it may be.
pub(super) fn body(session: &Session, ctx: &mut Ctx) -> Result<()> {
    let read = session.body_bytes_read() as u64;
    if read > most(ctx) && !session.was_upgraded() {
        return Err(ctx.refuse(too_large()));
    }
    Ok(())
}

fn most(ctx: &Ctx) -> u64 {
    let limit = ctx.route.max_body.unwrap_or(ctx.gateway.requests.max_body);
    limit.unwrap_or(u64::MAX)
}

fn too_large() -> Reply {
    Reply::new(413).detail("The body is too large.")
}

/// Lets everything pass from here on, if that is what an endpoint has agreed to.
pub(super) fn upgraded(session: &Session, response: &ResponseHeader) {
    if response.status == StatusCode::SWITCHING_PROTOCOLS
        && let Some(connection) = connection(session)
    {
        connection.announce(Framing::Upgraded);
    }
}
