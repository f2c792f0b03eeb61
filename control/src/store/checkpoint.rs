//! SQLite's log, copied back into its file beside the writer.
//!
//! Owns a connection of its own and the bound on the log's length. Copying does not hold up
//! writes, but the log begins anew only at a moment when all of it was copied, and a writer that
//! never rests leaves no such moment. So where the log is long, the writer waits between two groups
//! for the last of it: what the copying before has left over, and a sync. Only a writer that is
//! faster than the disk waits longer, or the log would grow for ever.

use super::figures::Figures;
use super::place::Place;
use sqlx::{AnyConnection, Connection as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard, Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Pages (of 4 KiB) of the log from which it begins anew, whoever waits for it.
const TURN_PAGES: i64 = 4_096;
/// Pages left over that are copied while the writer waits. More: they are copied beside it first.
const TURN_LEFT_MAX: i64 = 512;
/// How often that is tried: each time less is left, unless the writer is faster than the disk.
const PASSES_MAX: u32 = 4;
/// Pages of the log from which the writer waits for whatever is left.
const TURN_ANYHOW: i64 = 16_384;
/// Readers of the log are waited for this long in a turn, in milliseconds.
const TURN_BUSY: &str = "PRAGMA busy_timeout = 50";
/// Pages of the log that are told to be too many.
const LONG_PAGES: i64 = 32_768;
/// How often that is told.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// The log is copied this often while there are commits: sooner where it grows fast.
const EVERY_MIN: Duration = Duration::from_millis(50);
/// See [`EVERY_MIN`].
const EVERY_MAX: Duration = Duration::from_secs(1);
/// After this long without a commit, the room of a log that was long is given back.
const IDLE: Duration = Duration::from_secs(10);

/// What the writer and the one who copies know of each other.
#[derive(Default)]
pub(super) struct Log {
    /// Held while a group is written, or while the log begins anew.
    turn: Mutex<()>,
    commits: AtomicU64,
    grown: Notify,
}

impl Log {
    /// The writer's turn; it waits where the log begins anew.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// A group was committed.
    pub(super) fn committed(&self) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.grown.notify_one();
    }
}

/// Copies until told to end.
pub(super) struct Checkpoints {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Checkpoints {
    pub(super) async fn start(
        place: &Place,
        log: Arc<Log>,
        figures: Arc<Figures>,
    ) -> Result<Checkpoints, sqlx::Error> {
        let mut conn = place.connect().await?;
        sqlx::query(TURN_BUSY).execute(&mut conn).await?;
        let (stop, stopped) = oneshot::channel();
        let copier =
            Copier { conn, log, figures, told: None, seen: Pages::default(), was_long: false };
        Ok(Checkpoints { stop, task: tokio::spawn(copier.run(stopped)) })
    }

    /// Copies what is left; the writer has ended before.
    pub(super) async fn end(self) {
        let _ = self.stop.send(());
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the copying of the store's log did not end as it should");
        }
    }
}

/// The log's pages, and how many of them stand in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pages {
    log: i64,
    copied: i64,
}

impl Pages {
    fn left(self) -> i64 {
        self.log - self.copied
    }

    /// What is to be done after a pass that found `before` and left this.
    fn next(self, before: Pages) -> Next {
        if self.log < TURN_PAGES || self.left() == 0 {
            // Short, or the next write begins anew.
            Next::Rest
        } else if self.left() <= TURN_LEFT_MAX {
            Next::Turn
        } else if self.copied == before.copied {
            // Somebody still reads what is behind (a backup): waiting would not help.
            Next::Rest
        } else if self.log >= TURN_ANYHOW {
            Next::Turn
        } else {
            Next::Pass
        }
    }
}

/// See [`Pages::next`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Rest,
    /// Another pass beside the writer.
    Pass,
    /// The writer waits.
    Turn,
}

/// When the log is copied next: sooner where it has grown fast.
fn next_every(every: Duration, log: i64) -> Duration {
    if log > TURN_PAGES / 2 {
        (every / 2).max(EVERY_MIN)
    } else if log < TURN_PAGES / 8 {
        (every * 2).min(EVERY_MAX)
    } else {
        every
    }
}

struct Copier {
    conn: AnyConnection,
    log: Arc<Log>,
    figures: Arc<Figures>,
    told: Option<Instant>,
    seen: Pages,
    /// The log was long since its room was last given back.
    was_long: bool,
}

