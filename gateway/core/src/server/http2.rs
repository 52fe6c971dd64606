//! A connection of HTTP/2: its streams, its limits, its end.
//!
//! Pingora's own loop would take a stream whenever the client opens one, however many of those that
//! the client has reset are still being cleaned up (Rapid Reset, CVE-2023-44487, and its relatives),
//! and never close a connection that is not used.

use std::{
    future::poll_fn,
    io, mem,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::server::Connection as Frames;
use http::{
    HeaderMap, HeaderValue, Method, Request, Uri,
    header::{ALLOW, CONTENT_LENGTH, COOKIE, HOST},
    request,
};
use log::debug;
use pingora::{
    Error, ErrorType, Result,
    apps::HttpServerApp,
    http::{RequestHeader, ResponseHeader},
    protocols::{
        Digest, GetProxyDigest, Stream,
        http::{
            ServerSession,
            v2::server::{H2Accept, H2Options, HttpSession, handshake},
        },
    },
    server::ShutdownWatch,
};
use tokio::{
    select,
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    edge::{App, Shared},
    listeners::Settings,
    parking::{Lot, Readable},
    pressure::Level,
    stream::{Connection, Taken},
};
use crate::{config::Http2, proxy::Upload, snapshot::Live};

/// Heads of a connection that can't be taken for a request, before it is closed.
const MALFORMED: usize = 32;

/// Requests that a client has reset before they were looked at, before the connection is closed.
const RESET_EARLY: usize = 20;

/// Requests that had to be reset since the client has broken the rules, before the connection is
/// closed (MadeYouReset, CVE-2025-8671).
const RESET_FOR_ERRORS: usize = 200;

/// How long it is known which requests were reset. What the client has sent of them until it learns
/// of that is passed over for so long, and then counts as an error.
const RESET_KNOWN: Duration = Duration::from_secs(30);

/// How many of them are known.
const RESETS_KNOWN: usize = 200;

/// How much of an answer waits within the process while the client takes it.
const SEND_BUFFER: usize = 64 * 1024;

/// How long a client may take to learn that the connection ends, once nothing is under way.
const GOODBYE: Duration = Duration::from_secs(2);

/// Serves the requests of one connection, each in a task of its own, to its end.
pub(super) async fn serve(mut connection: Connection, settings: &Settings, shared: &Shared) {
    let Some(limits) = &settings.spec.http2 else {
        return;
    };
    let mut shutdown = shared.shutdown.clone();
    let taken = connection.speak_http2(shared.live.pin().requests.min_rate);
    let digest = Digest {
        socket_digest: Some(Arc::new(connection.socket_digest())),
        proxy_digest: connection.get_proxy_digest(),
        ..Digest::default()
    };
    let first = shared.first_patience();
    let shaken = timeout(
        first,
        handshake(Box::new(connection), Some(options(limits))),
    )
    .await;
    let frames = match shaken {
        Ok(Ok(frames)) => frames,
        Ok(Err(error)) => return debug!("no HTTP/2: {error}"),
        Err(_) => return debug!("no HTTP/2: no preface in time"),
    };
    let streams = Arc::new(Streams::new(limits.max_streams.get().into()));
    let mut connected = Connected {
        frames,
        digest: Arc::new(digest),
        streams: Arc::clone(&streams),
        malformed: 0,
        requests: 0,
        live: shared.live.clone(),
        app: Arc::clone(&shared.app),
        shutdown: shutdown.clone(),
    };
    if let Err(error) = connected.run(&taken, shared, &mut shutdown).await {
        debug!("HTTP/2 has ended: {error}");
    }
    // What the client has left in the middle has its record to write.
    drop(connected);
    streams.none().await;
}

fn options(limits: &Http2) -> H2Options {
    let mut options = H2Options::default();
    options
        .max_concurrent_streams(limits.max_streams.get().into())
        .max_header_list_size(limits.max_header_size.0)
        .initial_window_size(limits.stream_window.0)
        .initial_connection_window_size(limits.connection_window.0)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESET_EARLY)
        .max_local_error_reset_streams(Some(RESET_FOR_ERRORS))
        .max_concurrent_reset_streams(RESETS_KNOWN)
        .reset_stream_duration(RESET_KNOWN);
    options
}

struct Connected {
    frames: Frames<Stream, Bytes>,
    digest: Arc<Digest>,
    streams: Arc<Streams>,
    malformed: usize,
    live: Live,
    app: App,
    shutdown: ShutdownWatch,
    /// How many there have been.
    requests: u32,
}

