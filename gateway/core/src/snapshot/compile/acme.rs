//! Certificates that authorities make, from what is written of them.

use std::collections::HashMap;

use super::Compiler;
use crate::{
    config::{
        At, Entries, ListenAddress, Listener,
        acme::{Acme, Challenge, Domain, Domains},
        diagnostic::{Diagnostic, Problems},
        document::NodeId,
        tls::CertificateName,
    },
    server::{
        acme::{AcmeSpec, Authority, state_folder},
        tls::pem,
    },
};

/// The ports at which authorities look (RFC 8555, 8.3; RFC 8737, 3).
const HTTP: u16 = 80;
const HTTPS: u16 = 443;

/// Where an authority could look, besides the listener itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doors {
    /// Whether there is a listener for HTTP without TLS.
    plain: bool,
    /// Whether it has the port at which authorities look.
    plain_port: bool,
}

impl Doors {
    pub(super) fn of(listeners: &Entries<Listener>) -> Self {
        let answers = |listener: &Listener| listener.tls.is_none() && listener.tcp.is_none();
        let plain = listeners.iter().filter(|(_, listener)| answers(listener));
        let ports: Vec<_> = plain
            .map(|(_, listener)| port(&listener.bind.value))
            .collect();
        Self {
            plain: !ports.is_empty(),
            plain_port: ports.contains(&Some(HTTP)),
        }
    }

    /// How an authority can be shown that a name is ours, as far as the ports tell. Where they are others than those
    /// at which authorities look, something in between may change them.
    fn challenge(self, own: &ListenAddress) -> Challenge {
        if port(own) != Some(HTTPS) && self.plain_port {
            Challenge::Http01
        } else {
            Challenge::TlsAlpn01
        }
    }
}

fn port(address: &ListenAddress) -> Option<u16> {
    match address {
        ListenAddress::Tcp(address) => Some(address.port()),
        ListenAddress::Unix(_) | ListenAddress::Systemd(_) => None,
    }
}

/// What is wanted of an authority for a listener; nothing if something in it is wrong, which has been told then. Asks
/// nobody.
pub(super) fn compile(
    compiler: Compiler<'_>,
    written: &At<Acme>,
    own: &ListenAddress,
    doors: Doors,
    problems: &mut Problems,
) -> Vec<AcmeSpec> {
    let before = problems.errors();
    let acme = &written.value;
    let groups = groups(&acme.domains, problems);
    let ca = acme.directory_ca.as_ref().and_then(|ca| {
        let certificates = pem::read_certificates(&compiler.folder.join(&ca.value.0));
        let usable = certificates.and_then(|all| pem::authorities(&all).map(|_| all));
        let usable = usable.map_err(|message| problems.push(Diagnostic::error(message).at(ca)));
        usable.ok()
    });
    if let Some(challenge) = &acme.challenge
        && challenge.value == Challenge::Http01
        && !doors.plain
    {
        let message = "no authority could look by `http-01`: there is no listener without TLS";
        let help = "add one such as `http: { bind: \":80\" }`, or write `challenge: tls-alpn-01`";
        problems.push(Diagnostic::error(message).at(challenge).help(help));
    }
    if let Some(before) = &acme.renew_before
        && before.value.0.as_secs() == 0
    {
        let message = "with less than a second left a certificate is not renewed in time";
        problems.push(Diagnostic::error(message).at(before));
    }
    let written_state = acme
        .state
        .as_ref()
        .map(|state| compiler.folder.join(&state.0));
    let Some(state) = written_state.or_else(state_folder) else {
        let message =
            "there is no folder for the certificates: neither `STATE_DIRECTORY` nor `HOME` is set";
        let help = "write `state: /var/lib/edgeway/acme`";
        problems.push(Diagnostic::error(message).at(written).help(help));
        return Vec::new();
    };
    if problems.errors() > before {
        return Vec::new();
    }
    let authority = Authority {
        directory: acme.directory.0.clone(),
        ca: ca.map(Into::into),
        email: acme.email.as_ref().map(|email| email.0.clone()),
        external_account: acme.external_account.clone(),
    };
    let challenge = acme.challenge.as_ref().map(|challenge| challenge.value);
    let challenge = challenge.unwrap_or_else(|| doors.challenge(own));
    let spec = |names: Vec<CertificateName>| AcmeSpec {
        authority: authority.clone(),
        names: names.into(),
        challenge,
        renew_before: acme.renew_before.as_ref().map(|before| before.value.0),
        state: state.clone(),
    };
    groups.into_iter().map(spec).collect()
}

/// The names of each certificate, sorted.
fn groups(domains: &At<Vec<At<Domains>>>, problems: &mut Problems) -> Vec<Vec<CertificateName>> {
    if domains.value.is_empty() {
        let message = "there is no domain to get a certificate for";
        problems.push(Diagnostic::error(message).at(domains));
    }
    let mut seen = HashMap::new();
    let mut take = |Domain(known): &Domain, node: NodeId, problems: &mut Problems| {
        if let Some(first) = seen.insert(known.host.clone(), node) {
            let message = format!("`{known}` is here twice");
            let error = Diagnostic::error(message).at(node);
            problems.push(error.also(first, "the other one"));
        }
        known.clone()
    };
    let mut alone = Vec::new();
    let mut groups = Vec::new();
    for one in &domains.value {
        match &one.value {
            Domains::One(name) => alone.push(take(name, one.node, problems)),
            Domains::Group(names) if names.is_empty() => {
                let message = "there is no domain to get a certificate for";
                problems.push(Diagnostic::error(message).at(one));
            }
            Domains::Group(names) => {
                let names = names.iter();
                groups.push(
                    names
                        .map(|name| take(&name.value, name.node, problems))
                        .collect(),
                );
            }
        }
    }
    if let (Some(stray), false) = (alone.first(), groups.is_empty()) {
        let message = format!(
            "`{stray}` is in no list, and others are: it is not clear which names share a certificate"
        );
        let help = "write either names, which share one, or a list of names for each certificate";
        problems.push(Diagnostic::error(message).at(domains).help(help));
    }
    if !alone.is_empty() {
        groups.push(alone);
    }
    for group in &mut groups {
        group.sort_by(|one: &CertificateName, other| one.host.cmp(&other.host));
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_look_by_http_only_where_nothing_else_can_be_meant() {
        let none = Doors {
            plain: false,
            plain_port: false,
        };
        let elsewhere = Doors {
            plain: true,
            ..none
        };
        let both = Doors {
            plain: true,
            plain_port: true,
        };
        for (doors, own, challenge) in [
            (none, "0.0.0.0:8443", Challenge::TlsAlpn01),
            (elsewhere, "0.0.0.0:8443", Challenge::TlsAlpn01),
            (both, "0.0.0.0:8443", Challenge::Http01),
            (both, "systemd:https", Challenge::Http01),
            (both, "0.0.0.0:443", Challenge::TlsAlpn01),
            (both, ":443", Challenge::TlsAlpn01),
        ] {
            let own = own.parse().unwrap();
            assert_eq!(doors.challenge(&own), challenge, "{doors:?} {own:?}");
        }
    }
}
