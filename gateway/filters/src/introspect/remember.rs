//! What the issuer has said of tokens a moment ago.
//!
//! Good and bad tokens have tables of their own, so that a flood of bad ones does not make the good ones
//! forgotten.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use edgeway_sdk::BuildError;

use super::{config::Cache, issuer::Verified};
use crate::{
    digest::{Digest, Hasher},
    flights::Flights,
    jwt::refusal::Refusal,
    slots::Slots,
};

pub(super) struct Remembered {
    hasher: Hasher,
    ttl: Duration,
    refused_ttl: Duration,
    good: Slots<Entry<Arc<Verified>>>,
    refused: Slots<Entry<Refusal>>,
    /// Questions that wait for their answer.
    pub(super) asked: Arc<Flights<Result<Arc<Verified>, Refusal>>>,
}

/// What is known of a token.
pub(super) enum Known {
    Good(Arc<Verified>),
    Refused(Refusal),
}

struct Entry<T> {
    name: Digest,
    until: Instant,
    said: T,
}

impl Remembered {
    pub(super) fn new(cache: &Cache) -> Result<Self, BuildError> {
        if cache.size > MOST {
            let message = format!("more than {MOST} tokens can't be remembered");
            return Err(BuildError::at("cache.size", message));
        }
        Ok(Self {
            hasher: Hasher::new(),
            ttl: cache.ttl.0,
            refused_ttl: cache.refused_ttl.0,
            good: Slots::new(cache.size),
            refused: Slots::new(cache.size),
            asked: Arc::new(Flights::new()),
        })
    }

    /// What a token is known again by.
    pub(super) fn name(&self, token: &str) -> Digest {
        self.hasher.digest([token.as_bytes()])
    }

    pub(super) fn find(&self, name: &Digest) -> Option<Known> {
        if let Some(good) = find(&self.good, name) {
            return Some(Known::Good(Arc::clone(&good.said)));
        }
        let refused = find(&self.refused, name)?;
        Some(Known::Refused(refused.said.clone()))
    }

    /// Keeps what the issuer has said; that it does not answer is nothing it has said.
    pub(super) fn keep(&self, name: Digest, said: &Result<Arc<Verified>, Refusal>) {
        match said {
            Ok(verified) => keep(&self.good, name, self.ttl, Arc::clone(verified)),
            Err(Refusal::Unavailable(_)) => {}
            Err(refusal) => keep(&self.refused, name, self.refused_ttl, refusal.clone()),
        }
    }
}

fn find<T>(slots: &Slots<Entry<T>>, name: &Digest) -> Option<Arc<Entry<T>>> {
    slots.find(name.number(), |entry| {
        entry.name == *name && Instant::now() < entry.until
    })
}

fn keep<T>(slots: &Slots<Entry<T>>, name: Digest, ttl: Duration, said: T) {
    let until = Instant::now() + ttl;
    slots.keep(name.number(), Arc::new(Entry { name, until, said }));
}

/// More tokens than this are a mistake, not a wish.
const MOST: usize = 1 << 20;
