//! Connections, as they come.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
};

use socket2::SockRef;
use tokio::net::{TcpListener, UnixListener};

use super::{Socket, SocketFile, listen, tcp};
use crate::{config::SocketOptions, server::transport};

/// A socket that listens, in an asynchronous runtime.
#[derive(Debug)]
pub(in crate::server) enum Listening {
    Tcp(TcpListener),
    Unix {
        /// If it is ours. To be dropped before the listener is.
        file: Option<SocketFile>,
        listener: UnixListener,
    },
}

impl Listening {
    /// To be called within a runtime.
    ///
    /// # Errors
    ///
    /// The runtime can't take the socket: there is no descriptor left.
    pub(in crate::server) fn new(socket: Socket) -> io::Result<Self> {
        Ok(match socket {
            Socket::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener)?),
            Socket::Unix { file, listener } => Self::Unix {
                file,
                listener: UnixListener::from_std(listener)?,
            },
        })
    }

    /// Its file, if it has one that is ours.
    pub(super) fn file(&self) -> Option<&SocketFile> {
        match self {
            Self::Unix { file, .. } => file.as_ref(),
            Self::Tcp(_) => None,
        }
    }

    /// The next connection, with the address of its other end, if that has one. Nothing is lost when this is
    /// given up.
    ///
    /// Linux hands down to it what its listener has: keep-alive, and that nothing waits to be sent
    /// (`TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// Those of `accept(2)`.
    pub(in crate::server) async fn accept(
        &self,
    ) -> io::Result<(transport::Socket, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (tcp, peer) = listener.accept().await?;
                Ok((transport::Socket::Tcp(tcp), Some(peer)))
            }
            Self::Unix { listener, .. } => {
                let (unix, _) = listener.accept().await?;
                Ok((transport::Socket::Unix(unix), None))
            }
        }
    }

    /// Changes its options, as far as they can be changed: all but `reuse_port`.
    ///
    /// # Errors
    ///
    /// The system refuses it. Some options may be in force then, and others not.
    pub(in crate::server) fn adjust(
        &self,
        before: &SocketOptions,
        now: &SocketOptions,
    ) -> io::Result<()> {
        if before.backlog != now.backlog {
            listen(self, now.backlog)?;
        }
        match self {
            Self::Tcp(listener) if before != now => tcp::tune(&SockRef::from(listener), now),
            Self::Unix {
                file: Some(file), ..
            } if before.mode != now.mode => file.set_mode(now.mode),
            Self::Tcp(_) | Self::Unix { .. } => Ok(()),
        }
    }
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix { listener, .. } => listener.as_fd(),
        }
    }
}
