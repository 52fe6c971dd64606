//! The filters that come with Edgeway, in alphabetical order.
//!
//! They use nothing that a stranger's filter could not use: only `edgeway-sdk`.

mod access_log;
mod adaptive_concurrency;
mod allow_methods;
mod api_key;
mod authorize;
mod bandwidth;
mod basic_auth;
mod body_limit;
mod client;
mod client_certificate;
mod compress;
mod concurrency;
mod cors;
pub mod credentials;
mod criteria;
mod csrf;
mod digest;
mod document;
mod error_pages;
mod expires;
mod flights;
mod forward;
mod forward_auth;
mod header_access;
mod headers;
mod introspect;
mod ip_access;
mod json;
mod json_fields;
mod jwt;
mod limit_key;
mod list;
mod oidc;
mod origins;
mod plain;
mod rate_limit;
mod request_id;
mod roll;
mod security_headers;
mod slots;
mod substitute;
mod trace;
mod waf;
mod watched;
mod written;
mod yaml;

use edgeway_sdk::Filters;

pub use self::{
    access_log::{LogSink, json_line, log_sinks, reopen_logs},
    trace::{TraceExport, trace_exports},
};

/// All of them, under the names that they have in a configuration file.
pub fn standard() -> Filters {
    Filters::new()
        .add_documented("access_log", access_log::DOC, access_log::build)
        .add_documented("api_key", api_key::DOC, api_key::build)
        .add_documented(
            "adaptive_concurrency",
            adaptive_concurrency::DOC,
            adaptive_concurrency::build,
        )
        .add_documented("allow_methods", allow_methods::DOC, allow_methods::build)
        .add_documented("authorize", authorize::DOC, authorize::build)
        .add_documented("bandwidth", bandwidth::DOC, bandwidth::build)
        .add_documented("basic_auth", basic_auth::DOC, basic_auth::build)
        .add_documented("body_limit", body_limit::DOC, body_limit::build)
        .add_documented("compress", compress::DOC, compress::build)
        .add_documented("concurrency", concurrency::DOC, concurrency::build)
        .add_documented(
            "client_certificate",
            client_certificate::DOC,
            client_certificate::build,
        )
        .add_documented("cors", cors::DOC, cors::build)
        .add_documented("csrf", csrf::DOC, csrf::build)
        .add_documented("error_pages", error_pages::DOC, error_pages::build)
        .add_documented("expires", expires::DOC, expires::build)
        .add_documented("forward_auth", forward_auth::DOC, forward_auth::build)
        .add_documented("header_access", header_access::DOC, header_access::build)
        .add_documented("headers", headers::DOC, headers::build)
        .add_documented("introspect", introspect::DOC, introspect::build)
        .add_documented("ip_access", ip_access::DOC, ip_access::build)
        .add_documented("json_fields", json_fields::DOC, json_fields::build)
        .add_documented("jwt", jwt::DOC, jwt::build)
        .add_documented("oidc", oidc::DOC, oidc::build)
        .add_documented("rate_limit", rate_limit::DOC, rate_limit::build)
        .add_documented("request_id", request_id::DOC, request_id::build)
        .add_documented(
            "security_headers",
            security_headers::DOC,
            security_headers::build,
        )
        .add_documented("substitute", substitute::DOC, substitute::build)
        .add_documented("trace", trace::DOC, trace::build)
        .add_documented("waf", waf::DOC, waf::build)
}
