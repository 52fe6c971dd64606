//! The keys that are known, by their hashes.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use ahash::RandomState;
use edgeway_sdk::Identity;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::until::Until;
use crate::{
    credentials::key::Hash,
    watched::{Content, Wrong},
    written::Scalar,
    yaml,
};

/// A key as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    id: Id,
    hash: Hash,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    metadata: BTreeMap<String, Metadata>,
    not_after: Option<Until>,
}

/// Whose a key is: a text that can stand in a header.
#[derive(Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
struct Id(String);

impl TryFrom<Cow<'_, str>> for Id {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        if text.is_empty() || text.contains(char::is_control) || text.trim() != text {
            return Err("expected whose key it is, without spaces around it".to_owned());
        }
        Ok(Self(text.into_owned()))
    }
}

/// What else is known of a caller: a value or a list of values.
struct Metadata(Value);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        macro_rules! scalar {
            ($($visit:ident: $type:ty,)*) => {$(
                fn $visit<E: serde::de::Error>(self, value: $type) -> Result<Metadata, E> {
                    Ok(Metadata(value.into()))
                }
            )*};
        }

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, a truth value or a list of them")
            }

            scalar! {
                visit_str: &str, visit_bool: bool, visit_u64: u64, visit_i64: i64, visit_f64: f64,
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<Metadata, A::Error> {
                let mut values = Vec::new();
                while let Some(Scalar(value)) = list.next_element()? {
                    values.push(value);
                }
                Ok(Metadata(values.into()))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// A key that is known.
#[derive(Debug)]
pub(super) struct Key {
    hash: Hash,
    pub(super) identity: Identity,
    pub(super) until: Option<Until>,
}

impl Key {
    fn new(written: Written) -> Result<Self, String> {
        let mut claims = Map::new();
        for (name, Metadata(value)) in written.metadata {
            claims.insert(name, value);
        }
        let roles = written.roles.into_iter().map(Value::from).collect();
        let own = [
            ("id", Value::from(written.id.0.as_str())),
            ("roles", Value::Array(roles)),
        ];
        for (name, value) in own {
            if claims.insert(name.to_owned(), value).is_some() {
                return Err(format!(
                    "`{name}` can't stand in `metadata`, it is a key of its own"
                ));
            }
        }
        Ok(Self {
            hash: written.hash,
            identity: Identity::with_claims(written.id.0, Arc::new(claims)),
            until: written.not_after,
        })
    }
}

/// Keys by their hashes. Somebody may have several, for instance an old one and the one that takes its place.
#[derive(Debug, Default)]
pub(super) struct Keys(HashMap<Hash, Arc<Key>, RandomState>);

impl Keys {
    /// Adds a key, unless it is known already.
    pub(super) fn add(&mut self, written: Written) -> Result<(), String> {
        let key = Key::new(written)?;
        match self.0.insert(key.hash.clone(), Arc::new(key)) {
            Some(other) => Err(format!(
                "this is the key of `{}` already",
                other.identity.subject()
            )),
            None => Ok(()),
        }
    }

    /// The key with this hash. What the time it takes could tell is about hashes, which nobody can choose.
    pub(super) fn find(&self, hash: &Hash) -> Option<&Arc<Key>> {
        self.0.get(hash).filter(|key| key.hash.is(hash))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Key>> {
        self.0.values()
    }
}

/// A YAML file with a list of keys.
impl Content for Keys {
    fn parse(bytes: Vec<u8>) -> Result<Self, Wrong> {
        let mut keys = Self::default();
        for (line, written) in yaml::list(&bytes)? {
            keys.add(written)
                .map_err(|error| Wrong::line(line, error))?;
        }
        Ok(keys)
    }
}
