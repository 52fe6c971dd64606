//! Directives for this kind of cache only, such as those of `CDN-Cache-Control` (RFC 9213).
//!
//! A targeted field is a dictionary of RFC 8941. If anything in it cannot be read, all of it says nothing.

use http::{HeaderMap, HeaderName};

use super::{
    directives::{Argument, Flag, ResponseDirectives},
    list::{Quotes, closing, is_tchar, trim},
};

/// The directives of a field that is there, valid and not empty.
pub(super) fn parse(headers: &HeaderMap, target: &HeaderName) -> Option<ResponseDirectives> {
    let mut directives = ResponseDirectives::default();
    directives.targeted = true;
    let mut empty = true;
    for line in headers.get_all(target) {
        let mut rest = trim(line.as_bytes());
        while !rest.is_empty() {
            empty = false;
            rest = next(member(rest, &mut directives)?)?;
        }
    }
    (!empty).then_some(directives)
}

/// Takes in the first member, and tells what follows it.
fn member<'a>(text: &'a [u8], directives: &mut ResponseDirectives) -> Option<&'a [u8]> {
    let (key, rest) = key(text)?;
    let (value, rest) = match rest {
        [b'=', b'(', rest @ ..] => (Value::List, inner_list(rest)?),
        [b'=', rest @ ..] => item(rest)?,
        _ => (Value::Boolean(true), rest),
    };
    let rest = parameters(rest)?;
    take(directives, key, value)?;
    Some(rest)
}

/// What follows the comma, or nothing at the end.
fn next(text: &[u8]) -> Option<&[u8]> {
    match trim(text) {
        [] => Some(&[]),
        // A comma at the end is an error.
        [b',', rest @ ..] => Some(trim(rest)).filter(|rest| !rest.is_empty()),
        _ => None,
    }
}

/// Takes in a directive. A value of the wrong type is an error, rather than a directive less: what remains
/// might permit more than was meant.
fn take(directives: &mut ResponseDirectives, key: &[u8], value: Value<'_>) -> Option<()> {
    match (key, value) {
        (b"max-age" | b"s-maxage" | b"stale-while-revalidate" | b"stale-if-error", value) => {
            let Value::Integer(number) = value else {
                return None;
            };
            // Of two members with one key, the last counts (RFC 8941, section 4.2.2).
            forget(directives, key);
            directives.take(key, Argument::Token(number));
        }
        (_, Value::Boolean(false)) => {}
        (b"private", _) => directives.set(Flag::Private),
        (b"no-cache", _) => directives.set(Flag::NoCache),
        (_, Value::Boolean(true)) => directives.take(key, Argument::None),
        (b"no-store" | b"must-revalidate" | b"proxy-revalidate", _) => return None,
        (b"public" | b"must-understand", _) => return None,
        (_, Value::Integer(_) | Value::List | Value::Other) => {}
    }
    Some(())
}

fn forget(directives: &mut ResponseDirectives, key: &[u8]) {
    match key {
        b"max-age" => directives.max_age = None,
        b"s-maxage" => directives.s_maxage = None,
        b"stale-while-revalidate" => directives.stale_while_revalidate = None,
        _ => directives.stale_if_error = None,
    }
}

enum Value<'a> {
    Boolean(bool),
    /// With its sign, which makes it no number of seconds.
    Integer(&'a [u8]),
    List,
    /// A decimal, a string, a token or bytes.
    Other,
}

fn key(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let starts = |byte: &u8| byte.is_ascii_lowercase() || *byte == b'*';
    text.first().filter(|byte| starts(byte))?;
    let inside = |byte: &u8| starts(byte) || byte.is_ascii_digit() || b"_-.".contains(byte);
    Some(split_while(text, inside))
}

fn inner_list(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text;
    loop {
        let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
        let inside = rest.get(spaces..)?;
        if let [b')', rest @ ..] = inside {
            return Some(rest);
        }
        // Items are apart by spaces, except for the first.
        if spaces == 0 && rest.len() != text.len() {
            return None;
        }
        rest = parameters(item(inside)?.1)?;
    }
}

fn parameters(mut rest: &[u8]) -> Option<&[u8]> {
    while let [b';', after @ ..] = rest {
        let (_, after) = key(after.trim_ascii_start())?;
        rest = match after {
            [b'=', after @ ..] => item(after)?.1,
            _ => after,
        };
    }
    Some(rest)
}

