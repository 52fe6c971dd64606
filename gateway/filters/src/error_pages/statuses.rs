//! For which statuses a page is.

use std::fmt;

use http::StatusCode;
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

/// Statuses of errors: `404`, `5xx`, `500-504` or `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Statuses {
    first: u16,
    last: u16,
}

impl Statuses {
    const ALL: Self = Self {
        first: 400,
        last: 599,
    };

    pub(super) fn contain(self, status: StatusCode) -> bool {
        (self.first..=self.last).contains(&status.as_u16())
    }

    /// Each of them.
    pub(super) fn each(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "expected a status from 400 to 599, `4xx`, `5xx`, a range such as `500-504` or `all`, found `{text}`"
            )
        };
        let number = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let status = text.parse().ok().filter(|_| digits);
            status.filter(|status| (400..=599).contains(status))
        };
        let (first, last) = match text {
            "all" => return Ok(Self::ALL),
            "4xx" => (400, 499),
            "5xx" => (500, 599),
            text => {
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                (
                    number(first).ok_or_else(wrong)?,
                    number(last).ok_or_else(wrong)?,
                )
            }
        };
        match first <= last {
            true => Ok(Self { first, last }),
            false => Err(wrong()),
        }
    }
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Statuses;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status such as `404`, `5xx`, a range such as `500-504`, or `all`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Statuses, E> {
                Statuses::parse(text).map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Statuses, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Statuses, E> {
                self.visit_str(&number.to_string())
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_one_or_a_class_or_a_range_of_errors() {
        for (text, first, last) in [
            ("404", 404, 404),
            ("4xx", 400, 499),
            ("5xx", 500, 599),
            ("500-504", 500, 504),
            ("all", 400, 599),
        ] {
            assert_eq!(
                Statuses::parse(text),
                Ok(Statuses { first, last }),
                "{text}"
            );
        }
        for text in [
            "", "200", "304", "3xx", "6xx", "600", "504-500", "4XX", "-", "404-", "4044",
            "+404-404", "All",
        ] {
            assert!(Statuses::parse(text).is_err(), "{text}");
        }
    }
}
