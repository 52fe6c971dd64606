//! A certificate that listeners show, with its key and what is to be known of it.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest::{Context, SHA256};
use rustls::{SignatureAlgorithm, sign::CertifiedKey};
use x509_parser::{
    extensions::GeneralName, prelude::X509Certificate, public_key::PublicKey, x509::X509Name,
};

use super::{ocsp, pem};
use crate::config::tls::CertificateName;

/// The shortest key of RSA that is not broken by those who can pay for it, in bits.
const SHORTEST_RSA: usize = 2048;

/// Where a certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    /// An answer of the authority, if somebody else keeps one.
    pub(crate) ocsp: Option<PathBuf>,
    /// Instead of those in the certificate.
    pub(crate) names: Option<Vec<CertificateName>>,
}

/// Which of the files something is said of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Chain,
    Key,
    Ocsp,
}

/// What is wrong with a file, as one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(crate) part: Part,
    pub(crate) message: String,
}

impl Part {
    fn flaw(self, message: impl Into<String>) -> Flaw {
        Flaw {
            part: self,
            message: message.into(),
        }
    }
}

/// What files held when they were read.
pub(super) struct Contents {
    chain: Vec<u8>,
    key: Vec<u8>,
    ocsp: Option<Vec<u8>>,
}

/// Two contents with the same one are the same.
pub(super) type Digest = [u8; 32];

impl Files {
    /// Reads the certificate and all that belongs to it.
    ///
    /// # Errors
    ///
    /// The first thing for which it can't be used.
    pub(crate) fn load(&self) -> Result<Identity, Flaw> {
        self.parse(self.read()?)
    }

    pub(super) fn read(&self) -> Result<Contents, Flaw> {
        let of = |path: &Path, part: Part| pem::read(path).map_err(|message| part.flaw(message));
        let ocsp = self.ocsp.as_deref().map(|path| of(path, Part::Ocsp));
        Ok(Contents {
            chain: of(&self.chain, Part::Chain)?,
            key: of(&self.key, Part::Key)?,
            ocsp: ocsp.transpose()?,
        })
    }

    /// Reads texts as if they were those of the files.
    pub(super) fn parse_texts(&self, chain: Vec<u8>, key: Vec<u8>) -> Result<Identity, Flaw> {
        let ocsp = None;
        self.parse(Contents { chain, key, ocsp })
    }

    pub(super) fn parse(&self, contents: Contents) -> Result<Identity, Flaw> {
        let digest = contents.digest();
        let chain = pem::certificates(&self.chain, &contents.chain)
            .map_err(|message| Part::Chain.flaw(message))?;
        let key = pem::key(&self.key, &contents.key).map_err(|message| Part::Key.flaw(message))?;
        weak(&chain)?;
        let certified = pem::certified(chain, key).map_err(|message| Part::Key.flaw(message))?;
        let identity = Identity::new(certified, digest, self.names.as_deref())?;
        identity.with_answer(contents.ocsp)
    }
}

impl Contents {
    pub(super) fn digest(&self) -> Digest {
        let mut context = Context::new(&SHA256);
        for part in [Some(&self.chain), Some(&self.key), self.ocsp.as_ref()] {
            // With its length, so that what is moved from one to the next is seen.
            let part = part.map_or(&[][..], Vec::as_slice);
            context.update(&part.len().to_le_bytes());
            context.update(part);
        }
        let digest = context.finish();
        digest.as_ref().try_into().unwrap_or_default()
    }
}

/// A certificate with its key.
pub(crate) struct Identity {
    pub(super) certified: Arc<CertifiedKey>,
    /// What it is shown for.
    pub(crate) names: Box<[CertificateName]>,
    /// Those of `names` for which clients will refuse it, since they are not in it.
    pub(crate) foreign: Box<[CertificateName]>,
    /// Seconds since 1970.
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    pub(super) digest: Digest,
    /// Whom to ask whether it is revoked.
    pub(super) responder: Option<ocsp::Question>,
    /// The answer of the file.
    pub(super) answer: Option<ocsp::Answer>,
    /// Whether a certificate in the chain was not signed by the next one.
    pub(crate) disordered: bool,
}

