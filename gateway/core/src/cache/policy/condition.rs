//! Conditions of a request, and what they make of a stored response or of a file (RFC 9110, section 13; RFC 9111,
//! section 4.3.2).

use std::time::SystemTime;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
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

/// What tells one version of a representation from another.
pub(crate) trait Validators {
    fn etag(&self) -> Option<&HeaderValue>;
    fn last_modified(&self) -> Option<SystemTime>;
    /// What `Date` says.
    fn made(&self) -> Option<SystemTime>;
    /// By our clock, which decides the century of a date that has two digits for its year.
    fn received(&self) -> SystemTime;
}

impl Validators for Stored<'_> {
    fn etag(&self) -> Option<&HeaderValue> {
        self.headers.get(ETAG)
    }

    fn last_modified(&self) -> Option<SystemTime> {
        date_of(self.headers, &LAST_MODIFIED, self.received)
    }

    fn made(&self) -> Option<SystemTime> {
        date_of(self.headers, &DATE, self.received)
    }

    fn received(&self) -> SystemTime {
        self.received
    }
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
    match is_not_modified(headers, &stored) {
        true => Precondition::NotModified,
        false => Precondition::Met,
    }
}

/// What `If-None-Match`, or without it `If-Modified-Since`, says of a GET or HEAD: whether the client has this
/// version already.
pub(crate) fn is_not_modified(headers: &HeaderMap, current: &impl Validators) -> bool {
    match headers.contains_key(IF_NONE_MATCH) {
        true => matches_any(headers, current.etag()),
        false => is_unmodified(headers, current),
    }
}

/// What `If-Match`, or without it `If-Unmodified-Since`, says: whether this is the version that the client wants
/// to have to do with. Tags are compared strongly.
pub(crate) fn is_expected(headers: &HeaderMap, current: &impl Validators) -> bool {
    if !headers.contains_key(IF_MATCH) {
        let since = date(headers, &IF_UNMODIFIED_SINCE, current.received());
        return since.is_none_or(|since| current.last_modified().is_none_or(|time| time <= since));
    }
    let tag = current.etag().map(|tag| tag.as_bytes().trim_ascii());
    members(headers, &IF_MATCH, Quotes::Tags)
        .any(|candidate| candidate == b"*" || (!is_weak(candidate) && tag == Some(candidate)))
}

/// Whether a request has conditions that no cache may decide.
pub(crate) fn must_reach_origin(headers: &HeaderMap) -> bool {
    headers.contains_key(IF_MATCH) || headers.contains_key(IF_UNMODIFIED_SINCE)
}

/// Whether the `If-Range` of a request, if there is one, allows to serve a range of what there is: the
/// validator is the same, and strong (RFC 9110, section 13.1.5).
pub(super) fn range_is_current(headers: &HeaderMap, current: &impl Validators) -> bool {
    let mut lines = headers.get_all(IF_RANGE).iter();
    let Some(condition) = lines.next() else {
        return true;
    };
    let condition = condition.as_bytes().trim_ascii();
    if lines.next().is_some() {
        return false;
    }
    if condition.starts_with(b"\"") || is_weak(condition) {
        let tag = current.etag().map(|tag| tag.as_bytes().trim_ascii());
        return !is_weak(condition) && tag == Some(condition);
    }
    let Some(expected) = date::parse(condition, current.received()) else {
        return false;
    };
    current.last_modified() == Some(expected) && is_strong_date(current, expected)
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
fn is_unmodified(headers: &HeaderMap, current: &impl Validators) -> bool {
    let Some(since) = date(headers, &IF_MODIFIED_SINCE, current.received()) else {
        return false;
    };
    let changed = current.last_modified().or_else(|| current.made());
    changed.unwrap_or_else(|| current.received()) <= since
}

/// The date in a condition. One that is there twice is none.
fn date(headers: &HeaderMap, name: &HeaderName, now: SystemTime) -> Option<SystemTime> {
    let mut lines = headers.get_all(name).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    date::parse(line.as_bytes(), now)
}

/// Whether nothing can have changed in the second that `Last-Modified` names after it was made
/// (RFC 9110, section 8.8.2.2).
fn is_strong_date(current: &impl Validators, changed: SystemTime) -> bool {
    let apart = current
        .made()
        .and_then(|made| made.duration_since(changed).ok());
    apart.is_some_and(|apart| apart.as_secs() >= 1)
}
