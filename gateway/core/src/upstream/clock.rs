//! Microseconds since this process first asked: an instant that fits into an atomic.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Never 0, so that 0 can mean "no time".
pub(crate) fn now() -> u64 {
    at(Instant::now())
}

/// The time of this clock at this moment.
pub(crate) fn at(moment: Instant) -> u64 {
    micros(moment.saturating_duration_since(*START)).saturating_add(1)
}

/// A length of time in the unit of this clock.
pub(super) fn micros(period: Duration) -> u64 {
    u64::try_from(period.as_micros()).unwrap_or(u64::MAX)
}
