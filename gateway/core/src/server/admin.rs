//! The admin listener: what the running gateway is doing, and how to change it.
//!
//! `admin: { bind: 127.0.0.1:9901, token: env:EDGEWAY_ADMIN_TOKEN }` opens it. Every call works on the
//! configuration in force, in the thread beside the requests, and is answered with JSON.
//!
//! | call | what it does |
//! |---|---|
//! | `GET /` | lists the calls |
//! | `GET /healthz` | 200 while the gateway serves, 503 when it is stopping |
//! | `GET /listeners` | `{ listeners: [...] }`: `name`, `bind`, `connections`, `certificates` (`names`, `expires_in_s`) |
//! | `GET /filters` | `{ filters: [...] }`: what each has refused, by its rules, and the last refusals |
//! | `GET /maintenance` | `{ all, routes: [...] }`: what is closed, everything and those routes of which something is said |
//! | `PUT /maintenance` | closes or opens everything: `{ "on": true, "allow": ["10.0.0.0/8"], "retry_after": "10m" }` |
//! | `DELETE /maintenance` | forgets that: 204 |
//! | `GET`, `PUT`, `DELETE /maintenance/{route}` | the same for one route |
//! | `GET /metrics` | the same counts as Prometheus reads them |
//! | `GET /upstreams` | `{ upstreams: [...] }`, each as below |
//! | `GET /upstreams/{upstream}` | `name`, `balance`, `breaker`, `queue`, `source`, `changed`, `removed`, `endpoints` |
//! | `POST /upstreams/{upstream}/endpoints` | adds an endpoint as the YAML has it: 201, or 409 if it is there |
//! | `PATCH /upstreams/{upstream}/endpoints/{endpoint}` | changes `weight`, `max_connections` (0: that of the upstream), `state` (`up`, `drain`, `maintenance`) |
//! | `DELETE /upstreams/{upstream}/endpoints/{endpoint}` | removes it: 204; its requests under way end normally |
//! | `DELETE /upstreams/{upstream}/changes` | forgets what was added, changed and removed here: 204 |
//! | `GET /caches` | `{ caches: [...] }`, each as below, those that a route uses |
//! | `GET /caches/{cache}` | `name`, `objects`, `bytes`, `limit`, `evictions`, `expirations`, `requests` |
//! | `POST /caches/{cache}/purge` | purges what the body says: `{ purged: 3 }` objects, each variant being one |
//! | `POST /purge` | the same in all caches: `{ purged: 4, caches: { default: 3, pages: 1 } }` |
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
//! * [`calls`]: the calls; [`call`]: what one says; [`problem`]: what it is told.
//! * [`doors`]: the call about listeners. [`maintenance`]: those about maintenance. [`filters`]: those about filters; [`metrics`]: their text. [`caches`]: the calls about caches; [`wish`]: what is to be purged.
//! * [`guard`]: who may call.
//! * [`mod@write`], [`edit`]: the file of endpoints.

mod caches;
mod call;
mod calls;
mod doors;
mod edit;
mod filters;
mod guard;
mod maintenance;
mod metrics;
mod problem;
mod wish;
mod write;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use edgeway_sdk::Secret;
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
use pingora::server::ShutdownWatch;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
    time::{sleep, timeout},
};

use self::{call::Caller, guard::Guard};
use super::listeners::Listeners;
use crate::snapshot::Live;

/// A listener that does not answer yet.
pub(super) struct Admin {
    socket: std::net::TcpListener,
    token: Option<Secret>,
    stopping: ShutdownWatch,
}

/// How many callers there may be at a time; the others wait.
const CALLERS: usize = 64;

/// How long a caller may take for the head of its request.
const HEAD: Duration = Duration::from_secs(10);

/// How long a call may take as a whole. Each has a connection of its own.
const CALL: Duration = Duration::from_secs(60);

/// How large the head of a request may be, in bytes.
const LONGEST_HEAD: usize = 16 << 10;

/// How long accepting pauses when the process has no descriptor left.
const EXHAUSTED: Duration = Duration::from_millis(100);

impl Admin {
    /// `stopping` becomes true when the gateway does not serve any more.
    pub(super) fn new(
        socket: std::net::TcpListener,
        token: Option<Secret>,
        stopping: ShutdownWatch,
    ) -> Self {
        Self {
            socket,
            token,
            stopping,
        }
    }

    /// Answers calls until what is returned is aborted.
    ///
    /// It has to run on one thread with reload: between looking up an upstream and changing it no other
    /// configuration may take its place.
    pub(super) fn start(self, live: Live, listeners: Arc<Listeners>) -> Option<JoinHandle<()>> {
        let listening = TcpListener::from_std(self.socket)
            .and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = match listening {
            Ok(listening) => listening,
            Err(error) => {
                error!("listener failed: listener=admin reason={error}");
                return None;
            }
        };
        let guard = Arc::new(Guard::new(self.token.as_ref(), address));
        let calls = calls::calls(live, listeners, self.stopping)
            .layer(middleware::from_fn_with_state(guard, admitted));
        info!("listening: listener=admin address={address}");
        Some(tokio::spawn(accept(listener, calls)))
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

async fn accept(listener: TcpListener, calls: Router) {
    let places = Arc::new(Semaphore::new(CALLERS));
    let mut told = false;
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        match listener.accept().await {
            Ok((tcp, caller)) => {
                told = false;
                let calls = calls.clone();
                tokio::spawn(async move {
                    serve(tcp, caller, calls).await;
                    drop(place);
                });
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

/// Serves one call. However slow its caller is, it ends.
async fn serve(tcp: TcpStream, caller: SocketAddr, calls: Router) {
    let calls = calls.layer(Extension(Caller(caller)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(LONGEST_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(calls));
    // A caller that has left, or sends what is no HTTP, is its own business.
    drop(timeout(CALL, connection).await);
}
