//! Which endpoints are left out because requests fail there.
//!
//! An endpoint that has failed too often is left out for a while. When the time is over a single
//! request tries it: a success brings it back, a failure leaves it out again, for twice as long.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use crate::upstream::{
    clock::micros,
    window::{SLOTS, Window},
};

/// How many failures in how long leave an endpoint out, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Patience {
    /// So many in a row within `fail_timeout`; 0 is no limit.
    pub(crate) max_fails: u32,
    pub(crate) fail_timeout: Duration,
    /// Up to this the time doubles when an endpoint is left out again and again. Not more than
    /// `fail_timeout`: it stays the same.
    pub(crate) max_fail_timeout: Duration,
    /// Leaves endpoints out that fail often, if not in a row.
    pub(crate) error_rate: Option<ErrorRate>,
}

/// Which share of the requests within `fail_timeout` may fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ErrorRate {
    /// Above this share, 0.0 to 1.0, it is too much.
    pub(crate) share: f64,
    /// With fewer requests than these nothing can be told.
    pub(crate) min_requests: u32,
}

/// What a failure has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// Nothing yet, or it was left out already.
    Counted,
    /// From now on it is left out, for this time at least.
    LeftOut(Duration),
}

/// What the outcomes of requests say about an endpoint.
#[derive(Debug, Default)]
pub(super) struct Passive {
    /// A [`Standing`] in one word, so that each change is one exchange.
    standing: AtomicU64,
    /// Failures in a row since `counted_from`.
    fails: AtomicU32,
    counted_from: AtomicU64,
    /// The outcomes while it is in service; used if there is an error rate.
    outcomes: Window,
}

impl Patience {
    /// Whether an endpoint is never left out.
    fn is_endless(&self) -> bool {
        self.max_fails == 0 && self.error_rate.is_none()
    }

    /// How long an endpoint is left out the `times`th time in a row.
    fn time_out(&self, times: u8) -> Duration {
        let doubled = 1_u32.checked_shl(u32::from(times.saturating_sub(1)));
        let longest = self.max_fail_timeout.max(self.fail_timeout);
        self.fail_timeout
            .saturating_mul(doubled.unwrap_or(u32::MAX))
            .min(longest)
    }

    /// The slots of a window over `fail_timeout`.
    fn slot(&self) -> Duration {
        self.fail_timeout / SLOTS as u32
    }
}

impl Passive {
    /// Whether a request may go there now; if it tries whether the endpoint is back, this takes the
    /// turn.
    ///
    /// When the time of an endpoint that was left out is over, one request in each `fail_timeout`
    /// may try it, until one succeeds: the others don't wait for the outcome.
    pub(super) fn may_serve(&self, patience: &Patience, now: u64) -> bool {
        let seen = self.load();
        if seen.phase == Phase::In || patience.is_endless() {
            return true;
        }
        now >= seen.until(patience) && self.exchange(seen, seen.trying(now))
    }

    /// Whether it is left out, or has been and no request has succeeded since.
    pub(super) fn is_out(&self, patience: &Patience) -> bool {
        self.load().phase != Phase::In && !patience.is_endless()
    }

    /// Until when it is left out. Is over while a request tries it, or might.
    pub(super) fn out_until(&self, patience: &Patience) -> Option<u64> {
        let seen = self.load();
        (seen.phase != Phase::In && !patience.is_endless()).then(|| seen.until(patience))
    }

    /// Notes a success of a request that was sent at `began`; whether the endpoint is back by it.
    ///
    /// An answer to a request from before the endpoint was left out is no news: another thread may
    /// just have seen it die.
    pub(super) fn succeeded(&self, patience: &Patience, now: u64, began: u64) -> bool {
        // Read first: this is called for every response, and a store would take the line from
        // other threads.
        if self.fails.load(Ordering::Relaxed) != 0 {
            self.fails.store(0, Ordering::Relaxed);
        }
        let seen = self.load();
        if seen.phase == Phase::In {
            if patience.error_rate.is_some() {
                self.outcomes.note(now, patience.slot(), true);
            }
            return false;
        }
        if began < seen.since {
            return false;
        }
        // Before it is back: nothing is noted until then.
        self.outcomes.clear();
        self.exchange(seen, seen.back(now))
    }

