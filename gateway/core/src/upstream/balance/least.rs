//! The endpoint with the least to do, or the one that answers first.

use super::{Candidate, Candidates, Dice, Field, Rotation, Tier};

/// What there should be least of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Measure {
    Connections,
    Time,
}

/// One search.
pub(super) struct Least<'a, F> {
    measure: Measure,
    candidates: &'a Candidates,
    rotation: &'a Rotation,
    seed: u64,
    field: &'a F,
}

impl<'a, F: Field> Least<'a, F> {
    pub(super) fn new(measure: Measure, tier: &'a Tier, field: &'a F) -> Self {
        Self {
            measure,
            candidates: &tier.candidates,
            rotation: &tier.rotation,
            seed: tier.seed,
            field,
        }
    }

    /// Whoever's turn it is if it may take it, else the best, else the next best.
    pub(super) fn pick(&self) -> Option<u16> {
        let turn = self.rotation.turn();
        // Ties go round too, and not to the neighbour of one that is busy.
        let start = Dice::new(self.seed, turn).below(self.candidates.len());
        let mut best = [Ranked::LAST; 1];
        let ranked = self.rank(start, None, &mut best).first().copied()?;
        if let Some(number) = self.in_turn(turn, ranked.place) {
            return Some(number);
        }
        self.usable(ranked.place)
            .or_else(|| self.next_best(start, ranked))
            .or_else(|| self.candidates.any(start, self.field))
            .or_else(|| {
                self.rotation.go_back_to(turn);
                None
            })
    }

    /// The endpoint whose turn it is, if `best` is not better off with the request than it is without.
    fn in_turn(&self, turn: usize, best: usize) -> Option<u16> {
        let best = self.candidates.at(best);
        let mut next = Some((turn, self.rotation.at(turn)?));
        for _ in 0..TURNS {
            let (turn, place) = next.take()?;
            let candidate = self.candidates.at(place);
            if Dice::new(!self.seed, turn).chance(candidate.ease(self.field)) {
                if !self.measure.is_fair(candidate, best, self.field) {
                    return None;
                }
                if let Some(number) = self.usable(place) {
                    return Some(number);
                }
            }
            next = self.rotation.advance();
        }
        None
    }

    /// The best of those that come after `last`, which was refused, as was everything before it.
    ///
    /// Several are noted in one pass: it may well be that many are down.
    fn next_best(&self, start: usize, mut last: Ranked) -> Option<u16> {
        let mut places = [Ranked::LAST; NOTED];
        // What is counted while it changes could send the search back and forth without end.
        for _ in 0..=self.candidates.len() / NOTED {
            let ranked = self.rank(start, Some(last), &mut places);
            if let Some(number) = ranked.iter().find_map(|ranked| self.usable(ranked.place)) {
                return Some(number);
            }
            last = *ranked.last()?;
        }
        None
    }

    /// The best candidates after `last`, the best first: as many as there are, and `places` for them.
    fn rank<'b>(
        &self,
        start: usize,
        last: Option<Ranked>,
        places: &'b mut [Ranked],
    ) -> &'b [Ranked] {
        let mut count = 0;
        for (order, (place, candidate)) in self.candidates.from(start).enumerate() {
            let cost = self.measure.cost(candidate, self.field);
            let ranked = Ranked { cost, order, place };
            if last.is_some_and(|last| !last.is_before(&ranked)) {
                continue;
            }
            if count == places.len() {
                if !ranked.is_before(&places[count - 1]) {
                    continue;
                }
                count -= 1;
            }
            let better = places[..count].partition_point(|other| other.is_before(&ranked));
            places.copy_within(better..count, better + 1);
            places[better] = ranked;
            count += 1;
        }
        &places[..count]
    }

    fn usable(&self, place: usize) -> Option<u16> {
        let number = self.candidates.at(place).number;
        self.field.usable(number).then_some(number)
    }
}

/// A candidate and how good it is. Of equals the first one met is better.
#[derive(Clone, Copy)]
struct Ranked {
    cost: f64,
    order: usize,
    place: usize,
}

impl Ranked {
    const LAST: Self = Self {
        cost: f64::INFINITY,
        order: usize::MAX,
        place: 0,
    };

    fn is_before(&self, other: &Self) -> bool {
        self.cost < other.cost || (self.cost == other.cost && self.order < other.order)
    }
}

impl Measure {
    /// What a request would cost with this candidate.
    fn cost(self, candidate: &Candidate, field: &impl Field) -> f64 {
        let load = candidate.load(field, 1.0);
        match self {
            Self::Connections => load,
            Self::Time => load * latency(candidate, field).unwrap_or(UNKNOWN),
        }
    }

    /// Whether a candidate may have its turn although another one is `best`: whether that one has, with the
    /// request, more to do for its weight than the candidate has without.
    ///
    /// By time it must also be about as fast. One that is not known yet is compared by requests alone: so
    /// it is tried in its turn, by one request and not by all of them.
    fn is_fair(self, candidate: &Candidate, best: &Candidate, field: &impl Field) -> bool {
        let latencies = match self {
            Self::Connections => None,
            Self::Time => latency(candidate, field).zip(latency(best, field)),
        };
        let (own, others) = latencies.unwrap_or((1.0, 1.0));
        own <= others * ALIKE && own * candidate.load(field, 0.0) < others * best.load(field, 1.0)
    }
}

fn latency(candidate: &Candidate, field: &impl Field) -> Option<f64> {
    Some(field.latency(candidate.number)).filter(|latency| *latency > 0.0)
}

/// How many turns are looked at while their owners are not usable or start slowly.
const TURNS: usize = 8;

/// How many of the next best are noted in a pass.
const NOTED: usize = 16;

/// Latencies that differ by less than an eighth are taken for equal: measured ones always differ, and all
/// requests of a quiet upstream would go to one endpoint.
const ALIKE: f64 = 1.125;

/// The latency of an endpoint that is not known yet, out of turn: an hour in microseconds, so that one
/// which is known goes before it.
const UNKNOWN: f64 = 3.6e9;
