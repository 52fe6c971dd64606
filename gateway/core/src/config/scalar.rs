//! Single values of the configuration: types that parse themselves.

use std::{fmt, net::SocketAddr, str::FromStr};

use edgeway_sdk::types::resolve;
use http::{HeaderName, StatusCode};
use ipnet::IpNet;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use super::Endpoint;

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

pub(crate) use from_text;

/// Where a listener waits: `0.0.0.0:80`, `[::]:80`, or `:80` for every address of both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenAddress(pub(crate) SocketAddr);

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = resolve(text)?;
        let full = if address.starts_with(':') {
            format!("[::]{address}")
        } else {
            address.into_owned()
        };
        full.parse().map(Self).map_err(|_| {
            format!("expected an address and a port such as `0.0.0.0:80`, `[::]:80` or `:80`, found `{text}`")
        })
    }
}

from_text!(ListenAddress, "an address and a port such as `0.0.0.0:80`");

/// Where an endpoint is: a name or an address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndpointAddress {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl FromStr for EndpointAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = resolve(text)?;
        let wrong = || {
            format!(
                "expected a host and a port such as `app-1:8080` or `10.0.0.7:80`, found `{text}`"
            )
        };
        if address.contains("://") {
            return Err(format!("{}: a scheme does not belong here", wrong()));
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
        Ok(Self {
            host: bare.to_owned(),
            port,
        })
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

from_text!(EndpointAddress, "a host and a port such as `app-1:8080`");

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

/// The name of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeaderKey(pub(crate) HeaderName);

impl FromStr for HeaderKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|_| format!("expected the name of a header, found `{text}`"))
    }
}

from_text!(HeaderKey, "the name of a header");

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

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Full {
            address: EndpointAddress,
            #[serde(default = "one")]
            weight: std::num::NonZeroU16,
            #[serde(default)]
            backup: bool,
        }

        fn one() -> std::num::NonZeroU16 {
            std::num::NonZeroU16::MIN
        }

        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Endpoint;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address such as `app-1:8080`, or a map with `address`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Endpoint, E> {
                let address = text.parse().map_err(E::custom)?;
                Ok(Endpoint {
                    address,
                    weight: one(),
                    backup: false,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Endpoint, A::Error> {
                let Full {
                    address,
                    weight,
                    backup,
                } = Full::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Endpoint {
                    address,
                    weight,
                    backup,
                })
            }
        }

        deserializer.deserialize_struct("endpoint", &["address", "weight", "backup"], Either)
    }
}
