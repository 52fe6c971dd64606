//! What certificates a listener shows, for operators.

use rustls::pki_types::CertificateDer;

use super::{
    Terminator, now, pem,
    spec::Source,
    watch::{Keeper, Kept},
};

/// A certificate in use. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// As clients ask for it.
    pub(crate) names: Vec<String>,
    pub(crate) issuer: String,
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    pub(crate) origin: Origin,
    /// From when and until when the proof that it is not revoked holds, if one is sent along.
    pub(crate) proof: Option<(i64, i64)>,
}

/// Where a certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The file of the chain.
    File(String),
    /// An authority makes it.
    Acme,
    /// It was made here, for development.
    Development,
}

impl Terminator {
    /// All certificates, as they are now.
    pub(crate) fn shown(&self) -> Vec<Shown> {
        let keeper = self.keeper();
        let origin = |place: usize| match &self.rules.certificates {
            _ if place >= keeper.own => Origin::Acme,
            Source::Files(files) => match files.get(place) {
                Some(files) => Origin::File(files.chain.display().to_string()),
                None => Origin::Acme,
            },
            Source::Development(_) => Origin::Development,
        };
        let kept = keeper.kept.iter().enumerate();
        kept.map(|(place, kept)| shown(kept, origin(place)))
            .collect()
    }

    /// Names for which an authority has yet to make a certificate.
    pub(crate) fn awaited(&self) -> Vec<String> {
        let keeper: &Keeper = &self.keeper();
        keeper.pending().iter().map(ToString::to_string).collect()
    }
}

fn shown(kept: &Kept, origin: Origin) -> Shown {
    let identity = &kept.identity;
    let proof = kept.proof(now());
    Shown {
        names: identity.names.iter().map(ToString::to_string).collect(),
        issuer: identity
            .certified
            .cert
            .first()
            .map_or_else(String::new, issuer),
        not_before: identity.not_before,
        not_after: identity.not_after,
        origin,
        proof: proof.map(|proof| (proof.since, proof.until)),
    }
}

fn issuer(certificate: &CertificateDer<'_>) -> String {
    let parsed = pem::parsed(certificate);
    parsed.map_or_else(String::new, |parsed| parsed.issuer().to_string())
}
