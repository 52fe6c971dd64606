//! Another program in the place of this process, without a connection that is lost.
//!
//! This process starts the program that is at its path now, with its own arguments and environment, and hands it the
//! sockets that it listens at, over a pair of sockets that nobody else can have: one of its ends is the other's
//! standard input. The new process loads its configuration, takes the sockets that it wants, and says when it serves.
//! Only then this one stops accepting, and ends as it does when it is told to. Whatever goes wrong before, the new
//! process is gone and this one has never stopped serving.
//!
//! * [`program`]: what is started; [`successor`]: as the old process sees it.
//! * [`predecessor`]: the old process as the new one sees it.
//! * [`wire`]: what they say.

mod predecessor;
mod program;
mod successor;
mod wire;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use log::{error, info};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::{select, time::timeout};

use self::successor::Successor;
pub(super) use self::{predecessor::Predecessor, program::Program};
use super::{drain::Drain, listeners::Listeners, systemd::Systemd};

/// How long a new process may take until it serves, if nobody says otherwise.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What can put another program in the place of this process.
pub(super) struct Upgrade {
    /// None if it is not known.
    program: Option<Program>,
    listeners: Arc<Listeners>,
    drain: Drain,
    systemd: Systemd,
    successor: AtomicU32,
}

/// That another process has taken the place of this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Done {
    /// The number of the new process.
    pub(crate) pid: u32,
    /// Its version.
    pub(crate) version: String,
    /// The program that was started.
    pub(crate) program: String,
    pub(crate) took_ms: u64,
}

impl Upgrade {
    pub(super) fn new(
        program: Option<Program>,
        listeners: Arc<Listeners>,
        drain: Drain,
        systemd: Systemd,
    ) -> Self {
        Self {
            program,
            listeners,
            drain,
            systemd,
            successor: AtomicU32::new(0),
        }
    }

    /// The process that has taken the place of this one.
    pub(super) fn successor(&self) -> Option<u32> {
        let successor = self.successor.load(Ordering::Relaxed);
        (successor != 0).then_some(successor)
    }

    /// Has another process take the place of this one, which drains after that.
    ///
    /// # Errors
    ///
    /// Why it can't, for an operator. Nothing has changed then.
    pub(super) async fn run(&self, patience: Duration) -> Result<Done, String> {
        let begun = Instant::now();
        let done = match self.obstacle() {
            Some(obstacle) => Err(obstacle),
            None => select! {
                replaced = self.replace(patience) => replaced,
                () = self.drain.begun() => Err("the gateway stops".to_owned()),
            },
        };
        match &done {
            Ok((successor, version)) => {
                info!("upgraded: pid={successor} version={version}; this process ends")
            }
            Err(reason) => error!("upgrade failed, this process goes on: {reason}"),
        }
        let (pid, version) = done?;
        Ok(Done {
            pid,
            version,
            program: self
                .program
                .as_ref()
                .map_or_else(String::new, |program| program.path.display().to_string()),
            took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Why nothing could come of it.
    fn obstacle(&self) -> Option<String> {
        if let Some(successor) = self.successor() {
            return Some(format!(
                "process {successor} has taken the place of this one already"
            ));
        }
        let first = std::process::id() == FIRST;
        first.then(|| {
            "this is the first process of its container, which ends with it: start another container instead"
                .to_owned()
        })
    }

    async fn replace(&self, patience: Duration) -> Result<(u32, String), String> {
        let Some(program) = &self.program else {
            return Err("the path of this program is not known".to_owned());
        };
        let sockets = self.listeners.offers().map_err(|error| error.to_string())?;
        info!("upgrading: program={}", program.path.display());
        let mut successor = Successor::start(program, sockets.len())?;
        let version = timeout(patience, successor.prepare(sockets))
            .await
            .unwrap_or_else(|_| {
                Err(format!(
                    "the new process does not serve after {patience:?}, and was killed"
                ))
            })?;
        let pid = successor.pid();
        // Before it learns that all is its own.
        self.listeners.give_up();
        self.systemd.hand_over(pid);
        if let Err(gone) = successor.succeed().await {
            self.listeners.take_back();
            self.systemd.take_back();
            return Err(gone);
        }
        self.successor.store(pid, Ordering::Relaxed);
        self.drain.begin();
        Ok((pid, version))
    }
}

/// The number of the process that a container is made for.
const FIRST: u32 = 1;
