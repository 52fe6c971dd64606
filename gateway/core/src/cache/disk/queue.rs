//! What the two threads of a disk tier have to do.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    Record,
    index::{Gone, Hash},
};

/// Records that wait to be written. It is bounded: who comes when it is full goes without.
pub(super) struct Queue {
    state: Mutex<Jobs>,
    changed: Condvar,
}

#[derive(Default)]
struct Jobs {
    list: VecDeque<Job>,
    bytes: u64,
    closed: bool,
}

pub(super) enum Job {
    Write {
        record: Record,
        hash: Hash,
        number: u64,
    },
    /// Somebody waits for all that came before it.
    Tell(oneshot::Sender<()>),
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Never waits. False when there is no room.
    pub(super) fn push(&self, record: Record, hash: Hash, number: u64) -> bool {
        let mut jobs = lock(&self.state);
        let bytes = jobs.bytes + record.size();
        let full = jobs.list.len() >= MOST || (bytes > MOST_BYTES && !jobs.list.is_empty());
        if full || jobs.closed {
            return false;
        }
        jobs.bytes = bytes;
        jobs.list.push_back(Job::Write {
            record,
            hash,
            number,
        });
        drop(jobs);
        self.changed.notify_one();
        true
    }

    pub(super) fn tell(&self, done: oneshot::Sender<()>) {
        let mut jobs = lock(&self.state);
        if !jobs.closed {
            jobs.list.push_back(Job::Tell(done));
        }
        drop(jobs);
        self.changed.notify_one();
    }

    /// Waits for something to do. `None` once it is closed.
    pub(super) fn take(&self) -> Option<Job> {
        let mut jobs = lock(&self.state);
        while jobs.list.is_empty() && !jobs.closed {
            jobs = self
                .changed
                .wait(jobs)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let job = jobs.list.pop_front()?;
        if let Job::Write { record, .. } = &job {
            jobs.bytes -= record.size();
        }
        Some(job)
    }

    /// Drops all there is.
    pub(super) fn close(&self) {
        *lock(&self.state) = Jobs {
            closed: true,
            ..Jobs::default()
        };
        self.changed.notify_all();
    }
}

/// Small things to do in the folder. Unbounded: each is for a file that there is.
pub(super) struct Chores {
    state: Mutex<List>,
    changed: Condvar,
}

#[derive(Default)]
struct List {
    chores: VecDeque<Chore>,
    /// Removals that were taken out of turn, and are not done yet.
    busy: usize,
    /// There is something else to be seen to.
    called: bool,
}

pub(super) enum Chore {
    Remove(Gone),
    /// Notes in its file that an object is stale.
    Mark {
        hash: Hash,
        number: u64,
    },
    /// Somebody waits for all that came before it.
    Tell(oneshot::Sender<()>),
}

impl Chores {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub(super) fn push(&self, chore: Chore) {
        lock(&self.state).chores.push_back(chore);
        self.changed.notify_one();
    }

    /// The next one. A `Tell` comes when all before it is done.
    pub(super) fn take(&self) -> Option<Chore> {
        let mut list = lock(&self.state);
        while matches!(list.chores.front(), Some(Chore::Tell(_))) && list.busy > 0 {
            list = self
                .changed
                .wait(list)
                .unwrap_or_else(PoisonError::into_inner);
        }
        list.chores.pop_front()
    }

    /// Does the next removal, whatever is before it. False when there is none.
    pub(super) fn remove_one(&self, remove: impl FnOnce(Gone)) -> bool {
        let mut list = lock(&self.state);
        let is_removal = |chore: &Chore| matches!(chore, Chore::Remove(_));
        let place = list.chores.iter().position(is_removal);
        let chore = place.and_then(|place| list.chores.remove(place));
        let Some(Chore::Remove(gone)) = chore else {
            return false;
        };
        list.busy += 1;
        drop(list);
        remove(gone);
        lock(&self.state).busy -= 1;
        self.changed.notify_one();
        true
    }

    /// Has whoever waits look for something that is not among the chores.
    pub(super) fn call(&self) {
        lock(&self.state).called = true;
        self.changed.notify_one();
    }

    /// Until there is something to do, but not longer than this.
    pub(super) fn wait(&self, time: Duration) {
        let idle = |list: &mut List| list.chores.is_empty() && !list.called;
        let waited = self
            .changed
            .wait_timeout_while(lock(&self.state), time, idle);
        waited.unwrap_or_else(PoisonError::into_inner).0.called = false;
    }
}

/// A panic under the lock would be a bug, and would not leave the list worse than without it.
fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Records that wait.
const MOST: usize = 1024;
/// They keep their bodies in memory, also when the first tier has none of them any more.
const MOST_BYTES: u64 = 32 << 20;

#[cfg(test)]
mod tests {
    use super::{super::tests::record, *};

    #[test]
    fn a_full_queue_takes_nothing_and_takes_again_when_there_is_room() {
        let queue = Queue::new();
        let small = || record("a/b", "", "head", b"body");
        for number in 0..MOST as u64 {
            assert!(queue.push(small(), 1, number));
        }
        assert!(!queue.push(small(), 1, 5_000));
        assert!(matches!(queue.take(), Some(Job::Write { number: 0, .. })));
        assert!(queue.push(small(), 1, 5_000));
        queue.close();
        assert!(!queue.push(small(), 1, 5_000));
        assert!(queue.take().is_none());
    }

    #[test]
    fn a_queue_is_full_by_bytes_too_but_takes_one_of_any_size() {
        let queue = Queue::new();
        let large = |bytes| record("a/b", "", "head", &vec![0; bytes]);
        assert!(queue.push(large(MOST_BYTES as usize + 1), 1, 0));
        assert!(!queue.push(large(1), 1, 1));
        queue.take();
        assert!(queue.push(large(MOST_BYTES as usize / 2), 1, 2));
        assert!(!queue.push(large(MOST_BYTES as usize / 2), 1, 3));
    }
}
