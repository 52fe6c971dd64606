use std::{
    collections::HashMap,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::atomic::AtomicBool,
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use super::*;

type Text = Store<&'static str>;

const MIB: usize = 1 << 20;

fn store(bytes: usize) -> Text {
    Store::new(Limits {
        bytes,
        max_object: bytes,
        inactive: None,
    })
}

fn key(name: &str) -> Key<'_> {
    Key {
        hash: xxh3_128(name.as_bytes()),
        name: name.as_bytes(),
        variant: None,
    }
}

fn draft(name: &str) -> Draft<'_, &'static str> {
    Draft {
        key: key(name),
        head: "head",
        head_size: 0,
        filing: Filing::default(),
        expires: u32::MAX,
        shared: true,
    }
}

/// With a name that is a host and a path, and tags.
fn filed<'a>(name: &'a str, tags: &str) -> Draft<'a, &'static str> {
    let slash = name.find('/').unwrap() as u32;
    Draft {
        filing: Filing {
            host: 0..slash,
            path: slash..name.len() as u32,
            tags: tags.into(),
        },
        ..draft(name)
    }
}

fn put(store: &Text, draft: Draft<'_, &'static str>, body: &[u8]) -> usize {
    let mut writer = store.write(draft, None, 0);
    writer.write(Bytes::copy_from_slice(body), true).unwrap();
    writer.finish(0).unwrap()
}

fn found(store: &Text, name: &str) -> Option<Vec<u8>> {
    let object = store.find(&key(name), 0)?;
    read_all(&mut Reader::new(object)?).unwrap().ok()
}

/// What can be read at once. `None` when the reader has to wait for more.
fn next(reader: &mut Reader<&'static str>) -> Option<Result<Option<Bytes>, Broken>> {
    let future = pin!(reader.read());
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

fn read_all(reader: &mut Reader<&'static str>) -> Option<Result<Vec<u8>, Broken>> {
    let mut body = Vec::new();
    loop {
        match next(reader)? {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Some(Ok(body)),
            Err(broken) => return Some(Err(broken)),
        }
    }
}

/// Bytes that tell where they stand.
fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at * 31 + at / 251 + at / 65_537) as u8)
        .collect()
}

/// The same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Fails when the bytes that are counted are not those that are there. Nothing must be in progress.
fn audit(store: &Text) {
    let sizes = store.shards.iter().map(|shard| shard.lock().sizes());
    let (all, probation) = sizes.fold((0, 0), |sum, shard| (sum.0 + shard.0, sum.1 + shard.1));
    assert_eq!(store.budget.used(), all);
    assert_eq!(store.budget.probation(), probation);
}

#[test]
fn what_is_written_is_found_and_another_key_with_the_same_hash_is_not() {
    let store = store(MIB);
    put(&store, draft("one"), b"body of one");
    assert_eq!(found(&store, "one").unwrap(), b"body of one");
    assert_eq!(found(&store, "two"), None);
    let collision = Key {
        name: b"two",
        ..key("one")
    };
    assert!(store.find(&collision, 0).is_none());
    let variant = Key {
        variant: Some(&[0; 16]),
        ..key("one")
    };
    assert!(store.find(&variant, 0).is_none());
    put(
        &store,
        Draft {
            key: collision,
            ..draft("two")
        },
        b"body of two",
    );
    assert!(store.find(&collision, 0).is_some());
    assert_eq!(found(&store, "one"), None);
    audit(&store);
}

