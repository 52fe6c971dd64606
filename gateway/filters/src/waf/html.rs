//! What libinjection makes of HTML.

use super::normalise::Kinds;

/// Whether a page would run a script if it had this text in it, in any of the places where a text may stand.
pub(super) fn grammar(text: &[u8], kinds: Kinds) -> bool {
    if !kinds.has(Kinds::ANGLE.and(Kinds::QUOTE)) || !text.iter().any(|byte| b"<=>".contains(byte))
    {
        return false;
    }
    let text = text.get(..LONGEST).unwrap_or(text);
    libinjectionrs::detect_xss(text).is_injection()
}

const LONGEST: usize = 32 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_told_from_text_with_tags() {
        let is = |text: &str| grammar(text.as_bytes(), Kinds::of(text.as_bytes()));
        for text in [
            "<script>",
            "<img src=x onerror=a()>",
            "\" onload=\"a()",
            "<a href=javascript:a()>",
        ] {
            assert!(is(text), "{text}");
        }
        for text in [
            "a < b",
            "<b>bold</b>",
            "<a href=\"/x\">x</a>",
            "it's",
            "1 > 0 = \"true\"",
        ] {
            assert!(!is(text), "{text}");
        }
    }
}
