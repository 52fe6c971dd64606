//! The listeners that there are, and how they come and go.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::AtomicUsize},
};

use arc_swap::ArcSwap;
use log::info;
use pingora::protocols::raw_connect::ProxyDigest;
use tokio::sync::{mpsc, watch};

use super::{
    acme::{Acme, Answers, Certificate},
    entrance::Entrance,
    listen::{self, Bound, Inherited, Label, Listening, Owner},
    tls::{Terminator, TlsSpec},
};
use crate::{
    config::{ListenAddress, SocketOptions},
    snapshot::{Admin, ListenerSpec},
    telemetry::meter::Connections,
};

/// The listeners of the running gateway. What is opened here is served by whoever has the other end.
pub(super) struct Listeners {
    inherited: Arc<Inherited>,
    /// The socket of the admin listener, as long as it is open.
    admin: Mutex<Option<(ListenAddress, Weak<Listening>)>>,
    acme: Acme,
    running: Mutex<Vec<Running>>,
    opened: mpsc::UnboundedSender<Opened>,
}

struct Running {
    listener: Arc<Listener>,
    /// Closes the listener when it is dropped.
    options: watch::Sender<SocketOptions>,
}

/// One listener, with what holds for connections that it accepts from now on.
pub(super) struct Listener {
    settings: ArcSwap<Settings>,
    /// How many connections of it there are.
    pub(super) connections: Arc<AtomicUsize>,
    /// Those that are open.
    sockets: Mutex<Vec<Weak<Listening>>>,
}

/// What holds for a connection from its beginning to its end.
pub(super) struct Settings {
    pub(super) spec: ListenerSpec,
    /// Makes the handshakes, if there are any. It outlives settings with the same rules.
    pub(super) tls: Option<Arc<Terminator>>,
    /// Those of its certificates that authorities make.
    certificates: Vec<Arc<Certificate>>,
    /// That of all connections without TLS.
    pub(super) entrance: Arc<ProxyDigest>,
    /// What is counted of its connections. It outlives settings.
    pub(super) meter: Arc<Connections>,
}

/// A listener that is to be served until it is closed.
pub(super) struct Opened {
    pub(super) bound: Bound,
    pub(super) listener: Arc<Listener>,
    /// Those of its sockets. Ends when the listener is closed.
    pub(super) options: watch::Receiver<SocketOptions>,
}

/// What a new configuration comes to, with all sockets that it needs.
pub(super) struct Prepared(Vec<(Settings, Socket)>);

enum Socket {
    Kept(Arc<Listener>),
    New(Bound),
}

impl Listeners {
    /// None so far; those to come arrive at the other end.
    pub(super) fn new(inherited: Arc<Inherited>) -> (Self, mpsc::UnboundedReceiver<Opened>) {
        let (opened, arriving) = mpsc::unbounded_channel();
        let listeners = Self {
            inherited,
            admin: Mutex::default(),
            acme: Acme::default(),
            running: Mutex::default(),
            opened,
        };
        (listeners, arriving)
    }

    /// Opens what is new. Nothing changes yet: to be called off the threads that serve.
    ///
    /// # Errors
    ///
    /// A sentence for the operator, if a socket can't be had. None is opened then.
    pub(super) fn prepare(&self, specs: &[ListenerSpec]) -> Result<Prepared, String> {
        let kept = |spec: &ListenerSpec| {
            let running = self.lock();
            let same = running.iter().find(|running| running.has(spec));
            same.map(|running| Arc::clone(&running.listener))
        };
        let prepared = specs.iter().map(|spec| {
            let kept = kept(spec);
            let settings = Settings::new(spec, kept.as_deref(), &self.acme)?;
            let socket = match kept {
                Some(listener) => Socket::Kept(listener),
                None => Socket::New(listen::bind(spec, &self.inherited)?),
            };
            Ok((settings, socket))
        });
        prepared.collect::<Result<_, String>>().map(Prepared)
    }

    /// Opens the socket of the admin listener. Nothing is served there yet.
    ///
    /// # Errors
    ///
    /// As those of [`prepare`](Self::prepare).
    pub(super) fn bind_admin(&self, admin: &Admin) -> Result<listen::Socket, String> {
        listen::bind_admin(admin, &self.inherited)
    }

    /// Has new connections served as prepared, and closes listeners that are not wanted any more. Their
    /// connections go on.
    pub(super) fn apply(&self, prepared: Prepared) {
        let mut running = self.lock();
        let mut before = std::mem::take(&mut *running);
        for (settings, socket) in prepared.0 {
            let (options, settings) = (settings.spec.socket, Arc::new(settings));
            settings.renew(&self.acme);
            match socket {
                Socket::Kept(listener) => {
                    listener.settings.store(settings);
                    let place = before
                        .iter()
                        .position(|running| Arc::ptr_eq(&running.listener, &listener));
                    let kept = place.map(|place| before.swap_remove(place));
                    running.extend(kept.inspect(|kept| kept.adjust(options)));
                }
                Socket::New(bound) => running.push(self.open(bound, settings)),
            }
        }
        for gone in before {
            let settings = gone.listener.settings();
            let ListenerSpec { name, bind, .. } = &settings.spec;
            info!("no longer listening: listener={name} address={bind}");
        }
    }

    /// Hands the socket of the admin listener over, too, should another process take the place of this one.
    pub(super) fn offer_admin(&self, bind: &ListenAddress, socket: &Arc<Listening>) {
        *lock(&self.admin) = Some((bind.clone(), Arc::downgrade(socket)));
    }

