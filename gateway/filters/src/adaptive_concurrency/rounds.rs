//! The median of a few windows' medians.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// The medians of the windows of one measurement, in microseconds. Only who ends a window adds to them.
pub(super) struct Rounds {
    medians: [AtomicU64; ROUNDS],
    count: AtomicU32,
}

impl Rounds {
    pub(super) fn new() -> Self {
        Self {
            medians: [const { AtomicU64::new(0) }; ROUNDS],
            count: AtomicU32::new(0),
        }
    }

    /// The median of all, and the next one begins anew, once there are enough.
    pub(super) fn add(&self, median: u64) -> Option<u64> {
        let count = self.count.load(Relaxed) as usize;
        self.medians.get(count)?.store(median, Relaxed);
        if count + 1 < ROUNDS {
            self.count.store(count as u32 + 1, Relaxed);
            return None;
        }
        self.count.store(0, Relaxed);
        let mut medians = self.medians.each_ref().map(|median| median.load(Relaxed));
        medians.sort_unstable();
        Some(medians[ROUNDS / 2])
    }
}

/// Two of them may be of a burst.
const ROUNDS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_of_five_that_are_not_like_the_others_do_not_matter() {
        let rounds = Rounds::new();
        for (all, median) in [
            ([1, 20, 21, 22, 1], 20),
            ([20, 900, 21, 900, 22], 22),
            ([5, 4, 3, 2, 1], 3),
        ] {
            let [first @ .., last] = all;
            for one in first {
                assert_eq!(rounds.add(one), None);
            }
            assert_eq!(rounds.add(last), Some(median));
        }
    }
}
