//! How old a response is, how long it is fresh, and what may be done with it after that (RFC 9111, section 4.2).

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{AGE, DATE, EXPIRES, LAST_MODIFIED},
    response,
};
use serde::{Deserialize, Serialize};

use super::{
    date,
    directives::{FOREVER, Flag, ResponseDirectives},
    list::{Quotes, digits, split},
    rules::{Heuristic, Rules, Windows},
};

/// When the request for a response was sent and when its head had come, by our clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    pub(crate) requested: SystemTime,
    pub(crate) received: SystemTime,
}

/// All that has to be kept of a stored response to tell at any time whether it may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Freshness {
    /// From the time at which the response was made.
    pub(crate) lifetime: Duration,
    pub(crate) basis: Basis,
    /// How old it was when it came.
    pub(crate) initial_age: Duration,
    pub(crate) received: SystemTime,
    pub(crate) stale: Stale,
}

/// What a lifetime comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Basis {
    SMaxage,
    MaxAge,
    Expires,
    /// The route.
    Ttl,
    Heuristic,
    /// None. It is asked for every time whether the response is still good.
    Validator,
}

/// What may be done with a response that is no longer fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stale {
    /// Nothing, not even if the client would take it.
    Never,
    For(Windows),
}

impl Basis {
    /// Whether the response has said how long it is fresh.
    pub(crate) fn is_stated(self) -> bool {
        match self {
            Self::SMaxage | Self::MaxAge | Self::Expires => true,
            Self::Ttl | Self::Heuristic | Self::Validator => false,
        }
    }
}

impl Freshness {
    /// Of a response whose directives have been read. One that has nothing to go by is never fresh.
    pub(crate) fn of(
        response: &response::Parts,
        directives: &ResponseDirectives,
        timing: Timing,
        rules: &Rules,
    ) -> Self {
        let initial_age = initial_age(&response.headers, timing);
        let (basis, stated) = stated(&response.headers, directives, timing.received)
            .or_else(|| {
                // What the route grants is granted from now on, however old the response is.
                let ttl = rules.ttl(response.status)?;
                Some((Basis::Ttl, ttl.saturating_add(initial_age)))
            })
            .or_else(|| {
                let lifetime = guessed(response, directives, timing.received, rules.heuristic?)?;
                Some((Basis::Heuristic, lifetime))
            })
            .unwrap_or((Basis::Validator, Duration::ZERO));
        let lifetime = match directives.has(Flag::NoCache) {
            true => Duration::ZERO,
            false => stated,
        };
        Self {
            lifetime,
            basis,
            initial_age,
            received: timing.received,
            stale: stale(directives, rules.stale, basis, lifetime > initial_age),
        }
    }

    /// The age at a time, as RFC 9111, section 4.2.3, has it. A clock that was set back adds nothing.
    pub(crate) fn age(&self, now: SystemTime) -> Duration {
        let resident = now.duration_since(self.received).unwrap_or_default();
        self.initial_age.saturating_add(resident)
    }

    pub(crate) fn is_fresh(&self, now: SystemTime) -> bool {
        self.lifetime > self.age(now)
    }

    /// For how long it will be fresh. Zero when it is not.
    pub(crate) fn remaining(&self, now: SystemTime) -> Duration {
        self.lifetime.saturating_sub(self.age(now))
    }

    /// For how long it has not been fresh. Zero when it is.
    pub(crate) fn overdue(&self, now: SystemTime) -> Duration {
        self.age(now).saturating_sub(self.lifetime)
    }

    /// Seconds for which it will be fresh, or below zero, for which it has not been.
    pub(crate) fn ttl(&self, now: SystemTime) -> i64 {
        let seconds = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
        if self.is_fresh(now) {
            return seconds(self.remaining(now).as_secs());
        }
        let overdue = self.overdue(now);
        // A fraction counts as a second: zero would say that it is just still fresh.
        let begun = overdue.as_secs() + u64::from(overdue.subsec_nanos() > 0);
        -seconds(begun.max(1))
    }

    /// The value of `Age` at a time, in whole seconds.
    pub(crate) fn age_value(&self, now: SystemTime) -> HeaderValue {
        HeaderValue::from(self.age(now).as_secs().min(FOREVER.into()))
    }

