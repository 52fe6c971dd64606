//! The router as a whole: a table of precedence, and a comparison with a reference that is too slow and too
//! plain to be wrong.

use std::cell::Cell;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::*;

thread_local! {
    static PROBES: Cell<usize> = const { Cell::new(0) };
}

pub(super) fn count_probe() {
    PROBES.with(|probes| probes.set(probes.get() + 1));
}

/// A small deterministic generator (xorshift64*), so that a failure can be repeated.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap() % limit
    }

    pub(super) fn bytes(&mut self, limit: usize) -> Vec<u8> {
        let length = self.below(limit);
        (0..length)
            .map(|_| u8::try_from(self.below(256)).unwrap())
            .collect()
    }

    /// A path of the pieces that attacks are made of.
    pub(super) fn path_soup(&mut self) -> String {
        let length = self.below(10);
        (0..=length).fold("/".to_owned(), |path, _| path + self.pick(&SOUP))
    }

    fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }
}

const SOUP: [&str; 26] = [
    "/", "/", "/", "a", "b", ".", "..", "/../", "/./", "//", "%2e", "%2E", "%2f", "%2F", "%5c",
    "\\", ";", ";x=1", "%3b", "%61", "%e9", "é", "%20", "%25", "%252e", "..;",
];

/// A request that is built in one expression.
struct Asked {
    host: Option<&'static str>,
    path: String,
    method: Method,
    headers: HeaderMap,
    query: Option<&'static str>,
}

fn get(host: &'static str, path: &str) -> Asked {
    let host = (!host.is_empty()).then_some(host);
    Asked {
        host,
        path: path.to_owned(),
        method: Method::GET,
        headers: HeaderMap::new(),
        query: None,
    }
}

impl Asked {
    fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        );
        self
    }

    /// The outcome as text: `3`, `3/` for a missing slash, `404`, `405 GET,HEAD`, `400`.
    fn of<T>(&self, router: &Router<T>) -> String {
        let Ok(path) = normalise(&self.path) else {
            return "400".to_owned();
        };
        let host = self.host.map(|host| Host::parse(host).unwrap());
        let request = RouteRequest {
            host: host.as_ref(),
            path: path.matched(),
            readings: path.readings(),
            method: &self.method,
            scheme: "http",
            listener: "http",
            headers: &self.headers,
            query: self.query,
        };
        shown(&router.find(&request))
    }
}

fn shown<T>(found: &Found<'_, T>) -> String {
    match found {
        Found::Hit(Hit {
            index,
            reached: Reached::Path,
            ..
        }) => index.to_string(),
        Found::Hit(Hit {
            index,
            reached: Reached::SlashMissing,
            ..
        }) => format!("{index}/"),
        Found::MethodNotAllowed(methods) => {
            let names: Vec<_> = methods.iter().map(Method::as_str).collect();
            format!("405 {}", names.join(","))
        }
        Found::Ambiguous => "400".to_owned(),
        Found::NotFound => "404".to_owned(),
    }
}

/// Reads `host path methods`: `=/a` exact, `^/a` a prefix before regexes, `~x` and `~*x` regexes.
fn route(text: &str) -> Match {
    let mut words = text.split(' ');
    let (host, path) = (words.next().unwrap(), words.next().unwrap());
    let path = match path.split_at(1) {
        ("=", path) => PathPattern::exact(path),
        ("^", path) => PathPattern::prefix(path, Rank::AboveRegex),
        ("~", pattern) => match pattern.strip_prefix('*') {
            Some(pattern) => PathPattern::regex(pattern, Case::Ignored),
            None => PathPattern::regex(pattern, Case::Sensitive),
        },
        _ => PathPattern::prefix(path, Rank::BelowRegex),
    };
    let hosts = (host != "-").then(|| HostPattern::parse(host).unwrap());
    let methods = words.map(|name| method(name).unwrap());
    Match::new(path.unwrap()).hosts(hosts).methods(methods)
}

fn router(routes: &[&str]) -> Router<()> {
    Router::new(routes.iter().map(|text| (route(text), ())))
}

fn header(name: &str, test: Test) -> Predicate {
    Predicate::new(Subject::header(name).unwrap(), test).unwrap()
}

