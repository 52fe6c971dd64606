//! What the threads of a disk tier and those who ask it share.

use std::{
    fs, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use log::{info, warn};
use tokio::sync::oneshot;

use super::{
    super::memory::{Filing, Purge, Selection},
    Limits, Spec, State, Statistics,
    file::{self, BLOCK, Stamp},
    folder::Folder,
    index::{Gone, Hash, Index},
    queue::{Chore, Chores, Queue},
    read::Reads,
    selection::Ban,
};

pub(super) struct Tier {
    pub(super) folder: Folder,
    pub(super) index: Index,
    pub(super) queue: Queue,
    pub(super) chores: Chores,
    pub(super) bans: Bans,
    pub(super) reads: Reads,
    pub(super) counts: Counts,
    /// The number of the next file.
    pub(super) next: AtomicU64,
    pub(super) heads: u32,
    pub(super) hash: fn(&[u8], Option<&[u8; 16]>) -> u128,
    limit: AtomicU64,
    longest: AtomicU64,
    /// Seconds; `u32::MAX` for no limit.
    inactive: AtomicU32,
    /// Bytes of all files that have not been removed yet.
    used: AtomicU64,
    state: AtomicU8,
    closed: AtomicBool,
    pub(super) troubles: Troubles,
}

/// What has happened.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) reads: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) evictions: AtomicU64,
    pub(super) expirations: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) discarded: AtomicU64,
}

/// What goes wrong, each told when it begins and when it is over.
#[derive(Default)]
pub(super) struct Troubles {
    pub(super) folder: AtomicBool,
    pub(super) occupied: AtomicBool,
    pub(super) write: AtomicBool,
    pub(super) read: AtomicBool,
    pub(super) broken: AtomicBool,
}

impl Tier {
    pub(super) fn new(spec: Spec) -> Self {
        let tier = Self {
            folder: Folder::new(spec.path),
            index: Index::new(),
            queue: Queue::new(),
            chores: Chores::new(),
            bans: Bans::default(),
            reads: Reads::new(),
            counts: Counts::default(),
            next: AtomicU64::new(0),
            heads: spec.heads,
            hash: spec.hash,
            limit: AtomicU64::new(0),
            longest: AtomicU64::new(0),
            inactive: AtomicU32::new(0),
            used: AtomicU64::new(0),
            state: AtomicU8::new(State::Starting as u8),
            closed: AtomicBool::new(false),
            troubles: Troubles::default(),
        };
        tier.limit(spec.limits);
        tier
    }

    pub(super) fn limit(&self, limits: Limits) {
        let inactive = limits.inactive.map_or(u32::MAX, |inactive| {
            u32::try_from(inactive.as_secs()).unwrap_or(u32::MAX)
        });
        self.limit.store(limits.bytes, Ordering::Relaxed);
        self.inactive.store(inactive, Ordering::Relaxed);
        self.longest.store(limits.longest, Ordering::Relaxed);
    }

    /// Of bodies that are read, in bytes.
    pub(super) fn longest(&self) -> u64 {
        self.longest.load(Ordering::Relaxed)
    }

    pub(super) fn stamp(&self, number: u64) -> Stamp {
        Stamp {
            number,
            heads: self.heads,
        }
    }

