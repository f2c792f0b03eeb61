//! `uproar backup`: a store in one file, taken while it serves.
//!
//! Owns the snapshot and the file's way to its name. The file is a SQLite database of the same
//! tables whatever the store is kept in, so a backup of one kind of database is restored into
//! another. It is written under another name, synced, and only then called what it was to be
//! called: a file of that name is whole.

use super::copy::{self, Sum};
use super::hold::{Hold, Use};
use super::place::Place;
use super::{Dialect, StoreError, migrate};
use crate::paths::with_ending;
use sqlx::{AnyConnection, Connection as _};
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Whoever changes a server's tables is waited for so long.
const WAIT_S: i64 = 60;

/// What a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backup {
    pub tables: usize,
    pub rows: u64,
    pub bytes: u64,
}

/// Writes the store at `url` into `file`. A file that is there is replaced where `force` says so.
///
/// # Errors
/// In words for the operator; then there is no new file.
pub async fn backup(url: &str, file: &Path, force: bool) -> Result<Backup, String> {
    if !force && file.symlink_metadata().is_ok() {
        return Err(format!("{} is there already; --force replaces it", file.display()));
    }
    let place = Place::of(url, true)?;
    if place.file.as_ref().is_some_and(|store| !store.exists()) {
        return Err(place.told("there is no such file, so no store"));
    }
    check_target(&place, file)?;
    let hold = Hold::take(&place, Use::Shared).await.map_err(|refused| refused.text())?;
    let done = write(&place, file).await;
    hold.release().await;
    done
}

/// Whether a backup may be called so: a store that serves goes on writing what its name was taken
/// from, and nobody wants a device or a link replaced.
fn check_target(place: &Place, file: &Path) -> Result<(), String> {
    for path in [file, &Beside::path_of(file)] {
        if place.owns(path) {
            let path = path.display();
            return Err(place.told(format!("{path} is the store's own; name another file")));
        }
        if path.symlink_metadata().is_ok_and(|is| !is.is_file()) {
            return Err(format!("{} is no regular file; it is not replaced", path.display()));
        }
    }
    Ok(())
}

async fn write(place: &Place, file: &Path) -> Result<Backup, String> {
    let beside = Beside::make(file)?;
    let written = async {
        let mut from = snapshot(place).await.map_err(|e| place.told(e))?;
        let sums = fill(place, &mut from, &beside.path).await?;
        // Its locks end with it; it wrote nothing.
        from.close().await.map_err(|e| place.told(e))?;
        Ok::<_, String>(sums)
    };
    match written.await {
        Ok(sums) => {
            let bytes = beside.publish(file)?;
            let rows = sums.iter().map(|(_, sum)| sum.rows).sum();
            Ok(Backup { tables: sums.len(), rows, bytes })
        }
        Err(error) => {
            beside.remove();
            Err(error)
        }
    }
}

/// A connection that sees the store as it is at this moment, until it ends.
async fn snapshot(place: &Place) -> Result<AnyConnection, StoreError> {
    let mut conn = place.connect_bare().await?;
    match place.dialect {
        Dialect::Sqlite => {
            sqlx::query("PRAGMA busy_timeout = 5000").execute(&mut conn).await?;
            sqlx::query("BEGIN").execute(&mut conn).await?;
            // The first read fixes what is seen.
            sqlx::query("SELECT COUNT(*) FROM sqlite_master").fetch_one(&mut conn).await?;
        }
        Dialect::Mysql => {
            if !migrate::hold_schema(&mut conn, WAIT_S).await? {
                return Err(StoreError::Unusable(format!(
                    "another process migrates it or backs it up; waited {WAIT_S} s"
                )));
            }
            // Not in every server's protocol of prepared statements.
            for statement in [
                // The file may be slower than the server.
                "SET SESSION net_write_timeout = 3600",
                "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                "START TRANSACTION WITH CONSISTENT SNAPSHOT",
            ] {
                sqlx::raw_sql(statement).execute(&mut conn).await?;
            }
        }
    }
    Ok(conn)
}

/// Copies everything into a new file at `path`.
async fn fill(
    place: &Place,
    from: &mut AnyConnection,
    path: &Path,
) -> Result<Vec<(String, Sum)>, String> {
    let of_store = |e: StoreError| place.told(e);
    let of_file = |e: StoreError| format!("{}: {e}", path.display());
    let names = there(place.dialect, from).await.map_err(of_store)?;
    // Its lock is ours already; SQLite's own would meet it on a network's file system.
    let file = Place::of_file(path, "mode=rwc&vfs=unix-none")?;
    let mut to = file.connect_bare().await.map_err(|e| of_file(e.into()))?;
    let made = async {
        // Who loses power writes it again.
        for pragma in ["PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF"] {
            sqlx::query(pragma).execute(&mut to).await?;
        }
        migrate::apply_named(Dialect::Sqlite, &mut to, &names).await?;
        copy::tables(&mut to).await
    };
    let tables = made.await.map_err(of_file)?;
    let mut sums = Vec::new();
    for table in tables {
        let sum = copy::copy(&table, from, &mut to).await;
        let sum = sum.map_err(|e| {
            format!("{} into {}: {}: {e}", place.told("copying"), path.display(), table.name)
        })?;
        sums.push((table.name, sum));
    }
    copy::sign(&mut to, &sums).await.map_err(of_file)?;
    to.close().await.map_err(|e| of_file(e.into()))?;
    Ok(sums)
}

/// The migrations a store has; it is not changed.
async fn there(dialect: Dialect, conn: &mut AnyConnection) -> Result<Vec<String>, StoreError> {
    let tables = sqlx::query_as::<_, (i64,)>(dialect.pick(
        "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = 'migrations'",
        "SELECT COUNT(*) FROM information_schema.tables
            WHERE table_schema = DATABASE() AND table_name = 'migrations'",
    ));
    if tables.fetch_one(&mut *conn).await?.0 == 0 {
        return Err(StoreError::Unusable("there is no store in it".into()));
    }
    let names = migrate::applied_to(conn).await?;
    migrate::missing(&names)?;
    migrate::check_whole(conn).await?;
    Ok(names)
}

/// A file that is being written beside the one it will be.
struct Beside {
    path: PathBuf,
    /// Held until it has its name: two backups to one file do not mix.
    lock: File,
}

impl Beside {
    fn path_of(file: &Path) -> PathBuf {
        with_ending(file, ".tmp")
    }

    fn make(file: &Path) -> Result<Beside, String> {
        let path = Beside::path_of(file);
        let told = |e: io::Error| format!("{}: {e}", path.display());
        // Password hashes are in it: nobody else's to read.
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(false).mode(0o600);
        let lock = options.open(&path).map_err(told)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(format!("another backup is writing {}", path.display()));
            }
            Err(TryLockError::Error(error)) => return Err(told(error)),
        }
        // What one that was killed has left.
        lock.set_len(0).map_err(told)?;
        Ok(Beside { path, lock })
    }

    /// Onto the disk, then to its name; its bytes.
    fn publish(self, file: &Path) -> Result<u64, String> {
        let told = |e: io::Error| format!("{}: {e}", self.path.display());
        let published = self.lock.sync_all().and_then(|()| {
            std::fs::rename(&self.path, file)?;
            sync_folder(file)?;
            Ok(self.lock.metadata()?.len())
        });
        published.map_err(|error| {
            let text = told(error);
            let _ = std::fs::remove_file(&self.path); // or it has its name already
            text
        })
    }

    fn remove(self) {
        let _ = std::fs::remove_file(&self.path); // the error that led here is told
    }
}

/// Puts a folder's entries onto the disk.
pub(super) fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}
