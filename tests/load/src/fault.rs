//! Why a run ends early. What ended it decides the exit code.

use std::error::Error;
use std::process::ExitCode;

pub(crate) type Result<T> = std::result::Result<T, Fault>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// A contestant said something it should not have said: its figures are worth nothing.
    #[error("wrong answer from {0}")]
    Answer(String),
    /// A tool is missing, a contestant does not start, a file cannot be written.
    #[error("{0}")]
    Setup(String),
    #[error("interrupted")]
    Interrupted,
}

impl Fault {
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Answer(_) => ExitCode::from(1),
            Self::Setup(_) => ExitCode::from(2),
            Self::Interrupted => ExitCode::from(130),
        }
    }
}

/// Says what was being done when something outside this program went wrong.
pub(crate) trait Trouble<T> {
    fn trouble(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Error> Trouble<T> for std::result::Result<T, E> {
    fn trouble(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Fault::Setup(format!("{}: {error}", doing())))
    }
}
