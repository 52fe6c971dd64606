//! The order in which round robin asks endpoints.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A cycle of endpoints in which each stands as often as its weight says, evenly spread: weights 5,
/// 1, 1 give `a a b a c a a`, not `a a a a a b c`.
///
/// The cycle is written out beforehand, so that a pick is one atomic addition.
#[derive(Debug)]
pub(crate) struct Rotation {
    cycle: Box<[u16]>,
    turn: Arc<Turn>,
}

/// Whose turn it is. A resource: after each reload the first endpoint would be asked once too often.
#[derive(Debug, Default)]
pub(crate) struct Turn(AtomicUsize);

/// Longer cycles would cost memory and gain nothing that anyone could measure.
const LONGEST: u64 = 1 << 16;

impl Rotation {
    /// A cycle over `members`: an endpoint's number and its weight.
    pub(crate) fn new(members: &[(u16, u16)], turn: Arc<Turn>) -> Self {
        let weights = shortened(members);
        if weights.iter().all(|(_, weight)| *weight == 1) {
            return Self {
                cycle: weights.iter().map(|(number, _)| *number).collect(),
                turn,
            };
        }
        let total: i64 = weights.iter().map(|(_, weight)| weight).sum();
        let mut scores = vec![0; weights.len()];
        let mut cycle = Vec::with_capacity(usize::try_from(total).unwrap_or_default());
        for _ in 0..total {
            let mut best = 0;
            for (place, (_, weight)) in weights.iter().enumerate() {
                scores[place] += weight;
                if scores[place] > scores[best] {
                    best = place;
                }
            }
            scores[best] -= total;
            cycle.push(weights[best].0);
        }
        Self {
            cycle: cycle.into(),
            turn,
        }
    }

    /// How many turns the cycle has.
    pub(super) fn len(&self) -> usize {
        self.cycle.len()
    }

    /// Uses up a turn: how many were before it.
    pub(super) fn turn(&self) -> usize {
        self.turn.0.fetch_add(1, Ordering::Relaxed)
    }

    /// Whose turn this one is. None if there are no members.
    pub(super) fn at(&self, turn: usize) -> Option<usize> {
        let place = turn.checked_rem(self.cycle.len())?;
        Some(usize::from(self.cycle[place]))
    }

    /// Nobody could be picked in the turns since this one: whose it was is next again. Else those who
    /// ask once more, with lower demands, might always come to the same endpoints.
    pub(super) fn go_back_to(&self, turn: usize) {
        let used = self.turn.0.load(Ordering::Relaxed).wrapping_sub(turn);
        // Forward, so that no turn comes twice.
        if let Some(used) = used.checked_rem(self.cycle.len()).filter(|used| *used > 0) {
            let left = self.cycle.len() - used;
            self.turn.0.fetch_add(left, Ordering::Relaxed);
        }
    }

    /// Uses up a turn: how many were before it, and whose it is. None if there are no members.
    pub(super) fn advance(&self) -> Option<(usize, usize)> {
        let turn = self.turn();
        Some((turn, self.at(turn)?))
    }
}

/// The weights divided by what they have in common, and coarsened if their cycle were too long.
fn shortened(members: &[(u16, u16)]) -> Vec<(u16, i64)> {
    let common = members
        .iter()
        .fold(0, |common, (_, weight)| gcd(common, u64::from(*weight)))
        .max(1);
    let total: u64 = members
        .iter()
        .map(|(_, weight)| u64::from(*weight) / common)
        .sum();
    let coarse = common * total.div_ceil(LONGEST).max(1);
    let short = |weight: u16| i64::try_from(u64::from(weight).div_ceil(coarse)).unwrap_or(1);
    members
        .iter()
        .map(|(number, weight)| (*number, short(*weight)))
        .collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(members: &[(u16, u16)], count: usize) -> Vec<u16> {
        let rotation = Rotation::new(members, Arc::default());
        (0..count)
            .map(|_| u16::try_from(rotation.advance().unwrap().1).unwrap())
            .collect()
    }

    #[test]
    fn weights_are_exact_and_evenly_spread() {
        assert_eq!(picks(&[(0, 5), (1, 1), (2, 1)], 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(picks(&[(0, 2), (1, 2)], 4), [0, 1, 0, 1]);
    }

    #[test]
    fn nobody_has_a_turn_where_nobody_is() {
        assert_eq!(Rotation::new(&[], Arc::default()).advance(), None);
    }

    #[test]
    fn a_cycle_stays_short_whatever_the_weights() {
        let members: Vec<_> = (0..1000).map(|number| (number, 65_535 - number)).collect();
        let rotation = Rotation::new(&members, Arc::default());
        assert!(
            rotation.cycle.len() <= 2 * usize::try_from(LONGEST).unwrap(),
            "{}",
            rotation.cycle.len()
        );
    }
}
