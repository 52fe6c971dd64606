//! The tier as a whole, in temporary folders.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    file::{BLOCK, PIECE},
    tier::now,
    *,
};

const MIB: u64 = 1 << 20;
const LONGEST: u64 = 4 * MIB;

fn spec(path: &Path, bytes: u64) -> Spec {
    Spec {
        path: path.into(),
        limits: Limits {
            bytes,
            inactive: None,
            longest: LONGEST,
        },
        heads: 1,
        hash,
    }
}

fn hash(name: &[u8], variant: Option<&[u8; 16]>) -> u128 {
    // Two names with the same hash.
    let name = if name == b"twin/b" { b"twin/a" } else { name };
    let variant = variant.map_or(0, |variant| u128::from_le_bytes(*variant));
    xxh3_128(name) ^ variant
}

/// The host is what is before the slash.
pub(super) fn record(name: &str, tags: &str, head: &str, body: &[u8]) -> Record {
    let host = name.find('/').unwrap_or(name.len()) as u32;
    Record {
        hash: hash(name.as_bytes(), None),
        name: name.as_bytes().into(),
        variant: None,
        filing: Filing {
            host: 0..host,
            path: host..name.len() as u32,
            tags: tags.into(),
        },
        expires: u32::MAX,
        head: Bytes::copy_from_slice(head.as_bytes()),
        body: body.chunks(PIECE).map(Bytes::copy_from_slice).collect(),
        stale_since: None,
    }
}

fn key(name: &str) -> Key<'_> {
    Key {
        hash: hash(name.as_bytes(), None),
        name: name.as_bytes(),
        variant: None,
    }
}

fn put(disk: &Disk, record: Record) {
    disk.store(record, now(), || true);
}

fn simple(disk: &Disk, name: &str, body: &[u8]) {
    put(disk, record(name, "", "head", body));
}

async fn open(path: &Path) -> Disk {
    opened(spec(path, 100 * MIB)).await
}

async fn opened(spec: Spec) -> Disk {
    let disk = Disk::open(spec);
    disk.settled().await;
    assert_eq!(disk.statistics().state, State::Working);
    disk
}

/// The same after a restart.
async fn reopened(disk: Disk, path: &Path) -> Disk {
    drop(disk);
    open(path).await
}

fn body(found: &Found) -> Vec<u8> {
    found.body.concat()
}

async fn found(disk: &Disk, name: &str) -> Option<Vec<u8>> {
    Some(body(&disk.find(&key(name), now()).await?))
}

