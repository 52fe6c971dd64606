//! Connections, in a Pingora service.
//!
//! Pingora's own listener has no limits, can't be changed while it runs, and dies when a port is
//! taken; so the sockets and the accept loop are ours, and Pingora is given the connections.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use pingora::{
    apps::HttpServerApp,
    connectors::ConnectorOptions,
    server::{ListenFds, ShutdownWatch, configuration::ServerConf},
    services::Service,
};
use pingora_proxy::{HttpProxy, http_proxy};
use tokio::{
    runtime::Handle,
    select,
    sync::mpsc,
    task::{JoinSet, spawn_blocking},
};

use super::{
    accept::{Peer, listen},
    acme::Answers,
    caps::{Admission, Caps, Full, Most},
    drain::Drain,
    inbound::HeadLimits,
    listeners::{Listener, Opened, Settings},
    parking::Lot,
    pressure::Pressure,
    ready::Ready,
    stream::Manners,
    tcp::Connector,
};
use crate::{
    proxy::{Proxy, Spawner},
    snapshot::Live,
};

/// How many idle connections have to leave when there is no room for a new one.
pub(super) const MAKING_ROOM: usize = 16;

/// The listeners of the gateway, and their connections.
pub(super) struct Edge {
    opened: mpsc::UnboundedReceiver<Opened>,
    live: Live,
    conf: Arc<ServerConf>,
    drain: Drain,
    /// Connections that there are descriptors for.
    affordable: usize,
    answers: Answers,
    /// Until the listeners serve.
    ready: Option<Ready>,
}

pub(super) type App = Arc<HttpProxy<Proxy>>;

/// What all connections have in common.
pub(super) struct Shared {
    pub(super) live: Live,
    pub(super) app: App,
    pub(super) drain: Drain,
    /// What Pingora looks at before it keeps a connection for another request.
    pub(super) shutdown: ShutdownWatch,
    /// To endpoints, for connections that are passed on.
    pub(super) connector: Connector,
    pub(super) lot: Lot,
    pub(super) pressure: Arc<Pressure>,
    caps: Arc<Caps>,
    affordable: usize,
}

impl Shared {
    /// What a client is held to from now on.
    pub(super) fn manners(&self) -> Manners {
        let gateway = self.live.glance();
        Manners {
            head_timeout: gateway.requests.header_timeout,
            head: HeadLimits {
                target: gateway.requests.max_target,
                head: gateway.requests.max_header_size,
                lines: gateway.requests.max_headers,
            },
            least: gateway.requests.min_rate,
        }
    }

    /// How long a client may take to begin its first request.
    pub(super) fn first_patience(&self) -> Duration {
        self.live.glance().requests.header_timeout
    }

    /// Counts a connection that has just been accepted.
    ///
    /// # Errors
    ///
    /// There is no room for it: what is full.
    pub(super) fn admit(
        &self,
        listener: &Listener,
        settings: &Settings,
        peer: &Peer,
    ) -> Result<Admission, Full> {
        let gateway = self.live.glance();
        let limits = &gateway.connections;
        let most = Most {
            in_all: limits.max.unwrap_or(self.affordable),
            of_listener: settings.spec.max_connections.unwrap_or(usize::MAX),
            of_client: limits.per_client,
        };
        // Proxies come for many.
        let for_many = |address| {
            gateway.trusted.contains(address) || settings.spec.proxy_protocol.contains(address)
        };
        let client = peer.map(|peer| peer.ip()).filter(|peer| !for_many(*peer));
        let admitted = self.caps.admit(&listener.connections, client, most);
        let Err(Full::Gateway) = admitted else {
            return admitted;
        };
        // Who waits for another request holds a place that somebody has a use for. Those who have been told to leave
        // need a moment for it.
        let leaving = self.lot.leaving();
        let wanted = MAKING_ROOM.saturating_sub(leaving);
        if self.lot.shed(wanted) + leaving == 0 {
            return admitted;
        }
        let most = Most {
            in_all: most.in_all.saturating_add(MAKING_ROOM),
            ..most
        };
        self.caps.admit(&listener.connections, client, most)
    }
}

impl Edge {
    pub(super) fn new(
        opened: mpsc::UnboundedReceiver<Opened>,
        live: Live,
        conf: Arc<ServerConf>,
        drain: Drain,
        affordable: usize,
        answers: Answers,
        ready: Ready,
    ) -> Self {
        Self {
            opened,
            live,
            conf,
            drain,
            affordable,
            answers,
            ready: Some(ready),
        }
    }

    fn shared(&self) -> Shared {
        let spawner = Spawner::default();
        let pressure = Arc::<Pressure>::default();
        let proxy = Proxy::new(
            self.live.clone(),
            &self.conf,
            spawner.clone(),
            Arc::clone(&pressure),
            self.answers.clone(),
        );
        let app: App = Arc::new(http_proxy(&self.conf, proxy));
        spawner.serve_by(&app);
        Shared {
            live: self.live.clone(),
            app,
            drain: self.drain.clone(),
            shutdown: self.drain.parting(),
            connector: Connector::new(ConnectorOptions::from_server_conf(&self.conf)),
            lot: Lot::new(self.conf.threads),
            pressure,
            caps: Arc::new(Caps::new()),
            affordable: self.affordable,
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
        let shared = Arc::new(self.shared());
        let tending = tokio::spawn(tend(Arc::clone(&shared)));
        let mut loops = JoinSet::new();
        while let Ok(opened) = self.opened.try_recv() {
            for accepting in listen(opened, &shared) {
                loops.spawn(accepting);
            }
        }
        if let Some(ready) = self.ready.take() {
            ready.watchdog.watch("edge", Handle::current());
            drop(spawn_blocking(move || ready.tell()));
        }
        loop {
            let opened = select! {
                opened = self.opened.recv() => opened,
                () = self.drain.begun() => None,
                Some(_) = loops.join_next() => continue,
            };
            let Some(opened) = opened else { break };
            for accepting in listen(opened, &shared) {
                loops.spawn(accepting);
            }
        }
        while loops.join_next().await.is_some() {}
        // Requests that are on their way to connections that wait for them have time to arrive.
        shared.lot.wind_up(self.drain.grace());
        self.drain.closed().await;
        shared.app.http_cleanup().await;
        tending.abort();
    }

    fn name(&self) -> &str {
        "edge"
    }
}

async fn tend(shared: Arc<Shared>) {
    tokio::join!(
        shared.lot.tend(),
        shared.pressure.tend(&shared.live, &shared.lot)
    );
}
