//! One connection as Pingora sees it.

use std::{
    fmt,
    io::{self, IoSlice},
    mem,
    os::fd::AsRawFd,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use http::HeaderValue;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType, raw_connect::ProxyDigest,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::timeout,
};

use super::{dated::Dated, refusal};

/// A connection that gathers small writes: Pingora writes head and body of a response one by one.
pub(crate) struct Connection {
    tcp: TcpStream,
    /// What was read before it was known what it is. Without an allocation once it has been taken.
    early: Vec<u8>,
    /// What was written and not sent. Without an allocation while the connection is idle.
    pending: Vec<u8>,
    /// Whether nothing was written since the last request: what Pingora says by itself comes first,
    /// and a body never does.
    unanswered: bool,
    dated: Dated,
    /// Whether what is written goes out at once.
    prompt: AtomicBool,
    /// For those who want to know whether the client takes what is sent.
    taken: Option<Taken>,
    digest: Arc<SocketDigest>,
}

/// How many bytes a client has taken, as far as its socket can tell. Clones tell the same.
#[derive(Clone, Default)]
pub(super) struct Taken(Arc<AtomicU64>);

impl Taken {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a client of HTTP/2 sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How much is read to find out. Pingora reads no more at once.
const EARLY: usize = 4096;

/// More than this is sent at once.
const GATHERED: usize = 16 * 1024;

/// Beside its first piece, which is the head of a response mostly, as much of a body as this is gathered with
/// one allocation.
const SMALL_BODY: usize = 1024;

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
            early: Vec::new(),
            pending: Vec::new(),
            unanswered: true,
            dated: Dated::default(),
            prompt: AtomicBool::new(false),
            taken: None,
            digest: Arc::new(digest),
        }
    }

    /// Makes the connection ready for the answer to another request.
    pub(super) fn expect_answer(&mut self) {
        self.unanswered = true;
        self.dated.clear();
        *self.prompt.get_mut() = false;
    }

    /// Has the next response go out as it is written: more of it may be long in coming, and nobody reads
    /// from the client meanwhile.
    pub(crate) fn be_prompt(&self) {
        self.prompt.store(true, Ordering::Relaxed);
    }

    /// Has the next response of HTTP/1.1 say that it was made then.
    pub(crate) fn made(&self, date: HeaderValue) {
        self.dated.set(date);
    }

    /// Waits for the first bytes of the client, and tells whether it speaks HTTP/2. They are kept for
    /// whoever reads next, so that finding out costs no system call.
    ///
    /// # Errors
    ///
    /// The connection is broken. That the client has closed it is for the next reader to find.
    pub(super) async fn begins_http2(&mut self) -> io::Result<bool> {
        loop {
            // First, so that a client that says nothing costs no buffer.
            self.tcp.readable().await?;
            self.early
                .reserve_exact(EARLY.saturating_sub(self.early.len()));
            if self.tcp.read_buf(&mut self.early).await? == 0 {
                return Ok(false);
            }
            if let Some(answer) = is_preface(&self.early) {
                return Ok(answer);
            }
        }
    }

    /// Makes the connection ready for HTTP/2.
    pub(super) fn speak_http2(&mut self) -> Taken {
        // No frame looks like an answer of HTTP/1.1.
        self.unanswered = false;
        self.taken.insert(Taken::default()).clone()
    }

    fn note_taken(&self, sent: usize) {
        if let Some(Taken(bytes)) = &self.taken {
            bytes.fetch_add(sent as u64, Ordering::Relaxed);
        }
    }

    /// Keeps a piece until it is sent.
    fn gather(&mut self, piece: &[u8]) {
        if self.pending.capacity() == 0 {
            self.pending.reserve(piece.len() + SMALL_BODY);
        }
        self.pending.extend_from_slice(piece);
    }

    /// Takes data for written that has just become pending.
    fn gathered(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if *self.prompt.get_mut()
            && let Poll::Ready(Err(error)) = self.poll_send(cx)
        {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(data.len()))
    }

    /// Sends all that is pending.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let sent = ready!(Pin::new(&mut self.tcp).poll_write(cx, &self.pending))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.note_taken(sent);
            self.pending.drain(..sent);
        }
        self.pending = Vec::new();
        Poll::Ready(Ok(()))
    }
}

/// Whether a connection that begins so is one of HTTP/2; none if more must be read to know.
fn is_preface(early: &[u8]) -> Option<bool> {
    let (known, wanted) = (early.len().min(PREFACE.len()), PREFACE.len());
    if early.get(..known) != PREFACE.get(..known) {
        return Some(false);
    }
    (known == wanted).then_some(true)
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
        if !self.early.is_empty() {
            let fitting = buf.remaining().min(self.early.len());
            buf.put_slice(self.early.get(..fitting).unwrap_or_default());
            self.early.drain(..fitting);
            if self.early.is_empty() {
                self.early = Vec::new();
            }
            return Poll::Ready(Ok(()));
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
        if let Some((before, date, after)) = this.dated.rewrite(data) {
            for piece in [before, date.as_bytes(), after] {
                this.gather(piece);
            }
            return this.gathered(cx, data);
        }
        if *this.prompt.get_mut() {
            // Nothing is left for later, when nobody may be there to send it.
            ready!(this.poll_send(cx))?;
        } else if this.pending.len() + data.len() <= GATHERED {
            this.gather(data);
            return this.gathered(cx, data);
        }
        if this.pending.is_empty() {
            let sent = ready!(Pin::new(&mut this.tcp).poll_write(cx, data))?;
            this.note_taken(sent);
            return Poll::Ready(Ok(sent));
        }
        // What is pending and the new data in one system call.
        let both = [IoSlice::new(&this.pending), IoSlice::new(data)];
        let sent = ready!(Pin::new(&mut this.tcp).poll_write_vectored(cx, &both))?;
        this.note_taken(sent);
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_is_written_promptly_comes_although_the_client_was_not_reading() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (tcp, peer) = listener.accept().await.unwrap();
        let mut connection = Connection::new(tcp, peer);
        connection.be_prompt();
        let mut taken = 0;
        // Until the socket is full.
        while let Some(written) = poll_fn(|cx| {
            let written = match Pin::new(&mut connection).poll_write(cx, &[b'x'; 1000]) {
                Poll::Ready(written) => Some(written.unwrap()),
                Poll::Pending => None,
            };
            Poll::Ready(written)
        })
        .await
        {
            taken += written;
        }
        // Nobody asks the connection for anything meanwhile.
        let mut received = vec![0; taken];
        let all = timeout(Duration::from_secs(20), client.read_exact(&mut received)).await;
        assert!(all.is_ok(), "some of {taken} bytes never come");
    }

    #[test]
    fn the_preface_is_known_at_its_last_byte_and_anything_else_at_its_first_other_byte() {
        for known in 0..PREFACE.len() {
            assert_eq!(is_preface(&PREFACE[..known]), None, "{known}");
            let mut other = PREFACE[..known].to_vec();
            other.push(b'x');
            assert_eq!(is_preface(&other), Some(false), "{known}");
        }
        assert_eq!(is_preface(PREFACE), Some(true));
        assert_eq!(is_preface(&[PREFACE, b"more"].concat()), Some(true));
        assert_eq!(is_preface(b"GET / HTTP/1.1\r\n\r\n"), Some(false));
        assert_eq!(is_preface(b"POST"), Some(false));
    }
}
