//! The one place where control's state is kept: accounts, relationships, conversations, messages.
//!
//! Owns the connections to the database, transactions, and the store's generation. One set of
//! rules over two dialects, SQLite and MySQL: every statement is prepared and exercised on both
//! (the tests run on both). What a table means is told in its own file here; who may do what is
//! decided by the rules beside this folder, inside the transaction that writes.

pub(crate) mod accounts;
pub(crate) mod admin;
pub(crate) mod append;
#[cfg(test)]
mod append_tests;
pub(crate) mod audit;
mod backup;
#[cfg(test)]
mod backup_tests;
pub(crate) mod bans;
mod beside;
pub(crate) mod blocks;
mod checkpoint;
pub(crate) mod conversations;
mod copy;
mod dialect;
pub(crate) mod erasures;
mod events;
mod figures;
pub(crate) mod filter;
pub(crate) mod following;
mod group;
pub(crate) mod groups;
mod hold;
pub(crate) mod idempotency;
mod leftovers;
mod migrate;
mod moments;
pub(crate) mod outbox;
mod partitions;
pub(crate) mod penalties;
mod place;
#[cfg(test)]
mod plans;
pub(crate) mod quality;
mod reach;
pub(crate) mod reactions;
#[cfg(test)]
mod reactions_tests;
pub(crate) mod receipts;
pub(crate) mod relations;
mod restore;
mod retention;
#[cfg(test)]
mod retention_tests;
pub(crate) mod roles;
mod schema;
pub(crate) mod settings;
#[cfg(test)]
pub(crate) mod testing;
mod transaction;
mod upkeep;
pub(crate) mod users;

use crate::config::StoreConfig;
pub use backup::{Backup, backup};
use checkpoint::{Checkpoints, Log};
pub(crate) use dialect::Dialect;
use figures::Figures;
use futures_core::future::BoxFuture;
use hold::{Hold, Keeper, Use};
pub use migrate::{Migrated, migrate};
use moments::{Due, Moments};
use place::Place;
pub use reach::{Reached, file, folder, reach};
pub use restore::{Restored, check, restore};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, Connection as _};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use transaction::TRANSACTION_MAX;
use upkeep::{DAY_MS, Plan, Task};
use uproar_proto::control::Sample;
use uproar_proto::error::Code;

/// Connections that only read.
const READERS: u32 = 8;
/// Connections that write to a MySQL server at once; SQLite has one writer.
const MYSQL_WRITERS: u32 = 16;
/// The longest wait for a free connection.
const ACQUIRE_MAX: Duration = Duration::from_secs(5);

