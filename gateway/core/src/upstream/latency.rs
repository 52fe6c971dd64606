//! How long an endpoint takes to answer, of late.
//!
//! A mean over time that believes bad news at once and good news slowly: an answer slower than the
//! mean becomes the mean, a faster one moves it by as much as time has gone by. Without requests it
//! falls towards nothing, so that an endpoint which was slow, and is avoided for it, gets another
//! request some day.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::clock::micros;

/// The time to answer, in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    /// The mean as the bits of an `f64`, as it was at `noted_at`; 0.0 before the first answer.
    mean: AtomicU64,
    noted_at: AtomicU64,
}

impl Latency {
    /// Notes that an answer at `now` took `micros`.
    pub(crate) fn note(&self, now: u64, micros: u64) {
        // Whoever moves the instant forward accounts for the time between: threads that come at
        // once do not let it pass twice.
        let before = self.noted_at.fetch_max(now, Ordering::Relaxed);
        let kept = kept_after(now.saturating_sub(before));
        // An answer takes some time, whatever the clock says: 0.0 means that nothing is known.
        let sample = micros.max(1) as f64;
        let mut seen = self.mean.load(Ordering::Relaxed);
        loop {
            let mean = f64::from_bits(seen);
            let next = if sample >= mean {
                sample
            } else {
                sample + (mean - sample) * kept
            };
            match self.mean.compare_exchange_weak(
                seen,
                next.to_bits(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(other) => seen = other,
            }
        }
    }

    /// Notes that an answer that has not come at `now` takes longer than `micros`. It may be no slower than
    /// usual: then that is no news.
    pub(crate) fn at_least(&self, now: u64, micros: u64) {
        if micros as f64 > self.get(now) {
            self.note(now, micros);
        }
    }

    /// The mean at `now`; 0.0 if nothing is known, or what was known is very old.
    pub(crate) fn get(&self, now: u64) -> f64 {
        let mean = f64::from_bits(self.mean.load(Ordering::Relaxed));
        if mean == 0.0 {
            return mean;
        }
        let idle = now.saturating_sub(self.noted_at.load(Ordering::Relaxed));
        mean * kept_after(idle)
    }
}

/// How much of a mean is left after a time in microseconds.
fn kept_after(elapsed: u64) -> f64 {
    (-(elapsed as f64) / micros(DECAY) as f64).exp()
}

/// After this time a mean still has a weight of 1/e.
const DECAY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn nothing_is_known_before_the_first_answer() {
        assert_eq!(Latency::default().get(SECOND), 0.0);
    }

    #[test]
    fn a_slow_answer_counts_at_once() {
        let latency = Latency::default();
        latency.note(SECOND, 1_000);
        assert_eq!(latency.get(SECOND), 1_000.0);
        latency.note(SECOND + 1, 500_000);
        assert_eq!(latency.get(SECOND + 1), 500_000.0);
    }

    #[test]
    fn fast_answers_count_by_the_time_that_has_gone_by() {
        let latency = Latency::default();
        latency.note(SECOND, 1_000_000);
        for _ in 0..1000 {
            latency.note(SECOND, 1_000);
        }
        assert_eq!(latency.get(SECOND), 1_000_000.0, "no time has gone by");
        latency.note(11 * SECOND, 1_000);
        let expected = 1_000.0 + 999_000.0 / std::f64::consts::E;
        assert!((latency.get(11 * SECOND) - expected).abs() < 1.0);
    }

    #[test]
    fn many_answers_decay_no_faster_than_one() {
        let (often, once) = (Latency::default(), Latency::default());
        often.note(SECOND, 1_000_000);
        once.note(SECOND, 1_000_000);
        for step in 1..=1000 {
            often.note(SECOND + step * 10_000, 1_000);
        }
        once.note(11 * SECOND, 1_000);
        let difference = often.get(11 * SECOND) - once.get(11 * SECOND);
        assert!(difference.abs() < 1.0, "{difference}");
    }

    #[test]
    fn a_thread_with_an_older_time_does_not_make_time_pass_twice() {
        let latency = Latency::default();
        latency.note(10 * SECOND, 1_000_000);
        latency.note(5 * SECOND, 1_000);
        latency.note(10 * SECOND, 1_000);
        assert_eq!(latency.get(10 * SECOND), 1_000_000.0);
    }

    #[test]
    fn an_idle_endpoint_is_forgiven_with_time() {
        let latency = Latency::default();
        latency.note(SECOND, 1_000_000);
        let after = |seconds: u64| latency.get((1 + seconds) * SECOND);
        assert!(after(1) > 900_000.0);
        assert!(after(10) < 370_000.0);
        assert!(after(60) < 2_500.0, "as good as one that answers in 3 ms");
        assert!(after(1_000_000) == 0.0, "as good as unknown");
    }

    #[test]
    fn an_answer_that_was_not_awaited_makes_an_endpoint_slower_and_never_faster() {
        let latency = Latency::default();
        latency.at_least(SECOND, 1_000);
        assert_eq!(latency.get(SECOND), 1_000.0);
        latency.at_least(SECOND, 60_000);
        assert_eq!(latency.get(SECOND), 60_000.0);
        latency.at_least(20 * SECOND, 10);
        let awaited = Latency::default();
        awaited.note(SECOND, 60_000);
        assert_eq!(latency.get(20 * SECOND), awaited.get(20 * SECOND));
    }

    #[test]
    fn no_input_makes_it_anything_but_a_number() {
        let latency = Latency::default();
        for (now, micros) in [(u64::MAX, u64::MAX), (1, 0), (u64::MAX, 0), (1, u64::MAX)] {
            latency.note(now, micros);
            for now in [1, u64::MAX] {
                assert!(latency.get(now).is_finite() && latency.get(now) >= 0.0);
            }
        }
    }

    #[test]
    fn threads_that_race_lose_no_peak() {
        for _ in 0..200 {
            let latency = Latency::default();
            thread::scope(|scope| {
                for thread in 1..=4 {
                    let latency = &latency;
                    scope.spawn(move || {
                        for step in 0..100 {
                            latency.note(SECOND, thread * 1_000 + step);
                        }
                    });
                }
            });
            assert_eq!(latency.get(SECOND), 4_099.0);
        }
    }
}
