//! Limits how many requests may pass, by whom they come from.
//!
//! * [`gcra`]: the algorithm: what becomes of a request, given what is known of its key.
//! * [`table`]: what is known of all keys, in memory of a fixed size that threads share without locks.
//! * [`counts`]: tables as they outlive a reload, also one that changes the limit.
//! * [`store`]: a Redis where several gateways count together; without its answer a gateway counts alone.
//! * [`headers`]: what clients are told of it.
//!
//! Keys are those of [`limit_key`](crate::limit_key). A request that has to wait for its turn is counted
//! when it comes, and waits outside of the filter.

mod config;
mod counts;
mod gcra;
mod headers;
mod store;
mod table;

#[cfg(test)]
mod tests;

use std::{fmt::Write as _, sync::Arc, time::Duration};

use blake2::{Blake2s256, Digest};
use edgeway_sdk::prelude::*;
use ipnet::IpNet;
use smallvec::SmallVec;

pub(crate) use self::config::{Config, DOC};
use self::{
    config::{LimitConfig, OnStoreError},
    counts::Counts,
    gcra::{Gcra, Nanos, seconds},
    headers::{Left, Speaker, Told},
    store::{Count, Counted, Store},
    table::Table,
};
use crate::limit_key::LimitKey;

/// Limits how many requests may pass.
pub(crate) struct RateLimit {
    limits: Box<[Limit]>,
    allow: Box<[IpNet]>,
    status: u16,
    /// What clients are told of the limits, if they are.
    policies: Option<HeaderValue>,
    shared: Option<Shared>,
}

struct Limit {
    gcra: Gcra,
    key: LimitKey,
    label: String,
    quoted: Arc<str>,
    /// `10/s with a burst of 20`.
    written: String,
    counts: Arc<Counts>,
    table: Arc<Table>,
    /// What its keys begin with in a store.
    prefix: String,
}

/// Where several gateways count together.
struct Shared {
    store: Arc<Store>,
    patience: Duration,
    on_error: OnStoreError,
    /// What the store is told of each limit.
    limits: Arc<[[String; 3]]>,
}

/// What a limit makes of a request.
#[derive(Clone, Copy)]
struct Measured {
    /// Of one that passes, how long it is until its turn; of another, until there is room for it.
    time: Nanos,
    /// When the level is zero.
    empty_at: Nanos,
    now: Nanos,
}

/// What all limits make of a request that passes.
#[derive(Default)]
struct Admitted {
    wait: Nanos,
    /// What there is to tell the client.
    left: Option<Left>,
}

/// A request that a limit has no room for.
struct Full {
    /// The limit's place.
    limit: usize,
    retry: Nanos,
    left: Option<Left>,
}

pub(crate) fn build(mut config: Config, build: &mut Build<'_>) -> Result<RateLimit, BuildError> {
    let memory = config.bytes()?;
    let limits = config.limits()?;
    let limit =
        |(place, limit): (String, LimitConfig)| Limit::new(limit, &place, memory, &config, build);
    let limits = limits
        .into_iter()
        .map(limit)
        .collect::<Result<Box<[_]>, _>>()?;
    no_twins(&limits)?;
    let policies = headers::policies(limits.iter().map(|limit| (&limit.quoted, &limit.gcra)))?;
    // Who is not limited need not heed anything.
    let tells = config.headers && !build.reports();
    Ok(RateLimit {
        shared: Shared::new(&config, &limits, build)?,
        limits,
        allow: config.allow.iter().map(|network| network.0).collect(),
        status: config.status.0,
        policies: tells.then_some(policies),
    })
}

/// Refuses limits that would count a request twice.
fn no_twins(limits: &[Limit]) -> Result<(), BuildError> {
    for (at, limit) in limits.iter().enumerate() {
        let is_twin =
            |other: &Limit| other.prefix == limit.prefix || Arc::ptr_eq(&other.table, &limit.table);
        if limits.iter().take(at).any(is_twin) {
            let message = "this limit counts the same as one before it";
            return Err(BuildError::at(format!("limits.{at}"), message)
                .help("give it another rate, another key or a name of its own"));
        }
    }
    Ok(())
}

impl Limit {
    fn new(
        limit: LimitConfig,
        place: &str,
        memory: u64,
        config: &Config,
        build: &Build<'_>,
    ) -> Result<Self, BuildError> {
        let gcra = limit.gcra(place)?;
        let label = limit.label();
        let rate = config::written(limit.rate);
        let identity = match &limit.name {
            Some(name) => format!("name {}", name.0),
            None => format!("{:?} {:?} {}", build.place(), limit.key, config.ipv6_prefix),
        };
        let counts = build
            .resources()
            .shared(&format!("rate_limit {identity}"), Counts::new);
        let identity = match limit.name {
            Some(_) => identity,
            // Of the limits of a place and a key, each has a table by its rate; a store has to be told.
            None => format!("{identity} {rate}"),
        };
        Ok(Self {
            key: LimitKey::new(limit.key, config.ipv6_prefix),
            quoted: headers::quoted(&label),
            written: format!("{rate} with a burst of {}", gcra.burst),
            table: counts.table(memory, &gcra),
            counts,
            prefix: format!("edgeway:limit:{label}:{identity}\0"),
            label,
            gcra,
        })
    }

