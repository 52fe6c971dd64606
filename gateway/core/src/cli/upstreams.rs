//! `edgeway upstreams`: the endpoints and how they are. `edgeway endpoint`: changing one.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use http::Method;
use serde::{Deserialize, Serialize};

use super::{ask::Ask, exit, remote::segment, table, tell};

#[derive(Args)]
pub(super) struct Show {
    #[command(flatten)]
    ask: Ask,
    /// Of this upstream only
    upstream: Option<String>,
}

/// Several, or the one that was asked for.
#[derive(Deserialize)]
#[serde(untagged)]
enum Upstreams {
    All { upstreams: Vec<Upstream> },
    One(Upstream),
}

#[derive(Deserialize)]
struct Upstream {
    name: String,
    endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    name: String,
    status: String,
    weight: u16,
    backup: bool,
    active: u32,
    requests: u64,
    failures: u64,
    latency_ms: Option<f64>,
    check: Option<Check>,
}

#[derive(Deserialize)]
struct Check {
    reason: Option<String>,
}

pub(super) fn show(options: &Show, out: &mut impl Write) -> io::Result<ExitCode> {
    let path = match &options.upstream {
        Some(upstream) => format!("/v1/upstreams/{}", segment(upstream)),
        None => "/v1/upstreams".to_owned(),
    };
    options.ask.get(&path, out, |out, upstreams: Upstreams| {
        let upstreams = match upstreams {
            Upstreams::All { upstreams } => upstreams,
            Upstreams::One(upstream) => vec![upstream],
        };
        let rows: Vec<_> = upstreams.iter().flat_map(rows).collect();
        table::write(out, [HEAD.map(str::to_owned)].iter().chain(&rows))
    })
}

const HEAD: [&str; 9] = [
    "UPSTREAM",
    "ENDPOINT",
    "STATUS",
    "WEIGHT",
    "ACTIVE",
    "REQUESTS",
    "FAILURES",
    "LATENCY",
    "LAST CHECK",
];

fn rows(upstream: &Upstream) -> impl Iterator<Item = [String; 9]> {
    upstream.endpoints.iter().map(|endpoint| {
        let backup = if endpoint.backup { " (backup)" } else { "" };
        let latency = endpoint.latency_ms;
        let check = endpoint.check.as_ref();
        let check = check.map(|check| check.reason.clone().unwrap_or_else(|| "ok".to_owned()));
        [
            upstream.name.clone(),
            format!("{}{backup}", endpoint.name),
            endpoint.status.clone(),
            endpoint.weight.to_string(),
            endpoint.active.to_string(),
            endpoint.requests.to_string(),
            endpoint.failures.to_string(),
            latency.map_or_else(|| "-".to_owned(), |latency| format!("{latency:.1} ms")),
            check.unwrap_or_else(|| "-".to_owned()),
        ]
    })
}

#[derive(Args)]
pub(super) struct Change {
    #[command(flatten)]
    ask: Ask,
    /// Write the change to the file that the endpoints are discovered in
    #[arg(long)]
    persist: bool,
    upstream: String,
    /// As `edgeway upstreams` shows it
    endpoint: String,
    #[arg(value_enum)]
    action: Action,
    /// The weight
    #[arg(required_if_eq("action", "weight"), value_parser = clap::value_parser!(u16).range(1..))]
    number: Option<u16>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Action {
    /// It gets requests
    Up,
    /// What is under way ends, nothing new comes
    Drain,
    /// Nothing comes, though no other be left
    Maintenance,
    /// Its share changes
    Weight,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Wish {
    State(&'static str),
    Weight(u16),
}

pub(super) fn change(options: &Change, out: &mut impl Write) -> io::Result<ExitCode> {
    let wish = match (options.action, options.number) {
        (Action::Up, None) => Wish::State("up"),
        (Action::Drain, None) => Wish::State("drain"),
        (Action::Maintenance, None) => Wish::State("maintenance"),
        (Action::Weight, Some(number)) => Wish::Weight(number),
        (Action::Up | Action::Drain | Action::Maintenance | Action::Weight, _) => {
            tell("error: a number belongs to `weight`, and to nothing else\n");
            return Ok(exit::configuration());
        }
    };
    let persist = if options.persist { "?persist=true" } else { "" };
    let path = format!(
        "/v1/upstreams/{}/endpoints/{}{persist}",
        segment(&options.upstream),
        segment(&options.endpoint)
    );
    options.ask.call(
        (Method::PATCH, &path),
        &wish,
        out,
        |out, endpoint: Endpoint| {
            let Endpoint {
                name,
                status,
                weight,
                active,
                ..
            } = endpoint;
            writeln!(
                out,
                "{name} is {status}, with weight {weight}; {active} requests are there"
            )
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_what_the_call_wants() {
        let json = |wish: &Wish| serde_json::to_string(wish).unwrap();
        assert_eq!(json(&Wish::State("up")), r#"{"state":"up"}"#);
        assert_eq!(json(&Wish::Weight(7)), r#"{"weight":7}"#);
    }
}
