//! SQLite's one writer: takes the jobs that wait, runs them in one transaction, commits once.
//!
//! Owns the writing connection. A sync to disk costs the same for one message and for hundreds,
//! so the commit is shared; an answer is given after the commit that holds its job, never before.
//! Where a job fails, the group is rolled back and each job gets a transaction of its own: one
//! bad job never fails another.

use super::{Job, StoreError};
use futures_core::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection};
use std::sync::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Jobs that may wait. Reached: `Busy`, at once.
const WAITING_MAX: usize = 8192;
/// Jobs of one commit: bounds how long the first one waits for the last.
const GROUP_MAX: usize = 512;
/// Pages (of 4 KiB) the log may reach before it is copied back into the file, between groups.
const CHECKPOINT_PAGES: i64 = 8192;
/// Commits after which the log is copied back, once nobody waits.
const CHECKPOINT_LOOK: u32 = 64;
/// The same where somebody always waits: the log must not grow for ever.
const CHECKPOINT_BUSY: u32 = 1024;

/// A job that keeps its own answer until the group is committed.
trait Queued: Send {
    /// Runs the job. `false`: it failed, and the transaction must not be committed.
    fn run<'a>(&'a mut self, conn: &'a mut AnyConnection) -> BoxFuture<'a, bool>;
    /// Tells the caller, after the commit.
    fn answer(self: Box<Self>, commit: Result<(), StoreError>);
}

struct Waiting<T, J> {
    job: J,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send + 'static, J: Job<T>> Queued for Waiting<T, J> {
    fn run<'a>(&'a mut self, conn: &'a mut AnyConnection) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let outcome = (self.job)(conn).await;
            let went_well = outcome.is_ok();
            self.outcome = Some(outcome);
            went_well
        })
    }

    /// Tells the caller, after the commit.
    fn answer(self: Box<Self>, commit: Result<(), StoreError>) {
        let outcome = self.outcome.unwrap_or(Err(StoreError::Ended));
        // A caller that has gone gave up waiting; what was written stays written.
        let _ = self.reply.send(match (outcome, commit) {
            (Ok(_), Err(error)) => Err(error),
            (outcome, _) => outcome,
        });
    }
}

/// The queue in front of the writing task.
pub(super) struct Writer {
    queue: Mutex<Option<mpsc::Sender<Box<dyn Queued>>>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub(super) fn start(conn: PoolConnection<Any>) -> Writer {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let task = tokio::spawn(run(conn, receiver));
        Writer { queue: Mutex::new(Some(sender)), task: Mutex::new(Some(task)) }
    }

    pub(super) async fn write<T: Send + 'static>(&self, job: impl Job<T>) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let waiting = Box::new(Waiting { job, outcome: None, reply });
        {
            let queue = self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let queue = queue.as_ref().ok_or(StoreError::Ended)?;
            queue.try_send(waiting).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => StoreError::Busy,
                mpsc::error::TrySendError::Closed(_) => StoreError::Ended,
            })?;
        }
        answer.await.unwrap_or(Err(StoreError::Ended))
    }

    pub(super) async fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
        let task = self.task.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the store's writer did not end as it should");
        }
    }
}

async fn run(mut conn: PoolConnection<Any>, mut queue: mpsc::Receiver<Box<dyn Queued>>) {
    let mut jobs: Vec<Box<dyn Queued>> = Vec::with_capacity(GROUP_MAX);
    let mut commits = 0_u32;
    while queue.recv_many(&mut jobs, GROUP_MAX).await > 0 {
        write(&mut conn, std::mem::take(&mut jobs)).await;
        commits = commits.wrapping_add(1);
        let busy = !queue.is_empty();
        let due = if busy { CHECKPOINT_BUSY } else { CHECKPOINT_LOOK };
        if commits.is_multiple_of(due) {
            checkpoint(&mut conn).await;
        }
    }
    checkpoint(&mut conn).await;
}

/// One transaction for all; where one of them fails, one for each.
async fn write(conn: &mut AnyConnection, mut jobs: Vec<Box<dyn Queued>>) {
    let together = jobs.len() > 1;
    match all(conn, &mut jobs).await {
        Ok(true) => jobs.into_iter().for_each(|job| job.answer(Ok(()))),
        Ok(false) if together => {
            for job in jobs {
                Box::pin(write(conn, vec![job])).await;
            }
        }
        Ok(false) => jobs.into_iter().for_each(|job| job.answer(Ok(()))),
        Err(error) => {
            // Nobody knows whether the commit took place; every caller is told so.
            let told = error.to_string();
            tracing::error!(error = told, jobs = jobs.len(), "a commit failed");
            for job in jobs {
                job.answer(Err(StoreError::Database(sqlx::Error::Protocol(told.clone()))));
            }
        }
    }
}

/// `Ok(false)`: a job failed, and nothing was written.
async fn all(conn: &mut AnyConnection, jobs: &mut [Box<dyn Queued>]) -> Result<bool, sqlx::Error> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *conn).await?;
    for job in jobs {
        if !job.run(conn).await {
            sqlx::query("ROLLBACK").execute(&mut *conn).await?;
            return Ok(false);
        }
    }
    if let Err(error) = sqlx::query("COMMIT").execute(&mut *conn).await {
        // A full disk leaves the transaction open; the next one must be able to begin.
        let _ = sqlx::query("ROLLBACK").execute(&mut *conn).await;
        return Err(error);
    }
    Ok(true)
}

/// Copies the log back while nobody waits, so that no commit pays for it.
async fn checkpoint(conn: &mut AnyConnection) {
    let pages = sqlx::query_as::<_, (i64, i64, i64)>("PRAGMA wal_checkpoint(PASSIVE)");
    match pages.fetch_one(conn).await {
        Ok((busy, log, copied)) if busy != 0 || log - copied > CHECKPOINT_PAGES => {
            tracing::warn!(log, copied, "the store's log is longer than it should be");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the store's log could not be copied back"),
    }
}
