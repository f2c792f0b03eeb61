//! `uproar restore`: a backup becomes the store, which begins another life.
//!
//! Owns the order: the backup is checked whole before anything is touched, and nobody else uses the
//! store. A SQLite store is built beside and takes the old one's place in one rename, so there is
//! the old one or the new one. On a server tables are emptied and filled under a mark that no
//! server starts on: an interrupted restore leaves a store that has to be restored again, never
//! half of one that serves.

use super::backup::sync_folder;
use super::copy::{self, Sum, Table};
use super::hold::{Hold, Use};
use super::place::Place;
use super::{DAY_MS, Dialect, StoreError, migrate, partitions, schema};
use crate::paths::with_ending;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// What a restore wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    pub tables: usize,
    pub rows: u64,
}

/// A backup that was checked.
struct Source {
    conn: AnyConnection,
    migrations: Vec<String>,
    tables: Vec<Table>,
    sums: BTreeMap<String, Sum>,
}

impl Source {
    fn is(&self) -> Restored {
        let rows = self.sums.values().map(|sum| sum.rows).sum();
        Restored { tables: self.tables.len(), rows }
    }
}

/// Reads a backup from its beginning to its end, and nothing else; what it holds.
///
/// # Errors
/// What is wrong with it.
pub async fn check(file: &Path) -> Result<Restored, String> {
    let source = open(file).await?;
    let is = source.is();
    source.conn.close().await.map_err(|e| format!("{}: {e}", file.display()))?;
    Ok(is)
}

/// Makes the backup `file` the store at `url`, with another generation. What is in the store is
/// replaced where `force` says so. `period_days`: of the partitions of a server.
///
/// # Errors
/// In words for the operator: the backup is none or is damaged, the store is in use or holds
/// something.
pub async fn restore(
    file: &Path,
    url: &str,
    force: bool,
    period_days: u32,
) -> Result<Restored, String> {
    let mut source = open(file).await?;
    let place = Place::of(url, true)?;
    if place.owns(file) {
        return Err(place.told("the backup is this store's own file; copy it elsewhere first"));
    }
    let hold = Hold::take(&place, Use::Alone).await.map_err(|refused| refused.text())?;
    let done = async {
        let known = copy::known().await?;
        check_empty(&place, &known, force).await?;
        match &place.file {
            Some(store) => into_file(&mut source, store).await,
            None => into_server(&mut source, &place, &known, i64::from(period_days) * DAY_MS).await,
        }
    };
    let done = done.await.map_err(|error| place.told(error));
    hold.release().await;
    let is = source.is();
    let _ = source.conn.close().await; // it was only read
    done.map(|()| is)
}

async fn open(file: &Path) -> Result<Source, String> {
    let told = |e: StoreError| format!("{}: {e}", file.display());
    if let Err(error) = File::open(file) {
        return Err(format!("{}: {error}", file.display()));
    }
    let place = Place::of_file(file, "mode=ro")?;
    let mut conn = place.connect_bare().await.map_err(|e| told(e.into()))?;
    let none = |_| format!("{} is no backup of uproar", file.display());
    let number = async |conn: &mut AnyConnection, pragma: &'static str| {
        sqlx::query_as::<_, (i64,)>(pragma).fetch_one(conn).await.map(|(number,)| number)
    };
    let application = number(&mut conn, "PRAGMA application_id").await.map_err(none)?;
    if application != copy::APPLICATION_ID {
        return Err(none(sqlx::Error::RowNotFound));
    }
    let format = number(&mut conn, "PRAGMA user_version").await.map_err(none)?;
    if format != copy::FORMAT {
        return Err(format!(
            "{} is a backup of format {format}; this uproar reads format {}",
            file.display(),
            copy::FORMAT
        ));
    }
    verify(conn).await.map_err(told)
}

