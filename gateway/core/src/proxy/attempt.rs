//! Which endpoint is asked, and for how long.

mod history;
mod outcome;

use std::{
    os::fd::RawFd,
    sync::Arc,
    time::{Duration, Instant},
};

use edgeway_sdk::Reply;
use http::{Method, header};
use pingora::{Error, Result, protocols::ALPN, upstreams::peer::HttpPeer};
use pingora_proxy::Session;

use self::history::History;
pub(super) use self::outcome::{answered, broken, gives_up, not_connected};
use super::{
    cork::Cork,
    ctx::Ctx,
    hedge::{self, Hedging},
    introduce, session, trail,
    watchdog::{Watchdog, earlier, left},
};
use crate::{
    config::Protocol,
    snapshot::Target,
    telemetry::{failures::Asked, meter::Event},
    upstream::{Admitted, Cluster, Lease, Members, Picked, Tried, Turned, Want, clock},
};

/// Why a request ends when its own time does.
pub(super) const OVER: &str = "the time for the whole request is over";

/// A request's dealings with its upstream: all its tries.
pub(super) struct Tries {
    pub(super) cluster: Arc<Cluster>,
    /// The endpoints that there were at the first try: the numbers of those that were tried are theirs.
    pub(super) members: Arc<Members>,
    /// How many there were.
    pub(super) count: u32,
    pub(super) tried: Tried,
    /// The place at the endpoint of this try.
    pub(super) lease: Option<Lease>,
    /// When this try began, by the clock of the endpoints.
    pub(super) began: u64,
    /// When the endpoint of this try was chosen.
    pub(super) chosen: Instant,
    pub(super) history: History,
    /// When everything must be over.
    pub(super) due: Option<Instant>,
    /// When this try must have an answer.
    try_due: Option<Instant>,
    pub(super) watchdog: Option<Watchdog>,
    admitted: Admitted,
    websocket: bool,
    /// Keeps the end of the handshake of a WebSocket back.
    pub(super) cork: Option<Cork>,
    /// The head of an answer has come in this try.
    pub(super) answered: bool,
    /// The answer that has come is not what we wait for: another endpoint is asked.
    rejected: bool,
    /// A kept connection has turned out to be closed; the next one must not be another such.
    renewed: bool,
    pub(super) hedging: Hedging,
    pub(super) session: session::Session,
}

impl Tries {
    /// Another try, at this endpoint.
    fn begins(&mut self, lease: Lease) {
        self.count += 1;
        if self.count > 1 {
            self.cluster.meter().event(Event::Retried);
        }
        self.began = clock::at(self.chosen);
        let number = lease.number();
        self.history.begins(number, self.chosen);
        if !self.tried.contains(&number) {
            self.tried.push(number);
        }
        self.lease = Some(lease);
    }

    pub(super) fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }
}

/// The endpoint for the next try.
pub(super) async fn peer(session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
    if let Some(peer) = hedge::take_over(session, ctx).await? {
        return Ok(peer);
    }
    let websocket = wants_websocket(session);
    match &mut ctx.tries {
        None => begin(session, ctx)?,
        Some(tries) => pause(tries).await,
    }
    if let Some(tries) = &ctx.tries
        && tries.is_over()
    {
        // Who could not answer in what is left of the time would seem to have failed.
        let reply = Reply::new(504).because(OVER);
        return Err(ctx.refuse(reply));
    }
    place(session, ctx).await?;
    let Some(tries) = &mut ctx.tries else {
        return Err(no_upstream(ctx));
    };
    let client = introduce::client(session, &ctx.exchange, &tries.cluster);
    let lease = tries.lease.as_ref();
    let peer = lease.and_then(|lease| lease.peer(client.as_ref()));
    let Some(mut peer) = peer else {
        let reason = format!(
            "an endpoint of `{}` has lost its address",
            tries.cluster.name
        );
        return Err(ctx.refuse(Reply::new(503).because(reason)));
    };
    limit(&mut peer, tries, !session.is_body_empty());
    if tries.renewed {
        // No connection is kept under a key that nobody had before.
        peer.group_key = rand::random();
    }
    tries.websocket = websocket;
    if websocket {
        let idle = tries.cluster.settings.transport.timeouts.websocket_idle.0;
        peer.options.read_timeout = Some(idle);
        peer.options.alpn = ALPN::H1;
        session.set_read_timeout(Some(idle));
    }
    trail::redirect(&mut peer, ctx);
    Ok(peer)
}

