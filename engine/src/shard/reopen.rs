//! Inboxes that open again: because control could not be asked, because it may have lost track of
//! this node, or because the connection goes on with the token of another login.
//!
//! Owns when control is asked again: after a pause, and in slices, so that a node full of people
//! does not ask all at once. An inbox that was open before goes on meanwhile: its frames go to
//! control, and what may have passed it by is found by the sync it is told to make at the end. One
//! that was never open refuses its frames, and the connection stands: rooms are open to it all the
//! same.

use super::Shard;
use super::inbox::Stage;
use crate::metrics::Figure;
use crate::seam::{ConnSlot, Tick};
use std::collections::VecDeque;
use std::sync::Arc;
use uproar_proto::error::Code;

/// Control could not be asked: again after this long.
const AGAIN_MS: u64 = 1_000;
/// Inboxes that ask in one slice, and how far slices are apart: 3,200 a second of a shard.
const SLICE: usize = 32;
const SLICE_EVERY_MS: u64 = 10;

/// Those that are to ask again: bounded by the inboxes there are.
#[derive(Default)]
pub(super) struct Late {
    /// From when on, and which: number and serial, in the order they came.
    queue: VecDeque<(Tick, u32, u64)>,
    /// The next slice begins no earlier.
    slice: Tick,
}

impl Late {
    /// When the next of them asks.
    pub(super) fn next_due(&self) -> Tick {
        self.queue.front().map_or(Tick::NEVER, |(due, ..)| (*due).max(self.slice))
    }

    /// Bytes of the queue.
    pub(super) fn bytes_used(&self) -> usize {
        self.queue.capacity() * size_of::<(Tick, u32, u64)>()
    }
}

impl Shard {
    /// Control could not tell the user's groups: it is asked again later.
    pub(super) fn open_late(&mut self, inbox: u32, code: Code) {
        self.ask_again(inbox, code, self.now.tick.after_ms(AGAIN_MS));
    }

    fn ask_again(&mut self, inbox: u32, code: Code, due: Tick) {
        let record = self.inboxes.records.get_mut(inbox);
        record.stage = Stage::Late(code);
        let (conn, serial) = (record.conn, record.serial);
        let waiting = std::mem::take(&mut record.waiting);
        self.inboxes.late.queue.push_back((due, inbox, serial));
        for body in waiting {
            self.refuse_frame(conn, &body, code);
        }
    }

    /// Asks for the next slice of those that wait, if it is due.
    pub(super) fn open_again(&mut self) {
        let now = self.now.tick;
        if now < self.inboxes.late.next_due() {
            return;
        }
        for _ in 0..SLICE {
            let is_due = |(due, ..): &mut (Tick, u32, u64)| *due <= now;
            let Some((_, number, serial)) = self.inboxes.late.queue.pop_front_if(is_due) else {
                break;
            };
            // Its connection may have ended, and another one have its number.
            if self.inboxes.records.contains(number)
                && self.inboxes.records.get(number).serial == serial
            {
                self.ask_for_groups(number);
            }
        }
        self.inboxes.late.slice = now.after_ms(SLICE_EVERY_MS);
    }

    /// What control told may not have arrived, a leaving among it: nobody here hears any group
    /// until control has named the user's groups again. Its answers to what was asked before are
    /// all there.
    pub(super) fn begin_anew(&mut self, number: u64) {
        if number <= self.inboxes.anew {
            return;
        }
        self.inboxes.anew = number;
        self.leave_groups();
        let now = self.now.tick;
        let all: Vec<u32> = self.inboxes.records.iter().map(|(number, _)| number).collect();
        for number in all {
            let record = self.inboxes.records.get_mut(number);
            record.missed |= record.was_open;
            match record.stage {
                // Control will be asked, or has been and answers as things are then.
                Stage::Joining | Stage::Asked | Stage::Late(_) => {}
                Stage::Routing | Stage::Open => self.ask_again(number, Code::QueueFull, now),
            }
            self.metrics.add(Figure::InboxesAnew, 1);
        }
        // Control may be another process, that knows of nobody.
        self.restate_from_now();
    }

    /// The connection goes on with a token of this login: control is asked whether it is open.
    pub(super) fn login_renewed(&mut self, conn: ConnSlot, login: Option<Arc<str>>) {
        let Some(inbox) = self.inbox_at(conn) else { return };
        let record = self.inboxes.records.get_mut(inbox);
        if record.login == login {
            return;
        }
        record.login = login;
        match record.stage {
            Stage::Joining | Stage::Late(_) => {}
            Stage::Asked => record.stale = true,
            Stage::Routing | Stage::Open => self.ask_for_groups(inbox),
        }
    }
}
