//! What the client and the operator are told about a request that does not pass.

use std::borrow::Cow;

use edgeway_sdk::{BuildError, Reply};
use http::{
    HeaderValue,
    header::{RETRY_AFTER, WWW_AUTHENTICATE},
};

/// Why a request does not pass. The texts are for the operator: they name claims of the token, never
/// the token nor a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no token: 401.
    Missing,
    /// There are several tokens where one may be: 400.
    Ambiguous,
    /// The token is not one of ours: 401.
    Invalid(Cow<'static, str>),
    /// The token was one of ours: 401, and a client that can refresh it should.
    Expired,
    /// The token is valid, but not for this: 403.
    Insufficient(String),
    /// We can't tell, for now: 503.
    Unavailable(Cow<'static, str>),
}

impl Refusal {
    /// A token that is not one of ours.
    pub(crate) fn invalid(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid(reason.into())
    }
}

/// Makes replies as RFC 6750, section 3, wants them. All that could help to forge a token is left
/// out of them: only the holder of an authentic token learns that it has expired.
pub(crate) struct Challenge {
    missing: HeaderValue,
    ambiguous: HeaderValue,
    invalid: HeaderValue,
    expired: HeaderValue,
    insufficient: HeaderValue,
}

impl Challenge {
    /// Challenges for this realm.
    pub(crate) fn new(realm: &str) -> Result<Self, BuildError> {
        let quotable = |c: char| matches!(c, ' '..='~') && c != '"' && c != '\\';
        if !realm.chars().all(quotable) {
            let message = "expected printable ASCII characters other than `\"` and `\\`";
            return Err(BuildError::at("realm", message));
        }
        let header = |rest: &str| {
            HeaderValue::try_from(format!("Bearer realm=\"{realm}\"{rest}"))
                .map_err(|error| BuildError::at("realm", error))
        };
        let error = |code: &str, text: &str| {
            header(&format!(", error=\"{code}\", error_description=\"{text}\""))
        };
        Ok(Self {
            missing: header("")?,
            ambiguous: error("invalid_request", "more than one token was sent")?,
            invalid: error("invalid_token", "the token is not valid")?,
            expired: error("invalid_token", "the token has expired")?,
            insufficient: error("insufficient_scope", "the token does not allow this")?,
        })
    }

    /// The reply to a request that does not pass.
    pub(crate) fn reply(&self, refusal: Refusal) -> Reply {
        let challenge = |status, header: &HeaderValue| {
            Reply::new(status).header(WWW_AUTHENTICATE, header.clone())
        };
        match refusal {
            Refusal::Missing => challenge(401, &self.missing)
                .because("no token")
                .rule("missing"),
            Refusal::Ambiguous => challenge(400, &self.ambiguous)
                .because("several headers with a token")
                .rule("ambiguous"),
            Refusal::Invalid(reason) => challenge(401, &self.invalid)
                .because(reason)
                .rule("invalid"),
            Refusal::Expired => challenge(401, &self.expired)
                .because("the token has expired")
                .rule("expired"),
            Refusal::Insufficient(reason) => challenge(403, &self.insufficient)
                .because(reason)
                .rule("insufficient"),
            Refusal::Unavailable(reason) => Reply::new(503)
                .header(RETRY_AFTER, HeaderValue::from_static("5"))
                .because(reason)
                .rule("unavailable"),
        }
    }
}
