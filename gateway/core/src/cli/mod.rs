//! The command line. Each command that is more than a few lines has a file of its own.

mod filters;
mod routes;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use edgeway_sdk::{Filters, Resources};

use crate::{
    config::diagnostic::{Look, counted},
    credentials, server,
    snapshot::{Gateway, Loaded, load},
    telemetry,
};

/// Exit codes, as `--help` lists them.
pub(crate) mod exit {
    use std::process::ExitCode;

    /// The configuration or the command line is wrong.
    pub(crate) fn configuration() -> ExitCode {
        ExitCode::from(2)
    }
}

const AFTER_HELP: &str = "\
Exit codes:
  0  all is well
  1  something failed, such as a port that is taken
  2  the configuration or the command line is wrong; the errors say where

Signals:
  SIGHUP            reads the configuration again; a wrong one is refused and the old one stays
  SIGTERM, SIGINT   stops when the running requests have ended; a second one stops at once

Environment:
  RUST_LOG   what to log: `info` (the default), `debug`, `warn`, or by part: `info,edgeway=debug`
  NO_COLOR   set it to have no colours";

/// A programmable API gateway: one binary, one YAML file, filters in Rust.
#[derive(Parser)]
#[command(name = "edgeway", version, after_help = AFTER_HELP, max_term_width = 100)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway
    Run(Config),
    /// Check a configuration: tell all that is wrong with it, start nothing
    Check(Config),
    /// Show which requests go where, and through which filters
    Routes(Config),
    /// Show the filters that can be used, or the YAML that one of them takes
    Filters {
        /// A filter
        name: Option<String>,
    },
    /// Make the hash of a password for `basic_auth`: asks for it, or reads it from standard input
    HashPassword(credentials::HashPassword),
    /// Make a key for `api_key`, and its hash
    ApiKey(credentials::ApiKey),
    /// Show the version
    Version,
}

#[derive(Args)]
struct Config {
    /// The configuration file
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "/etc/edgeway/edgeway.yaml"
    )]
    config: PathBuf,
}

/// Runs the command of this process's command line, with these filters.
pub(crate) fn main(filters: Filters) -> ExitCode {
    let line = Line::parse();
    let done = match line.command {
        Command::Run(config) => {
            telemetry::log::start();
            return server::run(config.config, filters);
        }
        Command::Check(config) => with_gateway(&config, &filters, |out, loaded, gateway| {
            summary(out, &config, loaded, gateway)
        }),
        Command::Routes(config) => with_gateway(&config, &filters, |out, _, gateway| {
            routes::show(out, gateway)
        }),
        Command::Filters { name: None } => {
            filters::list(&mut io::stdout(), &filters).map(|()| ExitCode::SUCCESS)
        }
        Command::Filters { name: Some(name) } => {
            filters::describe(&mut io::stdout(), &filters, &name)
        }
        Command::HashPassword(options) => credentials::hash_password(&options, &mut io::stdout()),
        Command::ApiKey(options) => credentials::api_key(&options, &mut io::stdout()),
        Command::Version => writeln!(io::stdout(), "edgeway {}", env!("CARGO_PKG_VERSION"))
            .map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| unwritten(&error))
}

/// What it comes to that standard output took no more.
fn unwritten(error: &io::Error) -> ExitCode {
    // Whoever closed it (`edgeway routes | head`) has seen enough.
    if error.kind() == io::ErrorKind::BrokenPipe {
        return ExitCode::SUCCESS;
    }
    tell(&format!(
        "error: standard output can't be written: {error}\n"
    ));
    ExitCode::FAILURE
}

/// Says something on standard error, if anybody wants to hear it: it changes nothing of what is so.
pub(crate) fn tell(text: &str) {
    drop(io::stderr().write_all(text.as_bytes()));
}

/// Loads the configuration, tells its problems, and goes on if there is no error.
fn with_gateway(
    config: &Config,
    filters: &Filters,
    show: impl FnOnce(&mut io::Stdout, &Loaded, &Gateway) -> io::Result<()>,
) -> io::Result<ExitCode> {
    let loaded = load(&config.config, filters, &Resources::default());
    tell(&loaded.report(Look::of_stderr()));
    let Some((gateway, _)) = &loaded.gateway else {
        tell(&format!(
            "{} in {}\n",
            loaded.counts(),
            config.config.display()
        ));
        return Ok(exit::configuration());
    };
    show(&mut io::stdout(), &loaded, gateway)?;
    Ok(ExitCode::SUCCESS)
}

fn summary(
    out: &mut impl Write,
    config: &Config,
    loaded: &Loaded,
    gateway: &Gateway,
) -> io::Result<()> {
    let endpoints = gateway
        .clusters
        .iter()
        .map(|cluster| cluster.members().endpoints.len())
        .sum();
    let warnings = loaded.warnings();
    writeln!(
        out,
        "{} is valid: {} on {}, {} with {}, in {}{}",
        config.config.display(),
        counted(gateway.router.routes().count(), "route"),
        counted(gateway.listeners.len(), "listener"),
        counted(gateway.clusters.len(), "upstream"),
        counted(endpoints, "endpoint"),
        counted(loaded.files(), "file"),
        if warnings > 0 {
            format!(" ({})", counted(warnings, "warning"))
        } else {
            String::new()
        },
    )
}
