//! What holds for every header, sense or nonsense.

use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};

use super::*;
use crate::cache::policy::{
    condition::precondition,
    directives::{Flag, ResponseDirectives},
    fields::excluded,
    freshness::Stale,
    invalidate::{Target, invalidated},
    range::{Wanted, wanted},
    request::{Use, Wants},
    rules::{Authorization, Cookie, Heuristic, Honour, SetCookie, Windows},
    tags::tags,
    update::{freshen, selects},
    vary::Vary,
};

const NAMES: [&str; 26] = [
    "age",
    "authorization",
    "cache-control",
    "cdn-cache-control",
    "connection",
    "content-length",
    "content-location",
    "cookie",
    "date",
    "etag",
    "expires",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "pragma",
    "range",
    "set-cookie",
    "vary",
    "accept-language",
    "accept-encoding",
    "cache-tag",
    "foo",
];

const PIECES: [&str; 68] = [
    "max-age",
    "s-maxage",
    "no-store",
    "no-cache",
    "private",
    "public",
    "must-revalidate",
    "proxy-revalidate",
    "must-understand",
    "stale-while-revalidate",
    "stale-if-error",
    "max-stale",
    "min-fresh",
    "only-if-cached",
    "No-Store",
    "PRIVATE",
    "=",
    "=",
    "=",
    ",",
    ",",
    ", ",
    " ",
    "\"",
    "\"",
    "\\",
    "\t",
    ";",
    ";q=",
    "0",
    "1",
    "5",
    "60",
    "3600",
    "99999999999999999999",
    "-1",
    "1.5",
    "abc",
    "W/",
    "*",
    "bytes=",
    "-",
    "0-1",
    "5-",
    "-0",
    "/",
    "//",
    "..",
    "?",
    "#",
    ":",
    "a.example",
    "http://",
    "set-cookie",
    "foo",
    "age",
    "Sun, 15 Nov 2026 00:00:00 GMT",
    "Sunday, 15-Nov-26 00:00:01 GMT",
    "Sun Nov 15 00:00:02 2026",
    "Mon, 01 Jan 0001 00:00:00 GMT",
    "Fri, 31 Dec 9999 23:59:60 GMT",
    "gzip",
    "br",
    "en",
    "\u{fc}",
    "'",
    "(",
    "?1",
];

/// Directives that are well written, so that what is stored is not only nonsense.
const DIRECTIVES: [&str; 16] = [
    "max-age=0",
    "max-age=60",
    "s-maxage=60",
    "no-cache",
    "no-store",
    "private",
    "public",
    "must-revalidate",
    "proxy-revalidate",
    "must-understand",
    "stale-while-revalidate=30",
    "stale-if-error=30",
    "private=\"set-cookie\"",
    "no-cache=\"foo, age\"",
    "max-stale=30",
    "only-if-cached",
];

const ROUNDS: usize = 20_000;

struct Chance(SmallRng);

impl Chance {
    fn text(&mut self) -> String {
        let count = self.0.random_range(0..9);
        (0..count)
            .map(|_| *PIECES.choose(&mut self.0).unwrap())
            .collect()
    }

    fn directives(&mut self) -> String {
        let count = self.0.random_range(1..4);
        let chosen: Vec<_> = DIRECTIVES
            .choose_multiple(&mut self.0, count)
            .copied()
            .collect();
        chosen.join(", ")
    }

    fn headers(&mut self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for _ in 0..self.0.random_range(0..8) {
            let name = *NAMES.choose(&mut self.0).unwrap();
            let well_written = name.ends_with("cache-control") && self.0.random();
            let text = if well_written {
                self.directives()
            } else {
                self.text()
            };
            let value = HeaderValue::from_bytes(text.as_bytes()).unwrap();
            headers.append(name, value);
        }
        headers
    }

    fn request(&mut self) -> request::Parts {
        let methods = [
            Method::GET,
            Method::GET,
            Method::GET,
            Method::HEAD,
            Method::POST,
        ];
        let mut parts = with_method(methods.choose(&mut self.0).unwrap(), "");
        parts.headers = self.headers();
        parts
    }

    fn response(&mut self) -> response::Parts {
        let status = *[200, 200, 200, 204, 206, 301, 304, 404, 416, 500, 599]
            .choose(&mut self.0)
            .unwrap();
        let mut parts = with_status(status, "");
        parts.headers = self.headers();
        parts
    }

