//! What was measured: the table for the terminal, the figures for the file.

use std::fs;

use serde::Serialize;

use crate::arrivals::Arrivals;
use crate::contestant::Bench;
use crate::fault::{Result, Trouble};
use crate::scenario::{Addition, Figure, Finding, Growth, Job, Pace, Round, Row, Scenario, With};
use crate::scenarios::Kind;

#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) scenario: &'static str,
    pub(crate) title: &'static str,
    pub(crate) date: String,
    pub(crate) machine: Machine,
    pub(crate) versions: Vec<String>,
    /// None if there are no jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pace: Option<Pace>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) jobs: Vec<JobReport>,
    pub(crate) targets: Vec<Target>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) findings: Vec<Finding>,
    #[serde(skip)]
    pub(crate) compared_by: Figure,
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
    /// If instants were planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) planned_per_second: Option<u32>,
    /// The first is what the others are compared with.
    pub(crate) contestants: Vec<Standing>,
}

#[derive(Serialize)]
pub(crate) struct Standing {
    pub(crate) name: &'static str,
    /// Of each figure by itself, over the rounds.
    pub(crate) median: Round,
    pub(crate) cpu_us: Spread,
    pub(crate) p99_us: Spread,
    pub(crate) resident_at_start_kib: u64,
    pub(crate) resident_after_kib: u64,
    pub(crate) rounds: Vec<Round>,
}

/// How far the rounds are apart, and how they compare.
#[derive(Clone, Serialize)]
pub(crate) struct Spread {
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
    /// As a multiple of the first contestant's in the same round: the median of that.
    pub(crate) ratio: f64,
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
            pace: (!jobs.is_empty()).then(|| pace.clone()),
            targets: targets(scenario, &jobs),
            findings: scenario.findings.clone(),
            compared_by: scenario.compared_by,
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
        let head = match self.compared_by {
            Figure::Cpu => HEAD_BY_CPU,
            Figure::P99 => HEAD_BY_P99,
        };
        let mut lines = vec![format!("\n{}\n{}", self.title, self.circumstances())];
        lines.extend((!self.jobs.is_empty()).then(|| head.to_owned()));
        for job in &self.jobs {
            lines.push(job.title.to_owned());
            let line = |standing: &Standing| standing.line(self.compared_by);
            lines.extend(job.contestants.iter().map(line));
        }
        lines.extend(self.doubt().map(str::to_owned));
        lines.push(String::new());
        let rest = |finding: &&Finding| finding.at_most.is_none();
        lines.extend(self.findings.iter().filter(rest).map(Finding::line));
        lines.extend(self.targets.iter().map(Target::line));
        lines.join("\n") + "\n"
    }

    pub(crate) fn circumstances(&self) -> String {
        let Machine {
            processor,
            cores,
            kernel,
        } = &self.machine;
        let machine = format!(
            "{processor}, {cores} cores, Linux {kernel}; {}; {}",
            self.versions.join(", "),
            self.date
        );
        let Some(Pace {
            rounds,
            measured,
            connections,
            ..
        }) = &self.pace
        else {
            return machine;
        };
        let rates = self.jobs.iter().filter_map(|job| job.planned_per_second);
        let planned = rates
            .max()
            .map(|rate| format!("{rate} requests a second as planned, "));
        let planned = planned.unwrap_or_default();
        format!(
            "{planned}{connections} keep-alive connections, one worker thread each, {rounds} rounds of \
             {measured:?}, medians\n{machine}"
        )
    }

    /// Why the figures may mean less than they seem to.
    fn doubt(&self) -> Option<&'static str> {
        let any = |odd: fn(&Round) -> bool| {
            let mut standings = self.jobs.iter().flat_map(|job| &job.contestants);
            standings.any(|standing| odd(&standing.median))
        };
        match self.compared_by {
            Figure::Cpu if any(|median| median.busy_percent < 90.0) => Some(IDLE),
            Figure::P99 if any(|median| median.late_p99_us.is_some_and(|late| late > 1e3)) => {
                Some(LATE)
            }
            Figure::Cpu | Figure::P99 => None,
        }
    }
}

impl Standing {
    fn new(scenario: &Scenario, row: Row, yardstick: &[Round]) -> Self {
        let contestant = &scenario.contestants[row.contestant];
        let spread = |figure| Spread::new(figure, &row.rounds, yardstick);
        Self {
            name: contestant.name,
            median: Round::median(&row.rounds),
            cpu_us: spread(Figure::Cpu),
            p99_us: spread(Figure::P99),
            resident_at_start_kib: contestant.resident_at_start,
            resident_after_kib: row.resident_after,
            rounds: row.rounds,
        }
    }

    pub(crate) fn spread(&self, figure: Figure) -> &Spread {
        match figure {
            Figure::Cpu => &self.cpu_us,
            Figure::P99 => &self.p99_us,
        }
    }

