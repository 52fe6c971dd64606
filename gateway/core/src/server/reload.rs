//! What comes of reading the configuration again, and of the last times.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config::{diagnostic::Told, diff::Change},
    snapshot::Gateway,
};

/// Who wants the configuration to be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum By {
    /// The process, at its start.
    Start,
    /// SIGHUP.
    Signal,
    /// `POST /v1/reload`.
    Call,
    /// `reload: { watch: ... }`.
    Watch,
}

/// What has come of it.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Replaced(Replaced),
    Kept(Kept),
}

/// The new configuration is in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Replaced {
    /// Grows by one with each reload, from 1 at the start of the process.
    pub(crate) revision: u64,
    /// Of what the configuration says: the same on every machine with the same one.
    pub(crate) hash: String,
    /// What differs from the one before.
    pub(crate) changes: Vec<Change>,
    pub(crate) warnings: Vec<Told>,
    /// Keys that have changed, and take effect at the next start.
    pub(crate) next_start: Vec<String>,
    pub(crate) took_ms: u64,
}

/// The old configuration stays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Kept {
    /// One sentence.
    pub(crate) reason: String,
    /// What is wrong with the files; empty if something else is the matter, such as a port that is taken.
    pub(crate) diagnostics: Vec<Told>,
    /// The same as `edgeway check` tells it.
    pub(crate) report: String,
}

/// One time that the configuration was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Attempt {
    /// In milliseconds since 1970.
    pub(crate) at_ms: u64,
    pub(crate) by: By,
    /// Whether it is, or was, in force.
    pub(crate) ok: bool,
    /// None if it was refused.
    pub(crate) revision: Option<u64>,
    pub(crate) hash: Option<String>,
    pub(crate) changes: Vec<Change>,
    /// Warnings, or what it was refused for.
    pub(crate) diagnostics: Vec<Told>,
    /// Why it was refused.
    pub(crate) reason: Option<String>,
}

impl Outcome {
    /// Why it was refused, on one line, if it was.
    pub(super) fn refused(&self) -> Option<String> {
        let Self::Kept(kept) = self else { return None };
        let Some(first) = kept.diagnostics.first() else {
            return Some(kept.reason.clone());
        };
        let place = match (&first.file, first.line) {
            (Some(file), Some(line)) => format!("{file}:{line}: "),
            _ => String::new(),
        };
        Some(format!("{place}{}", first.message))
    }
}

impl Replaced {
    /// That this one is in force, of which nothing more is known.
    pub(super) fn by(gateway: &Gateway) -> Self {
        Self {
            revision: gateway.revision,
            hash: gateway.written.hash.clone(),
            changes: Vec::new(),
            warnings: Vec::new(),
            next_start: Vec::new(),
            took_ms: 0,
        }
    }
}

impl Kept {
    /// Nothing is wrong with the files.
    pub(super) fn because(reason: String) -> Self {
        Self {
            reason,
            diagnostics: Vec::new(),
            report: String::new(),
        }
    }

    /// The reason, and below it what is wrong with the files.
    pub(super) fn told(&self) -> String {
        match self.report.as_str() {
            "" => self.reason.clone(),
            report => format!("{}\n{report}", self.reason),
        }
    }
}

impl Attempt {
    fn of(by: By, outcome: &Outcome) -> Self {
        let nothing = Self {
            at_ms: since_1970(SystemTime::now()),
            by,
            ok: false,
            revision: None,
            hash: None,
            changes: Vec::new(),
            diagnostics: Vec::new(),
            reason: None,
        };
        match outcome {
            Outcome::Replaced(replaced) => Self {
                ok: true,
                revision: Some(replaced.revision),
                hash: Some(replaced.hash.clone()),
                changes: replaced.changes.clone(),
                diagnostics: replaced.warnings.clone(),
                ..nothing
            },
            Outcome::Kept(kept) => Self {
                diagnostics: kept.diagnostics.clone(),
                reason: Some(kept.reason.clone()),
                ..nothing
            },
        }
    }
}

/// How many times are remembered.
const REMEMBERED: usize = 20;

/// The last times, for the admin listener. Requests have nothing to do with it.
#[derive(Debug, Default)]
pub(crate) struct History {
    attempts: Mutex<VecDeque<Attempt>>,
    /// How often nothing came of it, ever.
    refused: AtomicU64,
}

impl History {
    /// Notes what has come of a time.
    pub(super) fn note(&self, by: By, outcome: &Outcome) {
        if matches!(outcome, Outcome::Kept(_)) {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        let mut attempts = self.lock();
        attempts.truncate(REMEMBERED - 1);
        attempts.push_front(Attempt::of(by, outcome));
    }

    /// Those remembered, the last one first.
    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        self.lock().iter().cloned().collect()
    }

    /// How often the configuration in force stayed, ever.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Nothing panics while it is locked.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Attempt>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A time as programs read it, in milliseconds.
pub(crate) fn since_1970(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    millis(since)
}

/// A length of time in milliseconds.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(reason: &str) -> Outcome {
        Outcome::Kept(Kept {
            reason: reason.to_owned(),
            diagnostics: Vec::new(),
            report: String::new(),
        })
    }

    #[test]
    fn the_last_twenty_times_are_remembered_the_last_one_first() {
        let history = History::default();
        for number in 0..25 {
            history.note(By::Watch, &kept(&number.to_string()));
        }
        let attempts = history.attempts();
        assert_eq!(attempts.len(), 20);
        assert_eq!(attempts.first().unwrap().reason.as_deref(), Some("24"));
        assert_eq!(attempts.last().unwrap().reason.as_deref(), Some("5"));
        assert!(
            attempts
                .iter()
                .all(|attempt| !attempt.ok && attempt.by == By::Watch)
        );
    }
}
