//! The process whose place this one takes.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use log::{info, warn};
use rustix::{
    net::sockopt::{Timeout, set_socket_timeout},
    stdio::{dup2_stdin, stdin},
};

use super::{
    super::listen::Label,
    wire::{Message, VERSION, Wire},
};

/// The process that has started this one so that it takes its place, and waits for a word of it.
#[derive(Debug)]
pub(in crate::server) struct Predecessor(Wire);

/// Sockets that are handed over, with what they are for.
type Sockets = Vec<(Label, OwnedFd)>;

/// How long it may take for a word of its own.
const PATIENCE: Duration = Duration::from_secs(10);

impl Predecessor {
    /// The process that waits at standard input, if one does, and the sockets that it has. To be called once, at the
    /// start: no process that this one starts shall see it.
    ///
    /// # Errors
    ///
    /// A sentence for the operator: it has gone, or speaks otherwise.
    pub(in crate::server) fn take() -> Option<Result<(Self, Sockets), String>> {
        Wire::is_one(stdin()).then(|| {
            let gone = |error: io::Error| {
                format!("the process whose place this one should take can't be understood: {error}")
            };
            let end = stdin().try_clone_to_owned().map_err(gone)?;
            let nothing = File::open("/dev/null").map_err(gone)?;
            dup2_stdin(&nothing).map_err(|error| gone(error.into()))?;
            let this = Self(Wire::new(end));
            let sockets = this.sockets().map_err(gone)?;
            Ok((this, sockets))
        })
    }

    fn sockets(&self) -> io::Result<Sockets> {
        set_socket_timeout(self.0.as_fd(), Timeout::Recv, Some(PATIENCE))?;
        let told = self.0.receive()?.map(|(message, _)| message);
        let Some(Message::EdgewayUpgrade {
            version: VERSION,
            sockets,
        }) = told
        else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it speaks another version",
            ));
        };
        let receive = |_| match self.0.receive()? {
            Some((Message::Socket(label), Some(socket))) => Ok((label, socket)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        };
        (0..sockets).map(receive).collect()
    }

    /// Tells that this process won't do, and why.
    pub(in crate::server) fn refuse(&self, report: &str) {
        // If it has gone, it has no need of it.
        drop(self.0.send(&Message::refused(report), None));
    }

    /// Tells that this process serves, and waits until all is its own. The other one stops accepting then.
    pub(in crate::server) fn ready(self) {
        let ready = Message::Ready {
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let answer = self.0.send(&ready, None).and_then(|()| self.0.receive());
        match answer {
            Ok(Some((Message::Yours, _))) => info!("this process has taken over"),
            // Whatever has become of it, somebody has to serve.
            _ => warn!("the process whose place this one takes has gone without a word"),
        }
    }
}
