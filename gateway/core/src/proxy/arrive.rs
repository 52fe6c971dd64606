//! From the head as it came to the route.

use std::sync::Arc;

use edgeway_sdk::Reply;
use http::{Method, StatusCode, Version, header};
use pingora::proxy::Session;

use super::{client, ctx::Ctx, depart::Via, hygiene};
use crate::{
    route::{Found, Host, Normalised, Reached, RouteRequest, normalise},
    snapshot::Target,
};

/// Finds the route of a request. A reply is what the request comes to after the chain, instead of
/// the route's target.
pub(super) fn route(session: &mut Session, ctx: &mut Ctx, via: &Via) -> Option<Reply> {
    limit(session, ctx);
    client::identify(session, ctx);
    let refusal = examine(session, ctx, via);
    hygiene::clean(session.req_header_mut(), &ctx.gateway);
    refusal.or_else(|| find(session, ctx))
}

/// Sets the limits of this connection. Each must be set at every request: Pingora would wait forever
/// for the next one, and for a client that does not read.
fn limit(session: &mut Session, ctx: &Ctx) {
    let gateway = &ctx.gateway;
    if session.get_keepalive().is_some() {
        session.set_keepalive(Some(gateway.keepalive.as_secs().max(1)));
    }
    session.set_read_timeout(Some(gateway.read_timeout));
    session.set_write_timeout(Some(gateway.write_timeout));
    session.set_total_drain_timeout(Some(gateway.read_timeout));
}

/// Refuses what no route should see.
fn examine(session: &Session, ctx: &mut Ctx, via: &Via) -> Option<Reply> {
    let head = session.req_header();
    let bad = |why: &'static str| Some(Reply::new(400).detail(why));
    if head.method == Method::TRACE {
        return Some(Reply::new(405).header(header::ALLOW, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    if via.is_in(&head.headers) {
        return Some(Reply::new(508).because("the request has passed this gateway before: an endpoint leads back to it"));
    }
    if !head.raw_path_is_utf8() {
        return bad("The request target is not valid.");
    }
    let named = head.uri.authority().map(|authority| authority.as_str());
    let named = named.or_else(|| head.headers.get(header::HOST).map(|host| host.to_str().unwrap_or("\u{fffd}")));
    match named.map(Host::parse) {
        Some(Ok(host)) => host.as_str().clone_into(&mut ctx.exchange.host),
        Some(Err(_)) => return bad("The host is not valid."),
        None if head.version >= Version::HTTP_11 => return bad("The request names no host."),
        None => {}
    }
    None
}

fn find(session: &Session, ctx: &mut Ctx) -> Option<Reply> {
    let head = session.req_header();
    let path = head.uri.path();
    if path == "*" {
        let status = if head.method == Method::OPTIONS { 204 } else { 400 };
        return Some(Reply::new(status));
    }
    let Ok(normal) = normalise(path) else {
        return Some(Reply::new(400).detail("The path is not valid."));
    };
    let gateway = Arc::clone(&ctx.gateway);
    let host = Host::parse(&ctx.exchange.host).ok();
    let request = RouteRequest {
        host: host.as_ref(),
        path: normal.matched(),
        readings: normal.readings(),
        method: &head.method,
        headers: &head.headers,
        query: head.uri.query(),
    };
    let verdict = match gateway.router.find(&request) {
        Found::Hit(hit) => {
            ctx.route = Arc::clone(hit.value);
            (hit.reached == Reached::SlashMissing).then(|| slash(&normal, head.uri.query()))
        }
        Found::MethodNotAllowed(methods) => {
            let allow: Vec<_> = methods.iter().map(Method::as_str).collect();
            Some(Reply::new(405).header(header::ALLOW, allow.join(", ")))
        }
        Found::Ambiguous => {
            Some(Reply::new(400).detail("The path is not valid.").because("the path has readings that lead to different routes"))
        }
        Found::NotFound => None,
    };
    ctx.exchange.route = Arc::clone(&ctx.route.name);
    if let Target::Upstream(_) = ctx.route.target {
        ctx.path = departing(path, &normal, ctx);
    }
    if normal.matched() != path {
        ctx.exchange.normalised = Some(normal.matched().into());
    }
    verdict
}

/// The path for the upstream, if it is not the one that the client sent.
fn departing(sent: &str, normal: &Normalised<'_>, ctx: &Ctx) -> Option<String> {
    let rewriting = &ctx.route.rewriting;
    if !rewriting.is_empty() {
        return Some(rewriting.apply(normal));
    }
    (normal.forwarded() != sent).then(|| normal.forwarded().to_owned())
}

/// Sends the client from `/users` to `/users/`, where the route is.
fn slash(path: &Normalised<'_>, query: Option<&str>) -> Reply {
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let location = format!("{}/{query}", path.matched());
    Reply::new(StatusCode::MOVED_PERMANENTLY.as_u16()).header(header::LOCATION, location)
}
