//! How fast a connection is written to, where a filter has said so.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use edgeway_sdk::exchange::Speed;
use tokio::time::{Instant, Sleep, sleep_until};

/// What may be written now, of one response.
#[derive(Debug)]
pub(super) struct Throttle {
    speed: Speed,
    sent: u64,
    /// When what goes out as fast as it can was over.
    since: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Throttle {
    pub(super) fn new(speed: Speed) -> Self {
        Self {
            speed,
            sent: 0,
            since: None,
            alarm: None,
        }
    }

    /// How many of the `wanted` bytes may be written: at least one.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<usize> {
        let fast = self.speed.after.saturating_sub(self.sent);
        if fast > 0 || wanted == 0 {
            return Poll::Ready(wanted.min(usize::try_from(fast).unwrap_or(usize::MAX)));
        }
        loop {
            let now = Instant::now();
            let since = *self.since.get_or_insert(now);
            let slow = self.sent - self.speed.after;
            let piece = self.speed.piece();
            let earned = self.speed.earned(now - since).saturating_add(piece);
            let room = earned.saturating_sub(slow);
            let least = piece.min(wanted as u64);
            if room >= least {
                return Poll::Ready(wanted.min(usize::try_from(room).unwrap_or(usize::MAX)));
            }
            let due = since + self.speed.takes(slow + least - piece);
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if alarm.deadline() != due {
                alarm.as_mut().reset(due);
            }
            ready!(alarm.as_mut().poll(cx));
        }
    }

    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes as u64);
    }
}

/// What a speed comes to.
pub(crate) trait Figures {
    /// Bytes that go in this time.
    fn earned(&self, time: Duration) -> u64;
    /// The time for so many bytes.
    fn takes(&self, bytes: u64) -> Duration;
    /// How much is written at once, so that it goes out evenly: what a tenth of a second takes.
    fn piece(&self) -> u64;
}

impl Figures for Speed {
    fn earned(&self, time: Duration) -> u64 {
        let bytes = u128::from(self.rate.get()) * time.as_nanos() / NANOS;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    fn takes(&self, bytes: u64) -> Duration {
        let nanos = (u128::from(bytes) * NANOS).div_ceil(u128::from(self.rate.get()));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn piece(&self) -> u64 {
        (self.rate.get() / 10).max(1)
    }
}

const NANOS: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// How much has gone after each second, if everything that is allowed is written.
    async fn gone(rate: u64, after: u64, whole: usize) -> Vec<usize> {
        let rate = rate.try_into().unwrap();
        let mut throttle = Throttle::new(Speed { rate, after });
        let (began, mut sent, mut seconds) = (Instant::now(), 0, Vec::new());
        while sent < whole {
            let room = poll_fn(|cx| throttle.poll_room(cx, whole - sent)).await;
            assert!(room > 0);
            let second = began.elapsed().as_secs() as usize;
            seconds.resize(seconds.len().max(second + 1), sent);
            throttle.sent(room);
            sent += room;
            seconds[second] = sent;
        }
        seconds
    }

    #[tokio::test(start_paused = true)]
    async fn as_much_goes_in_a_second_as_the_rate_says() {
        let seconds = gone(1_000, 0, 3_500).await;
        for (second, sent) in seconds.iter().enumerate().take(3) {
            let expected = (second + 1) * 1_000;
            assert!((expected..=expected + 100).contains(sent), "{seconds:?}");
        }
        assert_eq!(seconds.len(), 4, "{seconds:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_beginning_goes_as_fast_as_it_can() {
        let seconds = gone(1_000, 5_000, 6_500).await;
        assert!((6_000..=6_100).contains(&seconds[0]), "{seconds:?}");
        assert_eq!(seconds.len(), 2, "{seconds:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_rate_is_one_byte_a_second() {
        assert_eq!(gone(1, 0, 4).await, [1, 2, 3, 4]);
    }
}
