//! The contract of a filter.

use std::{ops::BitOr, time::Duration};

use async_trait::async_trait;

use crate::{Record, Reply, Request, Response, Result, Upstream};

/// A step with an opinion on requests or responses.
///
/// One value serves all requests of the routes that name it, from many threads at once. It is built
/// when a configuration is loaded and dropped when the last request that used that configuration has
/// ended.
///
/// Requests go down a route's chain, responses come up it: for the chain `[a, b]` the calls are
/// `a.request`, `b.request`, `a.upstream`, `b.upstream`, `b.fetched`, `a.fetched`, `b.response`, `a.response`. A
/// filter whose [`request`](Self::request) was called sees the response, wherever that came from, and the record
/// at the end; a filter below one that replied sees neither.
#[async_trait]
pub trait Filter: Send + Sync + 'static {
    /// Called once per request, before an endpoint is chosen. The only hook that may wait.
    ///
    /// [`Flow::Respond`] ends the way down: the reply goes up the chain to the client. An error
    /// becomes a reply with the status of the error.
    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        let _ = request;
        Ok(Flow::Continue)
    }

    /// Called for every attempt, with the head as it is about to be sent to the endpoint.
    ///
    /// Changes are seen by this endpoint only, and by no later attempt. An error ends the request
    /// with the status of the error.
    fn upstream(&self, upstream: &mut Upstream<'_>) -> Result<()> {
        let _ = upstream;
        Ok(())
    }

    /// Called on the final head of a response where it comes to be: as an endpoint has sent it, or as the gateway has
    /// made it. All filters see it here before the first [`response`](Self::response).
    ///
    /// It is before the cache: what is changed here, also by [`Response::edit_body`], is what is stored, and this is
    /// not called for what comes out of there. So it may depend on the request only as far as the response says in
    /// `Vary`, and what it does to a response it does to a 304 as well that says that such a one still holds. It may
    /// be called for a request that no client waits for, to fetch what is stored anew.
    ///
    /// An error replaces the response with a reply of the error's status.
    fn fetched(&self, response: &mut Response<'_>) -> Result<()> {
        let _ = response;
        Ok(())
    }

    /// Called once per request, on the final head (never on a `100 Continue` or `103 Early Hints`).
    ///
    /// An error replaces the response with a reply of the error's status.
    fn response(&self, response: &mut Response<'_>) -> Result<()> {
        let _ = response;
        Ok(())
    }

    /// Whether the filter may refuse requests. One that never does can't be told to only report it.
    fn refuses(&self) -> bool {
        true
    }

    /// Whether the filter decides who may pass, or how often. It is not asked about requests that nobody may make,
    /// while a route is closed for maintenance: who has no token is told that, and nothing of a token.
    fn guards(&self) -> bool {
        self.refuses()
    }

    /// Which hooks the filter has a use for. Asked once, when the configuration is loaded: the others are never
    /// called, and cost requests nothing.
    ///
    /// All, if the filter does not say, which is always right. Whatever this says, the filter is one that has seen
    /// the request.
    fn hooks(&self) -> Hooks {
        Hooks::ALL
    }

    /// Whether [`request`](Self::request) may be called for a request that nobody has made (`edgeway explain`,
    /// `edgeway test`), in a process where nothing of [`Build::background`](crate::Build::background) runs.
    ///
    /// If the filter does not say, its request hook is passed by there: it might ask somebody else, or change
    /// something that stays. The hooks that can't wait are called as ever, but for [`log`](Self::log).
    fn offline(&self, request: &Request<'_>) -> Offline {
        let _ = request;
        Offline::Unknown
    }

    /// What the filter is at, if it is one that limits how much is let through: numbers by their names, such as
    /// `("limit", 47.0)`, for operators who look. Must not wait; may be empty.
    fn limit(&self) -> Option<Vec<(&'static str, f64)>> {
        None
    }

    /// Called once per request, after its last byte was sent or the client left. Must not block.
    fn log(&self, record: &Record<'_>) {
        let _ = record;
    }
}

/// What a filter can tell of a request that nobody has made; see [`Filter::offline`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offline {
    /// It decides as ever: by the request, its configuration and what it remembers.
    Decides,
    /// It would ask somebody who is not there: `the authorization service`.
    Needs(&'static str),
    /// It has not said.
    Unknown,
}

/// Some of the hooks of [`Filter`]: `Hooks::REQUEST | Hooks::LOG`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hooks(u8);

impl Hooks {
    /// None at all.
    pub const NONE: Self = Self(0);
    /// [`Filter::request`].
    pub const REQUEST: Self = Self(1);
    /// [`Filter::upstream`].
    pub const UPSTREAM: Self = Self(1 << 1);
    /// [`Filter::response`].
    pub const RESPONSE: Self = Self(1 << 2);
    /// [`Filter::log`].
    pub const LOG: Self = Self(1 << 3);
    /// [`Filter::fetched`].
    pub const FETCHED: Self = Self(1 << 4);
    /// All of them.
    pub const ALL: Self = Self(u8::MAX);

    /// Whether all of these are among them.
    pub const fn has(self, hooks: Self) -> bool {
        self.0 & hooks.0 == hooks.0
    }

    /// These, if that is so, and else none.
    pub const fn only_if(self, so: bool) -> Self {
        if so { self } else { Self::NONE }
    }
}

impl BitOr for Hooks {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What becomes of a request after a filter has seen it.
#[derive(Debug)]
pub enum Flow {
    /// The next filter, then the target.
    Continue,
    /// The same after this time. The request ends if the client leaves before.
    Delay(Duration),
    /// This reply, now.
    Respond(Reply),
}

impl From<Reply> for Flow {
    fn from(reply: Reply) -> Self {
        Self::Respond(reply)
    }
}
