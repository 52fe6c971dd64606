//! Requests shown to operators as they end.
//!
//! While nobody watches, a request costs one look at a number. Who watches says which requests, and how many a second
//! at most; what is more is counted, and no request waits for a reader.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use edgeway_sdk::{Record, Resources};
use http::Method;
use ipnet::IpNet;
use tokio::sync::mpsc;

/// Those who watch.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    number: AtomicUsize,
    watchers: ArcSwap<Vec<Arc<Watcher>>>,
    /// Held while their list changes. No request takes it.
    changing: Mutex<()>,
}

/// Which requests somebody wants to see; what is not given is not looked at.
#[derive(Debug, Default)]
pub(crate) struct Wish {
    pub(crate) route: Option<String>,
    pub(crate) method: Option<Method>,
    pub(crate) statuses: Option<Vec<Statuses>>,
    pub(crate) path: Option<Glob>,
    pub(crate) client: Option<IpNet>,
    pub(crate) slower_than: Option<Duration>,
    /// How many a second.
    pub(crate) rate: u32,
}

/// Some of the statuses, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Statuses(pub(crate) u16, pub(crate) u16);

/// A path in which each `*` stands for any letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob(pub(crate) String);

/// One who watches.
#[derive(Debug)]
struct Watcher {
    wish: Wish,
    budget: Budget,
    missed: AtomicU64,
    lines: mpsc::Sender<Vec<u8>>,
    resources: Resources,
}

/// What somebody who watches is shown, until it is dropped.
#[derive(Debug)]
pub(crate) struct Watching {
    tail: Arc<Tail>,
    watcher: Arc<Watcher>,
    lines: mpsc::Receiver<Vec<u8>>,
}

/// How many requests wait to be shown.
const WAITING: usize = 128;

impl Tail {
    /// Whether anybody watches.
    pub(crate) fn is_watched(&self) -> bool {
        self.number.load(Ordering::Relaxed) > 0
    }

    /// Shows a request that has ended to those who want to see it.
    pub(crate) fn tell(&self, record: &Record<'_>) {
        for watcher in self.watchers.load().iter() {
            watcher.tell(record);
        }
    }

    /// Watches. Lines hide what the access logs of these resources hide.
    pub(crate) fn watch(self: &Arc<Self>, wish: Wish, resources: &Resources) -> Watching {
        let (sender, lines) = mpsc::channel(WAITING);
        let watcher = Arc::new(Watcher {
            budget: Budget::new(wish.rate),
            wish,
            missed: AtomicU64::new(0),
            lines: sender,
            resources: resources.clone(),
        });
        self.change(|watchers| watchers.push(Arc::clone(&watcher)));
        Watching {
            tail: Arc::clone(self),
            watcher,
            lines,
        }
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Watcher>>)) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut watchers = Vec::clone(&self.watchers.load());
        change(&mut watchers);
        self.number.store(watchers.len(), Ordering::Relaxed);
        self.watchers.store(Arc::new(watchers));
    }
}

impl Watching {
    /// The next request: a line of the access log, as JSON. Nothing is lost when this is given up.
    pub(crate) async fn next(&mut self) -> Option<String> {
        let line = self.lines.recv().await?;
        Some(String::from_utf8_lossy(&line).into_owned())
    }

    /// How many requests would have been shown, but were too many, since this was asked the last time.
    pub(crate) fn missed(&self) -> u64 {
        self.watcher.missed.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let ours = &self.watcher;
        self.tail
            .change(|watchers| watchers.retain(|watcher| !Arc::ptr_eq(watcher, ours)));
    }
}

impl Watcher {
    fn tell(&self, record: &Record<'_>) {
        if !self.wish.fits(record) {
            return;
        }
        let shown = self.budget.take()
            && self
                .lines
                .try_reserve()
                .map(|place| place.send(edgeway_filters::json_line(record, &self.resources)))
                .is_ok();
        if !shown {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Wish {
    fn fits(&self, record: &Record<'_>) -> bool {
        let exchange = record.exchange;
        let status = record.status.map_or(CLIENT_LEFT, |status| status.as_u16());
        let is = |wanted: bool| wanted;
        is(self
            .slower_than
            .is_none_or(|least| record.duration >= least))
            && is(self.statuses.as_ref().is_none_or(|wanted| {
                wanted
                    .iter()
                    .any(|Statuses(from, to)| (*from..=*to).contains(&status))
            }))
            && is(self
                .method
                .as_ref()
                .is_none_or(|method| *method == record.request.method))
            && is(self
                .route
                .as_ref()
                .is_none_or(|route| **route == *exchange.route))
            && is(self
                .client
                .is_none_or(|network| within(network, exchange.client)))
            && is(self
                .path
                .as_ref()
                .is_none_or(|path| path.fits(record.path())))
    }
}

fn within(network: IpNet, client: IpAddr) -> bool {
    network.contains(&client.to_canonical())
}

/// What the log of nginx has for a client that left before there was a status.
const CLIENT_LEFT: u16 = 499;

impl Glob {
    fn fits(&self, path: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else {
            return self.0 == path;
        };
        let Some(mut path) = path.strip_prefix(first) else {
            return false;
        };
        let mut parts = rest.split('*').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return path.ends_with(part);
            }
            let Some((_, after)) = path.split_once(part) else {
                return false;
            };
            path = after;
        }
        true
    }
}

/// So many in each second since it began.
#[derive(Debug)]
struct Budget {
    rate: u32,
    begun: Instant,
    /// The second in the upper half, and how many there were in it.
    used: AtomicU64,
}

impl Budget {
    fn new(rate: u32) -> Self {
        Self {
            rate,
            begun: Instant::now(),
            used: AtomicU64::new(0),
        }
    }

