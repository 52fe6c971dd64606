//! Tells systemd that the process makes progress, as long as every thread that serves does (`WatchdogSec=`).

use std::{
    env,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use log::{error, info, warn};
use tokio::runtime::{Handle, worker_index};

use super::{Systemd, lock};

/// What has to make progress, if systemd wants to know. Clones are the same.
///
/// A thread of its own looks twice in the time after which systemd gives up. It is silent for good once a worker is
/// stuck, and begins again if that goes on.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct Watchdog {
    /// After which time systemd gives up.
    patience: Option<Duration>,
    watched: Arc<Mutex<Vec<Watched>>>,
}

/// How often the workers are called between two looks.
const CALLS: u32 = 8;

impl Watchdog {
    /// That which systemd wants of this process.
    pub(in crate::server) fn of_environment() -> Self {
        let number = |name| env::var(name).ok()?.parse::<u64>().ok();
        let meant = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let patience = number("WATCHDOG_USEC").filter(|microseconds| meant && *microseconds > 0);
        Self {
            patience: patience.map(Duration::from_micros),
            watched: Arc::default(),
        }
    }

    /// Has all workers of this runtime watched. To be called before the start.
    pub(in crate::server) fn watch(&self, what: &'static str, runtime: Handle) {
        if self.patience.is_some() {
            lock(&self.watched).push(Watched::new(what, runtime));
        }
    }

    /// Begins to look.
    pub(in crate::server) fn start(self, systemd: Systemd) {
        let Some(patience) = self.patience.filter(|_| systemd.listens()) else {
            return;
        };
        info!("watchdog: systemd is told twice in {patience:?} that all workers make progress");
        let look = move || self.look(&systemd, patience / 2);
        let started = thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(look);
        if let Err(error) = started {
            warn!("systemd will not be told of progress: reason={error}");
        }
    }

    /// Looks for as long as the process lives.
    fn look(&self, systemd: &Systemd, every: Duration) {
        systemd.is_alive();
        let mut told = false;
        loop {
            for _ in 0..CALLS {
                lock(&self.watched).iter().for_each(Watched::call);
                thread::sleep(every / CALLS);
            }
            let mut watched = lock(&self.watched);
            // All of them, so that each look is at the time since the last one.
            let stuck: Vec<_> = watched.iter_mut().filter_map(Watched::stuck).collect();
            match stuck.first() {
                None => {
                    systemd.is_alive();
                    told = false;
                }
                Some((what, worker)) if !told => {
                    error!(
                        "a thread makes no progress: runtime={what} worker={worker} for={every:?}; systemd is not told \
                         any more that the process works"
                    );
                    told = true;
                }
                Some(_) => {}
            }
        }
    }
}

/// A runtime of which each worker has to make progress.
#[derive(Debug)]
struct Watched {
    what: &'static str,
    runtime: Handle,
    workers: Vec<Worker>,
}

#[derive(Debug, Default)]
struct Worker {
    /// Whether it has answered a call since the last look.
    answered: Arc<AtomicBool>,
    /// How often it had gone to sleep and been woken up at the last look.
    parks: u64,
}

impl Watched {
    fn new(what: &'static str, runtime: Handle) -> Self {
        let number = runtime.metrics().num_workers();
        let workers = (0..number).map(|_| Worker::default()).collect();
        Self {
            what,
            runtime,
            workers,
        }
    }

    /// Calls whoever comes. Workers that never sleep take from what all have to do now and then, too.
    fn call(&self) {
        let answers: Arc<[_]> = self
            .workers
            .iter()
            .map(|worker| Arc::clone(&worker.answered))
            .collect();
        for _ in 0..2 * self.workers.len() {
            let answers = Arc::clone(&answers);
            self.runtime.spawn(async move {
                let answer = worker_index().and_then(|index| answers.get(index));
                if let Some(answer) = answer {
                    answer.store(true, Ordering::Relaxed);
                }
            });
        }
    }

    /// The first worker that has made no progress since the last look: it is awake, has not slept, and has answered
    /// no call.
    fn stuck(&mut self) -> Option<(&'static str, usize)> {
        let metrics = self.runtime.metrics();
        let mut stuck = None;
        for (index, worker) in self.workers.iter_mut().enumerate() {
            let parks = metrics.worker_park_unpark_count(index);
            let sleeps = parks % 2 == 1;
            let slept = std::mem::replace(&mut worker.parks, parks) != parks;
            let answered = worker.answered.swap(false, Ordering::Relaxed);
            if !sleeps && !slept && !answered {
                stuck = stuck.or(Some((self.what, index)));
            }
        }
        stuck
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc::{Sender, channel},
        time::Instant,
    };

    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn runtime(workers: usize) -> Runtime {
        Builder::new_multi_thread()
            .worker_threads(workers)
            .build()
            .unwrap()
    }

    /// Looks until something is stuck, or not, as it is wanted.
    fn is_seen(watched: &mut Watched, stuck: bool) -> bool {
        let start = Instant::now();
        watched.stuck();
        while start.elapsed() < Duration::from_secs(10) {
            for _ in 0..4 {
                watched.call();
                thread::sleep(Duration::from_millis(20));
            }
            if watched.stuck().is_some() == stuck {
                return true;
            }
        }
        false
    }

    fn block(runtime: &Handle) -> Sender<()> {
        let (end, ended) = channel::<()>();
        let (begin, begun) = channel();
        runtime.spawn(async move {
            begin.send(()).unwrap();
            // Until the other end is dropped.
            ended.recv().ok();
        });
        begun.recv().unwrap();
        end
    }

    #[test]
    fn one_worker_of_several_that_is_stuck_is_seen_and_that_it_goes_on() {
        let runtime = runtime(3);
        let mut watched = Watched::new("edge", runtime.handle().clone());
        assert!(is_seen(&mut watched, false));
        let end = block(runtime.handle());
        assert!(is_seen(&mut watched, true));
        drop(end);
        assert!(is_seen(&mut watched, false));
    }

    #[test]
    fn workers_that_never_sleep_are_not_stuck() {
        let runtime = runtime(2);
        for _ in 0..8 {
            runtime.spawn(async {
                loop {
                    tokio::task::yield_now().await;
                }
            });
        }
        let mut watched = Watched::new("edge", runtime.handle().clone());
        watched.stuck();
        for _ in 0..5 {
            for _ in 0..10 {
                watched.call();
                thread::sleep(Duration::from_millis(20));
            }
            assert_eq!(watched.stuck(), None);
        }
        runtime.shutdown_background();
    }

    #[test]
    fn a_runtime_of_one_thread_is_watched_as_well() {
        let (send, receive) = channel();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let running = thread::spawn(move || {
            let runtime = Builder::new_current_thread().build().unwrap();
            send.send(runtime.handle().clone()).unwrap();
            runtime.block_on(ended)
        });
        let mut watched = Watched::new("edge", receive.recv().unwrap());
        assert!(is_seen(&mut watched, false));
        let blocked = block(&watched.runtime);
        assert!(is_seen(&mut watched, true));
        drop((blocked, end));
        running.join().unwrap().unwrap_err();
    }
}
