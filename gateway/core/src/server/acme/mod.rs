//! Certificates from authorities, got and kept fresh by the gateway itself (ACME, RFC 8555).
//!
//! Nothing here is ever waited for by a client: an authority that is slow or down costs nothing as long as the last
//! certificate is good.
//!
//! * [`spec`]: what is wanted; [`store`]: what is kept on a disk.
//! * [`certificate`]: one certificate through its years; [`schedule`]: when there is something to do.
//! * [`client`]: requests; [`account`]: who we are to the authority; [`order`]: from the first request to the
//!   certificate; [`failure`]: why there is none.
//! * [`answers`]: what an authority asks for to see that a name is ours, or [`Challenges`].

mod account;
mod answers;
mod certificate;
mod client;
mod failure;
mod order;
mod schedule;
mod spec;
mod store;
mod suggestion;

#[cfg(test)]
mod testing;

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::{
    sync::watch,
    task::{AbortHandle, spawn_blocking},
};

pub(crate) use self::{
    answers::Answers,
    certificate::Certificate,
    spec::{AcmeSpec, Authority, state_folder},
};
use super::tls::Challenges;

/// All certificates that are wanted of authorities.
#[derive(Debug, Default)]
pub(super) struct Acme {
    tables: Tables,
    /// Those that a listener has.
    known: Mutex<Vec<Weak<Certificate>>>,
    running: Mutex<Vec<Running>>,
    /// Says that there is another certificate.
    changes: watch::Sender<()>,
}

/// What authorities look at. Clones are the same tables.
#[derive(Clone, Debug, Default)]
struct Tables {
    challenges: Challenges,
    answers: Answers,
}

/// A certificate that is looked after until this is dropped.
#[derive(Debug)]
struct Running {
    certificate: Arc<Certificate>,
    task: AbortHandle,
}

impl Acme {
    /// What is shown to authorities in handshakes.
    pub(super) fn challenges(&self) -> &Challenges {
        &self.tables.challenges
    }

    /// What is answered to authorities in the clear.
    pub(super) fn answers(&self) -> Answers {
        self.tables.answers.clone()
    }

    /// Says, without end, that one of the certificates has been replaced.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The certificates that are wanted: those that there are, whoever else wants them, and new ones, with what is
    /// on the disk of them. Nobody is asked yet.
    pub(super) fn certificates(&self, specs: &[AcmeSpec]) -> Vec<Arc<Certificate>> {
        let mut known = lock(&self.known);
        known.retain(|one| one.strong_count() > 0);
        let find = |spec| {
            let mut all = known.iter().filter_map(Weak::upgrade);
            let same = all.find(|one| one.spec() == spec);
            same.unwrap_or_else(|| {
                let new = Certificate::new(spec, self.tables.clone(), self.changes.clone());
                let new = Arc::new(new);
                known.push(Arc::downgrade(&new));
                new
            })
        };
        specs.iter().map(find).collect()
    }

    /// Looks after these from now on, and after no others. Those that were looked after before are not disturbed.
    pub(super) fn run(&self, wanted: Vec<Arc<Certificate>>) {
        let mut running = lock(&self.running);
        running.retain(|one| wanted.iter().any(|other| one.is(other)));
        for certificate in wanted {
            if !running.iter().any(|one| one.is(&certificate)) {
                running.push(Running::start(certificate));
            }
        }
    }
}

impl Running {
    fn start(certificate: Arc<Certificate>) -> Self {
        let kept = Arc::clone(&certificate);
        let task = tokio::spawn(async move { kept.keep().await });
        Self {
            certificate,
            task: task.abort_handle(),
        }
    }

    fn is(&self, other: &Arc<Certificate>) -> bool {
        Arc::ptr_eq(&self.certificate, other)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is locked is consistent whenever a panic could leave it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for the disk where that holds up nobody.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    // A panic in there would have been told already.
    spawn_blocking(work).await.map_err(io::Error::other)?
}
