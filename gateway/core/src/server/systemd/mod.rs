//! What systemd is told of the process (`sd_notify(3)`), if it has started it.
//!
//! * [`notify`]: how. * [`status`]: what operators read in `systemctl status`. * [`watchdog`]: that it makes progress.

mod notify;
mod status;
mod watchdog;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify as Flag;

use self::notify::Notify;
pub(super) use self::watchdog::Watchdog;

/// What systemd is told. Clones are the same. Does nothing if nobody wants to be told.
#[derive(Clone, Debug, Default)]
pub(super) struct Systemd(Option<Arc<Told>>);

#[derive(Debug)]
struct Told {
    notify: Notify,
    serves: Flag,
    /// Another process speaks for the service.
    silent: AtomicBool,
    /// The last status, which need not be told again.
    status: Mutex<String>,
    /// Why the last configuration was refused, until one is accepted.
    refused: Mutex<Option<String>>,
}

/// For how long it is told that the end takes longer, at least twice in that time.
const EXTENSION: Duration = Duration::from_secs(10);

impl Systemd {
    /// That which has started this process, if it wants to be told.
    pub(super) fn of_environment() -> Self {
        Self(Notify::of_environment().map(|notify| {
            Arc::new(Told {
                notify,
                serves: Flag::new(),
                silent: AtomicBool::new(false),
                status: Mutex::default(),
                refused: Mutex::default(),
            })
        }))
    }

    /// Whether anybody listens.
    pub(super) fn listens(&self) -> bool {
        self.0.is_some()
    }

    /// The listeners serve.
    pub(super) fn ready(&self) {
        self.tell("READY=1");
        if let Some(told) = &self.0 {
            told.serves.notify_one();
        }
    }

    /// The configuration is being read again. To be followed by [`ready`](Self::ready), whatever comes of it.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    /// What has become of a configuration that was read: the reason why it was refused, if it was.
    pub(super) fn reloaded(&self, refused: Option<&str>) {
        if let Some(told) = &self.0 {
            let line = refused.and_then(|reason| reason.lines().next());
            *lock(&told.refused) = line.map(str::to_owned);
        }
    }

    /// The end has begun.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// The end takes so long.
    pub(super) fn extend(&self) {
        let microseconds = EXTENSION.as_micros();
        self.tell(&format!("EXTEND_TIMEOUT_USEC={microseconds}"));
    }

    /// What the service is doing, in a line, for people.
    pub(super) fn status(&self, line: &str) {
        let Some(told) = &self.0 else { return };
        let mut last = lock(&told.status);
        if *last != line {
            line.clone_into(&mut last);
            drop(last);
            self.tell(&format!("STATUS={}", line.replace('\n', " ")));
        }
    }

    /// Another process is the service from now on, and this one says no more.
    pub(super) fn hand_over(&self, pid: u32) {
        self.tell(&format!("MAINPID={pid}"));
        if let Some(told) = &self.0 {
            told.silent.store(true, Ordering::Relaxed);
        }
    }

    /// It is not after all.
    pub(super) fn take_back(&self) {
        if let Some(told) = &self.0 {
            told.silent.store(false, Ordering::Relaxed);
        }
        self.tell(&format!("MAINPID={}", std::process::id()));
    }

    fn is_alive(&self) {
        self.tell("WATCHDOG=1");
    }

    fn tell(&self, state: &str) {
        if let Some(told) = &self.0
            && !told.silent.load(Ordering::Relaxed)
        {
            told.notify.tell(state);
        }
    }
}

/// What is locked is consistent whenever a panic could leave it.
fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
