//! What requests and responses are picked by: lists of paths, of statuses, of media types.
//!
//! Each is one value or a list of them, never an empty one.

use std::{fmt, marker::PhantomData, ops::RangeInclusive, str::FromStr};

use edgeway_sdk::prelude::*;
use serde::{
    Deserializer,
    de::{self, SeqAccess},
};

use crate::plain::essence;

/// One value, or a list with at least one.
#[derive(Debug)]
pub(crate) struct List<T>(Vec<T>);

/// A value that stands in a [`List`].
pub(crate) trait Item: FromStr<Err = String> {
    /// What one is, for an error.
    const EXPECTED: &'static str;
}

impl<T> List<T> {
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }
}

impl List<PathPattern> {
    /// Whether this path, as routes match it, is one of them.
    pub(crate) fn has_path(&self, path: &str) -> bool {
        self.0.iter().any(|known| known.matches(path))
    }
}

impl List<Statuses> {
    pub(crate) fn has_status(&self, status: StatusCode) -> bool {
        self.0
            .iter()
            .any(|range| range.0.contains(&status.as_u16()))
    }
}

impl List<MediaType> {
    /// Whether a `Content-Type`, with or without parameters, is one of them.
    pub(crate) fn has_type(&self, content_type: &str) -> bool {
        let essence = essence(content_type);
        self.0.iter().any(|known| known.matches(essence))
    }
}

/// Paths: `/static/` is all that is below, `/static` that path as well; a `*` stands for any letters,
/// as in `*.js` and `/assets/*.png`. Case matters.
#[derive(Debug)]
pub(crate) enum PathPattern {
    /// Without the slash at the end.
    Below { folder: String, itself: bool },
    /// The texts between the stars; at least two.
    Pieces(Vec<String>),
}

impl PathPattern {
    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Below { folder, itself } => {
                path.strip_prefix(folder.as_str())
                    .is_some_and(|rest| match rest {
                        "" => *itself,
                        rest => rest.starts_with('/'),
                    })
            }
            Self::Pieces(pieces) => matches_pieces(pieces, path),
        }
    }
}

/// Finds each piece where it comes first, which leaves the most to those after it.
fn matches_pieces(pieces: &[String], path: &str) -> bool {
    let [first, between @ .., last] = pieces else {
        return false;
    };
    let inner = path.strip_prefix(first.as_str());
    let Some(inner) = inner.and_then(|rest| rest.strip_suffix(last.as_str())) else {
        return false;
    };
    let rest = between.iter().try_fold(inner, |rest, piece| {
        rest.split_once(piece.as_str()).map(|(_, after)| after)
    });
    rest.is_some()
}

impl Item for PathPattern {
    const EXPECTED: &'static str = "a path such as `/static/` or `*.js`";
}

impl FromStr for PathPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with(['/', '*']) && text.bytes().all(|byte| b"/*".contains(&byte)) {
            return Err(format!("`{text}` is every path; leave it out"));
        }
        let never = |c: char| matches!(c, '?' | '#') || c.is_whitespace() || c.is_control();
        if !text.starts_with(['/', '*']) || text.contains(never) {
            return Err(format!(
                "expected a path such as `/static/`, or one with `*` such as `*.js`, found `{text}`"
            ));
        }
        if text.contains('*') {
            return Ok(Self::Pieces(text.split('*').map(str::to_owned).collect()));
        }
        let (folder, itself) = match text.strip_suffix('/') {
            Some(folder) => (folder, false),
            None => (text, true),
        };
        Ok(Self::Below {
            folder: folder.to_owned(),
            itself,
        })
    }
}

/// `404` or `200-399`.
#[derive(Debug)]
pub(crate) struct Statuses(RangeInclusive<u16>);

impl Item for Statuses {
    const EXPECTED: &'static str = "a status such as `404`, or a range such as `200-299`";
}

impl FromStr for Statuses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected {}, found `{text}`", Self::EXPECTED);
        let status = |text: &str| {
            let number = text.trim().parse().ok();
            number.filter(|number| (100..=599_u16).contains(number))
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let first = status(first).ok_or_else(wrong)?;
        let last = status(last).ok_or_else(wrong)?;
        if last < first {
            return Err(wrong());
        }
        Ok(Self(first..=last))
    }
}

/// `text/css`, or all of a kind: `image/*`. Case does not matter.
#[derive(Debug)]
pub(crate) struct MediaType {
    kind: String,
    /// None is every one.
    subtype: Option<String>,
}

impl MediaType {
    fn matches(&self, essence: &str) -> bool {
        let Some((kind, subtype)) = essence.split_once('/') else {
            return false;
        };
        let known = self.subtype.as_deref();
        kind.eq_ignore_ascii_case(&self.kind)
            && known.is_none_or(|known| subtype.eq_ignore_ascii_case(known))
    }
}

