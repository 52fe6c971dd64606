//! Makes text harmless for the line that it is written into.

use super::line::push;

/// Where text is written, which decides how it is escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A string of JSON. What is no UTF-8 becomes U+FFFD.
    Json,
    /// A text, perhaps between quotes. Escaped as nginx does: `\x22`.
    Text,
    /// A field of a line whose fields are parted by spaces.
    Field,
}

impl Place {
    /// Whether a byte stands for itself here.
    fn is_plain(self, byte: u8) -> bool {
        let visible = matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        match self {
            Self::Json | Self::Text => visible,
            Self::Field => visible && !matches!(byte, b' ' | b'[' | b']'),
        }
    }

    /// Writes `text`.
    pub(super) fn write(self, line: &mut Vec<u8>, text: &[u8]) {
        if text.iter().all(|byte| self.is_plain(*byte)) {
            return line.extend_from_slice(text);
        }
        match self {
            Self::Json => write_json(line, text),
            Self::Text | Self::Field => {
                for &byte in text {
                    if self.is_plain(byte) {
                        line.push(byte);
                    } else {
                        push(line, format_args!("\\x{byte:02X}"));
                    }
                }
            }
        }
    }
}

fn write_json(line: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '"' | '\\' => push(line, format_args!("\\{char}")),
                // The last two end a line for some who read it, though not for JSON.
                _ if char.is_control() || matches!(char, '\u{2028}' | '\u{2029}') => {
                    push(line, format_args!("\\u{:04x}", u32::from(char)));
                }
                _ => line.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            line.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(place: Place, text: &[u8]) -> String {
        let mut line = Vec::new();
        place.write(&mut line, text);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn what_could_forge_a_line_or_a_field_is_escaped() {
        let cases: [(&[u8], &str, &str, &str); 9] = [
            (
                b"plain-text.1",
                "plain-text.1",
                "plain-text.1",
                "plain-text.1",
            ),
            (b"a b[c]", "a b[c]", "a b[c]", r"a\x20b\x5Bc\x5D"),
            (b"a\"b", r#"a\"b"#, r"a\x22b", r"a\x22b"),
            (b"a\\b", r"a\\b", r"a\x5Cb", r"a\x5Cb"),
            (b"a\r\nb", r"a\u000d\u000ab", r"a\x0D\x0Ab", r"a\x0D\x0Ab"),
            (b"\x1b[31m", r"\u001b[31m", r"\x1B[31m", r"\x1B\x5B31m"),
            (b"\x7f", r"\u007f", r"\x7F", r"\x7F"),
            (
                "é\u{2028}\u{85}".as_bytes(),
                r"é\u2028\u0085",
                r"\xC3\xA9\xE2\x80\xA8\xC2\x85",
                r"\xC3\xA9\xE2\x80\xA8\xC2\x85",
            ),
            (b"a\xffb", "a\u{fffd}b", r"a\xFFb", r"a\xFFb"),
        ];
        for (text, json, quoted, field) in cases {
            assert_eq!(escaped(Place::Json, text), json);
            assert_eq!(escaped(Place::Text, text), quoted);
            assert_eq!(escaped(Place::Field, text), field);
        }
    }

    #[test]
    fn every_byte_makes_a_string_that_json_can_read() {
        let all: Vec<u8> = (0..=255).collect();
        let json = format!("\"{}\"", escaped(Place::Json, &all));
        assert!(serde_json::from_str::<String>(&json).is_ok());
    }
}
