//! Files that change while the gateway runs, and certificates that end.

use std::{sync::Arc, time::Duration};

use log::{error, info, warn};
use rustls::{server::danger::ClientCertVerifier, sign::CertifiedKey};
use tokio::{task::spawn_blocking, time::sleep};

use super::{
    Changed, Expiry, Terminator,
    clients::{AuthorityFlaw, ClientAuthority, Verifier},
    development,
    identity::{Contents, Digest, Files, Flaw, Identity},
    now,
    ocsp::Answer,
    ordered::Ordered,
    spec::{Material, Rules, Source, TlsSpec},
};
use crate::config::tls::CertificateName;

/// How long a file must have stayed as it is before it is believed to be complete.
const SETTLED: Duration = Duration::from_secs(1);

/// Days that are left when somebody is told, if that is less than a third of the whole.
const TOLD: [i64; 6] = [0, 1, 3, 7, 14, 30];

/// With so many days left it can't wait.
const URGENT: i64 = 3;

const DAY: i64 = 86_400;

/// What a listener has of its files.
pub(super) struct Keeper {
    /// Those of files first, in their order, or the one for development.
    pub(super) kept: Vec<Kept>,
    /// How many these are.
    pub(super) own: usize,
    /// Where the others come from.
    pub(super) ordered: Option<Ordered>,
    clients: Option<(Watched, Verifier)>,
}

/// A certificate in use.
pub(super) struct Kept {
    pub(super) identity: Arc<Identity>,
    watched: Watched,
    /// Days before its end when somebody was told.
    told: Option<i64>,
    /// The newest proof.
    pub(super) staple: Option<Answer>,
    /// When the authority is asked next, in seconds since 1970.
    pub(super) ask_at: i64,
    /// How often in a row it had no answer.
    pub(super) failures: u32,
}

/// Whether files have changed, and have been left alone since.
struct Watched {
    used: Digest,
    /// What is there instead, and whether it was looked into.
    other: Option<(Seen, bool)>,
}

/// What a look at files shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Content(Digest),
    Unreadable,
}

/// What is to be done after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Nothing,
    /// They have changed just now: look again soon.
    Wait,
    /// They have changed, and stay so.
    Read,
}

/// What the files hold now, as far as they can be read.
struct Look {
    certificates: Vec<Result<Contents, Flaw>>,
    clients: Option<Result<super::clients::AuthorityContents, AuthorityFlaw>>,
}

impl Terminator {
    /// Looks at the files again and again.
    pub(super) async fn watch(self: &Arc<Self>) {
        self.keeper().warn_of_expiry(&self.listener, now());
        let mut pause = self.rules.watch_interval;
        loop {
            sleep(pause).await;
            let this = Arc::clone(self);
            // A disk may take its time. A panic in there would have been told already.
            let unsettled = spawn_blocking(move || this.look()).await.unwrap_or(false);
            pause = self.rules.watch_interval;
            if unsettled {
                pause = pause.min(SETTLED);
            }
        }
    }

    /// Looks at the files once. Returns whether they have changed just now.
    pub(super) fn look(&self) -> bool {
        let look = Look::at(&self.rules);
        let mut keeper = self.keeper();
        let (mut changed, unsettled) = keeper.take(&self.listener, &self.rules, look);
        if let Source::Development(folder) = &self.rules.certificates {
            changed.certificates |= keeper.remake(folder.as_deref(), now());
        }
        keeper.warn_of_expiry(&self.listener, now());
        self.apply(&keeper, changed);
        unsettled
    }
}

impl Look {
    fn at(rules: &Rules) -> Self {
        let files: &[Files] = match &rules.certificates {
            Source::Files(files) => files,
            Source::Development(_) => &[],
        };
        Self {
            certificates: files.iter().map(Files::read).collect(),
            clients: rules.clients.as_ref().map(ClientAuthority::read),
        }
    }
}

impl Keeper {
    pub(super) fn new(listener: &str, spec: &TlsSpec, now: i64) -> Result<Self, String> {
        let mut kept: Vec<_> = spec.material.identities.iter().map(Kept::new).collect();
        if let Source::Development(folder) = &spec.rules.certificates {
            let identity = development::identity(folder.as_deref(), now)?;
            development::warn_of_it(listener, folder.as_deref());
            kept.push(Kept::new(&Arc::new(identity)));
        }
        let clients = spec.material.verifier.clone();
        Ok(Self {
            own: kept.len(),
            kept,
            ordered: None,
            clients: clients.map(|verifier| (Watched::new(verifier.digest), verifier)),
        })
    }

    /// How clients are checked, if they are.
    pub(super) fn verifier(&self) -> Option<Arc<dyn ClientCertVerifier>> {
        let (_, verifier) = self.clients.as_ref()?;
        Some(Arc::clone(&verifier.verifier))
    }

