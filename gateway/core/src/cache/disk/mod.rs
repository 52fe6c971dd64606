//! The second tier of a zone: objects in files, which survive a restart.
//!
//! Whoever serves a request never waits for a write. Objects are put into a queue, from which one thread
//! writes them, and when it is full they are dropped. What is there is known from an index in memory, which
//! another thread makes at the start from the files; what is not in it costs no look at the disk.
//!
//! A file has a number that is never given again, is complete or not there, and nothing that is read of it
//! is believed without a checksum. So a process may be killed at any time. After a power failure, files of
//! the last seconds may be gone, and so may be the effect of a purge of the last seconds, on the disk.
//!
//! A folder has one user at a time. A second process works without it until the first has ended.

mod file;
mod folder;
mod index;
mod keeper;
mod queue;
mod read;
mod selection;
#[cfg(test)]
mod tests;
mod tier;
mod writer;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use self::{
    index::{Entry, Purged, short},
    queue::Chore,
    selection::Traits,
    tier::{Tier, count},
};
use super::memory::{Filing, Key, Purge, Selection};

/// A folder of objects. When it is dropped, what is in the queue is lost.
pub(crate) struct Disk {
    tier: Arc<Tier>,
}

/// A folder, and what may be in it.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) path: PathBuf,
    pub(crate) limits: Limits,
    /// The version of what heads look like. Files with another one are discarded.
    pub(crate) heads: u32,
    /// The hash of a name and a variant, as [`Key`] has it: it may be another one in each process.
    pub(crate) hash: fn(&[u8], Option<&[u8; 16]>) -> u128,
}

/// How much may be in a folder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// All files, each counted in blocks of 4096 bytes.
    pub(crate) bytes: u64,
    /// Objects that nobody has asked for in this time are removed.
    pub(crate) inactive: Option<Duration>,
    /// Objects with longer bodies are not read: it would be in vain.
    pub(crate) longest: u64,
}

/// An object to be stored.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) hash: u128,
    pub(crate) name: Box<[u8]>,
    pub(crate) variant: Option<[u8; 16]>,
    pub(crate) filing: Filing,
    /// In seconds since 1970: from then on the object is of no use, not even stale.
    pub(crate) expires: u32,
    /// Whatever is needed besides the body.
    pub(crate) head: Bytes,
    pub(crate) body: SmallVec<[Bytes; 1]>,
    /// Milliseconds since 1970.
    pub(crate) stale_since: Option<u64>,
}

/// An object that was found.
#[derive(Clone)]
pub(crate) struct Found {
    pub(crate) head: Bytes,
    pub(crate) filing: Filing,
    /// In seconds since 1970.
    pub(crate) expires: u32,
    /// Since when a purge has it be stale, in milliseconds since 1970.
    pub(crate) stale_since: Option<u64>,
    /// In chunks of 256 KiB.
    pub(crate) body: SmallVec<[Bytes; 1]>,
}

/// A purge that has taken effect, but may not be written down yet.
pub(crate) struct Purging(oneshot::Receiver<usize>);

/// How a folder is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Starting,
    /// Another process uses the folder. It is tried again until that has ended.
    Occupied,
    /// It can't be used. It is tried again.
    Failing,
    /// What is there is being entered into the index.
    Loading,
    Working,
    Closed,
}

/// What there is on the disk, and what has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Statistics {
    pub(crate) state: State,
    /// Those that wait to be written included.
    pub(crate) objects: usize,
    /// Of files that are there, in whole blocks.
    pub(crate) bytes: u64,
    pub(crate) limit: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    /// Files that were read. Fewer than hits, where several asked for one at the same time.
    pub(crate) reads: u64,
    pub(crate) written: u64,
    /// Objects that had to leave for others.
    pub(crate) evictions: u64,
    /// Objects that left because they were of no use, or nobody had asked for them.
    pub(crate) expirations: u64,
    /// Objects that were not written because the disk was too slow, failed, or had no room.
    pub(crate) dropped: u64,
    /// Files that were broken, or not of this version.
    pub(crate) discarded: u64,
}

impl Disk {
    /// Returns at once: all else is done by threads of its own. If the folder can't be used, the log says
    /// so once, and nothing is stored or found until it can.
    pub(crate) fn open(spec: Spec) -> Self {
        let tier = Arc::new(Tier::new(spec));
        if keeper::start(&tier, "cache-disk", keeper::run).is_none() {
            tier.set_state(State::Failing);
        }
        Self { tier }
    }

