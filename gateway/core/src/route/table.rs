//! The routes of one host pattern.

use std::cmp::Reverse;

use ahash::AHashMap;
use regex::{RegexSet, RegexSetBuilder};
use smallvec::SmallVec;

use super::{Expression, Match, PathPattern, Rank, Reached, prefix::PrefixTree};

/// Finds the route among those of one host pattern.
#[derive(Debug, Default)]
pub(super) struct Table {
    exact: AHashMap<Box<str>, Candidates>,
    prefixes: PrefixTree,
    regexes: Regexes,
}

/// The route that was found, and how its path was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) route: usize,
    pub(super) reached: Reached,
}

impl Place {
    fn of(candidate: Candidate, reached: Reached) -> Self {
        Self {
            route: candidate.route,
            reached,
        }
    }
}

impl Table {
    pub(super) fn insert(&mut self, route: usize, matching: &Match) {
        let candidate = |rank| Candidate {
            route,
            rank,
            weight: matching.weight(),
        };
        match matching.path() {
            PathPattern::Exact(path) => {
                let list = self.exact.entry(path.as_str().into()).or_default();
                list.insert(candidate(Rank::AboveRegex));
            }
            PathPattern::Prefix(path, rank) => self.prefixes.insert(path, candidate(*rank)),
            PathPattern::Regex(expression) => {
                self.regexes.insert(expression, candidate(Rank::BelowRegex))
            }
        }
    }

    /// Called once, after the last `insert`.
    pub(super) fn finish(&mut self) {
        self.regexes.finish();
    }

    /// The first route in the order of precedence whose path is `path` and that is accepted.
    pub(super) fn find(&self, path: &str, accept: &mut impl FnMut(usize) -> bool) -> Option<Place> {
        let exact = probe(&self.exact, path).and_then(|list| list.first(accept));
        if let Some(exact) = exact {
            return Some(Place::of(exact, Reached::Path));
        }
        let prefix = self.prefixes.find(path, accept);
        let place = prefix.map(|(found, reached)| Place::of(found, reached));
        if prefix.is_some_and(|(found, _)| found.rank == Rank::AboveRegex) {
            return place;
        }
        let regex = self.regexes.find(path, accept);
        regex.map(|found| Place::of(found, Reached::Path)).or(place)
    }
}

/// Routes with the same host and path: those with more predicates first, then in file order.
#[derive(Debug, Default)]
pub(super) struct Candidates(SmallVec<[Candidate; 1]>);

#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) route: usize,
    pub(super) weight: usize,
    pub(super) rank: Rank,
}

impl Candidates {
    pub(super) fn insert(&mut self, candidate: Candidate) {
        let order = |one: &Candidate| (Reverse(one.weight), one.route);
        let position = self.0.partition_point(|one| order(one) < order(&candidate));
        self.0.insert(position, candidate);
    }

    pub(super) fn first(&self, accept: &mut impl FnMut(usize) -> bool) -> Option<Candidate> {
        self.0
            .iter()
            .copied()
            .find(|candidate| accept(candidate.route))
    }
}

/// The regexes of a host, in the order of their first appearance in the file.
#[derive(Debug, Default)]
struct Regexes {
    expressions: Vec<(Expression, Candidates)>,
    positions: AHashMap<Expression, usize>,
    /// All of them in one automaton, when there are enough of them to be worth it.
    set: Option<RegexSet>,
}

impl Regexes {
    fn insert(&mut self, expression: &Expression, candidate: Candidate) {
        let end = self.expressions.len();
        let position = *self.positions.entry(expression.clone()).or_insert(end);
        if position == end {
            self.expressions
                .push((expression.clone(), Candidates::default()));
        }
        self.expressions[position].1.insert(candidate);
    }

    fn finish(&mut self) {
        self.positions = AHashMap::new();
        if self.expressions.len() > FEW {
            let patterns = self
                .expressions
                .iter()
                .map(|(expression, _)| expression.regex().as_str());
            // Without a set, which only a set beyond this limit is, they are tried one by one.
            self.set = RegexSetBuilder::new(patterns)
                .size_limit(SET_LIMIT)
                .build()
                .ok();
        }
    }

    fn find(&self, path: &str, accept: &mut impl FnMut(usize) -> bool) -> Option<Candidate> {
        let Some(set) = &self.set else {
            let mut found = self
                .expressions
                .iter()
                .filter(|(expression, _)| expression.regex().is_match(path));
            return found.find_map(|(_, list)| list.first(accept));
        };
        set.matches(path)
            .into_iter()
            .find_map(|position| self.expressions[position].1.first(accept))
    }
}

/// Every look into a map goes through here, so that tests can count them.
pub(super) fn probe<'m, V>(map: &'m AHashMap<Box<str>, V>, key: &str) -> Option<&'m V> {
    if map.is_empty() {
        return None;
    }
    #[cfg(test)]
    super::tests::count_probe();
    map.get(key)
}

/// So many regexes are tried one by one: a set allocates for each request.
const FEW: usize = 4;
const SET_LIMIT: usize = 256 << 20;
