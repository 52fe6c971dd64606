//! Tells a collector of spans, off the path of requests.
//!
//! Requests put spans into a queue, without waiting: if it is full, they are lost and counted. One thread gathers them
//! for a moment and sends them together. What a collector does not take now is sent again, less and less often,
//! while others wait in the queue; after a minute it is lost, since newer ones tell more of what is wrong. What
//! was lost is told in the gateway's own log, once in ten seconds at most. When the last user of an exporter is gone,
//! what is queued is still sent, once.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver as Done, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{
    runtime::Builder,
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use super::{
    TraceExport,
    otlp::{self, Collector, Refused},
    span::Spans,
};

/// One collector, for all filters that tell it of the same gateway.
pub(super) struct Exporter {
    to: String,
    /// There until the exporter is dropped; then the thread ends when it has sent what is in it.
    queue: Option<mpsc::Sender<Spans>>,
    /// Ends waits when the exporter is dropped.
    closing: Option<watch::Sender<()>>,
    counts: Arc<Counts>,
    thread: Mutex<State>,
}

#[derive(Debug, Default)]
struct Counts {
    /// The bytes in the queue.
    queued: AtomicUsize,
    exported: AtomicU64,
    lost: AtomicU64,
}

enum State {
    /// Nobody sends yet: a configuration that is only checked starts no thread.
    Ready(Box<Sender>),
    /// The thread sends. It tells nothing, but ends this channel when it is done.
    Running(Done<()>),
    /// There is no thread, and there will be none.
    Failed,
}

impl Exporter {
    /// Tells this collector of this resource.
    pub(super) fn new(collector: Collector, resource: Arc<[u8]>) -> Self {
        let (queue, spans) = mpsc::channel(QUEUE);
        let (closing, closed) = watch::channel(());
        let counts = Arc::<Counts>::default();
        let to = collector.name.clone();
        let sender = Sender {
            collector,
            resource,
            spans,
            closed,
            counts: Arc::clone(&counts),
            reported: None,
            told_lost: 0,
            last_error: None,
        };
        Self {
            to,
            queue: Some(queue),
            closing: Some(closing),
            counts,
            thread: Mutex::new(State::Ready(Box::new(sender))),
        }
    }

    /// Starts to send, unless that was done before.
    pub(super) fn start(&self) {
        let mut state = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Failed) {
            State::Ready(sender) => *state = self.spawn(sender),
            other @ (State::Running(_) | State::Failed) => *state = other,
        }
    }

    fn spawn(&self, sender: Box<Sender>) -> State {
        let (done, running) = channel();
        let runtime = Builder::new_current_thread().enable_all().build();
        let spawned = runtime.and_then(|runtime| {
            let thread = thread::Builder::new().name("trace-export".to_owned());
            thread.spawn(move || {
                runtime.block_on(sender.run());
                drop(done);
            })
        });
        match spawned {
            Ok(_) => State::Running(running),
            Err(error) => {
                log::error!("traces can't be exported to {}: {error}", self.to);
                State::Failed
            }
        }
    }

    /// Queues the spans of a request. Never waits.
    pub(super) fn send(&self, spans: Spans) {
        let (size, count) = (spans.bytes.len(), spans.count);
        // Counted before they are there to be taken, so that the count never goes below zero.
        let before = self.counts.queued.fetch_add(size, Ordering::Relaxed);
        let room = before + size <= QUEUED_BYTES;
        let queue = self.queue.as_ref().filter(|_| room);
        if queue.is_none_or(|queue| queue.try_send(spans).is_err()) {
            self.counts.queued.fetch_sub(size, Ordering::Relaxed);
            self.counts.lose(count.into());
        }
    }

    /// Of how many requests spans wait to be taken.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        let queue = self.queue.as_ref();
        queue.map_or(0, |queue| queue.max_capacity() - queue.capacity())
    }

    /// What has become of all spans until now.
    pub(super) fn told(&self) -> TraceExport {
        TraceExport {
            to: self.to.clone(),
            exported: self.counts.exported.load(Ordering::Relaxed),
            lost: self.counts.lost.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Exporter({})", self.to)
    }
}

impl Drop for Exporter {
    /// Waits until all that is queued was sent, but not for a collector that does not take it.
    fn drop(&mut self) {
        self.queue = None;
        self.closing = None;
        let state = self
            .thread
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let State::Running(running) = state else {
            return;
        };
        if running.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            log::error!(
                "the collector at {} does not take the last spans, they are lost",
                self.to
            );
        }
    }
}

impl Counts {
    fn lose(&self, spans: u64) {
        self.lost.fetch_add(spans, Ordering::Relaxed);
    }
}

