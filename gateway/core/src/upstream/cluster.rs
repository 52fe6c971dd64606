//! A named group of endpoints.

use std::{
    fmt,
    net::SocketAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use edgeway_sdk::{Resources, Template, template};
use http::{HeaderName, StatusCode};
use log::{info, warn};
use tokio::sync::watch;

use super::{
    balance::{self, Policy, Turn},
    breaker::{self, Breaker},
    budget::{self, Budget},
    clock,
    discovery::{Found, Source},
    endpoint::{Failed, Patience, State},
    health::Check,
    members::{Endpoint, Lease, Members},
    peer::Transport,
    queue::Queue,
    resolve::{Named, moved},
    roster::{Book, Listed, Location, Origin, Roster},
    sticky::{self, Cookie},
};
use crate::{
    config::{Condition, HostPolicy, LiveChanges, Protocol, Start, StatusRange},
    telemetry::meter::{self, Event},
};

/// An upstream as the configuration describes it, with the endpoints that it has just now.
pub(crate) struct Cluster {
    pub(crate) name: Arc<str>,
    pub(crate) settings: Settings,
    pub(crate) shared: Arc<Shared>,
    /// Of its own: who waits for the endpoints of another configuration must not hold up those who come now.
    pub(crate) queue: Arc<Queue>,
    pub(crate) source: Option<Arc<dyn Source>>,
    pub(crate) check: Option<Arc<Check>>,
    members: ArcSwap<Members>,
    written: Vec<Listed>,
    roster: Arc<Roster>,
    resources: Resources,
    changed: watch::Sender<()>,
    /// Set when it takes the place of the cluster before. Until then it changes nothing that both share.
    in_force: OnceLock<()>,
    /// What it has found before it was in force. Behind a lock that no request takes.
    early: Mutex<Option<Vec<Found>>>,
}

/// What holds for all endpoints of a cluster.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) policy: Policy,
    pub(crate) balance_by: BalanceBy,
    pub(crate) transport: Transport,
    pub(crate) patience: Patience,
    /// Answers that count as failures of the endpoint.
    pub(crate) failures: Box<[StatusRange]>,
    pub(crate) max_ejected: f64,
    pub(crate) panic_below: f64,
    pub(crate) last_resort: bool,
    pub(crate) max_connections: Option<NonZeroU32>,
    pub(crate) queue: Option<(u32, Duration)>,
    pub(crate) slow_start: Duration,
    pub(crate) sticky: Option<Sticky>,
    pub(crate) breaker: Option<Breaking>,
    pub(crate) retries: Retries,
    pub(crate) host: HostPolicy,
    pub(crate) hide_headers: Box<[HeaderName]>,
    pub(crate) live_changes: LiveChanges,
}

/// What of a request decides about its endpoint.
#[derive(Debug)]
pub(crate) enum BalanceBy {
    Nothing,
    ClientAddress,
    Value(Template),
}

/// When an upstream as a whole is not asked.
#[derive(Debug)]
pub(crate) struct Breaking {
    pub(crate) rules: breaker::Rules,
    /// Answers that count as failures.
    pub(crate) failures: Box<[StatusRange]>,
}

/// How the requests of a session find their endpoint again.
#[derive(Debug)]
pub(crate) enum Sticky {
    Cookie(Cookie, Signing),
    Header {
        name: HeaderName,
        ttl: Option<Duration>,
        signing: Signing,
    },
    Hash(Template),
}

/// What signs tokens; the key of the process if none is configured.
#[derive(Debug)]
pub(crate) struct Signing(pub(crate) Option<sticky::Key>);

/// An upstream before it has endpoints.
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) settings: Settings,
    pub(crate) source: Option<Arc<dyn Source>>,
    pub(crate) check: Option<Arc<Check>>,
    pub(crate) written: Vec<Listed>,
}

impl Settings {
    /// Whether sessions find their endpoint on a ring.
    pub(super) fn sticky_by_hash(&self) -> bool {
        matches!(self.sticky, Some(Sticky::Hash(_)))
    }

    /// What stands for this request where the balancing goes by a value.
    pub(crate) fn balance_key(&self, request: &impl template::Source) -> Option<u64> {
        match &self.balance_by {
            BalanceBy::Nothing => None,
            BalanceBy::ClientAddress => Some(balance::key::of_address(request.source().1.client)),
            BalanceBy::Value(template) => balance::key::of_values(template, request),
        }
    }

