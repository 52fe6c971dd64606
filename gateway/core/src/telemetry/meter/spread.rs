//! How long things take: counted by length.

use std::{
    ops::{AddAssign, Sub},
    time::Duration,
};

use super::stripes::{Counter, Writer};

/// The upper ends of the buckets, in microseconds; what is longer has a bucket of its own. Eight to a power of ten, so
/// that a quantile is off by a tenth or so.
pub(crate) const BOUNDS: [u64; 48] = [
    50, 70, 100, 150, 200, 250, 300, 400, 500, 700, 1_000, 1_500, 2_000, 2_500, 3_000, 4_000,
    5_000, 7_000, 10_000, 15_000, 20_000, 25_000, 30_000, 40_000, 50_000, 70_000, 100_000, 150_000,
    200_000, 250_000, 300_000, 400_000, 500_000, 700_000, 1_000_000, 1_500_000, 2_000_000,
    2_500_000, 3_000_000, 4_000_000, 5_000_000, 7_000_000, 10_000_000, 15_000_000, 20_000_000,
    30_000_000, 45_000_000, 60_000_000,
];

const BUCKETS: usize = BOUNDS.len() + 1;

/// Where lengths are counted.
#[derive(Debug)]
pub(super) struct Histogram {
    sum: Counter,
    buckets: [Counter; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            sum: Counter::default(),
            buckets: [const { Counter::new() }; BUCKETS],
        }
    }
}

impl Histogram {
    pub(super) fn note(&self, micros: u64, writer: Writer) {
        self.buckets[place(micros)].add(1, writer);
        self.sum.add(micros, writer);
    }

    pub(super) fn add_to(&self, spread: &mut Spread) {
        spread.micros += self.sum.get();
        for (sum, bucket) in spread.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.get();
        }
    }
}

/// The bucket of a length. This is asked several times for every request: what is sought is near where a table says.
fn place(micros: u64) -> usize {
    let bits = (u64::BITS - micros.leading_zeros()) as usize;
    let mut place = usize::from(NEAR[bits]);
    while BOUNDS.get(place).is_some_and(|bound| *bound < micros) {
        place += 1;
    }
    place
}

/// The first bucket for lengths with so many bits.
const NEAR: [u8; 65] = {
    let mut near = [0; 65];
    let mut bits = 1;
    while bits <= 64 {
        let least = 1_u64 << (bits - 1);
        let mut place = 0;
        while place < BOUNDS.len() && BOUNDS[place] < least {
            place += 1;
        }
        near[bits] = place as u8;
        bits += 1;
    }
    near
};

/// How long things have taken, at one moment or between two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spread {
    buckets: [u64; BUCKETS],
    /// All lengths together, in microseconds.
    micros: u64,
}

impl Default for Spread {
    fn default() -> Self {
        Self {
            buckets: [0; BUCKETS],
            micros: 0,
        }
    }
}

impl Spread {
    /// How many were counted.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All lengths together.
    pub(crate) fn sum(&self) -> Duration {
        Duration::from_micros(self.micros)
    }

    /// How many were no longer than each of the [`BOUNDS`].
    pub(crate) fn up_to(&self) -> [u64; BOUNDS.len()] {
        let mut sum = 0;
        std::array::from_fn(|place| {
            sum += self.buckets[place];
            sum
        })
    }

    pub(crate) fn mean(&self) -> Option<Duration> {
        let mean = self.micros.checked_div(self.count())?;
        Some(Duration::from_micros(mean))
    }

    /// What this share (0.0 to 1.0) of all have not taken longer than, as far as the buckets tell; none if there
    /// were none.
    pub(crate) fn quantile(&self, share: f64) -> Option<Duration> {
        let all = self.count();
        if all == 0 {
            return None;
        }
        let wanted = share.clamp(0.0, 1.0) * all as f64;
        let mut before = 0_u64;
        for (place, count) in self.buckets.iter().enumerate().filter(|(_, n)| **n > 0) {
            let upto = before + count;
            if upto as f64 >= wanted {
                let low = place.checked_sub(1).map_or(0, |below| BOUNDS[below]);
                // Of what is longer than everything nothing else is known.
                let high = BOUNDS.get(place).copied().unwrap_or(low);
                let part = ((wanted - before as f64) / *count as f64).max(0.0);
                let micros = low as f64 + (high - low) as f64 * part;
                return Some(Duration::from_secs_f64(micros / 1e6));
            }
            before = upto;
        }
        None
    }
}

impl AddAssign<&Self> for Spread {
    fn add_assign(&mut self, other: &Self) {
        self.micros += other.micros;
        for (sum, more) in self.buckets.iter_mut().zip(other.buckets) {
            *sum += more;
        }
    }
}

impl Sub for &Spread {
    type Output = Spread;

    /// What has come since `before`.
    fn sub(self, before: Self) -> Spread {
        Spread {
            buckets: std::array::from_fn(|place| {
                self.buckets[place].saturating_sub(before.buckets[place])
            }),
            micros: self.micros.saturating_sub(before.micros),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(micros: impl IntoIterator<Item = u64>) -> Spread {
        let histogram = Histogram::default();
        for micros in micros {
            histogram.note(micros, Writer::Alone);
        }
        let mut spread = Spread::default();
        histogram.add_to(&mut spread);
        spread
    }

    #[test]
    fn bounds_grow() {
        assert!(BOUNDS.is_sorted_by(|one, other| one < other));
    }

    #[test]
    fn a_length_is_counted_up_to_the_bound_that_it_does_not_exceed() {
        let spread = spread([0, 50, 51, 1_000, 1_001, 60_000_001]);
        let up_to = spread.up_to();
        assert_eq!((up_to[0], up_to[1], up_to[10], up_to[11]), (2, 3, 4, 5));
        assert_eq!((up_to[BOUNDS.len() - 1], spread.count()), (5, 6));
        assert_eq!(spread.sum(), Duration::from_micros(60_002_103));
    }

    #[test]
    fn the_bucket_is_the_first_that_is_long_enough() {
        let near = BOUNDS
            .iter()
            .flat_map(|bound| [bound - 1, *bound, bound + 1]);
        for micros in near.chain([0, 1, u64::MAX]) {
            let expected = BOUNDS.partition_point(|bound| *bound < micros);
            assert_eq!(place(micros), expected, "{micros}");
        }
    }

    #[test]
    fn a_quantile_is_near_the_truth() {
        let spread = spread(1..=100_000);
        for share in [0.5, 0.9, 0.99, 1.0] {
            let found = spread.quantile(share).unwrap().as_micros() as f64;
            let off = found / (share * 1e5) - 1.0;
            assert!(off.abs() < 0.02, "{share}: {found}");
        }
    }

    #[test]
    fn nothing_has_no_quantile_and_what_is_endless_has_the_last_bound() {
        assert_eq!(Spread::default().quantile(0.5), None);
        assert_eq!(Spread::default().mean(), None);
        let endless = spread([u64::MAX / 2]);
        assert_eq!(endless.quantile(0.5), Some(Duration::from_secs(60)));
    }

    #[test]
    fn what_has_come_since_is_the_difference() {
        let (before, after) = (spread([10, 2_000]), spread([10, 2_000, 3_000]));
        let since = &after - &before;
        assert_eq!(since, spread([3_000]));
        assert_eq!(&before - &after, Spread::default(), "never below nothing");
        let mut sum = before;
        sum += &since;
        assert_eq!(sum, after);
        assert_eq!(since.mean(), Some(Duration::from_millis(3)));
    }
}
