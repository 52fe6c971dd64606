//! What the gateway tells in `/v1/live`, as far as it is shown here.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub(super) struct Live {
    pub(super) process: Process,
    pub(super) serving: String,
    pub(super) total: Total,
    pub(super) routes: Vec<Route>,
    pub(super) upstreams: Vec<Upstream>,
    pub(super) failures: Vec<Failed>,
    pub(super) configuration: Configuration,
    pub(super) maintenance: Maintenance,
    pub(super) at_ms: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Process {
    pub(super) version: String,
    pub(super) uptime_s: u64,
    pub(super) cpu: f64,
    pub(super) rss_bytes: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Configuration {
    pub(super) revision: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Maintenance {
    pub(super) all: Closing,
}

#[derive(Debug, Deserialize)]
pub(super) struct Closing {
    pub(super) on: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Classes {
    #[serde(rename = "4xx")]
    pub(super) client_error: f64,
    #[serde(rename = "5xx")]
    pub(super) server_error: f64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Total {
    pub(super) connections: usize,
    #[serde(flatten)]
    pub(super) figures: Figures,
}

#[derive(Debug, Deserialize)]
pub(super) struct Figures {
    pub(super) requests_per_s: f64,
    pub(super) classes: Classes,
    pub(super) in_flight: u64,
    pub(super) p50_ms: Option<f64>,
    pub(super) p95_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    pub(super) sent_bytes_per_s: f64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Route {
    pub(super) name: String,
    pub(super) target: String,
    pub(super) closed: bool,
    #[serde(flatten)]
    pub(super) figures: Figures,
}

#[derive(Debug, Deserialize)]
pub(super) struct Upstream {
    pub(super) name: String,
    pub(super) endpoints: Vec<Endpoint>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Endpoint {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) status: String,
    pub(super) weight: u16,
    pub(super) active: u32,
    pub(super) requests_per_s: f64,
    pub(super) failures_per_s: f64,
    pub(super) p50_ms: Option<f64>,
    pub(super) p95_ms: Option<f64>,
    pub(super) check: Option<Check>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Check {
    pub(super) reason: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Failed {
    pub(super) at_ms: u64,
    pub(super) request_id: String,
    pub(super) route: String,
    pub(super) upstream: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) status: Option<u16>,
    pub(super) reason: String,
}

impl Endpoint {
    /// Whether new requests are sent there.
    pub(super) fn serves(&self) -> bool {
        matches!(&*self.status, "up" | "slow_start" | "unchecked")
    }

    /// Why not, as far as it is known.
    pub(super) fn why(&self) -> &str {
        let reason = self
            .check
            .as_ref()
            .and_then(|check| check.reason.as_deref());
        reason.unwrap_or_default()
    }
}
