//! TLS towards endpoints, from what is written of it.

use std::{
    fs,
    hash::{Hash, Hasher},
    path::Path,
    sync::Arc,
};

use ahash::AHasher;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Compiler;
use crate::{
    config::{
        At, UpstreamTls,
        diagnostic::{Diagnostic, Problems},
    },
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
        let certificates = read_certificates(&compiler.folder.join(&ca.value.0))
            .and_then(trustworthy)
            .map_err(|message| problems.push(Diagnostic::error(message).at(ca)));
        certificates.ok()
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
    let chain = read_certificates(&compiler.folder.join(&certificate.value.0))
        .map_err(|message| problems.push(Diagnostic::error(message).at(certificate)));
    let secret = read_key(&compiler.folder.join(&key.value.0))
        .map_err(|message| problems.push(Diagnostic::error(message).at(key)));
    let (chain, secret) = (chain.ok()?, secret.ok()?);
    match fits(&chain, &secret) {
        Ok(()) => Some((chain, secret.secret_der().to_vec())),
        Err(message) => {
            problems.push(Diagnostic::error(message).at(key));
            None
        }
    }
}

fn read_certificates(path: &Path) -> Result<Vec<Der>, String> {
    let shown = path.display();
    let text = fs::read(path).map_err(|error| format!("can't read `{shown}`: {error}"))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates =
        certificates.map_err(|error| format!("`{shown}` holds no certificates: {error}"))?;
    if certificates.is_empty() {
        return Err(format!("`{shown}` holds no certificate in PEM form"));
    }
    // Pingora reads them again, and panics if it can't.
    let readable = |der: &CertificateDer<'_>| {
        X509Certificate::from_der(der).is_ok_and(|(rest, _)| rest.is_empty())
    };
    if !certificates.iter().all(readable) {
        return Err(format!("`{shown}` holds a certificate that can't be read"));
    }
    Ok(certificates.iter().map(|der| der.to_vec()).collect())
}

/// The certificates, if each can vouch for others.
fn trustworthy(certificates: Vec<Der>) -> Result<Vec<Der>, String> {
    let mut store = RootCertStore::empty();
    for der in &certificates {
        let added = store.add(CertificateDer::from(der.as_slice()));
        added.map_err(|error| format!("a certificate can't be an authority: {error}"))?;
    }
    Ok(certificates)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let shown = path.display();
    let text = fs::read(path).map_err(|error| format!("can't read `{shown}`: {error}"))?;
    PrivateKeyDer::from_pem_slice(&text)
        .map_err(|error| format!("`{shown}` holds no private key in PEM form: {error}"))
}

/// Whether the key is that of the certificate.
fn fits(chain: &[Der], key: &PrivateKeyDer<'static>) -> Result<(), String> {
    let chain = chain
        .iter()
        .map(|der| CertificateDer::from(der.clone()))
        .collect();
    let config = ClientConfig::builder()
        .with_root_certificates(RootCertStore::empty())
        .with_client_auth_cert(chain, key.clone_key());
    config
        .map(drop)
        .map_err(|error| format!("the key does not fit the certificate: {error}"))
}

fn wrapped(certificates: &[Der]) -> Arc<[WrappedX509]> {
    let wrap = |der: &Der| WrappedX509::new(der.clone(), parse_x509);
    certificates.iter().map(wrap).collect()
}
