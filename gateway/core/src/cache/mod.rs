//! The parts of the microcache that stand by themselves; the gateway does not use them yet.
//!
//! * [`policy`]: what RFC 9111 says, as functions.
//! * [`memory`]: objects in memory, within a limit.
//! * [`storage`], [`head`]: the same as Pingora's cache wants it.

mod head;
mod memory;
pub(crate) mod policy;
mod storage;