    /// The certificates with their names, and with the proofs that hold.
    pub(super) fn certificates(&self, now: i64) -> Vec<(&[CertificateName], Arc<CertifiedKey>)> {
        let one = |kept: &'_ Kept| {
            let proof = kept.proof(now);
            let certified = &kept.identity.certified;
            let Some(proof) = proof else {
                return Arc::clone(certified);
            };
            let mut stapled = CertifiedKey::clone(certified);
            stapled.ocsp = Some(proof.der.to_vec());
            Arc::new(stapled)
        };
        let kept = self.kept.iter();
        kept.map(|kept| (&*kept.identity.names, one(kept)))
            .collect()
    }

    pub(super) fn expiry(&self) -> Vec<Expiry> {
        let one = |kept: &Kept| Expiry {
            names: kept
                .identity
                .names
                .iter()
                .map(ToString::to_string)
                .collect(),
            not_after: kept.identity.not_after,
        };
        self.kept.iter().map(one).collect()
    }

    /// Takes over what an equal specification has found in the same files.
    pub(super) fn renew(&mut self, material: &Material) -> Changed {
        let mut changed = Changed::default();
        for (kept, identity) in self.kept.iter_mut().zip(&material.identities) {
            if kept.identity.digest != identity.digest {
                *kept = Kept::new(identity);
                changed.certificates = true;
            }
        }
        if let (Some((watched, old)), Some(new)) = (&mut self.clients, &material.verifier)
            && old.digest != new.digest
        {
            (*watched, *old) = (Watched::new(new.digest), new.clone());
            changed.clients = true;
        }
        changed
    }

    /// Draws the consequences of a look at the files: what has changed, and whether something may still
    /// be changing.
    fn take(&mut self, listener: &str, rules: &Rules, look: Look) -> (Changed, bool) {
        let mut changed = Changed::default();
        let mut unsettled = false;
        let files: &[Files] = match &rules.certificates {
            Source::Files(files) => files,
            Source::Development(_) => &[],
        };
        let looked = self.kept.iter_mut().zip(files).zip(look.certificates);
        for ((kept, files), contents) in looked {
            match kept.watched.judge(Seen::of(&contents, Contents::digest)) {
                Verdict::Nothing => {}
                Verdict::Wait => unsettled = true,
                Verdict::Read => {
                    let identity = contents.and_then(|contents| files.parse(contents));
                    changed.certificates |= kept.replace(listener, files, identity);
                }
            }
        }
        if let (Some((watched, verifier)), Some(authority), Some(contents)) =
            (&mut self.clients, &rules.clients, look.clients)
        {
            let digest = super::clients::AuthorityContents::digest;
            match watched.judge(Seen::of(&contents, digest)) {
                Verdict::Nothing => {}
                Verdict::Wait => unsettled = true,
                Verdict::Read => {
                    let read = contents.and_then(|contents| authority.parse(&contents));
                    changed.clients |= replace_verifier(listener, watched, verifier, read);
                }
            }
        }
        (changed, unsettled)
    }

    /// Makes a certificate for development anew when its time is up. Returns whether there is another.
    fn remake(&mut self, folder: Option<&std::path::Path>, now: i64) -> bool {
        let Some(kept) = self.kept.first_mut() else {
            return false;
        };
        if kept.identity.not_after.saturating_sub(now) > DAY {
            return false;
        }
        match development::identity(folder, now) {
            Ok(identity) => *kept = Kept::new(&Arc::new(identity)),
            Err(reason) => error!("certificate kept: reason={reason}"),
        }
        true
    }

    /// Tells of each certificate that ends soon, once for each of [`TOLD`].
    fn warn_of_expiry(&mut self, listener: &str, now: i64) {
        for kept in &mut self.kept {
            let (start, end) = (kept.identity.not_before, kept.identity.not_after);
            let Some(days) = due(start, end, now) else {
                continue;
            };
            if kept.told.is_some_and(|told| told <= days) {
                continue;
            }
            kept.told = Some(days);
            let certificate = kept.identity.label();
            let left = end.saturating_sub(now).div_euclid(DAY);
            if left < 0 {
                error!(
                    "certificate has expired: listener={listener} certificate={certificate} not_after={end}"
                );
            } else if days <= URGENT {
                error!(
                    "certificate expires soon: listener={listener} certificate={certificate} days={left} not_after={end}"
                );
            } else {
                warn!(
                    "certificate expires soon: listener={listener} certificate={certificate} days={left} not_after={end}"
                );
            }
        }
    }
}

