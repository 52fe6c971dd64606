//! The endpoints of an upstream at one moment, and which of them serves a request.

use std::{
    cell::Cell,
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use pingora::upstreams::peer::HttpPeer;
use smallvec::SmallVec;

use super::{
    balance::{Field, Member, Policy, Tier},
    cluster::{Settings, Shared},
    endpoint::{State, Verdict},
    peer::{self, Introduction},
    queue::Queue,
    roster::{Location, Origin},
    sticky::Id,
};
use crate::config::Mode;

/// One address behind the gateway.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// As it is written: `product-1:8080`.
    pub(crate) name: Arc<str>,
    pub(crate) location: Location,
    pub(crate) weight: u16,
    pub(crate) backup: bool,
    /// 0 if there is no limit.
    pub(crate) max_connections: u32,
    pub(crate) mode: Mode,
    pub(crate) origin: Origin,
    pub(super) template: HttpPeer,
    pub(crate) state: Arc<State>,
}

/// The endpoints of an upstream at one moment. A request keeps to those that were there when it came.
pub(crate) struct Members {
    pub(crate) endpoints: Box<[Endpoint]>,
    primary: Tier,
    backup: Tier,
    /// The same endpoints on rings, where sessions are found by hash.
    rings: Option<[Tier; 2]>,
    /// By what their tokens name them.
    by_id: HashMap<Id, u16>,
    census: Census,
    queue: Arc<Queue>,
}

/// The endpoints that a request was sent to already.
pub(crate) type Tried = SmallVec<[u16; 4]>;

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want<'a> {
    pub(crate) tried: &'a [u16],
    /// Of what the balancing goes by.
    pub(crate) key: Option<u64>,
    /// Of what its session goes by.
    pub(crate) session_key: Option<u64>,
    /// The endpoint of its session.
    pub(crate) session: Option<u16>,
    pub(crate) now: u64,
}

/// What came of asking for an endpoint.
#[derive(Debug)]
pub(crate) enum Picked {
    Endpoint(Lease),
    /// Those that could serve have as many requests as they may.
    Full,
    /// None may serve, or none has an address.
    Nobody,
}

/// A request's place at an endpoint, which it gives up when it is dropped.
pub(crate) struct Lease {
    members: Arc<Members>,
    number: u16,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.endpoint().name)
    }
}

impl Lease {
    pub(crate) fn endpoint(&self) -> &Endpoint {
        self.members.endpoint(self.number)
    }

    pub(crate) fn members(&self) -> &Arc<Members> {
        &self.members
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// How to reach the endpoint for a client, who is introduced where the upstream wants it; none if its
    /// address has been lost meanwhile.
    pub(crate) fn peer(&self, client: Option<&Introduction>) -> Option<Box<HttpPeer>> {
        let mut peer = Box::new(self.endpoint().peer()?);
        if let Some(introduction) = client {
            introduction.put_into(&mut peer);
        }
        Some(peer)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint().state.load.leave();
        self.members.queue.freed();
    }
}

/// Who may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// Those that are well.
    Well,
    /// Those that are well, or drain: the session is there.
    Session,
    /// Those that are well. None of them is tried whether it is well again.
    Spare,
    /// All that an operator has not taken out: it is more likely that we are wrong than that refusing
    /// helps.
    Any,
    /// Of these, those that were asked already.
    Again,
}

impl Members {
    pub(super) fn new(
        upstream: &str,
        endpoints: Vec<Endpoint>,
        settings: &Settings,
        shared: &Shared,
        queue: Arc<Queue>,
    ) -> Self {
        let tier = |backup: bool, policy: Policy| {
            let members: Vec<_> = endpoints
                .iter()
                .zip(0..)
                .filter(|(endpoint, _)| endpoint.backup == backup)
                .map(|(endpoint, number)| Member {
                    number,
                    weight: endpoint.weight,
                    name: &endpoint.name,
                })
                .collect();
            let turn = if backup {
                &shared.backup
            } else {
                &shared.primary
            };
            Tier::new(policy, &members, Arc::clone(turn))
        };
        let ring = Policy::Hash { bound: None };
        let rings = settings
            .sticky_by_hash()
            .then(|| [tier(false, ring), tier(true, ring)]);
        let (primary, backup) = (tier(false, settings.policy), tier(true, settings.policy));
        let by_id = match settings
            .sticky
            .as_ref()
            .and_then(|sticky| sticky.key(shared, upstream))
        {
            Some(key) => endpoints
                .iter()
                .zip(0..)
                .map(|(endpoint, number)| (key.id(&endpoint.name), number))
                .collect(),
            None => HashMap::new(),
        };
        Self {
            endpoints: endpoints.into(),
            primary,
            backup,
            rings,
            by_id,
            census: Census::default(),
            queue,
        }
    }

