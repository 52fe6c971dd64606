//! What became of many requests.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::client::Answer;

/// What became of many requests. Printed, it is a few lines for a person.
#[derive(Clone, Debug, Default)]
pub struct Outcomes {
    /// Each request, in no particular order.
    pub samples: Vec<Sample>,
}

/// What became of one request.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it was to be sent, from the beginning on. Only `pace` plans; else when it was sent.
    pub planned: Duration,
    /// The time from then to the end of the answer, or of the hope for one.
    pub latency: Duration,
    /// The answer that came whole, or why none did.
    pub result: Result<Answer, String>,
}

impl Outcomes {
    /// How many requests there were.
    pub fn total(&self) -> usize {
        self.samples.len()
    }

    /// The answers that came whole.
    pub fn answers(&self) -> impl Iterator<Item = &Answer> {
        self.samples
            .iter()
            .filter_map(|sample| sample.result.as_ref().ok())
    }

    /// Why others did not.
    pub fn broken(&self) -> impl Iterator<Item = &str> {
        self.samples.iter().filter_map(Sample::broken)
    }

    /// How many were answered with a status.
    pub fn with_status(&self, status: u16) -> usize {
        self.count(|answer| answer.status == status)
    }

    /// How many answers are as wanted.
    pub fn count(&self, wanted: impl Fn(&Answer) -> bool) -> usize {
        self.answers().filter(|answer| wanted(answer)).count()
    }

    /// How many answers each status has.
    pub fn statuses(&self) -> BTreeMap<u16, usize> {
        tally(self.answers().map(|answer| answer.status))
    }

    /// How many requests had no whole answer for each reason.
    pub fn failures(&self) -> BTreeMap<String, usize> {
        tally(self.broken().map(str::to_owned))
    }

    /// How many answers each endpoint gave. It is told by the header `X-Endpoint`, or else by the
    /// member `endpoint` or `source` of JSON; other answers are not counted.
    pub fn endpoints(&self) -> BTreeMap<String, usize> {
        self.by(endpoint)
    }

    /// How many answers there are of each kind; those without a kind are not counted.
    pub fn by(&self, kind: impl Fn(&Answer) -> Option<String>) -> BTreeMap<String, usize> {
        tally(self.answers().filter_map(kind))
    }

    /// The requests that were planned in a stretch of time from the beginning on.
    #[must_use]
    pub fn between(&self, from: Duration, to: Duration) -> Self {
        let within = |sample: &&Sample| (from..to).contains(&sample.planned);
        Self {
            samples: self.samples.iter().filter(within).cloned().collect(),
        }
    }

    /// The latency that a share of all requests, such as 0.99, did not exceed. Broken ones count.
    /// Zero if there were no requests.
    pub fn percentile(&self, share: f64) -> Duration {
        let mut latencies: Vec<_> = self.samples.iter().map(|sample| sample.latency).collect();
        latencies.sort_unstable();
        let rank = (latencies.len() as f64 * share).ceil() as usize;
        let last = latencies.len().saturating_sub(1);
        let position = rank.saturating_sub(1).min(last);
        latencies.get(position).copied().unwrap_or_default()
    }

    /// The median of latencies.
    pub fn p50(&self) -> Duration {
        self.percentile(0.5)
    }

    /// The latency that 99 of 100 requests did not exceed.
    pub fn p99(&self) -> Duration {
        self.percentile(0.99)
    }

    /// The longest latency.
    pub fn slowest(&self) -> Duration {
        self.percentile(1.0)
    }

    /// How many requests took longer than this.
    pub fn slower_than(&self, latency: Duration) -> usize {
        let slower = |sample: &&Sample| sample.latency > latency;
        self.samples.iter().filter(slower).count()
    }

    /// Statuses, failures, endpoints and latencies in a few lines.
    pub fn summary(&self) -> String {
        format!(
            "{} requests: statuses {:?}, failures {:?}, endpoints {:?}\n\
             latency: p50 {:.1?}, p99 {:.1?}, slowest {:.1?}",
            self.total(),
            self.statuses(),
            self.failures(),
            self.endpoints(),
            self.p50(),
            self.p99(),
            self.slowest(),
        )
    }

    /// Asserts that there were requests, and that every one was answered with this status.
    ///
    /// # Panics
    ///
    /// When one was not, showing the first of them.
    #[track_caller]
    pub fn expect_all(&self, status: u16) {
        assert!(self.total() > 0, "no request was sent");
        let other = self.answers().find(|answer| answer.status != status);
        let first = other.map(|answer| {
            format!(
                "{} {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            )
        });
        let first = first.or_else(|| self.broken().next().map(str::to_owned));
        let good = self.with_status(status);
        assert!(
            good == self.total(),
            "{good} of {} with {status}; another: {first:?}\n{}",
            self.total(),
            self.summary()
        );
    }
}

impl Sample {
    fn broken(&self) -> Option<&str> {
        self.result.as_ref().err().map(String::as_str)
    }
}

fn endpoint(answer: &Answer) -> Option<String> {
    if let Some(name) = answer.header_all("X-Endpoint").first() {
        return Some((*name).to_owned());
    }
    let report: Value = serde_json::from_slice(&answer.body).ok()?;
    let name = report.get("endpoint").or_else(|| report.get("source"))?;
    Some(name.as_str()?.to_owned())
}

fn tally<T: Ord>(things: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for thing in things {
        *counts.entry(thing).or_default() += 1;
    }
    counts
}
