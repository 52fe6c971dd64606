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
//! * [`fixed`]: what no reload changes.
//! * [`control`]: what runs beside the requests; [`reload`]: what comes of reading the configuration again;
//!   [`watch`]: its files.
//! * [`acme`]: certificates from authorities.
//! * [`admin`]: what operators ask and change.
//! * [`ready`]: when it serves; [`pid_file`], [`systemd`]: who is told of it.
//! * [`drain`]: the end. [`upgrade`]: another program in the place of this process.
//! * [`rehearsal`]: requests that nobody has made.

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
mod fixed;
mod http1;
mod http2;
mod inbound;
mod listen;
mod listeners;
mod now;
mod pace;
mod parking;
mod pid_file;
mod pressure;
pub(crate) mod proxy_protocol;
mod ready;
mod refusal;
pub(crate) mod rehearsal;
mod reload;
mod stream;
mod strict;
mod systemd;
mod tcp;
mod throttle;
pub(crate) mod tls;
mod transport;
mod upgrade;
mod watch;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use edgeway_sdk::{Filters, Resources};
use log::{info, warn};
use pingora::server::{RunArgs, Server, configuration::ServerConf};
use tokio::{sync::mpsc::UnboundedReceiver, time::timeout};

pub(crate) use self::{
    acme::Answers,
    admin::described_calls,
    entrance::Entrance,
    inbound::Framing,
    pressure::{Level, Pressure},
    reload::Replaced,
    stream::Connection,
    throttle::Figures,
    upgrade::Done,
};
use self::{
    control::{Control, Parts},
    drain::Drain,
    edge::Edge,
    listen::Inherited,
    listeners::{Listeners, Opened},
    pid_file::PidFile,
    ready::Ready,
    systemd::{Systemd, Watchdog},
    upgrade::{Predecessor, Program},
};
use crate::{
    cache::zone::Zones,
    cli::{exit, tell},
    config::{
        diagnostic::{Look, Told},
        document::Sources,
    },
    snapshot::{Gateway, Live, Tasks, load},
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
pub(crate) fn run(path: PathBuf, pid_file: Option<&Path>, filters: Filters) -> ExitCode {
    let program = Program::of_this_process();
    // While there is no other thread, and before anything else is opened.
    let (predecessor, inherited) = match Predecessor::take() {
        None => (None, Inherited::take()),
        Some(Ok((predecessor, sockets))) => (Some(predecessor), Inherited::of(sockets)),
        Some(Err(message)) => {
            tell(&format!("error: {message}\n"));
            return ExitCode::FAILURE;
        }
    };
    let ready = Ready {
        predecessor,
        inherited: Arc::new(inherited),
        pid_file: pid_file.map(PidFile::at),
        systemd: Systemd::of_environment(),
        watchdog: Watchdog::of_environment(),
    };
    let source = Source {
        path,
        filters,
        resources: Resources::default(),
    };
    match begin(source, &ready) {
        Ok(begun) => serve(begun, program, ready),
        Err(Refusal { report, exit }) => {
            ready.refuse(&report);
            exit
        }
    }
}

/// A gateway with all sockets that it needs, which does not serve yet.
struct Begun {
    source: Source,
    sources: Sources,
    gateway: Gateway,
    tasks: Tasks,
    warnings: Vec<Told>,
    listeners: Listeners,
    opened: UnboundedReceiver<Opened>,
    admin: admin::Opened,
}

/// Why there can be none. It has been told on standard error.
struct Refusal {
    report: String,
    exit: ExitCode,
}

fn begin(source: Source, ready: &Ready) -> Result<Begun, Refusal> {
    let loaded = load(&source.path, &source.filters, &source.resources);
    let counts = format!("{} in {}\n", loaded.counts(), source.path.display());
    let (sources, warnings) = (loaded.sources().clone(), loaded.told());
    tell(&loaded.report(Look::of_stderr()));
    let report = loaded.report(Look::Plain);
    let Some((gateway, tasks)) = loaded.gateway else {
        tell(&counts);
        return Err(Refusal {
            report: report + &counts,
            exit: exit::configuration(),
        });
    };
    let failed = |message: String| {
        let report = format!("error: {message}\n");
        tell(&report);
        Refusal {
            report,
            exit: ExitCode::FAILURE,
        }
    };
    let (listeners, opened) = Listeners::new(Arc::clone(&ready.inherited));
    let prepared = listeners.prepare(&gateway.listeners).map_err(failed)?;
    let admin = admin::open(gateway.admin.as_ref(), &listeners).map_err(failed)?;
    ready.write_pid_file().map_err(failed)?;
    listeners.warn_of_unused(&gateway.listeners);
    listeners.apply(prepared);
    Ok(Begun {
        source,
        sources,
        gateway,
        tasks,
        warnings,
        listeners,
        opened,
        admin,
    })
}

fn serve(begun: Begun, program: Option<Program>, ready: Ready) -> ExitCode {
    let gateway = begun.gateway;
    let affordable = descriptors::raise(gateway.connections.max);
    // Twice, since Pingora keeps one to itself and it can't be cloned.
    let (conf, servers) = (Arc::new(engine(&gateway)), engine(&gateway));
    let drain = Drain::new(gateway.shutdown_timeout);
    let (live, answers) = (Live::new(gateway), begun.listeners.answers());
    let zones = Arc::clone(&live.pin().zones);
    let pid_file = ready.pid_file.clone();
    let mut server = Server::new_with_opt_and_conf(None, servers);
    let control = server.add_service(Control::new(Parts {
        source: begun.source,
        live: live.clone(),
        listeners: begun.listeners,
        tasks: begun.tasks,
        admin: begun.admin,
        drain: drain.clone(),
        program,
        systemd: ready.systemd.clone(),
        watchdog: ready.watchdog.clone(),
        sources: begun.sources,
        warnings: begun.warnings,
    }));
    let edge = Edge::new(
        begun.opened,
        live,
        conf,
        drain.clone(),
        affordable,
        answers,
        ready,
    );
    let edge = server.add_service(edge);
    edge.add_dependency(&control);
    server.run(RunArgs {
        shutdown_signal: Box::new(drain),
    });
    write_down(&zones);
    if let Some(file) = pid_file {
        file.remove();
    }
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
