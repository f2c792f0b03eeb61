//! One transaction on a MySQL-protocol server: bounded in time, run again after a conflict, and
//! looked up again where its COMMIT was not answered.
//!
//! Owns what an error means. Before the COMMIT was sent nothing was written; after it, only the
//! database knows, and a job that finds by ids what an earlier run of it has done asks there.

use super::{Job, StoreError, dialect};
use crate::guard::caught;
use sqlx::{Acquire as _, Any, AnyPool};
use std::io::{Error, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The longest a transaction takes: a sync looks back three times as far. Reached: its connection
/// is closed, and with it the transaction.
pub(super) const TRANSACTION_MAX: Duration = Duration::from_secs(10);
/// A transaction that met a deadlock or a lock's time-out is run again this often.
const CONFLICT_RETRIES: u32 = 5;
/// Between two looks for a COMMIT that was not answered: the database may be starting.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How a run ended.
enum End<T> {
    Done(T),
    /// Another transaction was in its way; nothing was written.
    Conflict(sqlx::Error),
    /// Nothing was written.
    Failed(StoreError),
    /// The COMMIT was sent, and not answered.
    Unknown(sqlx::Error),
}

/// Runs a job until it is committed, or fails in a way that another run would not mend.
pub(super) async fn run<T>(pool: &AnyPool, job: &impl Job<T>) -> Result<T, StoreError> {
    let mut tries = 0;
    loop {
        match once(pool, job).await {
            End::Done(answer) => return Ok(answer),
            End::Conflict(_) if tries < CONFLICT_RETRIES => tries += 1,
            End::Conflict(error) | End::Unknown(error) => return Err(error.into()),
            End::Failed(error) => return Err(error),
        }
        tokio::time::sleep(Duration::from_millis(1 << tries)).await;
    }
}

/// The same for a job that finds by ids what an earlier run of it has done: after a COMMIT that was
/// not answered it is run again until the database says what became of it, however long that
/// takes. The locks it takes make it wait for the run it looks for. Also whether it was so: then
/// what it found done may be its own.
pub(super) async fn run_by_ids<T>(
    pool: &AnyPool,
    job: &impl Job<T>,
) -> Result<(T, bool), StoreError> {
    let (mut tries, mut unknown) = (0, false);
    loop {
        match once(pool, job).await {
            End::Done(answer) => return Ok((answer, unknown)),
            End::Conflict(_) if tries < CONFLICT_RETRIES => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(1 << tries)).await;
                continue;
            }
            End::Unknown(error) => {
                tracing::warn!(%error, "a commit was not answered; it is looked for");
                unknown = true;
            }
            End::Conflict(error) if !unknown => return Err(error.into()),
            End::Failed(error) if !unknown || is_final(&error) => return Err(error),
            End::Conflict(_) | End::Failed(_) => {}
        }
        tries = 0;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Whether another look would end the same way.
fn is_final(error: &StoreError) -> bool {
    match error {
        StoreError::Database(sqlx::Error::PoolClosed) => true,
        StoreError::Database(_) => false,
        StoreError::Busy
        | StoreError::Ended
        | StoreError::Refused(_)
        | StoreError::Corrupt(_)
        | StoreError::Defect
        | StoreError::Unusable(_) => true,
    }
}

async fn once<T>(pool: &AnyPool, job: &impl Job<T>) -> End<T> {
    let mut conn = match pool.acquire().await {
        Ok(conn) => conn,
        Err(error) => return End::Failed(error.into()),
    };
    let committing = AtomicBool::new(false);
    let ran = tokio::time::timeout(TRANSACTION_MAX, on(&mut conn, job, &committing)).await;
    ran.unwrap_or_else(|_| {
        // Not given back: what still comes in there belongs to nobody.
        drop(conn.detach());
        let text = format!("a transaction was not over within {TRANSACTION_MAX:?}");
        let error = sqlx::Error::Io(Error::new(ErrorKind::TimedOut, text));
        match committing.load(Ordering::Relaxed) {
            true => End::Unknown(error),
            false => End::Failed(error.into()),
        }
    })
}

/// A rollback that fails leaves a broken connection, which the pool closes: that ends the
/// transaction too.
async fn on<T>(
    conn: &mut sqlx::pool::PoolConnection<Any>,
    job: &impl Job<T>,
    committing: &AtomicBool,
) -> End<T> {
    let mut tx = match conn.begin().await {
        Ok(tx) => tx,
        Err(error) => return End::Failed(error.into()),
    };
    let done = caught("transaction", job(&mut tx)).await;
    match done.unwrap_or(Err(StoreError::Defect)) {
        Ok(answer) => {
            committing.store(true, Ordering::Relaxed);
            match tx.commit().await {
                Ok(()) => End::Done(answer),
                Err(error) if dialect::is_conflict(&error) => End::Conflict(error),
                Err(error) => End::Unknown(error),
            }
        }
        Err(StoreError::Database(error)) if dialect::is_conflict(&error) => {
            let _ = tx.rollback().await;
            End::Conflict(error)
        }
        Err(error) => {
            let _ = tx.rollback().await;
            End::Failed(error)
        }
    }
}
