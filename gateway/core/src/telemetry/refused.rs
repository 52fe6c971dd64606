//! Which clients are refused most.
//!
//! There may be as many clients as there are addresses, and their counts take a bounded place: the one that was
//! refused least makes room for a new one, which takes over its count (Metwally et al., Space-Saving, 2005). So a
//! client that makes up more than a small share of all refusals is never missing, and counts are too large by
//! at most what is told. Old refusals weigh less and less.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ahash::RandomState;

/// The clients that filters of all routes have refused. A resource.
#[derive(Debug)]
pub(crate) struct Refused(Mutex<Sketch>);

/// A client that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offender {
    pub(crate) client: IpAddr,
    /// How often of late: what is older than [`HALF_LIFE`] counts half, and so on.
    pub(crate) count: u64,
    /// By how much that may be too large.
    pub(crate) error: u64,
    /// The filter that has refused it last.
    pub(crate) filter: Arc<str>,
}

#[derive(Debug)]
struct Sketch {
    clients: HashMap<IpAddr, Count, RandomState>,
    halved: Instant,
}

#[derive(Debug)]
struct Count {
    count: u64,
    error: u64,
    filter: Arc<str>,
}

impl Default for Refused {
    fn default() -> Self {
        Self(Mutex::new(Sketch {
            clients: HashMap::default(),
            halved: Instant::now(),
        }))
    }
}

impl Refused {
    /// Counts a refusal. No thread waits for another: under a flood some are not counted, of all clients alike.
    pub(crate) fn note(&self, client: IpAddr, filter: &Arc<str>) {
        if let Ok(mut sketch) = self.0.try_lock() {
            sketch.age(Instant::now());
            sketch.note(client.to_canonical(), filter);
        }
    }

    /// The clients that are refused most, so many at most.
    pub(crate) fn most(&self, number: usize) -> Vec<Offender> {
        let mut sketch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sketch.age(Instant::now());
        sketch.most(number)
    }
}

impl Sketch {
    fn age(&mut self, now: Instant) {
        while now.duration_since(self.halved) >= HALF_LIFE {
            self.halved += HALF_LIFE;
            for count in self.clients.values_mut() {
                (count.count, count.error) = (count.count / 2, count.error / 2);
            }
            self.clients.retain(|_, count| count.count > 0);
            if self.clients.is_empty() {
                self.halved = now;
            }
        }
    }

    fn note(&mut self, client: IpAddr, filter: &Arc<str>) {
        if let Some(count) = self.clients.get_mut(&client) {
            count.count += 1;
            if !Arc::ptr_eq(&count.filter, filter) {
                count.filter = Arc::clone(filter);
            }
            return;
        }
        let error = match self.clients.len() < CLIENTS {
            true => 0,
            false => self.give_up_least(),
        };
        let count = Count {
            count: error + 1,
            error,
            filter: Arc::clone(filter),
        };
        self.clients.insert(client, count);
    }

    /// Makes room; how often who has left was counted.
    fn give_up_least(&mut self) -> u64 {
        let least = self.clients.iter().min_by_key(|(_, count)| count.count);
        let Some((client, count)) = least.map(|(client, count)| (*client, count.count)) else {
            return 0;
        };
        self.clients.remove(&client);
        count
    }

    fn most(&self, number: usize) -> Vec<Offender> {
        let clients = self.clients.iter();
        let mut offenders: Vec<_> = clients
            .map(|(client, count)| Offender {
                client: *client,
                count: count.count,
                error: count.error,
                filter: Arc::clone(&count.filter),
            })
            .collect();
        offenders.sort_by_key(|offender| (u64::MAX - offender.count, offender.client));
        offenders.truncate(number);
        offenders
    }
}

/// How many clients are counted at a time.
const CLIENTS: usize = 256;
/// After this time a refusal counts half.
pub(crate) const HALF_LIFE: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    fn sketch() -> Sketch {
        Sketch {
            clients: HashMap::default(),
            halved: Instant::now(),
        }
    }

    #[test]
    fn the_one_that_is_refused_most_comes_first() {
        let refused = Refused::default();
        let (limit, waf) = ("limit".into(), "waf".into());
        for number in [1, 2, 2, 3, 2] {
            refused.note(ip(number), &limit);
        }
        refused.note(ip(2), &waf);
        refused.note("::ffff:0.0.0.3".parse().unwrap(), &limit);
        let most = refused.most(2);
        let seen: Vec<_> = most.iter().map(|one| (one.client, one.count)).collect();
        assert_eq!(seen, [(ip(2), 4), (ip(3), 2)]);
        assert_eq!((&*most[0].filter, most[0].error), ("waf", 0));
    }

    #[test]
    fn who_is_refused_often_is_found_among_a_million_others_in_little_memory() {
        let (mut sketch, filter) = (sketch(), "limit".into());
        for number in 0..1_000_000 {
            sketch.note(ip(number), &filter);
            if number % 50 == 0 {
                sketch.note(ip(u32::MAX), &filter);
            }
        }
        assert!(sketch.clients.len() <= CLIENTS);
        let first = &sketch.most(1)[0];
        assert_eq!(first.client, ip(u32::MAX));
        assert!(first.count - first.error <= 20_000 && first.count >= 20_000);
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let (mut sketch, filter) = (sketch(), "limit".into());
        let begin = sketch.halved;
        for _ in 0..4 {
            sketch.note(ip(1), &filter);
        }
        sketch.note(ip(2), &filter);
        sketch.age(begin + HALF_LIFE);
        let most = sketch.most(9);
        assert_eq!((most.len(), most[0].count), (1, 2));
        sketch.age(begin + 100_000 * HALF_LIFE);
        assert_eq!(sketch.most(9), []);
    }
}
