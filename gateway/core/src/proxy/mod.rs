//! The path of a request: the only place that implements Pingora's `ProxyHttp`.
//!
//! The hooks below are a few lines each; what they do is in the files beside this one, in the order
//! in which a request meets them:
//!
//! * [`ctx`]: what is kept for one request.
//! * [`arrive`]: from the head as it came to the route; [`hygiene`]: headers that clients may not
//!   send; [`client`]: who is at the other end; [`limits`]: what it is held to.
//! * [`maintenance`]: what is closed. [`chain`]: filters down and up.
//! * [`files`]: what lies in a folder; [`cache`]: what is stored, and what is to be; [`send`]: how both are sent.
//! * [`depart`]: what an endpoint is sent; [`introduce`]: what it is told of the client before.
//! * [`attempt`]: which endpoint, and whether to try another; [`session`]: where its session is;
//!   [`watchdog`]: whether it takes too long; [`cork`]: not too soon; [`hedge`]: a second one beside it.
//! * [`answer`]: what comes back from it.
//! * [`reply`]: responses of our own; [`grpc_web`]: all of it for calls of pages.
//! * [`body`]: edits of bodies; [`pacing`]: how fast they go; [`upload`]: those that outlive their answers.
//! * [`mirror`]: copies of requests; [`copying`]: when one is made.
//! * [`record`]: the end. [`trail`]: what is noted of a request that is to be explained.

mod answer;
mod arrive;
mod attempt;
mod body;
mod cache;
mod chain;
mod client;
mod copying;
mod cork;
mod ctx;
mod depart;
mod files;
mod grpc_web;
mod head;
mod hedge;
mod hygiene;
mod introduce;
mod limits;
mod maintenance;
mod mirror;
mod pacing;
mod record;
mod reply;
mod send;
mod session;
mod trail;
mod upload;
mod watchdog;

use std::{os::fd::RawFd, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora::{
    Error, Result,
    cache::{CacheKey, CacheMeta, ForcedFreshness, HitHandler, RespCacheable, key::HashBinary},
    connectors::ConnectorOptions,
    http::{RequestHeader, ResponseHeader},
    modules::http::HttpModules,
    protocols::Digest,
    server::configuration::ServerConf,
    upstreams::peer::HttpPeer,
};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, RangeType, Session};

pub(crate) use self::{cache::Spawner, introduce::introduction, upload::Upload};
use self::{ctx::Ctx, depart::Via};
use crate::{
    server::{Answers, Pressure},
    snapshot::Live,
};

/// The gateway as Pingora sees it.
#[derive(Debug)]
pub(crate) struct Proxy {
    live: Live,
    via: Via,
    mirrors: Arc<mirror::Connections>,
    hedges: Arc<hedge::Connections>,
    spawner: Spawner,
    pressure: Arc<Pressure>,
    answers: Answers,
}

impl Proxy {
    /// A proxy that has requests begun by `spawner`.
    pub(crate) fn new(
        live: Live,
        conf: &ServerConf,
        spawner: Spawner,
        pressure: Arc<Pressure>,
        answers: Answers,
    ) -> Self {
        let mirrors = mirror::Connections::new(ConnectorOptions::from_server_conf(conf));
        let hedges = hedge::Connections::new(ConnectorOptions::from_server_conf(conf));
        Self {
            live,
            via: Via::new(),
            mirrors: Arc::new(mirrors),
            hedges: Arc::new(hedges),
            spawner,
            pressure,
            answers,
        }
    }
}

#[async_trait]
impl ProxyHttp for Proxy {
    /// In a box, since Pingora moves it from future to future.
    type CTX = Box<Ctx>;

    fn new_ctx(&self) -> Box<Ctx> {
        Box::new(Ctx::new(self.live.pin()))
    }

