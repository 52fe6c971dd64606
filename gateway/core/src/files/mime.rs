//! What type a file is of, by its name.

use std::collections::BTreeMap;

use http::HeaderValue;

/// The types that files of a target have.
#[derive(Clone, Debug)]
pub(crate) struct Types {
    /// By extension, in small letters and without the first dot.
    own: BTreeMap<Box<str>, HeaderValue>,
    default: HeaderValue,
    charset: Option<Box<str>>,
}

impl Types {
    /// `own` come before those that are known. None of them, nor `default`, gets the `charset` if it names one.
    pub(crate) fn new(
        own: impl IntoIterator<Item = (String, HeaderValue)>,
        default: &HeaderValue,
        charset: Option<&str>,
    ) -> Self {
        let own = own.into_iter().map(|(extension, of)| {
            let extension = extension.trim_start_matches('.').to_ascii_lowercase();
            (extension.into_boxed_str(), with_charset(&of, charset))
        });
        Self {
            own: own.collect(),
            default: with_charset(default, charset),
            charset: charset.map(Into::into),
        }
    }

    /// The value of `Content-Type` for a file of this name, which may have folders before it. One without an extension, or with an unknown one,
    /// has the default. Of several extensions the last one counts, but for those of our own: `tar.gz`.
    pub(crate) fn of(&self, name: &[u8]) -> HeaderValue {
        let mut last = None;
        let name = name.rsplit(|byte| *byte == b'/').next().unwrap_or(name);
        for extension in extensions(name) {
            let extension = extension.to_ascii_lowercase();
            if let Some(of) = self.own.get(extension.as_str()) {
                return of.clone();
            }
            last = Some(extension);
        }
        let Some(known) = last.as_deref().and_then(known) else {
            return self.default.clone();
        };
        match &self.charset {
            Some(charset) if needs_charset(known) => joined(known, charset),
            Some(_) | None => HeaderValue::from_static(known),
        }
    }
}

impl Default for Types {
    fn default() -> Self {
        let default = HeaderValue::from_static(UNKNOWN);
        Self::new([], &default, Some(CHARSET))
    }
}

/// The type of a file with this extension, in small letters. None if it is not known.
fn known(extension: &str) -> Option<&'static str> {
    let corrected = CORRECTIONS
        .iter()
        .find_map(|(of, corrected)| (*of == extension).then_some(*corrected));
    corrected.or_else(|| new_mime_guess::from_ext(extension).first_raw())
}

/// What follows each dot of a name but one at its beginning, the longest first. The rest of the name may be
/// anything.
fn extensions(name: &[u8]) -> impl Iterator<Item = &str> {
    let dots = name.iter().enumerate().skip(1);
    let dots = dots.filter_map(|(at, byte)| (*byte == b'.').then_some(at));
    dots.filter_map(|at| str::from_utf8(name.get(at + 1..)?).ok())
}

/// A type with the charset, if it is one that needs it and has none.
fn with_charset(of: &HeaderValue, charset: Option<&str>) -> HeaderValue {
    match (of.to_str(), charset) {
        (Ok(text), Some(charset)) if needs_charset(text) => joined(text, charset),
        _ => of.clone(),
    }
}

fn joined(of: &str, charset: &str) -> HeaderValue {
    let text = format!("{of}; charset={charset}");
    // Neither has anything that a header may not have, which was looked at when they were read.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(UNKNOWN))
}

/// Whether a browser that is not told the charset would guess it. JSON has but one, and XML names its own.
fn needs_charset(of: &str) -> bool {
    let of = of.to_ascii_lowercase();
    let text = of.starts_with("text/") && !of.starts_with("text/xml");
    (text || of == "application/javascript") && !of.contains(';')
}

