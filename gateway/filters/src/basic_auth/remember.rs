//! Passwords that were right a moment ago.
//!
//! What is kept is a hash under a key that is random and dies with the filter, so that neither the
//! table nor its timing tells anything of the password.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use blake2::{
    Blake2sMac256,
    digest::{KeyInit, Mac},
};

use super::users::User;
use crate::slots::Slots;

/// A keyed hash of a name and a password.
pub(super) type Digest = [u8; 32];

pub(super) struct Remembered {
    slots: Slots<Entry>,
    /// With its key, and nothing hashed yet.
    hash: Blake2sMac256,
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
            hash: Blake2sMac256::new(&rand::random::<[u8; 32]>().into()),
        }
    }

    pub(super) fn digest(&self, text: &[u8]) -> Digest {
        self.hash
            .clone()
            .chain_update(text)
            .finalize()
            .into_bytes()
            .into()
    }

    pub(super) fn find(&self, digest: &Digest, now: Instant) -> Option<Arc<User>> {
        let entry = self.slots.find(number(digest), |entry| {
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
        self.slots.keep(number(&digest), Arc::new(entry));
    }
}

/// A number that belongs to what was hashed, and can't be foreseen.
pub(super) fn number(digest: &Digest) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *digest;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

const SLOTS: usize = 1_024;
/// How long a password that was right stays so without being verified.
pub(super) const MEMORY: Duration = Duration::from_secs(60);
