//! What stands beside the name of a filter: for which requests it is, whether it enforces, how it is called.

use erased_serde::Deserializer;
use serde::{Deserialize, de::DeserializeOwned};

use super::{Compiler, listener_is_known};
use crate::{
    config::{
        BESIDE, ConditionConfig, Config, Enforcement, Named, NodeRef,
        deserialize::read_with,
        diagnostic::{Diagnostic, Problems},
        document::{Document, Kind, NodeId},
    },
    route::Router,
    snapshot::{Applies, Condition, Networks},
};

/// What stands beside the name of a filter.
#[derive(Debug, Default)]
pub(super) struct Beside {
    pub(super) applies: Option<Applies>,
    pub(super) reports: bool,
    pub(super) name: Option<String>,
}

/// Reads it; none if something in it is wrong, which has been told then.
pub(super) fn read_beside(
    compiler: Compiler<'_>,
    named: &Named,
    config: &Config,
    problems: &mut Problems,
) -> Option<Beside> {
    let [when, unless, mode, name] = named.beside;
    let mut condition = |node| condition(compiler, node, config, problems);
    let (when, unless) = (condition(when), condition(unless));
    let mode: Option<Option<Enforcement>> = value(compiler, mode, problems);
    let name: Option<Option<Label>> = value(compiler, name, problems);
    // All have been looked at before one that is wrong ends it.
    let (when, unless, mode, name) = (when?, unless?, mode?, name?);
    let applies = (when.is_some() || unless.is_some()).then_some(Applies { when, unless });
    Some(Beside {
        applies,
        reports: mode == Some(Enforcement::Report),
        name: name.map(|Label(name)| name),
    })
}

/// Points at what is said by one of the keys that stand beside a name, or at the name.
pub(super) fn spot(named: &Named, key: &str) -> NodeRef {
    let place = BESIDE.iter().position(|known| *known == key);
    let node = place.and_then(|place| named.beside[place]);
    node.unwrap_or_else(|| NodeRef::from(named.name.node))
}

/// None in the option if the key is not there; none at all if its value is wrong.
#[expect(
    clippy::option_option,
    reason = "what is wrong is not what is not there"
)]
fn value<T: DeserializeOwned>(
    compiler: Compiler<'_>,
    node: Option<NodeRef>,
    problems: &mut Problems,
) -> Option<Option<T>> {
    match node {
        Some(node) => {
            let read = &mut |value: &mut dyn Deserializer<'_>| erased_serde::deserialize(value);
            read_with(compiler.document, node, problems, read).map(Some)
        }
        None => Some(None),
    }
}

#[expect(
    clippy::option_option,
    reason = "what is wrong is not what is not there"
)]
fn condition(
    compiler: Compiler<'_>,
    node: Option<NodeRef>,
    config: &Config,
    problems: &mut Problems,
) -> Option<Option<Condition>> {
    let Some(written) = value::<ConditionConfig>(compiler, node, problems)? else {
        return Some(None);
    };
    let node = node?;
    if let Some((key, name)) = empty_key(compiler.document, node) {
        let message = format!("`{name}` is empty: it would hold for every request");
        problems.push(Diagnostic::error(message).at(key).help("leave it out"));
        return None;
    }
    if written.is_empty() {
        let message = "a condition that asks nothing holds for every request";
        let help = "name a path, a method, headers, claims or clients, or leave it out";
        problems.push(Diagnostic::error(message).at(node).help(help));
        return None;
    }
    if let Some(listener) = &written.listener {
        listener_is_known(listener, &config.listeners, problems);
    }
    let matches = match written.matches() {
        Ok(matches) => matches,
        Err(wrong) => {
            for error in wrong {
                problems.push(Diagnostic::error(error.value.to_string()).at(error.node));
            }
            return None;
        }
    };
    let head = (!matches.is_empty())
        .then(|| Router::new(matches.into_iter().map(|matching| (matching, ()))));
    let claims = written.claims();
    Some(Some(Condition {
        head,
        claims: claims
            .map(|(path, test)| (path.into(), test.clone()))
            .collect(),
        clients: Networks::new(&written.clients.0),
    }))
}

/// A key of a condition that has an empty list or map, or nothing.
fn empty_key(document: &Document, condition: NodeRef) -> Option<(NodeId, &str)> {
    let Kind::Mapping(entries) = document.kind(condition.node) else {
        return None;
    };
    let is_empty = |value: NodeId| match document.kind(value) {
        Kind::Sequence(elements) => elements.is_empty(),
        Kind::Mapping(entries) => entries.is_empty(),
        Kind::Scalar(scalar) => scalar.is_null(),
    };
    let (key, _) = entries.iter().find(|(_, value)| is_empty(*value))?;
    Some((*key, document.text(*key)?))
}

/// What a filter is called in logs and metrics.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Label(String);

impl TryFrom<String> for Label {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !(1..=64).contains(&text.len()) || !text.bytes().all(allowed) {
            return Err("expected a name of at most 64 letters, digits, `.`, `_` and `-`");
        }
        Ok(Self(text))
    }
}
