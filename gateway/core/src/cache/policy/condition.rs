//! Conditions of a request, and what they make of a stored response (RFC 9110, section 13; RFC 9111, section 4.3.2).

use std::time::SystemTime;

use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{
        DATE, ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
        LAST_MODIFIED,
    },
    request,
};

use super::{
    date,
    freshness::date_of,
    list::{Quotes, members},
};

/// What the conditions of a request come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precondition {
    /// Serve what is stored, or the range of it that is asked for.
    Met,
    /// Answer 304, with the header of what is stored.
    NotModified,
    /// Only the origin can tell, which `If-Match` and `If-Unmodified-Since` are for.
    Origin,
}

/// The stored response that is held against a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored<'a> {
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) received: SystemTime,
}

/// Evaluates the conditions of a GET or HEAD that is about to be answered with a stored response.
pub(crate) fn precondition(request: &request::Parts, stored: Stored<'_>) -> Precondition {
    let headers = &request.headers;
    if must_reach_origin(headers) {
        return Precondition::Origin;
    }
    let applies = request.method == Method::GET || request.method == Method::HEAD;
    if !applies || stored.status != StatusCode::OK {
        return Precondition::Met;
    }
    let same = match headers.contains_key(IF_NONE_MATCH) {
        true => matches_any(headers, stored.headers.get(ETAG)),
        false => is_unmodified(headers, stored),
    };
    match same {
        true => Precondition::NotModified,
        false => Precondition::Met,
    }
}

/// Whether a request has conditions that no cache may decide.
pub(crate) fn must_reach_origin(headers: &HeaderMap) -> bool {
    headers.contains_key(IF_MATCH) || headers.contains_key(IF_UNMODIFIED_SINCE)
}

/// Whether the `If-Range` of a request, if there is one, allows to serve a range of what is stored: the
/// validator is the same, and strong (RFC 9110, section 13.1.5).
pub(super) fn range_is_current(headers: &HeaderMap, stored: Stored<'_>) -> bool {
    let mut lines = headers.get_all(IF_RANGE).iter();
    let Some(condition) = lines.next() else {
        return true;
    };
    let condition = condition.as_bytes().trim_ascii();
    if lines.next().is_some() {
        return false;
    }
    if condition.starts_with(b"\"") || is_weak(condition) {
        let tag = stored
            .headers
            .get(ETAG)
            .map(|tag| tag.as_bytes().trim_ascii());
        return !is_weak(condition) && tag == Some(condition);
    }
    let Some(expected) = date::parse(condition, stored.received) else {
        return false;
    };
    let changed = date_of(stored.headers, &LAST_MODIFIED, stored.received);
    changed == Some(expected) && is_strong_date(stored, expected)
}

/// Whether two entity tags stand for the same, by the weak comparison of RFC 9110, section 8.8.3.2.
pub(super) fn tags_match(left: &[u8], right: &[u8]) -> bool {
    opaque(left) == opaque(right)
}

pub(super) fn is_weak(tag: &[u8]) -> bool {
    tag.starts_with(b"W/")
}

/// What an entity tag has after its mark. What is not an entity tag is compared as it is.
fn opaque(tag: &[u8]) -> &[u8] {
    let tag = tag.trim_ascii();
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

fn matches_any(headers: &HeaderMap, tag: Option<&HeaderValue>) -> bool {
    members(headers, &IF_NONE_MATCH, Quotes::Tags).any(|candidate| {
        candidate == b"*" || tag.is_some_and(|tag| tags_match(candidate, tag.as_bytes()))
    })
}

/// `If-Modified-Since`. What is no date is no condition. A response without `Last-Modified` has changed when
/// it was made, for all that is known.
fn is_unmodified(headers: &HeaderMap, stored: Stored<'_>) -> bool {
    let mut lines = headers.get_all(IF_MODIFIED_SINCE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return false;
    };
    let Some(since) = date::parse(line.as_bytes(), stored.received) else {
        return false;
    };
    let date = |name| date_of(stored.headers, name, stored.received);
    let changed = date(&LAST_MODIFIED).or_else(|| date(&DATE));
    changed.unwrap_or(stored.received) <= since
}

/// Whether nothing can have changed in the second that `Last-Modified` names after it was made
/// (RFC 9110, section 8.8.2.2).
fn is_strong_date(stored: Stored<'_>, changed: SystemTime) -> bool {
    let made = date_of(stored.headers, &DATE, stored.received);
    made.and_then(|made| made.duration_since(changed).ok())
        .is_some_and(|apart| apart.as_secs() >= 1)
}
