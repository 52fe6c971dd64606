//! TLS towards clients, from what is written of it.

use std::sync::Arc;

use http::HeaderValue;
use rustls::SignatureAlgorithm;

use super::{
    Compiler,
    acme::{self, Doors},
};
use crate::{
    config::{
        At, Listener,
        diagnostic::{Diagnostic, Problems, suggestion},
        document::{Kind, NodeId},
        tls::{
            CertificateFiles, CertificateName, Certificates, CipherSuite, ClientCertificates,
            DefaultCertificate, FullTls, Group, ListenerTls, TlsVersion, iana_name,
        },
    },
    server::{
        acme::AcmeSpec,
        tls::{
            AuthorityFlaw, ClientAuthority, Files, Identity, Material, Part, Rules, Source,
            TlsSpec, Verifier, development, now,
        },
    },
};

/// TLS as the listener wants it; none if something in it is wrong, which has been told then. Reads the
/// files, and keeps what they hold.
pub(super) fn compile(
    compiler: Compiler<'_>,
    written: &At<ListenerTls>,
    own: &Listener,
    doors: Doors,
    problems: &mut Problems,
) -> Option<TlsSpec> {
    let before = problems.errors();
    let ListenerTls(tls) = &written.value;
    let (source, identities) = certificates(compiler, tls, problems);
    let acme = tls.acme.as_ref().map_or_else(Vec::new, |written| {
        acme::compile(compiler, written, &own.bind.value, doors, problems)
    });
    if compiler.has_neither(written.node, ["certificates", "acme"]) {
        let message =
            "`tls` has neither `certificates` nor `acme`: there is nothing to show to clients";
        let help = "write `certificates: [{ chain: cert.pem, key: cert.key }]`, `acme: { domains: [example.com] }`, or `tls: development`";
        problems.push(Diagnostic::error(message).at(written).help(help));
    }
    let (authority, verifier) = clients(compiler, tls, problems).unzip();
    let (min_version, max_version) = versions(tls, problems);
    let rules = Rules {
        certificates: source,
        default: tls.default.as_ref().map(|default| default.value.clone()),
        clients: authority,
        min_version,
        max_version,
        cipher_suites: tls.cipher_suites.as_ref().map(values),
        groups: tls.groups.as_ref().map_or_else(Group::usual, values),
        tickets: tls.session_tickets,
        protocols: protocols(own),
        stapling: tls.ocsp_stapling.as_ref().is_none_or(|wanted| wanted.value),
        handshake_timeout: tls.handshake_timeout.0,
        watch_interval: tls
            .watch_interval
            .as_ref()
            .map_or(FullTls::WATCH_INTERVAL, |interval| interval.value.0),
        hsts: tls
            .hsts
            .0
            .as_deref()
            .and_then(|value| HeaderValue::from_str(value).ok()),
    };
    // What is wrong was left out, and may be all that makes something else look useless.
    if compiler.has_all(written.node, "certificates", identities.len())
        && tls.acme.is_some() != acme.is_empty()
    {
        default_is_known(tls, &identities, &acme, problems);
        nothing_is_idle(tls, &identities, problems);
    }
    if let Some(suites) = &tls.cipher_suites
        && compiler.has_all(written.node, "cipher_suites", suites.value.len())
    {
        suites_make_sense(suites, &rules, &identities, problems);
    }
    if let Some(groups) = &tls.groups
        && compiler.has_all(written.node, "groups", groups.value.len())
    {
        groups_make_sense(groups, &rules, problems);
    }
    (problems.errors() == before).then(|| TlsSpec {
        rules,
        material: Arc::new(Material::new(identities, verifier)),
        acme,
    })
}

impl Compiler<'_> {
    /// Whether the list `name` of a map has so many elements: all of them could be read. What is no list has
    /// none.
    fn has_all(self, map: NodeId, name: &str, number: usize) -> bool {
        let written = self.document.entry(map, name);
        let elements = written.map_or(&[][..], |(_, list)| self.document.elements(list));
        elements.len() == number
    }

    /// Whether a map has none of these keys.
    fn has_neither(self, map: NodeId, names: [&str; 2]) -> bool {
        let mut names = names.into_iter();
        // A word alone says all.
        matches!(self.document.kind(map), Kind::Mapping(_))
            && names.all(|name| self.document.entry(map, name).is_none())
    }
}

/// What a listener offers. One that passes everything on knows of none.
fn protocols(own: &Listener) -> &'static [&'static str] {
    match (&own.tcp, own.http2.0) {
        (Some(_), _) => &[],
        (None, Some(_)) => &["h2", "http/1.1"],
        (None, None) => &["http/1.1"],
    }
}

fn values<T: Clone>(list: &At<Vec<At<T>>>) -> Vec<T> {
    list.value.iter().map(|one| one.value.clone()).collect()
}

