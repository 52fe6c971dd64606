//! The last failures: what clients got 5xx for, and tries that have failed.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use edgeway_sdk::Exchange;

/// The last failures of all routes. A resource.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    count: AtomicU64,
    last: Mutex<VecDeque<Failure>>,
}

/// Something that has gone wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Grows by one from failure to failure, so that who looks again knows what is new.
    pub(crate) number: u64,
    /// Since 1970, in milliseconds.
    pub(crate) at: u64,
    pub(crate) request_id: Box<str>,
    pub(crate) client: IpAddr,
    pub(crate) route: Arc<str>,
    pub(crate) upstream: Option<Arc<str>>,
    pub(crate) endpoint: Option<Arc<str>>,
    /// What the client was told. None for a try: the client may have got something else.
    pub(crate) status: Option<u16>,
    pub(crate) reason: Box<str>,
}

/// Who was asked, and has failed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) upstream: Option<Arc<str>>,
    pub(crate) endpoint: Option<Arc<str>>,
}

impl Failures {
    /// Takes note of one. Under a flood of them no thread waits for another: who comes while another is here is
    /// counted, and not shown.
    pub(crate) fn note(&self, exchange: &Exchange, asked: Asked, status: Option<u16>, why: &str) {
        let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let Ok(mut last) = self.last.try_lock() else {
            return;
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        last.truncate(SHOWN - 1);
        last.push_front(Failure {
            number,
            at: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            request_id: exchange.id().into(),
            client: exchange.client,
            route: Arc::clone(&exchange.route),
            upstream: asked.upstream,
            endpoint: asked.endpoint,
            status,
            reason: why.into(),
        });
    }

    /// The last ones, the newest first.
    pub(crate) fn last(&self) -> Vec<Failure> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.iter().cloned().collect()
    }
}

/// How many are kept.
const SHOWN: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept_and_no_more() {
        let failures = Failures::default();
        let mut exchange = Exchange::new(([192, 0, 2, 1], 1).into());
        exchange.route = "all".into();
        exchange.set_id("7");
        for _ in 0..SHOWN + 5 {
            let asked = Asked {
                upstream: Some("shop".into()),
                endpoint: Some("a:1".into()),
            };
            failures.note(&exchange, asked, Some(502), "it broke");
        }
        let last = failures.last();
        assert_eq!(last.len(), SHOWN);
        assert_eq!((last[0].number, last[99].number), (105, 6));
        assert_eq!((&*last[0].route, &*last[0].request_id), ("all", "7"));
        assert_eq!(last[0].upstream.as_deref(), Some("shop"));
    }
}
