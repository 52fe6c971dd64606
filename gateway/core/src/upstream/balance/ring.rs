//! A ring of slots, each of which belongs to an endpoint: the same key finds the same one.
//!
//! A slot belongs to whoever claims it first. Each endpoint claims all slots, in an order that depends on
//! its name only, at a pace that depends on its weight only. So who owns a slot depends on no more than
//! its claimants: when an endpoint leaves, its slots go to others and no other slot changes hands; when one
//! comes or gains weight, it takes slots and nobody else does. That holds for all weights, which a ring of
//! points does not give: there, the number of points of one endpoint depends on the weights of the others.
//!
//! The times of claims are those of an exponential distribution, evenly sampled. It is the one by which the
//! share of slots is exactly the share of weight.

use std::cell::Cell;

use super::{
    Candidates, Field, Member,
    dice::{GOLDEN, fraction, mix},
    key::hash,
};

#[derive(Debug)]
pub(super) struct Ring {
    /// The places of their owners. A power of two.
    slots: Box<[u16]>,
}

impl Ring {
    pub(super) fn new(members: &[Member<'_>]) -> Self {
        if members.is_empty() {
            return Self {
                slots: Box::default(),
            };
        }
        let bits = if members.len() <= FEW {
            BITS
        } else {
            MORE_BITS
        };
        let mut claims: Vec<_> = (0..)
            .zip(members)
            .map(|(place, member)| Claims::new(place, member, bits))
            .collect();
        // Claims at the same time are settled by name, not by who is listed first.
        claims.sort_by_key(|claims| members[usize::from(claims.place)].name);
        let paces = paces(1 << bits);
        let total: f64 = claims.iter().map(|claims| claims.weight).sum();
        let mut land = Land::new(1 << bits);
        let mut horizon = HORIZON / total;
        while land.free > 0 {
            claims
                .iter_mut()
                .for_each(|claims| claims.stake(horizon, &paces, &mut land));
            horizon *= 1.5;
        }
        Self {
            slots: land.owners.into(),
        }
    }

    /// The owner of the key's slot; if it may not be chosen, that of the next slot, and so on.
    ///
    /// One that starts slowly has a part of its keys, which grows and gives none away again. With a `bound`,
    /// an endpoint that has its share of the requests under way is passed over. When that leaves nobody,
    /// because the share of those that are not usable or start slowly is missing, the rules are relaxed.
    pub(super) fn pick(
        &self,
        key: u64,
        bound: Option<f64>,
        candidates: &Candidates,
        field: &impl Field,
    ) -> Option<u16> {
        let search = Search {
            ring: self,
            key,
            candidates,
            field,
            total: Cell::new(None),
        };
        let bound = bound.map_or(f64::INFINITY, |bound| bound.max(1.0));
        for (start, factor) in STAGES {
            match search.walk(start, bound * factor) {
                Outcome::Found(number) => return Some(number),
                Outcome::NoneUsable => return None,
                Outcome::SomeSpared => {}
            }
        }
        None
    }

    fn slot(&self, key: u64) -> usize {
        (key >> (64 - self.slots.len().trailing_zeros())) as usize
    }
}

/// The rules of one walk round the ring after the other: whether endpoints that start slowly are spared, and
/// how far the bound is stretched. The last has no rules, so it finds whoever is usable.
const STAGES: [(Start, f64); 7] = [
    (Start::Slow, 1.0),
    (Start::Slow, 1.5),
    (Start::Any, 1.0),
    (Start::Any, 1.5),
    (Start::Any, 2.5),
    (Start::Any, 5.0),
    (Start::Any, f64::INFINITY),
];

#[derive(Clone, Copy, PartialEq)]
enum Start {
    Slow,
    Any,
}

enum Outcome {
    Found(u16),
    /// All were asked.
    NoneUsable,
    /// Some were passed over and not asked.
    SomeSpared,
}

/// The way of one key round the ring.
struct Search<'a, F> {
    ring: &'a Ring,
    key: u64,
    candidates: &'a Candidates,
    field: &'a F,
    /// How many requests are under way, if that was needed.
    total: Cell<Option<f64>>,
}

