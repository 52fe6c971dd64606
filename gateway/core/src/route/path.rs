//! Brings a request's path into one spelling, once, before anything looks at it.
//!
//! One resource has many spellings: `/protected/x`, `/%70rotected/x`, `//protected/./x`. If routes saw them
//! as different paths, a client could choose a spelling that misses the route with the `jwt` filter and
//! still reaches the same resource, since the upstream undoes the spelling. Three views of a path prevent it:
//!
//! * [`Normalised::matched`] is what routes see. Every byte has one spelling: characters that may stand in a
//!   path are plain, all others are upper-case escapes. Dot segments are resolved (also encoded ones) and
//!   empty segments removed.
//! * [`Normalised::forwarded`] is what the upstream is sent: the path as the client wrote it, unless
//!   segments had to be resolved or removed; then the segments that are left, each as the client wrote it.
//!   Both views have the same segments, so the upstream sees no other path than the one that was routed.
//! * [`Normalised::readings`] is what an upstream with other rules may make of it, see there.
//!
//! `%2F` is data, never a separator, and neither is a backslash nor `%5C`. But many upstreams decode them
//! first (WSGI's `PATH_INFO` is decoded), or drop `;parameters` first (servlet containers). A path that
//! would grow a dot segment in this way (`/public/..%2Fprotected`, `/public/..;/protected`) is refused.

use std::{borrow::Cow, fmt};

use smallvec::SmallVec;

/// The views of one request's path. Borrowed when the client's spelling was the normal one already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Normalised<'a> {
    matched: Cow<'a, str>,
    forwarded: Cow<'a, str>,
    readings: Vec<String>,
}

impl Normalised<'_> {
    /// What routes see: begins with `/`, has no empty and no dot segment, and one spelling for each byte.
    pub fn matched(&self) -> &str {
        &self.matched
    }

    /// What the upstream is sent, when the route does not rewrite it.
    pub fn forwarded(&self) -> &str {
        &self.forwarded
    }

    /// What upstreams with other rules may see: `%2F` and `%5C` as separators, `;parameters` dropped.
    ///
    /// Empty for nearly every path. Give it to [`RouteRequest::readings`](super::RouteRequest::readings), and
    /// a request for which these rules would lead to another route is refused.
    pub fn readings(&self) -> &[String] {
        &self.readings
    }

    /// The forwarded path without the leading segments that make up `prefix`, which is in the spelling of
    /// [`matched`](Self::matched), with or without a slash at its end. `None` if the path is not below it.
    ///
    /// What remains begins with `/` and is spelt as the client spelt it.
    pub fn strip_prefix(&self, prefix: &str) -> Option<&str> {
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let rest = self.matched.strip_prefix(prefix)?;
        if rest.is_empty() {
            return Some("/");
        }
        let depth = prefix.bytes().filter(|&byte| byte == b'/').count();
        let (start, _) = self.forwarded.match_indices('/').nth(depth)?;
        rest.starts_with('/').then(|| self.forwarded.get(start..))?
    }
}

/// Why a path is refused. The client's fault: a 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathError {
    /// It does not begin with `/`. The caller deals with `*` and with absolute-form before.
    Relative,
    /// A `%` without two hexadecimal digits after it.
    Escape,
    /// A control byte, plain or encoded; NUL, CR and LF among them.
    Control,
    /// A space, `?` or `#`, which end a path and cannot be part of one.
    Delimiter,
    /// A `..` that leads above the root.
    AboveRoot,
    /// A dot segment for whoever decodes `%2F` and `%5C` or drops `;parameters`, but not for everybody.
    HiddenDots,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Relative => "the path does not begin with `/`",
            Self::Escape => "the path has a `%` without two hexadecimal digits",
            Self::Control => "the path has a control character",
            Self::Delimiter => "the path has a space, `?` or `#`",
            Self::AboveRoot => "the path leads above the root",
            Self::HiddenDots => "the path hides a dot segment",
        })
    }
}

impl std::error::Error for PathError {}

/// Normalises the path of a request, without its query.
pub fn normalise(raw: &str) -> Result<Normalised<'_>, PathError> {
    if is_normal(raw) {
        return Ok(Normalised {
            matched: Cow::Borrowed(raw),
            forwarded: Cow::Borrowed(raw),
            readings: Vec::new(),
        });
    }
    let segments = Segments::resolve(raw)?;
    let matched = segments.matched();
    Ok(Normalised {
        readings: readings(&matched),
        forwarded: segments.forwarded(),
        matched,
    })
}

/// The fast path: most requests need one look at each byte and nothing else.
fn is_normal(raw: &str) -> bool {
    let mut previous = 0;
    let plain = raw.bytes().all(|byte| {
        let opens_badly = previous == b'/' && matches!(byte, b'/' | b'.');
        previous = byte;
        PLAIN[usize::from(byte)] && !opens_badly
    });
    plain && raw.starts_with('/')
}

