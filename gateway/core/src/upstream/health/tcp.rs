//! Checks by a connection alone.

use async_trait::async_trait;
use pingora::Result;
use pingora_load_balancing::{
    Backend,
    health_check::{HealthCheck, TcpHealthCheck},
};

use super::Target;

/// Connects, in the way that is the endpoint's.
pub(super) struct TcpCheck(TcpHealthCheck);

impl TcpCheck {
    pub(super) fn new() -> Self {
        let mut check = TcpHealthCheck::default();
        // The timeout of the whole check counts.
        check.peer_template.options.connection_timeout = None;
        Self(check)
    }
}

#[async_trait]
impl HealthCheck for TcpCheck {
    async fn check(&self, backend: &Backend) -> Result<()> {
        let Target { peer, .. } = Target::of(backend)?;
        match &peer.options.custom_l4 {
            // Endpoints that are told who connects would complain of a connection that says nothing.
            Some(dial) => dial.connect(&peer._address).await.map(drop),
            None => self.0.check(backend).await,
        }
    }

    /// Not asked for: endpoints count.
    fn health_threshold(&self, _success: bool) -> usize {
        1
    }
}