    /// When nothing can be done with it any more but ask whether it is still good. For storage, which may let
    /// go of what has no validator then. A client that takes anything stale is not counted.
    pub(crate) fn useful_until(&self) -> SystemTime {
        let windows = match self.stale {
            Stale::Never => Windows::default(),
            Stale::For(windows) => windows,
        };
        let fresh = self.lifetime.saturating_sub(self.initial_age);
        let stale = windows.while_revalidate.max(windows.if_error);
        let whole = fresh.saturating_add(stale);
        self.received.checked_add(whole).unwrap_or(self.received)
    }
}

/// The lifetime that a response states (RFC 9111, section 4.2.1).
fn stated(
    headers: &HeaderMap,
    directives: &ResponseDirectives,
    received: SystemTime,
) -> Option<(Basis, Duration)> {
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    if let Some(s_maxage) = directives.s_maxage {
        return Some((Basis::SMaxage, seconds(s_maxage)));
    }
    if let Some(max_age) = directives.max_age {
        return Some((Basis::MaxAge, seconds(max_age)));
    }
    if directives.targeted {
        return None;
    }
    let expires = headers.get(EXPIRES)?;
    // What is no date has expired.
    let expires = date::parse(expires.as_bytes(), received);
    let made = date_of(headers, &DATE, received).unwrap_or(received);
    let lifetime = expires.and_then(|expires| expires.duration_since(made).ok());
    Some((Basis::Expires, lifetime.unwrap_or_default()))
}

fn guessed(
    response: &response::Parts,
    directives: &ResponseDirectives,
    received: SystemTime,
    heuristic: Heuristic,
) -> Option<Duration> {
    let allowed = is_heuristically_cacheable(response.status) || directives.has(Flag::Public);
    allowed.then_some(())?;
    let headers = &response.headers;
    let changed = date_of(headers, &LAST_MODIFIED, received)?;
    let made = date_of(headers, &DATE, received).unwrap_or(received);
    let unchanged = made.duration_since(changed).ok()?;
    let part = unchanged.saturating_mul(heuristic.percent.min(100)) / 100;
    Some(part.min(heuristic.longest))
}

/// Whether the status may be cached although nothing says so (RFC 9110, section 15.1). 206 is not among them
/// here, because partial content is not stored.
pub(crate) fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

fn stale(
    directives: &ResponseDirectives,
    default: Windows,
    basis: Basis,
    was_fresh: bool,
) -> Stale {
    if directives.forbids_stale() {
        return Stale::Never;
    }
    let window = |stated: Option<u32>, default: Option<Duration>| match stated {
        Some(seconds) => Duration::from_secs(seconds.into()),
        None => default.unwrap_or_default(),
    };
    let granted = basis == Basis::Ttl && was_fresh;
    Stale::For(Windows {
        while_revalidate: window(
            directives.stale_while_revalidate,
            granted.then_some(default.while_revalidate),
        ),
        if_error: window(
            directives.stale_if_error,
            was_fresh.then_some(default.if_error),
        ),
    })
}

/// `corrected_initial_age` of RFC 9111, section 4.2.3.
fn initial_age(headers: &HeaderMap, timing: Timing) -> Duration {
    let delay = timing.received.duration_since(timing.requested);
    let corrected = age_value(headers).saturating_add(delay.unwrap_or_default());
    let apparent = date_of(headers, &DATE, timing.received)
        .and_then(|made| timing.received.duration_since(made).ok())
        // A date says the second only, so what was just made seems to be up to a second old. To a response
        // that is fresh for one second, this is the difference between some use and none.
        .map(|age| age.saturating_sub(Duration::from_secs(1)));
    corrected.max(apparent.unwrap_or_default())
}

/// The value of `Age`. Of several the first counts; what is no number is ignored (RFC 9111, section 5.1).
fn age_value(headers: &HeaderMap) -> Duration {
    let first = headers
        .get(AGE)
        .and_then(|line| split(line.as_bytes(), Quotes::Strings).next())
        .and_then(|age| digits(age, FOREVER.into()));
    Duration::from_secs(first.unwrap_or(0))
}

/// The date in the first line of a header, if it is one.
pub(super) fn date_of(
    headers: &HeaderMap,
    name: &HeaderName,
    now: SystemTime,
) -> Option<SystemTime> {
    date::parse(headers.get(name)?.as_bytes(), now)
}
