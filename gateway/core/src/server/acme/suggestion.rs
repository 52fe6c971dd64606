//! When an authority would like a certificate to be replaced (ARI, RFC 9773).

use std::{ops::Range, time::Duration};

use instant_acme::{CertificateIdentifier, Error};
use rustls::pki_types::{CertificateDer, Der};
use x509_parser::extensions::ParsedExtension;

use super::{account, client::Client, failure::Failure, store::Store};
use crate::server::tls::pem;

/// What an authority has to say about a certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Suggestion {
    /// It says nothing about any.
    None,
    Window {
        /// Seconds since 1970.
        window: Range<i64>,
        /// When to ask again.
        again: Duration,
    },
}

/// Asks the authority about a certificate.
pub(super) async fn ask(
    leaf: &CertificateDer<'_>,
    store: &Store,
    client: &Client,
) -> Result<Suggestion, Failure> {
    let Some(id) = identifier(leaf) else {
        return Ok(Suggestion::None);
    };
    // Without an account it was not we who have ordered it.
    let Some(account) = account::open_existing(store, client).await? else {
        return Ok(Suggestion::None);
    };
    match account.renewal_info(&id).await {
        Ok((info, again)) => {
            let window = info.suggested_window;
            Ok(Suggestion::Window {
                window: window.start.unix_timestamp()..window.end.unix_timestamp(),
                again,
            })
        }
        Err(Error::Unsupported(_)) => Ok(Suggestion::None),
        Err(error) => Err(Failure::of(&error, client)),
    }
}

/// By what an authority knows a certificate (RFC 9773, 4.1); none if it does not say who has signed it.
pub(super) fn identifier(leaf: &CertificateDer<'_>) -> Option<CertificateIdentifier<'static>> {
    let parsed = pem::parsed(leaf)?;
    let mut extensions = parsed.iter_extensions();
    let key = extensions.find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(authority) => authority.key_identifier.as_ref(),
        _ => None,
    })?;
    let serial = Der::from_slice(parsed.raw_serial());
    Some(CertificateIdentifier::new(Der::from_slice(key.0), serial).into_owned())
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, IsCa, Issuer, KeyIdMethod, KeyPair, SerialNumber,
    };

    use super::*;

    #[test]
    fn a_certificate_is_known_by_its_authority_and_its_number() {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_identifier_method = KeyIdMethod::PreSpecified(vec![0x69, 0x88, 0x5b]);
        let authority = Issuer::new(authority, KeyPair::generate().unwrap());
        let mut params = CertificateParams::new(["a.test".to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from_slice(&[0x87, 0x65, 0x43, 0x21]));
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &authority).unwrap();
        // With the zero before the number that keeps it positive, as in the example of the RFC.
        let id = identifier(leaf.der()).unwrap();
        assert_eq!(id.to_string(), "aYhb.AIdlQyE");
        params.use_authority_key_identifier_extension = false;
        let leaf = params.signed_by(&key, &authority).unwrap();
        assert_eq!(identifier(leaf.der()), None);
    }
}
