//! Dates as HTTP writes them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;

/// Reads a date in any of the three forms of RFC 9110, section 5.6.7.
///
/// Case does not matter, and neither does which weekday it says. `now` decides the century of a year of two
/// digits. A zone other than GMT, or anything else that is not quite a date, is none.
pub(crate) fn parse(text: &[u8], now: SystemTime) -> Option<SystemTime> {
    let text = text.trim_ascii();
    let Some(comma) = text.iter().position(|byte| *byte == b',') else {
        return asctime(text);
    };
    let (weekday, rest) = text.split_at_checked(comma)?;
    match weekday.len() {
        3 => fixdate(weekday, rest),
        _ => rfc850(weekday, rest, now),
    }
}

/// A date as `Date`, `Expires` and `Last-Modified` have it. What lies before 1970 or after 9999 becomes the
/// nearest date that can be written.
pub(crate) fn header_value(time: SystemTime) -> HeaderValue {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
        .min(LAST);
    let days = i64::try_from(seconds / DAY).unwrap_or(0);
    let (year, month, day) = civil(days);
    let clock = seconds % DAY;
    let (hours, minutes) = (clock / 3600, clock / 60 % 60);
    // By hand, since every hit on a page without a date has one written: to format costs ten times as much.
    let mut text = *b"Mon, 01 Jan 1970 00:00:00 GMT";
    // 1 January 1970 was a Thursday.
    put(&mut text, 0, name(&WEEKDAYS, (days + 3).rem_euclid(7)));
    put(&mut text, 5, two(day));
    put(&mut text, 8, name(&MONTHS, month - 1));
    put(&mut text, 12, two(year / 100));
    put(&mut text, 14, two(year % 100));
    put(&mut text, 17, two(hours.cast_signed()));
    put(&mut text, 20, two(minutes.cast_signed()));
    put(&mut text, 23, two((clock % 60).cast_signed()));
    HeaderValue::from_bytes(&text).expect("a date has letters, digits and `, :` only")
}

/// A date as RFC 3339 has it: `1994-11-06T08:49:37Z`. What cannot be written so becomes the nearest that can.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs().min(LAST);
    let (year, month, day) = civil(i64::try_from(seconds / DAY).unwrap_or(0));
    let clock = seconds % DAY;
    let (hours, minutes, seconds) = (clock / 3600, clock / 60 % 60, clock % 60);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}Z")
}

fn put(text: &mut [u8], at: usize, part: impl AsRef<[u8]>) {
    let part = part.as_ref();
    if let Some(place) = text.get_mut(at..at + part.len()) {
        place.copy_from_slice(part);
    }
}

/// The digits of a number below 100.
fn two(number: i64) -> [u8; 2] {
    [number / 10, number % 10].map(|digit| b'0' + u8::try_from(digit % 10).unwrap_or(0))
}

/// `, 06 Nov 1994 08:49:37 GMT` after `Sun`.
fn fixdate(weekday: &[u8], rest: &[u8]) -> Option<SystemTime> {
    index(&WEEKDAYS, weekday)?;
    let rest: &[u8; 26] = rest.try_into().ok()?;
    let [
        b',',
        b' ',
        d1,
        d2,
        b' ',
        m1,
        m2,
        m3,
        b' ',
        y1,
        y2,
        y3,
        y4,
        tail @ ..,
    ] = rest
    else {
        return None;
    };
    let day = number(&[*d1, *d2])?;
    let month = index(&MONTHS, &[*m1, *m2, *m3])?;
    let year = number(&[*y1, *y2, *y3, *y4])?;
    at(year, month + 1, day, clock_gmt(tail)?)
}

/// `, 06-Nov-94 08:49:37 GMT` after `Sunday`.
fn rfc850(weekday: &[u8], rest: &[u8], now: SystemTime) -> Option<SystemTime> {
    FULL_WEEKDAYS
        .iter()
        .find(|name| name.as_bytes().eq_ignore_ascii_case(weekday))?;
    let rest: &[u8; 24] = rest.try_into().ok()?;
    let [
        b',',
        b' ',
        d1,
        d2,
        b'-',
        m1,
        m2,
        m3,
        b'-',
        y1,
        y2,
        tail @ ..,
    ] = rest
    else {
        return None;
    };
    let day = number(&[*d1, *d2])?;
    let month = index(&MONTHS, &[*m1, *m2, *m3])?;
    let year = full_year(number(&[*y1, *y2])?, now);
    at(year, month + 1, day, clock_gmt(tail)?)
}

