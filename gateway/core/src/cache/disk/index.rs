//! What is on the disk, as far as it has to be known without looking there.
//!
//! It takes 48 bytes for each object, and six to twelve in a table. What has to leave is chosen by CLOCK: a
//! hand goes round, each time it passes an object it takes one of its uses, of which up to three are counted,
//! and it takes away who has none left. New objects begin with one.
//!
//! Files are known by numbers that are given only once, so whoever comes too late finds that the object is
//! not there any more, or has another number.

use std::{
    collections::HashSet,
    ops::Range,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use hashbrown::HashTable;

use super::{
    super::memory::Purge,
    selection::{Ban, Traits},
};

pub(super) struct Index {
    shards: Box<[Mutex<Shard>]>,
    /// Whose turn it is to evict something.
    turn: AtomicUsize,
}

/// Enough of the hash of a key: who else has it is told apart by the name in the file.
pub(super) type Hash = u64;

pub(super) fn short(hash: u128) -> Hash {
    (hash >> 64) as u64
}

/// What is known of an object when it comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) hash: Hash,
    pub(super) traits: Traits,
    pub(super) expires: u32,
    pub(super) used: u32,
    /// Milliseconds since 1970, or zero: not marked.
    pub(super) stale: u64,
    /// Of the file on the disk, in blocks.
    pub(super) blocks: u32,
}

/// A file that is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) number: u64,
    pub(super) blocks: u32,
}

/// What becomes of an object that was found on the disk at the start.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Loaded {
    Taken,
    /// A newer one has been there since.
    Refused,
}

/// Where an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On the way to the disk.
    Queue,
    Disk,
}

/// What came of a purge of one object.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Purged {
    Nothing,
    /// It is not on the disk yet, and the writer will see to it.
    InQueue,
    Removed(Gone),
    Marked(u64),
}