    /// What stands for the session of this request where sessions go by a value.
    pub(crate) fn session_key(&self, request: &impl template::Source) -> Option<u64> {
        match &self.sticky {
            Some(Sticky::Hash(template)) => balance::key::of_values(template, request),
            None | Some(Sticky::Cookie(..) | Sticky::Header { .. }) => None,
        }
    }

    /// How long an endpoint has for the head of its answer, where that is another time than the one
    /// between two pieces.
    pub(crate) fn first_byte(&self) -> Option<Duration> {
        self.transport.timeouts.first_byte.map(|first| first.0)
    }

    /// Whether several requests may use one connection at a time.
    pub(crate) fn shares_connections(&self) -> bool {
        self.transport.protocol != Protocol::Http1
    }

    /// Whether such an answer is a failure of the endpoint.
    pub(super) fn is_failure(&self, status: StatusCode) -> bool {
        StatusRange::any_contains(&self.failures, status)
    }

    /// Whether such an answer is a failure of the upstream as a whole.
    pub(crate) fn breaks(&self, status: StatusCode) -> bool {
        let breaking = self.breaker.as_ref();
        breaking.is_some_and(|breaking| StatusRange::any_contains(&breaking.failures, status))
    }
}

impl Sticky {
    /// What signs the tokens of these sessions; nothing where they have none.
    pub(crate) fn key<'a>(&'a self, shared: &'a Shared, upstream: &str) -> Option<&'a sticky::Key> {
        let signing = match self {
            Self::Cookie(_, signing) | Self::Header { signing, .. } => signing,
            Self::Hash(_) => return None,
        };
        let own = || {
            shared
                .random_key
                .get_or_init(|| sticky::Key::random(upstream))
        };
        Some(signing.0.as_ref().unwrap_or_else(own))
    }
}

/// When and how a request is tried again.
#[derive(Debug)]
pub(crate) struct Retries {
    pub(crate) tries: u32,
    pub(crate) on: Box<[Condition]>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) backoff: Duration,
    pub(crate) max_backoff: Duration,
    pub(crate) budget: budget::Rules,
    /// How long an endpoint may be silent before another one is asked as well.
    pub(crate) hedge_after: Option<Duration>,
}

impl Retries {
    /// Whether a request is tried again for this.
    pub(crate) fn on(&self, condition: Condition) -> bool {
        self.on.contains(&condition)
    }

    /// Whether a request is tried again after such an answer.
    pub(crate) fn on_status(&self, status: StatusCode) -> bool {
        let covers = |condition: &Condition| match condition {
            Condition::Status(range) => range.contains(status),
            Condition::Connect | Condition::Reset | Condition::Timeout => false,
        };
        self.on.iter().any(covers)
    }

    /// How long to wait before the retry of this number, the first being 1: twice as long each time,
    /// and shortened at random, so that what failed together does not come again together.
    pub(crate) fn pause(&self, retry: u32) -> Duration {
        let doubled = 1_u32
            .checked_shl(retry.saturating_sub(1))
            .unwrap_or(u32::MAX);
        let longest = self.backoff.saturating_mul(doubled).min(self.max_backoff);
        longest.mul_f64(rand::random_range(0.5..=1.0))
    }
}

/// What several requests of an upstream have to do with each other. A resource.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) primary: Arc<Turn>,
    pub(crate) backup: Arc<Turn>,
    pub(crate) breaker: Breaker,
    pub(crate) budget: Budget,
    /// What is counted of its requests and tries.
    pub(crate) meter: meter::Tries,
    /// What signs tokens where no secret is configured.
    pub(crate) random_key: OnceLock<sticky::Key>,
}

/// How many endpoints an upstream can have. They are numbered by 16 bits.
pub(crate) const MOST: usize = 10_000;

impl Cluster {
    pub(crate) fn new(plan: Plan, resources: &Resources) -> Self {
        let shared = resources.shared(&plan.name, Shared::default);
        let roster = resources.shared(&plan.name, Roster::default);
        let queue = Arc::new(Queue::default());
        let nobody = Vec::new();
        let nobody = Members::new(
            &plan.name,
            nobody,
            &plan.settings,
            &shared,
            Arc::clone(&queue),
        );
        let cluster = Self {
            members: ArcSwap::from_pointee(nobody),
            name: plan.name.into(),
            settings: plan.settings,
            shared,
            queue,
            source: plan.source,
            check: plan.check,
            written: plan.written,
            roster,
            resources: resources.clone(),
            changed: watch::Sender::new(()),
            in_force: OnceLock::new(),
            early: Mutex::default(),
        };
        cluster.rebuild(&cluster.roster.open());
        cluster
    }

