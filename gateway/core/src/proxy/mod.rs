//! The path of a request: the only place that implements Pingora's `ProxyHttp`.
//!
//! The hooks below are a few lines each; what they do is in the files beside this one, in the order
//! in which a request meets them:
//!
//! * [`ctx`]: what is kept for one request.
//! * [`arrive`]: from the head as it came to the route; [`hygiene`]: headers that clients may not
//!   send; [`client`]: who is at the other end.
//! * [`chain`]: filters down and up.
//! * [`depart`]: what an endpoint is sent.
//! * [`attempt`]: which endpoint, and whether to try another; [`session`]: where its session is;
//!   [`watchdog`]: whether it takes too long.
//! * [`answer`]: what comes back from it.
//! * [`reply`]: responses of our own.
//! * [`body`]: edits of bodies.
//! * [`mirror`]: copies of requests; [`copying`]: when one is made.
//! * [`record`]: the end.

mod answer;
mod arrive;
mod attempt;
mod body;
mod chain;
mod client;
mod copying;
mod ctx;
mod depart;
mod head;
mod hygiene;
mod mirror;
mod record;
mod reply;
mod session;
mod watchdog;

use std::{os::fd::RawFd, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use pingora::{
    Error, Result,
    connectors::ConnectorOptions,
    http::{RequestHeader, ResponseHeader},
    modules::http::HttpModules,
    protocols::Digest,
    server::configuration::ServerConf,
    upstreams::peer::HttpPeer,
};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use self::{ctx::Ctx, depart::Via};
use crate::snapshot::Live;

/// The gateway as Pingora sees it.
#[derive(Debug)]
pub(crate) struct Proxy {
    live: Live,
    via: Via,
    mirrors: Arc<mirror::Connections>,
}

impl Proxy {
    pub(crate) fn new(live: Live, conf: &ServerConf) -> Self {
        let mirrors = mirror::Connections::new(ConnectorOptions::from_server_conf(conf));
        Self {
            live,
            via: Via::new(),
            mirrors: Arc::new(mirrors),
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
        let verdict = arrive::route(session, ctx, &self.via);
        let Some(reply) = chain::down(session, ctx, verdict).await else {
            return Ok(false);
        };
        reply::send(session, ctx, reply).await?;
        Ok(true)
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
        _reused: bool,
        _peer: &HttpPeer,
        descriptor: RawFd,
        _digest: Option<&Digest>,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        attempt::connected(session, descriptor, ctx);
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        depart::prepare(session, request, ctx, &self.via)?;
        chain::attempt(request, ctx)?;
        copying::begin(session, request, ctx, &self.mirrors);
        Ok(())
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        body::request(session, body, end, ctx)?;
        copying::body(body.as_ref(), end, ctx, &self.mirrors);
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        answer::arrived(session, response, ctx)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        answer::pass(session, response, ctx)
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        body::response(session, body, end, ctx).map(|()| None)
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
        reply::failure(session, ctx, error).await
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Self::CTX) {
        if let Some(tries) = &mut ctx.tries {
            tries.release();
        }
        record::write(session, error, ctx);
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
