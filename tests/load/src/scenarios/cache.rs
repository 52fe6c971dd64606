//! Answers from a cache, beside nginx with `proxy_cache` and Varnish.
//!
//! What is measured is stored beforehand. Each answer has to say that it is a hit, and the application
//! must not be asked while any of them is timed.

use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;

use crate::application::{self, Application, LARGE, SMALL_BODY};
use crate::arrivals::{Arrivals, chance};
use crate::contestant::{Bench, Contestant};
use crate::fault::{Fault, Result};
use crate::http::{self, Sign};
use crate::load::{Answers, Load, Plan};
use crate::scenario::{Figure, Finding, Growth, Job, Scenario, Upstream};
use crate::scenarios::NGINX_PROXY_PASS;

/// Starts everyone, and has them store all that is asked for later.
pub(crate) fn prepare(bench: &Bench) -> Result<Scenario> {
    let application = Rc::new(Application::start()?);
    let mut contestants = contestants(bench, application.address())?;
    let mut findings = Vec::new();
    let pages = pages(["/", LARGE]);
    let (few, rest) = (objects(0..FEW), objects(FEW..MANY));
    for contestant in &mut contestants {
        store(contestant, &pages, &application, bench)?;
        store(contestant, &few, &application, bench)?;
        if contestant.name == OPEN {
            continue;
        }
        let before = (contestant.process.memory()?, bench.taken_in_memory()?);
        store(contestant, &rest, &application, bench)?;
        let memory_grown = contestant.process.memory()?.saturating_sub(before.0);
        findings.push(memory(contestant.name, memory_grown));
        if contestant.name == NGINX {
            findings.push(files(bench.taken_in_memory()?.saturating_sub(before.1)));
        }
    }
    let (jobs, upstream) = (jobs(&contestants), Upstream::Unasked(application));
    Ok(Scenario {
        versions: vec![bench.varnish_version()?],
        growth: vec![Growth {
            contestant: EDGEWAY,
            from: 2,
            to: 3,
            at_most: 1.2,
        }],
        findings,
        ..Scenario::new(Figure::Cpu, contestants, jobs, upstream)
    })
}

fn contestants(bench: &Bench, application: SocketAddr) -> Result<Vec<Contestant>> {
    let mut contestants = vec![
        nginx(bench, NGINX, "", application)?,
        nginx(bench, OPEN, OPEN_FILES, application)?,
        varnish(bench, application)?,
    ];
    if bench.has_edgeway() {
        contestants.push(edgeway(bench, application)?);
    }
    Ok(contestants)
}

fn jobs(contestants: &[Contestant]) -> Vec<Job> {
    let everyone = || (0..contestants.len()).collect();
    let filled = |at: &usize| contestants[*at].name != OPEN;
    let filled = || (0..contestants.len()).filter(filled).collect();
    let job = |title, contestants, plan, at_most: &[f64]| Job {
        title,
        contestants,
        plan,
        at_most: at_most.iter().map(|factor| (EDGEWAY, *factor)).collect(),
    };
    vec![
        job("200 bytes", everyone(), pages(["/"]), &[0.75]),
        job("100 KiB", everyone(), pages([LARGE]), &[1.0]),
        job("any of 1 000 objects", everyone(), objects(0..FEW), &[]),
        job("any of 200 000 objects", filled(), objects(0..MANY), &[]),
    ]
}

/// Microcaching as nginx's own articles have it; `extra` is for the `http` block.
fn nginx(
    bench: &Bench,
    name: &'static str,
    extra: &str,
    application: SocketAddr,
) -> Result<Contestant> {
    let folder = bench.in_memory(name);
    let folder = folder.display();
    // Without `tcp_nopush`: with it, nginx holds back the end of a large answer from its cache for 40 ms. The
    // loader, which looks at all files a minute after the start, is to be done at once.
    let contestant = bench.nginx(name, "", |address| {
        format!(
            "    sendfile on;{extra}
    proxy_cache_path \"{folder}\" levels=1:2 keys_zone=pages:100m max_size=4g inactive=1d
        use_temp_path=off loader_files=1000000 loader_threshold=10s;
    upstream app {{
        server {application};
        keepalive 64;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {address};
        location / {{
            proxy_cache pages;
            proxy_cache_valid 200 1h;
            proxy_cache_lock on;
            proxy_cache_use_stale error timeout updating;
            proxy_cache_background_update on;
            add_header X-Cache $upstream_cache_status;
{NGINX_PROXY_PASS}
        }}
    }}"
        )
    })?;
    Ok(signed(contestant, Sign("X-Cache", "HIT")))
}

