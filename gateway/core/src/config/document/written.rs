//! What a configuration says, apart from where it is written: to compare it, and to show it without its secrets.

use std::fmt;

use edgeway_sdk::Secret;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, SeqAccess, Visitor},
    ser::SerializeMap as _,
};

use super::{Document, Kind, NodeId, Value, password_in_url, speaks_of_a_secret};

/// A value of a configuration. Shown or serialized it has `***` where a secret is; `env:` and `file:` stay as they are
/// written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    /// What is shown, and what it is.
    Masked(String, Secret),
    List(Vec<Self>),
    /// In the order of the file. Keys differ.
    Map(Vec<(String, Self)>),
}

/// What stands for a secret.
pub(crate) const MASK: &str = "***";

impl Tree {
    /// The value of a key, if this is a map that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let (_, value) = self.entries().iter().find(|(name, _)| name == key)?;
        Some(value)
    }

    /// What is in a map; nothing for anything else.
    pub(crate) fn entries(&self) -> &[(String, Self)] {
        match self {
            Self::Map(entries) => entries,
            _ => &[],
        }
    }

    /// Whether it is neither a list nor a map.
    pub(crate) fn is_scalar(&self) -> bool {
        !matches!(self, Self::List(_) | Self::Map(_))
    }

    /// A scalar as people read it; none for anything else.
    pub(crate) fn text(&self) -> Option<String> {
        Some(match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Unsigned(number) => number.to_string(),
            Self::Signed(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Text(text) | Self::Masked(text, _) => text.clone(),
            Self::List(_) | Self::Map(_) => return None,
        })
    }

    /// The texts of all scalars, the hidden ones with what they hide.
    pub(crate) fn visit<'t>(&'t self, see: &mut impl FnMut(&'t Self)) {
        match self {
            Self::List(elements) => elements.iter().for_each(|element| element.visit(see)),
            Self::Map(entries) => entries.iter().for_each(|(_, value)| value.visit(see)),
            scalar => see(scalar),
        }
    }
}

/// On one line, as YAML has it: `{ ttl: 1s, key: *** }`.
impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(elements) => {
                f.write_str("[")?;
                for (index, element) in elements.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{element}")?;
                }
                f.write_str("]")
            }
            Self::Map(entries) if entries.is_empty() => f.write_str("{}"),
            Self::Map(entries) => {
                for (index, (key, value)) in entries.iter().enumerate() {
                    let comma = if index == 0 { "{ " } else { ", " };
                    write!(f, "{comma}{key}: {value}")?;
                }
                f.write_str(" }")
            }
            Self::Text(text) if text.is_empty() || text.contains(['\n', '\r']) => {
                write!(f, "{text:?}")
            }
            scalar => f.write_str(&scalar.text().unwrap_or_default()),
        }
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Unsigned(number) => serializer.serialize_u64(*number),
            Self::Signed(number) => serializer.serialize_i64(*number),
            Self::Float(number) => serializer.serialize_f64(*number),
            Self::Text(text) | Self::Masked(text, _) => serializer.serialize_str(text),
            Self::List(elements) => serializer.collect_seq(elements),
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

