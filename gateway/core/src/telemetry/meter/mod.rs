//! Counts of what happens to requests, and how long it takes.
//!
//! Meters are resources: they go on counting over reloads, by the name of what they measure, and are gone with it.
//! They are written for every request, without a lock, an allocation or a number that several threads write, and
//! read when somebody looks: `meter.figures()` are what was counted so far, and the difference of two is what
//! happened between.

mod connections;
mod replies;
mod spread;
mod stripes;

use std::{
    ops::{AddAssign, Sub},
    time::Duration,
};

use http::{Method, StatusCode};

pub(crate) use self::{
    connections::{ConnectionFigures, Connections, KINDS, Limit, Spoken, Unsecured},
    replies::{Counts, Kind},
    spread::{BOUNDS, Spread},
};
use self::{
    replies::Replies,
    spread::Histogram,
    stripes::{Counter, Stripes},
};

/// The requests of a route.
#[derive(Debug, Default)]
pub(crate) struct Requests(Stripes<OfRequests>);

/// What one thread has counted. Two never share a line of the processor's cache.
#[derive(Debug, Default)]
#[repr(align(128))]
struct OfRequests {
    begun: Counter,
    ended: Counter,
    received: Counter,
    sent: Counter,
    replies: Replies,
    took: Histogram,
}

/// What has become of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome<'a> {
    pub(crate) method: &'a Method,
    /// None if there was no response: its client has left.
    pub(crate) status: Option<StatusCode>,
    /// From its head to its end.
    pub(crate) took: Duration,
    /// Bytes of its body.
    pub(crate) received: u64,
    /// Bytes of the response's.
    pub(crate) sent: u64,
}

impl Requests {
    /// A request has come. Tell when it has [ended](Self::ended).
    pub(crate) fn begun(&self) {
        let (own, writer) = self.0.own();
        own.begun.add(1, writer);
    }

    /// A request is under way no more, however it has ended.
    pub(crate) fn ended(&self) {
        let (own, writer) = self.0.own();
        own.ended.add(1, writer);
    }

    /// Notes what became of a request.
    pub(crate) fn note(&self, outcome: &Outcome<'_>) {
        let (own, writer) = self.0.own();
        own.replies
            .note(Kind::of(outcome.method, outcome.status), writer);
        own.took.note(micros(outcome.took), writer);
        if outcome.received > 0 {
            own.received.add(outcome.received, writer);
        }
        own.sent.add(outcome.sent, writer);
    }

    /// What was counted so far.
    pub(crate) fn figures(&self) -> RequestFigures {
        let mut figures = RequestFigures::default();
        for stripe in self.0.all() {
            figures.begun += stripe.begun.get();
            figures.ended += stripe.ended.get();
            figures.received += stripe.received.get();
            figures.sent += stripe.sent.get();
            stripe.replies.add_to(&mut figures.replies);
            stripe.took.add_to(&mut figures.took);
        }
        figures
    }
}

/// What was counted of requests, so far or between two moments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestFigures {
    begun: u64,
    ended: u64,
    /// Those that have ended.
    pub(crate) replies: Counts,
    /// From their heads to their ends.
    pub(crate) took: Spread,
    /// Bytes of their bodies.
    pub(crate) received: u64,
    /// Bytes of their responses' bodies.
    pub(crate) sent: u64,
}

impl RequestFigures {
    /// How many are under way. Of no meaning for a difference.
    pub(crate) fn in_flight(&self) -> u64 {
        self.begun.saturating_sub(self.ended)
    }
}

impl AddAssign<&Self> for RequestFigures {
    fn add_assign(&mut self, other: &Self) {
        self.begun += other.begun;
        self.ended += other.ended;
        self.replies += &other.replies;
        self.took += &other.took;
        self.received += other.received;
        self.sent += other.sent;
    }
}

impl Sub for &RequestFigures {
    type Output = RequestFigures;

    /// What has come since `before`.
    fn sub(self, before: Self) -> RequestFigures {
        RequestFigures {
            begun: self.begun.saturating_sub(before.begun),
            ended: self.ended.saturating_sub(before.ended),
            replies: &self.replies - &before.replies,
            took: &self.took - &before.took,
            received: self.received.saturating_sub(before.received),
            sent: self.sent.saturating_sub(before.sent),
        }
    }
}

/// What an upstream, or an endpoint, was asked.
#[derive(Debug, Default)]
pub(crate) struct Tries(Stripes<OfTries>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct OfTries {
    answers: [Counter; 6],
    events: [Counter; EVENTS],
    first_byte: Histogram,
    took: Histogram,
}

/// What can happen on the way to an answer, or instead of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A try has failed: there was no connection.
    Unconnected,
    /// It broke.
    Broken,
    /// It was too slow.
    TimedOut,
    /// A request was tried again.
    Retried,
    /// It would have been, but too many are already.
    OverBudget,
    /// A second endpoint was asked besides.
    Hedged,
    /// And was faster.
    HedgeWon,
    /// A request was not sent: the breaker is open.
    BreakerOpen,
    /// As many wait for an endpoint as may.
    QueueFull,
    /// It has waited for an endpoint for too long.
    QueueTimedOut,
    /// There was nobody to ask.
    NoEndpoint,
    /// An endpoint was left out, as requests have failed there.
    LeftOut,
    /// The breaker has opened.
    BreakerOpened,
    /// A check of an endpoint went well.
    Checked,
    /// It did not.
    CheckFailed,
}

const EVENTS: usize = 15;

