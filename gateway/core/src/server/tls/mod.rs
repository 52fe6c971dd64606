//! TLS towards clients.
//!
//! A [`TlsSpec`] is what a listener's `tls:` means, compiled, with what the files held then; a
//! [`Terminator`] makes handshakes by it and looks after the files.
//!
//! * [`pem`], [`identity`], [`clients`]: what the files hold, and what is wrong with it.
//! * [`resolver`]: which certificate a client is shown.
//! * [`secured`]: what is known of a client afterwards.
//! * [`watch`]: files that change, certificates that end; [`staple`]: proofs that they are not revoked.
//! * [`ordered`]: certificates that an authority makes meanwhile; [`mod@shown`]: all of them, for operators.
//! * [`ocsp`], [`der`]: how an authority is asked for such a proof.
//! * [`development`]: a certificate for trying things out.

mod clients;
mod der;
pub(crate) mod development;
mod identity;
mod ocsp;
mod ordered;
pub(crate) mod pem;
mod resolver;
mod secured;
mod shown;
mod spec;
mod staple;
mod watch;

#[cfg(test)]
mod testing;

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use http::HeaderValue;
use rustls::{
    ServerConfig,
    pki_types::UnixTime,
    server::{Acceptor, ClientHello},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    sync::Notify,
    time::timeout,
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use self::resolver::{Certificates, Resolver};
use self::watch::Keeper;
pub(crate) use self::{
    clients::{AuthorityFlaw, ClientAuthority, Verifier},
    identity::{Files, Identity, Part},
    ordered::read_identity,
    resolver::Challenges,
    secured::{Protocol, Secured},
    shown::{Origin, Shown},
    spec::{Material, Rules, Source, TlsSpec},
};

/// Makes the handshakes of a listener.
///
/// It outlives a configuration that is replaced by one with an equal [`TlsSpec`], so that sessions can
/// be resumed all the same. No two share sessions: a client can't resume with one listener what
/// another one has let it begin.
pub(crate) struct Terminator {
    listener: String,
    rules: Rules,
    resolver: Arc<Resolver>,
    config: ArcSwap<ServerConfig>,
    /// For authorities that come to check a name: nothing is served by it.
    challenge: Arc<ServerConfig>,
    /// What the files hold. Never locked for a request.
    keeper: Mutex<Keeper>,
    /// A certificate has come that has no proof yet.
    renewed: Notify,
}

/// Until when a certificate is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// As clients ask for it.
    pub(crate) names: Vec<String>,
    /// Seconds since 1970.
    pub(crate) not_after: i64,
}

impl Terminator {
    /// For a listener of this name.
    ///
    /// # Errors
    ///
    /// A sentence for the operator: a certificate for development can't be made. All else was found when
    /// the specification was compiled.
    pub(crate) fn new(
        listener: &str,
        spec: &TlsSpec,
        challenges: Challenges,
    ) -> Result<Self, String> {
        let rules = spec.rules.clone();
        let keeper = Keeper::new(listener, spec, now())?;
        let resolver = Arc::new(Resolver(ArcSwap::from_pointee(Certificates::default())));
        let config = rules.config(&resolver, keeper.verifier())?;
        let terminator = Self {
            listener: listener.to_owned(),
            config: ArcSwap::from_pointee(config),
            challenge: Arc::new(spec::challenge_config(challenges)?),
            rules,
            resolver,
            keeper: Mutex::new(keeper),
            renewed: Notify::new(),
        };
        terminator.publish(&terminator.keeper());
        Ok(terminator)
    }

    /// Takes over what the files held when an equal specification was compiled.
    pub(crate) fn renew(&self, spec: &TlsSpec) {
        let mut keeper = self.keeper();
        let changed = keeper.renew(&spec.material);
        self.apply(&keeper, changed);
    }

    /// How the next handshake is made. It is another one when clients are to be checked by other
    /// authorities.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// Makes a handshake on a connection on which nothing was said yet.
    ///
    /// # Errors
    ///
    /// A client that may not be served, or does not keep to the protocol, or takes too long. What is to
    /// be told to it has been told; the connection is of no more use.
    pub(crate) async fn accept<IO>(&self, io: IO) -> io::Result<(TlsStream<IO>, Secured)>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let made = timeout(self.rules.handshake_timeout, self.handshake(io)).await;
        made.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long"))?
    }

    async fn handshake<IO>(&self, io: IO) -> io::Result<(TlsStream<IO>, Secured)>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let mut start = LazyConfigAcceptor::new(Acceptor::default(), io).await?;
        if Challenges::concern(&start.client_hello()) {
            let mut stream = start.into_stream(Arc::clone(&self.challenge)).await?;
            // It has what it came for, and may be gone.
            drop(stream.shutdown().await);
            return Err(refused("it has come to check a name, and has seen it"));
        }
        if !self.serves(&start.client_hello()) {
            refuse_name(&mut start.io).await;
            return Err(refused("the client asks for no name that is served"));
        }
        let stream = start.into_stream(self.config()).await?;
        let secured = Secured::of(stream.get_ref().1)?;
        Ok((stream, secured))
    }

    fn serves(&self, hello: &ClientHello<'_>) -> bool {
        self.resolver.0.load().has(hello.server_name())
    }

    /// The `Strict-Transport-Security` of responses.
    pub(crate) fn hsts(&self) -> Option<&HeaderValue> {
        self.rules.hsts.as_ref()
    }

    /// Until when each certificate is valid.
    pub(crate) fn expiry(&self) -> Vec<Expiry> {
        self.keeper().expiry()
    }

    /// Looks after the files and the proofs, without end.
    pub(crate) async fn tend(self: Arc<Self>) {
        tokio::join!(self.watch(), self.keep_stapled(), self.keep_ordered());
    }

    fn keeper(&self) -> MutexGuard<'_, Keeper> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows clients the certificates that there are now.
    fn publish(&self, keeper: &Keeper) {
        let certificates = keeper.certificates(now());
        let mut table = Certificates::new(certificates, self.rules.default.as_ref());
        table.refuse(keeper.pending());
        self.resolver.0.store(Arc::new(table));
    }

    /// Puts into force what has changed. Handshakes that have begun end as they began.
    fn apply(&self, keeper: &Keeper, changed: Changed) {
        if changed.certificates {
            self.publish(keeper);
            self.renewed.notify_one();
        }
        if changed.clients {
            // With other keys for tickets: whoever is no longer vouched for must not resume.
            match self.rules.config(&self.resolver, keeper.verifier()) {
                Ok(config) => self.config.store(Arc::new(config)),
                Err(reason) => {
                    let listener = &self.listener;
                    log::error!("client authorities kept: listener={listener} reason={reason}");
                }
            }
        }
    }
}

impl fmt::Debug for Terminator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Terminator({})", self.listener)
    }
}

/// What is not as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Changed {
    certificates: bool,
    clients: bool,
}

fn refused(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX)
}

/// Tells a client that nobody has the name that it asks for. Who would not listen does not matter.
pub(in crate::server) async fn refuse_name(io: &mut (impl AsyncWrite + Unpin)) {
    if io.write_all(UNRECOGNIZED_NAME).await.is_ok() {
        io.shutdown().await.ok();
    }
}

/// The fatal alert `unrecognized_name` (RFC 6066, 3) as a record. The protocol has no other way to say
/// it before a certificate is chosen.
const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];

#[cfg(test)]
mod tests;
