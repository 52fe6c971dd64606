//! `Cache-Status` (RFC 9211): what the cache has done with a request, for the client to see.

use std::fmt::{self, Write as _};

use http::{HeaderName, HeaderValue, StatusCode};

use super::list::is_tchar;

pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What this cache has to say of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheStatus<'a> {
    pub(crate) outcome: Outcome,
    /// Seconds for which the response is fresh, or below zero, for which it has not been.
    pub(crate) ttl: Option<i64>,
    /// What the response is stored under. Left out unless it is printable ASCII.
    pub(crate) key: Option<&'a str>,
    /// What else there is to say. Left out unless it is printable ASCII.
    pub(crate) detail: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was answered with what was stored.
    Hit,
    /// It went on to the upstream.
    Forwarded {
        why: Forward,
        /// What the upstream has said, unless that is what the client gets.
        status: Option<StatusCode>,
        stored: bool,
        /// Whether it waited for another request for the same.
        collapsed: bool,
    },
}

/// Why a request was forwarded (RFC 9211, section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forward {
    /// The cache is not for this request.
    Bypass,
    /// Its method is one that is forwarded.
    Method,
    /// Nothing is stored for the URI.
    UriMiss,
    /// Nothing that is stored for the URI fits its header.
    VaryMiss,
    /// What is stored is fresh, but the request asks for more.
    Request,
    Stale,
}

impl CacheStatus<'_> {
    pub(crate) fn header_value(&self) -> HeaderValue {
        let mut text = String::with_capacity(USUAL);
        write!(text, "{self}").expect("a string takes any text");
        HeaderValue::try_from(text).expect("what is written is printable ASCII")
    }
}

impl Forward {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
        }
    }
}

impl fmt::Display for CacheStatus<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)?;
        self.outcome.fmt(f)?;
        if let Some(ttl) = self.ttl {
            write!(f, "; ttl={}", ttl.clamp(-MOST, MOST))?;
        }
        if let Some(key) = self.key.filter(|key| is_printable(key)) {
            f.write_str("; key=")?;
            string(f, key)?;
        }
        match self.detail.filter(|detail| is_printable(detail)) {
            Some(detail) if is_token(detail) => write!(f, "; detail={detail}"),
            Some(detail) => {
                f.write_str("; detail=")?;
                string(f, detail)
            }
            None => Ok(()),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Forwarded {
            why,
            status,
            stored,
            collapsed,
        } = self
        else {
            return f.write_str("; hit");
        };
        write!(f, "; fwd={}", why.as_str())?;
        if let Some(status) = status {
            write!(f, "; fwd-status={}", status.as_u16())?;
        }
        f.write_str(if *stored { "; stored" } else { "" })?;
        f.write_str(if *collapsed { "; collapsed" } else { "" })
    }
}

fn string(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            f.write_char('\\')?;
        }
        f.write_char(character)?;
    }
    f.write_char('"')
}

fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Whether this is a token of RFC 8941, which a string need not be made of.
fn is_token(text: &str) -> bool {
    let inside = |byte| is_tchar(byte) || b":/".contains(&byte);
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '*')
        && text.bytes().all(inside)
}

/// Bytes that a value takes mostly.
const USUAL: usize = 64;
/// What this cache calls itself.
const NAME: &str = "edgeway";
/// The largest integer that a structured field can have.
const MOST: i64 = 999_999_999_999_999;

#[cfg(test)]
mod tests {
    use super::*;

    const HIT: CacheStatus<'static> = CacheStatus {
        outcome: Outcome::Hit,
        ttl: None,
        key: None,
        detail: None,
    };

    fn forwarded(why: Forward) -> CacheStatus<'static> {
        let outcome = Outcome::Forwarded {
            why,
            status: None,
            stored: false,
            collapsed: false,
        };
        CacheStatus { outcome, ..HIT }
    }

    #[test]
    fn a_hit_tells_how_long_it_is_fresh() {
        assert_eq!(HIT.header_value(), "edgeway; hit");
        let fresh = CacheStatus {
            ttl: Some(376),
            ..HIT
        };
        assert_eq!(fresh.header_value(), "edgeway; hit; ttl=376");
        let stale = CacheStatus {
            ttl: Some(-412),
            ..HIT
        };
        assert_eq!(stale.header_value(), "edgeway; hit; ttl=-412");
        let forever = CacheStatus {
            ttl: Some(i64::MIN),
            ..HIT
        };
        assert_eq!(forever.header_value(), "edgeway; hit; ttl=-999999999999999");
    }

    #[test]
    fn a_request_that_was_forwarded_tells_why() {
        for (why, word) in [
            (Forward::Bypass, "bypass"),
            (Forward::Method, "method"),
            (Forward::UriMiss, "uri-miss"),
            (Forward::VaryMiss, "vary-miss"),
            (Forward::Request, "request"),
            (Forward::Stale, "stale"),
        ] {
            assert_eq!(
                forwarded(why).header_value(),
                format!("edgeway; fwd={word}")
            );
        }
        let outcome = Outcome::Forwarded {
            why: Forward::Stale,
            status: Some(StatusCode::NOT_MODIFIED),
            stored: true,
            collapsed: true,
        };
        let status = CacheStatus { outcome, ..HIT };
        assert_eq!(
            status.header_value(),
            "edgeway; fwd=stale; fwd-status=304; stored; collapsed"
        );
    }

    #[test]
    fn strings_are_escaped_and_what_cannot_be_is_left_out() {
        let status = |key, detail| CacheStatus { key, detail, ..HIT }.to_string();
        assert_eq!(
            status(Some(r#"/a"b\c"#), None),
            r#"edgeway; hit; key="/a\"b\\c""#
        );
        assert_eq!(
            status(None, Some("no-store")),
            "edgeway; hit; detail=no-store"
        );
        assert_eq!(
            status(None, Some("no store")),
            r#"edgeway; hit; detail="no store""#
        );
        assert_eq!(status(None, Some("1")), r#"edgeway; hit; detail="1""#);
        assert_eq!(status(Some("ü"), Some("a\r\nb: c")), "edgeway; hit");
    }

    #[test]
    fn members_of_other_caches_come_first() {
        let mut headers = http::HeaderMap::new();
        headers.append(CACHE_STATUS, HeaderValue::from_static("origin; hit"));
        headers.append(CACHE_STATUS, HIT.header_value());
        let members: Vec<_> = headers.get_all(CACHE_STATUS).iter().collect();
        assert_eq!(members, ["origin; hit", "edgeway; hit"]);
    }
}
