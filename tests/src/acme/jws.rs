//! Signed requests (RFC 8555, 6.2).

use aws_lc_rs::{
    digest::{SHA256, digest},
    hmac,
    signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;

/// A request as it was sent.
pub(super) struct Jws {
    signed: String,
    signature: Vec<u8>,
    pub(super) header: Value,
    /// Nothing for one that only asks.
    pub(super) payload: Option<Value>,
}

/// The public key of an account: a point of P-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Jwk {
    x: Vec<u8>,
    y: Vec<u8>,
}

pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

impl Jws {
    pub(super) fn parse(body: &Value) -> Option<Self> {
        let part = |name: &str| body.get(name)?.as_str();
        let (protected, payload) = (part("protected")?, part("payload")?);
        let json = |text: &str| serde_json::from_slice(&decode(text)?).ok();
        Some(Self {
            signed: format!("{protected}.{payload}"),
            signature: decode(part("signature")?)?,
            header: json(protected)?,
            payload: match payload {
                "" => None,
                payload => Some(json(payload)?),
            },
        })
    }

    /// A text of the header.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.header.get(name)?.as_str()
    }

    /// Whether it was signed by this key.
    pub(super) fn is_signed_by(&self, key: &Jwk) -> bool {
        let point = [&[4], &*key.x, &*key.y].concat();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        let verified = public.verify(self.signed.as_bytes(), &self.signature);
        self.text("alg") == Some("ES256") && verified.is_ok()
    }

    /// Whether it was signed with this secret.
    pub(super) fn is_signed_with(&self, secret: &[u8]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let verified = hmac::verify(&key, self.signed.as_bytes(), &self.signature);
        self.text("alg") == Some("HS256") && verified.is_ok()
    }
}

impl Jwk {
    pub(super) fn parse(json: &Value) -> Option<Self> {
        let part = |name: &str| json.get(name)?.as_str();
        let right = part("kty") == Some("EC") && part("crv") == Some("P-256");
        let (x, y) = (decode(part("x")?)?, decode(part("y")?)?);
        (right && x.len() == 32 && y.len() == 32).then_some(Self { x, y })
    }

    /// What stands for the key in answers to challenges (RFC 7638).
    pub(super) fn thumbprint(&self) -> String {
        let [x, y] = [&self.x, &self.y].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        let json = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, json.as_bytes()))
    }
}
