//! The algorithm: GCRA, the leaky bucket as a meter.
//!
//! Each request raises a level by its cost, and the level sinks steadily, by one unit in each interval.
//! A request passes if the level stays within the capacity: one, and the burst. All that has to be known
//! of a key is the time when its level will be zero: if that is over, there is nothing to know.
//!
//! Where not the whole burst passes at once, the level also tells how long it is until a request's turn.

use std::time::Duration;

/// Nanoseconds: times since some beginning, and lengths of time.
pub(super) type Nanos = u64;

/// One limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gcra {
    /// How long it takes for one unit to sink; never zero.
    pub(super) interval: Nanos,
    /// How many units fit in beside the first.
    pub(super) burst: u32,
    /// How many of the burst need not wait for their turn.
    pub(super) at_once: u32,
    /// The units of each request; at least 1, and no more than all that fit in.
    pub(super) cost: u32,
}

/// A request that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    /// When the level will be zero, with the request in it.
    pub(super) empty_at: Nanos,
    /// How long it is until the request's turn.
    pub(super) wait: Nanos,
}

impl Gcra {
    /// What becomes of a request; if it does not pass, it may be tried again after the time that is the error.
    pub(super) fn arrive(&self, empty_at: Nanos, now: Nanos) -> Result<Pass, Nanos> {
        let debt = empty_at.saturating_sub(now);
        let over = debt
            .saturating_add(self.price())
            .saturating_sub(self.capacity());
        if over > 0 {
            return Err(over);
        }
        Ok(Pass {
            empty_at: now + debt + self.price(),
            wait: debt.saturating_sub(u64::from(self.at_once) * self.interval),
        })
    }

    /// Counts a request that others have let pass, whether it fits in or not.
    pub(super) fn note(&self, empty_at: Nanos, now: Nanos) -> Nanos {
        let debt = empty_at.saturating_sub(now).saturating_add(self.price());
        now + debt.min(self.capacity())
    }

    /// Takes back what a request was charged.
    pub(super) fn refund(&self, empty_at: Nanos) -> Nanos {
        empty_at.saturating_sub(self.price())
    }

    /// How many units fit in now, and how long it is until another one does; zero if all are free.
    pub(super) fn left(&self, empty_at: Nanos, now: Nanos) -> (u64, Nanos) {
        let debt = empty_at.saturating_sub(now);
        let free = self.capacity().saturating_sub(debt) / self.interval;
        let next = match debt % self.interval {
            0 => debt.min(self.interval),
            part => part,
        };
        (free, next)
    }

    /// A level of so many millionths of a unit, as the time that it takes to sink.
    pub(super) fn debt(&self, millionths: u64) -> Nanos {
        let debt = u128::from(millionths) * u128::from(self.interval) / 1_000_000;
        u64::try_from(debt).unwrap_or(u64::MAX)
    }

    /// What fits in, as the time that it takes to sink.
    pub(super) fn capacity(&self) -> Nanos {
        (u64::from(self.burst) + 1) * self.interval
    }

    fn price(&self) -> Nanos {
        u64::from(self.cost) * self.interval
    }
}