    /// Counts a request if there is room for it; else that is the error.
    fn charge(&self, hash: u64) -> Result<Measured, Measured> {
        let now = self.counts.now();
        let mut charged = Ok(Measured {
            time: 0,
            empty_at: 0,
            now,
        });
        let written = self.table.update(hash, now, |empty_at| {
            charged = self.measure(empty_at, now);
            charged.map(|measured| measured.empty_at)
        });
        written.and(charged)
    }

    fn measure(&self, empty_at: Nanos, now: Nanos) -> Result<Measured, Measured> {
        let measured = |time, empty_at| Measured {
            time,
            empty_at,
            now,
        };
        match self.gcra.arrive(empty_at, now) {
            Ok(pass) => Ok(measured(pass.wait, pass.empty_at)),
            Err(retry) => Err(measured(retry, empty_at)),
        }
    }

    /// What becomes of a request that was counted elsewhere.
    fn measure_level(&self, millionths: u64, passes: bool) -> Measured {
        let (gcra, debt) = (&self.gcra, self.gcra.debt(millionths));
        let over = gcra.arrive(debt, 0).err();
        // Another gateway may know the limit by other numbers. Nobody waits for longer than ours allow.
        let longest = u64::from(gcra.burst - gcra.at_once) * gcra.interval;
        let wait = debt
            .saturating_sub(u64::from(gcra.at_once) * gcra.interval)
            .min(longest);
        Measured {
            time: if passes { wait } else { over.unwrap_or(0) },
            empty_at: if passes { gcra.note(debt, 0) } else { debt },
            now: 0,
        }
    }

    /// Takes a request back that another limit had no room for.
    fn refund(&self, hash: u64) {
        let refund = |empty_at| Ok::<_, ()>(self.gcra.refund(empty_at));
        // It never fails.
        self.table.update(hash, self.counts.now(), refund).ok();
    }

    /// Counts a request that others have let pass.
    fn note(&self, hash: u64) {
        let now = self.counts.now();
        let note = |empty_at| Ok::<_, ()>(self.gcra.note(empty_at, now));
        self.table.update(hash, now, note).ok();
    }

    /// The key of a request in a store, of which nobody learns more than whether it is the same one.
    fn store_key(&self, request: &Request<'_>) -> Vec<u8> {
        let mut digest = Blake2s256::new();
        digest.update(self.prefix.as_bytes());
        digest.update(self.key.bytes(request));
        let digest = digest.finalize();
        let mut key = format!("edgeway:limit:{}:", self.label);
        for byte in digest.iter().take(16) {
            // Writing to a string does not fail.
            write!(key, "{byte:02x}").ok();
        }
        key.into_bytes()
    }
}

impl Shared {
    fn new(
        config: &Config,
        limits: &[Limit],
        build: &Build<'_>,
    ) -> Result<Option<Self>, BuildError> {
        let (patience, on_error) = config.store_rules()?;
        let Some(url) = &config.store else {
            return Ok(None);
        };
        let name = format!("rate_limit store {}", url.reveal());
        let store = build.resources().try_shared(&name, || Store::new(url));
        let told = |Limit { gcra, .. }: &Limit| {
            let microseconds = gcra.interval as f64 / 1_000.0;
            [
                microseconds.to_string(),
                (u64::from(gcra.burst) + 1).to_string(),
                gcra.cost.to_string(),
            ]
        };
        Ok(Some(Self {
            store: store.map_err(|error| BuildError::at("store", error))?,
            patience,
            on_error,
            limits: limits.iter().map(told).collect(),
        }))
    }
}

#[async_trait]
impl Filter for RateLimit {
    /// What is counted is counted by keys: whom it has held back, its refusals tell.
    fn limit(&self) -> Option<Vec<(&'static str, f64)>> {
        Some(Vec::new())
    }

    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        let client = request.client().to_canonical();
        if self.allow.iter().any(|network| network.contains(&client)) {
            return Ok(Flow::Continue);
        }
        let decided = match &self.shared {
            None => self.count(request),
            Some(shared) => match self.count_together(shared, request).await {
                Some(decided) => decided,
                None => match shared.on_error {
                    OnStoreError::Local => self.count(request),
                    OnStoreError::Open => return Ok(Flow::Continue),
                    OnStoreError::Closed => return Ok(uncounted().into()),
                },
            },
        };
        Ok(self.conclude(request, decided))
    }

    fn response(&self, response: &mut Response<'_>) -> Result<()> {
        Told::tell(response, Speaker::at(self));
        Ok(())
    }

    fn offline(&self, _: &Request<'_>) -> Offline {
        match self.shared {
            Some(_) => Offline::Needs("the store"),
            None => Offline::Decides,
        }
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST | Hooks::RESPONSE.only_if(self.policies.is_some())
    }
}

