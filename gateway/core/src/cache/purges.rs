//! What was purged lately, for those who are just fetching it: their responses may be from before.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::memory::{Filing, Selection, Wanted};

/// A point in the order of requests and purges, whatever clocks say: how many purges were before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn(u64);

impl Turn {
    /// What is purged from now on is purged since.
    pub(crate) fn now() -> Self {
        Self(TURNS.load(Ordering::Acquire))
    }

    /// That of another purge.
    fn next() -> Self {
        Self(TURNS.fetch_add(1, Ordering::AcqRel) + 1)
    }
}

/// The purges of all zones so far.
static TURNS: AtomicU64 = AtomicU64::new(0);

/// The last purges. Names share places, so some responses are not stored for the sake of another.
pub(super) struct Purges {
    names: Box<[AtomicU64]>,
    /// The last of the selections.
    last: AtomicU64,
    selections: Mutex<Recent>,
}

#[derive(Default)]
struct Recent {
    /// The oldest first, with its turn.
    kept: VecDeque<(u64, Wanted)>,
    /// The last of those that are not kept any more.
    forgotten: u64,
}

impl Default for Purges {
    fn default() -> Self {
        Self {
            names: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            last: AtomicU64::new(0),
            selections: Mutex::default(),
        }
    }
}

impl Purges {
    pub(super) fn note_name(&self, name: u128) {
        let Turn(turn) = Turn::next();
        self.place(name).fetch_max(turn, Ordering::AcqRel);
    }

    /// Note them before going over what is stored, so that nothing passes between the two.
    pub(super) fn note(&self, selections: &[Selection<'_>]) {
        let Turn(turn) = Turn::next();
        {
            let recent = &mut *self
                .selections
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            for selection in selections {
                if recent.kept.len() == KEPT
                    && let Some((turn, _)) = recent.kept.pop_front()
                {
                    recent.forgotten = recent.forgotten.max(turn);
                }
                recent.kept.push_back((turn, Wanted::from(*selection)));
            }
        }
        self.last.fetch_max(turn, Ordering::AcqRel);
    }

    /// Whether an object was purged since. `hash` is that of its name.
    pub(super) fn since(&self, hash: u128, name: &[u8], filing: &Filing, turn: Turn) -> bool {
        let Turn(turn) = turn;
        if self.place(hash).load(Ordering::Acquire) > turn {
            return true;
        }
        // Mostly there has been no purge in the time of a fetch, and nobody takes the lock.
        if self.last.load(Ordering::Acquire) <= turn {
            return false;
        }
        let recent = &*self
            .selections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_for =
            |(when, wanted): &(u64, Wanted)| *when > turn && wanted.selection().means(name, filing);
        recent.forgotten > turn || recent.kept.iter().any(is_for)
    }

    fn place(&self, name: u128) -> &AtomicU64 {
        &self.names[name as usize % PLACES]
    }
}

/// In 128 KiB. Where many forms are sent, what is fetched meanwhile shares a place with one of them seldom.
const PLACES: usize = 1 << 14;
/// Selections of the longest call, and some more.
const KEPT: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether what is filed under the host `a` and this tag was purged since.
    fn since(purges: &Purges, tag: &str, turn: Turn) -> bool {
        let filing = Filing {
            host: 0..1,
            path: 1..2,
            tags: tag.into(),
        };
        purges.since(7, b"a/", &filing, turn)
    }

    #[test]
    fn only_what_is_meant_and_was_asked_for_before_is_purged() {
        let purges = Purges::default();
        let before = Turn::now();
        assert!(!since(&purges, "tag", before));
        purges.note(&[Selection::Host(b"b"), Selection::Tag("tag")]);
        let between = Turn::now();
        assert!(since(&purges, "tag", before) && !since(&purges, "tag", between));
        assert!(!since(&purges, "gat", before));
        purges.note(&[Selection::Tag("gat")]);
        assert!(since(&purges, "gat", between) && !since(&purges, "tag", between));
        assert!(!since(&purges, "gat", Turn::now()));
    }

    #[test]
    fn a_name_is_purged_alone() {
        let purges = Purges::default();
        let before = Turn::now();
        purges.note_name(8);
        assert!(!since(&purges, "", before));
        purges.note_name(7);
        assert!(since(&purges, "", before) && !since(&purges, "", Turn::now()));
    }

    #[test]
    fn when_too_many_purges_were_made_to_be_remembered_all_counts_as_purged() {
        let purges = Purges::default();
        let before = Turn::now();
        purges.note(&[Selection::Tag("first")]);
        let between = Turn::now();
        purges.note(&[Selection::Tag("other"); KEPT - 1]);
        assert!(!since(&purges, "tag", before));
        purges.note(&[Selection::Tag("other")]);
        assert!(since(&purges, "tag", before) && !since(&purges, "tag", between));
    }
}
