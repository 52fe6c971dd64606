//! From the head as it came to the route.

use std::sync::Arc;

use edgeway_sdk::Reply;
use http::{HeaderValue, Method, StatusCode, Version, header};
use pingora::http::{RequestHeader, authority::raw_target_authority};
use pingora_proxy::Session;

use super::{chain, client, ctx::Ctx, depart::Via, grpc_web, hygiene, limits, maintenance, trail};
use crate::{
    route::{Found, Host, Normalised, Reached, RouteRequest, normalise},
    server::{Answers, Entrance, Level},
    snapshot::{Route, Target},
};

/// Finds the route of a request. A reply is what the request comes to after the chain, instead of
/// the route's target.
pub(super) fn route(
    session: &mut Session,
    ctx: &mut Ctx,
    via: &Via,
    level: Level,
) -> Option<Reply> {
    limits::hold(session, ctx, level);
    if hygiene::wants_close(&session.req_header().headers) {
        session.set_keepalive(None);
    }
    // HTTP/1.0 knows no interim responses.
    let old = session.req_header().version < Version::HTTP_11;
    session.set_ignore_info_resp(old);
    client::identify(session, ctx);
    trail::begin(session, ctx);
    hygiene::clean(session.req_header_mut(), &ctx.gateway, ctx.trusted);
    hygiene::forget_case(session.req_header_mut());
    trail::arrived(session, ctx);
    let head = session.req_header();
    let host = match limits::head(head, &ctx.gateway).and_then(|()| examine(head, via)) {
        Ok(host) => host,
        Err(refusal) => return Some(*refusal),
    };
    if let Some(host) = &host {
        host.as_str().clone_into(&mut ctx.exchange.host);
    }
    let verdict = find(head, host.as_ref(), ctx);
    verdict.or_else(|| limits::announced_body(head, ctx))
}

/// What an authority is answered that looks whether a name is ours, whatever route and filters would make of it.
/// None for everybody else.
pub(super) fn challenge(session: &Session, ctx: &mut Ctx, answers: &Answers) -> Option<Reply> {
    let answer = answers.find(session.req_header().uri.path())?;
    Entrance::of(session).filter(|entrance| entrance.tls.is_none())?;
    let fallback = Arc::clone(&ctx.gateway.fallback);
    ctx.turn_to(&fallback);
    ctx.exchange.route = CHALLENGE.into();
    let body = answer.as_bytes().to_vec();
    Some(Reply::new(200).body("application/octet-stream", body))
}

/// What logs call the route of such a request.
const CHALLENGE: &str = "(acme challenge)";

/// Refuses what no route should see, and tells the host that is asked for.
fn examine<'h>(head: &'h RequestHeader, via: &Via) -> Result<Option<Host<'h>>, Box<Reply>> {
    let bad = |why: &'static str| Err(Box::new(Reply::new(400).detail(why)));
    if head.method == Method::TRACE {
        let allowed = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
        return Err(Box::new(Reply::new(405).header(header::ALLOW, allowed)));
    }
    if via.is_in(&head.headers) {
        let why = "the request has passed this gateway before: an endpoint leads back to it";
        return Err(Box::new(Reply::new(508).because(why)));
    }
    if let Some(name) = hygiene::repeated(&head.headers) {
        let reply =
            Reply::new(400).detail("A header that may be there once is there several times.");
        return Err(Box::new(
            reply.because(format!("`{name}` is there several times")),
        ));
    }
    let mut expected = head.headers.get_all(header::EXPECT).iter();
    if !expected.all(|what| what.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(Box::new(Reply::new(417)));
    }
    if !head.raw_path_is_utf8() || !is_target(head.raw_path()) {
        return bad("The request target is not valid.");
    }
    // The authority of an absolute target is no part of the URI that Pingora makes of it.
    let named = raw_target_authority(head.raw_path()).authority();
    let named = named.or_else(|| head.headers.get(header::HOST).map(HeaderValue::as_bytes));
    match named.map(|name| Host::parse(str::from_utf8(name).unwrap_or("\u{fffd}"))) {
        Some(Ok(host)) => Ok(Some(host)),
        Some(Err(_)) => bad("The host is not valid."),
        None if head.version >= Version::HTTP_11 => bad("The request names no host."),
        None => Ok(None),
    }
}

