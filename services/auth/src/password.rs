//! Checks passwords at a price that a guesser feels, and that does not tell who exists.

use std::sync::Arc;
use std::thread::available_parallelism;

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use log::error;
use tokio::sync::Semaphore;

/// Verifies passwords, a few at a time.
#[derive(Clone)]
pub(crate) struct Passwords {
    // One verification takes 19 MiB and a core for some milliseconds. More than one per core at
    // once would only let a flood of log-ins eat the memory.
    turns: Arc<Semaphore>,
}

impl Passwords {
    pub(crate) fn new() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        Self {
            turns: Arc::new(Semaphore::new(cores)),
        }
    }

    /// Whether the password is the one behind the hash. Without a hash (nobody has that name) the
    /// answer is no, after the same work.
    pub(crate) async fn verify(&self, password: String, hash: Option<String>) -> bool {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let verified = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let matches = matches(&password, hash.as_deref().unwrap_or(NOBODY));
            hash.is_some() && matches
        });
        verified.await.unwrap_or(false)
    }
}

fn matches(password: &str, hash: &str) -> bool {
    match PasswordHash::new(hash) {
        Ok(hash) => Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok(),
        Err(problem) => {
            error!("a stored password hash cannot be read: {problem}");
            false
        }
    }
}

/// The hash of forgotten random bytes, with the parameters of the seeded users.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$eDgJe8nd97bb53emoC49eQ$yTkNTKQW+JhB23yqDnkEA02PbKvKB9UMjsX4SlxgTOs";

#[cfg(test)]
mod tests {
    use super::*;

    const SEEDED: &str = include_str!("../migrations/0001_roles_and_users.sql");

    #[test]
    fn an_unknown_user_costs_what_the_seeded_ones_cost() {
        let cost = |hash: &str| hash.split('$').take(4).collect::<Vec<_>>().join("$");
        let hashes: Vec<&str> = SEEDED
            .split('\'')
            .filter(|text| text.starts_with("$argon2id"))
            .collect();
        assert_eq!(hashes.len(), 2);
        for hash in hashes {
            assert_eq!(cost(hash), cost(NOBODY));
        }
    }

    #[tokio::test]
    async fn a_hash_that_cannot_be_read_lets_nobody_in() {
        assert!(
            !Passwords::new()
                .verify("123456".to_owned(), Some("123456".to_owned()))
                .await
        );
    }
}
