//! Small files, kept in memory.
//!
//! What is kept is never changed: who has got it may go on sending it, whatever becomes of the file. Who looks for a
//! file locks nothing; who adds one makes a part of the table anew.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    time::Instant,
};

use ahash::{AHashMap, RandomState};
use arc_swap::ArcSwap;
use bytes::Bytes;
use edgeway_sdk::Coding;

use super::{
    Name,
    entity::Entity,
    open::State,
    recent::{Note, Recent, Sight},
};

/// What is kept of small files, at most so many bytes, and what is noted of others.
pub(crate) struct Memory {
    parts: Box<[Part]>,
    of_part: usize,
    recent: Recent,
    hasher: RandomState,
    begun: Instant,
}

/// A part of the table, with a limit of its own.
#[derive(Default)]
struct Part {
    table: ArcSwap<Table>,
    /// Bytes, with bookkeeping.
    taken: AtomicUsize,
    writing: Mutex<()>,
}

type Table = AHashMap<Key, Arc<Kept>>;

/// What a file is asked for as: one that is the coded form of another is not the same as that file by itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) name: Name,
    pub(super) coding: Option<Coding>,
}

/// A state of a file.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(super) state: State,
    pub(super) entity: Entity,
    content: Bytes,
    /// Whether it was asked for since somebody had to make room.
    used: AtomicBool,
    /// The second in which it was found last to be the state of a file that may be served.
    seen: AtomicU32,
}

impl Kept {
    pub(super) fn new(state: State, entity: Entity, content: Bytes) -> Self {
        Self {
            state,
            entity,
            content,
            used: AtomicBool::new(false),
            seen: AtomicU32::new(0),
        }
    }
}

impl Kept {
    /// A part of the content.
    pub(crate) fn slice(&self, span: &Range<u64>) -> Bytes {
        let place = |at: u64| {
            usize::try_from(at)
                .unwrap_or(usize::MAX)
                .min(self.content.len())
        };
        self.content.slice(place(span.start)..place(span.end))
    }
}

/// What the table itself takes for a file, about.
const BOOKKEEPING: usize = 512;

/// How many of the largest files fit into a part at least.
const FITTING: usize = 8;

/// For so many bytes of files there may be a note.
const NOTED: usize = 32 * 1024;

/// The most parts there are. To add a file copies one.
const PARTS: usize = 64;

/// For so many seconds a file that was found in the folder is believed to be in it, if what its path leads to now is in
/// the same state. Then it has to be found again: a file that was moved out of the folder, with a link in its place, is
/// in the same state, and must not be served for longer than this. For as long the kernel can be believed to still know
/// the file, so that nobody has to wait for the disk to look at it.
const REMEMBERED: u32 = 1;

impl Memory {
    /// For files of at most `largest` bytes.
    pub(crate) fn new(size: usize, largest: usize) -> Self {
        let room = largest.saturating_add(BOOKKEEPING).saturating_mul(FITTING);
        let parts = (size / room).clamp(1, PARTS);
        Self {
            parts: (0..parts).map(|_| Part::default()).collect(),
            of_part: size / parts,
            recent: Recent::new(size / NOTED),
            hasher: RandomState::new(),
            begun: Instant::now(),
        }
    }

    pub(super) fn find(&self, key: &Key) -> Option<Arc<Kept>> {
        let table = self.part(key)?.table.load();
        let kept = table.get(key)?;
        // Nearly always it is set: to look is less than to write what others read.
        if !kept.used.load(Ordering::Relaxed) {
            kept.used.store(true, Ordering::Relaxed);
        }
        Some(Arc::clone(kept))
    }

    /// Whether the file was found so shortly ago that to look at its path is enough: see [`REMEMBERED`].
    pub(super) fn is_remembered(&self, kept: &Kept) -> bool {
        self.is_recent(kept.seen.load(Ordering::Relaxed))
    }

    /// What was found so shortly ago that to look at its path is enough, and is not kept.
    pub(super) fn noted(&self, key: &Key) -> Option<Arc<Note>> {
        let note = self.recent.find(key)?;
        self.is_recent(note.second).then_some(note)
    }

    /// Notes what was found, or that nothing was. The second is that in which it began to be looked for.
    pub(super) fn note(&self, key: &Key, found: Option<Sight>, second: u32) {
        self.recent.put(Note {
            key: key.clone(),
            found,
            second,
        });
    }

    fn is_recent(&self, second: u32) -> bool {
        self.now().saturating_sub(second) < REMEMBERED
    }

    /// Notes that a file was found in that state, in the folder. The second is that in which it began to be looked
    /// for, as nobody can say how long that took.
    pub(super) fn seen(&self, kept: &Kept, second: u32) {
        if kept.seen.load(Ordering::Relaxed) < second {
            kept.seen.fetch_max(second, Ordering::Relaxed);
        }
    }

    /// The second it is now. The first is late enough that nothing is remembered that was never seen.
    pub(super) fn now(&self) -> u32 {
        let seconds = self.begun.elapsed().as_secs();
        u32::try_from(seconds)
            .unwrap_or(u32::MAX)
            .saturating_add(REMEMBERED)
    }

