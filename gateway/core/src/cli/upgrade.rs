//! `edgeway upgrade`: has another program take the place of the running gateway.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use edgeway_sdk::Period;
use http::Method;

use super::remote::Remote;
use crate::server::Done;

#[derive(Args)]
pub(super) struct Upgrade {
    #[command(flatten)]
    remote: Remote,
    /// How long the new process may take until it serves; it is killed then, and the old one goes on
    #[arg(long, value_name = "TIME", default_value = "60s")]
    timeout: Period,
    /// Write what the gateway answers, as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn upgrade(options: &Upgrade, out: &mut impl Write) -> io::Result<ExitCode> {
    let target = format!("/v1/upgrade?timeout={}ms", options.timeout.0.as_millis());
    let answer = options
        .remote
        .client()
        .and_then(|client| client.call(Method::POST, &target, ""))
        .and_then(|answer| answer.accepted());
    let done = answer.and_then(|answer| Ok((answer.json::<Done>()?, answer)));
    match done {
        Ok((_, answer)) if options.json => out.write_all(&answer.body)?,
        Ok((done, _)) => writeln!(
            out,
            "process {} serves: edgeway {}, {}, after {} ms",
            done.pid, done.version, done.program, done.took_ms
        )?,
        Err(failure) => return Ok(failure.tell()),
    }
    Ok(ExitCode::SUCCESS)
}
