//! Files that a route answers with, as they are written.

use std::{fmt, str::FromStr};

use edgeway_sdk::{
    Coding, Template,
    template::Variable,
    types::{FilePath, Size},
};
use http::{HeaderValue, StatusCode};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{
    At, Entries,
    scalar::{from_text, from_text_or_number},
};

/// `files: /srv/app/static`, or `files: { alias: /srv/app/static, precompressed: [br, gzip] }`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FullFiles {
    /// The folder below which the whole path is looked for.
    pub(crate) root: Option<At<FilePath>>,
    /// The same for what is left of the path without what the route's own path has matched.
    pub(crate) alias: Option<At<FilePath>>,
    /// What of a folder answers for it: the first that is there. `index.html` if not given.
    pub(crate) index: Option<Vec<At<IndexName>>>,
    /// What is looked for, in turn; the path as a file, then as a folder, if not given.
    pub(crate) try_files: Option<At<Vec<At<Candidate>>>>,
    /// What becomes of a request for which nothing is found; 404 if not given.
    pub(crate) fallback: Option<At<Fallback>>,
    /// Codings of which there may be siblings, the best first.
    pub(crate) precompressed: Option<At<Vec<Coding>>>,
    /// Whether names that begin with a dot are served.
    pub(crate) hidden: bool,
    pub(crate) symlinks: Symlinks,
    /// Whether a folder without an index is answered with a page of what is in it.
    pub(crate) listing: bool,
    /// By the ends of names, before what is known anyway.
    pub(crate) types: Entries<MediaType>,
    /// For ends of names that nobody knows.
    pub(crate) default_type: Option<MediaType>,
    pub(crate) charset: Charset,
    pub(crate) etag: Tags,
    pub(crate) memory: MaybeMemory,
}

/// `files`, of which a folder alone is the `root`.
#[derive(Debug)]
pub(crate) enum Files {
    Folder(FilePath),
    Full(Box<FullFiles>),
}

impl<'de> Deserialize<'de> for Files {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Files;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a folder, or a map with `root` or `alias`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Files, E> {
                Ok(Files::Folder(FilePath(text.into())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Files, A::Error> {
                let full = FullFiles::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Files::Full(Box::new(full)))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// A value in what is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// The path below the folder.
    Path,
    /// Any other.
    Of(Variable),
}

impl FromStr for Value {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "path" => Ok(Self::Path),
            other => Variable::parse_beside(other, &[]).map(Self::Of),
        }
    }
}

/// A path to look for: `{path}.html`, or `{path}/` for a folder with an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate(pub(crate) Template<Value>);

impl FromStr for Candidate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') && !text.starts_with("{path}") {
            return Err(format!(
                "expected a path that begins with `/` or `{{path}}`, found `{text}`"
            ));
        }
        if text.contains(['?', '#']) {
            return Err(format!("a file has no query: `{text}`"));
        }
        text.parse().map(Self)
    }
}

from_text!(Candidate, "a path such as `{path}.html`");

/// The name of a file in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexName(pub(crate) String);

