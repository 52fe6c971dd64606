//! What of a kind is in use, for those who ask about all of it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

/// All of a kind that are in use. A resource: whoever is on it keeps it.
pub(crate) struct Roll<T>(Mutex<Vec<Weak<T>>>);

impl<T> Default for Roll<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Roll<T> {
    /// Adds one, unless it is there.
    pub(crate) fn add(&self, one: &Arc<T>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|known| known.strong_count() > 0);
        if !known.iter().any(|known| known.as_ptr() == Arc::as_ptr(one)) {
            known.push(Arc::downgrade(one));
        }
    }

    /// All of them, in the order in which they came.
    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_there_once_and_as_long_as_it_is_used() {
        let roll = Roll::default();
        let (one, other) = (Arc::new(1), Arc::new(2));
        for number in [&one, &other, &one] {
            roll.add(number);
        }
        assert_eq!(roll.all(), [Arc::clone(&one), other]);
        assert_eq!(roll.all(), [one]);
        assert_eq!(roll.all(), []);
    }
}