#[test]
fn a_reader_gets_exactly_the_bytes_whatever_the_pieces_and_whenever_it_reads() {
    for (seed, known) in (1..60).flat_map(|seed| [(seed, true), (seed, false)]) {
        let mut numbers = Numbers(seed * 0x9E37_79B9);
        let whole = pattern(numbers.below(if seed % 4 == 0 { 900_000 } else { 30_000 }) as usize);
        let store = store(8 * MIB);
        let length = known.then_some(whole.len() as u64);
        let mut writer = store.write(draft("a"), length, 0);
        let largest = [3_000, 1_400, 40_000][seed as usize % 3];
        let mut readers = vec![(writer.reader().unwrap(), Vec::new())];
        let mut at = 0;
        while at < whole.len() {
            let end = (at + numbers.below(largest) as usize + 1).min(whole.len());
            let piece = Bytes::copy_from_slice(&whole[at..end]);
            writer.write(piece, end == whole.len()).unwrap();
            at = end;
            if numbers.below(20) == 0 {
                readers.push((writer.reader().unwrap(), Vec::new()));
            }
            let chosen = numbers.below(readers.len() as u64) as usize;
            let (reader, body) = &mut readers[chosen];
            if let Some(chunk) = next(reader) {
                body.extend_from_slice(&chunk.unwrap().expect("the body has not ended"));
            }
        }
        writer.finish(0).unwrap();
        for (mut reader, mut body) in readers {
            body.extend(read_all(&mut reader).unwrap().unwrap());
            assert!(body == whole, "seed {seed}");
        }
        assert!(found(&store, "a").unwrap() == whole, "seed {seed}");
        audit(&store);
    }
}

#[test]
fn small_pieces_become_one_chunk_of_their_size_and_large_bodies_have_few() {
    let store = store(16 * MIB);
    for (length, piece, most) in [
        (100 << 10, 1_400, 1),
        (100 << 10, 60_000, 1),
        (1 << 20, 1_400, 24),
        (1 << 20, 1, 24),
        (200, 200, 1),
        (0, 1, 0),
    ] {
        let mut writer = store.write(draft("a"), None, 0);
        for part in pattern(length).chunks(piece) {
            // A slice of a large buffer, which must not be kept.
            let mut buffer = vec![0; 64 << 10];
            buffer[..part.len()].copy_from_slice(part);
            let slice = Bytes::from(buffer).slice(..part.len());
            writer.write(slice, false).unwrap();
        }
        let taken = writer.finish(0).unwrap();
        let object = store.find(&key("a"), 0).unwrap();
        let chunks = object.chunks().unwrap();
        assert_eq!(chunks.length(), length as u64);
        assert!(chunks.as_slice().len() <= most, "{length} by {piece}");
        assert!(taken < length + length / 8 + 3_000, "{length}: {taken}");
    }
}

#[test]
fn a_body_that_is_broken_off_is_an_error_for_all_who_read_it_and_is_not_stored() {
    for after in [0, 1, 5_000, 200_000] {
        let store = store(MIB);
        let mut writer = store.write(draft("a"), None, 0);
        let mut early = writer.reader().unwrap();
        writer.write(pattern(after).into(), false).unwrap();
        let mut joined = Reader::new(store.find(&key("a"), 0).unwrap()).unwrap();
        if after > 0 {
            assert!(next(&mut early).unwrap().unwrap().is_some());
        }
        drop(writer);
        assert_eq!(read_all(&mut early).unwrap(), Err(Broken::Aborted));
        assert_eq!(read_all(&mut joined).unwrap(), Err(Broken::Aborted));
        assert_eq!(found(&store, "a"), None);
        assert_eq!(store.statistics().bytes, 0);
    }
}

#[test]
fn a_writer_that_panics_breaks_the_body_off() {
    let store = store(MIB);
    let mut reader = None;
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let mut writer = store.write(draft("a"), None, 0);
        writer.write(Bytes::from_static(b"half"), false).unwrap();
        reader = writer.reader();
        panic!("on purpose");
    }));
    assert!(panic.is_err());
    let outcome = read_all(&mut reader.unwrap()).unwrap();
    assert_eq!(outcome, Err(Broken::Aborted));
    assert_eq!(store.statistics().bytes, 0);
}

#[test]
fn a_body_of_another_length_than_was_said_is_an_error_and_is_not_stored() {
    for said in [3, 5] {
        let store = store(MIB);
        let mut writer = store.write(draft("a"), Some(said), 0);
        let mut reader = writer.reader().unwrap();
        writer.write(Bytes::from_static(b"four"), true).unwrap();
        assert_eq!(writer.finish(0), Err(Refused::Length));
        assert_eq!(read_all(&mut reader).unwrap(), Err(Broken::Aborted));
        assert_eq!(found(&store, "a"), None);
    }
}