    /// None: Pingora's default would add compression that ignores what the client accepts.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<bool> {
        if cache::resume(session, ctx) {
            return Ok(false);
        }
        let verdict = arrive::route(session, ctx, &self.via, self.pressure.level());
        ctx.begin();
        if let Some(reply) = arrive::challenge(session, ctx, &self.answers) {
            reply::send(session, ctx, reply).await?;
            return Ok(true);
        }
        cache::recognise(&session.req_header().headers, ctx);
        ctx.web = grpc_web::recognise(session.req_header(), &ctx.route);
        let verdict = maintenance::judge(session, ctx, verdict);
        let refused = chain::down(session, ctx, verdict).await?;
        if refused.is_none() && files::answer(session, ctx).await? {
            return Ok(true);
        }
        let Some(reply) = refused.or_else(|| chain::target(session, ctx)) else {
            return cache::answer(session, ctx, &self.spawner).await;
        };
        reply::send(session, ctx, reply).await?;
        Ok(true)
    }

    fn request_cache_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<()> {
        cache::enable(session, ctx);
        Ok(())
    }

    fn cache_key_callback(&self, _session: &Session, ctx: &mut Self::CTX) -> Result<CacheKey> {
        cache::key(ctx)
    }

    fn cache_vary_filter(
        &self,
        meta: &CacheMeta,
        ctx: &mut Self::CTX,
        request: &RequestHeader,
    ) -> Option<HashBinary> {
        cache::variance(meta, request, ctx)
    }

    async fn cache_hit_filter(
        &self,
        session: &mut Session,
        _meta: &CacheMeta,
        handler: &mut HitHandler,
        _fresh: bool,
        ctx: &mut Self::CTX,
    ) -> Result<Option<ForcedFreshness>> {
        Ok(cache::hit(session, handler, ctx))
    }

    fn response_cache_filter(
        &self,
        session: &Session,
        response: &ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> Result<RespCacheable> {
        Ok(cache::examine_response(session, response, ctx))
    }

    fn cache_not_modified_filter(
        &self,
        session: &Session,
        response: &ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> Result<bool> {
        Ok(cache::not_modified(session, response, ctx))
    }

    fn range_header_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> RangeType {
        answer::range(session, response, ctx)
    }

    fn should_serve_stale(
        &self,
        session: &mut Session,
        ctx: &mut Self::CTX,
        error: Option<&Error>,
    ) -> bool {
        cache::serves_stale(session, error, ctx)
    }

    async fn proxy_upstream_filter(
        &self,
        session: &mut Session,
        ctx: &mut Self::CTX,
    ) -> Result<bool> {
        cache::overdue(session, ctx).await.map(|served| !served)
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut Self::CTX,
    ) -> Result<Box<HttpPeer>> {
        attempt::peer(session, ctx).await
    }

    async fn connected_to_upstream(
        &self,
        session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        descriptor: RawFd,
        _digest: Option<&Digest>,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        attempt::connected(session, reused, descriptor, ctx);
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        depart::prepare(session, request, ctx, &self.via)?;
        if hedge::was_sent(ctx) {
            return Ok(());
        }
        chain::attempt(request, ctx)?;
        trail::sent(request, ctx);
        if trail::is_rehearsal(ctx) {
            return Ok(());
        }
        copying::begin(session, request, ctx, &self.mirrors);
        hedge::begin(session, request, ctx, &self.hedges);
        Ok(())
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        // Over HTTP/2 Pingora would wait for an answer to half a request, were it not for the client's fault.
        limits::body(session, ctx).map_err(|error| error.into_down())?;
        body::request(session, body, end, ctx).map_err(|error| error.into_down())?;
        copying::body(body.as_ref(), end, ctx, &self.mirrors);
        Ok(())
    }

    async fn adjust_upstream_modules(
        &self,
        _session: &mut Session,
        _response: &ResponseHeader,
        end: bool,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        ctx.bare = end;
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        cache::interim(session, response, ctx).await;
        answer::arrived(session, response, ctx)
    }

    fn upstream_response_body_filter(
        &self,
        session: &mut Session,
        _body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        body::arrived(session, end, ctx).map(|()| None)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        limits::upgraded(session, response);
        answer::pass(session, response, ctx).await
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        Ok(body::response(session, body, end, ctx))
    }

    /// What comes of it is the end of the body, and there are no trailers.
    async fn response_trailer_filter(
        &self,
        _session: &mut Session,
        trailers: &mut HeaderMap,
        ctx: &mut Self::CTX,
    ) -> Result<Option<Bytes>> {
        Ok(ctx.web.as_mut().and_then(|call| call.trailers(trailers)))
    }

    fn upstream_response_trailer_filter(
        &self,
        session: &mut Session,
        _trailers: &mut HeaderMap,
        _ctx: &mut Self::CTX,
    ) -> Result<()> {
        upload::answered(session);
        Ok(())
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        peer: &HttpPeer,
        ctx: &mut Self::CTX,
        error: Box<Error>,
    ) -> Box<Error> {
        attempt::not_connected(ctx, peer, error)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Self::CTX,
        reused: bool,
    ) -> Box<Error> {
        attempt::broken(session, ctx, error, reused)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Self::CTX,
    ) -> FailToProxy {
        if let Some(reply) = body::end_edits(session, ctx) {
            ctx.verdict = Some(reply);
        }
        reply::failure(session, ctx, error).await
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Self::CTX) {
        cache::delivered(session, ctx).await;
        if error.is_none() {
            cache::has_come(session, ctx);
        }
        if let Some(tries) = &mut ctx.tries {
            tries.release();
        }
        body::end_edits(session, ctx);
        if !trail::end(session, error, ctx) {
            record::write(session, error, ctx);
        }
    }

    /// Failures are told once, in the record; endpoints that fail are told when they are left out.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Self::CTX, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Self::CTX,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}
