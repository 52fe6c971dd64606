//! An upstream that fails as a whole is not asked for a while.
//!
//! Closed, requests pass and their outcomes are counted. When too many fail the breaker opens, and
//! requests are refused without asking. After a while it half-opens: a few requests at a time try
//! the upstream. Some successes in a row close it, one failure opens it again.
//!
//! It can not stay open for good: only time is needed for trials, and a trial whose outcome is never
//! told loses its place after a while. Nor do requests from before a change count after it: those
//! that were waiting for a dead upstream and fail minutes later do not open the breaker again.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::window::{SLOTS, Window};

/// The breaker of an upstream. A resource: a reload does not close it.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    /// A [`Standing`] in one word, so that each change is one exchange.
    standing: AtomicU64,
    /// The outcomes while it is closed.
    outcomes: Window,
}

/// When a breaker opens, and closes again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rules {
    /// The time over which outcomes are counted.
    pub(crate) window: Duration,
    /// With fewer outcomes than these in the window it stays closed.
    pub(crate) min_requests: u32,
    /// From this share of failures on it opens, 0.0 to 1.0.
    pub(crate) error_rate: f64,
    pub(crate) open_for: Duration,
    /// How many requests at a time try an upstream, and how many have to succeed; 1 to
    /// [`MOST_PROBES`].
    pub(crate) probes: u32,
}

/// Whether a request may go to the upstream. To be given back with its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Pass(Round),
    /// It tries whether the upstream is well again. Tell its outcome, or that it was abandoned.
    Trial(Round),
    Refused {
        retry_after: Duration,
    },
}

impl Admission {
    /// Of a request for which no breaker was asked. No breaker counts it.
    pub(crate) const UNASKED: Self = Self::Pass(Round(u64::MAX));
}

/// Between which two changes of the breaker a request was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Round(u64);

/// What an outcome has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// For the first time, or again after a trial that failed.
    Opened,
    Closed,
}

/// What a breaker does at the moment, to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Closed,
    Open { retry_after: Duration },
    HalfOpen,
}

impl Breaker {
    /// Asked once for each request.
    pub(crate) fn admit(&self, rules: &Rules, now: u64) -> Admission {
        loop {
            let seen = self.load();
            let next = match seen.phase {
                Phase::Closed => return Admission::Pass(seen.round),
                Phase::Open => seen.half_opened(rules, now),
                Phase::HalfOpen => seen.with_one_more(rules, now),
            };
            let Some(next) = next else {
                let retry_after = seen.retry_after(rules, now);
                return Admission::Refused { retry_after };
            };
            if self.exchange(seen, next) {
                return Admission::Trial(next.round);
            }
        }
    }

    /// Notes the outcome of a request that was admitted; what has changed by it.
    pub(crate) fn note(
        &self,
        rules: &Rules,
        now: u64,
        admission: Admission,
        good: bool,
    ) -> Option<Changed> {
        match admission {
            Admission::Pass(round) => self.passed(rules, now, round, good),
            Admission::Trial(round) => self.tried(rules, now, round, good),
            Admission::Refused { .. } => None,
        }
    }

    /// Notes that a request has ended without an outcome: its client has left.
    pub(crate) fn abandoned(&self, admission: Admission) {
        let Admission::Trial(round) = admission else {
            return;
        };
        self.update(|seen| {
            (seen.phase == Phase::HalfOpen && seen.round == round).then(|| Standing {
                trials: seen.trials.saturating_sub(1),
                ..seen
            })
        });
    }

    /// What it does at `now`. An open breaker whose time is over counts as half open: it would let
    /// the next request through.
    pub(crate) fn state(&self, rules: &Rules, now: u64) -> State {
        let seen = self.load();
        match seen.phase {
            Phase::Closed => State::Closed,
            Phase::Open if !seen.is_over(rules.open_for, now) => State::Open {
                retry_after: seen.retry_after(rules, now),
            },
            Phase::Open | Phase::HalfOpen => State::HalfOpen,
        }
    }

    fn passed(&self, rules: &Rules, now: u64, round: Round, good: bool) -> Option<Changed> {
        let seen = self.load();
        if seen.phase != Phase::Closed || seen.round != round {
            return None;
        }
        let slot = rules.window / SLOTS as u32;
        self.outcomes.note(now, slot, good);
        if good {
            return None;
        }
        let counts = self.outcomes.counts(now, slot);
        let opens = counts.total() >= u64::from(rules.min_requests)
            && counts.bad_share() >= rules.error_rate;
        (opens && self.exchange(seen, seen.opened(now))).then_some(Changed::Opened)
    }

    fn tried(&self, rules: &Rules, now: u64, round: Round, good: bool) -> Option<Changed> {
        let next = self.update(|seen| {
            if seen.phase != Phase::HalfOpen || seen.round != round {
                return None;
            }
            if !good {
                return Some(seen.opened(now));
            }
            let next = seen.with_success();
            if next.successes < rules.probes() {
                return Some(next);
            }
            // Before it closes: nothing is noted until then.
            self.outcomes.clear();
            Some(seen.closed())
        })?;
        match next.phase {
            Phase::Closed => Some(Changed::Closed),
            Phase::Open => Some(Changed::Opened),
            Phase::HalfOpen => None,
        }
    }