    fn rules(&mut self) -> Rules {
        let lenient = self.0.random();
        let window = seconds(self.0.random_range(0..100));
        Rules {
            targets: vec![HeaderName::from_static("cdn-cache-control")],
            ttl: vec![(StatusCode::OK, Duration::MAX)],
            heuristic: Some(Heuristic {
                percent: 10,
                longest: Duration::MAX,
            }),
            stale: Windows {
                while_revalidate: window,
                if_error: window,
            },
            authorization: if lenient {
                Authorization::Keyed
            } else {
                Authorization::Stated
            },
            cookie: if lenient {
                Cookie::Ignored
            } else {
                Cookie::Shared
            },
            set_cookie: if lenient {
                SetCookie::Shared
            } else {
                SetCookie::Never
            },
            honour: Honour::default(),
        }
    }

    fn time(&mut self) -> SystemTime {
        match self.0.random_range(0..10) {
            0 => UNIX_EPOCH,
            1 => UNIX_EPOCH + Duration::from_secs(1 << 40),
            _ => at(self.0.random_range(-4000..4000)),
        }
    }
}

/// Every round with another beginning.
fn rounds() -> impl Iterator<Item = Chance> {
    (0..ROUNDS as u64).map(|seed| Chance(SmallRng::seed_from_u64(seed)))
}

#[test]
fn nothing_panics_on_any_header() {
    for mut chance in rounds() {
        let (request, response, rules) = (chance.request(), chance.response(), chance.rules());
        let timing = Timing {
            requested: chance.time(),
            received: chance.time(),
        };
        let later = chance.time();
        let headers = &response.headers;
        if let Verdict::Store(freshness) = storable(asked(&request), &response, timing, &rules) {
            let _use: Use = Wants::of(&request.headers, rules.honour).judge(&freshness, later);
            let _seen = (
                freshness.ttl(later),
                freshness.age_value(later),
                freshness.useful_until(),
            );
        }
        let held = Stored {
            status: response.status,
            headers,
            received: later,
        };
        let _condition = precondition(&request, held);
        if let Wanted::Many(ranges) = wanted(&request, held, chance.0.random_range(0..5000)) {
            assert!(ranges.len() > 1);
        }
        let mut key = Vec::new();
        Vary::of(headers).write(&request.headers, &mut key);
        let target = Target {
            scheme: "http",
            authority: "a.example",
            path: "/a/b?c",
        };
        for path in invalidated(&Method::PUT, target, response.status, headers) {
            assert!(path.starts_with('/'), "{path}");
        }
        let directives = ResponseDirectives::of(&request.headers, &rules.targets);
        let mut known = headers.clone();
        freshen(&mut known, &request.headers, &directives, later);
        let _seen = (
            selects(headers, &request.headers),
            tags(headers, &HeaderName::from_static("cache-tag")).map(|tags| tags.len()),
        );
    }
}

#[test]
fn what_must_not_be_stored_is_not_stored_whatever_else_is_said() {
    let mut stored = 0;
    for mut chance in rounds() {
        let (mut request, mut response) = (chance.request(), chance.response());
        let rules = Rules {
            targets: Vec::new(),
            ..chance.rules()
        };
        request.method = Method::GET;
        response.headers.remove("cdn-cache-control");
        stored += usize::from(verdict(&request, &response, &rules).freshness().is_some());
        for line in ["no-store", "NO-STORE", " ,no-store", "x=\"y\", no-store=1"] {
            let mut response = ok("");
            response.headers = chance.headers();
            response.headers.remove("cdn-cache-control");
            let understands =
                ResponseDirectives::of(&response.headers, &[]).has(Flag::MustUnderstand);
            response
                .headers
                .append("cache-control", line.parse().unwrap());
            let stored = verdict(&request, &response, &rules).freshness().is_some();
            assert!(!stored || understands, "{line}: {:?}", response.headers);
        }
        response
            .headers
            .append("cache-control", "private".parse().unwrap());
        assert!(
            verdict(&request, &response, &rules).freshness().is_none(),
            "{:?}",
            response.headers
        );
    }
    // Otherwise this would not have tested anything.
    assert!(stored > ROUNDS / 20, "{stored}");
}

#[test]
fn what_is_personal_is_stored_only_if_it_is_said_to_be_shared() {
    let mut stored = 0;
    for mut chance in rounds() {
        let (mut request, response) = (chance.request(), chance.response());
        let rules = Rules {
            authorization: Authorization::Stated,
            cookie: Cookie::Shared,
            set_cookie: SetCookie::Shared,
            ..chance.rules()
        };
        request.method = Method::GET;
        request
            .headers
            .insert("authorization", "x".parse().unwrap());
        request.headers.insert("cookie", "x".parse().unwrap());
        if verdict(&request, &response, &rules).freshness().is_some() {
            stored += 1;
            let directives = ResponseDirectives::of(&response.headers, &rules.targets);
            // RFC 9111, section 3.5.
            let said = directives.says_shared() || directives.has(Flag::MustRevalidate);
            assert!(said, "{:?}", response.headers);
        }
        let never = Rules {
            set_cookie: SetCookie::Never,
            ..rules
        };
        if verdict(&request, &response, &never).freshness().is_some() {
            let mut kept = response.headers.clone();
            let directives = ResponseDirectives::of(&kept, &never.targets);
            for name in excluded(&response.headers, &directives) {
                kept.remove(name);
            }
            assert!(!kept.contains_key("set-cookie"), "{:?}", response.headers);
        }
    }
    assert!(stored > 100, "{stored}");
}

