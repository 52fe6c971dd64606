//! What the store of the cache costs with 1 000, 100 000 and 1 000 000 objects, in nanoseconds, that a hit
//! allocates nothing, and what an object takes in memory.
//!
//! A hit is the lookup, the comparison of the key, and the body as it is handed to the client. `one key` asks
//! for the same object again and again, `any key` for all of them at random: there, what grows with their
//! number is the way to memory, which is measured beside it: `memory` is a chain of as many reads at random
//! of as many places, each a line of the processor's cache, as a hit has to make one after the other.

#![expect(clippy::print_stdout, reason = "the table is what the bench is for")]

use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use cache::{
    head::{Head, Notes, meta},
    memory::{Draft, Filing, Key, Limits, Object, Reader, Store},
    policy::{
        freshness::{Basis, Freshness, Stale},
        rules::Windows,
    },
    purges::Turn,
};
use pingora::{cache::CacheMeta, http::ResponseHeader};
use xxhash_rust::xxh3::xxh3_128;

/// The store is no part of what the crate offers, and needs nothing of it.
#[path = "../src/cache"]
#[expect(
    dead_code,
    unused_imports,
    reason = "some of it is for the gateway only"
)]
mod cache {
    pub(crate) mod head;
    #[path = "memory/mod.rs"]
    pub(crate) mod memory;
    pub(crate) mod policy {
        pub(crate) mod accept;
        pub(crate) mod condition;
        pub(crate) mod date;
        pub(crate) mod directives;
        pub(crate) mod fields;
        pub(crate) mod freshness;
        pub(crate) mod invalidate;
        pub(crate) mod list;
        pub(crate) mod range;
        pub(crate) mod request;
        pub(crate) mod rules;
        pub(crate) mod status;
        pub(crate) mod storable;
        pub(crate) mod tags;
        pub(crate) mod targeted;
        pub(crate) mod update;
        pub(crate) mod vary;
    }
    pub(crate) mod purges;
    pub(crate) mod time;
}

fn main() {
    println!(
        "{:<28} {:>9} {:>9} {:>9}   {:>9} {:>9} {:>9}",
        "ns", "1 000", "100 000", "1 000 000", "1 000", "100 000", "1 000 000"
    );
    println!("{:<28} {:>29}   {:>29}", "", "one thread", "two threads");
    let stores = COUNTS.map(Bench::new);
    row("hit, one key", |threads| {
        stores.each_ref().map(|bench| bench.hit(threads, |_| 7))
    });
    row("hit, any key", |threads| {
        stores.each_ref().map(|bench| {
            let count = bench.keys.len() as u64;
            bench.hit(threads, |random| (random % count) as usize)
        })
    });
    row("memory", |threads| {
        COUNTS.map(|count| memory_reads(count, threads))
    });
    row("insert and evict, 200 bytes", |threads| {
        stores.each_ref().map(|bench| bench.insert(threads))
    });
    drop(stores);
    print_meta();
    println!();
    println!("{:<28} {:>9} {:>9}", "bytes", "counted", "taken");
    for (length, objects) in [
        (0, 100_000),
        (200, 100_000),
        (1_000, 100_000),
        (100_000, 500),
    ] {
        print_object(length, objects);
    }
    for headers in [0, 2, 8, 30] {
        print_head(headers);
    }
}

fn row(name: &str, measure: impl Fn(u64) -> [f64; 3]) {
    let [one, two] = [1, 2].map(&measure);
    let part = |[few, more, many]: [f64; 3]| format!("{few:>9.0} {more:>9.0} {many:>9.0}");
    println!("{name:<28} {}   {}", part(one), part(two));
}

const COUNTS: [usize; 3] = [1_000, 100_000, 1_000_000];

/// Keys as the gateway makes them, and a store that has them all.
struct Bench {
    store: Store<u64>,
    keys: Vec<(u128, [u8; NAME])>,
}

const NAME: usize = 48;
static SMALL: Bytes = Bytes::from_static(&[0; 200]);

impl Bench {
    fn new(count: usize) -> Self {
        let keys: Vec<_> = (0..count as u64).map(name).collect();
        let store = store();
        for key in &keys {
            put(&store, key, &SMALL);
        }
        let limit = store.statistics().bytes;
        store.resize(limits(limit), 0);
        Self { store, keys }
    }

    fn hit(&self, threads: u64, choose: impl Fn(u64) -> usize + Sync) -> f64 {
        assert_eq!(self.store.statistics().objects, self.keys.len());
        let hit = |random| {
            let object = find(&self.store, &self.keys[choose(random)]);
            let object = object.expect("it was stored, and there is room for all");
            black_box(*object.head());
            black_box(body(object));
        };
        let found = allocation_counter::measure(|| (0..1_000).for_each(hit));
        assert_eq!(found.count_total, 0, "a hit allocates");
        nanoseconds(threads, 100_000, hit)
    }

    /// Always new keys: each drives out another.
    fn insert(&self, threads: u64) -> f64 {
        let insert = |random| put(&self.store, &name(1 << 40 | random), &SMALL);
        let time = nanoseconds(threads, 20_000, insert);
        let left = self.store.statistics();
        assert!(left.evictions > 0 && left.bytes <= left.limit);
        time
    }
}

fn name(number: u64) -> (u128, [u8; NAME]) {
    let mut name = [b'/'; NAME];
    let text = format!("https://example.com/shop/products/{number:0>13}?");
    name.copy_from_slice(&text.as_bytes()[..NAME]);
    (xxh3_128(&name), name)
}

fn limits(bytes: usize) -> Limits {
    Limits {
        bytes,
        max_object: 1 << 20,
        inactive: None,
    }
}

fn store() -> Store<u64> {
    Store::new(limits(4 << 30))
}

