//! Where the keys of a filter come from: secrets, files, key sets at URLs.

use std::{fs, path::Path, sync::Arc, time::Duration};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use edgeway_sdk::{Build, BuildError, Period, Secret};
use jsonwebtoken::{Algorithm, AlgorithmFamily};

use super::{
    config::{self, Config},
    jwks::KeySet,
    keys::{Key, Keys, Published},
    pem,
};
use crate::{
    client,
    document::{self, Document, Pace, Publication as _, Source},
};

/// Reads the keys of a filter, and has the published ones fetched in the background.
pub(super) fn keys(config: &Config, build: &mut Build<'_>) -> Result<Keys, BuildError> {
    check_sources(config)?;
    let mut own = Vec::new();
    if let Some(bytes) = secret(config, build)? {
        own.push(Key::secret(&bytes));
    }
    for (index, file) in config.public_keys.iter().enumerate() {
        let at = format!("public_keys.{index}");
        own.push(public_key(&at, &build.path(file), &config.algorithms)?);
    }
    if let Some(file) = &config.jwks_file {
        own.extend(key_set(&build.path(file), &config.algorithms, build)?);
    }
    let published = fetched(config, build)?;
    Ok(Keys { own, published })
}

fn fetched(config: &Config, build: &mut Build<'_>) -> Result<Option<Published>, BuildError> {
    let (key, source, pace, refetch_interval) = if let Some(jwks) = &config.jwks {
        let source = Source::Url(client::url("jwks.url", &jwks.url)?);
        let pace = pace("jwks", jwks.interval, jwks.timeout)?;
        let refetch = config::lasting("jwks.refetch_interval", jwks.refetch_interval)?;
        ("jwks.url", source, pace, refetch)
    } else if let Some(oidc) = &config.oidc {
        let source = issuer("oidc.issuer", &oidc.issuer)?;
        let pace = pace("oidc", oidc.interval, oidc.timeout)?;
        let refetch = config::lasting("oidc.refetch_interval", oidc.refetch_interval)?;
        ("oidc.issuer", source, pace, refetch)
    } else {
        return Ok(None);
    };
    client::warn_of_clear_text(key, source.url(), "keys that are fetched", build);
    Ok(Some(published(source, pace, refetch_interval, build)))
}

/// The keys at this place, fetched in the background from now on: once, for all filters that use them.
pub(crate) fn published(
    source: Source,
    pace: Pace,
    refetch_interval: Duration,
    build: &mut Build<'_>,
) -> Published {
    let name = match &source {
        Source::Url(url) => url.to_string(),
        Source::Issuer(issuer, _) | Source::Metadata(issuer, _) => format!("issuer {issuer}"),
    };
    let set = build.resources().shared(&name, || Document::new(source));
    build.background(Arc::clone(&set).keep(pace));
    Published {
        set,
        refetch_interval,
        timeout: pace.timeout,
    }
}

pub(super) fn pace(key: &str, interval: Period, timeout: Period) -> Result<Pace, BuildError> {
    Ok(Pace {
        interval: config::lasting(&format!("{key}.interval"), interval)?,
        timeout: config::lasting(&format!("{key}.timeout"), timeout)?,
    })
}

fn issuer(key: &str, text: &str) -> Result<Source, BuildError> {
    client::url(key, text)?;
    let place = client::url(key, &document::well_known(text))?;
    Ok(Source::Issuer(text.to_owned(), place))
}

/// Refuses keys that no algorithm uses, and algorithms that no key serves.
fn check_sources(config: &Config) -> Result<(), BuildError> {
    let uses_secret = |algorithm: &&Algorithm| algorithm.family() == AlgorithmFamily::Hmac;
    let secret = secret_source(config)?;
    let public = public_source(config)?;
    if config.algorithms.is_empty() {
        return Err(BuildError::at("algorithms", "name at least one algorithm"));
    }
    let mut algorithms = config.algorithms.iter();
    let symmetric = algorithms.clone().find(uses_secret);
    let asymmetric = algorithms.find(|algorithm| !uses_secret(algorithm));
    match (symmetric, secret) {
        (Some(algorithm), None) => Err(missing(*algorithm, "a `secret`")),
        (None, Some(key)) => Err(unused(key)),
        (Some(_), Some(_)) | (None, None) => Ok(()),
    }?;
    match (asymmetric, public) {
        (Some(algorithm), None) => Err(missing(*algorithm, "a public key")
            .help("give `public_keys`, `jwks_file`, `jwks` or `oidc`")),
        (None, Some(key)) => Err(unused(key)),
        (Some(_), Some(_)) | (None, None) => Ok(()),
    }
}

fn missing(algorithm: Algorithm, what: &str) -> BuildError {
    BuildError::at("algorithms", format!("`{algorithm:?}` needs {what}"))
}

