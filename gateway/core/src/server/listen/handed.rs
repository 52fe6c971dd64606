//! Sockets on their way from one process to the one that takes its place.

use std::{
    io,
    net::TcpListener,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixListener,
    },
};

use serde::{Deserialize, Serialize};
use socket2::{Domain, SockRef};

use super::{Custody, Listening, Socket, SocketFile, listen, tcp, unix::Identity};
use crate::config::{ListenAddress, SocketOptions};

/// What a socket is for, as one process tells it the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::server) struct Label {
    pub(super) of: Owner,
    /// The name of the listener, or of the socket of systemd.
    pub(super) name: String,
    /// The address, as the configuration has it.
    bind: String,
    /// What its file is, if that is the gateway's.
    file: Option<Identity>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::server) enum Owner {
    Listener,
    Admin,
    Systemd,
}

/// A socket that has come from the process before this one.
#[derive(Debug)]
pub(super) struct Handed {
    label: Label,
    socket: Socket,
}

impl Label {
    /// That of a socket of a listener. None if it is systemd's, and handed over as such.
    pub(in crate::server) fn of(
        owner: Owner,
        name: &str,
        bind: &ListenAddress,
        socket: &Listening,
    ) -> Option<Self> {
        if matches!(bind, ListenAddress::Systemd(_)) {
            return None;
        }
        Some(Self {
            of: owner,
            name: name.to_owned(),
            bind: bind.to_string(),
            file: socket.file().map(SocketFile::identity),
        })
    }

    /// That of a socket of systemd.
    pub(super) fn of_systemd(name: &str) -> Self {
        Self {
            of: Owner::Systemd,
            name: name.to_owned(),
            bind: String::new(),
            file: None,
        }
    }
}

impl Handed {
    /// None if nobody can listen there.
    pub(super) fn new(label: Label, socket: OwnedFd, custody: &Custody) -> Option<Self> {
        let socket = match listener(socket)? {
            Listener::Tcp(listener) => Socket::Tcp(listener),
            Listener::Unix(listener) => {
                let path = label.bind.strip_prefix("unix:").unwrap_or_default();
                let file = label.file.and_then(|identity| {
                    SocketFile::handed(path.as_ref(), identity, custody.clone())
                });
                Socket::Unix { file, listener }
            }
        };
        Some(Self { label, socket })
    }

    /// Where it is, for people.
    pub(super) fn address(&self) -> &str {
        &self.label.bind
    }

    /// Whether it is the socket that is meant. With port 0 each name has a port of its own.
    pub(super) fn is(&self, owner: Owner, name: &str, bind: &ListenAddress) -> bool {
        self.label.of == owner
            && self.label.bind == bind.to_string()
            && (bind.is_one() || self.label.name == name)
            // Nobody finds one whose file is gone.
            && !matches!(self.socket, Socket::Unix { file: None, .. })
    }

    /// Makes it what the configuration says, as far as that can be changed.
    pub(super) fn adopt(self, options: &SocketOptions) -> io::Result<Socket> {
        listen(&self.socket, options.backlog)?;
        match &self.socket {
            Socket::Tcp(listener) => tcp::tune(&SockRef::from(listener), options)?,
            Socket::Unix {
                file: Some(file), ..
            } => file.set_mode(options.mode)?,
            Socket::Unix { file: None, .. } => {}
        }
        Ok(self.socket)
    }
}

/// A socket at which we can listen.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// None if it is nothing that we can listen at.
pub(super) fn listener(socket: OwnedFd) -> Option<Listener> {
    let seen = SockRef::from(&socket);
    let listens = seen.is_listener().is_ok_and(|listens| listens);
    let domain = seen.domain().ok().filter(|_| listens)?;
    Some(match domain {
        Domain::UNIX => Listener::Unix(socket.into()),
        _ => Listener::Tcp(socket.into()),
    })
}

impl AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

#[cfg(test)]
impl Label {
    pub(in crate::server) fn named(of: Owner, name: &str, bind: &str) -> Self {
        Self {
            of,
            name: name.to_owned(),
            bind: bind.to_owned(),
            file: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn options() -> SocketOptions {
        SocketOptions::default()
    }

    fn label(of: Owner, name: &str, bind: &ListenAddress, file: Option<Identity>) -> Label {
        Label {
            of,
            name: name.to_owned(),
            bind: bind.to_string(),
            file,
        }
    }

    fn port(bind: &ListenAddress) -> Handed {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let label = label(Owner::Listener, "web", bind, None);
        Handed::new(label, socket.into(), &Custody::to_come()).unwrap()
    }

    #[test]
    fn a_port_that_the_system_has_chosen_goes_to_the_listener_of_the_same_name() {
        let (any, one) = (
            "127.0.0.1:0".parse().unwrap(),
            "127.0.0.1:80".parse().unwrap(),
        );
        assert!(port(&any).is(Owner::Listener, "web", &any));
        assert!(!port(&any).is(Owner::Listener, "other", &any));
        assert!(port(&one).is(Owner::Listener, "other", &one));
        assert!(!port(&one).is(Owner::Listener, "web", &any));
        assert!(!port(&one).is(Owner::Admin, "web", &one));
    }

    #[test]
    fn what_does_not_listen_is_not_taken() {
        let (end, _) = UnixStream::pair().unwrap();
        let bind = "127.0.0.1:80".parse().unwrap();
        let label = label(Owner::Listener, "web", &bind, None);
        assert!(Handed::new(label, end.into(), &Custody::to_come()).is_none());
    }

    #[test]
    fn a_socket_whose_file_is_another_ones_by_now_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let bind = ListenAddress::Unix(path.clone());
        let custody = Custody::alone();
        let (listener, file) = super::super::unix::open(&path, &options(), &custody).unwrap();
        let label = label(Owner::Listener, "web", &bind, Some(file.identity()));
        let hand = |custody: &Custody| {
            let socket = listener.try_clone().unwrap().into();
            Handed::new(label.clone(), socket, custody).unwrap()
        };
        let handed = hand(&Custody::to_come());
        assert!(handed.is(Owner::Listener, "web", &bind));
        drop(handed.adopt(&options()).unwrap());
        assert!(path.exists(), "it is still the other process's");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(!hand(&Custody::to_come()).is(Owner::Listener, "web", &bind));
    }
}
