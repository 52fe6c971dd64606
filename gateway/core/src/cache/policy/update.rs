//! Validation: what is asked, and what the answer does to what is stored (RFC 9111, sections 3.2 and 4.3).

use std::time::SystemTime;

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{
        AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, IF_MODIFIED_SINCE,
        IF_NONE_MATCH, LAST_MODIFIED, SET_COOKIE,
    },
};

use super::{
    condition::{is_weak, tags_match},
    date,
    directives::ResponseDirectives,
    fields::{Names, excluded},
};

/// The conditions of a request that asks whether what is stored is still good (RFC 9111, section 4.3.1).
/// None if there is no validator: then a plain request is sent.
pub(crate) fn conditions(stored: &HeaderMap) -> impl Iterator<Item = (HeaderName, &HeaderValue)> {
    let condition = |name, validator| Some((name, stored.get(validator)?));
    let tag = condition(IF_NONE_MATCH, ETAG);
    let date = condition(IF_MODIFIED_SINCE, LAST_MODIFIED);
    tag.into_iter().chain(date)
}

/// Whether a 304 is about what is stored (RFC 9111, section 4.3.4). One without validators is, because the
/// conditions that were sent are of nothing else. If it is not, the request is sent again without conditions.
pub(crate) fn selects(stored: &HeaderMap, not_modified: &HeaderMap) -> bool {
    if let Some(tag) = not_modified.get(ETAG) {
        let Some(known) = stored.get(ETAG) else {
            return false;
        };
        let (tag, known) = (tag.as_bytes(), known.as_bytes());
        return tags_match(tag, known) && (is_weak(tag) || !is_weak(known));
    }
    match (not_modified.get(LAST_MODIFIED), stored.get(LAST_MODIFIED)) {
        (Some(changed), Some(known)) => changed == known,
        (Some(_), None) => false,
        (None, _) => true,
    }
}

/// What the response to a HEAD does to a stored response to a GET (RFC 9111, section 4.3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// It has the same validators and length: [`freshen`] what is stored.
    Update,
    /// It is another one: what is stored is stale.
    Invalidate,
    /// It is no success, and says nothing of what is stored.
    Ignore,
}

pub(crate) fn head(stored: &HeaderMap, status: StatusCode, received: &HeaderMap) -> Head {
    if status != StatusCode::OK {
        return Head::Ignore;
    }
    let same = [ETAG, LAST_MODIFIED, CONTENT_LENGTH].iter().all(|name| {
        let value = received.get(name);
        value.is_none() || value == stored.get(name)
    });
    if same { Head::Update } else { Head::Invalidate }
}

/// Takes the fields of a 304, or of the response to a HEAD, into what is stored. What comes out has to be
/// looked at again: it may not be storable any more, and may vary by something else.
///
/// `Set-Cookie` is taken only where one was stored, because otherwise it is for one client alone.
pub(crate) fn freshen(
    stored: &mut HeaderMap,
    received: &HeaderMap,
    directives: &ResponseDirectives,
    at: SystemTime,
) {
    // They were of the response before.
    stored.remove(AGE);
    stored.remove(DATE);
    for name in updated(stored, received, directives) {
        stored.remove(&name);
        for value in received.get_all(&name) {
            stored.append(name.clone(), value.clone());
        }
    }
    if !stored.contains_key(DATE) {
        stored.insert(DATE, date::header_value(at));
    }
}

/// The names of the fields that [`freshen`] replaces.
pub(crate) fn updated(
    stored: &HeaderMap,
    received: &HeaderMap,
    directives: &ResponseDirectives,
) -> Names {
    let excluded = excluded(received, directives);
    let taken = |name: &&HeaderName| {
        let cookie = **name == SET_COOKIE && !stored.contains_key(SET_COOKIE);
        !cookie && !OF_THE_BODY.contains(name) && !excluded.contains(name)
    };
    received.keys().filter(taken).cloned().collect()
}

/// What was stored is what these say of it, and not what a response without it says.
const OF_THE_BODY: [HeaderName; 3] = [CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE];
