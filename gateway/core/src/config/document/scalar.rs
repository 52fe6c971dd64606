//! Words, numbers and texts, by the core schema of YAML 1.2.
//!
//! So `yes`, `no`, `on` and `off` are words, and `0777` is the number 777.

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// As it is: it may mean a number, a boolean or nothing.
    Plain,
    /// In quotes, or tagged `!!str`: a text whatever it looks like.
    Quoted,
    /// After `|` or `>`: a text.
    Block,
}

/// A scalar as it is written.
#[derive(Debug)]
pub(crate) struct Scalar {
    text: String,
    style: Style,
}

/// What a scalar means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Unsigned(u64),
    /// Negative.
    Signed(i64),
    Float(f64),
    Text(&'a str),
}

impl Scalar {
    pub(crate) fn new(text: String, style: Style) -> Self {
        Self { text, style }
    }

    /// The text, without quotes and escapes.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn style(&self) -> Style {
        self.style
    }

    /// Whether this is nothing: `~`, `null`, or a value left out.
    pub(crate) fn is_null(&self) -> bool {
        self.value() == Value::Null
    }

    /// What the scalar means.
    pub(crate) fn value(&self) -> Value<'_> {
        match self.style {
            Style::Plain => self.unquoted(),
            Style::Quoted | Style::Block => Value::Text(&self.text),
        }
    }

    /// What the scalar would mean without quotes.
    pub(crate) fn unquoted(&self) -> Value<'_> {
        match self.text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Value::Null,
            "true" | "True" | "TRUE" => Value::Bool(true),
            "false" | "False" | "FALSE" => Value::Bool(false),
            text => integer(text)
                .or_else(|| float(text))
                .unwrap_or(Value::Text(text)),
        }
    }
}

/// An integer of at most 64 bits. A longer one is a float, as a number it would be anyway.
fn integer(text: &str) -> Option<Value<'static>> {
    let radix = [("0o", 8), ("0x", 16)];
    if let Some((digits, radix)) = radix
        .iter()
        .find_map(|(prefix, radix)| Some((text.strip_prefix(prefix)?, *radix)))
    {
        let unsigned = digits.chars().all(|c| c.is_ascii_alphanumeric());
        return u64::from_str_radix(digits, radix)
            .ok()
            .filter(|_| unsigned)
            .map(Value::Unsigned);
    }
    if let Ok(number) = text.parse::<u64>() {
        return Some(Value::Unsigned(number));
    }
    let number = text.parse::<i64>().ok()?;
    Some(u64::try_from(number).map_or(Value::Signed(number), Value::Unsigned))
}

fn float(text: &str) -> Option<Value<'static>> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    match unsigned {
        ".inf" | ".Inf" | ".INF" => return Some(Value::Float(sign * f64::INFINITY)),
        ".nan" | ".NaN" | ".NAN" if unsigned == text => return Some(Value::Float(f64::NAN)),
        _ => {}
    }
    // Rust reads `inf` and `nan` too, which are words here.
    let numeric = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '-' | '+');
    let begins = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if !begins || !unsigned.chars().all(numeric) {
        return None;
    }
    text.parse().ok().map(Value::Float)
}

#[cfg(test)]
mod tests {
    use super::{Scalar, Style, Value};

    #[test]
    fn a_plain_scalar_means_what_the_core_schema_says() {
        for (text, value) in [
            ("", Value::Null),
            ("~", Value::Null),
            ("null", Value::Null),
            ("true", Value::Bool(true)),
            ("FALSE", Value::Bool(false)),
            ("yes", Value::Text("yes")),
            ("off", Value::Text("off")),
            ("80", Value::Unsigned(80)),
            ("+80", Value::Unsigned(80)),
            ("0777", Value::Unsigned(777)),
            ("-3", Value::Signed(-3)),
            ("0x1F", Value::Unsigned(31)),
            ("0o17", Value::Unsigned(15)),
            ("0x", Value::Text("0x")),
            ("0x+1", Value::Text("0x+1")),
            ("1.5", Value::Float(1.5)),
            (".5", Value::Float(0.5)),
            ("1e3", Value::Float(1000.0)),
            ("-.inf", Value::Float(f64::NEG_INFINITY)),
            ("inf", Value::Text("inf")),
            ("nan", Value::Text("nan")),
            ("e3", Value::Text("e3")),
            (".", Value::Text(".")),
            ("1.2.3", Value::Text("1.2.3")),
            ("10/s", Value::Text("10/s")),
            ("18446744073709551616", Value::Float(18446744073709551616.0)),
        ] {
            assert_eq!(
                Scalar::new(text.to_owned(), Style::Plain).value(),
                value,
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_quoted_scalar_is_a_text() {
        for style in [Style::Quoted, Style::Block] {
            assert_eq!(
                Scalar::new("80".to_owned(), style).value(),
                Value::Text("80")
            );
            assert_eq!(Scalar::new(String::new(), style).value(), Value::Text(""));
        }
    }
}