impl Index {
    pub(super) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::new())).collect(),
            turn: AtomicUsize::new(0),
        }
    }

    fn shard(&self, hash: Hash) -> MutexGuard<'_, Shard> {
        lock(&self.shards[(hash >> 24) as usize % SHARDS])
    }

    /// The number of a file. Counts as a use.
    pub(super) fn find(&self, hash: Hash, now: u32) -> Option<u64> {
        let mut shard = self.shard(hash);
        let slot = shard.slot_mut(hash)?;
        if slot.place != Some(Place::Disk) || slot.expires <= now {
            return None;
        }
        slot.uses = (slot.uses + 1).min(MOST_USES);
        slot.used = now;
        Some(slot.number)
    }

    /// Counts as a use, too, but not as one of the disk.
    pub(super) fn touch(&self, hash: Hash, now: u32) {
        if let Some(slot) = self.shard(hash).slot_mut(hash) {
            slot.used = slot.used.max(now);
        }
    }

    /// Since when an object is stale, zero if it is not. `None` when it is not there any more.
    pub(super) fn stale(&self, hash: Hash, number: u64) -> Option<u64> {
        let shard = self.shard(hash);
        Some(shard.exactly(hash, number)?.stale)
    }

    pub(super) fn place(&self, hash: Hash, number: u64) -> Option<Place> {
        self.shard(hash).exactly(hash, number)?.place
    }

    /// Announces an object that is going to be written, and gives it a number. What it replaces is gone from
    /// now on.
    pub(super) fn begin(&self, entry: Entry, next: &AtomicU64) -> (u64, Option<Gone>) {
        let mut shard = self.shard(entry.hash);
        let gone = shard.remove(entry.hash);
        // Under the lock: of two with one hash the later has the higher number.
        let number = next.fetch_add(1, Ordering::AcqRel);
        shard.insert(entry, number, Place::Queue);
        (number, gone)
    }

    /// The object is on the disk. Tells since when it is stale, by now; `None` when it is not wanted any more.
    pub(super) fn end(&self, hash: Hash, number: u64) -> Option<u64> {
        let mut shard = self.shard(hash);
        let slot = shard.slot_mut(hash).filter(|slot| slot.number == number)?;
        slot.place = Some(Place::Disk);
        Some(slot.stale)
    }

    /// Enters an object that was found on the disk. They come with the newest first.
    pub(super) fn load(&self, entry: Entry, number: u64) -> Loaded {
        let mut shard = self.shard(entry.hash);
        if shard.number(entry.hash).is_some() || shard.absent.has(entry.hash) {
            return Loaded::Refused;
        }
        shard.insert(entry, number, Place::Disk);
        Loaded::Taken
    }

    /// All that was on the disk at the start has been loaded.
    pub(super) fn is_loaded(&self) {
        for shard in &self.shards {
            lock(shard).absent = Absent::Forgotten;
        }
    }

    /// Removes whatever has this hash.
    pub(super) fn forget(&self, hash: Hash) -> Option<Gone> {
        self.shard(hash).remove(hash)
    }

    /// Removes one object. Tells whether it was there, and of one that is on the disk, the file.
    pub(super) fn remove(&self, hash: Hash, number: u64) -> (bool, Option<Gone>) {
        let mut shard = self.shard(hash);
        if shard.exactly(hash, number).is_none() {
            return (false, None);
        }
        (true, shard.remove(hash))
    }

    pub(super) fn purge(&self, hash: Hash, purge: Purge) -> Purged {
        let mut shard = self.shard(hash);
        let Some(slot) = shard.slot_mut(hash) else {
            // It may be on the disk, and not be loaded yet. Marking it would need a place for the mark.
            shard.absent.note(hash);
            return Purged::Nothing;
        };
        let Purge::Stale(since) = purge else {
            return shard.remove(hash).map_or(Purged::InQueue, Purged::Removed);
        };
        slot.mark(since);
        match slot.place {
            Some(Place::Disk) => Purged::Marked(slot.number),
            Some(Place::Queue) | None => Purged::InQueue,
        }
    }

    /// Marks one object. Tells whether it is there.
    pub(super) fn mark(&self, hash: Hash, number: u64, since: u64) -> bool {
        let mut shard = self.shard(hash);
        let slot = shard.slot_mut(hash).filter(|slot| slot.number == number);
        slot.map(|slot| slot.mark(since)).is_some()
    }

    /// Takes away an object that is on the disk. `None` when there is none.
    pub(super) fn evict(&self) -> Option<Gone> {
        // In so many turns each shard has gone over all that it has until nobody has a use left.
        let slots = self.shards.iter().map(|shard| lock(shard).slots.len());
        let most = slots.max().unwrap_or(0) * (u32::from(MOST_USES) + 1);
        let turns = SHARDS * (most / STEPS + 1) as usize;
        (0..turns).find_map(|_| {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % SHARDS;
            lock(&self.shards[turn]).evict()
        })
    }

    /// Takes away those that are expired at `now`, or were used before `idle` for the last time. `remove` is
    /// called now and then, not under a lock.
    pub(super) fn sweep(&self, now: u32, idle: u32, mut remove: impl FnMut(Gone)) {
        let useless = |shard: &mut Shard, slots| {
            let useless = shard.useless(slots, now, idle).into_iter();
            useless.filter_map(|hash| shard.remove(hash)).collect()
        };
        self.each(useless, &mut remove);
    }

    /// The hashes and numbers of objects that a ban may mean.
    pub(super) fn suspects(&self, ban: &Ban) -> Vec<(Hash, u64)> {
        let mut suspects = Vec::new();
        let chosen = |slot: &Slot| {
            slot.place.is_some() && ban.is_for(slot.number) && ban.may_mean(slot.traits)
        };
        self.each(
            |shard, slots| {
                let slots = slots.map(|slot| shard.slots.at(slot));
                let chosen = slots.filter(|slot| chosen(slot));
                chosen.map(|slot| (slot.hash, slot.number)).collect()
            },
            |suspect| suspects.push(suspect),
        );
        suspects
    }

    /// Goes over all slots, some at a time, and leaves the locks to others in between.
    fn each<T>(
        &self,
        mut some: impl FnMut(&mut Shard, Range<u32>) -> Vec<T>,
        mut then: impl FnMut(T),
    ) {
        for shard in &self.shards {
            let mut first = 0;
            loop {
                let mut shard = lock(shard);
                let end = shard.slots.len().min(first + AT_ONCE);
                if first >= end {
                    break;
                }
                let found = some(&mut shard, first..end);
                drop(shard);
                found.into_iter().for_each(&mut then);
                first = end;
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| lock(shard).table.len())
            .sum()
    }
}

struct Shard {
    table: HashTable<u32>,
    slots: Slots,
    hand: u32,
    absent: Absent,
}

