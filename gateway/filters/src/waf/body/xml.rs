//! The texts of an XML document: between its tags, and in their attributes.

use std::{borrow::Cow, ops::ControlFlow};

/// Tells `sink` each text as an application gets it: without comments, and with sections of characters as parts of it.
/// Of a document that is malformed, what stands behind the fault is one text.
pub(super) fn read(document: &[u8], mut sink: impl FnMut(&[u8])) {
    let mut text = Cow::Borrowed(&b""[..]);
    let mut rest = document;
    while let Some(at) = rest.iter().position(|byte| *byte == b'<') {
        let (before, markup) = rest.split_at(at);
        add(&mut text, before);
        let (begin, end): (&[u8], &[u8]) = match markup {
            [b'<', b'!', b'-', b'-', ..] => (b"<!--", b"-->"),
            [b'<', b'?', ..] => (b"<?", b"?>"),
            _ if markup.starts_with(SECTION) => (SECTION, b"]]>"),
            [
                b'<',
                b'/' | b'!' | b'_' | b':' | b'a'..=b'z' | b'A'..=b'Z' | 0x80..,
                ..,
            ] => {
                tell(&mut text, &mut sink);
                match tag(markup, &mut sink) {
                    ControlFlow::Continue(after) => rest = after,
                    ControlFlow::Break(()) => return sink(markup),
                }
                continue;
            }
            _ => {
                add(&mut text, b"<");
                rest = markup.get(1..).unwrap_or_default();
                continue;
            }
        };
        let inner = markup.get(begin.len()..).unwrap_or_default();
        let Some(length) = inner.windows(end.len()).position(|window| window == end) else {
            add(&mut text, markup);
            return tell(&mut text, &mut sink);
        };
        let (inside, after) = inner.split_at(length);
        if begin == SECTION {
            add(&mut text, inside);
        }
        rest = after.get(end.len()..).unwrap_or_default();
    }
    add(&mut text, rest);
    tell(&mut text, &mut sink);
}

/// The character set that a document declares.
pub(super) fn charset(document: &[u8]) -> Option<&[u8]> {
    let document = document.strip_prefix(b"\xef\xbb\xbf").unwrap_or(document);
    let declaration = document.trim_ascii_start().strip_prefix(b"<?xml")?;
    let end = declaration.windows(2).position(|pair| pair == b"?>");
    let declaration = declaration.get(..end.unwrap_or_else(|| declaration.len().min(LONGEST)))?;
    let at = declaration
        .windows(8)
        .position(|word| word == b"encoding")?;
    let value = declaration.get(at + 8..)?.trim_ascii_start();
    let value = value.strip_prefix(b"=")?.trim_ascii_start();
    let (quote, value) = value.split_first()?;
    value.split(|byte| byte == quote).next()
}

/// Whether it is written in characters of two or of four bytes, which readers notice by themselves.
pub(super) fn is_wide(document: &[u8]) -> bool {
    document.starts_with(b"\xfe\xff")
        || document.starts_with(b"\xff\xfe")
        || document.get(..4).is_some_and(|begin| begin.contains(&0))
}

fn add<'d>(text: &mut Cow<'d, [u8]>, more: &'d [u8]) {
    if text.is_empty() {
        *text = Cow::Borrowed(more);
    } else if !more.is_empty() {
        text.to_mut().extend_from_slice(more);
    }
}

fn tell(text: &mut Cow<'_, [u8]>, sink: &mut impl FnMut(&[u8])) {
    let trimmed = text.trim_ascii();
    if !trimmed.is_empty() {
        sink(trimmed);
    }
    *text = Cow::Borrowed(b"");
}

/// Tells the values of the attributes, and goes on behind the tag; breaks if it has no end.
fn tag<'d>(markup: &'d [u8], sink: &mut impl FnMut(&[u8])) -> ControlFlow<(), &'d [u8]> {
    let mut rest = markup;
    loop {
        let Some(at) = rest.iter().position(|byte| b"'\">".contains(byte)) else {
            return ControlFlow::Break(());
        };
        let (mark, after) = (rest.get(at), rest.get(at + 1..).unwrap_or_default());
        if mark == Some(&b'>') {
            return ControlFlow::Continue(after);
        }
        let Some(length) = after.iter().position(|byte| Some(byte) == mark) else {
            return ControlFlow::Break(());
        };
        let (value, after) = after.split_at(length);
        if !value.is_empty() {
            sink(value);
        }
        rest = after.get(1..).unwrap_or_default();
    }
}

const SECTION: &[u8] = b"<![CDATA[";
/// A declaration is no longer.
const LONGEST: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(document: &str) -> Vec<String> {
        let mut texts = Vec::new();
        read(document.as_bytes(), |text| {
            texts.push(String::from_utf8_lossy(text).into_owned());
        });
        texts
    }

    #[test]
    fn texts_and_attributes_are_told_without_what_parts_them() {
        assert_eq!(
            texts(
                "<?xml version=\"1.0\"?>\n<a b='c>d' e=\"it's\"><f>1' <!-- x<y -->or<![CDATA[ '1'=]]>'1</f></a>\n"
            ),
            ["c>d", "it's", "1' or '1'='1"]
        );
        assert_eq!(texts("<a>/x = \"y\"=</a>"), ["/x = \"y\"="]);
        assert_eq!(texts("<a><![CDATA[<script>]]></a>"), ["<script>"]);
    }

    #[test]
    fn what_stands_behind_a_fault_is_one_text() {
        assert_eq!(texts("a < b"), ["a < b"]);
        assert_eq!(texts("<a>b<c d='e"), ["b", "<c d='e"]);
        assert_eq!(texts("<a>b<!-- c"), ["b<!-- c"]);
        assert_eq!(texts("<a><![CDATA[ c"), ["<![CDATA[ c"]);
    }

    #[test]
    fn the_character_set_that_is_declared_is_found() {
        assert_eq!(
            charset(b"<?xml version='1.0' encoding = 'UTF-7'?>"),
            Some(&b"UTF-7"[..])
        );
        assert_eq!(charset(b"<?xml version='1.0'?><a encoding='x'/>"), None);
        assert_eq!(charset(b"<a/>"), None);
        assert!(is_wide(b"\xff\xfe<\0a\0") && is_wide(b"<\0a\0/\0") && !is_wide(b"<a/>"));
    }
}
