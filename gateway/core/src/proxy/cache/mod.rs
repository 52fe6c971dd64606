//! The cache on the path of a request.
//!
//! What is stored and good is [served](serve) at once, without Pingora's cache. For all else there is Pingora's
//! machine, which [`fetch`] tells what to do: it has one request fetch for all who wait, stores what comes, asks
//! whether what is stored still holds, and falls back on it when an endpoint fails; where it does not, [we
//! do](fallback). What is stale but may be served is fetched anew [beside the request](refresh).
//! A body that is fetched is [delivered](mod@deliver) to the client who has asked as to all others.
//! [What was done](mod@tell) is said to the client and the log.

mod deliver;
mod fallback;
mod fetch;
mod interim;
mod invalidate;
mod refresh;
mod serve;
mod tell;

use std::{sync::Arc, time::SystemTime};

use edgeway_sdk::{Identity, Reply};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{AUTHORIZATION, COOKIE, HOST, UPGRADE},
};
use pingora::{
    Result,
    http::{RequestHeader, ResponseHeader},
};
use pingora_proxy::Session;
use smallvec::SmallVec;

pub(crate) use self::refresh::Spawner;
pub(super) use self::{
    deliver::{Lent, begin as deliver, end as delivered},
    fallback::{hides, instead, overdue},
    fetch::{
        enable, has_come, hit, key, not_modified, range, response as examine_response,
        serves_stale, variance,
    },
    interim::interim,
    invalidate::invalidate,
    refresh::resume,
    tell::{add as tell, date, reply as tell_reply, said},
};
use super::{ctx::Ctx, reply};
use crate::{
    cache::{
        head::Head,
        key::{Name, Parts, variant},
        memory::Object,
        plan::Plan,
        policy::{
            condition::must_reach_origin,
            freshness::Freshness,
            request::{Credentials, Use, Wants, Why},
            status::Forward,
        },
        purges::Turn,
        storage::freshness,
        zone::Found,
    },
    snapshot::{Destination, Route, Target},
};

/// What the cache has to do with a request.
pub(super) struct Caching {
    name: Name,
    wants: Wants,
    credentials: Credentials,
    /// Why the request goes on to the upstream.
    why: Forward,
    /// Whether the response may be stored, and what is stored be asked for.
    fetches: bool,
    /// What is stored, and has to be asked about.
    stored: Option<Arc<Object<Head>>>,
    /// Whether what is stored is served if the upstream fails.
    or_stored: bool,
    /// Nobody waits for the response: it is fetched to take the place of this.
    claim: Option<refresh::Claim>,
    /// When the request was sent to the upstream, and when the head of its answer had come.
    requested: SystemTime,
    /// The same, in the order of purges.
    turn: Turn,
    received: SystemTime,
    /// The upstream says that what is stored still holds.
    still_good: Option<Box<ResponseHeader>>,
    /// Whether the body passes edits before it is stored.
    edited: bool,
    /// The status of the upstream, where the client gets another response.
    upstream_status: Option<StatusCode>,
    /// What is stored was served although it is not fresh.
    served_stale: bool,
    /// Why the response is not stored, or what is stored was not served.
    reason: Option<&'static str>,
    /// What of it the client gets.
    part: deliver::Part,
    /// Fields that are for this client alone, and not stored.
    withheld: SmallVec<[(HeaderName, HeaderValue); 2]>,
}

/// The cache of a route.
fn plan(route: &Route) -> Option<&Plan> {
    match &route.target {
        Target::Upstream(forward) => forward.cache.as_deref(),
        Target::Redirect(_) | Target::Respond(_) | Target::NotFound => None,
    }
}

/// Notes what tells who sends a request, before filters take it for themselves.
pub(super) fn recognise(headers: &HeaderMap, ctx: &mut Ctx) {
    if ctx.route.stores() {
        ctx.credentials = Credentials::of(headers);
    }
}

/// What becomes of a request.
enum Step {
    /// It goes on to the upstream.
    Forward,
    Serve(Served),
    Reply(Reply),
}

/// What is stored, and good enough for a request.
struct Served {
    object: Arc<Object<Head>>,
    freshness: Freshness,
    /// Whether a newer one is to be fetched meanwhile.
    refresh: bool,
}

/// Answers a request with what is stored, if that may be. If not, it goes on to the upstream.
pub(super) async fn answer(
    session: &mut Session,
    ctx: &mut Ctx,
    spawner: &Spawner,
) -> Result<bool> {
    let route = Arc::clone(&ctx.route);
    let Some(plan) = plan(&route) else {
        return Ok(false);
    };
    let now = SystemTime::now();
    let (mut caching, mut step) = decide(session, ctx, plan, now);
    let served = matches!(step, Step::Serve(_));
    if !served && caching.finds_nothing() && raise(session, ctx, plan, &caching.name, now).await {
        (caching, step) = decide(session, ctx, plan, now);
    }
    ctx.caching = Some(Box::new(caching));
    match step {
        Step::Forward => Ok(false),
        Step::Reply(reply) => {
            reply::send(session, ctx, reply).await?;
            Ok(true)
        }
        Step::Serve(served) => {
            if served.refresh {
                refresh::begin(session, ctx, spawner, &served.object, now);
            }
            serve::serve(session, ctx, &served, now).await
        }
    }
}

