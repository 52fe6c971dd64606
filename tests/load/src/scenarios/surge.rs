//! A page that is slow to make, and many who want it at once: what the application sees with `ttl: 1s`, and
//! what it sees without a cache.
//!
//! Nobody competes, so there are no rounds, but findings.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::application::{self, Application, SLOW};
use crate::arrivals::Arrivals;
use crate::contestant::{Bench, Contestant};
use crate::fault::Result;
use crate::http;
use crate::load::{Answers, Load, Plan};
use crate::scenario::{After, Figure, Finding, Scenario, Stop, Upstream};

/// Starts the gateway twice.
pub(crate) fn prepare(bench: &Bench) -> Result<Scenario> {
    let application = Rc::new(Application::start()?);
    let after = match bench.has_edgeway() {
        true => Some(both(bench, &application)?),
        false => None,
    };
    let upstream = Upstream::Unasked(application);
    Ok(Scenario {
        after,
        ..Scenario::new(Figure::Cpu, Vec::new(), Vec::new(), upstream)
    })
}

fn both(bench: &Bench, application: &Rc<Application>) -> Result<After> {
    let start = |name, cache| bench.edgeway(name, &routes(application.address(), cache));
    let with = start("edgeway with ttl 1s", "cache: { ttl: 1s }")?;
    let without = start("edgeway without a cache", "")?;
    let application = Rc::clone(application);
    Ok(Box::new(move |_, stop| {
        let with = surge(&with, &application, stop)?;
        let without = surge(&without, &application, stop)?;
        Ok(findings(&with, &without))
    }))
}

fn routes(application: SocketAddr, cache: &str) -> String {
    format!(
        "upstreams: {{ app: {{ endpoints: [\"{application}\"] }} }}
routes:
  - match: {{ path: / }}
    upstream: app
    {cache}
"
    )
}

/// What was seen on both sides. An answer that is not the page ends the run.
struct Seen {
    per_second: f64,
    slowest: Duration,
    /// Requests that the application saw.
    asked: u64,
}

fn surge(contestant: &Contestant, application: &Application, stop: &Stop) -> Result<Seen> {
    let plan = Plan {
        arrivals: Arrivals::WhenAnswered,
        requests: vec![http::get(SLOW, &[])],
        answers: Answers::AnyOf(vec![application::body(SLOW)]),
        watched: None,
    };
    let before = application.asked();
    let mut load = Load::open(contestant.peer("surge"), &plan, CLIENTS, 1)?;
    let window = load.drive(SECONDS, stop)?;
    Ok(Seen {
        per_second: window.latency.len() as f64 / window.elapsed.as_secs_f64(),
        slowest: Duration::from_nanos(window.latency.max()),
        asked: application.asked() - before,
    })
}

fn findings(with: &Seen, without: &Seen) -> Vec<Finding> {
    let finding = |what: &str, measured, at_most| Finding {
        what: format!("{CLIENTS} clients, {what}"),
        measured,
        at_most,
    };
    let slowest = with.slowest.as_secs_f64() * 1e3;
    vec![
        finding("right answers a second", with.per_second.round(), None),
        finding("the same without a cache", without.per_second.round(), None),
        finding("ratio of these", with.per_second / without.per_second, None),
        finding("slowest answer in ms", slowest.round(), None),
        finding(
            "asked of the application without a cache",
            without.asked as f64,
            None,
        ),
        finding("asked of the application", with.asked as f64, Some(11.0)),
    ]
}

const CLIENTS: u16 = 200;
const SECONDS: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_application_may_see_with_a_cache_is_the_only_target() {
        let seen = |per_second, asked| Seen {
            per_second,
            slowest: Duration::from_millis(100),
            asked,
        };
        let findings = findings(&seen(60_000.0, 10), &seen(2_000.0, 20_000));
        let ratio = findings
            .iter()
            .find(|finding| finding.what.contains("ratio"));
        assert_eq!(ratio.map(|finding| finding.measured), Some(30.0));
        let targets = findings.iter().filter(|finding| finding.at_most.is_some());
        let targets: Vec<_> = targets
            .map(|target| (target.measured, target.at_most))
            .collect();
        assert_eq!(targets, [(10.0, Some(11.0))]);
    }
}
