//! A table of things that were found right, kept so that the next request with one costs less.
//!
//! Its size is fixed and it has no locks. Each thing has one slot, chosen by a hash, and takes it from
//! the thing that was there; so the hash must have a key that nobody knows.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

/// A table of `T`.
pub(crate) struct Slots<T>(Box<[ArcSwapOption<T>]>);

impl<T> Slots<T> {
    /// A table of at least this many slots; none at all remembers nothing.
    pub(crate) fn new(size: usize) -> Self {
        let size = if size == 0 {
            0
        } else {
            size.next_power_of_two()
        };
        Self((0..size).map(|_| ArcSwapOption::empty()).collect())
    }

    /// What was kept with this hash, if it is what is looked for.
    pub(crate) fn find(&self, hash: u64, is_it: impl FnOnce(&T) -> bool) -> Option<Arc<T>> {
        let slot = self.slot(hash)?.load();
        let known = slot.as_ref()?;
        is_it(known).then(|| Arc::clone(known))
    }

    /// Keeps `thing`, to be found with this hash.
    pub(crate) fn keep(&self, hash: u64, thing: Arc<T>) {
        if let Some(slot) = self.slot(hash) {
            slot.store(Some(thing));
        }
    }

    fn slot(&self, hash: u64) -> Option<&ArcSwapOption<T>> {
        let last = self.0.len().checked_sub(1)?;
        self.0.get(hash as usize & last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_takes_the_slot_of_the_one_before() {
        let slots = Slots::new(3);
        slots.keep(1, Arc::new("a"));
        slots.keep(2, Arc::new("b"));
        slots.keep(u64::MAX, Arc::new("c"));
        slots.keep(5, Arc::new("d"));
        let found = |hash| slots.find(hash, |_| true).map(|known| *known);
        let all = [found(0), found(1), found(2), found(3)];
        assert_eq!(all, [None, Some("d"), Some("b"), Some("c")]);
        assert_eq!(slots.find(1, |known| *known == "a"), None);
    }

    #[test]
    fn without_slots_nothing_is_remembered() {
        let slots = Slots::new(0);
        slots.keep(1, Arc::new("a"));
        assert_eq!(slots.find(1, |_| true), None);
    }
}