impl Connected {
    async fn run(
        &mut self,
        taken: &Taken,
        shared: &Shared,
        shutdown: &mut ShutdownWatch,
    ) -> Result<()> {
        let streams = Arc::clone(&self.streams);
        let mut patience = self.live.pin().requests.keepalive;
        let mut taken_before = 0;
        let mut leaving = false;
        loop {
            select! {
                biased;
                _ = shutdown.wait_for(|begun| *begun), if !leaving => {
                    self.frames.graceful_shutdown();
                    leaving = true;
                    patience = GOODBYE;
                }
                next = self.next() => {
                    let Some(next) = next? else { return Ok(()) };
                    if !self.take(next) {
                        break;
                    }
                    if !leaving && self.was_last(shared) {
                        self.frames.graceful_shutdown();
                        leaving = true;
                    }
                    patience = if leaving { GOODBYE } else { self.live.pin().requests.keepalive };
                }
                () = unused(&streams, (!leaving).then_some(&shared.lot), patience) => {
                    // The last answers may still be on their way.
                    let sent = taken.bytes();
                    if self.frames.has_streams() && sent != taken_before {
                        taken_before = sent;
                        patience = self.live.pin().requests.write_timeout;
                        continue;
                    }
                    if leaving {
                        return Ok(());
                    }
                    self.frames.graceful_shutdown();
                    leaving = true;
                    patience = GOODBYE;
                }
            }
        }
        self.finish().await
    }

    /// Whether no further request is wanted on this connection.
    fn was_last(&self, shared: &Shared) -> bool {
        let most = shared.live.glance().connections.max_requests;
        self.requests >= most || shared.pressure.level() >= Level::Tight
    }

    /// Answers what is under way, which may be somebody's who has nothing to do with why no more is taken.
    async fn finish(&mut self) -> Result<()> {
        self.frames.graceful_shutdown();
        let streams = Arc::clone(&self.streams);
        let frames = &mut self.frames;
        let mut closed = pin!(poll_fn(|task| frames.poll_closed(task)));
        select! {
            closed = &mut closed => return closed.map_err(broken),
            () = streams.none() => {}
        }
        // The last answers may still be on their way.
        match timeout(GOODBYE, closed).await {
            Ok(closed) => closed.map_err(broken),
            Err(_) => Ok(()),
        }
    }

    /// Drives the connection until there is a new request, or none to come. While there are as many as
    /// there may be, further ones wait, and those that the client resets meanwhile are counted.
    async fn next(&mut self) -> Result<Option<H2Accept>> {
        let frames = &mut self.frames;
        select! {
            biased;
            () = self.streams.room() => {}
            closed = poll_fn(|task| frames.poll_closed(task)) => {
                return match closed {
                    Ok(()) => Ok(None),
                    Err(error) => Err(broken(error)),
                };
            }
        }
        HttpSession::from_h2_conn(&mut self.frames, Arc::clone(&self.digest)).await
    }

    /// Begins a request. False if the client has sent too many that are none.
    fn take(&mut self, next: H2Accept) -> bool {
        let mut session = match next {
            H2Accept::Session(session) => session,
            H2Accept::Rejected => return self.tolerate(),
        };
        if session.req_header().method == Method::CONNECT {
            refuse_connect(session);
            return self.tolerate();
        }
        simplify(session.req_header_mut());
        let upload = (!session.is_body_done()).then(|| attach(&mut session));
        let (app, live, shutdown) = (
            Arc::clone(&self.app),
            self.live.clone(),
            self.shutdown.clone(),
        );
        self.requests += 1;
        let place = self.streams.enter();
        tokio::spawn(async move {
            let exchange = app.process_new_http(ServerSession::new_http2(session), &shutdown);
            match upload {
                None => drop(exchange.await),
                Some(upload) => select! {
                    _ = exchange => {}
                    () = overdue(upload, live) => debug!("the rest of a body has not come"),
                },
            }
            drop(place);
        });
        true
    }

    fn tolerate(&mut self) -> bool {
        self.malformed += 1;
        self.malformed < MALFORMED
    }
}

/// Waits until a connection has had no request for so long, or has to make room for others that wait in the
/// same lot.
async fn unused(streams: &Streams, lot: Option<&Lot>, patience: Duration) {
    match lot {
        None => streams.unused_for(patience).await,
        Some(lot) => {
            streams.none().await;
            lot.wait(&Silent, patience).await.ok();
        }
    }
}

/// A connection that somebody else reads from.
struct Silent;

