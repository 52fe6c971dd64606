//! From the request that a key be certified to the certificate.

use std::{collections::BTreeSet, time::SystemTime};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rcgen::{
    CertificateParams, DistinguishedName, PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber,
    SignatureAlgorithm,
};
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

use crate::authority::Authority;

/// A request whose signature is right.
pub(super) struct Csr {
    pub(super) names: BTreeSet<String>,
    key: Vec<u8>,
}

impl Csr {
    pub(super) fn parse(der: &[u8]) -> Result<Self, String> {
        let parsed = X509CertificationRequest::from_der(der);
        let (rest, request) = parsed.map_err(|error| format!("no request: {error}"))?;
        if !rest.is_empty() {
            return Err("something follows the request".to_owned());
        }
        let info = &request.certification_request_info;
        let key = info.subject_pki.subject_public_key.data.to_vec();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key)
            .verify(info.raw, &request.signature_value.data)
            .map_err(|_| "the request is not signed by its key".to_owned())?;
        let extensions = request.requested_extensions().into_iter().flatten();
        let names = extensions.filter_map(|extension| match extension {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        });
        let names = names.flatten().map(|name| match name {
            GeneralName::DNSName(name) => Ok((*name).to_owned()),
            other => Err(format!("{other} is no name of a host")),
        });
        Ok(Self {
            names: names.collect::<Result<_, _>>()?,
            key,
        })
    }

    /// Signs it for these names, until then. The chain, in PEM form.
    pub(super) fn sign(
        &self,
        authority: &Authority,
        serial: u64,
        names: &[String],
        (from, until): (SystemTime, SystemTime),
    ) -> String {
        let params = CertificateParams::new(names.to_vec());
        let mut params = params.expect("names that were looked at are names of hosts");
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_before = from.into();
        params.not_after = until.into();
        params.use_authority_key_identifier_extension = true;
        authority.sign_public(&params, self) + &authority.pem()
    }
}

impl PublicKeyData for Csr {
    fn der_bytes(&self) -> &[u8] {
        &self.key
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}
