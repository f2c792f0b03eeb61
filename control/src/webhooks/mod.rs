//! Webhooks: what a platform's own servers are told, and asked.
//!
//! Owns receivers, signatures, and the way of an event from its row in the outbox to a 2xx. A row
//! is written by whoever writes the entry it names, in the same transaction, and only where
//! somebody asked for it; without a webhook nothing here costs anything. Never decides what a
//! conversation is or who may write to it.

mod alarms;
mod census;
pub(crate) mod config;
mod decide;
mod deliver;
pub(crate) mod events;
mod figures;
mod lanes;
mod lease;
mod presence;
mod request;
mod rooms;
#[cfg(test)]
mod tests;

use crate::guard::kept_up;
use crate::quality::alarm::Alarm;
use crate::store::outbox::{self, Waiting};
use crate::store::{Store, StoreError};
use config::{EventType, OnFailure, WebhookSettings};
pub(crate) use decide::{Decision, Question};
pub(crate) use figures::Asked;
use figures::{Dropped, Figures};
use presence::Pending;
use request::Receiver;
pub use rooms::RoomGate;
use sqlx::AnyConnection;
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use uproar_proto::control::Sample;
use uproar_proto::v1::UserPresence;

/// Conversations noted as having something new. Reached: the outbox is looked through instead.
const WOKEN_MAX: usize = 10_000;
/// A full outbox is logged this often at most.
const FULL_LOG_EVERY: Duration = Duration::from_secs(10);
/// All tasks get this long at an orderly end.
const END_MAX: Duration = Duration::from_secs(3);

/// An entry that was written to a conversation's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) conv: i64,
    pub(crate) seq: i64,
    pub(crate) is_group: bool,
    pub(crate) event: EventType,
}

/// What one transaction put into outboxes: to be handed to [`Webhooks::kept`] after its commit.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Kept(Vec<KeptFor>);

#[derive(Debug)]
struct KeptFor {
    hook: usize,
    convs: Vec<i64>,
    rows: usize,
    left_out: usize,
}

/// Every webhook of this process.
#[derive(Default)]
pub struct Webhooks {
    hooks: Vec<Arc<Hook>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    ending: watch::Sender<bool>,
}

/// One of them.
pub(crate) struct Hook {
    settings: WebhookSettings,
    receiver: Receiver,
    figures: Figures,
    woken: Mutex<Woken>,
    /// Something was woken.
    signal: Notify,
    full_logged: Mutex<Option<Instant>>,
    presence: Pending,
    alarms: alarms::Waiting,
}

/// Conversations with something new.
#[derive(Debug, Default)]
struct Woken {
    convs: HashSet<i64>,
    /// There are others.
    more: bool,
}

impl Webhooks {
    /// For these settings.
    ///
    /// # Errors
    /// The first rule they break, or why a receiver cannot be spoken to from here at all.
    pub fn new(list: &[WebhookSettings]) -> Result<Webhooks, String> {
        config::check(list)?;
        let hook = |settings: &WebhookSettings| {
            Ok(Arc::new(Hook {
                receiver: Receiver::new(settings)?,
                settings: settings.clone(),
                figures: Figures::default(),
                woken: Mutex::new(Woken::default()),
                signal: Notify::new(),
                full_logged: Mutex::new(None),
                presence: Pending::default(),
                alarms: alarms::Waiting::default(),
            }))
        };
        let hooks = list.iter().map(hook).collect::<Result<Vec<_>, String>>()?;
        Ok(Webhooks { hooks, ..Webhooks::default() })
    }

