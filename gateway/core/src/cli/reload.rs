//! `edgeway reload`: has the running gateway read its configuration again.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use http::{Method, StatusCode};
use serde::Deserialize;

use super::{
    diff::{Palette, listed},
    exit,
    remote::{Answer, Failure, Remote},
    tell,
};
use crate::{
    config::diagnostic::{Look, Severity, Told},
    server::Replaced,
};

#[derive(Args)]
pub(super) struct Reload {
    #[command(flatten)]
    remote: Remote,
    /// Write what the gateway answers, as JSON
    #[arg(long)]
    json: bool,
}

/// What the gateway tells of a configuration that it refuses.
#[derive(Deserialize)]
struct Refusal {
    detail: String,
    #[serde(default)]
    report: String,
}

pub(super) fn reload(options: &Reload, out: &mut impl Write) -> io::Result<ExitCode> {
    let answer = options
        .remote
        .client()
        .and_then(|client| client.call(Method::POST, "/v1/reload", ""));
    let answer = match answer {
        Ok(answer) => answer,
        Err(failure) => return Ok(failure.tell()),
    };
    let refused = answer.status == StatusCode::UNPROCESSABLE_ENTITY;
    if options.json && (refused || answer.status.is_success()) {
        out.write_all(&answer.body)?;
        return Ok(if refused {
            exit::configuration()
        } else {
            ExitCode::SUCCESS
        });
    }
    if refused {
        return Ok(tell_of_refusal(&answer));
    }
    match answer
        .accepted()
        .and_then(|answer| answer.json::<Replaced>())
    {
        Ok(replaced) => told(&replaced, out).map(|()| ExitCode::SUCCESS),
        Err(failure) => Ok(failure.tell()),
    }
}

fn tell_of_refusal(answer: &Answer) -> ExitCode {
    match answer.json::<Refusal>() {
        Ok(Refusal { detail, report }) => {
            tell(&report);
            tell(&format!("error: {detail}\n"));
            exit::configuration()
        }
        Err(failure) => Failure::tell(&failure),
    }
}

fn told(replaced: &Replaced, out: &mut impl Write) -> io::Result<()> {
    for warning in &replaced.warnings {
        tell(&format!("{}\n", line(warning)));
    }
    for key in &replaced.next_start {
        tell(&format!(
            "warning: `{key}` has changed: it takes effect at the next start\n"
        ));
    }
    listed(out, &replaced.changes, Palette::of(Look::of_stdout()))?;
    writeln!(
        out,
        "revision {} ({}) is in force{}",
        replaced.revision,
        replaced.hash,
        if replaced.changes.is_empty() {
            "; nothing has changed"
        } else {
            ""
        }
    )
}

/// A problem on one line: `warning: edgeway.yaml:3:5: message (help)`.
fn line(told: &Told) -> String {
    let severity = match told.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let place = match (&told.file, told.line, told.column) {
        (Some(file), Some(line), Some(column)) => format!("{file}:{line}:{column}: "),
        _ => String::new(),
    };
    let help = told.help.as_ref().map(|help| format!(" ({help})"));
    format!(
        "{severity}: {place}{}{}",
        told.message,
        help.unwrap_or_default()
    )
}
