//! The replacements as they are written, and what is wrong with them.

use std::str::FromStr;

use edgeway_sdk::{
    prelude::*,
    template::{Piece, Variable},
};
use regex_automata::{
    meta,
    util::syntax::{self, parse_with},
};

use super::stream::{Out, Reach, Search, To};

/// `{ from: http://old, to: "https://{host}" }`, or `{ pattern: 'v([0-9])', to: 'w{1}' }`
#[derive(Deserialize)]
pub(crate) struct Replacement {
    from: Option<String>,
    pattern: Option<String>,
    to: Template<Value>,
    raw: Option<bool>,
}

/// What may stand in braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// What a group of the pattern has found.
    Group(usize),
    Of(Variable),
}

impl FromStr for Value {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(number) => Ok(Self::Group(number)),
            Err(_) => Variable::parse_beside(text, &[]).map(Self::Of),
        }
    }
}

/// Makes one search of all replacements.
pub(super) fn compile(
    written: &[Replacement],
    once: bool,
    max_match: Option<Size>,
) -> Result<Search, BuildError> {
    if written.is_empty() {
        return Err(
            BuildError::at("replace", "there is nothing to replace").help("leave the filter out")
        );
    }
    let mut patterns = Vec::new();
    let mut texts = Vec::new();
    let mut longest = Some(0);
    let mut all_literal = true;
    for (number, replacement) in written.iter().enumerate() {
        let at = |key: &str| format!("replace.{number}.{key}");
        let (pattern, length) = replacement.pattern(&at)?;
        all_literal &= replacement.from.is_some();
        longest = longest
            .zip(length)
            .map(|(one, other): (usize, usize)| one.max(other));
        patterns.push(pattern);
        texts.push(replacement.text(&at)?);
    }
    let literals = written
        .iter()
        .filter_map(|replacement| replacement.from.as_deref());
    let reach = match all_literal {
        true => Reach::Literals(literals.map(|text| text.as_bytes().into()).collect()),
        false => Reach::Patterns(most(longest, max_match)?),
    };
    if all_literal && max_match.is_some() {
        let message = "`max_match` has no effect: there is no `pattern`";
        return Err(BuildError::at("max_match", message));
    }
    let regex = meta::Builder::new()
        .configure(
            meta::Config::new()
                .utf8_empty(false)
                .nfa_size_limit(Some(LARGEST)),
        )
        .syntax(syntax::Config::new().utf8(false))
        .build_many(&patterns)
        .map_err(|error| {
            BuildError::at("replace", format!("this can't be searched for: {error}"))
        })?;
    groups(written, &regex)?;
    Ok(Search {
        regex,
        reach,
        texts,
        once,
    })
}

/// How many bytes behind the place where a text begins are looked at.
fn most(longest: Option<usize>, max_match: Option<Size>) -> Result<usize, BuildError> {
    match (longest, max_match) {
        (Some(longest), None) => Ok(longest),
        (Some(longest), Some(_)) => {
            let message = format!(
                "`max_match` has no effect: the longest text that fits has {longest} bytes"
            );
            Err(BuildError::at("max_match", message))
        }
        (None, None) => Ok(UNBOUNDED),
        (None, Some(Size(bytes))) => {
            let bytes = usize::try_from(bytes)
                .ok()
                .filter(|bytes| (1..=LONGEST).contains(bytes));
            bytes.ok_or_else(|| BuildError::at("max_match", "expected a size from `1B` to `64KiB`"))
        }
    }
}

/// Every group that a text names must be there.
fn groups(written: &[Replacement], regex: &meta::Regex) -> Result<(), BuildError> {
    for (number, replacement) in written.iter().enumerate() {
        let Ok(pattern) = number.try_into() else {
            continue;
        };
        let known = regex.group_info().group_len(pattern);
        let named = replacement
            .to
            .pieces()
            .iter()
            .filter_map(|piece| match piece {
                Piece::Value(Value::Group(group)) => Some(*group),
                Piece::Value(Value::Of(_)) | Piece::Text(_) => None,
            });
        let missing = named.into_iter().find(|group| *group >= known);
        if let Some(group) = missing {
            let key = format!("replace.{number}.to");
            let message = match replacement.from {
                Some(_) => {
                    format!("`from` has no groups such as `{{{group}}}`: only a `pattern` has")
                }
                None => format!("the pattern has no group {group}"),
            };
            return Err(BuildError::at(key, message));
        }
    }
    Ok(())
}

impl Replacement {
    /// The regex, and the length of the longest text that it fits, if there is one.
    fn pattern(&self, at: &dyn Fn(&str) -> String) -> Result<(String, Option<usize>), BuildError> {
        let (pattern, key) = match (&self.from, &self.pattern) {
            (Some(_), Some(_)) => {
                return Err(BuildError::at(
                    at("pattern"),
                    "both `from` and `pattern` are given",
                ));
            }
            (None, None) => {
                let key = at("to");
                let key = key.trim_end_matches(".to");
                return Err(BuildError::at(
                    key,
                    "expected `from` or `pattern`: what is replaced",
                ));
            }
            (Some(from), None) if from.is_empty() => {
                return Err(BuildError::at(at("from"), "an empty text is everywhere"));
            }
            (Some(from), None) => (regex::escape(from), at("from")),
            (None, Some(pattern)) => (pattern.clone(), at("pattern")),
        };
        let hir = parse_with(&pattern, &syntax::Config::new().utf8(false)).map_err(|error| {
            let text = error.to_string();
            let reason = text.lines().next_back().unwrap_or_default();
            let reason = reason.trim_start_matches("error: ");
            BuildError::at(
                key.as_str(),
                format!("`{pattern}` is not a valid regex: {reason}"),
            )
        })?;
        let properties = hir.properties();
        if properties.minimum_len().is_none_or(|least| least == 0) {
            let message = match properties.minimum_len() {
                None => format!("`{pattern}` fits no text at all"),
                Some(_) => format!("`{pattern}` fits the empty text, which is everywhere"),
            };
            return Err(BuildError::at(key, message));
        }
        let longest = properties.maximum_len();
        if let Some(longest) = longest.filter(|longest| *longest > LONGEST) {
            let message =
                format!("a text of {longest} bytes would fit, but at most {LONGEST} are held back");
            return Err(BuildError::at(key, message));
        }
        Ok((pattern, longest))
    }

    fn text(&self, at: &dyn Fn(&str) -> String) -> Result<To, BuildError> {
        let pieces = self.to.pieces();
        let has_values = |piece: &Piece<Value>| matches!(piece, Piece::Value(Value::Of(_)));
        if self.raw.is_some() && !pieces.iter().any(has_values) {
            let message = "`raw` has no effect: there is no value of the request in `to`";
            return Err(BuildError::at(at("raw"), message));
        }
        Ok(To {
            is_raw: self.raw == Some(true),
            parts: pieces.iter().map(Out::from).collect(),
        })
    }
}

impl From<&Piece<Value>> for Out<Variable> {
    fn from(piece: &Piece<Value>) -> Self {
        match piece {
            Piece::Text(text) => Self::Text(text.as_bytes().into()),
            Piece::Value(Value::Group(group)) => Self::Group(*group),
            Piece::Value(Value::Of(variable)) => Self::Value(variable.clone()),
        }
    }
}

/// How far is looked for patterns without a longest text, in bytes.
const UNBOUNDED: usize = 1024;
/// The most that is held back, in bytes.
const LONGEST: usize = 64 * 1024;
/// What all patterns together may take in memory, in bytes.
const LARGEST: usize = 10 << 20;
