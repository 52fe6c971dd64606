//! What becomes of a request, and why.
//!
//! An [`Explanation`] is what the proxy itself notes on the way of a request (`proxy/trail.rs`), whether that has come
//! from a client or was made up: there is no second opinion on what the gateway does. [`rehearsal`] is what is made
//! up, [`live`] who may ask of what clients send, [`text`] how people read it, and [`verify`] whether it is what
//! somebody has expected.

pub(crate) mod live;
pub(crate) mod rehearsal;
pub(crate) mod text;
pub(crate) mod verify;

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

/// What became of a request. As JSON its keys are stable: new ones may come.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Explanation {
    pub(crate) request: Asked,
    pub(crate) route: Taken,
    /// In the order of the chain.
    pub(crate) filters: Vec<Step>,
    /// What the cache did; nothing if it was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache: Option<CacheSaid>,
    /// In order.
    pub(crate) tries: Vec<Try>,
    /// What the endpoint of the last try was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sent: Option<Sent>,
    pub(crate) response: Answer,
}

/// The request, as the gateway has understood it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) id: String,
    pub(crate) method: String,
    pub(crate) scheme: Cow<'static, str>,
    /// Lower case, without port.
    pub(crate) host: String,
    /// The target as it was sent.
    pub(crate) target: String,
    /// The path as routes see it.
    pub(crate) path: String,
    pub(crate) listener: String,
    pub(crate) client: String,
    /// Whether what the peer says of the client is believed.
    pub(crate) trusted_proxy: bool,
    /// Headers that were removed before anybody saw them.
    pub(crate) removed: Vec<String>,
}

/// The route.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Taken {
    pub(crate) name: String,
    #[serde(rename = "match")]
    pub(crate) pattern: String,
    pub(crate) target: String,
    /// The routes that it was nearly, and why not.
    pub(crate) not: Vec<Near>,
}

/// A route that was not taken.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Near {
    pub(crate) name: String,
    #[serde(rename = "match")]
    pub(crate) pattern: String,
    pub(crate) why: String,
}

/// What a filter has made of the request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) verdict: Verdict,
    /// The status of its reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    /// Which of its rules has decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<String>,
    /// Why it has refused, or was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// Who is calling, if it has found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) identity: Option<String>,
    /// What it has changed in the request.
    #[serde(default, skip_serializing_if = "Changes::is_empty")]
    pub(crate) request: Changes,
    /// What it has changed in the response.
    #[serde(default, skip_serializing_if = "Changes::is_empty")]
    pub(crate) response: Changes,
    /// How long it has taken with the request.
    #[serde(
        rename = "microseconds",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) took: Option<u64>,
}

/// What a filter has decided on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// It has let it pass.
    Pass,
    /// It has let it pass, after a while.
    Delay,
    /// It has replied.
    Reply,
    /// It would have refused it, but only reports.
    Report,
    /// It is not for this request (`when`, `unless`).
    NotForIt,
    /// It looks at responses alone, or at the end.
    NoOpinion,
    /// It can't be asked offline.
    NotAsked,
    /// One before it has replied.
    NotReached,
}

impl Verdict {
    /// As it stands behind the name of a filter.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "lets it pass",
            Self::Delay => "lets it pass after a while",
            Self::Reply => "replies",
            Self::Report => "only reports; it would reply",
            Self::NotForIt => "is not for this request",
            Self::NoOpinion => "says nothing on the request",
            Self::NotAsked => "not asked",
            Self::NotReached => "not reached",
        }
    }
}

/// How a head has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Changes {
    /// Headers that are new, or have another value.
    pub(crate) set: Headers,
    pub(crate) removed: Vec<String>,
    /// The target, or the status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_line: Option<String>,
}

