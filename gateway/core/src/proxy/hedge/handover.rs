//! How Pingora is given a connection on which an answer has begun.

use std::{
    io,
    os::fd::RawFd,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use pingora::{
    Error, ErrorType, Result,
    connectors::L4Connect,
    protocols::{
        Stream,
        l4::{
            self,
            socket::SocketAddr,
            virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream},
        },
    },
    upstreams::peer::{HttpPeer, Peer, Scheme},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::race::{Begun, Connections};

/// What is known of a connection that was handed over.
#[derive(Debug)]
pub(super) struct Taken {
    descriptor: RawFd,
    answered: Arc<AtomicBool>,
}

impl Taken {
    pub(super) fn descriptor(&self) -> RawFd {
        self.descriptor
    }

    /// Notes that the head of the answer has been read.
    pub(super) fn answered(&self) {
        self.answered.store(true, Ordering::Release);
    }
}

/// A peer whose connection is this one.
pub(super) fn hand_over(begun: Begun) -> (Box<HttpPeer>, Taken) {
    let Begun {
        stream,
        read,
        mut peer,
        connections,
    } = begun;
    let taken = Taken {
        descriptor: stream.id(),
        answered: Arc::default(),
    };
    let socket = Socket {
        read,
        stream: Some(stream),
        answered: Arc::clone(&taken.answered),
        home: Home {
            connections,
            key: peer.reuse_hash(),
            idle: peer.options.idle_timeout,
        },
    };
    // TLS, if there is any, is spoken underneath.
    peer.scheme = Scheme::HTTP;
    // No connection is kept under a key that nobody had before.
    peer.group_key = rand::random();
    peer.options.custom_l4 = Some(Arc::new(Handover(Mutex::new(Some(socket)))));
    (peer, taken)
}

/// Connects to where a connection is. It is asked once.
#[derive(Debug)]
struct Handover(Mutex<Option<Socket>>);

#[async_trait]
impl L4Connect for Handover {
    async fn connect(&self, _address: &SocketAddr) -> Result<l4::stream::Stream> {
        let mut socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(socket) = socket.take() else {
            let why = "the connection was handed over before";
            return Error::e_explain(ErrorType::InternalError, why);
        };
        Ok(VirtualSocketStream::new(Box::new(socket)).into())
    }
}

/// A connection on which a request was sent, and an answer has begun.
///
/// Pingora writes the request once more, into the void. At the end, if the connection can be used again,
/// it reads one byte to see whether it is still silent, before it would keep it: then the connection goes
/// back to its own pool, and Pingora finds that there is none. In its pool it could not be told from
/// others, since it has no descriptor there.
#[derive(Debug)]
struct Socket {
    /// What was read of the answer before, and Pingora has not.
    read: Bytes,
    /// None when it is back in its pool.
    stream: Option<Stream>,
    answered: Arc<AtomicBool>,
    home: Home,
}

/// Where a connection comes from.
#[derive(Debug)]
struct Home {
    connections: Arc<Connections>,
    key: u64,
    idle: Option<Duration>,
}

impl Socket {
    /// Whether this is the look before a connection is kept. All of the body is read in pieces of many
    /// bytes; only the head may come to its end in one of a single byte.
    fn is_last_look(&self, buffer: &ReadBuf<'_>) -> bool {
        buffer.remaining() == 1 && self.read.is_empty() && self.answered.load(Ordering::Acquire)
    }

    fn go_home(&mut self) {
        if let Some(stream) = self.stream.take() {
            let Home {
                connections,
                key,
                idle,
            } = &self.home;
            connections.0.release_stream(stream, *key, *idle);
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        if !socket.read.is_empty() {
            let size = socket.read.len().min(buffer.remaining());
            buffer.put_slice(&socket.read[..size]);
            socket.read.advance(size);
            return Poll::Ready(Ok(()));
        }
        if socket.is_last_look(buffer) {
            socket.go_home();
        }
        match &mut socket.stream {
            Some(stream) => Pin::new(stream).poll_read(context, buffer),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(stream) = &mut self.get_mut().stream {
            ready!(Pin::new(stream).poll_shutdown(context))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl VirtualSocket for Socket {
    /// They were set when the connection was made.
    fn set_socket_option(&self, _option: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}
