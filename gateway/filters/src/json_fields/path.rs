//! Where a field is: a part of the JSONPath of RFC 9535, without its `$.`.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::Deserialize;

/// `password`, `user.ssn`, `items[*].price`, `*.id`, `["a.b"]`. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
pub(super) struct Path(Vec<Step>);

/// One step down.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Of an object, the field of this name. Case matters.
    Name(String),
    /// All elements of an array, all fields of an object.
    All,
}

impl Path {
    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The last step, and those to it.
    pub(super) fn last(&self) -> (&[Step], &Step) {
        let (last, before) = self
            .0
            .split_last()
            .expect("parsing has refused the empty path");
        (before, last)
    }
}

impl TryFrom<Cow<'_, str>> for Path {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Path {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "{why}: expected a path such as `user.name`, `items[*].price` or `[\"a.b\"]`, found `{text}`"
            )
        };
        let mut steps = Vec::new();
        let mut rest = match text.strip_prefix('$') {
            Some(rest) if rest.starts_with('[') => rest,
            Some(rest) => rest.strip_prefix('.').unwrap_or(text),
            None => text,
        };
        loop {
            let (step, after) = match rest.strip_prefix('[') {
                Some(inside) => bracket(inside).map_err(wrong)?,
                None => plain(rest).map_err(wrong)?,
            };
            steps.push(step);
            rest = match after.strip_prefix('.') {
                _ if after.is_empty() => break,
                Some(next) if !next.starts_with('[') => next,
                None if after.starts_with('[') => after,
                _ => return Err(wrong("a step begins with a dot or a bracket")),
            };
        }
        match steps.len() <= DEEPEST {
            true => Ok(Self(steps)),
            false => Err(format!("a path has at most {DEEPEST} steps")),
        }
    }
}

/// The step at the begin of a text, and what follows it.
type Taken<'t> = (Step, &'t str);

fn plain(text: &str) -> Result<Taken<'_>, &'static str> {
    let end = text.find(['.', '[']).unwrap_or(text.len());
    let (name, after) = text.split_at(end);
    let strange = |c: char| c.is_whitespace() || c.is_control() || "]'\"*$@?".contains(c);
    match name {
        "" => Err("a name is missing"),
        "*" => Ok((Step::All, after)),
        _ if name.contains(strange) => Err("a name with signs in it stands in brackets and quotes"),
        _ => Ok((Step::Name(name.to_owned()), after)),
    }
}

/// What stands behind the opening bracket.
fn bracket(text: &str) -> Result<Taken<'_>, &'static str> {
    if let Some(after) = text.strip_prefix("*]") {
        return Ok((Step::All, after));
    }
    let quote = text
        .chars()
        .next()
        .filter(|quote| matches!(quote, '"' | '\''));
    let Some(quote) = quote else {
        return Err("in brackets stands `*` or a name in quotes");
    };
    let mut name = String::new();
    let mut chars = text.chars();
    chars.next();
    loop {
        match chars.next() {
            Some(end) if end == quote => break,
            Some('\\') => name.extend(chars.next()),
            Some(char) => name.push(char),
            None => return Err("the quote does not end"),
        }
    }
    let after = chars
        .as_str()
        .strip_prefix(']')
        .ok_or("the bracket does not end")?;
    Ok((Step::Name(name), after))
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.0.iter().enumerate() {
            match step {
                Step::All => f.write_str("[*]")?,
                Step::Name(name) if plain(name) == Ok((step.clone(), "")) => {
                    write!(f, "{}{name}", if number > 0 { "." } else { "" })?;
                }
                Step::Name(name) => write!(f, "[{name:?}]")?,
            }
        }
        Ok(())
    }
}

/// How many steps a path may have.
const DEEPEST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_as_it_is_written() {
        for (text, shown) in [
            ("a", "a"),
            ("a.b_c-d.é", "a.b_c-d.é"),
            ("$.a.b", "a.b"),
            ("$[*].a", "[*].a"),
            ("*.a", "[*].a"),
            ("a[*][*].b.*", "a[*][*].b[*]"),
            ("['a.b'].c", "[\"a.b\"].c"),
            ("x[\"a'\\\"b\\\\\"]", "x[\"a'\\\"b\\\\\"]"),
            ("['']", "[\"\"]"),
            ("['*']", "[\"*\"]"),
        ] {
            let path: Path = text.parse().unwrap();
            assert_eq!(path.to_string(), shown, "{text}");
            assert_eq!(shown.parse::<Path>(), Ok(path), "{text}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        let deep = "a.".repeat(DEEPEST) + "a";
        for text in [
            "",
            "$",
            "$.",
            ".a",
            "a.",
            "a..b",
            "a.[*]",
            "a[0]",
            "a[*",
            "a[*]b",
            "['a'",
            "['a']b",
            "[a]",
            "a b",
            "a*",
            "..a",
            "/user/ssn",
            "a]",
            &deep,
        ] {
            let read = text.parse::<Path>();
            // A pointer (RFC 6901) is a name with slashes in it: there are such names.
            assert_eq!(read.is_ok(), text == "/user/ssn", "{text}: {read:?}");
        }
    }
}
