//! Where endpoints come from when they are not written down.
//!
//! A [`Source`] looks once; [`follow`] looks again and again, and tells when the endpoints have
//! changed. What was found last stays through every failure to look.
//!
//! * [`dns`]: the addresses of a name, and the records of a service.
//! * [`mod@file`]: a file that somebody else writes.
//! * [`resolver`]: who is asked for names.

mod dns;
mod file;
mod resolver;
mod stamp;

use std::{
    fmt,
    num::{NonZeroU16, NonZeroU32},
    path::Path,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use log::{info, warn};

pub(crate) use self::{
    dns::{Addresses, addresses},
    file::read,
    resolver::Resolver,
};
use crate::config::{self, Discover, EndpointAddress, Mode};

/// An endpoint that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Who it is, in logs and from one look to the next: `10.0.0.7:8080`.
    pub(crate) name: String,
    pub(crate) address: EndpointAddress,
    pub(crate) weight: NonZeroU16,
    pub(crate) backup: bool,
    pub(crate) max_connections: Option<NonZeroU32>,
    pub(crate) mode: Mode,
}

impl From<config::Endpoint> for Found {
    fn from(endpoint: config::Endpoint) -> Self {
        let config::Endpoint {
            address,
            weight,
            backup,
            max_connections,
            state,
        } = endpoint;
        Self {
            name: address.to_string(),
            address,
            weight,
            backup,
            max_connections,
            mode: state,
        }
    }
}

/// What one look has found, and how long it is good for.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) endpoints: Vec<Found>,
    pub(crate) fresh_for: Duration,
}

/// Where endpoints are found.
#[async_trait]
pub(crate) trait Source: Send + Sync {
    /// Looks once. An error is a sentence for the operator; then nothing is known that was not
    /// known before.
    ///
    /// Called by one task, and dropped when the configuration goes.
    async fn look(&self) -> Result<Look, String>;

    /// What the log calls it: `upstream=app dns=app.internal:8080`.
    fn describe(&self) -> String;

    /// The host that all endpoints are addresses of, if there is one.
    fn host(&self) -> Option<&str> {
        None
    }

    /// The file that holds the endpoints, if one does: what is written there is found.
    fn file(&self) -> Option<&Path> {
        None
    }

    /// How soon to look again after an error.
    fn backoff(&self) -> Backoff {
        Backoff::default()
    }
}

/// How long to wait after a failure: twice as long each time, up to a limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            most: Duration::from_secs(10),
        }
    }
}

/// The source that an upstream's `discover` names. Paths are relative to `folder`, that of the
/// configuration.
pub(crate) fn source(
    upstream: &str,
    discover: &Discover,
    folder: &Path,
    resolver: &Resolver,
) -> Arc<dyn Source> {
    match discover {
        Discover::Dns(name) => Arc::new(Addresses::new(
            format!("upstream={upstream} dns={name}"),
            &name.host,
            name.port,
            resolver.clone(),
        )),
        Discover::Srv(name) => Arc::new(dns::Services::new(
            format!("upstream={upstream} srv={}", name.0),
            &name.0,
            resolver.clone(),
        )),
        Discover::File { path, interval } => {
            Arc::new(file::File::new(upstream, folder.join(path), *interval))
        }
    }
}

/// Looks for as long as it is polled, and tells the endpoints when they have changed.
///
/// They come sorted by name, each name once. The first look always tells if it succeeds, also that
/// there are none; until then, and through failures, nothing is told, so that what is known
/// stays.
pub(crate) async fn follow(source: Arc<dyn Source>, mut tell: impl FnMut(Vec<Found>)) {
    let mut known = None;
    let mut trouble = Trouble::new(source.backoff());
    loop {
        let wait = match source.look().await {
            Ok(look) => {
                if trouble.is_over() {
                    info!("endpoints are discovered again: {}", source.describe());
                }
                let found = Some(in_order(look.endpoints));
                if known != found {
                    known.clone_from(&found);
                    found.into_iter().for_each(&mut tell);
                }
                jittered(look.fresh_for)
            }
            Err(reason) => {
                let (news, wait) = trouble.met(&reason);
                if news {
                    warn!(
                        "endpoints can't be discovered, those that are known stay: {} reason={reason}",
                        source.describe()
                    );
                }
                wait
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Sorts by name. Of several with one name the first stays.
fn in_order(mut endpoints: Vec<Found>) -> Vec<Found> {
    endpoints.sort_by(|a, b| a.name.cmp(&b.name));
    endpoints.dedup_by(|later, first| later.name == first.name);
    endpoints
}

/// A bit longer, so that many gateways, and many names, don't ask all at once for ever.
fn jittered(period: Duration) -> Duration {
    period.saturating_add((period / 10).mul_f64(rand::random_range(0.0..1.0)))
}

/// Looks that have failed since one succeeded.
struct Trouble {
    backoff: Backoff,
    /// Why the last one failed.
    reason: Option<String>,
    wait: Duration,
}

impl Trouble {
    fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            reason: None,
            wait: backoff.first,
        }
    }

    /// Notes a failure; whether it is another than the one before, and how long to wait now.
    fn met(&mut self, reason: &str) -> (bool, Duration) {
        let news = self.reason.as_deref() != Some(reason);
        self.reason = Some(reason.to_owned());
        let wait = self.wait;
        self.wait = wait.saturating_mul(2).min(self.backoff.most);
        (news, wait)
    }

    /// Notes a success; whether there was trouble before.
    fn is_over(&mut self) -> bool {
        self.wait = self.backoff.first;
        self.reason.take().is_some()
    }
}

impl fmt::Debug for dyn Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tiny_dns;
