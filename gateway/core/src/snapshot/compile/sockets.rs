//! How a listener's socket is made, from what is written of it.

use crate::config::{
    At, ListenAddress, Listener, SocketOptions,
    diagnostic::{Diagnostic, Problems, Spot},
};

/// The options of a socket. Tells of those that would have no effect on one of its kind.
pub(super) fn options(listener: &Listener, problems: &mut Problems) -> SocketOptions {
    let bind = &listener.bind;
    let keys = [
        Key::of("mode", &listener.mode),
        Key::of("backlog", &listener.backlog),
        Key::of("reuse_port", &listener.reuse_port),
        Key::of("fast_open", &listener.fast_open),
        Key::of("tcp_keepalive", &listener.tcp_keepalive),
    ];
    for key in keys {
        let Some((spot, why)) = key.spot.zip(idle(key.name, &bind.value)) else {
            continue;
        };
        let message = format!("`{}` has no effect on `{}`", key.name, bind.value);
        problems.push(Diagnostic::error(message).at(spot).help(why));
    }
    let defaults = SocketOptions::default();
    SocketOptions {
        mode: value(&listener.mode, defaults.mode),
        backlog: value(&listener.backlog, defaults.backlog),
        reuse_port: value(&listener.reuse_port, defaults.reuse_port),
        fast_open: value(&listener.fast_open, defaults.fast_open),
        tcp_keepalive: value(&listener.tcp_keepalive, defaults.tcp_keepalive),
    }
}

struct Key {
    name: &'static str,
    spot: Option<Spot>,
}

impl Key {
    fn of<T>(name: &'static str, written: &Option<At<T>>) -> Self {
        let spot = written.as_ref().map(Into::into);
        Self { name, spot }
    }
}

fn value<T: Copy>(written: &Option<At<T>>, default: T) -> T {
    written.as_ref().map_or(default, |written| written.value)
}

/// Why a key has no effect on such a socket; none if it has one.
fn idle(key: &str, bind: &ListenAddress) -> Option<&'static str> {
    match (bind, key) {
        (ListenAddress::Tcp(_), "mode") => Some("a port has no file; it belongs to `unix:/path`"),
        (ListenAddress::Unix(_), "reuse_port" | "fast_open" | "tcp_keepalive") => {
            Some("it belongs to a port: both ends of this socket are on one machine")
        }
        (ListenAddress::Systemd(_), "mode") => Some("write `SocketMode=` in the socket unit"),
        (ListenAddress::Systemd(_), "backlog") => Some("write `Backlog=` in the socket unit"),
        (ListenAddress::Systemd(_), "reuse_port") => Some("write `ReusePort=` in the socket unit"),
        (ListenAddress::Systemd(_), "fast_open") => Some("write `FastOpen=` in the socket unit"),
        (ListenAddress::Systemd(_), "tcp_keepalive") => {
            Some("write `KeepAlive=` and `KeepAliveTimeSec=` in the socket unit")
        }
        _ => None,
    }
}
