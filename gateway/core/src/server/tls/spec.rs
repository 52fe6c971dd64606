//! What the `tls:` of a listener means.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use http::HeaderValue;
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs::Ticketer},
    server::{NoServerSessionStorage, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};

use super::{
    clients::{ClientAuthority, Verifier},
    identity::{Files, Identity},
    pem,
    resolver::{Challenges, Resolver},
};
use crate::config::tls::{CipherSuite, DefaultCertificate, Group, TlsVersion};
use crate::server::acme::AcmeSpec;

/// The rules, and what the files held when they were compiled. Two are equal if the rules are, whatever
/// the files hold.
#[derive(Clone)]
pub(crate) struct TlsSpec {
    pub(crate) rules: Rules,
    pub(crate) material: Arc<Material>,
    /// Certificates that authorities make meanwhile. They come and go without other rules.
    pub(crate) acme: Vec<AcmeSpec>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rules {
    pub(crate) certificates: Source,
    /// What is shown to who asks for none of the names; the first certificate if not given.
    pub(crate) default: Option<DefaultCertificate>,
    pub(crate) clients: Option<ClientAuthority>,
    pub(crate) min_version: TlsVersion,
    pub(crate) max_version: TlsVersion,
    /// If given, in the order in which they are preferred.
    pub(crate) cipher_suites: Option<Vec<CipherSuite>>,
    pub(crate) groups: Vec<Group>,
    /// Whether sessions can be resumed.
    pub(crate) tickets: bool,
    /// What is offered to clients that ask what is spoken inside (ALPN), the best first. If that is nothing,
    /// they may speak what they like.
    pub(crate) protocols: &'static [&'static str],
    /// Whether authorities are asked for proofs.
    pub(crate) stapling: bool,
    pub(crate) handshake_timeout: Duration,
    pub(crate) watch_interval: Duration,
    /// The `Strict-Transport-Security` of responses over this listener.
    pub(crate) hsts: Option<HeaderValue>,
}

/// Where certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Files(Vec<Files>),
    /// From ourselves, kept in this folder.
    Development(Option<PathBuf>),
}

/// What the files held.
#[derive(Debug, Default)]
pub(crate) struct Material {
    /// In the order of the files.
    pub(super) identities: Vec<Arc<Identity>>,
    pub(super) verifier: Option<Verifier>,
}

impl Material {
    pub(crate) fn new(identities: Vec<Identity>, verifier: Option<Verifier>) -> Self {
        Self {
            identities: identities.into_iter().map(Arc::new).collect(),
            verifier,
        }
    }
}

impl PartialEq for TlsSpec {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
    }
}

/// Without what the files held.
impl fmt::Debug for TlsSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rules.fmt(f)
    }
}

impl Rules {
    /// The versions that are spoken.
    pub(crate) fn versions(&self) -> impl Iterator<Item = TlsVersion> {
        let permitted = self.min_version..=self.max_version;
        [TlsVersion::V1_2, TlsVersion::V1_3]
            .into_iter()
            .filter(move |version| permitted.contains(version))
    }

    /// How handshakes are made, with keys of its own for tickets.
    ///
    /// # Errors
    ///
    /// A sentence, if no client could ever make one.
    pub(super) fn config(
        &self,
        resolver: &Arc<Resolver>,
        verifier: Option<Arc<dyn ClientCertVerifier>>,
    ) -> Result<ServerConfig, String> {
        let versions: Vec<_> = self.versions().map(protocol).collect();
        let builder = ServerConfig::builder_with_provider(Arc::new(self.provider()));
        let builder = builder.with_protocol_versions(&versions);
        let builder = builder.map_err(|error| error.to_string())?;
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::clone(resolver) as _);
        let protocols = self.protocols.iter();
        config.alpn_protocols = protocols.map(|name| name.as_bytes().to_vec()).collect();
        config.ignore_client_order = self.cipher_suites.is_some();
        // Nothing is kept for clients that may never come back: they keep it themselves, encrypted.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        if self.tickets {
            config.ticketer = Ticketer::new().map_err(|error| error.to_string())?;
            config.send_tls13_tickets = TICKETS;
        }
        Ok(config)
    }

    fn provider(&self) -> CryptoProvider {
        let mut provider = pem::provider();
        if let Some(suites) = &self.cipher_suites {
            provider.cipher_suites = suites.iter().map(|CipherSuite(suite)| *suite).collect();
        }
        let groups = self.groups.iter();
        provider.kx_groups = groups.map(|Group(group)| *group).collect();
        provider
    }
}

/// How many tickets a client gets for each full or resumed handshake of TLS 1.3, in which each may be
/// used once. One is what a client uses that comes back with one connection; each one more costs every
/// handshake, and a client that opens several connections at once only makes a full one more.
const TICKETS: usize = 1;

fn protocol(version: TlsVersion) -> &'static SupportedProtocolVersion {
    match version {
        TlsVersion::V1_2 => &TLS12,
        TlsVersion::V1_3 => &TLS13,
    }
}

/// How handshakes with authorities are made that check a name.
pub(super) fn challenge_config(challenges: Challenges) -> Result<ServerConfig, String> {
    let builder = ServerConfig::builder_with_provider(Arc::new(pem::provider()));
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder
        .map_err(|error| error.to_string())?
        .with_no_client_auth();
    let mut config = builder.with_cert_resolver(Arc::new(challenges));
    config.alpn_protocols = vec![Challenges::PROTOCOL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
