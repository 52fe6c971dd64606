//! What the client and the operator are told when a login does not succeed.

use edgeway_sdk::Reply;
use http::{HeaderValue, header};

use super::provider::Denied;

/// Why there is no session.
#[derive(Debug)]
pub(super) enum Failure {
    /// The browser comes back from a login that was not begun in it, or is over.
    State,
    /// It comes back from another provider.
    Issuer,
    /// It brings no code, nor an error.
    NoCode,
    /// The provider has refused, with this error.
    Refused(String),
    /// The provider does not give what is due.
    Provider(Denied),
    /// It gives an ID token that is not right.
    IdToken(Denied),
    /// The session is larger than browsers keep.
    TooLarge,
}

/// The reply to it.
pub(super) fn reply(failure: Failure) -> Reply {
    match failure {
        Failure::State => Reply::new(400)
            .detail(
                "This login was not begun in this browser, has taken too long, or is over. \
                 Go to the page that you wanted to see, and try again.",
            )
            .because("no cookie belongs to the state")
            .rule("state"),
        Failure::Issuer => Reply::new(400)
            .detail(AGAIN)
            .because("the browser comes back from another issuer")
            .rule("issuer"),
        Failure::NoCode => Reply::new(400)
            .detail(AGAIN)
            .because("neither a code nor an error")
            .rule("code"),
        Failure::Refused(error) => refused(&error),
        Failure::Provider(Denied::Invalid(reason)) => {
            Reply::new(400).detail(AGAIN).because(reason).rule("code")
        }
        Failure::IdToken(Denied::Invalid(reason)) => Reply::new(403)
            .detail(AGAIN)
            .because(reason)
            .rule("id_token"),
        Failure::Provider(Denied::Unavailable(reason))
        | Failure::IdToken(Denied::Unavailable(reason)) => unavailable(reason),
        Failure::TooLarge => Reply::new(502)
            .detail("The login could not be completed.")
            .because("the session is larger than browsers keep; ask for fewer scopes or tokens")
            .rule("size"),
    }
}

/// The provider can't be asked, for now.
pub(super) fn unavailable(reason: String) -> Reply {
    Reply::new(503)
        .header(header::RETRY_AFTER, HeaderValue::from_static("5"))
        .detail("Logging in is not possible for now. Try again in a moment.")
        .because(reason)
        .rule("unavailable")
}

/// What the provider says in the browser's name (RFC 6749, 4.1.2.1). Anybody can write it.
fn refused(error: &str) -> Reply {
    let shown: String = error.chars().take(64).collect();
    let reason = format!("the issuer says `{}`", shown.escape_debug());
    match error {
        "temporarily_unavailable" | "server_error" => unavailable(reason),
        "access_denied" | "login_required" | "interaction_required" | "consent_required" => {
            Reply::new(403)
                .detail("The login was refused.")
                .because(reason)
                .rule("denied")
        }
        _ => Reply::new(502)
            .detail("The login could not be completed.")
            .because(reason)
            .rule("provider"),
    }
}

const AGAIN: &str = "The login could not be completed. \
                     Go to the page that you wanted to see, and try again.";
