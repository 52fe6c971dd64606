//! Products, and what each role may do with them, in SQLite.

use std::path::Path;

use edgeway_service::database::{Database, DatabaseError, Migration};
use rusqlite::{OptionalExtension, Row};

use crate::product::{NewProduct, Price, Product};

const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "0001_products",
        sql: include_str!("../migrations/0001_products.sql"),
    },
    Migration {
        name: "0002_permissions",
        sql: include_str!("../migrations/0002_permissions.sql"),
    },
];

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

    /// Whether the role has the permission. A role that nobody knows has none.
    pub(crate) async fn permits(
        &self,
        role: String,
        permission: &'static str,
    ) -> Result<bool, DatabaseError> {
        let find = "SELECT EXISTS (SELECT 1 FROM permissions WHERE role = ?1 AND permission = ?2)";
        self.database
            .run(move |connection| connection.query_row(find, (role, permission), |row| row.get(0)))
            .await
    }

    pub(crate) async fn all(&self) -> Result<Vec<Product>, DatabaseError> {
        self.database
            .run(|connection| {
                let mut query = connection
                    .prepare_cached("SELECT id, name, price_cents FROM products ORDER BY id")?;
                query.query_map([], product)?.collect()
            })
            .await
    }

    pub(crate) async fn find(&self, id: i64) -> Result<Option<Product>, DatabaseError> {
        let find = "SELECT id, name, price_cents FROM products WHERE id = ?1";
        self.database
            .run(move |connection| connection.query_row(find, [id], product).optional())
            .await
    }

    pub(crate) async fn add(&self, new: NewProduct) -> Result<Product, DatabaseError> {
        let insert = "INSERT INTO products (name, price_cents) VALUES (?1, ?2) RETURNING id, name, price_cents";
        self.database
            .run(move |connection| {
                connection.query_row(insert, (new.name.into_string(), new.price.cents()), product)
            })
            .await
    }

    /// Whether there was one to delete.
    pub(crate) async fn delete(&self, id: i64) -> Result<bool, DatabaseError> {
        self.database
            .run(move |connection| {
                Ok(connection.execute("DELETE FROM products WHERE id = ?1", [id])? > 0)
            })
            .await
    }
}

fn product(row: &Row<'_>) -> rusqlite::Result<Product> {
    Ok(Product {
        id: row.get(0)?,
        name: row.get(1)?,
        price: Price::from_cents(row.get(2)?),
    })
}
