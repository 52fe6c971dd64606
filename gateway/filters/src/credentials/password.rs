//! Hashes of passwords: slow by design, so that a stolen list of them is hard to use.

use std::{borrow::Cow, fmt, ops::RangeInclusive, str::FromStr};

use argon2::{
    Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use edgeway_sdk::types;
use serde::Deserialize;
use sha_crypt::ShaCrypt;

/// How a hash is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Costs time and memory: 19 MiB. The best of them.
    Argon2id,
    /// Known everywhere. Takes 72 bytes at most.
    Bcrypt,
    /// As in `/etc/shadow` of many systems.
    Sha512Crypt,
}

impl Algorithm {
    /// What more costs: the passes of argon2id, the power of two of bcrypt's rounds, the rounds of SHA-crypt.
    pub fn usual_cost(self) -> u32 {
        match self {
            Self::Argon2id => Params::DEFAULT_T_COST,
            Self::Bcrypt => 12,
            Self::Sha512Crypt => 500_000,
        }
    }

    /// What it may cost.
    pub fn costs(self) -> RangeInclusive<u32> {
        match self {
            Self::Argon2id => 1..=1_000,
            Self::Bcrypt => 4..=31,
            Self::Sha512Crypt => sha_crypt::Params::ROUNDS_MIN..=sha_crypt::Params::ROUNDS_MAX,
        }
    }

    /// Hashes a password with a new salt.
    ///
    /// # Errors
    ///
    /// A sentence, if the cost is out of range or the algorithm can't take this password.
    pub fn hash(self, password: &[u8], cost: u32) -> Result<String, String> {
        if password.is_empty() {
            return Err("the password is empty".to_owned());
        }
        let costs = self.costs();
        if !costs.contains(&cost) {
            let (least, most) = costs.into_inner();
            return Err(format!(
                "expected a cost from {least} to {most}, found {cost}"
            ));
        }
        match self {
            Self::Argon2id => argon2id(password, cost),
            Self::Bcrypt => bcrypt(password, cost),
            Self::Sha512Crypt => sha512_crypt(password, cost),
        }
    }
}

fn argon2id(password: &[u8], cost: u32) -> Result<String, String> {
    let params = Params::new(Params::DEFAULT_M_COST, cost, Params::DEFAULT_P_COST, None);
    let params = params.map_err(|error| error.to_string())?;
    let hasher = Argon2::new(argon2::Algorithm::Argon2id, Version::V0x13, params);
    let salt: [u8; 16] = rand::random();
    let hash = hasher.hash_password_with_salt(password, &salt);
    hash.map(|hash: PasswordHash| hash.to_string())
        .map_err(|error| error.to_string())
}

fn bcrypt(password: &[u8], cost: u32) -> Result<String, String> {
    if password.contains(&0) {
        return Err(
            "bcrypt reads a password to the first zero byte, which this one has".to_owned(),
        );
    }
    // The zero behind it counts.
    if password.len() > 71 {
        return Err("bcrypt takes no password of more than 71 bytes, use argon2id".to_owned());
    }
    let parts = bcrypt::hash_with_salt(password, cost, rand::random());
    parts
        .map(|parts| parts.format_for_version(bcrypt::Version::TwoB))
        .map_err(|error| error.to_string())
}

fn sha512_crypt(password: &[u8], cost: u32) -> Result<String, String> {
    if password.len() > LONGEST_FOR_SHA {
        return Err(format!(
            "SHA-crypt takes no password of more than {LONGEST_FOR_SHA} bytes"
        ));
    }
    let params = sha_crypt::Params::new(cost).map_err(|error| error.to_string())?;
    // Twelve bytes make the sixteen letters that a salt has.
    let salt: [u8; 12] = rand::random();
    let hasher = ShaCrypt::new(sha_crypt::Algorithm::Sha512Crypt, params);
    let hash = hasher.hash_password_with_salt(password, &salt);
    hash.map(|hash| hash.to_string())
        .map_err(|error| error.to_string())
}

