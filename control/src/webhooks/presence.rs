//! Presence for webhooks: who came and who went, as it was last.
//!
//! Owns what is gathered until it is told. Best effort: it is told once, in requests of many users,
//! one at a time; what is not taken is dropped and counted. Never writes a row, and keeps no order
//! but that of what is known of one user.

use super::events::{self, Event};
use super::figures::Dropped;
use super::request::{Message, NOTHING};
use super::{EventType, Hook};
use crate::store::Store;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use uproar_proto::v1::UserPresence;

/// Users whose state waits to be told. Reached: those who come on top are dropped and counted.
const PENDING_MAX: usize = 100_000;
/// Users of one request.
const USERS_MAX: usize = 1_000;
/// After a request that was not taken.
const PAUSE: Duration = Duration::from_secs(1);

/// What waits to be told: the newest state of each user.
#[derive(Default)]
pub(super) struct Pending {
    users: Mutex<BTreeMap<String, UserPresence>>,
    signal: Notify,
}

impl Pending {
    /// Adds states; how many found no room.
    pub(super) fn add(&self, states: &[UserPresence]) -> u64 {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left_out = 0;
        for state in states {
            if users.len() >= PENDING_MAX && !users.contains_key(&state.user) {
                left_out += 1;
                continue;
            }
            users.insert(state.user.clone(), state.clone());
        }
        drop(users);
        self.signal.notify_one();
        left_out
    }

    fn take(&self) -> Vec<UserPresence> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::with_capacity(users.len().min(USERS_MAX));
        while taken.len() < USERS_MAX
            && let Some((_, state)) = users.pop_first()
        {
            taken.push(state);
        }
        taken
    }
}

/// Tells until `ending` says so.
pub(super) async fn work(hook: Arc<Hook>, store: Arc<Store>, mut ending: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = hook.presence.signal.notified() => {}
            _ = ending.wait_for(|ending| *ending) => return,
        }
        loop {
            let users = hook.presence.take();
            if users.is_empty() {
                break;
            }
            tokio::select! {
                () = tell(&hook, &store, &users) => {}
                _ = ending.wait_for(|ending| *ending) => return,
            }
        }
    }
}

async fn tell(hook: &Hook, store: &Store, users: &[UserPresence]) {
    let event = Event::of_presence(crate::ids::random_id(), store.now_ms(), users);
    let (ids, types) = (event.id.clone(), EventType::Presence.word().to_owned());
    let body = events::body(hook.name(), store.generation(), &[event]);
    match hook.receiver.post(Message { ids, types, body }, NOTHING).await {
        Ok(_) => drop(hook.figures.delivered.fetch_add(1, Ordering::Relaxed)),
        Err(failure) => {
            hook.figures.failed(failure);
            hook.figures.dropped(Dropped::Presence, users.len() as u64);
            tracing::debug!(
                hook = hook.name(),
                ?failure,
                users = users.len(),
                "presence was dropped"
            );
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(user: &str, online: bool) -> UserPresence {
        UserPresence { user: user.into(), online, last_seen_ms: 0 }
    }

    #[test]
    fn the_newest_state_of_each_user_waits_and_no_more_than_fit() {
        let pending = Pending::default();
        assert_eq!(pending.add(&[state("ann", true), state("bob", true), state("ann", false)]), 0);
        assert_eq!(pending.take(), [state("ann", false), state("bob", true)]);
        assert_eq!(pending.take(), []);
        let many: Vec<_> = (0..=PENDING_MAX).map(|n| state(&format!("u{n}"), true)).collect();
        assert_eq!(pending.add(&many), 1);
        assert_eq!(pending.add(&[state("u0", false)]), 0, "known already");
        assert_eq!(pending.take().len(), USERS_MAX);
    }
}
