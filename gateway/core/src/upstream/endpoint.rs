//! One address behind the gateway, and what is known about it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;

use self::{passive::Passive, probe::Probe};
use super::clock::micros;
use crate::{
    config::Mode,
    telemetry::meter::{Event, Tries},
};

mod load;
mod passive;
mod probe;

pub(crate) use self::{
    load::Load,
    passive::{ErrorRate, Failed, Patience},
    probe::{Check, Thresholds, Turned, Verdict},
};

/// What is known about an endpoint. A resource: a reload forgets neither failures nor addresses.
///
/// Instants are those of `clock::now()`. What the configuration says is a parameter, because it may
/// change while the state stays.
#[derive(Debug, Default)]
pub(crate) struct State {
    address: ArcSwapOption<SocketAddr>,
    /// All addresses that its name has, in the order of preference.
    choice: ArcSwapOption<Vec<SocketAddr>>,
    /// A [`Mode`].
    mode: AtomicU8,
    probe: Probe,
    passive: Passive,
    /// When it last came into service; 0 if it always was.
    entered: AtomicU64,
    pub(crate) load: Load,
    /// What is counted of its tries.
    pub(crate) meter: Tries,
}

/// What an endpoint is at the moment, in a word, to be shown: the strongest reason not to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Up,
    SlowStart,
    /// Requests have failed there. `until` is over while one tries it, or might.
    LeftOut {
        until: u64,
    },
    /// Checks have failed.
    Unhealthy,
    /// It waits for its first check.
    Unchecked,
    Draining,
    Maintenance,
    /// Its name has no address.
    Unresolved,
}