impl Identity {
    pub(super) fn new(
        certified: CertifiedKey,
        digest: Digest,
        written: Option<&[CertificateName]>,
    ) -> Result<Self, Flaw> {
        let unreadable = || Part::Chain.flaw("a certificate can't be read");
        let leaf = certified.cert.first().ok_or_else(unreadable)?;
        let parsed = pem::parsed(leaf).ok_or_else(unreadable)?;
        let own = names_in(&parsed);
        let names = written.map_or_else(|| own.clone(), <[_]>::to_vec);
        let covered = |name: &CertificateName| own.iter().any(|one| one.covers(name));
        let foreign = names
            .iter()
            .filter(|name| !covered(name))
            .cloned()
            .collect();
        let validity = parsed.validity();
        let (not_before, not_after) = (
            validity.not_before.timestamp(),
            validity.not_after.timestamp(),
        );
        Ok(Self {
            names: names.into(),
            foreign,
            not_before,
            not_after,
            digest,
            responder: ocsp::Question::about(&certified.cert),
            answer: None,
            disordered: disordered(&certified),
            certified: Arc::new(certified),
        })
    }

    /// With an answer of the authority that was in a file.
    fn with_answer(mut self, der: Option<Vec<u8>>) -> Result<Self, Flaw> {
        if let Some(der) = der {
            let question = ocsp::Question::about_nobody_to_ask(&self.certified.cert);
            let question = question.ok_or_else(|| {
                Part::Ocsp.flaw(
                    "the chain lacks the certificate of the authority that must have signed this",
                )
            })?;
            let answer = question.judge(&der);
            self.answer = Some(answer.map_err(|message| Part::Ocsp.flaw(message))?);
        }
        Ok(self)
    }

    /// What its signatures are made by.
    pub(crate) fn algorithm(&self) -> SignatureAlgorithm {
        self.certified.key.algorithm()
    }

    /// Whether somebody can be asked for a proof that it is not revoked.
    pub(crate) fn can_be_asked_about(&self) -> bool {
        self.responder.is_some()
    }

    /// Whether the answer of the file is too old.
    pub(crate) fn proof_has_expired(&self, now: i64) -> bool {
        self.answer
            .as_ref()
            .is_some_and(|answer| answer.until <= now)
    }

    /// For logs: the first name, or what the owner is called.
    pub(super) fn label(&self) -> String {
        if let Some(first) = self.names.first() {
            return first.to_string();
        }
        let leaf = self.certified.cert.first().and_then(|der| pem::parsed(der));
        leaf.map_or_else(String::new, |leaf| leaf.subject().to_string())
    }
}

/// Without the key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            names, not_after, ..
        } = self;
        write!(f, "Identity({names:?}, until {not_after})")
    }
}

/// The names of hosts in a certificate. Its addresses are left out: clients that use one send no name.
fn names_in(certificate: &X509Certificate<'_>) -> Vec<CertificateName> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative.map(|extension| &extension.value.general_names);
    let host = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(host) => host.parse().ok(),
        _ => None,
    };
    names.into_iter().flatten().filter_map(host).collect()
}

fn weak(chain: &[rustls::pki_types::CertificateDer<'static>]) -> Result<(), Flaw> {
    let leaf = chain.first().and_then(|der| pem::parsed(der));
    let Some(Ok(PublicKey::RSA(rsa))) = leaf.as_ref().map(|leaf| leaf.public_key().parsed()) else {
        return Ok(());
    };
    let bits = rsa.key_size();
    if bits < SHORTEST_RSA {
        return Err(Part::Key.flaw(format!(
            "the key has {bits} bits: with less than {SHORTEST_RSA} RSA is too weak"
        )));
    }
    Ok(())
}

fn disordered(certified: &CertifiedKey) -> bool {
    let chain: Vec<_> = certified
        .cert
        .iter()
        .filter_map(|der| pem::parsed(der))
        .collect();
    let raw = |name: &X509Name<'_>| name.as_raw().to_vec();
    chain
        .windows(2)
        .any(|pair| matches!(pair, [one, next] if raw(one.issuer()) != raw(next.subject())))
}
