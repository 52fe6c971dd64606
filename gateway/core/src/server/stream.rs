//! One connection as Pingora sees it.

use std::{
    fmt,
    future::{Future, poll_fn},
    io::{self, IoSlice},
    mem,
    net::SocketAddr,
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
    time::{Instant, Sleep, sleep_until, timeout},
};

use super::{
    dated::Dated,
    inbound::{Framing, HeadLimits, Inbound, Passes},
    pace::Pace,
    parking::Readable,
    refusal,
    transport::Transport,
};

/// A connection that knows where requests end, gathers small writes (Pingora writes head and body of a response
/// one by one), and keeps clients to their times.
pub(crate) struct Connection {
    transport: Transport,
    inbound: Inbound,
    /// What follows the head that was read last, as soon as a hook has said so.
    announced: Announced,
    /// What was read and nobody has taken yet. Without an allocation once it has been taken.
    early: Vec<u8>,
    /// What was written and not sent. Without an allocation while the connection is idle.
    pending: Vec<u8>,
    /// Whether nothing was written since the last request: what Pingora says by itself comes first,
    /// and a body never does.
    unanswered: bool,
    /// What the client is told in place of what Pingora says of a head that it was not shown.
    refused: Option<u16>,
    /// How many requests have begun.
    requests: u32,
    /// How many bytes a second a client has to give or take.
    least: u64,
    dated: Dated,
    /// Whether what is written goes out at once.
    prompt: AtomicBool,
    /// For those who want to know whether the client takes what is sent.
    taken: Option<Taken>,
    /// The last read has filled its buffer: `tokio` takes the socket for readable then.
    is_more_likely: bool,
    /// How many bytes the socket had taken when that was looked at last, if TLS stands between.
    sent: u64,
    /// Nothing, while the client keeps up.
    clocks: Option<Box<Clocks>>,
    peer: SocketAddr,
    /// Where it was wanted, if that is not the address of the socket.
    wanted: Option<SocketAddr>,
    entrance: Arc<ProxyDigest>,
}

/// What is kept of a client that lets the gateway wait.
#[derive(Default)]
struct Clocks {
    head: Option<Pin<Box<Sleep>>>,
    giving: Pace,
    taking: Pace,
}

/// How many bytes a client has taken, as far as its socket can tell. Clones tell the same.
#[derive(Clone, Default)]
pub(super) struct Taken(Arc<AtomicU64>);

impl Taken {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What clients are held to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manners {
    /// How long a head may take.
    pub(super) head_timeout: Duration,
    pub(super) head: HeadLimits,
    /// How many bytes a second a client has to give of a body, or take of a response.
    pub(super) least: u64,
}

/// What a client of HTTP/2 sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How much is read to find out. Pingora reads no more at once.
const EARLY: usize = 4096;

/// How much is read at once of what a client sends before its last request was answered.
const AHEAD: usize = 512;

/// What Pingora refuses, whatever it has read before: it is given instead of what it must not see.
const POISON: &[u8] = b"\0 \0\r\n\r\n";

/// What Pingora refuses within a chunked body, wherever that is: only data may hold a CR without LF. Its client is
/// told so, which it would not be after an error.
const BROKEN: &[u8] = b"\r\0";

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
    /// A connection from `peer`, to where it wanted if that is not the address of its socket; by which way it came
    /// is told by `entrance`.
    pub(super) fn new(
        transport: Transport,
        peer: SocketAddr,
        wanted: Option<SocketAddr>,
        entrance: Arc<ProxyDigest>,
    ) -> Self {
        Self {
            transport,
            inbound: Inbound::Between,
            announced: Announced::default(),
            early: Vec::new(),
            pending: Vec::new(),
            unanswered: true,
            refused: None,
            requests: 0,
            least: 0,
            dated: Dated::default(),
            prompt: AtomicBool::new(false),
            taken: None,
            is_more_likely: false,
            sent: 0,
            clocks: None,
            peer,
            wanted,
            entrance,
        }
    }

