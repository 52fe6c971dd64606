//! How fast a response's body goes out, where a filter has said so.
//!
//! A connection of HTTP/1.1 is written to at that speed. Over HTTP/2 it is shared, so there the pieces of a body wait.

use std::time::Duration;

use edgeway_sdk::exchange::Speed;
use pingora_proxy::Session;
use tokio::time::Instant;

use super::{body::PIECE_OF_HTTP1, client::connection, ctx::Ctx};
use crate::server::Figures;

/// Has the response go out as fast as filters have said on its way up.
pub(super) fn begin(session: &mut Session, ctx: &mut Ctx) {
    let Some(speed) = ctx.exchange.speed else {
        return;
    };
    if session.as_downstream().is_http2() {
        ctx.pacing = Some(Pacing::new(speed));
        return;
    }
    if let Some(connection) = connection(session) {
        connection.slow_down(speed);
    }
    // It holds for a piece as a whole, which takes longer now.
    let piece = speed.takes(PIECE_OF_HTTP1 as u64);
    let timeout = ctx.gateway.requests.write_timeout.saturating_add(piece);
    session.set_write_timeout(Some(timeout));
}

/// Tells how long to wait before the next piece of one body.
#[derive(Debug)]
pub(super) struct Pacing {
    speed: Speed,
    /// When what goes out as fast as it can was over.
    since: Option<Instant>,
    sent: u64,
}

impl Pacing {
    pub(super) fn new(speed: Speed) -> Self {
        Self {
            speed,
            since: None,
            sent: 0,
        }
    }

    /// How long to wait before `length` more bytes are sent.
    pub(super) fn pause(&mut self, length: usize, now: Instant) -> Duration {
        let slow = self.sent.saturating_sub(self.speed.after);
        self.sent = self.sent.saturating_add(length as u64);
        if self.sent <= self.speed.after {
            return Duration::ZERO;
        }
        let since = *self.since.get_or_insert(now);
        let due = self.speed.takes(slow);
        due.saturating_sub(now.saturating_duration_since(since))
    }

    /// How much to send at once, so that it goes out evenly.
    pub(super) fn piece(&self) -> usize {
        usize::try_from(self.speed.piece())
            .unwrap_or(usize::MAX)
            .max(LEAST)
    }
}

/// Less is not worth a write.
const LEAST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn pacing(rate: u64, after: u64) -> Pacing {
        Pacing::new(Speed {
            rate: rate.try_into().unwrap(),
            after,
        })
    }

    #[test]
    fn what_was_sent_before_has_to_be_over_before_more_is() {
        let start = Instant::now();
        let mut pacing = pacing(1_000, 500);
        let millis = |millis| Duration::from_millis(millis);
        assert_eq!(pacing.pause(500, start), millis(0), "as fast as it can");
        assert_eq!(
            pacing.pause(100, start + millis(300)),
            millis(0),
            "the first slow one"
        );
        assert_eq!(pacing.pause(400, start + millis(300)), millis(100));
        assert_eq!(pacing.pause(1, start + millis(400)), millis(400));
        assert_eq!(
            pacing.pause(1, start + millis(5_000)),
            millis(0),
            "the client was slower"
        );
    }

    #[test]
    fn a_piece_is_a_tenth_of_a_second_and_never_nothing() {
        assert_eq!(pacing(1 << 20, 0).piece(), (1 << 20) / 10);
        assert_eq!(pacing(1, 0).piece(), LEAST);
    }
}
