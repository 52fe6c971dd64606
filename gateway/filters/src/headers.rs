//! Changes headers of requests and responses.
//!
//! Removals come first, then what is set, then what is set where it is absent, then what is
//! appended. Values are those of the request before this filter changed it, so that a header can be
//! renamed by one filter: set the new name from the old, and remove the old.
//!
//! A value that comes out empty, or that could not stand in a header, is no header: nothing is
//! appended, and what was to be replaced is removed. A client can't have its own copy of a header
//! survive by sending something odd.
//!
//! Responses are edited wherever they came from: an endpoint, the gateway itself, the cache.

use std::{fmt, str::FromStr};

use edgeway_sdk::{message::is_framing, prelude::*, template::Source, types::Header};
use serde::{Deserializer, de};
use smallvec::SmallVec;

pub(crate) const DOC: &str = "\
changes headers of requests and responses

headers:
  request:                              # what the upstream sees
    remove: [X-Debug, X-Internal-*]     # default: none; X-Internal-*: all that begin so
    set: { X-Client: '{client_ip}' }    # default: none; replaces all of this name
    set_if_absent: { Accept: '*/*' }    # default: none
    append: { Via: 1.1 edgeway }        # default: none; added beside those of this name
  response:                             # what the client sees; the same keys
    set: { X-Frame-Options: DENY }
";

/// `headers: { request: { set: { X-Client: "{client_ip}" } }, response: { remove: [Server] } }`
#[derive(Deserialize)]
pub(crate) struct Config {
    #[serde(default)]
    request: Written,
    #[serde(default)]
    response: Written,
}

#[derive(Default, Deserialize)]
struct Written {
    #[serde(default)]
    remove: Vec<Pattern>,
    #[serde(default)]
    set: Pairs,
    #[serde(default)]
    set_if_absent: Pairs,
    #[serde(default)]
    append: Pairs,
}

/// Headers and their values, in the order of the file.
#[derive(Default)]
struct Pairs(Vec<Pair>);

struct Pair {
    key: Key,
    value: Template,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Key {
    /// The name as the file spells it, to find its place again.
    written: String,
    name: HeaderName,
}

impl TryFrom<String> for Key {
    type Error = String;

    fn try_from(written: String) -> Result<Self, String> {
        let Header(name) = written.parse()?;
        Ok(Self { written, name })
    }
}

/// Changes headers of requests and responses.
pub(crate) struct Headers {
    request: Edits,
    response: Edits,
}

pub(crate) fn build(config: Config, _: &mut Build<'_>) -> Result<Headers, BuildError> {
    let request = Edits::new(config.request, Side::Request)?;
    let response = Edits::new(config.response, Side::Response)?;
    if request.is_empty() && response.is_empty() {
        return Err(BuildError::new("there is nothing to change")
            .help("name headers under `request` or `response`"));
    }
    Ok(Headers { request, response })
}

#[async_trait]
impl Filter for Headers {
    fn refuses(&self) -> bool {
        false
    }

    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        self.request.apply(request);
        Ok(Flow::Continue)
    }

    fn response(&self, response: &mut Response<'_>) -> Result<()> {
        self.response.apply(response);
        Ok(())
    }

    fn offline(&self, _: &Request<'_>) -> Offline {
        Offline::Decides
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST | Hooks::RESPONSE
    }
}

/// Refuses a header that no filter can change on a request.
pub(crate) fn changeable(name: &HeaderName, key: impl Into<String>) -> Result<(), BuildError> {
    Side::Request.changeable(name, key)
}

#[derive(Clone, Copy)]
enum Side {
    Request,
    Response,
}

impl Side {
    fn key(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
        }
    }

    fn changeable(self, name: &HeaderName, key: impl Into<String>) -> Result<(), BuildError> {
        if is_framing(name) {
            let message = format!("`{name}` belongs to the connection, which is the gateway's");
            return Err(BuildError::at(key, message));
        }
        match self {
            Self::Request if *name == header::HOST => {
                Err(BuildError::at(key, "`host` can't be changed by a filter")
                    .help("set `host` at the upstream"))
            }
            Self::Request | Self::Response => Ok(()),
        }
    }
}