/// What must not come back when it is found on the disk at the start.
enum Absent {
    These(HashSet<Hash>),
    /// There were too many of them.
    Everything,
    /// There is nothing to come any more.
    Forgotten,
}

impl Absent {
    fn has(&self, hash: Hash) -> bool {
        match self {
            Self::These(hashes) => hashes.contains(&hash),
            Self::Everything => true,
            Self::Forgotten => false,
        }
    }

    fn note(&mut self, hash: Hash) {
        if let Self::These(hashes) = self {
            hashes.insert(hash);
            if hashes.len() > MOST_ABSENT {
                *self = Self::Everything;
            }
        }
    }
}

impl Shard {
    fn new() -> Self {
        Self {
            table: HashTable::new(),
            slots: Slots::default(),
            hand: 0,
            absent: Absent::These(HashSet::new()),
        }
    }

    fn number(&self, hash: Hash) -> Option<u32> {
        let same = |slot: &u32| self.slots.at(*slot).hash == hash;
        self.table.find(spread(hash), same).copied()
    }

    fn slot_mut(&mut self, hash: Hash) -> Option<&mut Slot> {
        let slot = self.number(hash)?;
        Some(self.slots.at_mut(slot))
    }

    /// The object under this hash, if it is the one with this number.
    fn exactly(&self, hash: Hash, number: u64) -> Option<&Slot> {
        let slot = self.slots.at(self.number(hash)?);
        (slot.number == number).then_some(slot)
    }

    /// There must be none with this hash.
    fn insert(&mut self, entry: Entry, number: u64, place: Place) {
        let slot = self.slots.acquire();
        *self.slots.at_mut(slot) = Slot {
            hash: entry.hash,
            number,
            stale: entry.stale,
            blocks: entry.blocks,
            expires: entry.expires,
            used: entry.used,
            traits: entry.traits,
            uses: 1,
            place: Some(place),
        };
        let slots = &self.slots;
        let hash = |slot: &u32| spread(slots.at(*slot).hash);
        self.table.insert_unique(spread(entry.hash), slot, hash);
    }

    /// What was on the disk is returned. What is in the queue is seen by the writer.
    fn remove(&mut self, hash: Hash) -> Option<Gone> {
        // What is loaded later is older than what was removed, and than what comes in its place.
        self.absent.note(hash);
        let slots = &self.slots;
        let same = |slot: &u32| slots.at(*slot).hash == hash;
        let number = self.table.find_entry(spread(hash), same).ok()?.remove().0;
        let slot = self.slots.at(number);
        let gone = Gone {
            number: slot.number,
            blocks: slot.blocks,
        };
        let on_disk = slot.place == Some(Place::Disk);
        self.slots.release(number);
        if self.table.is_empty() && self.slots.pages.len() > 1 {
            (self.table, self.slots, self.hand) = (HashTable::new(), Slots::default(), 0);
        }
        on_disk.then_some(gone)
    }

    /// `None` when there is nothing in the next few slots.
    fn evict(&mut self) -> Option<Gone> {
        for _ in 0..STEPS.min(self.slots.len() * (u32::from(MOST_USES) + 1)) {
            self.hand = (self.hand + 1) % self.slots.len();
            let slot = self.slots.at_mut(self.hand);
            if slot.place != Some(Place::Disk) {
                continue;
            }
            if slot.uses == 0 {
                let hash = slot.hash;
                return self.remove(hash);
            }
            slot.uses -= 1;
        }
        None
    }

    fn useless(&self, slots: Range<u32>, now: u32, idle: u32) -> Vec<Hash> {
        let slots = slots.map(|slot| self.slots.at(slot));
        let useless = slots.filter(|slot| {
            slot.place == Some(Place::Disk) && (slot.expires <= now || slot.used < idle)
        });
        useless.map(|slot| slot.hash).collect()
    }
}

struct Slot {
    /// Of a free slot, the next free one.
    hash: Hash,
    number: u64,
    stale: u64,
    blocks: u32,
    expires: u32,
    used: u32,
    traits: Traits,
    uses: u8,
    /// `None` while nobody has the slot.
    place: Option<Place>,
}

impl Slot {
    /// Earlier marks stay.
    fn mark(&mut self, since: u64) {
        if self.stale == 0 {
            self.stale = since.max(1);
        }
    }

    fn free(next: u64) -> Self {
        Self {
            hash: next,
            number: 0,
            stale: 0,
            blocks: 0,
            expires: 0,
            used: 0,
            traits: Traits::default(),
            uses: 0,
            place: None,
        }
    }
}

