//! Empties the outbox of one webhook: what is due goes out, and is deleted once it was taken.
//!
//! Owns the loop. Which conversation is next is `lanes`' to say, what it tells is read by `events`.
//! At least once: a row goes after the receiver took its event, never before, and whatever ends in
//! between tells it again under the same id.

use super::events::{self, Loaded};
use super::figures::Dropped;
use super::lanes::{Batch, Ended, Lanes};
use super::lease::{self, HeldUntil};
use super::request::{Failure, Message, NOTHING};
use super::{Hook, list};
use crate::guard::caught;
use crate::store::outbox::{self, Waiting};
use crate::store::{Dialect, Store, StoreError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Rows read at once while the outbox is looked through.
const SCAN_ROWS: i64 = 512;
/// Where other processes write too, what they wrote is looked for this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest sleep: nothing should depend on it.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// Requests under way at an orderly end get this long to end as well.
const END_WAIT: Duration = Duration::from_secs(1);
/// A store that is busy is asked again to delete this often, this far apart.
const DELETE_TRIES: u32 = 20;
const DELETE_WAIT: Duration = Duration::from_millis(100);

/// Tells a webhook what its outbox holds, until `ending` says so.
pub(super) async fn work(hook: Arc<Hook>, store: Arc<Store>, mut ending: watch::Receiver<bool>) {
    let (held, mut lease) = watch::channel(None);
    let request_max = Duration::from_millis(u64::from(hook.settings.timeout_ms));
    let name = hook.settings.name.clone();
    let keeper = tokio::spawn(lease::keep(Arc::clone(&store), name, request_max, held));
    let mut work = Work::new(hook, store);
    loop {
        let may_until: HeldUntil = *lease.borrow_and_update();
        let now = Instant::now();
        work.holds(may_until.is_some_and(|until| until > now));
        if work.is_held {
            work.look(now).await;
            work.send(now);
        }
        let sleep = tokio::time::sleep_until(work.next(now).into());
        let hook = Arc::clone(&work.hook);
        tokio::select! {
            Some(done) = work.requests.join_next() => work.ended(done),
            () = hook.signal.notified() => {}
            () = sleep => {}
            _ = lease.changed() => {}
            _ = ending.wait_for(|ending| *ending) => break,
        }
    }
    work.end().await;
    drop(lease);
    // Gives the lease back, where there is one; a store that is gone already is no reason to wait.
    let _ = tokio::time::timeout(END_WAIT, keeper).await;
}

struct Work {
    hook: Arc<Hook>,
    store: Arc<Store>,
    lanes: Lanes,
    requests: JoinSet<(Batch, Ended)>,
    /// The outbox is being looked through, after this conversation.
    scan: Option<Option<i64>>,
    scanned: Instant,
    /// This process tells the webhook.
    is_held: bool,
    is_down: bool,
}

impl Work {
    fn new(hook: Arc<Hook>, store: Arc<Store>) -> Work {
        let requests_max = hook.settings.requests_max as usize;
        let lanes = Lanes::new(requests_max, hook.settings.events_per_request_max as usize);
        let (requests, scanned) = (JoinSet::new(), Instant::now());
        let (is_held, is_down) = (false, false);
        Work { hook, store, lanes, requests, scan: None, scanned, is_held, is_down }
    }

    fn holds(&mut self, is_held: bool) {
        if is_held && !self.is_held {
            // What an earlier process left behind.
            self.scan = Some(None);
        }
        if !is_held {
            self.hook.take_woken(); // another process looks for it
        }
        self.is_held = is_held;
    }

    /// Learns what waits: from those who wrote it, and from the outbox itself.
    async fn look(&mut self, now: Instant) {
        let woken = self.hook.take_woken();
        woken.convs.into_iter().for_each(|conv| self.lanes.wake(conv));
        let is_shared = self.store.dialect() == Dialect::Mysql;
        let is_due = is_shared && now >= self.scanned + LOOK_EVERY;
        if self.scan.is_none() && (is_due || woken.more || self.lanes.take_overflowed()) {
            (self.scan, self.scanned) = (Some(None), now);
        }
        while let Some(after) = self.scan
            && self.lanes.has_room()
        {
            match self.page(after).await {
                Ok(convs) => {
                    self.scan = convs.last().map(|last| Some(*last));
                    convs.into_iter().for_each(|conv| self.lanes.wake(conv));
                }
                Err(error) => {
                    tracing::warn!(hook = self.hook.name(), %error, "an outbox cannot be read");
                    break;
                }
            }
        }
    }

    async fn page(&self, after: Option<i64>) -> Result<Vec<i64>, StoreError> {
        let mut conn = self.store.reader().await?;
        outbox::convs(&mut conn, self.hook.name(), after, SCAN_ROWS).await
    }

    fn send(&mut self, now: Instant) {
        while let Some(batch) = self.lanes.take(now) {
            let (hook, store) = (Arc::clone(&self.hook), Arc::clone(&self.store));
            self.requests.spawn(async move {
                let ended = caught("delivery", deliver(&hook, &store, &batch)).await;
                // A defect: perhaps of one event, which is found as one that its receiver refuses.
                let failed = || Ended { failed: batch.convs.clone(), ..Ended::default() };
                let ended = ended.unwrap_or_else(failed);
                (batch, ended)
            });
        }
    }

    fn ended(&mut self, done: Result<(Batch, Ended), tokio::task::JoinError>) {
        let (batch, ended) = match done {
            Ok(done) => done,
            // Only where the runtime ends: what panics in there is caught in there.
            Err(error) => {
                tracing::error!(hook = self.hook.name(), %error, "a request did not end");
                return;
            }
        };
        self.lanes.ended(&batch, &ended, Instant::now(), crate::ids::random_id() as u64 * 2);
        let is_down = self.lanes.is_down();
        if is_down != self.is_down {
            self.is_down = is_down;
            match is_down {
                true => tracing::warn!(hook = self.hook.name(), "a webhook's receiver is down"),
                false => tracing::info!(hook = self.hook.name(), "a webhook's receiver is back"),
            }
        }
    }

    /// When to look again, where nothing happens before.
    fn next(&self, now: Instant) -> Instant {
        let mut next = now + SLEEP_MAX;
        if self.store.dialect() == Dialect::Mysql || self.scan.is_some() {
            next = next.min(now + LOOK_EVERY);
        }
        self.lanes.next(now).map_or(next, |due| next.min(due))
    }

    async fn end(&mut self) {
        let all = async { while self.requests.join_next().await.is_some() {} };
        if tokio::time::timeout(END_WAIT, all).await.is_err() {
            tracing::info!(hook = self.hook.name(), "a request was under way; it is sent again");
        }
    }
}

/// Tells what waits in these conversations.
async fn deliver(hook: &Hook, store: &Store, batch: &Batch) -> Ended {
    let settings = &hook.settings;
    let limit = if batch.one_event { 1 } else { settings.events_per_request_max as usize };
    let old_ms = store.now_ms() - i64::from(settings.age_max_s) * 1_000;
    let loaded = events::load(store, hook.name(), &batch.convs, (limit, old_ms)).await;
    let failed = |convs: Vec<i64>, more| Ended { failed: convs, more, ..Ended::default() };
    let Loaded { events, old, unreadable, more } = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            tracing::warn!(hook = hook.name(), %error, "an outbox cannot be read");
            return failed(batch.convs.clone(), Vec::new());
        }
    };
    for (rows, why) in [(old, Dropped::Age), (unreadable, Dropped::Unreadable)] {
        if let Err(error) = drop_rows(hook, store, &rows, why).await {
            tracing::warn!(hook = hook.name(), %error, "an outbox cannot be written");
            return failed(batch.convs.clone(), Vec::new());
        }
    }
    let (rows, events): (Vec<Waiting>, Vec<_>) = events.into_iter().unzip();
    if rows.is_empty() {
        return Ended { more, ..Ended::default() };
    }
    if batch.again {
        hook.figures.retried.fetch_add(1, Ordering::Relaxed);
    }
    #[cfg(test)]
    for event in &events {
        crate::guard::trap("delivery", &String::from_utf8_lossy(&event.json));
    }
    let ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
    let message = Message {
        ids: list(&ids),
        types: list(&events.iter().map(|event| event.event.word()).collect::<Vec<_>>()),
        body: events::body(hook.name(), store.generation(), &events),
    };
    let mut convs: Vec<i64> = rows.iter().map(|row| row.conv).collect();
    convs.dedup();
    match hook.receiver.post(message, NOTHING).await {
        Ok(_) => match delete(store, hook.name(), &rows).await {
            Ok(gone) => {
                hook.gone(gone);
                hook.figures.delivered.fetch_add(rows.len() as u64, Ordering::Relaxed);
                Ended { more, taken: true, ..Ended::default() }
            }
            // They were told, and will be told again.
            Err(error) => {
                tracing::warn!(hook = hook.name(), %error, "events that were told are kept");
                Ended { taken: true, ..failed(convs, more) }
            }
        },
        Err(failure) => {
            tracing::debug!(hook = hook.name(), ?failure, events = rows.len(), "not taken");
            hook.figures.failed(failure);
            let pause = if let Failure::Status(_, pause) = failure { pause } else { None };
            Ended { refused: true, pause, ..failed(convs, more) }
        }
    }
}

