//! Which of two endpoints begins to answer first.

use std::{
    fmt, io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use log::debug;
use pingora::{
    Error,
    connectors::{ConnectorOptions, TransportConnector},
    protocols::Stream,
    upstreams::peer::HttpPeer,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
    task::AbortHandle,
    time::{sleep, timeout},
};

use crate::{
    proxy::watchdog::{Leash, left},
    upstream::{Cluster, Hedge, Introduction, Members, Tried},
};

/// Connections to second endpoints, one pool for the process.
pub(crate) struct Connections(pub(super) TransportConnector);

impl Connections {
    pub(crate) fn new(options: ConnectorOptions) -> Self {
        Self(TransportConnector::new(Some(options)))
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connections")
    }
}

/// A request that is under way at one endpoint, and is or may be sent to a second one. That is given up
/// when this is dropped.
#[derive(Debug)]
pub(super) struct Race {
    course: Arc<Course>,
    second: oneshot::Receiver<Second>,
    task: AbortHandle,
}

/// What the request and the task of the second endpoint tell each other.
#[derive(Debug, Default)]
struct Course {
    /// Set by whoever is first.
    decided: AtomicBool,
    /// The number of the second endpoint, and since when it is asked.
    asked: OnceLock<(u16, Instant)>,
}

/// A request to a second endpoint, which has begun to answer it.
pub(super) struct Second {
    pub(super) hedge: Hedge,
    pub(super) begun: Begun,
}

/// A connection on which an answer has begun.
pub(super) struct Begun {
    pub(super) stream: Stream,
    /// What was read of the answer.
    pub(super) read: Bytes,
    pub(super) peer: Box<HttpPeer>,
    pub(super) connections: Arc<Connections>,
}

/// What is to be done when the first endpoint is silent.
pub(super) struct Order {
    pub(super) cluster: Arc<Cluster>,
    pub(super) members: Arc<Members>,
    pub(super) tried: Tried,
    /// Of what the balancing goes by.
    pub(super) key: Option<u64>,
    /// Who the endpoint is told the client is.
    pub(super) client: Option<Introduction>,
    /// The request as the first endpoint is sent it.
    pub(super) head: Bytes,
    /// When everything must be over.
    pub(super) due: Option<Instant>,
    /// Of the connection to the first endpoint.
    pub(super) leash: Leash,
    pub(super) connections: Arc<Connections>,
}

impl Race {
    /// Asks a second endpoint after this time, unless the race is decided then.
    pub(super) fn begin(after: Duration, order: Order) -> Self {
        let (tell, second) = oneshot::channel();
        let course = Arc::new(Course::default());
        let seen = Arc::clone(&course);
        let task = tokio::spawn(async move {
            sleep(after).await;
            // In a box, since most requests end before, and need no more than the time.
            Box::pin(order.run(&seen, tell)).await;
        });
        Self {
            course,
            second,
            task: task.abort_handle(),
        }
    }

    /// The number of the second endpoint, and since when it is asked, if it was.
    pub(super) fn asked(&self) -> Option<(u16, Instant)> {
        self.course.asked.get().copied()
    }

    /// Whether an answer of the second endpoint is there, or may come.
    pub(super) fn is_under_way(&self) -> bool {
        self.asked().is_some() && (!self.task.is_finished() || !self.second.is_empty())
    }

    /// Whether the second endpoint was faster.
    pub(super) fn is_lost(&self) -> bool {
        self.is_under_way() && self.course.decided.load(Ordering::Acquire)
    }

    /// Decides the race for the first endpoint, unless the second one was faster.
    pub(super) fn win(&self) -> bool {
        self.course.decide()
    }

    /// The second endpoint's answer when it has begun; none if it has failed. Whose it is, is decided.
    pub(super) async fn second(&mut self) -> Option<Second> {
        (&mut self.second).await.ok()
    }
}

impl fmt::Debug for Second {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Second")
    }
}

impl Drop for Race {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Course {
    /// Whether nobody was first before.
    fn decide(&self) -> bool {
        !self.decided.swap(true, Ordering::AcqRel)
    }
}

/// Why there was no answer.
enum Lost {
    Unconnected(Box<Error>),
    Broken(io::Error),
}

impl Order {
    async fn run(self, course: &Course, tell: oneshot::Sender<Second>) {
        let begun = Hedge::begin(&self.cluster, &self.members, &self.tried, self.key);
        let whole = begun.and_then(|hedge| whole(hedge, self.client.as_ref()));
        let Some((mut hedge, number, peer)) = whole else {
            return;
        };
        let asked = (number, Instant::now());
        if course.asked.set(asked).is_err() || course.decided.load(Ordering::Acquire) {
            return;
        }
        let limit = self.limit(&peer);
        let exchange = timeout(self.until_due(limit), self.exchange(&peer)).await;
        let (stream, read, status) = match exchange {
            Ok(Ok(answer)) => answer,
            Ok(Err(Lost::Unconnected(error))) => {
                let at = peer._address.as_inet().copied();
                return hedge.not_connected(at, &error.etype().as_str());
            }
            Ok(Err(Lost::Broken(error))) => return hedge.failed(&error),
            // Who could not answer in what was left of the time would seem to have failed.
            Err(_) if self.is_due() => return,
            Err(_) => return hedge.failed(&"it has not answered in time"),
        };
        let is_good = hedge.answered(status);
        let begun = Begun {
            stream,
            read,
            peer,
            connections: self.connections,
        };
        // A bad answer is kept for the case that the first endpoint has none.
        let told = tell.send(Second { hedge, begun }).is_ok();
        if told && is_good && course.decide() {
            debug!("hedge has won: upstream={}", self.cluster.name);
            self.leash.pull();
        }
    }

