//! Every text and every key of a JSON document.

use std::{fmt, ops::ControlFlow};

use serde::{
    Deserializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
};

/// What is told of a document as it is read.
pub(super) trait Sink {
    /// A key, and where it stands: `user.name`.
    fn key(&mut self, path: &str, key: &str);
    /// A text, and where it stands.
    fn text(&mut self, path: &str, text: &str);
}

/// How a document was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Whole,
    /// It is nested deeper than anybody needs.
    TooDeep,
    Malformed,
}

/// Reads one document, or several with blanks between them, and tells `sink` what is in it: of one that is
/// malformed, what stands before the fault.
pub(super) fn read(text: &[u8], sink: &mut impl Sink) -> Outcome {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut walk = Walk {
        sink,
        path: String::new(),
        depth: 0,
        too_deep: false,
    };
    let mut rest = serde_json::Deserializer::from_slice(text);
    loop {
        if rest.end().is_ok() {
            return Outcome::Whole;
        }
        let read = Value(&mut walk).deserialize(&mut rest);
        if walk.too_deep {
            return Outcome::TooDeep;
        }
        if read.is_err() {
            return Outcome::Malformed;
        }
    }
}

/// Whether it is the begin of a document, or of several: whether only its end is missing.
pub(super) fn is_begin(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    // A number may have been cut where it can't end.
    let in_number = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    let end = text.iter().rposition(|byte| !in_number(byte));
    let text = text.get(..end.map_or(0, |end| end + 1)).unwrap_or(text);
    let documents = serde_json::Deserializer::from_slice(text).into_iter::<de::IgnoredAny>();
    documents
        .filter_map(Result::err)
        .next()
        .is_none_or(|error| error.is_eof())
}

/// What a document that was cut needs to be one: the end of a text, and of what is open around it.
pub(super) fn ending(text: &[u8]) -> Vec<u8> {
    let mut open = Vec::new();
    let mut in_text = false;
    let mut escaped = false;
    for byte in text {
        match (in_text, *byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b'{') => open.push(b'}'),
            (false, b'[') => open.push(b']'),
            (false, b'}' | b']') => {
                open.pop();
            }
            _ => {}
        }
    }
    let mut ending = Vec::new();
    if escaped {
        ending.push(b'\\');
    }
    if in_text {
        ending.push(b'"');
    }
    ending.extend(open.into_iter().rev());
    ending
}

struct Walk<'s, S> {
    sink: &'s mut S,
    path: String,
    depth: usize,
    too_deep: bool,
}

struct Value<'w, 's, S>(&'w mut Walk<'s, S>);

impl<'de, S: Sink> DeserializeSeed<'de> for Value<'_, '_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<S: Sink> Walk<'_, S> {
    fn enter(&mut self) -> ControlFlow<()> {
        self.depth += 1;
        self.too_deep = self.depth > DEEPEST;
        if self.too_deep {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

impl<'de, S: Sink> Visitor<'de> for Value<'_, '_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.sink.text(&self.0.path, text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if self.0.enter().is_break() {
            return Err(de::Error::custom("nested too deep"));
        }
        while list.next_element_seed(Value(self.0))?.is_some() {}
        self.0.depth -= 1;
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if self.0.enter().is_break() {
            return Err(de::Error::custom("nested too deep"));
        }
        let outer = self.0.path.len();
        while let Some(key) = map.next_key::<Key<'de>>()? {
            let key = key.0;
            if self.0.path.len() < LONGEST_PATH {
                if outer > 0 {
                    self.0.path.push('.');
                }
                self.0.path.extend(key.chars().take(LONGEST_KEY));
            }
            self.0.sink.key(&self.0.path, &key);
            map.next_value_seed(Value(self.0))?;
            self.0.path.truncate(outer);
        }
        self.0.depth -= 1;
        Ok(())
    }
}

/// A key, borrowed where it has no escapes.
struct Key<'de>(std::borrow::Cow<'de, str>);

impl<'de> de::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(text.into()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(text.to_owned().into()))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

const DEEPEST: usize = 64;
const LONGEST_PATH: usize = 256;
const LONGEST_KEY: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Told(Vec<String>);

    impl Sink for Told {
        fn key(&mut self, path: &str, key: &str) {
            self.0.push(format!("{path}: {key}?"));
        }

        fn text(&mut self, path: &str, text: &str) {
            self.0.push(format!("{path} = {text}"));
        }
    }

    fn told(text: &str) -> (Vec<String>, Outcome) {
        let mut told = Told::default();
        let outcome = read(text.as_bytes(), &mut told);
        (told.0, outcome)
    }

    #[test]
    fn every_key_and_every_text_is_told_with_its_place() {
        let (told, outcome) = told(
            r#"{"a": {"b": ["x", 1, null, "\u0079"], "a": true}, "\u0063": "z", "c": "again"}"#,
        );
        assert_eq!(outcome, Outcome::Whole);
        assert_eq!(
            told,
            [
                "a: a?",
                "a.b: b?",
                "a.b = x",
                "a.b = y",
                "a.a: a?",
                "c: c?",
                "c = z",
                "c: c?",
                "c = again"
            ]
        );
    }

    #[test]
    fn a_text_alone_and_lines_of_documents_are_read() {
        assert_eq!(told("\"x\""), (vec![" = x".to_owned()], Outcome::Whole));
        let lines = told("{\"a\":\"x\"}\n{\"a\":\"y\"}\n");
        assert_eq!(lines.0.len(), 4);
        assert_eq!(lines.1, Outcome::Whole);
        assert_eq!(told("\u{feff}7").1, Outcome::Whole);
    }

    #[test]
    fn what_stands_before_a_fault_is_told() {
        for text in [
            r#"{"a":"x","#,
            r#"{"a":"x" "b"}"#,
            r#"{"a":"x",}"#,
            "{\"a\":\"x\",'b':1}",
        ] {
            let (told, outcome) = told(text);
            assert_eq!(outcome, Outcome::Malformed, "{text}");
            assert_eq!(told.get(..2).unwrap(), ["a: a?", "a = x"], "{text}");
        }
        assert_eq!(told("{a:1}").1, Outcome::Malformed);
    }

    #[test]
    fn what_is_nested_too_deep_is_not_followed() {
        let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(told(&deep(DEEPEST)).1, Outcome::Whole);
        assert_eq!(told(&deep(DEEPEST + 1)).1, Outcome::TooDeep);
        assert_eq!(told(&deep(100_000)).1, Outcome::TooDeep);
        assert_eq!(told(&"{\"a\":".repeat(100_000)).1, Outcome::TooDeep);
    }

    #[test]
    fn a_document_without_its_end_is_told_from_one_with_faults() {
        let whole = r#"{"a": [1.5, true, "\u0041"]} {"b": null}"#;
        for cut in 0..=whole.len() {
            assert!(is_begin(whole.get(..cut).unwrap().as_bytes()), "{cut}");
        }
        for text in ["{a", "{\"a\":'", "[1,]", "{\"a\":1}}"] {
            assert!(!is_begin(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn a_document_that_was_cut_can_be_ended() {
        let whole = r#"{"a": ["x\"y", {"b": "c\\"}], "d": "é"}"#;
        for cut in 0..whole.len() {
            let Some(begin) = whole.get(..cut) else {
                continue;
            };
            let mut text = begin.as_bytes().to_vec();
            text.extend(ending(&text));
            let mut told = Told::default();
            read(&text, &mut told);
            let hidden = begin.contains(r"x\") && !told.0.iter().any(|told| told.contains("= x"));
            assert!(!hidden, "{begin}");
        }
    }
}
