//! Brings a database's tables up to date, one statement at a time.
//!
//! Owns the list of what was applied and the store's generation. Each migration is one DDL
//! statement and may be run again: a start that ended in the middle of one goes on from there.

use super::schema;
use super::{Dialect, StoreError};
use sqlx::AnyConnection;

/// One step: what it is called for ever, and its statement in each dialect.
pub(super) struct Migration {
    pub(super) name: &'static str,
    pub(super) sqlite: &'static str,
    pub(super) mysql: &'static str,
}

const APPLIED: Migration = Migration {
    name: "migrations",
    sqlite: "CREATE TABLE IF NOT EXISTS migrations (
        name TEXT NOT NULL PRIMARY KEY, applied_ms BIGINT NOT NULL) WITHOUT ROWID",
    mysql: "CREATE TABLE IF NOT EXISTS migrations (
        name VARCHAR(64) NOT NULL PRIMARY KEY, applied_ms BIGINT NOT NULL)
        ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
};

/// Applies what is missing, in order.
pub(super) async fn run(dialect: Dialect, conn: &mut AnyConnection) -> Result<(), StoreError> {
    sqlx::query(dialect.pick(APPLIED.sqlite, APPLIED.mysql)).execute(&mut *conn).await?;
    let names = sqlx::query_as::<_, (String,)>("SELECT name FROM migrations");
    let applied: Vec<String> =
        names.fetch_all(&mut *conn).await?.into_iter().map(|(name,)| name).collect();
    for migration in schema::all() {
        if applied.iter().any(|name| name == migration.name) {
            continue;
        }
        let statement = dialect.pick(migration.sqlite, migration.mysql);
        sqlx::query(statement).execute(&mut *conn).await?;
        sqlx::query("INSERT INTO migrations (name, applied_ms) VALUES (?, ?)")
            .bind(migration.name)
            .bind(crate::process::unix_ms())
            .execute(&mut *conn)
            .await?;
        tracing::info!(migration = migration.name, "the store was migrated");
    }
    Ok(())
}

/// The store's generation, made at its first start.
pub(super) async fn generation(conn: &mut AnyConnection) -> Result<i64, sqlx::Error> {
    let known =
        sqlx::query_as::<_, (i64,)>("SELECT value FROM store_facts WHERE name = 'generation'");
    if let Some((generation,)) = known.fetch_optional(&mut *conn).await? {
        return Ok(generation);
    }
    let generation = crate::ids::random_id();
    sqlx::query("INSERT INTO store_facts (name, value) VALUES ('generation', ?)")
        .bind(generation)
        .execute(conn)
        .await?;
    Ok(generation)
}

/// The newest moment in the store.
pub(super) async fn newest_ms(conn: &mut AnyConnection) -> Result<i64, sqlx::Error> {
    let newest = sqlx::query_as::<_, (Option<i64>,)>("SELECT MAX(changed_ms) FROM conversations");
    Ok(newest.fetch_one(conn).await?.0.unwrap_or(0))
}