    /// The endpoint of this number.
    pub(crate) fn endpoint(&self, number: u16) -> &Endpoint {
        &self.endpoints[usize::from(number)]
    }

    /// The endpoint of this name.
    pub(crate) fn of_name(&self, name: &str) -> Option<u16> {
        let mut numbered = self.endpoints.iter().zip(0..);
        let found = numbered.find(|(endpoint, _)| *endpoint.name == *name);
        found.map(|(_, number)| number)
    }

    /// The endpoint that a token names.
    pub(crate) fn by_id(&self, id: Id) -> Option<u16> {
        self.by_id.get(&id).copied()
    }

    /// Whether an endpoint is left that was not tried and may be asked.
    pub(crate) fn has_untried(&self, settings: &Settings, tried: &[u16]) -> bool {
        let mut others = (0..).zip(&self.endpoints);
        others.any(|(number, endpoint): (u16, _)| {
            !tried.contains(&number) && endpoint.may_be_next(settings)
        })
    }

    /// An endpoint for a request.
    ///
    /// That of its session, if it may serve; a request waits for it where the upstream has a queue, and
    /// is served elsewhere this once where it has none. Then those that are well and were not tried, the backups
    /// after the others. If none is, or too few are, any that was not tried; at last one that was.
    pub(crate) fn pick(self: &Arc<Self>, settings: &Settings, want: Want<'_>) -> Picked {
        if let Some(number) = want.session {
            let full = Cell::new(false);
            let field = self.candidates(settings, want, Level::Session, &full);
            if field.usable(number) {
                return self.lease(number);
            }
            if full.get() && settings.queue.is_some() {
                return Picked::Full;
            }
        }
        self.pick_at(self.levels(settings, want), settings, want)
    }

    /// One more endpoint for a request that is under way: one that is well and was not tried, if there is
    /// one with room.
    pub(super) fn pick_spare(
        self: &Arc<Self>,
        settings: &Settings,
        want: Want<'_>,
    ) -> Option<Lease> {
        match self.pick_at(&[Level::Spare], settings, want) {
            Picked::Endpoint(lease) => Some(lease),
            Picked::Full | Picked::Nobody => None,
        }
    }

    fn pick_at(self: &Arc<Self>, levels: &[Level], settings: &Settings, want: Want<'_>) -> Picked {
        let full = Cell::new(false);
        for level in levels {
            let field = self.candidates(settings, want, *level, &full);
            let tiers = match (&self.rings, want.session_key) {
                (Some(rings), Some(key)) => [(&rings[0], Some(key)), (&rings[1], Some(key))],
                _ => [(&self.primary, want.key), (&self.backup, want.key)],
            };
            for (tier, key) in tiers {
                if let Some(number) = tier.pick(&field, key) {
                    return self.lease(number);
                }
                // The others wait for the first: a backup is for when they are down, not busy.
                if full.get() {
                    return Picked::Full;
                }
            }
        }
        Picked::Nobody
    }

    fn candidates<'a>(
        &'a self,
        settings: &'a Settings,
        want: Want<'a>,
        level: Level,
        full: &'a Cell<bool>,
    ) -> Candidates<'a> {
        Candidates {
            members: self,
            settings,
            want,
            level,
            full,
        }
    }

    /// The place that was taken at an endpoint.
    fn lease(self: &Arc<Self>, number: u16) -> Picked {
        Picked::Endpoint(Lease {
            members: Arc::clone(self),
            number,
        })
    }

    fn levels(&self, settings: &Settings, want: Want<'_>) -> &'static [Level] {
        if !settings.last_resort {
            return &[Level::Well];
        }
        let panics = settings.panic_below > 0.0
            && self.census.panics(want.now, || {
                self.share_of_well(settings) < settings.panic_below
            });
        match (panics, want.tried.is_empty()) {
            (true, true) => &[Level::Any],
            (true, false) => &[Level::Any, Level::Again],
            (false, true) => &[Level::Well, Level::Any],
            (false, false) => &[Level::Well, Level::Any, Level::Again],
        }
    }

    /// How many of the endpoints that are no backups are well.
    fn share_of_well(&self, settings: &Settings) -> f64 {
        let (mut all, mut well) = (0_u32, 0_u32);
        for endpoint in self.endpoints.iter().filter(|endpoint| !endpoint.backup) {
            all += 1;
            well +=
                u32::from(endpoint.is_reachable() && endpoint.state.is_well(&settings.patience));
        }
        if all == 0 {
            return 1.0;
        }
        f64::from(well) / f64::from(all)
    }

    /// Whether one more endpoint may be left out.
    pub(crate) fn may_eject(&self, settings: &Settings) -> bool {
        if settings.max_ejected >= 1.0 {
            return true;
        }
        let out = self
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.state.is_out(&settings.patience))
            .count();
        // One may always be left out: a cap that permits none would be no detection at all.
        out == 0 || (out + 1) as f64 <= settings.max_ejected * self.endpoints.len() as f64
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.endpoints).finish()
    }
}

