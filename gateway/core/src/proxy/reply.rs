//! Responses of our own.

mod grpc;
pub(super) mod http2;
mod problem;

use std::io;

use bytes::Bytes;
use edgeway_sdk::{Exchange, Origin, Reply, message::is_framing};
use http::{
    Version,
    header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, LOCATION, TRANSFER_ENCODING},
};
use pingora::{
    Error, ErrorSource, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
};
use pingora_proxy::{FailToProxy, Session};

pub(super) use self::problem::wants_page;
use super::{
    body::{self, Pieces},
    cache, chain, client,
    ctx::Ctx,
    grpc_web::Call,
    pacing::{self, Pacing},
};
use crate::{
    config::scalar::SchemeName,
    snapshot::{Fixed, FixedBody, Redirection},
};

/// The largest body that is read to its end for the sake of the connection, when nobody wants it.
const WORTH_DRAINING: u64 = 64 * 1024;

/// Sends a reply, through the filters that have seen the request.
pub(super) async fn send(session: &mut Session, ctx: &mut Ctx, mut reply: Reply) -> Result<()> {
    ctx.origin = Origin::Reply;
    let (head, body) = loop {
        note(ctx, &reply);
        let (request, web) = (session.req_header(), ctx.web.as_ref());
        let (mut head, body) = compose(request, &ctx.exchange, web, reply)?;
        cache::tell_reply(&mut head, ctx)?;
        if !body::has_no_body(head.status) {
            head.insert_header(CONTENT_LENGTH, body.len())?;
        }
        let request = session.req_header();
        let shown = chain::fetched(&mut head, request, ctx);
        let shown = shown.and_then(|()| chain::up(&mut head, request, ctx));
        if body::is_edited(ctx) {
            body::recast(&mut head)?;
        }
        match shown.and_then(|()| edited(ctx, body)) {
            Ok(body) => break (head, body),
            Err(instead) => reply = *instead,
        }
    };
    pacing::begin(session, ctx);
    write(session, head, body, ctx.pacing.as_mut()).await
}

/// What the client is told when the request could not be proxied.
pub(super) async fn failure(session: &mut Session, ctx: &mut Ctx, error: &Error) -> FailToProxy {
    let started = has_begun(session);
    if !started {
        // Pingora keeps no connection after a failure: the client must know before its next request.
        session.set_keepalive(None);
        if cache::instead(session, ctx, error).await {
            return FailToProxy {
                error_code: 200,
                can_reuse_downstream: false,
            };
        }
    }
    let reply = ctx.verdict.take().or_else(|| verdict(error));
    if let Some(reply) = &reply {
        note(ctx, reply);
    }
    let Some(reply) = reply.filter(|_| !started) else {
        ctx.exchange.reason.get_or_insert_with(|| describe(error));
        return FailToProxy {
            error_code: 0,
            can_reuse_downstream: false,
        };
    };
    let error_code = reply.status().as_u16();
    if send(session, ctx, reply).await.is_ok() && !session.is_body_done() {
        session.as_mut().shutdown().await;
    }
    FailToProxy {
        error_code,
        can_reuse_downstream: false,
    }
}

/// Whether the client has seen the head of the response. What is written after 101 is no response any more.
pub(super) fn has_begun(session: &Session) -> bool {
    let written = session.response_written();
    session.was_upgraded() || written.is_some_and(|head| !head.status.is_informational())
}

/// What the failure to read a body comes to for who wanted to read it.
pub(super) fn unread(error: &Error) -> edgeway_sdk::Error {
    // Nobody is there to see the reply to a client that is gone.
    let reply = verdict(error).unwrap_or_else(|| Reply::new(400).because(describe(error)));
    edgeway_sdk::Error::refusal(reply)
}