#[test]
fn ranges_are_never_empty_and_never_beyond_the_end() {
    let mut several = 0;
    for mut chance in rounds() {
        let length = chance.0.random_range(0..4000_u64);
        let mut specs = Vec::new();
        for _ in 0..chance.0.random_range(1..6) {
            let first = chance.0.random_range(0..5000);
            let last = first + chance.0.random_range(0..200);
            specs.push(match chance.0.random_range(0..4) {
                0 => format!("-{}", first / 10),
                1 => format!("{}-", first + 2000),
                _ => format!("{first}-{last}"),
            });
        }
        let headers = HeaderMap::new();
        let request = get(&format!("Range: bytes={}", specs.join(",")));
        let ranges = match wanted(&request, stored(&headers), length) {
            Wanted::Single(range) => vec![range],
            Wanted::Many(ranges) => ranges.to_vec(),
            Wanted::Whole | Wanted::Unsatisfiable => Vec::new(),
        };
        several += usize::from(ranges.len() > 1);
        for (index, range) in ranges.iter().enumerate() {
            assert!(
                range.start < range.end && range.end <= length,
                "{specs:?} of {length}"
            );
            for other in &ranges[index + 1..] {
                assert!(
                    range.end < other.start || other.end < range.start,
                    "{specs:?} of {length}"
                );
            }
        }
        // Every byte that was asked for is in one of them.
        for spec in specs.iter().filter(|_| length > 0) {
            let alone = get(&format!("Range: bytes={spec}"));
            if let Wanted::Single(range) = wanted(&alone, stored(&headers), length) {
                let inside = ranges
                    .iter()
                    .any(|all| all.start <= range.start && range.end <= all.end);
                assert!(inside, "{spec} in {specs:?} of {length}");
            }
        }
    }
    assert!(several > ROUNDS / 100, "{several}");
}

#[test]
fn requests_with_the_same_key_differ_in_nothing_that_matters() {
    // Any two values that are not the same but for space around commas must have different keys.
    let plain = |headers: &HeaderMap| {
        let lines: Vec<_> = headers
            .get_all("foo")
            .iter()
            .map(|line| line.to_str().unwrap_or("?").to_owned())
            .collect();
        let joined = lines.join(",");
        let parts: Vec<_> = joined
            .split(',')
            .map(|part| part.trim_matches([' ', '\t']).to_owned())
            .collect();
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        (headers.contains_key("foo"), parts)
    };
    let vary = Vary::of(&fields("Vary: Foo"));
    let mut seen: std::collections::HashMap<Vec<u8>, (bool, Vec<String>)> =
        std::collections::HashMap::new();
    for mut chance in rounds() {
        let mut headers = HeaderMap::new();
        for _ in 0..chance.0.random_range(0..3) {
            let letters = ["a", "b", ",", ", ", " ", "A"];
            let count = chance.0.random_range(0..5);
            let text: String = (0..count)
                .map(|_| *letters.choose(&mut chance.0).unwrap())
                .collect();
            headers.append("foo", text.parse().unwrap());
        }
        let mut key = Vec::new();
        vary.write(&headers, &mut key);
        let plain = plain(&headers);
        let known = seen.entry(key).or_insert_with(|| plain.clone());
        assert_eq!(*known, plain);
    }
    assert!(seen.len() > 100);
}

#[test]
fn stale_is_never_served_where_it_is_forbidden() {
    let mut checked = 0;
    for mut chance in rounds() {
        let (request, response, rules) = (get(""), chance.response(), chance.rules());
        let Verdict::Store(freshness) = verdict(&request, &response, &rules) else {
            continue;
        };
        let directives = ResponseDirectives::of(&response.headers, &rules.targets);
        if !directives.forbids_stale() {
            continue;
        }
        checked += 1;
        assert_eq!(freshness.stale, Stale::Never);
        let later = chance.time();
        let wants = Wants::of(&chance.headers(), Honour::default());
        match wants.judge(&freshness, later) {
            Use::Serve => assert!(freshness.is_fresh(later)),
            Use::ServeStale | Use::Refresh => panic!("served stale: {:?}", response.headers),
            Use::Validate { or_stored, .. } => assert!(!or_stored || freshness.is_fresh(later)),
            Use::Refuse => {}
        }
    }
    assert!(checked > 100, "{checked}");
}
