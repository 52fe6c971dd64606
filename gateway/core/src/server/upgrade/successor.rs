//! The process that takes the place of this one.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    process::{Child, ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    net::UnixDatagram,
    time::{Instant, sleep},
};

use super::{
    super::listen::Label,
    program::Program,
    wire::{Message, VERSION, Wire},
};

/// A process that is to take the place of this one. It is killed when this is dropped before it has.
#[derive(Debug)]
pub(super) struct Successor {
    child: Option<Child>,
    wire: Wire<UnixDatagram>,
    pid: u32,
}

/// How long a process may take to end that has said its last word.
const ENDING: Duration = Duration::from_secs(2);

/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(10);

impl Successor {
    /// Starts it. To be called within a runtime.
    pub(super) fn start(program: &Program, sockets: usize) -> Result<Self, String> {
        let started = || {
            let (ours, theirs) = Wire::pair()?;
            let first = Message::EdgewayUpgrade {
                version: VERSION,
                sockets,
            };
            ours.send(&first, None)?;
            let mut command = program.command();
            let child = command.stdin(Stdio::from(theirs)).spawn()?;
            Ok::<_, io::Error>((child, ours))
        };
        let (child, wire) = started()
            .map_err(|error| format!("`{}` can't be started: {error}", program.path.display()))?;
        let pid = child.id();
        Ok(Self {
            child: Some(child),
            wire,
            pid,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Hands the sockets over, and waits until it serves: gives its version.
    ///
    /// # Errors
    ///
    /// What has become of it, for an operator.
    pub(super) async fn prepare(
        &mut self,
        sockets: Vec<(Label, OwnedFd)>,
    ) -> Result<String, String> {
        for (label, socket) in sockets {
            let message = Message::Socket(label);
            if self.wire.say(&message, Some(socket.as_fd())).await.is_err() {
                // What it has said before it went comes first.
                break;
            }
        }
        match self.wire.hear().await {
            Ok(Some(Message::Ready { version })) => Ok(version),
            Ok(Some(Message::Refused { report })) => Err(report.trim_end().to_owned()),
            Ok(None) => Err(self.end().await),
            Ok(Some(other)) => Err(format!("the new process can't be understood: {other:?}")),
            // A process that ends with something unread resets the connection.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(self.end().await),
            Err(error) => Err(format!("the new process can't be understood: {error}")),
        }
    }

    /// Leaves all to it. It is not killed any more.
    ///
    /// # Errors
    ///
    /// It has gone meanwhile.
    pub(super) async fn succeed(&mut self) -> Result<(), String> {
        if self.wire.say(&Message::Yours, None).await.is_err() {
            return Err(self.end().await);
        }
        self.child = None;
        Ok(())
    }

    /// How it has ended, which has said nothing.
    async fn end(&mut self) -> String {
        let until = Instant::now() + ENDING;
        loop {
            match self.ended() {
                Some(status) => {
                    return format!(
                        "the new process has ended before it could serve: {status}; its last words are in the log"
                    );
                }
                None if Instant::now() > until => {
                    return "the new process has closed its standard input: is it an `edgeway run`?"
                        .to_owned();
                }
                None => sleep(LOOK).await,
            }
        }
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself. Once it is killed, nothing holds it up.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
