//! Messages to the socket that systemd has named.
//!
//! The `sd-notify` crate does not know sockets without a file, which systemd has in containers.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::atomic::{AtomicBool, Ordering},
};

use log::warn;

/// A socket where systemd reads.
#[derive(Debug)]
pub(super) struct Notify {
    socket: UnixDatagram,
    address: SocketAddr,
    /// Whether it was told that nothing arrives.
    complained: AtomicBool,
}

impl Notify {
    pub(super) fn of_environment() -> Option<Self> {
        let name = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())?;
        let opened = address(&name).and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            // Nobody waits for a systemd that does not read.
            socket.set_nonblocking(true)?;
            Ok((socket, address))
        });
        match opened {
            Ok((socket, address)) => Some(Self {
                socket,
                address,
                complained: AtomicBool::new(false),
            }),
            Err(error) => {
                warn!("systemd can't be told anything: NOTIFY_SOCKET={name:?} reason={error}");
                None
            }
        }
    }

    /// Sends assignments, one a line.
    pub(super) fn tell(&self, state: &str) {
        if let Err(error) = self.socket.send_to_addr(state.as_bytes(), &self.address)
            && !self.complained.swap(true, Ordering::Relaxed)
        {
            warn!("systemd can't be told anything: reason={error}");
        }
    }
}

/// A path, or a name that has no file, which begins with an `@`.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "expected a path, or a name with an `@`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrives(receiver: &UnixDatagram, name: &OsStr) {
        let notify = Notify {
            socket: UnixDatagram::unbound().unwrap(),
            address: address(name).unwrap(),
            complained: AtomicBool::new(false),
        };
        notify.tell("READY=1\nSTATUS=x");
        let mut buffer = [0; 64];
        let length = receiver.recv(&mut buffer).unwrap();
        assert_eq!(buffer.get(..length).unwrap(), b"READY=1\nSTATUS=x");
    }

    #[test]
    fn it_arrives_at_a_file_and_at_a_name_without_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        arrives(&UnixDatagram::bind(&path).unwrap(), path.as_os_str());
        let name = format!("edgeway-test-{}", std::process::id());
        let bare = SocketAddr::from_abstract_name(&name).unwrap();
        let receiver = UnixDatagram::bind_addr(&bare).unwrap();
        arrives(&receiver, format!("@{name}").as_ref());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for name in ["relative/path", "vsock:2:1"] {
            assert!(address(name.as_ref()).is_err(), "{name}");
        }
    }
}
