//! Limits how many requests of one client are served at the same time.
//!
//! A request counts from here until its last byte was sent or its client has left. A WebSocket and a stream
//! count as long as they live. What is refused does not count.
//!
//! **Where it counts.** A limit counts for the route that it is written on, or, among the `filters` of all
//! routes, for all of them together. Limits with the same `name` and the same key count together, wherever they
//! are written.
//! The counts survive a reload, also when `max` changes.
//!
//! **How exact it is.** Never are more than `max` served at once. The counts are kept by the hash of the key, in a
//! sketch of fixed size (2 MiB), whatever number of clients there is: a client whose slots are all shared by
//! others may be refused early. With 10 000 requests in flight from as many clients the chance of being
//! counted one too many is less than one in a thousand.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
};

use ahash::RandomState;
use edgeway_sdk::{Values, prelude::*};
use pingora_limits::inflight::{Guard, Inflight};

use crate::limit_key::{Ipv6Prefix, LimitKey};

pub(crate) const DOC: &str = "\
limits how many requests of one client are served at the same time

concurrency:
  max: 10                       # this many at once
  key: '{client_ip}'            # whom it counts: any text with values of the request, '{claim.sub}'
  ipv6_prefix: 64               # how many bits of an IPv6 address tell clients apart
  status: 429                   # of a refusal: 429 or 503
  retry_after: 1s               # when the client may come again
  name: downloads               # limits of one name and key count together; if not given, each route for itself
";

/// `concurrency: { max: 10, key: '{claim.sub}' }`
#[derive(Deserialize)]
pub(crate) struct Config {
    max: NonZeroU32,
    key: Option<Template>,
    #[serde(default)]
    ipv6_prefix: Ipv6Prefix,
    #[serde(default)]
    status: Status,
    #[serde(default = "Config::retry_after")]
    retry_after: Period,
    name: Option<String>,
}

impl Config {
    fn retry_after() -> Period {
        Period(std::time::Duration::from_secs(1))
    }
}

/// The status of a refusal.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "u16")]
struct Status(u16);

impl Default for Status {
    fn default() -> Self {
        Self(429)
    }
}

impl TryFrom<u16> for Status {
    type Error = String;

    fn try_from(status: u16) -> Result<Self, String> {
        match status {
            429 | 503 => Ok(Self(status)),
            _ => Err(format!(
                "expected 429 (this client is too much) or 503 (all are), found `{status}`"
            )),
        }
    }
}

/// Limits how many requests of one client are served at the same time.
pub(crate) struct Concurrency {
    max: u32,
    key: LimitKey,
    status: u16,
    /// In seconds.
    retry_after: u64,
    name: Option<String>,
    counts: Arc<Counts>,
}

pub(crate) fn build(config: Config, build: &mut Build<'_>) -> Result<Concurrency, BuildError> {
    let literal = config.key.as_ref().and_then(Template::literal);
    if literal == Some("") {
        return Err(BuildError::at("key", "the key is empty").help(
            "any text that is the same for all, such as `all`, counts all clients together",
        ));
    }
    if config.name.as_deref() == Some("") {
        return Err(BuildError::at("name", "the name is empty").help("leave it out"));
    }
    let shards = if literal.is_some() { 1 } else { SHARDS };
    let key = LimitKey::new(config.key, config.ipv6_prefix);
    let place = match (&config.name, build.place()) {
        (Some(name), _) => format!("name {name} {key:?}"),
        (None, Some(route)) => format!("route {route} {key:?}"),
        (None, None) => format!("all routes {key:?}"),
    };
    let name = format!("concurrency {shards} {place}");
    Ok(Concurrency {
        max: config.max.get(),
        key,
        status: config.status.0,
        retry_after: config.retry_after.0.as_millis().div_ceil(1000) as u64,
        name: config.name,
        counts: build.resources().shared(&name, || Counts::new(shards)),
    })
}