/// Pages of slots: growing moves nothing, and takes no more than a page too much.
struct Slots {
    pages: Vec<Box<[Slot]>>,
    free: u64,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            pages: Vec::new(),
            free: NONE,
        }
    }
}

impl Slots {
    fn len(&self) -> u32 {
        (self.pages.len() * PAGE) as u32
    }

    fn at(&self, slot: u32) -> &Slot {
        &self.pages[slot as usize / PAGE][slot as usize % PAGE]
    }

    fn at_mut(&mut self, slot: u32) -> &mut Slot {
        &mut self.pages[slot as usize / PAGE][slot as usize % PAGE]
    }

    fn acquire(&mut self) -> u32 {
        if self.free == NONE {
            self.grow();
        }
        // Numbers of slots have 32 bits.
        let slot = self.free as u32;
        self.free = self.at(slot).hash;
        slot
    }

    fn grow(&mut self) {
        let first = u64::from(self.len());
        let last = first + PAGE as u64 - 1;
        let next = |slot| if slot == last { NONE } else { slot + 1 };
        let page = (first..=last).map(|slot| Slot::free(next(slot)));
        self.pages.push(page.collect());
        self.free = first;
    }

    fn release(&mut self, slot: u32) {
        *self.at_mut(slot) = Slot::free(self.free);
        self.free = slot.into();
    }
}

