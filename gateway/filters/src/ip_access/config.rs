//! What the user writes under `ip_access:`.

use std::{borrow::Cow, fmt, str::FromStr};

use edgeway_sdk::types::FilePath;
use serde::{Deserialize, Deserializer, de};

use super::networks::Network;
use crate::written::Refusing;

/// All of `ip_access:`; [`DOC`](super::DOC) says what each key means.
#[derive(Deserialize)]
pub(crate) struct Config {
    pub(super) allow: Option<Vec<Network>>,
    #[serde(default)]
    pub(super) allow_files: Vec<FilePath>,
    pub(super) deny: Option<Vec<Network>>,
    #[serde(default)]
    pub(super) deny_files: Vec<FilePath>,
    pub(super) countries: Option<Section<Country>>,
    pub(super) asns: Option<Section<Asn>>,
    #[serde(default)]
    pub(super) status: Refusing,
}

/// What is allowed and denied by something that a database knows.
#[derive(Deserialize)]
pub(super) struct Section<T> {
    pub(super) database: FilePath,
    pub(super) allow: Option<Vec<T>>,
    pub(super) deny: Option<Vec<T>>,
    pub(super) unknown: Option<Unknown>,
}

/// What becomes of addresses that a database does not know.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unknown {
    Allow,
    Deny,
}

/// A country by its two letters (ISO 3166-1): `DE`. Case does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
pub(super) struct Country([u8; 2]);

impl TryFrom<Cow<'_, str>> for Country {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Country {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.as_bytes() {
            [first, second] if text.bytes().all(|byte| byte.is_ascii_alphabetic()) => Ok(Self([
                first.to_ascii_uppercase(),
                second.to_ascii_uppercase(),
            ])),
            _ => Err(format!(
                "expected the two letters of a country such as `DE`, found `{text}`"
            )),
        }
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.0.map(char::from);
        write!(f, "{first}{second}")
    }
}

/// The number of an autonomous system: `64496` or `AS64496`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asn(pub(super) u32);

impl FromStr for Asn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_prefix("AS").unwrap_or(text);
        let number = number.parse().map(Self);
        number.map_err(|_| {
            format!("expected the number of a network such as `64496` or `AS64496`, found `{text}`")
        })
    }
}

impl<'de> Deserialize<'de> for Asn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Asn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the number of a network such as `64496` or `AS64496`")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Asn, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Asn, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AS{}", self.0)
    }
}