impl Changes {
    /// What is different between two heads.
    pub(crate) fn between(before: &HeaderMap, after: &HeaderMap) -> Self {
        let same = |name: &HeaderName| {
            let values = before.get_all(name).iter();
            values.eq(after.get_all(name).iter())
        };
        let set = after.keys().filter(|name| !same(name));
        let set = set.flat_map(|name| after.get_all(name).iter().map(move |value| (name, value)));
        let removed = before.keys().filter(|name| !after.contains_key(*name));
        Self {
            set: set.collect(),
            removed: removed.map(ToString::to_string).collect(),
            first_line: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What the cache did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CacheSaid {
    /// `hit`, `stale`, `miss`, `expired`, `revalidated` or `bypass`.
    pub(crate) outcome: Cow<'static, str>,
    /// Why the response was not stored, or not served from the cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<Cow<'static, str>>,
    /// What the response says of it (RFC 9211).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<String>,
    pub(crate) zone: String,
    /// What tells the stored response from others.
    pub(crate) key: Vec<String>,
}

impl CacheSaid {
    /// Whether the response was stored.
    pub(crate) fn is_stored(&self) -> bool {
        let status = self.status.as_deref().unwrap_or_default();
        status.split(';').any(|word| word.trim() == "stored")
    }
}

/// An endpoint that was asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Try {
    pub(crate) upstream: String,
    pub(crate) endpoint: String,
    /// How it was chosen: `round_robin`, `hash of {header.x-user}`, `its session is there`.
    pub(crate) chosen_by: String,
    /// All that might have been.
    pub(crate) of: Vec<String>,
    /// When it was chosen, since the request had arrived.
    #[serde(
        rename = "at_microseconds",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) at: Option<u64>,
}

/// The head that an endpoint was sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sent {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Headers,
}

/// What the client got.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// Nothing if the client has left before.
    pub(crate) status: Option<u16>,
    /// `upstream`, `reply` (made by the gateway) or `cache`.
    pub(crate) from: Cow<'static, str>,
    /// The filter that has replied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) decided_by: Option<String>,
    /// Why it is a refusal or a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    pub(crate) headers: Headers,
    /// From the arrival of the head to the end.
    #[serde(
        rename = "microseconds",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) took: Option<u64>,
}

/// Headers, each line by itself, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Headers(pub(crate) Vec<(String, String)>);

impl Headers {
    /// The first value of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut lines = self.0.iter();
        let found = lines.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The same headers without what logs in whoever reads it.
    pub(crate) fn mask(&mut self) {
        const SECRET: [&str; 4] = [
            "authorization",
            "proxy-authorization",
            "cookie",
            "set-cookie",
        ];
        for (name, value) in &mut self.0 {
            if SECRET.contains(&name.as_str()) {
                "***".clone_into(value);
            }
        }
    }
}

impl<'h> FromIterator<(&'h HeaderName, &'h HeaderValue)> for Headers {
    fn from_iter<I: IntoIterator<Item = (&'h HeaderName, &'h HeaderValue)>>(lines: I) -> Self {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Self(
            lines
                .into_iter()
                .map(|(name, value)| (name.to_string(), text(value)))
                .collect(),
        )
    }
}

impl Explanation {
    /// Takes out what logs in whoever reads it: what others have sent is not for everybody.
    pub(crate) fn mask(&mut self) {
        if let Some(sent) = &mut self.sent {
            sent.headers.mask();
        }
        for step in &mut self.filters {
            step.request.set.mask();
            step.response.set.mask();
        }
        self.response.headers.mask();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_changed_in_a_head_is_told_line_by_line() {
        let mut before = HeaderMap::new();
        before.insert("a", HeaderValue::from_static("1"));
        before.insert("b", HeaderValue::from_static("2"));
        before.insert("c", HeaderValue::from_static("3"));
        let mut after = before.clone();
        after.remove("a");
        after.append("b", HeaderValue::from_static("4"));
        let changes = Changes::between(&before, &after);
        assert_eq!(changes.removed, ["a"]);
        let set = [("b", "2"), ("b", "4")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(changes.set, Headers(set.to_vec()));
        assert!(Changes::between(&before, &before).is_empty());
    }

    #[test]
    fn secrets_are_masked_and_nothing_else() {
        let lines = [
            ("cookie", "a=1"),
            ("x-user", "ann"),
            ("authorization", "Bearer x"),
        ];
        let lines = lines.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut headers = Headers(lines.to_vec());
        headers.mask();
        assert_eq!(headers.get("Cookie"), Some("***"));
        assert_eq!(headers.get("authorization"), Some("***"));
        assert_eq!(headers.get("x-user"), Some("ann"));
    }
}
