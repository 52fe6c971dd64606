//! Single values: sizes, lengths of time, names of headers.

use std::{fmt, str::FromStr, time::Duration};

use edgeway_sdk::{
    message::is_framing,
    types::{Period, Size},
};
use http::{
    HeaderName,
    header::{CACHE_CONTROL, EXPIRES},
};
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor, value::StrDeserializer},
};

use crate::config::scalar::{Span, from_text, from_text_or_number};

/// What a zone takes of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ZoneMemory(pub(crate) u64);

impl Default for ZoneMemory {
    fn default() -> Self {
        Self(64 << 20)
    }
}

/// Less than this would hold next to nothing.
const LEAST_ROOM: Size = Size(1 << 20);

impl FromStr for ZoneMemory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        room(text).map(Self)
    }
}

from_text_or_number!(ZoneMemory, "a size of at least `1MiB`");

/// What a zone takes of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DiskSize(pub(crate) u64);

impl FromStr for DiskSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        room(text).map(Self)
    }
}

from_text_or_number!(DiskSize, "a size of at least `1MiB`");

fn room(text: &str) -> Result<u64, String> {
    let size: Size = text.parse()?;
    if size < LEAST_ROOM {
        return Err(format!(
            "expected a size of at least `{LEAST_ROOM}`, found `{text}`"
        ));
    }
    Ok(size.0)
}

/// The size of a body, which is not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ObjectSize(pub(crate) u64);

impl FromStr for ObjectSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Size(size) = text.parse()?;
        if size == 0 {
            return Err("nothing but empty bodies would be stored".to_owned());
        }
        Ok(Self(size))
    }
}

from_text_or_number!(ObjectSize, "a size such as `1MiB`");

/// Lengths of time with their limits.
macro_rules! lengths_of_time {
    ($($(#[$doc:meta])* $name:ident = $least:expr, $shown:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) struct $name(pub(crate) Duration);

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let Period(period) = text.parse()?;
                if ($least..=LONGEST).contains(&period) {
                    return Ok(Self(period));
                }
                Err(format!(
                    "expected a length of time from `{}` to `365d`, found `{text}`",
                    $shown
                ))
            }
        }

        from_text!($name, "a length of time such as `5s`");
    )*};
}

/// A year.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

lengths_of_time! {
    /// How long a response is fresh.
    Lifetime = Duration::from_millis(1), "1ms";
    /// How long a response may be served that is no longer fresh; `0s` is not at all.
    Window = Duration::ZERO, "0s";
    /// After which time without a use something is let go of.
    Inactive = Duration::from_secs(1), "1s";
}

/// How long a request waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Wait(pub(crate) Span);

impl Default for Wait {
    fn default() -> Self {
        Self(Span(Duration::from_secs(5)))
    }
}

/// `x`, or `[x, y]`: at least so many, and each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Several<T, const LEAST: usize = 1>(pub(crate) Vec<T>);

impl<'de, T, const LEAST: usize> Deserialize<'de> for Several<T, LEAST>
where
    T: Deserialize<'de> + PartialEq + fmt::Display,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T, const LEAST: usize>(std::marker::PhantomData<T>);

        impl<'de, T, const LEAST: usize> Visitor<'de> for Either<T, LEAST>
        where
            T: Deserialize<'de> + PartialEq + fmt::Display,
        {
            type Value = Several<T, LEAST>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                let one = T::deserialize(StrDeserializer::new(text))?;
                Ok(Several(vec![one]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = items.next_element()? {
                    if values.contains(&value) {
                        return Err(de::Error::custom(format!("`{value}` is there twice")));
                    }
                    values.push(value);
                }
                if values.len() < LEAST {
                    return Err(de::Error::custom("the list is empty, so it has no effect"));
                }
                Ok(Several(values))
            }
        }

        deserializer.deserialize_any(Either(std::marker::PhantomData))
    }
}

/// From `1%` to `100%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WholePercent(pub(crate) u32);

impl FromStr for WholePercent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').map(str::trim_end);
        let number = number.and_then(|number| number.parse().ok());
        number
            .filter(|number| (1..=100).contains(number))
            .map(Self)
            .ok_or_else(|| format!("expected a whole share from `1%` to `100%`, found `{text}`"))
    }
}

from_text!(WholePercent, "a share such as `10%`");

/// A header with directives for caches such as this one (RFC 9213).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TargetHeader(pub(crate) HeaderName);

impl FromStr for TargetHeader {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = HeaderName::from_str(text)
            .map_err(|_| format!("expected the name of a header, found `{text}`"))?;
        if [CACHE_CONTROL, EXPIRES].contains(&name) {
            return Err(format!(
                "`{text}` is for every cache, and counts where none of `targets` is there"
            ));
        }
        if is_framing(&name) {
            return Err(of_the_connection(text));
        }
        Ok(Self(name))
    }
}

impl fmt::Display for TargetHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

from_text!(
    TargetHeader,
    "the name of a header such as `CDN-Cache-Control`"
);

/// A header in which responses name what they are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagHeader(pub(crate) HeaderName);

impl FromStr for TagHeader {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = HeaderName::from_str(text)
            .map_err(|_| format!("expected the name of a header, found `{text}`"))?;
        if is_framing(&name) {
            return Err(of_the_connection(text));
        }
        Ok(Self(name))
    }
}

from_text!(TagHeader, "the name of a header such as `Surrogate-Key`");

fn of_the_connection(header: &str) -> String {
    format!("the header `{header}` belongs to the connection")
}
