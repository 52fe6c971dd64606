//! What choosing an endpoint costs with 2, 100 and 1 000 of them, in nanoseconds, and that it allocates
//! nothing.
//!
//! The figures of `least_*` grow with the number of endpoints, since they look at each; the others should
//! not, but for a bounded hash, which adds up what is under way when the endpoint of the key is busy. Two
//! threads share the endpoints and the turn.

#![expect(clippy::print_stdout, reason = "the table is what the bench is for")]

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use balance::{
    Field, Member, Policy, Tier,
    key::{Key, hash},
};

/// The policies are no part of what the crate offers, and need nothing of it.
#[path = "../src/upstream/balance/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "some of it is for the gateway only"
)]
mod balance;

fn main() {
    allocates_nothing();
    println!(
        "{:<28} {:>8} {:>8} {:>8}   {:>8} {:>8} {:>8}",
        "pick, ns", "2", "100", "1 000", "2", "100", "1 000"
    );
    println!("{:<28} {:>26}   {:>26}", "", "one thread", "two threads");
    for (name, policy) in POLICIES {
        let [one, two] = [1, 2].map(|threads| {
            [2, 100, 1_000].map(|count| nanoseconds(&Bench::new(policy, count), threads))
        });
        let row = |[few, more, many]: [f64; 3]| format!("{few:>8.0} {more:>8.0} {many:>8.0}");
        println!("{name:<28} {}   {}", row(one), row(two));
    }
}

const POLICIES: [(&str, Policy); 6] = [
    ("round_robin", Policy::RoundRobin),
    ("least_connections", Policy::LeastConnections),
    ("least_time", Policy::LeastTime),
    ("random_two", Policy::RandomTwo),
    ("hash", Policy::Hash { bound: None }),
    ("hash, bounded", Policy::Hash { bound: Some(1.25) }),
];

/// A tier, and endpoints as the gateway has them: each in its own place in memory.
struct Bench {
    tier: Tier,
    endpoints: Vec<Arc<Endpoint>>,
}

struct Endpoint {
    usable: bool,
    active: AtomicU32,
    latency: AtomicU64,
    ease: AtomicU64,
}

impl Bench {
    fn new(policy: Policy, count: u16) -> Self {
        let names: Vec<_> = (0..count)
            .map(|number| format!("10.0.{}.{}:8080", number / 250, number % 250))
            .collect();
        let members: Vec<_> = (0..)
            .zip(&names)
            .map(|(number, name)| Member {
                number,
                weight: 1,
                name,
            })
            .collect();
        let endpoint = |number: u16| Endpoint {
            usable: true,
            active: AtomicU32::new(hash(&number.to_le_bytes()) as u32 % 20),
            latency: AtomicU64::new(f64::from(1_000 + number).to_bits()),
            ease: AtomicU64::new(1_f64.to_bits()),
        };
        Self {
            tier: Tier::new(policy, &members, Arc::default()),
            endpoints: (0..count)
                .map(|number| Arc::new(endpoint(number)))
                .collect(),
        }
    }

    /// The same with every third endpoint down and every fifth in slow start.
    fn troubled(policy: Policy, count: u16) -> Self {
        let mut bench = Self::new(policy, count);
        for (number, endpoint) in bench.endpoints.iter_mut().enumerate() {
            let endpoint = Arc::get_mut(endpoint).expect("nobody else has it yet");
            endpoint.usable = number % 3 != 0;
            if number % 5 == 0 {
                *endpoint.ease.get_mut() = 0.2_f64.to_bits();
            }
        }
        bench
    }

    /// Picks as the gateway does: with a key, and one more request under way for whoever is picked, in the
    /// place of another one.
    fn pick(&self, request: u64) -> u16 {
        let mut key = Key::default();
        key.write(&request.to_le_bytes());
        let number = self.tier.pick(self, Some(key.finish()));
        let number = number.expect("some endpoint is usable");
        self.endpoints[usize::from(number)]
            .active
            .store(request as u32 % 20, Ordering::Relaxed);
        number
    }
}

impl Field for Bench {
    fn usable(&self, number: u16) -> bool {
        self.endpoints[usize::from(number)].usable
    }

    fn active(&self, number: u16) -> u32 {
        self.endpoints[usize::from(number)]
            .active
            .load(Ordering::Relaxed)
    }

    fn latency(&self, number: u16) -> f64 {
        f64::from_bits(
            self.endpoints[usize::from(number)]
                .latency
                .load(Ordering::Relaxed),
        )
    }

    fn ease(&self, number: u16) -> f64 {
        f64::from_bits(
            self.endpoints[usize::from(number)]
                .ease
                .load(Ordering::Relaxed),
        )
    }
}

/// Ends the bench if any policy allocates.
fn allocates_nothing() {
    for (name, policy) in POLICIES {
        for count in [2, 100, 1_000] {
            for bench in [Bench::new(policy, count), Bench::troubled(policy, count)] {
                let found = allocation_counter::measure(|| {
                    for request in 0..1_000 {
                        black_box(bench.pick(request));
                    }
                });
                assert_eq!(
                    found.count_total, 0,
                    "{name} with {count} endpoints allocates"
                );
            }
        }
    }
    let control = allocation_counter::measure(|| drop(black_box(Box::new(1))));
    assert_eq!(control.count_total, 1, "allocations are not counted");
}

/// The best of several rounds, on each thread: what disturbs a measurement only ever makes it longer.
fn nanoseconds(bench: &Bench, threads: u64) -> f64 {
    let round = |thread: u64| {
        let start = Instant::now();
        for request in 0..ROUND {
            black_box(bench.pick(black_box(request * threads + thread)));
        }
        start.elapsed().as_secs_f64() * 1e9 / ROUND as f64
    };
    (0..10)
        .map(|_| {
            thread::scope(|scope| {
                let running: Vec<_> = (0..threads)
                    .map(|thread| scope.spawn(move || round(thread)))
                    .collect();
                let times = running
                    .into_iter()
                    .map(|thread| thread.join().expect("a pick does not panic"));
                times.sum::<f64>() / threads as f64
            })
        })
        .fold(f64::INFINITY, f64::min)
}

const ROUND: u64 = 20_000;
