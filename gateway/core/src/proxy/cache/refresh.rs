//! Fetches a newer response beside the request that was served the old one.

use std::{
    fmt,
    sync::{Arc, OnceLock, Weak},
    time::SystemTime,
};

use edgeway_sdk::Exchange;
use http::Method;
use pingora::http::RequestHeader;
use pingora_proxy::{
    HttpProxy, Session, SubrequestSpawner,
    subrequest::{Ctx as Subrequest, UserCtx},
};

use super::{Caching, Ctx, Name};
use crate::{
    cache::{
        head::Head, memory::Object, policy::request::Credentials, time::milliseconds,
        zone::LONGEST_FETCH,
    },
    proxy::{Proxy, chain::PassedBy},
    snapshot::{Pinned, Route},
};

/// Starts requests that no client has sent, once it knows the proxy that is to serve them.
#[derive(Clone, Default)]
pub(crate) struct Spawner(Arc<OnceLock<Weak<HttpProxy<Proxy>>>>);

impl Spawner {
    pub(crate) fn serve_by(&self, proxy: &Arc<HttpProxy<Proxy>>) {
        // There is one proxy for each spawner.
        drop(self.0.set(Arc::downgrade(proxy)));
    }
}

impl fmt::Debug for Spawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spawner")
    }
}

/// What a refresh needs of the request that began it.
struct Refresh {
    request: Box<RequestHeader>,
    exchange: Exchange,
    gateway: Pinned,
    route: Arc<Route>,
    path: Option<String>,
    trusted: bool,
    /// The filters that have seen it.
    entered: usize,
    passed_by: PassedBy,
    name: Name,
    credentials: Credentials,
    claim: Claim,
}

/// The right to fetch a newer response, given back when it is there or has failed.
pub(in crate::proxy) struct Claim(Arc<Object<Head>>);

impl Claim {
    pub(super) fn is_for(&self, object: &Arc<Object<Head>>) -> bool {
        Arc::ptr_eq(&self.0, object)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // If it is still the stored one, that has failed, and is not tried at once again.
        let now = milliseconds(SystemTime::now());
        self.0.unclaim(now.saturating_add(PAUSE));
    }
}

/// Fetches a newer response than this, unless that is just being done.
pub(super) fn begin(
    session: &Session,
    ctx: &Ctx,
    spawner: &Spawner,
    object: &Arc<Object<Head>>,
    now: SystemTime,
) {
    let Some(caching) = &ctx.caching else { return };
    let now = milliseconds(now);
    if !object.claim(now, now.saturating_add(LONGEST)) {
        return;
    }
    let claim = Claim(Arc::clone(object));
    let Some(proxy) = spawner.0.get().and_then(Weak::upgrade) else {
        return;
    };
    let mut request = Box::new(session.req_header().clone());
    request.set_method(Method::GET);
    let refresh = Refresh {
        request,
        exchange: same(&ctx.exchange),
        gateway: Arc::clone(&ctx.gateway),
        route: Arc::clone(&ctx.route),
        path: ctx.path.clone(),
        trusted: ctx.trusted,
        entered: ctx.entered,
        passed_by: ctx.passed_by.clone(),
        name: caching.name.clone(),
        credentials: caching.credentials,
        claim,
    };
    let user: UserCtx = Box::new(Some(refresh));
    let subrequest = Subrequest::builder().user_ctx(user).build();
    let task =
        SubrequestSpawner::new(proxy).spawn_background_subrequest(session.as_ref(), subrequest);
    // It goes on by itself.
    drop(task);
}

/// What filters knew of the request goes along, for those that shape what upstreams are sent.
fn same(exchange: &Exchange) -> Exchange {
    let mut same = Exchange::new(exchange.peer);
    same.values = exchange.values.clone();
    same.client = exchange.client;
    same.scheme = exchange.scheme;
    same.host.clone_from(&exchange.host);
    same.normalised.clone_from(&exchange.normalised);
    same.route = Arc::clone(&exchange.route);
    same.set_id(exchange.id());
    same
}

/// Makes a request that was begun beside another what it is to be. False if this is a client's.
pub(in crate::proxy) fn resume(session: &mut Session, ctx: &mut Ctx) -> bool {
    let user = session
        .subrequest_ctx
        .as_mut()
        .and_then(|subrequest| subrequest.user_ctx_mut());
    let refresh = user
        .and_then(|user| user.downcast_mut::<Option<Refresh>>())
        .and_then(Option::take);
    let Some(refresh) = refresh else {
        return false;
    };
    *session.req_header_mut() = *refresh.request;
    ctx.gateway = refresh.gateway;
    ctx.route = refresh.route;
    ctx.path = refresh.path;
    ctx.trusted = refresh.trusted;
    ctx.seen_before = refresh.entered;
    ctx.passed_by = refresh.passed_by;
    ctx.exchange = refresh.exchange;
    let caching = Caching::of_refresh(refresh.name, refresh.credentials, refresh.claim);
    ctx.caching = Some(Box::new(caching));
    true
}

/// Milliseconds after which a refresh that hangs keeps nobody from another.
const LONGEST: u64 = LONGEST_FETCH.as_secs() * 1_000;
/// Milliseconds after a refresh that has failed.
const PAUSE: u64 = 1_000;
