//! The second tier of a zone: what it keeps on a disk as well.
//!
//! What is stored in memory is written behind it, and what is found on the disk alone is raised into memory
//! before it is used. So all that is served comes from memory, and what the disk has was there once.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::HeaderMap;
use log::debug;

use super::{
    disk::{Disk, Found as OnDisk, Limits, Purging, Record, Spec, Statistics},
    head::Head,
    key::{Name, Variant, hash_of},
    memory::{Draft, Filing, Key, Object, Purge, Selection},
    purges::Turn,
    time::seconds,
    zone::{DiskSpec, Found, Zone},
};

/// A folder in which a zone keeps objects.
pub(super) struct Second {
    path: Box<Path>,
    disk: Disk,
}

impl Second {
    fn open(spec: &DiskSpec, longest: usize) -> Self {
        let disk = Disk::open(Spec {
            path: spec.path.clone(),
            limits: limits(spec, longest),
            heads: Head::VERSION,
            hash: |name, variant| hash_of(name, variant),
        });
        Self {
            path: spec.path.as_path().into(),
            disk,
        }
    }
}

fn limits(spec: &DiskSpec, longest: usize) -> Limits {
    Limits {
        longest: longest as u64,
        bytes: spec.bytes,
        inactive: spec.inactive,
    }
}

impl Zone {
    /// Has the zone keep objects there from now on, or no more. Those in another folder stay where they are.
    pub(super) fn keep_in(&self, spec: Option<&DiskSpec>) {
        let Some(spec) = spec else {
            self.second.store(None);
            return;
        };
        let longest = self.store().max_object();
        match &*self.second.load() {
            Some(second) if *second.path == *spec.path => second.disk.resize(limits(spec, longest)),
            _ => self
                .second
                .store(Some(Arc::new(Second::open(spec, longest)))),
        }
    }

    /// Writes what has just been stored behind it, or if that is not worth it, has the disk forget what was
    /// there before. `requested` is when the response was asked for. Never waits.
    pub(super) fn keep(&self, name: u128, stored: &Object<Head>, requested: Turn) {
        let second = self.second.load();
        let Some(second) = &*second else { return };
        let (key, now) = (stored.key(), SystemTime::now());
        // Another one may have been stored since, and then it is that which counts.
        let object = self.store().peek(&key);
        let object = object.filter(|object| is_worthwhile(object, now));
        let Some(record) = object.and_then(|object| record(&object)) else {
            second.disk.purge_key(key.hash, Purge::Remove);
            return;
        };
        let filing = record.filing.clone();
        let is_valid = || !self.is_purged(name, key.name, &filing, requested);
        second.disk.store(record, seconds(now), is_valid);
    }

    /// Takes into memory what only the disk has for a request, if it has something. `variant` is as in
    /// [`find`](Self::find), which finds it after that. Tells whether it is worth it to look there again.
    pub(crate) async fn raise(
        &self,
        name: &Name,
        variant: impl Fn(&HeaderMap) -> Option<Variant>,
        now: SystemTime,
    ) -> bool {
        let Some(second) = self.second.load_full() else {
            return false;
        };
        let mut raised = false;
        // What is under the name alone tells which variant is wanted.
        for _ in 0..2 {
            let wanted = match self.find(name, &variant, now) {
                Found::Object(_) => return true,
                Found::Nothing => None,
                Found::OtherVariant(Some(wanted)) => Some(wanted),
                Found::OtherVariant(None) => return raised,
            };
            if !self.raise_one(&second.disk, name, wanted.as_ref()).await {
                return raised;
            }
            raised = true;
        }
        raised
    }

    async fn raise_one(&self, disk: &Disk, name: &Name, variant: Option<&Variant>) -> bool {
        let (key, now, turn) = (name.key(variant), SystemTime::now(), Turn::now());
        let Some(found) = disk.find(&key, seconds(now)).await else {
            return false;
        };
        let raised = self.take(key, name.hash(), &found, turn);
        if let Err(error) = &raised {
            debug!("not raised from the disk: reason={error}");
        }
        raised.unwrap_or(false)
    }

    /// Stores in memory what was looked for on the disk in that turn.
    fn take(
        &self,
        key: Key<'_>,
        name: u128,
        found: &OnDisk,
        looked: Turn,
    ) -> pingora::Result<bool> {
        let now = SystemTime::now();
        let head = Head::from_disk(&found.head, &found.filing)?;
        let draft = Draft {
            key,
            head_size: head.size(),
            expires: found.expires,
            filing: found.filing.clone(),
            // Others look for it themselves: it is there at once, or never.
            shared: false,
            head,
        };
        let length: usize = found.body.iter().map(Bytes::len).sum();
        let mut writer = self.store().write(draft, Some(length as u64), seconds(now));
        if let Some(since) = found.stale_since {
            writer.object().mark_stale(since);
        }
        // Purges from here on meet the writer.
        if self.is_purged(name, key.name, &found.filing, looked) {
            return Ok(false);
        }
        for piece in &found.body {
            if writer.write(piece.clone(), false).is_err() {
                return Ok(false);
            }
        }
        Ok(writer.finish(seconds(now)).is_ok_and(|size| size > 0))
    }

    /// Purges what is under a hash, wherever it is. Tells whether there was something.
    pub(super) fn purge_key(&self, hash: u128, purge: Purge) -> bool {
        let in_memory = self.store().purge_key(hash, purge);
        let second = self.second.load();
        let on_disk = second.as_ref();
        in_memory | on_disk.is_some_and(|second| second.disk.purge_key(hash, purge))
    }

    /// Purges on the disk what any of the selections means, if there is a disk.
    pub(super) fn purge_disk(&self, selections: &[Selection<'_>], purge: Purge) -> Option<Purging> {
        let second = self.second.load();
        let second = second.as_ref()?;
        Some(second.disk.purge(selections, purge))
    }

    /// Has the disk know which objects are asked for, though memory answers: those used from then on.
    pub(super) fn touch_disk(&self, since: u32) {
        let second = self.second.load();
        let Some(second) = &*second else { return };
        let touch = |hash, used| second.disk.touch(hash, used);
        self.store().used_since(since, touch);
    }

    /// Until all that was stored before is on the disk. That may take long: give it a limit.
    pub(super) async fn settle(&self) {
        if let Some(second) = self.second.load_full() {
            second.disk.settled().await;
        }
    }

    /// How the disk is doing, if there is one.
    pub(crate) fn disk_statistics(&self) -> Option<Statistics> {
        let second = self.second.load();
        second.as_ref().map(|second| second.disk.statistics())
    }
}

fn is_worthwhile(object: &Object<Head>, now: SystemTime) -> bool {
    let freshness = object.head().freshness();
    freshness.is_fresh(now) && freshness.remaining(now) >= WORTHWHILE
}

fn record(object: &Object<Head>) -> Option<Record> {
    let chunks = object.chunks()?;
    let head = object.head().to_disk();
    let key = object.key();
    Some(Record {
        hash: key.hash,
        name: key.name.into(),
        variant: key.variant.copied(),
        filing: Filing::clone(object.filing()),
        expires: object.expires(),
        // An error has it not be stored: nothing is lost but a copy.
        head: head.ok()?,
        body: chunks.as_slice().into(),
        stale_since: object.stale_since(),
    })
}

/// What is fresh for less than this is not written: it would hardly be there before it is replaced.
const WORTHWHILE: Duration = Duration::from_secs(5);
