//! The admin listener: what the running gateway is doing, and how to change it.
//!
//! `admin: { bind: 127.0.0.1:9901, token: env:EDGEWAY_ADMIN_TOKEN }` opens it, or `bind: unix:/path`. Under systemd
//! it is there without being asked for, as a socket in the folder of the gateway. Every call works on the
//! configuration in force, in the thread beside the requests, and is answered with JSON.
//!
//! The calls are told by `GET /`, and described for programs by `GET /openapi.json`.
//!
//! Names are percent-encoded in the path: `10.0.0.7%3A80`, `unix%3A%2Frun%2Fapp.sock`. (`:` may stand
//! for itself.)
//!
//! A filter has `route` (`*` for the filters of all routes), `name`, `mode`, `conditional`, `refused`, `reported`
//! (what it would have refused, were it not only to report), `failed` (of these, because it could not decide),
//! `rules` with the same counts each, and `recent`, the last twenty: `at_ms`, `request_id`, `client`, `route`,
//! `status`, `reported`, `rule`, `key`, `reason`. Counts go on over reloads.
//!
//! What is closed has `route` (`*` for everything), `on`, `said_by` (`configuration`, `call`, `default`), `configured`
//! (what the configuration says), `allow`, `retry_after_s`, `refused` (how many requests), `said_at_ms`. What a call says
//! holds at once, and wins over the configuration for as long as the process lives, also over reloads, until it is
//! forgotten; `allow` and `retry_after` that it does not give are those of the configuration. A route that is not closed
//! is closed all the same while everything is. The admin listener is never closed, nor are listeners that pass on TCP.
//!
//! An endpoint has `name`, `address` (null while it is not resolved), `origin` (`configuration`,
//! `discovery`, `admin`), `weight`, `backup`, `max_connections`, `state` (what the operator wants),
//! `status` (what it is: `up`, `slow_start`, `left_out` with `left_out_s`, `unhealthy`, `unchecked`,
//! `draining`, `maintenance`, `unresolved`), `active`, `requests`, `failures`, `latency_ms`, `ease` and
//! `check`, the last one: `ok`, `reason`, `took_ms`, `ago_s`.
//!
//! A change lives as long as the process, also through a reload, unless the upstream says
//! `live_changes: forget`. With `?persist=true` it is written to the file of `discover: { file: ... }`
//! instead, where comments stay if at all possible; 409 if the upstream has no such file, or the
//! endpoint is not in it.
//!
//! A cache has `bytes` of at most `limit` in memory, headers and bookkeeping included. `evictions` had to leave
//! for others, `expirations` were of no use any more. `requests` of the routes that use it are counted by what
//! they came to: `hit`, `stale`, `miss`, `expired`, `revalidated`, `bypass`; those that waited for another that
//! fetched the same are counted as `coalesced` besides.
//!
//! A purge is one of
//!
//! | body | what it means |
//! |---|---|
//! | `{ "url": "https://example.com/a?b=1" }` | what a request for this gets, from whichever route, in all its variants and spellings of the path. A list of up to 256 may stand there. Scheme and port don't matter |
//! | `{ "url": "https://example.com/a", "any_query": true }` | this path with whatever query |
//! | `{ "prefix": "https://example.com/static/" }` | all paths of this host that begin so |
//! | `{ "host": "example.com" }` | all of this host, which is the one in `Host` |
//! | `{ "tags": ["shop", "user-7"] }` | what has one of these tags, on routes with `cache: { tags: ... }` |
//! | `{ "all": true }` | everything |
//!
//! When it is answered, nobody gets what was there before, nor what was just being fetched then. With
//! `"soft": true` it is only stale from then on: as long as the response or the route allow
//! (`stale_while_revalidate`, `stale_if_error`, counted from the purge), it is still served while a newer one is
//! fetched, or none can be.
//!
//! Errors are `application/problem+json` with a `detail` for the operator. Who may call: [`guard`].
//!
//! * [`calls`]: the calls; [`described`]: what is told of them; [`call`]: what one says; [`problem`]: what it is told;
//!   [`events`]: answers that go on.
//! * [`doors`]: the call about listeners. [`upstreams`]: those about upstreams. [`maintenance`]: those about maintenance. [`filters`]: those about filters; [`metrics`]: their text. [`caches`]: the calls about caches; [`wish`]: what is to be purged.
//! * [`live`]: what is going on, each second, and the page that browsers get at `/`.
//! * [`explanations`]: what became of requests that were to be explained.
//! * [`guard`]: who may call.
//! * [`mod@write`], [`edit`]: the file of endpoints.

