//! What is going on at a moment, as it is told.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    figures::{Figures, Tries, per_second},
    reading::{OfUpstream, Reading, Rule, Window, routes},
};
use crate::{
    cache::count::Event,
    config::diff::Change,
    server::{
        admin::{caches, calls::Desk, doors, filters, maintenance},
        reload::{Attempt, By, since_1970},
    },
    snapshot::{Gateway, Route},
    telemetry::{failures::Failure, meter::RequestFigures, refused::Offender, tally::Tally},
    upstream::{Cluster, EndpointView, UpstreamAbout},
};

/// What is going on.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Live")]
pub(super) struct Sample {
    at_ms: u64,
    /// The time that figures for a second are of.
    interval_s: f64,
    /// The time that percentiles and ratios are of.
    window_s: f64,
    process: Process,
    /// `serving`, `draining`, or `stopping`.
    serving: &'static str,
    total: Total,
    routes: Vec<OfRoute>,
    upstreams: Vec<Upstream>,
    caches: Vec<Cache>,
    /// Those that may refuse something.
    filters: Vec<Filter>,
    /// The last ones, the newest first.
    refusals: Vec<Refused>,
    /// Those that were refused most of late.
    refused_clients: Vec<Client>,
    listeners: Vec<doors::View>,
    /// 5xx that clients got, and tries that have failed, the newest first.
    failures: Vec<Failed>,
    maintenance: maintenance::All,
    configuration: Configuration,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LiveProcess")]
struct Process {
    version: &'static str,
    pid: u32,
    uptime_s: u64,
    /// Cores in use: 1 is one of them, wholly.
    cpu: f64,
    rss_bytes: u64,
    fds: u64,
    threads: u64,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LiveTotal")]
struct Total {
    #[serde(flatten)]
    figures: Figures,
    /// Of clients, open now.
    connections: usize,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LiveRoute")]
struct OfRoute {
    name: Box<str>,
    #[serde(rename = "match")]
    pattern: String,
    target: String,
    /// Whether it is closed for maintenance.
    closed: bool,
    #[serde(flatten)]
    figures: Figures,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LiveUpstream")]
struct Upstream {
    #[serde(flatten)]
    about: UpstreamAbout,
    #[serde(flatten)]
    figures: Tries,
    /// Requests at its endpoints.
    in_flight: u64,
    endpoints: Vec<OfEndpoint>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LiveEndpoint")]
struct OfEndpoint {
    #[serde(flatten)]
    view: EndpointView,
    #[serde(flatten)]
    figures: Tries,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LiveCache")]
struct Cache {
    #[serde(flatten)]
    view: caches::View,
    requests_per_s: f64,
    /// The part that was answered from here, of those that could have been; null if there was none of late.
    hit_ratio: Option<f64>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LiveFilter")]
struct Filter {
    route: Box<str>,
    name: Box<str>,
    mode: &'static str,
    refused: u64,
    reported: u64,
    /// Of these, because it could not decide.
    failed: u64,
    rules: Vec<OfRule>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LiveRule")]
struct OfRule {
    rule: Box<str>,
    refused: u64,
    reported: u64,
    refused_per_s: f64,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LiveRefused")]
struct Refused {
    filter: Box<str>,
    #[serde(flatten)]
    refusal: filters::Shown,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LiveClient")]
struct Client {
    client: String,
    /// Of late: what is older counts less and less.
    count: u64,
    /// The filter that has refused it last.
    filter: Box<str>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Failure")]
struct Failed {
    at_ms: u64,
    request_id: Box<str>,
    client: String,
    route: Box<str>,
    upstream: Option<Box<str>>,
    endpoint: Option<Box<str>>,
    /// Null for a try: the client may have got something else.
    status: Option<u16>,
    reason: Box<str>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LiveConfiguration")]
struct Configuration {
    revision: u64,
    hash: String,
    file: Option<String>,
    loaded_at_ms: u64,
    /// Null if that was long ago.
    by: Option<By>,
    /// What it has changed, as far as it fits here.
    changes: Vec<Change>,
    changes_left_out: usize,
    /// The last times that the files were read, the last one first.
    attempts: Vec<Read>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ConfigurationRead")]
struct Read {
    at_ms: u64,
    by: By,
    ok: bool,
    /// Null if it was refused.
    revision: Option<u64>,
    /// How many.
    changes: usize,
    /// Why it was refused.
    reason: Option<String>,
}

/// How many failures and refusals are told each.
const RECENT: usize = 30;

/// How many clients are.
const CLIENTS: usize = 10;

/// How many changes are.
const CHANGES: usize = 50;

impl Sample {
    /// What has come since the last time.
    pub(super) fn next(desk: &Desk, window: &mut Window) -> Self {
        let gateway = desk.gateway();
        let now = Arc::new(Reading::of(&gateway));
        let since = Since {
            now: &now,
            before: &window.before,
            oldest: window.oldest(),
        };
        let sample = since.told(desk, &gateway);
        window.step(now);
        sample
    }
}

/// Three readings.
struct Since<'a> {
    now: &'a Reading,
    before: &'a Reading,
    oldest: &'a Reading,
}

impl Since<'_> {
    fn told(&self, desk: &Desk, gateway: &Gateway) -> Sample {
        let listeners = doors::views(&desk.listeners);
        let connections = listeners.iter().map(|listener| listener.connections).sum();
        let (time, lately) = (self.time(), self.now.at - self.oldest.at);
        Sample {
            at_ms: since_1970(SystemTime::now()),
            interval_s: rounded(time.as_secs_f64()),
            window_s: rounded(lately.as_secs_f64()),
            process: self.process(),
            serving: desk.serving(),
            total: self.total(connections),
            routes: self.routes(gateway),
            upstreams: self.upstreams(gateway),
            caches: self.caches(gateway),
            filters: self.filters(gateway),
            refusals: refusals(gateway),
            refused_clients: clients(gateway),
            listeners,
            failures: failures(gateway),
            maintenance: maintenance::all_of(gateway),
            configuration: Configuration::of(gateway, desk.history.attempts()),
        }
    }

