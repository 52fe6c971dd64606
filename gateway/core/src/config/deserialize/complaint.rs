//! serde's errors in our words: what was expected, what is there, and what to write instead.

use std::collections::HashSet;

use super::failure::{Error, Failure};
use super::located::BESIDE;
use crate::config::diagnostic::{Diagnostic, counted, nearest, one_of, suggestion};
use crate::config::document::{Document, Kind, NodeId, Scalar, Style, Value};

/// How much of a value is repeated in a message.
const QUOTED: usize = 60;

/// The diagnostic for a failure.
pub(super) fn of(document: &Document, failure: &Failure) -> Diagnostic {
    let node = failure.node.node;
    match &failure.error {
        Error::Custom(message) => {
            let message = without_secrets(document, node, message.clone());
            Diagnostic::error(own_words(&message)).at(node)
        }
        Error::Form { message, help } => Diagnostic::error(message.clone())
            .at(node)
            .help_if(help.clone()),
        Error::Type { found, expected } | Error::Value { found, expected } => {
            mismatch(document, failure, found, expected)
        }
        Error::Length { length, expected } => {
            Diagnostic::error(format!("expected {}, found {length}", in_yaml(expected))).at(node)
        }
        Error::Variant { found, known } => unknown_variant(document, node, found, known),
        Error::Field { found, known } => {
            let key = document.entry(node, found).map_or(node, |(key, _)| key);
            unknown_key(found, key, known)
        }
        Error::Missing(field) => {
            Diagnostic::error(format!("missing key `{field}`")).at_key_of(node)
        }
        Error::Duplicate(field) => {
            let key = document.entry(node, field).map_or(node, |(key, _)| key);
            Diagnostic::error(format!("`{field}` is there twice, under different names")).at(key)
        }
        Error::Consequence => Diagnostic::error(failure.text.clone()).at(node),
    }
}

