//! The ranges of a stored response, or of a file, that a request asks for (RFC 9110, section 14).

use std::ops::Range;

use http::{HeaderValue, Method, StatusCode, header::RANGE, request};
use smallvec::SmallVec;

use super::{
    condition::{Stored, Validators, range_is_current},
    list::{Quotes, digits, split},
};

/// Bytes from the first up to, but not with, the last. Never empty, and never beyond the end.
pub(crate) type Span = Range<u64>;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it, with 200: there is no range, or none that has to be served.
    Whole,
    /// One range, with 206.
    Single(Span),
    /// Two or more that are apart, with 206 in parts, in the order of the request.
    Many(SmallVec<[Span; 4]>),
    /// Nothing that is there: 416.
    Unsatisfiable,
}

/// Reads what a request wants of a stored response whose body has this length.
pub(crate) fn wanted(request: &request::Parts, stored: Stored<'_>, length: u64) -> Wanted {
    match stored.status {
        StatusCode::OK => asked(request, &stored, length),
        _ => Wanted::Whole,
    }
}

/// Reads what a request wants of what is this long.
///
/// A range that is malformed, in another unit than bytes, or one of more than [`MOST`], is ignored, and so is
/// every range of what has no body. Ranges that overlap, or are no further apart than another part would
/// cost, become one.
pub(crate) fn asked(request: &request::Parts, current: &impl Validators, length: u64) -> Wanted {
    let mut lines = request.headers.get_all(RANGE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Wanted::Whole;
    };
    let applies = request.method == Method::GET && length > 0;
    if !applies || !range_is_current(&request.headers, current) {
        return Wanted::Whole;
    }
    let Some(ranges) = parse(line.as_bytes(), length) else {
        return Wanted::Whole;
    };
    match ranges.as_slice() {
        [] => Wanted::Unsatisfiable,
        [only] => Wanted::Single(only.clone()),
        [..] => Wanted::Many(ranges),
    }
}

/// The value of `Content-Range` for a range of what is this long.
pub(crate) fn content_range(range: &Span, length: u64) -> HeaderValue {
    let last = range.end.saturating_sub(1);
    text(format!("bytes {}-{last}/{length}", range.start))
}

/// The value of `Content-Range` in a 416.
pub(crate) fn unsatisfied(length: u64) -> HeaderValue {
    text(format!("bytes */{length}"))
}

fn text(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("letters, digits and `-/*` can be in a header")
}

/// The ranges that are there, or nothing if the set cannot be read.
fn parse(line: &[u8], length: u64) -> Option<SmallVec<[Span; 4]>> {
    let (unit, set) = line.split_at_checked(UNIT.len())?;
    unit.eq_ignore_ascii_case(UNIT).then_some(())?;
    let mut ranges = SmallVec::new();
    let mut count = 0;
    for spec in split(set, Quotes::Tags) {
        count += 1;
        if count > MOST {
            return None;
        }
        if let Some(range) = range(spec, length)? {
            add(&mut ranges, range);
        }
    }
    (count > 0).then_some(ranges)
}

/// What one range comes to; inside, nothing if there is no such byte.
fn range(spec: &[u8], length: u64) -> Option<Option<Span>> {
    let dash = spec.iter().position(|byte| *byte == b'-')?;
    let (first, last) = (spec.get(..dash)?, spec.get(dash + 1..)?);
    let number = |text| digits(text, u64::MAX);
    let range = match (first, last) {
        ([], last) => length.saturating_sub(number(last)?)..length,
        (first, []) => number(first)?..length,
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(())?;
            first..last.saturating_add(1).min(length)
        }
    };
    Some((!range.is_empty()).then_some(range))
}

/// Adds a range, together with those that it touches, in the place of the first of them.
fn add(ranges: &mut SmallVec<[Span; 4]>, range: Span) {
    let mut range = range;
    let mut place = ranges.len();
    while let Some(near) = ranges.iter().position(|other| is_near(other, &range)) {
        let other = ranges.remove(near);
        range = range.start.min(other.start)..range.end.max(other.end);
        place = place.min(near);
    }
    ranges.insert(place.min(ranges.len()), range);
}

fn is_near(one: &Span, other: &Span) -> bool {
    one.start <= other.end.saturating_add(GAP) && other.start <= one.end.saturating_add(GAP)
}

