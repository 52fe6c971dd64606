//! How a route shares its requests out between upstreams, and which it copies, as it is written.

use std::{collections::HashSet, fmt, num::NonZeroU16, str::FromStr, time::Duration};

use edgeway_sdk::{Period, Size, Template};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use super::{At, Percent, scalar::from_text};

/// `split: [{ upstream: stable, weight: 95 }, { upstream: canary, weight: 5 }]`, or
/// `split: { by: "{cookie.user}", to: [...] }`
#[derive(Debug)]
pub(crate) struct Split {
    /// Requests with the same value go to the same upstream; without it each goes where chance wills.
    pub(crate) by: Option<By>,
    /// Two or more, all different, and some of them with a weight.
    pub(crate) to: Vec<Weighted>,
}

/// One upstream of a split.
#[derive(Debug, Deserialize)]
pub(crate) struct Weighted {
    pub(crate) upstream: At<String>,
    /// Its part of the sum of all weights; 0 sends nothing there.
    pub(crate) weight: u16,
}

/// `mirror: { upstream: shadow, share: 10% }`
#[derive(Debug, Deserialize)]
pub(crate) struct Mirror {
    pub(crate) upstream: At<String>,
    /// How many of the requests are copied.
    #[serde(default = "Mirror::share")]
    pub(crate) share: Percent,
    /// Requests with larger bodies are not copied: until one is sent, its body is kept.
    #[serde(default = "Mirror::max_body")]
    pub(crate) max_body: Size,
    /// How long a copy may take in all.
    #[serde(default = "Mirror::timeout", deserialize_with = "not_zero")]
    pub(crate) timeout: Period,
    /// How many copies may be under way at once; what comes beyond is dropped.
    #[serde(default = "Mirror::max_requests")]
    pub(crate) max_requests: NonZeroU16,
}

impl Mirror {
    fn share() -> Percent {
        Percent::ALL
    }

    fn max_body() -> Size {
        Size(64 << 10)
    }

    fn timeout() -> Period {
        Period(Duration::from_secs(10))
    }

    fn max_requests() -> NonZeroU16 {
        NonZeroU16::MIN.saturating_add(255)
    }
}

/// A text that differs from request to request, such as `{cookie.user}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct By(pub(crate) Template);

impl FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let template: Template = text.parse()?;
        if template.literal().is_some() {
            return Err(format!(
                "`{text}` is the same for every request, expected a value such as `{{cookie.user}}`"
            ));
        }
        Ok(Self(template))
    }
}

from_text!(By, "a value of the request such as `{cookie.user}`");

impl<'de> Deserialize<'de> for Split {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Full {
            by: Option<By>,
            to: Option<Parts>,
        }

        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Split;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of upstreams with weights, or a map with `by` and `to`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Split, A::Error> {
                let to = parts(items)?;
                Ok(Split { by: None, to })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Split, A::Error> {
                let full = Full::deserialize(MapAccessDeserializer::new(map))?;
                let (by @ Some(_), Some(Parts(to))) = (full.by, full.to) else {
                    return Err(de::Error::custom("expected both `by` and `to`"));
                };
                Ok(Split { by, to })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// The list of a split.
struct Parts(Vec<Weighted>);

impl<'de> Deserialize<'de> for Parts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Parts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of upstreams with weights")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Parts, A::Error> {
                parts(items).map(Parts)
            }
        }

        deserializer.deserialize_seq(List)
    }
}

fn parts<'de, A: SeqAccess<'de>>(mut items: A) -> Result<Vec<Weighted>, A::Error> {
    let mut to: Vec<Weighted> = Vec::new();
    while let Some(part) = items.next_element()? {
        to.push(part);
    }
    let mut known = HashSet::new();
    if let Some(twice) = to
        .iter()
        .find(|part| !known.insert(part.upstream.value.as_str()))
    {
        let name = &twice.upstream.value;
        return Err(de::Error::custom(format!(
            "the upstream `{name}` is written twice: add its weights"
        )));
    }
    if to.len() < 2 {
        return Err(de::Error::custom(
            "expected two upstreams or more; one alone is written `upstream`",
        ));
    }
    if to.iter().all(|part| part.weight == 0) {
        return Err(de::Error::custom(
            "all weights are 0: nothing would be sent",
        ));
    }
    Ok(to)
}

