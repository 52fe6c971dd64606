//! What runs beside the requests, and what the process does as a whole: reload.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use log::{error, info, warn};
use pingora::{
    server::{ListenFds, ShutdownWatch},
    services::{ServiceReadyNotifier, ServiceWithDependents},
};
use tokio::{
    runtime::Handle,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::{
    Source,
    admin::{self, Admin},
    drain::Drain,
    fixed::Fixed,
    listeners::{Listeners, Prepared},
    reload::{By, History, Kept, Outcome, Replaced, millis},
    systemd::{Systemd, Watchdog},
    upgrade::{self, Program, Upgrade},
    watch::Watch,
};
use crate::{
    config::{
        diagnostic::{Look, Told},
        diff::{diff, summary},
        document::Sources,
    },
    snapshot::{Gateway, Live, Pinned, Tasks, load},
    upstream::{first_pass, tend},
};

/// What the process is asked to do as a whole.
#[derive(Debug)]
pub(super) enum Order {
    /// To read the configuration again.
    Reload {
        by: By,
        answer: oneshot::Sender<Outcome>,
    },
    /// To have the program at the path of this one take its place, if it serves in time.
    Upgrade {
        patience: Duration,
        answer: oneshot::Sender<Result<upgrade::Done, String>>,
    },
}

/// Where orders are given. They are followed one after the other.
#[derive(Clone, Debug)]
pub(super) struct Orders(mpsc::Sender<Order>);

/// Nobody follows orders any more: the process is at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Over;

impl Orders {
    /// How many may wait.
    const WAITING: usize = 16;

    fn new() -> (Self, mpsc::Receiver<Order>) {
        let (orders, arriving) = mpsc::channel(Self::WAITING);
        (Self(orders), arriving)
    }

    /// Has the configuration read again, and waits for what has come of it. It is done though the caller may leave.
    pub(super) async fn reload(&self, by: By) -> Result<Outcome, Over> {
        self.give(|answer| Order::Reload { by, answer }).await
    }

    /// Has another process take the place of this one, if it serves in time.
    pub(super) async fn upgrade(
        &self,
        patience: Duration,
    ) -> Result<Result<upgrade::Done, String>, Over> {
        self.give(|answer| Order::Upgrade { patience, answer })
            .await
    }

    /// Gives an order, and waits until it was followed.
    async fn give<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, Over> {
        let (answer, done) = oneshot::channel();
        self.0.send(order(answer)).await.map_err(|_| Over)?;
        done.await.map_err(|_| Over)
    }
}

/// Runs the tasks of the configuration in force, and replaces it when it is told to.
pub(super) struct Control {
    source: Arc<Source>,
    live: Live,
    listeners: Arc<Listeners>,
    fixed: Fixed,
    /// Behind a lock that is never waited for: Pingora shares services between threads, and a task
    /// can't be shared.
    first: Mutex<Tasks>,
    /// The admin listener, until it is started.
    opened: admin::Opened,
    admin: Option<Arc<Admin>>,
    drain: Drain,
    watch: Watch,
    history: Arc<History>,
    upgrade: Upgrade,
    systemd: Systemd,
    watchdog: Watchdog,
    orders: Orders,
    arriving: mpsc::Receiver<Order>,
}

/// What the control is made of.
pub(super) struct Parts {
    pub(super) source: Source,
    pub(super) live: Live,
    pub(super) listeners: Listeners,
    pub(super) tasks: Tasks,
    pub(super) admin: admin::Opened,
    pub(super) drain: Drain,
    /// This one's, for the process that will take its place.
    pub(super) program: Option<Program>,
    pub(super) systemd: Systemd,
    pub(super) watchdog: Watchdog,
    /// What the configuration in force was made of.
    pub(super) sources: Sources,
    pub(super) warnings: Vec<Told>,
}

/// A configuration that was read and could be in force.
struct Read {
    gateway: Gateway,
    tasks: Tasks,
    warnings: Vec<Told>,
}

impl Control {
    pub(super) fn new(parts: Parts) -> Self {
        let gateway = parts.live.pin();
        let history = Arc::<History>::default();
        let started = Outcome::Replaced(Replaced {
            warnings: parts.warnings,
            ..Replaced::by(&gateway)
        });
        history.note(By::Start, &started);
        let (orders, arriving) = Orders::new();
        let listeners = Arc::new(parts.listeners);
        let upgrade = Upgrade::new(
            parts.program,
            Arc::clone(&listeners),
            parts.drain.clone(),
            parts.systemd.clone(),
        );
        Self {
            source: Arc::new(parts.source),
            live: parts.live,
            listeners,
            fixed: Fixed::of(&gateway),
            first: Mutex::new(parts.tasks),
            opened: parts.admin,
            admin: None,
            drain: parts.drain,
            watch: Watch::new(gateway.watch, parts.sources),
            history,
            upgrade,
            systemd: parts.systemd,
            watchdog: parts.watchdog,
            orders,
            arriving,
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

    /// Reads the files again, whoever wants it. All or nothing: after one error the old configuration stays.
    async fn reload(&mut self, by: By, running: &mut JoinSet<()>) -> Outcome {
        let begun = Instant::now();
        self.systemd.reloading();
        let outcome = match self.replace(running).await {
            Ok(mut replaced) => {
                replaced.took_ms = millis(begun.elapsed());
                info!(
                    "configuration replaced: file={} revision={} hash={} changes=\"{}\"",
                    self.source.path.display(),
                    replaced.revision,
                    replaced.hash,
                    summary(&replaced.changes),
                );
                Outcome::Replaced(replaced)
            }
            Err(kept) => {
                error!("configuration kept: {}", kept.told());
                Outcome::Kept(kept)
            }
        };
        self.history.note(by, &outcome);
        self.systemd.reloaded(outcome.refused().as_deref());
        self.systemd.ready();
        self.systemd.show(&self.live.pin());
        outcome
    }

    async fn replace(&mut self, running: &mut JoinSet<()>) -> Result<Replaced, Kept> {
        if let Some(pid) = self.upgrade.successor() {
            let over = format!("process {pid} has taken the place of this one");
            return Err(Kept::because(over));
        }
        let read = self.read().await?;
        let (prepared, admin) = self.prepare(&read.gateway).await.map_err(Kept::because)?;
        first_pass(&read.gateway.clusters, &read.gateway.resolver).await;
        let old = self.live.pin();
        let changes = diff(&old.written.tree, &read.gateway.written.tree);
        let next_start = self.fixed.changed(&read.gateway);
        for key in &next_start {
            warn!("`{key}` has changed: it takes effect at the next start");
        }
        self.drain.be_patient(read.gateway.shutdown_timeout);
        read.gateway.enter_service();
        self.live.replace(read.gateway);
        self.listeners.apply(prepared);
        if let (Some(admin), Some(prepared)) = (&self.admin, admin) {
            admin.apply(prepared);
        }
        tokio::spawn(retire(old));
        *running = self.start(read.tasks);
        Ok(Replaced {
            changes,
            next_start,
            warnings: read.warnings,
            ..Replaced::by(&self.live.pin())
        })
    }

    /// Reads the files, and notes what they were: whatever is in them, it is told of once.
    async fn read(&mut self) -> Result<Read, Kept> {
        let source = Arc::clone(&self.source);
        let read = tokio::task::spawn_blocking(move || {
            let loaded = load(&source.path, &source.filters, &source.resources);
            let report = loaded.report(Look::Plain);
            (
                report,
                loaded.told(),
                loaded.sources().clone(),
                loaded.gateway,
            )
        });
        let (report, told, sources, gateway) = read
            .await
            .map_err(|error| Kept::because(format!("reading the new one has panicked: {error}")))?;
        let watch = gateway.as_ref().map(|(gateway, _)| gateway.watch);
        let interval = watch.unwrap_or_else(|| self.live.glance().watch);
        self.watch.follow(interval, sources);
        let Some((gateway, tasks)) = gateway else {
            return Err(Kept {
                reason: "the new one has errors".to_owned(),
                diagnostics: told,
                report,
            });
        };
        if !report.is_empty() {
            warn!("the new configuration has warnings\n{report}");
        }
        Ok(Read {
            gateway,
            tasks,
            warnings: told,
        })
    }

    /// Opens the listeners that are new. The admin listener is none of the first ones.
    async fn prepare(
        &self,
        gateway: &Gateway,
    ) -> Result<(Prepared, Option<admin::Prepared>), String> {
        let (listeners, specs) = (Arc::clone(&self.listeners), gateway.listeners.clone());
        let (admin, wanted) = (self.admin.clone(), gateway.admin.clone());
        let prepared = tokio::task::spawn_blocking(move || {
            let prepared = listeners.prepare(&specs)?;
            let admin = admin.map(|admin| admin.prepare(wanted.as_ref()));
            Ok((prepared, admin.transpose()?))
        });
        prepared
            .await
            .unwrap_or_else(|error| Err(error.to_string()))
    }

    async fn follow(&mut self, order: Order, running: &mut JoinSet<()>) {
        match order {
            Order::Reload { by, answer } => {
                let outcome = self.reload(by, running).await;
                // Whoever asked may have left.
                drop(answer.send(outcome));
            }
            Order::Upgrade { patience, answer } => {
                let done = self.upgrade(patience).await;
                drop(answer.send(done));
            }
        }
    }

    /// Opens the files of access logs again, since they were renamed.
    fn reopen_logs(&self) {
        edgeway_filters::reopen_logs(&self.source.resources);
        info!("access logs reopened: by=signal");
    }

    /// Has another process take the place of this one. Reloads wait meanwhile.
    async fn upgrade(&self, patience: Duration) -> Result<upgrade::Done, String> {
        let done = self.upgrade.run(patience).await?;
        // The other one answers calls now; whoever has asked for it gets an answer still.
        if let Some(admin) = &self.admin {
            admin.stop();
        }
        Ok(done)
    }
}

/// The signals that tell what to do beside ending.
struct Signals {
    /// SIGHUP.
    reload: Signal,
    /// SIGUSR1.
    reopen: Signal,
    /// SIGUSR2.
    upgrade: Signal,
}

impl Signals {
    fn receive() -> io::Result<Self> {
        Ok(Self {
            reload: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
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
        let mut signals = match Signals::receive() {
            Ok(signals) => signals,
            Err(error) => return error!("signals can't be received: reason={error}"),
        };
        self.watchdog.watch("control", Handle::current());
        tokio::spawn(
            self.systemd
                .clone()
                .tend(self.live.clone(), self.drain.clone()),
        );
        let gateway = self.live.pin();
        first_pass(&gateway.clusters, &gateway.resolver).await;
        gateway.enter_service();
        drop(gateway);
        let first = std::mem::take(self.first.get_mut().unwrap_or_else(PoisonError::into_inner));
        let mut running = self.start(first);
        let (live, listeners) = (self.live.clone(), Arc::clone(&self.listeners));
        let (orders, history) = (self.orders.clone(), Arc::clone(&self.history));
        let parts = admin::Parts {
            live,
            listeners,
            drain: self.drain.clone(),
            orders,
            history,
            resources: self.source.resources.clone(),
        };
        let opened = std::mem::take(&mut self.opened);
        self.admin = Some(Arc::new(Admin::start(parts, opened)));
        ready.notify_ready();
        loop {
            tokio::select! {
                _ = signals.reload.recv() => drop(self.reload(By::Signal, &mut running).await),
                _ = signals.reopen.recv() => self.reopen_logs(),
                // What has become of it is in the log.
                _ = signals.upgrade.recv() => drop(self.upgrade(upgrade::PATIENCE).await),
                // There is a sender in `self`.
                Some(order) = self.arriving.recv() => self.follow(order, &mut running).await,
                () = self.watch.changed() => drop(self.reload(By::Watch, &mut running).await),
                _ = shutdown.changed() => break,
            }
        }
        if let Some(admin) = &self.admin {
            admin.stop();
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
