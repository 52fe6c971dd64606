//! Whether a response may be stored (RFC 9111, section 3).

use std::{fmt, time::Duration};

use http::{
    HeaderMap, Method, StatusCode,
    header::{CONTENT_TYPE, ETAG, LAST_MODIFIED, SET_COOKIE},
    response,
};

use super::{
    directives::{Flag, RequestDirectives, ResponseDirectives},
    freshness::{Basis, Freshness, Stale, Timing, is_heuristically_cacheable},
    request::Credentials,
    rules::{Authorization, Cookie, Rules, SetCookie},
    vary::Vary,
};

/// Whether a response may be stored, and for how long or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Store(Freshness),
    Not(Reason),
}

/// Why a response is not stored. Written as one word, for logs and `Cache-Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The request has another method than GET. A response to HEAD only updates what is stored.
    Method,
    /// The request says `no-store`.
    RequestNoStore,
    /// The request had credentials, and the response does not say that it may be shared.
    Authorization,
    /// The request had cookies, and the response does not say what [`Cookie`] asks of it.
    Cookie,
    /// The status is not final, is that of a part, or is the answer to a condition.
    Status,
    /// `must-understand`, of a status that is not understood.
    NotUnderstood,
    NoStore,
    Private,
    SetCookie,
    /// It varies by something that is not in the request, or by more than is told apart.
    Vary,
    /// It says nothing of its lifetime, and neither does the route.
    NoLifetime,
    /// It has no end, and says nothing of its lifetime: only the route does.
    Stream,
    /// It is stale already, and could not be of use to anyone.
    Expired,
}

/// The request whose response it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// That of the request to the upstream.
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
    /// All that the client has sent, whatever filters made of it.
    pub(crate) credentials: Credentials,
}

/// Decides about the final response to a request.
///
/// The response is as it has come. What
/// may be stored has still to lose some of its fields: see [`excluded`](super::fields::excluded).
pub(crate) fn storable(
    request: Asked<'_>,
    response: &response::Parts,
    timing: Timing,
    rules: &Rules,
) -> Verdict {
    let directives = ResponseDirectives::of(&response.headers, &rules.targets);
    if let Some(reason) = refusal(request, response, &directives, rules) {
        return Verdict::Not(reason);
    }
    let freshness = Freshness::of(response, &directives, timing, rules);
    let reason = unfounded(response.status, &directives, &freshness)
        .or_else(|| personal(request.credentials, &directives, rules.cookie))
        .or_else(|| endless(&response.headers, freshness.basis))
        .or_else(|| useless(&response.headers, &freshness));
    match reason {
        Some(reason) => Verdict::Not(reason),
        None => Verdict::Store(freshness),
    }
}

#[cfg(test)]
impl Verdict {
    pub(crate) fn freshness(&self) -> Option<&Freshness> {
        match self {
            Self::Store(freshness) => Some(freshness),
            Self::Not(_) => None,
        }
    }
}

impl Reason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::RequestNoStore => "request-no-store",
            Self::Authorization => "authorization",
            Self::Cookie => "cookie",
            Self::Status => "status",
            Self::NotUnderstood => "not-understood",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::SetCookie => "set-cookie",
            Self::Vary => "vary",
            Self::NoLifetime => "no-lifetime",
            Self::Stream => "stream",
            Self::Expired => "expired",
        }
    }
}