    /// Notes a failure of a request that was sent at `began`.
    ///
    /// `may_leave` tells whether one more endpoint may be left out; it is asked only when this one
    /// would be. If it may not, the next failure asks again. A request from before the last change
    /// is no news here either: many may fail long after the endpoint is back.
    pub(super) fn failed(
        &self,
        patience: &Patience,
        now: u64,
        began: u64,
        may_leave: impl FnOnce() -> bool,
    ) -> Failed {
        let seen = self.load();
        if patience.is_endless() || began < seen.since {
            return Failed::Counted;
        }
        match seen.phase {
            Phase::In if self.is_too_much(patience, now) && may_leave() => {
                let next = seen.left_out(patience, now);
                if self.exchange(seen, next) {
                    return Failed::LeftOut(patience.time_out(next.times));
                }
            }
            Phase::In => {}
            // Requests are sent there although it is left out, because all are.
            Phase::Out => _ = self.exchange(seen, Standing { since: now, ..seen }),
            Phase::Trying => _ = self.exchange(seen, seen.left_out_again(now)),
        }
        Failed::Counted
    }

    /// Counts a failure; whether there are too many now.
    fn is_too_much(&self, patience: &Patience, now: u64) -> bool {
        // Both are counted, always: neither may depend on what the other says.
        let in_a_row = self.has_failed_in_a_row(patience, now);
        let too_often = self.has_failed_too_often(patience, now);
        in_a_row || too_often
    }

    fn has_failed_in_a_row(&self, patience: &Patience, now: u64) -> bool {
        // Threads that fail at the same moment are all counted; only when a count is given up for
        // its age, one that is added meanwhile may be lost.
        let first = self.fails.load(Ordering::Acquire) == 0;
        let from = self.counted_from.load(Ordering::Relaxed);
        if first {
            self.counted_from.store(now, Ordering::Relaxed);
        } else if now.saturating_sub(from) > micros(patience.fail_timeout) {
            let mine =
                self.counted_from
                    .compare_exchange(from, now, Ordering::Relaxed, Ordering::Relaxed);
            if mine.is_ok() {
                self.fails.store(0, Ordering::Relaxed);
            }
        }
        let fails = self.fails.fetch_add(1, Ordering::Release).saturating_add(1);
        patience.max_fails != 0 && fails >= patience.max_fails
    }

    fn has_failed_too_often(&self, patience: &Patience, now: u64) -> bool {
        let Some(rate) = patience.error_rate else {
            return false;
        };
        self.outcomes.note(now, patience.slot(), false);
        let counts = self.outcomes.counts(now, patience.slot());
        counts.total() >= u64::from(rate.min_requests) && counts.bad_share() > rate.share
    }

    fn load(&self) -> Standing {
        Standing::unpack(self.standing.load(Ordering::Acquire))
    }

    fn exchange(&self, seen: Standing, next: Standing) -> bool {
        self.standing
            .compare_exchange(
                seen.pack(),
                next.pack(),
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .is_ok()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// In service.
    In,
    /// Left out.
    Out,
    /// Left out, and a request tries whether it still has to be.
    Trying,
}

/// What an endpoint is, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    phase: Phase,
    /// How many times in a row it was left out, the current one included.
    times: u8,
    /// When it came back, was left out, or the request was sent that tries it. Requests from before
    /// have nothing to say.
    since: u64,
}

impl Standing {
    /// Left out, for the first time or once more: what was is forgotten when it has served for as
    /// long as it had been left out.
    fn left_out(self, patience: &Patience, now: u64) -> Self {
        let served = now.saturating_sub(self.since);
        let forgotten = served >= micros(patience.time_out(self.times));
        let times = if forgotten { 0 } else { self.times };
        Self { times, ..self }.left_out_again(now)
    }

    fn left_out_again(self, now: u64) -> Self {
        Self {
            phase: Phase::Out,
            times: self.times.saturating_add(1),
            since: now,
        }
    }

    fn trying(self, now: u64) -> Self {
        Self {
            phase: Phase::Trying,
            since: now,
            ..self
        }
    }

    fn back(self, now: u64) -> Self {
        Self {
            phase: Phase::In,
            since: now,
            ..self
        }
    }

    /// When the next request may try it.
    fn until(self, patience: &Patience) -> u64 {
        let wait = match self.phase {
            Phase::In => return 0,
            Phase::Out => patience.time_out(self.times),
            Phase::Trying => patience.fail_timeout,
        };
        self.since.saturating_add(micros(wait))
    }

    // 8 bits of times, 2 of phase, and 570 years of microseconds.
    fn pack(self) -> u64 {
        let phase = match self.phase {
            Phase::In => 0,
            Phase::Out => 1,
            Phase::Trying => 2,
        };
        (((u64::from(self.times) << 2) | phase) << SINCE_BITS) | self.since.min(SINCE)
    }

    fn unpack(word: u64) -> Self {
        let high = word >> SINCE_BITS;
        Self {
            phase: match high & 3 {
                0 => Phase::In,
                1 => Phase::Out,
                _ => Phase::Trying,
            },
            times: (high >> 2) as u8,
            since: word & SINCE,
        }
    }
}

const SINCE_BITS: u32 = 54;
const SINCE: u64 = (1 << SINCE_BITS) - 1;

#[cfg(test)]
mod tests;
