//! What was measured: the table for the terminal, the figures for the file.

use std::fs;

use serde::Serialize;

use crate::contestant::Bench;
use crate::fault::{Result, Trouble};
use crate::scenario::{Job, Pace, Round, Row, Scenario};
use crate::scenarios::Kind;

#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) scenario: &'static str,
    pub(crate) title: &'static str,
    pub(crate) date: String,
    pub(crate) machine: Machine,
    pub(crate) versions: Vec<String>,
    pub(crate) pace: Pace,
    pub(crate) jobs: Vec<JobReport>,
    pub(crate) targets: Vec<Target>,
}

#[derive(Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
}

#[derive(Serialize)]
pub(crate) struct JobReport {
    pub(crate) title: &'static str,
    /// The first is what the others are compared with.
    pub(crate) contestants: Vec<Standing>,
}

#[derive(Serialize)]
pub(crate) struct Standing {
    pub(crate) name: &'static str,
    /// Of each figure by itself, over the rounds.
    pub(crate) median: Round,
    pub(crate) cpu_us_lowest: f64,
    pub(crate) cpu_us_highest: f64,
    /// Processor time per request as a multiple of the first contestant's in the same round: the
    /// median of that.
    pub(crate) cpu_ratio: f64,
    pub(crate) resident_at_start_kib: u64,
    pub(crate) resident_after_kib: u64,
    pub(crate) rounds: Vec<Round>,
}

#[derive(Serialize)]
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) measured: f64,
    pub(crate) at_most: f64,
    pub(crate) met: bool,
}

impl Report {
    pub(crate) fn new(
        kind: &Kind,
        bench: &Bench,
        scenario: &Scenario,
        pace: &Pace,
        rows: Vec<Row>,
    ) -> Result<Self> {
        let jobs = standings(scenario, rows);
        Ok(Self {
            scenario: kind.name,
            title: kind.title,
            date: jiff::Timestamp::now()
                .strftime("%Y-%m-%d %H:%M UTC")
                .to_string(),
            machine: Machine::this()?,
            versions: [bench.versions()?, scenario.versions.clone()].concat(),
            pace: pace.clone(),
            targets: targets(scenario, &jobs),
            jobs,
        })
    }

    pub(crate) fn json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        text.map(|text| text + "\n")
            .trouble(|| "cannot write the figures as JSON".to_owned())
    }

    /// For a terminal of 100 columns.
    pub(crate) fn table(&self) -> String {
        let mut lines = vec![
            format!("\n{}\n{}", self.title, self.circumstances()),
            HEAD.to_owned(),
        ];
        for job in &self.jobs {
            lines.push(job.title.to_owned());
            lines.extend(job.contestants.iter().map(Standing::line));
        }
        if self.idle() {
            lines.push(IDLE.to_owned());
        }
        lines.push(String::new());
        lines.extend(self.targets.iter().map(Target::line));
        lines.join("\n") + "\n"
    }

    pub(crate) fn circumstances(&self) -> String {
        let Machine {
            processor,
            cores,
            kernel,
        } = &self.machine;
        let Pace {
            rounds,
            measured,
            connections,
            ..
        } = &self.pace;
        format!(
            "{connections} keep-alive connections, one worker thread each, {rounds} rounds of \
             {measured:?}, medians\n{processor}, {cores} cores, Linux {kernel}; {}; {}",
            self.versions.join(", "),
            self.date
        )
    }

    fn idle(&self) -> bool {
        let mut standings = self.jobs.iter().flat_map(|job| &job.contestants);
        standings.any(|standing| standing.median.busy_percent < 90.0)
    }
}

impl Standing {
    fn new(scenario: &Scenario, row: Row, cpu_ratio: f64) -> Self {
        let contestant = &scenario.contestants[row.contestant];
        let costs = || row.rounds.iter().map(|round| round.cpu_us_per_request);
        let median = Round::median(&row.rounds);
        Self {
            name: contestant.name,
            cpu_us_lowest: costs().fold(f64::INFINITY, f64::min),
            cpu_us_highest: costs().fold(0.0, f64::max),
            cpu_ratio,
            median,
            resident_at_start_kib: contestant.resident_at_start,
            resident_after_kib: row.resident_after,
            rounds: row.rounds,
        }
    }

    fn line(&self) -> String {
        let Round {
            requests_per_second,
            cpu_us_per_request,
            busy_percent,
            p50_us,
            p99_us,
            max_us,
            ..
        } = self.median;
        let range = format!("{:.1}-{:.1}", self.cpu_us_lowest, self.cpu_us_highest);
        let memory = [self.resident_at_start_kib, self.resident_after_kib]
            .map(|kib| format!("{:.1}", kib as f64 / 1024.0));
        format!(
            "  {:<14}{requests_per_second:>9.0}{cpu_us_per_request:>9.1}{range:>12}{:>8.2}\
             {busy_percent:>6.0}{p50_us:>8.0}{p99_us:>8.0}{max_us:>8.0}{:>8}{:>7}",
            self.name, self.cpu_ratio, memory[0], memory[1]
        )
    }
}

