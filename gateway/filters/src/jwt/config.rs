//! What the user writes under `jwt:`.

use std::{collections::BTreeMap, fmt, marker::PhantomData, time::Duration};

use edgeway_sdk::{BuildError, Period, Secret, Size, types::FilePath};
use jsonwebtoken::Algorithm;
use serde::{
    Deserialize, Deserializer,
    de::{self, IntoDeserializer, SeqAccess, Visitor},
};
use serde_json::Value;

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
    pub(super) issuer: Option<OneOrMany<String>>,
    pub(super) audience: Option<OneOrMany<String>>,
    #[serde(default)]
    pub(super) require: BTreeMap<String, OneOrMany<Scalar>>,
    #[serde(default = "usual_subject")]
    pub(super) subject: OneOrMany<String>,
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

fn usual_subject() -> OneOrMany<String> {
    OneOrMany(vec!["sub".to_owned(), "username".to_owned()])
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

/// One value, or a list of values: `issuer: a` and `issuer: [a, b]`.
#[derive(Debug)]
pub(crate) struct OneOrMany<T>(pub(crate) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueOrList(PhantomData))
    }
}

struct ValueOrList<T>(PhantomData<T>);

macro_rules! one {
    ($($visit:ident: $type:ty,)*) => {$(
        fn $visit<E: de::Error>(self, value: $type) -> Result<Self::Value, E> {
            Ok(OneOrMany(vec![T::deserialize(value.into_deserializer())?]))
        }
    )*};
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for ValueOrList<T> {
    type Value = OneOrMany<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or a list of values")
    }

    one! { visit_str: &str, visit_bool: bool, visit_u64: u64, visit_i64: i64, visit_f64: f64, }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(OneOrMany(values))
    }
}

/// A text, a number or a truth value, as a claim may have it.
#[derive(Debug)]
pub(super) struct Scalar(pub(super) Value);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyScalar)
    }
}

struct AnyScalar;

macro_rules! scalar {
    ($($visit:ident: $type:ty,)*) => {$(
        fn $visit<E: de::Error>(self, value: $type) -> Result<Scalar, E> {
            Ok(Scalar(value.into()))
        }
    )*};
}

impl Visitor<'_> for AnyScalar {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number or a truth value")
    }

    scalar! { visit_str: &str, visit_bool: bool, visit_u64: u64, visit_i64: i64, visit_f64: f64, }
}
