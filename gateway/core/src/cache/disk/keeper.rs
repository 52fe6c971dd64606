//! The thread that keeps the folder: takes it, finds out what is there, and removes what is to go.

use std::{
    cmp::Reverse,
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use log::info;

use super::{
    super::memory::Purge,
    State,
    file::{self, BLOCK, Stored},
    folder::Lock,
    index::{Entry, Gone, Hash, Loaded, Place, short},
    queue::Chore,
    selection::{Ban, Traits},
    tier::{Tier, count, now},
    writer,
};

/// Does all there is to do, until the tier is closed. Nobody else writes into the folder meanwhile.
pub(super) fn run(tier: &Arc<Tier>) {
    if let Some((lock, numbers)) = enter(tier) {
        load(tier, numbers);
        let writer = start_writer(tier);
        tier.set_state(State::Working);
        keep(tier);
        // It may be in the middle of a file.
        writer.map(JoinHandle::join);
        drop(lock);
    }
    tier.set_state(State::Closed);
    tier.bans.give_up();
}

/// Starts a thread of a tier.
pub(super) fn start(
    tier: &Arc<Tier>,
    name: &str,
    run: impl FnOnce(&Arc<Tier>) + Send + 'static,
) -> Option<JoinHandle<()>> {
    let shared = Arc::clone(tier);
    let thread = thread::Builder::new().name(name.into());
    match thread.spawn(move || run(&shared)) {
        Ok(thread) => Some(thread),
        Err(error) => {
            tier.complain(&tier.troubles.folder, "has no thread", &error);
            None
        }
    }
}

fn start_writer(tier: &Arc<Tier>) -> Option<JoinHandle<()>> {
    let writer = start(tier, "cache-writer", |tier| writer::run(tier));
    if writer.is_none() {
        tier.close();
    }
    writer
}

/// Takes the folder, and tells which files there are. Tries again until it can be had: another process may
/// be about to end, a disk about to be there.
fn enter(tier: &Tier) -> Option<(Lock, Vec<u64>)> {
    loop {
        if tier.is_closed() {
            return None;
        }
        match take(tier) {
            Ok(Some(taken)) => {
                tier.calm(&tier.troubles.folder, "can be used again");
                tier.calm(&tier.troubles.occupied, "is free");
                return Some(taken);
            }
            Ok(None) => {
                tier.set_state(State::Occupied);
                let why = io::Error::other("another process uses it");
                tier.complain(
                    &tier.troubles.occupied,
                    "is not used until it is free",
                    &why,
                );
            }
            Err(error) => {
                tier.set_state(State::Failing);
                tier.complain(&tier.troubles.folder, "can't be used", &error);
            }
        }
        tier.chores.wait(RETRY);
    }
}

pub(super) fn take(tier: &Tier) -> io::Result<Option<(Lock, Vec<u64>)>> {
    let Some(lock) = tier.folder.take()? else {
        return Ok(None);
    };
    tier.folder.remove_drafts()?;
    let mut numbers = tier.folder.list()?;
    numbers.sort_unstable_by_key(|number| Reverse(*number));
    tier.begin(numbers.first().map_or(1, |newest| newest + 1));
    tier.set_state(State::Loading);
    Ok(Some((lock, numbers)))
}

/// Enters what is there into the index, the newest first. Others store and find things meanwhile, but
/// nothing is written: it is not known yet how much room there is.
pub(super) fn load(tier: &Tier, numbers: Vec<u64>) {
    for (place, number) in numbers.into_iter().enumerate() {
        if tier.is_closed() {
            return;
        }
        load_one(tier, number);
        if place % OTHERS_EVERY == 0 {
            do_chores(tier);
        }
    }
    tier.index.is_loaded();
    tier.trim();
    let found = tier.statistics();
    if found.objects > 0 || found.discarded > 0 {
        info!(
            "the cache's folder is loaded: path={} objects={} bytes={} discarded={}",
            tier.folder.path().display(),
            found.objects,
            found.bytes,
            found.discarded,
        );
    }
}

fn load_one(tier: &Tier, number: u64) {
    let removed = match read_entry(tier, number) {
        Ok((entry, useful)) => {
            let loaded = useful && tier.index.load(entry, number) == Loaded::Taken;
            if loaded {
                tier.add(u64::from(entry.blocks) * BLOCK);
                return;
            }
            &tier.counts.expirations
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            tier.tell_broken(number, &error);
            &tier.counts.discarded
        }
    };
    count(removed);
    // It was never counted.
    tier.unlink(Gone { number, blocks: 0 });
}

/// What the index has to know of a file, and whether it is of any use.
fn read_entry(tier: &Tier, number: u64) -> io::Result<(Entry, bool)> {
    let stored = Stored::open(&tier.folder.file(number), tier.stamp(number))?;
    let label = stored.label()?;
    let now = now();
    let entry = Entry {
        hash: short((tier.hash)(&label.name, label.variant.as_ref())),
        traits: Traits::new(&label.name, &label.filing),
        expires: label.expires,
        used: stored.used()?.min(now),
        stale: label.stale,
        blocks: file::blocks(stored.length())?,
    };
    Ok((entry, entry.expires > now && entry.used >= tier.idle(now)))
}

fn keep(tier: &Tier) {
    let mut swept = Instant::now();
    while !tier.is_closed() {
        do_chores(tier);
        tier.trim();
        while let Some(ban) = tier.bans.first().filter(|_| !tier.is_closed()) {
            let count = carry_out(tier, &ban);
            tier.bans.end(&ban, count);
        }
        if swept.elapsed() >= SWEEP {
            tier.sweep(now());
            swept = Instant::now();
        }
        tier.chores.wait(SWEEP.saturating_sub(swept.elapsed()));
    }
    // What was purged stays purged.
    do_chores(tier);
}

pub(super) fn do_chores(tier: &Tier) {
    while let Some(chore) = tier.chores.take() {
        match chore {
            Chore::Remove(gone) => tier.unlink(gone),
            Chore::Mark { hash, number } => note_mark(tier, hash, number),
            Chore::Tell(done) => {
                // Perhaps nobody waits any more.
                done.send(()).ok();
            }
        }
    }
}

/// Writes the mark of an object into its file. Where that can't be done, the object has to go: after a
/// restart it would be fresh.
fn note_mark(tier: &Tier, hash: Hash, number: u64) {
    let Some(since) = tier.index.stale(hash, number) else {
        return;
    };
    let Err(error) = file::set_mark(&tier.folder.file(number), since, number) else {
        return;
    };
    if error.kind() != io::ErrorKind::NotFound {
        tier.complain(&tier.troubles.write, "can't be written", &error);
    }
    if let (_, Some(gone)) = tier.index.remove(hash, number) {
        tier.unlink(gone);
    }
}

/// Purges all that is meant by a ban, and tells how many there were.
pub(super) fn carry_out(tier: &Tier, ban: &Ban) -> usize {
    let mut count = 0;
    for (hash, number) in tier.index.suspects(ban) {
        // Those in the queue are there in a moment, or will never be.
        while tier.index.place(hash, number) == Some(Place::Queue) && !tier.is_closed() {
            if ban.is_for_all() {
                break;
            }
            thread::sleep(MOMENT);
        }
        if tier.is_closed() {
            return count;
        }
        if is_meant(tier, ban, hash, number) && purge(tier, ban.purge, hash, number) {
            count += 1;
        }
        if count % OTHERS_EVERY == 0 {
            do_chores(tier);
        }
    }
    count
}

fn is_meant(tier: &Tier, ban: &Ban, hash: Hash, number: u64) -> bool {
    if ban.is_for_all() {
        return true;
    }
    // One that is gone needs not be read.
    if tier.index.place(hash, number).is_none() {
        return false;
    }
    let read = Stored::open(&tier.folder.file(number), tier.stamp(number));
    match read.and_then(|stored| stored.label()) {
        Ok(label) => ban.means(&label.name, &label.filing),
        // When it can't be known, it is.
        Err(error) => !tier.discard(hash, number, &error),
    }
}

/// False when it is not there any more.
fn purge(tier: &Tier, purge: Purge, hash: Hash, number: u64) -> bool {
    match purge {
        Purge::Remove => {
            let (found, gone) = tier.index.remove(hash, number);
            if let Some(gone) = gone {
                tier.unlink(gone);
            }
            found
        }
        Purge::Stale(since) => {
            let found = tier.index.mark(hash, number, since);
            // The writer notes it in the files of those who are in the queue.
            if tier.index.place(hash, number) == Some(Place::Disk) {
                note_mark(tier, hash, number);
            }
            found
        }
    }
}

/// How soon to try to get the folder again.
const RETRY: Duration = Duration::from_millis(250);
const SWEEP: Duration = Duration::from_secs(5);
const MOMENT: Duration = Duration::from_millis(1);
/// Files after which others have their turn.
const OTHERS_EVERY: usize = 64;
