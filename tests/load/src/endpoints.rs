//! Three endpoints to balance between, in threads of this program; one of them can be slow.
//!
//! The path says which: `/` is answered at once, [`ALWAYS`] by an endpoint that is slow, [`AT_TIMES`]
//! by one that is slow for a quarter of every second. An answer takes from half to one and a half
//! times its mean, for where all took the same time, percentiles would stand on a cliff.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::arrivals::chance;
use crate::endpoint::Endpoint;
use crate::fault::{Result, Trouble};
use crate::http;

pub(crate) struct Endpoints {
    all: Vec<Endpoint>,
    shared: Arc<Shared>,
}

struct Shared {
    start: Instant,
    /// How often each of [`BODIES`] was sent.
    sent: [AtomicU64; BODIES.len()],
}

impl Endpoints {
    pub(crate) fn start() -> Result<Self> {
        let shared = Arc::new(Shared {
            start: Instant::now(),
            sent: Default::default(),
        });
        let start = |number| {
            let shared = Arc::clone(&shared);
            Endpoint::start(move |path| shared.answer(number, path))
                .trouble(|| "cannot start an endpoint".to_owned())
        };
        let all = (0..COUNT).map(start).collect::<Result<_>>()?;
        Ok(Self { all, shared })
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.all.iter().map(|endpoint| endpoint.address).collect()
    }

    /// How often each of [`BODIES`] was sent since the start.
    pub(crate) fn sent(&self) -> Vec<u64> {
        let load = |count: &AtomicU64| count.load(Ordering::SeqCst);
        self.shared.sent.iter().map(load).collect()
    }
}

impl Shared {
    /// Of the endpoint with this number, when it is to be sent.
    fn answer(&self, number: usize, path: &str) -> Vec<u8> {
        let slowness = Slowness::of(path);
        let slow = number == SLOW_ONE && slowness.now(self.start.elapsed());
        let body = if slow { SLOW_BODY } else { number };
        // Counted before it can be seen, so that whoever has the answer finds it counted.
        let before = self.sent[body].fetch_add(1, Ordering::SeqCst);
        thread::sleep(slowness.mean(slow).mul_f64(0.5 + chance(before)));
        http::answer(BODIES[body].as_bytes())
    }
}

/// When the slow one is slow.
#[derive(Clone, Copy)]
enum Slowness {
    /// Nobody is, and nothing takes any time.
    None,
    Always,
    AtTimes,
}

impl Slowness {
    /// What a path asks for.
    fn of(path: &str) -> Self {
        match path {
            ALWAYS => Self::Always,
            AT_TIMES => Self::AtTimes,
            _ => Self::None,
        }
    }

    fn now(self, since_start: Duration) -> bool {
        match self {
            Self::None => false,
            Self::Always => true,
            Self::AtTimes => since_start.subsec_millis() < 250,
        }
    }

    fn mean(self, slow: bool) -> Duration {
        match (self, slow) {
            (Self::None, _) => Duration::ZERO,
            (Self::Always | Self::AtTimes, true) => SLOW,
            (Self::Always | Self::AtTimes, false) => QUICK,
        }
    }
}

/// What an answer says: the number of the endpoint, and of the slow one also whether it was slow.
pub(crate) const BODIES: [&str; COUNT + 1] = [
    r#"{"endpoint":1}"#,
    r#"{"endpoint":2}"#,
    r#"{"endpoint":3}"#,
    r#"{"endpoint":3,"slow":true}"#,
];
/// Position in [`BODIES`].
pub(crate) const SLOW_BODY: usize = COUNT;
pub(crate) const COUNT: usize = 3;
pub(crate) const ALWAYS: &str = "/always";
pub(crate) const AT_TIMES: &str = "/at-times";

const SLOW_ONE: usize = COUNT - 1;
const QUICK: Duration = Duration::from_millis(1);
const SLOW: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_slow_one_is_slow_and_it_says_so() {
        let endpoints = Endpoints::start().unwrap();
        for (number, address) in endpoints.addresses().into_iter().enumerate() {
            let begin = Instant::now();
            let (status, body) = http::ask(address, &http::get(ALWAYS, &[])).unwrap();
            let expected = if number == SLOW_ONE {
                SLOW_BODY
            } else {
                number
            };
            assert_eq!((status, &*body), (200, BODIES[expected].as_bytes()));
            assert!(begin.elapsed() >= SLOW / 2 || number != SLOW_ONE);
        }
        assert_eq!(endpoints.sent(), [1, 1, 0, 1]);
    }

    #[test]
    fn slow_at_times_means_a_quarter_of_every_second() {
        let slow = |millis: &u64| Slowness::AtTimes.now(Duration::from_millis(*millis));
        assert_eq!((7_000..8_000).filter(slow).count(), 250);
        assert_eq!((7_500..8_500).filter(slow).count(), 250);
    }
}
