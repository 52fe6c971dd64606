//! Where the time of a request has gone.

use std::time::Duration;

use edgeway_sdk::{Try, prelude::Record};

/// The phases of a request, in order. Together they are all of its time, if a phase that has none did not take any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Phases {
    /// The filters, with what they have waited for.
    pub(super) filters: Option<Duration>,
    /// What came before the endpoint was chosen that has answered: the cache, the queue, earlier tries.
    pub(super) queue: Option<Duration>,
    /// To connect to it; none if the connection was there.
    pub(super) connect: Option<Duration>,
    /// To send it the body of the request; none if there was no body.
    pub(super) send: Option<Duration>,
    /// For its answer to begin.
    pub(super) wait: Option<Duration>,
    /// For the rest of the answer to come, and go to the client.
    pub(super) receive: Option<Duration>,
}

impl Phases {
    pub(super) fn of(record: &Record<'_>) -> Self {
        let mut phases = Self {
            filters: record.filtered,
            ..Self::default()
        };
        let Some(last) = decisive(record.tries) else {
            return phases;
        };
        phases.queue = Some(
            last.chosen
                .saturating_sub(record.filtered.unwrap_or_default()),
        );
        let Some(connected) = last.connected else {
            return phases;
        };
        if !last.reused {
            phases.connect = Some(connected.saturating_sub(last.chosen));
        }
        let sent = last.sent.unwrap_or(connected);
        if sent > connected {
            phases.send = Some(sent.saturating_sub(connected));
        }
        if let Some(answered) = last.answered {
            // Who does not wait for the whole body may answer before it was sent.
            phases.wait = Some(answered.saturating_sub(sent));
            phases.receive = Some(record.duration.saturating_sub(answered.max(sent)));
        }
        phases
    }
}

/// The try whose answer was passed on, or else the last one.
pub(super) fn decisive<'r, 'a>(tries: &'r [Try<'a>]) -> Option<&'r Try<'a>> {
    let answered = tries
        .iter()
        .rfind(|one| one.status.is_some() && one.ended.is_none());
    answered.or_else(|| tries.last())
}

#[cfg(test)]
mod tests {
    use edgeway_sdk::{prelude::StatusCode, test::Trial};

    use super::*;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    fn attempt() -> Try<'static> {
        Try {
            number: 1,
            endpoint: "a:1",
            hedged: false,
            chosen: ms(10),
            connected: Some(ms(30)),
            reused: false,
            sent: Some(ms(100)),
            answered: Some(ms(400)),
            ended: None,
            status: Some(StatusCode::OK),
            error: None,
        }
    }

    async fn phases(filtered: Option<Duration>, tries: &[Try<'_>]) -> Phases {
        struct Nothing;
        impl edgeway_sdk::Filter for Nothing {}
        let outcome = Trial::get("/").run(&Nothing).await;
        let mut record = outcome.record();
        record.filtered = filtered;
        record.tries = tries;
        Phases::of(&record)
    }

    #[tokio::test]
    async fn the_phases_are_all_of_the_time() {
        let told = phases(Some(ms(4)), &[attempt()]).await;
        let expected = Phases {
            filters: Some(ms(4)),
            queue: Some(ms(6)),
            connect: Some(ms(20)),
            send: Some(ms(70)),
            wait: Some(ms(300)),
            receive: Some(ms(1_100)),
        };
        assert_eq!(told, expected);
    }

    #[tokio::test]
    async fn a_kept_connection_and_no_body_take_no_time() {
        let kept = Try {
            connected: Some(ms(10)),
            sent: Some(ms(10)),
            reused: true,
            ..attempt()
        };
        let told = phases(None, &[kept]).await;
        let expected = Phases {
            filters: None,
            queue: Some(ms(10)),
            wait: Some(ms(390)),
            receive: Some(ms(1_100)),
            ..Phases::default()
        };
        assert_eq!(told, expected);
    }

    #[tokio::test]
    async fn an_answer_before_the_whole_body_is_no_negative_time() {
        let early = Try {
            answered: Some(ms(50)),
            ..attempt()
        };
        let told = phases(None, &[early]).await;
        assert_eq!((told.wait, told.receive), (Some(ms(0)), Some(ms(1_400))));
    }

    #[tokio::test]
    async fn the_try_that_has_answered_counts_and_not_one_that_was_given_up_after_it() {
        let given_up = Try {
            chosen: ms(200),
            connected: None,
            answered: None,
            ended: Some(ms(400)),
            status: None,
            hedged: true,
            ..attempt()
        };
        let told = phases(None, &[attempt(), given_up]).await;
        assert_eq!(told.queue, Some(ms(10)));
        let failed = Try {
            ended: Some(ms(90)),
            status: None,
            answered: None,
            error: Some("ReadTimedout"),
            ..attempt()
        };
        let told = phases(None, &[failed, given_up]).await;
        assert_eq!((told.queue, told.wait), (Some(ms(200)), None));
    }
}
