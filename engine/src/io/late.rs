//! Events that came up while actions were carried out: they are told by the next poll.
//!
//! Owns their order and the rule that nothing but `Closed` follows a `Close`. Also keeps the rule
//! of one `Send` per connection between two polls.

use super::table::{LATE, SENT, Table};
use crate::seam::{ConnSlot, Event, Events};

/// What the next poll begins with.
#[derive(Default)]
pub(super) struct Late {
    events: Vec<Event>,
    /// Connections with `SENT` set; kept only where assertions are on.
    sent: Vec<ConnSlot>,
}

fn conn_of(event: &Event) -> ConnSlot {
    match event {
        Event::Accepted { conn, .. }
        | Event::Connected { conn, .. }
        | Event::Received { conn, .. }
        | Event::Eof { conn, .. }
        | Event::SendShort { conn, .. }
        | Event::Writable { conn }
        | Event::Closed { conn } => *conn,
    }
}

impl Late {
    /// Tells all of it; a poll begins.
    pub(super) fn tell(&mut self, table: &mut Table, events: &mut Events) {
        for event in self.events.drain(..) {
            if let Some(entry) = table.get_used(conn_of(&event)) {
                entry.flags &= !LATE;
            }
            events.list.push(event);
        }
        for conn in self.sent.drain(..) {
            if let Some(entry) = table.get_used(conn) {
                entry.flags &= !SENT;
            }
        }
    }

    /// An event of a connection that is still open.
    pub(super) fn push(&mut self, table: &mut Table, event: Event) {
        table.get_mut(conn_of(&event)).flags |= LATE;
        self.events.push(event);
    }

    /// A send that failed: refused, and the connection is told to be at its end.
    pub(super) fn send_failed(
        &mut self,
        table: &mut Table,
        conn: ConnSlot,
        action: u32,
        errno: i32,
    ) {
        self.push(table, Event::SendShort { conn, action, sent_bytes: 0 });
        if table.get_mut(conn).note_end(errno) {
            self.push(table, Event::Eof { conn, errno });
        }
    }

    /// The machine asked for `Close`: what was to be told about the connection no longer matters.
    pub(super) fn forget(&mut self, table: &Table, conn: ConnSlot) {
        if table.get(conn).is(LATE) {
            self.events.retain(|event| conn_of(event) != conn);
        }
    }

    /// The connection's slot is free.
    pub(super) fn closed(&mut self, conn: ConnSlot) {
        self.events.push(Event::Closed { conn });
    }

    /// A connect that failed before there was a descriptor to speak of.
    pub(super) fn refused(&mut self, conn: ConnSlot, errno: i32) {
        self.events.push(Event::Connected { conn, errno });
        self.closed(conn);
    }

    /// Notes a `Send`, for the assertion that there is at most one between two polls.
    pub(super) fn note_send(&mut self, table: &mut Table, conn: ConnSlot) {
        if cfg!(debug_assertions) {
            let entry = table.get_mut(conn);
            assert!(!entry.is(SENT), "at most one Send per connection between two polls");
            entry.flags |= SENT;
            self.sent.push(conn);
        }
    }
}
