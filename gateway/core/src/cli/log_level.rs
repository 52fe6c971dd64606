//! `edgeway log-level`: what the running gateway logs for diagnosis.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use http::Method;
use serde::{Deserialize, Serialize};

use super::ask::Ask;

#[derive(Args)]
pub(super) struct LogLevel {
    #[command(flatten)]
    ask: Ask,
    /// What is logged from now on, as `RUST_LOG` has it: `debug`, `info,edgeway::proxy=debug`; shown if not given
    #[arg(conflicts_with = "reset")]
    level: Option<String>,
    /// Log what was logged at the start again
    #[arg(long)]
    reset: bool,
}

#[derive(Serialize, Deserialize)]
struct Level {
    level: String,
}

pub(super) fn log_level(options: &LogLevel, out: &mut impl Write) -> io::Result<ExitCode> {
    const PATH: &str = "/v1/log-level";
    let ask = &options.ask;
    match &options.level {
        Some(level) => {
            let level = level.clone();
            ask.call((Method::PUT, PATH), &Level { level }, out, told)
        }
        None if options.reset => ask.call((Method::DELETE, PATH), &(), out, told),
        None => ask.get(PATH, out, told),
    }
}

fn told(out: &mut impl Write, Level { level }: Level) -> io::Result<()> {
    writeln!(out, "{level}")
}