    /// Changes the standing, if `change` has one for what it is; the new one.
    fn update(&self, change: impl Fn(Standing) -> Option<Standing>) -> Option<Standing> {
        loop {
            let seen = self.load();
            let next = change(seen)?;
            if self.exchange(seen, next) {
                return Some(next);
            }
        }
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

impl Rules {
    fn probes(&self) -> u64 {
        u64::from(self.probes.clamp(1, MOST_PROBES))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed,
    Open,
    HalfOpen,
}

/// What a breaker is, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    phase: Phase,
    /// Half open: trials whose outcome is awaited.
    trials: u64,
    /// Half open: trials that succeeded.
    successes: u64,
    /// Counts the changes of phase.
    round: Round,
    /// Open: when it opened. Half open: when the last trial was admitted. In [`TICK`]s.
    since: u64,
}

impl Standing {
    /// Open, to half open with its first trial, if its time is over.
    fn half_opened(self, rules: &Rules, now: u64) -> Option<Self> {
        self.is_over(rules.open_for, now).then(|| Self {
            trials: 1,
            ..self.changed(Phase::HalfOpen, now)
        })
    }

    /// Half open, with one more trial, if a place is free.
    ///
    /// When none was free for as long as the breaker stays open, the trials are taken for lost and
    /// their places given away; should their outcomes be told after all, they still count.
    fn with_one_more(self, rules: &Rules, now: u64) -> Option<Self> {
        let trials = if self.trials < rules.probes() {
            self.trials + 1
        } else if self.is_over(rules.open_for, now) {
            1
        } else {
            return None;
        };
        Some(Self {
            trials,
            since: ticks(now),
            ..self
        })
    }

    fn with_success(self) -> Self {
        Self {
            trials: self.trials.saturating_sub(1),
            successes: self.successes + 1,
            ..self
        }
    }

    fn opened(self, now: u64) -> Self {
        self.changed(Phase::Open, now)
    }

    fn closed(self) -> Self {
        self.changed(Phase::Closed, 0)
    }

    fn changed(self, phase: Phase, now: u64) -> Self {
        Self {
            phase,
            trials: 0,
            successes: 0,
            round: Round((self.round.0 + 1) & mask(ROUND_BITS)),
            since: ticks(now),
        }
    }

    /// Whether a time since `since` has gone by.
    fn is_over(self, time: Duration, now: u64) -> bool {
        self.elapsed(now) >= time
    }

    fn retry_after(self, rules: &Rules, now: u64) -> Duration {
        match self.phase {
            Phase::Closed => Duration::ZERO,
            Phase::Open => rules.open_for.saturating_sub(self.elapsed(now)),
            // An outcome is awaited: soon there is news.
            Phase::HalfOpen => rules.open_for.min(SOON),
        }
    }

    fn elapsed(self, now: u64) -> Duration {
        let ticks = ticks(now).wrapping_sub(self.since) & mask(SINCE_BITS);
        // A thread may have read the clock before another one that was faster.
        if ticks > mask(SINCE_BITS) / 2 {
            return Duration::ZERO;
        }
        Duration::from_micros(ticks * TICK)
    }

    fn pack(self) -> u64 {
        let phase = match self.phase {
            Phase::Closed => 0,
            Phase::Open => 1,
            Phase::HalfOpen => 2,
        };
        let counts = (self.trials << COUNT_BITS) | self.successes;
        let high = (phase << (2 * COUNT_BITS)) | counts;
        (((high << ROUND_BITS) | self.round.0) << SINCE_BITS) | self.since
    }

    fn unpack(word: u64) -> Self {
        let high = word >> (ROUND_BITS + SINCE_BITS);
        Self {
            phase: match high >> (2 * COUNT_BITS) {
                0 => Phase::Closed,
                1 => Phase::Open,
                _ => Phase::HalfOpen,
            },
            trials: (high >> COUNT_BITS) & mask(COUNT_BITS),
            successes: high & mask(COUNT_BITS),
            round: Round((word >> SINCE_BITS) & mask(ROUND_BITS)),
            since: word & mask(SINCE_BITS),
        }
    }
}

fn ticks(now: u64) -> u64 {
    (now / TICK) & mask(SINCE_BITS)
}

const fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

/// More requests at a time than these never try an upstream.
pub(crate) const MOST_PROBES: u32 = 100;

/// When to come back while trials are under way.
const SOON: Duration = Duration::from_secs(1);

/// In microseconds.
const TICK: u64 = 1000;

// A standing: 2 bits of phase, trials and successes, round, and nine years of ticks.
const COUNT_BITS: u32 = 7;
const ROUND_BITS: u32 = 10;
const SINCE_BITS: u32 = 38;

#[cfg(test)]
mod tests;
