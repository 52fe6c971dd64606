//! Whether a client keeps up: progress, not the time that something takes as a whole.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// For how long the gateway waits for a client before it is judged by what has come meanwhile.
pub(super) const WINDOW: Duration = Duration::from_secs(20);

/// How fast bytes go one way, while the gateway waits for the client. What endpoints take or the gateway itself
/// does not count.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// In this window.
    bytes: u64,
    waited: Duration,
    /// Since when the gateway is waiting, if it is.
    since: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// So many bytes have come, or gone.
    pub(super) fn progressed(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if let Some(since) = self.since.take() {
            self.waited = self.waited.saturating_add(since.elapsed());
        }
    }

    /// The same for a client that says nothing at all: that is for another clock, or it may be waiting for us.
    pub(super) fn poll_drips(&mut self, cx: &mut Context<'_>, least: u64) -> Poll<()> {
        while self.poll_too_slow(cx, least).is_ready() {
            if self.bytes > 0 {
                return Poll::Ready(());
            }
            (self.waited, self.since) = (Duration::ZERO, Some(Instant::now()));
        }
        Poll::Pending
    }

    /// To be asked whenever the client has nothing to give, or takes nothing. Ready when it is too slow: below
    /// so many bytes in a second. Zero is never too slow.
    pub(super) fn poll_too_slow(&mut self, cx: &mut Context<'_>, least: u64) -> Poll<()> {
        if least == 0 {
            return Poll::Pending;
        }
        loop {
            let now = Instant::now();
            let since = *self.since.get_or_insert(now);
            let judged = since + WINDOW.saturating_sub(self.waited);
            if judged > now {
                let alarm = self
                    .alarm
                    .get_or_insert_with(|| Box::pin(sleep_until(judged)));
                if alarm.deadline() != judged {
                    alarm.as_mut().reset(judged);
                }
                ready!(alarm.as_mut().poll(cx));
                continue;
            }
            if self.bytes < least.saturating_mul(WINDOW.as_secs()) {
                return Poll::Ready(());
            }
            self.bytes = 0;
            self.waited = Duration::ZERO;
            self.since = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{advance, timeout};

    use super::*;

    /// How long it takes until a client is too slow that gives so many bytes each second, in seconds.
    async fn stands(each_second: usize, least: u64) -> Option<u64> {
        let mut pace = Pace::default();
        let began = Instant::now();
        for _ in 0..60 {
            let slow = poll_fn(|cx| pace.poll_too_slow(cx, least));
            if timeout(Duration::from_secs(1), slow).await.is_ok() {
                return Some(began.elapsed().as_secs());
            }
            pace.progressed(each_second);
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_less_than_the_least_is_too_slow_at_the_end_of_a_window() {
        assert_eq!(stands(99, 100).await, Some(20));
        assert_eq!(stands(0, 1).await, Some(20));
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_as_much_may_take_any_time() {
        assert_eq!(stands(106, 100).await, None);
        assert_eq!(stands(0, 0).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_no_drip_and_what_drips_after_it_is() {
        let mut pace = Pace::default();
        let began = Instant::now();
        let silent = poll_fn(|cx| pace.poll_drips(cx, 100));
        assert!(timeout(Duration::from_secs(110), silent).await.is_err());
        pace.progressed(1);
        let dripping = poll_fn(|cx| pace.poll_drips(cx, 100));
        assert!(timeout(Duration::from_secs(60), dripping).await.is_ok());
        assert!(began.elapsed().as_secs() <= 120);
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_waits_for_the_client_does_not_count() {
        let mut pace = Pace::default();
        for _ in 0..10 {
            let slow = poll_fn(|cx| pace.poll_too_slow(cx, 1_000));
            assert!(timeout(Duration::from_millis(1_600), slow).await.is_err());
            pace.progressed(10);
            // The endpoint takes its time.
            advance(Duration::from_secs(60)).await;
        }
        let slow = poll_fn(|cx| pace.poll_too_slow(cx, 1_000));
        assert!(timeout(Duration::from_secs(5), slow).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_fast_once_is_not_fast_for_ever() {
        let mut pace = Pace::default();
        pace.progressed(1 << 30);
        let slow = poll_fn(|cx| pace.poll_too_slow(cx, 100));
        let began = Instant::now();
        slow.await;
        assert_eq!(began.elapsed().as_secs(), 40);
    }
}
