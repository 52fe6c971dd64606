//! A scenario: contestants that do the same jobs, measured in turn.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::application::Application;
use crate::contestant::Contestant;
use crate::endpoints::Endpoints;
use crate::fault::{Fault, Result};
use crate::load::{Load, Plan, Window};
use crate::process;

/// Contestants that have been checked, and the jobs to compare them by.
pub(crate) struct Scenario {
    pub(crate) compared_by: Figure,
    pub(crate) contestants: Vec<Contestant>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) upstream: Upstream,
    /// Of what the bench does not know about.
    pub(crate) versions: Vec<String>,
    /// The contestants whose resident memory at start has a target.
    pub(crate) small_at_start: Vec<&'static str>,
    pub(crate) growth: Vec<Growth>,
    pub(crate) additions: Vec<Addition>,
    /// What was found beside the jobs.
    pub(crate) findings: Vec<Finding>,
    /// What is to be found when the jobs are done.
    pub(crate) after: Option<After>,
}

pub(crate) type After = Box<dyn FnOnce(&[Contestant], &Stop) -> Result<Vec<Finding>>>;

/// How much more than another job one may cost the same contestant.
pub(crate) struct Growth {
    pub(crate) contestant: &'static str,
    /// Positions in `Scenario::jobs`.
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) at_most: f64,
}

/// What something adds to the cost of a request, which is to be no more than what the like of it adds to
/// that of another contestant.
pub(crate) struct Addition {
    /// Position in `Scenario::jobs`.
    pub(crate) job: usize,
    pub(crate) ours: With,
    pub(crate) theirs: With,
}

/// A contestant with something, and the one without.
#[derive(Clone, Copy)]
pub(crate) struct With(pub(crate) &'static str, pub(crate) &'static str);

/// A figure that is measured once.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) what: String,
    pub(crate) measured: f64,
    /// The most that is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at_most: Option<f64>,
}

/// What contestants are compared by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Figure {
    /// Processor time per request.
    Cpu,
    /// The latency that one request in a hundred exceeds.
    P99,
}

/// What stands behind the contestants.
pub(crate) enum Upstream {
    Process(Contestant),
    /// Threads of this program, which count what they answer: with the plan's answers in their order.
    Endpoints(Endpoints),
    /// Threads of this program, which nobody should ask while answers are stored.
    Unasked(Rc<Application>),
    /// Everyone answers by itself.
    Nobody,
}

/// One kind of request, and who competes at answering it.
pub(crate) struct Job {
    pub(crate) title: &'static str,
    /// Positions in `Scenario::contestants`; the first is what the others are compared with.
    pub(crate) contestants: Vec<usize>,
    pub(crate) plan: Plan,
    /// The most that is wanted of whom, as a multiple of the first's.
    pub(crate) at_most: Vec<(&'static str, f64)>,
}

/// How long to look.
#[derive(Clone, Serialize)]
pub(crate) struct Pace {
    pub(crate) rounds: u32,
    #[serde(serialize_with = "seconds")]
    pub(crate) measured: Duration,
    #[serde(serialize_with = "seconds")]
    pub(crate) warm_up: Duration,
    pub(crate) connections: u16,
}

/// One contestant at one job.
pub(crate) struct Row {
    pub(crate) job: usize,
    pub(crate) contestant: usize,
    pub(crate) rounds: Vec<Round>,
    /// KiB, after the last round of all jobs.
    pub(crate) resident_after: u64,
}

#[derive(Clone, Serialize)]
pub(crate) struct Round {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    pub(crate) requests_per_second: f64,
    /// Of the contestant's processes, user and system.
    pub(crate) cpu_us_per_request: f64,
    /// How much of one core the contestant used.
    pub(crate) busy_percent: f64,
    /// Absent if the upstream is part of this program, and so of its load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) upstream_busy_percent: Option<f64>,
    pub(crate) load_busy_percent: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
    /// How late requests left, if their instants were planned: the 99th percentile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) late_p99_us: Option<f64>,
    /// How often each kind of answer came.
    pub(crate) answers: Vec<u64>,
    /// The share of the answer that is watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) watched_percent: Option<f64>,
}

impl Scenario {
    /// With nothing to find but how contestants do at their jobs.
    pub(crate) fn new(
        compared_by: Figure,
        contestants: Vec<Contestant>,
        jobs: Vec<Job>,
        upstream: Upstream,
    ) -> Self {
        Self {
            compared_by,
            contestants,
            jobs,
            upstream,
            versions: Vec::new(),
            small_at_start: Vec::new(),
            growth: Vec::new(),
            additions: Vec::new(),
            findings: Vec::new(),
            after: None,
        }
    }

