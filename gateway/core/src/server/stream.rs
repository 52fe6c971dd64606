//! One connection as Pingora sees it.
//!
//! * [`reading`]: what comes of it; [`writing`]: what goes.

mod reading;
mod writing;

use std::{
    fmt, io, mem,
    net::SocketAddr,
    os::fd::AsRawFd,
    pin::Pin,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use edgeway_sdk::exchange::Speed;
use http::HeaderValue;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType, raw_connect::ProxyDigest,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, Sleep, timeout},
};

use super::{
    dated::Dated,
    inbound::{Framing, HeadLimits, Inbound},
    pace::Pace,
    throttle::Throttle,
    transport::Transport,
};
use crate::files::Large;

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
    /// What the kernel sends in the place of blanks.
    file: OnceLock<Weak<Large>>,
    /// From where on.
    file_at: AtomicU64,
    /// How fast the response goes out, from the next write on; nothing for as fast as it can.
    speed: OnceLock<Speed>,
    /// Made of it.
    throttle: Option<Box<Throttle>>,
    /// For those who want to know whether the client takes what is sent.
    taken: Option<Taken>,
    /// Whether all connections are to end, if that may come.
    parting: Option<Arc<AtomicBool>>,
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
            file: OnceLock::new(),
            file_at: AtomicU64::new(0),
            speed: OnceLock::new(),
            throttle: None,
            taken: None,
            parting: None,
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
        self.file.take();
        self.speed.take();
        self.throttle = None;
        self.clocks = None;
    }

    /// Has the connection end when all are to end.
    pub(super) fn part_with_all(&mut self, parting: Arc<AtomicBool>) {
        self.parting = Some(parting);
    }

    /// Whether the connection is to end with the response.
    pub(crate) fn is_parting(&self) -> bool {
        let parting = self.parting.as_ref();
        parting.is_some_and(|parting| parting.load(Ordering::Relaxed))
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

    /// Whether the kernel can send files here by itself.
    pub(crate) fn sends_files(&self) -> bool {
        !self.transport.is_tls()
    }

    /// Has the next [blanks](crate::files::blank) stand for this file, from there on: one file for each response.
    pub(crate) fn file_follows(&self, file: &Arc<Large>, offset: u64) {
        self.file.get_or_init(|| Arc::downgrade(file));
        self.file_at.store(offset, Ordering::Relaxed);
    }

    /// Has the response go out this fast. What was said first holds.
    pub(crate) fn slow_down(&self, speed: Speed) {
        self.speed.get_or_init(|| speed);
    }

    /// Has the next response of HTTP/1.1 say that it was made then.
    pub(crate) fn made(&self, date: HeaderValue) {
        self.dated.set(date);
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

    /// Says goodbye to a client that nobody has told anything, as far as that is not the kernel's to do.
    pub(super) async fn leave(mut self) {
        if self.transport.is_tls() {
            drop(timeout(LINGER, AsyncWriteExt::shutdown(&mut self)).await);
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
    use super::*;
    use crate::server::entrance::Entrance;

    impl Connection {
        /// One of which nothing is known.
        pub(in crate::server) fn unnamed(transport: Transport, peer: SocketAddr) -> Self {
            Self::new(transport, peer, None, Entrance::plain("http").digest())
        }
    }
}
