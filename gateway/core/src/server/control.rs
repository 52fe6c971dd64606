//! What runs beside the requests, and reload.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use log::{error, info, warn};
use pingora::{
    server::{ListenFds, ShutdownWatch},
    services::{ServiceReadyNotifier, ServiceWithDependents},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};

use super::{
    Fixed, Source,
    admin::Admin,
    listeners::{Listeners, Prepared},
};
use crate::{
    config::diagnostic::Look,
    snapshot::{Gateway, Live, Pinned, Tasks, load},
    upstream::{first_pass, tend},
};

/// Runs the tasks of the configuration in force, and replaces it on SIGHUP.
pub(super) struct Control {
    source: Arc<Source>,
    live: Live,
    listeners: Arc<Listeners>,
    started: Fixed,
    /// Behind a lock that is never waited for: Pingora shares services between threads, and a task
    /// can't be shared.
    first: Mutex<Tasks>,
    /// Until it is started.
    admin: Option<Admin>,
}

impl Control {
    pub(super) fn new(
        source: Source,
        live: Live,
        listeners: Listeners,
        tasks: Tasks,
        admin: Option<Admin>,
    ) -> Self {
        let started = Fixed::of(&live.pin());
        Self {
            source: Arc::new(source),
            live,
            listeners: Arc::new(listeners),
            started,
            first: Mutex::new(tasks),
            admin,
        }
    }

    /// Starts what belongs to the configuration in force. What belonged to the one before ends when
    /// the set is replaced.
    fn start(&self, tasks: Tasks) -> JoinSet<()> {
        let mut running = JoinSet::new();
        for task in tasks {
            running.spawn(task);
        }
        let gateway = self.live.pin();
        for cluster in &gateway.clusters {
            running.spawn(tend(Arc::clone(cluster), gateway.resolver.clone()));
        }
        for terminator in self.listeners.terminators() {
            running.spawn(terminator.tend());
        }
        self.listeners.keep_certificates();
        for spec in &gateway.caches {
            running.spawn(gateway.zones.named(&spec.name).tend());
        }
        running
    }

    /// Reads the files again. All or nothing: after one error the old configuration stays.
    async fn reload(&self) -> Option<JoinSet<()>> {
        let source = Arc::clone(&self.source);
        let read = tokio::task::spawn_blocking(move || {
            let loaded = load(&source.path, &source.filters, &source.resources);
            (loaded.report(Look::Plain), loaded.gateway)
        });
        let (report, gateway) = match read.await {
            Ok(read) => read,
            Err(error) => {
                error!("configuration kept: reading the new one has panicked: {error}");
                return None;
            }
        };
        let Some((gateway, tasks)) = gateway else {
            error!("configuration kept: the new one has errors\n{report}");
            return None;
        };
        if !report.is_empty() {
            warn!("the new configuration has warnings\n{report}");
        }
        let prepared = match self.prepare(&gateway).await {
            Ok(prepared) => prepared,
            Err(message) => {
                error!("configuration kept: {message}");
                return None;
            }
        };
        first_pass(&gateway.clusters, &gateway.resolver).await;
        self.started.warn_of_changes(&gateway);
        let old = self.live.pin();
        gateway.enter_service();
        self.live.replace(gateway);
        self.listeners.apply(prepared);
        tokio::spawn(retire(old));
        info!(
            "configuration replaced: file={}",
            self.source.path.display()
        );
        Some(self.start(tasks))
    }

    /// Opens the listeners that are new.
    async fn prepare(&self, gateway: &Gateway) -> Result<Prepared, String> {
        let (listeners, specs) = (Arc::clone(&self.listeners), gateway.listeners.clone());
        let prepared = tokio::task::spawn_blocking(move || listeners.prepare(&specs));
        prepared
            .await
            .unwrap_or_else(|error| Err(error.to_string()))
    }
}

/// Keeps a configuration that was replaced until no request has it any more, and drops it where that
/// holds up nobody: filters may wait for a disk then.
async fn retire(old: Pinned) {
    while Arc::strong_count(&old) > 1 {
        tokio::time::sleep(RETIRE).await;
    }
    // A panic in there would have been told already.
    drop(tokio::task::spawn_blocking(move || drop(old)).await);
}

/// How often an old configuration is looked at.
const RETIRE: Duration = Duration::from_millis(250);

#[async_trait]
impl ServiceWithDependents for Control {
    async fn start_service(
        &mut self,
        _fds: Option<ListenFds>,
        mut shutdown: ShutdownWatch,
        _tasks_per_fd: usize,
        ready: ServiceReadyNotifier,
    ) {
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => hangup,
            Err(error) => return error!("SIGHUP can't be received: reason={error}"),
        };
        let gateway = self.live.pin();
        first_pass(&gateway.clusters, &gateway.resolver).await;
        gateway.enter_service();
        drop(gateway);
        let first = std::mem::take(self.first.get_mut().unwrap_or_else(PoisonError::into_inner));
        let mut running = self.start(first);
        let admin = self.admin.take();
        let admin =
            admin.and_then(|admin| admin.start(self.live.clone(), Arc::clone(&self.listeners)));
        ready.notify_ready();
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    if let Some(next) = self.reload().await {
                        running = next;
                    }
                }
                _ = shutdown.changed() => break,
            }
        }
        if let Some(admin) = admin {
            admin.abort();
        }
        running.shutdown().await;
    }

    fn name(&self) -> &str {
        "control"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }
}