/// Takes what is stored for a request on the disk alone into memory. Tells whether there is something.
async fn raise(session: &Session, ctx: &Ctx, plan: &Plan, name: &Name, now: SystemTime) -> bool {
    let source = (session.req_header().as_ref(), &ctx.exchange);
    let of = |response: &HeaderMap| variant(&source, response, &plan.key);
    plan.zone.raise(name, of, now).await
}

/// Looks at a request, and at what is stored for it.
fn decide(session: &mut Session, ctx: &Ctx, plan: &Plan, now: SystemTime) -> (Caching, Step) {
    let empty = session.is_body_empty();
    let request = session.req_header();
    let mut caching = Caching::new(name(request, ctx, plan), now);
    caching.wants = Wants::of(&request.headers, plan.rules.honour);
    caching.credentials = credentials(&request.headers, ctx, plan);
    if let Some((why, reason)) = passes_by(request, empty, ctx, plan) {
        (caching.why, caching.fetches, caching.reason) = (why, false, reason);
        return (caching, Step::Forward);
    }
    let step = caching.look(request, ctx, plan, now);
    // Storing nothing, it has no use for Pingora's cache.
    caching.fetches = !caching.wants.no_store();
    (caching, step)
}

/// Whether a request asks for another protocol. What some clients ask at every chance is answered in this one.
fn is_upgrade(headers: &HeaderMap) -> bool {
    let mut asked = headers.get_all(UPGRADE).iter();
    asked.any(|protocol| !protocol.as_bytes().eq_ignore_ascii_case(b"h2c"))
}

/// Why a request has nothing to do with what is stored, if so.
fn passes_by(
    request: &RequestHeader,
    empty: bool,
    ctx: &Ctx,
    plan: &Plan,
) -> Option<(Forward, Option<&'static str>)> {
    let headers = &request.headers;
    if request.method != Method::GET && request.method != Method::HEAD {
        return Some((Forward::Method, None));
    }
    if !empty {
        return Some((Forward::Bypass, Some("body")));
    }
    if is_upgrade(headers) {
        return Some((Forward::Bypass, Some("upgrade")));
    }
    if headers.keys().any(overrides) {
        return Some((Forward::Bypass, Some("override")));
    }
    if must_reach_origin(headers) {
        return Some((Forward::Request, Some("condition")));
    }
    let source = (request.as_ref(), &ctx.exchange);
    let asked_for = plan.bypass.iter().any(|value| {
        let value = value.render(&source);
        !value.is_empty() && value != "0"
    });
    asked_for.then_some((Forward::Bypass, Some("rule")))
}

/// Whether a header makes applications take the request for another one than its first line and its host say.
fn overrides(name: &HeaderName) -> bool {
    const NAMES: [&str; 9] = [
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        "x-original-url",
        "x-rewrite-url",
        "x-original-host",
        "x-http-host-override",
        "x-host",
        "x-forwarded",
    ];
    let name = name.as_str();
    name.starts_with("x-") && NAMES.contains(&name)
}

impl Caching {
    fn new(name: Name, now: SystemTime) -> Self {
        Self {
            name,
            wants: Wants::default(),
            credentials: Credentials::default(),
            why: Forward::UriMiss,
            fetches: true,
            stored: None,
            or_stored: false,
            claim: None,
            requested: now,
            turn: Turn::now(),
            received: now,
            still_good: None,
            edited: false,
            upstream_status: None,
            served_stale: false,
            reason: None,
            part: deliver::Part::default(),
            withheld: SmallVec::new(),
        }
    }

    /// Of a request that fetches a newer response, on behalf of nobody in particular.
    fn of_refresh(name: Name, credentials: Credentials, claim: refresh::Claim) -> Self {
        Self {
            credentials,
            why: Forward::Stale,
            claim: Some(claim),
            ..Self::new(name, SystemTime::now())
        }
    }