    /// Makes the connection ready for another request.
    pub(super) fn expect_request(&mut self, manners: &Manners) {
        let until = Instant::now() + manners.head_timeout;
        self.inbound = Inbound::head(manners.head, until);
        self.announced = Announced::default();
        self.unanswered = true;
        self.refused = None;
        self.requests = self.requests.saturating_add(1);
        self.least = manners.least;
        self.dated.clear();
        *self.prompt.get_mut() = false;
        self.clocks = None;
    }

    /// The other end.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Where the client has come to, if that is an address.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.wanted.or_else(|| self.transport.local())
    }

    /// What is known of both ends, for whom Pingora makes no session of the connection.
    pub(super) fn socket_digest(&self) -> SocketDigest {
        let digest = SocketDigest::from_raw_fd(self.transport.as_raw_fd());
        // The cells are new, so there is nothing to lose.
        drop(digest.peer_addr.set(Some(self.peer.into())));
        drop(digest.local_addr.set(self.local().map(Into::into)));
        digest
    }

    /// Whether a request has been read to its end, and nothing else has been begun.
    pub(super) fn is_between_requests(&mut self) -> bool {
        self.settle();
        self.inbound.is_between()
    }

    /// Whether something of the next request has come already.
    pub(super) fn has_early(&self) -> bool {
        !self.early.is_empty()
    }

    /// Takes what TLS has deciphered already, which then gives up a buffer as large as the largest record was.
    pub(super) async fn tidy(&mut self) {
        if self.transport.is_tls() {
            poll_fn(|cx| {
                // Whatever it is, it is found again.
                drop(self.poll_watch(cx));
                Poll::Ready(())
            })
            .await;
        }
    }

    /// How many requests have begun, with the present one.
    pub(crate) fn requests(&self) -> u32 {
        self.requests
    }

    /// Says what follows the head that was read last. To be told before anything of it is read.
    pub(crate) fn announce(&self, framing: Framing) {
        self.announced.set(framing);
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
            self.early
                .reserve_exact(EARLY.saturating_sub(self.early.len()));
            if self.transport.read_buf(&mut self.early).await? == 0 {
                return Ok(false);
            }
            if let Some(answer) = is_preface(&self.early) {
                return Ok(answer);
            }
        }
    }

    /// Makes the connection ready for HTTP/2.
    pub(super) fn speak_http2(&mut self, least: u64) -> Taken {
        self.inbound = Inbound::Open;
        // No frame looks like an answer of HTTP/1.1.
        self.unanswered = false;
        self.least = least;
        self.taken.insert(Taken::default()).clone()
    }

    /// Notes what a hook has said of the body.
    fn settle(&mut self) {
        if let Some(framing) = self.announced.take() {
            self.inbound.follow(framing);
        }
    }

    fn clocks(&mut self) -> &mut Clocks {
        self.clocks.get_or_insert_default()
    }

    /// Reads what was read before, or from the client.
    fn poll_fill(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let fitting = buf.remaining().min(self.early.len());
            buf.put_slice(self.early.get(..fitting).unwrap_or_default());
            self.early.drain(..fitting);
            if self.early.is_empty() {
                self.early = Vec::new();
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.transport).poll_read(cx, buf);
        if read.is_pending() {
            return self.poll_overdue(cx);
        }
        self.is_more_likely = buf.remaining() == 0;
        if let Some(clocks) = &mut self.clocks {
            clocks.giving.progressed(buf.filled().len() - before);
        }
        read
    }

    /// Ready when the client takes too long.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Inbound::Head(head) = &self.inbound {
            let until = head.until;
            let alarm = self
                .clocks()
                .head
                .get_or_insert_with(|| Box::pin(sleep_until(until)));
            ready!(alarm.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if self.inbound.is_body() {
            let least = self.least;
            ready!(self.clocks().giving.poll_drips(cx, least));
            return Poll::Ready(Err(too_slow()));
        }
        Poll::Pending
    }

    /// Keeps what the client sends before its last request was answered, and finds out whether it has left.
    fn poll_watch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.early.len() < EARLY {
            let mut ahead = [0; AHEAD];
            let mut ahead = ReadBuf::new(&mut ahead);
            ready!(Pin::new(&mut self.transport).poll_read(cx, &mut ahead))?;
            if ahead.filled().is_empty() {
                // Who has asked for more waits for that.
                return if self.early.is_empty() {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                };
            }
            self.early.extend_from_slice(ahead.filled());
        }
        Poll::Pending
    }

    /// Has Pingora refuse the request, and the client learn why.
    fn refuse(&mut self, status: u16) {
        self.refused = Some(status);
        self.inbound = Inbound::Open;
        self.early = POISON.to_vec();
    }

    /// Notes how much the client has taken of what was written, or what is known of that under TLS.
    fn note_taken(&mut self, written: usize) {
        let sent = match self.transport.sent() {
            None => written,
            Some(sent) => {
                let before = mem::replace(&mut self.sent, sent);
                usize::try_from(sent - before).unwrap_or(usize::MAX)
            }
        };
        if let Some(Taken(bytes)) = &self.taken {
            bytes.fetch_add(sent as u64, Ordering::Relaxed);
        }
        if let Some(clocks) = &mut self.clocks {
            clocks.taking.progressed(sent);
        }
    }

    /// Passes on what has become of a write; one that waits for the client does so as long as that keeps up.
    fn poll_sent(
        &mut self,
        cx: &mut Context<'_>,
        sent: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match sent {
            Poll::Ready(Ok(sent)) => {
                self.note_taken(sent);
                Poll::Ready(Ok(sent))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.note_taken(0);
                let least = self.least;
                ready!(self.clocks().taking.poll_too_slow(cx, least));
                Poll::Ready(Err(too_slow()))
            }
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

    /// Sends all that is pending. TLS may keep some of what it was given until it is flushed.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let sent = Pin::new(&mut self.transport).poll_write(cx, &self.pending);
            let sent = ready!(self.poll_sent(cx, sent))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.drain(..sent);
        }
        self.pending = Vec::new();
        if !self.transport.is_tls() {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(&mut self.transport).poll_flush(cx);
        self.poll_sent(cx, flushed.map_ok(|()| 0)).map_ok(drop)
    }

    /// Says goodbye to a client that nobody has told anything, as far as that is not the kernel's to do.
    pub(super) async fn leave(mut self) {
        if self.transport.is_tls() {
            drop(timeout(LINGER, AsyncWriteExt::shutdown(&mut self)).await);
        }
    }
}