    fn take(&self) -> bool {
        self.take_at(self.begun.elapsed().as_secs())
    }

    fn take_at(&self, second: u64) -> bool {
        let next = |used: u64| {
            let used = if used >> 32 == second {
                used
            } else {
                second << 32
            };
            ((used & u64::from(u32::MAX)) < u64::from(self.rate)).then_some(used + 1)
        };
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use edgeway_sdk::test::Trial;
    use http::StatusCode;

    use super::*;

    /// Filters nothing.
    struct Nothing;

    impl edgeway_sdk::Filter for Nothing {}

    fn wish() -> Wish {
        Wish {
            rate: 10,
            ..Wish::default()
        }
    }

    #[tokio::test]
    async fn a_request_is_shown_if_all_that_was_asked_for_holds() {
        let outcome = Trial::get("/shop/7?token=abc").run(&Nothing).await;
        let mut record = outcome.record();
        record.status = Some(StatusCode::BAD_GATEWAY);
        record.duration = Duration::from_millis(250);
        let client = IpNet::from(record.exchange.client);
        let route = Some(record.exchange.route.to_string());
        let all = Wish {
            route,
            method: Some(Method::GET),
            statuses: Some(vec![Statuses(404, 404), Statuses(500, 599)]),
            path: Some(Glob("/shop/*".to_owned())),
            client: Some(client),
            slower_than: Some(Duration::from_millis(250)),
            ..wish()
        };
        assert!(all.fits(&record));
        assert!(wish().fits(&record));
        let others = [
            Wish {
                route: Some("other".to_owned()),
                ..wish()
            },
            Wish {
                method: Some(Method::POST),
                ..wish()
            },
            Wish {
                statuses: Some(vec![Statuses(400, 499)]),
                ..wish()
            },
            Wish {
                path: Some(Glob("/shop".to_owned())),
                ..wish()
            },
            Wish {
                client: "198.51.100.0/24".parse().ok(),
                ..wish()
            },
            Wish {
                slower_than: Some(Duration::from_millis(251)),
                ..wish()
            },
        ];
        for other in others {
            assert!(!other.fits(&record), "{other:?}");
        }
    }

    #[tokio::test]
    async fn nobody_is_told_before_or_after_watching_and_secrets_are_hidden() {
        let (tail, resources) = (Arc::<Tail>::default(), Resources::default());
        let outcome = Trial::get("/a?token=abc").run(&Nothing).await;
        assert!(!tail.is_watched());
        let mut watching = tail.watch(wish(), &resources);
        assert!(tail.is_watched());
        tail.tell(&outcome.record());
        let line = watching.next().await.unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["target"], "/a?token=***");
        drop(watching);
        assert!(!tail.is_watched());
    }

    #[tokio::test]
    async fn what_is_more_than_the_rate_or_than_is_read_is_counted() {
        let (tail, resources) = (Arc::<Tail>::default(), Resources::default());
        let outcome = Trial::get("/a").run(&Nothing).await;
        let few = tail.watch(Wish { rate: 0, ..wish() }, &resources);
        let many = tail.watch(
            Wish {
                rate: u32::MAX,
                ..wish()
            },
            &resources,
        );
        for _ in 0..WAITING + 3 {
            tail.tell(&outcome.record());
        }
        assert_eq!((few.missed(), many.missed()), (WAITING as u64 + 3, 3));
        assert_eq!(many.missed(), 0);
    }

    #[test]
    fn so_many_are_shown_in_each_second() {
        let budget = Budget::new(2);
        let taken = [0, 0, 0, 1, 1, 1, 7].map(|second| budget.take_at(second));
        assert_eq!(taken, [true, true, false, true, true, false, true]);
    }

    #[test]
    fn a_star_stands_for_any_letters() {
        for (glob, path, fits) in [
            ("/a", "/a", true),
            ("/a", "/ab", false),
            ("/a*", "/ab", true),
            ("*", "", true),
            ("*.css", "/a/b.css", true),
            ("*.css", "/a.css/b", false),
            ("/a*c*e", "/abcde", true),
            ("/a*c*e", "/abcd", false),
            ("/a*a", "/a", false),
            ("/**b", "/ab", true),
        ] {
            assert_eq!(Glob(glob.to_owned()).fits(path), fits, "{glob} {path}");
        }
    }
}
