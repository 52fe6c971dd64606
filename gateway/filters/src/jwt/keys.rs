//! The keys that tokens are verified with.
//!
//! A key belongs to one family of algorithms from the moment it is made, and is never tried with
//! another: that a public key is taken for a shared secret (which everybody knows, then) can't
//! happen, whatever a token's header says.

use std::{fs, path::Path, sync::Arc, time::Duration};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use edgeway_sdk::{Build, BuildError, Secret};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, crypto};
use reqwest::Url;

use super::{
    config::{self, Config, lasting},
    document::{Document, Edition, Pace, Publication as _, Source},
    jwks::KeySet,
    pem,
    refusal::Refusal,
    token::Token,
};

/// A key, with all that it may verify.
pub(super) struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    material: DecodingKey,
}

impl Key {
    /// A secret that the issuer and we share.
    pub(super) fn secret(bytes: &[u8]) -> Self {
        let material = DecodingKey::from_secret(bytes);
        Self::new(material, AlgorithmFamily::Hmac.algorithms())
    }

    /// An RSA key of this modulus and exponent, big end first.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, String> {
        let first = modulus.iter().position(|byte| *byte != 0);
        let modulus = first.and_then(|first| modulus.get(first..)).unwrap_or(&[]);
        let spare = modulus
            .first()
            .map_or(0, |byte| byte.leading_zeros() as usize);
        let bits = modulus.len() * 8 - spare;
        if !(2048..=8192).contains(&bits) {
            return Err(format!(
                "an RSA key of {bits} bits, where 2048 to 8192 are wanted"
            ));
        }
        let material = DecodingKey::from_rsa_raw_components(modulus, exponent);
        Ok(Self::new(material, AlgorithmFamily::Rsa.algorithms()))
    }

    /// A point on the curve of `ES256` or `ES384`.
    pub(super) fn ec(algorithm: Algorithm, x: &[u8], y: &[u8]) -> Result<Self, String> {
        let size = match algorithm {
            Algorithm::ES256 => 32,
            Algorithm::ES384 => 48,
            _ => return Err("an elliptic curve that no algorithm uses".to_owned()),
        };
        if x.len() != size || y.len() != size {
            return Err("a point that is not on its curve".to_owned());
        }
        let material = DecodingKey::from_ec_der(&[&[4], x, y].concat());
        Ok(Self::new(material, &[algorithm]))
    }

    /// An Ed25519 key.
    pub(super) fn ed25519(x: &[u8]) -> Result<Self, String> {
        if x.len() != 32 {
            return Err("an Ed25519 key that has not 32 bytes".to_owned());
        }
        let material = DecodingKey::from_ed_der(x);
        Ok(Self::new(material, AlgorithmFamily::Ed.algorithms()))
    }

    fn new(material: DecodingKey, algorithms: &[Algorithm]) -> Self {
        Self {
            id: None,
            algorithms: algorithms.to_vec(),
            material,
        }
    }

    /// The key with the name that tokens call it by.
    pub(super) fn named(mut self, id: Option<String>) -> Self {
        self.id = id;
        self
    }

    /// The key, for this algorithm only.
    pub(super) fn only(mut self, algorithm: Algorithm) -> Result<Self, String> {
        self.algorithms.retain(|known| *known == algorithm);
        if self.algorithms.is_empty() {
            return Err(format!("a key that `{algorithm:?}` can't be used with"));
        }
        Ok(self)
    }

    /// Whether the token may be signed by this key, going by algorithm and name.
    fn fits(&self, token: &Token<'_>) -> bool {
        let name_fits = match (&self.id, &token.key_id) {
            (Some(own), Some(wanted)) => own == wanted,
            (None, _) | (_, None) => true,
        };
        name_fits && self.algorithms.contains(&token.algorithm)
    }

    fn has_signed(&self, token: &Token<'_>) -> bool {
        let message = token.message.as_bytes();
        let result = crypto::verify(token.signature, message, &self.material, token.algorithm);
        matches!(result, Ok(true))
    }
}

/// Tokens without a key id are tried with so many keys and no more, since each trial costs time.
const MOST_TRIALS: usize = 8;

fn any_has_signed(keys: &[Key], token: &Token<'_>) -> bool {
    let fitting = keys.iter().filter(|key| key.fits(token));
    fitting.take(MOST_TRIALS).any(|key| key.has_signed(token))
}

/// All keys of a filter: those it was configured with, and those that an issuer publishes.
pub(super) struct Keys {
    own: Vec<Key>,
    published: Option<Published>,
}

struct Published {
    set: Arc<Document<KeySet>>,
    refetch_interval: Duration,
    timeout: Duration,
}

/// What the keys at hand say of a token.
enum Verdict {
    Signed(u64),
    Forged,
    /// It names a key that is not at hand.
    UnknownKey,
    /// None were ever fetched.
    NoKeys,
}

impl Keys {
    /// Reads the keys, and has the published ones fetched in the background.
    pub(super) fn new(config: &Config, build: &mut Build<'_>) -> Result<Self, BuildError> {
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
        let published = Published::new(config, build)?;
        Ok(Self { own, published })
    }

