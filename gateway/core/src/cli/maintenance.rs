//! `edgeway maintenance`: closing everything, or a route.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use http::Method;
use serde::{Deserialize, Serialize};

use super::{ask::Ask, remote::segment, table};

#[derive(Args)]
pub(super) struct Maintenance {
    #[command(flatten)]
    ask: Ask,
    /// What is closed is shown if nothing is said
    #[arg(value_enum)]
    action: Option<Action>,
    /// Of this route; everything if not given
    #[arg(requires = "action")]
    route: Option<String>,
    /// Clients that pass: `10.0.0.0/8`; may be given several times
    #[arg(long, value_name = "NETWORK", requires = "action")]
    allow: Vec<String>,
    /// When clients may come again: `10m`
    #[arg(long, value_name = "TIME", requires = "action")]
    retry_after: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Action {
    /// Closes it
    On,
    /// Opens it, whatever the configuration says
    Off,
    /// What the configuration says holds again
    Forget,
}

/// What is said of what is not given is for the configuration to say.
#[derive(Serialize)]
struct Wish<'a> {
    on: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    allow: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<&'a str>,
}

#[derive(Deserialize)]
struct All {
    all: Closing,
    routes: Vec<Closing>,
}

#[derive(Deserialize)]
struct Closing {
    route: String,
    on: bool,
    said_by: String,
    refused: u64,
}

pub(super) fn maintenance(options: &Maintenance, out: &mut impl Write) -> io::Result<ExitCode> {
    let path = match &options.route {
        Some(route) => format!("/v1/maintenance/{}", segment(route)),
        None => "/v1/maintenance".to_owned(),
    };
    let on = match options.action {
        None => {
            return options
                .ask
                .get(&path, out, |out, all: All| listed(out, &all));
        }
        Some(Action::Forget) => {
            let call = (Method::DELETE, &*path);
            return options.ask.call(call, &(), out, |out, ()| {
                writeln!(out, "what the configuration says holds again")
            });
        }
        Some(Action::On) => true,
        Some(Action::Off) => false,
    };
    let wish = Wish {
        on,
        allow: (!options.allow.is_empty()).then_some(&options.allow),
        retry_after: options.retry_after.as_deref(),
    };
    options
        .ask
        .call((Method::PUT, &path), &wish, out, |out, closing: Closing| {
            let what = if closing.route == "*" {
                "everything"
            } else {
                &closing.route
            };
            writeln!(out, "{what} is {}", word(closing.on))
        })
}

fn word(on: bool) -> &'static str {
    if on { "closed" } else { "open" }
}

fn listed(out: &mut impl Write, all: &All) -> io::Result<()> {
    let rows = [&all.all].into_iter().chain(&all.routes).map(|closing| {
        let name = if closing.route == "*" {
            "(everything)"
        } else {
            &closing.route
        };
        [
            name.to_owned(),
            word(closing.on).to_owned(),
            closing.said_by.clone(),
            closing.refused.to_string(),
        ]
    });
    let rows: Vec<_> = rows.collect();
    let head = ["ROUTE", "IS", "SAID BY", "REFUSED"].map(str::to_owned);
    table::write(out, [head].iter().chain(&rows))
}