/// Whole seconds, rounded up: who comes back after them does not come too early.
pub(super) fn seconds(time: Nanos) -> u64 {
    time.div_ceil(Duration::from_secs(1).as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    const MS: Nanos = 1_000_000;
    const START: Nanos = 1_000_000 * MS;

    fn limit(interval: Nanos, burst: u32, at_once: u32, cost: u32) -> Gcra {
        Gcra {
            interval,
            burst,
            at_once,
            cost,
        }
    }

    /// One key.
    struct Key {
        gcra: Gcra,
        empty_at: Nanos,
    }

    impl Key {
        fn new(gcra: Gcra) -> Self {
            Self { gcra, empty_at: 0 }
        }

        fn arrive(&mut self, now: Nanos) -> Result<Nanos, Nanos> {
            let pass = self.gcra.arrive(self.empty_at, now)?;
            self.empty_at = pass.empty_at;
            Ok(pass.wait)
        }

        fn passes(&mut self, now: Nanos) -> bool {
            self.arrive(now).is_ok()
        }
    }

    #[test]
    fn without_a_burst_one_passes_in_each_interval() {
        let mut key = Key::new(limit(100 * MS, 0, 0, 1));
        assert!(key.passes(START));
        assert_eq!(key.arrive(START), Err(100 * MS));
        assert_eq!(key.arrive(START + 99 * MS), Err(MS));
        assert!(key.passes(START + 100 * MS));
        // #55: so many as the rate allows, evenly, for as long as one likes.
        assert!((2..1_000).all(|n| key.passes(START + n * 100 * MS)));
    }

    #[test]
    fn a_burst_passes_beside_the_first_and_then_one_in_each_interval() {
        // #56
        let mut key = Key::new(limit(100 * MS, 20, 20, 1));
        assert_eq!((0..100).filter(|_| key.arrive(START) == Ok(0)).count(), 21);
        assert_eq!(key.arrive(START), Err(100 * MS));
        for n in 1..50 {
            assert!(!key.passes(START + n * 100 * MS - 1));
            assert!(key.passes(START + n * 100 * MS));
            assert!(!key.passes(START + n * 100 * MS));
        }
    }

    #[test]
    fn what_is_refused_is_not_counted() {
        let mut key = Key::new(limit(100 * MS, 0, 0, 1));
        assert!(key.passes(START));
        assert!((0..99).all(|n| !key.passes(START + n * MS)));
        assert!(key.passes(START + 100 * MS));
    }

    #[test]
    fn a_request_of_higher_cost_takes_the_place_of_several() {
        let mut key = Key::new(limit(100 * MS, 9, 9, 4));
        assert!(key.passes(START) && key.passes(START));
        assert_eq!(key.arrive(START), Err(200 * MS));
        assert_eq!(key.gcra.left(key.empty_at, START), (2, 100 * MS));
    }

    #[test]
    fn what_is_left_and_until_when_is_told() {
        let gcra = limit(100 * MS, 4, 4, 1);
        let mut key = Key::new(gcra);
        assert_eq!(gcra.left(key.empty_at, START), (5, 0));
        key.passes(START);
        assert_eq!(gcra.left(key.empty_at, START), (4, 100 * MS));
        assert_eq!(gcra.left(key.empty_at, START + 30 * MS), (4, 70 * MS));
        key.passes(START + 30 * MS);
        assert_eq!(gcra.left(key.empty_at, START + 30 * MS), (3, 70 * MS));
        assert_eq!(seconds(0), 0);
        assert_eq!(seconds(1), 1);
        assert_eq!(seconds(1_000 * MS), 1);
        assert_eq!(seconds(1_000 * MS + 1), 2);
    }

    #[test]
    fn the_burst_that_does_not_pass_at_once_waits_as_in_nginx() {
        // nginx: rate=1r/s burst=5 delay=2
        let second = 1_000 * MS;
        let mut key = Key::new(limit(second, 5, 2, 1));
        let waits: Vec<_> = (0..7).map(|_| key.arrive(START)).collect();
        let turn = |seconds| Ok(seconds * second);
        let expected = [
            turn(0),
            turn(0),
            turn(0),
            turn(1),
            turn(2),
            turn(3),
            Err(second),
        ];
        assert_eq!(waits, expected);
        // nginx: rate=1r/s burst=2
        let mut key = Key::new(limit(second, 2, 0, 1));
        let waits: Vec<_> = (0..4).map(|_| key.arrive(START)).collect();
        assert_eq!(waits, [turn(0), turn(1), turn(2), Err(second)]);
    }

    #[test]
    fn those_that_wait_pass_one_in_each_interval() {
        let mut random = StdRng::seed_from_u64(57);
        for _ in 0..2_000 {
            let burst = random.random_range(1..8);
            let gcra = limit(
                random.random_range(2..20),
                burst,
                random.random_range(0..burst),
                1,
            );
            let (mut key, mut now) = (Key::new(gcra), START);
            let mut passed = Vec::new();
            for _ in 0..200 {
                now += random.random_range(0..8);
                if let Ok(wait) = key.arrive(now) {
                    assert!(wait <= u64::from(burst - gcra.at_once) * gcra.interval);
                    passed.push(now + wait);
                }
            }
            assert!(passed.is_sorted(), "each waits behind those before it");
            assert_never_more(&gcra, &passed, gcra.at_once);
        }
    }

    #[test]
    fn in_no_length_of_time_more_passes_than_the_burst_and_the_rate() {
        let mut random = StdRng::seed_from_u64(55);
        for _ in 0..2_000 {
            let burst = random.random_range(0..6);
            let cost = random.random_range(1..=burst + 1);
            let gcra = limit(random.random_range(1..50), burst, burst, cost);
            let (mut key, mut now) = (Key::new(gcra), START);
            let mut passed = Vec::new();
            for _ in 0..200 {
                now += random.random_range(0..30);
                if key.passes(now) {
                    passed.push(now);
                }
            }
            assert_never_more(&gcra, &passed, burst);
        }
    }

    /// Between any two requests no more passes than the first, so many beside it, and what the rate allows.
    fn assert_never_more(gcra: &Gcra, passed: &[Nanos], burst: u32) {
        for (at, first) in passed.iter().enumerate() {
            for (more, last) in passed.iter().skip(at).enumerate() {
                let units = (more as u64 + 1) * u64::from(gcra.cost);
                let allowed = u64::from(burst) + 1 + (last - first) / gcra.interval;
                assert!(units <= allowed, "{gcra:?}: {passed:?}");
            }
        }
    }

    #[test]
    fn it_decides_as_a_bucket_with_a_hole_does() {
        let mut random = StdRng::seed_from_u64(56);
        for _ in 0..2_000 {
            let burst = random.random_range(0..6);
            let cost = random.random_range(1..=burst + 1);
            let gcra = limit(random.random_range(1..50), burst, burst, cost);
            let (mut key, mut now) = (Key::new(gcra), START);
            // In nanoseconds of sinking.
            let mut level = 0;
            for _ in 0..300 {
                let pause = random.random_range(0..40);
                now += pause;
                level = u64::saturating_sub(level, pause);
                let fits = level + gcra.price() <= gcra.capacity();
                assert_eq!(key.passes(now), fits, "{gcra:?}");
                if fits {
                    level += gcra.price();
                }
                assert_eq!(key.empty_at.saturating_sub(now), level);
            }
        }
    }

    #[test]
    fn what_is_taken_back_was_never_charged() {
        let gcra = limit(100 * MS, 3, 3, 2);
        let mut key = Key::new(gcra);
        key.passes(START);
        let before = key.empty_at;
        key.passes(START);
        assert_eq!(gcra.refund(key.empty_at), before);
    }

    #[test]
    fn what_others_let_pass_fills_it_and_no_more() {
        let gcra = limit(100 * MS, 3, 3, 2);
        let once = gcra.note(0, START);
        assert_eq!(once, START + 200 * MS);
        let full = gcra.note(gcra.note(once, START), START);
        assert_eq!(full, START + gcra.capacity());
        assert_eq!(gcra.arrive(full, START), Err(200 * MS));
    }
}
