//! The one place where control's state is kept: accounts, relationships, conversations, messages.
//!
//! Owns the connections to the database, transactions, and the store's generation. One set of
//! rules over two dialects, SQLite and MySQL: every statement is prepared and exercised on both
//! (the tests run on both). What a table means is told in its own file here; who may do what is
//! decided by the rules beside this folder, inside the transaction that writes.

pub(crate) mod accounts;
pub(crate) mod append;
#[cfg(test)]
mod append_tests;
pub(crate) mod conversations;
mod dialect;
mod group;
mod migrate;
pub(crate) mod relations;
mod schema;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod users;

pub(crate) use dialect::Dialect;
use futures_core::future::BoxFuture;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Connections that only read.
const READERS: u32 = 8;
/// Connections that write to a MySQL server at once; SQLite has one writer.
const MYSQL_WRITERS: u32 = 16;
/// The longest wait for a free connection.
const ACQUIRE_MAX: Duration = Duration::from_secs(5);
/// A MySQL transaction that met a deadlock or a lock's time-out is run again this often.
const CONFLICT_RETRIES: u32 = 5;

/// Why the store did not answer. Refusals by a rule are no errors: they are part of an answer.
#[derive(Debug)]
pub enum StoreError {
    /// The database, in its own words. Whether a transaction took place may be unknown.
    Database(sqlx::Error),
    /// More work waits than may wait; nothing was done.
    Busy,
    /// The store is ending; nothing was done.
    Ended,
    /// A row does not say what its writer wrote: a defect, or a hand in the database.
    Corrupt(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Database(error) => write!(f, "the database: {error}"),
            StoreError::Busy => f.write_str("more writes wait than may wait"),
            StoreError::Ended => f.write_str("the store is ending"),
            StoreError::Corrupt(what) => write!(f, "the store holds what it should not: {what}"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> StoreError {
        StoreError::Database(error)
    }
}

/// What a job gives back.
pub(crate) type Outcome<'c, T> = BoxFuture<'c, Result<T, StoreError>>;

/// What runs inside a transaction. It may be run again after a conflict, so it captures what it
/// needs and keeps no state between runs. A refusal is an `Ok` that wrote nothing; an `Err` rolls
/// the whole transaction back.
pub(crate) trait Job<T>:
    for<'c> Fn(&'c mut AnyConnection) -> Outcome<'c, T> + Send + Sync + 'static
{
}

impl<T, F> Job<T> for F where
    F: for<'c> Fn(&'c mut AnyConnection) -> Outcome<'c, T> + Send + Sync + 'static
{
}

/// How writes reach the database.
enum Writers {
    /// SQLite: one task, many jobs a commit.
    One(group::Writer),
    /// MySQL: the server groups the commits of concurrent transactions.
    Many(AnyPool),
}

/// An open store. Cheap to share by reference count.
pub struct Store {
    dialect: Dialect,
    readers: AnyPool,
    writers: Writers,
    generation: i64,
    /// The newest moment given out: moments never go back, whatever the clock does.
    newest_ms: AtomicI64,
}

impl Store {
    /// Opens `url` (`sqlite:FILE` or `mysql://user:password@host:port/database`), brings its tables
    /// up to date and reads its generation. Without `sync`, a power loss may take what SQLite has
    /// acknowledged.
    ///
    /// # Errors
    /// In words for the operator: what is wrong with the URL, the file or the server.
    pub async fn open(url: &str, sync: bool) -> Result<Arc<Store>, String> {
        let dialect = Dialect::of(url)?;
        sqlx::any::install_default_drivers();
        let url = dialect.connection_url(url);
        let shown = dialect::without_password(&url);
        let told = |e: sqlx::Error| format!("store.url {shown}: {e}");
        let options: AnyConnectOptions = url.parse().map_err(told)?;
        let pool = |connections: u32| {
            AnyPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(ACQUIRE_MAX)
                .after_connect(move |conn, _| Box::pin(dialect.prepare_connection(sync, conn)))
        };
        // The writer first: it creates the file, and the tables before anybody reads them.
        let first = pool(1).connect_with(options.clone()).await.map_err(told)?;
        let mut conn = first.acquire().await.map_err(told)?;
        migrate::run(dialect, &mut conn).await.map_err(|e| format!("store.url {shown}: {e}"))?;
        let generation = migrate::generation(&mut conn).await.map_err(told)?;
        let newest_ms = migrate::newest_ms(&mut conn).await.map_err(told)?;
        let writers = match dialect {
            Dialect::Sqlite => Writers::One(group::Writer::start(conn)),
            Dialect::Mysql => {
                drop(conn);
                let writers = pool(MYSQL_WRITERS).connect_with(options.clone()).await;
                Writers::Many(writers.map_err(told)?)
            }
        };
        let readers = pool(READERS).connect_with(options).await.map_err(told)?;
        let newest_ms = AtomicI64::new(newest_ms);
        Ok(Arc::new(Store { dialect, readers, writers, generation, newest_ms }))
    }

    /// The dialect its statements are written in.
    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// A random value that names this life of the store: another one means that sequence numbers
    /// may have been used before (a restored backup, a replaced database).
    #[must_use]
    pub fn generation(&self) -> i64 {
        self.generation
    }

