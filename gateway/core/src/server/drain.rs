//! The end: no new connections, then the running requests, then nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use log::{info, warn};
use pingora::server::{ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use tokio::{
    select,
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, watch},
    time::{sleep, timeout},
};

/// Whether the gateway is coming to its end, and what it waits for. Clones are the same drain.
#[derive(Clone)]
pub(super) struct Drain {
    begun: Arc<watch::Sender<bool>>,
    /// Whether connections end after the requests that run on them.
    parting: Arc<watch::Sender<bool>>,
    /// The same for those who look often.
    parts: Arc<AtomicBool>,
    open: Arc<Open>,
    /// How many milliseconds it waits for running requests.
    patience: Arc<AtomicU64>,
    asked: Arc<Notify>,
}

#[derive(Default)]
struct Open {
    connections: AtomicUsize,
    none: Notify,
}

/// A connection that the end waits for, until it is dropped.
pub(super) struct Guard(Arc<Open>);

/// How long whoever has just connected may take to begin a request, when the end has begun.
const MOMENT: Duration = Duration::from_secs(2);

/// How long a connection may be silent, when the end has begun: a request may be on its way.
const GRACE: Duration = Duration::from_secs(1);

impl Drain {
    /// A drain that waits this long at most.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            begun: Arc::new(watch::Sender::new(false)),
            parting: Arc::new(watch::Sender::new(false)),
            parts: Arc::default(),
            open: Arc::default(),
            patience: Arc::new(AtomicU64::new(milliseconds(patience))),
            asked: Arc::default(),
        }
    }

    /// Waits this long at most from now on.
    pub(super) fn be_patient(&self, patience: Duration) {
        let patience = milliseconds(patience);
        self.patience.store(patience, Ordering::Relaxed);
    }

    /// Begins the end, as SIGTERM does.
    pub(super) fn begin(&self) {
        self.asked.notify_one();
    }

    /// Whether the end has begun.
    pub(super) fn has_begun(&self) -> bool {
        *self.begun.borrow()
    }

    /// How long a connection may be silent, when the end has begun.
    pub(super) fn grace(&self) -> Duration {
        GRACE.min(self.patience() / 2)
    }

    /// How many connections there are.
    pub(super) fn connections(&self) -> usize {
        self.open.connections.load(Ordering::Relaxed)
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(self.patience.load(Ordering::Relaxed))
    }

    /// What Pingora looks at before it keeps a connection for another request.
    pub(super) fn parting(&self) -> ShutdownWatch {
        self.parting.subscribe()
    }

    /// Withdraws the gateway, or not any more: everything is answered, and each connection ends after that, so that
    /// a balancer in front looks for another gateway. New connections are taken as before.
    pub(super) fn withdraw(&self, withdrawn: bool) {
        self.part(withdrawn || self.has_begun());
    }

    fn part(&self, parts: bool) {
        self.parts.store(parts, Ordering::Relaxed);
        self.parting.send_replace(parts);
    }

    /// Whether connections end with the responses that begin now.
    pub(super) fn parts(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.parts)
    }

    /// Whether it is withdrawn, or ends.
    pub(super) fn is_withdrawn(&self) -> bool {
        *self.parting.borrow()
    }

    /// Counts a connection.
    pub(super) fn connection(&self) -> Guard {
        self.open.connections.fetch_add(1, Ordering::Relaxed);
        Guard(Arc::clone(&self.open))
    }

    /// Waits until the end has begun.
    pub(super) async fn begun(&self) {
        // The sender lives as long as `self`, so the wait can't fail.
        drop(self.begun.subscribe().wait_for(|begun| *begun).await);
    }

    /// Waits until the end has begun, and a moment more.
    pub(super) async fn nearly_over(&self) {
        self.begun().await;
        sleep(MOMENT).await;
    }

    /// Waits until no connection is open.
    pub(super) async fn closed(&self) {
        loop {
            let none = self.open.none.notified();
            if self.open.connections.load(Ordering::Acquire) == 0 {
                return;
            }
            none.await;
        }
    }

    async fn finish(&self) {
        let patience = self.patience();
        self.begun.send_replace(true);
        self.part(true);
        info!("stopping: waiting at most {patience:?} for running requests");
        // The accept loops must have ended before zero connections can mean none.
        sleep(Duration::from_millis(20)).await;
        if timeout(patience, self.closed()).await.is_err() {
            let open = self.connections();
            warn!("stopping with open connections: connections={open}");
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.0.connections.fetch_sub(1, Ordering::Release) == 1 {
            self.0.none.notify_waiters();
        }
    }
}

#[async_trait]
impl ShutdownSignalWatch for Drain {
    /// SIGTERM, SIGINT and SIGQUIT drain; a second one stops at once.
    async fn recv(&self) -> ShutdownSignal {
        let mut signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => {
                warn!("signals can't be received: reason={error}");
                return std::future::pending().await;
            }
        };
        select! {
            () = signals.recv() => {}
            () = self.asked.notified() => {}
        }
        select! {
            () = self.finish() => ShutdownSignal::GracefulTerminate,
            () = signals.recv() => ShutdownSignal::FastShutdown,
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    async fn recv(&mut self) {
        select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.quit.recv() => {}
        }
    }
}