/// What is done to one head.
struct Edits {
    remove: Vec<Pattern>,
    /// In the order in which they are done.
    put: Vec<Put>,
}

struct Put {
    how: How,
    name: HeaderName,
    value: Value,
}

#[derive(Clone, Copy)]
enum How {
    Set,
    SetIfAbsent,
    Append,
}

enum Value {
    Fixed(HeaderValue),
    Template(Template),
}

impl Edits {
    fn new(written: Written, side: Side) -> Result<Self, BuildError> {
        for (index, pattern) in written.remove.iter().enumerate() {
            if let Pattern::Exact(name) = pattern {
                side.changeable(name, format!("{}.remove.{index}", side.key()))?;
            }
        }
        let groups = [
            ("set", How::Set, written.set),
            ("set_if_absent", How::SetIfAbsent, written.set_if_absent),
            ("append", How::Append, written.append),
        ];
        let mut put = Vec::new();
        for (key, how, pairs) in groups {
            for Pair { key: at, value } in pairs.0 {
                let key = format!("{}.{key}.{}", side.key(), at.written);
                side.changeable(&at.name, key.as_str())?;
                let value = Value::new(value, &key)?;
                let name = at.name;
                put.push(Put { how, name, value });
            }
        }
        Ok(Self {
            remove: written.remove,
            put,
        })
    }

    fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.put.is_empty()
    }

    fn apply(&self, head: &mut impl Head) {
        let values: SmallVec<[Option<HeaderValue>; 4]> =
            self.put.iter().map(|put| put.value.render(head)).collect();
        for pattern in &self.remove {
            pattern.remove(head);
        }
        for (put, value) in self.put.iter().zip(values) {
            put.apply(head, value);
        }
    }
}

impl Put {
    fn apply(&self, head: &mut impl Head, value: Option<HeaderValue>) {
        match (self.how, value) {
            (How::Set, Some(value)) => head.set(self.name.clone(), value),
            (How::Set, None) => head.remove(&self.name),
            (How::SetIfAbsent, Some(value)) => {
                if !head.headers().contains_key(&self.name) {
                    head.set(self.name.clone(), value);
                }
            }
            (How::Append, Some(value)) => head.append(self.name.clone(), value),
            (How::SetIfAbsent | How::Append, None) => {}
        }
    }
}

impl Value {
    fn new(template: Template, key: &str) -> Result<Self, BuildError> {
        let Some(text) = template.literal() else {
            return Ok(Self::Template(template));
        };
        if text.is_empty() {
            return Err(BuildError::at(key, "an empty value is no header")
                .help("to take a header away, name it under `remove`"));
        }
        HeaderValue::from_bytes(text.as_bytes())
            .map(Self::Fixed)
            .map_err(|_| BuildError::at(key, "a control character can't stand in a header"))
    }

    fn render(&self, source: &impl Source) -> Option<HeaderValue> {
        match self {
            Self::Fixed(value) => Some(value.clone()),
            Self::Template(template) => template
                .header_value(source)
                .filter(|value| !value.is_empty()),
        }
    }
}

/// A head that can be edited: what the views of request and response have in common.
trait Head: Source {
    fn headers(&self) -> &HeaderMap;
    fn set(&mut self, name: HeaderName, value: HeaderValue);
    fn append(&mut self, name: HeaderName, value: HeaderValue);
    fn remove(&mut self, name: &HeaderName);
}

macro_rules! head {
    ($($view:ident)*) => {$(
        impl Head for $view<'_> {
            fn headers(&self) -> &HeaderMap {
                $view::headers(self)
            }

            fn set(&mut self, name: HeaderName, value: HeaderValue) {
                self.set_header(name, value);
            }

            fn append(&mut self, name: HeaderName, value: HeaderValue) {
                self.append_header(name, value);
            }

            fn remove(&mut self, name: &HeaderName) {
                self.remove_header(name);
            }
        }
    )*};
}

head!(Request Response);

/// The name of a header, or the beginning of names: `X-Internal-*`.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(try_from = "String")]
enum Pattern {
    Exact(HeaderName),
    /// In lower case. Never stands for `Host` nor for a framing header.
    Prefix(String),
}

