//! From the tree of a [`Document`] to serde types, with all problems in one run.
//!
//! serde stops at the first error, and an error that went through `erased_serde` is a text that
//! has forgotten where it happened. So a reading has a memory beside the errors ([`Reading`]):
//! the innermost node at which an error is seen is noted, reported, and *left out*, and the whole
//! is deserialized again, until it succeeds or nothing is left. What fails only because something
//! in it was left out is left out in its turn, silently.
//!
//! Unknown keys need nothing from the author of a type: a struct tells its fields, and every
//! other key is reported. A struct behind a visitor of its own (a text or a map) tells nothing, but
//! is seen to skip the key. One limit: of a struct with `#[serde(flatten)]`, or reached through
//! `#[serde(untagged)]` or `#[serde(tag = "...")]`, serde shows neither. There unknown keys are
//! seen only if the type refuses them itself, with `#[serde(deny_unknown_fields)]`.

use std::cell::RefCell;
use std::collections::HashSet;

use serde::de::DeserializeOwned;

use super::diagnostic::{Diagnostic, Problems, nearest};
use super::document::{Document, NodeId};

mod complaint;
mod failure;
mod located;
mod node;
mod stand_in;

use failure::{Error, Failure};
use node::NodeDeserializer;

pub(super) use located::{AT, NAMED, NODE};
pub(crate) use located::{At, BESIDE, Entries, Named, NodeRef};

/// How many errors one reading looks for.
const ROUNDS: usize = 200;

/// Reads a node, and reports its problems. Returns a value also if parts of it had to be left out: it
/// is good for one thing then, to look for further problems, elsewhere.
pub(crate) fn salvage<T: DeserializeOwned>(
    document: &Document,
    node: impl Into<NodeRef>,
    problems: &mut Problems,
) -> Option<T> {
    rounds(document, node.into(), problems, |node| T::deserialize(node)).value
}

/// Reads a node with a function that knows the type, which it may call several times. Returns a value
/// only if there was no error in it; problems are reported.
pub(crate) fn read_with<T>(
    document: &Document,
    node: impl Into<NodeRef>,
    problems: &mut Problems,
    parse: &mut dyn FnMut(
        &mut dyn erased_serde::Deserializer<'_>,
    ) -> Result<T, erased_serde::Error>,
) -> Option<T> {
    let outcome = rounds(document, node.into(), problems, |node| {
        parse(&mut <dyn erased_serde::Deserializer<'_>>::erase(node))
            .map_err(serde::de::Error::custom)
    });
    outcome.value.filter(|_| outcome.clean)
}

struct Outcome<T> {
    value: Option<T>,
    clean: bool,
}

fn rounds<'d, T>(
    document: &'d Document,
    root: NodeRef,
    problems: &mut Problems,
    mut parse: impl FnMut(NodeDeserializer<'_, 'd>) -> Result<T, Error>,
) -> Outcome<T> {
    let mut reading = Reading::new(document);
    let mut value = None;
    for _ in 0..ROUNDS {
        let result = parse(NodeDeserializer::new(&reading, root));
        let Err(error) = result else {
            value = result.ok();
            break;
        };
        reading.note(root, error);
        if !reading.learn(root.node) {
            break;
        }
    }
    let clean = reading.reports.borrow().is_empty() && value.is_some();
    for report in reading.reports.into_inner() {
        problems.push(report);
    }
    Outcome { value, clean }
}

/// What one reading knows, in all of its rounds.
struct Reading<'d> {
    document: &'d Document,
    /// The first error of this round, at the innermost node that saw it.
    failure: RefCell<Option<Failure>>,
    /// What is left out.
    poisoned: HashSet<NodeId>,
    /// Keys that are missing in a map, for which something is put to see what else is missing.
    missing: Vec<(NodeId, &'static str)>,
    /// Keys already reported as unknown.
    unknown: RefCell<HashSet<NodeId>>,
    reports: RefCell<Vec<Diagnostic>>,
}

impl<'d> Reading<'d> {
    fn new(document: &'d Document) -> Self {
        Self {
            document,
            failure: RefCell::default(),
            poisoned: HashSet::new(),
            missing: Vec::new(),
            unknown: RefCell::default(),
            reports: RefCell::default(),
        }
    }

