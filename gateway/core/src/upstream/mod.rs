//! Named groups of endpoints, and which of them serves a request.
//!
//! [`Cluster`] is one upstream as a configuration describes it, made anew at each reload; what is
//! known about an endpoint ([`endpoint::State`]: its failures, its address) is a resource that
//! outlives the configuration.

pub(crate) mod clock;
mod cluster;
pub(crate) mod endpoint;
mod peer;
pub(crate) mod resolve;
mod rotation;

pub(crate) use self::{
    cluster::{Cluster, Settings, Share, Tried, Turns},
    endpoint::Endpoint,
};
