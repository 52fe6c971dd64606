//! Moments as logs write them, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

use super::line::push;

/// A moment, in the parts that people read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    year: u64,
    /// 1 to 12.
    month: usize,
    day: u64,
    /// Of the day.
    second: u64,
    milli: u32,
}

impl Moment {
    /// This moment; what is before 1970 counts as its beginning.
    pub(super) fn new(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = date(days);
        Self {
            year,
            month,
            day,
            second,
            milli: since.subsec_millis(),
        }
    }

    /// Writes `2025-10-09T08:07:06.005Z`.
    pub(super) fn write_rfc3339(self, line: &mut Vec<u8>) {
        let Self {
            year,
            month,
            day,
            milli,
            ..
        } = self;
        let (hour, minute, second) = self.clock();
        // By hand: it is in every line, and the machinery of formatting costs more than the rest of it.
        let parts = [
            (year, 4, b'-'),
            (month as u64, 2, b'-'),
            (day, 2, b'T'),
            (hour, 2, b':'),
            (minute, 2, b':'),
            (second, 2, b'.'),
            (milli.into(), 3, b'Z'),
        ];
        for (value, digits, after) in parts {
            push_digits(line, value, digits);
            line.push(after);
        }
    }

    /// Writes `09/Oct/2025:08:07:06 +0000`.
    pub(super) fn write_common(self, line: &mut Vec<u8>) {
        let Self { year, day, .. } = self;
        let month = MONTHS[self.month - 1];
        let (hour, minute, second) = self.clock();
        push(
            line,
            format_args!("{day:02}/{month}/{year}:{hour:02}:{minute:02}:{second:02} +0000"),
        );
    }

    /// Writes `Oct  9 08:07:06`.
    pub(super) fn write_bsd(self, line: &mut Vec<u8>) {
        let Self { month, day, .. } = self;
        let month = MONTHS[month - 1];
        let (hour, minute, second) = self.clock();
        push(
            line,
            format_args!("{month} {day:>2} {hour:02}:{minute:02}:{second:02}"),
        );
    }

    fn clock(self) -> (u64, u64, u64) {
        let Self { second, .. } = self;
        (second / 3_600, second / 60 % 60, second % 60)
    }
}

/// Writes a number with so many digits at least.
pub(super) fn push_digits(line: &mut Vec<u8>, value: u64, digits: usize) {
    let mut text = [b'0'; 20];
    let (mut rest, mut begin) = (value, text.len());
    while rest > 0 || text.len() - begin < digits {
        begin -= 1;
        text[begin] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    line.extend_from_slice(text.split_at(begin).1);
}

/// Year, month and day of a number of days since 1970.
///
/// Years are counted from March here, so that the day that comes and goes is the last of its year,
/// and months follow the pattern of five that have 153 days.
fn date(days: u64) -> (u64, usize, u64) {
    let days = days + 719_468; // from March 1st of the year 0
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + carry, month as usize, day)
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn written(seconds: u64, milli: u64) -> (String, String) {
        let time = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(milli);
        let (mut rfc3339, mut common) = (Vec::new(), Vec::new());
        Moment::new(time).write_rfc3339(&mut rfc3339);
        Moment::new(time).write_common(&mut common);
        (
            String::from_utf8(rfc3339).unwrap(),
            String::from_utf8(common).unwrap(),
        )
    }

    #[test]
    fn moments_are_written_in_utc() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z", "01/Jan/1970:00:00:00 +0000"),
            (
                951_782_400,
                "2000-02-29T00:00:00.000Z",
                "29/Feb/2000:00:00:00 +0000",
            ),
            (
                951_868_799,
                "2000-02-29T23:59:59.000Z",
                "29/Feb/2000:23:59:59 +0000",
            ),
            (
                951_868_800,
                "2000-03-01T00:00:00.000Z",
                "01/Mar/2000:00:00:00 +0000",
            ),
            (
                1_735_689_599,
                "2024-12-31T23:59:59.000Z",
                "31/Dec/2024:23:59:59 +0000",
            ),
            (
                1_760_000_826,
                "2025-10-09T09:07:06.000Z",
                "09/Oct/2025:09:07:06 +0000",
            ),
            (
                4_107_542_400,
                "2100-03-01T00:00:00.000Z",
                "01/Mar/2100:00:00:00 +0000",
            ),
        ];
        for (seconds, rfc3339, common) in cases {
            assert_eq!(written(seconds, 0), (rfc3339.to_owned(), common.to_owned()));
        }
        assert_eq!(written(0, 7).0, "1970-01-01T00:00:00.007Z");
    }

    #[test]
    fn numbers_have_as_many_digits_as_they_need_and_no_fewer_than_asked_for() {
        for (value, digits, text) in [
            (0, 0, ""),
            (0, 1, "0"),
            (7, 3, "007"),
            (1_234, 3, "1234"),
            (u64::MAX, 1, "18446744073709551615"),
        ] {
            let mut line = Vec::new();
            push_digits(&mut line, value, digits);
            assert_eq!(line, text.as_bytes());
        }
    }

    #[test]
    fn syslog_pads_the_day_with_a_space() {
        let time = UNIX_EPOCH + Duration::from_secs(1_760_000_826);
        let mut bsd = Vec::new();
        Moment::new(time).write_bsd(&mut bsd);
        assert_eq!(bsd, b"Oct  9 09:07:06");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut last = date(0);
        for days in 1..200_000 {
            let next = date(days);
            let follows = next.2 == last.2 + 1 && (next.0, next.1) == (last.0, last.1)
                || next.2 == 1 && (28..=31).contains(&last.2);
            assert!(follows && (1..=12).contains(&next.1), "{last:?} {next:?}");
            last = next;
        }
    }
}
