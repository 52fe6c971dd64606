//! What filters have refused, counted by their rules, and the last refusals of each.
//!
//! A tally is a resource: it goes on counting over reloads. Nothing is counted for requests that pass, and under
//! a flood of refusals no thread waits for another.

use std::{
    collections::VecDeque,
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use edgeway_sdk::{Exchange, exchange::Refusal};
use log::info;

/// The refusals of one filter of a chain.
pub(crate) struct Tally {
    /// The route that the filter is of; `*` for all.
    pub(crate) route: Box<str>,
    /// What it is called.
    pub(crate) filter: Box<str>,
    /// How often a filter failed to decide, or to reach what it decides by.
    failed: AtomicU64,
    rules: OnceLock<Box<[Rule]>>,
    recent: Mutex<VecDeque<Recent>>,
    /// The second for which a report was logged last.
    told: AtomicU64,
}

#[derive(Default)]
struct Rule {
    name: OnceLock<Box<str>>,
    refused: AtomicU64,
    reported: AtomicU64,
}

/// How often a rule has decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    /// Empty for a filter that has one only.
    pub(crate) rule: Box<str>,
    pub(crate) refused: u64,
    /// Of which only was told, as the filter is to report.
    pub(crate) reported: u64,
}

/// A refusal that was not long ago.
#[derive(Clone, Debug)]
pub(crate) struct Recent {
    /// Since 1970, in milliseconds.
    pub(crate) at: u64,
    pub(crate) request_id: Box<str>,
    pub(crate) client: IpAddr,
    pub(crate) route: Arc<str>,
    pub(crate) refusal: Refusal,
}

impl Tally {
    pub(crate) fn new(route: &str, filter: &str) -> Self {
        Self {
            route: route.into(),
            filter: filter.into(),
            failed: AtomicU64::new(0),
            rules: OnceLock::new(),
            recent: Mutex::default(),
            told: AtomicU64::new(0),
        }
    }

    /// Counts a refusal. What was only reported is logged as well, once a second at most.
    pub(crate) fn note(&self, refusal: &Refusal, exchange: &Exchange) {
        let rule = self.rule(refusal.rule.as_deref().unwrap_or_default());
        let count = if refusal.reported {
            &rule.reported
        } else {
            &rule.refused
        };
        count.fetch_add(1, Ordering::Relaxed);
        if refusal.status.is_server_error() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        // Who comes while another thread is here is counted, and not shown.
        if let Ok(mut recent) = self.recent.try_lock() {
            recent.truncate(SHOWN - 1);
            recent.push_front(Recent {
                at: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
                request_id: exchange.id().into(),
                client: exchange.client,
                route: Arc::clone(&exchange.route),
                refusal: refusal.clone(),
            });
        }
        if refusal.reported && self.told.swap(now.as_secs(), Ordering::Relaxed) != now.as_secs() {
            info!("{}", Told(refusal, exchange));
        }
    }

    fn rule(&self, name: &str) -> &Rule {
        let rules = self
            .rules
            .get_or_init(|| (0..RULES).map(|_| Rule::default()).collect());
        let (last, others) = rules.split_last().expect("there are rules");
        let known = others
            .iter()
            .find(|rule| &**rule.name.get_or_init(|| name.into()) == name);
        // More than a filter has, unless it makes them up.
        known.unwrap_or_else(|| {
            last.name.get_or_init(|| OTHERS.into());
            last
        })
    }

    /// The counts of all rules that have decided.
    pub(crate) fn counts(&self) -> Vec<Count> {
        let rules = self.rules.get().into_iter().flat_map(|rules| rules.iter());
        let count = |rule: &Rule| {
            Some(Count {
                rule: rule.name.get()?.clone(),
                refused: rule.refused.load(Ordering::Relaxed),
                reported: rule.reported.load(Ordering::Relaxed),
            })
        };
        rules.filter_map(count).collect()
    }

    /// How often it could not decide: its refusals were 5xx.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// The last refusals, the newest first.
    pub(crate) fn recent(&self) -> Vec<Recent> {
        let recent = self.recent.lock();
        let recent = recent.unwrap_or_else(PoisonError::into_inner);
        recent.iter().cloned().collect()
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tally({} {})", self.route, self.filter)
    }
}

/// A refusal that was only reported, as a line of the log.
struct Told<'a>(&'a Refusal, &'a Exchange);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(refusal, exchange) = self;
        let Refusal { filter, status, .. } = refusal;
        write!(
            f,
            "would refuse: filter={filter} status={}",
            status.as_u16()
        )?;
        let parts = [
            ("rule", &refusal.rule),
            ("key", &refusal.key),
            ("reason", &refusal.reason),
        ];
        for (name, text) in parts {
            if let Some(text) = text {
                write!(f, " {name}={}", text.escape_debug())?;
            }
        }
        let (route, client, id) = (&exchange.route, exchange.client, exchange.id());
        write!(f, " route={route} client={client} request_id={id}")
    }
}

/// How many rules of a filter are counted each for itself; the last place is for all others.
const RULES: usize = 128;
/// What the rules beyond that are counted as.
const OTHERS: &str = "(others)";
/// How many refusals of a filter are shown.
const SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn refusal(rule: &str, status: u16, reported: bool) -> Refusal {
        Refusal {
            filter: "limit".into(),
            status: StatusCode::from_u16(status).unwrap(),
            rule: Some(rule.into()),
            key: Some("a\nb".into()),
            reason: None,
            reported,
        }
    }

    fn exchange() -> Exchange {
        Exchange::new(([192, 0, 2, 1], 1).into())
    }

    #[test]
    fn rules_are_counted_each_for_itself_as_long_as_they_are_few() {
        let (tally, exchange) = (Tally::new("all", "limit"), exchange());
        assert_eq!(tally.counts(), []);
        for number in 0..RULES + 2 {
            tally.note(&refusal(&format!("r{number}"), 429, number == 0), &exchange);
        }
        let counts = tally.counts();
        assert_eq!(counts.len(), RULES);
        let count = |place: usize| {
            let Count {
                rule,
                refused,
                reported,
            } = &counts[place];
            (&**rule, *refused, *reported)
        };
        assert_eq!((count(0), count(1)), (("r0", 0, 1), ("r1", 1, 0)));
        assert_eq!(count(RULES - 1), (OTHERS, 3, 0));
    }

    #[test]
    fn what_could_not_be_decided_is_counted_as_that_too() {
        let (tally, exchange) = (Tally::new("all", "limit"), exchange());
        for status in [429, 503, 500] {
            tally.note(&refusal("a", status, false), &exchange);
        }
        assert_eq!((tally.counts()[0].refused, tally.failed()), (3, 2));
    }

    #[test]
    fn the_last_refusals_are_kept_and_no_more() {
        let (tally, exchange) = (Tally::new("all", "limit"), exchange());
        for number in 0..SHOWN + 5 {
            tally.note(&refusal(&number.to_string(), 429, false), &exchange);
        }
        let recent = tally.recent();
        let rule = |place: usize| recent[place].refusal.rule.as_deref();
        assert_eq!(
            (recent.len(), rule(0), rule(19)),
            (SHOWN, Some("24"), Some("5"))
        );
    }

    #[test]
    fn a_line_of_the_log_is_one_line() {
        let mut exchange = exchange();
        exchange.set_id("7");
        exchange.route = "all".into();
        let told = Told(&refusal("burst", 429, true), &exchange).to_string();
        let expected = "would refuse: filter=limit status=429 rule=burst key=a\\nb route=all client=192.0.2.1 request_id=7";
        assert_eq!(told, expected);
    }
}
