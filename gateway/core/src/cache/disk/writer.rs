//! The thread that writes.
//!
//! A file is written under another name, and gets its own when it is complete. It is not synced to the disk
//! then: that would cost far more than all else, and whoever reads it sees by its sums if it did not get
//! there. A cache may lose what was written in the last seconds before a power failure.

use std::{
    fs, io,
    time::{Duration, Instant},
};

use super::{
    Record,
    file::{self, BLOCK},
    index::{Gone, Hash},
    queue::{Chore, Job},
    tier::{Tier, count},
};

/// Writes what comes, until the tier is closed.
pub(super) fn run(tier: &Tier) {
    let mut resume = Instant::now();
    while let Some(job) = tier.queue.take() {
        let (record, hash, number) = match job {
            Job::Tell(done) => {
                tier.chores.push(Chore::Tell(done));
                continue;
            }
            Job::Write {
                record,
                hash,
                number,
            } => (record, hash, number),
        };
        let stored = if Instant::now() < resume {
            Ok(false)
        } else {
            store(tier, &record, hash, number)
        };
        if let Err(error) = &stored {
            tier.complain(&tier.troubles.write, "can't be written", error);
            resume = Instant::now() + PAUSE;
        }
        if !stored.is_ok_and(|stored| stored) {
            count(&tier.counts.dropped);
            tier.index.remove(hash, number);
        }
    }
}

/// False when there is no room for the object. One that was purged meanwhile is not missed; what a ban means
/// is seen to when it is written.
fn store(tier: &Tier, record: &Record, hash: Hash, number: u64) -> io::Result<bool> {
    let Some(stale) = tier.index.stale(hash, number) else {
        return Ok(true);
    };
    let blocks = file::blocks(file::length(record))?;
    let size = u64::from(blocks) * BLOCK;
    if !tier.take(size) {
        return Ok(false);
    }
    if let Err(error) = write(tier, record, number, stale) {
        tier.give_back(size);
        return Err(error);
    }
    tier.calm(&tier.troubles.write, "can be written again");
    count(&tier.counts.written);
    match tier.index.end(hash, number) {
        Some(marked) if marked == stale => {}
        Some(_) => tier.chores.push(Chore::Mark { hash, number }),
        None => tier.unlink(Gone { number, blocks }),
    }
    Ok(true)
}

fn write(tier: &Tier, record: &Record, number: u64, stale: u64) -> io::Result<()> {
    let written = tier
        .folder
        .create(number)
        .and_then(|mut file| file::write(&mut file, record, tier.stamp(number), stale))
        .and_then(|()| tier.folder.publish(number));
    if written.is_err() {
        // If this fails as well, the next start removes it.
        fs::remove_file(tier.folder.draft(number)).ok();
    }
    written
}

/// After an error. What comes meanwhile is dropped.
const PAUSE: Duration = Duration::from_secs(1);
