//! What a route says about the requests it is for, as it is written.

use std::{fmt, str::FromStr};

use http::Method;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{
    At, Entries, OneOrMany,
    scalar::{SchemeName, from_text},
};
use crate::route::{
    Case, HostPattern, Match, MatchError, PathPattern, Predicate, Rank, Subject, Test, method,
};

/// `match: { host: api.example.com, path: /protected/, method: GET, headers: { x-tier: gold } }`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct MatchConfig {
    host: OneOrMany<HostText>,
    path: Option<PathText>,
    method: OneOrMany<MethodText>,
    headers: Entries<TestText>,
    query: Entries<TestText>,
    cookies: Entries<TestText>,
    scheme: Option<SchemeName>,
    listener: Option<At<String>>,
}

/// A predicate that can't be, and where it stands.
pub(crate) type Misplaced = At<MatchError>;

impl MatchConfig {
    /// The match that this describes; every path if it names none.
    ///
    /// # Errors
    ///
    /// The predicates that no request could satisfy.
    pub(crate) fn compile(&self) -> Result<Match, Vec<Misplaced>> {
        let mut predicates = predicates(&self.headers, &self.query, &self.cookies)?;
        predicates.extend(origin(self.scheme, self.listener.as_ref()));
        Ok(Match::new(self.path())
            .hosts(self.host.0.iter().map(|host| host.0.clone()))
            .methods(self.method.0.iter().map(|method| method.0.clone()))
            .predicates(predicates))
    }

    /// The listener that it is for, if it is for one.
    pub(crate) fn listener(&self) -> Option<&At<String>> {
        self.listener.as_ref()
    }

    /// What it says about the path.
    pub(crate) fn path(&self) -> PathPattern {
        self.path
            .as_ref()
            .map_or_else(everything, |path| path.0.clone())
    }
}

/// Every path.
pub(super) fn everything() -> PathPattern {
    PathPattern::prefix("/", Rank::BelowRegex).expect("`/` is a path")
}

/// What is tested of the way that a request has come.
pub(super) fn origin(
    scheme: Option<SchemeName>,
    listener: Option<&At<String>>,
) -> impl Iterator<Item = Predicate> {
    let scheme = scheme.map(|scheme| (Subject::Scheme, scheme.as_str()));
    let listener = listener.map(|listener| (Subject::Listener, listener.value.as_str()));
    let tests = scheme.into_iter().chain(listener);
    tests
        .filter_map(|(subject, value)| Predicate::new(subject, Test::Equals(value.to_owned())).ok())
}

/// What is tested of headers, query and cookies.
///
/// # Errors
///
/// The predicates that no request could satisfy.
pub(super) fn predicates(
    headers: &Entries<TestText>,
    query: &Entries<TestText>,
    cookies: &Entries<TestText>,
) -> Result<Vec<Predicate>, Vec<Misplaced>> {
    let headers = headers
        .iter()
        .map(|entry| (Subject::header(&entry.0.value), entry));
    let query = query
        .iter()
        .map(|entry| (Subject::query(&entry.0.value), entry));
    let cookies = cookies
        .iter()
        .map(|entry| (Subject::cookie(&entry.0.value), entry));
    let (mut right, mut wrong) = (Vec::new(), Vec::new());
    for (subject, (name, test)) in headers.chain(query).chain(cookies) {
        match subject.and_then(|subject| Predicate::new(subject, test.0.clone())) {
            Ok(predicate) => right.push(predicate),
            Err(error) => wrong.push(At {
                value: error,
                node: name.node,
            }),
        }
    }
    if wrong.is_empty() {
        Ok(right)
    } else {
        Err(wrong)
    }
}

#[derive(Clone, Debug)]
pub(super) struct HostText(pub(super) HostPattern);

impl FromStr for HostText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        HostPattern::parse(text)
            .map(Self)
            .map_err(|error| error.to_string())
    }
}

from_text!(
    HostText,
    "a host such as `api.example.com` or `*.example.com`"
);

#[derive(Clone, Debug)]
pub(super) struct MethodText(pub(super) Method);

impl FromStr for MethodText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        method(text).map(Self).map_err(|error| error.to_string())
    }
}

from_text!(MethodText, "a method such as `GET`");

/// `/product` (a prefix of whole segments), `{ exact: /login }`, `{ prefix: /static/, beats_regex: true }`
/// or `{ regex: "\\.php$", ignore_case: true }`.
#[derive(Debug)]
pub(super) struct PathText(pub(super) PathPattern);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FullPath {
    exact: Option<PlainPath>,
    prefix: Option<PlainPath>,
    regex: Option<RegexText>,
    ignore_case: Option<bool>,
    beats_regex: Option<bool>,
}

