//! Keys of programs, and their hashes.
//!
//! A key is long and random: nobody can try them all, so a fast hash keeps it as well as a slow one does.

use std::{borrow::Cow, fmt, str::FromStr};

use aws_lc_rs::{constant_time, digest};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;

/// A new key of 256 random bits. It begins with a word by which those who look for keys in the wrong places
/// can know it.
pub fn generate() -> String {
    let random: [u8; 32] = rand::random();
    format!("edgeway_{}", BASE64_URL_SAFE_NO_PAD.encode(random))
}

/// The SHA-256 of a key, written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
pub struct Hash([u8; 32]);

impl Hash {
    /// That of this key.
    pub fn of(key: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, key).as_ref());
        Self(hash)
    }

    /// Whether both are the same. Takes as long whatever they are.
    pub(crate) fn is(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl TryFrom<Cow<'_, str>> for Hash {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        edgeway_sdk::types::resolve(&text)?.parse()
    }
}

impl FromStr for Hash {
    type Err = String;

    /// The text is not repeated in an error, as it may be a key.
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("sha256:").unwrap_or_default().as_bytes();
        let mut hash = [0; 32];
        let is_whole = digits.len() == 2 * hash.len();
        let pairs = digits.chunks(2).map(|pair| match *pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        });
        let bytes: Option<Vec<u8>> = pairs.collect();
        match bytes {
            Some(bytes) if is_whole => {
                hash.copy_from_slice(&bytes);
                Ok(Self(hash))
            }
            _ => Err(
                "expected `sha256:` and 64 hexadecimal digits, as `edgeway api-key` makes them"
                    .to_owned(),
            ),
        }
    }
}

fn digit(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_reads_as_it_is_written() {
        // NIST's example.
        let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Hash::of(b"abc").to_string(), abc);
        let read: Hash = abc.to_uppercase().replace("SHA", "sha").parse().unwrap();
        assert!(read.is(&Hash::of(b"abc")) && !read.is(&Hash::of(b"abd")));
    }

    #[test]
    fn what_is_no_hash_is_refused_and_not_repeated() {
        let short = format!("sha256:{}", "a".repeat(63));
        let (long, odd) = (format!("{short}aa"), format!("{short}g"));
        let bare = "a".repeat(64);
        for text in [
            "",
            "sha256:",
            "hunter2",
            &short,
            &long,
            &odd,
            &bare,
            "sha256:é",
        ] {
            let error = text.parse::<Hash>().unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn no_key_is_made_twice() {
        let (one, other) = (generate(), generate());
        assert_ne!(one, other);
        assert_eq!(one.len(), "edgeway_".len() + 43);
    }
}
