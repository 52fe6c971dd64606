//! Failures: of a request ([`Error`]) and of a configuration ([`BuildError`]).

use std::fmt;

use http::StatusCode;

use crate::Reply;

/// The result of a hook.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure to decide about a request. (A refusal is no failure: it is a [`Reply`]. Where only an error
/// can be returned, [`refusal`](Self::refusal) makes one of it.)
///
/// The client sees the status and nothing else; the operator finds the reason in the log.
#[derive(Debug)]
pub struct Error {
    status: StatusCode,
    reason: String,
    refusal: Option<Box<Reply>>,
}

impl Error {
    /// A failure that the client sees as `status`; a number that is no status counts as 500.
    pub fn status(status: u16) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self {
            status,
            reason: String::new(),
            refusal: None,
        }
    }

    /// A refusal, from where no reply can be returned: an edit of a body, or a response hook. The client is
    /// given the reply as far as nothing was sent before.
    pub fn refusal(reply: Reply) -> Self {
        Self {
            status: reply.status(),
            reason: reply.reason().unwrap_or_default().to_owned(),
            refusal: Some(Box::new(reply)),
        }
    }

    /// Adds the reason that the log gives.
    pub fn because(mut self, reason: impl fmt::Display) -> Self {
        self.reason = reason.to_string();
        self
    }

    /// The status that the client sees.
    pub fn code(&self) -> StatusCode {
        self.status
    }

    /// The reason, for the operator.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The reply that it was made of, or else the error as it is.
    pub(crate) fn into_refusal(mut self) -> Result<Reply, Self> {
        match self.refusal.take() {
            Some(reply) => Ok(*reply),
            None => Err(self),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reason.is_empty() {
            return write!(f, "{}", self.status);
        }
        write!(f, "{}: {}", self.status, self.reason)
    }
}

impl std::error::Error for Error {}

/// Turns any failure into an [`Error`] with a status.
pub trait OrStatus<T> {
    /// The value, or an [`Error`] with `status` whose reason is the failure's own text.
    fn or_status(self, status: u16) -> Result<T>;
}

impl<T, E: fmt::Display> OrStatus<T> for Result<T, E> {
    fn or_status(self, status: u16) -> Result<T> {
        self.map_err(|error| Error::status(status).because(error))
    }
}

impl<T> OrStatus<T> for Option<T> {
    fn or_status(self, status: u16) -> Result<T> {
        self.ok_or_else(|| Error::status(status))
    }
}

/// A filter that can't be built from its configuration.
///
/// The message is shown with the place of the filter in the file, or of one of its keys, so it need
/// not repeat them. Write it in lower case, in one sentence, with names in backquotes.
#[derive(Debug)]
pub struct BuildError {
    /// What is wrong.
    pub message: String,
    /// The key of the filter's configuration that is wrong, dotted for a nested one.
    pub key: Option<String>,
    /// What to do about it.
    pub help: Option<String>,
}

impl BuildError {
    /// An error about the filter as a whole.
    pub fn new(message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            key: None,
            help: None,
        }
    }

    /// An error about the value of one key, for example `secret` or `keys.file` or `tokens.0`.
    pub fn at(key: impl Into<String>, message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            key: Some(key.into()),
            help: None,
        }
    }

    /// Adds what to do about it.
    pub fn help(mut self, help: impl fmt::Display) -> Self {
        self.help = Some(help.to_string());
        self
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for BuildError {}