fn not_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
    let period = Period::deserialize(deserializer)?;
    if period.0.is_zero() {
        return Err(de::Error::custom("no copy could be sent in no time"));
    }
    Ok(period)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        deserialize::salvage,
        diagnostic::{Look, Problems},
        document::Document,
    };

    #[derive(Debug, Deserialize)]
    struct Route {
        split: Option<Split>,
        mirror: Option<Mirror>,
    }

    fn read(text: &str) -> (Option<Route>, String) {
        let mut problems = Problems::default();
        let document = Document::from_text("e.yaml", text, &mut problems);
        let route = salvage(&document, document.root(), &mut problems);
        (route, problems.render(&document, Look::Plain))
    }

    fn right(text: &str) -> Route {
        let (route, said) = read(text);
        assert_eq!(said, "", "{text}");
        route.unwrap()
    }

    fn weights(split: &Split) -> Vec<(&str, u16)> {
        split
            .to
            .iter()
            .map(|part| (part.upstream.value.as_str(), part.weight))
            .collect()
    }

    #[test]
    fn a_split_is_a_list_or_a_map_with_a_value_to_go_by() {
        let route =
            right("split: [{ upstream: stable, weight: 95 }, { upstream: canary, weight: 0 }]");
        let split = route.split.unwrap();
        assert_eq!(weights(&split), [("stable", 95), ("canary", 0)]);
        assert_eq!(split.by, None);
        let route = right(
            "split:\n  by: \"{cookie.user}\"\n  to: [{ upstream: a, weight: 1 }, { upstream: b, weight: 2 }]",
        );
        let split = route.split.unwrap();
        assert_eq!(weights(&split), [("a", 1), ("b", 2)]);
        assert_eq!(split.by, "{cookie.user}".parse().ok());
    }

    #[test]
    fn a_mirror_needs_only_its_upstream() {
        let mirror = right("mirror: { upstream: shadow }").mirror.unwrap();
        assert_eq!(mirror.upstream.value, "shadow");
        assert_eq!(mirror.share, Percent::ALL);
        assert_eq!(mirror.max_body, Size(65_536));
        assert_eq!(mirror.timeout.0, Duration::from_secs(10));
        assert_eq!(mirror.max_requests.get(), 256);
        let all = "mirror: { upstream: s, share: 0.5%, max_body: 0, timeout: 2s, max_requests: 1 }";
        let mirror = right(all).mirror.unwrap();
        assert_eq!((mirror.share, mirror.max_body), (Percent(0.005), Size(0)));
        assert_eq!(mirror.timeout.0, Duration::from_secs(2));
        assert_eq!(mirror.max_requests.get(), 1);
    }

    /// Each text has one problem, which is told at this place.
    fn wrong(cases: &[(&str, &str, &str)]) {
        for (text, place, message) in cases {
            let (_, said) = read(text);
            assert_eq!(said.matches("error: ").count(), 1, "{text}\n{said}");
            assert!(said.contains(message), "{text}\n{said}");
            assert!(
                said.contains(&format!("e.yaml:{place}\n")),
                "{text}\n{said}"
            );
        }
    }

    #[test]
    fn what_is_wrong_with_a_list_of_upstreams_is_told_once() {
        let few = "expected two upstreams or more";
        wrong(&[
            ("split: stable", "1:8", "expected a list of upstreams"),
            ("split: []", "1:8", few),
            ("split: [{ upstream: a, weight: 1 }]", "1:8", few),
            ("split: { by: \"{path}\", to: [] }", "1:28", few),
        ]);
        for (first, second, place, message) in [
            (
                "upstream: a, weight: 0",
                "upstream: b, weight: 0",
                "1:8",
                "all weights are 0",
            ),
            (
                "upstream: a, weight: 1",
                "upstream: a, weight: 1",
                "1:8",
                "`a` is written twice",
            ),
            (
                "upstream: a",
                "upstream: b, weight: 1",
                "1:9",
                "missing key `weight`",
            ),
            (
                "upstream: a, weight: 70000",
                "upstream: b, weight: 1",
                "1:32",
                "0 to 65535",
            ),
            (
                "upstream: a, weight: -1",
                "upstream: b, weight: 1",
                "1:32",
                "0 to 65535",
            ),
            (
                "upstream: a, weight: x",
                "upstream: b, weight: 0",
                "1:32",
                "expected an integer",
            ),
            (
                "upstream: a, weight: 1",
                "upstream: b, wieght: 1",
                "1:52",
                "unknown key `wieght`",
            ),
        ] {
            let text = format!("split: [{{ {first} }}, {{ {second} }}]");
            wrong(&[(&text, place, message)]);
        }
    }

    #[test]
    fn what_is_wrong_with_a_split_by_value_is_told_once() {
        for (start, place, message) in [
            ("", "1:8", "expected both `by` and `to`"),
            ("bye: \"{path}\", ", "1:10", "unknown key `bye`"),
            ("by: user, ", "1:14", "the same for every request"),
            ("by: \"{cooky.x}\", ", "1:14", "`{cookie.x}`"),
        ] {
            let to = "to: [{ upstream: a, weight: 1 }, { upstream: b, weight: 1 }]";
            wrong(&[(&format!("split: {{ {start}{to} }}"), place, message)]);
        }
        let text = "split: { by: \"{path}\", to: [{ upstream: a, weight: x }] }";
        wrong(&[(text, "1:52", "expected an integer")]);
    }

    #[test]
    fn what_is_wrong_with_a_mirror_is_told_once() {
        wrong(&[("mirror: {}", "1:1", "missing key `upstream`")]);
        for (option, place, message) in [
            ("share: 101%", "1:31", "from `0%` to `100%`"),
            ("share: 10", "1:31", "from `0%` to `100%`"),
            ("timeout: 0s", "1:33", "no time"),
            ("max_requests: 0", "1:38", "expected"),
            ("shares: 1%", "1:24", "unknown key `shares`"),
        ] {
            wrong(&[(
                &format!("mirror: {{ upstream: a, {option} }}"),
                place,
                message,
            )]);
        }
    }
}