    /// Begins to tell, on a runtime.
    pub(crate) fn start(&self, store: &Arc<Store>, runtime: &Handle) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        for hook in &self.hooks {
            if hook.has_outbox() {
                let (hook, store) = (Arc::clone(hook), Arc::clone(store));
                let ending = self.ending.clone();
                tasks.push(runtime.spawn(kept_up("webhook", move || {
                    deliver::work(Arc::clone(&hook), Arc::clone(&store), ending.subscribe())
                })));
            }
            if hook.settings.has(EventType::Presence) {
                let (hook, store) = (Arc::clone(hook), Arc::clone(store));
                let ending = self.ending.clone();
                tasks.push(runtime.spawn(kept_up("webhook presence", move || {
                    presence::work(Arc::clone(&hook), Arc::clone(&store), ending.subscribe())
                })));
            }
        }
        for hook in self.hooks.iter().filter(|hook| hook.settings.has(EventType::QualityAlarm)) {
            let (hook, store) = (Arc::clone(hook), Arc::clone(store));
            let ending = self.ending.clone();
            tasks.push(runtime.spawn(kept_up("webhook alarms", move || {
                alarms::work(Arc::clone(&hook), Arc::clone(&store), ending.subscribe())
            })));
        }
        let (hooks, store) = (self.hooks.clone(), Arc::clone(store));
        let ending = self.ending.clone();
        tasks.push(runtime.spawn(kept_up("webhook census", move || {
            census::work(hooks.clone(), Arc::clone(&store), ending.subscribe())
        })));
    }

    /// Ends what was started: requests under way may end, and leases are given back.
    pub(crate) async fn end(&self) {
        self.ending.send_replace(true);
        let tasks: Vec<JoinHandle<()>> =
            std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async {
            for task in tasks {
                let _ = task.await; // one that panicked has been logged
            }
        };
        if tokio::time::timeout(END_MAX, all).await.is_err() {
            tracing::warn!("webhooks did not end in time");
        }
    }

    /// Whether nobody wants to know of anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.hooks.is_empty()
    }

    /// Puts entries into the outboxes of those who want them, in the transaction that writes them.
    pub(crate) async fn keep(
        &self,
        conn: &mut AnyConnection,
        entries: &[Entry],
        now_ms: i64,
    ) -> Result<Kept, StoreError> {
        let mut kept = Kept::default();
        for (at, hook) in self.hooks.iter().enumerate() {
            let wanted = entries.iter().filter(|entry| hook.wants(entry));
            let mut rows: Vec<Waiting> = wanted.map(|entry| fresh(entry, now_ms)).collect();
            if rows.is_empty() {
                continue;
            }
            let all = rows.len();
            rows.truncate(hook.room());
            outbox::insert(conn, hook.name(), &rows).await?;
            let mut convs: Vec<i64> = rows.iter().map(|row| row.conv).collect();
            convs.sort_unstable();
            convs.dedup();
            let left_out = all - rows.len();
            kept.0.push(KeptFor { hook: at, convs, rows: rows.len(), left_out });
        }
        Ok(kept)
    }

    /// What was kept is committed: whoever tells it is woken.
    pub(crate) fn kept(&self, kept: Kept) {
        for KeptFor { hook, convs, rows, left_out } in kept.0 {
            let hook = &self.hooks[hook];
            hook.figures.waiting.fetch_add(rows as i64, Ordering::Relaxed);
            if left_out > 0 {
                hook.left_out(left_out as u64);
            }
            hook.wake(&convs);
        }
    }

    /// Who decides about messages of such a conversation.
    pub(crate) fn decider(&self, is_group: bool) -> Option<&Arc<Hook>> {
        self.hooks.iter().find(|hook| {
            let settings = &hook.settings;
            settings.has(EventType::MessageBefore) && settings.conversations.has(is_group)
        })
    }

    /// Who decides about messages of rooms.
    pub(crate) fn room_decider(&self) -> Option<&Arc<Hook>> {
        self.hooks.iter().find(|hook| hook.settings.has(EventType::PublishBefore))
    }

    /// Whether somebody wants to know who comes and goes.
    pub(crate) fn want_presence(&self) -> bool {
        self.hooks.iter().any(|hook| hook.settings.has(EventType::Presence))
    }

    /// Tells who came and went.
    pub(crate) fn presence(&self, users: &[UserPresence]) {
        for hook in self.hooks.iter().filter(|hook| hook.settings.has(EventType::Presence)) {
            let left_out = hook.presence.add(users);
            if left_out > 0 {
                hook.figures.dropped(Dropped::Presence, left_out);
            }
        }
    }

    /// Tells which alarms of the quality were raised or cleared.
    pub(crate) fn alarms(&self, changed: &[Alarm]) {
        for hook in self.hooks.iter().filter(|hook| hook.settings.has(EventType::QualityAlarm)) {
            let left_out = hook.alarms.add(changed);
            if left_out > 0 {
                hook.figures.dropped(Dropped::Alarm, left_out);
            }
        }
    }

    /// Figures of all.
    pub(crate) fn samples(&self, now_ms: i64) -> Vec<Sample> {
        let of = |hook: &Arc<Hook>| {
            let decides = hook.settings.has(EventType::MessageBefore);
            let of_rooms = hook.settings.has(EventType::PublishBefore);
            hook.figures.samples(hook.name(), (decides, of_rooms), now_ms)
        };
        self.hooks.iter().flat_map(of).collect()
    }
}

