//! Who is online and who watches whom, with time as a value.
//!
//! Owns leases, the debounce and what each connection was told last. Never asks the store and never
//! tells anybody: what is to be told is taken from it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use uproar_proto::control::{ConnectionId, Seen};
use uproar_proto::v1::UserPresence;

/// What a shard says of a user is believed for this long; it says it again three times within.
pub(super) const LEASE_MS: i64 = 30_000;
/// A user is offline this long after the last connection went; back within, nobody is told.
pub(super) const DEBOUNCE_MS: i64 = 5_000;
/// Leases are looked through this often: a lost node is noticed this much later at most.
const LOOK_EVERY_MS: i64 = 5_000;
/// Connections of one user that watch. Reached: the one that began first is told no more.
const WATCHES_PER_USER_MAX: usize = 16;
/// Offline users whose last moment is remembered, about 100 bytes each. Reached: all of those are
/// forgotten.
const OFFLINE_MAX: usize = 200_000;

/// A node's shard.
type Place = (u16, u16);

/// One user.
#[derive(Default)]
struct User {
    /// Shards that have seen it, and until when they are believed.
    leases: Vec<(Place, i64)>,
    /// No shard has it any more, since then: what is told changes after the debounce.
    gone_ms: Option<i64>,
    /// What is told.
    online: bool,
    /// When it was last online; 0: it has been since.
    last_seen_ms: i64,
}

/// What one connection is told.
struct Watch {
    user: Arc<str>,
    /// Whom it watches.
    told: HashMap<Arc<str>, Told>,
}

/// What a connection was told of a user, and is.
#[derive(Clone, Copy)]
struct Told {
    online: bool,
    /// The user hides since when it is offline.
    hides: bool,
}

/// All of it.
#[derive(Default)]
pub(super) struct Board {
    users: HashMap<Arc<str>, User>,
    watches: HashMap<ConnectionId, Watch>,
    /// By who is watched.
    watchers: HashMap<Arc<str>, HashSet<ConnectionId>>,
    /// By who watches; the oldest first.
    own: HashMap<Arc<str>, Vec<ConnectionId>>,
    /// Users without a connection, by when they are offline.
    leaving: BTreeMap<i64, Vec<Arc<str>>>,
    /// Users whose state has changed since it was told.
    changed: HashSet<Arc<str>>,
    looked_ms: i64,
    online: usize,
}

impl Told {
    /// A user's state as this connection may know it.
    fn shown(self, state: UserPresence) -> UserPresence {
        let last_seen_ms = if self.hides { 0 } else { state.last_seen_ms };
        UserPresence { last_seen_ms, ..state }
    }
}

impl Board {
    /// Takes in what a shard says.
    pub(super) fn seen(&mut self, seen: &Seen, now_ms: i64) {
        let place = (seen.node, seen.shard);
        for (user, is_here) in &seen.users {
            if *is_here { self.came(place, user, now_ms) } else { self.went(place, user, now_ms) }
        }
        for conn in &seen.ended {
            self.end_watch(*conn);
        }
    }

    fn came(&mut self, place: Place, name: &Arc<str>, now_ms: i64) {
        let user = self.users.entry(Arc::clone(name)).or_default();
        user.leases.retain(|(by, _)| *by != place);
        user.leases.push((place, now_ms + LEASE_MS));
        user.gone_ms = None;
        if !user.online {
            user.online = true;
            user.last_seen_ms = 0;
            self.online += 1;
            self.changed.insert(Arc::clone(name));
        }
    }

    fn went(&mut self, place: Place, name: &Arc<str>, now_ms: i64) {
        let Some(user) = self.users.get_mut(name) else { return };
        user.leases.retain(|(by, _)| *by != place);
        if user.leases.is_empty() && user.online && user.gone_ms.is_none() {
            user.gone_ms = Some(now_ms);
            self.leaving.entry(now_ms + DEBOUNCE_MS).or_default().push(Arc::clone(name));
        }
    }

    /// Ends leases and debounces that are over.
    pub(super) fn pass(&mut self, now_ms: i64) {
        if now_ms >= self.looked_ms + LOOK_EVERY_MS {
            self.looked_ms = now_ms;
            self.look_through(now_ms);
        }
        while let Some(due) = self.leaving.first_entry().filter(|due| *due.key() <= now_ms) {
            let at_ms = due.key() - DEBOUNCE_MS;
            for name in due.remove() {
                self.gone(&name, at_ms);
            }
        }
    }

    /// The debounce of who left at `at_ms` is over.
    fn gone(&mut self, name: &Arc<str>, at_ms: i64) {
        // Back, or back and gone again since.
        let Some(user) = self.users.get_mut(name).filter(|u| u.gone_ms == Some(at_ms)) else {
            return;
        };
        user.online = false;
        user.gone_ms = None;
        user.last_seen_ms = at_ms;
        self.online -= 1;
        self.changed.insert(Arc::clone(name));
        // The word that its connections ended may have been lost.
        for conn in self.own.get(name).cloned().unwrap_or_default() {
            self.end_watch(conn);
        }
    }

