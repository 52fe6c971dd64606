//! Why there is no certificate this time.

use std::{fmt, io, time::Duration};

use instant_acme::{Error, Problem};

use super::{
    client::{Client, NoAnswer},
    schedule::Kind,
};

/// The longest explanation of an authority that is told.
const LONGEST: usize = 1_000;

/// For the operator, and for who decides when to try again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    reason: String,
    /// How long the authority wants to be left alone.
    pub(super) retry_after: Option<Duration>,
    /// The authority does not know our account any more.
    pub(super) account_is_gone: bool,
}

impl Failure {
    /// Something is not as it should be on our side, or in the answers of the authority.
    pub(super) fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            reason: printable(&reason.into()),
            retry_after: None,
            account_is_gone: false,
        }
    }

    /// What this client was told.
    pub(super) fn of(error: &Error, client: &Client) -> Self {
        let mut failure = match error {
            Error::Api(problem) => Self::refused(problem),
            Error::Other(error) if error.is::<NoAnswer>() => {
                Self::new(Kind::Passing, error.to_string())
            }
            error => Self::new(Kind::Refused, error.to_string()),
        };
        failure.retry_after = client.retry_after();
        failure
    }

    /// The authority says what is the matter.
    pub(super) fn refused(problem: &Problem) -> Self {
        let kind = match kind_of(problem) {
            Some("rateLimited") => Kind::TooMany,
            Some("serverInternal" | "badNonce" | "accountDoesNotExist") => Kind::Passing,
            _ => Kind::Refused,
        };
        let mut failure = Self::new(kind, describe(problem));
        failure.account_is_gone = kind_of(problem) == Some("accountDoesNotExist");
        failure
    }

    /// The disk is not as it should be.
    pub(super) fn disk(what: &str, path: &std::path::Path, error: &io::Error) -> Self {
        let path = path.display();
        Self::new(Kind::Refused, format!("{what} `{path}`: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// The last part of `urn:ietf:params:acme:error:rateLimited`.
fn kind_of(problem: &Problem) -> Option<&str> {
    problem.r#type.as_deref()?.rsplit(':').next()
}

/// `rateLimited: too many certificates`, and what is said of single names.
fn describe(problem: &Problem) -> String {
    let said = |kind: Option<&str>, detail: Option<&str>| match (kind, detail) {
        (Some(kind), Some(detail)) => format!("{kind}: {detail}"),
        (Some(only), None) | (None, Some(only)) => only.to_owned(),
        (None, None) => "the authority gives no reason".to_owned(),
    };
    let mut text = said(kind_of(problem), problem.detail.as_deref());
    for part in &problem.subproblems {
        text.push_str("; ");
        text.push_str(&part.to_string());
    }
    if kind_of(problem) == Some("externalAccountRequired") {
        text.push_str("; write `external_account`");
    }
    text
}

/// On one line, whatever an authority has sent.
fn printable(text: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(LONGEST).map(printable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(json: &str) -> Failure {
        Failure::refused(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn what_an_authority_says_is_told_on_one_line() {
        let said = problem(
            r#"{ "type": "urn:ietf:params:acme:error:malformed", "detail": "bad\nnames",
                 "subproblems": [{ "type": "urn:ietf:params:acme:error:caa", "detail": "not you",
                                   "identifier": { "type": "dns", "value": "a.test" } }] }"#,
        );
        let text = said.to_string();
        assert!(text.starts_with("malformed: bad names; "), "{text}");
        assert!(
            text.contains("a.test") && text.contains("not you"),
            "{text}"
        );
        assert_eq!(said.kind, Kind::Refused);
        assert_eq!(problem("{}").to_string(), "the authority gives no reason");
    }

    #[test]
    fn what_passes_by_itself_is_tried_again_sooner() {
        let kind = |kind: &str| {
            problem(&format!(
                r#"{{ "type": "urn:ietf:params:acme:error:{kind}" }}"#
            ))
            .kind
        };
        assert_eq!(kind("serverInternal"), Kind::Passing);
        assert_eq!(kind("rateLimited"), Kind::TooMany);
        assert_eq!(kind("unauthorized"), Kind::Refused);
        let gone = r#"{ "type": "urn:ietf:params:acme:error:accountDoesNotExist" }"#;
        assert!(problem(gone).account_is_gone);
        assert!(!problem("{}").account_is_gone);
    }
}
