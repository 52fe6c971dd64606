//! Which objects a purge is for, and how they are found without a table of tags or hosts: every slot has
//! four bytes of each, so that going over all of them reads only slots, and the few objects that fit.

use xxhash_rust::xxh3::xxh3_64;

use super::object::{Filing, Object};

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
    Tag(&'a str),
}

/// What becomes of purged objects.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purge {
    /// They are gone. What is just being written will not be stored either.
    Remove,
    /// They are stale from then on, in milliseconds since 1970.
    Stale(u64),
}

/// What a slot tells of its object: never less than what is there.
#[derive(Clone, Copy, Default)]
pub(super) struct Mark {
    host: u32,
    /// One bit for each tag.
    tags: u32,
}

impl Mark {
    pub(super) fn new<M>(object: &Object<M>) -> Self {
        Self {
            host: host(object.host()),
            tags: tags(object.filing()).fold(0, |all, tag| all | bit(tag)),
        }
    }
}

/// A selection that is going to be asked often.
pub(super) struct Search<'a> {
    selection: Selection<'a>,
    host: u32,
    tag: u32,
}

impl<'a> Search<'a> {
    pub(super) fn new(selection: Selection<'a>) -> Self {
        let (host, tag) = match selection {
            Selection::All => (0, 0),
            Selection::Host(name) | Selection::Prefix { host: name, .. } => (host(name), 0),
            Selection::Tag(tag) => (0, bit(tag)),
        };
        Self {
            selection,
            host,
            tag,
        }
    }

    /// False only when the object is not meant.
    pub(super) fn may_be(&self, mark: Mark) -> bool {
        match self.selection {
            Selection::All => true,
            Selection::Host(_) | Selection::Prefix { .. } => mark.host == self.host,
            Selection::Tag(_) => mark.tags & self.tag != 0,
        }
    }

    pub(super) fn is<M>(&self, object: &Object<M>) -> bool {
        match self.selection {
            Selection::All => true,
            Selection::Host(host) => object.host() == host,
            Selection::Prefix { host, path } => {
                object.host() == host && object.path().starts_with(path)
            }
            Selection::Tag(wanted) => tags(object.filing()).any(|tag| tag == wanted),
        }
    }
}

fn tags(filing: &Filing) -> impl Iterator<Item = &str> {
    filing.tags.split(' ').filter(|tag| !tag.is_empty())
}

fn host(name: &[u8]) -> u32 {
    xxh3_64(name) as u32
}

fn bit(tag: &str) -> u32 {
    1 << (xxh3_64(tag.as_bytes()) % 32)
}