/// What the thread has.
struct Sender {
    collector: Collector,
    resource: Arc<[u8]>,
    spans: mpsc::Receiver<Spans>,
    closed: watch::Receiver<()>,
    counts: Arc<Counts>,
    reported: Option<Instant>,
    /// How many lost spans the log knows of.
    told_lost: u64,
    last_error: Option<String>,
}

impl Sender {
    async fn run(mut self: Box<Self>) {
        while let Some(first) = self.spans.recv().await {
            let batch = self.gather(first).await;
            self.export(batch).await;
            self.report(REPORT);
        }
        self.report(Duration::ZERO);
    }

    /// The spans that come within a moment, as long as they are not too many.
    async fn gather(&mut self, first: Spans) -> Spans {
        let mut batch = Spans::default();
        self.add(&mut batch, &first);
        let more = async {
            while batch.bytes.len() < BATCH {
                let Some(next) = self.spans.recv().await else {
                    return;
                };
                self.counts
                    .queued
                    .fetch_sub(next.bytes.len(), Ordering::Relaxed);
                batch.bytes.extend_from_slice(&next.bytes);
                batch.count += next.count;
            }
        };
        // When the time is over, what has come is the batch.
        drop(timeout(GATHER, more).await);
        batch
    }

    fn add(&self, batch: &mut Spans, next: &Spans) {
        self.counts
            .queued
            .fetch_sub(next.bytes.len(), Ordering::Relaxed);
        batch.bytes.extend_from_slice(&next.bytes);
        batch.count += next.count;
    }

    /// Sends a batch, again and again if need be.
    async fn export(&mut self, batch: Spans) {
        let count = u64::from(batch.count);
        let message = otlp::request(&self.resource, &batch.bytes);
        drop(batch);
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let (why, wait) = match self.collector.take(&message).await {
                Ok(rejected) => return self.taken(count, rejected),
                Err(Refused::Never(why)) => return self.give_up(count, why),
                Err(Refused::Later(why, wait)) => (why, wait),
            };
            // At random, so that several gateways do not come back together.
            let wait = wait.unwrap_or_else(|| pause.mul_f64(rand::random_range(0.5..1.0)));
            if begun.elapsed() + wait > GIVE_UP || !self.pauses(wait).await {
                return self.give_up(count, why);
            }
            self.last_error = Some(why);
            self.report(REPORT);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits; false if the end has come meanwhile.
    async fn pauses(&mut self, time: Duration) -> bool {
        tokio::select! {
            () = sleep(time) => true,
            _ = self.closed.changed() => false,
        }
    }

    fn taken(&mut self, count: u64, rejected: u64) {
        let rejected = rejected.min(count);
        self.counts
            .exported
            .fetch_add(count - rejected, Ordering::Relaxed);
        if rejected > 0 {
            self.counts.lose(rejected);
            self.last_error = Some("it has refused some of them".to_owned());
        } else {
            self.last_error = None;
        }
    }

    fn give_up(&mut self, count: u64, why: String) {
        self.counts.lose(count);
        self.last_error = Some(why);
    }

    /// Tells what was lost and why, unless that was done this short a time ago.
    fn report(&mut self, often: Duration) {
        let lost = self.counts.lost.load(Ordering::Relaxed);
        let news = lost > self.told_lost || self.last_error.is_some();
        if !news || self.reported.is_some_and(|last| last.elapsed() < often) {
            return;
        }
        self.reported = Some(Instant::now());
        let (to, lost) = (&self.collector.name, lost - self.told_lost);
        self.told_lost += lost;
        match self.last_error.take() {
            Some(why) => log::warn!("the collector at {to} takes no spans, {lost} are lost: {why}"),
            None => log::warn!("the collector at {to} is too slow, {lost} spans are lost"),
        }
    }
}

/// Of how many requests spans may wait.
const QUEUE: usize = 4_096;
/// And how many bytes: clients decide on the length of a path.
const QUEUED_BYTES: usize = 8 << 20;
/// How long spans gather before they are sent.
const GATHER: Duration = Duration::from_secs(1);
/// How many bytes are sent at once. Collectors take 4 MiB over gRPC unless they are told otherwise.
const BATCH: usize = 1 << 20;
/// How long it takes until a batch is sent again; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// How long a batch is sent again.
const GIVE_UP: Duration = Duration::from_secs(60);
/// How often lost spans are reported.
const REPORT: Duration = Duration::from_secs(10);
/// How long the last user of an exporter waits until all was sent.
const PATIENCE: Duration = Duration::from_secs(3);
