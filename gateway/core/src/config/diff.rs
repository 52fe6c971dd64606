//! What differs between two configurations, by the names of things.
//!
//! Routes are known by their names, or by what they match; filters by what they are; endpoints by their addresses. What
//! means the same is the same: `5s` and `5000ms`, `- jwt` and `- jwt: {}`, an endpoint that is only an address. Where
//! files are cut into includes makes no difference, nor does the order of what has no order.

mod list;
mod same;

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::{
    list::{ListKind, Named},
    same::same,
};
use super::document::Tree;

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Change {
    pub(crate) kind: ChangeKind,
    /// Where in the configuration: `routes[shop].cache.ttl`.
    pub(crate) path: String,
    /// What it belongs to.
    pub(crate) what: Thing,
    /// How that is called; none of a setting of the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// Which of its keys: `cache.ttl`; none if it is there as a whole, or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// What was there, with `***` for secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub(crate) before: Option<Tree>,
    /// What is there now, with `***` for secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub(crate) after: Option<Tree>,
}

/// What has become of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ChangeKind {
    Added,
    Removed,
    Changed,
    /// It stands after something else, and that matters.
    Moved,
}

/// What a configuration consists of.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Thing {
    Listener,
    Upstream,
    Endpoint,
    Cache,
    /// One of all routes.
    Filter,
    Route,
    /// Anything else.
    Setting,
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listener => "listener",
            Self::Upstream => "upstream",
            Self::Endpoint => "endpoint",
            Self::Cache => "cache",
            Self::Filter => "filter",
            Self::Route => "route",
            Self::Setting => "setting",
        })
    }
}

/// What one has to do to a configuration to have the other: things in the order of [`Thing`], and of the files.
pub(crate) fn diff(before: &Tree, after: &Tree) -> Vec<Change> {
    let mut walk = Walk::default();
    walk.maps(before, after, &At::default());
    walk.changes.sort_by_key(top);
    walk.changes
}

/// How many things have changed, and how: `2 added, 1 changed`.
pub(crate) fn summary(changes: &[Change]) -> String {
    let kinds = [
        (ChangeKind::Added, "added"),
        (ChangeKind::Removed, "removed"),
        (ChangeKind::Changed, "changed"),
        (ChangeKind::Moved, "moved"),
    ];
    let counted = kinds.into_iter().filter_map(|(kind, word)| {
        let count = changes.iter().filter(|change| change.kind == kind).count();
        (count > 0).then(|| format!("{count} {word}"))
    });
    let counted: Vec<_> = counted.collect();
    if counted.is_empty() {
        return "none".to_owned();
    }
    counted.join(", ")
}

/// Endpoints stand by their upstreams.
fn top(change: &Change) -> Thing {
    match change.what {
        Thing::Endpoint => Thing::Upstream,
        other => other,
    }
}

/// A place in both.
#[derive(Clone, Debug, Default)]
struct At {
    path: String,
    thing: Option<(Thing, String)>,
    /// Within the thing.
    key: String,
    /// The last key.
    last: String,
    /// Whether texts are shown to clients or sent as they are, so that `5s` is not `5000ms`.
    literal: bool,
}

impl At {
    /// What a key of a map holds.
    fn key(&self, key: &str) -> Self {
        let join = |path: &str| match path {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        };
        Self {
            path: join(&self.path),
            thing: self.thing.clone(),
            key: join(&self.key),
            last: key.to_owned(),
            literal: self.literal || matches!(key, "respond" | "headers"),
        }
    }

    /// An element of a list.
    fn element(&self, name: &str) -> Self {
        Self {
            path: format!("{}[{name}]", self.path),
            key: format!("{}[{name}]", self.key),
            ..self.clone()
        }
    }

    /// The same place, known as one of the things.
    fn is(mut self, thing: Thing, name: impl Into<String>) -> Self {
        self.thing = Some((thing, name.into()));
        self.key.clear();
        self
    }
}

#[derive(Default)]
struct Walk {
    changes: Vec<Change>,
}

impl Walk {
    fn push(&mut self, kind: ChangeKind, at: &At, before: Option<Tree>, after: Option<Tree>) {
        let (what, name) = match &at.thing {
            Some((thing, name)) => (*thing, Some(name.clone())),
            None => (Thing::Setting, None),
        };
        self.changes.push(Change {
            kind,
            path: at.path.clone(),
            what,
            name,
            key: Some(at.key.clone()).filter(|key| !key.is_empty()),
            before,
            after,
        });
    }

    fn values(&mut self, before: &Tree, after: &Tree, at: &At) {
        match (before, after) {
            (Tree::Map(_), Tree::Map(_)) => self.maps(before, after, at),
            (Tree::List(old), Tree::List(new)) => self.lists(old, new, at),
            _ if same(before, after, at.literal) => {}
            _ => {
                let (before, after) = (Some(before.clone()), Some(after.clone()));
                self.push(ChangeKind::Changed, at, before, after);
            }
        }
    }