    /// The endpoints of this moment.
    pub(crate) fn members(&self) -> Arc<Members> {
        self.members.load_full()
    }

    /// The endpoints that have a name to resolve.
    pub(crate) fn named(&self) -> Vec<Named> {
        let members = self.members();
        let named = members.endpoints.iter().filter_map(|endpoint| {
            let state = || Arc::clone(&endpoint.state);
            self.by_name(&endpoint.name, &endpoint.location, state)
        });
        named.collect()
    }

    /// Of endpoints that have just been found, those whose name has no address yet. It is kept if they
    /// become endpoints before what is given back is dropped.
    pub(crate) fn unresolved(&self, found: &[Found]) -> Vec<Named> {
        let named = found.iter().filter_map(|found| {
            let state = || self.state(&found.name);
            self.by_name(&found.name, &Location::of(&found.address), state)
        });
        named
            .filter(|named| named.state.address().is_none())
            .collect()
    }

    fn by_name(
        &self,
        name: &str,
        location: &Location,
        state: impl FnOnce() -> Arc<State>,
    ) -> Option<Named> {
        let Location::Name { host, port } = location else {
            return None;
        };
        Some(Named {
            upstream: Arc::clone(&self.name),
            endpoint: name.into(),
            host: host.clone(),
            port: *port,
            state: state(),
        })
    }

    /// What is known of the endpoint of this name.
    fn state(&self, endpoint: &str) -> Arc<State> {
        let name = format!("{}/{endpoint}", self.name);
        self.resources.shared(&name, State::default)
    }

    /// Looks for endpoints once, before there are requests.
    pub(crate) async fn look(&self) {
        if let Some(source) = &self.source
            && let Ok(look) = source.look().await
        {
            self.found(look.endpoints);
        }
    }

    /// What signs the tokens of sessions; nothing where they have none.
    pub(crate) fn signing_key(&self) -> Option<&sticky::Key> {
        let sticky = self.settings.sticky.as_ref()?;
        sticky.key(&self.shared, &self.name)
    }

    /// Tells of each change of the endpoints from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Takes the place of the cluster of the same name in the configuration before.
    pub(crate) fn enter_service(&self) {
        self.in_force.get_or_init(|| ());
        let early = self.early().take();
        self.update(|book| {
            if self.settings.live_changes == LiveChanges::Forget {
                book.forget_changes();
            }
            if let Some(found) = early {
                self.note(book, found);
            }
        });
    }

    /// Tells what discovery has found. Before the cluster is in force it keeps that to itself: the
    /// cluster before, which may stay, goes by the book.
    pub(crate) fn found(&self, found: Vec<Found>) {
        if self.in_force.get().is_some() {
            return self.update(|book| self.note(book, found));
        }
        *self.early() = Some(found);
        self.rebuild(&self.roster.open());
    }

    fn note(&self, book: &mut Book, found: Vec<Found>) {
        book.found = self.described().map(|source| (source, found));
    }

    /// What its source is called, by which it is known in the book.
    pub(super) fn described(&self) -> Option<String> {
        self.source.as_ref().map(|source| source.describe())
    }

    fn early(&self) -> MutexGuard<'_, Option<Vec<Found>>> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an operator has changed what the configuration and discovery say.
    pub(crate) fn is_changed(&self) -> bool {
        !self.roster.open().is_untouched()
    }

    /// The names of the endpoints that an operator has removed, in the order of that.
    pub(crate) fn removed(&self) -> Vec<String> {
        self.roster.open().removed.iter().cloned().collect()
    }

