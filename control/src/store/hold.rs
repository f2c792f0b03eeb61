//! Who uses a store: whoever serves, migrates or copies it shares it; a restore has it alone.
//!
//! Owns the lock that says so, which ends with whoever holds it, however that ends. For SQLite it
//! is a lock on a file of its own beside the store's (`FILE-lock`, always empty, never removed: the
//! lock is on the file, not in it). On a server it is one of [`SHARES`] named locks of a
//! connection; whoever wants the store alone takes all of them.
//!
//! A SQLite file is served by one process (a second lock, on `FILE-server`): two would each push to
//! their own clients alone. And it stays the file that was opened: a server whose file, or its log,
//! is removed or replaced would go on writing where nobody will ever read, so it stores nothing
//! more.

use super::{Dialect, StoreError, migrate, place::Place};
use crate::paths::with_ending;
use sqlx::{AnyConnection, Connection as _};
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Processes that use a store on a server at once. Reached: the next one does not start.
const SHARES: i64 = 16;
/// A connection that holds a lock may break; this often somebody looks.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Files may be removed; this often somebody looks, and so much is acknowledged in vain.
const FILES_EVERY: Duration = Duration::from_secs(1);
/// A server may end a connection that is idle for hours; this one is idle for years.
const IDLE_S: &str = "SET SESSION wait_timeout = 31536000";

/// Whether others may use the store too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Shared,
    /// Shared, and no other process serves it where one alone can.
    Serving,
    Alone,
}

/// Why a store is not to be had.
#[derive(Debug)]
pub(super) enum Refused {
    /// Somebody uses it.
    InUse(String),
    /// Nobody knows: the file or the server did not answer.
    Failed(String),
}

impl Refused {
    /// For the operator.
    pub(super) fn text(self) -> String {
        match self {
            Refused::InUse(text) | Refused::Failed(text) => text,
        }
    }
}

/// The lock, as long as it is held.
#[derive(Debug)]
pub(super) enum Hold {
    /// The locks on `FILE-lock` and, of a server, on `FILE-server`.
    File(File, Option<File>),
    Server(Box<AnyConnection>),
    /// A store in memory is nobody else's.
    Nothing,
}

impl Hold {
    /// Takes the lock, or tells at once why not.
    pub(super) async fn take(place: &Place, how: Use) -> Result<Hold, Refused> {
        match (&place.file, place.dialect) {
            (Some(file), _) => lock_files(file, how).map_err(|refused| match refused {
                Refused::InUse(text) => Refused::InUse(place.told(text)),
                Refused::Failed(text) => Refused::Failed(place.told(text)),
            }),
            (None, Dialect::Sqlite) => Ok(Hold::Nothing),
            (None, Dialect::Mysql) => {
                let failed = |error: sqlx::Error| Refused::Failed(place.told(error));
                let mut conn = place.connect().await.map_err(failed)?;
                sqlx::query(IDLE_S).execute(&mut conn).await.map_err(failed)?;
                let taken = take_shares(&mut conn, how).await.map_err(failed)?;
                let hold = Hold::Server(Box::new(conn));
                if taken {
                    return Ok(hold);
                }
                hold.release().await; // of the shares there were, before the next one asks
                Err(Refused::InUse(place.told(match how {
                    Use::Shared | Use::Serving => {
                        format!("a restore is under way, or {SHARES} processes use it")
                    }
                    Use::Alone => IN_USE.to_owned(),
                })))
            }
        }
    }

    /// Whether it is still there: a named lock lasts as long as its connection.
    async fn is_held(&mut self) -> bool {
        match self {
            Hold::Server(conn) => conn.ping().await.is_ok(),
            Hold::File(..) | Hold::Nothing => true,
        }
    }

    /// Lets go, at once.
    pub(super) async fn release(self) {
        match self {
            Hold::File(lock, server) => {
                drop(server); // before the other: whoever gets that one may serve
                drop(lock.unlock());
            }
            Hold::Server(mut conn) => {
                // A connection that breaks lets go too, but not before the server has noticed.
                let _ = sqlx::query("DO RELEASE_ALL_LOCKS()").execute(&mut *conn).await;
                let _ = conn.close().await;
            }
            Hold::Nothing => {}
        }
    }
}

const IN_USE: &str = "it is in use by a server, a backup or a migration; end that first";
const SERVED: &str = "another process serves it, and a SQLite file is served by one; give each a \
                      file of its own, or let all of them use one MariaDB or MySQL";

/// The file whose lock stands for a SQLite file.
pub(super) fn lock_path(file: &Path) -> PathBuf {
    with_ending(file, "-lock")
}

fn lock_files(file: &Path, how: Use) -> Result<Hold, Refused> {
    let path = lock_path(file);
    let lock = match how {
        Use::Shared | Use::Serving => {
            lock_file(&path, File::try_lock_shared, "a restore is under way")?
        }
        Use::Alone => lock_file(&path, File::try_lock, IN_USE)?,
    };
    let server = (how == Use::Serving)
        .then(|| lock_file(&with_ending(file, "-server"), File::try_lock, SERVED));
    Ok(Hold::File(lock, server.transpose()?))
}