impl Readable for Silent {
    fn poll_readable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

fn broken(error: h2::Error) -> Box<Error> {
    Error::because(ErrorType::H2Error, "while waiting for room", error)
}

/// Gives a head the form that it has in HTTP/1.1, which all that looks at it expects: the host in
/// `Host`, the target without it, and all cookies in one line (RFC 9113, 8.2.3 and 8.3.1).
fn simplify(head: &mut RequestHeader) {
    let nothing = RequestHeader::from(Request::new(()).into_parts().0);
    let mut parts = request::Parts::from(mem::replace(head, nothing));
    let uri = mem::take(&mut parts.uri).into_parts();
    let host = uri.authority.as_ref();
    if let Some(Ok(host)) = host.map(|name| HeaderValue::from_str(name.as_str())) {
        parts.headers.insert(HOST, host);
    }
    if let Some(target) = uri.path_and_query {
        parts.uri = Uri::from(target);
    }
    join_cookies(&mut parts.headers);
    *head = parts.into();
}

fn join_cookies(headers: &mut HeaderMap) {
    let lines = headers.get_all(COOKIE);
    if lines.iter().nth(1).is_none() {
        return;
    }
    let lines: Vec<_> = lines.iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// Nobody is tunnelled. Without a body, which would have to wait for the client to have room.
fn refuse_connect(mut session: HttpSession) {
    let refused = ResponseHeader::build(405, Some(3)).and_then(|mut head| {
        head.insert_header(ALLOW, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")?;
        head.insert_header(CONTENT_LENGTH, "0")?;
        session.write_response_header(Box::new(head), true)
    });
    if let Err(error) = refused {
        debug!("the client has not waited for its refusal: {error}");
    }
}

/// Has it told when the request is answered before its whole body has come.
fn attach(session: &mut HttpSession) -> Upload {
    let upload = Upload::default();
    let extensions = session.req_header_mut().extensions_mut();
    extensions.insert(upload.clone());
    upload
}

/// Waits until the request is answered, and then as long as what is left of its body may take.
async fn overdue(upload: Upload, live: Live) {
    upload.answered().await;
    let patience = live.pin().requests.read_timeout;
    sleep(patience).await;
}

/// The requests that are under way.
struct Streams {
    open: AtomicUsize,
    most: usize,
    room: Notify,
    none: Notify,
}

/// A request's place among them, until it is dropped.
struct Place(Arc<Streams>);

impl Streams {
    fn new(most: usize) -> Self {
        Self {
            open: AtomicUsize::new(0),
            most,
            room: Notify::new(),
            none: Notify::new(),
        }
    }

    fn enter(self: &Arc<Self>) -> Place {
        self.open.fetch_add(1, Ordering::Relaxed);
        Place(Arc::clone(self))
    }

    /// Waits until there may be one more. For one waiter.
    async fn room(&self) {
        while self.open.load(Ordering::Acquire) >= self.most {
            self.room.notified().await;
        }
    }

    /// Waits until there is none. For one waiter.
    async fn none(&self) {
        while self.open.load(Ordering::Acquire) > 0 {
            self.none.notified().await;
        }
    }

    /// Waits until there has been none for so long, if no other comes.
    async fn unused_for(&self, patience: Duration) {
        self.none().await;
        sleep(patience).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let before = self.0.open.fetch_sub(1, Ordering::AcqRel);
        if before == self.0.most {
            self.0.room.notify_one();
        }
        if before == 1 {
            self.0.none.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simplified(request: request::Builder) -> RequestHeader {
        let parts = request.body(()).unwrap().into_parts().0;
        let mut head = RequestHeader::from(parts);
        simplify(&mut head);
        head
    }

    #[test]
    fn the_authority_becomes_the_host_and_leaves_the_target() {
        let head = simplified(Request::get("http://a.example:8080/b?c=d"));
        assert_eq!(head.headers[HOST], "a.example:8080");
        assert_eq!(head.uri, "/b?c=d");
        assert_eq!(head.raw_path(), b"/b?c=d");
        let named = simplified(Request::get("/b").header(HOST, "a.example"));
        assert_eq!(named.headers[HOST], "a.example");
    }

    #[test]
    fn cookies_in_several_lines_become_one() {
        let request = Request::get("/").header(COOKIE, "a=b");
        let one = simplified(request);
        assert_eq!(one.headers[COOKIE], "a=b");
        let request = Request::get("/").header(COOKIE, "a=b");
        let joined = simplified(request.header(COOKIE, "c=d; e=f").header(COOKIE, "g"));
        let lines: Vec<_> = joined.headers.get_all(COOKIE).iter().collect();
        assert_eq!(lines, ["a=b; c=d; e=f; g"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_there_again_when_its_request_has_ended() {
        let streams = Arc::new(Streams::new(2));
        let second = Duration::from_secs(1);
        let (one, two) = (streams.enter(), streams.enter());
        assert!(timeout(second, streams.room()).await.is_err());
        assert!(timeout(second, streams.none()).await.is_err());
        drop(one);
        streams.room().await;
        assert!(timeout(second, streams.none()).await.is_err());
        drop(two);
        streams.none().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_unused_only_after_its_last_request() {
        let streams = Arc::new(Streams::new(2));
        let place = streams.enter();
        let began = tokio::time::Instant::now();
        let unused = streams.unused_for(Duration::from_secs(75));
        let ends = async {
            sleep(Duration::from_secs(100)).await;
            drop(place);
        };
        tokio::join!(unused, ends);
        assert_eq!(began.elapsed().as_secs(), 175);
    }
}