/// Reads everything there is and compares it with what it was.
async fn verify(mut conn: AnyConnection) -> Result<Source, StoreError> {
    let integrity = sqlx::query_as::<_, (String,)>("PRAGMA integrity_check(1)");
    let (integrity,) = integrity.fetch_one(&mut conn).await?;
    if integrity != "ok" {
        return Err(StoreError::Unusable(format!("it is damaged: {integrity}")));
    }
    let migrations = migrate::applied_to(&mut conn).await?;
    migrate::missing(&migrations)?;
    let tables = copy::tables(&mut conn).await?;
    let sums = copy::signed(&mut conn).await?;
    for table in &tables {
        let now = copy::sum(table, &mut conn).await?;
        if sums.get(&table.name) != Some(&now) {
            return Err(StoreError::Unusable(format!(
                "it is damaged: {} is not what it was",
                table.name
            )));
        }
    }
    if sums.len() != tables.len() {
        return Err(StoreError::Unusable("it is damaged: a table is missing".into()));
    }
    Ok(Source { conn, migrations, tables, sums })
}

/// Refuses to write over anything unless told to.
async fn check_empty(place: &Place, tables: &[Table], force: bool) -> Result<(), StoreError> {
    if force || place.file.as_ref().is_some_and(|store| !store.exists()) {
        return Ok(());
    }
    let mut conn = place.connect().await?;
    for table in tables.iter().filter(|table| table.name != schema::FACTS) {
        let there = sqlx::query_as::<_, (i64,)>(place.dialect.pick(
            "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = ?",
            "SELECT COUNT(*) FROM information_schema.tables
                WHERE table_schema = DATABASE() AND table_name = ?",
        ));
        if there.bind(table.name.as_str()).fetch_one(&mut conn).await?.0 == 0 {
            continue;
        }
        let some = AssertSqlSafe(format!("SELECT 1 FROM `{}` LIMIT 1", table.name));
        if sqlx::query(some).fetch_optional(&mut conn).await?.is_some() {
            return Err(StoreError::Unusable(format!(
                "it is not empty ({} has rows); --force replaces all of it",
                table.name
            )));
        }
    }
    conn.close().await?;
    Ok(())
}

/// Copies all tables and checks that all of them arrived.
async fn fill(source: &mut Source, to: &mut AnyConnection) -> Result<(), StoreError> {
    let Source { conn, tables, sums, .. } = source;
    for table in tables {
        let copied = copy::copy(table, conn, to).await?;
        if sums.get(&table.name) != Some(&copied) {
            return Err(StoreError::Unusable(format!("{} changed while it was read", table.name)));
        }
    }
    Ok(())
}

/// Another life begins: what the backup's store gave out means nothing in this one.
async fn renew(dialect: Dialect, conn: &mut AnyConnection) -> Result<(), StoreError> {
    migrate::set_fact(conn, dialect, "generation", crate::ids::random_id()).await?;
    Ok(())
}

async fn into_file(source: &mut Source, store: &Path) -> Result<(), StoreError> {
    let beside = with_ending(store, "-restoring");
    let built = build(source, &beside).await;
    let placed = match built {
        Ok(()) => put(&beside, store).await,
        Err(error) => Err(error),
    };
    if placed.is_err() {
        let _ = std::fs::remove_file(&beside); // the error is told
    }
    placed
}