    fn line(&self, compared_by: Figure) -> String {
        match compared_by {
            Figure::Cpu => self.line_by_cpu(),
            Figure::P99 => self.line_by_p99(),
        }
    }

    fn line_by_cpu(&self) -> String {
        let Round {
            requests_per_second,
            cpu_us_per_request,
            busy_percent,
            p50_us,
            p99_us,
            max_us,
            ..
        } = self.median;
        let Spread {
            lowest,
            highest,
            ratio,
        } = self.cpu_us;
        let range = format!("{lowest:.1}-{highest:.1}");
        let memory = [self.resident_at_start_kib, self.resident_after_kib]
            .map(|kib| format!("{:.1}", kib as f64 / 1024.0));
        format!(
            "  {:<14}{requests_per_second:>9.0}{cpu_us_per_request:>9.1}{range:>12}{ratio:>8.2}\
             {busy_percent:>6.0}{p50_us:>8.0}{p99_us:>8.0}{max_us:>8.0}{:>8}{:>7}",
            self.name, memory[0], memory[1]
        )
    }

    fn line_by_p99(&self) -> String {
        let Round {
            cpu_us_per_request,
            p50_us,
            p99_us,
            max_us,
            late_p99_us,
            watched_percent,
            ..
        } = self.median;
        let Spread {
            lowest,
            highest,
            ratio,
        } = self.p99_us;
        let range = format!("{:.1}-{:.1}", lowest / 1e3, highest / 1e3);
        let [p50, p99, max, late] =
            [p50_us, p99_us, max_us, late_p99_us.unwrap_or_default()].map(|us| us / 1e3);
        let share = watched_percent.unwrap_or_default();
        format!(
            "  {:<26}{p50:>8.2}{p99:>8.2}{range:>12}{ratio:>8.3}{max:>8.1}{share:>9.2}\
             {cpu_us_per_request:>9.1}{late:>8.2}",
            self.name
        )
    }
}

impl Spread {
    fn new(figure: Figure, rounds: &[Round], yardstick: &[Round]) -> Self {
        let figures = || rounds.iter().map(|round| figure.of(round));
        Self {
            lowest: figures().fold(f64::INFINITY, f64::min),
            highest: figures().fold(0.0, f64::max),
            ratio: paired_ratio(figure, rounds, yardstick),
        }
    }
}

impl Finding {
    fn line(&self) -> String {
        let Self { what, measured, .. } = self;
        format!("        {what}: {}", short(*measured))
    }
}

impl Target {
    fn new(what: String, measured: f64, at_most: f64) -> Self {
        Self {
            what,
            measured,
            at_most,
            met: measured <= at_most,
        }
    }

    fn line(&self) -> String {
        let Self {
            what,
            measured,
            at_most,
            met,
        } = self;
        let verdict = if *met { "met   " } else { "MISSED" };
        let measured = short(*measured);
        format!("{verdict}  {what}: {measured}, wanted at most {at_most}")
    }
}