/// Where certificates come from, and those that could be read.
fn certificates(
    compiler: Compiler<'_>,
    tls: &FullTls,
    problems: &mut Problems,
) -> (Source, Vec<Identity>) {
    let certificates = match &tls.certificates {
        Certificates::Files(certificates) => certificates,
        Certificates::Development => {
            return (Source::Development(development::folder()), Vec::new());
        }
    };
    let mut identities = Vec::new();
    let mut files = Vec::new();
    for one in certificates {
        let place = files_of(compiler, &one.value);
        match place.load() {
            Ok(identity) => {
                doubtful(one, &identity, problems);
                never_shown(one, &identity, &identities, problems);
                identities.push(identity);
            }
            Err(flaw) => {
                let error = Diagnostic::error(flaw.message);
                problems.push(match (flaw.part, &one.value.ocsp) {
                    (Part::Ocsp, Some(ocsp)) => error.at(ocsp),
                    (Part::Key, _) => error.at(&one.value.key),
                    (Part::Chain | Part::Ocsp, _) => error.at(&one.value.chain),
                });
            }
        }
        files.push(place);
    }
    (Source::Files(files), identities)
}

fn files_of(compiler: Compiler<'_>, written: &CertificateFiles) -> Files {
    let ocsp = written.ocsp.as_ref();
    Files {
        chain: compiler.folder.join(&written.chain.value.0),
        key: compiler.folder.join(&written.key.value.0),
        ocsp: ocsp.map(|ocsp| compiler.folder.join(&ocsp.value.0)),
        names: written.names.as_ref().map(values),
    }
}

/// Warns of what clients will not like.
fn doubtful(written: &At<CertificateFiles>, identity: &Identity, problems: &mut Problems) {
    let chain = &written.value.chain;
    let mut warn = |message: &str| problems.push(Diagnostic::warning(message).at(chain));
    let now = now();
    if identity.not_after < now {
        warn("the certificate has expired: clients will refuse it");
    }
    if identity.not_before > now {
        warn("the certificate is not valid yet: clients will refuse it");
    }
    if identity.disordered {
        warn(
            "a certificate of the chain was not signed by the next one: some clients will refuse it",
        );
    }
    if identity.names.is_empty() && written.value.names.is_none() {
        warn(
            "the certificate has no name of a host: clients will refuse it, and it is only shown to who asks for no other",
        );
    }
    if identity.proof_has_expired(now) {
        let stale =
            Diagnostic::warning("the answer of the authority no longer holds: it is not sent");
        problems.push(match &written.value.ocsp {
            Some(ocsp) => stale.at(ocsp),
            None => stale.at(chain),
        });
    }
    for name in written.value.names.iter().flat_map(|names| &names.value) {
        if identity.foreign.contains(&name.value) {
            let message = format!(
                "the certificate is not for `{}`: clients will refuse it",
                name.value
            );
            problems.push(Diagnostic::warning(message).at(name));
        }
    }
}

/// Warns of a certificate that others always come before.
fn never_shown(
    written: &At<CertificateFiles>,
    identity: &Identity,
    before: &[Identity],
    problems: &mut Problems,
) {
    let taken = |name: &CertificateName| {
        let mut alike = before
            .iter()
            .filter(|one| one.algorithm() == identity.algorithm());
        alike.any(|one| one.names.contains(name))
    };
    if !identity.names.is_empty() && identity.names.iter().all(taken) {
        let message = "this certificate is never shown: others with the same names come before it";
        problems.push(Diagnostic::warning(message).at(written));
    }
}

/// The authorities of clients, with how clients are checked by them.
fn clients(
    compiler: Compiler<'_>,
    tls: &FullTls,
    problems: &mut Problems,
) -> Option<(ClientAuthority, Verifier)> {
    let ClientCertificates { ca, required, crl } = &tls.client_certificates.as_ref()?.value;
    let authority = ClientAuthority {
        ca: compiler.folder.join(&ca.value.0),
        crl: crl.as_ref().map(|crl| compiler.folder.join(&crl.value.0)),
        required: *required,
    };
    let verifier = authority.load().map_err(|flaw| {
        let error = Diagnostic::error(flaw.message());
        problems.push(match (flaw, crl) {
            (AuthorityFlaw::Crl(_), Some(crl)) => error.at(crl),
            (AuthorityFlaw::Crl(_) | AuthorityFlaw::Ca(_), _) => error.at(ca),
        });
    });
    let verifier = verifier.ok()?;
    let stale = verifier.stale_after.is_some_and(|end| end < now());
    if let (true, Some(crl)) = (stale, crl) {
        let message = "the list of revoked certificates should have been replaced by now: what was revoked since is let in";
        problems.push(Diagnostic::warning(message).at(crl));
    }
    Some((authority, verifier))
}

