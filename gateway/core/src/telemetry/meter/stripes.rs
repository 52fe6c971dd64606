//! Counters that threads don't take from each other.

use std::{
    fmt,
    num::NonZero,
    sync::{
        LazyLock, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::available_parallelism,
};

/// One `T` for each thread that counts, made when it first does. Threads beyond those that are to be expected
/// share the last one.
///
/// An own one is written by its thread alone, without an instruction that locks the bus: it is as cheap as a plain
/// number, and no line of the processor's cache goes back and forth.
pub(super) struct Stripes<T>(Box<[OnceLock<Box<T>>]>);

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

/// Who writes to a stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// The thread that has asked.
    Alone,
    OneOfMany,
}

impl Counter {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(super) fn add(&self, number: u64, writer: Writer) {
        match writer {
            Writer::Alone => {
                let sum = self.0.load(Ordering::Relaxed).wrapping_add(number);
                self.0.store(sum, Ordering::Relaxed);
            }
            Writer::OneOfMany => _ = self.0.fetch_add(number, Ordering::Relaxed),
        }
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl<T: Default> Stripes<T> {
    /// That of this thread.
    pub(super) fn own(&self) -> (&T, Writer) {
        let place = PLACE.with(|place| *place);
        let (place, writer) = match place < self.0.len() - 1 {
            true => (place, Writer::Alone),
            false => (self.0.len() - 1, Writer::OneOfMany),
        };
        (self.0[place].get_or_init(Box::default), writer)
    }

    /// Those that have counted something.
    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.0
            .iter()
            .filter_map(|stripe| stripe.get().map(|stripe| &**stripe))
    }
}

impl<T> Default for Stripes<T> {
    fn default() -> Self {
        Self((0..=*THREADS).map(|_| OnceLock::new()).collect())
    }
}

impl<T> fmt::Debug for Stripes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stripes")
    }
}

/// How many threads have a stripe of their own. With more threads than processors the others share one.
static THREADS: LazyLock<usize> =
    LazyLock::new(|| available_parallelism().map_or(1, NonZero::get).min(128));

static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static PLACE: usize = NEXT.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn nothing_is_lost_whether_threads_have_stripes_of_their_own_or_share_one() {
        let stripes = Stripes::<Counter>::default();
        thread::scope(|scope| {
            for _ in 0..2 * *THREADS + 4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let (counter, writer) = stripes.own();
                        counter.add(3, writer);
                    }
                });
            }
        });
        let sum: u64 = stripes.all().map(Counter::get).sum();
        assert_eq!(sum, 30_000 * (2 * *THREADS as u64 + 4));
    }

    #[test]
    fn who_has_counted_nothing_takes_no_memory() {
        let stripes = Stripes::<Counter>::default();
        assert_eq!(stripes.all().count(), 0);
        stripes.own();
        assert_eq!(stripes.all().count(), 1);
    }
}