fn put(store: &Store<u64>, (hash, name): &(u128, [u8; NAME]), body: &Bytes) {
    let draft = Draft {
        key: key(*hash, name),
        head: 1,
        head_size: 0,
        filing: Filing::default(),
        expires: u32::MAX,
        shared: true,
    };
    let mut writer = store.write(draft, Some(body.len() as u64), 0);
    writer.write(body.clone(), true).expect("there is room");
    writer.finish(0).expect("it is as long as was said");
}

fn find(store: &Store<u64>, (hash, name): &(u128, [u8; NAME])) -> Option<Arc<Object<u64>>> {
    store.find(&key(*hash, name), 0)
}

fn key(hash: u128, name: &[u8]) -> Key<'_> {
    Key {
        hash,
        name,
        variant: None,
    }
}

fn body(object: Arc<Object<u64>>) -> Option<Bytes> {
    let mut reader = Reader::new(object)?;
    let read = pin!(reader.read());
    match read.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome.ok()?,
        Poll::Pending => None,
    }
}

/// A hit goes to a place in the index, to the page and the slot there, to the object, and to what counts the
/// owners of its body.
fn memory_reads(count: usize, threads: u64) -> f64 {
    const CHAIN: usize = 5;
    let lines = vec![[1_u64; 8]; count * CHAIN];
    let read = |random: u64| {
        let mut at = random;
        for _ in 0..CHAIN {
            let line = lines[(at % lines.len() as u64) as usize];
            at = at.wrapping_add(line[0]).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 7;
        }
        black_box(at);
    };
    nanoseconds(threads, 100_000, read)
}

/// The best of several rounds, on each thread: what disturbs a measurement only ever makes it longer.
fn nanoseconds(threads: u64, round: u64, work: impl Fn(u64) + Sync) -> f64 {
    let run = |thread: u64, seed: u64| {
        let mut random = (seed * threads + thread + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let start = Instant::now();
        for _ in 0..round {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            work(black_box(random >> 24));
        }
        start.elapsed().as_secs_f64() * 1e9 / round as f64
    };
    (0..20)
        .map(|seed| {
            thread::scope(|scope| {
                let running: Vec<_> = (0..threads)
                    .map(|thread| scope.spawn(move || run(thread, seed)))
                    .collect();
                let times = running
                    .into_iter()
                    .map(|thread| thread.join().expect("the store does not panic"));
                times.sum::<f64>() / threads as f64
            })
        })
        .fold(f64::INFINITY, f64::min)
}

/// What it costs to tell Pingora of a stored head, as it came and after it was revalidated.
fn print_meta() {
    let mut meta = response(8);
    let plain = Head::new(&meta).expect("it is a good head");
    meta.update_freshness(SystemTime::now(), 0, 0);
    let revalidated = Head::new(&meta).expect("it is a good head");
    for (name, head) in [("meta", plain), ("meta, revalidated", revalidated)] {
        let make = || drop(black_box(head.meta()));
        let found = allocation_counter::measure(make);
        let time = nanoseconds(1, 10_000, |_| make());
        println!(
            "{:<28} {time:>9.0}   ({} allocations)",
            format!("{name}, 8 headers"),
            found.count_total
        );
    }
}

/// What the store says that objects of some size take beside their bodies, and what the allocator gave. Ends
/// the bench if the store counts too little, or much too much.
fn print_object(length: usize, objects: u64) {
    let (store, piece) = (store(), Bytes::from(vec![0; length]));
    let fill = |from: u64, to: u64| {
        for number in from..to {
            let key = name(number);
            put(&store, &key, &piece);
            // The first hit makes the body a shared one.
            black_box(find(&store, &key).and_then(body));
        }
    };
    // What an empty store has is no object's.
    fill(0, 1_000);
    let before = store.statistics().bytes;
    let found = allocation_counter::measure(|| fill(1_000, 1_000 + objects));
    let counted = (store.statistics().bytes - before) as i64;
    let objects = objects as i64;
    let bodies = objects * length as i64;
    println!(
        "{:<28} {:>9} {:>9}",
        format!("object, body of {length}"),
        (counted - bodies) / objects,
        (found.bytes_current - bodies) / objects
    );
    assert!(counted >= found.bytes_current, "too little is counted");
    assert!(
        counted <= found.bytes_current + objects * 120 + bodies / 8,
        "too much is counted"
    );
}

/// The same for the head of a response.
fn print_head(headers: usize) {
    let meta = response(headers);
    let mut head = None;
    let found = allocation_counter::measure(|| head = Head::new(&meta).ok());
    let counted = head.map_or(0, |head| head.size()) as i64;
    let taken = found.bytes_current;
    println!(
        "{:<28} {counted:>9} {taken:>9}",
        format!("{headers} headers")
    );
    assert!(counted >= taken, "too little is counted");
    assert!(counted <= 2 * taken + 200, "too much is counted");
}

fn response(headers: usize) -> CacheMeta {
    const NAMES: [&str; 4] = ["cache-control", "x-request-cost", "etag", "set-cookie"];
    let mut header = ResponseHeader::build(200, None).expect("200 is a status");
    for number in 0..headers {
        header
            .append_header(NAMES[number % 4], "max-age=60, stale-if-error=600")
            .expect("it is a header");
    }
    let now = SystemTime::now();
    let freshness = Freshness {
        lifetime: Duration::from_secs(60),
        basis: Basis::MaxAge,
        initial_age: Duration::ZERO,
        received: now,
        stale: Stale::For(Windows::default()),
    };
    let mut meta = meta(&freshness, now, header);
    meta.extensions_mut().insert(Notes {
        freshness,
        filing: Filing::default(),
        requested: Turn::now(),
        shared: true,
        edited: false,
    });
    meta
}
