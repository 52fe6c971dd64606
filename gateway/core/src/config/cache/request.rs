//! What of a request matters to the cache.

use std::{fmt, str::FromStr};

use edgeway_sdk::{Template, template::Piece};
use http::{HeaderName, header::HOST};
use serde::{
    Deserialize, Deserializer,
    de::{
        self, SeqAccess, Visitor,
        value::{SeqAccessDeserializer, StrDeserializer},
    },
};

use super::scalar::Several;
use crate::config::scalar::from_text;

/// Which part of a query belongs to the key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Query {
    /// All of it, letter by letter.
    #[default]
    AsSent,
    /// All of it, whatever the order of its parameters.
    Sorted,
    None,
    /// These parameters.
    Only(Several<Parameter>),
    /// All but these parameters.
    Without(Several<Parameter>),
}

/// The name of a parameter in a query, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parameter(pub(crate) Box<str>);

impl FromStr for Parameter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a parameter without a name can't be chosen".to_owned());
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

from_text!(Parameter, "the name of a parameter such as `page`");

/// A value of the request by itself: `{header.x-tenant}`.
///
/// With a text around it, or another beside it, `a` and `bc` could not be told from `ab` and `c`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestValue {
    pub(crate) template: Template,
    /// What stands in the braces.
    name: String,
}

impl RequestValue {
    /// The header that it is.
    pub(crate) fn header(&self) -> Option<HeaderName> {
        self.name.strip_prefix("header.")?.parse().ok()
    }

    /// The name of the cookie that it is.
    pub(crate) fn cookie(&self) -> Option<&str> {
        self.name.strip_prefix("cookie.")
    }

    /// The path of the claim that it is.
    pub(crate) fn claim(&self) -> Option<&str> {
        self.name.strip_prefix("claim.")
    }

    /// Whether it is one cookie of those that the client has sent.
    pub(crate) fn is_cookie(&self) -> bool {
        self.cookie().is_some()
    }

    /// Whether it is something that a filter has found out of the caller.
    pub(crate) fn is_of_caller(&self) -> bool {
        self.name == "subject" || self.claim().is_some()
    }
}

impl FromStr for RequestValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let template: Template = text.parse()?;
        let [Piece::Value(_)] = template.pieces() else {
            return Err(format!(
                "expected one value of the request such as `{{header.x-tenant}}`, found `{text}`; several are a list"
            ));
        };
        let name = text.trim_matches(['{', '}']);
        let name = match name.starts_with("header.") {
            true => name.to_ascii_lowercase(),
            false => name.to_owned(),
        };
        Ok(Self { template, name })
    }
}

impl fmt::Display for RequestValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}}}", self.name)
    }
}

/// A value that responses differ by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyValue(pub(crate) RequestValue);

impl FromStr for KeyValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let value: RequestValue = text.parse()?;
        let why = match value.name.as_str() {
            "scheme" | "host" | "authority" | "path" | "route" => "it belongs to every key",
            "method" => "what is stored is the answer to GET",
            "request_id" | "peer_port" => "nothing that is stored would be found again",
            "query" | "target" => QUERY,
            name if name.starts_with("query.") => QUERY,
            _ if value.header() == Some(HOST) => "it belongs to every key",
            _ => return Ok(Self(value)),
        };
        Err(format!("`{value}` has no use here: {why}"))
    }
}

/// Who chooses among parameters.
const QUERY: &str = "which part of the query belongs to the key is for `query` to say";

impl fmt::Display for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

from_text!(
    KeyValue,
    "a value of the request such as `{header.x-tenant}`"
);

/// A value that only some requests have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BypassValue(pub(crate) RequestValue);

impl FromStr for BypassValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let value: RequestValue = text.parse()?;
        let optional = matches!(value.name.as_str(), "query" | "subject")
            || value.name.contains('.') && value.header() != Some(HOST);
        if !optional {
            return Err(format!(
                "`{value}` is never empty: every request would pass the cache by"
            ));
        }
        Ok(Self(value))
    }
}

impl fmt::Display for BypassValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

from_text!(
    BypassValue,
    "a value of the request such as `{cookie.session}`"
);

/// What may make a response the page of one user, and does not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Despite {
    /// The request was sent with credentials, or a filter knows the caller.
    Authorization,
    /// The request has cookies.
    Cookie,
    /// The response sets cookies, and says that it may be shared.
    SetCookie,
}

impl fmt::Display for Despite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authorization => "authorization",
            Self::Cookie => "cookie",
            Self::SetCookie => "set_cookie",
        })
    }
}

/// What a request may ask of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wish {
    /// Not to store the response.
    NoStore,
    /// Something newer: `no-cache`, `max-age`, `min-fresh`, `Pragma`.
    Reload,
    /// Something older: `max-stale`, `stale-if-error`.
    Stale,
    /// Nothing that is not stored.
    OnlyIfCached,
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoStore => "no_store",
            Self::Reload => "reload",
            Self::Stale => "stale",
            Self::OnlyIfCached => "only_if_cached",
        })
    }
}

/// `none`, or what is obeyed of that which requests ask for; all of it if not given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Honoured(pub(crate) Vec<Wish>);

impl Default for Honoured {
    fn default() -> Self {
        Self(vec![
            Wish::NoStore,
            Wish::Reload,
            Wish::Stale,
            Wish::OnlyIfCached,
        ])
    }
}

impl<'de> Deserialize<'de> for Honoured {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Honoured;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`none`, or a list of `no_store`, `reload`, `stale`, `only_if_cached`")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Honoured, E> {
                if word == "none" {
                    return Ok(Honoured(Vec::new()));
                }
                let wish = Wish::deserialize(StrDeserializer::new(word))?;
                Ok(Honoured(vec![wish]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Honoured, A::Error> {
                let items = SeqAccessDeserializer::new(items);
                let Several::<_, 0>(wishes) = Several::deserialize(items)?;
                if wishes.is_empty() {
                    return Err(de::Error::custom("the list is empty; write `none`"));
                }
                Ok(Honoured(wishes))
            }
        }

        deserializer.deserialize_any(Either)
    }
}
