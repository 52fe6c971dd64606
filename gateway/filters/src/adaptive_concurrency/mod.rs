//! Lets as many requests wait for an upstream as it can serve without getting slow, and finds out how many that are.
//!
//! An upstream that is sent more than it can serve makes all of its callers wait. This filter watches how long
//! answers take. While they take no longer than they do without load, it lets more requests through at the same
//! time; when they take longer, fewer. What is above the limit is refused at once with 503, so that those who
//! are let through are served as fast as ever.
//!
//! **How.** Every `window`, the limit becomes `limit * gradient + sqrt(limit)`. The gradient is how long an answer takes
//! without load, and a `buffer` on top, divided by how long it takes now (the median of each); it is never less
//! than 0.5 nor more than 1. The square root is what may queue, and what lets the limit grow. It does not grow while less than half of
//! it is used. An answer 503 or 504 of the upstream, or none in its time, makes the limit a tenth smaller instead.
//!
//! **Without load.** Every `measure`, and at the beginning, the limit is about half of what it is for five windows of
//! at least five answers each, and the median of their medians is how long an answer takes without load: a burst of
//! answers that are much faster than the others is not taken for it. What is above is refused meanwhile. If so few are
//! under way anyway, the limit stays as it is. Of a long `window` a twentieth of `measure` is enough.
//!
//! **What counts.** Not how long a failure (5xx) took, nor a refusal with 429: these come fast.
//!
//! A request counts from here until the head of its answer: put the filter last, since what filters below it wait for
//! counts as well. Downloads, streams and WebSockets no longer count once they have begun (`concurrency` is for
//! these). What comes out of the cache, or is answered by a filter further down, is not measured. The limit
//! survives a reload.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use edgeway_sdk::{Values, prelude::*};

use self::limit::{Limit, Outcome, Settings};

mod limit;
mod median;
mod rounds;

pub(crate) const DOC: &str = "\
finds out how many requests an upstream serves well at the same time, and refuses more

adaptive_concurrency:
  name: products          # limits of one name are one, on whatever routes: the name of the upstream, say
  initial: 20             # the limit at the beginning
  min: 3                  # it is never less, but for the moments of measuring
  max: 1000               # and never more
  buffer: 0.25            # how much longer answers may take than without load: a quarter
  window: 100ms           # how often the limit is adjusted
  measure: 30s            # how often it is measured how long answers take without load
  retry_after: 1s         # when a client that was refused may come again
";

/// `adaptive_concurrency: { name: products, min: 10, max: 200 }`
#[derive(Deserialize)]
pub(crate) struct Config {
    name: String,
    #[serde(default = "Config::initial")]
    initial: NonZeroU32,
    #[serde(default = "Config::min")]
    min: NonZeroU32,
    #[serde(default = "Config::max")]
    max: NonZeroU32,
    #[serde(default = "Config::buffer")]
    buffer: Buffer,
    #[serde(default = "Config::window")]
    window: Period,
    #[serde(default = "Config::measure")]
    measure: Period,
    #[serde(default = "Config::retry_after")]
    retry_after: Period,
}

impl Config {
    fn initial() -> NonZeroU32 {
        const { NonZeroU32::new(20).expect("more than zero") }
    }

    fn min() -> NonZeroU32 {
        const { NonZeroU32::new(3).expect("more than zero") }
    }

    fn max() -> NonZeroU32 {
        const { NonZeroU32::new(1000).expect("more than zero") }
    }

    fn buffer() -> Buffer {
        Buffer(0.25)
    }

    fn window() -> Period {
        Period(Duration::from_millis(100))
    }

    fn measure() -> Period {
        Period(Duration::from_secs(30))
    }

    fn retry_after() -> Period {
        Period(Duration::from_secs(1))
    }
}

/// How much longer answers may take, as a share of how long they take without load.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "f64")]
struct Buffer(f64);

impl TryFrom<f64> for Buffer {
    type Error = String;

    fn try_from(share: f64) -> Result<Self, String> {
        match share {
            0.0..=10.0 => Ok(Self(share)),
            _ => Err(format!(
                "expected a share from 0 to 10 such as `0.25`, found `{share}`"
            )),
        }
    }
}

/// Limits how many requests wait for an upstream at the same time.
pub(crate) struct AdaptiveConcurrency {
    name: String,
    settings: Settings,
    /// In seconds.
    retry_after: u64,
    shared: Arc<Shared>,
}

/// What all filters of one name have in common, also those of the configuration before.
struct Shared {
    /// Times are counted from here.
    origin: Instant,
    limit: Limit,
}

