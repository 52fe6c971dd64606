//! How a listener speaks HTTP/2, as it is written.

use std::{fmt, num::NonZeroU16, ops::RangeInclusive, str::FromStr};

use edgeway_sdk::types::Size;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::scalar::from_text_or_number;

/// `http2: true`, `http2: false`, or `http2: { max_streams: 100 }`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MaybeHttp2(pub(crate) Option<Http2>);

impl Default for MaybeHttp2 {
    fn default() -> Self {
        Self(Some(Http2::default()))
    }
}

/// How much a client may ask of a connection of HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenHttp2")]
pub(crate) struct Http2 {
    /// Requests at once.
    pub(crate) max_streams: NonZeroU16,
    /// The largest head, uncompressed, as RFC 9113 (6.5.2) counts it.
    pub(crate) max_header_size: HeaderSize,
    /// How much of a body a client may send that nobody has taken yet.
    pub(crate) stream_window: Window,
    /// The same for all bodies of a connection together.
    pub(crate) connection_window: Window,
}

impl Default for Http2 {
    fn default() -> Self {
        let WrittenHttp2 {
            max_streams,
            max_header_size,
            stream_window,
            connection_window,
        } = WrittenHttp2::default();
        Self {
            max_streams,
            max_header_size,
            stream_window,
            connection_window,
        }
    }
}

/// As it is written, before its parts are held against each other.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenHttp2 {
    max_streams: NonZeroU16,
    max_header_size: HeaderSize,
    stream_window: Window,
    connection_window: Window,
}

impl Default for WrittenHttp2 {
    /// The windows are larger than those of the protocol (64 KiB), which hold an upload over a long
    /// way to a megabyte a second, and not so large that a client could fill the memory.
    fn default() -> Self {
        Self {
            max_streams: NonZeroU16::MIN.saturating_add(99),
            max_header_size: HeaderSize(64 << 10),
            stream_window: Window(256 << 10),
            connection_window: Window(1 << 20),
        }
    }
}

impl TryFrom<WrittenHttp2> for Http2 {
    type Error = String;

    fn try_from(written: WrittenHttp2) -> Result<Self, String> {
        let (stream, connection) = (written.stream_window, written.connection_window);
        if stream > connection {
            let [stream, connection] = [stream, connection].map(|window| Size(window.0.into()));
            return Err(format!(
                "no stream could fill its `stream_window` of {stream}: the `connection_window` is {connection}"
            ));
        }
        Ok(Self {
            max_streams: written.max_streams,
            max_header_size: written.max_header_size,
            stream_window: stream,
            connection_window: connection,
        })
    }
}

impl<'de> Deserialize<'de> for MaybeHttp2 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = MaybeHttp2;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true`, `false`, or a map such as `{ max_streams: 100 }`")
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<MaybeHttp2, E> {
                Ok(MaybeHttp2(on.then(Http2::default)))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<MaybeHttp2, A::Error> {
                let http2 = Http2::deserialize(MapAccessDeserializer::new(map))?;
                Ok(MaybeHttp2(Some(http2)))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// The size of a request's head, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeaderSize(pub(crate) u32);

impl FromStr for HeaderSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        size(text, 4 << 10..=1 << 20).map(Self)
    }
}

from_text_or_number!(HeaderSize, "a size such as `64KiB`");

/// How many bytes may be on their way, as HTTP/2 counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Window(pub(crate) u32);

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A connection has 65 535 bytes from the start, and nobody can take them back.
        size(text, 64 << 10..=1 << 30).map(Self)
    }
}

from_text_or_number!(Window, "a size such as `256KiB`");

fn size(text: &str, range: RangeInclusive<u32>) -> Result<u32, String> {
    let Size(bytes) = text.parse()?;
    let fitting = u32::try_from(bytes).ok();
    fitting.filter(|size| range.contains(size)).ok_or_else(|| {
        let [least, most] = [range.start(), range.end()].map(|end| Size((*end).into()));
        format!("expected a size from {least} to {most}, found `{text}`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_refused_outside_its_range_and_taken_at_its_ends() {
        assert_eq!("4KiB".parse(), Ok(HeaderSize(4096)));
        assert_eq!("1MiB".parse(), Ok(HeaderSize(1 << 20)));
        assert_eq!("1GiB".parse(), Ok(Window(1 << 30)));
        for text in ["4095", "1048577", "5GiB", "8"] {
            let error = text.parse::<HeaderSize>().unwrap_err();
            assert!(
                error.starts_with("expected a size from 4KiB to 1MiB"),
                "{error}"
            );
        }
        assert!("65535".parse::<Window>().is_err());
        assert!("2GiB".parse::<Window>().is_err());
    }
}
