//! Connections that wait for their next request.
//!
//! A connection that waits here holds no buffer, no session of Pingora and no timer: a place in a table and its
//! small task. The table knows how long each has waited, so that the oldest can be asked to leave when something
//! is short.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use slab::Slab;
use tokio::time::{Instant, sleep};

/// Where connections wait, of all listeners.
pub(super) struct Lot {
    /// Each thread uses one of its own mostly, so that none waits for another.
    rows: Box<[Mutex<Row>]>,
    /// How many milliseconds anybody may wait at most; no limit as long as the gateway does not end.
    most: AtomicU64,
}

type Row = Slab<Place>;

struct Place {
    since: Instant,
    until: Instant,
    task: Waker,
    left: Option<Leave>,
}

/// What can wait.
pub(super) trait Readable: Sync {
    /// Ready when there may be something to read, or the end. Reads nothing.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// Why a connection has to leave without a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// It has waited for as long as it may.
    Expired,
    /// Others need what it holds.
    Shed,
}

/// How exactly the time of waiting is kept.
const SWEEP: Duration = Duration::from_millis(250);

/// The same when the gateway ends and waits for them.
const LAST_SWEEPS: Duration = Duration::from_millis(25);

impl Lot {
    /// A lot for so many threads.
    pub(super) fn new(threads: usize) -> Self {
        Self {
            rows: (0..threads.max(1)).map(|_| Mutex::default()).collect(),
            most: AtomicU64::new(u64::MAX),
        }
    }

    /// Waits until there is something to read from a connection, or its end.
    ///
    /// # Errors
    ///
    /// It must be closed instead.
    pub(super) fn wait<'a, R: Readable>(
        &'a self,
        connection: &'a R,
        patience: Duration,
    ) -> impl Future<Output = Result<(), Leave>> + Send + 'a {
        Waiting {
            lot: self,
            connection,
            patience,
            place: None,
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        let lengths = self.rows.iter().map(|row| lock(row).len());
        lengths.sum()
    }

    /// How many have been told to leave, and have not yet.
    pub(super) fn leaving(&self) -> usize {
        let leaving = |row: &Mutex<Row>| {
            let row = lock(row);
            row.iter().filter(|(_, place)| place.left.is_some()).count()
        };
        self.rows.iter().map(leaving).sum()
    }

    /// Has those leave that have waited longest; tells how many there were.
    pub(super) fn shed(&self, count: usize) -> usize {
        let mut oldest = Vec::new();
        for (number, row) in self.rows.iter().enumerate() {
            let row = lock(row);
            let waiting = row.iter().filter(|(_, place)| place.left.is_none());
            oldest.extend(waiting.map(|(key, place)| (place.since, number, key)));
        }
        let count = count.min(oldest.len());
        if count == 0 {
            return 0;
        }
        oldest.select_nth_unstable(count - 1);
        oldest.truncate(count);
        for (since, number, key) in oldest {
            let Some(row) = self.rows.get(number) else {
                continue;
            };
            // Somebody else may wait there by now.
            if let Some(place) = lock(row).get_mut(key).filter(|place| place.since == since) {
                place.leave(Leave::Shed);
            }
        }
        count
    }

    /// From now on nobody waits for longer than this, from now or from when it came if that is later: what is on
    /// its way already has time to arrive.
    pub(super) fn wind_up(&self, grace: Duration) {
        let most = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.most.store(most, Ordering::SeqCst);
        let until = Instant::now() + grace;
        for row in &self.rows {
            // Who comes into a row after this has seen the limit.
            for (_, place) in lock(row).iter_mut() {
                place.until = place.until.min(until);
            }
        }
    }

    /// Has those leave whose time is over, for ever.
    pub(super) async fn tend(&self) {
        loop {
            let ending = self.most.load(Ordering::Relaxed) != u64::MAX;
            sleep(if ending { LAST_SWEEPS } else { SWEEP }).await;
            let now = Instant::now();
            for row in &self.rows {
                let mut row = lock(row);
                let over = row.iter_mut().filter(|(_, place)| place.until <= now);
                over.for_each(|(_, place)| place.leave(Leave::Expired));
            }
        }
    }
}

impl Place {
    fn leave(&mut self, why: Leave) {
        if self.left.is_none() {
            self.left = Some(why);
            self.task.wake_by_ref();
        }
    }
}

/// What is locked is consistent whenever a panic could leave it.
fn lock(row: &Mutex<Row>) -> MutexGuard<'_, Row> {
    row.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The row of this thread: threads are numbered as they come.
fn own_row(rows: usize) -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| number % rows)
}

struct Waiting<'a, R> {
    lot: &'a Lot,
    connection: &'a R,
    patience: Duration,
    /// The row, and the place in it.
    place: Option<(usize, usize)>,
}

impl<R> Waiting<'_, R> {
    fn enter(&mut self, task: &Waker) {
        let number = own_row(self.lot.rows.len());
        let Some(row) = self.lot.rows.get(number) else {
            return;
        };
        let mut row = lock(row);
        // Read within the row: whoever winds up the lot sees this place, or this sees the limit.
        let most = Duration::from_millis(self.lot.most.load(Ordering::SeqCst));
        let since = Instant::now();
        let place = Place {
            since,
            until: since + self.patience.min(most),
            task: task.clone(),
            left: None,
        };
        self.place = Some((number, row.insert(place)));
    }

    /// Why it has to leave, if it has to.
    fn told(&self, task: &Waker) -> Option<Leave> {
        let (number, key) = self.place?;
        let mut row = lock(self.lot.rows.get(number)?);
        let place = row.get_mut(key)?;
        place.task.clone_from(task);
        place.left
    }
}