    /// What is stored for the request, and what may be done with it.
    fn look(&mut self, request: &RequestHeader, ctx: &Ctx, plan: &Plan, now: SystemTime) -> Step {
        let source = (request.as_ref(), &ctx.exchange);
        let of = |response: &HeaderMap| variant(&source, response, &plan.key);
        let object = match plan.zone.find(&self.name, of, now) {
            Found::Object(object) => object,
            Found::OtherVariant(_) => return self.nothing(Forward::VaryMiss),
            Found::Nothing => return self.nothing(Forward::UriMiss),
        };
        let freshness = freshness(&object);
        match self.judge(&freshness, plan, now) {
            Some(Use::Serve) => Step::Serve(Served::new(object, freshness, false)),
            Some(Use::ServeStale) => {
                self.served_stale = true;
                Step::Serve(Served::new(object, freshness, false))
            }
            Some(Use::Refresh) => {
                self.served_stale = true;
                Step::Serve(Served::new(object, freshness, true))
            }
            Some(Use::Validate { why, or_stored }) => {
                self.validate(object, why, or_stored);
                Step::Forward
            }
            Some(Use::Refuse) => Step::Reply(refusal()),
            None => {
                self.reason = Some("personal");
                self.nothing(Forward::Bypass)
            }
        }
    }

    /// Whether something was looked for, and is not there.
    fn finds_nothing(&self) -> bool {
        matches!(self.why, Forward::UriMiss | Forward::VaryMiss)
    }

    /// What may be done with a stored response. None: it is not for this sender.
    fn judge(&self, freshness: &Freshness, plan: &Plan, now: SystemTime) -> Option<Use> {
        let everyones = freshness.basis.is_stated() || !self.credentials.are_personal(&plan.rules);
        everyones.then(|| self.wants.judge(freshness, now))
    }

    fn validate(&mut self, object: Arc<Object<Head>>, why: Why, or_stored: bool) {
        self.why = match why {
            Why::Stale => Forward::Stale,
            Why::Request => Forward::Request,
        };
        (self.stored, self.or_stored) = (Some(object), or_stored);
    }

    fn nothing(&mut self, why: Forward) -> Step {
        self.why = why;
        match self.wants.only_if_cached() {
            true => Step::Reply(refusal()),
            false => Step::Forward,
        }
    }
}

impl Served {
    fn new(object: Arc<Object<Head>>, freshness: Freshness, refresh: bool) -> Self {
        Self {
            object,
            freshness,
            refresh,
        }
    }
}

/// The reply to `only-if-cached` (RFC 9111, 5.2.1.7).
fn refusal() -> Reply {
    Reply::new(504).because("the client wants nothing that is not stored, and nothing is")
}

/// What told who sends the request, before filters or after them. Whom a filter has recognised by
/// whatever it was is as good as authorized.
fn credentials(headers: &HeaderMap, ctx: &Ctx, plan: &Plan) -> Credentials {
    let (before, now) = (ctx.credentials, Credentials::of(headers));
    let recognised = ctx.exchange.values.get::<Identity>().is_some();
    // A key by `Authorization` has whom a filter has recognised, whatever became of the header.
    let authorization = before.authorization && !now.authorization && !recognised;
    let cookie = before.cookie && !now.cookie;
    Credentials {
        authorization: before.authorization || now.authorization || recognised,
        cookie: before.cookie || now.cookie,
        untold: (authorization && plan.key.headers.contains(&AUTHORIZATION))
            || (cookie && plan.key.headers.contains(&COOKIE)),
    }
}

/// The name under which the response to a request is stored.
fn name(request: &RequestHeader, ctx: &Ctx, plan: &Plan) -> Name {
    let parts = parts(request, ctx, &ctx.route, request.uri.path());
    Name::of(&parts, &plan.key.query)
}

/// What a name is made of.
fn parts<'a>(
    request: &'a RequestHeader,
    ctx: &'a Ctx,
    route: &'a Route,
    path: &'a str,
) -> Parts<'a> {
    let host = request.headers.get(HOST);
    let host = host.map(HeaderValue::as_bytes).unwrap_or_default();
    // The host as routes see it tells nothing of its case, and of a port.
    let plain = host == ctx.exchange.host.as_bytes();
    Parts {
        route: &route.name,
        scheme: ctx.exchange.scheme.as_str(),
        host: &ctx.exchange.host,
        told: if plain { b"" } else { host },
        way: ctx.trusted.then_some(&request.headers),
        seal: plan(route).map_or(0, |plan| plan.seal),
        upstream: upstream(request, ctx, route),
        path,
        normal: ctx.exchange.normalised.as_deref(),
        query: request.uri.query(),
    }
}

/// The name of the upstream, where a value of the request chooses it. Where chance does, all that they serve
/// is the same.
fn upstream<'a>(request: &RequestHeader, ctx: &Ctx, route: &'a Route) -> &'a str {
    let Target::Upstream(forward) = &route.target else {
        return "";
    };
    match &forward.to {
        Destination::Split { by: Some(_), .. } => {
            &forward.choose(&(request.as_ref(), &ctx.exchange)).name
        }
        Destination::Split { by: None, .. } | Destination::One(_) => "",
    }
}

/// Why something stale was served, to say in a word.
const FAILED: &str = "upstream failed";
