//! What an endpoint is doing, and has done: the numbers that balancing and the admin API go by.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::upstream::latency::Latency;

/// Aligned to a cache line of its own: it changes with every request, and what lies around it is
/// read for every request by all threads.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Load {
    active: AtomicU32,
    requests: AtomicU64,
    failures: AtomicU64,
    pub(crate) latency: Latency,
}

impl Load {
    /// Takes a place for a request, unless `max` are taken; 0 is no limit. Whoever has one has to
    /// [`leave`](Self::leave), or to [`withdraw`](Self::withdraw) if nothing was sent.
    pub(crate) fn try_enter(&self, max: u32) -> bool {
        if max == 0 {
            self.active.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        let room = |active: u32| (active < max).then_some(active + 1);
        self.active
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .is_ok()
    }

    /// Gives the place back of a request that has ended.
    pub(crate) fn leave(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.withdraw();
    }

    /// Gives a place back for which there was no request after all.
    pub(crate) fn withdraw(&self) {
        let left = self
            .active
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |active| {
                active.checked_sub(1)
            });
        debug_assert!(left.is_ok(), "who leaves has entered");
    }

    /// Requests that are under way.
    pub(crate) fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// Requests that were sent there and have ended, ever.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Requests that failed there, ever.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, AtomicU64},
        thread,
    };

    use super::*;

    #[test]
    fn without_a_limit_everyone_enters() {
        let load = Load::default();
        assert!((0..1000).all(|_| load.try_enter(0)));
        assert_eq!((load.active(), load.requests()), (1000, 0));
    }

    #[test]
    fn a_place_is_free_again_when_its_request_has_ended() {
        let load = Load::default();
        assert!(load.try_enter(1));
        assert!(!load.try_enter(1));
        assert_eq!((load.active(), load.requests()), (1, 0));
        load.leave();
        assert_eq!((load.active(), load.requests()), (0, 1));
        assert!(load.try_enter(1));
    }

    #[test]
    fn a_place_without_a_request_is_not_counted() {
        let load = Load::default();
        assert!(load.try_enter(1));
        load.withdraw();
        assert_eq!((load.active(), load.requests()), (0, 0));
        assert!(load.try_enter(1));
    }

    #[test]
    fn a_limit_holds_for_threads_that_race() {
        let load = Load::default();
        let (inside, entered) = (AtomicU32::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50_000 {
                        if load.try_enter(2) {
                            let others = inside.fetch_add(1, Ordering::SeqCst);
                            assert!(others < 2, "{others} others");
                            entered.fetch_add(1, Ordering::Relaxed);
                            inside.fetch_sub(1, Ordering::SeqCst);
                            load.leave();
                        }
                    }
                });
            }
        });
        assert_eq!(load.active(), 0);
        assert_eq!(load.requests(), entered.into_inner());
    }
}