    /// Changes which endpoints there are, or what is said of them.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Book)) {
        let mut book = self.roster.open();
        change(&mut book);
        self.rebuild(&book);
        self.introduce(&mut book);
        drop(book);
        self.changed.send_replace(());
    }

    /// Builds the members anew.
    fn rebuild(&self, book: &Book) {
        let source = self.described();
        let early = self.early();
        let found = early
            .as_deref()
            .unwrap_or_else(|| book.found_by(source.as_deref()));
        let listed = book.apply(&self.written, found);
        let endpoints = listed.into_iter().take(MOST);
        let endpoints = endpoints.map(|listed| self.endpoint(listed)).collect();
        let queue = Arc::clone(&self.queue);
        let members = Members::new(&self.name, endpoints, &self.settings, &self.shared, queue);
        self.members.store(Arc::new(members));
    }

    /// Tells endpoints what is said of them. Those that were not there before start slowly, but for the
    /// first of an upstream: somebody has to take the load.
    fn introduce(&self, book: &mut Book) {
        let (members, now) = (self.members(), clock::now());
        let first = book.in_service.is_empty();
        for endpoint in &members.endpoints {
            endpoint.state.set_mode(endpoint.mode, now);
            match &self.check {
                Some(check) => endpoint.state.expect_probe(check.start == Start::Unhealthy),
                None => endpoint.state.forget_probe(),
            }
            if !first && !book.in_service.contains(&endpoint.name) {
                endpoint.state.entered_service(now);
            }
        }
        let names = members
            .endpoints
            .iter()
            .map(|endpoint| Arc::clone(&endpoint.name));
        book.in_service = names.collect();
    }

    fn endpoint(&self, listed: Listed) -> Endpoint {
        let state = self.state(&listed.name);
        // What was found by a name has only an address of its own.
        let found = listed.origin == Origin::Discovery;
        let source = self.source.as_ref().filter(|_| found);
        let host = source.and_then(|source| source.host());
        if let Location::Address(address) = listed.location {
            state.found(address);
        }
        let most = listed.max_connections.or(self.settings.max_connections);
        Endpoint {
            template: self.settings.transport.template(&listed.location, host),
            name: listed.name.into(),
            location: listed.location,
            weight: listed.weight,
            backup: listed.backup,
            max_connections: most.map_or(0, NonZeroU32::get),
            mode: listed.mode,
            origin: listed.origin,
            state,
        }
    }

    /// What is counted of its requests and tries.
    pub(crate) fn meter(&self) -> &meter::Tries {
        &self.shared.meter
    }

    /// Whether the budget has a retry left. Takes it.
    pub(crate) fn may_retry(&self, now: u64) -> bool {
        let budget = &self.shared.budget;
        let may = budget.take(&self.settings.retries.budget, now);
        if !may {
            self.meter().event(Event::OverBudget);
        }
        may
    }

    /// Notes that an endpoint has answered a request that was sent at `began`.
    pub(crate) fn answered(&self, lease: &Lease, began: u64, status: StatusCode) {
        let now = clock::now();
        let first_byte = Duration::from_micros(now.saturating_sub(began));
        self.meter().answered(status, first_byte);
        lease.endpoint().state.meter.answered(status, first_byte);
        if self.settings.is_failure(status) {
            let reason = format_args!("it has answered {}", status.as_u16());
            self.failed(lease, began, &reason);
        } else {
            self.succeeded(lease, now, began);
        }
    }

    fn succeeded(&self, lease: &Lease, now: u64, began: u64) {
        let endpoint = lease.endpoint();
        let load = &endpoint.state.load;
        load.latency.note(now, now.saturating_sub(began));
        if endpoint
            .state
            .succeeded(&self.settings.patience, now, began)
        {
            info!(
                "endpoint is back: upstream={} endpoint={}",
                self.name, endpoint.name
            );
        }
    }

    /// Notes that nobody waits any more for the answer to a request that was sent at `began`: the endpoint is
    /// not to blame, but it is no faster than that.
    pub(crate) fn given_up(&self, lease: &Lease, began: u64) {
        let now = clock::now();
        let load = &lease.endpoint().state.load;
        load.latency.at_least(now, now.saturating_sub(began));
    }

    /// Notes that there is no connection to an endpoint at this address. Whether its name has another one
    /// that was not tried yet.
    pub(crate) fn unreachable(&self, endpoint: &Endpoint, at: SocketAddr) -> bool {
        if let Some(next) = endpoint.state.turn_from(at) {
            moved(&self.name, &endpoint.name, next);
        }
        endpoint.state.is_elsewhere(at)
    }

    /// Notes that an endpoint has not answered a request that was sent at `began`.
    pub(crate) fn lost(&self, lease: &Lease, began: u64, event: Event, reason: &dyn fmt::Display) {
        self.meter().event(event);
        lease.endpoint().state.meter.event(event);
        self.failed(lease, began, reason);
    }

    /// Notes that an endpoint has failed a request that was sent at `began`.
    fn failed(&self, lease: &Lease, began: u64, reason: &dyn fmt::Display) {
        let (endpoint, now) = (lease.endpoint(), clock::now());
        let may_leave = || lease.members().may_eject(&self.settings);
        let failed = endpoint
            .state
            .failed(&self.settings.patience, now, began, may_leave);
        if let Failed::LeftOut(time) = failed {
            endpoint.state.meter.event(Event::LeftOut);
            self.meter().event(Event::LeftOut);
            warn!(
                "endpoint is left out: upstream={} endpoint={} for={time:?} reason={reason}",
                self.name, endpoint.name
            );
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
