//! Validation: what is asked, and what the answer does to what is stored (RFC 9111, sections 3.2 and 4.3).

use std::time::SystemTime;

use http::{
    HeaderMap, HeaderName,
    header::{
        AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, LAST_MODIFIED, SET_COOKIE,
    },
};

use super::{
    condition::{is_weak, tags_match},
    date,
    directives::ResponseDirectives,
    fields::{Names, excluded},
};

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

/// Takes the fields of a 304 into what is stored. What comes out has to be
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
