//! Makes values of a request harmless in the text that they are put into.

use crate::plain::essence;

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escape {
    /// As text of HTML and XML, or between the quotes of an attribute.
    Markup,
    /// As in a string of JavaScript or JSON.
    Script,
    /// As they are.
    Nothing,
}

impl Escape {
    /// What values need in a body of this type.
    pub(super) fn of(content_type: &str) -> Self {
        let essence = essence(content_type).to_ascii_lowercase();
        let subtype = essence.rsplit('/').next().unwrap_or_default();
        match subtype.rsplit('+').next().unwrap_or_default() {
            "html" | "xhtml" | "xml" | "xsl" | "dtd" => Self::Markup,
            "json" | "javascript" | "x-javascript" | "ecmascript" | "manifest" => Self::Script,
            _ => Self::Nothing,
        }
    }

    pub(super) fn write(self, text: &str, to: &mut String) {
        for char in text.chars() {
            match (self, char) {
                (Self::Markup, '&') => to.push_str("&amp;"),
                (Self::Markup, '<') => to.push_str("&lt;"),
                (Self::Markup, '>') => to.push_str("&gt;"),
                (Self::Markup, '"') => to.push_str("&quot;"),
                (Self::Markup, '\'') => to.push_str("&#39;"),
                (Self::Script, _) if !is_harmless(char) => {
                    for unit in char.encode_utf16(&mut [0; 2]) {
                        to.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                _ => to.push(char),
            }
        }
    }
}

/// Whether a letter means nothing in a string, nor in the page that the script may stand in.
fn is_harmless(char: char) -> bool {
    const SIGNS: &str = " !#$%()*+,-./:;=?@[]^_{|}~";
    char.is_alphanumeric() || SIGNS.contains(char)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(content_type: &str, text: &str) -> String {
        let mut to = String::new();
        Escape::of(content_type).write(text, &mut to);
        to
    }

    #[test]
    fn a_value_ends_neither_an_attribute_nor_a_string() {
        let value = "a\"'<b>&\\`\u{2028}\n\u{1f600}é";
        for (content_type, expected) in [
            (
                "text/html; charset=utf-8",
                "a&quot;&#39;&lt;b&gt;&amp;\\`\u{2028}\n\u{1f600}é",
            ),
            (
                "application/xhtml+xml",
                "a&quot;&#39;&lt;b&gt;&amp;\\`\u{2028}\n\u{1f600}é",
            ),
            (
                "Text/JavaScript",
                "a\\u0022\\u0027\\u003cb\\u003e\\u0026\\u005c\\u0060\\u2028\\u000a\\ud83d\\ude00é",
            ),
            (
                "application/ld+json",
                "a\\u0022\\u0027\\u003cb\\u003e\\u0026\\u005c\\u0060\\u2028\\u000a\\ud83d\\ude00é",
            ),
            ("text/plain", value),
        ] {
            assert_eq!(written(content_type, value), expected, "{content_type}");
        }
        assert_eq!(
            written("application/json", "https://h.test:1/a?b=c"),
            "https://h.test:1/a?b=c"
        );
    }
}
