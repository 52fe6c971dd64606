//! Outcomes of the last while, counted.
//!
//! A ring of ten slots, each of which counts for a tenth of the time. One slot is one atomic word
//! that says both which tenth it counts for and how much, so that no reader ever takes old counts
//! for new ones.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::clock::micros;

/// How many good and bad outcomes there were in the last [`SLOTS`] times `length`.
///
/// `length` is a parameter of each call because the configuration may change while the counts stay.
/// Counts under another length are not taken over: the window then starts anew.
#[derive(Debug, Default)]
pub(crate) struct Window {
    slots: [AtomicU64; SLOTS as usize],
}

/// What a window has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) good: u64,
    pub(crate) bad: u64,
}

impl Window {
    /// Counts one outcome at `now`, in microseconds; `length` is that of one slot.
    ///
    /// Never waits. A thread that was held up for the whole window between reading the clock and
    /// calling this may wipe one slot: a count is lost then, none is invented.
    pub(crate) fn note(&self, now: u64, length: Duration, good: bool) {
        let period = Period::at(now, length);
        let slot = &self.slots[period.slot()];
        let one = if good { ONE_GOOD } else { ONE_BAD };
        let mut seen = slot.load(Ordering::Relaxed);
        while turn(seen) != period.turn() {
            let first = (period.turn() << TURN_SHIFT) | one;
            match slot.compare_exchange_weak(seen, first, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => seen = other,
            }
        }
        // A slot that is full stops counting both, so that the share of either stays true.
        if good_of(seen) < FULL && bad_of(seen) < FULL {
            slot.fetch_add(one, Ordering::Relaxed);
        }
    }

    /// What was counted in the last ten slots, of which the newest has just begun: between nine and
    /// ten times `length`.
    pub(crate) fn counts(&self, now: u64, length: Duration) -> Counts {
        let newest = Period::at(now, length);
        let mut counts = Counts::default();
        for period in (0..SLOTS).filter_map(|age| newest.before(age)) {
            let seen = self.slots[period.slot()].load(Ordering::Relaxed);
            if turn(seen) == period.turn() {
                counts.good += good_of(seen);
                counts.bad += bad_of(seen);
            }
        }
        counts
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        for slot in &self.slots {
            slot.store(0, Ordering::Relaxed);
        }
    }
}

impl Counts {
    pub(crate) fn total(self) -> u64 {
        self.good + self.bad
    }

    /// How much of all is bad, 0.0 to 1.0. Of 7 in 100 it is the same number as a written `0.07`.
    pub(crate) fn bad_share(self) -> f64 {
        self.bad as f64 / self.total().max(1) as f64
    }
}

/// A tenth of a window: the `number`th since the clock began.
#[derive(Clone, Copy)]
struct Period {
    number: u64,
    /// Makes the turns of different lengths differ.
    salt: u64,
}

impl Period {
    fn at(now: u64, length: Duration) -> Self {
        let length = micros(length).max(1);
        Self {
            number: now / length,
            salt: length.wrapping_mul(SPREAD) >> TURN_SHIFT,
        }
    }

    fn before(self, age: u64) -> Option<Self> {
        let number = self.number.checked_sub(age)?;
        Some(Self { number, ..self })
    }

    fn slot(self) -> usize {
        (self.number % SLOTS) as usize
    }

    /// Which time around the ring this is. The same comes again after a million turns: in a window
    /// of one second after twelve days, and only in a slot that nobody used in between.
    fn turn(self) -> u64 {
        (self.number / SLOTS).wrapping_add(self.salt) & TURNS
    }
}

fn turn(word: u64) -> u64 {
    word >> TURN_SHIFT
}

fn good_of(word: u64) -> u64 {
    (word >> COUNT_BITS) & COUNT
}

fn bad_of(word: u64) -> u64 {
    word & COUNT
}

pub(crate) const SLOTS: u64 = 10;

