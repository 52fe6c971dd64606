//! Many requests, and what became of them.

mod outcomes;
mod pace;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crate::client::{Answer, Broken, Connection, Request};

pub use outcomes::{Outcomes, Sample};
pub use pace::{pace, pace_during};

/// Sends `requests` requests over so many connections, and returns what became of them.
///
/// Each connection has a thread, and is opened anew only when the gateway has closed it. `make`
/// makes the request: `|connection| connection.request("GET", "/")`.
pub fn load(
    address: SocketAddr,
    connections: usize,
    requests: usize,
    make: impl Fn(&mut Connection) -> Request<'_> + Sync,
) -> Outcomes {
    let sent = AtomicUsize::new(0);
    let more = || sent.fetch_add(1, Ordering::Relaxed) < requests;
    let start = Instant::now();
    thread::scope(|scope| {
        let work = || work(address, start, &more, &make);
        let workers: Vec<_> = (0..connections).map(|_| scope.spawn(work)).collect();
        gather(workers)
    })
}

/// Sends requests like [`load`] for as long as `meanwhile` runs.
pub fn load_during(
    address: SocketAddr,
    connections: usize,
    make: impl Fn(&mut Connection) -> Request<'_> + Sync,
    meanwhile: impl FnOnce(),
) -> Outcomes {
    let over = Over::default();
    let more = || !over.is_over();
    let start = Instant::now();
    thread::scope(|scope| {
        let work = || work(address, start, &more, &make);
        let workers: Vec<_> = (0..connections).map(|_| scope.spawn(work)).collect();
        over.after(meanwhile);
        gather(workers)
    })
}

/// Whether what the load was to accompany has ended.
#[derive(Default)]
struct Over(AtomicBool);

impl Over {
    fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Runs it, and is over then. Also after a panic of the test: the workers would keep it from
    /// being seen.
    fn after(&self, meanwhile: impl FnOnce()) {
        let _end = End(self);
        meanwhile();
    }
}

struct End<'o>(&'o Over);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

fn work(
    address: SocketAddr,
    start: Instant,
    more: &impl Fn() -> bool,
    make: &impl Fn(&mut Connection) -> Request<'_>,
) -> Outcomes {
    let mut outcomes = Outcomes::default();
    let mut open = None;
    while more() {
        let planned = start.elapsed();
        let result = exchange(address, &mut open, make);
        outcomes.samples.push(Sample {
            planned,
            latency: start.elapsed() - planned,
            result,
        });
    }
    outcomes
}

/// Sends one request over the open connection, or over a new one, which is kept if it can be.
fn exchange(
    address: SocketAddr,
    open: &mut Option<Connection>,
    make: impl Fn(&mut Connection) -> Request<'_>,
) -> Result<Answer, String> {
    let connection = match open.take() {
        Some(connection) => Ok(connection),
        None => Connection::try_open(address).map_err(Broken::from),
    };
    let answer = connection.and_then(|mut connection| {
        let answer = make(&mut connection).attempt()?;
        *open = answer.reusable.then_some(connection);
        Ok(answer)
    });
    answer.map_err(|broken| broken.to_string())
}

fn gather(workers: Vec<thread::ScopedJoinHandle<'_, Outcomes>>) -> Outcomes {
    let mut all = Outcomes::default();
    for worker in workers {
        let one = worker.join().expect("a worker does not panic");
        all.samples.extend(one.samples);
    }
    all
}
