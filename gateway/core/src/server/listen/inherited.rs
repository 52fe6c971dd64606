//! The sockets that a process is started with.

use std::{
    fmt::Write,
    io,
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, PoisonError},
};

use log::{info, warn};

use super::{
    Custody, Label, Owner, Socket,
    handed::Handed,
    systemd::{self, Passed},
};
use crate::config::{ListenAddress, SocketOptions};

/// The sockets that the process was started with: those of systemd, and those of the process whose place it takes.
#[derive(Debug)]
pub(in crate::server) struct Inherited {
    /// They stay open, so that a listener may have one that did not have it before.
    passed: Vec<Passed>,
    /// Those that nobody has taken yet.
    handed: Mutex<Vec<Handed>>,
    custody: Custody,
}

impl Inherited {
    /// Takes over what systemd has passed. To be called once, while there is no other thread.
    pub(in crate::server) fn take() -> Self {
        Self {
            passed: systemd::take(),
            handed: Mutex::default(),
            custody: Custody::alone(),
        }
    }

    /// Takes over what the process had whose place this one takes.
    pub(in crate::server) fn of(sockets: Vec<(Label, OwnedFd)>) -> Self {
        let (mut passed, mut handed) = (Vec::new(), Vec::new());
        let custody = Custody::to_come();
        for (label, socket) in sockets {
            match label.of {
                Owner::Systemd => passed.push(Passed::handed(label.name, socket)),
                Owner::Listener | Owner::Admin => {
                    handed.extend(Handed::new(label, socket, &custody));
                }
            }
        }
        Self {
            passed,
            handed: Mutex::new(handed),
            custody,
        }
    }

    /// Which files of sockets are this process's to remove.
    pub(in crate::server) fn custody(&self) -> &Custody {
        &self.custody
    }

    /// Closes what was handed over and nobody wanted. To be called when the process has taken over.
    pub(in crate::server) fn settle(&self) {
        self.custody.take();
        for handed in self.lock().drain(..) {
            info!("no longer listening: address={}", handed.address());
        }
    }

    /// The sockets of systemd, for the process that takes the place of this one.
    ///
    /// # Errors
    ///
    /// There is no descriptor left.
    pub(in crate::server) fn of_systemd(&self) -> io::Result<Vec<(Label, OwnedFd)>> {
        let listening = |passed: &Passed| {
            let socket = passed.as_fd()?.try_clone_to_owned();
            Some(socket.map(|socket| (Label::of_systemd(&passed.name), socket)))
        };
        self.passed.iter().filter_map(listening).collect()
    }

    /// The socket that another process has had for this, if there is one.
    ///
    /// # Errors
    ///
    /// It can't be made what the options say: the reason, for an operator.
    pub(super) fn handed(
        &self,
        owner: Owner,
        name: &str,
        bind: &ListenAddress,
        options: &SocketOptions,
    ) -> Result<Option<Socket>, String> {
        let mut handed = self.lock();
        let place = handed
            .iter()
            .position(|handed| handed.is(owner, name, bind));
        let found = place.map(|place| handed.swap_remove(place).adopt(options));
        found.transpose().map_err(|error| error.to_string())
    }

    /// The sockets of systemd of a name, for one listener.
    ///
    /// # Errors
    ///
    /// The reason why there is none, for an operator.
    pub(super) fn named(&self, name: &str) -> Result<Vec<Socket>, String> {
        let named = self.passed.iter().filter(|passed| passed.name == name);
        let sockets = named.map(Passed::again).collect::<Result<Vec<_>, _>>()?;
        if sockets.is_empty() {
            return Err(self.unknown(name));
        }
        Ok(sockets)
    }

    fn unknown(&self, name: &str) -> String {
        if self.passed.is_empty() {
            return format!(
                "no socket was passed to this process\n  = help: have a socket unit of systemd start \
                 it, with `FileDescriptorName={name}`"
            );
        }
        let mut said = "no socket of this name was passed, only".to_owned();
        for (passed, comma) in self
            .passed
            .iter()
            .zip([" "].into_iter().chain(std::iter::repeat(", ")))
        {
            // Writing to a string can't fail.
            let _written = write!(said, "{comma}`{}`", passed.name);
        }
        said
    }

    /// Tells of sockets of systemd at which nobody will listen.
    pub(in crate::server) fn warn_of_unused(&self, is_used: impl Fn(&str) -> bool) {
        for Passed { name, .. } in &self.passed {
            if !is_used(name) {
                warn!("a socket of systemd is not used: name={name}");
            }
        }
    }

    /// What is locked is consistent whenever a panic could leave it.
    fn lock(&self) -> MutexGuard<'_, Vec<Handed>> {
        self.handed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn inherited(passed: Vec<Passed>) -> Inherited {
        Inherited {
            passed,
            ..Inherited::of(Vec::new())
        }
    }

    fn socket() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[test]
    fn a_name_that_was_not_passed_is_told_which_were() {
        let two = inherited(vec![
            Passed::new("http", Some(socket())),
            Passed::new("log", None),
        ]);
        assert_eq!(
            two.named("https").unwrap_err(),
            "no socket of this name was passed, only `http`, `log`"
        );
        let none = inherited(Vec::new()).named("https").unwrap_err();
        assert!(none.contains("`FileDescriptorName=https`"), "{none}");
    }

    #[test]
    fn what_is_nothing_to_listen_at_is_refused() {
        let inherited = inherited(vec![Passed::new("log", None)]);
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
        let inherited = inherited(vec![
            Passed::new("http", a),
            Passed::new("other", b),
            Passed::new("http", c),
        ]);
        for _ in 0..2 {
            let found = inherited.named("http").unwrap();
            let found: Vec<_> = found.iter().map(|socket| socket.address()).collect();
            assert_eq!(found, [addresses[0].clone(), addresses[2].clone()]);
        }
    }
}