/// `Sun Nov  6 08:49:37 1994`.
fn asctime(text: &[u8]) -> Option<SystemTime> {
    let text: &[u8; 24] = text.try_into().ok()?;
    let [w1, w2, w3, b' ', m1, m2, m3, b' ', d1, d2, b' ', rest @ ..] = text else {
        return None;
    };
    let (time, year) = rest.split_at_checked(8)?;
    let [b' ', year @ ..] = year else {
        return None;
    };
    index(&WEEKDAYS, &[*w1, *w2, *w3])?;
    let month = index(&MONTHS, &[*m1, *m2, *m3])?;
    let tens = if *d1 == b' ' { b'0' } else { *d1 };
    at(
        number(year)?,
        month + 1,
        number(&[tens, *d2])?,
        clock(time)?,
    )
}

/// Seconds of the day in ` 08:49:37 GMT`.
fn clock_gmt(text: &[u8]) -> Option<i64> {
    let [b' ', text @ ..] = text else {
        return None;
    };
    let (time, zone) = text.split_at_checked(8)?;
    zone.eq_ignore_ascii_case(b" GMT").then_some(())?;
    clock(time)
}

fn clock(text: &[u8]) -> Option<i64> {
    let [h1, h2, b':', m1, m2, b':', s1, s2] = text else {
        return None;
    };
    let (hour, minute, second) = (
        number(&[*h1, *h2])?,
        number(&[*m1, *m2])?,
        number(&[*s1, *s2])?,
    );
    // 60 is a leap second.
    (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3600 + minute * 60 + second)
}

/// A year of two digits that would be more than 50 years ahead belongs to the century before.
fn full_year(digits: i64, now: SystemTime) -> i64 {
    let days = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() / DAY);
    let (this, ..) = civil(i64::try_from(days).unwrap_or(0));
    let year = this - this.rem_euclid(100) + digits;
    if year > this + 50 { year - 100 } else { year }
}

fn at(year: i64, month: i64, day: i64, clock: i64) -> Option<SystemTime> {
    (1..=days_of_month(year, month))
        .contains(&day)
        .then_some(())?;
    let seconds = days(year, month, day) * DAY.cast_signed() + clock;
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 {
        return UNIX_EPOCH.checked_sub(distance);
    }
    UNIX_EPOCH.checked_add(distance)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1 January 1970. Years are counted from March, so that a leap day is the last of its year.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let cycle = year.div_euclid(400);
    let year = year.rem_euclid(400);
    let in_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    cycle * DAYS_OF_CYCLE + year * 365 + year / 4 - year / 100 + in_year - MARCH_0_TO_1970
}

/// Year, month and day of what [`days`] has counted.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + MARCH_0_TO_1970;
    let cycle = days.div_euclid(DAYS_OF_CYCLE);
    let in_cycle = days.rem_euclid(DAYS_OF_CYCLE);
    let year = (in_cycle - in_cycle / 1460 + in_cycle / 36_524 - in_cycle / 146_096) / 365;
    let in_year = in_cycle - (365 * year + year / 4 - year / 100);
    let month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month + 2) / 5 + 1;
    let january_or_february = month >= 10;
    (
        cycle * 400 + year + i64::from(january_or_february),
        if january_or_february {
            month - 9
        } else {
            month + 3
        },
        day,
    )
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, byte| {
        byte.is_ascii_digit()
            .then(|| sum * 10 + i64::from(byte - b'0'))
    })
}

fn index(names: &[&str], name: &[u8]) -> Option<i64> {
    let at = names
        .iter()
        .position(|known| known.as_bytes().eq_ignore_ascii_case(name))?;
    i64::try_from(at).ok()
}

