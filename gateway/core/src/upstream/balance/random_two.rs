//! The power of two choices.

use super::{Candidates, Dice, Field, Member, dice::fraction};

/// Draws places, each as often as its weight says, at the same price however many there are (Vose's alias
/// method).
#[derive(Debug)]
pub(super) struct Draw(Box<[Column]>);

/// A place that is drawn, and with what probability; in all other cases it is its `alias`.
#[derive(Debug)]
struct Column {
    own: f64,
    alias: usize,
}

impl Draw {
    pub(super) fn new(members: &[Member<'_>]) -> Self {
        let total: f64 = members.iter().map(|member| f64::from(member.weight)).sum();
        let mean = total / members.len() as f64;
        let mut columns: Box<[Column]> = members
            .iter()
            .enumerate()
            .map(|(alias, member)| Column {
                own: f64::from(member.weight) / mean,
                alias,
            })
            .collect();
        let (mut light, mut heavy): (Vec<_>, Vec<_>) =
            (0..columns.len()).partition(|place| columns[*place].own < 1.0);
        while let (Some(short), Some(&giver)) = (light.pop(), heavy.last()) {
            columns[short].alias = giver;
            columns[giver].own -= 1.0 - columns[short].own;
            if columns[giver].own < 1.0 {
                heavy.pop();
                light.push(giver);
            }
        }
        Self(columns)
    }

    /// The better of two different ones; one that is refused gives its place to another.
    pub(super) fn pick(
        &self,
        candidates: &Candidates,
        field: &impl Field,
        mut dice: Dice,
    ) -> Option<u16> {
        let mut first = self.eager(candidates, field, &mut dice);
        let mut refused = None;
        for _ in 0..DRAWS {
            let second = self.other(first, &mut dice);
            let (better, worse) =
                if refused == Some(second) || is_fair(first, second, candidates, field) {
                    (first, second)
                } else {
                    (second, first)
                };
            let number = candidates.at(better).number;
            if field.usable(number) {
                return Some(number);
            }
            refused = Some(better);
            first = worse;
        }
        candidates.any(dice.below(candidates.len()), field)
    }

    /// Any place.
    fn draw(&self, dice: &mut Dice) -> usize {
        let place = dice.below(self.0.len());
        let column = &self.0[place];
        if fraction(dice.roll()) < column.own {
            place
        } else {
            column.alias
        }
    }

    /// Any place, those that start slowly less often.
    fn eager(&self, candidates: &Candidates, field: &impl Field, dice: &mut Dice) -> usize {
        let mut place = self.draw(dice);
        for _ in 0..DRAWS {
            if dice.chance(candidates.at(place).ease(field)) {
                break;
            }
            place = self.draw(dice);
        }
        place
    }

    /// Any place but `first`, if there is one.
    fn other(&self, first: usize, dice: &mut Dice) -> usize {
        let drawn = (0..REDRAWS)
            .map(|_| self.draw(dice))
            .find(|place| *place != first);
        // Its weight may be nearly all of the weight.
        drawn.unwrap_or_else(|| {
            let steps = dice.below(self.0.len().max(2) - 1) + 1;
            (first + steps) % self.0.len()
        })
    }
}

/// Whether `second` has, with the request, more to do for its weight than `first` has without.
fn is_fair(first: usize, second: usize, candidates: &Candidates, field: &impl Field) -> bool {
    candidates.at(first).load(field, 0.0) < candidates.at(second).load(field, 1.0)
}

/// How often another is drawn for one that is refused, or starts slowly.
const DRAWS: usize = 16;

/// How often another is drawn for one that was drawn already.
const REDRAWS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(weights: &[u16], draws: usize) -> Vec<f64> {
        let member = |(number, weight): (u16, &u16)| Member {
            number,
            weight: *weight,
            name: "",
        };
        let members: Vec<_> = (0..).zip(weights).map(member).collect();
        let (draw, mut counts) = (Draw::new(&members), vec![0.0; weights.len()]);
        for turn in 0..draws {
            counts[draw.draw(&mut Dice::new(7, turn))] += 1.0;
        }
        counts
    }

    #[test]
    fn each_is_drawn_as_often_as_its_weight_says() {
        for weights in [&[1_u16][..], &[5, 1, 1], &[1, 2, 3, 4, 90], &[7; 20]] {
            let total: f64 = weights.iter().copied().map(f64::from).sum();
            for (count, weight) in counts(weights, 200_000).iter().zip(weights) {
                let expected = 200_000.0 * f64::from(*weight) / total;
                assert!(
                    (count / expected - 1.0).abs() < 0.05,
                    "{count} of {expected}"
                );
            }
        }
    }

    #[test]
    fn the_other_is_another() {
        for weights in [&[1_u16, 1][..], &[65_535, 1, 1], &[3, 2, 1]] {
            let members: Vec<_> = weights
                .iter()
                .map(|weight| Member {
                    number: 0,
                    weight: *weight,
                    name: "",
                })
                .collect();
            let draw = Draw::new(&members);
            let mut seen = vec![false; weights.len()];
            for turn in 0..1_000 {
                let other = draw.other(0, &mut Dice::new(1, turn));
                assert_ne!(other, 0);
                seen[other] = true;
            }
            assert!(seen[1..].iter().all(|seen| *seen), "{seen:?}");
        }
    }
}
