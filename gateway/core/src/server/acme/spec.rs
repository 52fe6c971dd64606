//! A certificate that is wanted of an authority, and how it is got.

use std::{env, path::PathBuf, sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use http::Uri;
use rustls::pki_types::CertificateDer;

use crate::{
    config::{
        acme::{Challenge, ExternalAccount},
        tls::CertificateName,
    },
    server::tls::development,
};

/// One certificate. Two that are equal are the same: it is asked for once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AcmeSpec {
    pub(crate) authority: Authority,
    /// What it is for, sorted.
    pub(crate) names: Box<[CertificateName]>,
    pub(crate) challenge: Challenge,
    /// How long before its end it is replaced; a third of its whole time if not given.
    pub(crate) renew_before: Option<Duration>,
    /// Where accounts and certificates are kept.
    pub(crate) state: PathBuf,
}

/// An authority, and who we are to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    pub(crate) directory: String,
    /// Who vouches for its host; those that the system trusts if not given.
    pub(crate) ca: Option<Arc<[CertificateDer<'static>]>>,
    pub(crate) email: Option<String>,
    pub(crate) external_account: Option<ExternalAccount>,
}

impl AcmeSpec {
    /// The folder of the account with the authority.
    pub(super) fn folder(&self) -> PathBuf {
        let Authority {
            directory,
            external_account,
            ..
        } = &self.authority;
        let uri: Uri = directory.parse().unwrap_or_default();
        let host = uri.host().unwrap_or_default();
        let id = external_account.as_ref();
        let id = id.map_or("", |account| account.key_id.as_str());
        let parts = [directory.as_str(), id];
        self.state.join(file_name(host, &parts))
    }

    /// What the files of the certificate are called.
    pub(super) fn file(&self) -> String {
        let names: Vec<_> = self.names.iter().map(|name| &*name.host).collect();
        file_name(names.first().copied().unwrap_or_default(), &names)
    }

    /// For logs.
    pub(super) fn label(&self) -> String {
        let names: Vec<_> = self.names.iter().map(|name| &*name.host).collect();
        names.join(",")
    }
}

/// A name that a person recognises and no two share.
fn file_name(shown: &str, parts: &[&str]) -> String {
    /// What is left of 255 bytes for an ending.
    const LONGEST: usize = 200;
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let shown = shown.chars().take(LONGEST);
    let mut name: String = shown.map(|c| if safe(c) { c } else { '_' }).collect();
    name.push('-');
    // No part has a line break.
    let digest = digest(&SHA256, parts.join("\n").as_bytes());
    let digits = digest.as_ref().iter().take(8);
    name.extend(digits.map(|byte| format!("{byte:02x}")));
    name
}

/// Where state is kept if nothing else is written: in the folder that systemd has made for the service, or else
/// in that of the user; nowhere without either.
pub(crate) fn state_folder() -> Option<PathBuf> {
    let of_service = env::var_os("STATE_DIRECTORY").and_then(|folders| {
        // There may be several.
        let first = env::split_paths(&folders).next()?;
        first.is_absolute().then_some(first)
    });
    let folder = of_service.or_else(development::folder)?;
    Some(folder.join("acme"))
}

#[cfg(test)]
mod tests {
    use super::{super::testing::spec, *};

    #[test]
    fn what_is_kept_is_kept_by_authority_and_names() {
        let here = spec("https://acme.test:14000/dir", &["b.test", "a.test"]);
        let shown = here.folder();
        let shown = shown.file_name().unwrap().to_str().unwrap();
        assert!(shown.starts_with("acme.test-"), "{shown}");
        assert!(here.file().starts_with("a.test-"), "{}", here.file());
        let same = spec("https://acme.test:14000/dir", &["a.test", "b.test"]);
        assert_eq!((here.folder(), here.file()), (same.folder(), same.file()));
        let there = spec("https://acme.test:14000/other", &["a.test"]);
        assert_ne!(here.folder(), there.folder());
        assert_ne!(here.file(), there.file());
        let mut bound = here.clone();
        bound.authority.external_account = Some(ExternalAccount {
            key_id: "kid-1".to_owned(),
            key: "AAAA".parse().unwrap(),
        });
        assert_ne!(here.folder(), bound.folder());
    }

    #[test]
    fn the_longest_name_of_a_host_makes_a_name_that_a_disk_takes() {
        let label = "a".repeat(63);
        let longest = [&*label, &label, &label, &"a".repeat(61)].join(".");
        let long = spec("https://[::1]:14000/dir", &[&longest]);
        assert!(format!(".{}.lock.new-4294967295", long.file()).len() <= 255);
        let folder = long.folder();
        assert!(
            folder
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("___1_-")
        );
    }
}
