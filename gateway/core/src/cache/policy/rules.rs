//! What a route says of its cache, where the RFC leaves a choice.

use std::time::Duration;

use http::{HeaderName, StatusCode};
use serde::{Deserialize, Serialize};

/// The choices of one route. The default is the most careful one everywhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// Targeted fields that this cache listens to, in the order of their rank (RFC 9213, section 2.2).
    pub(crate) targets: Vec<HeaderName>,
    /// How long a response is fresh that says nothing of it, by its status. The first that fits counts.
    pub(crate) ttl: Vec<(StatusCode, Duration)>,
    /// Off if there is none.
    pub(crate) heuristic: Option<Heuristic>,
    /// For responses that say nothing of serving them stale.
    pub(crate) stale: Windows,
    pub(crate) authorization: Authorization,
    pub(crate) cookie: Cookie,
    pub(crate) set_cookie: SetCookie,
    pub(crate) honour: Honour,
}

/// How long something may be served that is no longer fresh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Windows {
    /// While a new response is fetched. As a default it is for responses that took their lifetime from the
    /// route: to one that states it, this would add time that it did not grant.
    pub(crate) while_revalidate: Duration,
    /// When no new response can be had. As a default it is for responses that were fresh once.
    pub(crate) if_error: Duration,
}

/// A lifetime guessed from how long ago something changed (RFC 9111, section 4.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heuristic {
    /// Of the time since the last change, in percent. 10 is usual.
    pub(crate) percent: u32,
    pub(crate) longest: Duration,
}

/// When the response to a request with `Authorization` is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Authorization {
    /// When it says that it may be shared (RFC 9111, section 3.5).
    #[default]
    Stated,
    /// As any other, because the key of the route tells credentials apart.
    Keyed,
}

/// When the response to a request with `Cookie` is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Cookie {
    /// When it says that it may be shared. How long it is fresh says nothing of whom it is for.
    #[default]
    Shared,
    /// As any other, because the key of the route tells cookies apart, or they do not matter.
    Ignored,
}

/// When a response with `Set-Cookie` is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SetCookie {
    #[default]
    Never,
    /// When it says that it may be shared.
    Shared,
}

/// Which directives of a request are obeyed. The RFC asks for none but `no-store`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Honour {
    pub(crate) no_store: bool,
    /// `no-cache`, `max-age`, `min-fresh` and `Pragma`: whatever makes a fetch necessary.
    pub(crate) reload: bool,
    /// `max-stale` and `stale-if-error`.
    pub(crate) stale: bool,
    pub(crate) only_if_cached: bool,
}

impl Rules {
    pub(super) fn ttl(&self, status: StatusCode) -> Option<Duration> {
        let mut ttl = self.ttl.iter();
        ttl.find_map(|(of, ttl)| (*of == status).then_some(*ttl))
    }
}

impl Default for Honour {
    fn default() -> Self {
        Self {
            no_store: true,
            reload: true,
            stale: true,
            only_if_cached: true,
        }
    }
}