impl FullPath {
    fn compile(self) -> Result<PathPattern, String> {
        let text = |error: MatchError| error.to_string();
        if self.ignore_case.is_some() && self.regex.is_none() {
            return Err("`ignore_case` has no effect without `regex`".to_owned());
        }
        if self.beats_regex.is_some() && self.prefix.is_none() {
            return Err("`beats_regex` has no effect without `prefix`".to_owned());
        }
        match (self.exact, self.prefix, self.regex) {
            (Some(PlainPath(path)), None, None) => PathPattern::exact(&path).map_err(text),
            (None, Some(PlainPath(path)), None) => {
                let rank = if self.beats_regex == Some(true) {
                    Rank::AboveRegex
                } else {
                    Rank::BelowRegex
                };
                PathPattern::prefix(&path, rank).map_err(text)
            }
            (None, None, Some(RegexText(pattern))) => {
                let case = if self.ignore_case == Some(true) {
                    Case::Ignored
                } else {
                    Case::Sensitive
                };
                PathPattern::regex(&pattern, case).map_err(text)
            }
            _ => Err("expected one of `exact`, `prefix` and `regex`".to_owned()),
        }
    }
}

/// The text of a path: refused where it stands if it can't be one.
#[derive(Debug)]
struct PlainPath(String);

impl FromStr for PlainPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        PathPattern::exact(text)
            .map(|_| Self(text.to_owned()))
            .map_err(|error| error.to_string())
    }
}

from_text!(PlainPath, "a path such as `/product`");

/// The text of a regex: refused where it stands if it is not valid.
#[derive(Debug)]
struct RegexText(String);

impl FromStr for RegexText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let valid = PathPattern::regex(text, Case::Sensitive);
        valid
            .map(|_| Self(text.to_owned()))
            .map_err(|error| error.to_string())
    }
}

from_text!(RegexText, "a regex such as `^/api/v[0-9]+/`");

impl FromStr for PathText {
    type Err = String;

    fn from_str(path: &str) -> Result<Self, String> {
        let prefix = PathPattern::prefix(path, Rank::BelowRegex);
        prefix.map(Self).map_err(|error| error.to_string())
    }
}

impl<'de> Deserialize<'de> for PathText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = PathText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path such as `/product`, or a map with `exact`, `prefix` or `regex`")
            }

            fn visit_str<E: de::Error>(self, path: &str) -> Result<PathText, E> {
                path.parse().map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PathText, A::Error> {
                let full = FullPath::deserialize(MapAccessDeserializer::new(map))?;
                full.compile().map(PathText).map_err(de::Error::custom)
            }
        }

        const KEYS: &[&str] = &["exact", "prefix", "regex", "ignore_case", "beats_regex"];
        deserializer.deserialize_struct("path", KEYS, Either)
    }
}

/// `gold` (this value), `{ regex: "^go", ignore_case: true }`, or `{ present: true }`.
#[derive(Clone, Debug)]
pub(crate) struct TestText(pub(super) Test);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FullTest {
    equals: Option<String>,
    regex: Option<RegexText>,
    ignore_case: Option<bool>,
    present: Option<bool>,
}

impl FullTest {
    fn compile(self) -> Result<Test, String> {
        if self.ignore_case.is_some() && self.regex.is_none() {
            return Err("`ignore_case` has no effect without `regex`".to_owned());
        }
        match (self.equals, self.regex, self.present) {
            (Some(value), None, None) => Ok(Test::Equals(value)),
            (None, Some(RegexText(pattern)), None) => {
                let case = if self.ignore_case == Some(true) {
                    Case::Ignored
                } else {
                    Case::Sensitive
                };
                Test::matches(&pattern, case).map_err(|error| error.to_string())
            }
            (None, None, Some(true)) => Ok(Test::Present),
            (None, None, Some(false)) => Ok(Test::Absent),
            _ => Err("expected one of `equals`, `regex` and `present`".to_owned()),
        }
    }
}

impl<'de> Deserialize<'de> for TestText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = TestText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or a map with `equals`, `regex` or `present`")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<TestText, E> {
                Ok(TestText(Test::Equals(value.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TestText, A::Error> {
                let full = FullTest::deserialize(MapAccessDeserializer::new(map))?;
                full.compile().map(TestText).map_err(de::Error::custom)
            }
        }

        deserializer.deserialize_struct(
            "test",
            &["equals", "regex", "ignore_case", "present"],
            Either,
        )
    }
}