/// Why the store did not answer. Refusals by a rule are no errors: they are part of an answer.
#[derive(Debug)]
pub enum StoreError {
    /// The database, in its own words. Whether a transaction took place may be unknown.
    Database(sqlx::Error),
    /// More work waits than may wait; nothing was done.
    Busy,
    /// The store is ending; nothing was done.
    Ended,
    /// A rule refused after the transaction had begun to write: all of it was rolled back.
    Refused(Code),
    /// A row does not say what its writer wrote: a defect, or a hand in the database.
    Corrupt(String),
    /// What was to be done panicked, and was rolled back.
    Defect,
    /// This program cannot use the store as it is: why, and what to do.
    Unusable(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Database(error) => write!(f, "the database: {error}"),
            StoreError::Busy => f.write_str("more writes wait than may wait"),
            StoreError::Ended => f.write_str("the store is ending"),
            StoreError::Refused(code) => f.write_str(code.text()),
            StoreError::Corrupt(what) => write!(f, "the store holds what it should not: {what}"),
            StoreError::Defect => f.write_str("a defect: a transaction panicked"),
            StoreError::Unusable(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for StoreError {}

impl StoreError {
    /// Whether the store does not answer at all.
    pub(crate) fn is_away(&self) -> bool {
        match self {
            StoreError::Database(error) => matches!(
                error,
                sqlx::Error::Io(_)
                    | sqlx::Error::Tls(_)
                    | sqlx::Error::Protocol(_)
                    | sqlx::Error::PoolTimedOut
                    | sqlx::Error::PoolClosed
                    | sqlx::Error::WorkerCrashed
            ),
            StoreError::Ended => true,
            StoreError::Busy
            | StoreError::Refused(_)
            | StoreError::Corrupt(_)
            | StoreError::Defect
            | StoreError::Unusable(_) => false,
        }
    }

    /// Whether the store refused what it was asked: of several things perhaps one alone.
    pub(crate) fn is_about_one(&self) -> bool {
        !self.is_away() && !matches!(self, StoreError::Busy)
    }
}

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
    /// SQLite: one task, many jobs a commit, and one that copies the log.
    One(group::Writer, Mutex<Option<Checkpoints>>),
    /// MySQL: the server groups the commits of concurrent transactions.
    Many(AnyPool),
}

/// An open store. Cheap to share by reference count.
pub struct Store {
    place: Place,
    readers: AnyPool,
    writers: Writers,
    generation: i64,
    moments: Moments,
    figures: Arc<Figures>,
    roles: roles::Given,
    upkeep: Mutex<Option<Task>>,
    keeper: Mutex<Option<Keeper>>,
    /// Somebody else has the store alone, or had: it is not this process's any more.
    lost: Arc<AtomicBool>,
}

impl Store {
    /// Opens the store of `config` to serve from it: as [`Store::open`], and looks after it until
    /// it is closed (partitions made ahead, what is too old removed).
    ///
    /// # Errors
    /// In words for the operator; of a SQLite file also that another process serves it.
    pub async fn serve(config: &StoreConfig) -> Result<Arc<Store>, String> {
        let store = Store::open_for(Use::Serving, &config.url, config.sync).await?;
        let days = |days: u32| i64::from(days) * DAY_MS;
        let plan =
            Plan { keep_ms: days(config.retention_days), period_ms: days(config.period_days) };
        match Task::start(&store, plan).await {
            Ok(task) => *held(&store.upkeep) = Some(task),
            Err(error) => {
                let error = store.place.told(error);
                store.close().await;
                return Err(error);
            }
        }
        Ok(store)
    }

    /// Opens `url` (`sqlite:FILE` or `mysql://user:password@host:port/database`), brings its tables
    /// up to date and reads its generation. Without `sync`, a power loss may take what SQLite has
    /// acknowledged.
    ///
    /// # Errors
    /// In words for the operator: what is wrong with the URL, the file or the server; or a restore
    /// is under way.
    pub async fn open(url: &str, sync: bool) -> Result<Arc<Store>, String> {
        Store::open_for(Use::Shared, url, sync).await
    }

    async fn open_for(how: Use, url: &str, sync: bool) -> Result<Arc<Store>, String> {
        let place = Place::of(url, sync)?;
        let hold = Hold::take(&place, how).await.map_err(hold::Refused::text)?;
        Store::open_at(&place, hold).await.map(Arc::new).map_err(|e| place.told(e))
    }

    async fn open_at(place: &Place, hold: Hold) -> Result<Store, StoreError> {
        place.check_files().map_err(StoreError::Unusable)?;
        copy::check_no_backup(place).await?;
        // The writer first: it creates the file, and the tables before anybody reads them.
        let mut conn = place.connect().await?;
        migrate::run(place.dialect, &mut conn).await?;
        let generation = migrate::generation(place.dialect, &mut conn).await;
        let generation = generation
            .map_err(|e| StoreError::Unusable(format!("the store cannot be written: {e}")))?;
        let moments = Moments::of(migrate::newest_ms(place.dialect, &mut conn).await?);
        let figures = Arc::new(Figures::default());
        let writers = match place.dialect {
            Dialect::Sqlite => {
                let log = Arc::new(Log::default());
                let copier = Checkpoints::start(place, Arc::clone(&log), Arc::clone(&figures));
                let copier = Mutex::new(Some(copier.await?));
                Writers::One(group::Writer::start(conn, log), copier)
            }
            Dialect::Mysql => {
                conn.close().await?;
                Writers::Many(place.pool(MYSQL_WRITERS).await?)
            }
        };
        let keeper = Keeper::start(place.clone(), hold, generation);
        Ok(Store {
            readers: place.pool(READERS).await?,
            place: place.clone(),
            writers,
            generation,
            moments,
            figures,
            roles: roles::Given::default(),
            upkeep: Mutex::new(None),
            lost: keeper.lost(),
            keeper: Mutex::new(Some(keeper)),
        })
    }

    /// The dialect its statements are written in.
    pub(crate) fn dialect(&self) -> Dialect {
        self.place.dialect
    }

    /// Figures for `/metrics`.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        self.figures.samples()
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
        self.moment(crate::process::unix_ms())
    }

    /// The moment when the clock shows this.
    fn moment(&self, clock_ms: i64) -> i64 {
        self.moments.at(clock_ms)
    }

    /// Now, for a client that will ask later what has changed since: no later change has a moment
    /// before it, not even after a restart with a clock that was set back.
    pub(crate) async fn now_kept_ms(&self) -> Result<i64, StoreError> {
        let now_ms = self.now_ms();
        self.remembering(async move { Ok(now_ms) }).await
    }

    /// Does something that makes moments known, and remembers before how far they go.
    async fn remembering<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match self.moments.due() {
            Due::No => work.await,
            Due::Now => {
                if let Some((_writing, bound_ms)) = self.moments.next_due().await {
                    self.keep_bound(bound_ms).await?;
                }
                work.await
            }
            Due::Soon => {
                let Some((writing, bound_ms)) = self.moments.try_next() else {
                    return work.await;
                };
                let keep = async {
                    let _writing = writing;
                    self.keep_bound(bound_ms).await
                };
                let (kept, done) = tokio::join!(keep, work);
                if let Err(error) = kept {
                    // It is not needed yet; who needs it tries again.
                    tracing::debug!(%error, "the newest moment could not be remembered");
                }
                done
            }
        }
    }

