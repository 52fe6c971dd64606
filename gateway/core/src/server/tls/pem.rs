//! Certificates and keys from files in PEM form.

use std::{fs, path::Path};

use rustls::{
    Error, InconsistentKeys, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{Error as PemError, PemObject},
    },
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Reads a whole file.
///
/// # Errors
///
/// A sentence for the operator, as of all in this module.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("can't read `{}`: {error}", path.display()))
}

/// All certificates of a file, at least one, each of which can be read.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    certificates(path, &read(path)?)
}

/// The first private key of a file.
pub(crate) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    key(path, &read(path)?)
}

/// As [`read_certificates`], of a file that has been read.
pub(super) fn certificates(
    path: &Path,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let certificates = certificates
        .map_err(|error| format!("`{shown}` holds no certificates: {}", said(&error)))?;
    if certificates.is_empty() {
        return Err(format!("`{shown}` holds no certificate in PEM form"));
    }
    if !certificates.iter().all(|der| parsed(der).is_some()) {
        return Err(format!("`{shown}` holds a certificate that can't be read"));
    }
    Ok(certificates)
}

/// What stands in a certificate; none if it can't be read, or if something follows it.
pub(crate) fn parsed<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    rest.is_empty().then_some(certificate)
}

/// What trusts those whom these certificates vouch for.
pub(crate) fn authorities(
    certificates: &[CertificateDer<'static>],
) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for certificate in certificates {
        let added = store.add(certificate.clone());
        added.map_err(|error| format!("a certificate can't be an authority: {error}"))?;
    }
    Ok(store)
}

/// As [`read_key`], of a file that has been read.
pub(super) fn key(path: &Path, text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let shown = path.display();
    PrivateKeyDer::from_pem_slice(text).map_err(|error| {
        let marks = ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"];
        let found = |mark: &&str| memchr::memmem::find(text, mark.as_bytes()).is_some();
        if marks.iter().any(found) {
            return format!(
                "the key in `{shown}` is encrypted: write it without a passphrase by `openssl pkey -in {shown} -out NEW`"
            );
        }
        format!("`{shown}` holds no private key in PEM form: {}", said(&error))
    })
}

/// What is wrong with a text in PEM form.
pub(super) fn said(error: &PemError) -> String {
    match error {
        PemError::MissingSectionEnd { .. } => "the end of a section is missing".to_owned(),
        PemError::IllegalSectionStart { .. } => "a section begins wrongly".to_owned(),
        PemError::Base64Decode(_) => "a section is not in base64".to_owned(),
        PemError::NoItemsFound => "there is none".to_owned(),
        error => error.to_string(),
    }
}

/// The certificate with its key, if they belong together.
pub(crate) fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, String> {
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "the key does not fit the certificate: it belongs to another one".to_owned()
        }
        error => format!("the key does not fit the certificate: {error}"),
    })
}

/// The cryptography that all TLS of the gateway uses.
pub(crate) fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}
