//! Holds a handshake of WebSocket back for a moment.
//!
//! Pingora ends a connection whose endpoint says 101 before the task that sends the request has noted that there is
//! no more of it to send: it takes the end of the request for the end of the WebSocket. So the end of the head
//! is kept in the kernel until that has been noted, which it is in the same turn.

use std::{
    os::fd::{OwnedFd, RawFd},
    time::Duration,
};

use socket2::SockRef;

use super::watchdog::duplicate;

/// How long the task that has to note the end may be kept from it, if the machine is busy.
const MOMENT: Duration = Duration::from_millis(2);

/// A connection to an endpoint on which nothing is sent. By itself the kernel sends after 200 ms.
#[derive(Debug)]
pub(super) struct Cork(OwnedFd);

impl Cork {
    /// For the connection with this descriptor, which must be open. None if it has no such thing.
    pub(super) fn of(descriptor: RawFd) -> Option<Self> {
        let socket = duplicate(descriptor)?;
        SockRef::from(&socket).set_tcp_cork(true).ok()?;
        Some(Self(socket))
    }

    /// Has all be sent in a moment.
    pub(super) fn release(self) {
        tokio::spawn(async move {
            tokio::time::sleep(MOMENT).await;
            drop(self);
        });
    }
}

impl Drop for Cork {
    fn drop(&mut self) {
        // It may be closed already, which is as good.
        SockRef::from(&self.0).set_tcp_cork(false).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        os::fd::AsRawFd,
    };

    use super::*;

    #[test]
    fn nothing_is_sent_before_the_cork_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        far.set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let cork = Cork::of(near.as_raw_fd()).unwrap();
        near.write_all(b"a").unwrap();
        let mut heard = [0];
        assert!(far.read(&mut heard).is_err());
        drop(cork);
        assert_eq!(far.read(&mut heard).unwrap(), 1);
    }
}