    async fn keep_bound(&self, bound_ms: i64) -> Result<(), StoreError> {
        self.write_only(move |conn| Box::pin(migrate::keep_ms(conn, bound_ms))).await?;
        self.moments.kept(bound_ms);
        Ok(())
    }

    /// A connection to read with: sees what was committed before.
    pub(crate) async fn reader(&self) -> Result<PoolConnection<Any>, StoreError> {
        self.check_ours()?;
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
        self.remembering(self.write_only(job)).await
    }

    /// The same, whatever moments it writes.
    async fn write_only<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut AnyConnection) -> Outcome<'c, T> + Send + Sync + 'static,
    {
        self.check_ours()?;
        match &self.writers {
            Writers::One(writer, _) => writer.write(job).await,
            Writers::Many(pool) => transaction::run(pool, &job).await,
        }
    }

    /// The same for a job that finds by ids what an earlier run of it has done: where a `COMMIT`
    /// was not answered it is run again until the database says what became of it. That may take
    /// as long as the database is away, so whoever waits bounds the wait. Also whether it was so:
    /// then what the job found done may be its own.
    ///
    /// # Errors
    /// The job's own, or the database's: nothing was written.
    pub(crate) async fn write_by_ids<T, F>(&self, job: F) -> Result<(T, bool), StoreError>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut AnyConnection) -> Outcome<'c, T> + Send + Sync + 'static,
    {
        let work = async {
            self.check_ours()?;
            match &self.writers {
                // Inside the process, a commit that fails has been rolled back.
                Writers::One(writer, _) => Ok((writer.write(job).await?, false)),
                Writers::Many(pool) => transaction::run_by_ids(pool, &job).await,
            }
        };
        self.remembering(work).await
    }

    fn check_ours(&self) -> Result<(), StoreError> {
        if self.lost.load(Ordering::Relaxed) { Err(StoreError::Ended) } else { Ok(()) }
    }

    /// Ends the store: what was accepted is written first. The next one may have it then.
    pub async fn close(&self) {
        if let Some(keeper) = &*held(&self.keeper) {
            keeper.closing();
        }
        let task = held(&self.upkeep).take();
        if let Some(task) = task {
            task.end().await;
        }
        match &self.writers {
            Writers::One(writer, copier) => {
                writer.close().await;
                let copier = held(copier).take();
                if let Some(copier) = copier {
                    copier.end().await;
                }
            }
            Writers::Many(pool) => pool.close().await,
        }
        self.readers.close().await;
        let keeper = held(&self.keeper).take();
        if let Some(keeper) = keeper {
            keeper.release().await;
        }
    }
}