/// The reply to a failure; none if the client is gone. An endpoint that can't be reached or breaks
/// is a 502, one that takes too long a 504.
fn verdict(error: &Error) -> Option<Reply> {
    let status = match (error.esource(), error.etype()) {
        (_, ErrorType::HTTPStatus(status)) => *status,
        (
            ErrorSource::Upstream,
            ErrorType::ConnectTimedout
            | ErrorType::ReadTimedout
            | ErrorType::WriteTimedout
            | ErrorType::TLSHandshakeTimedout,
        ) => 504,
        (ErrorSource::Upstream, _) => 502,
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => 408,
        (ErrorSource::Downstream, ErrorType::ReadError) => unreadable(error)?,
        (
            ErrorSource::Downstream,
            ErrorType::WriteError | ErrorType::WriteTimedout | ErrorType::ConnectionClosed,
        ) => return None,
        (ErrorSource::Downstream, _) => 400,
        (ErrorSource::Internal | ErrorSource::Unset, _) => 500,
    };
    Some(Reply::new(status).because(describe(error)))
}

/// The status for a body that can't be read; none if the client is gone.
fn unreadable(error: &Error) -> Option<u16> {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    match cause.map(io::Error::kind) {
        Some(io::ErrorKind::InvalidData) => Some(400),
        Some(io::ErrorKind::TimedOut) => Some(408),
        _ => None,
    }
}

fn describe(error: &Error) -> String {
    error.to_string()
}

fn note(ctx: &mut Ctx, reply: &Reply) {
    if let Some(reason) = reply.reason() {
        ctx.exchange.reason = Some(reason.to_owned());
    }
    // A filter may have had another body for what this takes the place of.
    (ctx.exchange.content, ctx.exchange.replacement) = (reply.author(), None);
}

/// The head and the body of a reply, before filters see them.
fn compose(
    request: &RequestHeader,
    exchange: &Exchange,
    web: Option<&Call>,
    reply: Reply,
) -> Result<(ResponseHeader, Bytes)> {
    let bare = reply.content().is_none() && reply.status().as_u16() >= 400;
    let call = bare.then(|| grpc::refusal(&reply, request, web)).flatten();
    let standard = (bare && call.is_none()).then(|| problem::body(&reply, request, exchange));
    let (status, headers, body) = reply.into_parts();
    let mut head = ResponseHeader::build(status, Some(headers.len() + 4))?;
    for (name, value) in headers.iter().filter(|(name, _)| !is_framing(name)) {
        head.append_header(name, value)?;
    }
    if let Some(refusal) = call {
        for (name, value) in refusal.headers {
            head.insert_header(name, value)?;
        }
        return Ok((head, refusal.body));
    }
    let Some((content_type, body)) = standard else {
        return Ok((head, body.unwrap_or_default()));
    };
    head.insert_header(CONTENT_TYPE, content_type)?;
    Ok((head, body))
}

/// The body after all edits, or what a filter has put in its place.
fn edited(ctx: &mut Ctx, body: Bytes) -> std::result::Result<Bytes, Box<Reply>> {
    let body = ctx.exchange.replacement.take().unwrap_or(body);
    let mut reported = Vec::new();
    let edited = body::edit_whole(&mut ctx.exchange.response_edits, body, &mut reported);
    chain::edited(ctx, reported, edited)
}

/// Sends the body that a filter has put in the place of another response's, with the head of that.
pub(super) async fn send_instead(
    session: &mut Session,
    ctx: &mut Ctx,
    mut head: ResponseHeader,
    body: Bytes,
) -> Result<()> {
    head.remove_header(&TRANSFER_ENCODING);
    head.set_reason_phrase(None)?;
    // Pingora writes no head of HTTP/2 over HTTP/1.1.
    head.set_version(Version::HTTP_11);
    write(session, head, body, ctx.pacing.as_mut()).await
}

async fn write(
    session: &mut Session,
    mut head: ResponseHeader,
    body: Bytes,
    pacing: Option<&mut Pacing>,
) -> Result<()> {
    if !body::has_no_body(head.status) {
        head.insert_header(CONTENT_LENGTH, body.len())?;
    }
    settle(session);
    let silent = body.is_empty() || body::is_absent(&session.req_header().method, head.status);
    if session.req_header().version == Version::HTTP_2 {
        return http2::write(session, head, (!silent).then_some(body), pacing).await;
    }
    session
        .write_response_header(Box::new(head), silent)
        .await?;
    if silent {
        return Ok(());
    }
    // In pieces: each has its time.
    for (piece, last) in Pieces::of(body, true, false) {
        session.write_response_body(Some(piece), last).await?;
    }
    Ok(())
}