impl RateLimit {
    /// Counts a request by all limits of this process, or by none.
    fn count(&self, request: &Request<'_>) -> Result<Admitted, Full> {
        let hashes = self.hashes(request);
        if self.limits.len() > 1 {
            // Looked at first, so that hardly ever something is charged and taken back.
            self.look(&hashes)?;
        }
        let mut admitted = Admitted::default();
        for (at, (limit, hash)) in self.limits.iter().zip(&hashes).enumerate() {
            match limit.charge(*hash) {
                Ok(measured) => self.admit(&mut admitted, at, measured),
                Err(measured) => {
                    let charged = self.limits.iter().zip(&hashes).take(at);
                    charged.for_each(|(limit, hash)| limit.refund(*hash));
                    return Err(self.full(at, measured));
                }
            }
        }
        Ok(admitted)
    }

    /// Whether all limits have room for a request; if not, which is the last to have it.
    fn look(&self, hashes: &[u64]) -> Result<(), Full> {
        let limits = self.limits.iter().zip(hashes).enumerate();
        let refused = limits.filter_map(|(at, (limit, hash))| {
            let measured = limit.measure(limit.table.find(*hash), limit.counts.now());
            measured.err().map(|measured| (at, measured))
        });
        match refused.max_by_key(|(_, measured)| measured.time) {
            Some((at, measured)) => Err(self.full(at, measured)),
            None => Ok(()),
        }
    }

    /// Has the store count a request; none if it can't be asked.
    async fn count_together(
        &self,
        shared: &Shared,
        request: &Request<'_>,
    ) -> Option<Result<Admitted, Full>> {
        let count = Count {
            keys: self
                .limits
                .iter()
                .map(|limit| limit.store_key(request))
                .collect(),
            limits: Arc::clone(&shared.limits),
        };
        let counted = shared.store.count(&count, shared.patience).await?;
        if counted.passes {
            // So that nobody begins anew when the store goes away.
            for (limit, hash) in self.limits.iter().zip(self.hashes(request)) {
                limit.note(hash);
            }
        }
        Some(self.judge(&counted))
    }

    /// What the store has decided, as if it had been decided here.
    fn judge(&self, counted: &Counted) -> Result<Admitted, Full> {
        let limits = self.limits.iter().zip(&counted.levels).enumerate();
        let measured =
            limits.map(|(at, (limit, level))| (at, limit.measure_level(*level, counted.passes)));
        if counted.passes {
            let mut admitted = Admitted::default();
            measured.for_each(|(at, measured)| self.admit(&mut admitted, at, measured));
            return Ok(admitted);
        }
        match measured.max_by_key(|(_, measured)| measured.time) {
            Some((at, measured)) => Err(self.full(at, measured)),
            None => Ok(Admitted::default()),
        }
    }

    fn hashes(&self, request: &Request<'_>) -> SmallVec<[u64; 2]> {
        let hash = |limit: &Limit| limit.key.hash(request, limit.counts.random());
        self.limits.iter().map(hash).collect()
    }

    fn admit(&self, admitted: &mut Admitted, limit: usize, measured: Measured) {
        admitted.wait = admitted.wait.max(measured.time);
        let left = self.left(limit, measured);
        admitted.left = match (admitted.left.take(), left) {
            (Some(known), Some(left)) => Some(known.tighter(left)),
            (known, left) => known.or(left),
        };
    }

    fn full(&self, limit: usize, measured: Measured) -> Full {
        Full {
            limit,
            retry: measured.time,
            left: self.left(limit, measured),
        }
    }

    fn left(&self, limit: usize, measured: Measured) -> Option<Left> {
        self.policies.as_ref()?;
        let Limit { quoted, gcra, .. } = self.limits.get(limit)?;
        Some(Left::new(quoted, gcra, measured.empty_at, measured.now))
    }

    fn conclude(&self, request: &mut Request<'_>, decided: Result<Admitted, Full>) -> Flow {
        let (flow, left) = match decided {
            Ok(Admitted { wait: 0, left }) => (Flow::Continue, left),
            Ok(Admitted { wait, left }) => (Flow::Delay(Duration::from_nanos(wait)), left),
            Err(full) => (self.refuse(request, &full).into(), full.left),
        };
        if let (Some(policies), Some(left)) = (&self.policies, left) {
            Told::add(request, Speaker::at(self), policies, left);
        }
        flow
    }

    fn refuse(&self, request: &Request<'_>, full: &Full) -> Reply {
        let seconds = seconds(full.retry).max(1);
        let reply = Reply::new(self.status)
            .header(header::RETRY_AFTER, seconds)
            .detail(format!("Too many requests: try again in {seconds} s."));
        let Some(limit) = self.limits.get(full.limit) else {
            return reply;
        };
        reply
            .because(format!("more than {}", limit.written))
            .rule(limit.label.clone())
            .key(limit.key.text(request))
    }
}

/// The reply to a request that can't be counted, where nothing passes uncounted.
fn uncounted() -> Reply {
    Reply::new(503)
        .header(header::RETRY_AFTER, 1)
        .because("the store of limits can't be asked")
        .rule("store")
}
