//! Sockets at a port.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::AsRawFd,
    time::Duration,
};

use pingora::protocols::l4::ext::set_tcp_fastopen_backlog;
use socket2::{Domain, Protocol, Socket as RawSocket, TcpKeepalive, Type};

use super::{listen, owner};
use crate::config::SocketOptions;

/// How many times a silent client is asked whether it is still there, within as much time as passes
/// before it is asked first.
const PROBES: u32 = 4;

/// How many clients may have sent before they are known to be where they say.
const FAST_OPENED: usize = 256;

/// Opens a port of both families, where the address is `[::]`.
///
/// # Errors
///
/// The reason, for an operator.
pub(super) fn open(address: SocketAddr, options: &SocketOptions) -> Result<TcpListener, String> {
    try_open(address, options).map_err(|error| explain(address, &error))
}

fn try_open(address: SocketAddr, options: &SocketOptions) -> io::Result<TcpListener> {
    let socket = RawSocket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    tune(&socket, options)?;
    socket.bind(&address.into())?;
    listen(&socket, options.backlog)?;
    Ok(socket.into())
}

/// Sets what can be set before and after a socket is bound.
pub(super) fn tune(socket: &RawSocket, options: &SocketOptions) -> io::Result<()> {
    socket.set_keepalive(options.tcp_keepalive.0.is_some())?;
    if let Some(silence) = options.tcp_keepalive.0 {
        let pause = (silence / PROBES).max(Duration::from_secs(1));
        let asking = TcpKeepalive::new().with_time(silence).with_interval(pause);
        socket.set_tcp_keepalive(&asking.with_retries(PROBES))?;
    }
    let opened = if options.fast_open { FAST_OPENED } else { 0 };
    // A kernel that can't need not, unless it is asked for.
    let set = set_tcp_fastopen_backlog(socket.as_raw_fd(), opened);
    if options.fast_open {
        set.map_err(io::Error::other)?;
    }
    Ok(())
}

fn explain(address: SocketAddr, error: &io::Error) -> String {
    // A kernel without IPv6 says so where the socket is made.
    const NO_SUCH_FAMILY: i32 = rustix::io::Errno::AFNOSUPPORT.raw_os_error();

    match error.kind() {
        io::ErrorKind::AddrInUse => match owner::of_port(address.port()) {
            Some(owner) if owner == owner::this() => format!(
                "{owner} is listening there already: this gateway itself, at another address of the port\n  = help: a \
                 listener can't take over an address that overlaps with one that it leaves; that needs a restart"
            ),
            Some(owner) => format!("{owner} is listening there already"),
            None => "another process is listening there already".to_owned(),
        },
        io::ErrorKind::PermissionDenied if address.port() < 1024 => {
            "ports below 1024 need a privilege\n  = help: give the process CAP_NET_BIND_SERVICE \
             (in a systemd unit: `AmbientCapabilities=CAP_NET_BIND_SERVICE`), or choose a port from 1024 on"
                .to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        _ if error.raw_os_error() == Some(NO_SUCH_FAMILY) && address.is_ipv6() => {
            let port = address.port();
            format!("this machine has no IPv6\n  = help: write `0.0.0.0:{port}`")
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use socket2::SockRef;

    use super::{
        super::{Listening, Socket},
        *,
    };
    use crate::config::{self, Backlog};

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    fn open_any(options: &SocketOptions) -> TcpListener {
        open(ANY, options).unwrap()
    }

    #[test]
    fn a_port_that_is_taken_names_the_process_that_has_it() {
        let taken = TcpListener::bind(ANY).unwrap();
        let address = taken.local_addr().unwrap();
        let message = open(address, &SocketOptions::default()).unwrap_err();
        assert!(
            message.contains(&format!("process {} (", std::process::id())),
            "{message}"
        );
    }

    #[test]
    fn an_address_of_another_machine_is_told() {
        let elsewhere = "192.0.2.1:80".parse().unwrap();
        let message = open(elsewhere, &SocketOptions::default()).unwrap_err();
        assert!(
            message.contains("this machine has no such address"),
            "{message}"
        );
    }

    #[test]
    fn a_machine_without_ipv6_is_told_what_to_write() {
        let message = explain(
            "[::]:80".parse().unwrap(),
            &rustix::io::Errno::AFNOSUPPORT.into(),
        );
        assert!(
            message.contains("no IPv6") && message.contains("`0.0.0.0:80`"),
            "{message}"
        );
    }

    #[test]
    fn a_port_can_be_shared_if_both_want_to() {
        let sharing = SocketOptions {
            reuse_port: true,
            ..SocketOptions::default()
        };
        let first = open_any(&sharing);
        let address = first.local_addr().unwrap();
        assert!(open(address, &sharing).is_ok());
        assert!(open(address, &SocketOptions::default()).is_err());
    }

    /// The accept loop relies on it, and spares system calls for each connection.
    #[test]
    fn connections_inherit_the_options_of_their_listener() {
        let asking = SocketOptions {
            tcp_keepalive: config::TcpKeepalive(Some(Duration::from_secs(40))),
            ..SocketOptions::default()
        };
        let silent = SocketOptions {
            tcp_keepalive: config::TcpKeepalive(None),
            ..SocketOptions::default()
        };
        for (options, on) in [(asking, true), (silent, false)] {
            let listener = open_any(&options);
            listener.set_nonblocking(false).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            let accepted = SockRef::from(&accepted);
            assert!(accepted.tcp_nodelay().unwrap());
            assert_eq!(accepted.keepalive().unwrap(), on);
            if on {
                let times = (
                    accepted.tcp_keepalive_time().unwrap(),
                    accepted.tcp_keepalive_interval().unwrap(),
                    accepted.tcp_keepalive_retries().unwrap(),
                );
                assert_eq!(times, (Duration::from_secs(40), Duration::from_secs(10), 4));
            }
            drop(client);
        }
    }

    #[test]
    fn the_longest_keepalive_that_can_be_written_is_one_that_the_kernel_takes() {
        for seconds in [1, 9 * 3600] {
            let options = SocketOptions {
                tcp_keepalive: config::TcpKeepalive(Some(Duration::from_secs(seconds))),
                fast_open: true,
                backlog: Backlog(1),
                ..SocketOptions::default()
            };
            open_any(&options);
        }
    }

    #[tokio::test]
    async fn the_options_of_an_open_socket_can_be_changed() {
        let socket = Listening::new(Socket::Tcp(open_any(&SocketOptions::default()))).unwrap();
        assert!(SockRef::from(&socket).keepalive().unwrap());
        let other = SocketOptions {
            tcp_keepalive: config::TcpKeepalive(None),
            backlog: Backlog(1),
            ..SocketOptions::default()
        };
        socket.adjust(&SocketOptions::default(), &other).unwrap();
        assert!(!SockRef::from(&socket).keepalive().unwrap());
    }
}