impl Readable for Connection {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.requests == 0 || self.is_more_likely {
            self.transport.poll_first(cx)
        } else {
            self.transport.poll_readable(cx)
        }
    }
}

/// What hooks say of a body, which have no more than a view of the connection.
#[derive(Default)]
struct Announced(AtomicU64);

impl Announced {
    const NOTHING: u64 = 0;
    const CHUNKED: u64 = 1;
    const UPGRADED: u64 = 2;
    /// A length is larger by this.
    const LENGTH: u64 = 3;

    fn set(&self, framing: Framing) {
        let said = match framing {
            Framing::Chunked => Self::CHUNKED,
            Framing::Upgraded => Self::UPGRADED,
            Framing::Length(length) => length.saturating_add(Self::LENGTH),
        };
        self.0.store(said, Ordering::Relaxed);
    }

    fn take(&mut self) -> Option<Framing> {
        match mem::take(self.0.get_mut()) {
            Self::NOTHING => None,
            Self::CHUNKED => Some(Framing::Chunked),
            Self::UPGRADED => Some(Framing::Upgraded),
            said => Some(Framing::Length(said - Self::LENGTH)),
        }
    }
}

fn too_slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client is too slow")
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
        let this = &mut *self;
        // Pingora flushes at the end of a response only, and listens to the client while it waits for
        // more of it: what has come so far goes out now, or slow responses would come in gulps.
        if let Poll::Ready(Err(error)) = this.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        this.settle();
        if this.inbound.is_between() {
            return this.poll_watch(cx);
        }
        let before = buf.filled().len();
        let filled = ready!(this.poll_fill(cx, buf));
        let read = buf.filled().get(before..).unwrap_or_default();
        if filled.is_err() || read.is_empty() {
            let Inbound::Head(head) = &this.inbound else {
                return Poll::Ready(filled);
            };
            if !head.begun {
                return Poll::Ready(Ok(()));
            }
            // Whoever has left in the middle gets it, too: else Pingora would log it as an error of ours.
            let late = filled.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut);
            this.refuse(if late { REQUEST_TIMEOUT } else { BAD_REQUEST });
            return this.poll_fill(cx, buf);
        }
        match this.inbound.pass(read) {
            Passes::All => {}
            Passes::Until(end) => {
                let rest = read.get(end..).unwrap_or_default();
                // What was read before is what comes first.
                this.early.splice(..0, rest.iter().copied());
                buf.set_filled(before + end);
            }
            Passes::Refused(status) => {
                buf.set_filled(before);
                this.refuse(status);
                return this.poll_fill(cx, buf);
            }
            Passes::Broken(well) => {
                buf.set_filled(before + well);
                this.inbound = Inbound::Open;
                this.early = BROKEN.to_vec();
                if well == 0 {
                    return this.poll_fill(cx, buf);
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

const BAD_REQUEST: u16 = 400;
const REQUEST_TIMEOUT: u16 = 408;

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let first = mem::replace(&mut this.unanswered, false);
        let ours = first.then(|| refusal::in_place_of(data, this.refused));
        if let Some(ours) = ours.flatten() {
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
            let sent = Pin::new(&mut this.transport).poll_write(cx, data);
            return this.poll_sent(cx, sent);
        }
        // What is pending and the new data in one system call.
        let both = [IoSlice::new(&this.pending), IoSlice::new(data)];
        let sent = Pin::new(&mut this.transport).poll_write_vectored(cx, &both);
        let sent = ready!(this.poll_sent(cx, sent))?;
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
        Pin::new(&mut self.transport).poll_shutdown(cx)
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
                match self.transport.read(&mut rest).await {
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
        if self.pending.is_empty() {
            return;
        }
        let nobody = &mut Context::from_waker(std::task::Waker::noop());
        let transport = Pin::new(&mut self.transport);
        if let Poll::Ready(Ok(_)) = transport.poll_write(nobody, &self.pending) {
            // Under TLS only now.
            let flushed = Pin::new(&mut self.transport).poll_flush(nobody);
            drop(flushed);
        }
    }
}

impl UniqueID for Connection {
    fn id(&self) -> UniqueIDType {
        self.transport.as_raw_fd()
    }
}

impl GetSocketDigest for Connection {
    /// None: hooks ask the connection itself, and Pingora has no need of it.
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl GetTimingDigest for Connection {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Connection {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(Arc::clone(&self.entrance))
    }
}

impl Ssl for Connection {}

impl Peek for Connection {}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.transport.as_raw_fd())
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::server::entrance::Entrance;

    impl Connection {
        /// One of which nothing is known.
        pub(in crate::server) fn unnamed(transport: Transport, peer: SocketAddr) -> Self {
            Self::new(transport, peer, None, Entrance::plain("http").digest())
        }
    }

    #[tokio::test]
    async fn what_is_written_promptly_comes_although_the_client_was_not_reading() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (tcp, peer) = listener.accept().await.unwrap();
        let mut connection = Connection::unnamed(tcp.into(), peer);
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
