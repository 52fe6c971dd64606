//! Comma-separated lists in headers (RFC 9110, section 5.6.1).

use http::{HeaderMap, HeaderName};

/// What quotes mean in a list, inside of which a comma does not separate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quotes {
    /// A quoted string, in which a backslash takes the meaning from what follows.
    Strings,
    /// An entity tag, in which a backslash is a backslash.
    Tags,
}

/// The members of all lines of a header. Space around them is left out, and so are empty ones.
pub(super) fn members<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
    quotes: Quotes,
) -> impl Iterator<Item = &'h [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(move |line| split(line.as_bytes(), quotes))
}

/// The members of one line.
pub(super) fn split(line: &[u8], quotes: Quotes) -> Split<'_> {
    Split {
        rest: line,
        quotes,
        torn: false,
    }
}

pub(super) struct Split<'a> {
    rest: &'a [u8],
    quotes: Quotes,
    /// A quote was found that nothing closes. It and those after it are ordinary characters, so that it
    /// cannot hide what follows.
    torn: bool,
}

impl<'a> Iterator for Split<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let end = self.end();
            let (member, rest) = self.rest.split_at(end);
            self.rest = rest.get(1..).unwrap_or_default();
            let member = trim(member);
            if !member.is_empty() {
                return Some(member);
            }
        }
        None
    }
}

impl Split<'_> {
    /// Where the first member ends.
    fn end(&mut self) -> usize {
        let mut at = 0;
        while let Some(byte) = self.rest.get(at) {
            match byte {
                b',' => return at,
                b'"' if !self.torn => match closing(self.rest, at + 1, self.quotes) {
                    Some(closing) => at = closing,
                    None => self.torn = true,
                },
                _ => {}
            }
            at += 1;
        }
        self.rest.len()
    }
}

/// Where the quote that was opened just before `from` is closed.
pub(super) fn closing(text: &[u8], from: usize, quotes: Quotes) -> Option<usize> {
    let mut at = from;
    loop {
        match text.get(at)? {
            b'"' => return Some(at),
            b'\\' if quotes == Quotes::Strings => at += 2,
            _ => at += 1,
        }
    }
}

/// Without the spaces and tabs around it.
pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Whether this is a character of a token (RFC 9110, section 5.6.2).
pub(super) fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The characters of a token at the start, and what follows.
pub(super) fn token(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !is_tchar(*byte));
    text.split_at(end.unwrap_or(text.len()))
}

/// Reads what is all digits. A number that is too large is `most`.
pub(super) fn digits(text: &[u8], most: u64) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let number = text.iter().try_fold(0_u64, |sum, byte| {
        byte.is_ascii_digit().then(|| {
            sum.saturating_mul(10)
                .saturating_add(u64::from(byte - b'0'))
        })
    })?;
    Some(number.min(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(line: &str, quotes: Quotes) -> Vec<String> {
        split(line.as_bytes(), quotes)
            .map(|member| String::from_utf8(member.to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn commas_in_quotes_do_not_separate() {
        let quotes = Quotes::Strings;
        assert_eq!(
            members(r#" a ,, b="x, \", y" ,c,"#, quotes),
            ["a", r#"b="x, \", y""#, "c"]
        );
        assert!(members(" , ,\t,", quotes).is_empty());
    }

    #[test]
    fn a_backslash_in_an_entity_tag_is_a_backslash() {
        assert_eq!(members(r#""a\", "b""#, Quotes::Tags), [r#""a\""#, r#""b""#]);
    }

    #[test]
    fn a_quote_that_is_not_closed_hides_nothing() {
        assert_eq!(
            members(r#"x="a, no-store, y"#, Quotes::Strings),
            [r#"x="a"#, "no-store", "y"]
        );
        // Time grows with the length, not with its square.
        let long = format!("\"{}", "\\\"".repeat(2_000_000));
        assert_eq!(members(&long, Quotes::Strings).len(), 1);
    }

    #[test]
    fn numbers_are_digits_only_and_have_a_limit() {
        assert_eq!(digits(b"0030", 100), Some(30));
        assert_eq!(digits(b"99999999999999999999999999", 100), Some(100));
        for text in ["", "-1", "+1", "1.0", "1a", " 1"] {
            assert_eq!(digits(text.as_bytes(), 100), None, "{text}");
        }
    }
}
