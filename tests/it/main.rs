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
mod adaptive_concurrency;
mod admin;
mod allow_methods;
mod api_key;
mod assets;
mod attacks;
mod authorize;
mod balancing;
mod bandwidth;
mod basic_auth;
mod bodies;
mod body_edits;
mod body_limit;
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
mod client_certificate;
mod compress;
mod concurrency;
mod config;
mod connections;
mod cors;
mod csrf;
mod custom_filter;
mod discovery;
mod django;
mod docs;
mod ejection;
mod error_pages;
mod errors;
mod expires;
mod files;
mod files_conditions;
mod files_listing;
mod files_names;
mod files_ranges;
mod forward_auth;
mod forwarding;
mod grpc;
mod grpc_web;
mod harness;
mod header_access;
mod headers;
mod health;
mod hedging;
mod http2;
mod hygiene;
mod identity;
mod introspect;
mod ip_access;
mod json_fields;
mod jwt;
mod listeners;
mod maintenance;
mod oidc;
mod policy;
mod proxy_protocol;
mod queue;
mod rate_limit;
mod reload;
mod request_id;
mod retries;
mod routing;
mod security_headers;
mod shaping;
mod smuggling;
mod sticky;
mod stopping;
mod substitute;
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
mod waf;
mod websocket;
mod wire;
