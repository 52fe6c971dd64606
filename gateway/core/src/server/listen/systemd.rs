//! Sockets that are open before we are: systemd opens them, and passes them on (`sd_listen_fds(3)`).

use std::{env, fmt::Write, io, net::TcpListener, os::unix::net::UnixListener};

use listenfd::ListenFd;
use log::warn;
use socket2::SockRef;

use super::Socket;

/// What a socket is called that was given no name.
const NAMELESS: &str = "unknown";

/// The sockets that the process was started with. They stay open, so that a listener may have one that
/// did not have it before.
#[derive(Debug, Default)]
pub(in crate::server) struct Inherited(Vec<Passed>);

#[derive(Debug)]
struct Passed {
    name: String,
    /// None if it is nothing that we can listen at.
    socket: Option<Listener>,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Inherited {
    /// Takes over what was passed. To be called once, while there is no other thread: variables of the
    /// environment that were meant for this process are removed, so that none it starts believes them.
    pub(in crate::server) fn take() -> Self {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut passed = ListenFd::from_env();
        let sockets = (0..passed.len()).map(|index| Passed {
            name: names
                .next()
                .filter(|name| !name.is_empty())
                .unwrap_or(NAMELESS)
                .to_owned(),
            socket: listener(&mut passed, index),
        });
        Self(sockets.collect())
    }

    /// The sockets of a name, for one listener.
    ///
    /// # Errors
    ///
    /// The reason why there is none, for an operator.
    pub(super) fn named(&self, name: &str) -> Result<Vec<Socket>, String> {
        let mut sockets = Vec::new();
        for passed in self.0.iter().filter(|passed| passed.name == name) {
            let Some(socket) = &passed.socket else {
                return Err(
                    "it is no socket of TCP, and no stream of a unix socket, that listens"
                        .to_owned(),
                );
            };
            sockets.push(socket.again().map_err(|error| error.to_string())?);
        }
        if sockets.is_empty() {
            return Err(self.unknown(name));
        }
        Ok(sockets)
    }

    fn unknown(&self, name: &str) -> String {
        if self.0.is_empty() {
            return format!(
                "no socket was passed to this process\n  = help: have a socket unit of systemd start \
                 it, with `FileDescriptorName={name}`"
            );
        }
        let mut said = "no socket of this name was passed, only".to_owned();
        for (passed, comma) in self
            .0
            .iter()
            .zip([" "].into_iter().chain(std::iter::repeat(", ")))
        {
            // Writing to a string can't fail.
            let _written = write!(said, "{comma}`{}`", passed.name);
        }
        said
    }

    /// Tells of sockets at which nobody will listen.
    pub(in crate::server) fn warn_of_unused(&self, is_used: impl Fn(&str) -> bool) {
        for Passed { name, .. } in &self.0 {
            if !is_used(name) {
                warn!("a socket of systemd is not used: name={name}");
            }
        }
    }
}

impl Listener {
    /// The same socket, once more.
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

fn listener(passed: &mut ListenFd, index: usize) -> Option<Listener> {
    let tcp = passed.take_tcp_listener(index).ok().flatten();
    let listener = match tcp {
        Some(listener) => Listener::Tcp(listener),
        None => Listener::Unix(passed.take_unix_listener(index).ok().flatten()?),
    };
    let listens = match &listener {
        Listener::Tcp(listener) => SockRef::from(listener).is_listener(),
        Listener::Unix(listener) => SockRef::from(listener).is_listener(),
    };
    listens.is_ok_and(|listens| listens).then_some(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(name: &str, socket: Option<TcpListener>) -> Passed {
        Passed {
            name: name.to_owned(),
            socket: socket.map(Listener::Tcp),
        }
    }

    fn socket() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[test]
    fn a_name_that_was_not_passed_is_told_which_were() {
        let inherited = Inherited(vec![passed("http", Some(socket())), passed("log", None)]);
        assert_eq!(
            inherited.named("https").unwrap_err(),
            "no socket of this name was passed, only `http`, `log`"
        );
        let none = Inherited::default().named("https").unwrap_err();
        assert!(none.contains("`FileDescriptorName=https`"), "{none}");
    }

    #[test]
    fn what_is_nothing_to_listen_at_is_refused() {
        let inherited = Inherited(vec![passed("log", None)]);
        assert!(
            inherited
                .named("log")
                .unwrap_err()
                .contains("no socket of TCP")
        );
    }

    #[test]
    fn a_listener_has_all_sockets_of_its_name_and_may_have_them_again() {
        let sockets = [socket(), socket(), socket()];
        let addresses = sockets
            .each_ref()
            .map(|socket| socket.local_addr().unwrap().to_string());
        let [a, b, c] = sockets.map(Some);
        let inherited = Inherited(vec![
            passed("http", a),
            passed("other", b),
            passed("http", c),
        ]);
        for _ in 0..2 {
            let found = inherited.named("http").unwrap();
            let found: Vec<_> = found.iter().map(|socket| socket.address()).collect();
            assert_eq!(found, [addresses[0].clone(), addresses[2].clone()]);
        }
    }
}