    fn time(&self) -> Duration {
        self.now.at - self.before.at
    }

    fn process(&self) -> Process {
        let usage = &self.now.usage;
        let cpu = usage.cpu.saturating_sub(self.before.usage.cpu);
        let now = since_1970(SystemTime::now()) as f64 / 1e3;
        let uptime = usage.started.map(|started| now - started);
        Process {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            uptime_s: uptime.unwrap_or_default().max(0.0) as u64,
            cpu: rounded(cpu.as_secs_f64() / self.time().as_secs_f64().max(1e-3)),
            rss_bytes: usage.resident.unwrap_or_default(),
            fds: usage.open_files.unwrap_or_default(),
            threads: usage.threads.unwrap_or_default(),
        }
    }

    /// All requests. Those of routes that are gone are of the time before.
    fn total(&self, connections: usize) -> Total {
        let sum = |of: &dyn Fn(&Arc<str>, &RequestFigures) -> RequestFigures| {
            let mut sum = RequestFigures::default();
            for (name, figures) in &self.now.routes {
                sum += &of(name, figures);
            }
            sum
        };
        let all = sum(&|_, now| now.clone());
        let since = sum(&|name, now| difference(now, self.before.routes.get(name)));
        let lately = sum(&|name, now| difference(now, self.oldest.routes.get(name)));
        Total {
            figures: Figures::of(&all, &since, &lately, self.time()),
            connections,
        }
    }

    /// In the order of the file; what stands for no route only once it had a request.
    fn routes(&self, gateway: &Gateway) -> Vec<OfRoute> {
        let told = |route: &Arc<Route>| {
            let now = self.now.routes.get(&route.name)?;
            let since = difference(now, self.before.routes.get(&route.name));
            let lately = difference(now, self.oldest.routes.get(&route.name));
            if Arc::ptr_eq(route, &gateway.fallback) && now.replies.total() == 0 {
                return None;
            }
            let closing = route
                .closing
                .as_ref()
                .and_then(|closing| closing.own.as_ref());
            Some(OfRoute {
                name: (*route.name).into(),
                pattern: route.pattern.clone(),
                target: route.destination(),
                closed: gateway.maintenance.is_on() || closing.is_some_and(|own| own.is_on()),
                figures: Figures::of(now, &since, &lately, self.time()),
            })
        };
        routes(gateway).filter_map(told).collect()
    }