impl<F: Field> Search<'_, F> {
    /// The first on the way whom the rules allow and who is usable.
    fn walk(&self, start: Start, bound: f64) -> Outcome {
        let (mut last, mut spared) = (None, false);
        for place in self.way() {
            if last.replace(place) == Some(place) {
                continue;
            }
            if start == Start::Slow && !self.is_eager(place) || !self.is_within(bound, place) {
                spared = true;
                continue;
            }
            let number = self.candidates.at(place).number;
            if self.field.usable(number) {
                return Outcome::Found(number);
            }
        }
        if spared {
            Outcome::SomeSpared
        } else {
            Outcome::NoneUsable
        }
    }

    /// The owners of the slots from that of the key on. At last everyone in the order of the list: an
    /// endpoint may have few slots, or none.
    fn way(&self) -> impl Iterator<Item = usize> {
        let (slots, count) = (&self.ring.slots, self.candidates.len());
        let start = self.ring.slot(self.key);
        let steps = slots.len().min(count * ROUNDS);
        let owners = (start..start + steps).map(|slot| usize::from(slots[slot % slots.len()]));
        let rest = self.candidates.from(start % count);
        owners.chain(rest.map(|(place, _)| place))
    }

    /// Whether the key is among those that a candidate has already, if it starts slowly.
    fn is_eager(&self, place: usize) -> bool {
        let ease = self.candidates.at(place).ease(self.field);
        ease >= 1.0 || fraction(mix(self.key ^ GOLDEN.wrapping_mul(place as u64 + 1))) < ease
    }

    /// Whether a candidate has less than its share of all requests, this one included, times `bound`.
    ///
    /// The total takes a look at all endpoints. So it is only asked for when a candidate has something to
    /// do, and the sum goes no further than it must to allow one more.
    fn is_within(&self, bound: f64, place: usize) -> bool {
        if bound == f64::INFINITY {
            return true;
        }
        let candidate = self.candidates.at(place);
        let active = self.field.active(candidate.number);
        if active == 0 {
            return true;
        }
        let share = candidate.weight / self.candidates.weight;
        let needed = f64::from(active) / (bound * share) - 1.0;
        match self.total.get() {
            Some(total) => total > needed,
            None => self.total_exceeds(needed, place),
        }
    }

    /// Whether more requests are under way than this.
    fn total_exceeds(&self, needed: f64, start: usize) -> bool {
        let mut sum = 0.0;
        for (_, candidate) in self.candidates.from(start) {
            sum += f64::from(self.field.active(candidate.number));
            if sum > needed {
                return true;
            }
        }
        self.total.set(Some(sum));
        false
    }
}

/// Slots that are being given out.
struct Land {
    owners: Vec<u16>,
    since: Vec<f64>,
    free: usize,
}

impl Land {
    fn new(size: usize) -> Self {
        Self {
            owners: vec![0; size],
            since: vec![f64::INFINITY; size],
            free: size,
        }
    }

    fn claim(&mut self, slot: usize, time: f64, owner: u16) {
        if self.since[slot] == f64::INFINITY {
            self.free -= 1;
        }
        if time < self.since[slot] {
            self.since[slot] = time;
            self.owners[slot] = owner;
        }
    }
}

/// What a member claims, and how far it has come.
struct Claims {
    place: u16,
    weight: f64,
    order: Order,
    next: usize,
}

impl Claims {
    fn new(place: u16, member: &Member<'_>, bits: u32) -> Self {
        Self {
            place,
            weight: f64::from(member.weight),
            order: Order::new(member.name, bits),
            next: 0,
        }
    }

    /// Makes all claims up to the time `horizon`.
    fn stake(&mut self, horizon: f64, paces: &[f64], land: &mut Land) {
        let until = horizon * self.weight;
        while let Some(pace) = paces.get(self.next).filter(|pace| **pace <= until) {
            land.claim(self.order.slot(self.next), pace / self.weight, self.place);
            self.next += 1;
        }
    }
}

/// When a member of weight 1 makes its claims.
fn paces(count: usize) -> Vec<f64> {
    let sample = |rank: usize| (rank as f64 + 0.5) / count as f64;
    (0..count).map(|rank| -(-sample(rank)).ln_1p()).collect()
}

/// An order of all slots: each step of the calculation can be undone, so each slot comes once.
struct Order {
    start: usize,
    factors: [usize; 3],
    mask: usize,
    half: u32,
}

impl Order {
    fn new(name: &str, bits: u32) -> Self {
        let seed = hash(name.as_bytes());
        let random = |number: u64| mix(seed.wrapping_add(GOLDEN.wrapping_mul(number))) as usize;
        Self {
            start: random(1),
            // Only a multiplication by an odd number can be undone.
            factors: [random(2) | 1, random(3) | 1, random(4) | 1],
            mask: (1 << bits) - 1,
            half: bits / 2,
        }
    }

    fn slot(&self, rank: usize) -> usize {
        let start = rank.wrapping_add(self.start) & self.mask;
        self.factors.iter().fold(start, |slot, factor| {
            let slot = slot.wrapping_mul(*factor) & self.mask;
            slot ^ (slot >> self.half)
        })
    }
}

/// 65 536 slots: among ten endpoints a share is right to about one part in a hundred, among a hundred to
/// one in twenty.
const BITS: u32 = 16;

/// As many endpoints have about 64 slots each, and more would have too few. Those have a larger ring, on
/// which keys are placed anew.
const FEW: usize = 1024;

const MORE_BITS: u32 = 20;

/// When nearly all slots are claimed: after this many claims for each.
const HORIZON: f64 = 11.0;

/// How many slots for each endpoint a key walks by before all are tried in the order of the list.
const ROUNDS: usize = 8;
