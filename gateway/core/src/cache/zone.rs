//! Zones: stores of responses that have a name, are shared by routes, and outlive snapshots.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use http::HeaderMap;
use pingora::cache::{
    lock::CacheKeyLockImpl,
    predictor::{CacheablePredictor, Predictor},
};
use tokio::time::timeout;

use super::{
    count::Counters,
    disk::Purging,
    head::Head,
    key::{Name, Variant},
    lock::FetchLock,
    memory::{Filing, Limits, Object, Purge, Selection, Store},
    policy::storable::Reason,
    purges::{Purges, Turn},
    second::Second,
    time::seconds,
};

/// All zones of the process, by name.
///
/// Pingora wants them to live forever, so there is one for each name that was ever configured, and a name
/// that comes back gets its zone back.
#[derive(Debug, Default)]
pub(crate) struct Zones(Mutex<BTreeMap<Box<str>, &'static Zone>>);

/// A store of responses that has a name.
pub(crate) struct Zone {
    name: Box<str>,
    store: Store<Head>,
    /// What is kept on a disk besides.
    pub(super) second: ArcSwapOption<Second>,
    /// Has one request fetch what several ask for.
    lock: FetchLock,
    /// Remembers what could not be stored, so that nobody waits for it in vain.
    predictor: Predictor<PREDICTORS>,
    purges: Purges,
    pub(crate) counters: Counters,
}

/// What a zone has for a request.
pub(crate) enum Found {
    Object(Arc<Object<Head>>),
    /// Something under this name, but for other requests.
    /// That which is wanted, if any.
    OtherVariant(Option<Variant>),
    Nothing,
}

/// What a purge has found. It has taken effect.
pub(crate) struct Purged {
    in_memory: usize,
    on_disk: Option<Purging>,
}

impl Purged {
    /// How many objects there were, each variant being one: what is in memory and on the disk is one. Waits
    /// some time for the disk.
    pub(crate) async fn count(self) -> usize {
        let Some(purging) = self.on_disk else {
            return self.in_memory;
        };
        let on_disk = timeout(DISK_PATIENCE, purging.count()).await;
        // Of what is in one alone nothing is known: it is little, or was there for seconds only.
        let on_disk = on_disk.ok().flatten().unwrap_or_default();
        self.in_memory.max(on_disk)
    }
}

/// How much a zone may hold, and where else it keeps it.
#[derive(Clone, Debug)]
pub(crate) struct ZoneSpec {
    pub(crate) name: Box<str>,
    pub(crate) limits: Limits,
    pub(crate) disk: Option<DiskSpec>,
}

/// The second tier of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiskSpec {
    /// A folder of its own.
    pub(crate) path: PathBuf,
    /// All files together.
    pub(crate) bytes: u64,
    /// After this time without a use an object is removed.
    pub(crate) inactive: Option<Duration>,
}

/// What a zone stores that nobody has a use for.
const NOTHING: Limits = Limits {
    bytes: 0,
    max_object: 0,
    inactive: None,
};

