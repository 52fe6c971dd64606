//! Which fields of a response are stored (RFC 9111, section 3.1).

use http::{
    HeaderMap, HeaderName,
    header::{
        AGE, CACHE_CONTROL, CONNECTION, DATE, ETAG, EXPIRES, LAST_MODIFIED, PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VARY,
    },
};
use smallvec::SmallVec;

use super::{
    directives::ResponseDirectives,
    list::{Quotes, members},
};

/// Names of fields, sorted by nothing.
pub(crate) type Names = SmallVec<[HeaderName; 8]>;

/// The fields of a response that are not stored: those of the connection, those of a proxy, and those that
/// `no-cache="…"` and `private="…"` name. Only such as are there.
pub(crate) fn excluded(headers: &HeaderMap, directives: &ResponseDirectives) -> Names {
    let connection = members(headers, &CONNECTION, Quotes::Strings)
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        // Without these the cache would not know what it has.
        .filter(|name| !ESSENTIAL.contains(name));
    let withheld = directives
        .withheld(headers)
        .filter_map(|name| HeaderName::from_bytes(name).ok());
    PER_CONNECTION
        .into_iter()
        .chain(connection)
        .chain(withheld)
        .filter(|name| headers.contains_key(name))
        .collect()
}

const PER_CONNECTION: [HeaderName; 10] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    TE,
    // Trailers are not stored.
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

const ESSENTIAL: [HeaderName; 7] = [AGE, CACHE_CONTROL, DATE, ETAG, EXPIRES, LAST_MODIFIED, VARY];
