//! Connections, in a Pingora service.
//!
//! Pingora's own listener has no limits, can't be changed while it runs, and dies when a port is
//! taken; so the sockets and the accept loop are ours, and Pingora is given the connections.

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use log::{error, info, warn};
use pingora::{
    apps::HttpServerApp,
    protocols::http::ServerSession,
    server::{ListenFds, ShutdownWatch, configuration::ServerConf},
    services::Service,
};
use pingora_proxy::{HttpProxy, http_proxy};
use tokio::{
    net::TcpListener,
    select,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{drain::Drain, http2, listen::Bound, stream::Connection};
use crate::{
    config::Http2,
    proxy::{Proxy, Spawner},
    snapshot::Live,
};

/// How long accepting pauses when the process has no descriptor left.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// The listeners of the gateway.
pub(super) struct Edge {
    sockets: Vec<Bound>,
    live: Live,
    conf: Arc<ServerConf>,
    drain: Drain,
}

pub(super) type App = Arc<HttpProxy<Proxy>>;

impl Edge {
    pub(super) fn new(
        sockets: Vec<Bound>,
        live: Live,
        conf: Arc<ServerConf>,
        drain: Drain,
    ) -> Self {
        Self {
            sockets,
            live,
            conf,
            drain,
        }
    }
}

#[async_trait]
impl Service for Edge {
    async fn start_service(
        &mut self,
        _fds: Option<ListenFds>,
        _shutdown: ShutdownWatch,
        _tasks_per_fd: usize,
    ) {
        let spawner = Spawner::default();
        let proxy = Proxy::new(self.live.clone(), &self.conf, spawner.clone());
        let app: App = Arc::new(http_proxy(&self.conf, proxy));
        spawner.serve_by(&app);
        let mut loops = JoinSet::new();
        for bound in self.sockets.drain(..) {
            match TcpListener::from_std(bound.socket) {
                Ok(listener) => {
                    announce(&bound.name, &listener);
                    let listening = Listening {
                        http2: bound.http2,
                        live: self.live.clone(),
                        app: Arc::clone(&app),
                        drain: self.drain.clone(),
                    };
                    loops.spawn(accept(listener, Arc::new(listening)));
                }
                Err(error) => error!("listener failed: listener={} reason={error}", bound.name),
            }
        }
        while loops.join_next().await.is_some() {}
        // Connections that wait for their next request wait no longer.
        app.http_cleanup().await;
        self.drain.closed().await;
    }

    fn name(&self) -> &str {
        "edge"
    }
}

fn announce(name: &str, listener: &TcpListener) {
    if let Ok(address) = listener.local_addr() {
        info!("listening: listener={name} address={address}");
    }
}

/// What the connections of a listener have in common.
struct Listening {
    /// How HTTP/2 is spoken, if it is.
    http2: Option<Http2>,
    live: Live,
    app: App,
    drain: Drain,
}

/// Accepts connections until the gateway drains.
async fn accept(listener: TcpListener, listening: Arc<Listening>) {
    let mut told = false;
    loop {
        let accepted = select! {
            accepted = listener.accept() => accepted,
            () = listening.drain.begun() => return,
        };
        match accepted {
            Ok((tcp, peer)) => {
                told = false;
                // Counted before it has a task: the end would not wait for one that has not begun.
                let open = listening.drain.connection();
                let listening = Arc::clone(&listening);
                tokio::spawn(async move {
                    if tcp.set_nodelay(true).is_ok() {
                        serve(Connection::new(tcp, peer), &listening).await;
                    }
                    drop(open);
                });
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                if !told {
                    warn!("connections can't be accepted: reason={error}");
                    told = true;
                }
                sleep(EXHAUSTED).await;
            }
        }
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Serves a connection in the protocol that its first bytes show. Both end alike if there are none for
/// as long as a connection may wait for a request.
async fn serve(mut connection: Connection, listening: &Listening) {
    let first = listening.live.pin().keepalive;
    let (app, shutdown) = (Arc::clone(&listening.app), listening.drain.watch());
    let Some(limits) = &listening.http2 else {
        return http1(connection, first, &app, &shutdown).await;
    };
    let begun = select! {
        begun = timeout(first, connection.begins_http2()) => begun,
        () = listening.drain.begun() => return,
    };
    match begun {
        Ok(Ok(true)) => {
            // In a box, since it is much larger than what most connections need.
            let served = http2::serve(connection, limits, listening.live.clone(), app, shutdown);
            Box::pin(served).await;
        }
        Ok(Ok(false)) => http1(connection, first, &app, &shutdown).await,
        Ok(Err(_)) | Err(_) => {}
    }
}

/// Serves the requests of one connection, one after the other. Each request sets how long the
/// connection waits for the next one; for the first it is this.
async fn http1(connection: Connection, first: Duration, app: &App, shutdown: &ShutdownWatch) {
    let mut session = ServerSession::new_http1(Box::new(connection));
    session.set_keepalive(Some(first.as_secs().max(1)));
    // Else Pingora would drop what comes with the bytes of a request before it.
    session.set_pipelining_enabled(true);
    while let Some(reused) = app.process_new_http(session, shutdown).await {
        let (stream, settings) = reused.consume();
        let Ok(mut connection) = stream.into_any().downcast::<Connection>() else {
            return;
        };
        connection.expect_answer();
        session = ServerSession::new_http1(connection);
        if let Some(settings) = settings {
            settings.apply_to_session(&mut session);
        }
    }
}
