//! A device's cursors: how far its user has read, and how far messages have reached it.
//!
//! Owns what is to be told of them and when. They are gathered and told together, and told again
//! on the next connection unless the server is known to have them: it may lose the last second.

use super::Inbox;
use crate::v1::{self, client_frame};

/// Marks are told at most this often.
pub const MARK_EVERY_MS: u64 = 500;
/// Conversations marked by one frame; others wait for the next one.
const MARKS_MAX: usize = 128;

/// How far: by the user's reading, and by what has arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Far {
    read: u64,
    delivered: u64,
}

impl Far {
    fn raise(&mut self, read: u64, delivered: u64) {
        self.read = self.read.max(read);
        self.delivered = self.delivered.max(delivered);
    }

    fn is_beyond(self, other: Far) -> bool {
        self.read > other.read || self.delivered > other.delivered
    }
}

/// The cursors of one conversation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursors {
    own: Far,
    /// What was told by this connection.
    told: Far,
    /// What the server is known to have.
    kept: Far,
}

impl Cursors {
    /// Everything up to here has reached the device.
    pub(super) fn delivered(&mut self, seq: u64) {
        self.own.raise(0, seq);
    }

    /// What the server has not confirmed is to be told (again).
    pub(super) fn tell_again(&mut self) {
        self.told = self.kept;
    }

    fn confirmed(&mut self, read: u64, delivered: u64) {
        for far in [&mut self.own, &mut self.told, &mut self.kept] {
            far.raise(read, delivered);
        }
    }

    /// A sync tells how far the user has read, by whichever device.
    pub(super) fn synced(&mut self, state: &v1::ConversationState) {
        self.confirmed(state.read_seq, 0);
        if state.left {
            // Nobody takes marks of who has left.
            *self = Cursors { own: self.kept, told: self.kept, kept: self.kept };
        }
    }
}

impl Inbox {
    /// The user has read everything up to here. More than was handed on cannot have been read.
    pub fn mark(
        &mut self,
        conversation: &str,
        read_seq: u64,
        now_ms: u64,
    ) -> Vec<client_frame::Body> {
        if let Some(known) = self.conversations.get_mut(conversation) {
            known.cursors.own.raise(read_seq.min(known.last_seq), 0);
        }
        self.due(now_ms)
    }

    /// How far the user has read, by this device or another one.
    #[must_use]
    pub fn read_seq(&self, conversation: &str) -> u64 {
        self.conversations.get(conversation).map_or(0, |c| c.cursors.own.read)
    }

    /// Whether the server has everything that was marked, as far as is known.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        self.conversations.values().all(|c| !c.cursors.own.is_beyond(c.cursors.kept))
    }

    /// Cursors have moved: the user's own ones are what the server has.
    pub(super) fn cursors_moved(&mut self, cursors: &v1::Cursors) {
        let Some(known) = self.conversations.get_mut(&cursors.conversation) else { return };
        for moved in cursors.users.iter().filter(|moved| moved.user == self.user) {
            known.cursors.confirmed(moved.read_seq, moved.delivered_seq);
        }
    }

    fn may_mark(&self) -> bool {
        // The sync tells what need not be told, and that the seqs are still those of this store.
        self.generation.is_some() && !self.syncing && self.sync_due_ms.is_none()
    }

    pub(super) fn mark_due(&mut self, now_ms: u64, frames: &mut Vec<client_frame::Body>) {
        if !self.may_mark() || now_ms < self.mark_from_ms {
            return;
        }
        let mut marks = Vec::new();
        for (name, known) in &mut self.conversations {
            let cursors = &mut known.cursors;
            if !cursors.own.is_beyond(cursors.told) || marks.len() == MARKS_MAX {
                continue;
            }
            cursors.told = cursors.own;
            let Far { read: read_seq, delivered: delivered_seq } = cursors.own;
            marks.push(v1::Marked { conversation: name.clone(), read_seq, delivered_seq });
        }
        if !marks.is_empty() {
            self.mark_from_ms = now_ms + MARK_EVERY_MS;
            frames.push(client_frame::Body::Mark(v1::Mark { marks }));
        }
    }

    pub(super) fn next_mark_ms(&self) -> Option<u64> {
        let waits = |c: &super::Conversation| c.cursors.own.is_beyond(c.cursors.told);
        let due = self.may_mark() && self.conversations.values().any(waits);
        due.then_some(self.mark_from_ms)
    }
}
