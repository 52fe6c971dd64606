//! Round robin, with endpoints that start slowly.

use super::{Dice, Field, Tier};

/// The next in turn that is usable and, if it should get less than its weight, has luck.
///
/// Those that are passed over lose their turns, so their share is spread over all others. When a whole
/// cycle has led nowhere, chance is left out: a request is worth more than an exact share.
pub(super) fn round_robin(tier: &Tier, field: &impl Field) -> Option<u16> {
    let (mut first, mut refused) = (None, None);
    for _ in 0..tier.rotation.len() {
        let (turn, place) = tier.rotation.advance()?;
        first = first.or(Some(turn));
        // Among many turns of an endpoint that is down, few are of another.
        if refused == Some(place) {
            continue;
        }
        let candidate = tier.candidates.at(place);
        if !Dice::new(tier.seed, turn).chance(candidate.ease(field)) {
            continue;
        }
        if field.usable(candidate.number) {
            return Some(candidate.number);
        }
        refused = Some(place);
    }
    let (_, place) = tier.rotation.advance()?;
    let any = tier.candidates.any(place, field);
    if let (None, Some(first)) = (any, first) {
        tier.rotation.go_back_to(first);
    }
    any
}