impl FromStr for IndexName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text == "." || text == ".." || text.contains(['/', '\0']) {
            return Err(format!(
                "expected the name of a file such as `index.html`, found `{text}`"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

from_text!(IndexName, "the name of a file such as `index.html`");

/// What becomes of a request for which nothing is found.
#[derive(Clone, Debug)]
pub(crate) enum Fallback {
    Status(StatusCode),
    /// A file below the folder.
    File(String),
    /// It goes on as one of this route.
    Route(At<String>),
}

impl<'de> Deserialize<'de> for Fallback {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Other {
            route: Option<At<String>>,
        }

        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Fallback;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status, a file such as `/index.html`, or `{ route: NAME }`")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Fallback, E> {
                let status = u16::try_from(number)
                    .ok()
                    .filter(|number| (400..=599).contains(number))
                    .and_then(|number| StatusCode::from_u16(number).ok());
                let wrong = || format!("expected a status from 400 to 599, found {number}");
                status
                    .map(Fallback::Status)
                    .ok_or_else(|| E::custom(wrong()))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Fallback, E> {
                if !text.starts_with('/') {
                    let wrong = format!(
                        "expected a status, a file such as `/index.html`, or `{{ route: NAME }}`, found `{text}`"
                    );
                    return Err(E::custom(wrong));
                }
                if text.contains(['?', '#']) {
                    let wrong = format!(
                        "a file has no query: `{text}`. For an application give the route an `upstream` with a `rewrite`"
                    );
                    return Err(E::custom(wrong));
                }
                if text.ends_with('/') {
                    let wrong = format!("expected a file such as `/index.html`, found `{text}`");
                    return Err(E::custom(wrong));
                }
                Ok(Fallback::File(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Fallback, A::Error> {
                let other = Other::deserialize(MapAccessDeserializer::new(map))?;
                let nothing = || de::Error::custom("expected `{ route: NAME }`");
                other.route.map(Fallback::Route).ok_or_else(nothing)
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// Which symbolic links are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Symlinks {
    /// Those that don't lead out of the folder.
    #[default]
    Inside,
    Any,
    None,
}

/// `text/html`, perhaps with parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MediaType(pub(crate) HeaderValue);

impl FromStr for MediaType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected a media type such as `text/html`, found `{text}`");
        let is_token = |part: &str| {
            let usable = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            !part.is_empty() && part.chars().all(usable)
        };
        let essence = text.split(';').next().unwrap_or_default().trim();
        let (kind, subtype) = essence.split_once('/').ok_or_else(wrong)?;
        if !is_token(kind) || !is_token(subtype) {
            return Err(wrong());
        }
        text.parse().map(Self).map_err(|_| wrong())
    }
}

from_text!(MediaType, "a media type such as `text/html`");

/// What is said of the characters of a text; `none` for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Charset(pub(crate) Option<String>);

impl Default for Charset {
    fn default() -> Self {
        Self(Some("utf-8".to_owned()))
    }
}

impl FromStr for Charset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let usable = |c: char| c.is_ascii_alphanumeric() || "-_.:+".contains(c);
        match text {
            "none" => Ok(Self(None)),
            name if !name.is_empty() && name.chars().all(usable) => Ok(Self(Some(name.to_owned()))),
            _ => Err(format!(
                "expected a charset such as `utf-8`, or `none`, found `{text}`"
            )),
        }
    }
}

from_text!(Charset, "a charset such as `utf-8`, or `none`");

/// Which entity tags files have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tags {
    #[default]
    Strong,
    Weak,
    None,
}

/// What is kept of small files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FileMemory {
    /// Of all of them.
    pub(crate) size: FileSize,
    /// Larger ones are not kept.
    pub(crate) max_file: FileSize,
}

impl Default for FileMemory {
    fn default() -> Self {
        Self {
            size: FileSize(32 << 20),
            max_file: FileSize(128 << 10),
        }
    }
}

/// A size that is not 0, and no more than a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileSize(pub(crate) usize);

impl FromStr for FileSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Size(size) = text.parse()?;
        let fitting = usize::try_from(size).ok().filter(|size| *size > 0);
        let wrong = || "nothing would be kept; to have it so, write `memory: off`".to_owned();
        fitting.map(Self).ok_or_else(wrong)
    }
}

from_text_or_number!(FileSize, "a size such as `64KiB`");

/// `memory`, which may be `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MaybeMemory(pub(crate) Option<FileMemory>);

impl Default for MaybeMemory {
    fn default() -> Self {
        Self(Some(FileMemory::default()))
    }
}

impl<'de> Deserialize<'de> for MaybeMemory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = MaybeMemory;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`off`, or a map such as `{ size: 32MiB, max_file: 128KiB }`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<MaybeMemory, E> {
                match text {
                    "off" => Ok(MaybeMemory(None)),
                    _ => Err(E::custom(format!(
                        "expected `off` or a map, found `{text}`"
                    ))),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<MaybeMemory, A::Error> {
                let memory = FileMemory::deserialize(MapAccessDeserializer::new(map))?;
                if memory.max_file > memory.size {
                    let message = "`max_file` is larger than `size`: such a file could not be kept";
                    return Err(de::Error::custom(message));
                }
                Ok(MaybeMemory(Some(memory)))
            }
        }

        deserializer.deserialize_any(Either)
    }
}