/// What is left of a path when its dot and empty segments are resolved.
struct Segments<'a> {
    raw: &'a str,
    kept: SmallVec<[Segment<'a>; 16]>,
    removed: Removed,
    end: &'static str,
}

struct Segment<'a> {
    written: &'a str,
    text: Cow<'a, str>,
}

#[derive(PartialEq)]
enum Removed {
    Nothing,
    Something,
}

impl<'a> Segments<'a> {
    fn resolve(raw: &'a str) -> Result<Self, PathError> {
        let path = raw.strip_prefix('/').ok_or(PathError::Relative)?;
        let mut segments = Self {
            raw,
            kept: SmallVec::new(),
            removed: Removed::Nothing,
            end: "",
        };
        let mut pieces = path.split('/').peekable();
        while let Some(written) = pieces.next() {
            segments.push(written, pieces.peek().is_none())?;
        }
        Ok(segments)
    }

    fn push(&mut self, written: &'a str, last: bool) -> Result<(), PathError> {
        let text = spell(written)?;
        match &*text {
            // The path of a directory: `/a/` is not `/a`.
            "" if last => self.end = "/",
            "" => self.removed = Removed::Something,
            "." | ".." => {
                if text == ".." {
                    self.kept.pop().ok_or(PathError::AboveRoot)?;
                }
                self.removed = Removed::Something;
                self.end = if last { "/" } else { "" };
            }
            hidden if hides_dots(hidden) => return Err(PathError::HiddenDots),
            _ => self.kept.push(Segment { written, text }),
        }
        Ok(())
    }

    fn matched(&self) -> Cow<'a, str> {
        let borrowed = |segment: &Segment<'_>| matches!(segment.text, Cow::Borrowed(_));
        if self.removed == Removed::Nothing && self.kept.iter().all(borrowed) {
            return Cow::Borrowed(self.raw);
        }
        Cow::Owned(self.join(|segment| &segment.text))
    }

    fn forwarded(&self) -> Cow<'a, str> {
        match self.removed {
            Removed::Nothing => Cow::Borrowed(self.raw),
            Removed::Something => Cow::Owned(self.join(|segment| segment.written)),
        }
    }

    fn join(&self, view: impl for<'s> Fn(&'s Segment<'a>) -> &'s str) -> String {
        let mut path = String::with_capacity(self.raw.len());
        for segment in &self.kept {
            path.push('/');
            path.push_str(view(segment));
        }
        path.push_str(if self.kept.is_empty() { "/" } else { self.end });
        path
    }
}

/// Gives every byte of a segment its one spelling; borrowed if it had it.
fn spell(written: &str) -> Result<Cow<'_, str>, PathError> {
    if written.bytes().all(is_path_character) {
        return Ok(Cow::Borrowed(written));
    }
    let mut text = String::with_capacity(written.len());
    let mut bytes = written.bytes();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => unescape(&mut bytes)?,
            b' ' | b'?' | b'#' => return Err(PathError::Delimiter),
            other => other,
        };
        if byte.is_ascii_control() {
            return Err(PathError::Control);
        }
        push_byte(&mut text, byte);
    }
    Ok(if text == written {
        Cow::Borrowed(written)
    } else {
        Cow::Owned(text)
    })
}

fn unescape(bytes: &mut std::str::Bytes<'_>) -> Result<u8, PathError> {
    let mut digit = || {
        let byte = bytes.next()?;
        u8::try_from(char::from(byte).to_digit(16)?).ok()
    };
    let (high, low) = digit().zip(digit()).ok_or(PathError::Escape)?;
    Ok(high << 4 | low)
}

/// Appends one byte of a path in its one spelling: plain if it may stand in a segment, else as an escape.
pub(super) fn push_byte(text: &mut String, byte: u8) {
    if is_path_character(byte) {
        text.push(char::from(byte));
    } else {
        text.push_str(percent_encoding::percent_encode_byte(byte));
    }
}

/// Whether another reading of a segment has a dot segment in it.
fn hides_dots(text: &str) -> bool {
    text.split("%2F")
        .flat_map(|part| part.split("%5C"))
        .any(|part| matches!(without_parameters(part), "." | ".."))
}

fn readings(matched: &str) -> Vec<String> {
    let marks = ["%2F", "%5C", ";"];
    if !marks.iter().any(|mark| matched.contains(mark)) {
        return Vec::new();
    }
    let separated = matched.replace("%5C", "/").replace("%2F", "/");
    let mut readings = vec![
        rejoin(separated.split('/')),
        rejoin(separated.split('/').map(without_parameters)),
        rejoin(matched.split('/').map(without_parameters)),
    ];
    readings.retain(|reading| reading != matched);
    readings.dedup();
    readings
}

