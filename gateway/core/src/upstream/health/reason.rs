//! Why a check has failed, in words for an operator.

use std::borrow::Cow;

use pingora::{BError, Error, ErrorType, ImmutStr};

/// The type of the errors whose context is the whole reason.
const REASON: ErrorType = ErrorType::new("HealthCheck");

/// The longest reason: an endpoint may have written a part of it.
const LONGEST: usize = 200;

/// A check that failed for this reason.
pub(super) fn because(reason: impl Into<Cow<'static, str>>) -> BError {
    let reason = match reason.into() {
        Cow::Borrowed(text) => ImmutStr::from(text),
        Cow::Owned(text) => ImmutStr::from(text),
    };
    Error::explain(REASON, reason)
}

/// Why a check has failed: one short line, whatever the endpoint has sent.
pub(super) fn of(error: &Error) -> String {
    let text = match error.etype() {
        etype if *etype == REASON => detail(error),
        ErrorType::ConnectRefused => "connection refused".to_owned(),
        ErrorType::ConnectNoRoute => "no route to the endpoint".to_owned(),
        ErrorType::InvalidCert
        | ErrorType::TLSHandshakeFailure
        | ErrorType::TLSWantX509Lookup
        | ErrorType::HandshakeError => format!("the TLS handshake failed: {}", detail(error)),
        ErrorType::ConnectionClosed => {
            "closed the connection before its answer was complete".to_owned()
        }
        ErrorType::H2Error | ErrorType::InvalidH2 | ErrorType::H2Downgrade => {
            format!("no valid HTTP/2: {}", detail(error))
        }
        ErrorType::InvalidHTTPHeader | ErrorType::H1Error => {
            format!("no valid HTTP: {}", detail(error))
        }
        ErrorType::ReadError => format!("reading failed: {}", detail(error)),
        ErrorType::WriteError => format!("writing failed: {}", detail(error)),
        ErrorType::ConnectError | ErrorType::SocketError | ErrorType::BindError => {
            format!("connecting failed: {}", detail(error))
        }
        other => format!("{}: {}", other.as_str(), detail(error)),
    };
    one_line(&text)
}

/// What the innermost error says.
fn detail(error: &Error) -> String {
    let Some(cause) = &error.cause else {
        return context(error).to_owned();
    };
    if let Some(inner) = cause.downcast_ref::<BError>() {
        return detail(inner);
    }
    let mut text = cause.to_string();
    let mut deeper = cause.source();
    while let Some(error) = deeper {
        text = error.to_string();
        deeper = error.source();
    }
    // Pingora adds our own address as a cause where there is no other.
    if text.starts_with("local address ") {
        return context(error).to_owned();
    }
    text
}

/// What Pingora says beside the cause, without the steps of a handshake.
fn context(error: &Error) -> &str {
    let context = error.context.as_ref().map(ImmutStr::as_str);
    let text = context.unwrap_or_else(|| error.reason_str());
    ["tls connect error: ", "tls connect error cause: "]
        .iter()
        .find_map(|step| text.rsplit_once(step))
        .map_or(text, |(_, cause)| cause)
}

fn one_line(text: &str) -> String {
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_short_line() {
        let long = "x\r\n".repeat(1_000);
        let said = of(&because(long));
        assert_eq!(said.chars().count(), LONGEST);
        assert!(!said.contains(['\r', '\n']), "{said:?}");
    }

    #[test]
    fn the_innermost_cause_is_told() {
        let io = std::io::Error::from_raw_os_error(104);
        let inner = Error::because(ErrorType::ReadError, "while reading", io);
        let outer = inner.more_context("while checking");
        assert_eq!(
            of(&outer),
            "reading failed: Connection reset by peer (os error 104)"
        );
    }

    #[test]
    fn an_error_without_a_cause_tells_its_context_or_else_its_name() {
        let explained = Error::explain(ErrorType::H1Error, "no colon in a header");
        assert_eq!(of(&explained), "no valid HTTP: no colon in a header");
        assert_eq!(
            of(&Error::new(ErrorType::AcceptError)),
            "AcceptError: AcceptError"
        );
    }
}