pub(crate) fn build(
    config: Config,
    build: &mut Build<'_>,
) -> Result<AdaptiveConcurrency, BuildError> {
    if config.name.is_empty() {
        return Err(BuildError::at("name", "the name is empty"));
    }
    if config.min > config.max {
        return Err(BuildError::at("min", "`min` is more than `max`"));
    }
    if !(config.min..=config.max).contains(&config.initial) {
        return Err(
            BuildError::at("initial", "`initial` is not between `min` and `max`")
                .help(format!("`min` is {}, `max` is {}", config.min, config.max)),
        );
    }
    for (key, period, least) in [
        ("window", config.window, Duration::from_millis(10)),
        ("measure", config.measure, Duration::from_secs(1)),
    ] {
        if period.0 < least {
            return Err(BuildError::at(key, format!("expected at least {least:?}")));
        }
    }
    let settings = Settings {
        min: config.min.get(),
        max: config.max.get(),
        buffer: config.buffer.0,
        window: config.window.0,
        measure: config.measure.0,
    };
    let name = format!("adaptive_concurrency {}", config.name);
    let shared = build.resources().shared(&name, || Shared {
        origin: Instant::now(),
        limit: Limit::new(config.initial.get()),
    });
    Ok(AdaptiveConcurrency {
        name: config.name,
        settings,
        retry_after: config.retry_after.0.as_millis().div_ceil(1000) as u64,
        shared,
    })
}

#[async_trait]
impl Filter for AdaptiveConcurrency {
    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        if Place::of(request.values(), &self.shared).is_some() {
            return Ok(Flow::Continue);
        }
        let now = self.shared.origin.elapsed();
        match self.shared.limit.enter(&self.settings) {
            Ok(()) => {
                Place::take(request.values_mut(), &self.shared, now);
                Ok(Flow::Continue)
            }
            Err(limit) => Ok(self.refusal(limit).into()),
        }
    }

    fn limit(&self) -> Option<Vec<(&'static str, f64)>> {
        let limit = &self.shared.limit;
        let now = limit.now(&self.settings);
        Some(vec![
            ("limit", now.into()),
            ("in_flight", limit.in_flight().into()),
        ])
    }

    fn response(&self, response: &mut Response<'_>) -> Result<()> {
        if let Some(place) = Place::of(&response.exchange().values, &self.shared)
            && place.leave()
        {
            let now = self.shared.origin.elapsed();
            if let Some(outcome) = outcome(response, now.saturating_sub(place.since)) {
                self.shared
                    .limit
                    .learn(place.since, now, outcome, &self.settings);
            }
        }
        Ok(())
    }

    /// A request that has no answer gives its place back, although its values may live on.
    fn log(&self, record: &Record<'_>) {
        if let Some(place) = Place::of(&record.exchange.values, &self.shared) {
            place.leave();
        }
    }

    fn offline(&self, _: &Request<'_>) -> Offline {
        Offline::Decides
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST | Hooks::RESPONSE | Hooks::LOG
    }
}

impl AdaptiveConcurrency {
    fn refusal(&self, limit: u32) -> Reply {
        Reply::new(503)
            .header(header::RETRY_AFTER, self.retry_after)
            .detail("There are too many requests at the moment.")
            .because(format!(
                "{limit} requests wait for the upstream, and more would make it slow"
            ))
            .rule(self.name.clone())
    }
}

/// What the response tells of the upstream, if anything.
fn outcome(response: &Response<'_>, latency: Duration) -> Option<Outcome> {
    match (response.origin(), response.status().as_u16()) {
        (Origin::Upstream, 503 | 504) | (Origin::Reply, 502 | 504) => Some(Outcome::Overloaded),
        // These come fast, whatever the load.
        (Origin::Upstream, 429 | 500..) => None,
        (Origin::Upstream, _) => Some(Outcome::Answered(latency)),
        (Origin::Reply | Origin::Cache, _) => None,
    }
}

/// A place that a request has among those that wait.
struct Place {
    shared: Arc<Shared>,
    since: Duration,
    has_left: AtomicBool,
    before: Option<Arc<Self>>,
}

impl Place {
    fn of<'a>(values: &'a Values, shared: &Arc<Shared>) -> Option<&'a Self> {
        let mut next = values.get::<Self>();
        while let Some(place) = next {
            if Arc::ptr_eq(&place.shared, shared) {
                return Some(place);
            }
            next = place.before.as_deref();
        }
        None
    }

    fn take(values: &mut Values, shared: &Arc<Shared>, since: Duration) {
        let place = |has_left, before| Self {
            shared: Arc::clone(shared),
            since,
            has_left: AtomicBool::new(has_left),
            before,
        };
        // There is one value of each type: it is taken out before the next one is put on top of it.
        let before = values.insert(place(true, None));
        values.insert(place(false, before));
    }

    /// Gives the place back. False if that was done before.
    fn leave(&self) -> bool {
        let is_first = !self.has_left.swap(true, Ordering::Relaxed);
        if is_first {
            self.shared.limit.leave();
        }
        is_first
    }
}

/// However a request ends, its place is free.
impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests;
