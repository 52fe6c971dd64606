//! What the active health checks say about an endpoint.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;

/// How many results in a row change the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Thresholds {
    pub(crate) well_after: u32,
    pub(crate) ill_after: u32,
}

/// What one check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) ok: bool,
    pub(crate) took: Duration,
    /// Why it failed, in words for an operator; empty if it did not.
    pub(crate) reason: String,
    /// When it ended.
    pub(crate) at: u64,
}

/// What a check has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    /// From now on it is served.
    Well,
    /// From now on it is not served, or it had not been, and by now is known to be ill.
    Ill,
}

/// What is known from checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Verdict {
    /// There are no checks.
    Unchecked,
    /// No check has decided yet; it is served until then.
    Hoped,
    /// No check has decided yet; it is not served until then.
    Doubted,
    Well,
    Ill,
}

/// Written by the task that checks the endpoint, read for every request.
#[derive(Debug, Default)]
pub(super) struct Probe {
    /// A [`Verdict`].
    verdict: AtomicU8,
    /// It was not to be served before a success, and there was none yet.
    unproven: AtomicBool,
    /// Results in a row of the kind that `last` is of.
    streak: AtomicU32,
    last: ArcSwapOption<Check>,
}

impl Probe {
    /// There are checks from now on. Does nothing if there have been: what they said stays.
    pub(super) fn expect(&self, first: Verdict) {
        if self.verdict() == Verdict::Unchecked {
            let unproven = first == Verdict::Doubted;
            self.unproven.store(unproven, Ordering::Relaxed);
            self.change(Verdict::Unchecked, first);
        }
    }

    /// There are no checks any more.
    pub(super) fn forget(&self) {
        self.verdict
            .store(Verdict::Unchecked as u8, Ordering::Relaxed);
        self.unproven.store(false, Ordering::Relaxed);
        self.streak.store(0, Ordering::Relaxed);
        self.last.store(None);
    }

    /// Notes what a check has found. One that nobody expects any more is ignored.
    pub(super) fn noted(&self, check: Check, thresholds: Thresholds) -> Option<Turned> {
        let seen = self.verdict();
        if seen == Verdict::Unchecked {
            return None;
        }
        let streak = self.streak_with(check.ok);
        let next = next(seen, check.ok, streak, thresholds);
        self.last.store(Some(Arc::new(check)));
        // Fails if the checks have just been given up: then there is nothing to tell.
        if seen == next || !self.change(seen, next) {
            return None;
        }
        if next == Verdict::Well {
            self.unproven.store(false, Ordering::Relaxed);
        }
        match next {
            Verdict::Well if seen == Verdict::Hoped => None,
            Verdict::Well => Some(Turned::Well),
            Verdict::Ill => Some(Turned::Ill),
            Verdict::Unchecked | Verdict::Hoped | Verdict::Doubted => None,
        }
    }

    pub(super) fn may_serve(&self) -> bool {
        match self.verdict() {
            Verdict::Unchecked | Verdict::Hoped | Verdict::Well => true,
            Verdict::Doubted | Verdict::Ill => false,
        }
    }

    /// Whether it may be asked when nobody may serve: not if it was never seen to serve.
    pub(super) fn may_be_asked(&self) -> bool {
        !self.unproven.load(Ordering::Relaxed)
    }

    pub(super) fn verdict(&self) -> Verdict {
        match self.verdict.load(Ordering::Relaxed) {
            1 => Verdict::Hoped,
            2 => Verdict::Doubted,
            3 => Verdict::Well,
            4 => Verdict::Ill,
            _ => Verdict::Unchecked,
        }
    }

    pub(super) fn last(&self) -> Option<Arc<Check>> {
        self.last.load_full()
    }

    fn streak_with(&self, ok: bool) -> u32 {
        let last = self.last.load();
        let same = last.as_ref().is_some_and(|last| last.ok == ok);
        let before = if same {
            self.streak.load(Ordering::Relaxed)
        } else {
            0
        };
        let streak = before.saturating_add(1);
        self.streak.store(streak, Ordering::Relaxed);
        streak
    }