impl Copier {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let (mut every, mut seen) = (EVERY_MAX, 0);
        loop {
            let log = Arc::clone(&self.log);
            tokio::select! {
                _ = &mut stopped => break,
                () = log.grown.notified() => {}
                () = tokio::time::sleep(IDLE), if self.was_long => {
                    self.give_back(seen).await;
                    continue;
                }
            }
            tokio::select! {
                _ = &mut stopped => break,
                () = tokio::time::sleep(every) => {}
            }
            seen = self.log.commits.load(Ordering::Relaxed);
            if let Some(pages) = self.copy().await {
                every = next_every(every, pages.log);
            }
        }
        self.pass().await;
        let _ = self.conn.close().await; // the process is ending
    }

    /// Copies beside the writer, and where the log has become long, with the writer waiting.
    async fn copy(&mut self) -> Option<Pages> {
        let mut before = self.seen;
        let mut pages = self.pass().await?;
        self.was_long |= pages.log >= TURN_PAGES;
        for _ in 1..PASSES_MAX {
            if pages.next(before) != Next::Pass {
                break;
            }
            (before, pages) = (pages, self.pass().await?);
        }
        if pages.next(before) == Next::Turn {
            let log = Arc::clone(&self.log);
            let turn = log.turn().await;
            if let Some(after) = self.checkpoint(RESTART, &Figures::count_turn).await {
                pages = after;
            }
            drop(turn);
        }
        self.seen = pages;
        if pages.left() > LONG_PAGES && self.told.is_none_or(|told| told.elapsed() > TOLD_EVERY) {
            self.told = Some(Instant::now());
            tracing::warn!(
                pages = pages.log,
                copied = pages.copied,
                "the store's log is long: somebody has been reading since (a backup?)"
            );
        }
        Some(pages)
    }

    async fn pass(&mut self) -> Option<Pages> {
        self.checkpoint(PASSIVE, &Figures::count_copy).await
    }

    /// Gives the log's room back, unless somebody has written meanwhile.
    async fn give_back(&mut self, seen: u64) {
        let log = Arc::clone(&self.log);
        let turn = log.turn().await;
        if self.log.commits.load(Ordering::Relaxed) == seen {
            let pages = self.checkpoint(TRUNCATE, &Figures::count_turn).await;
            self.was_long = pages.is_some_and(|pages| pages.left() > 0);
        }
        drop(turn);
    }

    async fn checkpoint(
        &mut self,
        how: &'static str,
        count: &(dyn Fn(&Figures) + Sync),
    ) -> Option<Pages> {
        let pages = sqlx::query_as::<_, (i64, i64, i64)>(how);
        match pages.fetch_one(&mut self.conn).await {
            Ok((_, log, copied)) => {
                let pages = Pages { log: log.max(0), copied: copied.max(0) };
                count(&self.figures);
                self.figures.set_log_pages(pages.left());
                Some(pages)
            }
            Err(error) => {
                tracing::warn!(%error, "the store's log could not be copied back");
                None
            }
        }
    }
}

/// Waits for nobody.
const PASSIVE: &str = "PRAGMA wal_checkpoint(PASSIVE)";
/// Copies all of it, and lets the next write begin at the log's beginning.
const RESTART: &str = "PRAGMA wal_checkpoint(RESTART)";
/// The same, and the log has no length then.
const TRUNCATE: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

#[cfg(test)]
mod tests {
    use super::super::testing::TestStore;
    use super::*;
    use futures_core::future::BoxFuture;

    #[test]
    fn the_writer_waits_only_where_it_helps() {
        let next = |log, copied, before| {
            let before = Pages { log, copied: before };
            Pages { log, copied }.next(before)
        };
        assert_eq!(next(TURN_PAGES, TURN_PAGES - 1, 0), Next::Turn);
        assert_eq!(next(TURN_PAGES, TURN_PAGES, 0), Next::Rest, "the next write begins anew");
        assert_eq!(next(TURN_PAGES - 1, 0, 0), Next::Rest, "it is short");
        assert_eq!(next(TURN_PAGES, 9, 0), Next::Pass, "too much is left");
        assert_eq!(next(TURN_ANYHOW, 9, 0), Next::Turn, "the writer is faster than the disk");
        assert_eq!(next(TURN_ANYHOW, 9, 9), Next::Rest, "somebody reads");
        assert_eq!(next_every(EVERY_MIN, 99_999), EVERY_MIN);
        assert_eq!(next_every(EVERY_MAX, 99_999), EVERY_MAX / 2);
        assert_eq!(next_every(EVERY_MAX, 0), EVERY_MAX);
        assert_eq!(next_every(EVERY_MIN, 0), EVERY_MIN * 2);
    }

    fn fill(conn: &mut AnyConnection) -> BoxFuture<'_, Result<(), super::super::StoreError>> {
        Box::pin(async move {
            for _ in 0..64 {
                let insert = sqlx::query(
                    "INSERT INTO message_content (conv, seq, time_ms, edited, body)
                        VALUES (?, 1, 1, 0, ?)",
                );
                let insert = insert.bind(crate::ids::random_id()).bind(vec![7_u8; 4_000]);
                insert.execute(&mut *conn).await?;
            }
            Ok(())
        })
    }

    #[test]
    fn the_log_stays_short_while_somebody_writes_without_a_rest() {
        super::super::testing::runtime().block_on(async {
            let store = TestStore::sqlite().await;
            // Two writers: while one is answered, the other one waits.
            let writers = [0, 1].map(|_| {
                let store = Arc::clone(&store.store);
                tokio::spawn(async move {
                    // 250 KB each: long before the end, the log has begun anew.
                    let mut writes = 0;
                    while store.figures.turns() < 2 && writes < 5_000 {
                        store.write(fill).await.unwrap();
                        writes += 1;
                    }
                })
            });
            for writer in writers {
                writer.await.unwrap();
            }
            assert!(store.figures.turns() >= 2, "the log began anew, twice");
            store.end().await;
        });
    }
}
