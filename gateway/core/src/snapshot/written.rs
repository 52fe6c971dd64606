//! What a configuration says, to be shown and compared.

use std::{fmt::Write as _, num::NonZeroU32, path::PathBuf};

use aws_lc_rs::{
    digest::{SHA256, digest},
    pbkdf2,
};

use crate::config::document::{Document, Tree};

/// What a configuration says, and where.
#[derive(Debug)]
pub(crate) struct Written {
    /// Shows no secrets.
    pub(crate) tree: Tree,
    /// The main file first.
    pub(crate) files: Vec<PathBuf>,
    /// The same for what says the same, on whatever machine.
    pub(crate) hash: String,
    /// The same for the same secrets, as far as they are written out; none if none is.
    pub(crate) secrets: Option<String>,
}

/// How many bytes of a hash are shown.
const SHORT: usize = 6;

/// The same for secrets, of which even less should be told.
const SHORTER: usize = 3;

/// Makes trying out what secrets could be a matter of milliseconds each.
const ROUNDS: NonZeroU32 = NonZeroU32::new(20_000).expect("it is not zero");

impl Written {
    pub(crate) fn of(document: &Document) -> Self {
        let tree = document.written();
        let secrets = secrets(&tree);
        // Secrets are shown as `***` there.
        let mut text = serde_json::to_vec(&tree).unwrap_or_default();
        text.extend(secrets.iter().flat_map(|secrets| secrets.bytes()));
        let hash = hex(digest(&SHA256, &text).as_ref(), SHORT);
        Self {
            files: document.paths().map(Into::into).collect(),
            tree,
            hash,
            secrets,
        }
    }
}

fn secrets(tree: &Tree) -> Option<String> {
    let mut all = Vec::new();
    tree.visit(&mut |scalar| {
        if let Tree::Masked(_, secret) = scalar {
            all.extend(secret.reveal().len().to_le_bytes());
            all.extend(secret.reveal().bytes());
        }
    });
    if all.is_empty() {
        return None;
    }
    let mut made = [0; SHORTER];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, SALT, &all, &mut made);
    Some(hex(&made, SHORTER))
}

/// The same everywhere: the secrets of two machines are to be compared.
const SALT: &[u8] = b"edgeway configuration";

fn hex(bytes: &[u8], most: usize) -> String {
    let mut text = String::with_capacity(2 * most);
    for byte in bytes.iter().take(most) {
        // Writing to a string can't fail.
        let _written = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diagnostic::Problems;

    fn written(yaml: &str) -> Written {
        Written::of(&Document::from_text(
            "x.yaml",
            yaml,
            &mut Problems::default(),
        ))
    }

    #[test]
    fn the_hash_tells_what_is_said_and_not_how() {
        let one = written("threads: 2\nadmin: { bind: ':1' }");
        let same = written("# a comment\nthreads:   2\nadmin:\n  bind: \":1\"\n");
        let other = written("threads: 3\nadmin: { bind: ':1' }");
        assert_eq!(one.hash, same.hash);
        assert_ne!(one.hash, other.hash);
        assert_eq!((one.hash.len(), one.secrets), (12, None));
    }

    #[test]
    fn another_secret_makes_another_hash() {
        let [one, same, other] = ["a", "a", "b"].map(|token| written(&format!("token: {token}")));
        assert_eq!((&one.hash, &one.secrets), (&same.hash, &same.secrets));
        assert_ne!(one.hash, other.hash);
        assert_ne!(one.secrets, other.secrets);
        assert_eq!(one.secrets.unwrap().len(), 6);
        assert_eq!(written("token: env:TOKEN").secrets, None);
    }

    #[test]
    fn secrets_do_not_run_into_each_other() {
        let one = written("token: ab\nsecret: c");
        let other = written("token: a\nsecret: bc");
        assert_ne!(one.secrets, other.secrets);
    }
}
