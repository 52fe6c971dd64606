//! When endpoints are checked.

use std::{collections::HashMap, fmt, mem, sync::Arc, time::Duration};

use log::error;
use rand::Rng;
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until},
};

use super::{Check, Checked, Outcome};
use crate::config::Start;

/// The first checks are spread over this time, unless the interval is shorter.
const FIRST: Duration = Duration::from_secs(1);

/// The same for endpoints that are not served before.
const FIRST_AWAITED: Duration = Duration::from_millis(100);

/// By how much an interval varies, as a share of it.
const JITTER: f64 = 0.1;

/// The running checks of an upstream's endpoints. They end when this is dropped.
///
/// Every endpoint has a loop of its own: one that hangs delays no other.
#[derive(Default)]
pub(crate) struct Checks {
    loops: HashMap<Box<str>, Loop>,
}

impl Checks {
    /// Checks these endpoints from now on, and no others. Call it within a runtime.
    ///
    /// An endpoint that was checked before keeps its schedule, found again by its name, also if the
    /// check is another one now. After its removal an endpoint is told at most the outcome that was
    /// just being told.
    pub(crate) fn update(
        &mut self,
        check: &Arc<Check>,
        endpoints: impl IntoIterator<Item = Arc<dyn Checked>>,
    ) {
        let mut before = mem::take(&mut self.loops);
        for endpoint in endpoints {
            let name: Box<str> = endpoint.name().into();
            let subject = Subject {
                check: Arc::clone(check),
                endpoint,
            };
            let running = match before.remove(&name) {
                Some(running) => running.go_on_with(subject),
                None => Loop::start(subject),
            };
            self.loops.insert(name, running);
        }
    }
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.loops.keys()).finish()
    }
}

/// What is checked, and how.
#[derive(Clone)]
struct Subject {
    check: Arc<Check>,
    endpoint: Arc<dyn Checked>,
}

/// The checks of one endpoint. They end when this is dropped, in the middle of one if need be.
struct Loop {
    subject: watch::Sender<Subject>,
    task: JoinHandle<()>,
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Loop {
    fn start(subject: Subject) -> Self {
        let first = Instant::now() + until_first(&subject.check, rand::rng().random());
        let (subject, now) = watch::channel(subject);
        Self {
            subject,
            task: tokio::spawn(keep_checking(now, first)),
        }
    }

    fn go_on_with(self, subject: Subject) -> Self {
        self.subject.send_replace(subject);
        self
    }
}

/// Checks again and again, until nobody can change the subject any more.
async fn keep_checking(mut subject: watch::Receiver<Subject>, first: Instant) {
    let mut due = first;
    loop {
        tokio::select! {
            () = sleep_until(due) => {}
            changed = subject.changed() => {
                if changed.is_err() {
                    return;
                }
                // A shorter interval holds at once.
                let soonest = Instant::now() + next(&subject.borrow_and_update().check);
                due = due.min(soonest);
                continue;
            }
        }
        let now = subject.borrow().clone();
        let began = Instant::now();
        let outcome = once(&now).await;
        due = began + next(&now.check);
        now.endpoint.checked(outcome);
    }
}

/// One check, in a task of its own: a panic in it is a failure and not the end of checking.
async fn once(subject: &Subject) -> Outcome {
    let began = Instant::now();
    let Subject { check, endpoint } = subject.clone();
    let mut task = JoinSet::new();
    task.spawn(async move { check.examine(&*endpoint).await });
    match task.join_next().await {
        Some(Ok(outcome)) => outcome,
        None | Some(Err(_)) => {
            error!(
                "check of an endpoint broke: endpoint={}",
                subject.endpoint.name()
            );
            Outcome {
                result: Err("the check itself broke".to_owned()),
                took: began.elapsed(),
            }
        }
    }
}

/// How long until the next check, from the start of this one.
fn next(check: &Check) -> Duration {
    jittered(check.interval, rand::rng().random())
}

/// An interval, varied by a number from 0 to 1.
fn jittered(interval: Duration, by: f64) -> Duration {
    interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * by)
}

