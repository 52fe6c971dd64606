//! Connections, as listeners accept them.

use std::{
    fmt, io, mem,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use log::{error, info, warn};
use tokio::{select, sync::watch, time::sleep};

use super::{
    door::{self, Speaking},
    edge::{MAKING_ROOM, Shared},
    http1, http2,
    listen::Listening,
    listeners::{Listener, Opened, Settings},
    now::now,
    pressure::Level,
    tcp,
    transport::Socket,
};
use crate::{
    config::SocketOptions,
    telemetry::meter::{Connections, Limit, Spoken},
};

/// How long accepting pauses when the process has no descriptor left.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// How often it is told that connections are refused.
const TELL: Duration = Duration::from_secs(10);

/// The other end of a connection, if it has an address.
pub(super) type Peer = Option<SocketAddr>;

/// Has a listener wait for connections: what is to be run for each of its sockets, until it is closed.
pub(super) fn listen(
    opened: Opened,
    shared: &Arc<Shared>,
) -> Vec<impl Future<Output = ()> + Send + 'static> {
    let name: Arc<str> = opened.bound.name.into();
    let mut loops = Vec::new();
    for socket in opened.bound.sockets {
        let address = socket.address();
        match Listening::new(socket).map(Arc::new) {
            Ok(socket) => {
                opened.listener.listens_at(&socket);
                info!("listening: listener={name} address={address}");
                let accepting = Accepting {
                    name: Arc::clone(&name),
                    listener: Arc::clone(&opened.listener),
                    shared: Arc::clone(shared),
                    told: None,
                };
                loops.push(accepting.run(socket, opened.options.clone()));
            }
            Err(error) => error!("listener failed: listener={name} reason={error}"),
        }
    }
    loops
}

/// The accept loop of a socket.
struct Accepting {
    name: Arc<str>,
    listener: Arc<Listener>,
    shared: Arc<Shared>,
    /// When it was last told that something is the matter.
    told: Option<Instant>,
}

impl Accepting {
    /// Accepts connections until the listener is closed or the gateway drains, and then those that the kernel has
    /// accepted already.
    async fn run(mut self, socket: Arc<Listening>, mut options: watch::Receiver<SocketOptions>) {
        let drain = self.shared.drain.clone();
        let mut current = *options.borrow_and_update();
        loop {
            let accepted = select! {
                accepted = socket.accept() => accepted,
                changed = options.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let before = mem::replace(&mut current, *options.borrow_and_update());
                    self.adjust(&socket, &before, &current);
                    continue;
                }
                () = drain.begun() => break,
            };
            match accepted {
                Ok((socket, peer)) => self.take(socket, peer),
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    self.tell(format_args!(
                        "connections can't be accepted: reason={error}"
                    ));
                    // Who waits for another request holds what is missing.
                    self.shared.lot.shed(MAKING_ROOM);
                    sleep(EXHAUSTED).await;
                }
            }
        }
        while let Some(Ok((socket, peer))) = now(socket.accept()).await {
            self.take(socket, peer);
        }
    }

    /// Gives the socket the options that the configuration has now.
    fn adjust(&self, socket: &Listening, before: &SocketOptions, now: &SocketOptions) {
        let name = &self.name;
        if let Err(error) = socket.adjust(before, now) {
            warn!("options of a socket can't be changed: listener={name} reason={error}");
        }
        if before.reuse_port != now.reuse_port {
            warn!("`reuse_port` has changed: it takes effect at the next start: listener={name}");
        }
    }

    /// Has a connection served, if there is room for it.
    fn take(&mut self, socket: Socket, peer: Peer) {
        let settings = self.listener.settings();
        settings.meter.accepted();
        if self.shared.pressure.level() == Level::Short {
            return settings.meter.refused(Limit::Memory);
        }
        let admission = match self.shared.admit(&self.listener, &settings, &peer) {
            Ok(admission) => admission,
            Err(full) => {
                let limit = full.as_str();
                settings.meter.refused(full.limit());
                return match peer {
                    Some(peer) => self.tell(format_args!(
                        "connections are refused: limit={limit} peer={}",
                        peer.ip()
                    )),
                    None => self.tell(format_args!("connections are refused: limit={limit}")),
                };
            }
        };
        // Counted before it has a task: the end would not wait for one that has not begun.
        let open = self.shared.drain.connection();
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            serve(socket, peer, settings, &shared).await;
            drop((open, admission));
        });
    }

    fn tell(&mut self, what: fmt::Arguments<'_>) {
        if self.told.is_none_or(|told| told.elapsed() >= TELL) {
            warn!("{what} listener={}", self.name);
            self.told = Some(Instant::now());
        }
    }
}

/// Serves a connection to its end. Whatever it is, what is not needed while it waits for its next request is in a
/// box that is gone then.
async fn serve(socket: Socket, peer: Peer, settings: Arc<Settings>, shared: &Shared) {
    let entering = Box::pin(door::enter(socket, peer, &settings, shared));
    let entered = select! {
        entered = entering => entered,
        // Who has not said yet what it wants does not hold up the end.
        () = shared.drain.nearly_over() => None,
    };
    match entered {
        Some(Speaking::Http1(connection)) => {
            let _open = Open::new(&settings, Spoken::Http1);
            drop(settings);
            http1::serve(connection, shared).await;
        }
        Some(Speaking::Http2(connection)) => {
            let _open = Open::new(&settings, Spoken::Http2);
            Box::pin(http2::serve(*connection, &settings, shared)).await;
        }
        Some(Speaking::Anything(client)) => {
            let _open = Open::new(&settings, Spoken::Tcp);
            // It may last for days, and the settings may be replaced often.
            drop(settings);
            let first = shared.first_patience();
            Box::pin(tcp::serve(client, &shared.connector, first)).await;
        }
        None => {}
    }
}

/// Counts a connection as open.
struct Open(Arc<Connections>, Spoken);

impl Open {
    fn new(settings: &Settings, spoken: Spoken) -> Self {
        settings.meter.begun(spoken);
        Self(Arc::clone(&settings.meter), spoken)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.ended(self.1);
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
