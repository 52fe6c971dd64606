//! Writes an object into the store.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Store,
    body::Body,
    fill::{Fill, Merge},
    object::{Draft, Object},
};

/// Writes the body of one object. Dropped before it has finished, it breaks the body off for all who read
/// it, and nothing is stored.
pub(crate) struct Writer<'s, M> {
    store: &'s Store<M>,
    object: Arc<Object<M>>,
    id: u64,
    length: Option<u64>,
    now: u32,
    /// Bytes that were stored so far.
    written: u64,
    /// Bytes of the budget that this has.
    taken: usize,
    given_up: bool,
    too_large: bool,
}

/// Why a writer does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The object is not going to be stored, and nobody reads it.
    Unwanted,
    /// The body is not as long as was said.
    Length,
}

impl<'s, M: Clone> Writer<'s, M> {
    pub(super) fn new(
        store: &'s Store<M>,
        draft: Draft<'_, M>,
        id: u64,
        length: Option<u64>,
        now: u32,
    ) -> Self {
        let shared = draft.shared;
        let object = Arc::new(Object::new(draft, Body::Filling(Box::new(Fill::new()))));
        store.shard(object.hash()).begin(object.clone(), id, shared);
        let mut writer = Self {
            store,
            object,
            id,
            length,
            now,
            written: 0,
            taken: 0,
            given_up: false,
            too_large: false,
        };
        let fits = length.is_none_or(|length| length <= store.max_object() as u64);
        writer.too_large = !fits;
        if !fits || !writer.take(writer.object.size()) {
            writer.give_up();
        }
        writer
    }

    /// Tells this writer from others of the same key.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn object(&self) -> &Arc<Object<M>> {
        &self.object
    }

    /// A reader of what is written, from its beginning. `None` when that is gone.
    #[cfg(test)]
    pub(crate) fn reader(&self) -> Option<super::Reader<M>> {
        super::Reader::new(self.object.clone())
    }

    /// Whether the body is larger than any that is stored.
    pub(crate) fn is_too_large(&self) -> bool {
        self.too_large
    }

    /// For how long nobody has read what is written.
    pub(crate) fn alone(&self) -> Duration {
        self.fill().alone()
    }

    /// Waits until those who read a body that is not stored have read most of what was written: no more of
    /// it is held for them. Who has just left or reads nothing while others wait does not count.
    pub(crate) async fn room(&mut self) {
        if !self.given_up {
            return;
        }
        self.fill().room(WINDOW as u64 / 2).await;
        self.give_back();
    }

    /// Adds to the body. `last` is a hint that nothing follows. Never waits.
    ///
    /// When the body becomes too large, or there is no room for it, it goes to its readers only, and no more
    /// should be written before there is [room](Self::room). An error says that there are none, and that
    /// fetching on is in vain.
    pub(crate) fn write(&mut self, piece: Bytes, last: bool) -> Result<(), Refused> {
        if piece.is_empty() {
            return Ok(());
        }
        if !self.given_up && !self.store_piece(&piece, last) {
            self.give_up();
        }
        if !self.given_up {
            return Ok(());
        }
        let wanted = self.fill().pass(piece);
        self.give_back();
        match wanted {
            true => Ok(()),
            false => Err(Refused::Unwanted),
        }
    }

    fn store_piece(&mut self, piece: &[u8], last: bool) -> bool {
        let after = self.written + piece.len() as u64;
        if after > self.store.max_object() as u64 {
            self.too_large = true;
            return false;
        }
        let rest = self
            .length
            .and_then(|length| length.checked_sub(self.written));
        let need = self.fill().need(piece.len(), rest, last);
        if !self.take(need.bytes) {
            return false;
        }
        let freed = self.fill().append(piece, &need);
        let left = self.taken - freed;
        self.settle(left);
        self.written = after;
        true
    }

    /// Ends the body and stores the object in the place of an older one. Tells its size in the store in
    /// bytes, or zero when it is not stored: given up, or purged meanwhile. Its readers then still get all
    /// of it.
    pub(crate) fn finish(mut self, now: u32) -> Result<usize, Refused> {
        self.now = now;
        let length = self.fill().length();
        if self.length.is_some_and(|said| said != length) {
            return Err(Refused::Length);
        }
        let size = if self.given_up {
            0
        } else {
            self.store_object(length)
        };
        self.fill().finish();
        Ok(size)
    }

    fn store_object(&mut self, length: u64) -> usize {
        let merged = self.fill().merged();
        let merge = if merged > 0 && self.take(merged) {
            Merge::Yes
        } else {
            Merge::No
        };
        let chunks = self.fill().chunks(merge);
        let object = Arc::new(self.object.with_body(chunks));
        let (size, hash) = (object.size(), object.hash());
        debug_assert!(
            object
                .chunks()
                .is_some_and(|chunks| chunks.length() == length)
        );
        if !self.settle(size) {
            return 0;
        }
        let mut shard = self.store.shard(hash);
        if !shard.end(hash, self.id) {
            return 0;
        }
        if let Some(since) = self.object.stale_since() {
            object.mark_stale(since);
        }
        let replaced = shard.insert(object, self.now, &self.store.budget);
        drop(shard);
        // They are the stored object's from now on.
        self.taken = 0;
        self.store.give_back(replaced);
        size
    }

    /// Stores nothing: what is written goes to its readers only.
    pub(crate) fn pass_only(&mut self) {
        if !self.given_up {
            self.give_up();
        }
    }

    fn give_up(&mut self) {
        self.store
            .shard(self.object.hash())
            .give_up(self.object.hash(), self.id);
        // All of what was to be stored may still be unread.
        let window = self.store.max_object() + WINDOW;
        self.fill().give_up(window as u64);
        self.given_up = true;
        self.give_back();
    }

    /// Of a body that is not stored, what is not read yet still counts, as far as there was room for it.
    fn give_back(&mut self) {
        let held = usize::try_from(self.fill().held()).unwrap_or(usize::MAX);
        let kept = held.min(self.taken).min(self.store.budget.limit());
        self.settle(kept);
    }

    fn take(&mut self, bytes: usize) -> bool {
        // Nobody has to leave for one that is too large even alone.
        let fits = self.taken + bytes <= self.store.budget.limit();
        let taken = bytes == 0 || (fits && self.store.take(bytes, self.now));
        if taken {
            self.taken += bytes;
        }
        taken
    }

    /// Has exactly so many bytes from now on, if there is room.
    fn settle(&mut self, bytes: usize) -> bool {
        if bytes > self.taken {
            return self.take(bytes - self.taken);
        }
        self.store.budget.give_back(self.taken - bytes);
        self.taken = bytes;
        true
    }

    fn fill(&self) -> &Fill {
        match self.object.body() {
            Body::Filling(fill) => fill,
            Body::Whole(_) => unreachable!("a writer makes its object with a fill"),
        }
    }
}

impl<M> Drop for Writer<'_, M> {
    fn drop(&mut self) {
        self.store
            .shard(self.object.hash())
            .end(self.object.hash(), self.id);
        if let Body::Filling(fill) = self.object.body() {
            // Means nothing to a body that has finished.
            fill.abort();
        }
        self.store.budget.give_back(self.taken);
    }
}

/// How much more than the largest that is stored a reader may be behind a body that is not.
const WINDOW: usize = 1 << 20;