/// What a key's body is like, in tests where a mix-up should be seen.
fn pattern(seed: u64, length: usize) -> Vec<u8> {
    (0..length as u64)
        .map(|place| ((place + seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
        .collect()
}

/// The files of objects.
fn files(path: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        // It may be gone since it was seen.
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap() != "lock" {
                files.push(path);
            }
        }
    }
    files
}

fn size(path: &Path) -> u64 {
    let files = files(path);
    let sizes = files.iter().filter_map(|file| fs::metadata(file).ok());
    sizes.map(|file| file.len().next_multiple_of(BLOCK)).sum()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test]
async fn what_was_stored_is_found_with_all_its_parts_also_after_a_restart() {
    let root = folder();
    let mut disk = open(root.path()).await;
    let lengths = [0, 1, 5_000, PIECE, 3 * MIB as usize + 5];
    for length in lengths {
        let mut record = record(&format!("a/{length}"), "t", "the head", &pattern(1, length));
        record.expires = now() + 1_000;
        record.stale_since = (length == 1).then_some(77);
        put(&disk, record);
    }
    disk.settled().await;
    for restart in [false, true] {
        if restart {
            disk = reopened(disk, root.path()).await;
        }
        for length in lengths {
            let found = disk
                .find(&key(&format!("a/{length}")), now())
                .await
                .unwrap();
            assert_eq!(&found.head[..], b"the head");
            assert_eq!(
                (found.filing.host.clone(), &*found.filing.tags),
                (0..1, "t")
            );
            assert_eq!(found.stale_since, (length == 1).then_some(77));
            assert!(found.expires > now() && found.expires <= now() + 1_000);
            assert_eq!(body(&found), pattern(1, length));
        }
        assert_eq!(disk.statistics().objects, lengths.len());
        assert_eq!(disk.statistics().bytes, size(root.path()));
    }
}

#[tokio::test]
async fn a_body_that_is_longer_than_what_is_wanted_is_not_read_and_stays() {
    let root = folder();
    let disk = open(root.path()).await;
    simple(&disk, "a/b", &pattern(1, MIB as usize));
    disk.settled().await;
    let limits = |longest| Limits {
        longest,
        ..spec(root.path(), 100 * MIB).limits
    };
    disk.resize(limits(MIB - 1));
    assert_eq!(found(&disk, "a/b").await, None);
    disk.resize(limits(MIB));
    assert_eq!(found(&disk, "a/b").await.unwrap().len(), MIB as usize);
}

#[tokio::test]
async fn an_object_stored_again_takes_the_place_of_the_older_one_and_of_its_file() {
    let root = folder();
    let disk = open(root.path()).await;
    simple(&disk, "a/b", b"old");
    disk.settled().await;
    put(&disk, record("a/b", "", "newer head", b"new"));
    disk.settled().await;
    let newer = disk.find(&key("a/b"), now()).await.unwrap();
    assert_eq!(&newer.head[..], b"newer head");
    assert_eq!(body(&newer), b"new");
    assert_eq!(files(root.path()).len(), 1);
}

#[tokio::test]
async fn variants_are_kept_apart_and_another_key_with_the_same_hash_is_a_miss() {
    let root = folder();
    let mut disk = open(root.path()).await;
    simple(&disk, "a/b", b"primary");
    let variant = [5; 16];
    let mut other = record("a/b", "", "head", b"variant");
    (other.variant, other.hash) = (Some(variant), hash(b"a/b", Some(&variant)));
    put(&disk, other);
    simple(&disk, "twin/a", b"twin");
    disk.settled().await;
    for restart in [false, true] {
        if restart {
            disk = reopened(disk, root.path()).await;
        }
        assert_eq!(found(&disk, "a/b").await.unwrap(), b"primary");
        let key = Key {
            hash: hash(b"a/b", Some(&variant)),
            name: b"a/b",
            variant: Some(&variant),
        };
        let other = disk.find(&key, now()).await.unwrap();
        assert_eq!(body(&other), b"variant");
        assert_eq!(found(&disk, "twin/b").await, None);
        let claimed = Key {
            variant: None,
            ..key
        };
        assert!(disk.find(&claimed, now()).await.is_none());
        assert_eq!(found(&disk, "twin/a").await.unwrap(), b"twin");
    }
}

#[tokio::test]
async fn broken_files_are_discarded_at_the_start_and_what_is_not_ours_stays() {
    let root = folder();
    let disk = open(root.path()).await;
    for number in 0..6 {
        simple(&disk, &format!("a/{number}"), b"body");
        disk.settled().await;
    }
    drop(disk);
    let mut paths = files(root.path());
    paths.sort_by_key(|path| path.file_name().unwrap().to_owned());
    let read = |number: usize| fs::read(&paths[number]).unwrap();
    let torn = |number: usize, length| fs::write(&paths[number], &read(number)[..length]).unwrap();
    torn(0, 0);
    torn(1, 50);
    torn(2, read(2).len() - 1);
    // The version is after the first eight bytes.
    let mut older = read(3);
    older[8] = 0;
    fs::write(&paths[3], older).unwrap();
    fs::write(&paths[4], vec![0; read(4).len()]).unwrap();
    fs::create_dir_all(root.path().join("drafts")).unwrap();
    fs::write(root.path().join("drafts/00000000000000ff"), read(5)).unwrap();
    fs::write(root.path().join("mine"), "mine").unwrap();
    let disk = open(root.path()).await;
    for number in 0..5 {
        assert_eq!(found(&disk, &format!("a/{number}")).await, None);
    }
    assert_eq!(found(&disk, "a/5").await.unwrap(), b"body");
    let statistics = disk.statistics();
    assert_eq!((statistics.objects, statistics.discarded), (1, 5));
    assert_eq!(statistics.bytes, BLOCK);
    let mut left = files(root.path());
    left.sort();
    let mut expected = vec![paths[5].clone(), root.path().join("mine")];
    expected.sort();
    assert_eq!(left, expected);
}

#[tokio::test]
async fn files_with_heads_of_another_version_are_discarded() {
    let root = folder();
    let disk = open(root.path()).await;
    simple(&disk, "a/b", b"body");
    disk.settled().await;
    drop(disk);
    let newer = Spec {
        heads: 2,
        ..spec(root.path(), MIB)
    };
    let disk = opened(newer).await;
    assert_eq!(found(&disk, "a/b").await, None);
    assert_eq!(disk.statistics().discarded, 1);
    assert!(files(root.path()).is_empty());
}

#[tokio::test]
async fn a_file_that_breaks_meanwhile_is_a_miss_and_removed_and_never_served() {
    let root = folder();
    let disk = open(root.path()).await;
    for place in [0, 20, 105, 125, 135] {
        simple(&disk, "a/b", b"the body");
        disk.settled().await;
        assert!(found(&disk, "a/b").await.is_some());
        let path = files(root.path()).remove(0);
        let mut bytes = fs::read(&path).unwrap();
        bytes[place] ^= 4;
        fs::write(&path, bytes).unwrap();
        assert_eq!(found(&disk, "a/b").await, None, "{place}");
        disk.settled().await;
        assert!(files(root.path()).is_empty(), "{place}");
        assert_eq!(disk.statistics().bytes, 0);
    }
    simple(&disk, "a/b", b"the body");
    disk.settled().await;
    fs::remove_file(files(root.path()).remove(0)).unwrap();
    assert_eq!(found(&disk, "a/b").await, None);
    let statistics = disk.statistics();
    assert_eq!((statistics.objects, statistics.discarded), (0, 6));
}

#[tokio::test]
async fn a_reader_keeps_its_body_whatever_happens_to_the_object() {
    let root = folder();
    let disk = open(root.path()).await;
    let whole = pattern(1, 2 * MIB as usize);
    simple(&disk, "a/b", &whole);
    disk.settled().await;
    let reading = disk.find(&key("a/b"), now()).await.unwrap();
    assert!(disk.purge_key(key("a/b").hash, Purge::Remove));
    disk.settled().await;
    assert!(files(root.path()).is_empty());
    assert!(body(&reading) == whole);
}

#[tokio::test]
async fn the_files_never_take_more_than_the_limit() {
    const LIMIT: u64 = 40 * BLOCK;
    let root = folder();
    let disk = opened(spec(root.path(), LIMIT)).await;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(size(root.path()));
            }
            most
        });
        for number in 0..600_u64 {
            let length = (number * 997 % 20_000) as usize;
            simple(&disk, &format!("a/{number}"), &pattern(number, length));
            if number % 50 == 0 {
                disk.purge_key(key(&format!("a/{}", number / 2)).hash, Purge::Remove);
                thread::sleep(Duration::from_millis(2));
            }
        }
        done.store(true, Ordering::Relaxed);
        let most = watch.join().unwrap();
        assert!(most <= LIMIT, "{most}");
        assert!(most > LIMIT / 2, "the limit was not tried: {most}");
    });
    disk.settled().await;
    let statistics = disk.statistics();
    assert!(statistics.evictions > 0);
    assert_eq!(statistics.bytes, size(root.path()));
    simple(&disk, "a/large", &pattern(1, LIMIT as usize));
    disk.settled().await;
    assert_eq!(found(&disk, "a/large").await, None);
    assert_eq!(disk.statistics().objects, statistics.objects);
}

