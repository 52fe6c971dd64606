//! A named group of endpoints, and which of them serves a request.

use std::{fmt, net::SocketAddr, sync::Arc};

use http::HeaderName;
use log::{info, warn};
use pingora::upstreams::peer::HttpPeer;
use smallvec::SmallVec;

use super::{
    Endpoint,
    endpoint::{Failed, Patience},
    peer,
    rotation::{Rotation, Turn},
};
use crate::config::{HostPolicy, Timeouts};

/// An upstream as the configuration describes it.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) name: Arc<str>,
    pub(crate) endpoints: Box<[Endpoint]>,
    pub(crate) settings: Settings,
    primary: Rotation,
    backup: Rotation,
}

/// What holds for all endpoints of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) patience: Patience,
    pub(crate) tries: u32,
    pub(crate) timeouts: Timeouts,
    pub(crate) host: HostPolicy,
    pub(crate) hide_headers: Box<[HeaderName]>,
}

/// An endpoint's share of the requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    pub(crate) weight: u16,
    pub(crate) backup: bool,
}

/// Whose turn it is among the primary endpoints, and among the backups.
#[derive(Debug)]
pub(crate) struct Turns {
    pub(crate) primary: Arc<Turn>,
    pub(crate) backup: Arc<Turn>,
}

/// The endpoints that a request was sent to already.
pub(crate) type Tried = SmallVec<[u16; 4]>;

impl Cluster {
    pub(crate) fn new(
        name: Arc<str>,
        endpoints: Vec<(Endpoint, Share)>,
        settings: Settings,
        turns: Turns,
    ) -> Self {
        let members = |backup: bool| {
            let all = endpoints
                .iter()
                .zip(0..)
                .filter(|((_, share), _)| share.backup == backup);
            all.map(|((_, share), number)| (number, share.weight))
                .collect::<Vec<_>>()
        };
        let primary = Rotation::new(&members(false), turns.primary);
        let backup = Rotation::new(&members(true), turns.backup);
        let endpoints = endpoints
            .into_iter()
            .map(|(endpoint, _)| endpoint)
            .collect();
        Self {
            name,
            endpoints,
            settings,
            primary,
            backup,
        }
    }

    /// The endpoint to try next, or none if no endpoint has an address.
    ///
    /// First those that are well and were not tried, the backups after the others. If there is none,
    /// any that was not tried: when all seem down, it is more likely that we are wrong than that
    /// refusing helps. At last one that was tried.
    pub(crate) fn pick(&self, tried: &Tried) -> Option<u16> {
        let known = |number: u16| self.endpoint(number).state.address().is_some();
        let fresh = |number: u16| known(number) && !tried.contains(&number);
        let well = |number: u16| {
            fresh(number)
                && self
                    .endpoint(number)
                    .state
                    .may_serve(self.settings.patience)
        };
        let tiers = [&self.primary, &self.backup];
        let first = |usable: &dyn Fn(u16) -> bool| tiers.iter().find_map(|tier| tier.pick(usable));
        first(&well)
            .or_else(|| first(&fresh))
            .or_else(|| first(&known))
    }

    /// The endpoint of this number, which [`pick`](Self::pick) gave.
    pub(crate) fn endpoint(&self, number: u16) -> &Endpoint {
        &self.endpoints[usize::from(number)]
    }

    /// Whether an endpoint is left that was not tried.
    pub(crate) fn has_untried(&self, tried: &Tried) -> bool {
        tried.len() < self.endpoints.len()
    }

    /// How to reach an endpoint whose address is known.
    pub(crate) fn peer(&self, address: SocketAddr) -> Box<HttpPeer> {
        peer::plain(address, &self.settings.timeouts)
    }

    /// Notes that an endpoint has answered a request that was sent at `began`.
    pub(crate) fn succeeded(&self, number: u16, began: u64) {
        let endpoint = self.endpoint(number);
        if endpoint.state.succeeded(self.settings.patience, began) {
            info!(
                "endpoint is back: upstream={} endpoint={}",
                self.name, endpoint.name
            );
        }
    }

    /// Notes that an endpoint has failed.
    pub(crate) fn failed(&self, number: u16, reason: &dyn fmt::Display) {
        let endpoint = self.endpoint(number);
        if endpoint.state.failed(self.settings.patience) == Failed::LeftOut {
            warn!(
                "endpoint is left out: upstream={} endpoint={} for={:?} reason={reason}",
                self.name, endpoint.name, self.settings.patience.fail_timeout
            );
        }
    }
}
