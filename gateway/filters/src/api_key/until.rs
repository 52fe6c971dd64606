//! The moment until which a key is valid.

use std::{
    borrow::Cow,
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Deserialize;

/// A day (`2027-01-31`, to its end in UTC) or a second (`2027-01-31T12:00:00Z`, `...+02:00`; RFC 3339).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
pub(super) struct Until(u64);

impl Until {
    pub(super) fn is_over(self, now: SystemTime) -> bool {
        // A clock before 1970 is so wrong that all keys are over.
        let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::MAX);
        now.as_secs() > self.0
    }
}

impl TryFrom<Cow<'_, str>> for Until {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        parse(&text).map(Self).ok_or_else(|| {
            format!("expected a day such as `2027-01-31`, or a time such as `2027-01-31T12:00:00Z`, found `{text}`")
        })
    }
}

/// Seconds since 1970.
fn parse(text: &str) -> Option<u64> {
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let midnight = days(year, month, day)? * DAY;
    let second = match time {
        Some(time) => second(time)?,
        None => DAY - 1,
    };
    u64::try_from(midnight + second).ok()
}

/// The second of the day in UTC, which may be one of the day before or after.
fn second(time: &str) -> Option<i64> {
    let (clock, offset) = match time.strip_suffix(['Z', 'z']) {
        Some(clock) => (clock, 0),
        None => {
            let at = time.rfind(['+', '-'])?;
            let (clock, offset) = time.split_at(at);
            let [hours, minutes] = numbers(offset.get(1..)?, ':', [2, 2])?;
            let seconds = hours * 3_600 + minutes * 60;
            let is_valid = hours < 24 && minutes < 60;
            let east = offset.starts_with('+');
            (
                clock,
                is_valid.then_some(if east { -seconds } else { seconds })?,
            )
        }
    };
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let is_valid = hour < 24 && minute < 60 && second < 60;
    is_valid.then_some(hour * 3_600 + minute * 60 + second + offset)
}

/// Numbers of so many digits, parted by this sign.
fn numbers<const N: usize>(text: &str, sign: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut numbers = [0; N];
    let mut parts = text.split(sign);
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next()?;
        let is_number = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        *number = is_number.then(|| part.parse().ok())??;
    }
    parts.next().is_none().then_some(numbers)
}

/// The days since 1970 of a date.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [
        31,
        if is_leap { 29 } else { 28 },
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let month = usize::try_from(month.checked_sub(1)?).ok()?;
    // A later one can't be written in all time zones.
    if !(1970..9999).contains(&year) || !(1..=*lengths.get(month)?).contains(&day) {
        return None;
    }
    let before = year - 1;
    let leaps = |year: i64| year / 4 - year / 100 + year / 400;
    let years = (year - 1970) * 365 + leaps(before) - leaps(1969);
    let months: i64 = lengths.iter().take(month).sum();
    Some(years + months + day - 1)
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = UNIX_EPOCH + Duration::from_secs(self.0);
        f.write_str(&httpdate::fmt_http_date(time))
    }
}

const DAY: i64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_day_or_a_second() {
        // As `date -d ... +%s` has them.
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01", 86_399),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2027-01-31T12:00:00Z", 1_801_396_800),
            ("2027-01-31T12:00:00+02:00", 1_801_389_600),
            ("2027-01-31 12:00:00-05:30", 1_801_416_600),
            ("2027-01-31", 1_801_439_999),
            ("2100-03-01", 4_107_628_799),
        ] {
            assert_eq!(parse(text), Some(seconds), "{text}");
        }
        for text in [
            "",
            "2027",
            "2027-1-31",
            "2027-13-01",
            "2027-00-01",
            "2027-02-29",
            "2100-02-29",
            "2027-04-31",
            "2027-01-00",
            "1969-12-31",
            "9999-12-31",
            "1970-01-01T00:00:00+01:00",
            "2027-01-31T24:00:00Z",
            "2027-01-31T12:60:00Z",
            "2027-01-31T12:00:00",
            "2027-01-31T12:00Z",
            "2027-01-31T12:00:00+2:00",
            "2027-01-31T12:00:00+02:00Z",
            "2027-01-31T12:00:00é",
            "+027-01-31",
            "2027-01-31-01",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_moment_is_over_when_its_second_is() {
        let until = Until::try_from(Cow::from("2027-01-31T12:00:00Z")).unwrap();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(!until.is_over(at(1_801_396_800)));
        assert!(until.is_over(at(1_801_396_801)));
        assert_eq!(until.to_string(), "Sun, 31 Jan 2027 12:00:00 GMT");
    }
}
