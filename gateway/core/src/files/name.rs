//! From a path of a URL to the name of a file.

use percent_encoding::percent_decode_str;
use smallvec::SmallVec;

/// The path of a file below a folder, as the file system takes it: without a slash at its beginning or end, and
/// without anything that would lead elsewhere. Empty for the folder itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name(SmallVec<[u8; 64]>);

/// A path that no file has, or none that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unservable;

/// Which names are served.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    /// Those that begin with a dot.
    pub(crate) hidden: bool,
}

/// What begins with a dot and is served nevertheless (RFC 8615).
const WELL_KNOWN: &[u8] = b".well-known";

impl Name {
    /// Reads a path. Escapes are decoded once, segment by segment, so that what comes of them is never a separator.
    ///
    /// # Errors
    ///
    /// A segment is a dot segment, or has a slash or a zero in it, or is hidden.
    pub(crate) fn parse(path: &str, rules: Rules) -> Result<Self, Unservable> {
        let mut name = SmallVec::new();
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            if !name.is_empty() {
                name.push(b'/');
            }
            let begin = name.len();
            if segment.contains('%') {
                name.extend(percent_decode_str(segment));
            } else {
                name.extend_from_slice(segment.as_bytes());
            }
            let decoded = name.get(begin..).unwrap_or_default();
            if !is_servable(decoded, rules, begin == 0) {
                return Err(Unservable);
            }
        }
        Ok(Self(name))
    }

    /// The name of something in the folder of this name.
    pub(crate) fn below(&self, entry: &[u8]) -> Self {
        let mut name = SmallVec::with_capacity(self.0.len() + 1 + entry.len());
        name.extend_from_slice(&self.0);
        if !name.is_empty() {
            name.push(b'/');
        }
        name.extend_from_slice(entry);
        Self(name)
    }

    /// The name of a file beside this one, with another end.
    pub(crate) fn with_end(&self, end: &str) -> Self {
        let mut name = SmallVec::with_capacity(self.0.len() + end.len());
        name.extend_from_slice(&self.0);
        name.extend_from_slice(end.as_bytes());
        Self(name)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is that of the folder itself.
    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether a segment may be the name of what is served, `first` of all below the folder.
pub(super) fn is_servable(segment: &[u8], rules: Rules, first: bool) -> bool {
    match segment {
        b"" | b"." | b".." => false,
        _ if segment.iter().any(|byte| matches!(byte, b'/' | 0)) => false,
        [b'.', ..] => rules.hidden || first && segment == WELL_KNOWN,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Option<Vec<u8>> {
        let name = Name::parse(path, Rules::default()).ok()?;
        Some(name.as_bytes().to_vec())
    }

    #[test]
    fn escapes_are_decoded_once_and_segments_stay_segments() {
        for (path, name) in [
            ("/", ""),
            ("/a", "a"),
            ("/a/b.css", "a/b.css"),
            ("/a/", "a"),
            ("/a%20b/%41", "a b/A"),
            ("/%2541", "%41"),
            ("/a//b", "a/b"),
            ("/a%5Cb", "a\\b"),
            ("/a..b", "a..b"),
            ("/%", "%"),
            ("/.well-known/acme", ".well-known/acme"),
        ] {
            let expected = (!name.is_empty() || path == "/").then(|| name.as_bytes().to_vec());
            assert_eq!(parse(path), expected, "{path}");
        }
        assert_eq!(parse("/%FF%C0%AF"), Some(vec![0xff, 0xc0, 0xaf]));
    }

    #[test]
    fn what_would_lead_elsewhere_or_is_hidden_is_no_name() {
        for path in [
            "/..",
            "/a/..",
            "/a/../b",
            "/.",
            "/%2e%2e",
            "/%2E%2e/x",
            "/.%2e",
            "/a%2Fb",
            "/..%2Fb",
            "/a%00",
            "/.git/config",
            "/a/.env",
            "/%2eenv",
            "/a/.well-known",
            "/.well-known2",
        ] {
            assert_eq!(parse(path), None, "{path}");
        }
        let hidden = Rules { hidden: true };
        assert!(Name::parse("/a/.env", hidden).is_ok());
        assert!(Name::parse("/a/..", hidden).is_err());
        assert!(Name::parse("/%2e", hidden).is_err());
    }
}
