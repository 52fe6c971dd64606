//! Texts with values in them, as pages have them: between style sheets and scripts, whose braces stand for themselves.

use std::{borrow::Cow, str::FromStr};

use edgeway_sdk::{
    Response,
    template::{Piece, Variable},
};
use http::StatusCode;
use serde::Deserialize;

use crate::watched::{Content, Wrong};

/// A text in which `{status}`, `{title}`, `{detail}` and the values of the request stand for something. Any brace
/// that is not right before and behind a word stands for itself; `{{word}}` is `{word}`.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
pub(super) struct Text(Vec<Piece<Name>>);

/// What may stand in braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Status,
    Title,
    Detail,
    Of(Variable),
}

/// The names beside those that all templates know.
const OWN: [&str; 3] = ["status", "title", "detail"];

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "status" => Self::Status,
            "title" => Self::Title,
            "detail" => Self::Detail,
            _ => Self::Of(Variable::parse_beside(text, &OWN)?),
        })
    }
}

/// What a page tells of: a response, and what the client may read of the reason.
pub(super) struct Told<'a, 'r> {
    pub(super) status: StatusCode,
    pub(super) detail: Option<&'a str>,
    pub(super) response: &'a Response<'r>,
}

impl Told<'_, '_> {
    /// The status in words.
    pub(super) fn title(&self) -> &'static str {
        self.status.canonical_reason().unwrap_or("Error")
    }

    fn value(&self, name: &Name) -> Cow<'_, str> {
        match name {
            Name::Status => self.status.as_str().into(),
            Name::Title => self.title().into(),
            Name::Detail => self.detail.unwrap_or_default().into(),
            Name::Of(variable) => variable.value(self.response).unwrap_or_default(),
        }
    }
}

/// What the values in a text must not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escape {
    /// Nothing.
    No,
    /// A text of HTML, or an attribute in quotes.
    Html,
}

impl Text {
    /// Whether it is this value and nothing else.
    pub(super) fn is_only(&self, name: &Name) -> bool {
        matches!(self.0.as_slice(), [Piece::Value(only)] if only == name)
    }

    /// The text for this response.
    pub(super) fn render(&self, told: &Told<'_, '_>, escape: Escape) -> String {
        let written = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => text.len(),
            Piece::Value(_) => 32,
        });
        let mut page = String::with_capacity(written.sum());
        for piece in &self.0 {
            match (piece, escape) {
                (Piece::Text(text), _) => page.push_str(text),
                (Piece::Value(name), Escape::No) => page.push_str(&told.value(name)),
                (Piece::Value(name), Escape::Html) => push_html(&mut page, &told.value(name)),
            }
        }
        page
    }

    /// Reads a text.
    ///
    /// # Errors
    ///
    /// The place of a word in braces that is no name, in bytes, and what is said of it.
    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            literal.push_str(before);
            let at = text.len() - behind.len();
            if let Some((name, after)) = behind.strip_prefix('{').and_then(word)
                && let Some(after) = after.strip_prefix('}')
            {
                literal.extend(["{", name, "}"]);
                rest = after;
            } else if let Some((name, after)) = word(behind) {
                let name = name.parse().map_err(|wrong: String| (at, twice(&wrong)))?;
                if !literal.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                }
                pieces.push(Piece::Value(name));
                rest = after;
            } else {
                literal.push('{');
                rest = behind;
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self(pieces))
    }
}

/// The word that ends with a closing brace, and what is behind that.
fn word(text: &str) -> Option<(&str, &str)> {
    let (word, after) = text.split_once('}')?;
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let begins = word.starts_with(|first: char| first.is_ascii_alphabetic());
    (begins && word.bytes().all(is_part)).then_some((word, after))
}

fn twice(wrong: &str) -> String {
    format!("{wrong} (for the word itself write its braces twice)")
}

/// Writes a value so that it is nothing but text.
fn push_html(page: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '&' => page.push_str("&amp;"),
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '"' => page.push_str("&quot;"),
            '\'' => page.push_str("&#39;"),
            other => page.push(other),
        }
    }
}

impl TryFrom<Cow<'_, str>> for Text {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        Self::parse(&text).map_err(|(_, wrong)| wrong)
    }
}

impl Content for Text {
    const LARGEST: u64 = super::LARGEST;

    fn parse(bytes: Vec<u8>) -> Result<Self, Wrong> {
        let text = String::from_utf8(bytes).map_err(|_| Wrong::file("the text is not UTF-8"))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        Self::parse(text).map_err(|(at, wrong)| {
            let before = text.as_bytes().iter().take(at);
            Wrong::line(before.filter(|byte| **byte == b'\n').count() + 1, wrong)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> String {
        let Text(pieces) = Text::parse(text).unwrap();
        let shown = pieces.iter().map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Value(Name::Of(_)) => "<request>".to_owned(),
            Piece::Value(name) => format!("<{name:?}>"),
        });
        shown.collect()
    }

    #[test]
    fn a_word_in_braces_is_a_value_and_any_other_brace_is_a_brace() {
        for (text, shown) in [
            ("", ""),
            ("{status} {title}: {detail}", "<Status> <Title>: <Detail>"),
            (
                "{path} {request_id} {header.x-a}",
                "<request> <request> <request>",
            ),
            ("body{margin:0}", "body{margin:0}"),
            ("@media print{a{b:c}}", "@media print{a{b:c}}"),
            ("f(){return {}}", "f(){return {}}"),
            ("{ status }", "{ status }"),
            ("{{status}}", "{status}"),
            ("{{{status}}}", "{{status}}"),
            ("{{status}", "{<Status>"),
            ("{", "{"),
            ("}{", "}{"),
            ("a{1}", "a{1}"),
            ("\u{e4}{status}\u{df}{", "\u{e4}<Status>\u{df}{"),
        ] {
            assert_eq!(pieces(text), shown, "{text}");
        }
    }

    #[test]
    fn a_word_that_is_no_name_is_told_with_its_line() {
        let wrong = Text::parse("a\nb {statsu}").unwrap_err();
        assert_eq!(wrong.0, 5);
        assert!(wrong.1.contains("did you mean `{status}`?"), "{}", wrong.1);
        let wrong = <Text as Content>::parse(b"a\nb {statsu}".to_vec()).unwrap_err();
        assert!(format!("{wrong:?}").contains("Some(2)"), "{wrong:?}");
        assert!(<Text as Content>::parse(b"\xff".to_vec()).is_err());
    }

    #[test]
    fn what_could_end_a_text_or_an_attribute_is_escaped() {
        let mut page = String::new();
        push_html(&mut page, "<a href=\"x\" b='y'>&amp;");
        assert_eq!(page, "&lt;a href=&quot;x&quot; b=&#39;y&#39;&gt;&amp;amp;");
    }
}