fn item(text: &[u8]) -> Option<(Value<'_>, &[u8])> {
    match text {
        [b'?', b'0', rest @ ..] => Some((Value::Boolean(false), rest)),
        [b'?', b'1', rest @ ..] => Some((Value::Boolean(true), rest)),
        [b'"', rest @ ..] => string(rest),
        [b':', rest @ ..] => bytes(rest),
        [b'-' | b'0'..=b'9', ..] => number(text),
        [b'*' | b'a'..=b'z' | b'A'..=b'Z', ..] => {
            let inside = |byte: &u8| is_tchar(*byte) || b":/".contains(byte);
            Some((Value::Other, split_while(text, inside).1))
        }
        _ => None,
    }
}

fn string(text: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let end = closing(text, 0, Quotes::Strings)?;
    let (inside, rest) = text.split_at_checked(end)?;
    let mut escaped = false;
    for byte in inside {
        match byte {
            b'\\' | b'"' if escaped => escaped = false,
            b'\\' => escaped = true,
            b' '..=b'~' if !escaped => {}
            _ => return None,
        }
    }
    Some((Value::Other, rest.get(1..)?))
}

fn bytes(text: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let inside = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    match split_while(text, inside).1 {
        [b':', rest @ ..] => Some((Value::Other, rest)),
        _ => None,
    }
}

/// An integer of at most 15 digits, or a decimal of at most 12 and 3.
fn number(text: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let (whole, rest) = split_while(digits, u8::is_ascii_digit);
    let [b'.', fraction @ ..] = rest else {
        let signed = text.get(..text.len() - rest.len())?;
        return (1..=15)
            .contains(&whole.len())
            .then_some((Value::Integer(signed), rest));
    };
    let (fraction, rest) = split_while(fraction, u8::is_ascii_digit);
    let right = (1..=12).contains(&whole.len()) && (1..=3).contains(&fraction.len());
    right.then_some((Value::Other, rest))
}

fn split_while(text: &[u8], inside: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !inside(byte));
    text.split_at(end.unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::cache::policy::directives::FOREVER;

    const TARGET: HeaderName = HeaderName::from_static("cdn-cache-control");

    fn of(line: &str) -> Option<ResponseDirectives> {
        let headers = HeaderMap::from_iter([(TARGET, HeaderValue::from_str(line).unwrap())]);
        parse(&headers, &TARGET)
    }

    #[test]
    fn a_dictionary_is_read() {
        for (line, seconds) in [
            ("max-age=3600", Some(3600)),
            ("foobar, max-age=3600", Some(3600)),
            ("max-age=99999999999", Some(FOREVER)),
            ("max-age=-1", Some(0)),
            ("max-age=1, max-age=2", Some(2)),
            ("max-age=60;x;y=1.5;z=\"a, b\" ,\t b", Some(60)),
            ("a=(1 \"x\";p :YQ==:), max-age=5", Some(5)),
            ("a=tok/en:x, b=?0, c=(), max-age=5", Some(5)),
            ("foo", None),
        ] {
            assert_eq!(of(line).map(|read| read.max_age), Some(seconds), "{line}");
        }
    }

    #[test]
    fn a_dictionary_with_an_error_says_nothing() {
        for line in [
            "",
            "  ",
            "max-age=10000, &&&&&",
            "max-age=\"10000\"",
            "max-age",
            "max-age=1.0",
            "max-age =100",
            "max-age= 100",
            "MaX-aGe=3600",
            "max-age=3600,",
            "max-age=1 max-age=2",
            "max-age=9999999999999999",
            "a=(1",
            "a=(1(2))",
            "a=\"x",
            "a=\"\\x\"",
            "a=:x",
            "a=?2",
            "a=1.",
            "a=1.2345",
            "a;A",
            "no-store=1",
        ] {
            assert_eq!(of(line), None, "{line}");
        }
    }

    #[test]
    fn flags_are_there_unless_they_are_false() {
        let read = of("no-store, private=?0, no-cache=\"a\"").unwrap();
        assert!(read.has(Flag::NoStore) && read.has(Flag::NoCache) && !read.has(Flag::Private));
    }

    #[test]
    fn the_first_valid_field_of_the_list_wins() {
        let ours = HeaderName::from_static("edgeway-cache-control");
        let mut headers = HeaderMap::from_iter([
            (TARGET, HeaderValue::from_static("max-age=2")),
            (
                http::header::CACHE_CONTROL,
                HeaderValue::from_static("no-store"),
            ),
        ]);
        let targets = [ours.clone(), TARGET];
        assert_eq!(ResponseDirectives::of(&headers, &targets).max_age, Some(2));
        headers.insert(&ours, HeaderValue::from_static("max-age=1"));
        assert_eq!(ResponseDirectives::of(&headers, &targets).max_age, Some(1));
        headers.insert(&ours, HeaderValue::from_static("&"));
        headers.insert(TARGET, HeaderValue::from_static(""));
        assert!(ResponseDirectives::of(&headers, &targets).has(Flag::NoStore));
    }
}
