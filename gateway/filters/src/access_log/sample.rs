//! Which requests have a line, where not all have one.

use std::time::Duration;

use edgeway_sdk::{prelude::*, types::Percent};

use crate::criteria::{List, Statuses};

/// Requests that have a line whatever chance says.
#[derive(Deserialize)]
pub(super) struct Always {
    statuses: Option<List<Statuses>>,
    slower_than: Option<Period>,
}

/// A share of the requests, and those that somebody will look for.
pub(super) struct Sample {
    share: f64,
    /// Server errors, if it does not say.
    statuses: Option<List<Statuses>>,
    slower_than: Duration,
}

impl Sample {
    pub(super) fn new(
        share: Option<Percent>,
        always: Option<Always>,
    ) -> Result<Option<Self>, BuildError> {
        let Some(Percent(share)) = share else {
            return match always {
                None => Ok(None),
                Some(_) => Err(BuildError::at(
                    "always",
                    "without `sample` all requests have a line",
                )),
            };
        };
        let (statuses, slower_than) = match always {
            Some(always) => (always.statuses, always.slower_than),
            None => (None, None),
        };
        Ok(Some(Self {
            share,
            statuses,
            slower_than: slower_than.map_or(SLOW, Duration::from),
        }))
    }

    pub(super) fn takes(&self, record: &Record<'_>) -> bool {
        record.error.is_some()
            || record.duration >= self.slower_than
            || record.status.is_some_and(|status| self.wants(status))
            || rand::random::<f64>() < self.share
    }

    fn wants(&self, status: StatusCode) -> bool {
        match &self.statuses {
            Some(statuses) => statuses.has_status(status),
            None => status.is_server_error(),
        }
    }
}

/// What nobody should have to wait for.
const SLOW: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use edgeway_sdk::test::Trial;

    use super::*;

    fn sample(share: f64, always: &str) -> Sample {
        let always = (!always.is_empty()).then(|| serde_json::from_str(always).unwrap());
        Sample::new(Some(Percent(share)), always).unwrap().unwrap()
    }

    /// Whether a request has a line that has ended so, after so many milliseconds.
    async fn takes(sample: &Sample, status: u16, ms: u64, error: Option<&str>) -> bool {
        struct Nothing;
        impl Filter for Nothing {}
        let outcome = Trial::get("/").run(&Nothing).await;
        let mut record = outcome.record();
        record.status = StatusCode::from_u16(status).ok();
        record.duration = Duration::from_millis(ms);
        record.error = error;
        sample.takes(&record)
    }

    #[tokio::test]
    async fn what_failed_or_was_slow_always_has_a_line() {
        let given = sample(0.0, r#"{"statuses": ["400-499"], "slower_than": "5s"}"#);
        let cases = [
            (200, 1, None, false, false),
            (404, 1, None, false, true),
            (502, 1, None, true, false),
            (200, 1_000, None, true, false),
            (200, 5_000, None, true, true),
            (200, 1, Some("cut"), true, true),
        ];
        for (status, ms, error, standard, chosen) in cases {
            let told = takes(&sample(0.0, ""), status, ms, error).await;
            assert_eq!(told, standard, "{status} {ms} {error:?}");
            let told = takes(&given, status, ms, error).await;
            assert_eq!(told, chosen, "{status} {ms} {error:?}");
        }
    }

    #[tokio::test]
    async fn of_the_others_a_share_has_one() {
        let (all, some) = (sample(1.0, ""), sample(0.25, ""));
        let mut taken = 0;
        for _ in 0..4_000 {
            assert!(takes(&all, 200, 1, None).await);
            taken += u32::from(takes(&some, 200, 1, None).await);
        }
        // Seven times the standard deviation.
        assert!((800..1_200).contains(&taken), "{taken}");
    }

    #[test]
    fn exceptions_from_nothing_are_refused() {
        let always = serde_json::from_str(r#"{"slower_than": "1s"}"#).unwrap();
        let error = Sample::new(None, Some(always)).err().unwrap();
        assert_eq!(error.key.as_deref(), Some("always"));
    }
}
