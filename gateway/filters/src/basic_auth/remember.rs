//! Passwords that were right a moment ago.
//!
//! What is kept is a keyed hash, so that neither the table nor its timing tells anything of the password.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::users::User;
use crate::{
    digest::{Digest, Hasher},
    slots::Slots,
};

pub(super) struct Remembered {
    slots: Slots<Entry>,
    hasher: Hasher,
}

struct Entry {
    digest: Digest,
    until: Instant,
    user: Arc<User>,
}

impl Remembered {
    pub(super) fn new() -> Self {
        Self {
            slots: Slots::new(SLOTS),
            hasher: Hasher::new(),
        }
    }

    pub(super) fn digest(&self, text: &[u8]) -> Digest {
        self.hasher.digest([text])
    }

    /// The user as they were when the password was verified.
    pub(super) fn find(&self, digest: &Digest, now: Instant) -> Option<Arc<User>> {
        let entry = self.slots.find(digest.number(), |entry| {
            entry.digest == *digest && now < entry.until
        })?;
        Some(Arc::clone(&entry.user))
    }

    pub(super) fn keep(&self, digest: Digest, user: &Arc<User>, now: Instant) {
        let entry = Entry {
            digest,
            until: now + MEMORY,
            user: Arc::clone(user),
        };
        self.slots.keep(digest.number(), Arc::new(entry));
    }
}

const SLOTS: usize = 1_024;
/// How long a password that was right stays so without being verified.
pub(super) const MEMORY: Duration = Duration::from_secs(60);