#[tokio::test]
async fn a_smaller_limit_is_kept_soon_and_at_the_next_start() {
    let root = folder();
    let disk = open(root.path()).await;
    for number in 0..40 {
        simple(&disk, &format!("a/{number}"), b"body");
    }
    disk.settled().await;
    let limits = |blocks| Limits {
        bytes: blocks * BLOCK,
        inactive: None,
        longest: LONGEST,
    };
    disk.resize(limits(20));
    while disk.statistics().bytes > 20 * BLOCK {
        tokio::task::yield_now().await;
    }
    drop(disk);
    assert_eq!(files(root.path()).len(), 20);
    let disk = opened(spec(root.path(), 5 * BLOCK)).await;
    assert_eq!(files(root.path()).len(), 5);
    assert_eq!(disk.statistics().objects, 5);
}

#[tokio::test]
async fn objects_that_are_expired_or_inactive_are_removed_by_a_sweep_and_at_the_start() {
    let root = folder();
    let inactive = |seconds| Spec {
        limits: Limits {
            bytes: MIB,
            inactive: Some(Duration::from_secs(seconds)),
            longest: LONGEST,
        },
        ..spec(root.path(), MIB)
    };
    let disk = opened(inactive(100)).await;
    let start = now();
    for (name, expires) in [
        ("a/short", 50),
        ("a/used", 9_000),
        ("a/idle", 9_000),
        ("a/memory", 9_000),
    ] {
        let mut record = record(name, "", "head", b"body");
        record.expires = start + expires;
        disk.store(record, start, || true);
    }
    disk.settled().await;
    disk.tier.sweep(start + 49);
    assert_eq!(disk.statistics().objects, 4);
    assert!(disk.find(&key("a/short"), start + 50).await.is_none());
    disk.tier.sweep(start + 50);
    assert_eq!(disk.statistics().objects, 3);
    assert!(disk.find(&key("a/used"), start + 60).await.is_some());
    disk.touch(key("a/memory").hash, start + 60);
    disk.tier.sweep(start + 101);
    assert_eq!(disk.statistics().objects, 2);
    assert_eq!(files(root.path()).len(), 2);
    assert_eq!(disk.statistics().expirations, 2);
    assert!(disk.find(&key("a/idle"), start).await.is_none());
    drop(disk);
    // The use was noted in one of the files, the other is as old as its file.
    for path in files(root.path()) {
        let file = fs::File::open(&path).unwrap();
        let used = fs::metadata(&path).unwrap().mtime() >= i64::from(start) + 60;
        if !used {
            let old = std::time::SystemTime::now() - Duration::from_secs(200);
            file.set_modified(old).unwrap();
        }
    }
    let disk = opened(inactive(100)).await;
    assert!(disk.find(&key("a/used"), start).await.is_some());
    assert!(disk.find(&key("a/memory"), start).await.is_none());
    assert_eq!(files(root.path()).len(), 1);
}

