//! The maps of a YAML text, where they are, and whose keys they have.

use saphyr_parser::{Event, Marker, Parser};

/// Whose keys the keys of a map are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// The gateway's, or a filter's: any other is a mistake.
    Known,
    /// One name of several: a filter, or a variant.
    Choice,
    /// The user's own: any is right.
    Free,
}

/// A map of a YAML text.
pub(super) struct Map {
    /// As `routes[].match.headers`.
    pub(super) path: String,
    pub(super) line: usize,
    /// Where the first key of the map is, or would be.
    column: usize,
    at: usize,
    /// Whether it is written in braces.
    flow: bool,
}

/// Maps whose keys are names that users choose. What is below `json` is theirs as well.
const FREE: [&str; 34] = [
    "caches",
    "listeners",
    "upstreams",
    "routes[].match.headers",
    "routes[].match.query",
    "routes[].match.cookies",
    "routes[].respond.headers",
    "routes[].files.types",
    "basic_auth.users",
    "headers.request.append",
    "headers.request.set",
    "headers.request.set_if_absent",
    "headers.response.append",
    "headers.response.set",
    "headers.response.set_if_absent",
    "json_fields.request.add",
    "json_fields.request.rename",
    "json_fields.request.set",
    "json_fields.response.add",
    "json_fields.response.rename",
    "json_fields.response.set",
    "jwt.forward",
    "jwt.require",
    "forward_auth.identity",
    "introspect.forward",
    "oidc.forward",
    "oidc.parameters",
    "api_key.forward",
    "api_key.keys[].metadata",
    "authorize.claims",
    "client_certificate.forward",
    "trace.attributes",
    "trace.otlp.headers",
    "unless.headers",
];

/// Maps that are one name with its value.
const CHOICES: [&str; 5] = [
    "filters[]",
    "jwt.from[]",
    "access_log.to",
    "cache.query",
    ".sticky",
];

impl Map {
    /// Whose keys its keys are.
    pub(super) fn keys(&self) -> Keys {
        // A filter's keys don't depend on where the filter stands.
        let path = self
            .path
            .rsplit_once("filters[].")
            .map_or(&*self.path, |(_, filter)| filter);
        let free = FREE.contains(&path) || path.ends_with(".tcp.sni");
        let json = ["routes[].respond.json", "error_pages.pages[].json"];
        let of_test = path.starts_with("tests[].");
        let free = free || (of_test && (path.ends_with("headers") || path.ends_with("claims")));
        if free || json.iter().any(|json| path.starts_with(json)) {
            Keys::Free
        } else if CHOICES.iter().any(|choice| path.ends_with(choice)) {
            Keys::Choice
        } else {
            Keys::Known
        }
    }

    /// The column in which a key put at the beginning is found to be wrong: its own, or that of the map.
    pub(super) fn culprit(&self) -> usize {
        self.column - usize::from(self.flow && self.keys() == Keys::Choice)
    }

    /// The text with another entry at the beginning of this map.
    pub(super) fn with_entry(&self, text: &str, entry: &str) -> String {
        let (before, after) = text.split_at(self.at);
        if self.flow {
            return format!("{before}{entry}, {after}");
        }
        format!(
            "{before}{entry}\n{:indent$}{after}",
            "",
            indent = self.column - 1
        )
    }
}

/// All maps of a text, outer ones first. The text is ASCII, so that characters are bytes.
pub(super) fn of(text: &str) -> Vec<Map> {
    assert!(text.is_ascii());
    let mut maps = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.unwrap();
        match event {
            Event::MappingStart(..) => {
                let path = path_below(&mut open, None);
                maps.push(map(text, path.clone(), span.start));
                open.push(Open {
                    path,
                    key: Some(None),
                });
            }
            Event::SequenceStart(..) => {
                let path = path_below(&mut open, None) + "[]";
                open.push(Open { path, key: None });
            }
            Event::MappingEnd | Event::SequenceEnd => {
                open.pop();
            }
            Event::Scalar(word, ..) => {
                path_below(&mut open, Some(&word));
            }
            Event::Alias(_) => panic!("an example is easier to read without aliases"),
            _ => {}
        }
    }
    maps
}

/// A list, or a map with the key whose value comes next, if it was read.
struct Open {
    path: String,
    key: Option<Option<String>>,
}

/// The path of a value that begins here. A word may be a key instead, and is remembered then.
fn path_below(open: &mut [Open], word: Option<&str>) -> String {
    let Some(inner) = open.last_mut() else {
        return String::new();
    };
    let Some(key) = &mut inner.key else {
        return inner.path.clone();
    };
    match (key.take(), word) {
        (None, Some(word)) => *key = Some(word.to_owned()),
        (None, None) => panic!("a key is a word"),
        (Some(name), _) if inner.path.is_empty() => return name,
        (Some(name), _) => return format!("{}.{name}", inner.path),
    }
    String::new()
}

fn map(text: &str, path: String, start: Marker) -> Map {
    let flow = text
        .get(start.index()..)
        .is_some_and(|rest| rest.starts_with('{'));
    // The key stands after the brace.
    let shift = usize::from(flow);
    Map {
        path,
        line: start.line(),
        column: start.col() + 1 + shift,
        at: start.index() + shift,
        flow,
    }
}