    /// Keeps a file, in place of what was kept of it.
    pub(super) fn keep(&self, key: &Key, kept: Arc<Kept>) {
        let Some(part) = self.part(key) else { return };
        let cost = cost(key, &kept);
        if cost > self.of_part {
            return;
        }
        let writing = part.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&part.table.load());
        let mut taken = part.taken.load(Ordering::Relaxed) + cost;
        if let Some(before) = table.insert(key.clone(), kept) {
            taken -= self::cost(key, &before);
        }
        make_room(&mut table, &mut taken, self.of_part, key);
        part.table.store(Arc::new(table));
        part.taken.store(taken, Ordering::Relaxed);
        drop(writing);
    }

    /// Forgets a file that is not there any more.
    pub(super) fn forget(&self, key: &Key) {
        let Some(part) = self.part(key) else { return };
        let writing = part.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&part.table.load());
        if let Some(before) = table.remove(key) {
            part.taken.fetch_sub(cost(key, &before), Ordering::Relaxed);
            part.table.store(Arc::new(table));
        }
        drop(writing);
    }

    fn part(&self, key: &Key) -> Option<&Part> {
        let hash = self.hasher.hash_one(key);
        // The table of the part goes by the same hash, but of its own seed.
        let place = hash % self.parts.len() as u64;
        self.parts.get(usize::try_from(place).unwrap_or_default())
    }
}

fn cost(key: &Key, kept: &Kept) -> usize {
    key.name.as_bytes().len() + kept.content.len() + BOOKKEEPING
}

/// Drops files until all fit: first those that nobody has asked for since the last time, then any, but for the one
/// that has just come.
fn make_room(table: &mut Table, taken: &mut usize, most: usize, newest: &Key) {
    for any in [false, true] {
        if *taken <= most {
            return;
        }
        table.retain(|key, kept| {
            let stays = *taken <= most || key == newest;
            if stays || (!any && kept.used.swap(false, Ordering::Relaxed)) {
                return true;
            }
            *taken -= cost(key, kept);
            false
        });
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} x {})", self.parts.len(), self.of_part)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::OwnedFd};

    use http::HeaderValue;

    use super::*;
    use crate::files::{Rules, open::state_of};

    fn key(name: &str) -> Key {
        let name = Name::parse(name, Rules::default()).unwrap();
        Key { name, coding: None }
    }

    fn kept(length: usize) -> Arc<Kept> {
        let file: OwnedFd = File::open("/").unwrap().into();
        let state = state_of(file).unwrap();
        let entity = Entity {
            stamp: state.stamp,
            etag: None,
            content_type: HeaderValue::from_static("text/plain"),
            coding: None,
            varies: false,
        };
        Arc::new(Kept::new(state, entity, vec![b'x'; length].into()))
    }

    #[test]
    fn what_is_asked_for_stays_and_what_is_not_makes_room() {
        let memory = Memory::new(9 * 1_600, 1_000);
        assert_eq!(memory.parts.len(), 1);
        memory.keep(&key("wanted"), kept(1_000));
        for other in 0..100 {
            memory.keep(&key(&other.to_string()), kept(1_000));
            assert!(memory.find(&key("wanted")).is_some(), "{other}");
            // Not asked for: where all are, any of them makes room.
            let table = memory.parts[0].table.load();
            assert!(table.contains_key(&key(&other.to_string())), "the newest");
        }
        let part = &memory.parts[0];
        let table = part.table.load();
        let taken: usize = table.iter().map(|(key, kept)| cost(key, kept)).sum();
        assert_eq!(taken, part.taken.load(Ordering::Relaxed));
        assert!(
            taken <= memory.of_part && table.len() > 5,
            "{}",
            table.len()
        );
    }

    #[test]
    fn another_state_takes_the_place_of_the_one_before() {
        let memory = Memory::new(1 << 20, 1 << 10);
        memory.keep(&key("a"), kept(10));
        memory.keep(&key("a"), kept(20));
        assert_eq!(memory.find(&key("a")).unwrap().content.len(), 20);
        memory.forget(&key("a"));
        assert!(memory.find(&key("a")).is_none());
        let taken = |part: &Part| part.taken.load(Ordering::Relaxed);
        assert_eq!(memory.parts.iter().map(taken).sum::<usize>(), 0);
        memory.keep(&key("a"), kept(1 << 20));
        assert!(memory.find(&key("a")).is_none(), "larger than all");
    }

    #[test]
    fn nothing_is_remembered_that_was_not_seen() {
        let memory = Memory::new(1 << 20, 1 << 10);
        let kept = kept(1);
        assert!(!memory.is_remembered(&kept));
        memory.seen(&kept, memory.now());
        assert!(memory.is_remembered(&kept));
        memory.seen(&kept, memory.now() - 1);
        assert!(memory.is_remembered(&kept), "it was seen later as well");
    }

    #[test]
    fn what_was_seen_in_the_second_before_has_to_be_found_again() {
        let memory = Memory::new(1 << 20, 1 << 10);
        let kept = kept(1);
        memory.seen(&kept, memory.now() - REMEMBERED);
        assert!(!memory.is_remembered(&kept));
    }

    #[test]
    fn what_was_noted_in_the_second_before_has_to_be_found_again() {
        let memory = Memory::new(1 << 20, 1 << 10);
        let key = key("a");
        memory.note(&key, None, memory.now());
        assert!(memory.noted(&key).is_some());
        memory.note(&key, None, memory.now() - REMEMBERED);
        assert!(memory.noted(&key).is_none());
    }
}