#[tokio::test]
async fn a_purged_key_is_gone_at_once_and_after_a_restart_written_or_not() {
    let root = folder();
    let disk = open(root.path()).await;
    simple(&disk, "a/written", b"body");
    disk.settled().await;
    for round in 0..50 {
        let name = format!("a/{round}");
        simple(&disk, &name, b"body");
        assert!(disk.purge_key(key(&name).hash, Purge::Remove));
        assert_eq!(found(&disk, &name).await, None);
    }
    assert!(disk.purge_key(key("a/written").hash, Purge::Remove));
    assert!(!disk.purge_key(key("a/written").hash, Purge::Remove));
    assert_eq!(found(&disk, "a/written").await, None);
    disk.settled().await;
    assert!(files(root.path()).is_empty());
    assert_eq!((disk.statistics().bytes, disk.statistics().objects), (0, 0));
}

#[tokio::test]
async fn a_key_that_was_marked_is_stale_at_once_and_after_a_restart_written_or_not() {
    let root = folder();
    let mut disk = open(root.path()).await;
    simple(&disk, "a/written", b"body");
    disk.settled().await;
    simple(&disk, "a/queued", b"body");
    for name in ["a/written", "a/queued"] {
        assert!(disk.purge_key(key(name).hash, Purge::Stale(5_000)));
        assert!(disk.purge_key(key(name).hash, Purge::Stale(6_000)));
    }
    let at_once = disk.find(&key("a/written"), now()).await.unwrap();
    assert_eq!(at_once.stale_since, Some(5_000));
    disk.settled().await;
    for restart in [false, true] {
        if restart {
            disk = reopened(disk, root.path()).await;
        }
        for name in ["a/written", "a/queued"] {
            let found = disk.find(&key(name), now()).await.unwrap();
            assert_eq!(found.stale_since, Some(5_000), "{name}");
        }
    }
    simple(&disk, "a/written", b"newer");
    disk.settled().await;
    let newer = disk.find(&key("a/written"), now()).await.unwrap();
    assert_eq!(newer.stale_since, None);
}

