//! The calls about caches: what is in them, and what has to leave.

use std::{borrow::Cow, collections::BTreeMap, time::SystemTime};

use axum::extract::State;
use http::StatusCode;
use log::info;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{
    call::{Call, Caller},
    calls::{Answer, Shared, panicked},
    described::{Calls, Described},
    problem::{Problem, json},
    wish::{Page, Query, What, Wish, Written},
};
use crate::{
    cache::{
        count::{Counters, Event},
        disk::Statistics,
        key::{common_endings, ending_of},
        memory::{Ending, Purge, Selection, Wanted},
        plan::{Plan, QueryRule},
        time::milliseconds,
        zone::Zone,
    },
    config::diagnostic::nearest,
    snapshot::{Gateway, Target},
};

macro_rules! cache_example {
    () => {
        r#"{ "name": "default", "objects": 412, "bytes": 1048576, "limit": 134217728, "evictions": 0,
             "expirations": 17, "requests": { "hit": 9120, "stale": 3, "miss": 412, "expired": 20,
             "revalidated": 11, "bypass": 5, "coalesced": 40 } }"#
    };
}

#[derive(Serialize, JsonSchema)]
struct Caches {
    caches: Vec<View>,
}

/// What a zone holds, and what has come of the requests to its routes.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Cache")]
pub(super) struct View {
    name: &'static str,
    objects: usize,
    bytes: usize,
    limit: usize,
    evictions: u64,
    expirations: u64,
    /// The second tier, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<Disk>,
    requests: Requests,
}

/// What a zone has on a disk.
#[derive(Serialize, JsonSchema)]
struct Disk {
    state: &'static str,
    objects: usize,
    bytes: u64,
    limit: u64,
    hits: u64,
    misses: u64,
    reads: u64,
    written: u64,
    evictions: u64,
    expirations: u64,
    dropped: u64,
    discarded: u64,
}

/// Counters by their names, in the order in which people read them.
struct Requests(&'static Counters);

impl Serialize for Requests {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(Event::ALL.len()))?;
        for (event, name) in Event::ALL {
            map.serialize_entry(name, &self.0.total(event))?;
        }
        map.end()
    }
}

impl JsonSchema for Requests {
    fn schema_name() -> Cow<'static, str> {
        "Requests".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        BTreeMap::<String, u64>::json_schema(generator)
    }
}

impl View {
    pub(super) fn of(zone: &'static Zone) -> Self {
        let statistics = zone.store().statistics();
        Self {
            name: zone.name(),
            objects: statistics.objects,
            bytes: statistics.bytes,
            limit: statistics.limit,
            evictions: statistics.evictions,
            expirations: statistics.expirations,
            disk: zone.disk_statistics().map(Disk::from),
            requests: Requests(&zone.counters),
        }
    }
}

impl From<Statistics> for Disk {
    fn from(told: Statistics) -> Self {
        Self {
            state: told.state.as_str(),
            objects: told.objects,
            bytes: told.bytes,
            limit: told.limit,
            hits: told.hits,
            misses: told.misses,
            reads: told.reads,
            written: told.written,
            evictions: told.evictions,
            expirations: told.expirations,
            dropped: told.dropped,
            discarded: told.discarded,
        }
    }
}

/// Adds the calls of this file.
pub(super) fn add(calls: Calls) -> Calls {
    calls
        .add(LIST, caches)
        .add(ONE, cache)
        .add(PURGE, purge)
        .add(PURGE_ALL, purge_all)
}

