//! What is to be done, as it is written.

use std::{fmt, marker::PhantomData};

use edgeway_sdk::{prelude::*, template::Source};
use serde::{Deserializer, de};

use super::path::Path;

/// `{ remove: [password], rename: { userName: user_name }, set: { tenant: "{claim.tenant}" } }`
#[derive(Default, Deserialize)]
pub(super) struct Written {
    #[serde(default)]
    pub(super) remove: Vec<Path>,
    #[serde(default)]
    pub(super) rename: Pairs<String>,
    #[serde(default)]
    pub(super) set: Pairs<Scalar>,
    #[serde(default)]
    pub(super) add: Pairs<Scalar>,
}

impl Written {
    pub(super) fn is_empty(&self) -> bool {
        let no_values = self.set.0.is_empty() && self.add.0.is_empty();
        no_values && self.remove.is_empty() && self.rename.0.is_empty()
    }
}

/// Fields and what is said of them, in the order of the file.
pub(super) struct Pairs<V>(pub(super) Vec<(Path, V)>);

/// What a field is set to.
#[derive(Debug)]
pub(super) enum Scalar {
    /// JSON as it is put in.
    Fixed(String),
    Text(Template),
}

impl Scalar {
    /// None if there is no value: no field is made of it.
    pub(super) fn json(&self, source: &impl Source) -> Option<String> {
        match self {
            Self::Fixed(json) => Some(json.clone()),
            Self::Text(template) => {
                let text = template.render(source);
                (!text.is_empty()).then(|| quoted(&text))
            }
        }
    }
}

/// A text as JSON has it.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl<V> Default for Pairs<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> de::Visitor<'de> for Map<V> {
            type Value = Pairs<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of fields such as `user.name`")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs: Vec<(Path, V)> = Vec::new();
                while let Some(path) = map.next_key::<Path>()? {
                    if pairs.iter().any(|(known, _)| *known == path) {
                        return Err(de::Error::custom(format!("`{path}` stands here twice")));
                    }
                    pairs.push((path, map.next_value()?));
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Map(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyScalar)
    }
}

struct AnyScalar;

macro_rules! fixed {
    ($($visit:ident: $type:ty,)*) => {$(
        fn $visit<E: de::Error>(self, value: $type) -> Result<Scalar, E> {
            Ok(Scalar::Fixed(serde_json::Value::from(value).to_string()))
        }
    )*};
}

impl de::Visitor<'_> for AnyScalar {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, perhaps with values such as `{subject}` in it, a number, a truth value or null")
    }

    fixed! { visit_bool: bool, visit_u64: u64, visit_i64: i64, visit_f64: f64, }

    fn visit_unit<E: de::Error>(self) -> Result<Scalar, E> {
        Ok(Scalar::Fixed("null".to_owned()))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
        let template: Template = text.parse().map_err(E::custom)?;
        Ok(match template.literal() {
            Some(text) => Scalar::Fixed(quoted(text)),
            None => Scalar::Text(template),
        })
    }
}