/// How long until the first check, varied by a number from 0 to 1.
fn until_first(check: &Check, by: f64) -> Duration {
    let spread = match check.start {
        Start::Healthy => FIRST,
        Start::Unhealthy => FIRST_AWAITED,
    };
    spread.min(check.interval).mul_f64(by)
}

#[cfg(test)]
mod tests {
    use std::{
        net::SocketAddr,
        num::NonZeroU32,
        sync::atomic::{AtomicU32, Ordering},
    };

    use async_trait::async_trait;
    use pingora::Result;
    use pingora_load_balancing::{Backend, health_check::HealthCheck};
    use tokio::time::{advance, timeout};

    use super::super::testing::{Told, endpoint, plain};
    use super::*;

    /// Succeeds, but for some ports.
    struct ByPort(AtomicU32);

    const HANGS: u16 = 1;
    const PANICS: u16 = 2;
    const WELL: u16 = 3;

    #[async_trait]
    impl HealthCheck for ByPort {
        async fn check(&self, backend: &Backend) -> Result<()> {
            self.0.fetch_add(1, Ordering::Relaxed);
            match backend.addr.as_inet().map(SocketAddr::port) {
                Some(HANGS) => std::future::pending().await,
                Some(PANICS) => panic!("as a test wants it"),
                _ => Ok(()),
            }
        }

        fn health_threshold(&self, _success: bool) -> usize {
            1
        }
    }

    fn every(interval: Duration) -> Arc<Check> {
        Arc::new(Check {
            interval,
            timeout: Duration::from_secs(2),
            healthy_after: NonZeroU32::MIN,
            unhealthy_after: NonZeroU32::MIN,
            start: Start::Healthy,
            port: None,
            host: None,
            means: Arc::new(ByPort(AtomicU32::new(0))),
        })
    }

    fn at(name: &str, port: u16) -> (Arc<dyn Checked>, Told) {
        let peer = plain(SocketAddr::from(([127, 0, 0, 1], port)));
        let (endpoint, told) = endpoint(name, Some(peer));
        (endpoint, told)
    }

