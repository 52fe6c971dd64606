//! A second endpoint is asked when the first one has not begun to answer.
//!
//! Pingora asks one endpoint at a time. So the second one is asked by a task beside it, over a connection
//! of its own. When its answer is first, the connection to the first endpoint is ended as a [`Watchdog`]
//! would end it, and the next try, which Pingora takes for a retry, is [handed](handover) the second
//! connection, over which the request was sent already. The first connection comes from Pingora's pool
//! and goes back there as without all this.
//!
//! [`Watchdog`]: super::watchdog::Watchdog

mod handover;
mod race;

use std::{
    os::fd::RawFd,
    sync::Arc,
    time::{Duration, Instant},
};

use edgeway_sdk::Reply;
use http::header::{HOST, UPGRADE};
use pingora::{
    Result, http::RequestHeader, protocols::http::v1::client::http_req_header_to_wire,
    upstreams::peer::HttpPeer,
};
use pingora_proxy::Session;

pub(super) use self::race::Connections;
use self::{
    handover::Taken,
    race::{Order, Race, Second},
};
use super::{attempt, ctx::Ctx, introduce};
use crate::{telemetry::meter::Event, upstream::Cluster};

/// What a request has to do with hedging.
#[derive(Debug, Default)]
pub(super) struct Hedging {
    /// After which silence it is sent a second time; nothing if it may not be, or was.
    after: Option<Duration>,
    race: Option<Race>,
    /// The second connection, if it has become that of this try.
    taken: Option<Taken>,
    /// Nothing but the second endpoint's answer is left to wait for.
    last_hope: bool,
}

impl Hedging {
    /// Whether this request may be sent twice: its method is idempotent (RFC 9110, 9.2.2), it has no body,
    /// the connection stays one of HTTP, and no other endpoint than its `home` knows its session.
    pub(super) fn of(session: &mut Session, cluster: &Cluster, home: Option<u16>) -> Self {
        let after = cluster.settings.retries.hedge_after.filter(|_| {
            let empty = session.is_body_empty();
            let head = session.req_header();
            let upgrades = head.headers.contains_key(UPGRADE);
            home.is_none() && empty && head.method.is_idempotent() && !upgrades
        });
        Self {
            after,
            ..Self::default()
        }
    }

    /// Whether this try may have to be ended from outside.
    pub(super) fn needs_leash(&self) -> bool {
        self.after.is_some()
    }

    /// The descriptor of the connection of this try, where Pingora knows none.
    pub(super) fn descriptor(&self, known: RawFd) -> RawFd {
        self.taken.as_ref().map_or(known, Taken::descriptor)
    }

    /// Whether the request of this try was sent before it began.
    pub(super) fn was_sent(&self) -> bool {
        self.taken.is_some()
    }

    /// Whether a second endpoint has been asked, and waits for nothing but its answer.
    pub(super) fn is_under_way(&self) -> bool {
        self.race.as_ref().is_some_and(Race::is_under_way)
    }

    /// Whether the second endpoint was faster.
    pub(super) fn is_lost(&self) -> bool {
        self.race.as_ref().is_some_and(Race::is_lost)
    }

    /// Gives the second endpoint up: the connection to the first is about to be another request's.
    pub(super) fn end(&mut self) {
        if let Some(race) = self.race.take() {
            race.win();
        }
    }

    /// Notes that the next try is the second endpoint's, or there is none.
    pub(super) fn hope(&mut self, last: bool) {
        self.last_hope = last;
    }
}

