//! Users, roles and revoked tokens, in SQLite.

use std::path::Path;

use edgeway_service::database::{Database, DatabaseError, Migration};
use rusqlite::{Connection, OptionalExtension};

const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "0001_roles_and_users",
        sql: include_str!("../migrations/0001_roles_and_users.sql"),
    },
    Migration {
        name: "0002_permissions",
        sql: include_str!("../migrations/0002_permissions.sql"),
    },
    Migration {
        name: "0003_revocations",
        sql: include_str!("../migrations/0003_revocations.sql"),
    },
];

/// A revoked token stays on the list this much longer than it lives: who checks tokens with a
/// leeway for the clock would otherwise accept it once more.
const LEEWAY: u64 = 60;

/// Someone who may log in.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) username: String,
    pub(crate) password_hash: String,
    pub(crate) role: String,
}

#[derive(Clone)]
pub(crate) struct Store {
    database: Database,
}

impl Store {
    pub(crate) fn open(path: &Path) -> Result<Self, DatabaseError> {
        Ok(Self {
            database: Database::open(path, MIGRATIONS)?,
        })
    }

    pub(crate) async fn ping(&self) -> Result<(), DatabaseError> {
        self.database.ping().await
    }

    pub(crate) async fn user(&self, username: String) -> Result<Option<User>, DatabaseError> {
        self.database
            .run(move |connection| find_user(connection, &username))
            .await
    }

    /// What a role may do, or nothing when there is no such role.
    pub(crate) async fn permissions(
        &self,
        role: String,
    ) -> Result<Option<Vec<String>>, DatabaseError> {
        self.database
            .run(move |connection| find_permissions(connection, &role))
            .await
    }

    /// From now on the token is on the list, until it would have expired anyway.
    pub(crate) async fn revoke(&self, jti: String, expires_at: u64) -> Result<(), DatabaseError> {
        let insert = "INSERT OR IGNORE INTO revocations (jti, expires_at) VALUES (?1, ?2)";
        self.database
            .run(move |connection| {
                connection
                    .execute(insert, (jti, column(expires_at)))
                    .map(drop)
            })
            .await
    }

    pub(crate) async fn is_revoked(&self, jti: String) -> Result<bool, DatabaseError> {
        let find = "SELECT EXISTS (SELECT 1 FROM revocations WHERE jti = ?1)";
        self.database
            .run(move |connection| connection.query_row(find, [jti], |row| row.get(0)))
            .await
    }

    /// Every revoked token that has not expired at `now`; the others are forgotten.
    pub(crate) async fn revocations(&self, now: u64) -> Result<Vec<String>, DatabaseError> {
        self.database
            .run(move |connection| {
                let bygone = column(now.saturating_sub(LEEWAY));
                connection.execute("DELETE FROM revocations WHERE expires_at <= ?1", [bygone])?;
                texts(connection, "SELECT jti FROM revocations ORDER BY jti", ())
            })
            .await
    }
}

fn find_user(connection: &Connection, username: &str) -> rusqlite::Result<Option<User>> {
    let find = "SELECT username, password_hash, role FROM users WHERE username = ?1";
    connection
        .query_row(find, [username], |row| {
            Ok(User {
                username: row.get(0)?,
                password_hash: row.get(1)?,
                role: row.get(2)?,
            })
        })
        .optional()
}

fn find_permissions(connection: &Connection, role: &str) -> rusqlite::Result<Option<Vec<String>>> {
    let known = "SELECT EXISTS (SELECT 1 FROM roles WHERE role = ?1)";
    if !connection.query_row(known, [role], |row| row.get(0))? {
        return Ok(None);
    }
    let find = "SELECT permission FROM permissions WHERE role = ?1 ORDER BY permission";
    texts(connection, find, [role]).map(Some)
}

/// A time as SQLite keeps it; one that does not fit is as good as never.
fn column(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

fn texts(
    connection: &Connection,
    query: &str,
    parameters: impl rusqlite::Params,
) -> rusqlite::Result<Vec<String>> {
    let mut query = connection.prepare_cached(query)?;
    query.query_map(parameters, |row| row.get(0))?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_revocation_is_forgotten_when_no_checker_takes_the_token_any_more() {
        let store = Store::open(Path::new(":memory:")).unwrap();
        store.revoke("old".to_owned(), 1_000).await.unwrap();
        store.revoke("new".to_owned(), 2_000).await.unwrap();
        assert_eq!(
            store.revocations(1_000 + LEEWAY - 1).await.unwrap(),
            ["new", "old"]
        );
        assert_eq!(store.revocations(1_000 + LEEWAY).await.unwrap(), ["new"]);
        assert!(!store.is_revoked("old".to_owned()).await.unwrap());
    }

    #[tokio::test]
    async fn revoking_twice_is_revoking_once() {
        let store = Store::open(Path::new(":memory:")).unwrap();
        store.revoke("same".to_owned(), 1_000).await.unwrap();
        store.revoke("same".to_owned(), 1_000).await.unwrap();
        assert_eq!(store.revocations(0).await.unwrap(), ["same"]);
    }

    #[tokio::test]
    async fn a_name_is_never_read_as_sql() {
        let store = Store::open(Path::new(":memory:")).unwrap();
        assert!(
            store
                .user("' OR 1=1 --".to_owned())
                .await
                .unwrap()
                .is_none()
        );
    }
}
