//! What the tests of this module have in common.

use std::path::PathBuf;

use super::spec::{AcmeSpec, Authority};
use crate::config::acme::Challenge;

/// A certificate for these names, of the authority with this directory.
pub(super) fn spec(directory: &str, names: &[&str]) -> AcmeSpec {
    let mut names: Vec<_> = names.iter().map(|name| name.parse().unwrap()).collect();
    names.sort_by(|one: &crate::config::tls::CertificateName, other| one.host.cmp(&other.host));
    AcmeSpec {
        authority: Authority {
            directory: directory.to_owned(),
            ca: None,
            email: None,
            external_account: None,
        },
        names: names.into(),
        challenge: Challenge::Http01,
        renew_before: None,
        state: PathBuf::from("/nowhere"),
    }
}
