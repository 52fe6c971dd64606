//! Passwords that were right a moment ago.
//!
//! A table of fixed size, without locks: each password has one slot and takes it from the one that
//! was there. The slot holds a hash under a key that is random and dies with the filter, so that
//! neither the table nor its timing tells anything of the password.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use blake2::{
    Blake2sMac256,
    digest::{KeyInit, Mac},
};

use super::users::User;

/// A keyed hash of a name and a password.
pub(super) type Digest = [u8; 32];

pub(super) struct Remembered {
    slots: Box<[ArcSwapOption<Entry>]>,
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
            slots: (0..SLOTS).map(|_| ArcSwapOption::empty()).collect(),
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

    /// A number that belongs to `text` and can't be foreseen.
    pub(super) fn number(&self, text: &[u8]) -> usize {
        let [first, second, third, fourth, ..] = self.digest(text);
        u32::from_le_bytes([first, second, third, fourth]) as usize
    }

    pub(super) fn find(&self, digest: &Digest, now: Instant) -> Option<Arc<User>> {
        let slot = self.slot(digest).load();
        let entry = slot.as_ref()?;
        (entry.digest == *digest && now < entry.until).then(|| Arc::clone(&entry.user))
    }

    pub(super) fn keep(&self, digest: Digest, user: &Arc<User>, now: Instant) {
        let entry = Entry {
            digest,
            until: now + MEMORY,
            user: Arc::clone(user),
        };
        self.slot(&digest).store(Some(Arc::new(entry)));
    }

    fn slot(&self, digest: &Digest) -> &ArcSwapOption<Entry> {
        let [first, second, ..] = *digest;
        let index = usize::from(u16::from_le_bytes([first, second])) % SLOTS;
        &self.slots[index]
    }
}

const SLOTS: usize = 1_024;
/// How long a password that was right stays so without being verified.
pub(super) const MEMORY: Duration = Duration::from_secs(60);
