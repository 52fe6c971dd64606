//! The microcache: responses of upstreams, kept for others who ask for the same.
//!
//! * [`plan`]: what a route says of it.
//! * [`policy`]: what RFC 9111 says, as functions.
//! * [`key`]: what responses are stored under.
//! * [`zone`]: where they are stored; [`memory`]: within a limit; [`count`]: what comes of it; [`purges`]: what
//!   was purged while it was fetched.
//! * [`second`]: what is kept on a [`disk`] besides.
//! * [`storage`], [`head`]: the same as Pingora's cache wants it.

pub(crate) mod count;
pub(crate) mod disk;
pub(crate) mod head;
pub(crate) mod key;
mod lock;
pub(crate) mod memory;
pub(crate) mod plan;
pub(crate) mod policy;
pub(crate) mod purges;
mod second;
pub(crate) mod storage;
pub(crate) mod time;
pub(crate) mod zone;
