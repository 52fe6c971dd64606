//! The command line. Each command that is more than a few lines has a file of its own.

mod ask;
mod diff;
mod explain;
mod filters;
mod log_level;
mod maintenance;
mod manual;
mod purge;
mod reference;
mod reload;
mod remote;
mod routes;
mod schema;
mod status;
mod table;
mod tail;
mod test;
mod top;
mod upgrade;
mod upstreams;

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
  SIGUSR1           opens the files of access logs again, after they were renamed
  SIGUSR2           has the program that is at the path of this one now take its place; see `edgeway upgrade`
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
    Run(Run),
    /// Check a configuration: tell all that is wrong with it, start nothing
    Check(Config),
    /// Show which requests go where, and through which filters
    Routes(Config),
    /// Have the running gateway read its configuration again: prints what has changed, or what is wrong with it
    Reload(reload::Reload),
    /// Have the program that is there now take the place of the running one, without a lost connection
    Upgrade(upgrade::Upgrade),
    /// Show what the running gateway is doing: requests, latencies, endpoints, failures
    #[command(after_help = top::AFTER_HELP)]
    Top(top::Top),
    /// Show what a reload would change
    #[command(after_help = diff::AFTER_HELP)]
    Diff(diff::Diff),
    /// Tell what becomes of a request, and why: route, filters, cache, endpoint, response. Nobody is asked for it
    Explain(explain::Explain),
    /// Run the tests that stand in a configuration: requests that nobody makes, and what is to become of them
    Test(test::Test),
    /// Show how the running gateway is
    Status(ask::Ask),
    /// Show requests as they end
    Tail(tail::Tail),
    /// Show the endpoints of all upstreams, and how they are
    Upstreams(upstreams::Show),
    /// Take an endpoint out of the running gateway or back, or change its share
    Endpoint(upstreams::Change),
    /// Show what is closed for maintenance, close it or open it: everything, or a route
    Maintenance(maintenance::Maintenance),
    /// Take something out of caches
    Purge(purge::Purge),
    /// Have balancers in front go elsewhere: the gateway answers all, but says that it is not ready
    Drain(status::Drain),
    /// Take that back
    Undrain(ask::Ask),
    /// Show or change what the running gateway logs for diagnosis
    LogLevel(log_level::LogLevel),
    /// Write the JSON schema of the configuration, for editors
    Schema,
    /// Write pages about all keys, filters, commands and calls
    #[command(hide = true)]
    Reference(reference::Reference),
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
    /// Write what a shell needs to complete the command line
    #[command(after_help = COMPLETIONS_HELP)]
    Completions(manual::Completions),
    /// Write the manual page, or all of them into a folder
    Man(manual::Manual),
}

const COMPLETIONS_HELP: &str = "\
  edgeway completions bash > ~/.local/share/bash-completion/completions/edgeway
  edgeway completions fish > ~/.config/fish/completions/edgeway.fish";

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

#[derive(Args)]
struct Run {
    #[command(flatten)]
    config: Config,
    /// Where the number of the process is written; it is removed at the end
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
}

/// Runs the command of this process's command line, with these filters.
pub(crate) fn main(filters: Filters) -> ExitCode {
    let line = Line::parse();
    let done = match line.command {
        Command::Run(Run { config, pid_file }) => {
            telemetry::log::start();
            return server::run(config.config, pid_file.as_deref(), filters);
        }
        Command::Check(config) => with_gateway(&config, &filters, |out, loaded, gateway| {
            summary(out, &config, loaded, gateway)
        }),
        Command::Routes(config) => with_gateway(&config, &filters, |out, _, gateway| {
            routes::show(out, gateway)
        }),
        Command::Reload(options) => reload::reload(&options, &mut io::stdout()),
        Command::Upgrade(options) => upgrade::upgrade(&options, &mut io::stdout()),
        Command::Top(options) => top::top(&options, &mut io::stdout()),
        Command::Diff(options) => diff::show(&options, &filters, &mut io::stdout()),
        Command::Explain(options) => explain::explain(&options, &filters),
        Command::Test(options) => test::test(&options, &filters),
        Command::Status(ask) => status::show(&ask, &mut io::stdout()),
        Command::Tail(options) => tail::tail(&options, &mut io::stdout()),
        Command::Upstreams(options) => upstreams::show(&options, &mut io::stdout()),
        Command::Endpoint(options) => upstreams::change(&options, &mut io::stdout()),
        Command::Maintenance(options) => maintenance::maintenance(&options, &mut io::stdout()),
        Command::Purge(options) => purge::purge(&options, &mut io::stdout()),
        Command::Drain(options) => status::drain(&options, &mut io::stdout()),
        Command::Undrain(ask) => status::undrain(&ask, &mut io::stdout()),
        Command::LogLevel(options) => log_level::log_level(&options, &mut io::stdout()),
        Command::Reference(options) => reference::write(&options, &filters),
        Command::Schema => schema::show(&mut io::stdout(), &filters).map(|()| ExitCode::SUCCESS),
        Command::Filters { name: None } => {
            filters::list(&mut io::stdout(), &filters).map(|()| ExitCode::SUCCESS)
        }
        Command::Filters { name: Some(name) } => {
            filters::describe(&mut io::stdout(), &filters, &name)
        }
        Command::HashPassword(options) => credentials::hash_password(&options, &mut io::stdout()),
        Command::ApiKey(options) => credentials::api_key(&options, &mut io::stdout()),
        Command::Completions(options) => manual::completions(&options, &mut io::stdout()),
        Command::Man(options) => manual::manual(&options, &mut io::stdout()),
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
    let mut loaded = load(&config.config, filters, &Resources::default());
    // What is wrong with them is told as well.
    loaded.cases();
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
