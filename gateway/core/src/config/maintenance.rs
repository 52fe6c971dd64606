//! Closing everything, or a route, for maintenance, as it is written.

use edgeway_sdk::types::FilePath;
use http::StatusCode;
use serde::{Deserialize, Deserializer, de};

use super::{At, Network, OneOrMany, condition::Paths, scalar::Span};

/// `maintenance: { on: false, allow: [10.0.0.0/8], except: [/healthz], retry_after: 10m, page: closed.html }`
#[derive(Debug, Deserialize)]
pub(crate) struct Maintenance {
    /// Whether it is closed, as long as the admin listener is told nothing else; so it is if that is not given.
    #[serde(default = "Maintenance::on")]
    pub(crate) on: bool,
    /// Clients that pass.
    #[serde(default)]
    pub(crate) allow: OneOrMany<Network>,
    /// What stays open.
    #[serde(default)]
    pub(crate) except: Paths,
    /// When clients may come again.
    pub(crate) retry_after: Option<Span>,
    #[serde(default)]
    pub(crate) status: Refused,
    /// What clients are told beside the status.
    pub(crate) detail: Option<String>,
    /// What browsers are shown.
    pub(crate) page: Option<At<FilePath>>,
}

impl Maintenance {
    fn on() -> bool {
        true
    }
}

/// The status of a refusal; 503 if not given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused(pub(crate) StatusCode);

impl Default for Refused {
    fn default() -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE)
    }
}

impl<'de> Deserialize<'de> for Refused {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u16::deserialize(deserializer)?;
        let status = StatusCode::from_u16(number).ok();
        let status = status.filter(|_| (400..=599).contains(&number));
        status.map(Self).ok_or_else(|| {
            let message = format!("expected a status from 400 to 599, found {number}");
            de::Error::custom(message)
        })
    }
}
