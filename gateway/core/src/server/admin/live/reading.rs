//! What was counted up to a moment, to tell what has come between two.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    cache::count::Event,
    server::admin::{caches, calls::Desk, filters},
    snapshot::{Gateway, Route},
    telemetry::{
        meter::{RequestFigures, TryFigures},
        process::Usage,
        tally::Tally,
    },
};

/// What was counted up to a moment.
pub(super) struct Reading {
    pub(super) at: Instant,
    pub(super) usage: Usage,
    pub(super) routes: HashMap<Arc<str>, RequestFigures>,
    pub(super) upstreams: HashMap<Arc<str>, OfUpstream>,
    /// Refusals, each filter's by its rules.
    pub(super) refusals: HashMap<Rule, u64>,
    pub(super) caches: HashMap<&'static str, [u64; Event::ALL.len()]>,
}

#[derive(Default)]
pub(super) struct OfUpstream {
    pub(super) figures: TryFigures,
    pub(super) endpoints: HashMap<Arc<str>, TryFigures>,
}

impl OfUpstream {
    /// What was counted of an endpoint: nothing of one that was not there.
    pub(super) fn endpoint(&self, name: &str) -> TryFigures {
        self.endpoints.get(name).cloned().unwrap_or_default()
    }
}

/// A rule of a filter of a route.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Rule {
    route: Box<str>,
    filter: Box<str>,
    rule: Box<str>,
}

impl Reading {
    pub(super) fn of(gateway: &Gateway) -> Self {
        let routes = routes(gateway).map(|route| (Arc::clone(&route.name), route.meter.figures()));
        let upstreams = gateway.clusters.iter().map(|cluster| {
            let members = cluster.members();
            let endpoints = members.endpoints.iter();
            let endpoints = endpoints
                .map(|endpoint| (Arc::clone(&endpoint.name), endpoint.state.meter.figures()));
            let upstream = OfUpstream {
                figures: cluster.meter().figures(),
                endpoints: endpoints.collect(),
            };
            (Arc::clone(&cluster.name), upstream)
        });
        let caches = caches::zones(gateway).into_iter().map(|zone| {
            let counts = Event::ALL.map(|(event, _)| zone.counters.total(event));
            (zone.name(), counts)
        });
        Self {
            at: Instant::now(),
            usage: Usage::now(),
            routes: routes.collect(),
            upstreams: upstreams.collect(),
            refusals: filters::watching(gateway)
                .flat_map(|(_, tally)| refusals(tally))
                .collect(),
            caches: caches.collect(),
        }
    }
}

fn refusals(tally: &Tally) -> impl Iterator<Item = (Rule, u64)> {
    let counts = tally.counts().into_iter();
    counts.map(|count| (Rule::of(tally, &count.rule), count.refused))
}

impl Rule {
    pub(super) fn of(tally: &Tally, rule: &str) -> Self {
        Self {
            route: tally.route.clone(),
            filter: tally.filter.clone(),
            rule: rule.into(),
        }
    }
}

/// All routes, and what stands for none. Of those that share a name, and so their figures, the first.
pub(super) fn routes(gateway: &Gateway) -> impl Iterator<Item = &Arc<Route>> {
    let mut seen = std::collections::HashSet::new();
    gateway
        .router
        .routes()
        .chain([&gateway.fallback])
        .filter(move |route| seen.insert(&*route.name))
}

/// The last readings: the one before, and one that is five to ten seconds old, since percentiles of less would jump.
pub(super) struct Window {
    pub(super) before: Arc<Reading>,
    marks: VecDeque<Arc<Reading>>,
}

/// How far two marks are apart.
const STEP: Duration = Duration::from_secs(5);

impl Window {
    pub(super) fn open(desk: &Desk) -> Self {
        let first = Arc::new(Reading::of(&desk.gateway()));
        Self {
            before: Arc::clone(&first),
            marks: VecDeque::from([first]),
        }
    }

    /// The oldest that is known.
    pub(super) fn oldest(&self) -> &Arc<Reading> {
        self.marks.front().unwrap_or(&self.before)
    }

    /// Moves on.
    pub(super) fn step(&mut self, now: Arc<Reading>) {
        let since = |mark: &Arc<Reading>| now.at.duration_since(mark.at);
        if self.marks.back().is_none_or(|mark| since(mark) >= STEP) {
            self.marks.push_back(Arc::clone(&now));
        }
        // The front is left as long as what would follow is younger than a step.
        while self.marks.get(1).is_some_and(|mark| since(mark) >= STEP) {
            self.marks.pop_front();
        }
        self.before = now;
    }
}
