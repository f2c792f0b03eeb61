//! Looks through the outboxes from time to time: how much waits, since when, and what has waited
//! too long.
//!
//! Owns the gauges, and the end of rows that nobody tells: of a receiver that is down for longer
//! than they may wait, or of a webhook that is configured no more. Rows are counted by a pass over
//! them, which is cheap, since they hold no content; it takes at most a fiftieth of the time.

use super::Hook;
use super::deliver::{delete, drop_rows};
use super::figures::Dropped;
use crate::store::{Store, StoreError, outbox};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The shortest time between two counts.
const COUNT_EVERY: Duration = Duration::from_secs(2);
/// The same where no webhook is configured, and rows of former ones may be left.
const COUNT_EVERY_IDLE: Duration = Duration::from_secs(3_600);
/// A count may take this part of the time.
const SHARE: u32 = 50;
/// How long rows of a webhook that is not configured here are kept: it may be on another node, or
/// come back.
const STRANGER_AGE_MS: i64 = 3 * 86_400_000;
/// Rows dropped by one transaction.
const DROPPED_AT_ONCE: i64 = 512;

/// Counts until `ending` says so.
pub(super) async fn work(
    hooks: Vec<Arc<Hook>>,
    store: Arc<Store>,
    mut ending: watch::Receiver<bool>,
) {
    let every = if hooks.is_empty() { COUNT_EVERY_IDLE } else { COUNT_EVERY };
    let mut strangers = BTreeMap::new();
    loop {
        let begun = Instant::now();
        if let Err(error) = count(&hooks, &store, &mut strangers).await {
            tracing::warn!(%error, "the outboxes of webhooks could not be counted");
        }
        let pause = every.max(begun.elapsed() * SHARE);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = ending.wait_for(|ending| *ending) => return,
        }
    }
}

async fn count(
    hooks: &[Arc<Hook>],
    store: &Store,
    strangers: &mut BTreeMap<String, i64>,
) -> Result<(), StoreError> {
    let waiting = |hook: &Arc<Hook>| hook.figures.waiting.load(Ordering::Relaxed);
    // What comes or goes while it is counted may be counted twice or not at all, until the next
    // count.
    let before: Vec<i64> = hooks.iter().map(waiting).collect();
    let counts = outbox::census(&mut *store.reader().await?).await?;
    let now_ms = store.now_ms();
    for (hook, before) in hooks.iter().zip(before) {
        let found = counts.iter().find(|(name, ..)| name == hook.name());
        let (rows, oldest_ms) = found.map_or((0, 0), |(_, rows, oldest_ms)| (*rows, *oldest_ms));
        hook.figures.waiting.fetch_add(rows - before, Ordering::Relaxed);
        hook.figures.oldest_ms.store(oldest_ms, Ordering::Relaxed);
        let old_ms = now_ms - i64::from(hook.settings.age_max_s) * 1_000;
        if rows > 0 && oldest_ms < old_ms {
            drop_old(store, hook.name(), old_ms, Some(hook)).await?;
        }
    }
    for (name, rows, oldest_ms) in &counts {
        if hooks.iter().any(|hook| hook.name() == name) {
            continue;
        }
        if strangers.insert(name.clone(), *rows).is_none() {
            tracing::warn!(hook = name, rows, "events wait for a webhook that is not configured");
        }
        if *oldest_ms < now_ms - STRANGER_AGE_MS {
            drop_old(store, name, now_ms - STRANGER_AGE_MS, None).await?;
        }
    }
    Ok(())
}

/// Drops what was made before a moment.
async fn drop_old(
    store: &Store,
    name: &str,
    old_ms: i64,
    hook: Option<&Arc<Hook>>,
) -> Result<(), StoreError> {
    let mut from = i64::MIN;
    loop {
        let mut conn = store.reader().await?;
        let rows = outbox::from_before(&mut conn, name, (old_ms, from), DROPPED_AT_ONCE).await?;
        drop(conn);
        match hook {
            Some(hook) => drop_rows(hook, store, &rows, Dropped::Age).await?,
            None => {
                let gone = delete(store, name, &rows).await?;
                tracing::warn!(
                    hook = name,
                    events = gone,
                    "events of a former webhook were dropped"
                );
            }
        }
        match rows.last() {
            Some(last) if rows.len() as i64 == DROPPED_AT_ONCE => from = last.conv,
            _ => return Ok(()),
        }
    }
}
