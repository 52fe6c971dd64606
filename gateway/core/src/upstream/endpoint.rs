//! One address behind the gateway, and what is known about it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;

use super::clock;

/// One address behind the gateway, as the configuration writes it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// As it is written: `product-1:8080`.
    pub(crate) name: Arc<str>,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) state: Arc<State>,
}

/// What is known about an endpoint. A resource: a reload forgets neither failures nor addresses.
#[derive(Debug, Default)]
pub(crate) struct State {
    address: ArcSwapOption<SocketAddr>,
    /// Failures since `counted_from`.
    fails: AtomicU32,
    counted_from: AtomicU64,
    /// Until when the endpoint is left out; 0 if it isn't.
    out_until: AtomicU64,
}

/// How many failures in how long leave an endpoint out, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) max_fails: u32,
    pub(crate) fail_timeout: Duration,
}

/// What a failure has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// Nothing yet, or it was left out already.
    Counted,
    /// From now on it is left out.
    LeftOut,
}

impl State {
    /// Where the endpoint is; none while its name has not been resolved.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address.load().as_deref().copied()
    }

    /// Tells where the endpoint is; whether that is news.
    pub(crate) fn found(&self, address: SocketAddr) -> bool {
        let news = self.address() != Some(address);
        if news {
            self.address.store(Some(Arc::new(address)));
        }
        news
    }

    /// Whether a request may go there now.
    ///
    /// When the time of an endpoint that was left out is over, one request in each `fail_timeout`
    /// may try it, until one succeeds: the others don't wait for the outcome.
    pub(super) fn may_serve(&self, patience: Patience) -> bool {
        let until = self.out_until.load(Ordering::Relaxed);
        if until == 0 {
            return true;
        }
        let now = clock::now();
        if now < until {
            return false;
        }
        let again = now.saturating_add(micros(patience.fail_timeout));
        self.out_until
            .compare_exchange(until, again, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Notes a success of a request that was sent at `began`; whether the endpoint is back by it.
    ///
    /// An answer to a request from before the endpoint was left out is no news: another thread may
    /// just have seen it die.
    pub(crate) fn succeeded(&self, patience: Patience, began: u64) -> bool {
        // Read first: this is called for every response, and a store would take the line from
        // other threads.
        if self.fails.load(Ordering::Relaxed) != 0 {
            self.fails.store(0, Ordering::Relaxed);
        }
        let until = self.out_until.load(Ordering::Relaxed);
        let since = until.saturating_sub(micros(patience.fail_timeout));
        let news = until != 0 && began >= since;
        news && self
            .out_until
            .compare_exchange(until, 0, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Notes a failure.
    pub(crate) fn failed(&self, patience: Patience) -> Failed {
        if patience.max_fails == 0 {
            return Failed::Counted;
        }
        let now = clock::now();
        let window = micros(patience.fail_timeout);
        let from = self.counted_from.load(Ordering::Relaxed);
        if now.saturating_sub(from) > window {
            self.counted_from.store(now, Ordering::Relaxed);
            self.fails.store(0, Ordering::Relaxed);
        }
        let fails = self.fails.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let still_out = self.out_until.load(Ordering::Relaxed) != 0;
        if fails < patience.max_fails && !still_out {
            return Failed::Counted;
        }
        let before = self
            .out_until
            .swap(now.saturating_add(window), Ordering::Relaxed);
        if before == 0 {
            Failed::LeftOut
        } else {
            Failed::Counted
        }
    }
}

fn micros(period: Duration) -> u64 {
    u64::try_from(period.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Patience = Patience {
        max_fails: 2,
        fail_timeout: Duration::from_secs(3600),
    };
    const SHORT: Patience = Patience {
        max_fails: 1,
        fail_timeout: Duration::ZERO,
    };

    #[test]
    fn an_endpoint_is_left_out_after_its_last_permitted_failure() {
        let state = State::default();
        assert_eq!(state.failed(LONG), Failed::Counted);
        assert!(state.may_serve(LONG));
        assert_eq!(state.failed(LONG), Failed::LeftOut);
        assert!(!state.may_serve(LONG));
        assert_eq!(state.failed(LONG), Failed::Counted, "it is news only once");
    }

    #[test]
    fn a_success_forgets_the_failures_before() {
        let state = State::default();
        state.failed(LONG);
        assert!(
            !state.succeeded(LONG, clock::now()),
            "it had not been left out"
        );
        state.failed(LONG);
        assert!(state.may_serve(LONG));
        state.failed(LONG);
        assert!(state.succeeded(LONG, clock::now()));
        assert!(state.may_serve(LONG));
    }

    #[test]
    fn an_answer_to_an_earlier_request_does_not_bring_an_endpoint_back() {
        let state = State::default();
        let began = clock::now();
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(
            state.failed(Patience {
                max_fails: 1,
                ..LONG
            }),
            Failed::LeftOut
        );
        assert!(!state.succeeded(LONG, began));
        assert!(!state.may_serve(LONG));
    }

    #[test]
    fn one_request_at_a_time_tries_an_endpoint_whose_time_is_over() {
        let state = State::default();
        state.failed(SHORT);
        assert!(state.may_serve(LONG), "its time is over at once");
        assert!(!state.may_serve(LONG), "the first one is still trying");
    }

    #[test]
    fn without_a_limit_nothing_is_ever_left_out() {
        let state = State::default();
        let patience = Patience {
            max_fails: 0,
            fail_timeout: Duration::from_secs(3600),
        };
        for _ in 0..100 {
            assert_eq!(state.failed(patience), Failed::Counted);
        }
        assert!(state.may_serve(patience));
    }
}
