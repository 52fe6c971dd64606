//! The command line.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use edgeway_sdk::{Filters, Resources, filters::Entry};

use crate::{
    config::diagnostic::{Look, counted},
    credentials, server,
    snapshot::{Gateway, Loaded, Route, load},
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
        Command::Routes(config) => {
            with_gateway(&config, &filters, |out, _, gateway| routes(out, gateway))
        }
        Command::Filters { name: None } => {
            list(&mut io::stdout(), &filters).map(|()| ExitCode::SUCCESS)
        }
        Command::Filters { name: Some(name) } => describe(&mut io::stdout(), &filters, &name),
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

fn routes(out: &mut impl Write, gateway: &Gateway) -> io::Result<()> {
    for listener in &gateway.listeners {
        writeln!(out, "listener {}  {}", listener.name, listener.bind)?;
    }
    let rows: Vec<_> = gateway
        .router
        .routes()
        .map(|route| &**route)
        .chain([&*gateway.fallback])
        .map(row)
        .collect();
    let head = ["ROUTE", "MATCH", "FILTERS", "TARGET"].map(str::to_owned);
    writeln!(out)?;
    table(out, std::iter::once(&head).chain(&rows))
}

fn row(route: &Route) -> [String; 4] {
    let filters: Vec<_> = route.chain.links.iter().map(ToString::to_string).collect();
    let name = if *route.name == *route.pattern {
        "-"
    } else {
        &route.name
    };
    let filters = if filters.is_empty() {
        "-".to_owned()
    } else {
        filters.join(" > ")
    };
    [
        name.to_owned(),
        route.pattern.clone(),
        filters,
        route.destination(),
    ]
}

/// Writes rows with their columns under each other.
fn table<'r>(
    out: &mut impl Write,
    rows: impl Iterator<Item = &'r [String; 4]> + Clone,
) -> io::Result<()> {
    let mut widths = [0; 4];
    for row in rows.clone() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for [name, pattern, filters, target] in rows {
        let [a, b, c, _] = widths;
        writeln!(out, "{name:a$}  {pattern:b$}  {filters:c$}  {target}")?;
    }
    Ok(())
}

fn list(out: &mut impl Write, filters: &Filters) -> io::Result<()> {
    let width = filters
        .iter()
        .map(|entry| entry.name().len())
        .max()
        .unwrap_or_default();
    for entry in filters.iter() {
        writeln!(out, "{:width$}  {}", entry.name(), entry.summary())?;
    }
    writeln!(
        out,
        "\n`edgeway filters NAME` shows the YAML that a filter takes. Beside it may stand `when` and `unless`, for\n\
         which requests it is, `mode: report`, to refuse nothing and tell what it would have refused, and `name`."
    )
}

fn describe(out: &mut impl Write, filters: &Filters, name: &str) -> io::Result<ExitCode> {
    let Some(entry) = filters.get(name) else {
        let known: Vec<_> = filters.iter().map(Entry::name).collect();
        let help = crate::config::diagnostic::suggestion(name, &known).unwrap_or_default();
        tell(&format!(
            "error: unknown filter `{name}`\n  = help: {help}\n"
        ));
        return Ok(exit::configuration());
    };
    let known = |text: &'static str, otherwise: &'static str| {
        if text.is_empty() { otherwise } else { text }
    };
    let summary = known(entry.summary(), "(its author has not said what it does)");
    let yaml = known(entry.yaml(), "(its author has not said what it takes)");
    writeln!(out, "{}: {summary}\n\n{yaml}", entry.name())?;
    Ok(ExitCode::SUCCESS)
}