#[tokio::test]
async fn readers_wait_for_a_slow_writer_without_being_asked_to_try_again() {
    let store: &'static Text = Box::leak(Box::new(store(MIB)));
    let mut writer = store.write(draft("a"), None, 0);
    let readers: Vec<_> = (0..50)
        .map(|_| {
            let mut reader = writer.reader().unwrap();
            tokio::spawn(async move {
                let (mut body, mut reads) = (Vec::new(), 0);
                while let Some(chunk) = reader.read().await.unwrap() {
                    body.extend_from_slice(&chunk);
                    reads += 1;
                }
                (body, reads)
            })
        })
        .collect();
    for piece in pattern(1_000).chunks(100) {
        tokio::task::yield_now().await;
        writer.write(Bytes::copy_from_slice(piece), false).unwrap();
    }
    writer.finish(0).unwrap();
    for reader in readers {
        let (body, reads) = reader.await.unwrap();
        assert!(body == pattern(1_000));
        assert!(reads <= 10);
    }
}

#[test]
fn an_object_that_grows_too_large_goes_to_its_readers_but_not_into_the_store() {
    let store = Store::new(Limits {
        bytes: 64 * MIB,
        max_object: 2 * MIB,
        inactive: None,
    });
    put(&store, draft("a"), b"old");
    let whole = pattern(10 * MIB);
    let mut writer = store.write(draft("a"), None, 0);
    let mut reader = writer.reader().unwrap();
    let mut slow = writer.reader().unwrap();
    let mut body = Vec::new();
    for piece in whole.chunks(50_000) {
        writer.write(Bytes::copy_from_slice(piece), false).unwrap();
        while let Some(chunk) = next(&mut reader) {
            body.extend_from_slice(&chunk.unwrap().unwrap());
        }
    }
    assert!(
        store.statistics().bytes < 51_000,
        "given back: only the old object and the last piece count"
    );
    assert_eq!(found(&store, "a").unwrap(), b"old");
    assert!(writer.reader().is_none(), "the beginning is gone");
    assert_eq!(writer.finish(0), Ok(0));
    body.extend(read_all(&mut reader).unwrap().unwrap());
    assert!(body == whole);
    assert_eq!(read_all(&mut slow).unwrap(), Err(Broken::Lagged));
    assert_eq!(found(&store, "a").unwrap(), b"old");
    audit(&store);
}

#[test]
fn a_body_that_nobody_reads_nor_stores_is_not_fetched_on() {
    let store = Store::new(Limits {
        bytes: 64 * MIB,
        max_object: 1_000,
        inactive: None,
    });
    let mut writer = store.write(draft("a"), Some(4_000), 0);
    let reader = writer.reader().unwrap();
    assert_eq!(writer.write(pattern(1_000).into(), false), Ok(()));
    drop(reader);
    assert_eq!(
        writer.write(pattern(1_000).into(), false),
        Err(Refused::Unwanted)
    );
}

#[test]
fn what_is_kept_for_readers_of_a_body_that_is_not_stored_is_bounded() {
    let store = Store::new(Limits {
        bytes: 64 * MIB,
        max_object: 1_000,
        inactive: None,
    });
    let mut writer = store.write(draft("a"), None, 0);
    let mut stuck = writer.reader().unwrap();
    let refused = (0..100).find(|_| writer.write(pattern(100_000).into(), false).is_err());
    assert_eq!(refused, Some(10), "1 MiB after the reader stopped");
    assert_eq!(read_all(&mut stuck).unwrap(), Err(Broken::Lagged));
}

