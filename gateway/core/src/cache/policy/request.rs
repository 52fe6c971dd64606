//! What a request wants of the cache, and what it gets (RFC 9111, sections 4 and 5.2.1).

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap,
    header::{AUTHORIZATION, COOKIE},
};

use super::{
    directives::RequestDirectives,
    freshness::{Freshness, Stale},
    rules::{Authorization, Cookie, Honour, Rules},
};

/// The directives of a request that this route obeys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wants(RequestDirectives);

/// What to do with a stored response that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// It is fresh: serve it.
    Serve,
    /// It is stale, and the client takes it: serve it.
    ServeStale,
    /// It is stale: serve it, and fetch a new one meanwhile.
    Refresh,
    /// Ask upstream. If that fails, and `or_stored`, serve it all the same.
    Validate { why: Why, or_stored: bool },
    /// Answer 504: it would have to be validated, and the client wants nothing that is not stored.
    Refuse,
}

/// Why upstream is asked although something is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Stale,
    /// It is fresh, but not to this client.
    Request,
}

impl Wants {
    pub(crate) fn of(headers: &HeaderMap, honour: Honour) -> Self {
        let mut wants = RequestDirectives::of(headers);
        wants.no_store &= honour.no_store;
        wants.only_if_cached &= honour.only_if_cached;
        if !honour.reload {
            wants.no_cache = false;
            wants.max_age = None;
            wants.min_fresh = None;
        }
        if !honour.stale {
            wants.max_stale = None;
            wants.stale_if_error = None;
        }
        Self(wants)
    }

    /// Whether the response must not be stored. What is stored already may be served.
    pub(crate) fn no_store(self) -> bool {
        self.0.no_store
    }

    /// Whether the answer is 504 when nothing is stored.
    pub(crate) fn only_if_cached(self) -> bool {
        self.0.only_if_cached
    }

    /// What to do with a stored response at this time.
    pub(crate) fn judge(self, stored: &Freshness, now: SystemTime) -> Use {
        let verdict = match stored.is_fresh(now) {
            true => self.judge_fresh(stored, now),
            false => self.judge_stale(stored, now),
        };
        match verdict {
            Use::Validate { .. } if self.0.only_if_cached => Use::Refuse,
            Use::Serve | Use::ServeStale | Use::Refresh | Use::Validate { .. } | Use::Refuse => {
                verdict
            }
        }
    }

    fn judge_fresh(self, stored: &Freshness, now: SystemTime) -> Use {
        let too_old = self.too_old(stored, now);
        let not_for_long = self
            .0
            .min_fresh
            .is_some_and(|least| stored.remaining(now) < seconds(least));
        if self.0.no_cache || too_old || not_for_long {
            // It is good by its own words, and to ask for a newer one is a wish.
            return Use::Validate {
                why: Why::Request,
                or_stored: true,
            };
        }
        Use::Serve
    }

    fn judge_stale(self, stored: &Freshness, now: SystemTime) -> Use {
        let validate = |or_stored| Use::Validate {
            why: Why::Stale,
            or_stored,
        };
        let Stale::For(windows) = stored.stale else {
            return validate(false);
        };
        let overdue = stored.overdue(now);
        let accepted = self.0.stale_if_error.map(seconds).unwrap_or_default();
        let or_stored = overdue <= windows.if_error.max(accepted);
        if self.0.no_cache || self.too_old(stored, now) {
            return validate(or_stored);
        }
        if self
            .0
            .max_stale
            .is_some_and(|most| overdue <= seconds(most))
        {
            return Use::ServeStale;
        }
        // Who names an age wants nothing stale (RFC 9111, section 5.2.1.1).
        let picky = self.0.max_age.is_some() || self.0.min_fresh.is_some();
        if !picky && overdue <= windows.while_revalidate && !windows.while_revalidate.is_zero() {
            return Use::Refresh;
        }
        validate(or_stored)
    }

    fn too_old(self, stored: &Freshness, now: SystemTime) -> bool {
        let most = self.0.max_age;
        most.is_some_and(|most| stored.age(now) > seconds(most))
    }
}

/// What a request has that tells who sends it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// `Authorization`, or whatever else somebody was recognised by.
    pub(crate) authorization: bool,
    pub(crate) cookie: bool,
    /// It had more than the key of the route sees: a filter has taken it away before.
    pub(crate) untold: bool,
}

impl Credentials {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self {
            authorization: headers.contains_key(AUTHORIZATION),
            cookie: headers.contains_key(COOKIE),
            untold: false,
        }
    }

    /// Whether a response that has not stated its lifetime itself may be another one for this sender than for
    /// everyone: see [`Basis::is_stated`](super::freshness::Basis::is_stated).
    pub(crate) fn are_personal(self, rules: &Rules) -> bool {
        let keyed = rules.authorization == Authorization::Keyed;
        let cookie = self.cookie && rules.cookie != Cookie::Ignored;
        self.untold || (self.authorization && !keyed) || cookie
    }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}
