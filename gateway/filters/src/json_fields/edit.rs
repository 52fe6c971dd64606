//! Documents on their way.

use std::{mem, sync::Arc};

use bytes::Bytes;
use edgeway_sdk::prelude::*;

use super::{
    Problem, Side, Unreadable,
    rewrite::rewrite,
    rules::{Rules, Values},
};

/// A document that is held until all of it has come.
pub(super) struct Rewriting {
    side: Side,
    rules: Arc<Rules>,
    values: Values,
    max: usize,
    unreadable: Unreadable,
    held: Vec<u8>,
    /// It is left as it is.
    passes: bool,
}

impl Rewriting {
    pub(super) fn new(
        side: Side,
        rules: Arc<Rules>,
        values: Values,
        max: usize,
        unreadable: Unreadable,
    ) -> Self {
        Self {
            side,
            rules,
            values,
            max,
            unreadable,
            held: Vec::new(),
            passes: false,
        }
    }

    fn give_up(&mut self, problem: &Problem) -> Result<Bytes> {
        match self.unreadable {
            Unreadable::Refuse => Err(Error::refusal(problem.reply(self.side))),
            Unreadable::Pass => {
                self.passes = true;
                Ok(self.held())
            }
        }
    }
}

impl BodyEdit for Rewriting {
    fn edit(&mut self, piece: Bytes, end: bool) -> Result<Bytes> {
        if self.passes {
            return Ok(piece);
        }
        self.held.extend_from_slice(&piece);
        if self.held.len() > self.max {
            return self.give_up(&Problem::TooLarge(self.max));
        }
        if !end || self.held.is_empty() {
            return Ok(Bytes::new());
        }
        match rewrite(&self.held, &self.rules, &self.values) {
            Ok(document) => {
                self.held = Vec::new();
                Ok(document.into())
            }
            Err(wrong) => self.give_up(&Problem::Broken(wrong)),
        }
    }

    fn held(&mut self) -> Bytes {
        mem::take(&mut self.held).into()
    }
}

/// A document that goes on in the place of the one that comes.
pub(super) struct Known {
    document: Bytes,
    length: usize,
}

impl Known {
    pub(super) fn new(document: Vec<u8>) -> Self {
        Self {
            length: document.len(),
            document: document.into(),
        }
    }
}

impl BodyEdit for Known {
    fn edit(&mut self, _: Bytes, end: bool) -> Result<Bytes> {
        match end {
            true => Ok(mem::take(&mut self.document)),
            false => Ok(Bytes::new()),
        }
    }

    fn length(&self) -> Option<u64> {
        Some(self.length as u64)
    }
}
