//! The end: no new connections, then the running requests, then nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
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
    open: Arc<Open>,
    patience: Duration,
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

impl Drain {
    /// A drain that waits this long at most.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            begun: Arc::new(watch::Sender::new(false)),
            open: Arc::default(),
            patience,
        }
    }

    /// What Pingora looks at before it keeps a connection for another request.
    pub(super) fn watch(&self) -> ShutdownWatch {
        self.begun.subscribe()
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
        self.begun.send_replace(true);
        info!(
            "stopping: waiting at most {:?} for running requests",
            self.patience
        );
        // The accept loops must have ended before zero connections can mean none.
        sleep(Duration::from_millis(20)).await;
        if timeout(self.patience, self.closed()).await.is_err() {
            let open = self.open.connections.load(Ordering::Relaxed);
            warn!("stopping with open connections: connections={open}");
        }
    }
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
        signals.recv().await;
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