    /// Every contestant at every job, and again, for as many rounds as the pace asks: what
    /// drifts (heat, neighbours) drifts for all of them. Every other round goes backwards, so that
    /// nobody always comes after the same one.
    pub(crate) fn measure(
        &mut self,
        pace: &Pace,
        stop: &Stop,
        mut say: impl FnMut(&str) -> Result<()>,
    ) -> Result<Vec<Row>> {
        let mut rows = self.rows();
        let rounds = if rows.is_empty() { 0 } else { pace.rounds };
        for round in 1..=rounds {
            say(&format!("round {round} of {}", pace.rounds))?;
            let mut order: Vec<_> = rows.iter_mut().collect();
            if round % 2 == 0 {
                order.reverse();
            }
            for row in order {
                row.rounds.push(self.round(row, pace, round, stop)?);
            }
        }
        for row in &mut rows {
            row.resident_after = self.contestants[row.contestant].process.resident()?;
        }
        if let Some(after) = self.after.take() {
            self.findings.extend(after(&self.contestants, stop)?);
        }
        Ok(rows)
    }

    fn rows(&self) -> Vec<Row> {
        let row = |job, contestant| Row {
            job,
            contestant,
            rounds: Vec::new(),
            resident_after: 0,
        };
        let jobs = self.jobs.iter().enumerate();
        jobs.flat_map(|(at, job)| job.contestants.iter().map(move |&who| row(at, who)))
            .collect()
    }

    fn round(&self, row: &Row, pace: &Pace, number: u32, stop: &Stop) -> Result<Round> {
        let contestant = &self.contestants[row.contestant];
        let job = &self.jobs[row.job];
        let peer = contestant.peer(job.title);
        let who = peer.who.clone();
        let mut load = Load::open(peer, &job.plan, pace.connections, number)?;
        load.drive(pace.warm_up, stop)?;
        let (before, counted) = (self.spent(contestant)?, self.upstream.sent());
        let window = load.drive(pace.measured, stop)?;
        let spent = self.spent(contestant)?.since(&before);
        self.upstream.must_have_sent(&who, &counted, &window)?;
        if job.plan.answers.lack(&window.answers) {
            let what = format!("{who}: of one kind of answer none came");
            return Err(Fault::Answer(what));
        }
        Ok(Round::new(&window, &spent, job.plan.watched))
    }

    fn spent(&self, contestant: &Contestant) -> Result<Spent> {
        Ok(Spent {
            contestant: contestant.process.cpu()?,
            upstream: self.upstream.cpu()?,
            load: process::own_cpu()?,
        })
    }
}

impl Figure {
    pub(crate) fn of(self, round: &Round) -> f64 {
        match self {
            Self::Cpu => round.cpu_us_per_request,
            Self::P99 => round.p99_us,
        }
    }
}

impl Upstream {
    fn cpu(&self) -> Result<Option<Duration>> {
        match self {
            Self::Process(contestant) => contestant.process.cpu().map(Some),
            Self::Endpoints(_) | Self::Unasked(_) | Self::Nobody => Ok(None),
        }
    }

    fn sent(&self) -> Vec<u64> {
        match self {
            Self::Process(_) | Self::Nobody => Vec::new(),
            Self::Endpoints(endpoints) => endpoints.sent(),
            Self::Unasked(application) => vec![application.asked()],
        }
    }

