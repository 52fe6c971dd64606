//! What an endpoint shall do, and what it has seen.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::serve::Protocol;
use super::{Health, Reaction};

pub(super) type Answers = Box<dyn Fn(&Received) -> Reaction + Send + Sync>;

/// Where an answer breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Before its first byte.
    BeforeAnswer,
    /// After its head and half of its body.
    AfterHead,
    /// Never: nothing comes, and the connection stays open.
    Hang,
}

/// A request as an endpoint has received it.
#[derive(Clone, Debug)]
pub struct Received {
    /// Which request of the endpoint it is, from 1 on; 0 for `/healthz`.
    pub number: usize,
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The path.
    pub path: String,
    /// The authority of HTTP/2, or `Host`.
    pub host: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Bytes,
    /// What came behind the body.
    pub trailers: Vec<(String, String)>,
    /// The connection that it came on.
    pub connection: Inbound,
}

impl Received {
    /// All values of a header, in their order.
    pub fn header_all(&self, name: &str) -> Vec<&str> {
        let lines = self.headers.iter();
        let wanted = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        wanted.map(|(_, value)| value.as_str()).collect()
    }
}

/// A connection as an endpoint sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// Which connection of the endpoint it is, from 1 on.
    pub number: usize,
    /// The name of the host, by SNI.
    pub sni: Option<String>,
    /// The common name of the client's certificate.
    pub client: Option<String>,
    /// The protocol that ALPN has chosen.
    pub protocol: Option<String>,
    /// How many requests have come, `/healthz` included.
    pub requests: usize,
    /// The most requests that were in flight at once.
    pub streams: usize,
    /// Whether it is open.
    pub open: bool,
}

/// What the test has asked for. The default is to behave.
#[derive(Clone, Debug)]
pub(super) struct Conduct {
    pub(super) delay: Duration,
    pub(super) status: u16,
    pub(super) status_next: (usize, u16),
    pub(super) breaks: Option<Break>,
    pub(super) breaks_next: (usize, Break),
    pub(super) health: Health,
}

impl Default for Conduct {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            status: 200,
            status_next: (0, 200),
            breaks: None,
            breaks_next: (0, Break::BeforeAnswer),
            health: Health::Up,
        }
    }
}

impl Conduct {
    /// What becomes of a reaction now. Uses up one of those that are to break or to fail next.
    fn change(&mut self, mut reaction: Reaction) -> Reaction {
        reaction.delay = reaction.delay.saturating_add(self.delay);
        let status = next(&mut self.status_next).unwrap_or(self.status);
        if status != 200 {
            reaction = reaction.with_status(status);
        }
        match next(&mut self.breaks_next).or(self.breaks) {
            None => reaction,
            Some(Break::BeforeAnswer) => Reaction::close().after(reaction.delay),
            Some(Break::AfterHead) => reaction.cut(),
            Some(Break::Hang) => Reaction::hang(),
        }
    }
}

fn next<T: Copy>((left, what): &mut (usize, T)) -> Option<T> {
    *left = left.checked_sub(1)?;
    Some(*what)
}

/// All that the connections of an endpoint share.
pub(super) struct State {
    name: String,
    pub(super) protocol: Protocol,
    pub(super) max_streams: Option<u32>,
    pub(super) relays: bool,
    pub(super) answers: Option<Answers>,
    conduct: Mutex<Conduct>,
    pub(super) in_flight: Gauge,
    /// Changes when all connections shall close.
    closing: watch::Sender<()>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    accepted: usize,
    open: usize,
    inbound: Vec<Arc<Connection>>,
    failed_handshakes: Vec<String>,
    received: Vec<Received>,
    health_checks: usize,
}

impl State {
    pub(super) fn new(name: String, protocol: Protocol) -> Self {
        Self {
            name,
            protocol,
            max_streams: None,
            relays: false,
            answers: None,
            conduct: Mutex::default(),
            in_flight: Gauge::default(),
            closing: watch::Sender::new(()),
            seen: Mutex::default(),
        }
    }

    pub(super) fn conduct(&self) -> MutexGuard<'_, Conduct> {
        self.conduct.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn close_connections(&self) {
        self.closing.send_replace(());
    }

