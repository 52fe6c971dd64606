//! Who listens where we want to.

use std::{fs, os::fd::AsFd};

use rustix::net::sockopt::socket_peercred;

/// The process that listens on a port, as far as this process may see it: `process 42 (nginx)`.
pub(super) fn of_port(port: u16) -> Option<String> {
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
    Some(called(&pid))
}

/// The process at the other end of a connection to a unix socket: that which listens there.
pub(super) fn of_peer(connection: impl AsFd) -> Option<String> {
    let credentials = socket_peercred(connection).ok()?;
    Some(called(&credentials.pid.as_raw_nonzero().to_string()))
}

/// How this process is called.
pub(super) fn this() -> String {
    called(&std::process::id().to_string())
}

fn called(pid: &str) -> String {
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("process {pid} ({})", command.trim())
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
