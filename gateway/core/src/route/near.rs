//! Which routes a request might have been meant for, and why they are not taken.

use super::{HostPattern, Match, PathPattern, Predicate, RouteRequest, Router};

/// Why a route is not the one that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Miss {
    /// It is for other hosts.
    Host,
    /// It is for other paths, though not quite unlike this one.
    Path,
    /// It is for other methods.
    Method,
    /// This predicate does not hold, and what it looks at has these values.
    Predicate(Predicate, Vec<String>),
    /// It is for the request, too, but another one comes before it.
    Later,
}

/// How many routes are told of at most.
const MOST: usize = 6;

/// So many bytes at the beginning of two paths make them alike.
const ALIKE: usize = 3;

impl<T> Router<T> {
    /// The routes, in file order, that a request was nearly for, without the one of this index. Those that it misses
    /// by less come first when there are too many.
    pub fn near(
        &self,
        request: &RouteRequest<'_>,
        taken: Option<usize>,
    ) -> Vec<(&Match, &T, Miss)> {
        let mut near: Vec<_> = (0..)
            .zip(&self.routes)
            .filter(|(index, _)| Some(*index) != taken)
            .filter_map(|(index, (matching, value))| {
                let miss = matching.misses(request)?;
                Some((index, matching, value, miss))
            })
            .collect();
        near.sort_by_key(|(index, .., miss)| (miss.distance(), *index));
        near.truncate(MOST);
        near.sort_by_key(|(index, ..)| *index);
        near.into_iter()
            .map(|(_, matching, value, miss)| (matching, value, miss))
            .collect()
    }
}

impl Miss {
    /// What is wrong by more comes later.
    fn distance(&self) -> u8 {
        match self {
            Self::Predicate(..) | Self::Method => 0,
            Self::Later => 1,
            Self::Host => 2,
            Self::Path => 3,
        }
    }
}

impl Match {
    /// The first thing that speaks against a request; none if it is not worth a word.
    fn misses(&self, request: &RouteRequest<'_>) -> Option<Miss> {
        let path = self.path().is_for(request.path);
        if !self.is_for_host(request) {
            // What is for every path of another host tells nothing.
            let says =
                !matches!(self.path(), PathPattern::Prefix(prefix, _) if prefix.as_str() == "/");
            return (path && says).then_some(Miss::Host);
        }
        if !path {
            return self.path().is_like(request.path).then_some(Miss::Path);
        }
        if !self.allows(request.method) {
            return Some(Miss::Method);
        }
        let failed = self
            .asked()
            .iter()
            .find(|predicate| !predicate.holds(request));
        Some(failed.map_or(Miss::Later, |failed| {
            Miss::Predicate(failed.clone(), failed.values(request))
        }))
    }

    fn is_for_host(&self, request: &RouteRequest<'_>) -> bool {
        let hosts = self.host_patterns();
        let Some(host) = request.host else {
            return hosts.is_empty();
        };
        let covers = |pattern: &HostPattern| match pattern {
            HostPattern::Exact(name) => name.as_str() == host.as_str(),
            HostPattern::Wildcard(suffix) => host
                .as_str()
                .strip_suffix(suffix.as_str())
                .is_some_and(|labels| labels.len() > 1 && labels.ends_with('.')),
        };
        hosts.is_empty() || hosts.iter().any(covers)
    }
}

impl PathPattern {
    /// Whether it is for this path, as normalised.
    fn is_for(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => exact.as_str() == path,
            Self::Prefix(prefix, _) => {
                let bare = prefix.as_str().trim_end_matches('/');
                let rest = path.strip_prefix(bare);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Regex(expression) => expression.regex().is_match(path),
        }
    }

    /// Whether somebody may have thought that it is for this path.
    fn is_like(&self, path: &str) -> bool {
        let own = match self {
            Self::Exact(text) | Self::Prefix(text, _) => text.as_str(),
            Self::Regex(_) => return false,
        };
        let alike = own.bytes().zip(path.bytes());
        let alike = alike.take_while(|(one, other)| one.eq_ignore_ascii_case(other));
        alike.count() >= ALIKE
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;
    use crate::route::{Case, Host, Rank, Subject, Test};

    fn prefix(path: &str) -> Match {
        Match::new(PathPattern::prefix(path, Rank::BelowRegex).unwrap())
    }

    /// What is said of a `GET` of this path at `a.org` to routes of which none is taken.
    fn said(routes: Vec<Match>, path: &str) -> Vec<Option<Miss>> {
        let known = routes.clone();
        let router = Router::new(routes.into_iter().map(|route| (route, ())));
        let host = Host::parse("a.org").unwrap();
        let headers = HeaderMap::new();
        let request = RouteRequest {
            host: Some(&host),
            path,
            readings: &[],
            method: &Method::GET,
            scheme: "http",
            listener: "http",
            headers: &headers,
            query: None,
        };
        let near = router.near(&request, None);
        let of = |route: &Match| near.iter().find(|(near, ..)| *near == route);
        known
            .iter()
            .map(|route| of(route).map(|(.., miss)| miss.clone()))
            .collect()
    }

    #[test]
    fn a_route_says_the_first_thing_that_speaks_against_a_request() {
        let other = HostPattern::parse("*.b.org").unwrap();
        let gold = Subject::header("x-tier").unwrap();
        let gold = Predicate::new(gold, Test::Equals("gold".into())).unwrap();
        let ours = HostPattern::parse("a.org").unwrap();
        let routes = vec![
            prefix("/products").methods([Method::POST]),
            prefix("/products").predicates([gold.clone()]),
            prefix("/products/new").hosts([ours]),
            prefix("/products").hosts([other.clone()]),
            prefix("/").hosts([other]),
            prefix("/"),
            prefix("/users"),
            Match::new(PathPattern::regex("^/users", Case::Sensitive).unwrap()),
        ];
        let expected = [
            Some(Miss::Method),
            Some(Miss::Predicate(gold, Vec::new())),
            Some(Miss::Path),
            Some(Miss::Host),
            None,
            Some(Miss::Later),
            None,
            None,
        ];
        assert_eq!(said(routes, "/products/7"), expected);
    }

    #[test]
    fn of_many_routes_those_are_told_that_were_missed_by_least() {
        let mut routes: Vec<_> = (0..MOST)
            .map(|number| prefix(&format!("/a/b{number}")))
            .collect();
        routes.push(prefix("/a/c").methods([Method::POST]));
        let said = said(routes, "/a/c");
        assert_eq!(said.iter().flatten().count(), MOST);
        assert_eq!(said.last().unwrap(), &Some(Miss::Method));
    }
}