/// What the database says otherwise than browsers want it.
const CORRECTIONS: [(&str, &str); 4] = [
    // A module of another type is not run.
    ("mjs", "text/javascript"),
    ("cjs", "text/javascript"),
    ("tgz", "application/gzip"),
    ("yaml", "application/yaml"),
];
const UNKNOWN: &str = "application/octet-stream";
const CHARSET: &str = "utf-8";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_the_types_that_browsers_want() {
        let types = Types::default();
        for (name, expected) in [
            ("index.html", "text/html; charset=utf-8"),
            ("a.HTM", "text/html; charset=utf-8"),
            ("style.css", "text/css; charset=utf-8"),
            ("app.js", "text/javascript; charset=utf-8"),
            ("app.min.JS", "text/javascript; charset=utf-8"),
            ("module.mjs", "text/javascript; charset=utf-8"),
            ("app.js.map", "application/json"),
            ("data.json", "application/json"),
            ("site.webmanifest", "application/manifest+json"),
            ("readme.md", "text/markdown; charset=utf-8"),
            ("robots.txt", "text/plain; charset=utf-8"),
            ("table.csv", "text/csv; charset=utf-8"),
            ("feed.xml", "application/xml"),
            ("logo.svg", "image/svg+xml"),
            ("favicon.ico", "image/vnd.microsoft.icon"),
            ("photo.jpg", "image/jpeg"),
            ("photo.jpeg", "image/jpeg"),
            ("photo.png", "image/png"),
            ("photo.webp", "image/webp"),
            ("photo.avif", "image/avif"),
            ("a.woff", "font/woff"),
            ("a.woff2", "font/woff2"),
            ("a.ttf", "font/ttf"),
            ("a.wasm", "application/wasm"),
            ("a.mp4", "video/mp4"),
            ("a.webm", "video/webm"),
            ("a.mp3", "audio/mpeg"),
            ("a.pdf", "application/pdf"),
            ("a.zip", "application/zip"),
            ("a.tar.gz", "application/gzip"),
            ("a.vtt", "text/vtt; charset=utf-8"),
            ("unknown.abcde", "application/octet-stream"),
            ("LICENSE", "application/octet-stream"),
            (".html", "application/octet-stream"),
            (".profile.html", "text/html; charset=utf-8"),
            ("a.js/b.html", "text/html; charset=utf-8"),
            ("a.js/.html", "application/octet-stream"),
            ("a.js/b", "application/octet-stream"),
            ("a.", "application/octet-stream"),
            ("a.html.", "application/octet-stream"),
            ("", "application/octet-stream"),
            ("html", "application/octet-stream"),
        ] {
            assert_eq!(types.of(name.as_bytes()), expected, "{name}");
        }
        assert_eq!(types.of(b"caf\xe9.html"), "text/html; charset=utf-8");
        assert_eq!(types.of(b"a.caf\xe9"), UNKNOWN);
    }

    #[test]
    fn types_of_our_own_come_first() {
        let own = [
            ("wasm", "application/x-own"),
            (".TXT", "text/x-own"),
            ("tar.gz", "application/x-tgz"),
            ("latin", "text/plain; charset=iso-8859-1"),
        ];
        let own = own.map(|(name, of)| (name.to_owned(), HeaderValue::from_static(of)));
        let default = HeaderValue::from_static("text/plain");
        let types = Types::new(own, &default, Some("utf-8"));
        for (name, expected) in [
            ("a.wasm", "application/x-own"),
            ("a.txt", "text/x-own; charset=utf-8"),
            ("a.TAR.gz", "application/x-tgz"),
            ("a.gz", "application/gzip"),
            ("a.latin", "text/plain; charset=iso-8859-1"),
            ("a.unknown", "text/plain; charset=utf-8"),
        ] {
            assert_eq!(types.of(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn without_a_charset_none_is_told() {
        let types = Types::new([], &HeaderValue::from_static("text/plain"), None);
        assert_eq!(types.of(b"a.html"), "text/html");
        assert_eq!(types.of(b"a"), "text/plain");
        let types = Types::new(
            [],
            &HeaderValue::from_static("text/plain"),
            Some("iso-8859-1"),
        );
        assert_eq!(types.of(b"a.html"), "text/html; charset=iso-8859-1");
    }
}