fn lock_file(
    path: &Path,
    lock: fn(&File) -> Result<(), TryLockError>,
    in_use: &str,
) -> Result<File, Refused> {
    let failed = |error: std::io::Error| Refused::Failed(format!("{}: {error}", path.display()));
    let file = OpenOptions::new().create(true).write(true).truncate(false).open(path);
    let file = file.map_err(failed)?;
    match lock(&file) {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Refused::InUse(in_use.into())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// One share, or all of them. Names are the whole server's, so the database's is in them.
async fn take_shares(conn: &mut AnyConnection, how: Use) -> Result<bool, sqlx::Error> {
    for share in 0..SHARES {
        let taken = sqlx::query_as::<_, (Option<i64>,)>(
            "SELECT CAST(GET_LOCK(CONCAT('uproar.', MD5(DATABASE()), '.', ?), 0) AS SIGNED)",
        );
        let taken = taken.bind(share).fetch_one(&mut *conn).await?.0 == Some(1);
        if taken && how != Use::Alone {
            return Ok(true);
        }
        if !taken && how == Use::Alone {
            return Ok(false);
        }
    }
    Ok(how == Use::Alone)
}

/// Holds a share while a store is open.
pub(super) struct Keeper {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    lost: Arc<AtomicBool>,
    closing: Arc<AtomicBool>,
}

impl Keeper {
    /// Keeps `hold`, of the store that has this generation.
    pub(super) fn start(place: Place, hold: Hold, generation: i64) -> Keeper {
        let (stop, stopped) = oneshot::channel();
        let (lost, closing) = (Arc::default(), Arc::default());
        let watch = Watch {
            files: Files::of(&place),
            place,
            generation,
            lost: Arc::clone(&lost),
            closing: Arc::clone(&closing),
        };
        let task = tokio::spawn(watch.keep(hold, stopped));
        Keeper { stop, task, lost, closing }
    }

    /// From now on files go because the store is closed.
    pub(super) fn closing(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Set once somebody else has the store alone, or had.
    pub(super) fn lost(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.lost)
    }

    pub(super) async fn release(self) {
        let _ = self.stop.send(());
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the store's lock was not let go as it should");
        }
    }
}

/// The files of an SQLite store that were there when it was opened, and which ones they were.
struct Files(Vec<(PathBuf, (u64, u64))>);

impl Files {
    fn of(place: &Place) -> Files {
        let Some(file) = &place.file else { return Files(Vec::new()) };
        let both = [file.clone(), with_ending(file, "-wal")].into_iter();
        Files(both.filter_map(|path| identity(&path).map(|which| (path, which))).collect())
    }

    /// One that was removed, or is another file now.
    fn missing(&self) -> Option<&Path> {
        let gone = self.0.iter().find(|(path, was)| identity(path) != Some(*was));
        gone.map(|(path, _)| path.as_path())
    }
}

/// Which file is at a path, whatever it is called; `None`: there is none.
fn identity(path: &Path) -> Option<(u64, u64)> {
    // A look that fails for another reason tells nothing: as if the file were not there.
    std::fs::metadata(path).ok().map(|of| (of.dev(), of.ino()))
}

/// What is looked after while a store is open.
struct Watch {
    place: Place,
    generation: i64,
    files: Files,
    lost: Arc<AtomicBool>,
    closing: Arc<AtomicBool>,
}

impl Watch {
    async fn keep(self, mut hold: Hold, mut stopped: oneshot::Receiver<()>) {
        let every = if self.files.0.is_empty() { LOOK_EVERY } else { FILES_EVERY };
        loop {
            tokio::select! {
                _ = &mut stopped => break,
                () = tokio::time::sleep(every) => {}
            }
            if !self.lost.load(Ordering::Relaxed) {
                self.look(&mut hold).await;
            }
        }
        hold.release().await;
    }

    async fn look(&self, hold: &mut Hold) {
        if let Some(file) = self.files.missing() {
            // In this order: what is missing because the store is closed, is missing after that.
            if !self.closing.load(Ordering::Relaxed) {
                self.lose(&format!("{} was removed or replaced", file.display()));
            }
            return;
        }
        if hold.is_held().await {
            return;
        }
        match take_again(&self.place, self.generation).await {
            Ok(again) => {
                tracing::warn!("the connection that holds the store's lock broke; it has another");
                *hold = again;
            }
            Err(Refused::Failed(error)) => tracing::warn!(error, "the store's lock is not held"),
            Err(Refused::InUse(error)) => self.lose(&error),
        }
    }

    fn lose(&self, error: &str) {
        self.lost.store(true, Ordering::Relaxed);
        tracing::error!(
            error,
            "the store is not ours any more: nothing is stored; restart this server"
        );
    }
}

/// The lock anew, where the store is still the one it was.
async fn take_again(place: &Place, generation: i64) -> Result<Hold, Refused> {
    let mut hold = Hold::take(place, Use::Serving).await?;
    let Hold::Server(conn) = &mut hold else { return Ok(hold) };
    match migrate::generation_now(conn).await {
        Ok(Some(now)) if now == generation => Ok(hold),
        Ok(_) => Err(Refused::InUse(place.told("it was restored meanwhile"))),
        Err(error) => Err(Refused::Failed(place.told(StoreError::from(error)))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestStore, runtime};
    use super::*;

    async fn refused(place: &Place, how: Use) -> String {
        match Hold::take(place, how).await {
            Err(Refused::InUse(text)) => text,
            other => panic!("somebody uses it: {other:?}"),
        }
    }

    #[test]
    fn sharers_let_each_other_in_and_one_alone_nobody() {
        runtime().block_on(async {
            let stores = [Some(TestStore::sqlite().await), TestStore::mysql().await];
            for store in stores.into_iter().flatten() {
                let place = &store.place;
                let told = refused(place, Use::Alone).await;
                assert!(told.contains("in use by a server, a backup or a migration"), "{told}");
                let second = Hold::take(place, Use::Shared).await.unwrap();
                store.store.close().await;
                refused(place, Use::Alone).await;
                second.release().await;
                let alone = Hold::take(place, Use::Alone).await.unwrap();
                assert!(refused(place, Use::Shared).await.contains("a restore is under way"));
                assert!(!refused(place, Use::Alone).await.is_empty());
                alone.release().await;
                Hold::take(place, Use::Shared).await.unwrap().release().await;
                store.end().await;
            }
        });
    }

    #[test]
    fn a_file_is_served_by_one_and_a_server_by_several() {
        runtime().block_on(async {
            let stores = [Some(TestStore::sqlite().await), TestStore::mysql().await];
            for store in stores.into_iter().flatten() {
                let place = &store.place;
                let first = Hold::take(place, Use::Serving).await.unwrap();
                Hold::take(place, Use::Shared).await.unwrap().release().await;
                match place.dialect {
                    Dialect::Sqlite => {
                        let told = refused(place, Use::Serving).await;
                        assert!(told.contains("a SQLite file is served by one"), "{told}");
                    }
                    Dialect::Mysql => {
                        Hold::take(place, Use::Serving).await.unwrap().release().await;
                    }
                }
                first.release().await;
                Hold::take(place, Use::Serving).await.unwrap().release().await;
                store.end().await;
            }
        });
    }

    #[test]
    fn what_is_written_to_a_file_that_was_removed_is_refused() {
        for log in ["", "-wal"] {
            runtime().block_on(async {
                let store = TestStore::sqlite().await;
                let mut gone = store.place.file.clone().unwrap().into_os_string();
                gone.push(log);
                let write = || store.write(|_| Box::pin(async { Ok(()) }));
                tokio::time::sleep(FILES_EVERY + FILES_EVERY / 2).await;
                write().await.unwrap();
                std::fs::remove_file(&gone).unwrap();
                let begun = tokio::time::Instant::now();
                while write().await.is_ok() {
                    assert!(begun.elapsed() < 20 * FILES_EVERY, "{gone:?} is not missed");
                    tokio::time::sleep(FILES_EVERY / 10).await;
                }
                store.end().await;
            });
        }
    }

    #[test]
    fn a_lock_that_broke_is_taken_again_unless_the_store_is_another_one() {
        runtime().block_on(async {
            let Some(store) = TestStore::mysql().await else { return };
            let mut hold = Hold::take(&store.place, Use::Shared).await.unwrap();
            assert!(hold.is_held().await);
            let Hold::Server(conn) = &mut hold else { panic!("a server's lock") };
            let id = sqlx::query_as::<_, (i64,)>("SELECT CAST(CONNECTION_ID() AS SIGNED)");
            let (id,) = id.fetch_one(&mut **conn).await.unwrap();
            let kill = sqlx::AssertSqlSafe(format!("KILL {id}"));
            sqlx::raw_sql(kill).execute(&mut *store.reader().await.unwrap()).await.unwrap();
            assert!(!hold.is_held().await);
            let again = take_again(&store.place, store.generation()).await.unwrap();
            again.release().await;
            let other = take_again(&store.place, store.generation() ^ 1).await;
            assert!(matches!(other, Err(Refused::InUse(text)) if text.contains("restored")));
            store.end().await;
        });
    }

    #[test]
    fn a_server_is_shared_by_so_many() {
        runtime().block_on(async {
            let Some(store) = TestStore::mysql().await else { return };
            let mut all = Vec::new();
            // The open store has one.
            for _ in 1..SHARES {
                all.push(Hold::take(&store.place, Use::Shared).await.unwrap());
            }
            assert!(refused(&store.place, Use::Shared).await.contains("16 processes use it"));
            for hold in all {
                hold.release().await;
            }
            store.end().await;
        });
    }
}
