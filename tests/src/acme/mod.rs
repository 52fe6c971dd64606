//! An authority of certificates on loopback (ACME, RFC 8555).
//!
//! It is as strict as a real one: every request is signed, by a key that it knows, for the address that is asked, with a
//! nonce that is used once. It connects to the gateway to see that a name is there, and signs what was asked for.

mod issue;
mod jws;
mod protocol;
mod state;
mod validate;

use std::{
    fmt,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::Request;
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::{net::TcpListener, net::TcpStream, runtime::Runtime};
use tokio_rustls::TlsAcceptor;

pub use self::state::{AcmeCounts, AcmeFault};
use self::{protocol::Hangup, state::State};
use crate::authority::{Authority, provider};

/// An authority within the test. Dropping it closes the port.
pub struct Acme {
    state: Arc<State>,
    /// Who vouches for the directory, and who signs what is ordered.
    authority: Arc<Authority>,
    /// None only while it is dropped.
    runtime: Option<Runtime>,
}

impl Acme {
    /// One that knows nobody.
    ///
    /// # Panics
    ///
    /// When there is no port.
    pub fn start() -> Self {
        Self::known_as(Arc::new(Authority::new()), ([127, 0, 0, 1], 0).into())
    }

    /// One at the same place that vouches with the same key, but knows nobody any more. The first must be gone.
    ///
    /// # Panics
    ///
    /// When there is no port.
    pub fn forgetful(mut self) -> Self {
        let (authority, address) = (Arc::clone(&self.authority), self.state.address);
        self.shut();
        crate::wait::eventually_some(crate::wait::PATIENCE, || {
            std::net::TcpListener::bind(address).ok()
        });
        Self::known_as(authority, address)
    }

    fn known_as(authority: Arc<Authority>, address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a thread can be started");
        let listener = runtime.block_on(TcpListener::bind(address));
        let listener = listener.expect("there is a port");
        let address = listener.local_addr().expect("a listener has an address");
        let state = Arc::new(State::new(address, Arc::clone(&authority)));
        let acceptor = TlsAcceptor::from(Arc::new(tls(&authority)));
        runtime.spawn(accept(listener, acceptor, Arc::clone(&state)));
        Self {
            state,
            authority,
            runtime: Some(runtime),
        }
    }

    /// The URL that a client has to know.
    pub fn directory(&self) -> String {
        self.state.url("/directory")
    }

    /// The authority that signs what is ordered, and vouches for the directory.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The file `ca.pem` of the authority that vouches for the directory.
    pub fn ca(&self) -> PathBuf {
        self.authority.ca()
    }

    /// Where it looks whether names are there: at port 80 of any name, or at 443, is meant.
    pub fn looks_at(&self, http: SocketAddr, tls: SocketAddr) {
        self.state.lock().looks_at = Some((http, tls));
    }

    /// Waits until it is told again where names are.
    pub fn looks_nowhere(&self) {
        self.state.lock().looks_at = None;
    }

    /// Does this to the next requests for such a thing: `new-order`, `authorization`, `challenge`, `finalize`,
    /// `certificate`, `new-account`, `new-nonce`, `directory`, `order`, `renewal-info`; one fault for each request.
    pub fn next(&self, kind: &'static str, fault: AcmeFault) {
        self.state.lock().faults.push((kind, fault));
    }

    /// Waits so long before every answer.
    pub fn slow(&self, delay: Duration) {
        self.state.lock().delay = delay;
    }

    /// How long what it signs from now on is valid: until when, from now.
    pub fn signs_for(&self, lifetime: Duration) {
        self.state.lock().lifetime = lifetime;
    }

    /// Demands an account with this id and this key, in base64url.
    pub fn demands(&self, key_id: &str, key: &str) {
        let key = jws::decode(key).expect("the key of a test is base64url");
        self.state.lock().external = Some((key_id.to_owned(), key));
    }

    /// Offers no challenge but of this kind.
    pub fn offers_only(&self, challenge: &'static str) {
        self.state.lock().challenges = vec![challenge];
    }

    /// Would like every certificate to be replaced in this time (RFC 9773). Without it, it says nothing of that.
    pub fn suggests(&self, from: SystemTime, until: SystemTime) {
        self.state.lock().window = Some((from, until));
    }

    /// What has been done so far.
    pub fn counts(&self) -> AcmeCounts {
        self.state.lock().counts.clone()
    }

    /// What it has refused, and why, one line each.
    pub fn complaints(&self) -> Vec<String> {
        self.state.lock().complaints.clone()
    }

    fn shut(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Acme {
    fn drop(&mut self) {
        self.shut();
        if std::thread::panicking() {
            eprintln!("--- authority ---\n{:#?}", self.counts());
            eprintln!("{}", self.complaints().join("\n"));
        }
    }
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Acme({})", self.directory())
    }
}

fn tls(authority: &Authority) -> ServerConfig {
    let (chain, key) = authority.certificate(&["localhost"]).parts();
    ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has all versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("the key fits the certificate")
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        tokio::spawn(serve(stream, acceptor.clone(), Arc::clone(&state)));
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, state: Arc<State>) {
    let stream = match acceptor.accept(stream).await {
        Ok(stream) => stream,
        Err(error) => return state.complain(format!("handshake: {error}")),
    };
    let service = service_fn(|request: Request<Incoming>| {
        let state = Arc::clone(&state);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(|_| Hangup)?.to_bytes();
            protocol::answer(&state, &head, &body).await
        }
    });
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // That the other side breaks off is nothing to mind.
    served.await.ok();
}