/// Whether this is a path, a URL or `*` (RFC 9112, 3.2). Of anything else Pingora makes the path `/`,
/// which is not what an upstream would make of it.
fn is_target(raw: &[u8]) -> bool {
    raw.starts_with(b"/") || raw == b"*" || raw_target_authority(raw).authority().is_some()
}

fn find(head: &RequestHeader, host: Option<&Host<'_>>, ctx: &mut Ctx) -> Option<Reply> {
    let path = head.uri.path();
    if path == "*" {
        let status = if head.method == Method::OPTIONS {
            204
        } else {
            400
        };
        return Some(Reply::new(status));
    }
    let Ok(normal) = normalise(path) else {
        return Some(Reply::new(400).detail("The path is not valid."));
    };
    let (gateway, listener) = (Arc::clone(&ctx.gateway), Arc::clone(&ctx.listener));
    let request = RouteRequest {
        host,
        path: normal.matched(),
        readings: normal.readings(),
        method: &head.method,
        scheme: ctx.exchange.scheme.as_str(),
        listener: &listener,
        headers: &head.headers,
        query: head.uri.query(),
    };
    let found = gateway.router.find(&request);
    let mut taken = None;
    let verdict = match found {
        Found::Hit(hit) => {
            ctx.route = Arc::clone(hit.value);
            taken = Some(hit.index);
            (hit.reached == Reached::SlashMissing).then(|| slash(&normal, head.uri.query()))
        }
        Found::MethodNotAllowed(methods) => {
            let allow: Vec<_> = methods.iter().map(Method::as_str).collect();
            Some(Reply::new(405).header(header::ALLOW, allow.join(", ")))
        }
        Found::Ambiguous => Some(
            Reply::new(400)
                .detail("The path is not valid.")
                .because("the path has readings that lead to different routes"),
        ),
        Found::NotFound => None,
    };
    trail::routed(&request, taken, ctx);
    enter(path, &normal, ctx);
    if normal.matched() != path {
        ctx.exchange.normalised = Some(normal.matched().into());
    }
    verdict
}

/// Takes note of what is different on this route from others.
fn enter(sent: &str, normal: &Normalised<'_>, ctx: &mut Ctx) {
    ctx.exchange.route = Arc::clone(&ctx.route.name);
    if let Target::Upstream(_) = ctx.route.target {
        ctx.path = departing(sent, normal, ctx);
    }
}

/// Has a request go on as one of another route, whose chain begins with the filters that have seen it. A reply is what
/// it comes to before the target.
pub(super) async fn go_on(
    session: &mut Session,
    ctx: &mut Ctx,
    route: &Arc<Route>,
) -> pingora::Result<Option<Reply>> {
    ctx.turn_to(route);
    let head = session.req_header();
    let path = head.uri.path();
    match normalise(path) {
        Ok(normal) => enter(path, &normal, ctx),
        Err(_) => return Ok(Some(Reply::new(400).detail("The path is not valid."))),
    }
    ctx.web = grpc_web::recognise(head, &ctx.route);
    // Who has come so far has passed the filters of the first route; those of this one are not asked any more.
    if let Some(reply) = maintenance::closed(session, ctx) {
        return Ok(Some(reply));
    }
    let verdict = limits::announced_body(session.req_header(), ctx);
    chain::down(session, ctx, verdict).await
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
pub(super) fn slash(path: &Normalised<'_>, query: Option<&str>) -> Reply {
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let location = format!("{}/{query}", path.matched());
    Reply::new(StatusCode::MOVED_PERMANENTLY.as_u16()).header(header::LOCATION, location)
}