const LIST: Described = Described::get(
    "/v1/caches",
    "Shows all caches: what is in them, and what has come of requests.",
)
.gives::<Caches>(concat!(r#"{ "caches": ["#, cache_example!(), "] }"));
const ONE: Described =
    Described::get("/v1/caches/{cache}", "Shows one cache.").gives::<View>(cache_example!());
const PURGE: Described = Described::post("/v1/caches/{cache}/purge", "Purges a cache.")
    .takes::<Written>(PAGE)
    .gives::<Purged>(r#"{ "purged": 3 }"#);
const PURGE_ALL: Described = Described::post("/v1/purge", "Purges all caches.")
    .takes::<Written>(PAGE)
    .gives::<PurgedIn>(r#"{ "purged": 4, "caches": { "default": 3, "pages": 1 } }"#);

const PAGE: &str = r#"{ "url": "https://example.com/a?b=1", "soft": true }"#;

async fn caches(State(desk): State<Shared>, call: Call<()>) -> Answer {
    call.names()?;
    let caches = zones(&desk.gateway()).into_iter().map(View::of).collect();
    Ok(json(StatusCode::OK, &Caches { caches }))
}

async fn cache(State(desk): State<Shared>, call: Call<String>) -> Answer {
    let zone = zone(&desk.gateway(), &call.names()?)?;
    Ok(json(StatusCode::OK, &View::of(zone)))
}

/// How many objects were purged.
#[derive(Serialize, JsonSchema)]
struct Purged {
    purged: usize,
}

/// How many objects were purged in all, and in each cache.
#[derive(Serialize, JsonSchema)]
struct PurgedIn {
    purged: usize,
    caches: BTreeMap<&'static str, usize>,
}

async fn purge(State(desk): State<Shared>, call: Call<String>) -> Answer {
    let wish: Wish = call.only_json()?;
    let gateway = desk.gateway();
    let zone = zone(&gateway, &call.names)?;
    let purged = purge_in(zone, &gateway, &wish, call.caller).await?;
    Ok(json(StatusCode::OK, &Purged { purged }))
}

async fn purge_all(State(desk): State<Shared>, call: Call<()>) -> Answer {
    let wish: Wish = call.only_json()?;
    let gateway = desk.gateway();
    let mut caches = BTreeMap::new();
    for zone in zones(&gateway) {
        let purged = purge_in(zone, &gateway, &wish, call.caller).await?;
        caches.insert(zone.name(), purged);
    }
    let purged = caches.values().sum();
    Ok(json(StatusCode::OK, &PurgedIn { purged, caches }))
}

/// Purges what is wished in one zone. Goes to its end though its caller may leave.
async fn purge_in(
    zone: &'static Zone,
    gateway: &Gateway,
    wish: &Wish,
    caller: Caller,
) -> Result<usize, Problem> {
    let wanted = wanted(zone, gateway, &wish.what);
    let purge = match wish.soft {
        true => Purge::Stale(milliseconds(SystemTime::now())),
        false => Purge::Remove,
    };
    let purged = tokio::task::spawn_blocking(move || {
        let selections: Vec<Selection<'_>> = wanted.iter().map(Wanted::selection).collect();
        zone.purge_all_of(&selections, purge)
    });
    let purged = purged.await.map_err(|error| panicked(&error))?;
    let purged = purged.count().await;
    info!(
        "purged: cache={} selection={} soft={} objects={purged} by={}",
        zone.name(),
        wish.what.word(),
        wish.soft,
        caller
    );
    Ok(purged)
}

/// What is wished, as the names in a zone have it.
fn wanted(zone: &Zone, gateway: &Gateway, what: &What) -> Vec<Wanted> {
    let bytes = |text: &str| text.as_bytes().into();
    match what {
        What::All => vec![Wanted::All],
        What::Host(host) => vec![Wanted::Host(bytes(host))],
        What::Prefix { host, path } => vec![Wanted::Prefix {
            host: bytes(host),
            path: bytes(path),
        }],
        What::Pages(pages) => {
            let page = |page: &Page| Wanted::Page {
                host: bytes(&page.host),
                path: bytes(&page.path),
                endings: endings(zone, gateway, &page.query),
            };
            pages.iter().map(page).collect()
        }
        What::Tags(tags) => {
            let tag = |tag: &String| Wanted::Tag(tag.as_str().into());
            tags.iter().map(tag).collect()
        }
    }
}

/// What names end with that have this query, for each route that stores something in the zone. None is any.
fn endings(zone: &Zone, gateway: &Gateway, query: &Query) -> Option<Box<[Ending]>> {
    let Query::Exactly(query) = query else {
        return None;
    };
    let query = query.as_deref();
    let of_rule = |(route, plan): (&str, &Plan)| match &plan.key.query {
        QueryRule::AsSent | QueryRule::Sorted => None,
        rule @ (QueryRule::Only(_) | QueryRule::Without(_) | QueryRule::Nothing) => {
            Some(ending_of(route, query, rule))
        }
    };
    let of_routes = plans(gateway)
        .filter(|(_, plan)| std::ptr::eq(plan.zone, zone))
        .filter_map(of_rule);
    Some(common_endings(query).into_iter().chain(of_routes).collect())
}

/// The caches of routes, with the names of those.
fn plans(gateway: &Gateway) -> impl Iterator<Item = (&str, &Plan)> {
    gateway.router.routes().filter_map(|route| {
        let Target::Upstream(forward) = &route.target else {
            return None;
        };
        Some((&*route.name, forward.cache.as_deref()?))
    })
}

/// The zones that routes use, in the order of names.
pub(super) fn zones(gateway: &Gateway) -> Vec<&'static Zone> {
    let specs = gateway.caches.iter();
    let zones = specs.map(|spec| gateway.zones.named(&spec.name));
    let mut zones: Vec<_> = zones.collect();
    zones.sort_unstable_by_key(|zone| zone.name());
    zones
}

fn zone(gateway: &Gateway, name: &str) -> Result<&'static Zone, Problem> {
    let mut names = gateway.caches.iter().map(|spec| &*spec.name);
    if names.any(|known| known == name) {
        return Ok(gateway.zones.named(name));
    }
    let near = nearest(name, gateway.caches.iter().map(|spec| &*spec.name));
    let detail = format!("there is no cache `{name}` that a route uses");
    Err(Problem::absent(detail, near))
}
