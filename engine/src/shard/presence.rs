//! Who is online here, for control: users whose first connection with an inbox came, or whose last
//! one went, and all of them again every [`SEEN_AGAIN_MS`].
//!
//! Owns what the last turn has to say, and how far the restatement has come: a slice a turn, slices
//! apart, so that a shard with many users never says all of them at once. Never knows who is told.

use super::Shard;
use crate::metrics::Figure;
use crate::seam::Tick;
use std::sync::Arc;
use uproar_proto::control::{ConnectionId, SEEN_AGAIN_MS, Seen};
use uproar_proto::ids::McastId;

/// Mcasts looked through in one turn.
const SLICE: u32 = 512;
/// Between two slices: 100,000 users are said in two seconds.
const SLICE_EVERY_MS: u64 = 10;

/// What is to be said.
pub(super) struct Presence {
    seen: Seen,
    /// The next slice begins with this mcast.
    at: u32,
    due: Tick,
    /// When the restatement under way began.
    begun: Tick,
}

impl Default for Presence {
    fn default() -> Presence {
        Presence { seen: Seen::default(), at: 0, due: Tick::NEVER, begun: Tick(0) }
    }
}

impl Presence {
    /// When the next slice is due.
    pub(super) fn next_due(&self) -> Tick {
        self.due
    }

    /// Bytes of the lists.
    pub(super) fn bytes_used(&self) -> usize {
        self.seen.users.capacity() * size_of::<(Arc<str>, bool)>()
            + self.seen.ended.capacity() * size_of::<ConnectionId>()
    }
}

/// The user whose mcast it is.
fn user_of(id: &McastId) -> Option<Arc<str>> {
    id.as_str().strip_prefix("user:").map(Arc::from)
}

impl Shard {
    /// What the last turn has to say of who is online; nothing where nothing changed.
    pub fn take_seen(&mut self) -> Option<Seen> {
        let seen = std::mem::take(&mut self.presence.seen);
        let is_empty = seen.users.is_empty() && seen.ended.is_empty();
        (!is_empty).then_some(Seen { shard: self.id.0, ..seen })
    }

    /// Control took no more: the restatement makes up for it, or the lease ends.
    pub fn seen_lost(&mut self) {
        self.metrics.add(Figure::SeenLost, 1);
    }

    /// An mcast has its first member here, or none any more.
    pub(super) fn note_presence(&mut self, id: &McastId, online: bool) {
        let Some(user) = user_of(id) else { return };
        self.presence.seen.users.push((user, online));
        if self.presence.due == Tick::NEVER {
            self.presence.begun = self.now.tick;
            self.presence.due = self.now.tick.after_ms(SEEN_AGAIN_MS);
        }
    }

    /// Control may know of nobody here: says everybody again, from now on.
    pub(super) fn restate_from_now(&mut self) {
        if self.mcasts.used() > 0 {
            self.presence.at = 0;
            self.presence.due = self.now.tick;
        }
    }

    /// A connection that watches is gone.
    pub(super) fn note_ended(&mut self, conn: ConnectionId) {
        self.presence.seen.ended.push(conn);
    }

    /// Says the next slice of who is here, if it is due.
    pub(super) fn restate_presence(&mut self) {
        let now = self.now.tick;
        if now < self.presence.due {
            return;
        }
        if self.presence.at == 0 {
            self.presence.begun = now;
        }
        let (ids, next) = self.mcasts.some_from(self.presence.at, SLICE);
        let users = ids.iter().filter_map(user_of).map(|user| (user, true));
        self.presence.seen.users.extend(users);
        self.presence.at = next.unwrap_or(0);
        self.presence.due = match next {
            Some(_) => now.after_ms(SLICE_EVERY_MS),
            None if self.mcasts.used() == 0 => Tick::NEVER,
            None => self.presence.begun.after_ms(SEEN_AGAIN_MS).max(now.after_ms(SLICE_EVERY_MS)),
        };
    }
}
