//! How many retries the requests of the last ten seconds pay for.
//!
//! Retries help as long as few requests need one. When all do, they only multiply the load on an
//! upstream that is in trouble already: so there may be no more of them than a share of the
//! requests, and a few for upstreams with little to do.

use std::time::Duration;

use super::window::Window;

/// The requests and retries of an upstream. A resource: a reload grants no fresh budget.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// First attempts are the good outcomes, retries the bad ones.
    spent: Window,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rules {
    /// Retries for each request: 0.2 allows one for five.
    pub(crate) share: f64,
    /// Retries that are allowed besides, however few requests there are.
    pub(crate) min_per_second: u32,
}

impl Budget {
    /// Notes the first attempt of a request.
    pub(crate) fn request(&self, now: u64) {
        self.spent.note(now, SLOT, true);
    }

    /// Whether one retry may be made; if so, it is counted.
    ///
    /// Threads that ask at the same moment may each get the last one: the budget is exceeded by at
    /// most one retry a thread.
    pub(crate) fn take(&self, rules: &Rules, now: u64) -> bool {
        let granted = self.has_one(rules, now);
        if granted {
            self.spent.note(now, SLOT, false);
        }
        granted
    }

    /// Whether one retry might be made. Takes nothing.
    pub(crate) fn has_one(&self, rules: &Rules, now: u64) -> bool {
        let spent = self.spent.counts(now, SLOT);
        let allowed = f64::from(rules.min_per_second) * SECONDS + rules.share * spent.good as f64;
        (spent.bad as f64) < allowed
    }
}

/// Ten of them are the window.
const SLOT: Duration = Duration::from_secs(1);
const SECONDS: f64 = 10.0;

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicU64, sync::atomic::Ordering, thread};

    use super::*;

    const SECOND: u64 = 1_000_000;

    fn rules(share: f64, min_per_second: u32) -> Rules {
        Rules {
            share,
            min_per_second,
        }
    }

    fn granted(budget: &Budget, rules: &Rules, now: u64) -> usize {
        (0..1000).filter(|_| budget.take(rules, now)).count()
    }

    #[test]
    fn retries_are_a_share_of_the_requests() {
        let budget = Budget::default();
        for _ in 0..100 {
            budget.request(SECOND);
        }
        assert_eq!(granted(&budget, &rules(0.2, 0), SECOND), 20);
    }

    #[test]
    fn to_ask_for_the_budget_takes_nothing_of_it() {
        let (budget, rules) = (Budget::default(), rules(0.0, 1));
        assert!((0..1000).all(|_| budget.has_one(&rules, SECOND)));
        assert_eq!(granted(&budget, &rules, SECOND), 10);
        assert!(!budget.has_one(&rules, SECOND));
    }

    #[test]
    fn a_few_retries_are_free() {
        let budget = Budget::default();
        assert_eq!(granted(&budget, &rules(0.2, 3), SECOND), 30);
        budget.request(SECOND);
        budget.request(SECOND);
        assert_eq!(granted(&budget, &rules(0.5, 3), SECOND), 1);
    }

    #[test]
    fn without_share_and_minimum_there_is_no_retry() {
        let budget = Budget::default();
        budget.request(SECOND);
        assert_eq!(granted(&budget, &rules(0.0, 0), SECOND), 0);
    }

    #[test]
    fn the_budget_recovers_when_retries_are_long_ago() {
        let budget = Budget::default();
        let rules = rules(0.0, 1);
        assert_eq!(granted(&budget, &rules, SECOND), 10);
        assert_eq!(granted(&budget, &rules, 10 * SECOND), 0);
        assert_eq!(granted(&budget, &rules, 11 * SECOND), 10);
    }

    #[test]
    fn requests_from_before_the_window_pay_for_nothing() {
        let budget = Budget::default();
        for _ in 0..100 {
            budget.request(SECOND);
        }
        assert_eq!(granted(&budget, &rules(0.2, 0), 11 * SECOND), 0);
    }

    #[test]
    fn threads_exceed_the_budget_by_at_most_one_retry_each() {
        let budget = Budget::default();
        let total = AtomicU64::new(0);
        for _ in 0..1000 {
            budget.request(SECOND);
        }
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mine = granted(&budget, &rules(0.2, 0), SECOND);
                    total.fetch_add(mine as u64, Ordering::Relaxed);
                });
            }
        });
        let total = total.into_inner();
        assert!((200..=204).contains(&total), "{total}");
    }
}
