//! Which endpoint a request's session belongs to, and how the client learns of it.

use std::time::{SystemTime, UNIX_EPOCH};

use edgeway_sdk::Exchange;
use http::header::SET_COOKIE;
use pingora::{
    Result,
    http::{RequestHeader, ResponseHeader},
};

use super::attempt::Tries;
use crate::upstream::{Cluster, Members, Sticky};

/// The session of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Session {
    /// The endpoint that its token names.
    pub(super) endpoint: Option<u16>,
    /// The token is good, but not for long.
    stale: bool,
}

/// Reads the token of a request, if its upstream has sessions.
pub(super) fn find(request: &RequestHeader, cluster: &Cluster, members: &Members) -> Session {
    let none = Session::default();
    let Some(sticky) = &cluster.settings.sticky else {
        return none;
    };
    let (text, ttl) = match sticky {
        Sticky::Cookie(cookie, _) => (cookie.find(&request.headers), cookie.ttl),
        Sticky::Header { name, ttl, .. } => {
            let value = request.headers.get(name);
            (value.map(http::HeaderValue::as_bytes), *ttl)
        }
        Sticky::Hash(_) => return none,
    };
    let (Some(text), Some(key)) = (text, cluster.signing_key()) else {
        return none;
    };
    let now = now();
    match key.read(text, now, ttl) {
        Some(token) => Session {
            endpoint: members.by_id(token.id),
            stale: token.is_stale(now, ttl),
        },
        None => none,
    }
}

/// Tells the client where its session is now, if that is news to it. A session whose endpoint was only
/// busy has not moved, though its request was served elsewhere.
pub(super) fn tell(
    response: &mut ResponseHeader,
    tries: &Tries,
    exchange: &Exchange,
) -> Result<()> {
    let (Some(sticky), Some(lease)) = (&tries.cluster.settings.sticky, tries.lease()) else {
        return Ok(());
    };
    let (settings, members) = (&tries.cluster.settings, lease.members());
    let old = tries.session.endpoint;
    let stays = old.filter(|number| members.endpoint(*number).keeps_sessions(settings));
    let home = stays.unwrap_or_else(|| lease.number());
    let known = old == Some(home) && !tries.session.stale;
    let Some(key) = tries.cluster.signing_key().filter(|_| !known) else {
        return Ok(());
    };
    let token = key.token(key.id(&members.endpoint(home).name), now());
    match sticky {
        Sticky::Cookie(cookie, _) => {
            response.append_header(SET_COOKIE, cookie.value(&token, exchange.scheme))?;
        }
        Sticky::Header { name, .. } => {
            response.insert_header(name.clone(), token.header_value())?;
        }
        Sticky::Hash(_) => {}
    }
    Ok(())
}

/// Seconds since 1970.
fn now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
    })
}