fn no_upstream(ctx: &mut Ctx) -> Box<Error> {
    ctx.refuse(Reply::new(500).because("the route has no upstream"))
}

/// Chooses the upstream, if the route has several, and asks whether it may be asked.
fn begin(session: &mut Session, ctx: &mut Ctx) -> Result<()> {
    let route = Arc::clone(&ctx.route);
    let Target::Upstream(forward) = &route.target else {
        return Err(no_upstream(ctx));
    };
    let cluster = Arc::clone(forward.choose(&(session.req_header().as_ref(), &ctx.exchange)));
    let now = clock::now();
    // Endpoints would not understand a word, and be blamed for it.
    if cluster.settings.transport.protocol == Protocol::Http2 && wants_websocket(session) {
        let reason = format!(
            "the endpoints of `{}` speak HTTP/2 alone, and no WebSocket",
            cluster.name
        );
        return Err(ctx.refuse(Reply::new(501).because(reason)));
    }
    let admitted = match Admitted::to(&cluster, now) {
        Ok(admitted) => admitted,
        Err(retry_after) => {
            let seconds = retry_after.as_secs_f64().ceil().max(1.0);
            let reply = Reply::new(503).header(header::RETRY_AFTER, format!("{seconds:.0}"));
            let reason = format!("the breaker of the upstream `{}` is open", cluster.name);
            return Err(ctx.refuse(reply.because(reason)));
        }
    };
    let members = cluster.members();
    let timeouts = &cluster.settings.transport.timeouts;
    let total = timeouts.total.map(|total| total.0);
    let total = forward.timeout.or(total);
    let home = session::find(session.req_header(), &cluster, &members);
    ctx.tries = Some(Tries {
        hedging: Hedging::of(session, &cluster, home.endpoint),
        session: home,
        members,
        count: 0,
        tried: Tried::new(),
        lease: None,
        began: now,
        chosen: ctx.exchange.started,
        history: History::new(ctx.exchange.started),
        due: total.map(|total| ctx.exchange.started + total),
        try_due: None,
        watchdog: None,
        admitted,
        websocket: false,
        cork: None,
        answered: false,
        rejected: false,
        renewed: false,
        cluster,
    });
    Ok(())
}

/// Waits a little before a retry.
async fn pause(tries: &mut Tries) {
    // The place is for others meanwhile.
    tries.lease = None;
    tries.forget_answer();
    if tries.count == 0 {
        return;
    }
    let pause = tries.cluster.settings.retries.pause(tries.count);
    let pause = tries.due.map_or(pause, |due| pause.min(left(due)));
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
}

/// Takes a place at an endpoint, waiting for one if the upstream has a queue.
async fn place(session: &mut Session, ctx: &mut Ctx) -> Result<()> {
    let Some(tries) = &mut ctx.tries else {
        return Err(no_upstream(ctx));
    };
    let cluster = Arc::clone(&tries.cluster);
    let request = (session.req_header().as_ref(), &ctx.exchange);
    let key = cluster.settings.balance_key(&request);
    let session_key = cluster.settings.session_key(&request);
    let due = tries.due;
    let mut pick = |after_a_while: bool| {
        if after_a_while {
            tries.follow_changes();
        }
        tries.chosen = Instant::now();
        let want = Want {
            tried: &tries.tried,
            key,
            session_key,
            session: tries.session.endpoint.filter(|_| tries.count == 0),
            now: clock::at(tries.chosen),
        };
        tries.members.pick(&cluster.settings, want)
    };
    let waits = cluster.settings.queue.is_some() && !cluster.queue.is_empty();
    let picked = if waits { Picked::Full } else { pick(false) };
    let lease = match picked {
        Picked::Endpoint(lease) => Ok(lease),
        Picked::Nobody => {
            cluster.meter().event(Event::NoEndpoint);
            Err("none of its endpoints may be asked now")
        }
        Picked::Full => {
            tokio::select! {
                lease = wait(&cluster, due, || pick(true)) => lease,
                gone = gone(session) => return Err(gone),
            }
        }
    };
    match lease {
        Ok(lease) => {
            tries.begins(lease);
            trail::tried(session, ctx);
            Ok(())
        }
        Err(why) => {
            let reply = Reply::new(503).header(header::RETRY_AFTER, "1");
            let reason = format!("upstream `{}`: {why}", cluster.name);
            Err(ctx.refuse(reply.because(reason)))
        }
    }
}