/// The endpoints as a policy sees them, for one request.
struct Candidates<'a> {
    members: &'a Members,
    settings: &'a Settings,
    want: Want<'a>,
    level: Level,
    /// Set when somebody could have served but for the number of requests it has.
    full: &'a Cell<bool>,
}

impl Candidates<'_> {
    fn may_serve(&self, endpoint: &Endpoint) -> bool {
        let (patience, now) = (&self.settings.patience, self.want.now);
        match self.level {
            Level::Well => endpoint.state.may_serve(patience, now),
            Level::Session => endpoint.state.may_serve_session(patience, now),
            Level::Spare => endpoint.state.is_well(patience),
            Level::Any | Level::Again => endpoint.state.may_be_asked(),
        }
    }
}

impl Field for Candidates<'_> {
    /// Takes a place at the endpoint if it may serve.
    fn usable(&self, number: u16) -> bool {
        let endpoint = self.members.endpoint(number);
        let again = self.level == Level::Again;
        if self.want.tried.contains(&number) != again || !endpoint.is_reachable() {
            return false;
        }
        if !endpoint.state.load.try_enter(endpoint.max_connections) {
            let would_serve = match self.level {
                Level::Well | Level::Spare => endpoint.state.is_well(&self.settings.patience),
                Level::Session => endpoint.keeps_sessions(self.settings),
                Level::Any | Level::Again => true,
            };
            self.full.set(self.full.get() || would_serve);
            return false;
        }
        let serves = self.may_serve(endpoint);
        if !serves {
            endpoint.state.load.withdraw();
        }
        serves
    }

    fn active(&self, number: u16) -> u32 {
        self.members.endpoint(number).state.load.active()
    }

    fn latency(&self, number: u16) -> f64 {
        self.members
            .endpoint(number)
            .state
            .load
            .latency
            .get(self.want.now)
    }

    fn ease(&self, number: u16) -> f64 {
        let state = &self.members.endpoint(number).state;
        state.ease(self.want.now, self.settings.slow_start)
    }
}

/// Whether too few endpoints are well, counted now and then.
#[derive(Debug, Default)]
struct Census {
    due: AtomicU64,
    panics: AtomicBool,
}

/// How long a count holds, in microseconds. Counting for every request would cost more than it is worth.
const COUNT: u64 = 20_000;

impl Census {
    fn panics(&self, now: u64, count: impl FnOnce() -> bool) -> bool {
        let due = self.due.load(Ordering::Relaxed);
        let mine = now >= due
            && self
                .due
                .compare_exchange(due, now + COUNT, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if mine {
            self.panics.store(count(), Ordering::Relaxed);
        }
        self.panics.load(Ordering::Relaxed)
    }
}

impl Endpoint {
    /// How to reach it for nobody but ourselves; none while its name is not resolved.
    pub(crate) fn peer(&self) -> Option<HttpPeer> {
        match self.location {
            Location::Address(_) | Location::Unix(_) => Some(self.template.clone()),
            Location::Name { .. } => Some(peer::at(&self.template, self.state.address()?)),
        }
    }

    /// Whether a request that has failed elsewhere would be sent here. Changes nothing.
    fn may_be_next(&self, settings: &Settings) -> bool {
        let full = self.max_connections != 0 && self.state.load.active() >= self.max_connections;
        let willing = if settings.last_resort {
            self.state.may_be_asked()
        } else {
            self.state.is_well(&settings.patience)
        };
        willing && self.is_reachable() && (!full || settings.queue.is_some())
    }

    /// Whether its sessions stay, though it may have no room for them just now. Changes nothing.
    pub(crate) fn keeps_sessions(&self, settings: &Settings) -> bool {
        let ill = matches!(self.state.verdict(), Verdict::Ill | Verdict::Doubted);
        let out = ill || self.state.is_out(&settings.patience);
        self.state.mode() != Mode::Maintenance && !out && self.is_reachable()
    }

    /// Whether it is known where it is.
    pub(crate) fn is_reachable(&self) -> bool {
        match self.location {
            Location::Address(_) | Location::Unix(_) => true,
            Location::Name { .. } => self.state.address().is_some(),
        }
    }
}
