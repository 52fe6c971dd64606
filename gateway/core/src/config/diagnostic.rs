//! What is wrong with a configuration, where, and what to write instead.
//!
//! A [`Diagnostic`] is one problem; [`Problems`] collects all of one run, so that nobody has to
//! mend a file one error at a time. Both know places only as numbers: the text comes in when they
//! are rendered, with the [`Document`] that was read.

use std::borrow::Borrow;
use std::collections::HashSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::{Document, NodeId, Place};

mod render;

pub(crate) use render::Look;

/// Problems shown in one run; the rest is counted.
const SHOWN: usize = 100;

/// Problems kept in memory; a file with more is not a configuration.
const KEPT: usize = 5_000;

/// Whether the configuration can be used in spite of the problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// It can't: nothing starts, and a reload keeps what runs.
    Error,
    /// It can, but somebody should look.
    Warning,
}

/// Where a diagnostic points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Spot {
    /// A value, with its path in the document.
    Node(NodeId),
    /// The key under which a value stands (the value itself in a list), with the value's path.
    Key(NodeId),
    /// A piece of text, without a path.
    Place(Place),
}

impl From<NodeId> for Spot {
    fn from(node: NodeId) -> Self {
        Self::Node(node)
    }
}

impl From<Place> for Spot {
    fn from(place: Place) -> Self {
        Self::Place(place)
    }
}

/// One problem: what is wrong, where, and the remedy.
///
/// The message is one lower-case sentence without a period, with names in backquotes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Diagnostic {
    severity: Severity,
    message: String,
    spot: Option<Spot>,
    help: Option<String>,
    also: Vec<(Spot, String)>,
}

impl Diagnostic {
    /// A problem that makes the configuration unusable.
    pub(crate) fn error(message: impl Into<String>) -> Self {
        Self::new(Severity::Error, message.into())
    }

    /// A problem that the configuration can live with.
    pub(crate) fn warning(message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, message.into())
    }

    fn new(severity: Severity, message: String) -> Self {
        Self {
            severity,
            message,
            spot: None,
            help: None,
            also: Vec::new(),
        }
    }

    /// Points at a value or at a piece of text.
    pub(crate) fn at(mut self, spot: impl Into<Spot>) -> Self {
        self.spot = Some(spot.into());
        self
    }

    /// Points at the key under which `node` stands: for what is missing in it.
    pub(crate) fn at_key_of(self, node: NodeId) -> Self {
        self.at(Spot::Key(node))
    }

    /// What to do about it.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// What to do about it, if anything is known: takes what [`suggestion`] gives.
    pub(crate) fn help_if<T: Into<String>>(mut self, help: Option<T>) -> Self {
        self.help = help.map(Into::into).or(self.help);
        self
    }

    /// Points at a second place that has to do with the problem.
    pub(crate) fn also(mut self, spot: impl Into<Spot>, label: impl Into<String>) -> Self {
        self.also.push((spot.into(), label.into()));
        self
    }

    fn place(&self, document: &Document) -> Option<Place> {
        self.spot.map(|spot| spot.place(document))
    }

    fn told(&self, document: &Document) -> Told {
        let place = self.place(document);
        let position = place.map(|place| document.position(place));
        Told {
            severity: self.severity,
            message: self.message.clone(),
            file: position.as_ref().map(|position| position.file.to_owned()),
            line: position.as_ref().map(|position| position.line),
            column: position.as_ref().map(|position| position.column),
            path: self.spot.and_then(|spot| spot.path(document)),
            help: self.help.clone(),
        }
    }
}

/// A problem as programs read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Told {
    pub(crate) severity: Severity,
    /// One lower-case sentence without a period.
    pub(crate) message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    /// From 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<usize>,
    /// From 1, in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) column: Option<usize>,
    /// Where in its file: `routes[0].match.host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) help: Option<String>,
}

impl Spot {
    fn place(self, document: &Document) -> Place {
        match self {
            Self::Node(node) => document.place(node),
            Self::Key(node) => document.place(document.heading(node)),
            Self::Place(place) => place,
        }
    }

    fn path(self, document: &Document) -> Option<String> {
        match self {
            Self::Node(node) | Self::Key(node) => document.path(node),
            Self::Place(_) => None,
        }
    }
}

