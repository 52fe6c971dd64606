//! The paths a route is for.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use regex::Regex;

use super::{
    MatchError,
    path::{normalise, push_byte},
};

/// What a route says about the path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// This path and no other.
    Exact(PathText),
    /// Whole segments: `/product` is for `/product` and `/product/x`, not for `/products`. With a slash at
    /// its end, `/users/` is for what is below, and `/users` is sent there by a redirect.
    Prefix(PathText, Rank),
    /// A regex, found anywhere in the path unless it is anchored.
    Regex(Expression),
}

/// Whether a prefix is asked before or after the regexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rank {
    /// Regexes first: the default.
    BelowRegex,
    /// If this is the longest prefix that matches, no regex is tried (`^~` in nginx).
    AboveRegex,
}

/// Whether a regex distinguishes upper and lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Case {
    /// It does: the default.
    Sensitive,
    /// It does not.
    Ignored,
}

impl PathPattern {
    /// The pattern for one path.
    pub fn exact(path: &str) -> Result<Self, MatchError> {
        PathText::parse(path).map(Self::Exact)
    }

    /// The pattern for a path and what is below.
    pub fn prefix(path: &str, rank: Rank) -> Result<Self, MatchError> {
        Ok(Self::Prefix(PathText::parse(path)?, rank))
    }

    /// The pattern for paths in which a regex is found. It sees the path in normal spelling: letters,
    /// digits and `-._~!$&'()*+,;=:@` are plain, everything else is an upper-case escape, as in `%20`.
    pub fn regex(pattern: &str, case: Case) -> Result<Self, MatchError> {
        Expression::parse(pattern, case).map(Self::Regex)
    }

    /// The compiled regex, for rewrites that use its captures.
    pub fn captures(&self) -> Option<&Regex> {
        match self {
            Self::Regex(expression) => Some(expression.regex()),
            Self::Exact(_) | Self::Prefix(..) => None,
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path.as_str()),
            Self::Prefix(path, rank) => {
                f.write_str(if *rank == Rank::AboveRegex {
                    " ^~ "
                } else {
                    ""
                })?;
                f.write_str(path.as_str())?;
                f.write_str(if path.is_directory() { "*" } else { "[/*]" })
            }
            Self::Regex(expression) => write!(f, " {expression}"),
        }
    }
}

/// An absolute path in the spelling of [`Normalised::matched`](super::Normalised::matched).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathText(Box<str>);

impl PathText {
    /// Spells a path as requests are spelt, so that `/my files` in the configuration matches `/my%20files`.
    pub fn parse(path: &str) -> Result<Self, MatchError> {
        if !path.starts_with('/') {
            return Err(MatchError::new(format!(
                "the path `{path}` does not begin with `/`"
            )));
        }
        let wrong = |reason: &dyn fmt::Display| {
            MatchError::new(format!("no request has the path `{path}`: {reason}"))
        };
        let escaped = escape_spaces(path);
        let normal = normalise(&escaped).map_err(|error| wrong(&error))?;
        if normal.forwarded() != escaped {
            let plain = normal.forwarded();
            return Err(wrong(&format_args!(
                "empty and dot segments are removed before, write `{plain}`"
            )));
        }
        Ok(Self(normal.matched().into()))
    }

    /// The text that a request's path is compared with.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it ends with a slash.
    pub fn is_directory(&self) -> bool {
        self.0.ends_with('/')
    }
}

/// A compiled regex that can be compared with others by what was written.
#[derive(Debug, Clone)]
pub struct Expression(Regex);

impl Expression {
    /// Compiles a regex; an error names what is wrong with it in one line.
    pub fn parse(pattern: &str, case: Case) -> Result<Self, MatchError> {
        let whole = match case {
            Case::Sensitive => pattern.to_owned(),
            // Within the pattern, since a set of regexes has one setting for all of them.
            Case::Ignored => format!("{IGNORE_CASE}{pattern}"),
        };
        Regex::new(&whole).map(Self).map_err(|error| {
            MatchError::new(format!(
                "`{pattern}` is not a valid regex: {}",
                reason(&error)
            ))
        })
    }

    /// The compiled regex.
    pub fn regex(&self) -> &Regex {
        &self.0
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Expression {}

impl Hash for Expression {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_str().hash(state);
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_str().strip_prefix(IGNORE_CASE) {
            Some(pattern) => write!(f, "~* {pattern}"),
            None => write!(f, "~ {}", self.0.as_str()),
        }
    }
}

fn escape_spaces(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for character in path.chars() {
        if character == ' ' {
            push_byte(&mut text, b' ')
        } else {
            text.push(character)
        }
    }
    text
}

/// The line of a regex error that says what is wrong. A syntax error draws the pattern first.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next_back().unwrap_or_default();
    line.trim_start_matches("error: ")
        .trim_end_matches('.')
        .to_lowercase()
}

const IGNORE_CASE: &str = "(?i)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_spelt_as_requests_are() {
        for (written, expected) in [
            ("/my files/", "/my%20files/"),
            ("/müller", "/m%C3%BCller"),
            ("/m%c3%bcller", "/m%C3%BCller"),
            ("/%61", "/a"),
            ("/a%2fb", "/a%2Fb"),
            ("/", "/"),
        ] {
            assert_eq!(
                PathText::parse(written)
                    .expect("the path is valid")
                    .as_str(),
                expected,
                "{written}"
            );
        }
    }

    #[test]
    fn a_path_that_no_request_can_have_is_refused() {
        for (written, expected) in [
            ("", "the path `` does not begin with `/`"),
            ("api", "the path `api` does not begin with `/`"),
            ("/a//b", "write `/a/b`"),
            ("/a/./b", "write `/a/b`"),
            ("/a/../b", "write `/b`"),
            ("/../b", "leads above the root"),
            ("/a?x=1", "has a space, `?` or `#`"),
            ("/50%", "without two hexadecimal digits"),
        ] {
            let error = PathText::parse(written).expect_err(written).to_string();
            assert!(error.contains(expected), "{written}: {error}");
        }
    }

    #[test]
    fn a_bad_regex_is_refused_in_one_line() {
        for (pattern, expected) in [
            ("(a", "`(a` is not a valid regex: unclosed group"),
            (
                "a{2,1}",
                "invalid repetition count range, the start must be <= the end",
            ),
            ("(?=a)", "look-around"),
            ("(?:a{1000}){1000}", "compiled regex exceeds size limit"),
        ] {
            let error = PathPattern::regex(pattern, Case::Ignored)
                .expect_err(pattern)
                .to_string();
            assert!(
                error.contains(expected) && !error.contains('\n'),
                "{pattern}: {error}"
            );
        }
    }

    #[test]
    fn case_is_ignored_in_every_branch_of_a_regex() {
        let pattern =
            PathPattern::regex(r"\.jpg$|\.png$", Case::Ignored).expect("the regex is valid");
        let regex = pattern.captures().expect("a regex has captures");
        assert!(regex.is_match("/a.JPG") && regex.is_match("/a.PNG"));
        assert_eq!(pattern.to_string(), r" ~* \.jpg$|\.png$");
    }
}
