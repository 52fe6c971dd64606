//! A limit of requests for each client: what it costs those that pass, what it costs with some that are
//! refused, and the memory that a million clients take.

use std::net::SocketAddr;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use crate::arrivals::Arrivals;
use crate::contestant::{Bench, Contestant};
use crate::fault::{Fault, Result};
use crate::http;
use crate::load::{Answers, Load, Plan};
use crate::scenario::{Addition, After, Figure, Finding, Job, Scenario, Stop, Upstream, With};
use crate::scenarios::NGINX_PROXY_PASS;

/// Starts everyone, and asserts that whoever limits does so at the same request.
pub(crate) fn prepare(bench: &Bench) -> Result<Scenario> {
    let upstream = upstream(bench)?;
    let behind = upstream.address;
    let mut contestants = vec![
        nginx(bench, NGINX, behind)?,
        nginx(bench, NGINX_LIMIT, behind)?,
    ];
    let mut crowded = vec![nginx(bench, NGINX_CROWD, behind)?];
    if bench.has_edgeway() {
        for name in [EDGEWAY, LIMIT, LIMIT_TOLD] {
            contestants.push(bench.edgeway(name, &routes(name, behind))?);
        }
        crowded.push(bench.edgeway(CROWD, &routes(LIMIT_TOLD, behind))?);
    }
    let limiting: Vec<usize> = (0..contestants.len())
        .filter(|&at| ![NGINX, EDGEWAY].contains(&contestants[at].name))
        .collect();
    for &at in &limiting {
        limits(&contestants[at])?;
    }
    let jobs = vec![
        Job {
            title: "1 000 clients, all pass",
            contestants: (0..contestants.len()).collect(),
            plan: plan(&polite(), Answers::AnyOf(vec![BODY.into()])),
            at_most: Vec::new(),
        },
        Job {
            title: "and one that is refused",
            contestants: limiting,
            plan: plan(&with_a_rude_one(), Answers::OrTooMany(BODY.into())),
            at_most: Vec::new(),
        },
    ];
    let addition = |ours| Addition {
        job: 0,
        ours: With(ours, EDGEWAY),
        theirs: With(NGINX_LIMIT, NGINX),
    };
    let after: After = Box::new(move |_, stop| {
        let grown = crowded.iter().map(|contestant| grown(contestant, stop));
        grown.collect()
    });
    Ok(Scenario {
        additions: [LIMIT, LIMIT_TOLD].map(addition).into(),
        after: Some(after),
        ..Scenario::new(Figure::Cpu, contestants, jobs, Upstream::Process(upstream))
    })
}

fn upstream(bench: &Bench) -> Result<Contestant> {
    bench.nginx("upstream", "", |address| {
        format!(
            "    default_type text/plain;
    server {{
        listen {address};
        location / {{ return 200 '{BODY}'; }}
    }}"
        )
    })
}

fn nginx(bench: &Bench, name: &'static str, upstream: SocketAddr) -> Result<Contestant> {
    let (zone, limit) = match name {
        NGINX => ("", ""),
        _ => (
            "limit_req_zone $http_x_client zone=clients:16m rate=100r/s;
    limit_req_status 429;
    limit_req_log_level info;",
            "limit_req zone=clients burst=20 nodelay;",
        ),
    };
    bench.nginx(name, "", |address| {
        format!(
            "    {zone}
    upstream app {{
        server {upstream};
        keepalive 64;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {address};
        location / {{
            {limit}
{NGINX_PROXY_PASS}
        }}
    }}"
        )
    })
}

fn routes(name: &str, upstream: SocketAddr) -> String {
    let filters = match name {
        EDGEWAY => "[]".to_owned(),
        name => format!(
            "[{{ rate_limit: {{ rate: 100/s, burst: 20, key: '{{header.x-client}}', headers: {} }} }}]",
            name == LIMIT_TOLD
        ),
    };
    format!(
        "upstreams: {{ app: {{ endpoints: [\"{upstream}\"] }} }}
routes:
  - match: {{ path: / }}
    filters: {filters}
    upstream: app
"
    )
}

