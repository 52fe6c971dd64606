//! Keyed hashes, by which secrets are known again without being kept.
//!
//! The key is random and dies with the hasher, so that neither a table of hashes nor its timing tells
//! anything of what was hashed.

use std::fmt;

use blake2::{
    Blake2sMac256,
    digest::{KeyInit, Mac},
};

/// A keyed hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest([u8; 32]);

/// Makes digests.
pub(crate) struct Hasher(Blake2sMac256);

impl Hasher {
    /// One with a key of its own.
    pub(crate) fn new() -> Self {
        Self(Blake2sMac256::new(&rand::random::<[u8; 32]>().into()))
    }

    /// The digest of these parts. `["ab", "c"]` has another one than `["a", "bc"]`.
    pub(crate) fn digest<'p>(&self, parts: impl IntoIterator<Item = &'p [u8]>) -> Digest {
        let mut hash = self.0.clone();
        for part in parts {
            hash.update(&part.len().to_le_bytes());
            hash.update(part);
        }
        Digest(hash.finalize().into_bytes().into())
    }
}

impl Digest {
    /// A number for tables. Nobody can foresee it.
    pub(crate) fn number(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let hasher = Hasher::new();
        let digest = |parts: [&[u8]; 2]| hasher.digest(parts);
        assert_eq!(digest([b"ab", b"c"]), digest([b"ab", b"c"]));
        assert_ne!(digest([b"ab", b"c"]), digest([b"a", b"bc"]));
    }

    #[test]
    fn another_hasher_has_another_key() {
        let parts: [&[u8]; 1] = [b"a"];
        assert_ne!(Hasher::new().digest(parts), Hasher::new().digest(parts));
    }
}