impl Zones {
    /// The zone of this name. One that is new stores nothing before it is [configured](Self::configure).
    pub(crate) fn named(&self, name: &str) -> &'static Zone {
        let make = || -> &'static Zone { Box::leak(Box::new(Zone::new(name))) };
        self.lock().entry(name.into()).or_insert_with(make)
    }

    /// Gives these zones their limits, for which there is room made at once. Others are emptied, and store
    /// nothing until they are wanted again.
    pub(crate) fn configure(&self, specs: &[ZoneSpec]) {
        let now = seconds(SystemTime::now());
        for spec in specs {
            let zone = self.named(&spec.name);
            zone.store.resize(spec.limits, now);
            zone.keep_in(spec.disk.as_ref());
        }
        let wanted = |name: &str| specs.iter().any(|spec| *spec.name == *name);
        for (_, zone) in self.all().iter().filter(|(name, _)| !wanted(name)) {
            zone.store.resize(NOTHING, now);
            zone.keep_in(None);
        }
    }

    /// Until all zones have written down what they keep. That may take long: give it a limit.
    pub(crate) async fn settle(&self) {
        for (_, zone) in self.all() {
            zone.settle().await;
        }
    }

    /// Every zone there is, in the order of names.
    pub(crate) fn all(&self) -> Vec<(Box<str>, &'static Zone)> {
        let zones = self.lock();
        let zones = zones.iter().map(|(name, zone)| (name.clone(), *zone));
        zones.collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Box<str>, &'static Zone>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Zone {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            store: Store::new(NOTHING),
            second: ArcSwapOption::empty(),
            lock: FetchLock::new(LONGEST_FETCH),
            predictor: Predictor::new(REMEMBERED, Some(Reason::is_of_request)),
            purges: Purges::default(),
            counters: Counters::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn store(&self) -> &Store<Head> {
        &self.store
    }

    pub(crate) fn lock(&'static self) -> &'static CacheKeyLockImpl {
        &self.lock
    }

    pub(crate) fn predictor(&'static self) -> &'static (dyn CacheablePredictor + Sync) {
        &self.predictor
    }

    /// What is stored under a name for a request; `variant` tells which variant it wants of a response with
    /// some headers.
    pub(crate) fn find(
        &self,
        name: &Name,
        variant: impl Fn(&HeaderMap) -> Option<Variant>,
        now: SystemTime,
    ) -> Found {
        let now = seconds(now);
        let Some(first) = self.store.find(&name.key(None), now) else {
            return Found::Nothing;
        };
        let wanted = variant(&first.head().header().headers);
        if first.head().variant() == wanted.as_ref() {
            return Found::Object(first);
        }
        let Some(wanted) = wanted else {
            return Found::OtherVariant(None);
        };
        // Those that are older than their family were purged with the one before it.
        let begun = first.head().begun();
        let other = self.store.find(&name.key(Some(&wanted)), now);
        match other.filter(|other| other.head().created() >= begun) {
            Some(other) => Found::Object(other),
            None => Found::OtherVariant(Some(wanted)),
        }
    }

    /// Purges all variants of a name. Tells whether there were any.
    pub(crate) fn purge_name(&self, name: u128, purge: Purge) -> bool {
        self.purges.note_name(name);
        self.purge_key(name, purge)
    }

    /// Purges all that any of the selections means. It takes a while: not for a thread on which others wait.
    pub(crate) fn purge_all_of(&self, selections: &[Selection<'_>], purge: Purge) -> Purged {
        self.purges.note(selections);
        Purged {
            on_disk: self.purge_disk(selections, purge),
            in_memory: self.store.purge(selections, purge),
        }
    }

    /// Drops what is of no use any more, now and then.
    pub(crate) async fn tend(&'static self) {
        let mut last = seconds(SystemTime::now());
        loop {
            tokio::time::sleep(SWEEP).await;
            let now = seconds(SystemTime::now());
            self.store.sweep(now);
            self.touch_disk(last);
            last = now;
        }
    }

    /// Whether what was asked for in that turn was purged since: the response may be from before. `hash` is
    /// that of the name.
    pub(super) fn is_purged(
        &self,
        hash: u128,
        name: &[u8],
        filing: &Filing,
        requested: Turn,
    ) -> bool {
        self.purges.since(hash, name, filing, requested)
    }
}

/// How long a purge waits for the disk, to tell how much there was.
const DISK_PATIENCE: Duration = Duration::from_secs(5);
/// How often what is expired, or nobody asks for, is looked for.
const SWEEP: Duration = Duration::from_secs(5);
/// A fetch that takes longer than this has others try for themselves.
pub(crate) const LONGEST_FETCH: Duration = Duration::from_secs(60);
const PREDICTORS: usize = 16;
/// Names in each of the predictors.
const REMEMBERED: usize = 1024;

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.name)
    }
}
