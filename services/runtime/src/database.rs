//! One SQLite database per program, brought up to date at start.
//!
//! Queries run on tokio's blocking threads, one at a time: SQLite has one writer anyway, and an
//! in-memory database lives in its one connection.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, TransactionBehavior};
use thiserror::Error;

/// A step in the life of the schema: `0001_users` and its SQL. Never edited once released.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// The file name without its ending; the number in front is for people and for sorting.
    pub name: &'static str,
    /// One or more statements.
    pub sql: &'static str,
}

/// Why the database could not be opened or asked.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// SQLite's own words.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// A newer version of the program has been here, and this one does not know what it changed.
    #[error("the database knows the migration `{0}`, but this program does not")]
    Newer(String),
    /// The query panicked, or the program is going down.
    #[error("the query did not come to its end")]
    Interrupted,
}

/// A handle to the database, cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    connection: Arc<Mutex<Connection>>,
}

impl Database {
    /// Opens the file, or creates it, and applies the migrations it lacks: all of them or none.
    ///
    /// `:memory:` is a database that ends with the program.
    pub fn open(path: &Path, migrations: &[Migration]) -> Result<Self, DatabaseError> {
        let mut connection = Connection::open(path)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        // Readers in other processes are not held up by a writer; in memory this has no effect.
        connection.pragma_update(None, "journal_mode", "wal")?;
        migrate(&mut connection, migrations)?;
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
        })
    }

    /// Runs a query, or several, with nobody in between.
    pub async fn run<T, Q>(&self, query: Q) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        Q: FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let connection = Arc::clone(&self.connection);
        let answer = tokio::task::spawn_blocking(move || {
            // A query that panicked left no open transaction behind: its drop rolled it back.
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            query(&mut connection)
        });
        Ok(answer.await.map_err(|_| DatabaseError::Interrupted)??)
    }

    /// Asks the database for nothing, to see that it answers.
    pub async fn ping(&self) -> Result<(), DatabaseError> {
        self.run(|connection| {
            connection.query_row("SELECT count(*) FROM schema_migrations", [], |_| Ok(()))
        })
        .await
    }
}

/// The write lock is taken first, so that twins that start at once on one file do not both migrate it.
fn migrate(connection: &mut Connection, migrations: &[Migration]) -> Result<(), DatabaseError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_migrations (
             name TEXT PRIMARY KEY,
             applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
         ) STRICT",
    )?;
    let applied = applied(&transaction)?;
    if let Some(newer) = applied
        .iter()
        .find(|name| migrations.iter().all(|known| known.name != **name))
    {
        return Err(DatabaseError::Newer(newer.clone()));
    }
    for migration in migrations
        .iter()
        .filter(|known| !applied.iter().any(|name| name == known.name))
    {
        transaction.execute_batch(migration.sql)?;
        transaction.execute(
            "INSERT INTO schema_migrations (name) VALUES (?1)",
            [migration.name],
        )?;
    }
    Ok(transaction.commit()?)
}

fn applied(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut query = connection.prepare("SELECT name FROM schema_migrations ORDER BY name")?;
    query.query_map([], |row| row.get(0))?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Migration = Migration {
        name: "0001_a",
        sql: "CREATE TABLE a (x); INSERT INTO a VALUES (1)",
    };
    const SECOND: Migration = Migration {
        name: "0002_b",
        sql: "INSERT INTO a VALUES (2)",
    };
    const WRONG: Migration = Migration {
        name: "0003_c",
        sql: "DELETE FROM a; SELECT nonsense",
    };

    async fn rows(database: &Database) -> i64 {
        let count = |connection: &mut Connection| {
            connection.query_row("SELECT count(*) FROM a", [], |row| row.get(0))
        };
        database.run(count).await.unwrap()
    }

    #[tokio::test]
    async fn a_migration_is_applied_once_however_often_the_program_starts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        drop(Database::open(&path, &[FIRST]).unwrap());
        drop(Database::open(&path, &[FIRST, SECOND]).unwrap());
        let database = Database::open(&path, &[FIRST, SECOND]).unwrap();
        assert_eq!(rows(&database).await, 2);
    }

    #[tokio::test]
    async fn a_wrong_migration_leaves_the_database_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        drop(Database::open(&path, &[FIRST]).unwrap());
        assert!(Database::open(&path, &[FIRST, SECOND, WRONG]).is_err());
        let database = Database::open(&path, &[FIRST]).unwrap();
        assert_eq!(rows(&database).await, 1);
    }

    #[test]
    fn a_database_from_a_newer_program_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        drop(Database::open(&path, &[FIRST, SECOND]).unwrap());
        let error = Database::open(&path, &[FIRST]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the database knows the migration `0002_b`, but this program does not"
        );
    }

    #[tokio::test]
    async fn a_query_that_panics_does_not_end_the_database() {
        let database = Database::open(Path::new(":memory:"), &[FIRST]).unwrap();
        let outcome = database
            .run(|_| -> rusqlite::Result<()> { panic!("on purpose") })
            .await;
        assert!(matches!(outcome, Err(DatabaseError::Interrupted)));
        assert_eq!(rows(&database).await, 1);
    }
}
