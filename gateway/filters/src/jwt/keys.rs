//! The keys that tokens are verified with.
//!
//! A key belongs to one family of algorithms from the moment it is made, and is never tried with
//! another: that a public key is taken for a shared secret (which everybody knows, then) can't
//! happen, whatever a token's header says.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, crypto};

use super::{jwks::KeySet, refusal::Refusal, token::Token};
use crate::document::{Document, Edition};

/// A key, with all that it may verify.
pub(crate) struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    material: DecodingKey,
}

impl Key {
    /// A secret that the issuer and we share.
    pub(crate) fn secret(bytes: &[u8]) -> Self {
        let material = DecodingKey::from_secret(bytes);
        Self::new(material, AlgorithmFamily::Hmac.algorithms())
    }

    /// An RSA key of this modulus and exponent, big end first.
    pub(crate) fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, String> {
        let first = modulus.iter().position(|byte| *byte != 0);
        let modulus = first.and_then(|first| modulus.get(first..)).unwrap_or(&[]);
        let spare = modulus
            .first()
            .map_or(0, |byte| byte.leading_zeros() as usize);
        let bits = modulus.len() * 8 - spare;
        if !(2048..=8192).contains(&bits) {
            return Err(format!(
                "an RSA key of {bits} bits, where 2048 to 8192 are wanted"
            ));
        }
        let material = DecodingKey::from_rsa_raw_components(modulus, exponent);
        Ok(Self::new(material, AlgorithmFamily::Rsa.algorithms()))
    }

    /// A point on the curve of `ES256` or `ES384`.
    pub(crate) fn ec(algorithm: Algorithm, x: &[u8], y: &[u8]) -> Result<Self, String> {
        let size = match algorithm {
            Algorithm::ES256 => 32,
            Algorithm::ES384 => 48,
            _ => return Err("an elliptic curve that no algorithm uses".to_owned()),
        };
        if x.len() != size || y.len() != size {
            return Err("a point that is not on its curve".to_owned());
        }
        let material = DecodingKey::from_ec_der(&[&[4], x, y].concat());
        Ok(Self::new(material, &[algorithm]))
    }

    /// An Ed25519 key.
    pub(crate) fn ed25519(x: &[u8]) -> Result<Self, String> {
        if x.len() != 32 {
            return Err("an Ed25519 key that has not 32 bytes".to_owned());
        }
        let material = DecodingKey::from_ed_der(x);
        Ok(Self::new(material, AlgorithmFamily::Ed.algorithms()))
    }

    fn new(material: DecodingKey, algorithms: &[Algorithm]) -> Self {
        Self {
            id: None,
            algorithms: algorithms.to_vec(),
            material,
        }
    }

    /// The key with the name that tokens call it by.
    pub(crate) fn named(mut self, id: Option<String>) -> Self {
        self.id = id;
        self
    }

    /// The key, for this algorithm only.
    pub(crate) fn only(mut self, algorithm: Algorithm) -> Result<Self, String> {
        self.algorithms.retain(|known| *known == algorithm);
        if self.algorithms.is_empty() {
            return Err(format!("a key that `{algorithm:?}` can't be used with"));
        }
        Ok(self)
    }

    /// Whether one of these algorithms can use the key.
    pub(crate) fn serves(&self, algorithms: &[Algorithm]) -> bool {
        self.algorithms
            .iter()
            .any(|known| algorithms.contains(known))
    }

    /// Whether the token may be signed by this key, going by algorithm and name.
    fn fits(&self, token: &Token<'_>) -> bool {
        let name_fits = match (&self.id, &token.key_id) {
            (Some(own), Some(wanted)) => own == wanted,
            (None, _) | (_, None) => true,
        };
        name_fits && self.algorithms.contains(&token.algorithm)
    }

    fn has_signed(&self, token: &Token<'_>) -> bool {
        if !self.fits(token) {
            return false;
        }
        let message = token.message.as_bytes();
        let result = crypto::verify(token.signature, message, &self.material, token.algorithm);
        matches!(result, Ok(true))
    }
}

/// All keys of a filter: those it was configured with, and those that an issuer publishes.
pub(crate) struct Keys {
    pub(crate) own: Vec<Key>,
    pub(crate) published: Option<Published>,
}

/// The key set of an issuer, fetched in the background.
pub(crate) struct Published {
    pub(crate) set: Arc<Document<KeySet>>,
    /// How often an unknown key id may cause a fetch.
    pub(crate) refetch_interval: Duration,
    /// How long a request may wait for that.
    pub(crate) timeout: Duration,
}

/// What the keys at hand say of a token.
enum Verdict {
    Signed(u64),
    Forged,
    /// It names a key that is not at hand.
    UnknownKey,
    /// None were ever fetched.
    NoKeys,
}

impl Keys {
    /// The edition of the published keys: 0 while there are none.
    pub(crate) fn edition(&self) -> u64 {
        let published = self.published.as_ref();
        published.map_or(0, |published| published.set.number())
    }

    /// Verifies the signature, and tells the edition of the keys that it was verified with.
    ///
    /// A token with a key id that nobody knows has the key set fetched once more, for a new key may
    /// be in use since a moment; it waits for that.
    pub(crate) async fn verify(&self, token: &Token<'_>) -> Result<u64, Refusal> {
        let mut verdict = self.judge(token);
        if let (Verdict::UnknownKey, Some(published)) = (&verdict, &self.published) {
            let patience = published.timeout;
            published
                .set
                .ask(published.refetch_interval, patience)
                .await;
            verdict = self.judge(token);
        }
        match verdict {
            Verdict::Signed(edition) => Ok(edition),
            Verdict::Forged => Err(Refusal::invalid("no key verifies the signature")),
            Verdict::UnknownKey => Err(Refusal::invalid("the key id is unknown")),
            Verdict::NoKeys => Err(Refusal::Unavailable("no keys were fetched yet".into())),
        }
    }

    fn judge(&self, token: &Token<'_>) -> Verdict {
        let edition = self.published.as_ref().map(|keys| keys.set.current());
        let edition = edition.as_deref().map(Option::as_ref);
        let number = edition.flatten().map_or(0, |edition| edition.number);
        if self.own.iter().any(|key| key.has_signed(token)) {
            return Verdict::Signed(number);
        }
        match edition {
            None => Verdict::Forged,
            Some(_) if token.algorithm.family() == AlgorithmFamily::Hmac => Verdict::Forged,
            Some(None) => Verdict::NoKeys,
            Some(Some(edition)) => judge_published(edition, token),
        }
    }
}

fn judge_published(edition: &Edition<KeySet>, token: &Token<'_>) -> Verdict {
    let keys = &edition.content.keys;
    let fitting = keys.iter().filter(|key| key.fits(token));
    if fitting.take(MOST_TRIALS).any(|key| key.has_signed(token)) {
        return Verdict::Signed(edition.number);
    }
    let is_named = token.key_id.is_some();
    if is_named && !keys.iter().any(|key| key.id == token.key_id) {
        return Verdict::UnknownKey;
    }
    Verdict::Forged
}

/// Tokens without a key id are tried with so many published keys and no more, since each trial costs
/// time and the set may be large.
const MOST_TRIALS: usize = 8;
