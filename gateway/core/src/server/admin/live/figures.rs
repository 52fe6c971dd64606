//! Numbers of what has come between two moments.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::telemetry::meter::{RequestFigures, Spread, TryFigures};

/// What has come of requests: so many a second, and how long they took.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct Figures {
    /// Since the process has started.
    requests: u64,
    requests_per_s: f64,
    classes: Classes,
    in_flight: u64,
    #[serde(flatten)]
    took: Took,
    received_bytes_per_s: f64,
    sent_bytes_per_s: f64,
}

/// How many a second were answered so; `none` if their clients have left before.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct Classes {
    none: f64,
    #[serde(rename = "1xx")]
    informational: f64,
    #[serde(rename = "2xx")]
    success: f64,
    #[serde(rename = "3xx")]
    redirection: f64,
    #[serde(rename = "4xx")]
    client_error: f64,
    #[serde(rename = "5xx")]
    server_error: f64,
}

/// How long the half of them, and all but a few, took at most; null if there was none of late.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct Took {
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
}

/// What has come of asking endpoints.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct Tries {
    requests_per_s: f64,
    /// Those that got no answer.
    failures_per_s: f64,
    /// The answers.
    classes: Classes,
    #[serde(flatten)]
    took: Took,
}

impl Figures {
    /// `since` is what has come in a time, `lately` what has come in a longer one.
    pub(super) fn of(
        now: &RequestFigures,
        since: &RequestFigures,
        lately: &RequestFigures,
        time: Duration,
    ) -> Self {
        Self {
            requests: now.replies.total(),
            requests_per_s: per_second(since.replies.total(), time),
            classes: Classes::of(since.replies.classes(), time),
            in_flight: now.in_flight(),
            took: Took::of(&lately.took),
            received_bytes_per_s: per_second(since.received, time).round(),
            sent_bytes_per_s: per_second(since.sent, time).round(),
        }
    }
}

impl Tries {
    /// Of an upstream: whole requests, however often they were tried.
    pub(super) fn of_upstream(since: &TryFigures, lately: &TryFigures, time: Duration) -> Self {
        Self {
            requests_per_s: per_second(since.took.count(), time),
            took: Took::of(&lately.took),
            ..Self::answered(since, time)
        }
    }

    /// Of an endpoint: tries, until the head of the answer.
    pub(super) fn of_endpoint(since: &TryFigures, lately: &TryFigures, time: Duration) -> Self {
        let answers: u64 = since.answers.iter().sum();
        Self {
            requests_per_s: per_second(answers + since.failures(), time),
            took: Took::of(&lately.first_byte),
            ..Self::answered(since, time)
        }
    }

    fn answered(since: &TryFigures, time: Duration) -> Self {
        Self {
            failures_per_s: per_second(since.failures(), time),
            classes: Classes::of(since.answers, time),
            ..Self::default()
        }
    }
}

impl Classes {
    fn of(counts: [u64; 6], time: Duration) -> Self {
        let [
            none,
            informational,
            success,
            redirection,
            client_error,
            server_error,
        ] = counts.map(|count| per_second(count, time));
        Self {
            none,
            informational,
            success,
            redirection,
            client_error,
            server_error,
        }
    }
}

impl Took {
    fn of(spread: &Spread) -> Self {
        let quantile = |share| {
            let took = spread.quantile(share)?;
            Some((took.as_secs_f64() * 1e5).round() / 1e2)
        };
        Self {
            p50_ms: quantile(0.5),
            p95_ms: quantile(0.95),
            p99_ms: quantile(0.99),
        }
    }
}

/// To two digits: more are noise to whoever reads them.
pub(super) fn per_second(count: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64().max(1e-3);
    (count as f64 / seconds * 1e2).round() / 1e2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_told_for_a_second_whatever_the_interval() {
        assert_eq!(per_second(5, Duration::from_secs(2)), 2.5);
        assert_eq!(per_second(1, Duration::from_secs(3)), 0.33);
        assert!(per_second(1, Duration::ZERO).is_finite());
    }

    #[test]
    fn nothing_took_no_time_that_could_be_told() {
        let nothing = RequestFigures::default();
        let figures = Figures::of(&nothing, &nothing, &nothing, Duration::from_secs(1));
        let told = serde_json::to_value(&figures).unwrap();
        assert_eq!(told["p99_ms"], serde_json::Value::Null);
        assert_eq!(
            (&told["requests_per_s"], &told["classes"]["5xx"]),
            (&0.0.into(), &0.0.into())
        );
    }
}
