//! Verified tokens, kept so that the next request with one costs almost nothing.
//!
//! A table of fixed size, without locks: each token has one slot, chosen by a hash whose key is
//! random, and takes it from the token that was there. Only the whole token finds its slot's
//! content again, so nothing short of the token itself is ever believed.

use std::sync::Arc;

use ahash::RandomState;
use arc_swap::ArcSwapOption;
use edgeway_sdk::{BuildError, Identity};

use super::{claims::Seconds, forward::Headers};

/// Longer tokens are verified each time: memory stays below 2 KiB a slot and some.
const LONGEST: usize = 2 << 10;

/// More than this many slots are a mistake, not a wish.
const MOST: usize = 1 << 20;

/// A token that has passed all checks that do not change with time, but expiry.
pub(super) struct Verified {
    pub(super) token: Box<str>,
    /// The edition of the key set that verified it: when keys go, so must what they have signed.
    pub(super) keys: u64,
    pub(super) expires: Seconds,
    pub(super) id: Option<Box<str>>,
    pub(super) identity: Identity,
    pub(super) headers: Headers,
}

pub(super) struct Remembered {
    slots: Box<[ArcSwapOption<Verified>]>,
    hasher: RandomState,
}

impl Remembered {
    /// A table of at least this many slots; none at all remembers nothing.
    pub(super) fn new(size: usize) -> Result<Self, BuildError> {
        if size > MOST {
            let message = format!("more than {MOST} tokens can't be remembered");
            return Err(BuildError::at("remember", message));
        }
        let slots = if size == 0 {
            0
        } else {
            size.next_power_of_two()
        };
        Ok(Self {
            slots: (0..slots).map(|_| ArcSwapOption::empty()).collect(),
            hasher: RandomState::new(),
        })
    }

    /// What is known of this token, if this edition of the keys has verified it and it is not
    /// expired.
    pub(super) fn find(&self, token: &str, keys: u64, now: Seconds) -> Option<Arc<Verified>> {
        let slot = self.slot(token)?.load();
        let known = slot.as_ref()?;
        let same = *known.token == *token && known.keys == keys && now < known.expires;
        same.then(|| Arc::clone(known))
    }

    pub(super) fn keep(&self, verified: &Arc<Verified>) {
        if let Some(slot) = self.slot(&verified.token) {
            slot.store(Some(Arc::clone(verified)));
        }
    }

    fn slot(&self, token: &str) -> Option<&ArcSwapOption<Verified>> {
        if token.len() > LONGEST {
            return None;
        }
        let last = self.slots.len().checked_sub(1)?;
        self.slots.get(self.hasher.hash_one(token) as usize & last)
    }
}
