//! Which certificate a client is shown.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    SignatureAlgorithm, SignatureScheme,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::config::tls::{CertificateName, DefaultCertificate, parent};

/// Certificates for the same name: the one whose signatures cost least first.
type Group = Vec<Arc<CertifiedKey>>;

/// The certificates of a listener by the names that they are for.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    exact: HashMap<Box<str>, Group>,
    /// By what stands behind the star.
    wildcard: HashMap<Box<str>, Group>,
    /// For who asks for none of these names.
    default: Group,
}

impl Certificates {
    /// Of these certificates with their names. Among several for the same name that cost the same,
    /// the first one is shown.
    pub(super) fn new(
        certificates: Vec<(&[CertificateName], Arc<CertifiedKey>)>,
        default: Option<&DefaultCertificate>,
    ) -> Self {
        let mut table = Self::default();
        let first = certificates
            .first()
            .map(|(names, key)| (*names, Arc::clone(key)));
        for (names, key) in certificates {
            for name in names {
                let group = table.names(name.wildcard).entry(name.host.clone());
                group.or_default().push(Arc::clone(&key));
            }
        }
        let groups = table.exact.values_mut().chain(table.wildcard.values_mut());
        groups.for_each(|group| group.sort_by_key(|key| cost(key)));
        table.default = match (default, first) {
            (Some(DefaultCertificate::None), _) | (None, None) => Vec::new(),
            (Some(DefaultCertificate::Named(name)), _) => table.of(name),
            (None, Some((names, key))) => match names.first() {
                Some(name) => table.of(name),
                None => vec![key],
            },
        };
        table
    }

    /// Refuses who asks for these names, unless there is a certificate for them: another one would not do.
    pub(super) fn refuse(&mut self, names: Vec<CertificateName>) {
        for name in names {
            if !name.wildcard && self.named(&name.host).is_none() {
                self.exact.insert(name.host, Group::new());
            }
        }
    }

    fn names(&mut self, wildcard: bool) -> &mut HashMap<Box<str>, Group> {
        if wildcard {
            &mut self.wildcard
        } else {
            &mut self.exact
        }
    }

    /// The certificates for a name as it is configured.
    fn of(&self, name: &CertificateName) -> Group {
        if name.wildcard {
            return self.wildcard.get(&name.host).cloned().unwrap_or_default();
        }
        self.named(&name.host).cloned().unwrap_or_default()
    }

    /// The certificates for a name in lower case.
    fn named(&self, name: &str) -> Option<&Group> {
        let wildcard = || self.wildcard.get(parent(name)?);
        self.exact.get(name).or_else(wildcard)
    }

    /// Those that a client may be shown, best first; none if it is to be refused.
    fn group(&self, name: Option<&str>) -> &Group {
        name.and_then(|name| self.named(name))
            .unwrap_or(&self.default)
    }

    /// Whether there is one for who asks for this name.
    pub(super) fn has(&self, name: Option<&str>) -> bool {
        !self.group(name).is_empty()
    }

    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let group = self.group(name);
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        // If none fits, the handshake ends with an alert that says so.
        group.iter().find(fits).or_else(|| group.first()).cloned()
    }
}

/// An order of the algorithms by what a signature costs.
fn cost(key: &CertifiedKey) -> u8 {
    match key.key.algorithm() {
        SignatureAlgorithm::ECDSA | SignatureAlgorithm::ED25519 => 0,
        _ => 1,
    }
}

/// The certificates in force, as rustls asks for them.
#[derive(Debug)]
pub(super) struct Resolver(pub(super) ArcSwap<Certificates>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificates = self.0.load();
        certificates.choose(hello.server_name(), hello.signature_schemes())
    }
}

/// Certificates that prove to an ACME authority that this is the host that it was asked to certify
/// (TLS-ALPN-01, RFC 8737). They are shown only to who speaks nothing but `acme-tls/1`. All listeners
/// share one table; clones are the same table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Challenges(Arc<ArcSwap<HashMap<Box<str>, Arc<CertifiedKey>>>>);

impl Challenges {
    /// The one protocol of who comes to check.
    pub(super) const PROTOCOL: &[u8] = b"acme-tls/1";

    /// Shows `key` to who checks `name`, instead of what there was for it.
    pub(crate) fn put(&self, name: &str, key: &Arc<CertifiedKey>) {
        self.change(|table| {
            table.insert(name.to_ascii_lowercase().into(), Arc::clone(key));
        });
    }

    /// Ends what [`put`](Self::put) has begun.
    pub(crate) fn remove(&self, name: &str) {
        let name = name.to_ascii_lowercase();
        self.change(|table| {
            table.remove(&*name);
        });
    }

    fn change(&self, change: impl Fn(&mut HashMap<Box<str>, Arc<CertifiedKey>>)) {
        self.0.rcu(|table| {
            let mut table = HashMap::clone(table);
            change(&mut table);
            table
        });
    }

    /// Whether a client has come to check.
    pub(super) fn concern(hello: &ClientHello<'_>) -> bool {
        let Some(mut protocols) = hello.alpn() else {
            return false;
        };
        protocols.next() == Some(Self::PROTOCOL) && protocols.next().is_none()
    }
}

impl ResolvesServerCert for Challenges {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().get(hello.server_name()?).cloned()
    }
}
