//! `edgeway status`: how the running gateway is. `edgeway drain`, `edgeway undrain`: taking it out, and back.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use http::Method;
use serde::Deserialize;

use super::{ask::Ask, table};
use crate::config::diagnostic::counted;

#[derive(Deserialize)]
struct Status {
    version: String,
    pid: u32,
    state: String,
    uptime_s: u64,
    revision: u64,
    hash: String,
    maintenance: bool,
    requests: Requests,
    connections: usize,
    listeners: Vec<Listener>,
    upstreams: Vec<Upstream>,
}

#[derive(Deserialize)]
struct Requests {
    total: u64,
    failed: u64,
    refused: u64,
    in_flight: u64,
}

#[derive(Deserialize)]
struct Listener {
    name: String,
    bind: String,
    connections: usize,
}

#[derive(Deserialize)]
struct Upstream {
    name: String,
    endpoints: usize,
    up: usize,
}

pub(super) fn show(ask: &Ask, out: &mut impl Write) -> io::Result<ExitCode> {
    ask.get("/v1/status", out, |out, status: Status| {
        written(out, &status)
    })
}

fn written(out: &mut impl Write, status: &Status) -> io::Result<()> {
    let closed = if status.maintenance {
        ", closed for maintenance"
    } else {
        ""
    };
    writeln!(
        out,
        "edgeway {} is {}{closed}: process {}, up for {}",
        status.version,
        status.state,
        status.pid,
        length(status.uptime_s)
    )?;
    writeln!(
        out,
        "configuration  revision {} ({})",
        status.revision, status.hash
    )?;
    let Requests {
        total,
        failed,
        refused,
        in_flight,
    } = status.requests;
    writeln!(
        out,
        "requests       {total}, of these {failed} failed and {refused} refused; {in_flight} in flight"
    )?;
    writeln!(out, "connections    {}", status.connections)?;
    let listeners = status.listeners.iter().map(|listener| {
        let connections = counted(listener.connections, "connection");
        [listener.name.clone(), listener.bind.clone(), connections]
    });
    section(out, ["LISTENER", "ADDRESS", ""], listeners)?;
    let upstreams = status.upstreams.iter().map(|upstream| {
        let Upstream { endpoints, up, .. } = upstream;
        let told = if up < endpoints { "some are down" } else { "" };
        let told = if *up == 0 { "nobody is up" } else { told };
        let ratio = format!("{up} of {endpoints} up");
        [upstream.name.clone(), ratio, told.to_owned()]
    });
    section(out, ["UPSTREAM", "ENDPOINTS", ""], upstreams)
}

/// A table, unless it is empty.
fn section(
    out: &mut impl Write,
    head: [&str; 3],
    rows: impl Iterator<Item = [String; 3]>,
) -> io::Result<()> {
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    table::write(out, [head.map(str::to_owned)].iter().chain(&rows))
}

/// `3d 4h`: two units say enough.
fn length(seconds: u64) -> String {
    let units = [(86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')];
    let first = units.iter().position(|(unit, _)| seconds >= *unit);
    let shown = units.iter().skip(first.unwrap_or(3)).take(2);
    let mut rest = seconds;
    let parts = shown.map(|(unit, name)| {
        let part = format!("{}{name}", rest / unit);
        rest %= unit;
        part
    });
    parts.collect::<Vec<_>>().join(" ")
}

#[derive(Args)]
pub(super) struct Drain {
    #[command(flatten)]
    ask: Ask,
    /// Stop the process as well, when the requests under way have ended
    #[arg(long)]
    stop: bool,
}

#[derive(Deserialize)]
struct Phase {
    status: String,
}

pub(super) fn drain(options: &Drain, out: &mut impl Write) -> io::Result<ExitCode> {
    let path = if options.stop {
        "/v1/drain?stop=true"
    } else {
        "/v1/drain"
    };
    options.ask.call((Method::POST, path), &(), out, told)
}

pub(super) fn undrain(ask: &Ask, out: &mut impl Write) -> io::Result<ExitCode> {
    ask.call((Method::DELETE, "/v1/drain"), &(), out, told)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "what is made of an answer is given away"
)]
fn told(out: &mut impl Write, phase: Phase) -> io::Result<()> {
    writeln!(out, "the gateway is {}", phase.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_has_two_units() {
        for (seconds, shown) in [
            (0, "0s"),
            (59, "59s"),
            (61, "1m 1s"),
            (3_600, "1h 0m"),
            (273_600, "3d 4h"),
        ] {
            assert_eq!(length(seconds), shown);
        }
    }
}
