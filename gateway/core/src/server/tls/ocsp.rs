//! The proof that a certificate is not revoked (OCSP, RFC 6960), which is sent along with it.
//!
//! The authority is asked now and then, by whoever tends the listener; clients never wait for it, and
//! an authority that is down costs nothing but the proof.

mod fetch;

use std::{fmt, sync::Arc};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use http::Uri;
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm};
use x509_parser::{
    extensions::{GeneralName, ParsedExtension},
    oid_registry::OID_PKIX_ACCESS_DESCRIPTOR_OCSP,
    prelude::{ASN1Time, FromDer, X509Certificate},
};

use super::{
    der::{
        BIT_STRING, ENUMERATED, GENERALIZED_TIME, INTEGER, OCTETS, OID, Reader, SEQUENCE, element,
        explicit,
    },
    pem,
};

/// SHA-1 as an algorithm: what every authority knows. It names certificates here, and protects nothing.
const SHA1: &[u8] = &[
    SEQUENCE, 9, OID, 5, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00,
];

/// The kind of an answer that everybody gives: id-pkix-ocsp-basic.
const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];

/// What is asked about a certificate, and whom.
#[derive(Clone)]
pub(super) struct Question {
    /// None if there is nobody to ask.
    responder: Option<Uri>,
    /// What the question is about, as it must be repeated in the answer: a `CertID`.
    id: Arc<[u8]>,
    issuer: CertificateDer<'static>,
}

/// A proof that a certificate was good.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// As it is sent along.
    pub(super) der: Arc<[u8]>,
    /// From when and until when it holds, in seconds since 1970.
    pub(super) since: i64,
    pub(super) until: i64,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { since, until, .. } = self;
        write!(f, "Answer({since}..{until})")
    }
}

impl Question {
    /// About the first certificate of a chain; none if it names nobody to ask, or if its authority is
    /// not in the chain.
    pub(super) fn about(chain: &[CertificateDer<'static>]) -> Option<Self> {
        let mut question = Self::about_nobody_to_ask(chain)?;
        let leaf = chain.first().and_then(|der| pem::parsed(der))?;
        question.responder = Some(responder(&leaf)?);
        Some(question)
    }

    /// The same for who has an answer already.
    pub(super) fn about_nobody_to_ask(chain: &[CertificateDer<'static>]) -> Option<Self> {
        let [leaf, issuer, ..] = chain else {
            return None;
        };
        let (parsed, authority) = (pem::parsed(leaf)?, pem::parsed(issuer)?);
        let name = digest(&SHA1_FOR_LEGACY_USE_ONLY, authority.subject().as_raw());
        let key = &authority.public_key().subject_public_key.data;
        let key = digest(&SHA1_FOR_LEGACY_USE_ONLY, key);
        let id = element(
            SEQUENCE,
            &[
                SHA1,
                &element(OCTETS, &[name.as_ref()]),
                &element(OCTETS, &[key.as_ref()]),
                &element(INTEGER, &[parsed.raw_serial()]),
            ],
        );
        Some(Self {
            responder: None,
            id: id.into(),
            issuer: issuer.clone(),
        })
    }

    /// What the question is about.
    #[cfg(test)]
    pub(super) fn id(&self) -> &[u8] {
        &self.id
    }

    /// As it is sent: an `OCSPRequest` without anything that is optional.
    fn encode(&self) -> Vec<u8> {
        let request = element(SEQUENCE, &[&self.id]);
        let list = element(SEQUENCE, &[&request]);
        let unsigned = element(SEQUENCE, &[&list]);
        element(SEQUENCE, &[&unsigned])
    }

    /// Whether an answer is one to this question, is signed by who may, and is good news.
    ///
    /// # Errors
    ///
    /// A sentence for the operator.
    pub(super) fn judge(&self, der: &[u8]) -> Result<Answer, String> {
        let answer = signed(der)?;
        let issuer = pem::parsed(&self.issuer).ok_or("the authority can't be read")?;
        answer.signed_by(&issuer)?;
        let single = answer
            .about(&self.id)
            .ok_or("the answer is not about this certificate")?;
        single.judge(der)
    }
}

/// Where the authority of a certificate answers.
fn responder(leaf: &X509Certificate<'_>) -> Option<Uri> {
    let access =
        leaf.iter_extensions()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityInfoAccess(access) => Some(access),
                _ => None,
            })?;
    let mut places = access
        .iter()
        .filter(|one| one.access_method == OID_PKIX_ACCESS_DESCRIPTOR_OCSP);
    places.find_map(|one| match &one.access_location {
        GeneralName::URI(uri) => {
            let uri: Uri = uri.parse().ok()?;
            // In the clear: what is said is signed, and TLS would ask for another proof.
            (uri.scheme_str() == Some("http") && uri.host().is_some()).then_some(uri)
        }
        _ => None,
    })
}

/// The parts of an answer.
struct Signed<'a> {
    data: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
    certificates: Reader<'a>,
    singles: Reader<'a>,
}

fn signed(der: &[u8]) -> Result<Signed<'_>, String> {
    let unreadable = || "the answer can't be read".to_owned();
    let mut response = Reader(der).inside(SEQUENCE).ok_or_else(unreadable)?;
    let status = response.take(ENUMERATED).ok_or_else(unreadable)?;
    match status.content {
        [0] => {}
        [1] => return Err("the authority could not read the question".to_owned()),
        [2] | [3] => {
            return Err("the authority has a problem, or wants to be asked later".to_owned());
        }
        _ => return Err("the authority refuses to answer".to_owned()),
    }
    basic(response).ok_or_else(unreadable)
}

