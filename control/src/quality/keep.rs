//! The task beside the reports: closes windows, stores them, tells alarms.
//!
//! The only file here that reads a clock and knows a store. Where the store is away, closed windows
//! wait in memory, bounded, and reports are taken as before.

use super::windows::Level;
use super::{Quality, QualityConfig};
use crate::guard::kept_up;
use crate::process::unix_ms;
use crate::store::{Store, quality as rows};
use crate::webhooks::Webhooks;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinHandle;

/// How often windows and alarms are looked at.
const EVERY: Duration = Duration::from_secs(1);
/// Looks between two removals of what is old, and before what could not be stored is tried again.
const REST_TICKS: u32 = 60;
/// Old windows removed at once: after a shorter retention was set, there are many.
const REMOVED_AT_ONCE: u32 = 16;
/// What is not stored when the process ends gets this long.
const END_MAX: Duration = Duration::from_secs(3);
const DAY_MS: i64 = 86_400_000;

/// The task; it ends when this is dropped.
pub(crate) struct Keeper {
    quality: Arc<Quality>,
    store: Option<Arc<Store>>,
    task: JoinHandle<()>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Keeper {
    /// Begins, on the caller's tokio runtime.
    pub(crate) fn start(
        quality: &Arc<Quality>,
        store: Option<Arc<Store>>,
        webhooks: Option<Arc<Webhooks>>,
    ) -> Keeper {
        let (own, kept) = (Arc::clone(quality), store.clone());
        let task =
            kept_up("quality", move || work(Arc::clone(&own), kept.clone(), webhooks.clone()));
        Keeper { quality: Arc::clone(quality), store, task: tokio::spawn(task) }
    }

    /// Stores what is still open: no report comes any more.
    pub(crate) async fn end(self) {
        self.task.abort();
        self.quality.board().windows.close_all();
        let Some(store) = &self.store else { return };
        let all = async { while store_next(&self.quality, store).await {} };
        if tokio::time::timeout(END_MAX, all).await.is_err() {
            tracing::warn!("the last windows of quality reports were not stored in time");
        }
    }
}

async fn work(quality: Arc<Quality>, store: Option<Arc<Store>>, webhooks: Option<Arc<Webhooks>>) {
    let mut ticks = tokio::time::interval(EVERY);
    let mut rest = 0;
    loop {
        ticks.tick().await;
        let changed = quality.tick(unix_ms());
        for alarm in &changed {
            tracing::warn!(
                rule = alarm.rule.word(),
                state = ?alarm.state,
                cell = ?alarm.cell,
                value = alarm.value,
                line = alarm.line,
                "an alarm of the quality changed"
            );
        }
        if let Some(webhooks) = &webhooks {
            webhooks.alarms(&changed);
        }
        if let Some(store) = &store {
            rest = if rest > 0 { rest - 1 } else { REST_TICKS };
            while store_next(&quality, store).await {}
            if rest == REST_TICKS {
                remove_old(&quality, store, unix_ms()).await;
            }
        }
    }
}

/// Stores the oldest closed window; whether there may be another one.
async fn store_next(quality: &Quality, store: &Store) -> bool {
    // The lock is not held while the store works.
    let due = quality.board().windows.due();
    let Some((level, window)) = due else { return false };
    if days(quality.config(), level) > 0 {
        if let Err(error) = rows::keep(store, level, quality.node(), &window).await {
            quality.failures.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%error, "a window of quality reports could not be stored");
            return false;
        }
        quality.stored.fetch_add(1, Ordering::Relaxed);
    }
    quality.board().windows.stored(&window);
    true
}

async fn remove_old(quality: &Quality, store: &Store, now_ms: i64) {
    for level in [Level::Minute, Level::Hour] {
        let before_ms = now_ms - i64::from(days(quality.config(), level)) * DAY_MS;
        for _ in 0..REMOVED_AT_ONCE {
            match rows::remove_oldest(store, level, before_ms).await {
                Ok(0) => break,
                Ok(gone) => drop(quality.removed.fetch_add(gone, Ordering::Relaxed)),
                Err(error) => {
                    quality.failures.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(%error, "old windows of quality could not be removed");
                    return;
                }
            }
        }
    }
}

/// How long windows of a level are stored.
fn days(config: &QualityConfig, level: Level) -> u32 {
    match level {
        Level::Fine => 0,
        Level::Minute => config.minutes_days,
        Level::Hour => config.hours_days,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quality::query::{Groups, Query};
    use crate::quality::report::tests::report;
    use crate::quality::sources::Source;
    use crate::store::testing::on_both;

    #[test]
    fn what_was_open_at_the_end_is_stored_and_old_windows_are_removed() {
        on_both(|store| async move {
            let now_ms = unix_ms();
            let quality = Arc::new(Quality::new(QualityConfig::default(), now_ms));
            let keeper = Keeper::start(&quality, Some(Arc::clone(&store)), None);
            quality.take(&[report("a", 1), report("b", 1)], Source::of(1, false), now_ms);
            keeper.end().await;
            let query = |level| Query {
                level,
                from_ms: now_ms - DAY_MS,
                to_ms: now_ms + DAY_MS,
                by: vec![],
                by_time: false,
                filter: vec![],
            };
            for level in [Level::Minute, Level::Hour] {
                let mut groups = Groups::default();
                rows::gather(&store, &query(level), (0, 0), &mut groups).await.unwrap();
                assert_eq!(groups.cells.into_values().next().unwrap().plays(), 2, "{level:?}");
            }
            // Minutes are kept for 7 days, hours for longer.
            remove_old(&quality, &store, now_ms + 8 * DAY_MS).await;
            for (level, many) in [(Level::Minute, 0), (Level::Hour, 1)] {
                let mut groups = Groups::default();
                rows::gather(&store, &query(level), (0, 0), &mut groups).await.unwrap();
                assert_eq!(groups.cells.len(), many, "{level:?}");
            }
            assert!(quality.removed.load(Ordering::Relaxed) >= 1);
        });
    }

    #[test]
    fn a_store_that_is_away_stops_no_report_and_windows_wait_for_it() {
        on_both(|store| async move {
            let now_ms = unix_ms();
            let quality = Quality::new(QualityConfig::default(), now_ms);
            quality.take(&[report("a", 1)], Source::of(1, false), now_ms);
            quality.board().windows.advance(now_ms + 3_600_000);
            store.close().await;
            assert!(!store_next(&quality, &store).await);
            assert_eq!(quality.take(&[report("a", 2)], Source::of(1, false), now_ms).taken, 1);
            assert!(quality.board().windows.due().is_some());
            assert_eq!(quality.failures.load(Ordering::Relaxed), 1);
        });
    }
}
