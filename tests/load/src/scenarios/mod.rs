//! The scenarios, one file each.

mod balance;
mod cache;
mod compress;
mod files;
mod idle;
mod limit;
mod observe;
mod proxy_jwt;
mod surge;
mod tls;

use crate::contestant::Bench;
use crate::fault::{Fault, Result};
use crate::scenario::Scenario;

/// A scenario that can be asked for by name.
pub(crate) struct Kind {
    /// Also the name of its files in `results/`.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// Starts the contestants and asserts that they do the same job.
    pub(crate) prepare: fn(&Bench) -> Result<Scenario>,
}

/// Those named, or all.
pub(crate) fn named(names: &[String]) -> Result<Vec<&'static Kind>> {
    if names.is_empty() {
        return Ok(ALL.iter().collect());
    }
    names.iter().map(|name| find(name)).collect()
}

fn find(name: &str) -> Result<&'static Kind> {
    ALL.iter().find(|kind| kind.name == name).ok_or_else(|| {
        let known: Vec<&str> = ALL.iter().map(|kind| kind.name).collect();
        Fault::Setup(format!(
            "unknown scenario `{name}`; there are: {}",
            known.join(", ")
        ))
    })
}

const ALL: &[Kind] = &[
    Kind {
        name: "proxy-jwt",
        title: "Plain proxy, and proxy with an HS256 token check",
        prepare: proxy_jwt::prepare,
    },
    Kind {
        name: "balance",
        title: "Balancing between three endpoints, one of them slow",
        prepare: balance::prepare,
    },
    Kind {
        name: "cache",
        title: "Answers from a cache",
        prepare: cache::prepare,
    },
    Kind {
        name: "surge",
        title: "A page that takes 100 ms, and 200 clients who want it for ten seconds",
        prepare: surge::prepare,
    },
    Kind {
        name: "idle",
        title: "Ten thousand connections that wait for their next request",
        prepare: idle::prepare,
    },
    Kind {
        name: "limit",
        title: "A limit of requests for each client, and a million clients",
        prepare: limit::prepare,
    },
    Kind {
        name: "observe",
        title: "What it costs to be watched",
        prepare: observe::prepare,
    },
    Kind {
        name: "files",
        title: "Files, small and large, plain and compressed beforehand",
        prepare: files::prepare,
    },
    Kind {
        name: "compress",
        title: "What compressing a page costs, and what is left of it",
        prepare: compress::prepare,
    },
    Kind {
        name: "tls",
        title: "Handshakes and large pages over TLS",
        prepare: tls::prepare,
    },
];

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// The inside of a location that proxies to `app` and tells it who is calling, as edgeway does.
const NGINX_PROXY_PASS: &str = "            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_set_header Host $http_host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;";
