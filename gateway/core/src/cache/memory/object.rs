//! What is stored under a key.

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

use smallvec::SmallVec;

use super::{
    body::{Body, Chunks},
    budget::allocation,
};

/// What an object is looked up by: the hash finds it, the rest tells it from another with the same hash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key<'a> {
    /// Of the name and the variant. An attacker must not be able to choose it: seed it.
    pub(crate) hash: u128,
    /// The whole key, each part framed by whoever made it.
    pub(crate) name: &'a [u8],
    /// Which of the variants of that name, as `Vary` has it.
    pub(crate) variant: Option<&'a [u8; 16]>,
}

/// What an object can be purged by, besides its key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filing {
    /// Where the host is in the name of the key.
    pub(crate) host: Range<u32>,
    /// Where the path is in the name of the key.
    pub(crate) path: Range<u32>,
    /// Tags, separated by spaces.
    pub(crate) tags: Box<str>,
}

/// A response that is stored, or is being written.
pub(crate) struct Object<M> {
    /// Most keys are short enough to stand here, one memory access less for each hit.
    name: SmallVec<[u8; 64]>,
    variant: Option<[u8; 16]>,
    hash: u128,
    filing: Filing,
    head: M,
    head_size: usize,
    body: Body,
    size: usize,
    expires: u32,
    /// Milliseconds since 1970, or zero: not marked.
    stale: AtomicU64,
    /// Until when one request alone fetches a newer one, in milliseconds since 1970.
    claimed: AtomicU64,
}

/// All of an object but its body.
pub(crate) struct Draft<'a, M> {
    pub(crate) key: Key<'a>,
    pub(crate) head: M,
    /// What the head takes in memory beyond `size_of::<M>()`, in bytes.
    pub(crate) head_size: usize,
    pub(crate) filing: Filing,
    /// In seconds since 1970: from then on the object is of no use, not even stale, and is dropped first.
    pub(crate) expires: u32,
    /// Whether others find it while it is still being written. If not, they go on finding what it is to
    /// replace.
    pub(crate) shared: bool,
}

impl<M> Object<M> {
    pub(super) fn new(draft: Draft<'_, M>, body: Body) -> Self {
        Self {
            name: SmallVec::from_slice(draft.key.name),
            variant: draft.key.variant.copied(),
            hash: draft.key.hash,
            filing: draft.filing,
            head: draft.head,
            head_size: draft.head_size,
            size: 0,
            body,
            expires: draft.expires,
            stale: AtomicU64::new(0),
            claimed: AtomicU64::new(0),
        }
        .measured()
    }

    fn measured(mut self) -> Self {
        let name = if self.name.spilled() {
            allocation(self.name.len())
        } else {
            0
        };
        let tags = match self.filing.tags.len() {
            0 => 0,
            length => allocation(length),
        };
        let body = match &self.body {
            Body::Whole(chunks) => chunks.size(),
            Body::Filling(_) => 0,
        };
        // An `Arc` has two counts beside the value.
        let own = allocation(size_of::<Self>() + 2 * size_of::<usize>());
        self.size = own + BOOKKEEPING + name + tags + self.head_size + body;
        self
    }

    /// The same with another body.
    pub(super) fn with_body(&self, body: Chunks) -> Self
    where
        M: Clone,
    {
        Self {
            name: self.name.clone(),
            variant: self.variant,
            hash: self.hash,
            filing: self.filing.clone(),
            head: self.head.clone(),
            head_size: self.head_size,
            body: Body::Whole(body),
            size: 0,
            expires: self.expires,
            stale: AtomicU64::new(self.stale.load(Ordering::Relaxed)),
            claimed: AtomicU64::new(0),
        }
        .measured()
    }

    /// The same with another head, and fresh. `None` while its body is not whole.
    pub(super) fn with_head(&self, update: Update<M>) -> Option<Self> {
        let Body::Whole(chunks) = &self.body else {
            return None;
        };
        let object = Self {
            name: self.name.clone(),
            variant: self.variant,
            hash: self.hash,
            filing: update.filing.unwrap_or_else(|| self.filing.clone()),
            head: update.head,
            head_size: update.head_size,
            body: Body::Whole(chunks.clone()),
            size: 0,
            expires: update.expires,
            stale: AtomicU64::new(0),
            claimed: AtomicU64::new(0),
        };
        Some(object.measured())
    }

    pub(crate) fn key(&self) -> Key<'_> {
        Key {
            hash: self.hash,
            name: &self.name,
            variant: self.variant.as_ref(),
        }
    }

    pub(super) fn is(&self, key: &Key<'_>) -> bool {
        self.hash == key.hash
            && self.variant.as_ref() == key.variant
            && self.name.as_slice() == key.name
    }

    pub(crate) fn head(&self) -> &M {
        &self.head
    }

    pub(super) fn body(&self) -> &Body {
        &self.body
    }

    /// The whole body; `None` while it is being written.
    pub(crate) fn chunks(&self) -> Option<&Chunks> {
        match &self.body {
            Body::Whole(chunks) => Some(chunks),
            Body::Filling(_) => None,
        }
    }

    pub(super) fn hash(&self) -> u128 {
        self.hash
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    pub(crate) fn filing(&self) -> &Filing {
        &self.filing
    }

    /// What it takes in memory, in bytes: headers, key, whole body and bookkeeping.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn expires(&self) -> u32 {
        self.expires
    }

    /// Since when a purge has it be stale, in milliseconds since 1970.
    pub(crate) fn stale_since(&self) -> Option<u64> {
        match self.stale.load(Ordering::Relaxed) {
            0 => None,
            since => Some(since),
        }
    }

    /// Whether the caller is the one to fetch a newer one, and nobody else until then. Times are in
    /// milliseconds since 1970.
    pub(crate) fn claim(&self, now: u64, until: u64) -> bool {
        let relaxed = Ordering::Relaxed;
        let claimed = self.claimed.load(relaxed);
        let free = || {
            self.claimed
                .compare_exchange(claimed, until, relaxed, relaxed)
        };
        claimed <= now && free().is_ok()
    }

    /// Lets others fetch a newer one from then on.
    pub(crate) fn unclaim(&self, at: u64) {
        self.claimed.store(at, Ordering::Relaxed);
    }

    /// Earlier marks stay.
    pub(crate) fn mark_stale(&self, since: u64) {
        let (relaxed, since) = (Ordering::Relaxed, since.max(1));
        // An error says that it is marked.
        self.stale.compare_exchange(0, since, relaxed, relaxed).ok();
    }

    pub(super) fn host(&self) -> &[u8] {
        part(&self.name, &self.filing.host)
    }

    pub(super) fn path(&self) -> &[u8] {
        part(&self.name, &self.filing.path)
    }
}

/// A new head for an object whose body is still good.
pub(crate) struct Update<M> {
    pub(crate) head: M,
    /// What the head takes in memory beyond `size_of::<M>()`, in bytes.
    pub(crate) head_size: usize,
    /// `None` leaves it as it is.
    pub(crate) filing: Option<Filing>,
    /// In seconds since 1970.
    pub(crate) expires: u32,
}

pub(super) fn part<'a>(name: &'a [u8], range: &Range<u32>) -> &'a [u8] {
    name.get(range.start as usize..range.end as usize)
        .unwrap_or_default()
}

/// The share of an object in tables: its slot, its place in the index (which is between 7/16 and 7/8 full),
/// and one in the memory of those who left.
const BOOKKEEPING: usize = 48 + 20 + 16;