    /// Milliseconds since 1970, never less than before, not even than before a restart: what
    /// changed is found by its moment, and a clock that was set back must not hide it.
    pub(crate) fn now_ms(&self) -> i64 {
        let now_ms = crate::process::unix_ms();
        self.newest_ms.fetch_max(now_ms, Ordering::Relaxed).max(now_ms)
    }

    /// A connection to read with: sees what was committed before.
    pub(crate) async fn reader(&self) -> Result<PoolConnection<Any>, StoreError> {
        Ok(self.readers.acquire().await?)
    }

    /// Runs `job` in a transaction and answers after its commit.
    ///
    /// # Errors
    /// The job's own, or the database's. After a database error on `COMMIT` it is unknown whether
    /// the transaction took place: callers look again by the ids they chose.
    pub(crate) async fn write<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        // As `Job`, spelled out: so the compiler knows what a closure given here is to be.
        F: for<'c> Fn(&'c mut AnyConnection) -> Outcome<'c, T> + Send + Sync + 'static,
    {
        match &self.writers {
            Writers::One(writer) => writer.write(job).await,
            Writers::Many(pool) => transaction(pool, &job).await,
        }
    }

    /// Ends the store: what was accepted is written first.
    pub async fn close(&self) {
        match &self.writers {
            Writers::One(writer) => writer.close().await,
            Writers::Many(pool) => pool.close().await,
        }
        self.readers.close().await;
    }
}

/// A list in pieces of 64, 8 or 1: any number of rows with few distinct statements to prepare, and
/// few enough arguments for every server.
fn parts<T>(list: &[T]) -> impl Iterator<Item = &[T]> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let size = [64, 8, 1].into_iter().find(|size| *size <= rest.len())?;
        let (part, others) = rest.split_at(size);
        rest = others;
        Some(part)
    })
}

/// One transaction of its own, run again where another one was in its way.
async fn transaction<T>(pool: &AnyPool, job: &impl Job<T>) -> Result<T, StoreError> {
    let mut tries = 0;
    loop {
        let mut tx = pool.begin().await?;
        match job(&mut tx).await {
            Ok(answer) => match tx.commit().await {
                Ok(()) => return Ok(answer),
                Err(error) if dialect::is_conflict(&error) && tries < CONFLICT_RETRIES => {}
                Err(error) => return Err(error.into()),
            },
            Err(StoreError::Database(error))
                if dialect::is_conflict(&error) && tries < CONFLICT_RETRIES =>
            {
                tx.rollback().await?;
            }
            Err(error) => {
                tx.rollback().await?;
                return Err(error);
            }
        }
        tries += 1;
        tokio::time::sleep(Duration::from_millis(1 << tries)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{TestStore, on_both};
    use super::*;

    async fn facts(store: &Store) -> i64 {
        let mut conn = store.reader().await.unwrap();
        let count = sqlx::query_as::<_, (i64,)>("SELECT COUNT(*) FROM store_facts");
        count.fetch_one(&mut *conn).await.unwrap().0
    }

    fn insert(name: &'static str) -> impl Job<()> {
        move |conn: &mut AnyConnection| -> BoxFuture<'_, Result<(), StoreError>> {
            Box::pin(async move {
                let insert = sqlx::query("INSERT INTO store_facts (name, value) VALUES (?, 7)");
                insert.bind(name).execute(conn).await?;
                Ok(())
            })
        }
    }

    #[test]
    fn a_committed_job_is_seen_by_readers_and_a_failed_one_is_not() {
        on_both(|store| async move {
            let before = facts(&store).await;
            store.write(insert("once")).await.unwrap();
            assert_eq!(facts(&store).await, before + 1);
            let again = store.write(insert("once")).await;
            assert!(matches!(again, Err(StoreError::Database(_))), "{again:?}");
            assert_eq!(facts(&store).await, before + 1);
        });
    }

    #[test]
    fn one_bad_job_never_fails_the_others_of_its_group() {
        on_both(|store| async move {
            let before = facts(&store).await;
            let names = ["a", "b", "a", "c", "d", "a"];
            let jobs = names.map(|name| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { store.write(insert(name)).await.is_ok() })
            });
            let mut written = 0;
            for job in jobs {
                written += i64::from(job.await.unwrap());
            }
            assert_eq!(written, 4, "one of the three a, and b, c, d");
            assert_eq!(facts(&store).await, before + 4);
        });
    }

    #[test]
    fn a_store_opened_again_is_the_same_store() {
        on_both(|store| async move {
            assert_ne!(store.generation(), 0);
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let test = TestStore::sqlite().await;
            let generation = test.generation();
            test.write(insert("kept")).await.unwrap();
            test.close().await;
            let late = test.write(insert("late")).await;
            assert!(matches!(late, Err(StoreError::Ended)), "{late:?}");
            let again = Store::open(&test.url, true).await.unwrap();
            assert_eq!(again.generation(), generation);
            assert_eq!(facts(&again).await, 2);
            again.close().await;
            test.end().await;
        });
    }
}
