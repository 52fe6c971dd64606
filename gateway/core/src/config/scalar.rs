//! Single values of the configuration: types that parse themselves.

use std::{fmt, ops::RangeInclusive, path::PathBuf, str::FromStr, time::Duration};

pub(crate) use edgeway_sdk::types::Percent;
use edgeway_sdk::{Period, message::is_framing, types::resolve};
use http::{HeaderName, StatusCode};
use ipnet::IpNet;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};

/// Reads `$type` from text by its `FromStr`, saying `$expected` of anything that is no text.
macro_rules! from_text {
    ($type:ty, $expected:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;

                impl Visitor<'_> for Text {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }

                deserializer.deserialize_str(Text)
            }
        }
    };
}

/// The same where the text may be nothing but a number, and so be one in YAML.
macro_rules! from_text_or_number {
    ($type:ty, $expected:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Either;

                impl Visitor<'_> for Either {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }

                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<$type, E> {
                        self.visit_str(&number.to_string())
                    }

                    fn visit_i64<E: de::Error>(self, number: i64) -> Result<$type, E> {
                        self.visit_str(&number.to_string())
                    }
                }

                deserializer.deserialize_any(Either)
            }
        }
    };
}

pub(crate) use {from_text, from_text_or_number};

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EndpointAddress {
    /// A name or an address, and a port.
    Host { host: String, port: u16 },
    /// A socket in the file system.
    Unix(PathBuf),
}

/// What the kernel takes as the path of a socket, without its last zero.
const LONGEST_SOCKET_PATH: usize = 107;

impl EndpointAddress {
    /// The name or address, without port; none for a socket in the file system.
    pub(crate) fn host(&self) -> Option<&str> {
        match self {
            Self::Host { host, .. } => Some(host),
            Self::Unix(_) => None,
        }
    }
}

/// The path of a socket in the file system.
pub(super) fn socket_path(path: &str) -> Result<PathBuf, String> {
    if !path.starts_with('/') {
        return Err(format!(
            "expected the whole path of a socket such as `unix:/run/app.sock`, found `unix:{path}`"
        ));
    }
    if path.contains('\0') {
        return Err("the path of a socket has no zero in it".to_owned());
    }
    if path.ends_with('/') {
        return Err(format!(
            "`{path}` is the path of a folder, and not of a socket"
        ));
    }
    if path.len() > LONGEST_SOCKET_PATH {
        return Err(format!(
            "the path of a socket has at most {LONGEST_SOCKET_PATH} bytes, this one has {}",
            path.len()
        ));
    }
    Ok(path.into())
}

impl FromStr for EndpointAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = resolve(text)?;
        if let Some(path) = address.strip_prefix("unix:") {
            return socket_path(path).map(Self::Unix);
        }
        let wrong = || {
            format!(
                "expected a host and a port such as `app-1:8080` or `10.0.0.7:80`, found `{text}`"
            )
        };
        if address.contains("://") {
            return Err(format!("{}: a scheme does not belong here", wrong()));
        }
        if address.starts_with('/') {
            let why = format!("a socket is written `unix:{address}`");
            return Err(format!("{}: {why}", wrong()));
        }
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        let port = port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(wrong)?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let valid = if bare.len() == host.len() {
            !host.is_empty() && host.chars().all(is_name)
        } else {
            bare.parse::<std::net::Ipv6Addr>().is_ok()
        };
        if !valid {
            return Err(wrong());
        }
        Ok(Self::Host {
            host: bare.to_owned(),
            port,
        })
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

from_text!(
    EndpointAddress,
    "a host and a port such as `app-1:8080`, or `unix:/path`"
);

/// A length of time from a millisecond to a day. A shorter one would be over before anything could
/// happen, a longer one can be more than the clock can count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(pub(crate) Duration);

impl Span {
    const SHORTEST: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_secs(86_400);
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        within(text, Self::SHORTEST..=Self::LONGEST, "`1ms`").map(Self)
    }
}

from_text!(Span, "a length of time such as `5s`");