/// All problems of one run, each once.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    list: Vec<Diagnostic>,
    seen: HashSet<(String, Option<Spot>)>,
    errors: usize,
    warnings: usize,
}

impl Problems {
    /// Adds a problem, unless the same was already said of the same place.
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        if self.list.len() < KEPT
            && !self
                .seen
                .insert((diagnostic.message.clone(), diagnostic.spot))
        {
            return;
        }
        match diagnostic.severity {
            Severity::Error => self.errors += 1,
            Severity::Warning => self.warnings += 1,
        }
        if self.list.len() < KEPT {
            self.list.push(diagnostic);
        }
    }

    /// Adds problems.
    pub(crate) fn extend(&mut self, diagnostics: impl IntoIterator<Item = Diagnostic>) {
        diagnostics
            .into_iter()
            .for_each(|diagnostic| self.push(diagnostic));
    }

    /// Whether the configuration is unusable.
    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// The number of different errors.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// The number of different warnings.
    pub(crate) fn warnings(&self) -> usize {
        self.warnings
    }

    /// The problems as programs read them, in the order of [`render`](Self::render).
    pub(crate) fn told(&self, document: &Document) -> Vec<Told> {
        let sorted = self.sorted(document).into_iter().take(SHOWN);
        sorted.map(|diagnostic| diagnostic.told(document)).collect()
    }

    fn sorted(&self, document: &Document) -> Vec<&Diagnostic> {
        let mut sorted: Vec<_> = self.list.iter().collect();
        sorted.sort_by_key(|diagnostic| diagnostic.place(document));
        sorted
    }

    /// The problems as a person reads them, in the order of the files and of their lines, with a
    /// blank line after each.
    pub(crate) fn render(&self, document: &Document, look: Look) -> String {
        let mut text: String = self
            .sorted(document)
            .iter()
            .take(SHOWN)
            .map(|one| render::diagnostic(one, document, look))
            .collect();
        let rest = (self.errors + self.warnings).saturating_sub(SHOWN);
        if rest > 0 {
            text.push_str(&format!("... and {}\n", counted(rest, "more problem")));
        }
        text
    }
}

/// The candidate that somebody who wrote `word` most likely meant.
///
/// A difference in case or in `-` and `_` alone is always near; else about one wrong letter in
/// three is forgiven.
pub(crate) fn nearest<'a, C>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a C>,
) -> Option<&'a str>
where
    C: Borrow<str> + ?Sized + 'a,
{
    let word = folded(word);
    candidates
        .into_iter()
        .map(Borrow::borrow)
        .filter_map(|candidate| Some((distance(&word, &folded(candidate))?, candidate)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// What helps somebody who wrote `word` where only `candidates` are known: the nearest of them, or
/// else all.
pub(crate) fn suggestion<C: Borrow<str>>(word: &str, candidates: &[C]) -> Option<String> {
    if let Some(near) = nearest(word, candidates) {
        return Some(format!("did you mean `{near}`?"));
    }
    (!candidates.is_empty()).then(|| format!("expected {}", one_of(candidates)))
}

/// `` `a` ``, `` `a` or `b` ``, `` one of `a`, `b`, `c` ``.
pub(crate) fn one_of<C: Borrow<str>>(candidates: &[C]) -> String {
    let quoted: Vec<_> = candidates
        .iter()
        .map(|name| format!("`{}`", name.borrow()))
        .collect();
    match quoted.as_slice() {
        [] => "nothing".to_owned(),
        [only] => only.clone(),
        [first, second] => format!("{first} or {second}"),
        many => format!("one of {}", many.join(", ")),
    }
}

/// `1 error`, `2 errors`.
pub(crate) fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn folded(word: &str) -> String {
    word.chars()
        .filter(|c| !matches!(c, '-' | '_'))
        .flat_map(char::to_lowercase)
        .collect()
}

fn distance(word: &str, candidate: &str) -> Option<usize> {
    let longer = word.chars().count().max(candidate.chars().count());
    // What is far longer than any name needs no quadratic comparison.
    if longer > 100 {
        return None;
    }
    let distance = strsim::damerau_levenshtein(word, candidate);
    (distance <= longer / 3).then_some(distance)
}

#[cfg(test)]
mod tests;
