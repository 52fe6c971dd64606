//! Sockets to listen on, and why one can't be had.
//!
//! * [`tcp`]: ports; [`unix`]: sockets in the file system.
//! * [`inherited`]: sockets that are open already: of systemd ([`systemd`]), or of the process before this one
//!   ([`handed`]); [`custody`]: whose their files are.
//! * [`owner`]: who has what we can't have.
//! * [`accept`]: connections, as they come.

mod accept;
mod custody;
mod handed;
mod inherited;
mod owner;
mod systemd;
mod tcp;
mod unix;

use std::{
    fs, io,
    net::TcpListener,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixListener,
    },
};

use log::warn;
use socket2::SockRef;

use self::unix::SocketFile;
pub(super) use self::{
    accept::Listening,
    custody::Custody,
    handed::{Label, Owner},
    inherited::Inherited,
};
use crate::{
    config::{Backlog, ListenAddress, SocketOptions},
    snapshot::{Admin, ListenerSpec},
};

/// The sockets of a listener: one, unless systemd has passed several of its name.
pub(super) struct Bound {
    pub(super) name: String,
    pub(super) sockets: Vec<Socket>,
}

/// A socket that listens. Nothing waits for it: it is ready for an asynchronous runtime.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix {
        /// If it is ours. To be dropped before the listener is.
        file: Option<SocketFile>,
        listener: UnixListener,
    },
}

impl Socket {
    /// Where it is, for people: `127.0.0.1:80`, `unix:/run/edgeway.sock`.
    pub(super) fn address(&self) -> String {
        let address = match self {
            Self::Tcp(listener) => listener.local_addr().map(|address| address.to_string()),
            Self::Unix { listener, .. } => {
                listener.local_addr().map(|address| unix::shown(&address))
            }
        };
        address.unwrap_or_else(|error| error.to_string())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix { listener, .. } => listener.as_fd(),
        }
    }
}

/// Opens the sockets of a listener.
///
/// It waits for nothing but the file system; to be called off the threads that serve.
///
/// # Errors
///
/// A sentence for the operator: which listener, what is the matter, what to do.
pub(super) fn bind(spec: &ListenerSpec, inherited: &Inherited) -> Result<Bound, String> {
    let ListenerSpec { name, bind, .. } = spec;
    let sockets = open(Owner::Listener, name, bind, &spec.socket, inherited)
        .map_err(|reason| format!("the listener `{name}` can't have {bind}: {reason}"))?;
    warn_of_limits(name, &spec.socket);
    Ok(Bound {
        name: name.clone(),
        sockets,
    })
}

/// Opens the socket of the admin listener.
///
/// # Errors
///
/// As those of [`bind`].
pub(super) fn bind_admin(admin: &Admin, inherited: &Inherited) -> Result<Socket, String> {
    let address = &admin.bind;
    let options = SocketOptions::default();
    open(Owner::Admin, "", address, &options, inherited)
        .and_then(|sockets| sockets.into_iter().next().ok_or_else(String::new))
        .map_err(|reason| format!("the listener `admin` can't have {address}: {reason}"))
}

/// At least one socket.
fn open(
    owner: Owner,
    name: &str,
    address: &ListenAddress,
    options: &SocketOptions,
    inherited: &Inherited,
) -> Result<Vec<Socket>, String> {
    if let Some(socket) = inherited.handed(owner, name, address, options)? {
        return Ok(vec![socket]);
    }
    match address {
        ListenAddress::Tcp(address) => {
            let listener = tcp::open(*address, options)?;
            Ok(vec![Socket::Tcp(listener)])
        }
        ListenAddress::Unix(path) => {
            let (listener, file) = unix::open(path, options, inherited.custody())?;
            let file = Some(file);
            Ok(vec![Socket::Unix { file, listener }])
        }
        // Its options are for the socket unit to say.
        ListenAddress::Systemd(name) => inherited.named(name),
    }
}

/// Has a socket listen, or changes how many may wait.
fn listen(socket: &impl AsFd, backlog: Backlog) -> io::Result<()> {
    SockRef::from(socket).listen(backlog.0.into())
}

/// Tells where the system does not do what the configuration wants of it.
fn warn_of_limits(name: &str, options: &SocketOptions) {
    let most = setting("/proc/sys/net/core/somaxconn");
    let wanted = u64::from(options.backlog.0);
    if let Some(most) = most.filter(|most| options.backlog != Backlog::DEFAULT && *most < wanted) {
        warn!(
            "fewer connections may wait than `backlog` says: listener={name} backlog={wanted} \
             net.core.somaxconn={most}"
        );
    }
    const FOR_LISTENERS: u64 = 2;
    let permitted = setting("/proc/sys/net/ipv4/tcp_fastopen");
    if options.fast_open && permitted.is_some_and(|bits| bits & FOR_LISTENERS == 0) {
        warn!(
            "`fast_open` has no effect until the system permits it: listener={name} \
             help=\"sysctl net.ipv4.tcp_fastopen=3\""
        );
    }
}

/// A number that the kernel shows; none if it shows none.
fn setting(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
