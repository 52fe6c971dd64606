//! What is known of each key, in memory of a fixed size and without locks.
//!
//! A key has twelve entries to choose from, four in each of three cache lines. Each is written in one step
//! with all that belongs to it, so that no thread ever sees, or charges, half of another key. A new key
//! takes an entry whose level is zero: one that nobody has taken, or that of a key that is idle, since there
//! is nothing to know of it. Only where all twelve are of active keys is the least active of them forgotten.

use std::sync::{
    OnceLock,
    atomic::Ordering::{Relaxed, SeqCst},
};

use portable_atomic::AtomicU128;

use super::gcra::Nanos;

/// For each key, by its hash, the time when its level is zero.
pub(super) struct Table {
    /// Made when a key comes that belongs there.
    segments: Box<[OnceLock<Segment>]>,
    lines: u64,
    bytes: u64,
    interval: Nanos,
}

type Segment = Box<[Line]>;

/// Entries: 64 bits of the hash, and 64 bits of the time.
#[derive(Default)]
#[repr(align(64))]
struct Line([AtomicU128; WAYS]);

impl Table {
    /// A table of no more than so many bytes, for a limit of this interval.
    pub(super) fn new(bytes: u64, interval: Nanos) -> Self {
        let lines = (bytes / LINE).max(1);
        Self {
            segments: (0..lines.div_ceil(SEGMENT))
                .map(|_| OnceLock::new())
                .collect(),
            lines,
            bytes,
            interval,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn interval(&self) -> Nanos {
        self.interval
    }

    /// When the level of a key is zero; zero if nothing is known of it.
    pub(super) fn find(&self, hash: u64) -> Nanos {
        self.look(tag(hash), 0).empty_at()
    }

    /// Changes when the level of a key is zero, in one step: `change` is called with that time, again if
    /// another thread was faster, and what it returns last is in force. After an error nothing has changed.
    pub(super) fn update<E>(
        &self,
        hash: u64,
        now: Nanos,
        mut change: impl FnMut(Nanos) -> Result<Nanos, E>,
    ) -> Result<(), E> {
        let tag = tag(hash);
        loop {
            let look = self.look(tag, now);
            let after = packed(tag, change(look.empty_at())?);
            let slot = self.slot(look.place);
            let written = slot.compare_exchange(look.entry, after, SeqCst, Relaxed);
            if written.is_ok() && (look.known || self.is_the_only_one(tag, look.place, after)) {
                return Ok(());
            }
        }
    }

    /// Gives a new entry back if another thread has made one of the same key in another line: an entry that
    /// became idle in between may lead the two to different choices.
    fn is_the_only_one(&self, tag: u64, place: Place, entry: u128) -> bool {
        let others = self.places(tag).into_iter().filter(|line| *line != place.0);
        let has_twin = others
            .flat_map(|line| self.entries(line))
            .any(|(_, entry)| tag_of(entry) == tag);
        // If it was charged already, it stays: that is rarer still, and one burst too much at worst.
        !has_twin
            || self
                .slot(place)
                .compare_exchange(entry, 0, SeqCst, Relaxed)
                .is_err()
    }

    /// Takes over what another table knows of keys that are active, their levels being converted.
    pub(super) fn take_over(&self, other: &Self, now: Nanos, convert: impl Fn(Nanos) -> Nanos) {
        for line in 0..other.lines {
            for (_, entry) in other.entries(line) {
                let debt = time_of(entry).saturating_sub(now);
                if debt > 0 {
                    let empty_at = now.saturating_add(convert(debt));
                    let taken = self.update(tag_of(entry), now, |_| Ok::<_, ()>(empty_at));
                    debug_assert!(taken.is_ok());
                }
            }
        }
    }

    /// The entry of a key, or the one that it takes if it has none.
    fn look(&self, tag: u64, now: Nanos) -> Look {
        // The more idle entries a line has, the better: keys are spread evenly, and none has to be
        // forgotten while the table is not nearly full.
        let mut best = (0, Nanos::MAX, (0, 0), 0);
        for line in self.places(tag) {
            let (mut idle, mut least) = (0, (Nanos::MAX, 0, 0));
            for (way, entry) in self.entries(line) {
                if tag_of(entry) == tag {
                    return Look {
                        known: true,
                        place: (line, way),
                        entry,
                    };
                }
                let time = time_of(entry);
                idle += u32::from(time <= now);
                if time < least.0 {
                    least = (time, way, entry);
                }
            }
            let (time, way, entry) = least;
            if idle > best.0 || idle == best.0 && time < best.1 {
                best = (idle, time, (line, way), entry);
            }
        }
        let (_, _, place, entry) = best;
        Look {
            known: false,
            place,
            entry,
        }
    }

    /// The entries of a line; zeros if nobody has needed them.
    fn entries(&self, line: u64) -> impl Iterator<Item = (usize, u128)> {
        let segment = self.segment(line).get();
        let line = segment.and_then(|segment| segment.get((line % SEGMENT) as usize));
        (0..WAYS).map(move |way| {
            let slot = line.and_then(|line| line.0.get(way));
            (way, slot.map_or(0, |slot| slot.load(SeqCst)))
        })
    }

    /// The lines of a key.
    fn places(&self, tag: u64) -> [u64; 3] {
        // The higher bits of a hash make a place; a multiplication makes another hash of it.
        let place = |hash: u64| ((u128::from(hash) * u128::from(self.lines)) >> 64) as u64;
        let second = tag.wrapping_mul(ODD).swap_bytes();
        let third = second.wrapping_mul(ODD).swap_bytes();
        [place(tag), place(second), place(third)]
    }

    fn segment(&self, line: u64) -> &OnceLock<Segment> {
        self.segments
            .get((line / SEGMENT) as usize)
            .expect("a place is below the number of lines")
    }

    fn slot(&self, (line, way): Place) -> &AtomicU128 {
        let size = SEGMENT.min(self.lines - line / SEGMENT * SEGMENT);
        let segment = self
            .segment(line)
            .get_or_init(|| (0..size).map(|_| Line::default()).collect());
        segment
            .get((line % SEGMENT) as usize)
            .and_then(|line| line.0.get(way))
            .expect("a place is below the number of lines")
    }
}

/// A line, and an entry in it.
type Place = (u64, usize);

/// What was found of a key.
struct Look {
    /// Whether the entry is the key's own.
    known: bool,
    place: Place,
    entry: u128,
}

impl Look {
    fn empty_at(&self) -> Nanos {
        if self.known { time_of(self.entry) } else { 0 }
    }
}

/// Never zero: that is the tag of an entry that nobody has taken.
fn tag(hash: u64) -> u64 {
    hash.max(1)
}

fn packed(tag: u64, empty_at: Nanos) -> u128 {
    u128::from(tag) << 64 | u128::from(empty_at)
}

fn tag_of(entry: u128) -> u64 {
    (entry >> 64) as u64
}

fn time_of(entry: u128) -> Nanos {
    entry as u64
}

const WAYS: usize = 4;
/// The bytes of a line.
const LINE: u64 = 64;
/// The lines of a segment: 64 KiB.
const SEGMENT: u64 = 1_024;
/// 2^64 by the golden ratio.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::atomic::AtomicU64, thread};

    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::{super::gcra::Gcra, *};

    const KIB: u64 = 1_024;

    fn limit(interval: Nanos, burst: u32) -> Gcra {
        Gcra {
            interval,
            burst,
            at_once: burst,
            cost: 1,
        }
    }

    fn passes(table: &Table, gcra: &Gcra, hash: u64, now: Nanos) -> bool {
        let charge = |empty_at| gcra.arrive(empty_at, now).map(|pass| pass.empty_at);
        table.update(hash, now, charge).is_ok()
    }

    fn taken(table: &Table) -> u64 {
        let segments = table.segments.iter().filter_map(OnceLock::get);
        segments.map(|segment| size_of_val(&**segment) as u64).sum()
    }

    #[test]
    fn threads_let_exactly_as_many_pass_as_there_is_room_for() {
        let gcra = limit(1_000_000, 999);
        // Entries of idle keys are taken and lost around that of the one that is looked at.
        let table = Table::new(4 * KIB, gcra.interval);
        let passed = AtomicU64::new(0);
        thread::scope(|scope| {
            for thread in 0..8 {
                let (table, gcra, passed) = (&table, &gcra, &passed);
                scope.spawn(move || {
                    let mut random = StdRng::seed_from_u64(thread);
                    for n in 0..2_000_u64 {
                        let is_first = passes(table, gcra, 7 << 20, 1);
                        passed.fetch_add(u64::from(is_first), Relaxed);
                        passes(table, &limit(1, 0), random.random(), n + 1);
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 1_000);
    }

    #[test]
    fn threads_that_bring_the_same_new_keys_at_once_make_one_entry_of_each() {
        for round in 0..50 {
            let gcra = limit(1_000_000, 9);
            let table = Table::new(256 * KIB, gcra.interval);
            let passed = AtomicU64::new(0);
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let mut random = StdRng::seed_from_u64(round);
                        for _ in 0..200 {
                            let hash = random.random();
                            let count = (0..20).filter(|_| passes(&table, &gcra, hash, 1)).count();
                            passed.fetch_add(count as u64, Relaxed);
                        }
                    });
                }
            });
            assert_eq!(passed.into_inner(), 200 * 10);
        }
    }

    #[test]
    fn it_knows_as_much_as_a_map_while_there_is_room() {
        let mut random = StdRng::seed_from_u64(1);
        // 16 384 entries.
        let table = Table::new(256 * KIB, 1);
        let mut model: HashMap<u64, Nanos> = HashMap::new();
        let keys: Vec<u64> = (0..8_000).map(|_| random.random()).collect();
        let mut now = 1;
        for _ in 0..200_000 {
            now += random.random_range(0..3);
            let gcra = limit(random.random_range(1_000..100_000), 3);
            let key = keys[random.random_range(0..keys.len())];
            let known = model.entry(key).or_default();
            let expected = gcra.arrive(*known, now);
            *known = expected.map_or(*known, |pass| pass.empty_at);
            assert_eq!(passes(&table, &gcra, key, now), expected.is_ok());
            assert_eq!(table.find(key), *known);
        }
    }

    #[test]
    fn a_million_keys_take_no_more_memory_than_allowed() {
        let mut random = StdRng::seed_from_u64(2);
        let gcra = limit(100, 0);
        let table = Table::new(1_024 * KIB, gcra.interval);
        assert_eq!(taken(&table), 0, "what nobody needs is not taken");
        for n in 0..1_000_000 {
            assert!(passes(&table, &gcra, random.random(), n + 1));
        }
        assert_eq!(taken(&table), 1_024 * KIB);
        for (bytes, most) in [(1, LINE), (100, LINE), (100 * KIB, 100 * KIB)] {
            let small = Table::new(bytes, 1);
            for n in 0..10_000 {
                passes(&small, &gcra, random.random(), n + 1);
            }
            assert_eq!(taken(&small), most, "{bytes}");
        }
    }

    #[test]
    fn an_active_key_is_not_forgotten_for_a_million_idle_ones() {
        let mut random = StdRng::seed_from_u64(3);
        // 65 536 entries, half of them with keys that stay active.
        let table = Table::new(1_024 * KIB, 1);
        let (slow, quick) = (limit(1_000_000_000, 0), limit(10, 0));
        let active: Vec<u64> = (0..32_768).map(|_| random.random()).collect();
        assert!(active.iter().all(|hash| passes(&table, &slow, *hash, 1)));
        for n in 0..1_000_000 {
            passes(&table, &quick, random.random(), n + 2);
        }
        let forgotten = |hash: &&u64| passes(&table, &slow, **hash, 1_000_002);
        assert_eq!(active.iter().filter(forgotten).count(), 0);
    }

    #[test]
    fn what_another_table_knows_is_taken_over_whatever_its_size() {
        let mut random = StdRng::seed_from_u64(5);
        let old = Table::new(256 * KIB, 10);
        let keys: Vec<u64> = (0..4_000).map(|_| random.random()).collect();
        for (key, empty_at) in keys.iter().zip(100..) {
            assert_eq!(old.update(*key, 1, |_| Ok::<_, ()>(empty_at)), Ok(()));
        }
        for bytes in [1_024 * KIB, 128 * KIB] {
            let new = Table::new(bytes, 20);
            new.take_over(&old, 1_100, |debt| debt * 2);
            for (key, empty_at) in keys.iter().zip(100..) {
                // Of who is idle nothing need be known.
                let expected = match u64::saturating_sub(empty_at, 1_100) {
                    0 => 0,
                    debt => 1_100 + debt * 2,
                };
                assert_eq!(new.find(*key), expected);
            }
        }
    }
}