fn unused(key: &str) -> BuildError {
    BuildError::at(key, format!("no algorithm of the list uses `{key}`"))
}

fn secret_source(config: &Config) -> Result<Option<&'static str>, BuildError> {
    match (&config.secret, &config.secret_base64) {
        (Some(_), Some(_)) => Err(BuildError::at(
            "secret_base64",
            "give `secret` or `secret_base64`, not both",
        )),
        (Some(_), None) => Ok(Some("secret")),
        (None, Some(_)) => Ok(Some("secret_base64")),
        (None, None) => Ok(None),
    }
}

fn public_source(config: &Config) -> Result<Option<&'static str>, BuildError> {
    if config.jwks.is_some() && config.oidc.is_some() {
        return Err(BuildError::at("oidc", "give `jwks` or `oidc`, not both"));
    }
    let sources = [
        (!config.public_keys.is_empty(), "public_keys"),
        (config.jwks_file.is_some(), "jwks_file"),
        (config.jwks.is_some(), "jwks"),
        (config.oidc.is_some(), "oidc"),
    ];
    let given = sources.into_iter().find(|(is_given, _)| *is_given);
    Ok(given.map(|(_, key)| key))
}

/// The bytes of the secret. Warns if guessing it is easier than breaking the algorithm.
fn secret(config: &Config, build: &mut Build<'_>) -> Result<Option<Vec<u8>>, BuildError> {
    let (key, bytes) = match (&config.secret, &config.secret_base64) {
        (Some(secret), _) => ("secret", secret.reveal().as_bytes().to_vec()),
        (None, Some(secret)) => ("secret_base64", from_base64(secret)?),
        (None, None) => return Ok(None),
    };
    let sizes = config.algorithms.iter().filter_map(|algorithm| {
        let size = secret_size(*algorithm)?;
        Some((size, algorithm))
    });
    if let Some((size, algorithm)) = sizes.max_by_key(|(size, _)| *size)
        && bytes.len() < size
    {
        let message = format!(
            "a secret of {} bytes is easier to guess than the {size} that `{algorithm:?}` wants",
            bytes.len()
        );
        let help = format!("make one with `openssl rand -base64 {size}`");
        build.warn(BuildError::at(key, message).help(help));
    }
    Ok(Some(bytes))
}

/// As many bytes as the hash has (RFC 7518, 3.2).
fn secret_size(algorithm: Algorithm) -> Option<usize> {
    match algorithm {
        Algorithm::HS256 => Some(32),
        Algorithm::HS384 => Some(48),
        Algorithm::HS512 => Some(64),
        _ => None,
    }
}

/// Reads either alphabet, with or without padding: tools write all of these.
fn from_base64(secret: &Secret) -> Result<Vec<u8>, BuildError> {
    let text = secret.reveal();
    let alphabet = if text.contains(['-', '_']) {
        alphabet::URL_SAFE
    } else {
        alphabet::STANDARD
    };
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = GeneralPurpose::new(&alphabet, config).decode(text);
    // The reason would quote a character of the secret.
    bytes.map_err(|_| BuildError::at("secret_base64", "the secret is not base64"))
}

fn public_key(at: &str, path: &Path, algorithms: &[Algorithm]) -> Result<Key, BuildError> {
    let shown = path.display();
    let text = fs::read_to_string(path)
        .map_err(|error| BuildError::at(at, format!("can't read `{shown}`: {error}")))?;
    let key =
        pem::key(&text).map_err(|what| BuildError::at(at, format!("`{shown}` holds {what}")))?;
    if !key.serves(algorithms) {
        let message = format!("no algorithm of the list uses the key in `{shown}`");
        return Err(BuildError::at(at, message));
    }
    Ok(key)
}

fn key_set(
    path: &Path,
    algorithms: &[Algorithm],
    build: &mut Build<'_>,
) -> Result<Vec<Key>, BuildError> {
    let wrong = |what: String| BuildError::at("jwks_file", what);
    let shown = path.display();
    let text = fs::read(path).map_err(|error| wrong(format!("can't read `{shown}`: {error}")))?;
    if text.len() > KeySet::LARGEST {
        return Err(wrong(format!("`{shown}` is too large for a key set")));
    }
    let set = KeySet::parse(&text).map_err(|error| wrong(format!("`{shown}`: {error}")))?;
    if let Some(skipped) = set.skipped_text() {
        build.warn(wrong(format!(
            "some keys of `{shown}` are left out: {skipped}"
        )));
    }
    if !set.keys.iter().any(|key| key.serves(algorithms)) {
        let message = format!("no algorithm of the list uses a key in `{shown}`");
        return Err(wrong(message));
    }
    Ok(set.keys)
}