impl Event {
    /// Tries that have failed without an answer, by the names under which they are told.
    pub(crate) const FAILURES: [(Self, &'static str); 3] = [
        (Self::Unconnected, "connect"),
        (Self::Broken, "reset"),
        (Self::TimedOut, "timeout"),
    ];

    /// Why requests were not sent.
    pub(crate) const REFUSALS: [(Self, &'static str); 4] = [
        (Self::BreakerOpen, "breaker_open"),
        (Self::QueueFull, "queue_full"),
        (Self::QueueTimedOut, "queue_timeout"),
        (Self::NoEndpoint, "no_endpoint"),
    ];
}

impl Tries {
    pub(crate) fn event(&self, event: Event) {
        let (own, writer) = self.0.own();
        own.events[event as usize].add(1, writer);
    }

    /// An endpoint has begun to answer, so long after it was asked.
    pub(crate) fn answered(&self, status: StatusCode, first_byte: Duration) {
        let (own, writer) = self.0.own();
        let class = usize::from(status.as_u16() / 100).min(5);
        own.answers[class].add(1, writer);
        own.first_byte.note(micros(first_byte), writer);
    }

    /// A request is over, so long after it was meant for the upstream: with all tries, and the whole answer.
    pub(crate) fn done(&self, took: Duration) {
        let (own, writer) = self.0.own();
        own.took.note(micros(took), writer);
    }

    /// What was counted so far.
    pub(crate) fn figures(&self) -> TryFigures {
        let mut figures = TryFigures::default();
        for stripe in self.0.all() {
            for (sum, count) in figures.answers.iter_mut().zip(&stripe.answers) {
                *sum += count.get();
            }
            for (sum, count) in figures.events.iter_mut().zip(&stripe.events) {
                *sum += count.get();
            }
            stripe.first_byte.add_to(&mut figures.first_byte);
            stripe.took.add_to(&mut figures.took);
        }
        figures
    }
}

/// What was counted of an upstream, or an endpoint, so far or between two moments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TryFigures {
    /// By class: 1xx (a change of protocol) has the place 1, 5xx the place 5.
    pub(crate) answers: [u64; 6],
    events: [u64; EVENTS],
    /// From asking an endpoint to the head of its answer.
    pub(crate) first_byte: Spread,
    /// Of an upstream: whole requests, with all tries and the answer.
    pub(crate) took: Spread,
}

impl TryFigures {
    pub(crate) fn events(&self, event: Event) -> u64 {
        self.events[event as usize]
    }

    /// Tries without an answer.
    pub(crate) fn failures(&self) -> u64 {
        let failures = Event::FAILURES.iter();
        failures.map(|(event, _)| self.events(*event)).sum()
    }
}

impl Sub for &TryFigures {
    type Output = TryFigures;

    /// What has come since `before`.
    fn sub(self, before: Self) -> TryFigures {
        let difference = |now: &[u64], before: &[u64], place: usize| {
            let (now, before) = (now.get(place), before.get(place));
            now.copied()
                .unwrap_or_default()
                .saturating_sub(before.copied().unwrap_or_default())
        };
        TryFigures {
            answers: std::array::from_fn(|place| difference(&self.answers, &before.answers, place)),
            events: std::array::from_fn(|place| difference(&self.events, &before.events, place)),
            first_byte: &self.first_byte - &before.first_byte,
            took: &self.took - &before.took,
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(status: u16, took: Duration) -> Outcome<'static> {
        Outcome {
            method: &Method::GET,
            status: StatusCode::from_u16(status).ok(),
            took,
            received: 2,
            sent: 3,
        }
    }

    #[test]
    fn requests_are_in_flight_until_they_have_ended() {
        let requests = Requests::default();
        requests.begun();
        requests.begun();
        assert_eq!(requests.figures().in_flight(), 2);
        requests.note(&outcome(200, Duration::from_millis(1)));
        requests.ended();
        let figures = requests.figures();
        assert_eq!((figures.in_flight(), figures.replies.total()), (1, 1));
        assert_eq!((figures.received, figures.sent), (2, 3));
    }

    #[test]
    fn figures_are_those_of_all_threads() {
        let requests = Requests::default();
        std::thread::scope(|scope| {
            for _ in 0..9 {
                scope.spawn(|| requests.note(&outcome(500, Duration::from_millis(2))));
            }
        });
        let figures = requests.figures();
        assert_eq!(figures.replies.classes(), [0, 0, 0, 0, 0, 9]);
        assert_eq!(figures.took.sum(), Duration::from_millis(18));
    }

    #[test]
    fn the_difference_of_figures_is_what_happened_between() {
        let requests = Requests::default();
        requests.note(&outcome(200, Duration::from_millis(1)));
        let before = requests.figures();
        requests.note(&outcome(404, Duration::from_secs(1)));
        let since = &requests.figures() - &before;
        assert_eq!(since.replies.classes(), [0, 0, 0, 0, 1, 0]);
        assert_eq!(since.took.mean(), Some(Duration::from_secs(1)));
        let mut sum = before;
        sum += &since;
        assert_eq!(sum, requests.figures());
    }

    #[test]
    fn tries_are_counted_by_what_became_of_them() {
        let tries = Tries::default();
        tries.answered(StatusCode::OK, Duration::from_millis(5));
        tries.event(Event::Broken);
        tries.event(Event::Retried);
        tries.done(Duration::from_millis(7));
        let figures = tries.figures();
        assert_eq!((figures.answers[2], figures.failures()), (1, 1));
        assert_eq!(figures.events(Event::Retried), 1);
        assert_eq!(figures.first_byte.sum(), Duration::from_millis(5));
        assert_eq!(figures.took.sum(), Duration::from_millis(7));
        assert_eq!(&tries.figures() - &figures, TryFigures::default());
    }

    #[test]
    fn every_event_has_a_place() {
        assert_eq!(Event::CheckFailed as usize, EVENTS - 1);
    }
}
