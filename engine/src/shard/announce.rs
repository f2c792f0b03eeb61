//! Announcements: a message of the operator to every connection that is in a room, once.
//!
//! Owns what is under way and how far it has come. Some connections a turn, so that a full shard
//! goes on serving its rooms; a connection that joins behind that place gets it no more.

use super::Shard;
use super::connections::{Membership, State};
use crate::metrics::Figure;
use crate::router::VARIANTS;
use crate::seam::ConnSlot;
use std::collections::VecDeque;
use uproar_proto::v1::{self, server_frame::Body};
use uproar_proto::wire::{Variant, encode_server};

/// Connections looked at in one turn.
const PER_TURN: usize = 256;
/// Announcements that wait for the ones before. More are dropped, and counted.
const WAITING_MAX: usize = 8;
/// Of so many it is known that they came: one that is told again is not shown again.
const KNOWN_MAX: usize = 64;

/// Of a shard.
#[derive(Default)]
pub(super) struct Announcements {
    known: VecDeque<u64>,
    waiting: VecDeque<Announcement>,
}

struct Announcement {
    body: Body,
    encoded: [Option<Vec<u8>>; VARIANTS],
    /// The next connection.
    at: usize,
}

impl Announcements {
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Announcement {
    fn encoded(&mut self, variant: Variant) -> &[u8] {
        let body = &self.body;
        self.encoded[variant.index()].get_or_insert_with(|| {
            let mut bytes = Vec::new();
            encode_server(body, variant, &mut bytes);
            bytes
        })
    }
}

impl Shard {
    pub(super) fn announce(&mut self, id: u64, message: Box<v1::Message>) {
        let Announcements { known, waiting } = &mut self.announcements;
        if known.contains(&id) {
            return;
        }
        if known.len() >= KNOWN_MAX {
            known.pop_front();
        }
        known.push_back(id);
        if waiting.len() >= WAITING_MAX {
            return self.metrics.add(Figure::QueueDropped, 1);
        }
        let body = Body::Announced(v1::Announced { message: Some(message) });
        waiting.push_back(Announcement { body, encoded: Default::default(), at: 0 });
    }

    /// Goes on with the oldest one.
    pub(super) fn announce_step(&mut self) {
        let Some(mut first) = self.announcements.waiting.pop_front() else { return };
        let until = (first.at + PER_TURN).min(self.conns.slots());
        for slot in first.at..until {
            let conn = ConnSlot(slot as u32);
            let is_in_a_room = self.conns.cold(conn).first != Membership::NONE;
            if self.conns.hot(conn).state == State::Live && is_in_a_room {
                let variant = self.conns.hot(conn).variant;
                self.reply_bytes(conn, first.encoded(variant)); // S-57
            }
        }
        first.at = until;
        if until < self.conns.slots() {
            self.announcements.waiting.push_front(first);
        }
    }
}
