//! A token as it is written: a header, claims and a signature (RFC 7515, section 3.1).

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::refusal::Refusal;
use crate::json;

/// A token whose header is read. Nothing in it is to be believed before a key has verified it.
///
/// Of the header only `alg` and `kid` are used: an attacker writes the header, so keys that it
/// carries or points to (`jwk`, `jku`, `x5c`, `x5u`) mean nothing, and `typ` and `cty` decide
/// nothing.
pub(crate) struct Token<'a> {
    pub(crate) algorithm: Algorithm,
    pub(crate) key_id: Option<String>,
    /// What was signed.
    pub(crate) message: &'a str,
    pub(crate) signature: &'a str,
    payload: &'a str,
}

impl<'a> Token<'a> {
    /// Reads the header, if it names one of these algorithms.
    pub(crate) fn read(text: &'a str, algorithms: &[Algorithm]) -> Result<Self, Refusal> {
        let (message, signature) = text.rsplit_once('.').ok_or_else(misshapen)?;
        let (header, payload) = message.split_once('.').ok_or_else(misshapen)?;
        if payload.contains('.') {
            return Err(misshapen());
        }
        let header = object(header, "header")?;
        // What must be understood is not (RFC 7515, 4.1.11).
        if header.contains_key("crit") {
            return Err(Refusal::invalid("the header has critical parameters"));
        }
        Ok(Self {
            algorithm: algorithm(&header, algorithms)?,
            key_id: key_id(&header)?,
            message,
            signature,
            payload,
        })
    }

    /// The claims. To be read after the signature was verified.
    pub(crate) fn claims(&self) -> Result<Map<String, Value>, Refusal> {
        object(self.payload, "payload")
    }
}

fn misshapen() -> Refusal {
    Refusal::invalid("a token has three parts")
}

fn object(part: &str, name: &str) -> Result<Map<String, Value>, Refusal> {
    let text = BASE64_URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|error| Refusal::invalid(format!("the {name} is not base64url: {error}")))?;
    json::object(&text)
        .map_err(|error| Refusal::invalid(format!("the {name} is not a proper object: {error}")))
}

fn algorithm(header: &Map<String, Value>, algorithms: &[Algorithm]) -> Result<Algorithm, Refusal> {
    let named = header.get("alg").and_then(Value::as_str);
    let known = named.and_then(|name| name.parse().ok());
    known
        .filter(|algorithm| algorithms.contains(algorithm))
        .ok_or_else(|| Refusal::invalid("the algorithm is not among `algorithms`"))
}

fn key_id(header: &Map<String, Value>) -> Result<Option<String>, Refusal> {
    match header.get("kid") {
        None => Ok(None),
        Some(Value::String(id)) => Ok(Some(id.clone())),
        Some(_) => Err(Refusal::invalid("the key id is not text")),
    }
}