/// The hash of a password, by argon2, bcrypt or SHA-crypt. Does not show itself.
#[derive(Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
pub struct Hash {
    kind: Kind,
    text: Box<str>,
}

enum Kind {
    Argon2(Box<PasswordHash>),
    Bcrypt,
    Sha(sha_crypt::PasswordHash),
}

impl Hash {
    /// Whether the password is right. Slow by design. Of a password longer than 72 bytes, bcrypt
    /// looks at no more than these.
    pub fn verify(&self, password: &[u8]) -> bool {
        match &self.kind {
            Kind::Argon2(hash) => Argon2::default()
                .verify_password(password, hash.as_ref())
                .is_ok(),
            Kind::Bcrypt => bcrypt::verify(password, &self.text).unwrap_or(false),
            // Its time grows with the password, and whoever sends one chooses its length.
            Kind::Sha(_) if password.len() > LONGEST_FOR_SHA => false,
            Kind::Sha(hash) => ShaCrypt::default().verify_password(password, hash).is_ok(),
        }
    }

    fn argon2(text: &str) -> Option<Kind> {
        let hash = PasswordHash::new(text).ok()?;
        argon2::Algorithm::try_from(hash.algorithm.as_str()).ok()?;
        Params::try_from(&hash).ok()?;
        if let Some(version) = hash.version {
            Version::try_from(version).ok()?;
        }
        let complete = hash.hash.is_some() && hash.salt.as_ref()?.len() >= argon2::MIN_SALT_LEN;
        complete.then(|| Kind::Argon2(Box::new(hash)))
    }

    fn bcrypt(text: &str) -> Option<Kind> {
        let parts: bcrypt::HashParts = text.parse().ok()?;
        let known = !text.starts_with("$2x$") && (4..=31).contains(&parts.get_cost());
        known.then_some(Kind::Bcrypt)
    }

    fn sha(text: &str) -> Option<Kind> {
        let rest = text
            .strip_prefix("$5$")
            .or_else(|| text.strip_prefix("$6$"))?;
        let length = if text.starts_with("$5$") { 43 } else { 86 };
        let (salt, hash) = match rest.strip_prefix("rounds=") {
            Some(rest) => {
                let (rounds, rest) = rest.split_once('$')?;
                sha_crypt::Params::new(rounds.parse().ok()?).ok()?;
                rest.split_once('$')?
            }
            None => rest.split_once('$')?,
        };
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/');
        let complete = salt.len() <= 16 && hash.len() == length && hash.bytes().all(is_letter);
        let hash = sha_crypt::PasswordHash::new(text).ok()?;
        complete.then_some(Kind::Sha(hash))
    }
}