/// How often something is looked at that is on a disk: from 100 milliseconds to a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval(pub(crate) Duration);

impl FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        within(text, Duration::from_millis(100)..=Span::LONGEST, "`100ms`").map(Self)
    }
}

from_text!(Interval, "a length of time such as `1s`");

/// A length of time up to a day, or `0s`, which is none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pause(pub(crate) Duration);

impl FromStr for Pause {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        within(text, Duration::ZERO..=Span::LONGEST, "`0s`").map(Self)
    }
}

from_text!(Pause, "a length of time such as `5s`");

fn within(
    text: &str,
    permitted: RangeInclusive<Duration>,
    least: &str,
) -> Result<Duration, String> {
    let Period(period) = text.parse()?;
    let wrong = || format!("expected a length of time from {least} to `1d`, found `{text}`");
    permitted
        .contains(&period)
        .then_some(period)
        .ok_or_else(wrong)
}

/// A status, or a range of them with both ends: `502`, `500-599`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StatusRange {
    pub(crate) first: u16,
    pub(crate) last: u16,
}

impl StatusRange {
    pub(crate) const SERVER_ERRORS: Self = Self {
        first: 500,
        last: 599,
    };

    /// Whether the status is in one of them.
    pub(crate) fn any_contains(ranges: &[Self], status: StatusCode) -> bool {
        ranges.iter().any(|range| range.contains(status))
    }

    /// Whether the status is in it.
    pub(crate) fn contains(self, status: StatusCode) -> bool {
        (self.first..=self.last).contains(&status.as_u16())
    }
}

impl FromStr for StatusRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "expected a status from 100 to 599 or a range of them such as `500-599`, found `{text}`"
            )
        };
        let number = |text: &str| {
            let number = text.trim().parse().ok();
            number
                .filter(|number| (100..=599).contains(number))
                .ok_or_else(wrong)
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(wrong());
        }
        Ok(Self { first, last })
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return write!(f, "{}", self.first);
        }
        write!(f, "{}-{}", self.first, self.last)
    }
}

from_text_or_number!(StatusRange, "a status or a range of them such as `500-599`");

/// A network or a single address: `10.0.0.0/8`, `::1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network(pub(crate) IpNet);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let net = text
            .parse::<IpNet>()
            .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
        net.map(Self).map_err(|_| {
            format!("expected a network such as `10.0.0.0/8` or an address, found `{text}`")
        })
    }
}

from_text!(Network, "a network such as `10.0.0.0/8` or an address");

/// The name of a response header that clients don't see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HiddenHeader(pub(crate) HeaderName);

impl FromStr for HiddenHeader {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = HeaderName::from_str(text)
            .map_err(|_| format!("expected the name of a header, found `{text}`"))?;
        if is_framing(&name) {
            return Err(format!(
                "the header `{text}` belongs to the connection: it can't be hidden"
            ));
        }
        Ok(Self(name))
    }
}

from_text!(HiddenHeader, "the name of a header");

/// What endpoints see as `Host`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum HostPolicy {
    /// What the client sent.
    #[default]
    Keep,
    /// The address of the endpoint as the configuration writes it.
    Endpoint,
    /// This.
    Set(String),
}

impl FromStr for HostPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "keep" => Ok(Self::Keep),
            "endpoint" => Ok(Self::Endpoint),
            host if host.parse::<http::uri::Authority>().is_ok() => Ok(Self::Set(host.to_owned())),
            _ => Err(format!(
                "expected `keep`, `endpoint` or a host, found `{text}`"
            )),
        }
    }
}

from_text!(HostPolicy, "`keep`, `endpoint` or a host");

/// `http` or `https`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SchemeName {
    Http,
    Https,
}

impl SchemeName {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// The status of a final response; 200 if not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(pub(crate) StatusCode);

impl Default for Status {
    fn default() -> Self {
        Self(StatusCode::OK)
    }
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u16::deserialize(deserializer)?;
        let status = StatusCode::from_u16(number)
            .ok()
            .filter(|_| (200..=599).contains(&number));
        status.map(Self).ok_or_else(|| {
            de::Error::custom(format!("expected a status from 200 to 599, found {number}"))
        })
    }
}

