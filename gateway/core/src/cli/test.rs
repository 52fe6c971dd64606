//! `edgeway test`: the tests that stand in a configuration.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use edgeway_sdk::{Filters, Resources};
use serde::Serialize;

use super::{
    Config, exit,
    explain::{colours, runtime, write_json},
    tell,
};
use crate::{
    config::diagnostic::{Look, counted},
    explain::{
        Explanation,
        verify::{Failure, failures},
    },
    server::rehearsal::Rehearser,
    snapshot::{Case, load},
};

/// The options of the command.
#[derive(Args)]
pub(super) struct Test {
    #[command(flatten)]
    config: Config,
    /// Only the tests with this in their name, or in their request
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What has become of a test.
#[derive(Serialize)]
struct Outcome {
    name: String,
    place: String,
    passed: bool,
    failures: Vec<Failure>,
    /// What has happened, of one that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<Box<Explanation>>,
}

/// Runs the command.
pub(super) fn test(options: &Test, filters: &Filters) -> io::Result<ExitCode> {
    let path = &options.config.config;
    let mut loaded = load(path, filters, &Resources::default());
    let cases = loaded.cases();
    tell(&loaded.report(Look::of_stderr()));
    if loaded.gateway.is_none() {
        return Ok(exit::configuration());
    }
    let all = cases.len();
    let wanted = |case: &Case| {
        let text = options.filter.as_deref().unwrap_or_default();
        name(case).contains(text)
    };
    let cases: Vec<_> = cases.into_iter().filter(wanted).collect();
    let runtime = runtime()?;
    let mut out = io::stdout();
    let mut outcomes = Vec::new();
    for case in &cases {
        let outcome = runtime.block_on(run(case, options, filters));
        if !options.json {
            show(&mut out, &outcome)?;
        }
        outcomes.push(outcome);
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.passed).count();
    if options.json {
        write_json(&mut out, &outcomes)?;
    } else {
        summary(&mut out, outcomes.len(), failed, all)?;
    }
    Ok(match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Runs a test with a gateway of its own: what one request leaves behind is not for the next.
async fn run(case: &Case, options: &Test, filters: &Filters) -> Outcome {
    let loaded = load(&options.config.config, filters, &Resources::default());
    let rehearsed = match loaded.gateway {
        Some((gateway, _)) => {
            let rehearser = Rehearser::new(gateway).await;
            rehearser.ask(&case.question, &case.answer).await
        }
        None => {
            Err("the configuration has changed meanwhile, and is not valid any more".to_owned())
        }
    };
    let (failures, explanation) = match rehearsed {
        Ok(rehearsed) => (failures(case, &rehearsed), rehearsed.explanation),
        Err(message) => {
            let failure = Failure {
                what: "request".to_owned(),
                expected: "a response".to_owned(),
                found: message,
            };
            (vec![failure], None)
        }
    };
    let passed = failures.is_empty();
    Outcome {
        name: name(case),
        place: case.place.clone(),
        passed,
        failures,
        explanation: explanation.filter(|_| !passed),
    }
}

fn name(case: &Case) -> String {
    let question = &case.question;
    let scheme = if question.https { "https" } else { "http" };
    let request = || {
        format!(
            "{} {scheme}://{}{}",
            question.method, question.authority, question.target
        )
    };
    case.name.clone().unwrap_or_else(request)
}

fn show(out: &mut impl Write, outcome: &Outcome) -> io::Result<()> {
    let paint = |code: &str, text: &str| match colours() {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.to_owned(),
    };
    if outcome.passed {
        return writeln!(out, "{}    {}", paint("32", "ok"), outcome.name);
    }
    writeln!(
        out,
        "{}  {}\n        {}",
        paint("31", "FAIL"),
        outcome.name,
        outcome.place
    )?;
    for Failure {
        what,
        expected,
        found,
    } in &outcome.failures
    {
        writeln!(out, "        {what}: expected {expected}, found {found}")?;
    }
    let response = outcome
        .explanation
        .as_ref()
        .map(|explanation| &explanation.response);
    if let Some(response) = response
        && let Some(reason) = &response.reason
    {
        let filter = response.decided_by.as_deref();
        let whose = filter
            .map(|filter| format!(" by {filter}"))
            .unwrap_or_default();
        writeln!(out, "        refused{whose}: {reason}")?;
    }
    Ok(())
}

fn summary(out: &mut impl Write, run: usize, failed: usize, all: usize) -> io::Result<()> {
    if all == 0 {
        return writeln!(out, "there is no test; write some below `tests:`");
    }
    let passed = run - failed;
    let passed = format!("{}, {passed} passed, {failed} failed", counted(run, "test"));
    match all - run {
        0 => writeln!(out, "{passed}"),
        left => writeln!(out, "{passed}, {left} left out"),
    }
}
