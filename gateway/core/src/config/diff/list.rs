//! What the elements of a list are known by, and whether their order matters.

use std::collections::HashMap;

use super::{At, Thing};
use crate::config::{deserialize::BESIDE, document::Tree};

/// The elements of a list, each with a name of its own.
pub(super) type Named = [(String, Tree)];

/// What the elements of a list are known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListKind {
    /// It is one value.
    Value,
    Routes,
    Filters,
    Endpoints,
    /// By the key `chain`, `name` or `upstream`, or else by their numbers.
    Maps,
}

impl ListKind {
    pub(super) fn of(at: &At, before: &[Tree], after: &[Tree]) -> Self {
        let mut all = before.iter().chain(after);
        match at.last.as_str() {
            "routes" if at.path == "routes" => Self::Routes,
            "filters" => Self::Filters,
            "endpoints" => Self::Endpoints,
            _ if all.all(|element| matches!(element, Tree::Map(_))) => Self::Maps,
            _ => Self::Value,
        }
    }

    /// The elements in one spelling, with their names. Of the same name each has a number.
    pub(super) fn named(self, elements: &[Tree]) -> Vec<(String, Tree)> {
        let mut counts: HashMap<String, usize> = HashMap::new();
        let named = elements.iter().enumerate().map(|(index, element)| {
            let tree = self.in_one_spelling(element);
            let name = self.name(element, index);
            let count = counts.entry(name.clone()).or_default();
            *count += 1;
            match *count {
                1 => (name, tree),
                number => (format!("{name}#{number}"), tree),
            }
        });
        named.collect()
    }

    fn in_one_spelling(self, element: &Tree) -> Tree {
        match (self, element.text()) {
            (Self::Filters, Some(_)) => Tree::Map(Vec::new()),
            (Self::Filters, None) => filter_in_one_spelling(element),
            (Self::Endpoints, Some(address)) => {
                Tree::Map(vec![("address".to_owned(), Tree::Text(address))])
            }
            _ => element.clone(),
        }
    }

    fn name(self, element: &Tree, index: usize) -> String {
        let text = |key| element.get(key).and_then(Tree::text);
        let name = match self {
            Self::Routes => text("name").or_else(|| Some(pattern(element.get("match")))),
            Self::Filters => text("name")
                .or_else(|| element.text())
                .or_else(|| Some(filter_of(element).to_owned())),
            Self::Endpoints => text("address").or_else(|| element.text()),
            Self::Maps => text("chain")
                .or_else(|| text("name"))
                .or_else(|| text("upstream")),
            Self::Value => None,
        };
        name.unwrap_or_else(|| index.to_string())
    }

    pub(super) fn place(self, list: &At, name: &str) -> At {
        let at = list.element(name);
        match self {
            Self::Routes => at.is(Thing::Route, name),
            Self::Filters if list.path == "filters" => at.is(Thing::Filter, name),
            Self::Endpoints => match &list.thing {
                Some((Thing::Upstream, upstream)) => {
                    let name = format!("{name} of {upstream}");
                    at.is(Thing::Endpoint, name)
                }
                _ => at,
            },
            Self::Filters | Self::Maps | Self::Value => at,
        }
    }

    /// Whether it makes a difference which of two stands first.
    pub(super) fn order_matters(self, one: &Tree, other: &Tree) -> bool {
        match self {
            Self::Filters => true,
            Self::Routes => routes_compete(one.get("match"), other.get("match")),
            Self::Endpoints | Self::Maps | Self::Value => false,
        }
    }
}

/// The filter that an element of a list of filters is.
fn filter_of(element: &Tree) -> &str {
    let mut keys = element.entries().iter().map(|(key, _)| key.as_str());
    keys.find(|key| !BESIDE.contains(key)).unwrap_or_default()
}

/// What a filter is told and what stands beside it, in one map where that is possible.
fn filter_in_one_spelling(element: &Tree) -> Tree {
    let filter = filter_of(element);
    let beside = element
        .entries()
        .iter()
        .filter(|(key, _)| key != filter && key != "name");
    let own = match element.get(filter) {
        Some(Tree::Null) | None => &[],
        Some(Tree::Map(own)) => own.as_slice(),
        Some(_) => return element.clone(),
    };
    if own.iter().any(|(key, _)| BESIDE.contains(&key.as_str())) {
        return element.clone();
    }
    Tree::Map(own.iter().chain(beside).cloned().collect())
}

/// What a route is called that has no name: `shop.example.com/cart`.
fn pattern(matching: Option<&Tree>) -> String {
    let Some(matching) = matching else {
        return "/".to_owned();
    };
    let part = |key| matching.get(key).map(Tree::to_string).unwrap_or_default();
    let path = matching.get("path");
    let path = path.map_or_else(|| "/".to_owned(), Tree::to_string);
    let rest: Vec<_> = matching
        .entries()
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), "host" | "path"))
        .map(|(key, value)| format!(" {key}={value}"))
        .collect();
    format!("{}{path}{}", part("host"), rest.concat())
}

/// Whether the order of the file may decide between two routes: they have regular expressions, or the same path.
fn routes_compete(one: Option<&Tree>, other: Option<&Tree>) -> bool {
    let of = |matching: Option<&Tree>, key: &str| matching.and_then(|tree| tree.get(key)).cloned();
    let is_regex = |path: &Option<Tree>| {
        let path = path.as_ref();
        path.is_some_and(|path| path.get("regex").is_some())
    };
    let [host, their_host] = [one, other].map(|matching| of(matching, "host"));
    let [path, their_path] = [one, other].map(|matching| of(matching, "path"));
    let by_order = path == their_path || (is_regex(&path) && is_regex(&their_path));
    by_order && (host == their_host || !host.iter().chain(&their_host).all(Tree::is_scalar))
}