const NAMES: [(&str, &str); 5] = [
    ("a.example/shop/1", "shop one"),
    ("a.example/shop/2", "shop"),
    ("a.example/shopping", "one"),
    ("b.example/shop/1", "shopone"),
    ("b.example/", ""),
];

fn selections() -> Vec<(Selection<'static>, Vec<usize>)> {
    let shop = Selection::Prefix {
        host: b"a.example",
        path: b"/shop/",
    };
    let page = Selection::Page {
        host: b"a.example",
        path: b"/shop/1",
        endings: None,
    };
    vec![
        (Selection::Tag("shop"), vec![0, 1]),
        (Selection::Tag("one"), vec![0, 2]),
        (Selection::Tag("sho"), vec![]),
        (shop, vec![0, 1]),
        (page, vec![0]),
        (Selection::Host(b"b.example"), vec![3, 4]),
        (Selection::Host(b"example"), vec![]),
        (Selection::All, vec![0, 1, 2, 3, 4]),
    ]
}

async fn check(disk: &Disk, purge: Purge, meant: &[usize]) {
    for (number, (name, _)) in NAMES.iter().enumerate() {
        let left = disk.find(&key(name), now()).await;
        match (purge, meant.contains(&number)) {
            (Purge::Remove, true) => assert!(left.is_none(), "{name}"),
            (Purge::Stale(_), true) => assert_eq!(left.unwrap().stale_since, Some(7_000), "{name}"),
            (_, false) => assert_eq!(left.unwrap().stale_since, None, "{name}"),
        }
    }
}

#[tokio::test]
async fn a_purge_of_many_is_seen_at_once_and_after_a_restart_and_means_no_others() {
    for (selection, meant) in selections() {
        for purge in [Purge::Remove, Purge::Stale(7_000)] {
            let root = folder();
            let disk = open(root.path()).await;
            for (name, tags) in NAMES {
                put(&disk, record(name, tags, "head", name.as_bytes()));
            }
            disk.settled().await;
            let purging = disk.purge(&[selection], purge);
            check(&disk, purge, &meant).await;
            assert_eq!(purging.count().await, Some(meant.len()), "{selection:?}");
            check(&disk, purge, &meant).await;
            drop(disk);
            let disk = open(root.path()).await;
            check(&disk, purge, &meant).await;
            // What comes after a purge is not meant by it.
            for (name, tags) in NAMES {
                put(&disk, record(name, tags, "head", name.as_bytes()));
            }
            disk.settled().await;
            check(&disk, purge, &[]).await;
        }
    }
}

#[tokio::test]
async fn a_purge_of_many_holds_for_what_is_still_in_the_queue() {
    for (selection, meant) in selections() {
        for purge in [Purge::Remove, Purge::Stale(7_000)] {
            let root = folder();
            let disk = open(root.path()).await;
            // Something for the writer to do first.
            simple(&disk, "c/large", &vec![7; 4 * MIB as usize]);
            for (name, tags) in NAMES {
                put(&disk, record(name, tags, "head", name.as_bytes()));
            }
            let purging = disk.purge(&[selection], purge);
            let large = matches!(selection, Selection::All) as usize;
            assert_eq!(
                purging.count().await,
                Some(meant.len() + large),
                "{selection:?}"
            );
            disk.settled().await;
            check(&disk, purge, &meant).await;
            drop(disk);
            check(&open(root.path()).await, purge, &meant).await;
        }
    }
}