    /// What came must be what was sent since it was counted: no answer twice, or from elsewhere. What is
    /// stored must have been sent by nobody.
    fn must_have_sent(&self, who: &str, counted: &[u64], window: &Window) -> Result<()> {
        let pairs = self.sent().into_iter().zip(counted);
        let sent: Vec<u64> = pairs.map(|(after, before)| after - before).collect();
        match self {
            Self::Endpoints(_) if sent != window.answers => Err(Fault::Answer(format!(
                "{who}: {:?} answers came while the endpoints sent {sent:?}",
                window.answers
            ))),
            Self::Unasked(_) if sent != [0] => Err(Fault::Answer(format!(
                "{who}: the application was asked {} times for what is stored",
                sent[0]
            ))),
            Self::Endpoints(_) | Self::Unasked(_) | Self::Process(_) | Self::Nobody => Ok(()),
        }
    }
}

/// Processor time of everyone who has a part in a request.
struct Spent {
    contestant: Duration,
    upstream: Option<Duration>,
    load: Duration,
}

impl Spent {
    fn since(&self, before: &Self) -> Self {
        Self {
            contestant: self.contestant.saturating_sub(before.contestant),
            upstream: self
                .upstream
                .zip(before.upstream)
                .map(|(after, before)| after.saturating_sub(before)),
            load: self.load.saturating_sub(before.load),
        }
    }
}

impl Round {
    fn new(window: &Window, spent: &Spent, watched: Option<usize>) -> Self {
        let requests = window.latency.len();
        let seconds = window.elapsed.as_secs_f64();
        let microseconds = |quantile| window.latency.value_at_quantile(quantile) as f64 / 1e3;
        let busy = |time: Duration| time.as_secs_f64() * 100.0 / seconds;
        Self {
            requests,
            seconds,
            requests_per_second: requests as f64 / seconds,
            cpu_us_per_request: spent.contestant.as_secs_f64() * 1e6 / requests as f64,
            busy_percent: busy(spent.contestant),
            upstream_busy_percent: spent.upstream.map(busy),
            load_busy_percent: busy(spent.load),
            p50_us: microseconds(0.5),
            p99_us: microseconds(0.99),
            max_us: window.latency.max() as f64 / 1e3,
            late_p99_us: window
                .late
                .as_ref()
                .map(|late| late.value_at_quantile(0.99) as f64 / 1e3),
            answers: window.answers.clone(),
            watched_percent: watched
                .map(|body| window.answers[body] as f64 * 100.0 / requests as f64),
        }
    }
}

/// Set by a signal; looked at wherever the program might stay for a while.
#[derive(Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn new(flag: Arc<AtomicBool>) -> Self {
        Self(flag)
    }

    pub(crate) fn check(&self) -> Result<()> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(Fault::Interrupted),
            false => Ok(()),
        }
    }
}

fn seconds<S: serde::Serializer>(
    time: &Duration,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::*;
    use crate::http;

    #[test]
    fn an_answer_that_no_endpoint_has_sent_is_a_fault() {
        let endpoints = Endpoints::start().unwrap();
        let first = endpoints.addresses()[0];
        let upstream = Upstream::Endpoints(endpoints);
        let counted = upstream.sent();
        http::ask(first, &http::get("/", &[])).unwrap();
        let window = |answers: [u64; 4]| Window {
            elapsed: Duration::ZERO,
            latency: Histogram::new(3).unwrap(),
            late: None,
            answers: answers.to_vec(),
        };
        let check = |answers| upstream.must_have_sent("a proxy", &counted, &window(answers));
        check([1, 0, 0, 0]).unwrap();
        for wrong in [[2, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]] {
            assert!(matches!(check(wrong), Err(Fault::Answer(_))), "{wrong:?}");
        }
    }

    #[test]
    fn an_application_that_is_asked_for_what_is_stored_is_a_fault() {
        let application = Rc::new(Application::start().unwrap());
        let upstream = Upstream::Unasked(Rc::clone(&application));
        let window = Window {
            elapsed: Duration::ZERO,
            latency: Histogram::new(3).unwrap(),
            late: None,
            answers: vec![9],
        };
        let counted = upstream.sent();
        upstream
            .must_have_sent("a cache", &counted, &window)
            .unwrap();
        http::ask(application.address(), &http::get("/", &[])).unwrap();
        let fault = upstream.must_have_sent("a cache", &counted, &window);
        assert!(matches!(fault, Err(Fault::Answer(_))));
    }
}
