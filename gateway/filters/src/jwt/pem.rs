//! Public keys in PEM files.

use base64::{Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, Jwk},
};

use super::keys::Key;

/// The names of the curves as certificates and keys write them (RFC 5480, 2.1.1.1).
const P256: &[u8] = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
const P384: &[u8] = b"\x06\x05\x2b\x81\x04\x00\x22";

/// The public key that this text holds, alone or in a certificate. The error says what it holds
/// instead.
pub(super) fn key(text: &str) -> Result<Key, String> {
    match text.matches("-----BEGIN ").count() {
        0 => return Err("no PEM".to_owned()),
        1 => {}
        // In a chain of certificates the others are not keys that tokens are signed with.
        _ => return Err("more than one key".to_owned()),
    }
    if text.contains("PRIVATE KEY-----") {
        return Err("a private key, where a public one is wanted".to_owned());
    }
    let pem = text.as_bytes();
    if let Ok(key) = DecodingKey::from_ed_pem(pem) {
        return Key::ed25519(bytes(&key)?);
    }
    if let Ok(key) = DecodingKey::from_ec_pem(pem) {
        return ec(text, bytes(&key)?);
    }
    let key = DecodingKey::from_rsa_pem(pem)
        .map_err(|_| "neither a public key nor a certificate that is known here".to_owned())?;
    rsa(&key)
}

fn bytes(key: &DecodingKey) -> Result<&[u8], String> {
    key.try_get_as_bytes()
        .map_err(|_| "a key of another kind".to_owned())
}

fn ec(text: &str, point: &[u8]) -> Result<Key, String> {
    let [4, coordinates @ ..] = point else {
        return Err("a point in compressed form".to_owned());
    };
    let (x, y) = coordinates.split_at(coordinates.len() / 2);
    Key::ec(curve(text)?, x, y)
}

/// Other curves have points of the same size, so that the size does not tell.
fn curve(text: &str) -> Result<Algorithm, String> {
    let lines = text.lines().filter(|line| !line.starts_with("-----"));
    let base64: String = lines.map(str::trim).collect();
    let der = BASE64_STANDARD.decode(base64);
    let der = der.map_err(|_| "no PEM".to_owned())?;
    let names = |curve: &[u8]| der.windows(curve.len()).any(|part| part == curve);
    if names(P256) {
        return Ok(Algorithm::ES256);
    }
    if names(P384) {
        return Ok(Algorithm::ES384);
    }
    Err("a key on another curve than P-256 and P-384".to_owned())
}

fn rsa(key: &DecodingKey) -> Result<Key, String> {
    let wrong = || "an RSA key that can't be read".to_owned();
    let jwk = Jwk::from_decoding_key(key, None).map_err(|_| wrong())?;
    let AlgorithmParameters::RSA(parts) = jwk.algorithm else {
        return Err(wrong());
    };
    let number = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong());
    Key::rsa(&number(&parts.n)?, &number(&parts.e)?)
}
