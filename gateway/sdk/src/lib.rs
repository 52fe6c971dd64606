//! Everything that the author of an Edgeway filter may touch.
//!
//! A filter is a step with an opinion on requests or responses. It is a type that implements
//! [`Filter`], built from a piece of configuration that is any `serde` type, and added to the list
//! of [`Filters`] under the name that it has in the configuration file:
//!
//! ```
//! use std::collections::HashSet;
//!
//! use edgeway_sdk::prelude::*;
//!
//! #[derive(Deserialize)]
//! struct Tenants {
//!     allow: HashSet<String>,
//! }
//!
//! #[async_trait]
//! impl Filter for Tenants {
//!     async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
//!         let known = request.header("x-tenant").is_some_and(|name| self.allow.contains(name));
//!         Ok(if known { Flow::Continue } else { Reply::new(403).into() })
//!     }
//! }
//!
//! let filters = Filters::new().add("tenants", |config: Tenants, _| Ok(config));
//! assert!(filters.get("tenants").is_some());
//! ```
//!
//! A program with this filter hands the list to the gateway:
//! `edgeway::main(edgeway::standard().add(...))`. Its crate depends on `edgeway`, which passes on the
//! [`prelude`], and on `serde` with the feature `derive`, since what the derive makes names that crate.
//!
//! * [`filter`]: the contract: which hooks there are, when they are called, what an error does.
//! * [`message`]: what a hook is given: [`Request`], [`Upstream`], [`Response`], [`Record`].
//! * [`exchange`]: what all of these share.
//! * [`body`]: edits of bodies, for filters that want to see them.
//! * [`coding`]: content codings, and which of them a client takes.
//! * [`reply`]: a response made by the gateway itself.
//! * [`error`]: failures, of a request and of a configuration.
//! * [`values`]: what filters tell each other: [`Identity`] and types of your own.
//! * [`filters`]: the list that gives filters their names, and [`Build`], what a filter may ask
//!   for while it is built.
//! * [`resources`]: state that outlives a configuration.
//! * [`template`]: texts with values of the request in them.
//! * [`tls`]: what is known of a client that has come over TLS.
//! * [`trace`]: which trace a request is part of.
//! * [`types`]: durations, rates, sizes and secrets that parse themselves.
//! * [`mod@test`]: hooks without a socket, for unit tests.

pub mod body;
pub mod coding;
pub mod error;
pub mod exchange;
pub mod filter;
pub mod filters;
pub mod message;
pub mod reply;
pub mod resources;
pub mod template;
pub mod test;
pub mod tls;
pub mod trace;
pub mod types;
pub mod values;

pub use crate::{
    body::BodyEdit,
    coding::Coding,
    error::{BuildError, Error, OrStatus, Result},
    exchange::Exchange,
    filter::{Filter, Flow, Hooks, Offline},
    filters::{Build, Filters},
    message::{Origin, Record, Request, Response, Try, Upstream},
    reply::Reply,
    resources::Resources,
    template::Template,
    tls::{ClientCertificate, Tls},
    trace::{SpanId, Trace, TraceId},
    types::{Period, Rate, Secret, Size},
    values::{Identity, Values},
};

/// What a file with a filter in it needs, in one line.
pub mod prelude {
    pub use async_trait::async_trait;
    pub use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
    pub use serde::Deserialize;

    pub use crate::{
        BodyEdit, Build, BuildError, Error, Filter, Filters, Flow, Hooks, Identity, Offline,
        OrStatus, Origin, Period, Rate, Record, Reply, Request, Response, Result, Secret, Size,
        Template, Upstream,
    };
}
