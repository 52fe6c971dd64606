//! What is told of listeners: connections, handshakes, certificates.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use super::text::{Metrics, Type};
use crate::{
    server::listeners::{Listener, Listeners},
    telemetry::meter::{ConnectionFigures, KINDS, Limit, Spoken, Unsecured},
};

/// A listener at one moment.
struct Seen {
    name: String,
    open: usize,
    figures: ConnectionFigures,
    /// None without TLS: until when each certificate is valid, in seconds since 1970, by its first name.
    certificates: Option<BTreeMap<String, i64>>,
}

/// What was counted of each listener.
pub(super) fn measure(listeners: &Listeners, metrics: &mut Metrics) {
    let listeners = listeners.running();
    let mut seen: Vec<_> = listeners.iter().map(Seen::of).collect();
    // While a listener moves to another address there may be two of a name.
    seen.sort_by(|one, other| one.name.cmp(&other.name));
    seen.dedup_by(|one, other| one.name == other.name);
    connections(&seen, metrics);
    handshakes(&seen, metrics);
    certificates(&seen, metrics);
}

impl Seen {
    fn of(listener: &Arc<Listener>) -> Self {
        let settings = listener.settings();
        let expiry = settings.tls.as_ref().map(|tls| tls.expiry());
        let certificates = expiry.map(|all| {
            let mut soonest = BTreeMap::new();
            for expiry in all {
                let name = expiry.names.into_iter().next().unwrap_or_default();
                let known = soonest.entry(name).or_insert(expiry.not_after);
                *known = expiry.not_after.min(*known);
            }
            soonest
        });
        Self {
            name: settings.spec.name.clone(),
            open: listener.connections.load(Ordering::Relaxed),
            figures: settings.meter.figures(),
            certificates,
        }
    }

    fn labels(&self) -> [(&'static str, &str); 1] {
        [("listener", &self.name)]
    }

    fn labels_with<'a>(
        &'a self,
        name: &'static str,
        value: &'a str,
    ) -> [(&'static str, &'a str); 2] {
        [("listener", &self.name), (name, value)]
    }
}

fn connections(seen: &[Seen], metrics: &mut Metrics) {
    let help = "Connections that are open.";
    metrics.family("edgeway_connections", help, Type::Gauge);
    for listener in seen {
        metrics.sample(&listener.labels(), listener.open);
    }
    let help = "Of these, those of which is known what is spoken on them.";
    metrics.family("edgeway_connections_speaking", help, Type::Gauge);
    for listener in seen {
        for (spoken, name) in Spoken::ALL {
            let labels = listener.labels_with("protocol", name);
            metrics.sample(&labels, listener.figures.open(spoken));
        }
    }
    let help = "Connections that have come.";
    metrics.family("edgeway_connections_accepted_total", help, Type::Counter);
    for listener in seen {
        metrics.sample(&listener.labels(), listener.figures.accepted);
    }
    let help = "Of these, those for which there was no room, by the limit.";
    metrics.family("edgeway_connections_refused_total", help, Type::Counter);
    for listener in seen {
        for (limit, name) in Limit::ALL {
            let labels = listener.labels_with("limit", name);
            metrics.sample(&labels, listener.figures.refused(limit));
        }
    }
    let help = "Of these, those on which something was spoken, by protocol.";
    metrics.family("edgeway_connections_spoken_total", help, Type::Counter);
    for listener in seen {
        for (spoken, name) in Spoken::ALL {
            let labels = listener.labels_with("protocol", name);
            metrics.sample(&labels, listener.figures.begun(spoken));
        }
    }
}

fn handshakes(seen: &[Seen], metrics: &mut Metrics) {
    let secure = || seen.iter().filter(|seen| seen.certificates.is_some());
    let help =
        "TLS handshakes that were made, by version, and whether they have resumed a session.";
    metrics.family("edgeway_tls_handshakes_total", help, Type::Counter);
    for listener in secure() {
        for ((version, resumed), count) in KINDS.into_iter().zip(listener.figures.handshakes) {
            let resumed = if resumed { "true" } else { "false" };
            let labels = [
                ("listener", &*listener.name),
                ("version", version),
                ("resumed", resumed),
            ];
            metrics.sample(&labels, count);
        }
    }
    let help = "TLS handshakes that have failed, by the reason.";
    metrics.family("edgeway_tls_handshake_failures_total", help, Type::Counter);
    for listener in secure() {
        for (why, reason) in Unsecured::ALL {
            let labels = listener.labels_with("reason", reason);
            metrics.sample(&labels, listener.figures.unsecured(why));
        }
    }
}

fn certificates(seen: &[Seen], metrics: &mut Metrics) {
    let help = "When a certificate ends, by the first of its names.";
    let name = "edgeway_certificate_expiry_timestamp_seconds";
    metrics.family(name, help, Type::Gauge);
    for listener in seen {
        for (name, not_after) in listener.certificates.iter().flatten() {
            metrics.sample(&listener.labels_with("name", name), not_after);
        }
    }
}
