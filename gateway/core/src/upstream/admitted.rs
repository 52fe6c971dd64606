//! A request that an upstream has let pass, until it is known how it went.

use std::{mem, sync::Arc, time::Duration};

use log::{info, warn};

use super::{
    Cluster,
    breaker::{Admission, Changed},
    clock,
};
use crate::telemetry::meter::Event;

/// A request that an upstream has let pass. The breaker is told how it went once: when that is settled, or
/// when this is dropped; without an outcome the client has left.
pub(crate) struct Admitted {
    cluster: Arc<Cluster>,
    admission: Admission,
    /// Whether it has gone well so far, as far as the upstream is concerned.
    outcome: Option<bool>,
}

impl Admitted {
    /// Asks whether a request may ask this upstream at `now`. Called once for each.
    ///
    /// # Errors
    ///
    /// The breaker is open, for this time.
    pub(crate) fn to(cluster: &Arc<Cluster>, now: u64) -> Result<Self, Duration> {
        let (settings, shared) = (&cluster.settings, &cluster.shared);
        let admission = match &settings.breaker {
            Some(breaking) => shared.breaker.admit(&breaking.rules, now),
            None => Admission::UNASKED,
        };
        if let Admission::Refused { retry_after } = admission {
            cluster.meter().event(Event::BreakerOpen);
            return Err(retry_after);
        }
        // Who is refused pays for no retry.
        shared.budget.request(now);
        Ok(Self {
            cluster: Arc::clone(cluster),
            admission,
            outcome: None,
        })
    }

    /// Notes how it goes. What is noted last counts.
    pub(crate) fn went(&mut self, good: bool) {
        self.outcome = Some(good);
    }

    /// Tells the breaker.
    pub(crate) fn settle(&mut self) {
        let admission = mem::replace(&mut self.admission, Admission::UNASKED);
        let (cluster, shared) = (&self.cluster, &self.cluster.shared);
        let (Some(breaking), Some(good)) = (&cluster.settings.breaker, self.outcome) else {
            return shared.breaker.abandoned(admission);
        };
        let now = clock::now();
        match shared.breaker.note(&breaking.rules, now, admission, good) {
            Some(Changed::Opened) => {
                cluster.meter().event(Event::BreakerOpened);
                warn!("breaker has opened: upstream={}", cluster.name);
            }
            Some(Changed::Closed) => info!("breaker has closed: upstream={}", cluster.name),
            None => {}
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.settle();
    }
}