    /// Changes the limits. What is too much is removed soon.
    pub(crate) fn resize(&self, limits: Limits) {
        self.tier.limit(limits);
        self.tier.chores.call();
    }

    /// Stores an object in the place of an older one, which can't be found any more from now on. Never waits.
    ///
    /// `is_valid` is asked when a purge from then on would find the object. If it says no, because one has
    /// come before, nothing is stored.
    pub(crate) fn store(&self, record: Record, now: u32, is_valid: impl FnOnce() -> bool) {
        let tier = &self.tier;
        let hash = short(record.hash);
        let blocks = file::blocks(file::length(&record));
        let (true, Ok(blocks)) = (tier.is_open(), blocks) else {
            self.remove(tier.index.forget(hash));
            return;
        };
        let entry = Entry {
            hash,
            traits: Traits::new(&record.name, &record.filing),
            expires: record.expires,
            used: now,
            stale: record.stale_since.unwrap_or(0),
            blocks,
        };
        let (number, replaced) = tier.index.begin(entry, &tier.next);
        self.remove(replaced);
        if !is_valid() {
            tier.index.remove(hash, number);
        } else if !tier.queue.push(record, hash, number) {
            count(&tier.counts.dropped);
            tier.index.remove(hash, number);
        }
    }

    /// The object under a key. What is not here is told without waiting. Counts as a use; `now` is in
    /// seconds since 1970. Whether it is fresh is for the caller to see.
    pub(crate) async fn find(&self, key: &Key<'_>, now: u32) -> Option<Found> {
        let found = read::find(&self.tier, key, now).await;
        count(match found {
            Some(_) => &self.tier.counts.hits,
            None => &self.tier.counts.misses,
        });
        found
    }

    /// Counts as a use of an object that was found elsewhere: it is not inactive.
    pub(crate) fn touch(&self, hash: u128, now: u32) {
        self.tier.index.touch(short(hash), now);
    }

    /// Purges what is under a hash. Tells whether there was something. Who asks from then on finds it gone,
    /// or stale; that it will be so after a restart can be [waited](Self::settled) for.
    pub(crate) fn purge_key(&self, hash: u128, purge: Purge) -> bool {
        let tier = &self.tier;
        let hash = short(hash);
        match tier.index.purge(hash, purge) {
            Purged::Nothing => return false,
            // The writer sees it.
            Purged::InQueue => {}
            Purged::Removed(gone) => tier.chores.push(Chore::Remove(gone)),
            Purged::Marked(number) => tier.chores.push(Chore::Mark { hash, number }),
        }
        true
    }

    /// Purges all that is meant by one of these. Who asks from then on finds it gone, or stale.
    pub(crate) fn purge(&self, selections: &[Selection<'_>], purge: Purge) -> Purging {
        Purging(self.tier.ban(selections, purge))
    }

    /// Until all that was stored or purged before is on the disk. That may take long, above all while another
    /// process uses the folder: give it a limit.
    pub(crate) async fn settled(&self) {
        let (done, told) = oneshot::channel();
        self.tier.queue.tell(done);
        // An error says that it is closed.
        told.await.ok();
    }

    pub(crate) fn statistics(&self) -> Statistics {
        self.tier.statistics()
    }

    fn remove(&self, gone: Option<index::Gone>) {
        if let Some(gone) = gone {
            self.tier.chores.push(Chore::Remove(gone));
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.tier.close();
    }
}

impl Record {
    /// Of the body, in bytes.
    fn length(&self) -> u64 {
        self.body.iter().map(|chunk| chunk.len() as u64).sum()
    }

    /// What it may keep in memory while it waits, in bytes.
    fn size(&self) -> u64 {
        let rest = self.name.len() + self.filing.tags.len() + self.head.len() + size_of::<Self>();
        self.length() + rest as u64
    }
}

impl Purging {
    /// Until the purge would survive a restart. Tells how many objects there were; `None` when the disk was
    /// closed meanwhile. That may take long: give it a limit.
    pub(crate) async fn count(self) -> Option<usize> {
        self.0.await.ok()
    }
}

impl State {
    /// The word by which operators are told.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Occupied => "occupied",
            Self::Failing => "failing",
            Self::Loading => "loading",
            Self::Working => "working",
            Self::Closed => "closed",
        }
    }

    const ALL: [Self; 6] = [
        Self::Starting,
        Self::Occupied,
        Self::Failing,
        Self::Loading,
        Self::Working,
        Self::Closed,
    ];
}
