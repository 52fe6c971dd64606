//! What it costs to be watched: an access log, traces, and both, on top of the metrics, which are always on.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::arrivals::Arrivals;
use crate::contestant::{Bench, Contestant};
use crate::fault::{Fault, Result};
use crate::http;
use crate::load::{Answers, Plan};
use crate::scenario::{Addition, After, Figure, Job, Scenario, Upstream, With};
use crate::scenarios::NGINX_PROXY_PASS;

/// Starts everyone, and asserts that they pass the answer on.
pub(crate) fn prepare(bench: &Bench) -> Result<Scenario> {
    let upstream = upstream(bench)?;
    let collector = collector(bench)?;
    let behind = upstream.address;
    let mut contestants = Vec::new();
    if bench.has_edgeway() {
        for (name, filters) in watched(bench, collector.address) {
            contestants.push(bench.edgeway(name, &routes(&filters, behind))?);
        }
        if let Some(before) = bench.edgeway_before(BEFORE, &routes("", behind))? {
            contestants.push(before);
        }
    }
    contestants.push(nginx(bench, NGINX, behind)?);
    contestants.push(nginx(bench, NGINX_LOG, behind)?);
    for contestant in &contestants {
        contestant.must_answer("for a page", &request(), 200, Some(BODY.as_bytes()))?;
    }
    let job = Job {
        title: "plain proxy",
        contestants: (0..contestants.len()).collect(),
        plan: Plan {
            arrivals: Arrivals::WhenAnswered,
            requests: vec![request()],
            answers: Answers::AnyOf(vec![BODY.into()]),
            watched: None,
        },
        at_most: vec![(ALL, 1.10)],
    };
    let logs = [LOG, ALL].map(|name| bench.in_memory(name));
    let after: After = Box::new(move |_, _| {
        drop(collector);
        logs.iter().try_for_each(|log| written(log))?;
        Ok(Vec::new())
    });
    Ok(Scenario {
        additions: vec![Addition {
            job: 0,
            ours: With(LOG, EDGEWAY),
            theirs: With(NGINX_LOG, NGINX),
        }],
        after: Some(after),
        ..Scenario::new(
            Figure::Cpu,
            contestants,
            vec![job],
            Upstream::Process(upstream),
        )
    })
}

/// The contestants with their filters. Logs are in memory: it is not the disk that is measured.
fn watched(bench: &Bench, collector: SocketAddr) -> [(&'static str, String); 4] {
    let log = |name: &str| {
        let file = bench.in_memory(name);
        format!(
            "access_log: {{ format: json, to: {{ file: {} }} }}",
            file.display()
        )
    };
    let trace = format!("trace: {{ sample: 1%, otlp: {{ url: 'http://{collector}' }} }}");
    [
        (EDGEWAY, String::new()),
        (LOG, format!("{{ {} }}", log(LOG))),
        (TRACE, format!("{{ {trace} }}")),
        (ALL, format!("{{ {trace} }}, {{ {} }}", log(ALL))),
    ]
}

/// Asserts that there is something in a log.
fn written(log: &Path) -> Result<()> {
    match fs::metadata(log) {
        Ok(found) if found.len() > 0 => Ok(()),
        _ => Err(Fault::Answer(format!("nothing is in `{}`", log.display()))),
    }
}

fn routes(filters: &str, upstream: SocketAddr) -> String {
    format!(
        "upstreams: {{ app: {{ endpoints: [\"{upstream}\"] }} }}
filters: [{filters}]
routes: [{{ upstream: app }}]
"
    )
}

fn upstream(bench: &Bench) -> Result<Contestant> {
    bench.nginx("upstream", "", |address| {
        format!(
            "    default_type application/json;
    server {{
        listen {address};
        location / {{ return 200 '{BODY}'; }}
    }}"
        )
    })
}

/// What traces are told to: it takes all, as a collector does.
fn collector(bench: &Bench) -> Result<Contestant> {
    bench.nginx("collector", "", |address| {
        format!(
            "    default_type application/x-protobuf;
    client_max_body_size 16m;
    server {{
        listen {address};
        location / {{ return 200; }}
    }}"
        )
    })
}

fn nginx(bench: &Bench, name: &'static str, upstream: SocketAddr) -> Result<Contestant> {
    let log = match name {
        NGINX_LOG => {
            let file = bench.in_memory(name);
            // What it writes by itself is buffered as ours is.
            format!(
                "access_log {} combined buffer=64k flush=1s;",
                file.display()
            )
        }
        _ => String::new(),
    };
    bench.nginx(name, "", |address| {
        format!(
            "    upstream app {{
        server {upstream};
        keepalive 64;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {address};
        {log}
        location / {{
{NGINX_PROXY_PASS}
        }}
    }}"
        )
    })
}

fn request() -> Vec<u8> {
    http::get("/page", &[])
}

const EDGEWAY: &str = "edgeway";
const LOG: &str = "edgeway + log";
const TRACE: &str = "edgeway + traces";
const ALL: &str = "edgeway + log + traces";
/// Another build, with which the first is compared.
const BEFORE: &str = "edgeway before";
const NGINX: &str = "nginx";
const NGINX_LOG: &str = "nginx + log";
/// 200 bytes.
const BODY: &str = "{\"name\":\"a product of the shop\",\"price\":1299,\"text\":\"lorem ipsum dolor sit amet, consectetur adipisicing elit, sed do eiusmod tempor incididunt ut labore et dolore magna aliqua. Ut enim ad minim\"}";