/// What another process has shown: its secrets are `***`.
impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of a configuration")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(value))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Tree, E> {
                Ok(Tree::Unsigned(number))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Tree, E> {
                Ok(Tree::Signed(number))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Tree, E> {
                Ok(Tree::Float(number))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Tree, E> {
                Ok(Tree::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element()? {
                    elements.push(element);
                }
                Ok(Tree::List(elements))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Tree::Map(entries))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// Whether what stands at a place is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// Unless the document says that it is a secret.
    Plainly,
    /// As it stands where an alias is used under a key that speaks of a secret, or among the users of a filter.
    Masked,
}

impl Document {
    /// All that it says, with `include` followed, and without anchors and merges.
    pub(crate) fn written(&self) -> Tree {
        self.tree(self.root(), Shown::Plainly)
    }

    fn tree(&self, node: NodeId, shown: Shown) -> Tree {
        match self.kind(node) {
            Kind::Scalar(scalar) => self.leaf(node, scalar.value(), shown),
            Kind::Sequence(elements) => {
                let elements = elements.iter().map(|element| self.tree(*element, shown));
                Tree::List(elements.collect())
            }
            Kind::Mapping(entries) => {
                let entries = entries.iter().map(|(key, value)| {
                    let name = self.text(*key).unwrap_or_default();
                    (name.to_owned(), self.tree(*value, self.shown(name, *value)))
                });
                Tree::Map(entries.collect())
            }
        }
    }

    /// How what a key has is shown. A map has keys of its own, unless it is one of names and passwords.
    fn shown(&self, key: &str, value: NodeId) -> Shown {
        let counts_by = key == "key" && self.text(value).is_some_and(|text| text.starts_with('{'));
        if speaks_of_a_secret(key) && !counts_by {
            Shown::Masked
        } else {
            Shown::Plainly
        }
    }

    fn leaf(&self, node: NodeId, value: Value<'_>, shown: Shown) -> Tree {
        let text = self.text(node).unwrap_or_default();
        let hidden = |shown: String| Tree::Masked(shown, Secret::new(text));
        match value {
            Value::Null => Tree::Null,
            Value::Bool(value) => Tree::Bool(value),
            _ if super::names_a_source(text) => Tree::Text(text.to_owned()),
            _ if shown == Shown::Masked || self.is_secret(node) => hidden(MASK.to_owned()),
            Value::Unsigned(number) => Tree::Unsigned(number),
            Value::Signed(number) => Tree::Signed(number),
            Value::Float(number) if number.is_finite() => Tree::Float(number),
            Value::Float(_) => Tree::Text(text.to_owned()),
            Value::Text(text) => match password_in_url(text) {
                Some(password) => {
                    let mut masked = text.to_owned();
                    masked.replace_range(password, MASK);
                    hidden(masked)
                }
                None => Tree::Text(text.to_owned()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diagnostic::Problems;

    fn written(yaml: &str) -> Tree {
        let problems = &mut Problems::default();
        let document = Document::from_text("edgeway.yaml", yaml, problems);
        assert!(!problems.has_errors());
        document.written()
    }

    fn shown(yaml: &str) -> String {
        serde_json::to_string(&written(yaml)).unwrap()
    }

    #[test]
    fn all_is_shown_as_it_is_written_in_the_order_of_the_file() {
        assert_eq!(
            shown("threads: 2\nadmin: { bind: ':1', on: true }\na: [-1, 1.5, ~, '2']"),
            r#"{"threads":2,"admin":{"bind":":1","on":true},"a":[-1,1.5,null,"2"]}"#
        );
    }

    #[test]
    fn a_secret_is_not_shown_wherever_it_stands() {
        for yaml in [
            "token: hunter2",
            "secrets: [hunter2, hunter2]",
            "key: hunter2",
            "headers: { x: &s hunter2 }\nsecret: *s\nheaders2: {}",
            "routes: [{ filters: [{ basic_auth: { users: { bob: hunter2 } } }] }]",
            "redis: https://bob:hunter2@example.com/",
        ] {
            let shown = shown(yaml);
            assert!(shown.contains("***"), "{yaml}: {shown}");
            if !yaml.contains("&s") {
                assert!(!shown.contains("hunter2"), "{yaml}: {shown}");
            }
            let debugged = format!("{:?}", written(yaml));
            assert!(debugged.contains("***"), "{debugged}");
        }
        assert_eq!(
            shown("secret: env:NAME\nkey: file:/run/key\ntoken: ~"),
            r#"{"secret":"env:NAME","key":"file:/run/key","token":null}"#
        );
    }

    #[test]
    fn what_was_shown_can_be_read_again() {
        let yaml = "routes: [{ match: { path: / }, cache: { ttl: 1s } }]\nthreads: 4\nx: [1.5, ~, true, -3]";
        let again: Tree = serde_json::from_str(&shown(yaml)).unwrap();
        assert_eq!(again, written(yaml));
    }

    #[test]
    fn on_one_line_it_reads_like_yaml() {
        let tree =
            written("cache: { ttl: 1s, methods: [GET, HEAD], secret: abc, more: {}, t: '' }");
        assert_eq!(
            tree.to_string(),
            r#"{ cache: { ttl: 1s, methods: [GET, HEAD], secret: ***, more: {}, t: "" } }"#
        );
    }
}
