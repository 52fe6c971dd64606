//! Reading from the disk, for requests.
//!
//! A file is read by threads for blocking work, a few at a time. Who would have to wait too long goes
//! without: then the object is fetched, as if it were not here. After a disk has been too slow once, nobody
//! waits for it for some time.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::{
    sync::{OnceCell, OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

use super::{
    super::memory::Key,
    Found,
    file::{Label, Stored},
    index::{Hash, short},
    tier::{Tier, count, earlier},
};

pub(super) struct Reads {
    /// By the number of the file. Who wants the same one waits for it.
    under_way: Mutex<HashMap<u64, Arc<OnceCell<Read>>>>,
    permits: Arc<Semaphore>,
    begun: Instant,
    /// Milliseconds after `begun`.
    rest_until: AtomicU64,
}

/// `None` if it can't be had.
type Read = Option<Arc<File>>;

/// What was read of a file.
struct File {
    label: Label,
    body: SmallVec<[Bytes; 1]>,
}

impl Reads {
    pub(super) fn new() -> Self {
        Self {
            under_way: Mutex::default(),
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            begun: Instant::now(),
            rest_until: AtomicU64::new(0),
        }
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<u64, Arc<OnceCell<Read>>>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_resting(&self) -> bool {
        self.elapsed() < self.rest_until.load(Ordering::Relaxed)
    }

    fn rest(&self) {
        let until = self.elapsed() + REST.as_millis() as u64;
        self.rest_until.store(until, Ordering::Relaxed);
    }

    /// Does something with the disk. `None` if it takes too long.
    async fn run<T: Send + 'static>(
        &self,
        wait: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let permit: OwnedSemaphorePermit = timeout(wait, self.permits.clone().acquire_owned())
            .await
            .ok()?
            .ok()?;
        // Who does not wait any more does not free its place: the thread is still busy.
        let work = spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        let done = timeout(SLOW, work).await;
        if done.is_err() {
            self.rest();
        }
        done.ok()?.ok()
    }
}

/// One of those who wait for a file. The last one to leave, for whatever reason, clears up.
struct Seat<'t> {
    reads: &'t Reads,
    number: u64,
    cell: Arc<OnceCell<Read>>,
}

impl<'t> Seat<'t> {
    fn take(reads: &'t Reads, number: u64) -> Self {
        let cell = reads.under_way().entry(number).or_default().clone();
        Self {
            reads,
            number,
            cell,
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut under_way = self.reads.under_way();
        // One is the map's, one is this.
        if Arc::strong_count(&self.cell) <= 2 {
            under_way.remove(&self.number);
        }
    }
}

/// Finds an object. Counts as a use.
pub(super) async fn find(tier: &Arc<Tier>, key: &Key<'_>, now: u32) -> Option<Found> {
    let hash = short(key.hash);
    let number = tier.index.find(hash, now)?;
    if tier.reads.is_resting() {
        return None;
    }
    let seat = Seat::take(&tier.reads, number);
    let read = seat.cell.get_or_init(|| read(tier, hash, number, now));
    let file = read.await.clone()?;
    drop(seat);
    let label = &file.label;
    // Another key with the same hash.
    if *label.name != *key.name || label.variant.as_ref() != key.variant {
        return None;
    }
    // The order matters: a ban ends after it was entered into the index.
    let banned = tier.bans.judge(number, &label.name, &label.filing)?;
    let marked = tier.index.stale(hash, number)?;
    let stale = earlier(label.stale, earlier(banned, marked));
    Some(Found {
        head: label.head.clone(),
        filing: label.filing.clone(),
        expires: label.expires,
        stale_since: (stale > 0).then_some(stale),
        body: file.body.clone(),
    })
}

async fn read(tier: &Arc<Tier>, hash: Hash, number: u64, now: u32) -> Read {
    count(&tier.counts.reads);
    let (path, stamp, longest) = (tier.folder.file(number), tier.stamp(number), tier.longest());
    let work = move || -> io::Result<Read> {
        let stored = Stored::open(&path, stamp)?;
        // It is a hint for the next start: not worth failing for.
        stored.note_use(now).ok();
        let label = stored.label()?;
        if label.length > longest {
            return Ok(None);
        }
        let pieces = (0..label.pieces()).map(|place| stored.piece(&label, place));
        let body = pieces.collect::<io::Result<_>>()?;
        Ok(Some(Arc::new(File { label, body })))
    };
    match tier.reads.run(PATIENCE, work).await? {
        Ok(file) => {
            tier.calm(&tier.troubles.read, "can be read again");
            file
        }
        Err(error) => {
            tier.discard(hash, number, &error);
            None
        }
    }
}

/// Files that are read at the same time. They have a thread each.
const AT_ONCE: usize = 16;
/// How long to wait for others who read.
const PATIENCE: Duration = Duration::from_millis(100);
/// A disk that takes longer for a file is of no use.
const SLOW: Duration = Duration::from_secs(2);
/// How long it is not asked then.
const REST: Duration = Duration::from_secs(5);
