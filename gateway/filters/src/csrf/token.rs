//! Tokens that nobody else can make, bound to who is logged in.

use std::fmt;

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use edgeway_sdk::prelude::*;

/// A token, as it stands in a cookie: a random value and its signature.
#[derive(Clone)]
pub(super) struct Token(String);

impl Token {
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    pub(super) fn header_value(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("a token is letters, digits, `-`, `_` and a dot")
    }

    /// Whether these bytes are the token. Takes as long whichever of them differ.
    pub(super) fn is(&self, brought: &[u8]) -> bool {
        verify_slices_are_equal(self.0.as_bytes(), brought).is_ok()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Makes tokens and knows them again.
pub(super) struct Signer(hmac::Key);

impl Signer {
    pub(super) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// A new token for the visitor who is called this; nobody is called nothing.
    pub(super) fn make(&self, subject: &str) -> Token {
        let value = BASE64.encode(rand::random::<[u8; 16]>());
        let signature = hmac::sign(&self.0, &signed(&value, subject));
        Token(format!("{value}.{}", BASE64.encode(signature)))
    }

    /// The token that this text is, if it was made here for this visitor.
    pub(super) fn verify(&self, text: &str, subject: &str) -> Option<Token> {
        let (value, signature) = text.split_once('.')?;
        let signature = BASE64.decode(signature).ok()?;
        hmac::verify(&self.0, &signed(value, subject), &signature).ok()?;
        Some(Token(text.to_owned()))
    }
}

/// What a signature is about. A value has no zero in it, so no two pairs are the same text.
fn signed(value: &str, subject: &str) -> Vec<u8> {
    [
        b"edgeway csrf\0",
        value.as_bytes(),
        b"\0",
        subject.as_bytes(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_again_for_its_visitor_and_by_its_secret_alone() {
        let signer = Signer::new(&[1; 32]);
        let token = signer.make("ann");
        let text = token.text();
        assert!(signer.verify(text, "ann").unwrap().is(text.as_bytes()));
        for other in ["", "bob", "ann\0", "\0ann"] {
            assert!(signer.verify(text, other).is_none(), "{other}");
        }
        assert!(Signer::new(&[2; 32]).verify(text, "ann").is_none());
        assert_ne!(text, signer.make("ann").text());
        assert_eq!(format!("{token:?}"), "***");
    }

    #[test]
    fn what_was_changed_is_no_token() {
        let signer = Signer::new(&[1; 32]);
        let text = signer.make("").text().to_owned();
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(signer.verify(&changed, "").is_none(), "{changed}");
        }
        let (value, signature) = text.split_once('.').unwrap();
        for changed in [
            "",
            ".",
            value,
            signature,
            &format!("{value}."),
            &format!("{text}."),
        ] {
            assert!(signer.verify(changed, "").is_none(), "{changed}");
        }
        let token = signer.make("");
        for brought in [
            "",
            &text,
            &format!("{} ", token.text()),
            token.text().trim_end_matches(char::is_alphanumeric),
        ] {
            assert!(!token.is(brought.as_bytes()));
        }
    }
}
