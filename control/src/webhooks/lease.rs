//! Which process empties a webhook's outbox, where several share a store.
//!
//! Owns the rule. One process tells a webhook and gives a sign of life every two seconds; another
//! one takes over after it has seen the same sign for as long as the former one may be at work
//! without a new one. Each measures with its own clock, so clocks need not agree, and the former
//! one's last request has ended before the next one's first begins: the order of a conversation
//! outlives the change. SQLite has one process, which needs no lease.

use crate::store::{Dialect, Store, StoreError, outbox};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Signs of life come this often.
const BEAT_EVERY: Duration = Duration::from_secs(2);
/// Without a new sign, the holder begins no request after this long.
const HELD: Duration = Duration::from_secs(8);
/// The same sign is seen for this long, and for as long as a request may take, before another
/// process takes over.
const SILENCE: Duration = Duration::from_secs(10);

/// Until when requests may begin; `None`: another process tells this webhook.
pub(super) type HeldUntil = Option<Instant>;

/// A sign of life, and since when it is the newest.
#[derive(Clone, Copy)]
struct Seen {
    sign: (i64, i64),
    since: Instant,
}

/// Keeps or awaits the lease of a webhook, until nobody listens any more.
pub(super) async fn keep(
    store: Arc<Store>,
    hook: String,
    request_max: Duration,
    held: watch::Sender<HeldUntil>,
) {
    if store.dialect() == Dialect::Sqlite {
        let century = Duration::from_secs(100 * 365 * 86_400);
        held.send_replace(Some(Instant::now() + century));
        return held.closed().await;
    }
    let owner = crate::ids::random_id();
    let mut seen = None;
    let mut is_held = false;
    loop {
        let begun = Instant::now();
        let holds = if is_held {
            beat(&store, &hook, owner).await
        } else {
            contend(&store, &hook, owner, &mut seen, SILENCE + request_max).await
        };
        match holds {
            Ok(holds) => {
                if holds != is_held {
                    tracing::info!(hook, holds, "which process tells a webhook has changed");
                }
                is_held = holds;
                held.send_replace(holds.then(|| begun + HELD));
            }
            // What is held stays held until it runs out.
            Err(error) => tracing::warn!(hook, %error, "the lease of a webhook is not known"),
        }
        tokio::select! {
            () = tokio::time::sleep(BEAT_EVERY) => {}
            () = held.closed() => break,
        }
    }
    if is_held && let Err(error) = end(&store, &hook, owner).await {
        tracing::debug!(hook, %error, "the lease of a webhook was not given back");
    }
}

/// Whether the lease is ours now: nobody has it, or whoever had it has been silent.
async fn contend(
    store: &Store,
    hook: &str,
    owner: i64,
    seen: &mut Option<Seen>,
    silence: Duration,
) -> Result<bool, StoreError> {
    let sign = outbox::lease(&mut *store.reader().await?, hook).await?;
    let is_free = match sign {
        None | Some((0, _)) => true,
        Some(sign) => match seen {
            Some(before) if before.sign == sign => before.since.elapsed() >= silence,
            _ => {
                *seen = Some(Seen { sign, since: Instant::now() });
                false
            }
        },
    };
    if !is_free {
        return Ok(false);
    }
    let (dialect, hook) = (store.dialect(), hook.to_owned());
    let take = store.write(move |conn| {
        let hook = hook.clone();
        Box::pin(async move { outbox::take_lease(conn, dialect, &hook, sign, owner).await })
    });
    take.await
}

async fn beat(store: &Store, hook: &str, owner: i64) -> Result<bool, StoreError> {
    let hook = hook.to_owned();
    let beat = store.write(move |conn| {
        let hook = hook.clone();
        Box::pin(async move { outbox::keep_lease(conn, &hook, owner).await })
    });
    beat.await
}

async fn end(store: &Store, hook: &str, owner: i64) -> Result<(), StoreError> {
    let hook = hook.to_owned();
    let end = store.write(move |conn| {
        let hook = hook.clone();
        Box::pin(async move { outbox::end_lease(conn, &hook, owner).await })
    });
    end.await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::on_both;

    #[test]
    fn another_takes_over_after_silence_and_at_once_after_an_orderly_end() {
        on_both(|store| async move {
            let (mut seen_by_2, mut none) = (None, None);
            let silence = Duration::from_millis(40);
            assert!(contend(&store, "a", 1, &mut none, silence).await.unwrap());
            let begun = Instant::now();
            let mut tries = 0;
            // As long as the holder shows signs of life, nobody takes over, however often it tries.
            while begun.elapsed() < 3 * silence || tries < 3 {
                assert!(beat(&store, "a", 1).await.unwrap());
                assert!(!contend(&store, "a", 2, &mut seen_by_2, silence).await.unwrap());
                tries += 1;
            }
            // From the last sign of life that it has seen.
            let silent_since = seen_by_2.as_ref().unwrap().since;
            while !contend(&store, "a", 2, &mut seen_by_2, silence).await.unwrap() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(silent_since.elapsed() >= silence);
            assert!(!beat(&store, "a", 1).await.unwrap(), "the former one learns of it");
            end(&store, "a", 1).await.unwrap(); // and ends nothing that is not its own
            assert!(beat(&store, "a", 2).await.unwrap());
            end(&store, "a", 2).await.unwrap();
            let mut fresh = None;
            assert!(contend(&store, "a", 3, &mut fresh, Duration::MAX).await.unwrap());
        });
    }
}