fn fresh(entry: &Entry, made_ms: i64) -> Waiting {
    let Entry { conv, seq, .. } = *entry;
    Waiting { conv, seq, event: crate::ids::random_id(), made_ms }
}

impl Hook {
    /// As configured.
    pub(crate) fn name(&self) -> &str {
        &self.settings.name
    }

    /// What holds for a message it gave no decision about.
    pub(crate) fn on_failure(&self) -> OnFailure {
        self.settings.on_failure.unwrap_or(OnFailure::Closed)
    }

    /// The longest request.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(u64::from(self.settings.timeout_ms))
    }

    /// Messages of one request.
    pub(crate) fn events_per_request_max(&self) -> usize {
        self.settings.events_per_request_max as usize
    }

    /// Requests under way at once.
    pub(crate) fn requests_max(&self) -> usize {
        self.settings.requests_max as usize
    }

    fn has_outbox(&self) -> bool {
        let kept = [EventType::MessageAfter, EventType::GroupChanged, EventType::ReactionsChanged];
        kept.iter().any(|event| self.settings.has(*event))
    }

    fn wants(&self, entry: &Entry) -> bool {
        self.settings.has(entry.event) && self.settings.conversations.has(entry.is_group)
    }

    /// How many more may wait.
    fn room(&self) -> usize {
        let waiting = self.figures.waiting.load(Ordering::Relaxed);
        usize::try_from(i64::from(self.settings.waiting_max) - waiting).unwrap_or(0)
    }

    /// Events found no room.
    fn left_out(&self, events: u64) {
        self.figures.dropped(Dropped::Full, events);
        let mut logged = self.full_logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|at| at.elapsed() >= FULL_LOG_EVERY) {
            *logged = Some(Instant::now());
            let max = self.settings.waiting_max;
            tracing::error!(hook = self.name(), max, "an outbox is full; events are dropped");
        }
    }

    fn wake(&self, convs: &[i64]) {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        for conv in convs {
            if woken.convs.len() < WOKEN_MAX {
                woken.convs.insert(*conv);
            } else {
                woken.more = true;
            }
        }
        drop(woken);
        self.signal.notify_one();
    }

    fn take_woken(&self) -> Woken {
        std::mem::take(&mut self.woken.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Rows have left the outbox.
    fn gone(&self, rows: u64) {
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        self.figures.waiting.fetch_sub(rows, Ordering::Relaxed);
    }
}

/// A list for a header, each entry once.
fn list(words: &[&str]) -> String {
    let mut list: Vec<&str> = Vec::with_capacity(words.len());
    for word in words {
        if !list.contains(word) {
            list.push(word);
        }
    }
    list.join(", ")
}
