//! Many requests at once.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::client::{Answer, Broken, Connection, Request};

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
    thread::scope(|scope| {
        let work = || work(address, &more, &make);
        let workers: Vec<_> = (0..connections).map(|_| scope.spawn(work)).collect();
        Outcomes::gather(workers)
    })
}

/// Sends requests like [`load`] for as long as `meanwhile` runs.
pub fn load_during(
    address: SocketAddr,
    connections: usize,
    make: impl Fn(&mut Connection) -> Request<'_> + Sync,
    meanwhile: impl FnOnce(),
) -> Outcomes {
    let over = Over(AtomicBool::new(false));
    let more = || !over.0.load(Ordering::Relaxed);
    thread::scope(|scope| {
        let work = || work(address, &more, &make);
        let workers: Vec<_> = (0..connections).map(|_| scope.spawn(work)).collect();
        {
            // Also after a panic of the test: the workers would keep it from being seen.
            let _end = End(&over);
            meanwhile();
        }
        Outcomes::gather(workers)
    })
}

struct Over(AtomicBool);

struct End<'o>(&'o Over);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

fn work(
    address: SocketAddr,
    more: &impl Fn() -> bool,
    make: &impl Fn(&mut Connection) -> Request<'_>,
) -> Outcomes {
    let mut outcomes = Outcomes::default();
    let mut open = None;
    while more() {
        let connection = match open.take() {
            Some(connection) => Ok(connection),
            None => Connection::try_open(address).map_err(Broken::from),
        };
        let answer = connection.and_then(|mut connection| {
            let answer = make(&mut connection).attempt()?;
            open = answer.reusable.then_some(connection);
            Ok(answer)
        });
        match answer {
            Ok(answer) => outcomes.answers.push(answer),
            Err(broken) => outcomes.broken.push(broken.to_string()),
        }
    }
    outcomes
}

/// What became of many requests.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// The answers that came whole.
    pub answers: Vec<Answer>,
    /// Why others did not.
    pub broken: Vec<String>,
}

impl Outcomes {
    fn gather(workers: Vec<thread::ScopedJoinHandle<'_, Self>>) -> Self {
        let mut all = Self::default();
        for worker in workers {
            let one = worker.join().expect("a worker does not panic");
            all.answers.extend(one.answers);
            all.broken.extend(one.broken);
        }
        all
    }

    /// How many requests there were.
    pub fn total(&self) -> usize {
        self.answers.len() + self.broken.len()
    }

    /// How many were answered with a status.
    pub fn with_status(&self, status: u16) -> usize {
        self.count(|answer| answer.status == status)
    }

    /// How many answers are as wanted.
    pub fn count(&self, wanted: impl Fn(&Answer) -> bool) -> usize {
        self.answers.iter().filter(|answer| wanted(answer)).count()
    }

    /// Asserts that there were requests, and that every one was answered with this status.
    ///
    /// # Panics
    ///
    /// When one was not, showing the first of them.
    #[track_caller]
    pub fn expect_all(&self, status: u16) {
        assert!(self.total() > 0, "no request was sent");
        let other = self.answers.iter().find(|answer| answer.status != status);
        let first = other.map(|answer| {
            format!(
                "{} {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            )
        });
        let first = first.or_else(|| self.broken.first().cloned());
        let good = self.with_status(status);
        assert!(
            good == self.total(),
            "{good} of {} with {status}; another: {first:?}",
            self.total()
        );
    }
}
