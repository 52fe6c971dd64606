//! Encrypts what browsers keep for us, so that they can neither read nor change it.
//!
//! AES-256-GCM-SIV with random nonces: however many cookies are sealed, that a nonce comes twice gives away
//! no more than that two cookies are the same. Keys are derived from the configured secrets for one client at
//! one issuer, so that a cookie of another filter with the same secret opens nothing here.

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    error::Unspecified,
    hkdf::{HKDF_SHA256, Salt},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use edgeway_sdk::{BuildError, Secret};

/// The keys: the first one seals, all of them open.
pub(super) struct Seals(Vec<RandomizedNonceKey>);

impl Seals {
    /// Keys derived from these secrets, for whoever is told by `purpose`.
    pub(super) fn new(secrets: &[Secret], purpose: &[&str]) -> Result<Self, BuildError> {
        if secrets.is_empty() || secrets.len() > MOST {
            let message = format!("expected 1 to {MOST} secrets");
            return Err(BuildError::at("secret", message));
        }
        // Lengths first, so that no two purposes are the same bytes.
        let purpose: String = purpose
            .iter()
            .map(|part| format!("{}:{part}", part.len()))
            .collect();
        let keys: Result<_, BuildError> = secrets
            .iter()
            .map(|secret| {
                if secret.reveal().len() < SHORTEST {
                    let message = format!("a secret of less than {SHORTEST} bytes can be guessed");
                    let help = "make one with `openssl rand -base64 32`";
                    return Err(BuildError::at("secret", message).help(help));
                }
                key(secret, &purpose)
                    .map_err(|_| BuildError::at("secret", "no key can be made of the secret"))
            })
            .collect();
        Ok(Self(keys?))
    }

    /// This text sealed, in characters that may stand in a cookie. Opens only with the same `context`.
    pub(super) fn seal(&self, text: &[u8], context: &str) -> Option<String> {
        let mut sealed = text.to_vec();
        let key = self.0.first()?;
        let nonce = key.seal_in_place_append_tag(Aad::from(context), &mut sealed);
        let message = [nonce.ok()?.as_ref().as_slice(), &sealed].concat();
        Some(BASE64_URL_SAFE_NO_PAD.encode(message))
    }

    /// What was sealed; none if it was not by us, or not for this.
    pub(super) fn open(&self, sealed: &str, context: &str) -> Option<Vec<u8>> {
        let message = BASE64_URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, sealed) = message.split_at_checked(NONCE_LEN)?;
        self.0.iter().find_map(|key| {
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut text = sealed.to_vec();
            let opened = key.open_in_place(nonce, Aad::from(context), &mut text);
            let length = opened.ok()?.len();
            text.truncate(length);
            Some(text)
        })
    }
}

fn key(secret: &Secret, purpose: &str) -> Result<RandomizedNonceKey, Unspecified> {
    let salt = Salt::new(HKDF_SHA256, b"edgeway oidc cookies");
    let strong = salt.extract(secret.reveal().as_bytes());
    let mut key = [0; 32];
    strong
        .expand(&[purpose.as_bytes()], HKDF_SHA256)?
        .fill(&mut key)?;
    RandomizedNonceKey::new(&AES_256_GCM_SIV, &key)
}

/// In bytes.
const SHORTEST: usize = 32;
/// Each is tried on every cookie.
const MOST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn seals(secrets: &[&str], purpose: &str) -> Seals {
        let secrets: Vec<_> = secrets.iter().map(|text| Secret::new(*text)).collect();
        Seals::new(&secrets, &[purpose]).unwrap_or_else(|error| panic!("{error}"))
    }

    const OLD: &str = "0123456789abcdef0123456789abcdef";
    const NEW: &str = "fedcba9876543210fedcba9876543210";

    #[test]
    fn what_was_sealed_with_an_older_secret_opens_and_with_a_forgotten_one_does_not() {
        let sealed = seals(&[OLD], "a").seal(b"text", "x").unwrap();
        assert_eq!(
            seals(&[NEW, OLD], "a").open(&sealed, "x").as_deref(),
            Some(&b"text"[..])
        );
        assert_eq!(seals(&[NEW], "a").open(&sealed, "x"), None);
        let sealed = seals(&[NEW, OLD], "a").seal(b"text", "x").unwrap();
        assert!(seals(&[NEW], "a").open(&sealed, "x").is_some());
    }

    #[test]
    fn nothing_opens_that_was_changed_or_meant_for_something_else() {
        let ours = seals(&[OLD], "a");
        let sealed = ours.seal(b"text", "x").unwrap();
        assert_eq!(ours.open(&sealed, "y"), None);
        assert_eq!(seals(&[OLD], "b").open(&sealed, "x"), None);
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(ours.open(&changed, "x"), None, "{at}");
        }
        let cut = sealed.get(..sealed.len() - 2).unwrap();
        for text in ["", "A", "AAAAAAAAAAAAAAAA", "%%%", cut] {
            assert_eq!(ours.open(text, "x"), None, "{text}");
        }
    }

    #[test]
    fn the_same_text_is_sealed_otherwise_each_time() {
        let ours = seals(&[OLD], "a");
        assert_ne!(ours.seal(b"text", "x"), ours.seal(b"text", "x"));
    }

    #[test]
    fn a_short_secret_is_refused() {
        let secrets = [Secret::new("0123456789abcdef0123456789abcde")];
        assert!(Seals::new(&secrets, &["a"]).is_err());
        assert!(Seals::new(&[], &["a"]).is_err());
    }
}