#[async_trait]
impl Filter for Concurrency {
    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        let hash = self.key.hash(request, &self.counts.state);
        let entered = match Held::of(request.values(), &self.counts, hash) {
            Some(count) => count <= self.max,
            None => self
                .counts
                .enter(hash, self.max)
                .map(|guard| Held::add(request.values_mut(), (&self.counts, hash), guard))
                .is_some(),
        };
        Ok(if entered {
            Flow::Continue
        } else {
            self.refusal(request).into()
        })
    }

    /// The values of a request may live on, for example with a copy of it that freshens the cache.
    fn log(&self, record: &Record<'_>) {
        if let Some(held) = record.exchange.values.get::<Held>() {
            held.leave();
        }
    }

    /// How many are served of whom is not known by names.
    fn limit(&self) -> Option<Vec<(&'static str, f64)>> {
        Some(vec![("max", self.max.into())])
    }

    fn offline(&self, _: &Request<'_>) -> Offline {
        Offline::Decides
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST | Hooks::LOG
    }
}

impl Concurrency {
    fn refusal(&self, request: &Request<'_>) -> Reply {
        let reply = Reply::new(self.status)
            .header(header::RETRY_AFTER, self.retry_after)
            .detail("There are too many requests at the same time.")
            .because(format!("{} requests are being served already", self.max))
            .key(self.key.text(request));
        match &self.name {
            Some(name) => reply.rule(name.clone()),
            None => reply.rule("max"),
        }
    }
}

/// How many requests of each key are being served.
struct Counts {
    /// By the first bits of a key's hash: the more of them, the fewer keys share a slot by chance.
    shards: Box<[Inflight]>,
    /// Kept, so that the same key has the same hash after a reload. Random, so that nobody can make others
    /// share a slot.
    state: RandomState,
}

impl Counts {
    fn new(shards: usize) -> Self {
        Self {
            shards: (0..shards).map(|_| Inflight::new()).collect(),
            state: RandomState::new(),
        }
    }

    /// Counts one more, unless there are `max` already.
    ///
    /// It is counted first and looked at then, so that of two that come at once at least one sees the other,
    /// and `max` is never exceeded. Both may see each other, and the second look lets one of them in.
    fn enter(&self, hash: u64, max: u32) -> Option<Guard> {
        let shard = (hash >> 32) as usize % self.shards.len();
        let shard = self.shards.get(shard)?;
        (0..LOOKS).find_map(|_| {
            let (guard, seen) = shard.incr(hash, 1);
            // Each slot was looked at when it was counted; others may have begun with another slot since.
            let seen = seen.max(guard.get());
            (count(seen) <= max).then_some(guard)
        })
    }
}

/// A number that may be negative when it has overflown, which is many.
fn count(seen: isize) -> u32 {
    u32::try_from(seen).unwrap_or(u32::MAX)
}

/// The places that a request holds, the last one first.
struct Held {
    counts: Arc<Counts>,
    /// Of the key, which may be another one for a filter further down: that knows more of the request.
    hash: u64,
    /// Locked by the request alone, and only to give the place back.
    guard: Mutex<Option<Guard>>,
    before: Option<Arc<Self>>,
}

impl Held {
    /// How many are served, if the request has a place among these already, under the same key: two limits of
    /// the same name, or one that only reports beside one that does not, count it once.
    fn of(values: &Values, counts: &Arc<Counts>, hash: u64) -> Option<u32> {
        let mut next = values.get::<Self>();
        while let Some(held) = next {
            if Arc::ptr_eq(&held.counts, counts) && held.hash == hash {
                let guard = held.guard.lock().unwrap_or_else(PoisonError::into_inner);
                return guard.as_ref().map(|guard| count(guard.get()));
            }
            next = held.before.as_deref();
        }
        None
    }

    fn add(values: &mut Values, (counts, hash): (&Arc<Counts>, u64), guard: Guard) {
        let place = |guard, before| Self {
            counts: Arc::clone(counts),
            hash,
            guard: Mutex::new(guard),
            before,
        };
        // There is one value of each type: it is taken out before the next one is put on top of it.
        let before = values.insert(place(None, None));
        values.insert(place(Some(guard), before));
    }