/// Waits in the queue of an upstream whose endpoints have as many requests as they may.
async fn wait(
    cluster: &Cluster,
    due: Option<Instant>,
    mut pick: impl FnMut() -> Picked,
) -> std::result::Result<Lease, &'static str> {
    let Some((size, timeout)) = cluster.settings.queue else {
        cluster.meter().event(Event::QueueFull);
        return Err("its endpoints have as many requests as they may");
    };
    let until = earlier(Some(Instant::now() + timeout), due);
    let until = until.unwrap_or_else(Instant::now);
    let free = || match pick() {
        Picked::Endpoint(lease) => Some(lease),
        Picked::Full | Picked::Nobody => None,
    };
    let lease = cluster.queue.wait(size, until.into(), free).await;
    lease.map_err(|turned| {
        let (event, why) = match turned {
            Turned::Full => (
                Event::QueueFull,
                "its endpoints have as many requests as they may, and its queue is full",
            ),
            Turned::TooLong => (
                Event::QueueTimedOut,
                "no endpoint had room for the request in time",
            ),
        };
        cluster.meter().event(event);
        why
    })
}

/// Waits until the client has left: nobody waits in the place of somebody who is gone. A request whose body
/// is still to be read is not watched, since what it sends is the body.
pub(super) async fn gone(session: &mut Session) -> Box<Error> {
    if !session.is_body_empty() && !session.is_body_done() {
        return std::future::pending().await;
    }
    loop {
        // What comes instead of the end is the next request, which Pingora keeps.
        if let Err(error) = session.as_mut().read_body_or_idle(true).await {
            return error.into_down();
        }
    }
}

/// Sets the times of this try. What Pingora can't tell apart on a connection that other requests
/// share is one time there, and holds for an upload and the answer together.
pub(super) fn limit(peer: &mut HttpPeer, tries: &mut Tries, uploads: bool) {
    let settings = &tries.cluster.settings;
    let timeout = settings.retries.timeout;
    tries.try_due = timeout.map(|timeout| tries.chosen + timeout);
    let soonest = earlier(tries.try_due, tries.due);
    if let Some(left) = soonest.map(left) {
        shorten(&mut peer.options.connection_timeout, left);
        shorten(&mut peer.options.total_connection_timeout, left);
    }
    if settings.shares_connections() {
        let most = if uploads { tries.due } else { soonest };
        for most in most.map(left).into_iter().chain(settings.first_byte()) {
            shorten(&mut peer.options.read_timeout, most);
        }
    }
}

fn shorten(timeout: &mut Option<Duration>, most: Duration) {
    *timeout = Some(timeout.map_or(most, |timeout| timeout.min(most)));
}

/// A connection is there; the times that Pingora does not know are watched from now on.
pub(super) fn connected(session: &mut Session, reused: bool, descriptor: RawFd, ctx: &mut Ctx) {
    let Some(tries) = &mut ctx.tries else { return };
    tries.history.connected(reused, !session.is_body_empty());
    if tries.websocket {
        tries.cork = Cork::of(descriptor);
    }
    let settings = &tries.cluster.settings;
    let watched = tries.first_byte().is_some() || tries.try_due.is_some() || tries.due.is_some();
    let watched = watched || tries.hedging.needs_leash();
    // To end a connection that others share would end their requests too. A WebSocket has its own.
    if !watched || (settings.shares_connections() && !tries.websocket) {
        return;
    }
    tries.watchdog = Watchdog::of(tries.hedging.descriptor(descriptor));
    if session.is_body_empty() {
        tries.sent();
    } else if let Some(watchdog) = &mut tries.watchdog {
        watchdog.set(tries.due);
    }
}

impl Tries {
    /// The whole body was sent. However long that took, the time of the try begins now.
    pub(super) fn uploaded(&mut self) {
        if self.answered {
            return;
        }
        let now = Instant::now();
        self.history.sent(now);
        self.began = clock::at(now);
        let timeout = self.cluster.settings.retries.timeout;
        self.try_due = timeout.map(|timeout| now + timeout);
        self.sent();
    }