    /// Maps, by their keys.
    fn maps(&mut self, before: &Tree, after: &Tree, at: &At) {
        for (key, old) in before.entries() {
            let at = child(at, key);
            match after.get(key) {
                Some(new) => self.values(old, new, &at),
                None => self.gone(old, &at),
            }
        }
        for (key, new) in after.entries() {
            if before.get(key).is_none() {
                self.come(new, &child(at, key));
            }
        }
    }

    /// What is not there any more. A section goes with all that is in it.
    fn gone(&mut self, old: &Tree, at: &At) {
        match old {
            Tree::Null if at.thing.is_none() => {}
            Tree::Map(_) if is_section(at) => self.maps(old, &Tree::Map(Vec::new()), at),
            Tree::List(elements) if is_section(at) => self.lists(elements, &[], at),
            _ => self.push(ChangeKind::Removed, at, Some(old.clone()), None),
        }
    }

    fn come(&mut self, new: &Tree, at: &At) {
        match new {
            Tree::Null if at.thing.is_none() => {}
            Tree::Map(_) if is_section(at) => self.maps(&Tree::Map(Vec::new()), new, at),
            Tree::List(elements) if is_section(at) => self.lists(&[], elements, at),
            _ => self.push(ChangeKind::Added, at, None, Some(new.clone())),
        }
    }

    fn lists(&mut self, before: &[Tree], after: &[Tree], at: &At) {
        let kind = ListKind::of(at, before, after);
        if kind == ListKind::Value {
            let (old, new) = (Tree::List(before.to_vec()), Tree::List(after.to_vec()));
            if !same(&old, &new, at.literal) {
                self.push(ChangeKind::Changed, at, Some(old), Some(new));
            }
            return;
        }
        let (old, new) = (kind.named(before), kind.named(after));
        let known: HashMap<&str, &Tree> = new.iter().map(|(name, tree)| (&**name, tree)).collect();
        let were: HashSet<&str> = old.iter().map(|(name, _)| &**name).collect();
        for (name, tree) in &old {
            let at = kind.place(at, name);
            match known.get(&**name) {
                Some(new) => self.values(tree, new, &at),
                None => self.gone(tree, &at),
            }
        }
        for (name, tree) in new.iter().filter(|(name, _)| !were.contains(&**name)) {
            self.come(tree, &kind.place(at, name));
        }
        self.moves(kind, &old, &new, at);
    }

    /// Tells of what stands elsewhere, where that matters.
    fn moves(&mut self, kind: ListKind, old: &Named, new: &Named, at: &At) {
        let places: HashMap<&str, usize> = new
            .iter()
            .enumerate()
            .map(|(place, (name, _))| (&**name, place))
            .collect();
        let kept: Vec<_> = old
            .iter()
            .filter_map(|(name, tree)| Some((name, tree, *places.get(&**name)?)))
            .collect();
        let stay = longest_rise(&kept.iter().map(|(.., place)| *place).collect::<Vec<_>>());
        for (index, (name, tree, place)) in kept.iter().enumerate() {
            if stay.contains(&index) {
                continue;
            }
            let passed = kept.iter().enumerate().any(|(other, (_, them, theirs))| {
                (other < index) != (theirs < place) && kind.order_matters(tree, them)
            });
            if passed {
                let before = index.checked_sub(1).and_then(|index| kept.get(index));
                let before = before.map(|(name, ..)| name.as_str());
                let after = place.checked_sub(1).and_then(|place| new.get(place));
                let after = after.map(|(name, _)| name.as_str());
                // It follows something else that has moved.
                if before != after {
                    let at = kind.place(at, name);
                    self.push(
                        ChangeKind::Moved,
                        &at,
                        Some(stands(before)),
                        Some(stands(after)),
                    );
                }
            }
        }
    }
}

/// Where something stands in a list.
fn stands(after: Option<&str>) -> Tree {
    Tree::Text(after.map_or_else(|| "first".to_owned(), |name| format!("after {name}")))
}

/// The place of what a key holds, with the thing that it is.
fn child(at: &At, key: &str) -> At {
    let inner = at.key(key);
    match at.path.as_str() {
        "listeners" => inner.is(Thing::Listener, key),
        "upstreams" => inner.is(Thing::Upstream, key),
        "caches" => inner.is(Thing::Cache, key),
        _ => inner,
    }
}

/// Whether what is here are things by their names, each of which is told of.
fn is_section(at: &At) -> bool {
    matches!(
        at.path.as_str(),
        "listeners" | "upstreams" | "caches" | "routes" | "filters"
    )
}

/// The places of a longest rising part of a list of different numbers.
fn longest_rise(numbers: &[usize]) -> HashSet<usize> {
    // For each length the place at which a rise of this length ends lowest.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(numbers.len());
    for (place, number) in numbers.iter().enumerate() {
        let length = ends.partition_point(|end| numbers.get(*end) < Some(number));
        before.push(
            length
                .checked_sub(1)
                .and_then(|shorter| ends.get(shorter))
                .copied(),
        );
        match ends.get_mut(length) {
            Some(end) => *end = place,
            None => ends.push(place),
        }
    }
    let last = ends.last().copied();
    std::iter::successors(last, |place| before.get(*place).copied().flatten()).collect()
}

#[cfg(test)]
mod tests;