/// Any YAML value, kept as the JSON text that it stands for, in the order in which it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Json(pub(crate) String);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ordered(String);

        impl<'de> Deserialize<'de> for Ordered {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(AnyValue).map(Self)
            }
        }

        struct AnyValue;

        impl<'de> Visitor<'de> for AnyValue {
            type Value = String;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_bool<E>(self, value: bool) -> Result<String, E> {
                Ok(value.to_string())
            }

            fn visit_i64<E>(self, value: i64) -> Result<String, E> {
                Ok(value.to_string())
            }

            fn visit_u64<E>(self, value: u64) -> Result<String, E> {
                Ok(value.to_string())
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<String, E> {
                let number = serde_json::Number::from_f64(value);
                number
                    .map(|number| number.to_string())
                    .ok_or_else(|| E::custom("JSON has no such number"))
            }

            fn visit_str<E>(self, text: &str) -> Result<String, E> {
                Ok(json_string(text))
            }

            fn visit_unit<E>(self) -> Result<String, E> {
                Ok("null".to_owned())
            }

            fn visit_none<E>(self) -> Result<String, E> {
                Ok("null".to_owned())
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
                deserializer.deserialize_any(self)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<String, A::Error> {
                let mut text = Vec::new();
                while let Some(Ordered(item)) = items.next_element()? {
                    text.push(item);
                }
                Ok(format!("[{}]", text.join(",")))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<String, A::Error> {
                let mut text = Vec::new();
                while let Some((key, Ordered(value))) = entries.next_entry::<String, _>()? {
                    text.push(format!("{}:{value}", json_string(&key)));
                }
                Ok(format!("{{{}}}", text.join(",")))
            }
        }

        Ordered::deserialize(deserializer).map(|Ordered(text)| Self(text))
    }
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `x`, or `[x, y]`.
#[derive(Clone, Debug)]
pub(crate) struct OneOrMany<T>(pub(crate) Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de> + FromStr<Err = String>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de> + FromStr<Err = String>> Visitor<'de> for Either<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse()
                    .map(|value| OneOrMany(vec![value]))
                    .map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = items.next_element()? {
                    values.push(value);
                }
                Ok(OneOrMany(values))
            }
        }

        deserializer.deserialize_any(Either(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_neither_too_short_to_be_meant_nor_too_long_to_be_counted() {
        for text in ["1ms", "100ms", "1d", "24h"] {
            assert!(text.parse::<Span>().is_ok(), "{text}");
        }
        for text in ["0s", "999us", "0ms", "86401s", "10000000000000000000s"] {
            let wrong = text.parse::<Span>().unwrap_err();
            assert!(wrong.contains("from `1ms` to `1d`"), "{text}: {wrong}");
        }
        let wrong = "5".parse::<Span>().unwrap_err();
        assert!(wrong.contains("such as `250ms`"), "{wrong}");
    }

    #[test]
    fn a_pause_may_be_none_at_all_but_not_longer_than_a_span() {
        assert_eq!("0s".parse(), Ok(Pause(Duration::ZERO)));
        assert_eq!("1d".parse(), Ok(Pause(Span::LONGEST)));
        for text in ["2d", "10000000000000000000s"] {
            let wrong = text.parse::<Pause>().unwrap_err();
            assert!(wrong.contains("from `0s` to `1d`"), "{text}: {wrong}");
        }
    }

    #[test]
    fn a_header_of_the_connection_is_not_hidden() {
        assert!("Server".parse::<HiddenHeader>().is_ok());
        for text in ["Content-Length", "transfer-encoding", "Connection"] {
            let wrong = text.parse::<HiddenHeader>().unwrap_err();
            assert!(wrong.contains("can't be hidden"), "{text}: {wrong}");
        }
    }
}
