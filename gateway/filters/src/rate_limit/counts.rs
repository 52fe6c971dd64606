//! What a limit has counted, which outlives configurations.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use ahash::RandomState;

use super::{
    gcra::{Gcra, Nanos},
    table::Table,
};

/// What limits of one name, or of one place and one key, have counted.
pub(super) struct Counts {
    /// Secret, so that nobody can choose keys that share an entry.
    random: RandomState,
    began: Instant,
    /// Those in use, the latest last. Locked while a configuration is built, never for a request.
    tables: Mutex<Vec<Weak<Table>>>,
}

impl Counts {
    pub(super) fn new() -> Self {
        let seed = rand::random::<u64>;
        Self {
            random: RandomState::with_seeds(seed(), seed(), seed(), seed()),
            began: Instant::now(),
            tables: Mutex::default(),
        }
    }

    pub(super) fn random(&self) -> &RandomState {
        &self.random
    }

    /// Never so early that a level which was zero at the time 0 is not zero by now.
    pub(super) fn now(&self) -> Nanos {
        let since = self.began.elapsed() + Duration::from_secs(1);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// The table for a limit of so many bytes.
    ///
    /// One of another size or rate begins with what the latest one knows: who has made so many requests
    /// has made them by the new rate, too, but need not wait for longer than the new limit can make anyone.
    /// What is counted in the old table from now on, until the new configuration is in force, is not known
    /// to the new one.
    pub(super) fn table(&self, bytes: u64, gcra: &Gcra) -> Arc<Table> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.retain(|table| table.strong_count() > 0);
        let known: Vec<_> = tables.iter().filter_map(Weak::upgrade).collect();
        let fits =
            |table: &&Arc<Table>| table.bytes() == bytes && table.interval() == gcra.interval;
        if let Some(table) = known.iter().rev().find(fits) {
            return Arc::clone(table);
        }
        let table = Arc::new(Table::new(bytes, gcra.interval));
        // Several limits may have one key: what was counted at a like rate is the better one.
        let nearest = known.iter().rev().min_by(|a, b| {
            let distance = |table: &Table| ratio(table.interval(), gcra.interval).ln().abs();
            distance(a).total_cmp(&distance(b))
        });
        if let Some(old) = nearest {
            let ratio = ratio(gcra.interval, old.interval());
            table.take_over(old, self.now(), |debt| {
                ((debt as f64 * ratio) as Nanos).min(gcra.capacity())
            });
        }
        tables.push(Arc::downgrade(&table));
        table
    }
}

fn ratio(a: Nanos, b: Nanos) -> f64 {
    a as f64 / b as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    fn limit(interval: Nanos, burst: u32) -> Gcra {
        Gcra {
            interval,
            burst,
            at_once: burst,
            cost: 1,
        }
    }

    /// Has a key pass so often.
    fn charge(counts: &Counts, table: &Table, gcra: &Gcra, times: u32) {
        for _ in 0..times {
            let now = counts.now();
            let charged = table.update(7, now, |at| gcra.arrive(at, now).map(|pass| pass.empty_at));
            assert_eq!(charged, Ok(()));
        }
    }

    /// How many more would pass.
    fn left(counts: &Counts, table: &Table, gcra: &Gcra) -> u64 {
        gcra.left(table.find(7), counts.now()).0
    }

    #[test]
    fn the_same_limit_goes_on_with_the_same_table() {
        let (counts, gcra) = (Counts::new(), limit(1_000 * SECOND, 9));
        let table = counts.table(4_096, &gcra);
        assert!(Arc::ptr_eq(
            &table,
            &counts.table(4_096, &limit(1_000 * SECOND, 5))
        ));
        assert!(!Arc::ptr_eq(&table, &counts.table(8_192, &gcra)));
    }

    #[test]
    fn who_has_used_up_a_limit_has_used_it_up_at_another_rate_and_size() {
        let (counts, gcra) = (Counts::new(), limit(1_000 * SECOND, 9));
        let table = counts.table(4_096, &gcra);
        charge(&counts, &table, &gcra, 7);
        for (bytes, interval) in [(65_536, 1_000), (4_096, 100), (4_096, 10_000)] {
            let changed = limit(interval * SECOND, 9);
            let new = counts.table(bytes, &changed);
            assert_eq!(left(&counts, &new, &changed), 3, "{bytes} {interval}");
        }
    }

    #[test]
    fn nobody_has_to_wait_for_longer_than_the_new_limit_can_make_anyone() {
        let (counts, gcra) = (Counts::new(), limit(1_000 * SECOND, 99));
        let table = counts.table(4_096, &gcra);
        charge(&counts, &table, &gcra, 90);
        let small = limit(100 * SECOND, 4);
        let new = counts.table(4_096, &small);
        let now = counts.now();
        let wait = small.arrive(new.find(7), now).unwrap_err();
        assert!(wait <= small.interval, "{wait}");
    }

    #[test]
    fn of_two_limits_with_one_key_the_changed_one_goes_on_with_its_own_counts() {
        let counts = Counts::new();
        let (hour, minute) = (limit(3_600 * SECOND, 99), limit(60 * SECOND, 99));
        let by_hour = counts.table(4_096, &hour);
        let by_minute = counts.table(4_096, &minute);
        charge(&counts, &by_minute, &minute, 10);
        charge(&counts, &by_hour, &hour, 50);
        let changed = limit(50 * SECOND, 99);
        let new = counts.table(4_096, &changed);
        assert_eq!(left(&counts, &new, &changed), 90);
        drop(by_hour);
    }
}