/// A panic under the lock would be a bug, and would not leave the shard worse than without it.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The table wants all bits to differ, and those that chose the shard don't.
fn spread(hash: Hash) -> u64 {
    hash.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

const SHARDS: usize = 16;
const PAGE: usize = 256;
const NONE: u64 = u64::MAX;
/// More uses than these make no difference.
const MOST_USES: u8 = 3;
/// Slots that are gone over before others get the lock: some microseconds.
const AT_ONCE: u32 = 256;
/// Slots that the hand passes before others get the lock.
const STEPS: u32 = 1024;
/// In one shard, while what is on the disk is being loaded. After that all of it is useless.
const MOST_ABSENT: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(hash: Hash) -> Entry {
        Entry {
            hash: spread(hash),
            traits: Traits::default(),
            expires: 1_000,
            used: 0,
            stale: 0,
            blocks: 2,
        }
    }

    fn put(index: &Index, hash: Hash, next: &AtomicU64) -> u64 {
        let (number, _) = index.begin(entry(hash), next);
        index.end(spread(hash), number).unwrap();
        number
    }

    #[test]
    fn an_object_is_found_once_it_is_on_the_disk_and_until_it_expires() {
        let (index, next) = (Index::new(), AtomicU64::new(5));
        let (number, gone) = index.begin(entry(1), &next);
        assert_eq!((number, gone), (5, None));
        assert_eq!(index.find(spread(1), 0), None);
        assert_eq!(index.end(spread(1), 4), None);
        assert_eq!(index.end(spread(1), 5), Some(0));
        assert_eq!(index.find(spread(1), 999), Some(5));
        assert_eq!(index.find(spread(1), 1_000), None);
        assert_eq!(index.find(spread(2), 0), None);
    }

    #[test]
    fn a_newer_object_replaces_an_older_one_at_once_and_the_older_can_not_end_any_more() {
        let (index, next) = (Index::new(), AtomicU64::new(5));
        put(&index, 1, &next);
        let (number, gone) = index.begin(entry(1), &next);
        assert_eq!(
            gone,
            Some(Gone {
                number: 5,
                blocks: 2
            })
        );
        let (newest, gone) = index.begin(entry(1), &next);
        assert_eq!((newest, gone), (7, None));
        assert_eq!(index.end(spread(1), number), None);
        assert_eq!(index.end(spread(1), newest), Some(0));
        assert_eq!(index.len(), 1);
    }

    #[test]
    fn what_is_loaded_never_takes_the_place_of_what_is_newer_or_was_removed() {
        let (index, next) = (Index::new(), AtomicU64::new(100));
        put(&index, 1, &next);
        assert_eq!(index.load(entry(1), 9), Loaded::Refused);
        let number = put(&index, 2, &next);
        assert!(index.remove(spread(2), number).0);
        assert_eq!(index.load(entry(2), 9), Loaded::Refused);
        for (hash, purge) in [(3, Purge::Remove), (4, Purge::Stale(7))] {
            assert_eq!(index.purge(spread(hash), purge), Purged::Nothing);
            assert_eq!(index.load(entry(hash), 9), Loaded::Refused);
        }
        assert_eq!(index.forget(spread(5)), None);
        assert_eq!(index.load(entry(5), 9), Loaded::Refused);
        assert_eq!(index.load(entry(6), 9), Loaded::Taken);
        assert_eq!(index.load(entry(6), 8), Loaded::Refused);
        assert_eq!(index.find(spread(6), 0), Some(9));
    }

    #[test]
    fn when_too_much_was_removed_before_it_was_loaded_nothing_is_loaded() {
        let index = Index::new();
        // All in one shard.
        for hash in 0..MOST_ABSENT as u64 {
            index.forget(hash);
        }
        let other = |hash| Entry { hash, ..entry(0) };
        assert_eq!(index.load(other(1 << 40), 9), Loaded::Taken);
        index.forget(MOST_ABSENT as u64);
        assert_eq!(index.load(other(1 << 41), 9), Loaded::Refused);
    }

    #[test]
    fn marks_stay_until_the_object_is_replaced_and_the_earlier_counts() {
        let (index, next) = (Index::new(), AtomicU64::new(5));
        let (number, _) = index.begin(entry(1), &next);
        assert_eq!(index.purge(spread(1), Purge::Stale(70)), Purged::InQueue);
        assert_eq!(index.end(spread(1), number), Some(70));
        assert_eq!(index.purge(spread(1), Purge::Stale(80)), Purged::Marked(5));
        assert!(index.mark(spread(1), number, 90));
        assert_eq!(index.stale(spread(1), number), Some(70));
        let newer = put(&index, 1, &next);
        assert_eq!(index.stale(spread(1), newer), Some(0));
        assert_eq!(index.stale(spread(1), number), None);
        assert!(!index.mark(spread(1), number, 90));
    }

    #[test]
    fn those_that_are_used_outlive_a_scan_and_those_in_the_queue_are_left_alone() {
        let (index, next) = (Index::new(), AtomicU64::new(0));
        for hash in 0..10_000 {
            put(&index, hash, &next);
        }
        let waiting = index.begin(entry(1 << 40), &next).0;
        for round in 0..20_u64 {
            for hash in 0..1_000 {
                assert!(index.find(spread(hash), 0).is_some(), "{round} {hash}");
            }
            for hash in 0..3_000 {
                index.evict().unwrap();
                put(&index, (round + 1) * 100_000 + hash, &next);
            }
        }
        assert_eq!(index.len(), 10_001);
        while index.evict().is_some() {}
        assert_eq!(index.len(), 1);
        assert_eq!(index.end(spread(1 << 40), waiting), Some(0));
    }

    #[test]
    fn a_sweep_takes_the_expired_and_the_idle_and_no_others() {
        let (index, next) = (Index::new(), AtomicU64::new(0));
        for hash in 0..3_000 {
            let entry = Entry {
                expires: if hash % 3 == 0 { 50 } else { 1_000 },
                used: if hash % 3 == 1 { 10 } else { 20 },
                ..entry(hash)
            };
            let (number, _) = index.begin(entry, &next);
            index.end(entry.hash, number).unwrap();
        }
        index.touch(spread(1), 30);
        let mut gone = Vec::new();
        index.sweep(50, 20, |one| gone.push(one.number));
        let expected = (0..3_000).filter(|hash| hash % 3 != 2 && *hash != 1);
        gone.sort_unstable();
        assert_eq!(gone, expected.collect::<Vec<_>>());
        assert_eq!(index.len(), 1_001);
    }

    #[test]
    fn an_object_takes_at_most_sixty_bytes() {
        // As many as make the tables, which double, as empty as they get: a million are the same.
        const OBJECTS: u64 = 250_000;
        let (index, next) = (Index::new(), AtomicU64::new(0));
        for hash in 0..OBJECTS {
            put(&index, hash, &next);
        }
        let sizes = index.shards.iter().map(|shard| {
            let shard = lock(shard);
            shard.table.allocation_size() + shard.slots.len() as usize * size_of::<Slot>()
        });
        let each = sizes.sum::<usize>() as f64 / OBJECTS as f64;
        assert!((48.0..=60.0).contains(&each), "{each}");
    }
}
