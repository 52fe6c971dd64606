//! Whether what has become of a request is what was expected.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};
use serde::Serialize;

use super::{Explanation, Headers};
use crate::{
    config::{BodyTest, StatusRange, tests::ExpectedCaching},
    route::Test,
    server::rehearsal::{Rehearsed, Response},
    snapshot::{Case, Expected, ExpectedSent},
};

/// Something that is not as expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Failure {
    /// `status`, `header location`.
    pub(crate) what: String,
    pub(crate) expected: String,
    pub(crate) found: String,
}

impl Failure {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "most of what is told is a text made for it"
    )]
    fn new(what: impl Into<String>, expected: impl ToString, found: impl ToString) -> Self {
        Self {
            what: what.into(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }
}

/// What is not as a test expects it.
pub(crate) fn failures(case: &Case, rehearsed: &Rehearsed) -> Vec<Failure> {
    let nothing = Explanation::default();
    let told = rehearsed.explanation.as_deref().unwrap_or(&nothing);
    let expected = &case.expected;
    let tried = told.tries.last();
    let names = [
        ("route", &expected.route, Some(told.route.name.as_str())),
        (
            "upstream",
            &expected.upstream,
            tried.map(|tried| tried.upstream.as_str()),
        ),
        (
            "endpoint",
            &expected.endpoint,
            tried.map(|tried| tried.endpoint.as_str()),
        ),
        (
            "filter",
            &expected.filter,
            told.response.decided_by.as_deref(),
        ),
    ];
    let names = names.into_iter().filter_map(|(what, expected, found)| {
        let expected = expected.as_deref()?;
        let found = found.filter(|found| !found.is_empty());
        (found != Some(expected)).then(|| Failure::new(what, expected, found.unwrap_or("none")))
    });
    names
        .chain(status(expected, &rehearsed.response))
        .chain(headers(
            "header",
            &expected.headers,
            &rehearsed.response.headers,
        ))
        .chain(
            expected
                .body
                .as_ref()
                .and_then(|test| body(test, &rehearsed.response)),
        )
        .chain(expected.cache.and_then(|wanted| cache(wanted, told)))
        .chain(expected.sent.iter().flat_map(|wanted| sent(wanted, told)))
        .collect()
}

fn status(expected: &Expected, response: &Response) -> Option<Failure> {
    let ranges = &expected.statuses;
    if ranges.is_empty() || StatusRange::any_contains(ranges, response.status) {
        return None;
    }
    let wanted: Vec<_> = ranges.iter().map(ToString::to_string).collect();
    Some(Failure::new(
        "status",
        wanted.join(", "),
        response.status.as_u16(),
    ))
}

fn headers<'t>(
    what: &'t str,
    tests: &'t [(HeaderName, Test)],
    found: &'t HeaderMap,
) -> impl Iterator<Item = Failure> + 't {
    tests.iter().filter_map(move |(name, test)| {
        let values = || found.get_all(name).iter().map(|value| value.as_bytes());
        let holds = test.holds(values().map(Cow::Borrowed));
        let text = |value| String::from_utf8_lossy(value).into_owned();
        let list = || values().map(text).collect::<Vec<_>>();
        (!holds).then(|| Failure::new(format!("{what} {name}"), test, or_none(&list())))
    })
}

fn or_none(values: &[String]) -> String {
    match values.is_empty() {
        true => "none".to_owned(),
        false => values.join(" and "),
    }
}

fn body(test: &BodyTest, response: &Response) -> Option<Failure> {
    let text = String::from_utf8_lossy(&response.body);
    let (holds, wanted) = match test {
        BodyTest::Contains(wanted) => (text.contains(wanted.as_str()), format!("`{wanted}` in it")),
        BodyTest::Matches(regex) => (
            regex.is_match(&response.body),
            format!("a match of `{regex}`"),
        ),
    };
    let beginning: String = text.chars().take(BEGINNING).collect();
    (!holds).then(|| Failure::new("body", wanted, format!("`{beginning}`")))
}

/// So much of a body that is not as expected is shown.
const BEGINNING: usize = 200;

fn cache(wanted: ExpectedCaching, told: &Explanation) -> Option<Failure> {
    let (holds, name) = match (wanted, &told.cache) {
        (ExpectedCaching::Stored, cache) => (
            cache.as_ref().is_some_and(|cache| cache.is_stored()),
            "stored",
        ),
        (ExpectedCaching::Bypass, cache) => (
            cache
                .as_ref()
                .is_some_and(|cache| cache.outcome == "bypass"),
            "bypass",
        ),
        (ExpectedCaching::NotStored, cache) => (
            !cache.as_ref().is_some_and(|cache| cache.is_stored()),
            "not_stored",
        ),
    };
    let found = match &told.cache {
        None => "nothing: it was not asked".to_owned(),
        Some(cache) => match (&cache.status, &cache.reason) {
            (Some(status), _) => status.clone(),
            (None, Some(reason)) => format!("{}: {reason}", cache.outcome),
            (None, None) => cache.outcome.to_string(),
        },
    };
    (!holds).then(|| Failure::new("cache", name, found))
}

fn sent(wanted: &ExpectedSent, told: &Explanation) -> Vec<Failure> {
    let Some(sent) = &told.sent else {
        return vec![Failure::new("sent", "a request to an endpoint", "none")];
    };
    let lines = [
        ("method sent", &wanted.method, &sent.method),
        ("target sent", &wanted.target, &sent.target),
    ];
    let lines = lines.into_iter().filter_map(|(what, wanted, found)| {
        let wanted = wanted.as_ref()?;
        (wanted != found).then(|| Failure::new(what, wanted, found))
    });
    let map = map_of(&sent.headers);
    lines
        .chain(headers("header sent", &wanted.headers, &map))
        .collect()
}

fn map_of(headers: &Headers) -> HeaderMap {
    let lines = headers
        .0
        .iter()
        .filter_map(|(name, value)| Some((name.parse::<HeaderName>().ok()?, value.parse().ok()?)));
    lines.fold(HeaderMap::new(), |mut map, (name, value)| {
        map.append(name, value);
        map
    })
}