const UNIT: &[u8] = b"bytes=";
/// A request with more ranges than these is not out to save bytes (RFC 9110, section 17.15).
const MOST: usize = 64;
/// About what the head of another part costs.
const GAP: u64 = 80;

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::{HeaderMap, Request, header::IF_RANGE};

    use super::*;

    fn of(value: &str, length: u64) -> Wanted {
        with(&[(RANGE, value)], &HeaderMap::new(), length)
    }

    fn with(fields: &[(http::HeaderName, &str)], headers: &HeaderMap, length: u64) -> Wanted {
        let (mut request, ()) = Request::new(()).into_parts();
        for (name, value) in fields {
            request.headers.append(name, value.parse().unwrap());
        }
        let stored = Stored {
            status: StatusCode::OK,
            headers,
            received: SystemTime::UNIX_EPOCH,
        };
        wanted(&request, stored, length)
    }

    #[test]
    fn one_range_is_cut_to_what_is_there() {
        for (value, range) in [
            ("bytes=0-1", 0..2),
            ("bytes=1-", 1..1000),
            ("bytes=-1", 999..1000),
            ("bytes=-5000", 0..1000),
            ("bytes=-99999999999999999999999999", 0..1000),
            ("BYTES=999-99999999999999999999999", 999..1000),
            ("bytes= 0-1 ,, ", 0..2),
            ("bytes=5000-, 0-0", 0..1),
            ("bytes=-0, 7-7", 7..8),
        ] {
            assert_eq!(of(value, 1000), Wanted::Single(range), "{value}");
        }
    }

    #[test]
    fn what_is_not_there_is_refused() {
        for value in [
            "bytes=1000-",
            "bytes=-0",
            "bytes=1000-2000, -0",
            "bytes=99999999999999999999-",
        ] {
            assert_eq!(of(value, 1000), Wanted::Unsatisfiable, "{value}");
        }
    }

    #[test]
    fn what_is_no_set_of_ranges_is_ignored() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=2-1",
            "bytes=a-b",
            "bytes=0-1, 3",
            "bytes 0-1",
            "bytes =0-1",
            "items=0-1",
            "bytes=0 - 1",
            "bytes=1-2-3",
            "bytes=+1-2",
        ] {
            assert_eq!(of(value, 1000), Wanted::Whole, "{value}");
        }
        assert_eq!(
            with(
                &[(RANGE, "bytes=0-1"), (RANGE, "bytes=2-3")],
                &HeaderMap::new(),
                9
            ),
            Wanted::Whole
        );
    }

    #[test]
    fn an_empty_body_has_no_ranges() {
        for value in ["bytes=-5", "bytes=0-", "bytes=-0", "bytes=5-9"] {
            assert_eq!(of(value, 0), Wanted::Whole, "{value}");
        }
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let many = |ranges: &[Span]| Wanted::Many(ranges.iter().cloned().collect());
        assert_eq!(of("bytes=0-99, 50-149", 1000), Wanted::Single(0..150));
        assert_eq!(of("bytes=0-99, 180-199", 1000), Wanted::Single(0..200));
        assert_eq!(of("bytes=0-99, 181-199", 1000), many(&[0..100, 181..200]));
        assert_eq!(
            of("bytes=500-599, 0-9, 200-209", 1000),
            many(&[500..600, 0..10, 200..210])
        );
        assert_eq!(
            of("bytes=500-599, 0-9, 9-510", 1000),
            Wanted::Single(0..600)
        );
        assert_eq!(
            of("bytes=900-, 0-9, 500-509, 0-20", 1000),
            many(&[900..1000, 0..21, 500..510])
        );
    }

    #[test]
    fn hundreds_of_ranges_are_ignored() {
        let list = |count: usize| {
            let specs: Vec<_> = (0..count).map(|at| format!("{0}-{0}", at * 1000)).collect();
            format!("bytes={}", specs.join(","))
        };
        assert!(matches!(of(&list(MOST), 1 << 40), Wanted::Many(ranges) if ranges.len() == MOST));
        assert_eq!(of(&list(MOST + 1), 1 << 40), Wanted::Whole);
        assert_eq!(
            of(&format!("bytes={}", "0-,".repeat(MOST + 1)), 1000),
            Wanted::Whole
        );
    }

    #[test]
    fn a_range_of_another_version_is_not_served() {
        let stored = |fields: &[(&'static str, &'static str)]| -> HeaderMap {
            let fields = fields.iter();
            fields
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect()
        };
        let changed = "Sun, 06 Nov 1994 08:49:37 GMT";
        let tagged = stored(&[
            ("etag", "\"a\""),
            ("last-modified", changed),
            ("date", "Sun, 06 Nov 1994 08:49:38 GMT"),
        ]);
        let weak = stored(&[
            ("etag", "W/\"a\""),
            ("last-modified", changed),
            ("date", changed),
        ]);
        for (condition, headers, served) in [
            ("\"a\"", &tagged, true),
            ("\"b\"", &tagged, false),
            ("W/\"a\"", &tagged, false),
            ("\"a\"", &weak, false),
            ("W/\"a\"", &weak, false),
            (changed, &tagged, true),
            ("Sunday, 06-Nov-94 08:49:37 GMT", &tagged, true),
            // Changed in the second in which it was made.
            (changed, &weak, false),
            ("Sun, 06 Nov 1994 08:49:38 GMT", &tagged, false),
            ("x", &tagged, false),
        ] {
            let wanted = with(&[(RANGE, "bytes=0-1"), (IF_RANGE, condition)], headers, 9);
            let expected = if served {
                Wanted::Single(0..2)
            } else {
                Wanted::Whole
            };
            assert_eq!(wanted, expected, "{condition}");
        }
    }

    #[test]
    fn content_range_names_the_last_byte() {
        assert_eq!(content_range(&(0..2), 9), "bytes 0-1/9");
        assert_eq!(unsatisfied(9), "bytes */9");
    }
}