impl Item for MediaType {
    const EXPECTED: &'static str = "a media type such as `text/css` or `image/*`";
}

impl FromStr for MediaType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected {}, found `{text}`", Self::EXPECTED);
        if text == "*/*" {
            return Err("`*/*` is every type; leave it out".to_owned());
        }
        let is_token = |text: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
            !text.is_empty() && text.bytes().all(allowed)
        };
        let (kind, subtype) = text.split_once('/').ok_or_else(wrong)?;
        if !is_token(kind) || !(subtype == "*" || is_token(subtype)) {
            return Err(wrong());
        }
        Ok(Self {
            kind: kind.to_owned(),
            subtype: (subtype != "*").then(|| subtype.to_owned()),
        })
    }
}

impl<'de, T: Item> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let items = deserializer.deserialize_any(OneOrMany(PhantomData))?;
        Ok(Self(items))
    }
}

struct OneOrMany<T>(PhantomData<T>);

impl<'de, T: Item> de::Visitor<'de> for OneOrMany<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, or a list of them", T::EXPECTED)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Vec<T>, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
        Ok(vec![text.parse().map_err(E::custom)?])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut items = Vec::new();
        while let Some(Element(item)) = list.next_element()? {
            items.push(item);
        }
        if items.is_empty() {
            return Err(de::Error::custom("the list is empty: nothing would fit"));
        }
        Ok(items)
    }
}

/// An item where a list of them is not meant, so that an error is located at it.
struct Element<T>(T);

impl<'de, T: Item> Deserialize<'de> for Element<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(One(PhantomData)).map(Self)
    }
}

struct One<T>(PhantomData<T>);

impl<T: Item> de::Visitor<'_> for One<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list<T: Item>(json: &str) -> Result<List<T>, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn a_path_is_a_folder_or_has_stars() {
        let cases = [
            ("/static/", "/static/a/b.css", true),
            ("/static/", "/static/", true),
            ("/static/", "/static", false),
            ("/static/", "/statics/a", false),
            ("/static", "/static", true),
            ("/static", "/static/a", true),
            ("/static", "/statics", false),
            ("/favicon.ico", "/favicon.ico", true),
            ("*.js", "/a/b.js", true),
            ("*.js", "/a/b.js/c", false),
            ("*.js", "/a/b.JS", false),
            ("/assets/*.png", "/assets/a/b.png", true),
            ("/assets/*.png", "/assets/.png", true),
            ("/assets/*.png", "/asset/b.png", false),
            ("/*/img/*/small*", "/a/img/b/small.png", true),
            ("/*/img/*/small*", "/a/img/small.png", false),
            ("/ab*ba", "/aba", false),
            ("/ab*ba", "/abba", true),
        ];
        for (pattern, path, fits) in cases {
            let known: List<PathPattern> = list(&format!("[\"{pattern}\"]")).unwrap();
            assert_eq!(known.has_path(path), fits, "{pattern} {path}");
        }
    }

    #[test]
    fn what_no_path_can_be_and_what_every_path_is_are_refused() {
        for text in [
            "", "js", ".js", "a/b", "/a?b", "/a b", "/a#b", "/", "*", "/*", "**",
        ] {
            assert!(text.parse::<PathPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn statuses_are_numbers_and_ranges() {
        let statuses: List<Statuses> = list(r#"[404, "200-299", "301"]"#).unwrap();
        let has = |status| statuses.has_status(StatusCode::from_u16(status).unwrap());
        for (status, fits) in [
            (200, true),
            (299, true),
            (300, false),
            (301, true),
            (302, false),
            (404, true),
            (199, false),
        ] {
            assert_eq!(has(status), fits, "{status}");
        }
        assert!(list::<Statuses>("503").is_ok());
        for json in [
            "99",
            "600",
            "-1",
            "\"299-200\"",
            "\"2xx\"",
            "\"200-\"",
            "2.5",
            "[]",
            "[[]]",
            "{}",
            "true",
        ] {
            assert!(list::<Statuses>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_media_type_fits_whatever_its_case_and_parameters() {
        let types: List<MediaType> = list(r#"["Text/CSS", "image/*"]"#).unwrap();
        for (content_type, fits) in [
            ("text/css", true),
            ("TEXT/css; charset=utf-8", true),
            (" text/css ;x", true),
            ("text/css2", false),
            ("image/svg+xml", true),
            ("images/png", false),
            ("image", false),
            ("", false),
        ] {
            assert_eq!(types.has_type(content_type), fits, "{content_type}");
        }
        for json in [
            "\"*/*\"",
            "\"css\"",
            "\"text/\"",
            "\"/css\"",
            "\"text/css; q=1\"",
            "\"*/css\"",
            "\"te xt/css\"",
            "\"text/c*\"",
            "[]",
            "7",
        ] {
            assert!(list::<MediaType>(json).is_err(), "{json}");
        }
    }
}
