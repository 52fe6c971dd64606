//! TLS towards endpoints, from what is written of it.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use ahash::AHasher;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls::pki_types::{CertificateDer, ServerName};

use super::Compiler;
use crate::{
    config::{
        At, UpstreamTls,
        diagnostic::{Diagnostic, Problems},
    },
    server::tls::pem,
    upstream::Tls,
};

/// TLS as the upstream wants it; none if something in it is wrong, which has been told then.
pub(super) fn compile(
    compiler: Compiler<'_>,
    written: &At<UpstreamTls>,
    problems: &mut Problems,
) -> Option<Tls> {
    let before = problems.errors();
    let tls = &written.value;
    let mut hasher = AHasher::default();
    let name = tls.name.as_ref().map(|name| {
        valid_name(name, problems);
        name.value.clone()
    });
    let verify = tls.verify.as_ref().is_none_or(|verify| verify.value);
    if let (false, Some(ca)) = (verify, &tls.ca) {
        let message = "`ca` has no effect: with `verify: false` any certificate is believed";
        problems.push(Diagnostic::error(message).at(ca));
    }
    let ca = tls.ca.as_ref().and_then(|ca| {
        // Pingora reads them again, and panics if it can't.
        let certificates = pem::read_certificates(&compiler.folder.join(&ca.value.0))
            .and_then(|certificates| pem::authorities(&certificates).map(|_| certificates))
            .map_err(|message| problems.push(Diagnostic::error(message).at(ca)));
        certificates.ok().map(|certificates| plain(&certificates))
    });
    let identity = identity(compiler, written, problems);
    (&name, verify).hash(&mut hasher);
    for certificate in ca.iter().flatten() {
        certificate.hash(&mut hasher);
    }
    if let Some((chain, key)) = &identity {
        (chain, key).hash(&mut hasher);
    }
    (problems.errors() == before).then(|| Tls {
        name,
        verify,
        ca: ca.map(|certificates| wrapped(&certificates)),
        identity: identity.map(|(chain, key)| Arc::new(CertKey::new(chain, key))),
        fingerprint: hasher.finish(),
    })
}

fn valid_name(name: &At<String>, problems: &mut Problems) {
    if ServerName::try_from(name.value.as_str()).is_err() {
        let message = format!(
            "expected the name or the address that a certificate is for, such as `app.internal`, found `{}`",
            name.value
        );
        problems.push(Diagnostic::error(message).at(name));
    }
}

type Der = Vec<u8>;

/// Our own certificate, with its chain, and its key.
fn identity(
    compiler: Compiler<'_>,
    written: &At<UpstreamTls>,
    problems: &mut Problems,
) -> Option<(Vec<Der>, Der)> {
    let (certificate, key) = match (&written.value.certificate, &written.value.key) {
        (None, None) => return None,
        (Some(certificate), Some(key)) => (certificate, key),
        (Some(alone), None) | (None, Some(alone)) => {
            let message = "`certificate` and `key` belong together: one of them is missing";
            problems.push(Diagnostic::error(message).at(alone));
            return None;
        }
    };
    let chain = pem::read_certificates(&compiler.folder.join(&certificate.value.0))
        .map_err(|message| problems.push(Diagnostic::error(message).at(certificate)));
    let secret = pem::read_key(&compiler.folder.join(&key.value.0))
        .map_err(|message| problems.push(Diagnostic::error(message).at(key)));
    let (chain, secret) = (chain.ok()?, secret.ok()?);
    let der = (plain(&chain), secret.secret_der().to_vec());
    match pem::certified(chain, secret) {
        Ok(_) => Some(der),
        Err(message) => {
            problems.push(Diagnostic::error(message).at(key));
            None
        }
    }
}

fn plain(certificates: &[CertificateDer<'_>]) -> Vec<Der> {
    certificates.iter().map(|der| der.to_vec()).collect()
}

fn wrapped(certificates: &[Der]) -> Arc<[WrappedX509]> {
    let wrap = |der: &Der| WrappedX509::new(der.clone(), parse_x509);
    certificates.iter().map(wrap).collect()
}
