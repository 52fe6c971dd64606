//! A scenario: contestants that do the same jobs, measured in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::contestant::Contestant;
use crate::fault::{Fault, Result};
use crate::load::{Load, Plan, Window};
use crate::process;

/// Contestants that have been checked, and the jobs to compare them by.
pub(crate) struct Scenario {
    pub(crate) contestants: Vec<Contestant>,
    pub(crate) jobs: Vec<Job>,
    /// What stands behind the contestants.
    pub(crate) upstream: Contestant,
    /// Of what the bench does not know about.
    pub(crate) versions: Vec<String>,
    /// The contestants whose resident memory at start has a target.
    pub(crate) small_at_start: Vec<&'static str>,
}

/// One kind of request, and who competes at answering it.
pub(crate) struct Job {
    pub(crate) title: &'static str,
    /// Positions in `Scenario::contestants`; the first is what the others are compared with.
    pub(crate) contestants: Vec<usize>,
    pub(crate) plan: Plan,
    /// The most processor time per request that is wanted, as a multiple of the first's.
    pub(crate) at_most: Option<f64>,
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
    pub(crate) upstream_busy_percent: f64,
    pub(crate) load_busy_percent: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
}

impl Scenario {
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
        for round in 1..=pace.rounds {
            say(&format!("round {round} of {}", pace.rounds))?;
            let mut order: Vec<_> = rows.iter_mut().collect();
            if round % 2 == 0 {
                order.reverse();
            }
            for row in order {
                row.rounds.push(self.round(row, pace, stop)?);
            }
        }
        for row in &mut rows {
            row.resident_after = self.contestants[row.contestant].process.resident()?;
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

    fn round(&self, row: &Row, pace: &Pace, stop: &Stop) -> Result<Round> {
        let contestant = &self.contestants[row.contestant];
        let job = &self.jobs[row.job];
        let who = format!("{} ({})", contestant.name, job.title);
        let mut load = Load::open(who, contestant.address, &job.plan, pace.connections)?;
        load.drive(pace.warm_up, stop)?;
        let before = self.spent(contestant)?;
        let window = load.drive(pace.measured, stop)?;
        Ok(Round::new(&window, &self.spent(contestant)?.since(&before)))
    }

    fn spent(&self, contestant: &Contestant) -> Result<Spent> {
        Ok(Spent {
            contestant: contestant.process.cpu()?,
            upstream: self.upstream.process.cpu()?,
            load: process::own_cpu()?,
        })
    }
}

/// Processor time of everyone who has a part in a request.
struct Spent {
    contestant: Duration,
    upstream: Duration,
    load: Duration,
}

impl Spent {
    fn since(&self, before: &Self) -> Self {
        Self {
            contestant: self.contestant.saturating_sub(before.contestant),
            upstream: self.upstream.saturating_sub(before.upstream),
            load: self.load.saturating_sub(before.load),
        }
    }
}

impl Round {
    fn new(window: &Window, spent: &Spent) -> Self {
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
            upstream_busy_percent: busy(spent.upstream),
            load_busy_percent: busy(spent.load),
            p50_us: microseconds(0.5),
            p99_us: microseconds(0.99),
            max_us: window.latency.max() as f64 / 1e3,
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
