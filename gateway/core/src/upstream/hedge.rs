//! A request that is sent to a second endpoint, since the first one has not begun to answer.

use std::{fmt, net::SocketAddr, sync::Arc};

use http::StatusCode;
use pingora::upstreams::peer::HttpPeer;

use super::{
    Cluster, Introduction, breaker, clock,
    members::{Lease, Members, Want},
};
use crate::telemetry::meter::Event;

/// A place at the second endpoint. When it is dropped, the endpoint is told what came of it, unless
/// that was told before.
pub(crate) struct Hedge {
    cluster: Arc<Cluster>,
    lease: Option<Lease>,
    /// When it was sent, by the clock of the endpoints.
    began: u64,
    /// The status of the answer, if one has begun.
    status: Option<StatusCode>,
}

impl Hedge {
    /// Takes a place at another endpoint than those that were tried, and a retry from the budget. None if
    /// no other one is well and has room, or the upstream as a whole has trouble enough: the budget is
    /// spent, requests wait in its queue, its breaker is not closed.
    pub(crate) fn begin(
        cluster: &Arc<Cluster>,
        members: &Arc<Members>,
        tried: &[u16],
        key: Option<u64>,
    ) -> Option<Self> {
        let now = clock::now();
        let (settings, shared) = (&cluster.settings, &cluster.shared);
        let broken = settings.breaker.as_ref().is_some_and(|breaking| {
            shared.breaker.state(&breaking.rules, now) != breaker::State::Closed
        });
        let waits = settings.queue.is_some() && !cluster.queue.is_empty();
        let budget = &settings.retries.budget;
        if broken || waits || !shared.budget.has_one(budget, now) {
            return None;
        }
        let want = Want {
            tried,
            key,
            session_key: None,
            session: None,
            now,
        };
        let lease = members.pick_spare(settings, want)?;
        // Whoever was faster may have had the last one, as with retries.
        shared.budget.take(budget, now);
        Some(Self {
            cluster: Arc::clone(cluster),
            lease: Some(lease),
            began: now,
            status: None,
        })
    }

    /// The number of the endpoint.
    pub(crate) fn number(&self) -> Option<u16> {
        self.lease.as_ref().map(Lease::number)
    }

    /// As [`Lease::peer`].
    pub(crate) fn peer(&self, client: Option<&Introduction>) -> Option<Box<HttpPeer>> {
        self.lease.as_ref()?.peer(client)
    }

    /// An answer with this status has begun. Whether it is one to pass on, and not worse than to wait
    /// for the first endpoint.
    pub(crate) fn answered(&mut self, status: StatusCode) -> bool {
        self.status = Some(status);
        let settings = &self.cluster.settings;
        !status.is_server_error()
            && !settings.is_failure(status)
            && !settings.retries.on_status(status)
    }

    /// There was no connection to this address of the endpoint.
    pub(crate) fn not_connected(mut self, at: Option<SocketAddr>, reason: &dyn fmt::Display) {
        let Some(lease) = self.lease.take() else {
            return;
        };
        let elsewhere = at.is_some_and(|at| self.cluster.unreachable(lease.endpoint(), at));
        if !elsewhere {
            let event = Event::Unconnected;
            self.cluster.lost(&lease, self.began, event, reason);
        }
    }

    /// The connection broke before an answer, or none came in time.
    pub(crate) fn failed(mut self, reason: &dyn fmt::Display) {
        if let Some(lease) = self.lease.take() {
            self.cluster.lost(&lease, self.began, Event::Broken, reason);
        }
    }

    /// The place, and since when it is taken, for a request that goes on there.
    pub(crate) fn into_try(mut self) -> Option<(Lease, u64)> {
        self.lease.take().map(|lease| (lease, self.began))
    }
}

impl Drop for Hedge {
    fn drop(&mut self) {
        match (self.lease.take(), self.status) {
            (Some(lease), Some(status)) => self.cluster.answered(&lease, self.began, status),
            (Some(lease), None) => self.cluster.given_up(&lease, self.began),
            (None, _) => {}
        }
    }
}
