//! The wish to stop, from a signal to everyone who must hear it.

use std::io;
use std::time::Duration;

use log::info;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How long requests in flight may go on after the program was told to stop.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Becomes true once, at the first SIGTERM or SIGINT.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Starts to watch for the signals. From here on they no longer kill the process.
    pub fn on_signal() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (tell, told) = watch::channel(false);
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => info!("stopping reason=SIGTERM"),
                _ = interrupt.recv() => info!("stopping reason=SIGINT"),
            }
            tell.send_replace(true);
        });
        Ok(Self(told))
    }

    /// Waits for the signal.
    pub async fn requested(mut self) {
        // An error means that the watching task is gone, with the runtime: that is a stop, too.
        self.0.wait_for(|stop| *stop).await.ok();
    }

    /// Waits for the signal and then for the end of [`PATIENCE`].
    pub async fn overdue(self) {
        self.requested().await;
        tokio::time::sleep(PATIENCE).await;
    }
}