    fn upstreams(&self, gateway: &Gateway) -> Vec<Upstream> {
        let nothing = OfUpstream::default();
        let upstream = |cluster: &Arc<Cluster>| {
            let [now, before, oldest] = [self.now, self.before, self.oldest]
                .map(|reading| reading.upstreams.get(&cluster.name).unwrap_or(&nothing));
            let (about, endpoints) = cluster.view().parts();
            let endpoint = |view: EndpointView| {
                let [now, before, oldest] =
                    [now, before, oldest].map(|upstream| upstream.endpoint(&view.name));
                let (since, lately) = (&now - &before, &now - &oldest);
                OfEndpoint {
                    figures: Tries::of_endpoint(&since, &lately, self.time()),
                    view,
                }
            };
            let endpoints: Vec<_> = endpoints.into_iter().map(endpoint).collect();
            let since = &now.figures - &before.figures;
            let lately = &now.figures - &oldest.figures;
            let active = endpoints.iter().map(|endpoint| endpoint.view.active);
            Upstream {
                about,
                figures: Tries::of_upstream(&since, &lately, self.time()),
                in_flight: active.map(u64::from).sum(),
                endpoints,
            }
        };
        gateway.clusters.iter().map(upstream).collect()
    }

    fn caches(&self, gateway: &Gateway) -> Vec<Cache> {
        let zones = caches::zones(gateway).into_iter();
        zones
            .map(|zone| {
                let of = |reading: &Reading, event| {
                    reading
                        .caches
                        .get(zone.name())
                        .map_or(0, |counts| counts[event as usize])
                };
                let come = |before, event| of(self.now, event).saturating_sub(of(before, event));
                let here = [Event::Hit, Event::Stale, Event::Revalidated]
                    .map(|event| come(self.oldest, event));
                let elsewhere = [Event::Miss, Event::Expired].map(|event| come(self.oldest, event));
                let (here, elsewhere) = (here.iter().sum::<u64>(), elsewhere.iter().sum::<u64>());
                let all = Event::ALL
                    .iter()
                    .filter(|(event, _)| *event != Event::Coalesced);
                let all = all.map(|(event, _)| come(self.before, *event)).sum();
                let ratio = here as f64 / (here + elsewhere).max(1) as f64;
                Cache {
                    view: caches::View::of(zone),
                    requests_per_s: per_second(all, self.time()),
                    hit_ratio: (here + elsewhere > 0).then(|| rounded(ratio)),
                }
            })
            .collect()
    }

