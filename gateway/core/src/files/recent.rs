//! What was found a moment ago and is not kept: large files, and siblings that are not there.
//!
//! Who knows what to expect has to ask the kernel once whether it is still so, and not to walk, open and close to find
//! it out.

use std::sync::Arc;

use ahash::RandomState;
use arc_swap::ArcSwapOption;

use super::{entity::Entity, memory::Key, open::State};

/// Notes, each in the only place where it may be: the one that was there before is dropped. So a note costs the same
/// however many files there are.
pub(super) struct Recent {
    places: Box<[ArcSwapOption<Note>]>,
    hasher: RandomState,
}

/// What was found by a name.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) key: Key,
    /// None where nothing was.
    pub(super) found: Option<Sight>,
    /// In which it began to be looked for, as the memory counts.
    pub(super) second: u32,
}

/// A file that is too large to be kept, as it was.
#[derive(Debug)]
pub(super) struct Sight {
    pub(super) state: State,
    pub(super) entity: Entity,
}

impl Recent {
    /// For so many notes, if that is neither none nor very many.
    pub(super) fn new(places: usize) -> Self {
        let places = places.clamp(1, MOST);
        Self {
            places: (0..places).map(|_| ArcSwapOption::empty()).collect(),
            hasher: RandomState::new(),
        }
    }

    pub(super) fn find(&self, key: &Key) -> Option<Arc<Note>> {
        let note = self.place(key)?.load();
        let note = note.as_ref().filter(|note| note.key == *key)?;
        Some(Arc::clone(note))
    }

    pub(super) fn put(&self, note: Note) {
        if let Some(place) = self.place(&note.key) {
            place.store(Some(Arc::new(note)));
        }
    }

    fn place(&self, key: &Key) -> Option<&ArcSwapOption<Note>> {
        let place = self.hasher.hash_one(key) % self.places.len() as u64;
        self.places.get(usize::try_from(place).unwrap_or_default())
    }
}

/// Each takes some 300 bytes, and its name if that is a long one.
const MOST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{Name, Rules};

    fn key(name: &str) -> Key {
        let name = Name::parse(name, Rules::default()).unwrap();
        Key { name, coding: None }
    }

    fn absent(name: &str, second: u32) -> Note {
        Note {
            key: key(name),
            found: None,
            second,
        }
    }

    #[test]
    fn a_note_is_of_its_name_and_of_no_other_in_the_same_place() {
        let recent = Recent::new(0);
        recent.put(absent("a", 1));
        assert!(recent.find(&key("b")).is_none());
        recent.put(absent("b", 2));
        assert_eq!(recent.find(&key("b")).map(|note| note.second), Some(2));
        assert!(recent.find(&key("a")).is_none(), "there is one place");
    }

    #[test]
    fn however_many_files_there_are_there_are_no_more_notes_than_places() {
        let recent = Recent::new(16);
        for name in 0..1_000 {
            recent.put(absent(&name.to_string(), 1));
        }
        let found = (0..1_000).filter(|name| recent.find(&key(&name.to_string())).is_some());
        assert_eq!(found.count(), 16);
    }
}