#[test]
fn precedence_is_host_then_exact_then_regex_then_longest_prefix() {
    let router = router(&[
        "- /",                          // 0
        "*.example.com /",              // 1
        "*.api.example.com /",          // 2
        "api.example.com /",            // 3
        "api.example.com /users/",      // 4
        "api.example.com /users/admin", // 5
        "api.example.com =/users/me",   // 6
        r"api.example.com ~\.php$",     // 7
        r"api.example.com ~*\.jpg$",    // 8
        "api.example.com ~^/users/x",   // 9
        "api.example.com ^/static/",    // 10
        "api.example.com /static/deep", // 11
    ]);
    let table = [
        ("", "/x", "0"),
        ("example.com", "/x", "0"),
        ("unknown.org", "/x", "0"),
        ("a.example.com", "/x", "1"),
        ("a.b.example.com", "/x", "1"),
        ("a.api.example.com", "/x", "2"),
        ("a.b.api.example.com", "/x", "2"),
        ("api.example.com", "/x", "3"),
        ("API.example.com.:8443", "/x", "3"),
        ("api.example.com", "/users/7", "4"),
        ("api.example.com", "/users/", "4"),
        ("api.example.com", "/users", "4/"),
        ("api.example.com", "/usersx", "3"),
        ("api.example.com", "/users/admin", "5"),
        ("api.example.com", "/users/admin/", "5"),
        ("api.example.com", "/users/admin/x", "5"),
        ("api.example.com", "/users/administrator", "4"),
        ("api.example.com", "/users/me", "6"),
        ("api.example.com", "/users/me/", "4"),
        ("api.example.com", "/users/a.php", "7"),
        ("api.example.com", "/users/xa.php", "7"),
        ("api.example.com", "/users/a.PHP", "4"),
        ("api.example.com", "/a.JpG", "8"),
        ("api.example.com", "/users/xa", "9"),
        ("api.example.com", "/static/a.php", "10"),
        ("api.example.com", "/static", "10/"),
        ("api.example.com", "/static/deep/a.php", "7"),
        ("api.example.com", "/static/deep/a", "11"),
    ];
    for (host, path, expected) in table {
        assert_eq!(get(host, path).of(&router), expected, "{host}{path}");
    }
}

#[test]
fn a_prefix_is_for_whole_segments() {
    let router = router(&["- /product"]);
    for (path, expected) in [
        ("/product", "0"),
        ("/product/", "0"),
        ("/product/x", "0"),
        ("/products", "404"),
        ("/", "404"),
        ("/Product", "404"),
    ] {
        assert_eq!(get("", path).of(&router), expected, "{path}");
    }
}

#[test]
fn a_missing_slash_is_redirected_unless_something_more_specific_has_the_path() {
    let table: [(&[&str], &str); 7] = [
        (&["- /users/"], "0/"),
        (&["- /users/", "- /"], "0/"),
        (&["- /", "- ^/users/", "- ~^/users"], "1/"),
        (&["- /users/", "- =/users"], "1"),
        (&["- /users/", "- /users"], "1"),
        (&["- /users/", "- ~^/users$"], "1"),
        (&["- /users/ POST", "- /"], "1"),
    ];
    for (routes, expected) in table {
        assert_eq!(
            get("", "/users").of(&router(routes)),
            expected,
            "{routes:?}"
        );
    }
}

#[test]
fn only_the_longest_matching_prefix_stops_the_regexes() {
    let router = router(&["- ^/a", "- /a/b", "- ~x$"]);
    for (path, expected) in [("/a/x", "0"), ("/a/b/x", "2"), ("/a/b/y", "1"), ("/x", "2")] {
        assert_eq!(get("", path).of(&router), expected, "{path}");
    }
}

#[test]
fn more_predicates_beat_fewer_and_then_file_order_decides() {
    let present = |name| header(name, Test::Present);
    let router = Router::new([
        (route("- /"), ()),
        (route("- / GET"), ()),
        (route("- /").predicates([present("x-a")]), ()),
        (route("- / GET").predicates([present("x-a")]), ()),
        (
            route("- /").predicates([present("x-a"), present("x-b")]),
            (),
        ),
    ]);
    assert_eq!(get("", "/").of(&router), "1");
    assert_eq!(get("", "/").method(Method::PUT).of(&router), "0");
    assert_eq!(get("", "/").header("x-a", "").of(&router), "3");
    assert_eq!(
        get("", "/")
            .method(Method::PUT)
            .header("x-a", "")
            .of(&router),
        "2"
    );
    assert_eq!(
        get("", "/").header("x-a", "").header("x-b", "").of(&router),
        "3"
    );
    assert_eq!(
        get("", "/")
            .method(Method::PUT)
            .header("x-a", "")
            .header("x-b", "")
            .of(&router),
        "4"
    );
}