/// Prepares to send the request to a second endpoint. Called when it is about to be sent to the first.
pub(super) fn begin(
    session: &Session,
    request: &RequestHeader,
    ctx: &mut Ctx,
    connections: &Arc<Connections>,
) {
    let Some(tries) = &mut ctx.tries else { return };
    let (Some(after), Some(watchdog)) = (tries.hedging.after, &tries.watchdog) else {
        return;
    };
    let settings = &tries.cluster.settings;
    let source = (session.req_header().as_ref(), &ctx.exchange);
    // What filters make of the body would be made twice; Pingora may still add a host.
    let plain = ctx.exchange.request_edits.is_empty() && request.headers.contains_key(HOST);
    if !plain || tries.count >= settings.retries.tries || settings.session_key(&source).is_some() {
        return;
    }
    let Some(head) = http_req_header_to_wire(request) else {
        return;
    };
    let order = Order {
        cluster: Arc::clone(&tries.cluster),
        members: Arc::clone(&tries.members),
        tried: tries.tried.clone(),
        key: settings.balance_key(&source),
        client: introduce::client(session, &ctx.exchange, &tries.cluster),
        head: head.freeze(),
        due: tries.due,
        leash: watchdog.leash(),
        connections: Arc::clone(connections),
    };
    tries.hedging.race = Some(Race::begin(after, order));
}

/// The peer of a try that goes on where the second endpoint was asked; none if that was not.
///
/// # Errors
///
/// The second endpoint has failed as well, and no other is to be asked; or the client has left.
pub(super) async fn take_over(
    session: &mut Session,
    ctx: &mut Ctx,
) -> Result<Option<Box<HttpPeer>>> {
    let Some(tries) = &mut ctx.tries else {
        return Ok(None);
    };
    tries.hedging.taken = None;
    let Some(mut race) = tries.hedging.race.take() else {
        return Ok(None);
    };
    let Some((number, since)) = race.asked() else {
        return Ok(None);
    };
    tries.hedged(number, since);
    let second = tokio::select! {
        biased;
        second = race.second() => second,
        gone = attempt::gone(session) => return Err(gone),
    };
    if let Some(peer) = second.and_then(|second| tries.go_on_with(second)) {
        return Ok(Some(peer));
    }
    if !tries.hedging.last_hope && tries.may_go_on() {
        return Ok(None);
    }
    let status = if tries.is_over() { 504 } else { 502 };
    let reply = Reply::new(status).because("neither of two endpoints has answered");
    Err(ctx.refuse(reply))
}

/// Whether the request of this try was sent before it began: then nothing of it can be changed.
pub(super) fn was_sent(ctx: &Ctx) -> bool {
    let tries = ctx.tries.as_ref();
    tries.is_some_and(|tries| tries.hedging.was_sent())
}

impl attempt::Tries {
    /// The endpoint of this try is about to answer the client. Whether it is the first to do so; the other
    /// one is given up then.
    pub(super) fn wins(&mut self) -> bool {
        if let Some(taken) = &self.hedging.taken {
            taken.answered();
        }
        let Some(race) = self.hedging.race.take_if(|race| race.win()) else {
            return self.hedging.race.is_none();
        };
        if let Some((number, since)) = race.asked() {
            self.hedged(number, since);
            self.history.last_is_given_up();
        }
        true
    }

    /// Counts the second endpoint among those that were tried. It is the only one of its kind.
    fn hedged(&mut self, number: u16, since: Instant) {
        self.hedging.after = None;
        self.count += 1;
        self.cluster.meter().event(Event::Hedged);
        self.history.hedged(number, since);
        if !self.tried.contains(&number) {
            self.tried.push(number);
        }
    }

    /// Makes the second connection that of this try.
    fn go_on_with(&mut self, second: Second) -> Option<Box<HttpPeer>> {
        let (hedge, begun) = (second.hedge, second.begun);
        let (lease, began) = hedge.into_try()?;
        self.cluster.meter().event(Event::HedgeWon);
        let first = self.lease.replace(lease);
        if let Some(first) = first.filter(|_| !self.answered) {
            self.cluster.given_up(&first, self.began);
        }
        self.began = began;
        self.chosen = Instant::now();
        self.history.goes_on_with_last(self.chosen);
        self.forget_answer();
        let (mut peer, taken) = handover::hand_over(begun);
        attempt::limit(&mut peer, self, false);
        self.hedging.taken = Some(taken);
        Some(peer)
    }
}