    /// The edition of the published keys: 0 while there are none.
    pub(super) fn edition(&self) -> u64 {
        let published = self.published.as_ref();
        published.map_or(0, |published| published.set.number())
    }

    /// Verifies the signature, and tells the edition of the keys that it was verified with.
    ///
    /// A token with a key id that nobody knows has the key set fetched once more, for a new key may
    /// be in use since a moment; it waits for that.
    pub(super) async fn verify(&self, token: &Token<'_>) -> Result<u64, Refusal> {
        let mut verdict = self.judge(token);
        if let (Verdict::UnknownKey, Some(published)) = (&verdict, &self.published) {
            let patience = published.timeout;
            published
                .set
                .ask(published.refetch_interval, patience)
                .await;
            verdict = self.judge(token);
        }
        match verdict {
            Verdict::Signed(edition) => Ok(edition),
            Verdict::Forged => Err(Refusal::invalid("no key verifies the signature")),
            Verdict::UnknownKey => Err(Refusal::invalid("the key id is unknown")),
            Verdict::NoKeys => Err(Refusal::Unavailable("no keys were fetched yet")),
        }
    }

    fn judge(&self, token: &Token<'_>) -> Verdict {
        let edition = self.published.as_ref().map(|keys| keys.set.current());
        let edition = edition.as_deref().map(Option::as_ref);
        let number = edition.flatten().map_or(0, |edition| edition.number);
        if any_has_signed(&self.own, token) {
            return Verdict::Signed(number);
        }
        match edition {
            None => Verdict::Forged,
            Some(_) if token.algorithm.family() == AlgorithmFamily::Hmac => Verdict::Forged,
            Some(None) => Verdict::NoKeys,
            Some(Some(edition)) => judge_published(edition, token),
        }
    }
}

fn judge_published(edition: &Edition<KeySet>, token: &Token<'_>) -> Verdict {
    let keys = &edition.content.keys;
    if any_has_signed(keys, token) {
        return Verdict::Signed(edition.number);
    }
    let is_named = token.key_id.is_some();
    if is_named && !keys.iter().any(|key| key.id == token.key_id) {
        return Verdict::UnknownKey;
    }
    Verdict::Forged
}

impl Published {
    fn new(config: &Config, build: &mut Build<'_>) -> Result<Option<Self>, BuildError> {
        let (key, source, pace, refetch_interval) = if let Some(jwks) = &config.jwks {
            let source = Source::Url(config::url("jwks.url", &jwks.url)?);
            let pace = pace("jwks", jwks.interval, jwks.timeout)?;
            ("jwks.url", source, pace, jwks.refetch_interval)
        } else if let Some(oidc) = &config.oidc {
            let pace = pace("oidc", oidc.interval, oidc.timeout)?;
            (
                "oidc.issuer",
                issuer(&oidc.issuer)?,
                pace,
                oidc.refetch_interval,
            )
        } else {
            return Ok(None);
        };
        warn_of_clear_text(key, &source, build);
        let set = shared(source, build);
        build.background(Arc::clone(&set).keep(pace));
        Ok(Some(Self {
            set,
            refetch_interval: refetch_interval.0,
            timeout: pace.timeout,
        }))
    }
}

fn shared(source: Source, build: &Build<'_>) -> Arc<Document<KeySet>> {
    let name = match &source {
        Source::Url(url) => url.to_string(),
        Source::Issuer(issuer, _) => format!("issuer {issuer}"),
    };
    build.resources().shared(&name, || Document::new(source))
}

pub(super) fn pace(
    key: &str,
    interval: edgeway_sdk::Period,
    timeout: edgeway_sdk::Period,
) -> Result<Pace, BuildError> {
    Ok(Pace {
        interval: lasting(&format!("{key}.interval"), interval)?,
        timeout: lasting(&format!("{key}.timeout"), timeout)?,
    })
}

fn issuer(text: &str) -> Result<Source, BuildError> {
    config::url("oidc.issuer", text)?;
    let place = format!(
        "{}/.well-known/openid-configuration",
        text.trim_end_matches('/')
    );
    Ok(Source::Issuer(
        text.to_owned(),
        config::url("oidc.issuer", &place)?,
    ))
}

fn warn_of_clear_text(key: &str, source: &Source, build: &mut Build<'_>) {
    let (Source::Url(url) | Source::Issuer(_, url)) = source;
    if url.scheme() == "http" && !is_loopback(url) {
        let message = "keys that are fetched without TLS can be replaced on the way";
        build.warn(BuildError::at(key, message).help("use `https`"));
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address: Option<std::net::IpAddr> = host.parse().ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
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
    if !key
        .algorithms
        .iter()
        .any(|known| algorithms.contains(known))
    {
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
    let is_used = |key: &Key| {
        key.algorithms
            .iter()
            .any(|known| algorithms.contains(known))
    };
    if !set.keys.iter().any(is_used) {
        let message = format!("no algorithm of the list uses a key in `{shown}`");
        return Err(wrong(message));
    }
    Ok(set.keys)
}