/// Decides what becomes of the connection after a response that does not wait for the end of the request.
pub(super) fn settle(session: &mut Session) {
    // Otherwise Pingora would close every connection with an unread body, however little it is.
    let drains = worth_draining(session);
    session.set_close_on_response_before_downstream_finish(!drains);
    if !drains || client::is_parting(session) {
        session.set_keepalive(None);
    }
}

/// Whether the rest of the request's body is worth reading to keep the connection. A client that
/// asked first whether to send it will not.
fn worth_draining(session: &mut Session) -> bool {
    if session.is_body_done() {
        return true;
    }
    let headers = &session.req_header().headers;
    let length = body::content_length(headers);
    !headers.contains_key(EXPECT) && length.is_some_and(|length| length <= WORTH_DRAINING)
}

/// The reply of a `redirect` target.
pub(super) fn redirect(
    redirection: &Redirection,
    request: &RequestHeader,
    exchange: &Exchange,
) -> Reply {
    let source = (request.as_ref(), exchange);
    let location = match &redirection.to {
        Some(to) => to.render(&source).into_owned(),
        None => moved(redirection, request, exchange),
    };
    Reply::new(redirection.status.as_u16()).header(LOCATION, location)
}

/// The location with the parts that the redirect changes, and the others as the client sent them.
fn moved(redirection: &Redirection, request: &RequestHeader, exchange: &Exchange) -> String {
    let source = (request.as_ref(), exchange);
    let scheme = match redirection.scheme {
        Some(SchemeName::Http) => "http",
        Some(SchemeName::Https) => "https",
        None => exchange.scheme.as_str(),
    };
    let host = redirection.host.as_ref().map_or_else(
        || bracketed(&exchange.host),
        |host| host.render(&source).into(),
    );
    let port = redirection.port.or_else(|| kept_port(redirection, request));
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let path = redirection.path.as_ref().map(|path| path.render(&source));
    let path = path.as_deref().unwrap_or_else(|| request.uri.path());
    let query = request.uri.query().filter(|_| redirection.keep_query);
    let join = if path.contains('?') { '&' } else { '?' };
    let query = query
        .map(|query| format!("{join}{query}"))
        .unwrap_or_default();
    // Else the path would go on with the name of the host.
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("{scheme}://{host}{port}{slash}{path}{query}")
}

/// The port that the client used, as long as neither scheme nor host changes.
fn kept_port(redirection: &Redirection, request: &RequestHeader) -> Option<u16> {
    if redirection.scheme.is_some() || redirection.host.is_some() {
        return None;
    }
    let host = request.headers.get(http::header::HOST)?.to_str().ok()?;
    let authority: http::uri::Authority = host.parse().ok()?;
    authority.port_u16()
}

fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

/// The reply of a `respond` target.
pub(super) fn fixed(fixed: &Fixed, request: &RequestHeader, exchange: &Exchange) -> Reply {
    let source = (request.as_ref(), exchange);
    let mut reply = Reply::new(fixed.status.as_u16());
    reply = match &fixed.body {
        FixedBody::Default => reply,
        FixedBody::Bytes(content_type, body) => reply
            .header(CONTENT_TYPE, content_type.clone())
            .bytes(body.clone()),
        FixedBody::Text(template) => reply.text(template.render(&source).into_owned()),
    };
    for (name, value) in &fixed.headers {
        if let Some(value) = value.header_value(&source) {
            reply = reply.set_header(name.clone(), value);
        }
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_can_not_frame_itself() {
        let request = RequestHeader::build("GET", b"/", None).unwrap();
        let exchange = Exchange::new(([127, 0, 0, 1], 1).into());
        let reply = Reply::new(200)
            .header(TRANSFER_ENCODING, "chunked")
            .header(CONTENT_LENGTH, "9")
            .header(LOCATION, "/");
        let (head, _) = compose(&request, &exchange, None, reply.text("text")).unwrap();
        assert!(!head.headers.contains_key("transfer-encoding"));
        assert!(!head.headers.contains_key(CONTENT_LENGTH));
        assert!(head.headers.contains_key(LOCATION));
    }
}
