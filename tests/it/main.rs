//! What the gateway promises, seen through real sockets: one file for each feature.
//!
//! `#41` and `T10` in comments are numbers of capabilities and of traps in the tutorials that they
//! were collected from.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may what it is made of"
)]

mod access_log;
mod basic_auth;
mod bodies;
mod cli;
mod config;
mod cors;
mod custom_filter;
mod docs;
mod errors;
mod forwarding;
mod harness;
mod headers;
mod identity;
mod jwt;
mod reload;
mod request_id;
mod routing;
mod stopping;
mod targets;
mod tutorial;
mod upstreams;
