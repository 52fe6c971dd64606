//! What is to be done once the gateway serves.

use std::sync::Arc;

use log::error;

use super::{
    listen::Inherited,
    pid_file::PidFile,
    systemd::{Systemd, Watchdog},
    upgrade::Predecessor,
};

/// Those who wait for it.
pub(super) struct Ready {
    /// The process whose place this one takes.
    pub(super) predecessor: Option<Predecessor>,
    pub(super) inherited: Arc<Inherited>,
    pub(super) pid_file: Option<PidFile>,
    pub(super) systemd: Systemd,
    pub(super) watchdog: Watchdog,
}

impl Ready {
    /// Tells the process before this one that it has to go on, and why, if there is one.
    pub(super) fn refuse(&self, report: &str) {
        if let Some(predecessor) = &self.predecessor {
            predecessor.refuse(report);
        }
    }

    /// Writes the number of this process, unless another one serves still.
    pub(super) fn write_pid_file(&self) -> Result<(), String> {
        match &self.pid_file {
            Some(file) if self.predecessor.is_none() => file.write(),
            _ => Ok(()),
        }
    }

    /// Tells them. Blocks until the process before this one has answered.
    pub(super) fn tell(self) {
        if let Some(predecessor) = self.predecessor {
            predecessor.ready();
            // It was the other's until now.
            if let Some(Err(reason)) = self.pid_file.map(|file| file.write()) {
                error!("{reason}");
            }
        }
        self.inherited.settle();
        self.systemd.ready();
        self.watchdog.start(self.systemd);
    }
}