    fn look_through(&mut self, now_ms: i64) {
        let mut offline = 0;
        for (name, user) in &mut self.users {
            user.leases.retain(|(_, until_ms)| *until_ms > now_ms);
            if user.online && user.leases.is_empty() && user.gone_ms.is_none() {
                // It has had longer than the debounce to come back.
                let at_ms = now_ms - DEBOUNCE_MS;
                user.gone_ms = Some(at_ms);
                self.leaving.entry(now_ms).or_default().push(Arc::clone(name));
            }
            offline += usize::from(!user.online);
        }
        if offline > OFFLINE_MAX {
            self.users.retain(|_, user| user.online);
        }
    }

    /// Replaces what a connection watches, by name and whether the user hides since when it is
    /// offline; the state of all of it.
    pub(super) fn watch(
        &mut self,
        conn: ConnectionId,
        user: &Arc<str>,
        names: impl IntoIterator<Item = (Arc<str>, bool)>,
    ) -> Vec<UserPresence> {
        self.end_watch(conn);
        let told: HashMap<_, _> = names
            .into_iter()
            .map(|(name, hides)| {
                let online = self.users.get(&name).is_some_and(|user| user.online);
                (name, Told { online, hides })
            })
            .collect();
        if told.is_empty() {
            return Vec::new();
        }
        for name in told.keys() {
            self.watchers.entry(Arc::clone(name)).or_default().insert(conn);
        }
        let shown = told.iter().map(|(name, told)| told.shown(self.state(name)));
        let mut states: Vec<UserPresence> = shown.collect();
        states.sort_by(|a, b| a.user.cmp(&b.user));
        self.watches.insert(conn, Watch { user: Arc::clone(user), told });
        let own = self.own.entry(Arc::clone(user)).or_default();
        own.push(conn);
        let first = (own.len() > WATCHES_PER_USER_MAX).then(|| own[0]);
        if let Some(first) = first {
            self.end_watch(first);
        }
        states
    }

    fn state(&self, name: &Arc<str>) -> UserPresence {
        let known = self.users.get(name);
        UserPresence {
            user: name.to_string(),
            online: known.is_some_and(|user| user.online),
            last_seen_ms: known.map_or(0, |user| user.last_seen_ms as u64),
        }
    }

    fn end_watch(&mut self, conn: ConnectionId) {
        let Some(watch) = self.watches.remove(&conn) else { return };
        for name in watch.told.keys() {
            self.unlist(name, conn);
        }
        if let Some(own) = self.own.get_mut(&watch.user) {
            own.retain(|one| *one != conn);
            if own.is_empty() {
                self.own.remove(&watch.user);
            }
        }
    }

    fn unlist(&mut self, name: &str, conn: ConnectionId) {
        if let Some(conns) = self.watchers.get_mut(name) {
            conns.remove(&conn);
            if conns.is_empty() {
                self.watchers.remove(name);
            }
        }
    }

    /// Ends what one user's connections watch of the other, and the other way round.
    pub(super) fn parted(&mut self, one: &str, other: &str) {
        for (watcher, watched) in [(one, other), (other, one)] {
            for conn in self.own.get(watcher).cloned().unwrap_or_default() {
                let Some(watch) = self.watches.get_mut(&conn) else { continue };
                if watch.told.remove(watched).is_some() {
                    self.unlist(watched, conn);
                }
            }
        }
    }

    /// Users whose state has changed since [`Board::take_changes`] was called, as they are now.
    pub(super) fn changed(&self) -> Vec<UserPresence> {
        self.changed.iter().map(|name| self.state(name)).collect()
    }

    /// A user hides from now on since when it is offline, or does not.
    pub(super) fn hides(&mut self, name: &str, hides: bool) {
        for conn in self.watchers.get(name).into_iter().flatten() {
            if let Some(told) = self.watches.get_mut(conn).and_then(|w| w.told.get_mut(name)) {
                told.hides = hides;
            }
        }
    }

    /// What has changed for each connection since it was told.
    pub(super) fn take_changes(&mut self) -> BTreeMap<ConnectionId, Vec<UserPresence>> {
        let mut changes: BTreeMap<ConnectionId, Vec<UserPresence>> = BTreeMap::new();
        for name in std::mem::take(&mut self.changed) {
            let state = self.state(&name);
            for conn in self.watchers.get(&name).into_iter().flatten() {
                let Some(watch) = self.watches.get_mut(conn) else { continue };
                let Some(told) = watch.told.get_mut(&name) else { continue };
                // Gone and back between two tellings: nothing happened.
                if std::mem::replace(&mut told.online, state.online) != state.online {
                    changes.entry(*conn).or_default().push(told.shown(state.clone()));
                }
            }
        }
        changes
    }

    /// Whether a user is online, and when it was last; `None`: not known.
    pub(super) fn seen_last(&self, name: &str) -> Option<(bool, i64)> {
        self.users.get(name).map(|user| (user.online, user.last_seen_ms))
    }

    /// Users online, connections that watch.
    pub(super) fn figures(&self) -> (usize, usize) {
        (self.online, self.watches.len())
    }
}
