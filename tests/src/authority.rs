//! Certificates of a test's own.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PublicKeyData, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;

use crate::process;

/// An authority that nobody but the test trusts.
///
/// No two have the same name, so that a certificate of one can't be taken for one of another.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    /// One with a key of its own.
    ///
    /// # Panics
    ///
    /// When its file can't be written.
    #[expect(
        clippy::new_without_default,
        reason = "each one is another: no value is the usual one"
    )]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut params = CertificateParams::default();
        // The name of the folder is unique.
        let name = format!("Authority of {}", folder.path().display());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, key()).expect(SIGNED);
        process::write(&folder.path().join("ca.pem"), issuer.pem().as_bytes());
        Self { issuer, folder }
    }

    /// A certificate of an endpoint with these names, which may be addresses.
    pub fn certificate(&self, names: &[&str]) -> Certificate {
        let params = params(names);
        self.sign(params, names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate of an endpoint that was valid until the year 2001.
    pub fn expired(&self, names: &[&str]) -> Certificate {
        let mut params = params(names);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
        self.sign(params, names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate of a client with this common name.
    pub fn client_certificate(&self, name: &str) -> Certificate {
        let params = params(&[]);
        self.sign(params, &[name], ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A certificate for a key of somebody else, in PEM form.
    pub(crate) fn sign_public(
        &self,
        params: &CertificateParams,
        key: &impl PublicKeyData,
    ) -> String {
        params.signed_by(key, &self.issuer).expect(SIGNED).pem()
    }

    /// The file `ca.pem`, which lives as long as this value.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The text of `ca.pem`.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// What trusts this authority and no other.
    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        let added = roots.add(self.issuer.der().clone());
        added.expect("a certificate that was just made is well-formed");
        Arc::new(roots)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
    ) -> Certificate {
        let name = names.first().copied().unwrap_or("nobody");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = key();
        let signed = params.signed_by(&key, &self.issuer).expect(SIGNED);
        Certificate::write(&self.pem(), &signed, &key)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.folder.path().display())
    }
}

/// A certificate, its key, and the authority that made it, as files that live as long as this value.
#[derive(Debug)]
pub struct Certificate {
    folder: TempDir,
    der: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Certificate {
    /// The file `chain.pem`.
    pub fn chain(&self) -> PathBuf {
        self.folder.path().join("chain.pem")
    }

    /// The file `key.pem`.
    pub fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// The folder with `ca.pem`, `chain.pem` and `key.pem`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The certificate as TLS sends it, and its key.
    pub(crate) fn parts(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (vec![self.der.clone()], self.key.clone_key())
    }

    fn write(ca: &str, signed: &rcgen::Certificate, key: &KeyPair) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let files = [
            ("ca.pem", ca.to_owned()),
            ("chain.pem", signed.pem()),
            ("key.pem", key.serialize_pem()),
        ];
        for (name, text) in files {
            process::write(&folder.path().join(name), text.as_bytes());
        }
        Self {
            folder,
            der: signed.der().clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        }
    }
}

/// The common name of a certificate's owner, of certificates as an [`Authority`] makes them: the
/// last common name in it, since the issuer's comes first.
pub(crate) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    /// The type "common name" as DER; a string follows: its kind, its length in a byte, its text.
    const COMMON_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x03];
    let bytes = certificate.as_ref();
    let here = bytes
        .windows(COMMON_NAME.len())
        .rposition(|window| window == COMMON_NAME)?;
    let (_, string) = bytes.split_at(here + COMMON_NAME.len());
    let [_, length, text @ ..] = string else {
        return None;
    };
    let text = text.get(..usize::from(*length))?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// The implementation of TLS: the one of the gateway.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).expect("names of a test are names of hosts")
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key can be made")
}

const SIGNED: &str = "a certificate of a test can be signed";
