//! Which upstream a request goes to, and whether it is copied.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::config::{self, Percent};

/// Shares requests out by weight.
#[derive(Debug)]
pub(crate) struct Split {
    parts: Box<[Part]>,
    /// The sum of all weights, which is not 0.
    total: u64,
}

#[derive(Debug)]
struct Part {
    /// Made of the name, so that the order of the list does not matter to values.
    seed: u64,
    weight: u16,
    /// The sum of the weights up to this one.
    end: u64,
}

impl Split {
    /// A split among upstreams, by name and weight. Some weight must not be 0.
    pub(crate) fn new<'n>(upstreams: impl IntoIterator<Item = (&'n str, u16)>) -> Self {
        let mut total = 0;
        let part = |(name, weight): (&str, u16)| {
            total += u64::from(weight);
            Part {
                seed: xxh3_64_with_seed(name.as_bytes(), 0),
                weight,
                end: total,
            }
        };
        let parts = upstreams.into_iter().map(part).collect();
        Self { parts, total }
    }

    /// The place in the list where a request goes: that of its `key`, or without one where the
    /// number `random` falls.
    ///
    /// A key stays where it is as long as no weight changes in proportion to the others; when one
    /// grows, keys move to it and nowhere else, and when it shrinks, from it.
    pub(crate) fn choose(&self, key: Option<u64>, random: u64) -> usize {
        let place = match key {
            Some(key) => self.of_key(key),
            None => self.of_chance(random),
        };
        place.unwrap_or_default()
    }

    /// Each part has as many of all numbers as its weight says, give or take one.
    fn of_chance(&self, random: u64) -> Option<usize> {
        let point = (u128::from(random) * u128::from(self.total)) >> u64::BITS;
        self.parts
            .iter()
            .position(|part| point < u128::from(part.end))
    }

    /// Weighted rendezvous hashing: for each part the key draws a waiting time, the shorter the larger
    /// the weight; the first wins. Weights of others don't change a part's time.
    fn of_key(&self, key: u64) -> Option<usize> {
        let waiting = |part: &Part| {
            let hash = xxh3_64_with_seed(&key.to_le_bytes(), part.seed);
            // The upper 53 bits as a number between 0 and 1 that is neither.
            let uniform = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
            -uniform.ln() / f64::from(part.weight)
        };
        self.parts
            .iter()
            .enumerate()
            .filter(|(_, part)| part.weight > 0)
            .map(|(place, part)| (place, waiting(part)))
            .min_by(|(_, one), (_, other)| one.total_cmp(other))
            .map(|(place, _)| place)
    }
}

/// A share of all requests, drawn by chance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Random numbers below are drawn; one more than any for all of them.
    end: u128,
}

impl Sample {
    pub(crate) fn new(share: Percent) -> Self {
        // A product of two numbers below 2^65, and exact for 0 and 1.
        let end = share.0 * (1_u128 << u64::BITS) as f64;
        Self { end: end as u128 }
    }

    /// Whether a request that drew this number belongs to the share.
    pub(crate) fn takes(self, random: u64) -> bool {
        u128::from(random) < self.end
    }
}

/// Which requests are copied, and what copies may cost.
#[derive(Debug)]
pub(crate) struct Mirror {
    /// As it was written.
    pub(crate) share: Percent,
    pub(crate) sample: Sample,
    /// In bytes; requests with larger bodies are not copied.
    pub(crate) max_body: usize,
    /// For a copy in all.
    pub(crate) timeout: Duration,
    /// One for each copy that may be under way.
    pub(crate) permits: Arc<Semaphore>,
}

