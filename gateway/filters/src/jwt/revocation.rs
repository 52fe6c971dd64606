//! Tokens that are no longer valid though they have not expired.
//!
//! A service publishes `{"revoked": ["<jti>", ...]}`; it may drop an id when its token has expired.

use std::{collections::HashSet, sync::Arc};

use ahash::RandomState;
use edgeway_sdk::{Build, BuildError};
use serde::Deserialize;

use super::{
    config::{self, OnUnavailable},
    refusal::Refusal,
    sources::pace,
};
use crate::{
    client,
    document::{Document, Publication, Source},
};

/// The ids of revoked tokens.
#[derive(Deserialize)]
struct List {
    revoked: HashSet<Box<str>, RandomState>,
}

impl Publication for List {
    const NAME: &'static str = "the list of revoked tokens";
    // Some 200 000 ids.
    const LARGEST: usize = 8 << 20;

    fn read(text: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(text)
            .map_err(|error| format!("this is not a list of revoked tokens: {error}"))
    }
}

/// The list that a service publishes.
pub(super) struct Revocations {
    list: Arc<Document<List>>,
    on_unavailable: OnUnavailable,
}

impl Revocations {
    /// Has the list fetched in the background.
    pub(super) fn new(
        config: &config::Revocations,
        build: &mut Build<'_>,
    ) -> Result<Self, BuildError> {
        let source = Source::Url(client::url("revocations.url", &config.url)?);
        let pace = pace("revocations", config.interval, config.timeout)?;
        let name = source.to_string();
        let list = build.resources().shared(&name, || Document::new(source));
        build.background(Arc::clone(&list).keep(pace));
        Ok(Self {
            list,
            on_unavailable: config.on_unavailable,
        })
    }

    /// Checks the id of a token. One without an id is refused: it could never be revoked.
    pub(super) fn check(&self, id: Option<&str>) -> Result<(), Refusal> {
        let Some(id) = id else {
            return Err(Refusal::invalid("no `jti`, so it could not be revoked"));
        };
        match self.list.current().as_ref() {
            Some(list) if list.content.revoked.contains(id) => {
                Err(Refusal::invalid("the token was revoked"))
            }
            Some(_) => Ok(()),
            None => match self.on_unavailable {
                OnUnavailable::Allow => Ok(()),
                OnUnavailable::Refuse => Err(Refusal::Unavailable(
                    "no list of revoked tokens was fetched yet".into(),
                )),
            },
        }
    }
}