    fn filters(&self, gateway: &Gateway) -> Vec<Filter> {
        let rules = |tally: &Tally| {
            let counts = tally.counts().into_iter();
            counts
                .map(|count| {
                    let before = self.before.refusals.get(&Rule::of(tally, &count.rule));
                    let come = count
                        .refused
                        .saturating_sub(before.copied().unwrap_or_default());
                    OfRule {
                        refused_per_s: per_second(come, self.time()),
                        rule: count.rule,
                        refused: count.refused,
                        reported: count.reported,
                    }
                })
                .collect::<Vec<_>>()
        };
        let told = |(mode, tally): (&'static str, &Tally)| {
            let rules = rules(tally);
            Filter {
                route: tally.route.clone(),
                name: tally.filter.clone(),
                mode,
                refused: rules.iter().map(|rule| rule.refused).sum(),
                reported: rules.iter().map(|rule| rule.reported).sum(),
                failed: tally.failed(),
                rules,
            }
        };
        filters::watching(gateway).map(told).collect()
    }
}

fn difference(now: &RequestFigures, before: Option<&RequestFigures>) -> RequestFigures {
    before.map_or_else(|| now.clone(), |before| now - before)
}

/// The last refusals of all filters.
fn refusals(gateway: &Gateway) -> Vec<Refused> {
    let mut all: Vec<_> = filters::watching(gateway)
        .flat_map(|(_, tally)| {
            let recent = tally.recent().into_iter();
            recent.map(|refusal| Refused {
                filter: tally.filter.clone(),
                refusal: refusal.into(),
            })
        })
        .collect();
    all.sort_by_key(|refused| std::cmp::Reverse(refused.refusal.at_ms));
    all.truncate(RECENT);
    all
}

fn clients(gateway: &Gateway) -> Vec<Client> {
    let most = gateway.refused.most(CLIENTS).into_iter();
    let client = |offender: Offender| Client {
        client: offender.client.to_string(),
        count: offender.count,
        filter: (*offender.filter).into(),
    };
    most.map(client).collect()
}

fn failures(gateway: &Gateway) -> Vec<Failed> {
    let last = gateway.failures.last().into_iter().take(RECENT);
    last.map(|failure: Failure| Failed {
        at_ms: failure.at,
        request_id: failure.request_id,
        client: failure.client.to_string(),
        route: (*failure.route).into(),
        upstream: failure.upstream.map(|name| (*name).into()),
        endpoint: failure.endpoint.map(|name| (*name).into()),
        status: failure.status,
        reason: failure.reason,
    })
    .collect()
}

impl Configuration {
    fn of(gateway: &Gateway, attempts: Vec<Attempt>) -> Self {
        let written = &gateway.written;
        let own = attempts
            .iter()
            .find(|attempt| attempt.revision == Some(gateway.revision));
        let changes = own.map(|attempt| &*attempt.changes).unwrap_or_default();
        Self {
            revision: gateway.revision,
            hash: written.hash.clone(),
            file: written.files.first().map(|file| file.display().to_string()),
            loaded_at_ms: since_1970(gateway.loaded_at),
            by: own.map(|attempt| attempt.by),
            changes: changes.iter().take(CHANGES).cloned().collect(),
            changes_left_out: changes.len().saturating_sub(CHANGES),
            attempts: attempts.into_iter().map(Read::from).collect(),
        }
    }
}

impl From<Attempt> for Read {
    fn from(attempt: Attempt) -> Self {
        Self {
            at_ms: attempt.at_ms,
            by: attempt.by,
            ok: attempt.ok,
            revision: attempt.revision,
            changes: attempt.changes.len(),
            reason: attempt.reason,
        }
    }
}

/// To three digits.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

/// One of a gateway that has just been started.
pub(super) const EXAMPLE: &str = r#"{ "at_ms": 1790000000000, "interval_s": 1.0, "window_s": 7.0,
    "process": { "version": "0.1.0", "pid": 812, "uptime_s": 86400, "cpu": 0.21, "rss_bytes": 31457280, "fds": 48, "threads": 5 },
    "serving": "serving",
    "total": { "requests": 91204, "requests_per_s": 812.5, "classes": { "none": 0, "1xx": 0, "2xx": 800.5, "3xx": 4, "4xx": 8, "5xx": 0 },
        "in_flight": 3, "p50_ms": 1.2, "p95_ms": 4.8, "p99_ms": 9.1, "received_bytes_per_s": 0, "sent_bytes_per_s": 162500, "connections": 64 },
    "routes": [], "upstreams": [], "caches": [], "filters": [], "refusals": [], "refused_clients": [], "listeners": [], "failures": [],
    "maintenance": { "all": { "route": "*", "on": false, "said_by": "default", "configured": false, "allow": [],
        "retry_after_s": null, "refused": 0 }, "routes": [] },
    "configuration": { "revision": 1, "hash": "3f9a0c71e2b4", "file": "/etc/edgeway/edgeway.yaml", "loaded_at_ms": 1789913600000,
        "by": "start", "changes": [], "changes_left_out": 0, "attempts": [] } }"#;
