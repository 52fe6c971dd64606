//! Requests at fixed times, as from many clients who know nothing of each other.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use super::{Outcomes, Over, Sample, exchange};
use crate::client::{Connection, Request};

/// Sends so many requests in each second for so long, and returns what became of them.
///
/// Each request has its time, and a connection that is free then or a new one: those that wait for
/// their answers hold no other up, at most 1 000 at once. Latency counts from the planned time.
/// `make` makes the request from its number, which begins at 0:
/// `|connection, number| connection.request("GET", &format!("/{number}"))`.
///
/// Connections are kept alive; one that the gateway closes while a request is under way is broken.
///
/// # Panics
///
/// When there are to be no requests.
#[track_caller]
pub fn pace(
    address: SocketAddr,
    per_second: u32,
    duration: Duration,
    make: impl Fn(&mut Connection, usize) -> Request<'_> + Sync,
) -> Outcomes {
    let more = |planned| planned < duration;
    Pace::new(address, per_second, &more, &make).run(|| {})
}

/// Sends requests like [`pace`] for as long as `meanwhile` runs.
///
/// # Panics
///
/// When there are to be no requests, or `meanwhile` panics.
#[track_caller]
pub fn pace_during(
    address: SocketAddr,
    per_second: u32,
    make: impl Fn(&mut Connection, usize) -> Request<'_> + Sync,
    meanwhile: impl FnOnce(),
) -> Outcomes {
    let over = Over::default();
    let more = |_| !over.is_over();
    Pace::new(address, per_second, &more, &make).run(|| over.after(meanwhile))
}

/// Threads that take turns: one waits for the time of the next request, the others for that one to
/// leave. Whoever leaves without leaving another behind starts one.
struct Pace<'p, M> {
    address: SocketAddr,
    interval: Duration,
    start: Instant,
    /// Whether a request that is planned so long after the start is still to be sent.
    more: &'p (dyn Fn(Duration) -> bool + Sync),
    make: &'p M,
    /// The number of the next request. Held by the thread that waits for its time.
    next: Mutex<usize>,
    waiting: AtomicUsize,
    threads: AtomicUsize,
    outcomes: Mutex<Outcomes>,
}

impl<'p, M: Fn(&mut Connection, usize) -> Request<'_> + Sync> Pace<'p, M> {
    #[track_caller]
    fn new(
        address: SocketAddr,
        per_second: u32,
        more: &'p (dyn Fn(Duration) -> bool + Sync),
        make: &'p M,
    ) -> Self {
        assert!(per_second > 0, "no requests are no load");
        Self {
            address,
            interval: Duration::from_secs(1) / per_second,
            start: Instant::now(),
            more,
            make,
            next: Mutex::new(0),
            waiting: AtomicUsize::new(0),
            threads: AtomicUsize::new(0),
            outcomes: Mutex::default(),
        }
    }

    fn run(self, meanwhile: impl FnOnce()) -> Outcomes {
        thread::scope(|scope| {
            self.spawn(scope);
            meanwhile();
        });
        self.outcomes
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts another thread, unless there are enough.
    fn spawn<'s>(&'s self, scope: &'s Scope<'s, '_>) {
        if self.threads.fetch_add(1, SeqCst) >= MOST {
            self.threads.fetch_sub(1, SeqCst);
            return;
        }
        self.waiting.fetch_add(1, SeqCst);
        let thread = thread::Builder::new().stack_size(STACK);
        let spawned = thread.spawn_scoped(scope, move || self.work(scope));
        spawned.expect("a thread can be started");
    }

    /// Called with this thread counted among those that wait.
    fn work<'s>(&'s self, scope: &'s Scope<'s, '_>) {
        let mut open = None;
        let mut samples = Vec::new();
        while let Some((number, planned)) = self.turn() {
            if self.waiting.fetch_sub(1, SeqCst) == 1 {
                self.spawn(scope);
            }
            let result = exchange(self.address, &mut open, |connection| {
                (self.make)(connection, number)
            });
            samples.push(Sample {
                planned,
                latency: self.start.elapsed().saturating_sub(planned),
                result,
            });
            self.waiting.fetch_add(1, SeqCst);
        }
        let outcomes = self.outcomes.lock();
        let mut outcomes = outcomes.unwrap_or_else(PoisonError::into_inner);
        outcomes.samples.extend(samples);
    }

    /// Waits for the time of the next request; none if there is to be no other.
    fn turn(&self) -> Option<(usize, Duration)> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let number = *next;
        let planned = Duration::from_secs_f64(self.interval.as_secs_f64() * number as f64);
        if !(self.more)(planned) {
            return None;
        }
        thread::sleep(planned.saturating_sub(self.start.elapsed()));
        *next += 1;
        Some((number, planned))
    }
}

/// How many may wait for answers at once.
const MOST: usize = 1_000;

/// Enough for a request, and little, since there may be many.
const STACK: usize = 512 * 1024;
