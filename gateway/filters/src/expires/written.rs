//! The rules as they are written, and what is wrong with them.

use std::{borrow::Cow, fmt};

use edgeway_sdk::prelude::*;
use serde::{
    Deserializer,
    de::{self, value::MapAccessDeserializer},
};

use super::{Expires, IfStated, Lifetime, MAX, Rule, Scope, Verdict, Words};
use crate::criteria::{List, MediaType, PathPattern, Statuses};

/// `expires: 1h`, a rule, or a list of rules.
pub(crate) enum Config {
    One(Box<Written>),
    Many(Vec<Written>),
}

/// `{ types: [image/*], paths: [/static/], for: 30d, immutable: true }`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    paths: Option<List<PathPattern>>,
    statuses: Option<List<Statuses>>,
    types: Option<List<MediaType>>,
    #[serde(rename = "for")]
    lifetime: Length,
    scope: Option<Scope>,
    shared_for: Option<Seconds>,
    #[serde(default)]
    immutable: bool,
    #[serde(default)]
    must_revalidate: bool,
    stale_while_revalidate: Option<Seconds>,
    stale_if_error: Option<Seconds>,
    #[serde(default, rename = "override")]
    overrides: bool,
}

pub(crate) fn build(config: Config, _: &mut Build<'_>) -> Result<Expires, BuildError> {
    let rules = match config {
        Config::One(written) => vec![written.compile("")?],
        Config::Many(list) => several(list)?,
    };
    Ok(Expires { rules })
}

fn several(list: Vec<Written>) -> Result<Vec<Rule>, BuildError> {
    if list.is_empty() {
        return Err(BuildError::new("there is no rule").help("leave the filter out"));
    }
    if let Some(number) = first_unreachable(&list) {
        let message = "no response gets to this rule: one above fits all";
        return Err(BuildError::at(number.to_string(), message).help("put that one last"));
    }
    let number = |(number, written): (usize, Written)| written.compile(&format!("{number}."));
    list.into_iter().enumerate().map(number).collect()
}

fn first_unreachable(list: &[Written]) -> Option<usize> {
    let all = list.iter().position(Written::takes_all)?;
    let mut below = list.iter().enumerate().skip(all + 1);
    below
        .find(|(_, rule)| rule.statuses.is_none())
        .map(|(number, _)| number)
}

impl Written {
    fn takes_all(&self) -> bool {
        self.paths.is_none() && self.statuses.is_none() && self.types.is_none()
    }

    /// `place` is what stands before a key of this rule in an error.
    fn compile(self, place: &str) -> Result<Rule, BuildError> {
        if let Some((key, message)) = self.useless() {
            return Err(BuildError::at(format!("{place}{key}"), message));
        }
        let verdict = match self.lifetime {
            Length::Off => Verdict::Off,
            Length::Given(lifetime) => Verdict::Say {
                what: self.words(lifetime),
                if_stated: match self.overrides {
                    true => IfStated::Replace,
                    false => IfStated::Keep,
                },
            },
        };
        Ok(Rule {
            paths: self.paths,
            statuses: self.statuses,
            types: self.types,
            verdict,
        })
    }

    fn words(&self, lifetime: Lifetime) -> Words {
        let mut others = String::new();
        if self.must_revalidate {
            others.push_str(", must-revalidate");
        }
        if self.immutable {
            others.push_str(", immutable");
        }
        for (name, seconds) in [
            ("stale-while-revalidate", self.stale_while_revalidate),
            ("stale-if-error", self.stale_if_error),
        ] {
            if let Some(Seconds(seconds)) = seconds {
                others.push_str(&format!(", {name}={seconds}"));
            }
        }
        let shared_for = self.shared_for.map(|seconds| seconds.0);
        Words::new(lifetime, self.scope, shared_for, others)
    }

    /// The first key that would have no effect, and why.
    fn useless(&self) -> Option<(&'static str, String)> {
        // In this order, since what excludes one excludes those after it.
        let given = [
            ("override", self.overrides),
            ("scope", self.scope.is_some()),
            ("shared_for", self.shared_for.is_some()),
            ("immutable", self.immutable),
            ("must_revalidate", self.must_revalidate),
            (
                "stale_while_revalidate",
                self.stale_while_revalidate.is_some(),
            ),
            ("stale_if_error", self.stale_if_error.is_some()),
        ];
        let (useless, reason) = match self.lifetime {
            Length::Off => (&given[..], "with `off`, which says nothing"),
            Length::Given(Lifetime::NoStore) => (&given[1..], "with `no_store`"),
            Length::Given(Lifetime::NoCache) => (&given[2..], "with `no_cache`"),
            Length::Given(Lifetime::For(0)) => (&given[3..4], "with `0s`"),
            Length::Given(Lifetime::For(_) | Lifetime::Max) => (&given[..0], ""),
        };
        let first = |keys: &[(&'static str, bool)]| {
            let found = keys.iter().find(|(_, is_given)| *is_given);
            found.map(|(key, _)| *key)
        };
        if let Some(key) = first(useless) {
            return Some((key, format!("`{key}` has no effect {reason}")));
        }
        if self.scope == Some(Scope::Private) && self.shared_for.is_some() {
            let message = "`shared_for` has no effect with `scope: private`";
            return Some(("shared_for", message.to_owned()));
        }
        let stale = first(&given[5..]).filter(|_| self.must_revalidate)?;
        let message = format!("`{stale}` and `must_revalidate` contradict each other");
        Some((stale, message))
    }
}

/// `30d`, `max`, `no_cache` (which nginx calls `epoch`), `no_store` or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
enum Length {
    Off,
    Given(Lifetime),
}

impl TryFrom<Cow<'_, str>> for Length {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        Ok(Self::Given(match text.as_ref() {
            "off" => return Ok(Self::Off),
            "max" => Lifetime::Max,
            "no_cache" | "epoch" => Lifetime::NoCache,
            "no_store" => Lifetime::NoStore,
            text => {
                let period: Period = text.parse().map_err(|_| {
                    format!(
                        "expected a length of time such as `1h`, or `max`, `no_cache`, \
                         `no_store` or `off`, found `{text}`"
                    )
                })?;
                Lifetime::For(Seconds::try_from(period)?.0)
            }
        }))
    }
}

/// Whole seconds, at most as many as `max` are.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Period")]
struct Seconds(u64);

impl TryFrom<Period> for Seconds {
    type Error = String;

    fn try_from(Period(length): Period) -> Result<Self, String> {
        if length.subsec_nanos() != 0 {
            return Err(format!("expected whole seconds, found `{length:?}`"));
        }
        if length.as_secs() > MAX {
            return Err("expected at most ten years, `3650d`".to_owned());
        }
        Ok(Self(length.as_secs()))
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMany)
    }
}

struct OneOrMany;

impl<'de> de::Visitor<'de> for OneOrMany {
    type Value = Config;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a length of time such as `1h`, a rule with `for`, or a list of rules")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Config, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Config, E> {
        let lifetime = Length::try_from(Cow::Borrowed(text)).map_err(E::custom)?;
        Ok(Config::One(Box::new(Written {
            paths: None,
            statuses: None,
            types: None,
            lifetime,
            scope: None,
            shared_for: None,
            immutable: false,
            must_revalidate: false,
            stale_while_revalidate: None,
            stale_if_error: None,
            overrides: false,
        })))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Config, A::Error> {
        let written = Written::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Config::One(Box::new(written)))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Config, A::Error> {
        let mut rules = Vec::new();
        while let Some(rule) = list.next_element()? {
            rules.push(rule);
        }
        Ok(Config::Many(rules))
    }
}
