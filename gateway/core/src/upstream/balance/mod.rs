//! Which of several endpoints, by policy.
//!
//! This part is pure: it opens nothing, waits for nothing and knows no time. What it must know about
//! endpoints it asks a [`Field`]. A pick takes no lock and allocates nothing; threads that pick at the same
//! time share a counter, and each may miss what the others are about to do.
//!
//! # Weights and the number of requests
//!
//! To count requests is not enough where weights differ. With nothing under way, the smallest
//! `(active + 1) / weight` is always that of the heaviest endpoint, and it would get everything for as long
//! as requests come one after the other. So whoever's turn it is by weight has the first claim, unless
//! another would be better off *with* the request than it is *without*. With equal weights that is the
//! smallest number of requests, and ties in turn.

mod candidate;
mod dice;
pub(crate) mod key;
mod least;
mod random_two;
mod ring;
pub(super) mod rotation;
mod round_robin;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(crate) use self::rotation::Turn;
use self::{
    candidate::{Candidate, Candidates},
    dice::Dice,
    least::{Least, Measure},
    random_two::Draw,
    ring::Ring,
    rotation::Rotation,
    round_robin::round_robin,
};

/// By what an endpoint is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Policy {
    /// One after the other, each as often as its weight says.
    RoundRobin,
    /// The one with the fewest requests for its weight.
    LeastConnections,
    /// The one that is likely to answer first: latency times requests, for its weight.
    LeastTime,
    /// The better of two that chance has chosen.
    RandomTwo,
    /// The same one for the same key. With a bound, none has more than its share of all requests under way
    /// times `bound`, which is 1 or more; what is too much goes to the next on the ring.
    Hash { bound: Option<f64> },
}

/// An endpoint that a policy may choose. One of weight 0 is never chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    /// What [`Tier::pick`] gives back.
    pub(crate) number: u16,
    pub(crate) weight: u16,
    /// What its place on the ring depends on, so that it has the same one wherever it is listed.
    pub(crate) name: &'a str,
}

/// What a policy may ask of an endpoint of its tier, by its number.
pub(crate) trait Field {
    /// Whether it can be chosen. Asked last, of the endpoint that would be chosen, so it may take the one
    /// trial that an endpoint which is coming back has. One that has refused may be asked again.
    fn usable(&self, number: u16) -> bool;

    /// Its requests under way.
    fn active(&self, number: u16) -> u32;

    /// How long it takes to answer, in microseconds; 0 if that is unknown.
    fn latency(&self, number: u16) -> f64;

    /// The part of its weight that it should get just now: 1, or less during slow start.
    fn ease(&self, number: u16) -> f64;
}

/// Endpoints that stand for each other, and the policy that chooses among them.
#[derive(Debug)]
pub(crate) struct Tier {
    candidates: Candidates,
    rotation: Rotation,
    plan: Plan,
    /// So that gateways which start together do not choose alike.
    seed: u64,
}

/// A policy, with what it has prepared.
#[derive(Debug)]
enum Plan {
    RoundRobin,
    Least(Measure),
    RandomTwo(Draw),
    Hash { ring: Ring, bound: Option<f64> },
}

impl Tier {
    /// A tier of `members`, which goes on at this `turn`.
    pub(crate) fn new(policy: Policy, members: &[Member<'_>], turn: Arc<Turn>) -> Self {
        Self::seeded(policy, members, turn, rand::random())
    }

    fn seeded(policy: Policy, members: &[Member<'_>], turn: Arc<Turn>, seed: u64) -> Self {
        let members: Vec<_> = members
            .iter()
            .copied()
            .filter(|member| member.weight > 0)
            .collect();
        let weights: Vec<_> = (0..)
            .zip(&members)
            .map(|(place, member)| (place, member.weight))
            .collect();
        let plan = match policy {
            Policy::RoundRobin => Plan::RoundRobin,
            Policy::LeastConnections => Plan::Least(Measure::Connections),
            Policy::LeastTime => Plan::Least(Measure::Time),
            Policy::RandomTwo => Plan::RandomTwo(Draw::new(&members)),
            Policy::Hash { bound } => Plan::Hash {
                ring: Ring::new(&members),
                bound,
            },
        };
        // Two choices need to know which turn it is, but nobody's.
        let cycle = match policy {
            Policy::RandomTwo => &[],
            Policy::RoundRobin
            | Policy::LeastConnections
            | Policy::LeastTime
            | Policy::Hash { .. } => &weights[..],
        };
        Self {
            candidates: Candidates::new(&members),
            rotation: Rotation::new(cycle, turn),
            plan,
            seed,
        }
    }

    /// The number of a member that is usable, or none if none is.
    ///
    /// `key` is what [`Policy::Hash`] goes by, a hash; without one it is as round robin.
    pub(crate) fn pick(&self, field: &impl Field, key: Option<u64>) -> Option<u16> {
        if self.candidates.is_empty() {
            return None;
        }
        match (&self.plan, key) {
            (Plan::Hash { ring, bound }, Some(key)) => {
                ring.pick(key, *bound, &self.candidates, field)
            }
            (Plan::RoundRobin, _) | (Plan::Hash { .. }, None) => round_robin(self, field),
            (Plan::Least(measure), _) => Least::new(*measure, self, field).pick(),
            (Plan::RandomTwo(draw), _) => {
                let dice = Dice::new(self.seed, self.rotation.turn());
                draw.pick(&self.candidates, field, dice)
            }
        }
    }
}