/// The least of [`TOLD`] that has come for what is valid from `start` to `end`, if one has.
fn due(start: i64, end: i64, now: i64) -> Option<i64> {
    let third = end.saturating_sub(start) / 3;
    let left = end.saturating_sub(now);
    TOLD.into_iter()
        .find(|days| left <= days * DAY && (*days == 0 || days * DAY < third))
}

/// Takes other authorities of clients, unless there is something wrong with them. Returns whether it did.
fn replace_verifier(
    listener: &str,
    watched: &mut Watched,
    verifier: &mut Verifier,
    read: Result<Verifier, AuthorityFlaw>,
) -> bool {
    match read {
        Ok(new) => {
            (*watched, *verifier) = (Watched::new(new.digest), new);
            info!("client authorities replaced: listener={listener}");
            true
        }
        Err(flaw) => {
            let reason = flaw.message();
            error!("client authorities kept: listener={listener} reason={reason}");
            false
        }
    }
}

impl Kept {
    pub(super) fn new(identity: &Arc<Identity>) -> Self {
        Self {
            watched: Watched::new(identity.digest),
            told: None,
            staple: identity.answer.clone(),
            ask_at: 0,
            failures: 0,
            identity: Arc::clone(identity),
        }
    }

    /// The proof, if there is one that holds.
    pub(super) fn proof(&self, now: i64) -> Option<&Answer> {
        let staple = self.staple.as_ref();
        staple.filter(|staple| now < staple.until)
    }

    /// Takes another certificate, unless there is something wrong with it. Returns whether it did.
    fn replace(&mut self, listener: &str, files: &Files, identity: Result<Identity, Flaw>) -> bool {
        let file = files.chain.display();
        match identity {
            Ok(identity) => {
                *self = Self::new(&Arc::new(identity));
                let (certificate, end) = (self.identity.label(), self.identity.not_after);
                info!(
                    "certificate replaced: listener={listener} certificate={certificate} file={file} not_after={end}"
                );
                true
            }
            Err(Flaw { message, .. }) => {
                let certificate = self.identity.label();
                error!(
                    "certificate kept: listener={listener} certificate={certificate} file={file} reason={message}"
                );
                false
            }
        }
    }
}

impl Watched {
    fn new(used: Digest) -> Self {
        Self { used, other: None }
    }

    fn judge(&mut self, seen: Seen) -> Verdict {
        if seen == Seen::Content(self.used) {
            self.other = None;
            return Verdict::Nothing;
        }
        match &mut self.other {
            Some((other, read)) if *other == seen => {
                let before = std::mem::replace(read, true);
                if before {
                    Verdict::Nothing
                } else {
                    Verdict::Read
                }
            }
            other => {
                *other = Some((seen, false));
                Verdict::Wait
            }
        }
    }
}

impl Seen {
    fn of<C, E>(contents: &Result<C, E>, digest: impl Fn(&C) -> Digest) -> Self {
        contents
            .as_ref()
            .map_or(Self::Unreadable, |contents| Self::Content(digest(contents)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_told_in_steps_that_suit_its_length() {
        let due = |whole: i64, left: i64| due(0, whole * DAY, (whole - left) * DAY);
        let year = [
            (31, None),
            (30, Some(30)),
            (15, Some(30)),
            (14, Some(14)),
            (4, Some(7)),
        ];
        for (left, told) in year {
            assert_eq!(due(365, left), told, "{left}");
        }
        // These are renewed when a third is left: that is nothing to tell.
        for (left, told) in [
            (30, None),
            (15, None),
            (14, Some(14)),
            (1, Some(1)),
            (0, Some(0)),
        ] {
            assert_eq!(due(90, left), told, "{left}");
        }
        for (left, told) in [(6, None), (2, None), (1, Some(1)), (-1, Some(0))] {
            assert_eq!(due(6, left), told, "{left}");
        }
    }

    #[test]
    fn files_are_read_again_when_they_have_changed_and_stay_so() {
        let mut watched = Watched::new([0; 32]);
        let seen = |byte| Seen::Content([byte; 32]);
        assert_eq!(watched.judge(seen(0)), Verdict::Nothing);
        assert_eq!(watched.judge(seen(1)), Verdict::Wait);
        assert_eq!(watched.judge(seen(2)), Verdict::Wait);
        assert_eq!(watched.judge(seen(2)), Verdict::Read);
        // It was no good: nobody wants to be told again.
        assert_eq!(watched.judge(seen(2)), Verdict::Nothing);
        assert_eq!(watched.judge(Seen::Unreadable), Verdict::Wait);
        assert_eq!(watched.judge(Seen::Unreadable), Verdict::Read);
        assert_eq!(watched.judge(seen(0)), Verdict::Nothing);
        assert_eq!(watched.judge(Seen::Unreadable), Verdict::Wait);
    }
}