    fn leave(&self) {
        let mut next = Some(self);
        while let Some(held) = next {
            let guard = held
                .guard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            drop(guard);
            next = held.before.as_deref();
        }
    }
}

/// How many sketches there are for a limit by keys. Each has 256 KiB.
const SHARDS: usize = 8;
/// How often a request looks whether there is a place.
const LOOKS: usize = 2;

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, path::Path, thread};

    use edgeway_sdk::{
        Resources,
        test::{self, Outcome, Trial},
    };

    use super::*;

    fn of(json: &str) -> Concurrency {
        test::build(json, build).unwrap()
    }

    async fn ask(filter: &Concurrency) -> Outcome {
        Trial::get("/").run(filter).await
    }

    #[tokio::test]
    async fn the_eleventh_of_ten_is_refused_until_one_has_ended() {
        let filter = of(r#"{"max": 10}"#);
        let mut served = Vec::new();
        for _ in 0..10 {
            let outcome = ask(&filter).await;
            assert!(outcome.passed());
            served.push(outcome);
        }
        for _ in 0..3 {
            let refused = ask(&filter).await;
            assert_eq!(refused.status(), 429);
            assert_eq!(refused.header("retry-after"), Some("1"));
            let reply = refused.reply.unwrap();
            assert_eq!(reply.decided_by_rule(), Some("max"));
            assert_eq!(reply.about(), Some("192.0.2.1"));
        }
        // Its values live on.
        filter.log(&served[3].record());
        served.push(ask(&filter).await);
        assert!(served[10].passed());
        assert!(!ask(&filter).await.passed());
    }

    #[tokio::test]
    async fn a_request_that_is_dropped_without_an_end_gives_its_place_back() {
        let filter = of(r#"{"max": 1}"#);
        let outcome = ask(&filter).await;
        assert!(!ask(&filter).await.passed());
        drop(outcome);
        assert!(ask(&filter).await.passed());
    }

    #[tokio::test]
    async fn each_key_is_counted_for_itself() {
        let filter =
            of(r#"{"max": 1, "key": "{header.x-tenant}", "status": 503, "retry_after": "1500ms"}"#);
        let of = |tenant| Trial::get("/").header("x-tenant", tenant).run(&filter);
        let first = of("acme").await;
        assert!(of("globex").await.passed());
        let refused = of("acme").await;
        assert_eq!(refused.status(), 503);
        assert_eq!(refused.header("retry-after"), Some("2"));
        assert_eq!(refused.reply.unwrap().about(), Some("acme"));
        drop(first);
        assert!(of("acme").await.passed());
    }

    #[tokio::test]
    async fn an_ipv6_client_is_as_large_as_is_said() {
        let from = |filter: &Concurrency, address: &str| {
            let address: IpAddr = address.parse().unwrap();
            let trial = Trial::get("/").client(address);
            futures_now(trial.run(filter))
        };
        let filter = of(r#"{"max": 1}"#);
        let first = from(&filter, "2001:db8::1");
        assert!(!from(&filter, "2001:db8::2").passed());
        drop(first);
        let filter = of(r#"{"max": 1, "ipv6_prefix": 128}"#);
        let _first = from(&filter, "2001:db8::1");
        assert!(from(&filter, "2001:db8::2").passed());
    }

    /// What a future that does not wait becomes.
    fn futures_now<T>(future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        let mut task = std::task::Context::from_waker(std::task::Waker::noop());
        match future.as_mut().poll(&mut task) {
            std::task::Poll::Ready(value) => value,
            std::task::Poll::Pending => panic!("the filter waits"),
        }
    }

    fn staged(resources: &Resources, route: Option<&str>, json: &str) -> Concurrency {
        let mut stage = Build::new(resources, Path::new("."));
        if let Some(route) = route {
            stage = stage.on_route(route);
        }
        build(serde_json::from_str(json).unwrap(), &mut stage).unwrap()
    }

    #[tokio::test]
    async fn counts_survive_a_reload_that_changes_the_limit() {
        let resources = Resources::default();
        let old = staged(&resources, Some("a"), r#"{"max": 2}"#);
        let _served = [ask(&old).await, ask(&old).await];
        let new = staged(&resources, Some("a"), r#"{"max": 3}"#);
        drop(old);
        let third = ask(&new).await;
        assert!(third.passed());
        assert!(!ask(&new).await.passed());
    }

    #[tokio::test]
    async fn limits_count_together_by_name_and_else_by_route() {
        let resources = Resources::default();
        let (a, b) = (Some("a"), Some("b"));
        let one = r#"{"max": 1}"#;
        let filter = staged(&resources, a, one);
        let _served = ask(&filter).await;
        assert!(!ask(&staged(&resources, a, one)).await.passed());
        for (route, json) in [
            (b, one),
            (None, one),
            (a, r#"{"max": 1, "key": "{path}"}"#),
            (a, r#"{"max": 1, "ipv6_prefix": 56}"#),
        ] {
            assert!(
                ask(&staged(&resources, route, json)).await.passed(),
                "{route:?} {json}"
            );
        }
        let named = r#"{"max": 1, "name": "n"}"#;
        let filter = staged(&resources, a, named);
        let _served = ask(&filter).await;
        let refused = ask(&staged(&resources, b, named)).await;
        assert_eq!(refused.reply.unwrap().decided_by_rule(), Some("n"));
    }

    #[tokio::test]
    async fn two_limits_that_count_together_count_a_request_once() {
        let resources = Resources::default();
        let strict = staged(&resources, None, r#"{"max": 2}"#);
        let loose = staged(&resources, None, r#"{"max": 3}"#);
        let mut exchange = edgeway_sdk::Exchange::new(([192, 0, 2, 1], 1).into());
        let (mut head, ()) = http::Request::new(()).into_parts();
        let mut request = Request::new(&mut head, &mut exchange);
        for filter in [&strict, &loose, &strict] {
            assert!(matches!(
                filter.request(&mut request).await,
                Ok(Flow::Continue)
            ));
        }
        let second = ask(&loose).await;
        assert!(second.passed());
        let third = ask(&loose).await;
        assert!(third.passed());
        // What it holds already is looked at by the limit of each.
        assert!(matches!(
            strict.request(&mut request).await,
            Ok(Flow::Respond(_))
        ));
        drop((second, third));
        drop(exchange);
        let both = [ask(&strict).await, ask(&strict).await];
        assert!(both.iter().all(Outcome::passed));
    }

    /// Asks these filters for one request, one after the other.
    async fn enters(exchange: &mut edgeway_sdk::Exchange, filters: &[&Concurrency]) -> bool {
        let request = http::Request::get("/").header("x-tenant", "acme");
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        for filter in filters {
            let flow = filter.request(&mut Request::new(&mut head, exchange)).await;
            if !matches!(flow, Ok(Flow::Continue)) {
                return false;
            }
        }
        true
    }

    #[tokio::test]
    async fn two_limits_of_one_name_that_count_by_other_keys_both_count() {
        let resources = Resources::default();
        let of = |json: &str| staged(&resources, None, json);
        let by_client = of(r#"{"max": 9, "name": "n"}"#);
        for (one, more) in [
            (r#""key": "{header.x-tenant}""#, "header"),
            (r#""ipv6_prefix": 48"#, "prefix"),
        ] {
            let other = of(&format!(r#"{{"max": 1, "name": "n", {one}}}"#));
            let exchange = |client: &str| {
                let client: IpAddr = client.parse().unwrap();
                edgeway_sdk::Exchange::new((client, 1).into())
            };
            let mut first = exchange("2001:db8::1");
            assert!(enters(&mut first, &[&by_client, &other]).await, "{more}");
            // The same tenant, and the same large network, with another address.
            let mut second = exchange("2001:db8:0:1::1");
            assert!(!enters(&mut second, &[&by_client, &other]).await, "{more}");
        }
    }

    #[tokio::test]
    async fn counts_of_networks_of_other_sizes_are_not_mixed_up_by_a_name() {
        let resources = Resources::default();
        let of = |json: &str| staged(&resources, None, json);
        let small = of(r#"{"max": 1, "name": "n"}"#);
        let large = of(r#"{"max": 9, "name": "n", "ipv6_prefix": 56}"#);
        let client = |address: &str| Trial::get("/").client(address.parse::<IpAddr>().unwrap());
        let _other = client("2001:db8:0:1::1").run(&large).await;
        assert!(client("2001:db8::1").run(&small).await.passed());
    }

    /// Before it is known who asks, the address stands for the key.
    #[tokio::test]
    async fn a_request_whose_key_changes_is_counted_under_each() {
        let resources = Resources::default();
        let json = r#"{"max": 1, "name": "n", "key": "{header.x-tenant}"}"#;
        let filter = staged(&resources, None, json);
        let client = |last| edgeway_sdk::Exchange::new(([192, 0, 2, last], 1).into());
        let mut first = client(1);
        let (mut unknown, ()) = http::Request::new(()).into_parts();
        let flow = filter
            .request(&mut Request::new(&mut unknown, &mut first))
            .await;
        assert!(matches!(flow, Ok(Flow::Continue)));
        assert!(enters(&mut first, &[&filter]).await);
        assert!(!enters(&mut client(2), &[&filter]).await);
    }

    #[tokio::test]
    async fn several_limits_are_all_given_back() {
        let filters = [
            of(r#"{"max": 1}"#),
            of(r#"{"max": 1}"#),
            of(r#"{"max": 1}"#),
        ];
        let mut exchange = edgeway_sdk::Exchange::new(([192, 0, 2, 1], 1).into());
        let (mut head, ()) = http::Request::new(()).into_parts();
        let mut request = Request::new(&mut head, &mut exchange);
        for filter in &filters {
            assert!(matches!(
                filter.request(&mut request).await,
                Ok(Flow::Continue)
            ));
        }
        for filter in &filters {
            assert!(!ask(filter).await.passed());
        }
        exchange.values.get::<Held>().unwrap().leave();
        for filter in &filters {
            assert!(ask(filter).await.passed());
        }
    }

    #[test]
    fn never_are_more_than_the_limit_served_by_many_threads() {
        let counts = Counts::new(SHARDS);
        let most = std::sync::atomic::AtomicU32::new(0);
        let now = std::sync::atomic::AtomicU32::new(0);
        let relaxed = std::sync::atomic::Ordering::SeqCst;
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if let Some(guard) = counts.enter(7, 3) {
                            most.fetch_max(now.fetch_add(1, relaxed) + 1, relaxed);
                            now.fetch_sub(1, relaxed);
                            drop(guard);
                        }
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.into_inner()));
        // All of them are given back.
        let guards: Vec<_> = (0..4).map(|_| counts.enter(7, 3)).collect();
        assert_eq!(guards.iter().flatten().count(), 3);
    }

    #[test]
    fn ten_thousand_clients_do_not_get_into_each_others_way() {
        let counts = Counts::new(SHARDS);
        let hash = |client: u64| counts.state.hash_one(client);
        let first: Vec<_> = (0..10_000)
            .map(|client| counts.enter(hash(client), 1))
            .collect();
        let refused = first.iter().filter(|guard| guard.is_none()).count();
        assert!(refused <= 30, "{refused} of 10 000 were taken for others");
    }

    #[test]
    fn a_limit_without_sense_is_refused() {
        for (json, key) in [
            (r#"{"max": 1, "key": ""}"#, "key"),
            (r#"{"max": 1, "name": ""}"#, "name"),
        ] {
            let error = test::build(json, build).err().expect(json);
            assert_eq!(error.key.as_deref(), Some(key), "{json}");
        }
        for json in [
            "{}",
            r#"{"max": 0}"#,
            r#"{"max": 1, "status": 200}"#,
            r#"{"max": 1, "key": "{nobody}"}"#,
            r#"{"max": 1, "retry_after": 1}"#,
            r#"{"max": 1, "ipv6_prefix": 0}"#,
        ] {
            assert!(serde_json::from_str::<Config>(json).is_err(), "{json}");
        }
    }
}
