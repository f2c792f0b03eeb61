//! Brings a database's tables up to date, one statement at a time.
//!
//! Owns the list of what was applied, the store's generation, and the order of processes that
//! change tables at the same time. Each migration is one DDL statement and may be run again: a
//! start that ended in the middle of one goes on from there.

use super::copy;
use super::hold::{Hold, Refused, Use};
use super::partitions::Made;
use super::place::Place;
use super::upkeep::DAY_MS;
use super::{Dialect, StoreError, partitions, schema};
use crate::config::StoreConfig;
use sqlx::{AnyConnection, Connection as _};

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

/// Whoever changes tables waits this long for another one who does.
const WAIT_S: i64 = 60;

/// What `uproar migrate` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// By name, in order.
    pub applied: Vec<&'static str>,
    /// All there are.
    pub known: usize,
    /// Time partitions that were made.
    pub partitions: usize,
}

/// Brings the store of `config` up to date and leaves it.
///
/// # Errors
/// In words for the operator.
pub async fn migrate(config: &StoreConfig) -> Result<Migrated, String> {
    let place = Place::of(&config.url, true)?;
    let hold = Hold::take(&place, Use::Shared).await.map_err(Refused::text)?;
    let done = async {
        copy::check_no_backup(&place).await?;
        let mut conn = place.connect().await?;
        let applied = run(place.dialect, &mut conn).await?;
        generation(place.dialect, &mut conn).await?;
        let mut made = Made::default();
        if place.dialect == Dialect::Mysql {
            let period_ms = i64::from(config.period_days) * DAY_MS;
            let now_ms = crate::process::unix_ms();
            // Others may be writing: what would move content waits for the start of a server.
            made = partitions::make_ahead(&mut conn, period_ms, (now_ms, now_ms), false).await?;
        }
        conn.close().await?;
        let known = schema::all().count();
        Ok::<_, StoreError>(Migrated { applied, known, partitions: made.partitions })
    };
    let done = done.await.map_err(|e| place.told(e));
    hold.release().await;
    done
}

/// Applies what is missing, in order; what that was.
pub(super) async fn run(
    dialect: Dialect,
    conn: &mut AnyConnection,
) -> Result<Vec<&'static str>, StoreError> {
    if missing(&applied(dialect, conn).await?)?.is_empty() {
        // The usual start: nobody waits for anybody.
        check_whole(conn).await?;
        return Ok(Vec::new());
    }
    alone(dialect, conn).await?;
    let done = run_alone(dialect, conn).await;
    match dialect {
        Dialect::Sqlite => {
            let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
            sqlx::query(end).execute(&mut *conn).await?;
            sqlx::query("PRAGMA busy_timeout = 5000").execute(conn).await?;
        }
        Dialect::Mysql => release_schema(conn).await?,
    }
    done
}

async fn run_alone(
    dialect: Dialect,
    conn: &mut AnyConnection,
) -> Result<Vec<&'static str>, StoreError> {
    // Another process may have done it while this one waited.
    let applied = applied(dialect, conn).await?;
    if applied.iter().any(|name| name == schema::FACTS) {
        check_whole(conn).await?;
    }
    let mut done = Vec::new();
    for migration in missing(&applied)? {
        apply(dialect, conn, migration).await?;
        tracing::info!(migration = migration.name, "the store was migrated");
        done.push(migration.name);
    }
    Ok(done)
}

/// Applies the named ones to an empty store, as another store has them.
pub(super) async fn apply_named(
    dialect: Dialect,
    conn: &mut AnyConnection,
    names: &[String],
) -> Result<(), StoreError> {
    let applied = applied(dialect, conn).await?;
    missing(names)?;
    for migration in schema::all() {
        let is_meant = names.iter().any(|name| name == migration.name);
        if is_meant && !applied.iter().any(|name| name == migration.name) {
            apply(dialect, conn, migration).await?;
        }
    }
    Ok(())
}

/// Whether a column is there already: there is no `ADD COLUMN IF NOT EXISTS` that all servers have,
/// and a start may have ended after the column was added and before that was written down.
fn has_column_already(error: &sqlx::Error) -> bool {
    let told = error.as_database_error().map(|error| error.message().to_lowercase());
    told.is_some_and(|message| message.starts_with("duplicate column name"))
}

