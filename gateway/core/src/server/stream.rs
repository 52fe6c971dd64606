//! One connection as Pingora sees it.

use std::{
    fmt,
    io::{self, IoSlice},
    mem,
    os::fd::AsRawFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType, raw_connect::ProxyDigest,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::timeout,
};

use super::refusal;

/// A connection that gathers small writes: Pingora writes head and body of a response one by one.
pub(super) struct Connection {
    tcp: TcpStream,
    /// What was written and not sent. Without an allocation while the connection is idle.
    pending: Vec<u8>,
    /// Whether nothing was written since the last request: what Pingora says by itself comes first,
    /// and a body never does.
    unanswered: bool,
    digest: Arc<SocketDigest>,
}

/// More than this is sent at once.
const GATHERED: usize = 16 * 1024;

/// How long a client may take to receive a goodbye, and go on sending after it.
const LINGER: Duration = Duration::from_secs(1);

/// How much of that is read.
const LINGER_BYTES: usize = 256 * 1024;

impl Connection {
    pub(super) fn new(tcp: TcpStream, peer: std::net::SocketAddr) -> Self {
        let digest = SocketDigest::from_raw_fd(tcp.as_raw_fd());
        // Known already: spares the system call. The cell is new, so there is nothing to lose.
        drop(digest.peer_addr.set(Some(peer.into())));
        Self {
            tcp,
            pending: Vec::new(),
            unanswered: true,
            digest: Arc::new(digest),
        }
    }

    /// Makes the connection ready for the answer to another request.
    pub(super) fn expect_answer(&mut self) {
        self.unanswered = true;
    }

    /// Sends all that is pending.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let sent = ready!(Pin::new(&mut self.tcp).poll_write(cx, &self.pending))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.drain(..sent);
        }
        self.pending = Vec::new();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Pingora flushes at the end of a response only, and listens to the client while it waits for
        // more of it: what has come so far goes out now, or slow responses would come in gulps.
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let first = mem::replace(&mut this.unanswered, false);
        if let Some(ours) = first.then(|| refusal::in_place_of(data)).flatten() {
            this.pending.extend_from_slice(ours.as_bytes());
            return Poll::Ready(Ok(data.len()));
        }
        if this.pending.len() + data.len() <= GATHERED {
            this.pending.extend_from_slice(data);
            return Poll::Ready(Ok(data.len()));
        }
        if this.pending.is_empty() {
            return Pin::new(&mut this.tcp).poll_write(cx, data);
        }
        // What is pending and the new data in one system call.
        let both = [IoSlice::new(&this.pending), IoSlice::new(data)];
        let sent = ready!(Pin::new(&mut this.tcp).poll_write_vectored(cx, &both))?;
        let Some(of_data) = sent
            .checked_sub(this.pending.len())
            .filter(|taken| *taken > 0)
        else {
            this.pending.drain(..sent.min(this.pending.len()));
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        this.pending.clear();
        Poll::Ready(Ok(of_data))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Connection {
    /// Says goodbye, and lets the client finish: closing while it sends would reset the connection,
    /// and the client might never see the response.
    async fn shutdown(&mut self) {
        let goodbye = async {
            if AsyncWriteExt::shutdown(self).await.is_err() {
                return;
            }
            let mut rest = [0; 4096];
            let mut total = 0;
            while total < LINGER_BYTES {
                match self.tcp.read(&mut rest).await {
                    Ok(read) if read > 0 => total += read,
                    _ => break,
                }
            }
        };
        drop(timeout(LINGER, goodbye).await);
    }
}

impl Drop for Connection {
    /// After a failure Pingora drops the connection as it is. What it has written up to then is the
    /// client's, as far as the socket takes it: a response that breaks off is one that has begun.
    fn drop(&mut self) {
        if !self.pending.is_empty() {
            drop(self.tcp.try_write(&self.pending));
        }
    }
}

impl UniqueID for Connection {
    fn id(&self) -> UniqueIDType {
        self.tcp.as_raw_fd()
    }
}

impl GetSocketDigest for Connection {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.digest))
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.digest = Arc::new(digest);
    }
}

impl GetTimingDigest for Connection {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Connection {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl Ssl for Connection {}

impl Peek for Connection {}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({:?})", self.tcp.peer_addr())
    }
}
