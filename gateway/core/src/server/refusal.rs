//! What a client is told whose request can't be read.
//!
//! Pingora answers those by itself, before any hook of ours: without a body, and signed. There is no
//! way to have it say something else, so its answer is replaced where it is written.

use http::StatusCode;

/// What a client is told that speaks in the clear where TLS is expected.
pub(super) const NO_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\n\
    Content-Length: 109\r\nCache-Control: private, no-store\r\nConnection: close\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,\"detail\":\"This port speaks TLS: ask with https://.\"}";

/// The rest of every such answer. An endpoint's never ends so, unless it is one.
const END: &[u8] =
    b"\r\nContent-Length: 0\r\nCache-Control: private, no-store\r\nConnection: close\r\n\r\n";

/// What is between the status and the date of such an answer.
const SIGNATURE: &str = "\r\nServer: Pingora\r\nDate: ";

/// Our answer in place of one that Pingora has made, with another status if there is one; none if `written` is
/// anything else.
pub(super) fn in_place_of(written: &[u8], status: Option<u16>) -> Option<String> {
    let head = str::from_utf8(written.strip_suffix(END)?).ok()?;
    let (line, date) = head.split_once(SIGNATURE)?;
    let said: u16 = line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let status = StatusCode::from_u16(status.unwrap_or(said)).ok()?;
    let title = status.canonical_reason().unwrap_or_default();
    let number = status.as_u16();
    let body = format!(r#"{{"type":"about:blank","title":"{title}","status":{number}}}"#);
    Some(format!(
        "HTTP/1.1 {number} {title}\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\n\
         Date: {date}\r\nCache-Control: private, no-store\r\nConnection: close\r\n\r\n{body}",
        body.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pingora_says_by_itself_is_replaced_and_nothing_else_is() {
        let head = "HTTP/1.1 400 Bad Request\r\nServer: Pingora\r\nDate: today";
        let written = [head.as_bytes(), END].concat();
        let ours = in_place_of(&written, None).unwrap();
        assert!(
            ours.starts_with(
                "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\n"
            ),
            "{ours}"
        );
        assert!(
            ours.ends_with(
                "\r\n\r\n{\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400}"
            ),
            "{ours}"
        );
        assert!(!ours.contains("Pingora"), "{ours}");
        let slow = in_place_of(&written, Some(408)).unwrap();
        assert!(
            slow.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
            "{slow}"
        );
        assert!(
            slow.ends_with(r#""title":"Request Timeout","status":408}"#),
            "{slow}"
        );
        assert_eq!(
            in_place_of(
                b"HTTP/1.1 400 Bad Request\r\nServer: Pingora\r\nContent-Length: 0\r\n\r\n",
                None
            ),
            None
        );
        assert_eq!(in_place_of(b"", None), None);
    }
}