    /// How long an answer may take that has all the time it may have.
    fn limit(&self, peer: &HttpPeer) -> Duration {
        let settings = &self.cluster.settings;
        let connect = peer.options.total_connection_timeout.unwrap_or_default();
        let read = settings.transport.timeouts.read.0;
        let answer = connect.saturating_add(settings.first_byte().unwrap_or(read));
        settings.retries.timeout.unwrap_or(answer).min(answer)
    }

    fn until_due(&self, limit: Duration) -> Duration {
        self.due.map_or(limit, |due| limit.min(left(due)))
    }

    fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    /// Sends the request, and waits for an answer.
    ///
    /// A kept connection may have been closed by the other side just now, which says nothing about it.
    async fn exchange(&self, peer: &HttpPeer) -> Result<(Stream, Bytes, StatusCode), Lost> {
        let connector = &self.connections.0;
        if let Some(kept) = connector.reused_stream(peer).await
            && let Ok(answer) = self.ask(kept).await
        {
            return Ok(answer);
        }
        let stream = connector.new_stream(peer).await;
        let stream = stream.map_err(Lost::Unconnected)?;
        self.ask(stream).await.map_err(Lost::Broken)
    }

    async fn ask(&self, mut stream: Stream) -> io::Result<(Stream, Bytes, StatusCode)> {
        stream.write_all(&self.head).await?;
        stream.flush().await?;
        let mut read = BytesMut::with_capacity(ROOM);
        loop {
            if stream.read_buf(&mut read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // What only announces an answer decides nothing, and is left to who is quicker with it.
            if let Some(status) = status(answer(&read))? {
                return Ok((stream, read.freeze(), status));
            }
        }
    }
}

/// What a request to a second endpoint needs; none if there is no way to it.
fn whole(hedge: Hedge, client: Option<&Introduction>) -> Option<(Hedge, u16, Box<HttpPeer>)> {
    let (number, peer) = hedge.number().zip(hedge.peer(client))?;
    Some((hedge, number, peer))
}

/// What follows interim heads (RFC 9110, section 15.2), or the last of them, as far as it has come.
fn answer(mut read: &[u8]) -> &[u8] {
    while let Ok(Some(interim)) = status(read)
        && interim.is_informational()
        && interim != StatusCode::SWITCHING_PROTOCOLS
    {
        let Some(end) = memchr::memmem::find(read, b"\r\n\r\n") else {
            return b"";
        };
        read = read.get(end + 4..).unwrap_or_default();
    }
    read
}

/// The status of an answer of HTTP/1 that begins like this; none if there is more to come.
fn status(read: &[u8]) -> io::Result<Option<StatusCode>> {
    let wrong = || io::Error::from(io::ErrorKind::InvalidData);
    let (version, rest) = read.split_at(read.len().min(VERSION.len()));
    if !VERSION.starts_with(version) {
        return Err(wrong());
    }
    // The minor version and a space stand before the status.
    match rest.get(2..5) {
        Some(digits) => StatusCode::from_bytes(digits)
            .map(Some)
            .map_err(|_| wrong()),
        None => Ok(None),
    }
}

const VERSION: &[u8] = b"HTTP/1.";

/// For the head of most answers, in bytes.
const ROOM: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_known_when_its_digits_have_come() {
        let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
        for length in 0..12 {
            assert_eq!(status(&answer[..length]).unwrap(), None, "{length}");
        }
        for length in 12..answer.len() {
            let known = status(&answer[..length]).unwrap();
            assert_eq!(known, Some(StatusCode::NO_CONTENT), "{length}");
        }
    }

    #[test]
    fn interim_heads_are_no_answer() {
        let interim = b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n";
        for length in 0..interim.len() {
            let known = status(answer(&interim[..length])).unwrap();
            assert_eq!(known, None, "{length}");
        }
        let whole = [interim, interim, &b"HTTP/1.1 404 Not Found\r\n"[..]].concat();
        assert_eq!(status(answer(&whole)).unwrap(), Some(StatusCode::NOT_FOUND));
    }

    #[test]
    fn what_is_no_answer_is_an_error_as_soon_as_it_is_seen() {
        for wrong in ["S", "HTTP/2", "HTTP/1.1 2x4", "HTTP/1.1 099", "\0"] {
            assert!(status(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_race_is_decided_once() {
        let course = Course::default();
        assert!(course.decide());
        assert!(!course.decide());
    }
}