fn basic(mut response: Reader<'_>) -> Option<Signed<'_>> {
    let mut bytes = response.inside(explicit(0))?.inside(SEQUENCE)?;
    bytes.take(OID).filter(|kind| kind.content == BASIC)?;
    let mut basic = bytes.inside(OCTETS)?.inside(SEQUENCE)?;
    let data = basic.take(SEQUENCE)?;
    let algorithm = basic.take(SEQUENCE)?.content;
    let [0, signature @ ..] = basic.take(BIT_STRING)?.content else {
        return None;
    };
    let certificates = basic
        .inside(explicit(0))
        .and_then(|mut all| all.inside(SEQUENCE));
    let mut fields = Reader(data.content);
    fields.take(explicit(0));
    // Who says it: the signature will show.
    fields.next()?;
    fields.take(GENERALIZED_TIME)?;
    Some(Signed {
        data: data.whole,
        algorithm,
        signature,
        certificates: certificates.unwrap_or(Reader(&[])),
        singles: fields.inside(SEQUENCE)?,
    })
}

impl<'a> Signed<'a> {
    /// Whether the issuer has signed it, or somebody whom the issuer has named for that.
    fn signed_by(&self, issuer: &X509Certificate<'_>) -> Result<(), String> {
        if verifies(issuer, self.data, self.algorithm, self.signature) {
            return Ok(());
        }
        let mut certificates = self.certificates;
        while let Some(element) = certificates.next() {
            let Ok((_, delegate)) = X509Certificate::from_der(element.whole) else {
                continue;
            };
            if is_delegate(&delegate, element.whole, issuer)
                && verifies(&delegate, self.data, self.algorithm, self.signature)
            {
                return Ok(());
            }
        }
        Err("the answer is not signed by the authority".to_owned())
    }

    /// The part about a certificate.
    fn about(&self, id: &[u8]) -> Option<Single> {
        let mut singles = self.singles;
        while let Some(mut single) = singles.inside(SEQUENCE) {
            if single.take(SEQUENCE)?.whole != id {
                continue;
            }
            let status = single.next()?.tag;
            let since = time(single.take(GENERALIZED_TIME)?.whole)?;
            let until = single.inside(explicit(0)).map(|next| next.0);
            return Some(Single {
                status,
                since,
                until: until.and_then(time),
            });
        }
        None
    }
}

/// Whether a certificate is for answering on behalf of the issuer, now.
fn is_delegate(delegate: &X509Certificate<'_>, der: &[u8], issuer: &X509Certificate<'_>) -> bool {
    let usage = delegate.extended_key_usage().ok().flatten();
    usage.is_some_and(|usage| usage.value.ocsp_signing)
        && delegate.validity().is_valid()
        && delegate.issuer().as_raw() == issuer.subject().as_raw()
        && signature_of(der).is_some_and(|(signed, algorithm, signature)| {
            verifies(issuer, signed, algorithm, signature)
        })
}

/// What is signed of a certificate, by which algorithm, and the signature.
fn signature_of(der: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let mut parts = Reader(der).inside(SEQUENCE)?;
    let signed = parts.take(SEQUENCE)?.whole;
    let algorithm = parts.take(SEQUENCE)?.content;
    match parts.take(BIT_STRING)?.content {
        [0, signature @ ..] => Some((signed, algorithm, signature)),
        _ => None,
    }
}

/// Whether a signature over `data` is that of a certificate's key.
fn verifies(
    certificate: &X509Certificate<'_>,
    data: &[u8],
    algorithm: &[u8],
    signature: &[u8],
) -> bool {
    let key = certificate.public_key();
    let spki = Reader(key.raw).inside(SEQUENCE);
    let Some(kind) = spki.and_then(|mut spki| spki.take(SEQUENCE)) else {
        return false;
    };
    let fits = |one: &&&dyn SignatureVerificationAlgorithm| {
        *one.public_key_alg_id() == *kind.content && *one.signature_alg_id() == *algorithm
    };
    let algorithms = pem::provider().signature_verification_algorithms.all;
    let mut fitting = algorithms.iter().filter(fits);
    fitting.any(|one| {
        let public = &key.subject_public_key.data;
        one.verify_signature(public, data, signature).is_ok()
    })
}

/// What is said of one certificate.
struct Single {
    /// `[0]` good, `[1]` revoked, `[2]` unknown.
    status: u8,
    since: i64,
    until: Option<i64>,
}

impl Single {
    fn judge(self, der: &[u8]) -> Result<Answer, String> {
        const GOOD: u8 = 0x80;
        const REVOKED: u8 = 0xa1;
        match self.status {
            GOOD => {}
            REVOKED => return Err("the certificate is revoked".to_owned()),
            _ => return Err("the authority does not know the certificate".to_owned()),
        }
        let until = self
            .until
            .ok_or("the answer does not say until when it holds")?;
        if until <= self.since {
            return Err("the answer ends before it begins".to_owned());
        }
        Ok(Answer {
            der: der.into(),
            since: self.since,
            until,
        })
    }
}

fn time(der: &[u8]) -> Option<i64> {
    let (_, time) = ASN1Time::from_der(der).ok()?;
    Some(time.timestamp())
}

#[cfg(test)]
mod tests;
