//! What two processes say to each other while one takes the place of the other.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg,
    sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};
use tokio::{io::Interest, net::UnixDatagram};

use super::super::listen::Label;

/// One end of a pair of sockets that nobody but two processes have. Its messages stay apart.
#[derive(Debug)]
pub(super) struct Wire<E = OwnedFd>(E);

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Message {
    /// The first word of the old process: the other one takes its place, and so many sockets follow.
    EdgewayUpgrade { version: u32, sockets: usize },
    /// A socket, which comes with the message.
    Socket(Label),
    /// The new process serves. Nothing has become of the old one yet.
    Ready { version: String },
    /// The new process can't: why, for an operator.
    Refused { report: String },
    /// The last word of the old process: all is the new one's now.
    Yours,
}

/// What both have to understand in the same way.
pub(super) const VERSION: u32 = 1;

/// How long a message is at most, in bytes. As much goes into the buffer of a socket.
const LONGEST: usize = 96 << 10;

/// How long a report is at most.
const LONGEST_REPORT: usize = 48 << 10;

impl Wire<UnixDatagram> {
    /// A pair: our end, and that of a process that is to be started. To be called within a runtime.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        // Sockets of both kinds are waited for alike, and messages are ours to read and write.
        let ours = UnixDatagram::from_std(ours.into())?;
        Ok((Self(ours), theirs))
    }

    /// As [`send`](Self::send), as soon as there is room.
    pub(super) async fn say(
        &self,
        message: &Message,
        socket: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let send = || self.send(message, socket);
        self.0.async_io(Interest::WRITABLE, send).await
    }

    /// As [`receive`](Self::receive), as soon as there is something.
    pub(super) async fn hear(&self) -> io::Result<Option<Message>> {
        let receive = || self.receive();
        let heard = self.0.async_io(Interest::READABLE, receive).await?;
        Ok(heard.map(|(message, _)| message))
    }
}

impl Wire {
    /// The end that a process was given.
    pub(super) fn new(end: OwnedFd) -> Self {
        Self(end)
    }

    /// Whether the old process waits at the other end of what may be anything.
    pub(super) fn is_one(end: BorrowedFd<'_>) -> bool {
        let kind = rustix::net::sockopt::socket_type(end);
        if kind.is_ok_and(|kind| kind != SocketType::SEQPACKET) || kind.is_err() {
            return false;
        }
        let mut first = [0; 256];
        let look = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let Ok((_, length)) = recv(end, &mut first, look) else {
            return false;
        };
        let first = first.get(..length).unwrap_or_default();
        matches!(
            serde_json::from_slice(first),
            Ok(Message::EdgewayUpgrade { .. })
        )
    }
}

impl<E: AsFd> Wire<E> {
    /// Sends a message, with a socket if that belongs to it.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`]: there is no room for it yet.
    pub(super) fn send(&self, message: &Message, socket: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        let sockets = socket.as_slice();
        if !sockets.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(sockets)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let parts = [IoSlice::new(&text)];
        sendmsg(&self.0, &parts, &mut beside, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next message, with its socket; none if the other process has gone.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`]: there is none yet; [`io::ErrorKind::InvalidData`]: it is not to be understood.
    pub(super) fn receive(&self) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
        let mut text = vec![0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut text)];
        let received = recvmsg(&self.0, &mut parts, &mut beside, RecvFlags::CMSG_CLOEXEC)?;
        let mut socket = None;
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(sockets) = message {
                socket = sockets.last();
            }
        }
        if received
            .flags
            .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
        {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        let text = text.get(..received.bytes).unwrap_or_default();
        Ok(Some((serde_json::from_slice(text)?, socket)))
    }
}

impl Message {
    /// A refusal, as much of it as there is room for.
    pub(super) fn refused(report: &str) -> Self {
        let mut end = LONGEST_REPORT.min(report.len());
        while !report.is_char_boundary(end) {
            end -= 1;
        }
        Self::Refused {
            report: report.get(..end).unwrap_or_default().to_owned(),
        }
    }
}

impl<E: AsFd> AsFd for Wire<E> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::server::listen::Owner;

    fn pair() -> (Wire<UnixDatagram>, Wire) {
        let (ours, theirs) = Wire::pair().unwrap();
        (ours, Wire::new(theirs))
    }

    fn first() -> Message {
        Message::EdgewayUpgrade {
            version: VERSION,
            sockets: 1,
        }
    }

    #[tokio::test]
    async fn a_socket_arrives_with_its_label_and_is_the_same() {
        let (old, new) = pair();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let label = Label::named(Owner::Listener, "web", "127.0.0.1:0");
        old.send(&Message::Socket(label.clone()), Some(socket.as_fd()))
            .unwrap();
        let (message, received) = new.receive().unwrap().unwrap();
        assert_eq!(message, Message::Socket(label));
        let received = TcpListener::from(received.unwrap());
        assert_eq!(received.local_addr().unwrap(), socket.local_addr().unwrap());
    }

    #[tokio::test]
    async fn the_first_message_is_seen_and_stays() {
        let (old, new) = pair();
        assert!(!Wire::is_one(new.as_fd()), "nothing was said");
        old.send(&first(), None).unwrap();
        assert!(Wire::is_one(new.as_fd()));
        assert_eq!(new.receive().unwrap().unwrap().0, first());
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(!Wire::is_one(file.as_fd()));
    }

    #[tokio::test]
    async fn who_has_gone_says_no_more_and_is_told_nothing() {
        let (old, new) = pair();
        drop(new);
        assert!(old.receive().unwrap().is_none());
        assert!(old.send(&first(), None).is_err());
    }

    #[tokio::test]
    async fn a_report_of_any_length_arrives() {
        for report in ["x".repeat(1 << 20), "\u{1f600}\"\n".repeat(1 << 18)] {
            let (old, new) = pair();
            new.send(&Message::refused(&report), None).unwrap();
            let (message, _) = old.receive().unwrap().unwrap();
            let Message::Refused { report: received } = message else {
                panic!("{message:?}");
            };
            assert!(report.starts_with(&received) && received.len() > 40_000);
        }
    }

    #[tokio::test]
    async fn what_is_not_understood_is_an_error() {
        let (old, new) = pair();
        rustix::net::send(old.as_fd(), b"hello", SendFlags::empty()).unwrap();
        let error = new.receive().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
