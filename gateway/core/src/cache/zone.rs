//! Zones: stores of responses that have a name, are shared by routes, and outlive snapshots.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use http::HeaderMap;
use pingora::cache::{
    lock::CacheKeyLockImpl,
    predictor::{CacheablePredictor, Predictor},
};

use super::{
    count::Counters,
    head::Head,
    key::{Name, Variant},
    lock::FetchLock,
    memory::{Filing, Limits, Object, Purge, Selection, Store},
    policy::storable::Reason,
    purges::Purges,
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
    OtherVariant,
    Nothing,
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
            self.named(&spec.name).store.resize(spec.limits, now);
        }
        let wanted = |name: &str| specs.iter().any(|spec| *spec.name == *name);
        for (_, zone) in self.all().iter().filter(|(name, _)| !wanted(name)) {
            zone.store.resize(NOTHING, now);
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
            return Found::OtherVariant;
        };
        // Those that are older than their family were purged with the one before it.
        let begun = first.head().begun();
        let other = self.store.find(&name.key(Some(&wanted)), now);
        match other.filter(|other| other.head().created() >= begun) {
            Some(other) => Found::Object(other),
            None => Found::OtherVariant,
        }
    }

    /// Purges all variants of a name. Tells whether there were any.
    pub(crate) fn purge_name(&self, name: u128, purge: Purge) -> bool {
        self.purges.note_name(name, SystemTime::now());
        self.store.purge_key(name, purge)
    }

    /// Purges all that any of the selections means, and tells how many objects there were, each variant being
    /// one. It takes a while: not for a thread on which others wait.
    pub(crate) fn purge_all_of(&self, selections: &[Selection<'_>], purge: Purge) -> usize {
        self.purges.note(selections, SystemTime::now());
        self.store.purge(selections, purge)
    }

    /// Drops what is of no use any more, now and then.
    pub(crate) async fn tend(&'static self) {
        loop {
            tokio::time::sleep(SWEEP).await;
            self.store.sweep(seconds(SystemTime::now()));
        }
    }

    /// Whether what was asked for at that time was purged since: the response may be from before. `hash` is
    /// that of the name.
    pub(super) fn is_purged(
        &self,
        hash: u128,
        name: &[u8],
        filing: &Filing,
        requested: SystemTime,
    ) -> bool {
        self.purges.since(hash, name, filing, requested)
    }
}

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
