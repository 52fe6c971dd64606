//! Has one request fetch what several ask for.

use std::time::Duration;

use pingora::cache::{
    CacheKey,
    lock::{CacheKeyLock, CacheLock, LockStatus, Locked, WritePermit},
};

/// Pingora's lock, but for what becomes of those who have waited when a fetch fails.
///
/// With Pingora's they would try it one after the other, each for as long as the endpoint takes to fail. Where
/// nothing is stored that could be served instead, all of them go to the upstream at once.
pub(super) struct FetchLock(CacheLock);

impl FetchLock {
    /// A fetch that takes longer than this has others try for themselves.
    pub(super) fn new(longest: Duration) -> Self {
        Self(CacheLock::new(longest))
    }
}

impl CacheKeyLock for FetchLock {
    fn lock(&self, key: &CacheKey, stale_writer: bool) -> Locked {
        self.0.lock(key, stale_writer)
    }

    fn release(&self, key: &CacheKey, permit: WritePermit, reason: LockStatus) {
        // Those who wait for what is stored already look at it again: see the hook for hits.
        let reason = match reason {
            LockStatus::TransientError if !permit.stale_writer() => LockStatus::GiveUp,
            other => other,
        };
        self.0.release(key, permit, reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the others see when a fetch has ended like this.
    fn seen(stale_writer: bool, end: LockStatus) -> LockStatus {
        let lock = FetchLock::new(Duration::from_secs(60));
        let key = CacheKey::new("page", "");
        let Locked::Write(permit) = lock.lock(&key, stale_writer) else {
            panic!("nobody else fetches");
        };
        let Locked::Read(other) = lock.lock(&key, stale_writer) else {
            panic!("two fetch");
        };
        lock.release(&key, permit, end);
        // It has ended for everybody: the next one fetches.
        let Locked::Write(next) = lock.lock(&key, stale_writer) else {
            panic!("the lock was not released");
        };
        lock.release(&key, next, LockStatus::Done);
        other.lock_status()
    }

    #[test]
    fn who_has_waited_in_vain_for_something_new_does_not_wait_again() {
        assert_eq!(seen(false, LockStatus::TransientError), LockStatus::GiveUp);
    }

    #[test]
    fn who_has_waited_for_something_newer_looks_at_what_is_stored() {
        let failed = LockStatus::TransientError;
        assert_eq!(seen(true, failed), failed);
    }

    #[test]
    fn other_ends_are_told_as_they_are() {
        for end in [LockStatus::Done, LockStatus::GiveUp] {
            assert_eq!((seen(false, end), seen(true, end)), (end, end));
        }
    }
}
