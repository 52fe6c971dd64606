//! RFC 9111, section by section, and what holds for whatever is in a header.

mod properties;
mod rfc;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, request, response,
};

use super::{
    condition::Stored,
    date,
    freshness::{Freshness, Timing},
    request::Credentials,
    rules::Rules,
    storable::{Asked, Reason, Verdict, storable},
};

/// 15 November 2026, 00:00:00.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_794_700_800)
}

/// Some time after [`now`], or before it.
fn at(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 {
        now() - distance
    } else {
        now() + distance
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Fields, one a line. `{n}` is the date that many seconds after [`now`].
fn fields(lines: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').expect("a field has a colon");
        let value = value.trim();
        let value = match value
            .strip_prefix('{')
            .and_then(|value| value.strip_suffix('}'))
        {
            Some(offset) => date::header_value(at(offset.parse().unwrap())),
            None => HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        };
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
    }
    headers
}

fn get(lines: &str) -> request::Parts {
    with_method(&Method::GET, lines)
}

fn with_method(method: &Method, lines: &str) -> request::Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = method.clone();
    parts.headers = fields(lines);
    parts
}

fn ok(lines: &str) -> response::Parts {
    with_status(200, lines)
}

fn with_status(status: u16, lines: &str) -> response::Parts {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = StatusCode::from_u16(status).unwrap();
    parts.headers = fields(lines);
    parts
}

/// Asked for and answered at once.
fn at_once() -> Timing {
    Timing {
        requested: now(),
        received: now(),
    }
}

fn verdict(request: &request::Parts, response: &response::Parts, rules: &Rules) -> Verdict {
    storable(asked(request), response, at_once(), rules)
}

/// The freshness of a response that must be storable.
fn freshness(response: &str, rules: &Rules) -> Freshness {
    match verdict(&get(""), &ok(response), rules) {
        Verdict::Store(freshness) => freshness,
        Verdict::Not(reason) => panic!("not stored, because of {reason}: {response}"),
    }
}

fn refused(request: &str, response: &str) -> Option<Reason> {
    match verdict(&get(request), &ok(response), &Rules::default()) {
        Verdict::Store(_) => None,
        Verdict::Not(reason) => Some(reason),
    }
}

fn stored(headers: &HeaderMap) -> Stored<'_> {
    Stored {
        status: StatusCode::OK,
        headers,
        received: now(),
    }
}

/// A route with `ttl: { 200: …, 404: … }`.
fn ttl(ok: u64, missing: u64) -> Rules {
    Rules {
        ttl: vec![
            (StatusCode::OK, seconds(ok)),
            (StatusCode::NOT_FOUND, seconds(missing)),
        ],
        ..Default::default()
    }
}

/// A request that goes to the upstream as the client has sent it.
fn asked(request: &request::Parts) -> Asked<'_> {
    Asked {
        method: &request.method,
        headers: &request.headers,
        credentials: Credentials::of(&request.headers),
    }
}
