//! Undoes the disguises of a value: what the application behind may undo, too.
//!
//! Percent and `%uXXXX` escapes, HTML entities, escapes of JavaScript, wide and overlong characters, null
//! bytes, blanks of other alphabets, SQL comments. Each round takes one layer off, and a few rounds are made,
//! because a value may be wrapped more than once. A value without any of these is looked at as it is.

use std::borrow::Cow;

/// What kinds of bytes a value has, found in one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kinds(u16);

impl Kinds {
    /// Letters, digits and `-`: what most values are made of.
    pub(super) const PLAIN: Self = Self(1);
    /// A blank, of any kind.
    pub(super) const BLANK: Self = Self(2);
    /// What may be the begin of an escape, or stand for another character.
    pub(super) const ESCAPE: Self = Self(4);
    /// `'`, `"` and the back quote.
    pub(super) const QUOTE: Self = Self(8);
    /// `<` and `>`.
    pub(super) const ANGLE: Self = Self(16);
    /// What operators, lists and calls are made of.
    pub(super) const OPERATOR: Self = Self(32);
    /// `/` and `\`.
    pub(super) const SLASH: Self = Self(64);
    /// What has no meaning in any of the languages: `,`, `:`, `~` ...
    pub(super) const OTHER: Self = Self(128);
    pub(super) const DOT: Self = Self(256);
    pub(super) const UNDERSCORE: Self = Self(512);
    pub(super) const LETTER: Self = Self(1024);

    /// The kinds in `value`.
    pub(super) fn of(value: &[u8]) -> Self {
        let bits = value
            .iter()
            .fold(0, |bits, byte| bits | KINDS[usize::from(*byte)]);
        Self(bits)
    }

    /// Whether there is any of `kinds`.
    pub(super) fn has(self, kinds: Self) -> bool {
        self.0 & kinds.0 != 0
    }

    /// These and those.
    pub(super) const fn and(self, kinds: Self) -> Self {
        Self(self.0 | kinds.0)
    }

    const fn of_byte(byte: u8) -> Self {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => Self::PLAIN.and(Self::LETTER),
            b'0'..=b'9' | b'-' => Self::PLAIN,
            b'.' => Self::DOT,
            b'_' => Self::UNDERSCORE,
            b' ' | b'\t' | b'\n' | b'\r' => Self::BLANK,
            b'%' | b'&' => Self::ESCAPE.and(Self::OPERATOR),
            b'\\' => Self::ESCAPE.and(Self::SLASH),
            0..=0x1f | 0x7f.. => Self::ESCAPE,
            b'\'' | b'"' | b'`' => Self::QUOTE,
            b'<' | b'>' => Self::ANGLE,
            b'=' | b'(' | b')' | b'{' | b'}' | b'[' | b']' | b'|' | b';' | b'#' | b'*' | b'+'
            | b'!' | b'$' | b'^' => Self::OPERATOR,
            b'/' => Self::SLASH,
            b',' | b':' | b'~' | b'@' | b'?' => Self::OTHER,
        }
    }
}

const KINDS: [u16; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        kinds[byte] = Kinds::of_byte(byte as u8).0;
        byte += 1;
    }
    kinds
};

/// The value without its disguises; the same one if it has none.
pub(super) fn plain(value: &[u8]) -> Cow<'_, [u8]> {
    let mut plain = Cow::Borrowed(value);
    for _ in 0..ROUNDS {
        let Some(next) = peel(&plain) else {
            break;
        };
        plain = Cow::Owned(next);
    }
    plain
}

/// The value with a blank in place of each SQL comment, and what MySQL reads in `/*! ... */` laid open; nothing
/// if it has no comment.
pub(super) fn without_comments(value: &[u8]) -> Option<Vec<u8>> {
    find(value, b"/*")?;
    let mut open = Vec::with_capacity(value.len());
    let mut rest = value;
    let mut in_code = false;
    let mut may_end = true;
    while let Some((at, mark)) = next_mark(rest, in_code) {
        let (before, after) = rest.split_at(at);
        open.extend_from_slice(before);
        open.push(b' ');
        let inner = after.get(2..).unwrap_or_default();
        if mark == b"*/" {
            in_code = false;
            rest = inner;
            continue;
        }
        if let Some(code) = inner.strip_prefix(b"!") {
            let digits = code.iter().take_while(|byte| byte.is_ascii_digit()).count();
            in_code = true;
            rest = code.get(digits..).unwrap_or_default();
            continue;
        }
        let end = may_end.then(|| find(inner, b"*/")).flatten();
        // Looked for once: a text of nothing but begins must not take the square of its length.
        may_end = end.is_some();
        // What stands behind an open comment is looked at all the same.
        rest = end.map_or(inner, |end| inner.get(end + 2..).unwrap_or_default());
    }
    open.extend_from_slice(rest);
    Some(open)
}