/// A key that the type of its map does not have.
pub(super) fn unknown_key(name: &str, key: NodeId, fields: &[&'static str]) -> Diagnostic {
    let problem = Diagnostic::error(format!("unknown key `{}`", shortened(name))).at(key);
    match suggestion(name, fields) {
        Some(help) => problem.help(help),
        None => problem.help("no key is known here"),
    }
}

/// A key that a type skips, which may know others or none.
pub(super) fn ignored_key(document: &Document, key: NodeId) -> Diagnostic {
    let name = shortened(document.text(key).unwrap_or_default());
    Diagnostic::error(format!("unknown key `{name}`"))
        .at(key)
        .help("it would have no effect")
}

/// A map where one name with its value is wanted.
pub(super) fn not_one_key(document: &Document, entries: &[(NodeId, NodeId)]) -> Error {
    let message = format!(
        "expected one name, found a map with {}",
        counted(entries.len(), "key")
    );
    let keys = entries.iter().filter_map(|(key, _)| document.text(*key));
    let mut meant = keys.filter_map(|key| Some((key, nearest(key, &BESIDE)?)));
    let misspelt = || {
        let (key, meant) = meant.next_back()?;
        Some(format!("did you mean `{meant}` by `{key}`?"))
    };
    Error::Form {
        message,
        help: indented(document, entries).or_else(misspelt),
    }
}

/// A map where one of some variants with its value is wanted.
pub(super) fn not_one_variant(
    document: &Document,
    entries: &[(NodeId, NodeId)],
    variants: &[&'static str],
) -> Error {
    let found = format!("a map with {}", counted(entries.len(), "key"));
    let message = format!("expected {}, found {found}", one_of(variants));
    Error::Form {
        message,
        help: indented(document, entries),
    }
}

/// Something else where one of some variants is wanted.
pub(super) fn not_a_variant(found: &str, variants: &[&'static str]) -> Error {
    Error::Form {
        message: format!("expected {}, found {found}", one_of(variants)),
        help: None,
    }
}

/// A value after a word that takes none.
pub(super) fn no_value_wanted() -> Error {
    let help = Some("write the word alone".to_owned());
    Error::Form {
        message: "this word takes no value".to_owned(),
        help,
    }
}

/// The usual reason for a map with too many keys.
fn indented(document: &Document, entries: &[(NodeId, NodeId)]) -> Option<String> {
    let (name, value) = entries.first()?;
    let name = document.text(*name)?;
    let empty = matches!(document.kind(*value), Kind::Scalar(scalar) if scalar.is_null());
    empty.then(|| format!("indent the lines below `{name}:` so that they belong to it"))
}

fn mismatch(document: &Document, failure: &Failure, found: &str, expected: &str) -> Diagnostic {
    let node = failure.node.node;
    let expected = in_yaml(expected);
    if failure.node.bare {
        let name = document.text(node).unwrap_or_default();
        return Diagnostic::error(format!("`{name}` needs a value: {expected}")).at(node);
    }
    let (found, help) = match document.kind(node) {
        Kind::Scalar(scalar) => (
            scalar_in_words(scalar, document.is_secret(node)),
            remedy(scalar, &expected, document.is_secret(node)),
        ),
        Kind::Sequence(_) if found == "sequence" => ("a list".to_owned(), None),
        Kind::Mapping(_) if found == "map" => ("a map".to_owned(), listed(&expected)),
        // serde buffered the value, and something inside it is meant.
        Kind::Sequence(_) | Kind::Mapping(_) => (found.to_owned(), None),
    };
    let message = format!("expected {expected}, found {found}");
    Diagnostic::error(without_secrets(document, node, message))
        .at(node)
        .help_if(help)
}

fn unknown_variant(
    document: &Document,
    node: NodeId,
    found: &str,
    known: &[&'static str],
) -> Diagnostic {
    // In what serde buffered, the word is somewhere inside.
    let spot = document.entry(node, found).map_or(node, |(key, _)| key);
    let what = if document.key_of(spot) == Some(spot) {
        "key"
    } else {
        "value"
    };
    let name = shortened(found);
    let message = if document.is_secret(spot) {
        "unknown value".to_owned()
    } else {
        without_secrets(document, node, format!("unknown {what} `{name}`"))
    };
    Diagnostic::error(message)
        .at(spot)
        .help_if(suggestion(found, known))
}

fn own_words(message: &str) -> String {
    if message.starts_with("data did not match any variant of untagged enum") {
        return "this is written in none of the ways that are known here".to_owned();
    }
    // A type may repeat a text of several lines; a message is one.
    message.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

fn scalar_in_words(scalar: &Scalar, secret: bool) -> String {
    let text = scalar.text();
    match scalar.value() {
        Value::Null => "nothing".to_owned(),
        _ if secret => "a secret".to_owned(),
        Value::Bool(_) => format!("`{text}`"),
        Value::Unsigned(_) | Value::Signed(_) | Value::Float(_) => {
            format!("the number `{}`", shortened(text))
        }
        Value::Text("") => "an empty string".to_owned(),
        Value::Text(text) => format!("the string `{}`", shortened(text)),
    }
}

/// What to do about a scalar that is not what was expected.
fn remedy(scalar: &Scalar, expected: &str, secret: bool) -> Option<String> {
    let text = scalar.text();
    let number = matches!(
        scalar.unquoted(),
        Value::Unsigned(_) | Value::Signed(_) | Value::Float(_)
    ) && expected.contains("number");
    let integer =
        matches!(scalar.unquoted(), Value::Unsigned(_) | Value::Signed(_)) && is_integer(expected);
    let boolean = matches!(scalar.unquoted(), Value::Bool(_)) && expected == BOOLEAN;
    if scalar.style() == Style::Quoted && (number || integer || boolean) {
        return Some("remove the quotes".to_owned());
    }
    match expected {
        BOOLEAN => nearest_boolean(text).map(|word| format!("write `{word}`")),
        "a list" if scalar.is_null() => {
            Some("write `[]` for an empty list, or remove the key".to_owned())
        }
        "a list" if !secret && text.len() <= QUOTED => {
            Some(format!("write `[{}]`", in_a_list(text)))
        }
        "a string" if scalar.is_null() && !text.is_empty() => {
            Some(format!("write `\"{text}\"` if this word is meant"))
        }
        _ if scalar.is_null() => Some("write a value, or remove the key".to_owned()),
        _ => None,
    }
}

/// What to do about a map where a list is expected.
fn listed(expected: &str) -> Option<String> {
    (expected == "a list").then(|| "begin each of its keys with `- `".to_owned())
}

/// A text as an element of a `[...]`: in quotes unless it is surely plain.
fn in_a_list(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | ':');
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/');
    if begins && text.chars().all(plain) && !text.ends_with(':') {
        return text.to_owned();
    }
    format!("{text:?}")
}

fn is_integer(expected: &str) -> bool {
    expected.starts_with("an integer")
}

const BOOLEAN: &str = "`true` or `false`";

fn nearest_boolean(text: &str) -> Option<&'static str> {
    match text.to_lowercase().as_str() {
        "yes" | "on" | "y" | "1" => Some("true"),
        "no" | "off" | "n" | "0" => Some("false"),
        word => nearest(word, &["true", "false"]),
    }
}

/// What a type says it expects, in the words of who writes YAML.
fn in_yaml(expected: &str) -> String {
    if let Some(range) = integer_range(expected) {
        return range;
    }
    if let Some(length) = length(expected) {
        return format!("a list of {}", counted(length, "element"));
    }
    let words = match expected {
        "f32" | "f64" => "a number",
        "a boolean" => BOOLEAN,
        "a sequence" => "a list",
        "a borrowed string" => "a string",
        "a character" => "one character",
        "path string" => "a path",
        "unit" => "nothing",
        "option" => "a value",
        "variant identifier" | "field identifier" => "a name",
        _ if expected.starts_with("unit struct ") => "nothing",
        _ if expected.starts_with("struct ") => "a map",
        _ if expected.starts_with("enum ") => "a name",
        other => other,
    };
    words.to_owned()
}

fn integer_range(expected: &str) -> Option<String> {
    let (name, first) = match expected.strip_prefix("a nonzero ") {
        Some(name) => (name, "1"),
        None => (expected, "0"),
    };
    let (first, last) = match name {
        "u8" => (first, u8::MAX.to_string()),
        "u16" => (first, u16::MAX.to_string()),
        "u32" => (first, u32::MAX.to_string()),
        "u64" | "usize" | "u128" => return Some(format!("an integer of at least {first}")),
        "i8" => ("-128", i8::MAX.to_string()),
        "i16" => ("-32768", i16::MAX.to_string()),
        "i32" => ("-2147483648", i32::MAX.to_string()),
        "i64" | "isize" | "i128" => return Some("an integer".to_owned()),
        _ => return None,
    };
    let nonzero = if name.starts_with('i') && name != expected {
        " other than 0"
    } else {
        ""
    };
    Some(format!("an integer from {first} to {last}{nonzero}"))
}

fn length(expected: &str) -> Option<usize> {
    let number = |text: &str| text.split(' ').next()?.parse().ok();
    if let Some((_, rest)) = expected.split_once(" with ") {
        return rest.contains("element").then(|| number(rest)).flatten();
    }
    let lists = ["an array of length ", "a tuple of size "];
    lists
        .iter()
        .find_map(|prefix| number(expected.strip_prefix(prefix)?))
}

/// A message without the secrets that are in a node.
///
/// A type may repeat the value it refuses; a secret shorter than a word is only seen in quotes,
/// where it can be told from the message.
fn without_secrets(document: &Document, node: NodeId, mut message: String) -> String {
    let mut seen = HashSet::new();
    let mut open = vec![node];
    while let Some(at) = open.pop() {
        if !seen.insert(at) {
            continue;
        }
        open.extend(document.elements(at));
        open.extend(document.entries(at).iter().map(|(_, value)| value));
        let Some(secret) = document.text(at).filter(|_| document.is_secret(at)) else {
            continue;
        };
        if secret.len() >= 4 {
            message = message
                .replace(secret, "***")
                .replace(&format!("{secret:?}"), "***");
        }
        for quote in ['`', '"', '\''] {
            let quoted = format!("{quote}{secret}{quote}");
            message = message.replace(&quoted, &format!("{quote}***{quote}"));
        }
    }
    message
}

/// A text that fits into a sentence.
fn shortened(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let start: String = line.chars().take(QUOTED).collect();
    if start.len() == text.len() {
        start
    } else {
        format!("{start}...")
    }
}
