//! Values as people write them in several filters: one or many, patterns with stars, statuses.

use std::{borrow::Cow, fmt, marker::PhantomData, str::FromStr};

use serde::{
    Deserialize, Deserializer,
    de::{self, IntoDeserializer, SeqAccess, Visitor},
};
use serde_json::Value;

/// One value, or a list of any length: `issuer: a` and `issuer: [a, b]`.
#[derive(Debug)]
pub(crate) struct Several<T>(pub(crate) Vec<T>);

/// One value, or a list with at least one: `role: a` and `role: [a, b]`.
#[derive(Debug)]
pub(crate) struct OneOrMany<T>(Vec<T>);

impl<T> OneOrMany<T> {
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Several(values) = Several::deserialize(deserializer)?;
        if values.is_empty() {
            return Err(de::Error::custom("the list is empty: nothing would fit"));
        }
        Ok(Self(values))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Several<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueOrList(PhantomData))
    }
}

struct ValueOrList<T>(PhantomData<T>);

macro_rules! one {
    ($($visit:ident: $type:ty,)*) => {$(
        fn $visit<E: de::Error>(self, value: $type) -> Result<Self::Value, E> {
            Ok(Several(vec![T::deserialize(value.into_deserializer())?]))
        }
    )*};
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for ValueOrList<T> {
    type Value = Several<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or a list of values")
    }

    one! { visit_str: &str, visit_bool: bool, visit_u64: u64, visit_i64: i64, visit_f64: f64, }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Several(values))
    }
}

/// A text, a number or a truth value, as a claim may have it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scalar(pub(crate) Value);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyScalar)
    }
}

struct AnyScalar;

macro_rules! scalar {
    ($($visit:ident: $type:ty,)*) => {$(
        fn $visit<E: de::Error>(self, value: $type) -> Result<Scalar, E> {
            Ok(Scalar(value.into()))
        }
    )*};
}

impl Visitor<'_> for AnyScalar {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number or a truth value")
    }

    scalar! { visit_str: &str, visit_bool: bool, visit_u64: u64, visit_i64: i64, visit_f64: f64, }
}

/// A text in which a `*` stands for any letters but a comma, or for none. A comma parts the parts of a
/// name (`CN=*,O=Acme`), and a star must not reach over it. Case matters.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
pub(crate) struct Pattern {
    /// Before the first star, or all.
    first: String,
    /// Behind each star.
    pieces: Vec<String>,
}

impl Pattern {
    /// Whether all of the text fits.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let Some((last, between)) = self.pieces.split_last() else {
            return text == self.first;
        };
        let Some(mut rest) = text.strip_prefix(self.first.as_str()) else {
            return false;
        };
        // Each piece where it comes first: one with a comma fits there or nowhere, since no star reaches
        // over it, and any other leaves the most to those behind it.
        for piece in between {
            let Some((skipped, after)) = rest.split_once(piece.as_str()) else {
                return false;
            };
            if skipped.contains(',') {
                return false;
            }
            rest = after;
        }
        rest.strip_suffix(last.as_str())
            .is_some_and(|skipped| !skipped.contains(','))
    }
}

impl TryFrom<Cow<'_, str>> for Pattern {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("expected a text, perhaps with `*` in it".to_owned());
        }
        let mut pieces = text.split('*').map(str::to_owned);
        Ok(Self {
            first: pieces.next().unwrap_or_default(),
            pieces: pieces.collect(),
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first)?;
        self.pieces
            .iter()
            .try_for_each(|piece| write!(f, "*{piece}"))
    }
}

/// The status of a refusal, from 400 to 599; 403 if nothing is written.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "u16")]
pub(crate) struct Refusing(pub(crate) u16);

impl Default for Refusing {
    fn default() -> Self {
        Self(403)
    }
}

impl TryFrom<u16> for Refusing {
    type Error = String;

    fn try_from(status: u16) -> Result<Self, String> {
        if !(400..=599).contains(&status) {
            return Err(format!("expected a status from 400 to 599, found {status}"));
        }
        Ok(Self(status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_letters_but_a_comma() {
        for (pattern, text, fits) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("*", "ab", true),
            ("*", "a,b", false),
            ("CN=*,O=Acme", "CN=billing,O=Acme", true),
            ("CN=*,O=Acme", "CN=billing,O=Evil,O=Acme", false),
            ("CN=*,O=Acme", "CN=billing,O=Acme,C=DE", false),
            ("CN=*,O=Acme", "cn=billing,O=Acme", false),
            ("CN=*,OU=*,O=Acme", "CN=a,OU=b,O=Acme", true),
            ("CN=*,OU=*,O=Acme", "CN=a,X=1,OU=b,O=Acme", false),
            ("DNS:*.internal", "DNS:a.b.internal", true),
            ("DNS:*.internal", "DNS:.internal", true),
            ("DNS:*.internal", "DNS:internal", false),
            ("*a*b*", "xaybz", true),
            ("*a*b*", "xbya", false),
            ("ab*ba", "aba", false),
            ("svc-*", "svc-", true),
        ] {
            let known: Pattern = pattern.parse().unwrap();
            assert_eq!(known.matches(text), fits, "{pattern} {text}");
            assert_eq!(known.to_string(), pattern);
        }
        assert!("".parse::<Pattern>().is_err());
    }

    #[test]
    fn one_is_as_good_as_a_list_of_one_and_none_is_refused() {
        let read = |json: &str| {
            let read: Result<OneOrMany<Scalar>, _> = serde_json::from_str(json);
            read.map(|values| {
                values
                    .iter()
                    .map(|value| value.0.clone())
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(read("\"a\"").unwrap(), ["a"]);
        assert_eq!(
            read("[\"a\", 1, true]").unwrap(),
            [Value::from("a"), 1.into(), true.into()]
        );
        assert_eq!(read("-1").unwrap(), [-1]);
        for json in ["[]", "[[]]", "{}", "null"] {
            assert!(read(json).is_err(), "{json}");
        }
    }
}
