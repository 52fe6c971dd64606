//! How the endpoints of an upstream are checked, as it is written.

use std::{
    fmt,
    num::{NonZeroU16, NonZeroU32},
    str::FromStr,
    time::Duration,
};

use edgeway_sdk::types::resolve;
use http::{
    HeaderValue, Method, StatusCode,
    uri::{Authority, PathAndQuery},
};
use regex::bytes::Regex;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use super::{
    At, Entries,
    scalar::{Span, StatusRange, from_text},
};

/// `tcp`, `grpc`, or a map: `{ path: /healthz, interval: 2s }`, `{ type: grpc, service: shop.Cart }`.
#[derive(Clone, Debug)]
pub(crate) struct Health(pub(crate) FullHealth);

/// The map. Keys of one type that stand beside another are for
/// [`Check::compile`](crate::upstream::health::Check::compile) to refuse.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FullHealth {
    #[serde(rename = "type")]
    pub(crate) kind: HealthKind,
    pub(crate) path: Option<At<CheckPath>>,
    pub(crate) method: Option<At<CheckMethod>>,
    /// The endpoint's own name if not given.
    pub(crate) host: Option<At<CheckHost>>,
    pub(crate) headers: Option<At<Entries<CheckValue>>>,
    pub(crate) expect: Option<At<Expect>>,
    pub(crate) service: Option<At<GrpcService>>,
    pub(crate) interval: Interval,
    /// For a whole check, from the connection to the last byte.
    pub(crate) timeout: CheckTimeout,
    pub(crate) healthy_after: HealthyAfter,
    pub(crate) unhealthy_after: UnhealthyAfter,
    pub(crate) start: Start,
    /// Where the check goes, if not to the port of the endpoint.
    pub(crate) port: Option<At<NonZeroU16>>,
}

/// What a check speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HealthKind {
    #[default]
    Http,
    Tcp,
    Grpc,
}

impl HealthKind {
    /// As it is written.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Grpc => "grpc",
        }
    }
}

/// What an endpoint is before its first check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Start {
    #[default]
    Healthy,
    /// Not served until a check has succeeded.
    Unhealthy,
}

impl Health {
    /// `tcp` or `grpc` alone, with everything else as it is by default.
    fn bare(kind: HealthKind) -> Self {
        Self(FullHealth {
            kind,
            ..FullHealth::default()
        })
    }
}

impl<'de> Deserialize<'de> for Health {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Health;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`tcp`, `grpc`, or a map such as `{ path: /healthz }`")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Health, E> {
                match word {
                    "tcp" => Ok(Health::bare(HealthKind::Tcp)),
                    "grpc" => Ok(Health::bare(HealthKind::Grpc)),
                    _ => Err(E::custom(format!(
                        "expected `tcp`, `grpc`, or a map such as `{{ path: /healthz }}`, found `{word}`"
                    ))),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Health, A::Error> {
                let full = FullHealth::deserialize(MapAccessDeserializer::new(map))?;
                if full.kind == HealthKind::Http && full.path.is_none() {
                    return Err(de::Error::custom(
                        "a check over HTTP needs a `path`: `{ path: /healthz }`, or write `type: tcp`",
                    ));
                }
                Ok(Health(full))
            }
        }

        const KEYS: &[&str] = &[
            "type",
            "path",
            "method",
            "host",
            "headers",
            "expect",
            "service",
            "interval",
            "timeout",
            "healthy_after",
            "unhealthy_after",
            "start",
            "port",
        ];
        deserializer.deserialize_struct("health", KEYS, Either)
    }
}

/// A number or a length of time with what it is if it is not given.
macro_rules! with_default {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
        #[serde(transparent)]
        pub(crate) struct $name(pub(crate) $type);

        impl Default for $name {
            fn default() -> Self {
                Self($default)
            }
        }
    )*};
}

with_default! {
    /// From the start of a check to the start of the next.
    Interval: Span = Span(Duration::from_secs(5));
    /// How long a check may take in all.
    CheckTimeout: Span = Span(Duration::from_secs(2));
    /// Successes in a row that make an endpoint healthy.
    HealthyAfter: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);
    /// Failures in a row that make an endpoint unhealthy.
    UnhealthyAfter: NonZeroU32 = NonZeroU32::MIN.saturating_add(2);
}

/// The path that a check asks for, with its query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckPath(pub(crate) PathAndQuery);

impl FromStr for CheckPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = text.parse().ok().filter(|_| text.starts_with('/'));
        path.map(Self)
            .ok_or_else(|| format!("expected a path such as `/healthz`, found `{text}`"))
    }
}

