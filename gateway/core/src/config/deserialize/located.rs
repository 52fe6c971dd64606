//! Types for configurations that keep where their values stand.
//!
//! They speak to our deserializer through names of newtype structs that no other type has. With
//! any other deserializer, and in what serde buffers (`untagged`, `flatten`, `tag`), they are
//! refused: there the place is lost.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::config::diagnostic::Spot;
use crate::config::document::NodeId;

/// The names under which our deserializer knows these types.
pub(in crate::config) const AT: &str = "$edgeway::At";
pub(in crate::config) const NODE: &str = "$edgeway::NodeRef";
pub(in crate::config) const NAMED: &str = "$edgeway::Named";

/// A value, and the node where it stands. It compares and hashes as the value alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) node: NodeId,
}

/// A part of the document that is read later, by somebody who knows its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeRef {
    pub(crate) node: NodeId,
    /// The node is only a word, which stands for what it names with nothing after it.
    pub(super) bare: bool,
}

/// A choice by name: `word`, or `word: value`, as filters are written. Beside it may stand what is said of
/// any of them.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) name: At<String>,
    /// What is configured; nothing after a bare word.
    pub(crate) value: NodeRef,
    /// What stands beside it, in the order of [`BESIDE`].
    pub(crate) beside: [Option<NodeRef>; BESIDE.len()],
}

/// Keys that may stand beside any name.
pub(crate) const BESIDE: [&str; 4] = ["when", "unless", "mode", "name"];

/// A map in the order of the file, with the places of its keys.
#[derive(Clone, Debug)]
pub(crate) struct Entries<V>(pub(crate) Vec<(At<String>, V)>);

impl<T: PartialEq> PartialEq for At<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for At<T> {}

impl<T: PartialOrd> PartialOrd for At<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

impl<T: Ord> Ord for At<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.value.cmp(&other.value)
    }
}

impl<T: Hash> Hash for At<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value.hash(state);
    }
}

impl Borrow<str> for At<String> {
    fn borrow(&self) -> &str {
        &self.value
    }
}

impl<T> From<&At<T>> for Spot {
    fn from(at: &At<T>) -> Self {
        Self::Node(at.node)
    }
}

impl From<NodeId> for NodeRef {
    fn from(node: NodeId) -> Self {
        Self { node, bare: false }
    }
}

impl NodeRef {
    /// Nothing, standing where `word` stands: what a bare word configures.
    pub(crate) fn nothing_after(word: NodeId) -> Self {
        Self {
            node: word,
            bare: true,
        }
    }
}

impl From<NodeRef> for Spot {
    fn from(part: NodeRef) -> Self {
        Self::Node(part.node)
    }
}

impl<V> Default for Entries<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V> Entries<V> {
    /// Names and values, in the order of the file.
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, (At<String>, V)> {
        self.0.iter()
    }
}

impl<'a, V> IntoIterator for &'a Entries<V> {
    type Item = &'a (At<String>, V);
    type IntoIter = std::slice::Iter<'a, (At<String>, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<V> IntoIterator for Entries<V> {
    type Item = (At<String>, V);
    type IntoIter = std::vec::IntoIter<(At<String>, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Both<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Both<T> {
            type Value = At<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value whose place is known")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<At<T>, A::Error> {
                let node = next::<u32, A>(&mut parts)?;
                Ok(At {
                    node: NodeId::from_raw(node),
                    value: next(&mut parts)?,
                })
            }
        }

        deserializer.deserialize_newtype_struct(AT, Both(PhantomData))
    }
}

impl<'de> Deserialize<'de> for NodeRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts;

        impl<'de> Visitor<'de> for Parts {
            type Value = NodeRef;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value whose place is known")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<NodeRef, A::Error> {
                let node = NodeId::from_raw(next::<u32, A>(&mut parts)?);
                Ok(NodeRef {
                    node,
                    bare: next::<u32, A>(&mut parts)? == 1,
                })
            }
        }

        deserializer.deserialize_newtype_struct(NODE, Parts)
    }
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choice;

        impl<'de> Visitor<'de> for Choice {
            type Value = Named;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name, or a map of one name to its options")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Named, A::Error> {
                let (name, value) = (next(&mut parts)?, next(&mut parts)?);
                let mut beside = [None; BESIDE.len()];
                for place in &mut beside {
                    *place = next(&mut parts)?;
                }
                Ok(Named {
                    name,
                    value,
                    beside,
                })
            }
        }

        deserializer.deserialize_newtype_struct(NAMED, Choice)
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Entries<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for Each<V> {
            type Value = Entries<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<V>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Each(PhantomData))
    }
}

fn next<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(parts: &mut A) -> Result<T, A::Error> {
    parts
        .next_element()?
        .ok_or_else(|| A::Error::custom("a value whose place is not known"))
}
