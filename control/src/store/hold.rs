//! Who uses a store: whoever serves, migrates or copies it shares it; a restore has it alone.
//!
//! Owns the lock that says so, which ends with whoever holds it, however that ends. For SQLite it
//! is a lock on a file of its own beside the store's (`FILE-lock`, always empty, never removed: the
//! lock is on the file, not in it). On a server it is one of [`SHARES`] named locks of a
//! connection; whoever wants the store alone takes all of them.

use super::{Dialect, StoreError, migrate, place::Place};
use sqlx::{AnyConnection, Connection as _};
use std::fs::{File, OpenOptions, TryLockError};
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
/// A server may end a connection that is idle for hours; this one is idle for years.
const IDLE_S: &str = "SET SESSION wait_timeout = 31536000";

/// Whether others may use the store too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Shared,
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
    File(File),
    Server(Box<AnyConnection>),
    /// A store in memory is nobody else's.
    Nothing,
}

impl Hold {
    /// Takes the lock, or tells at once why not.
    pub(super) async fn take(place: &Place, how: Use) -> Result<Hold, Refused> {
        match (&place.file, place.dialect) {
            (Some(file), _) => {
                lock_file(file, how).map(Hold::File).map_err(|refused| match refused {
                    Refused::InUse(text) => Refused::InUse(place.told(text)),
                    Refused::Failed(text) => Refused::Failed(place.told(text)),
                })
            }
            (None, Dialect::Sqlite) => Ok(Hold::Nothing),
            (None, Dialect::Mysql) => {
                let failed = |error: sqlx::Error| Refused::Failed(place.told(error));
                let mut conn = place.connect().await.map_err(failed)?;
                sqlx::query(IDLE_S).execute(&mut conn).await.map_err(failed)?;
                if take_shares(&mut conn, how).await.map_err(failed)? {
                    return Ok(Hold::Server(Box::new(conn)));
                }
                let _ = conn.close().await; // which lets go of what it has
                Err(Refused::InUse(place.told(match how {
                    Use::Shared => format!("a restore is under way, or {SHARES} processes use it"),
                    Use::Alone => IN_USE.to_owned(),
                })))
            }
        }
    }

    /// Whether it is still there: a named lock lasts as long as its connection.
    async fn is_held(&mut self) -> bool {
        match self {
            Hold::Server(conn) => conn.ping().await.is_ok(),
            Hold::File(_) | Hold::Nothing => true,
        }
    }

    /// Lets go, at once.
    pub(super) async fn release(self) {
        match self {
            Hold::File(lock) => drop(lock.unlock()),
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

/// The file whose lock stands for a SQLite file.
pub(super) fn lock_path(file: &Path) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push("-lock");
    PathBuf::from(path)
}

fn lock_file(file: &Path, how: Use) -> Result<File, Refused> {
    let path = lock_path(file);
    let failed = |error: std::io::Error| Refused::Failed(format!("{}: {error}", path.display()));
    let lock = OpenOptions::new().create(true).write(true).truncate(false).open(&path);
    let lock = lock.map_err(failed)?;
    let taken = match how {
        Use::Shared => lock.try_lock_shared(),
        Use::Alone => lock.try_lock(),
    };
    match (taken, how) {
        (Ok(()), _) => Ok(lock),
        (Err(TryLockError::WouldBlock), Use::Shared) => {
            Err(Refused::InUse("a restore is under way".into()))
        }
        (Err(TryLockError::WouldBlock), Use::Alone) => Err(Refused::InUse(IN_USE.into())),
        (Err(TryLockError::Error(error)), _) => Err(failed(error)),
    }
}

/// One share, or all of them. Names are the whole server's, so the database's is in them.
async fn take_shares(conn: &mut AnyConnection, how: Use) -> Result<bool, sqlx::Error> {
    for share in 0..SHARES {
        let taken = sqlx::query_as::<_, (Option<i64>,)>(
            "SELECT CAST(GET_LOCK(CONCAT('uproar.', MD5(DATABASE()), '.', ?), 0) AS SIGNED)",
        );
        let taken = taken.bind(share).fetch_one(&mut *conn).await?.0 == Some(1);
        if taken && how == Use::Shared {
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
}

impl Keeper {
    /// Keeps `hold`, of the store that has this generation.
    pub(super) fn start(place: Place, hold: Hold, generation: i64) -> Keeper {
        let (stop, stopped) = oneshot::channel();
        let lost = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(keep(place, hold, generation, Arc::clone(&lost), stopped));
        Keeper { stop, task, lost }
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

async fn keep(
    place: Place,
    mut hold: Hold,
    generation: i64,
    lost: Arc<AtomicBool>,
    mut stopped: oneshot::Receiver<()>,
) {
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if lost.load(Ordering::Relaxed) || hold.is_held().await {
            continue;
        }
        match take_again(&place, generation).await {
            Ok(again) => {
                tracing::warn!("the connection that holds the store's lock broke; it has another");
                hold = again;
            }
            Err(Refused::Failed(error)) => tracing::warn!(error, "the store's lock is not held"),
            Err(Refused::InUse(error)) => {
                lost.store(true, Ordering::Relaxed);
                tracing::error!(error, "the store is somebody else's now; restart this server");
            }
        }
    }
    hold.release().await;
}

/// The lock anew, where the store is still the one it was.
async fn take_again(place: &Place, generation: i64) -> Result<Hold, Refused> {
    let mut hold = Hold::take(place, Use::Shared).await?;
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