#[tokio::test]
async fn what_a_purge_overtakes_is_not_stored() {
    let root = folder();
    let disk = open(root.path()).await;
    simple(&disk, "a/b", b"older");
    disk.settled().await;
    disk.store(record("a/b", "", "head", b"body"), now(), || false);
    disk.settled().await;
    assert_eq!(found(&disk, "a/b").await, None);
    assert!(files(root.path()).is_empty());
}

/// A tier whose folder has been taken, but nothing is loaded, and which has no threads.
fn halted(root: &Path) -> (Disk, folder::Lock, Vec<u64>) {
    let disk = Disk {
        tier: Arc::new(Tier::new(spec(root, MIB))),
    };
    loop {
        if let Some((lock, numbers)) = keeper::take(&disk.tier).unwrap() {
            return (disk, lock, numbers);
        }
    }
}

#[tokio::test]
async fn what_happens_before_a_file_is_loaded_holds_for_it_too() {
    let root = folder();
    let disk = open(root.path()).await;
    for name in [
        "a/removed",
        "a/marked",
        "a/newer",
        "a/left",
        "b/host",
        "c/tag",
    ] {
        put(
            &disk,
            record(
                name,
                if name == "c/tag" { "tag" } else { "" },
                "head",
                b"old",
            ),
        );
    }
    disk.settled().await;
    drop(disk);
    let (disk, lock, numbers) = halted(root.path());
    assert_eq!(numbers.len(), 6);
    disk.purge_key(key("a/removed").hash, Purge::Remove);
    disk.purge_key(key("a/marked").hash, Purge::Stale(7));
    let host = disk.purge(&[Selection::Host(b"b")], Purge::Remove);
    let tag = disk.purge(&[Selection::Tag("tag")], Purge::Stale(7));
    simple(&disk, "a/newer", b"new");
    keeper::load(&disk.tier, numbers);
    for name in ["a/removed", "a/marked", "a/newer", "b/host"] {
        assert_eq!(found(&disk, name).await, None, "{name}");
    }
    let marked = disk.find(&key("c/tag"), now()).await.unwrap();
    assert_eq!(marked.stale_since, Some(7));
    assert_eq!(found(&disk, "a/left").await.unwrap(), b"old");
    while let Some(ban) = disk.tier.bans.first() {
        let count = keeper::carry_out(&disk.tier, &ban);
        disk.tier.bans.end(&ban, count);
    }
    assert_eq!((host.count().await, tag.count().await), (Some(1), Some(1)));
    drop((disk, lock));
    let disk = open(root.path()).await;
    assert_eq!(disk.statistics().objects, 2);
    let marked = disk.find(&key("c/tag"), now()).await.unwrap();
    assert_eq!(marked.stale_since, Some(7));
}

#[tokio::test]
async fn of_two_files_for_one_key_the_newer_is_kept() {
    let root = folder();
    let disk = open(root.path()).await;
    simple(&disk, "a/b", b"older");
    disk.settled().await;
    let older = files(root.path()).remove(0);
    let bytes = fs::read(&older).unwrap();
    simple(&disk, "a/b", b"newer");
    disk.settled().await;
    drop(disk);
    // As if it had been killed before it could remove the older one.
    fs::write(older, bytes).unwrap();
    assert_eq!(files(root.path()).len(), 2);
    let disk = open(root.path()).await;
    assert_eq!(found(&disk, "a/b").await.unwrap(), b"newer");
    assert_eq!(files(root.path()).len(), 1);
}

#[tokio::test]
async fn storing_never_waits_and_what_there_is_no_room_for_in_the_queue_is_dropped() {
    let root = folder();
    // Nobody writes.
    let (disk, _lock, _) = halted(root.path());
    for number in 0..3_000 {
        simple(&disk, &format!("a/{number}"), b"body");
    }
    let statistics = disk.statistics();
    assert_eq!(statistics.objects as u64 + statistics.dropped, 3_000);
    assert!(statistics.dropped > 1_000, "{statistics:?}");
}