/// A writer that has given up for size, with two readers of whom none has read.
fn passing(store: &Text) -> (Writer<'_, &'static str>, [Reader<&'static str>; 2]) {
    let mut writer = store.write(draft("a"), None, 0);
    let readers = [(); 2].map(|()| writer.reader().unwrap());
    for _ in 0..10 {
        writer.write(pattern(100_000).into(), false).unwrap();
    }
    (writer, readers)
}

fn small_objects() -> Text {
    Store::new(Limits {
        bytes: 64 * MIB,
        max_object: 500_000,
        inactive: None,
    })
}

#[tokio::test(start_paused = true)]
async fn a_writer_waits_for_whoever_reads_what_is_not_stored_and_however_long_that_takes() {
    let store = small_objects();
    let (mut writer, readers) = passing(&store);
    let held = store.statistics().bytes;
    assert!((400_000..=600_000).contains(&held), "{held}");
    let slow = readers.map(|mut reader| {
        tokio::spawn(async move {
            let mut length = 0;
            while let Some(chunk) = reader.read().await.unwrap() {
                length += chunk.len();
                // Each reads something before others lose patience with it.
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
            length
        })
    });
    for _ in 0..90 {
        writer.room().await;
        writer.write(pattern(100_000).into(), false).unwrap();
    }
    writer.finish(0).unwrap();
    assert_eq!(store.statistics().bytes, 0);
    for reader in slow {
        assert_eq!(reader.await.unwrap(), 10_000_000);
    }
}

#[tokio::test(start_paused = true)]
async fn who_reads_nothing_while_others_wait_is_lost_and_nobody_else() {
    let store = small_objects();
    let (mut writer, [mut stuck, mut other]) = passing(&store);
    let start = tokio::time::Instant::now();
    for _ in 0..90 {
        while next(&mut other).is_some() {}
        writer.room().await;
        writer.write(pattern(100_000).into(), false).unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(6));
    assert_eq!(read_all(&mut stuck).unwrap(), Err(Broken::Lagged));
    drop(stuck);
    // Alone, it takes its time.
    while next(&mut other).is_some() {}
    for _ in 0..6 {
        writer.write(pattern(100_000).into(), false).unwrap();
    }
    let hour = Duration::from_secs(3_600);
    assert!(tokio::time::timeout(hour, writer.room()).await.is_err());
    while next(&mut other).is_some() {}
    writer.room().await;
    // And nobody waits for the one who cannot read meanwhile.
    for _ in 0..6 {
        writer.write(pattern(100_000).into(), false).unwrap();
    }
    other.excuse(true);
    writer.room().await;
}

#[tokio::test(start_paused = true)]
async fn a_writer_knows_for_how_long_nobody_has_read() {
    let store = store(MIB);
    let writer = store.write(draft("a"), None, 0);
    let reader = writer.reader().unwrap();
    let second = Duration::from_secs(1);
    tokio::time::sleep(second).await;
    assert_eq!(writer.alone(), Duration::ZERO);
    drop(reader);
    tokio::time::sleep(second).await;
    assert!(writer.alone() >= second);
    let _reader = writer.reader().unwrap();
    assert_eq!(writer.alone(), Duration::ZERO);
}

#[test]
fn of_two_writers_the_last_to_finish_is_stored_and_readers_keep_to_their_own() {
    let store = store(MIB);
    let mut first = store.write(draft("a"), None, 0);
    let mut second = store.write(draft("a"), None, 0);
    let (mut of_first, mut of_second) = (first.reader().unwrap(), second.reader().unwrap());
    let newest = store.find(&key("a"), 0).unwrap();
    assert!(Arc::ptr_eq(&newest, second.object()));
    let by_number = store.find_fill(key("a").hash, first.id()).unwrap();
    assert!(Arc::ptr_eq(&by_number, first.object()));
    second.write(Bytes::from_static(b"second"), true).unwrap();
    first.write(Bytes::from_static(b"fir"), false).unwrap();
    second.finish(0).unwrap();
    first.write(Bytes::from_static(b"st"), true).unwrap();
    first.finish(0).unwrap();
    assert_eq!(read_all(&mut of_first).unwrap().unwrap(), b"first");
    assert_eq!(read_all(&mut of_second).unwrap().unwrap(), b"second");
    assert_eq!(found(&store, "a").unwrap(), b"first");
    assert_eq!(store.statistics().objects, 1);
    audit(&store);
}

#[test]
fn a_reader_of_a_replaced_or_removed_object_reads_on() {
    let store = store(MIB);
    put(&store, draft("a"), b"old");
    let mut reader = Reader::new(store.find(&key("a"), 0).unwrap()).unwrap();
    put(&store, draft("a"), b"new");
    assert!(store.purge_key(key("a").hash, Purge::Remove));
    assert_eq!(read_all(&mut reader).unwrap().unwrap(), b"old");
}

#[test]
fn a_range_is_read_from_a_whole_body_and_from_one_in_progress() {
    let store = store(8 * MIB);
    let whole = pattern(700_000);
    put(&store, draft("whole"), &whole);
    let mut writer = store.write(draft("part"), None, 0);
    for piece in whole.chunks(9_000) {
        writer.write(Bytes::copy_from_slice(piece), false).unwrap();
    }
    for name in ["whole", "part"] {
        let mut reader = Reader::new(store.find(&key(name), 0).unwrap()).unwrap();
        for (start, end) in [
            (0, 1),
            (5, 300_000),
            (65_535, 65_537),
            (1, 2),
            (699_999, 700_000),
        ] {
            assert!(reader.seek(start, Some(end)));
            let body = read_all(&mut reader).unwrap().unwrap();
            assert!(
                body == whole[start as usize..end as usize],
                "{name} {start}"
            );
        }
    }
    let mut reader = Reader::new(store.find(&key("whole"), 0).unwrap()).unwrap();
    assert!(reader.seek(699_990, Some(800_000)));
    assert_eq!(read_all(&mut reader).unwrap().unwrap(), whole[699_990..]);
    assert!(reader.seek(699_991, None));
    assert_eq!(read_all(&mut reader).unwrap().unwrap(), whole[699_991..]);
    assert!(!reader.seek(700_000, None));
}

#[test]
fn a_hot_set_survives_a_scan_of_ten_times_the_size() {
    let store = store(2 * MIB);
    let hot: Vec<_> = (0..400).map(|number| format!("hot {number}")).collect();
    for name in &hot {
        put(&store, draft(name), &[0; 1_000]);
    }
    for name in hot.iter().chain(&hot) {
        found(&store, name).expect("there is room for them");
    }
    for number in 0..20_000 {
        put(&store, draft(&format!("scan {number}")), &[0; 1_000]);
    }
    assert!(store.statistics().evictions > 18_000);
    let left = hot.iter().filter(|name| found(&store, name).is_some());
    assert!(left.count() >= 395);
    audit(&store);
}

#[test]
fn what_comes_back_soon_after_its_eviction_is_spared_by_the_next_scan() {
    let store = store(MIB);
    let scan = |from: u32, to: u32| {
        for number in from..to {
            put(&store, draft(&format!("scan {number}")), &[0; 1_000]);
        }
    };
    put(&store, draft("a"), &[0; 1_000]);
    let mut scanned = 0;
    while store.peek(&key("a")).is_some() {
        scan(scanned, scanned + 10);
        scanned += 10;
    }
    put(&store, draft("a"), &[0; 1_000]);
    scan(scanned, scanned + 2_000);
    assert!(store.peek(&key("a")).is_some());
}

#[test]
fn when_everything_is_hot_something_leaves_all_the_same() {
    let store = store(MIB);
    for number in 0..5_000 {
        let name = format!("{number}");
        put(&store, draft(&name), &[0; 500]);
        for _ in 0..3 {
            found(&store, &name).unwrap();
        }
    }
    assert!(store.statistics().bytes <= MIB);
    audit(&store);
}

#[test]
fn an_object_as_large_as_the_store_drives_out_all_others() {
    let store = store(MIB);
    for number in 0..100 {
        put(&store, draft(&format!("{number}")), &[0; 5_000]);
    }
    assert!(put(&store, draft("large"), &pattern(900_000)) > 900_000);
    assert!(found(&store, "large").unwrap() == pattern(900_000));
    let mut larger = store.write(draft("larger"), None, 0);
    assert!(larger.write(pattern(MIB).into(), true).is_err());
    drop(larger);
    assert!(found(&store, "large").is_some());
    audit(&store);
}

#[test]
fn expired_objects_leave_before_others_and_a_sweep_drops_them_and_the_idle_ones() {
    let store = Store::new(Limits {
        bytes: 4 * MIB,
        max_object: MIB,
        inactive: Some(60),
    });
    for number in 0..1_000 {
        let name = format!("{number}");
        let expires = if number % 2 == 0 { 50 } else { u32::MAX };
        put(
            &store,
            Draft {
                expires,
                ..draft(&name)
            },
            &[0; 100],
        );
    }
    store.sweep(49);
    assert_eq!(store.statistics().objects, 1_000);
    store.sweep(50);
    assert_eq!(store.statistics().objects, 500);
    store.find(&key("1"), 60).unwrap();
    store.sweep(61);
    let left = store.statistics();
    assert_eq!(
        (left.objects, left.evictions, left.expirations),
        (1, 0, 999)
    );
    audit(&store);
}

#[test]
fn purging_by_tag_prefix_host_and_all_removes_those_and_no_others() {
    let names = [
        ("a.example/shop/1", "shop one"),
        ("a.example/shop/2", "shop"),
        ("a.example/shopping", "one"),
        ("b.example/shop/1", "shopone"),
        ("b.example/", ""),
    ];
    let shop = Selection::Prefix {
        host: b"a.example",
        path: b"/shop/",
    };
    for (selection, meant) in [
        (Selection::Tag("shop"), vec![0, 1]),
        (Selection::Tag("one"), vec![0, 2]),
        (Selection::Tag("sho"), vec![]),
        (shop, vec![0, 1]),
        (Selection::Host(b"b.example"), vec![3, 4]),
        (Selection::Host(b"example"), vec![]),
        (Selection::All, vec![0, 1, 2, 3, 4]),
    ] {
        for purge in [Purge::Remove, Purge::Stale(7_000)] {
            let store = store(MIB);
            for (name, tags) in names {
                put(&store, filed(name, tags), name.as_bytes());
            }
            let count = store.purge(&[selection], purge);
            assert_eq!(count, meant.len(), "{selection:?}");
            for (number, (name, _)) in names.iter().enumerate() {
                let left = store.peek(&key(name));
                match (purge, meant.contains(&number)) {
                    (Purge::Remove, true) => assert!(left.is_none(), "{selection:?} {name}"),
                    (Purge::Stale(_), true) => {
                        assert_eq!(left.unwrap().stale_since(), Some(7_000));
                    }
                    (_, false) => assert_eq!(left.unwrap().stale_since(), None),
                }
            }
            audit(&store);
        }
    }
}

/// With a name that is a host, a path and, in brackets before and behind them, what else there is.
fn paged(name: &str) -> Draft<'_, &'static str> {
    let place = |mark| name.find(mark).unwrap() as u32;
    Draft {
        filing: Filing {
            host: place(']') + 1..place('/'),
            path: place('/')..place('['),
            tags: "tag".into(),
        },
        ..draft(name)
    }
}

#[test]
fn a_page_is_purged_with_the_endings_that_are_meant_or_with_all() {
    let names = [
        "x]a/b[", "x]a/b[?1", "y]a/b[?1", "y]a/b[?2", "x]a/bc[", "x]b/b[", "x]a/[/b",
    ];
    let ending = |beginning: &str, ending: &str| Ending {
        beginning: beginning.as_bytes().into(),
        ending: ending.as_bytes().into(),
    };
    for (endings, meant) in [
        (None, vec![0, 1, 2, 3]),
        (Some(vec![]), vec![]),
        (Some(vec![ending("", "[")]), vec![0]),
        (Some(vec![ending("", "[?1")]), vec![1, 2]),
        (Some(vec![ending("y]", "[?1")]), vec![2]),
        (Some(vec![ending("y]", "[?1"), ending("", "[")]), vec![0, 2]),
    ] {
        let store = store(MIB);
        for name in names {
            put(&store, paged(name), b"body");
        }
        let page = Selection::Page {
            host: b"a",
            path: b"/b",
            endings: endings.as_deref(),
        };
        assert_eq!(store.purge(&[page], Purge::Remove), meant.len(), "{page:?}");
        for (number, name) in names.iter().enumerate() {
            let left = store.peek(&key(name)).is_some();
            assert_eq!(left, !meant.contains(&number), "{page:?} {name}");
        }
    }
}

#[test]
fn what_several_selections_mean_is_purged_and_counted_once() {
    let store = store(MIB);
    for (name, tags) in [
        ("a/1", "one two"),
        ("a/2", "two"),
        ("b/1", "one"),
        ("c/1", ""),
    ] {
        put(&store, filed(name, tags), b"body");
    }
    let one_and_a = [Selection::Tag("one"), Selection::Host(b"a")];
    assert_eq!(store.purge(&one_and_a, Purge::Stale(7)), 3);
    assert_eq!(store.purge(&one_and_a, Purge::Remove), 3);
    assert!(store.peek(&key("c/1")).is_some());
    assert_eq!(store.purge(&[], Purge::Remove), 0);
    assert_eq!(store.purge(&[Selection::All], Purge::Remove), 1);
}

#[test]
fn a_selection_that_is_kept_means_the_same() {
    let page = Selection::Page {
        host: b"a",
        path: b"/b",
        endings: Some(&[]),
    };
    for selection in [
        Selection::All,
        Selection::Host(b"a"),
        Selection::Prefix {
            host: b"a",
            path: b"/b",
        },
        page,
        Selection::Tag("tag"),
    ] {
        let kept = Wanted::from(selection);
        assert_eq!(format!("{:?}", kept.selection()), format!("{selection:?}"));
    }
}

#[test]
fn a_purge_while_an_object_is_written_keeps_it_out_and_its_readers_get_all_of_it() {
    for by_key in [true, false] {
        let store = store(MIB);
        let mut writer = store.write(filed("a.example/", "tag"), None, 0);
        let mut reader = writer.reader().unwrap();
        writer.write(Bytes::from_static(b"to"), false).unwrap();
        if by_key {
            assert!(store.purge_key(key("a.example/").hash, Purge::Remove));
        } else {
            assert_eq!(store.purge(&[Selection::Tag("tag")], Purge::Remove), 1);
        }
        assert!(store.find(&key("a.example/"), 0).is_none());
        writer.write(Bytes::from_static(b"gether"), true).unwrap();
        assert_eq!(writer.finish(0), Ok(0));
        assert_eq!(read_all(&mut reader).unwrap().unwrap(), b"together");
        assert!(store.find(&key("a.example/"), 0).is_none());
        assert_eq!(store.statistics().bytes, 0);
    }
}

#[test]
fn an_object_that_was_marked_stale_while_it_was_written_is_stored_so_and_a_new_head_is_fresh() {
    let store = store(MIB);
    let mut writer = store.write(draft("a"), None, 0);
    writer.write(Bytes::from_static(b"body"), true).unwrap();
    assert!(store.purge_key(key("a").hash, Purge::Stale(5)));
    assert!(store.purge_key(key("a").hash, Purge::Stale(9)));
    writer.finish(0).unwrap();
    let object = store.find(&key("a"), 0).unwrap();
    assert_eq!(object.stale_since(), Some(5));
    let update = || Update {
        head: "newer",
        head_size: 100,
        filing: None,
        expires: 70,
    };
    assert!(store.update(&object, update(), 0));
    let newer = store.find(&key("a"), 0).unwrap();
    assert_eq!((*newer.head(), newer.stale_since()), ("newer", None));
    assert_eq!(found(&store, "a").unwrap(), b"body");
    assert_eq!(newer.size(), object.size() + 100);
    assert!(
        !store.update(&object, update(), 0),
        "it is not there any more"
    );
    audit(&store);
}

#[test]
fn a_smaller_limit_evicts_at_once_and_gives_up_what_is_written() {
    let store = store(8 * MIB);
    for number in 0..5_000 {
        put(&store, draft(&format!("{number}")), &[0; 1_000]);
    }
    let mut writer = store.write(draft("a"), None, 0);
    writer.write(pattern(200_000).into(), false).unwrap();
    let mut reader = writer.reader().unwrap();
    let limits = Limits {
        bytes: 100_000,
        max_object: MIB,
        inactive: None,
    };
    store.resize(limits, 0);
    assert_eq!(store.statistics().objects, 0);
    writer.write(pattern(200_000).into(), false).unwrap();
    assert_eq!(store.statistics().bytes, 100_000, "a reader still wants it");
    assert_eq!(writer.finish(0), Ok(0));
    assert_eq!(store.statistics().bytes, 0);
    assert_eq!(read_all(&mut reader).unwrap().unwrap().len(), 400_000);
    put(&store, draft("b"), &[0; 1_000]);
    assert!(found(&store, "b").is_some());
    audit(&store);
}

#[test]
fn the_limit_is_kept_while_threads_write_read_purge_and_break_off() {
    const LIMIT: usize = 3 * MIB;
    let store = store(LIMIT);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = (1..=4)
            .map(|seed| {
                let store = &store;
                scope.spawn(move || work(store, Numbers(seed * 0x9E37_79B9_7F4A)))
            })
            .collect();
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(store.budget.used());
                thread::yield_now();
            }
            most
        });
        for worker in workers {
            worker.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        let most = watch.join().unwrap();
        assert!(most <= LIMIT, "{most}");
        assert!(most > LIMIT / 2, "the limit was not tried: {most}");
    });
    audit(&store);
    store.purge(&[Selection::All], Purge::Remove);
    assert_eq!(
        (store.statistics().bytes, store.statistics().objects),
        (0, 0)
    );
}

