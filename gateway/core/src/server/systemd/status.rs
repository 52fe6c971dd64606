//! What the service is doing, in a line.

use std::time::Duration;

use tokio::{select, time::sleep};

use super::{Systemd, lock};
use crate::{
    config::diagnostic::counted,
    server::drain::Drain,
    snapshot::{Gateway, Live},
};

/// How often it is looked whether there is something new to say.
const EVERY: Duration = Duration::from_secs(2);

impl Systemd {
    /// Keeps the status what it is, until the process has ended.
    pub(in crate::server) async fn tend(self, live: Live, drain: Drain) {
        let Some(told) = &self.0 else { return };
        told.serves.notified().await;
        loop {
            self.show(&live.pin());
            select! {
                () = sleep(EVERY) => {}
                () = drain.begun() => break,
            }
        }
        self.stopping();
        loop {
            let open = counted(drain.connections(), "connection");
            self.status(&format!("draining {open}"));
            self.extend();
            sleep(EVERY).await;
        }
    }

    /// Tells what is in force.
    pub(in crate::server) fn show(&self, gateway: &Gateway) {
        let Some(told) = &self.0 else { return };
        let clusters = &gateway.clusters;
        let down: Vec<_> = clusters
            .iter()
            .filter(|cluster| !cluster.is_up())
            .map(|cluster| &*cluster.name)
            .collect();
        let refused = lock(&told.refused).clone();
        self.status(&line(
            gateway.router.routes().count(),
            clusters.len(),
            &down,
            gateway.revision,
            refused.as_deref(),
        ));
    }
}

fn line(
    routes: usize,
    upstreams: usize,
    down: &[&str],
    revision: u64,
    refused: Option<&str>,
) -> String {
    let mut line = format!(
        "serving {}, {}",
        counted(routes, "route"),
        counted(upstreams, "upstream")
    );
    if !down.is_empty() {
        line.push_str(&format!(" (down: {})", down.join(", ")));
    }
    line.push_str(&format!(", revision {revision}"));
    if let Some(reason) = refused {
        line.push_str(&format!("; the last configuration was refused: {reason}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_is_down_and_what_was_refused() {
        assert_eq!(
            line(12, 1, &[], 1, None),
            "serving 12 routes, 1 upstream, revision 1"
        );
        assert_eq!(
            line(
                1,
                3,
                &["shop", "users"],
                4,
                Some("`edgeway.yaml:3:1`: unknown key")
            ),
            "serving 1 route, 3 upstreams (down: shop, users), revision 4; the last configuration was refused: \
             `edgeway.yaml:3:1`: unknown key"
        );
    }
}
