//! Named groups of endpoints, and which of them serves a request.
//!
//! * [`cluster`]: an upstream as a configuration describes it, made anew at each reload.
//! * [`roster`]: which endpoints it has: written, discovered, changed by an operator.
//! * [`members`]: the endpoints of one moment, and which of them serves a request; [`balance`]: by which
//!   policy; [`sticky`]: whose session is where.
//! * [`endpoint`]: what is known about an endpoint: its address, load, failures, checks. A resource that
//!   outlives the configuration.
//! * [`admitted`], [`breaker`], [`budget`], [`queue`]: when a request is not sent, not sent again, or not yet.
//! * [`hedge`]: a request that is sent to a second endpoint as well.
//! * [`discovery`], [`resolve`], [`health`]: what runs beside the requests; [`mod@tend`] runs it.
//! * [`peer`]: how Pingora is told to reach an endpoint.

mod admitted;
pub(crate) mod balance;
pub(crate) mod breaker;
pub(crate) mod budget;
pub(crate) mod clock;
mod cluster;
pub(crate) mod discovery;
pub(crate) mod endpoint;
pub(crate) mod health;
mod hedge;
mod latency;
mod members;
mod peer;
mod queue;
mod resolve;
mod roster;
pub(crate) mod sticky;
mod tend;
mod view;
mod window;

pub(crate) use self::{
    admitted::Admitted,
    cluster::{BalanceBy, Breaking, Cluster, MOST, Plan, Retries, Settings, Signing, Sticky},
    hedge::Hedge,
    members::{Endpoint, Lease, Members, Picked, Tried, Want},
    peer::{Introduction, Tls, Transport},
    queue::Turned,
    roster::{Change, Listed, Location, Origin},
    tend::{first_pass, tend},
    view::{EndpointView, STATUSES, UpstreamAbout, UpstreamView},
};
