//! Certificates that clients show.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest::{Context, SHA256};
use rustls::{
    pki_types::{CertificateRevocationListDer, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::{identity::Digest, pem};

/// Whom clients must be vouched for by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientAuthority {
    pub(crate) ca: PathBuf,
    pub(crate) crl: Option<PathBuf>,
    /// Whether a client without a certificate is refused.
    pub(crate) required: bool,
}

/// What is wrong with a file, as one sentence, and with which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AuthorityFlaw {
    Ca(String),
    Crl(String),
}

impl AuthorityFlaw {
    pub(crate) fn message(&self) -> &str {
        match self {
            Self::Ca(message) | Self::Crl(message) => message,
        }
    }
}

/// What the files held when they were read.
pub(super) struct AuthorityContents {
    ca: Vec<u8>,
    crl: Option<Vec<u8>>,
}

/// How clients are checked.
#[derive(Clone, Debug)]
pub(crate) struct Verifier {
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    pub(super) digest: Digest,
    /// When the list of what is revoked should have been replaced, in seconds since 1970.
    pub(crate) stale_after: Option<i64>,
}

impl ClientAuthority {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// The first thing for which they can't be used.
    pub(crate) fn load(&self) -> Result<Verifier, AuthorityFlaw> {
        self.parse(&self.read()?)
    }

    pub(super) fn read(&self) -> Result<AuthorityContents, AuthorityFlaw> {
        let crl = self.crl.as_deref().map(pem::read);
        Ok(AuthorityContents {
            ca: pem::read(&self.ca).map_err(AuthorityFlaw::Ca)?,
            crl: crl.transpose().map_err(AuthorityFlaw::Crl)?,
        })
    }

    pub(super) fn parse(&self, contents: &AuthorityContents) -> Result<Verifier, AuthorityFlaw> {
        let roots = pem::certificates(&self.ca, &contents.ca)
            .and_then(|certificates| pem::authorities(&certificates))
            .map_err(AuthorityFlaw::Ca)?;
        let path = self.crl.as_deref().unwrap_or_else(|| Path::new(""));
        let lists = contents.crl.as_deref().map(|text| lists(path, text));
        let lists = lists
            .transpose()
            .map_err(AuthorityFlaw::Crl)?
            .unwrap_or_default();
        let stale_after = lists.iter().filter_map(next_update).min();
        let provider = Arc::new(pem::provider());
        let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
        let builder = builder.with_crls(lists);
        let builder = if self.required {
            builder
        } else {
            builder.allow_unauthenticated()
        };
        let verifier = builder.build().map_err(|error| {
            AuthorityFlaw::Crl(format!("`{}` can't be used: {error}", path.display()))
        })?;
        Ok(Verifier {
            verifier,
            digest: contents.digest(),
            stale_after,
        })
    }
}

impl AuthorityContents {
    pub(super) fn digest(&self) -> Digest {
        let mut context = Context::new(&SHA256);
        context.update(&self.ca.len().to_le_bytes());
        context.update(&self.ca);
        context.update(self.crl.as_deref().unwrap_or_default());
        let digest = context.finish();
        digest.as_ref().try_into().unwrap_or_default()
    }
}

/// Lists of what is revoked: any number in PEM form, or one in DER.
fn lists(path: &Path, text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let shown = path.display();
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(text).collect();
    let mut lists =
        lists.map_err(|error| format!("`{shown}` holds no list: {}", pem::said(&error)))?;
    if lists.is_empty() {
        lists.push(text.to_vec().into());
    }
    let readable = |list: &CertificateRevocationListDer<'_>| {
        CertificateRevocationList::from_der(list).is_ok_and(|(rest, _)| rest.is_empty())
    };
    if !lists.iter().all(readable) {
        return Err(format!(
            "`{shown}` holds no list of revoked certificates, or one that can't be read"
        ));
    }
    Ok(lists)
}

fn next_update(list: &CertificateRevocationListDer<'_>) -> Option<i64> {
    let (_, list) = CertificateRevocationList::from_der(list).ok()?;
    Some(list.next_update()?.timestamp())
}
