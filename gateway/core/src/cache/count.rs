//! What becomes of the requests of a zone, counted.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// What the cache did for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It was served a response that was fresh.
    Hit,
    /// It was served one that was not, as it may be.
    Stale,
    /// Nothing was stored for it.
    Miss,
    /// What was stored was replaced.
    Expired,
    /// What was stored was found to be still good.
    Revalidated,
    /// It has passed the cache by.
    Bypass,
    /// It waited for another that fetched the same. Counted besides what it came to.
    Coalesced,
}

impl Event {
    /// All of them, with the names by which they are told.
    pub(crate) const ALL: [(Self, &'static str); EVENTS] = [
        (Self::Hit, "hit"),
        (Self::Stale, "stale"),
        (Self::Miss, "miss"),
        (Self::Expired, "expired"),
        (Self::Revalidated, "revalidated"),
        (Self::Bypass, "bypass"),
        (Self::Coalesced, "coalesced"),
    ];

    pub(crate) fn as_str(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// Counters that threads don't take from each other.
#[derive(Default)]
pub(crate) struct Counters([Stripe; STRIPES]);

/// Two never share a line of the processor's cache.
#[derive(Default)]
#[repr(align(128))]
struct Stripe([AtomicU64; EVENTS]);

impl Counters {
    pub(crate) fn count(&self, event: Event) {
        let stripe = &self.0[STRIPE.get() % STRIPES];
        stripe.0[event as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn total(&self, event: Event) -> u64 {
        let stripes = self.0.iter();
        stripes
            .map(|stripe| stripe.0[event as usize].load(Ordering::Relaxed))
            .sum()
    }
}

thread_local! {
    static STRIPE: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed));
}

static NEXT: AtomicUsize = AtomicUsize::new(0);
const EVENTS: usize = 7;
const STRIPES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_by_kind_over_all_threads() {
        let counters = Counters::default();
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| counters.count(Event::Hit));
            }
        });
        counters.count(Event::Coalesced);
        let totals = Event::ALL.map(|(event, _)| counters.total(event));
        assert_eq!(totals, [20, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn every_event_has_its_own_name() {
        for (event, name) in Event::ALL {
            assert_eq!(event.as_str(), name);
        }
    }
}