impl Round {
    fn median(rounds: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(rounds.iter().map(figure).collect());
        // What a job has in one round it has in all of them.
        let if_any = |figure: fn(&Self) -> Option<f64>| {
            let figures: Option<Vec<f64>> = rounds.iter().map(figure).collect();
            figures.map(median)
        };
        let answers = |body: usize| {
            let counts = rounds.iter().map(|round| round.answers[body] as f64);
            median(counts.collect()) as u64
        };
        let bodies = rounds.first().map_or(0, |round| round.answers.len());
        Self {
            requests: of(|round| round.requests as f64) as u64,
            seconds: of(|round| round.seconds),
            requests_per_second: of(|round| round.requests_per_second),
            cpu_us_per_request: of(|round| round.cpu_us_per_request),
            busy_percent: of(|round| round.busy_percent),
            upstream_busy_percent: if_any(|round| round.upstream_busy_percent),
            load_busy_percent: of(|round| round.load_busy_percent),
            p50_us: of(|round| round.p50_us),
            p99_us: of(|round| round.p99_us),
            max_us: of(|round| round.max_us),
            late_p99_us: if_any(|round| round.late_p99_us),
            answers: (0..bodies).map(answers).collect(),
            watched_percent: if_any(|round| round.watched_percent),
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
        planned_per_second: match job.plan.arrivals {
            Arrivals::WhenAnswered => None,
            Arrivals::Planned { per_second } => Some(per_second),
        },
        contestants: Vec::new(),
    };
    let mut jobs: Vec<JobReport> = scenario.jobs.iter().map(titled).collect();
    for row in rows {
        let contestants = &mut jobs[row.job].contestants;
        let first = contestants.first();
        let yardstick = first.map_or_else(|| row.rounds.clone(), |first| first.rounds.clone());
        contestants.push(Standing::new(scenario, row, &yardstick));
    }
    jobs
}

/// The median of the ratios of rounds that were measured one after the other: the speed of a virtual
/// machine changes by more within minutes than contestants differ.
fn paired_ratio(figure: Figure, rounds: &[Round], yardstick: &[Round]) -> f64 {
    let pairs = rounds.iter().zip(yardstick);
    median(
        pairs
            .map(|(own, first)| figure.of(own) / figure.of(first))
            .collect(),
    )
}

fn targets(scenario: &Scenario, jobs: &[JobReport]) -> Vec<Target> {
    let mut targets = Vec::new();
    let figure = scenario.compared_by;
    let name = match figure {
        Figure::Cpu => "CPU per request",
        Figure::P99 => "p99",
    };
    for (job, report) in scenario.jobs.iter().zip(jobs) {
        let Some((first, others)) = report.contestants.split_first() else {
            continue;
        };
        for (wanted, at_most) in &job.at_most {
            let standing = others.iter().find(|other| other.name == *wanted);
            targets.extend(standing.map(|other| {
                let what = format!("{}, {name}, {} / {}", job.title, other.name, first.name);
                Target::new(what, other.spread(figure).ratio, *at_most)
            }));
        }
    }
    targets.extend(
        scenario
            .growth
            .iter()
            .filter_map(|growth| grown(growth, jobs)),
    );
    let additions = scenario.additions.iter();
    targets.extend(additions.filter_map(|addition| added(addition, jobs)));
    let small = |name: &&str| scenario.small_at_start.contains(name);
    targets.extend(
        scenario
            .contestants
            .iter()
            .filter(|contestant| small(&contestant.name))
            .map(|contestant| {
                let what = format!("resident memory at start in MiB, {}", contestant.name);
                Target::new(what, contestant.resident_at_start as f64 / 1024.0, 40.0)
            }),
    );
    let wanted = |finding: &Finding| {
        let at_most = finding.at_most?;
        Some(Target::new(finding.what.clone(), finding.measured, at_most))
    };
    targets.extend(scenario.findings.iter().filter_map(wanted));
    targets
}

/// `None` if the contestant is not measured.
fn grown(growth: &Growth, jobs: &[JobReport]) -> Option<Target> {
    let Growth {
        contestant,
        from,
        to,
        at_most,
    } = growth;
    let rounds = |job: &usize| {
        let mut standings = jobs[*job].contestants.iter();
        let standing = standings.find(|standing| standing.name == *contestant)?;
        Some(&standing.rounds)
    };
    let ratio = paired_ratio(Figure::Cpu, rounds(to)?, rounds(from)?);
    let [from, to] = [from, to].map(|job| jobs[*job].title);
    let what = format!("CPU per request, {contestant}, {to} / {from}");
    Some(Target::new(what, ratio, *at_most))
}

/// `None` if a contestant is not measured.
fn added(addition: &Addition, jobs: &[JobReport]) -> Option<Target> {
    let job = &jobs[addition.job];
    let rounds = |name: &str| {
        let mut standings = job.contestants.iter();
        let standing = standings.find(|standing| standing.name == name)?;
        Some(&standing.rounds)
    };
    let of = |With(with, without)| Some(paired_difference(rounds(with)?, rounds(without)?));
    let (ours, theirs) = (of(addition.ours)?, of(addition.theirs)?);
    let With(our_name, _) = addition.ours;
    let With(their_name, _) = addition.theirs;
    let title = job.title;
    let what = format!("{title}, CPU us per request that `{our_name}` adds, and `{their_name}`");
    let rounded = |microseconds: f64| (microseconds * 1e3).round() / 1e3;
    Some(Target::new(what, rounded(ours), rounded(theirs)))
}

/// The median of the differences in microseconds of rounds that were measured one after the other.
fn paired_difference(with: &[Round], without: &[Round]) -> f64 {
    let pairs = with.iter().zip(without);
    median(
        pairs
            .map(|(with, without)| with.cpu_us_per_request - without.cpu_us_per_request)
            .collect(),
    )
}

/// Whole numbers as such, and others with three digits behind the point.
fn short(figure: f64) -> String {
    match figure.fract() == 0.0 {
        true => format!("{figure:.0}"),
        false => format!("{figure:.3}"),
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() % 2 {
        1 => figures[middle],
        _ => f64::midpoint(figures[middle - 1], figures[middle]),
    }
}

const HEAD_BY_CPU: &str = concat!(
    "                 requests   CPU us     lowest-          busy     p50     p99     max  MiB at    MiB\n",
    "                  /second /request     highest   ratio     %      us      us      us   start  after",
);

const HEAD_BY_P99: &str = concat!(
    "                                 p50     p99     lowest-           max  answers  CPU us    late\n",
    "                                  ms      ms     highest   ratio      ms   slow, % /request  p99 ms",
);

const IDLE: &str = "\
Busy under 90 %: that contestant was held back, by the load, the upstream, or something else on this
machine. Its requests per second are a lower bound. If its lowest and highest CPU are far apart too,
measure again when nothing else runs.";

const LATE: &str = "\
Late by more than a millisecond: the load itself had to wait for a processor, and what it measured is
partly that. Measure again when nothing else runs.";

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
