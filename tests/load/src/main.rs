//! Measures the gateway beside nginx: `make bench`.
//!
//! Each scenario starts its contestants on free ports, asserts that they do the same job, drives
//! them in turn with the same requests, and compares what a request cost. Every answer is checked
//! while it is timed: a fast proxy that answers wrongly has not won anything.

mod application;
mod arrivals;
mod chart;
mod client;
mod connection;
mod contestant;
mod endpoint;
mod endpoints;
mod fault;
mod http;
mod load;
mod process;
mod report;
mod scenario;
mod scenarios;
mod text;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::contestant::{Bench, Tools};
use crate::fault::{Fault, Result, Trouble};
use crate::report::Report;
use crate::scenario::{Pace, Stop};

/// Measure edgeway beside nginx and Varnish, one worker each, and check every answer.
///
/// Exit codes: 0 when everything was measured, whether or not a target was met; 1 when an answer
/// was not what it should be; 2 when the run could not be made; 130 when it was interrupted.
#[derive(Parser)]
#[command(name = "edgeway-load", version)]
struct Args {
    /// Scenarios to run; all of them when none is named.
    scenarios: Vec<String>,
    /// Two short rounds, to see that everything works; written to files of their own.
    #[arg(long)]
    quick: bool,
    /// Rounds for each contestant; they take turns, so that drift hits all alike.
    #[arg(long, default_value_t = 11, conflicts_with = "quick")]
    rounds: u32,
    /// Seconds measured in each round.
    #[arg(long, default_value_t = 2, conflicts_with = "quick", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Keep-alive connections, with at most one request under way each.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1000))]
    connections: u16,
    /// The gateway's binary [default: target/release/edgeway of this workspace].
    #[arg(long, value_name = "FILE")]
    edgeway: Option<PathBuf>,
    /// Another build of the gateway, with which some scenarios compare the first.
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
    /// Measure only the others.
    #[arg(long, conflicts_with = "edgeway")]
    without_edgeway: bool,
    /// The nginx to compare with; its njs comes from the package libnginx-mod-http-js.
    #[arg(long, default_value = "nginx", value_name = "FILE")]
    nginx: PathBuf,
    /// The Varnish to compare with.
    #[arg(long, default_value = "varnishd", value_name = "FILE")]
    varnish: PathBuf,
    /// The HAProxy to compare with.
    #[arg(long, default_value = "haproxy", value_name = "FILE")]
    haproxy: PathBuf,
    /// The Caddy to compare with.
    #[arg(long, default_value = "caddy", value_name = "FILE")]
    caddy: PathBuf,
    /// Where the figures and the pictures go [default: tests/load/results].
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Err(fault) = run(&Args::parse()) else {
        return ExitCode::SUCCESS;
    };
    // Nothing is left to tell when standard error is closed.
    writeln!(io::stderr(), "error: {fault}").ok();
    fault.exit_code()
}

fn run(args: &Args) -> Result<()> {
    let stop = stop_on_signals()?;
    let pace = pace(args);
    for kind in scenarios::named(&args.scenarios)? {
        say(&format!(
            "{}: starting and checking the contestants",
            kind.name
        ))?;
        let tools = Tools {
            nginx: args.nginx.clone(),
            varnish: args.varnish.clone(),
            haproxy: args.haproxy.clone(),
            caddy: args.caddy.clone(),
            edgeway: edgeway(args)?,
            before: args.before.clone(),
        };
        let bench = Bench::new(tools, stop.clone())?;
        let mut scenario = (kind.prepare)(&bench)?;
        let rows = scenario.measure(&pace, &stop, say)?;
        let report = Report::new(kind, &bench, &scenario, &pace, rows)?;
        say(&report.table())?;
        publish(args, &report)?;
    }
    Ok(())
}

/// The binary to measure, or `None` when it is not wanted.
fn edgeway(args: &Args) -> Result<Option<PathBuf>> {
    if args.without_edgeway {
        return Ok(None);
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    let built = || {
        workspace
            .expect("this crate is two folders down")
            .join("target/release/edgeway")
    };
    let file = args.edgeway.clone().unwrap_or_else(built);
    if file.is_file() {
        return Ok(Some(file));
    }
    Err(Fault::Setup(format!(
        "no gateway at `{}`: build it with `cargo build --release -p edgeway`, or name another \
         with `--edgeway`",
        file.display()
    )))
}

fn pace(args: &Args) -> Pace {
    let (rounds, seconds, warm_up) = match args.quick {
        true => (2, 2, 1),
        false => (args.rounds.max(1), args.seconds, 1),
    };
    Pace {
        rounds,
        measured: Duration::from_secs(seconds),
        warm_up: Duration::from_secs(warm_up),
        connections: args.connections,
    }
}

/// Figures and, of jobs, a picture, side by side; a quick run never overwrites a full one.
fn publish(args: &Args, report: &Report) -> Result<()> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    let directory = args.results.as_ref().unwrap_or(&default);
    let kind = if args.quick { "-quick" } else { "" };
    let mut files = vec![("json", report.json()?)];
    if !report.jobs.is_empty() {
        files.push(("svg", chart::draw(report)));
    }
    for (extension, text) in files {
        let file = directory.join(format!("{}{kind}.{extension}", report.scenario));
        std::fs::create_dir_all(directory)
            .and_then(|()| std::fs::write(&file, text))
            .trouble(|| format!("cannot write `{}`", file.display()))?;
        say(&format!("written: {}", file.display()))?;
    }
    Ok(())
}

fn stop_on_signals() -> Result<Stop> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&flag))
            .trouble(|| "cannot watch for signals".to_owned())?;
    }
    Ok(Stop::new(flag))
}

fn say(text: &str) -> Result<()> {
    writeln!(io::stdout(), "{text}").trouble(|| "cannot write to standard output".to_owned())
}
