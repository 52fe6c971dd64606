//! Sockets that systemd has opened, and passed on (`sd_listen_fds(3)`).

use std::{
    env, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use listenfd::ListenFd;
use socket2::SockRef;

use super::{
    Socket,
    handed::{Listener, listener},
};

/// What a socket is called that was given no name.
const NAMELESS: &str = "unknown";

#[derive(Debug)]
pub(super) struct Passed {
    pub(super) name: String,
    /// None if it is nothing that we can listen at.
    socket: Option<Listener>,
}

/// Takes over what was passed. To be called once, while there is no other thread: variables of the
/// environment that were meant for this process are removed, so that none it starts believes them.
pub(super) fn take() -> Vec<Passed> {
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut passed = ListenFd::from_env();
    let sockets = (0..passed.len()).map(|index| {
        let name = names.next().filter(|name| !name.is_empty());
        Passed {
            name: name.unwrap_or(NAMELESS).to_owned(),
            socket: take_one(&mut passed, index),
        }
    });
    sockets.collect()
}

fn take_one(passed: &mut ListenFd, index: usize) -> Option<Listener> {
    let tcp = passed.take_tcp_listener(index).ok().flatten();
    let socket: OwnedFd = match tcp {
        Some(socket) => socket.into(),
        None => passed.take_unix_listener(index).ok().flatten()?.into(),
    };
    listener(socket)
}

impl Passed {
    /// One that has come by way of another process.
    pub(super) fn handed(name: String, socket: OwnedFd) -> Self {
        Self {
            name,
            socket: listener(socket),
        }
    }

    pub(super) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// The same socket, once more.
    ///
    /// # Errors
    ///
    /// The reason why there is none, for an operator.
    pub(super) fn again(&self) -> Result<Socket, String> {
        let Some(socket) = &self.socket else {
            return Err(
                "it is no socket of TCP, and no stream of a unix socket, that listens".to_owned(),
            );
        };
        socket.again().map_err(|error| error.to_string())
    }
}

impl Listener {
    fn again(&self) -> io::Result<Socket> {
        Ok(match self {
            Self::Tcp(listener) => {
                let listener = listener.try_clone()?;
                listener.set_nonblocking(true)?;
                SockRef::from(&listener).set_tcp_nodelay(true)?;
                Socket::Tcp(listener)
            }
            Self::Unix(listener) => {
                let listener = listener.try_clone()?;
                listener.set_nonblocking(true)?;
                // The file is systemd's.
                Socket::Unix {
                    file: None,
                    listener,
                }
            }
        })
    }
}

#[cfg(test)]
impl Passed {
    pub(super) fn new(name: &str, socket: Option<std::net::TcpListener>) -> Self {
        Self {
            name: name.to_owned(),
            socket: socket.map(Listener::Tcp),
        }
    }
}
