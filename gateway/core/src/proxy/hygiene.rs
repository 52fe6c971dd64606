//! Headers that clients may not send.

use std::mem;

use edgeway_sdk::message::{is_framing, is_twin};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Version,
    header::{self, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE},
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
///   request;
/// * names that CGI, and what is built like it, gives a meaning of its own (`Proxy`, `Script-Name`), whatever
///   is said of underscores;
/// * `Upgrade`, unless it asks for a WebSocket as RFC 6455, 4.1 has it: no other protocol is spoken
///   here, and one that nobody has asked for must not begin;
/// * `Expect` of HTTP/1.0, which knows no interim answer.
pub(super) fn clean(head: &mut RequestHeader, gateway: &Gateway, trusted: bool) {
    let unwanted = unwanted(&head.headers, gateway, trusted);
    for name in &unwanted {
        head.remove_header(name);
    }
    if head.headers.contains_key(UPGRADE) && !asks_for_websocket(head) {
        head.remove_header(&UPGRADE);
    }
    if head.version == Version::HTTP_10 {
        head.remove_header(&EXPECT);
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

/// Whether the client says that it has no other request for this connection. Pingora only looks at the
/// first line that might say so.
pub(super) fn wants_close(headers: &HeaderMap) -> bool {
    tokens(headers).any(|token| token.eq_ignore_ascii_case("close"))
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

fn asks_for_websocket(head: &RequestHeader) -> bool {
    let headers = &head.headers;
    let mut protocols = headers.get_all(UPGRADE).iter();
    let websocket = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    let length = headers.get(CONTENT_LENGTH);
    head.version == Version::HTTP_11
        && head.method == Method::GET
        && protocols.next().is_some_and(websocket)
        && protocols.next().is_none()
        && tokens(headers).any(|token| token.eq_ignore_ascii_case("upgrade"))
        && !headers.contains_key(TRANSFER_ENCODING)
        && length.is_none_or(|length| length == "0")
}

fn unwanted(headers: &HeaderMap, gateway: &Gateway, trusted: bool) -> Names {
    let drop = gateway.requests.underscores == Underscores::Drop;
    let reserved = |name: &str| {
        gateway
            .reserved
            .iter()
            .any(|reserved| is_twin(name, reserved.as_str()))
    };
    let bad = |name: &&HeaderName| {
        let name = name.as_str();
        let strange = !trusted && tells_the_way(name);
        (drop && name.as_bytes().contains(&b'_')) || strange || is_of_cgi(name) || reserved(name)
    };
    headers.keys().filter(bad).cloned().collect()
}

/// Whether an application could take a header for what its server tells it: `SCRIPT_NAME` moves the root of a
/// WSGI application, and `HTTP_PROXY` is where many programs look for their proxy.
fn is_of_cgi(name: &str) -> bool {
    const NAMES: [&str; 6] = [
        "proxy",
        "script-name",
        "path-info",
        "path-translated",
        "remote-addr",
        "auth-type",
    ];
    NAMES.iter().any(|known| is_twin(name, known))
}

/// The header that may be there once only and is there several times: of two readers each may take another one
/// (RFC 9110, 5.3).
pub(super) fn repeated(headers: &HeaderMap) -> Option<&'static HeaderName> {
    const SINGLE: [HeaderName; 12] = [
        header::AUTHORIZATION,
        CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::DATE,
        header::FROM,
        HOST,
        header::IF_MODIFIED_SINCE,
        header::IF_UNMODIFIED_SINCE,
        header::MAX_FORWARDS,
        header::ORIGIN,
        header::PROXY_AUTHORIZATION,
        header::REFERER,
    ];
    // Most requests repeat nothing.
    if headers.len() == headers.keys_len() {
        return None;
    }
    let several = |name: &&HeaderName| headers.get_all(*name).iter().nth(1).is_some();
    SINGLE.iter().find(several)
}

/// What proxies of all kinds say of the client, and of the path that it has asked for.
const THE_WAY: [&str; 10] = [
    "cf-connecting-ip",
    "forwarded",
    "remote-user",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];

/// Whether a header tells by whom, for whom and how the request was forwarded.
fn tells_the_way(name: &str) -> bool {
    const MANY: &str = "x-forwarded-";
    let beginning = name.get(..MANY.len());
    beginning.is_some_and(|beginning| is_twin(beginning, MANY))
        || THE_WAY.iter().any(|known| is_twin(name, known))
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
    for token in tokens(headers) {
        let own = ["close", "keep-alive", "upgrade", "te", "http2-settings"];
        if own.iter().any(|known| known.eq_ignore_ascii_case(token)) {
            rest.push_str(if rest.is_empty() { "" } else { ", " });
            rest.push_str(token);
        } else {
            // What is no name is forgotten: Pingora would fail over it when an endpoint is at hand.
            foreign = true;
            let name = token.parse::<HeaderName>().ok();
            names.extend(name.filter(|name| !is_framing(name) && *name != HOST));
        }
    }
    let rest = HeaderValue::from_str(&rest).ok()?;
    foreign.then_some(Nominated { names, rest })
}

/// The elements of `Connection`, in all its lines.
fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(CONNECTION).iter();
    let lines = lines.map(|line| line.to_str().unwrap_or("\u{fffd}"));
    lines.flat_map(|line| line.split(',')).map(str::trim)
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
        for nonsense in ["\"x\"", ":path", "x y", "@", "\u{e9}"] {
            let nonsense = HeaderValue::from_str(nonsense).unwrap();
            headers.append(CONNECTION, nonsense);
        }
        let nominated = super::nominated(&headers).unwrap();
        assert_eq!(nominated.rest, "close");
        assert_eq!(nominated.names.as_slice(), [""; 0]);
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

    #[test]
    fn a_websocket_is_asked_for_in_one_way_only() {
        let asks = |method: &str, version, lines: &[(&'static str, &str)]| {
            let mut head = RequestHeader::build(method, b"/", None).unwrap();
            head.set_version(version);
            for (name, value) in lines {
                head.append_header(*name, *value).unwrap();
            }
            asks_for_websocket(&head)
        };
        let asked = ("Upgrade", "WebSocket");
        let nominated = ("Connection", "keep-alive, upgrade");
        let get = |lines: &[(&'static str, &str)]| asks("GET", Version::HTTP_11, lines);
        assert!(get(&[asked, nominated]));
        assert!(get(&[asked, nominated, ("Content-Length", "0")]));
        assert!(get(&[
            asked,
            ("Connection", "x"),
            ("Connection", "Upgrade")
        ]));
        assert!(!get(&[asked]));
        assert!(!get(&[nominated]));
        assert!(!get(&[asked, ("Connection", "upgrades")]));
        assert!(!get(&[asked, asked, nominated]));
        for other in ["h2c", "websocket, h2c", "websocket/13", ""] {
            assert!(!get(&[("Upgrade", other), nominated]), "{other}");
        }
        assert!(!get(&[asked, nominated, ("Content-Length", "1")]));
        assert!(!get(&[asked, nominated, ("Transfer-Encoding", "chunked")]));
        assert!(!asks("POST", Version::HTTP_11, &[asked, nominated]));
        assert!(!asks("GET", Version::HTTP_10, &[asked, nominated]));
    }

    #[test]
    fn close_is_found_in_any_line_and_as_a_whole_word() {
        for (lines, closes) in [
            (&["close"][..], true),
            (&["x", "keep-alive, Close"], true),
            (&["closed"], false),
            (&["x,close ,y"], true),
            (&[], false),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(CONNECTION, HeaderValue::from_static(line));
            }
            assert_eq!(wants_close(&headers), closes, "{lines:?}");
        }
    }
}