impl Pattern {
    fn remove(&self, head: &mut impl Head) {
        let prefix = match self {
            Self::Exact(name) => return head.remove(name),
            Self::Prefix(prefix) => prefix,
        };
        let names: SmallVec<[HeaderName; 4]> = head
            .headers()
            .keys()
            .filter(|name| name.as_str().starts_with(prefix) && **name != header::HOST)
            .cloned()
            .collect();
        for name in &names {
            head.remove(name);
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "*" {
            return Err(
                "a `*` alone would remove all headers; name the beginning of those that are \
                        meant, such as `X-Internal-*`"
                    .to_owned(),
            );
        }
        let wrong = || {
            format!(
                "expected the name of a header or a beginning such as `X-Internal-*`, found `{text}`"
            )
        };
        let (name, is_prefix) = match text.strip_suffix('*') {
            Some(beginning) => (beginning, true),
            None => (text.as_str(), false),
        };
        // A star is a letter like any other in names (RFC 9110, 5.6.2), but nobody means it so here.
        if name.contains('*') {
            return Err(format!(
                "a `*` can only stand at the end of a name, found `{text}`"
            ));
        }
        let Header(name) = Header::from_str(name).map_err(|_| wrong())?;
        Ok(if is_prefix {
            Self::Prefix(name.as_str().to_owned())
        } else {
            Self::Exact(name)
        })
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;

        impl<'de> de::Visitor<'de> for Map {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of headers and their values")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs: Vec<Pair> = Vec::new();
                while let Some(key) = map.next_key::<Key>()? {
                    if pairs.iter().any(|pair| pair.key.name == key.name) {
                        let message = format!("`{}` stands here twice", key.written);
                        return Err(de::Error::custom(message));
                    }
                    let value = map.next_value()?;
                    pairs.push(Pair { key, value });
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Map)
    }
}

#[cfg(test)]
mod tests {
    use edgeway_sdk::test::{self, Trial};

    use super::*;

    fn headers(json: &str) -> Result<Headers, BuildError> {
        test::build(json, build)
    }

    #[tokio::test]
    async fn requests_are_edited_before_the_upstream_sees_them() {
        let filter = headers(
            r#"{"request": {
                "remove": ["x-b", "X-Internal-*"],
                "set": {"X-Client": "{client_ip}", "X-Fixed": "1"},
                "set_if_absent": {"X-Here": "no", "X-Gone": "yes"},
                "append": {"X-List": "{method}"}
            }}"#,
        );
        let outcome = Trial::get("/")
            .header("x-b", "1")
            .header("x-internal-a", "1")
            .header("X-INTERNAL-b", "1")
            .header("x-internal", "stays")
            .header("x-client", "forged")
            .header("x-here", "here")
            .header("x-list", "a")
            .run(&filter.unwrap())
            .await;
        assert_eq!(outcome.sent_header("x-b"), None);
        assert_eq!(outcome.sent_header("x-internal-a"), None);
        assert_eq!(outcome.sent_header("x-internal-b"), None);
        assert_eq!(outcome.sent_header("x-internal"), Some("stays"));
        assert_eq!(outcome.sent_header("x-client"), Some("192.0.2.1"));
        assert_eq!(outcome.sent_header("x-fixed"), Some("1"));
        assert_eq!(outcome.sent_header("x-here"), Some("here"));
        assert_eq!(outcome.sent_header("x-gone"), Some("yes"));
        let list: Vec<_> = outcome.sent.headers.get_all("x-list").iter().collect();
        assert_eq!(list, ["a", "GET"]);
    }