/// Asks as one client until it is refused: not before the burst is used up, and soon after that.
fn limits(contestant: &Contestant) -> Result<()> {
    let request = request("proof");
    let statuses = (0..2_000).map(|_| http::ask(contestant.address, &request));
    let mut passed = 0;
    for answer in statuses {
        let wrong = |what: String| Fault::Answer(format!("{}: {what}", contestant.name));
        match answer.map_err(|error| wrong(error.to_string()))? {
            (200, body) if body == BODY.as_bytes() => passed += 1,
            (429, _) if passed > 20 => return Ok(()),
            (status, _) => {
                return Err(wrong(format!("status {status} after {passed} that passed")));
            }
        }
    }
    let what = "2 000 requests of one client have passed";
    Err(Fault::Answer(format!("{}: {what}", contestant.name)))
}

/// Has a million clients come, each once, and tells by how much memory has grown.
fn grown(contestant: &Contestant, stop: &Stop) -> Result<Finding> {
    // What the first of everything needs is not a matter of clients. So often nobody is refused.
    let plan = plan(&vec![name(0); 20], Answers::AnyOf(vec![BODY.into()]));
    Load::open(contestant.peer("warm up"), &plan, 4, 1)?.ask_each(stop)?;
    thread::sleep(PAUSE);
    let before = contestant.process.memory()?;
    for batch in 1..=BATCHES {
        ask_each(contestant, batch * BATCH..(batch + 1) * BATCH, stop)?;
    }
    thread::sleep(PAUSE);
    let grown = contestant.process.memory()?.saturating_sub(before) as f64 / 1_024.0;
    let ours = contestant.name == CROWD;
    Ok(Finding {
        what: format!("{}: MiB more after 1 000 000 clients", contestant.name),
        measured: (grown * 100.0).round() / 100.0,
        // The memory of the limit, and a little for the process.
        at_most: ours.then_some(18.0),
    })
}

fn ask_each(contestant: &Contestant, clients: std::ops::Range<u32>, stop: &Stop) -> Result<()> {
    let names: Vec<_> = clients.map(name).collect();
    let plan = plan(&names, Answers::AnyOf(vec![BODY.into()]));
    Load::open(contestant.peer("each once"), &plan, 64, 1)?.ask_each(stop)
}

fn plan(clients: &[Rc<str>], answers: Answers) -> Plan {
    Plan {
        arrivals: Arrivals::WhenAnswered,
        requests: clients.iter().map(|client| request(client)).collect(),
        watched: matches!(answers, Answers::OrTooMany(_)).then_some(1),
        answers,
    }
}

/// Each of them asks so rarely that it is never refused.
fn polite() -> Vec<Rc<str>> {
    (0..1_000).map(name).collect()
}

/// The same, and one who asks as often as a tenth of all others, and is refused most of the time.
fn with_a_rude_one() -> Vec<Rc<str>> {
    let rude: Rc<str> = "rude".into();
    polite()
        .chunks(10)
        .flat_map(|ten| ten.iter().cloned().chain([Rc::clone(&rude)]))
        .collect()
}

fn name(number: u32) -> Rc<str> {
    format!("client-{number:07}").into()
}

fn request(client: &str) -> Vec<u8> {
    http::get("/", &[&format!("X-Client: {client}")])
}

const NGINX: &str = "nginx";
const NGINX_LIMIT: &str = "nginx + limit_req";
const NGINX_CROWD: &str = "nginx + limit_req + crowd";
const EDGEWAY: &str = "edgeway";
const LIMIT: &str = "edgeway + limit";
/// With the headers that tell clients what is left, which nginx does not have.
const LIMIT_TOLD: &str = "edgeway + limit + headers";
const CROWD: &str = "edgeway + crowd";
const BODY: &str = "hello";
const BATCH: u32 = 50_000;
const BATCHES: u32 = 20;
const PAUSE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rude_one_asks_once_for_every_ten() {
        let clients = with_a_rude_one();
        assert_eq!(clients.len(), 1_100);
        assert_eq!(
            clients.iter().filter(|client| &***client == "rude").count(),
            100
        );
    }
}