    /// Notes an error seen at a node, unless it is the consequence of one noted further inside.
    ///
    /// An error noted earlier that has nothing to do with this one was swallowed by the type.
    fn note(&self, node: NodeRef, error: Error) {
        let mut slot = self.failure.borrow_mut();
        let text = error.to_string();
        if slot
            .as_ref()
            .is_none_or(|first| !text.contains(&first.text))
        {
            *slot = Some(Failure { node, error, text });
        }
    }

    /// Draws the consequences of a round that failed. Returns whether another one makes sense.
    fn learn(&mut self, root: NodeId) -> bool {
        let Some(failure) = self.failure.take() else {
            return false;
        };
        let node = failure.node.node;
        if self.is_genuine(&failure) {
            self.reports
                .borrow_mut()
                .push(complaint::of(self.document, &failure));
        }
        if let Error::Missing(field) = failure.error
            && !self.missing.contains(&(node, field))
        {
            self.missing.push((node, field));
            return true;
        }
        self.poisoned.insert(node) && node != root
    }

    /// Whether an error is one by itself, and does not come from something left out.
    fn is_genuine(&self, failure: &Failure) -> bool {
        let node = failure.node.node;
        match &failure.error {
            Error::Consequence => false,
            Error::Missing(field) => !self.was_meant(node, field) && !self.may_be_elsewhere(node),
            Error::Custom(_) => !self.is_damaged(node) && !self.has_unknown(node),
            Error::Form { .. }
            | Error::Type { .. }
            | Error::Value { .. }
            | Error::Length { .. }
            | Error::Variant { .. }
            | Error::Field { .. }
            | Error::Duplicate(_) => !self.is_damaged(node),
        }
    }

    /// Whether a field of a map is there, but was left out, or was misspelt.
    fn was_meant(&self, map: NodeId, field: &'static str) -> bool {
        let unknown = self.unknown.borrow();
        let names = |key: NodeId| {
            let name = self.document.text(key).unwrap_or_default();
            name == field || (unknown.contains(&key) && nearest(name, &[field]).is_some())
        };
        self.missing.contains(&(map, field))
            || self
                .document
                .entries(map)
                .iter()
                .any(|(key, _)| names(*key))
    }

    /// Whether what is missing in a map may stand in a file that could not be read.
    fn may_be_elsewhere(&self, map: NodeId) -> bool {
        map == self.document.root() && !self.document.is_complete()
    }

    /// Whether a key of the map was reported as unknown: what its type misses may be that.
    fn has_unknown(&self, map: NodeId) -> bool {
        let unknown = self.unknown.borrow();
        let mut keys = self.document.entries(map).iter();
        keys.any(|(key, _)| unknown.contains(key))
    }

    /// Whether something inside the node was left out.
    fn is_damaged(&self, node: NodeId) -> bool {
        if self.poisoned.is_empty() && self.missing.is_empty() {
            return false;
        }
        let mut seen = HashSet::new();
        let mut open = vec![node];
        while let Some(at) = open.pop() {
            let here = self.poisoned.contains(&at) && at != node;
            if here || self.missing.iter().any(|(map, _)| *map == at) {
                return true;
            }
            if seen.insert(at) {
                open.extend(self.document.elements(at));
                open.extend(
                    self.document
                        .entries(at)
                        .iter()
                        .flat_map(|(key, value)| [key, value]),
                );
            }
        }
        false
    }

    fn is_poisoned(&self, node: NodeId) -> bool {
        self.poisoned.contains(&node)
    }

    /// The missing keys of a map for which something is put in this round.
    fn missing_in(&self, map: NodeId) -> Vec<&'static str> {
        let here = self.missing.iter().filter(|(at, _)| *at == map);
        here.map(|(_, field)| *field)
            .filter(|_| !self.poisoned.contains(&map))
            .collect()
    }

    /// Reports the keys of a map that its type does not have.
    fn report_unknown(&self, map: NodeId, fields: &'static [&'static str]) {
        for (key, _) in self.document.entries(map) {
            let name = self.document.text(*key).unwrap_or_default();
            if fields.contains(&name) {
                continue;
            }
            if self.unknown.borrow_mut().insert(*key) {
                let report = complaint::unknown_key(name, *key, fields);
                self.reports.borrow_mut().push(report);
            }
        }
    }

    /// Reports a key that its type skips without having told what it knows.
    fn report_ignored(&self, key: NodeId) {
        if self.unknown.borrow_mut().insert(key) {
            self.reports
                .borrow_mut()
                .push(complaint::ignored_key(self.document, key));
        }
    }
}

#[cfg(test)]
mod tests;
