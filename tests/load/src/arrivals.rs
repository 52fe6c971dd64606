//! When requests leave: as answers come, or as planned beforehand.

use std::time::Duration;

/// What decides when a request leaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Arrivals {
    /// The answer to the one before it, on the same connection.
    WhenAnswered,
    /// A plan that does not care about answers, as clients that do not know each other.
    Planned { per_second: u32 },
}

/// Instants at which clients who do not know each other ask, as times since the start: gaps of all
/// lengths, long ones rarely. The same seed gives the same instants.
pub(crate) struct Instants {
    per_second: u32,
    drawn: u64,
    last: Duration,
}

impl Instants {
    pub(crate) fn new(per_second: u32, seed: u32) -> Self {
        Self {
            per_second,
            drawn: u64::from(seed) << 32,
            last: Duration::ZERO,
        }
    }

    /// Goes on, with times that count from a new start.
    pub(crate) fn restart(&mut self) {
        self.last = Duration::ZERO;
    }
}

impl Iterator for Instants {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.drawn += 1;
        let gap = -(1.0 - chance(self.drawn)).ln() / f64::from(self.per_second);
        self.last += Duration::from_secs_f64(gap);
        Some(self.last)
    }
}

/// From 0 to just under 1, evenly, and always the same for the same number.
pub(crate) fn chance(number: u64) -> f64 {
    // The finalizer of SplitMix64.
    let mut bits = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_requests_leave_in_a_second_as_planned() {
        let within = |time: &Duration| *time < Duration::from_secs(10);
        for seed in 0..20 {
            let count = Instants::new(2_000, seed).take_while(within).count();
            assert!((19_400..20_600).contains(&count), "{count}");
        }
    }

    #[test]
    fn gaps_are_those_of_clients_who_do_not_know_each_other() {
        let times: Vec<_> = Instants::new(1_000, 1).take(10_000).collect();
        let share = |least: u64| {
            let least = Duration::from_millis(least);
            let long = times.windows(2).filter(|pair| pair[1] - pair[0] > least);
            long.count() as f64 / 1e4
        };
        // e^-1 and e^-3.
        assert!((share(1) - 0.368).abs() < 0.02, "{}", share(1));
        assert!((share(3) - 0.050).abs() < 0.01, "{}", share(3));
    }

    #[test]
    fn the_same_seed_gives_the_same_instants_and_another_one_others() {
        let first = |seed| Instants::new(1_000, seed).nth(99);
        assert_eq!(first(3), first(3));
        assert_ne!(first(3), first(4));
    }
}