impl State {
    /// Where the endpoint is; none while its name has not been resolved.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address.load().as_deref().copied()
    }

    /// Tells where the endpoint is; whether that is news.
    pub(crate) fn found(&self, address: SocketAddr) -> bool {
        let news = self.address() != Some(address);
        if news {
            self.address.store(Some(Arc::new(address)));
        }
        news
    }

    /// Tells all addresses that the name of the endpoint has, the one in use among them.
    pub(crate) fn may_be_at(&self, addresses: Vec<SocketAddr>) {
        self.choice.store(Some(Arc::new(addresses)));
    }

    /// Nobody answers at `failed`: turns to the next address of the name, if there is another and
    /// nobody has turned away meanwhile. Gives the new address.
    pub(crate) fn turn_from(&self, failed: SocketAddr) -> Option<SocketAddr> {
        let used = self.address.load();
        if used.as_deref() != Some(&failed) {
            return None;
        }
        let choice = self.choice.load_full()?;
        let place = choice.iter().position(|address| *address == failed)?;
        let next = choice[(place + 1) % choice.len()];
        if next == failed {
            return None;
        }
        let before = self.address.compare_and_swap(&used, Some(Arc::new(next)));
        (before.as_deref() == Some(&failed)).then_some(next)
    }

    /// Whether it is at another address by now than `failed`, and its name has not run out of them: the
    /// first one comes again when all have been tried.
    pub(crate) fn is_elsewhere(&self, failed: SocketAddr) -> bool {
        let Some(address) = self.address() else {
            return false;
        };
        let choice = self.choice.load();
        let first = choice.as_deref().and_then(|choice| choice.first());
        address != failed && first.is_some_and(|first| *first != address)
    }

    /// Whether a request may go there now. Asked last, and only if one will: it may be the one that
    /// tries an endpoint which was left out, and this takes the turn.
    pub(crate) fn may_serve(&self, patience: &Patience, now: u64) -> bool {
        self.mode() == Mode::Up && self.serves(patience, now)
    }

    /// The same for a request of a session that belongs to this endpoint.
    pub(crate) fn may_serve_session(&self, patience: &Patience, now: u64) -> bool {
        self.mode() != Mode::Maintenance && self.serves(patience, now)
    }

    fn serves(&self, patience: &Patience, now: u64) -> bool {
        self.probe.may_serve() && self.passive.may_serve(patience, now)
    }

    /// Whether a request may go there when no endpoint is well, and any has to do. One that
    /// is to start unhealthy has to be seen to serve first.
    pub(crate) fn may_be_asked(&self) -> bool {
        self.mode() == Mode::Up && self.probe.may_be_asked()
    }

    /// Whether nothing speaks against it, but that nobody may know where it is. Changes nothing, so
    /// any number may be looked at.
    pub(crate) fn is_well(&self, patience: &Patience) -> bool {
        self.mode() == Mode::Up && self.probe.may_serve() && !self.is_out(patience)
    }

    /// Whether it is left out because requests have failed, and none has succeeded since.
    pub(crate) fn is_out(&self, patience: &Patience) -> bool {
        self.passive.is_out(patience)
    }

    /// Notes a success of a request that was sent at `began`; whether the endpoint is back by it.
    ///
    /// An answer to a request from before the endpoint was left out is no news.
    pub(crate) fn succeeded(&self, patience: &Patience, now: u64, began: u64) -> bool {
        let back = self.passive.succeeded(patience, now, began);
        if back {
            self.entered_service(now);
        }
        back
    }

    /// Notes a failure of a request that was sent at `began`.
    ///
    /// `may_leave` tells whether one more endpoint of the upstream may be left out. It is asked only
    /// when this one would be; of two that fail at the same moment each may be the last that may.
    pub(crate) fn failed(
        &self,
        patience: &Patience,
        now: u64,
        began: u64,
        may_leave: impl FnOnce() -> bool,
    ) -> Failed {
        self.load.failed();
        self.passive.failed(patience, now, began, may_leave)
    }

    /// The configuration has checks for it. If it had before, what they said stays; else it is
    /// served until a check says otherwise, or, if `pessimistic`, not until one has succeeded.
    pub(crate) fn expect_probe(&self, pessimistic: bool) {
        self.probe.expect(if pessimistic {
            Verdict::Doubted
        } else {
            Verdict::Hoped
        });
    }

    /// The configuration has no checks for it any more.
    pub(crate) fn forget_probe(&self) {
        self.probe.forget();
    }

    /// Notes what a check has found, by one task at a time; what it has changed.
    pub(crate) fn probed(&self, check: Check, thresholds: Thresholds) -> Option<Turned> {
        self.meter.event(match check.ok {
            true => Event::Checked,
            false => Event::CheckFailed,
        });
        let (now, before) = (check.at, self.probe.verdict());
        let turned = self.probe.noted(check, thresholds);
        // At its first success an endpoint that was there from the start starts no slower for the
        // checks than it would without.
        let from_the_start =
            before == Verdict::Doubted && self.entered.load(Ordering::Relaxed) == 0;
        if turned == Some(Turned::Well) && !from_the_start {
            self.entered_service(now);
        }
        turned
    }

    /// What the checks say.
    pub(crate) fn verdict(&self) -> Verdict {
        self.probe.verdict()
    }

    /// The last check, if there was one.
    pub(crate) fn last_check(&self) -> Option<Arc<Check>> {
        self.probe.last()
    }

    pub(crate) fn mode(&self) -> Mode {
        match self.mode.load(Ordering::Relaxed) {
            1 => Mode::Drain,
            2 => Mode::Maintenance,
            _ => Mode::Up,
        }
    }

    /// Sets what the operator wants; what it was before.
    pub(crate) fn set_mode(&self, mode: Mode, now: u64) -> Mode {
        let before = self.mode();
        self.mode.store(mode as u8, Ordering::Relaxed);
        // Who was drained has served its sessions: it is warm.
        if before == Mode::Maintenance && mode == Mode::Up {
            self.entered_service(now);
        }
        before
    }

    /// It serves from now on, and starts slowly. Not for those that are there when the gateway
    /// starts: somebody has to take the load.
    pub(crate) fn entered_service(&self, now: u64) {
        self.entered.store(now, Ordering::Relaxed);
    }

    /// Which part of its share of requests it should have: from 0.1, when it has just come into
    /// service, to 1.0 after `slow_start`.
    pub(crate) fn ease(&self, now: u64, slow_start: Duration) -> f64 {
        let entered = self.entered.load(Ordering::Relaxed);
        if entered == 0 || slow_start.is_zero() {
            return 1.0;
        }
        let served = now.saturating_sub(entered) as f64;
        let part = served / micros(slow_start).max(1) as f64;
        LEAST_EASE + (1.0 - LEAST_EASE) * part.min(1.0)
    }

    /// In a word; whether it is known where it is, is not asked here.
    pub(crate) fn status(&self, patience: &Patience, slow_start: Duration, now: u64) -> Status {
        match self.mode() {
            Mode::Maintenance => return Status::Maintenance,
            Mode::Drain => return Status::Draining,
            Mode::Up => {}
        }
        match self.verdict() {
            Verdict::Ill => return Status::Unhealthy,
            Verdict::Doubted => return Status::Unchecked,
            Verdict::Unchecked | Verdict::Hoped | Verdict::Well => {}
        }
        if let Some(until) = self.passive.out_until(patience) {
            return Status::LeftOut { until };
        }
        if self.ease(now, slow_start) < 1.0 {
            return Status::SlowStart;
        }
        Status::Up
    }
}

impl Status {
    /// As it is written in the admin API.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::SlowStart => "slow_start",
            Self::LeftOut { .. } => "left_out",
            Self::Unhealthy => "unhealthy",
            Self::Unchecked => "unchecked",
            Self::Draining => "draining",
            Self::Maintenance => "maintenance",
            Self::Unresolved => "unresolved",
        }
    }
}

/// A little traffic from the first moment on, or the endpoint would never get warm.
const LEAST_EASE: f64 = 0.1;

#[cfg(test)]
mod tests;
