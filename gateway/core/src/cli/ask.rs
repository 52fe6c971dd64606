//! What the commands have in common that ask the running gateway one thing.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use http::Method;
use serde::{Serialize, de::DeserializeOwned};

use super::remote::{Answer, Failure, Remote};

#[derive(Args)]
pub(super) struct Ask {
    #[command(flatten)]
    pub(super) remote: Remote,
    /// Write what the gateway answers, as JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Ask {
    /// Asks, and writes the answer as JSON or as `show` does.
    pub(super) fn get<T: DeserializeOwned, W: Write>(
        &self,
        path: &str,
        out: &mut W,
        show: impl FnOnce(&mut W, T) -> io::Result<()>,
    ) -> io::Result<ExitCode> {
        let answer = self.remote.client().and_then(|client| client.get(path));
        self.told(answer, out, show)
    }

    /// The same for a call that changes something; `()` is no body.
    pub(super) fn call<T: DeserializeOwned, W: Write>(
        &self,
        (method, path): (Method, &str),
        body: &impl Serialize,
        out: &mut W,
        show: impl FnOnce(&mut W, T) -> io::Result<()>,
    ) -> io::Result<ExitCode> {
        let body = match serde_json::to_string(body)? {
            nothing if nothing == "null" => String::new(),
            body => body,
        };
        let client = self.remote.client();
        let answer = client.and_then(|client| client.call(method, path, body));
        self.told(answer, out, show)
    }

    fn told<T: DeserializeOwned, W: Write>(
        &self,
        answer: Result<Answer, Failure>,
        out: &mut W,
        show: impl FnOnce(&mut W, T) -> io::Result<()>,
    ) -> io::Result<ExitCode> {
        let read = |answer: Answer| {
            if self.json {
                return Ok((None, answer));
            }
            // What has nothing to tell is `null`.
            let body = if answer.body.is_empty() {
                b"null"
            } else {
                &answer.body[..]
            };
            let told = Answer {
                status: answer.status,
                body: body.to_vec().into(),
            };
            Ok((Some(told.json::<T>()?), answer))
        };
        match answer.and_then(Answer::accepted).and_then(read) {
            Ok((None, answer)) => out.write_all(&answer.body)?,
            Ok((Some(told), _)) => show(out, told)?,
            Err(failure) => return Ok(failure.tell()),
        }
        Ok(ExitCode::SUCCESS)
    }
}