mod caches;
mod call;
mod calls;
mod certificates;
mod config;
mod described;
mod doors;
mod edit;
mod events;
mod explanations;
mod filters;
mod guard;
mod limits;
mod live;
mod logs;
mod maintenance;
mod metrics;
mod openapi;
mod problem;
mod routes;
mod status;
mod tail;
mod upgrade;
mod upstreams;
mod wish;
mod write;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Extension, Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use http::{
    HeaderValue,
    header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use log::{error, info, warn};
use tokio::{
    select,
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::sleep,
};

pub(super) use self::calls::Parts;
pub(crate) use self::openapi::of_all as described_calls;
use self::{
    call::Caller,
    events::{Places, Stay},
    guard::Guard,
};
use super::{
    listen::{Listening, Socket},
    listeners::Listeners,
    transport,
};
use crate::snapshot;

/// How many callers there may be at a time; the others wait.
const CALLERS: usize = 64;

/// How long a caller may take for the head of its request.
const HEAD: Duration = Duration::from_secs(10);

/// How long a call may take as a whole. Each has a connection of its own; an upgrade may take a minute.
const CALL: Duration = Duration::from_secs(75);

/// How large the head of a request may be, in bytes.
const LONGEST_HEAD: usize = 16 << 10;

/// How long accepting pauses when the process has no descriptor left.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// What a configuration says of the listener, with its socket. Nobody is answered yet.
#[derive(Debug, Default)]
pub(super) struct Opened {
    wanted: Option<snapshot::Admin>,
    socket: Option<Socket>,
}

/// Opens what is wanted. It waits for nothing but the file system.
///
/// # Errors
///
/// A sentence for the operator.
pub(super) fn open(
    wanted: Option<&snapshot::Admin>,
    listeners: &Listeners,
) -> Result<Opened, String> {
    let socket = wanted.map(|wanted| listeners.bind_admin(wanted));
    Ok(Opened {
        wanted: wanted.cloned(),
        socket: socket.transpose()?,
    })
}

/// What a new configuration comes to.
#[derive(Debug)]
pub(super) enum Prepared {
    /// The address stays. So does the rest, or the token is another one.
    Kept(Option<snapshot::Admin>),
    Other(Opened),
}

/// The admin listener, if there is one.
///
/// It has to run on one thread with reload: between looking up an upstream and changing it no other
/// configuration may take its place.
pub(super) struct Admin {
    calls: Router,
    open: Vec<&'static str>,
    listeners: Arc<Listeners>,
    places: Places,
    running: Mutex<Running>,
}

/// What is served, and what the configuration says of it.
#[derive(Default)]
struct Running {
    wanted: Option<snapshot::Admin>,
    serving: Option<Serving>,
}

/// Calls are answered until this is dropped. Those that are running go on, but nobody watches any more.
struct Serving {
    listening: Arc<Listening>,
    address: String,
    accepting: JoinHandle<()>,
    _open: watch::Sender<()>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Admin {
    /// Answers calls from now on, if it is wanted. To be called within a runtime.
    pub(super) fn start(parts: Parts, opened: Opened) -> Self {
        let listeners = Arc::clone(&parts.listeners);
        let (calls, open) = calls::calls(parts);
        let admin = Self {
            calls,
            open,
            listeners,
            places: Places::default(),
            running: Mutex::default(),
        };
        admin.apply(Prepared::Other(opened));
        admin
    }

    /// Opens what a new configuration wants, if it is not there. Nothing changes yet: to be called where blocking
    /// is allowed.
    ///
    /// # Errors
    ///
    /// A sentence for the operator.
    pub(super) fn prepare(&self, wanted: Option<&snapshot::Admin>) -> Result<Prepared, String> {
        let bind = wanted.map(|wanted| &wanted.bind);
        let same = self.lock().wanted.as_ref().map(|now| &now.bind) == bind;
        if same {
            return Ok(Prepared::Kept(wanted.cloned()));
        }
        open(wanted, &self.listeners).map(Prepared::Other)
    }

    /// Has calls answered as prepared. The old listener closes after the new one has opened.
    pub(super) fn apply(&self, prepared: Prepared) {
        let mut running = self.lock();
        match prepared {
            Prepared::Kept(wanted) if running.wanted == wanted => {}
            Prepared::Kept(wanted) => {
                let before = running.serving.take();
                let listening = before
                    .as_ref()
                    .map(|serving| Arc::clone(&serving.listening));
                let address = before.map(|serving| serving.address.clone());
                let token = wanted.as_ref();
                let serving = listening.zip(address).zip(token);
                running.serving = serving.map(|((listening, address), wanted)| {
                    info!("the token of the admin listener has changed");
                    self.serve(listening, address, wanted)
                });
                running.wanted = wanted;
            }
            Prepared::Other(opened) => {
                let serving = opened.socket.zip(opened.wanted.as_ref());
                let serving = serving.and_then(|(socket, wanted)| self.listen(socket, wanted));
                if let Some(before) = std::mem::replace(&mut running.serving, serving) {
                    let address = &before.address;
                    info!("no longer listening: listener=admin address={address}");
                }
                running.wanted = opened.wanted;
            }
        }
    }

    /// Answers nobody any more.
    pub(super) fn stop(&self) {
        *self.lock() = Running::default();
    }

    fn listen(&self, socket: Socket, wanted: &snapshot::Admin) -> Option<Serving> {
        let address = socket.address();
        let listening = Listening::new(socket).inspect_err(|error| {
            error!("listener failed: listener=admin reason={error}");
        });
        let listening = Arc::new(listening.ok()?);
        self.listeners.offer_admin(&wanted.bind, &listening);
        info!("listening: listener=admin address={address}");
        Some(self.serve(listening, address, wanted))
    }

    fn serve(
        &self,
        listening: Arc<Listening>,
        address: String,
        wanted: &snapshot::Admin,
    ) -> Serving {
        let guard = Arc::new(Guard::new(wanted, self.open.clone()));
        let calls = self.calls.clone();
        let calls = calls.layer(middleware::from_fn_with_state(guard, admitted));
        let (open, closing) = watch::channel(());
        let accepting = accept(Arc::clone(&listening), calls, self.places.clone(), closing);
        Serving {
            listening,
            address,
            accepting: tokio::spawn(accepting),
            _open: open,
        }
    }

    /// What is locked is consistent whenever a panic could leave it.
    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers a call if it may be made.
async fn admitted(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut response = match guard.admit(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn accept(
    listening: Arc<Listening>,
    calls: Router,
    places: Places,
    open: watch::Receiver<()>,
) {
    let room = Arc::new(Semaphore::new(CALLERS));
    let mut told = false;
    loop {
        let place = Arc::clone(&room).acquire_owned().await;
        match listening.accept().await {
            Ok((socket, peer)) => {
                told = false;
                let caller = Caller::of(&socket, peer);
                let stay = Stay::new(places.clone(), open.clone(), place.ok());
                tokio::spawn(serve(socket, caller, calls.clone(), stay));
            }
            Err(error) => {
                if !told {
                    warn!("connections can't be accepted: listener=admin reason={error}");
                    told = true;
                }
                sleep(EXHAUSTED).await;
            }
        }
    }
}

/// Serves one call. However slow its caller is, it ends, unless it watches.
async fn serve(socket: transport::Socket, caller: Caller, calls: Router, stay: Stay) {
    let calls = calls
        .layer(Extension(caller))
        .layer(Extension(stay.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(LONGEST_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(calls));
    // A caller that has left, or sends what is no HTTP, is its own business.
    select! {
        _ = connection => {}
        () = stay.over(CALL) => {}
    }
}