from_text!(CheckPath, "a path such as `/healthz`");

/// The method of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckMethod(pub(crate) Method);

impl FromStr for CheckMethod {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Method::GET, Method::HEAD, Method::POST, Method::OPTIONS];
        let method = known.into_iter().find(|method| method.as_str() == text);
        method
            .map(Self)
            .ok_or_else(|| format!("expected `GET`, `HEAD`, `POST` or `OPTIONS`, found `{text}`"))
    }
}

from_text!(CheckMethod, "`GET`, `HEAD`, `POST` or `OPTIONS`");

/// The `Host` of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckHost(pub(crate) Authority);

impl FromStr for CheckHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let host = text.parse().ok().filter(|_| !text.contains('@'));
        host.map(Self)
            .ok_or_else(|| format!("expected a host such as `app.internal`, found `{text}`"))
    }
}

from_text!(CheckHost, "a host such as `app.internal`");

/// The value of a header, which may be a secret: `env:NAME` and `file:/path` are resolved, and it
/// is not printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckValue(pub(crate) HeaderValue);

impl FromStr for CheckValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let value = resolve(text)?;
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| "the value of a header can't have control characters".to_owned())?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

from_text!(CheckValue, "the value of a header");

/// The full name of a gRPC service: `shop.Cart`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GrpcService(pub(crate) String);

impl FromStr for GrpcService {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err(
                "the name is empty: leave `service` out to ask for the whole endpoint".to_owned(),
            );
        }
        Ok(Self(text.to_owned()))
    }
}

from_text!(GrpcService, "the name of a service such as `shop.Cart`");

/// `{ status: [200-299, 304], body: ok }`: what the answer must be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expect {
    pub(crate) status: Statuses,
    pub(crate) body: Option<At<BodyTest>>,
}

impl<'de> Deserialize<'de> for Expect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename = "expect")]
        struct Full {
            status: Option<Statuses>,
            body: Option<At<BodyTest>>,
        }

        let Full { status, body } = Full::deserialize(deserializer)?;
        if status.is_none() && body.is_none() {
            return Err(de::Error::custom("expected `status`, `body` or both"));
        }
        Ok(Self {
            status: status.unwrap_or_default(),
            body,
        })
    }
}

/// `204`, `200-299`, or a list of them; `200-399` if not given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statuses(Vec<StatusRange>);

impl Statuses {
    /// Whether this is one of them.
    pub(crate) fn contain(&self, status: StatusCode) -> bool {
        self.0.iter().any(|range| range.contains(status))
    }
}

impl Default for Statuses {
    fn default() -> Self {
        Self(vec![StatusRange {
            first: 200,
            last: 399,
        }])
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, range) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            write!(f, "{separator}{range}")?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Statuses;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status, a range such as `200-299`, or a list of them")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Statuses, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Statuses, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Statuses, E> {
                let range = text.parse().map_err(E::custom)?;
                Ok(Statuses(vec![range]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Statuses, A::Error> {
                let mut ranges = Vec::new();
                while let Some(range) = items.next_element()? {
                    ranges.push(range);
                }
                if ranges.is_empty() {
                    return Err(de::Error::custom("the list is empty: no status would do"));
                }
                Ok(Statuses(ranges))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// `ok` (a text that must be in it), or `{ regex: "^ok" }`.
#[derive(Clone, Debug)]
pub(crate) enum BodyTest {
    Contains(String),
    Matches(Regex),
}

impl<'de> Deserialize<'de> for BodyTest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Full {
            regex: RegexText,
        }

        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = BodyTest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or a map with `regex`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<BodyTest, E> {
                if text.is_empty() {
                    return Err(E::custom("every body contains the empty text"));
                }
                Ok(BodyTest::Contains(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BodyTest, A::Error> {
                let full = Full::deserialize(MapAccessDeserializer::new(map))?;
                Ok(BodyTest::Matches(full.regex.0))
            }
        }

        deserializer.deserialize_struct("body", &["regex"], Either)
    }
}

/// The text of a regex: refused where it stands if it is not valid.
struct RegexText(Regex);

impl FromStr for RegexText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Regex::new(text).map(Self).map_err(|error| {
            // The lines before draw a picture.
            let error = error.to_string();
            let last = error.lines().next_back().unwrap_or_default();
            format!(
                "`{text}` is not a valid regex: {}",
                last.trim_start_matches("error: ")
            )
        })
    }
}

from_text!(RegexText, "a regex such as `^ok$`");
