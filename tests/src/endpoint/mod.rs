//! Endpoints of HTTP/1.1 and HTTP/2, with or without TLS, whose conduct a test changes while they run.

mod grpc;
mod reaction;
mod serve;
mod setup;
mod state;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::authority::Certificate;
use crate::client::{Address, Request};
use crate::wait::{PATIENCE, eventually_some};
use serve::{Listener, Place};
use state::State;

pub use grpc::{GrpcHealth, Health};
pub use reaction::Reaction;
pub use setup::EndpointSetup;
pub use state::{Break, Inbound, Received};

/// An endpoint within the test, for hundreds of connections. Dropping it closes them and the port.
///
/// It answers every request with what arrived: the members `endpoint` (its name), `method`,
/// `target`, `path`, `version`, `headers`, `body`, `connection` (their number), `streams` (the most
/// requests that were in flight on the connection at once so far), `protocol` (by ALPN), `sni` (the
/// name of the host), and `client` (the common name of the client's certificate). The header
/// `X-Endpoint` is its name, too.
///
/// `GET /healthz` answers as [`health`](Self::health) says, whatever the rest does, and is not
/// counted as a request.
#[derive(Debug)]
pub struct Endpoint {
    state: Arc<State>,
    place: Place,
    listening: Option<JoinHandle<()>>,
    /// None only while it is dropped.
    runtime: Option<Runtime>,
}

impl Endpoint {
    /// HTTP/1.1 in the clear.
    pub fn start(name: &str) -> Self {
        Self::setup(name).start()
    }

    /// HTTP/2 in the clear, for those who know that it is.
    pub fn h2c(name: &str) -> Self {
        Self::setup(name).h2c().start()
    }

    /// HTTPS: HTTP/2 or HTTP/1.1 as the other side wants.
    pub fn https(name: &str, certificate: &Certificate) -> Self {
        Self::setup(name).tls(certificate).start()
    }

    /// For an endpoint of another kind.
    pub fn setup(name: &str) -> EndpointSetup {
        EndpointSetup::new(name)
    }

    /// Answers so much later from now on. Zero ends that.
    pub fn slow(&self, delay: Duration) {
        self.state.conduct().delay = delay;
    }

    /// Answers with this status from now on, with the same body.
    pub fn status(&self, status: u16) {
        self.state.conduct().status = status;
    }

    /// Breaks off every answer from now on.
    pub fn breaks(&self, how: Break) {
        self.state.conduct().breaks = Some(how);
    }

    /// Breaks off as many answers as this, and then no more.
    pub fn breaks_next(&self, requests: usize, how: Break) {
        self.state.conduct().breaks_next = (requests, how);
    }

    /// Gives the next so many answers this status, and the others the usual one.
    pub fn status_next(&self, requests: usize, status: u16) {
        self.state.conduct().status_next = (requests, status);
    }

    /// What `/healthz` does from now on.
    pub fn health(&self, health: Health) {
        self.state.conduct().health = health;
    }

    /// Ends all that was asked for by the methods above.
    pub fn behave(&self) {
        *self.state.conduct() = state::Conduct::default();
    }

    /// Closes all connections at once, used or idle; new ones are accepted.
    pub fn close_connections(&self) {
        self.state.close_connections();
    }

    /// Closes the port and all connections, as the end of a process does.
    pub fn down(&mut self) {
        let Some(listening) = self.listening.take() else {
            return;
        };
        listening.abort();
        let state = &self.state;
        state.close_connections();
        eventually_some(PATIENCE, || {
            (listening.is_finished() && state.open_connections() == 0).then_some(())
        });
    }

    /// Opens the port of before again. Retried, since a connection of another test may have it for
    /// a moment.
    #[track_caller]
    pub fn up(&mut self) {
        if self.listening.is_none() {
            let listener = eventually_some(PATIENCE, || self.open().ok());
            self.listen(listener);
        }
    }

    /// How many requests have come, but for `/healthz`; those count that were not answered.
    pub fn requests(&self) -> usize {
        self.state.requests()
    }

    /// How many requests have come for a path, `/healthz` or another.
    pub fn requests_to(&self, path: &str) -> usize {
        self.state.requests_to(path)
    }

    /// How many requests wait for their answer now, but for `/healthz`. Those that the other side
    /// has given up do not.
    pub fn in_flight(&self) -> usize {
        self.state.in_flight.now()
    }

    /// The most requests that were in flight at once.
    pub fn most_in_flight(&self) -> usize {
        self.state.in_flight.most()
    }

    /// How many connections were accepted, those included that failed in the TLS handshake.
    pub fn connections(&self) -> usize {
        self.state.connections()
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        self.state.open_connections()
    }

    /// The connections that got as far as HTTP, in the order in which they came.
    pub fn inbound(&self) -> Vec<Inbound> {
        self.state.inbound()
    }

    /// Why TLS handshakes failed.
    pub fn failed_handshakes(&self) -> Vec<String> {
        self.state.failed_handshakes()
    }

    /// The requests, but for `/healthz`, in the order in which they came.
    pub fn received(&self) -> Vec<Received> {
        self.state.received()
    }

    /// Where it is.
    ///
    /// # Panics
    ///
    /// When it is a unix socket.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        match self.place.address() {
            Address::Port(address) => address,
            Address::Socket(path) => panic!("no port, but {}", path.display()),
        }
    }

    /// A request to the endpoint itself, past the gateway, if it speaks HTTP/1.1 in the clear.
    pub fn request(&self, method: &str, target: &str) -> Request<'static> {
        Request::to(self.place.address(), method, target)
    }

    fn begin(setup: EndpointSetup) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("endpoint")
            .enable_all()
            .build();
        let (place, state) = setup.parts();
        let mut endpoint = Self {
            state: Arc::new(state),
            place,
            listening: None,
            runtime: Some(runtime.expect("a runtime can be made")),
        };
        let listener = endpoint.open().expect("a place to listen");
        endpoint.place.settle(&listener);
        endpoint.listen(listener);
        endpoint
    }

    fn open(&self) -> std::io::Result<Listener> {
        self.runtime().block_on(Listener::open(&self.place))
    }

    fn listen(&mut self, listener: Listener) {
        let accepting = serve::accept(listener, Arc::clone(&self.state));
        self.listening = Some(self.runtime().spawn(accepting));
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("there until it is dropped")
    }
}

/// The address, as a configuration takes it: `127.0.0.1:34567`, or `unix:/path`.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.address().fmt(f)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