    fn change(&self, seen: Verdict, next: Verdict) -> bool {
        self.verdict
            .compare_exchange(seen as u8, next as u8, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }
}

/// The verdict after a result that is the `streak`th of its kind.
///
/// At first one success is enough: the thresholds are against flapping, and there was none yet.
fn next(seen: Verdict, ok: bool, streak: u32, thresholds: Thresholds) -> Verdict {
    let enough = match (seen, ok) {
        (Verdict::Unchecked, _) | (Verdict::Well, true) | (Verdict::Ill, false) => return seen,
        (Verdict::Hoped | Verdict::Doubted, true) => 1,
        (Verdict::Ill, true) => thresholds.well_after,
        (Verdict::Hoped | Verdict::Doubted | Verdict::Well, false) => thresholds.ill_after,
    };
    if streak < enough {
        seen
    } else if ok {
        Verdict::Well
    } else {
        Verdict::Ill
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds {
        well_after: 2,
        ill_after: 3,
    };

    fn expecting(first: Verdict) -> Probe {
        let probe = Probe::default();
        probe.expect(first);
        probe
    }

    fn check(ok: bool) -> Check {
        Check {
            ok,
            took: Duration::from_millis(3),
            reason: "refused".to_owned(),
            at: 1,
        }
    }

    /// What the last of some results has changed: `+` is a success, `-` is not.
    fn after(probe: &Probe, results: &str) -> Option<Turned> {
        let turned = results
            .chars()
            .map(|result| probe.noted(check(result == '+'), THRESHOLDS));
        turned.last().flatten()
    }

    #[test]
    fn a_verdict_changes_after_enough_results_in_a_row() {
        let cases = [
            (Verdict::Hoped, "+", Verdict::Well, None),
            (Verdict::Hoped, "--", Verdict::Hoped, None),
            (Verdict::Hoped, "---", Verdict::Ill, Some(Turned::Ill)),
            (Verdict::Doubted, "+", Verdict::Well, Some(Turned::Well)),
            (Verdict::Doubted, "--", Verdict::Doubted, None),
            (Verdict::Doubted, "--+", Verdict::Well, Some(Turned::Well)),
            (Verdict::Doubted, "---", Verdict::Ill, Some(Turned::Ill)),
            (Verdict::Hoped, "----", Verdict::Ill, None),
            (Verdict::Hoped, "+--+--", Verdict::Well, None),
            (Verdict::Hoped, "+--+---", Verdict::Ill, Some(Turned::Ill)),
            (Verdict::Hoped, "---+", Verdict::Ill, None),
            (Verdict::Hoped, "---+-+", Verdict::Ill, None),
            (Verdict::Hoped, "---++", Verdict::Well, Some(Turned::Well)),
            (Verdict::Hoped, "---+++", Verdict::Well, None),
        ];
        for (first, results, verdict, turned) in cases {
            let probe = expecting(first);
            let case = format!("{first:?} {results}");
            assert_eq!(after(&probe, results), turned, "{case}");
            assert_eq!(probe.verdict(), verdict, "{case}");
        }
    }

    #[test]
    fn only_what_is_ill_or_doubted_is_not_served() {
        assert!(Probe::default().may_serve());
        assert!(expecting(Verdict::Hoped).may_serve());
        assert!(!expecting(Verdict::Doubted).may_serve());
        let probe = expecting(Verdict::Hoped);
        after(&probe, "---");
        assert!(!probe.may_serve());
        after(&probe, "++");
        assert!(probe.may_serve());
    }

    #[test]
    fn who_was_never_seen_to_serve_is_no_last_resort() {
        let probe = expecting(Verdict::Doubted);
        after(&probe, "---");
        assert_eq!(probe.verdict(), Verdict::Ill);
        assert!(!probe.may_be_asked());
        after(&probe, "++---");
        assert_eq!(probe.verdict(), Verdict::Ill);
        assert!(probe.may_be_asked());
        let probe = expecting(Verdict::Hoped);
        after(&probe, "---");
        assert!(probe.may_be_asked());
        let probe = expecting(Verdict::Doubted);
        probe.forget();
        assert!(probe.may_be_asked());
    }

    #[test]
    fn thresholds_of_zero_are_thresholds_of_one() {
        let zero = Thresholds {
            well_after: 0,
            ill_after: 0,
        };
        let probe = expecting(Verdict::Hoped);
        assert_eq!(probe.noted(check(false), zero), Some(Turned::Ill));
        assert_eq!(probe.noted(check(true), zero), Some(Turned::Well));
    }

    #[test]
    fn what_checks_have_said_stays_when_they_are_expected_again() {
        let probe = expecting(Verdict::Hoped);
        after(&probe, "---");
        probe.expect(Verdict::Hoped);
        assert_eq!(probe.verdict(), Verdict::Ill);
        let probe = expecting(Verdict::Hoped);
        after(&probe, "+");
        probe.expect(Verdict::Doubted);
        assert_eq!(probe.verdict(), Verdict::Well);
    }

    #[test]
    fn a_late_result_of_checks_that_were_given_up_is_ignored() {
        let probe = expecting(Verdict::Hoped);
        after(&probe, "---");
        probe.forget();
        assert!(probe.may_serve());
        assert_eq!(after(&probe, "---"), None);
        assert!(probe.may_serve());
        assert_eq!(probe.last(), None);
        probe.expect(Verdict::Hoped);
        assert_eq!(after(&probe, "--"), None, "nothing is left of the past");
        assert_eq!(after(&probe, "-"), Some(Turned::Ill));
    }

    #[test]
    fn the_last_check_can_be_seen() {
        let probe = expecting(Verdict::Hoped);
        assert_eq!(probe.last(), None);
        after(&probe, "+-");
        assert_eq!(probe.last().as_deref(), Some(&check(false)));
    }
}
