//! Waiting for what must become true.

use std::panic::Location;
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that should take no time: long, since test machines are busy.
pub const PATIENCE: Duration = Duration::from_secs(10);

const STEP: Duration = Duration::from_millis(5);

/// Asks again and again until the condition holds.
///
/// # Panics
///
/// When it still does not hold after `timeout`.
#[track_caller]
pub fn eventually(timeout: Duration, mut condition: impl FnMut() -> bool) {
    eventually_some(timeout, || condition().then_some(()));
}

/// Asks again and again until there is a value.
///
/// # Panics
///
/// When there still is none after `timeout`.
#[track_caller]
pub fn eventually_some<T>(timeout: Duration, mut find: impl FnMut() -> Option<T>) -> T {
    let caller = Location::caller();
    let start = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(
            start.elapsed() < timeout,
            "not true after {timeout:?} (waited for at {caller})"
        );
        thread::sleep(STEP);
    }
}
