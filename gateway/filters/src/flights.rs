//! Work that several requests want at the same time, done once for all of them.
//!
//! It goes on when the request that has begun it is given up, since others may wait for it.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task, time::sleep};

use crate::digest::Digest;

/// A result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Landed<T> {
    pub(crate) result: T,
    /// Whether it is that of work which somebody else has begun.
    pub(crate) shared: bool,
}

/// What is under way, and what has just been done.
pub(crate) struct Flights<T> {
    known: Mutex<HashMap<Digest, watch::Receiver<Option<T>>>>,
    /// How long a result is handed out after the work was done.
    keep: fn(&T) -> Duration,
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    /// A table whose results are handed out to those who waited for them, and to nobody else.
    pub(crate) fn new() -> Self {
        Self::keeping(|_| Duration::ZERO)
    }

    /// A table whose results are handed out so long after the work was done.
    pub(crate) fn keeping(keep: fn(&T) -> Duration) -> Self {
        Self {
            known: Mutex::default(),
            keep,
        }
    }

    /// The result of the work of this name: of one that is under way or was just done, or else of this.
    /// None if the work has panicked.
    pub(crate) async fn join<W>(self: &Arc<Self>, name: Digest, work: W) -> Option<Landed<T>>
    where
        W: Future<Output = T> + Send + 'static,
    {
        let (mut receiver, shared) = self.board(name, work);
        let landed = receiver.wait_for(Option::is_some).await.ok()?;
        let result = landed.clone()?;
        Some(Landed { result, shared })
    }

    /// Where the result will be told, and whether others have begun the work.
    fn board<W>(self: &Arc<Self>, name: Digest, work: W) -> (watch::Receiver<Option<T>>, bool)
    where
        W: Future<Output = T> + Send + 'static,
    {
        // Held for a moment, and only by requests that have to wait for another service anyway.
        let mut known = self.lock();
        if let Some(result) = known.get(&name) {
            return (result.clone(), true);
        }
        let (teller, result) = watch::channel(None);
        let flight = Flight {
            table: Arc::clone(self),
            name,
        };
        known.insert(name, result.clone());
        drop(known);
        task::spawn(async move {
            let result = work.await;
            let keep = (flight.table.keep)(&result);
            teller.send_replace(Some(result));
            let has_room = flight.table.lock().len() <= MOST;
            if has_room && !keep.is_zero() {
                sleep(keep).await;
            }
        });
        (result, false)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, watch::Receiver<Option<T>>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One entry of the table, which goes when the work has ended in whatever way.
struct Flight<T: Clone + Send + Sync + 'static> {
    table: Arc<Flights<T>>,
    name: Digest,
}

impl<T: Clone + Send + Sync + 'static> Drop for Flight<T> {
    fn drop(&mut self) {
        self.table.lock().remove(&self.name);
    }
}

/// With more results than these at hand, new ones are not kept.
const MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;
    use crate::digest::Hasher;

    fn own<T>(result: T) -> Option<Landed<T>> {
        let shared = false;
        Some(Landed { result, shared })
    }

    fn shared<T>(result: T) -> Option<Landed<T>> {
        let shared = true;
        Some(Landed { result, shared })
    }

    fn name() -> Digest {
        Hasher::new().digest([&b"a"[..]])
    }

    #[tokio::test]
    async fn who_wants_the_same_at_the_same_time_gets_the_result_of_one() {
        let flights = Arc::new(Flights::new());
        let (done, go, name) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(Notify::new()),
            name(),
        );
        let work = || {
            let (done, go) = (Arc::clone(&done), Arc::clone(&go));
            async move {
                go.notified().await;
                done.fetch_add(1, Ordering::SeqCst) + 1
            }
        };
        let (first, second) = (flights.join(name, work()), flights.join(name, work()));
        let start = async { go.notify_one() };
        let (first, second, ()) = tokio::join!(first, second, start);
        assert_eq!((first, second), (own(1), shared(1)));
        task::yield_now().await;
        go.notify_one();
        assert_eq!(flights.join(name, work()).await, own(2));
    }

    #[tokio::test]
    async fn a_result_is_handed_out_as_long_as_it_is_kept() {
        let flights = Arc::new(Flights::keeping(|_| Duration::from_secs(600)));
        let name = name();
        assert_eq!(flights.join(name, async { 1 }).await, own(1));
        assert_eq!(flights.join(name, async { 2 }).await, shared(1));
    }

    #[tokio::test]
    async fn work_goes_on_when_nobody_waits_for_it() {
        let flights = Arc::new(Flights::keeping(|_| Duration::from_secs(600)));
        let (name, go) = (name(), Arc::new(Notify::new()));
        let started = Arc::clone(&go);
        let given_up = flights.join(name, async move {
            started.notified().await;
            1
        });
        assert!(
            tokio::time::timeout(Duration::ZERO, given_up)
                .await
                .is_err()
        );
        go.notify_one();
        assert_eq!(flights.join(name, async { 2 }).await, shared(1));
    }

    #[tokio::test]
    async fn work_that_panics_is_begun_anew_by_the_next() {
        let flights = Arc::new(Flights::keeping(|_| Duration::from_secs(600)));
        let name = name();
        let panicked = flights.join(name, async { panic!("as wanted") }).await;
        assert_eq!(panicked, None::<Landed<u8>>);
        task::yield_now().await;
        assert_eq!(flights.join(name, async { 2 }).await, own(2));
    }
}
