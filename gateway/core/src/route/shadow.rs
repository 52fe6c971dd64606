//! Routes that can never match, for a warning by `edgeway check`.

use std::collections::HashMap;

use super::{Expression, HostPattern, Match, PathPattern, PathText, Rank};

/// A route that another one always wins against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shadowed {
    /// The route that can never match, by its place in the list.
    pub route: usize,
    /// The first route that takes all its requests.
    pub by: usize,
}

/// Finds routes that can never match, in file order.
///
/// A route is named only if one other route surely takes every request it could have: on the same hosts,
/// with the same path or a regex that every path matches, under conditions that hold whenever its own do.
/// Routes that only several others together make unreachable are not found.
pub fn unreachable(matches: &[Match]) -> Vec<Shadowed> {
    let groups = Groups::new(matches);
    let shadowed = |route| {
        Some(Shadowed {
            route,
            by: groups.rival(route)?,
        })
    };
    (0..matches.len()).filter_map(shadowed).collect()
}

/// Routes by one of their hosts and their path, so that only those that could be rivals are compared.
struct Groups<'m> {
    matches: &'m [Match],
    same_path: HashMap<(Option<&'m HostPattern>, SharedPath<'m>), Vec<usize>>,
    any_path: HashMap<Option<&'m HostPattern>, Vec<usize>>,
    /// Where each regex appears first, which is where it is tried.
    regexes: HashMap<&'m PathPattern, usize>,
}

impl<'m> Groups<'m> {
    fn new(matches: &'m [Match]) -> Self {
        let mut groups = Self {
            matches,
            same_path: HashMap::new(),
            any_path: HashMap::new(),
            regexes: HashMap::new(),
        };
        for (route, matching) in matches.iter().enumerate() {
            for host in hosts(matching) {
                groups
                    .same_path
                    .entry((host, SharedPath::of(matching)))
                    .or_default()
                    .push(route);
                if is_any_path(matching.path()) {
                    groups.any_path.entry(host).or_default().push(route);
                }
            }
            groups.regexes.entry(matching.path()).or_insert(route);
        }
        groups
    }

    fn rival(&self, route: usize) -> Option<usize> {
        let matching = &self.matches[route];
        let host = hosts(matching).next()?;
        let same = self
            .same_path
            .get(&(host, SharedPath::of(matching)))
            .into_iter()
            .flatten();
        let any = self.any_path.get(&host).into_iter().flatten();
        let same = same.filter(|&&rival| self.precedes(rival, route));
        let any = any.filter(|&&rival| self.regex_precedes(rival, route));
        let takes_all = |rival: &usize| {
            let rival = &self.matches[*rival];
            hosts(matching).all(|host| hosts(rival).any(|other| other == host))
                && rival.is_implied_by(matching)
        };
        same.chain(any).copied().filter(takes_all).min()
    }

    /// Whether a rival with the same path is asked first.
    fn precedes(&self, rival: usize, route: usize) -> bool {
        let weight = |route: usize| self.matches[route].weight();
        weight(rival) > weight(route) || (weight(rival) == weight(route) && rival < route)
    }

    /// Whether a regex that every path matches is asked before a route with another path.
    fn regex_precedes(&self, rival: usize, route: usize) -> bool {
        match self.matches[route].path() {
            PathPattern::Exact(_) | PathPattern::Prefix(_, Rank::AboveRegex) => false,
            PathPattern::Prefix(_, Rank::BelowRegex) => true,
            PathPattern::Regex(_) => rival < self.regexes[self.matches[route].path()],
        }
    }
}

