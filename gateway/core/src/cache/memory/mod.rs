//! A store of responses in memory: what the cache keeps, whoever asks for it.
//!
//! It knows nothing of HTTP: an object is a key, a head of some type, and a body. It keeps a limit of bytes
//! in which everything is counted, streams bodies to readers while they are still being written, and
//! chooses what has to leave.
//!
//! Objects are spread over shards by their hash. A lookup holds the lock of a shard while it finds the slot
//! and counts the use, some tens of nanoseconds, and allocates nothing; all else is in the object,
//! which is shared.

mod body;
mod budget;
mod fill;
mod ghost;
mod object;
mod purge;
mod shard;
mod slots;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

pub(crate) use body::Reader;
pub(crate) use fill::Broken;
pub(crate) use object::{Draft, Filing, Key, Object, Update};
pub(crate) use purge::{Ending, Purge, Selection, Wanted};
pub(crate) use writer::{Refused, Writer};

use self::{
    budget::Budget,
    purge::Search,
    shard::{Eviction, Patience, Shard},
    slots::Which,
};

/// A store of objects whose heads are of one type.
pub(crate) struct Store<M> {
    shards: Box<[Aligned<M>]>,
    budget: Budget,
    max_object: AtomicUsize,
    /// Seconds; `u32::MAX` for no limit.
    inactive: AtomicU32,
    /// Whose turn it is to evict something.
    turn: AtomicUsize,
    next_fill: AtomicU64,
}

/// What a store may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// All that is stored or being written, with its headers, keys and bookkeeping.
    pub(crate) bytes: usize,
    /// The largest body.
    pub(crate) max_object: usize,
    /// Seconds after which an object that nobody has asked for is dropped by a sweep.
    pub(crate) inactive: Option<u32>,
}

/// What a store holds, and what has happened in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Statistics {
    pub(crate) objects: usize,
    /// Those being written included.
    pub(crate) bytes: usize,
    pub(crate) limit: usize,
    /// Lookups that found something, fresh or not, whole or not.
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    /// Objects that had to leave for others.
    pub(crate) evictions: u64,
    /// Objects that left because they were of no use, or nobody had asked for them.
    pub(crate) expirations: u64,
}

/// Two shards never share a line of the processor's cache.
#[repr(align(128))]
struct Aligned<M>(Mutex<Shard<M>>);

