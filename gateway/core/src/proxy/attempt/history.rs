//! What has become of each try, and when.
//!
//! For a request whose connection is kept and which has no body, the clock is asked no oftener than without this.

use std::time::{Duration, Instant};

use edgeway_sdk::Try;
use http::StatusCode;
use smallvec::SmallVec;

use crate::upstream::Members;

/// All tries of a request, in the order in which they began. Times are since the request's head had arrived.
#[derive(Debug)]
pub(in crate::proxy) struct History {
    started: Instant,
    entries: SmallVec<[Entry; 1]>,
    /// Which of them is Pingora's.
    current: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// The endpoint.
    number: u16,
    hedged: bool,
    reused: bool,
    chosen: Duration,
    connected: Option<Duration>,
    sent: Option<Duration>,
    answered: Option<Duration>,
    ended: Option<Duration>,
    status: Option<StatusCode>,
    error: Option<&'static str>,
}

impl History {
    /// That of a request which has come at this moment.
    pub(in crate::proxy) fn new(started: Instant) -> Self {
        Self {
            started,
            entries: SmallVec::new(),
            current: 0,
        }
    }

    /// An endpoint was chosen for the next try. What the one before it has come to is known by now.
    pub(in crate::proxy) fn begins(&mut self, number: u16, now: Instant) {
        self.ends(now);
        self.current = self.entries.len();
        self.entries.push(Entry {
            number,
            chosen: self.since(now),
            ..Entry::default()
        });
    }

    /// A connection is there. One that was kept was there at once, and so was a request without a body sent.
    pub(in crate::proxy) fn connected(&mut self, reused: bool, uploads: bool) {
        let started = self.started;
        let Some(entry) = self.entries.get_mut(self.current) else {
            return;
        };
        let at = match reused {
            true => entry.chosen,
            false => started.elapsed(),
        };
        entry.reused = reused;
        entry.connected = Some(at);
        entry.sent = (!uploads).then_some(at);
    }

    /// When the first endpoint was chosen.
    pub(in crate::proxy) fn first(&self) -> Option<Duration> {
        self.entries.first().map(|entry| entry.chosen)
    }

    /// The whole body was sent.
    pub(in crate::proxy) fn sent(&mut self, now: Instant) {
        let at = self.since(now);
        if let Some(entry) = self.entries.get_mut(self.current) {
            entry.sent.get_or_insert(at);
        }
    }

    /// The head of an answer has come.
    pub(in crate::proxy) fn answered(&mut self, status: StatusCode) -> Duration {
        let at = self.started.elapsed();
        if let Some(entry) = self.entries.get_mut(self.current) {
            entry.answered = Some(at);
            entry.status = Some(status);
        }
        at
    }

    /// The answer is not the one to pass on.
    pub(in crate::proxy) fn ends_with_answer(&mut self) {
        if let Some(entry) = self.entries.get_mut(self.current) {
            entry.ended = entry.answered;
        }
    }

    /// It has failed.
    pub(in crate::proxy) fn failed(&mut self, error: &'static str) {
        let at = self.started.elapsed();
        if let Some(entry) = self.entries.get_mut(self.current) {
            entry.error = Some(error);
            entry.ended.get_or_insert(at);
        }
    }

    /// It was none.
    pub(in crate::proxy) fn forget(&mut self) {
        self.entries.truncate(self.current);
    }

    /// A second endpoint was asked at this moment beside the one of this try.
    pub(in crate::proxy) fn hedged(&mut self, number: u16, asked: Instant) {
        let chosen = self.since(asked);
        self.entries.push(Entry {
            number,
            chosen,
            hedged: true,
            ..Entry::default()
        });
    }

    /// The last one is given up.
    pub(in crate::proxy) fn last_is_given_up(&mut self) {
        let at = self.started.elapsed();
        if let Some(last) = self.entries.last_mut() {
            last.ended.get_or_insert(at);
        }
    }

    /// The request goes on where it was sent last.
    pub(in crate::proxy) fn goes_on_with_last(&mut self, now: Instant) {
        self.ends(now);
        self.current = self.entries.len().saturating_sub(1);
    }

    fn ends(&mut self, now: Instant) {
        let at = self.since(now);
        if let Some(entry) = self.entries.get_mut(self.current) {
            entry.ended.get_or_insert(at);
        }
    }

    fn since(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.started)
    }

    /// All tries, at these endpoints.
    pub(in crate::proxy) fn told<'a>(&self, members: &'a Members) -> SmallVec<[Try<'a>; 1]> {
        let numbers = 1..;
        let told = self.entries.iter().zip(numbers).map(|(entry, number)| Try {
            number,
            endpoint: &members.endpoint(entry.number).name,
            hedged: entry.hedged,
            chosen: entry.chosen,
            connected: entry.connected,
            reused: entry.reused,
            sent: entry.sent,
            answered: entry.answered,
            ended: entry.ended,
            status: entry.status,
            error: entry.error,
        });
        told.collect()
    }
}
