//! Balancing between three endpoints, one of which is slow: always, or a quarter of the time.

use std::net::SocketAddr;

use crate::arrivals::Arrivals;
use crate::contestant::{Bench, Contestant};
use crate::endpoints::{ALWAYS, AT_TIMES, BODIES, COUNT, Endpoints, SLOW_BODY};
use crate::fault::{Fault, Result};
use crate::http;
use crate::load::{Answers, Plan};
use crate::scenario::{Figure, Job, Scenario, Upstream};
use crate::scenarios::NGINX_PROXY_PASS;

/// Starts everything, and asserts that everyone uses all of the endpoints while they are alike.
pub(crate) fn prepare(bench: &Bench) -> Result<Scenario> {
    let endpoints = Endpoints::start()?;
    let proved = |contestant: &dyn Fn() -> Result<Contestant>| {
        let before = endpoints.sent();
        let contestant = contestant()?;
        reaches_all(&contestant, &endpoints, &before)?;
        Ok::<_, Fault>(contestant)
    };
    let mut contestants = vec![
        proved(&|| nginx(bench, "nginx least_conn", "least_conn;", &endpoints))?,
        proved(&|| nginx(bench, "nginx", "", &endpoints))?,
    ];
    if bench.has_edgeway() {
        for (name, policy) in POLICIES {
            let routes = routes(policy, &endpoints.addresses());
            contestants.push(proved(&|| bench.edgeway(name, &routes))?);
        }
    }
    let everyone = || (0..contestants.len()).collect();
    let jobs = vec![
        job("one always slow", ALWAYS, everyone()),
        job("one slow at times", AT_TIMES, everyone()),
    ];
    let upstream = Upstream::Endpoints(endpoints);
    Ok(Scenario::new(Figure::P99, contestants, jobs, upstream))
}

fn job(title: &'static str, path: &str, contestants: Vec<usize>) -> Job {
    Job {
        title,
        contestants,
        plan: Plan {
            arrivals: Arrivals::Planned {
                per_second: PER_SECOND,
            },
            requests: vec![http::get(path, &[])],
            answers: Answers::AnyOf(BODIES.map(|body| body.into()).into()),
            watched: Some(SLOW_BODY),
        },
        at_most: vec![
            ("edgeway least_connections", 1.0),
            ("edgeway least_time", 1.0),
        ],
    }
}

fn nginx(
    bench: &Bench,
    name: &'static str,
    policy: &str,
    endpoints: &Endpoints,
) -> Result<Contestant> {
    let servers: String = endpoints
        .addresses()
        .iter()
        .map(|address| format!("        server {address};\n"))
        .collect();
    bench.nginx(name, "", |address| {
        format!(
            "    upstream app {{
        {policy}
{servers}        keepalive 64;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {address};
        location / {{
{NGINX_PROXY_PASS}
        }}
    }}"
        )
    })
}

fn routes(policy: &str, endpoints: &[SocketAddr]) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(SocketAddr::to_string).collect();
    // The debug output of strings is a YAML list of strings.
    format!(
        "upstreams: {{ app: {{ balance: {policy}, endpoints: {endpoints:?} }} }}
routes:
  - match: {{ path: / }}
    upstream: app
"
    )
}

/// One request after the other, with nothing slow. Since `before` each endpoint must have answered some,
/// the first request of all included, and with round robin all the same number, or one more.
fn reaches_all(contestant: &Contestant, endpoints: &Endpoints, before: &[u64]) -> Result<()> {
    let wrong = |what: String| Fault::Answer(format!("{}, asked in turn: {what}", contestant.name));
    for _ in 0..ASKED {
        let (status, body) = http::ask(contestant.address, &http::get("/", &[]))
            .map_err(|error| wrong(error.to_string()))?;
        let known = BODIES[..COUNT].iter().any(|known| known.as_bytes() == body);
        if status != 200 || !known {
            return Err(wrong(format!("{status}, `{}`", body.escape_ascii())));
        }
    }
    let pairs = endpoints.sent().into_iter().zip(before).take(COUNT);
    let counts: Vec<u64> = pairs.map(|(after, before)| after - before).collect();
    let round_robin = ["nginx", "edgeway round_robin"].contains(&contestant.name);
    match is_fair(&counts, round_robin) {
        true => Ok(()),
        false => Err(wrong(format!("{counts:?} answers of the endpoints"))),
    }
}

fn is_fair(counts: &[u64], round_robin: bool) -> bool {
    let fewest = counts.iter().copied().min().unwrap_or_default();
    let evenly = || counts.iter().all(|count| *count <= fewest + 1);
    fewest > 0 && (!round_robin || evenly())
}

/// The contestants of ours, by name, and what is written in the file.
const POLICIES: [(&str, &str); 4] = [
    ("edgeway round_robin", "round_robin"),
    ("edgeway least_connections", "least_connections"),
    ("edgeway least_time", "least_time"),
    ("edgeway random_two", "random_two"),
];

const ASKED: usize = 60;

/// Leaves everyone idle most of the time, so that what is measured is where requests went.
const PER_SECOND: u32 = 2_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_must_use_all_endpoints_and_round_robin_evenly() {
        assert!(is_fair(&[1, 1, 59], false));
        assert!(!is_fair(&[0, 1, 60], false));
        assert!(is_fair(&[21, 20, 20], true));
        assert!(!is_fair(&[22, 20, 20], true));
    }

    #[test]
    fn endpoints_are_written_as_yaml_strings() {
        let endpoints = ["127.0.0.1:1", "127.0.0.1:2"].map(|text| text.parse().unwrap());
        let routes = routes("least_time", &endpoints);
        assert!(
            routes.contains(r#"balance: least_time, endpoints: ["127.0.0.1:1", "127.0.0.1:2"]"#),
            "{routes}"
        );
    }
}