/// Does all there is at random. Every body is its key's pattern, so a mix-up is seen.
fn work(store: &Text, mut numbers: Numbers) {
    for _ in 0..4_000 {
        let number = numbers.below(700);
        let name = format!("host/{number}");
        let length = (number * number) as usize % 60_000;
        match numbers.below(10) {
            0 => {
                store.purge_key(key(&name).hash, Purge::Remove);
            }
            1 if numbers.below(100) == 0 => {
                store.purge(&[Selection::Tag("odd")], Purge::Remove);
            }
            2..=5 => {
                let Some(object) = store.find(&key(&name), 0) else {
                    continue;
                };
                let Some(mut reader) = Reader::new(object) else {
                    continue;
                };
                // Else it is still being written, or was broken off.
                if let Some(Ok(body)) = read_all(&mut reader) {
                    assert!(body == pattern(length), "{name}");
                }
            }
            _ => {
                let tags = if number % 2 == 1 { "odd" } else { "even" };
                let mut writer = store.write(filed(&name, tags), None, 0);
                for piece in pattern(length).chunks(numbers.below(20_000) as usize + 1_000) {
                    // An error says that it is not stored.
                    writer.write(Bytes::copy_from_slice(piece), false).ok();
                }
                if numbers.below(8) > 0 {
                    writer.finish(0).unwrap();
                }
            }
        }
    }
}

