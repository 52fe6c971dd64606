//! Microseconds since this process first asked: an instant that fits into an atomic.

use std::{sync::LazyLock, time::Instant};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Never 0, so that 0 can mean "no time".
pub(crate) fn now() -> u64 {
    let elapsed = START.elapsed().as_micros();
    u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_add(1)
}