impl<M> Store<M> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            shards: (0..SHARDS)
                .map(|_| Aligned(Mutex::new(Shard::new())))
                .collect(),
            budget: Budget::new(limits.bytes),
            max_object: AtomicUsize::new(limits.max_object),
            inactive: AtomicU32::new(limits.inactive.unwrap_or(u32::MAX)),
            turn: AtomicUsize::new(0),
            next_fill: AtomicU64::new(1),
        }
    }

    /// Changes the limits, and evicts what is too much. What is being written is given up as it grows.
    pub(crate) fn resize(&self, limits: Limits, now: u32) {
        self.budget.set_limit(limits.bytes);
        self.max_object.store(limits.max_object, Ordering::Relaxed);
        let inactive = limits.inactive.unwrap_or(u32::MAX);
        self.inactive.store(inactive, Ordering::Relaxed);
        while self.budget.exceeded() && self.evict(now) {}
    }

    /// The object under a key: one that is being written before one that is stored. Counts as a use; `now`
    /// is in seconds since 1970. Whether it is fresh is for the caller to see.
    pub(crate) fn find(&self, key: &Key<'_>, now: u32) -> Option<Arc<Object<M>>> {
        let found = {
            let mut shard = self.shard(key.hash);
            let found = shard.find(key.hash, now);
            match found {
                Some(_) => shard.counts.hits += 1,
                None => shard.counts.misses += 1,
            }
            found
        };
        // Outside the lock, since it waits for memory. Another key with the same hash is a miss.
        found.filter(|object| object.is(key))
    }

    /// The object that the writer with this number writes.
    pub(crate) fn find_fill(&self, hash: u128, id: u64) -> Option<Arc<Object<M>>> {
        self.shard(hash).find_fill(hash, id)
    }

    /// Begins to write an object, which others find from now on if it is shared. With the length of its body, if it is
    /// known, memory is taken in the right sizes, and a shorter body is refused.
    ///
    /// There is always a writer, also when there is no room: what it writes then goes to its readers only.
    pub(crate) fn write(&self, draft: Draft<'_, M>, length: Option<u64>, now: u32) -> Writer<'_, M>
    where
        M: Clone,
    {
        let id = self.next_fill.fetch_add(1, Ordering::Relaxed);
        Writer::new(self, draft, id, length, now)
    }

    /// Gives a stored object another head, with which it is fresh again. False when it has been replaced or
    /// removed meanwhile, or there is no room.
    pub(crate) fn update(&self, old: &Arc<Object<M>>, update: Update<M>, now: u32) -> bool {
        let Some(new) = old.with_head(update) else {
            return false;
        };
        let new = Arc::new(new);
        if !self.take(new.size(), now) {
            return false;
        }
        let size = new.size();
        let done = self.shard(old.hash()).exchange(old, new, now, &self.budget);
        self.budget.give_back(if done { old.size() } else { size });
        done
    }

    /// The stored object under a key, for one who does not use it but changes it.
    pub(crate) fn peek(&self, key: &Key<'_>) -> Option<Arc<Object<M>>> {
        let found = self.shard(key.hash).peek(key.hash).cloned();
        found.filter(|object| object.is(key))
    }

    /// Purges what is under a hash. Tells whether there was something.
    pub(crate) fn purge_key(&self, hash: u128, purge: Purge) -> bool {
        let (found, removed) = self.shard(hash).purge(hash, purge, &self.budget);
        self.give_back(removed);
        found
    }

    /// Purges all that is meant by any of the selections, and tells how many there were. Goes over the whole
    /// store, some milliseconds for each 100 000 objects, and leaves the locks to others in between.
    pub(crate) fn purge(&self, selections: &[Selection<'_>], purge: Purge) -> usize {
        let search = Search::new(selections);
        let mut count = 0;
        for shard in &self.shards {
            count += shard.lock().purge_fills(&search, purge);
            let mut next = Some(0);
            while let Some(first) = next {
                let mut removed = Vec::new();
                let (some, rest) =
                    shard
                        .lock()
                        .purge_some(first, &search, purge, &mut removed, &self.budget);
                (count, next) = (count + some, rest);
                self.give_back(removed);
            }
        }
        count
    }

    /// Drops what is expired or has not been asked for in a long time. Call it now and then.
    pub(crate) fn sweep(&self, now: u32) {
        let inactive = self.inactive.load(Ordering::Relaxed);
        let idle = now.saturating_sub(inactive);
        for shard in &self.shards {
            let mut next = Some(0);
            while let Some(first) = next {
                let mut removed = Vec::new();
                next = shard
                    .lock()
                    .sweep_some(first, now, idle, &mut removed, &self.budget);
                self.give_back(removed);
            }
        }
    }

    /// Tells which stored objects were used from then on, each with its hash and its last use. Goes over the
    /// whole store, and leaves the locks to others in between.
    pub(crate) fn used_since(&self, since: u32, mut tell: impl FnMut(u128, u32)) {
        for shard in &self.shards {
            let mut next = Some(0);
            while let Some(first) = next {
                next = shard.lock().used_since(first, since, &mut tell);
            }
        }
    }

    pub(crate) fn statistics(&self) -> Statistics {
        let mut sum = Statistics {
            bytes: self.budget.used(),
            limit: self.budget.limit(),
            ..Statistics::default()
        };
        for shard in &self.shards {
            let shard = shard.lock();
            sum.objects += shard.len();
            sum.hits += shard.counts.hits;
            sum.misses += shard.counts.misses;
            sum.evictions += shard.counts.evictions;
            sum.expirations += shard.counts.expirations;
        }
        sum
    }

    /// The largest body, in bytes.
    pub(crate) fn max_object(&self) -> usize {
        self.max_object.load(Ordering::Relaxed)
    }

    fn shard(&self, hash: u128) -> MutexGuard<'_, Shard<M>> {
        // Other bits than those of the index, else each shard would use a part of its index only.
        self.shards[(hash >> 32) as usize % SHARDS].lock()
    }

    /// Takes so many bytes, for which others have to leave if need be. False when there is no room.
    fn take(&self, bytes: usize, now: u32) -> bool {
        if bytes > self.budget.limit() {
            return false;
        }
        loop {
            if self.budget.take(bytes) {
                return true;
            }
            if !self.evict(now) {
                return false;
            }
        }
    }

    /// Evicts one object. False when there is none.
    fn evict(&self, now: u32) -> bool {
        let first = if self.budget.probation_is_full() {
            [Which::Probation, Which::Main]
        } else {
            [Which::Main, Which::Probation]
        };
        first.into_iter().any(|from| self.evict_from(from, now))
    }

    /// Shards take turns. When all that is met has been hit, one has to leave all the same, after some
    /// hundred were spared: a request waits for this.
    fn evict_from(&self, from: Which, now: u32) -> bool {
        let (mut idle, mut moved) = (0, 0);
        while idle < SHARDS {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % SHARDS;
            let patience = if moved < TURNS {
                Patience::Some
            } else {
                Patience::None
            };
            let eviction = self.shards[turn]
                .lock()
                .evict(from, patience, now, &self.budget);
            match eviction {
                Eviction::Evicted(object) => {
                    self.give_back([object]);
                    return true;
                }
                Eviction::Moved => (idle, moved) = (0, moved + 1),
                Eviction::Nothing => idle += 1,
            }
        }
        false
    }

    /// Drops objects that have left, and gives their bytes back: not under a lock, since it takes a while.
    fn give_back(&self, removed: impl IntoIterator<Item = Arc<Object<M>>>) {
        for object in removed {
            let size = object.size();
            drop(object);
            self.budget.give_back(size);
        }
    }
}

impl<M> Aligned<M> {
    /// A panic under the lock would be a bug, and would not leave the shard worse than without it.
    fn lock(&self) -> MutexGuard<'_, Shard<M>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A power of two, and far more than there are threads: two of them seldom want the same one.
const SHARDS: usize = 64;
/// Turns in which objects that have been hit are spared, before one of them is evicted.
const TURNS: usize = 64;
