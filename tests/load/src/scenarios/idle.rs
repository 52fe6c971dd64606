//! Ten thousand connections that have asked once and wait for their next request: the memory that each of them
//! holds, and what those notice who go on asking.
//!
//! Everybody answers by itself, so that nothing but connections is measured. Nobody competes in rounds: there are
//! findings.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::client::Resumption;

use crate::arrivals::Arrivals;
use crate::client::{Client, Identity};
use crate::contestant::{Bench, Contestant};
use crate::fault::{Result, Trouble};
use crate::http;
use crate::load::{Answers, Load, Plan};
use crate::scenario::{After, Figure, Finding, Scenario, Stop, Upstream};

/// Starts everyone.
pub(crate) fn prepare(bench: &Bench) -> Result<Scenario> {
    let identity = Identity::make(bench)?;
    let mut contestants = Vec::new();
    for tls in [None, Some(&identity)] {
        contestants.push((nginx(bench, tls)?, tls.is_some()));
        contestants.push((haproxy(bench, tls)?, tls.is_some()));
        if bench.has_edgeway() {
            contestants.push((edgeway(bench, tls)?, tls.is_some()));
        }
    }
    let client = identity.client(Resumption::disabled())?;
    let after: After = Box::new(move |_, stop| {
        let mut findings = Vec::new();
        for (contestant, secure) in &contestants {
            let tls = secure.then(|| Arc::clone(&client));
            findings.extend(wait_beside(contestant, tls.as_ref(), stop)?);
        }
        Ok(findings)
    });
    Ok(Scenario {
        versions: vec![bench.haproxy_version()?],
        after: Some(after),
        ..Scenario::new(Figure::P99, Vec::new(), Vec::new(), Upstream::Nobody)
    })
}

/// Has the crowd come, ask once, and wait, while others ask.
fn wait_beside(
    contestant: &Contestant,
    tls: Option<&Arc<ClientConfig>>,
    stop: &Stop,
) -> Result<Vec<Finding>> {
    let (name, ours) = (contestant.name, contestant.name.starts_with("edgeway"));
    let finding = |what: &str, measured: f64, at_most: Option<f64>| Finding {
        what: format!("{name}: {what}"),
        measured: (measured * 100.0).round() / 100.0,
        at_most: at_most.filter(|_| ours),
    };
    // What the first of everything needs is not a matter of connections.
    drop(crowd(contestant, WARM_UP, tls, stop)?);
    thread::sleep(PAUSE);
    let secure = tls.is_some();
    let alone = (!secure).then(|| p99(contestant, stop)).transpose()?;
    let before = contestant.process.memory()?;
    let mut waiting = crowd(contestant, CROWD, tls, stop)?;
    thread::sleep(PAUSE);
    let each = contestant.process.memory()?.saturating_sub(before) as f64 / CROWD as f64;
    let most = if secure { 16.0 } else { 2.4 };
    let mut findings = vec![finding("KiB for each idle connection", each, Some(most))];
    if let Some(alone) = alone {
        let beside = p99(contestant, stop)?;
        let ratio = beside.as_secs_f64() / alone.as_secs_f64();
        let what = "p99 of 50 requests a second beside them, as a multiple of that alone";
        findings.push(finding(what, ratio, Some(1.2)));
    }
    // They have waited, and were not just left there.
    for client in waiting.iter_mut().step_by(CROWD / 100) {
        client.ask(name, "/", BODY.as_bytes())?;
    }
    drop(waiting);
    if ours && !secure {
        let grown = come_and_go(contestant, stop)?;
        let what = "MiB more after 100 times 1 000 connections than after 10 times";
        findings.push(finding(what, grown, Some(2.0)));
    }
    Ok(findings)
}

/// How much memory is left behind by connections that have been made, used and closed, in MiB.
fn come_and_go(contestant: &Contestant, stop: &Stop) -> Result<f64> {
    let mut early = 0;
    for time in 1..=100 {
        drop(crowd(contestant, 1_000, None, stop)?);
        if time == 10 {
            thread::sleep(PAUSE);
            early = contestant.process.memory()?;
        }
    }
    thread::sleep(PAUSE);
    Ok(contestant.process.memory()?.saturating_sub(early) as f64 / 1024.0)
}

fn p99(contestant: &Contestant, stop: &Stop) -> Result<Duration> {
    let plan = Plan {
        arrivals: Arrivals::Planned { per_second: 50 },
        requests: vec![http::get("/", &[])],
        answers: Answers::AnyOf(vec![BODY.into()]),
        watched: None,
    };
    let mut load = Load::open(contestant.peer("beside"), &plan, 8, 1)?;
    let window = load.drive(BESIDE, stop)?;
    Ok(Duration::from_nanos(window.latency.value_at_quantile(0.99)))
}

fn crowd(
    contestant: &Contestant,
    size: usize,
    tls: Option<&Arc<ClientConfig>>,
    stop: &Stop,
) -> Result<Vec<Client>> {
    let mut crowd = Vec::with_capacity(size);
    for _ in 0..size {
        stop.check()?;
        let mut client = Client::connect(contestant.address, tls)
            .trouble(|| format!("cannot connect to {}", contestant.name))?;
        client.ask(contestant.name, "/", BODY.as_bytes())?;
        crowd.push(client);
    }
    Ok(crowd)
}

fn nginx(bench: &Bench, tls: Option<&Identity>) -> Result<Contestant> {
    let name = if tls.is_some() {
        "nginx with TLS"
    } else {
        "nginx"
    };
    bench.nginx(name, "worker_rlimit_nofile 19000;", |address| {
        let (kind, files) = match tls {
            None => ("", String::new()),
            Some(Identity { chain, key, .. }) => (
                " ssl",
                format!("ssl_certificate {chain}; ssl_certificate_key {key};"),
            ),
        };
        format!(
            "    server {{
        listen {address}{kind};
        {files}
        keepalive_timeout 600s;
        location / {{ return 200 \"{BODY}\"; }}
    }}"
        )
    })
}

fn haproxy(bench: &Bench, tls: Option<&Identity>) -> Result<Contestant> {
    let name = if tls.is_some() {
        "HAProxy with TLS"
    } else {
        "HAProxy"
    };
    bench.haproxy(name, |address| {
        let tls = tls.map(|identity| format!(" ssl crt {}", identity.both));
        format!(
            "global
    nbthread 1
    no strict-limits
    maxconn 12000
defaults
    mode http
    timeout client 600s
    timeout http-keep-alive 600s
frontend all
    bind {address}{}
    http-request return status 200 content-type text/plain string {BODY}
",
            tls.unwrap_or_default()
        )
    })
}

fn edgeway(bench: &Bench, tls: Option<&Identity>) -> Result<Contestant> {
    let name = if tls.is_some() {
        "edgeway with TLS"
    } else {
        "edgeway"
    };
    let listener = tls.map(|Identity { chain, key, .. }| {
        format!("tls: {{ certificates: [{{ chain: {chain}, key: {key} }}] }}")
    });
    bench.edgeway_listening(
        name,
        listener.as_deref(),
        &format!(
            "connections: {{ max: 12000, per_client: 12000 }}
requests: {{ keepalive: 600s, header_timeout: 600s }}
routes: [{{ respond: {{ text: {BODY} }} }}]
"
        ),
    )
}

const BODY: &str = "hello";
const CROWD: usize = 10_000;
const WARM_UP: usize = 200;
const PAUSE: Duration = Duration::from_secs(2);
const BESIDE: Duration = Duration::from_secs(15);
