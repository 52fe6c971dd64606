//! Values as people write them: types that parse themselves.
//!
//! A value of one of these types is right: there is nothing left to validate. A wrong one is refused
//! where it stands in the file.

use std::{
    borrow::Cow,
    fmt,
    num::NonZeroU32,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use http::HeaderName;
use serde::{Deserialize, Deserializer, de};

/// A length of time: `250ms`, `5s`, `1.5m`, `1h`, `7d`, or several together: `1m30s`.
///
/// A bare number is refused, since it would not say of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("expected a length of time such as `250ms`, `5s` or `1m30s`, found `{text}`")
        };
        let mut rest = text.trim();
        let mut total = Duration::ZERO;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let (number, after) = leading_number(rest).ok_or_else(wrong)?;
            let end = after
                .find(|c: char| !c.is_alphabetic())
                .unwrap_or(after.len());
            let (unit, after) = after.split_at(end);
            let seconds = match unit {
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3_600.0,
                "d" => 86_400.0,
                _ => return Err(wrong()),
            };
            let piece = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
            total = total.checked_add(piece).ok_or_else(wrong)?;
            rest = after;
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl From<Period> for Duration {
    fn from(period: Period) -> Self {
        period.0
    }
}

/// A number of events in a length of time: `10/s`, `300/min`, `5/10s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub events: NonZeroU32,
    /// In how long; never zero.
    pub period: Duration,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected a rate such as `10/s` or `300/min`, found `{text}`");
        let (events, period) = text.split_once('/').ok_or_else(wrong)?;
        let period = match period.trim() {
            unit @ ("s" | "m" | "min" | "h" | "d" | "ms") => Period::from_str(&format!("1{unit}")),
            period => Period::from_str(period),
        };
        let Ok(Period(period)) = period else {
            return Err(wrong());
        };
        if period.is_zero() {
            return Err(wrong());
        }
        Ok(Self {
            events: events.trim().parse().map_err(|_| wrong())?,
            period,
        })
    }
}

/// A number of bytes: `512B`, `64KiB`, `10MB`, `1GiB`; a bare number is bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected a size such as `64KiB` or `10MB`, found `{text}`");
        let (number, unit) = leading_number(text.trim()).ok_or_else(wrong)?;
        let factor: u64 = match unit.trim() {
            "" | "B" => 1,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(wrong()),
        };
        let bytes = number * factor as f64;
        // Above 2^53 a float is no longer exact, and no size that anyone means is there.
        if bytes > (1_u64 << 53) as f64 || bytes.fract() != 0.0 {
            return Err(wrong());
        }
        Ok(Self(bytes as u64))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 30 && bytes % (1 << 30) == 0 => write!(f, "{}GiB", bytes >> 30),
            bytes if bytes >= 1 << 20 && bytes % (1 << 20) == 0 => write!(f, "{}MiB", bytes >> 20),
            bytes if bytes >= 1 << 10 && bytes % (1 << 10) == 0 => write!(f, "{}KiB", bytes >> 10),
            bytes => write!(f, "{bytes}B"),
        }
    }
}

/// A text that nobody may see: written out, or better as `env:NAME` or `file:/path`.
///
/// Prints as `***`. The last line break of a file is not part of the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// This text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Keep it out of logs and errors.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = resolve(text)?;
        if text.is_empty() {
            return Err("the secret is empty".to_owned());
        }
        Ok(Self(text.into_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a text of the configuration stands for: the variable of `env:NAME`, the content of
/// `file:/path` without its last line break, or else the text itself.
///
/// # Errors
///
/// A sentence for the operator, if the variable is not set or the file can't be read.
pub fn resolve(text: &str) -> Result<Cow<'_, str>, String> {
    if let Some(name) = text.strip_prefix("env:") {
        let value = std::env::var(name);
        return value
            .map(Cow::Owned)
            .map_err(|_| format!("the environment variable `{name}` is not set"));
    }
    let Some(path) = text.strip_prefix("file:") else {
        return Ok(Cow::Borrowed(text));
    };
    let content =
        std::fs::read_to_string(path).map_err(|error| format!("can't read `{path}`: {error}"))?;
    let line = content.strip_suffix('\n').unwrap_or(&content);
    Ok(Cow::Owned(
        line.strip_suffix('\r').unwrap_or(line).to_owned(),
    ))
}

/// A share of something, from `0%` to `100%`, kept as a part of one.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Percent(pub f64);

impl Percent {
    /// Nothing of it.
    pub const NONE: Self = Self(0.0);
    /// One half.
    pub const HALF: Self = Self(0.5);
    /// All of it.
    pub const ALL: Self = Self(1.0);
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected a share from `0%` to `100%`, found `{text}`");
        let number = text.strip_suffix('%').ok_or_else(wrong)?;
        let percent: f64 = number.trim_end().parse().map_err(|_| wrong())?;
        if !(0.0..=100.0).contains(&percent) {
            return Err(wrong());
        }
        Ok(Self(percent / 100.0))
    }
}

