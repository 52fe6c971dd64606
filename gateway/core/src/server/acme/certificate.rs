//! One certificate through its years.

use std::{ops::Range, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use log::{debug, error, info, warn};
use tokio::{sync::watch, time::sleep};

use super::{
    Tables, account,
    client::Client,
    failure::Failure,
    on_disk,
    order::{Received, order},
    schedule::{self, Kind},
    spec::AcmeSpec,
    store::{Lock, Store},
    suggestion::{self, Suggestion},
};
use crate::{
    config::tls::CertificateName,
    server::tls::{Identity, now, read_identity},
};

/// How often the disk is looked at when there is nothing else to do: another gateway may keep its certificates there
/// as well, and clocks may be put forward.
const LOOK: Duration = Duration::from_secs(3_600);

/// The same while another gateway is busy with the certificate.
const BUSY_LOOK: Duration = Duration::from_secs(2);

/// How often an authority is asked when it would like a certificate to be replaced, if it does not say.
const SUGGESTIONS: Duration = Duration::from_secs(6 * 3_600);

/// The shortest and the longest pause that it may ask for.
const SUGGESTION_PAUSES: (Duration, Duration) =
    (Duration::from_secs(60), Duration::from_secs(86_400));

/// How long there is no other certificate because of a suggestion: an authority could suggest it all the time.
const HURRY: i64 = 86_400;

/// How far clocks may differ, in seconds.
const SKEW: i64 = 300;

/// A certificate that is wanted of an authority. It has one, or will.
#[derive(Debug)]
pub(crate) struct Certificate {
    spec: AcmeSpec,
    store: Store,
    tables: Tables,
    current: ArcSwapOption<Identity>,
    changes: watch::Sender<()>,
}

/// What its keeper has in mind.
#[derive(Default)]
struct Mind {
    /// How often in a row there was none.
    failures: u32,
    plan: Option<Plan>,
    /// When there was one because the authority had suggested it.
    hurried: Option<i64>,
    /// Whether it was told that another gateway is busy with it.
    told_busy: bool,
}

/// What is planned for one certificate. Times are seconds since 1970.
struct Plan {
    of: Arc<Identity>,
    renew_at: i64,
    /// When it would be replaced if the authority suggested nothing.
    own: i64,
    /// Whether that was asked for.
    written: bool,
    /// When it is replaced in any case.
    latest: i64,
    ask_at: i64,
    suggested: Option<Range<i64>>,
}

/// What came of a try.
enum Outcome {
    /// There is another certificate.
    New,
    /// Another gateway is busy with it.
    Busy,
}

impl Certificate {
    /// With what is on the disk of it, if anything is: to be called where waiting is no harm.
    pub(super) fn new(spec: &AcmeSpec, tables: Tables, changes: watch::Sender<()>) -> Self {
        let certificate = Self {
            spec: spec.clone(),
            store: Store::new(spec.folder()),
            tables,
            current: ArcSwapOption::empty(),
            changes,
        };
        match certificate.on_disk() {
            Ok(found) => certificate.current.store(found.map(Arc::new)),
            Err(reason) => {
                let file = certificate.store.path(&certificate.file());
                let file = file.display();
                warn!("certificate can't be used: file={file} reason={reason}");
            }
        }
        certificate
    }

    pub(super) fn spec(&self) -> &AcmeSpec {
        &self.spec
    }

    /// What it is for.
    pub(crate) fn names(&self) -> &[CertificateName] {
        &self.spec.names
    }

    /// The last one, if there is one.
    pub(crate) fn current(&self) -> Option<Arc<Identity>> {
        self.current.load_full()
    }

    /// Gets it, and gets another in time, without end.
    pub(super) async fn keep(self: Arc<Self>) {
        let mut mind = Mind::default();
        if self.current().is_none() {
            warn!(
                "no certificate yet, handshakes are refused until there is one: names={}",
                self.spec.label()
            );
        }
        loop {
            self.until_due(&mut mind).await;
            let hurrying = mind.plan.as_ref().is_some_and(Plan::is_early);
            match self.get(&mind).await {
                Ok(Outcome::New) => {
                    let hurried = hurrying.then(now);
                    mind = Mind {
                        hurried: hurried.or(mind.hurried),
                        ..Mind::default()
                    };
                }
                Ok(Outcome::Busy) => {
                    if !std::mem::replace(&mut mind.told_busy, true) {
                        info!(
                            "certificate is ordered by another gateway: names={}",
                            self.spec.label()
                        );
                    }
                    sleep(BUSY_LOOK).await;
                }
                Err(failure) => {
                    mind.failures = mind.failures.saturating_add(1);
                    let pause = self.after(&failure, mind.failures).await;
                    sleep(pause).await;
                }
            }
        }
    }

    /// Waits until it is time for another certificate.
    async fn until_due(self: &Arc<Self>, mind: &mut Mind) {
        loop {
            self.look().await;
            let Some(identity) = self.current() else {
                return;
            };
            let plan = match &mut mind.plan {
                Some(plan) if Arc::ptr_eq(&plan.of, &identity) => plan,
                plan => plan.insert(self.plan(identity)),
            };
            if plan.ask_at <= now() && plan.renew_at > now() {
                let suggestion = self.suggestion(&plan.of).await;
                plan.take(suggestion, mind.hurried);
            }
            let left = plan.renew_at.saturating_sub(now());
            if left <= 0 {
                return;
            }
            let ask = plan.ask_at.saturating_sub(now());
            let pause = Duration::from_secs(left.min(ask).max(1).unsigned_abs());
            sleep(pause.min(LOOK)).await;
        }
    }

    fn plan(&self, identity: Arc<Identity>) -> Plan {
        let whole = identity.not_after.saturating_sub(identity.not_before);
        let before = self.spec.renew_before.map(|before| before.as_secs());
        let before = before.and_then(|before| i64::try_from(before).ok());
        if before.is_some_and(|before| !schedule::is_sensible(before, whole)) {
            warn!(
                "`renew_before` is too long for a certificate of {whole} s, it is replaced when a third is left: names={}",
                self.spec.label()
            );
        }
        Plan::new(identity, self.spec.renew_before)
    }

    /// Takes what another gateway has put on the disk, if that is better.
    async fn look(self: &Arc<Self>) {
        let this = Arc::clone(self);
        let Ok(Ok(Some(found))) = on_disk(move || Ok(this.on_disk())).await else {
            return;
        };
        let end = |identity: &Identity| identity.not_after;
        let current = self.current();
        if current.is_none_or(|current| end(&current) < end(&found)) {
            info!(
                "certificate found on the disk: names={} not_after={}",
                self.spec.label(),
                found.not_after
            );
            self.publish(found);
        }
    }

    fn publish(&self, identity: Identity) {
        self.current.store(Some(Arc::new(identity)));
        self.changes.send_replace(());
    }

    /// What is on the disk, if anything is. Waits for the disk.
    ///
    /// # Errors
    ///
    /// It can't be used: a sentence for the operator.
    fn on_disk(&self) -> Result<Option<Identity>, String> {
        let name = self.file();
        let read = self.store.read(&name).map_err(|error| error.to_string())?;
        let path = self.store.path(&name);
        read.map(|text| read_identity(&path, text)).transpose()
    }

    /// The file with the key, the certificate and its chain: one, so that they belong together.
    fn file(&self) -> String {
        format!("{}.pem", self.spec.file())
    }

    /// Asks the authority when it would like the certificate to be replaced.
    async fn suggestion(&self, identity: &Identity) -> Result<Suggestion, Failure> {
        let Some(leaf) = identity.leaf() else {
            return Ok(Suggestion::None);
        };
        let client = self.client().await?;
        suggestion::ask(leaf, &self.store, &client).await
    }

    /// Orders a certificate, unless another gateway has done so, or does.
    async fn get(self: &Arc<Self>, mind: &Mind) -> Result<Outcome, Failure> {
        let Some(_lock) = self.lock().await? else {
            self.look().await;
            return Ok(Outcome::Busy);
        };
        let before = self.current();
        self.look().await;
        let changed = match (&before, &self.current()) {
            (Some(before), Some(after)) => !Arc::ptr_eq(before, after),
            (None, after) => after.is_some(),
            (Some(_), None) => false,
        };
        if changed {
            return Ok(Outcome::New);
        }
        let (names, authority) = (self.spec.label(), &self.spec.authority.directory);
        info!("certificate ordered: names={names} authority={authority}");
        let client = self.client().await?;
        let account = account::open(&self.spec.authority, &self.store, &client).await?;
        let replaces = mind.plan.as_ref().and_then(Plan::replaces);
        let received = order(&self.spec, &account, &client, &self.tables, replaces).await?;
        let identity = self.keep_received(received).await?;
        info!(
            "certificate received: names={names} not_after={}",
            identity.not_after
        );
        self.publish(identity);
        Ok(Outcome::New)
    }

    async fn client(&self) -> Result<Client, Failure> {
        let authority = self.spec.authority.clone();
        let made = on_disk(move || Ok(Client::new(&authority))).await;
        let made = made.unwrap_or_else(|error| Err(error.to_string()));
        made.map_err(|reason| Failure::new(Kind::Refused, reason))
    }

    async fn lock(&self) -> Result<Option<Lock>, Failure> {
        let (store, name) = (self.store.clone(), self.spec.file());
        let locked = on_disk(move || store.lock(&name)).await;
        locked.map_err(|error| Failure::disk("can't write to", &self.spec.folder(), &error))
    }

    /// Writes down a certificate that is what was ordered.
    async fn keep_received(&self, received: Received) -> Result<Identity, Failure> {
        let (store, name) = (self.store.clone(), self.file());
        let path = store.path(&name);
        let text = format!("{}{}", received.key, received.chain).into_bytes();
        let identity = read_identity(&path, text.clone());
        let identity = identity.and_then(|identity| self.judge(&identity).map(|()| identity));
        let identity = identity.map_err(|reason| {
            let reason = format!("the certificate is not what was ordered: {reason}");
            Failure::new(Kind::Refused, reason)
        })?;
        if let Err(error) = on_disk(move || store.keep(&name, &text)).await {
            // Better than to order another one: authorities count them.
            let path = path.display();
            error!(
                "certificate not written down, the next start orders another one: file={path} reason={error}"
            );
        }
        Ok(identity)
    }

    fn judge(&self, identity: &Identity) -> Result<(), String> {
        let has = |name: &&CertificateName| identity.names.iter().any(|own| own.covers(name));
        if let Some(name) = self.spec.names.iter().find(|name| !has(name)) {
            return Err(format!("it is not for `{name}`"));
        }
        if identity.not_before > now().saturating_add(SKEW) {
            // Clients, whose clocks are right, will take it.
            let names = self.spec.label();
            warn!(
                "a certificate is not valid yet: is the clock of this machine right? names={names}"
            );
        }
        if identity.not_after <= now() {
            return Err("it has expired: is the clock of this machine right?".to_owned());
        }
        Ok(())
    }

    /// Tells of a failure, and how long to wait after it.
    async fn after(&self, failure: &Failure, failures: u32) -> Duration {
        if failure.account_is_gone {
            let forgotten = account::forget(&self.store).await;
            if let Err(failure) = forgotten {
                debug!("account not forgotten: reason={failure}");
            }
        }
        let pause = schedule::pause(failure.kind, failures, failure.retry_after);
        let (names, seconds) = (self.spec.label(), pause.as_secs());
        match self.current().filter(|current| current.not_after > now()) {
            Some(current) => warn!(
                "certificate not renewed: names={names} not_after={} retry_in={seconds}s reason={failure}",
                current.not_after
            ),
            None => error!("no certificate: names={names} retry_in={seconds}s reason={failure}"),
        }
        pause
    }
}

impl Plan {
    fn new(of: Arc<Identity>, before: Option<Duration>) -> Self {
        let valid = of.not_before..of.not_after;
        let renew_at = schedule::renewal(&valid, before);
        Self {
            renew_at,
            own: renew_at,
            written: before.is_some(),
            // With half of the reserve left.
            latest: renew_at.midpoint(of.not_after),
            ask_at: now(),
            suggested: None,
            of,
        }
    }

    /// Whether it is only the authority that wants it to be replaced.
    fn is_early(&self) -> bool {
        self.renew_at < self.own
    }

    /// Takes a suggestion. A time that was chosen within a window holds for as long as the window does.
    fn take(&mut self, suggestion: Result<Suggestion, Failure>, hurried: Option<i64>) {
        let (least, most) = SUGGESTION_PAUSES;
        let again = match suggestion {
            Ok(Suggestion::Window { window, again }) => {
                if self.suggested.as_ref() != Some(&window) {
                    let latest = if self.written { self.own } else { self.latest };
                    let at = schedule::within(&window, latest);
                    let soonest = hurried.map_or(i64::MIN, |hurried| hurried.saturating_add(HURRY));
                    self.renew_at = at.max(soonest.min(self.latest));
                    self.suggested = Some(window);
                }
                again.clamp(least, most)
            }
            Ok(Suggestion::None) => most,
            Err(failure) => {
                debug!("authority suggests nothing: reason={failure}");
                SUGGESTIONS
            }
        };
        let again = i64::try_from(again.as_secs()).unwrap_or(i64::MAX);
        self.ask_at = now().saturating_add(again);
    }

    /// What the order says that it replaces. Only authorities that make suggestions understand it.
    fn replaces(&self) -> Option<instant_acme::CertificateIdentifier<'static>> {
        self.suggested.as_ref()?;
        suggestion::identifier(self.of.leaf()?)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    const DAY: i64 = 86_400;

    /// A certificate that is valid since now, for so many days.
    fn identity(days: u64) -> Arc<Identity> {
        let mut params = CertificateParams::new(["a.test".to_owned()]).unwrap();
        let now = std::time::SystemTime::now();
        params.not_before = now.into();
        params.not_after = (now + Duration::from_secs(days * 86_400)).into();
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let text = params.self_signed(&key).unwrap().pem() + &key.serialize_pem();
        Arc::new(read_identity(Path::new("a.pem"), text.into_bytes()).unwrap())
    }

    /// A suggestion, in days from now.
    fn window(from: i64, until: i64) -> Result<Suggestion, Failure> {
        Ok(Suggestion::Window {
            window: now() + from * DAY..now() + until * DAY,
            again: Duration::from_secs(21_600),
        })
    }

    #[test]
    fn a_suggestion_that_is_over_is_followed_at_once_but_once_a_day() {
        let mut plan = Plan::new(identity(90), None);
        assert!(plan.replaces().is_none(), "nobody would understand it");
        plan.take(window(-2, -1), None);
        assert!(plan.renew_at <= now() && plan.is_early());
        let mut plan = Plan::new(identity(90), None);
        plan.take(window(-2, -1), Some(now() - 60));
        let wait = plan.renew_at - now();
        assert!((HURRY - 120..=HURRY).contains(&wait), "{wait}");
    }

    #[test]
    fn a_time_that_was_chosen_stays_for_as_long_as_the_suggestion_does() {
        let mut plan = Plan::new(identity(90), None);
        let same = now() + 10 * DAY..now() + 20 * DAY;
        let suggestion = || {
            Ok(Suggestion::Window {
                window: same.clone(),
                again: Duration::ZERO,
            })
        };
        plan.take(suggestion(), None);
        let chosen = plan.renew_at;
        assert!(same.contains(&chosen) || chosen == same.end, "{chosen}");
        assert!(plan.ask_at >= now() + 59, "asked again at once");
        plan.take(suggestion(), None);
        assert_eq!(plan.renew_at, chosen);
    }

    #[test]
    fn a_suggestion_does_not_put_off_what_was_written_or_what_is_urgent() {
        let mut plan = Plan::new(identity(90), Some(Duration::from_secs(60 * 86_400)));
        plan.take(window(85, 89), None);
        assert_eq!(plan.renew_at, plan.own);
        let mut plan = Plan::new(identity(90), None);
        plan.take(window(95, 99), None);
        let left = plan.of.not_after - plan.renew_at;
        assert!((15 * DAY..=16 * DAY).contains(&left), "{left}");
    }

    #[test]
    fn an_authority_that_suggests_nothing_changes_nothing() {
        let mut plan = Plan::new(identity(90), None);
        let before = plan.renew_at;
        plan.take(Ok(Suggestion::None), None);
        plan.take(Err(Failure::new(Kind::Passing, "down")), None);
        assert_eq!(plan.renew_at, before);
        assert!(!plan.is_early());
    }
}