fn varnish(bench: &Bench, application: SocketAddr) -> Result<Contestant> {
    let (host, port) = (application.ip(), application.port());
    let contestant = bench.varnish(
        "varnish",
        &format!(
            "backend app {{ .host = \"{host}\"; .port = \"{port}\"; }}
sub vcl_deliver {{
    if (obj.hits > 0) {{ set resp.http.X-Cache = \"HIT\"; }} else {{ set resp.http.X-Cache = \"MISS\"; }}
}}
"
        ),
    )?;
    Ok(signed(contestant, Sign("X-Cache", "HIT")))
}

fn edgeway(bench: &Bench, application: SocketAddr) -> Result<Contestant> {
    let contestant = bench.edgeway(EDGEWAY, &routes(application))?;
    Ok(signed(contestant, Sign("Cache-Status", "edgeway; hit")))
}

fn signed(contestant: Contestant, sign: Sign) -> Contestant {
    Contestant {
        sign: Some(sign),
        ..contestant
    }
}

fn routes(application: SocketAddr) -> String {
    format!(
        "caches: {{ pages: {{ memory: 2GiB }} }}
upstreams: {{ app: {{ endpoints: [\"{application}\"] }} }}
routes:
  - match: {{ path: / }}
    upstream: app
    cache: {{ ttl: 1h, zone: pages }}
"
    )
}

/// Asks once for each, which the application has to answer, and again, which it must not see.
fn store(
    contestant: &Contestant,
    plan: &Plan,
    application: &Application,
    bench: &Bench,
) -> Result<()> {
    let before = application.asked();
    let mut peer = contestant.peer("storing");
    peer.sign = None;
    Load::open(peer, plan, CONNECTIONS, 1)?.ask_each(bench.stop())?;
    let stored = application.asked();
    Load::open(contestant.peer("once more"), plan, CONNECTIONS, 1)?.ask_each(bench.stop())?;
    let (fetched, more) = (stored - before, application.asked() - stored);
    // The first page of all was asked for when the contestant was started.
    let all = plan.requests.len() as u64;
    match (all.saturating_sub(1)..=all).contains(&fetched) && more == 0 {
        true => Ok(()),
        false => Err(Fault::Answer(format!(
            "{}: the application was asked {fetched} times for {all} pages, and {more} times more when they \
             were stored",
            contestant.name
        ))),
    }
}

fn pages<const N: usize>(paths: [&str; N]) -> Plan {
    plan(paths.iter().map(|path| (*path).to_owned()))
}

/// In an order that nobody can guess.
fn objects(numbers: Range<u32>) -> Plan {
    let mut numbers: Vec<u64> = numbers.map(u64::from).collect();
    numbers.sort_by(|one, other| chance(*one).total_cmp(&chance(*other)));
    plan(numbers.iter().map(|number| format!("/object/{number}")))
}

fn plan(paths: impl Iterator<Item = String> + Clone) -> Plan {
    Plan {
        arrivals: Arrivals::WhenAnswered,
        requests: paths.clone().map(|path| http::get(&path, &[])).collect(),
        answers: Answers::Each(paths.map(|path| application::body(&path)).collect()),
        watched: None,
    }
}

fn memory(name: &str, grown: u64) -> Finding {
    Finding {
        what: format!("memory by stored object of {SMALL_BODY} bytes, {name}"),
        measured: ((grown * 1024) / u64::from(MANY - FEW)) as f64,
        at_most: None,
    }
}

/// What nginx keeps in files, each of which takes up whole pages.
fn files(grown: u64) -> Finding {
    Finding {
        what: format!("and in files, {NGINX}"),
        measured: (grown / u64::from(MANY - FEW)) as f64,
        at_most: None,
    }
}

const EDGEWAY: &str = "edgeway";
/// As its own articles have it.
const NGINX: &str = "nginx";
/// With what spares it opening files. It is not given more objects than it has open files.
const OPEN: &str = "nginx, open files";
const OPEN_FILES: &str = "
    open_file_cache max=10000 inactive=1h;
    open_file_cache_valid 1h;";

const FEW: u32 = 1_000;
const MANY: u32 = 200_000;
/// At once, while contestants store.
const CONNECTIONS: u16 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_is_asked_for_once_and_not_in_order() {
        let plan = objects(5..1_000);
        let Answers::Each(bodies) = &plan.answers else {
            panic!("each has its own");
        };
        for (request, body) in plan.requests.iter().zip(bodies) {
            let path = http::path(request).unwrap().unwrap();
            assert_eq!(*body, application::body(&path));
        }
        let ordered: Vec<_> = (5..1_000)
            .map(|number| http::get(&format!("/object/{number}"), &[]))
            .collect();
        assert_ne!(plan.requests, ordered);
        let sorted = |mut requests: Vec<Vec<u8>>| {
            requests.sort();
            requests
        };
        assert_eq!(sorted(plan.requests), sorted(ordered));
    }
}
