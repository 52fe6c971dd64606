//! What a process is started with, and no reload can change.

use std::collections::HashMap;

use crate::snapshot::Gateway;

/// Keys that take effect at a start only, with their values in force.
pub(super) struct Fixed {
    threads: Option<usize>,
    upstream_keepalive: usize,
    /// Whether a socket was opened so that others may have the same port, by names and addresses of listeners.
    reuse_port: HashMap<(String, String), bool>,
}

impl Fixed {
    pub(super) fn of(gateway: &Gateway) -> Self {
        Self {
            threads: gateway.threads,
            upstream_keepalive: gateway.upstream_keepalive,
            reuse_port: reuse_port(gateway),
        }
    }

    /// The keys of a new configuration that take effect at the next start. Listeners that it closes are forgotten.
    pub(super) fn changed(&mut self, new: &Gateway) -> Vec<String> {
        let changed = [
            ("threads", self.threads != new.threads),
            (
                "upstream_keepalive",
                self.upstream_keepalive != new.upstream_keepalive,
            ),
        ];
        let mut keys: Vec<_> = changed
            .into_iter()
            .filter(|(_, changed)| *changed)
            .map(|(key, _)| key.to_owned())
            .collect();
        let mut wanted = reuse_port(new);
        for (listener, reuse) in &mut wanted {
            let opened = *self.reuse_port.get(listener).unwrap_or(reuse);
            if opened != *reuse {
                keys.push(format!("listeners.{}.reuse_port", listener.0));
            }
            *reuse = opened;
        }
        self.reuse_port = wanted;
        keys
    }
}

fn reuse_port(gateway: &Gateway) -> HashMap<(String, String), bool> {
    let listeners = gateway.listeners.iter();
    let of = listeners.map(|listener| {
        let address = listener.bind.to_string();
        let name = listener.name.clone();
        ((name, address), listener.socket.reuse_port)
    });
    of.collect()
}
