//! What is kept for one request.

use std::{
    mem,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use edgeway_sdk::{Exchange, Origin, Reply};
use http::HeaderValue;

use super::{
    attempt::Tries,
    cache::{Caching, Lent},
    chain::PassedBy,
    grpc_web, mirror,
    pacing::Pacing,
    trail::Trail,
};
use crate::cache::policy::request::Credentials;
use crate::snapshot::{Pinned, Route};

/// One request, from its head to its record.
pub(crate) struct Ctx {
    /// The configuration that the request began with.
    pub(super) gateway: Pinned,
    pub(super) route: Arc<Route>,
    /// Whether the request is counted among those of its route that are under way.
    under_way: bool,
    pub(super) exchange: Exchange,
    /// Whether the peer is a proxy that we trust.
    pub(super) trusted: bool,
    /// The listener that the request has come to.
    pub(super) listener: Arc<str>,
    /// The `Strict-Transport-Security` of the response, unless it has its own.
    pub(super) hsts: Option<HeaderValue>,
    /// The path for the upstream, where it is not the one that the client sent.
    pub(super) path: Option<String>,
    /// How many filters have seen the request: they will see the record.
    pub(super) entered: usize,
    /// Of these, who have not: it is none that they are for.
    pub(super) passed_by: PassedBy,
    /// How many of them have not seen the response yet.
    pub(super) unanswered: usize,
    /// How many have not seen the response where it comes to be; nothing before the first of them has.
    pub(super) unfetched: Option<usize>,
    /// Of a request that is sent beside another: how many filters have seen that one.
    pub(super) seen_before: usize,
    /// Whether the head of the endpoint's answer is all there is of it.
    pub(super) bare: bool,
    /// Whether a filter has read some of the body, and the rest was too long or did not come: no endpoint can be sent it.
    pub(super) torn: bool,
    pub(super) origin: Origin,
    /// What became of the head of the response on its way up the chain, if that was not the last thing to do.
    pub(super) shown: Option<pingora::Result<()>>,
    /// What goes on between the request and its upstream; nothing if there is none.
    pub(super) tries: Option<Tries>,
    /// What is sent to the route's mirror when it is complete.
    pub(super) copy: Option<mirror::Copy>,
    /// Whether a copy is still wanted; nothing if chance has not been asked yet.
    pub(super) copy_wanted: Option<bool>,
    /// How many interim responses have come.
    pub(super) announcements: u16,
    /// From the arrival of the head to when the filters were done with it.
    pub(super) filtered: Option<Duration>,
    /// From the arrival of the head to that of the endpoint's answer.
    pub(super) answered: Option<Duration>,
    /// What the client has sent that tells who it is, on routes with a cache.
    pub(super) credentials: Credentials,
    /// What the cache has to do with the request, once it has been asked.
    pub(super) caching: Option<Box<Caching>>,
    /// What is translated between the client and an upstream of gRPC.
    pub(super) web: Option<grpc_web::Call>,
    /// The client's session, while a body is delivered to it beside its fetch.
    pub(super) lent: Option<Lent>,
    /// How fast the response's body goes out over HTTP/2, if filters have said so.
    pub(super) pacing: Option<Pacing>,
    /// What the client is told when a hook ends the request by an error.
    pub(super) verdict: Option<Reply>,
    /// What is noted of the request, if it is to be explained.
    pub(super) trail: Option<Box<Trail>>,
}

impl Ctx {
    pub(super) fn new(gateway: Pinned) -> Self {
        // The peer is known when the session is: see `arrive`.
        let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        Self {
            route: Arc::clone(&gateway.fallback),
            gateway,
            under_way: false,
            exchange: Exchange::new(nobody),
            trusted: false,
            listener: Arc::default(),
            hsts: None,
            path: None,
            entered: 0,
            passed_by: PassedBy::default(),
            unanswered: 0,
            unfetched: None,
            seen_before: 0,
            bare: false,
            torn: false,
            origin: Origin::Reply,
            shown: None,
            tries: None,
            copy: None,
            copy_wanted: None,
            announcements: 0,
            filtered: None,
            answered: None,
            credentials: Credentials::default(),
            caching: None,
            web: None,
            lent: None,
            pacing: None,
            verdict: None,
            trail: None,
        }
    }

    /// Counts the request among those of its route that are under way.
    pub(super) fn begin(&mut self) {
        self.route.meter.begun();
        self.under_way = true;
    }

    /// Makes the request one of another route.
    pub(super) fn turn_to(&mut self, route: &Arc<Route>) {
        if self.under_way {
            route.meter.begun();
            self.route.meter.ended();
        }
        self.route = Arc::clone(route);
    }

    /// The request is under way no more. Whether it was, and is not one that was begun beside another.
    pub(super) fn end(&mut self) -> bool {
        let ends = mem::take(&mut self.under_way);
        if ends {
            self.route.meter.ended();
        }
        ends
    }

    /// Ends the request with this reply instead of what is under way. The error takes it out of
    /// Pingora's hands; [`reply::failure`](super::reply::failure) finds it again.
    pub(super) fn refuse(&mut self, reply: Reply) -> Box<pingora::Error> {
        let status = reply.status().as_u16();
        self.verdict = Some(reply);
        pingora::Error::new_in(pingora::ErrorType::HTTPStatus(status))
    }
}

/// However it has ended: a hook may have panicked.
impl Drop for Ctx {
    fn drop(&mut self) {
        self.end();
    }
}