/// The begin of the next comment, or the end of the code that one has.
fn next_mark(text: &[u8], in_code: bool) -> Option<(usize, &'static [u8; 2])> {
    let begin = find(text, b"/*").map(|at| (at, b"/*"));
    if !in_code {
        return begin;
    }
    let upto = begin.map_or(text.len(), |(at, _)| at);
    let end = find(text.get(..upto)?, b"*/").map(|at| (at, b"*/"));
    end.or(begin)
}

fn find(haystack: &[u8], needle: &[u8; 2]) -> Option<usize> {
    let mut from = 0;
    loop {
        let rest = haystack.get(from..)?;
        let at = from + rest.iter().position(|byte| *byte == needle[0])?;
        if haystack.get(at + 1) == Some(&needle[1]) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// Takes one layer off; nothing if there is none.
fn peel(value: &[u8]) -> Option<Vec<u8>> {
    let first = next_disguise(value, 0)?;
    let mut out = Vec::with_capacity(value.len());
    let mut done = 0;
    let mut next = Some(first);
    while let Some((at, replacement)) = next {
        out.extend_from_slice(value.get(done..at).unwrap_or_default());
        out.extend(replacement.byte);
        done = at + replacement.length;
        next = next_disguise(value, done);
    }
    out.extend_from_slice(value.get(done..).unwrap_or_default());
    Some(out)
}

/// What stands for something else: its length, and for what.
struct Disguise {
    length: usize,
    /// Nothing if it is to be dropped.
    byte: Option<u8>,
}

impl Disguise {
    fn of(length: usize, byte: u8) -> Self {
        // A byte of zero ends texts in some languages and is skipped by browsers and databases.
        let byte = (byte != 0).then_some(byte);
        Self { length, byte }
    }

    fn character(length: usize, code: u32) -> Self {
        Self::of(length, fold(code))
    }
}

fn next_disguise(value: &[u8], from: usize) -> Option<(usize, Disguise)> {
    let rest = value.get(from..)?;
    for (offset, byte) in rest.iter().enumerate() {
        let at = from + offset;
        let found = match byte {
            b'%' => percent(rest.get(offset..)?),
            b'&' => entity(rest.get(offset..)?),
            b'\\' => escape(rest.get(offset..)?),
            b'\x0b' | b'\x0c' => Some(Disguise::of(1, b' ')),
            0 => Some(Disguise::of(1, 0)),
            // Alone it is no part of a character, and a blank in some character sets.
            0xa0 if at == 0 || value.get(at - 1).is_some_and(u8::is_ascii) => {
                Some(Disguise::of(1, b' '))
            }
            0x80.. => wide(rest.get(offset..)?),
            _ => None,
        };
        if let Some(disguise) = found {
            return Some((at, disguise));
        }
    }
    None
}

/// `%3C`, `%u003c`.
fn percent(text: &[u8]) -> Option<Disguise> {
    if matches!(text.get(1), Some(b'u' | b'U')) {
        let code = hex(text.get(2..6)?)?;
        return Some(Disguise::character(6, code));
    }
    let code = hex(text.get(1..3)?)?;
    Some(Disguise::of(3, code as u8))
}

/// `&lt;`, `&#60;`, `&#x3c;`, of the numbers also without the semicolon and with zeros before.
fn entity(text: &[u8]) -> Option<Disguise> {
    let inner = text.get(1..)?;
    if inner.first() == Some(&b'#') {
        return numeric(inner.get(1..)?);
    }
    let length = inner
        .iter()
        .take(LONGEST_NAME)
        .position(|byte| *byte == b';')?;
    let name = inner.get(..length)?;
    let known = |(known, _): &&(&str, u8)| known.as_bytes().eq_ignore_ascii_case(name);
    let (_, byte) = ENTITIES.iter().find(known)?;
    Some(Disguise::of(length + 2, *byte))
}

fn numeric(digits: &[u8]) -> Option<Disguise> {
    let (radix, start) = match digits.first()? {
        b'x' | b'X' => (16, 1),
        _ => (10, 0),
    };
    let mut code = 0_u32;
    let mut end = start;
    while let Some(digit) = digits
        .get(end)
        .and_then(|byte| (*byte as char).to_digit(radix))
    {
        code = code.saturating_mul(radix).saturating_add(digit);
        end += 1;
    }
    if end == start {
        return None;
    }
    let closed = usize::from(digits.get(end) == Some(&b';'));
    Some(Disguise::character(2 + end + closed, code))
}

/// `\x3c`, `\u003c`, `\u{3c}`, `\074`.
fn escape(text: &[u8]) -> Option<Disguise> {
    match text.get(1)? {
        b'x' => Some(Disguise::character(4, hex(text.get(2..4)?)?)),
        b'u' if text.get(2) == Some(&b'{') => {
            let rest = text.get(3..)?;
            let length = rest.iter().take(8).position(|byte| *byte == b'}')?;
            Some(Disguise::character(length + 4, hex(rest.get(..length)?)?))
        }
        b'u' => Some(Disguise::character(6, hex(text.get(2..6)?)?)),
        _ => None,
    }
}

/// Characters of more than one byte that are read as one of ASCII: full width, overlong, blanks, the invisible.
fn wide(text: &[u8]) -> Option<Disguise> {
    match *text {
        // Overlong forms of ASCII.
        [lead @ (0xc0 | 0xc1), next @ 0x80..=0xbf, ..] => {
            Some(Disguise::of(2, (lead & 1) << 6 | (next & 0x3f)))
        }
        [0xe0, lead @ (0x80 | 0x81), next @ 0x80..=0xbf, ..] => {
            Some(Disguise::of(3, (lead & 1) << 6 | (next & 0x3f)))
        }
        [lead @ 0xc2..=0xdf, next @ 0x80..=0xbf, ..] => {
            let code = u32::from(lead & 0x1f) << 6 | u32::from(next & 0x3f);
            Some(Disguise::character(2, code)).filter(|_| is_folded(code))
        }
        [
            lead @ 0xe0..=0xef,
            next @ 0x80..=0xbf,
            last @ 0x80..=0xbf,
            ..,
        ] => {
            let code =
                u32::from(lead & 0xf) << 12 | u32::from(next & 0x3f) << 6 | u32::from(last & 0x3f);
            Some(Disguise::character(3, code)).filter(|_| is_folded(code))
        }
        _ => None,
    }
}

fn is_folded(code: u32) -> bool {
    fold(code) != UNKNOWN
}

/// The ASCII character that databases, browsers and frameworks may take this one for.
fn fold(code: u32) -> u8 {
    match code {
        0..=0x7f => code as u8,
        0xff01..=0xff5e => (code - 0xff01) as u8 + b'!',
        // Invisible.
        0xad | 0x200b..=0x200d | 0x2060 | 0xfeff => 0,
        0xa0 | 0x1680 | 0x2000..=0x200a | 0x2028 | 0x2029 | 0x202f | 0x205f | 0x3000 => b' ',
        0x2b9 | 0x2bc | 0x2c8 | 0x2032 => b'\'',
        0x2ba | 0x2033 => b'"',
        // Become ASCII when case is changed.
        0x131 => b'i',
        0x17f => b's',
        0x212a => b'k',
        0x2215 | 0x2044 => b'/',
        0xfe64 => b'<',
        0xfe65 => b'>',
        _ => UNKNOWN,
    }
}

fn hex(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u32, |code, byte| {
        let digit = (*byte as char).to_digit(16)?;
        Some(code.saturating_mul(16).saturating_add(digit))
    })
}

/// How many layers are taken off.
const ROUNDS: usize = 4;
/// Stands for a character that is not ASCII and nothing like it.
const UNKNOWN: u8 = 0x1a;
const LONGEST_NAME: usize = 10;
/// The named entities for characters of ASCII that mean something in a script or a tag.
const ENTITIES: [(&str, u8); 31] = [
    ("lt", b'<'),
    ("gt", b'>'),
    ("quot", b'"'),
    ("apos", b'\''),
    ("amp", b'&'),
    ("lpar", b'('),
    ("rpar", b')'),
    ("colon", b':'),
    ("semi", b';'),
    ("comma", b','),
    ("period", b'.'),
    ("sol", b'/'),
    ("bsol", b'\\'),
    ("grave", b'`'),
    ("equals", b'='),
    ("num", b'#'),
    ("excl", b'!'),
    ("quest", b'?'),
    ("lbrace", b'{'),
    ("rbrace", b'}'),
    ("lcub", b'{'),
    ("rcub", b'}'),
    ("lbrack", b'['),
    ("lsqb", b'['),
    ("rsqb", b']'),
    ("dollar", b'$'),
    ("verbar", b'|'),
    ("ast", b'*'),
    ("tab", b'\t'),
    ("newline", b'\n'),
    ("nbsp", b' '),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn plainly(value: &str) -> String {
        String::from_utf8_lossy(&plain(value.as_bytes())).into_owned()
    }

    #[test]
    fn a_value_without_disguise_is_not_copied() {
        for value in [
            "",
            "a b",
            "100%",
            "50% off",
            "a & b",
            "R&D",
            "c:\\temp",
            "l'été",
            "日本語",
            "€5",
            "&copy;",
            "&#;",
        ] {
            assert!(
                matches!(plain(value.as_bytes()), Cow::Borrowed(_)),
                "{value}: {}",
                plainly(value)
            );
        }
    }

    #[test]
    fn each_disguise_is_taken_off() {
        for disguised in [
            "%3Cscript%3e",
            "%253Cscript%253E",
            "%25253Cscript%25253E",
            "%u003Cscript%U003e",
            "%uff1cscript%uff1e",
            "&lt;script&GT;",
            "&#60;script&#0000062",
            "&#x3c;script&#X3E;",
            "&amp;lt;script&amp;gt;",
            "\\x3cscript\\x3e",
            "\\u003cscript\\u003e",
            "\\u{3c}script\\u{03e}",
            "＜script＞",
            "<\0scr\0ipt>",
            "<scr\u{200b}ipt\u{feff}>",
            "<ſcript>",
            "<scrıpt>",
            "%00%3Cscript%3E",
        ] {
            assert_eq!(plainly(disguised), "<script>", "{disguised}");
        }
        let overlong = [0xc0, 0xbc, b'a', 0xe0, 0x80, 0xbe];
        assert_eq!(&*plain(&overlong), b"<a>");
        assert_eq!(plainly("..%c0%af..%c1%9c..%e0%80%af"), "../..\\../");
        assert_eq!(plainly("a\u{a0}b\u{3000}c\x0bd"), "a b c d");
    }

    #[test]
    fn what_only_looks_like_an_escape_stays() {
        for text in [
            "%zz%4",
            "%u12",
            "&#xg;",
            "&lt",
            "\\u12",
            "\\xg1",
            "\\u{}",
            "\\u{123456789}",
            "%",
            "&",
            "\\",
            "&#x",
        ] {
            assert_eq!(plainly(text), text);
        }
    }

    #[test]
    fn comments_become_blanks_and_the_code_in_them_is_laid_open() {
        let open = |value: &str| {
            without_comments(value.as_bytes())
                .map(|open| String::from_utf8_lossy(&open).into_owned())
        };
        assert_eq!(open("1/2*3"), None);
        assert_eq!(open("a/**/b").as_deref(), Some("a b"));
        assert_eq!(open("a/*x*/b/*y*/c").as_deref(), Some("a b c"));
        assert_eq!(open("/*!50000union*/x").as_deref(), Some(" union x"));
        assert_eq!(
            open("/*!union*/ /*!select*/").as_deref(),
            Some(" union   select ")
        );
        assert_eq!(open("a/*b").as_deref(), Some("a b"));
        assert_eq!(open("/*").as_deref(), Some(" "));
    }

    #[test]
    fn the_kinds_of_bytes_are_told_apart() {
        assert_eq!(Kinds::of(b"Ab-9z"), Kinds::PLAIN.and(Kinds::LETTER));
        assert!(Kinds::of(b"a b").has(Kinds::BLANK));
        assert!(!Kinds::of(b"a,b:c@d~").has(Kinds::QUOTE.and(Kinds::OPERATOR).and(Kinds::ESCAPE)));
        for byte in 0..=255 {
            assert_ne!(Kinds::of(&[byte]).0, 0, "{byte}");
        }
    }
}