#[test]
fn a_route_whose_predicates_fail_leaves_the_request_to_the_next_also_of_less_specific_hosts() {
    let router = router(&[
        "a.example.com =/x POST",
        "a.example.com ~^/x PUT",
        "a.example.com /x/ DELETE",
        "*.example.com /x PATCH",
        "- / GET",
    ]);
    for (method, expected) in [
        (Method::POST, "0"),
        (Method::PUT, "1"),
        (Method::DELETE, "2/"),
        (Method::PATCH, "3"),
        (Method::HEAD, "4"),
        (Method::OPTIONS, "405 POST,DELETE,PUT,PATCH,GET,HEAD"),
    ] {
        assert_eq!(
            get("a.example.com", "/x").method(method).of(&router),
            expected
        );
    }
    assert_eq!(get("a.example.com", "/y").of(&router), "4");
}

#[test]
fn methods_are_named_only_for_routes_that_would_match_with_them() {
    let router = Router::new([
        (route("- /a POST"), ()),
        (
            route("- /a DELETE").predicates([header("x-admin", Test::Present)]),
            (),
        ),
        (
            route("- /b").predicates([header("x-admin", Test::Present)]),
            (),
        ),
    ]);
    assert_eq!(get("", "/a").of(&router), "405 POST");
    assert_eq!(
        get("", "/a").header("x-admin", "1").of(&router),
        "405 DELETE,POST"
    );
    assert_eq!(get("", "/b").of(&router), "404");
    assert_eq!(get("", "/c").of(&router), "404");
}

#[test]
fn no_spelling_of_a_protected_path_reaches_the_route_beside_it() {
    let router = router(&["- /", "- /protected/", "- /public/"]);
    for path in [
        "/protected/x",
        "/%70rotected/x",
        "/%70%72%6ftected/x",
        "//protected//x",
        "/./protected/x",
        "/public/../protected/x",
        "/public/%2e%2e/protected/x",
        "/public/.%2e/protected/x",
    ] {
        assert_eq!(get("", path).of(&router), "1", "{path}");
    }
    for path in [
        "/public/..%2fprotected/x",
        "/public/..%5cprotected/x",
        "/public/..;/protected/x",
        "/public%2f../protected/x",
        "/protected%2fx",
        "/protected%5cx",
        "/%2fprotected/x",
        "/protected;a=b/x",
        "/;/protected/x",
        "/protected;a%2fx",
    ] {
        assert_eq!(get("", path).of(&router), "400", "{path}");
    }
}

#[test]
fn encoded_slashes_and_parameters_are_let_through_where_they_change_nothing() {
    let router = router(&["- /", "- /files/", "- ~^/files/[^/]+/raw$"]);
    for (path, expected) in [
        ("/files/a%2Fb", "1"),
        ("/files/a;v=2/b", "1"),
        ("/a%2Fb", "0"),
        ("/files/a/raw", "2"),
        ("/files/a;v=2/raw", "2"),
        ("/files/a%2Fb/raw", "400"),
    ] {
        assert_eq!(get("", path).of(&router), expected, "{path}");
    }
}

#[test]
fn captures_of_a_regex_are_there_for_rewrites() {
    let router = router(&["- ~^/v(\\d+)/(?P<rest>.*)$"]);
    let request = RouteRequest {
        host: None,
        path: "/v2/users",
        readings: &[],
        method: &Method::GET,
        scheme: "http",
        listener: "http",
        headers: &HeaderMap::new(),
        query: None,
    };
    let Found::Hit(hit) = router.find(&request) else {
        panic!("the regex matches")
    };
    let captures = hit.regex().unwrap().captures(request.path).unwrap();
    assert_eq!((&captures[1], &captures["rest"]), ("2", "users"));
}

#[test]
fn a_set_of_many_regexes_keeps_file_order() {
    let patterns: Vec<_> = (0..50)
        .map(|number| format!("- ~{}$", number % 10))
        .collect();
    let texts: Vec<_> = patterns.iter().map(String::as_str).collect();
    let router = router(&texts);
    assert_eq!(get("", "/x7").of(&router), "7");
    assert_eq!(get("", "/x").of(&router), "404");
}

#[test]
fn an_empty_router_finds_nothing() {
    assert_eq!(get("a.org", "/").of(&router(&[])), "404");
}

