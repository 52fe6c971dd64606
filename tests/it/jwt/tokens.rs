//! Makes tokens, good ones and bad ones.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, crypto, jwk::Jwk};
use serde_json::{Value, json};

/// 64 bytes: long enough for every algorithm.
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A file of the keys that the filter's own tests use.
macro_rules! key {
    ($name:literal) => {
        include_str!(concat!("../../../gateway/filters/src/jwt/testdata/", $name))
    };
}

pub(crate) const RSA: &str = key!("rsa.pem");
pub(crate) const RSA_PUBLIC: &str = key!("rsa.pub.pem");
pub(crate) const RSA_OTHER: &str = key!("rsa-other.pem");
pub(crate) const P256: &str = key!("p256.pem");
pub(crate) const P256_PUBLIC: &str = key!("p256.pub.pem");
pub(crate) const P384: &str = key!("p384.pem");
pub(crate) const ED25519: &str = key!("ed25519.pem");
pub(crate) const ED25519_PUBLIC: &str = key!("ed25519.pub.pem");

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}

/// A token with these claims, valid for ten minutes unless they say otherwise.
pub(crate) fn token(claims: Value) -> String {
    signed(&json!({ "alg": "HS256", "typ": "JWT" }), claims)
}

/// As [`token`], under another header. What the header says has no influence on the signature.
pub(crate) fn signed(header: &Value, claims: Value) -> String {
    let payload = lasting(claims).to_string();
    raw(&header.to_string(), payload, Algorithm::HS256, SECRET)
}

/// A token of this key, which is named if there is a name.
pub(crate) fn by_key(algorithm: Algorithm, pem: &str, id: Option<&str>, claims: Value) -> String {
    let mut header = json!({ "alg": algorithm });
    if let Some(id) = id {
        header["kid"] = id.into();
    }
    raw(
        &header.to_string(),
        lasting(claims).to_string(),
        algorithm,
        pem,
    )
}

/// A token of this header and this payload, whatever they are.
pub(crate) fn raw(
    header: &str,
    payload: impl AsRef<[u8]>,
    algorithm: Algorithm,
    key: &str,
) -> String {
    let message = format!("{}.{}", base64(header), base64(payload));
    let signature = crypto::sign(message.as_bytes(), &signing_key(algorithm, key), algorithm);
    format!("{message}.{}", signature.unwrap())
}

/// The claims, with an end of validity.
pub(crate) fn lasting(mut claims: Value) -> Value {
    let object = claims.as_object_mut().unwrap();
    object.entry("exp").or_insert_with(|| (now() + 600).into());
    claims
}

/// A key set of these keys and their names.
pub(crate) fn key_set(keys: &[(Algorithm, &str, &str)]) -> String {
    let keys = keys.iter().map(|(algorithm, pem, id)| {
        let mut key = Jwk::from_encoding_key(&signing_key(*algorithm, pem), *algorithm).unwrap();
        key.common.key_id = Some((*id).to_owned());
        key
    });
    json!({ "keys": keys.collect::<Vec<_>>() }).to_string()
}

pub(crate) fn base64(text: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(text)
}

fn signing_key(algorithm: Algorithm, key: &str) -> EncodingKey {
    let key = key.as_bytes();
    match algorithm.family() {
        AlgorithmFamily::Hmac => Ok(EncodingKey::from_secret(key)),
        AlgorithmFamily::Rsa => EncodingKey::from_rsa_pem(key),
        AlgorithmFamily::Ec => EncodingKey::from_ec_pem(key),
        AlgorithmFamily::Ed => EncodingKey::from_ed_pem(key),
    }
    .unwrap()
}
