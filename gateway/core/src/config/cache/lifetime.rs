//! How long a response is fresh that does not say so.

use std::{fmt, str::FromStr, time::Duration};

use http::StatusCode;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::scalar::{Lifetime, WholePercent};
use crate::config::scalar::from_text;

/// `1s`, which is for status 200 alone, or by status: `{ 200: 1s, 404: 5s }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ttl(pub(crate) Vec<(StatusCode, Duration)>);

impl Ttl {
    /// The shortest of all: for what holds whatever the status is.
    pub(crate) fn shortest(&self) -> Duration {
        let all = self.0.iter().map(|(_, ttl)| *ttl);
        all.min().unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Ttl;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a length of time such as `1s`, or one for each status: `{ 200: 1s, 404: 5s }`",
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Ttl, E> {
                let Lifetime(ttl) = text.parse().map_err(E::custom)?;
                Ok(Ttl(vec![(StatusCode::OK, ttl)]))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ttl, A::Error> {
                let mut all = Vec::new();
                while let Some((StoredStatus(status), Lifetime(ttl))) = map.next_entry()? {
                    all.push((status, ttl));
                }
                if all.is_empty() {
                    return Err(de::Error::custom(
                        "there is no status in it: `cache: {}` stores what says itself how long it is fresh",
                    ));
                }
                Ok(Ttl(all))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// The status of a response that can be stored.
struct StoredStatus(StatusCode);

impl FromStr for StoredStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse().ok().filter(|_| text.len() == 3);
        let number = number.filter(|number| (200..=599).contains(number));
        let status = number.and_then(|number| StatusCode::from_u16(number).ok());
        let status =
            status.ok_or_else(|| format!("expected a status from 200 to 599, found `{text}`"))?;
        let why = match status.as_u16() {
            206 | 416 => "it is about a part of something",
            304 | 412 => "it is the answer to a condition",
            407 => "it is between the gateway and who connects to it",
            _ => return Ok(Self(status)),
        };
        Err(format!(
            "a response with status {text} is never stored: {why}"
        ))
    }
}

from_text!(StoredStatus, "a status such as 200");

/// `10%`, or `{ share: 10%, longest: 1d }`: a lifetime guessed from how long ago something changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Guess {
    pub(crate) share: WholePercent,
    pub(crate) longest: Lifetime,
}

impl Guess {
    fn of(share: WholePercent) -> Self {
        Self {
            share,
            longest: Lifetime(Duration::from_secs(86_400)),
        }
    }
}

impl<'de> Deserialize<'de> for Guess {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Full {
            share: WholePercent,
            longest: Option<Lifetime>,
        }

        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Guess;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a share such as `10%`, or a map with `share`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Guess, E> {
                text.parse().map(Guess::of).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Guess, A::Error> {
                let Full { share, longest } = Full::deserialize(MapAccessDeserializer::new(map))?;
                let usual = Guess::of(share);
                Ok(Guess {
                    longest: longest.unwrap_or(usual.longest),
                    ..usual
                })
            }
        }

        deserializer.deserialize_struct("heuristic", &["share", "longest"], Either)
    }
}
