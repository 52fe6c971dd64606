//! Requests that nobody makes, and what is to become of them: `edgeway test`.

use std::{fmt, net::IpAddr, str::FromStr};

use edgeway_sdk::Secret;
use http::{HeaderName, HeaderValue};
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

pub(crate) use super::matching::TestText;
use super::{
    At, BodyTest, Entries, StatusRange,
    scalar::{Json, from_text, from_text_or_number},
};
use crate::{
    explain::rehearsal::Question,
    route::{Test, method},
};

/// `{ request: GET https://example.com/, expect: { route: home, status: 200 } }`
#[derive(Debug, Deserialize)]
#[serde(rename = "test")]
pub(crate) struct TestConfig {
    /// For the report; the request if not given.
    pub(crate) name: Option<String>,
    pub(crate) request: RequestText,
    #[serde(default)]
    pub(crate) headers: Entries<ValueText>,
    /// A bearer token.
    pub(crate) token: Option<Secret>,
    /// The address of the client; 127.0.0.1 if not given.
    pub(crate) client: Option<ClientText>,
    /// The one for the URL if not given.
    pub(crate) listener: Option<At<String>>,
    pub(crate) body: Option<String>,
    /// Who is calling, as far as filters that would find out can't be asked.
    pub(crate) identity: Option<IdentityConfig>,
    /// What endpoints answer.
    #[serde(default)]
    pub(crate) answer: AnswerConfig,
    pub(crate) expect: At<ExpectConfig>,
}

/// `{ subject: ann, claims: { role: admin } }`
#[derive(Debug, Deserialize)]
#[serde(rename = "identity")]
pub(crate) struct IdentityConfig {
    pub(crate) subject: String,
    pub(crate) claims: Option<At<Json>>,
}

/// `{ status: 503, headers: { Retry-After: '5' }, body: busy }`
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename = "answer")]
pub(crate) struct AnswerConfig {
    pub(crate) status: Option<AnswerStatus>,
    pub(crate) headers: Entries<ValueText>,
    pub(crate) body: String,
}

/// What is to become of the request; what is not said may be anything.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename = "expect")]
pub(crate) struct ExpectConfig {
    /// The route that takes it.
    pub(crate) route: Option<At<String>>,
    pub(crate) status: ExpectedStatuses,
    /// Of the response.
    pub(crate) headers: Entries<TestText>,
    /// Of the response.
    pub(crate) body: Option<BodyTest>,
    /// The upstream that is asked.
    pub(crate) upstream: Option<At<String>>,
    /// The endpoint that is asked.
    pub(crate) endpoint: Option<String>,
    /// The filter that replies.
    pub(crate) filter: Option<At<String>>,
    /// What the cache does.
    pub(crate) cache: Option<ExpectedCaching>,
    /// What the endpoint is sent.
    pub(crate) sent: Option<SentConfig>,
}

/// `{ target: /cart, headers: { X-Auth-User: ann } }`
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename = "sent")]
pub(crate) struct SentConfig {
    pub(crate) method: Option<String>,
    /// Path and query.
    pub(crate) target: Option<String>,
    pub(crate) headers: Entries<TestText>,
}

/// As `Cache-Status` has it, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExpectedCaching {
    /// The response is stored.
    Stored,
    /// It was asked for at the upstream, and is not stored.
    NotStored,
    /// The request has nothing to do with what is stored.
    Bypass,
}

impl TestText {
    /// What is to be seen.
    pub(crate) fn into_test(self) -> Test {
        self.0
    }
}

/// `GET https://example.com/`; without a method it is `GET`.
#[derive(Clone, Debug)]
pub(crate) struct RequestText(pub(crate) Question);

impl FromStr for RequestText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, url) = text.split_once(' ').unwrap_or(("GET", text));
        let method = method(name).map_err(|error| error.to_string())?;
        Question::of_url(method, url.trim()).map(Self)
    }
}

from_text!(RequestText, "a request such as `GET https://example.com/`");

#[derive(Clone, Debug)]
pub(crate) struct ClientText(pub(crate) IpAddr);

impl FromStr for ClientText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected an address such as `192.0.2.1`, found `{text}`");
        text.parse().map(Self).map_err(|_| wrong())
    }
}

from_text!(ClientText, "an address such as `192.0.2.1`");

/// The value of a header.
#[derive(Clone, Debug)]
pub(crate) struct ValueText(pub(crate) HeaderValue);

impl FromStr for ValueText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let value = HeaderValue::from_str(text).map(Self);
        value.map_err(|_| "this can't be the value of a header".to_owned())
    }
}

from_text_or_number!(ValueText, "the value of a header");

/// The status of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnswerStatus(pub(crate) http::StatusCode);

impl FromStr for AnswerStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected a status such as 200, found `{text}`");
        let number = text
            .parse()
            .ok()
            .filter(|number| *number >= 200 || *number == 101);
        let status = number.and_then(|number: u16| http::StatusCode::from_u16(number).ok());
        status.map(Self).ok_or_else(wrong)
    }
}

from_text_or_number!(AnswerStatus, "a status such as 200");

/// `200`, `2xx`, `200-299`, or a list of them; any if there is none.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExpectedStatuses(pub(crate) Vec<StatusRange>);

struct ExpectedStatus(StatusRange);

impl FromStr for ExpectedStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let class = text
            .strip_suffix("xx")
            .and_then(|class| class.parse::<u16>().ok());
        if let Some(class @ 1..=5) = class {
            let (first, last) = (class * 100, class * 100 + 99);
            return Ok(Self(StatusRange { first, last }));
        }
        text.parse().map(Self)
    }
}

from_text_or_number!(ExpectedStatus, "a status such as `404`, `2xx` or `200-299`");

impl<'de> Deserialize<'de> for ExpectedStatuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = ExpectedStatuses;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status such as `404`, `2xx` or `200-299`, or a list of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ExpectedStatuses, E> {
                let status: ExpectedStatus = text.parse().map_err(E::custom)?;
                Ok(ExpectedStatuses(vec![status.0]))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<ExpectedStatuses, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut items: A,
            ) -> Result<ExpectedStatuses, A::Error> {
                let mut ranges = Vec::new();
                while let Some(ExpectedStatus(range)) = items.next_element()? {
                    ranges.push(range);
                }
                match ranges.is_empty() {
                    true => Err(de::Error::custom("the list is empty: no status would do")),
                    false => Ok(ExpectedStatuses(ranges)),
                }
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// Reads the name of a header.
pub(crate) fn header_name(name: &str) -> Result<HeaderName, String> {
    let parsed = name.parse();
    parsed.map_err(|_| format!("`{name}` is not a header name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_a_number_a_class_or_a_range() {
        let of = |text: &str| {
            text.parse::<ExpectedStatus>()
                .map(|ExpectedStatus(range)| (range.first, range.last))
        };
        assert_eq!(of("404"), Ok((404, 404)));
        assert_eq!(of("2xx"), Ok((200, 299)));
        assert_eq!(of("500-503"), Ok((500, 503)));
        for wrong in ["6xx", "xx", "2x", "20", "abc", "599-500"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_request_is_a_url_with_or_without_a_method() {
        let of = |text: &str| {
            text.parse::<RequestText>()
                .map(|RequestText(question)| question)
        };
        assert_eq!(of("https://a.org/x").unwrap().method, "GET");
        let posted = of("POST http://a.org/x?y").unwrap();
        assert_eq!(
            (posted.method.as_str(), posted.target.as_str()),
            ("POST", "/x?y")
        );
        for wrong in ["/x", "get http://a.org/", "GET a.org", ""] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
