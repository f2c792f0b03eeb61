//! The shard's table of connections, indexed by the slot the driver picked.
//!
//! Owns what a connection is between two turns. Split by temperature: [`Hot`] is what a sweep
//! looks at (8 bytes), [`Cold`] the rest (48 bytes); what most connections do not have (partial
//! input, unsent bytes, a signed-in user, a second room) stands in slabs beside it. Tables grow
//! by chunks and never move.

use super::reports::Source;
use super::slab::NONE;
use crate::seam::{ConnSlot, Tick};
use uproar_proto::wire::Variant;

/// How far a connection has come. Only ever moves down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// No connection has this slot.
    Free,
    /// Waits for a PROXY header from a trusted address.
    Proxied,
    /// Waits for `UPR1` or an upgrade request.
    Opening,
    /// The wire variant is known; waits for `connect`.
    Hello,
    /// Its token waits for this turn's budget of checks.
    Checking,
    /// In session.
    Live,
    /// Its last words are on their way; input is thrown away.
    Closing,
    /// Last words sent and our side shut; input is thrown away until the peer closes.
    Discarding,
    /// The driver was told to close; `Closed` comes next.
    Closed,
}

/// What a sweep looks at.
#[derive(Clone, Copy, Debug)]
pub struct Hot {
    /// The turn of the last `Send`: at most one a turn.
    pub sent_turn: u32,
    /// See [`State`].
    pub state: State,
    /// See [`Variant`].
    pub variant: Variant,
    /// Counts the connections that had this slot: tells a late verdict that its sender is gone.
    pub generation: u8,
    /// Has bytes of its own to send first: sweeps pass it by.
    pub blocked: bool,
}

/// The place of one membership: which room, and where in its member list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    pub room: u32,
    pub index: u32,
}

impl Membership {
    /// None.
    pub const NONE: Membership = Membership { room: NONE, index: NONE };
}

/// What a turn needs of a connection that did something.
#[derive(Clone, Copy, Debug)]
pub struct Cold {
    /// Milliseconds (of `Tick`) it was last heard, or entered its state before `Live`. Wraps
    /// after 49 days, so it is read as a difference only.
    pub since_ms: u32,
    /// The first room it is in.
    pub first: Membership,
    /// Slab number of further memberships.
    pub more: u32,
    /// Slab number of its partial input.
    pub input: u32,
    /// Slab number of its unsent bytes.
    pub outgoing: u32,
    /// Slab number of its signed-in session; `NONE` for a guest.
    pub session: u32,
    /// Slab number of its source address's count.
    pub address: u32,
    /// Where it comes from.
    pub source: Source,
    /// The two-second window `frames` counts in.
    pub frames_window: u16,
    /// Frames in that window.
    pub frames: u16,
    /// The peer will send no more.
    pub eof: bool,
}

const _: () = assert!(size_of::<Hot>() == 8);
const _: () = assert!(size_of::<Cold>() == 48);

const FREE_HOT: Hot =
    Hot { sent_turn: 0, state: State::Free, variant: Variant::Tcp, generation: 0, blocked: false };
const FREE_COLD: Cold = Cold {
    since_ms: 0,
    first: Membership::NONE,
    more: NONE,
    input: NONE,
    outgoing: NONE,
    session: NONE,
    address: NONE,
    source: Source::NONE,
    frames_window: 0,
    frames: 0,
    eof: false,
};

const CHUNK: usize = 1024;

/// The table.
#[derive(Default)]
pub struct Connections {
    hot: Vec<Box<[Hot; CHUNK]>>,
    cold: Vec<Box<[Cold; CHUNK]>>,
    used: usize,
}

/// Milliseconds of a tick, wrapping.
#[must_use]
pub fn wrapping_ms(tick: Tick) -> u32 {
    (tick.0 / 1000) as u32
}

impl Connections {
    /// Takes a fresh connection in.
    pub fn open(&mut self, conn: ConnSlot, state: State, now: Tick) {
        while self.hot.len() * CHUNK <= conn.0 as usize {
            self.hot.push(Box::new([FREE_HOT; CHUNK]));
            self.cold.push(Box::new([FREE_COLD; CHUNK]));
        }
        let hot = self.hot_mut(conn);
        assert!(hot.state == State::Free, "the driver gives out only free slots");
        *hot = Hot { state, generation: hot.generation, ..FREE_HOT };
        *self.cold_mut(conn) = Cold { since_ms: wrapping_ms(now), ..FREE_COLD };
        self.used += 1;
    }

    /// Gives a slot back; the next connection in it is another generation.
    pub fn close(&mut self, conn: ConnSlot) {
        let hot = self.hot_mut(conn);
        assert!(hot.state != State::Free, "a slot is given back once");
        *hot = Hot { generation: hot.generation.wrapping_add(1), ..FREE_HOT };
        *self.cold_mut(conn) = FREE_COLD;
        self.used -= 1;
    }

    /// What a sweep looks at.
    #[must_use]
    pub fn hot(&self, conn: ConnSlot) -> &Hot {
        &self.hot[conn.0 as usize / CHUNK][conn.0 as usize % CHUNK]
    }

    /// As [`Connections::hot`], to change it.
    pub fn hot_mut(&mut self, conn: ConnSlot) -> &mut Hot {
        &mut self.hot[conn.0 as usize / CHUNK][conn.0 as usize % CHUNK]
    }

    /// The rest of a connection.
    #[must_use]
    pub fn cold(&self, conn: ConnSlot) -> &Cold {
        &self.cold[conn.0 as usize / CHUNK][conn.0 as usize % CHUNK]
    }

    /// As [`Connections::cold`], to change it.
    pub fn cold_mut(&mut self, conn: ConnSlot) -> &mut Cold {
        &mut self.cold[conn.0 as usize / CHUNK][conn.0 as usize % CHUNK]
    }

    /// Whether a slot is still held by the connection of that generation, and in session.
    #[must_use]
    pub fn is_live(&self, conn: ConnSlot, generation: u8) -> bool {
        (conn.0 as usize) < self.slots()
            && self.hot(conn).generation == generation
            && self.hot(conn).state == State::Live
    }

    /// Connections now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used
    }

    /// Slots the table has room for; numbers below this are valid.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.hot.len() * CHUNK
    }

    /// Bytes of the table.
    #[must_use]
    pub fn bytes_used(&self) -> usize {
        self.slots() * (size_of::<Hot>() + size_of::<Cold>())
    }
}
