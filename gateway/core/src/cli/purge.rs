//! `edgeway purge`: takes something out of caches.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    process::ExitCode,
};

use clap::{ArgGroup, Args};
use http::Method;
use serde::{Deserialize, Serialize};

use super::{ask::Ask, remote::segment};
use crate::config::diagnostic::counted;

#[derive(Args)]
#[command(group = ArgGroup::new("what").required(true).args(["url", "prefix", "host", "tag", "all"]))]
pub(super) struct Purge {
    #[command(flatten)]
    ask: Ask,
    /// What is got from here, in all its variants: `https://example.com/a?b=1`
    url: Vec<String>,
    /// All whose URL begins so: `https://example.com/static/`
    #[arg(long, value_name = "URL")]
    prefix: Option<String>,
    /// All of this host
    #[arg(long)]
    host: Option<String>,
    /// All with this tag; may be given several times
    #[arg(long)]
    tag: Vec<String>,
    /// Everything
    #[arg(long)]
    all: bool,
    /// With whatever query
    #[arg(long, requires = "url")]
    any_query: bool,
    /// Keep it as stale, to be served while a newer one is fetched, or none can be
    #[arg(long)]
    soft: bool,
    /// Of this cache; of all if not given
    #[arg(long, value_name = "NAME")]
    cache: Option<String>,
}

#[derive(Serialize)]
struct Wish<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    url: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tags: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    all: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    any_query: Option<bool>,
    soft: bool,
}

#[derive(Deserialize)]
struct Purged {
    purged: usize,
    #[serde(default)]
    caches: BTreeMap<String, usize>,
}

pub(super) fn purge(options: &Purge, out: &mut impl Write) -> io::Result<ExitCode> {
    let wish = Wish {
        url: &options.url,
        prefix: options.prefix.as_deref(),
        host: options.host.as_deref(),
        tags: &options.tag,
        all: options.all.then_some(true),
        any_query: options.any_query.then_some(true),
        soft: options.soft,
    };
    let path = match &options.cache {
        Some(cache) => format!("/v1/caches/{}/purge", segment(cache)),
        None => "/v1/purge".to_owned(),
    };
    let done = if options.soft {
        "stale from now on"
    } else {
        "purged"
    };
    options
        .ask
        .call((Method::POST, &path), &wish, out, |out, purged: Purged| {
            writeln!(out, "{}: {done}", counted(purged.purged, "object"))?;
            for (cache, number) in purged.caches.iter().filter(|(_, number)| **number > 0) {
                writeln!(out, "  {cache}: {number}")?;
            }
            Ok(())
        })
}
