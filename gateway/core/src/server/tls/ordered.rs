//! Certificates that an authority makes while the gateway runs, beside those of files.

use std::{future, path::Path, sync::Arc};

use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use super::{
    Changed, Terminator,
    identity::{Files, Identity},
    watch::{Keeper, Kept},
};
use crate::{config::tls::CertificateName, server::acme};

/// What is shown of what authorities make.
pub(super) struct Ordered {
    certificates: Vec<Arc<acme::Certificate>>,
    /// Says that one of them has been replaced.
    changes: watch::Receiver<()>,
}

impl Terminator {
    /// Shows these from now on, as they are at any time.
    pub(crate) fn follow(
        &self,
        certificates: Vec<Arc<acme::Certificate>>,
        changes: watch::Receiver<()>,
    ) {
        let mut keeper = self.keeper();
        keeper.ordered = Some(Ordered {
            certificates,
            changes,
        });
        keeper.take_ordered();
        // In any case: names may have come for which there is none yet.
        self.apply(&keeper, CERTIFICATES);
    }

    /// Takes over certificates that are made anew, without end.
    pub(super) async fn keep_ordered(&self) {
        let changes = self.keeper().changes();
        let Some(mut changes) = changes else {
            return future::pending().await;
        };
        loop {
            self.take_ordered();
            if changes.changed().await.is_err() {
                return future::pending().await;
            }
        }
    }

    fn take_ordered(&self) {
        let mut keeper = self.keeper();
        if keeper.take_ordered() {
            self.apply(&keeper, CERTIFICATES);
        }
    }
}

const CERTIFICATES: Changed = Changed {
    certificates: true,
    clients: false,
};

impl Keeper {
    fn changes(&self) -> Option<watch::Receiver<()>> {
        let ordered = self.ordered.as_ref();
        ordered.map(|ordered| ordered.changes.clone())
    }

    /// Puts those that there are behind those of files. Returns whether there is another one.
    fn take_ordered(&mut self) -> bool {
        let Some(ordered) = &self.ordered else {
            return false;
        };
        let certificates = ordered.certificates.iter();
        let now: Vec<_> = certificates.filter_map(|one| one.current()).collect();
        let mut before: Vec<_> = self.kept.drain(self.own.min(self.kept.len())..).collect();
        let mut changed = false;
        for identity in now {
            let same = before
                .iter()
                .position(|kept| Arc::ptr_eq(&kept.identity, &identity));
            // With what was found out about it.
            let kept = same.map(|place| before.swap_remove(place));
            changed |= kept.is_none();
            self.kept.push(kept.unwrap_or_else(|| Kept::new(&identity)));
        }
        let missing = self.pending();
        // What was shown so far is better than nothing: for names that were ordered with others before.
        for kept in before {
            let covers =
                |name: &CertificateName| kept.identity.names.iter().any(|own| own.covers(name));
            if missing.iter().any(covers) {
                self.kept.push(kept);
            } else {
                changed = true;
            }
        }
        changed
    }

    /// The names for which there is no certificate yet.
    pub(super) fn pending(&self) -> Vec<CertificateName> {
        let ordered = self
            .ordered
            .iter()
            .flat_map(|ordered| &ordered.certificates);
        let pending = ordered.filter(|one| one.current().is_none());
        pending.flat_map(|one| one.names().to_vec()).collect()
    }
}

impl Identity {
    /// The certificate itself.
    pub(crate) fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.certified.cert.first()
    }
}

/// A certificate with its chain and its key, of which a file holds all.
///
/// # Errors
///
/// A sentence for the operator.
pub(crate) fn read_identity(file: &Path, text: Vec<u8>) -> Result<Identity, String> {
    let files = Files {
        chain: file.to_owned(),
        key: file.to_owned(),
        ocsp: None,
        names: None,
    };
    let read = files.parse_texts(text.clone(), text);
    read.map_err(|flaw| flaw.message)
}
