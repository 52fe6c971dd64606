//! Who may come in, and the hashes of their passwords.

use std::{borrow::Cow, collections::BTreeMap, fmt, fs, path::Path, str::FromStr, sync::Arc};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordVerifier, phc::PasswordHash},
};
use edgeway_sdk::{Identity, types};
use http::HeaderValue;
use serde::Deserialize;

/// All users, by name.
pub(super) struct Users(Vec<Arc<User>>);

pub(super) struct User {
    pub(super) identity: Identity,
    /// The name as the upstream is told it: UTF-8, byte by byte.
    pub(super) header: HeaderValue,
    pub(super) hash: Hash,
}

impl Users {
    pub(super) fn new(users: BTreeMap<Name, Hash>) -> Self {
        let users = users.into_iter().map(|(name, hash)| User::new(&name, hash));
        Self(users.collect())
    }

    /// Adds those of a file: a line `name:hash` for each; empty lines and those that begin with `#`
    /// mean nothing.
    pub(super) fn add_file(&mut self, path: &Path) -> Result<(), String> {
        let shown = path.display();
        let text =
            fs::read_to_string(path).map_err(|error| format!("can't read `{shown}`: {error}"))?;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            self.add_line(line)
                .map_err(|error| format!("line {} of `{shown}`: {error}", index + 1))?;
        }
        Ok(())
    }

    fn add_line(&mut self, line: &str) -> Result<(), String> {
        let (name, hash) = line
            .split_once(':')
            .ok_or("expected a name, a colon and a hash")?;
        let name = Name::try_from(Cow::Borrowed(name))?;
        let Err(place) = self.place(name.0.as_bytes()) else {
            return Err(format!("there is a user `{}` already", name.0));
        };
        let user = User::new(&name, hash.parse()?);
        self.0.insert(place, user);
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<&Arc<User>> {
        self.0.get(self.place(name).ok()?)
    }

    /// Any user, to have something to verify where there is nobody.
    pub(super) fn decoy(&self, number: usize) -> Arc<User> {
        Arc::clone(&self.0[number % self.0.len()])
    }

    fn place(&self, name: &[u8]) -> Result<usize, usize> {
        self.0
            .binary_search_by(|user| user.identity.subject().as_bytes().cmp(name))
    }
}

impl User {
    fn new(name: &Name, hash: Hash) -> Arc<Self> {
        Arc::new(Self {
            identity: Identity::new(name.0.as_str()),
            header: HeaderValue::from_bytes(name.0.as_bytes())
                .expect("a name has no control characters"),
            hash,
        })
    }
}

/// The name of a user: not empty, without colons and control characters, and without spaces at its
/// ends, which whoever reads a header takes away.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
pub(super) struct Name(String);

impl TryFrom<Cow<'_, str>> for Name {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        let is_odd = |c: char| c == ':' || c.is_control();
        if text.is_empty() || text.contains(is_odd) || text.trim() != text {
            return Err(
                "expected the name of a user, without colons or spaces around it".to_owned(),
            );
        }
        Ok(Self(text.into_owned()))
    }
}

/// The hash of a password, by argon2 or bcrypt. Does not show itself.
#[derive(Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
pub(super) enum Hash {
    Argon2(Box<PasswordHash>),
    Bcrypt(Box<str>),
}

impl Hash {
    /// Whether the password is right. Slow by design. Of a password longer than 72 bytes, bcrypt
    /// looks at no more than these.
    pub(super) fn verify(&self, password: &[u8]) -> bool {
        match self {
            Self::Argon2(hash) => Argon2::default()
                .verify_password(password, hash.as_ref())
                .is_ok(),
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
        }
    }

    fn argon2(text: &str) -> Option<Self> {
        let hash = PasswordHash::new(text).ok()?;
        Algorithm::try_from(hash.algorithm.as_str()).ok()?;
        Params::try_from(&hash).ok()?;
        if let Some(version) = hash.version {
            Version::try_from(version).ok()?;
        }
        let complete = hash.hash.is_some() && hash.salt.as_ref()?.len() >= argon2::MIN_SALT_LEN;
        complete.then(|| Self::Argon2(Box::new(hash)))
    }

    fn bcrypt(text: &str) -> Option<Self> {
        let parts: bcrypt::HashParts = text.parse().ok()?;
        let known = !text.starts_with("$2x$") && (4..=31).contains(&parts.get_cost());
        known.then(|| Self::Bcrypt(text.into()))
    }
}

impl TryFrom<Cow<'_, str>> for Hash {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        types::resolve(&text)?.parse()
    }
}

impl FromStr for Hash {
    type Err = String;

    /// The text is not repeated in an error, as it may be a password.
    fn from_str(text: &str) -> Result<Self, String> {
        let hash = if text.starts_with("$argon2") {
            Self::argon2(text).ok_or("this hash of argon2 is not complete")
        } else if text.starts_with("$2") {
            Self::bcrypt(text).ok_or("this hash of bcrypt is not complete, or of a broken kind")
        } else if text.starts_with(['$', '{']) {
            Err(
                "this kind of hash is not known, only argon2 (`$argon2id$`) and bcrypt (`$2b$`) are",
            )
        } else {
            Err("expected a hash of argon2 (`$argon2id$`) or bcrypt (`$2b$`), not a password")
        };
        hash.map_err(str::to_owned)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
