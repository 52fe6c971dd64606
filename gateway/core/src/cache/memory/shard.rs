//! A part of a store, behind a lock of its own.
//!
//! Eviction is S3-FIFO: new objects are on probation in a small queue, at most a tenth of the bytes. Who is
//! hit twice there goes over to the main queue, all others leave at its end, so that a scan of any length
//! only ever passes through the tenth. Who comes back soon after having left is taken into the main queue
//! at once. There, each hit, up to three, is worth one more round. A hit only counts: nothing is moved.
//!
//! Queues are by shard, but the bytes of all shards decide which of the two has to give something up, and
//! shards take turns. So the limit is one, an object may be as large as the whole, and the order is
//! that of one queue but for what chance does to the shards.

use std::sync::Arc;

use hashbrown::HashTable;

use super::{
    budget::Budget,
    ghost::Ghost,
    object::Object,
    purge::{Mark, Purge, Search},
    slots::{Queue, Slots, Which},
};

pub(super) struct Shard<M> {
    index: HashTable<Entry>,
    slots: Slots<M>,
    probation: Queue,
    main: Queue,
    ghost: Ghost,
    fills: HashTable<Filling<M>>,
    /// Where the search for expired objects goes on.
    hand: u32,
    pub(super) counts: Counts,
}

/// What has happened in a shard.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) evictions: u64,
    pub(super) expirations: u64,
}

/// Enough of a hash to move it within a growing table without looking into slots.
struct Entry {
    slot: u32,
    tag: u32,
}

/// An object in progress.
struct Filling<M> {
    object: Arc<Object<M>>,
    id: u64,
    /// It is going to be stored.
    wanted: bool,
    /// Others may read along.
    shared: bool,
}

/// What came of trying to evict something.
pub(super) enum Eviction<M> {
    Evicted(Arc<Object<M>>),
    /// Nothing left yet, but some are nearer to it.
    Moved,
    Nothing,
}

/// Whether objects that have been hit are spared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    Some,
    None,
}