    #[tokio::test]
    async fn responses_are_edited_wherever_they_came_from() {
        let filter = headers(
            r#"{"response": {
                "remove": ["Server", "x-powered-*"],
                "set": {"X-Frame-Options": "DENY"},
                "set_if_absent": {"Cache-Control": "no-store"},
                "append": {"Vary": "{scheme}"}
            }}"#,
        )
        .unwrap();
        let outcome = Trial::get("/")
            .answer_header("server", "x")
            .answer_header("x-powered-by", "x")
            .answer_header("cache-control", "private")
            .answer_header("vary", "accept")
            .run(&filter)
            .await;
        assert_eq!(outcome.header("server"), None);
        assert_eq!(outcome.header("x-powered-by"), None);
        assert_eq!(outcome.header("x-frame-options"), Some("DENY"));
        assert_eq!(outcome.header("cache-control"), Some("private"));
        let vary: Vec<_> = outcome.headers().get_all("vary").iter().collect();
        assert_eq!(vary, ["accept", "http"]);
    }

    #[tokio::test]
    async fn a_header_can_be_renamed() {
        let filter =
            headers(r#"{"request": {"set": {"X-New": "{header.x-old}"}, "remove": ["X-Old"]}}"#);
        let outcome = Trial::get("/")
            .header("x-old", "v")
            .run(&filter.unwrap())
            .await;
        assert_eq!(outcome.sent_header("x-new"), Some("v"));
        assert_eq!(outcome.sent_header("x-old"), None);
    }

    #[tokio::test]
    async fn a_value_that_is_no_header_does_not_leave_the_clients_copy() {
        let filter = headers(
            r#"{"request": {
                "set": {"X-User": "{subject}", "X-Note": "{query.note}"},
                "set_if_absent": {"X-Else": "{subject}"},
                "append": {"X-More": "{subject}"}
            }}"#,
        );
        let outcome = Trial::get("/?note=a%0d%0ab")
            .header("x-user", "forged")
            .header("x-note", "forged")
            .run(&filter.unwrap())
            .await;
        for name in ["x-user", "x-note", "x-else", "x-more"] {
            assert_eq!(outcome.sent_header(name), None, "{name}");
        }
    }

    #[tokio::test]
    async fn a_wildcard_spares_the_headers_that_are_the_gateways() {
        let filter = headers(r#"{"request": {"remove": ["h*", "c*"]}}"#).unwrap();
        let outcome = Trial::get("/")
            .header("host", "a")
            .header("content-length", "0")
            .header("cookie", "a=b")
            .run(&filter)
            .await;
        assert_eq!(outcome.sent_header("host"), Some("a"));
        assert_eq!(outcome.sent_header("content-length"), Some("0"));
        assert_eq!(outcome.sent_header("cookie"), None);
    }

    #[test]
    fn what_can_not_be_done_is_refused_at_its_key() {
        let cases = [
            ("{}", None),
            (r#"{"request": {"set": {}}}"#, None),
            (
                r#"{"request": {"set": {"Host": "a"}}}"#,
                Some("request.set.Host"),
            ),
            (
                r#"{"request": {"append": {"Transfer-Encoding": "a"}}}"#,
                Some("request.append.Transfer-Encoding"),
            ),
            (
                r#"{"response": {"remove": ["a", "Content-Length"]}}"#,
                Some("response.remove.1"),
            ),
            (
                r#"{"response": {"set_if_absent": {"Upgrade": "h2c"}}}"#,
                Some("response.set_if_absent.Upgrade"),
            ),
            (
                r#"{"response": {"set": {"X-A": ""}}}"#,
                Some("response.set.X-A"),
            ),
            (
                r#"{"response": {"set": {"X-A": "a\nb"}}}"#,
                Some("response.set.X-A"),
            ),
        ];
        for (json, key) in cases {
            let error = headers(json).err().expect(json);
            assert_eq!(error.key.as_deref(), key, "{json}");
        }
    }

    #[test]
    fn what_is_no_header_is_not_read() {
        for json in [
            r#"{"request": {"set": {"X A": "a"}}}"#,
            r#"{"request": {"set": {"X-A": "{nope}"}}}"#,
            r#"{"request": {"set": {"X-A": "a", "x-a": "b"}}}"#,
            r#"{"request": {"remove": ["*"]}}"#,
            r#"{"request": {"remove": ["x-*-y*"]}}"#,
            r#"{"request": {"remove": ["x-*-y"]}}"#,
            r#"{"request": {"remove": ["*-y"]}}"#,
            r#"{"request": {"remove": ["**"]}}"#,
            r#"{"request": {"remove": [""]}}"#,
            r#"{"request": {"remove": ["x y"]}}"#,
        ] {
            assert!(serde_json::from_str::<Config>(json).is_err(), "{json}");
        }
    }
}