#[tokio::test]
async fn a_second_user_goes_without_until_the_first_has_ended() {
    let root = folder();
    let first = open(root.path()).await;
    for name in ["a/kept", "a/purged", "b/banned"] {
        simple(&first, name, b"body");
    }
    first.settled().await;
    let second = Disk::open(spec(root.path(), MIB));
    while second.statistics().state != State::Occupied {
        tokio::task::yield_now().await;
    }
    simple(&second, "a/c", b"body");
    second.purge_key(key("a/purged").hash, Purge::Remove);
    let banned = second.purge(&[Selection::Host(b"b")], Purge::Remove);
    assert_eq!(found(&second, "a/kept").await, None);
    assert_eq!(files(root.path()).len(), 3);
    simple(&first, "a/late", b"late");
    first.settled().await;
    drop(first);
    second.settled().await;
    assert_eq!(banned.count().await, Some(1));
    assert_eq!(second.statistics().state, State::Working);
    assert_eq!(found(&second, "a/kept").await.unwrap(), b"body");
    assert_eq!(found(&second, "a/late").await.unwrap(), b"late");
    assert_eq!(second.statistics().objects, 2);
}

#[tokio::test]
async fn a_folder_that_can_not_be_made_is_tried_again() {
    let root = folder();
    let blocked = root.path().join("blocked");
    fs::write(&blocked, "a file").unwrap();
    let disk = Disk::open(spec(&blocked.join("cache"), MIB));
    while disk.statistics().state != State::Failing {
        tokio::task::yield_now().await;
    }
    simple(&disk, "a/b", b"body");
    assert_eq!(found(&disk, "a/b").await, None);
    fs::remove_file(&blocked).unwrap();
    disk.settled().await;
    simple(&disk, "a/b", b"body");
    disk.settled().await;
    assert_eq!(found(&disk, "a/b").await.unwrap(), b"body");
}

#[tokio::test]
async fn a_write_that_fails_is_counted_and_leaves_nothing() {
    let root = folder();
    let disk = open(root.path()).await;
    fs::write(root.path().join("drafts"), "in the way").unwrap();
    simple(&disk, "a/b", b"body");
    disk.settled().await;
    let statistics = disk.statistics();
    assert_eq!(
        (statistics.dropped, statistics.objects, statistics.bytes),
        (1, 0, 0)
    );
    fs::remove_file(root.path().join("drafts")).unwrap();
    let begun = Instant::now();
    while found(&disk, "a/b").await.is_none() {
        simple(&disk, "a/b", b"body");
        disk.settled().await;
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it never writes again"
        );
    }
}

#[tokio::test]
async fn many_who_ask_for_the_same_at_once_read_it_once() {
    let root = folder();
    let disk = Arc::new(open(root.path()).await);
    simple(&disk, "a/b", &pattern(1, 500_000));
    disk.settled().await;
    let ask = |_| {
        let disk = disk.clone();
        tokio::spawn(async move { found(&disk, "a/b").await.unwrap().len() })
    };
    for asked in (0..100).map(ask).collect::<Vec<_>>() {
        assert_eq!(asked.await.unwrap(), 500_000);
    }
    let statistics = disk.statistics();
    assert_eq!((statistics.hits, statistics.reads), (100, 1));
    assert!(found(&disk, "a/b").await.is_some());
    assert_eq!(disk.statistics().reads, 2);
}

