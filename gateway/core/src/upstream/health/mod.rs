//! Active checks: is an endpoint well, before a client has to find out?
//!
//! [`Check`] is what an upstream's `health` says, compiled. [`Checks`] runs it on every endpoint, each
//! in a loop of its own, and tells the endpoint what was found; how many failures make an endpoint
//! unhealthy is counted there. A check takes the same way as proxied requests, since the endpoint
//! itself says how it is reached, but always over a new connection: one that is kept proves little.

mod compile;
mod grpc;
mod http;
mod reason;
mod run;
mod tcp;
#[cfg(test)]
mod testing;

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use pingora::{connectors::http::Connector, upstreams::peer::HttpPeer};
use pingora_load_balancing::{Backend, health_check::HealthCheck};
use tokio::time::{Instant, timeout_at};

pub(crate) use self::run::Checks;
use self::tcp::TcpCheck;
use crate::config::Start;

/// An endpoint as its checks see it.
pub(crate) trait Checked: Send + Sync + 'static {
    /// What tells it from the other endpoints of its upstream.
    fn name(&self) -> &str;

    /// The `Host` of a check whose configuration gives none.
    fn host(&self) -> &str {
        self.name()
    }

    /// How it is reached now; none while its name is not resolved. Asked before every check.
    fn peer(&self) -> Option<HttpPeer>;

    /// Takes what a check has found. Called once for every check, also for one that was given up.
    fn checked(&self, outcome: Outcome);
}

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The error is the reason, in words for an operator: `answered 500, expected 200-399`.
    pub(crate) result: Result<(), String>,
    /// How long the check took.
    pub(crate) took: Duration,
}

/// How the endpoints of an upstream are checked, and when.
pub(crate) struct Check {
    pub(crate) interval: Duration,
    /// For a whole check.
    pub(crate) timeout: Duration,
    /// Successes in a row that make an endpoint healthy.
    pub(crate) healthy_after: NonZeroU32,
    /// Failures in a row that make an endpoint unhealthy.
    pub(crate) unhealthy_after: NonZeroU32,
    /// What an endpoint is before its first check. One success is enough then, whatever
    /// `healthy_after` says.
    pub(crate) start: Start,
    port: Option<u16>,
    host: Option<String>,
    means: Means,
}

type Means = Arc<dyn HealthCheck + Send + Sync>;

/// What checks connect with. A resource, made once for all upstreams: it reads the certificates of
/// the system's authorities. It keeps no connection.
pub(crate) struct Connectors {
    http: Connector,
    /// The same for all, since the timeout is kept outside.
    tcp: Means,
}

/// What a check needs to know beyond the address; travels in [`Backend::ext`].
#[derive(Clone)]
struct Target {
    peer: HttpPeer,
    host: String,
    deadline: Deadline,
}

/// When a check has to be done.
#[derive(Clone, Copy, Debug)]
struct Deadline {
    at: Instant,
    timeout: Duration,
}

impl Connectors {
    pub(crate) fn new() -> Self {
        Self {
            http: Connector::new(None),
            tcp: Arc::new(TcpCheck::new()),
        }
    }
}

impl fmt::Debug for Connectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connectors").finish_non_exhaustive()
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check")
            .field("interval", &self.interval)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Check {
    /// Checks an endpoint once; comes back within the timeout.
    async fn examine(&self, endpoint: &dyn Checked) -> Outcome {
        let began = Instant::now();
        let deadline = Deadline {
            at: began + self.timeout,
            timeout: self.timeout,
        };
        let result = match endpoint.peer() {
            Some(peer) => self.ask(self.target(endpoint, peer, deadline)).await,
            None => Err("not resolved".to_owned()),
        };
        Outcome {
            result,
            took: began.elapsed(),
        }
    }

    async fn ask(&self, target: Target) -> Result<(), String> {
        let deadline = target.deadline;
        let backend = target.into_backend();
        let answer = deadline.within("no success", self.means.check(&backend));
        answer.await.map_err(|error| reason::of(&error))
    }

    fn target(&self, endpoint: &dyn Checked, mut peer: HttpPeer, deadline: Deadline) -> Target {
        if let Some(port) = self.port {
            peer._address.set_port(port);
        }
        // The deadline alone decides; and a connection that could take a second stream would be
        // kept for it.
        let options = &mut peer.options;
        options.connection_timeout = None;
        options.total_connection_timeout = None;
        options.read_timeout = None;
        options.write_timeout = None;
        options.max_h2_streams = 1;
        options.h2_ping_interval = None;
        Target {
            peer,
            host: self.host_of(endpoint),
            deadline,
        }
    }

    fn host_of(&self, endpoint: &dyn Checked) -> String {
        if let Some(host) = &self.host {
            return host.clone();
        }
        // The name of a unix socket is a path, which can't be a host.
        let host = endpoint.host();
        let is_host = host.parse::<::http::uri::Authority>().is_ok();
        if is_host { host } else { "localhost" }.to_owned()
    }
}

impl Target {
    fn into_backend(self) -> Backend {
        let mut backend = Backend {
            addr: self.peer._address.clone(),
            weight: 1,
            ext: ::http::Extensions::new(),
        };
        backend.ext.insert(self);
        backend
    }

    fn of(backend: &Backend) -> pingora::Result<&Self> {
        let target = backend.ext.get();
        target.ok_or_else(|| reason::because("the check was not told how to reach the endpoint"))
    }
}

impl Deadline {
    /// What a step gives, or that there was `nothing` within the timeout of the check.
    async fn within<T>(
        &self,
        nothing: &str,
        step: impl Future<Output = pingora::Result<T>>,
    ) -> pingora::Result<T> {
        match timeout_at(self.at, step).await {
            Ok(result) => result,
            Err(_) => Err(reason::because(format!(
                "{nothing} within {:?}",
                self.timeout
            ))),
        }
    }
}