/// Joins segments, the first of which is empty for the root, and leaves out empty ones in between.
fn rejoin<'s>(segments: impl Iterator<Item = &'s str>) -> String {
    let mut path = String::new();
    let mut segments = segments.peekable();
    while let Some(segment) = segments.next() {
        if !segment.is_empty() || segments.peek().is_none() {
            path.push('/');
            path.push_str(segment);
        }
    }
    path
}

fn without_parameters(segment: &str) -> &str {
    segment.split_once(';').map_or(segment, |(name, _)| name)
}

/// RFC 3986 `pchar` without escapes: what may stand in a segment as it is.
///
/// The RFC would keep an encoded `@` or `:` apart from a plain one. Upstreams do not, so routes must not.
const fn is_path_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'@')
        || matches!(
            byte,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
        )
}

/// Bytes that need no second look.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        plain[byte as usize] = byte == b'/' || (is_path_character(byte) && byte != b';');
        byte += 1;
    }
    plain
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::tests::Random;

    fn matched(raw: &str) -> String {
        normalise(raw)
            .unwrap_or_else(|error| panic!("{raw}: {error}"))
            .matched()
            .to_owned()
    }

    fn forwarded(raw: &str) -> String {
        normalise(raw)
            .unwrap_or_else(|error| panic!("{raw}: {error}"))
            .forwarded()
            .to_owned()
    }

    #[test]
    fn a_normal_path_is_not_copied() {
        for raw in [
            "/",
            "/a",
            "/a/",
            "/index.html",
            "/a/b-c_d~e/x:y@z",
            "/.well-known/x",
            "/a%2Fb",
            "/...",
            "/a;b",
        ] {
            let path = normalise(raw).expect("the path is valid");
            assert!(matches!(path.matched, Cow::Borrowed(_)), "{raw}");
            assert!(matches!(path.forwarded, Cow::Borrowed(_)), "{raw}");
            assert_eq!(path.matched(), raw);
        }
    }

    #[test]
    fn every_spelling_of_a_path_is_matched_alike() {
        let table = [
            ("/%70rotected/x", "/protected/x"),
            ("/%50rotected/x", "/Protected/x"),
            ("//protected//x", "/protected/x"),
            ("/./protected/x", "/protected/x"),
            ("/public/../protected", "/protected"),
            ("/public/%2e%2e/protected", "/protected"),
            ("/public/.%2E/protected", "/protected"),
            ("/public/%2E./protected", "/protected"),
            ("/public//../protected", "/protected"),
            ("/protected%2fx", "/protected%2Fx"),
            ("/protected;a=b/x", "/protected;a=b/x"),
            ("/protected%3Ba=b/x", "/protected;a=b/x"),
            ("/user%40me/a%2bb", "/user@me/a+b"),
            ("/a%5cb", "/a%5Cb"),
            ("/a\\b", "/a%5Cb"),
            ("/m%c3%bcller", "/m%C3%BCller"),
            ("/müller", "/m%C3%BCller"),
            ("/latin%e9", "/latin%E9"),
            ("/100%25", "/100%25"),
            ("/%252e%252e/x", "/%252e%252e/x"),
            ("/a%20b", "/a%20b"),
            ("/~%75ser%7e", "/~user~"),
            ("/a/.", "/a/"),
            ("/a/./", "/a/"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../", "/a/"),
            ("/.", "/"),
            ("//", "/"),
            ("/a//", "/a/"),
            ("/..a/.b/c..", "/..a/.b/c.."),
        ];
        for (raw, expected) in table {
            assert_eq!(matched(raw), expected, "{raw}");
        }
    }

    #[test]
    fn the_upstream_is_sent_the_original_unless_segments_were_removed() {
        let table = [
            ("/%70rotected/a%2fb", "/%70rotected/a%2fb"),
            ("/user%40me", "/user%40me"),
            ("/a%3bb/x", "/a%3bb/x"),
            ("/a%3bb//x", "/a%3bb/x"),
            ("/public/../%70rotected/%e9", "/%70rotected/%e9"),
            ("//protected/", "/protected/"),
            ("/a/%2e%2e", "/"),
        ];
        for (raw, expected) in table {
            assert_eq!(forwarded(raw), expected, "{raw}");
        }
    }

    #[test]
    fn a_path_that_cannot_be_meant_well_is_refused() {
        let table = [
            ("", PathError::Relative),
            ("*", PathError::Relative),
            ("a/b", PathError::Relative),
            ("/%", PathError::Escape),
            ("/%2", PathError::Escape),
            ("/%zz", PathError::Escape),
            ("/%+1", PathError::Escape),
            ("/%é", PathError::Escape),
            ("/a%00b", PathError::Control),
            ("/a%0d%0aX: y", PathError::Control),
            ("/a%7f", PathError::Control),
            ("/a\0b", PathError::Control),
            ("/a\tb", PathError::Control),
            ("/a b", PathError::Delimiter),
            ("/a?b", PathError::Delimiter),
            ("/a#/../b", PathError::Delimiter),
            ("/..", PathError::AboveRoot),
            ("/../etc/passwd", PathError::AboveRoot),
            ("/a/../../b", PathError::AboveRoot),
            ("/%2e%2e/b", PathError::AboveRoot),
            ("//..", PathError::AboveRoot),
        ];
        for (raw, expected) in table {
            assert_eq!(normalise(raw).err(), Some(expected), "{raw:?}");
        }
    }

    #[test]
    fn a_dot_segment_that_only_some_upstreams_would_see_is_refused() {
        let hidden = [
            "/public/..%2fprotected/x",
            "/public/%2e%2e%2Fprotected",
            "/public%2f..%2fprotected",
            "/public%2F..",
            "/public/..%5cprotected",
            "/public/..\\protected",
            "/public/a%2F.%2Fb",
            "/public/..;/protected",
            "/public/..;a=b/protected",
            "/public/%2e%2e%3b/protected",
            "/public/.;x",
            "/public/x%2f..;y%2fprotected",
        ];
        for raw in hidden {
            assert_eq!(normalise(raw).err(), Some(PathError::HiddenDots), "{raw}");
        }
    }

    #[test]
    fn other_readings_are_given_for_encoded_separators_and_parameters() {
        let table: [(&str, &[&str]); 10] = [
            ("/plain/path", &[]),
            ("/caf%C3%A9", &[]),
            ("/protected%2fx", &["/protected/x"]),
            ("/protected%5Cx", &["/protected/x"]),
            ("/%2fprotected", &["/protected"]),
            ("/protected%2f", &["/protected/"]),
            ("/protected;a=b/x", &["/protected/x"]),
            ("/;a=b/protected", &["/protected"]),
            ("/protected/;a", &["/protected/"]),
            ("/a;b%2Fc", &["/a;b/c", "/a/c", "/a"]),
        ];
        for (raw, expected) in table {
            assert_eq!(
                normalise(raw).expect("the path is valid").readings(),
                expected,
                "{raw}"
            );
        }
    }

    #[test]
    fn a_prefix_is_stripped_by_segments_and_leaves_the_rest_as_it_was_written() {
        let table = [
            ("/protected/x", "/protected", Some("/x")),
            ("/protected/x", "/protected/", Some("/x")),
            ("/%70rotected/a%2fb", "/protected/", Some("/a%2fb")),
            ("/protected", "/protected", Some("/")),
            ("/protected/", "/protected", Some("/")),
            ("/protectedx", "/protected", None),
            ("/other", "/protected", None),
            ("/a/b/c", "/a/b", Some("/c")),
            ("/a/b", "/", Some("/a/b")),
            ("/", "/", Some("/")),
        ];
        for (raw, prefix, expected) in table {
            let path = normalise(raw).expect("the path is valid");
            assert_eq!(
                path.strip_prefix(prefix),
                expected,
                "{raw} without {prefix}"
            );
        }
    }

    #[test]
    fn normalising_twice_changes_nothing_and_both_views_have_the_same_segments() {
        let mut random = Random::new(7);
        for _ in 0..200_000 {
            let raw = random.path_soup();
            let Ok(path) = normalise(&raw) else { continue };
            let again = normalise(path.matched()).expect("a normal path is accepted");
            assert_eq!(again.matched(), path.matched(), "{raw}");
            let forwarded = normalise(path.forwarded()).expect("a forwarded path is accepted");
            assert_eq!(forwarded.matched(), path.matched(), "{raw}");
            assert_eq!(forwarded.forwarded(), path.forwarded(), "{raw}");
            for segment in path.matched().split('/') {
                assert!(!matches!(segment, "." | ".."), "{raw}");
            }
        }
    }

    #[test]
    fn no_other_reading_has_a_dot_segment() {
        let mut random = Random::new(8);
        for _ in 0..200_000 {
            let raw = random.path_soup();
            let Ok(path) = normalise(&raw) else { continue };
            for reading in path.readings() {
                let same = normalise(reading).expect("a reading is a valid path");
                assert_eq!(same.matched(), reading, "{raw}");
            }
        }
    }

    #[test]
    fn random_bytes_do_not_panic() {
        let mut random = Random::new(9);
        for _ in 0..100_000 {
            let bytes = random.bytes(24);
            let text = String::from_utf8_lossy(&bytes);
            let slashed = format!("/{text}");
            let outcomes = [normalise(&text), normalise(&slashed)];
            assert!(
                outcomes
                    .iter()
                    .flatten()
                    .all(|path| path.matched().is_ascii())
            );
        }
    }
}
