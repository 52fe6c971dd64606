//! What the user writes under `jwt:`.

use std::{collections::BTreeMap, time::Duration};

use edgeway_sdk::{BuildError, Period, Secret, Size, types::FilePath};
use jsonwebtoken::Algorithm;
use serde::Deserialize;

use crate::written::{Scalar, Several};

/// All of `jwt:`; [`DOC`](super::DOC) says what each key means.
#[derive(Deserialize)]
pub(crate) struct Config {
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) secret: Option<Secret>,
    pub(super) secret_base64: Option<Secret>,
    #[serde(default)]
    pub(super) public_keys: Vec<FilePath>,
    pub(super) jwks_file: Option<FilePath>,
    pub(super) jwks: Option<Jwks>,
    pub(super) oidc: Option<Oidc>,
    #[serde(default = "Place::usual")]
    pub(super) from: Vec<Place>,
    #[serde(default)]
    pub(super) strip_token: bool,
    #[serde(default)]
    pub(super) optional: bool,
    #[serde(default = "yes")]
    pub(super) require_exp: bool,
    #[serde(default = "no_leeway")]
    pub(super) leeway: Period,
    pub(super) issuer: Option<Several<String>>,
    pub(super) audience: Option<Several<String>>,
    #[serde(default)]
    pub(super) require: BTreeMap<String, Several<Scalar>>,
    #[serde(default = "usual_subject")]
    pub(super) subject: Several<String>,
    #[serde(default)]
    pub(super) forward: BTreeMap<String, String>,
    pub(super) revocations: Option<Revocations>,
    #[serde(default = "usual_memory")]
    pub(super) remember: usize,
    #[serde(default = "usual_size")]
    pub(super) max_size: Size,
    #[serde(default = "usual_realm")]
    pub(super) realm: String,
}

fn yes() -> bool {
    true
}

fn no_leeway() -> Period {
    Period(Duration::ZERO)
}

fn usual_subject() -> Several<String> {
    Several(vec!["sub".to_owned(), "username".to_owned()])
}

fn usual_memory() -> usize {
    4096
}

fn usual_size() -> Size {
    Size(8 << 10)
}

fn usual_realm() -> String {
    "edgeway".to_owned()
}

/// Where a token may stand in a request.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Place {
    /// `Authorization: Bearer`.
    Header,
    /// A cookie of this name.
    Cookie(String),
    /// A value of this name in the query.
    Query(String),
}

impl Place {
    fn usual() -> Vec<Self> {
        vec![Self::Header]
    }
}

/// A key set at a URL.
#[derive(Deserialize)]
pub(super) struct Jwks {
    pub(super) url: String,
    #[serde(default = "key_interval")]
    pub(super) interval: Period,
    #[serde(default = "fetch_timeout")]
    pub(super) timeout: Period,
    #[serde(default = "refetch_interval")]
    pub(super) refetch_interval: Period,
}

/// An issuer that tells where its key set is.
#[derive(Deserialize)]
pub(super) struct Oidc {
    pub(super) issuer: String,
    #[serde(default = "key_interval")]
    pub(super) interval: Period,
    #[serde(default = "fetch_timeout")]
    pub(super) timeout: Period,
    #[serde(default = "refetch_interval")]
    pub(super) refetch_interval: Period,
}

fn key_interval() -> Period {
    Period(Duration::from_secs(300))
}

fn fetch_timeout() -> Period {
    Period(Duration::from_secs(5))
}

fn refetch_interval() -> Period {
    Period(Duration::from_secs(30))
}

/// A list of revoked tokens at a URL.
#[derive(Deserialize)]
pub(super) struct Revocations {
    pub(super) url: String,
    #[serde(default = "fetch_timeout")]
    pub(super) interval: Period,
    #[serde(default = "fetch_timeout")]
    pub(super) timeout: Period,
    #[serde(default)]
    pub(super) on_unavailable: OnUnavailable,
}

/// What becomes of valid tokens while no list of revoked ones has ever been fetched.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnUnavailable {
    /// 503.
    #[default]
    Refuse,
    /// They pass, revoked or not.
    Allow,
}

/// A period that something can be repeated in, or waited for.
pub(crate) fn lasting(key: &str, period: Period) -> Result<Duration, BuildError> {
    if period.0.is_zero() {
        return Err(BuildError::at(key, "expected a period longer than nothing"));
    }
    Ok(period.0)
}