    pub(super) fn closing(&self) -> watch::Receiver<()> {
        self.closing.subscribe()
    }

    /// What to do about a request, which is counted here.
    pub(super) fn react(&self, mut request: Received) -> Reaction {
        if request.path == HEALTH {
            self.seen().health_checks += 1;
            let health = self.conduct().health;
            return health.reaction();
        }
        {
            let mut seen = self.seen();
            request.number = seen.received.len() + 1;
            seen.received.push(request.clone());
        }
        let reaction = match &self.answers {
            Some(answers) => answers(&request),
            None => Reaction::json(&self.describe(&request)),
        };
        let reaction = reaction.header("X-Endpoint", &self.name);
        self.conduct().change(reaction)
    }

    fn describe(&self, request: &Received) -> Value {
        json!({
            "endpoint": self.name,
            "method": request.method,
            "target": request.target,
            "path": request.path,
            "host": request.host,
            "version": request.version,
            "headers": request.headers,
            "body": String::from_utf8_lossy(&request.body),
            "connection": request.connection.number,
            "streams": request.connection.streams,
            "protocol": request.connection.protocol,
            "sni": request.connection.sni,
            "client": request.connection.client,
        })
    }

    pub(super) fn requests(&self) -> usize {
        self.seen().received.len()
    }

    pub(super) fn requests_to(&self, path: &str) -> usize {
        let seen = self.seen();
        if path == HEALTH {
            return seen.health_checks;
        }
        let requests = seen.received.iter();
        requests.filter(|request| request.path == path).count()
    }

    pub(super) fn received(&self) -> Vec<Received> {
        self.seen().received.clone()
    }

    pub(super) fn connections(&self) -> usize {
        self.seen().accepted
    }

    pub(super) fn open_connections(&self) -> usize {
        self.seen().open
    }

    pub(super) fn inbound(&self) -> Vec<Inbound> {
        let seen = self.seen();
        seen.inbound.iter().map(|inbound| inbound.look()).collect()
    }

    pub(super) fn failed_handshakes(&self) -> Vec<String> {
        self.seen().failed_handshakes.clone()
    }

    pub(super) fn handshake_failed(&self, reason: String) {
        self.seen().failed_handshakes.push(reason);
    }

    /// Counts a connection as open until what is returned is dropped.
    pub(super) fn accepted(self: &Arc<Self>) -> (usize, Open) {
        let mut seen = self.seen();
        seen.accepted += 1;
        seen.open += 1;
        (seen.accepted, Open(Arc::clone(self)))
    }

    pub(super) fn add(&self, connection: &Arc<Connection>) {
        self.seen().inbound.push(Arc::clone(connection));
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "State({})", self.name)
    }
}

/// An open connection, for as long as it lives.
pub(super) struct Open(Arc<State>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.seen().open -= 1;
    }
}

/// A connection that speaks HTTP.
#[derive(Debug, Default)]
pub(super) struct Connection {
    pub(super) number: usize,
    pub(super) sni: Option<String>,
    pub(super) client: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) in_flight: Gauge,
    pub(super) requests: AtomicUsize,
    pub(super) closed: AtomicUsize,
}

impl Connection {
    pub(super) fn look(&self) -> Inbound {
        Inbound {
            number: self.number,
            sni: self.sni.clone(),
            client: self.client.clone(),
            protocol: self.protocol.clone(),
            requests: self.requests.load(SeqCst),
            streams: self.in_flight.most(),
            open: self.closed.load(SeqCst) == 0,
        }
    }
}

/// How many there are, and were at most.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauge(Arc<(AtomicUsize, AtomicUsize)>);

impl Gauge {
    /// One more, until what is returned is dropped.
    pub(super) fn enter(&self) -> Within {
        let now = self.0.0.fetch_add(1, SeqCst) + 1;
        self.0.1.fetch_max(now, SeqCst);
        Within(self.clone())
    }

    pub(super) fn now(&self) -> usize {
        self.0.0.load(SeqCst)
    }

    pub(super) fn most(&self) -> usize {
        self.0.1.load(SeqCst)
    }
}

pub(super) struct Within(Gauge);

impl Drop for Within {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, SeqCst);
    }
}

pub(super) const HEALTH: &str = "/healthz";
