//! Chance that a test can repeat.

/// A source of random numbers for one pick, made of whose turn it is: it costs threads nothing that they
/// share but the turn.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64, turn: usize) -> Self {
        Self(mix(seed ^ mix(turn as u64)))
    }

    /// Any number.
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number below `end`, which is below 2^32 and not 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (((self.roll() >> 32) * end as u64) >> 32) as usize
    }

    /// True with this probability.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        probability >= 1.0 || fraction(self.roll()) < probability
    }
}

/// A number from 0 to 1, which it does not reach, of the upper half of `bits`.
pub(super) fn fraction(bits: u64) -> f64 {
    (bits >> 32) as f64 / 4_294_967_296.0
}

/// Each bit of the result depends on all bits of `bits`, and different ones stay different (the last step
/// of SplitMix64).
pub(super) fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// 2^64 divided by the golden ratio: multiples of it are evenly spread.
pub(super) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_are_as_given_and_numbers_even() {
        let mut counts = [0_u32; 7];
        let mut heads = 0_u32;
        for turn in 0..70_000 {
            let mut dice = Dice::new(1, turn);
            counts[dice.below(7)] += 1;
            heads += u32::from(dice.chance(0.1));
        }
        assert!(
            counts.iter().all(|count| (9_600..10_400).contains(count)),
            "{counts:?}"
        );
        assert!((6_700..7_300).contains(&heads), "{heads}");
        assert!(Dice::new(1, 1).chance(1.0));
        assert!(!Dice::new(1, 1).chance(0.0));
    }
}
