//! Endpoints from a file that somebody else writes.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use serde::Deserialize;

use super::{Backoff, Found, Look, Source, stamp::Stamp};
use crate::{
    config::{
        At, Endpoint,
        deserialize::salvage,
        diagnostic::{self, Diagnostic, Problems},
        document::Document,
        tell_repeated,
    },
    upstream::MOST,
};

/// A file that is read whenever it has changed: by writing, by a rename over it, or by another
/// target of a link on the way to it.
pub(super) struct File {
    described: String,
    interval: Duration,
    watched: Arc<Watched>,
}

struct Watched {
    path: PathBuf,
    /// One task uses it.
    last: Mutex<Option<Last>>,
}

/// What came of reading the file when it was as the stamp says.
struct Last {
    stamp: Stamp,
    read: Result<Vec<Found>, String>,
}

impl File {
    pub(super) fn new(upstream: &str, path: PathBuf, interval: Duration) -> Self {
        Self {
            described: format!("upstream={upstream} file={}", path.display()),
            interval,
            watched: Arc::new(Watched {
                path,
                last: Mutex::default(),
            }),
        }
    }
}

#[async_trait]
impl Source for File {
    async fn look(&self) -> Result<Look, String> {
        let watched = Arc::clone(&self.watched);
        // A disk may take its time.
        let look = tokio::task::spawn_blocking(move || watched.look()).await;
        let endpoints = look.map_err(|error| format!("reading it has failed: {error}"))??;
        Ok(Look {
            endpoints,
            fresh_for: self.interval,
        })
    }

    fn describe(&self) -> String {
        self.described.clone()
    }

    fn file(&self) -> Option<&Path> {
        Some(&self.watched.path)
    }

    /// A file that was mended is as good as one that has changed.
    fn backoff(&self) -> Backoff {
        Backoff {
            first: self.interval,
            most: self.interval,
        }
    }
}

impl Watched {
    fn look(&self) -> Result<Vec<Found>, String> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Before reading: what changes meanwhile is seen at the next look.
        let stamp = Stamp::of(&self.path);
        if let Some(read) = last.as_ref().and_then(|last| last.unless_changed(stamp)) {
            return read;
        }
        let read = read(&self.path).map(|endpoints| endpoints.into_iter().map(Found::from));
        let read = read.map(Iterator::collect::<Vec<_>>);
        *last = stamp.map(|stamp| Last {
            stamp,
            read: read.clone(),
        });
        read
    }
}

impl Last {
    /// What was read, if the file is as it was then, to the best of our knowledge.
    fn unless_changed(&self, now: Option<Stamp>) -> Option<Result<Vec<Found>, String>> {
        let same = now == Some(self.stamp) && !self.stamp.is_young();
        same.then(|| self.read.clone())
    }
}

/// What a file of endpoints holds: `endpoints` as an upstream has it.
#[derive(Deserialize)]
struct Content {
    endpoints: At<Vec<At<Endpoint>>>,
}

/// Reads a file of endpoints.
///
/// # Errors
///
/// All that is wrong with it, with its places, as a person reads it.
pub(crate) fn read(path: &Path) -> Result<Vec<Endpoint>, String> {
    let mut problems = Problems::default();
    let document = Document::load(path, &mut problems);
    let content: Option<Content> = document
        .is_readable()
        .then(|| salvage(&document, document.root(), &mut problems))
        .flatten();
    let endpoints = content.map(|content| content.endpoints);
    if let Some(endpoints) = &endpoints {
        check(endpoints, &mut problems);
    }
    match endpoints.filter(|_| !problems.has_errors()) {
        Some(endpoints) => Ok(endpoints.value.into_iter().map(|one| one.value).collect()),
        None => Err(problems.render(&document, diagnostic::Look::Plain)),
    }
}

fn check(endpoints: &At<Vec<At<Endpoint>>>, problems: &mut Problems) {
    let number = endpoints.value.len();
    if number > MOST {
        let message = format!("there are {number} endpoints, {MOST} are the most");
        problems.push(Diagnostic::error(message).at(endpoints.node));
    }
    if number > 0 && endpoints.value.iter().all(|one| one.value.backup) {
        let problem = Diagnostic::error("all endpoints are backups").at(endpoints.node);
        problems.push(problem.help("a backup serves when the others can't"));
    }
    tell_repeated(&endpoints.value, problems);
}

#[cfg(test)]
mod tests;
