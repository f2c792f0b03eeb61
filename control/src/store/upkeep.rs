//! What a store needs while it serves: partitions ahead of the time, and an end of what is old.
//!
//! Owns the pace. Everything is done in small transactions, and after each one the task rests for
//! several times as long as it took: so however slow the disk is, most of the writer's time is the
//! others'.

use super::figures::{Removed, Work};
use super::{Dialect, Store, StoreError, leftovers, partitions, retention};
use sqlx::{AnyConnection, Connection as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A round begins this long after the one before.
const EVERY: Duration = Duration::from_secs(3_600);
/// And this long after one that failed.
const RETRY: Duration = Duration::from_secs(60);
/// A step is followed by a rest of this many times its own length.
const REST: u32 = 4;
/// The shortest rest.
const REST_MIN: Duration = Duration::from_millis(5);
/// Milliseconds of a day.
pub(super) const DAY_MS: i64 = 86_400_000;

/// How long what is kept, in milliseconds; 0: for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) keep_ms: i64,
    pub(super) period_ms: i64,
}

/// The work, and what it is done with.
pub(super) struct Upkeep {
    pub(super) store: Arc<Store>,
    pub(super) period_ms: i64,
    /// For what locks a server's tables; `None`: SQLite.
    pub(super) server: Option<Mutex<AnyConnection>>,
    ending: watch::Receiver<bool>,
}

/// The task that does it.
pub(super) struct Task {
    ending: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Task {
    /// Makes the partitions that are missing and begins; the first round is due at once.
    pub(super) async fn start(store: &Arc<Store>, plan: Plan) -> Result<Task, StoreError> {
        let (ending, ended) = watch::channel(false);
        let upkeep = Upkeep::of(store, plan, ended).await?;
        // Nobody writes yet: content that waits in the last partition may be moved.
        upkeep.make_partitions(store.now_ms(), true).await?;
        Ok(Task { ending, task: tokio::spawn(upkeep.run(plan)) })
    }

    /// Ends it after the step that is under way.
    pub(super) async fn end(self) {
        let _ = self.ending.send(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the store's upkeep did not end as it should");
        }
    }
}

impl Upkeep {
    pub(super) async fn of(
        store: &Arc<Store>,
        plan: Plan,
        ending: watch::Receiver<bool>,
    ) -> Result<Upkeep, StoreError> {
        let server = match store.dialect() {
            Dialect::Sqlite => None,
            Dialect::Mysql => Some(Mutex::new(store.place.connect().await?)),
        };
        let store = Arc::clone(store);
        Ok(Upkeep { store, period_ms: plan.period_ms, server, ending })
    }

    async fn run(self, plan: Plan) {
        while !self.is_ending() {
            let now_ms = self.store.now_ms();
            let mut wait = EVERY;
            for work in [Work::Partitions, Work::Retention, Work::Leftovers] {
                if let Err(error) = self.work(work, plan, now_ms).await {
                    wait = RETRY;
                    self.store.figures.count_failure(work);
                    tracing::warn!(%error, ?work, "the store's upkeep is tried again");
                    self.reconnect().await;
                }
            }
            self.rest(wait).await;
        }
        if let Some(server) = self.server {
            let _ = server.into_inner().close().await; // the process is ending
        }
    }

    async fn work(&self, work: Work, plan: Plan, now_ms: i64) -> Result<(), StoreError> {
        match work {
            Work::Partitions => self.make_partitions(now_ms, false).await,
            Work::Retention if plan.keep_ms == 0 => Ok(()),
            Work::Retention => retention::run(self, plan.keep_ms, now_ms).await,
            Work::Leftovers => leftovers::run(self, now_ms).await,
        }
    }

    async fn make_partitions(&self, now_ms: i64, copying: bool) -> Result<(), StoreError> {
        let Some(server) = &self.server else { return Ok(()) };
        let mut conn = server.lock().await;
        let times = (now_ms, now_ms);
        let made = partitions::make_ahead(&mut conn, self.period_ms, times, copying).await?;
        self.store.figures.count_partitions(made.partitions, 0);
        if made.blocked {
            tracing::warn!(
                "content stands in the last partition, so none is made ahead of it until this \
                 server starts again"
            );
        }
        Ok(())
    }

    /// A connection that broke is replaced; where that fails too, the next round tries again.
    async fn reconnect(&self) {
        let Some(server) = &self.server else { return };
        let mut conn = server.lock().await;
        if conn.ping().await.is_err()
            && let Ok(again) = self.store.place.connect().await
        {
            *conn = again;
        }
    }

    /// Carries out a step that removes rows, counts it, and rests.
    pub(super) async fn remove(
        &self,
        what: Removed,
        step: impl Future<Output = Result<u64, StoreError>>,
    ) -> Result<u64, StoreError> {
        let begun = Instant::now();
        let rows = step.await?;
        let took = begun.elapsed();
        self.store.figures.count_removed(what, rows, took);
        self.rest((took * REST).max(REST_MIN)).await;
        Ok(rows)
    }

    pub(super) fn is_ending(&self) -> bool {
        *self.ending.borrow()
    }

    /// The rest after a look that changed nothing.
    pub(super) async fn breathe(&self) {
        self.rest(REST_MIN).await;
    }

    /// Waits, unless the store ends.
    async fn rest(&self, time: Duration) {
        let mut ending = self.ending.clone();
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            // An error: whoever would tell of the end is gone.
            _ = ending.wait_for(|ending| *ending) => {}
        }
    }
}
