//! Signs tokens and reads them back.
//!
//! With a secret, whoever checks tokens can also make them. With a key pair they only get the
//! public half, from [`Tokens::jwks`].

use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::store::User;

/// Seconds from log-in to the end of the token.
pub(crate) const LIFETIME: u64 = 60 * 60;

/// What a token says about its holder.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Claims {
    pub(crate) sub: String,
    pub(crate) username: String,
    pub(crate) role: String,
    pub(crate) iss: String,
    pub(crate) iat: u64,
    pub(crate) exp: u64,
    pub(crate) jti: String,
}

/// The file is no private key that we can sign with.
#[derive(Debug, Error)]
pub(crate) enum KeyError {
    #[error(
        "it is an EC key in the SEC1 form; `openssl pkcs8 -topk8 -nocrypt -in FILE` gives it the PKCS#8 form"
    )]
    Sec1,
    #[error(
        "expected a PEM file with a private key: EC P-256 or P-384, RSA of 2048 bits or more, or Ed25519"
    )]
    Unusable,
}

/// A key that signs, with everything that follows from it.
pub(crate) struct Key {
    algorithm: Algorithm,
    sign: EncodingKey,
    verify: DecodingKey,
    public: Option<Jwk>,
}

impl Key {
    pub(crate) fn from_secret(secret: &[u8]) -> Self {
        Self {
            algorithm: Algorithm::HS256,
            sign: EncodingKey::from_secret(secret),
            verify: DecodingKey::from_secret(secret),
            public: None,
        }
    }

    /// The kind of key decides the algorithm: there is nothing to configure, and nothing to mismatch.
    pub(crate) fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        if pem.windows(SEC1.len()).any(|text| text == SEC1) {
            return Err(KeyError::Sec1);
        }
        let candidates = [
            (EncodingKey::from_ed_pem(pem), Algorithm::EdDSA),
            (EncodingKey::from_ec_pem(pem), Algorithm::ES256),
            (EncodingKey::from_ec_pem(pem), Algorithm::ES384),
            (EncodingKey::from_rsa_pem(pem), Algorithm::RS256),
        ];
        candidates
            .into_iter()
            .find_map(|(key, algorithm)| Self::from_pair(key.ok()?, algorithm).ok())
            .ok_or(KeyError::Unusable)
    }

    /// A key of another curve, too small, or only public fails here, not at the first log-in.
    fn from_pair(sign: EncodingKey, algorithm: Algorithm) -> jsonwebtoken::errors::Result<Self> {
        let mut public = Jwk::from_encoding_key(&sign, algorithm)?;
        public.common.key_id = Some(public.thumbprint(ThumbprintHash::SHA256)?);
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        let verify = DecodingKey::from_jwk(&public)?;
        jsonwebtoken::crypto::sign(b"trial", &sign, algorithm)?;
        Ok(Self {
            algorithm,
            sign,
            verify,
            public: Some(public),
        })
    }
}

/// Issues tokens and checks them, all with one key and one issuer.
pub(crate) struct Tokens {
    key: Key,
    issuer: String,
    header: Header,
    validation: Validation,
}

impl Tokens {
    pub(crate) fn new(key: Key, issuer: String) -> Self {
        let mut header = Header::new(key.algorithm);
        header.kid = key
            .public
            .as_ref()
            .and_then(|public| public.common.key_id.clone());
        let mut validation = Validation::new(key.algorithm);
        validation.set_issuer(&[&issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        validation.validate_nbf = true;
        // We made the token, with our own clock.
        validation.leeway = 0;
        Self {
            key,
            issuer,
            header,
            validation,
        }
    }

    /// A token for the user, from `now` on for [`LIFETIME`].
    pub(crate) fn issue(&self, user: User, now: u64) -> jsonwebtoken::errors::Result<String> {
        let claims = Claims {
            sub: user.username.clone(),
            username: user.username,
            role: user.role,
            iss: self.issuer.clone(),
            iat: now,
            exp: now + LIFETIME,
            jti: format!("{:032x}", rand::random::<u128>()),
        };
        jsonwebtoken::encode(&self.header, &claims, &self.key.sign)
    }

    /// The claims of a token that we signed and that has not expired. It may still be revoked.
    pub(crate) fn read(&self, token: &str) -> Option<Claims> {
        let read = jsonwebtoken::decode::<Claims>(token, &self.key.verify, &self.validation);
        Some(read.ok()?.claims)
    }

    /// The public key, for those who check tokens; empty when the key is a secret.
    pub(crate) fn jwks(&self) -> JwkSet {
        JwkSet {
            keys: self.key.public.iter().cloned().collect(),
        }
    }
}

const SEC1: &[u8] = b"BEGIN EC PRIVATE KEY";

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: fn() -> u64 = jsonwebtoken::get_current_timestamp;

    fn tokens(secret: &[u8], issuer: &str) -> Tokens {
        Tokens::new(Key::from_secret(secret), issuer.to_owned())
    }

    fn admin() -> User {
        User {
            username: "admin".to_owned(),
            password_hash: String::new(),
            role: "admin".to_owned(),
        }
    }

    #[test]
    fn a_token_lives_one_hour_and_not_a_second_more() {
        let tokens = tokens(b"secret", "us");
        let young = tokens.issue(admin(), NOW()).unwrap();
        let old = tokens.issue(admin(), NOW() - LIFETIME - 1).unwrap();
        assert!(tokens.read(&young).is_some());
        assert!(tokens.read(&old).is_none());
    }

    #[test]
    fn a_token_of_another_issuer_or_secret_is_refused() {
        let token = tokens(b"secret", "us").issue(admin(), NOW()).unwrap();
        assert!(tokens(b"secret", "them").read(&token).is_none());
        assert!(tokens(b"other", "us").read(&token).is_none());
    }

    #[test]
    fn no_text_is_a_token_by_chance() {
        for text in [
            "",
            ".",
            "..",
            "a.b.c",
            "eyJhbGciOiJub25lIn0.e30.",
            "\u{0}",
            "é.é.é",
        ] {
            assert!(tokens(b"secret", "us").read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn two_tokens_of_one_second_can_be_told_apart() {
        let tokens = tokens(b"secret", "us");
        let now = NOW();
        assert_ne!(
            tokens.issue(admin(), now).unwrap(),
            tokens.issue(admin(), now).unwrap()
        );
    }
}
