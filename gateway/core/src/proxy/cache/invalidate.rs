//! What a request that changes something makes invalid (RFC 9111, section 4.4).

use http::{StatusCode, Uri};
use pingora::http::{RequestHeader, ResponseHeader};

use super::{Ctx, parts, plan};
use crate::{
    cache::{
        key::{Name, Parts},
        memory::Purge,
        policy::invalidate::{Target, invalidated},
    },
    route::{Found, Host, Normalised, RouteRequest, normalise},
    snapshot::Route,
};

/// Purges what the endpoint has changed, as far as its answer and the request tell. It may be stored by another
/// route than the one that leads there.
pub(in crate::proxy) fn invalidate(request: &RequestHeader, response: &ResponseHeader, ctx: &Ctx) {
    let failed = response.status >= StatusCode::BAD_REQUEST || response.status.is_informational();
    if request.method.is_safe() || failed || ctx.gateway.caches.is_empty() {
        return;
    }
    let path = request.uri.path_and_query();
    let target = Target {
        scheme: ctx.exchange.scheme.as_str(),
        authority: authority(request, ctx),
        path: path.map_or("/", |path| path.as_str()),
    };
    let paths = invalidated(&request.method, target, response.status, &response.headers);
    for path in &paths {
        purge(request, path, ctx);
    }
}

fn authority<'a>(request: &'a RequestHeader, ctx: &'a Ctx) -> &'a str {
    let host = request.headers.get(http::header::HOST);
    let host = host.and_then(|host| host.to_str().ok());
    host.unwrap_or(&ctx.exchange.host)
}

/// Purges what a GET for this path and query would find.
fn purge(request: &RequestHeader, path: &str, ctx: &Ctx) {
    let Ok(uri) = path.parse::<Uri>() else {
        return;
    };
    let found = found(request, &uri, ctx);
    let route = found.as_deref().unwrap_or(&ctx.route);
    let Some(plan) = plan(route) else {
        return;
    };
    let mut parts = parts(request, ctx, route, uri.path());
    let normal = normalise(uri.path()).ok();
    let normal = normal.as_ref().map(Normalised::matched);
    parts.normal = normal.filter(|normal| *normal != uri.path());
    parts.query = uri.query();
    // What has changed is the same over the other scheme, and for those who write no port.
    for scheme in ["http", "https"] {
        for told in [parts.told, b""] {
            let name = Name::of(
                &Parts {
                    scheme,
                    told,
                    ..parts
                },
                &plan.key.query,
            );
            plan.zone.purge_name(name.hash(), Purge::Remove);
        }
    }
}

/// The route of a GET for this, which may be another one than that of the request.
fn found(request: &RequestHeader, uri: &Uri, ctx: &Ctx) -> Option<std::sync::Arc<Route>> {
    let host = Host::parse(&ctx.exchange.host).ok();
    let normal = normalise(uri.path()).ok()?;
    let wanted = RouteRequest {
        host: host.as_ref(),
        path: normal.matched(),
        readings: normal.readings(),
        method: &http::Method::GET,
        scheme: ctx.exchange.scheme.as_str(),
        listener: &ctx.listener,
        headers: &request.headers,
        query: uri.query(),
    };
    match ctx.gateway.router.find(&wanted) {
        Found::Hit(hit) => Some(std::sync::Arc::clone(hit.value)),
        Found::MethodNotAllowed(_) | Found::Ambiguous | Found::NotFound => None,
    }
}