#[tokio::test]
async fn one_who_leaves_while_reading_leaves_it_to_the_others() {
    let root = folder();
    let disk = open(root.path()).await;
    simple(&disk, "a/b", b"body");
    disk.settled().await;
    let key = key("a/b");
    {
        let first = disk.find(&key, now());
        let mut first = std::pin::pin!(first);
        let once =
            std::future::poll_fn(|cx| std::task::Poll::Ready(first.as_mut().poll(cx).is_pending()));
        assert!(once.await, "it reads in another thread");
    }
    assert_eq!(found(&disk, "a/b").await.unwrap(), b"body");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_holds_up_nobody_for_long() {
    let root = folder();
    let disk = open(root.path()).await;
    simple(&disk, "a/b", b"body");
    simple(&disk, "a/c", b"body");
    disk.settled().await;
    let paths = files(root.path());
    // Opening these waits for somebody who writes.
    for path in &paths {
        fs::remove_file(path).unwrap();
        mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
    }
    let begun = Instant::now();
    assert_eq!(found(&disk, "a/b").await, None);
    let first = begun.elapsed();
    assert!(first > Duration::from_secs(1), "it did not hang");
    let begun = Instant::now();
    for name in ["a/b", "a/c"] {
        assert_eq!(found(&disk, name).await, None);
    }
    assert!(begun.elapsed() < first / 2, "{:?}", begun.elapsed());
    assert_eq!(disk.statistics().objects, 2);
    // Lets the thread go. Whichever of the two it reads, the other has nobody who does.
    let release = |path: PathBuf| {
        let mut options = fs::File::options();
        let both = options.read(true).write(true);
        both.open(path).unwrap()
    };
    drop(paths.into_iter().map(release).collect::<Vec<_>>());
}

/// Does all there is at random. Every body is its key's pattern, so a mix-up is seen.
async fn work(disk: Arc<Disk>, mut seed: u64) {
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        (seed >> 33) % below
    };
    for _ in 0..1_000 {
        let number = random(100);
        let name = format!("host/{number}");
        match random(20) {
            0 => {
                disk.purge_key(key(&name).hash, Purge::Remove);
            }
            1 if random(10) == 0 => {
                disk.purge(&[Selection::Tag("odd")], Purge::Remove)
                    .count()
                    .await;
            }
            2 => {
                disk.purge_key(key(&name).hash, Purge::Stale(7));
            }
            3..10 => {
                if let Some(body) = found(&disk, &name).await {
                    assert!(body == pattern(number, number as usize * 100), "{name}");
                }
            }
            _ => {
                let tags = if number % 2 == 1 { "odd" } else { "even" };
                let body = pattern(number, number as usize * 100);
                put(&disk, record(&name, tags, "head", &body));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_mixed_up_or_miscounted_by_any_number_of_users() {
    let root = folder();
    let disk = Arc::new(opened(spec(root.path(), 60 * BLOCK)).await);
    let workers: Vec<_> = (1..=4)
        .map(|seed| tokio::spawn(work(disk.clone(), seed)))
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    disk.settled().await;
    let statistics = disk.statistics();
    assert_eq!(statistics.discarded, 0, "{statistics:?}");
    assert!(
        statistics.evictions > 0 && statistics.hits > 0,
        "{statistics:?}"
    );
    assert_eq!(statistics.objects, files(root.path()).len());
    assert_eq!(statistics.bytes, size(root.path()));
    drop(disk);
    let disk = opened(spec(root.path(), 60 * BLOCK)).await;
    assert_eq!(disk.statistics().objects, statistics.objects);
    assert_eq!(disk.statistics().bytes, statistics.bytes);
}

/// What would be there if the process were killed now.
fn copy(from: &Path, to: &Path) {
    for path in files(from) {
        let copy = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        // It may be gone since it was seen.
        fs::copy(path, copy).ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_it_is_killed_what_is_found_afterwards_is_right() {
    let root = folder();
    let disk = Arc::new(opened(spec(root.path(), 60 * BLOCK)).await);
    let mut workers: Vec<_> = (1..=2)
        .map(|seed| tokio::spawn(work(disk.clone(), seed)))
        .collect();
    let mut hits = 0;
    for _ in 0..20 {
        let copied = folder();
        copy(root.path(), copied.path());
        let other = open(copied.path()).await;
        for number in 0..100 {
            if let Some(body) = found(&other, &format!("host/{number}")).await {
                assert!(body == pattern(number, number as usize * 100), "{number}");
                hits += 1;
            }
        }
        let left = files(copied.path()).len();
        assert_eq!(other.statistics().objects, left);
    }
    assert!(hits > 0, "there was never anything to be found");
    for worker in workers.drain(..) {
        worker.await.unwrap();
    }
}
