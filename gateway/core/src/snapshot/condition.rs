//! For which requests of a route a filter is.

use std::borrow::Cow;

use edgeway_sdk::{Exchange, Identity};
use http::request;
use serde_json::Value;

use super::Networks;
use crate::route::{Found, Host, Reached, RouteRequest, Router, Test, normalise};

/// What `when` and `unless` say of a filter.
#[derive(Debug, Default)]
pub(crate) struct Applies {
    pub(crate) when: Option<Condition>,
    pub(crate) unless: Option<Condition>,
}

/// What must hold of a request, all of it.
#[derive(Debug)]
pub(crate) struct Condition {
    /// Nothing if nothing is asked of the head.
    pub(crate) head: Option<Router<()>>,
    pub(crate) claims: Box<[(Box<str>, Test)]>,
    pub(crate) clients: Networks,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Yes,
    No,
    /// The path has readings of which it holds for some: it is not known which one the upstream will take.
    Perhaps,
}

impl Applies {
    /// Whether the filter is for this request. In doubt it is: a filter that guards must not be got around by
    /// the spelling of a path.
    pub(crate) fn to(&self, head: &request::Parts, exchange: &Exchange, listener: &str) -> bool {
        let holds = |condition: &Condition| condition.holds(head, exchange, listener);
        self.when
            .as_ref()
            .is_none_or(|when| holds(when) != Holds::No)
            && self
                .unless
                .as_ref()
                .is_none_or(|unless| holds(unless) != Holds::Yes)
    }
}

impl Condition {
    fn holds(&self, head: &request::Parts, exchange: &Exchange, listener: &str) -> Holds {
        let identity: Option<&Identity> = exchange.values.get();
        let claims = self.claims.iter().all(|(path, test)| {
            let claim = identity.and_then(|identity| claim(identity, path));
            test.holds(claim.iter().flat_map(|claim| texts(claim)))
        });
        let client = self.clients.is_empty() || self.clients.contains(exchange.client);
        if !claims || !client {
            return Holds::No;
        }
        match &self.head {
            Some(router) => head_holds(router, head, exchange, listener),
            None => Holds::Yes,
        }
    }
}

fn head_holds(
    router: &Router<()>,
    head: &request::Parts,
    exchange: &Exchange,
    listener: &str,
) -> Holds {
    // What no route was found for has no path that could be looked at.
    let Ok(path) = normalise(head.uri.path()) else {
        return Holds::Perhaps;
    };
    let found = router.find(&RouteRequest {
        host: Host::parse(&exchange.host).ok().as_ref(),
        path: path.matched(),
        readings: path.readings(),
        method: &head.method,
        scheme: exchange.scheme.as_str(),
        listener,
        headers: &head.headers,
        query: head.uri.query(),
    });
    match found {
        Found::Hit(hit) if hit.reached == Reached::Path => Holds::Yes,
        Found::Ambiguous => Holds::Perhaps,
        Found::Hit(_) | Found::MethodNotAllowed(_) | Found::NotFound => Holds::No,
    }
}

/// A claim by its path; `subject` is who is calling, whatever claim that stands in.
fn claim<'i>(identity: &'i Identity, path: &str) -> Option<Cow<'i, Value>> {
    match identity.claim(path) {
        Some(value) => Some(Cow::Borrowed(value)),
        None if path == "subject" => Some(Cow::Owned(identity.subject().into())),
        None => None,
    }
}

/// The values of a claim: those of a list one by one.
fn texts(claim: &Value) -> Vec<Cow<'_, [u8]>> {
    match claim {
        Value::Array(list) => list.iter().flat_map(texts).collect(),
        Value::String(text) => vec![Cow::Borrowed(text.as_bytes())],
        Value::Null | Value::Object(_) => Vec::new(),
        Value::Bool(_) | Value::Number(_) => vec![Cow::Owned(claim.to_string().into_bytes())],
    }
}