/// A path as routes share it: two prefixes of different rank are asked in one list.
#[derive(PartialEq, Eq, Hash)]
enum SharedPath<'m> {
    Exact(&'m PathText),
    Prefix(&'m PathText),
    Regex(&'m Expression),
}

impl<'m> SharedPath<'m> {
    fn of(matching: &'m Match) -> Self {
        match matching.path() {
            PathPattern::Exact(path) => Self::Exact(path),
            PathPattern::Prefix(path, _) => Self::Prefix(path),
            PathPattern::Regex(expression) => Self::Regex(expression),
        }
    }
}

/// The hosts a route is found under; `None` stands for every host.
fn hosts(matching: &Match) -> impl Iterator<Item = Option<&HostPattern>> {
    let patterns = matching.host_patterns();
    patterns
        .iter()
        .map(Some)
        .chain(patterns.is_empty().then_some(None))
}

/// Only the regexes of which this is plain; a regex that is not listed costs a warning, not a wrong one.
fn is_any_path(path: &PathPattern) -> bool {
    let PathPattern::Regex(expression) = path else {
        return false;
    };
    let pattern = expression.regex().as_str().trim_start_matches("(?i)");
    [
        "", ".*", "^", "/", "^/", "^.*", "^.*$", ".*$", "^/.*", "^/.*$",
    ]
    .contains(&pattern)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{Case, Predicate, Subject, Test, method};

    fn prefix(path: &str) -> Match {
        Match::new(PathPattern::prefix(path, Rank::BelowRegex).unwrap())
    }

    fn first(path: &str) -> Match {
        Match::new(PathPattern::prefix(path, Rank::AboveRegex).unwrap())
    }

    fn exact(path: &str) -> Match {
        Match::new(PathPattern::exact(path).unwrap())
    }

    fn regex(pattern: &str) -> Match {
        Match::new(PathPattern::regex(pattern, Case::Sensitive).unwrap())
    }

    fn on(matching: Match, hosts: &[&str]) -> Match {
        matching.hosts(hosts.iter().map(|host| HostPattern::parse(host).unwrap()))
    }

    fn by(matching: Match, methods: &[&str]) -> Match {
        matching.methods(methods.iter().map(|name| method(name).unwrap()))
    }

    fn with(matching: Match, header: &str, test: Test) -> Match {
        matching.predicates([Predicate::new(Subject::header(header).unwrap(), test).unwrap()])
    }

    fn gold() -> Test {
        Test::Equals("gold".into())
    }

    #[test]
    fn a_route_that_another_always_wins_against_is_named() {
        let shadowed = [
            ("a duplicate", prefix("/a"), prefix("/a")),
            ("another spelling", exact("/a%2fb"), exact("/%61%2Fb")),
            ("another rank", prefix("/a"), first("/a")),
            ("a duplicate regex", regex("^/a"), regex("^/a")),
            (
                "fewer hosts",
                on(prefix("/"), &["a.org", "*.b.org"]),
                on(prefix("/"), &["*.B.org"]),
            ),
            (
                "fewer methods",
                by(prefix("/"), &["GET", "POST"]),
                by(prefix("/"), &["HEAD"]),
            ),
            (
                "the same header",
                with(prefix("/"), "x", gold()),
                with(prefix("/"), "X", gold()),
            ),
            (
                "a header that is there",
                with(prefix("/"), "x", Test::Present),
                with(prefix("/"), "x", gold()),
            ),
            ("a regex for every path", regex("^/"), prefix("/a/b")),
            (
                "a regex before a regex",
                regex(".*"),
                by(regex("^/a"), &["GET"]),
            ),
        ];
        for (what, earlier, later) in shadowed {
            assert_eq!(
                unreachable(&[earlier, later]),
                [Shadowed { route: 1, by: 0 }],
                "{what}"
            );
        }
    }

    #[test]
    fn an_earlier_route_is_named_if_a_later_one_is_more_specific() {
        let plain = with(prefix("/"), "x", gold());
        let twice = with(with(prefix("/"), "x", gold()), "x", Test::Present);
        assert_eq!(unreachable(&[plain, twice]), [Shadowed { route: 0, by: 1 }]);
        assert_eq!(
            unreachable(&[prefix("/a"), regex("^/")]),
            [Shadowed { route: 0, by: 1 }]
        );
    }

    #[test]
    fn a_route_with_conditions_of_its_own_is_not_named() {
        let value = |text: &str| Test::Equals(text.into());
        let reachable = [
            (
                "more predicates",
                prefix("/"),
                with(prefix("/"), "x", gold()),
            ),
            (
                "another value",
                with(prefix("/"), "x", gold()),
                with(prefix("/"), "x", value("b")),
            ),
            (
                "another header",
                with(prefix("/"), "x", gold()),
                with(prefix("/"), "y", gold()),
            ),
            (
                "more methods",
                by(prefix("/"), &["POST"]),
                by(prefix("/"), &["POST", "PUT"]),
            ),
            ("all methods", by(prefix("/"), &["GET"]), prefix("/")),
        ];
        none_is_named(reachable);
    }

    #[test]
    fn a_route_with_hosts_of_its_own_is_not_named() {
        let reachable = [
            (
                "a more specific host",
                prefix("/"),
                on(prefix("/"), &["a.org"]),
            ),
            (
                "more hosts",
                on(prefix("/"), &["a.org"]),
                on(prefix("/"), &["a.org", "b.org"]),
            ),
            (
                "a wildcard",
                on(prefix("/"), &["a.org"]),
                on(prefix("/"), &["*.a.org"]),
            ),
            (
                "a regex on a host",
                on(regex("^/"), &["a.org"]),
                prefix("/a"),
            ),
        ];
        none_is_named(reachable);
    }

    #[test]
    fn a_route_with_a_path_of_its_own_is_not_named() {
        let any_case = Match::new(PathPattern::regex("^/a", Case::Ignored).unwrap());
        let reachable = [
            ("another path", prefix("/a"), prefix("/a/b")),
            ("an exact path", prefix("/a"), exact("/a")),
            ("a slash", prefix("/a"), prefix("/a/")),
            ("an exact path beside a regex", regex("^/"), exact("/a")),
            ("a prefix asked before a regex", regex("^/"), first("/a")),
            ("a regex before the one for all", regex("^/a"), regex("^/")),
            (
                "a regex with a condition",
                by(regex("^/"), &["GET"]),
                prefix("/a"),
            ),
            ("case", regex("^/a"), any_case),
        ];
        none_is_named(reachable);
    }

    fn none_is_named<const N: usize>(reachable: [(&str, Match, Match); N]) {
        for (what, earlier, later) in reachable {
            assert_eq!(unreachable(&[earlier, later]), [], "{what}");
        }
    }
}