impl Reason {
    /// Whether this, as one word, is a reason that lies in the request: another may be luckier.
    pub(crate) fn is_of_request(word: &'static str) -> bool {
        [
            Self::Method,
            Self::RequestNoStore,
            Self::Authorization,
            Self::Cookie,
        ]
        .iter()
        .any(|reason| reason.as_str() == word)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why this is out of the question, whatever its lifetime.
fn refusal(
    request: Asked<'_>,
    response: &response::Parts,
    directives: &ResponseDirectives,
    rules: &Rules,
) -> Option<Reason> {
    let headers = &response.headers;
    if request.method != Method::GET {
        return Some(Reason::Method);
    }
    if rules.honour.no_store && RequestDirectives::of(request.headers).no_store {
        return Some(Reason::RequestNoStore);
    }
    if !is_whole(response.status) {
        return Some(Reason::Status);
    }
    let must_understand = directives.has(Flag::MustUnderstand);
    if must_understand && !is_understood(response.status) {
        return Some(Reason::NotUnderstood);
    }
    if directives.has(Flag::NoStore) && !must_understand {
        return Some(Reason::NoStore);
    }
    if directives.has(Flag::Private) {
        return Some(Reason::Private);
    }
    let credentials = request.credentials;
    let keyed = rules.authorization == Authorization::Keyed;
    let authorized = credentials.untold || (credentials.authorization && !keyed);
    if authorized && !permits_authorized(directives) {
        return Some(Reason::Authorization);
    }
    if sets_cookie(headers, directives) && !permits_cookie(directives, rules.set_cookie) {
        return Some(Reason::SetCookie);
    }
    match Vary::of(headers) {
        Vary::Any => Some(Reason::Vary),
        Vary::None | Vary::Names(_) => None,
    }
}

/// Whether the response is final, complete, and would be the same to a request without conditions. 206 and
/// 416 are about a range, 304 and 412 about a condition, and 407 is for us.
fn is_whole(status: StatusCode) -> bool {
    !status.is_informational() && !matches!(status.as_u16(), 206 | 304 | 407 | 412 | 416)
}

/// Statuses of RFC 9110 of which this cache does all that is asked.
fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=205 | 300..=303 | 307 | 308 | 400..=406 | 408..=411 | 413..=415 | 417 | 421 | 422
            | 426 | 500..=505
    )
}

/// RFC 9111, section 3.5.
fn permits_authorized(directives: &ResponseDirectives) -> bool {
    directives.says_shared() || directives.has(Flag::MustRevalidate)
}

/// Whether there is a cookie that would be stored.
fn sets_cookie(headers: &HeaderMap, directives: &ResponseDirectives) -> bool {
    let name = SET_COOKIE.as_str().as_bytes();
    headers.contains_key(SET_COOKIE)
        && !directives
            .withheld(headers)
            .any(|withheld| withheld.eq_ignore_ascii_case(name))
}

fn permits_cookie(directives: &ResponseDirectives, rule: SetCookie) -> bool {
    match rule {
        SetCookie::Never => false,
        SetCookie::Shared => directives.says_shared(),
    }
}

/// Whether nothing says that this may be stored: the last condition of RFC 9111, section 3.
fn unfounded(
    status: StatusCode,
    directives: &ResponseDirectives,
    freshness: &Freshness,
) -> Option<Reason> {
    let founded = match freshness.basis {
        Basis::Validator => is_heuristically_cacheable(status) || directives.has(Flag::Public),
        Basis::SMaxage | Basis::MaxAge | Basis::Expires | Basis::Ttl | Basis::Heuristic => true,
    };
    (!founded).then_some(Reason::NoLifetime)
}

/// Whether this may be the page of one user, as far as the cookies of the request tell.
fn personal(
    credentials: Credentials,
    directives: &ResponseDirectives,
    rule: Cookie,
) -> Option<Reason> {
    let fine = match rule {
        Cookie::Ignored => true,
        Cookie::Shared => directives.says_shared(),
    };
    (!fine && credentials.cookie).then_some(Reason::Cookie)
}

/// Whether this is a stream of what happens, which is of use to who has asked for it at that time.
fn endless(headers: &HeaderMap, basis: Basis) -> Option<Reason> {
    const ENDLESS: [&str; 2] = ["text/event-stream", "multipart/x-mixed-replace"];
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let endless = ENDLESS.iter().any(|one| one.eq_ignore_ascii_case(kind));
    (endless && !basis.is_stated()).then_some(Reason::Stream)
}

/// Whether this could not be used for anything: neither fresh, nor served stale, nor revalidated.
fn useless(headers: &HeaderMap, freshness: &Freshness) -> Option<Reason> {
    let fresh = freshness.lifetime > freshness.initial_age;
    let stale = match freshness.stale {
        Stale::Never => false,
        Stale::For(windows) => windows.while_revalidate.max(windows.if_error) > Duration::ZERO,
    };
    let validated = headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED);
    if fresh || stale || validated {
        return None;
    }
    match freshness.basis {
        Basis::Validator => Some(Reason::NoLifetime),
        Basis::SMaxage | Basis::MaxAge | Basis::Expires | Basis::Ttl | Basis::Heuristic => {
            Some(Reason::Expired)
        }
    }
}
