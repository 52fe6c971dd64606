//! What a shared HTTP cache has to do, as RFC 9111 and its companions say it.
//!
//! This part is pure: it has no storage and opens nothing, and the time is told to it. The cache around it
//! asks, in the order in which a request goes through it:
//!
//! 1. [`request`]: what the client wants, and whether what is stored may be served;
//! 2. [`vary`]: which of the responses for a URI fits the request;
//! 3. [`condition`] and [`range`]: whether the client gets 200, 206, 304 or 416;
//! 4. [`update`]: how to ask whether what is stored is still good, and what the answer changes;
//! 5. [`storable`] and [`fields`]: what of a new response may be stored, and with which [`freshness`];
//! 6. [`invalidate`]: what an unsafe request makes invalid;
//! 7. [`status`]: what to tell of all this.
//!
//! Nothing here fails or panics on any header. What cannot be read is taken in the way that caches less.

mod accept;
pub(crate) mod condition;
pub(crate) mod date;
pub(crate) mod directives;
pub(crate) mod fields;
pub(crate) mod freshness;
pub(crate) mod invalidate;
mod list;
pub(crate) mod range;
pub(crate) mod request;
pub(crate) mod rules;
pub(crate) mod status;
pub(crate) mod storable;
pub(crate) mod tags;
mod targeted;
#[cfg(test)]
mod tests;
pub(crate) mod update;
pub(crate) mod vary;
