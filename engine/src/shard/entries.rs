//! Who comes into a room here, until it crosses to the home: once a window, and no more names than
//! the home would tell.

use super::Shard;
use super::message::Message;
use super::slab::NONE;
use crate::config::Rooms;
use crate::router::entries::EACH_VIEWERS_MAX;
use crate::seam::{ConnSlot, Tick};
use std::collections::BTreeMap;
use std::sync::Arc;
use uproar_proto::ids::RoomId;

/// Of one room.
pub(super) struct Entries {
    window_us: u64,
    due: Tick,
    waiting: BTreeMap<u64, Arc<str>>,
    more: u32,
}

impl Entries {
    pub(super) fn new(rules: &Rooms) -> Entries {
        let window_us = u64::from(rules.admission_ms) * 1_000;
        Entries { window_us, due: Tick::NEVER, waiting: BTreeMap::new(), more: 0 }
    }

    /// One has come in, under a random key; a guest has no name.
    fn add(&mut self, key: u64, user: Option<Arc<str>>, now: Tick) {
        if self.due == Tick::NEVER {
            self.due = Tick((now.0 / self.window_us + 1) * self.window_us);
        }
        match user {
            Some(user) => drop(self.waiting.insert(key, user)),
            None => self.more = self.more.saturating_add(1),
        }
        if self.waiting.len() as u64 > EACH_VIEWERS_MAX {
            self.waiting.pop_last();
            self.more = self.more.saturating_add(1);
        }
    }

    /// When they are to cross; `NEVER` where nobody came.
    pub(super) fn next_due(&self) -> Tick {
        self.due
    }
}

impl Shard {
    /// Somebody has joined, and not come back.
    pub(super) fn entered(&mut self, conn: ConnSlot, number: u32) {
        if !self.rooms.slab.get(number).settings.enter_events {
            return;
        }
        let is_guest = self.conns.cold(conn).session == NONE;
        let user = (!is_guest).then(|| self.user_of(conn));
        let key = self.rng.next_u64();
        self.rooms.slab.get_mut(number).entries.add(key, user, self.now.tick);
        self.schedule_room(number);
    }

    /// Hands to the home who has come in within the window.
    pub(super) fn hand_entries(&mut self, number: u32) {
        let room = self.rooms.slab.get_mut(number);
        if room.entries.next_due() > self.now.tick {
            return;
        }
        let (home, id, more) = (room.home, room.id.clone(), std::mem::take(&mut room.entries.more));
        let users = std::mem::take(&mut room.entries.waiting).into_iter().collect();
        room.entries.due = Tick::NEVER;
        self.post(home, Message::Entered { room: id, users, more });
    }

    /// To a home: they have come in.
    pub(super) fn home_entered(&mut self, room: &RoomId, users: Vec<(u64, Arc<str>)>, more: u32) {
        let Some(number) = self.homes.by_name.get(room).copied() else { return };
        let (now, mut out) = (self.now, Vec::new());
        self.homes.slab.get_mut(number).home.entered(users, more, now, &mut out);
        self.carry_out(number, out);
    }
}
