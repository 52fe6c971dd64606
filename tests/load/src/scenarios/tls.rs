//! TLS beside nginx, with the same key, versions and suites: what a handshake costs, a full one and one that
//! resumes a session, and what a large page does.
//!
//! Handshakes are made one after the other by this program, so there are no latencies to compare, but processor
//! time of the contestants.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::client::Resumption;

use crate::client::{Client, Identity};
use crate::contestant::{Bench, Contestant};
use crate::fault::{Fault, Result, Trouble};
use crate::scenario::{After, Figure, Finding, Scenario, Stop, Upstream};
use crate::scenarios::median;

/// Starts both.
pub(crate) fn prepare(bench: &Bench) -> Result<Scenario> {
    let identity = Identity::make(bench)?;
    let large = vec![b'x'; LARGE];
    let text = String::from_utf8_lossy(&large).into_owned();
    let file = bench.file("large.txt", &text)?.display().to_string();
    let mut contestants = vec![nginx(bench, &identity, &file)?];
    if bench.has_edgeway() {
        contestants.push(edgeway(bench, &identity, &file)?);
    }
    let full = identity.client(Resumption::disabled())?;
    let resuming = identity.client(Resumption::in_memory_sessions(16))?;
    let after: After = Box::new(move |_, stop| {
        let mut costs = vec![Costs::default(); contestants.len()];
        for round in 0..ROUNDS {
            for turn in 0..contestants.len() {
                // Nobody always comes after the same one.
                let who = (turn + round) % contestants.len();
                let (contestant, costs) = (&contestants[who], &mut costs[who]);
                costs.full.push(handshakes(contestant, &full, false, stop)?);
                costs
                    .resumed
                    .push(handshakes(contestant, &resuming, true, stop)?);
                costs.page.push(pages(contestant, &full, &large, stop)?);
            }
        }
        Ok(findings(&contestants, &costs))
    });
    Ok(Scenario {
        after: Some(after),
        ..Scenario::new(Figure::Cpu, Vec::new(), Vec::new(), Upstream::Nobody)
    })
}

/// Microseconds of processor time, in each round.
#[derive(Clone, Default)]
struct Costs {
    full: Vec<f64>,
    resumed: Vec<f64>,
    page: Vec<f64>,
}

/// What a connection costs that makes a handshake, asks for five bytes, and is closed.
fn handshakes(
    contestant: &Contestant,
    client: &Arc<ClientConfig>,
    resumes: bool,
    stop: &Stop,
) -> Result<f64> {
    // The first has nothing to resume.
    visit(contestant, client)?;
    let before = contestant.process.cpu()?;
    for _ in 0..HANDSHAKES {
        stop.check()?;
        let visited = visit(contestant, client)?;
        if visited.has_resumed() != resumes {
            let name = contestant.name;
            return Err(Fault::Answer(format!(
                "{name}: a session was resumed, or was not"
            )));
        }
    }
    Ok(spent(contestant, before)? / f64::from(HANDSHAKES))
}

fn visit(contestant: &Contestant, client: &Arc<ClientConfig>) -> Result<Client> {
    let mut client = connect(contestant, client)?;
    client.ask(contestant.name, "/", SMALL.as_bytes())?;
    Ok(client)
}

fn connect(contestant: &Contestant, client: &Arc<ClientConfig>) -> Result<Client> {
    Client::connect(contestant.address, Some(client))
        .trouble(|| format!("cannot connect to {}", contestant.name))
}

/// What a large page costs, on one connection.
fn pages(
    contestant: &Contestant,
    client: &Arc<ClientConfig>,
    body: &[u8],
    stop: &Stop,
) -> Result<f64> {
    let mut client = connect(contestant, client)?;
    client.ask(contestant.name, "/large.txt", body)?;
    let before = contestant.process.cpu()?;
    for _ in 0..PAGES {
        stop.check()?;
        client.ask(contestant.name, "/large.txt", body)?;
    }
    Ok(spent(contestant, before)? / f64::from(PAGES))
}

/// In microseconds.
fn spent(contestant: &Contestant, before: Duration) -> Result<f64> {
    let spent = contestant.process.cpu()?.saturating_sub(before);
    Ok(spent.as_secs_f64() * 1e6)
}

fn findings(contestants: &[Contestant], costs: &[Costs]) -> Vec<Finding> {
    let mut findings = Vec::new();
    type Part = fn(&Costs) -> &Vec<f64>;
    let parts: [(&str, Part, Option<f64>); 3] = [
        ("a full handshake", |costs| &costs.full, Some(1.0)),
        ("a resumed handshake", |costs| &costs.resumed, Some(1.0)),
        ("a page of 100 KiB", |costs| &costs.page, None),
    ];
    for (what, part, at_most) in parts {
        for (contestant, costs) in contestants.iter().zip(costs) {
            findings.push(Finding {
                what: format!("{}: us of processor time for {what}", contestant.name),
                measured: median(part(costs)).round(),
                at_most: None,
            });
        }
        if let [nginx, ours] = costs {
            let pairs = part(nginx).iter().zip(part(ours));
            let ratios: Vec<_> = pairs.map(|(nginx, ours)| ours / nginx).collect();
            findings.push(Finding {
                what: format!("edgeway to nginx, {what}"),
                measured: (median(&ratios) * 100.0).round() / 100.0,
                at_most,
            });
        }
    }
    findings
}

fn nginx(bench: &Bench, identity: &Identity, file: &str) -> Result<Contestant> {
    let Identity { chain, key, .. } = identity;
    bench.nginx("nginx", "", |address| {
        format!(
            "    server {{
        listen {address} ssl;
        ssl_certificate {chain};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.3;
        ssl_conf_command Ciphersuites {SUITE};
        ssl_ecdh_curve X25519;
        ssl_session_tickets on;
        sendfile on;
        location = / {{ return 200 \"{SMALL}\"; }}
        location = /large.txt {{ alias {file}; }}
    }}"
        )
    })
}

fn edgeway(bench: &Bench, identity: &Identity, file: &str) -> Result<Contestant> {
    let Identity { chain, key, .. } = identity;
    let tls = format!(
        "tls: {{ certificates: [{{ chain: {chain}, key: {key} }}], min_version: 1.3, cipher_suites: [{SUITE}], groups: [X25519] }}"
    );
    bench.edgeway_listening(
        "edgeway",
        Some(&tls),
        &format!(
            "routes:
  - match: {{ path: {{ exact: / }} }}
    respond: {{ text: {SMALL} }}
  - match: {{ path: {{ exact: /large.txt }} }}
    respond: {{ file: {file} }}
"
        ),
    )
}

const SUITE: &str = "TLS_AES_256_GCM_SHA384";
const SMALL: &str = "hello";
const LARGE: usize = 100 << 10;
const ROUNDS: usize = 5;
const HANDSHAKES: u32 = 1_000;
const PAGES: u32 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[]), 0.0);
    }
}
