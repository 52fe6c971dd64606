//! The address a program answers on, and the line that announces it.

use std::io::{self, Write};
use std::net::SocketAddr;

use clap::Args;
use log::warn;
use thiserror::Error;
use tokio::net::TcpListener;

/// `--listen 127.0.0.1:8080`, or the variable `LISTEN`.
#[derive(Args, Clone, Copy, Debug)]
pub struct Listen {
    /// Address to listen on; port 0 takes any free one, which is then printed
    #[arg(long = "listen", env = "LISTEN", value_name = "ADDRESS")]
    #[arg(default_value = "127.0.0.1:0")]
    address: SocketAddr,
}

/// The address is taken, not ours, or not allowed.
#[derive(Debug, Error)]
#[error("cannot listen on `{address}`: {reason}")]
pub struct ListenError {
    address: SocketAddr,
    reason: io::Error,
}

impl Listen {
    /// Opens the port and announces it on standard output.
    ///
    /// Called last at start: whoever reads the line may send a request at once.
    pub async fn open(self) -> Result<TcpListener, ListenError> {
        let refused = |reason| ListenError {
            address: self.address,
            reason,
        };
        let listener = TcpListener::bind(self.address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        // A program whose standard output is closed still answers; only its caller must know the port.
        if let Err(error) = announce(address) {
            warn!("address {address} not announced: {error}");
        }
        Ok(listener)
    }
}

fn announce(address: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "listening on {address}")?;
    out.flush()
}
