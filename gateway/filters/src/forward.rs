//! Claims as request headers, for upstreams to decide by.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use edgeway_sdk::{Build, BuildError, Request, message::is_framing, values::claim};
use http::{HeaderName, HeaderValue, header::HOST};
use serde_json::{Map, Value};

/// Which claim goes into which header. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Forward(Arc<[(String, HeaderName)]>);

/// What is known of a caller.
type Claims = Map<String, Value>;

/// The headers for one token; a claim that the token lacks has no value.
pub(crate) type Headers = Box<[(HeaderName, Option<HeaderValue>)]>;

impl Forward {
    /// Reserves the headers: clients can't send them on any route. Those that `holds_credentials`
    /// are refused.
    pub(crate) fn new(
        wanted: BTreeMap<String, String>,
        holds_credentials: impl Fn(&HeaderName) -> bool,
        build: &mut Build<'_>,
    ) -> Result<Self, BuildError> {
        let mut seen = HashSet::new();
        let mut headers = Vec::new();
        for (claim, header) in wanted {
            let wrong = |what: &str| {
                BuildError::at(format!("forward.{claim}"), format!("`{header}` {what}"))
            };
            let name: HeaderName = header.parse().map_err(|_| wrong("is not a header name"))?;
            if is_framing(&name) || name == HOST {
                return Err(wrong("is set by the gateway alone"));
            }
            // Reserved, it would be taken from every client before it is looked at.
            if holds_credentials(&name) {
                return Err(wrong("is where tokens stand"));
            }
            if !seen.insert(name.clone()) {
                return Err(wrong("is given to two claims"));
            }
            build.reserve_header(name.clone());
            headers.push((claim, name));
        }
        Ok(Self(headers.into()))
    }

    /// The headers for these claims. The error names a claim that upstreams could take for another.
    pub(crate) fn headers(&self, claims: &Claims) -> Result<Headers, String> {
        let headers = self.0.iter();
        headers
            .map(|(path, name)| Ok((name.clone(), header(claims, path)?)))
            .collect()
    }
}

/// Gives the request these headers instead of what the client sent under their names.
pub(crate) fn apply(headers: &Headers, request: &mut Request<'_>) {
    for (name, value) in headers {
        match value {
            Some(value) => request.set_header(name.clone(), value.clone()),
            None => request.remove_header(name),
        }
    }
}

fn header(claims: &Claims, path: &str) -> Result<Option<HeaderValue>, String> {
    let wrong = |what: &str| format!("the claim `{path}` {what}");
    let Some(value) = claim(claims, path).filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let text =
        text(value).ok_or_else(|| wrong("has a comma or outer spaces in a value of a list"))?;
    if text.chars().any(char::is_control) {
        return Err(wrong("has control characters"));
    }
    // Whoever reads the header trims it: ` admin` would become `admin`.
    if text.trim() != text {
        return Err(wrong("has spaces at its ends"));
    }
    let value = HeaderValue::from_bytes(text.as_bytes());
    value
        .map(Some)
        .map_err(|_| wrong("can't stand in a header"))
}

/// The text of a claim; none for a list that would read as a longer one.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Array(list) => list_text(list),
        value => Some(scalar_text(value).unwrap_or_else(|| value.to_string())),
    }
}

fn list_text(list: &[Value]) -> Option<String> {
    let items: Option<Vec<String>> = list.iter().map(scalar_text).collect();
    let Some(items) = items else {
        return Some(Value::from(list).to_string());
    };
    // `["user, admin"]` must not read as `["user", "admin"]`, nor ` admin` as `admin`.
    let ambiguous = items
        .iter()
        .any(|item| item.contains(',') || item.trim() != item);
    (!ambiguous).then(|| items.join(","))
}

fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
