//! From a configuration to a running process.
//!
//! * [`listen`]: sockets, and why one can't be had; [`listeners`]: how they come and go.
//! * [`edge`]: connections, in a Pingora service; [`accept`]: as they come; [`caps`]: how many there may be; [`pressure`]: what is given up
//!   when memory is short.
//! * [`proxy_protocol`]: for whom a proxy has connected.
//! * [`door`]: from a socket to what is spoken on it; [`entrance`]: what its requests know of that.
//! * [`http1`], [`http2`]: connections of these; [`parking`]: those that wait for their next request.
//! * [`stream`]: one connection as Pingora sees it; [`transport`]: what carries its bytes; [`inbound`],
//!   [`strict`], [`chunks`]: where its requests end; [`pace`]: whether its client keeps up; [`dated`]: when a
//!   response was made that is sent now.
//! * [`now`]: what comes of a future at once.
//! * [`refusal`]: what a client is told whose request can't be read.
//! * [`descriptors`]: how many connections the process can have.
//! * [`control`]: what runs beside the requests, and reload.
//! * [`acme`]: certificates from authorities.
//! * [`admin`]: what operators ask and change.
//! * [`drain`]: the end.

mod accept;
pub(crate) mod acme;
mod admin;
mod caps;
mod chunks;
mod control;
mod dated;
mod descriptors;
mod door;
mod drain;
mod edge;
mod entrance;
mod http1;
mod http2;
mod inbound;
mod listen;
mod listeners;
mod now;
mod pace;
mod parking;
mod pressure;
pub(crate) mod proxy_protocol;
mod refusal;
mod stream;
mod strict;
mod tcp;
mod throttle;
pub(crate) mod tls;
mod transport;

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use edgeway_sdk::{Filters, Resources};
use log::{info, warn};
use pingora::server::{RunArgs, Server, configuration::ServerConf};
use tokio::time::timeout;

pub(crate) use self::{
    acme::Answers,
    entrance::Entrance,
    inbound::Framing,
    pressure::{Level, Pressure},
    stream::Connection,
    throttle::Figures,
};
use self::{
    admin::Admin, control::Control, drain::Drain, edge::Edge, listen::Inherited,
    listeners::Listeners,
};
use crate::{
    cache::zone::Zones,
    cli::{exit, tell},
    config::diagnostic::Look,
    snapshot::{self, Gateway, Live, load},
};

/// How long the end waits for disks.
const WRITING: Duration = Duration::from_secs(5);

/// What a running process needs to load its configuration again.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) filters: Filters,
    pub(crate) resources: Resources,
}

/// Runs the gateway until it is told to stop.
pub(crate) fn run(path: PathBuf, filters: Filters) -> ExitCode {
    let inherited = Inherited::take();
    let source = Source {
        path,
        filters,
        resources: Resources::default(),
    };
    let loaded = load(&source.path, &source.filters, &source.resources);
    let report = loaded.report(Look::of_stderr());
    let counts = loaded.counts();
    tell(&report);
    let Some((gateway, tasks)) = loaded.gateway else {
        tell(&format!("{counts} in {}\n", source.path.display()));
        return exit::configuration();
    };
    let (listeners, opened) = Listeners::new(inherited);
    let bound = listeners
        .prepare(&gateway.listeners)
        .and_then(|prepared| Ok((prepared, listen::bind_admin(gateway.admin.as_ref())?)));
    let (prepared, admin) = match bound {
        Ok(bound) => bound,
        Err(message) => {
            tell(&format!("error: {message}\n"));
            return ExitCode::FAILURE;
        }
    };
    listeners.warn_of_unused(&gateway.listeners);
    listeners.apply(prepared);
    let affordable = descriptors::raise(gateway.connections.max);
    // Twice, since Pingora keeps one to itself and it can't be cloned.
    let (conf, servers) = (Arc::new(engine(&gateway)), engine(&gateway));
    let drain = Drain::new(gateway.shutdown_timeout);
    let admin = admin.map(|(socket, token)| Admin::new(socket, token, drain.watch()));
    let (live, answers) = (Live::new(gateway), listeners.answers());
    let zones = Arc::clone(&live.pin().zones);
    let mut server = Server::new_with_opt_and_conf(None, servers);
    let control = Control::new(source, live.clone(), listeners, tasks, admin);
    let control = server.add_service(control);
    let edge = Edge::new(opened, live, conf, drain.clone(), affordable, answers);
    let edge = server.add_service(edge);
    edge.add_dependency(&control);
    server.run(RunArgs {
        shutdown_signal: Box::new(drain),
    });
    write_down(&zones);
    info!("stopped");
    ExitCode::SUCCESS
}

/// Gives caches some time to write what they keep on a disk.
fn write_down(zones: &Zones) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let in_time = |runtime: tokio::runtime::Runtime| {
        runtime.block_on(async { timeout(WRITING, zones.settle()).await.is_ok() })
    };
    if !runtime.is_ok_and(in_time) {
        warn!("not all that caches keep on a disk is written down");
    }
}

/// What Pingora is told of our configuration. Its own files are never read.
fn engine(gateway: &Gateway) -> ServerConf {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = gateway.threads.unwrap_or(cores);
    ServerConf {
        threads,
        // A single thread has nobody to steal from, and is cheaper without the means to.
        work_stealing: threads > 1,
        // How often a request is tried is for its upstream to say (`tries`), and for the number of old
        // connections that turn out to be closed.
        max_retries: 1_000,
        upstream_keepalive_pool_size: gateway.upstream_keepalive,
        // The drain waits itself, and only as long as there is something to wait for.
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    }
}

/// What a process is started with, and no reload can change.
struct Fixed {
    threads: Option<usize>,
    upstream_keepalive: usize,
    shutdown_timeout: Duration,
    admin: Option<snapshot::Admin>,
}

impl Fixed {
    fn of(gateway: &Gateway) -> Self {
        Self {
            threads: gateway.threads,
            upstream_keepalive: gateway.upstream_keepalive,
            shutdown_timeout: gateway.shutdown_timeout,
            admin: gateway.admin.clone(),
        }
    }

    /// Tells which keys of a new configuration only take effect at the next start.
    fn warn_of_changes(&self, new: &Gateway) {
        let changed = [
            ("threads", self.threads != new.threads),
            (
                "upstream_keepalive",
                self.upstream_keepalive != new.upstream_keepalive,
            ),
            (
                "shutdown_timeout",
                self.shutdown_timeout != new.shutdown_timeout,
            ),
            ("admin", self.admin != new.admin),
        ];
        for (key, _) in changed.iter().filter(|(_, changed)| *changed) {
            warn!("`{key}` has changed: it takes effect at the next start");
        }
    }
}