impl Target {
    fn line(&self) -> String {
        let Self {
            what,
            measured,
            at_most,
            met,
        } = self;
        let verdict = if *met { "met   " } else { "MISSED" };
        format!("{verdict}  {what}: {measured:.2}, wanted at most {at_most}")
    }
}

impl Round {
    fn median(rounds: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(rounds.iter().map(figure).collect());
        Self {
            requests: of(|round| round.requests as f64) as u64,
            seconds: of(|round| round.seconds),
            requests_per_second: of(|round| round.requests_per_second),
            cpu_us_per_request: of(|round| round.cpu_us_per_request),
            busy_percent: of(|round| round.busy_percent),
            upstream_busy_percent: of(|round| round.upstream_busy_percent),
            load_busy_percent: of(|round| round.load_busy_percent),
            p50_us: of(|round| round.p50_us),
            p99_us: of(|round| round.p99_us),
            max_us: of(|round| round.max_us),
        }
    }
}

impl Machine {
    fn this() -> Result<Self> {
        let read =
            |file: &str| fs::read_to_string(file).trouble(|| format!("cannot read `{file}`"));
        let processors = read("/proc/cpuinfo")?;
        let named = processors
            .lines()
            .find(|line| line.starts_with("model name"));
        let name = named
            .and_then(|line| line.split_once(": "))
            .map_or("unnamed processor", |(_, name)| name);
        Ok(Self {
            processor: name.to_owned(),
            cores: processors
                .lines()
                .filter(|line| line.starts_with("processor"))
                .count(),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        })
    }
}

/// Rows come job by job, and within a job the one to compare with comes first.
fn standings(scenario: &Scenario, rows: Vec<Row>) -> Vec<JobReport> {
    let titled = |job: &Job| JobReport {
        title: job.title,
        contestants: Vec::new(),
    };
    let mut jobs: Vec<JobReport> = scenario.jobs.iter().map(titled).collect();
    for row in rows {
        let contestants = &mut jobs[row.job].contestants;
        let yardstick = contestants
            .first()
            .map_or(&row.rounds, |first| &first.rounds);
        let ratio = paired_ratio(&row.rounds, yardstick);
        contestants.push(Standing::new(scenario, row, ratio));
    }
    jobs
}

/// The median of the ratios of rounds that were measured one after the other: the speed of a virtual
/// machine changes by more within minutes than contestants differ.
fn paired_ratio(rounds: &[Round], yardstick: &[Round]) -> f64 {
    let pairs = rounds.iter().zip(yardstick);
    median(
        pairs
            .map(|(own, first)| own.cpu_us_per_request / first.cpu_us_per_request)
            .collect(),
    )
}

fn targets(scenario: &Scenario, jobs: &[JobReport]) -> Vec<Target> {
    let target = |what, measured, at_most| Target {
        what,
        measured,
        at_most,
        met: measured <= at_most,
    };
    let mut targets = Vec::new();
    for (job, report) in scenario.jobs.iter().zip(jobs) {
        let Some((at_most, (first, others))) = job.at_most.zip(report.contestants.split_first())
        else {
            continue;
        };
        targets.extend(others.iter().map(|other| {
            let what = format!(
                "{}, CPU per request, {} / {}",
                job.title, other.name, first.name
            );
            target(what, other.cpu_ratio, at_most)
        }));
    }
    let small = |name: &&str| scenario.small_at_start.contains(name);
    targets.extend(
        scenario
            .contestants
            .iter()
            .filter(|contestant| small(&contestant.name))
            .map(|contestant| {
                let what = format!("resident memory at start in MiB, {}", contestant.name);
                target(what, contestant.resident_at_start as f64 / 1024.0, 40.0)
            }),
    );
    targets
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() % 2 {
        1 => figures[middle],
        _ => f64::midpoint(figures[middle - 1], figures[middle]),
    }
}

const HEAD: &str = concat!(
    "                 requests   CPU us     lowest-          busy     p50     p99     max  MiB at    MiB\n",
    "                  /second /request     highest   ratio     %      us      us      us   start  after",
);

const IDLE: &str = "\
Busy under 90 %: that contestant was held back, by the load, the upstream, or something else on this
machine. Its requests per second are a lower bound. If its lowest and highest CPU are far apart too,
measure again when nothing else runs.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_odd_round_does_not_move_the_median() {
        assert_eq!(median(vec![3.0, 1.0, 900.0]), 3.0);
        assert_eq!(median(vec![4.0, 2.0]), 3.0);
    }

    #[test]
    fn this_machine_has_a_kernel_and_at_least_one_core() {
        let machine = Machine::this().unwrap();
        assert!(machine.cores > 0 && !machine.kernel.is_empty());
    }
}