    pub(super) fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
    }

    pub(super) fn state(&self) -> State {
        let state = self.state.load(Ordering::Acquire);
        State::ALL[usize::from(state) % State::ALL.len()]
    }

    /// Whether objects are taken.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state(), State::Loading | State::Working) && !self.is_closed()
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.queue.close();
        self.chores.call();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// From this number on files are ours, all others are from before.
    pub(super) fn begin(&self, number: u64) {
        let bans = self.bans.lock();
        self.next.store(number, Ordering::Release);
        for (ban, _) in &*bans {
            ban.raise(number);
        }
    }

    pub(super) fn ban(
        &self,
        selections: &[Selection<'_>],
        purge: Purge,
    ) -> oneshot::Receiver<usize> {
        let (done, result) = oneshot::channel();
        let mut bans = self.bans.lock();
        let before = self.next.load(Ordering::Acquire);
        bans.push((Arc::new(Ban::new(selections, purge, before)), done));
        self.bans.count.store(bans.len(), Ordering::Release);
        drop(bans);
        self.chores.call();
        result
    }

    /// Takes room for a file, for which others leave if need be. False when there is none.
    pub(super) fn take(&self, bytes: u64) -> bool {
        let fits = bytes <= self.limit.load(Ordering::Relaxed);
        self.add(bytes);
        let taken = fits && self.trim();
        if !taken {
            self.give_back(bytes);
        }
        taken
    }

    /// Counts a file that is there.
    pub(super) fn add(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(super) fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Removes files until there are no more than the limit allows. False when that can't be.
    pub(super) fn trim(&self) -> bool {
        while self.used.load(Ordering::Acquire) > self.limit.load(Ordering::Relaxed) {
            // What is on the way out makes room before anybody else has to leave.
            if !self.chores.remove_one(|gone| self.unlink(gone)) {
                let Some(gone) = self.index.evict() else {
                    return false;
                };
                count(&self.counts.evictions);
                self.unlink(gone);
            }
        }
        true
    }

    /// Removes a file that nobody can find any more.
    pub(super) fn unlink(&self, gone: Gone) {
        let removed = fs::remove_file(self.folder.file(gone.number));
        if let Err(error) = removed
            && error.kind() != io::ErrorKind::NotFound
        {
            self.complain(&self.troubles.write, "can't be written", &error);
        }
        self.give_back(u64::from(gone.blocks) * BLOCK);
    }

    /// Removes objects that are of no use at `now`.
    pub(super) fn sweep(&self, now: u32) {
        self.index.sweep(now, self.idle(now), |gone| {
            count(&self.counts.expirations);
            self.unlink(gone);
        });
    }

    /// Who was used before that for the last time is inactive.
    pub(super) fn idle(&self, now: u32) -> u32 {
        now.saturating_sub(self.inactive.load(Ordering::Relaxed))
    }

    /// Removes an object because of what was read of it. Tells whether it was its file that is broken.
    pub(super) fn discard(&self, hash: Hash, number: u64, error: &io::Error) -> bool {
        if !file::is_bad(error) {
            self.complain(&self.troubles.read, "can't be read", error);
            return false;
        }
        let (found, gone) = self.index.remove(hash, number);
        if found {
            count(&self.counts.discarded);
            self.tell_broken(number, error);
        }
        if let Some(gone) = gone {
            self.chores.push(Chore::Remove(gone));
        }
        true
    }

    /// Told once: a broken disk would fill the log. The others are counted.
    pub(super) fn tell_broken(&self, number: u64, error: &io::Error) {
        if begins(&self.troubles.broken) {
            let file = self.folder.file(number);
            warn!(
                "a file of the cache is broken: file={} reason={error}",
                file.display()
            );
        }
    }

    /// Tells of a trouble, if it is new.
    pub(super) fn complain(&self, trouble: &AtomicBool, what: &str, error: &io::Error) {
        if begins(trouble) {
            let path = self.folder.path().display();
            warn!("the cache's folder {what}: path={path} reason={error}");
        }
    }

    /// Tells that a trouble is over, if there was one.
    pub(super) fn calm(&self, trouble: &AtomicBool, what: &str) {
        if trouble.load(Ordering::Relaxed) && trouble.swap(false, Ordering::Relaxed) {
            let path = self.folder.path().display();
            info!("the cache's folder {what}: path={path}");
        }
    }

    pub(super) fn statistics(&self) -> Statistics {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &self.counts;
        Statistics {
            state: self.state(),
            objects: self.index.len(),
            bytes: count(&self.used),
            limit: count(&self.limit),
            hits: count(&counts.hits),
            misses: count(&counts.misses),
            reads: count(&counts.reads),
            written: count(&counts.written),
            evictions: count(&counts.evictions),
            expirations: count(&counts.expirations),
            dropped: count(&counts.dropped),
            discarded: count(&counts.discarded),
        }
    }
}

/// Purges that have not been carried out on all files yet. Until then whoever reads a file asks here.
#[derive(Default)]
pub(super) struct Bans {
    list: Mutex<Vec<(Arc<Ban>, oneshot::Sender<usize>)>>,
    count: AtomicUsize,
}

impl Bans {
    fn lock(&self) -> MutexGuard<'_, Vec<(Arc<Ban>, oneshot::Sender<usize>)>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn first(&self) -> Option<Arc<Ban>> {
        Some(self.lock().first()?.0.clone())
    }

    /// It has been carried out on so many.
    pub(super) fn end(&self, ban: &Arc<Ban>, count: usize) {
        let mut list = self.lock();
        let place = list.iter().position(|(other, _)| Arc::ptr_eq(other, ban));
        let ended = place.map(|place| list.remove(place));
        self.count.store(list.len(), Ordering::Release);
        drop(list);
        if let Some((_, done)) = ended {
            // Perhaps nobody waits for it.
            done.send(count).ok();
        }
    }

    /// Nobody is going to carry them out.
    pub(super) fn give_up(&self) {
        self.lock().clear();
    }

    /// Since when an object is stale, zero if it is not; `None` if it is to be removed.
    pub(super) fn judge(&self, number: u64, name: &[u8], filing: &Filing) -> Option<u64> {
        let mut stale = 0;
        if self.count.load(Ordering::Acquire) == 0 {
            return Some(stale);
        }
        for (ban, _) in self.lock().iter() {
            if !ban.is_for(number) || !ban.means(name, filing) {
                continue;
            }
            match ban.purge {
                Purge::Remove => return None,
                Purge::Stale(since) => stale = earlier(stale, since),
            }
        }
        Some(stale)
    }
}

/// The earlier of two marks, of which zero is none.
pub(super) fn earlier(one: u64, other: u64) -> u64 {
    match (one, other) {
        (0, mark) | (mark, 0) => mark,
        (one, other) => one.min(other),
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn begins(trouble: &AtomicBool) -> bool {
    !trouble.swap(true, Ordering::Relaxed)
}

/// Seconds since 1970.
pub(super) fn now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u32::try_from(since.unwrap_or_default().as_secs()).unwrap_or(u32::MAX)
}
