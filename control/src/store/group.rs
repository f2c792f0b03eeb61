//! SQLite's one writer: takes the jobs that wait, runs them in one transaction, commits once.
//!
//! Owns the writing connection; the log it writes is copied back beside it
//! ([`super::checkpoint`]). A sync to disk costs the same for one message and for hundreds, so the
//! commit is shared; an answer is given after the commit that holds its job, never before.
//! Where a job fails, the group is rolled back and each job gets a transaction of its own: one
//! bad job never fails another.

use super::checkpoint::Log;
use super::{Job, StoreError, TRANSACTION_MAX};
use crate::guard::caught;
use futures_core::future::BoxFuture;
use sqlx::{AnyConnection, Connection as _};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Jobs that may wait. Reached: `Busy`, at once.
const WAITING_MAX: usize = 8192;
/// Jobs of one commit: bounds how long the first one waits for the last.
const GROUP_MAX: usize = 512;

/// A job that keeps its own answer until the group is committed.
trait Queued: Send {
    /// Runs the job. `false`: it failed, and the transaction must not be committed.
    fn run<'a>(&'a mut self, conn: &'a mut AnyConnection) -> BoxFuture<'a, bool>;
    /// Tells the caller, after the commit.
    fn answer(self: Box<Self>, commit: Result<(), StoreError>);
    /// Whether it has waited for so long that it must not be run any more.
    fn is_late(&self) -> bool;
}

struct Waiting<T, J> {
    job: J,
    since: Instant,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send + 'static, J: Job<T>> Queued for Waiting<T, J> {
    fn run<'a>(&'a mut self, conn: &'a mut AnyConnection) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let outcome = caught("transaction", (self.job)(conn)).await;
            let outcome = outcome.unwrap_or(Err(StoreError::Defect));
            let went_well = outcome.is_ok();
            self.outcome = Some(outcome);
            went_well
        })
    }

    fn is_late(&self) -> bool {
        self.since.elapsed() >= TRANSACTION_MAX
    }

    /// Tells the caller, after the commit.
    fn answer(self: Box<Self>, commit: Result<(), StoreError>) {
        // A caller that has gone gave up waiting; what was written stays written.
        let _ = self.reply.send(match (self.outcome, commit) {
            (Some(Err(error)), _) | (_, Err(error)) => Err(error),
            (Some(outcome), Ok(())) => outcome,
            (None, Ok(())) => Err(StoreError::Ended),
        });
    }
}

/// The queue in front of the writing task.
pub(super) struct Writer {
    queue: Mutex<Option<mpsc::Sender<Box<dyn Queued>>>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub(super) fn start(conn: AnyConnection, log: Arc<Log>) -> Writer {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let task = tokio::spawn(run(conn, receiver, log));
        Writer { queue: Mutex::new(Some(sender)), task: Mutex::new(Some(task)) }
    }

    pub(super) async fn write<T: Send + 'static>(&self, job: impl Job<T>) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let waiting = Box::new(Waiting { job, since: Instant::now(), outcome: None, reply });
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

async fn run(mut conn: AnyConnection, mut queue: mpsc::Receiver<Box<dyn Queued>>, log: Arc<Log>) {
    let mut jobs: Vec<Box<dyn Queued>> = Vec::with_capacity(GROUP_MAX);
    while queue.recv_many(&mut jobs, GROUP_MAX).await > 0 {
        let (late, jobs): (Vec<_>, Vec<_>) = jobs.drain(..).partition(|job| job.is_late());
        late.into_iter().for_each(|job| job.answer(Err(StoreError::Busy)));
        if jobs.is_empty() {
            continue;
        }
        let turn = log.turn().await;
        write(&mut conn, jobs).await;
        drop(turn);
        log.committed();
    }
    let _ = conn.close().await; // everything is committed
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
