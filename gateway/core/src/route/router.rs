//! Finds the route for a request.

use std::iter;

use ahash::AHashMap;
use http::{HeaderMap, Method};
use regex::Regex;

use super::{
    Host, HostPattern, Match,
    table::{Place, Table, probe},
};

/// All routes of a configuration, each with a value.
#[derive(Debug)]
pub struct Router<T> {
    pub(super) routes: Vec<(Match, T)>,
    exact: AHashMap<Box<str>, Table>,
    wildcards: AHashMap<Box<str>, Table>,
    any: Table,
}

/// What of a request decides on its route.
#[derive(Debug, Clone, Copy)]
pub struct RouteRequest<'a> {
    /// The host it is for; `None` if it names none (HTTP/1.0), which leaves the routes without a host.
    pub host: Option<&'a Host<'a>>,
    /// [`Normalised::matched`](super::Normalised::matched).
    pub path: &'a str,
    /// [`Normalised::readings`](super::Normalised::readings). Empty if ambiguous paths are to be let through,
    /// which is safe only if no upstream decodes `%2F` or drops `;parameters`.
    pub readings: &'a [String],
    /// The method.
    pub method: &'a Method,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The listener that the request has come to.
    pub listener: &'a str,
    /// The headers, for predicates on them and on cookies.
    pub headers: &'a HeaderMap,
    /// The query without its `?`, if there is one.
    pub query: Option<&'a str>,
}

/// The outcome of a search.
#[derive(Debug)]
pub enum Found<'r, T> {
    /// A route.
    Hit(Hit<'r, T>),
    /// No route, but there would be one with another of these methods, each named once: a 405 with `Allow`.
    MethodNotAllowed(Vec<Method>),
    /// Another reading of the path leads to another route, so that the filters of the one might guard what
    /// the upstream takes for the other: a 400.
    Ambiguous,
    /// No route.
    NotFound,
}

/// A route that was found.
#[derive(Debug)]
pub struct Hit<'r, T> {
    /// Its place in the list the router was made of.
    pub index: usize,
    /// Its value.
    pub value: &'r T,
    /// What it says about requests.
    pub matching: &'r Match,
    /// How its path was reached.
    pub reached: Reached,
}

/// How a path leads to a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// The path is one of the route's.
    Path,
    /// The route is for `/users/`, the path is `/users`, and nothing more specific has it. The client is
    /// to be redirected to the path with the slash.
    SlashMissing,
}

impl<T> Hit<'_, T> {
    /// The regex of the route's path, if it has one, for rewrites with captures.
    pub fn regex(&self) -> Option<&Regex> {
        self.matching.path().captures()
    }
}

impl<T> Router<T> {
    /// Makes a router of routes in file order.
    pub fn new(routes: impl IntoIterator<Item = (Match, T)>) -> Self {
        let mut router = Self {
            routes: routes.into_iter().collect(),
            exact: AHashMap::new(),
            wildcards: AHashMap::new(),
            any: Table::default(),
        };
        router.fill();
        router
    }

    /// The values of all routes, in file order.
    pub fn routes(&self) -> impl Iterator<Item = &T> {
        self.routes.iter().map(|(_, value)| value)
    }

    /// Finds the route for a request, by the precedence that is described at [`route`](super).
    pub fn find(&self, request: &RouteRequest<'_>) -> Found<'_, T> {
        let place = self.place(request, request.path);
        let differs = |reading: &String| self.place(request, reading) != place;
        if request.readings.iter().any(differs) {
            return Found::Ambiguous;
        }
        let Some(Place { route, reached }) = place else {
            return self.miss(request);
        };
        let (matching, value) = &self.routes[route];
        Found::Hit(Hit {
            index: route,
            value,
            matching,
            reached,
        })
    }

    fn fill(&mut self) {
        for (route, (matching, _)) in self.routes.iter().enumerate() {
            if matching.host_patterns().is_empty() {
                self.any.insert(route, matching);
            }
            for host in matching.host_patterns() {
                let table = match host {
                    HostPattern::Exact(name) => self.exact.entry(name.as_str().into()),
                    HostPattern::Wildcard(suffix) => self.wildcards.entry(suffix.as_str().into()),
                };
                table.or_default().insert(route, matching);
            }
        }
        let tables = self.exact.values_mut().chain(self.wildcards.values_mut());
        tables
            .chain(iter::once(&mut self.any))
            .for_each(Table::finish);
    }

    fn place(&self, request: &RouteRequest<'_>, path: &str) -> Option<Place> {
        let mut accept = |route: usize| {
            let (matching, _) = &self.routes[route];
            matching.allows(request.method) && matching.predicates_hold(request)
        };
        self.tables(request.host)
            .find_map(|table| table.find(path, &mut accept))
    }

    /// Goes over the candidates once more, to tell a wrong method from a wrong path.
    fn miss(&self, request: &RouteRequest<'_>) -> Found<'_, T> {
        let mut allowed: Vec<Method> = Vec::new();
        let mut refuse = |route: usize| {
            let (matching, _) = &self.routes[route];
            if matching.predicates_hold(request) {
                for method in matching.allowed() {
                    if !allowed.contains(method) {
                        allowed.push(method.clone());
                    }
                }
            }
            false
        };
        for table in self.tables(request.host) {
            table.find(request.path, &mut refuse);
        }
        if allowed.is_empty() {
            Found::NotFound
        } else {
            Found::MethodNotAllowed(allowed)
        }
    }

    /// The tables for a host, the most specific first.
    fn tables<'s>(&'s self, host: Option<&'s Host<'_>>) -> impl Iterator<Item = &'s Table> {
        let name = host.map_or("", Host::as_str);
        let exact = iter::once_with(|| probe(&self.exact, name)).flatten();
        let wildcards = suffixes(name).filter_map(|suffix| probe(&self.wildcards, suffix));
        exact.chain(wildcards).chain(iter::once(&self.any))
    }
}

/// What follows each dot of a name: `b.c` and `c` for `a.b.c`.
fn suffixes(name: &str) -> impl Iterator<Item = &str> {
    iter::successors(Some(name), |name| {
        name.split_once('.').map(|(_, suffix)| suffix)
    })
    .skip(1)
}
