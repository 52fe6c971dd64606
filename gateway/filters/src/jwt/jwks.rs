//! Key sets as issuers publish them (RFC 7517).

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::Value;

use super::keys::Key;
use crate::document::Publication;

/// The keys of a set that tokens may be verified with.
pub(crate) struct KeySet {
    pub(crate) keys: Vec<Key>,
    skipped: Vec<String>,
}

impl KeySet {
    /// Reads a key set. Keys that are of no use are left out: issuers publish new kinds of keys
    /// beside the known ones.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Written {
            keys: Vec<Value>,
        }

        let written: Written = serde_json::from_slice(text)
            .map_err(|error| format!("this is not a key set: {error}"))?;
        let mut set = Self {
            keys: Vec::new(),
            skipped: Vec::new(),
        };
        for (index, value) in written.keys.into_iter().enumerate() {
            match key(value) {
                Ok(key) => set.keys.push(key),
                Err(what) => set.skipped.push(format!("key {} is {what}", index + 1)),
            }
        }
        Ok(set)
    }

    /// Which keys were left out and why, if any were.
    pub(crate) fn skipped_text(&self) -> Option<String> {
        (!self.skipped.is_empty()).then(|| self.skipped.join("; "))
    }
}

impl Publication for KeySet {
    const NAME: &'static str = "the key set";
    const LARGEST: usize = 1 << 20;

    fn read(text: &[u8]) -> Result<Self, String> {
        let set = Self::parse(text)?;
        if let Some(skipped) = set.skipped_text() {
            log::warn!("some keys of a key set are left out: {skipped}");
        }
        Ok(set)
    }
}

/// A key as it is written. Members that have nothing to do with verifying are not looked at.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

fn key(value: Value) -> Result<Key, String> {
    // The error could quote a secret.
    let jwk: Jwk = serde_json::from_value(value).map_err(|_| "no proper key".to_owned())?;
    if jwk
        .purpose
        .as_deref()
        .is_some_and(|purpose| purpose != "sig")
    {
        return Err("not for signatures".to_owned());
    }
    let operations = jwk.key_ops.as_ref();
    if operations.is_some_and(|operations| !operations.iter().any(|name| name == "verify")) {
        return Err("not for verifying".to_owned());
    }
    let key = jwk.material()?;
    let key = match &jwk.alg {
        None => key,
        Some(name) => key.only(algorithm(name)?)?,
    };
    Ok(key.named(jwk.kid))
}

impl Jwk {
    fn material(&self) -> Result<Key, String> {
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Key::rsa(&number(&self.n)?, &number(&self.e)?),
            ("EC", Some("P-256")) => self.point(Algorithm::ES256),
            ("EC", Some("P-384")) => self.point(Algorithm::ES384),
            ("OKP", Some("Ed25519")) => Key::ed25519(&number(&self.x)?),
            ("oct", _) => Err("a shared secret, which belongs into `secret`".to_owned()),
            _ => Err("of an unknown kind".to_owned()),
        }
    }

    fn point(&self, algorithm: Algorithm) -> Result<Key, String> {
        Key::ec(algorithm, &number(&self.x)?, &number(&self.y)?)
    }
}

fn number(text: &Option<String>) -> Result<Vec<u8>, String> {
    let text = text.as_deref().ok_or_else(|| "incomplete".to_owned())?;
    BASE64_URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|_| "not base64url".to_owned())
}

/// `Ed25519` is what RFC 9864 calls the one curve of `EdDSA` that is in use.
fn algorithm(name: &str) -> Result<Algorithm, String> {
    let name = if name == "Ed25519" { "EdDSA" } else { name };
    name.parse()
        .map_err(|_| "for an algorithm that is unknown".to_owned())
}