fn name<'a>(names: &[&'a str], index: i64) -> &'a str {
    usize::try_from(index)
        .ok()
        .and_then(|index| names.get(index))
        .copied()
        .unwrap_or_default()
}

const DAY: u64 = 86_400;
const DAYS_OF_CYCLE: i64 = 146_097;
/// Days from 1 March of the year 0 to 1 January 1970.
const MARCH_0_TO_1970: i64 = 719_468;
/// The last second of 9999.
const LAST: u64 = 253_402_300_799;

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const FULL_WEEKDAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-15.
    fn now() -> SystemTime {
        seconds(1_794_700_800)
    }

    fn seconds(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn dates_are_written_for_programs_too() {
        let of = |seconds| rfc3339(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(of(784_111_777), "1994-11-06T08:49:37Z");
        assert_eq!(of(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(of(u64::MAX / 4), "9999-12-31T23:59:59Z");
        assert_eq!(
            rfc3339(UNIX_EPOCH - Duration::from_secs(1)),
            "1970-01-01T00:00:00Z"
        );
    }

    #[test]
    fn the_three_forms_say_the_same() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            " sUN, 06 nOV 1994 08:49:37 gmt ",
            // The weekday does not agree, which RFC 9110 does not ask a recipient to check.
            "Mon, 06 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(
                parse(text.as_bytes(), now()),
                Some(seconds(784_111_777)),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_not_quite_a_date_is_none() {
        for text in [
            "",
            "0",
            "-1",
            ",",
            "Sun",
            "Thu, 18 Aug 2050 02:01:18 UTC",
            "Thu, 18 Aug 2050 02:01:18 AEST",
            "Thu, 18 Aug 50 02:01:18 GMT",
            "Thu 18 Aug 2050 02:01:18 GMT",
            "Thu, 18  Aug  2050 02:01:18 GMT",
            "Thu, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02.01.18 GMT",
            "Thu, 18 Aug 2050 2:01:18 GMT",
            "Thu, 18 Aug 2050 24:01:18 GMT",
            "Thu, 31 Jun 2050 02:01:18 GMT",
            "Thu, 29 Feb 2100 02:01:18 GMT",
            "Thu, 00 Jan 2050 02:01:18 GMT",
            "Xyz, 18 Aug 2050 02:01:18 GMT",
            "Thu, 18 Xyz 2050 02:01:18 GMT",
            "Noday, 18-Aug-50 02:01:18 GMT",
            "Thu, 18 Aug 2050 02:01:18 GMTX",
            "Thu Aug 18 02:01:18 50",
        ] {
            assert_eq!(parse(text.as_bytes(), now()), None, "{text}");
        }
    }

    #[test]
    fn a_year_of_two_digits_is_at_most_fifty_years_ahead() {
        let year = |text: &str| {
            let time = parse(text.as_bytes(), now()).unwrap();
            let written = header_value(time);
            written
                .to_str()
                .unwrap()
                .split(' ')
                .nth(3)
                .unwrap()
                .to_owned()
        };
        assert_eq!(year("Thursday, 18-Aug-50 02:01:18 GMT"), "2050");
        assert_eq!(year("Thursday, 18-Aug-76 02:01:18 GMT"), "2076");
        assert_eq!(year("Thursday, 18-Aug-77 02:01:18 GMT"), "1977");
    }

    #[test]
    fn dates_before_1970_are_in_the_past() {
        let old = parse(b"Mon, 01 Jan 1900 00:00:00 GMT", now()).unwrap();
        assert!(old < UNIX_EPOCH);
        assert_eq!(header_value(old), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn what_is_written_is_read_back() {
        for time in (0..LAST).step_by(86_400 * 97 + 12_345) {
            let written = header_value(seconds(time));
            assert_eq!(
                parse(written.as_bytes(), now()),
                Some(seconds(time)),
                "{written:?}"
            );
        }
        assert_eq!(
            header_value(seconds(951_827_696)),
            "Tue, 29 Feb 2000 12:34:56 GMT"
        );
        assert_eq!(
            header_value(seconds(LAST + 1)),
            "Fri, 31 Dec 9999 23:59:59 GMT"
        );
    }
}