impl<M> Shard<M> {
    pub(super) fn new() -> Self {
        Self {
            index: HashTable::new(),
            slots: Slots::new(),
            probation: Queue::new(),
            main: Queue::new(),
            ghost: Ghost::new(),
            fills: HashTable::new(),
            hand: 0,
            counts: Counts::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// The newest object in progress, or else the stored one. Counts as a use.
    pub(super) fn find(&mut self, hash: u128, now: u32) -> Option<Arc<Object<M>>> {
        if !self.fills.is_empty()
            && let Some(object) = self.filling(hash)
        {
            return Some(object);
        }
        let number = self.number(hash)?;
        let slot = self.slots.at_mut(number);
        slot.hits = (slot.hits + 1).min(MOST_HITS);
        slot.used = now;
        slot.object.clone()
    }

    fn filling(&self, hash: u128) -> Option<Arc<Object<M>>> {
        let same = self.fills.iter_hash(spread(hash));
        let wanted = same
            .filter(|filling| filling.wanted && filling.shared && filling.object.hash() == hash);
        let newest = wanted.max_by_key(|filling| filling.id)?;
        Some(newest.object.clone())
    }

    /// The stored object. No use of it.
    pub(super) fn peek(&self, hash: u128) -> Option<&Arc<Object<M>>> {
        self.slots.at(self.number(hash)?).object.as_ref()
    }

    fn number(&self, hash: u128) -> Option<u32> {
        let (tag, high) = (tag(hash), high(hash));
        let same = |entry: &Entry| entry.tag == tag && self.slots.at(entry.slot).hash == high;
        Some(self.index.find(spread(hash), same)?.slot)
    }

    /// The object in progress that has this number.
    pub(super) fn find_fill(&self, hash: u128, id: u64) -> Option<Arc<Object<M>>> {
        let same = |filling: &Filling<M>| filling.id == id;
        Some(self.fills.find(spread(hash), same)?.object.clone())
    }

    pub(super) fn begin(&mut self, object: Arc<Object<M>>, id: u64, shared: bool) {
        let filling = Filling {
            object,
            id,
            wanted: true,
            shared,
        };
        self.fills
            .insert_unique(spread(filling.object.hash()), filling, |filling| {
                spread(filling.object.hash())
            });
    }

    /// Nobody is to join this one any more, and it is not going to be stored.
    pub(super) fn give_up(&mut self, hash: u128, id: u64) {
        let same = |filling: &Filling<M>| filling.id == id;
        if let Some(filling) = self.fills.find_mut(spread(hash), same) {
            filling.wanted = false;
        }
    }

    /// Ends one that was in progress. Tells whether it is to be stored.
    pub(super) fn end(&mut self, hash: u128, id: u64) -> bool {
        let same = |filling: &Filling<M>| filling.id == id;
        let found = self.fills.find_entry(spread(hash), same);
        found.is_ok_and(|entry| entry.remove().0.wanted)
    }

    /// Stores an object, whose bytes have been taken. Returns the one whose place it takes, whose bytes are
    /// to be given back.
    pub(super) fn insert(
        &mut self,
        object: Arc<Object<M>>,
        now: u32,
        budget: &Budget,
    ) -> Option<Arc<Object<M>>> {
        if let Some(number) = self.number(object.hash()) {
            return self.replace(number, object, now, budget);
        }
        let hash = object.hash();
        let known = self.ghost.forget(high(hash), self.index.len());
        let queue = if known { Which::Main } else { Which::Probation };
        let number = self.slots.acquire();
        let slot = self.slots.at_mut(number);
        slot.hash = high(hash);
        slot.mark = Mark::new(&object);
        slot.used = now;
        slot.hits = 0;
        let size = object.size();
        slot.object = Some(object);
        let entry = Entry {
            slot: number,
            tag: tag(hash),
        };
        self.index
            .insert_unique(spread(hash), entry, |entry| spread(entry.tag.into()));
        self.enqueue(number, queue, size, budget);
        None
    }

    fn replace(
        &mut self,
        number: u32,
        object: Arc<Object<M>>,
        now: u32,
        budget: &Budget,
    ) -> Option<Arc<Object<M>>> {
        let slot = self.slots.at_mut(number);
        slot.mark = Mark::new(&object);
        slot.used = now;
        let size = object.size();
        let old = slot.object.replace(object);
        if slot.queue == Which::Probation {
            budget.enter_probation(size);
            budget.leave_probation(old.as_ref().map_or(0, |old| old.size()));
        }
        old
    }

    /// Stores an object in the place of one, whose key it has, if that one is still there.
    pub(super) fn exchange(
        &mut self,
        old: &Arc<Object<M>>,
        new: Arc<Object<M>>,
        now: u32,
        budget: &Budget,
    ) -> bool {
        let Some(number) = self.number(old.hash()) else {
            return false;
        };
        let stored = self.slots.at(number).object.as_ref();
        let same = stored.is_some_and(|stored| Arc::ptr_eq(stored, old));
        if same {
            drop(self.replace(number, new, now, budget));
        }
        same
    }

    fn enqueue(&mut self, number: u32, queue: Which, size: usize, budget: &Budget) {
        self.slots.at_mut(number).queue = queue;
        match queue {
            Which::Probation => {
                budget.enter_probation(size);
                self.probation.push(&mut self.slots, number);
            }
            Which::Main => self.main.push(&mut self.slots, number),
        }
    }

    fn dequeue(&mut self, number: u32, size: usize, budget: &Budget) {
        match self.slots.at(number).queue {
            Which::Probation => {
                budget.leave_probation(size);
                self.probation.remove(&mut self.slots, number);
            }
            Which::Main => self.main.remove(&mut self.slots, number),
        }
    }

    /// Removes what is stored and what is in progress under this hash. Returns what was stored, whose bytes
    /// are to be given back.
    pub(super) fn purge(
        &mut self,
        hash: u128,
        purge: Purge,
        budget: &Budget,
    ) -> (bool, Option<Arc<Object<M>>>) {
        let mut found = false;
        for filling in self.fills.iter_hash_mut(spread(hash)) {
            if filling.object.hash() == hash {
                found |= filling.wanted;
                filling.purge(purge);
            }
        }
        let Some(number) = self.number(hash) else {
            return (found, None);
        };
        (true, self.purge_slot(number, purge, budget))
    }

    fn purge_slot(&mut self, number: u32, purge: Purge, budget: &Budget) -> Option<Arc<Object<M>>> {
        match purge {
            Purge::Remove => self.remove(number, budget),
            Purge::Stale(since) => {
                if let Some(object) = &self.slots.at(number).object {
                    object.mark_stale(since);
                }
                None
            }
        }
    }

    /// Purges those in progress that are meant. Tells how many.
    pub(super) fn purge_fills(&mut self, search: &Search<'_>, purge: Purge) -> usize {
        let mut count = 0;
        for filling in self.fills.iter_mut() {
            if filling.wanted && search.is(&filling.object) {
                filling.purge(purge);
                count += 1;
            }
        }
        count
    }

    /// Purges those that are meant in some slots from `first` on. What is removed goes into `removed`, and
    /// its bytes are to be given back. Returns how many were meant, and where to go on.
    pub(super) fn purge_some(
        &mut self,
        first: u32,
        search: &Search<'_>,
        purge: Purge,
        removed: &mut Vec<Arc<Object<M>>>,
        budget: &Budget,
    ) -> (usize, Option<u32>) {
        let end = (first + AT_ONCE).min(self.slots.len());
        let mut count = 0;
        for number in first..end {
            let slot = self.slots.at(number);
            let meant = search.may_be(slot.mark)
                && slot.object.as_ref().is_some_and(|object| search.is(object));
            if meant {
                count += 1;
                removed.extend(self.purge_slot(number, purge, budget));
            }
        }
        (count, (end < self.slots.len()).then_some(end))
    }

    /// Removes those in some slots from `first` on that are expired, or were used before `idle` for the last
    /// time. Returns where to go on.
    pub(super) fn sweep_some(
        &mut self,
        first: u32,
        now: u32,
        idle: u32,
        removed: &mut Vec<Arc<Object<M>>>,
        budget: &Budget,
    ) -> Option<u32> {
        let end = (first + AT_ONCE).min(self.slots.len());
        for number in first..end {
            let slot = self.slots.at(number);
            let Some(object) = &slot.object else {
                continue;
            };
            if slot.used < idle || object.expires() <= now {
                self.counts.expirations += 1;
                removed.extend(self.remove(number, budget));
            }
        }
        (end < self.slots.len()).then_some(end)
    }

    /// Tells of those in some slots from `first` on that were used from then on. Returns where to go on.
    pub(super) fn used_since(
        &self,
        first: u32,
        since: u32,
        mut tell: impl FnMut(u128, u32),
    ) -> Option<u32> {
        let end = (first + AT_ONCE).min(self.slots.len());
        for number in first..end {
            let slot = self.slots.at(number);
            if let Some(object) = slot.object.as_ref().filter(|_| slot.used >= since) {
                tell(object.hash(), slot.used);
            }
        }
        (end < self.slots.len()).then_some(end)
    }

    fn remove(&mut self, number: u32, budget: &Budget) -> Option<Arc<Object<M>>> {
        let object = self.slots.at_mut(number).object.take()?;
        self.dequeue(number, object.size(), budget);
        self.slots.release(number);
        let same = |entry: &Entry| entry.slot == number;
        if let Ok(entry) = self.index.find_entry(spread(object.hash()), same) {
            entry.remove();
        }
        if self.index.is_empty() && self.slots.len() > FEW {
            (self.slots, self.index) = (Slots::new(), HashTable::new());
        }
        Some(object)
    }

    /// Evicts an object: an expired one if one is found at once, or else one from this queue. Its bytes are
    /// to be given back.
    pub(super) fn evict(
        &mut self,
        from: Which,
        patience: Patience,
        now: u32,
        budget: &Budget,
    ) -> Eviction<M> {
        if let Some(object) = self.expired(now, budget) {
            self.counts.expirations += 1;
            return Eviction::Evicted(object);
        }
        for step in 0..STEPS {
            let evicted = match from {
                Which::Probation => self.evict_from_probation(patience, budget),
                Which::Main => self.evict_from_main(patience, budget),
            };
            match evicted {
                Eviction::Evicted(_) => {
                    self.counts.evictions += 1;
                    return evicted;
                }
                Eviction::Moved => {}
                Eviction::Nothing if step == 0 => return evicted,
                Eviction::Nothing => return Eviction::Moved,
            }
        }
        Eviction::Moved
    }

    fn expired(&mut self, now: u32, budget: &Budget) -> Option<Arc<Object<M>>> {
        for _ in 0..LOOKS.min(self.slots.len()) {
            self.hand = (self.hand + 1) % self.slots.len();
            let object = self.slots.at(self.hand).object.as_ref();
            if object.is_some_and(|object| object.expires() <= now) {
                return self.remove(self.hand, budget);
            }
        }
        None
    }

    fn evict_from_probation(&mut self, patience: Patience, budget: &Budget) -> Eviction<M> {
        let Some(number) = self.probation.first() else {
            return Eviction::Nothing;
        };
        let slot = self.slots.at_mut(number);
        if slot.hits > 1 && patience == Patience::Some {
            slot.hits = 0;
            let size = slot.object.as_ref().map_or(0, |object| object.size());
            self.dequeue(number, size, budget);
            self.enqueue(number, Which::Main, size, budget);
            return Eviction::Moved;
        }
        let hash = slot.hash;
        let Some(object) = self.remove(number, budget) else {
            return Eviction::Nothing;
        };
        self.ghost.note(hash, self.index.len());
        Eviction::Evicted(object)
    }

    fn evict_from_main(&mut self, patience: Patience, budget: &Budget) -> Eviction<M> {
        let Some(number) = self.main.first() else {
            return Eviction::Nothing;
        };
        let slot = self.slots.at_mut(number);
        if slot.hits > 0 && patience == Patience::Some {
            slot.hits -= 1;
            self.main.remove(&mut self.slots, number);
            self.main.push(&mut self.slots, number);
            return Eviction::Moved;
        }
        match self.remove(number, budget) {
            Some(object) => Eviction::Evicted(object),
            None => Eviction::Nothing,
        }
    }

    /// What the stored objects say they take, for tests of the sum: all, and those on probation.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        let mut sums = (0, 0);
        for slot in (0..self.slots.len()).map(|number| self.slots.at(number)) {
            let size = slot.object.as_ref().map_or(0, |object| object.size());
            sums.0 += size;
            if slot.queue == Which::Probation {
                sums.1 += size;
            }
        }
        sums
    }
}

impl<M> Filling<M> {
    fn purge(&mut self, purge: Purge) {
        match purge {
            Purge::Remove => self.wanted = false,
            Purge::Stale(since) => self.object.mark_stale(since),
        }
    }
}

fn tag(hash: u128) -> u32 {
    hash as u32
}

fn high(hash: u128) -> u64 {
    (hash >> 64) as u64
}

/// The hash of the index, out of the part that its entries keep.
fn spread(hash: u128) -> u64 {
    u64::from(tag(hash)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// More hits than these make no difference.
const MOST_HITS: u8 = 3;
/// Slots that are gone over before others get the lock: some microseconds.
const AT_ONCE: u32 = 256;
/// Objects that are moved before others get the lock.
const STEPS: usize = 16;
/// Slots that are looked at for an expired object before one that is not has to leave. Each may be a
/// memory access, so no more than a few.
const LOOKS: u32 = 4;
/// Slots that a shard keeps even when it is empty.
const FEW: u32 = 64;
