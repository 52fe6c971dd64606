//! Connections, in a Pingora service.
//!
//! Pingora's own listener has no limits, can't be changed while it runs, and dies when a port is
//! taken; so the sockets and the accept loop are ours, and Pingora is given the connections.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

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
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{drain::Drain, listen::Bound, stream::Connection};
use crate::{proxy::Proxy, snapshot::Live};

/// How long accepting pauses when the process has no descriptor left.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// The listeners of the gateway.
pub(super) struct Edge {
    sockets: Vec<Bound>,
    live: Live,
    conf: Arc<ServerConf>,
    drain: Drain,
}

type App = Arc<HttpProxy<Proxy>>;

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
        let app: App = Arc::new(http_proxy(
            &self.conf,
            Proxy::new(self.live.clone(), &self.conf),
        ));
        let mut loops = JoinSet::new();
        for bound in self.sockets.drain(..) {
            match TcpListener::from_std(bound.socket) {
                Ok(listener) => {
                    announce(&bound.name, &listener);
                    loops.spawn(accept(
                        listener,
                        self.live.clone(),
                        Arc::clone(&app),
                        self.drain.clone(),
                    ));
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

/// Accepts connections until the gateway drains.
async fn accept(listener: TcpListener, live: Live, app: App, drain: Drain) {
    let mut told = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.begun() => return,
        };
        match accepted {
            Ok((tcp, peer)) => {
                told = false;
                let first = live.pin().keepalive.as_secs().max(1);
                // Counted before it has a task: the end would not wait for one that has not begun.
                let open = drain.connection();
                let (app, shutdown) = (Arc::clone(&app), drain.watch());
                tokio::spawn(async move {
                    serve(tcp, peer, first, app, shutdown).await;
                    drop(open);
                });
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                if !told {
                    warn!("connections can't be accepted: reason={error}");
                    told = true;
                }
                tokio::time::sleep(EXHAUSTED).await;
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

/// Serves the requests of one connection, one after the other. Each request sets how long the
/// connection waits for the next one; for the first it is so many seconds.
async fn serve(tcp: TcpStream, peer: SocketAddr, first: u64, app: App, shutdown: ShutdownWatch) {
    if tcp.set_nodelay(true).is_err() {
        return;
    }
    let mut session = ServerSession::new_http1(Box::new(Connection::new(tcp, peer)));
    session.set_keepalive(Some(first));
    // Else Pingora would drop what comes with the bytes of a request before it.
    session.set_pipelining_enabled(true);
    while let Some(reused) = app.process_new_http(session, &shutdown).await {
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
