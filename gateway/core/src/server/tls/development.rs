//! A certificate that the gateway makes itself, for trying things out.
//!
//! It is kept, so that a browser that was told once to accept it need not be told again.

use std::{
    env, fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use log::{info, warn};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};

use super::identity::{Files, Identity};

/// How long it is valid.
const VALID: Duration = Duration::from_secs(365 * 86_400);

/// What is left of that when it is made anew.
const REMAINING: Duration = Duration::from_secs(86_400);

/// Where it is kept: `$XDG_STATE_HOME/edgeway`, or `~/.local/state/edgeway`; nowhere without a home.
pub(crate) fn folder() -> Option<PathBuf> {
    let absolute = |name| {
        let path = PathBuf::from(env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let state = absolute("XDG_STATE_HOME");
    let state = state.or_else(|| Some(absolute("HOME")?.join(".local/state")));
    state.map(|state| state.join("edgeway"))
}

/// The certificate that is kept in the folder, or a new one. If it can't be kept, it is one for this
/// process alone.
///
/// # Errors
///
/// A sentence for the operator, if none can be made.
pub(super) fn identity(folder: Option<&Path>, now: i64) -> Result<Identity, String> {
    let names = names();
    let files = folder.map(files);
    if let Some(kept) = files.as_ref().and_then(|files| usable(files, &names, now)) {
        return Ok(kept);
    }
    let (certificate, key) = make(&names, now)
        .map_err(|error| format!("no certificate for development can be made: {error}"))?;
    if let (Some(folder), Some(files)) = (folder, &files) {
        match keep(folder, files, &certificate, &key) {
            Ok(()) => info!(
                "certificate for development made: file={}",
                files.chain.display()
            ),
            Err(error) => warn!(
                "certificate for development can't be kept, the next start makes another: folder={} reason={error}",
                folder.display()
            ),
        }
    }
    let files = files.unwrap_or_else(|| self::files(Path::new("")));
    files
        .parse_texts(certificate.into_bytes(), key.into_bytes())
        .map_err(|flaw| flaw.message)
}

/// Tells that nobody trusts it.
pub(super) fn warn_of_it(listener: &str, folder: Option<&Path>) {
    let place = folder.map(|folder| files(folder).chain);
    let place = place.map_or_else(|| "(none)".to_owned(), |file| file.display().to_string());
    warn!(
        "certificate for development: browsers will not trust it until told to: listener={listener} file={place}"
    );
}

fn files(folder: &Path) -> Files {
    Files {
        chain: folder.join("development.pem"),
        key: folder.join("development.key"),
        ocsp: None,
        names: None,
    }
}

/// Those by which this machine is reached from itself, and from its neighbours.
fn names() -> Vec<String> {
    let mut names = ["localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .to_vec();
    let system = rustix::system::uname();
    let host = system.nodename().to_str().unwrap_or_default();
    let valid = host.parse::<crate::config::tls::CertificateName>().is_ok();
    if valid && host != "localhost" {
        names.push(host.to_ascii_lowercase());
    }
    names
}

/// What is in the folder, if it is for these names and will be for some time.
fn usable(files: &Files, names: &[String], now: i64) -> Option<Identity> {
    let identity = files.load().ok()?;
    let hosts = names.iter().filter_map(|name| name.parse().ok());
    let known = hosts.into_iter().all(|host| identity.names.contains(&host));
    let remaining = i64::try_from(REMAINING.as_secs()).unwrap_or(i64::MAX);
    let lasting = identity.not_after.saturating_sub(now) > remaining;
    (known && lasting && identity.not_before <= now).then_some(identity)
}

/// A certificate that has signed itself, and its key, in PEM form.
fn make(names: &[String], now: i64) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    let owner = "Edgeway development";
    params.distinguished_name.push(DnType::CommonName, owner);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now = std::time::UNIX_EPOCH + Duration::from_secs(now.max(0).unsigned_abs());
    // Clocks differ a little.
    params.not_before = (now - Duration::from_secs(3600)).into();
    params.not_after = (now + VALID).into();
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// The key first: a certificate whose key is not there would be taken for one that is.
fn keep(folder: &Path, files: &Files, certificate: &str, key: &str) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    replace(&files.key, key)?;
    replace(&files.chain, certificate)
}

/// Writes a file that nobody else can read, and that is never half there.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_extension(format!("new-{}", std::process::id()));
    // What a process with the same number may have left.
    drop(fs::remove_file(&draft));
    let written = fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        drop(fs::remove_file(&draft));
    }
    written
}
