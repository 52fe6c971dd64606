//! What carries the bytes of a connection.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustix::{
    fs::sendfile,
    net::{RecvFlags, recv},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::server::TlsStream;

use super::parking::Readable;

/// A socket of a client.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A socket, or TLS over one.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(Socket),
    /// In a box: it is much larger.
    Tls(Box<TlsStream<Counted>>),
}

/// A socket that counts what it has taken.
#[derive(Debug)]
pub(super) struct Counted {
    socket: Socket,
    sent: u64,
}

impl From<Socket> for Counted {
    fn from(socket: Socket) -> Self {
        Self { socket, sent: 0 }
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = ready!(Pin::new(&mut self.socket).poll_write(cx, data))?;
        self.sent += taken as u64;
        Poll::Ready(Ok(taken))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let taken = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, data))?;
        self.sent += taken as u64;
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl Socket {
    /// Ready when there is something to read, or the end, as far as that is known without looking.
    fn poll_known(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_read_ready(cx),
            Self::Unix(unix) => unix.poll_read_ready(cx),
        }
    }

    fn poll_send_file(
        &self,
        cx: &mut Context<'_>,
        file: BorrowedFd<'_>,
        offset: &mut u64,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let mut send = || Ok(sendfile(self, file, Some(offset), most)?);
        loop {
            let sent = match self {
                Self::Tcp(tcp) => {
                    ready!(tcp.poll_write_ready(cx))?;
                    tcp.try_io(Interest::WRITABLE, &mut send)
                }
                Self::Unix(unix) => {
                    ready!(unix.poll_write_ready(cx))?;
                    unix.try_io(Interest::WRITABLE, &mut send)
                }
            };
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// The next byte, which stays; none at the end.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`]: there is none yet.
    pub(super) fn look(&self) -> io::Result<Option<u8>> {
        let look = || {
            let mut byte = [0];
            let (_, seen) = recv(self, &mut byte, RecvFlags::PEEK)?;
            Ok((seen > 0).then_some(byte[0]))
        };
        match self {
            Self::Tcp(tcp) => tcp.try_io(Interest::READABLE, look),
            Self::Unix(unix) => unix.try_io(Interest::READABLE, look),
        }
    }
}

/// For a socket of which nothing has been read: `tokio` takes it for readable until somebody looks.
impl Readable for Socket {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_known(cx))?;
            match self.look() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                looked => return Poll::Ready(looked.map(drop)),
            }
        }
    }
}

impl Transport {
    /// Ready when there may be something to read, or the end.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => socket.poll_known(cx),
            Self::Tls(tls) => {
                let (socket, session) = tls.get_ref();
                if session.wants_read() {
                    socket.socket.poll_known(cx)
                } else {
                    // It has deciphered more than was asked for, or knows of the end.
                    Poll::Ready(Ok(()))
                }
            }
        }
    }

    /// The same where that is not to be believed without a look.
    pub(super) fn poll_first(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            // A request may have come with the end of the handshake.
            Self::Tls(tls) if !tls.get_ref().1.wants_read() => Poll::Ready(Ok(())),
            Self::Tls(_) | Self::Plain(_) => self.socket().poll_readable(cx),
        }
    }

    /// Has the kernel send so many bytes of a file at most, from `offset` on, which moves along. None are the end of
    /// the file.
    pub(super) fn poll_send_file(
        &self,
        cx: &mut Context<'_>,
        file: BorrowedFd<'_>,
        offset: &mut u64,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => socket.poll_send_file(cx, file, offset, most),
            Self::Tls(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    /// How many bytes the socket has taken, if something else takes them before it.
    pub(super) fn sent(&self) -> Option<u64> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => Some(tls.get_ref().0.sent),
        }
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The address of this end, if it has one.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        match self.socket() {
            Socket::Tcp(tcp) => tcp.local_addr().ok(),
            Socket::Unix(_) => None,
        }
    }

    fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &tls.get_ref().0.socket,
        }
    }
}

impl From<TcpStream> for Transport {
    fn from(tcp: TcpStream) -> Self {
        Self::Plain(Socket::Tcp(tcp))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(tcp) => tcp.as_fd(),
            Self::Unix(unix) => unix.as_fd(),
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl AsRawFd for Transport {
    fn as_raw_fd(&self) -> RawFd {
        self.socket().as_raw_fd()
    }
}

/// Passes a call on to whatever it is.
macro_rules! pass {
    ($self:ident, $kind:ident { $($variant:ident),+ }, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            $($kind::$variant($stream) => {
                let $stream = Pin::new($stream);
                $call
            })+
        }
    };
}

/// Both kinds are read and written by what they hold.
macro_rules! passed_on {
    ($kind:ident { $($variant:ident),+ }) => {
        impl AsyncRead for $kind {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                pass!(self, $kind { $($variant),+ }, stream => stream.poll_read(cx, buf))
            }
        }

        impl AsyncWrite for $kind {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                data: &[u8],
            ) -> Poll<io::Result<usize>> {
                pass!(self, $kind { $($variant),+ }, stream => stream.poll_write(cx, data))
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                data: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                pass!(self, $kind { $($variant),+ }, stream => stream.poll_write_vectored(cx, data))
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                pass!(self, $kind { $($variant),+ }, stream => stream.poll_flush(cx))
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                pass!(self, $kind { $($variant),+ }, stream => stream.poll_shutdown(cx))
            }
        }
    };
}

passed_on!(Socket { Tcp, Unix });
passed_on!(Transport { Plain, Tls });
