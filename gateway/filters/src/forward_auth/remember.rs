//! Who may pass, as the service has said a moment ago.
//!
//! Questions are known again by keyed hashes, so what is in them (tokens, cookies) is not kept.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use edgeway_sdk::{
    BuildError, Request, Template,
    template::{Piece, Source, Variable},
};

use http::HeaderName;

use super::{Admission, Question, Verdict, config::Cache};
use crate::{
    digest::{Digest, Hasher},
    flights::Flights,
    slots::Slots,
};

pub(super) struct Remembered {
    ttl: Duration,
    key: Option<Template>,
    /// The headers in the key that the service is sent, too.
    named: Vec<HeaderName>,
    hasher: Hasher,
    slots: Slots<Known>,
    /// Questions that wait for their answer.
    pub(super) asked: Arc<Flights<Verdict>>,
}

struct Known {
    key: Digest,
    until: Instant,
    admission: Arc<Admission>,
}

impl Remembered {
    /// `sent` are the headers that the service is sent.
    pub(super) fn new(cache: Cache, sent: &[HeaderName]) -> Result<Self, BuildError> {
        if cache.ttl.0.is_zero() {
            let message = "expected a period longer than nothing";
            return Err(BuildError::at("cache.ttl", message));
        }
        if !(1..=MOST).contains(&cache.size) {
            let message = format!("expected a number from 1 to {MOST}");
            return Err(BuildError::at("cache.size", message));
        }
        if cache
            .key
            .as_ref()
            .is_some_and(|key| key.literal().is_some())
        {
            let error = BuildError::at("cache.key", "all requests would have the same key");
            return Err(error.help("name what the answer depends on, such as `{cookie.session}`"));
        }
        Ok(Self {
            ttl: cache.ttl.0,
            named: cache
                .key
                .as_ref()
                .map_or_else(Vec::new, |key| named(key, sent)),
            key: cache.key,
            hasher: Hasher::new(),
            slots: Slots::new(cache.size),
            asked: Arc::new(Flights::new()),
        })
    }

    /// What a question is known again by; none if its answer is not to be remembered.
    pub(super) fn key(&self, question: &Question, request: &Request<'_>) -> Option<Digest> {
        let Some(template) = &self.key else {
            return Some(self.hasher.digest(question.parts()));
        };
        // The service is sent all lines, the key has only the first.
        if self.named.iter().any(|name| question.has_several(name)) {
            return None;
        }
        let values = values(template, request)?;
        let values = values.iter().map(|value| value.as_bytes());
        Some(self.hasher.digest(values))
    }

    pub(super) fn find(&self, key: &Digest) -> Option<Arc<Admission>> {
        let is_it = |known: &Known| known.key == *key && Instant::now() < known.until;
        let known = self.slots.find(key.number(), is_it)?;
        Some(Arc::clone(&known.admission))
    }

    pub(super) fn keep(&self, key: Digest, admission: &Arc<Admission>) {
        if !admission.may_be_kept() {
            return;
        }
        let known = Known {
            key,
            until: Instant::now() + self.ttl,
            admission: Arc::clone(admission),
        };
        self.slots.keep(key.number(), Arc::new(known));
    }
}

/// Those of these headers whose values are in a key.
fn named(key: &Template, headers: &[HeaderName]) -> Vec<HeaderName> {
    let is_named = |name: &&HeaderName| {
        let variable = format!("header.{name}").parse();
        variable.is_ok_and(|variable| key.pieces().contains(&Piece::Value(variable)))
    };
    headers.iter().filter(is_named).cloned().collect()
}

/// The values in a key. None if one is missing or empty: all who lack it, such as those without credentials,
/// would have the same key.
fn values<'s>(key: &Template, source: &'s impl Source) -> Option<Vec<Cow<'s, str>>> {
    let variables = key.pieces().iter().filter_map(|piece| match piece {
        Piece::Value(variable) => Some(variable),
        Piece::Text(_) => None,
    });
    let value = |variable: &Variable| {
        let value = variable.value(source);
        value.filter(|value| !value.trim().is_empty())
    };
    variables.map(value).collect()
}

/// More than this is a mistake, not a wish.
const MOST: usize = 1 << 20;
