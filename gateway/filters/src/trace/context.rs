//! W3C Trace Context, level 1 (<https://www.w3.org/TR/trace-context-1/>).

use edgeway_sdk::{SpanId, Trace, TraceId, prelude::*};

pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What a caller has told of the trace that its request is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    pub(super) sampled: bool,
}

impl Parent {
    /// That of these headers; none if it is not there, or not right, or there twice.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(TRACEPARENT).iter();
        let line = lines.next()?;
        match lines.next() {
            None => Self::parse(line.as_bytes()),
            Some(_) => None,
        }
    }

    /// Reads `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`. Later versions may have more behind that.
    fn parse(text: &[u8]) -> Option<Self> {
        let (head, rest) = text.split_at_checked(LENGTH)?;
        let [version_high, version_low, b'-', head @ ..] = head else {
            return None;
        };
        let version = hex(&[*version_high, *version_low])?;
        let fits = match version {
            0 => rest.is_empty(),
            255 => false,
            _ => rest.is_empty() || rest.starts_with(b"-"),
        };
        let (trace, head) = head.split_at_checked(32)?;
        let (span, flags) = head.strip_prefix(b"-")?.split_at_checked(16)?;
        let flags = hex(flags.strip_prefix(b"-")?)?;
        let (trace, span) = (hex(trace)?, u64::try_from(hex(span)?).ok()?);
        (fits && trace != 0 && span != 0).then_some(Self {
            trace: TraceId(trace),
            span: SpanId(span),
            sampled: flags & 1 == 1,
        })
    }
}

/// Digits in lower case alone.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

/// Whether all that `tracestate` says is in its form: a list of at most 32 members, some of which may be empty. One
/// that is not is not passed on.
pub(super) fn is_state(headers: &HeaderMap) -> bool {
    let mut members = 0;
    for line in headers.get_all(TRACESTATE) {
        for member in line.as_bytes().split(|byte| *byte == b',') {
            let member = member.trim_ascii();
            members += usize::from(!member.is_empty());
            if !member.is_empty() && !is_member(member) {
                return false;
            }
        }
    }
    members <= 32
}

/// `vendor=value`, `tenant@vendor=value`.
fn is_member(member: &[u8]) -> bool {
    let Some(at) = member.iter().position(|byte| *byte == b'=') else {
        return false;
    };
    let (key, value) = member.split_at(at);
    let letter =
        |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(byte);
    let first = key.first();
    let is_key = first.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && (1..=256).contains(&key.len())
        && key.iter().all(letter);
    let value = value.get(1..).unwrap_or_default();
    let is_value = (1..=256).contains(&value.len())
        && value
            .iter()
            .all(|byte| matches!(byte, b' '..=b'~') && *byte != b'=');
    is_key && is_value
}

/// The header by which an endpoint is told that its part of the trace is one of `span`.
pub(super) fn traceparent(trace: &Trace, span: SpanId) -> HeaderValue {
    let mut text = [0; LENGTH];
    text[..3].copy_from_slice(b"00-");
    write_hex(&mut text[3..35], &trace.id.0.to_be_bytes());
    text[35] = b'-';
    write_hex(&mut text[36..52], &span.0.to_be_bytes());
    text[52..].copy_from_slice(if trace.sampled { b"-01" } else { b"-00" });
    HeaderValue::from_bytes(&text).expect("digits and dashes can stand in a header")
}

fn write_hex(text: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// That of version 00.
const LENGTH: usize = 55;

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn parsed(text: &str) -> Option<Parent> {
        Parent::parse(text.as_bytes())
    }

    #[test]
    fn a_parent_is_what_the_standard_says() {
        for (flags, sampled) in [("00", false), ("01", true), ("03", true), ("fe", false)] {
            let parent = parsed(&format!("00-{TRACE}-{SPAN}-{flags}")).unwrap();
            assert_eq!(parent.trace.to_string(), TRACE);
            assert_eq!(parent.span.to_string(), SPAN);
            assert_eq!(parent.sampled, sampled, "{flags}");
        }
        for later in [
            format!("01-{TRACE}-{SPAN}-01"),
            format!("cc-{TRACE}-{SPAN}-01-what-the-future-brings"),
        ] {
            assert!(
                parsed(&later).is_some_and(|parent| parent.sampled),
                "{later}"
            );
        }
    }

    #[test]
    fn what_is_no_parent_is_none() {
        let zero = "0".repeat(32);
        for wrong in [
            String::new(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{TRACE}-{SPAN}-01-x"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("01-{TRACE}-{SPAN}-01x"),
            format!("00-{zero}-{SPAN}-01"),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00_{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}_{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}_01"),
            format!("0x-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-0g"),
            format!(" 00-{TRACE}-{SPAN}-01"),
        ] {
            assert_eq!(parsed(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_there_twice_counts_as_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(Parent::of(&headers), None);
        let line: HeaderValue = format!("00-{TRACE}-{SPAN}-01").parse().unwrap();
        headers.append(TRACEPARENT, line.clone());
        assert!(Parent::of(&headers).is_some());
        headers.append(TRACEPARENT, line);
        assert_eq!(Parent::of(&headers), None);
    }

    #[test]
    fn the_header_that_is_passed_on_is_read_as_it_was_meant() {
        let trace = Trace {
            sampled: true,
            ..Trace::begin()
        };
        let header = traceparent(&trace, trace.span);
        let parent = Parent::parse(header.as_bytes()).unwrap();
        assert_eq!((parent.trace, parent.span), (trace.id, trace.span));
        assert!(parent.sampled);
        let header = traceparent(
            &Trace {
                sampled: false,
                ..trace
            },
            trace.span,
        );
        assert!(!Parent::parse(header.as_bytes()).unwrap().sampled);
    }

    #[test]
    fn a_state_is_a_list_of_members() {
        let is = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(TRACESTATE, HeaderValue::from_str(line).unwrap());
            }
            is_state(&headers)
        };
        let many = |count: usize| (0..count).map(|n| format!("a{n}=1,")).collect::<String>();
        for right in [
            &[][..],
            &["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"],
            &["tenant@vendor=a b/c:d", " , a=1 ,"],
            &["1a-_*/=x"],
            &[&many(32)],
        ] {
            assert!(is(right), "{right:?}");
        }
        for wrong in [
            &["a"][..],
            &["a="],
            &["=1"],
            &["A=1"],
            &["a=1=2"],
            &["a b=1"],
            &["a=1", "b"],
            &[&many(33)],
            &[&format!("a={}", "x".repeat(257))],
        ] {
            assert!(!is(wrong), "{wrong:?}");
        }
    }
}