/// The precedence as it is written in the documentation, one route after the other.
fn reference(matches: &[Match], request: &RouteRequest<'_>) -> Option<(usize, Reached)> {
    let mut candidates: Vec<_> = (0..matches.len())
        .filter(|&index| {
            matches[index].allows(request.method) && matches[index].predicates_hold(request)
        })
        .flat_map(|index| candidates(matches, index, request))
        .collect();
    candidates.sort_by_key(|candidate| candidate.order);
    let best = *candidates.first()?;
    candidates.retain(|candidate| candidate.order.host == best.order.host);
    let prefix = candidates
        .iter()
        .find(|candidate| candidate.order.kind == PREFIX);
    let stops = prefix.filter(|prefix| stops_regexes(&matches[prefix.order.index]));
    let winner = if best.order.kind == EXACT {
        best
    } else {
        *stops.unwrap_or(&best)
    };
    Some((winner.order.index, winner.reached))
}

#[derive(Debug, Clone, Copy)]
struct Ranked {
    order: Order,
    reached: Reached,
}

/// Smaller is better, field after field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Order {
    host: usize,
    kind: usize,
    position: usize,
    fewer_predicates: usize,
    index: usize,
}

const EXACT: usize = 0;
const REGEX: usize = 1;
const PREFIX: usize = 2;

fn stops_regexes(matching: &Match) -> bool {
    matches!(matching.path(), PathPattern::Prefix(_, Rank::AboveRegex))
}

fn candidates(matches: &[Match], index: usize, request: &RouteRequest<'_>) -> Vec<Ranked> {
    let matching = &matches[index];
    let Some((kind, position, reached)) = path_rank(matches, matching, request.path) else {
        return Vec::new();
    };
    let fewer_predicates = 9 - matching.weight();
    let order = |host| Order {
        host,
        kind,
        position,
        fewer_predicates,
        index,
    };
    let name = request.host.map_or("", Host::as_str);
    let patterns = matching.host_patterns();
    let hosts = patterns
        .iter()
        .filter_map(|pattern| host_rank(pattern, name));
    let hosts = hosts.chain(patterns.is_empty().then_some(1000));
    hosts
        .map(|host| Ranked {
            order: order(host),
            reached,
        })
        .collect()
}

fn host_rank(pattern: &HostPattern, name: &str) -> Option<usize> {
    match pattern {
        HostPattern::Exact(exact) => (exact.as_str() == name).then_some(0),
        HostPattern::Wildcard(suffix) => {
            let suffix = format!(".{}", suffix.as_str());
            (name.ends_with(&suffix) && name.len() > suffix.len()).then_some(999 - suffix.len())
        }
    }
}

fn path_rank(matches: &[Match], matching: &Match, path: &str) -> Option<(usize, usize, Reached)> {
    match matching.path() {
        PathPattern::Exact(exact) => (exact.as_str() == path).then_some((EXACT, 0, Reached::Path)),
        PathPattern::Regex(expression) => {
            // A regex has the place of its first appearance under the same host; the tests use one host each.
            let first = matches.iter().position(|other| {
                other.path() == matching.path() && other.host_patterns() == matching.host_patterns()
            });
            expression
                .regex()
                .is_match(path)
                .then_some((REGEX, first?, Reached::Path))
        }
        PathPattern::Prefix(prefix, _) => {
            let prefix = prefix.as_str();
            let below = path.starts_with(&format!("{}/", prefix.trim_end_matches('/')));
            let slash_missing = format!("{path}/") == prefix;
            let position = 2 * (1000 - prefix.len());
            match (below || path == prefix, slash_missing) {
                (true, _) => Some((PREFIX, position, Reached::Path)),
                // Right after the prefix without the slash, before every shorter one.
                (false, true) => Some((PREFIX, position + 3, Reached::SlashMissing)),
                (false, false) => None,
            }
        }
    }
}

fn random_route(random: &mut Random) -> Match {
    let hosts = [
        "-",
        "-",
        "a.org",
        "b.a.org",
        "*.a.org",
        "*.b.a.org",
        "*.org",
    ];
    let paths = [
        "/", "/a", "/a/", "/a/b", "/a/b/", "/b/", "/a/b/c", "=/a", "=/a/", "=/a/b", "^/a", "^/a/",
        "^/a/b", "^/", "~^/a", "~b$", "~*B", "~^/a/b", "~c", "~/$", "~^/b",
    ];
    let methods = ["", "", "", "", " GET", " POST", " GET PUT"];
    let mut matching = route(&format!(
        "{} {}{}",
        random.pick(&hosts),
        random.pick(&paths),
        random.pick(&methods)
    ));
    for name in ["x-a", "x-b"] {
        let tests = [
            Test::Present,
            Test::Absent,
            Test::Equals("1".into()),
            Test::matches("^2", Case::Sensitive).unwrap(),
        ];
        if random.below(5) == 0 {
            matching = matching.predicates([header(name, random.pick(&tests))]);
        }
    }
    matching
}

