//! What kind of endpoint it is to be.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;

use super::serve::{Place, Protocol};
use super::state::{Answers, Received, State};
use super::{Endpoint, Reaction};
use crate::authority::{Authority, Certificate, provider};

/// An endpoint that has not been started yet.
#[must_use = "an endpoint does nothing until it is started"]
pub struct EndpointSetup {
    name: String,
    place: Place,
    protocol: Protocol,
    streams: Option<u32>,
    relays: bool,
    answers: Option<Answers>,
}

impl EndpointSetup {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            place: Place::any_port(),
            protocol: Protocol::Http1,
            streams: None,
            relays: false,
            answers: None,
        }
    }

    /// HTTP/2 in the clear, for those who know that it is.
    pub fn h2c(mut self) -> Self {
        self.protocol = Protocol::Http2;
        self
    }

    /// HTTPS: HTTP/2 or HTTP/1.1 as the other side wants.
    pub fn tls(self, certificate: &Certificate) -> Self {
        self.secure(certificate, None)
    }

    /// HTTPS for those only who show a certificate of this authority.
    pub fn mutual_tls(self, certificate: &Certificate, clients: &Authority) -> Self {
        self.secure(certificate, Some(clients))
    }

    /// The protocols that are offered by ALPN, after [`tls`](Self::tls) or
    /// [`mutual_tls`](Self::mutual_tls): `["h2", "http/1.1"]` if not called.
    ///
    /// # Panics
    ///
    /// When there is no TLS.
    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        let Protocol::Tls(config) = &mut self.protocol else {
            panic!("ALPN is a part of TLS");
        };
        let names = protocols.iter().map(|name| name.as_bytes().to_vec());
        Arc::make_mut(config).alpn_protocols = names.collect();
        self
    }

    /// The most streams that HTTP/2 may open at once on a connection.
    pub fn max_streams(mut self, streams: u32) -> Self {
        self.streams = Some(streams);
        self
    }

    /// Listens on a unix socket in a temporary folder instead of a port.
    pub fn unix(mut self) -> Self {
        self.place = Place::new_socket();
        self
    }

    /// Listens there instead of on a free port of 127.0.0.1: `127.0.0.2:34567`. All of 127.0.0.0/8 is
    /// this machine, so that one port can have several endpoints.
    ///
    /// # Panics
    ///
    /// When it is no address.
    pub fn at(mut self, address: &str) -> Self {
        self.place = Place::Port(address.parse().expect("an address and a port"));
        self
    }

    /// What it does about each request but `/healthz`, instead of describing it. The closure
    /// must not block; [`Endpoint::slow`] and the like change what it returns.
    pub fn answers(
        mut self,
        react: impl Fn(&Received) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        self.answers = Some(Box::new(react));
        self
    }

    /// Sends back every piece of a body as it comes, and `grpc-status: 0` behind the last one. Such
    /// requests are not looked at, but they count in [`Endpoint::in_flight`].
    pub fn relays(mut self) -> Self {
        self.relays = true;
        self
    }

    /// Starts it.
    ///
    /// # Panics
    ///
    /// When it can't listen.
    pub fn start(self) -> Endpoint {
        Endpoint::begin(self)
    }

    pub(super) fn parts(self) -> (Place, State) {
        let mut state = State::new(self.name, self.protocol);
        state.max_streams = self.streams;
        state.relays = self.relays;
        state.answers = self.answers;
        (self.place, state)
    }

    fn secure(mut self, certificate: &Certificate, clients: Option<&Authority>) -> Self {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider knows the usual versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let roots = clients.roots();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                builder.with_client_cert_verifier(verifier.build().expect("there is a root"))
            }
        };
        let (chain, key) = certificate.parts();
        let config = builder.with_single_cert(chain, key);
        let config = config.expect("a certificate and its own key");
        self.protocol = Protocol::Tls(Arc::new(config));
        self.alpn(&["h2", "http/1.1"])
    }
}