/// As it was written, up to the fourth digit behind the point.
impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", (self.0 * 1e6).round() / 1e4)
    }
}

/// The name of a header, such as `X-Tenant`; case does not matter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Header(pub HeaderName);

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = HeaderName::from_str(text);
        name.map(Self).map_err(|_| {
            format!("expected the name of a header such as `X-Tenant`, found `{text}`")
        })
    }
}

/// A path of the configuration. Relative ones begin at the folder of the configuration file: join
/// them by [`Build::path`](crate::Build::path).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct FilePath(pub PathBuf);

impl AsRef<Path> for FilePath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

/// Splits `12.5ms` into 12.5 and `ms`.
fn leading_number(text: &str) -> Option<(f64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    Some((number.parse().ok()?, rest))
}

/// Reads a type that is written as text (or as a bare number) by its [`FromStr`].
fn from_text<'de, D: Deserializer<'de>, T: FromStr<Err = String>>(
    deserializer: D,
    expected: &'static str,
) -> Result<T, D::Error> {
    struct Text<T>(&'static str, std::marker::PhantomData<T>);

    impl<T: FromStr<Err = String>> de::Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
            self.visit_str(&number.to_string())
        }
    }

    deserializer.deserialize_str(Text(expected, std::marker::PhantomData))
}

macro_rules! read_from_text {
    ($($type:ty: $expected:literal,)*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                from_text(deserializer, $expected)
            }
        }
    )*};
}

read_from_text! {
    Period: "a length of time such as `5s`",
    Rate: "a rate such as `10/s`",
    Size: "a size such as `64KiB`",
    Percent: "a share such as `10%`",
    Header: "the name of a header such as `X-Tenant`",
    Secret: "a secret, best as `env:NAME` or `file:/path`",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_a_number_with_a_unit() {
        let cases = [
            ("250ms", 250),
            ("5s", 5_000),
            ("1.5m", 90_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("0s", 0),
        ];
        for (text, millis) in cases {
            assert_eq!(
                text.parse(),
                Ok(Period(Duration::from_millis(millis))),
                "{text}"
            );
        }
        for text in ["5us", "5µs"] {
            let micros = Period(Duration::from_micros(5));
            assert_eq!(text.parse(), Ok(micros), "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            "5x",
            "-1s",
            "1s 2",
            "1e999s",
            "99999999999999999999d",
            "..s",
            "5S",
        ] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_rate_is_events_per_period() {
        let rate: Rate = "300/min".parse().unwrap();
        assert_eq!(
            (rate.events.get(), rate.period),
            (300, Duration::from_secs(60))
        );
        let rate: Rate = "5/10s".parse().unwrap();
        assert_eq!(
            (rate.events.get(), rate.period),
            (5, Duration::from_secs(10))
        );
        for text in ["", "10", "0/s", "10/", "10/0s", "-1/s", "10r/s", "x/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_size_is_a_number_of_bytes() {
        let cases = [
            ("512", 512),
            ("512B", 512),
            ("64KiB", 65_536),
            ("1.5KiB", 1_536),
            ("10MB", 10_000_000),
        ];
        for (text, bytes) in cases {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "1KiBs", "KiB", "-1", "0.5B", "99999999999GiB", "10k"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        assert_eq!(Size(65_536).to_string(), "64KiB");
        assert_eq!(Size(1_000).to_string(), "1000B");
    }

    #[test]
    fn a_header_is_a_token() {
        assert_eq!("X-A".parse::<Header>(), "x-a".parse());
        for text in ["", "x y", "x:", "é"] {
            assert!(text.parse::<Header>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_secret_does_not_show_itself() {
        let secret: Secret = "hunter2".parse().unwrap();
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert_eq!(secret.reveal(), "hunter2");
        let error = "env:EDGEWAY_SURELY_NOT_SET".parse::<Secret>().unwrap_err();
        assert_eq!(
            error,
            "the environment variable `EDGEWAY_SURELY_NOT_SET` is not set"
        );
    }
}