fn random_request(random: &mut Random) -> Asked {
    let hosts = [
        "",
        "a.org",
        "b.a.org",
        "c.b.a.org",
        "d.c.b.a.org",
        "x.org",
        "x.net",
    ];
    let length = random.below(5);
    let path = (0..length).fold("/".to_owned(), |path, _| {
        path + random.pick(&["a", "b", "c", "/", "/"])
    });
    let mut asked = get(random.pick(&hosts), normalise(&path).unwrap().matched());
    asked.method = random.pick(&[Method::GET, Method::HEAD, Method::POST, Method::DELETE]);
    for name in ["x-a", "x-b"] {
        if random.below(2) == 0 {
            let value = random.pick(&["1", "2", "21"]);
            asked = asked.header(name, value);
        }
    }
    asked
}

#[test]
fn the_router_agrees_with_the_reference_on_random_routes_and_requests() {
    let mut random = Random::new(42);
    let mut hits = 0;
    for _ in 0..600 {
        let count = 1 + random.below(24);
        let matches: Vec<_> = (0..count).map(|_| random_route(&mut random)).collect();
        let router = Router::new(matches.iter().cloned().map(|matching| (matching, ())));
        let shadowed = unreachable(&matches);
        for _ in 0..60 {
            let asked = random_request(&mut random);
            let host = asked.host.map(|host| Host::parse(host).unwrap());
            let request = RouteRequest {
                host: host.as_ref(),
                path: &asked.path,
                readings: &[],
                method: &asked.method,
                scheme: "http",
                listener: "http",
                headers: &asked.headers,
                query: None,
            };
            let expected = reference(&matches, &request);
            let found = router.find(&request);
            let place = match &found {
                Found::Hit(hit) => Some((hit.index, hit.reached)),
                _ => None,
            };
            let listed: Vec<_> = matches.iter().map(ToString::to_string).collect();
            assert_eq!(
                place, expected,
                "{} {:?}{} of {listed:#?}",
                asked.method, asked.host, asked.path
            );
            if let Some((index, _)) = place {
                hits += 1;
                assert!(
                    shadowed.iter().all(|shadow| shadow.route != index),
                    "{index} matched: {listed:#?}"
                );
            }
            if let Found::MethodNotAllowed(methods) = &found {
                for method in methods {
                    assert!(reference(&matches, &RouteRequest { method, ..request }).is_some());
                }
            }
        }
    }
    assert!(
        hits > 10_000,
        "the random requests should often find a route: {hits}"
    );
}

#[test]
fn the_number_of_probes_does_not_grow_with_the_number_of_routes() {
    let probes_of = |count: usize| {
        let exact = (0..count).map(|number| format!("h{}.org =/exact/{number}", number % 100));
        let prefix = (0..count).map(|number| format!("h{}.org /prefix/{number}/", number % 100));
        let wild = (0..count).map(|number| format!("*.w{number}.org /"));
        let routes: Vec<_> = exact.chain(prefix).chain(wild).collect();
        let texts: Vec<_> = routes.iter().map(String::as_str).collect();
        let router = router(&texts);
        let asked = [
            ("h5.org", "/exact/5", "5".to_owned()),
            ("h5.org", "/prefix/5/a/b/c", (count + 5).to_string()),
            ("a.b.w7.org", "/x/y/z", (2 * count + 7).to_string()),
            ("h5.org", "/nothing/here", "404".to_owned()),
        ];
        asked.map(|(host, path, expected)| {
            PROBES.with(|probes| probes.set(0));
            assert_eq!(get(host, path).of(&router), expected, "{host}{path}");
            PROBES.with(Cell::get)
        })
    };
    let few = probes_of(10);
    assert_eq!(few, probes_of(1_000));
    assert_eq!(few, probes_of(10_000));
    assert!(few.iter().all(|&probes| probes <= 10), "{few:?}");
}

#[test]
fn a_path_of_many_segments_costs_no_more_probes_than_the_longest_prefix() {
    let router = router(&["- /a/a/a"]);
    PROBES.with(|probes| probes.set(0));
    assert_eq!(get("", &"/a".repeat(4_000)).of(&router), "0");
    assert!(PROBES.with(Cell::get) <= 4);
}