    fn count(told: &mut Told) -> usize {
        std::iter::from_fn(|| told.try_recv().ok()).count()
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// Lets time pass in steps that are short enough for everything that is due.
    async fn pass(time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            advance(Duration::from_millis(10)).await;
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_times_out_and_delays_no_other() {
        let (hanging, mut of_hanging) = at("hanging", HANGS);
        let (well, mut of_well) = at("well", WELL);
        let mut checks = Checks::default();
        checks.update(&every(SECOND), [hanging, well]);
        pass(60 * SECOND).await;
        let fair = count(&mut of_well);
        assert!((54..=66).contains(&fair), "{fair}");
        let outcome = of_hanging.try_recv().unwrap();
        assert_eq!(outcome.result, Err("no success within 2s".to_owned()));
        assert_eq!(outcome.took.as_secs(), 2);
        let rest = count(&mut of_hanging);
        assert!((26..=30).contains(&rest), "{rest}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_stays_keeps_its_schedule() {
        let interval = 100 * SECOND;
        let check = every(interval);
        let (first, mut told) = at("first", WELL);
        let mut checks = Checks::default();
        checks.update(&check, [Arc::clone(&first)]);
        pass(SECOND + SECOND / 10).await;
        assert_eq!(count(&mut told), 1);
        // More often than it is due, with others that come and go.
        for number in 0..30 {
            let (other, _) = at(&number.to_string(), WELL);
            checks.update(&check, [other, Arc::clone(&first)]);
            pass(10 * SECOND).await;
        }
        let due = count(&mut told);
        assert!((2..=4).contains(&due), "{due}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_replaces_an_endpoint_is_told() {
        let check = every(SECOND);
        let (before, mut of_before) = at("same", WELL);
        let (after, mut of_after) = at("same", WELL);
        let mut checks = Checks::default();
        checks.update(&check, [before]);
        pass(3 * SECOND).await;
        assert!(count(&mut of_before) > 0);
        checks.update(&check, [after]);
        pass(3 * SECOND).await;
        assert_eq!(count(&mut of_before), 0);
        assert!(count(&mut of_after) > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shorter_interval_holds_at_once() {
        let (endpoint, mut told) = at("one", WELL);
        let mut checks = Checks::default();
        checks.update(&every(3600 * SECOND), [Arc::clone(&endpoint)]);
        pass(2 * SECOND).await;
        assert_eq!(count(&mut told), 1);
        checks.update(&every(SECOND), [endpoint]);
        pass(10 * SECOND).await;
        let checked = count(&mut told);
        assert!((8..=11).contains(&checked), "{checked}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_removed_endpoint_is_not_checked_any_more() {
        let check = every(SECOND);
        let (removed, mut of_removed) = at("removed", WELL);
        let (kept, mut of_kept) = at("kept", WELL);
        let mut checks = Checks::default();
        checks.update(&check, [removed, Arc::clone(&kept)]);
        pass(3 * SECOND).await;
        checks.update(&check, [kept]);
        count(&mut of_removed);
        count(&mut of_kept);
        pass(3 * SECOND).await;
        assert_eq!(count(&mut of_removed), 0);
        assert!(count(&mut of_kept) > 0);
        drop(checks);
        count(&mut of_kept);
        pass(3 * SECOND).await;
        assert_eq!(count(&mut of_kept), 0, "nothing is checked after the end");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_does_not_wait_for_a_check_that_hangs() {
        let (hanging, mut told) = at("hanging", HANGS);
        let mut checks = Checks::default();
        checks.update(&every(SECOND), [hanging]);
        pass(SECOND + SECOND / 2).await;
        drop(checks);
        // The channel closes when nobody holds the endpoint any more.
        let end = timeout(SECOND / 10, told.recv()).await;
        assert_eq!(end, Ok(None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_panics_has_failed_and_is_repeated() {
        let (panicking, mut told) = at("panicking", PANICS);
        let mut checks = Checks::default();
        checks.update(&every(SECOND), [panicking]);
        pass(5 * SECOND).await;
        let outcome = told.try_recv().unwrap();
        assert_eq!(outcome.result, Err("the check itself broke".to_owned()));
        assert!(count(&mut told) > 1);
    }

    #[test]
    fn an_interval_varies_by_a_tenth() {
        let interval = 10 * SECOND;
        assert_eq!(jittered(interval, 0.0), 9 * SECOND);
        assert_eq!(jittered(interval, 0.5), 10 * SECOND);
        assert_eq!(jittered(interval, 1.0), 11 * SECOND);
        let check = every(interval);
        let drawn: Vec<_> = (0..1_000).map(|_| next(&check)).collect();
        assert!(
            drawn
                .iter()
                .all(|next| (9 * SECOND..=11 * SECOND).contains(next))
        );
        let (least, most) = (drawn.iter().min(), drawn.iter().max());
        assert!(least < Some(&(SECOND * 95 / 10)) && most > Some(&(SECOND * 105 / 10)));
    }

    #[test]
    fn the_first_check_comes_soon_and_sooner_if_it_is_awaited() {
        let check = every(10 * SECOND);
        assert_eq!(until_first(&check, 0.0), Duration::ZERO);
        assert_eq!(until_first(&check, 1.0), FIRST);
        assert_eq!(until_first(&every(SECOND / 2), 1.0), SECOND / 2);
        let mut awaited = Arc::into_inner(check).unwrap();
        awaited.start = Start::Unhealthy;
        assert_eq!(until_first(&awaited, 1.0), FIRST_AWAITED);
    }
}