impl<R: Readable> Future for Waiting<'_, R> {
    type Output = Result<(), Leave>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.connection.poll_readable(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if self.place.is_none() {
            self.enter(cx.waker());
            return Poll::Pending;
        }
        match self.told(cx.waker()) {
            Some(why) => Poll::Ready(Err(why)),
            None => Poll::Pending,
        }
    }
}

impl<R> Drop for Waiting<'_, R> {
    fn drop(&mut self) {
        let Some((number, key)) = self.place else {
            return;
        };
        if let Some(row) = self.lot.rows.get(number) {
            lock(row).try_remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
        time::advance,
    };

    use super::*;
    use crate::server::{now::now, stream::Connection, transport::Transport};

    async fn connection() -> (TcpStream, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (tcp, peer) = listener.accept().await.unwrap();
        (client, Connection::unnamed(Transport::from(tcp), peer))
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_connection_leaves_when_there_is_something_to_read_and_its_place_is_free_then() {
        let lot = Lot::new(2);
        let (mut client, connection) = connection().await;
        let mut waiting = Box::pin(lot.wait(&connection, LONG));
        assert!(now(&mut waiting).await.is_none());
        assert_eq!(lot.len(), 1);
        client.write_all(b"G").await.unwrap();
        assert_eq!(waiting.await, Ok(()));
        assert_eq!(lot.len(), 0);
    }

    #[tokio::test]
    async fn the_one_that_has_waited_longest_is_shed_first() {
        let lot = Lot::new(1);
        let (_first, one) = connection().await;
        let (_second, two) = connection().await;
        let mut old = Box::pin(lot.wait(&one, LONG));
        assert!(now(&mut old).await.is_none());
        sleep(Duration::from_millis(2)).await;
        let mut young = Box::pin(lot.wait(&two, LONG));
        assert!(now(&mut young).await.is_none());
        assert_eq!(lot.shed(1), 1);
        assert_eq!(now(&mut old).await, Some(Err(Leave::Shed)));
        assert!(now(&mut young).await.is_none());
        assert_eq!(lot.shed(7), 1);
        assert_eq!(now(&mut young).await, Some(Err(Leave::Shed)));
        drop((old, young));
        assert_eq!(lot.shed(1), 0);
    }

    /// Sweeps the lot for so many milliseconds.
    async fn sweep(tending: &mut Pin<Box<impl Future<Output = ()>>>, milliseconds: u64) {
        for _ in 0..milliseconds / 5 {
            assert!(now(&mut *tending).await.is_none());
            advance(Duration::from_millis(5)).await;
        }
        assert!(now(&mut *tending).await.is_none());
    }

    #[tokio::test]
    async fn at_the_end_everybody_has_the_grace_and_no_more_also_who_comes_later() {
        let lot = Lot::new(1);
        let (_one, early) = connection().await;
        let (_two, late) = connection().await;
        let (mut talking, heard) = connection().await;
        tokio::time::pause();
        let mut tending = Box::pin(lot.tend());
        let mut early = Box::pin(lot.wait(&early, LONG));
        let mut heard = Box::pin(lot.wait(&heard, LONG));
        assert!(now(&mut early).await.is_none());
        assert!(now(&mut heard).await.is_none());
        sweep(&mut tending, 300).await;
        lot.wind_up(Duration::from_secs(1));
        sweep(&mut tending, 900).await;
        assert!(now(&mut early).await.is_none());
        let mut late = Box::pin(lot.wait(&late, LONG));
        assert!(now(&mut late).await.is_none());
        talking.write_all(b"G").await.unwrap();
        assert_eq!(heard.await, Ok(()));
        sweep(&mut tending, 200).await;
        assert_eq!(now(&mut early).await, Some(Err(Leave::Expired)));
        sweep(&mut tending, 700).await;
        assert!(now(&mut late).await.is_none());
        sweep(&mut tending, 200).await;
        assert_eq!(now(&mut late).await, Some(Err(Leave::Expired)));
    }

    #[tokio::test]
    async fn who_has_waited_for_as_long_as_it_may_leaves() {
        let lot = Lot::new(1);
        let (_client, connection) = connection().await;
        tokio::time::pause();
        let mut waiting = Box::pin(lot.wait(&connection, Duration::from_secs(5)));
        let mut tending = Box::pin(lot.tend());
        assert!(now(&mut waiting).await.is_none());
        for _ in 0..19 {
            assert!(now(&mut tending).await.is_none());
            advance(SWEEP).await;
        }
        assert!(now(&mut waiting).await.is_none());
        for _ in 0..2 {
            assert!(now(&mut tending).await.is_none());
            advance(SWEEP).await;
        }
        assert!(now(&mut tending).await.is_none());
        assert_eq!(now(&mut waiting).await, Some(Err(Leave::Expired)));
    }
}
