//! What all tests of the filter use.

use std::path::Path;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use edgeway_sdk::{
    Resources,
    test::{Outcome, Trial},
};
use jsonwebtoken::{EncodingKey, crypto};
use serde_json::json;
use tokio::task::JoinSet;

use super::*;

mod building;
mod checking;
mod hostile;
mod published;

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

const RSA: &str = include_str!("testdata/rsa.pem");
const RSA_OTHER: &str = include_str!("testdata/rsa-other.pem");
const P256: &str = include_str!("testdata/p256.pem");
const P384: &str = include_str!("testdata/p384.pem");
const ED25519: &str = include_str!("testdata/ed25519.pem");

/// A filter, what it said while it was built, and what runs beside it.
struct Built {
    filter: Jwt,
    warnings: Vec<String>,
    reserved: Vec<String>,
    _background: JoinSet<()>,
}

impl Built {
    async fn run(&self, trial: Trial) -> Outcome {
        trial.run(&self.filter).await
    }

    async fn status(&self, token: &str) -> u16 {
        let outcome = self.run(Trial::get("/").bearer(token)).await;
        outcome.status().as_u16()
    }
}

fn try_built(config: Value, resources: &Resources) -> Result<Built, BuildError> {
    let config: Config =
        serde_json::from_value(config).map_err(|error| BuildError::at("serde", error))?;
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/jwt/testdata"));
    let mut stage = Build::new(resources, folder);
    let filter = build(config, &mut stage)?;
    let mut background = JoinSet::new();
    for task in stage.background {
        background.spawn(task);
    }
    let warning = |error: BuildError| format!("{}: {error}", error.key.as_deref().unwrap_or(""));
    Ok(Built {
        filter,
        warnings: stage.warnings.into_iter().map(warning).collect(),
        reserved: stage.reserved.iter().map(ToString::to_string).collect(),
        _background: background,
    })
}

fn built(config: Value) -> Built {
    try_built(config, &Resources::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// HS256 with [`SECRET`], and these keys besides.
fn with(more: Value) -> Value {
    let mut config = json!({ "algorithms": ["HS256"], "secret": SECRET });
    let (Value::Object(all), Value::Object(more)) = (&mut config, more) else {
        unreachable!("both are objects")
    };
    all.extend(more);
    config
}

/// The filter as if it were some time before or after now.
struct At<'a>(&'a Jwt, Seconds);

#[async_trait]
impl Filter for At<'static> {
    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        Ok(self.0.decide(request, now() + self.1).await)
    }
}

fn now() -> Seconds {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs_f64()
}

fn soon() -> u64 {
    now() as u64 + 600
}

/// These claims, and an hour's validity unless they say otherwise.
fn claims(mut claims: Value) -> Value {
    let object = claims.as_object_mut().unwrap();
    object.entry("exp").or_insert_with(|| soon().into());
    claims
}

fn b64(text: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(text)
}

/// A token of this header and payload, whatever they are.
fn signed(
    header: &str,
    payload: impl AsRef<[u8]>,
    algorithm: Algorithm,
    key: &EncodingKey,
) -> String {
    let message = format!("{}.{}", b64(header), b64(payload));
    let signature = crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

fn hs256(text: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    signed(
        r#"{"alg":"HS256","typ":"JWT"}"#,
        text.to_string(),
        Algorithm::HS256,
        &key,
    )
}

fn token(more: Value) -> String {
    hs256(&claims(more))
}

fn signing_key(algorithm: Algorithm, pem: &str) -> EncodingKey {
    match algorithm.family() {
        jsonwebtoken::AlgorithmFamily::Hmac => Ok(EncodingKey::from_secret(pem.as_bytes())),
        jsonwebtoken::AlgorithmFamily::Rsa => EncodingKey::from_rsa_pem(pem.as_bytes()),
        jsonwebtoken::AlgorithmFamily::Ec => EncodingKey::from_ec_pem(pem.as_bytes()),
        jsonwebtoken::AlgorithmFamily::Ed => EncodingKey::from_ed_pem(pem.as_bytes()),
    }
    .unwrap()
}

/// A token of this key, under this name if there is one.
fn by_key(algorithm: Algorithm, pem: &str, id: Option<&str>, more: Value) -> String {
    let mut header = json!({ "alg": algorithm });
    if let Some(id) = id {
        header["kid"] = id.into();
    }
    let key = signing_key(algorithm, pem);
    signed(
        &header.to_string(),
        claims(more).to_string(),
        algorithm,
        &key,
    )
}
