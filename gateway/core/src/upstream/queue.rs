//! Requests that wait because every endpoint has as many as it may.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::{
    sync::{Mutex, Notify},
    time::{Instant, timeout_at},
};

/// Who waits. What ends under the configuration before makes room here, too, and is seen at the next look.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: AtomicU32,
    /// Held by whoever is first. The others wait for it in the order of their arrival.
    first: Mutex<()>,
    freed: Notify,
}

/// How often somebody who waits looks, though nobody called: an endpoint may have come back.
const LOOK: Duration = Duration::from_millis(50);

/// Why somebody waits no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    /// As many as may wait do.
    Full,
    TooLong,
}

/// A place in the queue.
struct Place<'q>(&'q AtomicU32);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Queue {
    /// Whether somebody waits: who comes now comes after them.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }

    /// How many wait.
    pub(crate) fn len(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Tells whoever is first that there may be room.
    pub(crate) fn freed(&self) {
        if !self.is_empty() {
            self.freed.notify_one();
        }
    }

    /// Waits until `attempt` gives something, which only who came first asks for. Who is dropped meanwhile
    /// has left.
    ///
    /// # Errors
    ///
    /// `size` others wait already, or `due` has come.
    pub(crate) async fn wait<T>(
        &self,
        size: u32,
        due: Instant,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Result<T, Turned> {
        let _place = Place(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= size {
            return Err(Turned::Full);
        }
        let first = timeout_at(due, self.first.lock()).await;
        let _first = first.map_err(|_| Turned::TooLong)?;
        loop {
            // There may be room for more than one, or there was before we were here to be told.
            if let Some(found) = attempt() {
                return Ok(found);
            }
            let now = Instant::now();
            if now >= due {
                return Err(Turned::TooLong);
            }
            // Either way it is worth a look.
            drop(timeout_at(due.min(now + LOOK), self.freed.notified()).await);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(200)
    }

    #[tokio::test]
    async fn who_waits_is_served_when_there_is_room() {
        let queue = Arc::new(Queue::default());
        let room = Arc::new(AtomicU32::new(0));
        let (inside, left) = (Arc::clone(&queue), Arc::clone(&room));
        let waiting = tokio::spawn(async move {
            let take = || (left.load(Ordering::Relaxed) > 0).then_some(7);
            inside
                .wait(10, Instant::now() + Duration::from_secs(5), take)
                .await
        });
        while queue.is_empty() {
            tokio::task::yield_now().await;
        }
        room.store(1, Ordering::Relaxed);
        queue.freed();
        assert_eq!(waiting.await.unwrap(), Ok(7));
        assert!(queue.is_empty());
    }

    #[tokio::test]
    async fn who_waits_too_long_is_sent_away() {
        let queue = Queue::default();
        let nothing = || None::<u32>;
        assert_eq!(queue.wait(10, soon(), nothing).await, Err(Turned::TooLong));
        assert!(queue.is_empty());
    }

    #[tokio::test]
    async fn no_more_wait_than_may() {
        let queue = Arc::new(Queue::default());
        let inside = Arc::clone(&queue);
        let first = tokio::spawn(async move { inside.wait(1, soon(), || None::<u32>).await });
        while queue.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(queue.wait(1, soon(), || Some(1)).await, Err(Turned::Full));
        assert_eq!(queue.len(), 1);
        assert_eq!(first.await.unwrap(), Err(Turned::TooLong));
    }

    #[tokio::test]
    async fn who_came_first_is_served_first_however_long_it_has_waited() {
        let queue = Arc::new(Queue::default());
        let room = Arc::new(AtomicU32::new(0));
        let served = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for number in 0..5 {
            let (inside, left) = (Arc::clone(&queue), Arc::clone(&room));
            let order = Arc::clone(&served);
            waiting.push(tokio::spawn(async move {
                let take = || {
                    let some = |left: u32| left.checked_sub(1);
                    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, some)
                        .is_ok()
                        .then(|| order.lock().unwrap().push(number))
                };
                let due = Instant::now() + Duration::from_secs(5);
                inside.wait(10, due, take).await
            }));
            while queue.len() <= number {
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(LOOK / 3).await;
        }
        room.store(5, Ordering::Relaxed);
        queue.freed();
        for one in waiting {
            assert_eq!(one.await.unwrap(), Ok(()));
        }
        assert_eq!(*served.lock().unwrap(), [0, 1, 2, 3, 4]);
    }

    #[tokio::test]
    async fn who_is_not_first_is_sent_away_in_time_too() {
        let queue = Arc::new(Queue::default());
        let inside = Arc::clone(&queue);
        let later = Instant::now() + Duration::from_secs(60);
        let first = tokio::spawn(async move { inside.wait(9, later, || None::<u32>).await });
        while queue.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            queue.wait(9, soon(), || Some(1)).await,
            Err(Turned::TooLong)
        );
        // When the first leaves, it is another's turn.
        first.abort();
        assert_eq!(queue.wait(9, soon(), || Some(1)).await, Ok(1));
    }

    #[tokio::test]
    async fn who_gives_up_leaves_its_place() {
        let queue = Arc::new(Queue::default());
        let inside = Arc::clone(&queue);
        let waiting = tokio::spawn(async move { inside.wait(1, soon(), || None::<u32>).await });
        while queue.is_empty() {
            tokio::task::yield_now().await;
        }
        waiting.abort();
        drop(waiting.await);
        assert!(queue.is_empty());
    }
}
