//! Which objects a purge is for. The index has eight bytes of each, which tell most of those apart that
//! are not meant; what is meant is seen when the file is read.

use std::sync::atomic::{AtomicU64, Ordering};

use xxhash_rust::xxh3::xxh3_64;

use super::super::memory::{Filing, Purge, Selection, Wanted};

/// What the index tells of an object, never less than what is there: 16 bits of the host, 16 of the path,
/// and one bit for each tag.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traits(u64);

impl Traits {
    pub(super) fn new(name: &[u8], filing: &Filing) -> Self {
        let part = |range: &std::ops::Range<u32>| {
            name.get(range.start as usize..range.end as usize)
                .unwrap_or_default()
        };
        let tags = filing.tags.split(' ').filter(|tag| !tag.is_empty());
        let tags = tags.fold(0, |all, tag| all | of_tag(tag));
        Self(of_host(part(&filing.host)) | of_path(part(&filing.path)) | tags)
    }
}

/// A purge of all that is meant by one of some selections, and older than it.
#[derive(Debug)]
pub(super) struct Ban {
    /// Each with the bits that tell something, and what they are.
    wanted: Box<[(Wanted, u64, u64)]>,
    pub(super) purge: Purge,
    /// Files with a lower number are older.
    before: AtomicU64,
}

impl Ban {
    pub(super) fn new(selections: &[Selection<'_>], purge: Purge, before: u64) -> Self {
        let wanted = selections.iter().map(|selection| {
            let (bits, are) = traits(selection);
            (Wanted::from(*selection), bits, are)
        });
        Self {
            wanted: wanted.collect(),
            purge,
            before: AtomicU64::new(before),
        }
    }

    /// Files with a lower number turn out to be older, too.
    pub(super) fn raise(&self, before: u64) {
        self.before.fetch_max(before, Ordering::AcqRel);
    }

    /// Whether the file is older than the purge.
    pub(super) fn is_for(&self, number: u64) -> bool {
        number < self.before.load(Ordering::Acquire)
    }

    /// Whether it means all objects, whatever is in them.
    pub(super) fn is_for_all(&self) -> bool {
        let all = |wanted: &Wanted| matches!(wanted, Wanted::All);
        self.wanted.iter().any(|(wanted, ..)| all(wanted))
    }

    /// False only when the object is not meant.
    pub(super) fn may_mean(&self, traits: Traits) -> bool {
        let fits = |bits, are| traits.0 & bits == are;
        self.wanted.iter().any(|(_, bits, are)| fits(bits, *are))
    }

    pub(super) fn means(&self, name: &[u8], filing: &Filing) -> bool {
        let means = |wanted: &Wanted| wanted.selection().means(name, filing);
        self.wanted.iter().any(|(wanted, ..)| means(wanted))
    }
}

fn traits(selection: &Selection<'_>) -> (u64, u64) {
    match selection {
        Selection::All => (0, 0),
        Selection::Host(host) | Selection::Prefix { host, .. } => (HOST, of_host(host)),
        Selection::Page { host, path, .. } => (HOST | PATH, of_host(host) | of_path(path)),
        Selection::Tag(tag) => (of_tag(tag), of_tag(tag)),
    }
}

fn of_host(host: &[u8]) -> u64 {
    xxh3_64(host) << 48
}

fn of_path(path: &[u8]) -> u64 {
    xxh3_64(path) << 48 >> 16
}

fn of_tag(tag: &str) -> u64 {
    1 << (xxh3_64(tag.as_bytes()) % 32)
}

const HOST: u64 = 0xFFFF << 48;
const PATH: u64 = 0xFFFF << 32;
