//! Alarms of the quality for webhooks: each that is raised or cleared, in order.
//!
//! Owns what waits in memory until it is told, and how often that is tried. No row is written: an
//! alarm says what is now, and `GET /v1/quality/alarms` tells the same.

use super::events::{self, Event};
use super::figures::Dropped;
use super::request::{Message, NOTHING};
use super::{EventType, Hook};
use crate::quality::alarm::Alarm;
use crate::store::Store;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Changes that wait to be told. Reached: later ones are dropped and counted.
const WAITING_MAX: usize = 1_000;
/// Tries of one event; then it is dropped and counted.
const TRIES: u32 = 5;
/// After the first try that failed; twice as long after each further one.
const PAUSE: Duration = Duration::from_secs(1);

/// What waits to be told.
#[derive(Default)]
pub(super) struct Waiting {
    alarms: Mutex<VecDeque<Alarm>>,
    signal: Notify,
}

impl Waiting {
    /// Adds changes; how many found no room.
    pub(super) fn add(&self, changed: &[Alarm]) -> u64 {
        if changed.is_empty() {
            return 0;
        }
        let mut alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        let room = WAITING_MAX - alarms.len();
        alarms.extend(changed.iter().take(room).cloned());
        drop(alarms);
        self.signal.notify_one();
        changed.len().saturating_sub(room) as u64
    }

    fn take(&self) -> Option<Alarm> {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Tells until `ending` says so.
pub(super) async fn work(hook: Arc<Hook>, store: Arc<Store>, mut ending: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = hook.alarms.signal.notified() => {}
            _ = ending.wait_for(|ending| *ending) => return,
        }
        while let Some(alarm) = hook.alarms.take() {
            tokio::select! {
                () = tell(&hook, &store, &alarm) => {}
                _ = ending.wait_for(|ending| *ending) => return,
            }
        }
    }
}

async fn tell(hook: &Hook, store: &Store, alarm: &Alarm) {
    // The same id at every try: a receiver that has taken it knows it again.
    let event = Event::of_alarm(crate::ids::random_id(), store.now_ms(), alarm);
    let (ids, types) = (event.id.clone(), EventType::QualityAlarm.word().to_owned());
    let body = events::body(hook.name(), store.generation(), &[event]);
    let mut pause = PAUSE;
    for tried in 1..=TRIES {
        let (ids, types, body) = (ids.clone(), types.clone(), body.clone());
        match hook.receiver.post(Message { ids, types, body }, NOTHING).await {
            Ok(_) => {
                hook.figures.delivered.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err(failure) => hook.figures.failed(failure),
        }
        if tried < TRIES {
            hook.figures.retried.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
    hook.figures.dropped(Dropped::Alarm, 1);
    tracing::warn!(hook = hook.name(), rule = alarm.rule.word(), "an alarm was not taken");
}