async fn apply(
    dialect: Dialect,
    conn: &mut AnyConnection,
    migration: &Migration,
) -> Result<(), StoreError> {
    let statement = dialect.pick(migration.sqlite, migration.mysql);
    match sqlx::query(statement).execute(&mut *conn).await {
        Err(error) if !has_column_already(&error) => return Err(error.into()),
        Ok(_) | Err(_) => {}
    }
    sqlx::query("INSERT INTO migrations (name, applied_ms) VALUES (?, ?)")
        .bind(migration.name)
        .bind(crate::process::unix_ms())
        .execute(conn)
        .await?;
    Ok(())
}

/// What was applied, by name.
pub(super) async fn applied(
    dialect: Dialect,
    conn: &mut AnyConnection,
) -> Result<Vec<String>, StoreError> {
    sqlx::query(dialect.pick(APPLIED.sqlite, APPLIED.mysql)).execute(&mut *conn).await?;
    applied_to(conn).await
}

/// The same of a database that has had some.
pub(super) async fn applied_to(conn: &mut AnyConnection) -> Result<Vec<String>, StoreError> {
    let names = sqlx::query_as::<_, (String,)>("SELECT name FROM migrations");
    Ok(names.fetch_all(conn).await?.into_iter().map(|(name,)| name).collect())
}

/// What is missing where these were applied.
///
/// # Errors
/// Where there is one this program does not know: it would not know the tables either.
pub(super) fn missing(applied: &[String]) -> Result<Vec<&'static Migration>, StoreError> {
    let is_known = |name: &&String| schema::all().any(|known| known.name == **name);
    if let Some(unknown) = applied.iter().find(|name| !is_known(name)) {
        return Err(StoreError::Unusable(format!(
            "it was made by a newer uproar (its migration {unknown:?} is not known here); use \
             that one"
        )));
    }
    let is_missing = |one: &&Migration| !applied.iter().any(|name| name == one.name);
    Ok(schema::all().filter(is_missing).collect())
}

/// Makes sure that nobody else changes tables until the caller ends it: on SQLite a transaction, on
/// a server a named lock of this connection.
async fn alone(dialect: Dialect, conn: &mut AnyConnection) -> Result<(), StoreError> {
    match dialect {
        Dialect::Sqlite => {
            sqlx::query("PRAGMA busy_timeout = 60000").execute(&mut *conn).await?;
            sqlx::query("BEGIN IMMEDIATE").execute(conn).await?;
            Ok(())
        }
        Dialect::Mysql if hold_schema(conn, WAIT_S).await? => Ok(()),
        Dialect::Mysql => Err(StoreError::Unusable(format!(
            "another process migrates it or backs it up; waited {WAIT_S} s"
        ))),
    }
}

/// Takes the lock of a server's tables: no table changes while somebody has it.
pub(super) async fn hold_schema(conn: &mut AnyConnection, wait_s: i64) -> Result<bool, StoreError> {
    let lock = sqlx::query_as::<_, (Option<i64>,)>(
        "SELECT CAST(GET_LOCK(CONCAT('uproar.', MD5(DATABASE()), '.schema'), ?) AS SIGNED)",
    );
    Ok(lock.bind(wait_s).fetch_one(conn).await?.0 == Some(1))
}

/// Lets go of it.
pub(super) async fn release_schema(conn: &mut AnyConnection) -> Result<(), StoreError> {
    let release = "DO RELEASE_LOCK(CONCAT('uproar.', MD5(DATABASE()), '.schema'))";
    sqlx::query(release).execute(conn).await?;
    Ok(())
}

/// While this fact stands, the store is half of another one.
pub(super) const RESTORING: &str = "restoring";

/// Refuses a store whose restore has not ended.
pub(super) async fn check_whole(conn: &mut AnyConnection) -> Result<(), StoreError> {
    if fact(conn, RESTORING).await?.is_none() {
        return Ok(());
    }
    Err(StoreError::Unusable(
        "a restore into it was not finished; run it again (uproar restore --force)".into(),
    ))
}

/// A number the store remembers about itself.
pub(super) async fn fact(conn: &mut AnyConnection, name: &str) -> Result<Option<i64>, sqlx::Error> {
    let fact = sqlx::query_as::<_, (i64,)>("SELECT value FROM store_facts WHERE name = ?");
    Ok(fact.bind(name).fetch_optional(conn).await?.map(|(value,)| value))
}

