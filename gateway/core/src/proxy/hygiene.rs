//! Headers that clients may not send.

use std::mem;

use edgeway_sdk::message::is_framing;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, HOST},
    request,
    uri::PathAndQuery,
};
use pingora::http::RequestHeader;
use smallvec::SmallVec;

use crate::{config::Underscores, snapshot::Gateway};

/// Room for the headers that filters and the gateway will add, so that the map grows once.
const ROOM: usize = 8;

type Names = SmallVec<[HeaderName; 4]>;

/// Removes from a client's request, before any filter sees it:
///
/// * headers by which filters tell upstreams something, and their underscore twins;
/// * headers with underscores, unless the configuration keeps them: WSGI and CGI applications can't
///   tell `X_Auth_Role` from `X-Auth-Role`;
/// * what strangers say of the way that the request has come: `Forwarded` and its kin, which only
///   trusted proxies may set;
/// * headers that `Connection` nominates (RFC 9110, 7.6.1). It can't be left to the last step before
///   the upstream: there a client could nominate away what a filter has set. Nominations of what
///   frames the request, and of its host, are forgotten: without them its body would be the next
///   request.
pub(super) fn clean(head: &mut RequestHeader, gateway: &Gateway, trusted: bool) {
    let unwanted = unwanted(&head.headers, gateway, trusted);
    for name in &unwanted {
        head.remove_header(name);
    }
    let Some(nominated) = nominated(&head.headers) else {
        return;
    };
    for name in &nominated.names {
        head.remove_header(name);
    }
    if let Err(error) = head.insert_header(CONNECTION, nominated.rest) {
        log::warn!("`Connection` could not be replaced: {error}");
    }
}

/// Forgets how the client spelt the names of its headers: from here on they are in lower case, but
/// for those that Pingora knows to title (`decisions/0006-header-case.md`).
///
/// Pingora keeps the spelling in a second map, which every edit and every copy of the head pays for.
pub(super) fn forget_case(head: &mut RequestHeader) {
    let target = head.uri.path_and_query().map_or("", PathAndQuery::as_str);
    // A target that is not a plain path, or that a URI can't hold, is kept beside the URI, and would
    // be forgotten too.
    if head.raw_path() != target.as_bytes() {
        return;
    }
    let nothing = RequestHeader::from(http::Request::new(()).into_parts().0);
    let mut parts = request::Parts::from(mem::replace(head, nothing));
    parts.headers.reserve(ROOM);
    *head = parts.into();
}

fn unwanted(headers: &HeaderMap, gateway: &Gateway, trusted: bool) -> Names {
    let drop = gateway.underscores == Underscores::Drop;
    let reserved = |name: &str| {
        gateway
            .reserved
            .iter()
            .any(|reserved| is_twin(name, reserved.as_str()))
    };
    let bad = |name: &&HeaderName| {
        let name = name.as_str();
        let strange = !trusted && tells_the_way(name);
        (drop && name.as_bytes().contains(&b'_')) || strange || reserved(name)
    };
    headers.keys().filter(bad).cloned().collect()
}

/// Whether a header tells by whom, for whom and how the request was forwarded.
fn tells_the_way(name: &str) -> bool {
    const MANY: &str = "x-forwarded-";
    let beginning = name.get(..MANY.len());
    beginning.is_some_and(|beginning| is_twin(beginning, MANY))
        || ["forwarded", "x-real-ip"]
            .iter()
            .any(|known| is_twin(name, known))
}

/// Whether two names differ in `_` for `-` at most. Both are in lower case.
fn is_twin(name: &str, reserved: &str) -> bool {
    let dashed = |byte: u8| if byte == b'_' { b'-' } else { byte };
    name.len() == reserved.len() && name.bytes().map(dashed).eq(reserved.bytes().map(dashed))
}

/// What `Connection` says beyond the connection itself.
struct Nominated {
    /// What to remove.
    names: Names,
    /// `Connection` without them.
    rest: HeaderValue,
}

fn nominated(headers: &HeaderMap) -> Option<Nominated> {
    let mut names = Names::new();
    let mut rest = String::new();
    let mut foreign = false;
    let tokens = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok());
    for token in tokens.flat_map(|line| line.split(',')).map(str::trim) {
        let own = ["close", "keep-alive", "upgrade", "te", "http2-settings"];
        if own.iter().any(|known| known.eq_ignore_ascii_case(token)) {
            rest.push_str(if rest.is_empty() { "" } else { ", " });
            rest.push_str(token);
        } else if let Ok(name) = token.parse::<HeaderName>() {
            foreign = true;
            names.extend((!is_framing(&name) && name != HOST).then_some(name));
        }
    }
    let rest = HeaderValue::from_str(&rest).ok()?;
    foreign.then_some(Nominated { names, rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twin_differs_in_underscores_only() {
        assert!(is_twin("x_auth-role", "x-auth-role"));
        assert!(is_twin("x-auth-role", "x-auth-role"));
        assert!(!is_twin("x-auth-roles", "x-auth-role"));
        assert!(!is_twin("x.auth-role", "x-auth-role"));
    }

    #[test]
    fn what_tells_the_way_is_known_by_its_beginning() {
        for name in [
            "forwarded",
            "x-forwarded-for",
            "x_forwarded_port",
            "x-forwarded-",
            "x-real_ip",
        ] {
            assert!(tells_the_way(name), "{name}");
        }
        for name in [
            "x-forward",
            "x-forwarded",
            "forwarded-x",
            "host",
            "x-request-id",
            "x-real-ips",
        ] {
            assert!(!tells_the_way(name), "{name}");
        }
    }

    #[test]
    fn connection_keeps_only_what_is_its_own() {
        let mut headers = HeaderMap::new();
        headers.append(
            CONNECTION,
            HeaderValue::from_static("keep-alive, X-Auth-User"),
        );
        headers.append(CONNECTION, HeaderValue::from_static("Upgrade"));
        let nominated = nominated(&headers).unwrap();
        assert_eq!(nominated.rest, "keep-alive, Upgrade");
        assert_eq!(nominated.names.as_slice(), ["x-auth-user"]);
        headers.remove(CONNECTION);
        headers.append(CONNECTION, HeaderValue::from_static("close"));
        assert!(super::nominated(&headers).is_none());
    }

    #[test]
    fn what_frames_a_request_is_no_longer_nominated_and_not_removed() {
        let mut headers = HeaderMap::new();
        let line = "close, Content-Length, transfer-encoding, Host";
        headers.append(CONNECTION, HeaderValue::from_static(line));
        let nominated = nominated(&headers).unwrap();
        assert_eq!(nominated.rest, "close");
        assert!(nominated.names.is_empty());
    }
}