/// Gives entries up, and says so.
pub(super) async fn drop_rows(
    hook: &Hook,
    store: &Store,
    rows: &[Waiting],
    why: Dropped,
) -> Result<(), StoreError> {
    let Some(first) = rows.first() else { return Ok(()) };
    let gone = delete(store, hook.name(), rows).await?;
    hook.gone(gone);
    hook.figures.dropped(why, gone);
    let (hook, conv, seq) = (hook.name(), first.conv, first.seq);
    tracing::warn!(hook, ?why, events = gone, conv, seq, "events were dropped, from this one on");
    Ok(())
}

/// Deletes these rows, which are in the order of conversation and seq.
pub(super) async fn delete(store: &Store, hook: &str, rows: &[Waiting]) -> Result<u64, StoreError> {
    let runs = rows.chunk_by(|one, next| one.conv == next.conv && one.seq + 1 == next.seq);
    let runs = runs.map(|run| (run[0].conv, (run[0].seq, run[run.len() - 1].seq)));
    let meant = Arc::new((hook.to_owned(), runs.collect::<Vec<_>>()));
    let mut tries = 0;
    loop {
        let meant = Arc::clone(&meant);
        let deleted = store.write(move |conn| {
            let meant = Arc::clone(&meant);
            Box::pin(async move {
                let mut gone = 0;
                for (conv, range) in &meant.1 {
                    gone += outbox::delete(conn, &meant.0, *conv, *range).await?;
                }
                Ok(gone)
            })
        });
        match deleted.await {
            Err(StoreError::Busy) if tries < DELETE_TRIES => tries += 1,
            deleted => return deleted,
        }
        tokio::time::sleep(DELETE_WAIT).await;
    }
}
