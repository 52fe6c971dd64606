//! What is closed for maintenance, and for whom.
//!
//! What the configuration says holds until the admin listener is told something else, which then holds for the
//! process, also over reloads, until it is told to forget that.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use edgeway_sdk::Exchange;
use http::{StatusCode, request};

use super::{Applies, Networks, Route};

/// Whether all routes, or one, are closed.
#[derive(Debug)]
pub(crate) struct Maintenance {
    pub(crate) plan: Plan,
    pub(crate) switch: Arc<Switch>,
}

/// What a route does when it, or everything, is closed.
#[derive(Debug)]
pub(crate) struct Closing {
    /// Whether this route is; nothing for requests that have none.
    pub(crate) own: Option<Arc<Maintenance>>,
    /// What a request that is refused goes on as: the route without the filters that guard it.
    pub(crate) to: Arc<Route>,
}

/// What the configuration says.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Whether it says anything.
    pub(crate) written: bool,
    pub(crate) on: bool,
    pub(crate) allow: Networks,
    /// Requests that pass, by their paths.
    pub(crate) except: Option<Applies>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) status: StatusCode,
    pub(crate) detail: Option<Arc<str>>,
    /// A page for browsers.
    pub(crate) page: Option<Bytes>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            written: false,
            on: false,
            allow: Networks::default(),
            except: None,
            retry_after: None,
            status: StatusCode::SERVICE_UNAVAILABLE,
            detail: None,
            page: None,
        }
    }
}

/// What has been said while the gateway runs. A resource, by the name of the route.
#[derive(Debug, Default)]
pub(crate) struct Switch {
    said: ArcSwapOption<Said>,
    /// One of the states below, so that requests need look no further while everything is open.
    state: AtomicU8,
    refused: AtomicU64,
}

const NOTHING_SAID: u8 = 0;
const SAID_OPEN: u8 = 1;
const SAID_CLOSED: u8 = 2;

/// What a call has said. What it says nothing of is as the configuration has it.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) on: bool,
    pub(crate) allow: Option<Networks>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) at: SystemTime,
}

impl Switch {
    /// Has this hold from now on, instead of what the configuration says.
    pub(crate) fn say(&self, said: Said) {
        let state = if said.on { SAID_CLOSED } else { SAID_OPEN };
        self.said.store(Some(Arc::new(said)));
        self.state.store(state, Ordering::Release);
    }

    /// Has the configuration hold again.
    pub(crate) fn forget(&self) {
        self.state.store(NOTHING_SAID, Ordering::Release);
        self.said.store(None);
    }

    /// What has been said last.
    pub(crate) fn said(&self) -> Option<Arc<Said>> {
        self.said.load_full()
    }

    /// How many requests were refused.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Maintenance {
    /// Whether it is closed now.
    pub(crate) fn is_on(&self) -> bool {
        match self.switch.state.load(Ordering::Acquire) {
            NOTHING_SAID => self.plan.on,
            state => state == SAID_CLOSED,
        }
    }

    /// Whether it is closed for this request. In doubt it is: a path may have readings.
    pub(crate) fn refuses(
        &self,
        head: &request::Parts,
        exchange: &Exchange,
        listener: &str,
    ) -> bool {
        let stays_open = |except: &Applies| !except.to(head, exchange, listener);
        if !self.is_on() || self.plan.except.as_ref().is_some_and(stays_open) {
            return false;
        }
        !self.allows(exchange.client)
    }

    /// Whether a client passes although it is closed.
    fn allows(&self, client: IpAddr) -> bool {
        let said = self.switch.said.load();
        let said = said.as_ref().and_then(|said| said.allow.as_ref());
        said.unwrap_or(&self.plan.allow).contains(client)
    }

    /// When clients may come again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let said = self.switch.said.load();
        let said = said.as_ref().and_then(|said| said.retry_after);
        said.or(self.plan.retry_after)
    }

    /// Counts a request that was refused.
    pub(crate) fn count(&self) {
        self.switch.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether anything is, or was, to be told of it.
    pub(crate) fn is_of_note(&self) -> bool {
        self.plan.written || self.switch.said.load().is_some()
    }

    /// Tells the operator, if it is closed as a configuration comes into force.
    pub(crate) fn tell(&self, route: &str) {
        if self.is_on() {
            let by = match self.switch.said.load().is_some() {
                true => "call",
                false => "configuration",
            };
            log::warn!("closed for maintenance: route={route} said_by={by}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maintenance(on: bool) -> Maintenance {
        let plan = Plan {
            on,
            allow: Networks::new(&["10.0.0.0/8".parse().unwrap()]),
            retry_after: Some(Duration::from_secs(5)),
            ..Plan::default()
        };
        Maintenance {
            plan,
            switch: Arc::default(),
        }
    }

    fn refuses(maintenance: &Maintenance, client: &str) -> bool {
        let (head, ()) = http::Request::get("/").body(()).unwrap().into_parts();
        let client: IpAddr = client.parse().unwrap();
        let exchange = Exchange::new((client, 1).into());
        maintenance.refuses(&head, &exchange, "http")
    }

    fn said(on: bool, allow: Option<&str>) -> Said {
        Said {
            on,
            allow: allow.map(|network| Networks::new(&[network.parse().unwrap()])),
            retry_after: None,
            at: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_a_call_says_holds_until_it_is_forgotten() {
        for written in [false, true] {
            let closed = maintenance(written);
            assert_eq!(refuses(&closed, "192.0.2.1"), written);
            for on in [true, false, true] {
                closed.switch.say(said(on, None));
                assert_eq!(refuses(&closed, "192.0.2.1"), on);
            }
            closed.switch.forget();
            assert_eq!(refuses(&closed, "192.0.2.1"), written);
        }
    }

    #[test]
    fn clients_pass_by_the_list_of_the_call_or_else_by_that_of_the_configuration() {
        let closed = maintenance(true);
        assert!(!refuses(&closed, "10.1.2.3"));
        closed.switch.say(said(true, None));
        assert!(!refuses(&closed, "10.1.2.3"));
        assert_eq!(closed.retry_after(), Some(Duration::from_secs(5)));
        closed.switch.say(said(true, Some("192.0.2.0/24")));
        assert!(refuses(&closed, "10.1.2.3"));
        assert!(!refuses(&closed, "192.0.2.1"));
        assert!(!refuses(&closed, "::ffff:192.0.2.1"));
    }
}