    /// The whole request was sent: the endpoint is to answer.
    fn sent(&mut self) {
        if self.watchdog.is_none() {
            return;
        }
        let first = self.first_byte().map(|first| Instant::now() + first);
        let due = earlier(first, earlier(self.try_due, self.due));
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.set(due);
        }
    }

    /// How long the endpoint has for the head of its answer, where Pingora does not see to it. It gives
    /// silent WebSockets a long time, and with them the answer to the handshake.
    fn first_byte(&self) -> Option<Duration> {
        let read = self.cluster.settings.transport.timeouts.read.0;
        let first = self.cluster.settings.first_byte();
        first.or_else(|| self.websocket.then_some(read))
    }

    /// The head of the answer is there. A connection that becomes another protocol's has all the time
    /// there is.
    fn answered(&mut self, upgraded: bool) {
        self.answered = true;
        if self.websocket && !upgraded {
            return self.heard();
        }
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.set(self.due.filter(|_| !upgraded));
        }
    }

    /// A piece of an answer has come. Who only pretends to want a WebSocket waits no longer for the next
    /// one than others do.
    pub(super) fn heard(&mut self) {
        if !self.websocket {
            return;
        }
        let read = self.cluster.settings.transport.timeouts.read.0;
        let due = earlier(Some(Instant::now() + read), self.due);
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.set(due);
        }
    }

    /// The connection is about to be another request's.
    pub(super) fn release(&mut self) {
        self.watchdog = None;
        self.hedging.end();
    }

    /// Whether the time of this try is over.
    fn has_run_out(&self) -> bool {
        self.try_due.is_some_and(|due| due <= Instant::now())
    }

    /// What comes is of another connection.
    pub(super) fn forget_answer(&mut self) {
        self.watchdog = None;
        self.answered = false;
        self.rejected = false;
    }

    /// Whether the time for the whole request is over.
    pub(super) fn is_over(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    /// Whether an answer that seems to end now was cut, or is to be, because its time is over. On a
    /// connection of its own the watchdog ends it, which may look like the end of the answer.
    pub(super) fn is_cut(&self) -> bool {
        match &self.watchdog {
            Some(watchdog) => watchdog.has_bitten(),
            None => self.cluster.settings.shares_connections() && self.is_over(),
        }
    }

    /// Whether one more try is worth it. Takes it from the budget.
    pub(super) fn may_go_on(&self) -> bool {
        let settings = &self.cluster.settings;
        self.count < settings.retries.tries
            && self.members.has_untried(settings, &self.tried)
            && !self.is_over()
            && self.cluster.may_retry(clock::now())
    }

    /// Whether another endpoint is asked already, or may be.
    fn is_not_last(&self) -> bool {
        self.hedging.is_under_way() || self.may_go_on()
    }

    /// Looks at the endpoints that there are now, as long as none was tried: the numbers of those that
    /// were are of the endpoints that there were then.
    fn follow_changes(&mut self) {
        let members = self.cluster.members();
        if self.count > 0 || !self.tried.is_empty() || Arc::ptr_eq(&members, &self.members) {
            return;
        }
        let home = self.session.endpoint;
        self.session.endpoint =
            home.and_then(|home| members.of_name(&self.members.endpoint(home).name));
        self.members = members;
    }

    /// Counts the endpoint of this try as one that was not tried.
    fn untry(&mut self) {
        let number = self.lease.as_ref().map(Lease::number);
        self.tried.retain(|tried| Some(*tried) != number);
    }

    fn failed(&mut self, event: Event, reason: &'static str) {
        self.admitted.went(false);
        if let Some(lease) = &self.lease {
            self.cluster.lost(lease, self.began, event, &reason);
        }
    }

    /// Whom this try asks.
    pub(super) fn asked(&self) -> Asked {
        Asked {
            upstream: Some(Arc::clone(&self.cluster.name)),
            endpoint: self
                .lease
                .as_ref()
                .map(|lease| Arc::clone(&lease.endpoint().name)),
        }
    }
}

/// A handshake is a GET without a body (RFC 6455, 4.1): an upload that calls itself one is no reason
/// to wait longer for it.
fn wants_websocket(session: &mut Session) -> bool {
    if !session.is_body_empty() || session.req_header().method != Method::GET {
        return false;
    }
    let upgrade = session.req_header().headers.get(header::UPGRADE);
    upgrade.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}
