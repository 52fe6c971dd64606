//! What the gateway promises, seen through real sockets: one file for each feature.
//!
//! `#41` and `T10` in comments are numbers of capabilities and of traps in the tutorials that they
//! were collected from.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may what it is made of"
)]

mod access_log;
mod acme;
mod admin;
mod attacks;
mod balancing;
mod basic_auth;
mod bodies;
mod body_edits;
mod breaker;
mod broken;
mod cache_admin;
mod cache_disk;
mod cache_isolation;
mod cache_options;
mod cache_rfc;
mod cache_slow;
mod cache_stale;
mod cache_stream;
mod cache_surge;
mod cli;
mod config;
mod connections;
mod cors;
mod custom_filter;
mod discovery;
mod docs;
mod ejection;
mod errors;
mod expires;
mod forwarding;
mod grpc;
mod grpc_web;
mod harness;
mod headers;
mod health;
mod hedging;
mod http2;
mod identity;
mod jwt;
mod listeners;
mod proxy_protocol;
mod queue;
mod reload;
mod request_id;
mod retries;
mod routing;
mod shaping;
mod smuggling;
mod sticky;
mod stopping;
mod survival;
mod targets;
mod tcp;
mod timeouts;
mod tls;
mod tutorial;
mod unix_sockets;
mod upstream_http2;
mod upstream_tls;
mod upstreams;
mod websocket;
mod wire;
