//! What finding a route costs with 10, 1 000 and 10 000 routes, in nanoseconds.
//!
//! Each line is one shape of configuration. The figures of a line should stay close to each other: what
//! grows is the memory a router is spread over, not the work. `regexes` is the exception that is worth
//! knowing: 10 to 1 000 of them on one host, none of which matches before the last.

#![expect(clippy::print_stdout, reason = "the table is what the bench is for")]

use std::{hint::black_box, time::Instant};

use edgeway::route::{
    Case, Found, Host, HostPattern, Match, PathPattern, Rank, RouteRequest, Router, normalise,
};
use http::{HeaderMap, Method};

fn main() {
    println!(
        "{:<34} {:>10} {:>10} {:>10}",
        "find, ns", "10", "1 000", "10 000"
    );
    for shape in [EXACT, PREFIX, HOSTS, WILDCARDS, MIX, MISS] {
        let [few, more, many] = [10, 1_000, 10_000].map(|count| find(&shape, count));
        println!("{:<34} {few:>10.0} {more:>10.0} {many:>10.0}", shape.name);
    }
    println!(
        "\n{:<34} {:>10} {:>10} {:>10}",
        "find, ns", "10", "100", "1 000"
    );
    let [few, more, many] = [10, 100, 1_000].map(|count| find(&REGEXES, count));
    println!("{:<34} {few:>10.0} {more:>10.0} {many:>10.0}", REGEXES.name);
    println!("\n{:<34} {:>10}", "normalise, ns", "");
    for path in [
        "/api/users/42",
        "/assets/js/vendor/framework.4f2a9c.min.js",
        "/.well-known/openid-configuration",
        "/files/%7euser/a%20b.txt",
        "/public/../%70rotected//x",
    ] {
        println!(
            "{path:<45} {:>9.0}",
            nanoseconds(|| black_box(normalise(black_box(path))).is_ok())
        );
    }
}

/// A configuration that can have any number of routes, and a request for one of them.
struct Shape {
    name: &'static str,
    route: fn(usize) -> Match,
    host: fn(usize) -> String,
    path: fn(usize) -> String,
    hit: bool,
}

const EXACT: Shape = Shape {
    name: "exact paths",
    route: |number| Match::new(exact(&format!("/api/v1/item{number}"))),
    host: |_| "api.example.com".to_owned(),
    path: |number| format!("/api/v1/item{number}"),
    hit: true,
};

const PREFIX: Shape = Shape {
    name: "prefixes",
    route: |number| Match::new(prefix(&format!("/api/v1/item{number}/"))),
    host: |_| "api.example.com".to_owned(),
    path: |number| format!("/api/v1/item{number}/orders/42"),
    hit: true,
};

const HOSTS: Shape = Shape {
    name: "a host each",
    route: |number| Match::new(prefix("/")).hosts([host(&format!("shop{number}.example.com"))]),
    host: |number| format!("shop{number}.example.com"),
    path: |_| "/api/v1/orders/42".to_owned(),
    hit: true,
};

const WILDCARDS: Shape = Shape {
    name: "a wildcard each",
    route: |number| Match::new(prefix("/")).hosts([host(&format!("*.shop{number}.example.com"))]),
    host: |number| format!("a.b.shop{number}.example.com"),
    path: |_| "/api/v1/orders/42".to_owned(),
    hit: true,
};

/// A hundred hosts; exact paths, prefixes and, on each host, two regexes that are tried in vain.
const MIX: Shape = Shape {
    name: "hosts, paths and two regexes each",
    route: |number| {
        let (shop, item) = (number % 100, number / 100);
        let path = match item {
            0 => prefix("/"),
            1 => regex(r"\.php$"),
            2 => regex("^/v[0-9]+/"),
            _ if item % 2 == 0 => exact(&format!("/api/item{item}/orders")),
            _ => prefix(&format!("/api/item{item}/")),
        };
        Match::new(path).hosts([host(&format!("shop{shop}.example.com"))])
    },
    host: |number| format!("shop{}.example.com", number % 100),
    path: |number| format!("/api/item{}/orders/42", number / 100),
    hit: true,
};

const MISS: Shape = Shape {
    name: "no route",
    route: |number| Match::new(prefix(&format!("/api/v1/item{number}/"))),
    host: |_| "api.example.com".to_owned(),
    path: |_| "/api/v1/nothing/here".to_owned(),
    hit: false,
};

const REGEXES: Shape = Shape {
    name: "regexes on one host",
    route: |number| Match::new(regex(&format!("^/api/v[0-9]+/item{number}/(?P<rest>.*)$"))),
    host: |_| "api.example.com".to_owned(),
    path: |number| format!("/api/v1/item{number}/orders/42"),
    hit: true,
};

fn exact(path: &str) -> PathPattern {
    PathPattern::exact(path).expect("the path is valid")
}

fn prefix(path: &str) -> PathPattern {
    PathPattern::prefix(path, Rank::BelowRegex).expect("the path is valid")
}

fn regex(pattern: &str) -> PathPattern {
    PathPattern::regex(pattern, Case::Sensitive).expect("the regex is valid")
}

fn host(name: &str) -> HostPattern {
    HostPattern::parse(name).expect("the host is valid")
}

/// What the search for the last of `count` routes costs, as the gateway does it: host and path included.
fn find(shape: &Shape, count: usize) -> f64 {
    let router = Router::new((0..count).map(|number| ((shape.route)(number), number)));
    let (name, path) = ((shape.host)(count - 1), (shape.path)(count - 1));
    let headers = HeaderMap::new();
    nanoseconds(|| {
        let host = Host::parse(black_box(&name)).expect("the host is valid");
        let path = normalise(black_box(&path)).expect("the path is valid");
        let request = RouteRequest {
            host: Some(&host),
            path: path.matched(),
            readings: path.readings(),
            method: &Method::GET,
            scheme: "http",
            listener: "http",
            headers: &headers,
            query: None,
        };
        match router.find(&request) {
            Found::Hit(hit) => shape.hit && *hit.value == hit.index && hit.index < count,
            Found::NotFound => !shape.hit,
            Found::MethodNotAllowed(_) | Found::Ambiguous => false,
        }
    })
}

/// The best of several rounds: what disturbs a measurement only ever makes it longer.
fn nanoseconds(mut right: impl FnMut() -> bool) -> f64 {
    let round = |right: &mut dyn FnMut() -> bool| {
        let start = Instant::now();
        for _ in 0..ROUND {
            assert!(right(), "the answer is wrong");
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUND)
    };
    (0..10)
        .map(|_| round(&mut right))
        .fold(f64::INFINITY, f64::min)
}

const ROUND: u32 = 20_000;
