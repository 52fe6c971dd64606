//! ID tokens: who has logged in, said and signed by the issuer (OpenID Connect Core, 3.1.3.7).

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::provider::Denied;
use crate::{
    json,
    jwt::{
        claims::{Claims, Rules},
        keys::Keys,
        refusal::Refusal,
        token::Token,
    },
};

/// What ID tokens are verified by.
pub(super) struct IdTokens {
    pub(super) keys: Keys,
    pub(super) algorithms: Vec<Algorithm>,
    /// Issuer, audience and times.
    pub(super) rules: Rules,
    pub(super) client_id: String,
}

impl IdTokens {
    /// The claims of a token that is all right.
    pub(super) async fn verify(&self, text: &str, now: u64) -> Result<Claims, Denied> {
        let claims = self.claims(text, now).await;
        claims.map_err(|refusal| match refusal {
            Refusal::Unavailable(reason) => Denied::Unavailable(reason.into_owned()),
            Refusal::Invalid(reason) => Denied::Invalid(format!("the ID token: {reason}")),
            Refusal::Expired => Denied::Invalid("the ID token has expired".to_owned()),
            Refusal::Missing | Refusal::Ambiguous | Refusal::Insufficient(_) => {
                Denied::Invalid("the ID token is not as required".to_owned())
            }
        })
    }

    async fn claims(&self, text: &str, now: u64) -> Result<Claims, Refusal> {
        let token = Token::read(text, &self.algorithms)?;
        self.keys.verify(&token).await?;
        let claims = token.claims()?;
        self.rules.check(&claims, now as f64)?;
        self.check_party(&claims)?;
        match claims.get("sub") {
            Some(Value::String(subject)) if !subject.is_empty() => Ok(claims),
            _ => Err(Refusal::invalid("no `sub`")),
        }
    }

    /// Whether the token was made for us, and not for another who is among its audience.
    fn check_party(&self, claims: &Claims) -> Result<(), Refusal> {
        let several = matches!(claims.get("aud"), Some(Value::Array(list)) if list.len() > 1);
        match claims.get("azp") {
            Some(party) if *party != *self.client_id => {
                Err(Refusal::invalid("the token was made for another client"))
            }
            None if several => Err(Refusal::invalid("several audiences, but no `azp`")),
            Some(_) | None => Ok(()),
        }
    }

    /// The name of the user.
    pub(super) fn subject(&self, claims: &Claims) -> String {
        self.rules.subject(claims)
    }
}

/// The claims of a token that was verified before.
pub(super) fn claims(text: &str) -> Option<Map<String, Value>> {
    let payload = text.split('.').nth(1)?;
    let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?;
    json::object(&payload).ok()
}
