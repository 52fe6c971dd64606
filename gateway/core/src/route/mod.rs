//! Which route answers a request.
//!
//! This part is pure: it reads no configuration, opens no socket and knows nothing of the proxy. It is
//! given a list of [`Match`]es, each with a value, and answers [`Router::find`].
//!
//! # Precedence
//!
//! Of all routes that match a request, the first in this order is taken:
//!
//! 1. the most specific host: an exact name, then wildcards from the longest to the shortest, then routes
//!    without a host;
//! 2. among them an exact path, then regexes in file order, then the longest prefix. A prefix of
//!    [`Rank::AboveRegex`] that would be taken among the prefixes is taken before any regex;
//! 3. within the same host and path, more predicates beat fewer (a list of methods counts as one);
//! 4. then file order.
//!
//! A route matches with all it says or not at all. When its predicates fail, the next one in the order is
//! asked, and after the last one of a host the routes of the less specific hosts are asked: a route without
//! a host is a route for *every* host. So a reader finds the answer by going down one list; there is no
//! first choice (as of a server block in nginx) that hides the rest of the file.
//!
//! The same regex written twice has the place of the first, so that rule 3 holds for it too.
//!
//! # Cost
//!
//! Hosts and exact paths are one hash lookup each, wildcards one for each label of the host, prefixes one
//! for each segment of the path and never more than the longest prefix has. None of them allocates, but for
//! prefixes of more than fifteen segments. Regexes of a host are tried together. What does grow: routes that
//! share host *and* path and differ in predicates only are asked one by one.
//!
//! # Spellings
//!
//! Routing is a security decision, so a path is routed in one spelling ([`normalise`]), and a request that
//! an upstream could plausibly read as a path of another route is refused ([`Found::Ambiguous`]).

mod host;
mod matching;
mod near;
mod path;
mod pattern;
mod predicate;
mod prefix;
mod router;
mod shadow;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;

pub use host::{Host, HostError, HostName, HostPattern};
pub use matching::{Match, method};
pub use near::Miss;
pub use path::{Normalised, PathError, normalise};
pub use pattern::{Case, Expression, PathPattern, PathText, Rank};
pub use predicate::{Predicate, Subject, Test};
pub use router::{Found, Hit, Reached, RouteRequest, Router};
pub use shadow::{Shadowed, unreachable};

/// What is wrong with a part of a [`Match`], as one sentence for a diagnostic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchError(String);

impl MatchError {
    fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl fmt::Display for MatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for MatchError {}
