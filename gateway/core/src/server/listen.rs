//! Sockets to listen on, and why one can't be had.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
};

use edgeway_sdk::Secret;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    config::Http2,
    snapshot::{Admin, ListenerSpec},
};

/// A socket that listens.
pub(super) struct Bound {
    pub(super) name: String,
    pub(super) socket: TcpListener,
    pub(super) http2: Option<Http2>,
}

/// How many connections may wait to be accepted; the kernel lowers it to its own limit.
const BACKLOG: i32 = 4096;

/// Opens all sockets, or none.
///
/// # Errors
///
/// A sentence for the operator: which listener, what is the matter, what to do.
pub(super) fn bind(specs: &[ListenerSpec]) -> Result<Vec<Bound>, String> {
    let bound = |spec: &ListenerSpec| match open(spec.bind) {
        Ok(socket) => Ok(Bound {
            name: spec.name.clone(),
            socket,
            http2: spec.http2,
        }),
        Err(error) => Err(explain(spec, &error)),
    };
    specs.iter().map(bound).collect()
}

/// Opens the socket of the admin listener, if there is to be one; gives it with its token.
///
/// # Errors
///
/// As those of [`bind`].
pub(super) fn bind_admin(admin: Option<&Admin>) -> Result<Option<(Bound, Option<Secret>)>, String> {
    let Some(admin) = admin else { return Ok(None) };
    let spec = ListenerSpec {
        name: "admin".to_owned(),
        bind: admin.bind,
        http2: None,
    };
    let bound = bind(&[spec])?.pop();
    Ok(bound.map(|bound| (bound, admin.token.clone())))
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn explain(spec: &ListenerSpec, error: &io::Error) -> String {
    let ListenerSpec { name, bind, .. } = spec;
    let reason = match error.kind() {
        io::ErrorKind::AddrInUse => match owner(bind.port()) {
            Some(owner) => format!("{owner} is listening there already"),
            None => "another process is listening there already".to_owned(),
        },
        io::ErrorKind::PermissionDenied if bind.port() < 1024 => {
            "ports below 1024 need a privilege\n  = help: give the process CAP_NET_BIND_SERVICE \
             (in a systemd unit: `AmbientCapabilities=CAP_NET_BIND_SERVICE`), or choose a port from 1024 on"
                .to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        _ => error.to_string(),
    };
    format!("the listener `{name}` can't have {bind}: {reason}")
}

/// The process that listens on a port, as far as this process may see it: `process 42 (nginx)`.
fn owner(port: u16) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|table| {
            let text = fs::read_to_string(table).ok()?;
            text.lines()
                .find_map(|line| listening_inode(line, port).map(str::to_owned))
        })?;
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let holds = |pid: &String| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))
            .ok()
            .into_iter()
            .flatten()
            .flatten();
        descriptors
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .any(|link| link.as_os_str() == wanted.as_str())
    };
    let pid = processes
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .find(holds)?;
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("process {pid} ({})", command.trim()))
}

/// The inode of a line of `/proc/net/tcp`, if that is a socket that listens on the port.
fn listening_inode(line: &str, port: u16) -> Option<&str> {
    const LISTEN: &str = "0A";
    let mut fields = line.split_ascii_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    let (_, local_port) = local.rsplit_once(':')?;
    let here = state == LISTEN && u16::from_str_radix(local_port, 16) == Ok(port);
    here.then(|| fields.nth(5)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_names_the_process_that_has_it() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let spec = ListenerSpec {
            name: "http".to_owned(),
            bind: taken.local_addr().unwrap(),
            http2: None,
        };
        let message = bind(&[spec]).err().unwrap();
        assert!(
            message.contains("the listener `http` can't have 127.0.0.1:"),
            "{message}"
        );
        assert!(
            message.contains(&format!("process {} (", std::process::id())),
            "{message}"
        );
    }

    #[test]
    fn an_address_of_another_machine_is_told() {
        let spec = ListenerSpec {
            name: "http".to_owned(),
            bind: "192.0.2.1:80".parse().unwrap(),
            http2: None,
        };
        assert!(
            bind(&[spec])
                .err()
                .unwrap()
                .contains("this machine has no such address")
        );
    }
}
