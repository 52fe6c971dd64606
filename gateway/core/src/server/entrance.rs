//! By which way a request has come in.

use std::sync::Arc;

use edgeway_sdk::{Tls, exchange::Scheme};
use http::HeaderValue;
use pingora::{http::ResponseHeader, protocols::raw_connect::ProxyDigest};
use pingora_proxy::Session;

use crate::explain::rehearsal::Rehearsal;

/// What holds for all requests of a connection. Listeners without TLS have one for all of theirs.
#[derive(Debug)]
pub(crate) struct Entrance {
    /// Its name.
    pub(crate) listener: Arc<str>,
    /// What was agreed on, if the connection has TLS.
    pub(crate) tls: Option<Arc<Tls>>,
    /// The `Strict-Transport-Security` of its responses.
    pub(crate) hsts: Option<HeaderValue>,
    /// Nobody has made these requests.
    pub(crate) rehearsal: Option<Arc<Rehearsal>>,
}

impl Entrance {
    pub(super) fn plain(listener: &str) -> Self {
        Self {
            listener: listener.into(),
            tls: None,
            hsts: None,
            rehearsal: None,
        }
    }

    pub(crate) fn scheme(&self) -> Scheme {
        match self.tls {
            Some(_) => Scheme::Https,
            None => Scheme::Http,
        }
    }

    /// In the form in which Pingora carries it from the connection to its requests.
    pub(super) fn digest(self) -> Arc<ProxyDigest> {
        // What a proxy in between has answered: there is none.
        let nothing = ResponseHeader::from(http::Response::new(()).into_parts().0);
        Arc::new(ProxyDigest::new(Box::new(nothing), Some(Box::new(self))))
    }

    /// That of a request; none for one that the gateway makes itself.
    pub(crate) fn of(session: &Session) -> Option<&Self> {
        let digest = session.digest()?.proxy_digest.as_ref()?;
        digest.user_data.as_ref()?.downcast_ref()
    }
}
