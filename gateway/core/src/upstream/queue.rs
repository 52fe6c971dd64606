//! Requests that wait because every endpoint has as many as it may.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// Who waits. A resource: what ends under one configuration makes room under the next.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: AtomicU32,
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

    /// Tells that there may be room for one more.
    pub(crate) fn freed(&self) {
        if !self.is_empty() {
            self.freed.notify_one();
        }
    }

    /// Waits until `attempt` gives something, in the order of arrival as far as those who wait are
    /// concerned.
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
        let place = Place(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= size {
            return Err(Turned::Full);
        }
        loop {
            let look = due.min(Instant::now() + LOOK);
            // Either way it is worth a look.
            let called = timeout_at(look, self.freed.notified()).await.is_ok();
            if let Some(found) = attempt() {
                drop(place);
                // There may be room for more than one: each calls the next.
                self.freed();
                return Ok(found);
            }
            if !called && look == due {
                return Err(Turned::TooLong);
            }
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