/// What is wrong with a URL to serve from, before anything is opened.
pub(crate) fn check_url(url: &str) -> Result<(), String> {
    let place = Place::of(url, true)?;
    let nowhere = |file: &std::path::Path| file.as_os_str().is_empty();
    if place.dialect == Dialect::Sqlite && place.file.as_deref().is_none_or(nowhere) {
        return Err(
            place.told("it names no file, and nothing would be kept; allowed is sqlite:FILE")
        );
    }
    Ok(())
}

/// What stands in a lock whose holder may have panicked: it is whole all the same.
fn held<T>(lock: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The longest piece of [`parts`].
const PART_MAX: usize = 64;

/// A list in pieces of 64, 8 or 1: any number of rows with few distinct statements to prepare, and
/// few enough arguments for every server.
fn parts<T>(list: &[T]) -> impl Iterator<Item = &[T]> {
    parts_within(list, |_| 0)
}

/// Bytes of one statement, about: servers take 16 MiB at once, and one row has 1 MiB at most.
const STATEMENT_BYTES: usize = 1 << 20;

/// The same where rows are large: no piece of several rows has more than [`STATEMENT_BYTES`].
fn parts_within<T>(list: &[T], bytes: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let fits = |size: &usize| {
            let part = rest.get(..*size);
            part.is_some_and(|p| {
                *size == 1 || p.iter().map(&bytes).sum::<usize>() <= STATEMENT_BYTES
            })
        };
        let size = [PART_MAX, 8, 1].into_iter().find(fits)?;
        let (part, others) = rest.split_at(size);
        rest = others;
        Some(part)
    })
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
    fn a_refusal_after_a_write_takes_the_write_back() {
        on_both(|store| async move {
            let before = facts(&store).await;
            let refused = store.write(|conn| {
                Box::pin(async move {
                    let insert = "INSERT INTO store_facts (name, value) VALUES ('gone', 7)";
                    sqlx::query(insert).execute(conn).await?;
                    Err::<(), _>(StoreError::Refused(Code::LimitReached))
                })
            });
            let refused = refused.await;
            let code = matches!(refused, Err(StoreError::Refused(Code::LimitReached)));
            assert!(code, "{refused:?}");
            assert_eq!(facts(&store).await, before);
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
    fn what_waited_too_long_is_not_written_under_its_old_moment() {
        on_both(|store| async move {
            let before = facts(&store).await;
            let begun = Arc::new(tokio::sync::Notify::new());
            let (slow, begins) = (Arc::clone(&store), Arc::clone(&begun));
            let slow = tokio::spawn(async move {
                let slept = slow.write(move |conn| {
                    let begins = Arc::clone(&begins);
                    Box::pin(async move {
                        insert("slow")(conn).await?;
                        begins.notify_one();
                        tokio::time::sleep(TRANSACTION_MAX + Duration::from_secs(3)).await;
                        Ok(())
                    })
                });
                slept.await
            });
            begun.notified().await;
            let behind = store.write(insert("behind")).await;
            let slow = slow.await.unwrap();
            match store.dialect() {
                // One writer: the first was begun in time, the other one waited for it.
                Dialect::Sqlite => {
                    assert!(slow.is_ok() && matches!(behind, Err(StoreError::Busy)), "{behind:?}");
                }
                Dialect::Mysql => {
                    assert!(matches!(slow, Err(StoreError::Database(_))), "{slow:?}");
                    assert!(behind.is_ok(), "they run side by side: {behind:?}");
                }
            }
            assert_eq!(facts(&store).await, before + 1);
        });
    }

    #[test]
    fn a_store_opened_again_is_the_same_store() {
        on_both(|store| async move {
            assert_ne!(store.generation(), 0);
        });
        super::testing::runtime().block_on(async {
            let test = TestStore::sqlite().await;
            let generation = test.generation();
            test.write(insert("kept")).await.unwrap();
            test.close().await;
            let late = test.write(insert("late")).await;
            assert!(matches!(late, Err(StoreError::Ended)), "{late:?}");
            let again = Store::open(&test.url, true).await.unwrap();
            assert_eq!(again.generation(), generation);
            assert_eq!(facts(&again).await, 3);
            again.close().await;
            test.end().await;
        });
    }

    /// What changes at this moment.
    fn change(at_ms: i64) -> impl Job<()> {
        move |conn: &mut AnyConnection| -> BoxFuture<'_, Result<(), StoreError>> {
            Box::pin(async move {
                let insert = sqlx::query(
                    "INSERT INTO ended_relations (user_id, peer_id, changed_ms) VALUES (?, ?, ?)",
                );
                let insert = insert.bind(crate::ids::random_id()).bind(1).bind(at_ms);
                insert.execute(conn).await?;
                Ok(())
            })
        }
    }

    async fn remembered(store: &Store) -> i64 {
        let mut conn = store.reader().await.unwrap();
        migrate::fact(&mut conn, "moment_bound").await.unwrap().unwrap()
    }

    #[test]
    fn moments_never_go_back_with_the_clock_not_even_over_a_restart() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for test in [Some(TestStore::sqlite().await), TestStore::mysql().await] {
                let Some(test) = test else { continue };
                let clock_ms = crate::process::unix_ms();
                let hour_ms = 3_600_000;
                assert_eq!(test.moment(clock_ms + hour_ms), clock_ms + hour_ms);
                assert_eq!(test.moment(clock_ms), clock_ms + hour_ms, "set back by an hour");
                assert_eq!(test.moment(clock_ms + hour_ms + 1), clock_ms + hour_ms + 1);
                assert!(test.now_ms() > clock_ms + hour_ms);
                // A client was told of it, and nothing was written then but that.
                let told_ms = test.now_kept_ms().await.unwrap();
                let later_ms = test.moment(told_ms + 900);
                assert_eq!(test.now_kept_ms().await.unwrap(), later_ms);
                test.close().await;
                let again = Store::open(&test.url, true).await.unwrap();
                let now_ms = again.moment(clock_ms);
                let ahead_ms = now_ms - later_ms;
                assert!((0..=2_000).contains(&ahead_ms), "{now_ms}, told {later_ms}");
                assert!(again.now_kept_ms().await.unwrap() >= now_ms);
                // What was written counts like what was told, however often; no table is read.
                let mut written_ms = now_ms;
                for step_ms in [1, 1_500, 1, 9_000, 700, 700, 700, 700] {
                    written_ms = again.moment(written_ms + step_ms);
                    again.write(change(written_ms)).await.unwrap();
                    again.write_by_ids(change(written_ms)).await.unwrap();
                    let bound_ms = remembered(&again).await;
                    let ahead_ms = bound_ms - written_ms;
                    assert!((0..=2_000).contains(&ahead_ms), "{bound_ms}, written {written_ms}");
                }
                again.close().await;
                let third = Store::open(&test.url, true).await.unwrap();
                assert!(third.moment(clock_ms) >= written_ms);
                third.close().await;
                test.end().await;
            }
        });
    }
}