    /// All sockets that are open, for a process that takes the place of this one.
    ///
    /// # Errors
    ///
    /// There is no descriptor left.
    pub(super) fn offers(&self) -> io::Result<Vec<(Label, OwnedFd)>> {
        let mut offers = self.inherited.of_systemd()?;
        let mut offer = |owner, name: &str, bind: &ListenAddress, socket: &Weak<Listening>| {
            if let Some(socket) = socket.upgrade()
                && let Some(label) = Label::of(owner, name, bind, &socket)
            {
                offers.push((label, socket.as_fd().try_clone_to_owned()?));
            }
            Ok::<_, io::Error>(())
        };
        for listener in self.running() {
            let settings = listener.settings();
            for socket in lock(&listener.sockets).iter() {
                let ListenerSpec { name, bind, .. } = &settings.spec;
                offer(Owner::Listener, name, bind, socket)?;
            }
        }
        if let Some((bind, socket)) = &*lock(&self.admin) {
            offer(Owner::Admin, "", bind, socket)?;
        }
        Ok(offers)
    }

    /// Another process has these sockets now: their files are not this one's any more.
    pub(super) fn give_up(&self) {
        self.inherited.custody().give();
    }

    /// It does not have them after all.
    pub(super) fn take_back(&self) {
        self.inherited.custody().take();
    }

    /// All that there are.
    pub(super) fn running(&self) -> Vec<Arc<Listener>> {
        let running = self.lock();
        running
            .iter()
            .map(|running| Arc::clone(&running.listener))
            .collect()
    }

    /// What makes the handshakes of listeners with TLS, to be tended.
    pub(super) fn terminators(&self) -> Vec<Arc<Terminator>> {
        let running = self.lock();
        let settings = running.iter().map(|running| running.listener.settings());
        settings
            .filter_map(|settings| settings.tls.clone())
            .collect()
    }

    /// Looks after certificates that authorities make: those of these listeners, and no others.
    pub(super) fn keep_certificates(&self) {
        let running = self.lock();
        let settings = running.iter().map(|running| running.listener.settings());
        let certificates = settings.flat_map(|settings| settings.certificates.clone());
        self.acme.run(certificates.collect());
    }

    /// What is answered to authorities that look whether a name is ours.
    pub(super) fn answers(&self) -> Answers {
        self.acme.answers()
    }

    /// Tells of sockets of systemd at which none of these listens.
    pub(super) fn warn_of_unused(&self, specs: &[ListenerSpec]) {
        self.inherited.warn_of_unused(|name| {
            let named = |spec: &ListenerSpec| matches!(&spec.bind, ListenAddress::Systemd(bind) if bind == name);
            specs.iter().any(named)
        });
    }

    fn open(&self, bound: Bound, settings: Arc<Settings>) -> Running {
        let listener = Arc::new(Listener {
            settings: ArcSwap::new(settings),
            connections: Arc::default(),
            sockets: Mutex::default(),
        });
        let (options, changing) = watch::channel(listener.settings().spec.socket);
        let opened = Opened {
            bound,
            listener: Arc::clone(&listener),
            options: changing,
        };
        // Nobody is there to serve it only when the gateway has ended.
        drop(self.opened.send(opened));
        Running { listener, options }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Running>> {
        lock(&self.running)
    }
}

/// What is locked is consistent whenever a panic could leave it.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Running {
    /// Whether this is the listener that is meant. With port 0 each name has a port of its own.
    fn has(&self, spec: &ListenerSpec) -> bool {
        let own = self.listener.settings();
        own.spec.bind == spec.bind && (spec.bind.is_one() || own.spec.name == spec.name)
    }

    /// Has the sockets changed, if there is something to change.
    fn adjust(&self, now: SocketOptions) {
        self.options.send_if_modified(|options| {
            let changed = *options != now;
            *options = now;
            changed
        });
    }
}

impl Listener {
    /// Notes one of its sockets.
    pub(super) fn listens_at(&self, socket: &Arc<Listening>) {
        lock(&self.sockets).push(Arc::downgrade(socket));
    }

    /// What holds for a connection that begins now.
    pub(super) fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }
}

impl Settings {
    /// Those of a listener, which may be there already.
    ///
    /// # Errors
    ///
    /// A sentence for the operator: there is nothing to make handshakes with.
    fn new(spec: &ListenerSpec, before: Option<&Listener>, acme: &Acme) -> Result<Self, String> {
        let make = |tls: &TlsSpec| Terminator::new(&spec.name, tls, acme.challenges().clone());
        let before = before.map(Listener::settings);
        let meter = before.as_ref().map(|before| Arc::clone(&before.meter));
        let tls = match (&spec.tls, before) {
            (None, _) => None,
            (Some(tls), Some(before)) if before.spec.tls.as_ref() == Some(tls) => {
                before.tls.clone()
            }
            (Some(tls), _) => Some(Arc::new(make(tls)?)),
        };
        Ok(Self {
            spec: spec.clone(),
            certificates: spec
                .tls
                .as_ref()
                .map_or_else(Vec::new, |tls| acme.certificates(&tls.acme)),
            tls,
            entrance: Entrance::plain(&spec.name).digest(),
            meter: meter.unwrap_or_default(),
        })
    }

    /// Takes over what the files hold now, and shows what authorities make.
    fn renew(&self, acme: &Acme) {
        if let (Some(terminator), Some(spec)) = (&self.tls, &self.spec.tls) {
            terminator.renew(spec);
            terminator.follow(self.certificates.clone(), acme.changes());
        }
    }
}
