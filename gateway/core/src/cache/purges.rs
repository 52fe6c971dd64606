//! What was purged lately, for those who are just fetching it: their responses may be from before.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use super::memory::{Filing, Selection, Wanted};

/// When something was purged. Names share places, so some responses are not stored for the sake of another.
pub(super) struct Purges {
    /// Nanoseconds since 1970: what is asked for at once after a purge is not from before.
    names: [AtomicU64; PLACES],
    /// The last of the selections.
    last: AtomicU64,
    selections: Mutex<Recent>,
}

#[derive(Default)]
struct Recent {
    /// The oldest first, with the time.
    kept: VecDeque<(u64, Wanted)>,
    /// When the last of those was that are not kept any more.
    forgotten: u64,
}

impl Default for Purges {
    fn default() -> Self {
        Self {
            names: [const { AtomicU64::new(0) }; PLACES],
            last: AtomicU64::new(0),
            selections: Mutex::default(),
        }
    }
}

impl Purges {
    pub(super) fn note_name(&self, name: u128, now: SystemTime) {
        self.of(name).fetch_max(nanoseconds(now), Ordering::Relaxed);
    }

    /// Note them before going over what is stored, so that nothing passes between the two.
    pub(super) fn note(&self, selections: &[Selection<'_>], now: SystemTime) {
        let now = nanoseconds(now);
        {
            let recent = &mut *self
                .selections
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            for selection in selections {
                if recent.kept.len() == KEPT
                    && let Some((time, _)) = recent.kept.pop_front()
                {
                    recent.forgotten = recent.forgotten.max(time);
                }
                recent.kept.push_back((now, Wanted::from(*selection)));
            }
        }
        self.last.fetch_max(now, Ordering::Relaxed);
    }

    /// Whether an object was purged at that time or since. `hash` is that of its name.
    pub(super) fn since(&self, hash: u128, name: &[u8], filing: &Filing, time: SystemTime) -> bool {
        let time = nanoseconds(time);
        if self.of(hash).load(Ordering::Relaxed) >= time {
            return true;
        }
        // Mostly there has been no purge in the time of a fetch, and nobody takes the lock.
        if self.last.load(Ordering::Relaxed) < time {
            return false;
        }
        let recent = &*self
            .selections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_for = |(when, wanted): &(u64, Wanted)| {
            *when >= time && wanted.selection().means(name, filing)
        };
        recent.forgotten >= time || recent.kept.iter().any(is_for)
    }

    fn of(&self, name: u128) -> &AtomicU64 {
        &self.names[name as usize % PLACES]
    }
}

/// Since 1970.
fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Others than the names of one busy form share a place seldom.
const PLACES: usize = 1024;
/// Selections of the longest call, and some more.
const KEPT: usize = 512;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(nanoseconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(nanoseconds)
    }

    /// Whether what is filed under the host `a` and this tag was purged since.
    fn since(purges: &Purges, tag: &str, time: u64) -> bool {
        let filing = Filing {
            host: 0..1,
            path: 1..2,
            tags: tag.into(),
        };
        purges.since(7, b"a/", &filing, at(time))
    }

    #[test]
    fn only_what_is_meant_and_was_asked_for_before_is_purged() {
        let purges = Purges::default();
        assert!(!since(&purges, "tag", 1));
        purges.note(&[Selection::Host(b"b"), Selection::Tag("tag")], at(5));
        assert!(since(&purges, "tag", 4) && since(&purges, "tag", 5));
        assert!(!since(&purges, "tag", 6) && !since(&purges, "gat", 4));
        purges.note(&[Selection::Tag("gat")], at(8));
        assert!(since(&purges, "gat", 6) && !since(&purges, "tag", 6));
    }

    #[test]
    fn a_name_is_purged_alone() {
        let purges = Purges::default();
        purges.note_name(8, at(5));
        assert!(!since(&purges, "", 5));
        purges.note_name(7, at(5));
        assert!(since(&purges, "", 5) && !since(&purges, "", 6));
    }

    #[test]
    fn when_too_many_purges_were_made_to_be_remembered_all_counts_as_purged() {
        let purges = Purges::default();
        purges.note(&[Selection::Tag("first")], at(5));
        let others = [Selection::Tag("other"); KEPT - 1];
        purges.note(&others, at(9));
        assert!(!since(&purges, "tag", 5));
        purges.note(&[Selection::Tag("other")], at(9));
        assert!(since(&purges, "tag", 5) && !since(&purges, "tag", 6));
    }
}
