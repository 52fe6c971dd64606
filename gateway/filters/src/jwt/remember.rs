//! Verified tokens, kept so that the next request with one costs almost nothing.
//!
//! Only the whole token finds what is known of it again, so nothing short of the token itself is
//! ever believed.

use std::sync::Arc;

use ahash::RandomState;
use edgeway_sdk::{BuildError, Identity};

use super::claims::Seconds;
use crate::{forward::Headers, slots::Slots};

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
    slots: Slots<Verified>,
    /// With a random key.
    hasher: RandomState,
}

impl Remembered {
    /// A table for at least this many tokens; for none, it remembers nothing.
    pub(super) fn new(size: usize) -> Result<Self, BuildError> {
        if size > MOST {
            let message = format!("more than {MOST} tokens can't be remembered");
            return Err(BuildError::at("remember", message));
        }
        Ok(Self {
            slots: Slots::new(size),
            hasher: RandomState::new(),
        })
    }

    /// What is known of this token, if this edition of the keys has verified it and it is not
    /// expired.
    pub(super) fn find(&self, token: &str, keys: u64, now: Seconds) -> Option<Arc<Verified>> {
        if token.len() > LONGEST {
            return None;
        }
        self.slots.find(self.hasher.hash_one(token), |known| {
            *known.token == *token && known.keys == keys && now < known.expires
        })
    }

    pub(super) fn keep(&self, verified: &Arc<Verified>) {
        if verified.token.len() <= LONGEST {
            let hash = self.hasher.hash_one(&*verified.token);
            self.slots.keep(hash, Arc::clone(verified));
        }
    }
}

/// Longer tokens are verified each time, so that a slot takes some KiB and no more.
const LONGEST: usize = 2 << 10;
/// More tokens than this are a mistake, not a wish.
const MOST: usize = 1 << 20;
