//! Ends a try that takes too long.
//!
//! Pingora has one time-out for every read from an endpoint. The time up to the first byte, the time
//! of a try and that of the whole request are others, so they are watched from outside: when one is
//! over, the connection is shut down, and the read that waits for it fails.

use std::{
    os::fd::{BorrowedFd, OwnedFd, RawFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::net::{Shutdown, shutdown};
use tokio::task::JoinHandle;

/// Watches one connection to an endpoint, for one try. It watches no longer when it is dropped.
#[derive(Debug)]
pub(super) struct Watchdog {
    watched: Arc<Watched>,
    task: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Watched {
    /// A descriptor of our own: that of Pingora may be another connection's by the time it is needed.
    socket: OwnedFd,
    bitten: AtomicBool,
}

impl Watchdog {
    /// A watchdog for the connection with this descriptor, which must be open. None if the process
    /// has no descriptor left: then Pingora's own time-outs must do.
    pub(super) fn of(descriptor: RawFd) -> Option<Self> {
        let socket = duplicate(descriptor)?;
        let watched = Watched {
            socket,
            bitten: AtomicBool::new(false),
        };
        Some(Self {
            watched: Arc::new(watched),
            task: None,
        })
    }

    /// Shuts the connection down at `due`, whatever was said before; never, if there is no such time.
    pub(super) fn set(&mut self, due: Option<Instant>) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
        let Some(due) = due else { return };
        let watched = Arc::clone(&self.watched);
        self.task = Some(tokio::spawn(async move {
            tokio::time::sleep_until(due.into()).await;
            watched.bitten.store(true, Ordering::Release);
            // It may be closed already, which is as good.
            shutdown(&watched.socket, Shutdown::Both).ok();
        }));
    }

    /// What can end the connection before that.
    pub(super) fn leash(&self) -> Leash {
        Leash(Arc::clone(&self.watched))
    }

    /// Whether it was this that has ended the connection.
    pub(super) fn has_bitten(&self) -> bool {
        self.watched.bitten.load(Ordering::Acquire)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.set(None);
    }
}

/// Ends a connection of which somebody else has no more need.
#[derive(Debug)]
pub(super) struct Leash(Arc<Watched>);

impl Leash {
    pub(super) fn pull(&self) {
        // It may be closed already, which is as good.
        shutdown(&self.0.socket, Shutdown::Both).ok();
    }
}

#[expect(unsafe_code, reason = "Pingora tells descriptors as numbers")]
pub(super) fn duplicate(descriptor: RawFd) -> Option<OwnedFd> {
    if descriptor < 0 {
        return None;
    }
    // SAFETY: Pingora calls the hook that has brought us here with the descriptor of the connection that
    // it holds, and closes it after the hook at the earliest.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    borrowed.try_clone_to_owned().ok()
}

/// The earlier of two times, either of which may be missing.
pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// What is left of a time; at least a little, so that zero does not mean forever.
pub(super) fn left(due: Instant) -> Duration {
    due.saturating_duration_since(Instant::now())
        .max(Duration::from_millis(1))
}
