//! The members of a tier, as policies see them.

use super::{Field, Member};

/// A member that may be chosen.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) number: u16,
    pub(super) weight: f64,
}

impl Candidate {
    /// The part of its weight that it should get just now.
    pub(super) fn ease(&self, field: &impl Field) -> f64 {
        // `max` makes a number of what is none.
        field.ease(self.number).max(LEAST_EASE)
    }

    /// What it has to do for each unit of its weight: the requests under way and `more` of them.
    pub(super) fn load(&self, field: &impl Field, more: f64) -> f64 {
        (f64::from(field.active(self.number)) + more) / (self.weight * self.ease(field))
    }
}

/// Smaller than any slow start begins with, and large enough to divide by.
const LEAST_EASE: f64 = 1e-6;

/// All candidates of a tier; a place is an index into them.
#[derive(Debug)]
pub(super) struct Candidates {
    all: Box<[Candidate]>,
    pub(super) weight: f64,
}

impl Candidates {
    pub(super) fn new(members: &[Member<'_>]) -> Self {
        let candidate = |member: &Member<'_>| Candidate {
            number: member.number,
            weight: f64::from(member.weight),
        };
        Self {
            all: members.iter().map(candidate).collect(),
            weight: members.iter().map(|member| f64::from(member.weight)).sum(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn at(&self, place: usize) -> &Candidate {
        &self.all[place]
    }

    /// All of them with their places, the one at `start` first and the one before it last.
    pub(super) fn from(&self, start: usize) -> impl Iterator<Item = (usize, &Candidate)> {
        let (before, after) = self.all.split_at(start);
        (start..).zip(after).chain((0..).zip(before))
    }

    /// The first from `start` that is usable: what is left to try when a policy's own order has led
    /// nowhere.
    pub(super) fn any(&self, start: usize, field: &impl Field) -> Option<u16> {
        self.from(start)
            .map(|(_, candidate)| candidate.number)
            .find(|number| field.usable(*number))
    }
}