/// Remembers one.
pub(super) async fn set_fact(
    conn: &mut AnyConnection,
    dialect: Dialect,
    name: &str,
    value: i64,
) -> Result<(), sqlx::Error> {
    let upsert = sqlx::query(dialect.pick(
        "INSERT INTO store_facts (name, value) VALUES (?, ?)
            ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        "INSERT INTO store_facts (name, value) VALUES (?, ?)
            ON DUPLICATE KEY UPDATE value = VALUES(value)",
    ));
    upsert.bind(name).bind(value).execute(conn).await?;
    Ok(())
}

/// Remembers one, where there is none of this name: another process may make it too, and the first
/// one stands.
async fn make_fact(
    conn: &mut AnyConnection,
    dialect: Dialect,
    name: &str,
    value: i64,
) -> Result<(), sqlx::Error> {
    let insert = sqlx::query(dialect.pick(
        "INSERT INTO store_facts (name, value) VALUES (?, ?)
            ON CONFLICT (name) DO NOTHING",
        "INSERT INTO store_facts (name, value) VALUES (?, ?)
            ON DUPLICATE KEY UPDATE value = value",
    ));
    insert.bind(name).bind(value).execute(conn).await?;
    Ok(())
}

/// Raises a number of changes to `next`; whether it was the one before that (0: never raised).
pub(super) async fn raise_fact(
    conn: &mut AnyConnection,
    dialect: Dialect,
    name: &str,
    next: i64,
) -> Result<bool, sqlx::Error> {
    make_fact(conn, dialect, name, 0).await?;
    let update = sqlx::query("UPDATE store_facts SET value = ? WHERE name = ? AND value = ?");
    let update = update.bind(next).bind(name).bind(next - 1).execute(conn).await?;
    Ok(update.rows_affected() > 0)
}

/// The generation there is.
pub(super) async fn generation_now(conn: &mut AnyConnection) -> Result<Option<i64>, sqlx::Error> {
    fact(conn, "generation").await
}

/// The store's generation, made at its first start.
pub(super) async fn generation(
    dialect: Dialect,
    conn: &mut AnyConnection,
) -> Result<i64, sqlx::Error> {
    if let Some(known) = generation_now(conn).await? {
        // Changes nothing: a store that can only be read is to be known now, not by the first send.
        let update = sqlx::query("UPDATE store_facts SET value = ? WHERE name = 'generation'");
        update.bind(known).execute(conn).await?;
        return Ok(known);
    }
    make_fact(conn, dialect, "generation", crate::ids::random_id()).await?;
    generation_now(conn).await?.ok_or(sqlx::Error::RowNotFound)
}

/// A fact: no moment in the store is later, nor one that a client was told of.
const BOUND: &str = "moment_bound";

/// The newest moment in the store: of what was changed, and of what clients were told.
pub(super) async fn newest_ms(
    dialect: Dialect,
    conn: &mut AnyConnection,
) -> Result<i64, sqlx::Error> {
    if let Some(bound_ms) = fact(conn, BOUND).await? {
        return Ok(bound_ms);
    }
    // Once: a new store, or one from before this was remembered, which had a fact for what was
    // told and none for what was written.
    let mut newest_ms = fact(conn, "moment").await?.unwrap_or(0);
    for newest in [
        "SELECT MAX(changed_ms) FROM conversations",
        "SELECT MAX(changed_ms) FROM relations",
        "SELECT MAX(created_ms) FROM users",
        "SELECT MAX(changed_ms) FROM ended_relations",
        "SELECT MAX(changed_ms) FROM user_settings",
    ] {
        let newest = sqlx::query_as::<_, (Option<i64>,)>(newest).fetch_one(&mut *conn).await?;
        newest_ms = newest_ms.max(newest.0.unwrap_or(0));
    }
    set_fact(conn, dialect, BOUND, newest_ms).await?;
    Ok(newest_ms)
}

/// Remembers a bound of moments over a restart.
pub(super) async fn keep_ms(conn: &mut AnyConnection, bound_ms: i64) -> Result<(), StoreError> {
    let update =
        sqlx::query("UPDATE store_facts SET value = ? WHERE name = 'moment_bound' AND value < ?");
    update.bind(bound_ms).bind(bound_ms).execute(conn).await?;
    Ok(())
}
