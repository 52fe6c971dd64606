//! Which objects a purge is for, and how they are found without a table of tags or hosts: every slot has
//! eight bytes of them, so that going over all of them reads only slots, and the few objects that fit.

use xxhash_rust::xxh3::xxh3_64;

use super::object::{Filing, Object, part};

/// The objects that a purge is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Selection<'a> {
    All,
    /// The host as it is in keys.
    Host(&'a [u8]),
    /// Paths of one host that begin so, byte by byte.
    Prefix {
        host: &'a [u8],
        path: &'a [u8],
    },
    /// A path of one host with some endings of the name, or with whatever follows.
    Page {
        host: &'a [u8],
        path: &'a [u8],
        endings: Option<&'a [Ending]>,
    },
    Tag(&'a str),
}

/// How a name begins that ends so after its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) beginning: Box<[u8]>,
    pub(crate) ending: Box<[u8]>,
}

/// A selection that is kept.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    All,
    Host(Box<[u8]>),
    Prefix {
        host: Box<[u8]>,
        path: Box<[u8]>,
    },
    Page {
        host: Box<[u8]>,
        path: Box<[u8]>,
        endings: Option<Box<[Ending]>>,
    },
    Tag(Box<str>),
}

/// What becomes of purged objects.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purge {
    /// They are gone. What is just being written will not be stored either.
    Remove,
    /// They are stale from then on, in milliseconds since 1970.
    Stale(u64),
}

impl Selection<'_> {
    /// Whether an object with this name is meant.
    pub(crate) fn means(&self, name: &[u8], filing: &Filing) -> bool {
        let host_is = |host: &[u8]| part(name, &filing.host) == host;
        match self {
            Self::All => true,
            Self::Host(host) => host_is(host),
            Self::Prefix { host, path } => {
                host_is(host) && part(name, &filing.path).starts_with(path)
            }
            Self::Page {
                host,
                path,
                endings,
            } => {
                let rest = || name.get(filing.path.end as usize..).unwrap_or_default();
                let ends_so = || endings.is_none_or(|endings| are_among(name, rest(), endings));
                host_is(host) && part(name, &filing.path) == *path && ends_so()
            }
            Self::Tag(wanted) => tags(filing).any(|tag| tag == *wanted),
        }
    }
}

impl Wanted {
    pub(crate) fn selection(&self) -> Selection<'_> {
        match self {
            Self::All => Selection::All,
            Self::Host(host) => Selection::Host(host),
            Self::Prefix { host, path } => Selection::Prefix { host, path },
            Self::Page {
                host,
                path,
                endings,
            } => Selection::Page {
                host,
                path,
                endings: endings.as_deref(),
            },
            Self::Tag(tag) => Selection::Tag(tag),
        }
    }
}

impl From<Selection<'_>> for Wanted {
    fn from(selection: Selection<'_>) -> Self {
        match selection {
            Selection::All => Self::All,
            Selection::Host(host) => Self::Host(host.into()),
            Selection::Prefix { host, path } => Self::Prefix {
                host: host.into(),
                path: path.into(),
            },
            Selection::Page {
                host,
                path,
                endings,
            } => Self::Page {
                host: host.into(),
                path: path.into(),
                endings: endings.map(Into::into),
            },
            Selection::Tag(tag) => Self::Tag(tag.into()),
        }
    }
}

fn are_among(name: &[u8], rest: &[u8], endings: &[Ending]) -> bool {
    endings
        .iter()
        .any(|one| *one.ending == *rest && name.starts_with(&one.beginning))
}

/// What a slot tells of its object, never less than what is there: 16 bits of the host, 16 of the path, and
/// one bit for each tag.
#[derive(Clone, Copy, Default)]
pub(super) struct Mark(u64);

impl Mark {
    pub(super) fn new<M>(object: &Object<M>) -> Self {
        let tags = tags(object.filing()).fold(0, |all, tag| all | bit(tag));
        Self(of_host(object.host()) | of_path(object.path()) | tags)
    }
}

/// Selections that are going to be asked often.
pub(super) struct Search<'a> {
    selections: &'a [Selection<'a>],
    /// The bits of a mark that tell something, and what they are.
    marks: Box<[(u64, u64)]>,
}

impl<'a> Search<'a> {
    pub(super) fn new(selections: &'a [Selection<'a>]) -> Self {
        let mark = |selection: &Selection<'_>| match selection {
            Selection::All => (0, 0),
            Selection::Host(host) | Selection::Prefix { host, .. } => (HOST, of_host(host)),
            Selection::Page { host, path, .. } => (HOST | PATH, of_host(host) | of_path(path)),
            Selection::Tag(tag) => (bit(tag), bit(tag)),
        };
        Self {
            selections,
            marks: selections.iter().map(mark).collect(),
        }
    }

    /// False only when the object is not meant.
    pub(super) fn may_be(&self, mark: Mark) -> bool {
        self.marks.iter().any(|(bits, are)| mark.0 & bits == *are)
    }

    pub(super) fn is<M>(&self, object: &Object<M>) -> bool {
        self.selections
            .iter()
            .any(|selection| selection.means(object.name(), object.filing()))
    }
}

fn tags(filing: &Filing) -> impl Iterator<Item = &str> {
    filing.tags.split(' ').filter(|tag| !tag.is_empty())
}

fn of_host(host: &[u8]) -> u64 {
    xxh3_64(host) << 48
}

fn of_path(path: &[u8]) -> u64 {
    xxh3_64(path) << 48 >> 16
}

fn bit(tag: &str) -> u64 {
    1 << (xxh3_64(tag.as_bytes()) % 32)
}

const HOST: u64 = 0xFFFF << 48;
const PATH: u64 = 0xFFFF << 32;
