//! Presence: who of a user's friends is online, told to connections that ask.
//!
//! Owns who may know, and the order of what is told. Everything is in memory and best effort: the
//! shards say again and again who is there, and what a restart forgets is learnt from them anew.
//! Never writes a row.

mod board;
#[cfg(test)]
mod tests;

use super::{Refused, Shared, in_time};
use crate::relations::{FRIENDS_MAX, Kind};
use crate::store::{relations, settings};
use board::Board;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::RwLock;
use uproar_proto::control::{Ask, Sample, SampleKind, SampleValue, Seen, Tell, refusal};
use uproar_proto::error::Code;
use uproar_proto::v1::{self, UserPresence, client_frame, server_frame::Body};

/// Users one connection watches. More: `LIMIT_REACHED`.
const WATCHED_MAX: usize = 1_000;
/// Changes are told this often at most.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What is known, and the order of what is told of it.
#[derive(Default)]
pub(super) struct Presence {
    board: Mutex<Board>,
    /// Held for reading from the look at who are friends until the answer to a `watch` is told, for
    /// writing while changes are told and friends part: so no change overtakes an answer, and no
    /// watch outlives a friendship that ended while it was set up.
    telling: RwLock<()>,
}

impl Presence {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a shard says. Called where nobody may wait for long.
    pub(super) fn seen(&self, seen: &Seen, now_ms: i64) {
        self.board().seen(seen, now_ms);
    }

    pub(super) async fn parted(&self, one: &str, other: &str) {
        let _alone = self.telling.write().await;
        self.board().parted(one, other);
    }

    pub(super) fn seen_last(&self, user: &str) -> Option<(bool, i64)> {
        self.board().seen_last(user)
    }

    /// A user hides from now on since when it is offline, or does not.
    pub(super) async fn hides(&self, user: &str, hides: bool) {
        let _alone = self.telling.write().await;
        self.board().hides(user, hides);
    }

    pub(super) fn samples(&self) -> Vec<Sample> {
        let (online, watches) = self.board().figures();
        let gauge = |name, help, value: usize| Sample {
            name,
            help,
            kind: SampleKind::Gauge,
            labels: Vec::new(),
            value: SampleValue::Number(value as f64),
        };
        vec![
            gauge("uproar_users_online", "users with an inbox, those just gone included", online),
            gauge("uproar_presence_watches", "connections that watch their friends", watches),
        ]
    }
}

/// Tells changes, once a second.
pub(super) async fn work(shared: Arc<Shared>) {
    let mut every = tokio::time::interval(TELL_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let _alone = shared.presence.telling.write().await;
        let (states, changes) = {
            let mut board = shared.presence.board();
            board.pass(shared.store.now_ms());
            let wanted = shared.webhooks.want_presence();
            (wanted.then(|| board.changed()), board.take_changes())
        };
        if let Some(states) = states.filter(|states| !states.is_empty()) {
            shared.webhooks.presence(&states);
        }
        for (to, users) in changes {
            shared.tell(Tell::Show { to, frame: presence(users) }).await;
        }
    }
}

fn presence(users: Vec<UserPresence>) -> Box<Body> {
    Box::new(Body::Presence(v1::Presence { users }))
}

impl Shared {
    /// Answers a `watch`.
    pub(super) async fn watch(&self, ask: &Ask, watch: &v1::Watch) {
        let (to, user) = (ask.from, &ask.user);
        let _unchanged = self.presence.telling.read().await;
        let frame = match in_time(self.visible(user, watch)).await {
            Ok(names) => {
                let states = self.presence.board().watch(to, user, names);
                *presence(states)
            }
            Err(refused) => refusal(&client_frame::Body::Watch(watch.clone()), refused.code()),
        };
        self.tell(Tell::Answer { to, number: ask.number, frames: vec![frame] }).await;
    }

    /// Those of whom a user wants to watch who are friends; and whether they hide since when they
    /// are offline.
    async fn visible(
        &self,
        user: &str,
        watch: &v1::Watch,
    ) -> Result<Vec<(Arc<str>, bool)>, Refused> {
        if watch.users.len() > WATCHED_MAX {
            return Err(Code::LimitReached.into());
        }
        if watch.users.is_empty() {
            return Ok(Vec::new());
        }
        let me = self.signed_in(user).await?;
        let friends = relations::list(&self.store, me, Kind::Friends, 0, FRIENDS_MAX).await?;
        let hiding = settings::hiding_friends(&mut *self.store.reader().await?, me).await?;
        let wanted: BTreeSet<&str> = watch.users.iter().map(String::as_str).collect();
        let watched = friends.into_iter().filter(|friend| wanted.contains(friend.name.as_str()));
        let told = watched.map(|friend| (Arc::from(friend.name), hiding.contains(&friend.user)));
        Ok(told.collect())
    }
}