fn default_is_known(
    tls: &FullTls,
    identities: &[Identity],
    acme: &[AcmeSpec],
    problems: &mut Problems,
) {
    let Some(default) = &tls.default else { return };
    let DefaultCertificate::Named(name) = &default.value else {
        return;
    };
    // What names the one of ours has, depends on the machine.
    if matches!(tls.certificates, Certificates::Development) {
        return;
    }
    let names = identities.iter().flat_map(|identity| &identity.names);
    let ordered = acme.iter().flat_map(|spec| &spec.names);
    let names: Vec<_> = names.chain(ordered).collect();
    if !names.iter().any(|known| known.covers(name)) {
        let known: Vec<_> = names.iter().map(ToString::to_string).collect();
        let message = format!("no certificate is for `{name}`");
        let error = Diagnostic::error(message).at(default);
        problems.push(error.help_if(suggestion(&name.to_string(), &known)));
    }
}

fn versions(tls: &FullTls, problems: &mut Problems) -> (TlsVersion, TlsVersion) {
    let min = tls.min_version.as_ref();
    let max = tls.max_version.as_ref();
    let least = min.map_or(TlsVersion::V1_2, |min| min.value);
    let most = max.map_or(TlsVersion::V1_3, |max| max.value);
    if let (Some(min), Some(max)) = (min, max)
        && least > most
    {
        let message = format!("there is no version from {least} to {most}");
        let error = Diagnostic::error(message).at(min);
        problems.push(error.also(max, "the last one"));
        // Without a version nothing else would make sense either.
        return (TlsVersion::V1_2, TlsVersion::V1_3);
    }
    (least, most)
}

fn suites_make_sense(
    suites: &At<Vec<At<CipherSuite>>>,
    rules: &Rules,
    identities: &[Identity],
    problems: &mut Problems,
) {
    for suite in &suites.value {
        let of = suite.value.version();
        if !rules.versions().any(|spoken| spoken == of) {
            let name = iana_name(&suite.value.0);
            let message = format!("`{name}` has no effect: TLS {of} is not spoken");
            problems.push(Diagnostic::error(message).at(suite));
        }
    }
    for spoken in rules.versions() {
        if !suites
            .value
            .iter()
            .any(|suite| suite.value.version() == spoken)
        {
            let message = format!("there is no cipher suite for TLS {spoken}");
            let help = match spoken {
                TlsVersion::V1_2 => {
                    "add one such as `TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384`, or write `min_version: \"1.3\"`"
                }
                TlsVersion::V1_3 => {
                    "add one such as `TLS_AES_256_GCM_SHA384`, or write `max_version: \"1.2\"`"
                }
            };
            problems.push(Diagnostic::error(message).at(suites).help(help));
        } else if spoken == TlsVersion::V1_2 {
            suites_fit(suites, identities, problems);
        }
    }
}

/// In TLS 1.2 a suite is for one kind of certificate.
fn suites_fit(suites: &At<Vec<At<CipherSuite>>>, identities: &[Identity], problems: &mut Problems) {
    for identity in identities {
        let algorithm = identity.algorithm();
        let fits = |suite: &At<CipherSuite>| {
            suite.value.version() == TlsVersion::V1_2
                && suite.value.0.usable_for_signature_algorithm(algorithm)
        };
        if !suites.value.iter().any(fits) {
            let kind = match algorithm {
                SignatureAlgorithm::RSA => "RSA",
                _ => "ECDSA",
            };
            let message = format!(
                "no cipher suite of TLS 1.2 is for a certificate with {kind}, as one of these has: only TLS 1.3 can use it"
            );
            problems.push(Diagnostic::warning(message).at(suites));
        }
    }
}

fn groups_make_sense(written: &At<Vec<At<Group>>>, rules: &Rules, problems: &mut Problems) {
    let usable = |version: TlsVersion| {
        let mut groups = written.value.iter();
        groups.any(|group| group.value.works_in(version))
    };
    if let Some(version) = rules.versions().find(|version| !usable(*version)) {
        let message = format!("there is no group for TLS {version}");
        let help = "add one such as `X25519`";
        problems.push(Diagnostic::error(message).at(written).help(help));
    }
}

/// Tells of what would have no effect.
fn nothing_is_idle(tls: &FullTls, identities: &[Identity], problems: &mut Problems) {
    let development = matches!(tls.certificates, Certificates::Development);
    let stapling = tls.ocsp_stapling.as_ref().filter(|wanted| wanted.value);
    if let Some(wanted) = stapling {
        if development {
            let message =
                "`ocsp_stapling` has no effect: nobody vouches for a certificate for development";
            problems.push(Diagnostic::error(message).at(wanted));
        } else if !identities.is_empty() && !identities.iter().any(Identity::can_be_asked_about) {
            let message = "`ocsp_stapling` has no effect: no certificate says whom to ask, or its authority is not in the chain";
            problems.push(Diagnostic::warning(message).at(wanted));
        }
    }
    if let (true, None, Some(interval)) =
        (development, &tls.client_certificates, &tls.watch_interval)
    {
        let message = "`watch_interval` has no effect: there is no file to look at";
        problems.push(Diagnostic::error(message).at(interval));
    }
}