// A slot: 20 bits of turn, 22 bits of good outcomes, 22 bits of bad ones.
const COUNT_BITS: u32 = 22;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
const TURN_SHIFT: u32 = 2 * COUNT_BITS;
const TURNS: u64 = u64::MAX >> TURN_SHIFT;
const ONE_GOOD: u64 = 1 << COUNT_BITS;
const ONE_BAD: u64 = 1;
/// Leaves room for the threads that have seen a lower count and are about to add to it.
const FULL: u64 = COUNT - 0xffff;
/// 2^64 divided by the golden ratio: spreads lengths that are close to each other.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicBool, thread};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> u64 {
        seconds * 1_000_000 + 1
    }

    fn counts(good: u64, bad: u64) -> Counts {
        Counts { good, bad }
    }

    #[test]
    fn outcomes_are_counted_by_kind() {
        let window = Window::default();
        window.note(at(0), SECOND, true);
        window.note(at(0), SECOND, true);
        window.note(at(5), SECOND, false);
        assert_eq!(window.counts(at(5), SECOND), counts(2, 1));
        window.clear();
        assert_eq!(window.counts(at(5), SECOND), counts(0, 0));
    }

    #[test]
    fn an_outcome_leaves_the_window_after_ten_slots() {
        let window = Window::default();
        window.note(at(3), SECOND, false);
        window.note(at(7), SECOND, true);
        assert_eq!(window.counts(at(12), SECOND), counts(1, 1));
        assert_eq!(window.counts(at(13), SECOND), counts(1, 0));
        assert_eq!(window.counts(at(17), SECOND), counts(0, 0));
        assert_eq!(window.counts(at(1003), SECOND), counts(0, 0));
    }

    #[test]
    fn a_slot_that_is_used_again_forgets_its_last_turn() {
        let window = Window::default();
        window.note(at(4), SECOND, false);
        window.note(at(14), SECOND, true);
        assert_eq!(window.counts(at(14), SECOND), counts(1, 0));
    }

    #[test]
    fn counts_of_another_length_are_not_taken_over() {
        let window = Window::default();
        window.note(at(35), SECOND, false);
        // Without the salt this would be the same slot and the same turn.
        assert_eq!(window.counts(at(70), 2 * SECOND), counts(0, 0));
        window.note(at(70), 2 * SECOND, true);
        assert_eq!(window.counts(at(70), 2 * SECOND), counts(1, 0));
    }

    #[test]
    fn lengths_at_the_limits_do_no_harm() {
        for length in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            for now in [1, u64::MAX] {
                let window = Window::default();
                window.note(now, length, true);
                assert_eq!(window.counts(now, length), counts(1, 0), "{length:?} {now}");
            }
        }
    }

    #[test]
    fn a_full_slot_keeps_the_share() {
        let window = Window::default();
        for number in 0..3 * COUNT {
            window.note(at(0), SECOND, number % 2 == 0);
        }
        let counts = window.counts(at(0), SECOND);
        assert!(counts.good >= FULL && counts.good <= COUNT, "{counts:?}");
        assert!(counts.good.abs_diff(counts.bad) <= 1, "{counts:?}");
        assert_eq!(window.counts(at(10), SECOND), self::counts(0, 0));
    }

    #[test]
    fn a_share_is_a_part_of_all() {
        assert_eq!(counts(0, 0).bad_share(), 0.0);
        assert_eq!(counts(93, 7).bad_share(), 0.07);
        assert_eq!(counts(0, 3).bad_share(), 1.0);
    }

    #[test]
    fn threads_within_one_slot_lose_nothing() {
        let window = Window::default();
        thread::scope(|scope| {
            for number in 0..4 {
                let window = &window;
                scope.spawn(move || {
                    for _ in 0..50_000 {
                        window.note(at(1), SECOND, number % 2 == 0);
                    }
                });
            }
        });
        assert_eq!(window.counts(at(1), SECOND), counts(100_000, 100_000));
    }

    #[test]
    fn threads_that_race_at_slot_changes_never_make_up_counts() {
        const EACH: u64 = 200_000;
        let window = Window::default();
        let running = AtomicBool::new(true);
        thread::scope(|scope| {
            let writers: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        // Ten outcomes a microsecond from each thread, so 300 in a window.
                        for step in 0..EACH {
                            window.note(1 + step / 10, Duration::from_micros(1), step % 2 == 0);
                        }
                    })
                })
                .collect();
            scope.spawn(|| {
                let mut step = 0;
                while running.load(Ordering::Relaxed) {
                    step = (step + 1) % (EACH / 10);
                    let counts = window.counts(step, Duration::from_micros(1));
                    // A thread that was held up may add one to a slot that has gone on.
                    assert!(counts.total() <= 300 + 3 * 10, "{counts:?}");
                }
            });
            for writer in writers {
                writer.join().unwrap();
            }
            running.store(false, Ordering::Relaxed);
        });
    }
}
