//! What holds for every request, as it is written.

use std::{fmt, num::NonZeroU16, str::FromStr, time::Duration};

use edgeway_sdk::types::Size;
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

use super::scalar::{Span, from_text, from_text_or_number};

/// What holds for every request, whatever its route.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(crate) struct Requests {
    pub(crate) underscore_headers: Underscores,
    /// How long a connection may wait for its next request.
    pub(crate) keepalive: Span,
    /// How long a client may take to begin a request once it is connected, and to send the head of any.
    pub(crate) header_timeout: Span,
    /// The longest request target.
    pub(crate) max_target: HeadSize,
    /// The largest head.
    pub(crate) max_header_size: HeadSize,
    /// The most header lines.
    pub(crate) max_headers: HeaderCount,
    /// The largest body.
    pub(crate) max_body: MaxBody,
    /// How long a client may pause within a body.
    pub(crate) read_timeout: Span,
    /// How long a client may take no byte of a response.
    pub(crate) write_timeout: Span,
    /// How fast a client has to send and to receive, while the gateway waits for it.
    pub(crate) min_rate: MinRate,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            underscore_headers: Underscores::Drop,
            keepalive: Span(Duration::from_secs(75)),
            header_timeout: Span(Duration::from_secs(15)),
            max_target: HeadSize(8 << 10),
            max_header_size: HeadSize(32 << 10),
            max_headers: HeaderCount(NonZeroU16::MIN.saturating_add(99)),
            max_body: MaxBody(Some(100 << 20)),
            read_timeout: Span(Duration::from_secs(60)),
            write_timeout: Span(Duration::from_secs(60)),
            min_rate: MinRate(250),
        }
    }
}

/// What becomes of request headers with `_` in their names. WSGI and CGI applications can't tell
/// `X_Auth_Role` from `X-Auth-Role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Underscores {
    Drop,
    Keep,
}

/// How much of a head is read: `8KiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeadSize(pub(crate) usize);

impl FromStr for HeadSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Size(size) = text.parse()?;
        // Pingora reads no more.
        let allowed = 64..=1_000_000;
        match usize::try_from(size) {
            Ok(bytes) if allowed.contains(&size) => Ok(Self(bytes)),
            _ => Err(format!(
                "expected a size from `64B` to `1MB`, found `{text}`"
            )),
        }
    }
}

from_text_or_number!(HeadSize, "a size such as `8KiB`");

/// How many header lines a request may have. Pingora reads no more than 256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeaderCount(pub(crate) NonZeroU16);

impl FromStr for HeaderCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count = text
            .parse()
            .ok()
            .filter(|count: &NonZeroU16| count.get() <= 256);
        let wrong = || format!("expected a number from 1 to 256, found `{text}`");
        count.map(Self).ok_or_else(wrong)
    }
}

from_text_or_number!(HeaderCount, "a number from 1 to 256");

/// The largest body: `100MiB`, or `none` for any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MaxBody(pub(crate) Option<u64>);

impl FromStr for MaxBody {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        let wrong = || format!("expected a size such as `10MiB`, or `none`, found `{text}`");
        let size: Size = text.parse().map_err(|_| wrong())?;
        Ok(Self(Some(size.0)))
    }
}

from_text_or_number!(MaxBody, "a size such as `10MiB`, or `none`");

/// Bytes in a second: `250B/s`, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MinRate(pub(crate) u64);

impl FromStr for MinRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(0));
        }
        let size = text.strip_suffix("/s").and_then(|size| size.parse().ok());
        match size {
            Some(Size(bytes @ 1..=1_000_000_000)) => Ok(Self(bytes)),
            _ => Err(format!(
                "expected bytes in a second such as `250B/s` or `1KiB/s`, up to `1GB/s`, or `none`, found `{text}`"
            )),
        }
    }
}

from_text!(MinRate, "bytes in a second such as `250B/s`, or `none`");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_sizes_are_what_they_say_and_nonsense_is_refused() {
        assert_eq!("1KiB/s".parse(), Ok(MinRate(1024)));
        assert_eq!("none".parse(), Ok(MinRate(0)));
        for text in ["250", "250B", "0B/s", "-1B/s", "2GB/s", "/s", "250B/m"] {
            assert!(text.parse::<MinRate>().is_err(), "{text}");
        }
        assert_eq!("none".parse(), Ok(MaxBody(None)));
        assert_eq!("0".parse(), Ok(MaxBody(Some(0))));
        assert!("all".parse::<MaxBody>().is_err());
        assert_eq!(
            "256".parse::<HeaderCount>().map(|count| count.0.get()),
            Ok(256)
        );
        for text in ["0", "257", "many"] {
            assert!(text.parse::<HeaderCount>().is_err(), "{text}");
        }
        assert_eq!("64".parse(), Ok(HeadSize(64)));
        for text in ["63", "2MB", "large"] {
            assert!(text.parse::<HeadSize>().is_err(), "{text}");
        }
    }
}