#[test]
fn what_is_found_is_what_was_written_last_as_long_as_there_is_room() {
    let store = store(8 * MIB);
    let mut model = HashMap::new();
    let mut numbers = Numbers(42);
    for round in 0..20_000_u32 {
        let name = format!("{}", numbers.below(300));
        match numbers.below(4) {
            0 => {
                let removed = store.purge_key(key(&name).hash, Purge::Remove);
                assert_eq!(removed, model.remove(&name).is_some());
            }
            1 => {
                let body = round.to_string().into_bytes();
                put(&store, draft(&name), &body);
                model.insert(name, body);
            }
            _ => assert_eq!(found(&store, &name).as_ref(), model.get(&name)),
        }
    }
    assert_eq!(store.statistics().objects, model.len());
    assert_eq!(store.statistics().evictions, 0);
    audit(&store);
}

#[test]
fn what_is_written_apart_is_found_when_it_is_whole_and_what_it_replaces_until_then() {
    let store = store(1 << 20);
    put(&store, draft("/"), b"old");
    let apart = || Draft {
        shared: false,
        ..draft("/")
    };
    let mut broken = store.write(apart(), None, 0);
    broken.write("new".into(), false).unwrap();
    assert_eq!(found(&store, "/").unwrap(), b"old");
    drop(broken);
    assert_eq!(found(&store, "/").unwrap(), b"old");
    let mut whole = store.write(apart(), None, 0);
    whole.write("new".into(), true).unwrap();
    assert_eq!(found(&store, "/").unwrap(), b"old");
    whole.finish(0).unwrap();
    assert_eq!(found(&store, "/").unwrap(), b"new");
    audit(&store);
}