impl Mirror {
    pub(crate) fn new(config: &config::Mirror) -> Self {
        Self {
            share: config.share,
            sample: Sample::new(config.share),
            max_body: usize::try_from(config.max_body.0).unwrap_or(usize::MAX),
            timeout: config.timeout.0,
            permits: Arc::new(Semaphore::new(config.max_requests.get().into())),
        }
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn split(weights: &[(&'static str, u16)]) -> Split {
        Split::new(weights.iter().copied())
    }

    /// Keys as people have them, and not random ones.
    fn keys() -> impl Iterator<Item = u64> {
        (0..200_000_u32).map(|number| xxh3_64_with_seed(&number.to_le_bytes(), 0))
    }

    #[test]
    fn chance_honours_weights_exactly() {
        let split = split(&[("stable", 95), ("canary", 5)]);
        let border = u64::try_from((95_u128 << 64).div_ceil(100)).unwrap();
        for (random, place) in [(0, 0), (border - 1, 0), (border, 1), (u64::MAX, 1)] {
            assert_eq!(split.choose(None, random), place, "{random}");
        }
    }

    #[test]
    fn a_weight_of_zero_gets_nothing() {
        let first = split(&[("off", 0), ("on", 1)]);
        let middle = split(&[("a", 1), ("off", 0), ("b", 1)]);
        let last = split(&[("on", u16::MAX), ("off", 0)]);
        for random in [0, 1, 1 << 63, (1 << 63) - 1, u64::MAX] {
            for key in [None, Some(random)] {
                assert_eq!(first.choose(key, random), 1);
                assert_ne!(middle.choose(key, random), 1);
                assert_eq!(last.choose(key, random), 0);
            }
        }
    }

    #[test]
    fn keys_are_shared_out_by_weight() {
        let split = split(&[("a", 50), ("b", 45), ("c", 5)]);
        let mut counts = [0_u32; 3];
        for key in keys() {
            counts[split.choose(Some(key), 0)] += 1;
        }
        for (count, weight) in counts.into_iter().zip([50, 45, 5]) {
            let expected = 2_000 * weight;
            assert!(count.abs_diff(expected) < expected / 20, "{counts:?}");
        }
    }

    #[test]
    fn a_key_goes_to_the_same_place_whatever_chance_says() {
        let split = split(&[("a", 1), ("b", 1)]);
        for key in keys().take(1_000) {
            let place = split.choose(Some(key), 0);
            assert_eq!(split.choose(Some(key), u64::MAX), place);
        }
    }

    #[test]
    fn a_canary_that_grows_takes_keys_and_gives_none() {
        let before = split(&[("stable", 95), ("canary", 5)]);
        for after in [
            split(&[("stable", 90), ("canary", 10)]),
            split(&[("stable", 95), ("canary", 10)]),
        ] {
            let mut moved = 0;
            for key in keys() {
                let (old, new) = (before.choose(Some(key), 0), after.choose(Some(key), 0));
                assert!((old, new) != (1, 0), "a key left the canary");
                moved += u32::from(old != new);
            }
            assert!((8_000..12_000).contains(&moved), "{moved} of 200000 moved");
        }
    }

    #[test]
    fn neither_a_new_upstream_nor_another_order_moves_other_keys() {
        let before = split(&[("a", 5), ("b", 5)]);
        let more = split(&[("c", 5), ("b", 5), ("a", 5)]);
        for key in keys().take(10_000) {
            let old = ["a", "b"][before.choose(Some(key), 0)];
            let new = ["c", "b", "a"][more.choose(Some(key), 0)];
            assert!(new == old || new == "c", "a key went from {old} to {new}");
        }
        let scaled = split(&[("b", 500), ("a", 500)]);
        for key in keys().take(10_000) {
            let places = (before.choose(Some(key), 0), scaled.choose(Some(key), 0));
            assert!(matches!(places, (0, 1) | (1, 0)));
        }
    }

    #[test]
    fn a_sample_takes_none_all_or_its_share() {
        for random in [0, 1, 1 << 63, u64::MAX] {
            assert!(!Sample::new(Percent::NONE).takes(random));
            assert!(Sample::new(Percent::ALL).takes(random));
        }
        let half = Sample::new("50%".parse().unwrap());
        assert!(half.takes((1 << 63) - 1));
        assert!(!half.takes(1 << 63));
        let tiny = Sample::new("0.5%".parse().unwrap());
        let taken = keys().filter(|random| tiny.takes(*random)).count();
        assert!((900..1_100).contains(&taken), "{taken} of 200000");
    }
}
