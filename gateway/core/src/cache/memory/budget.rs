//! The bytes that a store may use, and does.

use std::sync::atomic::{AtomicUsize, Ordering};

/// One count for all shards: it is touched when objects come, grow and go, never by a hit.
///
/// Memory is counted before it is taken, so that the sum never goes over the limit.
pub(super) struct Budget {
    limit: AtomicUsize,
    used: AtomicUsize,
    /// Of the used ones, those of objects on probation (see `shard`).
    probation: AtomicUsize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit: AtomicUsize::new(limit),
            used: AtomicUsize::new(0),
            probation: AtomicUsize::new(0),
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// What is used may be above a lower limit until enough has been evicted.
    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether there is more than the limit allows.
    pub(super) fn exceeded(&self) -> bool {
        self.used() > self.limit()
    }

    /// Takes so many bytes, or none of them.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let limit = self.limit();
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= limit)
            })
            .is_ok()
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn enter_probation(&self, bytes: usize) {
        self.probation.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn leave_probation(&self, bytes: usize) {
        self.probation.fetch_sub(bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn probation(&self) -> usize {
        self.probation.load(Ordering::Relaxed)
    }

    /// Whether those on probation have more than their share, which is a tenth.
    pub(super) fn probation_is_full(&self) -> bool {
        self.probation.load(Ordering::Relaxed) > self.limit() / 10
    }
}

/// What so many bytes take from the allocator: it has eight sizes for each power of two.
pub(super) fn allocation(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 16).max(16);
    bytes.next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_never_exceeds_the_limit_and_what_is_given_back_can_be_taken_again() {
        let budget = Budget::new(100);
        assert!(budget.take(60));
        assert!(!budget.take(41));
        assert!(budget.take(40));
        assert!(!budget.take(usize::MAX));
        budget.give_back(60);
        assert!(budget.take(60));
        assert_eq!(budget.used(), 100);
    }

    #[test]
    fn an_allocation_is_an_eighth_larger_at_most_and_never_smaller() {
        for bytes in 1..100_000 {
            let taken = allocation(bytes);
            assert!(taken >= bytes, "{bytes}");
            assert!(taken <= bytes + (bytes / 8).max(16), "{bytes}: {taken}");
        }
    }
}