/// The new store, in a file of its own, on the disk.
async fn build(source: &mut Source, beside: &Path) -> Result<(), StoreError> {
    let failed = |e: std::io::Error| StoreError::Unusable(format!("{}: {e}", beside.display()));
    match std::fs::remove_file(beside) {
        // What one that was killed has left.
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let place = Place::of_file(beside, "mode=rwc").map_err(StoreError::Unusable)?;
    let mut to = place.connect_bare().await?;
    for pragma in ["PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF"] {
        sqlx::query(pragma).execute(&mut to).await?;
    }
    migrate::apply_named(Dialect::Sqlite, &mut to, &source.migrations).await?;
    fill(source, &mut to).await?;
    renew(Dialect::Sqlite, &mut to).await?;
    migrate::run(Dialect::Sqlite, &mut to).await?;
    to.close().await?;
    File::open(beside).and_then(|file| file.sync_all()).map_err(failed)
}

/// The new store takes the old one's place.
async fn put(beside: &Path, store: &Path) -> Result<(), StoreError> {
    if store.exists() {
        settle(store).await.map_err(|error| {
            StoreError::Unusable(format!(
                "what is there cannot be replaced ({error}): end whatever has it open, under \
                 another name perhaps; where nothing has, move it and its -wal away"
            ))
        })?;
    }
    let failed = |e: std::io::Error| StoreError::Unusable(format!("{}: {e}", store.display()));
    std::fs::rename(beside, store).and_then(|()| sync_folder(store)).map_err(failed)
}

/// Ends an old store's log, or it would be taken for the new one's.
async fn settle(store: &Path) -> Result<(), StoreError> {
    let old = Place::of_file(store, "mode=rw").map_err(StoreError::Unusable)?;
    let mut conn = old.connect_bare().await?;
    // Into the file, and then no log at all.
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut conn).await?;
    let mode = sqlx::query_as::<_, (String,)>("PRAGMA journal_mode = DELETE");
    let (mode,) = mode.fetch_one(&mut conn).await?;
    conn.close().await?;
    match mode.as_str() {
        "delete" => Ok(()),
        _ => Err(StoreError::Unusable("somebody else has it open".into())),
    }
}

async fn into_server(
    source: &mut Source,
    place: &Place,
    known: &[Table],
    period_ms: i64,
) -> Result<(), StoreError> {
    let mut to = place.connect().await?;
    clear(&mut to, known).await?;
    migrate::apply_named(Dialect::Mysql, &mut to, &source.migrations).await?;
    // Content goes into its time's partition at once, so that it can be dropped with it one day.
    let oldest = "SELECT MIN(time_ms) FROM message_content";
    let oldest = sqlx::query_as::<_, (Option<i64>,)>(oldest).fetch_one(&mut source.conn).await?.0;
    let now_ms = crate::process::unix_ms();
    let times = (oldest.unwrap_or(now_ms), now_ms);
    partitions::make_ahead(&mut to, period_ms, times, true).await?;
    fill(source, &mut to).await?;
    let mut tx = to.begin().await?;
    renew(Dialect::Mysql, &mut tx).await?;
    let mark = sqlx::query("DELETE FROM store_facts WHERE name = ?");
    mark.bind(migrate::RESTORING).execute(&mut *tx).await?;
    tx.commit().await?;
    migrate::run(Dialect::Mysql, &mut to).await?;
    to.close().await?;
    Ok(())
}

/// Leaves nothing in a server's store but the mark that it is being restored.
async fn clear(conn: &mut AnyConnection, tables: &[Table]) -> Result<(), StoreError> {
    migrate::apply_named(Dialect::Mysql, conn, &[schema::FACTS.to_owned()]).await?;
    migrate::set_fact(conn, Dialect::Mysql, migrate::RESTORING, 1).await?;
    // A migration that is not known to have been applied is applied again.
    let forget = sqlx::query("DELETE FROM migrations WHERE name <> ?");
    forget.bind(schema::FACTS).execute(&mut *conn).await?;
    let names = tables.iter().map(|table| table.name.as_str()).chain([partitions::ASIDE]);
    for name in names.filter(|name| *name != schema::FACTS) {
        let drop = AssertSqlSafe(format!("DROP TABLE IF EXISTS `{name}`"));
        sqlx::query(drop).execute(&mut *conn).await?;
    }
    let facts = sqlx::query("DELETE FROM store_facts WHERE name <> ?");
    facts.bind(migrate::RESTORING).execute(conn).await?;
    Ok(())
}