impl PartialEq for Hash {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
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
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| text.starts_with(prefix));
        let kind = if starts(&["$argon2"]) {
            Self::argon2(text).ok_or("this hash of argon2 is not complete")
        } else if starts(&["$2"]) {
            Self::bcrypt(text).ok_or("this hash of bcrypt is not complete, or of a broken kind")
        } else if starts(&["$5$", "$6$"]) {
            Self::sha(text).ok_or("this hash of SHA-crypt is not complete")
        } else if starts(&["$apr1$", "$1$", "{SHA}", "{SSHA}"]) {
            Err(
                "this hash is of MD5 or SHA-1 and easy to guess the password from; \
                `edgeway hash-password` makes a better one",
            )
        } else if starts(&["$", "{"]) {
            Err(
                "this kind of hash is not known, only argon2 (`$argon2id$`), bcrypt (`$2b$`) and \
                SHA-crypt (`$5$`, `$6$`) are",
            )
        } else {
            Err(
                "expected a hash of argon2 (`$argon2id$`), bcrypt (`$2b$`) or SHA-crypt (`$6$`), not a \
                password; `edgeway hash-password` makes one",
            )
        };
        Ok(Self {
            kind: kind?,
            text: text.into(),
        })
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// As `libxcrypt` has it.
const LONGEST_FOR_SHA: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_right_for_its_password_alone() {
        for (algorithm, cost, prefix) in [
            (Algorithm::Argon2id, 1, "$argon2id$v=19$m=19456,t=1,p=1$"),
            (Algorithm::Bcrypt, 4, "$2b$04$"),
            (Algorithm::Sha512Crypt, 1_000, "$6$rounds=1000$"),
        ] {
            let text = algorithm.hash("pässwörd".as_bytes(), cost).unwrap();
            assert!(text.starts_with(prefix), "{text}");
            let hash: Hash = text.parse().unwrap();
            assert!(hash.verify("pässwörd".as_bytes()), "{text}");
            assert!(!hash.verify(b"passwort"), "{text}");
            let again = algorithm.hash("pässwörd".as_bytes(), cost).unwrap();
            assert_ne!(text, again, "the salt is new each time");
        }
    }

    #[test]
    fn what_an_algorithm_can_not_do_is_refused() {
        let long = "x".repeat(72);
        let longer = "x".repeat(513);
        for (algorithm, password, cost) in [
            (Algorithm::Argon2id, "", 2),
            (Algorithm::Argon2id, "x", 0),
            (Algorithm::Bcrypt, "x", 3),
            (Algorithm::Bcrypt, "x", 32),
            (Algorithm::Bcrypt, "a\0b", 4),
            (Algorithm::Bcrypt, &long, 4),
            (Algorithm::Sha512Crypt, "x", 999),
            (Algorithm::Sha512Crypt, &longer, 1_000),
        ] {
            assert!(
                algorithm.hash(password.as_bytes(), cost).is_err(),
                "{algorithm:?}"
            );
        }
    }

    /// As `openssl passwd` and the `crypt` of the C library make them.
    #[test]
    fn hashes_of_other_programs_are_understood() {
        for (hash, password) in [
            (
                "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5",
                "Hello world!",
            ),
            (
                "$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA",
                "Hello world!",
            ),
            (
                "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
                "Hello world!",
            ),
        ] {
            let read: Hash = hash.parse().unwrap();
            assert!(read.verify(password.as_bytes()), "{hash}");
            assert!(!read.verify(b"Hello world"), "{hash}");
        }
    }

    #[test]
    fn a_hash_that_nobody_could_match_is_not_read() {
        for hash in [
            "",
            "hunter2",
            "$argon2id$",
            "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ",
            "$argon2id$v=7$m=8,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
            "$argon2xx$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
            "$2b$04$short",
            "$2x$12$L6Bc/AlTQHyd9liGgGEZyOFLPHNgyxeEPfgYfBCVxJ7JIlwxyVU3u",
            "$2b$99$L6Bc/AlTQHyd9liGgGEZyOFLPHNgyxeEPfgYfBCVxJ7JIlwxyVU3u",
            "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc",
            "$6$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8",
            "$5$rounds=999$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8",
            "$5$saltstringsaltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8",
            "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc!",
            "$5$$$$",
            "$apr1$salt$hash",
            "$1$salt$hash",
            "{SHA}hash",
            "$y$j9T$salt$hash",
            "env:EDGEWAY_SURELY_NOT_SET",
        ] {
            let error = Hash::try_from(Cow::from(hash)).unwrap_err();
            assert!(!error.contains("hunter2"), "{hash}: {error}");
        }
        for weak in ["$apr1$salt$hash", "{SHA}hash", "hunter2"] {
            let error = weak.parse::<Hash>().unwrap_err();
            assert!(error.contains("edgeway hash-password"), "{error}");
        }
    }

    #[test]
    fn a_password_that_is_too_long_is_no_work_for_sha_crypt() {
        // This would take hours.
        let hash = "$5$rounds=999999999$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8";
        let hash: Hash = hash.parse().unwrap();
        assert!(!hash.verify(&[b'x'; 3_000]));
    }
}
